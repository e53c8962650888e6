"""Metrics from a database: one query for each metric, with a row for each bucket: its time, a number, and the trials.

The query is the config's own; the range is bound, never written into it. Everything around it is `_sql_database`'s: that
it only reads, ends in time, and does not hold up anybody.
"""

import getpass
import ipaddress
import re
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec

from adapters._sql_database import CONNECT_S, Database, Row, bound
from andon.buckets import NOTHING_CLOSED, Points, closed, joined
from andon.clock import Clock, Time, long_age
from andon.model import Identity, Metric, Samples
from andon.ports import Can, Garbled
from andon.registry import Adapter, Context, NoOptions, Place, Station
from andon.secret import Secret

SPARE_ROWS = 100
"""Rows beyond two for each bucket that are looked at: enough to say what is wrong with them."""

MAY_FOLLOW = frozenset(
    {"sslmode", "sslrootcert", "sslcert", "sslkey", "target_session_attrs", "channel_binding", "host"}
)
"""What may stand after the question mark of PostgreSQL's address; the rest could lead elsewhere, or hold a secret."""

VERIFIED = ("verify-full", "verify-ca")
"""The values of `sslmode` with which the server must show who it is."""

SILENT = "the query found no rows; does it group what is there by time?"

_RANGE = re.compile(r"(?<!:):(since|until)(?:_epoch)?\b")

POSTGRESQL = """
SELECT current_user, current_setting('server_version'), extract(epoch FROM clock_timestamp()),
    current_setting('is_superuser') = 'on',
    CASE WHEN pg_is_in_recovery() THEN extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END,
    (SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace NOT IN
        (SELECT oid FROM pg_namespace WHERE nspname LIKE 'pg\\_%' OR nspname = 'information_schema')
        AND has_table_privilege(oid, 'INSERT, UPDATE, DELETE, TRUNCATE'))
"""
"""Who we are, the version, its clock, whether the role may do everything, how far behind a standby is, and how many tables
the role could write to."""


class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to reach the database."""

    url: str
    """`postgresql://user@host/database` or `sqlite:///file`, relative to the config's folder; no password in it."""
    password: str = ""
    """A secret by reference."""
    ca_file: str = ""
    """The authority that vouches for PostgreSQL's server, if the system does not know it."""
    plaintext: bool = False
    """Allows a connection beyond this machine to a server that does not show who it is."""
    unguarded: bool = False
    """Allows a database of which andon cannot itself make sure that it is only read, and in time."""


class Sql:
    """One database, asked for the buckets of metrics."""

    can = Can()

    def __init__(self, database: Database, clock: Clock, warned: tuple[str, ...] = ()) -> None:
        self._database = database
        self._clock = clock
        self._warned = warned

    async def whoami(self) -> Identity:
        """Who we are there, what it is, and what more than reading the role could do. Raises as a read."""
        if self._database.kind == "sqlite":
            ((version, tables),) = await self._database.ask(
                "whoami", "SELECT sqlite_version(), count(*) FROM sqlite_master WHERE type IN ('table', 'view')"
            )
            found = (f"opened read-only, {tables} tables", *self._warned)
            return Identity(_user(), f"SQLite {version}", found, clock=self._clock.now())
        if self._database.kind == "postgresql":
            return self._postgresql(*(await self._database.ask("whoami", POSTGRESQL, narrow=False)))
        await self._database.ask("whoami", "SELECT 1")
        return Identity("the address's", self._database.kind, self._warned)

    def _postgresql(self, row: Row) -> Identity:
        user, version, clock, superuser, behind_s, writes = row
        found = ["reads inside read-only transactions"]
        if superuser:
            found.append("its role may do everything: give andon one that may only read")
        elif writes:
            found.append(f"its role could write to {writes} tables: give andon one that may only read")
        if behind_s is not None:
            found.append(f"a standby, {long_age(float(behind_s))} behind: let `lag:` be longer than that")
        return Identity(user, f"PostgreSQL {version}", (*found, *self._warned), clock=float(clock))

    async def close(self) -> None:
        """Nothing is kept open."""

    async def samples(self, metric: Metric, start: Time, end: Time, every: float) -> Samples:
        """The closed buckets in `[start, end)`: the query's rows of time, number and, where there is one, n.

        Raises as a read; Garbled for a query that is not bound to the range, or gives something else than buckets.
        """
        what = f"{self._database.name}: {metric.name}"
        if metric.n:
            raise Garbled(f"{what}: `n:` is no query of its own here; let the third column of `value:` be n")
        if {found[1] for found in _RANGE.finditer(metric.value)} != {"since", "until"}:
            raise Garbled(
                f"{what}: the query is not bound to the range asked for; write: WHERE at >= :since AND at < :until"
            )
        ats = closed(start, end, every, self._clock.now())
        if not ats:
            return NOTHING_CLOSED
        values = bound(self._database.kind, ats[0], ats[-1] + every, every)
        rows = await self._database.ask(metric.name, metric.value, values, 2 * len(ats) + SPARE_ROWS)
        columns = len(rows[0]) if rows else 3
        if columns not in (2, 3):
            raise Garbled(f"{what}: {columns} columns instead of two or three: time, number, n")
        value, n = Points(what, ats, every), Points(what, ats, every)
        for row in rows:
            value.put(row[0], row[1])
            n.put(row[0], row[-1])
        return joined(metric, ats, value, n if columns == 3 else None, silent=SILENT)


