"""The wallboard: what is read from across a room, page after page, and that nothing can be pressed there."""

import string
import sys
from pathlib import Path

import msgspec
import pytest

from adapters.sqlite import SqliteLedger
from andon.clock import WallClock
from andon.events import HoldPlaced
from andon.model import Hold
from tests.helpers import HOSTILE
from tests.pty_harness import Program, raw
from tests.room_helpers import LINES, NOW, hold, incident, screen_text, settle, shop, view
from tests.test_room import golden
from tui.panels.figures import figures
from tui.panels.letters import HIGH, WIDE, can, lamp, letters, width
from tui.panels.sheet import Sheet
from tui.panels.wall import Page, pages
from tui.screens.wall import PAGE_S, WallScreen


@pytest.fixture
def lit(tmp_path, monkeypatch):
    """A function that opens a wall over the shop, and gives the room and what closes it."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    opened = []

    def begin(*events, names=LINES, dips=()):
        context = shop(tmp_path, *events, names=names, dips=dips)
        made = context.__enter__()
        opened.append(context)
        made.engine.read_only = True
        return made, made.room(wall=True)

    yield begin
    for context in opened:
        context.__exit__(None, None, None)


async def shown(room, pilot, *keys: str) -> str:
    await pilot.pause()
    for key in keys:
        await pilot.press(key)
    room.paint()
    return await settle(room, pilot, "andon")


# ---- letters


def test_there_is_a_letter_for_whatever_a_line_can_be_called_and_no_two_are_alike():
    seen = {}
    for char in string.ascii_lowercase + string.digits + "-":
        assert can(char)
        sheet = Sheet(WIDE, HIGH // 2)
        letters(sheet, 0, 0, char, "fg")
        drawn = "".join(text for row in sheet.rows() for text, _ in row)
        assert drawn.strip()
        assert drawn not in seen, (char, seen[drawn])
        seen[drawn] = char
    assert not can("ü")


def test_letters_take_the_cells_that_they_say():
    for scale in (1, 2):
        sheet = Sheet(100, 12)
        end = letters(sheet, 3, 1, "abc", "fg", scale=scale)
        used = {x for y in range(12) for x in range(100) if sheet.at(x, y) != " "}
        assert end == 3 + 18 * scale
        assert max(used) <= 3 + width("abc", scale) - 1


def test_no_two_lamps_have_one_outline():
    drawn = set()
    for sign in "●■◀▲○?":
        sheet = Sheet(6, 3)
        lamp(sheet, 0, 0, sign, "fg")
        drawn.add("".join(text for row in sheet.rows() for text, _ in row))
    assert len(drawn) == 6


# ---- pages


@pytest.mark.parametrize(
    ("name", "size", "trouble", "env"),
    [
        ("wall-160x48-incident", (160, 48), True, {}),
        ("wall-160x48-calm", (160, 48), False, {}),
        ("wall-80x24-incident", (80, 24), True, {}),
        ("wall-80x24-ascii", (80, 24), True, {"NO_COLOR": "1", "TERM": "linux"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_the_pages_look_as_agreed(lit, monkeypatch, name, size, trouble, env):
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    _, room = lit(*(incident() if trouble else ()), dips=("revenue/min",) if trouble else ())
    async with room.run_test(size=size) as pilot:
        found = [await shown(room, pilot)]
        for _ in range(2 if trouble else 1):
            found.append(await shown(room, pilot, "space"))
        golden(name, ("\n" + "=" * size[0] + "\n").join(found))


async def test_trouble_is_on_every_page_and_a_calm_day_has_no_fill(lit):
    made, room = lit()
    async with room.run_test(size=(160, 48)) as pilot:
        text = await shown(room, pilot)
        assert "1 of 2 · data 2 s old" in text
        assert not fills(room)
        made.write(hold("catalog", "bo", 20, "odd"))
        for at in (1, 2, 3):
            text = await shown(room, pilot, *(("space",) if at > 1 else ()))
            assert f"{at} of 3" in text
            assert fills(room) == {"stopbg"}
            assert "bo has it" in text or "nobody has it" in text


def fills(room) -> set[str]:
    page = room.query_one("#wall-page")
    return {ink.bg for row in page._rows for _, ink in row if ink.bg in ("stopbg", "warnbg", "blindbg")}


async def test_pages_turn_by_themselves_and_one_with_trouble_stays_twice_as_long(lit):
    _, room = lit(hold("catalog", "bo", 20, "odd"))
    async with room.run_test(size=(160, 48)) as pilot:
        at = [0.0]
        assert isinstance(room.screen, WallScreen)
        room.screen._real = lambda: at[0]
        room.screen.turn(0)
        stays = [2 * PAGE_S, 2 * PAGE_S, PAGE_S]
        for page, seconds in enumerate(stays, 1):
            assert f"{page} of 3" in await shown(room, pilot)
            at[0] += seconds - 1
            assert f"{page} of 3" in await shown(room, pilot)
            at[0] += 1.5
        assert "1 of 3" in await shown(room, pilot)


async def test_nothing_is_asked_and_q_leaves(lit):
    made, room = lit()
    async with room.run_test(size=(160, 48)) as pilot:
        await shown(room, pilot, "f9", "f4", "r", "t", "enter", "f8", "x", "question_mark", "n")
        assert made.engine.asked == []
        assert isinstance(room.screen, WallScreen)
        await pilot.press("q")
        assert room.return_code == 0


@pytest.mark.parametrize("size", [(40, 10), (60, 18), (80, 24), (250, 70)], ids=str)
async def test_every_page_fits_every_size_and_names_what_is_wrong(lit, size):
    _, room = lit(*incident(), dips=("revenue/min",))
    async with room.run_test(size=size) as pilot:
        for keys in ((), ("space",), ("space",), ("space",)):
            text = await shown(room, pilot, *keys)
            assert "payments" in text or "█" in text
            assert "failed" not in text.replace("failed", "", 1)


async def test_many_lines_are_a_list_in_which_the_worst_are_never_left_out(lit):
    names = tuple(f"line-{at:03}" for at in range(300))
    _, room = lit(hold("line-299", "bo", 20, "odd"), hold("line-250", "cy", 5, "odd"), names=("checkout",))
    lines = {name: msgspec.structs.replace(room.config.lines["checkout"], name=name) for name in names}
    room.config = room.sight.config = msgspec.structs.replace(room.config, lines=lines)
    room.sight.order = names
    room.line = names[0]
    async with room.run_test(size=(160, 48)) as pilot:
        text = await shown(room, pilot)
        assert "line-299 stop" in text
        assert "line-250 stop" in text
        assert "more run or are not shown" in text


async def test_what_strangers_wrote_is_harmless_on_a_wall(lit):
    events = [
        HoldPlaced(line="mail", at=NOW - 9, hold=Hold(f"h{at}", "mail", f"p{at}" + words, words, NOW - 9, f"h{at}"))
        for at, words in enumerate(HOSTILE)
    ]
    _, room = lit(*events)
    async with room.run_test(size=(160, 48)) as pilot:
        for keys in ((), ("space",)):
            await shown(room, pilot, *keys)
            assert not raw(screen_text(room).encode(), room=False)


async def test_when_nobody_watches_the_wall_says_so(lit):
    made, room = lit()
    made.engine.view = view(lease=None, at=NOW)
    room.sight._lease_real -= 60
    async with room.run_test(size=(160, 48)) as pilot:
        assert "nobody watches" in await shown(room, pilot)
        assert fills(room) == {"blindbg"}


# ---- figures


async def test_the_figures_are_of_the_last_day_and_what_is_not_known_is_not_zero(lit):
    made, room = lit(*incident(), dips=("revenue/min",))
    async with room.run_test(size=(160, 48)) as pilot:
        await shown(room, pilot)
        found = {figure.title: figure for figure in figures(room.moment)}
        assert (found["deploys"].number, found["deploys"].about) == ("5", "last 24 h; the day before 1")
        assert (found["failed"].number, found["failed"].unit, found["failed"].about) == ("1", "of 3", "payments")
        assert (found["to recover"].number, found["to recover"].unit) == ("6", "min")
        assert found["pulls of the cord"].about == "last 24 h; 1 by people. Thank you."
        empty = figures(msgspec.structs.replace(room.moment, now=NOW + 10 * 86_400))
        assert [figure.number for figure in empty] == ["0", "-", "-", "-", "-", "0"]
        assert pages(room.moment, 160, 47) == (Page("floor"), Page("trouble"), Page("figures"))
        assert len(made.config.lines) == len(LINES)


def test_a_real_wall_reads_the_ledger_it_may_not_write(tmp_path):
    path = tmp_path / "andon.yaml"
    path.write_text("connections: {s: {adapter: plant}}\nlines: {a: {deploy: {from: s}}}\nledger: ledger.db\n")
    path.chmod(0o600)
    SqliteLedger(tmp_path / "ledger.db", WallClock()).close()
    with Program([Path(sys.executable).with_name("andon"), "-c", path, "--wall"], columns=160, rows=48) as program:
        program.wait_for("nobody watches", 30)
        assert "does not answer" not in program.text
        program.type("\x1b[20~")
        program.wait_for("this is a wallboard: it only looks", 30)
        program.type(" ")
        program.wait_for("2 of", 30)
        program.type("q")
        assert program.exit_code(30) == 0
        assert program.restored
