"""The ledger of a team when its server dies, its connection is cut, nobody answers, or another one stands in the way.

What was acknowledged is there, once; what was not is there once or not at all, and asking again does not double it.
"""

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from adapters import _postgres_link
from adapters.postgres import PostgresLedger
from andon.clock import WallClock
from andon.events import decode
from andon.keeper import Keeper
from andon.ports import Audit, Joined, LedgerUnusable
from tests.helpers import wait_until
from tests.ledgers import SHOP, PostgresPlace, Start, asked, placed, programs, seen, step
from tests.servers.postgres import Postgres, team
from tests.tcp_proxy import TcpProxy

pytestmark = pytest.mark.servers
LIMIT_S = 30.0


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine is no fault, where a test is not about time."""
    monkeypatch.setattr(_postgres_link, "LIMIT_S", LIMIT_S)
    monkeypatch.setattr(_postgres_link, "LOCK_S", LIMIT_S - 5)


@pytest.fixture(scope="module")
def server() -> Postgres:
    return team()


@pytest.fixture
def place(server: Postgres) -> Iterator[PostgresPlace]:
    made = PostgresPlace(server.address("andon", "ann"), server.address("andon"))
    made.wipe()
    yield made
    made.close()


@pytest.fixture
def proxy(server: Postgres) -> Iterator[TcpProxy]:
    with TcpProxy(server.port) as made:
        yield made


@pytest.fixture
def far(place: PostgresPlace, server: Postgres, proxy: TcpProxy) -> Iterator[PostgresLedger]:
    """A ledger behind the proxy."""
    made = PostgresLedger(server.address("andon", "ann", proxy.port), WallClock())
    made.commit(seen("first"))
    yield made
    made.close()


@pytest.fixture
def start() -> Iterator[Start]:
    with programs() as begin:
        yield begin


def words(place: PostgresPlace) -> list[str]:
    """What was recorded, in order, as another one sees it."""
    ledger = place.open(WallClock(), read_only=True)
    try:
        assert ledger.verify().broken_at is None
        return [getattr(decode(row.kind, row.body), "words", row.kind) for row in ledger.read(0, 10**6)]
    finally:
        ledger.close()


class At:
    """A rule: this fate to the n-th piece from now on, or to the first with a word in it, and then everything passes."""

    def __init__(self, fate: str, n: int = 0, word: bytes = b"") -> None:
        self.fate, self.left, self.word, self.met = fate, n, word, False

    def __call__(self, sent: bytes) -> Any:
        self.left -= 1
        if self.met or (self.word not in sent if self.word else self.left):
            return "pass"
        self.met = True
        return self.fate


# ---- the connection is cut


STEPS = 5
"""Pieces that a client sends for a stop with a halt: begin, hold, act, events, commit."""


@pytest.mark.parametrize("fate", ["cut", "lose"])
@pytest.mark.parametrize("n", range(1, STEPS + 1))
def test_a_connection_lost_at_any_step_of_a_commit_is_made_again_and_the_commit_is_done_once(
    far, place, proxy, fate, n
):
    proxy.rule = at = At(fate, n)
    far.commit(placed("h1"), asked("a1"))
    assert at.met
    assert words(place) == ["first", "hold-placed", "act-asked"]
    far.commit(step("a1", "intent", "sent"))
    assert far.changed(), "after a new connection everything is read again"
    assert proxy.opened == 2


def test_five_pieces_are_all_that_a_stop_with_a_halt_sends(far, proxy):
    sent: list[bytes] = []
    proxy.rule = lambda piece: (sent.append(piece), "pass")[1]
    far.commit(placed("h1"), asked("a1"))
    assert len(sent) == STEPS
    assert b"BEGIN" in sent[0]
    assert b"COMMIT\0" in sent[-1]


@pytest.mark.parametrize("fate", ["cut", "lose", "hold"])
def test_a_commit_of_which_nobody_knows_is_told_so_and_asked_again_is_there_once(far, place, proxy, monkeypatch, fate):
    monkeypatch.setattr(_postgres_link, "LIMIT_S", 0.5)
    monkeypatch.setattr(_postgres_link, "AGAIN_S", 0.01)
    rule = At(fate, word=b"COMMIT\0")

    def then_refuse(sent: bytes) -> Any:
        proxy.refuses = proxy.refuses or rule.word in sent
        return rule(sent)

    proxy.rule = then_refuse
    both = placed("h1"), asked("a1")
    with pytest.raises(LedgerUnusable, match="whether it was recorded is not known yet"):
        far.commit(*both)
    with pytest.raises(LedgerUnusable) as other:
        far.commit(seen("never sent"))
    assert "not known" not in str(other.value)
    proxy.refuses, proxy.rule = False, lambda _: "pass"

    def again() -> bool:
        try:
            far.commit(*both)
        except LedgerUnusable:
            return False
        return True

    monkeypatch.setattr(_postgres_link, "LIMIT_S", LIMIT_S)
    wait_until(again, LIMIT_S)
    assert words(place) == ["first", "hold-placed", "act-asked"]
    with pytest.raises(Joined):
        far.commit(asked("a1"))


def test_the_same_words_asked_for_a_second_time_are_no_doubt(far, place):
    for _ in range(2):
        far.commit(seen("again"))
    assert words(place) == ["first", "again", "again"]


def ordeal(far: PostgresLedger, place: PostgresPlace, proxy: TcpProxy, seed: int) -> None:
    """Eight commits, and three times something happens to the connection."""
    chance = random.Random(seed)
    far.commit(seen("eight follow"))
    for n in range(8):
        if chance.random() < 0.4:
            proxy.rule = At(chance.choice(["cut", "lose"]), chance.randint(1, STEPS))
        far.commit(placed(f"h{n}", f"owner {n}"), asked(f"a{n}", subject=f"{n}"))
    assert words(place) == ["first", "eight follow", *["hold-placed", "act-asked"] * 8]


@pytest.mark.parametrize("seed", range(3))
def test_connections_that_break_again_and_again_lose_and_double_nothing(far, place, proxy, seed):
    ordeal(far, place, proxy, seed)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(1000, 1250))
def test_connections_that_break_in_hundreds_of_ways_lose_and_double_nothing(far, place, proxy, seed):
    ordeal(far, place, proxy, seed)


@pytest.mark.parametrize("ask", ["read", "recent", "changed", "lease", "pulses", "verify", "take_lease"])
def test_a_read_or_a_lease_over_a_lost_connection_is_asked_again(far, proxy, ask):
    values = {"read": (0,), "recent": ("", 1), "take_lease": ("me", 7.0)}
    proxy.rule = At("lose", 1)
    far._look_at = 0.0
    getattr(far, ask)(*values.get(ask, ()))
    assert proxy.rule.met
    assert proxy.opened == 2


def test_an_idle_connection_that_was_lost_is_noticed_and_what_was_missed_is_read(far, place, server):
    while far.changed():
        pass
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'ann'")
    near = place.open(WallClock())
    near.commit(placed("h1"))
    near.close()
    far._look_at = float("inf")
    wait_until(far.changed, LIMIT_S, "nobody told it: it looked")


# ---- nobody answers


def test_whatever_is_asked_of_who_does_not_answer_ends_in_time_and_in_words(far, proxy, monkeypatch):
    monkeypatch.setattr(_postgres_link, "LIMIT_S", 0.4)
    monkeypatch.setattr(_postgres_link, "AGAIN_S", 0.0)
    proxy.rule = lambda _: "hold"
    asks: list[Callable[[], object]] = [
        lambda: far.read(0),
        lambda: far.commit(placed("h1")),
        lambda: far.take_lease("me", 7.0),
        far.lease,
        far.verify,
    ]
    for ask in asks:
        began = time.monotonic()
        with pytest.raises(LedgerUnusable, match=r"no (answer|connection) within 0\.4 s"):
            ask()
        assert time.monotonic() - began < LIMIT_S / 3


def test_who_asks_while_it_is_down_is_refused_at_once(far, proxy, monkeypatch):
    monkeypatch.setattr(_postgres_link, "LIMIT_S", 0.3)
    monkeypatch.setattr(_postgres_link, "AGAIN_S", LIMIT_S)
    proxy.rule = lambda _: "hold"
    with pytest.raises(LedgerUnusable):
        far.lease()
    opened = proxy.opened
    for _ in range(50):
        with pytest.raises(LedgerUnusable, match=r"within 0\.3 s"):
            far.commit(placed("h1"))
    assert proxy.opened == opened


def test_a_server_that_takes_a_connection_and_says_nothing_keeps_nobody(server, proxy, monkeypatch):
    monkeypatch.setattr(_postgres_link, "LIMIT_S", 0.4)
    proxy.rule = lambda _: "hold"
    began = time.monotonic()
    with pytest.raises(LedgerUnusable, match=r"no connection within 0\.4 s"):
        PostgresLedger(server.address("andon", "ann", proxy.port), WallClock())
    assert time.monotonic() - began < LIMIT_S / 3


# ---- another one stands in the way


def test_a_transaction_of_another_one_is_waited_for_and_then_told(far, place, monkeypatch):
    import psycopg

    monkeypatch.setattr(_postgres_link, "LOCK_S", 0.2)
    impatient = place.open(WallClock())
    with psycopg.connect(place.address) as other:
        other.execute("SELECT 1 FROM andon.head FOR UPDATE")
        with pytest.raises(LedgerUnusable, match="another process keeps it locked"):
            impatient.commit(placed("h1"))
        release = threading.Timer(0.3, other.rollback)
        release.start()
        far.commit(placed("h2"))
        release.join()
    assert words(place) == ["first", "hold-placed"]
    impatient.close()


HOLDER = """
import sys
from adapters import _postgres_append, _postgres_link
from adapters.postgres import PostgresLedger
from andon.clock import WallClock
from andon.events import SourceSeen
_postgres_link.LIMIT_S = 1.0
real = _postgres_append.claim
def claim(db, event):
    real(db, event)
    print("in the middle")
    sys.stdin.readline()
