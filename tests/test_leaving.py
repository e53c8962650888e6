"""Leaving the real room: acts are ended or recorded, the terminal is given back, the exit code is honest."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from adapters.sqlite import SqliteLedger
from andon.board import Board, Line
from andon.clock import WallClock
from andon.keeper import fold
from andon.model import Act
from tests.helpers import wait_until
from tests.pty_harness import Program, gone_within
from tui.leaving import Leaving, at_the_end

F9, F4 = "\x1b[20~", "\x1bOS"
ANDON = str(Path(sys.executable).with_name("andon"))
CLOSED, CLOSED_UNHEARD = "closed", "closed, hang-up ignored"
WAYS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, CLOSED, CLOSED_UNHEARD]
"""How a room can be ended from outside."""
LEAVE_LIMIT_S = 25.0
ROUNDS = [0, *(pytest.param(again, marks=pytest.mark.nightly) for again in range(1, 5))]

CONFIG = """
connections: {plant: {adapter: plant, world: plant.world}}
lines:
  checkout:
    ci: [{from: plant, halts: [deploy], every: 1s}]
    deploy: {from: plant, only_way_in: true}
"""


HANGING = """
connections: {s: {adapter: command, ci_watch: [./s], halt: [./s], halted: [./s], release: [./s]}}
lines: {checkout: {ci: [{from: s, halts: [deploy], every: 20s}]}}
"""
HANGS = """#!/bin/sh
wait_for_ever() {
    trap '' TERM
    sleep 600 &
    echo "$$ $!" >>pids
    wait
    wait
}
case "$ANDON_DO" in
ci_watch) echo '{}'; wait_for_ever ;;
halt) wait_for_ever ;;
halted) echo '{"parts": [{"name": "deploy", "halted": false}]}' ;;
esac
"""
"""A target that takes a stop and never answers, and tells of whom it started."""


class House:
    """A config, over a plant if nothing else is said, and the ledger of its rooms."""

    def __init__(self, folder: Path, config: str = CONFIG, script: str = "") -> None:
        self.folder = folder
        self.config = folder / "andon.yaml"
        self.config.write_text(config)
        self.config.chmod(0o600)
        if script:
            (folder / "s").write_text(script)
            (folder / "s").chmod(0o700)
        self.ledger = folder / "state" / "ledger.db"

    @property
    def options(self) -> list[str]:
        return ["-c", str(self.config), "--ledger", str(self.ledger), "--as", "ann"]

    def room(self, **options) -> Program:
        return Program([ANDON, *self.options], **options)

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

    def children(self) -> list[int]:
        """The programs that the script waits with and that still run."""
        told = self.folder / "pids"
        return [pid for pid in map(int, told.read_text().split()) if runs(pid)] if told.exists() else []


def runs(pid: int) -> bool:
    """Whether a process is there and is more than an entry nobody has asked for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def houses(folder: Path, *of: str) -> list[tuple[House, object]]:
    """A house for each way to leave: what they wait for, they wait for together."""
    found = []
    for number, way in enumerate(WAYS):
        (folder / str(number)).mkdir()
        found.append((House(folder / str(number), *of), way))
    return found


def rollbacks(house: House) -> list[Act]:
    return [act for act in house.line().acts.values() if act.kind == "rollback"]


def opened(room: Program) -> None:
    """Wait until the room's keys do what its screen says: a second frame comes after the first was published."""
    room.wait_for("F9 ", 30)
    room.type("?")
    room.wait_for("at once, from every screen", 30)


def press(room: Program, key: str, seen) -> None:
    """Press a key as often as it takes: one that came before its frame was published was refused."""

    def pressed() -> bool:
        if not seen():
            room.type(key)
        return wait_quietly(seen, 2)

    wait_until(pressed, 30)


def wait_quietly(seen, limit_s: float) -> bool:
    try:
        return bool(wait_until(seen, limit_s))
    except AssertionError:
        return False


def begin(house: House, way: object) -> Program:
    """A room that will be ended that way."""
    return house.room(ignored=(signal.SIGHUP,) if way == CLOSED_UNHEARD else (), cwd=house.folder)


