"""What goes to the terminal: made harmless, and never waited for.

`Gate` is the second layer against hostile text, behind the cleaning at entry: it looks at every cell that is painted.
`Writer` hands bytes to a terminal from a thread of its own: a terminal that stops reading (a frozen SSH link) holds up
that thread and nothing else. What piles up is bounded; when too much does, it is thrown away whole and the screen is
asked for anew once the terminal reads again.
"""

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from andon.text import SUBSTITUTE, gate

PENDING_LIMIT = 512 * 1024
"""Bytes that may wait for the terminal; some three full frames of a large screen."""
_CHUNK = 4096
_LOOK_AGAIN_MS = 100
_ABORT = b"\x18\x1b[?2026l"
"""Ends a sequence that was cut in its middle, and an update that was announced and will not be finished."""


class Gate(LineFilter):
    """Replaces what a terminal acts on (controls, bidi, zero width, tags) in every cell with U+FFFD."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """`segments`, harmless. Control segments are the screen's own and pass."""
        return [segment if segment.control else _gated(segment) for segment in segments]


def _gated(segment: Segment) -> Segment:
    text, style, _ = segment
    if not (text.isascii() and text.isprintable()):
        text = gate(text).replace("\n", SUBSTITUTE)
    if style is not None and style.link and not _plain_link(style.link):
        style = style.update_link(None)
    return Segment(text, style)


def _plain_link(link: str) -> bool:
    return link.startswith("https://") and link.isascii() and link.isprintable()


def own_descriptor(fd: int) -> int:
    """Another descriptor of the terminal behind `fd`, on which writing never waits.

    It is opened anew, because `O_NONBLOCK` on a duplicate would also change the shell's own. Where that is not
    possible (a terminal without a name here) it is a duplicate, on which writing may wait.
    """
    with suppress(OSError):
        return os.open(os.ttyname(fd), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    return os.dup(fd)


def say(fd: int, text: str, limit_s: float = 0.5) -> bool:
    """Write `text` to the file or terminal behind `fd` within `limit_s` seconds; False: not all of it went out."""
    data = text.encode("utf-8", "replace")
    end = time.monotonic() + limit_s
    try:
        own = own_descriptor(fd)
    except OSError:
        return False
    try:
        while data and time.monotonic() < end:
            data = data[_write_some(own, data, _LOOK_AGAIN_MS) :]
    except OSError:
        return False
    finally:
        os.close(own)
    return not data


def _write_some(fd: int, data: bytes, wait_ms: int) -> int:
    """Write what fits now, waiting at most `wait_ms` for room. Raises OSError when the terminal is gone."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    if not poll.poll(wait_ms):
        return 0
    try:
        return os.write(fd, data[:_CHUNK])
    except BlockingIOError:
        threading.Event().wait(0.01)  # it said there is room, and there was none: do not ask at full speed
        return 0


class Writer(threading.Thread):
    """Writes to the terminal behind `fd`. `write` returns at once, whatever the terminal does."""

    def __init__(self, fd: int, on_drained: Callable[[bool], None], on_gone: Callable[[], None]) -> None:
        """Prepare; `start` begins.

        `on_drained(lost)` is called in this thread when nothing waits any more, once for each `tell_when_drained`, and
        after a loss; `on_gone` when the terminal is gone.
        """
        super().__init__(name="screen-out", daemon=True)
        self._fd = own_descriptor(fd)
        self._on_drained = on_drained
        self._on_gone = on_gone
        self._ready = threading.Condition()
        self._queue: deque[bytes] = deque()
        self._rest = b""
        self._queued = 0
        self._lost = False
        self._asked = False
        self._closed = False
        self._gone = False

    @property
    def pending(self) -> int:
        """Bytes that the terminal has not taken yet."""
        return self._queued + len(self._rest)

    def write(self, text: str) -> None:
        """Add `text`, which must be whole: what is lost is lost in pieces of this size. Never waits."""
        data = text.encode("utf-8", "replace")
        with self._ready:
            if self._closed or self._gone or not data:
                return
            if self.pending and self.pending + len(data) > PENDING_LIMIT:
                self._lose()
            self._add(data)

    def tell_when_drained(self) -> None:
        """Ask for one call of `on_drained`, when nothing waits any more."""
        with self._ready:
            self._asked = True
            self._ready.notify()

    def finish(self, last: str, limit_s: float) -> bool:
        """Write `last`, wait until all is out, and stop. After `limit_s` seconds the rest is given up: False."""
        end = time.monotonic() + limit_s
        with self._ready:
            if not self._closed and not self._gone:
                if self.pending > _CHUNK:
                    self._rest = b""
                    self._lose()
                self._add(last.encode())
            self._closed = True
            self._ready.notify()
        self.join(max(0.0, end - time.monotonic()))
        return not self.is_alive() and not self._gone

    def run(self) -> None:
        """Write until `finish`, or until the terminal is gone."""
        try:
            while self._next():
                written = _write_some(self._fd, self._rest, _LOOK_AGAIN_MS)
                with self._ready:
                    self._rest = self._rest[written:]
        except OSError:
            with self._ready:
                self._gone = True
                self._queue.clear()
                self._rest, self._queued = b"", 0
            self._on_gone()
        finally:
            os.close(self._fd)

    def _next(self) -> bool:
        """Have something in `_rest`; False: nothing will come any more."""
        while True:
            with self._ready:
                if not self._rest and self._queue:
                    self._rest = self._queue.popleft()
                    self._queued -= len(self._rest)
                if self._rest:
                    return True
                if self._closed:
                    return False
                if not (self._asked or self._lost):
                    self._ready.wait()
                    continue
                lost, self._lost, self._asked = self._lost, False, False
            self._on_drained(lost)

    def _add(self, data: bytes) -> None:
        self._queue.append(data)
        self._queued += len(data)
        self._ready.notify()

    def _lose(self) -> None:
        """Throw away what waits, save the piece that is half out."""
        self._queue.clear()
        self._queued = 0
        self._lost = True
        self._add(_ABORT)
