"""Everything that can happen, one frozen record each: the ledger's vocabulary.

A kind is never renamed and never reused; fields are only added, with defaults. Each kind has its own decoder, so that an
old row is read by what its kind is today. `ACTS_AND_HOLDS` are the kinds which a process that does not know them must not
act over.
"""

from typing import Any, ClassVar, Literal

import msgspec

from andon.clock import Time
from andon.model import (
    Act,
    ActId,
    ActState,
    Change,
    Deployment,
    DeploymentId,
    Halted,
    Hold,
    HoldId,
    Record,
    Run,
    TargetId,
    Verdict,
    to_json,
)


class Event(Record, frozen=True):
    """Something that happened on a line; `at` is the clock of where it happened."""

    line: str
    at: Time


class ChangesSeen(Event, frozen=True):
    """Changes came in, in the CI's order, oldest first."""

    source: str
    changes: tuple[Change, ...]


class RunSeen(Event, frozen=True):
    """A run, as it stands now."""

    source: str
    run: Run


class DeploymentSeen(Event, frozen=True):
    """A deployment, as it stands now."""

    source: str
    deployment: Deployment


class HaltedSeen(Event, frozen=True):
    """What stands at a halting target; only when it is not what was seen before."""

    target: TargetId
    halted: Halted


SourceWord = Literal["ok", "gone", "denied", "error"]


class SourceSeen(Event, frozen=True):
    """A source went, or came back."""

    source: str
    state: SourceWord
    words: str = ""


class WatchOpened(Event, frozen=True):
    """A deployment's metrics are observed until `until`."""

    deployment: DeploymentId
    version: str
    until: Time
    began: Time
    """When the deployment began."""


class Armed(Event, frozen=True):
    """A metric was armed for a watch: all that the judge knew of it then, and what it expected."""

    text_limit: ClassVar[int] = 1 << 16

    deployment: DeploymentId
    metric: str
    record: str
    """The armed record as JSON (`immune.armed.Armed`): with the closed buckets it gives the same verdict again."""
    first: Time
    """The begin of the first bucket expected."""
    every: float
    expected: tuple[float, ...] = ()
    """Per bucket of the watch, as a person reads the metric."""
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    """The band in which nearly all buckets lie while nothing happens."""


class Judged(Event, frozen=True):
    """A verdict on one metric of a deployment, or, with an empty metric, on the deployment; the numbers are those seen."""

    deployment: DeploymentId
    verdict: Verdict
    final: bool = False
    """Whether the watch ended with it."""
    did: str = ""
    """What the policy did about it, in words."""


class Helped(Event, frozen=True):
    """Whether going back from a deployment brought its metric back."""

    deployment: DeploymentId
    word: Literal["recovered", "not recovered", "too early"]
    sentence: str
    hold: HoldId = ""


class HoldPlaced(Event, frozen=True):
    """The cord was pulled."""

    hold: Hold


class HoldTaken(Event, frozen=True):
    """Somebody has it."""

    hold: HoldId
    who: str
    by: str = ""
    """Who handed it over; empty: whoever has it took it."""


class HoldChanged(Event, frozen=True):
    """What is said of a hold changed: its reason, or until when it is meant to hold."""

    hold: HoldId
    who: str
    why: str = ""
    """The new reason; empty: as before."""
    until: Time | None = None
    """The new end; 0: none; None: as before."""


class CallTaken(Event, frozen=True):
    """Somebody looks into a call; its time goes on."""

    call: ActId
    who: str


class HoldLifted(Event, frozen=True):
    """A reason to stop is gone."""

    hold: HoldId
    who: str
    why: str


class ActAsked(Event, frozen=True):
    """An intent: durable before anything is sent."""

    act: Act


class ActStepped(Event, frozen=True):
    """An act went from one state to another; the same state again notes another try."""

    act: ActId
    was: ActState
    now: ActState
    words: str = ""
    ref: str = ""
    by: str = ""
    """The process that made the step."""


MarkWord = Literal["good", "faulty", "irreversible"]


class Marked(Event, frozen=True):
    """Somebody, or the immune system, says what a deployment is."""

    deployment: DeploymentId
    version: str
    mark: MarkWord
    who: str
    why: str


class Started(Event, frozen=True):
    """An engine took the lease with this configuration."""

    holder: str
    epoch: int
    config: str = ""
    """A digest of the configuration, without secrets."""
    version: str = ""


KINDS: dict[str, type[Event]] = {
    "changes-seen": ChangesSeen,
    "run-seen": RunSeen,
    "deployment-seen": DeploymentSeen,
    "halted-seen": HaltedSeen,
    "source-seen": SourceSeen,
    "watch-opened": WatchOpened,
    "armed": Armed,
    "judged": Judged,
    "helped": Helped,
    "hold-placed": HoldPlaced,
    "hold-taken": HoldTaken,
    "hold-changed": HoldChanged,
    "call-taken": CallTaken,
    "hold-lifted": HoldLifted,
    "act-asked": ActAsked,
    "act-stepped": ActStepped,
    "marked": Marked,
    "started": Started,
}
NAMES: dict[type[Event], str] = {cls: name for name, cls in KINDS.items()}
ACTS_AND_HOLDS = ("act-", "hold-")
"""Prefixes of kinds that make a process read-only for a line when it does not know them."""

_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {name: msgspec.json.Decoder(cls) for name, cls in KINDS.items()}


def encode(event: Event) -> tuple[str, bytes]:
    """The kind and the body of an event, as the ledger keeps them."""
    return NAMES[type(event)], to_json(event)


def decode(kind: str, body: bytes) -> Event | None:
    """The event of a row; None for a kind this version does not know. Raises ValueError if the body does not fit."""
    decoder = _DECODERS.get(kind)
    if decoder is None:
        return None
    event: Event = decoder.decode(body)
    return event


def is_binding(kind: str) -> bool:
    """Whether an unknown event of this kind makes this process read-only for its line."""
    return kind.startswith(ACTS_AND_HOLDS)
