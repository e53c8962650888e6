"""The seam to plotext: a line of a metric as braille, without frame, axes or ticks; andon draws those around it.

plotext keeps one global figure, so a lock goes around it. It is imported with the first chart, not before the first
paint. A drawing takes 4 ms at 70 × 9 cells and 70 ms at 240 × 40: an `Easel` draws large ones beside the screen's thread.
"""

import re
import threading
from collections.abc import Sequence

AT_ONCE = 700
"""Cells that are drawn in some 5 ms: larger ones keep the screen's thread from a key."""

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
    with _FIGURE:
        text = _built(runs, width, height, x_range, y_range)
    rows = [row[:width].ljust(width) for row in text.split("\n")[:height]]
    rows += [" " * width] * (height - len(rows))
    return [row.replace("\u2800", " ") for row in rows]


_FIGURE = threading.Lock()
"""The one figure that plotext has."""


def _built(
    runs: Sequence[Sequence[Point]], width: int, height: int, x_range: tuple[float, float], y_range: tuple[float, float]
) -> str:
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
    return _COLOUR.sub("", plotext.build())


class Easel:
    """Draws large charts beside the screen's thread, one at a time; until one is done the last of its size stands."""

    def __init__(self) -> None:
        self.done = 0
        """How many were drawn beside it: whoever looks draws again when it grows."""
        self._drawn: tuple[object, list[str]] | None = None
        self._busy = False

    def canvas(
        self,
        runs: Sequence[Sequence[Point]],
        width: int,
        height: int,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
    ) -> list[str] | None:
        """As `canvas`; None: it is being drawn. Called by the screen's thread."""
        wanted = (tuple(map(tuple, runs)), width, height, x_range, y_range)
        drawn = self._drawn
        if drawn is not None and drawn[0] == wanted:
            return drawn[1]
        if width * height <= AT_ONCE:
            self._drawn = (wanted, canvas(*wanted))
            return self._drawn[1]
        if not self._busy:
            self._busy = True
            threading.Thread(target=self._draw, args=(wanted,), name="chart", daemon=True).start()
        return drawn[1] if drawn is not None and len(drawn[1]) == height and len(drawn[1][0]) == width else None

    @property
    def waits(self) -> bool:
        """Whether something is being drawn."""
        return self._busy

    def _draw(
        self, wanted: tuple[Sequence[Sequence[Point]], int, int, tuple[float, float], tuple[float, float]]
    ) -> None:
        try:
            self._drawn = (wanted, canvas(*wanted))
        finally:
            self._busy = False
            self.done += 1


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
