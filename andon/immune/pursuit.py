"""One metric of one deployment, followed: the armed record, the buckets fed so far, and what they say."""

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from andon.board import Watch
from andon.clock import Time
from andon.events import Armed as ArmedEvent
from andon.immune.armed import Armed, arm
from andon.immune.history import Frame
from andon.immune.judging import Judge, Regression
from andon.model import Metric, Sample, to_json

AT_ONCE = 20
"""More buckets than these are fed in a thread: the engine's loop is not to wait."""
BAND_SD = 2.0
ENOUGH_FALL, ENOUGH_RATIO = 0.30, 1.0
"""A watch that could have shown an effect of this size, and did not, is healthy: parts; and for rates that rise."""
DIGITS = 9
InThread = Callable[..., Awaitable[Any]]


class Pursuit:
    """Follows the buckets of one watch."""

    def __init__(self, record: str) -> None:
        """`record` is the JSON text of an `Armed`. Raises ValueError if it is none."""
        self.armed = msgspec.json.decode(record, type=Armed)
        self.judge = Judge(self.armed)
        self.fed: list[Sample] = []
        self._later: tuple[Time, ...] = ()

    @property
    def began(self) -> Time:
        """The begin of the first whole bucket after the deployment."""
        return self.armed.began

    @property
    def found(self) -> Regression | None:
        """The regression, once found."""
        return self.judge.found

    @property
    def count(self) -> int:
        """How many entries the judge used."""
        return self.judge.evidence.count

    @property
    def crowded(self) -> bool:
        """Whether it looks bad only because of more trials."""
        return self.judge.crowded

    @property
    def odd_before(self) -> str:
        """What was odd before the deployment, in a word; empty: nothing, as far as it matters."""
        return {"incident": "off", "growing": "getting worse"}.get(self.armed.state, "")

    async def follow(self, rows: Sequence[Sample], later: Sequence[Time], in_thread: InThread) -> None:
        """Take what is new of the closed buckets, all of which are given; a gap that was filled is taken in its place."""
        if self.found is not None:
            return
        fresh = tuple(sorted(later))
        known = len(self.fed)
        if list(rows[:known]) != self.fed or (fresh != self._later and known):
            self.judge, self.fed, known = Judge(self.armed), [], 0
        self._later = fresh
        if len(rows) - known > AT_ONCE:
            await in_thread(self._feed, rows[known:])
        else:
            self._feed(rows[known:])

    def _feed(self, rows: Sequence[Sample]) -> None:
        for at in self._later:
            self.judge.note_deployment(at)
        for row in rows:
            self.fed.append(row)
            if self.judge.take(row.at, row.value, math.nan if row.n is None else row.n) is not None:
                return

    def means(self, since: Time) -> tuple[float, float]:
        """What was expected and what was seen since then, as a person reads them."""
        evidence, armed = self.judge.evidence, self.armed
        first = int(np.searchsorted(evidence.at[: evidence.count], since))
        rows = slice(min(first, max(evidence.count - 1, 0)), evidence.count)
        if armed.frame.additive:
            rest = float(evidence.y[rows].mean()) if evidence.count else 0.0
            usual = [self.expected(at) for at in evidence.at[rows]] or [self.expected(armed.began)]
            was = float(np.mean(usual))
            return was, was + rest * armed.scale if armed.scale else was * math.exp(rest)
        exposure = max(float(evidence.exposure[rows].sum()), 1e-9) / (armed.scale or 1.0)
        return float(evidence.expected[rows].sum()) / exposure, float(evidence.y[rows].sum()) / exposure

    def expected(self, at: Time) -> float:
        """What was expected of the bucket that begins then, as a person reads it."""
        return _shown(self.armed, self.judge.evidence.factor(at))

    def power(self) -> tuple[bool, str]:
        """Whether this watch could have shown an effect that matters, and in words what it could."""
        from andon.immune.power import smallest

        evidence, armed = self.judge.evidence, self.armed
        effect = smallest(armed, max(evidence.count, 1))
        most = ENOUGH_RATIO if armed.rises and not armed.frame.additive else ENOUGH_FALL
        what = "rise" if armed.rises else "fall"
        if effect is None:
            return False, f"this watch can show no {what}, however large"
        size = f"{100 * effect:.0f} %"
        if effect > most:
            return False, f"this watch can show a {what} of {size}, not less"
        return True, f"a {what} of {size} would have shown"


def arm_watch(
    line: str,
    metric: Metric,
    watch: Watch,
    rows: Sequence[Sample],
    *,
    metrics: int,
    suspects: Sequence[Time],
    past: Sequence[Time],
    after_s: float,
) -> ArmedEvent:
    """Arm a metric for a watch: the event for the ledger, with what is expected and the band about it."""
    # The bucket in which the deployment began holds both: it is left out.
    began = math.ceil(watch.began / metric.every - 1e-9) * metric.every
    end = watch.began // metric.every * metric.every
    table = np.array([(row.at, row.value, math.nan if row.n is None else row.n) for row in rows if row.at < end])
    table = table.reshape(-1, 3)
    armed = arm(
        Frame(metric.kind, metric.bad == "rises", metric.every, began),
        table[:, 0],
        table[:, 1],
        table[:, 2],
        metrics=metrics,
        watch_s=watch.until - began,
        after_s=after_s,
        suspects=suspects,
        past=past,
    )
    expected, low, high = band(armed)
    return ArmedEvent(
        line=line,
        at=watch.began,
        deployment=watch.deployment,
        metric=metric.name,
        record=to_json(armed).decode(),
        first=began,
        every=metric.every,
        expected=expected,
        low=low,
        high=high,
    )


def band(armed: Armed) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """What is expected of each bucket of the watch, and two standard deviations either side, as a person reads them."""
    usual = np.array([_shown(armed, factor) for factor in armed.factors[: armed.watched]])
    f = armed.inflation.table[0][0]
    if armed.frame.additive:
        error = BAND_SD * math.sqrt(armed.variance * f)
        low, high = (
            (usual - error * armed.scale, usual + error * armed.scale)
            if armed.scale
            else (
                usual * math.exp(-error),
                usual * math.exp(error),
            )
        )
    else:
        e = armed.exposure if armed.frame.proportion else 1.0
        unit = armed.scale or 1.0
        error = BAND_SD * np.sqrt(np.maximum(usual, 1e-12) * unit * (1 - armed.share) * f / e)
        low, high = np.maximum(usual - error, 0.0), usual + error
    return _rounded(usual), _rounded(low), _rounded(high)


def _shown(armed: Armed, factor: float) -> float:
    if not armed.frame.additive:
        return armed.level * factor * (armed.scale or 1.0)
    return armed.scale * (armed.level + factor) if armed.scale else math.exp(armed.level + factor)


def _rounded(values: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> tuple[float, ...]:
    return tuple(float(f"{value:.{DIGITS}g}") for value in values)
