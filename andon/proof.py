"""Proof by reading: an act is shown as done when a read has shown it, and never before.

For a halt or release what stands now is read; for a deployment, what runs, and what the history says of the one that this
act began. A read can settle an act at any time, whoever sent it.
"""

import asyncio
from collections.abc import Awaitable
from typing import Protocol, TypeVar

import msgspec

from andon.clock import Clock, Time
from andon.events import DeploymentSeen, Event, HaltedSeen, Marked
from andon.keeper import Store
from andon.model import Act, ActState, Deployment, Halted, TargetId
from andon.ports import (
    CI,
    READ_LIMIT_S,
    Denied,
    Deploy,
    Garbled,
    Halting,
    LedgerUnusable,
    Notifier,
    Unreachable,
    whole,
)

T = TypeVar("T")

HISTORY = 20
CLOCKS_APART_S = 60.0


def unreadable(error: Exception) -> str:
    """Why a read failed, in words; an adapter's own fault is named as such."""
    if isinstance(error, (Unreachable, Denied, Garbled)):
        return str(error)
    if isinstance(error, TimeoutError):
        return f"no answer in {READ_LIMIT_S:.0f} s"
    return f"its adapter failed: {type(error).__name__}"


async def _limited(read: Awaitable[T]) -> T:
    """A read, for as long as a read may take."""
    async with asyncio.timeout(READ_LIMIT_S):
        return await read


async def read_halted(halting: Halting, clock: Clock, limit_s: float = READ_LIMIT_S) -> Halted:
    """What stands, dated by our own clock. Raises as a read, and TimeoutError."""
    async with asyncio.timeout(limit_s):
        found = whole(await halting.halted(), Halted)
    return msgspec.structs.replace(found, at=clock.now())


async def read_current(deploy: Deploy, limit_s: float = READ_LIMIT_S) -> Deployment | None:
    """What runs; None: nothing was ever deployed. Raises as a read, and TimeoutError."""
    async with asyncio.timeout(limit_s):
        found = await deploy.current()
    return None if found is None else whole(found, Deployment)


class Targets(Protocol):
    """The sources that acts go to, as the config names them."""

    def halting(self, line: str, target: TargetId) -> Halting | None:
        """The halting target of that name."""

    def deploy(self, line: str) -> Deploy | None:
        """Where the line deploys."""

    def ci(self, line: str, target: TargetId) -> CI | None:
        """The CI of that name."""

    def notifier(self, line: str, target: TargetId) -> Notifier | None:
        """The notifier of that name."""

    def confirm_s(self, line: str, target: TargetId) -> float:
        """How long a deployment may take to be seen."""

    def only_way_in(self, line: str) -> bool:
        """Whether nothing ships there but andon and what its cord halts."""

    def halts(self, line: str) -> tuple[TargetId, ...]:
        """The targets a stop of the line halts."""


class Step(Protocol):
    """A compare-and-set of an act's state; see `acts.Door.step`."""

    def __call__(
        self, act: Act, was: ActState, now: ActState, words: str = "", ref: str = "", *more: Event
    ) -> Awaitable[bool]:
        """Whether it was made."""