def end(room: Program, way: object) -> None:
    """End the room that way."""
    if isinstance(way, signal.Signals):
        room.signal(way)
    else:
        room.hang_up()


def has_left(room: Program, way: object) -> None:
    """The room ended as that way asks for, in time, with the terminal as it was."""
    number = way if isinstance(way, signal.Signals) else signal.SIGHUP
    assert room.exit_code(LEAVE_LIMIT_S) == 128 + number
    assert "Traceback" not in room.text
    if isinstance(way, signal.Signals):
        assert room.restored


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


@pytest.mark.parametrize("again", ROUNDS)
@pytest.mark.parametrize(
    "way", [way if way in (signal.SIGTERM, CLOSED) else pytest.param(way, marks=pytest.mark.nightly) for way in WAYS]
)
def test_an_idle_room_is_gone_at_once(tmp_path, way, again):
    house = House(tmp_path, HANGING, HANGS.replace("trap '' TERM", ""))
    with begin(house, way) as room:
        opened(room)
        wait_until(lambda: house.lease() is not None and len(house.children()) == 2, 20)
        end(room, way)
        gone_within(room.process, 5.0)  # measured: 0.1 s; the rest is for a machine that has much else to do
        has_left(room, way)
    assert house.children() == []
    assert house.lease() is None, "the lease is handed over at once"


@pytest.mark.parametrize("again", ROUNDS)
@pytest.mark.parametrize("way", WAYS)
def test_a_stop_that_was_pressed_is_finished_before_leaving(house, way, again):
    with begin(house, way) as room:
        opened(room)
        room.type(F9)
        if way in (CLOSED, CLOSED_UNHEARD):
            wait_until(lambda: house.line().open_holds, 20)  # what a dropped connection still holds is lost with it
        end(room, way)
        has_left(room, way)
    line = house.line()
    assert [hold.owner for hold in line.open_holds] == ["ann"]
    halts = [act for act in line.acts.values() if act.kind == "halt"]
    assert [act.state for act in halts] in (["verified"], ["accepted"]), halts
    assert house.lease() is None


@pytest.mark.parametrize("again", ROUNDS)
def test_a_rollback_within_its_grace_is_sent_or_kept(tmp_path, again):
    with ExitStack() as stack:
        rooms = [(house, way, stack.enter_context(begin(house, way))) for house, way in houses(tmp_path)]
        for house, way, room in rooms:
            room.wait_for("roll back checkout", 30)
            press(room, F4, lambda house=house: rollbacks(house))
            end(room, way)
        for _, way, room in rooms:
            has_left(room, way)
    for house, way, _ in rooms:
        assert [hold.owner for hold in house.line().open_holds] == ["ann"], way
        (act,) = rollbacks(house)
        assert act.state in ("intent", "sent", "accepted", "verified"), way
        assert house.lease() is None, way


@pytest.mark.parametrize("again", ROUNDS)
def test_an_act_whose_target_hangs_is_recorded_and_nobody_is_left_behind(tmp_path, again):
    with ExitStack() as stack:
        rooms = [
            (house, way, stack.enter_context(begin(house, way))) for house, way in houses(tmp_path, HANGING, HANGS)
        ]
        for house, _, room in rooms:
            room.wait_for("stop checkout", 30)
            press(room, F9, lambda house=house: len(house.children()) == 4)  # it watches, and it halts
        for _, way, room in rooms:
            end(room, way)
        for _, way, room in rooms:
            has_left(room, way)
    for house, way, _ in rooms:
        (act,) = house.line().acts.values()
        assert act.state in ("sent", "unknown"), (way, act)
        wait_until(lambda house=house: not house.children(), 5, f"nobody is left of {way}")
        log = (house.ledger.parent / "andon.log").read_text()
        assert "leaving: " in log
        assert "not everything ended" not in log


MUTANT = """
import sys, tui.leaving, tui.cli
tui.leaving.Leaving._drain_once = lambda self, reason: None
sys.exit(tui.cli.run(sys.argv[1:]))
"""


