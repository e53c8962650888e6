"""Halts that the ledger did not take in time: sent all the same, and recorded as soon as it answers.

The one exception to *durable before anything is sent*, in the safe direction. One pull per line and owner waits here;
pressing again joins it. What finds nobody is tried again until the ledger has taken the pull over.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from andon.acts import Door
from andon.board import Board
from andon.clock import Clock
from andon.events import Event
from andon.keeper import Store
from andon.model import Act, Hold, HoldRef, TargetId
from andon.ports import ACT_LIMIT_S, Accepted, AlreadyHeld, Answer, Joined, LedgerUnusable, Refused

AGAIN_S = 1.0
FIRST_S = 1.0


class Unrecorded:
    """The pulls of one process that wait for the ledger."""

    def __init__(self, door: Door, store: Store, clock: Clock, again: Callable[[Hold], Awaitable[None]]) -> None:
        """`again` pulls once more when the ledger answers: it joins, and asks only for what is missing."""
        self._again = again
        self.door = door
        self.store = store
        self.clock = clock
        self._waiting: dict[tuple[str, str], tuple[Hold, asyncio.Task[None]]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def hold(self, line: str, owner: str) -> Hold | None:
        """The owner's hold on that line that waits for the ledger."""
        found = self._waiting.get((line, owner))
        return found[0] if found else None

    async def begin(
        self,
        hold: Hold,
        targets: Sequence[TargetId],
        commit: "asyncio.Future[Board]",
        events: Sequence[Event],
        acts: Sequence[Act],
    ) -> None:
        """Send the halts of a pull whose commit did not come back, and keep at the record.

        Returns when each target has answered, or after a second; what is still open goes on.
        """
        key = (hold.line, hold.owner)
        sending = [asyncio.create_task(self._halt(hold, target), name=f"halt-{hold.id}") for target in targets]
        work = self._keep_at_it(hold, sending, commit, events, acts)
        task = asyncio.create_task(work, name=f"unrecorded-{hold.id}")
        self._waiting[key] = (hold, task)
        if sending:
            await asyncio.wait(sending, timeout=FIRST_S)

    async def _keep_at_it(
        self,
        hold: Hold,
        sending: Sequence["asyncio.Task[None]"],
        commit: "asyncio.Future[Board]",
        events: Sequence[Event],
        acts: Sequence[Act],
    ) -> None:
        try:
            await self._record(commit, events)
        finally:
            for task in sending:
                task.cancel()
            del self._waiting[(hold.line, hold.owner)]
        for act in acts:
            self.door.drive(act.id, act.line)
        await self._again(hold)

    async def _halt(self, hold: Hold, target: TargetId) -> None:
        """Halt one target, again and again until it accepts or refuses."""
        halting = self.door.targets.halting(hold.line, target)
        ref = HoldRef(hold.id, hold.line, hold.owner, hold.why)
        while halting is not None:
            answer: Answer | None = None
            try:
                async with asyncio.timeout(ACT_LIMIT_S):
                    answer = await halting.halt(ref)
            except Exception:  # noqa: BLE001 - a halt says how things shall be: whatever went wrong, it is sent again
                answer = None
            if isinstance(answer, (Accepted, Refused)):
                return
            await self.clock.sleep(self.clock.real(AGAIN_S))

    async def _record(self, commit: "asyncio.Future[Board]", events: Sequence[Event]) -> None:
        while True:
            try:
                await commit
            except LedgerUnusable:
                await self.clock.sleep(self.clock.real(AGAIN_S))
                commit = asyncio.ensure_future(self.store.commit(*events, urgent=True))
            except (AlreadyHeld, Joined):
                return  # another process recorded the same stop meanwhile
            else:
                return
