"""The room: what a person sees at each size and in each state, and what the keys do about it."""

import difflib
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from adapters.sqlite import SqliteLedger
from andon.clock import WallClock
from andon.engine import Engine
from andon.events import ActAsked, ActStepped, DeploymentSeen, Judged, SourceSeen
from andon.keeper import Keeper
from andon.model import Deployment, Verdict
from tests.helpers import HOSTILE, until
from tests.pty_harness import Program
from tests.room_helpers import (
    LINES,
    NOW,
    act,
    calm,
    done,
    halted_now,
    hold,
    incident,
    screen_text,
    settle,
    sha,
    shop,
    view,
)
from tui import commands
from tui.app import Room
from tui.doing import Doing
from tui.opening import demo_config
from tui.panels.danger import DangerRow
from tui.panels.line_facts import LineFacts
from tui.panels.looks import FILLS, looks
from tui.screens.line import LineScreen
from tui.screens.reason import ReasonScreen

GOLDEN = Path(__file__).parent / "golden"
WRITE = os.environ.get("GOLDEN") == "write"
"""`GOLDEN=write pytest tests/test_room.py` writes the pictures anew; look at the diff."""


async def pressed(room, pilot, *keys, seen=""):
    """Press keys, one after the other; the screen after them."""
    for key in keys:
        await pilot.press(key)
        await pilot.pause()
        room.paint()
    return await settle(room, pilot, seen)


def golden(name: str, text: str) -> None:
    path = GOLDEN / f"{name}.txt"
    if WRITE:
        path.write_text(text + "\n")
    differ = difflib.unified_diff(path.read_text().splitlines(), text.splitlines(), "agreed", "seen", lineterm="", n=0)
    assert not (words := "\n".join(differ)), words


PICTURES = [
    ("floor-80x24-calm", (80, 24), False, {}, ()),
    ("floor-80x24-incident", (80, 24), True, {}, ("down", "down")),
    ("floor-100x30-calm", (100, 30), False, {}, ()),
    ("floor-160x48-incident", (160, 48), True, {}, ("down", "down")),
    ("floor-60x18-incident", (60, 18), True, {}, ("down", "down")),
    ("tiny-20x5-incident", (20, 5), True, {}, ()),
    ("tiny-40x8-incident", (40, 8), True, {}, ()),
    ("floor-80x24-no-color", (80, 24), True, {"NO_COLOR": "1"}, ("down", "down")),
    ("floor-80x24-ascii", (80, 24), True, {"NO_COLOR": "1", "TERM": "linux"}, ("down", "down")),
    ("floor-80x24-sixteen", (80, 24), True, {"TERM": "screen"}, ("down", "down")),
    ("line-80x24", (80, 24), False, {}, ("enter",)),
    ("line-80x24-held", (80, 24), True, {}, ("down", "down", "enter")),
    ("line-160x48-held", (160, 48), True, {}, ("down", "down", "enter")),
    ("keys-80x24", (80, 24), False, {}, ("question_mark",)),
    ("resume-80x24", (80, 24), True, {}, ("down", "down", "r")),
]


@pytest.mark.parametrize(("name", "size", "trouble", "env", "keys"), PICTURES, ids=[item[0] for item in PICTURES])
async def test_the_screen_looks_as_agreed(tmp_path, monkeypatch, name, size, trouble, env, keys):
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    events, dips = (incident(), ("revenue/min",)) if trouble else ([], ())
    with shop(tmp_path, *events, dips=dips) as made:
        room = made.room()
        async with room.run_test(size=size) as pilot:
            await settle(room, pilot)
            golden(name, await pressed(room, pilot, *keys))


# What is seen


async def test_hostile_text_is_shown_harmlessly_on_every_screen(tmp_path):
    changes = [hold("checkout", "ann", 40, " ".join(HOSTILE))]
    with shop(tmp_path, *changes) as made:
        room = made.room()
        async with room.run_test(size=(160, 48)) as pilot:
            for keys in ((), ("enter",), ("m",), ("r",)):
                text = await pressed(room, pilot, *keys)
                assert all(char.isprintable() or char == "\n" for char in text)
                assert all(len(row) <= 160 for row in text.split("\n"))


