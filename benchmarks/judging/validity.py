"""Does looking all the time cost more false alarms than promised? The chance of one on a known model, counted."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.judging import chance, harm
from benchmarks.judging.metrics import draw_metric
from benchmarks.judging.play import blank, series_of
from benchmarks.judging.scenarios import rng_of
from benchmarks.judging.world import DAY, HOUR, Habit

NAMES = ("orders", "conversion", "errors", "latency", "queue")


@dataclass(frozen=True)
class Counted:
    """How many healthy watches ended in an alarm."""

    alarms: int
    runs: int

    def by_chance(self, alpha: float) -> float:
        """Probability of so many alarms or more if each watch has one with probability alpha."""
        return chance.at_least(self.alarms, self.runs, alpha)

    @property
    def at_most(self) -> float:
        """What the chance of an alarm may be, with 95 % confidence."""
        return chance.upper_bound(self.alarms, self.runs)


def count_alarms(
    make_detector: Callable[..., Any], runs: int, seed: int = 1, *, looks: int = 60, history_s: float = 6 * HOUR
) -> Counted:
    """Watch deployments that change nothing, on flat metrics of which only the counting is random, minute by minute."""
    alarms = 0
    for index in range(runs):
        rng = rng_of(seed, "validity", index)
        deploy_t = 21 * DAY + 60.0 * int(rng.integers(7 * 1440))
        metric = draw_metric(rng, NAMES[index % len(NAMES)])
        play = blank(rng, metric, Habit(), 60.0, deploy_t, history_s, looks * 60.0)
        harm.known(play)
        series = series_of(play)
        judge = make_detector(series.kind, series.direction, series.baseline, deploy_t, n_metrics=1, step=60.0)
        alarms += any(judge.update(*row) == "regressed" for row in series.live)
    return Counted(alarms, runs)
