"""Trouble that is not the deployment's: incidents before and around it, bursts, and restarts that are soon over."""

import numpy as np

from benchmarks.judging.play import Play


def bursts(play: Play) -> None:
    """Bad minutes by themselves, once or twice in the watch and now and then in the history."""
    rng = play.rng
    past = rng.uniform(play.minutes[0], -5, int(rng.integers(2, 12)))
    first = rng.uniform(2, 14)
    now = [first, first + rng.uniform(6, 14)][: int(rng.integers(1, 3))]
    for start in (*past, *now):
        play.worse(play.during(start, start + rng.uniform(1, 2)), play.harm())


def disturb(play: Play, at_min: float, lasts_min: float) -> None:
    """Some bad minutes, and then it is over."""
    play.worse(play.during(at_min, at_min + lasts_min), play.harm())


def restart(play: Play) -> None:
    """The restart disturbs the metric for up to two minutes."""
    disturb(play, 0, play.rng.uniform(0.3, 2))


def long_restart(play: Play) -> None:
    """For up to five, on a service of which no deployment is known yet."""
    disturb(play, 0, play.rng.uniform(2, 4.8))


def _deployed_before(play: Play, low: float, high: float) -> None:
    rng = play.rng
    for minute in np.sort(rng.uniform(play.minutes[0] + 60, -200, int(rng.integers(6, 15)))):
        at_s = float(np.floor(minute * 60 / play.step) * play.step)
        play.past_deploys.append(play.deploy_t + at_s)
        disturb(play, at_s / 60, rng.uniform(low, high))
    disturb(play, 0, rng.uniform(low, high))


def known_restart(play: Play) -> None:
    """A restart like those of the deployments before, which are known: of nothing up to five minutes."""
    kinds = [(0, 0), (0.3, 0.9), (1, 2), (2, 3.5), (3, 4.5)]
    _deployed_before(play, *kinds[int(play.rng.integers(len(kinds)))])


def quick_restart(play: Play) -> None:
    """A restart of less than a minute, or none to be seen, as in the deployments before, which are known."""
    _deployed_before(play, *[(0, 0), (0.3, 0.9)][int(play.rng.integers(2))])


def _incident(play: Play, start: float, end: float, effect: float | None = None) -> None:
    play.worse(play.during(start, end), play.harm(0.2, 0.8) if effect is None else effect)


def open_incident(play: Play) -> None:
    """Something broke before the deployment and stays broken."""
    _incident(play, -play.rng.uniform(3, 45), np.inf)


def faint_incident(play: Play) -> None:
    """The same, but so faint that it is seen only later."""
    effect = play.rng.uniform(0.15, 0.6) if play.metric.kind in ("count", "proportion") and play.metric.rising else None
    _incident(play, -play.rng.uniform(5, 60), np.inf, effect or play.rng.uniform(0.04, 0.15))


def growing_incident(play: Play) -> None:
    """Something has been getting worse for a while, and goes on getting worse for some minutes."""
    rng, minutes = play.rng, play.minutes
    start, end = -rng.uniform(10, 45), rng.uniform(0, 10)
    effect = min(play.harm(0.3, 0.8), 5.0)
    play.change *= 1 + (effect if play.metric.rising else -effect) * np.clip((minutes - start) / (end - start), 0, 1)


def passing_incident(play: Play) -> None:
    """It began before the deployment and ends in the watch, by itself."""
    _incident(play, -play.rng.uniform(3, 30), play.rng.uniform(2, 20))


def ended_incident(play: Play) -> None:
    """It was over shortly before."""
    end = -play.rng.uniform(1, 20)
    _incident(play, end - play.rng.uniform(10, 240), end)


def older_incident(play: Play) -> None:
    """It was over for long enough to know what is usual again."""
    end = -play.rng.uniform(5, 60)
    _incident(play, end - play.rng.uniform(10, 240), end)


def fixed_incident(play: Play) -> None:
    """The deployment is the fix: what it ships ends the incident within some minutes."""
    _incident(play, -play.rng.uniform(8, 120), play.rng.uniform(0, 5))


def past_incidents(play: Play) -> None:
    """Some in the days before."""
    for _ in range(int(play.rng.integers(1, 5))):
        start = play.rng.uniform(max(play.minutes[0], -6000), -60)
        _incident(play, start, start + play.rng.uniform(10, 120), play.harm(0.3, 0.9))
