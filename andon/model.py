"""The nouns of a production line: frozen records, whose outside text is cleaned when they are made.

Times are `clock.Time`: seconds since 1970-01-01 UTC. Text fields hold one cleaned line each (`text.clean`), numbers are
finite: a record that would hold NaN or an infinity is refused with ValueError, so that nothing behind this edge meets one.
"""

import math
import os
from typing import Any, ClassVar, Literal

import msgspec

from andon.clock import Time
from andon.text import FIELD_LIMIT, LINE_LIMIT, clean

LineName = str
ChangeId = str
RunId = str
DeploymentId = str
HoldId = str
ActId = str
TargetId = str
"""Names one halting or deploying target across lines: `connection` or `connection/name`."""

LINE_NAME = r"[a-z0-9-]{1,40}"


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """A frozen value. Every text in it is cleaned on entry; every number in it is finite."""

    text_limit: ClassVar[int] = FIELD_LIMIT

    def __post_init__(self) -> None:
        """Clean the text fields; refuse numbers that are not finite with ValueError."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            kind = type(value)
            if kind is str:
                if not (len(value) <= self.text_limit and value.isascii() and value.isprintable()):
                    msgspec.structs.force_setattr(self, name, clean(value, self.text_limit))
            elif kind is float:
                if not math.isfinite(value):
                    raise ValueError(f"{type(self).__name__}.{name} must be a finite number, not {value}")
            elif kind is tuple and value and type(value[0]) is str:
                msgspec.structs.force_setattr(self, name, tuple(clean(item, self.text_limit) for item in value))


def new_id() -> str:
    """A short random id that people can read out and type: 8 letters and digits, 40 bits."""
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"  # 32 of them: each takes 5 bits of a byte
    return "".join(alphabet[byte & 31] for byte in os.urandom(8))


class Change(Record, frozen=True):
    """One commit or merged pull request."""

    id: ChangeId
    title: str = ""
    author: str = ""
    at: Time = 0.0


RunState = Literal["waiting", "running", "passed", "failed", "cancelled"]
Station = Literal["build", "test", "deploy"]
DONE: frozenset[str] = frozenset({"passed", "failed", "cancelled"})


class Job(Record, frozen=True):
    """One job or step of a stage; `log` names the part that `CI.log` reads, empty where there is none."""

    name: str
    state: RunState
    at: Time = 0.0
    ended_at: Time | None = None
    log: str = ""


class Stage(Record, frozen=True):
    """One stage of a run, and the station of the line at which it happens."""

    name: str
    station: Station
    state: RunState
    at: Time = 0.0
    ended_at: Time | None = None
    usual_s: float | None = None
    jobs: tuple[Job, ...] = ()


class Run(Record, frozen=True):
    """One execution of a CI pipeline for a change."""

    id: RunId
    change: ChangeId
    state: RunState
    stages: tuple[Stage, ...] = ()
    at: Time = 0.0
    ended_at: Time | None = None
    branch: str = ""
    who: str = ""
    words: str = ""
    """What the CI says of it, in its own words."""


DeploymentState = Literal["rolling", "settled", "failed"]


class Deployment(Record, frozen=True):
    """One act of putting a version into the environment; told apart by `id`, never by version."""

    id: DeploymentId
    version: str
    state: DeploymentState
    at: Time = 0.0
    """When it began."""
    by: str = ""
    change: ChangeId = ""
    """The change it ships, where the version alone does not say it."""
    verified: bool | None = None
    """The vendor's own marker of a good deployment; None where it has none."""
    available: bool = True
    """Whether the artefact still exists and can be deployed again."""
    back: bool = False
    """Whether it went back to an earlier version."""
    share: int = 100
    """Per cent of the traffic it serves, where the target knows."""
    words: str = ""


class Part(Record, frozen=True):
    """One thing that a halt stops: a worker, a workflow, a gate."""

    name: str
    halted: bool
    note: str = ""
    """What stands there as the reason, in the vendor's words; a hold of ours is named by its id."""
    moving: tuple[str, ...] = ()
    """What still moves there: runs, deployments."""


