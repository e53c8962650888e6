"""How a metric goes over the day and over the hour, relative to its level: what a deployment would have met anyway.

Days are counted from the deployment backwards, so that no boundary of a day lies in the watch. Every past day is predicted
without itself: the back-test then makes the error that the watch will make.
"""

import math
from dataclasses import dataclass

import numpy as np

from andon.immune.arith import Flags, Floats, Whole, as_floats, means, medians, ratio, running
from andon.immune.history import DAY_S, Frame, History

LEAST_DAYS = 1.9
FINEST_S = 300.0
"""A day's shape has bins of this length, or of a bucket if that is longer."""
LEAST_EVENTS = 20.0
LEAST = 0.02
"""No factor is smaller."""
EPOCH_WEEKDAY = 3
"""1 January 1970 was a Thursday; Monday is 0."""
_TRIANGLE = np.array([1, 2, 3, 4, 3, 2, 1.0])


@dataclass(frozen=True)
class Season:
    """Factors (or, for logarithms, differences) that multiply the level."""

    past: Floats
    """For each bucket of the history."""
    ahead: Floats | None
    """For each bucket of the day after the deployment; None: no shape is known."""
    sure: bool
    """False: the kind of day changes about the deployment, and no such change was seen before."""


def weekday(at: float) -> int:
    """The day of the week of a time, in UTC; Monday is 0."""
    return (math.floor(at / DAY_S) + EPOCH_WEEKDAY) % 7


