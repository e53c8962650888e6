"""Rooms as in `crash_child`, over one ledger on a PostgreSQL: its address stands in the file `address` of their folder.

As a program it is the nursery of such rooms.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from adapters import _postgres_append
from adapters.postgres import PostgresLedger
from andon.ports import Lease
from tests import crash_child, nursery, test_races
from tests.crash_child import ROOT, Job
from tests.file_target import Meets
from tests.nursery import Room


class Far(PostgresLedger):
    """Opened with the path that a file would have."""

    def __init__(self, path: Path, clock: Any, *, read_only: bool = False) -> None:
        super().__init__((path.parent / "address").read_text(), clock, read_only=read_only)
        self.speed = getattr(clock, "speed", 1.0)

    def take_lease(self, holder: str, live_s: float) -> Lease | None:
        """The server's clock does not go faster, as the room's does."""
        return super().take_lease(holder, live_s / self.speed)


class Watched(Far):
    """Meets a point in the middle of a transaction."""

    meets: Meets
    name = ""

    def commit(self, *events: object) -> None:
        real = _postgres_append.claim

        def claim(*values: Any) -> None:
            real(*values)
            if self.name:
                self.meets(f"within {self.name}")

        _postgres_append.claim = claim
        try:
            super().commit(*events)
        finally:
            _postgres_append.claim = real


def over_postgres(patch: pytest.MonkeyPatch) -> None:
    """From now on what those modules open is such a ledger."""
    patch.setattr(crash_child, "SqliteLedger", Far)
    patch.setattr(crash_child, "WatchedLedger", Watched)
    patch.setattr(test_races, "SqliteLedger", Far)


@contextmanager
def rooms() -> Iterator[Callable[[Job], Room]]:
    """What starts them; whatever still runs at the end is killed."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "tests.postgres_rooms"]
    program = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
    assert program.stdin is not None
    assert program.stdout is not None
    out, into = program.stdin, program.stdout

    def ask(line: str) -> str:
        out.write(f"{line}\n")
        out.flush()
        return into.readline().strip()

    try:
        yield lambda job: Room(ask, job)
    finally:
        out.close()
        program.wait(30)
        into.close()


if __name__ == "__main__":
    import psycopg

    over_postgres(pytest.MonkeyPatch())
    assert psycopg.pq.version()  # imported before a room is forked
    nursery.main()
