"""How fast the ledger is: an act's commit while observations pour in, observations appended, events folded, and how soon
another process sees one. `python -m benchmarks.ledger_speed` prints the four beside what they must be.
"""

import asyncio
import gc
import json
import math
import statistics
import tempfile
import time
from pathlib import Path

from adapters.sqlite import SqliteLedger
from andon.board import Board
from andon.clock import WallClock
from andon.events import ActAsked, Event, RunSeen
from andon.keeper import Keeper
from andon.model import Act, Run
from benchmarks import ledgers, month
from benchmarks.measure import environment

A_SECOND, ACTS, OBSERVATIONS, FOLDED = 1000, 200, 20_000, 100_000
LIMITS = {
    "act_commit_p99_ms": 20.0,
    "observations_per_s": 5000.0,
    "seen_by_another_process_ms": 250.0,
    "fold_100000_events_s": 1.0,
}
"""What is promised: at most, and for observations at least."""


def measure() -> dict[str, float]:
    """The four figures, by the names of `LIMITS`; also the medians, and the fold from the file. Takes about 10 s."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seen = [ms for ms in ledgers.seen(folder / "seen.db", environment(folder)) if ms is not None]
        commits = asyncio.run(_acts(folder / "acts.db"))
        return {
            "act_commit_p99_ms": _p99(commits),
            "act_commit_median_ms": statistics.median(commits),
            "observations_per_s": asyncio.run(_appended(folder / "observations.db")),
            "seen_by_another_process_ms": _p99(seen),
            "seen_by_another_process_median_ms": statistics.median(seen),
            **_folded(),
        }


def _observation(number: int) -> RunSeen:
    return RunSeen(
        "checkout", float(number), "bb", Run(f"r{number % 500}", f"{number:040x}", "running", at=float(number))
    )


def _act(number: int) -> ActAsked:
    act = Act(
        id=f"a{number}",
        kind="halt",
        line="checkout",
        target="bb/deploys",
        subject=f"h{number}",
        who="ann",
        why="conversion fell",
        at=1.0,
        not_before=1.0,
        not_after=301.0,
    )
    return ActAsked("checkout", 1.0, act)


async def _acts(path: Path) -> list[float]:
    """Milliseconds of each act's commit, while `A_SECOND` observations a second arrive."""
    clock = WallClock()
    keeper = Keeper(lambda: SqliteLedger(path, clock), clock).start()
    waiting: set[asyncio.Future[Board]] = set()

    async def pour() -> None:
        began, number = time.monotonic(), 0
        while True:
            while number < (time.monotonic() - began) * A_SECOND:
                number += 1
                one = asyncio.ensure_future(keeper.commit(_observation(number)))
                waiting.add(one)
                one.add_done_callback(waiting.discard)
            await asyncio.sleep(0.001)

    pouring = asyncio.create_task(pour())
    took: list[float] = []
    try:
        for number in range(ACTS):
            await asyncio.sleep(0.02)
            began = time.perf_counter()
            await keeper.commit(_act(number), urgent=True)
            took.append((time.perf_counter() - began) * 1000)
    finally:
        pouring.cancel()
        await asyncio.gather(pouring, *waiting, return_exceptions=True)
        keeper.close()
    return took


async def _appended(path: Path) -> float:
    """Observations a second, each a commit of its own that is waited for, as many at once as sources may bring."""
    clock = WallClock()
    keeper = Keeper(lambda: SqliteLedger(path, clock), clock).start()
    numbers = iter(range(OBSERVATIONS))

    async def source() -> None:
        for number in numbers:
            await keeper.commit(_observation(number))

    began = time.perf_counter()
    await asyncio.gather(*(source() for _ in range(200)))
    took = time.perf_counter() - began
    keeper.close()
    return OBSERVATIONS / took


def _folded() -> dict[str, float]:
    """Seconds to fold events of months of four lines, decoded before, in the pieces in which a ledger is read."""
    events: list[Event] = []
    while len(events) < FOLDED:
        events += month.events(time.time(), month.LINES)
    gc.collect()
    gc.freeze()  # the events are made at once only here
    board = Board()
    began, busy = time.perf_counter(), time.process_time()
    for start in range(0, FOLDED, 1000):
        board = board.apply(*events[start : min(start + 1000, FOLDED)])
    took = {"fold_100000_events_s": time.perf_counter() - began, "fold_100000_events_cpu_s": time.process_time() - busy}
    gc.unfreeze()
    return took


def _p99(values: list[float]) -> float:
    return sorted(values)[math.ceil(0.99 * len(values)) - 1]


if __name__ == "__main__":
    print(json.dumps({"measured": measure(), "limits": LIMITS}, indent=1))
