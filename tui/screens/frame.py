"""The frame of every screen: top bar, bands, body, danger row, key row; the strip of a grace; the tiny page."""

from collections.abc import Iterable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widget import Widget

from tui import commands
from tui.moment import Moment
from tui.panels.calls import CallStrip
from tui.panels.danger import DangerRow, Grace, KeyRow
from tui.panels.looks import Painter
from tui.panels.panel import Panel
from tui.panels.top import Bands, Tiny, TopBar


def bindings(where: str) -> list[BindingType]:
    """The bindings of a screen, from the table of commands."""
    return [
        Binding(
            command.key,
            f"app.do('{command.id}')",
            command.title,
            show=bool(command.row),
            tooltip=command.tooltip,
            id=f"{where}.{command.id}",
            key_display=command.cap,
        )
        for command in commands.of(where)
    ]


class RoomScreen(Screen[None]):
    """A screen of the room. A subclass has a body."""

    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - as Textual declares it
        (0, "-tiny"),
        (60, "-small"),
        (80, "-normal"),
        (130, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [  # noqa: RUF012 - as Textual declares it
        (0, "-flat"),
        (18, "-short"),
        (22, "-usual"),
        (34, "-high"),
    ]
    where: ClassVar[str] = commands.FLOOR
    first_keys: ClassVar[tuple[str, ...]] = ()
    """Ids of the commands in the key row, the most useful first."""

    def __init__(self, painter: Painter) -> None:
        super().__init__()
        self.painter = painter
        self.danger_row = DangerRow(painter, classes="frame")
        self.key_row = KeyRow(painter, where=self.where, first=self.first_keys, classes="frame")
        self.bands = self.make_bands()
        self.tiny = Tiny(painter)
        self.moment: Moment | None = None

    def make_bands(self) -> Bands:
        """The bands of this screen."""
        return Bands(self.painter, classes="frame")

    def body(self) -> Iterable[Widget]:
        """What stands between the bands and the danger row."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        """Frame and body."""
        yield TopBar(self.painter, classes="frame")
        yield self.bands
        yield from self.body()
        yield self.danger_row
        yield self.key_row
        yield CallStrip(self.painter)
        yield Grace(self.painter)
        yield self.tiny

    def show(self, moment: Moment) -> None:
        """Draw what differs."""
        self.moment = moment
        self.set_class(moment.grace() is not None and moment.replay is None, "-grace")
        self.set_class(moment.called() is not None and moment.grace() is None, "-called")
        for panel in self.query(Panel):
            panel.show(moment)

    def forget(self) -> None:
        """Draw everything at the next `show`."""
        for panel in self.query(Panel):
            panel.forget()

    def steps(self, line: str) -> tuple[str, ...]:
        """Where we are, below the floor: for the top bar."""
        return (line,)

    @property
    def own(self) -> tuple[object, ...]:
        """What it shows beside the moment: drawn again when that changes."""
        return ()

    @property
    def sees_target(self) -> bool:
        """Whether the whole target of F4 can be read on this screen."""
        if self.has_class("-tiny") or self.has_class("-flat"):
            return self.tiny.target_seen
        return not self.has_class("-grace") and self.danger_row.target_seen
