"""The screen of a hold: who, why, since, until, whose turn; the proof; what comes next; and what its keys change."""

import time

import msgspec
import pytest

from andon.events import ActStepped, ChangesSeen, HaltedSeen, HoldChanged, HoldLifted, HoldTaken, RunSeen
from andon.model import Halted, Part
from tests.helpers import HOSTILE, until
from tests.room_helpers import NOW, act, change, done, halted_now, hold, incident, run_of, settle, shop
from tests.test_record import named, nightly
from tests.test_room import golden, pressed
from tui.screens.change import ChangeScreen, end_of
from tui.screens.hold import HoldScreen

DOWN = ("down", "down")
TWO = (hold("mail", "bo", 60, "queue grows", id_="mail0001"), hold("mail", "ann", 30, "me too", id_="mail0002"))


def stopped(line="mail", owner="bo", seconds=600.0, why="queue grows", id_="mail0001"):
    """A line that was stopped, and whose target stands."""
    halt = act("halt", line, "gh/deploy.yml", id_, seconds, hold=id_, who=owner)
    return [
        hold(line, owner, seconds, why, id_=id_),
        *done(halt, 0.2, 1, 3),
        halted_now(line, seconds - 3, f"andon hold {id_} by {owner}"),
    ]


def lifted():
    """The same, resumed a minute ago."""
    release = act("release", "mail", "gh/deploy.yml", "mail0001", 60, hold="mail0001", who="ann")
    read = Halted((Part("deploy.yml", False),), NOW - 58)
    return [
        *stopped(),
        HoldLifted(line="mail", at=NOW - 60, hold="mail0001", who="ann", why="queue drained"),
        *done(release, 0.2, 1, 2),
        HaltedSeen(line="mail", at=NOW - 58, target="gh/deploy.yml", halted=read),
    ]


PICTURES = [
    ("hold-80x24", (80, 24), {}, incident, (*DOWN, "h"), ""),
    ("hold-100x30", (100, 30), {}, incident, (*DOWN, "h"), ""),
    ("hold-160x48", (160, 48), {}, incident, (*DOWN, "h"), ""),
    nightly("hold-60x18", (60, 18), {}, incident, (*DOWN, "h"), ""),
    nightly("hold-80x24-ascii", (80, 24), {"NO_COLOR": "1", "TERM": "linux"}, incident, (*DOWN, "h"), ""),
    nightly("hold-80x24-sixteen", (80, 24), {"TERM": "screen"}, incident, (*DOWN, "h"), ""),
    nightly("hold-80x24-two", (80, 24), {}, lambda: TWO, ("h",), "mail"),
    ("hold-80x24-lifted", (80, 24), {}, lifted, ("h",), "mail"),
    ("hold-80x24-extend", (80, 24), {}, lambda: TWO, ("h", "x"), "mail"),
    ("hold-80x24-through", (80, 24), {}, incident, (*DOWN, "h", "f"), ""),
]


@pytest.mark.parametrize(("name", "size", "env", "events", "keys", "line"), PICTURES, ids=named(PICTURES))
async def test_the_hold_looks_as_agreed(tmp_path, monkeypatch, name, size, env, events, keys, line):
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    dips = ("revenue/min",) if events is incident else ()
    with shop(tmp_path, *events(), dips=dips) as made:
        room = made.room(line=line)
        async with room.run_test(size=size) as pilot:
            await settle(room, pilot)
            golden(name, await pressed(room, pilot, *keys))


async def test_it_says_who_why_since_until_and_whose_turn_it_is(tmp_path):
    changed = HoldChanged(line="mail", at=NOW - 30, hold="mail0001", who="bo", until=NOW + 1800)
    taken = HoldTaken(line="mail", at=NOW - 20, hold="mail0001", who="cy")
    with shop(tmp_path, *stopped(), changed, taken) as made:
        room = made.room(line="mail")
        async with room.run_test(size=(100, 30)) as pilot:
            await settle(room, pilot)
            text = await pressed(room, pilot, "h", seen="cy's turn")
            assert "by bo  since 13:52, 10 min  until 14:32, 30 min left" in text
            assert "queue grows" in text
            made.clock.at = NOW + 1900
            await settle(room, pilot, "cy's turn: extend or resume")
            text = await settle(room, pilot, "was meant until 14:32")
            assert "extend: the time it was meant for is over" in text
            assert made.keeper.board.line("mail").open_holds, "nothing lifts by itself"


