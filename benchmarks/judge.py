"""The judges behind the interface that benchmarks of change detectors use: one metric, buckets in, words out."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from andon.immune.armed import arm
from andon.immune.control_arming import ControlArmed, Unarmed, arm_beside
from andon.immune.control_judge import ControlJudge
from andon.immune.history import DAY_S, Frame
from andon.immune.judging import Judge, Regression
from andon.model import MetricKind

Row = tuple[float, float, float | None]
Beside = tuple[float, float, float | None, float, float | None]
"""Begin, value and exposure of the canary, value and exposure of the control."""
WATCH_S = 3600.0
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
        return _words(self.judge.found)


class ControlDetector:
    """A `ControlJudge` over rows of both sides. Without a past, latency and gauges are never called."""

    def __init__(
        self,
        metric_kind: MetricKind,
        direction: Literal["increase", "decrease"],
        baseline: Sequence[Beside],
        deploy_t: float,
        *,
        n_metrics: int = 1,
        step: float = 60.0,
        watch_s: float = WATCH_S,
        **_: object,
    ) -> None:
        frame = Frame(metric_kind, direction == "increase", step, deploy_t)
        rows = np.array(baseline, dtype=float).reshape(-1, 5)
        armed: ControlArmed | None = None
        self.why = ""
        try:
            armed = arm_beside(frame, rows, deploy_t + watch_s, metrics=n_metrics)
        except Unarmed as error:
            self.why = str(error)
        self.judge = ControlJudge(armed) if armed is not None else None
        self.onset: float | None = None

    def note_deploy(self, t: float) -> None:
        """A later deployment began."""
        if self.judge is not None:
            self.judge.note_deployment(t)

    def update(
        self,
        t: float,
        value: float | None,
        exposure: float | None,
        control_value: float | None,
        control_exposure: float | None,
    ) -> Literal["undecided", "regressed"]:
        """Take one closed bucket of both sides."""
        if self.judge is None:
            return "undecided"
        sides = [
            math.nan if item is None else float(item) for item in (value, exposure, control_value, control_exposure)
        ]
        found = self.judge.take(t, (sides[0], sides[1]), (sides[2], sides[3]))
        if found is None:
            return "undecided"
        self.onset = found.onset
        return "regressed"

    def explain(self) -> str:
        """What was found, in words."""
        return self.why or _words(self.judge.found if self.judge else None)


def _words(found: Regression | None) -> str:
    if found is None:
        return "undecided"
    return f"{found.effect:+.0%} [{found.low:+.0%}, {found.high:+.0%}], p < {found.p:.0e}"


make_detector = Detector
make_control_detector = ControlDetector
