"""The judge behind the interface that benchmarks of change detectors use: one metric, buckets in, words out."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from andon.immune.armed import arm
from andon.immune.history import DAY_S, Frame
from andon.immune.judging import Judge
from andon.model import MetricKind

Row = tuple[float, float, float | None]
EPOCH_S = 1e8
"""Times below this count from a Monday, not from 1970."""


class Detector:
    """A `Judge` over rows of (begin, value, trials)."""

    def __init__(
        self,
        metric_kind: MetricKind,
        direction: Literal["increase", "decrease"],
        baseline: Sequence[Row],
        deploy_t: float,
        *,
        n_metrics: int = 1,
        step: float = 60.0,
        suspects: Sequence[float] = (),
        past_deploys: Sequence[float] | None = None,
        **_: object,
    ) -> None:
        self._ahead = 4 * DAY_S if deploy_t < EPOCH_S else 0.0  # 5 January 1970 was the first Monday
        rows = np.array(baseline, dtype=float).reshape(-1, 3)  # None becomes NaN
        frame = Frame(metric_kind, direction == "increase", step, deploy_t + self._ahead)
        self.judge = Judge(
            arm(
                frame,
                rows[:, 0] + self._ahead,
                rows[:, 1],
                rows[:, 2],
                metrics=n_metrics,
                suspects=[at + self._ahead for at in suspects],
                past=None if past_deploys is None else [at + self._ahead for at in past_deploys],
            )
        )
        self.grace = self.judge.armed.restart_s
        self.onset: float | None = None

    def note_deploy(self, t: float) -> None:
        """A later deployment began."""
        self.judge.note_deployment(t + self._ahead)

    def update(self, t: float, value: float | None, n: float | None = None) -> Literal["undecided", "regressed"]:
        """Take one closed bucket."""
        found = self.judge.take(
            t + self._ahead, math.nan if value is None else float(value), math.nan if n is None else float(n)
        )
        if found is None:
            return "undecided"
        self.onset = found.onset - self._ahead
        return "regressed"

    def explain(self) -> str:
        """What was found, in words."""
        found = self.judge.found
        if found is None:
            return "undecided"
        return f"{found.effect:+.0%} [{found.low:+.0%}, {found.high:+.0%}], p < {found.p:.0e}"


make_detector = Detector
