"""What the room needs of the engine: what it looks at, and what it asks for. See `andon.engine`."""

from concurrent.futures import Future
from typing import Any, Protocol

from andon.clock import Time
from andon.events import MarkWord
from andon.identities import Known
from andon.model import LogPart
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

    def rollback(
        self,
        line: str,
        expected: str = "",
        grace_s: float = 0.0,
        age_s: float = 0.0,
        why: str = "",
        to: str = "",
    ) -> "Future[Any]":
        """Stop a line and return to an earlier version: to the one named, else to the one that the rules choose."""

    def withdraw(self, line: str, act_id: str) -> "Future[bool]":
        """Take a rollback back within its grace."""

    def resume(self, line: str, why: str, hold: str = "", *, all_: bool = False) -> "Future[Any]":
        """Lift a hold."""

    def take(self, line: str, hold: str) -> "Future[Any]":
        """Say that we have it."""

    def hand_over(self, line: str, hold: str, to: str) -> "Future[Any]":
        """Say that somebody else has it."""

    def change(self, line: str, hold: str, why: str = "", until: Time | None = None) -> "Future[Any]":
        """Give a hold another reason, or another end (0: none)."""

    def push(self, line: str, version: str, why: str, through: str = "") -> "Future[Any]":
        """Ship one version, through a hold."""

    def call(self, line: str, why: str = "") -> "Future[Any]":
        """Call for help: the line stops after a while unless somebody clears it."""

    def clear_call(self, line: str, call: str) -> "Future[Any]":
        """Clear a call: the line runs on."""

    def take_call(self, line: str, call: str) -> "Future[Any]":
        """Say that we look into a call; its time goes on."""

    def identify(self) -> "Future[tuple[Known, ...]]":
        """Ask every source what it is and who we are to it."""

    def mark(self, line: str, deployment: str, mark: MarkWord, why: str) -> "Future[Any]":
        """Say what a deployment is."""

    def resolve(self, line: str, act_id: str, happened: bool) -> "Future[bool]":
        """Say what a person saw of an act whose outcome is not known."""

    def log(self, line: str, source: str, run: str, part: str, start: int) -> "Future[LogPart]":
        """Lines of a job's log from `start` on. Raises as a read."""

    def stop(self, deadline_s: float = 20.0) -> None:
        """End; waits at most so long."""
