"""The judge beside a control: its bound holds at every look, nothing that both sides share fools it, and it sees harm."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from andon.immune.armed import FALLS, RATIOS
from andon.immune.control import Side, log_ratios
from andon.immune.control_arming import ControlArmed, Unarmed, arm_beside
from andon.immune.control_judge import ControlJudge
from andon.immune.control_power import smallest
from andon.immune.history import Frame
from andon.model import to_json
from benchmarks.judge import make_control_detector
from benchmarks.judging.chance import at_least

BEGAN = 1_780_000_020.0
STEP = 60.0
EVENTS = ("count", "proportion", "sum")
KINDS = (*EVENTS, "latency", "gauge")
RISES = {"latency": True}
Pair = tuple[Side, Side]


def frame(kind: str, *, rises: bool = False, step: float = STEP) -> Frame:
    return Frame(kind, rises, step, BEGAN)  # type: ignore[arg-type]


def bucket(
    rng: np.random.Generator,
    kind: str,
    *,
    share: float = 0.5,
    effect: float = 1.0,
    rate: float = 400.0,
    p: float = 0.05,
) -> Pair:
    """One bucket of both sides, the canary's times `effect`."""
    if kind == "proportion":
        n, trials = int(rng.poisson(rate / p * share)), int(rng.poisson(rate / p * (1 - share)))
        y, other = rng.binomial(n, min(p * effect, 1)), rng.binomial(trials, p)
        return (float(y), float(n)), (float(other), float(trials))
    if kind in ("latency", "gauge"):
        day = math.exp(0.1 * rng.standard_normal())
        noise = 0.05 * rng.standard_normal(2)
        return (120 * day * effect * math.exp(noise[0]), 100.0), (120 * day * math.exp(noise[1]), 900.0)
    y, other = int(rng.poisson(rate * share * effect)), int(rng.poisson(rate * (1 - share)))
    if kind == "sum":
        return (float(rng.lognormal(3, 0.8, y).sum()), share), (float(rng.lognormal(3, 0.8, other).sum()), 1 - share)
    return (float(y), share), (float(other), 1 - share)


def past(kind: str, buckets: int, *, seed: int = 5, effect: float = 1.0, step: float = STEP, **how: Any) -> Any:
    """Both sides before the deployment: rows for `arm_beside`."""
    rng = np.random.default_rng(seed)
    pairs = [bucket(rng, kind, effect=effect, **how) for _ in range(buckets)]
    return np.array([(BEGAN - (buckets - i) * step, *one, *two) for i, (one, two) in enumerate(pairs)]).reshape(-1, 5)


def armed(
    kind: str = "count", *, watch_s: float = 3600.0, history: int = 0, metrics: int = 1, **how: Any
) -> ControlArmed:
    step, rises = how.pop("step", STEP), how.pop("rises", RISES.get(kind, False))
    rows = past(kind, history, step=step, **how)
    return arm_beside(frame(kind, rises=rises, step=step), rows, BEGAN + watch_s, metrics=metrics)


def judged(one: ControlArmed, pairs: Any) -> ControlJudge:
    judge = ControlJudge(one)
    for index, (canary, other) in enumerate(pairs):
        judge.take(BEGAN + index * one.step, canary, other)
    return judge


def pairs_of(kind: str, effect: float, *, count: int = 40, seed: int = 1, **how: Any) -> list[Pair]:
    rng = np.random.default_rng(seed)
    return [bucket(rng, kind, effect=effect, **how) for _ in range(count)]


# ---- the bound


def hypergeometric(n: int, trials: int, both: int) -> Iterator[tuple[int, float]]:
    """How many of the successes of both sides are the canary's by chance, and with which probability."""

    def choose(of: int, count: int) -> float:
        return math.lgamma(of + 1) - math.lgamma(count + 1) - math.lgamma(of - count + 1)

    for y in range(max(0, both - trials), min(n, both) + 1):
        yield y, math.exp(choose(n, y) + choose(trials, both - y) - choose(n + trials, both))


