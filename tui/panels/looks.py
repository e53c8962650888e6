"""How the room looks in this terminal: which signs, whether there are colours and tints, and roles turned into styles.

One function, `looks`, decides it all, from the environment and the theme; panels draw with the plain signs and know only
whether pieces need brackets. The last step to the terminal turns roles into styles, and signs into ASCII where needed.
"""

import locale
import os
import sys
from collections.abc import Mapping

import msgspec
from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.color import Color, ColorParseError
from textual.strip import Strip

from tui.panels.sheet import Ink, Row

SIGNS = {
    "●": "*",
    "■": "#",
    "◀": "<",
    "▲": "!",
    "○": "o",
    "✓": "+",
    "✗": "x",
    "…": "~",
    "·": ".",
    "─": "-",
    "━": "=",
    "╾": ">",
    "╌": ".",
    "▸": ">",
    "▾": "v",
    "◂": "<",
    "◇": "f",
    "┆": ":",
    "▌": ">",
    "›": ">",
    "→": ">",
    "−": "-",
    "±": "~",
    "×": "x",
    "€": " ",
    "–": "-",
    "“": '"',
    "”": '"',
    "’": "'",
    "█": "#",
    "▀": '"',
    "▄": "_",
    "░": ".",
    "▴": "^",
    "↑": "^",
    "↓": "v",
}
"""Every sign that is not ASCII, and what stands in for it."""

_ASCII = {ord(sign): plain for sign, plain in SIGNS.items()}
FILLS = {"stopbg", "warnbg", "blindbg"}
"""Grounds that are an alarm: the one solid fill."""


class Looks(msgspec.Struct, frozen=True):
    """What this terminal can show."""

    ascii: bool = False
    """No signs beyond ASCII."""
    colour: bool = True
    tints: bool = True
    """Whether grounds can be told apart: without, pieces stand in brackets and the selection is a `>`."""


def looks(environ: Mapping[str, str], encoding: str, *, sixteen: bool) -> Looks:
    """What the terminal can show, by its environment; `sixteen` says that the theme has 16 colours only."""
    plain = "utf" not in encoding.lower() or environ.get("TERM", "") in ("linux", "vt100", "vt220")
    colour = not environ.get("NO_COLOR")
    return Looks(ascii=plain, colour=colour, tints=colour and not sixteen)


def terminal_encoding() -> str:
    """The encoding of the terminal's locale."""
    return getattr(sys.__stdout__, "encoding", None) or locale.getencoding()


def few_colours(environ: Mapping[str, str]) -> bool:
    """Whether this terminal has 16 colours or fewer."""
    term = environ.get("TERM", "")
    if environ.get("COLORTERM", "").lower() in ("truecolor", "24bit") or "256" in term or "direct" in term:
        return False
    return term in ("linux", "xterm-color", "screen", "ansi", "vt100", "vt220", "xterm-16color", "cons25")


def here(*, sixteen: bool, plain: bool = False) -> Looks:
    """What the terminal of this process can show; `plain` says that a person wants no sign beyond ASCII."""
    found = looks(os.environ, terminal_encoding(), sixteen=sixteen)
    return msgspec.structs.replace(found, ascii=True) if plain else found


def over_ssh(environ: Mapping[str, str]) -> bool:
    """Whether what is drawn travels through ssh, where each frame that moves something costs time."""
    return bool(environ.get("SSH_CONNECTION") or environ.get("SSH_TTY"))


class Painter:
    """Turns drawn rows into strips for one theme. Styles are made once per ink."""

    def __init__(self, roles: Mapping[str, str], looks_: Looks) -> None:
        self.looks = looks_
        self._roles = roles
        self._styles: dict[Ink, Style] = {}
        self.blank = self.style(Ink())
        """For cells nobody drew."""

    def strip(self, row: Row, width: int) -> Strip:
        """A row as a strip."""
        return Strip([Segment(self._text(text), self.style(ink)) for text, ink in row], width)

    def style(self, ink: Ink) -> Style:
        """The style of an ink."""
        found = self._styles.get(ink)
        if found is None:
            found = self._styles[ink] = self._coloured(ink) if self.looks.colour else self._plain(ink)
        return found

    def _text(self, text: str) -> str:
        if not self.looks.ascii or text.isascii():
            return text
        return "".join(char if char.isascii() else "?" for char in text.translate(_ASCII))

    def _plain(self, ink: Ink) -> Style:
        """Default ink only: the one fill is reversed, tinted bands and live pieces are bold."""
        strong = ink.bold or ink.bg in ("warnchip", "movechip", "stopchip")
        return Style(bold=strong or None, reverse=True if ink.bg in FILLS else None)

    def _coloured(self, ink: Ink) -> Style:
        colours = Style.from_color(self._colour(ink.fg, "fg"), self._colour(ink.bg, "bg"))
        return colours + Style(bold=True) if ink.bold else colours

    def _colour(self, role: str, otherwise: str) -> RichColor:
        value = self._roles.get(role) or self._roles.get(otherwise, "ansi_default")
        try:
            return Color.parse(value).rich_color
        except ColorParseError:
            return RichColor.default()
