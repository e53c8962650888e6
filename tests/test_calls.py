"""The call for help: it counts down, is joined, taken, cleared, or stops the line; exactly one of the last two wins."""

import asyncio

import msgspec
import pytest

from andon.acts import NotDone
from andon.board import Board
from andon.calling import Calls
from andon.events import ActStepped, CallTaken, HoldChanged
from andon.keeper import fold
from andon.model import Act
from tests.fakes import LINE, Room, Shop, virtual

WHOLE_S = 120.0


class Caller:
    """A process that may call, clear and end calls."""

    def __init__(self, shop: Shop, who: str, *, lease: bool = False, watches: bool = True, read_only: bool = False):
        self.room: Room = shop.room(who, read_only=read_only)
        self.calls = Calls(shop.lines, self.room.door, self.room.cord, self.room, shop.clock)
        self.who = who
        if watches:
            self.room.tasks.add(asyncio.create_task(self._looks(lease)))
        self.room.recovers(lease=lease)

    async def _looks(self, lease: bool) -> None:
        while True:
            self.calls.look(lease=lease)
            await asyncio.sleep(1)

    async def call(self, why: str = "p95 looks odd"):
        return await self.calls.call(LINE, self.who, why)

    async def clear(self, call: Act) -> None:
        self.room.tail()
        await self.calls.clear(LINE, call.id, self.who)

    async def die(self) -> None:
        self.room.die()
        await self.calls.stop()

    @property
    def line(self):
        return self.room.line


def steps(shop: Shop, call: Act) -> list[str]:
    """What became of a call, as the ledger has it."""
    rows = shop.ledger.read(0, 100_000)
    found = [msgspec.json.decode(row.body) for row in rows if row.kind == "act-stepped"]
    return [step["now"] for step in found if step["act"] == call.id]


@virtual
async def test_a_call_that_nobody_clears_stops_the_line_at_its_end(shop: Shop) -> None:
    ann, bo = Caller(shop, "ann"), Caller(shop, "bo", lease=True)
    began = shop.clock.now()
    called = await ann.call()
    assert bo.line.call is not None
    assert bo.line.call.who == "ann"
    await asyncio.sleep(WHOLE_S - 2)
    assert not bo.line.open_holds
    await ann.room.until(lambda: ann.line.open_holds, 10)
    hold = ann.line.open_holds[0]
    assert (hold.owner, hold.kind) == ("ann", "person")
    assert hold.why == "called for help: p95 looks odd; nobody cleared it in 2 min"
    assert WHOLE_S <= hold.since - began < WHOLE_S + 2
    assert ann.line.call is None
    assert steps(shop, called.act) == ["verified"]
    await ann.room.until(lambda: shop.stand.standing)


@virtual
async def test_pressed_again_by_anybody_it_changes_nothing(shop: Shop) -> None:
    ann, bo = Caller(shop, "ann", lease=True), Caller(shop, "bo")
    first = await ann.call()
    await asyncio.sleep(60)
    again, others = await ann.call("again"), await bo.call("me too")
    assert again.joined
    assert others.joined
    assert {first.act.id, again.act.id, others.act.id} == {first.act.id}
    assert bo.line.call == first.act
    assert sum(row.kind == "act-asked" for row in shop.ledger.read(0)) == 1
    await ann.room.until(lambda: ann.line.open_holds, 70)
    assert len(ann.line.holds) == 1


@virtual
async def test_two_who_call_at_once_are_one_call(shop: Shop) -> None:
    ann, bo = Caller(shop, "ann"), Caller(shop, "bo")
    found = await asyncio.gather(ann.call(), bo.call(), ann.call())
    assert len({item.act.id for item in found}) == 1
    assert sorted(item.joined for item in found) == [False, True, True]


@virtual
async def test_whoever_clears_it_lets_the_line_run_and_is_named(shop: Shop) -> None:
    ann, bo = Caller(shop, "ann", lease=True), Caller(shop, "bo")
    called = await ann.call()
    await bo.clear(called.act)
    await asyncio.sleep(WHOLE_S * 2)
    assert not ann.line.holds
    assert ann.line.call is None
    assert ann.line.calls[-1].words == "cleared by bo"
    with pytest.raises(NotDone, match="the call on shop is over: cleared by bo"):
        await ann.clear(called.act)
    assert not (await ann.call()).joined


