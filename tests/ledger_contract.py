"""What every ledger must do: one suite, which the tests of each run over a place of their own (`tests.ledgers.Place`)."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from adapters._sqlite_chain import NO_HASH, chained
from andon import events
from andon.board import FORMAT, Board
from andon.events import KINDS, ActAsked, ActStepped, Event, HoldLifted, HoldPlaced, decode, encode
from andon.keeper import fold
from andon.model import SETTLED, Sample, to_json
from andon.ports import AlreadyHeld, Audit, Joined, Lease, LedgerUnusable, Moved, Pulse
from tests import strategies
from tests.helpers import HOSTILE, wait_until
from tests.ledgers import SHOP, HandClock, Place, Start, act, asked, lifted, placed, programs, seen, step
from tests.strategies import histories

UNSETTLED = ("intent", "sent", "accepted", "unknown")
LIVES = 700.0
"""A lease in tests: long, so that a slow machine takes nothing from it."""


def kept(ledger: Any) -> list[Any]:
    return [decode(row.kind, row.body) for row in ledger.read(0, 10**6)]


def refold(ledger: Any) -> Board:
    return fold(Board(), ledger.read(0, 10**6))[1]


def forced(event: Any, name: str, value: object) -> Any:
    """A record that went around its own check."""
    msgspec.structs.force_setattr(event, name, value)
    return event


class FlagTurned(Event, frozen=True):
    """What a newer version may know."""

    flag: str = "checkout"


def write_raw(place: Place, kind: str, line: str, body: bytes) -> None:
    """A row as another version wrote it, chained as it must be."""
    ledger = place.open(HandClock())
    rows = ledger.read(0)
    ledger.close()
    seq, last = (rows[-1].seq, bytes.fromhex(rows[-1].hash)) if rows else (0, NO_HASH)
    row = (seq + 1, 1.0, 1.0, kind, 1, line, body)
    place.insert((*row, chained(last, row)))


RACER = """
import json, sys, time
{}
from andon.clock import WallClock
from andon.events import decode
ledger = Ledger(sys.argv[1], WallClock())
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


WRITER = """
import sys
{}
from andon.clock import WallClock
from andon.events import SourceSeen
ledger = Ledger(sys.argv[1], WallClock())
n = ledger.verify().events
while True:
    ledger.commit(SourceSeen(line="shop", at=1.0, source="gh", state="ok", words=sys.argv[2] + " " + str(n)))
    print(n)
    n += 1
"""


def writes(ledger: Any) -> list[Callable[[], object]]:
    """Everything that would change it."""
    return [
        lambda: ledger.commit(seen()),
        lambda: ledger.commit(placed("h9", "bo")),
        lambda: ledger.pulse([Pulse("k", 1.0)]),
        lambda: ledger.keep("s", [Sample(1.0, 1.0)]),
        lambda: ledger.take_lease("me", 7.0),
        lambda: ledger.drop_lease("me"),
        lambda: ledger.checkpoint("f", 1, b""),
    ]


def harm(place: Place, n: int, a: int, b: int) -> tuple[str, ...]:
    """Twenty ways to change a record, on rows `a` and `b`."""
    swap = (
        f"UPDATE events SET seq = -1 WHERE seq = {a}",
        f"UPDATE events SET seq = {a} WHERE seq = {b}",
        f"UPDATE events SET seq = {b} WHERE seq = -1",
    )
    ways = [
        (f"UPDATE events SET body = {place.replaced('body', 'event', 'evemt')} WHERE seq = {a}",),
        (f"UPDATE events SET body = {place.replaced('body', str(a - 1), '99')} WHERE seq = {a}",),
        (f"DELETE FROM events WHERE seq = {a}",),
        swap,
        ("DELETE FROM events WHERE seq = 30",),
        (f"UPDATE events SET at = at + 1 WHERE seq = {a}",),
        (f"UPDATE events SET seen = seen + 1 WHERE seq = {a}",),
        (f"UPDATE events SET line = 'other' WHERE seq = {a}",),
        (f"UPDATE events SET kind = 'hold-lifted' WHERE seq = {a}",),
        (f"UPDATE events SET v = 2 WHERE seq = {a}",),
        (f"UPDATE events SET hash = {place.zeros} WHERE seq = {a}",),
        (f"UPDATE events SET body = (SELECT body FROM events WHERE seq = {b}) WHERE seq = {a}",),
        (f"DELETE FROM events WHERE seq = {a}", f"UPDATE events SET seq = seq - 1 WHERE seq > {a}"),
        (f"INSERT INTO events SELECT 31, at, seen, kind, v, line, body, hash FROM events WHERE seq = {a}",),
        ("DELETE FROM events WHERE seq = 1",),
        ("DELETE FROM events",),
        (f"DELETE FROM events WHERE seq > {min(a, b)}",),
        (f"UPDATE events SET hash = 'words' WHERE seq = {a}",),
        (f"UPDATE events SET at = 'NaN' WHERE seq = {a}",),
        (f"UPDATE events SET seq = seq + 100 WHERE seq >= {a}",),
    ]
    return ways[n]


