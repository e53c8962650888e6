"""What a figure is: numbers of one run, and how they are summed up. A number that is missing is counted, never dropped."""

import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[1]
ANDON = str(Path(sys.executable).with_name("andon"))


class Row(msgspec.Struct, frozen=True):
    """One line of the table."""

    figure: str
    case: str
    unit: str
    median: float | None
    """None: nothing was measured."""
    n: int
    missing: int = 0
    """Of how many tries nothing came."""
    p99: float | None = None
    base: str = ""
    """What it is divided by: another case of the same run."""
    ratio: float | None = None
    note: str = ""


def row(
    figure: str,
    case: str,
    unit: str,
    values: Sequence[float | None],
    *,
    tail: bool = False,
    base: tuple[str, Sequence[float | None]] | None = None,
    note: str = "",
) -> Row:
    """The median of `values` (and their p99, if `tail`), and its ratio to the median of the base's values."""
    found = sorted(value for value in values if value is not None)
    median = statistics.median(found) if found else None
    # The smallest value that 99 of 100 do not exceed; below 100 values that is the largest.
    p99 = found[math.ceil(0.99 * len(found)) - 1] if found and tail else None
    under = statistics.median(found_) if base and (found_ := [v for v in base[1] if v is not None]) else None
    return Row(
        figure=figure,
        case=case,
        unit=unit,
        median=median,
        n=len(found),
        missing=len(values) - len(found),
        p99=p99,
        base=base[0] if base else "",
        ratio=median / under if median is not None and under else None,
        note=note,
    )


def forth_and_back(cases: Sequence[str], rounds: int) -> Iterator[str]:
    """Every case once a round, every other round backwards: what drifts in the machine hits all alike."""
    for number in range(rounds):
        yield from cases if number % 2 == 0 else reversed(cases)


def environment(home: Path) -> dict[str, str]:
    """The environment of everything that is measured: nobody's home, a plain terminal with all colours."""
    return {
        "HOME": str(home),
        "PATH": os.environ.get("PATH", os.defpath),
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
        "LC_ALL": "C.UTF-8",
    }


def run_ms(argv: Sequence[str], env: dict[str, str], codes: tuple[int, ...] = (0,)) -> float:
    """How many milliseconds a command takes, from before it is started until it has ended. Raises if it fails."""
    began = time.perf_counter()
    done = subprocess.run(argv, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    took = (time.perf_counter() - began) * 1000
    if done.returncode not in codes:
        raise SystemExit(f"{' '.join(argv)}: exit {done.returncode}: {done.stderr.decode(errors='replace')}")
    return took
