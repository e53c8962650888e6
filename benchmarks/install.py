"""What an installation takes: the wheel, built from this tree, in a clean environment."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import ROOT, Row, row

NOT_COUNTED = ("andon", "pip", "setuptools")
"""What is not counted: the program itself, and what an environment begins with."""


def wheel(rounds: int = 1) -> list[Row]:
    """Packages that come with andon, what all weighs on the disk, and how long pip takes. Asks pip's index."""
    counts: list[float | None] = []
    sizes: list[float | None] = []
    took: list[float | None] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            _run(
                [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", name, str(ROOT)]
            )
            _run([sys.executable, "-m", "venv", str(folder / "clean")])
            python = str(folder / "clean" / "bin" / "python")
            before = _kib(folder / "clean")
            began = time.monotonic()
            _run([python, "-m", "pip", "install", "-q", str(next(folder.glob("andon-*.whl")))])
            took.append(time.monotonic() - began)
            sizes.append((_kib(folder / "clean") - before) / 1024)
            listed = json.loads(_run([python, "-m", "pip", "list", "--format", "json"]))
            counts.append(float(sum(item["name"].lower() not in NOT_COUNTED for item in listed)))
            _run([str(folder / "clean" / "bin" / "andon"), "--version"])
    return [
        row("install", "packages besides andon", "", counts, note="promised: at most 20"),
        row("install", "on the disk", "MiB", sizes, note="with compiled modules"),
        row("install", "pip install", "s", took, note="most of it is the index and the network"),
    ]


def _run(argv: Sequence[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}: exit {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def _kib(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1024