@pytest.mark.parametrize("effects", [FALLS[0], RATIOS[0]])
def test_no_bucket_of_a_proportion_brings_more_than_it_may_on_average(effects):
    """Exactly, over all that chance can do, from rare successes to rare failures."""
    grid = np.array(effects)
    tight = []
    for n, trials in itertools.product((1, 3, 40, 300), repeat=2):
        for both in {0, 1, 2, (n + trials) // 30, (n + trials) // 2, n + trials - 2, n + trials - 1, n + trials}:
            if not 0 <= both <= n + trials:
                continue
            mean = np.zeros(len(grid))
            for y, chance in hypergeometric(n, trials, both):
                sides = (float(y), float(n)), (float(both - y), float(trials))
                mean += chance * np.exp(log_ratios("proportion", grid, *sides, 1.0, 0.0))
            assert np.all(mean <= 1 + 1e-9), (n, trials, both, mean)
            tight.append(float(mean.max()))
    assert max(tight) > 0.98, "nor much less"


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.9])
def test_no_bucket_of_a_count_brings_more_than_it_may_on_average(share):
    for effects, both in itertools.product((FALLS[0], RATIOS[0]), (0, 1, 7, 60)):
        mean = np.zeros(len(effects))
        for y in range(both + 1):
            chance = math.comb(both, y) * share**y * (1 - share) ** (both - y)
            sides = (float(y), share), (float(both - y), 1 - share)
            mean += chance * np.exp(log_ratios("count", np.array(effects), *sides, 1.0, 0.0))
        assert np.allclose(mean, 1)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_money_of_which_no_order_is_known_is_one_toss_of_a_coin(share):
    """However the orders are: each belongs to the canary with the probability of its share."""
    for orders in ([5.0], [1.0, 1.0, 1.0], [900.0, 2.0, 1.0, 0.5], [3.0] * 8):
        mean = np.zeros(len(FALLS[0]))
        for ours in itertools.product((0, 1), repeat=len(orders)):
            chance = math.prod(share if mine else 1 - share for mine in ours)
            y = sum(order for order, mine in zip(orders, ours, strict=True) if mine)
            sides = (y, share), (sum(orders) - y, 1 - share)
            mean += chance * np.exp(log_ratios("sum", np.array(FALLS[0]), *sides, 1.0, 0.0))
        assert np.allclose(mean, 1)


@pytest.mark.parametrize("effect", [1.0, 1.3])
def test_a_canary_that_is_better_brings_less_still(effect):
    """The bound is for all that is no worse than the control, not for what is exactly alike."""
    share, both = 0.4, 50
    moved = effect * share / (effect * share + 1 - share)
    mean = np.zeros(len(FALLS[0]))
    for y in range(both + 1):
        chance = math.comb(both, y) * moved**y * (1 - moved) ** (both - y)
        mean += chance * np.exp(log_ratios("count", np.array(FALLS[0]), (y, share), (both - y, 1 - share), 1.0, 0.0))
    assert np.all(mean <= 1 + 1e-9)


ALPHA, RUNS, LOOKS = 0.05, 500, 40


class Peeking:
    """What is done today: a test of both sides so far, looked at again in each bucket."""

    def __init__(self, _: ControlArmed) -> None:
        self.sums = np.zeros(4)
        self.alarm = False

    def take(self, _: float, canary: Side, other: Side) -> None:
        self.sums += (*canary, *other)
        y, e, control, e_control = self.sums
        share = e / (e + e_control)
        both = y + control
        z = (both * share - y) / math.sqrt(max(both * share * (1 - share), 1e-9))
        self.alarm = self.alarm or z > 1.645


class Looking:
    """Our judge with no other safety than its bound: it is an alarm as soon as the evidence is there."""

    def __init__(self, one: ControlArmed) -> None:
        self.judge = ControlJudge(one)

    def take(self, at: float, canary: Side, other: Side) -> None:
        self.judge.take(at, canary, other)

    @property
    def alarm(self) -> bool:
        return self.judge.evidence.most >= self.judge.armed.threshold


def alarms(watching: type, kind: Any, *, rises: bool, rate: float, p: float) -> int:
    """Of so many healthy canaries, beside a control under the same wild demand, how many are accused at some look."""
    found = 0
    one = msgspec.structs.replace(armed(kind, rises=rises), threshold=math.log(1 / ALPHA), inflation=1.0, restart_s=1.0)
    for index in range(RUNS):
        rng = np.random.default_rng([31, index])
        judge = watching(one)
        share = float(rng.choice([0.05, 0.3, 0.5]))
        for look in range(LOOKS):
            wild = rate * math.exp(rng.standard_normal())  # an outage, a surge: both sides have it
            judge.take(BEGAN + look * STEP, *bucket(rng, one.kind, share=share, rate=wild, p=p))
            if judge.alarm:
                found += 1
                break
    return found


