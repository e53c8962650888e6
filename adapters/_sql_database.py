"""One question to a database, in a thread of its own: read-only, bounded in time and rows, ended when nobody waits.

PostgreSQL is asked inside a transaction that is read-only and has its time limit: nothing is set for the session, which a
pooler in between may hand to others. SQLite is opened read-only, and only what reads is let through. Another database is
asked as it is, and only where the config says so. A connection lasts for one question: none is ever stale.
"""

import asyncio
import contextlib
import re
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters._http_client import apart
from andon.clock import Time
from andon.ports import READ_LIMIT_S, Denied, Garbled, Unreachable
from andon.secret import Secret, SecretError
from andon.text import clean

if TYPE_CHECKING:
    import sqlalchemy

Row = tuple[Any, ...]

LIMIT_S = READ_LIMIT_S - 1.0
"""How long an answer is awaited; less than whoever asks waits, so that it is said here what took so long."""

SERVER_LIMIT_S = 0.9
"""The part of it after which the server itself gives up."""

CONNECT_S = 5
SEATS = 2
"""Questions at once; a thread that hangs keeps its seat, so that there are never more of them."""

CELL_BYTES = 1_000_000
"""How long one value, or a row, of SQLite may be."""

LIMITS = """
SELECT set_config('statement_timeout', :ms, true), set_config('lock_timeout', :ms, true),
    set_config('timezone', 'UTC', true)
"""
"""For this transaction alone."""

STOP_AGAIN_S = (0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
STEPS = 10_000
"""Steps of SQLite between two looks at the clock."""

ENDED = ("57014", "SQLITE_INTERRUPT")
DENIED = ("28", "42501")
PASSING = ("08", "53", "55P03", "57", "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_CANTOPEN", "SQLITE_IOERR")
"""Beginnings of SQLSTATE and SQLite's names: ended by its limit; no such login or right; not now."""

_DENIED_WORDS = re.compile(r"authentication|password|pg_hba|permission denied|role .* does not exist", re.IGNORECASE)
_NUMBERS_AND_TIMES = frozenset({20, 21, 23, 26, 700, 701, 1082, 1114, 1184, 1700})
"""PostgreSQL's types that a column may have: none of them can be large."""


class Question:
    """One statement under way, which can be given up from another thread."""

    def __init__(self, what: str, limit_s: float) -> None:
        self.what = what
        self.ends = time.monotonic() + limit_s
        self.given_up = False
        self._stop: Callable[[], object] | None = None
        self._ended = threading.Event()
        self._lock = threading.Lock()

    def begun(self, stop: Callable[[], object] | None) -> None:
        """From now on `stop` stops what runs. Raises Unreachable if nobody waits any more."""
        with self._lock:
            self._stop = stop
            if self.given_up:
                raise Unreachable(f"{self.what}: nobody waits for it any more")

    def ended(self) -> None:
        """There is nothing to stop."""
        self._ended.set()

    def give_up(self) -> None:
        """Stop it, if it still runs; returns at once."""
        with self._lock:
            self.given_up = True
        if self._stop is not None and not self._ended.is_set():
            threading.Thread(target=self._stopping, args=(self._stop,), name="sql-stop", daemon=True).start()

    def over(self) -> bool:
        """Whether nobody waits for it: asked by SQLite while it works."""
        return self.given_up or time.monotonic() > self.ends

    def _stopping(self, stop: Callable[[], object]) -> None:
        # Again and again: what comes just before the statement begins stops nothing.
        for pause_s in STOP_AGAIN_S:
            with contextlib.suppress(Exception):  # it ended by itself, or the driver says that it cannot be stopped now
                stop()
            if self._ended.wait(pause_s):
                return


class Database:
    """A database, asked one question at a time in each of `SEATS` threads. Nothing is opened before the first."""

    limit_s = LIMIT_S

    def __init__(
        self,
        name: str,
        kind: str,
        address: str,
        password: Secret | None = None,
        connect: Mapping[str, str | int] | None = None,
    ) -> None:
        """`kind`: postgresql, sqlite (whose address is the file's path), or what stands before `://`."""
        self.name = name
        self.kind = kind
        self._address = address
        self._password = password
        self._connect = dict(connect or {})
        self._seats = asyncio.Semaphore(SEATS)
        self._made: sqlalchemy.Engine | None = None
        self._making = threading.Lock()

    async def ask(
        self, what: str, sql: str, values: Mapping[str, object] | None = None, most: int = 10, *, narrow: bool = True
    ) -> list[Row]:
        """All rows of a statement that reads, `most` at most; `narrow`: of numbers and times alone, where that is known.

        Raises Unreachable, Denied, Garbled.
        """
        what = f"{self.name}: {what}"
        question = Question(what, self.limit_s)
        try:
            async with asyncio.timeout(self.limit_s):
                await self._seats.acquire()
                work = partial(self._rows, question, sql, values or {}, most, narrow)
                return await apart(self._in_its_seat(lambda: self._answered(question, work)))
        except TimeoutError as error:
            raise Unreachable(f"{what}: no answer in {self.limit_s:g} s") from error
        finally:
            question.give_up()

    def _in_its_seat(self, work: Callable[[], list[Row]]) -> Callable[[], list[Row]]:
        loop = asyncio.get_running_loop()

        def run() -> list[Row]:
            try:
                return work()
            finally:
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for a seat
                    loop.call_soon_threadsafe(self._seats.release)

        return run

    def _answered(self, question: Question, work: Callable[[], list[Row]]) -> list[Row]:
        """In a thread. What goes wrong is told without the statement's values and without the address."""
        from sqlalchemy import exc

        try:
            return work()
        except exc.DBAPIError as error:
            failed = self._translated(question, error.orig)
        except exc.SQLAlchemyError as error:
            failed = Garbled(f"{question.what}: {clean(' '.join(str(error).split()), 200)}")
        except SecretError as error:
            failed = Denied(f"{self.name}: {error}")
        except ImportError as error:
            failed = Unreachable(f"{self.name}: {clean(str(error), 100)}: install andon[sql], or this driver")
        except UnicodeError:
            failed = Garbled(f"{question.what}: the query holds half a character")
        finally:
            question.ended()
        raise failed  # here, so that it is not chained to what knows the password

    def _rows(self, question: Question, sql: str, values: Mapping[str, object], most: int, narrow: bool) -> list[Row]:
        from sqlalchemy import event, text

        with self._engine(question).connect() as connection:
            question.begun(_stopper(connection.connection.dbapi_connection))
            if self.kind == "postgresql":
                connection = connection.execution_options(postgresql_readonly=True)
                connection.execute(text(LIMITS), {"ms": str(round(1000 * SERVER_LIMIT_S * self.limit_s))})
                # From a cursor of the server, which takes nothing but a query, and sends no more rows than are fetched.
                connection = connection.execution_options(stream_results=True, max_row_buffer=most + 1)
                if narrow:
                    event.listen(connection, "after_cursor_execute", partial(_bounded, question.what))
            result = connection.execute(text(sql), values)
            if not result.returns_rows:
                raise Garbled(f"{question.what}: the statement gives no rows")
            rows = [tuple(row) for row in result.fetchmany(most + 1)]
        if len(rows) > most:
            raise Garbled(f"{question.what}: more than {most} rows; group them: one for each bucket")
        return rows

    def _engine(self, question: Question) -> "sqlalchemy.Engine":
        from sqlalchemy import create_engine, event
        from sqlalchemy.pool import NullPool

        if self.kind == "sqlite":
            return create_engine("sqlite://", creator=lambda: _sqlite(self._address, question), poolclass=NullPool)
        with self._making:
            if self._made is None:  # kept, as it asks a server at first what it can do
                self._made = create_engine(self._address, connect_args=self._connect, poolclass=NullPool)
                event.listen(self._made, "do_connect", self._with_password)
            return self._made

    def _with_password(self, _: Any, __: Any, ___: Any, given: dict[str, Any]) -> None:
        """Called by SQLAlchemy for each connection. Raises SecretError."""
        if self._password is not None:
            given["password"] = self._password.open()

    def _translated(self, question: Question, error: BaseException | None) -> Exception:
        state = str(getattr(error, "sqlstate", None) or getattr(error, "sqlite_errorname", None) or "")
        words = clean(" ".join(str(error).split()), 200).partition(" LINE 1:")[0]
        said = f"{question.what}: {words}"
        if state in ENDED:
            return Unreachable(f"{question.what}: ended, as it takes too long; is there an index on its time?")
        if state.startswith(DENIED) or (not state and _DENIED_WORDS.search(words)):
            return Denied(f"{said}; {self._opens()}")
        if state == "SQLITE_AUTH":
            return Garbled(f"{said}: only what reads may be asked")
        if state.startswith(PASSING) or (not state and type(error).__name__ == "OperationalError"):
            return Unreachable(said)
        return Garbled(said)

    def _opens(self) -> str:
        if self._password is None:
            return f"set `password:` for the connection {self.name}, or give its user the right to read"
        return f"`password:` of the connection {self.name} ({self._password.where}) does not open this"


def bound(kind: str, start: Time, end: Time, every: float) -> dict[str, object]:
    """What a statement may name: `:since`, `:until` as times, `:since_epoch`, `:until_epoch`, `:every` as seconds."""
    since, until = datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC)
    times: tuple[object, object] = (since, until)
    if kind == "sqlite":  # as CURRENT_TIMESTAMP writes it there
        times = (since.strftime("%Y-%m-%d %H:%M:%S"), until.strftime("%Y-%m-%d %H:%M:%S"))
    elif kind != "postgresql":
        times = (since.replace(tzinfo=None), until.replace(tzinfo=None))
    return {"since": times[0], "until": times[1], "since_epoch": start, "until_epoch": end, "every": every}


