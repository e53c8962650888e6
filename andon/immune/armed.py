"""Arming: all that is known of a metric when a deployment begins, in one record.

A verdict is made from this record and the closed buckets alone, so the two in the ledger give the same verdict again.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from andon.clock import Time
from andon.immune import standing
from andon.immune.arith import Floats, as_floats
from andon.immune.bursts import bursts
from andon.immune.history import Frame, History, Load, read
from andon.immune.inflation import Inflation, inflation
from andon.immune.levels import Levels, levels
from andon.immune.season import LEAST, daily_pattern
from andon.model import MetricKind

ALPHA = 1e-3
"""The chance that a healthy deployment is ever called regressed, over all its metrics (Ville 1939)."""
RESTART_S = 120.0
"""A restart may look like an outage for so long, where nothing is known of the service."""
AFTER_S, AFTER_LEARNED_S, AFTER_NEW_S = 120.0, 60.0, 180.0
"""An onset within the restart window is called so long after it: usually; where the window was learned from the service's
own deployments; where fewer than `LEARN_FROM` of them are known."""
LEARN_FROM = 5
BLIP_MIN = 6
HOLD_S = 600.0
"""Exact zeros where events are expected are held back so long: they may be late, and come in one bucket."""

FALLS = ((0.95, 0.9, 0.8, 0.65, 0.4, 0.1, 0.01), (0.05, 0.12, 0.28, 0.22, 0.18, 0.08, 0.07))
RISES = ((1.05, 1.1, 1.2, 1.4, 2.0, 4.0), (0.07, 0.20, 0.28, 0.21, 0.14, 0.10))
RATIOS = ((1.15, 1.3, 1.6, 2.2, 4.0, 10.0, 40.0), (0.05, 0.12, 0.24, 0.25, 0.18, 0.10, 0.06))
"""Effects that compete, as factors, and their prior weights: falls; rises of latency and gauges; rises of rates."""


class Armed(msgspec.Struct, frozen=True):
    """A metric armed for one deployment. Times in seconds; levels per bucket, per trial, or logarithms."""

    kind: MetricKind
    rises: bool
    step: float
    began: Time
    level: float
    """What one bucket of exposure 1 would bring without a season."""
    factors: tuple[float, ...]
    """Season and hourly pattern of each bucket of the watch."""
    inflation: Inflation
    variance: float
    share: float
    state: standing.State
    threshold: float
    """log(metrics / alpha): what the log evidence has to reach."""
    earlier: tuple[float, ...] | None = None
    """Per effect the log evidence that it began in the hour before; None: nothing earlier competes."""
    restart_s: float = RESTART_S
    after_s: float = AFTER_S
    hold_s: float = HOLD_S
    burst_s: float = 0.0
    """How long the bursts were that this metric had in the past without a deployment; 0: it had none."""
    scale: float = 0.0
    load: Load = Load()
    exposure: float = 1.0
    """Trials of a bucket in the hour before; 1 where there are none."""
    watched: int = 0
    """Buckets of the watch; `factors` may go on, for what is measured after it. 0: all of them."""
    history_s: float = 0.0
    """Seconds of usable history it was armed with."""
    seasonal: bool = False

    @property
    def frame(self) -> Frame:
        """What is judged."""
        return Frame(self.kind, self.rises, self.step, self.began)

    @property
    def effects(self) -> Floats:
        """The effects that compete, as factors."""
        return np.array(grid(self.kind, self.rises)[0])

    @property
    def log_weights(self) -> Floats:
        """The logarithms of their prior weights."""
        return log_weights(self.kind, self.rises)

    @property
    def shifts(self) -> Floats:
        """The effects as differences on the scale of an additive metric."""
        return shifts(self.effects, self.scale, self.level)


def arm(
    frame: Frame,
    at: Floats,
    value: Floats,
    n: Floats,
    *,
    metrics: int = 1,
    watch_s: float = 3600.0,
    after_s: float = 0.0,
    suspects: Sequence[Time] = (),
    past: Sequence[Time] | None = None,
) -> Armed:
    """Arm a metric with its closed buckets before the deployment: their begins, values, trials or requests (else NaN).

    `metrics` are watched together and share alpha. `after_s`: for how long after the watch what was expected is to be
    known. `suspects`: the service's deployments in the hour before. `past`: all
    its known earlier deployments, from which the restart window is learned; None: nothing is said of them.
    """
    history = read(frame, at, value, n)
    found = levels(history)
    inflated = inflation(found)
    state, level = standing.stood(found, inflated)
    weights = log_weights(frame.kind, frame.rises)
    effects = np.array(grid(frame.kind, frame.rises)[0])
    earlier = None
    if state not in ("incident", "growing"):
        moved = shifts(effects, history.scale, level)
        earlier = standing.earlier_onsets(found, inflated, effects, moved, weights, suspects)
    restart_s, wait_s = _restart(found, inflated, past)
    watched = math.ceil(watch_s / frame.step) + 2
    return Armed(
        kind=frame.kind,
        rises=frame.rises,
        step=frame.step,
        began=frame.began,
        level=level,
        factors=_factors(history, found, watched + math.ceil(after_s / frame.step)),
        inflation=inflated,
        variance=found.variance,
        share=found.share,
        state=state,
        threshold=math.log(metrics / ALPHA),
        earlier=None if earlier is None else tuple(float(x) for x in earlier),
        restart_s=restart_s,
        after_s=wait_s,
        burst_s=bursts(found, inflated, past or ()),
        scale=history.scale,
        load=history.load,
        exposure=_exposure(history),
        watched=watched,
        history_s=_known(history),
        seasonal=found.season.ahead is not None and found.season.sure,
    )


def shifts(effects: Floats, scale: float, level: float) -> Floats:
    """Effects as differences: of logarithms, or of a gauge that reaches zero, in parts of its level."""
    if not scale:
        return np.log(effects)
    return (effects - 1) * (abs(level) if abs(level) > 1e-9 else 1.0)


def grid(kind: MetricKind, rises: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The effects that compete, as factors, and their prior weights."""
    if not rises:
        return FALLS
    return RISES if kind in ("latency", "gauge") else RATIOS


