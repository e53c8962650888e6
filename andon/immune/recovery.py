"""Did it help? After a rollback the metric that regressed is measured again."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

from andon.clock import Time, long_age
from andon.immune.threshold import buckets_of, number
from andon.model import Metric, Sample

LIMIT_S = 900.0
"""Back within bounds for `for:` by then is recovered; else it is not."""
NEARER = 0.5
LEAST_BUCKETS, LEAST_S = 3, 180.0
"""Without a threshold it must be back for so many buckets, and so long."""

Word = Literal["recovered", "not recovered", "too early"]


def measure(metric: Metric, rows: Sequence[Sample], undone_at: Time, now: Time) -> tuple[Word, str]:
    """Whether `metric` is back within its bounds after the rollback that was confirmed at `undone_at`."""
    threshold = metric.threshold
    if threshold is None:
        return "too early", f"{metric.name} has no bounds to return to"
    need, limit = buckets_of(metric, threshold), undone_at + LIMIT_S
    after = [(row, row.shown(metric.kind)) for row in rows if undone_at <= row.at and row.at + metric.every <= limit]
    run: list[tuple[Time, float]] = []
    for row, value in after:
        follows = not run or abs(run[-1][0] + metric.every - row.at) < 1e-6
        kept = run if follows else []
        run = [] if value is None or threshold.beyond(value) else [*kept, (row.at, value)]
        if len(run) >= need:
            back = long_age(max(0.0, run[0][0] - undone_at))
            mean = sum(value for _, value in run[-need:]) / need
            return "recovered", f"{metric.name} {number(mean, metric)}, back within bounds {back} after the rollback"
    values = [value for _, value in after if value is not None]
    if now <= limit + metric.lag:
        return "too early", f"{metric.name}: {len(run)} of {need} buckets within bounds since the rollback"
    if not any(threshold.beyond(value) for value in values):
        # Gaps show nothing: neither that it came back nor that it did not.
        return "too early", f"{metric.name}: too little was measured in the {long_age(LIMIT_S)} after the rollback"
    return (
        "not recovered",
        f"{metric.name} {number(values[-1], metric)} after {long_age(LIMIT_S)}: suspect something else",
    )


def measure_expected(
    metric: Metric,
    rows: Sequence[Sample],
    undone_at: Time,
    now: Time,
    expected: Callable[[Time], float],
    effect: float,
) -> tuple[Word, str]:
    """The same for a metric without a threshold: whether it is nearer to what was expected than to what was found.

    `expected(at)` is what a bucket would have shown, `effect` the signed part that it was off by: -0.23.
    """
    need, limit = least(metric), undone_at + LIMIT_S
    after = [
        (row.at, value, expected(row.at))
        for row in rows
        if undone_at <= row.at and row.at + metric.every <= limit and (value := row.shown(metric.kind)) is not None
    ]
    for end in range(need, len(after) + 1):
        last = after[end - need : end]
        was, seen = sum(item[2] for item in last) / need, sum(item[1] for item in last) / need
        if was and (seen / was - 1) / effect < NEARER:
            back = long_age(max(0.0, last[0][0] - undone_at))
            words = f"{number(seen, metric)}, expected {number(was, metric)}, back {back} after the rollback"
            return "recovered", f"{metric.name} {words}"
    if now <= limit + metric.lag:
        return "too early", f"{metric.name}: {min(len(after), need)} of {need} buckets measured since the rollback"
    if len(after) < need:
        return "too early", f"{metric.name}: too little was measured in the {long_age(LIMIT_S)} after the rollback"
    seen, was = after[-1][1], after[-1][2]
    words = f"{number(seen, metric)}, expected {number(was, metric)}, after {long_age(LIMIT_S)}: suspect something else"
    return "not recovered", f"{metric.name} {words}"


def least(metric: Metric) -> int:
    """How many buckets without a threshold must agree."""
    return max(LEAST_BUCKETS, math.ceil(LEAST_S / metric.every))


def off_by(metric: Metric, rows: Sequence[Sample], expected: Callable[[Time], float]) -> float | None:
    """By which signed part of what was expected those buckets are off: -0.23; None: too few, or nothing was expected."""
    seen = [(value, expected(row.at)) for row in rows if (value := row.shown(metric.kind)) is not None]
    was = sum(item[1] for item in seen)
    return sum(item[0] for item in seen) / was - 1 if len(seen) >= least(metric) and was else None
