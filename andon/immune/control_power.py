"""What a watch beside a control could have shown: the smallest effect that its buckets would have carried to a verdict.

An effect that began with the deployment brings on average what `control` says of a bucket in which the canary has what it
would have had then: that is linear in the canary's events, given those of both sides. The mixture takes its price from it.
"""

import math

import numpy as np

from andon.immune import control
from andon.immune.arith import Floats, as_floats, log_sum_exp
from andon.immune.control_judge import OWN, Beside
from andon.immune.lasting import MATERIAL, MATERIAL_FALL, MATERIAL_RATIO
from andon.immune.power import LARGEST_FALL, LARGEST_RATIO, LARGEST_RISE, LEAST, SPARE, STEPS


def material(beside: Beside) -> float:
    """The least effect that matters."""
    armed = beside.armed
    return MATERIAL.get(armed.kind) or (MATERIAL_RATIO if armed.rises else MATERIAL_FALL)


def smallest(beside: Beside) -> float | None:
    """The smallest effect, as a part of what was expected, that would have shown; None: none, however large."""
    armed = beside.armed
    largest = LARGEST_FALL
    if armed.rises:
        largest = LARGEST_RISE if armed.frame.additive else LARGEST_RATIO
    low, high = max(LEAST, material(beside)), largest
    if not _shows(beside, high):
        return None
    if _shows(beside, low):
        return low
    for _ in range(STEPS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if _shows(beside, middle) else (middle, high)
    return high


def _shows(beside: Beside, effect: float) -> bool:
    """Whether an effect of that size from the start would have reached the threshold on average."""
    armed = beside.armed
    if beside.count < 2:
        return False
    each = np.minimum(_on_average(beside, 1 + armed.frame.sign * effect), beside.cap)
    prior = beside.log_weights + math.log(OWN)
    return log_sum_exp(as_floats(beside.count * each / armed.inflation + prior)) >= armed.threshold + SPARE


def _on_average(beside: Beside, truth: float) -> Floats:
    """What the average bucket would have said, had the canary been `truth` times what was expected."""
    armed, rows = beside.armed, slice(0, beside.count)
    if armed.frame.additive:
        return control.log_shifts(beside.effects, truth, armed.variance)
    usual, other = float(beside.expected[rows].mean()), float(beside.control[rows].mean())
    both = float(beside.y[rows].mean()) + other
    if usual <= 0 or other <= 0:
        return np.zeros(len(beside.effects))
    part = usual / (usual + other)
    moved = both * truth * part / (truth * part + 1 - part)
    if not armed.frame.proportion:
        # As many events as there were on both sides, of which the canary has its share.
        return control.log_ratios(armed.kind, beside.effects, (moved, part), (both - moved, 1 - part), 1.0, armed.unit)
    trials, others = float(beside.exposure[rows].mean()), float(beside.trials[rows].mean())
    moved = min(max(moved, both - others), trials)
    canary, control_ = (moved, trials), (both - moved, others)
    return control.log_ratios(armed.kind, beside.effects, canary, control_, armed.before, armed.unit)