async def test_only_the_worst_trouble_is_filled(tmp_path):
    with shop(tmp_path, *incident(), dips=("revenue/min",)) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            filled = [row for row in room.front.bands._rows if any(ink.bg in FILLS for _, ink in row)]
            assert len(filled) == 1
            assert "payments stopped" in "".join(text for text, _ in filled[0])


async def test_without_colour_no_colour_is_sent(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    with shop(tmp_path, *incident(), dips=("revenue/min",)) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            for strip in room.screen._compositor.render_strips():
                for segment in strip:
                    colours = (segment.style.color, segment.style.bgcolor) if segment.style else ()
                    assert all(colour is None or colour.is_default for colour in colours), segment


@pytest.mark.parametrize(
    ("environ", "encoding", "sixteen", "expected"),
    [
        ({"TERM": "xterm-256color"}, "utf-8", False, (False, True, True)),
        ({"TERM": "xterm-256color"}, "ISO-8859-1", False, (True, True, True)),
        ({"TERM": "linux"}, "utf-8", True, (True, True, False)),
        ({"TERM": "xterm", "NO_COLOR": "1"}, "utf-8", False, (False, False, False)),
        ({"TERM": "xterm", "NO_COLOR": ""}, "utf-8", False, (False, True, True)),
    ],
)
def test_one_function_decides_what_the_terminal_can_show(environ, encoding, sixteen, expected):
    found = looks(environ, encoding, sixteen=sixteen)
    assert (found.ascii, found.colour, found.tints) == expected


async def test_a_source_that_is_gone_is_violet_and_its_value_goes(tmp_path):
    gone = [SourceSeen(line=name, at=NOW, source="prom", state="gone", words="refused") for name in LINES[:3]]
    with shop(tmp_path, *gone) as made:
        made.clock.at = NOW + 400
        made.engine.view = view(at=NOW + 400)
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            text = await settle(room, pilot, "blind on 3 lines")
            assert "? no data 14:01" in text
            assert "prom gone 6 m" in text
            assert "prom does not answer: refused" in text


async def test_an_engine_that_is_silent_is_said_and_everything_dims(tmp_path):
    with shop(tmp_path) as made:
        made.engine.view = view(lease=None, here=False)
        room = made.room()
        room.sight._lease_real -= 60
        async with room.run_test(size=(100, 24)) as pilot:
            text = await settle(room, pilot, "nobody watches")
            assert "F9 and F4 still act, straight from here" in text
            inks = {ink.fg for rows in room.front.floor._rows.values() for row in rows for _, ink in row}
            assert not inks & {"ok", "stop", "warn", "move"}


async def test_a_room_that_only_looks_says_so_and_asks_for_nothing(tmp_path):
    with shop(tmp_path) as made:
        made.engine.read_only = True
        room = made.room()
        async with room.run_test(size=(100, 24)) as pilot:
            text = await settle(room, pilot, "read-only")
            assert "F9  read-only" in text
            await pressed(room, pilot, "enter", "g")
            assert not isinstance(room.screen, ReasonScreen)
            assert room.danger.armed is None
            assert made.engine.asked == []


async def test_nothing_known_yet_shows_the_lines_and_what_is_read(tmp_path):
    with shop(tmp_path, names=()) as made:
        made.config = type(made.config)(**{**_fields(made.config), "lines": {"fresh": _line(tmp_path)}})
        made.engine.view = view((), without="target:", lease=None, here=False)
        room = made.room()
        room.sight._opened += 60
        async with room.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            await until(lambda: "reading 4 sources" in screen_text(room))
            text = screen_text(room)
            assert "· fresh" in text
            assert "nothing shipped yet" in text
            assert "F4  nothing was deployed yet" in text


def _fields(record):
    return {name: getattr(record, name) for name in record.__struct_fields__}


def _line(tmp_path):
    from tests.room_helpers import config

    found = config(tmp_path, ("checkout",)).lines["checkout"]
    return type(found)(**{**_fields(found), "name": "fresh"})


async def test_a_panel_that_raises_takes_nothing_else_with_it(tmp_path, monkeypatch):
    def raises(*_):
        raise KeyError("n")

    with shop(tmp_path) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            with monkeypatch.context() as patch:
                patch.setattr(LineFacts, "draw", raises)
                text = await pressed(room, pilot, "down", seen="this panel failed: KeyError")
                assert "search" in text
                await pressed(room, pilot, "f9")
                assert made.engine.asked == [("pull", "search")]
            text = await pressed(room, pilot, "ctrl+l", seen="search  ")
            assert "this panel failed" not in text


async def test_a_row_that_raises_takes_no_other_line_with_it(tmp_path, monkeypatch):
    from tui.panels import floor_row

    real = floor_row.draw

    def raises(moment, sheet, cols, name, **rest):
        if name == "search":
            raise ValueError("no")
        real(moment, sheet, cols, name, **rest)

    monkeypatch.setattr(floor_row, "draw", raises)
    with shop(tmp_path) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            text = await settle(room, pilot, "search: this row failed: ValueError")
            assert "storefront" in text


async def test_when_the_state_of_a_line_cannot_be_told_f9_still_stops_it(tmp_path, monkeypatch):
    def raises(*_):
        raise KeyError("n")

    with shop(tmp_path) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            for module in ("facts", "floor", "floor_row", "line_facts", "top"):
                monkeypatch.setattr(f"tui.panels.{module}.status", raises)
            monkeypatch.setattr("tui.arming.rollback_words", raises)
            made.clock.at += 10
            await until(lambda: "this panel failed: KeyError" in screen_text(room))
            assert room.danger.armed is None
            assert "could not be worked out" in room.danger.why_not
            await pilot.press("f9")
            await until(lambda: made.engine.asked == [("pull", "checkout")])


async def test_the_floor_draws_what_is_seen_of_a_thousand_lines(tmp_path):
    names = tuple(f"line-{number}" for number in range(1000))
    with shop(tmp_path, names=()) as made:
        from tests.room_helpers import config

        made.config = config(tmp_path, names)
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            await until(lambda: "line-0" in screen_text(room))
            assert len(room.front.floor._rows) < 30
            await pilot.press("end")
            await until(lambda: "line-999" in screen_text(room))
            assert "stop line-999" in screen_text(room)


async def test_lines_below_the_edge_are_counted(tmp_path):
    with shop(tmp_path, hold("invoices", "bo", 100, "look")) as made:
        room = made.room()
        async with room.run_test(size=(80, 22)) as pilot:
            await settle(room, pilot, "▾ 1 stopped below")


async def test_one_bell_for_each_new_hold(tmp_path):
    with shop(tmp_path, hold("search", "bo", 100, "look")) as made:
        room = made.room()
        bells = []
        room.announcer._bell = lambda: bells.append(1)
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot, "search")
            assert bells == []
            made.write(hold("mail", "cy", 1, "look"))
            await settle(room, pilot, "mail STOPPING")
            await pilot.pause(0.3)
            assert bells == [1]


