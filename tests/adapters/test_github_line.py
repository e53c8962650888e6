"""The engine over a line at GitHub: from a commit to a rollback, by a person and by itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters._github_hub import ConnectionOptions
from adapters._github_target import DeployOptions
from adapters.github import ADAPTER, CIOptions
from andon.clock import FastClock
from andon.config import Config, Connection, Entry, LineConfig
from andon.cord import state
from andon.engine import Engine
from andon.model import Act, Metric, Sample, Samples, Threshold
from andon.ports import Can
from andon.registry import Adapter, NoOptions, Place, Station
from tests.adapters.github_server import ACTS, HOUR, READS, REPO, Contract, GitHub, serving
from tests.fakes import Scripts
from tests.helpers import wait_until
from tests.test_engine import opened

LIMIT_S = 60.0
NAME = "checkout"


class Orders(Scripts):
    """A metrics source: with a defect in production fewer customers buy."""

    can = Can()

    def __init__(self, clock: FastClock, github: GitHub) -> None:
        super().__init__(clock)
        self.github = github
        self.defects: set[str] = set()

    async def samples(self, metric: Metric, start: float, end: float, every: float) -> Samples:
        with self.github.lock:
            bad = self.github.shipped[-1] in self.defects
        rows = tuple(
            Sample(start + i * every, 12.0 if bad else 31.0, 1000.0) for i in range(int((end - start) // every))
        )
        return Samples("ok", rows)


@pytest.fixture
def clock() -> FastClock:
    return FastClock(10.0)


@pytest.fixture
def github(clock: FastClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHub]:
    monkeypatch.setenv("GH_READS", READS)
    monkeypatch.setenv("GH_ACTS", ACTS)
    monkeypatch.setattr("adapters._github_hub.APART_S", 0.0)
    contract = Contract()
    with serving(contract) as github:
        github.now = clock.now
        for number, title in enumerate(("first", "second")):
            github.ship(title, clock.now() - (5 - number) * HOUR)
        github.by_itself = {"rollback.yml"}
        yield github
    assert not contract.violations


@pytest.fixture
def orders(clock: FastClock, github: GitHub) -> Orders:
    return Orders(clock, github)


@pytest.fixture
def config(tmp_path: Path, github: GitHub, orders: Orders) -> Config:
    assert ADAPTER.ci is not None
    assert ADAPTER.deploy is not None
    connection = ConnectionOptions(url=github.url, token="env:GH_READS", token_acts="env:GH_ACTS")
    shop = Adapter("shop", "orders", NoOptions, lambda *_: orders, metrics=Station(NoOptions, lambda *_: orders))
    conversion = Metric(
        "conversion",
        "shop",
        "proportion",
        "falls",
        "q",
        every=15.0,
        lag=1.0,
        on_regression="rollback",
        threshold=Threshold(below=0.02, for_s=45.0),
    )
    place = Place(NAME, "production", ("deploy.yml",))
    line = LineConfig(
        NAME,
        ci=(Entry("gh", place, CIOptions(REPO, "ci.yml"), ADAPTER.ci, 5.0, target="gh/checkout/deploy.yml"),),
        deploy=Entry(
            "gh",
            Place(NAME, "production"),
            DeployOptions(REPO, "rollback.yml"),
            ADAPTER.deploy,
            5.0,
            only_way_in=True,
            target="gh",
        ),
        metrics=(conversion,),
        watch_s=60.0,
        shadow=0,
    )
    connections = {"gh": Connection("gh", ADAPTER, connection), "shop": Connection("shop", shop, NoOptions())}
    return Config(tmp_path / "andon.yaml", connections=connections, lines={NAME: line})


def line(engine: Engine) -> Any:
    return engine.keeper.board.line(NAME)


def word(engine: Engine) -> str:
    return state(line(engine), engine.config.lines[NAME], engine.view.pulses, engine.clock.now())


def settled(engine: Engine, kind: str) -> Act:
    """The last act of that kind, once it is settled."""

    def look() -> Act | None:
        found = [item for item in line(engine).acts.values() if item.kind == kind]
        return found[-1] if found and found[-1].settled else None

    found = wait_until(look, LIMIT_S)
    assert found is not None
    return found


def runs(engine: Engine, sha: str) -> bool:
    current = line(engine).current
    return current is not None and current.version == sha and current.state == "settled"


def test_from_a_commit_to_its_rollback_and_the_fix_that_passes_the_hold(
    config: Config, github: GitHub, clock: FastClock, tmp_path: Path
) -> None:
    with opened(config, tmp_path / "ledger.db", clock) as engine:
        wait_until(lambda: word(engine) == "running", LIMIT_S)
        good = github.shipped[-1]
        wait_until(lambda: runs(engine, good), LIMIT_S)
        bad = github.ship("it is new")
        wait_until(lambda: runs(engine, bad), LIMIT_S)
        wait_until(lambda: line(engine).change(bad), LIMIT_S)
        assert line(engine).change(bad).title == "it is new"
        waits = github.push("it waits")
        for _ in range(2):
            github.go(github.of("ci.yml", waits))

        engine.rollback(NAME, why="orders fall").result(30)
        wait_until(lambda: runs(engine, good), LIMIT_S)
        assert settled(engine, "rollback").state == "verified"
        wait_until(lambda: word(engine) == "stopped", LIMIT_S)
        assert github.states["deploy.yml"] == "disabled_manually"
        assert github.of("deploy.yml", waits)["conclusion"] == "cancelled"
        assert github.shipped == [github.commits[0]["sha"], good, bad, good]

        fix = github.push("the fix")
        for _ in range(2):
            github.go(github.of("ci.yml", fix))
        hold = line(engine).open_holds[0].id
        engine.push(NAME, fix, "the fix", through=hold).result(30)
        wait_until(lambda: runs(engine, fix), LIMIT_S)
        assert settled(engine, "push").state == "verified"
        assert word(engine) == "stopped"
        engine.resume(NAME, "the fix runs").result(30)
        assert settled(engine, "release").state == "verified"
        wait_until(lambda: word(engine) == "running", LIMIT_S)
        assert github.states["deploy.yml"] == "active"
        assert github.of("deploy.yml", waits)["attempt"] == 1, "what waited would have undone the fix"
        assert github.variables == {}


def test_a_defect_is_found_stopped_and_rolled_back_by_itself(
    config: Config, github: GitHub, orders: Orders, clock: FastClock, tmp_path: Path
) -> None:
    with opened(config, tmp_path / "ledger.db", clock) as engine:
        wait_until(lambda: word(engine) == "running", LIMIT_S)
        good = github.ship("it is well")
        wait_until(lambda: _verdict(engine, good) == "healthy", LIMIT_S)
        bad = github.push("it is not")
        orders.defects.add(bad)
        for file in ("ci.yml", "deploy.yml"):
            for _ in range(2):
                github.go(github.of(file, bad))
        back = settled(engine, "rollback")
        assert (back.state, back.who, back.version) == ("verified", "immune", good)
        assert github.shipped[-1] == good
        assert github.states["deploy.yml"] == "disabled_manually"
        assert [hold.owner for hold in line(engine).open_holds] == ["immune"]


def _verdict(engine: Engine, sha: str) -> str:
    found = [item for item in line(engine).deployments if item.version == sha]
    watch = line(engine).watches.get(found[-1].id) if found else None
    return watch.verdict.word if watch and watch.verdict and watch.ended else ""
