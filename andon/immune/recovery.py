"""Did it help? After a rollback the metric that regressed is measured again."""

from collections.abc import Sequence
from typing import Literal

from andon.clock import Time, long_age
from andon.immune.threshold import buckets_of, number
from andon.model import Metric, Sample

LIMIT_S = 900.0
"""Back within bounds for `for:` by then is recovered; else it is not."""

Word = Literal["recovered", "not recovered", "too early"]


def measure(metric: Metric, rows: Sequence[Sample], undone_at: Time, now: Time) -> tuple[Word, str]:
    """Whether `metric` is back within its bounds after the rollback that was confirmed at `undone_at`."""
    threshold = metric.threshold
    if threshold is None:
        return "too early", f"{metric.name} has no bounds to return to"
    need = buckets_of(metric, threshold)
    after = [(row, row.shown(metric.kind)) for row in rows if row.at >= undone_at]
    run: list[tuple[Time, float]] = []
    for row, value in after:
        follows = not run or abs(run[-1][0] + metric.every - row.at) < 1e-6
        kept = run if follows else []
        run = [] if value is None or threshold.beyond(value) else [*kept, (row.at, value)]
        if len(run) >= need:
            back = long_age(max(0.0, run[0][0] - undone_at))
            mean = sum(value for _, value in run[-need:]) / need
            return "recovered", f"{metric.name} {number(mean, metric)}, back within bounds {back} after the rollback"
    if now - undone_at > LIMIT_S + metric.lag:
        last = next((value for _, value in reversed(after) if value is not None), None)
        seen = number(last, metric) if last is not None else "not measured"
        return "not recovered", f"{metric.name} {seen} after {long_age(LIMIT_S)}: suspect something else"
    return "too early", f"{metric.name}: {len(run)} of {need} buckets within bounds since the rollback"
