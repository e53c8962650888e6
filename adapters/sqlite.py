"""The embedded ledger: one SQLite file, for one Unix account on one host.

Everything that must be true at once is one IMMEDIATE transaction at full synchronisation: an event and what it claims.
The tables `acts` and `holds` hold nothing that the events do not; they are there so that SQLite's unique indexes decide a
race. The file and what SQLite puts beside it are 0600 in a 0700 folder. Source: https://sqlite.org/wal.html,
https://sqlite.org/partialindex.html.
"""

import contextlib
import hashlib
import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from andon.board import stepped
from andon.clock import Clock, Time
from andon.events import ActAsked, ActStepped, Event, HoldLifted, HoldPlaced, decode, encode
from andon.model import Act, Sample, to_json
from andon.ports import AlreadyHeld, Audit, Joined, Lease, LedgerUnusable, Moved, Pulse, Row

SCHEMA = 1
BUSY_S = 5.0
_UNSETTLED = "('intent', 'sent', 'accepted', 'unknown')"
_TABLES = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE events (
    seq INTEGER PRIMARY KEY, at REAL NOT NULL, seen REAL NOT NULL, kind TEXT NOT NULL, v INTEGER NOT NULL,
    line TEXT NOT NULL, body BLOB NOT NULL, hash BLOB NOT NULL
);
CREATE INDEX events_of_line ON events (line, seq);
CREATE TRIGGER events_stay BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events are never changed'); END;
CREATE TRIGGER events_are_kept BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END;
CREATE TABLE acts (id TEXT PRIMARY KEY, claim TEXT NOT NULL, state TEXT NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
CREATE UNIQUE INDEX one_unsettled_act ON acts (claim) WHERE state IN {_UNSETTLED};
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
_ROW = "seq, at, seen, kind, v, line, body, hash"
_NO_HASH = b"\0" * 32
_ACT: msgspec.json.Decoder[Act] = msgspec.json.Decoder(Act)


class SqliteLedger:
    """The ledger in one file. Blocking; belongs to the thread that made it."""

    def __init__(self, path: Path | str, clock: Clock, *, read_only: bool = False) -> None:
        """Open the ledger, and make it if it is not there. Raises LedgerUnusable."""
        self.path = path
        self.clock = clock
        self.read_only = read_only
        try:
            self._db = self._open()
            self._version = self._pragma("data_version")
        except sqlite3.DatabaseError as error:
            raise self._unusable(error) from error
        except OSError as error:
            raise LedgerUnusable(f"{path}: {error.strerror or error}") from error

    def _open(self) -> sqlite3.Connection:
        if self.path == ":memory:":
            db = sqlite3.connect(":memory:", isolation_level=None)
            db.executescript(_TABLES)
            return db
        path = Path(self.path)
        if not path.exists():
            if self.read_only:
                raise LedgerUnusable(f"{path}: there is no ledger here yet; the first room, engine or act makes it")
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        self._check_private(path)
        db = sqlite3.connect(path, isolation_level=None, timeout=BUSY_S)
        db.execute(f"PRAGMA busy_timeout = {int(BUSY_S * 1000)}")
        if self.read_only:
            db.execute("PRAGMA query_only = 1")
        else:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            self._make(db)
        found = db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
        if int(found[0]) > SCHEMA:
            raise LedgerUnusable(f"{path}: a newer andon made this ledger (schema {found[0]}); update this one")
        return db

    @staticmethod
    def _check_private(path: Path) -> None:
        status = path.stat()
        if status.st_uid not in (os.getuid(), 0):
            raise LedgerUnusable(f"{path}: the ledger belongs to somebody else")
        if stat.S_IMODE(status.st_mode) & 0o077:
            path.chmod(0o600)

    @staticmethod
    def _make(db: sqlite3.Connection) -> None:
        if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
            return
        db.execute("BEGIN IMMEDIATE")
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
            for statement in _statements(_TABLES):
                db.execute(statement)
        db.execute("COMMIT")

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    def _unusable(self, error: Exception) -> LedgerUnusable:
        words = str(error)
        hint = {
            "database or disk is full": "the disk is full; make room, then go on",
            "database is locked": "another process keeps it locked for more than 5 s",
            "file is not a database": "this is not an andon ledger",
            "database disk image is malformed": "it is damaged; move it aside and keep it, andon makes a new one",
        }.get(words, words)
        return LedgerUnusable(f"{self.path}: {hint}")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One IMMEDIATE transaction, all or nothing. Raises LedgerUnusable for what is SQLite's trouble."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            if self._db.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
            raise self._unusable(error) from error

    def commit(self, *events: object) -> None:
        """Append events, all or none. See `ports.Ledger.commit`."""
        encoded = []
        for event in events:
            if not isinstance(event, Event):
                raise TypeError(f"{type(event).__name__} is not an event")
            kind, body = encode(event)
            if decode(kind, body) != event:
                raise ValueError(f"{kind} does not come back as it was written")
            encoded.append((event, kind, body))
        with self._transaction() as db:
            seq, last = self._end(db)
            for event, kind, body in encoded:
                seq += 1
                self._claim(db, event)
                row = (seq, event.at, self.clock.now(), kind, 1, event.line, body)
                last = _chained(last, row)
                db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, last))

    @staticmethod
    def _end(db: sqlite3.Connection) -> tuple[int, bytes]:
        found = db.execute("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        return (found[0], found[1]) if found else (0, _NO_HASH)

    def _claim(self, db: sqlite3.Connection, event: Event) -> None:
        """Let the unique indexes decide: what an event claims is there with the event, or the event is not."""
        if isinstance(event, ActAsked):
            try:
                db.execute(
                    "INSERT INTO acts VALUES (?, ?, ?, ?)",
                    (event.act.id, event.act.claim, event.act.state, to_json(event.act)),
                )
            except sqlite3.IntegrityError:
                raise Joined(self._unsettled(db, event.act.claim)) from None
        elif isinstance(event, ActStepped):
            act = self._act(db, event.act)
            if act is None or act.state != event.was:
                raise Moved(f"{event.act} is {act.state if act else 'not there'}, not {event.was}")
            fresh = stepped(act, event)
            db.execute("UPDATE acts SET state = ?, body = ? WHERE id = ?", (fresh.state, to_json(fresh), act.id))
        elif isinstance(event, HoldPlaced):
            hold = event.hold
            try:
                db.execute("INSERT INTO holds VALUES (?, ?, ?, 1)", (hold.id, hold.line, hold.owner))
            except sqlite3.IntegrityError:
                found = db.execute(
                    "SELECT id FROM holds WHERE line = ? AND owner = ? AND open", (hold.line, hold.owner)
                ).fetchone()
                raise AlreadyHeld(found[0] if found else hold.id) from None
        elif isinstance(event, HoldLifted):
            changed = db.execute("UPDATE holds SET open = 0 WHERE id = ? AND open", (event.hold,))
            if changed.rowcount != 1:
                raise Moved(f"hold {event.hold} is lifted already")

    @staticmethod
    def _act(db: sqlite3.Connection, id_: str) -> Act | None:
        found = db.execute("SELECT body FROM acts WHERE id = ?", (id_,)).fetchone()
        return _ACT.decode(found[0]) if found else None

    @staticmethod
    def _unsettled(db: sqlite3.Connection, claim: str) -> Act:
        found = db.execute(
            f"SELECT body FROM acts WHERE claim = ? AND state IN {_UNSETTLED}",  # noqa: S608 - a constant
            (claim,),
        ).fetchone()
        if found is None:
            raise LedgerUnusable("an act of this id was asked before")
        act: Act = _ACT.decode(found[0])
        return act

    def read(self, after: int, limit: int = 1000) -> list[Row]:
        """Events with a higher `seq`, in order."""
        return self._rows("WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit))

    def recent(self, line: str, limit: int) -> list[Row]:
        """The newest events of a line, newest first; of all lines if `line` is empty."""
        if line:
            return self._rows("WHERE line = ? ORDER BY seq DESC LIMIT ?", (line, limit))
        return self._rows("ORDER BY seq DESC LIMIT ?", (limit,))

    def _rows(self, where: str, values: tuple[object, ...]) -> list[Row]:
        try:
            found = self._db.execute(f"SELECT {_ROW} FROM events {where}", values)  # noqa: S608 - constants only
            return [
                Row(seq=seq, at=at, seen=seen, kind=kind, v=v, line=line, body=body, hash=hash_.hex())
                for seq, at, seen, kind, v, line, body, hash_ in found
            ]
        except sqlite3.DatabaseError as error:
            raise self._unusable(error) from error

    def changed(self) -> bool:
        """Whether another connection wrote since the last call: SQLite counts that for us."""
        version = self._pragma("data_version")
        changed, self._version = version != self._version, version
        return changed

    def keep(self, series: str, rows: Sequence[Sample], forget_before: Time | None = None) -> None:
        """Keep samples; a later one for the same bucket replaces the earlier."""
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO series (name) VALUES (?)", (series,))
            id_ = db.execute("SELECT id FROM series WHERE name = ?", (series,)).fetchone()[0]
            db.executemany(
                "INSERT OR REPLACE INTO samples VALUES (?, ?, ?, ?)", [(id_, row.at, row.value, row.n) for row in rows]
            )
            if forget_before is not None:
                db.execute("DELETE FROM samples WHERE series = ? AND at < ?", (id_, forget_before))

    def samples(self, series: str, start: Time, end: Time) -> tuple[Sample, ...]:
        """Samples kept with `start <= at < end`, in order."""
        try:
            found = self._db.execute(
                "SELECT at, value, n FROM samples JOIN series ON id = series "
                "WHERE name = ? AND at >= ? AND at < ? ORDER BY at",
                (series, start, end),
            )
            return tuple(Sample(*row) for row in found)
        except sqlite3.DatabaseError as error:
            raise self._unusable(error) from error

    def pulse(self, pulses: Sequence[Pulse]) -> None:
        """Note signs of life, one per key."""
        with self._transaction() as db:
            db.executemany(
                "INSERT OR REPLACE INTO pulse VALUES (?, ?, ?, ?)", [(p.key, p.at, p.state, p.words) for p in pulses]
            )

    def pulses(self) -> dict[str, Pulse]:
        """All signs of life."""
        try:
            return {row[0]: Pulse(*row) for row in self._db.execute("SELECT key, at, state, words FROM pulse")}
        except sqlite3.DatabaseError as error:
            raise self._unusable(error) from error

    def lease(self) -> Lease | None:
        """Who holds the lease now; None: nobody."""
        try:
            found = self._db.execute("SELECT holder, epoch, expires, beat FROM lease").fetchone()
        except sqlite3.DatabaseError as error:
            raise self._unusable(error) from error
        return Lease(*found) if found and found[2] > self.clock.now() else None

    def take_lease(self, holder: str, live_s: float) -> Lease | None:
        """Take or renew the lease; None if somebody else holds it."""
        now = self.clock.now()
        with self._transaction() as db:
            found = db.execute("SELECT holder, epoch, expires FROM lease").fetchone()
            if found and found[0] != holder and found[2] > now:
                return None
            epoch = found[1] + (found[0] != holder or found[2] <= now) if found else 1
            db.execute("INSERT OR REPLACE INTO lease VALUES (1, ?, ?, ?, ?)", (holder, epoch, now + live_s, now))
        return Lease(holder, epoch, now + live_s, now)

    def drop_lease(self, holder: str) -> None:
        """Hand it over at once."""
        with self._transaction() as db:
            db.execute("UPDATE lease SET expires = 0 WHERE holder = ?", (holder,))

    def checkpoint(self, format_: str, seq: int, board: bytes) -> None:
        """Keep a folded board, with the hash of the row it ends at."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO checkpoints SELECT ?, seq, hash, ? FROM events WHERE seq = ?",
                (format_, board, seq),
            )

    def last_checkpoint(self, format_: str) -> tuple[int, bytes] | None:
        """The checkpoint of that format, if its row still has the hash it had then."""
        try:
            found = self._db.execute(
                "SELECT c.seq, c.board FROM checkpoints c JOIN events e ON e.seq = c.seq AND e.hash = c.hash "
                "WHERE c.format = ?",
                (format_,),
            ).fetchone()
        except sqlite3.DatabaseError as error:
            raise self._unusable(error) from error
        return (found[0], found[1]) if found else None

    def verify(self) -> Audit:
        """Walk the chain from the first event."""
        last, expected, count = _NO_HASH, 0, 0
        try:
            for row in self._db.execute(f"SELECT {_ROW} FROM events ORDER BY seq"):  # noqa: S608 - a constant
                expected += 1
                if row[0] != expected:
                    return Audit(count, row[0], f"event {expected} is missing")
                last = _chained(last, row[:7])
                if last != row[7]:
                    return Audit(count, row[0], f"event {row[0]} was changed after it was written")
                count += 1
        except sqlite3.DatabaseError as error:
            raise self._unusable(error) from error
        return Audit(count)

    def close(self) -> None:
        """Close it."""
        self._db.close()


def _statements(script: str) -> Iterator[str]:
    """The statements of a script; a trigger's inner semicolon does not end it."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _chained(last: bytes, row: tuple[object, ...]) -> bytes:
    """The hash of a row: of everything in it, and of the hash before."""
    digest = hashlib.sha256(last)
    for value in row:
        part = value if isinstance(value, bytes) else repr(value).encode()
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()
