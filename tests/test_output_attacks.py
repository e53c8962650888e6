"""Hostile text, wherever it is shown: no byte of it acts on a terminal, none of it is clicked, nothing is pushed aside."""

import json
import logging
import os
import re
import shlex
import signal
import string
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import wait_until
from tests.output_commands import prepare
from tests.output_room import DROPPED, SURFACES
from tests.pty_harness import Program, raw
from tests.servers.need import need
from tests.test_text import PAYLOADS, hostile
from tui.leaving import Harmless, crash_text, crash_words
from tui.opening import _log_to

HERE = Path(__file__).parent.parent


def begun(text: str) -> str:
    """From the first character on that a terminal acts on or nobody sees: the narrowest place shows that."""
    return text[next(at for at, char in enumerate(text) if hostile(char)) :]


ATTACKS = dict(zip(string.ascii_lowercase, map(begun, PAYLOADS.values()), strict=False))
"""The 24 payloads by letter."""
FEW = {"a": ATTACKS["a"] + ATTACKS["u"]}


def walk(folder: Path, layers: str, attacks: dict[str, str]) -> bytes:
    """What the real room wrote into its terminal while it showed all of it."""
    argv = [sys.executable, "-m", "tests.output_room", folder, layers, json.dumps(attacks)]
    with Program(argv, columns=150, rows=45, cwd=HERE, drawn=False) as room:
        assert room.exit_code(300) == 0, room.out[-2000:].decode("utf-8", "replace")
        return room.out


def shown(out: bytes) -> dict[str, set[str]]:
    """By view: each surface and attack of which a cleaned text stands there."""
    parts = re.split(r"\x1b\]0;andon view (\w+)\x07", out.decode("utf-8", "replace"))
    found = defaultdict(set)
    for view, text in zip(parts[1::2], parts[2::2], strict=True):
        screen, _, left = text.partition("\x1b[?1049l")
        found[view] |= marked(screen)
        found[view] |= set(re.findall(f"[{DROPPED}][a-z]", screen))
        found["left"] |= marked(left)
    return found


def marked(text: str) -> set[str]:
    """The marks, of surface and attack, after which something was replaced."""
    return {surface + attack for surface, attack in re.findall("([A-Za-z0-9])([a-z])\ufffd", text)}


def test_nothing_in_the_room_brings_a_byte_of_it_to_the_terminal(tmp_path):
    assert len(ATTACKS) == 24
    out = walk(tmp_path, "both", ATTACKS)
    assert raw(out) == []
    found = shown(out)
    for view, surfaces in SURFACES.items():
        for surface in surfaces:
            missing = [attack for attack in ATTACKS if surface + attack not in found[view]]
            assert not missing, f"{view}: {surface} did not show {missing}"
    assert sum(map(len, SURFACES.values())) * len(ATTACKS) >= 30 * 24


def test_what_was_not_cleaned_where_it_came_in_is_stopped_at_the_terminal(tmp_path):
    out = walk(tmp_path, "gate", FEW)
    assert raw(out) == []
    assert {surface + attack for surface in SURFACES["runs"] for attack in FEW} <= shown(out)["runs"]


def test_mutant_without_both_layers_the_bytes_are_seen(tmp_path):
    out = walk(tmp_path, "none", FEW)
    assert len(raw(out)) > 100
    assert FEW["a"].encode() in out


# Commands


def every(surface: str) -> str:
    """All attacks in one text."""
    return " ".join(f"{surface}{letter}{attack}" for letter, attack in ATTACKS.items())


SAID = every("z").replace("\0", "").replace("/", "")
"""What an argument can hold."""

# What commands print of it, in full, by the letters of `tests/hostile.py`; `z` is what they were given.
PRINTED = {
    "status": "BRWhoy",
    "status --json": "ABCFHKRSTVWbdefhkopqrvwxy",
    "status p-held": "BRhoy",
    "status p-held --json": "ABCFHKRTVbdfhkopqrvwxy",
    "gate p-held --json": "dhowy",
    "check": "ABC",
    "check --json": "ABC",
    "pull": "z",
    "pull --json": "pqz",
    **dict.fromkeys(("resume", "rollback", "mark", "no config", "no ledger", "no scheme", "too much"), "z"),
}


