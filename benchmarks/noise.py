"""A CI that never rests: `python -m benchmarks.noise FOLDER LINES A_SECOND` writes that many states of runs a second, as a
`ci_watch` script prints them, evenly to the pipes `FOLDER/<line>`, until its stdin ends.
"""

import json
import os
import select
import sys
import time
from pathlib import Path

STATES = ("waiting", "running", "passed")


def names(lines: int) -> list[str]:
    """The lines on which it happens."""
    return [f"noise-{number:02}" for number in range(lines)]


def main(folder: Path, lines: int, a_second: float) -> None:
    """Write, as soon as each pipe has a reader."""
    pipes = [os.open(folder / name, os.O_WRONLY) for name in names(lines)]
    began, told = time.monotonic(), 0
    while not select.select([sys.stdin], [], [], max(0.0, began + told / a_second - time.monotonic()))[0]:
        number, state = divmod(told // lines, len(STATES))
        at = time.time()
        run = {"id": f"r{number}", "change": f"{number:040x}", "state": STATES[state], "at": at}
        os.write(pipes[told % lines], json.dumps({"run": run}).encode() + b"\n")
        told += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
