"""A metric's past on a regular grid that ends at the deployment, cleaned of what cannot be used.

Counts, sums and proportions stay as they are (`y` of exposure `e`); latency and gauges are looked at as logarithms, so
that an effect is a factor everywhere. A gauge that reaches zero or below is divided by its usual size instead.
"""

from dataclasses import dataclass, field

import msgspec
import numpy as np

from andon.clock import Time
from andon.immune.arith import Flags, Floats, after, before, means, medians, ranked, ratio, running
from andon.model import MetricKind

DAY_S = 86_400.0
MOST_S = 15 * DAY_S
"""Older history is not looked at."""
GLITCH = 5.0
"""One lone bucket beyond so many times the 99 % quantile is a glitch of the measurement."""
MOST_SLOPE = 0.5
"""Latency grows with the logarithm of the load by at most this."""
ABSURD = 1e15
"""No number of a business is as large: what is, is broken."""
FEW = 20


@dataclass(frozen=True)
class Frame:
    """What is judged: the kind of metric, the bad direction, the length of a bucket and when the deployment began."""

    kind: MetricKind
    rises: bool
    """A rise is bad."""
    step: float
    began: Time

    @property
    def additive(self) -> bool:
        """Effects are differences of logarithms (latency, gauge), not factors of a rate."""
        return self.kind in ("latency", "gauge")

    @property
    def proportion(self) -> bool:
        """There are trials."""
        return self.kind == "proportion"

    @property
    def sign(self) -> int:
        """+1 if a rise is bad, -1 if a fall is."""
        return 1 if self.rises else -1

    def buckets(self, minutes: float) -> int:
        """How many buckets make up so many minutes: one at least."""
        return max(1, round(minutes * 60.0 / self.step))

    @property
    def minutes(self) -> float:
        """The length of a bucket."""
        return self.step / 60.0


class Load(msgspec.Struct, frozen=True):
    """How latency follows the number of requests: a surge of traffic is not a slow deployment."""

    slope: float = 0.0
    mean: float = 0.0
    """Of the logarithm of the requests per bucket."""
    window: int = 1
    """Buckets over which the load is averaged."""
    recent: tuple[float, ...] = ()
    """The logarithms of the last buckets before the deployment."""


@dataclass
class History:
    """The grid: bucket `i` began at `began - (size - i) * step`."""

    frame: Frame
    y: Floats
    """Events, successes, money, or the logarithm of a value; 0 where nothing usable was seen."""
    e: Floats
    """Trials, else 1; 0 where nothing usable was seen."""
    scale: float = 0.0
    """What values were divided by: for a sum the unit in which it varies as a count does, for a gauge that reaches zero its
    usual size; 0: nothing."""
    load: Load = field(default_factory=Load)

    @property
    def size(self) -> int:
        """How many buckets."""
        return len(self.y)

    @property
    def days(self) -> float:
        """How long it is."""
        return self.size * self.frame.step / DAY_S


def read(frame: Frame, at: Floats, value: Floats, n: Floats) -> History:
    """The history of closed buckets: their begins, values, and trials or requests (NaN where there are none)."""
    kept = (at < frame.began) & (at >= frame.began - MOST_S)
    at, value, n = at[kept], value[kept], n[kept]
    value, n = np.where(np.abs(value) < ABSURD, value, np.nan), np.where(np.abs(n) < ABSURD, n, np.nan)
    place = np.round((at - frame.began) / frame.step).astype(int)
    # What began within the last half bucket before the deployment belongs to it already.
    inside = place < 0
    place, value, n = place[inside], value[inside], n[inside]
    size = int(-place.min()) if len(place) else 1
    y, trials = np.full(size, np.nan), np.full(size, np.nan)
    y[place + size], trials[place + size] = value, n
    if frame.additive:
        return _additive(frame, y, trials)
    return _counted(frame, y, trials)


