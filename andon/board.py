"""What the ledger adds up to: the only truth that a screen or a rule reads.

`Board.apply` is pure: it returns a new board and changes nothing. Boards are frozen and may go from thread to thread. A
line keeps only what a screen or a rule can ask for; everything older is in the ledger.
"""

from typing import Any, Literal, TypeVar

import msgspec

from andon.clock import Time
from andon.events import (
    KINDS,
    ActAsked,
    ActStepped,
    Armed,
    CallTaken,
    ChangesSeen,
    DeploymentSeen,
    Event,
    HaltedSeen,
    Helped,
    HoldChanged,
    HoldLifted,
    HoldPlaced,
    HoldTaken,
    Judged,
    Marked,
    RunSeen,
    SourceSeen,
    SourceWord,
    Started,
    WatchOpened,
)
from andon.model import (
    Act,
    ActId,
    Change,
    ChangeId,
    Deployment,
    DeploymentId,
    Halted,
    Hold,
    HoldId,
    Run,
    TargetId,
    Verdict,
)

V = TypeVar("V")

FORMAT = " ".join(("3", *KINDS))
"""Of a checkpoint: a new number whenever a board of this version differs from one folded by the last, and the kinds that
were folded into it; a version that knows others folds from the start."""

EXPECTED = 3
"""Of so many newest watches a line keeps what was expected of its metrics."""
CHANGES, RUNS, DEPLOYMENTS, ACTS, HOLDS, CALLS = 200, 120, 60, 40, 20, 10
"""How many of each a line keeps; acts and holds beside those that are still open."""


class Watch(msgspec.Struct, frozen=True):
    """The observation of one deployment."""

    deployment: DeploymentId
    version: str
    began: Time
    until: Time
    verdicts: dict[str, Verdict] = {}
    """The last verdict on each metric."""
    armed: dict[str, Armed] = {}
    """What was expected of each metric that the judge judges; kept for open watches and the last few."""
    verdict: Verdict | None = None
    """On the deployment, once judged."""
    did: str = ""
    ended: bool = False


class BareVerdict(Verdict, frozen=True):
    """A verdict whose numbers, up to thousands, are not read: a board does not keep them."""

    numbers: msgspec.Raw = msgspec.Raw(b"[]")  # type: ignore[assignment]  # not read, on purpose


class BareJudged(Judged, frozen=True):
    """A `Judged` as it is folded where nobody listens."""

    verdict: BareVerdict


class SourceLine(msgspec.Struct, frozen=True):
    """How a source is, since when, and its words."""

    state: SourceWord
    since: Time
    words: str = ""


class Recovery(msgspec.Struct, frozen=True):
    """Whether going back from a deployment helped."""

    word: Literal["recovered", "not recovered", "too early"]
    sentence: str
    at: Time


class Mark(msgspec.Struct, frozen=True):
    """What somebody said of a deployment."""

    mark: str
    version: str
    who: str
    why: str
    at: Time


