"""A shop in memory for tests of the core: real ledger, real doors, small true sources, and time that passes at once.

`virtual` runs a test on a loop whose sleeping takes no time. What a source answers can be scripted: `answers` are taken
first, one per request; then it behaves as a system that works. A test fails if a task of it ends with an error that
nobody heard.
"""

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from adapters.sqlite import SqliteLedger
from andon.acts import Door
from andon.board import Board, Line
from andon.config import Config, Entry, LineConfig
from andon.cord import Cord
from andon.duty import Duty
from andon.events import ChangesSeen, DeploymentSeen, Event
from andon.keeper import fold
from andon.model import (
    Act,
    Change,
    Deployment,
    Halted,
    HoldRef,
    Identity,
    LogPart,
    Metric,
    Note,
    Part,
    Sample,
    Samples,
    Threshold,
    Why,
)
from andon.ports import (
    Accepted,
    Answer,
    Can,
    Conflict,
    Fact,
    LedgerUnusable,
    NoAnswer,
    Passed,
    Pulse,
    Refused,
    Unreachable,
    Wait,
)
from andon.registry import NoOptions, Place, Station
from andon.ship import Shipper
from tests.simulation import VirtualClock, VirtualLoop

LINE = "shop"
STATION = Station(NoOptions, lambda *_: None)
LATER_S = 900.0
"""Long enough for whatever is under way to end, of virtual time."""

Scripted = Answer | Exception | Callable[[], Awaitable[Answer]]


class SteppedClock(VirtualClock):
    """The shop's clock. `step` moves it while what sleeps sleeps on, as a suspend or a corrected clock does."""

    off_s = 0.0

    def now(self) -> float:
        return super().now() + self.off_s

    def step(self, seconds: float) -> None:
        """All of a sudden it is later, or earlier."""
        self.off_s += seconds


class OffClock:
    """The clock of a source: so many seconds ahead of the shop's."""

    def __init__(self, clock: VirtualClock, off_s: float) -> None:
        self.clock, self.off_s = clock, off_s

    def now(self) -> float:
        return self.clock.now() + self.off_s

    async def sleep(self, seconds: float) -> None:
        await self.clock.sleep(seconds)

    def real(self, seconds: float) -> float:
        return seconds


