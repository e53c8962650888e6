"""Bad terminals: old ones, tiny ones, none at all, one that is resized all the time or read by nobody; broken panels."""

import fcntl
import itertools
import os
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from adapters.sqlite import SqliteLedger
from andon.board import Board, Line
from andon.clock import WallClock
from andon.events import ActAsked
from andon.keeper import fold
from tests.helpers import until, wait_until
from tests.pty_harness import Program
from tests.room_helpers import NOW, act, hold, incident, screen_text, settle, sha, shop
from tui.panels.batch import Batch
from tui.panels.bigchart import BigChart
from tui.panels.calls import CallStrip
from tui.panels.charts import MetricChart
from tui.panels.compared import Compared
from tui.panels.danger import DangerRow, Grace, KeyRow
from tui.panels.deployments import Deployments
from tui.panels.evidence import EvidenceCurve, OfMetric, Why
from tui.panels.hold import DidItHelp, HoldHead, NextSteps, Waiting
from tui.panels.line_facts import LineFacts, SmallFacts
from tui.panels.log import Log
from tui.panels.metric_head import MetricHead
from tui.panels.panel import Panel
from tui.panels.proof import HoldProof
from tui.panels.record import EventFacts, EventList
from tui.panels.rows import Query, Rows
from tui.panels.stages import RunHead, Stages
from tui.panels.stations import Stations
from tui.panels.timeline import HoldTimeline, Timeline
from tui.panels.top import Bands, Rule, Tiny, TopBar
from tui.panels.wall import WallPage
from tui.screens.about import AboutPage
from tui.screens.change import ChangeHead
from tui.screens.deployment import ChartTitle, WeighHead
from tui.screens.detail import DetailKeys
from tui.screens.events import EventsHead
from tui.screens.everything import EverythingHead
from tui.screens.floor import FloorHead, FloorScreen
from tui.screens.hold import OneChart
from tui.screens.keys import KeysPage
from tui.screens.line import LineBands
from tui.screens.reason import ReasonHead

HERE = Path(__file__).parent.parent
ANDON = str(Path(sys.executable).with_name("andon"))
F9, ESC = "\x1b[20~", "\x1b"
LIMIT_S = 30.0

TERMS = ("xterm-256color", "xterm", "xterm-kitty", "tmux-256color", "screen", "linux", "vt100", "rxvt-unicode-256color")
SIZES = ((1, 1), (20, 5), (40, 10), (60, 18), (80, 24), (200, 60))


# Kinds and sizes


@pytest.mark.parametrize("no_color", [False, True], ids=["colour", "NO_COLOR"])
@pytest.mark.parametrize("term", TERMS)
async def test_on_every_terminal_and_at_every_size_the_stop_is_seen_and_f9_acts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, term: str, no_color: bool
) -> None:
    monkeypatch.setenv("TERM", term)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    with shop(tmp_path, *incident(), dips=("revenue/min",)) as made:
        room = made.room()
        async with room.run_test(size=SIZES[-1]) as pilot:
            await settle(room, pilot, "payments stopped")
            for presses, (width, height) in enumerate(SIZES, 1):
                await pilot.resize_terminal(width, height)
                await until(lambda w=width, h=height: drawn(room, w, h), LIMIT_S, f"{width}×{height}")  # type: ignore[misc]
                assert_fits(room, plain=term in ("linux", "vt100"), colours=not no_color)
                await pilot.press("f9")
                await until(lambda n=presses: made.engine.asked == [("pull", "checkout")] * n, LIMIT_S)  # type: ignore[misc]


def drawn(room: Any, width: int, height: int) -> bool:
    """Whether the picture has the size of the window, and shows the stop and the key that makes one."""
    strips = room.screen._compositor.render_strips()
    fits = len(strips) == height and {strip.cell_length for strip in strips} == {width}
    text = "".join(strip.text for strip in strips)
    return fits and (width == 1 or ("payments" in text and "F9" in text))


