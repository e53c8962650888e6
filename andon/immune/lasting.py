"""Whether a deviation lasts: not a blip, not a burst, still there, and large enough to matter.

Evidence alone would be right about the model and wrong about the world: restarts look like outages for a minute or two,
and a single bad bucket can carry any evidence.
"""

import math
from dataclasses import dataclass

import numpy as np

from andon.immune.arith import Floats, Whole, as_floats
from andon.immune.evidence import PERSIST_S, Evidence

REST = 0.43
"""What must be left of the threshold without the worst minutes, and by the typical block."""
BLOCKS = 0.55
"""This part of the blocks must show half of the effect."""
WORST_PART, BURSTY_PART = 0.25, 0.5
"""At most this part of the buckets is left out as the worst; more where the metric is known for bursts."""
LARGE = 2.5
"""Nats of one bucket that count as one of the worst."""
MATERIAL = {"count": 0.04, "sum": 0.05, "latency": 0.06, "gauge": 0.06}
MATERIAL_FALL, MATERIAL_RATIO = 0.03, 0.15
"""The least effect that matters: by kind; of a proportion that falls; of a rate that rises."""
INCIDENT = {"incident": 2.0, "growing": 1e9}
"""In an incident an effect must be so much larger; in one that still grows no deployment can be told apart."""
EVENTS_A_BLOCK = 3.0


@dataclass(frozen=True)
class Lasting:
    """A deviation that lasts: how large it is (a signed part: -0.23), and one standard deviation of that."""

    effect: float
    error: float


def lasting(evidence: Evidence, onset: int, kind: int) -> Lasting | None:
    """The deviation since entry `onset`, if it lasts; `kind` is the effect with the most evidence."""
    return _Look(evidence, onset, kind).found()


class _Look:
    """One look at the entries since an onset."""

    def __init__(self, evidence: Evidence, onset: int, kind: int) -> None:
        self.evidence, armed = evidence, evidence.armed
        self.additive, self.sign, self.end = armed.frame.additive, armed.frame.sign, evidence.count
        self.need = REST * armed.threshold
        self.least = max(2, math.ceil(PERSIST_S / armed.step))
        self.two = max(1, round(120 / armed.step))
        self.f = float(evidence.windows()[onset])
        # The size of an effect is judged after the restart window, but on two minutes at least.
        begin, keep = onset, min(self.two, self.least)
        while begin < self.end - keep and evidence.at[begin] - armed.began < armed.restart_s:
            begin += 1
        self.onset, self.begin = onset, begin
        self.whole = evidence.clipped[onset : self.end, kind]
        self.after = evidence.clipped[begin : self.end, kind]
        self.size = 1 if self.additive else self._block()

    def _block(self) -> int:
        """How many entries hold three expected events."""
        usual = float(np.mean(self.evidence.expected[self.begin : self.end]))
        return max(1, math.ceil(EVENTS_A_BLOCK / max(usual, 1e-9)))

    def found(self) -> Lasting | None:
        """The deviation, or None."""
        worst = self._worst()
        if not self._stands_without(worst) or not self._typical():
            return None
        effect, rows = self._effect(worst)
        if effect < self._material() * INCIDENT.get(self.evidence.armed.state, 1.0) or not self._still(effect):
            return None
        if self.additive:
            information = len(rows) / self.evidence.armed.variance
        else:
            information = float(self.evidence.expected[rows].sum()) / max(1 + self.sign * effect, 0.02)
        return Lasting(self.sign * effect, math.sqrt(self.f / max(information, 1e-9)))

    def _worst(self) -> int:
        """How many of the worst buckets do not count: two minutes, and more where several are large."""
        large = int((self.whole > LARGE * self.evidence.f3).sum())
        part = BURSTY_PART if self.evidence.armed.burst_s else WORST_PART
        return max(self.two, min(int(len(self.whole) * part), large))

    def _stands_without(self, worst: int) -> bool:
        """Evidence stands without its worst minutes, and the part after the restart window agrees by itself."""
        if len(self.whole) < 2:
            return False
        taken = np.sort(self.whole)[-min(worst, len(self.whole) - 1) :].sum()
        if (self.whole.sum() - taken) / self.f < self.need:
            return False
        return self.begin == self.onset or self.after.sum() / self.f >= self.need

    def _typical(self) -> bool:
        """The typical block carries it too, and most blocks show it: a burst is not typical."""
        count = len(self.after) // self.size
        if count >= 3:
            blocks = self.after[len(self.after) - count * self.size :].reshape(count, self.size).sum(axis=1)
            if count * float(np.median(blocks)) / self.f < self.need:
                return False
        if self.end - self.begin < self.size:
            return True
        rows = np.arange(self.begin, self.end)
        half = 0.5 * self.ratio(rows)
        count = max(1, len(rows) // self.size)
        cut = rows[len(rows) - count * self.size :].reshape(count, self.size)
        return float(np.mean(self._ratios(cut) >= half)) >= BLOCKS

    def _effect(self, worst: int) -> tuple[float, Whole]:
        """The effect without the worst buckets, and which buckets it was taken from."""
        rows = np.arange(self.begin, self.end)
        least = self.least if self.size == 1 else min(max(self.least, self.size), len(rows))
        if len(rows) > 2 * least:
            order = np.argsort(self._ratios(rows[:, None]))
            rows = np.sort(rows[order[: len(rows) - worst]])
        return self.ratio(rows), rows

    def _still(self, effect: float) -> bool:
        """It is still bad: the last minutes, the last block, and the last minutes without their worst bucket."""
        tail = np.arange(max(self.begin, self.end - self.least), self.end)
        if self.ratio(tail) < 0.5 * effect:
            return False
        last = np.arange(max(self.begin, self.end - self.size), self.end)
        now = self.ratio(last)
        error = self._error(effect, last)
        if now < 0.5 * effect and (error < 0.5 * effect or now < effect - 1.5 * error):
            return False
        if len(tail) > 1 and self.size == 1:
            tail = np.delete(tail, int(np.argmax(self._ratios(tail[:, None]))))
        return self.ratio(tail) >= 0.35 * effect

    def _error(self, effect: float, rows: Whole) -> float:
        """One standard deviation of the effect that a few entries show."""
        f3, armed = self.evidence.f3, self.evidence.armed
        if self.additive:
            return math.sqrt(armed.variance * f3)
        expected = max(float(self.evidence.expected[rows].sum()), 1e-9)
        return math.sqrt(f3 * max(1 + self.sign * effect, 0.05) / expected)

    def _material(self) -> float:
        armed = self.evidence.armed
        return MATERIAL.get(armed.kind) or (MATERIAL_RATIO if armed.rises else MATERIAL_FALL)

    def ratio(self, rows: Whole) -> float:
        """How far on the bad side those entries are, as a part of what was expected."""
        return float(self._ratios(rows[None])[0])

    def _ratios(self, groups: Whole) -> Floats:
        """The same for groups of entries, one a row."""
        armed = self.evidence.armed
        if not self.additive:
            top = self.evidence.y[groups].sum(axis=1)
            bottom = np.maximum(self.evidence.expected[groups].sum(axis=1), 1e-9)
            return as_floats(self.sign * (top / bottom - 1))
        rest = self.evidence.y[groups].mean(axis=1)
        if armed.scale:
            return as_floats(self.sign * rest / (abs(armed.level) if abs(armed.level) > 1e-9 else 1.0))
        return as_floats(self.sign * np.expm1(rest))
