"""The ledger's file: what is written comes back, claims are decided by it, and it outlives crashes and bad hands."""

import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from adapters import _sqlite_chain, _sqlite_file
from adapters.sqlite import SqliteLedger
from andon import events
from andon.board import FORMAT, Board
from andon.events import KINDS, ActAsked, ActStepped, Event, HoldLifted, HoldPlaced, decode, encode
from andon.keeper import fold
from andon.model import SETTLED, Deployment, Sample, to_json
from andon.ports import AlreadyHeld, Audit, Joined, LedgerUnusable, Moved, Pulse
from tests import strategies
from tests.helpers import HOSTILE
from tests.ledgers import SHOP, HandClock, Start, act, asked, lifted, placed, programs, seen, step
from tests.strategies import histories

UNSETTLED = ("intent", "sent", "accepted", "unknown")


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.db"


@pytest.fixture
def ledger(path: Path, clock: HandClock) -> Iterator[SqliteLedger]:
    made = SqliteLedger(path, clock)
    yield made
    made.close()


@pytest.fixture
def start() -> Iterator[Start]:
    with programs() as begin:
        yield begin


def kept(ledger: SqliteLedger) -> list[Any]:
    return [decode(row.kind, row.body) for row in ledger.read(0, 10**6)]


def refold(ledger: SqliteLedger) -> Board:
    return fold(Board(), ledger.read(0, 10**6))[1]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ---- what is written comes back


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_comes_back_as_it_was_written(name):
    @given(strategies.kind(name))
    @settings(max_examples=12)
    def comes_back(event: Event) -> None:
        ledger = SqliteLedger(":memory:", HandClock())
        if isinstance(event, ActStepped):
            ledger.commit(asked(event.act, line=event.line, state=event.was))
        if isinstance(event, HoldLifted):
            ledger.commit(placed(event.hold, line=event.line))
        ledger.commit(event)
        row = ledger.recent("", 1)[0]
        assert decode(row.kind, row.body) == event
        assert (row.kind, row.line, row.at) == (name, event.line, event.at)
        audit = ledger.verify()
        assert audit.broken_at is None, audit.words
        ledger.close()

    comes_back()


@given(histories)
@settings(max_examples=40)
def test_a_board_folded_from_the_ledger_is_the_one_folded_from_what_was_committed(history):
    ledger, board = SqliteLedger(":memory:", HandClock()), Board()
    for event in history:
        try:
            ledger.commit(event)
        except (Joined, AlreadyHeld, Moved, LedgerUnusable):
            continue
        board = board.apply(decode(*encode(event)))
    assert to_json(refold(ledger)) == to_json(board)
    for id_, state in ledger._db.execute("SELECT id, state FROM acts"):
        found = [line.acts[id_] for line in board.lines.values() if id_ in line.acts]
        assert [item.state for item in found] in ([state], []), "what decides claims is not what the board shows"
    open_ = {row[0] for row in ledger._db.execute("SELECT id FROM holds WHERE open")}
    assert open_ == {item.id for line in board.lines.values() for item in line.open_holds}
    ledger.close()


def test_hostile_text_is_kept_harmless_and_byte_for_byte(ledger):
    for text in HOSTILE:
        ledger.commit(seen(text))
    assert kept(ledger) == [seen(text) for text in HOSTILE]
    assert not any(b"\x1b" in row.body or b"\\u001b" in row.body for row in ledger.read(0))
    assert ledger.verify().broken_at is None


def forced(event: Any, name: str, value: object) -> Any:
    """A record that went around its own check."""
    msgspec.structs.force_setattr(event, name, value)
    return event


@pytest.mark.parametrize(
    "event",
    [
        forced(seen(), "words", "\x1b]0;x\x07"),
        forced(seen(), "at", float("nan")),
        forced(seen(), "at", float("inf")),
        forced(seen(), "at", 10**400),
        forced(seen(), "state", "sideways"),
    ],
    ids=["escape", "nan", "infinite", "huge", "no such word"],
)
def test_what_does_not_come_back_equal_is_refused_and_nothing_is_written(ledger, event):
    with pytest.raises(ValueError):
        ledger.commit(seen("before"), event)
    assert ledger.read(0) == []
    ledger.commit(seen("after"))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_refused_at_the_edge(number):
    with pytest.raises(ValueError, match="finite"):
        seen(at=number)
    with pytest.raises(ValueError, match="finite"):
        Sample(1.0, number)
    with pytest.raises(ValueError, match="finite"):
        Deployment(id="d", version="v", state="settled", at=number)


@pytest.mark.parametrize("thing", [act(), Event(SHOP, 1.0), "text", None])
def test_what_is_no_event_is_refused(ledger, thing):
    with pytest.raises(TypeError):
        ledger.commit(thing)


@pytest.mark.parametrize("at", [5, -0.0, 0.1, 1e308])
def test_the_chain_holds_whatever_kind_of_number_a_time_is(ledger, at):
    ledger.commit(seen(at=at))
    assert ledger.verify().broken_at is None


# ---- a version older or newer than this one


