"""The events, the palette, the page about andon, and stopping everything: what is seen, found, opened, and asked."""

import msgspec
import pytest

from adapters.plant import ADAPTER as PLANT
from andon.board import Board
from andon.events import (
    KINDS,
    ActAsked,
    ActStepped,
    Armed,
    CallTaken,
    ChangesSeen,
    DeploymentSeen,
    HaltedSeen,
    Helped,
    HoldChanged,
    HoldLifted,
    HoldPlaced,
    HoldTaken,
    Judged,
    Marked,
    RunSeen,
    SourceSeen,
    Started,
    WatchOpened,
)
from andon.identities import Known
from andon.model import Identity
from andon.ports import Can, LedgerUnusable
from tests.helpers import HOSTILE, until
from tests.room_helpers import NOW, act, done, halted_now, hold, incident, settle, shop
from tests.test_room import golden, pressed
from tui.commands import COMMANDS
from tui.panels.record import KIND, item_of, matching
from tui.recalling import PAGE
from tui.screens.deployment import DeploymentScreen
from tui.screens.events import EventsScreen
from tui.screens.everything import EverythingScreen
from tui.screens.floor import FloorScreen
from tui.screens.hold import HoldScreen
from tui.screens.line import LineScreen
from tui.screens.run import RunScreen


def named(pictures):
    """What each picture is called."""
    return [(getattr(item, "values", item))[0] for item in pictures]


def nightly(*values):
    """A picture that is not taken at every run."""
    return pytest.param(*values, marks=pytest.mark.nightly)


PICTURES = [
    ("events-80x24", (80, 24), {}, ("e",)),
    nightly("events-100x30", (100, 30), {}, ("e",)),
    ("events-160x48", (160, 48), {}, ("e", "slash", *"all payments", "enter")),
    nightly("events-60x18", (60, 18), {}, ("e",)),
    nightly("events-80x24-ascii", (80, 24), {"NO_COLOR": "1", "TERM": "linux"}, ("e",)),
    ("everything-80x24", (80, 24), {}, ("E",)),
    ("keys-80x24-hold", (80, 24), {}, ("down", "down", "h", "question_mark")),
]


def typed(text: str) -> list[str]:
    """The keys of a text."""
    names = {" ": "space", ":": "colon", "/": "slash"}
    return [names.get(char, char) for char in text]


@pytest.mark.parametrize(("name", "size", "env", "keys"), PICTURES, ids=named(PICTURES))
async def test_the_screen_looks_as_agreed(tmp_path, monkeypatch, name, size, env, keys):
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    with shop(tmp_path, *incident(), dips=("revenue/min",)) as made:
        room = made.room()
        async with room.run_test(size=size) as pilot:
            await settle(room, pilot)
            text = await pressed(
                room, pilot, *(key for part in keys for key in ([part] if len(part) > 1 else typed(part)))
            )
            if name.startswith("events"):
                text = await settle(room, pilot, lambda seen: "looking" not in seen and "when" in seen)
            golden(name, text)


# ---- events


OPENS = [
    ("stopped by the immune", HoldScreen),
    ("pager told", HoldScreen),
    ("rollback to 4f2a asked by immune", HoldScreen),
    ("recovered", DeploymentScreen),
    ("line:payments 9c1d live", DeploymentScreen),
    ("marked faulty line:mail", DeploymentScreen),
    ("b2c9 failed in unit", RunScreen),
    ("line:mail gh answers", LineScreen),
]


async def opened(room, pilot, find, *, seen=""):
    """The events that match, and the screen."""
    if not isinstance(room.screen, EventsScreen):
        await pressed(room, pilot, "e", "slash", "x", "enter")
    room.screen.sought.value = find
    return await settle(room, pilot, seen)


async def test_each_row_opens_what_it_is_about(tmp_path):
    names = ("payments", "search", "accounts", "mail")
    with shop(tmp_path, *incident(), names=names, dips=("revenue/min",)) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            for find, screen in OPENS:
                await opened(room, pilot, find, seen="1 of ")
                await pilot.press("enter")
                await until(lambda wanted=screen: isinstance(room.screen, wanted), what=find)
                await pilot.press("escape")
                await until(lambda: isinstance(room.screen, EventsScreen))