class Line(msgspec.Struct, frozen=True):
    """One production line, as far as the ledger knows it."""

    name: str
    changes: tuple[Change, ...] = ()
    """In the CI's order, oldest first."""
    runs: dict[str, Run] = {}
    """By run id, in the order first seen."""
    deployments: tuple[Deployment, ...] = ()
    """Oldest first, by when they began."""
    watches: dict[DeploymentId, Watch] = {}
    holds: tuple[Hold, ...] = ()
    """Open ones and the last lifted, oldest first."""
    acts: dict[ActId, Act] = {}
    """Unsettled ones and the last settled, oldest first."""
    halted: dict[TargetId, Halted] = {}
    sources: dict[str, SourceLine] = {}
    marks: dict[DeploymentId, Mark] = {}
    """Good or faulty: the last word on a deployment."""
    barriers: dict[DeploymentId, Mark] = {}
    """Irreversible ones; nothing that is said later takes that back."""
    helped: dict[DeploymentId, Recovery] = {}
    calls: tuple[Act, ...] = ()
    """The last calls for help, oldest first. A hold that is placed answers the one that was open."""
    call_has: str = ""
    """Who looks into the call that is open; empty: nobody."""

    @property
    def call(self) -> Act | None:
        """The call for help that is open: nobody cleared it, its time is not over, and no hold was placed since."""
        return self.calls[-1] if self.calls and not self.calls[-1].settled else None

    @property
    def open_holds(self) -> tuple[Hold, ...]:
        """The reasons why it is stopped; a line runs only while it has none."""
        return tuple(hold for hold in self.holds if hold.open)

    @property
    def stop(self) -> HoldId:
        """The id of the stop that lasts now; empty: none."""
        held = self.open_holds
        return held[0].stop if held else ""

    @property
    def current(self) -> Deployment | None:
        """The newest deployment that did not fail: what runs, as far as is known."""
        return next((item for item in reversed(self.deployments) if item.state != "failed"), None)

    def deployment(self, id_: DeploymentId) -> Deployment | None:
        """The deployment with that id."""
        return next((item for item in self.deployments if item.id == id_), None)

    def change(self, version: str) -> Change | None:
        """The change a version or change id stands for: equal, or one a prefix (of at least 7 signs) of the other."""
        for change in reversed(self.changes):
            if change.id == version or (min(len(change.id), len(version)) >= 7 and _prefixed(change.id, version)):
                return change
        return None

    def change_of(self, deployment: Deployment) -> Change | None:
        """The newest change that a deployment ships."""
        return self.change(deployment.change or deployment.version)

    def batch(self, deployment: Deployment) -> tuple[Change, ...]:
        """The changes shipped together: those after the version that ran before, up to this one, oldest first."""
        newest = self.change_of(deployment)
        if newest is None:
            return ()
        ids = [change.id for change in self.changes]
        end = ids.index(newest.id)
        for earlier in reversed(self.deployments):
            if earlier.at < deployment.at and earlier.state != "failed" and earlier.id != deployment.id:
                was = self.change_of(earlier)
                if was is None:
                    return (newest,)
                start = ids.index(was.id)
                return self.changes[start + 1 : end + 1] if start < end else ()
        return (newest,)

    def stands(self, target: TargetId) -> bool:
        """Whether a read has confirmed that a halting target stands for the stop that lasts now."""
        halted = self.halted.get(target)
        if halted is None or not halted.halted:
            return False
        return any(
            act.kind == "halt" and act.target == target and act.subject == self.stop and act.state == "verified"
            for act in self.acts.values()
        )

    def unsettled(self, *kinds: str) -> tuple[Act, ...]:
        """Acts on their way, of those kinds (of all, if none is named), oldest first."""
        return tuple(act for act in self.acts.values() if not act.settled and (not kinds or act.kind in kinds))

    def runs_of(self, change: ChangeId) -> tuple[Run, ...]:
        """The runs of a change, in the order first seen."""
        return tuple(run for run in self.runs.values() if run.change == change)

    def went_back(self, deployment: Deployment) -> bool:
        """Whether a deployment is itself a return to an earlier version."""
        if deployment.back:
            return True
        return any(_began(act, deployment) for act in self.acts.values() if act.kind == "rollback")


