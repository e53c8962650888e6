"""What can be said of one metric of one deployment: the records of it, and the arithmetic, for a thread of its own.

The judge goes over the recorded numbers again, as in a replay: the armed record and the closed buckets give the same
evidence.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from andon.clock import Time
from andon.events import Armed
from andon.model import Metric, Sample

if TYPE_CHECKING:
    from andon.immune.pursuit import Pursuit


class Want(msgspec.Struct, frozen=True):
    """What is looked at."""

    line: str
    deployment: str
    """Its id; empty: no deployment, only the buckets."""
    metrics: tuple[str, ...]
    span_s: float = 0.0
    """How far back from now the buckets are; 0: about the deployment."""


class Look(msgspec.Struct, frozen=True):
    """One bucket of the watch, and the evidence after it."""

    at: Time
    evidence: float
    """Of the judge: log10 of the odds against *nothing changed*. Of bounds: seconds beyond them without a break."""


class Effect(msgspec.Struct, frozen=True):
    """How far it is from what was expected, as a signed part: -0.38, and between which values."""

    size: float
    low: float | None = None
    high: float | None = None
    """None: bounds say nothing of how sure it is."""


class Found(msgspec.Struct, frozen=True):
    """What can be said of one metric."""

    rows: tuple[Sample, ...] = ()
    """The buckets, oldest first."""
    armed: Armed | None = None
    looks: tuple[Look, ...] = ()
    needed: float = 0.0
    """The evidence at which it acts."""
    before: float | None = None
    after: float | None = None
    count: int = 0
    """Buckets that `after` is made of."""
    effect: Effect | None = None
    onset: Time | None = None
    seen: Time | None = None
    p: float | None = None
    can: str = ""
    """The smallest effect that the watch can show, in words."""
    odd: str = ""
    """What was odd before the deployment already."""
    words: str = ""
    """Why something is not known."""


class Study(msgspec.Struct, frozen=True):
    """What was found, and when."""

    want: Want
    at: Time
    start: Time
    end: Time
    found: dict[str, Found]


class Followed:
    """One metric of one deployment, judged again bucket by bucket; gone on with when there are new ones."""

    def __init__(self, record: str) -> None:
        """Raises ValueError if `record` cannot be read."""
        from andon.immune.pursuit import Pursuit

        self.record = record
        self.pursuit = Pursuit(record)
        self._rows: list[Sample] = []
        self._later: tuple[Time, ...] = ()
        self._looks: list[Look] = []

    def found(self, metric: Metric, armed: Armed, rows: list[Sample], later: tuple[Time, ...]) -> Found | None:
        """What is found with these buckets; None: not one of them could be used."""
        from andon.immune.pursuit import Pursuit

        if rows[: len(self._rows)] != self._rows or later != self._later:
            self.pursuit, self._rows, self._looks = Pursuit(self.record), [], []
        self._later = later
        for row in rows[len(self._rows) :]:
            self._rows.append(row)
            if self.pursuit.found is None:
                asyncio.run(self.pursuit.follow(self._rows, later, _here))
            evidence = max(-9.0, self.pursuit.judge.evidence.log_evidence / math.log(10))
            self._looks.append(Look(row.at, round(evidence, 3)))
        pursuit = self.pursuit
        needed = round(pursuit.armed.threshold / math.log(10), 3)
        if not pursuit.count:
            return Found(armed=armed, looks=tuple(self._looks), needed=needed, words="no usable bucket yet")
        found = pursuit.found
        was, now = pursuit.means(found.onset if found else pursuit.began)
        effect = Effect(found.effect, found.low, found.high) if found else _so_far(pursuit, was, now)
        return Found(
            armed=armed,
            looks=tuple(self._looks),
            needed=needed,
            before=was,
            after=now,
            count=len(self._rows),
            effect=effect,
            onset=found.onset if found else None,
            seen=found.seen if found else None,
            p=found.p if found else None,
            odd=pursuit.odd_before,
        )


async def _here(work: Callable[..., Any], *arguments: Any) -> Any:
    """Do work where it is asked for: this thread is there for it."""
    return work(*arguments)


def _so_far(pursuit: "Pursuit", was: float, now: float) -> Effect | None:
    """How far it is from what was expected since the deployment, as sure as `immune.lasting` says of a regression."""
    from andon.immune.judging import SURE_SD

    if not was:
        return None
    evidence, armed = pursuit.judge.evidence, pursuit.armed
    size = now / was - 1
    f = float(evidence.windows()[0])
    if armed.frame.additive:
        information = evidence.count / armed.variance
    else:
        information = float(evidence.expected[: evidence.count].sum()) / max(1 + size, 0.02)
    error = SURE_SD * math.sqrt(f / max(information, 1e-9))
    if armed.scale and armed.frame.additive:
        error *= armed.scale / abs(was)
    return Effect(size, max(size - error, -1.0) if was > 0 else size - error, size + error)


def can(metric: Metric, armed: Armed, watched: tuple[Time, Time]) -> str:
    """The smallest effect that the watch can show, in words."""
    from andon.immune.armed import Armed as Record
    from andon.immune.power import power

    record = msgspec.json.decode(armed.record, type=Record)
    return power(metric, record, watched[1] - watched[0]).words


def mean(metric: Metric, rows: Sequence[Sample]) -> float | None:
    """What a person reads of several buckets together; None: they hold nothing."""
    if metric.kind == "proportion":
        trials = sum(row.n or 0.0 for row in rows)
        return sum(row.value for row in rows if row.n) / trials if trials else None
    values = [row.value for row in rows]
    return sum(values) / len(values) if values else None


def beyond(metric: Metric, rows: Sequence[Sample]) -> tuple[tuple[Look, ...], float]:
    """For bounds: after each bucket for how long it has been beyond them without a break, and how long is too long."""
    if metric.threshold is None:
        return (), 0.0
    from andon.immune.threshold import buckets_of

    looks: list[Look] = []
    run, before = 0, None
    for row in rows:
        value = row.shown(metric.kind)
        broken = before is not None and abs(before + metric.every - row.at) > 1e-6
        out = value is not None and metric.threshold.beyond(value)
        run = (0 if broken else run) + 1 if out else 0
        before = row.at
        looks.append(Look(row.at, run * metric.every))
    return tuple(looks), buckets_of(metric, metric.threshold) * metric.every
