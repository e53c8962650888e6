"""One connection to a PostgreSQL server: found, encrypted, kept within a time limit, and made anew when it is lost.

Everything that is asked ends within `LIMIT_S`, whatever the network does. A connection that is lost is made again once,
and what was asked is asked again; while the server does not answer, who asks is told so at once. What a server says is
cleaned, and the password is in no words. Source: https://www.postgresql.org/docs/15/libpq-connect.html (parameters, their
meaning, the service file), https://www.postgresql.org/docs/15/errcodes-appendix.html.
"""

import contextlib
import ipaddress
import os
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from andon.hiding import hide, remember
from andon.ports import LedgerUnusable
from andon.text import clean

T = TypeVar("T")
Database = Any
"""A connection of psycopg, which is an extra and imported when an address asks for it."""

LIMIT_S = 5.0
"""How long an answer may take, with waiting for others and for a new connection."""
LOCK_S = 4.0
"""How long one waits for another one's transaction."""
AGAIN_S = 0.5
"""How long after a connection that failed the next is tried; meanwhile who asks is refused at once."""
CHANNEL = "andon"
AUTHORITIES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where systems keep the authorities that they trust."""
SHAPE = "postgresql://USER@HOST:PORT/DATABASE; the signs % @ / : # ? of a password are written %25 %40 %2F %3A %23 %3F"
BEGUN = """
SELECT set_config('search_path', 'andon, pg_temp', false), set_config('lock_timeout', %s, false),
    set_config('statement_timeout', %s, false), set_config('idle_in_transaction_session_timeout', %s, false),
    set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
        ELSE current_setting('synchronous_commit') END, false),
    set_config('default_transaction_read_only', %s, false), pg_is_in_recovery(),
    (SELECT backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid())
"""
HINTS = {
    "23001": "events are never changed and never deleted",
    "25006": "it is only read here, or the server is a standby: name the one that takes writes",
    "28000": "the server refuses this user: {}",
    "28P01": "the server refuses the user or the password; see `ledger:` in the config and what it refers to",
    "3D000": "there is no such database; make it: CREATE DATABASE … ENCODING 'UTF8'",
    "3F000": "there is no ledger in this database any more",
    "42501": "this role may not: {}; docs/ledger.md names the rights",
    "42P01": "there is no ledger in this database any more: {}",
    "53100": "the server's disk is full; make room there, then go on",
    "53300": "the server takes no more connections: {}",
    "55P03": "another process keeps it locked; try again",
    "57014": "the server was too slow: {}",
}
"""What to do, by PostgreSQL's code of an error; {} stands for its own words."""


