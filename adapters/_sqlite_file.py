"""The file of the embedded ledger: made, known to be ours, kept private, and opened.

Nothing is changed in a file before it is known to be a ledger: whoever names their notes by mistake finds them as they
were. The file and what SQLite puts beside it are 0600, the folders made for it 0700, whatever the umask. Source:
https://sqlite.org/wal.html, https://sqlite.org/partialindex.html, https://sqlite.org/autoinc.html.
"""

import contextlib
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from andon.ports import LedgerUnusable

SCHEMA = 1
BUSY_S = 5.0
"""How long a transaction waits for another process."""

UNSETTLED = "('intent', 'sent', 'accepted', 'unknown')"
# AUTOINCREMENT: SQLite remembers the highest `seq` ever given, so that events cut off the end are missed.
_TABLES = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, seen REAL NOT NULL, kind TEXT NOT NULL, v INTEGER NOT NULL,
    line TEXT NOT NULL, body BLOB NOT NULL, hash BLOB NOT NULL
);
CREATE INDEX events_of_line ON events (line, seq);
CREATE TRIGGER events_stay BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events are never changed'); END;
CREATE TRIGGER events_are_kept BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END;
CREATE TABLE acts (id TEXT PRIMARY KEY, claim TEXT NOT NULL, state TEXT NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
CREATE UNIQUE INDEX one_unsettled_act ON acts (claim) WHERE state IN {UNSETTLED};
CREATE TABLE holds (id TEXT PRIMARY KEY, line TEXT NOT NULL, owner TEXT NOT NULL, open INTEGER NOT NULL) WITHOUT ROWID;
CREATE UNIQUE INDEX one_open_hold ON holds (line, owner) WHERE open;
CREATE TABLE series (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE samples (
    series INTEGER NOT NULL, at REAL NOT NULL, value REAL NOT NULL, n REAL, PRIMARY KEY (series, at)
) WITHOUT ROWID;
CREATE TABLE pulse (key TEXT PRIMARY KEY, at REAL NOT NULL, state TEXT NOT NULL, words TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE lease (
    id INTEGER PRIMARY KEY CHECK (id = 1), holder TEXT NOT NULL, epoch INTEGER NOT NULL, expires REAL NOT NULL,
    beat REAL NOT NULL
);
CREATE TABLE checkpoints (
    format TEXT PRIMARY KEY, seq INTEGER NOT NULL, hash BLOB NOT NULL, board BLOB NOT NULL
) WITHOUT ROWID;
INSERT INTO meta VALUES ('schema', '{SCHEMA}');
"""  # noqa: S608 - constants only


def open_memory() -> sqlite3.Connection:
    """A ledger that ends with its connection."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(_TABLES)
    return db


def open_file(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """The ledger at `path`; made if it is not there, unless it is only to be read.

    Raises LedgerUnusable for a file that is not ours, OSError and sqlite3.DatabaseError for one that cannot be opened.
    """
    if not path.exists():
        if read_only:
            raise LedgerUnusable(_nothing_yet(path))
        _make_folder(path.parent)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    _check_owner(path)
    db = sqlite3.connect(path, isolation_level=None, timeout=BUSY_S)
    try:
        _check_ours(db, path, read_only=read_only)
        _make_private(path)
        _prepare(db, path, read_only=read_only)
        _check_schema(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _nothing_yet(path: Path) -> str:
    return f"{path}: there is no ledger here yet; the first room, engine or act makes it"


def _make_folder(folder: Path) -> None:
    # pathlib's `parents=True` leaves the folders in between to the umask.
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)


def _files(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The ledger's file and what SQLite keeps beside it, as far as they are there."""
    for end in ("", "-wal", "-shm", "-journal"):
        file = path.with_name(path.name + end)
        with contextlib.suppress(FileNotFoundError):  # another process closes, and SQLite tidies up
            yield file, file.stat()


def _check_owner(path: Path) -> None:
    for file, status in _files(path):
        if not stat.S_ISREG(status.st_mode):
            raise LedgerUnusable(f"{file}: this is not a file; give the path of the ledger's file")
        if status.st_uid not in (os.getuid(), 0):
            raise LedgerUnusable(f"{file}: the ledger belongs to somebody else")


def _make_private(path: Path) -> None:
    for file, status in _files(path):
        if stat.S_IMODE(status.st_mode) & 0o077:
            file.chmod(0o600)


def _check_ours(db: sqlite3.Connection, path: Path, *, read_only: bool) -> None:
    names = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
    if names and not {"meta", "events"} <= names:
        raise LedgerUnusable(f"{path}: this is not an andon ledger")
    if not names and read_only:
        raise LedgerUnusable(_nothing_yet(path))


def _prepare(db: sqlite3.Connection, path: Path, *, read_only: bool) -> None:
    if read_only:
        db.execute("PRAGMA query_only = 1")
        return
    _write_ahead(db, path)
    db.execute("PRAGMA synchronous = FULL")
    if not _is_made(db):
        db.execute("BEGIN IMMEDIATE")
        if not _is_made(db):  # another process may have been faster
            for statement in _statements(_TABLES):
                db.execute(statement)
        db.execute("COMMIT")


def _write_ahead(db: sqlite3.Connection, path: Path) -> None:
    """Switch to WAL. While another process does the same, SQLite says *locked* at once instead of waiting."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            found = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
            continue
        if found != "wal":
            raise LedgerUnusable(f"{path}: this file system cannot share a ledger; put it on a local disk")
        return


def _is_made(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone() is not None


def _check_schema(db: sqlite3.Connection, path: Path) -> None:
    found = db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    if found is None or not str(found[0]).isdigit():
        raise LedgerUnusable(f"{path}: this is not an andon ledger")
    if int(found[0]) > SCHEMA:
        raise LedgerUnusable(f"{path}: a newer andon made this ledger (schema {found[0]}); update this one")


def _statements(script: str) -> Iterator[str]:
    """The statements of a script; a trigger's inner semicolon does not end it."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
