"""The ledger's file: what is written comes back, claims are decided by it, and it outlives crashes and bad hands."""

import os
import shutil
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters import _sqlite_file
from adapters.sqlite import SqliteLedger
from andon.events import KINDS, HoldLifted, decode
from andon.model import Deployment, Sample
from andon.ports import Audit, LedgerUnusable
from tests.ledger_contract import LedgerContract, audit_verify
from tests.ledgers import HandClock, SqlitePlace, Start, asked, programs, seen, step


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


class TestWhatEveryLedgerMustDo(LedgerContract):
    @pytest.fixture
    def place(self, path: Path) -> SqlitePlace:
        return SqlitePlace(path)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_refused_at_the_edge(number):
    with pytest.raises(ValueError, match="finite"):
        seen(at=number)
    with pytest.raises(ValueError, match="finite"):
        Sample(1.0, number)
    with pytest.raises(ValueError, match="finite"):
        Deployment(id="d", version="v", state="settled", at=number)


# ---- a version older or newer than this one


def test_a_field_of_a_newer_version_is_ignored():
    body = b'{"line":"shop","at":1.5,"hold":"h1","who":"bo","why":"x","mood":{"of":["the",1]}}'
    assert decode("hold-lifted", body) == HoldLifted(line="shop", at=1.5, hold="h1", who="bo", why="x")
    samples = (
        b'{"line":"s","at":1,"deployment":"d","verdict":{"word":"blind","sentence":"x","numbers":[[1,2,3,[],"new"]]}}'
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
    "hold-taken": ('"hold":"h","who":"bo"', "who='bo' by=''"),
    "hold-changed": ('"hold":"h","who":"bo"', "why='' until=None"),
    "call-taken": ('"call":"a","who":"bo"', "who='bo'"),
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


# ---- crashes and a full disk


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


def test_the_file_itself_refuses_a_change(ledger):
    ledger.commit(seen())
    for statement in ("UPDATE events SET at = 2", "DELETE FROM events"):
        with pytest.raises(sqlite3.IntegrityError):
            ledger._db.execute(statement)


def test_audit_verify_ends_with_2_for_what_cannot_be_read(tmp_path, path, ledger):
    ledger.close()
    path.write_bytes(b"not a ledger at all" * 100)
    code, words = audit_verify(tmp_path, path)
    assert code == 2
    assert "not an andon ledger" in words


def test_a_row_tells_when_it_was_seen_by_our_clock(ledger, clock):
    clock.at = 5000.0
    ledger.commit(seen(at=1.0))
    assert (ledger.read(0)[0].at, ledger.read(0)[0].seen) == (1.0, 5000.0)