def test_no_command_brings_a_byte_of_it_to_the_terminal(tmp_path):
    """stdout and stderr of every command, as text and as JSON."""
    prepare(tmp_path, every)
    argv = [sys.executable, "-m", "tests.output_commands", tmp_path, SAID]
    with Program(argv, cwd=HERE, drawn=False) as program:
        assert program.exit_code(300) == 0, program.out[-2000:]
        out = program.out
    assert raw(out, room=False) == []
    parts = dict(part.split("\r\n", 1) for part in out.decode().split("== ")[1:])
    assert len(parts) >= 25
    for name, text in parts.items():
        assert re.search(r"-- [0-3]\r\n\Z", text), text
        assert "Traceback" not in text
        for surface in PRINTED.get(name, ""):
            assert {surface + attack for attack in ATTACKS} <= marked(text), f"{name}: {surface}"


def test_the_lines_of_a_watch_bring_no_byte_of_it_to_the_terminal(tmp_path):
    config = prepare(tmp_path, every)
    argv = [
        str(Path(sys.executable).with_name("andon")),
        "-c",
        config,
        "--ledger",
        tmp_path / "new" / "ledger.db",
        "watch",
    ]
    wanted = {surface + attack for surface in "abgkprtv" for attack in ATTACKS}
    with Program(argv, drawn=False) as watch:
        watch.wait_until(lambda: wanted <= marked(watch.out.decode("utf-8", "replace")), 60)
        watch.signal(signal.SIGTERM)
        assert watch.exit_code(60) == 128 + signal.SIGTERM
        assert raw(watch.out, room=False) == []


# The log, and what is said of a crash


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """The room's log, which takes what anybody logs."""
    root, level, loud = logging.getLogger(), logging.getLogger("andon").level, logging.raiseExceptions
    before = list(root.handlers)
    yield _log_to(tmp_path / "state" / "andon.log")
    for handler in [item for item in root.handlers if item not in before]:
        root.removeHandler(handler)
        handler.close()
    logging.getLogger("andon").setLevel(level)
    logging.raiseExceptions = loud


def fail() -> BaseException:
    """An error whose words are somebody's."""
    try:
        raise ValueError(every("e") + "\n2026-11-24 ERROR forged")
    except ValueError as error:
        return error


def test_a_line_of_the_log_acts_on_nothing_and_cannot_pass_for_two(log):
    for name, text in PAYLOADS.items():
        logging.getLogger("andon.duty").info("%s is %s %s", name, "gone", text + "\n2026-11-24 ERROR forged \ud800")
    logging.getLogger("asyncio").error("task failed", exc_info=fail())
    written = log.read_bytes()
    assert raw(written, room=False) == []
    lines = written.decode().split("\n")
    assert len([line for line in lines if line[:2] == "20"]) == len(PAYLOADS) + 1
    assert not [line for line in lines if line.startswith("2026-11-24 ERROR")]
    assert "ValueError" in written.decode()


def test_a_full_log_goes_on_in_another_private_file(log):
    before = os.umask(0)
    try:
        for _ in range(300):
            logging.getLogger("andon.duty").info("x" * 4000)
    finally:
        os.umask(before)
    assert sorted(path.name for path in log.parent.iterdir()) == ["andon.log", "andon.log.1"]
    assert [path.stat().st_mode & 0o777 for path in log.parent.iterdir()] == [0o600, 0o600]


def test_what_is_said_of_a_crash_acts_on_nothing():
    error = fail()
    for text in (crash_words(error, Path(f"/x/{SAID}")), crash_text(error)):
        assert raw(text.encode(), room=False) == []
    assert "\n" not in crash_words(error, Path(f"/x/{SAID}"))


