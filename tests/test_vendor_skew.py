"""Clocks that disagree, jump and change their hour, and events that come twice or in the wrong order: whose fault a fall of
a metric is, is never said wrongly. The whole duty of an engine, in virtual time.
"""

import asyncio
import itertools
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from andon.board import CHANGES, DEPLOYMENTS, RUNS
from andon.cord import pulse_key, state
from andon.events import DeploymentSeen, Marked, Started
from andon.immune import policy
from andon.model import Change, Deployment, Run
from andon.ports import Changes, Fact, Pulse, Unreachable, Wait
from tests.fakes import LINE, FakeDeploy, FakeHalting, FakeMeter, Guard, OffClock, Shop, play, virtual
from tests.helpers import wait_until
from tests.test_engine import Outside, QuickClock, opened, small

GOOD, BAD = 0.031, 0.011
WATCH_S = 360.0
BEFORE_S = 130.0
"""The engine has run for so long when v2 is shipped."""

Rate = Callable[[float], float | None]


def line_over(shop: Shop, name: str, rate: Rate, *, deploy_off_s: float = 0.0, meter_off_s: float = 0.0) -> FakeDeploy:
    """A line of its own sources, on which v1 has run well for a day."""
    config = shop.has(name, f"ci/{name}")
    shop.lines[name] = msgspec.structs.replace(config, watch_s=WATCH_S)
    deploy = shop.deploys[name] = FakeDeploy(OffClock(shop.clock, deploy_off_s))  # type: ignore[arg-type]
    deploy.put("v1")
    deploy.change("d1", at=deploy.clock.now() - 86400)
    meter = shop.meters[f"{name}/meter"] = FakeMeter(shop.clock, rate)
    meter.off_s = meter_off_s
    now = shop.clock.now()
    shop.ledger.commit(Marked(line=name, at=now, deployment="d1", version="v1", mark="good", who="cy", why="weeks"))
    return deploy


def begins(shop: Shop) -> None:
    """A ledger that was begun just now, by an engine, and no line yet."""
    shop.lines.clear()
    shop.ledger.commit(Started(line="", at=shop.clock.now(), holder="immune-1", epoch=1))


def falls(at: float) -> Rate:
    """Well until then."""
    return lambda moment: GOOD if moment < at else BAD


def said(guard: Guard, name: str, id_: str = "d2") -> set[str]:
    """Every word that was ever said of a deployment."""
    rows = [msgspec.json.decode(row.body) for row in guard.shop.ledger.read(0, 100_000) if row.kind == "judged"]
    return {row["verdict"]["word"] for row in rows if row["line"] == name and row["deployment"] == id_}


# ---- source clocks


STEPS = [sign * step for step in (1, 4, 6, 29, 31, 45, 61, 120, 300, 900, 1800, 3600) for sign in (-1.0, 1.0)]
WHO = ("deploy", "meter", "both")


LAID_WRONGLY = {
    "a fall is not seen",
    "what fell before is laid on it",
    "a good one is accused",
    "a line is stopped for nothing",
}


