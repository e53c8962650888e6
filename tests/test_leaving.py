"""Leaving the real room: acts are ended or recorded, the terminal is given back, the exit code is honest."""

import signal
import sys
import time
from pathlib import Path

import pytest

from adapters.sqlite import SqliteLedger
from andon.board import Board, Line
from andon.clock import WallClock
from andon.keeper import fold
from tests.helpers import wait_until
from tests.pty_harness import Program

F9, F4 = "\x1b[20~", "\x1bOS"
ANDON = str(Path(sys.executable).with_name("andon"))

CONFIG = """
connections: {plant: {adapter: plant, world: plant.world}}
lines:
  checkout:
    ci: [{from: plant, halts: [deploy], every: 1s}]
    deploy: {from: plant, only_way_in: true}
"""


class House:
    """A config over a plant, and the ledger of its rooms."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "andon.yaml"
        self.config.write_text(CONFIG)
        self.config.chmod(0o600)
        self.ledger = folder / "state" / "ledger.db"

    def room(self, **options) -> Program:
        return Program([ANDON, "-c", self.config, "--ledger", self.ledger, "--as", "ann"], **options)

    def line(self) -> Line:
        ledger = SqliteLedger(self.ledger, WallClock(), read_only=True)
        try:
            return fold(Board(), ledger.read(0, 10_000))[1].line("checkout")
        finally:
            ledger.close()

    def lease(self):
        ledger = SqliteLedger(self.ledger, WallClock(), read_only=True)
        try:
            return ledger.lease()
        finally:
            ledger.close()


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_room_in_order(house, number):
    with house.room() as room:
        room.wait_for("F9 ", 20)
        wait_until(lambda: house.lease() is not None, 10)
        room.process.send_signal(number)
        assert room.exit_code(10) == 128 + number
        assert room.restored
    assert house.lease() is None, "the lease is handed over at once"
    assert "Traceback" not in room.text


@pytest.mark.parametrize("ignored", [(), (signal.SIGHUP,)], ids=["hang-up kills", "hang-up ignored"])
def test_a_terminal_that_is_gone_ends_the_room(house, ignored):
    with house.room(ignored=ignored) as room:
        room.wait_for("F9 ", 20)
        room.hang_up()
        assert room.exit_code(10) == 128 + signal.SIGHUP


def test_a_stop_that_was_pressed_is_finished_before_leaving(house):
    with house.room() as room:
        room.wait_for("stop checkout", 20)
        room.type(F9)
        room.process.send_signal(signal.SIGTERM)
        assert room.exit_code(25) == 128 + signal.SIGTERM
    line = house.line()
    assert [hold.owner for hold in line.open_holds] == ["ann"]
    halts = [act for act in line.acts.values() if act.kind == "halt"]
    assert [act.state for act in halts] in (["verified"], ["accepted"]), halts


def test_a_rollback_within_its_grace_is_kept_and_sent_by_the_next_room(house):
    with house.room() as room:
        room.wait_for("roll back checkout", 20)
        room.type(F4)
        wait_until(lambda: [act for act in house.line().acts.values() if act.kind == "rollback"], 10)
        room.hang_up()
        assert room.exit_code(25) == 128 + signal.SIGHUP
    act = next(act for act in house.line().acts.values() if act.kind == "rollback")
    with house.room() as room:
        room.wait_for("F9 ", 20)
        wait_until(lambda: house.line().acts[act.id].state in ("accepted", "verified"), 30)
        room.process.send_signal(signal.SIGTERM)
        room.exit_code(25)
    assert len([act for act in house.line().acts.values() if act.kind == "rollback"]) == 1


def test_q_leaves_with_zero_and_gives_the_terminal_back(house):
    with house.room() as room:
        room.wait_for("F9 ", 20)
        deadline = time.monotonic() + 15
        while room.process.poll() is None and time.monotonic() < deadline:
            room.type("q")
            wait_until(lambda: room.process.poll() is not None or "again" in room.text or "q" in room.text, 5)
        assert room.exit_code(10) == 0
        assert room.restored
