"""The ledger under faults: a full disk at each step, damage, a lock, a network disk, another version, a clock that jumps.

In each case nothing that was acknowledged is lost, what is wrong is said in words, and acts go on as long as they can.
"""

import contextlib
import os
import random
import re
import shutil
import sqlite3
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters import _sqlite_examined, _sqlite_file, _sqlite_reserve
from adapters.sqlite import SqliteLedger
from andon.board import Board
from andon.clock import WallClock
from andon.events import Event, decode
from andon.keeper import Keeper, fold
from andon.model import Sample, to_json
from andon.ports import LedgerUnusable, Moved, Pulse
from tests.helpers import wait_until
from tests.ledgers import SHOP, HandClock, Start, asked, lifted, placed, programs, seen, step

LIMIT_S = 30.0


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.db"


@pytest.fixture
def start() -> Iterator[Start]:
    with programs() as begin:
        yield begin


def kept(ledger: SqliteLedger) -> list[Any]:
    return [decode(row.kind, row.body) for row in ledger.read(0, 10**6)]


STORY: tuple[tuple[Event, ...], ...] = (
    (placed("h1"), asked("halt", subject="h1")),
    (step("halt", "intent", "sent"),),
    (step("halt", "sent", "accepted"),),
    (step("halt", "accepted", "verified"),),
    (asked("back", kind="rollback", target="cd", subject="d2"),),
    (step("back", "intent", "sent"),),
    (step("back", "sent", "unknown"),),
    (step("back", "unknown", "verified"),),
    (lifted("h1"), asked("open", kind="release", subject="h1")),
    (step("open", "intent", "sent"),),
    (step("open", "sent", "verified"),),
)
"""A stop, a rollback and the resuming, one commit after the other."""


# ---- a full disk


