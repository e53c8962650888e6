"""A plant for tests: a clock moved by hand, stations, and waiting for what the world brings."""

from pathlib import Path

from adapters import plant
from andon.model import HoldRef, Metric
from andon.ports import (
    Wait,
)
from andon.registry import Context, NoOptions, Place

LINES = ("checkout", "search", "payments", "accounts")
START = 1_760_000_000.0
HOLD = HoldRef("hold0001", "checkout", "ann", "conversion falls")


class Hand:
    """A clock that is moved by hand."""

    def __init__(self, now: float = START) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds

    def real(self, seconds):
        return seconds


def connect(folder: Path, clock: Hand, *, read_only: bool = False, **options) -> plant.Plant:
    context = Context("shop", folder, clock, folder, read_only)
    return plant.ADAPTER.connect(plant.ConnectionOptions(**options), context)


def station(connection: plant.Plant, kind: str, line: str = "checkout", halts: tuple[str, ...] = ("deploy",)):
    return getattr(plant.ADAPTER, kind).open(connection, NoOptions(), Place(line, "production", halts))


def metric(series: str) -> Metric:
    kinds = {
        "conversion": "proportion",
        "revenue": "sum",
        "signups": "count",
        "latency": "latency",
        "errors": "proportion",
    }
    return Metric(series, "shop", kinds[series], "falls", series)


async def live(clock: Hand, seconds: float, *looks) -> None:
    """Let time pass while somebody looks, as a room does."""
    end = clock.time + seconds
    while clock.time < end:
        clock.time = min(end, clock.time + 20.0)
        for look in looks:
            await look()


async def until_shipped(clock: Hand, production, before) -> object:
    """Let time pass until a deployment has settled that is not the one before."""
    for _ in range(400):
        await live(clock, 5.0, production.current)
        now = await production.current()
        if now.id != before.id and now.state == "settled":
            return now
    raise AssertionError("nothing shipped in 2,000 s")


async def until_waits(watch) -> list:
    """What a watch says before it waits again."""
    found = []
    while not isinstance(fact := await anext(watch), Wait):
        found.append(fact)
    return found


async def everything(watch) -> list:
    """What a first look says."""
    found = await until_waits(watch)
    await watch.aclose()
    return found