# The belt


def test_pieces_lie_at_their_stations_and_what_was_overtaken_is_gone(tmp_path):
    from andon.board import Board
    from tui.panels.belt import pieces

    board = Board()
    for event in calm("accounts"):
        board = board.apply(event)
    found = {piece.change.id[:4]: (piece.station, piece.state) for piece in pieces(board.line("accounts"))}
    assert found == {"b2c9": (2, "failed"), "e11d": (0, "waits")}


async def test_a_rollback_on_its_way_points_against_the_flow(tmp_path):
    with shop(tmp_path, *incident(), dips=("revenue/min",)) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            assert "4f2a◀━77aa" in await settle(room, pilot, "rolling back")


# The danger keys


@pytest.mark.parametrize(
    "keys",
    [(), ("enter",), ("question_mark",), ("enter", "g", "a", "f9"), ("p",), ("enter", "g", "x")],
    ids=["floor", "line", "keys", "reason, typed", "palette", "reason"],
)
async def test_f9_stops_the_line_of_the_danger_row_on_every_screen(tmp_path, keys):
    with shop(tmp_path) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "down", "down", seen="stop payments")
            for key in keys:
                await pilot.press(key)
                await pilot.pause()
            await pilot.press("f9")
            await until(lambda: ("pull", "payments") in made.engine.asked)
            assert {line for _, line, *_ in made.engine.asked} == {"payments"}


