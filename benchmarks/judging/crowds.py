"""What crowds do: promotions, bots, and visitors of another kind; and metrics that are small or noisy by nature."""

import numpy as np

from benchmarks.judging.play import Play


def promotion_starts(play: Play) -> None:
    """Demand jumps shortly before or after the deployment and dies down."""
    rng, minutes = play.rng, play.minutes
    start, rise, fade = rng.uniform(-20, 20), rng.uniform(0.1, 5), rng.uniform(10, 90)
    wave = np.clip((minutes - start) / rise, 0, 1) * np.exp(-np.clip(minutes - start - rise, 0, None) / fade)
    play.demand *= 1 + rng.uniform(0.3, 2.5) * wave


def _promotion(play: Play, start: float) -> None:
    rng = play.rng
    end, fade = rng.uniform(-10, 15), rng.uniform(0.1, 6)
    running = np.clip((play.minutes - start) / 3, 0, 1) * (1 - np.clip((play.minutes - end) / fade, 0, 1))
    play.demand *= 1 + rng.uniform(0.3, 1.8) * running


def promotion_ends(play: Play) -> None:
    """It began in the last hours and ends around the deployment: demand falls back to what it was."""
    _promotion(play, -play.rng.uniform(15, 110))


def long_promotion_ends(play: Play) -> None:
    """The same, but it went on for so long that only other days tell what is usual."""
    _promotion(play, -play.rng.uniform(120, 480))


def bots_come_and_go(play: Play) -> None:
    """Bursts of one or two minutes of visits that never convert, now and in the past."""
    rng = play.rng
    for start in [
        *rng.uniform(play.minutes[0], 0, int(rng.integers(2, 12))),
        *rng.uniform(1, 25, int(rng.integers(1, 3))),
    ]:
        play.idle[play.during(start, start + rng.uniform(1, 2))] += rng.uniform(0.5, 5)


def bots_stay(play: Play) -> None:
    """From some minutes after the deployment on, many visits never convert; the number of orders is as ever."""
    start = play.rng.uniform(0, 15)
    play.idle[play.during(start, start + play.rng.uniform(8, 40))] += play.rng.uniform(0.4, 4)


def other_visitors(play: Play) -> None:
    """A campaign brings more visitors who buy less often."""
    start = play.rng.uniform(0, 12)
    here = play.during(start, start + play.rng.uniform(15, 60))
    more, eager = play.rng.uniform(0.3, 1.5), play.rng.uniform(0, 0.4)
    play.demand[here] *= 1 + more
    play.change[here] *= (1 + more * eager) / (1 + more)


def fewer_buyers(play: Play) -> None:
    """Visitors change and their number does not: nothing in the metric tells this from harm."""
    start = play.rng.uniform(0, 12)
    play.worse(play.during(start, start + play.rng.uniform(15, 60)), play.rng.uniform(0.1, 0.4))


def small(play: Play) -> None:
    """So few events that most buckets are empty."""
    metric, rng = play.metric, play.rng
    usual = {"conversion": (3, 40), "errors": (20, 200)}.get(metric.name, (0.2, 4))
    metric.rate = rng.uniform(*usual)


def noisy(play: Play) -> None:
    """A level that is never still."""
    play.habit.noise = play.rng.uniform(0.03, 0.06)
    play.habit.memory_s = float(play.rng.choice([120, 300, 900, 2700]))


def wandering(play: Play) -> None:
    """A level that walks about, as if at random."""
    play.habit.wander = play.rng.uniform(0.03, 0.1)


def clumped(play: Play) -> None:
    """Events that come in clumps."""
    play.habit.spread = play.rng.uniform(4, 10)


def large_orders(play: Play) -> None:
    """Now and then one order is worth dozens of others."""
    play.metric.order, play.metric.large = play.rng.uniform(1.0, 1.3), play.rng.uniform(0.003, 0.03)
