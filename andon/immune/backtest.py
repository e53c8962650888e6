"""What the judge would have done: past deployments, and placebo deployments at other times of the same history.

A placebo is a time at which nothing was deployed: whatever the judge calls regressed there is a false alarm. Each trial is
armed with the history before it and followed bucket by bucket, by the same code as a deployment of today. Trials are
spread over worker processes; numpy is loaded only there.
"""

import asyncio
import math
import os
import random
import signal
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from andon.board import Watch
from andon.clock import Time, long_age
from andon.immune.statistical import HISTORY_S, LEAST_HISTORY_S, MOST_BUCKETS, SUSPECT_S, Sentences
from andon.model import Metric, Sample, to_json

if TYPE_CHECKING:
    from andon.immune.judging import Regression
    from andon.immune.pursuit import Pursuit

PLACEBOS = 200
"""Without a false alarm in so many, at most 1 in 67 is left possible."""
SEEN_PART = 0.5
"""A trial that misses more of its buckets is not judged."""
CHUNK = 8
"""Trials that a worker is given at once."""
MOST_WORKERS = 8
NICE = 5
"""Workers stand back behind an engine on the same machine."""


class Deployed(msgspec.Struct, frozen=True):
    """A past deployment."""

    at: Time
    version: str
    good: bool = True
    """Nothing bad is known of it: from those it is learned how long a restart looks bad."""


@dataclass(frozen=True)
class Series:
    """The closed buckets of a metric, oldest first; `n` is NaN where there are no trials or requests."""

    at: "array[float]"
    value: "array[float]"
    n: "array[float]"

    @classmethod
    def of(cls, rows: Sequence[Sample]) -> "Series":
        """The buckets as plain numbers, which go to another process at once."""
        n = (math.nan if row.n is None else row.n for row in rows)
        return cls(array("d", (row.at for row in rows)), array("d", (row.value for row in rows)), array("d", n))


class Asked(msgspec.Struct, frozen=True):
    """What is asked about one metric."""

    metric: Metric
    watch_s: float
    series: Series
    deployments: tuple[Deployed, ...]
    """Of the line, oldest first."""
    since: Time
    """Trials begin then."""
    metrics: int = 1
    """How many metrics of the line share the chance of a false alarm."""

    @property
    def reach_s(self) -> float:
        """How far back the judge looks."""
        return min(HISTORY_S, MOST_BUCKETS * self.metric.every)