class Proof:
    """Reads what became of acts."""

    def __init__(self, store: Store, targets: Targets, clock: Clock, step: Step) -> None:
        self.store = store
        self.targets = targets
        self.clock = clock
        self.step = step

    async def read(self, act: Act) -> bool:
        """One read for an act; True if it settled it."""
        if act.settled:
            return True
        try:
            if act.kind in ("halt", "release"):
                return await self._read_halted(act)
            if act.kind in ("rollback", "push"):
                return await self._read_current(act)
        except LedgerUnusable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever an adapter does wrong in a read, the act stays in hand
            words = f"cannot be read: {unreadable(error)}"
            if act.state in ("accepted", "unknown") and act.words != words:
                await self.step(act, act.state, act.state, words)
        return False

    async def _read_halted(self, act: Act) -> bool:
        halting = self.targets.halting(act.line, act.target)
        if halting is None:
            await self.step(act, act.state, "refused", "the config names no such target any more")
            return True
        found = await read_halted(halting, self.clock)
        done = found.halted if act.kind == "halt" else _restored(act, found)
        events: tuple[Event, ...] = ()
        if not found.same(self.store.board.line(act.line).halted.get(act.target)):
            events = (HaltedSeen(line=act.line, at=found.at, target=act.target, halted=found),)
        if done:
            await self.step(act, act.state, "verified", "confirmed by a read", "", *events)
        elif events:
            await self.store.commit(*events)
        return done

    async def _read_current(self, act: Act) -> bool:
        deploy = self.targets.deploy(act.line)
        if deploy is None:
            await self.step(act, act.state, "failed", "the config names no deploy target for this line any more")
            return True
        current = await read_current(deploy)
        if current is not None and current.id != act.expected:
            return await self._read_other(act, deploy, current)
        ours = await _ours_in_history(act, deploy) if act.ref else None
        if ours is not None and ours.state == "failed":
            await self.step(act, act.state, "failed", ours.words or "the target says it failed", ours.id)
            return True
        confirm_s = self.targets.confirm_s(act.line, act.target)
        late = self.clock.now() - (act.sent_at or act.at) > confirm_s and (ours is None or ours.state != "rolling")
        if late:
            words = f"not seen within {confirm_s / 60:g} min; what ran before still runs"
            await self.step(act, act.state, "failed", words)
        return late

    async def _read_other(self, act: Act, deploy: Deploy, current: Deployment) -> bool:
        """Something else than the expected deployment runs: ours, or somebody's."""
        named = act.ref == current.id and _same(current.version, act.version)
        ours = current if named else await _ours_in_history(act, deploy)
        if ours is None:
            since = self.clock.now() - (act.sent_at or act.at)
            if not deploy.can.compare_and_set and since <= self.targets.confirm_s(act.line, act.target):
                return False  # where nothing is compared, what was sent may still take effect
            words = f"{current.version[:12]} by {current.by or 'somebody'} runs now; ours was not seen"
            await self.step(act, act.state, "superseded", words)
            return True
        if ours.state == "rolling":
            return False
        if ours.state == "failed":
            await self.step(act, act.state, "failed", ours.words or "the target says it failed", ours.id)
            return True
        words = "confirmed by a read" if ours.id == current.id else f"it ran; {current.version[:12]} runs now"
        events: list[Event] = [DeploymentSeen(line=act.line, at=ours.at, source=act.target, deployment=ours)]
        if act.kind == "rollback":
            events.append(self.faulty(act))
        await self.step(act, act.state, "verified", words, ours.id, *events)
        return True

    def faulty(self, act: Act) -> Marked:
        """What was rolled back is faulty until somebody says otherwise."""
        undone = self.store.board.line(act.line).deployment(act.expected)
        return Marked(
            line=act.line,
            at=self.clock.now(),
            deployment=act.expected,
            version=undone.version if undone else "",
            mark="faulty",
            who=act.who,
            why=act.why,
        )


async def _ours_in_history(act: Act, deploy: Deploy) -> Deployment | None:
    """The deployment that this act began: by its reference, else the first of its version after what was expected."""
    found: object = await _limited(deploy.history(HISTORY))
    if not isinstance(found, (list, tuple)):
        raise Garbled("its adapter answered what is no list")
    history = [whole(item, Deployment) for item in found]
    ids = [item.id for item in history]
    newer = history[: ids.index(act.expected)] if act.expected in ids else history
    if act.ref:  # a reference is what the target says: it is ours only if it is what was asked, and came after
        return next((item for item in newer if item.id == act.ref and _same(item.version, act.version)), None)
    sent: Time = act.sent_at or act.at
    # Where the expected one is not remembered any more, only what began about then can be ours.
    known = act.expected in ids
    fits = [item for item in newer if item.version == act.version and (known or item.at >= sent - CLOCKS_APART_S)]
    return fits[-1] if fits else None


def _same(one: str, other: str) -> bool:
    """Whether two names of a version may mean the same: one may be a hash cut short."""
    return one == other or (min(len(one), len(other)) >= 7 and (one.startswith(other) or other.startswith(one)))


def _restored(act: Act, found: Halted) -> bool:
    """Whether what stands now is what stood before the halt."""
    if act.before is None:
        return False
    before = {part.name: part.halted for part in act.before.parts}
    return all(not part.halted or before.get(part.name, False) for part in found.parts)
