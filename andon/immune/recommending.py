"""What the trials of a backtest add up to: how often a metric accuses wrongly, what it can show, what fits it."""

import math
import statistics
from collections.abc import Sequence

import msgspec

from andon.immune.backtest import Outcome
from andon.model import Metric, OnRegression

CONFIDENCE = 0.95
ROLLBACK_RATE, STOP_RATE = 0.02, 0.10
"""The false-alarm rates, at most, with which a rollback or a stop is recommended."""


class Report(msgspec.Struct, frozen=True):
    """What the trials of one metric add up to."""

    metric: str
    falls: bool
    setting: OnRegression
    """What is recommended."""
    why: str
    configured: OnRegression
    placebos: int
    false_alarms: tuple[Outcome, ...]
    at_most: float
    """What the rate of false alarms may be, with 95 % confidence (Clopper and Pearson)."""
    deployments: int
    """How many past ones were judged."""
    regressed: tuple[Outcome, ...]
    """Those which would have been called regressed."""
    unjudged: int
    effect: float | None
    """The smallest effect that a watch can show: the median over placebos; None: none."""
    usual: float
    usual_s: float | None


def report(metric: Metric, outcomes: Sequence[Outcome], *, can_roll_back: bool = True) -> Report:
    """What the outcomes of one metric's trials say of it, and the setting that fits it."""
    judged = [item for item in outcomes if not item.unjudged]
    placebos = [item for item in judged if not item.version]
    alarms = tuple(item for item in placebos if item.seen is not None)
    past = [item for item in judged if item.version]
    at_most = upper_bound(len(alarms), len(placebos))
    effect = _median([item.effect for item in placebos])
    setting, why = _recommended(metric, len(alarms), len(placebos), effect, can_roll_back=can_roll_back)
    return Report(
        metric=metric.name,
        falls=metric.bad == "falls",
        setting=setting,
        why=why,
        configured=metric.on_regression,
        placebos=len(placebos),
        false_alarms=alarms,
        at_most=at_most,
        deployments=len(past),
        regressed=tuple(item for item in past if item.seen is not None),
        unjudged=len(outcomes) - len(judged),
        effect=effect,
        usual=max((item.usual for item in judged), default=0.0),
        usual_s=_median([item.usual_s for item in placebos]),
    )


def _median(values: Sequence[float | None]) -> float | None:
    """The median, where None is more than any number."""
    if not values:
        return None
    found = statistics.median_high(math.inf if value is None else value for value in values)
    return None if math.isinf(found) else found


def _recommended(
    metric: Metric, alarms: int, placebos: int, effect: float | None, *, can_roll_back: bool
) -> tuple[OnRegression, str]:
    if not placebos:
        return "tell", "no placebo deployment could be judged: there is too little history between deployments"
    at_most = upper_bound(alarms, placebos)
    false = f"{alarms or 'no'} false alarm{'' if alarms == 1 else 's'} in {placebos}, so at most {one_in(at_most)}"
    what = "fall" if metric.bad == "falls" else "rise"
    if effect is None:
        return "tell", f"no {what} can be shown in its watch, however large"
    size = f"a {what} of {math.ceil(100 * effect - 1e-6)} % can be shown"
    if at_most > STOP_RATE:
        return "tell", f"{false}: too many to stop a line for"
    if at_most > ROLLBACK_RATE:
        few = placebos < _enough()
        return "stop", f"{false}; for a rollback {'more history has to show' if few else 'it would have to be'} 1 in 50"
    if effect > _worth(metric):
        return "stop", f"{false}; but only {size}, not less"
    if not can_roll_back:
        return "stop", f"{false}; {size}; the line has no `deploy:` to roll back with"
    return "rollback", f"{false}; {size}"


def _worth(metric: Metric) -> float:
    """The effect which a watch has to be able to show, for a rollback to be worth it."""
    return 1.0 if metric.bad == "rises" and metric.kind in ("proportion", "count", "sum") else 0.30


def _enough() -> int:
    """How many placebos without a false alarm show a rate that is low enough for a rollback."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(1 - ROLLBACK_RATE))


def one_in(rate: float) -> str:
    """`1 in 67`."""
    return f"1 in {math.floor(1 / rate)}" if rate > 0 else "none"


def upper_bound(cases: int, of: int, level: float = CONFIDENCE) -> float:
    """The largest probability that `cases` out of `of` still leave possible, one-sided (Clopper & Pearson 1934)."""
    if cases >= of:
        return 1.0
    low, high = cases / of, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if at_most(cases, of, middle) > 1 - level else (low, middle)
    return high


def at_most(cases: int, of: int, p: float) -> float:
    """The probability of so many cases or fewer out of `of`, each with probability p."""
    if p <= 0 or cases >= of:
        return 1.0
    if p >= 1:
        return 0.0
    logs = (
        math.lgamma(of + 1) - math.lgamma(i + 1) - math.lgamma(of - i + 1) + i * math.log(p) + (of - i) * math.log1p(-p)
        for i in range(cases + 1)
    )
    return min(1.0, math.fsum(map(math.exp, logs)))
