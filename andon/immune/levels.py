"""The level of a metric over any stretch of its past, after season and hourly pattern; past incidents are left out.

A past incident says how often a metric breaks by itself, not how noisy it is when it works.
"""

import math
from dataclasses import dataclass

import numpy as np

from andon.immune.arith import Flags, Floats, after, as_floats, before, medians, ratio, running
from andon.immune.history import Frame, History
from andon.immune.season import Season, day_shape, minute_pattern

UNTOUCHED_MIN = 120
"""What is younger is left as it is: it is the state before the deployment."""
ODD = 5.0
"""Robust standard deviations beyond which a block of the past is odd; two in a row are an incident."""


@dataclass(frozen=True)
class Levels:
    """Sums over the past, and what one bucket's noise is."""

    frame: Frame
    size: int
    days: float
    season: Season
    minutes: Floats | None
    sums: Floats
    exposure: Floats
    variance: float
    """Of one bucket of a logarithm, from the differences of neighbours; 1 for counts."""
    share: float
    """Successes per trial, for the binomial's variance; 0 for others."""

    def level(self, start: int, end: int) -> float | None:
        """The level of buckets [start, end); None without exposure. A count of none is taken for half an event."""
        start, end = max(0, start), max(0, end)
        e = float(self.exposure[end] - self.exposure[start])
        y = float(self.sums[end] - self.sums[start])
        if e <= 0:
            return None
        if self.frame.additive or y >= 1:
            return y / e
        return (y + 0.5) / (e + 0.5 * e / max(y, 0.5))

    def information(self) -> float:
        """What a recent bucket tells of a relative shift: the inverse of the variance of its estimate."""
        if self.frame.additive:
            return 1.0 / self.variance
        count = min(self.size, max(30, self.frame.buckets(120)))
        return max(float(self.sums[-1] - self.sums[-1 - count]) / count, 1e-9) / (1 - self.share)


def levels(history: History) -> Levels:
    """The past as levels. Where it holds an incident, the shape of the day is made anew without it."""
    found, odd = _levels(history)
    if odd is None:
        return found
    cleaned = History(
        history.frame,
        np.where(odd, 0.0, history.y),
        np.where(odd, 0.0, history.e),
        history.scale,
        history.load,
    )
    return _levels(cleaned, look=False)[0]


def _levels(history: History, *, look: bool = True) -> tuple[Levels, Flags | None]:
    """The past as levels, and which buckets belong to an incident of the past, if one is looked for and found."""
    frame = history.frame
    season = day_shape(history)
    seen = history.e > 0
    if frame.additive:
        y, e = np.where(seen, history.y - season.past, 0.0), history.e
    else:
        y, e = history.y, history.e * season.past
    minutes = minute_pattern(frame, y, e)
    if minutes is not None:
        hour = len(minutes)
        repeated = minutes[(np.arange(len(y)) - len(y)) % hour]
        if frame.additive:
            y = np.where(seen, y - repeated, 0.0)
        else:
            e = e * repeated
    odd = _incidents(frame, y, e, history.days) if look else None
    sums, exposure = running(y), running(e)
    share = 0.0
    if frame.proportion and exposure[-1] > 0:
        share = min(float(sums[-1] / exposure[-1]), 0.99)
    variance = _variance(y[e > 0]) if frame.additive else 1.0
    return Levels(frame, history.size, history.days, season, minutes, sums, exposure, variance, share), odd


def _variance(y: Floats) -> float:
    """The variance of one bucket from the differences of neighbours: drift and season are not in it."""
    steps = np.diff(y) if len(y) > 3 else np.array([1.0])
    low, high = np.quantile(steps, [0.05, 0.95], method="lower")
    usual = 1.4826 * float(np.median(np.abs(steps))) / math.sqrt(2)
    whole = float(np.std(np.clip(steps, low, high))) / math.sqrt(2) * 1.1
    return max(usual, whole, 1e-4) ** 2


def _incidents(frame: Frame, y: Floats, e: Floats, days: float) -> Flags | None:
    """Which buckets belong to a past incident: two blocks or more far from the level of their half day."""
    end = len(y) - frame.buckets(UNTOUCHED_MIN)
    if end < frame.buckets(180):
        return None
    each = frame.buckets(5)
    if not frame.additive:
        rate = max(float(y.sum()) / len(y), 1e-9)
        each = min(max(each, math.ceil(20 / rate)), frame.buckets(30))
    count = end // each
    if count < 36:
        return None
    begin = end - count * each
    top = y[begin:end].reshape(count, each).sum(axis=1)
    bottom = e[begin:end].reshape(count, each).sum(axis=1)
    usual = _local(ratio(top, bottom), count, max(12, round(360 / (each * frame.minutes))))
    if usual is None:
        return None
    if frame.additive:
        z = (ratio(top, bottom) - usual) * np.sqrt(bottom)
    else:
        z = (top - usual * bottom) / np.sqrt(np.maximum(usual * bottom, 0.5))
    z = np.where(np.isfinite(z), z, 0.0)
    spread = 1.4826 * float(np.median(np.abs(z)))
    odd = np.abs(z) > ODD * max(spread, 1e-9 if frame.additive else 1.0)
    runs = odd & (before(odd) | after(odd))
    if not runs.any():
        return None
    runs = runs | before(runs) | after(runs)
    if float(runs.mean()) > (0.12 if days > 4 else 0.25):
        return None  # so much of it is odd that it is how this metric is
    found = np.zeros(len(y), dtype=bool)
    found[begin:end] = np.repeat(runs, each)
    return found


def _local(x: Floats, count: int, stretch: int) -> Floats | None:
    """The level at each block: medians of stretches, joined by straight lines."""
    pieces = max(1, count // stretch)
    cut = np.array_split(x, pieces)
    middles = np.array([float(medians(piece[:, None])[0]) for piece in cut])
    centres = (np.arange(pieces) + 0.5) * count / pieces
    known = np.isfinite(middles)
    if not known.any():
        return None
    return as_floats(np.interp(np.arange(count) + 0.5, centres[known], middles[known]))
