"""A ledger of thirty days, as an engine would have written it: four lines or fifty, fifty deployments a day in all.

A deployment comes with three changes, a run of three stages that is seen at each of its steps, a watch, verdicts on six
metrics with the numbers they used, and its end. One in 25 is regressed: held, halted, rolled back, released. Six metrics
a line are sampled each minute and kept for 48 hours.
"""

import random
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from adapters.sqlite import SqliteLedger
from andon.board import FORMAT
from andon.clock import WallClock
from andon.events import (
    ActAsked,
    ActStepped,
    ChangesSeen,
    DeploymentSeen,
    Event,
    HaltedSeen,
    HoldLifted,
    HoldPlaced,
    Judged,
    Marked,
    RunSeen,
    WatchOpened,
)
from andon.keeper import IDLE_CHECKPOINT, Keeper
from andon.model import (
    Act,
    ActKind,
    ActState,
    Change,
    Deployment,
    Halted,
    Hold,
    Part,
    Run,
    Sample,
    Stage,
    Verdict,
    to_json,
)
from benchmarks.measure import ROOT

LINES = ("checkout", "search", "payments", "accounts")
METRICS = ("conversion", "p95 latency", "errors", "revenue", "sign-ups", "queue")
TEAM = tuple(f"{line}-{place}" for place in range(10) for line in (*LINES, "mail"))
"""Fifty lines."""
DAYS, A_DAY, EVERY_S, KEPT_S = 30, 50, 60.0, 48 * 3600.0
AT_ONCE = 40
"""Events of one commit: an engine commits fewer, which takes longer and leaves the same ledger."""


class Month:
    """The files of one such ledger: `exited` as a process that ended left it, `left` with a checkpoint some way behind."""

    def __init__(self, folder: Path, lines: Sequence[str] = LINES, *, buckets: int = 15) -> None:
        """`buckets`: how many a verdict keeps of what it was found from; 400 of them take 16 kB."""
        self.folder = folder
        self.lines = lines
        self.buckets = buckets
        self.exited = folder / "exited.db"
        """A checkpoint at the last event."""
        self.left = folder / "left.db"
        """As a running engine leaves it: the last checkpoint is as old as one becomes where there are pauses."""
        self.bare = folder / "bare.db"
        """No checkpoint: everything is folded."""
        self.config = folder / "andon.yaml"
        """The sample config: four lines, over the plant."""
        self.team = folder / "team.yaml"
        """The same lines over Buildbot, Prometheus and scripts, none of which is there."""
        self.events = 0
        self.behind = 0
        """How many events came after the checkpoint in `left`."""

    def write(self) -> "Month":
        """Write them all."""
        self.folder.mkdir(mode=0o700)
        _private(self.config, (ROOT / "sample_config.yaml").read_text())
        _private(self.team, _team(self.lines))
        now = time.time()
        clock = WallClock()
        work = self.folder / "work.db"
        keeper = Keeper(lambda: SqliteLedger(work, clock), clock).start()
        batch: list[Event] = []
        happened = list(events(now, self.lines, self.buckets))
        for done, event in enumerate(happened, 1):
            batch.append(event)
            if len(batch) == AT_ONCE or done in (len(happened) - IDLE_CHECKPOINT + 1, len(happened)):
                _commit(keeper, batch)
                batch.clear()
            if done == len(happened) - IDLE_CHECKPOINT + 1:
                keeper.submit(lambda ledger: ledger.checkpoint(FORMAT, keeper.seq, to_json(keeper.board))).result()
        for line in self.lines:
            for metric in METRICS:
                _keep(keeper, f"{line}/{metric}", tuple(_samples(now)))
        self.events = keeper.seq
        _copy(work, self.left)
        keeper.close()
        _copy(work, self.exited)
        _copy(work, self.bare)
        self.behind = self.events - _checkpoint(self.left)
        with sqlite3.connect(self.bare) as db:
            db.execute("DELETE FROM checkpoints")
        db.close()
        return self


