"""What tests of the ledger's side use: literal events of one shop, a clock set by hand, programs in other processes."""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from andon.events import ActAsked, ActStepped, HoldLifted, HoldPlaced, SourceSeen
from andon.model import Act, Hold

ROOT = Path(__file__).parents[1]
SHOP = "shop"

Start = Callable[..., "subprocess.Popen[str]"]


class HandClock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


def act(id_: str = "a1", **more: Any) -> Act:
    values = {"id": id_, "kind": "halt", "line": SHOP, "target": "ci", "subject": "stop", "who": "ann", "why": "[/]"}
    return Act(**({"at": 1.0, "not_before": 1.0, "not_after": 9.0} | values | more))


def asked(id_: str = "a1", **more: Any) -> ActAsked:
    made = act(id_, **more)
    return ActAsked(line=made.line, at=1.0, act=made)


def step(id_: str, was: str, now: str, at: float = 2.0, **more: Any) -> ActStepped:
    return ActStepped(**({"line": SHOP, "at": at, "act": id_, "was": was, "now": now} | more))


def placed(id_: str, owner: str = "ann", line: str = SHOP, at: float = 1.0) -> HoldPlaced:
    return HoldPlaced(line=line, at=at, hold=Hold(id=id_, line=line, owner=owner, why="\x1b[c", since=at, stop=id_))


def lifted(id_: str, line: str = SHOP, at: float = 2.0) -> HoldLifted:
    return HoldLifted(line=line, at=at, hold=id_, who="bo", why="mended")


def seen(words: str = "", at: float = 1.0) -> SourceSeen:
    return SourceSeen(line=SHOP, at=at, source="gh", state="ok", words=words)


@contextlib.contextmanager
def programs() -> Iterator[Start]:
    """Starts Python programs in processes of their own, with pipes; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(program: str, *words: object) -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        command = [sys.executable, "-u", "-c", program, *map(str, words)]
        started.append(subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True, bufsize=1))
        return started[-1]

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.communicate()
