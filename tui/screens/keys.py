"""Every key and every sign, made from the table of commands."""

from collections.abc import Iterable
from typing import ClassVar

from textual.widget import Widget

from tui import commands
from tui.commands import COMMANDS, Command
from tui.moment import Moment
from tui.panels.panel import Panel
from tui.panels.sheet import Sheet
from tui.screens.frame import RoomScreen, bindings

SIGNS = (
    (("●", "ok", "runs"), ("✓", "ok", "healthy")),
    (("■", "stop", "stopped"), ("✗", "stop", "regressed")),
    (("◀", "warn", "rolls back"), ("…", "mid", "undecided")),
    (("?", "blind", "unknown"), ("?", "blind", "blind")),
)


PAIRS = {"up": ("↑ ↓", "up, down"), "first": ("home end", "first, last")}
"""Two commands told in one row: by the first of them."""
SECOND = ("down", "last")


class KeysPage(Panel):
    """The page."""

    kept_when_silent: ClassVar[bool] = True

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """Danger keys on top, then groups in columns, then signs and the belt."""
        for y in range(4):
            sheet.ground(y, "raise")
        sheet.put(1, 0, "stop and undo", "mid", bold=True)
        sheet.put(24, 0, "at once, from every screen, even a stuck one", "dim")
        for y, command in enumerate(self._of("danger"), 1):
            off = moment.read_only
            sheet.put(1, y, command.cap, "dim" if off else "fg", bold=not off)
            sheet.put(8, y, command.title, "dim" if off else "fg")
            sheet.put(24, y, "read-only" if off else command.tooltip, "dim", most=sheet.width - 25)
        wide = sheet.width >= 100
        starts = (1, 28, 56) if not wide else (1, 40, 80)
        heights = [
            self._group(moment, sheet, x, 5, name) for x, name in zip(starts, ("see", "act", "move"), strict=True)
        ]
        y = 5 + max(heights) + (1 if sheet.height > 19 else 0)
        self._group(moment, sheet, starts[0], y, "app")
        self._signs(sheet, starts[1], y)
        self._belt(moment, sheet, starts[2], y)

    def _of(self, group: str) -> list[Command]:
        return [command for command in COMMANDS if command.group == group]

    def _group(self, moment: Moment, sheet: Sheet, x: int, y: int, group: str) -> int:
        """One heading and its keys; returns the rows it took."""
        found = [command for command in self._of(group) if command.id not in SECOND]
        sheet.put(x, y, group, "mid", bold=True)
        for dy, command in enumerate(found, 1):
            off = command.acts and moment.read_only
            cap, title = PAIRS.get(command.id, (command.cap, command.title))
            sheet.put(x, y + dy, cap, "dim" if off else "fg", bold=not off)
            sheet.put(x + 9, y + dy, title, "dim" if off else "mid", most=17)
        return len(found) + 1

    def _signs(self, sheet: Sheet, x: int, y: int) -> None:
        sheet.put(x, y, "signs", "mid", bold=True)
        for dy, pair in enumerate(SIGNS, 1):
            for dx, (sign, role, word) in zip((0, 14), pair, strict=True):
                sheet.put(x + dx, y + dy, sign, role)
                sheet.put(x + dx + 2, y + dy, word, "mid")

    def _belt(self, moment: Moment, sheet: Sheet, x: int, y: int) -> None:
        tinted = moment.looks.tints
        sheet.put(x, y, "belt", "mid", bold=True)
        end = sheet.put(x, y + 1, " 77c0 " if tinted else "[77c0]", "fg", bold=True, bg="movechip" if tinted else "")
        sheet.parts(end, y + 1, ("━━━", "move", True), ("──", "rail"))
        end = sheet.put(x, y + 2, " a91f " if tinted else "[a91f]", "fg", bg="chip" if tinted else "")
        sheet.put(end, y + 2, "+2", "mid")
        sheet.put(x, y + 3, "─────▸", "rail")
        sheet.parts(x, y + 4, ("╌╌╌╌╌", "rail"), ("■", "stop", True))
        sheet.put(x, y + 5, "◀━━━", "warn", bold=True)
        for dy, word in enumerate(("at work", "2 more wait", "moves", "held", "goes back"), 1):
            sheet.put(x + 12, y + dy, word, "mid")


class KeysScreen(RoomScreen):
    """Help."""

    where = commands.KEYS
    first_keys: ClassVar[tuple[str, ...]] = ("back", "leave")
    BINDINGS: ClassVar = bindings(commands.KEYS)

    def body(self) -> Iterable[Widget]:
        """The page."""
        yield KeysPage(self.painter, id="keys-page", classes="frame")
