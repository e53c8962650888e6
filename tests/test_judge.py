"""The judge by itself: it is not fooled by looking often, by broken data, by units or by what else is measured."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from andon.immune.arith import rising
from andon.immune.armed import Armed, arm
from andon.immune.history import DAY_S, Frame
from andon.immune.judging import Judge
from andon.model import to_json
from benchmarks.judge import Detector
from benchmarks.judging.validity import count_alarms

BEGAN = 1_780_272_000.0 + 2 * DAY_S + 14 * 3600.0
"""A Wednesday, 14:00 UTC."""
KINDS = ("count", "proportion", "sum", "latency", "gauge")


def rows(
    kind: str, days: float, began: float, *, step: float = 60.0, ahead: int = 0, seed: int = 1, effect: float = 1.0
) -> Any:
    """Closed buckets up to `began` and `ahead` after it, the metric times `effect` from then on: begins, values, trials."""
    rng = np.random.default_rng(seed)
    at = began + step * np.arange(-int(days * DAY_S / step), ahead)
    day = 1 + 0.3 * np.sin(2 * np.pi * at / DAY_S)
    factor = day * np.where(at >= began, effect, 1.0)
    n = np.full(len(at), math.nan)
    if kind in ("count", "sum"):
        value = rng.poisson(200 * step / 60 * factor) * (12.5 if kind == "sum" else 1.0)
    elif kind == "proportion":
        n = rng.poisson(3000 * step / 60 * day).astype(float)
        value = rng.binomial(n.astype(int), np.clip(0.03 * factor / day, 0, 1))
    else:
        value = 120 * np.exp(0.03 * rng.standard_normal(len(at))) * factor
    return at, value.astype(float), n


def armed(
    kind: str, *, days: float = 3.0, began: float = BEGAN, step: float = 60.0, seed: int = 1, **options: Any
) -> Armed:
    frame = Frame(kind, kind in ("latency", "gauge"), step, began)  # type: ignore[arg-type]
    return arm(frame, *rows(kind, days, began, step=step, seed=seed), **options)


def judge(
    kind: str,
    effect: float,
    *,
    days: float = 3.0,
    began: float = BEGAN,
    step: float = 60.0,
    seed: int = 1,
    **options: Any,
) -> Judge:
    """A judge that was fed the half hour after the deployment."""
    found = Judge(armed(kind, days=days, began=began, step=step, seed=seed, **options))
    at, value, n = rows(kind, days, began, step=step, ahead=max(6, int(1800 / step)), seed=seed, effect=effect)
    for index in np.nonzero(at >= began)[0]:
        found.take(float(at[index]), float(value[index]), float(n[index]))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_found_soon_and_its_size_is_right(kind):
    effect = 1.4 if kind in ("latency", "gauge") else 0.6
    found = judge(kind, effect).found
    assert found is not None
    assert found.seen - BEGAN <= 8 * 60
    assert found.onset <= BEGAN + 60
    assert found.low <= effect - 1 <= found.high
    assert found.p <= 1e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_a_healthy_deployment_is_let_be(kind, seed):
    assert judge(kind, 1.0, seed=seed).found is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_for_the_better_is_no_regression(kind):
    assert judge(kind, 0.6 if kind in ("latency", "gauge") else 1.5).found is None


def test_looking_at_every_bucket_keeps_the_promised_rate_of_false_alarms():
    found = count_alarms(Detector, 60, looks=60, history_s=6 * 3600.0)
    assert found.alarms <= found.by_chance(1e-3)


def test_the_unit_of_money_and_of_a_gauge_changes_nothing():
    for kind in ("sum", "gauge", "latency"):
        frame = Frame(kind, kind != "sum", 60.0, BEGAN)  # type: ignore[arg-type]
        at, value, n = rows(kind, 3, BEGAN, ahead=30, effect=1.4 if kind != "sum" else 0.6)
        before = at < BEGAN
        logs = []
        for unit in (1.0, 1000.0):
            one = Judge(arm(frame, at[before], value[before] * unit, n[before]))
            for index in np.nonzero(~before)[0]:
                one.take(float(at[index]), float(value[index] * unit), float(n[index]))
            logs.append((one.found.seen if one.found else None, one.evidence.log_evidence))
        assert logs[0][0] == logs[1][0] is not None
        assert logs[0][1] == pytest.approx(logs[1][1], rel=1e-6)


def test_a_week_later_is_the_same():
    assert judge("count", 0.6).evidence.log_evidence == pytest.approx(
        judge("count", 0.6, began=BEGAN + 7 * DAY_S).evidence.log_evidence, rel=1e-6
    )


def test_more_metrics_ask_for_more_evidence():
    assert armed("count", metrics=8).threshold - armed("count").threshold == pytest.approx(math.log(8))


def test_the_record_as_json_gives_the_same_verdict():
    first = judge("proportion", 0.6)
    again = Judge(msgspec.json.decode(to_json(first.armed), type=Armed))
    at, value, n = rows("proportion", 3, BEGAN, ahead=30, effect=0.6)
    for index in np.nonzero(at >= BEGAN)[0]:
        again.take(float(at[index]), float(value[index]), float(n[index]))
    assert again.found == first.found


def test_zeros_that_come_in_one_bucket_later_are_late_and_no_outage():
    usual = 200.0
    for run in range(1, 10):
        found = Judge(armed("count"))
        for index in range(30):
            value = 0.0 if 2 <= index < 2 + run else usual * (run + 1) if index == 2 + run else usual
            assert found.take(BEGAN + 60 * index, value) is None


def test_zeros_that_stay_are_an_outage():
    found = Judge(armed("count"))
    for index in range(15):
        found.take(BEGAN + 60 * index, 0.0)
    assert found.found is not None
    assert found.found.effect == pytest.approx(-1, abs=0.01)


def test_a_gauge_that_drops_to_nothing_is_an_outage():
    frame = Frame("gauge", False, 60.0, BEGAN)
    found = Judge(arm(frame, *rows("gauge", 3, BEGAN)))
    for index in range(15):
        found.take(BEGAN + 60 * index, 0.0)
    assert found.found is not None


def test_a_restart_of_two_minutes_is_no_regression():
    found = Judge(armed("count"))
    at, value, _ = rows("count", 3, BEGAN, ahead=30)
    for index in np.nonzero(at >= BEGAN)[0]:
        blip = 0.2 if at[index] < BEGAN + 120 else 1.0
        assert found.take(float(at[index]), float(value[index]) * blip) is None


def test_a_new_line_waits_longer_than_one_whose_restarts_are_known():
    calm = [BEGAN - 3600.0 * hours for hours in range(3, 30, 3)]
    assert judge("count", 0.3, past=()).found.seen == BEGAN + 300  # type: ignore[union-attr]
    assert judge("count", 0.3, past=calm).found.seen == BEGAN + 180  # type: ignore[union-attr]


def test_a_later_deployment_takes_its_own_blame():
    """The watch of the first deployment is told of the second, eight minutes later, with which the fall began."""
    at, value, _ = rows("count", 3, BEGAN, ahead=30)
    verdicts = []
    for told in (True, False):
        one = Judge(armed("count"))
        if told:
            one.note_deployment(BEGAN + 480)
        for index in np.nonzero(at >= BEGAN)[0]:
            one.take(float(at[index]), float(value[index]) * (0.6 if at[index] >= BEGAN + 480 else 1.0))
        verdicts.append(one.found is not None)
    assert verdicts == [False, True], "untold it would be blamed"


ODD = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -0.0, -1.0, 1e300, -1e300, 5e-324, math.nan, math.inf]),
)


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    step=st.sampled_from([10.0, 30.0, 60.0, 300.0, 1800.0]),
    history=st.lists(st.tuples(st.integers(0, 400), ODD, ODD), max_size=60),
    live=st.lists(st.tuples(ODD, ODD), max_size=40),
    metrics=st.integers(1, 20),
)
def test_no_data_makes_it_fail_or_accuse_out_of_nothing(kind, step, history, live, metrics):
    at = np.array([BEGAN - (back + 1) * step for back, _, _ in history], dtype=float)
    value = np.array([value for _, value, _ in history], dtype=float)
    n = np.array([n for _, _, n in history], dtype=float)
    order = np.argsort(at)
    frame = Frame(kind, kind == "latency", step, BEGAN)
    one = Judge(arm(frame, at[order], value[order], n[order], metrics=metrics))
    for index, (value_, n_) in enumerate(live):
        one.take(BEGAN + index * step, value_, n_)
    used = one.evidence.count
    assert math.isfinite(one.evidence.log_evidence)
    if used < 2:
        assert one.found is None


@pytest.mark.parametrize("step", [10.0, 60.0, 600.0, 1800.0])
def test_all_lengths_of_buckets_are_judged(step):
    found = judge("count", 0.4, days=2 if step < 60 else 7, step=step, watch_s=4 * 3600.0)
    assert found.evidence.count > 0
    assert found.found is not None


def test_gaps_are_no_evidence():
    whole, gappy = Judge(armed("count")), Judge(armed("count"))
    at, value, _ = rows("count", 3, BEGAN, ahead=30)
    for index in np.nonzero(at >= BEGAN)[0]:
        whole.take(float(at[index]), float(value[index]))
        gappy.take(float(at[index]), math.nan if index % 3 else float(value[index]))
    assert whole.found is None
    assert gappy.found is None
    assert gappy.evidence.count < whole.evidence.count


def test_the_isotonic_fit_never_falls_and_keeps_the_weighted_mean():
    values, weights = [1.0, 3.0, 2.0, 2.0, 5.0], [1.0, 2.0, 1.0, 1.0, 1.0]
    fitted = rising(values, weights)
    assert np.all(np.diff(fitted) >= 0)
    assert np.dot(fitted, weights) == pytest.approx(np.dot(values, weights))
