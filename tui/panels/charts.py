"""The charts of one line: one metric, or three where there is room."""

from typing import ClassVar

from tui.moment import Moment
from tui.panels import plot
from tui.panels.facts import (
    Reading,
    readings,
)
from tui.panels.line_facts import metric_title
from tui.panels.panel import Panel
from tui.panels.sheet import Sheet, width_of


class MetricChart(Panel):
    """The chart of the chosen metric; of three where there is room."""

    most: ClassVar[int] = 3
    selects = False
    """Whether the selection is here."""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """Title, marks, plot, times."""
        items = readings(moment, moment.line)
        if not items:
            sheet.put(1, 0, "no metric is configured: three lines under `metrics:` add one", "dim")
            return
        count = min(self.most, len(items), max(1, sheet.height // 9))
        first = moment.metric % len(items)
        each = sheet.height // count
        for index in range(count):
            item = items[(first + index) % len(items)]
            self._one(
                moment,
                sheet,
                index * each,
                each - (index < count - 1),
                item,
                labels=index == 0,
                place=(first + index) % len(items),
            )

    def _one(
        self, moment: Moment, sheet: Sheet, y: int, height: int, item: Reading, *, labels: bool, place: int
    ) -> None:
        wide = sheet.width >= 60
        if self.selects and labels:
            sheet.put(0, y, "▌" if moment.looks.tints else ">", "move" if moment.looks.tints else "fg", bold=True)
        x = metric_title(sheet, 1, y, item, sheet.width - 12)
        if item.sign in "✗?" or item.stale:
            words = f"stale {item.stale}" if item.stale else (item.verdict.word if item.verdict else "no data")
            sheet.put(x + 2, y, f"{item.sign} {words}", item.role, bold=True, most=sheet.width - x - 14)
        count = len(readings(moment, moment.line))
        if wide and count > 1:
            right = f"60 min · {place + 1} of {count}"
            if x + width_of(right) + 4 < sheet.width:
                sheet.right(sheet.width - 2, y, right, "dim")
        frame = plot.framed(0, y + 1, sheet.width - 1, height - 1, 8, moment.now, 3600.0)
        plot.draw(moment, sheet, frame, moment.line, item.metric, labels=labels)