class Day:
    """Three lines ship v2 at the same moment: one falls with it, one fell ten minutes before, one stays well."""

    def __init__(self, shop: Shop, deploy_off_s: float, meter_off_s: float) -> None:
        self.shop, self.deploy_off_s, self.meter_off_s = shop, deploy_off_s, meter_off_s
        begins(shop)
        self.at = shop.clock.now() + BEFORE_S
        rates = {"bad": falls(self.at), "fell": falls(self.at - 600), "fine": lambda _: GOOD}
        self.deploys = {
            name: line_over(shop, name, rate, deploy_off_s=deploy_off_s, meter_off_s=meter_off_s)
            for name, rate in rates.items()
        }
        self.guard = Guard(shop)

    async def passes(self) -> None:
        """Ship, and watch until all is said."""
        await asyncio.sleep(BEFORE_S)
        for deploy in self.deploys.values():
            deploy.put("v2")
        await asyncio.sleep(WATCH_S + 90)

    def wrong(self) -> list[str]:
        """What was said or done that must not be, and what was not that must; empty: nothing."""
        off_s, meter_off_s = max(abs(self.deploy_off_s), abs(self.meter_off_s)), abs(self.meter_off_s)
        bad, fell, fine = (said(self.guard, name) for name in ("bad", "fell", "fine"))
        back = [item.version for item in self.deploys["bad"].deployments] == ["v1", "v2", "v1"]
        held = {name for name in self.deploys if self.guard.line(name).holds}
        checks = {
            "a fall is not seen": "healthy" in bad,
            "what fell before is laid on it": "regressed" in fell,
            "a good one is accused": "regressed" in fine,
            "a line is stopped for nothing": bool(held - {"bad"}),
            "acted although a clock is off": back and off_s > policy.SKEW_OFF_S,
            "not acted although all clocks are right": not back and off_s <= policy.SKEW_OFF_S,
            "not stopped": not meter_off_s and (held != {"bad"} or "regressed" not in bad),
            "a good one is not called so": not meter_off_s and "healthy" not in fine,
            "numbers of another time are trusted": meter_off_s > 60
            and not (bad | fell | fine) <= {"blind", "undecided"},
        }
        return [words for words, is_so in checks.items() if is_so]

    def words(self) -> list[str]:
        """What is wrong with what the screen says of the clocks."""
        off_s = max(abs(self.deploy_off_s), abs(self.meter_off_s))
        shown = self.guard.duty.clock_words
        wrong = ["a clock is off and it is not said"] if off_s > 5 and not shown else []
        wrong += ["no clock is off and it is said"] if off_s < 5 and shown else []
        return wrong + (["not said that auto is off"] if off_s > 30 and "auto off: clock" not in shown else [])


def day(deploy_off_s: float, meter_off_s: float) -> list[str]:
    found: list[str] = []

    async def work(shop: Shop) -> None:
        one = Day(shop, deploy_off_s, meter_off_s)
        await one.passes()
        found.extend([*one.wrong(), *one.words()])

    play(work)
    return found


def offs(who: str, step: float) -> tuple[float, float]:
    return (step if who != "meter" else 0.0), (step if who != "deploy" else 0.0)


@pytest.mark.parametrize(("step", "who"), list(zip(STEPS, itertools.cycle(WHO), strict=False)))
def test_no_clock_that_is_off_makes_it_blame_or_clear_the_wrong_one(step: float, who: str) -> None:
    assert day(*offs(who, step)) == []


@pytest.mark.nightly
@pytest.mark.parametrize(("step", "who"), list(itertools.product(STEPS, WHO)))
def test_nor_does_any_other_mixture_of_clocks(step: float, who: str) -> None:
    assert day(*offs(who, step)) == []


def test_mutant_who_does_not_care_about_clocks_acts(monkeypatch: pytest.MonkeyPatch) -> None:
    off_s = policy.SKEW_OFF_S
    monkeypatch.setattr(policy, "SKEW_OFF_S", math.inf)

    def caring(self: Day) -> list[str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(policy, "SKEW_OFF_S", off_s)
            return kept(self)

    kept = Day.wrong
    monkeypatch.setattr(Day, "wrong", caring)
    assert "acted although a clock is off" in day(3600.0, 0.0)


# ---- our own clock


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where the clocks go forward and back."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(datetime(2025, 3, 30, 0, 55, tzinfo=UTC), id="the hour goes forward"),
        pytest.param(datetime(2025, 10, 26, 0, 55, tzinfo=UTC), id="the hour goes back"),
        pytest.param(datetime(2024, 2, 28, 23, 55, tzinfo=UTC), id="a leap day begins"),
        pytest.param(datetime(2024, 2, 29, 23, 55, tzinfo=UTC), id="a leap day ends"),
        pytest.param(datetime(2016, 12, 31, 23, 55, tzinfo=UTC), id="a leap second"),
    ],
)
def test_the_calendar_changes_nothing(berlin: None, moment: datetime) -> None:
    found: list[str] = []

    async def work(shop: Shop) -> None:
        shop.clock.step(moment.timestamp() - shop.clock.now())
        one = Day(shop, 0.0, 0.0)
        await one.passes()
        found.extend([*one.wrong(), *one.words()])

    play(work)
    assert found == []


