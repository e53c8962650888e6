"""Attacks on the input: everything goes through the driver, as reads of bytes at given times, up to what would act."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from textual import events
from textual._xterm_parser import XTermParser

from tests.room_helpers import shop
from tests.terminal_app import ARMED
from tests.test_keys_in import ANSWERS
from tui import driver
from tui.arming import Arming
from tui.danger import Danger
from tui.driver import BURST_S, LATE_S, WAITING_LIMIT, Terminal

F4, F8, F9 = b"\x1bOS", b"\x1b[19~", b"\x1b[20~"
CLICK = b"\x1b[<0;40;23M\x1b[<0;40;23m"
SPELLINGS_OF_F4 = (b"\x1bOS", b"\x1b[14~", b"\x1b[1;1S", b"\x1b[[D")

MORE_ANSWERS = {
    "DA1 VTE": b"\x1b[?65;1;9c",
    "DA1 iTerm2": b"\x1b[?62;4c",
    "DA1 WezTerm": b"\x1b[?65;4;6;18;22c",
    "DA1 Linux console": b"\x1b[?6c",
    "DA1 foot": b"\x1b[?62;4;22;28;29c",
    "DA2 VTE": b"\x1b[>65;6800;1c",
    "DA2 iTerm2": b"\x1b[>64;2500;0c",
    "DA2 WezTerm": b"\x1b[>1;277;0c",
    "DA2 Windows Terminal": b"\x1b[>0;10;1c",
    "DA3 Windows Terminal": b"\x1bP!|00000000\x1b\\",
    "DA3 kitty": b"\x1bP!|6B697474\x1b\\",
    "XTVERSION kitty": b"\x1bP>|kitty(0.35.2)\x1b\\",
    "XTVERSION VTE": b"\x1bP>|VTE(6800)\x1b\\",
    "XTVERSION xterm": b"\x1bP>|XTerm(379)\x1b\\",
    "XTGETTCAP, refused": b"\x1bP0+r544e\x1b\\",
    "DECRQSS xterm, cursor": b"\x1bP1$r2 q\x1b\\",
    "DECRQSS, refused": b"\x1bP0$r\x1b\\",
    "DECRQM synchronised output": b"\x1b[?2026;2$y",
    "DECRQM in-band resize": b"\x1b[?2048;2$y",
    "in-band resize": b"\x1b[48;24;80;480;800t",
    "cursor position": b"\x1b[24;80R",
    "cursor position that looks like shift+F3": b"\x1b[1;2R",
    "cell size iTerm2": b"\x1b[6;14;7t",
    "screen size in cells": b"\x1b[9;50;200t",
    "iconified": b"\x1b[2t",
    "focus in": b"\x1b[I",
    "focus out": b"\x1b[O",
    "colour of the cursor": b"\x1b]12;rgb:ffff/ffff/ffff\x07",
    "clipboard tmux": b"\x1b]52;;cm0gLXJmIC8=\x1b\\",
    "clipboard, one byte": b"\x9d52;c;cQ==\x9c",
    "kitty colours": b"\x1b]21;foreground=rgb:ff/ff/ff\x1b\\",
    "kitty clipboard": b"\x1b]5522;type=read:status=OK\x1b\\",
    "kitty notification": b"\x1b]99;i=1:p=?;p=title,body\x1b\\",
    "kitty graphics, error": b"\x1b_Gi=31;EINVAL:q\x1b\\",
    "iTerm2 variable": b"\x1b]1337;ReportVariable=cQ==\x07",
    "iTerm2 capabilities": b"\x1b]1337;Capabilities=T2CwLrMSc\x07",
    "working folder": b"\x1b]7;file://host/q\x1b\\",
    "modifyOtherKeys": b"\x1b[>4;2m",
    "locator": b"\x1b[1;2;3;4;5&w",
    "macro space": b"\x1b[32*{",
    "character set": b'\x1bP0!u"?\x1b\\',
    "user keys": b"\x1b[?20;2n",
    "sixel colours": b"\x1b[?1;0;256S",
    "answerback after a string": b"\x1bPq\x1b\\",
    "mouse moved": b"\x1b[<35;10;5M",
    "mouse rxvt": b"\x1b[35;10;5M",
    "mouse, far out": b"\x1b[<35;9999;9999M",
    "DA1 echoed": b"\x1b[c",
}
EVERY_ANSWER = ANSWERS | MORE_ANSWERS


class Line(Terminal):
    """The driver without a terminal: reads are fed to it by hand, and what it would post is written down."""

    def __init__(self, app: Any, times: SimpleNamespace) -> None:
        super().__init__(app)
        self.times = times
        self.posted: list[Any] = []
        self.bells = 0

    def process_message(self, message: Any) -> None:
        self.posted.append(message)

    def write(self, data: str) -> None:
        self.bells += data.count("\a")

    def read(self, data: bytes, after_s: float = 0.01, at_once: bool = False) -> None:
        """A read, so many seconds after the one before."""
        self.times.now += after_s
        self._take(data, self.times.now, at_once)

    def quiet(self, seconds: float = 2.0) -> None:
        """Nothing comes for so long."""
        while (wait := self._framer.wait(self.times.now)) is not None and wait <= seconds:
            seconds -= max(0.0, wait) + 0.001
            self.times.now += max(0.0, wait) + 0.001
            self._take(b"", self.times.now, False)
        self.times.now += seconds

    def fired(self) -> list[str]:
        """What could have made a binding fire or a click count: keys, pastes, buttons."""
        kinds = (events.Key, events.Paste, events.MouseDown, events.MouseUp)
        return [getattr(item, "key", type(item).__name__) for item in self.posted if isinstance(item, kinds)]

    def refused(self) -> list[str]:
        return [item.key for item in self.posted if isinstance(item, Danger.Pressed) and not item.taken]


@pytest.fixture
def done() -> list[str]:
    """What the danger keys did."""
    return []


@pytest.fixture
async def line(done: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A driver with everything armed; the process keeps its handlers of signals."""
    times = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(driver, "time", SimpleNamespace(monotonic=lambda: times.now, sleep=lambda _: None))
    before = {number: signal.getsignal(number) for number in (signal.SIGTSTP, signal.SIGCONT)}
    danger = Danger(lambda name: done.append(f"stop {name}"), lambda armed: done.append(f"rollback {armed.target}"))
    danger.stop_line, danger.armed = "shop", ARMED
    yield Line(SimpleNamespace(danger=danger, message_queue_size=0), times)
    for number, handler in before.items():
        signal.signal(number, handler)