async def test_what_still_moves_is_named(tmp_path):
    halt = act("halt", "mail", "gh/deploy.yml", "mail0001", 40, hold="mail0001")
    moving = Halted((Part("deploy.yml", False, "", ("run 8812",)),), NOW - 2)
    seen = HaltedSeen(line="mail", at=NOW - 2, target="gh/deploy.yml", halted=moving)
    with shop(tmp_path, hold("mail", "bo", 40, "odd", id_="mail0001"), *done(halt, 0.2, 1), seen) as made:
        room = made.room(line="mail")
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            text = await pressed(room, pilot, "h", seen="still moves")
            assert "gh/deploy.yml: run 8812" in text
            assert "resume: better after 1 more confirm" in text


async def test_of_an_act_nobody_knows_the_end_of_the_next_step_is_to_look(tmp_path):
    back = act("rollback", "mail", "nomad", "d-2b7f-2900", 30, expected="d-2b7f-2900", version="4f2a")
    unknown = [*done(back, 0.2), ActStepped(line="mail", at=NOW - 20, act=back.id, was="sent", now="unknown")]
    with shop(tmp_path, *stopped(), *unknown) as made:
        room = made.room(line="mail")
        async with room.run_test(size=(100, 30)) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "h", seen="an act is unknown: look there")
            await pressed(room, pilot, "N")
            assert made.engine.asked == [("resolve", "mail", back.id, False)]


async def test_up_and_down_pick_another_hold_of_the_same_stop_and_acts_are_about_it(tmp_path):
    with shop(tmp_path, *TWO) as made:
        room = made.room(line="mail")
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "h", seen="hold mail0001")
            await pressed(room, pilot, "down", seen="hold mail0002")
            await pressed(room, pilot, "t")
            assert made.engine.asked == [("take", "mail", "mail0002")]
            await pressed(room, pilot, "r", "o", "k", "f8")
            assert made.engine.asked[-1] == ("resume", "mail", "ok", "mail0002", False)


async def test_t_takes_what_nobody_has_and_hands_over_what_you_have(tmp_path):
    with shop(tmp_path, *stopped()) as made:
        room = made.room(line="mail")
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "h", "t")
            made.write(HoldTaken(line="mail", at=NOW, hold="mail0001", who="ann"))
            await settle(room, pilot, "your turn")
            text = await pressed(room, pilot, "t", seen="hand mail over")
            assert "bo           here now" in text
            await pressed(room, pilot, "down", seen="to cy; F8 confirms")
            await pressed(room, pilot, "enter", seen="Enter does not confirm: F8 does")
            await pressed(room, pilot, "f8")
            await pressed(room, pilot, "t", *"dee", "f8")
            assert made.engine.asked == [
                ("take", "mail", "mail0001"),
                ("hand over", "mail", "mail0001", "cy"),
                ("hand over", "mail", "mail0001", "dee"),
            ]


async def test_the_reason_is_edited_from_what_it_is_and_never_empty(tmp_path):
    with shop(tmp_path, *stopped()) as made:
        room = made.room(line="mail")
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "h", "i", seen="why mail is held")
            await pressed(room, pilot, "space", *"again", "f8")
            assert made.engine.asked == [("change", "mail", "mail0001", "queue grows again", None)]
            await pressed(room, pilot, "i")
            room.screen.input.value = "  "
            await pressed(room, pilot, "f8", seen="a reason is needed")
            assert len(made.engine.asked) == 1


async def test_it_is_extended_by_what_is_picked_or_typed_and_nonsense_is_refused(tmp_path):
    with shop(tmp_path, *stopped()) as made:
        room = made.room(line="mail")
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "h", "x", "down", seen="until 16:02; F8 confirms")
            await pressed(room, pilot, "f8", "x", *"90m", seen="until 15:32; F8 confirms")
            await pressed(room, pilot, "f8", "x", *"soon", seen="write 90m, 8h or 16:30")
            await pressed(room, pilot, "f8", seen="is not a duration")
            assert isinstance(room.screen, ChangeScreen)
            room.screen.input.value = ""
            await pressed(room, pilot, "down", "down", "down", "down", seen="no end; F8 confirms")
            await pressed(room, pilot, "f8")
            ends = [what[-1] for what in made.engine.asked]
            assert ends == [NOW + 7200, NOW + 5400, 0.0]


