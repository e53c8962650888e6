"""`andon report LINE`: what the line learned, as Markdown, JSON, or one page that a browser shows by itself."""

import argparse
import time
from collections.abc import Sequence

import msgspec

from andon.clock import Time
from andon.learning import story
from andon.learning.dora import DAY_S, Keys, keys
from andon.learning.figures import Figure, Point
from andon.ports import LedgerUnusable
from andon.text import gate
from tui.cli import complain
from tui.printing import out
from tui.setup import Desk, open_ledger

CELLS = str.maketrans({"|": "\\|", "<": "&lt;", "`": "'", "[": "\\[", "*": "\\*", "_": "\\_"})
"""What a stranger's text must not be in Markdown: a cell's end, a tag, code, a link, an emphasis."""
MOST_ROWS = 50


class Line(msgspec.Struct, frozen=True):
    """One figure as a person reads it."""

    title: str
    figure: Figure
    meaning: str


def report(args: argparse.Namespace) -> int:
    """0: printed; 2: no answer. Raises FileError, LedgerUnusable."""
    desk = Desk(args)
    desk.check_line(args.line)
    keeper = open_ledger(desk.ledger, desk.clock, read_only=True, lean=True)
    try:
        told = keeper.submit(lambda ledger: story.read(ledger, [args.line])).result()[args.line]
    except LedgerUnusable as error:
        return complain(str(error))
    finally:
        keeper.close()
    now = desk.clock.now()
    found = keys(told, now - args.since, now)
    if args.format == "html":
        from tui.report_page import page

        out(found, args, page(found, lines(found)))
        return 0
    args.json = args.json or args.format == "json"
    out(found, args, markdown(found))
    return 0


def lines(found: Keys) -> tuple[Line, ...]:
    """The figures in the order in which they are told: DORA's five, then ours."""
    return (
        Line("Change lead time", found.lead_time, "from the commit to live, a row per change"),
        Line("Deployment frequency", found.frequency, "went live, returns to an earlier version not counted"),
        Line("Change fail rate", found.fail_rate, "rolled back, stopped for, or marked faulty by a person"),
        Line("Failed deployment recovery time", found.recovery, "until another version is live and the metric is back"),
        Line("Deployment rework rate", found.rework, "unplanned, for an incident"),
        Line("Batch size", found.batch, "changes a deployment"),
        Line("Time to learning", found.learning, "from the commit to the end of the watch that judged it"),
        Line("Time to stop the line", found.stopping, "from the pull to the last confirmed halt"),
        Line("Incidents prevented", found.prevented, "taken back by andon by itself"),
        Line("False alarms", found.false_alarms, "of andon's own stops: marked good by a person afterwards"),
        Line("Pulls of the cord", found.pulls, "by people; each one is a defect that went no further"),
    )


def markdown(found: Keys) -> str:
    """The report as Markdown; outside text in it is nothing but text."""
    since, until = _day(found.since), _day(found.until)
    rows = [
        f"# {found.line}, {since} to {until}",
        "",
        "| figure | value | 95 % | n | what it is |",
        "| --- | --- | --- | --- | --- |",
    ]
    rows += [
        f"| {line.title} | {value(line.figure)} | {interval(line.figure)} | {line.figure.n} | "
        f"{line.meaning}{'; ' + line.figure.words if line.figure.words else ''} |"
        for line in lines(found)
    ]
    rows += ["", "## Where the lead time went", "", "| part | median | nine of ten | n |", "| --- | --- | --- | --- |"]
    for station in found.stations:
        nine = span(station.time.p90) if station.time.p90 is not None else "–"
        rows.append(f"| {station.name} | {span(station.time.value)} | {nine} | {station.time.n} |")
    if found.deploy_days is not None:
        rows += ["", f"It shipped on {found.deploy_days:g} days of a usual week."]
    if found.legacy:
        rows += ["", f"Cluster of 2024's report (given up by DORA in 2025, no ranking): {found.legacy}."]
    for line in lines(found):
        rows += _details(line)
    return "\n".join(rows)


def _details(line: Line) -> list[str]:
    """The rows behind a figure, newest first."""
    if not line.figure.rows:
        return []
    newest = sorted(line.figure.rows, key=lambda row: -row.at)
    found = ["", f"## Rows of: {line.title}", "", "| what | when | value | |", "| --- | --- | --- | --- |"]
    found += [
        f"| {_cell(row.ref)} | {_minute(row.at)} | {one(line.figure, row)} | {_cell(row.words)} |"
        for row in newest[:MOST_ROWS]
    ]
    if len(newest) > MOST_ROWS:
        found.append(f"\n{len(newest) - MOST_ROWS} older rows: `--format json` has them all.")
    return found


def value(figure: Figure) -> str:
    """A figure's value in words; a dash where nothing is known."""
    if figure.value is None:
        return "–"
    shown = _in_unit(figure.unit, figure.value)
    return f"{shown}, nine of ten {span(figure.p90)}" if figure.unit == "seconds" and figure.p90 is not None else shown


def interval(figure: Figure) -> str:
    """Its 95 % interval; a dash where there is none."""
    if figure.low is None or figure.high is None:
        return "–"
    return f"{_in_unit(figure.unit, figure.low)} to {_in_unit(figure.unit, figure.high)}"


def one(figure: Figure, row: Point) -> str:
    """The value of one row."""
    if figure.unit == "share":
        return "yes" if row.value else "no"
    return _in_unit(figure.unit, row.value) if figure.unit != "per day" else ""


def _in_unit(unit: str, number: float) -> str:
    if unit == "seconds":
        return span(number)
    if unit == "share":
        return f"{number:.0%}" if number >= 0.1 or number == 0 else f"{number:.1%}"
    return f"{number:.2f} a day" if unit == "per day" else f"{number:g}"


def span(seconds: float | None) -> str:
    """A duration with two figures that matter: `48 s`, `3.2 min`, `5.1 h`, `2.4 d`."""
    if seconds is None:
        return "–"
    for size, unit in ((DAY_S, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size * (2 if unit == "d" else 1):
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _cell(text: str) -> str:
    return gate(text).replace("\n", " ").translate(CELLS)


def _day(at: Time) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(at))


def _minute(at: Time) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def weeks(rows: Sequence[Point], until: Time, most: int = 26) -> list[tuple[Time, list[Point]]]:
    """Rows by week, oldest first: each with the week's begin."""
    found: dict[int, list[Point]] = {}
    for row in rows:
        found.setdefault(int((until - row.at) // (7 * DAY_S)), []).append(row)
    last = min(max(found, default=0), most - 1)
    return [(until - (index + 1) * 7 * DAY_S, found.get(index, [])) for index in range(last, -1, -1)]
