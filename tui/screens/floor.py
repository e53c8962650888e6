"""The floor: all lines, and what is true of the selected one."""

from collections.abc import Iterable
from typing import ClassVar

from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input

from tui import commands
from tui.moment import Moment
from tui.panels import floor_row
from tui.panels.floor import Floor
from tui.panels.line_facts import LineFacts, SmallFacts
from tui.panels.looks import Painter
from tui.panels.panel import Panel
from tui.panels.sheet import Sheet
from tui.panels.top import Rule
from tui.screens.frame import RoomScreen, bindings


class FloorHead(Panel):
    """The names of the columns, or what the rows are searched for."""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """One row."""
        floor_row.header(sheet, 0, floor_row.grid(sheet.width))
        if moment.find and not moment.order:
            words = f" no line matches “{moment.find}” · {moment.keys.cap('back')} clears"
            sheet.put(0, 0, words.ljust(sheet.width), "warn", bold=True)


class FloorScreen(RoomScreen):
    """Home."""

    where = commands.FLOOR
    first_keys: ClassVar[tuple[str, ...]] = (
        *(
            "happened",
            "did_not",
            "clear",
            "open",
            "resume",
            "take",
            "metric",
            "worst",
            "sort",
            "find",
            "call",
            "keys",
            "leave",
        ),
    )
    BINDINGS: ClassVar = bindings(commands.FLOOR)
    AUTO_FOCUS = ""

    class Sought(Message):
        """A part of a name was typed."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, painter: Painter) -> None:
        super().__init__(painter)
        self.floor = Floor(painter, id="floor")
        self.rule = Rule(painter, id="floor-rule", classes="frame")
        self.sought = Input(placeholder="a part of a line's name", id="find", compact=True, max_length=40)

    @property
    def own(self) -> tuple[object, ...]:
        """Density, and how far it is scrolled."""
        return (self.floor.dense, self.floor.scroll_offset)

    @property
    def finding(self) -> bool:
        """Whether a name is being typed, or was."""
        return bool(self.sought.display)

    def begin_find(self) -> None:
        """Type a part of a name."""
        self.sought.display = True
        self.sought.focus()

    def end_find(self) -> None:
        """All lines again."""
        self.sought.value = ""
        self.sought.display = False
        self.set_focus(None)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Another part of a name."""
        event.stop()
        if self.finding:
            self.post_message(self.Sought(event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Found: the keys are the floor's again."""
        event.stop()
        self.set_focus(None)
        if not event.value:
            self.end_find()

    def body(self) -> Iterable[Widget]:
        """Rows above, facts below."""
        yield SmallFacts(self.painter, id="small-facts", classes="frame")
        yield self.sought
        yield FloorHead(self.painter, id="floor-head", classes="frame")
        yield self.floor
        yield self.rule
        yield LineFacts(self.painter, id="line-facts", classes="frame")

    def show(self, moment: Moment) -> None:
        """Draw what differs; the panels, and the danger row among them, also when the rows fail."""
        try:
            self.floor.show(moment)
            self.rule.below = tuple(self.floor.below())
        finally:
            super().show(moment)

    def forget(self) -> None:
        """Draw everything at the next `show`."""
        self.floor.forget()
        super().forget()
