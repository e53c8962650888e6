"""A deployment beside a concurrent control: a canary beside what is stable, at the same time and under the same troubles.

A judge of this kind is `make_control_detector(metric_kind, direction, baseline, deploy_t, *, n_metrics=1, step=60.0)` with
`update(t, value, exposure, control_value, control_exposure)`. Exposure is trials, or the share of all traffic where events
are counted. `baseline` has rows of the same form; here it is empty: there was no canary before the deployment.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from benchmarks.judging import metrics, run
from benchmarks.judging.metrics import LOOKS, Metric, draw_metric, xlog
from benchmarks.judging.scenarios import WEEK, rng_of
from benchmarks.judging.world import draw_habit, lasting, season

NAMES = ("orders", "conversion", "errors", "faults")
TROUBLES = ("plain", "outage", "surge", "restart", "warming")
SHARES = (0.05, 0.2, 0.5)

Beside = tuple[float, float, float, float, float]


@dataclass
class Trial:
    """One canary, and what was said of it."""

    trouble: str
    share: float
    effect: float
    bound_min: float
    alarm_min: dict[str, float | None] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


def make(seed: int, trouble: str, share: float, effect: float, index: int) -> tuple[Metric, list[Beside], float]:
    """The metric, thirty minutes of both sides, and the bound. An effect of 0 is healthy."""
    rng = rng_of(seed, f"control, {trouble}, {share}, {effect}", index)
    metric, habit = draw_metric(rng, NAMES[index % len(NAMES)]), draw_habit(rng)
    if metric.kind == "count":
        metric.rate = metrics.log_uniform(rng, 20, 3000)
    t = 60.0 * np.arange(LOOKS) + 60 * round((3 * WEEK + rng.uniform(0, WEEK)) / 60)
    demand = np.exp(season(habit, t) + lasting(rng, LOOKS, 60, 0.05, 300))
    both = np.exp(lasting(rng, LOOKS, 60, 0.1, 600))
    start = int(rng.integers(0, 20))
    if trouble == "outage":
        both[start : start + int(rng.integers(3, 30))] *= (
            rng.uniform(2, 20) if metric.rising else rng.uniform(0.05, 0.6)
        )
    if trouble == "surge":
        demand[start:] *= rng.uniform(1.5, 4)
    shares = np.full(LOOKS, share)
    if trouble == "warming":  # traffic moves over bit by bit
        shares = share * np.clip((np.arange(LOOKS) + 1) / rng.uniform(2, 10), 0.05, 1)
    change = np.full(LOOKS, metrics.factor(metric, effect))
    if trouble == "restart":
        change[:2] *= rng.uniform(2, 10) if metric.rising else rng.uniform(0.1, 0.6)
    rows = [_both_sides(rng, metric, *row) for row in zip(t, demand * metric.rate, both, shares, change, strict=True)]
    rate = metric.rate * float((demand * both)[:15].mean()) * (metric.share if metric.kind == "proportion" else 1)
    return metric, rows, _bound_min(rate, share, metrics.factor(metric, effect))


def _both_sides(
    rng: np.random.Generator, metric: Metric, t: float, rate: float, both: float, share: float, change: float
) -> Beside:
    if metric.kind == "count":
        canary, control = rng.poisson(rate * both * share * change), rng.poisson(rate * both * (1 - share))
        return t, float(canary), share, float(control), 1 - share
    trials, others = rng.poisson(rate * share), rng.poisson(rate * (1 - share))
    chance = min(metric.share * both, 0.9)
    failures = rng.binomial(trials, min(chance * change, 0.98)), rng.binomial(others, chance)
    return t, float(failures[0]), float(trials), float(failures[1]), float(others)


def _bound_min(rate: float, share: float, f: float) -> float:
    """Lorden's bound for the share of events that fall on the canary, given how many there are on both sides."""
    events = rate * (share * f + 1 - share)
    theirs = share * f / (share * f + 1 - share)
    return metrics.bound_min(events * (xlog(theirs, theirs / share) + xlog(1 - theirs, (1 - theirs) / (1 - share))))


def judge(task: tuple[int, str, float, float, int, tuple[str, ...]]) -> Trial:
    """One canary, judged by all."""
    *which, paths = task
    metric, rows, bound = make(*which)
    _, trouble, share, effect, _ = which
    trial = Trial(trouble, share, effect, bound)
    for path in paths:
        trial.alarm_min[path] = None
        try:
            trial.alarm_min[path] = watch(path, metric, rows)
        except Exception as error:  # noqa: BLE001 - a judge that breaks is a finding, told in the table
            trial.errors[path] = f"{type(error).__name__}: {error}"
    return trial


def watch(path: str, metric: Metric, rows: list[Beside]) -> float | None:
    """Minutes to *regressed*, or None."""
    watching = run.arm(path, metric.kind, metric.direction, [], rows[0][0], n_metrics=1, step=60.0)
    for row in rows:
        if watching.update(*row) == "regressed":
            return (row[0] + 60 - rows[0][0]) / 60
    return None


def tasks(seed: int, n: int, paths: tuple[str, ...]) -> list[tuple[int, str, float, float, int, tuple[str, ...]]]:
    """Healthy ones under each trouble and share, and half as many bad ones, of 20 % and of 50 %."""
    found = []
    for trouble in TROUBLES:
        for share in SHARES:
            for effect, many in ((0.0, n), (0.2, math.ceil(n / 4)), (0.5, math.ceil(n / 4))):
                found += [(seed, trouble, share, effect, index, paths) for index in range(many)]
    return found
