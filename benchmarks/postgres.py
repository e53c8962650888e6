"""How fast the ledger of a team is: `ANDON_LEDGER=postgresql://… python -m benchmarks.postgres`, over a database of its own.

Prints the time of an act's commit, of 1,000 observations committed together, and from a commit to another keeper's board.
What it writes stays there, as everything in a ledger does: give it a database that may be dropped.
"""

import math
import os
import statistics
import sys
import threading
import time
from collections.abc import Sequence

from adapters.postgres import PostgresLedger
from andon.board import Board
from andon.clock import WallClock
from andon.events import ActAsked, ActStepped, Event, RunSeen
from andon.keeper import Keeper
from andon.model import Act, Run

ACTS, OBSERVATIONS, SEEN = 200, 1000, 50


def _act(id_: str) -> ActAsked:
    now = time.time()
    made = Act(
        id=id_,
        kind="halt",
        line="checkout",
        target="ci/deploys",
        subject=id_,
        who="ann",
        why="measured",
        at=now,
        not_before=now,
        not_after=now + 300,
    )
    return ActAsked(line="checkout", at=now, act=made)


def commits(ledger: PostgresLedger) -> list[float]:
    """Milliseconds of each commit of an act, and of its step."""
    took = []
    for number in range(ACTS):
        asked = _act(f"bench-{time.time_ns()}-{number}")
        for event in (asked, ActStepped(line="checkout", at=asked.at, act=asked.act.id, was="intent", now="sent")):
            began = time.perf_counter()
            ledger.commit(event)
            took.append((time.perf_counter() - began) * 1000)
    return took


def together(ledger: PostgresLedger) -> float:
    """Milliseconds of one commit of many observations."""
    now = time.time()
    runs = [RunSeen("checkout", now, "ci", Run(f"r{n}", f"{n:040x}", "running", at=now)) for n in range(OBSERVATIONS)]
    began = time.perf_counter()
    ledger.commit(*runs)
    return (time.perf_counter() - began) * 1000


def seen(address: str) -> list[float]:
    """Milliseconds from the call that commits to the board of another keeper."""
    clock, arrived, took = WallClock(), threading.Event(), []
    near, far = (Keeper(lambda: PostgresLedger(address, clock), clock).start() for _ in range(2))

    def heard(events: Sequence[tuple[int, Event]], board: Board) -> None:
        arrived.set()

    try:
        far.listen(heard)
        for number in range(SEEN):
            event = _act(f"seen-{time.time_ns()}-{number}")
            began = time.perf_counter()
            near.submit(lambda ledger, event=event: ledger.commit(event), writes=True).result(20)
            arrived.wait(20)
            took.append((time.perf_counter() - began) * 1000)
            arrived.clear()
    finally:
        near.close()
        far.close()
    return took


def _line(name: str, values: list[float]) -> str:
    ordered = sorted(values)
    most = ordered[math.ceil(0.99 * len(ordered)) - 1]
    return f"{name:<40} {statistics.median(ordered):8.1f} ms median {most:8.1f} ms p99  n={len(ordered)}"


def main() -> int:
    """The program."""
    address = os.environ.get("ANDON_LEDGER", "")
    if "://" not in address:
        print("ANDON_LEDGER holds no address of a database to measure with", file=sys.stderr)
        return 2
    ledger = PostgresLedger(address, WallClock())
    try:
        print(_line("an act's commit", commits(ledger)))
        print(_line(f"{OBSERVATIONS} observations in one commit", [together(ledger) for _ in range(5)]))
    finally:
        ledger.close()
    print(_line("commit to seen by another keeper", seen(address)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
