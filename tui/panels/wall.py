"""The pages of a wallboard: the floor in lamps, the lines in trouble, the day's figures; read from six metres."""

from typing import NamedTuple

from andon.clock import age
from tui.moment import Moment
from tui.panels.effects import effects
from tui.panels.facts import production, status
from tui.panels.figures import Figure, figures
from tui.panels.letters import can, height, lamp, letters, width
from tui.panels.panel import Panel
from tui.panels.sheet import Sheet, fit
from tui.panels.top import GROUNDS, band
from tui.panels.troubles import Trouble, troubles
from tui.panels.words import ago, clock, login, short

ENTRY = 7
"""Rows of one line of the floor: its name, what it is, a blank."""
COLUMN = 76
"""Cells of one column of names, at least."""
PLAIN = 30
"""Cells of one column where there are too many lines for large names, at least."""
MOST_PAGES = 3
"""More pages of large names are not shown: then the floor is a plain list."""


class Page(NamedTuple):
    """One page."""

    kind: str
    """`floor`, `trouble` or `figures`."""
    part: int = 0
    """Which part of it."""


def pages(moment: Moment, columns: int, rows: int) -> tuple[Page, ...]:
    """The pages of this moment, in their order."""
    grid = Grid.of(moment, columns, rows)
    parts = -(-len(moment.config.lines) // grid.most) if grid.large else 1
    trouble = [Page("trouble")] if any(item.line for item in troubles(moment)) else []
    return (*(Page("floor", part) for part in range(max(1, parts))), *trouble, Page("figures"))


class Grid(NamedTuple):
    """How the floor lies on a page."""

    top: int
    columns: int
    rows: int
    large: bool

    @property
    def most(self) -> int:
        """How many lines a page has."""
        return max(1, self.columns * self.rows)

    @classmethod
    def of(cls, moment: Moment, columns: int, rows: int) -> "Grid":
        """The grid for that size: large names where they fit on a few pages, else a plain list."""
        found = troubles(moment)
        top = 2 if moment.looks.ascii or (found and not found[0].line) else (_tall(rows) if found else _calm(rows)) + 1
        large = cls(top, max(1, columns // COLUMN), max(1, (rows - top - 1 + 1) // ENTRY), True)
        fits = rows - top >= ENTRY and columns >= 60 and not moment.looks.ascii
        if fits and len(moment.config.lines) <= MOST_PAGES * large.most:
            return large
        return cls(top, max(1, columns // PLAIN), max(1, rows - top - 1), False)


def _tall(rows: int) -> int:
    """Rows of the filled block of the worst trouble."""
    return 18 if rows >= 40 else 9 if rows >= 20 else 1


def _calm(rows: int) -> int:
    return 12 if rows >= 40 else 6 if rows >= 20 else 1


class WallPage(Panel):
    """The whole page."""

    page = Page("floor")
    place = (1, 1)
    """Which of how many it is."""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """The trouble on top, the page below, and how old it is in the corner."""
        if self.page.kind == "floor":
            self._floor(moment, sheet)
        else:
            found = troubles(moment)
            if found:
                band(moment, sheet, 0, found[0], filled=True)
            if self.page.kind == "trouble":
                self._trouble(moment, sheet)
            else:
                self._figures(moment, sheet)
        words = f"{self.place[0]} of {self.place[1]} · {data_words(moment)}"
        sheet.right(sheet.width - 2, sheet.height - 1, words, "dim")

    # ---- the floor

    def _floor(self, moment: Moment, sheet: Sheet) -> None:
        found = troubles(moment)
        grid = Grid.of(moment, sheet.width, sheet.height)
        if found:
            self._block(moment, sheet, found[0], grid.top - 1)
        else:
            self._well(moment, sheet, grid.top - 1)
        names = list(moment.config.lines)
        shown = names[self.page.part * grid.most :][: grid.most] if grid.large else names
        if not grid.large and len(names) > grid.most:  # the worst are never left out
            worst = list(dict.fromkeys(item.line for item in found if item.line))
            shown = [*worst, *(name for name in names if name not in worst)][: grid.most]
            sheet.put(1, sheet.height - 1, f"{len(names) - grid.most} more run or are not shown", "dim")
        wide = sheet.width // grid.columns
        for at, name in enumerate(shown):
            column, row = divmod(at, grid.rows)
            if grid.large:
                self._large(moment, sheet, name, column * wide + 4, grid.top + row * ENTRY, wide - 5)
            else:
                self._plain(moment, sheet, name, column * wide + 1, grid.top + row, wide - 2)

    def _block(self, moment: Moment, sheet: Sheet, worst: Trouble, rows: int) -> None:
        """The worst trouble, filled: its name as large as it fits."""
        ground, on = GROUNDS[worst.role]
        if rows < 9 or not can(worst.line) or not worst.line or moment.looks.ascii:
            for y in range(rows):
                sheet.ground(y, ground)
            band(moment, sheet, 0, worst, filled=True)
            return
        for y in range(rows):
            sheet.ground(y, ground)
        since = "" if worst.since is None else f", {clock(worst.since, moment.now)}"
        what = worst.what.removeprefix(worst.line).strip()
        sheet.put(4, 1, f"{worst.sign} {what}{since}", on, bold=True, most=sheet.width // 2)
        sheet.right(sheet.width - 5, 1, worst.right, on, bold=True)
        number, _, unit = ago(moment.now - worst.since).partition(" ") if worst.since is not None else ("", "", "")
        scale = 2 if rows >= 16 and width(f"{worst.line}  {number}", 2) + width(unit) < sheet.width - 8 else 1
        name = worst.line if width(worst.line, scale) <= sheet.width - 8 else worst.line[: (sheet.width - 8) // 6]
        y = 3 + (rows - 6 - height(scale)) // 2
        x = letters(sheet, 4, y, name, on, scale=scale)
        if x + width(f" {number}", scale) + width(unit) < sheet.width - 4:
            x = letters(sheet, x + 6 * scale, y, number, on, scale=scale)
            letters(sheet, x, y + (height(scale) - height()) * 4 // 5, unit, on)
        sheet.put(4, rows - 2, worst.words, on, bold=True, most=sheet.width - 8)

    def _well(self, moment: Moment, sheet: Sheet, rows: int) -> None:
        """Nothing is wrong: no fill at all."""
        names = list(moment.config.lines)
        runs = sum(moment.state(name) == "running" for name in names)
        words = f"{runs} lines run" if runs != 1 else "1 line runs"
        if runs != len(names):
            words = f"{runs} of {len(names)} run"
        scale = 2 if rows >= 11 and width(words, 2) < sheet.width - 24 else 1
        if rows < height() or moment.looks.ascii or width(words) > sheet.width - 12:
            sheet.parts(1, 0, ("●", "ok"), (f" {words}", "fg", True))
            return
        lamp(sheet, 4, 1, "●", "ok", scale=scale)
        letters(sheet, 4 + 9 * scale, 1, words, "fg", scale=scale)

    def _large(self, moment: Moment, sheet: Sheet, name: str, x: int, y: int, wide: int) -> None:
        lamp_ = status(moment, name)
        calm = lamp_.sign == "●"
        role = "fg" if calm else lamp_.role
        lamp(sheet, x, y, lamp_.sign, lamp_.role)
        fits = width(name) <= wide - 9
        if fits and can(name):
            letters(sheet, x + 9, y, name, role)
        else:
            kept = name[: (wide - 9) // 6]
            letters(sheet, x + 9, y, kept, role)
            sheet.put(x + 9, y + 5, name, role, bold=True, most=wide - 9)
            return
        sheet.put(x + 9, y + 5, fit(about(moment, name), wide - 9), "mid")

    def _plain(self, moment: Moment, sheet: Sheet, name: str, x: int, y: int, wide: int) -> None:
        lamp_ = status(moment, name)
        calm = lamp_.sign == "●"
        end = sheet.put(x, y, lamp_.sign, lamp_.role)
        end = sheet.put(end + 1, y, name, "fg" if calm else lamp_.role, bold=not calm, most=wide - 2)
        sheet.put(end + 1, y, about(moment, name), "dim", most=x + wide - end - 1)

    # ---- the lines in trouble

    def _trouble(self, moment: Moment, sheet: Sheet) -> None:
        y = 2
        for item in troubles(moment):
            if not item.line:
                continue
            facts = _facts(moment, item)
            small = moment.looks.ascii or sheet.width < 60 or not can(item.line)
            need = (1 if small else height()) + len(facts) + 1
            if y + need > sheet.height - 1:
                sheet.put(4, y, "more in trouble: see the floor", "dim")
                return
            if small:
                sheet.put(4, y, f"{item.sign} {item.line}", item.role, bold=True)
                y += 1
            else:
                lamp(sheet, 4, y, item.sign, item.role)
                letters(sheet, 13, y, item.line[: (sheet.width - 15) // 6], item.role)
                y += height()
            for role, words in facts:
                sheet.put(4 if small else 13, y, words, role, most=sheet.width - 17)
                y += 1
            y += 1

    # ---- the figures

    def _figures(self, moment: Moment, sheet: Sheet) -> None:
        found = figures(moment)
        columns = 3 if sheet.width >= 120 else 2
        rows = -(-len(found) // columns)
        wide, tall = sheet.width // columns, (sheet.height - 2) // rows
        for at, figure in enumerate(found):
            self._figure(moment, sheet, figure, (at % columns) * wide + 4, 2 + (at // columns) * tall, wide - 5, tall)

    def _figure(self, moment: Moment, sheet: Sheet, figure: Figure, x: int, y: int, wide: int, tall: int) -> None:
        needed = width(figure.number, 2) + 4 + width(figure.unit)
        scale = 2 if tall >= 14 and needed <= wide else 1
        if tall < 7 or moment.looks.ascii:
            end = sheet.put(x, y, f"{figure.number} {figure.unit}".rstrip(), "fg", bold=True)
            sheet.put(end + 1, y, figure.title, "mid", most=x + wide - end - 1)
            sheet.put(x, y + 1, figure.about, "dim", most=wide)
            return
        y += max(0, (tall - height(scale) - 3) // 2)
        end = letters(sheet, x, y, figure.number, "fg", scale=scale)
        letters(sheet, end + 2, y + (8 * scale - 8) // 2, figure.unit, "mid")
        sheet.put(x, y + height(scale), figure.title, "fg", bold=True, most=wide)
        sheet.put(x, y + height(scale) + 1, figure.about, "dim", most=wide)


def about(moment: Moment, name: str) -> str:
    """What a line is, in a few words."""
    found = status(moment, name)
    live = production(moment.known(name))
    if found.sign == "◀":
        return f"{found.word}{_since(moment, found.since)}"
    if found.sign in ("■", "?"):
        held = moment.known(name).open_holds
        has = next((hold.has for hold in held if hold.has), "")
        who = f", {login(has)} has it" if has else ", nobody has it" if held else ""
        return f"{found.word.lower()}{_since(moment, found.since)}{who}"
    if live is None:
        return f"{found.word}, nothing shipped yet"
    return f"{found.word}, {short(live.version)} for {ago(moment.now - live.at)}"


def _since(moment: Moment, since: float | None) -> str:
    return "" if since is None else f" {ago(moment.now - since)}"


def _facts(moment: Moment, item: Trouble) -> list[tuple[str, str]]:
    """Role and words of what is told about a line in trouble."""
    since = f" for {ago(moment.now - item.since)}" if item.since is not None else ""
    words = item.what.removeprefix(item.line).strip().lower()
    found = [("fg", f"{words}{since}{' · ' + item.right if item.right else ''}"), ("mid", item.words)]
    signs = [f"{effect.sign} {effect.name}" for effect in effects(moment, item.line)]
    if signs:
        found.append(("mid", "   ".join(signs)))
    return [(role, text) for role, text in found if text]


def data_words(moment: Moment) -> str:
    """How old what is shown is: the oldest read of a source that is well."""
    if moment.silent_since is not None:
        return f"nobody watches since {age(moment.now - moment.silent_since)}"
    reads = [pulse.at for key, pulse in moment.view.pulses.items() if key.startswith("source:") and pulse.state == "ok"]
    return f"data {age(max(0.0, moment.now - min(reads)))} old" if reads else "no data yet"