async def test_they_are_found_by_line_kind_person_and_words(tmp_path):
    with shop(tmp_path, *incident(), dips=("revenue/min",)) as made:
        room = made.room()
        async with room.run_test(size=(100, 30)) as pilot:
            await settle(room, pilot)
            text = await opened(room, pilot, "line:search kind:hold", seen="stopped by bo")
            assert "payments" not in text.partition("what happened")[2].partition("─")[0]
            text = await opened(room, pilot, "who:cy", seen="cy took it")
            assert "stopped by bo" not in text
            await opened(room, pilot, "kind:verdict regressed", seen="regressed: revenue/min")
            await opened(
                room, pilot, "no such words", seen="nothing that happened matches “no such words” · esc clears"
            )


async def test_from_a_line_they_are_of_that_line_and_esc_goes_back(tmp_path):
    with shop(tmp_path, *incident(), dips=("revenue/min",)) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "down", "enter", "e", seen="line:search")
            text = await settle(room, pilot, "stopped by bo")
            assert "payments" not in text.partition("what happened")[2].partition("──")[0]
            await pressed(room, pilot, "slash", "b", "o", "enter", "escape", seen="line:search")
            assert isinstance(room.screen, EventsScreen)
            await pressed(room, pilot, "escape")
            assert isinstance(room.screen, LineScreen)


async def test_the_small_print_is_there_for_who_asks(tmp_path):
    with shop(tmp_path, *incident(), dips=("revenue/min",)) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            text = await pressed(room, pilot, "e", seen="stopped by bo")
            assert "sent" not in text
            await opened(room, pilot, "all search", seen="halt gh/deploy.yml sent")


async def test_a_picked_row_stays_picked_while_newer_ones_come_in(tmp_path):
    with shop(tmp_path, *incident(), dips=("revenue/min",)) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "e", seen="stopped by bo")
            await pressed(room, pilot, "down", seen="▌14:01:50 ■ search")
            made.write(hold("mail", "cy", 0, "look", id_="mail0009"))
            await settle(room, pilot, "stopped by cy: look")
            assert "▌14:01:50 ■ search" in await settle(room, pilot)
            await pressed(room, pilot, "home", seen="▌14:02:11 ■ mail")


@pytest.mark.nightly
async def test_older_pages_come_when_somebody_looks_for_them(tmp_path):
    many = [SourceSeen(line="mail", at=NOW - 90_000 - n, source=f"s{n}", state="gone") for n in range(PAGE + 100)]
    with shop(tmp_path) as made:
        made.keeper.submit(lambda ledger: ledger.commit(*many)).result()
        made.keeper.submit(lambda ledger: ledger.commit(hold("mail", "bo", 5, "odd", id_="mail0001"))).result()
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "e", seen="stopped by bo")
            await opened(room, pilot, "who:ann marked faulty line:catalog", seen="7be0 marked faulty")
            assert room.screen.recall.all_read


async def test_a_ledger_that_does_not_answer_is_said_and_the_rest_lives_on(tmp_path):
    with shop(tmp_path) as made:

        def broken(*_):
            raise LedgerUnusable("the disk is full")

        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            screen = EventsScreen(room.painter, made.keeper)
            screen.recall._newer = broken
            room.push_screen(screen)
            await settle(room, pilot, "the ledger does not answer: the disk is full")
            await pressed(room, pilot, "f9")
            assert made.engine.asked == [("pull", "checkout")]