class FlagTurned(Event, frozen=True):
    """What a newer version may know."""

    flag: str = "checkout"


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Commits as a newer andon would, which knows one kind more."""

    def commit(ledger: SqliteLedger, kind: str, line: str) -> None:
        with monkeypatch.context() as patch:
            patch.setitem(events.KINDS, kind, FlagTurned)
            patch.setitem(events.NAMES, FlagTurned, kind)
            patch.setitem(events._DECODERS, kind, msgspec.json.Decoder(FlagTurned))
            ledger.commit(FlagTurned(line, 1.0))

    return commit


def write_raw(ledger: SqliteLedger, kind: str, line: str, body: bytes) -> None:
    """A row as another version wrote it, chained as it must be."""

    def write(db: sqlite3.Connection) -> None:
        seq, last = ledger._end(db)
        row = (seq + 1, 1.0, 1.0, kind, 1, line, body)
        db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, _sqlite_chain.chained(last, row)))

    ledger._transaction(write)


def test_an_unknown_kind_is_kept_and_skipped(ledger, newer):
    ledger.commit(placed("h1"))
    before = refold(ledger)
    newer(ledger, "flag-turned", SHOP)
    assert refold(ledger) == before
    assert [row.kind for row in ledger.read(0)] == ["hold-placed", "flag-turned"]
    assert ledger.verify().broken_at is None


@pytest.mark.parametrize("kind", ["act-paused", "hold-frozen"])
def test_an_unknown_kind_of_act_or_hold_makes_its_line_read_only_and_nothing_else(ledger, newer, kind):
    ledger.commit(placed("h1"), placed("h2", line="payments"))
    before = refold(ledger)
    newer(ledger, kind, SHOP)
    after = refold(ledger)
    assert list(after.read_only) == [SHOP]
    assert kind in after.read_only[SHOP]
    assert msgspec.structs.replace(after, read_only={}) == before
    ledger.commit(seen("goes on"))


def test_a_known_kind_with_words_of_a_newer_version_counts_as_unknown(ledger):
    write_raw(
        ledger, "run-seen", SHOP, b'{"line":"shop","at":1,"source":"ci","run":{"id":"r","change":"c","state":"new"}}'
    )
    assert refold(ledger) == Board()
    write_raw(ledger, "act-stepped", SHOP, b'{"line":"shop","at":1,"act":"a1","was":"intent","now":"paused"}')
    assert list(refold(ledger).read_only) == [SHOP]


def test_a_field_of_a_newer_version_is_ignored():
    body = b'{"line":"shop","at":1.5,"hold":"h1","who":"bo","why":"x","mood":{"of":["the",1]}}'
    assert decode("hold-lifted", body) == HoldLifted(line="shop", at=1.5, hold="h1", who="bo", why="x")
    samples = (
        b'{"line":"s","at":1,"deployment":"d","verdict":{"word":"blind","sentence":"x","numbers":[[1,2,3,"new"]]}}'
    )
    assert decode("judged", samples).verdict.numbers == (Sample(1.0, 2.0, 3.0),)


FIRST_ROWS: dict[str, tuple[str, str]] = {
    "changes-seen": (
        '"source":"gh","changes":[{"id":"c"}]',
        "changes[0].title='' changes[0].author='' changes[0].at=0.0",
    ),
    "run-seen": (
        (
            '"source":"gh","run":{"id":"r","change":"c","state":"passed","stages":[{"name":"s","station":"build",'
            '"state":"passed","jobs":[{"name":"j","state":"failed"}]}]}'
        ),
        (
            "run.at=0.0 run.ended_at=None run.branch='' run.who='' run.words='' run.stages[0].at=0.0 "
            "run.stages[0].ended_at=None run.stages[0].usual_s=None run.stages[0].jobs[0].log='' "
            "run.stages[0].jobs[0].at=0.0 run.stages[0].jobs[0].ended_at=None"
        ),
    ),
    "deployment-seen": (
        '"source":"gh","deployment":{"id":"d","version":"v","state":"settled"}',
        (
            "deployment.at=0.0 deployment.by='' deployment.change='' deployment.verified=None deployment.available=True "
            "deployment.back=False deployment.share=100 deployment.words=''"
        ),
    ),
    "halted-seen": (
        '"target":"ci","halted":{"parts":[{"name":"w","halted":true}]}',
        "halted.at=0.0 halted.parts[0].note='' halted.parts[0].moving=()",
    ),
    "source-seen": ('"source":"gh","state":"gone"', "words=''"),
    "watch-opened": ('"deployment":"d","version":"v","until":9,"began":1', "until=9.0 began=1.0"),
    "armed": (
        '"deployment":"d","metric":"m","record":"{}","first":1,"every":60',
        "first=1.0 every=60.0 expected=() low=() high=()",
    ),
    "judged": (
        '"deployment":"d","verdict":{"word":"healthy","sentence":"x"}',
        "final=False did='' verdict.metric='' verdict.onset=None verdict.at=0.0 verdict.numbers=()",
    ),
    "helped": ('"deployment":"d","word":"too early","sentence":"x"', "hold=''"),
    "hold-placed": (
        '"hold":{"id":"h","line":"shop","owner":"ann","why":"x","since":1,"stop":"h"}',
        (
            "hold.kind='person' hold.has='' hold.until=None hold.lifted_at=None hold.lifted_by='' hold.lifted_why='' "
            "hold.deployment=''"
        ),
    ),
    "hold-taken": ('"hold":"h","who":"bo"', "who='bo'"),
    "hold-lifted": ('"hold":"h","who":"bo","why":"x"', "why='x'"),
    "act-asked": (
        (
            '"act":{"id":"a","kind":"halt","line":"shop","target":"ci","subject":"h","who":"ann","why":"x","at":1,'
            '"not_before":1,"not_after":9}'
        ),
        (
            "act.state='intent' act.environment='' act.asker='' act.auto=False act.data_age_s=0.0 act.expected='' "
            "act.version='' act.hold='' act.before=None act.words='' act.ref='' act.sent_at=None act.answered_at=None "
            "act.settled_at=None act.tries=0 act.note=None"
        ),
    ),
    "act-stepped": ('"act":"a","was":"intent","now":"sent"', "words='' ref='' by=''"),
    "marked": ('"deployment":"d","version":"v","mark":"faulty","who":"bo","why":"x"', "mark='faulty'"),
    "started": ('"holder":"me","epoch":1', "config='' version=''"),
}
"""A row of each kind as the first version may have written it, and what a field that was not written means for ever."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_the_first_version_means_what_it_meant(kind):
    body, meanings = FIRST_ROWS[kind]
    event = decode(kind, f'{{"line":"shop","at":1,{body}}}'.encode())
    assert event is not None
    for meaning in meanings.split(" "):
        where, _, value = meaning.partition("=")
        found: Any = event
        for part in where.replace("[0]", ".0").split("."):
            found = found[0] if part == "0" else getattr(found, part)
        assert repr(found) == value, where


