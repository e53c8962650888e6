"""A picture of the screen, as Textual makes it, without what is secret or looks so, in a file of one's own.

Textual's own command writes what is on the screen to a file that everybody can read. Here every way to a picture leads to
`~/.local/state/andon/screenshots`: the folder is 0700, the file 0600, whatever the umask.
"""

import os
import re
import stat
import time
from html import escape, unescape
from pathlib import Path

from textual.app import App, ReturnType

from andon.folders import make_private
from andon.hiding import hide
from andon.text import gate

_NAMED = re.compile(
    r"(?i)\b(?:bearer|basic|token|secret|password|passwd|passphrase|api[-_ ]?key|authorization)\b[\s:=\"']{1,4}"
    r"(?:bearer|basic)?\s*(\S{4,})"
)
_LOGIN = re.compile(r"://([^/\s@]+)@")
_KNOWN = re.compile(r"\b((?:gh[a-z]_|github_pat_|glpat-|xox[a-z]-|sk-|AKIA|ASIA|eyJ)[A-Za-z0-9._~+/=-]{8,})")
_LONG = re.compile(r"[A-Za-z0-9+/_=.~%-]{20,}")
_TEXT = re.compile(r'(<text [^>]*?x="([\d.]+)" y="([\d.]+)" textLength="([\d.]+)"[^>]*>)([^<]*)(</text>)')


class Screenshots(App[ReturnType]):
    """An app whose pictures show no secret and belong to one person."""

    def export_screenshot(self, *, title: str | None = None, simplify: bool = False) -> str:
        """The screen as SVG, masked."""
        return masked(super().export_screenshot(title=title, simplify=simplify))

    def save_screenshot(
        self, filename: str | None = None, path: str | None = None, time_format: str | None = None
    ) -> str:
        """Save the picture; returns where. Name and folder are ours, whatever is asked for. Raises OSError."""
        return str(save(self.export_screenshot()))

    def deliver_screenshot(
        self, filename: str | None = None, path: str | None = None, time_format: str | None = None
    ) -> str | None:
        """Save the picture and say where, or why not."""
        try:
            self.notify(f"saved {self.save_screenshot()}", markup=False)
        except OSError as error:
            self.notify(f"no picture was saved: {error.strerror or error}", severity="error", markup=False)
        return None


def save(picture: str) -> Path:
    """Write a picture into a new file that nobody else can read. Raises OSError."""
    import platformdirs

    state = platformdirs.user_state_path("andon")
    if not state.is_absolute():  # HOME=. would be the current folder
        raise OSError("the environment names no whole path for your state folder")
    folder = state / "screenshots"
    make_private(folder)
    name = f"andon-{time.strftime('%Y-%m-%dT%H-%M-%S', time.gmtime())}-{time.time_ns() // 10**6 % 1000:03d}Z.svg"
    own = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(own).st_uid != os.getuid():
            raise PermissionError(f"{folder} belongs to somebody else")
        if stat.S_IMODE(os.fstat(own).st_mode) & 0o077:
            os.fchmod(own, 0o700)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, 0o600, dir_fd=own), "w", encoding="utf-8") as file:
            file.write(picture)
    finally:
        os.close(own)
    return folder / name


def masked(picture: str) -> str:
    """An SVG picture of a screen with stars in place of what is secret or looks so; its layout stays."""
    pieces = list(_TEXT.finditer(picture))
    texts = [unescape(piece[5]).replace("\xa0", " ") for piece in pieces]
    lines: dict[str, list[int]] = {}
    for index, piece in enumerate(pieces):
        lines.setdefault(piece[3], []).append(index)
    for members in lines.values():
        _mask_line(pieces, texts, members)
    out, at = [], 0
    for piece, text in zip(pieces, texts, strict=True):
        out += [picture[at : piece.start()], piece[1], escape(gate(text)).replace(" ", "&#160;"), piece[6]]
        at = piece.end()
    return "".join((*out, picture[at:]))


def _mask_line(pieces: list[re.Match[str]], texts: list[str], members: list[int]) -> None:
    """Mask what stands on one line, also where it goes on in another colour."""
    line, starts, end = "", {}, None
    for index in members:
        x, width = float(pieces[index][2]), float(pieces[index][4])
        if end is not None and x - end > 1:
            line += " "
        starts[index] = len(line)
        line += texts[index]
        end = x + width
    line = stars(line)
    for index in members:
        texts[index] = line[starts[index] : starts[index] + len(texts[index])]


def stars(text: str) -> str:
    """`text`, as long as it was, with stars in place of what is secret or looks so."""
    text = hide(text, lambda found: "*" * len(found))
    for looks in (_LOGIN, _NAMED, _KNOWN):
        text = looks.sub(lambda found: found[0].replace(found[1], "*" * len(found[1])), text)
    return _LONG.sub(lambda word: "*" * len(word[0]) if _mixed(word[0]) else word[0], text)


def _mixed(word: str) -> bool:
    return any(char.isdigit() for char in word) and any(char.isalpha() for char in word)
