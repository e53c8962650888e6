"""A source that answers badly: it is shown as gone, denied or in error, the others go on, and `andon check` names it."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from adapters.sqlite import SqliteLedger
from andon import config as configs
from andon.board import Board
from andon.clock import WallClock
from andon.engine import Engine
from andon.keeper import Keeper
from tests.helpers import wait_until

ANDON = str(Path(sys.executable).with_name("andon"))
CONFIG = """
connections:
  plant: {{adapter: plant, world: plant.world}}
  prom: {{adapter: prometheus, url: "{url}"{token}}}
lines:
  shop:
    ci: [{{from: plant, halts: [deploy], every: 1s}}]
    deploy: {{from: plant}}
    metrics:
      - {{name: conversion, from: prom, kind: gauge, bad: falls, every: 10s, lag: 0s, value: up}}
"""
WHOLE = json.dumps({"status": "success", "data": {"resultType": "matrix", "result": []}}).encode()

Answer = Callable[[BaseHTTPRequestHandler], None]


def status(code: int, body: bytes = b"no", kind: str = "text/plain", **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.send_header("Content-Type", kind)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def cut(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(WHOLE)))
    handler.end_headers()
    handler.wfile.write(WHOLE[:20])
    handler.close_connection = True


def hang(handler: BaseHTTPRequestHandler) -> None:
    handler.server.over.wait(30)  # type: ignore[attr-defined]
    handler.close_connection = True


BAD: dict[str, tuple[Answer, str, str]] = {
    "401": (status(401), "denied", "token"),
    "403": (status(403), "denied", "403"),
    "404": (status(404, b"no such page [/] \x1b]0;owned\x07"), "error", "404"),
    "403 and nothing left of its budget": (status(403, X_RateLimit_Remaining="0"), "gone", "403"),
    "a part only": (status(206, WHOLE, "application/json"), "error", "206"),
    "packed": (status(200, WHOLE, "application/json", Content_Encoding="gzip"), "error", "packed"),
    "a million values": (status(200, b"[" + b"[]," * 10**6 + b"[]]", "application/json"), "error", "more values"),
    "429 with Retry-After": (status(429, Retry_After="120"), "gone", "429"),
    "500": (status(500, b"exploded"), "error", "500"),
    "HTML": (status(200, b"<html>please log in</html>", "text/html"), "error", ""),
    "half a JSON": (status(200, WHOLE[:30], "application/json"), "error", ""),
    "cut short": (cut, "error", "cut"),
    "another redirect": (status(302, Location="http://127.0.0.1:1/elsewhere"), "error", ""),
    "hangs": (hang, "gone", "10 s"),
}


@contextlib.contextmanager
def server(answer: Answer) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(OSError):
                answer(self)

        do_POST = do_GET

        def log_message(self, *words: object) -> None:
            return

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    httpd.over = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
    finally:
        httpd.over.set()  # type: ignore[attr-defined]
        httpd.shutdown()
        thread.join()
        httpd.server_close()


def written(folder: Path, url: str, token: str = "") -> Path:
    path = folder / "andon.yaml"
    path.write_text(CONFIG.format(url=url, token=f", token: {token}" if token else ""))
    path.chmod(0o600)
    return path


@contextlib.contextmanager
def running(folder: Path, path: Path) -> Iterator[Keeper]:
    """An engine over the config."""
    clock = WallClock()
    keeper = Keeper(lambda: SqliteLedger(folder / "state" / "ledger.db", clock), clock).start()
    engine = Engine(configs.load(path), keeper, clock, folder / "state", who="ann").start()
    try:
        yield keeper
    finally:
        engine.stop()
        keeper.close()


def assert_others_go_on(board: Board) -> None:
    line = board.line("shop")
    assert line.sources["plant"].state == "ok"
    assert line.current is not None


@pytest.mark.parametrize("how", BAD)
def test_a_bad_answer_is_told_and_the_others_go_on(tmp_path, how):
    answer, word, words = BAD[how]
    with server(answer) as url, running(tmp_path, written(tmp_path, url)) as keeper:
        wait_until(lambda: "prom" in keeper.board.line("shop").sources, 20)
        wait_until(lambda: "plant" in keeper.board.line("shop").sources and keeper.board.line("shop").current, 20)
        found = keeper.board.line("shop").sources["prom"]
        assert found.state == word, found
        assert words in found.words, found
        assert "\x1b" not in found.words
        assert_others_go_on(keeper.board)


def test_nobody_there_is_gone_and_back_when_it_comes(tmp_path):
    with server(status(200, WHOLE, "application/json")) as url:
        pass
    with running(tmp_path, written(tmp_path, url)) as keeper:
        wait_until(lambda: "prom" in keeper.board.line("shop").sources, 20)
        assert keeper.board.line("shop").sources["prom"].state == "gone"
        port = int(url.rpartition(":")[2])
        with contextlib.ExitStack() as stack:
            httpd = ThreadingHTTPServer(("127.0.0.1", port), _Whole)
            thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
            thread.start()
            stack.callback(httpd.server_close)
            stack.callback(thread.join)
            stack.callback(httpd.shutdown)
            wait_until(lambda: keeper.board.line("shop").sources["prom"].state == "ok", 30)
        states = keeper.submit(lambda ledger: [row for row in ledger.read(0) if row.kind == "source-seen"]).result()
        told = [row for row in states if b'"prom"' in row.body]
        assert len(told) == 2, "gone once, back once"


class _Whole(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status(200, WHOLE, "application/json")(self)

    do_POST = do_GET

    def log_message(self, *words: object) -> None:
        return


def test_a_secret_that_is_missing_is_denied_by_name(tmp_path):
    with (
        server(status(200, WHOLE, "application/json")) as url,
        running(tmp_path, written(tmp_path, url, "env:ANDON_TEST_TOKEN")) as keeper,
    ):
        wait_until(lambda: "prom" in keeper.board.line("shop").sources, 20)
        found = keeper.board.line("shop").sources["prom"]
        assert found.state == "denied"
        assert "ANDON_TEST_TOKEN" in found.words
        wait_until(lambda: keeper.board.line("shop").current is not None, 20)


@pytest.mark.parametrize("how", ["401", "404", "500", "HTML", "half a JSON", "cut short"])
def test_check_names_it_and_fails(tmp_path, how):
    with server(BAD[how][0]) as url:
        path = written(tmp_path, url)
        done = subprocess.run(
            [ANDON, "-c", str(path), "--ledger", str(tmp_path / "state" / "l.db"), "check"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=dict(os.environ),
        )
    assert done.returncode == 1, done.stdout + done.stderr
    bad = [line for line in done.stdout.splitlines() if line.startswith("✗")]
    assert len(bad) == 2, "the source itself, and what a watch of its metric can show"
    assert all("prom" in line for line in bad)
    assert "Traceback" not in done.stderr
