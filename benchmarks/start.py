"""How fast it starts: the room until its first sign and until it is ready, and `andon --version`."""

import shutil
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from benchmarks import hello, month
from benchmarks.measure import ANDON, ROOT, Row, environment, forth_and_back, row, run_ms
from benchmarks.terminal import Session

FLOOR = (b"F9", *(name.encode() for name in month.LINES))
"""What a person sees when the room is ready: the key that stops the line, and every line."""


def start(rounds: int = 9) -> list[Row]:
    """From before the fork to the first sign on the screen, and to the floor with its lines; over it a hello-world."""
    first, ready, cpu = (defaultdict[str, list[float | None]](list) for _ in range(3))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        env = environment(folder)
        kept = month.Month(folder / "month").write()
        commands = {
            "hello": [sys.executable, str(ROOT / "benchmarks" / "hello.py")],
            "demo": [ANDON, "demo"],
            "month": [ANDON, "-c", str(kept.config), "--ledger", str(folder / "ledger.db")],
        }
        for case in ("hello", *forth_and_back(list(commands), rounds)):  # the first one warms up the disk's cache
            shutil.copy(kept.left, folder / "ledger.db")
            wanted = (hello.READY.encode(),) if case == "hello" else FLOOR
            with Session(commands[case], env) as session:
                painted = session.wait_for(bytes.strip, "a first sign")
                shown = session.wait_for_all(wanted, painted)
                used = session.end()
            first[case].append((painted - session.began) * 1000)
            ready[case].append((shown - session.began) * 1000)
            cpu[case].append(used * 1000)
            for file in folder.glob("ledger.db*"):
                file.unlink()
    for values in (first, ready, cpu):
        values["hello"].pop(0)
    rows = [
        row("start", "hello: ready", "ms", ready["hello"]),
        row("start", "hello: CPU to ready", "ms", cpu["hello"]),
    ]
    for case, words in (("demo", "demo"), ("month", "a month's ledger")):
        rows += [
            row("start", f"{words}: first sign", "ms", first[case], base=("hello: ready", ready["hello"])),
            row("start", f"{words}: ready", "ms", ready[case], base=("hello: ready", ready["hello"])),
            row("start", f"{words}: CPU to ready", "ms", cpu[case], base=("hello: CPU to ready", cpu["hello"])),
        ]
    return rows


def version(rounds: int = 15) -> list[Row]:
    """`andon --version` over an interpreter that does nothing."""
    took: dict[str, list[float | None]] = {"python -c pass": [], "andon --version": []}
    commands = {"python -c pass": [sys.executable, "-c", "pass"], "andon --version": [ANDON, "--version"]}
    with tempfile.TemporaryDirectory() as name:
        env = environment(Path(name))
        for argv in commands.values():
            run_ms(argv, env)
        for case in forth_and_back(list(commands), rounds):
            took[case].append(run_ms(commands[case], env))
    base = ("python -c pass", took["python -c pass"])
    return [
        row("version", "python -c pass", "ms", took["python -c pass"]),
        row("version", "andon --version", "ms", took["andon --version"], base=base),
    ]
