"""The embedded ledger: one SQLite file, for one Unix account on one host.

Everything that must be true at once is one IMMEDIATE transaction at full synchronisation: an event and what it claims.
The tables `acts` and `holds` hold nothing that the events do not; they are there so that SQLite's unique indexes decide a
race. `_sqlite_file` makes and opens the file, `_sqlite_reserve` holds back space for when the disk is full,
`_sqlite_examined` looks for damage.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from adapters import _sqlite_file
from adapters._sqlite_chain import ACT, NO_HASH, ROW, as_bytes, chained, given, walked
from adapters._sqlite_examined import Examination
from adapters._sqlite_file import UNSETTLED
from adapters._sqlite_reserve import Reserve
from andon.board import stepped
from andon.clock import Clock, Time
from andon.events import NAMES, ActAsked, ActStepped, Event, HoldLifted, HoldPlaced, Started, decode, encode, is_binding
from andon.model import Act, Sample, to_json
from andon.ports import AlreadyHeld, Audit, Joined, Lease, LedgerUnusable, Moved, Pulse, Row

TROUBLE = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What SQLite raises; the second for words of its own that quote a damaged file."""

T = TypeVar("T")
VACUUM_PAGES = 500
"""How many free pages are given back at each checkpoint."""
FULL = "the disk is full: acts are still recorded, what is seen is not; make room"


