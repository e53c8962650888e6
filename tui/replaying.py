"""`andon judge --replay ID`: the recorded numbers of a deployment go through the judge again.

What it was armed with and the buckets as they were seen then are in the ledger; nothing else is asked. The same verdict
must come out.
"""

import argparse
import asyncio
import math
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from andon.board import Watch
from andon.clock import Time
from andon.config import Config
from andon.events import NAMES, Armed, DeploymentSeen, Event, Judged, WatchOpened, decode
from andon.immune.control_pursuit import ControlPursuit, pursuit_of
from andon.immune.pursuit import Pursuit
from andon.immune.statistical import Sentences
from andon.immune.threshold import number
from andon.model import Metric, Verdict, VerdictWord
from andon.ports import Ledger
from andon.rollback import short
from tui.cli import complain
from tui.printing import out
from tui.setup import Desk, open_ledger

SAME, DIFFERS = 0, 1
WIDTH = 80
KINDS = {NAMES[kind]: kind for kind in (WatchOpened, Armed, Judged, DeploymentSeen)}


class Look(msgspec.Struct, frozen=True):
    """One bucket, and the evidence after it."""

    at: Time
    shown: float | None
    evidence: float
    """log10 of the odds against *nothing changed*."""


class Replayed(msgspec.Struct, frozen=True):
    """One metric, judged again."""

    metric: str
    word: VerdictWord
    sentence: str
    onset: Time | None
    recorded: Verdict
    same: bool
    needed: float
    """log10 of the evidence that a regression needs."""
    looks: tuple[Look, ...]
    words: str = ""
    """Why it cannot come out the same, if that is known."""


def replay(desk: Desk, args: argparse.Namespace) -> int:
    """0: every verdict comes out as recorded; 1: one does not; 2: no answer. Raises FileError, LedgerUnusable."""
    desk.check_line(args.line)
    keeper = open_ledger(desk.ledger, desk.clock, read_only=True, lean=True)
    try:
        found = keeper.submit(lambda ledger: _recorded(ledger, args.replay, args.line)).result()
    finally:
        keeper.close()
    where = f" on {args.line}" if args.line else ""
    if not found:
        return complain(f"no watch of a deployment {args.replay!r} is recorded{where}")
    if len(found) > 1:
        ids = ", ".join(f"{record.watch.deployment} on {record.line}" for record in found)
        return complain(f"{args.replay!r} may be {ids}: say which, with its id and --line")
    record = found[0]
    if not record.armed:
        return complain(f"{record.watch.deployment}: the judge was not armed for it, so there is nothing to replay")
    replayed = [_again(desk.config, record, name) for name in record.armed if name in record.judged]
    if not replayed:
        return complain(f"{record.watch.deployment}: it was not judged yet")
    same = all(item.same for item in replayed)
    shown = {"line": record.line, "deployment": record.watch.deployment, "same": same, "metrics": replayed}
    out(shown, args, _text(desk.config, record, replayed))
    return SAME if same else DIFFERS


# ---- what the ledger holds


class _Record(msgspec.Struct):
    """What was recorded of one watch."""

    line: str
    watch: Watch
    armed: dict[str, Armed] = {}
    judged: dict[str, tuple[Judged, tuple[Time, ...]]] = {}
    """By metric the last verdict, and when later deployments began that were known by then."""


def _recorded(ledger: Ledger, wanted: str, line: str | None) -> list[_Record]:
    """The watches of that deployment: by its id, else by the beginning of its version."""
    records: dict[tuple[str, str], _Record] = {}
    deployments: dict[tuple[str, str], tuple[Time, str]] = {}
    for event in _events(ledger, line):
        if isinstance(event, DeploymentSeen):
            deployments[event.line, event.deployment.id] = (event.deployment.at, event.deployment.state)
        elif isinstance(event, WatchOpened):
            key = (event.line, event.deployment)
            watch = Watch(event.deployment, event.version, event.began, event.until)
            if event.deployment == wanted or event.version.startswith(wanted):
                records.setdefault(key, _Record(event.line, watch))
        elif isinstance(event, Armed | Judged):
            record = records.get((event.line, event.deployment))
            if record is not None:
                _note(record, event, deployments)
    exact = [record for record in records.values() if record.watch.deployment == wanted]
    return exact or list(records.values())


def _events(ledger: Ledger, line: str | None) -> Iterator[Event]:
    """The events of `KINDS`, in order."""
    after = 0
    while rows := ledger.read(after):
        after = rows[-1].seq
        for row in rows:
            if row.kind in KINDS and line in (None, row.line) and (event := _decoded(row.kind, row.body)) is not None:
                yield event


