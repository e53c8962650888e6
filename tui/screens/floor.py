"""The floor: all lines, and what is true of the selected one."""

from collections.abc import Iterable
from typing import ClassVar

from textual.widget import Widget

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
        if moment.find:
            words = f"/{moment.find}" if moment.order else f"no line matches “{moment.find}” · esc clears"
            sheet.put(0, 0, f" {words} ".ljust(sheet.width), "fg" if moment.order else "warn", bold=True)


class FloorScreen(RoomScreen):
    """Home."""

    where = commands.FLOOR
    first_keys: ClassVar[tuple[str, ...]] = (
        *("happened", "did_not", "open", "resume", "take", "metric", "worst", "sort", "find", "keys", "leave"),
    )
    BINDINGS: ClassVar = bindings(commands.FLOOR)

    def __init__(self, painter: Painter) -> None:
        super().__init__(painter)
        self.floor = Floor(painter, id="floor")
        self.rule = Rule(painter, id="floor-rule", classes="frame")

    def body(self) -> Iterable[Widget]:
        """Rows above, facts below."""
        yield SmallFacts(self.painter, id="small-facts", classes="frame")
        yield FloorHead(self.painter, id="floor-head", classes="frame")
        yield self.floor
        yield self.rule
        yield LineFacts(self.painter, id="line-facts", classes="frame")

    def show(self, moment: Moment) -> None:
        """Draw what differs."""
        if self.floor.display:
            self.floor.show(moment)
        self.rule.below = tuple(self.floor.below())
        super().show(moment)

    def forget(self) -> None:
        """Draw everything at the next `show`."""
        self.floor.forget()
        super().forget()
