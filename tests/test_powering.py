"""`andon check` says what a watch can show before anybody relies on it, and why where it can show nothing."""

import asyncio
import contextlib
import json
import math
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest

from andon import config as configs
from andon.configured import LineConfig
from andon.model import Control, Deployment, Metric, Sample, Samples
from andon.ports import Can, Denied, Unreachable
from tests.helpers import HOSTILE
from tui import cli, powering
from tui.powering import power_of, powers

NOW = 1_700_000_040.0
ORDERS = Metric("orders", "shop", "count", "falls", "orders")


class Clock:
    def now(self) -> float:
        return NOW


class Till:
    """A source whose buckets are drawn at so many a minute, from `since` on; `fails` instead where it is set."""

    can = Can()

    def __init__(self, rate: float = 100.0, since: float = 0.0, fails: Exception | None = None) -> None:
        self.rate, self.since, self.fails = rate, since, fails
        self.asked: list[tuple[float, float]] = []
        self.hangs_after = math.inf
        self.words = ""

    async def samples(self, metric: Metric, start: float, end: float, every: float) -> Samples:
        self.asked.append((start, end))
        if len(self.asked) > self.hangs_after:
            await asyncio.sleep(3600)
        if self.fails is not None:
            raise self.fails
        ats = [at for at in np.arange(start, end, every) if at >= self.since]
        rng = np.random.default_rng(int(start))
        rows = tuple(Sample(float(at), float(y)) for at, y in zip(ats, rng.poisson(self.rate, len(ats)), strict=True))
        return Samples("ok" if rows else "empty", rows, self.words)


class Target:
    """A deploy target with a past, or one that fails."""

    def __init__(self, *ats: float, fails: Exception | None = None) -> None:
        self.ats, self.fails = ats, fails

    async def history(self, n: int) -> list[Deployment]:
        if self.fails is not None:
            raise self.fails
        return [Deployment(id=f"d{at}", version="v", state="settled", at=at) for at in self.ats]


class Sources:
    """The opened sources of one line."""

    def __init__(self, till: Till, target: Target | None = None) -> None:
        self.till, self.target = till, target

    def metrics(self, line: str, connection: str) -> Till:
        return self.till

    def deploy(self, line: str) -> Target | None:
        return self.target


def shown(till: Till, *metrics: Metric, target: Target | None = None, watch_s: float = 900.0) -> list[powering.Shown]:
    config = LineConfig("shop", watch_s=watch_s, metrics=metrics or (ORDERS,))
    return asyncio.run(powers(Sources(till, target), config, Clock()))  # type: ignore[arg-type]


def changed(**values: object) -> Metric:
    return msgspec.structs.replace(ORDERS, **values)  # type: ignore[arg-type]


def test_a_metric_with_a_history_says_the_smallest_effect_and_how_long_a_usual_one_takes() -> None:
    (found,) = shown(Till())
    assert found.ok
    assert "orders/min can show a fall of " in found.words
    assert "; 20 % would take " in found.words
    assert found.words.endswith("(from 14 d of history)")
    assert found.effect is not None
    assert 0.05 < found.effect < 0.4
    assert found.usual == 0.2
    assert found.usual_s is not None
    assert found.usual_s >= 180


def test_a_metric_with_bounds_is_not_judged_and_not_told_of() -> None:
    from andon.model import Threshold

    assert shown(Till(), changed(threshold=Threshold(below=1.0, for_s=180.0))) == []


def test_metrics_that_are_watched_together_can_each_show_less() -> None:
    alone = shown(Till())[0].effect
    many = shown(Till(), *(changed(name=f"orders {i}") for i in range(6)))
    assert len(many) == 6
    assert alone is not None
    assert all(item.effect is not None and item.effect > alone for item in many)


def test_what_its_past_deployments_teach_about_restarts_is_used() -> None:
    calm = Target(*(NOW - 3600 * hours for hours in range(2, 12)))
    learned = shown(Till(1000.0), target=calm)[0].usual_s
    new = shown(Till(1000.0), target=Target(fails=Denied("token: expired")))[0].usual_s
    assert learned is not None
    assert new is not None
    assert learned < new


@pytest.mark.parametrize(
    ("fails", "words"),
    [
        (Unreachable("till: connection refused"), "till: connection refused; see that shop answers, then check again"),
        (Denied("token: expired"), "token: expired; see that shop answers, then check again"),
        (RuntimeError("\x1b[2J"), "its adapter failed: RuntimeError; see that shop answers, then check again"),
    ],
)
def test_a_history_that_cannot_be_read_is_a_failure_that_says_what_to_do(fails: Exception, words: str) -> None:
    (found,) = shown(Till(fails=fails))
    assert not found.ok
    assert found.words == f"orders: what a watch can show is not known: {words}"
    assert (found.effect, found.usual, found.usual_s) == (None, None, None)


def test_a_source_without_samples_says_to_look_at_the_query() -> None:
    till = Till(since=NOW)
    till.words = "no samples came in"
    (found,) = shown(till)
    assert not found.ok
    assert found.words == (
        "orders: what a watch can show is not known: shop has no samples of the last 14 d (no samples came in); "
        "look at its `value:`"
    )


