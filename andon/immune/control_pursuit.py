"""One metric of one deployment, followed beside its control: the armed record, buckets of both sides, what they say."""

import bisect
import math
from collections.abc import Sequence

import msgspec
import numpy as np

from andon.board import Watch
from andon.clock import Time
from andon.events import Armed as ArmedEvent
from andon.immune import control
from andon.immune.control import Side
from andon.immune.control_arming import ControlArmed, arm_beside
from andon.immune.control_judge import ControlJudge
from andon.immune.control_power import smallest
from andon.immune.history import Frame
from andon.immune.judging import Regression
from andon.immune.pursuit import AT_ONCE, ENOUGH_FALL, ENOUGH_RATIO, InThread, Pursuit
from andon.model import Metric, Sample, to_json


class ControlPursuit:
    """Follows the buckets of one watch, each with that of its control. It is asked what a `Pursuit` is asked."""

    crowded = False

    def __init__(self, record: str) -> None:
        """`record` is the JSON text of a `ControlArmed`. Raises ValueError if it is none."""
        self.armed = msgspec.json.decode(record, type=ControlArmed)
        self.judge = ControlJudge(self.armed)
        self.fed: list[Sample] = []
        self._expected: tuple[list[Time], list[float]] = [], []
        """When buckets of both sides began, also after the watch, and what was expected of them."""
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
        """How many buckets of both sides the judge used."""
        return self.judge.evidence.count

    @property
    def until(self) -> Time:
        """The end of its window."""
        return self.armed.until

    @property
    def odd_before(self) -> str:
        """How far the canary's side was off before the deployment; empty: it was not, as far as can be told."""
        return f"{100 * self.armed.odd:+.0f} % beside its control" if self.armed.odd else ""

    async def follow(self, rows: Sequence[Sample], later: Sequence[Time], in_thread: InThread) -> None:
        """Take what is new of the closed buckets, all of which are given; a gap that was filled is taken in its place."""
        if self.found is not None:
            return
        fresh, known = tuple(sorted(later)), len(self.fed)
        if list(rows[:known]) != self.fed or (fresh != self._later and known):
            self.judge, self.fed, known = ControlJudge(self.armed), [], 0
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
            if self.judge.take(row.at, *sides(row)) is not None:
                return

    def knows(self, rows: Sequence[Sample]) -> None:
        """Buckets of both sides, also of after the watch, are known: what was expected is told from them."""
        both = [(row.at, *sides(row)) for row in rows if row.control]
        usable = [item for item in both if control.usable(self.armed.kind, *item[1:])]
        self._expected = [at for at, *_ in usable], [self._shown(canary, other) for _, canary, other in usable]

    def _shown(self, canary: Side, other: Side) -> float:
        """What was expected of a bucket, as a person reads it."""
        usual = control.expected(self.armed.kind, canary, other, self.armed.before)
        return usual / canary[1] if self.armed.frame.proportion else usual

    def means(self, since: Time) -> tuple[float, float]:
        """What was expected, from the control, and what was seen since then, as a person reads them."""
        evidence = self.judge.evidence
        first = int(np.searchsorted(evidence.at[: evidence.count], since))
        rows = slice(min(first, max(evidence.count - 1, 0)), max(evidence.count, 1))
        usual, seen = evidence.expected[rows], evidence.y[rows]
        if self.armed.frame.additive and evidence.count:
            return math.exp(float(np.log(usual).mean())), math.exp(float(np.log(seen).mean()))
        exposure = max(float(evidence.exposure[rows].sum()), 1e-12)
        return float(usual.sum()) / exposure, float(seen.sum()) / exposure

    def expected(self, at: Time) -> float:
        """What was expected of the bucket that begins then: what its control showed; else what it showed last."""
        ats, usual = self._expected
        index = bisect.bisect_right(ats, at + 1e-6)
        return usual[index - 1] if index else self.means(self.armed.began)[0]

    def power(self) -> tuple[bool, str]:
        """Whether this watch could have shown an effect that matters, and in words what it could."""
        armed = self.armed
        effect = smallest(self.judge.evidence)
        most = ENOUGH_RATIO if armed.rises and not armed.frame.additive else ENOUGH_FALL
        what = "rise" if armed.rises else "fall"
        if effect is None:
            return False, f"so little traffic beside its control can show no {what}, however large"
        size = f"{100 * effect:.0f} %"
        if effect > most:
            return False, f"this watch can show a {what} of {size} beside its control, not less"
        return True, f"a {what} of {size} would have shown"


def sides(row: Sample) -> tuple[Side, Side]:
    """Value and exposure of both sides of a bucket; NaN for what is not there."""
    value, n = (*row.control, math.nan, math.nan)[:2]
    return (row.value, math.nan if row.n is None else row.n), (value, n)


def joined(rows: Sequence[Sample], others: Sequence[Sample]) -> list[Sample]:
    """The buckets of a metric, each with that of its control at the same time; those that have none stay without."""
    known = {row.at: row for row in others}
    found = []
    for row in rows:
        other = known.get(row.at)
        if other is not None:
            beside = (other.value,) if other.n is None else (other.value, other.n)
            row = msgspec.structs.replace(row, control=beside)
        found.append(row)
    return found


def pursuit_of(record: str) -> Pursuit | ControlPursuit:
    """What follows a metric that was armed so: beside its control, or by its own past. Raises ValueError."""
    kind = msgspec.json.decode(record, type=_Tagged).type
    return ControlPursuit(record) if kind == "control" else Pursuit(record)


class _Tagged(msgspec.Struct):
    """How an armed record says what it is: the older kind says nothing."""

    type: str = ""


def arm_watch_beside(
    line: str, metric: Metric, watch: Watch, rows: Sequence[Sample], others: Sequence[Sample], *, metrics: int
) -> ArmedEvent:
    """Arm a metric for a watch with its buckets and its control's before the deployment. Raises Unarmed."""
    # The bucket in which the deployment began holds both: it is left out.
    began = math.ceil(watch.began / metric.every - 1e-9) * metric.every
    end = watch.began // metric.every * metric.every
    ours, theirs = ({row.at: row for row in side if row.at < end} for side in (rows, others))
    table = [(at, *_pair(ours.get(at)), *_pair(theirs.get(at))) for at in sorted({*ours, *theirs})]
    armed = arm_beside(
        Frame(metric.kind, metric.bad == "rises", metric.every, began),
        np.array(table, dtype=float).reshape(-1, 5),
        watch.until,
        metrics=metrics,
    )
    return ArmedEvent(
        line=line,
        at=watch.began,
        deployment=watch.deployment,
        metric=metric.name,
        record=to_json(armed).decode(),
        first=began,
        every=metric.every,
    )


def _pair(row: Sample | None) -> tuple[float, float]:
    if row is None:
        return math.nan, math.nan
    return row.value, math.nan if row.n is None else row.n
