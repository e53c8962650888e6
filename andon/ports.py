"""What an outside system offers andon, and the five ways in which it can answer an act.

An adapter's author needs this module, `andon.model`, and `andon.contract`, the suite that every adapter passes.
Adapters keep no state between calls but their connections. They never retry: rhythm, back-off and repetition belong to
`feed` and `acts`. A read that fails raises `Unreachable`, `Denied` or `Garbled`; an act returns its `Answer` and raises
nothing.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Literal, Protocol, TypeVar, runtime_checkable

import msgspec

from andon.clock import Time
from andon.model import (
    Act,
    Change,
    ChangeId,
    Deployment,
    DeploymentId,
    Halted,
    HoldId,
    HoldRef,
    Identity,
    LogPart,
    Metric,
    Note,
    Record,
    Run,
    RunId,
    Sample,
    Samples,
    Why,
    to_json,
)

R = TypeVar("R", bound=Record)

READ_LIMIT_S = 10.0
"""A read that has not ended by then is `Unreachable`."""

ACT_LIMIT_S = 15.0
"""An act that has not been answered by then is `NoAnswer`."""


class Unreachable(Exception):
    """Nothing left this machine, or nothing answered a read. As an act's answer: it may be sent again."""


class Denied(Exception):
    """The credential may not. The words name it, and what would open it."""


class Garbled(Exception):
    """It answered, but not what was asked: an error of the server, HTML, half a JSON."""


def whole(found: object, kind: type[R]) -> R:
    """What an adapter answered to a read, if it is a whole record of that kind: nothing rests on what is not.

    Raises Garbled.
    """
    if isinstance(found, kind):
        try:
            if msgspec.json.decode(to_json(found), type=kind) == found:
                return found
        except (TypeError, ValueError):  # something in it is not what the record says, or cannot be written
            pass
    raise Garbled(f"its adapter answered what is no {kind.__name__.lower()}")


class Accepted(Record, frozen=True):
    """The system took the act on; a read must still confirm it. `ref` is its own name for what it began."""

    ref: str = ""


class Conflict(Record, frozen=True):
    """Refused, because what stands there is not what was expected; `current` is what stands there."""

    current: str


class Refused(Record, frozen=True):
    """It would not, for good; its own words."""

    words: str


class NoAnswer(Record, frozen=True):
    """It may have arrived. Only a read can tell."""

    words: str = ""


Answer = Accepted | Conflict | Refused | Unreachable | NoAnswer


class Can(Record, frozen=True):
    """What an adapter can do; the contract suite checks each claim."""

    live: bool = False
    """Streams, instead of being asked again and again."""
    cancel: bool = False
    deploy: bool = False
    abort: bool = False
    share: bool = False
    pass_one: bool = False
    """Where the deploy target is itself halted: can open, send one deployment, and close."""
    compare_and_set: bool = False
    """Refuses a deployment atomically unless the expected deployment id is current."""
    idempotent_for_s: float = 0.0
    history_s: float = 0.0


class Changes(Record, frozen=True):
    """Changes in the CI's order, oldest first."""

    items: tuple[Change, ...]


Fact = Changes | Run | Deployment


class Wait(Record, frozen=True):
    """Everything known has been said; ask again in `seconds`. Also a sign of life."""

    seconds: float = 5.0


class Passed(Record, frozen=True):
    """Whether the tests passed for exactly one change."""

    state: Literal["yes", "no", "running", "unknown"]
    words: str = ""


@runtime_checkable
class Source(Protocol):
    """Every adapter."""

    @property
    def can(self) -> Can:
        """What it can do."""

    async def whoami(self) -> Identity:
        """Account, rights found and missing, server and version, its clock. Raises as a read."""

    async def close(self) -> None:
        """Give back connections; the source is not used again."""


@runtime_checkable
class CI(Source, Protocol):
    """A system that builds and tests changes."""

    def watch(self) -> AsyncIterator[Fact | Wait]:
        """Whole states, never deltas: all that is open now, then what changes. May repeat. Raises as a read."""

    async def passed(self, change: ChangeId) -> Passed:
        """Whether the tests passed for exactly this change."""

    async def log(self, run: RunId, part: str, start: int) -> LogPart:
        """Lines of a job's log from line `start` on."""

    async def cancel(self, run: RunId, why: Why) -> Answer:
        """Stop a run. Cancelling twice is the same as once."""


@runtime_checkable
class Deploy(Source, Protocol):
    """A place that runs versions."""

    def watch(self) -> AsyncIterator[Fact | Wait]:
        """Deployments as whole states, the newest ones first seen included. Raises as a read."""

    async def current(self) -> Deployment | None:
        """What runs there now; None: nothing was ever deployed. Raises as a read."""

    async def history(self, n: int) -> list[Deployment]:
        """The last `n` deployments, newest first. Raises as a read."""

    async def deploy(self, version: str, *, expected: DeploymentId | None, key: str, through: HoldId | None) -> Answer:
        """Put `version` there, if `expected` is still current where the system can compare.

        `key` is the same for a repetition; `through` is the hold that a fix passes.
        """

    async def abort(self, deployment: DeploymentId, why: Why) -> Answer:
        """Stop a deployment that is still rolling."""

    async def share(self, version: str, percent: int, *, expected: DeploymentId | None, key: str) -> Answer:
        """Give `version` that share of the traffic."""