def _connect(options: Connection, context: Context) -> Sql:
    """Raises ValueError for an address that cannot be used, SecretError for a password that is no reference."""
    where = f"{context.name}: url"
    try:
        parts = urlsplit(options.url)
        kind = parts.scheme.partition("+")[0] if parts.port != 0 else ""
    except ValueError:  # of a port that is no number
        kind = ""
    if not re.fullmatch(r"[!-~]+", options.url) or not kind or "://" not in options.url:
        raise ValueError(f"{where}: write it as postgresql://user@host/database or sqlite:///file")
    if parts.password is not None or re.search(r"[?&](password|passwd|pwd)=", options.url, re.IGNORECASE):
        raise ValueError(f"{where}: no password in it; give it by reference, as `password:`")
    password = Secret(options.password) if options.password else None
    if kind == "sqlite":
        path = str(context.folder / unquote(parts.path.removeprefix("/")))
        if parts.netloc or parts.query or not parts.path.strip("/") or password:
            raise ValueError(f"{where}: write SQLite's as sqlite:///file, or sqlite:////whole/path, and nothing more")
        return Sql(Database(context.name, kind, path), context.clock)
    if kind in ("postgresql", "postgres"):
        connect, warned = _guarded(options, context, parts)
        address = f"postgresql+psycopg://{parts.netloc}{parts.path}"
        return Sql(Database(context.name, "postgresql", address, password, connect), context.clock, warned)
    if not options.unguarded:
        raise ValueError(
            f"{where}: of {kind} andon cannot itself make sure that it is only read, and in time; if its user may only "
            "read there, allow it with `unguarded: true`"
        )
    warned = (f"{kind}: neither read-only nor limited in time by andon (unguarded: true)",)
    return Sql(Database(context.name, kind, options.url, password), context.clock, warned)


def _guarded(options: Connection, context: Context, parts: SplitResult) -> tuple[dict[str, str | int], tuple[str, ...]]:
    """What PostgreSQL is connected with, and what must be said of it. Raises ValueError."""
    given = dict(parse_qsl(parts.query))
    where = f"{context.name}: url"
    if more := sorted(given.keys() - MAY_FOLLOW):
        raise ValueError(f"{where}: {more[0]!r} may not follow the address; {', '.join(sorted(MAY_FOLLOW))} may")
    if not given.get("host", "/").startswith("/"):
        raise ValueError(f"{where}: `host` after the address is for the folder of a socket")
    connect: dict[str, str | int] = {
        "connect_timeout": CONNECT_S,
        "application_name": "andon",
        "tcp_user_timeout": 8000,
    }
    if "host" in given or _on_this_machine(parts.hostname or ""):
        return {**connect, **given}, ()
    verified: dict[str, str | int] = {"sslmode": "verify-full", "sslrootcert": "system"}
    if options.ca_file:
        verified["sslrootcert"] = str(context.folder / options.ca_file)
    connect |= {**({"sslmode": "prefer"} if options.plaintext else verified), **given}
    if connect["sslmode"] in VERIFIED:
        return connect, ()
    if not options.plaintext:
        raise ValueError(f"{where}: sslmode must be one of {', '.join(VERIFIED)}, or allow it with `plaintext: true`")
    return connect, ("the server need not show who it is (plaintext: true)",)


def _on_this_machine(host: str) -> bool:
    try:
        return host in ("", "localhost") or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "nobody with a name"


def _metrics(connection: Sql, _: NoOptions, __: Place) -> Sql:
    return connection


ADAPTER = Adapter(
    name="sql",
    title="PostgreSQL, SQLite and other databases",
    options=Connection,
    connect=_connect,
    metrics=Station(NoOptions, _metrics),
)
