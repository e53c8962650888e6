"""Bursts: for how long a metric has been bad by itself, with no deployment near. They are not to be blamed on one."""

from collections.abc import Sequence

import numpy as np

from andon.clock import Time
from andon.immune.arith import Flags, Whole
from andon.immune.inflation import Inflation
from andon.immune.levels import Levels

ODD_Z = 4.0
MOST_MIN = 6
"""What is bad for longer is an incident, not a burst."""
AWAY_MIN = 8
"""A burst so soon after a deployment is a restart."""


def bursts(levels: Levels, inflation: Inflation, deployments: Sequence[Time]) -> float:
    """Seconds of the longest burst of two buckets and a minute at least; 0: there was none."""
    frame, size, window = levels.frame, levels.size, inflation.window
    apart = frame.buckets(MOST_MIN)
    index = np.arange(window + apart, size)
    if len(index) < apart:
        return 0.0
    y, e = np.diff(levels.sums)[index], np.diff(levels.exposure)[index]
    begin, end = index - apart - window, index - apart
    exposure = levels.exposure[end] - levels.exposure[begin]
    level = (levels.sums[end] - levels.sums[begin]) / np.maximum(exposure, 1e-12)
    expected = level * e
    f = inflation.at(apart, 1)
    if frame.additive:
        spread = np.full(len(index), np.sqrt(levels.variance * f))
    else:
        spread = np.sqrt(np.maximum(expected, 0.5) * (1 - levels.share) * f)
    odd = (frame.sign * (y - expected) / spread > ODD_Z) & (e > 0) & (exposure > 0)
    for at in deployments:
        place = size + round((at - frame.began) / frame.step)
        odd &= (index < place) | (index >= place + frame.buckets(AWAY_MIN))
    runs = _runs(odd)
    least = max(2, round(60 / frame.step))
    return max((float(run) * frame.step for run in runs if least <= run <= apart), default=0.0)


def _runs(odd: Flags) -> Whole:
    """The lengths of the runs of set flags."""
    edges = np.diff(np.concatenate(([0], odd.astype(int), [0])))
    return np.nonzero(edges == -1)[0] - np.nonzero(edges == 1)[0]
