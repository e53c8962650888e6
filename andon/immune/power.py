"""What a watch can show, said beforehand: the smallest effect that would be found in it, and how long a usual one takes.

An effect that begins with the deployment brings on average its Kullback-Leibler divergence per bucket, at the expected
rate; `F(0, h)` divides what h buckets bring, and the mixture over onsets and effects takes its price from it. It is found
when that reaches the threshold and `SPARE` more, not before the rules of persistence and restart allow, and not if they
never do. Beyond its longest window F grows with the length: what does not show by then never does.
"""

import math

import msgspec
import numpy as np

from andon.clock import long_age
from andon.immune.arith import Flags, Floats, as_floats
from andon.immune.armed import Armed, shifts
from andon.immune.evidence import PERSIST_S, RESTART_TOTAL, clip
from andon.immune.judging import BLAME
from andon.immune.lasting import INCIDENT, MATERIAL, MATERIAL_FALL, MATERIAL_RATIO, REST
from andon.immune.standing import OWN_MASS
from andon.immune.threshold import figures, number
from andon.model import Metric

SPARE = 0.5
"""Nats beyond the threshold that an effect must bring on average to be found in most watches."""
USUAL, USUAL_RATIO = 0.20, 1.00
"""The effect whose time is told: parts; of a rate that rises, twice."""
LARGEST_FALL, LARGEST_RISE, LARGEST_RATIO = 0.99, 3.0, 39.0
"""The largest effects that the judge knows: see its grid."""
LEAST = 0.01
STEPS = 9
"""Halvings of the range of effects: to a part in a hundred or so."""


class Power(msgspec.Struct, frozen=True):
    """What one watch can show."""

    effect: float | None
    """The smallest effect, as a part of what is expected: 0.4; None: none, however large."""
    usual: float
    """The effect that people ask for."""
    usual_s: float | None
    """How many seconds it would take; None: it would not show, however long it was watched."""
    words: str
    """A sentence for whoever is on call."""