class Board(msgspec.Struct, frozen=True):
    """All lines, as far as the ledger has been folded."""

    lines: dict[str, Line] = {}
    first_at: Time = 0.0
    """When this ledger saw its first event."""
    read_only: dict[str, str] = {}
    """Lines over which this version must not act, and why."""
    started: Time = 0.0
    """When an engine last took the lease."""

    def line(self, name: str) -> Line:
        """The line of that name; an empty one if nothing is known of it."""
        return self.lines.get(name) or Line(name)

    def apply(self, *events: Event) -> "Board":
        """The board after `events`, in that order. Pure."""
        lines, first_at, started, changes = dict(self.lines), self.first_at, self.started, False
        for event in events:
            if isinstance(event, Started):
                started, changes = event.at, True
            else:
                line = lines.get(event.line) or Line(event.line)
                changed = _FOLDS[Judged if type(event) is BareJudged else type(event)](line, event)
                if changed is line:
                    continue
                lines[event.line], changes = changed, True
            first_at = first_at or event.at
        return msgspec.structs.replace(self, lines=lines, first_at=first_at, started=started) if changes else self

    def apply_unknown(self, kind: str, line: str) -> "Board":
        """The board after an event this version does not know, which binds it not to act over that line."""
        return msgspec.structs.replace(
            self, read_only={**self.read_only, line: f"a newer andon wrote {kind}: update this one"}
        )


def _began(act: Act, deployment: Deployment) -> bool:
    """Whether a rollback began that deployment: by its reference, or, where a person said so, by what fits."""
    if act.version != deployment.version:
        return False
    if act.ref:
        return act.ref == deployment.id
    since = (act.sent_at or act.at) - 60
    return act.state == "verified" and deployment.id != act.expected and deployment.at >= since


