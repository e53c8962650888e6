"""Which keys there are: the page made from the table, keys of a person's own, and what a terminal really sends."""

import subprocess
import sys
from pathlib import Path

import pytest
from textual.keys import _character_to_key

from andon.config import load
from andon.yamlfile import FileError
from tests.pty_harness import Program
from tests.room_helpers import hold, settle, shop
from tui import commands, keymap, keys
from tui.commands import BY_ID, COMMANDS
from tui.danger import safe_key
from tui.keys_in import Framer, Translator

ANDON = Path(sys.executable).with_name("andon")
DOCS = Path(__file__).parents[1] / "docs" / "keys.md"
CONFIG = """connections: {{s: {{adapter: plant}}}}
lines: {{a: {{deploy: {{from: s}}}}}}
keys:
{keys}
"""


def written(folder: Path, *lines: str) -> Path:
    path = folder / "andon.yaml"
    path.write_text(CONFIG.format(keys="\n".join(f"  {line}" for line in lines)))
    path.chmod(0o600)
    return path


def test_the_page_is_what_the_table_says():
    assert DOCS.read_text() == keys.markdown(), "andon keys --markdown > docs/keys.md"


def test_every_key_of_the_table_is_possible_and_alone_on_its_screens(tmp_path):
    for command in COMMANDS:
        assert set(command.key.split(",")) <= keymap.POSSIBLE, command.id
        for other in COMMANDS:
            shared = set(command.key.split(",")) & set(other.key.split(","))
            assert command is other or not shared or not set(command.where) & set(other.where), (command.id, other.id)
    assert all(safe_key(BY_ID[id_].key) is None for id_ in commands.DANGER)


@pytest.mark.parametrize("sign", sorted(keymap._PUNCTUATION))
def test_a_sign_has_the_name_that_textual_gives_its_key(sign):
    assert keymap._PUNCTUATION[sign] == _character_to_key(sign)


@pytest.mark.parametrize(
    ("bytes_", "key"),
    [
        *((f"\x1b[{code}~", f"f{n}") for n, code in ((9, 20), (10, 21), (12, 24))),
        ("\x1bOS", "f4"),
        ("\x0f", "ctrl+o"),
        ("\x1f", "ctrl+underscore"),
        ("N", "N"),
        ("\x1b[1;5C", "ctrl+right"),
        ("\x1b[Z", "shift+tab"),
        ("+", "plus"),
    ],
)
def test_a_key_that_is_called_possible_is_what_the_driver_makes_of_its_bytes(bytes_, key):
    framer, translator = Framer(), Translator()
    (piece,) = framer.feed(bytes_.encode(), 0.0)
    assert [event.key for event in translator.events(piece)] == [key]
    assert key in keymap.POSSIBLE


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("F10", "f10"),
        ("Ctrl+O", "ctrl+o"),
        ("esc", "escape"),
        ("?", "question_mark"),
        ("shift+n", "N"),
        ("+", "plus"),
        ("N", "N"),
        (" ", "space"),
        ("ctrl+_", "ctrl+underscore"),
        ("alt+x", "alt+x"),
        ("PgUp", "pageup"),
    ],
)
def test_a_key_is_written_as_people_write_it(text, key):
    assert keymap.named(text) == (key, "")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("rolback: f5", 'keys.rolback: there is no such command; did you mean "rollback"?'),
        ("zzzz: f5", "keys.zzzz: there is no such command; `andon keys` lists them"),
        ("metric: f99", "keys.metric: f99: not a key that every terminal sends"),
        ("metric: ctrl+i", "keys.metric: ctrl+i: terminals send it as tab"),
        ("metric: é", "keys.metric: é: not a key"),
        ("metric: ''", "keys.metric: : not a key"),
        ("metric: []", "keys.metric: no key"),
        ("metric: {a: b}", "keys.metric: expected a whole number or text or a list"),
        ("metric: s", "keys.metric: s: is the key of sort (sort)"),
        ("metric: [M, up]", "keys.metric: ↑: is the key of up (up)"),
        ("metric: ctrl+c", "keys.metric: ctrl+c: always means leave"),
        ("metric: ctrl+q", "keys.metric: ctrl+q: always means leave"),
        ("metric: ctrl+p", "keys.metric: ctrl+p: always means commands"),
        ("metric: f9", "keys.metric: F9: is the key of stop (stop the line)"),
        ("metric: f8", "keys.metric: F8: is the key of confirm"),
        ("stop: f4", "keys.stop: F4: is the key of rollback (roll back)"),
        ("stop: s", "keys.stop: s: text, a terminal's answer or line editing can press it"),
        ("stop: ctrl+w", "keys.stop: ctrl+w: text, a terminal's answer or line editing"),
        ("stop: enter", "keys.stop: enter: text, a terminal's answer or line editing"),
        ("rollback: f3", "keys.rollback: f3: text, a terminal's answer"),
        ("confirm: ctrl+y", "keys.confirm: ctrl+y: text, a terminal's answer"),
        ("stop: [f10, f11]", "keys.stop: a danger key is one key"),
        ("back: b", "keys.back: b: text is written on a screen of this command"),
        ("redraw: ctrl+u", "keys.redraw: ctrl+u: text is written on a screen"),
        ("leave: []", "keys.leave: no key; a command without one could not be reached"),
        ("leave: enter", "keys.leave: enter: is the key of open (open)"),
        ("pause: right", "keys.pause: →: is the key of step_on (step on)"),
        ("\x1b: f5", ""),
    ],
)
def test_a_key_that_would_not_work_is_refused_with_its_place(line, words, tmp_path):
    with pytest.raises(FileError) as caught:
        keymap.read(load(written(tmp_path, line)))
    if words:
        assert str(caught.value).startswith(f"{tmp_path}/andon.yaml:4:3: {words}")