@pytest.mark.parametrize("early_s", [0.0, 0.001, 0.01])
@virtual
async def test_of_clearing_and_ending_in_the_same_moment_exactly_one_wins(shop: Shop, early_s: float) -> None:
    ann, bo, cy = Caller(shop, "ann", lease=True), Caller(shop, "bo"), Caller(shop, "cy")
    called = await ann.call()
    await asyncio.sleep(called.act.not_before - shop.clock.now() - early_s)

    async def clears() -> bool:
        try:
            await bo.clear(called.act)
        except NotDone as error:
            assert "the line was stopped" in str(error)
            return False
        return True

    won = await clears()
    await asyncio.sleep(10)
    assert steps(shop, called.act) == (["withdrawn"] if won else ["verified"])
    assert bool(cy.line.holds) is not won


@virtual
async def test_an_end_that_finds_the_call_cleared_halts_nothing(shop: Shop) -> None:
    ann, bo = Caller(shop, "ann", watches=False), Caller(shop, "bo", watches=False)
    called = await ann.call()
    bo.room.tail()
    shop.ledger.commit(
        ActStepped(line=LINE, at=shop.clock.now(), act=called.act.id, was="intent", now="withdrawn", words="cleared")
    )
    assert bo.room.board.line(LINE).call is not None, "bo has not read that yet"
    with pytest.raises(Exception, match="withdrawn"):
        await bo.calls._end(called.act)
    assert not bo.line.holds
    assert not shop.stand.requests
    assert not [row for row in shop.ledger.read(0) if row.kind == "hold-placed"]


@virtual
async def test_two_who_end_it_place_one_hold(shop: Shop) -> None:
    ann, bo = Caller(shop, "ann", lease=True), Caller(shop, "bo", lease=True)
    called = await ann.call()
    await ann.room.until(lambda: ann.line.open_holds, 130)
    await asyncio.sleep(10)
    assert len(bo.line.holds) == 1
    assert steps(shop, called.act) == ["verified"]
    assert len(shop.stand.requests) == 1


@virtual
async def test_after_a_stop_a_call_says_that_there_is_nothing_left_to_stop(shop: Shop) -> None:
    ann, bo = Caller(shop, "ann"), Caller(shop, "bo")
    await bo.room.cord.pull(LINE, "bo", "leaks")
    ann.room.tail()
    with pytest.raises(NotDone, match="shop is stopped already"):
        await ann.call()


@virtual
async def test_a_stop_answers_the_call_and_a_resume_does_not_bring_it_back(shop: Shop) -> None:
    ann, bo = Caller(shop, "ann", lease=True), Caller(shop, "bo")
    first = await ann.call()
    await bo.room.cord.pull(LINE, "bo", "I saw it")
    assert ann.line.call is None
    assert ann.line.calls[-1].state == "superseded"
    await ann.room.until(lambda: ann.room.acts("halt")[-1].settled)
    await bo.room.cord.resume(LINE, "bo", "fixed")
    await asyncio.sleep(WHOLE_S * 2)
    assert not ann.line.open_holds
    again = await ann.call()
    assert not again.joined
    assert again.act.id != first.act.id
    assert steps(shop, first.act) == ["superseded"]


@virtual
async def test_a_call_that_came_in_right_after_a_stop_counts_for_nothing(shop: Shop) -> None:
    ann, bo = Caller(shop, "ann", watches=False), Caller(shop, "bo", lease=True)
    await bo.room.cord.pull(LINE, "bo", "leaks")
    assert not ann.room.board.line(LINE).open_holds, "ann has not read that yet"
    with pytest.raises(NotDone, match="stopped already"):
        await ann.call()
    assert bo.line.call is None
    await bo.room.until(lambda: bo.room.acts("halt")[-1].settled)
    await bo.room.cord.resume(LINE, "bo", "fixed")
    await asyncio.sleep(WHOLE_S * 2)
    assert not bo.line.open_holds
    assert not (await ann.call()).joined


@virtual
async def test_in_a_room_that_only_looks_nobody_calls_clears_or_ends(shop: Shop) -> None:
    ann, guest = Caller(shop, "ann", watches=False), Caller(shop, "guest", watches=False, read_only=True)
    with pytest.raises(NotDone, match="read-only"):
        await guest.call()
    called = await ann.call()
    guest.room.tail()
    with pytest.raises(NotDone, match="read-only"):
        await guest.clear(called.act)
    with pytest.raises(NotDone, match="read-only"):
        await guest.calls.take(LINE, called.act.id, "guest")
    with pytest.raises(NotDone, match="read-only"):
        await guest.calls._end(called.act)


@virtual
async def test_when_nobody_holds_the_lease_any_room_stops_the_line(shop: Shop) -> None:
    ann, bo = Caller(shop, "ann", watches=False), Caller(shop, "bo")
    called = await ann.call()
    await ann.die()
    await bo.room.until(lambda: bo.line.open_holds, WHOLE_S + 5)
    assert bo.line.open_holds[0].owner == "ann"
    assert steps(shop, called.act) == ["verified"]


