"""The plant: a seeded shop that plays itself, for the demo, for drills and for tests.

Its lines have authors, commits, a pipeline that ships what passed, hosts, and business metrics that suffer when a
version with a defect runs. `_plant` is the world and `_plant_file` the file that processes share; here it is shown as
an outside system. Nothing here uses the network. Its time is the clock it is given.
"""

import asyncio
import fcntl
import math
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from adapters._plant import Abort, Act, Cancel, Put, Stand
from adapters._plant_file import WorldFile
from adapters._plant_shop import Shop
from adapters._plant_things import STATIONS
from adapters._plant_trade import SERIES
from adapters._plant_views import HISTORY_S, deployment, job_log, news, part, passed, rolled, samples
from andon.clock import Time
from andon.model import (
    ChangeId,
    Deployment,
    DeploymentId,
    Halted,
    HoldId,
    HoldRef,
    Identity,
    LogPart,
    Metric,
    Note,
    RunId,
    Samples,
    Why,
)
from andon.ports import Accepted, Answer, Can, Fact, Garbled, NoAnswer, Passed, Refused, Wait
from andon.registry import Adapter, Context, NoOptions, Place, Station

T = TypeVar("T")

AGAIN_S = 1.0
"""How soon to look again; of real time."""
TOLD = 200
"""Notes kept beside the world."""


class ConnectionOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of a connection to a plant."""

    seed: int = 7
    """The same seed and the same acts give the same shop."""
    world: str = ""
    """The file it lives in; empty: `plant.world` in andon's folder for state."""
    calm_s: float = 300.0
    """Seconds of the world before a line named checkout ships its defect."""


class Plant:
    """What the stations of a connection share."""

    def __init__(self, options: ConnectionOptions, context: Context) -> None:
        self.options = options
        self.read_only = context.read_only
        path = context.folder / Path(options.world).expanduser() if options.world else context.state / "plant.world"
        self.file = WorldFile(path, context.clock, seed=options.seed, calm_s=options.calm_s)
        self.board = path.with_name(f"{path.name}.told")
        self.told: dict[str, Note] = {}
        """What this process was told, by key; the newest only."""

    async def look(self, line: str, reader: Callable[[Shop], T]) -> T:
        """What `reader` finds on a line now. In a thread: another process may have the world's lock."""
        return await asyncio.to_thread(self.file.look, line, reader)

    async def act(self, line: str, make: Callable[[Shop, Time], Act]) -> Answer:
        """Send an act, unless this connection only reads."""
        if self.read_only:
            return Refused("this connection is read-only")
        return await asyncio.to_thread(self.file.act, line, make)


class _Station:
    """What every station of the plant is."""

    can = Can()

    def __init__(self, plant: Plant, place: Place) -> None:
        self.plant = plant
        self.place = place
        self.line = place.line

    async def whoami(self) -> Identity:
        """The world's id, its seed, and its time."""
        name, now = await asyncio.to_thread(self.plant.file.identity)
        missing = tuple(f"a station {name!r} to halt" for name in self.place.halts if name not in STATIONS)
        options = self.plant.options
        found = (f"line {self.line}", str(self.plant.file.path))
        return Identity(f"seed {options.seed}", f"plant, world {name}", found, missing, now)

    async def close(self) -> None:
        """Give the world's file back; another station that still looks opens it again."""
        await asyncio.to_thread(self.plant.file.close)


class Pipeline(_Station):
    """The CI of a line."""

    can = Can(cancel=True, history_s=HISTORY_S)

    async def watch(self) -> AsyncIterator[Fact | Wait]:
        """The last changes and runs, then what changes."""
        known, rev = -1, -1
        while True:
            changes, runs, known, rev = await self.plant.look(self.line, news(known, rev))
            if changes.items:
                yield changes
            for one in runs:
                yield one
            yield Wait(AGAIN_S)

    async def passed(self, change: ChangeId) -> Passed:
        """Whether any run of the change has passed its tests."""
        return await self.plant.look(self.line, lambda shop: passed(shop, change))

    async def log(self, run: RunId, part: str, start: int) -> LogPart:
        """What a job has written so far."""
        return await self.plant.look(self.line, lambda shop: job_log(shop, run, part, start))

    async def cancel(self, run: RunId, why: Why) -> Answer:
        """Take a run off the belt."""
        return await self.plant.act(self.line, lambda _, now: Cancel(now, self.line, run, why))