# ---- claims


@pytest.mark.parametrize("state", UNSETTLED)
def test_a_claim_belongs_to_an_act_on_its_way(ledger, state):
    ledger.commit(asked("a1", state=state))
    with pytest.raises(Joined) as joined:
        ledger.commit(asked("a2", who="bo"))
    assert joined.value.act == act("a1", state=state)
    ledger.commit(asked("a3", target="deploy"), asked("a4", subject="other"), asked("a5", kind="release"))


@pytest.mark.parametrize("state", sorted(SETTLED))
def test_a_settled_act_absorbs_nothing(ledger, state):
    for n in range(3):
        ledger.commit(asked(f"a{n}"))
        ledger.commit(step(f"a{n}", "intent", "sent"), step(f"a{n}", "sent", state))
    ledger.commit(asked("last"))


def test_a_push_and_a_rollback_have_one_claim(ledger):
    ledger.commit(asked("a1", kind="push", version="new"))
    with pytest.raises(Joined):
        ledger.commit(asked("a2", kind="rollback", version="old"))


def test_who_joins_sees_how_far_the_act_has_come(ledger):
    ledger.commit(asked("a1"), step("a1", "intent", "sent"), step("a1", "sent", "accepted", ref="job 7"))
    with pytest.raises(Joined) as joined:
        ledger.commit(asked("a2"))
    assert (joined.value.act.state, joined.value.act.ref, joined.value.act.tries) == ("accepted", "job 7", 1)


def test_an_owner_has_one_open_hold_per_line(ledger):
    ledger.commit(placed("h1"), placed("h2", owner="bo"), placed("h3", line="payments"))
    with pytest.raises(AlreadyHeld) as held:
        ledger.commit(placed("h4"))
    assert held.value.hold == "h1"
    ledger.commit(lifted("h1"), placed("h5"))


def test_a_hold_is_lifted_once_and_on_its_own_line(ledger):
    ledger.commit(placed("h1"))
    with pytest.raises(Moved):
        ledger.commit(lifted("h1", line="payments"))
    ledger.commit(lifted("h1"))
    with pytest.raises(Moved):
        ledger.commit(lifted("h1"))
    with pytest.raises(Moved):
        ledger.commit(lifted("never"))


def test_a_step_is_taken_only_from_the_state_the_act_is_in(ledger):
    ledger.commit(asked("a1"), step("a1", "intent", "sent"))
    for moved in (
        step("a1", "intent", "withdrawn"),
        step("none", "intent", "sent"),
        step("a1", "sent", "verified", line="x"),
    ):
        with pytest.raises(Moved):
            ledger.commit(moved)
    ledger.commit(step("a1", "sent", "sent"), step("a1", "sent", "verified"))
    assert refold(ledger).line(SHOP).acts["a1"].tries == 2


def test_a_settled_act_is_never_stepped_again(ledger):
    ledger.commit(asked("a1"), step("a1", "intent", "withdrawn"), asked("a2"))
    with pytest.raises(Moved):
        ledger.commit(step("a1", "withdrawn", "sent"))
    ledger.commit(step("a2", "intent", "withdrawn"))
    with pytest.raises(Moved):
        ledger.commit(step("a1", "withdrawn", "intent"))


