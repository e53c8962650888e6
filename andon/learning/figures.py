"""The arithmetic of small samples: shares, rates and middles, each with its n and an interval, or with nothing at all."""

import math
from collections.abc import Sequence
from typing import Literal

from andon.clock import Time
from andon.model import Record

Z = 1.959964
"""Two-sided 95 %."""


class Point(Record, frozen=True, omit_defaults=False):
    """One row behind a figure: what it is about, when, and its value (seconds, or 1 and 0 for a share)."""

    ref: str
    at: Time
    value: float
    words: str = ""


class Figure(Record, frozen=True, omit_defaults=False):
    """A figure that says how little it may know. `value` is None where n = 0: no data is not zero."""

    unit: Literal["seconds", "share", "per day", "count"]
    value: float | None
    n: int
    low: float | None = None
    high: float | None = None
    """The 95 % interval; None where so few rows allow none."""
    p90: float | None = None
    rows: tuple[Point, ...] = ()
    words: str = ""
    """What was left out, or why there is no value."""


def middle(rows: Sequence[Point], words: str = "") -> Figure:
    """The median of durations, its interval from order statistics, and the value that nine of ten keep."""
    values = sorted(row.value for row in rows)
    if not values:
        return Figure("seconds", None, 0, words=words)
    low, high = _ranks(len(values))
    return Figure(
        "seconds",
        _quantile(values, 0.5),
        len(values),
        None if low is None else values[low],
        None if high is None else values[high],
        _quantile(values, 0.9),
        tuple(rows),
        words,
    )


def share(rows: Sequence[Point], words: str = "") -> Figure:
    """The share of rows whose value is not zero, with Wilson's interval (Wilson 1927). Without rows there is no share."""
    n = len(rows)
    if not n:
        return Figure("share", None, 0, words=words)
    p = sum(row.value != 0 for row in rows) / n
    centre = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return Figure("share", p, n, max(0.0, centre - half), min(1.0, centre + half), None, tuple(rows), words)


def rate(rows: Sequence[Point], days: float, words: str = "") -> Figure:
    """Rows a day over `days`, with Byar's interval for a Poisson count (Breslow & Day 1987, 2.3)."""
    k = len(rows)
    if days <= 0 or not k:
        return Figure("per day", None, 0, words=words)
    low = k * (1 - 1 / (9 * k) - Z / (3 * math.sqrt(k))) ** 3
    high = (k + 1) * (1 - 1 / (9 * (k + 1)) + Z / (3 * math.sqrt(k + 1))) ** 3
    return Figure("per day", k / days, k, max(0.0, low) / days, high / days, None, tuple(rows), words)


def count(rows: Sequence[Point], words: str = "") -> Figure:
    """How many there were: zero is a count."""
    return Figure("count", float(len(rows)), len(rows), None, None, None, tuple(rows), words)


def _quantile(values: Sequence[float], p: float) -> float:
    """Between the two nearest values (Hyndman & Fan's type 7)."""
    place = (len(values) - 1) * p
    low = math.floor(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


def _ranks(n: int) -> tuple[int | None, int | None]:
    """Between which order statistics the median lies with at least 95 % (David & Nagaraja 2003, 7.1); none below n = 6."""
    tail, below = 0.0, -1
    for k in range(n // 2):
        tail += math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2))
        if tail > 0.025:
            break
        below = k
    return (None, None) if below < 0 else (below, n - 1 - below)
