"""The ledger of a team on a real PostgreSQL: the contract as a room's role, rights, tables of other versions, news, TLS."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from adapters import _postgres_link, _postgres_schema, postgres
from adapters.postgres import PostgresLedger
from andon import hiding, registry
from andon.clock import WallClock
from andon.events import decode
from andon.ports import LedgerUnusable
from tests.adapters.certificates import Authority, need_openssl
from tests.helpers import wait_until
from tests.ledger_contract import LedgerContract, writes
from tests.ledgers import HandClock, PostgresPlace, asked, placed, seen, step
from tests.servers.postgres import GRANTS, PASSWORD, Postgres, running, team

pytestmark = pytest.mark.servers
LIMIT_S = 30.0


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine is no fault."""
    monkeypatch.setattr(_postgres_link, "LIMIT_S", LIMIT_S)
    monkeypatch.setattr(_postgres_link, "LOCK_S", LIMIT_S - 5)


@pytest.fixture(scope="module")
def server() -> Postgres:
    return team()


@pytest.fixture(scope="module")
def made_place(server: Postgres) -> Iterator[PostgresPlace]:
    place = PostgresPlace(server.address("andon", "ann"), server.address("andon"))
    yield place
    place.close()


@pytest.fixture
def place(made_place: PostgresPlace) -> PostgresPlace:
    made_place.wipe()
    return made_place


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def ledger(place: PostgresPlace, clock: HandClock) -> Iterator[PostgresLedger]:
    made = place.open(clock)
    yield made
    made.close()


@pytest.fixture
def database(server: Postgres) -> Iterator[str]:
    """One in which nothing is, of `andon_owner`."""
    server.sql("CREATE DATABASE fresh OWNER andon_owner")
    yield "fresh"
    server.sql("DROP DATABASE fresh WITH (FORCE)")


class TestWhatEveryLedgerMustDo(LedgerContract):
    """As a room."""


# ---- rights


CHANGES = (
    "UPDATE andon.events SET at = 0",
    "DELETE FROM andon.events",
    "TRUNCATE andon.events",
    "UPDATE andon.events SET at = 0 WHERE seq = 77",
    "INSERT INTO andon.events SELECT * FROM andon.events ON CONFLICT (seq) DO UPDATE SET at = 0",
    "MERGE INTO andon.events AS e USING andon.head AS h ON e.seq = h.seq WHEN MATCHED THEN DELETE",
)
OTHERS = (
    "DELETE FROM andon.acts",
    "DELETE FROM andon.holds",
    "UPDATE andon.acts SET claim = 'mine'",
    "UPDATE andon.holds SET owner = 'bo'",
    "DELETE FROM andon.head",
    "UPDATE andon.meta SET value = '0'",
    "ALTER TABLE andon.events DISABLE TRIGGER events_stay",
    "DROP TABLE andon.events",
    "CREATE TABLE andon.mine (a integer)",
)


def refused(address: str, statement: str, *before: str) -> str:
    """How the server refuses it; empty: it does not."""
    import psycopg

    with psycopg.connect(address, autocommit=True) as db:
        for one in before:
            db.execute(one.encode())
        try:
            db.execute(statement.encode())
        except psycopg.Error as error:
            return error.sqlstate or "?"
    return ""


@pytest.mark.parametrize("statement", [*CHANGES, *OTHERS])
def test_a_room_has_no_right_to_change_what_is_recorded(ledger, place, statement):
    ledger.commit(seen(), placed("h1"), asked("a1"))
    assert refused(place.address, statement) == "42501"


@pytest.mark.parametrize("who", ["andon_owner", "postgres"])
@pytest.mark.parametrize("statement", CHANGES)
def test_neither_the_owner_nor_a_superuser_changes_an_event(ledger, server, statement, who):
    ledger.commit(seen())
    before = ["SET session_replication_role = replica"] if who == "postgres" else []
    assert refused(server.address("andon", who), statement, *before) == "23001"
    assert len(ledger.read(0)) == 1


def test_the_owner_has_no_way_through_the_ledger_either(ledger, server, clock):
    ledger.commit(seen())
    owner = PostgresLedger(server.address("andon", "andon_owner"), clock)
    with pytest.raises(LedgerUnusable, match="never changed and never deleted"):
        owner._link.ask(lambda db: db.execute("DELETE FROM events"))
    owner.commit(seen("the owner may use it like everybody"))
    assert owner.verify().events == 2
    owner.close()


