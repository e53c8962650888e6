"""A ledger in plain memory: it decides claims, steps and holds as the embedded one does, and keeps nothing else.

For simulations, where SQLite, JSON and hashes would take half of the time; that both decide the same is a test.
"""

from andon.board import stepped
from andon.clock import Clock
from andon.events import ActAsked, ActStepped, Event, HoldLifted, HoldPlaced
from andon.model import Act, ActId, HoldId
from andon.ports import AlreadyHeld, Joined, Moved


class MemoryLedger:
    """Events, and what they claim."""

    def __init__(self, path: str, clock: Clock) -> None:
        self.events: list[Event] = []
        self._acts: dict[ActId, Act] = {}
        self._claims: dict[str, ActId] = {}
        self._held: dict[tuple[str, str], HoldId] = {}
        self._open: dict[HoldId, tuple[str, str]] = {}

    def commit(self, *events: Event) -> None:
        """Append events, all or none."""
        before = self._acts.copy(), self._claims.copy(), self._held.copy(), self._open.copy()
        try:
            for event in events:
                self._claim(event)
        except Exception:
            self._acts, self._claims, self._held, self._open = before
            raise
        self.events += events

    def _claim(self, event: Event) -> None:
        if isinstance(event, ActAsked):
            act = event.act
            if act.claim in self._claims:
                raise Joined(self._acts[self._claims[act.claim]])
            self._acts[act.id], self._claims[act.claim] = act, act.id
        elif isinstance(event, ActStepped):
            found = self._acts.get(event.act)
            if found is None or found.settled or found.state != event.was:
                raise Moved(f"{event.act} is {found.state if found else 'not there'}, not {event.was}")
            self._acts[found.id] = fresh = stepped(found, event)
            if fresh.settled:
                del self._claims[fresh.claim]
        elif isinstance(event, HoldPlaced):
            owner = event.hold.line, event.hold.owner
            if owner in self._held:
                raise AlreadyHeld(self._held[owner])
            self._held[owner], self._open[event.hold.id] = event.hold.id, owner
        elif isinstance(event, HoldLifted):
            if event.hold not in self._open:
                raise Moved(f"hold {event.hold} is lifted already")
            del self._held[self._open.pop(event.hold)]

    def close(self) -> None:
        """Nothing to close."""
