"""A grid of cells on which panels draw: text with a role of colour, a ground, and bold or not; never a colour itself.

A sheet knows no terminal. What does not fit is cut with `…`, two-cell characters take two cells, marks without a width
join the cell before, and joiners are dropped, so that every row has exactly the width of the sheet.
"""

from functools import lru_cache
from typing import NamedTuple

from rich.cells import get_character_cell_size

ELLIPSIS = "…"
_JOINERS = {0x200D, 0xFE0E, 0xFE0F}
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_FLAG_LETTERS = range(0x1F1E6, 0x1F200)
"""Terminals do not agree how wide these two are: a tone is dropped, a flag is written in its two letters."""


class Ink(NamedTuple):
    """How a cell looks: roles of the theme, not colours."""

    fg: str = "fg"
    bg: str = ""
    """The ground; empty: that of the row."""
    bold: bool = False


Run = tuple[str, Ink]
"""Neighbouring cells of one ink."""
Row = tuple[Run, ...]
"""A drawn row: what a strip is made from, and what two frames are compared by."""

_BLANK = Ink("fg")


@lru_cache(4096)
def cells(text: str) -> tuple[str, ...]:
    """`text` cell by cell; the second cell of a wide character is empty."""
    found: list[str] = []
    for char in text:
        code = ord(char)
        if code in _JOINERS or code in _SKIN_TONES:
            continue
        if code in _FLAG_LETTERS:
            char = chr(code - _FLAG_LETTERS.start + ord("A"))
        width = 1 if char.isascii() else get_character_cell_size(char)
        if width <= 0:
            if found:
                found[-1] += char
            continue
        found.append(char)
        if width == 2:
            found.append("")
    return tuple(found)


def width_of(text: str) -> int:
    """How many cells `text` takes."""
    return len(text) if text.isascii() else len(cells(text))


def fit(text: str, width: int) -> str:
    """`text` in at most `width` cells; what is cut ends in `…`."""
    if width <= 0:
        return ""
    found = cells(text)
    if len(found) <= width:
        return text
    kept = list(found[: width - 1])
    if kept and len(found) > len(kept) and found[len(kept)] == "" and kept[-1] != "":
        kept[-1] = " "  # half of a wide character is none
    return "".join(kept).rstrip() + ELLIPSIS


class Sheet:
    """Rows of cells. Coordinates count from 0; what lies outside is not drawn."""

    def __init__(self, width: int, height: int) -> None:
        self.width = max(0, width)
        self.height = max(0, height)
        self._text = [[" "] * self.width for _ in range(self.height)]
        self._ink = [[_BLANK] * self.width for _ in range(self.height)]
        self._ground = [""] * self.height

    def ground(self, y: int, role: str) -> None:
        """The ground of a whole row."""
        if 0 <= y < self.height:
            self._ground[y] = role

    def put(
        self, x: int, y: int, text: str, fg: str = "fg", *, bold: bool = False, bg: str = "", most: int | None = None
    ) -> int:
        """Write `text` from `x` on, in at most `most` cells; returns the column after it."""
        if not 0 <= y < self.height or x >= self.width:
            return x
        room = self.width - x
        limit = room if most is None else min(most, room)
        if width_of(text) > limit:
            text = fit(text, limit)
        ink = Ink(fg, bg, bold)
        row, inks = self._text[y], self._ink[y]
        for cell in cells(text):
            if 0 <= x < self.width:
                row[x] = cell
                inks[x] = ink
            x += 1
        return x

    def right(self, x: int, y: int, text: str, fg: str = "fg", *, bold: bool = False, bg: str = "") -> int:
        """Write `text` so that it ends in column `x`; returns its first column."""
        start = x - width_of(text) + 1
        self.put(max(0, start), y, text, fg, bold=bold, bg=bg)
        return start

    def parts(self, x: int, y: int, *parts: tuple[str, str] | tuple[str, str, bool], most: int | None = None) -> int:
        """Write pieces `(text, role[, bold])` one after the other; returns the column after the last."""
        end = self.width if most is None else min(self.width, x + most)
        for part in parts:
            if x >= end:
                break
            x = self.put(x, y, part[0], part[1], bold=len(part) > 2 and bool(part[2]), most=end - x)
        return x

    def tint(self, x: int, y: int, width: int, role: str) -> None:
        """Give cells a ground without touching their text."""
        if not 0 <= y < self.height:
            return
        inks = self._ink[y]
        for column in range(max(0, x), min(self.width, x + width)):
            inks[column] = inks[column]._replace(bg=role)

    def at(self, x: int, y: int) -> str:
        """The text of a cell; empty outside."""
        return self._text[y][x] if 0 <= y < self.height and 0 <= x < self.width else ""

    def ink(self, x: int, y: int) -> Ink:
        """The ink of a cell; plain outside."""
        return self._ink[y][x] if 0 <= y < self.height and 0 <= x < self.width else _BLANK

    def dim(self) -> None:
        """Turn every role into one of two greys: what is shown may no longer be true."""
        for inks in self._ink:
            for x, ink in enumerate(inks):
                if ink.fg not in _KEPT:
                    fg = "rail" if ink.fg in ("rail", "rule", "move") else "dim"
                    inks[x] = Ink(fg, "chip" if ink.bg in _CHIPS else ink.bg, False)

    def row(self, y: int) -> Row:
        """The row as runs of one ink, with the ground filled in."""
        text, inks, ground = self._text[y], self._ink[y], self._ground[y]
        runs: list[Run] = []
        start = 0
        for x in range(1, self.width + 1):
            if x == self.width or inks[x] != inks[start]:
                ink = inks[start]
                runs.append(("".join(text[start:x]), ink if ink.bg or not ground else ink._replace(bg=ground)))
                start = x
        return tuple(runs)

    def rows(self) -> list[Row]:
        """All rows."""
        return [self.row(y) for y in range(self.height)]


_CHIPS = {"chip", "movechip", "stopchip", "warnchip"}
_KEPT = {"dim", "rail", "rule"}
