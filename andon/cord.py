"""The cord: holds are placed and lifted here, and what they stop is halted and released.

A line runs only while it has no hold. The first open hold begins a *stop*, the lifting of the last ends it; one halt and
one release act per target belong to a stop. The cord stops shipping, not testing, and never closes the way back: a
rollback goes by the line's deploy target. What stood at a target before is read first, kept with the act, and is all that
a release restores.
"""

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Literal

import msgspec

from andon.acts import NOT_AFTER_S, Door, NotDone
from andon.board import Board, Line
from andon.clock import Clock, Time
from andon.config import LineConfig
from andon.events import ActAsked, ActStepped, Event, HaltedSeen, HoldChanged, HoldLifted, HoldPlaced, HoldTaken
from andon.keeper import Store
from andon.linestate import FRESH_INTERVALS, LineState, pulse_key, stands, state
from andon.model import Act, Change, Halted, Hold, HoldId, Note, OwnerKind, TargetId, new_id
from andon.ports import AlreadyHeld, Joined, LedgerUnusable, Moved
from andon.proof import read_halted
from andon.unrecorded import Unrecorded

__all__ = ["FRESH_INTERVALS", "Cord", "LineState", "Pulled", "pulse_key", "stands", "state"]

BEFORE_FRESH_S = 60.0
"""What stood before is read again if it was not read within this time."""
BEFORE_LIMIT_S = 2.0
RECORD_LIMIT_S = 0.5
"""A halt that the ledger does not take within this time is sent all the same, and recorded when it does."""
OURS = re.compile(r"andon hold ([0-9a-z]{8})\b")


class Pulled(msgspec.Struct, frozen=True):
    """What a pull began."""

    hold: Hold
    joined: bool = False
    """The owner had an open hold already."""
    recorded: bool = True
    """False: the ledger did not take it in time; it was sent all the same and is recorded as soon as the ledger answers."""


