"""A real InfluxDB 1.x in a folder, that wants a password: its owner's, or that of a reader."""

import base64
import urllib.parse
import urllib.request
from collections.abc import Iterable
from pathlib import Path

from tests.servers.need import need
from tests.servers.process import Program, free_port

OWNER, OWNER_PASSWORD = "owner", "owner-5ecret-canary"
READER, READER_PASSWORD = "reader", "reader-5ecret-canary"
DATABASE = "shop"

_CONFIG = """\
reporting-disabled = true
bind-address = "127.0.0.1:{backup}"
[meta]
dir = "{folder}/meta"
[data]
dir = "{folder}/data"
wal-dir = "{folder}/wal"
[http]
bind-address = "127.0.0.1:{port}"
auth-enabled = true
log-enabled = false
[logging]
level = "warn"
"""


class InfluxDB:
    """One server, with a database that its reader may only read."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.program = Program("influxd", folder)
        self.config = folder / "influxdb.conf"
        self.config.write_text(_CONFIG.format(folder=folder, port=self.port, backup=free_port()))

    def start(self) -> None:
        """Start it; it returns when it answers and its people are known."""
        self.program.start([need("influxd"), "-config", str(self.config)])
        self.program.ready(self._pongs)
        self.ask(f"CREATE USER {OWNER} WITH PASSWORD '{OWNER_PASSWORD}' WITH ALL PRIVILEGES")
        self.ask(f"CREATE DATABASE {DATABASE}")
        self.ask(f"CREATE USER {READER} WITH PASSWORD '{READER_PASSWORD}'")
        self.ask(f"GRANT READ ON {DATABASE} TO {READER}")

    def ask(self, query: str) -> bytes:
        """Run a statement as the owner."""
        return self._post("/query", urllib.parse.urlencode({"q": query, "db": DATABASE}).encode())

    def write(self, lines: Iterable[str]) -> None:
        """Put points in, in its line protocol, with times in seconds."""
        self._post(f"/write?db={DATABASE}&precision=s", "\n".join(lines).encode())

    def stop(self) -> None:
        """End it."""
        self.program.stop()

    def _pongs(self) -> bool:
        with urllib.request.urlopen(f"{self.url}/ping", timeout=2) as answer:
            return bool(answer.status == 204)

    def _post(self, path: str, body: bytes) -> bytes:
        asked = urllib.request.Request(f"{self.url}{path}", body)
        word = base64.b64encode(f"{OWNER}:{OWNER_PASSWORD}".encode()).decode()
        asked.add_header("Authorization", f"Basic {word}")
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return bytes(answer.read())
