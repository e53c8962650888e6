"""The driver, through a real terminal: danger keys, input guard, output gate, stalls, signals, crashes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding
from textual.color import Color

from tests.helpers import until, wait_until
from tests.pty_harness import Program, gone_within
from tests.terminal_app import ARMED, CANARY
from tests.test_input_attacks import EVERY_ANSWER
from tui.driver import BURST_S
from tui.leaving import Leaving, crash_text, crash_words, masked
from tui.screen_out import PENDING_LIMIT, Gate, Writer, say
from tui.terminal import Armed, Danger, GatedApp, safe_key

HERE = Path(__file__).parent.parent
F4, F8, F9 = b"\x1bOS", b"\x1b[19~", b"\x1b[20~"


class Room(Program):
    """The test app in a terminal, with what it wrote down."""

    def __init__(self, log: Path, wrapper: tuple[str, ...] = (), **options: Any) -> None:
        self.log = log
        self._from = 0
        super().__init__([*wrapper, sys.executable, "-m", "tests.terminal_app", log], cwd=HERE, **options)
        self.wait_until(lambda: self.notes("frame"), what="the first frame")
        self.wait_for("ready")

    def notes(self, what: str = "") -> list[dict[str, Any]]:
        """What the app wrote down since `forget`: all of it, or of one kind."""
        text = self.log.read_text()[self._from :] if self.log.exists() else ""
        found = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [note for note in found if not what or note["what"] == what]

    def forget(self) -> None:
        """Let a test begin afresh in a room that others used."""
        self.settle()
        self.lift_the_hand()
        self._from = len(self.log.read_text())
        self.out = b""

    def heard(self) -> list[str]:
        """Everything that acted or arrived as a key, in order."""
        kinds = ("stop", "rollback", "bound", "key")
        return [note.get("key", note["what"]) for note in self.notes() if note["what"] in kinds]

    def lift_the_hand(self) -> None:
        """The pause between two keys of a hand: part of what is typed, longer than a burst, shorter than an escape."""
        time.sleep(BURST_S + 0.01)

    def settle(self) -> None:
        """Wait until all that was typed so far has been dealt with: a key typed now arrives after it."""
        before = len([key for key in self.heard() if key == "z"])
        self.lift_the_hand()
        self.type("z")
        self.wait_until(lambda: len([key for key in self.heard() if key == "z"]) >= before + 2, what="z arrived")


Start = Callable[..., Room]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    rooms: list[Room] = []

    def start(**options: Any) -> Room:
        rooms.append(Room(tmp_path / f"{len(rooms)}.notes", **options))
        return rooms[-1]

    yield start
    for room in rooms:
        room.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Room]]:
    rooms: list[Room] = []
    yield rooms
    for room in rooms:
        room.close()


@pytest.fixture
def room(shared: list[Room], tmp_path: Path) -> Room:
    """One room for all tests that leave it as it was."""
    if not shared or shared[-1].process.poll() is not None:
        shared.append(Room(tmp_path / "shared.notes"))
    shared[-1].forget()
    return shared[-1]


# Danger keys


def test_f9_stops_the_line_in_the_input_thread(room: Room) -> None:
    room.type(F9)
    room.wait_for("stop shop")
    room.wait_until(lambda: room.notes("pressed"))
    assert room.notes("stop") == [{"what": "stop", "thread": "input", "line": "shop"}]
    assert room.notes("key") == []
    assert room.notes("bound") == []


def test_f4_rolls_back_to_what_was_shown(room: Room) -> None:
    room.type(F4)
    room.wait_until(lambda: room.notes("rollback"))
    assert [note["target"] for note in room.notes("rollback")] == ["4f2a"]
    assert room.notes("bound") == []


def test_f4_that_is_not_armed_says_why(start: Start) -> None:
    room = start()
    room.type("d")
    room.wait_until(lambda: room.notes("disarmed"))
    room.settle()
    room.lift_the_hand()
    room.type(F4)
    room.wait_for("nothing to undo: on 88e1")
    assert room.notes("rollback") == []
    assert b"\x07" in room.out


def test_f9_acts_in_a_text_field(start: Start) -> None:
    room = start(env={"TEST_INPUT": "1"})
    room.type("\t")
    room.type("reason")
    room.wait_for("reason")
    room.type(F9)
    room.wait_until(lambda: room.notes("stop"))


def test_f9_acts_while_the_event_loop_is_blocked(room: Room) -> None:
    room.type("b")
    room.wait_until(lambda: room.notes("blocking"))
    for presses in range(1, 4):
        room.type(F9)
        room.wait_until(lambda presses=presses: len(room.notes("stop")) == presses, limit_s=2.5)
    assert room.notes("unblocked") == []
    room.wait_until(lambda: len(room.notes("pressed")) == 3)


def test_f9_acts_while_nobody_reads_the_terminal(start: Start) -> None:
    room = start()
    room.type("s")
    room.wait_for("ready 1")
    room.stall()
    room.wait_until(lambda: stalled(room), what="the terminal's buffer is full")
    for presses in range(1, 4):
        room.type(F9)
        room.wait_until(lambda presses=presses: len(room.notes("stop")) == presses, limit_s=2.0)


def stalled(room: Room) -> bool:
    """Whether output waits, and has waited unchanged for ten ticks."""
    pending = [note["pending"] for note in room.notes("tick")[-10:]]
    return len(pending) == 10 and pending[0] > 0 and len(set(pending)) == 1


def test_the_event_loop_goes_on_while_nobody_reads_and_the_screen_catches_up(start: Start) -> None:
    room = start()
    room.type("s")
    room.wait_for("ready 1")
    room.stall()
    room.wait_until(lambda: stalled(room))
    before = room.notes("tick")[-1]["count"]
    room.wait_until(lambda: room.notes("tick")[-1]["count"] > before + 20, what="ticks go on")
    assert room.notes("tick")[-1]["pending"] < PENDING_LIMIT
    reached = room.notes("tick")[-1]["count"]
    room.resume()
    room.wait_until(lambda: shown_count(room) >= reached, what="the newest state is on the screen")


def shown_count(room: Room) -> int:
    words = room.lines[0].split()
    return int(words[1]) if len(words) > 1 and words[0] == "ready" and words[1].isdigit() else 0


# Input guard


def test_broken_bytes_end_nothing(room: Room) -> None:
    for data in (
        b"\xff",
        b"\x1b[20;1:3~",
        b"\xc3",
        b"\x1b[99999999999;;99999999999u",
        b"\x1b[;;;~",
        b"\x1b[1;1:9:9;;~",
    ):
        room.type(data)
    room.settle()
    room.type(F9)
    room.wait_until(lambda: room.notes("stop"))
    assert room.notes("bound") == [{"what": "bound", "thread": "MainThread", "key": "z"}]
    assert room.process.poll() is None


def test_a_bracketed_paste_presses_nothing(room: Room) -> None:
    room.type(b"\x1b[200~q\rc\x1b[20~" + F4 + F9 + b"\x1b\x1b[A\xff\x1b]0;x\x07deploy\x1b[201~")
    room.settle()
    assert room.heard() == ["z", "z"]
    (paste,) = room.notes("paste")
    assert paste["text"].startswith("q\nc\ufffd[20~")
    assert "\x1b" not in paste["text"]


def test_a_paste_without_an_end_ends_and_keys_work(room: Room) -> None:
    room.type(b"\x1b[200~q\x1b[20~")
    room.wait_until(lambda: room.notes("paste"), limit_s=5)
    room.settle()
    assert room.heard() == ["z", "z"]


MEGABYTE = b"2024-11-23 14:02:11 quit? yes, x c e b d l \x03 all of it\r\n" * 18_000


def test_a_megabyte_in_a_frame_is_one_event_and_keys_work(room: Room) -> None:
    room.type(b"\x1b[200~" + MEGABYTE + b"\x1b[201~")
    room.settle()
    assert len(room.notes("paste")) == 1
    assert room.heard() == ["z", "z"]
    room.type(F9)
    room.wait_until(lambda: room.notes("stop"))


def test_a_megabyte_without_a_frame_presses_nothing_and_keys_work(room: Room) -> None:
    room.type(MEGABYTE)
    room.wait_until(lambda: room.notes("paste"))
    for _ in range(10):  # what is typed before all of it was read belongs to it
        room.type("z")
        with contextlib.suppress(AssertionError):
            room.wait_until(room.heard, 2.0)
            break
    assert set(room.heard()) == {"z"}
    room.type(F9)
    room.wait_until(lambda: room.notes("stop"))


def test_a_flood_of_mouse_reports_is_bounded_and_f9_acts_within_it(room: Room) -> None:
    room.type(b"\x1b[<35;10;5M" * 20_000 + F9)
    room.wait_until(lambda: room.notes("stop"))
    room.wait_until(lambda: room.notes("pressed"))
    room.settle()
    assert room.heard() == ["stop", "z", "z"]


def test_answers_of_terminals_press_nothing(room: Room) -> None:
    for answer in EVERY_ANSWER.values():
        room.type(answer)
    room.settle()
    assert room.heard() == ["z", "z"]


@pytest.mark.parametrize(
    ("data", "heard"),
    [
        pytest.param(b"ag" + F4, ["a", "a", "g", "g"], id="text, F4"),
        pytest.param(F4 + b"ag", ["a", "a", "g", "g"], id="F4, text"),
        pytest.param(b"\x1b[?1;2c" + F4, [], id="answer, F4"),
        pytest.param(F8 + b"a", ["a", "a"], id="F8, text"),
        pytest.param(F9 + F4, ["stop"], id="F9, F4"),
    ],
)
def test_in_a_burst_f4_and_f8_are_refused(room: Room, data: bytes, heard: list[str]) -> None:
    room.type(data)
    room.wait_until(lambda: [note for note in room.notes("pressed") if not note["taken"]])
    room.settle()
    assert sorted(room.heard()[:-2]) == sorted(heard)
    assert "press it again, alone" in next(note["why_not"] for note in room.notes("pressed") if not note["taken"])
    assert b"\x07" in room.out


def test_in_a_burst_f9_acts(room: Room) -> None:
    room.type(b"ag" + F9 + b"gh")
    room.wait_until(lambda: room.notes("stop"))


def test_f4_acts_while_the_mouse_moves(room: Room) -> None:
    room.type(b"\x1b[<35;10;5M" + F4 + b"\x1b[<35;11;5M")
    room.wait_until(lambda: room.notes("rollback"))


def test_f8_alone_is_an_ordinary_key(room: Room) -> None:
    room.type(F8)
    room.wait_until(lambda: room.notes("bound"))
    assert room.heard() == ["f8", "f8"]


def test_a_sequence_cut_in_two_reads_is_one_key(room: Room) -> None:
    room.type(F9[:2])
    room.lift_the_hand()
    room.type(F9[2:])
    room.wait_until(lambda: room.notes("stop"))
    assert room.notes("key") == []


def test_a_lone_escape_is_the_escape_key(room: Room) -> None:
    room.type(b"\x1b")
    room.wait_until(lambda: room.heard() == ["escape"])


# Output gate


@pytest.mark.parametrize(
    "payload", ["\x1b]52;c;cm0=\x1b\\\x9b2J\x1b[c", "\u202eabc\u200b\U000e0041\x0e\x7f"], ids=ascii
)
def test_hostile_text_reaches_the_terminal_harmless(start: Start, payload: str) -> None:
    room = start(env={"TEST_HOSTILE": f"<<{payload}>>"})
    room.wait_until(lambda: room.text.count("<<") >= 5, what="all surfaces show it")
    room.settle()
    room.type("x")
    assert room.exit_code() == 3
    shown = room.out.decode("utf-8", "replace")
    assert "left <<\ufffd" in shown
    assert payload not in shown
    for piece in ("\x1b]52", "\x9b", "\x1b[c", "\u202e", "\u200b", "\U000e0041", "\x0e", "\x7f"):
        assert piece not in shown


def test_the_gate_keeps_controls_of_the_screen_and_drops_links_that_are_not_plain() -> None:
    gate = Gate()
    control = Segment("\x1b[2J", None, [(1,)])
    evil = Segment("a\x1bb\nc", Style(link="https://x\x1b\\evil"))
    good = Segment("text", Style(link="https://example.org"))
    kept, gated, link = gate.apply([control, evil, good], Color(0, 0, 0))
    assert kept is control
    assert gated.text == "a\ufffdb\ufffdc"
    assert gated.style is not None
    assert gated.style.link is None
    assert link == good


# Leaving


def test_quitting_gives_the_terminal_back_fast(start: Start) -> None:
    room = start()
    room.type("q")
    assert room.exit_code() == 0
    assert room.restored


def test_quitting_works_while_nobody_reads(start: Start) -> None:
    room = start()
    room.type("s")
    room.wait_for("ready 1")
    room.stall()
    room.wait_until(lambda: stalled(room))
    room.type("q")
    gone_within(room.process, 5.0)
    assert room.process.returncode == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_drains_restores_and_is_told_by_the_exit_code(start: Start, number: int, code: int) -> None:
    room = start()
    room.signal(number)
    assert room.exit_code() == code
    assert room.restored
    assert [note["left_s"] for note in room.notes("drain")] == [20]


def test_an_open_act_is_drained_before_the_end(start: Start) -> None:
    room = start()
    room.type("l")
    room.settle()
    room.signal(signal.SIGTERM)
    assert room.exit_code() == 143
    assert room.notes("drained")


def test_a_signal_is_heard_while_the_event_loop_is_blocked(start: Start) -> None:
    room = start()
    room.type("b")
    room.wait_until(lambda: room.notes("blocking"))
    room.signal(signal.SIGTERM)
    assert room.exit_code(2.5) == 143
    assert room.notes("unblocked") == []
    assert room.restored


@pytest.mark.parametrize("ignored", [(), (signal.SIGHUP,)], ids=["SIGHUP", "SIGHUP ignored"])
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "painting"])
def test_a_closed_terminal_ends_the_room(start: Start, ignored: tuple[int, ...], busy: bool) -> None:
    room = start(ignored=ignored)
    if busy:
        room.type("s")
        room.wait_for("ready 1")
    room.hang_up()
    gone_within(room.process, 5.0)
    assert room.process.returncode == 129
    assert len(room.notes("drain")) == 1


def test_a_closed_terminal_ends_a_room_that_gets_no_signal(start: Start) -> None:
    room = start(wrapper=("sh", "-c", "trap '' HUP; \"$@\"; exit $?", "sh"))
    room.settle()  # nothing is left to paint: only the input can tell that the terminal is gone
    room.hang_up()
    gone_within(room.process, 5.0)
    assert room.process.returncode == 129
    assert len(room.notes("drain")) == 1


def test_a_closed_terminal_waits_for_an_open_act(start: Start) -> None:
    room = start(ignored=(signal.SIGHUP,))
    room.type("l")
    room.settle()
    room.hang_up()
    gone_within(room.process, 10.0)
    assert room.notes("drained")


def test_a_drain_that_never_ends_is_left_behind() -> None:
    left: list[int] = []
    leaving = Leaving(lambda *_: threading.Event().wait(), lambda: None, 0.05, left.append)
    leaving.start()
    leaving.now(signal.SIGTERM)
    wait_until(lambda: left == [143])


def test_a_drain_that_fails_still_leaves_and_restores() -> None:
    done: list[object] = []

    def drain(_reason: str, _deadline: float) -> None:
        raise OSError("disk full")

    leaving = Leaving(drain, lambda: done.append("restored"), 5.0, done.append)
    leaving.start()
    leaving.now(signal.SIGHUP)
    wait_until(lambda: done == ["restored", 129])


def test_a_crash_prints_one_line_and_no_secret(start: Start) -> None:
    room = start()
    room.type("c")
    assert room.exit_code() == 1
    assert room.restored
    assert CANARY.encode() not in room.out
    last = room.out.rpartition(b"\x1b[?25h")[2].decode().strip()
    assert last.startswith("andon broke: RuntimeError in terminal_app.py:")
    assert last.count("\n") == 0


def test_the_log_of_a_crash_holds_no_secret() -> None:
    token = CANARY
    try:
        try:
            raise ValueError(f"GET https://bo:{token}@host/x?token={token} gave 401")
        except ValueError as error:
            raise RuntimeError(f"Authorization: Bearer {token}") from error
    except RuntimeError as error:
        text, words = crash_text(error), crash_words(error)
    assert token not in text + words
    assert "RuntimeError" in text
    assert "ValueError" in text
    assert "in test_the_log_of_a_crash_holds_no_secret" in text


@pytest.mark.parametrize("text", ["KeyError: 'n'", "no line named checkout", "status 401 of prometheus"])
def test_plain_words_are_not_masked(text: str) -> None:
    assert masked(text) == text


def test_the_shell_gets_the_terminal_while_an_editor_runs_and_the_room_comes_back(room: Room) -> None:
    room.type("e")
    room.wait_for("editor")
    room.type(b"text\x1b[20~\n")
    room.wait_until(lambda: room.notes("resumed"))
    assert room.notes("stop") == []
    room.settle()
    room.type(F9)
    room.wait_until(lambda: room.notes("stop"))


def test_a_new_size_is_painted(room: Room) -> None:
    room.resize(100, 30)
    room.wait_until(lambda: [note for note in room.notes("resize") if note["width"] == 100])
    room.wait_until(lambda: b"\x1b[30;1H" in room.out, what="the last row is painted")


@pytest.mark.parametrize(
    ("term", "stdin", "words"),
    [("dumb", None, "cannot draw"), ("", None, "cannot draw"), ("xterm", "", "needs a term")],
)
def test_no_terminal_no_room(tmp_path: Path, term: str, stdin: str | None, words: str) -> None:
    argv = [sys.executable, "-m", "tests.terminal_app", str(tmp_path / "notes")]
    if stdin is None:
        with Program(argv, cwd=HERE, env={"TERM": term}) as program:
            assert program.exit_code() == 1
            said = program.out.decode()
    else:
        done = subprocess.run(
            argv, cwd=HERE, env={**os.environ, "TERM": term}, input=stdin, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        said = done.stderr
    assert words in said


# Parts


async def test_in_a_headless_test_a_danger_key_takes_the_same_way() -> None:
    heard: list[object] = []

    class Small(GatedApp[None]):
        BINDINGS = [Binding("f9", "never", "", priority=True), Binding("f4", "never", "", priority=True)]

        def action_never(self) -> None:
            heard.append("bound")

        def on_danger_pressed(self, event: Danger.Pressed) -> None:
            heard.append((event.act, event.why_not))

    app = Small(Danger(heard.append, heard.append))
    assert app.danger is not None
    app.danger.stop_line = "shop"
    app.danger.why_not = "no version"
    async with app.run_test() as pilot:
        await pilot.press("f9", "f4")
        await until(lambda: len(heard) == 3)
        app.danger.armed = ARMED
        await pilot.press("f4")
        await until(lambda: len(heard) == 5)
    assert heard == ["shop", ("stop", ""), ("rollback", "no version"), ARMED, ("rollback", "")]


def test_a_callback_that_fails_is_told_and_the_next_press_is_a_new_try() -> None:
    def fails(_line: str) -> None:
        raise OSError("queue closed")

    danger = Danger(fails, lambda _: None)
    danger.stop_line = "shop"
    pressed = danger.press("f9")
    assert pressed is not None
    assert not pressed.taken
    assert "OSError" in pressed.why_not


def test_no_key_acts_once_andon_leaves() -> None:
    heard: list[object] = []
    danger = Danger(heard.append, heard.append)
    danger.stop_line, danger.armed, danger.closed = "shop", ARMED, "andon is leaving"
    for key in ("f9", "f4"):
        pressed = danger.press(key)
        assert pressed is not None
        assert pressed.why_not == "andon is leaving"
    assert heard == []


@pytest.mark.parametrize(
    "key", ["a", "ctrl+c", "ctrl+a", "ctrl+i", "enter", "escape", "f3", "f15", "c", "ctrl+left_square_bracket"]
)
def test_a_key_that_text_or_an_answer_can_press_is_no_danger_key(key: str) -> None:
    assert safe_key(key) is not None
    with pytest.raises(ValueError, match="take f1 to f24"):
        Danger(lambda _: None, lambda _: None, stop_key=key)


def test_two_acts_on_one_key_are_refused() -> None:
    with pytest.raises(ValueError, match="three different keys"):
        Danger(lambda _: None, lambda _: None, stop_key="f4")


def test_armed_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        ARMED.target = "other"  # type: ignore[misc]
    assert isinstance(ARMED, Armed)


def test_a_hardened_process_dumps_no_core_and_is_not_read_by_others() -> None:
    code = (
        "import ctypes, resource; from tui.leaving import harden_process; harden_process();"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE, capture_output=True, text=True, check=True)
    limits, dumpable = done.stdout.rsplit(" ", 1)
    assert limits == "(0, 0)"
    if sys.platform == "linux":
        assert dumpable.strip() == "0"


@pytest.mark.parametrize("where", ["main", "thread", "task"])
def test_an_error_nobody_catches_is_logged_without_its_secret(where: str, tmp_path: Path) -> None:
    code = f"""
