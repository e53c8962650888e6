"""The things that lie on a belt of the plant: commits, pieces with their tasks, rollouts, and what happens to them."""

import hashlib
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


class Trunk:
    """The commits of a line in order, each numbered by its place; a version holds its commit and all before it."""

    def __init__(self, world: str, line: str) -> None:
        self.commits: list[Commit] = []
        self._salt = f"{world}/{line}"
        self._numbers: dict[str, int] = {}
        self._defects: list[int] = []
        self._harms: dict[int, frozenset[str]] = {}

    def record(self, name: str, author: str, at: Time, harm: str = "") -> Commit:
        """Add a commit, with the defect it brings in."""
        number = len(self.commits)
        sha = hashlib.sha1(f"{self._salt}/{number}".encode(), usedforsecurity=False).hexdigest()
        commit = Commit(Change(sha, name, author, at), harm)
        self.commits.append(commit)
        if harm:
            self._defects.append(number)
        self._numbers[sha] = number
        return commit

    def version(self, number: int) -> str:
        """The version made from the commit of that number."""
        return self.commits[number].change.id

    def find(self, version: str) -> int | None:
        """The number of the commit a version names, in full or by 7 signs or more; None: there is none, or several."""
        if version in self._numbers:
            return self._numbers[version]
        fits = [number for sha, number in self._numbers.items() if sha.startswith(version)] if len(version) >= 7 else []
        return fits[0] if len(fits) == 1 else None

    def open_defects(self) -> list[int]:
        """The numbers of the commits whose defect nobody has taken out."""
        return [number for number in self._defects if self.commits[number].mended_by is None]

    def harms_of(self, number: int) -> frozenset[str]:
        """The kinds of defect in the version of that number. They never change: only later commits take one out."""
        found = self._harms.get(number)
        if found is None:
            defects = [self.commits[defect] for defect in self._defects if defect <= number]
            found = frozenset(one.harm for one in defects if one.mended_by is None or one.mended_by > number)
            self._harms[number] = found
        return found


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
