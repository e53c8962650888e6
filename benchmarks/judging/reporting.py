"""What the way from a service to the judge does to buckets: late, lost, repeated, reset, and plainly wrong."""

import math
from collections.abc import Callable

import numpy as np

from benchmarks.judging.play import Play, Rows


def on_the_way(change: Callable[[Play, Rows], Rows]) -> Callable[[Play], None]:
    """The event that does this to a play's buckets once they are drawn."""

    def event(play: Play) -> None:
        play.reporting.append(change)

    return event


def _late_runs(play: Play, longest_min: float) -> list[np.ndarray]:
    """Runs of buckets that are late, one of them in the watch; each ends while there is still a bucket to catch up."""
    rng, size = play.rng, len(play.t)
    starts = [rng.uniform(-4, 18), *rng.uniform(play.minutes[0], -20, int(rng.integers(0, 4)))]
    runs = []
    for start in starts:
        run = np.flatnonzero(play.during(start, start + rng.uniform(1, longest_min)))
        if len(run) and run[-1] + 1 < size:
            runs.append(run)
    return runs


def _late(play: Play, rows: Rows, arrives: float, *, longest_min: float = 8, trials_too: bool = True) -> Rows:
    """In late runs only this share arrives in time (NaN: not even a number); the next bucket holds the rest as well."""
    adds_up = play.metric.kind in ("count", "sum", "proportion")
    for run in _late_runs(play, longest_min):
        columns = [rows.value] if rows.n is None or not trials_too else [rows.value, rows.n]
        for column in columns:
            now = column[run] * arrives
            if play.metric.kind != "sum" and np.isfinite(arrives):
                now = np.floor(now)
            if adds_up:
                column[run[-1] + 1] += column[run].sum() - (0 if math.isnan(arrives) else now.sum())
            column[run] = now
    return rows


@on_the_way
def late_zeros(play: Play, rows: Rows) -> Rows:
    """Zeros, then a bucket that catches up."""
    return _late(play, rows, 0.0)


@on_the_way
def late_nothing(play: Play, rows: Rows) -> Rows:
    """NaN, then a bucket that catches up."""
    return _late(play, rows, math.nan)


@on_the_way
def late_part(play: Play, rows: Rows) -> Rows:
    """Buckets of which only a part has come, for so short a time that it is no outage yet; then one that catches up."""
    return _late(play, rows, play.rng.uniform(0.1, 0.7), longest_min=2.5)


@on_the_way
def late_successes(play: Play, rows: Rows) -> Rows:
    """Visits are told in time, what came of them later."""
    return _late(play, rows, 0.0, trials_too=False)


@on_the_way
def late_gap(play: Play, rows: Rows) -> Rows:
    """Buckets do not come at all, then one catches up."""
    state = play.rng.bit_generator.state
    lost = np.zeros(len(rows.t), bool)
    for run in _late_runs(play, 8):
        lost[run] = True
    play.rng.bit_generator.state = state
    return _late(play, rows, math.nan).where(~lost)


@on_the_way
def missing(play: Play, rows: Rows) -> Rows:
    """Many buckets are NaN or never come; around the deployment some in a row."""
    rng = play.rng
    gone = rng.uniform(size=len(rows.t)) < rng.uniform(0.1, 0.4)
    start = rng.uniform(-15, 12)
    gone |= play.during(start, start + rng.uniform(2, 5))
    as_nan = rng.uniform(size=len(rows.t)) < 0.5
    rows.value[gone & as_nan] = math.nan
    return rows.where(~gone | as_nan)


@on_the_way
def counter_reset(play: Play, rows: Rows) -> Rows:
    """Counters begin anew with the restart, and at times before: a bucket is negative, or lacks what came before it."""
    rng = play.rng
    first = int(np.searchsorted(rows.t, play.deploy_t))
    for at in (first, *rng.integers(0, first, int(rng.integers(0, 6)))):
        kept = rng.uniform(0, 1) if rng.uniform() < 0.5 else -rng.uniform(1, 200)
        for column in [rows.value] if rows.n is None else [rows.value, rows.n]:
            column[at] *= kept
    return rows


@on_the_way
def stuck(play: Play, rows: Rows) -> Rows:
    """For some minutes the same bucket is told again and again as if it were new."""
    rng = play.rng
    for start in (rng.uniform(-3, 20), *rng.uniform(play.minutes[0], -10, int(rng.integers(0, 6)))):
        run = np.flatnonzero(play.during(start, start + rng.uniform(1.5, 4)))
        for column in [rows.value] if rows.n is None else [rows.value, rows.n]:
            column[run] = column[run[:1]]
    return rows


@on_the_way
def told_twice(play: Play, rows: Rows) -> Rows:
    """Some buckets arrive twice."""
    times = 1 + (play.rng.uniform(size=len(rows.t)) < play.rng.uniform(0.02, 0.3))
    return rows.where(np.repeat(np.arange(len(rows.t)), times))


@on_the_way
def nonsense(play: Play, rows: Rows) -> Rows:
    """Single buckets that cannot be true: zero, far too large, negative, infinite, not a number."""
    rng, size = play.rng, len(rows.t)
    first = int(np.searchsorted(rows.t, play.deploy_t))
    for at in (rng.integers(first, size), *rng.integers(0, first, int(rng.integers(0, 9)))):
        wrong = [0.0, rows.value[at] * 60 + 10, -rows.value[at] * 50 - 1, math.inf, -math.inf, math.nan]
        rows.value[at] = wrong[int(rng.integers(len(wrong)))]
    return rows
