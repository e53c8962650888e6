"""Programs that the tests start: found again by the pid they wrote, waited for by what they answer, ended one by one.

Each runs in a session of its own, with its output in `NAME.log` and its pid in `NAME.pid` of its folder, so that a
world that was started by hand can be stopped by another process. Nothing is ended but a pid written here whose start
time still fits.
"""

import contextlib
import os
import random
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_STARTED: dict[int, subprocess.Popen[bytes]] = {}
"""Our own children, which must be waited for."""

_TAKEN: set[int] = set()


class NotReady(Exception):
    """Something did not come to be in time; the words say what, with the end of the log."""


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on, below those the kernel gives to connections that go out."""
    for _ in range(200):
        port = random.randrange(12000, 32000)
        if port in _TAKEN:
            continue
        with socket.socket() as probe:
            # A server sets it too: a port of which old connections still linger is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _TAKEN.add(port)
        return port
    raise NotReady("no free port on 127.0.0.1")


def until(look: Callable[[], T], within_s: float = 20.0, what: str = "") -> T:
    """The first true value that `look` returns, asked again and again. Raises NotReady after `within_s` seconds.

    A connection that is refused or an answer that is cut short counts as not yet.
    """
    pause, end = threading.Event(), time.monotonic() + within_s
    last: object = None
    while True:
        try:
            found = look()
            if found:
                return found
            last = found
        except (OSError, EOFError, ValueError, KeyError, IndexError) as error:
            last = error
        if time.monotonic() > end:
            raise NotReady(f"not within {within_s:g} s: {what or look}; last: {last!r}")
        pause.wait(0.05)


def answers(url: str) -> bool:
    """Whether a GET of `url` is answered with 200; the whole answer is heard."""
    with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(url, timeout=2) as answer:
        answer.read()
        return bool(answer.status == 200)
    return False


class Program:
    """One server program in `folder`, known by `name`; the same object, or a later one, can stop it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.log = folder / f"{name}.log"
        self._pid = folder / f"{name}.pid"

    @property
    def pid(self) -> int | None:
        """Its process, None if it does not run."""
        try:
            pid, began = self._pid.read_text().split()
        except (OSError, ValueError):
            return None
        child = _STARTED.get(int(pid))
        if child is not None and child.poll() is not None:
            return None
        return int(pid) if _began(int(pid)) == began else None

    def start(self, command: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
        """Start it, unless it runs. Nothing of the tests' own environment but PATH and HOME reaches it."""
        if self.pid is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        clean = {key: os.environ[key] for key in ("PATH", "HOME", "USER", "LANG", "TMPDIR") if key in os.environ}
        with self.log.open("ab") as out:
            child = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**clean, **(env or {})},
                cwd=cwd or self.folder,
                start_new_session=True,
            )
        _STARTED[child.pid] = child
        self._pid.write_text(f"{child.pid} {_began(child.pid)}")

    def ready(self, look: Callable[[], object], within_s: float = 20.0) -> None:
        """Wait until `look` is true. Raises NotReady with the end of its log, at once if it has died."""
        began = time.monotonic()

        def alive_and_ready() -> bool:
            if self.pid is None:
                raise NotReady(f"{self.name} ended after {time.monotonic() - began:.1f} s\n{self.tail()}")
            return bool(look())

        try:
            until(alive_and_ready, within_s, f"{self.name} ready")
        except NotReady as error:
            raise NotReady(f"{error}\n{self.tail()}") from None

    def signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop(self, within_s: float = 10.0) -> None:
        """End it: SIGTERM, and SIGKILL after `within_s` seconds."""
        self.signal(signal.SIGTERM)
        try:
            until(lambda: self.pid is None, within_s, f"{self.name} ended")
        except NotReady:
            self.kill()
        self._forget()

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        self.signal(signal.SIGKILL)
        until(lambda: self.pid is None, 10, f"{self.name} killed")
        self._forget()

    def tail(self, signs: int = 3000) -> str:
        """The end of its log."""
        with contextlib.suppress(OSError):
            return self.log.read_bytes()[-signs:].decode("utf-8", "replace")
        return ""

    def _forget(self) -> None:
        self._pid.unlink(missing_ok=True)


def _began(pid: int) -> str:
    """When the process began, in the kernel's ticks: tells it from a later one with the same pid. Empty: it is gone."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "" if Path("/proc/self").exists() else _alive(pid)
    return "" if after_name[0] == "Z" else after_name[19]


def _alive(pid: int) -> str:
    """Where there is no /proc."""
    try:
        os.kill(pid, 0)
    except OSError:
        return ""
    return "alive"
