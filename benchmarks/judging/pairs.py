"""Two deployments close together, each with a watch of its own: which one is blamed?"""

from dataclasses import dataclass, field

import numpy as np

from benchmarks.judging import harm, run, trouble
from benchmarks.judging.metrics import NAMES, draw_metric
from benchmarks.judging.play import Play, Row, blank
from benchmarks.judging.scenarios import WEEK, rng_of
from benchmarks.judging.world import DAY, draw_habit

WHO = ("nobody", "first", "second")
"""Who does harm."""
WATCH_S = 1800.0


@dataclass
class Blamed:
    """Who was rolled back: minutes after the own deployment, or None."""

    who: str
    first: dict[str, float | None] = field(default_factory=dict)
    second: dict[str, float | None] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def right(self, path: str) -> bool:
        """Whether only the one that did harm was, or none if none did."""
        first, second = self.first[path] is not None, self.second[path] is not None
        return (first, second) == (self.who == "first", self.who == "second")


def make(seed: int, who: str, index: int) -> tuple[Play, float]:
    """What happens, with the second deployment at its `deploy_t`; and the time of the first.

    Harm is such that the best judge needs at most five minutes; it is drawn until it is.
    """
    rng = rng_of(seed, f"pair, {who}", index)
    gap_s = 60.0 * int(rng.integers(4, 36))
    while True:
        metric, habit = draw_metric(rng, NAMES[index % len(NAMES)]), draw_habit(rng)
        deploy_t = round((3 * WEEK + rng.uniform(0, WEEK)) / 60) * 60.0
        play = blank(rng, metric, habit, 60.0, deploy_t, 7 * DAY, WATCH_S)
        if who != "nobody":
            harm.sharp(play, harm.draw_size(play), 0 if who == "second" else -gap_s / 60)
        if who == "nobody" or play.bound_min() <= 5:
            break
    for at_min in (-gap_s / 60, 0):
        if rng.uniform() < 0.5:
            trouble.disturb(play, at_min, rng.uniform(0.5, 2))
    return play, deploy_t - gap_s


def judge(task: tuple[int, str, int, tuple[str, ...]]) -> Blamed:
    """Both watches over one pair, by all the judges; each is told of the other deployment."""
    seed, who, index, paths = task
    play, first_t = make(seed, who, index)
    rows, metric = play.rows().listed(), play.metric
    blamed = Blamed(who)
    for path in paths:
        blamed.first[path] = blamed.second[path] = None
        try:
            usual = (path, metric.kind, metric.direction, rows)
            blamed.first[path] = watch(*usual, first_t, later=play.deploy_t)
            blamed.second[path] = watch(*usual, play.deploy_t, earlier=first_t)
        except Exception as error:  # noqa: BLE001 - a judge that breaks is a finding, told in the table
            blamed.errors[path] = f"{type(error).__name__}: {error}"
    return blamed


def watch(
    path: str, kind: str, direction: str, rows: list[Row], deploy_t: float, later: float = np.inf, earlier: float = 0.0
) -> float | None:
    """Minutes from this deployment to *regressed*. `later` and `earlier` are the other deployment, if there is one."""
    baseline = [row for row in rows if row[0] < deploy_t]
    suspects = [earlier] if earlier else []
    judge = run.arm(path, kind, direction, baseline, deploy_t, n_metrics=1, step=60.0, suspects=suspects)
    told = False
    for row in rows[len(baseline) :]:
        if row[0] >= deploy_t + WATCH_S:
            break
        if row[0] >= later and not told and hasattr(judge, "note_deploy"):
            judge.note_deploy(later)
            told = True
        if judge.update(*row) == "regressed":
            return (row[0] + 60 - deploy_t) / 60
    return None
