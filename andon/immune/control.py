"""What a bucket says where a control stands beside it at the same time: a canary beside what is stable, or a hold-out.

Season, surges and outages that hit both sides cancel exactly, so nothing has to be predicted. For each effect a bucket
brings the logarithm of a factor whose mean, over what chance does to a harmless deployment, is at most 1 whatever both
sides have in common::

    l = lambda y - b,    b >= log E[exp(lambda Y)] given all that both sides had together

Counts: of N events on both sides each is the canary's with the probability of its share of the exposure (Lindon & Malek
2022): b = N log(1 + share (exp(lambda) - 1)). Proportions: the canary's successes are drawn from those of both sides
without replacement, and the mean of exp(lambda Y) is less than with it (Hoeffding 1963, theorem 4), whichever of
successes, failures, the canary's and the control's trials are looked at as the draws: b is the least of the four.
"""

import math

import numpy as np

from andon.immune.arith import Floats, as_floats
from andon.immune.history import ABSURD
from andon.model import MetricKind

Side = tuple[float, float]
"""Value and exposure of one side of a bucket: trials, requests, or a share of the traffic."""
MOST_CHANCE = 0.985
"""A rate that rises does not rise further."""
LEAST_CHANCE = 1e-15
TINY = 1e-9
"""No level, and no traffic, is as small."""
NO_SHARE = 1e-6
"""A side with a smaller part of the other's traffic says nothing."""


def usable(kind: MetricKind, canary: Side, control: Side) -> bool:
    """Whether both sides of a bucket are there and can be compared. Nothing else is evidence."""
    numbers = (*canary, *control) if kind not in ("latency", "gauge") else (canary[0], control[0])
    if not all(abs(number) < ABSURD for number in numbers):  # NaN is not less
        return False
    if kind in ("latency", "gauge"):
        return canary[0] > TINY and control[0] > TINY
    if min(canary[1], control[1]) < max(TINY, NO_SHARE * max(canary[1], control[1])) or min(canary[0], control[0]) < 0:
        return False
    return kind != "proportion" or (canary[0] <= canary[1] and control[0] <= control[1])


def log_ratios(kind: MetricKind, effects: Floats, canary: Side, control: Side, before: float, unit: float) -> Floats:
    """What one usable bucket of events, money or successes says for each effect, in nats.

    `before` is the canary's rate as a part of the control's while nothing was deployed, 1 where they are alike. `unit`:
    in which a sum of money varies as a count does; 0 where that is not known (see `_coin`).
    """
    if kind == "proportion":
        return _successes(effects, canary, control, before)
    share = before * canary[1] / (before * canary[1] + control[1])
    worse = effects * share / (effects * share + 1 - share)
    if kind == "sum" and not unit:
        return _coin(canary[0], control[0], share, worse)
    scale = unit or 1.0
    y, other = canary[0] / scale, control[0] / scale
    return as_floats(y * np.log(worse / share) + other * np.log((1 - worse) / (1 - share)))


def _coin(y: float, other: float, share: float, worse: Floats) -> Floats:
    """A sum of which no order is known: it may have been a single one, which is no more than one toss of a coin.

    The canary's part of the money has the mean `share`, however large the orders are, and this is linear in it.
    """
    if y + other <= 0:
        return np.zeros(len(worse))
    part = y / (y + other)
    return as_floats(np.log(part * worse / share + (1 - part) * (1 - worse) / (1 - share)))


def _successes(effects: Floats, canary: Side, control: Side, before: float) -> Floats:
    y, n, trials = canary[0], canary[1], control[1]
    both = y + control[0]
    failures = n + trials - both
    if both < TINY or failures < TINY:
        return np.zeros(len(effects))
    odds, means = _odds(np.concatenate(([before], effects * before)), n, trials, both)
    factor, mean = odds[1:] - odds[0], float(means[0])
    grown, shrunk = np.expm1(factor), np.expm1(-factor)
    bound = np.minimum(_draws(both, mean, grown), _draws(n, mean, grown))
    bound = np.minimum(bound, factor * n + _draws(failures, n - mean, shrunk))
    bound = np.minimum(bound, factor * both + _draws(trials, both - mean, shrunk))
    return as_floats(factor * y - bound)


def _draws(count: float, mean: float, moved: Floats) -> Floats:
    """Log E[exp(lambda X)] of so many independent draws with that mean in all; `moved` is exp(lambda) - 1."""
    return count * np.log1p(np.maximum(min(mean / count, 1.0) * moved, -1 + 1e-12))


def _odds(effects: Floats, n: float, trials: float, both: float) -> tuple[Floats, Floats]:
    """If the canary's rate is that part of the control's: the log odds ratio, and how many successes it has on average.

    `both` successes are shared by `n` trials of the canary and `trials` of the control.
    """
    most = min(1.0, both / n)
    theirs = effects * both / (trials + effects * n)
    theirs = np.maximum(np.minimum(theirs, min(most, max(MOST_CHANCE, both / (n + trials)))), LEAST_CHANCE)
    rest = np.minimum(np.maximum((both - n * theirs) / trials, LEAST_CHANCE), 1 - LEAST_CHANCE)
    theirs = np.minimum(theirs, 1 - LEAST_CHANCE)
    return as_floats(np.log(theirs * (1 - rest) / ((1 - theirs) * rest))), as_floats(theirs * n)


def log_shifts(effects: Floats, ratio: float, variance: float) -> Floats:
    """What one bucket of latency or of a gauge says that is `ratio` times what was expected: a Gaussian logarithm."""
    moved, rest = np.log(effects), math.log(ratio)
    return as_floats((rest * moved - moved * moved / 2) / variance)


def expected(kind: MetricKind, canary: Side, control: Side, before: float) -> float:
    """What the canary would have shown had it been like the control: events, money, successes, or a level."""
    if kind in ("latency", "gauge"):
        return control[0] * before
    return control[0] / control[1] * canary[1] * before