class Scripts:
    """What is answered next, and what was asked."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.answers: list[Scripted] = []
        self.requests: list[tuple[Any, ...]] = []
        self.at: list[float] = []
        self.reads = 0
        self.down: Exception | None = None
        self.hangs = False

    async def whoami(self) -> Identity:
        return Identity(account="fake", clock=self.clock.now())

    async def close(self) -> None:
        return None

    async def read(self) -> None:
        self.reads += 1
        if self.hangs:
            await asyncio.sleep(1e6)
        if self.down is not None:
            raise self.down

    async def answer(self, request: tuple[Any, ...], arrive: Callable[[], Answer]) -> Answer:
        self.requests.append(request)
        self.at.append(self.clock.now())
        if not self.answers:
            return arrive()
        found = self.answers.pop(0)
        if isinstance(found, Unreachable):
            return found
        if isinstance(found, Exception):
            raise found
        return await found() if callable(found) else found

    def arrives_but_no_answer(self, arrive: Callable[[], Answer]) -> Callable[[], Awaitable[Answer]]:
        async def work() -> Answer:
            arrive()
            return NoAnswer("the answer was lost")

        return work


class FakeDeploy(Scripts):
    """A deploy target that compares deployment ids, unless `can` says otherwise."""

    def __init__(self, clock: VirtualClock, can: Can | None = None) -> None:
        super().__init__(clock)
        self.can = can or Can(deploy=True, compare_and_set=True)
        self.deployments: list[Deployment] = []
        self.rolls_s = 0.0

    def put(self, version: str, *, id_: str = "", state: str = "settled", by: str = "pipeline") -> Deployment:
        """Somebody ships."""
        now = self.clock.now()
        fresh = Deployment(id=id_ or f"d{len(self.deployments) + 1}", version=version, state=state, at=now, by=by)
        self.deployments.append(fresh)
        return fresh

    def change(self, id_: str, **values: Any) -> None:
        """A deployment goes on."""
        self.deployments = [
            msgspec.structs.replace(item, **values) if item.id == id_ else item for item in self.deployments
        ]

    def now(self) -> Deployment | None:
        return next((item for item in reversed(self.deployments) if item.state != "failed"), None)

    def arrive(self, version: str, expected: str | None) -> Answer:
        """What happens when a request to deploy arrives."""
        current = self.now()
        if self.can.compare_and_set and current is not None and current.id != expected:
            return Conflict(current.id)
        fresh = self.put(version, state="rolling" if self.rolls_s else "settled", by="andon")
        if self.rolls_s:
            asyncio.get_running_loop().call_later(self.rolls_s, lambda: self.change(fresh.id, state="settled"))
        return Accepted(fresh.id)

    async def current(self) -> Deployment | None:
        await self.read()
        return self.now()

    async def history(self, n: int) -> list[Deployment]:
        await self.read()
        return self.deployments[::-1][:n]

    async def watch(self) -> AsyncIterator[Fact | Wait]:
        while True:
            for item in await self.history(50):
                yield item
            yield Wait(1)

    async def deploy(self, version: str, *, expected: str | None, key: str, through: str | None) -> Answer:
        return await self.answer(("deploy", version, expected, key, through), lambda: self.arrive(version, expected))

    async def abort(self, deployment: str, why: Why) -> Answer:
        def arrive() -> Answer:
            self.change(deployment, state="failed", words="aborted")
            return Accepted()

        return await self.answer(("abort", deployment), arrive)

    async def share(self, version: str, percent: int, *, expected: str | None, key: str) -> Answer:
        return Refused("no shares")


class FakeHalting(Scripts):
    """Something that ships and can be told not to; its parts by name, each with the reason why it stands or ''.

    As CI it knows of `tested` changes whether their tests passed.
    """

    can = Can(cancel=True)

    def __init__(self, clock: VirtualClock, *parts: str) -> None:
        super().__init__(clock)
        self.parts = dict.fromkeys(parts or ("worker",), "")
        self.moving: tuple[str, ...] = ()
        self.tested: dict[str, str] = {}
        self.overwrites = False
        """Whether a halt writes its reason over one that stands there."""
        self.ignores = False
        """Whether a halt or release is accepted and does nothing."""

    async def halt(self, hold: HoldRef) -> Answer:
        def arrive() -> Answer:
            for name, note in self.parts.items():
                if not self.ignores and (self.overwrites or not note):
                    self.parts[name] = hold.note
            return Accepted()

        return await self.answer(("halt", hold.id), arrive)

    async def release(self, hold: HoldRef, before: Halted) -> Answer:
        def arrive() -> Answer:
            stood = {part.name: part.note or "stood before" for part in before.parts if part.halted}
            if not self.ignores:
                self.parts = {name: stood.get(name, "") for name in self.parts}
            return Accepted()

        return await self.answer(("release", hold.id), arrive)

    async def halted(self) -> Halted:
        await self.read()
        return self.shown()

    def shown(self) -> Halted:
        """What a read would show now."""
        parts = tuple(Part(name, bool(note), note, self.moving) for name, note in self.parts.items())
        return Halted(parts=parts, at=self.clock.now())

    async def watch(self) -> AsyncIterator[Fact | Wait]:
        while True:
            await self.read()
            yield Wait(1)

    async def passed(self, change: str) -> Passed:
        await self.read()
        return Passed(self.tested.get(change, "unknown"))  # type: ignore[arg-type]

    async def log(self, run: str, part: str, start: int) -> LogPart:
        return LogPart((), start)

    async def cancel(self, run: str, why: Why) -> Answer:
        return await self.answer(("cancel", run), Accepted)

    @property
    def standing(self) -> bool:
        return all(self.parts.values())


class FakeMeter(Scripts):
    """A metrics source: what was true at a time of the shop, in buckets that are labelled and closed by its own clock.

    `rate` is the share at a moment; None: nothing was measured then.
    """

    can = Can()
    off_s = 0.0
    """How far its clock is ahead of the shop's."""

    def __init__(self, clock: VirtualClock, rate: Callable[[float], float | None]) -> None:
        super().__init__(clock)
        self.rate = rate
        self.asked: list[tuple[float, float]] = []

    async def whoami(self) -> Identity:
        return Identity(account="fake", clock=self.clock.now() + self.off_s)

    async def samples(self, metric: Metric, start: float, end: float, every: float) -> Samples:
        self.asked.append((start, end))
        await self.read()
        closed = min(end, (self.clock.now() + self.off_s) // every * every)
        labels = [start + i * every for i in range(max(0, int((closed - start) // every)))]
        rows = [row for label in labels if (row := self._bucket(label, every)) is not None]
        return Samples("ok" if rows else "empty", tuple(rows))

    def _bucket(self, label: float, every: float) -> Sample | None:
        moments = [self.rate(label - self.off_s + every * (i + 0.5) / 6) for i in range(6)]
        found = [rate for rate in moments if rate is not None]
        return Sample(label, 1000 * sum(found) / len(found), 1000.0) if len(found) == len(moments) else None


class FakeNotifier(Scripts):
    """A notice board."""

    can = Can()

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.told: list[Note] = []

    async def tell(self, note: Note) -> Answer:
        def arrive() -> Answer:
            self.told.append(note)
            return Accepted()

        return await self.answer(("tell", note.key), arrive)


class Targets:
    """`acts.Targets` over the shop's sources."""

    def __init__(self, shop: "Shop") -> None:
        self.shop = shop

    def halting(self, line: str, target: str) -> Any:
        return self.shop.stands.get(target)

    def ci(self, line: str, target: str) -> Any:
        return self.shop.stands.get(target)

    def deploy(self, line: str) -> Any:
        return self.shop.deploy

    def notifier(self, line: str, target: str) -> Any:
        return self.shop.notifiers.get(target)

    def confirm_s(self, line: str, target: str) -> float:
        return 120.0

    def only_way_in(self, line: str) -> bool:
        deploy = self.shop.lines[line].deploy
        return deploy is not None and deploy.only_way_in

    def halts(self, line: str) -> tuple[str, ...]:
        return self.shop.lines[line].targets


class Followed(Targets):
    """The stations of an engine over the shop: what it follows, besides what acts go to."""

    def open_ci(self, line: str, entry: Entry) -> Any:
        return self.shop.stands[entry.target]

    def deploy(self, line: str) -> Any:
        return self.shop.deploys.get(line, self.shop.deploy)

    def metrics(self, line: str, connection: str) -> Any:
        return self.shop.meters[f"{line}/{connection}" if f"{line}/{connection}" in self.shop.meters else connection]

    def every(self) -> list[tuple[str, str, Any]]:
        """As `stations.Stations.every`."""
        found: list[tuple[str, str, Any]] = []
        for line in self.shop.lines.values():
            found += [(line.name, entry.target, self.open_ci(line.name, entry)) for entry in line.ci]
            if line.deploy is not None:
                found.append((line.name, line.deploy.target, self.deploy(line.name)))
            found += [(line.name, metric.source, self.metrics(line.name, metric.source)) for metric in line.metrics]
        return found


class Room:
    """One process: its own view of the ledger and its own door. `breaks` and `hangs` are its ledger's."""

    def __init__(self, shop: "Shop", who: str, *, read_only: bool = False) -> None:
        self.shop, self.who = shop, who
        self.board, self.seq = Board(), 0
        self.breaks = False
        self.hangs_s = 0.0
        self.pulses: dict[str, Pulse] = {}
        shop.born += 1
        self.door = Door(
            self, Followed(shop), shop.clock, me=f"{who}-{shop.born}", wanted=self._wanted, read_only=read_only
        )
        self.cord = Cord(shop.lines, self.door, self, shop.clock)
        self.shipper = Shipper(shop.lines, self.door, self.cord, self, shop.clock)
        self.tail()
        self.tasks = {asyncio.create_task(self._every(0.1, self.tail))}

    def _wanted(self, board: Board, act: Act) -> str:
        return self.cord.wanted(board, act)

    def recovers(self, *, lease: bool = True) -> None:
        """From now on it looks each second for acts to drive, as an engine does."""
        self.tasks.add(asyncio.create_task(self._every(1.0, lambda: self.door.recover(lease=lease))))

    async def _every(self, seconds: float, work: Callable[[], None]) -> None:
        while True:
            work()
            await asyncio.sleep(seconds)

    def tail(self) -> None:
        while rows := self.shop.ledger.read(self.seq):
            _, self.board, self.seq = fold(self.board, rows)

    async def commit(self, *events: Event, urgent: bool = False) -> Board:
        """As the keeper's: hands over, waits for the ledger, and folds."""
        if self.hangs_s:
            await asyncio.sleep(self.hangs_s)
        if self.breaks:
            raise LedgerUnusable("the disk is full")
        await asyncio.sleep(0)
        try:
            self.shop.ledger.commit(*events)
        finally:
            self.tail()
        return self.board

    async def call(self, job: Callable[[Any], Any], *, urgent: bool = False, writes: bool = False) -> Any:
        await asyncio.sleep(0)
        return job(self.shop.ledger)

    async def pulse(self, *pulses: Pulse) -> None:
        self.pulses |= {item.key: item for item in pulses}

    @property
    def line(self) -> Line:
        self.tail()
        return self.board.line(LINE)

    def act(self, act: Act) -> Act:
        """An act as the ledger has it now."""
        self.tail()
        return self.board.line(act.line).acts[act.id]

    def acts(self, *kinds: str, line: str = LINE) -> list[Act]:
        self.tail()
        return [act for act in self.board.line(line).acts.values() if act.kind in kinds]

    def words_of(self, act: Act) -> list[str]:
        """Everything that was ever said of an act, in order."""
        rows = self.shop.ledger.read(0, 100_000)
        steps = [msgspec.json.decode(row.body) for row in rows if row.kind == "act-stepped"]
        return [step.get("words", "") for step in steps if step["act"] == act.id]

    async def settled(self, act: Act, limit_s: float = LATER_S) -> Act:
        """The act once it is settled; AssertionError if it is not within `limit_s`."""
        return await self.until(lambda: found if (found := self.act(act)).settled else None, limit_s)

    async def in_state(self, act: Act, *states: str) -> Act:
        return await self.until(lambda: found if (found := self.act(act)).state in states else None)

    async def until(self, look: Callable[[], Any], limit_s: float = LATER_S) -> Any:
        """The first true value of `look`, looked at each quarter of a second of virtual time."""
        end = self.shop.clock.now() + limit_s
        while not (found := look()):
            assert self.shop.clock.now() < end, f"not within {limit_s:g} s: {inspect.getsource(look).strip()}"
            await asyncio.sleep(0.25)
            self.tail()
        return found

    def die(self) -> None:
        """The process is gone."""
        for task in (*self.door.driven, *self.tasks):
            task.cancel()
        self.door.ask = self.door.drive = None  # type: ignore[assignment,method-assign]


def entry(target: str, *halts: str, only_way_in: bool = False, line: str = LINE) -> Entry:
    source = target.partition("/")[0]
    place = Place(line, "production", halts)
    return Entry(
        source, place, NoOptions(), STATION, every_s=5.0, confirm_s=120.0, only_way_in=only_way_in, target=target
    )


CONVERSION = Metric(
    "conversion",
    "meter",
    "proportion",
    "falls",
    "q",
    n="q",
    every=60.0,
    lag=5.0,
    on_regression="rollback",
    threshold=Threshold(below=0.02, for_s=180.0),
)


class Shop:
    """The world of a test: lines, sources, a ledger in memory, and rooms over them."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.clock = SteppedClock(loop)
        self.ledger = SqliteLedger(":memory:", self.clock)
        self.born = 0
        self.deploy: FakeDeploy | None = FakeDeploy(self.clock)
        self.stands: dict[str, Any] = {"ci/deploy": FakeHalting(self.clock)}
        self.notifiers: dict[str, FakeNotifier] = {}
        self.deploys: dict[str, FakeDeploy] = {}
        """Where a line has a target of its own."""
        self.meters: dict[str, FakeMeter] = {}
        """By connection, or by line and connection."""
        self.lines: dict[str, LineConfig] = {}
        self.has(LINE, "ci/deploy")
        self.stand: FakeHalting = self.stands["ci/deploy"]

    def has(self, line: str, *targets: str, only_way_in: bool = False, notify: tuple[str, ...] = ()) -> LineConfig:
        """A line that halts those targets."""
        for target in targets:
            self.stands.setdefault(target, FakeHalting(self.clock))
        for name in notify:
            self.notifiers.setdefault(name, FakeNotifier(self.clock))
        self.lines[line] = LineConfig(
            line,
            ci=tuple(entry(target, target.partition("/")[2], line=line) for target in targets),
            deploy=entry("prod", only_way_in=only_way_in, line=line),
            metrics=(CONVERSION,),
            notify=tuple(entry(name, line=line) for name in notify),
        )
        return self.lines[line]

    def room(self, who: str = "ann", *, read_only: bool = False) -> Room:
        return Room(self, who, read_only=read_only)

    def ships(self, *versions: str, line: str = LINE) -> None:
        """Deployments that are on the board, an hour after one another, the last one now."""
        assert self.deploy is not None
        for index, version in enumerate(versions):
            at = self.clock.now() - 3600.0 * (len(versions) - 1 - index)
            change = Change(id=version, title=f"title of {version}", author=f"author of {version}", at=at)
            self.ledger.commit(ChangesSeen(line=line, at=at, source="ci", changes=(change,)))
            self.deploy.put(version)
            self.deploy.change(self.deploy.deployments[-1].id, at=at)
            self.seen(line)

    def seen(self, line: str = LINE) -> None:
        """What runs is on the board."""
        assert self.deploy is not None
        for item in self.deploy.deployments:
            self.ledger.commit(DeploymentSeen(line=line, at=item.at, source="prod", deployment=item))


class Guard:
    """The duty of an engine that holds the lease, in a room of its own, over all that the shop has."""

    def __init__(self, shop: Shop, who: str = "immune-1") -> None:
        self.shop = shop
        self.room = shop.room(who)
        config, clock = Config(Path("andon.yaml"), lines=shop.lines), shop.clock
        cord, shipper = self.room.cord, self.room.shipper
        self.duty = Duty(config, Followed(shop), self.room, clock, cord, shipper)  # type: ignore[arg-type]
        self.duty.start()
        self.room.recovers()

    def line(self, name: str = LINE) -> Line:
        """What its board knows of a line."""
        self.room.tail()
        return self.room.board.line(name)

    def rows(self, kind: str = "") -> int:
        """How many events the ledger holds, of all kinds or of one."""
        return sum(1 for row in self.shop.ledger.read(0, 100_000) if not kind or row.kind == kind)


class _Heard:
    """Errors that tasks ended with and nobody heard."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def __call__(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.found.append(f"{context.get('message')}: {context.get('exception')!r}")


def play(work: Callable[[Shop], Coroutine[Any, Any, None]]) -> None:
    """Run `work` in a fresh shop and in virtual time."""
    loop, heard = VirtualLoop(), _Heard()
    loop.set_exception_handler(heard)
    asyncio.set_event_loop(loop)
    try:
        shop = Shop(loop)
        loop.run_until_complete(asyncio.wait_for(work(shop), 10_000))
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.1))
        shop.ledger.close()
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    import gc

    gc.collect()
    assert heard.found == []


def virtual(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that is given a shop, and in which time passes at once."""

    def run(**values: Any) -> None:
        play(lambda shop: test(shop, **values))

    functools.update_wrapper(run, test)
    del run.__wrapped__
    shown = inspect.signature(test)
    run.__signature__ = shown.replace(parameters=list(shown.parameters.values())[1:])  # type: ignore[attr-defined]
    return run
