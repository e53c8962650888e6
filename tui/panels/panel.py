"""The widget behind every panel: draws rows of cells, repaints only rows that differ, and survives its own errors."""

import logging
from typing import ClassVar

from textual import events
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from tui.leaving import crash_text
from tui.moment import Moment
from tui.panels.looks import Painter
from tui.panels.sheet import Row, Sheet

log = logging.getLogger("andon.room")


class Panel(Widget):
    """A part of a screen. A subclass has `draw`; it holds no truth, makes no calls, and knows no sibling."""

    kept_when_silent: ClassVar[bool] = False
    """Whether its colours stay true when nobody watches."""

    class Clicked(Message):
        """A command's words were clicked."""

        def __init__(self, command: str, row: int = -1) -> None:
            super().__init__()
            self.command = command
            """Its id."""
            self.row = row
            """The row of a list that was clicked; -1: none."""

    def __init__(self, painter: Painter, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, classes=classes)
        self.painter = painter
        self.failed = ""
        """What it failed with; empty: it did not."""
        self._moment: Moment | None = None
        self._rows: list[Row] = []
        self._strips: dict[int, Strip] = {}
        self._spots: list[tuple[int, int, int, str]] = []

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """Draw what is true at that moment; the sheet is empty."""
        raise NotImplementedError

    def spot(self, x: int, y: int, end: int, command: str) -> None:
        """Let a click from column `x` to before `end` mean a command."""
        self._spots.append((x, y, end, command))

    def show(self, moment: Moment) -> bool:
        """Draw again what differs; whether anything did."""
        self._moment = moment
        width, height = self.size
        if not width or not height or not self.display:
            return False  # drawn when it gets a place
        sheet = Sheet(width, height)
        self._spots = []
        if not self.failed:
            try:
                self.draw(moment, sheet)
            except Exception as error:  # noqa: BLE001 - one panel's fault must not take the others, or F9, with it
                self._fail(error)
                sheet = Sheet(width, height)
        if self.failed:
            words = f"this panel failed: {self.failed} · logged · ctrl+l draws it again"
            sheet.put(1, 0, words, "blind", most=width - 2)
        if moment.silent_since is not None and not self.kept_when_silent:
            sheet.dim()
        return self._take(sheet.rows(), width)

    def _fail(self, error: Exception) -> None:
        log.error("panel %s failed\n%s", self.id or type(self).__name__, crash_text(error))
        self.failed = type(error).__name__

    def forget(self) -> None:
        """Draw everything at the next `show`, also what failed."""
        self.failed = ""
        self._rows = []
        self._strips.clear()
        self.refresh()

    def _take(self, rows: list[Row], width: int) -> bool:
        if len(rows) != len(self._rows):
            self._rows, changed = rows, list(range(len(rows)))
        else:
            changed = [y for y, row in enumerate(rows) if row != self._rows[y]]
            self._rows = rows
        for y in changed:
            self._strips.pop(y, None)
            self.refresh(Region(0, y, width, 1))
        return bool(changed)

    def render_line(self, y: int) -> Strip:
        """A row, as a strip; made once."""
        strip = self._strips.get(y)
        if strip is None or strip.cell_length != self.size.width:
            width = self.size.width
            strip = Strip.blank(width, self.painter.blank)
            try:
                if y < len(self._rows):
                    strip = self.painter.strip(self._rows[y], width)
            except Exception as error:  # noqa: BLE001 - as above; the next `show` says so
                self._fail(error)
            self._strips[y] = strip
        return strip

    def on_resize(self, _: events.Resize) -> None:
        """Another size: everything is drawn anew, at once."""
        self._rows = []
        self._strips.clear()
        if self._moment is not None:
            self.show(self._moment)

    def on_show(self) -> None:
        """It has its place again: draw what is true now."""
        if self._moment is not None:
            self.show(self._moment)

    def on_click(self, event: events.Click) -> None:
        """A click on words that mean a command."""
        for x, y, end, command in self._spots:
            if event.y == y and x <= event.x < end:
                self.post_message(self.Clicked(command))
                event.stop()
                return
