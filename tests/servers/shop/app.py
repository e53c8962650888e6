"""The shop: a small HTTP service that takes orders. `python3 app.py PORT`; its version is the name of its release."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from checkout import Declined, order

VERSION = Path(__file__).resolve().parent.name
LOCK = threading.Lock()
COUNTED = {"checkouts_started_total": 0, "orders_total": 0}


def count(name):
    with LOCK:
        COUNTED[name] += 1


class Shop(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        if self.path == "/metrics":
            with LOCK:
                lines = [f"# TYPE {name} counter\n{name} {number}\n" for name, number in COUNTED.items()]
            self.answer(200, "".join(lines), "text/plain; version=0.0.4")
        elif self.path == "/healthz":
            self.answer(200, "ok\n")
        else:
            self.answer(200, f"{VERSION}\n")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path != "/checkout":
            self.answer(404, "no such page\n")
            return
        count("checkouts_started_total")
        try:
            placed = order(int(json.loads(body)["customer"]))
        except Declined:
            self.answer(402, "declined\n")
        except Exception as error:
            self.answer(500, f"{type(error).__name__}\n")
        else:
            count("orders_total")
            self.answer(200, json.dumps(placed), "application/json")

    def answer(self, status, text, kind="text/plain"):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        # A health check that hangs up as soon as it has seen the status is no news.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[1])), Shop).serve_forever()