CONFIG = """
connections: {plant: {adapter: plant}}
lines: {shop: {deploy: {from: plant, only_way_in: true}}}
"""


def audit_verify(folder: Path, address: object) -> tuple[int, str]:
    """The real command."""
    config = folder / "andon.yaml"
    config.write_text(CONFIG)
    config.chmod(0o600)
    command = [Path(sys.executable).with_name("andon"), "-c", config, "--ledger", str(address), "audit", "verify"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=folder)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


class LedgerContract:
    """Its subclass brings `place`."""

    @pytest.fixture
    def clock(self) -> HandClock:
        return HandClock()

    @pytest.fixture
    def ledger(self, place: Place, clock: HandClock) -> Iterator[Any]:
        made = place.open(clock)
        yield made
        made.close()

    @pytest.fixture
    def start(self) -> Iterator[Start]:
        with programs() as begin:
            yield begin

    @pytest.fixture
    def newer(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
        """Commits as a newer andon would, which knows one kind more."""

        def commit(ledger: Any, kind: str, line: str) -> None:
            with monkeypatch.context() as patch:
                patch.setitem(events.KINDS, kind, FlagTurned)
                patch.setitem(events.NAMES, FlagTurned, kind)
                patch.setitem(events._DECODERS, kind, msgspec.json.Decoder(FlagTurned))
                ledger.commit(FlagTurned(line, 1.0))

        return commit

    @pytest.fixture
    def thirty(self, ledger: Any, place: Place) -> Place:
        """A closed ledger with thirty events."""
        for n in range(30):
            ledger.commit(seen(f"event {n}", at=float(n)))
        assert ledger.verify() == Audit(30)
        ledger.close()
        return place

    # ---- what is written comes back

    @pytest.mark.parametrize("name", KINDS)
    def test_every_kind_comes_back_as_it_was_written(self, place, name):
        @given(strategies.kind(name))
        @settings(max_examples=place.examples)
        def comes_back(event: Event) -> None:
            ledger = place.empty()
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

    def test_a_board_folded_from_the_ledger_is_the_one_folded_from_what_was_committed(self, place):
        @given(histories)
        @settings(max_examples=3 * place.examples)
        def is_the_same(history: list[Event]) -> None:
            ledger, board = place.empty(), Board()
            for event in history:
                try:
                    ledger.commit(event)
                except (Joined, AlreadyHeld, Moved, LedgerUnusable):
                    continue
                board = board.apply(decode(*encode(event)))
            assert to_json(refold(ledger)) == to_json(board)
            for id_, state in place.table(ledger, "SELECT id, state FROM acts"):
                found = [line.acts[id_] for line in board.lines.values() if id_ in line.acts]
                assert [item.state for item in found] in ([state], []), (
                    "what decides claims is not what the board shows"
                )
            open_ = {row[0] for row in place.table(ledger, "SELECT id FROM holds WHERE open")}
            assert open_ == {item.id for line in board.lines.values() for item in line.open_holds}
            ledger.close()

        is_the_same()

    def test_hostile_text_is_kept_harmless_and_byte_for_byte(self, ledger):
        for text in HOSTILE:
            ledger.commit(seen(text))
        assert kept(ledger) == [seen(text) for text in HOSTILE]
        assert not any(b"\x1b" in row.body or b"\\u001b" in row.body for row in ledger.read(0))
        assert ledger.verify().broken_at is None

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
    def test_what_does_not_come_back_equal_is_refused_and_nothing_is_written(self, ledger, event):
        with pytest.raises(ValueError):
            ledger.commit(seen("before"), event)
        assert ledger.read(0) == []
        ledger.commit(seen("after"))

    @pytest.mark.parametrize("thing", [act(), Event(SHOP, 1.0), "text", None])
    def test_what_is_no_event_is_refused(self, ledger, thing):
        with pytest.raises(TypeError):
            ledger.commit(thing)

    @pytest.mark.parametrize("at", [5, -0.0, 0.1, 1e308])
    def test_the_chain_holds_whatever_kind_of_number_a_time_is(self, ledger, at):
        ledger.commit(seen(at=at))
        assert ledger.verify().broken_at is None

    # ---- a version older or newer than this one

    def test_an_unknown_kind_is_kept_and_skipped(self, ledger, newer):
        ledger.commit(placed("h1"))
        before = refold(ledger)
        newer(ledger, "flag-turned", SHOP)
        assert refold(ledger) == before
        assert [row.kind for row in ledger.read(0)] == ["hold-placed", "flag-turned"]
        assert ledger.verify().broken_at is None

    @pytest.mark.parametrize("kind", ["act-paused", "hold-frozen"])
    def test_an_unknown_kind_of_act_or_hold_makes_its_line_read_only_and_nothing_else(self, ledger, newer, kind):
        ledger.commit(placed("h1"), placed("h2", line="payments"))
        before = refold(ledger)
        newer(ledger, kind, SHOP)
        after = refold(ledger)
        assert list(after.read_only) == [SHOP]
        assert kind in after.read_only[SHOP]
        assert msgspec.structs.replace(after, read_only={}) == before
        ledger.commit(seen("goes on"))

    def test_a_known_kind_with_words_of_a_newer_version_counts_as_unknown(self, ledger, place):
        write_raw(
            place, "run-seen", SHOP, b'{"line":"shop","at":1,"source":"ci","run":{"id":"r","change":"c","state":"new"}}'
        )
        assert refold(ledger) == Board()
        write_raw(place, "act-stepped", SHOP, b'{"line":"shop","at":1,"act":"a1","was":"intent","now":"paused"}')
        assert list(refold(ledger).read_only) == [SHOP]

    def test_a_ledger_of_a_newer_andon_is_read_and_never_written(self, ledger, place, clock):
        ledger.commit(placed("h1"))
        ledger.close()
        place.tamper("UPDATE meta SET value = '99' WHERE key = 'schema'")
        before = place.content()
        older = place.open(clock)
        assert kept(older) == [placed("h1")]
        assert older.read_only
        assert "newer andon" in older.trouble()
        for write in writes(older):
            with pytest.raises(LedgerUnusable, match="newer andon"):
                write()
        older.close()
        assert place.content() == before

    # ---- claims

    @pytest.mark.parametrize("state", UNSETTLED)
    def test_a_claim_belongs_to_an_act_on_its_way(self, ledger, state):
        ledger.commit(asked("a1", state=state))
        with pytest.raises(Joined) as joined:
            ledger.commit(asked("a2", who="bo"))
        assert joined.value.act == act("a1", state=state)
        ledger.commit(asked("a3", target="deploy"), asked("a4", subject="other"), asked("a5", kind="release"))

    @pytest.mark.parametrize("state", sorted(SETTLED))
    def test_a_settled_act_absorbs_nothing(self, ledger, state):
        for n in range(3):
            ledger.commit(asked(f"a{n}"))
            ledger.commit(step(f"a{n}", "intent", "sent"), step(f"a{n}", "sent", state))
        ledger.commit(asked("last"))

    def test_a_push_and_a_rollback_have_one_claim(self, ledger):
        ledger.commit(asked("a1", kind="push", version="new"))
        with pytest.raises(Joined):
            ledger.commit(asked("a2", kind="rollback", version="old"))

    def test_who_joins_sees_how_far_the_act_has_come(self, ledger):
        ledger.commit(asked("a1"), step("a1", "intent", "sent"), step("a1", "sent", "accepted", ref="job 7"))
        with pytest.raises(Joined) as joined:
            ledger.commit(asked("a2"))
        assert (joined.value.act.state, joined.value.act.ref, joined.value.act.tries) == ("accepted", "job 7", 1)

    def test_an_owner_has_one_open_hold_per_line(self, ledger):
        ledger.commit(placed("h1"), placed("h2", owner="bo"), placed("h3", line="payments"))
        with pytest.raises(AlreadyHeld) as held:
            ledger.commit(placed("h4"))
        assert held.value.hold == "h1"
        ledger.commit(lifted("h1"), placed("h5"))

    def test_a_hold_is_lifted_once_and_on_its_own_line(self, ledger):
        ledger.commit(placed("h1"))
        with pytest.raises(Moved):
            ledger.commit(lifted("h1", line="payments"))
        ledger.commit(lifted("h1"))
        with pytest.raises(Moved):
            ledger.commit(lifted("h1"))
        with pytest.raises(Moved):
            ledger.commit(lifted("never"))

    def test_a_step_is_taken_only_from_the_state_the_act_is_in(self, ledger):
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

    def test_a_settled_act_is_never_stepped_again(self, ledger):
        ledger.commit(asked("a1"), step("a1", "intent", "withdrawn"), asked("a2"))
        with pytest.raises(Moved):
            ledger.commit(step("a1", "withdrawn", "sent"))
        ledger.commit(step("a2", "intent", "withdrawn"))
        with pytest.raises(Moved):
            ledger.commit(step("a1", "withdrawn", "intent"))

    def test_an_id_is_used_once(self, ledger):
        ledger.commit(asked("a1"), step("a1", "intent", "withdrawn"), placed("h1"), lifted("h1"))
        with pytest.raises(LedgerUnusable, match="asked before"):
            ledger.commit(asked("a1"))
        with pytest.raises(AlreadyHeld):
            ledger.commit(placed("h1"))

    def test_a_hold_or_act_of_another_line_than_its_event_is_refused(self, ledger):
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
    def test_a_commit_is_all_or_nothing(self, ledger, last, error):
        ledger.commit(asked("a1"), placed("h1"))
        before = ledger.read(0)
        with pytest.raises(error):
            ledger.commit(seen(), asked("a2", subject="x"), placed("h2", "bo"), step("a1", "intent", "intent"), last)
        assert ledger.read(0) == before
        ledger.commit(asked("a2", subject="x"), placed("h2", "bo"), step("a1", "intent", "sent"))
        assert ledger.verify().broken_at is None

    @pytest.mark.parametrize("what", ["ask", "step", "place a hold"])
    def test_of_two_processes_that_race_exactly_one_wins(self, ledger, place, start, what):
        racers = [start(RACER.format(place.program), place.address) for _ in "xy"]
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

    def test_an_act_that_cannot_be_read_is_said_in_words_and_nothing_is_written(self, ledger, place):
        ledger.commit(asked("a1"))
        place.tamper("UPDATE acts SET body = '{\"id\"'")
        for event in (step("a1", "intent", "sent"), asked("a2")):
            with pytest.raises(LedgerUnusable, match="cannot be read"):
                ledger.commit(event)
        assert len(ledger.read(0)) == 1

    # ---- who only looks

    def test_who_only_looks_cannot_write(self, ledger, place, clock):
        ledger.commit(seen())
        looking = place.open(clock, read_only=True)
        for write in writes(looking):
            with pytest.raises(LedgerUnusable):
                write()
        assert len(looking.read(0)) == 1
        looking.close()

    # ---- crashes

    def test_nothing_acknowledged_is_lost_when_the_writer_is_killed(self, place, clock, start):
        chance, acknowledged = random.Random(5), 0
        for round_ in range(place.rounds):
            writer = start(WRITER.format(place.program), place.address, round_)
            for _ in range(chance.randrange(20, 120)):
                writer.stdout.readline()
                acknowledged += 1
            writer.send_signal(signal.SIGKILL)
            acknowledged += writer.stdout.read().count("\n")  # communicate() would leave out what is buffered here
            ledger = place.open(clock)
            written = [event.words for event in kept(ledger)]
            assert len(written) >= acknowledged
            # One may have been written and not acknowledged: the writer died between the two.
            assert len(written) <= acknowledged + 1
            acknowledged = len(written)
            assert written[-1] == f"{round_} {len(written) - 1}"
            assert ledger.verify() == Audit(acknowledged)
            assert place.is_sound(ledger)
            ledger.close()

    # ---- the chain

    @pytest.mark.parametrize("n", range(20))
    def test_every_change_to_what_was_written_is_found(self, thirty, clock, n):
        a, b = random.Random(n).sample(range(2, 30), 2)
        thirty.tamper(*harm(thirty, n, a, b))
        ledger = thirty.open(clock)
        audit = ledger.verify()
        assert audit.broken_at is not None, harm(thirty, n, a, b)
        assert audit.words
        ledger.commit(seen("goes on"))
        assert ledger.verify().broken_at is not None, "found now, but not after the next event"
        ledger.close()

    def test_audit_verify_finds_a_checkpoint_that_is_not_what_the_events_add_up_to(self, tmp_path, thirty, clock):
        ledger = thirty.open(clock)
        ledger.checkpoint(FORMAT, 30, to_json(Board(started=77.0)))
        ledger.close()
        code, words = audit_verify(tmp_path, thirty.address)
        assert code == 1
        assert "checkpoint differs" in words

    def test_audit_verify_ends_with_0_for_a_whole_chain_and_with_1_for_a_broken_one(self, tmp_path, thirty):
        code, words = audit_verify(tmp_path, thirty.address)
        assert (code, words) == (0, "30 events, the chain is whole\n")
        thirty.tamper(f"UPDATE events SET body = {thirty.replaced('body', 'event', '[/]')} WHERE seq = 7")
        code, words = audit_verify(tmp_path, thirty.address)
        assert code == 1
        assert "event 7 was changed" in words

    # ---- checkpoints

    def test_a_checkpoint_is_given_back_to_who_asks_for_its_format(self, ledger):
        ledger.commit(seen("1"), seen("2"))
        ledger.checkpoint("f", 1, b"board")
        assert ledger.last_checkpoint("f") == (1, b"board")
        assert ledger.last_checkpoint("g") is None
        ledger.checkpoint("f", 2, b"later")
        ledger.checkpoint("g", 1, b"other")
        assert ledger.last_checkpoint("f") == (2, b"later")
        assert ledger.last_checkpoint("g") == (1, b"other")

    def test_a_checkpoint_of_an_event_that_is_not_there_is_not_kept(self, ledger):
        ledger.commit(seen())
        ledger.checkpoint("f", 5, b"board")
        assert ledger.last_checkpoint("f") is None

    @pytest.mark.parametrize(
        "harm",
        [
            lambda place: f"UPDATE events SET hash = {place.zeros} WHERE seq = 20",
            lambda _: "DELETE FROM events WHERE seq = 20",
            lambda _: "UPDATE checkpoints SET seq = 19",
            lambda place: f"UPDATE checkpoints SET board = {place.replaced('board', '1', '2')}",
            lambda place: f"UPDATE checkpoints SET board = {place.replaced('board', 'board', '{}')}",
            lambda _: "UPDATE checkpoints SET board = 'text'",
            lambda place: f"UPDATE checkpoints SET hash = {place.zeros}",
        ],
    )
    def test_a_checkpoint_that_does_not_fit_is_ignored(self, thirty, clock, harm):
        ledger = thirty.open(clock)
        ledger.checkpoint("f", 20, b"board 111")
        assert ledger.last_checkpoint("f") == (20, b"board 111")
        ledger.close()
        thirty.tamper(harm(thirty))
        ledger = thirty.open(clock)
        assert ledger.last_checkpoint("f") is None
        ledger.close()

    # ---- the lease

    def test_one_holds_the_lease_and_renewing_it_keeps_its_epoch(self, ledger, place, clock):
        other = place.open(clock)
        assert ledger.lease() is None
        first = ledger.take_lease("one", LIVES)
        assert first == Lease("one", 1, clock.at + LIVES, clock.at)
        place.pass_time(clock, LIVES / 2)
        assert other.take_lease("two", LIVES) is None
        renewed = ledger.take_lease("one", LIVES)
        assert renewed == Lease("one", 1, clock.at + LIVES, clock.at)
        found = other.lease()
        assert (found.holder, found.epoch) == ("one", 1)
        assert found.expires_at == pytest.approx(renewed.expires_at, abs=LIVES / 10)
        assert found.beat_at == pytest.approx(renewed.beat_at, abs=LIVES / 10)
        other.close()

    def test_a_lease_that_ran_out_is_taken_over_with_a_higher_epoch(self, ledger, place, clock):
        other = place.open(clock)
        ledger.take_lease("one", LIVES)
        place.pass_time(clock, 0.9 * LIVES)
        assert other.take_lease("two", LIVES) is None
        place.pass_time(clock, 0.1 * LIVES)
        assert ledger.lease() is None
        assert other.take_lease("two", LIVES).epoch == 2
        assert ledger.take_lease("one", LIVES) is None
        place.pass_time(clock, 1.1 * LIVES)
        assert other.take_lease("two", LIVES).epoch == 3, "nobody held it for a while: what was done then is not ours"
        other.close()

    def test_a_lease_from_before_the_clock_was_set_back_binds_nobody(self, ledger, place, clock):
        other = place.open(clock)
        ledger.take_lease("one", LIVES)
        place.pass_time(clock, -0.5 * LIVES)
        assert other.lease().holder == "one"
        assert other.take_lease("two", LIVES) is None
        place.pass_time(clock, -2 * LIVES)
        assert other.lease() is None
        assert other.take_lease("two", LIVES).epoch == 2
        other.close()

    def test_a_lease_is_handed_over_at_once(self, ledger, place, clock):
        other = place.open(clock)
        ledger.take_lease("one", LIVES)
        other.drop_lease("two")
        assert other.take_lease("two", LIVES) is None
        ledger.drop_lease("one")
        assert other.lease() is None
        assert other.take_lease("two", LIVES).epoch == 2
        other.close()

    # ---- samples and signs of life

    def test_a_later_sample_replaces_the_one_of_the_same_bucket(self, ledger):
        ledger.keep("shop/conv", [Sample(0.0, 1.0, 10.0), Sample(60.0, 2.0, None)])
        ledger.keep("shop/conv", [Sample(60.0, 3.0, 30.0), Sample(120.0, 4.0)])
        assert ledger.samples("shop/conv", 0.0, 999.0) == (
            Sample(0.0, 1.0, 10.0),
            Sample(60.0, 3.0, 30.0),
            Sample(120.0, 4.0),
        )

    def test_a_range_holds_its_start_and_not_its_end(self, ledger):
        ledger.keep("s", [Sample(at, at) for at in (120.0, 0.0, 60.0)])
        assert [row.at for row in ledger.samples("s", 0.0, 120.0)] == [0.0, 60.0]
        assert ledger.samples("s", 60.0, 60.0) == ()
        assert ledger.samples("nobody's", 0.0, 999.0) == ()

    def test_old_samples_are_forgotten_and_only_of_that_series(self, ledger):
        ledger.keep("old", [Sample(0.0, 1.0)])
        ledger.keep("s", [Sample(at, at) for at in (0.0, 60.0, 120.0)])
        ledger.keep("s", [], forget_before=60.0)
        assert [row.at for row in ledger.samples("s", 0.0, 999.0)] == [60.0, 120.0]
        assert len(ledger.samples("old", 0.0, 999.0)) == 1

    def test_samples_are_no_events(self, ledger):
        ledger.keep("s", [Sample(0.0, 1.0)])
        ledger.pulse([Pulse("k", 1.0)])
        assert ledger.read(0) == []

    def test_the_last_sign_of_life_is_kept_per_key(self, ledger, place, clock):
        other = place.open(clock)
        ledger.pulse([Pulse("source:gh", 1.0, "ok"), Pulse("person:ann", 1.0, "here", "\x1b[c")])
        other.pulse([Pulse("source:gh", 2.0, "gone", "404")])
        expected = [Pulse("source:gh", 2.0, "gone", "404"), Pulse("person:ann", 1.0, "here", "\x1b[c")]
        assert ledger.pulses() == {pulse.key: pulse for pulse in expected}
        other.close()

    # ---- reading

    def test_events_are_read_in_order_in_pieces_and_newest_first(self, ledger):
        ledger.commit(*(seen(str(n)) for n in range(5)), placed("h1", line="payments"))
        assert [row.seq for row in ledger.read(0)] == [1, 2, 3, 4, 5, 6]
        assert [row.seq for row in ledger.read(2, 3)] == [3, 4, 5]
        assert [row.seq for row in ledger.recent(SHOP, 2)] == [5, 4]
        assert [row.seq for row in ledger.recent("", 2)] == [6, 5]

    def test_what_another_connection_wrote_is_noticed_once(self, ledger, place, clock):
        other = place.open(clock)
        other.changed()
        assert not other.changed()
        ledger.commit(seen())
        wait_until(other.changed)
        assert not other.changed()
        other.commit(seen())
        assert not other.changed()
        other.close()

    def test_a_ledger_that_cannot_be_read_says_so_whatever_is_asked(self, ledger):
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