def _stopper(driver: Any) -> Callable[[], object] | None:
    """What ends a statement that runs on a connection of psycopg; others end by themselves."""
    return partial(driver.cancel_safe, timeout=2.0) if hasattr(driver, "cancel_safe") else None


def _bounded(what: str, _: Any, cursor: Any, *__: Any) -> None:
    """Raises Garbled for columns that may hold anything, before the first row is fetched; called by SQLAlchemy."""
    for column in cursor.description or ():
        if column.type_code not in _NUMBERS_AND_TIMES:
            raise Garbled(f"{what}: the column {clean(column.name, 40)!r} is neither a number nor a time; cast it")


def _sqlite(path: str, question: Question) -> Any:
    """A connection that can only read, and looks at the clock while it does."""
    import sqlite3

    reads = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE, sqlite3.SQLITE_TRANSACTION}

    def may(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        function = action == sqlite3.SQLITE_FUNCTION and second != "load_extension"
        asked = action == sqlite3.SQLITE_PRAGMA and (first, second) == ("read_uncommitted", None)  # by SQLAlchemy
        return sqlite3.SQLITE_OK if action in reads or function or asked else sqlite3.SQLITE_DENY

    wait_s = max(0.0, question.ends - time.monotonic()) * SERVER_LIMIT_S
    connection = sqlite3.connect(f"{Path(path).as_uri()}?mode=ro", uri=True, timeout=wait_s, check_same_thread=False)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, CELL_BYTES)
    connection.set_progress_handler(question.over, STEPS)
    connection.execute("PRAGMA query_only = on")
    connection.set_authorizer(may)
    return connection
