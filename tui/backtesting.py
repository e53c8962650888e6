"""`andon backtest LINE`: the line's past goes through the judge. So a team learns how far to trust it.

Samples come from the metrics source, in pieces of a day; deployments from the ledger, if there is one, and from the deploy
target. The judging is done in worker processes.
"""

import argparse
import asyncio
import math
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import msgspec

from andon.board import Line
from andon.clock import Time, long_age
from andon.config import LineConfig
from andon.feed import Patience, told
from andon.immune import backtest as trying
from andon.immune import recommending
from andon.immune.backtest import Asked, Deployed, Outcome, Series
from andon.immune.recommending import Report
from andon.immune.statistical import HISTORY_S, judged, known_bad
from andon.model import Metric, Sample
from andon.ports import Deploy, LedgerUnusable, Metrics
from andon.rollback import short
from andon.stations import Stations
from andon.text import gate
from andon.yamlfile import FileError
from tui.cli import complain
from tui.printing import out
from tui.setup import Desk, open_ledger

PIECE_S = 86_400.0
PIECE_LIMIT_S = 60.0
"""How long one piece of history may take."""
TRIES = 3
DEPLOYMENTS = 1000
"""How many past deployments the deploy target is asked for."""
WIDTH = 80
NAMED_ALARMS = 5
COLUMNS = (("metric", 20), ("false alarms", 20), ("shows", 8), ("takes", 14), ("regressed", 10), ("setting", 9))


def backtest(desk: Desk, args: argparse.Namespace) -> int:
    """0: every metric was tried; 1: one could not be; 2: no answer. Raises FileError, LedgerUnusable."""
    desk.check_line(args.line)
    config = desk.config.lines[args.line]
    metrics = _metrics(desk, config, args.metric)
    bar = _Bar()
    try:
        past = asyncio.run(_read(desk, config, metrics, args.since, bar))
        placebos = trying.PLACEBOS if args.placebos is None else args.placebos
        wanted = [trying.trials(asked, placebos) for asked in past.asked]
        outcomes = trying.run(
            past.asked, wanted, lambda done, of: bar.show(done / of, f"{done} of {of} deployments and placebos judged")
        )
    except BrokenProcessPool:
        return complain("a worker process was ended from outside; is there too little memory?")
    finally:
        bar.clear()
    reports = [
        recommending.report(asked.metric, items, can_roll_back=config.deploy is not None)
        for asked, items in zip(past.asked, outcomes, strict=True)
    ]
    shown = {
        "line": config.name,
        "since": past.since,
        "until": past.until,
        "watch_s": config.watch_s,
        "deployments": past.deployments,
        "metrics": reports,
        "unread": past.unread,
        "notes": past.notes,
    }
    out(shown, args, _text(config, past, reports))
    return 1 if past.unread or not all(report.placebos for report in reports) else 0


def _metrics(desk: Desk, config: LineConfig, name: str | None) -> list[Metric]:
    """The metrics to try. Raises FileError."""
    found = [metric for metric in config.metrics if name in (None, metric.name, metric.short)]
    if not found:
        known = ", ".join(metric.name for metric in config.metrics)
        words = f"there is no metric {name!r}; there are {known}" if known else "the line has no metric"
        raise FileError(str(desk.config.path), None, ("lines", config.name, "metrics"), words)
    return found


# ---- reading the past


class _Past(msgspec.Struct):
    """What was read."""

    since: Time
    until: Time
    asked: list[Asked] = []
    deployments: int = 0
    unread: dict[str, str] = {}
    """Metrics that could not be read, and why."""
    notes: list[str] = []