class Cord:
    """Pulls, lifts and reconciles for the lines of one config."""

    def __init__(self, lines: Mapping[str, LineConfig], door: Door, store: Store, clock: Clock) -> None:
        self.lines = lines
        self.door = door
        self.store = store
        self.clock = clock
        self.read_at: dict[TargetId, Time] = {}
        """When a target was last read, by any process: the ledger holds a read only where it said something new."""
        self._unrecorded = Unrecorded(door, store, clock, self._pull_again)
        self._pressing: dict[tuple[str, str], asyncio.Lock] = {}

    # ---- pulling

    async def pull(
        self,
        line: str,
        who: str,
        why: str,
        *,
        kind: OwnerKind = "person",
        deployment: str = "",
        age_s: float = 0.0,
        ends: ActStepped | None = None,
    ) -> Pulled:
        """Stop a line. Sets, never toggles: a second pull of the same owner joins the first.

        Raises NotDone if this process may not act. A ledger that does not answer does not keep a halt from being sent.
        `ends` is the call whose time is over: then the line is stopped in the transaction that ends the call or not at
        all, and Moved is raised if somebody else ended it first, LedgerUnusable if the ledger does not take it.
        """
        self.door.check_may_act(line)
        async with self._pressing.setdefault((line, who), asyncio.Lock()):
            return await self._pull(line, who, why, kind, deployment, age_s, ends)

    async def _pull(
        self,
        line: str,
        who: str,
        why: str,
        kind: OwnerKind,
        deployment: str,
        age_s: float,
        ends: ActStepped | None = None,
    ) -> Pulled:
        waiting = self._unrecorded.hold(line, who)
        if waiting is not None:
            return Pulled(waiting, joined=True, recorded=False)
        reads = await self._read_before(line)
        for _ in range(5):
            board = self.store.board.line(line)
            own = next((hold for hold in board.open_holds if hold.owner == who), None)
            now = self.clock.now()
            hold = own or Hold(
                id=(fresh := new_id()),
                line=line,
                owner=who,
                kind=kind,
                why=why,
                since=now,
                stop=board.stop or fresh,
                deployment=deployment,
            )
            acts = [self._halt(board, hold, target, age_s, reads) for target in self._to_halt(board, hold)]
            placed: list[Event] = [ends] if ends is not None else []
            placed += [
                HaltedSeen(line=line, at=found.at or now, target=target, halted=found)
                for target, found in reads.items()
                if found is not None and not found.same(board.halted.get(target))
            ]
            placed += [] if own else [HoldPlaced(line=line, at=now, hold=hold)]
            placed += [ActAsked(line=line, at=now, act=act) for act in acts]
            try:
                recorded = await self._record(line, hold, acts, placed, patient=ends is not None)
            except (AlreadyHeld, Joined):
                continue  # somebody was faster; look again
            if recorded and self._stop_changed(line, hold):
                continue  # the stop we joined ended in this moment: our hold began another, which has no halts yet
            for act in self.store.board.line(line).unsettled("halt"):
                self.door.adopt(act)
            if recorded and not own:
                await self.tell(line, "stopped", f"{line} stopped", f"{who}: {why}", who, f"{hold.id}/stopped")
            return Pulled(hold, joined=own is not None, recorded=recorded)
        raise NotDone(f"{line}: others keep changing its holds; look, then press again")

    async def _pull_again(self, hold: Hold) -> None:
        """A pull that was recorded late: ask for the halts that its stop lacks, should another one have ended."""
        await self.pull(hold.line, hold.owner, hold.why, kind=hold.kind, deployment=hold.deployment)

    def _stop_changed(self, line: str, hold: Hold) -> bool:
        placed = next((item for item in self.store.board.line(line).open_holds if item.id == hold.id), None)
        return placed is None or placed.stop != hold.stop

    async def _record(
        self, line: str, hold: Hold, acts: Sequence[Act], events: Sequence[Event], *, patient: bool
    ) -> bool:
        """Commit a pull; False if the ledger did not take it in time, and it was sent without."""
        if not events:
            with suppress(TimeoutError, LedgerUnusable):  # nothing to write: only see what others have lifted meanwhile
                await asyncio.wait_for(self.store.commit(urgent=True), RECORD_LIMIT_S)
            return True
        commit = asyncio.ensure_future(self.store.commit(*events, urgent=True))
        try:
            await asyncio.wait_for(asyncio.shield(commit), None if patient else RECORD_LIMIT_S)
        except (TimeoutError, LedgerUnusable):
            if patient:
                raise
            await self._unrecorded.begin(hold, self.lines[line].targets, commit, events, acts)
            return False
        for act in acts:
            self.door.drive(act.id, line)
        return True

    @property
    def unrecorded(self) -> int:
        """How many pulls wait for the ledger."""
        return len(self._unrecorded)

    def _to_halt(self, board: Line, hold: Hold) -> Iterable[TargetId]:
        """The targets that no halt of this stop is on its way to, and that do not stand already because of one."""
        on_way = {act.target for act in board.unsettled("halt") if act.subject == hold.stop}
        for target in self.lines[board.name].targets:
            if target not in on_way and not (board.stop and stands(board, target)):
                yield target

    def _halt(
        self,
        board: Line,
        hold: Hold,
        target: TargetId,
        age_s: float = 0.0,
        reads: Mapping[TargetId, Halted | None] = MappingProxyType({}),
    ) -> Act:
        before = self._before(board, hold, target, reads)
        return self._act("halt", board.name, target, hold.stop, hold.owner, hold.why, hold.id, before, age_s)

    def _act(
        self,
        kind: Literal["halt", "release"],
        line: str,
        target: TargetId,
        stop: HoldId,
        who: str,
        why: str,
        hold: HoldId,
        before: Halted | None,
        age_s: float = 0.0,
    ) -> Act:
        now = self.clock.now()
        return Act(
            id=new_id(),
            kind=kind,
            line=line,
            target=target,
            subject=stop,
            who=who,
            why=why,
            at=now,
            not_before=now,
            not_after=now + self.clock.real(NOT_AFTER_S),
            environment=self.lines[line].environment,
            asker=self.door.me,
            hold=hold,
            before=before,
            data_age_s=age_s,
        )

    def _before(
        self, board: Line, hold: Hold, target: TargetId, reads: Mapping[TargetId, Halted | None]
    ) -> Halted | None:
        """What stood at the target before this stop; what holds of ours had halted there did not stand before."""
        for act in board.acts.values():
            if act.kind == "halt" and act.target == target and act.subject == hold.stop:
                return act.before
        last = reads[target] if target in reads else board.halted.get(target)
        if last is None:
            return None
        ours = {item.id for line in self.store.board.lines.values() for item in line.holds}
        parts = tuple(
            msgspec.structs.replace(part, halted=part.halted and not _names(part.note, ours), moving=())
            for part in last.parts
        )
        return Halted(parts=parts, at=last.at)

    async def _read_before(self, line: str) -> dict[TargetId, Halted | None]:
        """How those of the line's targets stand that were not read lately; None: unreadable within two seconds."""
        board = self.store.board.line(line)
        if board.stop:
            return {}
        stale = [
            target
            for target in self.lines[line].targets
            if (last := board.halted.get(target)) is None
            or abs(self.clock.now() - max(last.at, self.read_at.get(target, 0.0))) > self.clock.real(BEFORE_FRESH_S)
        ]
        found = await asyncio.gather(*(self._read_one(line, target) for target in stale))
        return dict(zip(stale, found, strict=True))

    async def _read_one(self, line: str, target: TargetId) -> Halted | None:
        halting = self.door.targets.halting(line, target)
        if halting is None:
            return None
        try:
            return await read_halted(halting, self.clock, BEFORE_LIMIT_S)
        except Exception:  # noqa: BLE001 - unreadable, for whatever reason: the halt is sent all the same
            return None

    # ---- lifting

    async def take(self, line: str, hold: HoldId, who: str, *, by: str = "") -> None:
        """Say that somebody has it; `by` says who handed it over."""
        self.door.check_may_act(line)
        self._open_hold(line, hold)
        if not who.strip():
            raise NotDone("say who takes it over")
        await self.store.commit(HoldTaken(line=line, at=self.clock.now(), hold=hold, who=who, by=by))

    async def change(self, line: str, hold: HoldId, who: str, *, why: str = "", until: Time | None = None) -> None:
        """Say something else of a hold: another reason, or until when it is meant to hold (0: no end).

        No hold is lifted by its end: it then asks a person to resume or to extend it. Raises NotDone.
        """
        self.door.check_may_act(line)
        self._open_hold(line, hold)
        if not why.strip() and until is None:
            raise NotDone("say what is to be changed: the reason, or until when")
        now = self.clock.now()
        if until and until <= now:
            raise NotDone("that time is over already")
        await self.store.commit(HoldChanged(line=line, at=now, hold=hold, who=who, why=why.strip(), until=until))

    async def resume(self, line: str, who: str, why: str, *, hold: HoldId = "", all_: bool = False) -> tuple[Hold, ...]:
        """Lift one hold, or all; the last one lifted releases what the stop halted. Raises NotDone."""
        self.door.check_may_act(line)
        if not why.strip():
            raise NotDone("a line is resumed with a reason: say what was fixed")
        open_ = self.store.board.line(line).open_holds
        if not open_:
            raise NotDone(f"{line} has no hold to lift")
        if hold:
            chosen: tuple[Hold, ...] = (self._open_hold(line, hold),)
        elif all_ or len(open_) == 1:
            chosen = open_
        else:
            listed = "; ".join(f"{item.id} by {item.owner}: {item.why}" for item in open_)
            raise NotDone(f"{line} has {len(open_)} holds, lift one with --hold or all with --all: {listed}")
        for item in chosen:
            with_release = await self._lift(line, item, who, why)
            for act in with_release:
                self.door.drive(act.id, line)
        if not self.store.board.line(line).open_holds:
            await self.release_leftovers(line)
            await self.tell(line, "resumed", f"{line} resumed", f"{who}: {why}", who, f"{chosen[-1].id}/resumed")
        return chosen

    async def _lift(self, line: str, hold: Hold, who: str, why: str) -> list[Act]:
        now = self.clock.now()
        lifted = HoldLifted(line=line, at=now, hold=hold.id, who=who, why=why)
        last = len(self.store.board.line(line).open_holds) == 1
        acts = self._releases(line, hold, who, why) if last else []
        try:
            await self.store.commit(lifted, *(ActAsked(line=line, at=now, act=act) for act in acts), urgent=True)
        except Moved:
            return []  # somebody else lifted it in this moment; that is what was wanted
        except Joined:
            await self.store.commit(lifted, urgent=True)
            return []
        return acts

    def _open_hold(self, line: str, id_: HoldId) -> Hold:
        for hold in self.store.board.line(line).open_holds:
            if hold.id == id_:
                return hold
        raise NotDone(f"{line} has no open hold {id_}")

    def _releases(self, line: str, hold: Hold, who: str, why: str) -> list[Act]:
        """The releases that the end of a stop owes: one for each target it asked to halt, unless that was refused."""
        board = self.store.board.line(line)
        asked: dict[TargetId, Act] = {}
        for act in board.acts.values():
            if act.subject != hold.stop or act.kind not in ("halt", "release"):
                continue
            if act.kind == "halt" and act.state not in ("refused", "withdrawn"):
                asked[act.target] = act
            elif act.kind == "release" and act.state != "superseded":
                asked.pop(act.target, None)
        return [
            self._act("release", line, target, hold.stop, who, why, act.hold, act.before)
            for target, act in asked.items()
            if not self.still_wanted(self.store.board, target, but=line)
        ]

    async def release_leftovers(self, line: str) -> None:
        """Ask for the releases a finished stop still owes: after a crash, or when two lifted its last holds at once."""
        board = self.store.board.line(line)
        if board.open_holds or not board.holds:
            return
        last = max(board.holds, key=lambda hold: hold.lifted_at or 0)
        for act in self._releases(line, last, last.lifted_by, last.lifted_why):
            await self.door.ask(act)

    def still_wanted(self, board: Board, target: TargetId, *, but: str = "") -> str:
        """Which line's hold still wants a target to stand; empty: none."""
        for name, config in self.lines.items():
            if name != but and target in config.targets and board.line(name).open_holds:
                return name
        return ""

    def wanted(self, board: Board, act: Act) -> str:
        """Why a halt or release is no longer wanted; empty: it is. The door asks before each sending."""
        if act.kind == "halt":
            return "" if board.line(act.line).stop == act.subject else "the stop it belonged to is over"
        holder = self.still_wanted(board, act.target)
        return f"{holder} is stopped again" if holder else ""

    # ---- reconciling

    async def reconcile(self, line: str, target: TargetId, found: Halted) -> str:
        """Compare a read with what the holds want; ask for what is missing. Returns what is odd, in words."""
        self.read_at[target] = self.clock.now()
        board = self.store.board.line(line)
        if not found.same(board.halted.get(target)):
            await self.store.commit(HaltedSeen(line=line, at=self.clock.now(), target=target, halted=found))
            board = self.store.board.line(line)
        if board.stop:
            return await self._reassert(board, target, found)
        await self.release_leftovers(line)
        return await self._release_again(board, target, found)

    async def _reassert(self, board: Line, target: TargetId, found: Halted) -> str:
        """A target that moves under an open hold is halted again once, then only told."""
        halts = [act for act in board.acts.values() if act.kind == "halt" and act.target == target]
        halts = [act for act in halts if act.subject == board.stop]
        if found.halted or any(not act.settled for act in halts):
            return ""
        if any(act.state == "refused" for act in halts):
            return "refused to stand"
        if len([act for act in halts if act.state == "verified"]) > 1:
            return "moves under an open hold"
        await self.door.ask(self._halt(board, board.open_holds[0], target))
        return "moved under an open hold; halted again"

    async def _release_again(self, board: Line, target: TargetId, found: Halted) -> str:
        """A late halt of a lifted hold is released again; a target that others halted is theirs."""
        if not any(part.halted for part in found.parts) or board.unsettled("release", "halt"):
            return ""
        if self.still_wanted(self.store.board, target):
            return ""
        lifted = {hold.id: hold for hold in board.holds if not hold.open}
        named = [match.group(1) for part in found.parts if part.halted and (match := OURS.search(part.note))]
        ours = [lifted[id_] for id_ in named if id_ in lifted]
        if not ours:
            return "stopped outside andon"
        of_stop = [act for act in board.acts.values() if act.target == target and act.subject == ours[0].stop]
        releases = [act for act in of_stop if act.kind == "release"]
        if not of_stop or len(releases) > 3 or any(act.state == "refused" for act in releases):
            return "still stands for a hold that was lifted"
        before, hold = of_stop[0].before, ours[0]
        fresh = self._act("release", board.name, target, hold.stop, hold.lifted_by, hold.lifted_why, hold.id, before)
        await self.door.ask(fresh)
        return "a late halt stood there; released again"

    async def tell(
        self,
        line: str,
        kind: Literal["stopped", "resumed", "rollback", "verdict", "blind", "called"],
        title: str,
        text: str,
        who: str,
        key: str,
    ) -> None:
        """Tell whom the line names; what cannot be told is on the line's record, and never stops an act."""
        now = self.clock.now()
        authors = tuple(dict.fromkeys(change.author for change in self._batch(line) if change.author))
        for entry in self.lines[line].notify:
            note = Note(line=line, title=title, text=text, key=f"{key}/{entry.target}", kind=kind, who=who, at=now)
            note = msgspec.structs.replace(note, authors=authors)
            act = Act(
                id=new_id(),
                kind="tell",
                line=line,
                target=entry.target,
                subject=note.key,
                who=who,
                why=title,
                at=now,
                not_before=now,
                not_after=now + self.clock.real(NOT_AFTER_S),
                asker=self.door.me,
                note=note,
            )
            try:
                await self.door.ask(act)
            except (NotDone, LedgerUnusable):
                continue

    def _batch(self, line: str) -> Sequence[Change]:
        board = self.store.board.line(line)
        return board.batch(board.current) if board.current else ()


def _names(note: str, holds: set[HoldId]) -> bool:
    """Whether a note at a target names a hold of this ledger."""
    match = OURS.search(note)
    return match is not None and match.group(1) in holds
