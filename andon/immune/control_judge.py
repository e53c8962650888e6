"""The judge beside a control: buckets of both sides in, *regressed* or not out.

A mixture over onsets k and effects f, as in `evidence`, of what `control` says of each bucket::

    log E_t = log sum_{k,f} pi_k w_f exp( sum_{i=k..t} min(l_i(f), cap) / F )

Each factor exp(l) has a mean of at most 1 for a harmless deployment, so that with one F >= 1 for the whole watch (Jensen)
E is a non-negative supermartingale that starts at 1, and P(E ever reaches 1/alpha) <= alpha, however often one looks
(Ville 1939). Persistence only takes alarms away.
"""

import math
from collections.abc import Sequence

import numpy as np

from andon.clock import Time
from andon.immune import control
from andon.immune.arith import Floats, as_floats, log_sum_exp
from andon.immune.armed import grid, log_weights
from andon.immune.control import Side
from andon.immune.control_arming import ControlArmed
from andon.immune.evidence import CLIP, EXPECTED_TO_HOLD, PERSIST_S, RESTART_TOTAL
from andon.immune.judging import SURE_SD, Regression
from andon.immune.lasting import LARGE, MATERIAL, MATERIAL_FALL, MATERIAL_RATIO, REST

OWN, NEAR, NEAR_MIN = 0.4, 0.3, 5.0
"""Prior mass of an onset with the deployment, and within so many minutes after it; the rest is later."""
HOLD_S = 300.0
"""Exact zeros of the canary alone are held back so long: its side may report late. Both sides late are no evidence."""
WORST_S, WORST_PART = 120.0, 0.25
COVERED = 0.5
"""This part of the time since an onset must be known on both sides."""
STILL, STILL_SD = 0.5, 1.5
"""The last minute shows this part of the effect, or is so few standard deviations from it."""


