"""The plant's things as andon's nouns: what its CI, its deploy target, its stations and its meters show to a reader."""

import math
from collections.abc import Callable
from typing import cast

from adapters._plant_shop import Shop
from adapters._plant_things import STATIONS, Piece, Rollout
from adapters._plant_trade import DAY_S, Harm, factor, log, measured, meters_down
from andon.clock import Time
from andon.model import (
    Deployment,
    DeploymentState,
    Job,
    LogPart,
    Part,
    Run,
    RunState,
    Sample,
    Samples,
    Stage,
    Station,
)
from andon.ports import Changes, Garbled, Passed, Unreachable

HISTORY_S = 30 * DAY_S
LISTED_CHANGES, LISTED_DEPLOYMENTS = 120, 60
"""How far back a first look goes."""
USUAL_S = {"build": 48.0, "test": 122.0}
KEPT_ARTEFACTS = 25
"""The versions of that many deployments can be deployed again."""


def run(shop: Shop, piece: Piece) -> Run:
    """A piece as the CI shows it."""
    stages = tuple(_stage(shop, piece, station) for station in STATIONS)
    change = shop.trunk.version(piece.number)
    return Run(piece.id, change, piece.state, stages, piece.at, piece.ended_at, "main", piece.who, piece.words)


def _stage(shop: Shop, piece: Piece, station: Station) -> Stage:
    tasks = piece.of(station)
    state = _together([task.state for task in tasks])
    jobs = tuple(Job(task.name, task.state, task.at, task.ended_at, task.name if task.at else "") for task in tasks)
    ends = [task.ended_at for task in tasks if task.ended_at is not None]
    ended_at = max(ends) if ends and state in ("passed", "failed", "cancelled") else None
    usual_s = USUAL_S.get(station, sum(shop.trade.roll_s) / 2.0)
    return Stage(station, station, state, tasks[0].at, ended_at, usual_s, jobs)


def _together(states: list[RunState]) -> RunState:
    """What the jobs of a stage add up to; between two of them it runs."""
    for state in ("failed", "cancelled", "running"):
        if state in states:
            return cast("RunState", state)
    if "passed" in states:
        return "running" if "waiting" in states else "passed"
    return "waiting"


def deployment(shop: Shop, rollout: Rollout) -> Deployment:
    """A deployment as the target shows it."""
    change = shop.trunk.version(rollout.number)
    return Deployment(
        rollout.id,
        change[:12],
        cast("DeploymentState", rollout.state),
        rollout.at,
        rollout.by,
        change,
        rollout.verified,
        is_kept(shop, rollout.number),
        rollout.number < rollout.before,
        words=rollout.words,
    )


def is_kept(shop: Shop, number: int) -> bool:
    """Whether the artefact of a change is still there: not yet deployed, or among the last that were."""
    last = shop.rollouts[-KEPT_ARTEFACTS:]
    return number > last[0].number or any(item.number == number for item in last)


def part(shop: Shop, station: str) -> Part:
    """What stands at a station, and what still moves there."""
    busy = shop.busy.get(station)
    moving: tuple[str, ...] = (busy.id,) if busy else ()
    if station == "deploy":
        moving = tuple(item.id for item in shop.rollouts[-3:] if item.state == "rolling" and item.piece)
    return Part(station, station in shop.halted, shop.halted.get(station, ""), moving)


def news(known: int, rev: int) -> Callable[[Shop], tuple[Changes, list[Run], int, int]]:
    """A reader of the changes after the first `known` ones, and of the runs that changed after `rev`."""

    def read(shop: Shop) -> tuple[Changes, list[Run], int, int]:
        first = known if known >= 0 else max(0, len(shop.commits) - LISTED_CHANGES)
        changes = Changes(tuple(commit.change for commit in shop.commits[first:]))
        runs = [run(shop, piece) for piece in shop.pieces.values() if piece.rev > rev]
        return changes, runs, len(shop.commits), shop.rev

    return read


def rolled(rev: int) -> Callable[[Shop], tuple[list[Deployment], int]]:
    """A reader of the deployments that changed after `rev`, oldest first."""

    def read(shop: Shop) -> tuple[list[Deployment], int]:
        fresh = [item for item in shop.rollouts[-LISTED_DEPLOYMENTS:] if item.rev > rev]
        return [deployment(shop, item) for item in fresh], shop.rev

    return read


def passed(shop: Shop, change: str) -> Passed:
    """Whether the tests passed for exactly that change; one run that passed is enough."""
    number = shop.trunk.find(change)
    if number is None:
        return Passed("unknown", f"no change {change!r} on {shop.line}")
    runs = [piece for piece in shop.pieces.values() if piece.number == number]
    if any(all(task.state == "passed" for task in piece.of("test")) for piece in runs):
        return Passed("yes")
    if any(piece.ended_at is None for piece in runs):
        return Passed("running")
    return Passed("no", runs[-1].words) if runs else Passed("unknown", "its run is older than the CI remembers")


def job_log(shop: Shop, run_id: str, name: str, start: int) -> LogPart:
    """What a job has written so far, from line `start` on. Raises Garbled if there is no such job."""
    piece = shop.pieces.get(run_id)
    task = next((task for task in piece.tasks if task.name == name), None) if piece else None
    if piece is None or task is None:
        raise Garbled(f"no job {name!r} of a run {run_id!r} on {shop.line}")
    done = 1.0 if task.ended_at is not None else (shop.time - task.at) / task.lasts_s if task.at else 0.0
    fails = task.fails if task.state == "failed" else ""
    lines = log(shop.trade, name, shop.trunk.version(piece.number), fails, done)
    start = max(0, start)
    return LogPart(lines[start:], max(start, len(lines)), piece.ended_at is not None or task.ended_at is not None)


def samples(line: str, series: str, start: Time, end: Time, every: float) -> Callable[[Shop], Callable[[], Samples]]:
    """A reader that takes down what the buckets of a series depend on, and returns what works them out."""

    def read(shop: Shop) -> Callable[[], Samples]:
        if meters_down(shop.seed, line, shop.time - shop.start):
            raise Unreachable(f"the meters of {line} do not answer; they come back within minutes")
        since = shop.start - HISTORY_S
        first = math.ceil(max(start, since) / every - 1e-9)
        last = math.floor(min(end, shop.time) / every + 1e-9)
        seed, harms = shop.seed, shop.harms
        words = "the plant remembers 30 days before its start" if start < since - every else ""
        return lambda: _work_out(seed, line, series, range(first, last), every, harms, words)

    return read


def _work_out(
    seed: int, line: str, series: str, buckets: range, every: float, harms: tuple[Harm, ...], words: str
) -> Samples:
    rows = []
    for bucket in buckets:
        at = bucket * every
        value, n = measured(seed, line, series, bucket, every, factor(harms, series, at, at + every))
        rows.append(Sample(at, value, n))
    if not rows:
        return Samples("empty", (), words or "no bucket has closed in that time")
    return Samples("partial" if words else "ok", tuple(rows), words)