class Halted(Record, frozen=True):
    """What was read of a halting target."""

    parts: tuple[Part, ...] = ()
    at: Time = 0.0

    @property
    def halted(self) -> bool:
        """Whether every part stands."""
        return bool(self.parts) and all(part.halted for part in self.parts)

    @property
    def moving(self) -> tuple[str, ...]:
        """What still moves, over all parts."""
        return tuple(name for part in self.parts for name in part.moving)

    def same(self, other: "Halted | None") -> bool:
        """Whether both say the same, whenever they were read."""
        return other is not None and self.parts == other.parts


OwnerKind = Literal["person", "immune", "rule"]


class Hold(Record, frozen=True):
    """One reason why a line is stopped."""

    id: HoldId
    line: LineName
    owner: str
    why: str
    since: Time
    stop: HoldId
    """The stop it belongs to, which lasts from the line's first open hold to the lifting of its last."""
    kind: OwnerKind = "person"
    has: str = ""
    """Who took it on; empty: nobody."""
    until: Time | None = None
    lifted_at: Time | None = None
    lifted_by: str = ""
    lifted_why: str = ""
    deployment: DeploymentId = ""
    """The deployment it was placed for, if one is suspected."""

    @property
    def open(self) -> bool:
        """Whether it still holds."""
        return self.lifted_at is None


class HoldRef(Record, frozen=True):
    """What an adapter is told of a hold; its id goes into the vendor's note."""

    id: HoldId
    line: LineName
    who: str
    why: str

    @property
    def note(self) -> str:
        """The sentence for a vendor's reason field."""
        return f"andon hold {self.id} by {self.who}: {self.why}"


class Why(Record, frozen=True):
    """Who asked for something, and why."""

    who: str
    text: str


class Note(Record, frozen=True):
    """What a notifier is told."""

    text_limit: ClassVar[int] = LINE_LIMIT

    line: LineName
    title: str
    text: str
    key: str
    kind: Literal["stopped", "resumed", "rollback", "verdict", "blind", "called"] = "stopped"
    who: str = ""
    authors: tuple[str, ...] = ()
    at: Time = 0.0


ActKind = Literal["halt", "release", "push", "rollback", "cancel", "tell", "call"]
ActState = Literal[
    "intent",
    "sent",
    "accepted",
    "unknown",
    "verified",
    "refused",
    "failed",
    "superseded",
    "withdrawn",
    "expired",
]
SETTLED: frozenset[str] = frozenset({"verified", "refused", "failed", "superseded", "withdrawn", "expired"})


