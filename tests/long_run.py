"""An engine that runs for long in a process of its own, and what it takes: `python -m tests.long_run KIND FOLDER SECONDS`.

`plant`: over the plant, at 50 times the clock; `leak`: the same, with somebody who never gives anything back; `lines`: a
thousand lines, on which a hundred things happen a second. One JSON object a second on stdout, and one with the sum.
"""

import asyncio
import contextlib
import json
import os
import queue
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from adapters.plant import ADAPTER as PLANT
from adapters.plant import ConnectionOptions
from adapters.sqlite import SqliteLedger
from andon.clock import Clock, FastClock, WallClock
from andon.config import Config, Connection, Entry, LineConfig
from andon.engine import Engine
from andon.keeper import Keeper
from andon.model import Deployment, Halted, Identity, Metric, Part, Run, Sample, Samples, Threshold
from andon.ports import Accepted, Can, Fact, Wait
from andon.registry import Adapter, NoOptions, Place, Station

SPEED = 50.0
LINES, EVENTS_A_SECOND = 1000, 100


def taken(pid: int | str = "self") -> dict[str, float]:
    """Memory in KiB that is a process's own, its descriptors and threads."""
    words = dict(
        line.split(":", 1)
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        if ":" in line
    )
    return {
        "kib": float(words["RssAnon"].split()[0]),
        "threads": float(words["Threads"]),
        "fds": float(len(list(Path(f"/proc/{pid}/fd").iterdir()))),
    }


# ---- over the plant


def plant(folder: Path) -> Config:
    """Three lines of a shop that plays itself, one of which ships a defect now and then."""
    connection = Connection("plant", PLANT, ConnectionOptions(seed=7, world=str(folder / "plant.world"), calm_s=60.0))

    def entry(line: str, station: Station | None, *halts: str) -> Entry:
        assert station is not None
        target = f"plant/{'+'.join((line, *halts))}" if halts else f"plant/{line}"
        return Entry("plant", Place(line, "production", halts), NoOptions(), station, 5.0, target=target)

    def line(name: str) -> LineConfig:
        bound = Threshold(below=0.022, for_s=180.0)
        metric = Metric(
            "conversion", "plant", "proportion", "falls", "conversion", every=60.0, lag=2.0, threshold=bound
        )
        return LineConfig(
            name,
            ci=(entry(name, PLANT.ci, "deploy"),),
            deploy=entry(name, PLANT.deploy),
            metrics=(metric,),
            notify=(entry(name, PLANT.notify),),
        )

    names = ("checkout", "search", "payments")
    return Config(folder / "andon.yaml", connections={"plant": connection}, lines={name: line(name) for name in names})


# ---- a thousand lines