class SmallDisk:
    """A file system of four megabytes, and the ballast that fills it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ballast = folder / "ballast"

    def fill(self) -> None:
        """Leave nothing."""
        with self.ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def empty(self) -> None:
        """What somebody does who makes room."""
        self.ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "disk"
    folder.mkdir(0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", str(folder)]
    if os.getuid() or not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        if os.environ.get("CI"):
            pytest.fail("here a small disk must be there to be filled")
        pytest.skip("only root, where it may mount, can make a small disk")
    yield SmallDisk(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("at", range(len(STORY)))
def test_a_disk_that_is_full_before_any_step_of_a_stop_keeps_no_step_from_being_recorded(disk, clock, at):
    ledger = SqliteLedger(disk.folder / "ledger.db", clock)
    done: list[Event] = []
    for n, events in enumerate(STORY):
        if n == at:
            disk.fill()
        ledger.commit(*events)
        done += events
    assert kept(ledger) == done
    assert ledger.verify().broken_at is None
    ledger.close()
    again = SqliteLedger(disk.folder / "ledger.db", clock)
    assert kept(again) == done
    again.close()


def flood(ledger: SqliteLedger) -> int:
    """Observations until no more are taken; how many were."""
    written = 0
    with pytest.raises(LedgerUnusable, match="disk is full"):
        while True:
            ledger.commit(seen("x" * 400))
            written += 1
    return written


def acts(ledger: SqliteLedger, most: int = 100) -> int:
    """Acts, asked and settled, until no more are taken; how many entries that were."""
    written = 0
    for n in range(most):
        for event in (asked(f"a{n}", subject=f"{n}", why="y" * 200), step(f"a{n}", "intent", "withdrawn")):
            try:
                ledger.commit(event)
            except LedgerUnusable:
                return written
            written += 1
    return written


@pytest.mark.parametrize("by", ["itself", "others"])
def test_when_the_disk_is_full_200_more_acts_are_recorded_and_observations_are_refused_in_words(disk, clock, by):
    path = disk.folder / "ledger.db"
    ledger = SqliteLedger(path, clock)
    for n in range(20):
        ledger.commit(seen(str(n)))
    if by == "others":
        disk.fill()
    before = 20 + flood(ledger)
    disk.fill()  # what little was left over, too
    assert acts(ledger) == 200
    other = SqliteLedger(path, clock)
    for each in (ledger, other):
        assert "disk is full" in each.trouble()
        with pytest.raises(LedgerUnusable, match="acts are still recorded"):
            each.commit(seen())
        with pytest.raises(LedgerUnusable, match="disk is full"):
            each.keep("s", [Sample(1.0, 1.0)])
    assert other.take_lease("me", 7.0)
    other.commit(placed("h1"))
    ledger.pulse([Pulse("person:ann", 1.0)])
    assert ledger.verify().events == before + 201
    ledger.close()
    other.close()


def test_without_the_reserve_the_acts_would_not_fit(disk, clock, monkeypatch):
    monkeypatch.setattr(_sqlite_reserve.Reserve, "give_up", lambda _: False)
    ledger = SqliteLedger(disk.folder / "ledger.db", clock)
    disk.fill()
    flood(ledger)
    assert acts(ledger) < 200, "the test above would pass without what it tests"
    ledger.close()


def test_when_there_is_room_the_reserve_is_made_again_and_all_goes_on(disk, clock, monkeypatch):
    monkeypatch.setattr(_sqlite_reserve, "AGAIN_S", 0.0)
    path = disk.folder / "ledger.db"
    reserve = disk.folder / "ledger.db.reserve"
    ledger = SqliteLedger(path, clock)
    disk.fill()
    flood(ledger)
    assert acts(ledger, 5) == 10
    assert reserve.stat().st_size == 0
    disk.empty()
    ledger.commit(seen("again"))
    assert ledger.trouble() == ""
    assert reserve.stat().st_size == _sqlite_reserve.SIZE
    assert stat.S_IMODE(reserve.stat().st_mode) == 0o600
    ledger.close()


def test_a_full_disk_is_trouble_also_while_acts_are_recorded_until_there_is_room(disk, monkeypatch):
    monkeypatch.setattr(_sqlite_reserve, "AGAIN_S", 0.0)
    keeper = Keeper(lambda: SqliteLedger(disk.folder / "ledger.db", WallClock()), WallClock()).start()
    try:
        disk.fill()
        for n in range(40):
            keeper.submit(lambda ledger, n=n: ledger.commit(placed(f"h{n}", str(n))), urgent=True, writes=True).result(
                LIMIT_S
            )
        wait_until(lambda: "disk is full" in keeper.trouble, LIMIT_S)
        assert len(keeper.board.line(SHOP).open_holds) == 40
        disk.empty()
        wait_until(lambda: keeper.trouble == "", LIMIT_S)
    finally:
        keeper.close()


def test_a_disk_too_small_for_a_reserve_has_none_and_works(path, clock, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 100, 1000))
    ledger = SqliteLedger(path, clock)
    ledger.commit(seen(), placed("h1"))
    assert not path.with_name("ledger.db.reserve").exists()
    assert ledger.trouble() == ""
    ledger.close()


def test_a_link_in_the_reserves_place_is_not_followed(path, tmp_path, clock):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    path.parent.mkdir(0o700)
    path.with_name("ledger.db.reserve").symlink_to(precious)
    reserve = _sqlite_reserve.Reserve(path)
    assert not reserve.give_up()
    assert precious.read_text() == "mine"
    SqliteLedger(path, clock).close()
    assert precious.read_text() == "mine"


# ---- damage


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger of some fifty pages."""
    file = tmp_path_factory.mktemp("whole") / "ledger.db"
    ledger = SqliteLedger(file, HandClock())
    for n in range(60):
        ledger.commit(seen(f"{n} " * 100), placed(f"h{n}", f"owner {n}"), asked(f"a{n}", subject=f"{n}"))
        if n % 2:
            ledger.commit(step(f"a{n}", "intent", "sent"), lifted(f"h{n}"))
    ledger.close()
    return file


