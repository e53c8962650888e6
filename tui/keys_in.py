"""What the terminal sends, cut into whole pieces before anything interprets it.

Everything that arrives at a terminal's input is not a key: answers to questions (some of which a stranger's text may
have asked), pastes, mouse reports, broken bytes. `Framer` cuts the bytes into pieces, each of them complete, and frames
pastes before their content could be taken for keys; `Translator` turns the few kinds of pieces that are known into
Textual events and drops the rest. Neither ever raises on input, waits, or reads a clock of its own.
"""

import codecs
import re
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from textual import events
from textual._ansi_sequences import ANSI_SEQUENCES_KEYS
from textual._keyboard_protocol import FUNCTIONAL_KEYS
from textual._xterm_parser import XTermParser
from textual.message import Message

from andon.text import LINE_LIMIT, SUBSTITUTE, clean

ESC = "\x1b"
PASTE_START = "\x1b[200~"
PASTE_END = "\x1b[201~"

PASTE_LIMIT = 20_000
"""Characters kept of one paste."""
SEQUENCE_LIMIT = 64
"""Characters of the longest sequence that can mean something."""
TYPED_LIMIT = 16
"""So many characters that are not all the same come in one read from no hand: a paste that the terminal did not frame."""

SEQUENCE_QUIET_S = 0.5
"""Seconds of silence after which an unfinished sequence is dropped, so that keys work again."""
PASTE_QUIET_S = 1.0
"""Seconds of silence after which a paste without an end is taken as ended."""
PASTE_LONGEST_S = 30.0
"""Seconds after which it is taken as ended in any case."""
UNFRAMED_QUIET_S = 0.3
"""Characters within so many seconds after such a read belong to it."""

_STRINGS = {"]": "OSC", "P": "DCS", "_": "APC", "^": "PM", "X": "SOS"}
_C1 = {"\x8f": "O", "\x90": "P", "\x98": "X", "\x9b": "[", "\x9d": "]", "\x9e": "^", "\x9f": "_"}
_INTRODUCERS = _C1 | {chr(0xDC00 + ord(c1)): letter for c1, letter in _C1.items()}
"""One-byte forms of `ESC [` and its kin: as a character, and as the lone byte that was no valid UTF-8."""
_FUNCTION_KEY = re.compile(rb"\x1b(?:O[P-S]|\[[\d;:]*[~P-S])")

Kind = Literal["key", "alt", "escape", "sequence", "paste"]


class Piece(NamedTuple):
    """One complete thing that came in: a character, alt with a character, escape, a sequence, or a paste."""

    kind: Kind
    text: str


