"""Leaving for good: signals, a terminal that is gone, and crashes.

Whatever ends the room, what was begun is finished or recorded first, the terminal is given back as it was, and the exit
code is honest. `Leaving` has a thread of its own, so that neither a blocked event loop nor a terminal that stopped
reading can keep the program alive. Nothing that is printed or logged here holds local variables or secrets.
"""

import asyncio
import contextlib
import ctypes
import logging
import os
import re
import resource
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from andon.hiding import hide
from andon.text import clean, gate

DRAIN_LIMIT_S = 20.0
"""Seconds that acts get to end or to be recorded, before the process goes all the same."""
RESTORE_LIMIT_S = 0.5
"""Seconds that the terminal gets to take the restoring sequence."""
ENDING_LIMIT_S = 2.0
"""Seconds that what must not stay behind gets, after the drain."""

HANG_UP = signal.SIGHUP
_WATCHED = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
_REASONS = {
    signal.SIGTERM: "told to end (SIGTERM)",
    signal.SIGHUP: "the terminal is gone",
    signal.SIGINT: "interrupted (SIGINT)",
    signal.SIGQUIT: "told to quit (SIGQUIT)",
}

log = logging.getLogger("andon.room")

_endings: list[Callable[[], object]] = []


@contextlib.contextmanager
def at_the_end(work: Callable[[], object]) -> Iterator[None]:
    """Do `work` when the block ends, however it ends: a signal that ends the process counts, SIGKILL does not.

    It may then be done in another thread, and twice.
    """
    _endings.append(work)
    try:
        yield
    finally:
        try:
            work()
        finally:
            _endings.remove(work)


def end_in_order() -> None:
    """Until a `Leaving` takes the signals over, let each end the main thread by SystemExit: `finally` does the rest."""
    for number in _WATCHED:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, and a shell's background, have said what they want
            signal.signal(number, _exit_now)