def power(metric: Metric, armed: Armed, watch_s: float) -> Power:
    """What a watch of `watch_s` seconds of this metric can show."""
    effect, usual = smallest(armed, int(watch_s // armed.step)), usual_effect(armed)
    takes = takes_s(armed, usual)
    return Power(effect, usual, takes, _words(metric, armed, effect, usual, takes))


def usual_effect(armed: Armed) -> float:
    """20 %; of a rate that rises, such as that of errors, 100 %."""
    return USUAL_RATIO if _is_ratio(armed) else USUAL


def smallest(armed: Armed, buckets: int) -> float | None:
    """The smallest effect that so many buckets can show, as a part of what is expected; None: not even the largest."""
    low, high = LEAST, _largest(armed)
    if not _shows(armed, high, buckets):
        return None
    for _ in range(STEPS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if _shows(armed, middle, buckets) else (middle, high)
    return high


def takes_s(armed: Armed, effect: float) -> float | None:
    """After how many seconds such an effect, a part of what is expected, would be found; None: never."""
    found = _found(armed, effect, max(armed.watched, armed.inflation.lengths[-1] + _restart(armed)))
    return None if found is None else found * armed.step


def _shows(armed: Armed, effect: float, buckets: int) -> bool:
    return _found(armed, effect, buckets) is not None


def _largest(armed: Armed) -> float:
    if not armed.rises:
        return LARGEST_FALL
    return LARGEST_RATIO if _is_ratio(armed) else LARGEST_RISE


def _is_ratio(armed: Armed) -> bool:
    """Whether the rate of something bad is judged, of which there is little while all is well."""
    return armed.rises and not armed.frame.additive


def _found(armed: Armed, effect: float, buckets: int) -> int | None:
    """After how many of `buckets` the effect would be found; None: not within them."""
    material = MATERIAL.get(armed.kind) or (MATERIAL_RATIO if armed.rises else MATERIAL_FALL)
    if buckets < 1 or effect < material * INCIDENT.get(armed.state, 1.0):
        return None
    each = _each(armed, effect, buckets)
    cap = clip(armed)
    clipped, first = np.clip(each, -cap, cap), min(_restart(armed), buckets)
    late = clipped.copy()
    late[:first] = 0.0
    limited = clipped.copy()
    f3 = armed.inflation.at(0, armed.frame.buckets(3))
    limited[:first] = np.minimum(clipped[:first], RESTART_TOTAL * armed.threshold * f3 * armed.step / armed.restart_s)
    f = _inflation(armed, buckets)[:, None]
    price = armed.log_weights + math.log(OWN_MASS)
    enough = _mixed(np.cumsum(limited, axis=0) / f + price) >= armed.threshold + SPARE
    enough &= _stands(armed, clipped, late, f[:, 0])
    if armed.earlier is not None:
        raw = each.copy()
        raw[:first] = 0.0
        moved = np.cumsum(raw, axis=0) / f
        enough &= _mixed(moved + price) - _mixed(moved + np.array(armed.earlier)) >= BLAME
    enough[: _least(armed) - 1] = False
    found = np.nonzero(enough)[0]
    return int(found[0]) + 1 if len(found) else None


def _inflation(armed: Armed, buckets: int) -> Floats:
    """F(0, h) for h from 1 to `buckets`."""
    known, length = np.array(armed.inflation.lengths, dtype=float), np.arange(1, buckets + 1)
    within = np.interp(np.log(length), np.log(known), armed.inflation.table[0])
    return as_floats(within * np.maximum(length / known[-1], 1.0))


def _each(armed: Armed, effect: float, buckets: int) -> Floats:
    """What each bucket brings on average for each effect that competes, if the true one is `effect`."""
    truth = 1 + armed.frame.sign * effect
    if armed.frame.additive:
        true = shifts(np.array([truth]), armed.scale, armed.level)[0]
        each = (true * armed.shifts - armed.shifts**2 / 2) / armed.variance
        return as_floats(np.repeat(each[None], buckets, axis=0))
    usual = armed.level * _factors(armed, buckets)[:, None]
    if not armed.frame.proportion:
        return as_floats(usual * (truth * np.log(armed.effects) - armed.effects + 1))
    p = np.clip(usual, 1e-9, 0.97)
    worse, true = np.clip(p * armed.effects, 1e-9, 0.985), np.minimum(p * truth, 0.985)
    return as_floats(armed.exposure * (true * np.log(worse / p) + (1 - true) * np.log((1 - worse) / (1 - p))))


def _factors(armed: Armed, buckets: int) -> Floats:
    """What season and hour say of each bucket; after the last known one, as on average."""
    known = np.array(armed.factors[:buckets])
    return np.concatenate((known, np.full(buckets - len(known), known.mean() if len(known) else 1.0)))


def _mixed(terms: Floats) -> Floats:
    """log(sum(exp(row))) of each row."""
    top = terms.max(axis=1)
    return as_floats(top + np.log(np.exp(terms - top[:, None]).sum(axis=1)))


def _stands(armed: Armed, clipped: Floats, late: Floats, f: Floats) -> Flags:
    """After how many buckets it stands without its two worst minutes, and without the restart window."""
    need = REST * armed.threshold
    kind = int(np.argmax(clipped.sum(axis=0)))
    worst = max(1, round(120 / armed.step)) * clipped[:, kind].max()
    whole, after = np.cumsum(clipped[:, kind]), np.cumsum(late[:, kind])
    stands: Flags = ((whole - worst) / f >= need) & (after / f >= need)
    return stands


def _restart(armed: Armed) -> int:
    """How many buckets begin in the restart window, where buckets are short enough for one."""
    return math.ceil(armed.restart_s / armed.step) if armed.step <= 120 else 0


def _least(armed: Armed) -> int:
    """Before how many buckets nothing is called, however clear."""
    least = max(2, math.ceil(PERSIST_S / armed.step))
    if armed.step <= 120:
        least = max(least, math.ceil((armed.restart_s + armed.after_s) / armed.step))
    return least


# ---- words


def _words(metric: Metric, armed: Armed, effect: float | None, usual: float, takes: float | None) -> str:
    what = "rise" if armed.rises else "fall"
    if effect is None:
        shown = f"can show no {what} in this watch, however large"
    else:
        shown = f"can show a {what} of {per_cent(effect)} in this watch{', not less' if effect > usual else ''}"
    if takes is None:
        return f"{_seen(metric, armed)} {shown}; {per_cent(usual)} would not show, however long it was watched"
    return f"{_seen(metric, armed)} {shown}; {per_cent(usual)} would take {long_age(takes)}"


def per_cent(effect: float) -> str:
    """`40 %`: rounded up, so that it is not less than what was found."""
    return f"{math.ceil(100 * effect - 1e-6)} %"


def _seen(metric: Metric, armed: Armed) -> str:
    """How much of the metric there is to judge by: `12 checkouts/min`."""
    factors = as_floats(armed.factors[: armed.watched or None])
    middle, minute = float(factors.mean()) if len(factors) else 0.0, 60.0 / armed.step
    if armed.frame.additive:
        level = armed.level + middle
        return f"{metric.name} at {number(level * armed.scale if armed.scale else math.exp(level), metric)}"
    level = armed.level * middle * (armed.scale or 1.0)  # money is judged in units of its own
    if armed.frame.proportion:
        return f"{metric.name} {number(level, metric)} of {figures(armed.exposure * minute)}/min"
    if metric.kind == "count":
        return f"{figures(level * minute)} {metric.name}/min"
    return f"{metric.name} of {number(level * minute, metric)}/min"
