"""The things that lie on a belt of the plant: commits, pieces with their tasks, rollouts, and what happens to them."""

from typing import NamedTuple

import msgspec

from andon.clock import Time
from andon.model import Change, RunState, Station

STATIONS: tuple[Station, ...] = ("build", "test", "deploy")
HOSTS = 5


class Happening(NamedTuple):
    """One thing that happened on a line: what to, and what it is now."""

    at: Time
    line: str
    what: str
    id: str
    state: str


class Commit(msgspec.Struct, eq=False):
    """A change, and what its author does not know about it."""

    change: Change
    harm: str = ""
    """The kind of defect it brought in; empty: none."""
    mends: int | None = None
    """The number of the change whose defect it removes."""
    mended_by: int | None = None
    built: bool = False


class Task(msgspec.Struct, eq=False):
    """One job of a piece."""

    station: Station
    name: str
    lasts_s: float
    fails: str = ""
    state: RunState = "waiting"
    at: Time = 0.0
    ended_at: Time | None = None


class Piece(msgspec.Struct, eq=False):
    """One run: a change on its way through the stations."""

    id: str
    number: int
    at: Time
    tasks: list[Task]
    who: str
    state: RunState = "waiting"
    ended_at: Time | None = None
    words: str = ""
    rev: int = 0

    def of(self, station: Station) -> list[Task]:
        """Its jobs at a station."""
        return [task for task in self.tasks if task.station == station]


class Rollout(msgspec.Struct, eq=False):
    """One deployment."""

    id: str
    number: int
    state: str
    at: Time
    by: str
    before: int
    """The number of the change that ran before."""
    piece: str = ""
    verified: bool | None = None
    words: str = ""
    rev: int = 0
