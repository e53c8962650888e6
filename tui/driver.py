"""The driver between the terminal and the event loop, where danger keys are caught and hostile input ends.

Three threads beside the event loop: *input* reads and acts on danger keys, *screen-out* writes, *leaving* waits for a
signal or the end of the terminal. None of them waits for the event loop, and none but screen-out for the terminal. It
stands on private parts of Textual's driver: the minor version is pinned, and each part has a canary test.
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
from collections.abc import Callable
from typing import Any

from textual import constants, events
from textual.app import App
from textual.drivers.linux_driver import LinuxDriver
from textual.geometry import Size
from textual.message import Message

from tui.danger import Danger
from tui.keys_in import Framer, Piece, Translator, from_hand
from tui.leaving import RESTORE_LIMIT_S, Leaving, crash_text, log_task_error
from tui.screen_out import Writer

BURST_S = 0.05
"""A key within so many seconds after another is part of a burst no hand types: F4 and F8 are refused in it."""
LATE_S = 0.5
"""Seconds that the input thread may be kept from reading: what came meanwhile counts as come in time."""
WAITING_LIMIT = 200
"""Messages that may wait for the event loop. What comes then no hand has asked for; only danger keys are still taken."""
TAKE_LIMIT_S = 1.0
"""Seconds that keys pressed before a signal to leave get to be read."""
ARRIVE_MS = 30
"""What was typed just before the signal may still be on its way through the kernel."""

# Neither reports of the focus nor sizes by report are asked for: a stray one would take a text field its keys, or draw
# the room in a size that the terminal has not.
_START = "\x1b[?1049h\x1b[?25l\x1b[?2004h\x1b[?7l"
_MOUSE = "\x1b[?1000h\x1b[?1003h\x1b[?1015h\x1b[?1006h"
_KITTY = "\x1b[>25u"  # disambiguate, report all keys, with their text
_ASK = "\x1b[?2026$p"  # synchronised output: does the terminal know it
_RESTORE = (
    "\x1b[?2026l\x1b[?2004l\x1b[?7h\x1b[?2048l\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[?1016l\x1b[?1004l"
    "\x1b[<u\x1b[0m\x1b[?1049l\x1b[?25h"
)

log = logging.getLogger("andon.room")


class Terminal(LinuxDriver):
    """Textual's driver for Unix terminals, with andon's input, output and ways to leave.

    Of the app it takes two attributes, both optional: `danger`, a `Danger`, and `leave(reason, deadline)`, called in a
    thread when the process must go (`terminal.GatedApp` has both).
    """

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
        self._was_foreign = False
        self._overrun = 0
        self._posted = self._arrived = 0
        self.on_drained: Callable[[bool], None] = lambda _lost: None
        """Called in the event loop when nothing waits for the terminal any more; the flag: something was lost."""
        self._leaving: Leaving | None = None
        self._taking = False
        leave = getattr(app, "leave", None)
        if leave is not None and threading.current_thread() is threading.main_thread():

            def leave_in_order(reason: str, deadline: float) -> None:
                self._take_what_came()
                leave(reason, deadline)

            self._leaving = Leaving(leave_in_order, self.restore)
            self._leaving.watch()

    @property
    def pending(self) -> int:
        """Bytes the terminal has not taken yet. While it is not 0 no new frame is painted."""
        return self._writer.pending if self._writer else 0

    @property
    def dropped(self) -> int:
        """Pieces of input that were dropped: answers nobody asked for, broken sequences, more than can be dealt with."""
        return self._framer.dropped + self._translator.dropped + self._translator.errors + self._overrun

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

        signal.signal(signal.SIGWINCH, announce_size)
        self._loop = loop
        self._writer = Writer(self._out, self._drained, self._terminal_gone)
        self._writer.start()
        loop.set_exception_handler(log_task_error)
        loop.call_soon(self.on_drained, True)  # what waited for an earlier writer waits no more
        announce_size()
        self._raw()
        apple = os.environ.get("TERM_PROGRAM") == "Apple_Terminal"  # prints the question instead of answering it
        self.write(
            _START
            + (_MOUSE if self._mouse else "")
            + ("" if constants.DISABLE_KITTY_KEY else _KITTY)
            + ("" if apple else _ASK)
            + (_MOUSE if self._mouse else "")  # again: iTerm 3.5 forgets it over the questions
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

    def _take_what_came(self) -> None:
        """Wait until the input thread has taken what the terminal sent so far: a key pressed first comes first."""
        poll = select.poll()
        poll.register(self.fileno, select.POLLIN)
        deadline = time.monotonic() + TAKE_LIMIT_S
        while (thread := self._key_thread) is not None and thread.is_alive() and time.monotonic() < deadline:
            # In this order: what was read is being taken from before it stopped being readable.
            if not poll.poll(ARRIVE_MS) and not self._taking:
                return
            time.sleep(0.005)

    def run_input_thread(self) -> None:
        """Read until told to end, or until the terminal is gone."""
        poll = select.poll()
        poll.register(self.fileno, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        while not self.exit_event.is_set():
            self._taking = False
            began = time.monotonic()
            wait = self._framer.wait(began)
            at_once = poll.poll(0)
            ready = dict(at_once or poll.poll(None if wait is None else max(0.0, wait) * 1000 + 1))
            if self._wake_read in ready:
                os.read(self._wake_read, 64)
                continue
            data = b""
            if self.fileno in ready:
                self._taking = True
                try:
                    data = os.read(self.fileno, 4096)
                except BlockingIOError:
                    continue
                except OSError:
                    data = b""
                if not data:
                    self._terminal_gone()
                    return
            now = time.monotonic()
            if data and wait is not None and 0.0 <= now - (began + wait) < LATE_S:
                now = began + wait - 0.001  # nobody looked in time: it may have come in time
            try:
                self._take(data, now, bool(at_once))
            except Exception as error:  # noqa: BLE001 — whatever came in, the danger keys must go on working
                log.error("input was dropped\n%s", crash_text(error))

    def _take(self, data: bytes, now: float, at_once: bool) -> None:
        """Deliver what is complete with `data`: one read, or none when only time has passed.

        `at_once` says that it was there when the read before was dealt with: it may have come together with that.
        """
        dropped = self._framer.dropped
        pieces = self._framer.feed(data, now) if data else self._framer.tick(now)
        foreign = [piece for piece in pieces if not from_hand(piece)]
        follows = at_once and self._was_foreign
        others = self._framer.dropped > dropped or bool(self._framer.loose)
        burst = others or follows or time.monotonic() - self._foreign_at < BURST_S
        for piece in pieces:
            if from_hand(piece) and (burst or foreign):
                continue  # a click is as good as a danger key
            alone = not burst and all(other == piece for other in foreign)
            caught = self._deliver(piece, alone)
            others = others or not (caught or from_hand(piece))
        self._was_foreign = others or follows
        if others:
            self._foreign_at = time.monotonic()

    def _deliver(self, piece: Piece, alone: bool) -> bool:
        """Act on `piece` or post what it means; whether it was a danger key."""
        if self._behind() and (from_hand(piece) or (piece.kind == "key" and piece.text >= " ")):
            self._overrun += 1  # not even looked up: neither can be a danger key
            return False
        danger: Danger | None = getattr(self._app, "danger", None)
        caught = False
        for event in self._translator.events(piece):
            pressed = danger.press(event.key, alone) if danger and isinstance(event, events.Key) else None
            if pressed is not None and not pressed.taken:
                self.write("\a")
            self._post(pressed or event)
            caught = caught or pressed is not None
        return caught

    def _post(self, message: Message) -> None:
        if self._behind() and not isinstance(message, Danger.Pressed):
            self._overrun += 1
            return
        self._posted += 1
        with contextlib.suppress(RuntimeError):  # the event loop is gone
            self.process_message(message)
            self._loop.call_soon_threadsafe(self._arrive, self._posted)

    def _behind(self) -> bool:
        return self._posted - self._arrived + self._app.message_queue_size > WAITING_LIMIT

    def _arrive(self, posted: int) -> None:
        """In the event loop: so many messages have come as far as its queue."""
        self._arrived = posted
