"""The call for help in the room: what is seen of it, and what the keys do; in one room, in two, in a real terminal."""

import sys
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from adapters.sqlite import SqliteLedger
from andon.clock import WallClock
from andon.engine import Engine
from andon.events import ActAsked, ActStepped, CallTaken
from andon.keeper import Keeper
from tests.helpers import HOSTILE, until
from tests.pty_harness import Program
from tests.room_helpers import NOW, act, hold, screen_text, settle, shop
from tests.test_record import named, nightly
from tests.test_room import golden, pressed
from tui.app import Room
from tui.opening import demo_config
from tui.panels.looks import FILLS

ROOT = Path(__file__).parents[1]
F7, F9, PASTE = "\x1b[18~", "\x1b[20~", "\x1b[200~{}\x1b[201~"
LATE_S = 30


def call(line="checkout", who="dee", ago=40.0, left=80.0, why="p95 looks odd after 5de1", id_=""):
    """A call that somebody made `ago` seconds ago, and that ends in `left` seconds."""
    more = {"who": who, "why": why, "not_before": NOW + left, "not_after": NOW + left + 300}
    made = act("call", line, "", line, ago, **more)
    return msgspec.structs.replace(made, id=id_ or f"call-{line}")


def asked(made) -> ActAsked:
    return ActAsked(line=made.line, at=made.at, act=made)


PICTURES = [
    ("call-80x24", (80, 24), {}),
    nightly("call-100x30", (100, 30), {}),
    nightly("call-160x48", (160, 48), {}),
    nightly("call-60x18", (60, 18), {}),
    nightly("call-80x24-ascii", (80, 24), {"NO_COLOR": "1", "TERM": "linux"}),
    nightly("call-80x24-sixteen", (80, 24), {"TERM": "screen"}),
    ("call-40x8", (40, 8), {}),
]


@pytest.mark.parametrize(("name", "size", "env"), PICTURES, ids=named(PICTURES))
async def test_a_call_looks_as_agreed(tmp_path, monkeypatch, name, size, env):
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    with shop(tmp_path, asked(call())) as made:
        room = made.room()
        async with room.run_test(size=size) as pilot:
            golden(name, await settle(room, pilot, "stops in 1 m 20 s"))


async def test_the_words_of_the_line_say_who_called_and_when_it_stops(tmp_path):
    with shop(tmp_path, asked(call())) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            text = await settle(room, pilot, "checkout  called by dee · stops in 1 m 20 s")
            assert "▲ checkout called by dee · stops in 1 m 20 s  “p95 looks odd a…  nobody has it" in text
            made.clock.at += 21
            await settle(room, pilot, "called by dee · stops in 59 s")
            made.clock.at += 60
            await settle(room, pilot, "called by dee · stops now")


async def test_it_is_no_alarm_yet_and_fills_nothing(tmp_path):
    with shop(tmp_path, asked(call())) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot, "called by dee")
            assert not [row for row in room.front.bands._rows if any(ink.bg in FILLS for _, ink in row)]


async def test_f7_calls_and_c_clears_and_t_says_that_somebody_looks(tmp_path):
    with shop(tmp_path) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "f7")
            assert made.engine.asked == [("call", "checkout")]
            made.write(asked(call()))
            await settle(room, pilot, "called by dee")
            await pressed(room, pilot, "t", "c")
            assert made.engine.asked[1:] == [("take call", "checkout", "call-checkout"), ("clear call", *CLEARED)]
            made.write(CallTaken(line="checkout", at=NOW, call="call-checkout", who="ann"))
            await settle(room, pilot, "you have it")


CLEARED = ("checkout", "call-checkout")


async def test_f7_again_asks_nothing_and_names_who_called(tmp_path):
    with shop(tmp_path, asked(call())) as made:
        room = made.room()
        async with room.run_test(size=(80, 24), notifications=True) as pilot:
            await settle(room, pilot, "called by dee")
            await pressed(room, pilot, "f7", "f7", seen="dee called already: nothing is changed")
            assert made.engine.asked == []


async def test_c_without_a_call_says_so(tmp_path):
    with shop(tmp_path) as made:
        room = made.room()
        async with room.run_test(size=(80, 24), notifications=True) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "c", seen="nobody has called for help")
            assert made.engine.asked == []


async def test_f7_works_on_every_screen_and_dialog_and_f9_beside_it(tmp_path):
    with shop(tmp_path) as made:
        room = made.room(line="mail")
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            for keys in (("e",), ("question_mark",), ("escape", "escape", "E")):
                await pressed(room, pilot, *keys, "f7")
            assert made.engine.asked == [("call", "mail")] * 3
            await pressed(room, pilot, "f9")
            assert made.engine.asked[-1] == ("pull", "mail")


async def test_the_danger_row_stays_true_below_a_call(tmp_path):
    with shop(tmp_path, asked(call("search"))) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            text = await settle(room, pilot, "search stops in 1 m 20 s unless somebody clears the call")
            assert "F9  stop checkout    F4  roll back checkout 5de1 → 4f2a" in text
            assert "stop now" not in text, "F9 stops the selected line, which is another"
            await until(lambda: room.danger.armed is not None)
            await pressed(room, pilot, "c")
            assert made.engine.asked == [("clear call", "search", "call-search")]


async def test_a_room_that_only_looks_shows_it_and_offers_nothing(tmp_path):
    with shop(tmp_path, asked(call())) as made:
        made.engine.read_only = True
        room = made.room()
        async with room.run_test(size=(100, 30), notifications=True) as pilot:
            text = await settle(room, pilot, "this room only looks")
            assert "I have it" not in text
            await pressed(room, pilot, "c", "f7", "t")
            assert made.engine.asked == []


