"""Deployments that do harm: at once or later, sharply or slowly, to everybody or to some."""

import numpy as np

from benchmarks.judging import metrics
from benchmarks.judging.metrics import factor
from benchmarks.judging.play import Play

FALLS = ((0.2, 0.3, 0.5, 0.8), (0.3, 0.3, 0.2, 0.2))
LEVELS = ((0.2, 0.3, 0.5, 1.0), (0.3, 0.3, 0.2, 0.2))
RATIOS = ((0.5, 1.0, 2.0, 5.0, 10.0), (0.2, 0.2, 0.2, 0.2, 0.2))


def _multiplies(play: Play) -> bool:
    """Whether harm multiplies the metric rather than adding some percent: failures do."""
    return play.metric.rising and play.metric.kind in ("proportion", "count")


def draw_size(play: Play) -> float:
    """A harm that is worth a rollback."""
    sizes, odds = RATIOS if _multiplies(play) else LEVELS if play.metric.rising else FALLS
    return float(play.rng.choice(sizes, p=odds))


def sharp(play: Play, effect: float, start_min: float = 0.0) -> None:
    """Worse by this much from the first bucket that begins at this minute or later."""
    start_s = float(np.ceil(start_min * 60 / play.step) * play.step)
    play.bad_from_s, play.effect, play.telling = start_s, effect, effect
    play.worse(play.t >= play.deploy_t + start_s, effect)


def step(play: Play) -> None:
    """Worse from the deployment on."""
    sharp(play, draw_size(play))


def later(play: Play) -> None:
    """Worse from three to fifteen minutes after it."""
    sharp(play, draw_size(play), play.rng.uniform(3, 15))


def outage(play: Play) -> None:
    """Nothing works any more."""
    sharp(play, 1.0 if not play.metric.rising else 20.0 if _multiplies(play) else 3.0)


def some_users(play: Play) -> None:
    """It is broken for a fifth to two fifths of all users."""
    share = play.rng.uniform(0.2, 0.4)
    much = play.rng.uniform(5, 20) if _multiplies(play) else play.rng.uniform(0.8, 1.5) if play.metric.rising else 1.0
    sharp(play, share * much)


def slight(play: Play) -> None:
    """Worse by what is hard to see."""
    sharp(play, float(play.rng.choice([0.1, 0.2] if _multiplies(play) else [0.05, 0.1])))


def slowly(play: Play) -> None:
    """Worse from minute to minute, as with a leak; the bound is that of half the harm."""
    effect, lasts = draw_size(play), play.rng.uniform(5, 30)
    play.bad_from_s, play.effect, play.telling = 0.0, effect, effect / 2
    there = np.clip((play.minutes + play.step / 60) / lasts, 0, 1) * (play.minutes >= 0)
    play.change *= 1 + (factor(play.metric, effect) - 1) * there


def much_worse(play: Play) -> None:
    """Far worse than what was already wrong before."""
    sharp(play, play.rng.uniform(2, 10) if _multiplies(play) else play.rng.uniform(0.5, 0.9))


def known(play: Play) -> None:
    """Ready the metric of a known model so that Lorden's bound for a harm at hand lies between 3 and 15 minutes."""
    metric, rng = play.metric, play.rng
    metric.jitter = metric.memory_s = metric.demand = 0.0
    play.telling = float(rng.choice([0.5, 1.0] if _multiplies(play) else [0.1, 0.2, 0.3]))
    wanted = metrics.log_uniform(rng, 3, 15)
    now = metrics.bound_min(metrics.information(metric, play.habit, 1.0, play.telling, play.step))
    metric.rate *= now / wanted
    metric.sd *= (wanted / now) ** 0.5 if metric.kind == "gauge" else 1


def known_step(play: Play) -> None:
    """The harm that `known` made ready, at the deployment."""
    sharp(play, play.telling)


def known_later(play: Play) -> None:
    """The same, 3 to 14 minutes later."""
    sharp(play, play.telling, float(play.rng.integers(3, 15)))
