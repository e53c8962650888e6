"""The file of the embedded ledger: made, known to be ours, kept private, and opened.

Nothing is changed in a file before it is known to be a ledger: whoever names their notes by mistake finds them as they
were. The file and what SQLite puts beside it are 0600, the folders made for it 0700, whatever the umask. Source:
https://sqlite.org/wal.html, https://sqlite.org/partialindex.html, https://sqlite.org/autoinc.html.
"""

import contextlib
import logging
import os
import re
import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from andon.ports import LedgerUnusable

SCHEMA = 2
"""1: as 2, but the file never shrank. What is older is brought here when it is opened to be written."""
BUSY_S = 5.0
"""How long a transaction waits for another process."""
WAL_PAGES = 200
"""After how many pages the log is written back: what it holds must fit into the file when the disk is full."""
WAL_BYTES = 16 << 20
"""The log's file is cut to this after a burst."""
MOUNTS = Path("/proc/self/mountinfo")
NETWORK = re.compile(
    r"nfs|cifs|smb|9p|afs|ceph|coda|ncpfs|lustre|beegfs|gpfs|ocfs2|gfs2|davfs|"
    r"fuse\.(sshfs|s3fs|rclone|gluster|ceph|davfs|gcsfuse|blobfuse|juicefs|mountpoint-s3|goofys|smb|curlftpfs|gvfs|nfs|afp)"
)
"""File systems, by how their names begin, that another host may write to, or that cannot share a file between processes."""

log = logging.getLogger("andon.ledger")

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


def open_file(path: Path, *, read_only: bool) -> tuple[sqlite3.Connection, str]:
    """The ledger at `path`, and why it can only be read; empty: it can be written, if that was asked for.

    Made if it is not there, unless it is only to be read. Raises LedgerUnusable for a file that is not ours, or that no
    ledger can be, OSError and sqlite3.DatabaseError for one that cannot be opened.
    """
    _check_local(path)
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
        newer = _newer(db, path) if _is_made(db) else ""
        _prepare(db, path, read_only=read_only or bool(newer))
    except BaseException:
        db.close()
        raise
    return db, newer


def _check_local(path: Path) -> None:
    """Raise LedgerUnusable where processes do not see each other's locks and writes."""
    folder = next(one for one in (path.absolute().parent, *path.absolute().parents) if one.exists())
    kind = _file_system(folder)
    if NETWORK.match(kind):
        raise LedgerUnusable(f"{path}: this is on {kind}, which cannot share a ledger; {_elsewhere()}")


def _elsewhere() -> str:
    place = f"/var/tmp/andon-{os.getuid()}/ledger.db"  # noqa: S108 - advice; the folder is made for its owner alone
    return f"put it on a local disk: `andon --ledger {place}`, or `ledger: {place}` in the config"


def _file_system(folder: Path) -> str:
    """The kind of file system a folder is on, in the system's words; empty where that cannot be told."""
    place, found, kind = folder.resolve(), Path("/"), ""
    try:
        lines = MOUNTS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:  # 27 1 254:0 /root /mount/point options tags… - kind source options
        before, _, after = line.partition(" - ")
        words = before.split()
        mount = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), words[4])) if len(words) > 4 else None
        if after and mount is not None and place.is_relative_to(mount) and mount.is_relative_to(found):
            found, kind = mount, after.split()[0]  # a later one hides an earlier one at the same place
    return kind


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
    if not _is_made(db):
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before anything is written
    _write_ahead(db, path)
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
    db.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
    if not _is_made(db):
        db.execute("BEGIN IMMEDIATE")
        if not _is_made(db):  # another process may have been faster
            for statement in _statements(_TABLES):
                db.execute(statement)
        db.execute("COMMIT")
    elif _schema(db, path) < SCHEMA:
        _let_shrink(db)


def _let_shrink(db: sqlite3.Connection) -> None:
    """From schema 1 to 2. Where the file is in use, or the disk is full, that is left for the next time."""
    try:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("VACUUM")
        db.execute("UPDATE meta SET value = ? WHERE key = 'schema' AND value = '1'", (str(SCHEMA),))
    except sqlite3.OperationalError as error:
        log.warning("the ledger stays as an older andon made it: %s", error)


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
            raise LedgerUnusable(f"{path}: this file system cannot share a ledger; {_elsewhere()}")
        return


def _is_made(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone() is not None


def _schema(db: sqlite3.Connection, path: Path) -> int:
    found = db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    if found is None or not str(found[0]).isdigit():
        raise LedgerUnusable(f"{path}: this is not an andon ledger")
    return int(found[0])


def _newer(db: sqlite3.Connection, path: Path) -> str:
    """Why this version must not write to it; empty: it may."""
    found = _schema(db, path)
    if found <= SCHEMA:
        return ""
    return f"a newer andon made this ledger (schema {found}): it is only read here; update this one"


def _statements(script: str) -> Iterator[str]:
    """The statements of a script; a trigger's inner semicolon does not end it."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
