"""A program in a pseudo-terminal, and when it wrote what. The terminal answers no questions and may stop reading."""

import contextlib
import fcntl
import os
import pty
import queue
import re
import select
import signal
import struct
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Self

COLUMNS, ROWS = 80, 24
LIMIT_S = 30.0

# What is not text: control sequences, strings (titles), and two-byte escapes.
_CONTROL = re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_].*?(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]", re.DOTALL)


class Session:
    """A program that is started when this is made. Reading begins with `with`: fork first, threads later."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        self.began = time.monotonic()
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
            try:
                os.execve(argv[0], list(argv), dict(env))
            finally:
                os._exit(127)
        self.total = 0
        """Bytes it wrote, as far as they were read."""
        self.text = b""
        """What it wrote, without control sequences."""
        self._out = b""
        self._chunks: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        self._reading = threading.Event()
        self._reading.set()
        self._over = False
        self._cpu_s: float | None = None
        self._reader = threading.Thread(target=self._read, name="terminal", daemon=True)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def type(self, keys: bytes) -> float:
        """Press keys; returns the moment before they were written."""
        at = time.monotonic()
        os.write(self._master, keys)
        return at

    def wait_for(self, look: Callable[[bytes], object], what: str) -> float:
        """The moment at which what was written so far first satisfied `look`. Raises SystemExit, with the text."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            ended = not self._reader.is_alive()
            try:
                at, data = self._chunks.get(timeout=0.0 if ended else 0.1)
            except queue.Empty:
                if ended or time.monotonic() > deadline:
                    why = "it ended before" if ended else f"not within {LIMIT_S:g} s"
                    raise SystemExit(f"{why}: {what}\n{self.text[-2000:].decode(errors='replace')}") from None
                continue
            self._out += data
            self.text = _CONTROL.sub(b"", self._out)
            if look(self.text):
                return at

    def wait_for_all(self, words: Sequence[bytes], since: float) -> float:
        """The moment at which all these words were written; `since`, if they are there already."""

        def shown(text: bytes) -> bool:
            return all(word in text for word in words)

        return since if shown(self.text) else self.wait_for(shown, b", ".join(words).decode())

    def forget(self) -> None:
        """Let go of what was written, so that what is waited for next is new."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._chunks.get_nowait()
        self._out = self.text = b""

    def stall(self, fill: bytes) -> int:
        """Stop reading and press `fill` until the terminal takes no more; returns how many bytes lie in it."""
        self._reading.clear()
        before = -1
        for _ in range(200):
            self.type(fill)
            time.sleep(0.1)
            held = self._waiting()
            if held == before and held > 0:
                return held
            before = held
        raise SystemExit(f"the terminal does not fill: {before} bytes")

    def _waiting(self) -> int:
        found: int = struct.unpack("i", fcntl.ioctl(self._master, termios.FIONREAD, b"\0\0\0\0"))[0]
        return found

    def cpu_s(self) -> float:
        """Processor time it has used, in seconds, in steps of a tick (1/100 s)."""
        with open(f"/proc/{self.pid}/stat", encoding="utf-8") as file:  # noqa: PTH123 - proc
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mib(self) -> float:
        """The most memory it ever had resident, in MiB."""
        with open(f"/proc/{self.pid}/status", encoding="utf-8") as file:  # noqa: PTH123 - proc
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024

    def end(self) -> float:
        """Kill it; returns the seconds of processor time it used. Twice is the same as once."""
        if self._cpu_s is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            _, _, used = os.wait4(self.pid, 0)
            self._cpu_s = used.ru_utime + used.ru_stime
            self._over = True
            self._reading.set()
            if self._reader.is_alive():
                self._reader.join()
            os.close(self._master)
        return self._cpu_s

    def _read(self) -> None:
        poll = select.poll()
        poll.register(self._master, select.POLLIN)
        while not self._over:
            self._reading.wait()
            if not poll.poll(20) or not self._reading.is_set():
                continue
            try:
                data = os.read(self._master, 65536)
            except OSError:  # it has ended, and all it wrote is read
                return
            self._chunks.put((time.monotonic(), data))
            self.total += len(data)
