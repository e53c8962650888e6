"""The terminal as andon uses it: danger keys, input guard, output gate, leaving.

How an app uses it::

    class Room(GatedApp[None]):
        def __init__(self) -> None:
            super().__init__(Danger(on_stop=..., on_rollback=...), log_path=path)

        def drain(self, reason: str, deadline: float) -> None: ...       # another thread: finish or record acts, return
        def frame_shown(self) -> None: ...                               # the last frame has left for the terminal
        def on_danger_pressed(self, event: Danger.Pressed) -> None: ...  # F9, F4 or F8 was caught: show it

    harden_process(); guard_crashes(path)
    if why := usable(): exit 2 with it
    room.run(); sys.exit(room.return_code or 0)

The screen keeps `app.danger.stop_line`, `.armed` and `.why_not` up to date, and publishes `armed` only in `frame_shown`,
for the frame that showed it. `on_stop(line)` and `on_rollback(armed)` are called in the driver's input thread, before the
event loop, and must return at once (the engine's `ask`). A danger key never becomes a `Key` event: no binding can act on
it. In a headless test `pilot.press("f9")` takes the same way.
"""

import asyncio
import contextlib
import logging
import os
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
from rich.console import Console, RenderableType
from textual import constants, events
from textual.app import App, ReturnType
from textual.drivers.linux_driver import LinuxDriver
from textual.filter import LineFilter
from textual.geometry import Size
from textual.message import Message
from textual.screen import Screen

from andon.clock import Time
from andon.text import gate
from tui.keys_in import Framer, Piece, Translator, from_hand
from tui.leaving import (
    RESTORE_LIMIT_S,
    Leaving,
    crash_text,
    crash_words,
    guard_crashes,
    harden_process,
    usable,
)
from tui.screen_out import Gate, Writer, say

__all__ = [
    "Armed",
    "Danger",
    "GatedApp",
    "Terminal",
    "guard_crashes",
    "harden_process",
    "safe_key",
    "usable",
]

BURST_S = 0.05
"""A key within so many seconds after another is part of a burst no hand types: F4 and F8 are refused in it."""

_FUNCTION_KEYS = {f"f{n}" for n in range(1, 25)} - {"f3", "f15"}  # a cursor report can look like these two
_SAFE_KEYS = _FUNCTION_KEYS | {f"ctrl+f{n}" for n in range(1, 13) if n != 3} | {"ctrl+o", "ctrl+underscore"}

_START = "\x1b[?1049h\x1b[?25l\x1b[?1004h\x1b[?2004h\x1b[?7l"
_MOUSE = "\x1b[?1000h\x1b[?1003h\x1b[?1015h\x1b[?1006h"
_KITTY = "\x1b[>25u"  # disambiguate, report all keys, with their text
_ASK = "\x1b[?2026$p\x1b[?2048$p"  # synchronised output, in-band resize: does the terminal know them
_RESTORE = (
    "\x1b[?2026l\x1b[?2004l\x1b[?7h\x1b[?2048l\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[?1016l\x1b[?1004l"
    "\x1b[<u\x1b[0m\x1b[?1049l\x1b[?25h"
)

log = logging.getLogger("andon.room")

Act = Literal["stop", "rollback", "confirm"]


class Armed(msgspec.Struct, frozen=True):
    """What F4 would do now: published after the frame that shows it was painted."""

    line: str
    environment: str
    expected: str
    """The deployment id that is current on the screen."""
    target: str
    """The version to return to."""
    version_shown: str
    """The version that is current on the screen."""
    data_at: Time
    """When what the screen shows was read."""
    painted_at: Time
    """When the frame with this target was painted first."""
    words: str
    """The sentence of the danger row."""


def safe_key(key: str) -> str | None:
    """Why `key` cannot be a danger key, for a person; None: it can. Names are Textual's: `f9`, `ctrl+o`."""
    if key in _SAFE_KEYS:
        return None
    return f"{key}: text, a terminal's answer or line editing can press it; take f1 to f24 (not f3, f15) or ctrl+o"


