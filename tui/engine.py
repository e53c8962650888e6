"""What the room needs of the engine: what it looks at, and what it asks for. See `andon.engine`."""

from concurrent.futures import Future
from typing import Any, Protocol

from andon.clock import Time
from andon.events import MarkWord
from andon.ports import Lease, Pulse


class View(Protocol):
    """How the engine is; see `andon.engine.View`."""

    @property
    def at(self) -> Time:
        """When this was looked at."""

    @property
    def lease(self) -> Lease | None:
        """Who polls, judges and acts on its own."""

    @property
    def here(self) -> bool:
        """Whether that is this process."""

    @property
    def pulses(self) -> dict[str, Pulse]:
        """Signs of life."""

    @property
    def clock_words(self) -> str:
        """What is wrong with a source's clock."""

    @property
    def trouble(self) -> str:
        """Why the ledger cannot be used now."""


class Engine(Protocol):
    """What the room needs of the engine; every method returns at once. See `andon.engine.Engine`."""

    who: str
    read_only: bool

    @property
    def view(self) -> View:
        """How the engine is now."""

    @property
    def busy(self) -> bool:
        """Whether an act asked here is on its way and not yet answered."""

    def screen_shown(self) -> None:
        """The first frame is there."""

    def pull(self, line: str, why: str = "", age_s: float = 0.0) -> "Future[Any]":
        """Stop a line."""

    def rollback(self, line: str, expected: str = "", grace_s: float = 0.0, age_s: float = 0.0) -> "Future[Any]":
        """Stop a line and return to an earlier version."""

    def withdraw(self, line: str, act_id: str) -> "Future[bool]":
        """Take a rollback back within its grace."""

    def resume(self, line: str, why: str, hold: str = "", *, all_: bool = False) -> "Future[Any]":
        """Lift a hold."""

    def take(self, line: str, hold: str) -> "Future[Any]":
        """Say that we have it."""

    def mark(self, line: str, deployment: str, mark: MarkWord, why: str) -> "Future[Any]":
        """Say what a deployment is."""

    def resolve(self, line: str, act_id: str, happened: bool) -> "Future[bool]":
        """Say what a person saw of an act whose outcome is not known."""

    def stop(self, deadline_s: float = 20.0) -> None:
        """End; waits at most so long."""
