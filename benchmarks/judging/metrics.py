"""The metrics that are judged: how large they are, what one bucket of them shows, and what it can tell at best."""

import math
from dataclasses import dataclass

import numpy as np

from benchmarks.judging.world import Habit, counted

NAMES = ("orders", "conversion", "errors", "revenue", "latency", "queue", "sessions", "faults", "latency_alone")
KIND = {"orders": "count", "faults": "count", "conversion": "proportion", "errors": "proportion", "revenue": "sum"}
KIND |= {"latency": "latency", "latency_alone": "latency", "queue": "gauge", "sessions": "gauge"}
RISE_IS_BAD = {"faults", "errors", "latency", "latency_alone", "queue"}

P95 = 1.6449
AT_P95 = 0.10314
"""Density of the standard normal at its 95 % point."""
LOOKS, ALPHA = 30, 1e-3
"""A watch of thirty one-minute looks, and the chance of a false alarm in it that the bounds grant."""


@dataclass
class Metric:
    """One metric with its true parameters."""

    name: str
    rate: float = 0.0
    """Events, visits or requests a minute."""
    share: float = 0.0
    """Of visits that convert, of requests that fail."""
    order: float = 0.0
    """Standard deviation of the log of one order's value."""
    large: float = 0.0
    """Share of orders that are about twelve times as large as the others."""
    level: float = 0.0
    """Milliseconds, or whatever a gauge shows."""
    sd: float = 0.0
    """Of the log: of one request's time, or of a gauge from bucket to bucket."""
    memory_s: float = 0.0
    """Of a gauge."""
    jitter: float = 0.0
    """What moves a percentile beside its sampling, as a standard deviation of its log."""
    demand: float = 0.0
    """Elasticity: by how much the mean follows demand."""

    @property
    def kind(self) -> str:
        """As the judge is told."""
        return KIND[self.name]

    @property
    def rising(self) -> bool:
        """Whether a rise is bad."""
        return self.name in RISE_IS_BAD

    @property
    def direction(self) -> str:
        """As the judge is told."""
        return "increase" if self.rising else "decrease"


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


def draw_metric(rng: np.random.Generator, name: str) -> Metric:
    """A metric of this name as a business may have it, from one event a minute to thousands."""
    if name in ("orders", "faults"):
        return Metric(name, rate=log_uniform(rng, 1, 3000))
    if name == "revenue":
        return Metric(name, rate=log_uniform(rng, 5, 2000), order=rng.uniform(0.4, 1.1))
    if name == "conversion":
        rate, share = log_uniform(rng, 60, 20000), log_uniform(rng, 0.01, 0.6)
        return Metric(name, rate=rate, share=share, demand=rng.uniform(-0.05, 0.2))
    if name == "errors":
        return Metric(name, rate=log_uniform(rng, 300, 60000), share=log_uniform(rng, 5e-4, 0.02))
    if name in ("latency", "latency_alone"):
        follow = rng.uniform(0, 0.15) if name == "latency" else rng.uniform(0, 0.03)
        level, sd, jitter = log_uniform(rng, 20, 600), rng.uniform(0.4, 0.9), rng.uniform(0.01, 0.05)
        return Metric(name, log_uniform(rng, 30, 20000), level=level, sd=sd, jitter=jitter, demand=follow)
    sd, memory_s = rng.uniform(0.02, 0.08), float(rng.choice([0, 60, 300, 900]))
    return Metric(name, level=log_uniform(rng, 5, 5000), sd=sd, memory_s=memory_s, demand=rng.uniform(0.1, 0.4))


def factor(metric: Metric, effect: float) -> float:
    """What a change for the worse of this relative size multiplies the mean with."""
    return 1 + effect if metric.rising else 1 - effect


def money_spread(metric: Metric) -> float:
    """Squared coefficient of variation of one order's value."""
    usual = math.exp(metric.order**2)
    mean = 1 + 11 * metric.large
    return usual * (1 + 143 * metric.large) / mean**2 - 1


def percentile_variance(metric: Metric, requests: np.ndarray | float) -> np.ndarray | float:
    """Variance of the log of a bucket's 95th percentile."""
    return (metric.sd * math.sqrt(0.95 * 0.05) / AT_P95) ** 2 / np.maximum(requests, 5)