class Danger:
    """The keys that act outside, and what they act on. Written by the screen's thread, read by the input thread."""

    class Pressed(Message):
        """A danger key was caught. For the screen to show; whatever had to be done was done already."""

        def __init__(self, act: Act, key: str, line: str, armed: Armed | None, why_not: str) -> None:
            super().__init__()
            self.act = act
            """`stop` (F9), `rollback` (F4) or `confirm` (F8, posted only when it was refused)."""
            self.key = key
            self.line = line
            """The line it acts on."""
            self.armed = armed
            """For `rollback`: what was asked for."""
            self.why_not = why_not
            """One sentence why nothing was asked for; empty: it was."""

        @property
        def taken(self) -> bool:
            """Whether the act was asked for."""
            return not self.why_not

    def __init__(
        self,
        on_stop: Callable[[str], None],
        on_rollback: Callable[[Armed], None],
        *,
        stop_key: str = "f9",
        rollback_key: str = "f4",
        confirm_key: str = "f8",
    ) -> None:
        """`on_stop(line)` and `on_rollback(armed)` are called in the input thread. Raises ValueError for an unsafe key."""
        self.on_stop = on_stop
        self.on_rollback = on_rollback
        self.keys: dict[str, Act] = {stop_key: "stop", rollback_key: "rollback", confirm_key: "confirm"}
        for key in self.keys:
            if why := safe_key(key):
                raise ValueError(why)
        if len(self.keys) < 3:
            raise ValueError("stop, rollback and confirm need three different keys")
        self.stop_line = ""
        """The line F9 stops."""
        self.armed: Armed | None = None
        """What F4 does; None: nothing."""
        self.why_not = "nothing is shown yet"
        """One sentence why F4 is not armed."""
        self.closed = ""
        """One sentence why no key acts any more; empty while they do."""

    def press(self, key: str, alone: bool = True) -> "Danger.Pressed | None":
        """Act on `key`; None: it is for the event loop (not a danger key, or a confirming one that came alone).

        `alone` says that nothing else came in with it, as with a key under a finger. Never raises.
        """
        act = self.keys.get(key)
        if act is None or (act == "confirm" and alone):
            return None
        armed = self.armed if act == "rollback" else None
        line = armed.line if armed else self.stop_line
        why_not = self.closed or self._do(act, armed, line, alone)
        return Danger.Pressed(act, key, line, armed, why_not)

    def _do(self, act: Act, armed: Armed | None, line: str, alone: bool) -> str:
        """Do it; why not, in words."""
        if act != "stop" and not alone:
            return "other input came with the key: press it again, alone"
        try:
            if act == "stop":
                if not line:
                    return "no line is selected"
                self.on_stop(line)
            else:
                if armed is None:
                    return self.why_not
                self.on_rollback(armed)
        except Exception as error:  # noqa: BLE001 — the input thread must live on; the next press is a new try
            log.error("%s of %s could not be asked for\n%s", act, line, crash_text(error))
            return f"{act} could not be asked for: {type(error).__name__}; press it again"
        return ""