def test_who_may_only_read_reads_and_is_told_so(ledger, server, clock):
    ledger.commit(placed("h1"))
    wall = PostgresLedger(server.address("andon", "wall"), clock)
    assert wall.read_only
    assert "the role wall may only read here" in wall.trouble()
    assert decode(wall.read(0)[0].kind, wall.read(0)[0].body) == placed("h1")
    for write in writes(wall):
        with pytest.raises(LedgerUnusable, match="may only read"):
            write()
    wall.close()
    assert all(refused(server.address("andon", "wall"), change) == "42501" for change in (*CHANGES, *OTHERS))


def test_who_has_no_rights_is_told_what_to_read(ledger, server, clock):
    with pytest.raises(LedgerUnusable, match=r"this role may not: permission denied .*docs/ledger.md"):
        PostgresLedger(server.address("andon", "guest"), clock)


def test_the_document_gives_the_rights_that_andon_gives():
    assert GRANTS.split() == _postgres_schema.GRANTS.split()


# ---- made, and brought to this version


def test_the_first_who_writes_makes_it_and_who_looks_does_not(server, database, clock):
    address = server.address(database, "andon_owner")
    for who in ("andon_owner", "ann"):
        with pytest.raises(LedgerUnusable, match="no ledger here yet"):
            PostgresLedger(server.address(database, who), clock, read_only=True)
    with pytest.raises(LedgerUnusable, match="this role may not make one"):
        PostgresLedger(server.address(database, "ann"), clock)
    made = PostgresLedger(address, clock)
    made.commit(seen())
    room = PostgresLedger(server.address(database, "ann"), clock)
    room.commit(asked("a1"), step("a1", "intent", "sent"))
    assert room.verify().events == 3
    room.close()
    made.close()
    found = server.sql("SELECT tgenabled::text FROM pg_trigger WHERE tgname = 'events_stay'", database=database)
    assert found == [("A",)], "always: also where a session says that it replicates"


def test_many_who_make_one_at_once_all_get_it(server, database, clock):
    troubles: list[BaseException] = []
    gate = threading.Barrier(6)

    def opens() -> None:
        gate.wait()
        try:
            ledger = PostgresLedger(server.address(database, "andon_owner"), clock)
            ledger.commit(seen())
            ledger.close()
        except BaseException as error:
            troubles.append(error)

    threads = [threading.Thread(target=opens) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert troubles == []
    ledger = PostgresLedger(server.address(database, "andon_owner"), clock)
    assert ledger.verify().events == 6
    ledger.close()


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("CREATE SCHEMA andon; CREATE TABLE andon.bookmarks (url text)", "is not a ledger"),
        ("CREATE SCHEMA andon; CREATE TABLE andon.meta (key text, value text)", "is not a ledger"),
    ],
)
def test_what_is_no_ledger_is_refused_and_left_alone(server, database, clock, statement, words):
    server.sql(*statement.split("; "), database=database)
    for who in ("postgres", "andon_owner"):
        with pytest.raises(LedgerUnusable, match=words if who == "postgres" else "."):
            PostgresLedger(server.address(database, who), clock)
    found = server.sql("SELECT count(*) FROM pg_class WHERE relnamespace = 'andon'::regnamespace", database=database)
    assert found == [(1,)]