_postgres_append.claim = claim
ledger = PostgresLedger(sys.argv[1], WallClock())
_postgres_link.LIMIT_S = 20.0
ledger.commit(SourceSeen(line="shop", at=1.0, source="gh", state="ok", words="late"))
print("done", ledger.verify().events)
"""


def test_who_stands_still_in_the_middle_of_a_transaction_loses_it_and_does_it_again_later(place, start):
    """Its session was told that it may be idle for one second; real ones are told five."""
    holder = start(HOLDER, place.address)
    assert holder.stdout.readline() == "in the middle\n"
    near = place.open(WallClock())
    near.commit(seen("not kept waiting for ever"))
    near.close()
    print(file=holder.stdin)
    assert holder.stdout.readline() == "in the middle\n"
    print(file=holder.stdin)
    assert holder.stdout.readline() == "done 2\n"
    assert words(place) == ["not kept waiting for ever", "late"]


# ---- the server dies


WRITER = """
import sys, time
from adapters.postgres import PostgresLedger
from andon.clock import WallClock
from andon.events import SourceSeen
from andon.ports import LedgerUnusable
ledger = PostgresLedger(sys.argv[1], WallClock())
n = 0
while True:
    try:
        ledger.commit(SourceSeen(line="shop", at=1.0, source="gh", state="ok", words=f"{n}"))
    except LedgerUnusable:
        time.sleep(0.05)
        continue
    print(n)
    n += 1
