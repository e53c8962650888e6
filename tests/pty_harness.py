"""A program in a terminal of its own: type bytes, read the screen, stall the reader, hang up, send signals.

with Program([sys.executable, "-m", "tui"], columns=80, rows=24) as room:
    room.wait_for("checkout")
    room.type("\\x1b[20~")
    assert room.exit_code() == 0
"""

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import pyte

from tests.helpers import LIMIT_S, wait_until

# The program becomes the leader of a session whose terminal this is, so that a hang-up reaches it.
_LAUNCH = """
import fcntl, os, signal, sys, termios
for number in range(1, 32):
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
for number in filter(None, sys.argv[1].split(",")):
    signal.signal(int(number), signal.SIG_IGN)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[2], sys.argv[2:])
"""

# Sequences that pyte would print in part: private forms of `u`, `p`, `m`, and strings.
_NOT_FOR_PYTE = re.compile(rb"\x1b\[[<>=][\d;]*[a-zA-Z]|\x1b\[\?[\d;]*\$p|\x1b[P_^X].*?\x1b\\", re.DOTALL)
_CUT = re.compile(rb"\x1b(?:\[[<>=?]?[\d;]*\$?)?\Z")
_MODE = re.compile(rb"\x1b\[\?(\d+)([hl])")


class Program:
    """A process in a pseudo-terminal. `out` holds every byte it wrote so far, `screen` what a person would see."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        columns: int = 80,
        rows: int = 24,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        ignored: Sequence[int] = (),
        drawn: bool = True,
    ) -> None:
        """`env` is laid over the test's own; `ignored` are signals that are ignored from the start, as by nohup.

        Without `drawn` no screen is made of what was written, which takes more time than writing it.
        """
        self._master, slave = os.openpty()
        self._set_size(columns, rows)
        self.modes_before = termios.tcgetattr(self._master)
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self._lock = threading.RLock()
        self.out = b""
        self._held = b""
        self._drawn = drawn
        self._reading = threading.Event()
        self._reading.set()
        self._over = False
        ignoring = ",".join(str(int(number)) for number in ignored)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, ignoring, *map(str, argv)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            cwd=cwd,
            env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **(env or {})},
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read, name="pty-reader", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def lines(self) -> list[str]:
        """The rows of the screen, without blanks at their ends."""
        with self._lock:
            return [row.rstrip() for row in self.screen.display]

    @property
    def text(self) -> str:
        """The whole screen."""
        return "\n".join(self.lines)

    @property
    def modes(self) -> dict[int, bool]:
        """The private modes that were ever set or reset, and how each stands now."""
        return {int(number): state == b"h" for number, state in _MODE.findall(self.out)}

    @property
    def restored(self) -> bool:
        """Whether the terminal is as it was: no mode left on but line wrap and the cursor, and its settings back."""
        on = {mode for mode, state in self.modes.items() if state}
        kitty = self.out.count(b"\x1b[>25u") == self.out.count(b"\x1b[<u")
        return on <= {7, 25} and kitty and termios.tcgetattr(self._master) == self.modes_before

    def type(self, data: bytes | str) -> None:
        """Send `data` as the keyboard would, in one write."""
        os.write(self._master, data.encode() if isinstance(data, str) else data)

    def wait_for(self, text: str, limit_s: float = LIMIT_S) -> None:
        """Wait until the screen shows `text`."""
        self.wait_until(lambda: text in self.text, limit_s, f"screen shows {text!r}")

    def wait_until(self, look: Callable[[], object], limit_s: float = LIMIT_S, what: str = "") -> None:
        """Wait until `look` is true; the error shows the screen."""
        try:
            wait_until(look, limit_s, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text}\nlast bytes: {self.out[-300:]!r}") from None

    def resize(self, columns: int, rows: int) -> None:
        """Give the terminal another size; the program is told by SIGWINCH."""
        with self._lock:
            self.screen.resize(rows, columns)
        self._set_size(columns, rows)

    def signal(self, number: int) -> None:
        """Send a signal to the program."""
        self.process.send_signal(number)

    def stall(self) -> None:
        """Stop reading, as a frozen terminal does."""
        self._reading.clear()

    def resume(self) -> None:
        """Read again."""
        self._reading.set()

    def hang_up(self) -> None:
        """Close the terminal, as a dropped connection does."""
        self._end_reader()
        os.close(self._master)
        self._master = -1

    def exit_code(self, limit_s: float = LIMIT_S) -> int:
        """Wait for the end; a signal's number is negative. Everything written before is in `out` afterwards."""
        code = self.process.wait(limit_s)
        if self._master >= 0:
            self._reading.set()
            self._reader.join(limit_s)
        return code

    def close(self) -> None:
        """End the program, however it is, and give everything back."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._end_reader()
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _end_reader(self) -> None:
        self._over = True
        self._reading.set()
        self._reader.join(LIMIT_S)

    def _read(self) -> None:
        poll = select.poll()
        poll.register(self._master, select.POLLIN)
        while not self._over:
            self._reading.wait()
            if not poll.poll(20) or not self._reading.is_set():
                continue
            try:
                data = os.read(self._master, 65536)
            except OSError:  # the program has ended, and all it wrote is read
                return
            with self._lock:
                self.out += data
                if self._drawn:
                    self._show(data)

    def _show(self, data: bytes) -> None:
        data = self._held + data
        cut = _CUT.search(data)
        self._held = data[cut.start() :] if cut else b""
        self._stream.feed(_NOT_FOR_PYTE.sub(b"", data[: cut.start()] if cut else data))


# What the room itself sends a terminal: attributes, places, modes, its title and questions, each in the one form it uses.
_OWN = re.compile(
    r"\x1b\[(?:[0-9]|2[1-9]|[34]8;2;\d+;\d+;\d+|[34]9|;)*m"
    r"|\x1b\[\d+;\d+H"
    r"|\x1b\[\?(?:7|25|1000|1003|1004|1006|1015|1016|1049|2004|2026|2048)[hl]"
    r"|\x1b\[(?:>25|<)u|\x1b\[2[23];0t"
    r"|\x1b\]0;andon[a-z0-9:, -]*\x07|\x1b\]22;(?:default|pointer|text)\x07"
)
_ASKED = ("\x1b[?2026$p", "\x1b[?2048$p")
"""Questions of the room, asked once when it begins."""
_HIDDEN = {0x115F, 0x1160, 0x3164, 0xFFA0}


def raw(out: bytes, *, room: bool = True) -> list[str]:
    """What a terminal could act on, or a person could not see, in what was written: nothing of it is the room's own.

    Without `room` nothing but text and line ends is expected.
    """
    text = out.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
    if room:
        for question in _ASKED:
            text = text.replace(question, "", 1)
        text = _OWN.sub("", text)
    return [
        text[max(0, at - 30) : at + 30]
        for at, char in enumerate(text)
        if char != "\n" and (unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") or ord(char) in _HIDDEN)
    ]


def gone_within(process: subprocess.Popen[bytes], limit_s: float) -> float:
    """Seconds until the process ended; fails after `limit_s`."""
    began = time.monotonic()
    process.wait(limit_s)
    return time.monotonic() - began