def test_a_database_that_cannot_hold_every_text_is_refused(server, clock):
    server.sql("CREATE DATABASE narrow ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        with pytest.raises(LedgerUnusable, match="encoding is LATIN1; make one with ENCODING 'UTF8'"):
            PostgresLedger(server.address("narrow"), clock)
    finally:
        server.sql("DROP DATABASE narrow WITH (FORCE)")


@pytest.fixture
def next_version(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A later andon, which has one more table; the context in which it runs."""
    steps = (*_postgres_schema.STEPS, "CREATE TABLE andon.more (a integer)")

    def context() -> Any:
        patch = pytest.MonkeyPatch()
        patch.setattr(_postgres_schema, "STEPS", steps)
        return patch

    return context


def test_an_older_ledger_is_brought_to_this_version_by_its_owner_with_all_that_is_in_it(
    server, database, clock, next_version
):
    owner, ann = (server.address(database, who) for who in ("andon_owner", "ann"))
    old = PostgresLedger(owner, clock)
    old.commit(placed("h1"))
    later = next_version()
    try:
        room = PostgresLedger(ann, clock)
        assert "an older andon made this ledger (schema 1); its owner must open it once" in room.trouble()
        assert len(room.read(0)) == 1
        with pytest.raises(LedgerUnusable, match="an older andon"):
            room.commit(seen())
        room.close()
        new = PostgresLedger(owner, clock)
        new.commit(placed("h2", "bo"))
        room = PostgresLedger(ann, clock)
        room.commit(placed("h3", "cy"))
        assert [row.kind for row in room.read(0)] == ["hold-placed"] * 3
        room.close()
        new.close()
    finally:
        later.undo()
    with pytest.raises(LedgerUnusable, match="a newer andon made this ledger"):
        old.commit(seen("the one that was open all the time"))
    assert old.read_only
    assert len(old.read(0)) == 3
    old.close()


def test_an_older_andon_stops_writing_signs_of_life_too_when_a_newer_one_comes(ledger, place, monkeypatch):
    monkeypatch.setattr(postgres, "LOOK_S", 0.05)
    place.tamper("UPDATE meta SET value = '99' WHERE key = 'schema'")
    wait_until(lambda: ledger.changed() or ledger.read_only, LIMIT_S)
    for write in writes(ledger):
        with pytest.raises(LedgerUnusable, match="a newer andon"):
            write()
    assert "newer andon" in ledger.trouble()


# ---- news and time


def test_the_server_tells_of_an_event_and_one_looks_anyway(ledger, place, clock, monkeypatch):
    other = place.open(clock)
    other.changed()
    monkeypatch.setattr(postgres, "LOOK_S", LIMIT_S * 10)
    other._look_at = float("inf")
    ledger.commit(seen())
    wait_until(other.changed, LIMIT_S, "it was told")
    other._link.ask(lambda db: db.execute("UNLISTEN *"))
    ledger.commit(seen())
    for _ in range(20):
        assert not other.changed()
    other._look_at = 0.0
    assert other.changed(), "it looked"
    other.close()


def test_signs_of_life_and_samples_wake_nobody(ledger, place, clock):
    other = place.open(clock)
    other.changed()
    for write in writes(ledger)[2:]:
        write()
    ledger.commit(seen("behind them"))
    wait_until(other.changed, LIMIT_S)
    assert not other.changed()
    other.close()


def test_when_it_was_seen_goes_by_the_servers_clock(ledger, place, clock):
    clock.at = 5.0
    ledger.commit(seen(at=1.0))
    ((now,),) = place.sql("SELECT extract(epoch FROM clock_timestamp())::float8")
    row = ledger.read(0)[0]
    assert row.at == 1.0
    assert now - 60 < row.seen <= now


def test_a_clock_that_differs_from_the_servers_is_said(ledger, monkeypatch):
    assert ledger.trouble() == ""
    wrong_by = -40.0
    monkeypatch.setattr(postgres.time, "time", lambda real=postgres.time.time: real() + wrong_by)
    ledger._look_at = 0.0
    ledger.changed()
    assert "this machine's clock is 40 s behind the database's" in ledger.trouble()
    monkeypatch.undo()
    ledger._look_at = 0.0
    ledger.changed()
    assert ledger.trouble() == ""


def test_a_server_that_need_not_wait_for_its_disk_waits_for_acts_all_the_same(ledger, place, server, clock):
    server.sql("ALTER ROLE ann SET synchronous_commit TO off", "ALTER ROLE ann SET search_path TO pg_catalog")
    try:
        careless = place.open(clock)
        assert careless._link.ask(lambda db: db.execute("SHOW synchronous_commit").fetchone()) == ("on",)
        careless.commit(seen())
        careless.close()
    finally:
        server.sql("ALTER ROLE ann RESET ALL")


def test_many_who_write_at_once_leave_one_chain_and_who_reads_on_misses_nothing(ledger, place, clock):
    troubles: list[BaseException] = []

    def writes_25(name: str) -> None:
        try:
            writer = place.open(clock)
            for n in range(25):
                writer.commit(seen(f"{name} {n}"))
            writer.close()
        except BaseException as error:
            troubles.append(error)

    threads = [threading.Thread(target=writes_25, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    read: list[int] = []
    wait_until(lambda: read.extend(row.seq for row in ledger.read(len(read))) or len(read) == 100 or troubles, LIMIT_S)
    for thread in threads:
        thread.join()
    assert troubles == []
    assert read == list(range(1, 101))
    assert ledger.verify().events == 100


# ---- the address, the password, TLS


@pytest.fixture(autouse=True)
def no_habits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a person's environment tells every program of PostgreSQL."""
    for name in ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGSSLMODE", "PGSSLROOTCERT", "PGUSER", "PGPASSWORD"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("address", "mode"),
    [
        ("postgresql://db.example/andon", "verify-full"),
        ("postgresql://ann@10.0.0.7:6432/andon", "verify-full"),
        ("postgresql://ann@localhost,db.example/andon", "verify-full"),
        ("postgresql://localhost/andon?hostaddr=10.0.0.7", "verify-full"),
        ("postgresql:///andon?service=shop", "verify-full"),
        ("postgresql://db.example/andon?sslmode=require", "require"),
        ("postgresql://localhost.example/andon", "verify-full"),
        ("postgresql://localhost/andon", "prefer"),
        ("postgresql://127.0.0.7,[::1]/andon", "prefer"),
        ("postgresql:///andon?host=/var/run/postgresql", "prefer"),
        ("postgres:///andon", "prefer"),
    ],
)
def test_what_leaves_this_machine_is_encrypted_and_verified_unless_the_address_says_otherwise(
    address, mode, monkeypatch
):
    monkeypatch.setenv("PGSSLMODE", "disable")
    made = _postgres_link.parameters(address, read_only=False)
    assert made["sslmode"] == mode
    assert made["target_session_attrs"] == "read-write"


@pytest.mark.parametrize(("name", "value"), [("PGHOST", "db.example"), ("PGHOSTADDR", "10.1.1.1"), ("PGSERVICE", "x")])
def test_a_host_that_only_the_environment_names_counts_too(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert _postgres_link.parameters("postgresql:///andon", read_only=True)["sslmode"] == "verify-full"


@pytest.fixture(scope="module")
def keyed(server: Postgres) -> str:
    return server.address("andon", f"keyed:{quote(PASSWORD, safe='')}")


def test_a_password_opens_and_is_in_no_words(keyed, server, clock, monkeypatch):
    ledger = PostgresLedger(keyed, clock)
    ledger.commit(seen())
    assert PASSWORD not in ledger._link.where
    assert "***" not in ledger._link.where
    shown = server.sql("SELECT * FROM pg_stat_activity WHERE usename = 'keyed'")
    assert shown
    assert PASSWORD not in str(shown)
    ledger.close()
    wrong = keyed.replace("correct", "wrongful")
    for address in (wrong, f"{keyed}?sslmode=verify-full&sslrootcert=/nowhere", keyed.replace("/andon", "/nothing")):
        with pytest.raises(LedgerUnusable) as error:
            PostgresLedger(address, clock)
        told = f"{error.value!r} {error.value} {error.value.__cause__!r} {error.value.__context__!r}"
        assert "horse" not in told
        assert "keyed@127.0.0.1" in told


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://ann:p%zzword1234@db.example/andon",
        "postgresql://ann:pass/word1234@db.example/andon",
        "postgresql://ann:5432/word1234@db.example/andon",
        "postgresql://ann:pa@word1234@db.example/andon",
        "postgresql://ann:x@db.example/andon?pass=word1234",
        "postgresql://[word1234",
    ],
)
def test_an_address_that_cannot_be_read_is_told_without_anything_of_it(address, clock):
    with pytest.raises(LedgerUnusable, match="cannot be read; it is written postgresql://USER@HOST") as error:
        PostgresLedger(address, clock)
    assert "word1234" not in f"{error.value}{error.value.__cause__}"