def test_an_id_is_used_once(ledger):
    ledger.commit(asked("a1"), step("a1", "intent", "withdrawn"), placed("h1"), lifted("h1"))
    with pytest.raises(LedgerUnusable, match="asked before"):
        ledger.commit(asked("a1"))
    with pytest.raises(AlreadyHeld):
        ledger.commit(placed("h1"))


def test_a_hold_or_act_of_another_line_than_its_event_is_refused(ledger):
    with pytest.raises(ValueError, match="another line"):
        ledger.commit(HoldPlaced(line="payments", at=1.0, hold=placed("h1").hold))
    with pytest.raises(ValueError, match="another line"):
        ledger.commit(ActAsked(line="payments", at=1.0, act=act()))


@pytest.mark.parametrize(
    ("last", "error"),
    [
        (asked("a9"), Joined),
        (placed("h9"), AlreadyHeld),
        (step("a1", "sent", "verified"), Moved),
        (lifted("h0"), Moved),
    ],
)
def test_a_commit_is_all_or_nothing(ledger, last, error):
    ledger.commit(asked("a1"), placed("h1"))
    before = ledger.read(0)
    with pytest.raises(error):
        ledger.commit(seen(), asked("a2", subject="x"), placed("h2", "bo"), step("a1", "intent", "intent"), last)
    assert ledger.read(0) == before
    ledger.commit(asked("a2", subject="x"), placed("h2", "bo"), step("a1", "intent", "sent"))
    assert ledger.verify().broken_at is None


RACER = """
import json, sys, time
from adapters.sqlite import SqliteLedger
from andon.clock import WallClock
from andon.events import decode
ledger = SqliteLedger(sys.argv[1], WallClock())
print("ready")
for line in sys.stdin:
    at, kind, body = json.loads(line)
    event = decode(kind, body.encode())
    while time.time() < at:
        pass
    try:
        ledger.commit(event)
        print("won")
    except Exception as error:
        print(type(error).__name__)
"""


@pytest.mark.parametrize("what", ["ask", "step", "place a hold"])
def test_of_two_processes_that_race_exactly_one_wins(ledger, path, start, what):
    racers = [start(RACER, path), start(RACER, path)]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for n in range(20):
        ledger.commit(asked(f"s{n}", subject=f"step {n}"))
        rivals: dict[str, tuple[list[Event], str]] = {
            "ask": ([asked(f"a{n}{who}", subject=f"stop {n}", who=who) for who in "xy"], "Joined"),
            "step": ([step(f"s{n}", "intent", now) for now in ("sent", "withdrawn")], "Moved"),
            "place a hold": ([placed(f"h{n}{sign}", owner=f"owner {n}") for sign in "xy"], "AlreadyHeld"),
        }
        both, loses = rivals[what]
        at = time.time() + 0.01
        for racer, event in zip(racers, both, strict=True):
            kind, body = encode(event)
            print(msgspec.json.encode([at, kind, body.decode()]).decode(), file=racer.stdin)
        assert sorted(racer.stdout.readline().strip() for racer in racers) == sorted(["won", loses])
    assert ledger.verify().events == 40


# ---- the file


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_files_are_the_owners_alone_whatever_the_umask(tmp_path, clock, mask):
    path = tmp_path / "local" / "state" / "andon" / "ledger.db"
    before = os.umask(mask)
    try:
        ledger = SqliteLedger(path, clock)
        ledger.commit(seen())
    finally:
        os.umask(before)
    names = {item.name: mode(item) for item in path.parent.iterdir()}
    assert names == dict.fromkeys(["ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.db.reserve"], 0o600)
    assert {mode(folder) for folder in (path.parent, path.parent.parent, path.parent.parent.parent)} == {0o700}
    ledger.close()


def test_a_ledger_that_others_can_read_is_tightened(ledger, path, clock):
    ledger.commit(seen())
    files = [path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))]
    for file in files:
        file.chmod(0o666)
    SqliteLedger(path, clock, read_only=True).close()
    assert [mode(file) for file in files] == [0o600] * 3


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
def test_a_file_of_somebody_else_is_refused_and_left_alone(ledger, path, clock, end):
    ledger.commit(seen())
    foreign = path.with_name(path.name + end)
    os.chown(foreign, 12345, 12345)
    foreign.chmod(0o644)
    with pytest.raises(LedgerUnusable, match="belongs to somebody else"):
        SqliteLedger(path, clock)
    assert mode(foreign) == 0o644


def test_a_file_that_is_no_ledger_is_refused_and_left_alone(tmp_path, clock):
    text, other = tmp_path / "text.db", tmp_path / "other.db"
    text.write_text("these are my notes\n" * 100)
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE bookmarks (url TEXT)")
    db.close()
    for path in (text, other):
        path.chmod(0o644)
        before = path.read_bytes()
        for read_only in (False, True):
            with pytest.raises(LedgerUnusable, match="not an andon ledger"):
                SqliteLedger(path, clock, read_only=read_only)
        assert (path.read_bytes(), mode(path)) == (before, 0o644)