@pytest.mark.parametrize("asleep_s", [120.0, 600.0, 1500.0, 3600.0, 8 * 3600.0])
@virtual
async def test_what_happened_while_the_machine_was_suspended_is_judged_by_what_was_measured(
    shop: Shop, asleep_s: float
) -> None:
    day = Day(shop, 0.0, 0.0)
    await asyncio.sleep(BEFORE_S)
    for deploy in day.deploys.values():
        deploy.put("v2")
    await asyncio.sleep(30)
    shop.clock.step(asleep_s)
    await asyncio.sleep(WATCH_S + 90)
    wrong = day.wrong()
    if asleep_s > WATCH_S:  # its numbers are old by now: stopped, and a person decides
        assert [item.version for item in day.deploys["bad"].deployments] == ["v1", "v2"]
        wrong.remove("not acted although all clocks are right")
    assert wrong == []


@pytest.mark.parametrize("off_s", [-3600.0, -90.0, 90.0, 3600.0])
@virtual
async def test_a_clock_of_ours_that_is_set_right_during_a_watch_lays_nothing_on_the_wrong_one(
    shop: Shop, off_s: float
) -> None:
    """Until then every source seems to be off."""
    shop.clock.step(off_s)
    day = Day(shop, -off_s, -off_s)
    await asyncio.sleep(BEFORE_S)
    for deploy in day.deploys.values():
        deploy.put("v2")
    await asyncio.sleep(100)
    shop.clock.step(-off_s)
    for name, deploy in day.deploys.items():
        deploy.clock.off_s = shop.meters[f"{name}/meter"].off_s = 0.0  # type: ignore[attr-defined]
    await asyncio.sleep(WATCH_S + 90)
    assert LAID_WRONGLY & set(day.wrong()) == set()
    assert day.guard.duty.clock_words == ""


@pytest.mark.parametrize("step_s", [-3600.0, 3600.0])
@pytest.mark.parametrize("trouble", ["unreachable", "ignored"])
@virtual
async def test_a_halt_is_kept_at_however_the_clock_jumps(shop: Shop, trouble: str, step_s: float) -> None:
    """As when the network comes back, and with it the right time."""
    room = shop.room()
    shop.stand.ignores = trouble == "ignored"
    if trouble == "unreachable":
        shop.stand.answers = [Unreachable("no route")] * 6
        shop.stand.down = Unreachable("no route")
    await room.cord.pull(LINE, "ann", "x")
    await asyncio.sleep(20)
    shop.clock.step(step_s)
    shop.stand.answers, shop.stand.down, shop.stand.ignores = [], None, False
    await asyncio.sleep(60)
    assert shop.stand.standing
    assert room.acts("halt")[0].state == "verified"


@virtual
async def test_a_read_that_is_dated_later_than_now_proves_nothing(shop: Shop) -> None:
    """After a clock went back: what it shows is of another time."""
    line, config, now = shop.room().line, shop.lines[LINE], shop.clock.now()
    pulse = {pulse_key("ci/deploy"): Pulse(pulse_key("ci/deploy"), now + 3600, "ok")}
    assert state(line, config, pulse, now) == "unknown"
    assert state(line, config, pulse, now + 3600) == "running"


def test_a_lease_does_not_outlive_its_holder_because_the_clock_went_back(tmp_path: Path) -> None:
    class Stepped(QuickClock):
        off_s = 0.0

        def now(self) -> float:
            return super().now() + self.off_s

    clock = Stepped(5.0)
    outside = Outside(clock)
    with opened(small(tmp_path / "andon.yaml", outside), tmp_path / "ledger.db", clock) as engine:
        wait_until(lambda: engine.view.here, 30)
        clock.off_s = -3600.0
        wait_until(lambda: engine.view.lease and engine.view.lease.expires_at < clock.now() + 60, 30)


# ---- events out of order, and again and again


