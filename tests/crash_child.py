"""A room in a process of its own, which dies or stands still at a named point.

The points are before, within and after each commit that an act or a hold is part of, and before and after each call of an
adapter. Ledger, keeper and sources are wrapped here; the product knows nothing of it.
"""

import asyncio
import contextlib
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from adapters.sqlite import SqliteLedger
from andon.acts import NotDone
from andon.board import Board
from andon.config import Config, Connection, Entry, LineConfig
from andon.engine import Engine
from andon.events import ActAsked, ActStepped, ChangesSeen, DeploymentSeen, Event, HoldLifted, HoldPlaced
from andon.keeper import Keeper, fold
from andon.model import Change
from andon.ports import Audit, Can, LedgerUnusable
from andon.registry import Adapter, NoOptions, Place, Station
from tests.file_target import FileDeploy, FileHalting, FileTarget, Meets, State
from tests.helpers import wait_until

ROOT = Path(__file__).parents[1]
LINE = "shop"
LIMIT_S = 30.0


class SharedClock:
    """Goes `speed` times as fast as the machine's since `start`, in every process that is told the same two numbers."""

    def __init__(self, start: float, speed: float) -> None:
        self.start, self.speed = start, speed

    def now(self) -> float:
        return self.start + (time.time() - self.start) * self.speed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds) / self.speed)

    def real(self, seconds: float) -> float:
        """Everything goes faster, the lease as well."""
        return seconds


class Job(msgspec.Struct):
    """What a room does."""

    folder: str
    who: str
    start: float
    speed: float
    script: str
    """`rollback`: F4, then the line is resumed. `insist`: F4 until there is nothing to undo."""
    at: str = ""
    """The point at which it happens."""
    then: str = ""
    """`die`, or `stop`; empty: nothing, but the points are written down."""
    compares: bool = True
    """Whether the target says that it compares."""
    confirm_s: float = 30.0
    leads: bool = True
    """Whether it first waits until it holds the lease."""
    waits_for: str = ""
    """A file in the folder without which the script does not begin; it may hold the time at which it does."""
    stays_until: str = ""
    """A file in the folder without which the room does not leave."""
    duty: bool = True
    forgets: str = ""
    """The commit that is acknowledged and not made: a mutant."""

    def clock(self) -> SharedClock:
        return SharedClock(self.start, self.speed)


class Points:
    """Dies, or stands still, where the job says."""

    keeper: Keeper

    def __init__(self, job: Job) -> None:
        self.job = job
        self.met: list[str] = []

    def __call__(self, name: str) -> None:
        if name in self.met:
            return
        self.met.append(name)
        if name != self.job.at or not self.job.then:
            return
        if self.job.then == "die":
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(LIMIT_S)  # not one step more, however long it takes until the signal is there
        if name.startswith("within"):
            _stop()
        else:
            # By the ledger's thread: else it may be in the middle of a transaction, and keep the others from theirs.
            self.keeper.submit(lambda _: _stop(), urgent=True).result()


def _stop() -> None:
    """Stand still, and this thread at once; a signal to the process could let it go on for a while."""
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def named(events: tuple[Event, ...], board: Board) -> str:
    """What a commit is about, in words; empty: no act and no hold."""
    words = []
    for event in events:
        if isinstance(event, ActAsked):
            words.append(f"{event.act.kind} asked")
        elif isinstance(event, ActStepped):
            act = board.line(event.line).acts.get(event.act)
            words.append(f"{act.kind if act else 'act'} {event.now}")
        elif isinstance(event, (HoldPlaced, HoldLifted)):
            words.append("hold placed" if isinstance(event, HoldPlaced) else "hold lifted")
    return ", ".join(words)


class WatchedLedger(SqliteLedger):
    """Meets a point in the middle of a transaction."""

    meets: Meets
    name = ""

    def _claim(self, db: sqlite3.Connection, event: Event) -> None:
        super()._claim(db, event)
        if self.name:
            self.meets(f"within {self.name}")


class WatchedKeeper(Keeper):
    """Meets a point before and after each commit of an act or a hold."""

    def __init__(self, path: Path, clock: Any, meets: Meets, forgets: str = "") -> None:
        def opened() -> WatchedLedger:
            ledger = WatchedLedger(path, clock)
            ledger.meets = meets
            return ledger

        super().__init__(opened, clock)
        self.meets, self.forgets = meets, forgets

    async def commit(self, *events: Event, urgent: bool = False) -> Board:
        name = named(events, self.board)
        if not name:
            return await super().commit(*events, urgent=urgent)

        if name == self.forgets:
            return self.board

        def work(ledger: Any) -> None:
            ledger.name = name
            try:
                ledger.commit(*events)
            finally:
                ledger.name = ""

        self.meets(f"before {name}")
        await self.call(work, urgent=urgent, writes=True)
        self.meets(f"after {name}")
        return self.board