class Framer:
    """Cuts input into pieces. Times are seconds of any steady clock, passed in."""

    def __init__(self, escape_delay_s: float = 0.1) -> None:
        self.escape_delay_s = escape_delay_s
        self.dropped = 0
        """How many pieces were unfinished, too long or answers nobody here asked for."""
        self.loose = ""
        """Text that no hand has typed and that may go on."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._pieces: list[Piece] = []
        self._state: Callable[[str], None] = self._ground
        self._buffer = ""
        self._paste: list[str] = []
        self._tail = ""
        self._last_at = 0.0
        self._paste_at = 0.0
        self._loose_at = 0.0

    def feed(self, data: bytes, now: float) -> list[Piece]:
        """The pieces that are complete with `data`; what is not waits for more."""
        pieces = self.tick(now)
        if not (self._state == self._in_paste and _FUNCTION_KEY.fullmatch(data)):
            self._last_at = now  # a function key held down must not keep a paste without an end open
        for char in self._decoder.decode(data):
            self._state(char)
        if self._state != self._in_paste:
            self._paste_at = 0.0
        elif not self._paste_at:
            self._paste_at = now
        return pieces + self._without_loose(self._take(), now)

    def tick(self, now: float) -> list[Piece]:
        """The pieces that are complete because nothing followed for long enough."""
        ends = self._ends_at()
        if ends is not None and ends <= now:
            self._give_up()
        pieces = self._take()
        if self.loose and self._loose_at + UNFRAMED_QUIET_S <= now:
            pieces, self.loose = [Piece("paste", self.loose), *pieces], ""
        return pieces

    def wait(self, now: float) -> float | None:
        """Seconds until `tick` has something to do; None: nothing is unfinished."""
        ends = [at for at in (self._ends_at(), self._loose_at + UNFRAMED_QUIET_S if self.loose else None) if at]
        return min(ends) - now if ends else None

    def _ends_at(self) -> float | None:
        """When what is unfinished is given up."""
        if self._state == self._ground and not self._decoder.getstate()[0]:
            return None
        if self._state == self._in_paste:
            began = self._paste_at or self._last_at
            return min(self._last_at + PASTE_QUIET_S, began + PASTE_LONGEST_S)
        return self._last_at + (self.escape_delay_s if self._buffer == ESC else SEQUENCE_QUIET_S)

    def _without_loose(self, pieces: list[Piece], now: float) -> list[Piece]:
        """`pieces`, without what no hand can have typed: that is kept, and is one paste when nothing more follows."""
        typed = [piece.text for piece in pieces if piece.kind == "key"]
        if not typed or not (self.loose or _by_no_hand(typed)):
            return pieces
        self.loose = (self.loose + "".join(typed))[:PASTE_LIMIT]
        self._loose_at = now
        return [piece for piece in pieces if piece.kind != "key"]

    def _take(self) -> list[Piece]:
        pieces, self._pieces = self._pieces, []
        return pieces

    def _emit(self, kind: Kind, text: str) -> None:
        self._pieces.append(Piece(kind, text))
        self._rest()

    def _drop(self) -> None:
        self.dropped += 1
        self._rest()

    def _rest(self) -> None:
        self._state, self._buffer = self._ground, ""

    def _begin(self, buffer: str, state: Callable[[str], None]) -> None:
        self._state, self._buffer = state, buffer

    def _give_up(self) -> None:
        for char in self._decoder.decode(b"", final=True):  # the start of a character that never came
            self._state(char)
        if self._state == self._ground:
            return
        if self._state == self._in_paste:
            self._end_paste()
        elif self._buffer == ESC:
            self._emit("escape", ESC)
        elif self._buffer.endswith("$"):
            self._emit("sequence", self._buffer)  # rxvt ends its shifted keys so
        else:
            self._drop()

    def _ground(self, char: str) -> None:
        if char == ESC:
            self._begin(ESC, self._escape)
        elif char in _INTRODUCERS:
            self._buffer = ESC
            self._escape(_INTRODUCERS[char])
        elif "\ud800" <= char <= "\udfff":
            self._emit("key", SUBSTITUTE)
        elif "\x80" <= char <= "\x9f":
            self._drop()
        else:
            self._emit("key", char)

    def _escape(self, char: str) -> None:
        if char == ESC:
            self._pieces.append(Piece("escape", ESC))
        elif char == "[":
            self._begin(ESC + char, self._in_csi)
        elif char == "O":
            self._begin(ESC + char, self._in_ss3)
        elif char in _STRINGS:
            self._begin(ESC + char, self._in_string)
        elif char == "\\":
            self._drop()  # the end of a string that was given up
        elif char in _INTRODUCERS or "\x80" <= char <= "\x9f" or "\ud800" <= char <= "\udfff":
            self._emit("escape", ESC)
            self._ground(char)
        else:
            self._emit("alt", ESC + char)

    def _in_ss3(self, char: str) -> None:
        if " " < char <= "~":
            self._emit("sequence", self._buffer + char)
        else:
            self._drop()
            self._ground(char)

    def _in_csi(self, char: str) -> None:
        buffer = self._buffer
        if char == ESC or not " " <= char <= "~":
            self._drop()
            self._ground(char)
            return
        if len(buffer) < SEQUENCE_LIMIT:
            self._buffer = buffer + char
        if buffer == "\x1b[[":  # the Linux console's F1 to F5
            self._emit("sequence", self._buffer)
        elif buffer.startswith("\x1b[M"):  # the oldest mouse report: three characters follow
            if len(buffer) == 5:
                self._drop()
        elif char >= "@" and self._buffer not in ("\x1b[[", "\x1b[M"):
            self._end_csi(len(buffer) >= SEQUENCE_LIMIT)

    def _end_csi(self, too_long: bool) -> None:
        if too_long or self._buffer == PASTE_END:
            self._drop()
        elif self._buffer == PASTE_START:
            self._begin("", self._in_paste)
        else:
            self._emit("sequence", self._buffer)

    def _in_string(self, char: str) -> None:
        if char in "\x07\x18\x1a\x9c\udc9c":
            self._drop()
        elif char == ESC:
            self._state = self._in_string_escape

    def _in_string_escape(self, char: str) -> None:
        if char == "\\":
            self._drop()
            return
        # Any other escape ends the string, as in a terminal: a key pressed after a cut answer still works.
        self._drop()
        self._begin(ESC, self._escape)
        self._escape(char)

    def _in_paste(self, char: str) -> None:
        self._tail = (self._tail + char)[-len(PASTE_END) :]
        if len(self._paste) < PASTE_LIMIT + len(PASTE_END):
            self._paste.append(char)
        if self._tail == PASTE_END:
            self._end_paste()

    def _end_paste(self) -> None:
        text = "".join(self._paste)
        if self._tail == PASTE_END:
            text = text.removesuffix(PASTE_END)
        self._paste, self._tail, self._paste_at = [], "", 0.0
        self._emit("paste", text[:PASTE_LIMIT])


def _by_no_hand(typed: list[str]) -> bool:
    return len(typed) > TYPED_LIMIT and len(set(typed)) > 1  # a key that is held down is one hand's


def clean_paste(text: str) -> str:
    """A paste as lines that no terminal reacts to; line ends of any kind become one."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(clean(line, LINE_LIMIT) for line in lines)