class Beside:
    """The buckets of both sides that were used so far, and the evidence they carry."""

    def __init__(self, armed: ControlArmed) -> None:
        self.armed = armed
        self.effects = np.array(grid(armed.kind, armed.rises)[0])
        self.log_weights = log_weights(armed.kind, armed.rises)
        self.log_evidence = self.most = 0.0
        self.count = 0
        size = self.size = armed.size
        self.log_prior = np.log(_prior(size, armed.frame.buckets(NEAR_MIN)))
        self.at = np.zeros(size)
        self.ends = np.zeros(size)
        self.y, self.expected, self.exposure = np.zeros(size), np.zeros(size), np.zeros(size)
        self.control, self.trials = np.zeros(size), np.zeros(size)
        self.said = np.zeros((size, len(self.effects)))
        """What each bucket says of each effect, clipped."""
        self.sums = np.zeros((size + 1, len(self.effects)))
        """Running sums of it, with what the restart window may bring at most."""
        self._held: list[tuple[Time, Side, Side]] = []
        self._held_long = False
        # One bucket brings a part of the threshold at most.
        self.cap = CLIP * armed.threshold * armed.inflation * min(max(armed.step / 60, 0.25), 1.0)
        part = min(armed.step / armed.restart_s, 1.0)
        self._restart_cap = RESTART_TOTAL * armed.threshold * armed.inflation * part

    def take(self, at: Time, canary: Side, other: Side) -> bool:
        """Take a bucket of both sides; False: it brought nothing new (a side is missing, held back, or it is too late)."""
        armed = self.armed
        late = at + armed.step > armed.until + 1e-6 or at < armed.began - 1e-6 or self.count >= self.size
        if late or not control.usable(armed.kind, canary, other):
            return False
        if self._holds(at, canary, other):
            self._held.append((at, canary, other))
            return False
        first = self._held[0][0] if self._held else at
        parts = [*((one, two) for _, one, two in self._held), (canary, other)]
        self._held.clear()
        self._enter(first, at + armed.step, parts)
        return True

    def _holds(self, at: Time, canary: Side, other: Side) -> bool:
        """Whether an exact zero of the canary alone waits for what follows."""
        armed = self.armed
        if armed.rises or armed.frame.additive or canary[0] != 0 or self._held_long:
            return False
        if control.expected(armed.kind, canary, other, armed.before) / (armed.unit or 1.0) <= EXPECTED_TO_HOLD:
            return False
        since = self._held[0][0] if self._held else at
        if at + armed.step - since < HOLD_S:
            return True
        self._held_long = True
        for begin, one, two in self._held:
            self._enter(begin, begin + armed.step, [(one, two)])
        self._held.clear()
        return False

    def _enter(self, at: Time, end: Time, parts: Sequence[tuple[Side, Side]]) -> None:
        """Enter a bucket, or several as one: what they say is added up, which leaves the bound as it is."""
        if self.count >= self.size:
            return
        armed, index = self.armed, self.count
        usual = sum(control.expected(armed.kind, *both, armed.before) for both in parts)
        said = np.minimum(sum((self._says(*both) for both in parts), np.zeros(len(self.effects))), self.cap)
        self.said[index] = said
        if at - armed.began < armed.restart_s and armed.step <= 120:
            said = np.minimum(said, self._restart_cap)
        self.sums[index + 1] = self.sums[index] + said
        self.at[index], self.ends[index], self.expected[index] = at, end, usual
        self.y[index], self.control[index] = (sum(both[side][0] for both in parts) for side in (0, 1))
        if armed.frame.proportion:
            self.exposure[index], self.trials[index] = (sum(both[side][1] for both in parts) for side in (0, 1))
        else:
            self.exposure[index] = len(parts)
        self.count = index + 1

    def _says(self, canary: Side, other: Side) -> Floats:
        armed = self.armed
        if armed.frame.additive:
            ratio = canary[0] / control.expected(armed.kind, canary, other, armed.before)
            return control.log_shifts(self.effects, ratio, armed.variance)
        return control.log_ratios(armed.kind, self.effects, canary, other, armed.before, armed.unit)

    def weigh(self) -> Floats:
        """The log terms by onset and effect; `log_evidence` and `most` are brought up to date."""
        moved = (self.sums[self.count] - self.sums[: self.count]) / self.armed.inflation
        terms = as_floats(moved + self.log_prior[: self.count, None] + self.log_weights)
        self.log_evidence = log_sum_exp(terms)
        self.most = max(self.most, self.log_evidence)
        return terms

    def ratio(self, rows: "slice | Floats") -> float:
        """How far on the bad side those buckets are, as a part of what was expected."""
        sign = self.armed.frame.sign
        if self.armed.frame.additive:
            return sign * math.expm1(float(np.log(self.y[rows] / self.expected[rows]).mean()))
        return sign * (float(self.y[rows].sum()) / max(float(self.expected[rows].sum()), 1e-12) - 1)

    def error(self, rows: "slice | Floats") -> float:
        """One standard deviation of the logarithm of what was seen over what was expected there."""
        armed = self.armed
        y, usual = float(self.y[rows].sum()), float(self.expected[rows].sum())
        if armed.frame.additive:
            return math.sqrt(armed.inflation * armed.variance / max(len(self.y[rows]), 1))
        # A sum of which no order is known may have been one order.
        unit = armed.unit or (max(usual, y, 1e-12) if armed.kind == "sum" else 1.0)
        other, chance = float(self.control[rows].sum()), 0.0
        if armed.frame.proportion:
            chance = (y + other) / max(float((self.exposure[rows] + self.trials[rows]).sum()), 1e-12)
        both = 1 / max(y / unit, 0.5) + 1 / max(other / unit, 0.5)
        return math.sqrt(armed.inflation * both * max(1 - chance, 1e-6))