def test_mutant_without_the_drain_somebody_is_left_behind(tmp_path):
    house = House(tmp_path, HANGING, HANGS)
    with Program([sys.executable, "-c", MUTANT, *house.options], cwd=tmp_path) as room:
        room.wait_for("stop checkout", 30)
        press(room, F9, lambda: len(house.children()) == 4)
        end(room, signal.SIGTERM)
        has_left(room, signal.SIGTERM)
    left = house.children()
    assert len(left) == 4
    for pid in left:
        os.kill(pid, signal.SIGKILL)


def test_a_rollback_within_its_grace_is_kept_and_sent_by_the_next_room(house):
    with house.room() as room:
        room.wait_for("roll back checkout", 30)
        press(room, F4, lambda: rollbacks(house))
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


# What must not stay behind


@pytest.mark.parametrize("way", [signal.SIGTERM, CLOSED])
def test_the_folder_of_a_demo_goes_with_it(tmp_path, way):
    with Program([ANDON, "demo"], env={"TMPDIR": str(tmp_path)}) as room:
        opened(room)
        assert [path.name[:11] for path in tmp_path.iterdir()] == ["andon-demo-"]
        end(room, way)
        has_left(room, way)
    assert list(tmp_path.iterdir()) == []


def test_a_demo_that_is_ended_while_it_opens_leaves_nothing(tmp_path):
    with Program([ANDON, "demo"], env={"TMPDIR": str(tmp_path)}) as room:
        wait_until(lambda: list(tmp_path.glob("*/ledger.db")), 30)
        room.signal(signal.SIGTERM)
        assert room.exit_code(LEAVE_LIMIT_S) == 128 + signal.SIGTERM
        assert room.restored
    assert list(tmp_path.iterdir()) == []


def leave_with(*works) -> list[object]:
    """What is done, in order, by a `Leaving` that is told to leave in the midst of these."""
    done: list[object] = []
    with ExitStack() as stack:
        for work in works:
            stack.enter_context(at_the_end(lambda work=work: done.append(work())))
        leaving = Leaving(lambda *_: done.append("drained"), lambda: done.append("restored"), 5.0, done.append)
        leaving.start()
        leaving.now(signal.SIGTERM)
        wait_until(lambda: 143 in done, 20)
        return done.copy()


def test_what_must_not_stay_behind_comes_last_and_the_newest_first():
    assert leave_with(lambda: "folder", lambda: "ledger") == ["drained", "restored", "ledger", "folder", 143]


def test_what_cannot_be_cleaned_up_keeps_neither_the_rest_nor_the_end():
    done: list[object] = []

    def fails():
        if threading.current_thread().name == "ending":
            raise OSError("busy")

    with at_the_end(lambda: done.append("folder")), at_the_end(fails):
        leaving = Leaving(lambda *_: None, lambda: None, 5.0, done.append)
        leaving.start()
        leaving.now(signal.SIGTERM)
        wait_until(lambda: done == ["folder", 143], 20)


def test_what_hangs_in_the_end_is_left_behind(monkeypatch):
    monkeypatch.setattr("tui.leaving.ENDING_LIMIT_S", 0.05)
    go = threading.Event()
    hung = []

    def hangs():
        hung.append(threading.current_thread())
        return go.wait(20)

    done = []
    leaving = Leaving(lambda *_: None, lambda: None, 5.0, done.append)
    with at_the_end(hangs):
        leaving.start()
        leaving.now(signal.SIGTERM)
        wait_until(lambda: done == [143], 20)
        go.set()
    assert [thread.name for thread in hung] == ["ending", "MainThread"]


def test_a_block_that_ends_by_itself_is_cleaned_up_once():
    done = []
    with at_the_end(lambda: done.append("folder")):
        assert done == []
    assert done == ["folder"]
    assert leave_with() == ["drained", "restored", 143]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_ended_leaves_no_script_behind(tmp_path, number):
    house = House(tmp_path, HANGING, HANGS)
    argv = [ANDON, *house.options, "pull", "checkout", "--reason", "x"]
    pull = subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: len(house.children()) == 2, 30)
    pull.send_signal(number)
    _, said = pull.communicate(timeout=LEAVE_LIMIT_S)
    assert (pull.returncode, said) == (128 + number, "")
    assert house.children() == []
    assert [act.state for act in house.line().acts.values()] in (["sent"], ["unknown"])
