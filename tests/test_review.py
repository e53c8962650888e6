"""Looking back: a stretch of a ledger as lines, and the room over it: another time, in which nothing can be done."""

import hashlib
import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import msgspec
import pytest

from adapters.sqlite import SqliteLedger
from andon.board import Board
from andon.clock import WallClock
from andon.events import HoldPlaced, HoldTaken, Judged, decode
from andon.keeper import fold
from andon.model import Hold
from andon.yamlfile import FileError
from tests.helpers import HOSTILE
from tests.pty_harness import Program, raw
from tests.room_helpers import LINES, METRICS, NOW, StillClock, calm, config, incident, samples, screen_text, settle
from tui import recording
from tui.app import Room
from tui.commands import COMMANDS, REPLAY
from tui.keymap import DEFAULT, Keys
from tui.player import Deck
from tui.recording import Recording, lines_of, read, record
from tui.replayroom import ReplayRoom
from tui.reviewing import _when
from tui.standins import NOT_IN_THE_PAST, PastEngine, PastLedger

ANDON = Path(sys.executable).with_name("andon")
SINCE = NOW - 900


def past(folder: Path) -> tuple[SqliteLedger, StillClock]:
    """A ledger into which everything came half a second after it happened."""
    clock = StillClock()
    ledger = SqliteLedger(folder / "ledger.db", clock)
    events = [event for name in LINES for event in calm(name, since={"payments": 10.0}.get(name))] + incident()
    for event in sorted(events, key=lambda event: event.at):
        clock.at = event.at + 0.5
        ledger.commit(event)
    clock.at = NOW
    for name in LINES:
        for metric in METRICS[name]:
            ledger.keep(f"{name}/{metric.name}", samples(name, metric, dip=name == "payments"))
    return ledger, clock


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    folder = tmp_path_factory.mktemp("past")
    ledger, _ = past(folder)
    try:
        return record(ledger, config(folder), SINCE, NOW)
    finally:
        ledger.close()