def test_a_metric_that_is_new_is_no_failure_and_says_what_it_waits_for() -> None:
    (found,) = shown(Till(since=NOW - 1200))
    assert found.ok
    assert found.words.startswith("orders: only 19 min of history, and the judge needs 1 h: until then every verdict")


def test_what_came_within_the_deadline_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(powering, "DEADLINE_S", 0.5)
    slow = Till()
    slow.hangs_after = 1
    (found,) = shown(slow)
    assert found.ok
    assert slow.asked[0][1] > slow.asked[1][1], "the newest history comes first"
    assert found.history_s == powering.PIECE * 60.0
    dead = Till()
    dead.hangs_after = 0
    (found,) = shown(dead)
    assert not found.ok
    assert "shop gave no history in " in found.words


@pytest.mark.parametrize(
    ("every", "words"),
    [
        (1800.0, "a watch of 15 min holds no whole bucket of 30 min"),
        (900.0, "a watch of 15 min holds 1 bucket of 15 min"),
        (400.0, "a watch of 15 min holds 2 buckets of 6 min"),
    ],
)
def test_buckets_that_are_too_long_for_the_watch_cannot_work(every: float, words: str) -> None:
    till = Till()
    (found,) = shown(till, changed(every=every))
    assert not found.ok
    assert f"orders: it cannot work: {words}, and a verdict needs 3; a shorter `every:`, or `watch: " in found.words
    assert till.asked == []


def test_a_metric_with_next_to_no_traffic_cannot_work() -> None:
    (found,) = shown(Till(rate=0.05))
    assert not found.ok
    assert found.words.startswith("it cannot work: ")
    assert "choose a metric with more traffic, or give it a `threshold:`" in found.words


def test_beside_a_control_its_own_past_promises_nothing() -> None:
    till = Till()
    (found,) = shown(till, changed(control=Control(value="control")))
    assert found.ok
    assert found.words.startswith("orders: it is judged beside its control")
    assert (found.effect, till.asked) == (None, [])
    (found,) = shown(till, changed(control=Control(value="control"), every=600.0))
    assert not found.ok
    assert "`watch: {canary: 30m}` at least" in found.words


def test_an_incident_of_this_minute_is_no_fault_of_the_config() -> None:
    class Down(Till):
        async def samples(self, metric: Metric, start: float, end: float, every: float) -> Samples:
            found = await super().samples(metric, start, end, every)
            rows = tuple(Sample(row.at, row.value * (0.3 if row.at > NOW - 720 else 1.0)) for row in found.rows)
            return Samples(found.state, rows)

    (found,) = shown(Down())
    assert found.ok, found.words
    assert found.effect is not None
    assert found.words.endswith("; just now it is off, and until it is back less would show")


@pytest.mark.parametrize("value", [0.0, 1e300, -5.0])
def test_whatever_the_history_holds_it_answers(value: float) -> None:
    class Odd(Till):
        async def samples(self, metric: Metric, start: float, end: float, every: float) -> Samples:
            return Samples("ok", tuple(Sample(float(at), value) for at in np.arange(start, end, every)))

    (found,) = shown(Odd(), changed(name=" ".join(HOSTILE[:6])))
    assert found.words


CONFIG = """
connections: {shop: {adapter: plant}, gone: {adapter: prometheus, url: "http://127.0.0.1:9"}}
lines:
  checkout:
    deploy: {from: shop}
    watch: {full: 15m}
    metrics:
      - {name: conversion, from: shop, kind: proportion, bad: falls, value: conversion, every: 30s, lag: 3s}
      - {name: slow, from: shop, kind: sum, bad: falls, value: revenue, every: 30m}
      - {name: far away, from: gone, kind: count, bad: falls, value: x}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "andon.yaml"
    found.write_text(CONFIG)
    found.chmod(0o600)
    return found


def test_the_check_tells_it_and_fails_where_it_cannot_work(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["-c", str(path), "--ledger", str(path.with_name("l.db")), "check"]
    assert cli.run(words) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("✓ checkout: conversion 3") and "20 % would take" in line for line in lines)
    assert any(line.startswith("✗ checkout: slow: it cannot work: a watch of 15 min holds no whole") for line in lines)
    assert any(line.startswith("✗ checkout: far away: what a watch can show is not known: ") for line in lines)
    assert cli.run([*words, "--json"]) == 1
    power = {item["metric"]: item for item in json.loads(capsys.readouterr().out)["power"]}
    assert power["conversion"]["ok"]
    assert 0 < power["conversion"]["effect"] < 1
    assert power["conversion"]["usual_s"] >= 120
    assert not power["slow"]["ok"]
    assert power["far away"]["effect"] is None


def test_a_screen_asks_for_one_metric_beside_its_loop(path: Path) -> None:
    config = configs.load(path)
    metric = config.lines["checkout"].metrics[0]
    found: list[powering.Shown] = []
    state = path.with_name("state")

    async def screen() -> None:
        thread = threading.Thread(target=lambda: found.append(power_of(config, "checkout", metric, state=state)))
        thread.start()
        with contextlib.suppress(TimeoutError):
            await asyncio.to_thread(thread.join, 30)

    asyncio.run(screen())
    assert (found[0].line, found[0].metric, found[0].ok) == ("checkout", "conversion", True)
    assert "can show a fall of" in found[0].words