def information(metric: Metric, habit: Habit, demand: float, effect: float, step: float) -> float:
    """Nats a minute by which a sharp change of this size tells itself from none, if everything else were known.

    The Kullback-Leibler divergence per bucket, over the minutes of a bucket. Noise that lasts is not counted.
    """
    f = factor(metric, effect)
    if metric.kind in ("count", "sum"):
        clumps = habit.spread + (money_spread(metric) if metric.kind == "sum" else 0)
        return metric.rate * demand * (xlog(f, f) - f + 1) / clumps
    if metric.kind == "proportion":
        before = min(metric.share * demand**metric.demand, 0.98)
        after = min(before * f, 0.98)
        bits = xlog(after, after / before) + xlog(1 - after, (1 - after) / (1 - before))
        return metric.rate * demand * bits / clustering(habit)
    shift = math.log(max(f, 1e-6))
    if metric.kind == "latency":
        variance = float(percentile_variance(metric, metric.rate * demand * step / 60)) + metric.jitter**2
        return shift**2 / (2 * variance) * 60 / step
    keep = math.exp(-step / metric.memory_s) if metric.memory_s else 0.0
    return shift**2 / (2 * metric.sd**2) * (1 - keep) / (1 + keep) * 60 / step


def clustering(habit: Habit) -> float:
    """By how much visitors who resemble each other inflate the variance of a share."""
    return 1 + (habit.spread - 1) / 3


def xlog(x: float, y: float) -> float:
    return x * math.log(y) if x > 0 else 0.0


def bound_min(nats: float) -> float:
    """Minutes that no judge beats on average: Lorden's bound, log of looks over alpha, over the information."""
    return math.log(LOOKS / ALPHA) / nats if nats > 0 else math.inf


def observe(
    rng: np.random.Generator, metric: Metric, habit: Habit, step: float, demand: np.ndarray, mean: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """One value a bucket, and the trials or requests behind it. `mean` multiplies the metric's own, noise included."""
    if metric.kind in ("count", "sum"):
        events = counted(rng, metric.rate * step / 60 * demand * mean, habit.spread)
        return (events if metric.kind == "count" else takings(rng, metric, events.astype(int))), None
    if metric.kind == "proportion":
        trials = counted(rng, metric.rate * step / 60 * demand, habit.spread)
        share = np.clip(metric.share * mean, 0, 0.98)
        return successes(rng, trials, share, clustering(habit)), trials
    if metric.kind == "latency":
        requests = np.maximum(counted(rng, metric.rate * step / 60 * demand, habit.spread), 1)
        sampling = np.sqrt(percentile_variance(metric, requests)) * rng.standard_normal(len(requests))
        rest = metric.jitter * rng.standard_t(4, len(requests)) / math.sqrt(2)
        value = metric.level * math.exp(P95 * metric.sd) * np.exp(sampling + rest) * mean
        return np.round(value, 3), requests if metric.name == "latency" else None
    return np.round(metric.level * mean, 4), None


def successes(rng: np.random.Generator, trials: np.ndarray, share: np.ndarray, inflation: float) -> np.ndarray:
    """Binomial, or beta-binomial with about this inflation of the variance at the mean number of trials."""
    if inflation > 1:
        alike = min((inflation - 1) / max(float(trials.mean()) - 1, 1), 0.2)
        good, bad = share * (1 / alike - 1), (1 - share) * (1 / alike - 1)
        share = rng.beta(np.maximum(good, 1e-9), np.maximum(bad, 1e-9))
    return rng.binomial(trials.astype(int), share).astype(float)


def takings(rng: np.random.Generator, metric: Metric, orders: np.ndarray) -> np.ndarray:
    """Money of each bucket: every order drawn, or a gamma of the same mean and variance where there are many."""
    big = rng.binomial(orders, metric.large)
    return np.round(_money(rng, orders - big, 40, metric.order) + _money(rng, big, 480, metric.order), 2)


def _money(rng: np.random.Generator, orders: np.ndarray, median: float, sd: float) -> np.ndarray:
    mean, relative = median * math.exp(sd**2 / 2), math.exp(sd**2) - 1
    many = orders > 20
    few = np.where(many, 0, orders)
    drawn = np.exp(rng.normal(math.log(median), sd, int(few.sum())))
    money = np.zeros(len(orders))
    np.add.at(money, np.repeat(np.arange(len(orders)), few), drawn)
    money[many] = rng.gamma(orders[many] / relative, mean * relative)
    return money