import asyncio, gc, logging, sys, threading
from pathlib import Path
from tui.leaving import guard_crashes, log_task_error
logging.basicConfig(filename=sys.argv[1])
guard_crashes(Path(sys.argv[1]))
def broken():
    token = "{CANARY}"
    raise RuntimeError("token=" + token)
async def task():
    asyncio.get_running_loop().set_exception_handler(log_task_error)
    async def inner(): broken()
    inner = asyncio.create_task(inner())
    await asyncio.wait([inner])
    del inner
    gc.collect()
if "{where}" == "thread":
    thread = threading.Thread(target=broken); thread.start(); thread.join()
elif "{where}" == "task":
    asyncio.run(task())
else:
    broken()
"""
    log = tmp_path / "log"
    done = subprocess.run([sys.executable, "-c", code, str(log)], cwd=HERE, capture_output=True, text=True, check=False)
    logged = log.read_text()
    assert CANARY not in done.stdout + done.stderr + logged
    assert "RuntimeError" in logged
    assert "in broken" in logged
    assert done.returncode == (1 if where == "main" else 0)
    assert done.stderr.count("\n") == (1 if where == "main" else 0)


def test_a_writer_to_a_terminal_that_stands_still_never_waits_and_says_that_it_lost() -> None:
    read, write = os.openpty()
    drained: list[bool] = []
    writer = Writer(write, drained.append, lambda: None)
    writer.start()
    frame = "x" * 40_000
    began = time.monotonic()
    for _ in range(100):
        writer.write(frame)
    assert time.monotonic() - began < 1.0
    assert writer.pending <= PENDING_LIMIT
    wait_until(lambda: (os.read(read, 65536), drained == [True])[1])
    writer.finish("", 0.1)
    os.close(read)
    os.close(write)


def test_saying_something_to_a_terminal_that_stands_still_gives_up() -> None:
    read, write = os.openpty()
    assert say(write, "hello", 1.0)
    assert not say(write, "x" * 1_000_000, 0.2)
    os.close(read)
    os.close(write)
