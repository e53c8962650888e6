"""A real Prometheus or VictoriaMetrics, and a tiny exporter for it to scrape, whose numbers a test sets."""

import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.servers.need import need
from tests.servers.process import Program, answers, free_port, until

Point = tuple[str, float, float]
"""A series as it is written, `name{label="x"}`, a time in seconds, a value."""


class Exporter:
    """Serves `numbers`, by series, as a program under measurement does. `stop` is its death."""

    def __init__(self, numbers: dict[str, float] | None = None) -> None:
        self.numbers = dict(numbers or {})
        exporter = self

        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = "".join(f"{name} {value}\n" for name, value in exporter.numbers.items()).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
        self._server.daemon_threads = True
        self.target = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()


class Prometheus:
    """One Prometheus in `folder`. History is put in before it starts."""

    def __init__(self, folder: Path, target: str = "", every: str = "200ms") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.program = Program("prometheus", folder)
        (folder / "prometheus.yml").write_text(_scrape(target, every))

    def start(self, history: Iterable[Point] = ()) -> None:
        """Start it, with that history; it returns when it answers."""
        program = need("prometheus")
        backfill(self.folder / "data", history)
        self.program.start(
            [
                program,
                f"--config.file={self.folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={self.folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ]
        )
        self.program.ready(lambda: answers(f"{self.url}/-/ready"))

    def stop(self) -> None:
        """End it."""
        self.program.stop()


def backfill(data: Path, history: Iterable[Point]) -> None:
    """Put history into the storage of a Prometheus that does not run yet: each series in the order of time."""
    lines = [f"{name} {value} {at}\n" for name, at, value in history]
    if not lines:
        return
    data.mkdir(parents=True, exist_ok=True)
    text = data.with_name("history.txt")
    text.write_text("".join(lines) + "# EOF\n")
    command = [need("promtool"), "tsdb", "create-blocks-from", "openmetrics", str(text), str(data)]
    subprocess.run(command, check=True, capture_output=True)


class VictoriaMetrics:
    """One VictoriaMetrics in `folder`, as it is when nothing is configured but what to scrape.

    `latency` is the time for which it only repeats the newest numbers; empty: its own 30 s.
    """

    def __init__(self, folder: Path, target: str = "", every: str = "200ms", latency: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.program = Program("victoria-metrics", folder)
        self._latency = [f"-search.latencyOffset={latency}"] if latency else []
        (folder / "scrape.yml").write_text(_scrape(target, every))

    def start(self, history: Iterable[Point] = ()) -> None:
        """Start it, with that history; it returns when it answers."""
        self.program.start(
            [
                need("victoria-metrics"),
                f"-promscrape.config={self.folder / 'scrape.yml'}",
                f"-storageDataPath={self.folder / 'data'}",
                f"-httpListenAddr=127.0.0.1:{self.port}",
                *self._latency,
            ]
        )
        self.program.ready(lambda: answers(f"{self.url}/health"))
        points = list(history)
        if points:
            self._import(points)

    def stop(self) -> None:
        """End it."""
        self.program.stop()

    def _import(self, points: list[Point]) -> None:
        text = "".join(f"{name} {value} {round(at * 1000)}\n" for name, at, value in points)
        with urllib.request.urlopen(f"{self.url}/api/v1/import/prometheus", text.encode(), timeout=20):
            pass
        with urllib.request.urlopen(f"{self.url}/internal/force_flush", timeout=20):
            pass
        name, at, _ = points[-1]
        query = urllib.parse.urlencode({"query": name, "time": at, "nocache": 1})
        until(lambda: b"value" in urllib.request.urlopen(f"{self.url}/api/v1/query?{query}", timeout=5).read())


def _scrape(target: str, every: str) -> str:
    jobs = f"[{{job_name: shop, static_configs: [{{targets: ['{target}']}}]}}]" if target else "[]"
    return f"global: {{scrape_interval: {every}, scrape_timeout: {every}}}\nscrape_configs: {jobs}\n"