def test_a_folder_in_the_ledgers_place_is_said_in_words(tmp_path, clock):
    tmp_path.chmod(0o755)
    with pytest.raises(LedgerUnusable, match="not a file"):
        SqliteLedger(tmp_path, clock)
    assert mode(tmp_path) == 0o755
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerUnusable, match="file"):
        SqliteLedger(tmp_path / "file" / "ledger.db", clock)


def test_a_ledger_of_a_newer_andon_is_read_and_never_written(ledger, path, clock):
    ledger.commit(placed("h1"))
    ledger._db.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    ledger.close()
    before = path.read_bytes()
    older = SqliteLedger(path, clock)
    assert kept(older) == [placed("h1")]
    assert older.read_only
    assert "newer andon" in older.trouble()
    for write in writes(older):
        with pytest.raises(LedgerUnusable, match="newer andon"):
            write()
    older.close()
    assert path.read_bytes() == before


def test_who_only_looks_makes_no_ledger(path, clock):
    with pytest.raises(LedgerUnusable, match="no ledger here yet"):
        SqliteLedger(path, clock, read_only=True)
    assert not path.parent.exists()


def test_who_only_looks_at_a_ledger_that_is_being_made_is_told_that_there_is_none_yet(path, clock):
    path.parent.mkdir()
    path.touch(0o600)
    with pytest.raises(LedgerUnusable, match="no ledger here yet"):
        SqliteLedger(path, clock, read_only=True)
    SqliteLedger(path, clock).close()


def writes(ledger: SqliteLedger) -> list[Callable[[], object]]:
    """Everything that would change the file."""
    return [
        lambda: ledger.commit(seen()),
        lambda: ledger.commit(placed("h9", "bo")),
        lambda: ledger.pulse([Pulse("k", 1.0)]),
        lambda: ledger.keep("s", [Sample(1.0, 1.0)]),
        lambda: ledger.take_lease("me", 7.0),
        lambda: ledger.drop_lease("me"),
        lambda: ledger.checkpoint("f", 1, b""),
    ]


def test_who_only_looks_cannot_write(ledger, path, clock):
    ledger.commit(seen())
    looking = SqliteLedger(path, clock, read_only=True)
    for write in writes(looking):
        with pytest.raises(LedgerUnusable):
            write()
    assert len(looking.read(0)) == 1
    looking.close()


