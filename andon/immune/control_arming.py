"""Arming a metric that has a control: how both sides stood beside each other while nothing was deployed.

Where they were measured together before, that A/A period says how much their ratio wanders by itself and whether the
canary's side was off already; where they were not, nothing is taken from it but a common spare for clumps of events.
"""

import math

import msgspec
import numpy as np

from andon.clock import Time
from andon.immune.arith import Floats, as_floats, ranked, running
from andon.immune.armed import ALPHA, RESTART_S
from andon.immune.control import TINY, usable
from andon.immune.history import ABSURD, Frame
from andon.immune.inflation import Q98
from andon.model import MetricKind

SPARE = 1.25
"""Evidence is divided by this at least: events of one visitor come together."""
BLOCKS_MIN = (1, 5, 15)
LEAST_BLOCKS = 12
LEAST_PAIRS = 60
"""Latency and gauges have no model of their own: so many buckets of both sides must be known."""
LEAST_OF_MONEY = 20
"""From so many buckets the unit is known in which a sum varies as a count does."""
LOOKS_MIN = (10, 30, 60)
OFF_SD = 3.0
"""Standard deviations beyond which the canary's side was off before."""
MOST_OFF = math.log(1000)
"""A side that was further off is not what it is compared with."""
LEAST_VARIANCE = 1e-8


class ControlArmed(msgspec.Struct, frozen=True, tag="control"):
    """A metric armed for one deployment beside a control. Times in seconds."""

    kind: MetricKind
    rises: bool
    step: float
    began: Time
    until: Time
    """The end of its window: the canary's."""
    threshold: float
    """log(metrics / alpha): what the log evidence has to reach."""
    inflation: float = SPARE
    """What evidence is divided by: one number, which keeps its bound."""
    before: float = 1.0
    """The canary's rate as a part of the control's before the deployment; 1: alike, or better."""
    odd: float = 0.0
    """By which signed part the canary's side was off in the hour before; 0: it was not."""
    unit: float = 0.0
    """In which a sum of money varies as a count does; 0: not known, or not needed."""
    variance: float = 0.0
    """Of the difference of logarithms, for latency and gauges."""
    pairs: int = 0
    """How many buckets of both sides it was armed with."""
    restart_s: float = RESTART_S

    @property
    def frame(self) -> Frame:
        """What is judged."""
        return Frame(self.kind, self.rises, self.step, self.began)

    @property
    def size(self) -> int:
        """How many buckets its window has, at most."""
        return max(1, math.ceil((self.until - self.began) / self.step)) + 2


class Unarmed(Exception):
    """It cannot be armed; the words say why."""


def arm_beside(frame: Frame, rows: Floats, until: Time, *, metrics: int = 1) -> ControlArmed:
    """Arm with the closed buckets before the deployment: begin, value and exposure of the canary, then of the control.

    `rows` is (buckets, 5), NaN where a side is missing; none at all is enough for events. Raises Unarmed.
    """
    rows = rows[rows[:, 0] < frame.began] if len(rows) else rows.reshape(0, 5)
    both = np.array([usable(frame.kind, (row[1], row[2]), (row[3], row[4])) for row in rows], dtype=bool)
    pairs = rows[both]
    plain = ControlArmed(
        frame.kind, frame.rises, frame.step, frame.began, until, math.log(metrics / ALPHA), pairs=len(pairs)
    )
    if frame.additive:
        if len(pairs) < LEAST_PAIRS:
            words = f"measured together with its control in {len(pairs)} buckets before"
            raise Unarmed(f"{words}; {LEAST_PAIRS} are needed to know how alike they are")
        return _levels(frame, plain, pairs)
    unit = _unit(rows, pairs) if frame.kind == "sum" else 0.0
    plain = msgspec.structs.replace(plain, unit=unit)
    if len(pairs) < LEAST_BLOCKS or (frame.kind == "sum" and not unit):
        return plain
    return _events(frame, plain, pairs)


def _unit(rows: Floats, pairs: Floats) -> float:
    """The variance of money over its mean; 0: too little is known.

    From how both sides shared it, where they are known together: what they have in common is not in that. Else from the
    differences of neighbours of the control, which are too large rather than too small. The median of a squared standard
    normal variable is 0.455.
    """
    total = pairs[:, 1] + pairs[:, 3]
    if int((total > TINY).sum()) >= LEAST_PAIRS and pairs[:, 1].sum() > TINY and pairs[:, 3].sum() > TINY:
        pairs, total = pairs[total > TINY], total[total > TINY]
        ratio = float(pairs[:, 1].sum() / (pairs[:, 3] / pairs[:, 4] * pairs[:, 2]).sum())
        share = ratio * pairs[:, 2] / (ratio * pairs[:, 2] + pairs[:, 4])
        squares = (pairs[:, 1] - total * share) ** 2 / (total * share * (1 - share))
        return max(float(np.median(squares)) / 0.455, TINY)
    y = rows[(np.abs(rows[:, 3]) < ABSURD) & (rows[:, 3] >= 0) & (rows[:, 4] > 0), 3]
    total = y[1:] + y[:-1]
    if int((total > TINY).sum()) < LEAST_OF_MONEY:
        return 0.0
    squares = np.diff(y)[total > TINY] ** 2 / total[total > TINY]
    return max(float(np.median(squares)) / 0.455, TINY)