class Trial(msgspec.Struct, frozen=True):
    """A deployment to be judged."""

    at: Time
    version: str = ""
    """Empty: a placebo."""


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of a trial."""

    at: Time
    version: str = ""
    unjudged: str = ""
    """Why it could not be judged; empty: it was."""
    seen: Time | None = None
    """When it would have been called regressed; None: it would not."""
    onset: Time | None = None
    sentence: str = ""
    effect: float | None = None
    """The smallest effect that its watch could show; None: none."""
    usual: float = 0.0
    usual_s: float | None = None
    """How long a usual effect would have taken; None: it would not have shown."""


# ---- which trials


def trials(asked: Asked, placebos: int = PLACEBOS, seed: int = 1) -> list[Trial]:
    """The past deployments whose watch is over, and up to so many placebos. The same seed gives the same ones."""
    if not asked.series.at:
        return []
    first, last = asked.series.at[0], asked.series.at[-1] + asked.metric.every
    past = [
        Trial(item.at, item.version)
        for item in asked.deployments
        if max(asked.since, first) <= item.at and item.at + asked.watch_s <= last
    ]
    # A judge of today has its whole history: a placebo is given as much of it as there is, half of the span at least.
    begin = max(asked.since, first + min(asked.reach_s, (last - first) / 2))
    dice = random.Random(f"{seed}/{asked.metric.name}")  # noqa: S311 - a placebo, not a secret
    slots = _slots(asked, begin, last, dice)
    chosen = sorted(dice.sample(slots, min(placebos, len(slots))))
    return [*past, *(Trial(at) for at in chosen)]


def _slots(asked: Asked, begin: Time, end: Time, dice: random.Random) -> list[Time]:
    """Times for placebos, none in the watch of a deployment, in that of another placebo, or with a deployment in its own."""
    watch, free = asked.watch_s, begin
    found: list[Time] = []
    for at in [*(item.at for item in asked.deployments), end]:
        room = int((at - free) // watch)
        if room > 0:
            spare = (at - free) - room * watch
            offset = free + dice.uniform(0, spare)
            found += [start for index in range(room) if (start := math.floor(offset + index * watch)) >= free]
        free = max(free, at + watch)
    return [at for at in found if at + watch <= end]


# ---- one trial


async def judge(asked: Asked, trial: Trial) -> Outcome:
    """Arm, follow and judge one trial as if it were a deployment of today."""
    import numpy as np

    from andon.immune.armed import arm
    from andon.immune.history import Frame
    from andon.immune.power import power
    from andon.immune.pursuit import Pursuit

    metric, every, until = asked.metric, asked.metric.every, trial.at + asked.watch_s
    at, value, n = (np.frombuffer(side) for side in (asked.series.at, asked.series.value, asked.series.n))
    # The bucket in which the deployment began holds both: it is left out.
    end, began = trial.at // every * every, math.ceil(trial.at / every - 1e-9) * every
    old, new, later = np.searchsorted(at, (end - asked.reach_s, end, began))
    if (new - old) * every < LEAST_HISTORY_S:
        return Outcome(trial.at, trial.version, f"only {long_age(float(new - old) * every)} of history")
    before = [item for item in asked.deployments if item.at < trial.at]
    armed = arm(
        Frame(metric.kind, metric.bad == "rises", every, began),
        at[old:new],
        value[old:new],
        n[old:new],
        metrics=asked.metrics,
        watch_s=until - began,
        suspects=[item.at for item in before if trial.at - item.at <= SUSPECT_S],
        past=[item.at for item in before if item.good and trial.at - SUSPECT_S > item.at >= end - asked.reach_s],
    )
    rows = _rows(asked, int(later), int(np.searchsorted(at, until - every + 1e-6, "right")))
    whole = max(1, int((until - began) // every))
    if len(rows) < SEEN_PART * whole:
        return Outcome(trial.at, trial.version, f"{whole - len(rows)} of {whole} buckets are missing")
    pursuit = Pursuit(to_json(armed).decode())
    await pursuit.follow(rows, [item.at for item in asked.deployments if item.at > trial.at], _here)
    shown = power(metric, armed, until - began)
    outcome = Outcome(trial.at, trial.version, effect=shown.effect, usual=shown.usual, usual_s=shown.usual_s)
    return _with(outcome, asked, pursuit, pursuit.found) if pursuit.found else outcome


async def _here(work: Callable[..., Any], *arguments: Any) -> Any:
    """Do work where it is asked for: a worker has no loop to keep free."""
    return work(*arguments)


def _rows(asked: Asked, start: int, end: int) -> list[Sample]:
    series = asked.series
    return [
        Sample(series.at[i], series.value[i], None if math.isnan(series.n[i]) else series.n[i])
        for i in range(start, end)
    ]


def _with(outcome: Outcome, asked: Asked, pursuit: "Pursuit", found: "Regression") -> Outcome:
    """The outcome with what was found, in the words of a verdict."""
    watch = Watch(outcome.version, outcome.version or "a placebo", outcome.at, outcome.at + asked.watch_s)
    verdict = Sentences(asked.metric, watch, found.seen).regressed(pursuit, found)
    return msgspec.structs.replace(outcome, seen=found.seen, onset=found.onset, sentence=verdict.sentence)


# ---- many trials


def run(
    asked: Sequence[Asked], wanted: Sequence[Sequence[Trial]], tick: Callable[[int, int], None] = lambda *_: None
) -> list[list[Outcome]]:
    """Judge the trials of each metric, in worker processes; `tick` hears how many are done, and of how many.

    Raises BrokenProcessPool if a worker is ended from outside. An interrupt ends the workers, and is raised.
    """
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import active_children, get_context

    chunks = [(i, list(part)) for i, items in enumerate(wanted) for part in _parts(items)]
    found: dict[int, list[Outcome]] = {i: [] for i in range(len(wanted))}
    total, done = sum(len(part) for _, part in chunks), 0
    if not chunks:
        return list(found.values())
    others = set(active_children())
    workers = min(os.cpu_count() or 1, MOST_WORKERS, len(chunks))
    with ProcessPoolExecutor(workers, get_context("spawn"), _begin, (tuple(asked),)) as pool:
        try:
            # The first submission starts the workers. They inherit that interrupts are held back: this process ends them.
            held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                futures = {pool.submit(_judge_all, i, part): i for i, part in chunks}
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, held)
            for future in as_completed(futures):
                found[futures[future]] += future.result()
                done += len(future.result())
                tick(done, total)
        except BaseException:
            for child in set(active_children()) - others:
                child.terminate()  # not after what they have in hand: whoever interrupts wants to go on
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [sorted(items, key=lambda item: item.at) for items in found.values()]


def _parts(items: Sequence[Trial]) -> Iterator[Sequence[Trial]]:
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]


_asked: tuple[Asked, ...] = ()
"""In a worker: what it was given when it began."""


def _begin(asked: tuple[Asked, ...]) -> None:
    """Make this process a worker: one thread of arithmetic, behind others, and gone when its parent is."""
    global _asked
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    os.nice(NICE)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _asked = asked


def _end_with_parent() -> None:
    from multiprocessing import parent_process

    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _judge_all(index: int, wanted: Sequence[Trial]) -> list[Outcome]:
    async def all_() -> list[Outcome]:
        return [await judge(_asked[index], trial) for trial in wanted]

    return asyncio.run(all_())
