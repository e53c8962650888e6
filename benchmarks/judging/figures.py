"""What the records add up to: rates with their bounds, recall, delay. Every figure says from how many cases it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.judging import chance
from benchmarks.judging.run import Record

HEALTHY = ("plain", "known", "confounded")
BANDS = ((0, 0.2), (0.2, 1), (1, 3), (3, 5), (5, 10), (10, 15), (15, 30))
"""Of Lorden's bound, in minutes."""
FINE_S = 60.0
"""Delays are told of buckets up to this long: with longer ones it is the bucket that is waited for."""


@dataclass
class Figure:
    """One cell of a table: as it is printed, and as numbers."""

    text: str
    value: float | None
    cases: int


def alarmed(record: Record, path: str) -> bool:
    return record.said[path].alarm_s is not None


def delay_min(record: Record, path: str) -> float | None:
    """From the harm to the alarm, if it came after it, in time, and on the right metric."""
    said = record.said[path]
    if record.bad is None or said.alarm_s is None or said.which != record.bad:
        return None
    late_s = said.alarm_s - record.bad_from_s
    return late_s / 60 if 0 < late_s <= record.within_s else None


def false_rate(records: Sequence[Record], path: str) -> Figure:
    """Alarms per thousand healthy deployments, with the 95 % bound."""
    alarms, cases = sum(alarmed(one, path) for one in records), len(records)
    if not cases:
        return Figure("-", None, 0)
    bound = 1000 * chance.upper_bound(alarms, cases)
    return Figure(f"{1000 * alarms / cases:.1f} ({alarms}/{cases}, <= {bound:.1f})", 1000 * alarms / cases, cases)


def recall(records: Sequence[Record], path: str) -> Figure:
    """Percent of the harms that were found."""
    found, cases = sum(delay_min(one, path) is not None for one in records), len(records)
    if not cases:
        return Figure("-", None, 0)
    return Figure(f"{100 * found / cases:.1f} % ({found}/{cases})", 100 * found / cases, cases)


def delays(records: Sequence[Record], path: str) -> Figure:
    """Median and 90 % point of the minutes from the harm to the alarm, of those found."""
    fine = [one for one in records if one.step <= FINE_S]
    found = [minutes for one in fine if (minutes := delay_min(one, path)) is not None]
    if not found:
        return Figure("-", None, 0)
    median, slow = np.quantile(found, [0.5, 0.9])
    return Figure(f"{median:.1f}, {slow:.1f} min ({len(found)})", float(median), len(found))


def ratios(records: Sequence[Record], path: str) -> Figure:
    """Median and 90 % point of delay over bound; what was not found counts as infinitely late."""
    found = [
        np.inf if (minutes := delay_min(one, path)) is None else minutes / one.bound_min
        for one in records
        if 3 <= one.bound_min <= 15
    ]
    if not found:
        return Figure("-", None, 0)
    median, slow = np.quantile(found, [0.5, 0.9], method="inverted_cdf")
    return Figure(f"{median:.2f}, {slow:.2f} ({len(found)})", float(median), len(found))


def cost(records: Sequence[Record], path: str) -> Figure:
    """Median processor time to arm a metric with two weeks of minutes, and of one update."""
    long = [one.said[path].arm_ms for one in records if one.step == 60 and 13.9 < one.days < 14.1 and one.metrics == 1]
    updates = [one.said[path].update_us for one in records]
    if not long:
        return Figure("-", None, 0)
    arm, update = float(np.median(long)), float(np.median(updates))
    return Figure(f"{arm:.1f} ms, {update:.0f} us ({len(long)})", arm, len(long))


def precision(records: Sequence[Record], path: str) -> Figure:
    """Of a hundred rollbacks, how many are right, if one deployment in ten is bad."""
    bad, healthy = [one for one in records if one.bad is not None and feasible(one, 15)], healthy_of(records)
    found, false = recall(bad, path).value, false_rate(healthy, path).value
    if not found or false is None:
        return Figure("-", None, 0)
    value = 100 * 0.1 * found / (0.1 * found + 0.9 * false / 10)
    return Figure(f"{value:.1f} %", value, len(bad) + len(healthy))


def astray(records: Sequence[Record], path: str) -> Figure:
    """Alarms on a bad deployment before the harm began or on a metric that it did not touch."""
    bad = [one for one in records if one.bad is not None]
    wrong = [
        one
        for one in bad
        if (said := one.said[path]).alarm_s is not None and (said.which != one.bad or said.alarm_s <= one.bad_from_s)
    ]
    if not bad:
        return Figure("-", None, 0)
    return Figure(f"{len(wrong)}/{len(bad)}", float(len(wrong)), len(bad))


def healthy_of(records: Sequence[Record]) -> list[Record]:
    """Those that no judge may roll back, however confusing they are."""
    return [one for one in records if one.group in HEALTHY]


def feasible(record: Record, bound_min: float) -> bool:
    """Whether the harm is worth a rollback and can be seen in this time."""
    return record.group == "bad" and record.effect >= 0.2 and record.bound_min <= bound_min


Row = tuple[str, Callable[[Sequence[Record], str], Figure], Callable[[Record], bool]]


def _fine(record: Record) -> bool:
    return record.step <= FINE_S


ROWS: tuple[Row, ...] = (
    ("false per 1,000 healthy, all confounders", false_rate, lambda one: one.group in HEALTHY),
    ("... plain and known ones", false_rate, lambda one: one.group in ("plain", "known")),
    ("... zeros, then a bucket that catches up", false_rate, lambda one: one.family == "late zeros"),
    ("... late in any other way", false_rate, lambda one: one.family in LATE),
    ("... what one metric cannot tell (not counted above)", false_rate, lambda one: one.group == "beyond"),
    (
        "recall, effect >= 20 %, bound <= 5 min, a day or more",
        recall,
        lambda one: feasible(one, 5) and one.days >= 1 and _fine(one),
    ),
    ("recall, effect >= 20 %, bound <= 15 min", recall, lambda one: feasible(one, 15) and _fine(one)),
    ("... buckets of 2 to 30 min", recall, lambda one: feasible(one, 15) and not _fine(one)),
    ("precision, one in ten bad", precision, lambda _: True),
    ("delay, bound < 1 min: median, p90", delays, lambda one: feasible(one, 1) and not one.learned),
    ("... with a learned restart window", delays, lambda one: feasible(one, 1) and one.learned),
    ("delay, bound <= 15 min: median, p90", delays, lambda one: feasible(one, 15)),
    ("delay / bound, known, bound 3-15 min: median, p90", ratios, lambda one: one.group == "known bad"),
    ("alarms before the harm or on another metric", astray, lambda _: True),
    ("arm 14 days of minutes, one update", cost, lambda _: True),
)
"""Name, what is reckoned, and of which records."""

LATE = ("late nothing", "late part", "late successes", "late gap")