def _commit(keeper: Keeper, events: Sequence[Event]) -> None:
    keeper.submit(lambda ledger: ledger.commit(*events)).result()


def _keep(keeper: Keeper, series: str, rows: Sequence[Sample]) -> None:
    keeper.submit(lambda ledger: ledger.keep(series, rows)).result()


def _private(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)


def _copy(source: Path, copy: Path) -> None:
    """A copy of a ledger that may be open."""
    with sqlite3.connect(source) as db, sqlite3.connect(copy) as other:
        db.backup(other)
    db.close()
    other.close()
    copy.chmod(0o600)


def _checkpoint(path: Path) -> int:
    db = sqlite3.connect(path)
    found = db.execute("SELECT max(seq) FROM checkpoints").fetchone()[0]
    db.close()
    return int(found or 0)


def _team(lines: Sequence[str]) -> str:
    """A config of a team: nothing answers at its addresses."""
    metric = (
        "{{name: {0}, from: prom, kind: gauge, bad: rises, value: 'sum(rate({1}[$every]))', threshold: {{above: 10}}}}"
    )
    metrics = ", ".join(metric.format(name, name.replace(" ", "_").replace("-", "_")) for name in METRICS)
    config = "".join(
        f"  {name}:\n"
        f"    ci: [{{from: bb, builders: {{{name}-unit: test, {name}-deploy: deploy}}, halts: [{name}-deploy]}}]\n"
        f"    deploy: {{from: releases, only_way_in: true}}\n"
        f"    metrics: [{metrics}]\n"
        for name in lines
    )
    return (
        "connections:\n"
        '  bb: {adapter: buildbot, url: "http://127.0.0.1:9"}\n'
        '  prom: {adapter: prometheus, url: "http://127.0.0.1:9"}\n'
        "  releases: {adapter: command, deploy: [release, deploy], current: [release, current]}\n"
        f"lines:\n{config}"
    )


# ---- what happened


def events(now: float, lines: Sequence[str], buckets: int = 15) -> Iterator[Event]:
    """What happened on those lines in thirty days, in order."""
    dice = random.Random(7)
    count = DAYS * A_DAY
    before: dict[str, Deployment] = {}
    for number in range(count):
        line = lines[number % len(lines)]
        at = now - DAYS * 86400 + number * 86400 / A_DAY
        regressed = number % 25 == 24 and line in before
        shipped = Deployment(f"d{number}", _sha(dice), "rolling", at=at, by="ci")
        yield from _built(dice, line, number, shipped, regressed=regressed)
        yield from _deployed(dice, line, shipped, buckets, regressed=regressed)
        if regressed:
            yield from _stopped(line, shipped, before[line], at + 400)
        before[line] = shipped


def _sha(dice: random.Random) -> str:
    return f"{dice.getrandbits(160):040x}"


def _built(dice: random.Random, line: str, number: int, deployment: Deployment, *, regressed: bool) -> Iterator[Event]:
    """Three changes, and the run of the last, seen at each of its steps."""
    at, shas = deployment.at, (_sha(dice), _sha(dice), deployment.version)
    changes = tuple(
        Change(
            shas[part], f"{'Retry' if regressed else 'Show'} {line} item {number}.{part}", "Ann Noor", at - 600 + part
        )
        for part in range(3)
    )
    yield ChangesSeen(line, at - 590, "bb", changes)
    names = (("unit", "test"), ("build", "build"), ("deploy", "deploy"))
    for done in range(len(names) + 1):
        stages = tuple(
            Stage(
                name,
                station,  # type: ignore[arg-type]  # one of three
                "passed" if place < done else "running" if place == done else "waiting",
                at=at - 500 + 100 * place,
                ended_at=at - 400 + 100 * place if place < done else None,
                usual_s=100.0,
            )
            for place, (name, station) in enumerate(names)
        )
        over = done == len(names)
        ended_at = at - 100 if over else None
        run = Run(f"r{number}", changes[-1].id, "passed" if over else "running", stages, at - 500, ended_at, "main")
        yield RunSeen(line, at - 500 + 100 * done, "bb", run)


