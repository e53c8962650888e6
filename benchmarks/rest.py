"""What the room takes while it stands there: memory over the demo, bytes and processor time where nothing happens."""

import contextlib
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from benchmarks import hello
from benchmarks.measure import ANDON, ROOT, Row, environment, forth_and_back, row
from benchmarks.quiet_shop import QuietShop
from benchmarks.terminal import Session

WATCHED_S, IDLE_S, SETTLED_S = 60.0, 20.0, 5.0

HELLO = [sys.executable, str(ROOT / "benchmarks" / "hello.py")]


def memory(rounds: int = 1) -> list[Row]:
    """The most memory that was resident in a minute: the room over the demo, over a hello-world beside it."""
    peak = defaultdict[str, list[float | None]](list)
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            env = environment(Path(name))
            sessions = {"hello": Session(HELLO, env), "demo": Session([ANDON, "demo"], env)}
            with contextlib.ExitStack() as stack:
                for session in sessions.values():
                    stack.enter_context(session)
                sessions["hello"].wait_for(lambda text: hello.READY.encode() in text, "hello")
                sessions["demo"].wait_for(lambda text: b"F9" in text, "the room")
                time.sleep(WATCHED_S)
                for case, session in sessions.items():
                    peak[case].append(session.peak_mib())
    return [
        row("memory", "hello", "MiB", peak["hello"]),
        row("memory", "demo", "MiB", peak["demo"], base=("hello", peak["hello"]), note=f"after {WATCHED_S:g} s"),
    ]


def idle(rounds: int = 1) -> list[Row]:
    """Bytes to the terminal and processor time in 20 s in which nothing happens; a hello-world in the same run."""
    sent, used = (defaultdict[str, list[float | None]](list) for _ in range(2))
    for case in forth_and_back(["hello", "room"], rounds):
        with tempfile.TemporaryDirectory() as name, QuietShop(Path(name)) as shop:
            wanted = hello.READY.encode() if case == "hello" else b"1 line runs"
            with Session(HELLO, shop.env) if case == "hello" else shop.room() as session:
                session.wait_for_all([wanted], session.began)
                time.sleep(SETTLED_S)
                began, bytes_before, cpu_before = time.monotonic(), session.total, session.cpu_s()
                time.sleep(IDLE_S)
                took = time.monotonic() - began
                sent[case].append((session.total - bytes_before) * 60 / took)
                used[case].append((session.cpu_s() - cpu_before) * 100 / took)
    note = "one line over a CI that answers; its engine polls and holds the lease"
    return [
        row("idle", "hello: to the terminal", "B/min", sent["hello"]),
        row("idle", "room: to the terminal", "B/min", sent["room"], base=("hello", sent["hello"])),
        row("idle", "hello: CPU", "% of a core", used["hello"]),
        row("idle", "room: CPU", "% of a core", used["room"], base=("hello", used["hello"]), note=note),
    ]