def test_mutant_an_ordinary_formatter_lets_it_through():
    record = logging.LogRecord("andon", logging.ERROR, "f", 1, "%s", (every("e"),), None)
    assert raw(logging.Formatter().format(record).encode(), room=False)
    assert raw(Harmless().format(record).encode(), room=False) == []


# In a real terminal that answers

QUESTIONS = "\x1b[c\x1b[>c\x1b[>q\x1b[5n\x1b[18t"
"""What a terminal answers as if somebody had typed it."""
SETS = "\x1b]2;owned\x1b\\\x1b]52;c;b3duZWQ=\x1b\\"
"""A title and a clipboard."""
NAKED = """
import os, sys
from pathlib import Path
from textual.app import App
from textual.drivers.linux_driver import LinuxDriver
from tests.terminal_app import NotedRoom
NotedRoom.get_line_filters = App.get_line_filters
NotedRoom.action_bound = lambda self, key: self.note("bound", key=key)
room = NotedRoom(Path(sys.argv[1]), os.environ["TEST_HOSTILE"])
room.driver_class = LinuxDriver
room.run()
"""


class Tmux:
    """A tmux of its own, as it comes but for a clipboard that programs may set; in its pane one program."""

    def __init__(self, *argv: str, env: dict[str, str] | None = None, size: tuple[int, int] = (100, 30)) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="tmux-")
        config = Path(self.folder.name, "config")
        config.write_text("set -s set-clipboard on\n")
        self._tmux = [need("tmux"), "-S", f"{self.folder.name}/s", "-f", str(config)]
        self.env = {**os.environ, **(env or {})}
        columns, rows = size
        self.do("new-session", "-d", "-x", str(columns), "-y", str(rows), "-c", str(HERE), "exec " + shlex.join(argv))

    def do(self, *words: str) -> str:
        """What tmux says to a command."""
        done = subprocess.run(
            [*self._tmux, *words], env=self.env, capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout

    @property
    def lines(self) -> list[str]:
        """What stands in the pane."""
        return self.do("capture-pane", "-p").split("\n")

    def close(self) -> None:
        """End it, with its program."""
        subprocess.run([*self._tmux, "kill-server"], capture_output=True, check=False, timeout=60)
        self.folder.cleanup()


@pytest.fixture
def tmux() -> Iterator[list[Tmux]]:
    """Those that a test started."""
    started: list[Tmux] = []
    yield started
    for one in started:
        one.close()


def heard(log: Path) -> list[str]:
    """Which keys and bindings reached the program."""
    notes = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [note["key"] for note in notes if note["what"] in ("bound", "key")]


def test_in_tmux_a_text_presses_no_key_and_sets_neither_title_nor_clipboard(tmux, tmp_path):
    log = tmp_path / "notes"
    argv = [sys.executable, "-m", "tests.terminal_app", str(log)]
    tmux.append(Tmux(*argv, env={"TEST_HOSTILE": f"<<{QUESTIONS}{SETS}>>"}))
    pane = tmux[-1]
    title = pane.do("display", "-p", "#{pane_title}")
    wait_until(lambda: sum("<<" in line for line in pane.lines) >= 4, 60, "the text is shown")
    pane.do("send-keys", "z")  # an answer would have come before it
    wait_until(lambda: "z" in heard(log), 60)
    assert set(heard(log)) == {"z"}
    assert pane.do("list-buffers") == ""
    assert pane.do("display", "-p", "#{pane_title}") == title


def test_mutant_in_tmux_without_gate_and_guard_a_text_presses_keys(tmux, tmp_path):
    log = tmp_path / "notes"
    tmux.append(Tmux(sys.executable, "-c", NAKED, str(log), env={"TEST_HOSTILE": f"<<{QUESTIONS}{SETS}>>"}))
    pane = tmux[-1]
    wait_until(lambda: {"c", "t", "n", "1", "2", "m"} <= set(heard(log)), 60, "answers press keys")
    wait_until(lambda: pane.do("show-buffer") == "owned" if pane.do("list-buffers") else False, 60)
    wait_until(lambda: pane.do("display", "-p", "#{pane_title}") == "owned\n", 60)
