"""The engine on its own thread: over the plant with a fast clock, and over small sources that fail when they are told to."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters.plant import ADAPTER as PLANT
from adapters.plant import ConnectionOptions
from adapters.sqlite import SqliteLedger
from andon.acts import NotDone
from andon.board import Board, Line
from andon.clock import FastClock
from andon.config import Config, Connection, Entry, LineConfig
from andon.cord import state
from andon.engine import Engine
from andon.keeper import Keeper
from andon.model import Halted, Metric, Sample, Samples, Threshold
from andon.ports import Can, Identity, LedgerUnusable, Unreachable
from andon.registry import Adapter, NoOptions, Place, Station
from tests.fakes import LINE, FakeDeploy, FakeHalting, Scripts
from tests.helpers import wait_until

SPEED = 20.0


class QuickClock(FastClock):
    """Everything goes faster, what people and networks wait for as well: a lease of 7 s lives for a third of one."""

    def real(self, seconds: float) -> float:
        return seconds


@contextmanager
def opened(
    config: Config, path: Path, clock: QuickClock, who: str = "ann", *, duty: bool = True, read_only: bool = False
) -> Iterator[Engine]:
    """One process's ledger and engine."""
    keeper = Keeper(lambda: SqliteLedger(path, clock, read_only=read_only), clock).start()
    engine = Engine(config, keeper, clock, path.parent, who=who, duty=duty, read_only=read_only).start()
    try:
        yield engine
    finally:
        engine.stop()
        keeper.close()


def line(engine: Engine, name: str = LINE) -> Line:
    board: Board = engine.keeper.board
    return board.line(name)


def acts(engine: Engine, *kinds: str, name: str = LINE) -> list[Any]:
    return [act for act in line(engine, name).acts.values() if act.kind in kinds]


# ---- over the plant


@pytest.fixture
def plant(tmp_path: Path) -> Config:
    """A line whose defect ships soon."""
    options = ConnectionOptions(seed=7, world=str(tmp_path / "plant.world"), calm_s=5.0)
    connection = Connection("plant", PLANT, options)

    def entry(station: Station | None, *halts: str) -> Entry:
        assert station is not None
        target = f"plant/{'+'.join(halts)}" if halts else "plant"
        return Entry("plant", Place("checkout", "production", halts), NoOptions(), station, 2.0, target=target)

    conversion = Metric(
        "conversion",
        "plant",
        "proportion",
        "falls",
        "conversion",
        every=60.0,  # long enough for the share to be steady
        lag=2.0,
        on_regression="rollback",
        threshold=Threshold(below=0.022, for_s=180.0),
    )
    config = LineConfig(
        "checkout",
        ci=(entry(PLANT.ci, "deploy"),),
        deploy=entry(PLANT.deploy),
        metrics=(conversion,),
        notify=(entry(PLANT.notify),),
    )
    return Config(tmp_path / "andon.yaml", connections={"plant": connection}, lines={"checkout": config})


def test_a_defect_is_found_rolled_back_held_and_seen_to_recover(plant: Config, tmp_path: Path) -> None:
    with opened(plant, tmp_path / "ledger.db", QuickClock(2 * SPEED)) as engine:
        # Not faster: a pause of this machine must not make the numbers older than the policy acts on.
        wait_until(lambda: [act for act in acts(engine, "rollback", name="checkout") if act.state == "verified"], 90)
        act = acts(engine, "rollback", name="checkout")[0]
        seen = line(engine, "checkout")
        assert (act.who, act.auto) == ("immune", True)
        assert [hold.owner for hold in seen.open_holds] == ["immune"]
        assert seen.marks[act.expected].mark == "faulty"
        wait_until(lambda: _helped(engine, act.expected) == "recovered", 90)
        shown = line(engine, "checkout")
        assert state(shown, plant.lines["checkout"], engine.view.pulses, engine.clock.now()) == "stopped"
        engine.resume("checkout", "the defect is out").result()
        wait_until(
            lambda: (
                state(line(engine, "checkout"), plant.lines["checkout"], engine.view.pulses, engine.clock.now())
                == "running"
            )
        )