def _decoded(kind: str, body: bytes) -> Event | None:
    try:
        return decode(kind, body)
    except ValueError:
        return None  # written by a newer version, or damaged: `audit verify` tells


def _note(record: _Record, event: Armed | Judged, deployments: dict[tuple[str, str], tuple[Time, str]]) -> None:
    if isinstance(event, Armed):
        record.armed[event.metric] = event
        return
    if event.verdict.metric:
        later = tuple(
            at
            for (line, _), (at, state) in deployments.items()
            if line == record.line and at > record.watch.began and state != "failed"
        )
        record.judged[event.verdict.metric] = (event, later)


# ---- judging again


def _again(config: Config, record: _Record, name: str) -> Replayed:
    armed, (judged, later) = record.armed[name], record.judged[name]
    recorded, rows = judged.verdict, judged.verdict.numbers
    try:
        pursuit = pursuit_of(armed.record)
    except ValueError as error:
        words = f"what it was armed with cannot be read: {error}"
        return Replayed(name, "undecided", "", None, recorded, False, 0.0, (), words)
    metric = _metric(config, record.line, armed, pursuit)
    looks = asyncio.run(_follow(pursuit, metric, judged, later))
    said = Sentences(metric, record.watch, recorded.at)
    ended = recorded.at >= record.watch.until + metric.lag
    if pursuit.found is not None:
        verdict = said.regressed(pursuit, pursuit.found)
    elif not pursuit.count or recorded.word == "blind":  # that a source fell silent is not in its numbers
        verdict = said.without_data("", ended)
    else:
        verdict = said.at_the_end(pursuit) if ended else said.so_far(pursuit, "")
    same = verdict.word == recorded.word and verdict.onset == recorded.onset
    if verdict.word == "regressed" and _configured(config, record.line, name) is not None:
        same = same and verdict.sentence == recorded.sentence
    words = ""
    if rows and rows[0].at > pursuit.began and not same:
        words = "the first buckets of its watch were not recorded"
    needed = pursuit.armed.threshold / math.log(10)
    return Replayed(name, verdict.word, verdict.sentence, verdict.onset, recorded, same, needed, looks, words)


async def _follow(
    pursuit: Pursuit | ControlPursuit, metric: Metric, judged: Judged, later: Sequence[Time]
) -> tuple[Look, ...]:
    """Feed the buckets one after the other, and note the evidence after each."""
    looks = []
    rows = judged.verdict.numbers
    for index, row in enumerate(rows):
        await pursuit.follow(rows[: index + 1], later, _here)
        evidence = pursuit.judge.evidence.log_evidence / math.log(10)
        looks.append(Look(row.at, row.shown(metric.kind), round(evidence, 2)))
    return tuple(looks)


async def _here(work: Callable[..., Any], *arguments: Any) -> Any:
    """Do work where it is asked for: nothing else waits."""
    return work(*arguments)


def _configured(config: Config, line: str, name: str) -> Metric | None:
    return config.lines[line].metric(name) if line in config.lines else None


def _metric(config: Config, line: str, armed: Armed, pursuit: Pursuit | ControlPursuit) -> Metric:
    """The metric as configured; as far as it was recorded, where it no longer is."""
    known = _configured(config, line, armed.metric)
    if known is not None and known.kind == pursuit.armed.kind:
        return known
    bad = "rises" if pursuit.armed.rises else "falls"
    return Metric(armed.metric, "", pursuit.armed.kind, bad, "", every=armed.every)  # type: ignore[arg-type]


# ---- showing


def _text(config: Config, record: _Record, replayed: Sequence[Replayed]) -> str:
    watch = record.watch
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(watch.began))
    lines = [f"{record.line}: {watch.deployment}, version {short(watch.version)}, began {began}"]
    for item in replayed:
        verdict = "as recorded" if item.same else f"recorded: {item.recorded.word}"
        lines += ["", f"{item.metric}: {item.word}, {verdict}"]
        lines += _wrapped(item.sentence)
        if not item.same:
            lines += [*_wrapped(f"recorded: {item.recorded.sentence}"), *_wrapped(item.words)]
        if item.onset is not None:
            lines.append(f"  onset {_second(item.onset)}")
        if item.looks:
            lines.append(f"  evidence after each bucket, log10; {item.needed:.1f} is needed:")
        metric = _configured(config, record.line, item.metric)
        lines += [_look(look, metric) for look in item.looks]
    return "\n".join(lines)


def _look(look: Look, metric: Metric | None) -> str:
    shown = "–" if look.shown is None else number(look.shown, metric) if metric else f"{look.shown:g}"
    return f"  {_second(look.at)}  {shown:>12}  {look.evidence:7.2f}"


def _second(at: Time) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(f"  {text}", WIDTH, subsequent_indent="  ", break_on_hyphens=False) if text else []