_KEY = re.compile(
    r"\x1b\[(?P<code>\d*)(?::[\d:]*)?(?:;(?P<mods>\d*)(?::(?P<event>\d*))?)?(?:;(?P<text>[\d:]*))?(?P<end>[u~A-FHPQS])"
)
_REPORTS = (
    re.compile(r"\x1b\[<\d{1,4};-?\d{1,5};-?\d{1,5}[mM]"),  # mouse
    re.compile(r"\x1b\[\?2026;\d\$y"),  # synchronised output: may it be used
)
_ANSWER_ENDS = "cnRtxy"
"""What answers end in. Some keys of old terminals do, too; those are not worth the doubt."""
_HAND = re.compile(r"\x1b\[(?:<[-\d;]+[mM]|[IO]|48;[\d;:]+t)")
_RELEASED = "3"


def from_hand(piece: Piece) -> bool:
    """Whether it is a report of the mouse, the focus or the window: not a key, and nothing a text can ask for."""
    return piece.kind == "sequence" and _HAND.fullmatch(piece.text) is not None


class Translator:
    """Pieces to Textual's events, by Textual's own parser, which sees only what is complete and known."""

    def __init__(self) -> None:
        self.dropped = 0
        """How many pieces meant nothing here."""
        self.errors = 0
        """How many made the parser fail."""
        self._parser = XTermParser()

    def events(self, piece: Piece) -> list[Message]:
        """What `piece` means; nothing for what is not known. Never raises."""
        if piece.kind == "paste":
            return [events.Paste(clean_paste(piece.text))]
        if piece.kind == "escape":
            return [events.Key("escape", ESC)]
        try:
            found = list(self._meaning(piece))
        except Exception:  # noqa: BLE001 — input can be anything, and no input may end the room or disarm its keys
            self.errors += 1
            self._renew()
            return []
        self.dropped += not found
        return found

    def _meaning(self, piece: Piece) -> Iterable[Message]:
        if piece.kind == "sequence":
            return self._sequence(piece.text)
        if piece.kind == "alt":
            return self._fed(piece.text, expire=True)
        return self._fed(piece.text)

    def _sequence(self, text: str) -> Iterable[Message]:
        if any(report.fullmatch(text) for report in _REPORTS):
            return self._fed(text)
        match = _KEY.fullmatch(text)
        if match is not None and (plain := _plain_key(match)) is not None:
            return self._fed(plain) if plain else ()
        known = None if text[-1] in _ANSWER_ENDS and text[1] == "[" else ANSI_SEQUENCES_KEYS.get(text)
        if isinstance(known, tuple):
            return [events.Key(key.value, None) for key in known]
        return self._fed(known) if isinstance(known, str) else ()

    def _fed(self, text: str, expire: bool = False) -> list[Message]:
        parser = self._parser
        found = list(parser.feed(text))
        if expire and parser._awaiting.timeout is not None:  # noqa: SLF001
            parser._timeout_time = 0.0  # noqa: SLF001
            found += parser.tick()
        if parser._awaiting.timeout is not None:  # noqa: SLF001 — it waits for more: it did not know the sequence
            self._renew()
        return found

    def _renew(self) -> None:
        """A parser in its first state."""
        old, self._parser = self._parser, XTermParser()
        self._parser.last_x, self._parser.last_y = old.last_x, old.last_y


def _plain_key(match: re.Match[str]) -> str | None:
    """A key of the extended protocol without what Textual's parser trips over; empty: released; None: no such key."""
    code, mods, text, end = (match[name] or "" for name in ("code", "mods", "text", "end"))
    if end == "u":
        if not _is_character(code):
            return None
    elif f"{code or 1}{end}" not in FUNCTIONAL_KEYS:
        return None
    if match["event"] == _RELEASED:
        return ""
    typed = ":".join(part for part in text.split(":") if _is_character(part) and int(part) >= 0x20)
    return f"\x1b[{code or 1};{mods};{typed}{end}" if typed else f"\x1b[{code or 1};{mods}{end}"


def _is_character(digits: str) -> bool:
    return 0 < len(digits) <= 7 and 0 < int(digits) < 0x110000 and not 0xD800 <= int(digits) < 0xE000