@pytest.mark.parametrize(
    ("kind", "rises", "rate", "p"),
    [("count", False, 30.0, 1.0), ("proportion", False, 40.0, 0.4), ("proportion", True, 10.0, 0.01)],
)
def test_looking_often_costs_no_more_false_alarms_than_promised(kind, rises, rate, p):
    assert at_least(alarms(Looking, kind, rises=rises, rate=rate, p=p), RUNS, ALPHA) > 1e-6


def test_a_test_that_is_repeated_at_every_look_fails_the_same_experiment():
    found = alarms(Peeking, "count", rises=False, rate=30.0, p=1.0)
    assert at_least(found, RUNS, ALPHA) < 1e-6, found


# ---- what is seen


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.2, 0.5])
def test_harm_is_found_with_its_size_and_its_onset(kind, share):
    rises = RISES.get(kind, False)
    one = armed(kind, history=200, share=share)
    effect = 1.4 if rises else 0.6
    found = judged(one, pairs_of(kind, effect, share=share)).found
    assert found is not None
    assert found.seen - BEGAN <= 900
    assert found.onset - BEGAN <= 120
    assert found.low < effect - 1 < found.high
    assert found.p < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_a_healthy_canary_is_left_alone(kind):
    for seed in range(6):
        assert judged(armed(kind, history=120), pairs_of(kind, 1.0, seed=seed)).found is None


@pytest.mark.parametrize("kind", EVENTS)
def test_what_both_sides_share_is_no_evidence(kind):
    """An outage to a twentieth, and a surge to five times: the same on both sides."""
    rng = np.random.default_rng(3)
    rates = [400.0 * (0.05 if 5 <= i < 15 else 5.0 if 15 <= i < 25 else 1.0) for i in range(40)]
    assert judged(armed(kind, history=120), [bucket(rng, kind, rate=rate) for rate in rates]).found is None


def test_rare_failures_are_as_good_as_rare_errors():
    """Ninety-nine in a hundred succeed, then ninety-six: most of what there is to see is in the failures."""
    one = armed("proportion")
    found = judged(one, pairs_of("proportion", 0.96, rate=2000.0, p=0.99)).found
    assert found is not None
    assert found.seen - BEGAN <= 600


def test_a_restart_of_two_minutes_is_no_regression():
    healthy = pairs_of("count", 1.0)
    rng = np.random.default_rng(9)
    blip = [bucket(rng, "count", effect=0.1) for _ in range(2)]
    assert judged(armed(), [*blip, *healthy]).found is None


def test_a_dead_canary_is_found_and_one_that_reports_late_is_not():
    dead = judged(armed(), pairs_of("count", 0.0)).found
    assert dead is not None
    assert dead.seen - BEGAN <= 420
    assert dead.effect == -1
    usual = pairs_of("count", 1.0)
    for late in (1, 2, 3, 4):
        zeros = [((0.0, canary[1]), other) for canary, other in usual[4 : 4 + late]]
        owed = sum(canary[0] for canary, _ in usual[4 : 5 + late])
        at_once = ((owed, usual[4 + late][0][1]), usual[4 + late][1])
        assert judged(armed(), [*usual[:4], *zeros, at_once, *usual[5 + late :]]).found is None, late


@pytest.mark.parametrize("step", [10.0, 60.0])
def test_two_bad_minutes_are_not_accused(step):
    healthy, bad = pairs_of("count", 1.0, count=20), pairs_of("count", 0.4, count=round(120 / step), seed=3)
    rows = [*healthy, *bad, *pairs_of("count", 1.0, count=20, seed=2)]
    assert judged(armed(step=step), rows).found is None


@pytest.mark.parametrize("seed", range(2))
def test_what_is_known_late_and_is_over_by_then_is_not_accused(seed):
    """While it was bad too little was known; now enough is, and it is good again."""
    bad = pairs_of("count", 0.6, count=18, seed=seed, rate=2000.0)
    good = pairs_of("count", 1.0, count=20, seed=seed + 50, rate=2000.0)
    gappy = [pair if index % 3 == 0 else ((math.nan, 0.5), pair[1]) for index, pair in enumerate(bad)]
    assert judged(armed(), [*gappy, *good]).found is None


def test_what_begins_with_a_later_deployment_is_not_of_this_one():
    rows = [*pairs_of("count", 1.0, count=8), *pairs_of("count", 0.5, seed=2)]
    for told in (True, False):
        judge = ControlJudge(armed())
        if told:
            judge.note_deployment(BEGAN + 8 * STEP)
        for index, pair in enumerate(rows):
            judge.take(BEGAN + index * STEP, *pair)
        assert (judge.found is None) is told