@virtual
async def test_the_process_dies_at_minute_one_and_another_ends_it_in_time(shop: Shop) -> None:
    ann = Caller(shop, "ann", lease=True)
    called = await ann.call()
    await asyncio.sleep(60)
    await ann.die()
    bo = Caller(shop, "bo", lease=True)
    await bo.room.until(lambda: bo.line.open_holds, 70)
    assert 0 <= bo.line.open_holds[0].since - called.act.not_before < 3


@virtual
async def test_nobody_was_there_when_it_ended_but_soon_after(shop: Shop) -> None:
    ann = Caller(shop, "ann", watches=False)
    await ann.call()
    await asyncio.sleep(WHOLE_S + 60)
    bo = Caller(shop, "bo", lease=True)
    await bo.room.until(lambda: bo.line.open_holds, 5)


@virtual
async def test_an_hour_later_it_has_expired_and_says_so(shop: Shop) -> None:
    ann = Caller(shop, "ann", watches=False)
    called = await ann.call()
    await asyncio.sleep(3600)
    bo = Caller(shop, "bo", lease=True)
    await bo.room.until(lambda: steps(shop, called.act), 5)
    assert steps(shop, called.act) == ["expired"]
    assert "nobody was here" in bo.line.calls[-1].words
    await asyncio.sleep(300)
    assert not bo.line.holds


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0])
@virtual
async def test_a_clock_that_is_stepped_changes_nothing_of_the_time_that_was_promised(
    shop: Shop, seconds: float
) -> None:
    ann = Caller(shop, "ann", lease=True)
    called = await ann.call()
    await asyncio.sleep(30)
    shop.clock.step(seconds)
    await asyncio.sleep(85)
    assert not ann.line.holds
    await asyncio.sleep(10)
    assert ann.line.open_holds
    assert steps(shop, called.act) == ["verified"]


@virtual
async def test_whoever_comes_after_a_clock_was_set_back_waits_no_longer_than_a_whole_call(shop: Shop) -> None:
    ann = Caller(shop, "ann", watches=False)
    await ann.call()
    shop.clock.step(-7200)
    bo = Caller(shop, "bo", lease=True)
    await asyncio.sleep(WHOLE_S - 2)
    assert not bo.line.holds
    await asyncio.sleep(5)
    assert bo.line.open_holds


@virtual
async def test_who_takes_it_is_shown_and_has_the_hold_at_the_end(shop: Shop) -> None:
    ann, bo = Caller(shop, "ann", lease=True), Caller(shop, "bo")
    called = await ann.call()
    bo.room.tail()
    await bo.calls.take(LINE, called.act.id, "bo")
    assert ann.line.call_has == "bo"
    await ann.room.until(lambda: ann.line.open_holds and ann.line.open_holds[0].has, 130)
    assert ann.line.open_holds[0].has == "bo"
    with pytest.raises(NotDone, match="is over"):
        await bo.calls.take(LINE, called.act.id, "bo")


@virtual
async def test_an_end_that_the_ledger_does_not_take_is_tried_again_and_halts_nothing_before(shop: Shop) -> None:
    ann = Caller(shop, "ann", lease=True)
    await ann.call()
    ann.room.breaks = True
    await asyncio.sleep(WHOLE_S + 20)
    assert not shop.stand.requests
    ann.room.breaks = False
    await ann.room.until(lambda: ann.line.open_holds, 5)
    assert len(ann.line.holds) == 1


@virtual
async def test_what_goes_wrong_in_waiting_is_raised_where_it_is_seen_and_it_is_begun_anew(shop: Shop) -> None:
    ann = Caller(shop, "ann", watches=False)
    await ann.call()
    real, ann.calls._end = ann.calls._end, None  # type: ignore[method-assign,assignment]
    ann.calls.look(lease=True)
    await asyncio.sleep(WHOLE_S + 1)
    ann.calls._end = real  # type: ignore[method-assign]
    with pytest.raises(TypeError):
        ann.calls.look(lease=True)
    ann.calls.look(lease=True)
    await ann.room.until(lambda: ann.line.open_holds, 5)


@virtual
async def test_a_call_the_ledger_does_not_take_is_no_call(shop: Shop) -> None:
    ann = Caller(shop, "ann", lease=True)
    ann.room.breaks = True
    with pytest.raises(Exception, match="disk is full"):
        await ann.call()
    ann.room.breaks = False
    assert ann.line.call is None


