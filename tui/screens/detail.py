"""What the screens below a line have in common: one subject, bands of the line, and keys that say why they cannot."""

from typing import TYPE_CHECKING, Any

from andon.board import Line
from tui.moment import Moment
from tui.panels.danger import KeyRow
from tui.panels.looks import Painter
from tui.panels.sheet import Sheet
from tui.panels.top import Bands
from tui.screens.frame import RoomScreen
from tui.screens.line import LineBands
from tui.studied import Study, Want

if TYPE_CHECKING:
    from tui.app import Room


ROOMY = 28
"""From so many rows on a blank one stands below the bands."""


def known(room: "Room") -> Line:
    """What is known of the selected line, as it was seen last."""
    board = room.moment.board if room.moment is not None else room.sight.keeper.board
    return board.line(room.line)


class DetailKeys(KeyRow):
    """The keys of the screen; one that cannot be done now stays in its place, dim: pressed, it says why."""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """One row."""
        screen = self.screen
        if self.question or not isinstance(screen, Detail):
            super().draw(moment, sheet)
            return
        x = 1
        for command in self._shown(moment, sheet.width):
            start, off = x, bool(screen.why_not(moment, command.id))
            cap = f"{moment.keys.cap('narrower')} {command.cap}" if command.id == "wider" else command.cap
            x = sheet.put(x, 0, cap, "dim" if off else "fg", bold=not off)
            x = sheet.put(x + 1, 0, command.row, "rail" if off else "dim")
            self.spot(start, 0, x, command.id)
            x += 2


class Detail(RoomScreen):
    """A screen about one thing of the selected line. A subclass says which."""

    AUTO_FOCUS = ""

    def __init__(self, painter: Painter, line: str) -> None:
        super().__init__(painter)
        self.line = line
        """The line that it is about: when it comes to the front again, the danger row is that line's."""
        self.key_row = DetailKeys(painter, where=self.where, first=self.first_keys, classes="frame")
        self._saw_target = False
        self.seen: tuple[object, ...] = ()
        """What the scene held, as counts that grow with each change."""

    def make_bands(self) -> Bands:
        """The bands of one line."""
        return LineBands(self.painter, classes="frame")

    def steps(self, line: str) -> tuple[str, ...]:
        """Where we are, below the floor."""
        return (line, self.crumb())

    def crumb(self) -> str:
        """What the path calls it."""
        raise NotImplementedError

    def scene(self, room: "Room") -> dict[str, Any]:
        """What the moment holds of its subject. Asks for what is missing; never waits."""
        raise NotImplementedError

    def show(self, moment: Moment) -> None:
        """Draw what differs."""
        self.set_class(self.size.height >= ROOMY, "-roomy")
        super().show(moment)
        if self.sees_target != self._saw_target:
            # F4 is armed by the first frame that leaves after its target was drawn: here is one, where nothing else changes.
            self._saw_target = self.sees_target
            self.danger_row.refresh()

    def why_not(self, moment: Moment, command: str) -> str:
        """Why a command cannot be done now; empty: it can."""
        return ""

    def study(self, room: "Room", want: Want) -> Study | None:
        """What is found of it by now."""
        return room.studying.look(want, known(room), room.sight.clock.now())

    def move(self, step: int) -> None:
        """The row above or below; thousands are the first and the last."""

    @property
    def own(self) -> tuple[object, ...]:
        """What it shows beside the moment."""
        return self.seen