async def test_stopping_is_said_before_the_ledger_knows(tmp_path):
    with shop(tmp_path) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot, "stop checkout")
            text = await pressed(room, pilot, "f9", seen="checkout STOPPING")
            assert "F9  checkout is stopping" in text
            assert "■ held" in text


async def test_a_pull_that_was_refused_is_told_and_the_line_is_not_shown_as_stopping(tmp_path):
    with shop(tmp_path) as made:
        made.engine.refuses = "read-only for checkout: a newer andon wrote hold-x"
        room = made.room()
        async with room.run_test(size=(100, 30), notifications=True) as pilot:
            await settle(room, pilot, "stop checkout")
            text = await pressed(room, pilot, "f9", seen="a newer andon wrote")
            assert "STOPPING" not in text


async def test_stopped_is_said_only_when_every_target_was_read(tmp_path):
    halt = act("halt", "checkout", "gh/deploy.yml", "che00001", 20, hold="che00001")
    with shop(tmp_path, hold("checkout", "bo", 20, "odd", id_="che00001"), *done(halt, 0.2, 1)) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            text = await settle(room, pilot, "checkout stopping")
            assert "checkout is stopping" in text
            verified = ActStepped(line="checkout", at=NOW - 1, act=halt.id, was="accepted", now="verified")
            made.write(halted_now("checkout", 1, "andon hold che00001 by bo"), verified)
            await settle(room, pilot, "checkout stopped")


async def test_f4_is_what_the_danger_row_says(tmp_path):
    with shop(tmp_path) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            text = await settle(room, pilot, "F4")
            assert "roll back checkout 5de1 → 4f2a, healthy 3 d" in text
            await until(lambda: room.danger.armed is not None)
            assert (room.danger.armed.line, room.danger.armed.target) == ("checkout", sha("4f2a"))
            await until(lambda: time.time() - room.danger.armed.painted_at > 0.3)
            await pilot.press("f4")
            await until(lambda: made.engine.asked)
            assert made.engine.asked == [("rollback", "checkout", "d-5de1-12", 3.0, 2.0)]


async def test_a_target_that_has_just_appeared_is_read_again(tmp_path):
    with shop(tmp_path) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot, "F4")
            await until(lambda: room.danger.armed is not None)
            fresh = msgspec.structs.replace(room.danger.armed, painted_at=time.time())
            room._roll_back(fresh)
            assert made.engine.asked[0][:4] == ("rollback", "checkout", "d-5de1-12", 3.0)
            assert made.engine.asked[0][4] > 3 * 5.0


async def test_f4_has_no_grace_when_the_verdict_is_regressed(tmp_path):
    bad = Verdict("regressed", "conversion 3.1 % → 1.2 %", "conversion", NOW - 300, NOW - 60)
    judged = Judged(line="checkout", at=NOW - 60, deployment="d-5de1-12", verdict=bad)
    with shop(tmp_path, judged) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            text = await settle(room, pilot, "checkout regressed")
            assert "✗ conv" in text
            await until(lambda: room.danger.armed is not None)
            await pilot.press("f4")
            await until(lambda: made.engine.asked)
            assert made.engine.asked[0][:4] == ("rollback", "checkout", "d-5de1-12", 0.0)


async def test_f4_is_not_armed_where_it_cannot_act_and_says_why(tmp_path):
    with shop(tmp_path, *incident(), dips=("revenue/min",)) as made:
        room = made.room()
        async with room.run_test(size=(80, 24), notifications=True) as pilot:
            await settle(room, pilot)
            text = await pressed(room, pilot, "down", "down", seen="nothing to undo: on 4f2a")
            assert room.danger.armed is None
            text = await pressed(room, pilot, "f4", seen="F4: nothing to undo")
            assert made.engine.asked == [], text


async def test_f4_is_not_armed_under_a_dialog_or_the_palette(tmp_path):
    with shop(tmp_path) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            await until(lambda: room.danger.armed is not None)
            await pilot.press("p")
            await until(lambda: room.danger.armed is None)
            await pilot.press("escape")
            await until(lambda: room.danger.armed is not None)
            await pressed(room, pilot, "enter", "g", seen="not while the reason is open")
            assert room.danger.armed is None


