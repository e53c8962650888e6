"""A seeded world in which acts go wrong: two operators' rooms, one ledger, a deploy target and halting targets behind a
network that loses, delays and repeats, processes that die at any step, and newer deployments that land.

The code that runs is the real one: the ledger (SQLite in memory), the door, the cord and the shipper, on an event loop
whose time is virtual. A schedule is drawn from its seed; what is checked at its end is what must hold in every one.
"""

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from adapters.sqlite import SqliteLedger
from andon.acts import Door, NotDone
from andon.board import Board
from andon.config import Entry, LineConfig
from andon.cord import Cord
from andon.events import ChangesSeen, DeploymentSeen, Event
from andon.keeper import fold
from andon.model import Act, Change, Deployment, Halted, HoldRef, Part
from andon.ports import Accepted, Answer, Can, Conflict, Identity, LedgerUnusable, NoAnswer, Refused, Unreachable
from andon.registry import NoOptions, Place, Station
from andon.ship import Shipper

LINE = "shop"
CONFIRM_S = 120.0
FAULTS_UNTIL_S = 90.0
END_S = 900.0


class _Travel(selectors.SelectSelector):
    """Instead of waiting, the time is there."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("nothing will ever happen again")
        self.loop.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that sleeps in no time."""

    def __init__(self) -> None:
        self.now = 0.0
        selector = _Travel()
        selector.loop = self
        super().__init__(selector)
        self.set_exception_handler(_told)

    def time(self) -> float:
        return self.now


def _told(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A task that died with its process is no news; anything else is."""
    if not isinstance(context.get("exception"), Died):
        loop.default_exception_handler(context)


class VirtualClock:
    """The clock of a virtual loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop

    def now(self) -> float:
        return 1_000_000.0 + self.loop.now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))

    def real(self, seconds: float) -> float:
        return seconds


class Died(BaseException):
    """The process is gone; nothing in it catches this."""


@dataclass
class Effect:
    """A deployment that the target really made for us."""

    key: str
    expected: str
    replaced: str
    version: str
    at: float
    id: str


@dataclass
class Target:
    """A deploy target. `compares`: the deployment id, the version label, or nothing."""

    clock: VirtualClock
    compares: str = "id"
    keys: bool = True
    deployments: list[Deployment] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    requests: list[tuple[str, str, float]] = field(default_factory=list)
    by_key: dict[str, str] = field(default_factory=dict)

    def current(self) -> Deployment:
        return self.deployments[-1]

    def put(self, version: str, by: str) -> Deployment:
        fresh = Deployment(
            id=f"d{len(self.deployments) + 1}", version=version, state="settled", at=self.clock.now(), by=by
        )
        self.deployments.append(fresh)
        return fresh

    def deploy(self, version: str, expected: str, key: str) -> Answer:
        """What happens when a request arrives."""
        if self.keys and key in self.by_key:
            return Accepted(self.by_key[key])
        current = self.current()
        if self.compares == "id" and current.id != expected:
            return Conflict(current.id)
        if self.compares == "version":
            seen = next(item.version for item in self.deployments if item.id == expected)
            if current.version != seen:
                return Conflict(current.id)
        fresh = self.put(version, "andon")
        self.effects.append(Effect(key, expected, current.id, version, self.clock.now(), fresh.id))
        self.by_key[key] = fresh.id
        return Accepted(fresh.id)


@dataclass
class Stand:
    """A halting target."""

    name: str
    note: str = ""

    def read(self, at: float) -> Halted:
        return Halted(parts=(Part(name=self.name, halted=bool(self.note), note=self.note),), at=at)


