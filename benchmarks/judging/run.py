"""Shows scenarios to judges, on every core, and keeps what they said."""

import importlib
import inspect
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from benchmarks.judging import scenarios
from benchmarks.judging.families import FAMILIES
from benchmarks.judging.play import Scenario

MakeDetector = Callable[..., Any]


@dataclass
class Said:
    """What one judge said about one scenario."""

    alarm_s: float | None = None
    """Seconds from the deployment to the end of the bucket at which it said *regressed*."""
    which: int | None = None
    """The series on which it did."""
    arm_ms: float = 0.0
    """Processor time to arm one metric."""
    update_us: float = 0.0
    error: str = ""


@dataclass
class Record:
    """One scenario's truth beside what was said."""

    family: str
    index: int
    group: str
    metric: str
    step: float
    days: float
    metrics: int
    learned: bool
    bad: int | None
    bad_from_s: float
    effect: float
    bound_min: float
    within_s: float
    said: dict[str, Said] = field(default_factory=dict)


@cache
def detector(path: str) -> tuple[MakeDetector, frozenset[str] | None]:
    """What `module:name` names, and the keywords it takes beyond the usual ones; None if it takes any."""
    module, _, name = path.partition(":")
    made = getattr(importlib.import_module(module), name)
    parameters = inspect.signature(made).parameters.values()
    anything = any(one.kind is one.VAR_KEYWORD for one in parameters)
    return made, None if anything else frozenset(one.name for one in parameters)


def arm(path: str, *usual: Any, n_metrics: int, step: float, **more: Any) -> Any:
    """A judge that watches; of `more` it is given what it takes and what is not empty."""
    made, takes = detector(path)
    more = {name: value for name, value in more.items() if value and (takes is None or name in takes)}
    return made(*usual, n_metrics=n_metrics, step=step, **more)


def watch(path: str, scenario: Scenario) -> Said:
    """Let the judge see the scenario, bucket by bucket, until it says *regressed*."""
    said = Said()
    try:
        _watch(path, scenario, said)
    except Exception as error:  # noqa: BLE001 - a judge that breaks is a finding, told in the table
        said.error = f"{type(error).__name__}: {error}"
    return said


def _watch(path: str, scenario: Scenario, said: Said) -> None:
    series, start = scenario.series, time.thread_time()
    many = {"n_metrics": len(series), "step": scenario.step, "past_deploys": scenario.past_deploys}
    judges = [arm(path, one.kind, one.direction, one.baseline, scenario.deploy_t, **many) for one in series]
    armed, updates = time.thread_time(), 0
    said.arm_ms = (armed - start) * 1e3 / len(series)
    arrivals = sorted(
        (row[0], place, number) for place, one in enumerate(series) for number, row in enumerate(one.live)
    )
    for t, place, number in arrivals:
        updates += 1
        if judges[place].update(*series[place].live[number]) == "regressed":
            said.alarm_s, said.which = t + scenario.step - scenario.deploy_t, place
            break
    said.update_us = (time.thread_time() - armed) * 1e6 / max(updates, 1)


def judge(task: tuple[int, str, int, tuple[str, ...]]) -> Record:
    """One scenario shown to all the judges."""
    seed, family, index, paths = task
    scenario = scenarios.make(seed, family, index)
    record = Record(
        family,
        index,
        FAMILIES[family].group,
        scenario.series[scenario.bad or 0].metric,
        scenario.step,
        scenario.history_s / 86400,
        len(scenario.series),
        bool(scenario.past_deploys),
        scenario.bad,
        scenario.bad_from_s,
        scenario.effect,
        scenario.bound_min,
        scenario.within_s,
    )
    record.said = {path: watch(path, scenario) for path in paths}
    return record


def over_cores(work: Callable[[Any], Any], tasks: Iterable[Any], jobs: int) -> Iterator[Any]:
    """The results as they come, in any order; without other processes if there is one job."""
    if jobs == 1:
        yield from map(work, tasks)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(work, tasks, chunksize=4)