# ---- events, successes and money


def _events(frame: Frame, armed: ControlArmed, pairs: Floats) -> ControlArmed:
    """Levels of both sides before, and how much more than chance their ratio wandered."""
    unit = armed.unit or 1.0
    y, other = pairs[:, 1] / unit, pairs[:, 3] / unit
    ideal = other / pairs[:, 4] * pairs[:, 2]
    if y.sum() < 1 or other.sum() < 1:
        return armed
    ratio = float(y.sum() / ideal.sum())
    share = ratio * pairs[:, 2] / (ratio * pairs[:, 2] + pairs[:, 4])
    variance = (y + other) * share * (1 - share)
    if frame.proportion:
        variance = variance * (1 - np.clip((y + other) / (pairs[:, 2] + pairs[:, 4]), 0, 0.999))
    rest = y - (y + other) * share
    inflation = max(SPARE, _wander(frame, pairs[:, 0], rest, variance))
    looks: dict[float, tuple[float, float]] = {}
    for minutes in (*LOOKS_MIN, 1e9):
        near = pairs[:, 0] >= frame.began - 60 * minutes
        seen, usual, control = float(y[near].sum()), float(ideal[near].sum()), float(other[near].sum())
        if seen + control > 0 and usual > 0:
            error = math.sqrt(inflation * (1 / max(seen, 0.5) + 1 / max(control, 0.5)))
            looks[minutes] = (math.log(max(seen, 0.5) / usual), error)
    return _off(frame, armed, looks, inflation)


def _off(frame: Frame, armed: ControlArmed, looks: dict[float, tuple[float, float]], inflation: float) -> ControlArmed:
    """The worst of what clearly was off before becomes what the deployment is compared with.

    A side that was better than its control is compared with the control all the same: it is no worse than that.
    """
    off = {
        minutes: ratio for minutes, (ratio, error) in looks.items() if frame.sign * ratio > max(OFF_SD * error, 1e-9)
    }
    lately = [ratio for minutes, ratio in off.items() if minutes in LOOKS_MIN]
    worst = max(off.values(), key=lambda ratio: frame.sign * ratio, default=0.0)
    worst = max(-MOST_OFF, min(worst, MOST_OFF))
    odd = max(lately, key=lambda ratio: frame.sign * ratio, default=0.0)
    if off:
        # The ratio is an estimate: its own error grows with the window it is used for.
        inflation *= 1 + armed.size / max(armed.pairs, 1)
    return msgspec.structs.replace(armed, before=math.exp(worst), odd=math.expm1(odd), inflation=inflation)


# ---- latency and gauges


def _levels(frame: Frame, armed: ControlArmed, pairs: Floats) -> ControlArmed:
    """The usual ratio of both sides, its variance, and how it wandered."""
    ratio = np.log(pairs[:, 1] / pairs[:, 3])
    usual = float(np.median(ratio))
    rest = ratio - usual
    middle = 1.4826 * float(np.median(np.abs(rest)))
    ordered = np.sort(np.abs(rest))
    variance = max(middle, ranked(ordered, 0.95) / 1.96) ** 2 * (1 + 8 / len(pairs))
    variance = max(variance, LEAST_VARIANCE)
    inflation = max(1.0, _wander(frame, pairs[:, 0], rest, np.full(len(rest), variance)))
    inflation *= 1 + armed.size / len(pairs)
    looks = {}
    for minutes in LOOKS_MIN:
        near = rest[pairs[:, 0] >= frame.began - 60 * minutes]
        if len(near):
            looks[float(minutes)] = (float(near.mean()), math.sqrt(inflation * variance / len(near)))
    found = _off(frame, armed, looks, 1.0)
    return msgspec.structs.replace(found, before=found.before * math.exp(usual), inflation=inflation, variance=variance)


def _wander(frame: Frame, at: Floats, rest: Floats, variance: Floats) -> float:
    """How many times wider than the ideal model's the errors of blocks were: the worst of some lengths."""
    place = np.round((at - at[0]) / frame.step).astype(int)
    found = 0.0
    for length in sorted({frame.buckets(minutes) for minutes in BLOCKS_MIN}):
        block = place // length
        edges = np.flatnonzero(np.diff(block, prepend=-1, append=block[-1] + 1))
        sums, spread = (np.diff(running(side)[edges]) for side in (rest, variance))
        z = frame.sign * sums[spread > 0] / np.sqrt(spread[spread > 0])
        if len(z) < LEAST_BLOCKS:
            continue
        # A low count is skewed, which is no noise (Cornish-Fisher).
        skew = 0.0 if frame.additive else 0.536 * frame.sign / math.sqrt(max(float(spread.mean()), 1e-3))
        found = max(found, _spread(as_floats(np.sort(z)), max(Q98 + skew, 1.3)) * (1 + 8 / len(z)))
    return found


def _spread(ordered: Floats, q98: float) -> float:
    """The variance that the middle and the bad tail show; what is beyond 98 % was an incident."""
    half = (ranked(ordered, 0.84) - ranked(ordered, 0.16)) / 2
    tail = ranked(ordered, 0.98) / q98 if len(ordered) >= LEAST_PAIRS else 0.0
    return max(half, tail, 0.0) ** 2