async def test_f4_is_not_armed_when_its_target_has_no_room(tmp_path):
    with shop(tmp_path) as made:
        room = made.room()
        async with room.run_test(size=(20, 5)) as pilot:
            await pilot.pause()
            await until(lambda: "stop checkout" in screen_text(room))
            await until(lambda: "make the window wider" in room.danger.why_not)
            assert room.danger.armed is None
            assert room.danger.stop_line == "checkout"


async def test_f4_is_armed_on_the_tiny_page_where_its_versions_can_be_read(tmp_path):
    with shop(tmp_path) as made:
        room = made.room()
        async with room.run_test(size=(40, 6)) as pilot:
            await pilot.pause()
            await until(lambda: "F4 roll back checkout 5de1 → 4f2a" in screen_text(room))
            await until(lambda: room.danger.armed is not None)


async def test_data_that_is_old_is_read_again_before_a_rollback(tmp_path):
    with shop(tmp_path) as made:
        made.engine.view = view(without="source:checkout/nomad")
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot, "F4  reads checkout first, then 5de1 → 4f2a")


def graceful(seconds: float = 2.0):
    item = act(
        "rollback",
        "checkout",
        "nomad",
        "d-5de1-12",
        1,
        expected="d-5de1-12",
        version=sha("4f2a"),
        not_before=NOW + seconds,
    )
    return item, [
        hold("checkout", "bo", 1, "rolled back by key", id_="che00001"),
        ActAsked(line="checkout", at=NOW, act=item),
    ]


async def test_the_grace_of_a_rollback_stands_in_every_room_and_esc_withdraws_it(tmp_path):
    item, events = graceful()
    with shop(tmp_path, *events) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            text = await pressed(room, pilot, "down", "enter", seen="withdraw the rollback; the line stays held")
            assert "rolling back checkout, production   5de1 → 4f2a" in text
            await pilot.press("escape")
            await until(lambda: made.engine.asked)
            assert made.engine.asked == [("withdraw", "checkout", item.id)]
            assert isinstance(room.screen, LineScreen)


async def test_a_rollback_that_was_sent_already_is_not_withdrawn_and_that_is_told(tmp_path):
    _, events = graceful()
    with shop(tmp_path, *events) as made:
        made.engine.false = True
        room = made.room()
        async with room.run_test(size=(100, 30), notifications=True) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "escape", seen="it was sent already")


async def test_the_strip_goes_when_the_grace_is_over(tmp_path):
    _, events = graceful()
    with shop(tmp_path, *events) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot, "withdraw the rollback")
            made.clock.at = NOW + 3
            text = await settle(room, pilot, "F4  already rolling back to 4f2a")
            assert "withdraw" not in text


# Other acts


async def test_a_line_is_resumed_with_a_reason_and_f8_not_enter(tmp_path):
    with shop(tmp_path, *incident(), dips=("revenue/min",)) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "down", "down", "r", seen="pay00001  immune")
            await pressed(room, pilot, "f8", seen="a reason is needed")
            await pressed(room, pilot, *"fixed", seen="fixed")
            await pressed(room, pilot, "enter", seen="Enter does not confirm: F8 does")
            assert made.engine.asked == []
            await pilot.press("f8")
            await until(lambda: made.engine.asked)
            assert made.engine.asked == [("resume", "payments", "fixed", "pay00001", False)]


async def test_of_several_holds_one_or_all_are_lifted(tmp_path):
    holds = [hold("mail", "bo", 60, "queue", id_="mail0001"), hold("mail", "cy", 30, "me too", id_="mail0002")]
    with shop(tmp_path, *holds) as made:
        room = made.room(line="mail")
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot, "stop")
            text = await pressed(room, pilot, "r", "o", "k", "down", "down", seen="all of them")
            assert "mail0001" in text
            assert "mail0002" in text
            await pilot.press("f8")
            await until(lambda: made.engine.asked)
            assert made.engine.asked == [("resume", "mail", "ok", "", True)]