class Act(Record, frozen=True):
    """One thing andon changes outside: who asked for what, and how far it has come."""

    id: ActId
    kind: ActKind
    line: LineName
    target: TargetId
    subject: str
    """What it is about: the stop, the expected deployment, the run, the note."""
    who: str
    why: str
    at: Time
    not_before: Time
    not_after: Time
    """Not sent later than this, unless it is a halt or a release, which are wanted as long as the stop is."""
    environment: str = ""
    asker: str = ""
    """The process in which it was asked, which sends it."""
    auto: bool = False
    """Asked by the immune system, not by a person."""
    data_age_s: float = 0.0
    """How old the data on the screen was when it was asked."""
    expected: DeploymentId = ""
    version: str = ""
    hold: HoldId = ""
    """The hold it belongs to: its halt, its release, the hold a push goes through."""
    before: Halted | None = None
    """What stood at the target before a halt; what a release restores."""
    state: ActState = "intent"
    words: str = ""
    """Why it is in this state, in words."""
    ref: str = ""
    """What the vendor calls what it began."""
    sent_at: Time | None = None
    answered_at: Time | None = None
    settled_at: Time | None = None
    tries: int = 0
    note: Note | None = None
    """What a `tell` says."""

    @property
    def settled(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in SETTLED

    @property
    def claim(self) -> str:
        """What only one unsettled act may be about."""
        kind = "ship" if self.kind in ("push", "rollback") else self.kind
        return f"{kind}|{self.line}|{self.target}|{self.subject}"


MetricKind = Literal["proportion", "count", "sum", "latency", "gauge"]


class Threshold(Record, frozen=True, rename={"for_s": "for"}):
    """Bounds a metric must keep; a value beyond them for `for_s` seconds after a deployment is a regression."""

    above: float | None = None
    below: float | None = None
    for_s: float = 180.0

    def beyond(self, value: float) -> bool:
        """Whether `value` is out of bounds."""
        return (self.above is not None and value > self.above) or (self.below is not None and value < self.below)

    @property
    def words(self) -> str:
        """The bound, for a sentence: `below 0.02`."""
        below = f"below {self.below:g}" if self.below is not None else ""
        above = f"above {self.above:g}" if self.above is not None else ""
        return " or ".join(part for part in (below, above) if part)


OnRegression = Literal["rollback", "stop", "tell"]


class Control(Record, frozen=True):
    """What a metric is compared with at the same time: the queries for the side that was not deployed to."""

    text_limit: ClassVar[int] = LINE_LIMIT

    value: str
    n: str = ""


class Metric(Record, frozen=True):
    """A named series: what it measures, which direction is bad, and what to do about it."""

    text_limit: ClassVar[int] = LINE_LIMIT

    name: str
    source: str
    """The connection that answers for it."""
    kind: MetricKind
    bad: Literal["falls", "rises"]
    value: str
    """The query, in the source's language; `$every` stands for the bucket's length."""
    n: str = ""
    """The query for the number of trials or requests, where the kind has one."""
    every: float = 60.0
    """Length of a bucket in seconds."""
    lag: float = 60.0
    """Seconds after its end when a bucket is complete."""
    short: str = ""
    unit: str = ""
    on_regression: OnRegression = "stop"
    on_blind: Literal["tell", "stop"] = "tell"
    threshold: Threshold | None = None
    control: Control | None = None

    @property
    def label(self) -> str:
        """Its short name: at most four signs."""
        return self.short or self.name[:4]

    @property
    def beside(self) -> "Metric | None":
        """The series of its control, as a metric that is asked and kept like any other; None: it has none."""
        if self.control is None:
            return None
        name = f"{self.name} (control)"
        return msgspec.structs.replace(self, name=name, value=self.control.value, n=self.control.n, control=None)


class Sample(Record, frozen=True, array_like=True):
    """One closed bucket `[at, at+every)` of a metric.

    For a proportion `value` is the numerator and `n` the trials; for a latency `n` is the number of requests.
    """

    at: Time
    value: float
    n: float | None = None
    control: tuple[float, ...] = ()
    """What its control was in the same bucket: its value, and its n where it has one; empty: not compared with one."""

    def shown(self, kind: MetricKind) -> float | None:
        """The number a person reads: the share for a proportion, else the value. None if there were no trials."""
        if kind != "proportion":
            return self.value
        return self.value / self.n if self.n else None


class Samples(Record, frozen=True):
    """An answer of a metrics source: closed buckets, and whether they are all there."""

    state: Literal["ok", "empty", "partial", "stale"]
    rows: tuple[Sample, ...] = ()
    words: str = ""


VerdictWord = Literal["healthy", "regressed", "undecided", "blind"]


class Verdict(Record, frozen=True):
    """What was found of one metric, or of a deployment as a whole, with the sentence that says why."""

    word: VerdictWord
    sentence: str
    metric: str = ""
    onset: Time | None = None
    at: Time = 0.0
    numbers: tuple[Sample, ...] = ()
    """The buckets it was found from, as they were seen then."""


class LogPart(Record, frozen=True):
    """Lines of a log from `start` on; `next` is where to go on, `done` says that no more will come."""

    text_limit: ClassVar[int] = LINE_LIMIT

    lines: tuple[str, ...]
    next: int
    done: bool = False


class Identity(Record, frozen=True):
    """Who we are to an outside system, and what it is: for `andon check`."""

    account: str
    server: str = ""
    found: tuple[str, ...] = ()
    """Rights and things found."""
    missing: tuple[str, ...] = ()
    """Rights and things that are missing; not empty: `check` fails."""
    clock: Time | None = None
    """What time it is there."""


def to_json(value: Any) -> bytes:
    """`value` as JSON; the one encoder of records."""
    return _ENCODER.encode(value)


_ENCODER = msgspec.json.Encoder()
