"""How wrong past predictions were: the variance inflation F(gap, length), back-tested on the metric's own history.

For origins all over the past, a window of `length` buckets that begins `gap` after the origin is predicted from the level
before it. How much wider its errors are than the ideal model's is F: overdispersion, autocorrelation, wandering levels and
errors of the season in one table (an in-time placebo, as synthetic controls use them).
"""

import math

import msgspec
import numpy as np

from andon.immune.arith import Floats, Whole, ranked, rising
from andon.immune.levels import Levels

LENGTHS_MIN = (1, 3, 8, 20, 45)
GAPS_MIN = (0, 10, 30)
LEVELS_MIN = (20, 60, 180, 720)
Q98 = 2.054
"""The 98 % quantile of the standard normal distribution."""
FLOOR_SD = 0.01
"""No metric is steadier than 1 % over a window."""
DRIFT_SHORT, DRIFT_NONE = 0.05, 0.10
"""Drift per hour that is allowed for with less than a week of history, and without a known shape of the day."""
LEAST_ORIGINS = 12
MOST_ORIGINS = 1500


class Inflation(msgspec.Struct, frozen=True):
    """The table, and the level it was made with."""

    lengths: tuple[int, ...]
    gaps: tuple[int, ...]
    table: tuple[tuple[float, ...], ...]
    """A row per gap, a column per length."""
    window: int
    """The recent level is that of so many buckets before the deployment."""
    origins: int
    """From how many origins the level was back-tested; few: little is known."""

    def at(self, gap: int, length: int) -> float:
        """F for one window: between the cells by the logarithm of the length, beyond the last in proportion."""
        logs = np.log(np.array(self.lengths, dtype=float))
        column = [float(np.interp(math.log(max(length, 1)), logs, row)) for row in self.table]
        return float(np.interp(gap, self.gaps, column)) * max(length / self.lengths[-1], 1.0)

    def at_once(self, lengths: Whole) -> Floats:
        """F for windows of many lengths without a gap."""
        logs = np.log(np.array(self.lengths, dtype=float))
        found: Floats = np.interp(np.log(lengths), logs, self.table[0]) * np.maximum(lengths / self.lengths[-1], 1.0)
        return found

    def whole(self, size: int) -> Floats:
        """F for every gap and length (from 1 on) up to `size`: rows are gaps."""
        length = np.arange(1, size + 1)
        logs = np.log(np.array(self.lengths, dtype=float))
        over = np.maximum(length / self.lengths[-1], 1.0)
        rows = np.array([np.interp(np.log(length), logs, row) for row in self.table]) * over
        if len(self.gaps) == 1:
            return np.repeat(rows, size, axis=0)
        gap, known = np.arange(size), np.array(self.gaps)
        left = np.clip(np.searchsorted(known, gap, "right") - 1, 0, len(known) - 2)
        share = np.clip((gap - known[left]) / np.maximum(known[left + 1] - known[left], 1), 0, 1)[:, None]
        mixed: Floats = rows[left] * (1 - share) + rows[left + 1] * share
        return mixed


def inflation(levels: Levels) -> Inflation:
    """Choose the level that predicted best, and measure how well it did."""
    frame = levels.frame
    window, origins = _window(levels)
    lengths = tuple(sorted({frame.buckets(minutes) for minutes in LENGTHS_MIN}))
    gaps = tuple(sorted({0, *(frame.buckets(minutes) for minutes in GAPS_MIN if minutes)}))
    floor = 0.6 if frame.additive else 1.0
    rows = []
    for gap in gaps:
        cells = [_cell(levels, window, gap, length) for length in lengths]
        rows.append(np.maximum(rising([cell[0] for cell in cells], [cell[1] for cell in cells]), floor))
    table = np.maximum.accumulate(np.array(rows), axis=0)
    return Inflation(lengths, gaps, tuple(tuple(float(x) for x in row) for row in table), window, origins)


