"""What a watch can show is said beforehand: it is true in simulated watches, and nobody is promised more."""

import math

import numpy as np
import pytest

from andon.immune import power
from andon.immune.armed import Armed, arm
from andon.immune.history import DAY_S, Frame
from andon.immune.judging import Judge
from andon.model import Metric

BEGAN = 19_700 * DAY_S + 36_000.0
SURE_MIN, SURE_MAX = 0.50, 0.95
"""An effect of the size that is told is found in most watches, and a much smaller one would not be."""


class Simulated:
    """A metric of which only the counting is random. `rate` is per minute, per trial, or a level."""

    def __init__(self, kind, bad, rate, trials=0.0, step=60.0):
        self.kind, self.rises, self.rate, self.trials, self.step = kind, bad == "rises", rate, trials, step
        self.metric = Metric(kind, "source", kind, bad, "query", every=step)

    def buckets(self, rng, size, factor=1.0):
        minutes = self.step / 60
        none = np.full(size, math.nan)
        if self.kind == "count":
            return rng.poisson(self.rate * minutes * factor, size).astype(float), none
        if self.kind == "sum":
            orders = rng.poisson(self.rate * minutes * factor, size)
            return np.array([rng.lognormal(0, 0.8, count).sum() for count in orders]), none
        if self.kind == "gauge":
            return self.rate * factor * np.exp(0.04 * rng.standard_normal(size)), none
        trials = rng.poisson(self.trials * minutes, size).astype(float)
        if self.kind == "latency":
            return self.rate * factor * np.exp(0.05 * rng.standard_normal(size)), trials
        return rng.binomial(trials.astype(int), min(self.rate * factor, 0.98)).astype(float), trials

    def armed(self, rng, days=2.0, watch_s=1800.0) -> Armed:
        size = int(days * DAY_S / self.step)
        at = BEGAN - self.step * np.arange(size, 0, -1)
        frame = Frame(self.kind, self.rises, self.step, BEGAN)
        return arm(frame, at, *self.buckets(rng, size), watch_s=watch_s)

    def found(self, rng, armed, effect, watch_s):
        """Whether a watch in which the metric is off by that effect ends in *regressed*."""
        judge, size = Judge(armed), int(watch_s // self.step)
        values, trials = self.buckets(rng, size, 1 + effect if self.rises else 1 - effect)
        return any(judge.take(BEGAN + i * self.step, values[i], trials[i]) for i in range(size))


CASES = {
    "count 3": Simulated("count", "falls", 3),
    "count 12": Simulated("count", "falls", 12),
    "count 100": Simulated("count", "falls", 100),
    "count 1000": Simulated("count", "falls", 1000),
    "faults 2": Simulated("count", "rises", 2),
    "conversion": Simulated("proportion", "falls", 0.03, 400),
    "errors": Simulated("proportion", "rises", 0.01, 300),
    "revenue": Simulated("sum", "falls", 60),
    "latency": Simulated("latency", "rises", 150, 300),
    "gauge": Simulated("gauge", "falls", 10),
}


def share_found(case: Simulated, watches: int, watch_s: float, days: float = 2.0) -> float:
    """In which share of simulated watches, each with a history of its own, the smallest effect told is found."""
    rng = np.random.default_rng(5)
    found = []
    for _ in range(watches):
        armed = case.armed(rng, days, watch_s)
        effect = power.smallest(armed, int(watch_s // case.step))
        if effect is not None:
            found.append(case.found(rng, armed, effect, watch_s))
    assert len(found) > watches / 2
    return sum(found) / len(found)


@pytest.mark.parametrize("name", CASES)
def test_the_smallest_effect_that_is_told_is_found_in_most_watches(name):
    assert SURE_MIN <= share_found(CASES[name], 30, 1800.0) <= SURE_MAX


@pytest.mark.nightly
@pytest.mark.parametrize("watch_s", [900.0, 2700.0])
@pytest.mark.parametrize("name", CASES)
def test_it_is_so_for_shorter_and_longer_watches_and_more_history(name, watch_s):
    assert SURE_MIN <= share_found(CASES[name], 200, watch_s, days=8.0) <= SURE_MAX


@pytest.mark.parametrize("spare", [-5.0, 25.0])
def test_a_price_that_is_not_the_measured_one_fails_the_simulation(monkeypatch, spare):
    monkeypatch.setattr(power, "SPARE", spare)
    assert not SURE_MIN <= share_found(CASES["count 100"], 40, 1800.0) <= SURE_MAX


@pytest.mark.parametrize("name", ["count 100", "errors", "latency"])
def test_the_time_that_is_told_fits_the_smallest_effect(name):
    armed = CASES[name].armed(np.random.default_rng(1))
    for buckets in (10, 20, 40):
        effect = power.smallest(armed, buckets)
        assert power.takes_s(armed, effect) <= buckets * armed.step
        less = power.takes_s(armed, 0.95 * effect)
        assert less is None or less > buckets * armed.step


def test_more_traffic_and_longer_watches_show_smaller_effects():
    rng = np.random.default_rng(2)
    by_rate = [
        power.smallest(CASES[name].armed(rng), 30) for name in ("count 3", "count 12", "count 100", "count 1000")
    ]
    assert by_rate == sorted(by_rate, reverse=True)
    armed = CASES["count 12"].armed(rng)
    by_length = [power.smallest(armed, buckets) or math.inf for buckets in range(1, 60)]
    assert by_length == sorted(by_length, reverse=True)
    assert by_length[0] == math.inf


def test_nothing_is_promised_before_persistence_and_restart_allow_it():
    rng = np.random.default_rng(3)
    busy = CASES["count 1000"].armed(rng)
    for effect in (0.3, 0.6, 0.9):
        assert power.takes_s(busy, effect) >= max(180.0, busy.restart_s + busy.after_s)
    halves = Simulated("count", "falls", 10, step=1800.0).armed(rng, days=10)
    assert power.takes_s(halves, 0.9) >= 2 * 1800.0
    quick = Simulated("count", "falls", 1000, step=10.0).armed(rng, days=0.5)
    assert power.takes_s(quick, 0.9) >= 180.0


def test_an_effect_that_does_not_show_within_the_longest_window_never_does():
    armed = CASES["count 12"].armed(np.random.default_rng(4))
    assert power.takes_s(armed, 0.05) is None
    assert power.smallest(armed, 3000) == pytest.approx(power.smallest(armed, 60), rel=0.2)


def test_in_an_incident_only_more_can_be_shown_and_in_a_growing_one_nothing():
    import msgspec

    armed = CASES["count 1000"].armed(np.random.default_rng(5))
    calm = power.smallest(armed, 30)
    off = power.smallest(msgspec.structs.replace(armed, state="incident", earlier=None), 30)
    assert calm <= off
    assert off >= 0.08
    assert power.smallest(msgspec.structs.replace(armed, state="growing", earlier=None), 30) is None


def test_the_sentence_is_for_whoever_is_on_call():
    rng = np.random.default_rng(6)
    few = Simulated("count", "falls", 12)
    shown = power.power(Metric("checkouts", "s", "count", "falls", "q"), few.armed(rng), 1800.0)
    assert shown.words.startswith("12.")
    assert (
        f"checkouts/min can show a fall of {math.ceil(100 * shown.effect)} % in this watch, not less; " in shown.words
    )
    assert shown.words.endswith("20 % would not show, however long it was watched")
    many = Simulated("proportion", "falls", 0.031, 6000)
    shown = power.power(Metric("conversion", "s", "proportion", "falls", "q"), many.armed(rng), 1800.0)
    assert shown.words.startswith("conversion 3.1 % of 6,0")
    assert "not less" not in shown.words
    assert shown.words.endswith("20 % would take 5 min" if shown.usual_s == 300 else "min")
    errors = power.power(Metric("errors", "s", "proportion", "rises", "q"), CASES["errors"].armed(rng), 1800.0)
    assert "can show a rise of " in errors.words
    assert "; 100 % would " in errors.words
    slow = power.power(Metric("p95", "s", "latency", "rises", "q", unit="ms"), CASES["latency"].armed(rng), 1800.0)
    assert slow.words.startswith("p95 at 150 ms can show a rise of 1")
    assert (
        power.power(Metric("x", "s", "count", "falls", "q"), few.armed(rng), 120.0)
        .words.split(" can ")[1]
        .startswith("show no fall in this watch, however large; 20 % would")
    )


@pytest.mark.parametrize("value", [0.0, 1.0, 1e12, -5.0])
@pytest.mark.parametrize("kind", ["count", "sum", "proportion", "latency", "gauge"])
@pytest.mark.parametrize("bad", ["falls", "rises"])
def test_whatever_the_history_it_answers(kind, bad, value):
    for size in (1, 3, 400):
        at = BEGAN - 60.0 * np.arange(size, 0, -1)
        n = np.full(size, 2e12 if kind == "proportion" else math.nan)
        armed = arm(Frame(kind, bad == "rises", 60.0, BEGAN), at, np.full(size, value), n, watch_s=900.0)
        shown = power.power(Metric("m", "s", kind, bad, "q"), armed, 900.0)
        assert shown.words
        assert shown.effect is None or 0 < shown.effect <= 39