async def _read(desk: Desk, config: LineConfig, metrics: Sequence[Metric], since_s: float, bar: "_Bar") -> _Past:
    now = desk.clock.now()
    past = _Past(now - since_s, now)
    stations = Stations(desk.config, desk.clock, desk.state, read_only=True)
    try:
        deployments = await _deployments(desk, config, stations.deploy(config.name), past)
        past.deployments = sum(past.since <= item.at for item in deployments)
        for index, metric in enumerate(metrics):

            def tick(share: float, index: int = index, name: str = metric.name) -> None:
                bar.show((index + share) / len(metrics), f"reading {name}")

            source = stations.metrics(config.name, metric.source)
            try:
                rows = await _history(source, metric, past, tick)
            except Exception as error:  # noqa: BLE001 - whatever an adapter does, it is said, and the others are tried
                past.unread[metric.name] = told(error)[1]
                continue
            if not rows:
                past.unread[metric.name] = "its source has no samples of that time"
                continue
            if metric.control is not None:
                past.notes.append(f"{metric.name}: tried against its own past; its control is not looked at")
            sharing = judged(config)
            past.asked.append(
                Asked(
                    metric,
                    config.watch_s,
                    Series.of(rows),
                    tuple(deployments),
                    past.since,
                    len(sharing) + (metric not in sharing),
                )
            )
    finally:
        await stations.close()
    return past