def _exit_now(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


class Leaving(threading.Thread):
    """Waits for a reason to leave at once, and leaves: drain, restore, clean up, `os._exit(128 + signal)`."""

    def __init__(
        self,
        drain: Callable[[str, float], None],
        restore: Callable[[], None],
        drain_limit_s: float = DRAIN_LIMIT_S,
        leave: Callable[[int], None] = os._exit,
    ) -> None:
        """Prepare; `watch` begins.

        `drain(reason, deadline)` is called once, in a thread of its own, and returns when every act has ended or is
        recorded; `deadline` is `time.monotonic()` at which nobody waits for it any more. `restore()` gives the terminal
        back and takes at most `RESTORE_LIMIT_S`.
        """
        super().__init__(name="leaving", daemon=True)
        self._drain = drain
        self._restore = restore
        self._limit_s = drain_limit_s
        self._leave = leave
        self._read, self._write = os.pipe()
        for end in (self._read, self._write):
            os.set_blocking(end, False)

    def watch(self) -> None:
        """Take the signals over until the process ends, also where they were ignored. In the main thread only.

        The number goes from the signal straight into a pipe, so that a main thread busy in one long call is no
        obstacle. Another `signal.set_wakeup_fd` (`loop.add_signal_handler` does it) takes that way away.
        """
        self.start()
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in _WATCHED:
            signal.signal(number, self._on_signal)

    def now(self, number: int = HANG_UP) -> None:
        """Leave as if signal `number` had come. From any thread; returns at once."""
        with contextlib.suppress(OSError):  # full: a reason is there already
            os.write(self._write, bytes([number]))

    def run(self) -> None:
        """Wait for the first reason, then leave. Never returns to anybody."""
        number = self._wait()
        reason = _REASONS[signal.Signals(number)]
        log.info("leaving: %s", reason)
        draining = threading.Thread(target=self._drain_once, args=(reason,), name="draining", daemon=True)
        draining.start()
        draining.join(self._limit_s)
        if draining.is_alive():
            log.error("leaving: not everything ended within %.0f s", self._limit_s)
        try:
            self._restore()
            self._end()
        finally:
            self._leave(128 + number)

    def _end(self) -> None:
        """Do what `at_the_end` was told, the newest first, for as long as it may take."""
        ending = threading.Thread(target=_do_endings, name="ending", daemon=True)
        ending.start()
        ending.join(ENDING_LIMIT_S)

    def _drain_once(self, reason: str) -> None:
        try:
            self._drain(reason, time.monotonic() + self._limit_s)
        except Exception as error:  # noqa: BLE001 — whatever fails there, the process must still go
            log.error("leaving: draining failed\n%s", crash_text(error))

    def _wait(self) -> int:
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        while True:
            poll.poll()
            for number in os.read(self._read, 64):
                if number in _WATCHED:
                    return number

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.now(number)


def _do_endings() -> None:
    for work in reversed(_endings.copy()):
        try:
            work()
        except Exception as error:  # noqa: BLE001 — one that fails must not keep the others
            log.error("leaving: not cleaned up\n%s", crash_text(error))


def harden_process() -> None:
    """No core dump and, on Linux, no other process of the same user that reads this one's memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        set_dumpable = 4
        ctypes.CDLL(None).prctl(set_dumpable, 0, 0, 0, 0)


def crash_words(error: BaseException, log_path: Path | None = None) -> str:
    """One line for the person in front of the terminal: what broke where, and where more stands. No values."""
    where = ""
    if frames := traceback.extract_tb(error.__traceback__):
        last = frames[-1]
        where = f" in {Path(last.filename).name}:{last.lineno} ({last.name})"
    more = f"; more in {log_path}" if log_path else ""
    return gate(f"andon broke: {type(error).__name__}{where}{more}. Start it again; holds and acts are in the ledger.")


def crash_text(error: BaseException) -> str:
    """A traceback for the log: files, lines, functions and messages; no local variables, nothing that looks secret."""
    parts: list[str] = []
    link: BaseException | None = error
    while link is not None and len(parts) < 8:
        frames = traceback.extract_tb(link.__traceback__)
        parts.append("\n".join(f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames[-30:]))
        parts.append(f"{type(link).__name__}: {masked(_words(link))}")
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return "\n".join(parts)


def _words(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failed:  # noqa: BLE001 — an error that cannot say what it is must not hide where it was
        return f"its words cannot be had: {type(failed).__name__}"


class Harmless(logging.Formatter):
    """Log lines that a terminal can show: one record cannot pass for two, and an error is told without values."""

    def format(self, record: logging.LogRecord) -> str:
        """The record without secrets, gated; what follows its first line is set in."""
        return gate(hide(super().format(record))).replace("\n", "\n  ")

    def formatException(self, ei: Any) -> str:  # noqa: N802 — the name of the standard library
        """Where it was raised and what it says; no values of variables."""
        return crash_text(ei[1]) if ei[1] is not None else ""


_NAMED_SECRET = re.compile(
    r"(?i)\b(bearer|basic|token|secret|password|passwd|api[-_]?key|key|sig|auth\w*)\b(\W{1,4})\S+"
)
_LOGIN = re.compile(r"://[^/\s@]+@")
_LONG_WORD = re.compile(r"[A-Za-z0-9+/_=.~%-]{12,}")


def masked(text: str) -> str:
    """`text` as one clean line in which what looks like a secret is `***`."""
    text = _LOGIN.sub("://***@", clean(hide(text)))
    text = _NAMED_SECRET.sub(r"\1\2***", text)
    return _LONG_WORD.sub(lambda word: "***" if _mixed(word[0]) else word[0], text)


def _mixed(word: str) -> bool:
    return any(char.isdigit() for char in word) and any(char.isalpha() for char in word)


def log_task_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """For `loop.set_exception_handler`: an error in a task nobody awaits goes to the log, without values."""
    error = context.get("exception")
    text = crash_text(error) if isinstance(error, BaseException) else ""
    log.error("%s\n%s", masked(str(context.get("message", ""))), text)


def guard_crashes(log_path: Path | None = None) -> None:
    """Errors nobody catches, in any thread, go to the log without values; of the main thread also one line to stderr."""

    def main_thread(kind: type[BaseException], error: BaseException, _trace: object) -> None:
        if issubclass(kind, KeyboardInterrupt):
            return
        log.critical("not caught\n%s", crash_text(error))
        print(crash_words(error, log_path), file=sys.stderr)

    def other_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            name = args.thread.name if args.thread else "a thread"
            log.critical("not caught in %s\n%s", name, crash_text(args.exc_value))

    def nowhere(args: "sys.UnraisableHookArgs") -> None:
        if args.exc_value is not None:
            log.error("not caught where nothing can be raised\n%s", crash_text(args.exc_value))

    sys.excepthook = main_thread
    threading.excepthook = other_thread
    sys.unraisablehook = nowhere
    logging.captureWarnings(True)
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(Harmless())  # what is logged where no log was opened goes to stderr


def usable() -> str | None:
    """Why the room cannot open in this terminal, in one sentence; None: it can."""
    for stream, name in ((sys.__stdin__, "input"), (sys.__stdout__, "output")):
        if stream is None or stream.closed or not stream.isatty():
            return f"the room needs a terminal, and its {name} is none"
    if os.environ.get("TERM", "") in ("", "dumb"):
        return f"the room cannot draw on this terminal (TERM={os.environ.get('TERM', '')})"
    return None