def test_what_two_commands_exchange_is_no_clash(tmp_path):
    found = keymap.read(load(written(tmp_path, "metric: s", "sort: m", "stop: f4", "rollback: f9")))
    assert (found["metric"].key, found["sort"].key) == ("s", "m")
    assert (found.cap("stop"), found.cap("rollback")) == ("F4", "F9")
    assert "F8 confirms" in found["resume"].tooltip
    assert "f10 confirms".upper() in keymap.Keys({"confirm": "f10"})["resume"].tooltip.upper()


@pytest.mark.parametrize("command", [[], ["check"], ["keys"]], ids=["room", "check", "keys"])
def test_wrong_keys_are_said_before_the_room_opens_and_keep_nobody_from_stopping_a_line(command, tmp_path):
    path = written(tmp_path, "stop: s")
    with Program([ANDON, "-c", path, *command]) as program:
        assert program.exit_code(30) == 2
        assert "keys.stop: s: text" in program.text.replace("\n", "")
    pull = [ANDON, "-c", path, "--ledger", tmp_path / "l.db", "pull", "a", "--reason", "x", "--wait", "0s"]
    assert subprocess.run(pull, capture_output=True, check=False, timeout=60).returncode in (0, 3)


async def test_the_room_follows_keys_of_a_persons_own(tmp_path):
    changed = {"stop": "f10", "rollback": "f5", "confirm": "f7", "metric": "M", "keys": "f1", "back": "ctrl+g"}
    with shop(tmp_path, hold("payments", "bo", 60, "odd")) as made:
        room = made.room(keys=keymap.Keys(changed))
        async with room.run_test(size=(80, 24)) as pilot:
            text = await settle(room, pilot, "F10  stop checkout")
            assert "F5  roll back checkout" in text
            assert "F9" not in text
            assert "F4 " not in text
            await pilot.press("f9", "f4", "m", "question_mark")
            assert made.engine.asked == []
            await pilot.press("f10")
            assert made.engine.asked == [("pull", "checkout")]
            await pilot.press("M")
            assert room.metric == 1
            await pilot.press("f1")
            text = await settle(room, pilot, "stop and undo")
            assert {"F10", "F5", "F7", "ctrl+g"} <= set(text.split())
            assert "F8" not in text
            await pilot.press("escape", "ctrl+g", "down", "down", "r")
            text = await settle(room, pilot, "resume payments")
            assert "F7 confirms, Enter does not" in text
            await pilot.press("b", "f8", "enter", "f7")
            assert made.engine.asked[1:] == [("resume", "payments", "b", "payments", False)]


async def test_the_palette_names_the_keys_of_this_room(tmp_path):
    with shop(tmp_path) as made:
        room = made.room(keys=keymap.Keys({"metric": "M"}))
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            titles = [item.title for item in room.get_system_commands(room.screen)]
            assert "metric (M)" in titles
            assert "stop the line (F9)" in titles


def test_the_command_prints_the_keys_of_the_config_and_needs_none(tmp_path):
    def printed(*words: str) -> str:
        return subprocess.run(
            [ANDON, *words], capture_output=True, text=True, check=True, cwd=tmp_path, timeout=60
        ).stdout

    assert printed("keys").startswith("F9 ")
    path = written(tmp_path, "stop: f10")
    assert printed("-c", str(path), "keys").startswith("F10 ")
    assert printed("-c", str(path), "keys", "--markdown") == DOCS.read_text()


def test_what_a_terminal_sends_is_shown_and_acted_on_by_nobody(tmp_path):
    path = written(tmp_path, "metric: M")
    with Program([ANDON, "-c", path, "keys", "--test"], columns=100, rows=40) as program:
        program.wait_for("q twice, or ctrl+c", 30)
        for sent, shown in (
            ("\x1b[20~", "F9: stop the line (everywhere)"),
            ("\x1b[57372u", ""),
            ("M", "M: metric (floor, line"),
            ("\x0f", "ctrl+o: no command has it; it could be a danger key"),
            ("\x1b[200~q q\x1b]0;x\x07\x1b[201~", "a paste of"),
            ("\x1b]11;rgb:0000/0000/0000\x1b\\", "an answer of the terminal"),
            (b"\xff", "ff"),
            ("q", "q: leave"),
            ("x", "mark faulty ("),
        ):
            program.type(sent)
            program.wait_for(shown, 30)
        assert "ESC [ 2 0 ~" in program.text
        assert "1b 5b 32 30 7e" in program.text
        program.type("q")
        program.wait_until(lambda: program.text.count("q: leave") == 2)
        program.type("q")
        assert program.exit_code(30) == 0
        assert program.restored
        assert b"\x1b]0" not in program.out
        assert b"\x1b]11" not in program.out


@pytest.mark.parametrize("way", ["ctrl+c", "SIGTERM"])
def test_the_test_of_keys_gives_the_terminal_back(way):
    with Program([ANDON, "keys", "--test"]) as program:
        program.wait_for("q twice", 30)
        if way == "ctrl+c":
            program.type("\x03")
        else:
            program.signal(15)
        assert program.exit_code(30) == (0 if way == "ctrl+c" else 143)
        assert program.restored


def test_the_test_of_keys_needs_a_terminal():
    done = subprocess.run(
        [ANDON, "keys", "--test"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "andon: keys --test needs a terminal: its input and its output must be one\n"
