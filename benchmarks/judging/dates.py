"""What the calendar and the clock do: steep hours, weekends, holidays, summer time, and jobs that start on the hour."""

import math

import numpy as np

from benchmarks.judging.play import Play
from benchmarks.judging.world import DAY, HOUR, MINUTE, season

WEEK = 7 * DAY


def near_a_weekend(rng: np.random.Generator, step: float) -> float:
    """A moment within five hours of a weekend's beginning or end."""
    return 3 * WEEK + float(rng.choice([5, 7])) * DAY + rng.uniform(-5, 5) * HOUR


def steep(play: Play) -> None:
    """The deployment falls on the steepest flank of the day, the one that looks like harm."""
    hours = np.arange(0, DAY, 5 * MINUTE)
    slope = np.gradient(season(play.habit, hours, np.zeros(len(hours))))
    steepest = hours[np.argmax(slope if play.metric.rising else -slope)]
    play.habit.peak_s += play.deploy_t % DAY - steepest + play.rng.uniform(-30, 30) * MINUTE


def summer_time(play: Play) -> None:
    """Some time in the history the clocks were changed, and people with them."""
    days = min(9.0, -play.minutes[0] / 1440)
    changed = play.deploy_t - play.rng.uniform(0.1, days) * DAY
    play.clock_s[play.t >= changed] += play.rng.choice([-HOUR, HOUR])


def holiday(play: Play) -> None:
    """Today, yesterday, a day before that, or this day a week ago was a day off."""
    play.habit.weekend = math.log(play.rng.uniform(0.3, 0.8))
    first = play.deploy_t // DAY - play.rng.choice([0, 1, 2, 7])
    edges = [first - 0.125, first + 0.125, first + 0.875, first + 1.125]
    play.off += np.interp(play.t / DAY, edges, [0, 1, 1, 0])


def hourly_job(play: Play) -> None:
    """At the same minutes of each hour the metric looks otherwise, for better or for worse."""
    rng = play.rng
    every = float(rng.choice([HOUR, HOUR / 2, HOUR / 4]))
    first, lasts = rng.uniform(0, every), max(rng.uniform(1, 3) * MINUTE, play.step)
    running = (play.t - first) % every < lasts
    play.change[running] *= math.exp(rng.choice([-1, 1]) * rng.uniform(0.15, 0.7))


def daily_job(play: Play) -> None:
    """Each day at about the time of this deployment a job runs and makes the metric worse."""
    rng = play.rng
    start, lasts, effect = (
        rng.uniform(-5, 20),
        rng.uniform(5, 20),
        play.harm(0.2, 0.5) if not play.metric.rising else 0.4,
    )
    for day in range(math.floor(play.minutes[0] / 1440), 1):
        begin = start + day * 1440 + rng.uniform(-1, 1)
        play.worse(play.during(begin, begin + lasts), effect)


def growth(play: Play) -> None:
    """A business that grows or shrinks by some percent a day."""
    play.habit.growth = play.rng.choice([-1, 1]) * play.rng.uniform(0.02, 0.06)


def drift(play: Play) -> None:
    """For hours the level has been sliding, by some percent an hour, and it slides on."""
    start = max(play.minutes[0], -play.rng.uniform(90, 480))
    by = play.rng.choice([-1, 1]) * play.rng.uniform(0.02, 0.08)
    play.change *= np.exp(by * np.clip(play.minutes - start, 0, None) / 60)


def new_level(play: Play) -> None:
    """Days ago the level changed for good, as after a new price or a lost customer."""
    days = min(8.0, -play.minutes[0] / 1440)
    before = play.t < play.deploy_t - play.rng.uniform(0.15, days) * DAY
    play.change[before] *= math.exp(play.rng.choice([-1, 1]) * play.rng.uniform(0.1, 0.4))