class Terminal(LinuxDriver):
    """Textual's driver for Unix terminals, with andon's input, output and ways to leave."""

    def __init__(
        self, app: App[Any], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        assert sys.__stdout__ is not None
        self._out = sys.__stdout__.fileno()
        self._writer: Writer | None = None
        self._wake_read, self._wake_write = os.pipe()
        self._framer = Framer(constants.ESCAPE_DELAY)
        self._translator = Translator()
        self._foreign_at = 0.0
        self.on_drained: Callable[[bool], None] = lambda _lost: None
        """Called in the event loop when nothing waits for the terminal any more; the flag: something was lost."""
        self._leaving: Leaving | None = None
        if isinstance(app, GatedApp) and threading.current_thread() is threading.main_thread():
            self._leaving = Leaving(app.leave, self.restore)
            self._leaving.watch()

    @property
    def pending(self) -> int:
        """Bytes the terminal has not taken yet. While it is not 0 no new frame is painted."""
        return self._writer.pending if self._writer else 0

    @property
    def dropped(self) -> int:
        """Pieces of input that were dropped: answers nobody asked for, unknown or broken sequences."""
        return self._framer.dropped + self._translator.dropped + self._translator.errors

    # Output

    def write(self, data: str) -> None:
        """Hand `data` to the terminal; returns at once."""
        if self._writer is not None:
            self._writer.write(data)

    def tell_when_drained(self) -> None:
        """Ask for one call of `on_drained`."""
        if self._writer is not None:
            self._writer.tell_when_drained()

    def _drained(self, lost: bool) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is gone
            self._loop.call_soon_threadsafe(self.on_drained, lost)

    def _terminal_gone(self) -> None:
        if self._leaving is not None:
            self._leaving.now()

    def _get_terminal_size(self) -> tuple[int, int]:
        """Columns and rows, as the terminal says."""
        try:
            width, height = os.get_terminal_size(self._out)
        except OSError:
            width, height = 0, 0
        return width or 80, height or 24

    # Beginning and end

    def start_application_mode(self) -> None:
        """Take the terminal over."""
        if not self._in_foreground():
            return
        sys.setswitchinterval(0.0005)  # a danger key waits for the interpreter lock no longer than this
        loop = asyncio.get_running_loop()

        def announce_size(*_: object) -> None:
            size = Size(*self._get_terminal_size())
            self.send_message(events.Resize(size, size))

        signal.signal(signal.SIGWINCH, lambda *_: None if self._in_band_window_resize else announce_size())
        self._loop = loop
        self._writer = Writer(self._out, self._drained, self._terminal_gone)
        self._writer.start()
        announce_size()
        self._raw()
        apple = os.environ.get("TERM_PROGRAM") == "Apple_Terminal"  # prints the question instead of answering it
        self.write(
            _START
            + (_MOUSE if self._mouse else "")
            + ("" if constants.DISABLE_KITTY_KEY else _KITTY)
            + ("" if apple else _ASK)
        )
        self.exit_event.clear()
        self._key_thread = threading.Thread(target=self.run_input_thread, name="input", daemon=True)
        self._key_thread.start()
        if self._must_signal_resume:
            self._must_signal_resume = False
            self.send_message(self.SignalResume())

    def _in_foreground(self) -> bool:
        """Whether the terminal is ours now; a process sent to the background goes back to sleep."""

        def sleep_again(*_: object) -> None:
            os.kill(os.getpid(), signal.SIGSTOP)

        before = [(number, signal.signal(number, sleep_again)) for number in (signal.SIGTTOU, signal.SIGTTIN)]
        try:
            termios.tcsetattr(self.fileno, termios.TCSANOW, termios.tcgetattr(self.fileno))
        except termios.error:
            return False
        finally:
            for number, handler in before:
                signal.signal(number, handler)
        return True

    def _raw(self) -> None:
        with contextlib.suppress(termios.error):
            self.attrs_before = termios.tcgetattr(self.fileno)
            attrs = termios.tcgetattr(self.fileno)
            attrs[tty.LFLAG] = self._patch_lflag(attrs[tty.LFLAG])
            attrs[tty.IFLAG] = self._patch_iflag(attrs[tty.IFLAG])
            attrs[tty.CC][termios.VMIN] = 1
            termios.tcsetattr(self.fileno, termios.TCSANOW, attrs)

    def disable_input(self) -> None:
        """End the input thread; what came in and was not read is thrown away."""
        signal.signal(signal.SIGWINCH, signal.SIG_DFL)
        thread, self._key_thread = self._key_thread, None
        if thread is not None:
            self.exit_event.set()
            os.write(self._wake_write, b"x")
            thread.join()

    def stop_application_mode(self) -> None:
        """Give the terminal back."""
        self.disable_input()
        self.restore()

    def restore(self) -> None:
        """Give the terminal back, from any thread, within `RESTORE_LIMIT_S`; twice is the same as once."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.finish(_RESTORE, RESTORE_LIMIT_S)
        attrs, self.attrs_before = self.attrs_before, None
        if attrs is not None:
            with contextlib.suppress(termios.error):
                termios.tcflush(self.fileno, termios.TCIFLUSH)
                termios.tcsetattr(self.fileno, termios.TCSANOW, attrs)

    def close(self) -> None:
        """Nothing is left to do after `restore`."""
        self.restore()

    # Input

    def run_input_thread(self) -> None:
        """Read until told to end, or until the terminal is gone."""
        poll = select.poll()
        poll.register(self.fileno, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        while not self.exit_event.is_set():
            wait = self._framer.wait(time.monotonic())
            ready = dict(poll.poll(None if wait is None else max(0.0, wait) * 1000 + 1))
            if self._wake_read in ready:
                os.read(self._wake_read, 64)
                continue
            data = b""
            if self.fileno in ready:
                try:
                    data = os.read(self.fileno, 4096)
                except BlockingIOError:
                    continue
                except OSError:
                    data = b""
                if not data:
                    self._terminal_gone()
                    return
            try:
                self._take(data)
            except Exception as error:  # noqa: BLE001 — whatever came in, the danger keys must go on working
                log.error("input was dropped\n%s", crash_text(error))

    def _take(self, data: bytes) -> None:
        """Deliver what is complete with `data`: one read, or none when only time has passed."""
        now = time.monotonic()
        dropped = self._framer.dropped
        pieces = self._framer.feed(data, now) if data else self._framer.tick(now)
        foreign = [piece for piece in pieces if not from_hand(piece)]
        burst = self._framer.dropped > dropped or now - self._foreign_at < BURST_S
        others = self._framer.dropped > dropped
        for piece in pieces:
            alone = not burst and all(other == piece for other in foreign)
            caught = self._deliver(piece, alone)
            others = others or not (caught or from_hand(piece))
        if others:
            self._foreign_at = now

    def _deliver(self, piece: Piece, alone: bool) -> bool:
        """Act on `piece` or post what it means; whether it was a danger key."""
        danger = self._app.danger if isinstance(self._app, GatedApp) else None
        caught = False
        for event in self._translator.events(piece):
            pressed = danger.press(event.key, alone) if danger and isinstance(event, events.Key) else None
            if pressed is not None and not pressed.taken:
                self.write("\a")
            self._post(pressed or event)
            caught = caught or pressed is not None
        return caught

    def _post(self, message: Message) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is gone
            self.process_message(message)


class GatedApp(App[ReturnType]):
    """An app behind `Terminal`: it paints only what is harmless, only when the terminal reads, and leaves in order."""

    def __init__(self, danger: Danger | None = None, *, log_path: Path | None = None, **options: Any) -> None:
        options.setdefault("driver_class", Terminal)
        super().__init__(**options)
        self.danger = danger
        self.log_path = log_path
        """Where more is written about a crash; only its name is used here."""
        self._gate = Gate()
        self._holding = False
        self._missed = False

    def drain(self, reason: str, deadline: float) -> None:
        """Finish or record every open act; for the app to override.

        Called once, in a thread of its own, when the process must go: a signal, or the terminal is gone. The event loop
        may be blocked. `deadline` is `time.monotonic()`; the process ends when this returns, or then.
        """

    def frame_shown(self) -> None:
        """Called in the event loop when the frame painted last has left for the terminal; for the app to override."""

    def leave(self, reason: str, deadline: float) -> None:
        """Take no more keys, then `drain`."""
        if self.danger is not None:
            self.danger.closed = f"andon is leaving: {reason}"
        self.drain(reason, deadline)

    # Painting

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's filters, and the gate as the last."""
        return [*super().get_line_filters(), self._gate]

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        """Paint; then hold further frames until the terminal has taken this one."""
        if self._holding:
            self._missed = self._missed or renderable is not None
            return
        super()._display(screen, renderable)
        if renderable is None or self._batch_count:
            return
        driver = self._driver
        if not isinstance(driver, Terminal):
            self.frame_shown()
            return
        self._holding = True
        self._begin_batch()
        driver.on_drained = self._go_on
        driver.tell_when_drained()

    def _go_on(self, lost: bool) -> None:
        """The terminal has taken everything: paint again, all of it if a frame was lost or left out."""
        if self._holding:
            self._holding = False
            self._batch_count -= 1
        if not self._running or not self._screen_stack:
            return
        if lost or self._missed:
            self._missed = False
            self.screen.refresh()
        else:
            self.frame_shown()
        self.screen.check_idle()

    async def on_event(self, event: events.Event) -> None:
        """A danger key that comes as an event (a test, a macro) takes the same way, and no binding sees it."""
        if isinstance(event, events.Key) and self.danger is not None and not event.is_forwarded:
            pressed = self.danger.press(event.key)
            if pressed is not None:
                if not pressed.taken:
                    self.bell()
                self.post_message(pressed)
                return
        await super().on_event(event)

    # Ending

    def _fatal_error(self) -> None:
        """Leave after an error nobody caught: one line for the person, the rest to the log, no values anywhere."""
        error = self._exception or sys.exc_info()[1]
        if error is not None:
            log.critical("the room broke\n%s", crash_text(error))
            self._exit_renderables.append(crash_words(_root(error), self.log_path))
        self._close_messages_no_wait()

    def panic(self, *renderables: RenderableType) -> None:
        """Leave and print `renderables` as harmless plain text."""
        self._exit_renderables.extend(renderables)
        self._close_messages_no_wait()

    def _print_error_renderables(self) -> None:
        """Print what the app says at its end, gated, without waiting for a terminal that does not read."""
        lines = [_plain(renderable) for renderable in self._exit_renderables]
        self._exit_renderables.clear()
        if lines and sys.__stderr__ is not None:
            say(sys.__stderr__.fileno(), "\n".join(dict.fromkeys(lines)) + "\n")


def _root(error: BaseException) -> BaseException:
    """The error behind a worker's."""
    return getattr(error, "error", None) or error


def _plain(renderable: RenderableType) -> str:
    """`renderable` as gated text without styles."""
    if isinstance(renderable, str):
        return gate(renderable)
    console = Console(width=100, color_system=None, markup=False, highlight=False, emoji=False)
    segments = console.render(renderable, console.options)
    return gate("".join(text for text, _, control in segments if not control)).rstrip("\n")
