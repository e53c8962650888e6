"""Every key and every sign, made from the table of commands."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import ClassVar, NamedTuple

from textual.widget import Widget

from tui import commands
from tui.commands import REPLAY, Command
from tui.moment import Moment
from tui.offering import why_not
from tui.panels.looks import Painter
from tui.panels.panel import Panel
from tui.panels.sheet import Sheet
from tui.screens.frame import RoomScreen, bindings

SIGNS = (
    (("●", "ok", "runs"), ("✓", "ok", "healthy")),
    (("■", "stop", "stopped"), ("✗", "stop", "regressed")),
    (("◀", "warn", "rolls back"), ("…", "mid", "undecided")),
    (("▲", "warn", "called"), ("?", "blind", "blind")),
    (("○", "mid", "waits"), ("?", "blind", "unknown")),
)


PAIRS = {"up": ("↑ ↓", "up, down"), "first": ("home end", "first, last")}
"""Two commands told in one row: by the first of them."""
SECOND = ("down", "last")


class Block(NamedTuple):
    """A heading with rows below it."""

    rows: int
    draw: Callable[[Sheet, int, int], None]


COLUMNS = ((150, (1, 40, 79, 118)), (100, (1, 36, 68)), (80, (1, 28, 56)), (0, (1, 30)))
"""Where the columns begin, by the width that they need at least."""
TRIES = ((False, True, 1), (True, True, 1), (True, True, 0), (True, False, 1), (True, False, 0))
"""What is tried in turn until it has room: only the keys of that screen, signs and belt, blank rows between."""


def placed(blocks: Sequence[Block], sheet: Sheet, gap: int) -> tuple[list[tuple[int, int]], int]:
    """Where each block begins, each in the column that is shortest then; and the row after the last."""
    columns = next(starts for least, starts in COLUMNS if sheet.width >= least)
    ends = [4] * len(columns)
    found = []
    for block in blocks:
        best = min(range(len(columns)), key=lambda index: ends[index])
        y = ends[best] + (0 if ends[best] == 4 and sheet.height < 22 else gap)
        found.append((columns[best], y))
        ends[best] = y + block.rows
    return found, max(ends)


class KeysPage(Panel):
    """The page. Where not all has room it lists the keys of the screen from which it was opened."""

    kept_when_silent: ClassVar[bool] = True
    about = commands.FLOOR
    """From where it was opened."""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """Danger keys on top, then groups in columns, then signs and the belt."""
        for y in range(4):
            sheet.ground(y, "raise")
        sheet.put(1, 0, "stop and undo", "mid", bold=True)
        sheet.put(24, 0, "at once, from every screen, even a stuck one", "dim")
        for y, command in enumerate(self._of(moment, "danger"), 1):
            off = moment.read_only
            sheet.put(1, y, command.cap, "dim" if off else "fg", bold=not off)
            sheet.put(8, y, command.title, "dim" if off else "fg")
            sheet.put(24, y, "read-only" if off else command.tooltip, "dim", most=sheet.width - 25)
        second = "act" if moment.replay is None else REPLAY
        for only_here, with_belt, gap in TRIES:
            blocks = self._blocks(moment, second, only_here=only_here, with_belt=with_belt)
            places, end = placed(blocks, sheet, gap)
            if end <= sheet.height:
                break
        for block, (x, y) in zip(blocks, places, strict=True):
            block.draw(sheet, x, y)

    def _blocks(self, moment: Moment, second: str, *, only_here: bool, with_belt: bool) -> list["Block"]:
        """What is to be drawn: the groups of commands, then signs and belt."""
        found = []
        for group in ("see", second, "move", "app"):
            commands_ = self._listed(moment, group, only_here=only_here)
            if commands_:
                found.append(Block(len(commands_) + 1, partial(self._group, moment, group, commands_)))
        if with_belt:
            found.append(Block(len(SIGNS) + 1, self._signs))
            found.append(Block(6, partial(self._belt, moment)))
        return found

    def _of(self, moment: Moment, group: str) -> list[Command]:
        return [command for command in moment.keys.commands if command.group == group and command.key]

    def _listed(self, moment: Moment, group: str, *, only_here: bool) -> list[Command]:
        """The commands of a group, or those of them that the screen has from which this page was opened."""
        changed = moment.keys.changed
        return [
            item
            for item in self._of(moment, group)
            if (item.id not in SECOND or item.id in changed)
            and (not only_here or self.about in item.where or group == REPLAY)
        ]

    def _group(self, moment: Moment, group: str, found: list[Command], sheet: Sheet, x: int, y: int) -> None:
        """One heading and its keys; what the screen below has not, or what cannot be done now, is dim."""
        sheet.put(x, y, group, "mid", bold=True)
        for dy, command in enumerate(found, 1):
            off = bool(why_not(moment, command.id, self.about))
            cap, title = self._told(moment, command)
            end = sheet.put(x, y + dy, cap, "dim" if off else "fg", bold=not off)
            sheet.put(max(x + 9, end + 1), y + dy, title, "dim" if off else "mid", most=17)

    def _told(self, moment: Moment, command: Command) -> tuple[str, str]:
        """Cap and title; two commands that belong together are one row, unless a person gave them other keys."""
        if command.id in PAIRS and not moment.keys.changed.keys() & {command.id, *SECOND}:
            return PAIRS[command.id]
        return command.cap, command.title

    def _signs(self, sheet: Sheet, x: int, y: int) -> None:
        sheet.put(x, y, "signs", "mid", bold=True)
        for dy, pair in enumerate(SIGNS, 1):
            for dx, (sign, role, word) in zip((0, 13), pair, strict=True):
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

    def __init__(self, painter: Painter, about: str = commands.FLOOR) -> None:
        super().__init__(painter)
        self.page = KeysPage(painter, id="keys-page", classes="frame")
        self.page.about = about

    def body(self) -> Iterable[Widget]:
        """The page."""
        yield self.page