class SqliteLedger:
    """The ledger in one file. Blocking; belongs to the thread that made it."""

    def __init__(self, path: Path | str, clock: Clock, *, read_only: bool = False) -> None:
        """Open the ledger, and make it if it is not there. Raises LedgerUnusable."""
        self.path = path
        self.clock = clock
        self.read_only = read_only
        self._newer = ""
        file = None if path == ":memory:" else Path(path)
        self._reserve = Reserve(None if read_only else file)
        self._examination = Examination(file, walked) if file and not read_only else None
        try:
            self._db = self._open()
            self._version = self._data_version()
        except TROUBLE as error:
            raise self._unusable(error) from error
        except OSError as error:
            raise LedgerUnusable(f"{path}: {error.strerror or error}") from error
        if not self.read_only:
            self._reserve.make()

    def _open(self) -> sqlite3.Connection:
        if self.path == ":memory:":
            return _sqlite_file.open_memory()
        db, self._newer = _sqlite_file.open_file(Path(self.path), read_only=self.read_only)
        self.read_only = self.read_only or bool(self._newer)
        return db

    def trouble(self) -> str:
        """Why it is not what it should be, though it may take what is handed to it; empty: nothing is known. Cheap."""
        words = self._newer
        if not self.read_only:
            words = FULL if self._reserve.spent() else ""
            words = (self._examination.words() if self._examination else "") or words
        return f"{self.path}: {words}" if words else ""

    def _data_version(self) -> int:
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def _unusable(self, error: Exception) -> LedgerUnusable:
        words = "malformed" if isinstance(error, UnicodeDecodeError) else str(error)
        hint = next((hint for beginning, hint in self._hints().items() if words.startswith(beginning)), words)
        return LedgerUnusable(f"{self.path}: {hint}")

    def _hints(self) -> dict[str, str]:
        """What to do, by how SQLite's words begin."""
        damaged = "it is damaged; move it aside and keep it, andon makes a new one"
        return {
            "database or disk is full": "the disk is full; make room, then go on",
            "attempt to write a readonly database": self._newer or "it is only read here",
            "disk I/O error": "the disk does not take or give it (disk I/O error); see what the system's log says",
            "database is locked": f"another process keeps it locked for more than {_sqlite_file.BUSY_S:g} s",
            "file is not a database": "this is not an andon ledger",
            "database disk image is malformed": damaged,
            "malformed": damaged,
            "Could not decode to UTF-8": damaged,
        }

    def _write(self, work: Callable[[sqlite3.Connection], T], *, vital: bool = False) -> T:
        """Do `work` in one IMMEDIATE transaction, all or nothing. Raises LedgerUnusable for what is SQLite's trouble.

        `vital`: when the disk is full, the reserve is given up for it; it and what grows nothing goes on until there is
        room.
        """
        try:
            try:
                done = self._transaction(work)
            except sqlite3.OperationalError as error:
                if not (vital and _takes_no_more(error) and self._reserve.give_up()):
                    raise
                self._write_back()
                done = self._transaction(work)
            if self._reserve.spent():
                self._write_back()
        except TROUBLE as error:
            raise self._unusable(error) from error
        return done

    def _again(self, work: Callable[[sqlite3.Connection], object]) -> None:
        """Write what is soon asked or told again: it need not outlive a power cut, and waits for no disk."""
        try:
            self._db.execute("PRAGMA synchronous = NORMAL")
            try:
                self._write(work)
            finally:
                self._db.execute("PRAGMA synchronous = FULL")
        except TROUBLE as error:
            raise self._unusable(error) from error

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            done = work(self._db)
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            raise
        return done

    def _write_back(self) -> None:
        """Move the log into the file, so that its space is used again and it need not grow."""
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _observing(self) -> None:
        """Raise LedgerUnusable while the space that is left is for acts."""
        if self._reserve.spent():
            raise LedgerUnusable(f"{self.path}: {FULL}")

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
        vital = any(is_binding(kind) or kind == NAMES[Started] for _, kind, _ in encoded)
        if not vital:
            self._observing()

        def append(db: sqlite3.Connection) -> None:
            seq, last = self._end(db)
            for event, kind, body in encoded:
                seq += 1
                self._claim(db, event)
                row = (seq, _real(event.at), _real(self.clock.now()), kind, 1, event.line, body)
                last = chained(last, row)
                db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, last))

        self._write(append, vital=vital)

    def _end(self, db: sqlite3.Connection) -> tuple[int, bytes]:
        """The highest `seq` ever given, and the hash of the last row that is there."""
        found = db.execute("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        return (max(given(db), found[0]), found[1]) if found else (given(db), NO_HASH)

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
            act: Act = ACT.decode(body)
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
            found = self._db.execute(f"SELECT {ROW} FROM events {where}", values)  # noqa: S608 - constants only
            return [
                # Text in a damaged file may be anything; what is not known is skipped.
                Row(
                    seq=seq,
                    at=at,
                    seen=seen,
                    kind=str(kind),
                    v=v,
                    line=str(line),
                    body=body,
                    hash=as_bytes(hash_).hex(),
                )
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
        self._observing()

        def keep(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR IGNORE INTO series (name) VALUES (?)", (series,))
            id_ = db.execute("SELECT id FROM series WHERE name = ?", (series,)).fetchone()[0]
            db.executemany(
                "INSERT OR REPLACE INTO samples VALUES (?, ?, ?, ?)", [(id_, row.at, row.value, row.n) for row in rows]
            )
            if forget_before is not None:
                db.execute("DELETE FROM samples WHERE series = ? AND at < ?", (id_, forget_before))

        self._again(keep)

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
        rows = [(p.key, p.at, p.state, p.words) for p in pulses]
        self._again(lambda db: db.executemany("INSERT OR REPLACE INTO pulse VALUES (?, ?, ?, ?)", rows))

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
        return Lease(*found) if found and _is_held(Lease(*found), self.clock.now()) else None

    def take_lease(self, holder: str, live_s: float) -> Lease | None:
        """Take or renew the lease; None if somebody else holds it."""
        now = self.clock.now()

        def take(db: sqlite3.Connection) -> Lease | None:
            found = db.execute("SELECT holder, epoch, expires, beat FROM lease").fetchone()
            was = Lease(*found) if found else None
            held = was is not None and _is_held(was, now)
            if was and held and was.holder != holder:
                return None
            epoch = was.epoch + (not held or was.holder != holder) if was else 1
            fresh = Lease(holder, epoch, now + live_s, now)
            db.execute("INSERT OR REPLACE INTO lease VALUES (1, ?, ?, ?, ?)", (holder, epoch, now + live_s, now))
            return fresh

        return self._write(take, vital=True)

    def drop_lease(self, holder: str) -> None:
        """Hand it over at once."""
        self._write(lambda db: db.execute("UPDATE lease SET expires = 0 WHERE holder = ?", (holder,)), vital=True)

    def checkpoint(self, format_: str, seq: int, board: bytes) -> None:
        """Keep a folded board, with a hash of it and of the row it ends at."""
        self._observing()

        def put(db: sqlite3.Connection) -> None:
            row = db.execute("SELECT hash FROM events WHERE seq = ?", (seq,)).fetchone()
            if row is not None:
                hash_ = chained(row[0], (format_, board))
                db.execute("INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?)", (format_, seq, hash_, board))

        self._write(put)
        with contextlib.suppress(sqlite3.Error):
            self._db.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")  # `execute` gives back one page

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
        if found is None or chained(found[3], (format_, found[1])) != found[2]:
            return None
        return found[0], found[1]

    def verify(self) -> Audit:
        """Walk the chain from the first event."""
        try:
            return walked(self._db)
        except TROUBLE as error:
            raise self._unusable(error) from error

    def close(self) -> None:
        """Close it."""
        if self._examination is not None:
            self._examination.leave()
        self._db.close()


def _is_held(lease: Lease, now: Time) -> bool:
    """Whether it has not run out. One that was renewed in the future was so before the clock was set back: it is over."""
    return lease.expires_at > now and lease.beat_at <= now + (lease.expires_at - lease.beat_at)


def _takes_no_more(error: sqlite3.Error) -> bool:
    """Whether the disk is full, or over its quota, for which SQLite has no word of its own."""
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


def _of_another_line(event: Event) -> bool:
    """Whether a hold or an act would be claimed on one line and shown on another."""
    if isinstance(event, HoldPlaced):
        return event.hold.line != event.line
    return isinstance(event, ActAsked) and event.act.line != event.line


def _real(number: float) -> float:
    """The number as SQLite gives it back: a whole one as a float, and no negative zero."""
    return float(number) + 0.0