async def test_a_fix_is_pushed_through_with_a_reason(tmp_path):
    waits = ChangesSeen(line="mail", at=NOW - 90, source="gh", changes=(change("f1f1", "bo", 2, "Drain the queue"),))
    with shop(tmp_path, *stopped(), waits) as made:
        room = made.room(line="mail")
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            text = await pressed(room, pilot, "h", "f", seen="f1f1012  bo        not run    Drain the queue")
            assert "40aa" in text
            await pressed(room, pilot, "f8", seen="a reason is needed: what the fix does")
            await pressed(room, pilot, *"drains", "f8")
            asked = made.engine.asked[0]
            assert (asked[0], asked[2][:4], *asked[3:]) == ("push", "f1f1", "drains", "mail0001")


async def test_the_newest_change_whose_tests_passed_is_picked_first(tmp_path):
    older, newest = change("f1f1", "bo", 3, "Drain the queue"), change("f2f2", "cy", 2, "Unrelated")
    seen = ChangesSeen(line="mail", at=NOW - 90, source="gh", changes=(older, newest))
    run = run_of("f1f1", "deploy", "waiting", 1)
    with shop(tmp_path, *stopped(), seen, RunSeen(line="mail", at=run.at, source="gh", run=run)) as made:
        room = made.room(line="mail")
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            text = await pressed(room, pilot, "h", "f", seen="▌ f1f1012  bo        passed     Drain the queue")
            assert "  f2f2012  cy        not run    Unrelated" in text
            assert "  40aa012  gus       running    Change 40aa" in text


async def test_what_was_picked_stays_picked_when_another_change_comes_in(tmp_path):
    waits = ChangesSeen(line="mail", at=NOW - 90, source="gh", changes=(change("f1f1", "bo", 2, "Drain the queue"),))
    newer = ChangesSeen(line="mail", at=NOW, source="gh", changes=(change("f2f2", "cy", 1, "Unrelated"),))
    with shop(tmp_path, *stopped(), waits) as made:
        room = made.room(line="mail")
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "h", "f", seen="▌ f1f1012")
            made.write(newer)
            text = await settle(room, pilot, "f2f2012")
            assert "▌ f1f1012" in text
            await pressed(room, pilot, *"drains", "f8")
            assert made.engine.asked[0][2][:4] == "f1f1"


async def test_a_hold_that_is_lifted_meanwhile_gives_its_place_to_no_other(tmp_path):
    with shop(tmp_path, *TWO) as made:
        room = made.room(line="mail")
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "r", "o", "k", seen="▌ mail0001")
            made.write(HoldLifted(line="mail", at=NOW, hold="mail0001", who="cy", why="fixed"))
            await settle(room, pilot, lambda text: "mail0001" not in text)
            await pressed(room, pilot, "f8", seen="it was lifted meanwhile: pick another")
            assert made.engine.asked == []
            await pressed(room, pilot, "down", "f8")
            assert made.engine.asked == [("resume", "mail", "ok", "mail0002", False)]


async def test_without_a_change_that_waits_nothing_can_be_pushed(tmp_path):
    with shop(tmp_path, *stopped("catalog", id_="cat00001")) as made:
        room = made.room(line="catalog")
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "h", "f", seen="no change waits; andon push catalog VERSION --through cat00001")
            await pressed(room, pilot, *"x", "f8", seen="no change waits behind this stop")
            assert made.engine.asked == []


async def test_a_dialog_whose_hold_was_lifted_meanwhile_says_so_and_asks_nothing(tmp_path):
    with shop(tmp_path, *stopped()) as made:
        room = made.room(line="mail")
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "h", "i", *"x")
            made.write(HoldLifted(line="mail", at=NOW, hold="mail0001", who="cy", why="fixed"))
            await settle(room, pilot, "hold mail0001 was lifted: esc goes back")
            await pressed(room, pilot, "f8")
            assert made.engine.asked == []
            await pressed(room, pilot, "escape", seen="lifted by cy: fixed")


async def test_f8_pressed_twice_asks_once(tmp_path):
    with shop(tmp_path, *stopped()) as made:
        room = made.room(line="mail")
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "h", "x", "f8", "f8")
            assert len(made.engine.asked) == 1