def works_again(line: Line, done: list[str]) -> None:
    """After whatever came, and a moment of silence, each kind of key works."""
    line.quiet()
    line.posted.clear()
    done.clear()
    for data in (F9, b"z", F4, F8, b"\x1b[A"):
        line.read(data, 1.0)
    assert done == ["stop shop", "rollback 4f2a"]
    assert line.fired() == ["z", "f8", "up"]


# Answers


def test_a_hundred_answers_were_recorded() -> None:
    assert len(EVERY_ANSWER) == len(ANSWERS) + len(MORE_ANSWERS) == 100


@pytest.mark.parametrize("name", EVERY_ANSWER)
async def test_from_an_answer_whole_or_cut_anywhere_nothing_fires_and_keys_work(
    line: Line, done: list[str], name: str
) -> None:
    answer = EVERY_ANSWER[name]
    for cut in range(len(answer)):
        for data in filter(None, (answer[:cut], answer[cut:])):
            line.read(data)
        line.quiet()
        assert (line.fired(), done) == ([], []), answer[:cut]
    works_again(line, done)


@pytest.mark.parametrize("name", EVERY_ANSWER)
async def test_after_an_answer_that_breaks_off_f9_acts_at_once(line: Line, done: list[str], name: str) -> None:
    answer = EVERY_ANSWER[name]
    for cut in range(1, len(answer)):
        line.read(answer[:cut])
        line.read(F9)
        assert done == ["stop shop"], answer[:cut]
        done.clear()
        line.quiet()


def test_without_the_guard_the_same_answers_press_keys() -> None:
    """The mutant: Textual's own parser alone."""
    pressed, broken = 0, 0
    for answer in EVERY_ANSWER.values():
        try:
            found = list(XTermParser().feed(answer.decode("latin-1")))
            pressed += any(isinstance(event, events.Key) for event in found)
        except Exception:
            broken += 1
    assert pressed > 20
    assert broken > 0


# Stray bytes