def _helped(engine: Engine, deployment: str) -> str:
    found = line(engine, "checkout").helped.get(deployment)
    return found.word if found else ""


# ---- over small sources


class Meter(Scripts):
    """A metrics source."""

    can = Can()

    async def samples(self, metric: Metric, start: float, end: float, every: float) -> Samples:
        await self.read()
        rows = tuple(Sample(start + i * every, 31.0, 1000.0) for i in range(int((end - start) // every)))
        return Samples("ok", rows)


class Outside:
    """Everything outside of a line."""

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.stand = FakeHalting(clock)
        self.deploy = FakeDeploy(clock)
        self.meter = Meter(clock)
        self.deploy.put("v1")
        self.deploy.put("v2")


def small(path: Path, outside: Outside) -> Config:
    """A line over those sources, asked every second."""
    adapter = Adapter(
        "small",
        "small sources",
        NoOptions,
        lambda *_: outside,
        ci=Station(NoOptions, lambda *_: outside.stand),
        deploy=Station(NoOptions, lambda *_: outside.deploy),
        metrics=Station(NoOptions, lambda *_: outside.meter),
    )
    assert adapter.ci is not None
    assert adapter.deploy is not None
    place = Place(LINE, "production", ("deploy",))
    metric = Metric(
        "conversion", "small", "proportion", "falls", "q", every=10.0, lag=1.0, threshold=Threshold(below=0.02)
    )
    config = LineConfig(
        LINE,
        ci=(Entry("small", place, NoOptions(), adapter.ci, 1.0, target="small/deploy"),),
        deploy=Entry("small", Place(LINE, "production"), NoOptions(), adapter.deploy, 1.0, target="small"),
        metrics=(metric,),
    )
    return Config(path, connections={"small": Connection("small", adapter, NoOptions())}, lines={LINE: config})


@pytest.fixture
def clock() -> QuickClock:
    return QuickClock(SPEED)


@pytest.fixture
def outside(clock: QuickClock) -> Outside:
    return Outside(clock)


@pytest.fixture
def config(tmp_path: Path, outside: Outside) -> Config:
    return small(tmp_path / "andon.yaml", outside)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.db"


def pulse(engine: Engine, key: str) -> Any:
    return engine.view.pulses.get(key)


def word(engine: Engine) -> str:
    """The line's state."""
    return state(line(engine), engine.config.lines[LINE], engine.view.pulses, engine.clock.now())


def test_it_follows_its_sources_and_says_how_the_line_is(config: Config, ledger: Path, clock: QuickClock) -> None:
    with opened(config, ledger, clock) as engine:
        wait_until(lambda: word(engine) == "running")
        wait_until(lambda: [item.id for item in line(engine).deployments] == ["d1", "d2"])
        wait_until(lambda: line(engine).sources.get("small"))
        assert line(engine).sources["small"].state == "ok"
        assert engine.view.here


def test_a_task_that_dies_is_told_and_started_again(
    config: Config, outside: Outside, ledger: Path, clock: QuickClock
) -> None:
    with opened(config, ledger, clock) as engine:
        wait_until(lambda: word(engine) == "running")
        kept = engine.cord.reconcile
        engine.cord.reconcile = None  # type: ignore[assignment]
        key = f"task:{LINE}/small/deploy halted"
        wait_until(lambda: pulse(engine, key))
        assert pulse(engine, key).state == "error"
        assert "TypeError" in pulse(engine, key).words
        reads = outside.stand.reads
        engine.cord.reconcile = kept  # type: ignore[method-assign]
        died = clock.now()
        wait_until(lambda: outside.stand.reads > reads + 2)
        assert clock.now() - died < 5 + 0.5 * SPEED
        wait_until(lambda: word(engine) == "running")


@pytest.mark.parametrize("error", [Unreachable("no route"), RuntimeError("bug")])
def test_one_sources_trouble_is_its_own(
    config: Config, outside: Outside, ledger: Path, clock: QuickClock, error: Exception
) -> None:
    with opened(config, ledger, clock) as engine:
        wait_until(lambda: word(engine) == "running")
        outside.meter.down = error
        wait_until(lambda: line(engine).sources["small"].state in ("gone", "error"))
        reads = outside.deploy.reads
        outside.deploy.put("v3")
        wait_until(lambda: line(engine).deployment("d3"))
        assert outside.deploy.reads > reads
        outside.meter.down = None
        wait_until(lambda: line(engine).sources["small"].state == "ok")


def test_a_halt_target_that_is_not_read_makes_the_line_unknown_and_dead_metrics_do_not(
    config: Config, outside: Outside, ledger: Path, clock: QuickClock
) -> None:
    with opened(config, ledger, clock) as engine:
        wait_until(lambda: word(engine) == "running")
        outside.meter.down = Unreachable("no route")
        wait_until(lambda: line(engine).sources["small"].state == "gone")
        assert word(engine) == "running"
        outside.stand.down = Unreachable("no route")
        wait_until(lambda: word(engine) == "unknown")
        outside.stand.down = None
        wait_until(lambda: word(engine) == "running")


def test_a_clock_that_is_off_is_said(config: Config, outside: Outside, ledger: Path, clock: QuickClock) -> None:
    async def late() -> Identity:
        return Identity(account="fake", clock=clock.now() - 3600)

    outside.deploy.whoami = late  # type: ignore[method-assign]
    with opened(config, ledger, clock) as engine:
        wait_until(lambda: engine.view.clock_words)
        assert engine.view.clock_words == "auto off: clock of small 3600 s behind"


def test_a_source_whose_clock_cannot_be_read_keeps_no_other_from_being_compared(
    config: Config, outside: Outside, ledger: Path, clock: QuickClock
) -> None:
    async def broken() -> Identity:
        raise RuntimeError("bug")

    async def late() -> Identity:
        return Identity(account="fake", clock=clock.now() + 3600)

    outside.stand.whoami = broken  # type: ignore[method-assign]
    outside.deploy.whoami = late  # type: ignore[method-assign]
    with opened(config, ledger, clock) as engine:
        wait_until(lambda: "small 3600 s ahead" in engine.view.clock_words)


# ---- the lease


def test_two_engines_and_one_lease(config: Config, outside: Outside, ledger: Path, clock: QuickClock) -> None:
    with opened(config, ledger, clock, "ann") as first:
        wait_until(lambda: first.view.here)
        with opened(config, ledger, clock, "bo") as second:
            wait_until(lambda: second.view.lease)
            assert second.view.lease is not None
            assert second.view.lease.holder == first.me
            assert not second.view.here
            wait_until(lambda: word(second) == "running")
            epoch = second.view.lease.epoch

            first.stop()
            stopped = clock.now()
            wait_until(lambda: second.view.here)
            assert clock.now() - stopped < 7.0, "handed over at once, not when it ran out"
            assert second.view.lease.epoch == epoch + 1
            reads = outside.stand.reads
            wait_until(lambda: outside.stand.reads > reads + 2)
            wait_until(lambda: word(second) == "running")


def test_a_lease_that_is_lost_is_left_and_taken_again(
    config: Config, outside: Outside, ledger: Path, clock: QuickClock
) -> None:
    with opened(config, ledger, clock) as engine:
        wait_until(lambda: engine.view.here)
        other = SqliteLedger(ledger, clock)
        other.drop_lease(engine.me)
        taken = other.take_lease("web-7", 40.0)
        assert taken is not None
        wait_until(lambda: engine.view.lease is not None and engine.view.lease.holder == "web-7")
        wait_until(lambda: _still(lambda: outside.stand.reads))
        assert not engine.view.here
        other.drop_lease("web-7")
        wait_until(lambda: engine.view.here)
        assert engine.view.lease is not None
        assert engine.view.lease.epoch == taken.epoch + 1
        reads = outside.stand.reads
        wait_until(lambda: outside.stand.reads > reads + 2)
        other.close()


def _still(look: Callable[[], int]) -> bool:
    """Whether a number does not change in a fifth of a second: ten intervals of the sources."""
    before, end = look(), time.monotonic() + 0.2
    pause = threading.Event()
    while time.monotonic() < end:
        pause.wait(0.02)
    return look() == before


def test_whoever_takes_over_sends_what_the_other_did_not(
    config: Config, outside: Outside, ledger: Path, clock: QuickClock
) -> None:
    """An engine that ends in the grace of a rollback leaves it to the next one."""
    with opened(config, ledger, clock, "ann") as first:
        wait_until(lambda: len(line(first).deployments) == 2)
        act = first.rollback(LINE, grace_s=40.0).result()
        with opened(config, ledger, clock, "bo") as second:
            first.stop(deadline_s=1)
            wait_until(lambda: line(second).acts[act.id].state == "verified")
            assert [request[1] for request in outside.deploy.requests] == ["v1"]
            assert outside.deploy.at[0] >= act.not_before


# ---- people's acts


def test_a_persons_act_needs_no_duty_anywhere(
    config: Config, outside: Outside, ledger: Path, clock: QuickClock
) -> None:
    with opened(config, ledger, clock, duty=False) as engine:
        pulled = engine.pull(LINE, "looks odd").result()
        wait_until(lambda: [act.state for act in acts(engine, "halt")] == ["verified"])
        assert pulled.hold.id in outside.stand.parts["worker"]
        assert engine.view.lease is None
        engine.resume(LINE, "was nothing").result()
        wait_until(lambda: [act.state for act in acts(engine, "release")] == ["verified"])
        assert outside.stand.parts == {"worker": ""}
        reads = outside.stand.reads
        assert _still(lambda: outside.stand.reads)
        assert outside.stand.reads == reads


def test_a_pull_in_one_process_is_seen_in_the_other(
    config: Config, outside: Outside, ledger: Path, clock: QuickClock
) -> None:
    with opened(config, ledger, clock, "ann") as first, opened(config, ledger, clock, "bo") as second:
        wait_until(lambda: word(second) == "running")
        began = time.monotonic()
        hold = second.pull(LINE, "looks odd").result().hold
        wait_until(lambda: [item.id for item in line(first).open_holds] == [hold.id])
        assert time.monotonic() - began < 2.0
        wait_until(lambda: word(first) == "stopped" and word(second) == "stopped")
        assert len(outside.stand.requests) == 1


def test_many_threads_press_at_once(config: Config, outside: Outside, ledger: Path, clock: QuickClock) -> None:
    with opened(config, ledger, clock) as engine:
        wait_until(lambda: word(engine) == "running")
        found: list[str] = []

        def press() -> None:
            found.append(engine.pull(LINE).result().hold.id)

        threads = [threading.Thread(target=press) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(found)) == 1
        wait_until(lambda: word(engine) == "stopped")
        assert len(outside.stand.requests) == 1


def test_read_only_looks_and_never_acts_or_takes_the_lease(
    config: Config, outside: Outside, ledger: Path, clock: QuickClock
) -> None:
    with opened(config, ledger, clock, "ann") as first:
        wait_until(lambda: word(first) == "running")
        with opened(config, ledger, clock, "wall", read_only=True) as wall:
            for future in (
                wall.pull(LINE),
                wall.rollback(LINE),
                wall.resume(LINE, "x"),
                wall.mark(LINE, "d1", "good", "x"),
            ):
                with pytest.raises(NotDone, match="read-only"):
                    future.result()
            wait_until(lambda: wall.view.lease is not None and wall.view.lease.holder == first.me)
            first.stop()
            wait_until(lambda: wall.view.lease is None)
            assert _still(lambda: outside.stand.reads)
    assert outside.stand.requests == []


def test_stopping_waits_for_the_answer_of_what_was_sent(
    config: Config, outside: Outside, ledger: Path, clock: QuickClock
) -> None:
    import asyncio

    async def slow() -> Any:
        await asyncio.sleep(0.3)
        return outside.deploy.arrive("v1", "d2")

    with opened(config, ledger, clock) as engine:
        wait_until(lambda: len(line(engine).deployments) == 2)
        outside.deploy.answers = [slow]
        act = engine.rollback(LINE).result()
        wait_until(lambda: outside.deploy.requests)
        assert engine.busy
        engine.stop()
        assert line(engine).acts[act.id].state in ("accepted", "verified")
    assert outside.deploy.deployments[-1].version == "v1"


def test_stopping_twice_is_the_same_as_once(config: Config, ledger: Path, clock: QuickClock) -> None:
    with opened(config, ledger, clock) as engine:
        engine.stop()
        engine.stop()


def test_a_stopped_worker_of_somebody_else_shows_the_line_stopped(
    config: Config, outside: Outside, ledger: Path, clock: QuickClock
) -> None:
    outside.stand.parts["worker"] = "paused by cy: disk"
    with opened(config, ledger, clock) as engine:
        wait_until(lambda: word(engine) == "stopped")
        wait_until(lambda: pulse(engine, "target:small/deploy").words == "stopped outside andon")
        assert isinstance(line(engine).halted["small/deploy"], Halted)
        assert outside.stand.requests == []


def test_an_act_of_a_line_that_the_config_names_no_more_is_left_alone(config, outside, ledger, clock):
    outside.stand.ignores = True
    with opened(config, ledger, clock, "ann", duty=False) as first:
        first.pull(LINE, "x").result()
        wait_until(lambda: outside.stand.requests)
    renamed = msgspec.structs.replace(config.lines[LINE], name="other")
    changed = Config(config.path, connections=config.connections, lines={"other": renamed})

    heard = []

    class H(logging.Handler):
        def emit(self, record):
            heard.append(record.getMessage())

    h = H()
    logging.getLogger("asyncio").addHandler(h)
    with opened(changed, ledger, clock, "bo") as second:
        wait_until(lambda: second.view.here)
        time.sleep(1)
        import gc

        gc.collect()
        time.sleep(0.2)
    logging.getLogger("asyncio").removeHandler(h)
    assert heard == []


def test_an_unknown_line_is_a_sentence(config, ledger, clock):
    with opened(config, ledger, clock) as engine, pytest.raises(NotDone):
        engine.pull("nope").result()


def test_a_rollback_from_an_old_board_looks_first(config, outside, ledger, clock):
    with opened(config, ledger, clock, "ann") as first:
        wait_until(lambda: len(line(first).deployments) == 2)
    outside.deploy.put("v3")
    with opened(config, ledger, clock, "bo", duty=False) as second:
        act = second.rollback(LINE, age_s=3600.0).result()
        wait_until(lambda: line(second).acts[act.id].settled)
        assert line(second).acts[act.id].state == "verified", line(second).acts[act.id].words


def test_an_adapter_that_fails_to_close_does_not_break_leaving(config, outside, ledger, clock):
    async def boom():
        raise RuntimeError("close")

    outside.deploy.close = boom
    closed = []

    async def fine():
        closed.append(1)

    outside.meter.close = fine
    outside.stand.close = fine
    with opened(config, ledger, clock) as engine:
        wait_until(lambda: word(engine) == "running")
    assert len(closed) == 2


def test_a_pull_that_was_not_recorded_is_waited_for_when_leaving(config, outside, ledger, clock):
    class Flaky(SqliteLedger):
        full = False

        def commit(self, *events):
            if Flaky.full:
                raise LedgerUnusable("disk is full")
            super().commit(*events)

    keeper = Keeper(lambda: Flaky(ledger, clock), clock).start()
    engine = Engine(config, keeper, clock, ledger.parent, who="ann").start()
    wait_until(lambda: word(engine) == "running")
    Flaky.full = True
    pulled = engine.pull(LINE, "x").result()
    assert not pulled.recorded
    import threading

    threading.Timer(0.2, lambda: setattr(Flaky, "full", False)).start()
    engine.stop()
    keeper.close()
    again = Keeper(lambda: SqliteLedger(ledger, clock), clock).start()
    try:
        assert again.board.line(LINE).open_holds
    finally:
        again.close()
