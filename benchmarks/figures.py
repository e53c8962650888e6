"""Measures andon on this machine: `python -m benchmarks.figures [NAME…] [--rounds N] [--json]`. See docs/performance.md."""

import argparse
import os
import platform
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version as version_of

import msgspec

from benchmarks import install, key, ledger_speed, ledgers, rest, start
from benchmarks.measure import Row, row


class Figure(msgspec.Struct, frozen=True):
    """One figure: how it is measured, in how many rounds, and about how long that takes."""

    measure: Callable[[int], list[Row]]
    rounds: int
    about_s: int


def ledger(rounds: int) -> list[Row]:
    """What `ledger_speed` measures, beside what is promised."""
    found = [ledger_speed.measure() for _ in range(rounds)]
    rows = []
    for name in found[0]:
        case, _, unit = name.replace("_per_s", "_/s").rpartition("_")
        limit = ledger_speed.LIMITS.get(name)
        bound = "least" if unit == "/s" else "most"
        note = "" if limit is None else f"promised: at {bound} {limit:g}"
        rows.append(row("ledger", case.replace("_", " "), unit, [one[name] for one in found], note=note))
    return rows


FIGURES = {
    "start": Figure(start.start, 9, 30),
    "version": Figure(start.version, 15, 2),
    "f9": Figure(key.f9, 1, 170),
    "busy": Figure(key.busy, 1, 70),
    "status": Figure(ledgers.status, 7, 20),
    "memory": Figure(rest.memory, 1, 65),
    "other": Figure(ledgers.other, 1, 15),
    "idle": Figure(rest.idle, 1, 55),
    "ledger": Figure(ledger, 1, 15),
    "install": Figure(install.wheel, 1, 40),
}


class Measured(msgspec.Struct, frozen=True):
    """A figure, and the command that gives it again."""

    name: str
    command: str
    rows: list[Row]


class Machine(msgspec.Struct, frozen=True):
    """Where it was measured."""

    system: str
    cores: int
    python: str
    textual: str
    load_before: float
    """How many processes wanted a core, over the minute before."""
    load_after: float


def main(argv: Sequence[str]) -> int:
    """Measure, print, and return the exit code: 1 if something that was to come did not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.figures", description=__doc__)
    listed = ", ".join(f"{name} ({figure.about_s} s)" for name, figure in FIGURES.items())
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which figures; all, if none is named: {listed}")
    parser.add_argument("--rounds", type=int, metavar="N", help="instead of each figure's own number")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    unknown = [name for name in args.names if name not in FIGURES]
    if unknown:
        parser.error(f"there is no figure {unknown[0]!r}; there are {', '.join(FIGURES)}")
    if args.rounds is not None and args.rounds < 1:
        parser.error("--rounds: at least 1")
    before = os.getloadavg()[0]
    found = []
    for name in args.names or FIGURES:
        rounds = args.rounds or FIGURES[name].rounds
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        rows = FIGURES[name].measure(rounds)
        found.append(Measured(name, f"python -m benchmarks.figures {name} --rounds {rounds}", rows))
    machine = _machine(before)
    if args.json:
        print(msgspec.json.format(msgspec.json.encode({"machine": machine, "figures": found}), indent=1).decode())
    else:
        print(table(machine, found))
    return int(any(row.missing for one in found for row in one.rows))


def _machine(before: float) -> Machine:
    return Machine(
        f"{os.uname().sysname} {os.uname().machine}",
        os.cpu_count() or 0,
        platform.python_version(),
        version_of("textual"),
        round(before, 2),
        round(os.getloadavg()[0], 2),
    )


def table(machine: Machine, found: Sequence[Measured]) -> str:
    """The figures as text."""
    where = f"{machine.system}, {machine.cores} cores, Python {machine.python}, Textual {machine.textual}"
    lines = [f"{where}, load {machine.load_before} before and {machine.load_after} after"]
    for one in found:
        lines += ["", one.command, f"  {'':<30}{'median':>10}{'p99':>9}{'n':>5}  {'unit':<12}ratio"]
        lines += [_line(row) for row in one.rows]
    return "\n".join(lines)


def _line(row: Row) -> str:
    count = f"{row.n}" if not row.missing else f"{row.n}/{row.n + row.missing}"
    ratio = f"{row.ratio:.3g} x {row.base}" if row.ratio is not None else ""
    note = f"({row.note})" if row.note else ""
    words = "  ".join(part for part in (ratio, note) if part)
    return f"  {row.case:<30}{_number(row.median):>10}{_number(row.p99):>9}{count:>5}  {row.unit:<12}{words}".rstrip()


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