"""


def outlived(place: PostgresPlace, start: Start, ends: list[Callable[[], None]], seed: int) -> None:
    """One process writes without a pause while the server ends and comes back."""
    chance, acknowledged = random.Random(seed), 0
    writer = start(WRITER, place.address)
    place.close()
    for end in ends:
        for _ in range(chance.randrange(10, 60)):
            assert writer.stdout.readline() == f"{acknowledged}\n"
            acknowledged += 1
        end()
    for _ in range(5):
        assert writer.stdout.readline() == f"{acknowledged}\n"
        acknowledged += 1
    writer.send_signal(signal.SIGKILL)
    acknowledged += writer.stdout.read().count("\n")
    found = words(place)
    assert found[:acknowledged] == [str(n) for n in range(acknowledged)]
    assert found[acknowledged:] in ([], [str(acknowledged)]), "written, and the writer killed before it said so"


def killed(server: Postgres) -> None:
    server.kill()
    server.start()


@pytest.mark.parametrize("way", [killed, Postgres.restart])
def test_nothing_acknowledged_is_lost_and_nothing_doubled_when_the_server_ends(place, start, server, way):
    outlived(place, start, [lambda: way(server)] * 2, 3)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(20))
def test_nothing_acknowledged_is_lost_when_the_server_is_killed_again_and_again(place, start, server, seed):
    outlived(place, start, [lambda: killed(server)] * 3, seed)


def test_a_keeper_goes_on_where_it_was_when_the_server_is_back(place, server):
    clock = WallClock()
    keeper = Keeper(lambda: place.open(clock), clock).start()
    try:
        keeper.submit(lambda ledger: ledger.commit(placed("h1")), writes=True).result(LIMIT_S)
        server.kill()
        wait_until(lambda: keeper.trouble, LIMIT_S)
        with pytest.raises(LedgerUnusable, match="connection failed"):
            keeper.submit(lambda ledger: ledger.commit(placed("h2", "bo")), writes=True).result(LIMIT_S)
        server.start()
        began = time.monotonic()
        other = place.open(clock)
        other.commit(placed("h3", "cy"))
        other.close()
        wait_until(lambda: len(keeper.board.line(SHOP).open_holds) == 2, LIMIT_S)
        print(f"went on {time.monotonic() - began:.1f} s after the server was back")
        keeper.submit(lambda ledger: ledger.commit(placed("h2", "bo")), writes=True).result(LIMIT_S)
        assert keeper.trouble == ""
    finally:
        keeper.close()


def test_a_server_that_takes_no_writes_is_only_for_who_looks(server):
    server.sql("ALTER ROLE wall SET default_transaction_read_only TO on")
    with pytest.raises(LedgerUnusable, match="read-only"):
        PostgresLedger(server.address("andon", "wall"), WallClock())
    PostgresLedger(server.address("andon", "wall"), WallClock(), read_only=True).close()
    server.sql("ALTER ROLE wall RESET ALL")


def test_an_older_copy_in_the_ledgers_place_is_noticed_and_not_written_to(far, place):
    far.commit(placed("h1"), asked("a1"))
    place.wipe()
    far._look_at = 0.0
    far.changed()
    assert "it ended at event 3 and now ends at 0" in far.trouble()
    with pytest.raises(LedgerUnusable, match="start this andon again"):
        far.commit(step("a1", "intent", "sent"))
    assert words(place) == []


# ---- who writes beside the ledger


def test_a_row_that_a_room_wrote_by_hand_is_found_and_keeps_nobody_from_going_on(far, place):
    import psycopg

    with psycopg.connect(place.address) as db:
        db.execute("INSERT INTO andon.events SELECT 2, at, seen, kind, v, line, body, hash FROM andon.events")
    far.commit(placed("h1"))
    assert far.verify() == Audit(1, 2, "event 2 was changed after it was written")
    assert [row.seq for row in far.read(0)] == [1, 2, 3]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE andon.acts SET state = 'verified'",
        "UPDATE andon.holds SET open = false",
        "INSERT INTO andon.acts SELECT 'a2', 'x', state, body FROM andon.acts",
        "UPDATE andon.head SET seq = 9",
    ],
)
def test_a_claim_that_a_room_changed_by_hand_is_found(far, place, statement):
    import psycopg

    far.commit(placed("h1"), asked("a1"))
    assert far.verify() == Audit(3)
    with psycopg.connect(place.address) as db:
        db.execute(statement.encode())
    assert far.verify().broken_at is not None


def test_events_that_lie_in_another_order_on_the_servers_disk_are_what_they_were(far, place):
    far.commit(asked("a1"), step("a1", "intent", "sent"), step("a1", "sent", "verified"))
    place.tamper("UPDATE events SET v = v WHERE seq = 2")
    assert place.sql("SELECT seq FROM events ORDER BY ctid")[-1] == (2,), "a scan meets it last"
    assert far.verify() == Audit(4)


def test_damaged_tables_are_said_in_words(far, place):
    place.sql("DELETE FROM meta")
    try:
        far._look_at = 0.0
        with pytest.raises(LedgerUnusable, match="its tables are damaged"):
            far.changed()
        with pytest.raises(LedgerUnusable, match="its tables are damaged"):
            far.commit(seen())
    finally:
        place.sql("INSERT INTO meta VALUES ('schema', '1')")