def damaged(content: bytes, number: int) -> bytes:
    """The file with one to three of its pages harmed, in one of five ways."""
    chance, page, out = random.Random(number), 4096, bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 3])):
        at = chance.randrange(len(out) // page) * page
        way = number % 5
        if way == 0:
            out[at : at + page] = chance.randbytes(page)
        elif way == 1:
            out[at : at + page] = bytes(page)
        elif way == 2:
            other = chance.randrange(len(out) // page) * page
            out[at : at + page] = out[other : other + page]
        elif way == 3:
            for _ in range(8):
                out[at + chance.randrange(page)] ^= 1 << chance.randrange(8)
        else:
            out[at + page - 600 : at + page] = chance.randbytes(600)
    return bytes(out)


def facts(ledger: SqliteLedger) -> list[Any]:
    """What was acknowledged: the events, and what is claimed by them."""
    claims = [ledger._db.execute(f"SELECT * FROM {table} ORDER BY id").fetchall() for table in ("acts", "holds")]
    return [kept(ledger), *claims]


def outcome(file: Path, expected: list[Any]) -> str:
    """What becomes of a damaged ledger: refused, told, unharmed, or (never) silent."""
    clock = HandClock()
    keeper = Keeper(lambda: SqliteLedger(file, clock), clock)
    try:
        keeper.start()
        examination = keeper.submit(lambda ledger: ledger._examination).result(LIMIT_S)
        wait_until(lambda: keeper.trouble or examination.done, LIMIT_S)
        if keeper.trouble or examination.words():
            wait_until(lambda: str(file) in keeper.trouble, LIMIT_S)
            return "told"
        same = keeper.submit(lambda ledger: facts(ledger) == expected).result(LIMIT_S)
        same = same and to_json(keeper.board) == to_json(fold(Board(), keeper.submit(lambda x: x.read(0)).result())[1])
    except LedgerUnusable as error:
        assert str(file) in str(error)
        return "refused"
    except (UnicodeDecodeError, sqlite3.DatabaseError):
        same = False
    finally:
        keeper.close()
    return "unharmed" if same else "silent"


def outcomes(whole: Path, folder: Path, numbers: range) -> list[str]:
    ledger = SqliteLedger(whole, HandClock(), read_only=True)
    expected, found = facts(ledger), []
    ledger.close()
    content = whole.read_bytes()
    for number in numbers:
        file = folder / f"{number}.db"
        file.write_bytes(damaged(content, number))
        found.append(outcome(file, expected))
    return found


def test_a_damaged_ledger_is_refused_or_told_and_never_silently_less(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(_sqlite_examined, "AFTER_S", 0.0)
    found = outcomes(whole, tmp_path, range(50))
    assert "silent" not in found, found
    assert {"refused", "told"} <= set(found)


@pytest.mark.nightly
def test_a_damaged_ledger_is_never_silently_less_in_hundreds_of_cases(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(_sqlite_examined, "AFTER_S", 0.0)
    assert "silent" not in outcomes(whole, tmp_path, range(50, 450))


def test_without_the_examination_some_damage_would_be_silent(whole, tmp_path, monkeypatch):
    class Blind(_sqlite_examined.Examination):
        def __init__(self, *_: object) -> None:
            self.done = True

        def leave(self) -> None:
            pass

        def words(self) -> str:
            return ""

    monkeypatch.setattr("adapters.sqlite.Examination", Blind)
    assert "silent" in outcomes(whole, tmp_path, range(50)), "the test above would pass without what it tests"


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE acts SET state = 'withdrawn' WHERE id = 'a0'",
        "UPDATE acts SET body = replace(CAST(body AS TEXT), 'halt', 'hald') WHERE id = 'a1'",
        "DELETE FROM acts WHERE id = 'a2'",
        "UPDATE holds SET open = 0 WHERE id = 'h0'",
        "UPDATE holds SET open = 1, owner = 'x' WHERE id = 'h1'",
        "DELETE FROM holds WHERE id = 'h3'",
    ],
)
def test_a_claim_that_is_not_what_the_events_say_is_found(whole, tmp_path, clock, harm):
    file = tmp_path / "ledger.db"
    shutil.copy(whole, file)
    with sqlite3.connect(file) as db:
        assert db.execute(harm).rowcount == 1
    db.close()
    ledger = SqliteLedger(file, clock)
    audit = ledger.verify()
    assert audit.broken_at is not None
    assert "not what the events say" in audit.words
    ledger.close()


def test_leaving_does_not_wait_for_the_examination(whole, tmp_path, clock, monkeypatch):
    monkeypatch.setattr(_sqlite_examined, "AFTER_S", 0.0)
    file = tmp_path / "ledger.db"
    shutil.copy(whole, file)
    monkeypatch.setattr("adapters.sqlite.walked", lambda db: db.execute(FOR_EVER).fetchone())
    ledger = SqliteLedger(file, clock)
    ledger.trouble()
    wait_until(lambda: ledger._examination._db is not None, LIMIT_S)
    ledger.close()
    assert not ledger._examination._thread.is_alive()


FOR_EVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"


# ---- a lock


LOCKER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN EXCLUSIVE")
print("locked")
sys.stdin.readline()
db.execute("ROLLBACK")
"""


def test_a_file_locked_for_three_seconds_delays_a_pull_and_loses_nothing(path, start):
    keeper = Keeper(lambda: SqliteLedger(path, WallClock()), WallClock()).start()
    try:
        locker = start(LOCKER, path)
        assert locker.stdout.readline() == "locked\n"
        pull = keeper.submit(lambda ledger: ledger.commit(placed("h1")), urgent=True, writes=True)
        with pytest.raises(TimeoutError):
            pull.result(3.0)
        print(file=locker.stdin)
        pull.result(LIMIT_S)
        assert keeper.board.line(SHOP).stop == "h1"
        assert keeper.trouble == ""
    finally:
        keeper.close()


def test_a_ledger_is_opened_while_another_process_writes_and_does_not_end(path, clock, start):
    SqliteLedger(path, clock).close()
    locker = start(LOCKER, path)
    assert locker.stdout.readline() == "locked\n"
    began = time.monotonic()
    ledger = SqliteLedger(path, clock)
    assert ledger.read(0) == []
    assert time.monotonic() - began < _sqlite_file.BUSY_S
    ledger.close()


# ---- a network disk


ROOT_MOUNT = "27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw"


def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, place: Path) -> None:
    """As if `place` were a file system of that kind."""
    listed = tmp_path / "mountinfo"
    escaped = str(place).replace(" ", "\\040")
    listed.write_text(f"{ROOT_MOUNT}\n99 27 0:52 / {escaped} rw,relatime - {kind} server:/export rw,vers=4.2\n")
    monkeypatch.setattr(_sqlite_file, "MOUNTS", listed)


@pytest.mark.parametrize(
    "kind",
    [
        *("nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "lustre", "gfs2", "ocfs2"),
        *("fuse.sshfs", "fuse.rclone", "fuse.glusterfs", "fuse.s3fs", "fuse.gvfsd-fuse"),
    ],
)
def test_a_network_disk_is_refused_with_what_works_instead(tmp_path, clock, monkeypatch, kind):
    share = tmp_path / "my share"
    share.mkdir()
    mounted(tmp_path, monkeypatch, kind, share)
    for read_only in (False, True):
        with pytest.raises(LedgerUnusable, match=re.escape(f"this is on {kind}, ")) as refused:
            SqliteLedger(share / "deep" / "ledger.db", clock, read_only=read_only)
        assert "`andon --ledger /" in str(refused.value)
        assert "`ledger: /" in str(refused.value)
    assert list(share.iterdir()) == []
    SqliteLedger(tmp_path / "local" / "ledger.db", clock).close()


@pytest.mark.parametrize(
    "kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "virtiofs", "fuseblk", "fuse.gocryptfs", "ntfs3"]
)
def test_a_local_disk_is_taken(tmp_path, clock, monkeypatch, kind):
    mounted(tmp_path, monkeypatch, kind, tmp_path)
    SqliteLedger(tmp_path / "ledger.db", clock).close()


def test_a_link_to_a_network_disk_is_followed(tmp_path, clock, monkeypatch):
    share = tmp_path / "share"
    share.mkdir()
    (tmp_path / "state").symlink_to(share)
    mounted(tmp_path, monkeypatch, "nfs4", share)
    with pytest.raises(LedgerUnusable, match="nfs4"):
        SqliteLedger(tmp_path / "state" / "ledger.db", clock)


def test_where_the_system_does_not_tell_the_ledger_is_tried(path, tmp_path, clock, monkeypatch):
    monkeypatch.setattr(_sqlite_file, "MOUNTS", tmp_path / "nothing")
    SqliteLedger(path, clock).close()


# ---- other versions


RECORDED = Path(__file__).with_name("ledger-1.sql")
"""A ledger that andon made when its schema was 1, as SQL."""


@pytest.fixture
def first(path: Path) -> Path:
    path.parent.mkdir(0o700)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(RECORDED.read_text())
    db.close()
    path.chmod(0o600)
    return path


def pragma(ledger: SqliteLedger, name: str) -> int:
    return ledger._db.execute(f"PRAGMA {name}").fetchone()[0]


def schema(ledger: SqliteLedger) -> str:
    return ledger._db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()[0]


def test_a_ledger_of_the_first_format_is_brought_to_this_one_with_all_that_is_in_it(first, clock):
    looking = SqliteLedger(first, clock, read_only=True)
    before = facts(looking)
    assert schema(looking) == "1"
    looking.close()
    assert len(before[0]) == 9
    ledger = SqliteLedger(first, clock)
    assert (schema(ledger), pragma(ledger, "auto_vacuum")) == (str(_sqlite_file.SCHEMA), 2)
    assert facts(ledger) == before
    assert ledger.verify().broken_at is None
    assert ledger.samples("shop/conv", 0.0, 999.0) == (Sample(60.0, 3.0, 40.0), Sample(120.0, 4.0, 41.0))
    assert ledger.pulses() == {"person:ann": Pulse("person:ann", 7.0, "here")}
    assert ledger.lease().holder == "web-7"
    with pytest.raises(Moved):
        ledger.commit(lifted("h1"))
    ledger.commit(lifted("h2"), step("a2", "intent", "sent"))
    assert ledger.verify().events == 11
    ledger.close()


def test_a_ledger_in_use_is_brought_to_this_format_the_next_time(first, clock, monkeypatch):
    monkeypatch.setattr(_sqlite_file, "BUSY_S", 0.1)
    writer = sqlite3.connect(first, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    ledger = SqliteLedger(first, clock)
    assert schema(ledger) == "1"
    writer.execute("ROLLBACK")
    ledger.commit(lifted("h2"))
    ledger.close()
    writer.close()
    ledger = SqliteLedger(first, clock)
    assert schema(ledger) == str(_sqlite_file.SCHEMA)
    assert ledger.verify().events == 10
    ledger.close()


def test_an_older_andon_reads_a_newer_ledger_and_never_writes_to_it(path, clock, monkeypatch):
    newer = SqliteLedger(path, clock)
    newer.commit(placed("h1"))
    newer.close()
    before = path.read_bytes()
    monkeypatch.setattr(_sqlite_file, "SCHEMA", 1)
    keeper = Keeper(lambda: SqliteLedger(path, clock), clock).start()
    try:
        assert keeper.board.line(SHOP).stop == "h1"
        wait_until(lambda: "newer andon" in keeper.trouble, LIMIT_S)
        with pytest.raises(LedgerUnusable, match="newer andon"):
            keeper.submit(lambda ledger: ledger.commit(placed("h2", "bo")), writes=True).result(LIMIT_S)
    finally:
        keeper.close()
    assert path.read_bytes() == before


# ---- a clock that jumps


HOUR = 3600.0


@pytest.mark.parametrize("jump", [-26 * HOUR, -3 * HOUR, -10.0, 10.0, 3 * HOUR, 26 * HOUR])
def test_a_clock_that_jumps_changes_nothing_that_was_recorded_and_its_order(path, clock, jump):
    clock.at = 10 * 24 * HOUR
    ledger = SqliteLedger(path, clock)
    done: list[Event] = []
    for n, events in enumerate(STORY):
        if n == 4:
            clock.at += jump
        ledger.commit(*events)
        done += events
    assert kept(ledger) == done
    assert [row.seq for row in ledger.read(0)] == list(range(1, len(done) + 1))
    assert ledger.verify().broken_at is None
    ledger.close()


@pytest.mark.parametrize("back", [10.0, HOUR, 26 * HOUR])
def test_a_lease_from_before_the_clock_was_set_back_binds_nobody(path, clock, back):
    ledger, other = SqliteLedger(path, clock), SqliteLedger(path, clock)
    ledger.take_lease("one", 7.0)
    clock.at -= back
    assert other.lease() is None
    assert other.take_lease("two", 7.0).epoch == 2
    assert ledger.take_lease("one", 7.0) is None
    ledger.close()
    other.close()


def test_a_clock_that_is_set_back_by_less_than_a_lease_takes_it_from_nobody(path, clock):
    ledger, other = SqliteLedger(path, clock), SqliteLedger(path, clock)
    ledger.take_lease("one", 7.0)
    clock.at -= 5.0
    assert other.take_lease("two", 7.0) is None
    assert ledger.take_lease("one", 7.0).epoch == 1
    ledger.close()
    other.close()


# ---- growth


def test_what_is_forgotten_makes_the_file_smaller(path, clock):
    ledger = SqliteLedger(path, clock)
    ledger.commit(seen())
    rows = [Sample(60.0 * n, 1.5 * n, 100.0) for n in range(10_000)]
    for n in range(4):
        ledger.keep(f"s{n}", rows)
    ledger.checkpoint("f", 1, b"board")
    ledger._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    full = path.stat().st_size
    for n in range(4):
        ledger.keep(f"s{n}", [], forget_before=60.0 * 9_000)
    for _ in range(3):
        ledger.checkpoint("f", 1, b"board")
    ledger._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert path.stat().st_size < full / 2
    assert len(ledger.samples("s0", 0.0, 10**9)) == 1000
    ledger.close()


def test_the_log_beside_the_file_is_written_back_and_stays_small(path, clock):
    ledger = SqliteLedger(path, clock)
    for n in range(300):
        ledger.commit(seen("x" * 500, at=float(n)))
    assert path.with_name("ledger.db-wal").stat().st_size < 2 * _sqlite_file.WAL_PAGES * 4200
    ledger.close()


@pytest.mark.nightly
def test_thirty_days_of_fifty_lines_stay_below_200_mb(tmp_path):
    from benchmarks import month  # not at the top: it is measured, not used, and takes a minute

    kept_month = month.Month(tmp_path / "month", month.TEAM, buckets=400).write()
    db = sqlite3.connect(kept_month.exited)
    assert 14_000 < db.execute("SELECT max(length(body)) FROM events").fetchone()[0] < 18_000
    db.close()
    assert kept_month.exited.stat().st_size <= 200e6
