"""The ledger of a team: one database of a PostgreSQL server, version 13 or newer, for many people on many hosts.

Everything that must be true at once is one transaction: an event and what it claims. The tables `acts` and `holds` hold
nothing that the events do not; their unique indexes decide a race. The lease, and when an event was seen, go by the server's
clock. A write of another process is heard by LISTEN; each two seconds, and after every new connection, one looks anyway.
`_postgres_link` is the connection, `_postgres_schema` the tables and rights, `_postgres_append` how events are written.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from adapters import _postgres_schema
from adapters._postgres_append import DAMAGED, NOW, append, begin, encoded, is_there
from adapters._postgres_link import Database, Link
from adapters._sqlite_chain import NO_HASH, ROW, _claimed_otherwise, chained
from andon.clock import Clock, Time
from andon.model import Sample
from andon.ports import Audit, Lease, LedgerUnusable, Pulse, Row

LOOK_S = 2.0
"""How often one looks for what others wrote, should the server not have told."""
PAGE = 250
"""How many events are asked for at once: each page has its own time limit."""
SKEW_S = 5.0
"""By how much this machine's clock may differ from the server's before it is said."""
AGAIN = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit TO off"
"""Begins what is soon asked or told again: it need not outlive a crash of the server, and waits for no disk."""
LOOK = f"SELECT head.seq, meta.value::integer, {NOW} FROM head, meta WHERE meta.key = 'schema'"  # noqa: S608 - a constant
_HELD = "l.expires > excluded.beat AND l.beat <= excluded.beat + (l.expires - l.beat)"
"""Not when it was renewed in the future: that was before the server's clock was set back."""
LEASE = f"SELECT holder, epoch, expires - now, now - beat, expires - beat FROM lease, (SELECT {NOW} AS now) AS t"  # noqa: S608 - a constant
TAKE = f"""
INSERT INTO lease AS l SELECT 1, %s, 1, now + %s, now FROM (SELECT {NOW} AS now) AS t
ON CONFLICT (id) DO UPDATE SET holder = excluded.holder, expires = excluded.expires, beat = excluded.beat,
    epoch = l.epoch + CASE WHEN l.holder = excluded.holder AND {_HELD} THEN 0 ELSE 1 END
WHERE l.holder = excluded.holder OR NOT ({_HELD}) RETURNING epoch
"""  # noqa: S608 - constants only


class Doubt(msgspec.Struct, frozen=True):
    """Events whose commit was not answered, and where their last one is if they were committed."""

    events: tuple[object, ...]
    seq: int
    hash: bytes


