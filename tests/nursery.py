"""Starts rooms in processes of their own, cheaply: one program has everything imported and forks a room for each job.

As a program it reads lines: `run JSON` forks a room and answers its pid; `wait PID LIMIT` answers `exit CODE`, `stopped`,
or `late` after so many seconds. When its input ends it kills what still runs.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from tests.crash_child import ROOT, Job, play


class Room:
    """A process that plays a job."""

    def __init__(self, ask: Callable[[str], str], job: Job) -> None:
        self._ask = ask
        self.pid = int(ask(f"run {msgspec.json.encode(job).decode()}"))

    def wait(self, limit_s: float = 60.0) -> str:
        """`exit CODE` (a negative one: ended by that signal) or `stopped`; AssertionError after `limit_s` seconds."""
        found = self._ask(f"wait {self.pid} {limit_s}")
        assert found != "late", f"the room neither ended nor stopped within {limit_s:g} s"
        return found

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


@contextmanager
def nursery() -> Iterator[Callable[[Job], Room]]:
    """What starts rooms; whatever still runs at the end is killed."""
    pipe = subprocess.PIPE
    program = subprocess.Popen([sys.executable, "-m", "tests.nursery"], cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
    assert program.stdin is not None
    assert program.stdout is not None
    out, into = program.stdin, program.stdout

    def ask(line: str) -> str:
        out.write(f"{line}\n")
        out.flush()
        return into.readline().strip()

    try:
        yield lambda job: Room(ask, job)
    finally:
        out.close()
        program.wait(30)
        into.close()


def _run(job: Job) -> int:
    """Fork a room."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        play(job)
        code = 0
    except BaseException as error:  # whatever it is, this process must not go on as the nursery
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        os._exit(code)


def _wait(pid: int, limit_s: float, alive: set[int]) -> str:
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
        if found and os.WIFSTOPPED(status):
            return "stopped"
        if found:
            alive.discard(pid)
            return f"exit {os.waitstatus_to_exitcode(status)}"
        time.sleep(0.002)
    return "late"


def main() -> None:
    """The program."""
    alive: set[int] = set()
    try:
        for line in sys.stdin:
            word, _, rest = line.strip().partition(" ")
            if word == "run":
                pid = _run(msgspec.json.decode(rest, type=Job))
                alive.add(pid)
                print(pid, flush=True)
            else:
                number, limit_s = rest.split()
                print(_wait(int(number), float(limit_s), alive), flush=True)
    finally:
        for pid in alive:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