def _errors(levels: Levels, window: int, gap: int, length: int) -> tuple[Floats, int]:
    """The errors of past predictions in standard deviations of the ideal model, and how far their origins are apart."""
    frame, size = levels.frame, levels.size
    apart = frame.buckets(10) if size * frame.minutes > MOST_ORIGINS else max(1, min(length, frame.buckets(5)))
    origin = np.arange(size - gap - length, window - 1, -apart)[:MOST_ORIGINS]
    if not len(origin):
        return origin.astype(float), apart
    y, e = levels.sums, levels.exposure
    before_y, before_e = y[origin] - y[origin - window], e[origin] - e[origin - window]
    ahead_y, ahead_e = (side[origin + gap + length] - side[origin + gap] for side in (y, e))
    if frame.additive:
        usable = (before_e >= 0.3 * window) & (ahead_e >= 0.5 * length)
        level = before_y / np.maximum(before_e, 1)
        errors = (ahead_y - level * ahead_e) / np.sqrt(np.maximum(ahead_e, 1) * levels.variance)
    else:
        expected = before_y / np.where(before_e > 0, before_e, 1) * ahead_e
        usable = (before_e > 0) & (ahead_e > 0) & (expected > 0)
        errors = (ahead_y - expected) / np.sqrt(np.maximum(expected, 1e-9) * (1 - levels.share))
    return errors[usable], apart


def _window(levels: Levels) -> tuple[int, int]:
    """The length of the level with the smallest error a quarter of an hour ahead, and from how many origins."""
    frame = levels.frame
    fits = [size for size in sorted({frame.buckets(m) for m in LEVELS_MIN}) if 3 <= size <= levels.size // 3]
    windows = fits or [max(2, levels.size // 2)]
    best, chosen, origins = math.inf, 0, 0
    for window in windows:
        errors, _ = _errors(levels, window, 0, frame.buckets(15))
        if len(errors) < LEAST_ORIGINS:
            continue
        ordered = np.sort(errors)
        half = (ranked(ordered, 0.84) - ranked(ordered, 0.16)) / 2
        clipped = np.clip(ordered, ranked(ordered, 0.02), ranked(ordered, 0.98))
        error = max(half * half, float(np.mean(clipped**2)))
        if error < 0.98 * best:
            best, chosen, origins = error, window, len(errors)
    return chosen or windows[min(1, len(windows) - 1)], origins


def _cell(levels: Levels, window: int, gap: int, length: int) -> tuple[float, float]:
    """F for one gap and length, and how much it is to be trusted."""
    frame = levels.frame
    errors, apart = _errors(levels, window, gap, length)
    count = len(errors)
    independent = max(count * apart / max(length, apart), 1.0)
    information = levels.information() * length
    found = 1.8
    if count >= LEAST_ORIGINS:
        found = _spread(np.sort(frame.sign * errors), _q98(levels, information)) * (1 + 8 / independent)
    hours = (length + gap) * frame.minutes / 60
    found += information * FLOOR_SD**2
    if levels.season.ahead is not None and levels.days < 6.5:
        found += information * (DRIFT_SHORT * hours) ** 2
    if levels.season.ahead is None or not levels.season.sure:
        found += information * (DRIFT_NONE * hours) ** 2
    return found, math.sqrt(independent)


def _spread(ordered: Floats, q98: float) -> float:
    """The variance that the middle and the bad tail of the errors show. The tail ends at 98 %, and windows of past
    incidents are left out where they are few: they must not blind the judge.
    """
    half = max((ranked(ordered, 0.84) - ranked(ordered, 0.16)) / 2, 1e-3)
    if len(ordered) < 60:
        return max(half * half, float(np.mean(np.clip(ordered, -4, 4) ** 2)))
    ordinary = ordered[np.abs(ordered) <= 8 * max(half, 0.5)]
    if 0.9 * len(ordered) < len(ordinary) < len(ordered):
        ordered = ordinary
    tail = ranked(ordered, 0.98) / q98
    return max(half * half, tail * tail if tail > 0 else 0.0)


def _q98(levels: Levels, expected: float) -> float:
    """The ideal model's 98 % quantile in the bad direction: a low count is skewed (Cornish-Fisher), which is no noise."""
    if levels.frame.additive:
        return Q98
    return max(Q98 + levels.frame.sign * 0.536 / math.sqrt(max(expected, 1e-3)), 1.3)
