"""The families of scenarios, and the one that a seed, a family and a number stand for."""

import zlib

import numpy as np

from benchmarks.judging.families import FAMILIES, Family
from benchmarks.judging.metrics import NAMES, draw_metric
from benchmarks.judging.play import Play, Scenario, blank, series_of
from benchmarks.judging.world import DAY, Habit, draw_habit

WEEK = 7 * DAY
HISTORY_DAYS = {
    60.0: (15, 14, 7, 3, 2, 1),
    30.0: (7, 7, 3, 3, 2, 1),
    15.0: (3, 3, 2, 2, 1, 1),
    10.0: (2, 2, 2, 1, 1, 1),
}
"""For buckets of so many seconds; of longer ones there is as much as of minutes."""
MOST_BUCKETS = 15 * 1440
"""Of history, however fine they are."""


def rng_of(seed: int, family: str, index: int) -> np.random.Generator:
    """The source of chance of one scenario; the same on every machine."""
    return np.random.default_rng([seed, zlib.crc32(family.encode()), index])


def make(seed: int, family: str, index: int) -> Scenario:
    """That scenario, always the same."""
    rng, how = rng_of(seed, family, index), FAMILIES[family]
    step, history_s = draw_grid(rng, how)
    deploy_t = how.moment(rng, step) if how.moment else 3 * WEEK + rng.uniform(0, WEEK)
    deploy_t = round(deploy_t / step) * step
    names = how.metrics or NAMES
    watch_s = max(how.watch_s, 12 * step)
    others = int(rng.choice([3, 7, 15])) if how.among_others else 0
    plays = [write(rng, how, names[index % len(names)], step, deploy_t, history_s, watch_s)]
    plays += [
        write(rng, FAMILIES["plain"], str(rng.choice(NAMES)), step, deploy_t, history_s, watch_s) for _ in range(others)
    ]
    place = int(rng.integers(len(plays)))
    play = plays[0]
    plays[0], plays[place] = plays[place], plays[0]
    scenario = Scenario(
        family,
        index,
        deploy_t,
        step,
        watch_s,
        history_s,
        [series_of(one) for one in plays],
        past_deploys=play.past_deploys,
    )
    if play.bad_from_s is not None:
        scenario.bad, scenario.bad_from_s, scenario.effect = place, play.bad_from_s, play.effect
        scenario.bound_min = play.bound_min()
        scenario.within_s = max(how.within_s, watch_s if step > 60 else 0)
    return scenario


def draw_grid(rng: np.random.Generator, how: Family) -> tuple[float, float]:
    """Seconds a bucket, and seconds of history."""
    step = float(rng.choice(how.steps)) if how.steps else float(rng.choice([60, 30, 15, 10], p=[0.7, 0.15, 0.05, 0.1]))
    if how.history_h:
        return step, float(min(round(rng.uniform(*how.history_h) * 3600 / step), MOST_BUCKETS)) * step
    days = HISTORY_DAYS.get(step, HISTORY_DAYS[60.0])
    return step, float(rng.choice(days, p=[0.2, 0.3, 0.2, 0.1, 0.1, 0.1])) * DAY


def write(
    rng: np.random.Generator, how: Family, name: str, step: float, deploy_t: float, history_s: float, watch_s: float
) -> Play:
    """One metric of a scenario, with everything that this family does to it."""
    metric = draw_metric(rng, name)
    habit = Habit() if how.flat else draw_habit(rng)
    play = blank(rng, metric, habit, step, deploy_t, history_s, watch_s)
    for happen in how.events:
        happen(play)
    return play