def test_many_who_make_one_ledger_at_once_all_get_it(tmp_path, clock):
    troubles: list[BaseException] = []

    def opens(path: Path, gate: threading.Barrier) -> None:
        gate.wait()
        try:
            ledger = SqliteLedger(path, clock)
            ledger.commit(seen())
            ledger.close()
        except BaseException as error:
            troubles.append(error)

    for n in range(8):
        path, gate = tmp_path / f"{n}" / "ledger.db", threading.Barrier(6)
        threads = [threading.Thread(target=opens, args=(path, gate)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert troubles == []
        ledger = SqliteLedger(path, clock)
        assert ledger.verify().events == 6
        ledger.close()


def test_who_opens_a_ledger_while_another_makes_it_waits(path, clock):
    path.parent.mkdir()
    path.touch(0o600)
    maker = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    maker.execute("BEGIN IMMEDIATE")
    maker.execute("SELECT name FROM sqlite_master").fetchall()
    done = threading.Timer(0.2, lambda: maker.execute("ROLLBACK"))
    done.start()
    ledger = SqliteLedger(path, clock)
    ledger.commit(seen())
    ledger.close()
    done.join()
    maker.close()


def test_a_locked_file_is_said_in_words_and_nothing_is_written(ledger, path, clock, monkeypatch):
    monkeypatch.setattr(_sqlite_file, "BUSY_S", 0.1)
    other = SqliteLedger(path, clock)
    ledger._db.execute("BEGIN EXCLUSIVE")
    with pytest.raises(LedgerUnusable, match="another process"):
        other.commit(seen())
    assert other.read(0) == []
    ledger._db.execute("ROLLBACK")
    other.commit(seen())
    other.close()


def test_an_act_that_cannot_be_read_is_said_in_words_and_nothing_is_written(ledger):
    ledger.commit(asked("a1"))
    ledger._db.execute("UPDATE acts SET body = '{\"id\"'")
    for event in (step("a1", "intent", "sent"), asked("a2")):
        with pytest.raises(LedgerUnusable, match="cannot be read"):
            ledger.commit(event)
    assert len(ledger.read(0)) == 1


# ---- crashes and a full disk


WRITER = """
import sys
from adapters.sqlite import SqliteLedger
from andon.clock import WallClock
from andon.events import SourceSeen
ledger = SqliteLedger(sys.argv[1], WallClock())
n = ledger.verify().events
while True:
    ledger.commit(SourceSeen(line="shop", at=1.0, source="gh", state="ok", words=f"{sys.argv[2]} {n}"))
    print(n)
    n += 1
"""


def test_nothing_acknowledged_is_lost_when_the_writer_is_killed(path, clock, start):
    chance, acknowledged = random.Random(5), 0
    for round_ in range(5):
        writer = start(WRITER, path, round_)
        for _ in range(chance.randrange(20, 120)):
            writer.stdout.readline()
            acknowledged += 1
        writer.send_signal(signal.SIGKILL)
        acknowledged += writer.stdout.read().count("\n")  # communicate() would leave out what is buffered here
        ledger = SqliteLedger(path, clock)
        written = [event.words for event in kept(ledger)]
        assert len(written) >= acknowledged
        # One may have been written and not acknowledged: the writer died between the two.
        assert len(written) <= acknowledged + 1
        acknowledged = len(written)
        assert written[-1] == f"{round_} {len(written) - 1}"
        assert ledger.verify() == Audit(acknowledged)
        assert ledger._db.execute("PRAGMA quick_check").fetchall() == [("ok",)]
        ledger.close()


FILLER = """
import resource, sys
from adapters.sqlite import SqliteLedger
from andon.clock import WallClock
from andon.events import SourceSeen
from andon.ports import LedgerUnusable
ledger = SqliteLedger(sys.argv[1], WallClock())
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
written, troubles = 0, set()
for n in range(400):
    try:
        ledger.commit(SourceSeen(line="shop", at=float(n), source="gh", state="ok", words="x" * 500))
        written += 1
    except LedgerUnusable as error:
        troubles.add(str(error))
        if len(ledger.read(0, 10**6)) != written:
            sys.exit("a refused event is there")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
ledger.commit(SourceSeen(line="shop", at=0.0, source="gh", state="ok", words="again"))
print(written)
print(*troubles, sep="\\n")
"""


def test_a_disk_that_takes_no_more_loses_nothing_and_goes_on_when_it_does(path, clock, start):
    words, _ = start(FILLER, path).communicate(timeout=30)
    written, *troubles = words.splitlines()
    assert 20 < int(written) < 400
    assert troubles and all(str(path) in trouble and "disk" in trouble for trouble in troubles)
    ledger = SqliteLedger(path, clock)
    assert ledger.verify() == Audit(int(written) + 1)
    assert ledger._db.execute("PRAGMA quick_check").fetchall() == [("ok",)]
    ledger.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir(0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k,mode=700", "tmpfs", str(folder)]
    if os.getuid() or not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root, where it may mount, can make a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_said_in_words_loses_nothing_and_goes_on_when_there_is_room(small_disk, clock):
    ledger, ballast = SqliteLedger(small_disk / "ledger.db", clock), small_disk / "ballast"
    ballast.write_bytes(b"x" * 200_000)
    written = 0
    with pytest.raises(LedgerUnusable, match="disk is full"):
        while True:
            ledger.commit(seen("x" * 500))
            written += 1
    assert len(ledger.read(0)) == written > 0
    ballast.unlink()
    ledger.commit(asked("a1"), step("a1", "intent", "sent"))
    assert ledger.verify().events == written + 2
    ledger.close()


# ---- the chain


@pytest.fixture
def thirty(ledger: SqliteLedger, path: Path) -> Path:
    """A closed ledger with thirty events."""
    for n in range(30):
        ledger.commit(seen(f"event {n}", at=float(n)))
    assert ledger.verify() == Audit(30)
    ledger.close()
    return path


def tamper(path: Path, *statements: str) -> None:
    """What somebody with the file and some SQL does."""
    db = sqlite3.connect(path)
    db.execute("DROP TRIGGER events_stay")
    db.execute("DROP TRIGGER events_are_kept")
    for statement in statements:
        assert db.execute(statement).rowcount != 0, statement
    db.commit()
    db.close()


def harm(n: int, a: int, b: int) -> tuple[str, ...]:
    """Twenty ways to change a record, on rows `a` and `b`."""
    swap = (
        f"UPDATE events SET seq = -1 WHERE seq = {a}",
        f"UPDATE events SET seq = {a} WHERE seq = {b}",
        f"UPDATE events SET seq = {b} WHERE seq = -1",
    )
    ways = [
        (f"UPDATE events SET body = replace(CAST(body AS TEXT), 'event', 'evemt') WHERE seq = {a}",),
        (f"UPDATE events SET body = CAST(replace(CAST(body AS TEXT), '{a - 1}', '99') AS BLOB) WHERE seq = {a}",),
        (f"DELETE FROM events WHERE seq = {a}",),
        swap,
        ("DELETE FROM events WHERE seq = 30",),
        (f"UPDATE events SET at = at + 1 WHERE seq = {a}",),
        (f"UPDATE events SET seen = seen + 1 WHERE seq = {a}",),
        (f"UPDATE events SET line = 'other' WHERE seq = {a}",),
        (f"UPDATE events SET kind = 'hold-lifted' WHERE seq = {a}",),
        (f"UPDATE events SET v = 2 WHERE seq = {a}",),
        (f"UPDATE events SET hash = zeroblob(32) WHERE seq = {a}",),
        (f"UPDATE events SET body = (SELECT body FROM events WHERE seq = {b}) WHERE seq = {a}",),
        (f"DELETE FROM events WHERE seq = {a}", f"UPDATE events SET seq = seq - 1 WHERE seq > {a}"),
        (f"INSERT INTO events SELECT 31, at, seen, kind, v, line, body, hash FROM events WHERE seq = {a}",),
        ("DELETE FROM events WHERE seq = 1",),
        ("DELETE FROM events",),
        (f"DELETE FROM events WHERE seq > {min(a, b)}",),
        (f"UPDATE events SET hash = 'words' WHERE seq = {a}",),
        (f"UPDATE events SET at = 'words' WHERE seq = {a}",),
        (f"UPDATE events SET seq = seq + 100 WHERE seq >= {a}",),
    ]
    return ways[n]


@pytest.mark.parametrize("n", range(20))
def test_every_change_to_what_was_written_is_found(thirty, clock, n):
    a, b = random.Random(n).sample(range(2, 30), 2)
    tamper(thirty, *harm(n, a, b))
    ledger = SqliteLedger(thirty, clock)
    audit = ledger.verify()
    assert audit.broken_at is not None, harm(n, a, b)
    assert audit.words
    ledger.commit(seen("goes on"))
    assert ledger.verify().broken_at is not None, "found now, but not after the next event"
    ledger.close()


def test_the_file_itself_refuses_a_change(ledger):
    ledger.commit(seen())
    for statement in ("UPDATE events SET at = 2", "DELETE FROM events"):
        with pytest.raises(sqlite3.IntegrityError):
            ledger._db.execute(statement)


CONFIG = """
connections: {plant: {adapter: plant}}
lines: {shop: {deploy: {from: plant, only_way_in: true}}}
"""


def audit_verify(tmp_path: Path, ledger: Path) -> tuple[int, str]:
    config = tmp_path / "andon.yaml"
    config.write_text(CONFIG)
    config.chmod(0o600)
    command = [Path(sys.executable).with_name("andon"), "-c", config, "--ledger", ledger, "audit", "verify"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def test_audit_verify_ends_with_0_for_a_whole_chain_1_for_a_broken_one_and_2_for_no_answer(tmp_path, thirty):
    code, words = audit_verify(tmp_path, thirty)
    assert (code, words) == (0, "30 events, the chain is whole\n")
    tamper(thirty, "UPDATE events SET body = replace(CAST(body AS TEXT), 'event', '[/]') WHERE seq = 7")
    code, words = audit_verify(tmp_path, thirty)
    assert code == 1
    assert "event 7 was changed" in words
    thirty.write_bytes(b"not a ledger at all" * 100)
    code, words = audit_verify(tmp_path, thirty)
    assert code == 2
    assert "not an andon ledger" in words


def test_audit_verify_finds_a_checkpoint_that_is_not_what_the_events_add_up_to(tmp_path, thirty, clock):
    ledger = SqliteLedger(thirty, clock)
    ledger.checkpoint(FORMAT, 30, to_json(Board(started=77.0)))
    ledger.close()
    code, words = audit_verify(tmp_path, thirty)
    assert code == 1
    assert "checkpoint differs" in words


# ---- checkpoints


def test_a_checkpoint_is_given_back_to_who_asks_for_its_format(ledger):
    ledger.commit(seen("1"), seen("2"))
    ledger.checkpoint("f", 1, b"board")
    assert ledger.last_checkpoint("f") == (1, b"board")
    assert ledger.last_checkpoint("g") is None
    ledger.checkpoint("f", 2, b"later")
    ledger.checkpoint("g", 1, b"other")
    assert ledger.last_checkpoint("f") == (2, b"later")
    assert ledger.last_checkpoint("g") == (1, b"other")


def test_a_checkpoint_of_an_event_that_is_not_there_is_not_kept(ledger):
    ledger.commit(seen())
    ledger.checkpoint("f", 5, b"board")
    assert ledger.last_checkpoint("f") is None


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE events SET hash = zeroblob(32) WHERE seq = 20",
        "DELETE FROM events WHERE seq = 20",
        "UPDATE checkpoints SET seq = 19",
        "UPDATE checkpoints SET board = CAST(replace(CAST(board AS TEXT), '1', '2') AS BLOB)",
        "UPDATE checkpoints SET board = x'7b7d'",
        "UPDATE checkpoints SET board = 'text'",
        "UPDATE checkpoints SET hash = zeroblob(32)",
    ],
)
def test_a_checkpoint_that_does_not_fit_is_ignored(thirty, clock, harm):
    ledger = SqliteLedger(thirty, clock)
    ledger.checkpoint("f", 20, b"board 111")
    assert ledger.last_checkpoint("f") == (20, b"board 111")
    ledger.close()
    tamper(thirty, harm)
    ledger = SqliteLedger(thirty, clock)
    assert ledger.last_checkpoint("f") is None
    ledger.close()


# ---- the lease


def test_one_holds_the_lease_and_renewing_it_keeps_its_epoch(ledger, path, clock):
    other = SqliteLedger(path, clock)
    assert ledger.lease() is None
    first = ledger.take_lease("one", 7.0)
    assert (first.holder, first.epoch, first.expires_at) == ("one", 1, 1007.0)
    clock.at += 3
    assert other.take_lease("two", 7.0) is None
    renewed = ledger.take_lease("one", 7.0)
    assert (renewed.epoch, renewed.expires_at, renewed.beat_at) == (1, 1010.0, 1003.0)
    assert other.lease() == renewed
    other.close()


def test_a_lease_that_ran_out_is_taken_over_with_a_higher_epoch(ledger, path, clock):
    other = SqliteLedger(path, clock)
    ledger.take_lease("one", 7.0)
    clock.at += 6.9
    assert other.take_lease("two", 7.0) is None
    clock.at += 0.1
    assert ledger.lease() is None
    assert other.take_lease("two", 7.0).epoch == 2
    assert ledger.take_lease("one", 7.0) is None
    clock.at += 8
    assert other.take_lease("two", 7.0).epoch == 3, "nobody held it for a second: what was done then is not ours"
    other.close()


def test_a_lease_is_handed_over_at_once(ledger, path, clock):
    other = SqliteLedger(path, clock)
    ledger.take_lease("one", 7.0)
    other.drop_lease("two")
    assert other.take_lease("two", 7.0) is None
    ledger.drop_lease("one")
    assert other.lease() is None
    assert other.take_lease("two", 7.0).epoch == 2
    other.close()


# ---- samples and signs of life


def test_a_later_sample_replaces_the_one_of_the_same_bucket(ledger):
    ledger.keep("shop/conv", [Sample(0.0, 1.0, 10.0), Sample(60.0, 2.0, None)])
    ledger.keep("shop/conv", [Sample(60.0, 3.0, 30.0), Sample(120.0, 4.0)])
    assert ledger.samples("shop/conv", 0.0, 999.0) == (
        Sample(0.0, 1.0, 10.0),
        Sample(60.0, 3.0, 30.0),
        Sample(120.0, 4.0),
    )


def test_a_range_holds_its_start_and_not_its_end(ledger):
    ledger.keep("s", [Sample(at, at) for at in (120.0, 0.0, 60.0)])
    assert [row.at for row in ledger.samples("s", 0.0, 120.0)] == [0.0, 60.0]
    assert ledger.samples("s", 60.0, 60.0) == ()
    assert ledger.samples("nobody's", 0.0, 999.0) == ()


def test_old_samples_are_forgotten_and_only_of_that_series(ledger):
    ledger.keep("old", [Sample(0.0, 1.0)])
    ledger.keep("s", [Sample(at, at) for at in (0.0, 60.0, 120.0)])
    ledger.keep("s", [], forget_before=60.0)
    assert [row.at for row in ledger.samples("s", 0.0, 999.0)] == [60.0, 120.0]
    assert len(ledger.samples("old", 0.0, 999.0)) == 1


def test_samples_are_no_events(ledger):
    ledger.keep("s", [Sample(0.0, 1.0)])
    ledger.pulse([Pulse("k", 1.0)])
    assert ledger.read(0) == []


def test_the_last_sign_of_life_is_kept_per_key(ledger, path, clock):
    other = SqliteLedger(path, clock)
    ledger.pulse([Pulse("source:gh", 1.0, "ok"), Pulse("person:ann", 1.0, "here", "\x1b[c")])
    other.pulse([Pulse("source:gh", 2.0, "gone", "404")])
    expected = [Pulse("source:gh", 2.0, "gone", "404"), Pulse("person:ann", 1.0, "here", "\x1b[c")]
    assert ledger.pulses() == {pulse.key: pulse for pulse in expected}
    other.close()


# ---- reading


def test_events_are_read_in_order_in_pieces_and_newest_first(ledger):
    ledger.commit(*(seen(str(n)) for n in range(5)), placed("h1", line="payments"))
    assert [row.seq for row in ledger.read(0)] == [1, 2, 3, 4, 5, 6]
    assert [row.seq for row in ledger.read(2, 3)] == [3, 4, 5]
    assert [row.seq for row in ledger.recent(SHOP, 2)] == [5, 4]
    assert [row.seq for row in ledger.recent("", 2)] == [6, 5]


def test_a_row_tells_when_it_was_seen_by_our_clock(ledger, clock):
    clock.at = 5000.0
    ledger.commit(seen(at=1.0))
    assert (ledger.read(0)[0].at, ledger.read(0)[0].seen) == (1.0, 5000.0)


def test_what_another_connection_wrote_is_noticed_once(ledger, path, clock):
    other = SqliteLedger(path, clock)
    other.changed()
    assert not other.changed()
    ledger.commit(seen())
    assert other.changed()
    assert not other.changed()
    other.commit(seen())
    assert not other.changed()
    other.close()


def test_a_ledger_that_cannot_be_read_says_so_whatever_is_asked(ledger):
    ledger.close()
    asks: list[Callable[[], object]] = [
        lambda: ledger.read(0),
        lambda: ledger.recent("", 1),
        ledger.changed,
        ledger.lease,
        ledger.pulses,
        ledger.verify,
        lambda: ledger.samples("s", 0, 1),
        lambda: ledger.last_checkpoint("f"),
        lambda: ledger.commit(seen()),
    ]
    for ask in asks:
        with pytest.raises(LedgerUnusable):
            ask()