class Link:
    """The way to one ledger on a server. Belongs to one thread."""

    def __init__(self, address: str, *, read_only: bool) -> None:
        """Raises LedgerUnusable for an address that cannot be read. Nothing is asked of the server yet."""
        self._read_only = read_only
        self._parameters = parameters(address, read_only=read_only)
        self.where = _where(self._parameters)
        """The address without what is secret."""
        self.news = True
        """Whether there may be events that were not read: another one told so, or nobody could."""
        self.head = 0
        """The highest `seq` that is known of."""
        self._db: Database | None = None
        self._began: tuple[int, str] | None = None
        self._again_at = 0.0
        self._words = ""

    def ask(self, work: Callable[[Database], T]) -> T:
        """Do `work` with the database, and again from its beginning if the connection was lost meanwhile.

        Raises LedgerUnusable, and what `work` raises; a transaction that `work` began is then taken back.
        """
        import psycopg

        end = time.monotonic() + LIMIT_S
        while True:
            fresh = self._db is None
            db = self._connected(end)
            db.deadline = end
            try:
                return work(db)
            except psycopg.Error as error:
                lost = _is_lost(db, error)
                if not lost:
                    self._take_back(db)
                    raise self.unusable(error) from error
                self.drop()
                if fresh or time.monotonic() >= end:
                    raise self._gone(self.unusable(error)) from error
            except BaseException:
                self._take_back(db)
                raise

    def heard(self) -> bool:
        """Look what the server told without being asked; False: the connection is lost. Asks nothing, waits for nothing."""
        import psycopg

        if self._db is None:
            return False
        try:
            self._db.pgconn.consume_input()
            while told := self._db.pgconn.notifies():
                self._told(told.be_pid, told.extra.decode(errors="replace"))
        except psycopg.Error:
            self.drop()
            return False
        return True

    def unusable(self, error: Exception) -> LedgerUnusable:
        """An error of the server or the network in words."""
        code = getattr(error, "sqlstate", None) or ""
        primary = getattr(getattr(error, "diag", None), "message_primary", None)
        own = hide(clean(str(primary or error).strip(), 400))
        words = HINTS.get(code, "{}").replace("{}", own)
        if not code and ("certificate" in own or "SSL" in own):
            words += (
                f"; andon asks for sslmode={self._parameters['sslmode']} here: name the server's authority with "
                "`sslrootcert=FILE` in the address, or the `sslmode=` that you accept"
            )
        return LedgerUnusable(f"{self.where}: {words}")

    def close(self) -> None:
        """Give it up for good."""
        self.drop()
        self._again_at, self._words = float("inf"), f"{self.where}: the ledger was closed"

    def drop(self) -> None:
        """Give up the connection, if there is one."""
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _connected(self, end: float) -> Database:
        if self._db is not None:
            return self._db
        if time.monotonic() < self._again_at:
            raise LedgerUnusable(self._words)
        import psycopg

        try:
            db = self._open(end)
            try:
                db.deadline = end
                self._begin(db)
            except BaseException:
                db.close()
                raise
        except psycopg.Error as error:
            raise self._gone(self.unusable(error)) from error
        except LedgerUnusable as error:
            raise self._gone(error) from None
        self._db, self.news = db, True
        return db

    def _gone(self, error: LedgerUnusable) -> LedgerUnusable:
        self._again_at, self._words = time.monotonic() + AGAIN_S, str(error)
        return error

    def _open(self, end: float) -> Database:
        """A new connection. In a thread that can be left behind: a name may be asked for as long as the system likes."""
        opened: list[Database] = []
        failed: list[Exception] = []
        lock, left = threading.Lock(), threading.Event()

        def connect() -> None:
            try:
                db = _connection_class().connect("", autocommit=True, **self._parameters)
            except Exception as error:  # noqa: BLE001 - handed to the thread that waits
                failed.append(error)
                return
            with lock:
                if not left.is_set():
                    opened.append(db)
                    return
            db.close()

        thread = threading.Thread(target=connect, name="ledger-connects", daemon=True)
        thread.start()
        thread.join(max(0.0, end - time.monotonic()))
        with lock:
            left.set()
        if failed:
            raise failed[0]
        if not opened:
            raise LedgerUnusable(f"{self.where}: no connection within {LIMIT_S:g} s")
        return opened[0]

    def _begin(self, db: Database) -> None:
        """How every session begins. What the last one left behind on the server, a lock perhaps, is ended."""
        db.add_notify_handler(lambda told: self._told(told.pid, told.payload))
        limit = f"{LIMIT_S:g}s"
        values = (f"{LOCK_S:g}s", limit, limit, "on" if self._read_only else "off")
        found = db.execute(BEGUN, values).fetchone()
        assert found is not None
        *_, standby, began = found
        if self._began is not None:
            db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND backend_start::text = %s",
                self._began,
            )
        self._began = (db.info.backend_pid, began)
        if not standby:  # which takes no LISTEN; there one looks
            db.execute(f"LISTEN {CHANNEL}")

    def _told(self, pid: int, payload: str) -> None:
        """Somebody committed up to an event; we may know it already, for one also looks."""
        seq = int(payload) if payload.isdecimal() else self.head + 1
        if seq > self.head and not (self._began and pid == self._began[0]):
            self.head, self.news = seq, True

    def _take_back(self, db: Database) -> None:
        import psycopg

        try:
            if db.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                db.execute("ROLLBACK")
        except psycopg.Error:
            self.drop()