@pytest.mark.parametrize("kind", EVENTS)
def test_a_side_that_was_always_worse_is_compared_with_itself(kind):
    one = armed(kind, history=400, effect=0.7)
    assert one.before == pytest.approx(0.7, rel=0.05)
    for seed in range(4):
        assert judged(one, pairs_of(kind, 0.7, seed=seed)).found is None
    assert judged(one, pairs_of(kind, 0.3)).found is not None


def test_a_side_that_was_better_only_has_to_be_as_good():
    one = armed("count", history=400, effect=1.4)
    assert one.before == 1
    assert judged(one, pairs_of("count", 1.0)).found is None


def test_a_ratio_that_wanders_by_itself_weakens_the_evidence():
    rng = np.random.default_rng(4)
    wild = np.array(
        [
            (BEGAN - i * STEP, *one, *two)
            for i in range(400, 0, -1)
            for one, two in [bucket(rng, "count", effect=math.exp(0.3 * rng.standard_normal()))]
        ]
    )
    assert armed("count", history=400).inflation < 2
    assert arm_beside(frame("count"), wild, BEGAN + 3600).inflation > 4


def test_more_metrics_share_the_chance_of_a_false_alarm():
    assert armed().threshold == pytest.approx(math.log(1000))
    assert armed(metrics=10).threshold == pytest.approx(math.log(10_000))


# ---- what is not there


@pytest.mark.parametrize("kind", KINDS)
def test_one_side_alone_is_never_evidence(kind):
    nothing = (math.nan, math.nan)
    for pair in [
        ((10.0, 0.0), (5.0, 100.0)),
        ((10.0, 100.0), (5.0, 0.0)),
        (nothing, (5.0, 9.0)),
        ((5.0, 9.0), nothing),
    ]:
        one = armed(kind, history=100)
        if kind in ("latency", "gauge") and not any(math.isnan(value) for side in pair for value in side):
            continue  # a level needs no requests
        judge = judged(one, [pair] * 30)
        assert judge.evidence.count == 0
        assert judge.found is None


def test_half_of_the_buckets_are_not_enough_to_accuse():
    rows = pairs_of("count", 0.3)
    gappy = [pair if index % 3 == 0 else ((math.nan, 0.5), pair[1]) for index, pair in enumerate(rows)]
    assert judged(armed(), rows).found is not None
    judge = judged(armed(), gappy)
    assert judge.evidence.log_evidence > judge.armed.threshold
    assert judge.found is None


def test_latency_needs_to_be_known_beside_its_control():
    with pytest.raises(Unarmed, match="in 20 buckets before; 60 are needed"):
        armed("latency", history=20)


def test_money_without_a_past_needs_more_than_one_large_order():
    usual = pairs_of("sum", 1.0)
    one = armed("sum")
    assert one.unit == 0
    large = [(canary, (other[0] + 1e6, other[1])) for canary, other in usual[:1]]
    assert judged(one, [*usual[:5], *large, *usual[5:]]).found is None
    assert judged(one, pairs_of("sum", 0.0)).found is not None


ODD = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -0.0, -1.0, 1.0, 40.0, 1e14, 1e300, 5e-324, math.nan, math.inf, -math.inf]),
)
ROW = st.tuples(ODD, ODD, ODD, ODD)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    rises=st.booleans(),
    step=st.sampled_from([10.0, 60.0, 1800.0]),
    history=st.lists(ROW, max_size=40),
    live=st.lists(ROW, max_size=40),
    plain=st.integers(0, 80),
)
def test_no_data_makes_it_fail_or_accuse_out_of_nothing(kind, rises, step, history, live, plain):
    rows = np.array([(BEGAN - (i + 1) * step, *row) for i, row in enumerate(history)], dtype=float).reshape(-1, 5)
    rows = np.concatenate((past(kind, plain, step=step), rows))
    try:
        one = arm_beside(frame(kind, rises=rises, step=step), rows, BEGAN + 3600)
    except Unarmed:
        return
    to_json(one)
    assert math.isfinite(one.inflation)
    assert one.inflation >= 1
    judge = judged(one, [((row[0], row[1]), (row[2], row[3])) for row in live])
    assert math.isfinite(judge.evidence.log_evidence)
    smallest(judge.evidence)
    if judge.evidence.count < 2:
        assert judge.found is None


# ---- invariances