STRAY = [
    *(bytes([code]) for code in range(0x80, 0x100)),
    *(b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82", b"\xf0\x9f\x98", b"\xff\xfe" * 9, b"\x80" * 40),
    *(b"\x1b[20;1:3~", b"\x1b[14;1:3~", b"\x1b[;;;~", b"\x1b[99999999999;;9u", b"\x1b[1;1:9:9;;~", b"\x1b[<;;M"),
    *(b"\x1b[<0;0;0M", b"\x1b[<0;-5;-5M", b"\x1b[48;0;0;0;0t", b"\x1b[200", b"\x1b[201~", b"\x1b[?", b"\x1bO\x80"),
]


@pytest.mark.parametrize("data", STRAY, ids=ascii)
async def test_from_stray_bytes_no_binding_fires_and_keys_work(line: Line, done: list[str], data: bytes) -> None:
    line.read(data)
    line.quiet()
    assert done == []
    assert {key for key in line.fired() if key.isascii() and len(key) < 15} == set()
    works_again(line, done)


# Pastes

HELD = b"q\rN" + F9 + F4 + F8 + CLICK + b"\x1b\x1b[A\xff\x1b]l" + b"y\x07\x03" + b"".join(SPELLINGS_OF_F4) + b"deploy"
"""A paste as bad as can be."""


async def test_a_bracketed_paste_cut_anywhere_is_one_event(line: Line, done: list[str]) -> None:
    paste = b"\x1b[200~" + HELD + b"\x1b[201~"
    for cut in range(2, len(paste)):
        line.posted.clear()
        line.read(paste[:cut])
        line.read(paste[cut:])
        line.quiet()
        assert (line.fired(), done) == (["Paste"], []), paste[:cut]
    works_again(line, done)


@pytest.mark.parametrize("name", EVERY_ANSWER)
async def test_a_paste_that_holds_an_answer_is_one_event(line: Line, done: list[str], name: str) -> None:
    line.read(b"\x1b[200~" + EVERY_ANSWER[name] + b"\x1b[201~")
    assert (line.fired(), done) == (["Paste"], [])
    assert all(char.isprintable() or char == "\n" for char in line.posted[0].text)


@pytest.mark.parametrize("key", [*SPELLINGS_OF_F4, F8], ids=ascii)
@pytest.mark.parametrize("around", [(b"a", b""), (b"", b"a"), (b"\x1b[A", b""), (b"", b"\x1b[c"), (b"\xff", b"\r")])
async def test_f4_and_f8_that_share_a_read_are_refused_with_a_bell(
    line: Line, done: list[str], key: bytes, around: tuple[bytes, bytes]
) -> None:
    line.read(around[0] + key + around[1])
    assert done == []
    assert line.bells == 1
    assert line.refused() == ["f8" if key == F8 else "f4"]
    assert "f8" not in line.fired()
    works_again(line, done)


async def test_without_the_rule_of_shared_reads_f4_acts_in_a_paste(line: Line, done: list[str], monkeypatch) -> None:
    """The mutant: every key counts as pressed alone."""
    press = line._app.danger.press
    monkeypatch.setattr(line._app.danger, "press", lambda key, alone: press(key, True))
    line.read(b"a" + F4)
    assert done == ["rollback 4f2a"]


@pytest.mark.parametrize("key", [*SPELLINGS_OF_F4, F8], ids=ascii)
async def test_where_a_paste_is_cut_by_the_size_of_a_read_f4_and_f8_are_refused(
    line: Line, done: list[str], key: bytes
) -> None:
    """However long the first part took: what was there at once may be of the same paste."""
    for cut in range(len(key)):
        line.read(b"log line\r\n" * 400 + key[:cut])
        line.read(key[cut:], after_s=4 * BURST_S if cut == 0 else 0.01, at_once=True)
        assert done == [], cut
        assert line.bells == cut + 1
        line.quiet()


@pytest.mark.parametrize(
    "data",
    [b"a" + CLICK, CLICK + b"a", F4 + b"a" + CLICK, b"\x1b[c" + CLICK, b"\x1b[200~x\x1b[201~" + CLICK],
    ids=ascii,
)
async def test_a_click_that_shares_a_read_is_dropped(line: Line, done: list[str], data: bytes) -> None:
    line.read(data)
    assert "MouseDown" not in line.fired()
    line.read(CLICK, after_s=BURST_S + 0.01)
    assert line.fired()[-2:] == ["MouseDown", "MouseUp"]


async def test_in_an_unframed_paste_f9_acts(line: Line, done: list[str]) -> None:
    line.read(b"deploy \x1b[14~" + F9 + b" Release")
    assert done == ["stop shop"]


async def test_a_long_text_without_a_frame_presses_nothing(line: Line, done: list[str]) -> None:
    text = b"2024-11-23 14:02 quit? yes\r\nN x r g t \x03\x11 " * 500
    for start in range(0, len(text), 4096):
        line.read(text[start : start + 4096])
    line.quiet()
    assert line.fired() == ["Paste"]
    works_again(line, done)


# A thread that is kept from reading, an event loop that is blocked


async def test_a_key_that_was_complete_in_time_but_read_late_is_that_key(
    done: list[str], line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = iter([F9[:1], F9[1:]])
    late_s = [0.0, LATE_S - 0.1]
    fake_terminal(line, monkeypatch, reads, late_s)
    line.run_input_thread()
    assert done == ["stop shop"]
    assert line.fired() == []


def fake_terminal(line: Line, monkeypatch: pytest.MonkeyPatch, reads: Iterator[bytes], late_s: list[float]) -> None:
    """Reads that are there when they are asked for, but so many seconds after the thread began to wait."""
    ended = threading.Event()
    line.exit_event = ended  # type: ignore[assignment]
    left = list(reads)

    class Poll:
        def register(self, *_: object) -> None: ...

        def poll(self, timeout: float | None) -> list[tuple[int, int]]:
            if timeout == 0:
                return []
            line.times.now += late_s[len(late_s) - len(left)]
            return [(line.fileno, 1)]

    def read(_fd: int, _most: int) -> bytes:
        data = left.pop(0)
        if not left:
            ended.set()
        return data

    monkeypatch.setattr(driver, "select", SimpleNamespace(poll=Poll, POLLIN=1))
    monkeypatch.setattr(driver, "os", SimpleNamespace(read=read))


@pytest.mark.parametrize("data", [b"\x1b[<35;10;5M", b"\x1b[A", b"\xff", b"\x1ba"], ids=ascii)
async def test_what_floods_in_is_bounded_and_the_danger_keys_are_not(line: Line, done: list[str], data: bytes) -> None:
    line._loop = SimpleNamespace(call_soon_threadsafe=lambda *_: None)  # type: ignore[assignment]
    for _ in range(100):
        line.read(data * 100)
    assert len(line.posted) <= WAITING_LIMIT + 2
    line.read(F9, 1.0)
    line.read(F4, 1.0)
    assert done == ["stop shop", "rollback 4f2a"]
    assert [item.key for item in line.posted if isinstance(item, Danger.Pressed)] == ["f9", "f4"]
    assert line.dropped >= 9_000
    line._arrive(line._posted)
    line.read(b"z", 1.0)
    assert line.fired()[-1] == "z"


async def test_the_messages_that_wait_are_counted_in_the_event_loop(line: Line) -> None:
    line.read(b"abc")
    assert line._posted - line._arrived == 3
    await asyncio.sleep(0)
    assert line._posted - line._arrived == 0
    line._app.message_queue_size = WAITING_LIMIT + 1
    line.read(b"d")
    assert line.fired() == ["a", "b", "c"]


# What is armed


def newly_armed(tmp_path: Any, work: Any) -> None:
    """Call `work` with an `Arming` of nothing yet, its `Danger`, a moment with a target, and a screen that shows it."""
    danger = Danger(lambda _: None, lambda _: None)
    front = SimpleNamespace(sees_target=True)
    with shop(tmp_path) as made:
        sight = made.room().sight
        moment = sight.look(made.engine.view, "ann", line="checkout", visible=(), scope="", asks="", path=(), find="")
        work(Arming(danger), danger, moment, front)


def test_f9_acts_from_the_first_frame_and_another_line_or_f4_only_when_it_has_left(tmp_path: Any) -> None:
    def work(arming: Arming, danger: Danger, moment: Any, front: Any) -> None:
        arming.drawn(moment, front)
        assert (danger.stop_line, danger.armed) == ("", None)
        arming.handed()
        assert (danger.stop_line, danger.armed) == ("checkout", None)
        arming.drawn(msgspec.structs.replace(moment, line="search"), front)
        arming.handed()
        assert (danger.stop_line, danger.armed) == ("checkout", None)
        arming.drawn(moment, front)
        arming.handed()
        arming.seen()
        assert danger.armed is not None
        assert danger.armed.line == "checkout"

    newly_armed(tmp_path, work)


def test_a_frame_that_leaves_late_does_not_give_back_what_was_taken(tmp_path: Any) -> None:
    def work(arming: Arming, danger: Danger, moment: Any, front: Any) -> None:
        arming.drawn(moment, front)
        arming.handed()
        arming.drawn(msgspec.structs.replace(moment, asks="the palette"), front)
        arming.seen()
        assert danger.armed is None
        assert danger.why_not == "F4: not while the palette is open"
        arming.drawn(moment, front)
        arming.seen()
        assert danger.armed is None
        arming.handed()
        arming.seen()
        assert danger.armed is not None

    newly_armed(tmp_path, work)


def test_a_target_counts_as_shown_from_when_it_is_seen(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("tui.arming.time", SimpleNamespace(time=lambda: now))

    def work(arming: Arming, danger: Danger, moment: Any, front: Any) -> None:
        nonlocal now
        arming.drawn(moment, front)
        arming.handed()
        now = 1060.0  # a terminal that took the frame after a minute
        arming.seen()
        assert danger.armed is not None
        assert danger.armed.painted_at == 1060.0
        now = 1070.0
        arming.drawn(moment, front)
        arming.handed()
        arming.seen()
        assert danger.armed.painted_at == 1060.0

    newly_armed(tmp_path, work)
