"""The seam to plotext: a line of a metric as braille, without frame, axes or ticks; andon draws those around it.

plotext keeps one global figure, so only the screen's thread calls this. It is imported with the first chart, not before
the first paint.
"""

import re
from collections.abc import Sequence

Point = tuple[float, float]
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def canvas(
    runs: Sequence[Sequence[Point]], width: int, height: int, x_range: tuple[float, float], y_range: tuple[float, float]
) -> list[str]:
    """`height` rows of `width` cells of braille: each run is one line, between runs is a gap.

    Points outside the ranges are not drawn. Blank cells are blanks. Empty runs give blank rows.
    """
    runs = [run for run in runs if run]
    if width < 1 or height < 1 or not runs:
        return [" " * max(0, width)] * max(0, height)
    import plotext

    plotext.clear_figure()
    plotext.limit_size(False, False)  # else the canvas is cut at the size of the process' own terminal
    plotext.plotsize(width, height)
    plotext.theme("clear")
    plotext.frame(False)
    plotext.xaxes(False, False)
    plotext.yaxes(False, False)
    plotext.xfrequency(0)
    plotext.yfrequency(0)
    plotext.xlim(*x_range)
    plotext.ylim(*y_range)
    for run in runs:
        xs, ys = [x for x, _ in run], [y for _, y in run]
        plotext.plot(xs, ys, marker="braille")
    text = _COLOUR.sub("", plotext.build())
    rows = [row[:width].ljust(width) for row in text.split("\n")[:height]]
    rows += [" " * width] * (height - len(rows))
    return [row.replace("\u2800", " ") for row in rows]


def stars(
    runs: Sequence[Sequence[Point]], width: int, height: int, x_range: tuple[float, float], y_range: tuple[float, float]
) -> list[str]:
    """The same for terminals without braille: one `*` per column."""
    grid = [[" "] * max(0, width) for _ in range(max(0, height))]
    (left, right), (low, high) = x_range, y_range
    for run in runs:
        for x, y in run:
            column = int((x - left) / (right - left) * width) if right > left else 0
            row = round((high - y) / (high - low) * (height - 1)) if high > low else 0
            if 0 <= column < width and 0 <= row < height:
                grid[row][column] = "*"
    return ["".join(row) for row in grid]