def _counted(frame: Frame, y: Floats, trials: Floats) -> History:
    """Counts, sums and proportions: negative numbers are counter resets, more successes than trials are nonsense."""
    e = trials if frame.proportion else np.ones(len(y))
    usable = np.isfinite(y) & (y >= 0)
    if frame.proportion:
        usable &= np.isfinite(e) & (e > 0) & (y <= e)
    y, e = np.where(usable, y, 0.0), np.where(usable, e, 0.0)
    if usable.sum() > FEW:
        rate = ratio(y, e)
        ordered = np.sort(rate[usable])
        usual = (10 if frame.proportion else 4) * max(float(ordered[len(ordered) // 2]), 1e-12)
        high = GLITCH * max(ranked(ordered, 0.99), usual)
        usable &= ~_lone(usable & (np.where(usable, rate, 0.0) > high))
    y, e = np.where(usable, y, 0.0), np.where(usable, e, 0.0)
    scale = _unit(y, e) if frame.kind == "sum" else 0.0
    return History(frame, y / scale if scale else y, e, scale)


def _unit(y: Floats, e: Floats) -> float:
    """The variance of a sum over its mean, from the differences of neighbours: a sum in this unit varies as a count does.

    The median of a squared standard normal variable is 0.455.
    """
    both = (e[1:] > 0) & (e[:-1] > 0) & (y[1:] + y[:-1] > 0)
    if int(both.sum()) < FEW:
        return max(float(y[y > 0].mean()), 1e-12) if (y > 0).any() else 0.0
    found = float(np.median(np.diff(y)[both] ** 2 / (y[1:] + y[:-1])[both])) / 0.455
    return max(found, 1e-12)


def _additive(frame: Frame, y: Floats, requests: Floats) -> History:
    """Latency and gauges, as logarithms."""
    seen = y[np.isfinite(y)]
    scale, load = 0.0, Load()
    if len(seen) and float(np.mean(seen <= 0)) > 0.01:
        scale = max(float(np.median(np.abs(seen))), 1e-12)
        y = y / scale
    else:
        positive = np.isfinite(y) & (y > 0)
        y = np.where(positive, np.log(np.where(positive, y, 1.0)), np.nan)
        if frame.kind == "latency" and int(np.isfinite(requests).sum()) > 60:
            load, effect = _load(frame, y, requests)
            y = y - effect
    usable = np.isfinite(y)
    if usable.sum() > FEW:
        ordered = np.sort(y[usable])
        middle = float(ordered[len(ordered) // 2])
        width = max(ranked(ordered, 0.95) - ranked(ordered, 0.05), 1e-6)
        usable &= ~_lone(usable & (np.abs(np.where(usable, y, middle) - middle) > 4 * width))
    return History(frame, np.where(usable, y, 0.0), usable.astype(float), scale, load)


def _lone(odd: Flags) -> Flags:
    """Odd buckets with ordinary neighbours. Longer runs are incidents and stay visible."""
    return odd & ~before(odd) & ~after(odd)


def _load(frame: Frame, y: Floats, requests: Floats) -> tuple[Load, Floats]:
    """The slope of log latency over log load, from medians of half hours, and its effect on each bucket."""
    busy = np.isfinite(requests) & (requests > 0)
    logs = np.where(busy, np.log(np.where(busy, requests, 1.0)), np.nan)
    mean = float(np.mean(logs[busy])) if busy.any() else 0.0
    none = Load(0.0, mean), np.zeros(len(y))
    half = frame.buckets(30)
    count = len(y) // half
    if count < 8:
        return none
    latency = medians(y[-count * half :].reshape(count, half).T)
    loads = means(logs[-count * half :].reshape(count, half).T)
    both = np.isfinite(latency) & np.isfinite(loads)
    if int(both.sum()) < 8:
        return none
    x, v = loads[both] - loads[both].mean(), latency[both] - latency[both].mean()
    spread = float(np.mean(x * x))
    if spread < 1e-4:
        return none
    slope = float(np.clip(np.mean(x * v) / spread, 0.0, MOST_SLOPE))
    window = frame.buckets(5)
    filled = np.where(np.isfinite(logs), logs, mean)
    sums, end = running(filled), np.arange(1, len(filled) + 1)
    begin = np.maximum(end - window, 0)
    averaged = (sums[end] - sums[begin]) / (end - begin)
    return Load(slope, mean, window, tuple(float(x) for x in filled[-window:])), slope * (averaged - mean)
