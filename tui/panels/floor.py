"""The floor: one row per line, or three; virtual, so that a thousand lines cost what is seen of them."""

import logging
from typing import ClassVar

from textual import events
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.leaving import crash_text
from tui.moment import Moment
from tui.panels import floor_row
from tui.panels.facts import status
from tui.panels.looks import Painter
from tui.panels.panel import Panel
from tui.panels.sheet import Row, Sheet

log = logging.getLogger("andon.room")
WIDE = 130
"""Columns from which a line takes three rows."""


class Floor(ScrollView, can_focus=False):
    """The lines. What a row shows is drawn when its line, its age or its numbers have changed."""

    DEFAULT_CLASSES = "frame"
    kept_when_silent: ClassVar[bool] = False

    def __init__(self, painter: Painter, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.painter = painter
        self.dense = False
        """One row a line, also where three have room."""
        self._moment: Moment | None = None
        self._rows: dict[int, list[Row]] = {}
        self._keys: dict[int, object] = {}
        self._strips: dict[int, Strip] = {}
        self._tall = 1

    @property
    def tall(self) -> int:
        """Rows that a line takes."""
        return self._tall

    def below(self) -> list[str]:
        """The lines that lie below what is seen."""
        if self._moment is None:
            return []
        seen = (self.scroll_offset.y + self.size.height) // self._tall
        return list(self._moment.order[seen:])

    def show(self, moment: Moment) -> bool:
        """Draw what differs of what is seen; whether anything did."""
        first = self._moment is None
        before, self._moment = self._moment, moment
        count = len(moment.order)
        roomy = self.size.width >= WIDE and 3 * count <= self.size.height + 1 and not self.dense
        tall = 3 if roomy else 1
        if tall != self._tall or before is None or before.order != moment.order:
            self._tall = tall
            self.forget()
        virtual = Size(self.size.width, count * tall)
        if virtual != self.virtual_size:
            self.virtual_size = virtual
        if first or (before is not None and before.line != moment.line):
            self._follow()
        top = self.scroll_offset.y // tall
        changed = False
        for index in range(top, min(count, top + self.size.height // tall + 2)):
            changed = self._draw(index) or changed
        return changed

    def _follow(self) -> None:
        """Scroll so that the selected line is seen."""
        if self._moment is None or self._moment.line not in self._moment.order:
            return
        y = self._moment.order.index(self._moment.line) * self._tall
        top, height = self.scroll_offset.y, self.size.height
        if y < top:
            self.scroll_to(y=y, animate=False, immediate=True)
        elif height and y + min(self._tall, 2) > top + height:
            self.scroll_to(y=y + min(self._tall, 2) - height, animate=False, immediate=True)

    def _draw(self, index: int) -> bool:
        """Draw one line if what it is made from has changed."""
        moment = self._moment
        if moment is None or index >= len(moment.order):
            return False
        name = moment.order[index]
        try:
            key: object = _key(moment, name, self.size.width)
        except Exception as error:  # noqa: BLE001 - as below: the row itself says what failed
            key = (type(error), name == moment.line, self.size.width)
        if self._keys.get(index) == key:
            return False
        self._keys[index] = key
        rows = self._rows_of(moment, name)
        before = self._rows.get(index, [])
        self._rows[index] = rows
        changed = False
        for offset, row in enumerate(rows):
            if offset >= len(before) or row != before[offset]:
                self._strips.pop(index * self._tall + offset, None)
                self.refresh_line(index * self._tall + offset)
                changed = True
        return changed

    def _rows_of(self, moment: Moment, name: str) -> list[Row]:
        sheet = Sheet(self.size.width, self._tall)
        cols = floor_row.grid(self.size.width)
        try:
            floor_row.draw(moment, sheet, cols, name, selected=name == moment.line, rows=self._tall)
        except Exception as error:  # noqa: BLE001 - a row's fault must not take the other lines with it
            log.error("row %s failed\n%s", name, crash_text(error))
            sheet = Sheet(self.size.width, self._tall)
            sheet.put(cols.lamp, 0, "?", "blind")
            words = f"{name}: this row failed: {type(error).__name__} · logged · ctrl+l draws it again"
            sheet.put(cols.name, 0, words, "blind", most=sheet.width - cols.name - 1)
        if moment.silent_since is not None:
            sheet.dim()
        return sheet.rows()

    def forget(self) -> None:
        """Draw everything at the next `show`."""
        self._rows.clear()
        self._keys.clear()
        self._strips.clear()
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """A row of the screen, as a strip."""
        width = self.size.width
        at = y + self.scroll_offset.y
        strip = self._strips.get(at)
        if strip is not None:
            return strip
        index, offset = divmod(at, self._tall)
        self._draw(index)
        rows = self._rows.get(index, [])
        if offset >= len(rows):
            return Strip.blank(width, self.painter.blank)
        self._strips[at] = strip = self.painter.strip(rows[offset], width)
        return strip

    def on_resize(self, _: events.Resize) -> None:
        """Another size: everything is drawn anew."""
        self.forget()
        if self._moment is None:
            return
        try:
            self.show(self._moment)
            self._follow()
        except Exception as error:  # noqa: BLE001 - it must not take the room with it; the next paint says what failed
            log.error("the floor failed\n%s", crash_text(error))

    def on_click(self, event: events.Click) -> None:
        """A click selects a line."""
        index = (event.y + self.scroll_offset.y) // self._tall
        if self._moment is not None and index < len(self._moment.order):
            self.post_message(Panel.Clicked("select", index))


def _key(moment: Moment, name: str, width: int) -> tuple[object, ...]:
    """What a row is made from: drawn again when any of it is another."""
    line = moment.known(name)
    config = moment.config.lines[name]
    samples = tuple(moment.rows_of(name, metric) for metric in config.metrics)
    busy = bool(line.unsettled() or line.open_holds)
    tick = int(moment.now) if busy and _young(moment, name) else int(moment.now // 5)
    lamp = status(moment, name)
    return (
        line,
        samples,
        tick,
        lamp.sign,
        lamp.word,
        name == moment.line,
        width,
        moment.warming,
        moment.silent_since is None,
        moment.looks,
    )


def _young(moment: Moment, name: str) -> bool:
    """Whether something here is so new that its age moves each second."""
    return any(moment.now - hold.since < 12 for hold in moment.known(name).open_holds)