async def _history(source: Metrics, metric: Metric, past: _Past, tick: Callable[[float], None]) -> list[Sample]:
    """The closed buckets since the beginning, and a fortnight before it where the source has that. Raises as a read."""
    every = metric.every
    wanted = past.until - past.since + HISTORY_S
    reach = min(wanted, source.can.history_s or wanted)
    end = (past.until - metric.lag) // every * every
    start = first = math.ceil((past.until - reach) / every) * every
    rows: list[Sample] = []
    words = ""
    while start < end:
        stop = min(end, start + max(1, PIECE_S // every) * every)
        tick((start - first) / (end - first))
        found = await _piece(source, metric, start, stop)
        rows.extend(row for row in found.rows if start <= row.at < stop)
        words = found.words or words
        start = stop
    if rows:
        missing = round((end - rows[0].at) / every) - len(rows)
        if missing > 0:
            past.notes.append(f"{metric.name}: {missing:,} of {missing + len(rows):,} buckets are missing: {words}")
        if rows[0].at > past.since + every:
            past.notes.append(f"{metric.name}: its source reaches back {long_age(past.until - rows[0].at)}")
    return rows


async def _piece(source: Metrics, metric: Metric, start: Time, stop: Time) -> Any:
    """One piece, tried again with patience: a source may be busy. Raises as a read."""
    patience = Patience()
    for left in reversed(range(TRIES)):
        try:
            async with asyncio.timeout(PIECE_LIMIT_S):
                return await source.samples(metric, start, stop, metric.every)
        except Exception as error:  # whatever an adapter does, it is tried again, and raised at last
            if not left:
                raise
            await asyncio.sleep(patience.next(error))
    return None


async def _deployments(desk: Desk, config: LineConfig, deploy: Deploy | None, past: _Past) -> list[Deployed]:
    """What the ledger and the deploy target know, oldest first."""
    line = _line(desk, config.name, past)
    known = {item.id: item for item in line.deployments}
    if deploy is not None:
        try:
            async with asyncio.timeout(PIECE_LIMIT_S):
                known = {item.id: item for item in await deploy.history(DEPLOYMENTS)} | known
        except Exception as error:  # noqa: BLE001 - the ledger's deployments are some, and placebos need none
            past.notes.append(f"the deploy target's history cannot be read: {told(error)[1]}")
    found = [
        Deployed(item.at, item.version, item.verified is not False and not known_bad(line, item))
        for item in known.values()
        if item.state != "failed"
    ]
    return sorted(found, key=lambda item: item.at)


def _line(desk: Desk, name: str, past: _Past) -> Line:
    """What the ledger knows of the line; without a ledger nothing is."""
    try:
        keeper = open_ledger(desk.ledger, desk.clock, read_only=True, lean=True)
    except LedgerUnusable as error:
        past.notes.append(f"deployments come from the deploy target alone: {error}")
        return Line(name)
    try:
        return keeper.board.line(name)
    finally:
        keeper.close()


# ---- showing


class _Bar:
    """How far it is, on stderr, where that is a terminal."""

    SIZE, LEAST_S = 20, 0.1

    def __init__(self) -> None:
        self._seen, self._last = sys.stderr.isatty(), 0.0
        self._signs = "█░" if "utf" in (sys.stderr.encoding or "").lower() else "#-"

    def show(self, share: float, words: str) -> None:
        """Draw it anew, ten times a second at most."""
        now = time.monotonic()
        if not self._seen or now - self._last < self.LEAST_S:
            return
        self._last = now
        full = round(self.SIZE * min(1.0, share))
        text = f"{self._signs[0] * full}{self._signs[1] * (self.SIZE - full)} {100 * share:3.0f} %  {gate(words)}"
        sys.stderr.write(f"\r{text[: WIDTH - 1]:<{WIDTH - 1}}")
        sys.stderr.flush()

    def clear(self) -> None:
        """Leave an empty line."""
        if self._last:
            sys.stderr.write(f"\r{'':{WIDTH - 1}}\r")
            sys.stderr.flush()


def _text(config: LineConfig, past: _Past, reports: Sequence[Report]) -> str:
    head = (
        f"{config.name}, {_day(past.since)} to {_day(past.until)}: {past.deployments} deployments, "
        f"each watched for {long_age(config.watch_s)}"
    )
    lines = [head, ""]
    if reports:
        lines += [_row([name for name, _ in COLUMNS]), *(_row(_cells(report)) for report in reports)]
    for report in reports:
        lines += ["", *_told(report, config.metric(report.metric))]
    lines += ["", *(f"✗ {name}: {words}" for name, words in past.unread.items())] if past.unread else []
    lines += ["", *(line for words in past.notes for line in _wrapped(f"! {words}", 2))] if past.notes else []
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    parts = []
    for text, (_, width) in zip(cells, COLUMNS, strict=True):
        parts.append((text if len(text) < width else text[: width - 2] + "…").ljust(width))
    return "".join(parts).rstrip()


def _cells(report: Report) -> list[str]:
    sign = "-" if report.falls else "+"
    alarms = f"{len(report.false_alarms)} of {report.placebos}, ≤ {100 * report.at_most:.1f} %"
    shows = "nothing" if report.effect is None else f"{sign}{math.ceil(100 * report.effect - 1e-6)} %"
    takes = "never" if report.usual_s is None else long_age(report.usual_s)
    return [
        report.metric,
        alarms if report.placebos else "not tried",
        shows if report.placebos else "–",
        f"{sign}{100 * report.usual:.0f} %: {takes}" if report.placebos else "–",
        f"{len(report.regressed)} of {report.deployments}",
        report.setting,
    ]


def _told(report: Report, metric: Metric | None) -> list[str]:
    """What a row means, and what it was made from."""
    now = "" if report.setting == report.configured else f" (now: {report.configured})"
    lines = _wrapped(f"{report.metric}: {report.setting}{now}. {report.why[:1].upper()}{report.why[1:]}.", 2)
    if metric is not None and metric.threshold is not None:
        lines += _wrapped("  It has a threshold, which decides; this is what the judge would do without it.", 2)
    if report.unjudged:
        lines.append(f"  {report.unjudged} of the trials had too little history or too few buckets.")
    for outcome in report.regressed:
        lines += _wrapped(f"  {_minute(outcome)}  {outcome.sentence}", 4)
    for outcome in report.false_alarms[:NAMED_ALARMS]:
        lines += _wrapped(f"  {_minute(outcome)}  false alarm, or an incident: {outcome.sentence}", 4)
    if len(report.false_alarms) > NAMED_ALARMS:
        lines.append(f"  and {len(report.false_alarms) - NAMED_ALARMS} more")
    return lines


def _wrapped(text: str, indent: int) -> list[str]:
    kept = text.replace(" %", "\N{NO-BREAK SPACE}%")  # a number and its sign stay together
    lines = textwrap.wrap(kept, WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False)
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def _day(at: Time) -> str:
    """Local date, as the room writes it."""
    local = time.localtime(at)
    return f"{local.tm_mday} {time.strftime('%b', local)}"


def _minute(outcome: Outcome) -> str:
    """Which deployment, and when it began."""
    when = f"{_day(outcome.at)} {time.strftime('%H:%M', time.localtime(outcome.at))}"
    return f"{when} {short(outcome.version)}" if outcome.version else when