def log_weights(kind: MetricKind, rises: bool) -> Floats:
    """The logarithms of the prior weights, which are 1 in all."""
    weights = np.array(grid(kind, rises)[1])
    return as_floats(np.log(weights / weights.sum()))


def _known(history: History) -> float:
    """Seconds of usable history."""
    return float((history.e > 0).sum()) * history.frame.step


def _exposure(history: History) -> float:
    """Trials of a bucket in the last hour, where there are any."""
    recent = history.e[-history.frame.buckets(60) :]
    seen = recent[recent > 0]
    return float(seen.mean()) if history.frame.proportion and len(seen) else 1.0


def _factors(history: History, levels: Levels, count: int) -> tuple[float, ...]:
    """What season and hourly pattern say of each bucket of the watch."""
    place = np.arange(count)
    additive = levels.frame.additive
    factors = np.zeros(count) if additive else np.ones(count)
    if levels.season.ahead is not None:
        ahead = levels.season.ahead[place % len(levels.season.ahead)]
        factors = ahead if additive else np.maximum(ahead, LEAST)
    if levels.minutes is not None:
        minutes = levels.minutes[place % len(levels.minutes)]
        factors = factors + minutes if additive else factors * minutes
    daily = daily_pattern(history, levels.season, count)
    if daily is not None:
        daily = np.concatenate((daily, np.full(count - len(daily), 0.0 if additive else 1.0)))
        factors = factors + daily if additive else factors * daily
    return tuple(float(x) for x in factors)


def _restart(levels: Levels, inflated: Inflation, past: Sequence[Time] | None) -> tuple[float, float]:
    """The restart window, and how long after it an onset in it may be called.

    Learned from the service's own deployments: the 90 % quantile of how long each looked bad, and half a minute.
    """
    frame, lengths = levels.frame, []
    for at in past or ():
        place = levels.size + round((at - frame.began) / frame.step)
        length = _blip(levels, inflated, place)
        if length is not None:
            lengths.append(length)
    if len(lengths) < LEARN_FROM:
        return RESTART_S, AFTER_S if past is None else AFTER_NEW_S
    spare = 30.0 if max(lengths) > 0 else 0.0
    return float(np.clip(np.quantile(lengths, 0.9) + spare, 60.0, 300.0)), AFTER_LEARNED_S


def _blip(levels: Levels, inflated: Inflation, place: int) -> float | None:
    """For how many seconds a metric looked bad after an earlier deployment; None: it cannot be told."""
    frame, window, length = levels.frame, min(inflated.window, place), levels.frame.buckets(BLIP_MIN)
    if window < 3 or place + length > levels.size:
        return None
    level = levels.level(place - window, place)
    if level is None:
        return None
    y = np.diff(levels.sums[place : place + length + 1])
    e = np.diff(levels.exposure[place : place + length + 1])
    f = inflated.table[0][0]
    if frame.additive:
        z = (y - level * e) / math.sqrt(levels.variance * f)
    else:
        z = (y - level * e) / np.sqrt(np.maximum(level * e, 0.5) * f)
    bad = np.nonzero((frame.sign * z > 3.5) & (e > 0))[0]
    return float((bad[-1] + 1) * frame.step) if len(bad) else 0.0
