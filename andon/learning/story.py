"""What became of every deployment of a line, from the first event of the ledger on.

A board keeps only what a screen asks for; this keeps each change and each deployment, and joins them: what was shipped
together, whether it had to be undone, when it was well again, when its watch had taught something.
"""

import itertools
from collections.abc import Iterable, Iterator

import msgspec

from andon.board import Recovery
from andon.clock import Time
from andon.events import (
    NAMES,
    ActAsked,
    ActStepped,
    ChangesSeen,
    DeploymentSeen,
    Event,
    Helped,
    HoldLifted,
    HoldPlaced,
    Judged,
    Marked,
    RunSeen,
    decode,
)
from andon.model import Act, Change, ChangeId, Deployment, DeploymentId, Hold, HoldId, Run, Verdict
from andon.ports import Ledger, Row

PREFIX = 7
"""So many signs of a commit name it."""

USED = {
    NAMES[cls]
    for cls in (
        *(ChangesSeen, RunSeen, DeploymentSeen, Judged, Helped, HoldPlaced, HoldLifted, ActAsked, ActStepped, Marked),
    )
}


class Shipment(msgspec.Struct):
    """One deployment, and all that is known of it."""

    deployment: Deployment
    live_at: Time | None = None
    """When it served everybody: when it was first seen so, or when it began, if it was never seen on its way."""
    seen_rolling: bool = False
    batch: tuple[Change, ...] = ()
    follows: bool = False
    """Whether what ran before it is known."""
    verdict: Verdict | None = None
    verdicts: dict[str, Verdict] = {}
    judged_at: Time | None = None
    helped: Recovery | None = None
    marks: tuple[Marked, ...] = ()
    undone: Act | None = None
    """The rollback by which andon took it back."""
    returned: bool = False
    """Whether what came next was a return to an earlier version, whoever asked for it."""
    pushed: Act | None = None
    """The push by which andon shipped it."""
    holds: tuple[Hold, ...] = ()
    """The stops that were placed because of it."""

    @property
    def back(self) -> bool:
        """Whether it is itself a return to an earlier version."""
        return self.deployment.back

    @property
    def ref(self) -> str:
        """How a row names it."""
        return f"{self.deployment.id} ({self.deployment.version[:12]})"


class Story(msgspec.Struct):
    """A line, from its first event on."""

    line: str
    first_at: Time = 0.0
    changes: dict[ChangeId, Change] = {}
    """In the order in which they were first seen, which is the CI's."""
    runs: dict[str, Run] = {}
    shipments: tuple[Shipment, ...] = ()
    """Oldest first."""
    holds: dict[HoldId, Hold] = {}
    acts: dict[str, Act] = {}


def read(ledger: Ledger, lines: Iterable[str]) -> dict[str, Story]:
    """The stories of those lines. One pass over the ledger; what a newer version wrote is left out."""
    tellers = {name: _Teller(name) for name in lines}
    for row in _rows(ledger):
        teller = tellers.get(row.line)
        if teller is None or row.kind not in USED:
            continue
        try:
            event = decode(row.kind, row.body)
        except ValueError:
            continue  # damaged, or from a newer version: `audit verify` tells
        if event is not None:
            teller.take(event, row.seen)
    return {name: teller.told() for name, teller in tellers.items()}


def _rows(ledger: Ledger) -> Iterator[Row]:
    after = 0
    while rows := ledger.read(after, 5000):
        after = rows[-1].seq
        yield from rows


