"""A CI in a process of its own that says when it is told something: as much of Buildbot's REST API as the adapter asks.

One builder, `deploy`, and one worker that serves it; nothing is ever built. The port, and then the moment at which the
first line of each POST came in (`time.monotonic`, the same for all processes), are printed. It ends with its stdin; a
number on stdin is how many seconds each GET takes from now on.
"""

import json
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORKER: dict[str, Any] = {
    "workerid": 1,
    "name": "deploys",
    "paused": False,
    "pause_reason": None,
    "configured_on": [{"builderid": 1, "masterid": 1}],
    "connected_to": [{"masterid": 1}],
}
EMPTY: dict[str, list[Any]] = {
    kind: [] for kind in ("builds", "buildrequests", "buildsets", "changes", "steps", "logs", "logchunks")
}


class Server(ThreadingHTTPServer):
    """A thread for each connection."""

    daemon_threads = True
    read_s = 0.0
    """How long a GET takes."""


class Answers(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server
    at = 0.0

    def parse_request(self) -> bool:
        """Note when the request's first line had come in."""
        self.at = time.monotonic()
        return super().parse_request()

    def do_GET(self) -> None:
        """What is listed; or the stream of events, which says hello and then nothing."""
        time.sleep(self.server.read_s)
        path = self.path.partition("?")[0]
        if path.startswith("/sse/listen/"):
            self._send(200, "text/event-stream", None)
            self.wfile.write(f"event: handshake\ndata: {uuid.uuid4()}\n\n".encode())
            threading.Event().wait()
        elif path.startswith("/sse/add/"):
            self._send(200, "text/plain", b"ok")
        elif path.startswith("/api/v2/"):
            builders = [{"builderid": 1, "name": "deploy"}]
            self._json({"builders": builders, "workers": [WORKER], **EMPTY, "meta": {}})
        else:
            self._send(404, "text/plain", b"")

    def do_POST(self) -> None:
        """Pause or unpause the worker; anything else changes nothing."""
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if said["method"] in ("pause", "unpause"):
            paused = said["method"] == "pause"
            WORKER.update(paused=paused, pause_reason=said["params"].get("reason") if paused else None)
        self._json({"jsonrpc": "2.0", "id": said["id"], "result": None})
        sys.stdout.write(f"{self.at!r} {said['method']}\n")
        sys.stdout.flush()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Say nothing."""

    def _json(self, value: Any) -> None:
        self._send(200, "application/json", json.dumps(value).encode())

    def _send(self, code: int, kind: str, body: bytes | None) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        if body is None:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body or b"")


def main() -> None:
    """Serve until stdin ends."""
    server = Server(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    for line in sys.stdin:
        server.read_s = float(line)


if __name__ == "__main__":
    main()