def test_every_kind_of_event_has_a_row_with_words_and_something_to_open():
    board = Board().apply(*incident())
    found = act("halt", "mail", "gh/deploy.yml", "x", 5)
    events = [
        *incident(),
        CallTaken(line="mail", at=NOW, call="c", who="bo"),
        HoldChanged(line="mail", at=NOW, hold="h", who="bo", until=NOW + 60),
        HoldChanged(line="mail", at=NOW, hold="h", who="bo", why="else"),
        HoldTaken(line="mail", at=NOW, hold="h", who="cy", by="bo"),
        HoldLifted(line="mail", at=NOW, hold="h", who="cy", why="fixed"),
        Started(line="", at=NOW, holder="web-7-12-abcd", epoch=3),
        SourceSeen(line="mail", at=NOW, source="gh", state="denied", words="token"),
        Marked(line="mail", at=NOW, deployment="d", version="v", mark="good", who="ann", why="ok"),
        Armed(line="mail", at=NOW, deployment="d", metric="m", record="{}", first=NOW, every=60.0),
        WatchOpened(line="mail", at=NOW, deployment="d", version="v", until=NOW + 60, began=NOW),
        RunSeen(line="mail", at=NOW, source="gh", run=_run()),
        ActAsked(line="mail", at=NOW, act=found),
        ActStepped(line="mail", at=NOW, act=found.id, was="intent", now="expired", words="late"),
        ActStepped(line="mail", at=NOW, act="gone", was="intent", now="sent"),
    ]
    seen = {type(event) for event in events}
    assert seen == set(KINDS.values()), set(KINDS.values()) - seen
    acts = {}
    names = {cls: name for name, cls in KINDS.items()}
    for seq, event in enumerate(events, 1):
        item = item_of(seq, names[type(event)], event, acts, board.line(event.line))
        assert item.words, event
        assert item.about.what in ("hold", "deployment", "run", "line", "engine"), event
        assert item.kind in {*KIND.values(), "halt", "release", "push", "rollback", "cancel", "tell", "call", "act"}
    assert {ChangesSeen, DeploymentSeen, HaltedSeen, Helped, HoldPlaced, Judged} <= seen


def _run():
    from andon.model import Run

    return Run("r1", "c0ffee", "running", at=NOW)


def test_words_are_looked_for_everywhere_and_prefixes_in_one_place():
    acts = {}
    placed = hold("payments", "Ann", 5, "mail is slow")
    item = item_of(1, "hold-placed", placed, acts, Board().line("payments"))
    for find in ("", "mail", "MAIL slow", "line:pay", "kind:hold", "who:ann", "who:an slow", "payments ann"):
        assert matching([item], find) == [item], find
    for find in ("line:mail", "who:mail", "kind:mail", "bo", "line:pay bo"):
        assert matching([item], find) == [], find


async def test_hostile_events_are_harmless_rows(tmp_path):
    text = " ".join(HOSTILE)
    placed = hold("mail", HOSTILE[1], 40, text, id_="mail0001")
    events = [placed, HoldTaken(line="mail", at=NOW, hold="mail0001", who=HOSTILE[2], by=HOSTILE[12])]
    events += [SourceSeen(line="mail", at=NOW, source=HOSTILE[5], state="gone", words=text)]
    with shop(tmp_path, *events) as made:
        for size in ((160, 48),):
            room = made.room(line="mail")
            async with room.run_test(size=size) as pilot:
                await settle(room, pilot)
                await pressed(room, pilot, "e", "slash")
                room.screen.sought.value = "all"
                seen = await settle(room, pilot, "gone")
                assert all(char.isprintable() or char == "\n" for char in seen)
                assert all(len(row) <= size[0] for row in seen.split("\n"))
                room.screen.sought.value = text
                await settle(room, pilot, "nothing that happened matches")
                assert not room._failed


# ---- the palette


async def test_the_palette_holds_every_command_and_says_why_one_cannot_be_done(tmp_path):
    with shop(tmp_path) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            offered = {item.title: item.help for item in room.get_system_commands(room.screen)}
            for command in COMMANDS:
                if command.group not in ("move", "replay", "wall") and command.id not in ("back", "palette", "confirm"):
                    assert any(title.startswith(command.title) for title in offered), command.id
            assert offered["clear a call (c)"] == "not now: nobody has called for help"
            assert offered["mark good (g)"].startswith("not now: on ")
            assert offered["resume (r)"] == "not now: checkout has no hold to lift"
            assert not offered["stop the line (F9)"].startswith("not now")
            made.engine.read_only = True
            room.sight.read_only = True
            await until(lambda: room.moment.read_only)
            offered = {item.title: item.help for item in room.get_system_commands(room.screen)}
            assert offered["stop the line (F9)"] == "not now: this room only looks"


async def test_a_command_that_cannot_be_done_says_why_when_it_is_chosen(tmp_path):
    with shop(tmp_path) as made:
        room = made.room()
        async with room.run_test(size=(80, 24), notifications=True) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "p", *"clear", seen="not now: nobody has called")
            await pressed(room, pilot, "enter", seen="clear a call: not now, nobody has called for help")
            assert made.engine.asked == []


# ---- the page about andon