def assert_fits(room: Any, *, plain: bool, colours: bool) -> None:
    """What is drawn has only signs and colours that the terminal has."""
    strips = room.screen._compositor.render_strips()
    for strip in strips:
        assert not plain or strip.text.isascii(), strip.text
        if not colours:
            inks = [segment.style for segment in strip if segment.style]
            assert all(ink.color is None or ink.color.is_default for ink in inks)
            assert all(ink.bgcolor is None or ink.bgcolor.is_default for ink in inks)


def test_without_the_choice_of_signs_an_old_terminal_would_get_what_it_cannot_draw() -> None:
    """The mutant: a row as it is painted elsewhere."""
    row = Strip([Segment("■ payments", Style(color="red"))], 10)
    room = SimpleNamespace(screen=SimpleNamespace(_compositor=SimpleNamespace(render_strips=lambda: [row])))
    assert_fits(room, plain=False, colours=True)
    for guards in ({"plain": True, "colours": True}, {"plain": False, "colours": False}):
        with pytest.raises(AssertionError):
            assert_fits(room, **guards)


# No terminal


@pytest.mark.parametrize("term", ["dumb", "", None], ids=["dumb", "empty", "unset"])
def test_on_a_terminal_that_cannot_draw_one_plain_sentence_is_said(term: str | None) -> None:
    wrapper = ["env", "-u", "TERM"] if term is None else ["env", f"TERM={term}"]
    with Program([*wrapper, ANDON, "demo"]) as program:
        assert program.exit_code(LIMIT_S) == 2
        said = program.out.decode()
    assert "cannot draw on this terminal" in said
    assert "`andon status`" in said
    assert "\x1b" not in said


