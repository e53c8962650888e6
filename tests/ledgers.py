"""What tests of the ledger's side use: literal events of one shop, a clock set by hand, programs in other processes."""

import contextlib
import sqlite3
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from adapters import _postgres_schema
from adapters.postgres import PostgresLedger
from adapters.sqlite import SqliteLedger
from andon.events import ActAsked, ActStepped, HoldLifted, HoldPlaced, SourceSeen
from andon.model import Act, Hold

ROOT = Path(__file__).parents[1]
SHOP = "shop"

Start = Callable[..., "subprocess.Popen[str]"]


class HandClock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


def act(id_: str = "a1", **more: Any) -> Act:
    values = {"id": id_, "kind": "halt", "line": SHOP, "target": "ci", "subject": "stop", "who": "ann", "why": "[/]"}
    return Act(**({"at": 1.0, "not_before": 1.0, "not_after": 9.0} | values | more))


def asked(id_: str = "a1", **more: Any) -> ActAsked:
    made = act(id_, **more)
    return ActAsked(line=made.line, at=1.0, act=made)


def step(id_: str, was: str, now: str, at: float = 2.0, **more: Any) -> ActStepped:
    return ActStepped(**({"line": SHOP, "at": at, "act": id_, "was": was, "now": now} | more))


def placed(id_: str, owner: str = "ann", line: str = SHOP, at: float = 1.0) -> HoldPlaced:
    return HoldPlaced(line=line, at=at, hold=Hold(id=id_, line=line, owner=owner, why="\x1b[c", since=at, stop=id_))


def lifted(id_: str, line: str = SHOP, at: float = 2.0) -> HoldLifted:
    return HoldLifted(line=line, at=at, hold=id_, who="bo", why="mended")


def seen(words: str = "", at: float = 1.0) -> SourceSeen:
    return SourceSeen(line=SHOP, at=at, source="gh", state="ok", words=words)


@contextlib.contextmanager
def programs() -> Iterator[Start]:
    """Starts Python programs in processes of their own, with pipes; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(program: str, *words: object) -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        command = [sys.executable, "-u", "-c", program, *map(str, words)]
        started.append(subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True, bufsize=1))
        return started[-1]

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.communicate()


class Place(ABC):
    """Where a ledger under test is, with the ways of its kind that no port has."""

    address: str
    program: str
    """The line that imports it as `Ledger` in another process."""
    zeros: str
    """32 zeros in its SQL."""
    examples = 12
    """How many examples of a property are tried with it, in the least case."""
    rounds = 5
    """How many times a process that writes to it is killed."""

    @abstractmethod
    def open(self, clock: Any, *, read_only: bool = False) -> Any:
        """A ledger here, and the one who opens it is another one."""

    @abstractmethod
    def empty(self) -> Any:
        """An open ledger in which nothing is; what was here before may be gone."""

    @abstractmethod
    def table(self, ledger: Any, query: str) -> list[tuple[Any, ...]]:
        """What an open ledger's own tables hold."""

    @abstractmethod
    def tamper(self, *statements: str) -> None:
        """What somebody with all rights and some SQL does; each statement changes something."""

    @abstractmethod
    def insert(self, row: tuple[object, ...]) -> None:
        """A row among the events, as another version may have written it."""

    @abstractmethod
    def replaced(self, column: str, old: str, new: str) -> str:
        """In its SQL: the bytes of a column with some of them replaced."""

    @abstractmethod
    def content(self) -> object:
        """All that is there."""

    @abstractmethod
    def pass_time(self, clock: HandClock, seconds: float) -> None:
        """So many seconds pass by the clock that leases go by, and by `clock`."""

    @abstractmethod
    def is_sound(self, ledger: Any) -> bool:
        """Whether the store itself finds nothing wrong."""