@virtual
async def test_people_are_told_once_and_when_it_is_cleared(shop: Shop) -> None:
    shop.has(LINE, "ci/deploy", notify=("pager",))
    ann = Caller(shop, "ann", lease=True)
    called = await ann.call()
    await ann.call()
    await ann.room.until(lambda: shop.notifiers["pager"].told)
    await ann.clear(called.act)
    await ann.room.until(lambda: len(shop.notifiers["pager"].told) == 2)
    first, second = shop.notifiers["pager"].told
    assert (first.kind, first.title, first.text) == (
        "called",
        "ann calls for help on shop",
        "it stops in 2 min: p95 looks odd",
    )
    assert (second.kind, second.title, second.text) == ("resumed", "call on shop cleared", "ann cleared it")


@virtual
async def test_no_line_but_those_of_the_config_is_called_for(shop: Shop) -> None:
    ann = Caller(shop, "ann")
    ann.room.door.lines = tuple(shop.lines)
    with pytest.raises(NotDone, match="there is no line 'nowhere'"):
        await ann.calls.call("nowhere", "ann")


# ---- the hold


@virtual
async def test_a_holds_reason_and_end_are_changed_and_nothing_is_lifted_by_its_end(shop: Shop) -> None:
    ann, bo = shop.room("ann"), shop.room("bo")
    found = await ann.cord.pull(LINE, "ann", "odd")
    bo.tail()
    await bo.cord.change(LINE, found.hold.id, "bo", why="leaks sessions")
    await ann.cord.change(LINE, found.hold.id, "ann", until=shop.clock.now() + 60)
    hold = ann.line.open_holds[0]
    assert (hold.why, hold.until, hold.owner) == ("leaks sessions", shop.clock.now() + 60, "ann")
    await asyncio.sleep(3600)
    assert ann.line.open_holds
    await ann.cord.change(LINE, found.hold.id, "ann", until=0.0)
    assert ann.line.open_holds[0].until is None
    with pytest.raises(NotDone, match="over already"):
        await ann.cord.change(LINE, found.hold.id, "ann", until=shop.clock.now() - 1)
    with pytest.raises(NotDone, match="say what is to be changed"):
        await ann.cord.change(LINE, found.hold.id, "ann", why="  ")


@virtual
async def test_a_hold_is_handed_over_and_the_ledger_knows_by_whom(shop: Shop) -> None:
    ann = shop.room("ann")
    found = await ann.cord.pull(LINE, "ann", "odd")
    await ann.cord.take(LINE, found.hold.id, "cy", by="ann")
    assert ann.line.open_holds[0].has == "cy"
    taken = [msgspec.json.decode(row.body) for row in shop.ledger.read(0) if row.kind == "hold-taken"]
    assert (taken[0]["who"], taken[0]["by"]) == ("cy", "ann")
    with pytest.raises(NotDone, match="say who"):
        await ann.cord.take(LINE, found.hold.id, " ")


@virtual
async def test_what_is_lifted_is_neither_changed_nor_taken(shop: Shop) -> None:
    ann = shop.room("ann")
    found = await ann.cord.pull(LINE, "ann", "odd")
    await ann.until(lambda: ann.acts("halt")[-1].settled)
    await ann.cord.resume(LINE, "ann", "fixed")
    for work in (
        ann.cord.change(LINE, found.hold.id, "bo", why="again"),
        ann.cord.take(LINE, found.hold.id, "bo"),
    ):
        with pytest.raises(NotDone, match="no open hold"):
            await work


@virtual
async def test_the_board_folded_anew_is_the_same(shop: Shop) -> None:
    ann = Caller(shop, "ann", lease=True)
    called = await ann.call()
    await ann.calls.take(LINE, called.act.id, "bo")
    await ann.room.until(lambda: ann.line.open_holds and ann.line.open_holds[0].has, 130)
    await ann.room.cord.change(LINE, ann.line.open_holds[0].id, "bo", why="leaks", until=shop.clock.now() + 9)
    await asyncio.sleep(5)
    _, again, _ = fold(Board(), shop.ledger.read(0, 10_000))
    assert again == ann.room.board
    kinds = [row.kind for row in shop.ledger.read(0, 10_000)]
    assert {"call-taken", "hold-changed"} <= set(kinds)


def test_what_another_call_or_hold_says_changes_nothing() -> None:
    board = Board().apply(CallTaken(line=LINE, at=1.0, call="none", who="bo"))
    assert board.line(LINE).call_has == ""
    board = board.apply(HoldChanged(line=LINE, at=1.0, hold="none", who="bo", why="x"))
    assert board.line(LINE).holds == ()