@runtime_checkable
class Halting(Source, Protocol):
    """Something that ships, and can be told not to. A CI or a Deploy may be it."""

    async def halt(self, hold: HoldRef) -> Answer:
        """Let nothing more be shipped; halting twice is the same as once."""

    async def release(self, hold: HoldRef, before: Halted) -> Answer:
        """Restore what stood before, and nothing more."""

    async def halted(self) -> Halted:
        """What stands, by whose word, and what still moves. Raises as a read."""


@runtime_checkable
class Metrics(Source, Protocol):
    """A store of measurements."""

    async def samples(self, metric: Metric, start: Time, end: Time, every: float) -> Samples:
        """The closed buckets in `[start, end)`, aligned to `every`. Raises as a read. No data is not zero."""


@runtime_checkable
class Notifier(Source, Protocol):
    """Something that tells people."""

    async def tell(self, note: Note) -> Answer:
        """Tell it once; `note.key` is the same for a repetition."""


class Row(Record, frozen=True):
    """One event as the ledger holds it."""

    seq: int
    at: Time
    seen: Time
    kind: str
    v: int
    line: str
    body: bytes
    hash: str


class Lease(Record, frozen=True):
    """Who polls, judges and acts on its own."""

    holder: str
    epoch: int
    expires_at: Time
    """By the store's clock."""
    beat_at: Time = 0.0


class Pulse(Record, frozen=True):
    """A sign of life that is not an event: when a source was last read, who is in a room."""

    key: str
    at: Time
    state: str = ""
    words: str = ""


class Joined(Exception):
    """The claim belongs to an unsettled act already; `act` is that one."""

    def __init__(self, act: Act) -> None:
        super().__init__(act.id)
        self.act = act


class AlreadyHeld(Exception):
    """The owner has an open hold on that line; `hold` is its id."""

    def __init__(self, hold: HoldId) -> None:
        super().__init__(hold)
        self.hold = hold


class Moved(Exception):
    """Compare-and-set failed: the act is no longer in the state it was thought to be in."""


class LedgerUnusable(Exception):
    """The ledger cannot be read or written; the words say why and what to do."""


class Ledger(Protocol):
    """The record of everything seen and done. Its methods block, and belong to one thread (`keeper.Keeper`)."""

    read_only: bool

    def commit(self, *events: "object") -> None:
        """Append events in one transaction, all or none.

        Raises Joined for a claim that an unsettled act has, AlreadyHeld for a second open hold of one owner, Moved for a
        step from a state the act is not in, LedgerUnusable if it cannot be written. Each event is decoded again before
        it is committed, and refused if it does not come back equal (ValueError).
        """

    def read(self, after: int, limit: int = 1000) -> list[Row]:
        """Events with a higher `seq`, in order."""

    def recent(self, line: str, limit: int) -> list[Row]:
        """The newest events of a line, newest first; of all lines if `line` is empty."""

    def changed(self) -> bool:
        """Whether another connection wrote since the last call. Cheap."""

    def keep(self, series: str, rows: Sequence[Sample], forget_before: Time | None = None) -> None:
        """Keep samples; a later one for the same bucket replaces the earlier."""

    def samples(self, series: str, start: Time, end: Time) -> tuple[Sample, ...]:
        """Samples kept with `start <= at < end`, in order."""

    def pulse(self, pulses: Sequence[Pulse]) -> None:
        """Note signs of life, one per key."""

    def pulses(self) -> dict[str, Pulse]:
        """All signs of life."""

    def lease(self) -> Lease | None:
        """Who holds the lease now, by the store's clock; None: nobody."""

    def take_lease(self, holder: str, live_s: float) -> Lease | None:
        """Take or renew the lease; None if somebody else holds it. Its epoch grows whenever the holder changes."""

    def drop_lease(self, holder: str) -> None:
        """Hand it over at once."""

    def checkpoint(self, format_: str, seq: int, board: bytes) -> None:
        """Keep a folded board, with the hash of the row it ends at."""

    def last_checkpoint(self, format_: str) -> tuple[int, bytes] | None:
        """The newest checkpoint of that format whose row still has the hash it had then."""

    def verify(self) -> "Audit":
        """Walk the chain."""

    def close(self) -> None:
        """Close it."""


class Audit(Record, frozen=True):
    """What walking the chain showed. `broken_at` is the first row that does not fit; None: all do."""

    events: int
    broken_at: int | None = None
    words: str = ""
