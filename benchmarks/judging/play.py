"""One scenario while it is written, and what a judge is then given of it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from benchmarks.judging import metrics
from benchmarks.judging.metrics import Metric
from benchmarks.judging.world import DAY, MINUTE, Habit, day_off, lasting, season, whole_days

FOLLOWS_THE_CROWD = {"latency", "latency_alone", "sessions"}
"""Metrics whose mean follows a promotion's demand, not only that of an ordinary day."""

Row = tuple[float, float, float | None]
"""Start of the bucket, value, trials or requests."""


@dataclass
class Rows:
    """Buckets in the order in which they arrive."""

    t: np.ndarray
    value: np.ndarray
    n: np.ndarray | None

    def listed(self) -> list[Row]:
        """As a judge takes them."""
        n = [None] * len(self.t) if self.n is None else self.n.tolist()
        return list(zip(self.t.tolist(), self.value.tolist(), n, strict=True))

    def where(self, which: np.ndarray) -> "Rows":
        """Those; `which` may also name some twice or in another order."""
        return Rows(self.t[which], self.value[which], None if self.n is None else self.n[which])


@dataclass
class Play:
    """What happens to one metric, bucket by bucket, before anything is drawn from it."""

    rng: np.random.Generator
    metric: Metric
    habit: Habit
    step: float
    deploy_t: float
    t: np.ndarray
    clock_s: np.ndarray
    """By how much the clock on the wall is ahead."""
    off: np.ndarray
    """How much of a day off the calendar does not know of, 0 to 1."""
    demand: np.ndarray
    """Multiplies demand."""
    change: np.ndarray
    """Multiplies the metric's mean."""
    idle: np.ndarray
    """Visits that never convert, per ordinary visit."""
    reporting: list[Callable[["Play", Rows], Rows]] = field(default_factory=list)
    """What the way from the service to the judge does to the buckets."""
    past_deploys: list[float] = field(default_factory=list)
    bad_from_s: float | None = None
    """Seconds after the deployment at which it begins to do harm."""
    effect: float = 0.0
    telling: float = 0.0
    """The effect that the bound is reckoned with."""

    @property
    def minutes(self) -> np.ndarray:
        """Since the deployment, at the start of each bucket."""
        return (self.t - self.deploy_t) / MINUTE

    def during(self, start: float, end: float) -> np.ndarray:
        """The buckets that begin in these minutes after the deployment."""
        return (self.minutes >= start) & (self.minutes < end)

    def worse(self, which: np.ndarray, effect: float) -> None:
        """Make the metric worse by this relative size in these buckets."""
        self.change[which] *= metrics.factor(self.metric, effect)

    def harm(self, low: float = 0.3, high: float = 1.0) -> float:
        """The size of a disturbance that everybody would call one."""
        if not self.metric.rising:
            return self.rng.uniform(low, high)
        return self.rng.uniform(2, 40) if self.metric.kind in ("proportion", "count") else self.rng.uniform(low, 3)

    def bound_min(self) -> float:
        """Minutes that the harm takes the best judge, at the rate of this deployment's time."""
        at = np.array([self.deploy_t])
        local = at + np.interp(self.deploy_t, self.t, self.clock_s)
        demand = float(np.exp(season(self.habit, local))[0])
        return metrics.bound_min(metrics.information(self.metric, self.habit, demand, self.telling, self.step))

    def rows(self) -> Rows:
        """Draw the buckets."""
        size, rng, habit = len(self.t), self.rng, self.habit
        local = self.t + self.clock_s
        usual = season(habit, local, np.maximum(day_off(local), self.off)) + habit.growth * self.t / DAY
        usual = np.exp(usual + whole_days(rng, self.t, habit.wobble))
        noise = lasting(rng, size, self.step, habit.noise, habit.memory_s)
        noise += lasting(rng, size, self.step, habit.wander, DAY / 2)
        if self.metric.kind == "gauge":
            noise += lasting(rng, size, self.step, self.metric.sd, max(self.metric.memory_s, 1e-3))
        crowd = usual * self.demand
        load = crowd if self.metric.name in FOLLOWS_THE_CROWD else usual
        mean = self.change * load**self.metric.demand * np.exp(noise)
        value, n = metrics.observe(rng, self.metric, habit, self.step, crowd, mean)
        if n is not None and self.metric.kind == "proportion":
            n = n + rng.poisson(n * self.idle)
        rows = Rows(self.t, value, n)
        for change in self.reporting:
            rows = change(self, rows)
        return rows


def blank(
    rng: np.random.Generator,
    metric: Metric,
    habit: Habit,
    step: float,
    deploy_t: float,
    history_s: float,
    watch_s: float,
) -> Play:
    """A play in which nothing happens yet."""
    before, after = int(history_s / step), int(watch_s / step)
    t = deploy_t + step * np.arange(-before, after)
    ones, zeros = np.ones(len(t)), np.zeros(len(t))
    return Play(rng, metric, habit, step, deploy_t, t, zeros, zeros.copy(), ones, ones.copy(), zeros.copy())


@dataclass
class Series:
    """One metric as a judge is given it."""

    metric: str
    kind: str
    direction: str
    baseline: list[Row]
    live: list[Row]


@dataclass
class Scenario:
    """One deployment, what is seen of it, and the truth."""

    family: str
    index: int
    deploy_t: float
    step: float
    watch_s: float
    history_s: float
    series: list[Series]
    bad: int | None = None
    """Which series the deployment made worse; None if it is healthy."""
    bad_from_s: float = 0.0
    effect: float = 0.0
    bound_min: float = float("inf")
    within_s: float = 1800.0
    """An alarm counts up to so many seconds after the harm began."""
    past_deploys: list[float] = field(default_factory=list)


def series_of(play: Play) -> Series:
    """What a judge is given: the history up to the deployment, and the live buckets after it."""
    rows = play.rows()
    before = rows.t < play.deploy_t
    metric = play.metric
    return Series(metric.name, metric.kind, metric.direction, rows.where(before).listed(), rows.where(~before).listed())