def _prefixed(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _changes(line: Line, event: ChangesSeen) -> Line:
    known = {change.id for change in line.changes}
    last = max((index for index, change in enumerate(event.changes) if change.id in known), default=-1)
    older: dict[ChangeId, Change] = {}  # listed before one that is known: it fell off the end, or came in late
    newer: dict[ChangeId, Change] = {}
    for index, change in enumerate(event.changes):
        if change.id not in known:
            (older if index < last else newer).setdefault(change.id, change)
    changes = (*older.values(), *line.changes, *newer.values())[-CHANGES:]
    return line if changes == line.changes else msgspec.structs.replace(line, changes=changes)


def _run(line: Line, event: RunSeen) -> Line:
    if line.runs.get(event.run.id) == event.run:
        return line
    runs = {**line.runs, event.run.id: event.run}
    if len(runs) > RUNS:
        del runs[min(runs, key=lambda id_: runs[id_].at)]  # by when they began, whatever the order they were seen in
    return line if runs == line.runs else msgspec.structs.replace(line, runs=runs)


def _deployment(line: Line, event: DeploymentSeen) -> Line:
    fresh, known = event.deployment, line.deployments
    if line.deployment(fresh.id) == fresh:
        return line
    if known and known[-1].id == fresh.id and known[-1].at == fresh.at:  # the usual case: the newest one goes on
        return msgspec.structs.replace(line, deployments=(*known[:-1], fresh))
    others = [item for item in known if item.id != fresh.id]
    ordered = sorted([*others, fresh], key=lambda item: item.at)  # stable: equal times keep the order seen
    return msgspec.structs.replace(line, deployments=tuple(ordered[-DEPLOYMENTS:]))


def _halted(line: Line, event: HaltedSeen) -> Line:
    return msgspec.structs.replace(line, halted={**line.halted, event.target: event.halted})


def _source(line: Line, event: SourceSeen) -> Line:
    known = line.sources.get(event.source)
    since = known.since if known and known.state == event.state else event.at
    fresh = SourceLine(event.state, since, event.words)
    return msgspec.structs.replace(line, sources={**line.sources, event.source: fresh})


def _watch(line: Line, event: WatchOpened) -> Line:
    if event.deployment in line.watches:
        return line
    fresh = Watch(event.deployment, event.version, event.began, event.until)
    # As long as its deployment: one forgotten while its deployment is known would be opened, and judged, again.
    known = {item.id for item in line.deployments} | {event.deployment}
    kept = {id_: watch for id_, watch in {**line.watches, event.deployment: fresh}.items() if id_ in known}
    for id_ in list(kept)[:-EXPECTED]:
        if kept[id_].ended and kept[id_].armed:
            kept[id_] = msgspec.structs.replace(kept[id_], armed={})
    return msgspec.structs.replace(line, watches=_bounded(kept, 2 * DEPLOYMENTS))


def _armed(line: Line, event: Armed) -> Line:
    watch = line.watches.get(event.deployment)
    if watch is None or watch.ended:
        return line
    watch = msgspec.structs.replace(watch, armed={**watch.armed, event.metric: event})
    return msgspec.structs.replace(line, watches={**line.watches, event.deployment: watch})


def _judged(line: Line, event: Judged) -> Line:
    watch = line.watches.get(event.deployment)
    if watch is None:
        return line
    # A board keeps the sentence, not the numbers: those stay in the ledger, where a replay finds them.
    verdict = Verdict(*(getattr(event.verdict, name) for name in _OF_A_VERDICT))
    if verdict.metric:
        watch = msgspec.structs.replace(watch, verdicts={**watch.verdicts, verdict.metric: verdict})
    else:
        watch = msgspec.structs.replace(watch, verdict=verdict, did=event.did or watch.did)
    if event.final:
        watch = msgspec.structs.replace(watch, ended=True)
    return msgspec.structs.replace(line, watches={**line.watches, event.deployment: watch})


def _helped(line: Line, event: Helped) -> Line:
    fresh = Recovery(event.word, event.sentence, event.at)
    return msgspec.structs.replace(line, helped=_bounded({**line.helped, event.deployment: fresh}, DEPLOYMENTS))


def _hold_placed(line: Line, event: HoldPlaced) -> Line:
    if any(hold.id == event.hold.id for hold in line.holds):
        return line
    stop = line.stop or event.hold.id
    line = _with_holds(line, (*line.holds, msgspec.structs.replace(event.hold, stop=stop)))
    call = line.call
    if call is None:
        return line
    words = "the line was stopped"
    return _with_call(line, msgspec.structs.replace(call, state="superseded", words=words, settled_at=event.at))


def _hold_taken(line: Line, event: HoldTaken) -> Line:
    return _with_holds(line, _changed(line.holds, event.hold, has=event.who))


def _hold_changed(line: Line, event: HoldChanged) -> Line:
    values: dict[str, object] = {"why": event.why} if event.why else {}
    if event.until is not None:
        values["until"] = event.until or None
    return _with_holds(line, _changed(line.holds, event.hold, **values)) if values else line


def _call_taken(line: Line, event: CallTaken) -> Line:
    call = line.call
    mine = call is not None and call.id == event.call
    return msgspec.structs.replace(line, call_has=event.who) if mine else line


def _with_call(line: Line, call: Act) -> Line:
    others = tuple(item for item in line.calls if item.id != call.id)
    return msgspec.structs.replace(line, calls=(*others, call)[-CALLS:])


def _hold_lifted(line: Line, event: HoldLifted) -> Line:
    lifted = {"lifted_at": event.at, "lifted_by": event.who, "lifted_why": event.why}
    open_ = tuple(hold for hold in line.holds if hold.id == event.hold and hold.open)
    return _with_holds(line, _changed(line.holds, event.hold, **lifted)) if open_ else line


def _changed(holds: tuple[Hold, ...], id_: HoldId, **values: object) -> tuple[Hold, ...]:
    return tuple(msgspec.structs.replace(hold, **values) if hold.id == id_ else hold for hold in holds)


def _with_holds(line: Line, holds: tuple[Hold, ...]) -> Line:
    lifted = sorted((hold for hold in holds if not hold.open), key=lambda hold: hold.lifted_at or 0.0)
    gone = {hold.id for hold in lifted[: max(0, len(lifted) - HOLDS)]}
    return msgspec.structs.replace(line, holds=tuple(hold for hold in holds if hold.id not in gone))


def _act_asked(line: Line, event: ActAsked) -> Line:
    if event.act.id in line.acts:
        return line
    if event.act.kind == "call":
        known = line.open_holds or any(call.id == event.act.id for call in line.calls)
        return line if known else msgspec.structs.replace(_with_call(line, event.act), call_has="")
    return _with_acts(line, {**line.acts, event.act.id: event.act})


def _act_stepped(line: Line, event: ActStepped) -> Line:
    act = line.acts.get(event.act)
    if act is None and line.call is not None and line.call.id == event.act:
        return _with_call(line, stepped(line.call, event))
    if act is None or act.settled:
        return line
    return _with_acts(line, {**line.acts, act.id: stepped(act, event)})


def stepped(act: Act, event: ActStepped) -> Act:
    """The act after a step; also what the ledger keeps of it."""
    values: dict[str, object] = {"state": event.now, "words": event.words, "ref": event.ref or act.ref}
    if event.now == "sent":
        values |= {"sent_at": event.at, "tries": act.tries + 1}
    elif event.now in ("accepted", "unknown"):
        values["answered_at"] = event.at
    fresh: Act = msgspec.structs.replace(act, **values)
    return msgspec.structs.replace(fresh, settled_at=event.at) if fresh.settled else fresh


def _with_acts(line: Line, acts: dict[ActId, Act]) -> Line:
    # Each sort has a bound of its own, so that notes cannot push out what a rule or the end of a stop asks for.
    if len(acts) > ACTS:
        stop = line.stop
        for kinds in _SORTS:
            sort = [act for act in acts.values() if act.kind in kinds]
            if len(sort) > ACTS:
                settled = [act for act in sort if act.settled and not (stop and act.subject == stop)]
                settled.sort(key=lambda act: act.settled_at or 0.0)
                for act in settled[: max(0, len(settled) - ACTS)]:
                    del acts[act.id]
    return msgspec.structs.replace(line, acts=acts)


def _marked(line: Line, event: Marked) -> Line:
    fresh = Mark(event.mark, event.version, event.who, event.why, event.at)
    if event.mark == "irreversible":
        return msgspec.structs.replace(line, barriers=_bounded({**line.barriers, event.deployment: fresh}, DEPLOYMENTS))
    return msgspec.structs.replace(line, marks=_bounded({**line.marks, event.deployment: fresh}, DEPLOYMENTS))


def _bounded(items: dict[str, V], most: int) -> dict[str, V]:
    """The newest `most` entries, in the order first put in."""
    for key in list(items)[: max(0, len(items) - most)]:
        del items[key]
    return items


def read_board(body: bytes, *, lean: bool = False) -> Board:
    """The board that was written so; `lean`: without what `LEAN` leaves out. Raises ValueError for what is no board."""
    if lean:
        found = msgspec.json.decode(body, type=_Raw)
        for line in found.lines.values():
            for name in LEAN.values():
                line.pop(name, None)
        body = msgspec.json.encode(found)
    return msgspec.json.decode(body, type=Board)


class _Raw(msgspec.Struct, omit_defaults=True):
    """A board whose lines are not read yet."""

    lines: dict[str, dict[str, msgspec.Raw]] = {}
    first_at: Time = 0.0
    read_only: dict[str, str] = {}
    started: Time = 0.0


LEAN = {"changes-seen": "changes", "run-seen": "runs"}
"""What a command that only prints states does not ask for: the kinds of events, and where a line has them."""

_OF_A_VERDICT = [name for name in Verdict.__struct_fields__ if name != "numbers"]
_SORTS = (("halt", "release"), ("rollback", "push"), ("cancel", "tell"))

_FOLDS: dict[type[Event], Any] = {
    ChangesSeen: _changes,
    RunSeen: _run,
    DeploymentSeen: _deployment,
    HaltedSeen: _halted,
    SourceSeen: _source,
    WatchOpened: _watch,
    Armed: _armed,
    Judged: _judged,
    Helped: _helped,
    HoldPlaced: _hold_placed,
    HoldTaken: _hold_taken,
    HoldChanged: _hold_changed,
    CallTaken: _call_taken,
    HoldLifted: _hold_lifted,
    ActAsked: _act_asked,
    ActStepped: _act_stepped,
    Marked: _marked,
}