@pytest.fixture(scope="module")
def file(made: Recording, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("file") / "incident.jsonl"
    path.write_bytes(b"\n".join(lines_of(made)) + b"\n")
    return path


class Hand:
    """A clock on the wall that is moved by hand."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


# ---- a stretch of a ledger


def test_the_lines_hold_what_the_ledger_holds_of_that_time(made, file):
    found = read(file)
    assert [(row.seq, row.kind, decode(row.kind, row.body)) for row in found.rows] == [
        (row.seq, row.kind, decode(row.kind, row.body)) for row in made.rows
    ]
    assert all(SINCE <= row.seen <= NOW for row in found.rows)
    assert found.board == made.board
    assert found.samples == made.samples
    assert found.samples["payments/revenue/min"]
    assert (found.since, found.until, found.config.name) == (SINCE, NOW, "acme")
    assert list(found.config.lines) == list(LINES)
    assert found.config.lines["payments"].targets == made.config.lines["payments"].targets


def test_the_board_of_the_beginning_and_of_the_end_are_those_of_the_ledger(tmp_path):
    ledger, _ = past(tmp_path)
    rows = ledger.read(0)
    found = record(ledger, config(tmp_path), SINCE, NOW)
    ledger.close()
    before = [row for row in rows if row.seen < SINCE]
    assert found.board == fold(Board(), before)[1]
    deck = Deck(found, Hand())
    deck.set(NOW)
    assert deck.board() == fold(Board(), rows)[1]


def test_one_line_is_recorded_alone(tmp_path):
    ledger, _ = past(tmp_path)
    found = record(ledger, config(tmp_path), SINCE, NOW - 300, "payments")
    ledger.close()
    assert list(found.config.lines) == list(found.board.lines) == ["payments"]
    assert {row.line for row in found.rows} == {"payments"}
    assert set(found.samples) == {"payments/revenue/min", "payments/auth rate"}
    assert max(row.seen for row in found.rows) <= NOW - 300


def test_what_a_line_is_configured_with_stays_at_home(made, file):
    text = file.read_text()
    head = json.loads(text.splitlines()[0])
    assert {key for line in head["lines"] for metric in line["metrics"] for key in metric} <= {
        *("name", "source", "kind", "bad", "value", "short", "unit", "threshold"),
    }
    assert all(metric["value"] == "" for line in head["lines"] for metric in line["metrics"])
    assert str(made.config.folder) not in text


# ---- a file that somebody sent


def changed(file: Path, folder: Path, change) -> Path:
    lines = file.read_bytes().splitlines()
    path = folder / "odd.jsonl"
    path.write_bytes(b"\n".join(change(lines)))
    return path


def head_with(**more):
    def change(lines):
        return [msgspec.json.encode({**json.loads(lines[0]), **more}), *lines[1:]]

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda _: [], ":1:1: is not what `andon export` prints"),
        (lambda _: [b"hello"], ":1:1: is not what `andon export` prints"),
        (lambda _: [b"{}"], ":1:1: is not what `andon export` prints"),
        (lambda _: [b"[" * 100_000], ":1:1: is not what `andon export` prints"),
        (lambda lines: [*lines[:3], b"\xff\xfe", *lines[3:]], ":4:1: is not what `andon export` prints"),
        (lambda lines: lines[:-1], "the file is not whole; export it again"),
        (lambda lines: lines[:10], "the file is not whole; export it again"),
        (lambda lines: [*lines[:5], *lines[6:]], "the file is not whole; export it again"),
        (lambda lines: [*lines, lines[2]], "something follows its end"),
        (lambda lines: [lines[0], b'{"board":{"lines":7}}', *lines[2:]], ":2:1: is not what"),
        (
            lambda lines: [*lines[:2], lines[2].replace(b'"seen":', b'"seen":"x","no":'), *lines[3:]],
            ":3:1: is not what",
        ),
        (lambda lines: [*lines[:2], lines[2].replace(b'"line":"', b'"line":"x'), *lines[3:]], ":3:1: is not what"),
        (head_with(format=2), "another version of andon wrote it"),
        (head_with(board_format="0"), "another version of andon wrote it"),
        (head_with(andon="x"), "it does not begin with a recording's head"),
        (head_with(lines=[]), "it holds no line, or no time"),
        (head_with(until=0), "it holds no line, or no time"),
        (head_with(lines=[{"name": "../x"}]), "'../x' is not the name of a line"),
        (head_with(lines=[{"name": "x"}]), "an event of a line that its head does not name"),
    ],
)
def test_a_file_that_is_none_is_refused_with_its_line(change, words, file, tmp_path):
    path = changed(file, tmp_path, change)
    with pytest.raises(FileError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}:")
    assert words in str(caught.value)


def test_an_event_that_only_a_newer_version_knows_is_counted(file, tmp_path):
    def newer(lines):
        return [*lines[:2], lines[2].replace(b'"kind":"', b'"kind":"very-'), *lines[3:]]

    found = read(changed(file, tmp_path, newer))
    assert (found.skipped, len(found.rows)) == (1, len(read(file).rows) - 1)


def test_a_file_that_cannot_be_read_or_is_too_large_is_refused(tmp_path, monkeypatch):
    with pytest.raises(FileError, match="cannot be read: No such file"):
        read(tmp_path / "none")
    with pytest.raises(FileError, match="cannot be read: Is a directory"):
        read(tmp_path)
    monkeypatch.setattr(recording, "LIMIT_BYTES", 10)
    (tmp_path / "large").write_bytes(b"x" * 11)
    with pytest.raises(FileError, match="larger than"):
        read(tmp_path / "large")


# ---- time


def test_time_goes_by_the_speed_and_stands_when_it_is_stopped(made):
    hand = Hand()
    deck = Deck(made, hand)
    assert deck.now() == SINCE
    hand.at = 10.0
    assert deck.now() == SINCE + 80
    deck.change_speed(2.0)
    hand.at = 15.0
    assert deck.now() == SINCE + 160
    deck.pause()
    hand.at = 1000.0
    assert deck.now() == SINCE + 160
    deck.pause()
    hand.at = 1001.0
    assert deck.now() == SINCE + 176
    deck.step(-10.0)
    assert (deck.now(), deck.paused) == (SINCE + 166, True)
    deck.step(-1e9)
    assert deck.now() == SINCE
    deck.step(1e9)
    assert deck.now() == NOW
    assert deck.playing().paused
    deck.pause()  # at the end it begins again
    assert (deck.now(), deck.paused) == (SINCE, False)
    for _ in range(40):
        deck.change_speed(0.5)
    assert deck.speed == 0.25
    for _ in range(40):
        deck.change_speed(2.0)
    assert deck.speed == 1024


def test_wherever_one_goes_the_board_is_what_was_known_then(made, monkeypatch):
    monkeypatch.setattr("tui.player.KEPT_EVERY", 7)
    deck = Deck(made, Hand())
    rows = made.rows
    for at in (0, 40, 3, 4, 5, 41, 7, 6, 43, 14, 13, 0, 44, 22):
        deck.set(rows[at - 1].seen if at else SINCE)
        done = deck.done
        expected = fold(made.board, rows[:done])[1] if done else made.board
        assert deck.board() == expected
        assert PastLedger(deck).recent("", 1000) == list(reversed(rows[:done]))
        assert PastLedger(deck).read(rows[0].seq) == list(rows[1:done])


def test_a_jump_goes_to_what_mattered_and_over_what_happens_all_day(made):
    deck = Deck(made, Hand())
    seen = []
    while deck.jump(1):
        seen.append(deck.now())
        assert len(seen) < 100
    kinds = {type(decode(row.kind, row.body)) for row in made.rows if row.seen in seen}
    assert {Judged, HoldPlaced, HoldTaken} <= kinds
    assert deck.paused
    back = []
    while deck.jump(-1):
        back.append(deck.now())
    assert back == list(reversed(seen[:-1]))


def test_a_sample_is_known_when_its_bucket_was_closed_and_complete(made):
    deck = Deck(made, Hand())
    deck.set(NOW - 300)
    found = PastLedger(deck).samples("payments/revenue/min", 0, NOW)
    metric = made.config.lines["payments"].metrics[0]
    assert found
    assert max(row.at for row in found) <= NOW - 300 - metric.every - metric.lag


def test_a_clock_that_was_set_back_turns_no_order_around(made):
    rows = list(made.rows)
    rows[5] = msgspec.structs.replace(rows[5], seen=rows[5].seen - 5000)
    deck = Deck(msgspec.structs.replace(made, rows=tuple(rows)), Hand())
    deck.set(rows[4].seen)
    assert deck.done >= 6
    assert deck.board() == fold(made.board, rows[: deck.done])[1]


# ---- nothing can be done


def test_every_act_and_every_write_is_refused(made):
    deck = Deck(made)
    engine = PastEngine(deck)
    for name in ("pull", "rollback", "resume", "take", "mark", "resolve", "withdraw", "anything"):
        assert str(getattr(engine, name)("payments").exception()) == NOT_IN_THE_PAST
    keeper = ReplayRoom(made, keys=DEFAULT, deck=deck).sight.keeper
    for job in (
        lambda ledger: ledger.commit(),
        lambda ledger: ledger.take_lease("me", 7),
        lambda ledger: ledger.keep("x", ()),
        lambda ledger: ledger.pulse(()),
        lambda ledger: ledger.checkpoint("1", 1, b""),
    ):
        assert NOT_IN_THE_PAST in str(keeper.submit(job).exception())


async def replayed(room: Room, pilot, *keys: str) -> str:
    for key in keys:
        await pilot.press(key)
        await pilot.pause()
        room.paint()
    return await settle(room, pilot, "REPLAY")


async def test_an_incident_is_reviewed_by_its_keys(made):
    hand = Hand()
    room = ReplayRoom(made, keys=DEFAULT, deck=Deck(made, hand))
    async with room.run_test(size=(100, 30)) as pilot:
        text = await replayed(room, pilot)
        assert "REPLAY 23 Nov 13:47:11, 8 ×" in text
        assert "8 lines run, nothing needs you" in text
        assert "0 of 44  nothing has happened yet" in text
        text = await sought(room, pilot, "n", "■ payments STOPPING")
        assert "paused" in text
        await sought(room, pilot, "n", "◀ payments rolling back")
        await sought(room, pilot, "n", "payments: recovered")
        await sought(room, pilot, "p", "8 lines run")
        text = await replayed(room, pilot, "right", "right", "left", "plus", "minus", "minus", "space")
        assert "4 ×" in text
        hand.at += 300
        room.paint()
        text = await settle(room, pilot, "the end;")
        assert "13:50" not in text.splitlines()[0]
        assert "F9" not in text
        text = await replayed(room, pilot, "question_mark")
        assert "event before" in text
        assert "worst" not in text  # its key is the replay's here
        text = await replayed(room, pilot, "escape", "slash", "n", "space", "p")
        assert room.find == "n p"  # a text that is typed is no key


async def test_no_act_is_asked_whatever_is_pressed(made):
    room = ReplayRoom(made, keys=DEFAULT, deck=Deck(made, Hand()))
    room.deck.set(NOW)
    room.deck.paused = True
    asked: list[str] = []
    room.engine = Asked(room.deck, asked)
    async with room.run_test(size=(80, 24)) as pilot:
        await replayed(room, pilot)
        for screen in ((), ("enter",)):
            keys = dict.fromkeys(key for command in COMMANDS if command.acts for key in command.key.split(","))
            await pilot.press(*screen, *keys)
        room.doing.do("stop")
    assert asked == []


class Asked(PastEngine):
    """Notes what it is asked."""

    def __init__(self, deck: Deck, asked: list[str]) -> None:
        super().__init__(deck)
        self._asked = asked

    def __getattr__(self, name: str):
        self._asked.append(name)
        return super().__getattr__(name)


async def sought(room: Room, pilot, key: str, words: str) -> str:
    """Press a key until the screen shows the words."""
    for _ in range(30):
        if words in (text := await replayed(room, pilot, key)):
            return text
    raise AssertionError(f"{words!r} was never on the screen\n{text}")


@pytest.mark.parametrize("size", [(60, 18), (80, 24), (160, 48)], ids=str)
async def test_every_screen_says_that_it_is_a_replay_and_when(made, size):
    room = ReplayRoom(made, keys=DEFAULT, deck=Deck(made, Hand()))
    room.deck.set(NOW - 200)
    room.deck.paused = True
    async with room.run_test(size=size) as pilot:
        for keys in ((), ("enter",), ("escape", "question_mark")):
            text = await replayed(room, pilot, *keys)
            top, below = text.splitlines()[0], text.splitlines()[-2]
            assert "REPLAY" in top
            assert "13:58:51" in top
            assert below.startswith(" REPLAY ━")


async def test_the_list_of_events_ends_at_the_moment_also_after_a_step_back(made):
    room = ReplayRoom(made, keys=DEFAULT, deck=Deck(made, Hand()))
    room.deck.set(NOW - 200)
    room.deck.paused = True
    async with room.run_test(size=(100, 30)) as pilot:
        await replayed(room, pilot)
        await replayed(room, pilot, "e")
        await settle(room, pilot, lambda text: "› events" in text and "13:58:11   payments   cy took it" in text)
        room.deck.set(NOW - 5 * 60)
        await replayed(room, pilot, "p")
        text = await settle(room, pilot, lambda text: "regressed" in text and "cy took it" not in text)
        assert "13:5" in text


async def test_a_replay_has_keys_of_a_persons_own_too(made):
    keys = Keys({"pause": "f2", "find": "space"})
    room = ReplayRoom(made, keys=keys, deck=Deck(made, Hand()))
    async with room.run_test(size=(100, 30)) as pilot:
        text = await replayed(room, pilot, "f2")
        assert room.deck.paused
        assert "F2 pause" in text


async def test_what_strangers_wrote_is_harmless_in_a_replay_too(made):
    events = [
        HoldPlaced(line="mail", at=NOW - 100, hold=Hold(f"h{at}", "mail", words or "x", words, NOW - 100, f"h{at}"))
        for at, words in enumerate(HOSTILE)
    ]
    rows = [
        msgspec.structs.replace(
            made.rows[0], seen=NOW - 50, kind="hold-placed", line="mail", body=msgspec.json.encode(event)
        )
        for event in events
    ]
    room = ReplayRoom(msgspec.structs.replace(made, rows=tuple(rows)), keys=DEFAULT, deck=Deck(made, Hand()))
    room.deck.set(NOW)
    room.deck.paused = True
    async with room.run_test(size=(80, 24)) as pilot:
        await replayed(room, pilot)
        assert not raw(screen_text(room).encode(), room=False)


# ---- the commands


CONFIG = """
name: acme
connections:
  shop: {adapter: command, deploy: [./deploy], current: [./current], token: "env:SHOP_TOKEN"}
  plant: {adapter: plant}
lines:
  checkout:
    deploy: {from: plant, halts: [deploy]}
    metrics: [{name: revenue, from: plant, kind: sum, bad: falls, value: "revenue"}]
ledger: ledger.db
"""


@pytest.fixture
def home(tmp_path):
    """A config and a ledger in which a line was stopped a minute ago."""
    path = tmp_path / "andon.yaml"
    path.write_text(
        CONFIG.replace(
            '  shop: {adapter: command, deploy: [./deploy], current: [./current], token: "env:SHOP_TOKEN"}\n', ""
        )
    )
    path.chmod(0o600)
    clock = WallClock()
    ledger = SqliteLedger(tmp_path / "ledger.db", clock)
    now = clock.now()
    ledger.commit(
        HoldPlaced(line="checkout", at=now, hold=Hold("h1", "checkout", "ann", "odd " + HOSTILE[3], now, "h1"))
    )
    ledger.close()
    return path


def run(home: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [ANDON, "-c", home, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL)
    assert "Traceback" not in done.stderr
    return done


def test_a_stretch_is_exported_and_played_elsewhere_and_nothing_is_written(home, tmp_path_factory):
    def digest() -> str:
        return hashlib.sha256((home.parent / "ledger.db").read_bytes()).hexdigest()

    before = digest()
    done = run(home, "export", "--since", "1h")
    assert done.returncode == 0
    assert done.stderr == "andon: 1 events and 0 samples of checkout\n"
    assert not raw(done.stdout.encode(), room=False)
    assert "seed" not in done.stdout
    path = tmp_path_factory.mktemp("elsewhere") / "x.jsonl"
    path.write_text(done.stdout)
    for command in ([ANDON, "replay", path], [ANDON, "-c", home, "replay", "--since", "1h"]):
        with Program(command, columns=100, rows=30) as room:
            room.wait_for("REPLAY", 30)
            room.type("n")
            room.wait_for("checkout STOPPING", 30)
            room.type("\x1b[20~")
            room.wait_for("nothing can be done to the past", 30)
            room.type("q")
            assert room.exit_code(30) == 0
            assert room.restored
            assert b"andon: replay\x07" in room.out
            assert not [bit for bit in raw(room.out) if "\x07" not in bit or "\x1b" in bit]  # the bell of a refused key
    assert digest() == before
    assert run(home, "audit", "verify", "--json").stdout.startswith('{"events":1')


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["export"], "the following arguments are required: --since"),
        (["export", "--since", "soon"], "'soon' is no time; write 2h, 13:50 or 2026-11-23T13:50"),
        (["export", "--since", "25:00"], "'25:00' is no time"),
        (["export", "--since", "2h", "--until", "3h"], "--until must be later than --since"),
        (["export", "--since", "2h", "--line", "chekout"], "there is no line 'chekout'; did you mean \"checkout\"?"),
        (["export", "--since", "2021-01-01T10:00", "--until", "2021-01-02T10:00"], "nothing is recorded of that time"),
    ],
)
def test_what_makes_no_sense_is_2_and_one_sentence(words, said, home):
    done = run(home, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["replay"], "name a file, or --since for this ledger"),
        (["replay", "x", "--since", "1h"], "name a file, or --since for this ledger"),
        (["replay", "x", "--line", "checkout"], "--until and --line go with --since"),
        (["replay", "/none"], "/none: cannot be read: No such file or directory"),
        (["replay", "--since", "2021-01-01T10:00", "--until", "2021-01-02T10:00"], "nothing is recorded of that time"),
    ],
)
def test_a_replay_of_nothing_is_2_and_one_sentence(words, said, home):
    with Program([ANDON, "-c", home, *words], columns=120) as program:
        assert program.exit_code(30) == 2
        assert said in program.text.replace("\n", " ")
    assert "the room needs a terminal" in run(home, "replay", "--since", "1h").stderr


def test_a_moment_is_written_as_people_write_it():
    now = datetime.now().astimezone()
    assert abs(now.timestamp() - 7200 - _when("2h")) < 5
    assert _when("2026-11-23T13:50+00:00") == 1795441800
    assert _when("2026-11-23 13:50") == datetime(2026, 11, 23, 13, 50).astimezone().timestamp()
    at = datetime.fromtimestamp(_when("23:59"))
    assert (at.hour, at.minute) == (23, 59)
    assert 0 <= datetime.now().timestamp() - _when("23:59") <= 86_400


def test_the_keys_of_a_replay_are_in_the_table():
    assert {command.id for command in COMMANDS if command.group == REPLAY} == {
        *("pause", "step_on", "step_back", "next_event", "previous_event", "faster", "slower"),
    }