class Network:
    """Between a process and a target: loses, delays, repeats."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.random = world.random

    async def act(self, process: "Process", arrive: Callable[[], Answer]) -> Answer:
        await process.step()
        fate = self.random.random() if self.world.faulty else 1.0
        self.world.counted[_fate(fate)] += 1
        if fate < 0.06:
            return Unreachable("connection refused")
        if fate < 0.12:
            return await self._lost(process)
        if fate < 0.22:
            arrive()
            return await self._lost(process)
        if fate < 0.30:
            self.world.later(self.random.uniform(1, 60), arrive)
            return await self._lost(process)
        if fate < 0.36:
            return Refused("not now")
        await asyncio.sleep(self.random.uniform(0.01, 0.5))
        process.must_live()
        answer = arrive()
        if fate < 0.46 and self.world.may_repeat:
            self.world.later(self.random.uniform(0.1, 60), arrive)
        await process.step()
        return answer

    async def _lost(self, process: "Process") -> Answer:
        await asyncio.sleep(15)
        process.must_live()
        return NoAnswer("no answer in 15 s")

    async def read(self, process: "Process") -> None:
        await process.step()
        await asyncio.sleep(0.01)
        if self.world.faulty and self.random.random() < 0.1:
            raise Unreachable("connection refused")


def _fate(fate: float) -> str:
    bounds = [
        (0.06, "unreachable"),
        (0.12, "lost request"),
        (0.22, "lost answer"),
        (0.30, "late"),
        (0.36, "refused"),
        (0.46, "repeated"),
    ]
    return next((name for bound, name in bounds if fate < bound), "fine")


class SimDeploy:
    def __init__(self, process: "Process") -> None:
        self.process, self.world = process, process.world

    @property
    def can(self) -> Can:
        return Can(deploy=True, compare_and_set=self.world.claims_to_compare)

    async def whoami(self) -> Identity:
        return Identity(account="sim")

    async def close(self) -> None:
        return None

    async def current(self) -> Deployment:
        await self.world.network.read(self.process)
        return self.world.target.current()

    async def history(self, n: int) -> list[Deployment]:
        await self.world.network.read(self.process)
        return self.world.target.deployments[::-1][:n]

    async def deploy(self, version: str, *, expected: str | None, key: str, through: str | None) -> Answer:
        target = self.world.target
        target.requests.append((key, expected or "", self.world.clock.now()))
        return await self.world.network.act(self.process, lambda: target.deploy(version, expected or "", key))


class SimHalting:
    def __init__(self, process: "Process", stand: Stand) -> None:
        self.process, self.world, self.stand = process, process.world, stand
        self.can = Can()

    async def whoami(self) -> Identity:
        return Identity(account="sim")

    async def close(self) -> None:
        return None

    async def halt(self, hold: HoldRef) -> Answer:
        def arrive() -> Answer:
            self.stand.note = self.stand.note or hold.note
            return Accepted()

        return await self.world.network.act(self.process, arrive)

    async def release(self, hold: HoldRef, before: Halted) -> Answer:
        def arrive() -> Answer:
            if not before.halted:
                self.stand.note = ""
            return Accepted()

        return await self.world.network.act(self.process, arrive)

    async def halted(self) -> Halted:
        await self.world.network.read(self.process)
        return self.stand.read(self.world.clock.now())


class Sources:
    """`acts.Targets` of one process."""

    def __init__(self, process: "Process") -> None:
        self.process = process
        self._deploy = SimDeploy(process)
        self._stands = {f"ci/{stand.name}": SimHalting(process, stand) for stand in process.world.stands}

    def halting(self, line: str, target: str) -> Any:
        return self._stands.get(target)

    def deploy(self, line: str) -> Any:
        return self._deploy

    def ci(self, line: str, target: str) -> Any:
        return None

    def notifier(self, line: str, target: str) -> Any:
        return None

    def confirm_s(self, line: str, target: str) -> float:
        return CONFIRM_S

    def only_way_in(self, line: str) -> bool:
        return False

    def halts(self, line: str) -> tuple[str, ...]:
        return tuple(self._stands)


class Process:
    """One room: its own view of the ledger, its own door. Dies as a whole."""

    def __init__(self, world: "World", who: str) -> None:
        self.world, self.who = world, who
        self.dead = False
        self.board = Board()
        self.seq = 0
        self.tasks: set[asyncio.Task[Any]] = set()
        self.lease = False
        world.born += 1
        self.me = f"{who}-{world.born}"
        lines = {LINE: world.config}
        self.door = Door(self, Sources(self), world.clock, me=self.me, wanted=self._wanted)
        self.cord = Cord(lines, self.door, self, world.clock)
        self.shipper = Shipper(lines, self.door, self.cord, self, world.clock)
        self.tail()
        self.run(self._engine())

    def _wanted(self, board: Board, act: Act) -> str:
        return self.cord.wanted(board, act)

    def run(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        async def guarded() -> Any:
            try:
                return await work
            except Died:
                return None

        task = asyncio.create_task(guarded())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def _engine(self) -> None:
        while True:
            self.tail()
            self.lease = self.world.take_lease(self)
            self.door.recover(lease=self.lease)
            if self.lease and self.world.tick % 5 == 0:
                for stand in self.world.stands:
                    try:
                        halting = self.door.targets.halting(LINE, f"ci/{stand.name}")
                        odd = await self.cord.reconcile(LINE, f"ci/{stand.name}", await halting.halted())
                        self.world.odd[stand.name] = odd
                    except Unreachable:
                        continue
                self.run_quietly_see()
            await asyncio.sleep(1.0)

    def run_quietly_see(self) -> None:
        known = self.board.line(LINE)
        for deployment in self.world.target.deployments:
            if known.deployment(deployment.id) != deployment:
                event = DeploymentSeen(line=LINE, at=deployment.at, source="sim", deployment=deployment)
                self.world.ledger.commit(event)
        self.tail()

    def tail(self) -> None:
        while rows := self.world.ledger.read(self.seq):
            _, self.board, self.seq = fold(self.board, rows)

    # the store

    async def commit(self, *events: Event, urgent: bool = False) -> Board:
        await self.step()
        try:
            self.world.ledger.commit(*events)
        finally:
            self.tail()
        await self.step()
        return self.board

    # dying

    async def step(self) -> None:
        """A labelled step: the process may die here."""
        self.must_live()
        if self.world.faulty and self.world.random.random() < self.world.deadly:
            self.die()
        await asyncio.sleep(0)
        self.must_live()

    def must_live(self) -> None:
        if self.dead:
            raise Died

    def die(self) -> None:
        self.dead = True
        self.world.counted["crash"] += 1
        current = asyncio.current_task()
        for task in (*self.tasks, *self.door.driven):
            if task is not current:
                task.cancel()
        raise Died


class World:
    """One schedule."""

    def __init__(self, seed: int, *, compares: str = "id", ledger: type[SqliteLedger] = SqliteLedger) -> None:
        self.random = random.Random(seed)
        self.seed = seed
        self.loop = VirtualLoop()
        self.clock = VirtualClock(self.loop)
        self.ledger_type = ledger
        self.compares = compares
        self.claims_to_compare = compares != "nothing"
        self.faulty = True
        self.deadly = self.random.choice([0.0, 0.004, 0.015])
        self.born = 0
        self.tick = 0
        self.counted: dict[str, int] = dict.fromkeys(
            ["unreachable", "lost request", "lost answer", "late", "refused", "repeated", "fine", "crash", "newer"], 0
        )
        self.swallowed: list[str] = []
        self.odd: dict[str, str] = {}
        self.holder: Process | None = None
        self.holder_seen = 0.0
        self.rooms: dict[str, Process] = {}

    def take_lease(self, process: Process) -> bool:
        now = self.clock.now()
        free = self.holder is None or self.holder is process or (self.holder.dead and now - self.holder_seen > 7)
        if free:
            self.holder, self.holder_seen = process, now
        return bool(free)

    def later(self, seconds: float, arrive: Callable[[], Answer]) -> None:
        self.loop.call_later(seconds, arrive)

    def run(self) -> "World":
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(self._play())
        finally:
            asyncio.set_event_loop(None)
            self.ledger.close()
            self.loop.close()
        return self

    async def _play(self) -> None:
        self.ledger = self.ledger_type(":memory:", self.clock)
        self.target = Target(self.clock, self.compares, keys=self.random.random() < 0.5)
        # A target that neither compares nor knows keys cannot tell a repeated request from a new one: nobody could.
        self.may_repeat = self.compares != "nothing" or self.target.keys
        names = ["deploy", "cron"][: self.random.choice([1, 2])]
        self.stands = [Stand(name) for name in names]
        station = Station(NoOptions, lambda *_: None)
        entries = tuple(
            Entry("ci", Place(LINE, "production", (name,)), NoOptions(), station, target=f"ci/{name}") for name in names
        )
        deploy = Entry("sim", Place(LINE, "production"), NoOptions(), station, target="sim", confirm_s=CONFIRM_S)
        self.config = LineConfig(LINE, ci=entries, deploy=deploy)
        self.network = Network(self)
        for version in ("v1", "v2"):
            self.target.put(version, "pipeline")
            self.loop.now += 100
        self.ledger.commit(
            ChangesSeen(line=LINE, at=1.0, source="sim", changes=(Change(id="v1"), Change(id="v2"))),
            *(DeploymentSeen(line=LINE, at=d.at, source="sim", deployment=d) for d in self.target.deployments),
        )
        start = self.loop.now
        people = [asyncio.create_task(self._person(who)) for who in ("ann", "bo")]
        people.append(asyncio.create_task(self._pipeline()))
        while self.loop.now - start < FAULTS_UNTIL_S:
            await asyncio.sleep(1)
            self.tick += 1
            self._restart()
        await asyncio.gather(*people)
        self.faulty = False
        await self._settle()
        for room in self.rooms.values():
            for task in (*room.tasks, *room.door.driven):
                task.cancel()
        await asyncio.sleep(0)
        self.events = self.ledger.read(0, 100_000)
        _, self.board, _ = fold(Board(), self.events)

    def _restart(self) -> None:
        for who, room in list(self.rooms.items()):
            if room.dead and self.random.random() < 0.2:
                self.rooms[who] = Process(self, who)

    async def _settle(self) -> None:
        """Without faults: everything comes to its end."""
        for who, room in list(self.rooms.items()):
            if room.dead:
                self.rooms[who] = Process(self, who)
        begun = self.loop.now
        room = next(iter(self.rooms.values()))
        quiet = 0
        while self.loop.now - begun < END_S and quiet < 12:
            await asyncio.sleep(1)
            self.tick += 1
            room.tail()
            quiet = quiet + 1 if self.loop.now - begun > 75 and not room.board.line(LINE).unsettled() else 0

    async def _pipeline(self) -> None:
        """Newer deployments land: of a new version, or of the one that ran before (A, B, A)."""
        for _ in range(self.random.choice([0, 0, 1, 2, 3])):
            await asyncio.sleep(self.random.uniform(0, 40))
            version = self.random.choice(["v1", "v2", f"v{self.random.randint(3, 9)}"])
            if version != self.target.current().version:
                self.target.put(version, "pipeline")
                self.counted["newer"] += 1

    async def _person(self, who: str) -> None:
        self.rooms[who] = Process(self, who)
        for _ in range(self.random.randint(1, 4)):
            await asyncio.sleep(self.random.uniform(0, 12))
            what = self.random.choice(["F9", "F4", "F4", "F4", "F9 resume F9", "resume", "held F4"])
            await getattr(self, {"F9": "_f9", "F4": "_f4", "resume": "_resume", "held F4": "_held"}.get(what, "_prp"))(
                who
            )

    def _room(self, who: str) -> Process | None:
        room = self.rooms[who]
        return None if room.dead else room

    async def _press(self, who: str, work: Callable[[Process], Coroutine[Any, Any, Any]]) -> Any:
        """One press in a living room. It ends in an act, in a reason, or with the room: anything else is swallowed."""
        room = self._room(who)
        if room is None:
            return None
        try:
            return await asyncio.wait_for(room.run(work(room)), 60)
        except NotDone:
            return None
        except LedgerUnusable as error:
            self.swallowed.append(f"{who}: {error}")
        except asyncio.CancelledError:
            if not room.dead:
                raise
        except TimeoutError:
            self.swallowed.append(f"{who}: no answer")
        return None

    async def _f9(self, who: str) -> None:
        room = self._room(who)
        pulled = await self._press(who, lambda room: room.cord.pull(LINE, who, "looks odd"))
        if pulled and room and not room.dead:
            placed = any(hold.owner == who and hold.id == pulled.hold.id for hold in room.board.line(LINE).holds)
            if not placed:
                self.swallowed.append(f"{who}: pulled, but there is no hold")

    async def _f4(self, who: str, grace_s: float | None = None) -> Act | None:
        grace = self.random.choice([0.0, 3.0]) if grace_s is None else grace_s
        act = await self._press(who, lambda room: room.shipper.rollback(LINE, who, "falls", grace_s=grace))
        if act is not None and grace and self.random.random() < 0.25:
            await asyncio.sleep(self.random.uniform(0, 4))
            await self._press(who, lambda room: room.door.withdraw(act, who))
        if act is not None and self.random.random() < 0.7:
            await self._again_if_refused(who, act)
        return act  # type: ignore[no-any-return]

    async def _again_if_refused(self, who: str, act: Act) -> None:
        """A refused act absorbs nothing: the next press is a new attempt."""
        await asyncio.sleep(5)
        room = self._room(who)
        if room is None or room.board.line(LINE).acts[act.id].state != "refused":
            return
        again = await self._press(who, lambda room: room.shipper.rollback(LINE, who, "falls"))
        if again is not None and again.id == act.id:
            self.swallowed.append(f"{who}: pressed again after a refusal, and it was the refused act")

    async def _held(self, who: str) -> None:
        """The key is held down."""
        await asyncio.gather(*(self._f4(who, 0.0) for _ in range(self.random.randint(2, 8))))

    async def _resume(self, who: str) -> None:
        await self._press(who, lambda room: room.cord.resume(LINE, who, "looked", all_=True))

    async def _prp(self, who: str) -> None:
        await self._f9(who)
        await asyncio.sleep(self.random.uniform(0, 3))
        await self._resume(who)
        await asyncio.sleep(self.random.uniform(0, 3))
        await self._f9(who)

    # ---- what must hold

    def faults(self) -> list[str]:
        """Everything that must not be; empty: the schedule held."""
        return [*self._double(), *self._undone(), *self._lost(), *(f"swallowed: {words}" for words in self.swallowed)]

    def _double(self) -> list[str]:
        found = []
        for expected in {effect.expected for effect in self.target.effects}:
            effects = [effect for effect in self.target.effects if effect.expected == expected]
            if len(effects) > 1:
                found.append(f"double fire: {len(effects)} deployments for {expected}")
        acts = self.board.line(LINE).acts
        for act in acts.values():
            if act.kind != "rollback" or act.sent_at is None:
                continue
            others = [
                other
                for other in acts.values()
                if other.kind == "rollback" and other.id < act.id and other.expected == act.expected and other.sent_at
            ]
            found += [
                f"double fire: {act.id} and {other.id} were both on their way"
                for other in others
                if _overlap(act, other)
            ]
        return found

    def _undone(self) -> list[str]:
        if not self.claims_to_compare:
            return []  # no compare-and-set: a person's act only, and the risk is shown
        return [
            f"undone: {effect.replaced} although {effect.expected} was meant"
            for effect in self.target.effects
            if effect.replaced != effect.expected
        ]

    def _lost(self) -> list[str]:
        line = self.board.line(LINE)
        found = [f"lost: {act.kind} {act.id} is {act.state} at the end" for act in line.unsettled()]
        effects = {effect.key: effect for effect in self.target.effects}
        for act in line.acts.values():
            if act.kind != "rollback":
                continue
            effect = effects.get(f"rollback-{act.id}")
            if effect is not None and act.state != "verified":
                found.append(f"lost: {act.id} took effect and is shown as {act.state}")
            ran = any(item.version == act.version and item.at >= act.at - 60 for item in self.target.deployments)
            if effect is None and act.state == "verified" and not ran:
                found.append(f"lost: {act.id} is shown as done and had no effect")
        wanted = bool(line.open_holds)
        for stand in self.stands:
            refused = any(
                act.state == "refused" and act.target == f"ci/{stand.name}" and act.kind in ("halt", "release")
                for act in line.acts.values()
            )
            told = self.odd.get(stand.name) == "moves under an open hold"  # halted again once, then only told
            if bool(stand.note) != wanted and not refused and not told:
                found.append(f"lost: {stand.name} {'moves' if wanted else 'stands'} at the end")
        return found


def _overlap(one: Act, other: Act) -> bool:
    """Whether two acts were on their way at the same time."""
    first, second = sorted((one, other), key=lambda act: act.sent_at or 0)
    return first.settled_at is None or (second.sent_at or 0) < first.settled_at