async def test_t_takes_the_holds_nobody_has(tmp_path):
    with shop(tmp_path, hold("mail", "bo", 60, "queue", id_="mail0001")) as made:
        room = made.room(line="mail")
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot, "nobody has it")
            await pilot.press("t")
            await until(lambda: made.engine.asked)
            assert made.engine.asked == [("take", "mail", "mail0001")]


async def test_the_picked_deployment_is_marked(tmp_path):
    with shop(tmp_path) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "enter", "down", "x", seen="mark checkout 4f2a faulty")
            await pressed(room, pilot, *"leaks", "f8")
            await until(lambda: made.engine.asked)
            assert made.engine.asked == [("mark", "checkout", "d-4f2a-4400", "faulty", "leaks")]


async def test_a_failed_act_is_told_and_stays_on_the_line_screen(tmp_path):
    halt = act("halt", "checkout", "gh/deploy.yml", "che00001", 20, hold="che00001")
    with shop(tmp_path, hold("checkout", "bo", 20, "odd", id_="che00001"), *done(halt, 0.2)) as made:
        room = made.room()
        async with room.run_test(size=(100, 30), notifications=True) as pilot:
            await settle(room, pilot)
            words = "job is locked by cy [/]"
            refused = ActStepped(line="checkout", at=NOW, act=halt.id, was="sent", now="refused", words=words)
            made.write(refused)
            await settle(room, pilot, "halt gh/deploy.yml refused: job is locked by cy")
            text = await pressed(room, pilot, "enter", seen="✗ block")
            assert "refused: job is locked by cy [/]" in text


async def test_an_act_nobody_knows_the_end_of_is_violet_and_a_person_may_say(tmp_path):
    item, events = graceful(-0.5)
    steps = [
        ActStepped(line="checkout", at=NOW, act=item.id, was="intent", now="sent"),
        ActStepped(line="checkout", at=NOW, act=item.id, was="sent", now="unknown", words="nomad did not answer"),
    ]
    with shop(tmp_path, *events, *steps) as made:
        room = made.room()
        async with room.run_test(size=(100, 24)) as pilot:
            text = await settle(room, pilot, "checkout unknown")
            assert "nomad did not answer; reading" in text
            assert "y it happened  N it did not" in text
            await pilot.press("N")
            await until(lambda: made.engine.asked)
            assert made.engine.asked == [("resolve", "checkout", item.id, False)]


async def test_a_deployment_that_is_rolling_lies_at_its_station(tmp_path):
    rolling = Deployment("d-new", sha("3f2a"), "rolling", NOW - 20, "ann")
    with shop(tmp_path, DeploymentSeen(line="checkout", at=NOW - 20, source="nomad", deployment=rolling)) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            text = await settle(room, pilot, " 3f2a ")
            row = next(row for row in text.split("\n") if "● checkout" in row)
            assert row[41:47] == " 3f2a "
            assert "5de1" in row


# Moving about


async def test_a_panel_that_takes_its_place_is_drawn_at_once(tmp_path):
    with shop(tmp_path, hold("checkout", "bo", 60, "odd")) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            text = await pressed(room, pilot, "enter", seen="confirmed by a read")
            assert "60 min · 1 of 2" not in text
            await pressed(room, pilot, "m", seen="60 min · 1 of 2")
            await pressed(room, pilot, "h", seen="confirmed by a read")


async def test_find_sort_and_worst(tmp_path):
    with shop(tmp_path, *incident(), dips=("revenue/min",)) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            assert (await pressed(room, pilot, "n", seen="F9  payments")).count("payments") > 1
            await pressed(room, pilot, "s")
            assert room.sight.order[:2] == ("payments", "search")
            text = await pressed(room, pilot, "slash", *"ma", seen="stop mail")
            assert "catalog" not in text
            text = await pressed(room, pilot, *"zz", seen="no line matches “mazz” · esc clears")
            assert "payments stopped" in text, "what is filtered away is still in trouble"
            assert room.danger.stop_line == "mail"
            text = await pressed(room, pilot, "escape", seen="catalog")


