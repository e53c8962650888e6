"""How deployments are judged today, behind the same interface: each compares with the hour before, each looks each step."""

import math
from statistics import NormalDist

import numpy as np

HOUR = 3600.0


class Rival:
    """Keeps the last hour before the deployment and what came after; a kind of judge says when it is too much."""

    def __init__(self, kind, direction, baseline, deploy_t, *, n_metrics=1, step=60.0):
        self.share = kind == "proportion"
        self.worse = 1 if direction == "increase" else -1
        shown = [self.shown(value, n) for t, value, n in baseline if t >= deploy_t - max(HOUR, 20 * step)]
        before = [value for value in shown if math.isfinite(value)]
        if len(before) < 5:
            before = [value for value in (self.shown(v, n) for _, v, n in baseline) if math.isfinite(value)][-30:]
        self.before = np.array(before or [0.0])
        self.mean = float(self.before.mean())
        self.sd = max(float(self.before.std(ddof=1)) if len(before) > 1 else 0.0, 1e-6 * abs(self.mean), 1e-9)
        self.after: list[float] = []
        self.failed = 0

    def shown(self, value: float, n: float | None) -> float:
        """The number a dashboard shows; NaN if there is none."""
        if not self.share:
            return value
        return value / n if n is not None and n > 0 else math.nan

    def update(self, t, value, n=None) -> str:
        """*regressed* or *undecided*; a bucket without a number is passed over."""
        shown = self.shown(value, n)
        if not math.isfinite(shown):
            return "undecided"
        self.after.append(shown)
        return "regressed" if self.too_much(shown) else "undecided"

    def too_much(self, shown: float) -> bool:
        """Whether this bucket, with those before it, makes it stop."""
        raise NotImplementedError

    def worse_by(self) -> float:
        """By how much the mean since the deployment is worse."""
        return self.worse * (sum(self.after) / len(self.after) - self.mean)

    def fails(self, shown: float) -> bool:
        """Whether one bucket is worse by more than 20 %."""
        return self.worse * (shown - self.mean) > 0.2 * abs(self.mean)


class ThreePoints(Rival):
    """Worse by 20 % for three points in a row, as thresholds are written for progressive delivery."""

    def too_much(self, shown):
        self.failed = self.failed + 1 if self.fails(shown) else 0
        return self.failed >= 3


class TenChecks(Rival):
    """Worse by 20 % in ten checks of the watch, in a row or not."""

    def too_much(self, shown):
        self.failed += self.fails(shown)
        return self.failed >= 10


class ThreeSigma(Rival):
    """One point beyond three standard deviations."""

    def too_much(self, shown):
        return self.worse * (shown - self.mean) > 3 * self.sd


class MannWhitney(Rival):
    """Rank test at 1 % from the fifth point on, as a canary analysis does it once, but repeated at each step."""

    limit = NormalDist().inv_cdf(0.99)

    def too_much(self, shown):
        if len(self.after) < 5 or self.worse_by() <= 0:
            return False
        a, b = len(self.after), len(self.before)
        both = np.concatenate([self.after, self.before])
        _, place, many = np.unique(both, return_inverse=True, return_counts=True)
        ranks = (np.cumsum(many) - (many - 1) / 2)[place]
        wins = ranks[:a].sum() - a * (a + 1) / 2
        ties = float((many.astype(float) ** 3 - many).sum()) / ((a + b) * (a + b - 1))
        sd = math.sqrt(a * b / 12 * max(a + b + 1 - ties, 1e-9))
        return (self.worse * (wins - a * b / 2) - 0.5) / sd > self.limit


class EachStepZ(Rival):
    """Difference of means over its standard error, at 0.1 %, at each step from the third on."""

    limit = NormalDist().inv_cdf(0.999)

    def too_much(self, shown):
        error = self.sd * math.sqrt(1 / len(self.after) + 1 / len(self.before))
        return len(self.after) >= 3 and self.worse_by() / error > self.limit


class MixtureSprt(Rival):
    """Sequential test with a normal mixture over effects of about 10 %, valid at every look if buckets were independent."""

    def too_much(self, shown):
        variance = self.sd**2 * (1 / len(self.after) + 1 / len(self.before))
        prior = (0.1 * self.mean) ** 2
        if len(self.after) < 2 or self.worse_by() <= 0 or prior == 0:
            return False
        gain = self.worse_by() ** 2 * prior / (variance * (variance + prior))
        return 0.5 * (math.log(variance / (variance + prior)) + gain) > math.log(1000)


RIVALS = {
    "3 points of 20 %": "benchmarks.judging.rivals:ThreePoints",
    "10 checks of 20 %": "benchmarks.judging.rivals:TenChecks",
    "Mann-Whitney, each step": "benchmarks.judging.rivals:MannWhitney",
    "mSPRT": "benchmarks.judging.rivals:MixtureSprt",
    "z test, each step": "benchmarks.judging.rivals:EachStepZ",
    "3 sigma": "benchmarks.judging.rivals:ThreeSigma",
}
"""Name in the table → where it is."""