class Teller(FakeHalting):
    """A CI that tells all it knows again and again, each time in another order."""

    def __init__(self, shop: Shop, facts: list[Fact], seed: int) -> None:
        super().__init__(shop.clock)
        self.facts, self.dice = facts, random.Random(seed)
        self.rounds = 0

    async def watch(self) -> AsyncIterator[Fact | Wait]:
        while True:
            told = [*self.facts, *self.dice.sample(self.facts, len(self.facts) // 3)]
            self.dice.shuffle(told)
            for fact in told:
                yield fact
            self.rounds += 1
            yield Wait(5)


def much(timed: bool, number: int = 20) -> tuple[list[Fact], list[Deployment]]:
    """More of everything than a board keeps, with the times or without any."""
    ids = range(max(CHANGES, RUNS, DEPLOYMENTS) + number)
    changes = [Changes(tuple(Change(f"c{i:04}", at=1000.0 * i if timed else 0.0) for i in ids))]
    runs = [Run(f"r{i}", f"c{i:04}", "passed", at=1000.0 * i if timed else 0.0) for i in ids]
    shipped = [Deployment(f"d{i}", f"v{i}", "settled", at=1000.0 * i + 1 if timed else 0.0) for i in ids]
    return [*changes, *runs], shipped


def told_by(shop: Shop, facts: list[Fact], shipped: list[Deployment], seed: int) -> Teller:
    """The shop's CI, and its target, tell that."""
    teller = shop.stands["ci/deploy"] = Teller(shop, facts, seed)
    assert shop.deploy is not None
    deploy, dice = shop.deploy, random.Random(seed)
    deploy.deployments = list(shipped)

    async def watch() -> AsyncIterator[Fact | Wait]:
        while True:
            for item in dice.sample(deploy.deployments, len(deploy.deployments)):
                yield item
            yield Wait(5)

    deploy.watch = watch  # type: ignore[method-assign]
    shop.meters["meter"] = FakeMeter(shop.clock, lambda _: GOOD)
    return teller


@pytest.mark.parametrize("timed", [True, False], ids=["with times", "without times"])
@virtual
async def test_what_is_told_again_and_again_is_recorded_once(shop: Shop, timed: bool) -> None:
    """However much it is, and in whatever order."""
    teller = told_by(shop, *much(timed), seed=1)
    guard = Guard(shop)
    await guard.room.until(lambda: teller.rounds > 1)
    before = guard.rows()
    await guard.room.until(lambda: teller.rounds > 6)
    assert guard.rows() == before


@virtual
async def test_mutant_who_records_what_it_knows_already_writes_for_ever(shop: Shop) -> None:
    teller = told_by(shop, *much(True), seed=1)
    guard = Guard(shop)

    def forgetful(line: str, source: str, fact: Fact) -> DeploymentSeen | None:
        return DeploymentSeen(line, fact.at, source, fact) if isinstance(fact, Deployment) else None

    guard.duty._event = forgetful  # type: ignore[method-assign]
    await guard.room.until(lambda: teller.rounds > 1)
    before = guard.rows()
    await guard.room.until(lambda: teller.rounds > 3)
    assert guard.rows() > before


@virtual
async def test_the_order_of_what_is_told_does_not_matter(shop: Shop) -> None:
    """What is current, the order of deployments and what became of each run are the same for every order."""
    facts, shipped = much(True)
    teller = told_by(shop, facts, shipped, seed=2)
    guard = Guard(shop)
    await guard.room.until(lambda: teller.rounds > 1)
    line = guard.line()
    assert [item.id for item in line.deployments] == [item.id for item in shipped[-DEPLOYMENTS:]]
    assert line.current == shipped[-1]
    assert set(line.runs) == {f"r{i}" for i in range(len(shipped) - RUNS, len(shipped))}
    assert [change.id for change in line.changes] == [f"c{i:04}" for i in range(len(shipped) - CHANGES, len(shipped))]


@virtual
async def test_a_newer_deployment_that_is_told_first_is_current_and_ends_the_watch_of_the_older(shop: Shop) -> None:
    begins(shop)
    deploy = line_over(shop, "late", lambda _: GOOD)
    guard = Guard(shop)
    await asyncio.sleep(BEFORE_S)
    second = deploy.put("v2")
    await asyncio.sleep(120)
    third = deploy.put("v3")
    deploy.deployments = [deploy.deployments[0], third]  # v2 is listed late
    await asyncio.sleep(60)
    deploy.deployments.insert(1, second)
    await asyncio.sleep(WATCH_S + 90)
    watches = guard.line("late").watches
    verdicts = {id_: watch.verdict for id_, watch in watches.items()}
    assert guard.line("late").current == third
    assert verdicts["d2"] is not None
    assert (verdicts["d2"].word, verdicts["d2"].sentence) == ("undecided", "replaced by v3 after 2 min of 6 min")
    assert verdicts["d3"] is not None
    assert verdicts["d3"].word == "healthy"
