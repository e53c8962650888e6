"""The embedded ledger: one SQLite file, for one Unix account on one host.

Everything that must be true at once is one IMMEDIATE transaction at full synchronisation: an event and what it claims.
The tables `acts` and `holds` hold nothing that the events do not; they are there so that SQLite's unique indexes decide a
race. `_sqlite_file` makes and opens the file.
"""

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from adapters import _sqlite_file
from adapters._sqlite_file import UNSETTLED
from andon.board import stepped
from andon.clock import Clock, Time
from andon.events import NAMES, ActAsked, ActStepped, Event, HoldLifted, HoldPlaced, decode, encode
from andon.model import Act, Sample, to_json
from andon.ports import AlreadyHeld, Audit, Joined, Lease, LedgerUnusable, Moved, Pulse, Row

_ROW = "seq, at, seen, kind, v, line, body, hash"
TROUBLE = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What SQLite raises; the second for words of its own that quote a damaged file."""

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
            self._version = self._data_version()
        except TROUBLE as error:
            raise self._unusable(error) from error
        except OSError as error:
            raise LedgerUnusable(f"{path}: {error.strerror or error}") from error

    def _open(self) -> sqlite3.Connection:
        if self.path == ":memory:":
            return _sqlite_file.open_memory()
        return _sqlite_file.open_file(Path(self.path), read_only=self.read_only)

    def _data_version(self) -> int:
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def _unusable(self, error: Exception) -> LedgerUnusable:
        words = "malformed" if isinstance(error, UnicodeDecodeError) else str(error)
        hint = next((hint for beginning, hint in self._hints().items() if words.startswith(beginning)), words)
        return LedgerUnusable(f"{self.path}: {hint}")

    @staticmethod
    def _hints() -> dict[str, str]:
        """What to do, by how SQLite's words begin."""
        damaged = "it is damaged; move it aside and keep it, andon makes a new one"
        return {
            "database or disk is full": "the disk is full; make room, then go on",
            "disk I/O error": "the disk does not take or give it (disk I/O error); see what the system's log says",
            "database is locked": f"another process keeps it locked for more than {_sqlite_file.BUSY_S:g} s",
            "file is not a database": "this is not an andon ledger",
            "database disk image is malformed": damaged,
            "malformed": damaged,
            "Could not decode to UTF-8": damaged,
        }

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
        except TROUBLE as error:
            with contextlib.suppress(sqlite3.Error):
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            raise self._unusable(error) from error

    def commit(self, *events: object) -> None:
        """Append events, all or none. See `ports.Ledger.commit`."""
        encoded = []
        for event in events:
            if not isinstance(event, Event) or type(event) not in NAMES:
                raise TypeError(f"{type(event).__name__} is not an event")
            if _of_another_line(event):
                raise ValueError(f"{NAMES[type(event)]} of {event.line}: what it holds is of another line")
            kind, body = encode(event)
            if decode(kind, body) != event:
                raise ValueError(f"{kind} does not come back as it was written")
            encoded.append((event, kind, body))
        with self._transaction() as db:
            seq, last = self._end(db)
            for event, kind, body in encoded:
                seq += 1
                self._claim(db, event)
                row = (seq, _real(event.at), _real(self.clock.now()), kind, 1, event.line, body)
                last = _chained(last, row)
                db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, last))

    def _end(self, db: sqlite3.Connection) -> tuple[int, bytes]:
        """The highest `seq` ever given, and the hash of the last row that is there."""
        found = db.execute("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        return (max(self._given(db), found[0]), found[1]) if found else (self._given(db), _NO_HASH)

    @staticmethod
    def _given(db: sqlite3.Connection) -> int:
        found = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
        return int(found[0]) if found else 0

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
            act = self._act(db, event.act, event.line)
            if act is None or act.settled or act.state != event.was:
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
            changed = db.execute(
                "UPDATE holds SET open = 0 WHERE id = ? AND line = ? AND open", (event.hold, event.line)
            )
            if changed.rowcount != 1:
                raise Moved(f"hold {event.hold} is lifted already")

    def _act(self, db: sqlite3.Connection, id_: str, line: str) -> Act | None:
        found = db.execute("SELECT body FROM acts WHERE id = ?", (id_,)).fetchone()
        act = self._decoded(found[0]) if found else None
        return act if act is not None and act.line == line else None

    def _decoded(self, body: bytes) -> Act:
        try:
            act: Act = _ACT.decode(body)
        except msgspec.DecodeError as error:
            words = f"{self.path}: an act in it cannot be read: {error}; a newer andon wrote it, or it is damaged"
            raise LedgerUnusable(f"{words} (`andon audit verify` tells)") from error
        return act

    def _unsettled(self, db: sqlite3.Connection, claim: str) -> Act:
        found = db.execute(
            f"SELECT body FROM acts WHERE claim = ? AND state IN {UNSETTLED}",  # noqa: S608 - a constant
            (claim,),
        ).fetchone()
        if found is None:
            raise LedgerUnusable("an act of this id was asked before")
        return self._decoded(found[0])

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
                # Text in a damaged file may be anything; what is not known is skipped.
                Row(seq=seq, at=at, seen=seen, kind=str(kind), v=v, line=str(line), body=body, hash=_bytes(hash_).hex())
                for seq, at, seen, kind, v, line, body, hash_ in found
            ]
        except TROUBLE as error:
            raise self._unusable(error) from error

    def changed(self) -> bool:
        """Whether another connection wrote since the last call: SQLite counts that for us."""
        try:
            version = self._data_version()
        except TROUBLE as error:
            raise self._unusable(error) from error
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
        except TROUBLE as error:
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
        except TROUBLE as error:
            raise self._unusable(error) from error

    def lease(self) -> Lease | None:
        """Who holds the lease now; None: nobody."""
        try:
            found = self._db.execute("SELECT holder, epoch, expires, beat FROM lease").fetchone()
        except TROUBLE as error:
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
        """Keep a folded board, with a hash of it and of the row it ends at."""
        with self._transaction() as db:
            row = db.execute("SELECT hash FROM events WHERE seq = ?", (seq,)).fetchone()
            if row is not None:
                hash_ = _chained(row[0], (format_, board))
                db.execute("INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?)", (format_, seq, hash_, board))

    def last_checkpoint(self, format_: str) -> tuple[int, bytes] | None:
        """The checkpoint of that format, if it and the row it ends at are what they were."""
        try:
            found = self._db.execute(
                "SELECT c.seq, c.board, c.hash, e.hash FROM checkpoints c JOIN events e ON e.seq = c.seq "
                "WHERE c.format = ?",
                (format_,),
            ).fetchone()
        except TROUBLE as error:
            raise self._unusable(error) from error
        if found is None or _chained(found[3], (format_, found[1])) != found[2]:
            return None
        return found[0], found[1]

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
            if self._given(self._db) > count:
                return Audit(count, count + 1, f"event {count + 1} is missing")
        except TROUBLE as error:
            raise self._unusable(error) from error
        return Audit(count)

    def close(self) -> None:
        """Close it."""
        self._db.close()


def _of_another_line(event: Event) -> bool:
    """Whether a hold or an act would be claimed on one line and shown on another."""
    if isinstance(event, HoldPlaced):
        return event.hold.line != event.line
    return isinstance(event, ActAsked) and event.act.line != event.line


def _real(number: float) -> float:
    """The number as SQLite gives it back: a whole one as a float, and no negative zero."""
    return float(number) + 0.0


def _chained(last: bytes, row: tuple[object, ...]) -> bytes:
    """The hash of a row: of everything in it, and of the hash before."""
    digest = hashlib.sha256(_bytes(last))
    for value in row:
        part = _bytes(value)
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


def _bytes(value: object) -> bytes:
    # Not repr for text: what it escapes depends on the version of Python.
    return value if isinstance(value, bytes) else value.encode() if isinstance(value, str) else repr(value).encode()
