"""A real PostgreSQL of one's own, in a temporary folder of a user without rights, on a port of 127.0.0.1.

Nothing is synced to the disk: what is killed here is the program, never the machine.
"""

import atexit
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from tests.servers.need import ROOT, need
from tests.servers.process import Program, free_port, until

SETUP, GRANTS = re.findall(r"^```sql\n(.*?)^```", (ROOT / "docs/ledger.md").read_text(), re.MULTILINE | re.DOTALL)
"""What the document tells the superuser, and the owner, to say."""
PASSWORD = "correct/horse@battery%staple"
"""Of `keyed`; it has signs that mean something in an address."""
UNSAFE = ("fsync=off", "synchronous_commit=on", "full_page_writes=off", "max_connections=60", "shared_buffers=16MB")
QUIET = ("autovacuum=off", "log_min_messages=fatal", "jit=off", "wal_level=minimal", "max_wal_senders=0")


def program(name: str) -> str:
    """One of PostgreSQL's programs, which Debian keeps by version; missing: as `need` says."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(places[-1]) if places else need(name)


class Postgres:
    """One server. As root it runs as the user `postgres` or `nobody`, for it refuses root."""

    def __init__(self, settings: Sequence[str] = ()) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="andon-pg-", dir="/tmp"))
        self.data = self.folder / "data"
        self.port = free_port()
        self.program = Program("postgres", self.folder / "run")
        self.settings = (*UNSAFE, *QUIET, *settings)
        self._as: list[str] = []
        if os.getuid() == 0:
            user = next(one for one in pwd.getpwall() if one.pw_name in ("postgres", "nobody"))
            # It also ends when the tests are killed.
            self._as = [
                "setpriv",
                f"--reuid={user.pw_uid}",
                f"--regid={user.pw_gid}",
                "--clear-groups",
                "--pdeathsig=INT",
            ]
            os.chown(self.folder, user.pw_uid, user.pw_gid)

    def make(self) -> None:
        """Make its data, with a superuser `postgres` that needs no password here."""
        made = [*self._as, program("initdb"), "-D", str(self.data), "-A", "trust", "-U", "postgres", "-E", "UTF8"]
        more = ["--no-sync", "--locale=C.UTF-8"]
        subprocess.run([*made, *more], check=True, capture_output=True, cwd="/tmp", env={"LC_ALL": "C.UTF-8"})

        hba = self.data / "pg_hba.conf"
        hba.write_text(f"host all keyed 127.0.0.1/32 scram-sha-256\n{hba.read_text()}")

    def set_up(self) -> None:
        """A database for a ledger, as the document says: `ann` is a room, `wall` looks, `guest` is nobody, and `keyed` a
        room that needs a password.
        """
        from adapters.postgres import PostgresLedger
        from andon.clock import WallClock

        roles = ("ann LOGIN IN ROLE andon_room", "wall LOGIN IN ROLE andon_reader", "guest LOGIN")
        self.sql(*SETUP.split(";")[:-1], *(f"CREATE ROLE {role}" for role in roles))
        self.sql(f"CREATE ROLE keyed LOGIN IN ROLE andon_room PASSWORD '{PASSWORD}'")
        self.sql("GRANT CONNECT ON DATABASE andon TO guest")
        PostgresLedger(self.address("andon", "andon_owner"), WallClock()).close()

    def start(self) -> None:
        """Start it; it returns when it answers."""
        settings = [word for setting in self.settings for word in ("-c", setting)]
        here = ["-p", str(self.port), "-c", "listen_addresses=127.0.0.1", "-k", str(self.folder)]
        self.program.start([*self._as, program("postgres"), "-D", str(self.data), *here, *settings], cwd=self.folder)
        self.program.ready(self._answers, 30)

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.address(), connect_timeout=2).close()
        except psycopg.Error:
            return False
        return True

    def address(self, database: str = "postgres", user: str = "postgres", port: int | None = None) -> str:
        """Of a database, for a user."""
        return f"postgresql://{user}@127.0.0.1:{port or self.port}/{database}"

    def sql(self, *statements: str, database: str = "postgres") -> list[Any]:
        """Do statements as the superuser; the rows of the last, or how many it changed."""
        import psycopg

        with psycopg.connect(self.address(database), autocommit=True) as db:
            for statement in statements:
                cursor = db.execute(statement.encode())
            return cursor.fetchall() if cursor.description else [cursor.rowcount]

    def kill(self) -> None:
        """End it with SIGKILL, and wait until its sessions, which notice, are gone too."""
        children = _children(self.program.pid)
        self.program.kill()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), 30, "its sessions are gone")

    def stop(self) -> None:
        """End it, its sessions at once."""
        self.program.signal(signal.SIGQUIT if self.program.pid else 0)
        self.program.stop()

    def restart(self) -> None:
        """End it and start it again."""
        self.program.signal(signal.SIGINT)
        until(lambda: self.program.pid is None, 30, "it ended")
        self.start()

    def remove(self) -> None:
        """End it, and leave nothing behind."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def running(settings: Sequence[str] = ()) -> Iterator[Postgres]:
    """A server for as long as it is needed. Where the program is missing: as `need` says."""
    program("initdb")
    server = Postgres(settings)
    try:
        server.make()
        server.start()
        yield server
    finally:
        server.remove()


@cache
def team() -> Postgres:
    """The server of all tests of this run that want one with a ledger, set up as the document says; it runs."""
    left = ExitStack()
    atexit.register(left.close)
    server = left.enter_context(running())
    server.set_up()
    return server


def _children(pid: int | None) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