def _deployed(
    dice: random.Random, line: str, deployment: Deployment, buckets: int, *, regressed: bool
) -> Iterator[Event]:
    """It rolls, is watched and judged."""
    at = deployment.at
    yield DeploymentSeen(line, at, "releases", deployment)
    yield WatchOpened(line, at, deployment.id, deployment.version, at + 900, at)
    yield DeploymentSeen(line, at + 30, "releases", msgspec.structs.replace(deployment, state="settled"))
    for place, metric in enumerate(METRICS):
        bad = regressed and place == 0
        numbers = tuple(Sample(at + 60 * i, round(dice.random(), 4), 600) for i in range(buckets))
        words = "fell from 0.031 to 0.018 within 4 min of it" if bad else "stays within its bounds"
        verdict = Verdict("regressed" if bad else "healthy", words, metric, at if bad else None, at + 300, numbers)
        yield Judged(line, at + 300, deployment.id, verdict)
    whole = Verdict("regressed" if regressed else "healthy", "of six metrics", at=at + 400)
    yield Judged(line, at + 400, deployment.id, whole, final=True)


def _stopped(line: str, bad: Deployment, good: Deployment, at: float) -> Iterator[Event]:
    """The immune system holds the line, halts what ships, and goes back; a person resumes it."""
    id_ = f"h{bad.id}"
    hold = Hold(id_, line, "immune", "conversion fell", at, id_, kind="immune", deployment=bad.id)
    before = Halted((Part("deploys", halted=False),), at)
    halt = _act("halt", line, f"halt-{bad.id}", "bb", id_, at, before=before)
    back = _act("rollback", line, f"back-{bad.id}", "releases", bad.id, at, expected=bad.id, version=good.version)
    yield HoldPlaced(line, at, hold)
    yield ActAsked(line, at, halt)
    yield ActAsked(line, at, back)
    yield from _steps(line, halt, at)
    yield HaltedSeen(line, at + 1, "bb", Halted((Part("deploys", halted=True, note=f"andon hold {id_}"),), at + 1))
    yield from _steps(line, back, at + 5)
    yield Marked(line, at + 60, bad.id, bad.version, "faulty", "immune", "conversion fell")
    release = _act("release", line, f"open-{bad.id}", "bb", id_, at + 900, before=before)
    yield HoldLifted(line, at + 900, id_, "ann", "fixed")
    yield ActAsked(line, at + 900, release)
    yield from _steps(line, release, at + 900)
    yield HaltedSeen(line, at + 902, "bb", Halted((Part("deploys", halted=False),), at + 902))


def _act(
    kind: ActKind,
    line: str,
    id_: str,
    target: str,
    subject: str,
    at: float,
    *,
    before: Halted | None = None,
    expected: str = "",
    version: str = "",
) -> Act:
    return Act(
        id=id_,
        kind=kind,
        line=line,
        target=target,
        subject=subject,
        who="immune",
        why="conversion fell",
        at=at,
        not_before=at,
        not_after=at + 300,
        environment="production",
        asker="web-7-100-abcd",
        before=before,
        expected=expected,
        version=version,
    )


def _steps(line: str, act: Act, at: float) -> Iterator[Event]:
    was: ActState = "intent"
    for later, now in enumerate(("sent", "accepted", "verified")):
        yield ActStepped(line, at + later, act.id, was, now, by="web-7-100-abcd")  # type: ignore[arg-type]  # three states
        was = now  # type: ignore[assignment]  # as above


def _samples(now: float) -> Iterator[Sample]:
    end = now // EVERY_S * EVERY_S
    dice = random.Random(11)
    at = end - KEPT_S
    while at < end:
        yield Sample(at, dice.randrange(600), 600)
        at += EVERY_S