class SqlitePlace(Place):
    """A file."""

    program = "from adapters.sqlite import SqliteLedger as Ledger"
    zeros = "zeroblob(32)"

    def __init__(self, path: Path) -> None:
        self.path, self.address = path, str(path)

    def open(self, clock: Any, *, read_only: bool = False) -> SqliteLedger:
        return SqliteLedger(self.path, clock, read_only=read_only)

    def empty(self) -> SqliteLedger:
        return SqliteLedger(":memory:", HandClock())

    def table(self, ledger: Any, query: str) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = ledger._db.execute(query).fetchall()
        return found

    def tamper(self, *statements: str) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as db:
            db.execute("DROP TRIGGER IF EXISTS events_stay")
            db.execute("DROP TRIGGER IF EXISTS events_are_kept")
            for statement in statements:
                assert db.execute(statement).rowcount != 0, statement
            db.commit()

    def insert(self, row: tuple[object, ...]) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as db:
            db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            db.commit()

    def replaced(self, column: str, old: str, new: str) -> str:
        return f"CAST(replace(CAST({column} AS TEXT), '{old}', '{new}') AS BLOB)"

    def content(self) -> object:
        return self.path.read_bytes()

    def pass_time(self, clock: HandClock, seconds: float) -> None:
        clock.at += seconds

    def is_sound(self, ledger: Any) -> bool:
        return self.table(ledger, "PRAGMA quick_check") == [("ok",)]


TABLES = ("events", "acts", "holds", "series", "samples", "pulse", "lease", "checkpoints")


class PostgresPlace(Place):
    """A database of a real server. It is opened as a room's role, tampered with as the superuser."""

    program = "from adapters.postgres import PostgresLedger as Ledger"
    zeros = "decode(repeat('00', 32), 'hex')"
    examples = 2
    rounds = 2

    def __init__(self, address: str, superuser: str) -> None:
        import psycopg

        self.address = address
        self._db = psycopg.connect(superuser, autocommit=True)
        self._db.execute("SET search_path TO andon")

    def open(self, clock: Any, *, read_only: bool = False) -> PostgresLedger:
        return PostgresLedger(self.address, clock, read_only=read_only)

    def empty(self) -> PostgresLedger:
        self.wipe()
        return self.open(HandClock())

    def wipe(self) -> None:
        """Nothing happened yet."""
        self.sql(
            "BEGIN; SET LOCAL synchronous_commit TO off; ALTER TABLE events DISABLE TRIGGER events_stay; "
            + "".join(f"DELETE FROM {name}; " for name in TABLES)
            + f"UPDATE head SET seq = 0, hash = {self.zeros}; "
            f"UPDATE meta SET value = '{len(_postgres_schema.STEPS)}' WHERE key = 'schema'; "
            "ALTER TABLE events ENABLE ALWAYS TRIGGER events_stay; COMMIT"
        )

    def sql(self, *statements: str) -> list[Any]:
        for statement in statements:
            cursor = self._db.execute(statement.encode())
        return cursor.fetchall() if cursor.description else [cursor.rowcount]

    def table(self, ledger: Any, query: str) -> list[tuple[Any, ...]]:
        return self.sql(query)

    def tamper(self, *statements: str) -> None:
        self.sql("ALTER TABLE events DISABLE TRIGGER events_stay")
        for statement in statements:
            assert self.sql(statement) != [0], statement
        self.sql("ALTER TABLE events ENABLE ALWAYS TRIGGER events_stay")

    def insert(self, row: tuple[object, ...]) -> None:
        self._db.execute("INSERT INTO events VALUES (%s, %s, %s, %s, %s, %s, %s, %s)", row)
        self._db.execute("UPDATE head SET seq = %s, hash = %s", (row[0], row[-1]))

    def replaced(self, column: str, old: str, new: str) -> str:
        return f"convert_to(replace(convert_from({column}, 'UTF8'), '{old}', '{new}'), 'UTF8')"

    def content(self) -> object:
        return [self.sql(f"SELECT * FROM {name} ORDER BY 1, 2") for name in (*TABLES, "head", "meta")]

    def pass_time(self, clock: HandClock, seconds: float) -> None:
        clock.at += seconds
        self.sql(f"UPDATE lease SET expires = expires - {seconds}, beat = beat - {seconds}")

    def is_sound(self, ledger: Any) -> bool:
        return self.sql("SELECT seq = (SELECT max(seq) FROM events) FROM head") == [(True,)]

    def close(self) -> None:
        self._db.close()
