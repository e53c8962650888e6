"""What the ledger costs: `andon status` over a month of fifty lines, and how soon a process sees what another wrote."""

import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from adapters.sqlite import SqliteLedger
from andon.board import Board
from andon.clock import WallClock
from andon.events import Event
from andon.keeper import LOOK_S, Keeper
from benchmarks import month
from benchmarks.measure import ANDON, ROOT, Row, environment, forth_and_back, row, run_ms

COMMITS = 50


def status(rounds: int = 7) -> list[Row]:
    """`andon status` over a month: with a checkpoint at its end, with one that is behind, and without."""
    took = defaultdict[str, list[float | None]](list)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        env = environment(folder)
        began = time.monotonic()
        kept = month.Month(folder / "month", month.TEAM).write()
        wrote_s = time.monotonic() - began
        over = {"at its end": kept.exited, "behind": kept.left, "none": kept.bare}
        commands = {case: [ANDON, "-c", str(kept.team), "--ledger", str(path), "status"] for case, path in over.items()}
        commands["andon --version"] = [ANDON, "--version"]
        for case in (*commands, *forth_and_back(list(commands), rounds)):
            took[case].append(run_ms(commands[case], env, codes=(0, 1, 2) if case in over else (0,)))
        mib = kept.exited.stat().st_size / 2**20
    for values in took.values():
        values.pop(0)  # it warmed up the disk's cache
    base = ("andon --version", took["andon --version"])
    notes = {
        "at its end": "as a process that ended leaves it",
        "behind": f"as a running engine leaves it: {kept.behind:,} events behind",
        "none": "everything is folded",
    }
    return [
        row("status", "andon --version", "ms", took["andon --version"]),
        *(row("status", f"checkpoint {case}", "ms", took[case], base=base, note=notes[case]) for case in over),
        row("status", "the ledger's file", "MiB", [mib], note=f"{kept.events:,} events, written in {wrote_s:.0f} s"),
    ]


def other(rounds: int = 1) -> list[Row]:
    """From the call that commits in one process to the board of another one; over the time between two looks."""
    took: list[float | None] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            took += seen(Path(name) / "ledger.db", environment(Path(name)))
    look: list[float | None] = [LOOK_S * 1000]
    return [row("other", "commit to seen", "ms", took, tail=True, base=("time between two looks", look))]


def seen(path: Path, env: dict[str, str]) -> list[float | None]:
    """Milliseconds from each commit of the other process to its being on our board."""
    there: dict[str, float] = {}
    last = threading.Event()

    def heard(events: Sequence[tuple[int, Event]], board: Board) -> None:
        now = time.monotonic()
        for _, event in events:
            source = getattr(event, "source", "")
            there[source] = now
            if source == str(COMMITS - 1):
                last.set()

    clock = WallClock()
    keeper = Keeper(lambda: SqliteLedger(path, clock), clock).start()
    try:
        keeper.listen(heard)
        argv = [sys.executable, "-m", "benchmarks.committer", str(path), str(COMMITS)]
        done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
        last.wait(5)
    finally:
        keeper.close()
    called = dict(line.split() for line in done.stdout.splitlines())
    return [(there[key] - float(at)) * 1000 if key in there else None for key, at in called.items()]