async def test_q_asks_once_when_nobody_would_watch(tmp_path):
    words = "3 deployments are being watched here, nobody else is running: q again to leave"
    with shop(tmp_path) as made:
        made.engine.view = view(without="person:")
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "q", seen=words)
            assert room.is_running
            await pilot.press("q")
            await until(lambda: room._exit)
        assert room.return_code == 0


async def test_q_leaves_at_once_when_others_are_there(tmp_path):
    with shop(tmp_path) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            await pilot.press("ctrl+c")
            await until(lambda: room._exit)


def test_every_command_is_there_once_and_can_be_done():
    assert len({command.id for command in commands.COMMANDS}) == len(commands.COMMANDS)
    for command in commands.COMMANDS:
        assert command.where == (commands.REPLAY,) or hasattr(Doing, f"do_{command.id}"), command.id
        assert command.tooltip, command.id
    for where in commands.EVERYWHERE:
        keys = [key for command in commands.of(where) for key in command.key.split(",")]
        assert len(set(keys)) == len(keys), where


async def test_the_keys_page_names_every_key(tmp_path):
    with shop(tmp_path) as made:
        room = made.room()
        async with room.run_test(size=(100, 40)) as pilot:
            await settle(room, pilot)
            text = await pressed(room, pilot, "question_mark", seen="stop and undo")
            for command in commands.COMMANDS:
                elsewhere = command.where in ((commands.REPLAY,), (commands.WALL,))
                if command.id not in ("up", "down", "first", "last") and not elsewhere:
                    assert command.title in text, command.id


async def test_a_click_on_the_danger_row_is_the_key(tmp_path):
    with shop(tmp_path) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot, "stop checkout")
            await until(lambda: room.danger.stop_line == "checkout")
            await pilot.click(DangerRow, offset=(6, 0))
            await until(lambda: made.engine.asked)
            assert made.engine.asked == [("pull", "checkout")]


async def test_f9_in_the_room_stops_a_line_of_the_plant(tmp_path):
    """The real engine, the real ledger, the plant outside: pulled by key, proven by a read, resumed with a reason."""
    clock, own = WallClock(), tmp_path / "own"
    own.mkdir(mode=0o700)
    found = demo_config(tmp_path, 7)
    keeper = Keeper(lambda: SqliteLedger(own / "ledger.db", clock), clock).start()
    engine = Engine(found, keeper, clock, own, who="ann", terminal="here:pts/1").start()
    try:
        room = Room(found, keeper, engine, clock)
        async with room.run_test(size=(100, 30)) as pilot:
            await until(lambda: "F4  roll back checkout" in screen_text(room))
            await until(lambda: room.danger.stop_line == "checkout")
            await pilot.press("f9")
            await until(lambda: "checkout stopped" in screen_text(room))
            assert keeper.board.line("checkout").open_holds[0].owner == "ann"
            await pilot.press("enter", "r", *"ok", "f8")
            await until(lambda: "● checkout runs" in screen_text(room))
    finally:
        engine.stop()
        keeper.close()


def test_nothing_heavy_is_brought_in_before_the_first_paint():
    code = "import tui.app, sys; print(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=GOLDEN.parents[1]
    )
    held = set(found.stdout.split())
    assert not held & {"plotext", "httpx", "numpy", "adapters.plant", "psycopg", "keyring"}


def test_in_a_real_terminal_f9_stops_f4_can_be_withdrawn_and_q_leaves(tmp_path):
    with Program([sys.executable, "-m", "tui", "demo"], columns=80, rows=24, cwd=GOLDEN.parents[1]) as room:
        room.wait_for("F9  stop checkout    F4  roll back checkout")
        room.type("\x1b[20~")
        room.wait_for("checkout stopped")
        room.wait_for("F9  checkout is stopped")

        def pressed() -> bool:
            """F4, until it is taken: while the history still streams in, its target changes and it says so."""
            room.type("\x1b[14~")
            with suppress(AssertionError):
                room.wait_for("withdraw the rollback; the line stays held", 2)
            return "withdraw the rollback; the line stays held" in room.text

        room.wait_until(pressed, 40)
        room.type("\x1b")
        room.wait_for("F9  checkout is stopped")
        room.type("q")
        room.wait_for("q again to leave")
        room.type("q")
        assert room.exit_code() == 0
