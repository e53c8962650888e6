"""A seeded world in which acts go wrong: two operators' rooms, one ledger, a deploy target and halting targets behind a
network that loses, delays and repeats, processes that die at any step, and newer deployments that land.

The code that runs is the real one: the ledger (SQLite in memory), the door, the cord and the shipper, on an event loop
whose time is virtual. A schedule is drawn from its seed, or told step by step (`Told`); what is checked at its end is
what must hold in every one. It is made to be cheap, because ten thousand are played in each run of the tests: rooms
share one fold of the ledger, which is pure, and a schedule ends as soon as nothing more can happen in it.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import msgspec

from adapters.sqlite import SqliteLedger
from andon.acts import Door, NotDone
from andon.board import Board
from andon.config import Entry, LineConfig
from andon.cord import Cord
from andon.events import ChangesSeen, DeploymentSeen, Event
from andon.keeper import fold
from andon.model import Act, Change, Deployment, DeploymentState, Halted, HoldRef, Part
from andon.ports import Accepted, Answer, Can, Conflict, Identity, LedgerUnusable, NoAnswer, Refused, Unreachable
from andon.registry import NoOptions, Place, Station
from andon.ship import Shipper
from tests.memory import MemoryLedger
from tests.virtual import VirtualClock, VirtualLoop

LINE = "shop"
CONFIRM_S = 120.0
ROLLING = 0.0
"""The share of targets whose deployments roll for a while, and may fail."""
FAULTS_UNTIL_S = 90.0
RECONCILE_S = 5
"""How often the holder of the lease compares what stands with what the holds want."""
QUIET_S = 2 * RECONCILE_S + 2
END_S = 900.0


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
    rolls: Callable[[], tuple[float, bool]] = lambda: (0.0, True)
    """How many seconds the next deployment of ours rolls, and whether it then settles."""

    def current(self) -> Deployment:
        return next(item for item in reversed(self.deployments) if item.state != "failed")

    def put(self, version: str, by: str, state: DeploymentState = "settled") -> Deployment:
        fresh = Deployment(id=f"d{len(self.deployments) + 1}", version=version, state=state, at=self.clock.now(), by=by)
        self.deployments.append(fresh)
        return fresh

    def becomes(self, id_: str, state: DeploymentState) -> None:
        self.deployments = [
            msgspec.structs.replace(item, state=state) if item.id == id_ else item for item in self.deployments
        ]

    def failed(self, id_: str) -> bool:
        return any(item.id == id_ and item.state == "failed" for item in self.deployments)

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
        seconds, settles = self.rolls()
        fresh = self.put(version, "andon", "rolling" if seconds else "settled")
        if seconds:
            self.clock.loop.call_later(seconds, self.becomes, fresh.id, "settled" if settles else "failed")
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

    async def act(self, process: "Process", what: str, arrive: Callable[[], Answer]) -> Answer:
        await process.step()
        world, fate = self.world, self.world.fate(what)
        world.counted[fate] += 1
        if fate == "unreachable":
            return Unreachable("connection refused")
        if fate == "lost request":
            return await self._lost(process)
        if fate == "lost answer":
            arrive()
            return await self._lost(process)
        if fate == "late":
            world.later(world.between(1, 60), arrive)
            return await self._lost(process)
        if fate == "refused":
            return Refused("not now")
        await asyncio.sleep(world.between(0.01, 0.5))
        process.must_live()
        answer = arrive()
        if fate == "repeated" and world.may_repeat:
            world.later(world.between(0.1, 60), arrive)
        await process.step()
        return answer

    async def _lost(self, process: "Process") -> Answer:
        await asyncio.sleep(15)
        process.must_live()
        return NoAnswer("no answer in 15 s")

    async def read(self, process: "Process") -> None:
        await process.step()
        await asyncio.sleep(0.01)
        if self.world.unreadable():
            raise Unreachable("connection refused")


FATES = {"unreachable": 0.06, "lost request": 0.06, "lost answer": 0.1, "late": 0.08, "refused": 0.06, "repeated": 0.1}
"""What may become of a request, and how often; else it is fine."""


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
        return await self.world.network.act(self.process, "deploy", lambda: target.deploy(version, expected or "", key))


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

        return await self.world.network.act(self.process, "stand", arrive)

    async def release(self, hold: HoldRef, before: Halted) -> Answer:
        def arrive() -> Answer:
            if not before.halted:
                self.stand.note = ""
            return Accepted()

        return await self.world.network.act(self.process, "stand", arrive)

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
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.lease = False
        world.born += 1
        self.me = f"{who}-{world.born}"
        lines = {LINE: world.config}
        self.door = Door(self, Sources(self), world.clock, me=self.me, wanted=self._wanted)
        self.cord = Cord(lines, self.door, self, world.clock)
        self.shipper = Shipper(lines, self.door, self.cord, self, world.clock)
        self.tail()
        self.run(self._engine()).add_done_callback(self._ended)

    def _wanted(self, board: Board, act: Act) -> str:
        return self.cord.wanted(board, act)

    def _ended(self, engine: "asyncio.Task[Any]") -> None:
        if not engine.cancelled() and engine.exception() is not None:
            self.world.broken.append(f"the engine of {self.me}: {engine.exception()!r}")

    def run(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        async def guarded() -> Any:
            try:
                return await work
            except Died:
                return None

        def done(ended: asyncio.Task[Any]) -> None:
            self.tasks.pop(ended, None)
            work.close()  # of a process that died before it could begin

        task = asyncio.create_task(guarded())
        self.tasks[task] = None
        task.add_done_callback(done)
        return task

    async def _engine(self) -> None:
        while True:
            self.tail()
            self.lease = self.world.take_lease(self)
            self.door.recover(lease=self.lease)
            if self.lease and int(self.world.loop.now) % RECONCILE_S == 0:
                for stand in self.world.stands:
                    try:
                        halting = self.door.targets.halting(LINE, f"ci/{stand.name}")
                        odd = await self.cord.reconcile(LINE, f"ci/{stand.name}", await halting.halted())
                        self.world.odd[stand.name] = odd
                    except Unreachable:
                        continue
                self._see()
            await asyncio.sleep(1.0)

    def _see(self) -> None:
        known = self.board.line(LINE)
        for deployment in self.world.target.deployments:
            if known.deployment(deployment.id) != deployment:
                event = DeploymentSeen(line=LINE, at=deployment.at, source="sim", deployment=deployment)
                self.world.ledger.commit(event)
        self.tail()

    def tail(self) -> None:
        self.board = self.world.read_on()

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
        if self.world.dies(self):
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

    def __init__(self, seed: int, *, compares: str = "id", ledger: type[Any] = SqliteLedger) -> None:
        self.random = random.Random(seed)
        self.seed = seed
        self.loop = VirtualLoop()
        self.loop.set_exception_handler(self._told)
        self.clock = VirtualClock(self.loop)
        self.ledger_type = ledger
        self.compares = compares
        self.claims_to_compare = compares != "nothing"
        self.faulty = True
        self.deadly = self.random.choice([0.0, 0.004, 0.015])
        self.keys = self.random.random() < 0.5
        self.names = ["deploy", "cron"][: self.random.choice([1, 2])]
        self.rolling = self.random.random() < ROLLING
        self.born = 0
        self.on_the_way = 0
        self.board, self._seq, self._read_at = Board(), 0, -1
        self.counted: dict[str, int] = dict.fromkeys([*FATES, "fine", "crash", "newer"], 0)
        self.swallowed: list[str] = []
        self.broken: list[str] = []
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

    def _told(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A task that died with its process is no news; anything else is a fault."""
        if not isinstance(context.get("exception"), Died):
            self.broken.append(f"{context.get('message')}: {context.get('exception')!r}")

    # ---- what chance decides

    def fate(self, what: str) -> str:
        """What becomes of a request: to `deploy`, or to `stand`."""
        drawn = self.random.random() if self.faulty else 1.0
        for name, share in FATES.items():
            drawn -= share
            if drawn < 0:
                return name
        return "fine"

    def unreadable(self) -> bool:
        return self.faulty and self.random.random() < 0.1

    def dies(self, process: Process) -> bool:
        return self.faulty and self.random.random() < self.deadly

    def rolls(self) -> tuple[float, bool]:
        """How long a deployment rolls, and whether it settles then."""
        return (self.random.uniform(1, 60), self.random.random() < 0.7) if self.rolling else (0.0, True)

    def between(self, least: float, most: float) -> float:
        return self.random.uniform(least, most)

    def later(self, seconds: float, arrive: Callable[[], Answer]) -> None:
        def arrives() -> None:
            self.on_the_way -= 1
            arrive()

        self.on_the_way += 1
        self.loop.call_later(seconds, arrives)

    # ---- one schedule from its beginning to its end

    def read_on(self) -> Board:
        """What the ledger adds up to now, read and folded once for all rooms."""
        if isinstance(self.ledger, MemoryLedger):
            while self._seq < len(self.ledger.events):
                self.board = self.board.apply(self.ledger.events[self._seq])
                self._seq += 1
        elif self.ledger._db.total_changes != self._read_at:
            self._read_at = self.ledger._db.total_changes
            while rows := self.ledger.read(self._seq):
                _, self.board, self._seq = fold(self.board, rows)
        return self.board

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
        self._begin()
        people = [asyncio.create_task(self._person(who)) for who in ("ann", "bo")]
        people.append(asyncio.create_task(self._pipeline()))
        quiet, start = 0, self.loop.now
        while self.loop.now - start < FAULTS_UNTIL_S and quiet < QUIET_S:
            await asyncio.sleep(1)
            self._restart()
            quiet = quiet + 1 if self._still() and all(task.done() for task in people) else 0
        await asyncio.gather(*people)
        await self._end()

    def _begin(self) -> None:
        self.ledger = self.ledger_type(":memory:", self.clock)
        self.target = Target(self.clock, self.compares, keys=self.keys, rolls=self.rolls)
        # A target without keys cannot tell a repeated request from a new one if it compares nothing, or if what it made
        # may fail, and what was expected runs again: nobody could.
        self.may_repeat = self.target.keys or (self.compares != "nothing" and not self.rolling)
        self.stands = [Stand(name) for name in self.names]
        station = Station(NoOptions, lambda *_: None)
        entries = tuple(
            Entry("ci", Place(LINE, "production", (name,)), NoOptions(), station, target=f"ci/{name}")
            for name in self.names
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

    async def _end(self) -> None:
        """Without faults everything comes to its end."""
        self.faulty = False
        await self._settle()
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        self.read_on()

    def _restart(self) -> None:
        for who, room in list(self.rooms.items()):
            if room.dead and self.random.random() < 0.2:
                self.rooms[who] = Process(self, who)

    async def _settle(self) -> None:
        """Until nothing is on its way, to a target or to its end, and the holder of the lease has looked twice since."""
        for who, room in list(self.rooms.items()):
            if room.dead:
                self.rooms[who] = Process(self, who)
        begun, quiet = self.loop.now, 0
        while self.loop.now - begun < END_S and quiet < QUIET_S:
            await asyncio.sleep(1)
            quiet = quiet + 1 if self._still() else 0

    def _still(self) -> bool:
        """Whether nothing is on its way and the holder of the lease lives."""
        watched = self.holder is not None and not self.holder.dead
        return watched and not self.on_the_way and not self.read_on().line(LINE).unsettled()

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
        told = [f"swallowed: {words}" for words in self.swallowed] + [f"broken: {words}" for words in self.broken]
        return [*self._double(), *self._undone(), *self._lost(), *told]

    def _double(self) -> list[str]:
        found = []
        for expected in {effect.expected for effect in self.target.effects}:
            effects = [effect for effect in self.target.effects if effect.expected == expected]
            effects = [effect for effect in effects if not self.target.failed(effect.id)]
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
            took = effect is not None and not self.target.failed(effect.id)
            if took and act.state != "verified":
                found.append(f"lost: {act.id} took effect and is shown as {act.state}")
            # What is shown as done names what runs. Where an answer was lost, what somebody else shipped of the same
            # version cannot be told from ours; and nothing is sent where it runs already.
            ran = any(
                item.id == act.ref and item.version == act.version and item.state == "settled"
                for item in self.target.deployments
            )
            if not took and act.state == "verified" and not ran:
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
