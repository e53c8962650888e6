"""Long runs: what a room and an engine take does not grow. Half an hour at 50 times the clock, and a thousand lines on which
a hundred things happen a second, run at night; a small version of each runs always.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.measure import ANDON, environment
from benchmarks.terminal import Session
from tests.long_run import EVENTS_A_SECOND, LINES, SPEED, taken

ROOT = Path(__file__).parents[1]
POOL, FIRST_FDS = 8, 3
"""Threads of asyncio's pool, and descriptors, that may still be opened in the first seconds, when they are first needed."""

Taken = dict[str, float]


def run(kind: str, folder: Path, seconds: float) -> tuple[list[Taken], dict[str, int]]:
    """What an engine took each second, and the sum."""
    argv = [sys.executable, "-m", "tests.long_run", kind, str(folder), str(seconds)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=seconds + 180, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    *samples, found = (json.loads(line) for line in done.stdout.splitlines())
    return samples, found


def grown(samples: Sequence[Taken], after_s: float, share: float) -> list[str]:
    """What grew between the first and the last quarter of the time after `after_s`; medians, for one sample is nothing."""
    late = [sample for sample in samples if sample["at"] >= after_s]
    quarter = max(1, len(late) // 4)

    def went(key: str) -> tuple[float, float]:
        first, last = late[:quarter], late[-quarter:]
        return statistics.median(item[key] for item in first), statistics.median(item[key] for item in last)

    long = len(late) > 300
    memory, fds, threads = went("kib"), went("fds"), went("threads")
    found = []
    if memory[1] > memory[0] * (1 + share):
        found.append(f"memory: {memory[0]:.0f} → {memory[1]:.0f} KiB")
    if fds[1] > fds[0] + (0 if long else FIRST_FDS):
        found.append(f"descriptors: {fds[0]:.0f} → {fds[1]:.0f}")
    if threads[1] > threads[0] + (0 if long else POOL):
        found.append(f"threads: {threads[0]:.0f} → {threads[1]:.0f}")
    return found


def lags(samples: Sequence[Taken], after_s: float) -> list[float]:
    """The worst lag of the engine's loop in each second, in milliseconds, smallest first."""
    return sorted(sample["lag_ms"] for sample in samples if sample["at"] >= after_s)


@pytest.mark.parametrize(
    ("seconds", "after_s", "share"),
    [(12.0, 3.0, 0.2), pytest.param(1800.0, 300.0, 0.05, marks=pytest.mark.nightly)],
    ids=["short", "half an hour"],
)
def test_an_engine_over_the_plant_takes_no_more_with_time(
    tmp_path: Path, seconds: float, after_s: float, share: float
) -> None:
    samples, _ = run("plant", tmp_path, seconds)
    assert grown(samples, after_s, share) == []
    assert samples[-1]["events"] > samples[len(samples) // 2]["events"], "it is still at work"


def test_mutant_that_gives_nothing_back_is_seen(tmp_path: Path) -> None:
    samples, _ = run("leak", tmp_path, 12.0)
    assert [words.partition(":")[0] for words in grown(samples, 3.0, 0.2)] == ["memory", "descriptors"]


@pytest.mark.parametrize(
    ("seconds", "after_s", "share"),
    # A line keeps its last 120 runs: a thousand of them are full after twenty minutes, and only then can it be flat.
    [(10.0, 4.0, 0.5), pytest.param(1800.0, 1260.0, 0.05, marks=pytest.mark.nightly)],
    ids=["short", "half an hour"],
)
def test_a_thousand_lines_lose_no_event(tmp_path: Path, seconds: float, after_s: float, share: float) -> None:
    samples, found = run("lines", tmp_path, seconds)
    assert found["told"] > 0.9 * EVENTS_A_SECOND * seconds
    assert found["recorded"] == found["told"], "each once"
    assert grown(samples, after_s, share) == []
    late = lags(samples, after_s)
    print(
        f"{LINES} lines: lag of the loop, worst of a second: median {statistics.median(late):.0f} ms, {late[-1]:.0f} ms"
    )
    assert statistics.median(late) < 1000
    if seconds > 600:
        assert found["started"] == 1, "it kept the lease"
        assert late[int(0.95 * len(late))] < 1000


@pytest.mark.parametrize(
    ("seconds", "after_s", "share"),
    # In its first minute it loads what it first needs then.
    [(8.0, 3.0, 1.0), pytest.param(1800.0, 300.0, 0.05, marks=pytest.mark.nightly)],
    ids=["short", "half an hour"],
)
def test_a_room_with_its_engine_takes_no_more_with_time(
    tmp_path: Path, seconds: float, after_s: float, share: float
) -> None:
    """The demo at 50 times the clock: it paints, polls, judges and rolls back, and nobody touches it."""
    samples: list[Taken] = []
    with Session([ANDON, "demo", "--speed", f"{SPEED:g}"], environment(tmp_path)) as room:
        began = room.wait_for(lambda text: b"F9" in text, "the room")
        while (at := time.monotonic() - began) < seconds:
            time.sleep(1.0)
            samples.append({"at": at, **taken(room.pid)})
            room.forget()
        painted = room.total
        room.type(b"\x0c")
        room.wait_for(lambda text: b"F9" in text, "the room, still")
        assert room.total > painted
    assert grown(samples, after_s, share) == []