async def test_what_the_core_refuses_is_told(tmp_path):
    with shop(tmp_path, *stopped()) as made:
        made.engine.refuses = "mail has no open hold mail0001"
        room = made.room(line="mail")
        async with room.run_test(size=(100, 30), notifications=True) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "h", "x", "f8", seen="mail has no open hold mail0001")


async def test_a_lifted_hold_keeps_its_proof_and_its_timeline(tmp_path):
    with shop(tmp_path, *lifted()) as made:
        room = made.room(line="mail")
        async with room.run_test(size=(80, 24), notifications=True) as pilot:
            await settle(room, pilot)
            text = await pressed(room, pilot, "h", seen="lifted by ann: queue drained")
            assert "✓ release" in text
            assert "mail was resumed after 9 min" in text
            assert "✓ resumed by ann: queue drained" in text
            await pressed(room, pilot, "x", seen="mail has no open hold")
            assert made.engine.asked == []


async def test_a_line_that_was_never_stopped_has_no_such_screen(tmp_path):
    with shop(tmp_path) as made:
        room = made.room()
        async with room.run_test(size=(80, 24), notifications=True) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "h", seen="checkout was never stopped")
            assert not isinstance(room.screen, HoldScreen)


async def test_in_a_room_that_only_looks_no_key_changes_a_hold(tmp_path):
    with shop(tmp_path, *stopped()) as made:
        made.engine.read_only = True
        room = made.room(line="mail")
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "h", *"tixfr", "f7", "f8", "f9", "f4")
            assert isinstance(room.screen, HoldScreen)
            assert [what for what in made.engine.asked if what[0] != "pull"] == []


async def test_f9_and_f4_act_from_it(tmp_path):
    with shop(tmp_path, hold("checkout", "bo", 40, "odd", id_="che00001")) as made:
        room = made.room()
        async with room.run_test(size=(100, 30)) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "h", seen="roll back checkout 5de1 → 4f2a")
            await until(lambda: room.danger.armed is not None)
            await pressed(room, pilot, "f9", "f4")
            assert [what[:2] for what in made.engine.asked] == [("pull", "checkout"), ("rollback", "checkout")]
            await pressed(room, pilot, "x", "f9")
            assert made.engine.asked[-1] == ("pull", "checkout")


async def test_hostile_words_of_a_hold_are_harmless_at_every_size(tmp_path):
    why = " ".join(HOSTILE)
    placed = msgspec.structs.replace(hold("mail", HOSTILE[1], 40, why, id_="mail0001"))
    events = [placed, HoldTaken(line="mail", at=NOW, hold="mail0001", who=HOSTILE[2], by=HOSTILE[6])]
    events.append(HoldChanged(line="mail", at=NOW, hold="mail0001", who=HOSTILE[7], why=why))
    events.append(ChangesSeen(line="mail", at=NOW, source="gh", changes=(change("f1f1", why, 2, why),)))
    with shop(tmp_path, *events) as made:
        for size in ((160, 48),):
            room = made.room(line="mail")
            async with room.run_test(size=size) as pilot:
                await settle(room, pilot)
                for keys in (("h",), ("t",), ("escape", "f"), ("escape", "i")):
                    text = await pressed(room, pilot, *keys)
                    assert all(char.isprintable() or char == "\n" for char in text)
                    assert all(len(row) <= size[0] for row in text.split("\n"))
                assert not room._failed


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("90m", NOW + 5400),
        ("30 min", NOW + 1800),
        ("2h", NOW + 7200),
        ("2d", NOW + 172800),
        ("fixed", 0.0),
        ("16:30", None),
        ("03:00", None),
    ],
)
def test_an_end_is_written_as_a_duration_or_a_time_of_day(text, end):
    found = end_of(text, NOW)
    if end is not None:
        assert found == end
        return
    local = time.localtime(found)
    assert f"{local.tm_hour:02}:{local.tm_min:02}" == text
    assert NOW < found <= NOW + 90_000


@pytest.mark.parametrize("text", ["", "soon", "25:00", "12:60", "0m", "400d", "-5m", "1e9h", "::", "9:5", "١٢:٣٠"])
def test_nonsense_is_no_end(text):
    with pytest.raises(ValueError, match=r"duration|time|90m"):
        end_of(text, NOW)
