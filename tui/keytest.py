"""`andon keys --test`: what this terminal really sends, byte by byte, and what the room would make of it.

Input goes the way it goes in the room: cut by the driver's `Framer`, read by its `Translator`. Nothing is acted on, and
nothing that came in is sent back but its names. `q` twice, or ctrl+c, ends it.
"""

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator

from textual import events
from textual.message import Message

from andon.text import clean, gate
from tui.cli import complain
from tui.danger import safe_key
from tui.keymap import Keys, cap_of
from tui.keys import screens
from tui.keys_in import Framer, Piece, Translator
from tui.leaving import end_in_order

SHOWN = 24
"""So many bytes of one read are named; of more it is said how many there are."""
WAYS_OUT = ("ctrl+c", "ctrl+q")
_NAMES = {
    0x00: "NUL",
    0x07: "BEL",
    0x08: "BS",
    0x09: "TAB",
    0x0A: "LF",
    0x0D: "CR",
    0x1B: "ESC",
    0x20: "SP",
    0x7F: "DEL",
}
_BEGIN = "\x1b[?2004h\x1b[>25u"
_END = "\x1b[<u\x1b[?2004l"
"""As the room does: pastes are framed, and keys come in the extended form where the terminal knows it."""


def test(keys: Keys) -> int:
    """Show each key until told to end. 2: there is no terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return complain("keys --test needs a terminal: its input and its output must be one")
    end_in_order()
    tester = Tester(keys)
    with _raw(sys.stdin.fileno()):
        _say(
            ["Press keys: what the terminal sends, and what the room makes of it. Nothing is acted on.", *_where(), ""]
        )
        _say(["q twice, or ctrl+c, ends it.", ""])
        while not tester.over:
            _say(tester.take(*_read(sys.stdin.fileno(), tester.wait())))
    return 0


def _where() -> list[str]:
    """What stands between the keyboard and us, as far as the environment tells."""
    environ = os.environ
    through = [
        word for word, name in (("ssh", "SSH_CONNECTION"), ("tmux", "TMUX"), ("screen", "STY")) if environ.get(name)
    ]
    term = clean(environ.get("TERM", "")) or "not set"
    return [f"TERM={term}" + (f", through {' and '.join(through)}" if through else "")]


class Tester:
    """Turns what is read into lines that say what it was."""

    def __init__(self, keys: Keys) -> None:
        self.over = False
        self._keys = keys
        self._framer = Framer()
        self._translator = Translator()
        self._before = ""

    def wait(self) -> float | None:
        """Seconds until what is unfinished is settled; None: nothing is."""
        return self._framer.wait(time.monotonic())

    def take(self, data: bytes, now: float) -> list[str]:
        """The lines for one read, or for none when only time has passed."""
        dropped = self._framer.dropped
        lines = [f"{named(data):<40} {hexed(data)}"] if data else []
        for piece in self._framer.feed(data, now) if data else self._framer.tick(now):
            lines += [f"    {words}" for words in self._meaning(piece)]
        if self._framer.dropped > dropped:
            lines.append("    no key: an answer of the terminal, or a piece of something; the room drops it")
        return lines

    def _meaning(self, piece: Piece) -> Iterator[str]:
        if piece.kind == "paste":
            yield f"a paste of {len(piece.text)} characters; it can press no key"
            return
        found = self._translator.events(piece)
        if not found:
            yield "nothing the room knows: it is dropped"
        for event in found:
            yield self._event(event)

    def _event(self, event: Message) -> str:
        if not isinstance(event, events.Key):
            return f"{type(event).__name__}: no key"
        key = event.key
        self.over = self.over or key in WAYS_OUT or (key == "q" and self._before == "q")
        self._before = key
        mine = [command for command in self._keys.commands if key in command.key.split(",")]
        words = "; ".join(f"{command.title} ({screens(command)})" for command in mine) or "no command has it"
        free = "" if mine or safe_key(key) else "; it could be a danger key"
        return f"{cap_of(key)}: {words}{free}"


def named(data: bytes) -> str:
    """The bytes by name: `ESC [ 2 0 ~`."""
    words = [_name(byte) for byte in data[:SHOWN]]
    return " ".join(words) + (f" … {len(data)} bytes" if len(data) > SHOWN else "")


def _name(byte: int) -> str:
    if byte in _NAMES:
        return _NAMES[byte]
    if byte < 0x20:
        return f"^{chr(byte + 0x40)}"
    return chr(byte) if byte < 0x7F else f"{byte:02x}"


def hexed(data: bytes) -> str:
    """The bytes as hexadecimal numbers."""
    return data[:SHOWN].hex(" ")


def _read(descriptor: int, wait_s: float | None) -> tuple[bytes, float]:
    """What comes within that time, and when."""
    ready, _, _ = select.select([descriptor], [], [], None if wait_s is None else max(0.0, wait_s) + 0.001)
    data = os.read(descriptor, 4096) if ready else b""
    if ready and not data:
        raise SystemExit(129)  # the terminal is gone
    return data, time.monotonic()


def _say(lines: list[str]) -> None:
    if lines:
        sys.stdout.write("".join(f"{gate(line)}\r\n" for line in lines))
        sys.stdout.flush()


@contextlib.contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    """The terminal in the state in which the room reads it; given back however this ends."""
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        sys.stdout.write(_BEGIN)
        sys.stdout.flush()
        yield
    finally:
        with contextlib.suppress(OSError, termios.error):
            sys.stdout.write(_END)
            sys.stdout.flush()
        with contextlib.suppress(termios.error):
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