def evidence(one: ControlArmed, pairs: list[Pair], began: float = BEGAN) -> list[float]:
    judge = ControlJudge(msgspec.structs.replace(one, began=began, until=began + 3600))
    said = []
    for index, pair in enumerate(pairs):
        judge.take(began + index * one.step, *pair)
        said.append(judge.evidence.log_evidence)
    return said


@pytest.mark.parametrize("kind", KINDS)
def test_another_time_is_the_same(kind):
    one, rows = armed(kind, history=100), pairs_of(kind, 0.9, count=12)
    assert evidence(one, rows) == pytest.approx(evidence(one, rows, BEGAN + 86_400 * 66))


def test_the_unit_of_money_and_of_exposure_does_not_matter():
    rows, history = pairs_of("sum", 0.8, count=12), past("sum", 200)
    plain = arm_beside(frame("sum"), history, BEGAN + 3600)
    cents = arm_beside(frame("sum"), history * np.array([1, 100, 1, 100, 1]), BEGAN + 3600)
    assert evidence(plain, rows) == pytest.approx(
        evidence(cents, [((a[0] * 100, a[1]), (b[0] * 100, b[1])) for a, b in rows])
    )
    counts = pairs_of("count", 0.8, count=12)
    visits = [((a[0], a[1] * 7000), (b[0], b[1] * 7000)) for a, b in counts]
    assert evidence(armed(), counts) == pytest.approx(evidence(armed(), visits))


def test_levels_in_another_unit_are_the_same():
    rows = pairs_of("latency", 1.2, count=12)
    seconds = [((a[0] / 1000, a[1]), (b[0] / 1000, b[1])) for a, b in rows]
    one = armed("latency", history=200)
    assert evidence(one, rows) == pytest.approx(evidence(one, seconds))


def test_gaps_leave_what_was_seen_as_it_is():
    rows = pairs_of("count", 0.8, count=12)
    nothing = ((math.nan, math.nan), (math.nan, math.nan))
    gappy = [pair for row in rows for pair in (row, nothing)]
    whole = judged(armed(), rows).evidence
    sparse = judged(armed(), gappy).evidence
    assert sparse.count == whole.count
    # The restart window is a time, and holds fewer of the sparse buckets.
    assert np.allclose(sparse.said[: sparse.count], whole.said[: whole.count])


@pytest.mark.parametrize("step", [10.0, 60.0, 300.0, 1800.0])
def test_all_lengths_of_buckets_are_judged(step):
    one = armed("count", step=step, watch_s=4 * 3600.0)
    assert judged(one, pairs_of("count", 0.4, count=60, rate=max(400 * step / 60, 100))).found is not None
    assert judged(one, pairs_of("count", 1.0, count=60, rate=max(400 * step / 60, 100))).found is None


# ---- what it could have shown


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_says_it_could_show_is_about_what_it_shows(kind):
    rises = RISES.get(kind, False)
    one = armed(kind, history=300, watch_s=1200.0)
    rate = 60.0
    effect = smallest(judged(one, pairs_of(kind, 1.0, count=20, rate=rate)).evidence)
    assert effect is not None
    assert 0.02 < effect < 1
    larger = min(1.6 * effect, 0.97)
    seen = [
        judged(one, pairs_of(kind, 1 + (larger if rises else -larger), count=20, seed=seed, rate=rate)).found
        for seed in range(12)
    ]
    assert sum(found is not None for found in seen) >= 10


def test_without_traffic_it_can_show_nothing():
    assert smallest(judged(armed(), [((0.0, 0.5), (0.0, 0.5))] * 20).evidence) is None
    assert smallest(judged(armed(), []).evidence) is None


# ---- the benchmark's interface


@pytest.mark.parametrize("effect", [1.0, 0.6])
def test_the_detector_of_the_benchmarks_is_this_judge(effect):
    baseline = [tuple(row) for row in past("count", 30)]
    detector = make_control_detector("count", "decrease", baseline, BEGAN, n_metrics=2)
    words = [
        detector.update(BEGAN + i * STEP, canary[0], canary[1], other[0], other[1])
        for i, (canary, other) in enumerate(pairs_of("count", effect))
    ]
    assert ("regressed" in words) is (effect < 1)
    assert (detector.onset is not None) is (effect < 1)
    assert ("%" in detector.explain()) is (effect < 1)
    latency = make_control_detector("latency", "increase", [], BEGAN)
    assert latency.update(BEGAN, 900.0, None, 100.0, None) == "undecided"
    assert "60 are needed" in latency.explain()
    assert make_control_detector("count", "decrease", [], BEGAN).update(BEGAN, None, None, None, None) == "undecided"
