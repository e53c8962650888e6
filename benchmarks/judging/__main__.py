"""Shows seeded deployments to a judge and prints how good it is; the same seed shows the same ones."""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the cores are for scenarios; before numpy is loaded

from benchmarks.judging import control, pairs, run
from benchmarks.judging.families import FAMILIES
from benchmarks.judging.rivals import RIVALS
from benchmarks.judging.table import Found

OTHERS = ("pairs", "control")


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """What was asked; `only` is a list of families and of `pairs`, `control`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judging", description=__doc__)
    parser.add_argument("--n", type=int, default=50, help="scenarios a family; some families have more (50)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--detector", default="benchmarks.judge:make_detector", help="module:name of the judge")
    parser.add_argument("--control", help="module:name of the judge beside a control (make_control_detector beside it)")
    parser.add_argument("--rivals", action="store_true", help="today's practice beside it")
    parser.add_argument("--only", type=lambda text: text.split(","), help="families, pairs, control; by commas")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--cases", action="store_true", help="each false alarm and each miss of the judge")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(argv)
    known = (*FAMILIES, *OTHERS)
    asked.only = asked.only or list(known)
    for name in asked.only:
        if name not in known:
            parser.error(f"no family {name!r}; there are {', '.join(known)}")
    return asked


def control_path(asked: argparse.Namespace) -> str | None:
    """Where the judge beside a control is, if the module of the judge has one."""
    if asked.control:
        return asked.control
    path = asked.detector.partition(":")[0] + ":make_control_detector"
    try:
        run.detector(path)
    except AttributeError:
        return None
    return path


def find(asked: argparse.Namespace) -> Found:
    """Show everything that was asked for to every judge."""
    n, seed, jobs = asked.n, asked.seed, asked.jobs
    judges = {asked.detector: asked.detector} | (RIVALS if asked.rivals else {})
    paths, beside = tuple(judges.values()), control_path(asked)
    tasks = [
        (seed, name, index, paths)
        for name in asked.only
        if name in FAMILIES
        for index in range(max(1, round(n * FAMILIES[name].times)))
    ]
    both = [(seed, who, index, paths) for who in pairs.WHO for index in range(n) if "pairs" in asked.only]
    canaries = control.tasks(seed, n, (beside,)) if beside and "control" in asked.only else []
    return Found(
        judges,
        list(run.over_cores(run.judge, tasks, jobs)),
        list(run.over_cores(pairs.judge, both, jobs)),
        list(run.over_cores(control.judge, canaries, jobs)),
        beside,
    )


def main(argv: Sequence[str]) -> int:
    """Print the tables; 1 if the judge broke on something."""
    asked, start = arguments(argv), time.monotonic()
    found = find(asked)
    shown = len(found.records) + len(found.pairs) + len(found.trials)
    tables, errors = found.tables(), found.errors()
    if asked.json:
        settings = {"n": asked.n, "seed": asked.seed, "detector": asked.detector, "scenarios": shown}
        print(json.dumps({**settings, "tables": [one.plain() for one in tables], "errors": errors}, indent=1))
    else:
        print(*(one.text() for one in tables), sep="\n\n")
        print(*(found.cases() if asked.cases else ()), sep="\n")
        print(
            f"\n{shown} scenarios, seed {asked.seed}, n {asked.n}, {time.monotonic() - start:.0f} s", *errors, sep="\n"
        )
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