async def test_a_stop_takes_its_place(tmp_path):
    with shop(tmp_path, asked(call())) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot, "called by dee")
            made.write(hold("checkout", "bo", 1, "saw it", id_="che00001"))
            text = await settle(room, pilot, "checkout STOPPING")
            assert "called by" not in text
            assert "unless somebody clears" not in text


async def test_what_became_of_it_is_in_the_events(tmp_path):
    made_call = call()
    cleared = ActStepped(
        line="checkout", at=NOW, act=made_call.id, was="intent", now="withdrawn", words="cleared by bo"
    )
    taken = CallTaken(line="checkout", at=NOW - 5, call=made_call.id, who="bo")
    with shop(tmp_path, asked(made_call), taken, cleared) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot, "8 lines run")
            text = await pressed(room, pilot, "e", seen="call cleared by bo")
            assert "▲ checkout   dee called for help: p95 looks odd after 5de1" in text
            assert "bo looks into the call" in text


async def test_a_new_call_rings_once(tmp_path):
    with shop(tmp_path) as made:
        room = made.room()
        bells = []
        room.announcer._bell = lambda: bells.append(1)
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            made.write(asked(call()))
            await settle(room, pilot, "called by dee")
            made.clock.at += 5
            await settle(room, pilot, "stops in 1 m 15 s")
            assert bells == [1]


async def test_what_a_caller_writes_is_shown_harmlessly(tmp_path):
    text = " ".join(HOSTILE)
    with shop(tmp_path, asked(call(who=HOSTILE[1] + HOSTILE[2], why=text))) as made:
        for size in ((160, 48), (40, 8)):
            room = made.room()
            async with room.run_test(size=size) as pilot:
                seen = await settle(room, pilot, "stops in")
                assert all(char.isprintable() or char == "\n" for char in seen)
                assert all(len(row) <= size[0] for row in seen.split("\n"))
                assert not room._failed


async def test_leaving_the_only_room_while_a_call_counts_down_asks_first(tmp_path):
    with shop(tmp_path, asked(call())) as made:
        made.engine.view = msgspec.structs.replace(
            made.engine.view, pulses={k: p for k, p in made.engine.view.pulses.items() if not k.startswith("person")}
        )
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot, "called by dee")
            await pressed(room, pilot, "q", seen="dee's call on checkout counts down, nobody else is here to stop it")
            assert room.is_running


# Two rooms, real engines, one ledger


class Two:
    """Two rooms with engines of their own on one ledger, over the plant."""

    def __init__(self, tmp: Path, call_s: float) -> None:
        own = tmp / "own"
        own.mkdir(mode=0o700)
        found = demo_config(tmp, 7)
        lines = {name: msgspec.structs.replace(line, call_s=call_s) for name, line in found.lines.items()}
        self.config = msgspec.structs.replace(found, lines=lines)
        self.clock = WallClock()
        self.keepers = [Keeper(lambda: SqliteLedger(own / "ledger.db", self.clock), self.clock).start() for _ in "ab"]
        self.engines = [
            Engine(self.config, keeper, self.clock, own, who=who, terminal=f"here:{who}").start()
            for keeper, who in zip(self.keepers, ("ann", "bo"), strict=True)
        ]
        self.rooms = [
            Room(self.config, keeper, engine, self.clock)
            for keeper, engine in zip(self.keepers, self.engines, strict=True)
        ]

    def close(self) -> None:
        for engine in self.engines:
            engine.stop()
        for keeper in self.keepers:
            keeper.close()


@pytest.mark.parametrize("cleared", [True, False])
async def test_two_rooms_on_one_ledger_see_clear_and_end_the_same_call(tmp_path, cleared):
    two = Two(tmp_path, 300.0 if cleared else 3.0)
    ann, bo = two.rooms
    try:
        async with ann.run_test(size=(80, 24)) as one, bo.run_test(size=(80, 24)) as other:
            await until(lambda: "stop checkout" in screen_text(ann) and "stop checkout" in screen_text(bo), LATE_S)
            await one.press("f7")
            await until(lambda: "checkout called by ann · stops" in screen_text(bo), LATE_S)
            await other.press("f7")
            if cleared:
                await other.press("c")
                await until(lambda: "called by" not in screen_text(ann), LATE_S)
                line = two.keepers[0].board.line("checkout")
                assert [item.words for item in line.calls] == ["cleared by bo"]
                assert not line.holds
            else:
                await until(
                    lambda: "checkout stop" in screen_text(bo) and "ann: called for h" in screen_text(bo), LATE_S
                )
                line = two.keepers[1].board.line("checkout")
                assert [(item.owner, item.open) for item in line.holds] == [("ann", True)]
                assert [item.state for item in line.calls] == ["verified"]
    finally:
        two.close()


# A real terminal


def test_in_a_real_terminal_f7_calls_and_no_paste_does(tmp_path):
    with Program([sys.executable, "-m", "tui", "demo"], columns=80, rows=24, cwd=ROOT) as room:
        room.wait_for("F9  stop checkout")
        room.type(PASTE.format(f"x{F7}y"))
        room.type(f"now{F7}then{F7}")  # a paste that the terminal does not frame: keys in a burst
        room.wait_for("other input came with the key: press it again, alone")
        assert "called by" not in room.text

        def calls() -> bool:
            """F7, until it is taken: what was typed before it may still count as a burst."""
            room.type(F7)
            with suppress(AssertionError):
                room.wait_for("called by", 2)
            return "called by" in room.text

        room.wait_until(calls, LATE_S)
        room.wait_for("stops in 1 m")
        room.type("c")
        room.wait_until(lambda: "called by" not in room.text, LATE_S)
        room.type("q")
        room.wait_for("q again to leave")
        room.type("q")
        assert room.exit_code() == 0