class ControlJudge:
    """Judges one metric of one deployment beside its control. The first regression found is final."""

    def __init__(self, armed: ControlArmed) -> None:
        self.armed = armed
        self.evidence = Beside(armed)
        self.found: Regression | None = None
        self._next: Time = math.inf

    def note_deployment(self, at: Time) -> None:
        """Another deployment of the line began: what the canary shows from then on is not of this one."""
        self._next = min(self._next, at)

    def take(self, at: Time, canary: Side, other: Side) -> Regression | None:
        """Take the next closed bucket, value and exposure of both sides; the regression, if there is one by now."""
        armed, evidence = self.armed, self.evidence
        if self.found is not None or at + armed.step > self._next or not evidence.take(at, canary, other):
            return self.found
        terms = evidence.weigh()
        if evidence.log_evidence < armed.threshold:
            return None
        # Only onsets that are old enough may be called, and on their own mass.
        count = evidence.count
        age = at + armed.step - evidence.at[:count]
        old = terms[(age >= PERSIST_S - 1e-6) & (count - np.arange(count) >= 2)]
        if not len(old) or log_sum_exp(old) < armed.threshold:
            return None
        onset, kind = divmod(int(np.argmax(old)), old.shape[1])
        effect = self._lasting(onset, kind)
        if effect is None or self._covered(onset) < COVERED * (at + armed.step - evidence.at[onset]):
            return None
        error = evidence.error(slice(self._after_restart(onset), count))
        low, high = (effect + 1) * math.exp(-SURE_SD * error) - 1, (effect + 1) * math.exp(SURE_SD * error) - 1
        p = min(1.0, math.exp(-evidence.most))
        self.found = Regression(float(evidence.at[onset]), at + armed.step, effect, low, high, p)
        return self.found

    def _covered(self, onset: int) -> float:
        """Seconds since an onset of which both sides are known."""
        rows = slice(onset, self.evidence.count)
        return float((self.evidence.ends[rows] - self.evidence.at[rows]).sum())

    def _after_restart(self, onset: int) -> int:
        """The first entry from `onset` on that is past the restart window, two minutes and two entries at least."""
        armed, evidence = self.armed, self.evidence
        begin, keep = onset, max(2, round(WORST_S / armed.step))
        while begin < evidence.count - keep and evidence.at[begin] - armed.began < armed.restart_s:
            begin += 1
        return begin

    def _lasting(self, onset: int, kind: int) -> float | None:
        """The signed effect, if it lasts: without its worst minutes, in the typical block, still there, large enough."""
        armed, evidence = self.armed, self.evidence
        begin, end = self._after_restart(onset), evidence.count
        said, need = evidence.said[begin:end, kind], REST * armed.threshold * armed.inflation
        # Two minutes, and more where several buckets carry much each.
        large = int((said > LARGE * armed.inflation).sum())
        worst = max(round(WORST_S / armed.step), min(int(len(said) * WORST_PART), large), 1)
        worst = min(worst, len(said) - 1)
        if float(said.sum() - np.sort(said)[-worst:].sum()) < need:
            return None
        size = max(1, math.ceil(3 / max(float(self._events(begin, end)), 1e-9)))
        blocks = len(said) // size
        if blocks >= 3:
            sums = said[len(said) - blocks * size :].reshape(blocks, size).sum(axis=1)
            if float(np.median(sums)) <= 0:
                return None
        effect = evidence.ratio(slice(begin, end))
        least = MATERIAL.get(armed.kind) or (MATERIAL_RATIO if armed.rises else MATERIAL_FALL)
        if effect < least or not self._still(begin, effect, size):
            return None
        return armed.frame.sign * effect

    def _events(self, begin: int, end: int) -> float:
        """How many events of the canary a bucket has on average; a level needs no more than one bucket."""
        if self.armed.frame.additive or (self.armed.kind == "sum" and not self.armed.unit):
            return math.inf
        return float(self.evidence.expected[begin:end].mean()) / (self.armed.unit or 1.0)

    def _still(self, begin: int, effect: float, size: int) -> bool:
        """It is still bad in the last minute and the last block, as far as so few buckets can tell."""
        evidence = self.evidence
        count = max(1, math.ceil(60 / self.armed.step), size)
        rows = slice(max(begin, evidence.count - count), evidence.count)
        now = evidence.ratio(rows)
        return now >= STILL * effect or now > effect - STILL_SD * evidence.error(rows)


def _prior(size: int, near: int) -> Floats:
    """The prior mass of an onset at each bucket: 1 in all."""
    mass = np.full(size, (1 - OWN - NEAR) / max(size - 1, 1))
    near = max(1, min(near, size - 1))
    mass[1 : near + 1] += NEAR / near
    mass[0] = OWN
    return as_floats(mass)
