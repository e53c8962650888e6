"""The trend of a metric in one row of braille: the last hour, scaled on its bounds, so that a healthy one lies flat."""

import statistics
from collections.abc import Sequence

from andon.clock import Time
from andon.model import Metric, Sample

SPAN_S = 3600.0
_DOTS = ((0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08))
"""Braille bits of the left and the right column, lowest dot first."""
_PLAIN = "_.-^"


def levels(metric: Metric, rows: Sequence[Sample], now: Time, columns: int) -> list[int | None]:
    """A height of 0 to 3 for each column, oldest first; None: no data there."""
    sums: list[list[float]] = [[] for _ in range(columns)]
    start = now - SPAN_S
    for row in rows:
        value = row.shown(metric.kind)
        index = int((row.at - start) / SPAN_S * columns)
        if value is not None and 0 <= index < columns:
            sums[index].append(value)
    means = [sum(found) / len(found) if found else None for found in sums]
    known = [mean for mean in means if mean is not None]
    if not known:
        return [None] * columns
    centre = statistics.median(known)
    half = _half(metric, centre)
    return [None if mean is None else max(0, min(3, round(1.5 + (mean - centre) / half * 1.5))) for mean in means]


def _half(metric: Metric, centre: float) -> float:
    """How far from the centre the edge of the row is: the nearest bound, else a quarter of the value."""
    bounds = [b for b in (metric.threshold.above, metric.threshold.below) if b is not None] if metric.threshold else []
    gaps = [abs(centre - bound) for bound in bounds if abs(centre - bound) > abs(centre) * 0.02]
    return min(gaps) if gaps else max(abs(centre) * 0.25, 1e-9)


def trend(metric: Metric, rows: Sequence[Sample], now: Time, width: int, *, ascii_: bool) -> str:
    """The trend in `width` cells."""
    if ascii_:
        return "".join(" " if level is None else _PLAIN[level] for level in levels(metric, rows, now, width))
    found = levels(metric, rows, now, width * 2)
    cells = []
    for x in range(width):
        bits = sum(_DOTS[side][level] for side in (0, 1) if (level := found[2 * x + side]) is not None)
        cells.append(chr(0x2800 + bits) if bits else " ")
    return "".join(cells)