def config(folder: Path, clock: Any, meets: Meets, *, compares: bool, confirm_s: float) -> Config:
    """A line over the file."""
    target = FileTarget(folder / "target.json", clock)
    adapter = Adapter(
        "file",
        "a target in a file",
        NoOptions,
        lambda *_: target,
        ci=Station(NoOptions, lambda *_: FileHalting(target, meets, Can())),
        deploy=Station(NoOptions, lambda *_: FileDeploy(target, meets, Can(deploy=True, compare_and_set=compares))),
    )
    ci, deploy = adapter.ci, adapter.deploy
    assert ci is not None
    assert deploy is not None
    place = Place(LINE, "production", ("deploys",))
    line = LineConfig(
        LINE,
        ci=(Entry("file", place, NoOptions(), ci, 2.0, target="file/deploys"),),
        deploy=Entry("file", Place(LINE, "production"), NoOptions(), deploy, 2.0, confirm_s=confirm_s, target="file"),
    )
    return Config(
        folder / "andon.yaml", connections={"file": Connection("file", adapter, NoOptions())}, lines={LINE: line}
    )


@contextlib.contextmanager
def opened(job: Job) -> Iterator[tuple[Engine, Points]]:
    """A room of the job: a real ledger and a real engine."""
    folder, clock, points = Path(job.folder), job.clock(), Points(job)
    made = config(folder, clock, points, compares=job.compares, confirm_s=job.confirm_s)
    points.keeper = keeper = WatchedKeeper(folder / "ledger.db", clock, points, job.forgets).start()
    engine = Engine(made, keeper, clock, folder, who=job.who, duty=job.duty).start()
    try:
        yield engine, points
    finally:
        engine.stop()
        keeper.close()


def prepare(folder: Path, clock: Any, *, compares: bool = True) -> FileTarget:
    """A line that runs v2 after v1, and a ledger that knows it."""
    target = FileTarget(folder / "target.json", clock)
    state = State(compares=compares)
    for version in ("v1", "v2"):
        state.put(version, "pipeline", clock.now() - 3600.0 * (2 - len(state.deployments)))
    target.make(state)
    ledger = SqliteLedger(folder / "ledger.db", clock)
    ledger.commit(
        ChangesSeen(line=LINE, at=clock.now(), source="file", changes=(Change(id="v1"), Change(id="v2"))),
        *(DeploymentSeen(line=LINE, at=item.at, source="file", deployment=item) for item in state.deployments),
    )
    ledger.close()
    return target


def play(job: Job) -> None:
    """The script of a room, to its end or to its point."""
    folder = Path(job.folder)
    with opened(job) as (engine, points):
        if job.duty and job.leads:
            wait_until(lambda: engine.view.here, LIMIT_S)
        (folder / f"{job.who}.ready").touch()
        begins_at = float(_wait_for(folder, job.waits_for) or 0)
        wait_until(lambda: time.time() >= begins_at, LIMIT_S)
        SCRIPTS[job.script](engine, folder)
        (folder / f"{job.who}.points").write_text("\n".join(points.met))
        _wait_for(folder, job.stays_until)


def _wait_for(folder: Path, name: str) -> str:
    if not name:
        return ""
    wait_until((folder / name).exists, 2 * LIMIT_S)
    return (folder / name).read_text()


def _settled(engine: Engine) -> None:
    """Wait until nothing is on its way, and each act has gone through its last point."""
    wait_until(lambda: not engine.keeper.board.line(LINE).unsettled() and not engine.door.driven, LIMIT_S)


def _rolls_back_and_resumes(engine: Engine, folder: Path) -> None:
    """F4, and when all is done the line is resumed. Each answer is written down as soon as it is there."""
    act = engine.rollback(LINE, why="falls").result(LIMIT_S)
    _told(folder, act.id)
    _settled(engine)
    for hold in engine.resume(LINE, "mended", all_=True).result(LIMIT_S):
        _told(folder, hold.id)
    _settled(engine)


def _told(folder: Path, id_: str) -> None:
    with (folder / "told").open("a") as file:
        file.write(f"{id_}\n")


def _insists(engine: Engine, folder: Path) -> None:
    """F4 until there is nothing to undo, as a person does who sees that it failed."""
    done = False
    while not done:
        try:
            act = engine.rollback(LINE, why="falls").result(LIMIT_S)
        except NotDone:
            done = True  # it runs already
        except LedgerUnusable:
            continue  # another room stands still in the middle of a transaction
        _settled(engine)
        done = done or engine.keeper.board.line(LINE).acts[act.id].state == "verified"


def _recovers(engine: Engine, _: Path) -> None:
    """Nobody presses; what others left is brought to its end."""
    wait_until(lambda: engine.view.here, LIMIT_S)
    _settled(engine)


def _pulls(engine: Engine, folder: Path) -> None:
    """F9."""
    pulled = engine.pull(LINE, "looks odd").result(LIMIT_S)
    (folder / "recorded").write_text(str(pulled.recorded))
    wait_until(lambda: not engine.cord.unrecorded, LIMIT_S)
    _settled(engine)


SCRIPTS = {"pull": _pulls, "recover": _recovers, "rollback": _rolls_back_and_resumes, "insist": _insists}


def read_ledger(folder: Path) -> tuple[Board, Audit]:
    """What the ledger adds up to, folded from its first event, and what walking its chain shows."""
    ledger = SqliteLedger(folder / "ledger.db", SharedClock(0.0, 1.0), read_only=True)
    try:
        return fold(Board(), ledger.read(0, 100_000))[1], ledger.verify()
    finally:
        ledger.close()
