"""The benchmark of the judge measures what it says: scenarios hold the truth, figures add up, bounds are right."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.judging import __main__ as command
from benchmarks.judging import chance, control, figures, pairs, rivals, run, scenarios
from benchmarks.judging.families import FAMILIES
from benchmarks.judging.metrics import Metric, bound_min, factor, information
from benchmarks.judging.validity import count_alarms
from benchmarks.judging.world import DAY, Habit, lasting, season

HERE = "tests.test_judging_benchmark"


class Silent:
    """Never says anything."""

    def __init__(self, *_, **more):
        self.more = more

    def update(self, *_):
        return "undecided"


class Alarmist(Silent):
    """Rolls everything back at once."""

    def update(self, *_):
        return "regressed"


class Broken(Silent):
    """Raises."""

    def update(self, *_):
        raise ZeroDivisionError("oh")


class Told(Silent):
    """Blames the newest of the deployments it knows of, after ten looks."""

    def __init__(self, kind, direction, baseline, deploy_t, *, n_metrics=1, step=60.0, suspects=()):
        self.newest, self.looks = all(one < deploy_t for one in suspects), 0

    def note_deploy(self, t):
        self.newest = False

    def update(self, *_):
        self.looks += 1
        return "regressed" if self.newest and self.looks >= 10 else "undecided"


def make_control_detector(*_, **__):
    return Silent()


HEALTHY = ("plain", "confounded", "beyond", "known")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_scenario_is_what_it_says(family):
    one = scenarios.make(3, family, 1)
    assert (one.bad is None) == (FAMILIES[family].group in HEALTHY)
    for series in one.series:
        before, after = [row[0] for row in series.baseline], [row[0] for row in series.live]
        assert before == sorted(before)
        assert after == sorted(after)
        assert before[-1] < one.deploy_t <= after[0]
        assert after[-1] < one.deploy_t + one.watch_s
        if series.kind == "proportion":
            assert all(n is not None for *_, n in series.live)
    if one.bad is not None:
        assert one.effect > 0
        assert 0 < one.bound_min < math.inf
        assert 0 <= one.bad_from_s < one.watch_s - one.step


def test_the_same_numbers_give_the_same_scenario_and_others_another():
    first, again, other = (scenarios.make(seed, "step", 4) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("metric", "effect", "nats", "minutes"),
    [
        (Metric("orders", rate=100), 0.2, 2.149, 4.8),
        (Metric("orders", rate=100), 0.05, 0.127, 81.1),
        (Metric("orders", rate=1), 0.999, 0.992, 10.4),
        (Metric("conversion", rate=1000, share=0.03), 0.2, 0.663, 15.5),
        (Metric("errors", rate=300, share=0.01), 1.0, 1.174, 8.8),
        (Metric("latency", rate=300, sd=0.6), 0.2, 3.099, 3.3),
        (Metric("queue", sd=0.04), 0.1, 2.839, 3.6),
    ],
)
def test_the_bounds_are_those_of_the_theory(metric, effect, nats, minutes):
    found = information(metric, Habit(), 1.0, effect, 60.0)
    assert found == pytest.approx(nats, rel=2e-3)
    assert bound_min(found) == pytest.approx(minutes, rel=0.02)


def test_clumps_money_and_memory_take_information_away():
    metric = Metric("revenue", rate=100, order=0.8)
    orders = information(replace(metric, name="orders"), Habit(), 1, 0.2, 60)
    assert information(metric, Habit(), 1, 0.2, 60) == pytest.approx(orders / math.exp(0.64), rel=1e-6)
    assert information(replace(metric, large=0.01), Habit(), 1, 0.2, 60) < orders / 3
    assert information(metric, Habit(spread=4), 1, 0.2, 60) < orders / 4
    queue = Metric("queue", sd=0.04)
    assert information(replace(queue, memory_s=300), Habit(), 1, 0.1, 60) < information(queue, Habit(), 1, 0.1, 60) / 5


@pytest.mark.parametrize("index", range(6))
def test_the_harm_is_in_the_buckets(index):
    one = scenarios.make(5, "known step", index)
    series = one.series[0]

    def level(rows):
        values = np.array([value / (n if series.kind == "proportion" else 1) for _, value, n in rows])
        return values.mean()

    found = level(series.live) / level(series.baseline[-2000:])
    assert found == pytest.approx(factor(Metric(series.metric), one.effect), rel=0.25)
    assert 3 <= one.bound_min <= 15


def test_what_was_late_is_told_in_the_end():
    late = scenarios.make(1, "late zeros", 0).series[0]
    values = np.array([value for _, value, _ in late.baseline + late.live])
    zeros = np.flatnonzero((values[:-1] == 0) & (values[1:] > 0))
    usual = np.median(values)
    assert len(zeros)
    assert any(values[at + 1] > 1.5 * usual for at in zeros)


def test_lasting_noise_has_its_spread_and_its_memory():
    noise = lasting(np.random.default_rng(1), 60000, 60, 0.05, 600)
    assert noise.std() == pytest.approx(0.05, rel=0.1)
    assert np.corrcoef(noise[:-10], noise[10:])[0, 1] == pytest.approx(math.exp(-1), abs=0.07)


def test_a_day_off_and_the_clock_on_the_wall_change_demand():
    habit = Habit(day=0.5, peak_s=DAY / 2, weekend=-0.5)
    monday_noon, monday_night, sunday_noon = season(habit, np.array([0.5, 0.9, 6.5]) * DAY)
    assert monday_noon > monday_night
    assert monday_noon - sunday_noon == pytest.approx(0.5)


def test_chance_bounds_are_those_of_clopper_and_pearson():
    assert chance.upper_bound(0, 3000) == pytest.approx(1 - 0.05 ** (1 / 3000), rel=1e-6)
    assert 1000 * chance.upper_bound(4, 3450) == pytest.approx(2.65, abs=0.02)
    assert chance.at_least(1, 10, 0.1) == pytest.approx(1 - 0.9**10)
    assert chance.upper_bound(5, 5) == 1


def records(name, *families):
    return [run.judge((1, family, index, (f"{HERE}:{name}",))) for family in families for index in range(3)]


def test_silence_is_never_wrong_and_finds_nothing():
    found, path = records("Silent", "plain", "step"), f"{HERE}:Silent"
    assert figures.false_rate(figures.healthy_of(found), path).value == 0
    assert figures.recall([one for one in found if one.bad is not None], path).value == 0


def test_an_alarm_at_once_is_false_when_healthy_found_at_a_sharp_harm_and_astray_before_a_later_one():
    found, path = records("Alarmist", "plain", "step", "later"), f"{HERE}:Alarmist"
    assert figures.false_rate(figures.healthy_of(found), path).value == 1000
    steps = [one for one in found if one.family == "step"]
    assert figures.recall(steps, path).value == 100
    assert [figures.delay_min(one, path) for one in steps] == [one.step / 60 for one in steps]
    assert figures.recall([one for one in found if one.family == "later"], path).value == 0
    assert figures.astray(found, path).value == 3


def test_an_alarm_on_another_metric_finds_nothing():
    path = f"{HERE}:Alarmist"
    found = [run.judge((1, "one of many", index, (path,))) for index in range(6)]
    for one in found:
        assert (figures.delay_min(one, path) is not None) == (one.said[path].which == one.bad)


def test_the_harm_of_two_deployments_is_laid_at_one_door():
    path = f"{HERE}:Told"
    blamed = {who: pairs.judge((1, who, 0, (path, f"{HERE}:Silent"))) for who in pairs.WHO}
    assert blamed["second"].right(path)
    assert not blamed["first"].right(path)
    assert blamed["nobody"].right(f"{HERE}:Silent")
    assert not blamed["second"].right(f"{HERE}:Silent")


def test_a_control_sees_the_same_trouble_and_none_of_the_harm():
    _, rows, _ = control.make(1, "outage", 0.5, 0.5, 0)
    table = np.array(rows)
    assert table[:, 1].sum() == pytest.approx(table[:, 3].sum() * 0.5, rel=0.2)
    assert np.allclose(table[:, 2] + table[:, 4], 1)
    small, even = (control.make(1, "plain", share, 0.5, 0)[2] for share in (0.05, 0.5))
    assert small > even


@pytest.mark.parametrize("peeking", [rivals.MannWhitney, rivals.ThreeSigma])
def test_peeking_costs_more_false_alarms_than_promised_and_that_is_seen(peeking):
    """The proof that the experiment can tell: a judge that looks again and again must fail it."""
    counted = count_alarms(peeking, 150)
    assert counted.by_chance(0.001) < 1e-6


def test_a_judge_that_keeps_its_promise_passes_the_same_experiment():
    counted = count_alarms(Silent, 40)
    assert counted.by_chance(0.001) == 1
    assert counted.at_most == pytest.approx(1 - 0.05 ** (1 / 40))


def test_a_rank_test_and_a_threshold_find_a_plain_fall():
    baseline = [(60.0 * i, 100.0 + i % 7, None) for i in range(120)]
    for rival in rivals.RIVALS.values():
        judge, _ = run.detector(rival)
        watching = judge("count", "decrease", baseline, 7200.0)
        assert "regressed" in [watching.update(7200.0 + 60 * i, 60.0 + i % 7, None) for i in range(12)]


def test_the_command_prints_the_tables_and_the_same_as_json(capsys):
    words = ["--n", "1", "--jobs", "1", "--detector", f"{HERE}:Alarmist", "--only", "plain,step,pairs,control"]
    assert command.main([*words, "--rivals", "--cases"]) == 0
    text = capsys.readouterr().out
    assert "| false per 1,000 healthy, all confounders | 1000.0 (4/4, <= 1000.0) |" in text
    assert "false: plain 0" in text
    assert "3 points of 20 %" in text
    assert "beside a control" in text
    assert command.main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tables"][0]["rows"]["false per 1,000 healthy, all confounders"][f"{HERE}:Alarmist"]["value"] == 1000


def test_a_judge_that_breaks_is_told_and_fails_the_run(capsys):
    words = ["--n", "1", "--jobs", "1", "--only", "plain", "--detector", f"{HERE}:Broken"]
    assert command.main(words) == 1
    assert "4 x" in capsys.readouterr().out


def test_a_family_that_does_not_exist_is_named(capsys):
    with pytest.raises(SystemExit):
        command.main(["--only", "plane"])
    assert "no family 'plane'" in capsys.readouterr().err
