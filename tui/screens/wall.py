"""The wallboard: pages that change by themselves, read-only, for a wall and for a stand-up."""

import time
from collections.abc import Callable, Iterable
from typing import ClassVar

from textual.app import ComposeResult
from textual.widget import Widget

from tui import commands
from tui.moment import Moment
from tui.panels.looks import Painter
from tui.panels.top import TopBar
from tui.panels.troubles import troubles
from tui.panels.wall import WallPage, pages
from tui.screens.frame import RoomScreen, bindings

PAGE_S = 20.0
"""How long a page stays; one with trouble on it twice as long."""


class WallScreen(RoomScreen):
    """The wallboard."""

    where = commands.WALL
    first_keys: ClassVar[tuple[str, ...]] = ()
    BINDINGS: ClassVar = bindings(commands.WALL)

    def __init__(self, painter: Painter, real: Callable[[], float] = time.monotonic) -> None:
        super().__init__(painter)
        self.page = WallPage(painter, id="wall-page")
        self._real = real
        self._turned_at = real()
        self._at = 0

    def compose(self) -> ComposeResult:
        """No danger row and no key row: nothing can be pressed here."""
        yield TopBar(self.painter)
        yield from self.body()

    def body(self) -> Iterable[Widget]:
        """The page."""
        yield self.page

    @property
    def own(self) -> tuple[object, ...]:
        """Which page it is: it turns by itself."""
        self._turn_in_time()
        return (self._at,)

    def turn(self, step: int = 1) -> None:
        """Another page, now."""
        self._at += step
        self._turned_at = self._real()

    def _turn_in_time(self) -> None:
        stays = PAGE_S * (2 if self.moment is not None and self._in_trouble(self.moment) else 1)
        if self._real() - self._turned_at >= stays:
            self.turn()

    def _in_trouble(self, moment: Moment) -> bool:
        return self.page.page.kind != "figures" and bool(troubles(moment))

    def show(self, moment: Moment) -> None:
        """Draw the page of the moment."""
        found = pages(moment, self.size.width, max(1, self.size.height - 1))
        at = self._at % len(found)
        self.page.page, self.page.place = found[at], (at + 1, len(found))
        super().show(moment)

    @property
    def sees_target(self) -> bool:
        """Nothing is rolled back from a wall."""
        return False
