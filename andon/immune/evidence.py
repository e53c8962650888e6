"""Evidence that a deployment made a metric worse, bucket by bucket, valid at every look.

A mixture over onsets k and effects f of likelihood ratios, each divided by the variance inflation of its window::

    log E_t = log sum_{k,f} pi_k w_f exp( sum_{i=k..t} l_i(f) / F(k, t-k+1) )

With F = 1 each term is a martingale that starts at its prior mass, so P(E ever reaches 1/alpha) <= alpha for a healthy
deployment, however often one looks (Ville 1939; Shin, Ramdas & Rinaldo, E-detectors, 2022). Onsets before the deployment
and after a later one compete for the same evidence: `blame` says whose it is.
"""

import math

import numpy as np

from andon.clock import Time
from andon.immune.arith import Floats, as_floats, log_sum_exp
from andon.immune.armed import Armed
from andon.immune.history import ABSURD
from andon.immune.standing import OWN_MASS

NEAR_MASS, NEAR_MIN = 0.45, 15.0
"""Prior mass of an onset within so many minutes; `OWN_MASS` at the deployment itself, the rest later."""
PERSIST_S = 180.0
"""An onset may be called when it is this old."""
CLIP = 0.8
"""One minute brings at most this part of the threshold."""
RESTART_TOTAL = 0.25
"""The restart window brings at most this part of the threshold, in all."""
EXPECTED_TO_HOLD = 5.0
"""Exact zeros are held back where more events than this were expected."""
NOTHING = math.log(0.01)
"""A gauge of logarithms that shows nothing at all is taken for a hundredth of what it was."""


