"""`andon watch --listen`: what a pipeline, a supervisor and Prometheus read; nothing acts there."""

import argparse
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from tests.helpers import HOSTILE, wait_until
from tests.room_helpers import NOW, hold, shop, view
from tests.servers.process import free_port
from tests.test_commandline import CALM, Shop
from tui.listening import READERS, Server, Told, address


class Asked:
    """A listener over a made-up shop, and what it answers."""

    def __init__(self, made) -> None:
        self.made = made
        self.told = Told(made.config, made.clock, lambda: made.engine.view, lambda: made.keeper.board)
        self.server = Server(("127.0.0.1", 0), self.told)
        self.port = self.server.server_address[1]
        self.server.begin()

    def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


@pytest.fixture
def asked(tmp_path) -> Iterator[Asked]:
    with shop(tmp_path, hold("payments", "ann", 40, "checkout\x1b[31m looks <b>wrong</b> " + HOSTILE[3])) as made:
        made.clock.at = NOW
        found = Asked(made)
        yield found
        found.server.end()


def test_the_gate_of_a_line_that_runs_and_is_watched(asked):
    assert asked.get("/gate/checkout") == (200, "running\n")


def test_the_gate_of_a_stopped_line_says_who_and_why_harmlessly(asked):
    code, words = asked.get("/gate/payments")
    assert code == HTTPStatus.LOCKED
    assert "by ann: checkout" in words
    assert all(char.isprintable() or char == "\n" for char in words)


def test_the_gate_is_shut_when_nobody_watches(asked):
    asked.made.engine.view = view(lease=None, here=False)
    assert asked.get("/gate/checkout")[0] == HTTPStatus.SERVICE_UNAVAILABLE


def test_the_gate_is_shut_when_the_engine_stopped_looking(asked):
    asked.made.clock.at = NOW + 11
    assert asked.get("/healthz")[0] == HTTPStatus.SERVICE_UNAVAILABLE
    assert asked.get("/gate/checkout")[0] == HTTPStatus.SERVICE_UNAVAILABLE


def test_healthy_while_it_looks(asked):
    assert asked.get("/healthz") == (200, "ok\n")


@pytest.mark.parametrize("path", ["/", "/gate/", "/gate/nosuch", "/gate/../healthz", "/gate/%2e%2e", "/" + "a" * 3000])
def test_what_is_not_there_is_404(asked, path):
    assert asked.get(path)[0] == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT"])
def test_nothing_but_reading(asked, method):
    assert asked.get("/gate/checkout", method)[0] == HTTPStatus.NOT_IMPLEMENTED


def test_the_figures_are_prometheus_text(asked):
    code, text = asked.get("/metrics")
    assert code == HTTPStatus.OK
    rows = [row for row in text.splitlines() if not row.startswith("#")]
    for row in rows:
        name, _, value = row.rpartition(" ")
        assert name.startswith("andon_"), row
        float(value)
    assert 'andon_line_state{line="payments",state="running"} 0' in rows
    assert 'andon_line_state{line="checkout",state="running"} 1' in rows
    assert 'andon_line_holds{line="payments"} 1' in rows
    assert "andon_watched 1" in rows


def test_those_who_read_nothing_keep_nobody_waiting(asked):
    stalled = [socket.create_connection(("127.0.0.1", asked.port)) for _ in range(READERS - 1)]
    try:
        assert asked.get("/gate/checkout")[0] == HTTPStatus.OK
    finally:
        for item in stalled:
            item.close()


@pytest.mark.parametrize(
    "sent", [b"\x00" * 64 + b"\r\n\r\n", b"GET\r\n\r\n", b"GET /" + b"a" * 70000 + b"\r\n\r\n", b""]
)
def test_nonsense_is_answered_or_dropped(asked, sent):
    with socket.create_connection(("127.0.0.1", asked.port), timeout=20) as raw:
        raw.sendall(sent)
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(4096):
            pass
    assert asked.get("/healthz")[0] == HTTPStatus.OK


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("9180", ("127.0.0.1", 9180)),
        (":9180", ("127.0.0.1", 9180)),
        ("0.0.0.0:9180", ("0.0.0.0", 9180)),
        ("[::1]:9180", ("::1", 9180)),
    ],
)
def test_an_address_without_a_host_is_this_machine(text, found):
    assert address(text) == found


@pytest.mark.parametrize("text", ["", "host", "host:", "1:2:x", "localhost:99999"])
def test_no_address_is_said(text):
    with pytest.raises(argparse.ArgumentTypeError):
        address(text)


def test_a_real_watch_opens_and_shuts_the_gate(tmp_path):
    made, port = Shop(tmp_path, CALM), free_port()
    argv = made.argv
    made.argv = lambda *words: argv(*words, "--listen", str(port)) if words == ("watch",) else argv(*words)

    def gate() -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/gate/checkout", timeout=20) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except OSError:
            return 0

    with made.watched():
        wait_until(lambda: gate() == HTTPStatus.OK, 30)
        assert made.do("pull", "checkout", "--reason", "a test").code == 0
        wait_until(lambda: gate() == HTTPStatus.LOCKED, 30)
        assert made.do("resume", "checkout", "--reason", "well again").code == 0
        wait_until(lambda: gate() == HTTPStatus.OK, 30)
    assert gate() == 0


def test_an_address_that_is_taken_is_said_and_the_engine_watches(tmp_path):
    made = Shop(tmp_path, CALM)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        argv = made.argv
        made.argv = lambda *words: argv(*words, "--listen", str(port)) if words == ("watch",) else argv(*words)
        with made.watched():
            assert made.do("gate", "checkout", "--wait", "20s").code == 0
    assert "watching all the same" in (tmp_path / "watch.err").read_text()
