"""A shop for the screens below a line: a metric that the judge was armed for and that fell, a run with jobs, and its log."""

import math
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from andon.board import Watch
from andon.events import Armed, ChangesSeen, Event, Judged, RunSeen
from andon.immune.pursuit import Pursuit, arm_watch
from andon.immune.statistical import Sentences
from andon.model import Change, Job, LogPart, Metric, Run, Sample, Stage, Verdict
from tests.helpers import HOSTILE
from tests.room_helpers import HOUR, METRICS, MIN, NOW, Shop, StillEngine, calm, incident, settle, sha

REVENUE = Metric(
    "revenue/min", "prom", "sum", "falls", "sum(increase(revenue_eur_total[$every]))", short="rev", unit="€"
)
"""Without bounds: the judge judges it."""
LIVE, MINUTES = "d-9c1d-10", 10
LOG = (
    *(f"tests/test_{name}.py {'.' * 12}" for name in ("basket", "card", "login", "search", "tax", "vat")),
    "tests/test_passkey.py ..F.",
    "",
    "FAILED test_passkey.py::test_rename_keeps_users",
    "    def test_rename_keeps_users(db):",
    '        add(db, "ann", key="k1")',
    "E       AttributeError: NoneType has no name",
    "2 failed, 1,202 passed in 98.4 s",
    "exit 1",
)


