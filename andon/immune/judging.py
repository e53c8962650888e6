"""The judge: buckets in, *regressed* or not out. Everything it knows is in the `Armed` record and the buckets it took."""

import math
from dataclasses import dataclass

import numpy as np

from andon.clock import Time
from andon.immune.arith import Flags, log_sum_exp
from andon.immune.armed import Armed
from andon.immune.evidence import PERSIST_S, Evidence
from andon.immune.lasting import lasting

AFTER_BURST_S = 120.0
"""An onset must outlast the longest known burst by this."""
MORE, AS_MANY, CHANCE_SD = 1.2, 0.95, 2.0
"""Trials jump by a fifth, while successes stay above this part of what they were, but for chance."""
BLAME = math.log(5)
"""It must be so much likelier that it began with this deployment than before it, or with a later one."""
SURE_SD = 2.6
"""Standard deviations either side of an effect."""


@dataclass(frozen=True)
class Regression:
    """What was found: when it began, when it was seen, and how large it is."""

    onset: Time
    seen: Time
    """The end of the bucket in which it was found."""
    effect: float
    """A signed part of what was expected: -0.23."""
    low: float
    high: float
    p: float
    """Anytime-valid: 1 / the most evidence."""


class Judge:
    """Judges one metric of one deployment. The first regression found is final."""

    def __init__(self, armed: Armed) -> None:
        self.armed = armed
        self.evidence = Evidence(armed)
        self.found: Regression | None = None
        self.crowded = False
        """It looks bad because more came who do not buy (bots, a promotion), while as many as ever do."""
        self._late_s = max(PERSIST_S, armed.burst_s + AFTER_BURST_S if armed.burst_s else 0.0)

    def note_deployment(self, at: Time) -> None:
        """Another deployment of the line began: what begins from then on is no evidence against this one."""
        known = self.evidence.next_deployment
        self.evidence.next_deployment = at if known is None else min(at, known)

    def take(self, at: Time, value: float, n: float = math.nan) -> Regression | None:
        """Take the next closed bucket; the regression, if there is one by now."""
        if self.found is not None or not self.evidence.take(at, value, n):
            return self.found
        terms = self.evidence.weigh()
        armed, evidence = self.armed, self.evidence
        if evidence.log_evidence < armed.threshold or evidence.blame() < BLAME:
            return None
        # Only onsets that are old enough may be called, and on their own mass.
        old = terms[self._old()]
        if not len(old) or log_sum_exp(old) < armed.threshold:
            return None
        onset, kind = divmod(int(np.argmax(old)), old.shape[1])
        if not self._past_restart(at, onset):
            return None
        deviation = lasting(evidence, onset, kind)
        if deviation is None or abs(deviation.effect) < SURE_SD * deviation.error:
            return None  # the interval that would be told must not hold *nothing changed*
        self.crowded = self._crowded(onset)
        if self.crowded:
            return None
        effect, error = deviation.effect, SURE_SD * deviation.error
        p = min(1.0, math.exp(-evidence.most))
        begin = float(evidence.at[onset])
        self.found = Regression(begin, at + armed.step, effect, max(effect - error, -1.0), effect + error, p)
        return self.found

    def _crowded(self, onset: int) -> bool:
        """Whether trials jumped while successes stayed: no business was lost, and one metric cannot tell why."""
        armed, evidence = self.armed, self.evidence
        if not armed.frame.proportion or armed.rises:
            return False
        rows = slice(onset, evidence.count)
        buckets = int(evidence.place[evidence.count] - evidence.place[onset])
        trials = float(evidence.exposure[rows].sum()) / buckets
        usual = float(evidence.expected[rows].sum()) / max(float(evidence.exposure[rows].sum()), 1e-9) * armed.exposure
        total = float(evidence.y[rows].sum())
        successes = (total + CHANCE_SD * math.sqrt(total)) / buckets
        return trials > MORE * armed.exposure and successes > AS_MANY * usual

    def _old(self) -> Flags:
        """Which onsets are old enough: later ones must outlast the bursts that this metric is known for."""
        armed, evidence = self.armed, self.evidence
        begin = evidence.at[: evidence.count]
        least = np.where(begin - armed.began < armed.restart_s, PERSIST_S, self._late_s)
        buckets = np.maximum(2, np.ceil(least / armed.step))
        return evidence.count - np.arange(evidence.count) >= buckets

    def _past_restart(self, at: Time, onset: int) -> bool:
        """An onset within the restart window has to last some time beyond it."""
        armed = self.armed
        if self.evidence.at[onset] - armed.began >= armed.restart_s or armed.step > 120:
            return True
        return at + armed.step - armed.began >= armed.restart_s + armed.after_s