@pytest.mark.parametrize("closed", ["input", "output", "both"])
def test_without_a_terminal_one_plain_sentence_is_said(closed: str) -> None:
    master, slave = os.openpty()
    try:
        done = subprocess.run(
            [ANDON, "demo"],
            stdin=subprocess.DEVNULL if closed != "output" else slave,
            stdout=subprocess.PIPE if closed != "input" else slave,
            stderr=subprocess.PIPE,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    finally:
        os.close(master)
        os.close(slave)
    assert done.returncode == 2
    assert "the room needs a terminal" in done.stderr
    assert "`andon status`" in done.stderr
    assert "\x1b" not in done.stderr + (done.stdout or "")


# In a real terminal


class Still(Program):
    """The room over the shop of the pictures, and what its engine was asked."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self._asked = folder / "asked"
        super().__init__([sys.executable, "-m", "tests.room_app", folder], cwd=HERE, **options)

    @property
    def asked(self) -> list[str]:
        return self._asked.read_text().split() if self._asked.exists() else []

    def f9(self) -> None:
        """Press it, and see that it acted."""
        pulls = self.asked.count("pull")
        self.type(F9)
        self.wait_until(lambda: self.asked.count("pull") == pulls + 1, LIMIT_S, "F9 acted")


@pytest.mark.parametrize("env", [{"TERM": "vt100"}, {"TERM": "xterm", "NO_COLOR": "1"}], ids=["vt100", "no colour"])
def test_twenty_by_five_takes_the_cord(tmp_path: Path, env: dict[str, str]) -> None:
    with Still(tmp_path, columns=20, rows=5, env={"COLORTERM": "", **env}) as room:
        room.wait_for("F9", LIMIT_S)
        room.f9()
        colours = b"\x1b[38;" in room.out or b";38;" in room.out
        assert colours is False


WALK = (
    ("", "/ find", "no such"),
    ("/", "a part of a line's name", "no such"),
    ("check", "check", "● search"),
    (ESC, "● search", "no such"),
    ("p", "Search for commands", "no such"),
    ("dra", "draw again", "about (a)"),
    (ESC, "/ find", "draw again"),
    ("?", "stop and undo", "/ find"),
    (ESC, "/ find", "stop and undo"),
    ("r", "resume checkout", "/ find"),
    ("cause", "cause", "no such"),
    (ESC, "/ find", "cause"),
    ("\r", "u run", "/ find"),
    ("g", "mark checkout", "u run"),
    ("well", "well", "no such"),
    ("\r", "Enter does not confirm", "no such"),
    (ESC, "u run", "mark checkout"),
    ("x", "mark checkout", "u run"),
    (ESC, "u run", "mark checkout"),
)
"""Keys, what is on the screen after them, and what is not: floor, find, palette, keys, the reasons, line."""


def test_f9_acts_in_every_screen_every_dialog_and_every_text_field(tmp_path: Path) -> None:
    with Still(tmp_path, columns=100, rows=30) as room:
        room.wait_for("stop", LIMIT_S)
        for keys, there, gone in WALK:
            room.type(keys)
            room.wait_until(lambda t=there, g=gone: t in room.text and g not in room.text, LIMIT_S, there)  # type: ignore[misc]
            room.f9()
        assert set(room.asked) == {"pull"}


def test_two_hundred_resizes_in_two_seconds_end_with_the_right_picture(tmp_path: Path) -> None:
    with Still(tmp_path, columns=80, rows=24) as room:
        room.wait_for("F4", LIMIT_S)
        pause = threading.Event()
        for turn in range(200):
            room.resize(20 + turn * 7 % 150, 5 + turn * 3 % 50)
            pause.wait(0.01)
        room.f9()
        room.resize(80, 24)
        room.wait_until(lambda: "F9" in room.lines[22] and "keys" in room.lines[23], LIMIT_S, "the last size")
        assert "checkout" in room.text
        room.f9()
        assert room.process.poll() is None


def test_a_room_that_was_put_to_sleep_comes_back_with_its_picture_and_its_keys(tmp_path: Path) -> None:
    with Still(tmp_path) as room:
        room.wait_for("F4", LIMIT_S)
        room.signal(signal.SIGTSTP)
        room.wait_until(lambda: state(room) == "T", LIMIT_S, "asleep")
        room.wait_until(lambda: room.restored, LIMIT_S, "the terminal is given back meanwhile")
        drawn = len(room.out)
        room.signal(signal.SIGCONT)
        room.wait_until(lambda: b"F9" in room.out[drawn:], LIMIT_S, "drawn again")
        room.f9()


def state(room: Program) -> str:
    return Path(f"/proc/{room.process.pid}/stat").read_text().rpartition(")")[2].split()[0]


# A terminal that nobody reads

CONFIG = """
connections: {plant: {adapter: plant, world: plant.world}}
lines:
  checkout:
    ci: [{from: plant, halts: [deploy], every: 1s}]
    deploy: {from: plant, only_way_in: true, every: 1s}
    metrics:
      - {name: conversion, from: plant, kind: proportion, bad: falls, value: conversion, every: 10s, lag: 1s}
"""


class House:
    """A config over a plant, and what the ledger of its room holds."""

    def __init__(self, folder: Path) -> None:
        self.config, self.ledger = folder / "andon.yaml", folder / "state" / "ledger.db"
        self.config.write_text(CONFIG)
        self.config.chmod(0o600)
        self.argv = [ANDON, "-c", str(self.config), "--ledger", str(self.ledger), "--as", "ann"]

    def read(self, look: Callable[[SqliteLedger], Any]) -> Any:
        ledger = SqliteLedger(self.ledger, WallClock(), read_only=True)
        try:
            return look(ledger)
        finally:
            ledger.close()

    def line(self) -> Line:
        return self.read(lambda ledger: fold(Board(), ledger.read(0, 100_000))[1].line("checkout"))

    def halts(self) -> list[str]:
        return [act.state for act in self.line().acts.values() if act.kind == "halt"]

    def resume(self) -> None:
        argv = [*self.argv, "resume", "checkout", "--all", "--reason", "next", "--wait", "30s"]
        subprocess.run(argv, check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    "stalled_s", [8.0, pytest.param(75.0, marks=pytest.mark.nightly)], ids=["eight seconds", "a minute"]
)
def test_on_a_terminal_that_nobody_reads_three_pulls_of_three_leave_and_the_engine_goes_on(
    tmp_path: Path, stalled_s: float
) -> None:
    house = House(tmp_path)
    with Program(house.argv) as room:
        room.wait_for("stop checkout", LIMIT_S)
        wait_until(lambda: house.read(lambda ledger: ledger.lease()), LIMIT_S)
        fill(room)
        began = time.time()
        with watched(house) as seen:
            for presses in range(1, 4):
                room.type(F9)
                wait_until(lambda n=presses: house.halts() == ["verified"] * n, LIMIT_S, "the halt is confirmed")  # type: ignore[misc]
                house.resume()
                reads = len(seen)
                wait_until(lambda n=reads: len(seen) >= n + 2, LIMIT_S, "the room knows that it was resumed")  # type: ignore[misc]
            wait_until(lambda: time.time() - began > stalled_s, stalled_s + LIMIT_S)
        assert room.process.poll() is None
        ended = time.time()
    gaps = [after - before for before, after in zip([began, *seen], [*seen, ended], strict=True)]
    assert len(seen) >= stalled_s / 4, seen
    assert max(gaps) < 6.0, gaps
    if stalled_s > 60.0:
        kept = house.read(lambda ledger: [item.at for item in ledger.samples("checkout/conversion", began, ended)])
        assert len(kept) >= 6
        assert {later - earlier for earlier, later in itertools.pairwise(kept)} == {10.0}


def fill(room: Program) -> None:
    """Stop reading, and have the room draw until the terminal takes no more."""
    room.stall()
    held: list[int] = []

    def full() -> bool:
        room.type("\x0c")
        held.append(waiting(room))
        return len(held) > 20 and held[-1] > 0 and len(set(held[-20:])) == 1

    wait_until(full, LIMIT_S, "the terminal is full")


def waiting(room: Program) -> int:
    """Bytes that lie in the terminal."""
    return int(struct.unpack("i", fcntl.ioctl(room._master, termios.FIONREAD, b"\0\0\0\0"))[0])


class watched:
    """When the line's source was read, as the ledger tells it, for as long as this is entered."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.seen: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> list[float]:
        self._thread.start()
        return self.seen

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            pulse = self.house.read(lambda ledger: ledger.pulses().get("source:checkout/plant"))
            if pulse is not None and (not self.seen or pulse.at > self.seen[-1]):
                self.seen.append(pulse.at)


# Panels that raise

ON_FLOOR = (TopBar, Bands, DangerRow, KeyRow, FloorHead, Rule, LineFacts)
ON_LINE = (LineBands, Stations, Deployments)
PLACES: tuple[tuple[type[Panel], tuple[int, int], tuple[str, ...]], ...] = (
    *((panel, (80, 24), ()) for panel in ON_FLOOR),
    *((panel, (80, 24), ("enter",)) for panel in ON_LINE),
    (SmallFacts, (60, 18), ()),
    (Tiny, (40, 10), ()),
    (MetricChart, (160, 48), ("enter",)),
    (HoldProof, (160, 48), ("enter",)),
    (Timeline, (160, 48), ("enter",)),
    (KeysPage, (80, 24), ("question_mark",)),
    (ReasonHead, (80, 24), ("enter", "g")),
    (Grace, (80, 24), ()),
    *((panel, (160, 48), ("enter", "enter")) for panel in (Batch, Compared, ChartTitle)),
    *((panel, (160, 48), ("enter", "w")) for panel in (BigChart, EvidenceCurve, Why, MetricHead, DetailKeys)),
    *((panel, (160, 48), ("enter", "w", "w")) for panel in (Query, Rows)),
    *((panel, (160, 48), ("enter", "tab", "enter")) for panel in (RunHead, Stages, Log)),
    *((panel, (160, 48), ("enter", "h")) for panel in (HoldHead, NextSteps, Waiting, HoldTimeline, OneChart)),
    (ChangeHead, (160, 48), ("enter", "h", "i")),
    *((panel, (160, 48), ("e",)) for panel in (EventsHead, EventList, EventFacts)),
    (AboutPage, (160, 48), ("a",)),
    (EverythingHead, (160, 48), ("E",)),
)
OTHERWISE = (WallPage, CallStrip, DidItHelp, OfMetric, WeighHead)
"""On a wall, in a call, after a stop, before a return, and the base of two others: drawn by the same `Panel.show`."""


def raises(*_: object, **__: object) -> None:
    raise ZeroDivisionError("of a panel")


def test_every_panel_is_attacked() -> None:
    def below(kind: type[Panel]) -> Iterator[type[Panel]]:
        for found in kind.__subclasses__():
            yield found
            yield from below(found)

    ours = {kind for kind in below(Panel) if kind.__module__.startswith("tui.")}
    assert {place[0] for place in PLACES} | set(OTHERWISE) == ours


CASES = [(*place, "draw") for place in PLACES] + [(*place, "render") for place in PLACES[2::8]]


@pytest.mark.parametrize(
    ("panel", "size", "keys", "method"), CASES, ids=[f"{case[0].__name__}-{case[3]}" for case in CASES]
)
async def test_a_panel_that_raises_says_so_and_the_rest_lives(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    panel: type[Panel],
    size: tuple[int, int],
    keys: tuple[str, ...],
    method: str,
) -> None:
    begun = {"expected": "d-5de1-12", "version": sha("4f2a"), "not_before": NOW + 3}
    back = act("rollback", "checkout", "nomad", "d-5de1-12", 1, **begun)
    events = (hold("checkout", "bo", 20, "odd"), *([ActAsked(line="checkout", at=NOW, act=back)] * (panel is Grace)))
    with shop(tmp_path, *events) as made:
        room = made.room()
        async with room.run_test(size=size, notifications=True) as pilot:
            await settle(room, pilot, "esc" if panel is Grace else "F9")
            for key in keys:
                await pilot.press(key)
                await pilot.pause()
            broken = room.front.query(panel).first()
            if method == "draw":
                monkeypatch.setattr(panel, "draw", raises)
            else:
                painter = type(broken.painter)(broken.painter._roles, broken.painter.looks)
                painter.strip = raises  # type: ignore[method-assign, assignment]
                broken.painter = painter
            room.redraw()
            await until(lambda: broken.failed == "ZeroDivisionError", LIMIT_S)
            if method == "draw":
                await until(lambda: "panel failed: Zer" in screen_text(room), LIMIT_S)
            others = [item for item in room.front.query(Panel) if item is not broken and item.display]
            assert all(not item.failed for item in others)
            await pilot.press("f9")
            await until(lambda: ("pull", "checkout") in made.engine.asked, LIMIT_S)
            monkeypatch.undo()
            broken.painter = room.painter
            await pilot.press("ctrl+l")
            await until(lambda: not broken.failed and "panel failed" not in screen_text(room), LIMIT_S)


async def test_without_the_guard_a_panel_that_raises_ends_the_room(tmp_path: Path, monkeypatch) -> None:
    """The mutant: what a panel draws is shown without looking."""
    monkeypatch.setattr(TopBar, "render_line", raises)
    with shop(tmp_path) as made, pytest.raises(ZeroDivisionError):
        async with made.room().run_test(size=(80, 24)) as pilot:
            await pilot.pause()


@pytest.mark.parametrize("part", ["show", "below"])
async def test_when_the_rows_of_the_floor_fail_the_rest_is_drawn_and_f9_acts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    with shop(tmp_path) as made:
        room = made.room()
        async with room.run_test(size=(80, 24), notifications=True) as pilot:
            await settle(room, pilot, "stop checkout")
            assert isinstance(room.front, FloorScreen)
            monkeypatch.setattr(room.front.floor, part, raises)
            await pilot.press("down")
            await until(lambda: "stop search" in screen_text(room), LIMIT_S)
            await until(lambda: "the screen failed: ZeroDivisionError" in screen_text(room), LIMIT_S)
            await pilot.press("f9")
            await until(lambda: ("pull", "search") in made.engine.asked, LIMIT_S)


async def test_when_the_picture_cannot_be_worked_out_f9_stops_the_line_that_was_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shop(tmp_path) as made:
        room = made.room()
        async with room.run_test(size=(80, 24), notifications=True) as pilot:
            await settle(room, pilot, "stop checkout")
            await until(lambda: room.danger.stop_line == "checkout", LIMIT_S)
            monkeypatch.setattr(room.sight, "look", raises)
            await until(lambda: "the picture failed: ZeroDivisionError" in screen_text(room), LIMIT_S)
            await pilot.press("f9")
            await until(lambda: ("pull", "checkout") in made.engine.asked, LIMIT_S)