def parameters(address: str, *, read_only: bool) -> dict[str, Any]:
    """What libpq is given for an address. Raises LedgerUnusable, in words without anything of the address."""
    try:
        import psycopg
        from psycopg.conninfo import conninfo_to_dict
    except ImportError:
        raise LedgerUnusable("a ledger on PostgreSQL needs psycopg: install andon[postgres]") from None
    try:
        given = conninfo_to_dict(address)
    except psycopg.Error:  # its words may hold a piece of the password
        given = {}
    if not given or _is_cut_wrongly(given):
        raise LedgerUnusable(f"the ledger's address cannot be read; it is written {SHAPE}")
    if given.get("password"):
        remember(str(given["password"]))
    more: dict[str, Any] = {
        "connect_timeout": 2,
        "application_name": "andon",
        "keepalives_idle": 10,
        "keepalives_interval": 3,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
        "target_session_attrs": "any" if read_only else "read-write",
        "sslmode": "prefer" if _is_here(given) else "verify-full",
    }
    made = {**more, **given, "client_encoding": "UTF8"}
    own = Path("~/.postgresql/root.crt").expanduser()
    if str(made["sslmode"]).startswith("verify") and not (
        "sslrootcert" in made or os.environ.get("PGSSLROOTCERT") or own.exists()
    ):
        known = next((file for file in AUTHORITIES if Path(file).exists()), None)
        made |= {"sslrootcert": known} if known else {}
    return made


def _is_cut_wrongly(given: dict[str, Any]) -> bool:
    """Whether a piece of a password, with signs that were not written as %…, was taken for a host, a port or a name."""
    hosts, ports = (str(given.get(name) or "").split(",") for name in ("host", "port"))
    odd = any("@" in host[1:] for host in hosts) or any(port and not port.isdecimal() for port in ports)
    return odd or any(sign in str(given.get("dbname") or "") for sign in "@/")


def _is_here(given: dict[str, Any]) -> bool:
    """Whether nothing leaves this machine: every host is a socket's folder or a loopback address."""
    if "service" in given or os.environ.get("PGSERVICE"):
        return False  # the service's file names the host
    hosts = given.get("hostaddr") or given.get("host")
    hosts = hosts or os.environ.get("PGHOSTADDR") or os.environ.get("PGHOST") or ""
    return all(_is_loopback(host) for host in str(hosts).split(","))


def _is_loopback(host: str) -> bool:
    if host in ("", "localhost") or host.startswith(("/", "@")):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _where(made: dict[str, Any]) -> str:
    user, host, port = (clean(str(made.get(name) or ""), 80) for name in ("user", "host", "port"))
    place = f"{user}@" * bool(user) + (host or clean(str(made.get("service") or ""), 80)) + f":{port}" * bool(port)
    return hide(f"postgresql://{place}/{clean(str(made.get('dbname') or ''), 80)}")


def _is_lost(db: Database, error: Exception) -> bool:
    """Whether the connection is no more: the server said so with its last words, or nothing."""
    import psycopg

    if db.closed or isinstance(error, psycopg.InterfaceError):
        return True
    if not isinstance(error, psycopg.OperationalError):
        return False
    return error.sqlstate is None or error.diag.severity_nonlocalized in ("FATAL", "PANIC")


@cache
def _connection_class() -> Any:
    """A connection on which no wait outlasts `deadline` (by time.monotonic()). Made late: psycopg is an extra."""
    import psycopg

    class Timed(psycopg.Connection[tuple[Any, ...]]):
        deadline = 0.0

        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            left = self.deadline - time.monotonic()
            try:
                return super().wait(gen, interval, min(max(left, 0.0), timeout or LIMIT_S))
            except psycopg.OperationalError as error:
                if error.sqlstate is None and time.monotonic() >= self.deadline:
                    with contextlib.suppress(psycopg.Error):
                        self.pgconn.finish()  # what it is in the middle of cannot be known
                    raise psycopg.OperationalError(f"no answer within {LIMIT_S:g} s") from None
                raise

    return Timed