KNOWN = (
    Known(
        source="gh",
        adapter="plant",
        title="a shop that plays itself",
        verified="itself",
        can=Can(cancel=True),
        identity=Identity("ann", "plant 1.0", missing=("actions:write",)),
    ),
    Known(source="prom", adapter="plant", words="gone: no answer in 10 s"),
    Known(source="nomad", adapter="plant", can=Can(deploy=True), identity=Identity(HOSTILE[2], HOSTILE[3])),
)


async def test_about_says_versions_servers_what_is_missing_and_what_each_cannot_do(tmp_path):
    with shop(tmp_path) as made:
        made.engine.known = KNOWN
        adapter = msgspec.structs.replace(PLANT, verified="itself, at each commit")
        connections = {
            name: msgspec.structs.replace(item, adapter=adapter) for name, item in made.config.connections.items()
        }
        made.config = msgspec.structs.replace(made.config, connections=connections)
        room = made.room()
        for size in ((80, 24),):
            async with made.room().run_test(size=size) as pilot:
                room = pilot.app
                await settle(room, pilot)
                text = await pressed(room, pilot, "a", seen="plant 1.0 as ann")
                assert "textual 8." in text
                assert "missing: actions:write" in text
                assert "✗ gone: no answer in 10 s" in text
                assert "cannot stream, deploy" in text
                assert "verified against itself, at each commit" in text
                assert "the lease is web-7-12-abcd's, epoch 3" in text
                assert all(char.isprintable() or char == "\n" for char in text)
                await pressed(room, pilot, "end", "f9")
                assert made.engine.asked[-1] == ("pull", "checkout")


# ---- stopping everything


async def test_everything_is_stopped_after_a_typed_word_and_f8_with_a_result_for_each_line(tmp_path):
    with shop(tmp_path) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "E", "f8", seen="the word is not typed in full: nothing was done")
            await pressed(room, pilot, *typed("everythin"), "f8", "enter")
            assert made.engine.asked == []
            await pressed(room, pilot, "g", "f8", seen="0 of 8 stopped, 8 on the way")
            assert made.engine.asked == [("pull", name) for name in made.config.lines]
            halt = act("halt", "mail", "gh/deploy.yml", "mail0001", 2, hold="mail0001")
            made.write(
                hold("mail", "ann", 2, "everything", id_="mail0001"), *done(halt, 0.1, 0.5, 1), halted_now("mail", 1)
            )
            text = await settle(room, pilot, "1 of 8 stopped, 7 on the way")
            assert "stopped, by a read at 14:02:10" in text
            await pressed(room, pilot, "f8")
            assert len(made.engine.asked) == 8, "a second F8 asks for nothing"
            await pressed(room, pilot, "escape")
            assert isinstance(room.screen, FloorScreen)


async def test_a_line_that_could_not_be_stopped_stands_first_and_says_why(tmp_path):
    with shop(tmp_path) as made:
        real = made.engine.pull

        def pull(line, why="", age_s=0.0):
            future = real(line, why, age_s)
            if line == "invoices":
                made.engine.refuses = "read-only for invoices: a newer andon wrote it"
                future = real(line, why, age_s)
                made.engine.refuses = ""
            return future

        made.engine.pull = pull
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "E", *typed("everything"), "f8")
            text = await settle(room, pilot, "1 not: press again, or look there")
            rows = text.split("\n")
            first = next(row for row in rows if "not stopped: read-only for invoices" in row)
            assert rows.index(first) < next(
                n for n, row in enumerate(rows) if "checkout" in row and "asked" not in row and "F9" not in row
            )


async def test_a_paste_of_the_word_stops_nothing(tmp_path):
    from textual.events import Paste

    with shop(tmp_path) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "E")
            room.screen.input.post_message(Paste("everything\n"))
            await settle(room, pilot, "everything")
            assert isinstance(room.screen, EverythingScreen)
            assert made.engine.asked == []


async def test_in_a_room_that_only_looks_there_is_no_such_dialog(tmp_path):
    with shop(tmp_path) as made:
        made.engine.read_only = True
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "E")
            assert isinstance(room.screen, FloorScreen)


async def test_f9_still_stops_the_selected_line_from_the_dialog(tmp_path):
    with shop(tmp_path) as made:
        room = made.room(line="mail")
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            await pressed(room, pilot, "E", "f9")
            assert made.engine.asked == [("pull", "mail")]
