"""`andon watch --listen ADDR`: a gate, a health check and figures for others to read over HTTP. No act, no secret.

`/gate/LINE` is for pipelines (`curl -fsS http://host:port/gate/checkout`), `/healthz` for whoever restarts services,
`/metrics` is Prometheus' text format. It reads frozen values that the engine publishes: a slow reader costs it nothing.
"""

import argparse
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from andon.board import Board
from andon.clock import Clock
from andon.config import Config
from andon.engine import View
from andon.linestate import LineState, state
from andon.text import LINE_LIMIT, clean
from tui import VERSION

HEARTBEAT_S = 10.0
"""An engine that did not look for so long is not healthy."""
SLOW_S = 5.0
"""A reader has so long for its request, and for taking each part of the answer."""
READERS = 32
"""More at a time are turned away."""
STATES: tuple[LineState, ...] = ("running", "stopping", "stopped", "unknown")
WORDS = ("healthy", "regressed", "undecided", "blind")


def address(text: str) -> tuple[str, int]:
    """`HOST:PORT`, `:PORT` or `PORT`; without a host this machine alone can read. An IPv6 address stands in brackets."""
    host, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError("HOST:PORT, or a port of this machine: 127.0.0.1:9180")
    return host.strip("[]") or "127.0.0.1", int(port)


class Told:
    """What there is to tell, read anew for each request."""

    def __init__(self, config: Config, clock: Clock, view: Callable[[], View], board: Callable[[], Board]) -> None:
        self.config, self.clock, self.view, self.board = config, clock, view, board

    def answer(self, path: str) -> tuple[HTTPStatus, str]:
        """Status and text for a path."""
        if path == "/healthz":
            return self.health()
        if path == "/metrics":
            return HTTPStatus.OK, "\n".join(self.metrics()) + "\n"
        line = unquote(path.removeprefix("/gate/")) if path.startswith("/gate/") else ""
        if line in self.config.lines:
            return self.gate(line)
        return HTTPStatus.NOT_FOUND, "there are /gate/LINE, /healthz and /metrics\n"

    def alive(self) -> bool:
        """Whether the engine looked within the last seconds."""
        view = self.view()
        return not view.trouble and abs(self.clock.now() - view.at) <= self.clock.real(HEARTBEAT_S)

    def health(self) -> tuple[HTTPStatus, str]:
        """200 while the engine looks and the ledger answers."""
        if self.alive():
            return HTTPStatus.OK, "ok\n"
        view = self.view()
        words = view.trouble or f"the engine last looked {self.clock.now() - view.at:.0f} s ago"
        return HTTPStatus.SERVICE_UNAVAILABLE, _plain(words)

    def gate(self, name: str) -> tuple[HTTPStatus, str]:
        """200: it runs and is watched; 423: it is stopping or stopped, by whom and why; 503: nobody can tell."""
        view, line = self.view(), self.board().line(name)
        found = state(line, self.config.lines[name], view.pulses, self.clock.now())
        if found in ("stopping", "stopped"):
            holds = [f"{found}: hold {hold.id} by {hold.owner}: {hold.why}" for hold in line.open_holds]
            return HTTPStatus.LOCKED, "".join(map(_plain, holds or [f"{found} outside andon"]))
        if found == "running" and view.lease is not None and self.alive():
            return HTTPStatus.OK, "running\n"
        return HTTPStatus.SERVICE_UNAVAILABLE, "unknown: nobody watches\n" if found == "running" else "unknown\n"

    def metrics(self) -> Iterator[str]:
        """States, holds, verdicts, acts and sources, as Prometheus' text format 0.0.4. Line names need no escaping."""
        view, board, now = self.view(), self.board(), self.clock.now()
        yield from _head("andon_info", "gauge", "The version of andon.")
        yield f'andon_info{{version="{VERSION}"}} 1'
        yield from _head("andon_engine_looked_seconds", "gauge", "Seconds since the engine looked.")
        yield f"andon_engine_looked_seconds {max(0.0, now - view.at):.1f}"
        yield from _head("andon_watched", "gauge", "Whether any engine holds the lease.")
        yield f"andon_watched {int(view.lease is not None)}"
        lines = {name: board.line(name) for name in self.config.lines}
        yield from _head("andon_line_state", "gauge", "In which state a line is.")
        for name, line in lines.items():
            found = state(line, self.config.lines[name], view.pulses, now)
            for word in STATES:
                yield f'andon_line_state{{line="{name}",state="{word}"}} {int(found == word)}'
        yield from _head("andon_line_holds", "gauge", "Reasons why a line is stopped.")
        for name, line in lines.items():
            yield f'andon_line_holds{{line="{name}"}} {len(line.open_holds)}'
        yield from _head("andon_verdict", "gauge", "The last verdict on what runs.")
        for name, line in lines.items():
            watch = line.watches.get(line.current.id) if line.current else None
            last = watch.verdict.word if watch and watch.verdict else ""
            for verdict in WORDS:
                yield f'andon_verdict{{line="{name}",word="{verdict}"}} {int(last == verdict)}'
        yield from _head("andon_acts_open", "gauge", "Acts that are not settled.")
        for name, line in lines.items():
            yield f'andon_acts_open{{line="{name}"}} {len(line.unsettled())}'
        yield from _head("andon_source_ok", "gauge", "Whether a source answers.")
        for name, line in lines.items():
            for source, found_source in line.sources.items():
                yield f'andon_source_ok{{line="{name}",source="{_label(source)}"}} {int(found_source.state == "ok")}'


def _head(name: str, kind: str, words: str) -> tuple[str, str]:
    return f"# HELP {name} {words}", f"# TYPE {name} {kind}"


def _label(text: str) -> str:
    return clean(text, LINE_LIMIT).replace("\\", "\\\\").replace('"', '\\"')


def _plain(text: str) -> str:
    return clean(text, LINE_LIMIT) + "\n"


class Server(ThreadingHTTPServer):
    """The listener. Raises OSError if the address cannot be taken."""

    daemon_threads = True
    request_queue_size = 16

    def __init__(self, where: tuple[str, int], told: Told) -> None:
        import socket

        self.told = told
        self._readers = threading.BoundedSemaphore(READERS)
        if ":" in where[0]:
            self.address_family = socket.AF_INET6
        super().__init__(where, _Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.2,), name="listen", daemon=True)

    def begin(self) -> None:
        """Serve in a thread of its own."""
        self._thread.start()

    def end(self) -> None:
        """Stop listening; readers that are being answered are left behind."""
        self.shutdown()
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, if there are not too many."""
        if not self._readers.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and make room."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._readers.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that went or said nonsense is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = SLOW_S
    server_version = "andon"
    sys_version = ""
    protocol_version = "HTTP/1.0"  # one answer a connection: nobody keeps a thread
    error_message_format = "%(code)d %(message)s\n"
    error_content_type = "text/plain"

    def do_GET(self) -> None:
        """Answer a read."""
        status, text = self.server.told.answer(self.path.partition("?")[0])
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - as the base class calls it

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base class calls it
        """Stderr is for what matters."""