def day_shape(history: History) -> Season:
    """The shape of the days before the deployment, for those days and for the one after it."""
    frame, size = history.frame, history.size
    flat = np.zeros(size) if frame.additive else np.ones(size)
    count = int(history.days)
    if history.days < LEAST_DAYS or count < 2:
        return Season(flat, None, True)
    days = _Days(history, count)
    pairs = days.alike[days.alike >= 1]
    if not len(pairs):
        pairs = np.arange(1, count)
    per, begin = days.per, size - count * days.per
    past = np.zeros(size)
    others = np.setdiff1d(np.arange(count), days.alike)
    for day in range(count):
        group = days.alike if day in days.alike else others
        rest = group[group != day]
        shape = days.combined(rest if len(rest) else np.setdiff1d(np.arange(count), [day]))
        past[begin + day * per : begin + (day + 1) * per] = days.spread(shape)
    # The last half day and the watch come from the same pairs of days: no step at the deployment.
    eve, day_after = days.combined(pairs - 1), days.combined(pairs)
    last = days.spread(np.concatenate((past[size - per : size - per + 1], eve[1:])))
    past[size - per + per // 2 :] = last[per // 2 :]
    ahead = np.interp(
        np.arange(per) + 0.5,
        np.concatenate(([days.middles[-1] - per], days.middles)),
        np.concatenate(([eve[-1]], day_after)),
    )
    if begin:
        past[:begin] = ahead[per - begin :] if begin <= per else flat[0]
    if not frame.additive:
        past, ahead = np.maximum(past, LEAST), np.maximum(ahead, LEAST)
    return Season(past, ahead, days.sure)


class _Days:
    """The whole days before the deployment, each as bins relative to its own level."""

    def __init__(self, history: History, count: int) -> None:
        frame = history.frame
        self.additive, self.count = frame.additive, count
        self.per = round(DAY_S / frame.step)
        width = max(FINEST_S, frame.step)
        self.each = max(1, round(width / frame.step))
        self.bins = self.per // self.each
        self.middles = (np.arange(self.bins) + 0.5) * self.each
        exposure = (history.e > 0).astype(float) if self.additive else history.e
        y, e = self._binned(history.y), self._binned(exposure)
        smooth = _smooth if width <= 2 * FINEST_S else lambda rows: rows
        shape = ratio(smooth(y), smooth(e))
        level = _moving_day(y.reshape(-1), e.reshape(-1), self.bins).reshape(count, self.bins)
        self.shape = shape - level if self.additive else shape / np.maximum(level, 1e-12)
        self.alike, self.sure = _alike(frame, count)
        enough = self.bins >= 96 and count >= 4
        self.gain = self._gain() if enough else None

    def _binned(self, values: Floats) -> Floats:
        whole = values[len(values) - self.count * self.per :].reshape(self.count, self.per)
        cut: Floats = whole[:, : self.bins * self.each].reshape(self.count, self.bins, self.each).sum(axis=2)
        return cut

    def combined(self, chosen: Whole) -> Floats:
        """The usual shape of those days: extremes do not count where there are enough."""
        rows = self.shape[chosen]
        if len(chosen) >= 5:
            usual = means(np.sort(rows, axis=0)[1:-1])
        else:
            usual = medians(rows) if len(chosen) >= 3 else means(rows)
        usual = self._filled(usual)
        if not self.additive:
            usual = np.log(np.maximum(usual, LEAST))
        if self.gain is not None:
            waves = np.fft.rfft(usual)
            waves[1:] *= self.gain[1:]
            usual = np.fft.irfft(waves, len(usual))
        return usual if self.additive else np.maximum(np.exp(usual), LEAST)

    def _filled(self, usual: Floats) -> Floats:
        """Where the chosen days show nothing: what lies between its neighbours, so that nothing jumps there."""
        known = np.nonzero(np.isfinite(usual))[0]
        if not len(known):
            return np.full(self.bins, 0.0 if self.additive else 1.0)
        around = np.concatenate((known - self.bins, known, known + self.bins))
        return as_floats(np.interp(np.arange(self.bins), around, np.tile(usual[known], 3)))

    def spread(self, shape: Floats) -> Floats:
        """A day's bins as its buckets, round the clock."""
        middles = np.concatenate(([self.middles[-1] - self.per], self.middles, [self.middles[0] + self.per]))
        around = np.concatenate((shape[-1:], shape, shape[:1]))
        return as_floats(np.interp(np.arange(self.per) + 0.5, middles, around))

    def _gain(self) -> Floats:
        """How much of each daily wave repeats from day to day (a Wiener filter): noise is no shape.

        Medians over days, so that the day of an incident does not count; the noise of the median of n complex Gaussian
        coefficients is 1.3 / n of the single one's, whose square is exponential with median log 2.
        """
        rows = np.where(np.isfinite(self.shape), self.shape, 0.0 if self.additive else 1.0)
        if not self.additive:
            rows = np.log(np.maximum(rows, LEAST))
        waves = np.fft.rfft(rows[self.alike] if len(self.alike) >= 3 else rows, axis=1)
        middle = np.median(waves.real, axis=0) + 1j * np.median(waves.imag, axis=0)
        noise = np.median(np.abs(waves - middle) ** 2, axis=0) / math.log(2) * (1.3 / len(waves))
        power = np.maximum(np.abs(middle) ** 2, 1e-12)
        pooled = np.convolve(np.pad(noise, 2, mode="edge"), np.ones(5) / 5, "valid")
        gain = np.clip(1 - 1.5 * pooled / power, 0.0, 1.0)
        gain[:3] = np.maximum(gain[:3], np.clip(1 - noise[:3] / power[:3], 0.0, 1.0))
        return as_floats(gain)


def _alike(frame: Frame, count: int) -> tuple[Whole, bool]:
    """Which days are like the one of the watch (working days, weekends), and whether a change of kind is understood."""
    watch = frame.began + 900.0
    kinds = np.array([weekday(watch - (count - day) * DAY_S) for day in range(count)])
    kind = weekday(watch)
    same = np.nonzero((kinds >= 5) == (kind >= 5))[0]
    alike = same if len(same) >= 2 else np.arange(count)
    changes = (weekday(frame.began - 4 * 3600) >= 5) != (weekday(frame.began + 4 * 3600) >= 5)
    weekdays = np.nonzero(kinds == kind)[0]
    weekdays = weekdays[weekdays >= 1]
    if changes and len(weekdays):
        return weekdays, True
    return alike, not changes


def _smooth(rows: Floats) -> Floats:
    """A quarter of an hour either way, over the ends of days."""
    flat = np.pad(rows.reshape(-1), len(_TRIANGLE) // 2)
    return np.convolve(flat, _TRIANGLE, "valid").reshape(rows.shape)


def _moving_day(y: Floats, e: Floats, day: int) -> Floats:
    """The mean over the day about each bin: continuous over midnight, unlike the mean of each day."""
    size, half = len(y), day // 2
    sums, weights, place = running(y), running(e), np.arange(len(y))
    low, high = np.maximum(place - half, 0), np.minimum(place + half, size)
    low = np.where(high == size, max(size - 2 * half, 0), low)
    high = np.where(low == 0, min(2 * half, size), high)
    return (sums[high] - sums[low]) / np.maximum(weights[high] - weights[low], 1e-12)


def minute_pattern(frame: Frame, y: Floats, e: Floats) -> Floats | None:
    """What repeats each hour (a job that runs at a quarter past): per bucket of the hour from the deployment on.

    Only what differs by four standard errors and 2 %; None: nothing does.
    """
    hour = round(3600 / frame.step)
    hours = min(len(y) // hour, 168) if hour else 0
    if hour < 6 or hours < 20:
        return None
    each = frame.buckets(1) if frame.step < 60 else 1
    rows = (hours, hour // each)

    def folded(values: Floats) -> Floats:
        cut = values[len(values) - hours * hour :].reshape(hours, hour)[:, : rows[1] * each]
        summed: Floats = cut.reshape(*rows, each).sum(axis=2)
        return summed

    top, bottom = folded(y), folded(e)
    x = ratio(top, bottom)
    if frame.additive:
        x = x - medians(x.T)[:, None]
    else:
        x = ratio(top, bottom * ratio(top.sum(axis=1), bottom.sum(axis=1))[:, None])
    return _clear(frame, x, hours, hour, each)


def daily_pattern(history: History, season: Season, count: int) -> Floats | None:
    """What repeats each day at the time of the watch and is too short for the day's shape (a nightly job).

    Per bucket of the watch, a factor (or difference); None: nothing clearly does, or fewer than four days are known.
    """
    frame = history.frame
    per, days = round(DAY_S / frame.step), int(history.days)
    count, lead = min(count, per), frame.buckets(60)
    if days < 4 or per < count + lead or season.ahead is None:
        return None
    rows, expected = [], []
    for day in range(1, days + 1):
        begin = history.size - day * per
        if begin < lead or begin + count > history.size:
            continue
        y, e = history.y[begin - lead : begin + count], history.e[begin - lead : begin + count]
        usual = season.past[begin - lead : begin + count]
        if frame.additive:
            seen = e > 0
            rest = np.where(seen, y - usual, np.nan)
            rows.append(rest[lead:] - (float(np.median(rest[:lead][seen[:lead]])) if seen[:lead].any() else np.nan))
        else:
            level = ratio(y[:lead].sum(keepdims=True), (e * usual)[:lead].sum(keepdims=True))
            rows.append(ratio(y[lead:], (e * usual)[lead:] * level))
            expected.append((e * usual)[lead:] * level)
    if len(rows) < 4:
        return None
    x = np.array(rows)
    middle = medians(x)
    one = 0.0 if frame.additive else 1.0
    error = 1.4826 * medians(np.abs(x - middle)) * 1.2533 / math.sqrt(len(rows))
    known = np.isfinite(middle) & np.isfinite(error)
    if not frame.additive:
        events = np.nan_to_num(medians(np.array(expected)))
        known &= events >= LEAST_EVENTS  # the median of a few events is not their mean
        error = np.maximum(error, 1.2533 / np.sqrt(np.maximum(events, 1e-9) * len(rows)))
    clear = known & (np.abs(middle - one) > np.maximum(4 * np.where(known, error, 0.0), 0.05))
    if not clear.any():
        return None
    found = np.where(clear, middle, one)
    return found if frame.additive else np.maximum(found, LEAST)


def _clear(frame: Frame, x: Floats, hours: int, hour: int, each: int) -> Floats | None:
    """The minutes that clearly stand out, as factors (or differences) of each bucket of the hour."""
    one = 0.0 if frame.additive else 1.0
    usual = medians(x)
    error = 1.4826 * medians(np.abs(x - usual)) * 1.2533 / math.sqrt(hours)
    known: Flags = np.isfinite(usual)
    middle = float(np.median(usual[known])) if known.any() else math.nan
    if not math.isfinite(middle) or (not frame.additive and middle <= 0):
        return None
    usual = np.where(known, usual - middle if frame.additive else usual / middle, one)
    clear = np.abs(usual - one) > np.maximum(4 * np.where(np.isfinite(error), error, 1e9), 0.02)
    if not clear.any():
        return None
    factors = np.repeat(np.where(clear, usual, one), each)
    factors = np.concatenate((factors, np.full(hour - len(factors), one)))
    return factors if frame.additive else np.maximum(factors, 0.05)