class Evidence:
    """The evidence of one watch. Buckets come in order; those that cannot be used are left out."""

    def __init__(self, armed: Armed) -> None:
        self.armed = armed
        self.frame = armed.frame
        self.effects = armed.effects
        self.count = 0
        """How many entries: a bucket is one, and a run of held zeros with the bucket that ends it is one."""
        size = self.size = armed.watched or len(armed.factors)
        kinds = len(self.effects)
        self.inflated = armed.inflation.whole(size)
        self.log_prior = _log_prior(size, self.frame.buckets(NEAR_MIN))
        self.log_weights = armed.log_weights
        self.at = np.zeros(size)
        """When each entry begins."""
        self.place = np.zeros(size + 1, dtype=int)
        """How many buckets lie before each entry: gaps are not counted."""
        self.y, self.expected = np.zeros(size), np.zeros(size)
        self.exposure = np.zeros(size)
        """Trials of each entry, else how many buckets it is."""
        self.clipped = np.zeros((size, kinds))
        """The log likelihood ratios, each clipped."""
        self.limited = np.zeros((size + 1, kinds))
        """Running sums of them, with what the restart window may bring at most."""
        self.raw = np.zeros((size + 1, kinds))
        """Running sums of the unclipped ones, without the restart window: clipping makes large effects tie."""
        self.log_evidence, self.most = -9.0, 0.0
        self.next_deployment: Time | None = None
        self._held: list[tuple[Time, float]] = []
        self._held_long = False
        self._recent = list(armed.load.recent)
        length, table = armed.inflation.lengths, armed.inflation.table[0]
        logs = np.log(np.array(length, dtype=float))
        self.f3 = float(np.interp(math.log(self.frame.buckets(3)), logs, table))
        self._cap = clip(armed)
        self._restart_cap = RESTART_TOTAL * armed.threshold * self.f3 * armed.step / armed.restart_s
        self._log_effects = np.log(self.effects)
        self._shifts = armed.shifts

    def factor(self, at: Time) -> float:
        """What season and hour say of the bucket that begins then."""
        index = max(0, round((at - self.armed.began) / self.armed.step))
        return self.armed.factors[min(index, len(self.armed.factors) - 1)]

    def take(self, at: Time, value: float, n: float) -> bool:
        """Take the closed bucket that begins at `at`; False: it brought nothing new (unusable, held back, or too late)."""
        n = n if abs(n) < ABSURD else math.nan
        if self.count >= self.size - 1 or not abs(value) < ABSURD or (value < 0 and not self.frame.additive):
            return False
        if self.frame.additive:
            return self._take_additive(at, value, n)
        if self.frame.proportion and not (math.isfinite(n) and n > 0 and value <= n):
            return False
        e = n if self.frame.proportion else 1.0
        value /= self.armed.scale or 1.0
        expected = self._expected(at, e)
        if self._holds(at, value, expected):
            self._held.append((at, e))
            return False
        if self._held:
            return self._take_held(at, value, e)
        self._enter(at, self._ratios(value, e, expected), value, expected, e, 1)
        return True

    def _expected(self, at: Time, e: float) -> float:
        """Events, successes or money that were expected in a bucket."""
        usual = self.armed.level * self.factor(at)
        if self.frame.proportion:
            usual = min(max(usual, 1e-9), 0.97)
        return usual * e

    def _holds(self, at: Time, value: float, expected: float) -> bool:
        """Whether an exact zero waits for what follows: it may be late, and come with the next bucket."""
        if value != 0 or expected <= EXPECTED_TO_HOLD or self._held_long or self.frame.rises:
            return False
        since = self._held[0][0] if self._held else at
        if at + self.armed.step - since < self.armed.hold_s:
            return True
        self._held_long = True
        for begin, e in self._held:
            if self.frame.additive:
                self._enter(begin, self._additive(NOTHING), NOTHING, 1.0, 1.0, 1)
                continue
            usual = self._expected(begin, e)
            self._enter(begin, self._ratios(0.0, e, usual), 0.0, usual, e, 1)
        self._held.clear()
        return False

    def _take_held(self, at: Time, value: float, e: float) -> bool:
        """The run of zeros is over: it and this bucket are looked at as one."""
        parts = [*self._held, (at, e)]
        self._held.clear()
        expected = sum(self._expected(begin, part) for begin, part in parts)
        total = sum(part for _, part in parts)
        if self.frame.proportion and value > total:
            return False
        self._enter(parts[0][0], self._ratios(value, total, expected), value, expected, total, len(parts))
        return True

    def _ratios(self, y: float, e: float, expected: float) -> Floats:
        """The log likelihood ratios over the effects: binomial, or Poisson (money: its F carries the unit)."""
        if not self.frame.proportion:
            return y * self._log_effects - expected * (self.effects - 1)
        p = expected / e
        worse = np.clip(p * self.effects, 1e-9, 0.985)
        return y * np.log(worse / p) + (e - y) * np.log((1 - worse) / (1 - p))

    def _take_additive(self, at: Time, value: float, n: float) -> bool:
        armed = self.armed
        if armed.scale:
            rest = value / armed.scale - self.factor(at) - armed.level
        elif value <= 0:
            if self._holds(at, 0.0, math.inf):
                self._held.append((at, 1.0))
                return False
            rest = NOTHING
        else:
            self._held.clear()  # zeros between ordinary values were the measurement's
            rest = math.log(value) - self._load_effect(n) - self.factor(at) - armed.level
        self._enter(at, self._additive(rest), rest, 1.0, 1.0, 1)
        return True

    def _additive(self, rest: float) -> Floats:
        """The log likelihood ratios of a difference: Gaussian."""
        return (rest * self._shifts - self._shifts * self._shifts / 2) / self.armed.variance

    def _load_effect(self, n: float) -> float:
        """What the number of requests explains of a latency."""
        load = self.armed.load
        if not load.slope or not math.isfinite(n) or n <= 0:
            return 0.0
        self._recent = [*self._recent, math.log(n)][-load.window :]
        return load.slope * (sum(self._recent) / len(self._recent) - load.mean)

    def _enter(self, at: Time, ratios: Floats, y: float, expected: float, exposure: float, buckets: int) -> None:
        if self.count >= self.size - 1:
            return
        index = self.count
        clipped = np.clip(ratios, -self._cap * buckets, self._cap * buckets)
        self.clipped[index] = clipped
        in_restart = at - self.armed.began < self.armed.restart_s and self.armed.step <= 120
        self.raw[index + 1] = self.raw[index] if in_restart else self.raw[index] + ratios
        if in_restart:
            clipped = np.minimum(clipped, self._restart_cap * buckets)
        self.limited[index + 1] = self.limited[index] + clipped
        self.at[index], self.y[index], self.expected[index] = at, y, expected
        self.exposure[index] = exposure
        self.place[index + 1] = self.place[index] + buckets
        self.count = index + 1

    def windows(self) -> Floats:
        """F of the window from each entry up to now."""
        begin = np.minimum(self.place[: self.count], self.size - 1)
        length = np.clip(self.place[self.count] - begin, 1, self.size)
        found: Floats = self.inflated[begin, length - 1]
        return found

    def terms(self, sums: Floats) -> Floats:
        """The log terms of the mixture, by onset and effect."""
        moved = (sums[self.count] - sums[: self.count]) / self.windows()[:, None]
        found: Floats = moved + self.log_prior[: self.count, None] + self.log_weights
        return found

    def weigh(self) -> Floats:
        """The terms up to now; `log_evidence` and `most` are brought up to date. Not before the first entry."""
        terms = self.terms(self.limited)
        self.log_evidence = log_sum_exp(terms)
        self.most = max(self.most, self.log_evidence)
        return terms

    def blame(self) -> float:
        """Log odds that it began with this deployment or after it, and before a later one."""
        terms = self.terms(self.raw)
        others = []
        if self.armed.earlier is not None:
            f = float(self.windows()[0])
            others.append(log_sum_exp(np.array(self.armed.earlier) + self.raw[self.count] / f))
        later = self.next_deployment
        if later is not None and self.at[self.count - 1] >= later:
            index = int(np.searchsorted(self.at[: self.count], later))
            theirs = terms[index:].copy()
            theirs[0] += math.log(OWN_MASS) - self.log_prior[index]
            others.append(log_sum_exp(theirs))
            terms = terms[:index]
        ours = log_sum_exp(terms) if len(terms) else -99.0
        return ours - (log_sum_exp(np.array(others)) if others else -99.0)


def clip(armed: Armed) -> float:
    """What one bucket may bring at most. Of coarse buckets the fewest that may be called must be able to carry it."""
    least = max(2, math.ceil(PERSIST_S / armed.step))
    f = max(armed.inflation.at(0, armed.frame.buckets(30)), armed.inflation.at(0, least))
    return CLIP * armed.threshold * f * (max(armed.step / 60.0, 0.25) if armed.step <= 60 else 1.0)


def _log_prior(size: int, near: int) -> Floats:
    """The log prior mass of an onset at each bucket."""
    mass = np.full(size, (1 - OWN_MASS - NEAR_MASS) / max(size - 1, 1))
    near = max(1, min(near, size - 1))
    mass[1 : near + 1] += NEAR_MASS / near
    mass[0] = OWN_MASS
    return as_floats(np.log(mass))