def revenue(at: float, *, fell: bool = True) -> float:
    """What came in within the minute that begins then: it waves, and falls from nine to four minutes ago."""
    back = round((NOW // 60 * 60 - at) / 60)
    wave = 1 + 0.05 * math.sin(back * 12.9898) + 0.04 * math.sin(back * 4.1414) + 0.02 * math.sin(back * 0.6)
    return 412 * wave * (0.62 if fell and 4 <= back <= 9 else 1.0)


def rows(hours: float, *, fell: bool = True) -> list[Sample]:
    """Closed minutes up to now."""
    end = NOW // 60 * 60
    return [Sample(end - MIN * back, revenue(end - MIN * back, fell=fell)) for back in range(int(hours * 60), 0, -1)]


@cache
def armed() -> Armed:
    """The record for the deployment of ten minutes ago, from a day of history."""
    began = NOW - MINUTES * MIN
    watch = Watch(LIVE, sha("9c1d"), began, began + HOUR)
    history = [row for row in rows(24) if row.at < began]
    found = arm_watch("payments", REVENUE, watch, history, metrics=1, suspects=(), past=(), after_s=1200.0)
    return msgspec.structs.replace(found, at=began)


@cache
def judged() -> tuple[Event, ...]:
    """What the judge says of it, in its own words, as soon as it sees it."""
    record = armed()
    watch = Watch(LIVE, sha("9c1d"), NOW - MINUTES * MIN, NOW - MINUTES * MIN + HOUR)
    pursuit = Pursuit(record.record)
    for row in rows(1):
        if row.at >= pursuit.began and pursuit.found is None:
            pursuit._feed([row])
    assert pursuit.found is not None, "the fall of the fixture is not found"
    said = Sentences(REVENUE, watch, pursuit.found.seen).regressed(pursuit, pursuit.found)
    whole = Verdict("regressed", said.sentence, "", said.onset, said.at)
    return (
        Judged(line="payments", at=said.at, deployment=LIVE, verdict=said),
        Judged(line="payments", at=said.at, deployment=LIVE, verdict=whole, final=True, did="stopped and rolled back"),
    )


def batch() -> ChangesSeen:
    """What was shipped with it."""
    changes = (
        Change(sha("e9a3"), "Bump bank client to 4.2", "cy", NOW - 60 * MIN),
        Change(sha("4410"), "Log bank answer code " + HOSTILE[7], "dee", NOW - 50 * MIN),
        Change(sha("9c1d"), "Retry 3-D Secure once", "cy", NOW - 40 * MIN),
    )
    return ChangesSeen(line="payments", at=NOW - 86400, source="gh", changes=changes)


def run_with_jobs(line: str = "accounts", change: str = "b2c9") -> RunSeen:
    """A run whose second shard has failed while the third still goes on."""
    began = NOW - 192
    jobs = (
        Job("shard 1", "passed", NOW - 100, NOW - 9, "unit/1"),
        Job("shard 2", "failed", NOW - 100, NOW - 1, "unit/2"),
        Job("shard 3", "running", NOW - 100, None, "unit/3"),
    )
    stages = (
        Stage("lint", "build", "passed", began, began + 24, 25, (Job("lint", "passed", began, began + 24, "lint"),)),
        Stage(
            "build",
            "build",
            "passed",
            began + 24,
            began + 92,
            70,
            (Job("build", "passed", began, began + 92, "build"),),
        ),
        Stage("unit", "test", "failed", NOW - 100, None, 96, jobs),
        Stage("integration", "test", "waiting"),
        Stage("e2e", "test", "waiting"),
    )
    run = Run(f"run-{change}", sha(change), "running", stages, began, None, "main", "fay")
    return RunSeen(line=line, at=began, source="gh", run=run)


class DetailEngine(StillEngine):
    """It also reads logs and goes back to a named version."""

    def __init__(self, engine: StillEngine) -> None:
        super().__init__(engine.keeper, engine.view)
        self.logs: dict[str, list[str]] = {"unit/2": list(LOG), "unit/3": ["begun"], "lint": [], "build": ["built"]}
        self.ended = {"unit/2", "lint", "build", "unit/1"}
        self.trouble: Exception | None = None
        self.read: list[tuple[str, str, str, int]] = []

    def log(self, line: str, source: str, run: str, part: str, start: int) -> "Future[LogPart]":
        self.read.append((source, run, part, start))
        future: Future[LogPart] = Future()
        if self.trouble is not None:
            future.set_exception(self.trouble)
            return future
        lines = tuple(self.logs.get(part, ())[start : start + 500])
        done = part in self.ended and start + len(lines) >= len(self.logs.get(part, ()))
        future.set_result(LogPart(lines, start + len(lines), done))
        return future

    def rollback(self, line: str, expected: str = "", grace_s: float = 0.0, age_s: float = 0.0, **more: Any) -> Any:
        return self._ask("rollback", line, expected, grace_s, *more.values())


@contextmanager
def details(tmp: Path, *events: Event, bad: bool = True) -> Iterator[Shop]:
    """The incident of the pictures, with the judge's own record of it."""
    metrics = (REVENUE, METRICS["payments"][1])
    record = armed() if bad else None
    found = [event for name in ("checkout", "payments", "accounts") for event in calm(name, since=_since(name))]
    found = [batch(), *found, run_with_jobs()]
    if record is not None:
        said = [event for event in incident() if not isinstance(event, Judged) and event.line == "payments"]
        found += [record, *judged(), *said]
    made = Shop(tmp, [*found, *events], ("checkout", "payments", "accounts"))
    lines = {**made.config.lines, "payments": msgspec.structs.replace(made.config.lines["payments"], metrics=metrics)}
    made.config = msgspec.structs.replace(made.config, lines=lines)
    made.engine = DetailEngine(made.engine)
    made.keeper.submit(lambda ledger: ledger.keep("payments/revenue/min", rows(24, fell=bad))).result()
    try:
        yield made
    finally:
        made.keeper.close()


def _since(name: str) -> float | None:
    return float(MINUTES) if name == "payments" else None


async def looked(room: Any, pilot: Any, *keys: str, seen: Any = "") -> str:
    """Press keys; the screen once all that it waits for has come."""
    for key in keys:
        await pilot.press(key)
        await pilot.pause()
        room.paint()

    def ready(text: str) -> bool:
        there = seen(text) if callable(seen) else seen in text
        easel = getattr(getattr(room.front, "chart", None), "easel", None)
        waits = room.studying.waits or room.tailing._backlog or (easel is not None and easel.waits)
        return there and not waits and "reading the buckets" not in text

    return await settle(room, pilot, ready)