class PostgresLedger:
    """The ledger in a database. Blocking, but never longer than `_postgres_link.LIMIT_S`; belongs to one thread."""

    def __init__(self, address: str, clock: Clock, *, read_only: bool = False) -> None:
        """Open the ledger, and make it if it is not there. Raises LedgerUnusable."""
        self.clock = clock
        self.read_only = read_only
        self._link = Link(address, read_only=read_only)
        self._doubt: Doubt | None = None
        self._look_at = 0.0
        self._skew_s = 0.0
        self._why = ""
        try:
            where = self._link.where
            self._why = self._link.ask(lambda db: _postgres_schema.prepare(db, where, read_only=read_only))
            self.read_only = read_only or bool(self._why)
            self._link.ask(self._look)
        except BaseException:
            self.close()
            raise
        self._link.news = False

    def trouble(self) -> str:
        """Why it is not what it should be, though it may take what is handed to it; empty: nothing is known. Cheap."""
        words = self._why
        if not words and abs(self._skew_s) > SKEW_S:
            way = "behind" if self._skew_s > 0 else "ahead of"
            words = f"this machine's clock is {abs(self._skew_s):.0f} s {way} the database's: set one of them right"
        return f"{self._link.where}: {words}" if words else ""

    def commit(self, *events: object) -> None:
        """Append events, all or none. See `ports.Ledger.commit`."""
        rows = encoded(events)
        self._writing()

        def work(db: Database) -> None:
            known = self._link.head
            head = begin(db)
            self._check(known, head.seq, head.schema)
            if self._is_done(db, events):
                db.execute("ROLLBACK")
                return
            self._doubt = None
            self._link.news = self._link.news or head.seq > known
            seq, hash_ = append(db, head, rows) if rows else (head.seq, head.hash)
            self._doubt = Doubt(events, seq, hash_) if rows else None
            db.execute("COMMIT")
            self._doubt, self._link.head = None, max(seq, self._link.head)

        try:
            self._link.ask(work)
        except LedgerUnusable as error:
            where = "" if str(error).startswith(self._link.where) else f"{self._link.where}: "
            doubt = self._doubt is not None and self._doubt.events == events
            words = "; whether it was recorded is not known yet" if doubt else ""
            raise LedgerUnusable(f"{where}{error}{words}") from error

    def _is_done(self, db: Database, events: tuple[object, ...]) -> bool:
        """Whether these very events were committed, though nobody said so. Their session has ended: its lock is ours."""
        doubt = self._doubt
        if doubt is None or doubt.events != events or not is_there(db, doubt.seq, doubt.hash):
            return False
        self._doubt = None
        self._link.news = True
        return True

    def _writing(self) -> None:
        if self.read_only:
            raise LedgerUnusable(f"{self._link.where}: {self._why or 'it is only read here'}")

    def _check(self, known: int, seq: int, schema: int) -> None:
        """From the moment on at which a newer andon changes the tables, or the database went back, this one only reads.

        `known` is what was known before it was asked for `seq`: with the answer comes news of later ones. Raises
        LedgerUnusable.
        """
        if schema > len(_postgres_schema.STEPS):
            self._why = _postgres_schema.newer(schema)
        elif seq < known:
            self._why = (
                f"it ended at event {known} and now ends at {seq}: an older copy stands there, after a failover "
                "or from a backup; start this andon again"
            )
        else:
            return
        self.read_only = True
        raise LedgerUnusable(f"{self._link.where}: {self._why}")

    def read(self, after: int, limit: int = 1000) -> list[Row]:
        """Events with a higher `seq`, in order."""
        found: list[Row] = []
        while len(found) < limit:
            page = min(PAGE, limit - len(found))
            rows = self._rows(f"WHERE seq > %s ORDER BY seq LIMIT {int(page)}", after)
            found += rows
            if len(rows) < page:
                break
            after = rows[-1].seq
        return found

    def recent(self, line: str, limit: int) -> list[Row]:
        """The newest events of a line, newest first; of all lines if `line` is empty."""
        if line:
            return self._rows(f"WHERE line = %s ORDER BY seq DESC LIMIT {int(limit)}", line)
        return self._rows(f"ORDER BY seq DESC LIMIT {int(limit)}")

    def _rows(self, where: str, *values: object) -> list[Row]:
        found = self._asked(where, *values)
        return [
            Row(seq, at, seen, kind, v, line, body, hash_.hex()) for seq, at, seen, kind, v, line, body, hash_ in found
        ]

    def _asked(self, where: str, *values: object) -> list[tuple[Any, ...]]:
        query = f"SELECT {ROW} FROM events {where}"  # noqa: S608 - constants and whole numbers only

        def work(db: Database) -> list[tuple[Any, ...]]:
            with db.cursor(binary=True) as cursor:
                found: list[tuple[Any, ...]] = cursor.execute(query.encode(), values).fetchall()
            return found

        return self._link.ask(work)

    def changed(self) -> bool:
        """Whether another connection wrote since the last call: the server tells, and each `LOOK_S` one looks."""
        if not self._link.heard() or time.monotonic() >= self._look_at:
            self._link.ask(self._look)
        news, self._link.news = self._link.news, False
        return news

    def _look(self, db: Database) -> None:
        before, known = time.time(), self._link.head
        found = db.execute(LOOK).fetchone()
        if found is None:
            raise LedgerUnusable(f"{self._link.where}: {DAMAGED}")
        seq, schema, now = found
        self._skew_s = now - (before + time.time()) / 2
        self._look_at = time.monotonic() + LOOK_S
        with contextlib.suppress(LedgerUnusable):  # it can still be read, and says why it is no more than that
            self._check(known, seq, schema)
        self._link.news = self._link.news or seq > known
        self._link.head = max(seq, self._link.head)

    def keep(self, series: str, rows: Sequence[Sample], forget_before: Time | None = None) -> None:
        """Keep samples; a later one for the same bucket replaces the earlier."""
        self._writing()
        last = {float(row.at): row for row in rows}
        counts = [None if row.n is None else float(row.n) for row in last.values()]
        columns = [list(last), [float(row.value) for row in last.values()], counts]

        def work(db: Database) -> None:
            db.execute(AGAIN)
            db.execute("INSERT INTO series (name) VALUES (%s) ON CONFLICT DO NOTHING", (series,))
            (id_,) = db.execute("SELECT id FROM series WHERE name = %s", (series,)).fetchone() or (0,)
            if last:
                db.execute(
                    "INSERT INTO samples SELECT %s, * FROM unnest(%s::float8[], %s::float8[], %s::float8[]) ORDER BY 2 "
                    "ON CONFLICT (series, at) DO UPDATE SET value = excluded.value, n = excluded.n",
                    (id_, *columns),
                )
            if forget_before is not None:
                db.execute("DELETE FROM samples WHERE series = %s AND at < %s", (id_, forget_before))
            db.execute("COMMIT")

        self._link.ask(work)

    def samples(self, series: str, start: Time, end: Time) -> tuple[Sample, ...]:
        """Samples kept with `start <= at < end`, in order."""
        query = "SELECT at, value, n FROM samples JOIN series ON id = series WHERE name = %s AND at >= %s AND at < %s"
        values = (series, float(start), float(end))
        found = self._link.ask(lambda db: db.execute(f"{query} ORDER BY at".encode(), values).fetchall())
        return tuple(Sample(*row) for row in found)

    def pulse(self, pulses: Sequence[Pulse]) -> None:
        """Note signs of life, one per key."""
        self._writing()
        last = {pulse.key: pulse for pulse in pulses}
        columns = zip(*((p.key, float(p.at), p.state, p.words) for p in last.values()), strict=True)
        values = [list(column) for column in columns]

        def work(db: Database) -> None:
            db.execute(AGAIN)
            db.execute(
                "INSERT INTO pulse SELECT * FROM unnest(%s::text[], %s::float8[], %s::text[], %s::text[]) ORDER BY 1 "
                "ON CONFLICT (key) DO UPDATE SET at = excluded.at, state = excluded.state, words = excluded.words",
                values,
            )
            db.execute("COMMIT")

        if values:
            self._link.ask(work)

    def pulses(self) -> dict[str, Pulse]:
        """All signs of life."""
        found = self._link.ask(lambda db: db.execute("SELECT key, at, state, words FROM pulse").fetchall())
        return {row[0]: Pulse(*row) for row in found}

    def lease(self) -> Lease | None:
        """Who holds the lease now; None: nobody. Whether it has run out is told by the server's clock, and how far that is
        from now is then given by ours.
        """
        now = self.clock.now()
        found = self._link.ask(lambda db: db.execute(LEASE).fetchone())
        if found is None:
            return None
        holder, epoch, left, since, lives = found
        held = left > 0 and since >= -lives  # renewed in the future: before the server's clock was set back
        return Lease(holder, epoch, now + left, now - since) if held else None

    def take_lease(self, holder: str, live_s: float) -> Lease | None:
        """Take or renew the lease; None if somebody else holds it."""
        self._writing()
        now = self.clock.now()
        found = self._link.ask(lambda db: db.execute(TAKE, (holder, float(live_s))).fetchone())
        return Lease(holder, found[0], now + live_s, now) if found else None

    def drop_lease(self, holder: str) -> None:
        """Hand it over at once."""
        self._writing()
        self._link.ask(lambda db: db.execute("UPDATE lease SET expires = 0 WHERE holder = %s", (holder,)))

    def checkpoint(self, format_: str, seq: int, board: bytes) -> None:
        """Keep a folded board, with a hash of it and of the row it ends at."""
        self._writing()
        row = self._link.ask(lambda db: db.execute("SELECT hash FROM events WHERE seq = %s", (seq,)).fetchone())
        if row is None:
            return
        values = (format_, seq, chained(row[0], (format_, board)), board)
        self._link.ask(
            lambda db: db.execute(
                "INSERT INTO checkpoints VALUES (%s, %s, %s, %s) ON CONFLICT (format) "
                "DO UPDATE SET seq = excluded.seq, hash = excluded.hash, board = excluded.board",
                values,
            )
        )

    def last_checkpoint(self, format_: str) -> tuple[int, bytes] | None:
        """The checkpoint of that format, if it and the row it ends at are what they were."""
        query = (
            "SELECT c.seq, c.board, c.hash, e.hash FROM checkpoints c JOIN events e ON e.seq = c.seq WHERE format = %s"
        )

        def work(db: Database) -> tuple[Any, ...] | None:
            with db.cursor(binary=True) as cursor:
                row: tuple[Any, ...] | None = cursor.execute(query, (format_,)).fetchone()
            return row

        found = self._link.ask(work)
        if found is None or chained(found[3], (format_, found[1])) != found[2]:
            return None
        return found[0], found[1]

    def verify(self) -> Audit:
        """Walk the chain from the first event to the one that is the last now."""
        ((given,),) = self._link.ask(lambda db: db.execute("SELECT seq FROM head").fetchall())
        last, count = NO_HASH, 0
        for row in self._walk():
            if row[0] != count + 1:
                return Audit(count, row[0], f"event {count + 1} is missing")
            last = chained(last, row[:7])
            if last != row[7]:
                return Audit(count, row[0], f"event {row[0]} was changed after it was written")
            count += 1
        if given > count:
            return Audit(count, count + 1, f"event {count + 1} is missing")
        wrong = self._link.ask(_claims)
        return Audit(count, count, f"{wrong} is not what the events say") if wrong else Audit(count)

    def _walk(self) -> Iterator[tuple[Any, ...]]:
        after = -1
        while rows := self._asked(f"WHERE seq > %s ORDER BY seq LIMIT {int(PAGE)}", after):
            yield from rows
            after = rows[-1][0]

    def close(self) -> None:
        """Close it."""
        self._link.close()


def _claims(db: Database) -> str:
    """What `_claimed_otherwise` finds, all seen at one moment. SQLite gives it events in their order; here that is asked."""

    def execute(query: str) -> Any:
        ordered = f"{query} ORDER BY seq" if " FROM events " in query else query
        return db.execute(ordered.encode())

    db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    found: str = _claimed_otherwise(cast("Any", SimpleNamespace(execute=execute)))
    db.execute("COMMIT")
    return found