class Small:
    """Everything outside of one line; its CI streams the runs that end, and whoever follows it anew hears of all of them."""

    can = Can(live=True)

    def __init__(self, name: str, clock: Clock) -> None:
        self.name, self.clock, self.note = name, clock, ""
        self.ended: list[Run] = []
        self.fresh = asyncio.Event()
        self.shipped = [Deployment(f"{name}-d1", "v1", "settled", clock.now() - 86400)]

    def ends(self, run: Run) -> None:
        """In the engine's loop."""
        self.ended.append(run)
        self.fresh.set()

    async def whoami(self) -> Identity:
        return Identity(account="small", clock=self.clock.now())

    async def close(self) -> None:
        return None

    async def watch(self) -> AsyncIterator[Fact | Wait]:
        told = 0
        while True:
            yield Wait(0)
            while told < len(self.ended):
                yield self.ended[told]
                told += 1
            self.fresh.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.fresh.wait(), 30)

    async def halt(self, hold: Any) -> Accepted:
        self.note = hold.note
        return Accepted()

    async def release(self, hold: Any, before: Halted) -> Accepted:
        self.note = ""
        return Accepted()

    async def halted(self) -> Halted:
        return Halted((Part("worker", bool(self.note), self.note),), self.clock.now())

    async def passed(self, change: str) -> Any:
        raise NotImplementedError

    log = cancel = passed

    async def samples(self, metric: Metric, start: float, end: float, every: float) -> Samples:
        rows = tuple(Sample(start + i * every, 31.0, 1000.0) for i in range(int((end - start) // every)))
        return Samples("ok", rows)


class SmallDeploy(Small):
    """Where it deploys: asked every five seconds, and always says all."""

    can = Can(deploy=True, compare_and_set=True)

    async def watch(self) -> AsyncIterator[Fact | Wait]:
        while True:
            for item in self.shipped:
                yield item
            yield Wait(5)

    async def current(self) -> Deployment | None:
        return self.shipped[-1]

    async def history(self, n: int) -> list[Deployment]:
        return self.shipped[::-1][:n]

    deploy = abort = share = Small.passed


class Crowd:
    """Lines, and a thread of its own in which runs end, evenly over all lines: a busy engine does not slow it down."""

    def __init__(self, folder: Path, clock: Clock, lines: int) -> None:
        self.clock = clock
        self.cis = [Small(f"line-{number:04}", clock) for number in range(lines)]
        deploys = {ci.name: SmallDeploy(ci.name, clock) for ci in self.cis}
        cis = {ci.name: ci for ci in self.cis}
        ci = Station(NoOptions, lambda _, __, place: cis[place.line])
        deploy = Station(NoOptions, lambda _, __, place: deploys[place.line])
        metrics = Station(NoOptions, lambda _, __, place: deploys[place.line])
        adapter = Adapter("small", "small sources", NoOptions, lambda *_: self, ci=ci, deploy=deploy, metrics=metrics)
        bound = Threshold(below=0.02, for_s=180.0)
        metric = Metric("conversion", "small", "proportion", "falls", "q", every=60.0, lag=5.0, threshold=bound)

        def line(name: str) -> LineConfig:
            place, plain = Place(name, "production", ("deploy",)), Place(name, "production")
            return LineConfig(
                name,
                ci=(Entry("small", place, NoOptions(), ci, 5.0, target=f"small/{name}"),),
                deploy=Entry("small", plain, NoOptions(), deploy, 5.0, target=f"small-{name}"),
                metrics=(metric,),
            )

        connections = {"small": Connection("small", adapter, NoOptions())}
        self.config = Config(
            folder / "andon.yaml", connections=connections, lines={name: line(name) for name in sorted(cis)}
        )
        self.told = 0
        self._over = threading.Event()

    async def close(self) -> None:
        return None

    def begins(self, loop: asyncio.AbstractEventLoop, a_second: float) -> None:
        """From now on so many runs end in a second."""
        self._thread = threading.Thread(target=self._tell, args=(loop, a_second), daemon=True)
        self._thread.start()

    def ends(self) -> int:
        """No more; returns how many there were."""
        self._over.set()
        self._thread.join()
        return self.told

    def _tell(self, loop: asyncio.AbstractEventLoop, a_second: float) -> None:
        began = time.monotonic()
        while not self._over.wait(max(0.0, began + self.told / a_second - time.monotonic())):
            ci, at = self.cis[self.told % len(self.cis)], self.clock.now()
            run = Run(f"r{self.told}", f"c{self.told}", "passed", at=at - 1, ended_at=at)
            loop.call_soon_threadsafe(ci.ends, run)
            self.told += 1


# ---- running


async def lag(found: "queue.SimpleQueue[float]") -> None:
    """How much later than asked for the loop wakes a sleeper, again and again."""
    while True:
        began = time.monotonic()
        await asyncio.sleep(0.05)
        found.put(time.monotonic() - began - 0.05)


def main(kind: str, folder: Path, seconds: float) -> None:
    """Run, and print what it takes."""
    clock: Clock = WallClock() if kind == "lines" else FastClock(SPEED)
    crowd = Crowd(folder, clock, LINES) if kind == "lines" else None
    keeper = Keeper(lambda: SqliteLedger(folder / "ledger.db", clock), clock).start()
    engine = Engine(crowd.config if crowd else plant(folder), keeper, clock, folder, who="long").start()
    lags: queue.SimpleQueue[float] = queue.SimpleQueue()
    engine.ask(lambda: lag(lags))
    if crowd:
        crowd.begins(engine._loop, EVENTS_A_SECOND)
    never_given_back: list[Any] = []
    began = time.monotonic()
    while (at := time.monotonic() - began) < seconds:
        time.sleep(1.0)
        if kind == "leak":
            never_given_back += [os.open(os.devnull, os.O_RDONLY), bytes(range(256)) * 4096]
        worst = max((lags.get() for _ in range(lags.qsize())), default=1.0)
        print(json.dumps({"at": at, **taken(), "events": keeper.seq, "lag_ms": 1000 * worst}), flush=True)
    told, end = crowd.ends() if crowd else 0, time.monotonic() + 60
    while crowd and counted(keeper, "run-seen") < told and time.monotonic() < end:
        time.sleep(0.1)
    found = {"told": told, "recorded": counted(keeper, "run-seen"), "started": counted(keeper, "started")}
    print(json.dumps(found), flush=True)
    os._exit(0)  # how it leaves is tested elsewhere


def counted(keeper: Keeper, kind: str) -> int:
    """How many events of a kind the ledger holds."""
    query = "SELECT count(*) FROM events WHERE kind = ?"
    return keeper.submit(lambda ledger: int(ledger._db.execute(query, (kind,)).fetchone()[0])).result()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
