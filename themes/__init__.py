"""Themes: YAML files of colours by role, and their loader.

A theme says one colour for each of the 25 roles and nothing else: `dark`, `ansi` and `colours` are its only keys.
Colours are `#rrggbb`; with `ansi: true` they are names of the terminal's own 16 (`ansi_default`, `ansi_bright_red`).
A person's own themes lie as `NAME.yaml` in a folder; the built-in names cannot be taken.
"""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from andon.yamlfile import Document, FileError

if TYPE_CHECKING:
    from textual.theme import Theme as TextualTheme

ROLES = (
    *("bg", "raise", "sel", "chip", "rule", "rail", "dim", "mid", "fg"),
    *("ok", "stop", "warn", "move", "blind"),
    *("stopbg", "onstop", "warnbg", "onwarn", "blindbg", "onblind"),
    *("movechip", "stopchip", "warnchip", "band", "line"),
)
"""Every role a theme gives a colour to. Widgets name roles, never colours."""

HERE = Path(__file__).parent
_NAMES = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
ANSI = frozenset({"ansi_default", *(f"ansi_{name}" for name in _NAMES), *(f"ansi_bright_{name}" for name in _NAMES)})
"""The names of colours in a theme of 16."""
_HEX = re.compile(r"#[0-9a-f]{6}", re.IGNORECASE)
_FILE_LIMIT = 64 * 1024


class Theme(msgspec.Struct, frozen=True):
    """A colour for each role."""

    name: str
    colours: Mapping[str, str]
    """Role to colour: `#rrggbb`, or an `ansi_…` name."""
    dark: bool = True
    """Whether the ground is darker than the text."""
    ansi: bool = False
    """Whether the colours are the terminal's own 16: tints vanish, brackets and `>` stand for them."""

    def __getitem__(self, role: str) -> str:
        """The colour of a role."""
        return self.colours[role]


def names(folder: Path | None = None) -> list[str]:
    """The built-in themes, then those in a person's `folder`."""
    own = sorted(_stems(folder) - _stems(HERE)) if folder else []
    return sorted(_stems(HERE)) + own


def load(name_or_path: str | Path, folder: Path | None = None) -> Theme:
    """The built-in theme of that name, or the one in `folder`, or the one in a file (`…/x.yaml`).

    Raises `andon.yamlfile.FileError`: the file, the place, what is wrong and what to do.
    """
    path = Path(name_or_path).expanduser()
    if path.suffix not in (".yaml", ".yml"):
        path = _find(str(name_or_path), folder)
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_LIMIT + 1)
    except OSError as error:
        raise FileError(str(path), None, (), f"cannot be read: {error.strerror}") from error
    if len(content) > _FILE_LIMIT:
        raise FileError(str(path), None, (), "too large for a theme; it holds 25 colours")
    return _theme(path.stem, Document(str(path), content))


def _stems(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.yaml")}


def _find(name: str, folder: Path | None) -> Path:
    if name in _stems(HERE):
        return HERE / f"{name}.yaml"
    if folder and name in _stems(folder):
        return folder / f"{name}.yaml"
    known = names(folder)
    near = difflib.get_close_matches(name, known, 1)
    hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(known)}"
    raise FileError("theme", None, (name,), f"no such theme; {hint}")


def _theme(name: str, file: Document) -> Theme:
    data = file.data
    if not isinstance(data, dict) or not isinstance(data.get("colours"), dict):
        raise file.error((), "a theme holds `colours:` with one colour for each role")
    for key in data:
        if key not in ("colours", "dark", "ansi"):
            raise file.error((key,), "unknown key; a theme holds dark, ansi and colours")
    flags = {key: data.get(key, key == "dark") for key in ("dark", "ansi")}
    for key, value in flags.items():
        if not isinstance(value, bool):
            raise file.error((key,), "must be true or false")
    colours = data["colours"]
    for role, colour in colours.items():
        _check(file, role, colour, flags["ansi"])
    if missing := [role for role in ROLES if role not in colours]:
        raise file.error(("colours",), f"no colour for {', '.join(missing)}")
    kept = MappingProxyType({role: colours[role].lower() for role in ROLES})
    return Theme(name, kept, dark=flags["dark"], ansi=flags["ansi"])


def _check(file: Document, role: str, colour: object, ansi: bool) -> None:
    where = ("colours", role)
    if role not in ROLES:
        near = difflib.get_close_matches(role, ROLES, 1)
        raise file.error(where, f'unknown role; did you mean "{near[0]}"?' if near else "unknown role")
    if ansi and not (isinstance(colour, str) and colour in ANSI):
        near = difflib.get_close_matches(str(colour), sorted(ANSI), 1)
        hint = f'did you mean "{near[0]}"?' if near else "write ansi_default, ansi_red, ansi_bright_red …"
        raise file.error(where, f"{colour!r} is none of the 16 colours; {hint}")
    if not ansi and not (isinstance(colour, str) and _HEX.fullmatch(colour)):
        raise file.error(where, f'{colour!r} is no colour; write "#rrggbb", in quotation marks')


def to_textual(theme: Theme) -> "TextualTheme":
    """The theme for Textual: each role is a CSS variable (`$bg`, `$raise`, …), and its own widgets follow."""
    from textual.theme import Theme as TextualTheme

    own = {
        "border": theme["rule"],
        "border-blurred": theme["rule"],
        "block-cursor-background": theme["sel"],
        "block-cursor-foreground": theme["fg"],
        "input-cursor-background": theme["fg"],
        "input-cursor-foreground": theme["bg"],
        "input-selection-background": theme["chip"] if not theme.ansi else theme["blindbg"],
        "scrollbar": theme["rule"],
        "scrollbar-hover": theme["rail"],
        "scrollbar-active": theme["rail"],
        "scrollbar-background": theme["bg"],
        "scrollbar-background-hover": theme["bg"],
        "scrollbar-background-active": theme["bg"],
        "scrollbar-corner-color": theme["bg"],
    }
    if theme.ansi:
        own |= {"ansi-background": theme["bg"], "ansi-foreground": theme["fg"]}  # Textual asks for them there only
    return TextualTheme(
        name=theme.name,
        primary=theme["move"],
        secondary=theme["move"],
        accent=theme["move"],
        warning=theme["warn"],
        error=theme["stop"],
        success=theme["ok"],
        foreground=theme["fg"],
        background=theme["bg"],
        surface=theme["raise"],
        panel=theme["raise"],
        boost=theme["sel"],
        dark=theme.dark,
        ansi=theme.ansi,
        variables={**own, **theme.colours},
    )
