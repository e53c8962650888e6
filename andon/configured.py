"""The config as the program works with it: frozen, checked, durations in seconds, every name resolved."""

from pathlib import Path

import msgspec

from andon.model import Metric, TargetId
from andon.registry import Adapter, Place, Station


class Entry(msgspec.Struct, frozen=True):
    """A source of a line: which connection, and how it is used there."""

    source: str
    """The connection's name."""
    place: Place
    options: msgspec.Struct
    """The adapter's own, as its station declares them."""
    station: Station
    every_s: float = 5.0
    """How often it is asked, where it does not stream."""
    confirm_s: float = 900.0
    """How long a deployment may take to be seen there."""
    only_way_in: bool = False
    """Whether nothing ships there but andon and what a stop halts."""
    target: TargetId = ""
    """What it is called as a target of acts."""


class LineConfig(msgspec.Struct, frozen=True):
    """A production line as configured."""

    name: str
    environment: str = "production"
    ci: tuple[Entry, ...] = ()
    deploy: Entry | None = None
    watch_s: float = 900.0
    """How long a deployment is watched before its verdict."""
    canary_s: float = 0.0
    """How long metrics with a control are watched; 0: as long as the others."""
    shadow: int = 20
    """After how many watched deployments the judge may roll back; until then it says what it would have done."""
    metrics: tuple[Metric, ...] = ()
    notify: tuple[Entry, ...] = ()
    call_s: float = 120.0
    """How long after a call for help the line stops, unless somebody clears the call."""

    @property
    def halting(self) -> tuple[Entry, ...]:
        """The entries that a stop halts."""
        entries = (*self.ci, *((self.deploy,) if self.deploy else ()))
        return tuple(entry for entry in entries if entry.place.halts)

    @property
    def targets(self) -> tuple[TargetId, ...]:
        """The names of what a stop halts."""
        return tuple(entry.target for entry in self.halting)

    @property
    def measured(self) -> tuple[Metric, ...]:
        """What is asked and kept: the metrics, and the controls beside them."""
        return (*self.metrics, *(metric.beside for metric in self.metrics if metric.beside is not None))

    def window_s(self, metric: Metric) -> float:
        """How long a deployment is watched on that metric."""
        return self.canary_s if metric.control is not None and self.canary_s else self.watch_s

    def metric(self, name: str) -> Metric | None:
        """The metric of that name."""
        return next((metric for metric in self.metrics if metric.name == name), None)


class Connection(msgspec.Struct, frozen=True):
    """One outside system, as configured; nothing of it was opened yet."""

    name: str
    adapter: Adapter
    options: msgspec.Struct
    place: tuple[int, int] | None = None
    """Line and column of its name in the file."""


class Remapped(msgspec.Struct, frozen=True):
    """A command of the room with keys of a person's own, as written; the room knows what they mean."""

    command: str
    keys: tuple[str, ...]
    place: tuple[int, int] | None = None
    """Line and column in the file."""


class Config(msgspec.Struct, frozen=True):
    """The whole configuration."""

    path: Path
    connections: dict[str, Connection] = {}
    lines: dict[str, LineConfig] = {}
    ledger: str = ""
    """As written: a path, or a reference to an address; empty: the user's state folder."""
    name: str = ""
    theme: str = "dark"
    theme_place: tuple[int, int] | None = None
    """Line and column of the theme in the file."""
    ascii: bool = False
    """Whether the room shows no sign beyond ASCII, whatever the terminal could."""
    animations: bool = True
    notify_desktop: bool = False
    """Whether a stop is also told as a notification of the desktop, through the terminal."""
    keys: tuple[Remapped, ...] = ()
    digest: str = ""
    """A short digest of the file, so that the ledger tells which one an engine ran with."""
    warnings: tuple[str, ...] = ()
    """What is allowed and looks like a mistake, each with its place."""

    @property
    def folder(self) -> Path:
        """Where relative paths start."""
        return self.path.parent