class _Teller:
    """Folds the events of one line."""

    def __init__(self, line: str) -> None:
        self.story = Story(line, changes={}, runs={}, holds={}, acts={})
        self.shipped: dict[DeploymentId, Shipment] = {}
        self._marks: list[Marked] = []

    def take(self, event: Event, seen: Time) -> None:
        """Fold one event, which andon saw at `seen`."""
        story = self.story
        story.first_at = story.first_at or seen
        if isinstance(event, ChangesSeen):
            for change in event.changes:
                story.changes.setdefault(change.id, change)
        elif isinstance(event, RunSeen):
            story.runs[event.run.id] = event.run
        elif isinstance(event, DeploymentSeen):
            self._deployment(event.deployment, seen)
        elif isinstance(event, Judged):
            self._judged(event)
        elif isinstance(event, Helped):
            if event.deployment in self.shipped:
                self.shipped[event.deployment].helped = Recovery(event.word, event.sentence, event.at)
        elif isinstance(event, HoldPlaced):
            story.holds.setdefault(event.hold.id, event.hold)
        elif isinstance(event, HoldLifted):
            hold = story.holds.get(event.hold)
            if hold is not None and hold.open:
                story.holds[event.hold] = msgspec.structs.replace(
                    hold, lifted_at=event.at, lifted_by=event.who, lifted_why=event.why
                )
        elif isinstance(event, ActAsked):
            story.acts.setdefault(event.act.id, event.act)
        elif isinstance(event, ActStepped):
            self._stepped(event)
        elif isinstance(event, Marked):
            self._marks.append(event)

    def _deployment(self, fresh: Deployment, seen: Time) -> None:
        known = self.shipped.get(fresh.id)
        if known is None:
            known = self.shipped[fresh.id] = Shipment(fresh)
        known.deployment = fresh
        if fresh.state == "rolling":
            known.seen_rolling = True
        elif fresh.state == "settled" and known.live_at is None:
            known.live_at = max(fresh.at, seen) if known.seen_rolling else fresh.at

    def _judged(self, event: Judged) -> None:
        shipment = self.shipped.get(event.deployment)
        if shipment is None:
            return
        if event.verdict.metric:
            shipment.verdicts = {**shipment.verdicts, event.verdict.metric: event.verdict}
        else:
            shipment.verdict = event.verdict
        if event.final and shipment.judged_at is None:
            shipment.judged_at = event.at

    def _stepped(self, event: ActStepped) -> None:
        act = self.story.acts.get(event.act)
        if act is None or act.settled or act.state != event.was:
            return
        values: dict[str, object] = {"state": event.now, "words": event.words, "ref": event.ref or act.ref}
        if event.now == "sent":
            values["sent_at"] = event.at
        fresh: Act = msgspec.structs.replace(act, **values)
        self.story.acts[act.id] = msgspec.structs.replace(fresh, settled_at=event.at) if fresh.settled else fresh

    def told(self) -> Story:
        """Join what was folded."""
        story = self.story
        ordered = sorted(self.shipped.values(), key=lambda item: item.deployment.at)
        self._batches(ordered)
        for mark in self._marks:
            if mark.deployment in self.shipped:
                self.shipped[mark.deployment].marks += (mark,)
        for hold in story.holds.values():
            if hold.deployment in self.shipped:
                self.shipped[hold.deployment].holds += (hold,)
        for act in story.acts.values():
            if act.kind == "rollback" and act.state == "verified" and act.expected in self.shipped:
                self.shipped[act.expected].undone = act
            if act.kind in ("rollback", "push") and act.state == "verified" and act.ref in self.shipped:
                began = self.shipped[act.ref]
                if act.kind == "push":
                    began.pushed = act
                else:
                    began.deployment = msgspec.structs.replace(began.deployment, back=True)
        ran = [item for item in ordered if item.deployment.state != "failed"]
        for item, following in itertools.pairwise(ran):
            item.returned = following.back and not item.back
        story.shipments = tuple(ordered)
        return story

    def _batches(self, ordered: list[Shipment]) -> None:
        """What each shipped that no earlier one of those that went out had."""
        changes = list(self.story.changes.values())
        place = {change.id: index for index, change in enumerate(changes)}
        named: dict[str, ChangeId] = {change.id[:PREFIX]: change.id for change in changes}
        reached: int | None = None
        for shipment in ordered:
            name = shipment.deployment.change or shipment.deployment.version
            index = place.get(name)
            if index is None and len(name) >= PREFIX:
                candidate = named.get(name[:PREFIX], "")
                if candidate.startswith(name) or (candidate and name.startswith(candidate)):
                    index = place[candidate]
            shipment.follows = reached is not None
            if index is None or shipment.deployment.state == "failed":
                continue
            if not shipment.back and reached is not None and index > reached:
                shipment.batch = tuple(changes[reached + 1 : index + 1])
            # A change once shipped is no part of a later batch, also if it was taken back and comes again with a fix.
            reached = index if reached is None else max(reached, index)