def test_a_password_is_taken_by_reference_alone(keyed, monkeypatch):
    for address in (keyed, "postgresql://h/andon?password=x", "postgres://a:b@h/d", "postgresql://a:b:c@h1,h2/d"):
        monkeypatch.setattr(hiding, "_forms", ())
        with pytest.raises(registry.UnknownAdapter, match="env:ANDON_LEDGER") as error:
            registry.ledger(address)
        assert "horse" not in str(error.value)
        hiding.remember(address)  # as whoever opens a reference does
        registry.ledger(address)
    for address in (
        "postgresql://ann@h/andon",
        "postgresql://ann@h:5432,i:5432/andon",
        "postgresql:///andon?host=/tmp",
    ):
        registry.ledger(address)


def test_without_psycopg_it_is_said_what_to_install(monkeypatch, clock):
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(LedgerUnusable, match=r"install andon\[postgres\]"):
        PostgresLedger("postgresql://localhost/andon", clock)


def test_a_certificate_is_verified_by_name_and_authority(tmp_path: Path):
    need_openssl()
    good, other = Authority(tmp_path / "good"), Authority(tmp_path / "other", "Other CA")
    with running() as server:
        for file, name in zip(good.server("db"), ("server.crt", "server.key"), strict=True):
            kept = Path(shutil.copy(file, server.data / name))
            owner = server.data.stat()
            shutil.os.chown(kept, owner.st_uid, owner.st_gid)
            kept.chmod(0o600)
        server.stop()
        server.settings += ("ssl=on",)
        server.start()
        strict = f"{server.address()}?sslmode=verify-full&sslrootcert="
        PostgresLedger(f"{strict}{good.pem}", WallClock()).close()
        with pytest.raises(LedgerUnusable, match=r"certificate.*andon asks for sslmode=verify-full here"):
            PostgresLedger(f"{strict}{other.pem}", WallClock())
        wrong_name = f"{strict}{good.pem}".replace("127.0.0.1", "db.example") + "&hostaddr=127.0.0.1"
        with pytest.raises(LedgerUnusable, match="does not match host name"):
            PostgresLedger(wrong_name, WallClock())