class StandingPipeline(Pipeline):
    """The CI of a line, where the config names stations that a halt stops."""

    async def halt(self, hold: HoldRef) -> Answer:
        """Let the named stations take no further piece."""
        notes = dict.fromkeys(self.place.halts, hold.note)
        return await self.plant.act(self.line, lambda _, now: Stand(now, self.line, notes))

    async def release(self, hold: HoldRef, before: Halted) -> Answer:
        """Let each named station be as it was before."""
        notes = dict.fromkeys(self.place.halts, "")
        for one in before.parts:
            if one.name in notes and one.halted:
                notes[one.name] = one.note or "halted before"
        return await self.plant.act(self.line, lambda _, now: Stand(now, self.line, notes))

    async def halted(self) -> Halted:
        """Which of the named stations stand."""
        return await self.plant.look(
            self.line, lambda shop: Halted(tuple(part(shop, name) for name in self.place.halts), shop.time)
        )


class Production(_Station):
    """The hosts of a line."""

    can = Can(deploy=True, abort=True, compare_and_set=True, idempotent_for_s=HISTORY_S, history_s=HISTORY_S)

    async def watch(self) -> AsyncIterator[Fact | Wait]:
        """The last deployments, oldest first, then what changes."""
        rev = -1
        while True:
            items, rev = await self.plant.look(self.line, rolled(rev))
            for one in items:
                yield one
            yield Wait(AGAIN_S)

    async def current(self) -> Deployment | None:
        """What runs there, or is on its way to."""
        return await self.plant.look(self.line, lambda shop: deployment(shop, shop.current))

    async def history(self, n: int) -> list[Deployment]:
        """The last deployments, newest first."""
        return await self.plant.look(
            self.line,
            lambda shop: [deployment(shop, one) for one in reversed(shop.rollouts[max(0, len(shop.rollouts) - n) :])],
        )

    async def deploy(self, version: str, *, expected: DeploymentId | None, key: str, through: HoldId | None) -> Answer:
        """Roll a version out, if `expected` is current."""
        return await self.plant.act(self.line, lambda _, now: Put(now, self.line, version, key, expected, through))

    async def abort(self, deployment: DeploymentId, why: Why) -> Answer:
        """Take a deployment that rolls back from every host."""
        return await self.plant.act(self.line, lambda _, now: Abort(now, self.line, deployment, why))

    async def share(self, version: str, percent: int, *, expected: DeploymentId | None, key: str) -> Answer:
        """The plant's hosts run one version each; there are no shares."""
        return Refused("the plant cannot give a version a share of the traffic")


class Meters(_Station):
    """What the business of a line measures."""

    can = Can(history_s=HISTORY_S)

    async def samples(self, metric: Metric, start: Time, end: Time, every: float) -> Samples:
        """Closed buckets of the series that `metric.value` names; Unreachable while the meters are down."""
        if metric.value not in SERIES:
            return Samples("empty", (), f"the plant measures {', '.join(SERIES)}; not {metric.value!r}")
        if not (math.isfinite(start) and math.isfinite(end) and math.isfinite(every) and every > 0):
            raise Garbled(f"no buckets of {every} s in [{start}, {end})")
        work_out = await self.plant.look(self.line, samples(self.line, metric.value, start, end, every))
        # Outside the world's lock, and in a thread: a month has 43,200 minutes, and F9 must not wait for them.
        return await asyncio.to_thread(work_out)


class Board(_Station):
    """The shop's notice board. What is told is kept in memory, and the last notes in a file beside the world."""

    async def tell(self, note: Note) -> Answer:
        """Pin a note, once."""
        if self.plant.read_only:
            return Refused("this connection is read-only")
        try:
            return await asyncio.to_thread(_pin, self.plant, note)
        except OSError as error:
            return NoAnswer(f"the notice board of the plant cannot be written: {error.strerror}")


def _pin(plant: Plant, note: Note) -> Answer:
    """Write a note down under the board's lock, unless it hangs there already; the oldest fall off."""
    descriptor = os.open(plant.board, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        lines = handle.read().splitlines()[-TOLD:]
        if not any(_key(line) == note.key for line in lines):
            lines = [*lines, msgspec.json.encode(note)][-TOLD:]
            handle.seek(0)
            handle.truncate()
            handle.write(b"\n".join(lines) + b"\n")
    plant.told[note.key] = note
    for key in list(plant.told)[:-TOLD]:
        del plant.told[key]
    return Accepted(note.key)


def _key(line: bytes) -> str:
    """The key of a note that hangs on the board; of a line that was cut, none."""
    try:
        return msgspec.json.decode(line, type=Note).key
    except ValueError:
        return ""


ADAPTER = Adapter(
    name="plant",
    title="The plant: a shop that plays itself",
    options=ConnectionOptions,
    connect=Plant,
    ci=Station(
        NoOptions, lambda plant, _, place: (StandingPipeline if place.halts else Pipeline)(plant, place), per_line=True
    ),
    deploy=Station(NoOptions, lambda plant, _, place: Production(plant, place)),
    metrics=Station(NoOptions, lambda plant, _, place: Meters(plant, place)),
    notify=Station(NoOptions, lambda plant, _, place: Board(plant, place)),
)
