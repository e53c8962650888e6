"""The cord: what a pull sets, what a lift releases, what is put back, and what is said when a target does not obey."""

import asyncio

import pytest

from andon.acts import NotDone
from andon.board import Line
from andon.cord import pulse_key, state
from andon.model import Halted, Part
from andon.ports import LedgerUnusable, NoAnswer, Pulse, Refused, Unreachable
from tests.fakes import LINE, FakeHalting, Room, Shop, virtual

ODD_AGAIN = "moved under an open hold; halted again"


async def pulled(room: Room, line: str = LINE, who: str = "", why: str = "conversion falls"):
    """A pull whose halts were confirmed."""
    found = await room.cord.pull(line, who or room.who, why)
    await room.until(lambda: all(act.settled for act in room.acts("halt", line=line)))
    return found


async def resumed(room: Room, line: str = LINE, why: str = "fixed", **values) -> None:
    await room.cord.resume(line, room.who, why, **values)
    await room.until(lambda: all(act.settled for act in room.acts("release", line=line)))


async def reconciled(room: Room, target: str = "ci/deploy", line: str = LINE) -> str:
    """One read of a target, compared with what the holds want, and what followed from it."""
    halting = room.door.targets.halting(line, target)
    odd = await room.cord.reconcile(line, target, await halting.halted())
    await room.until(lambda: not room.board.line(line).unsettled())
    return odd


def shown(room: Room, line: str = LINE, pulses: dict[str, Pulse] | None = None) -> str:
    room.tail()
    now = room.shop.clock.now()
    fresh = {pulse_key(name): Pulse(pulse_key(name), now, "ok") for name in room.shop.lines[line].targets}
    return state(room.board.line(line), room.shop.lines[line], fresh if pulses is None else pulses, now)


# ---- pulling


@virtual
async def test_a_pull_halts_every_target_and_is_confirmed_by_a_read(shop: Shop) -> None:
    shop.has(LINE, "ci/deploy", "cron/nightly")
    room = shop.room()
    found = await pulled(room)
    halts = room.acts("halt")
    assert [(act.target, act.state, act.hold, act.subject) for act in halts] == [
        ("ci/deploy", "verified", found.hold.id, found.hold.id),
        ("cron/nightly", "verified", found.hold.id, found.hold.id),
    ]
    assert all(found.hold.id in stand.parts["worker"] for stand in shop.stands.values())
    assert shown(room) == "stopped"


@virtual
async def test_it_sets_and_never_toggles(shop: Shop) -> None:
    room = shop.room()
    first = await pulled(room)
    for _ in range(5):
        again = await pulled(room)
        assert again.joined
        assert again.hold.id == first.hold.id
    assert len(room.line.holds) == 1
    assert shop.stand.requests == [("halt", first.hold.id)]
    assert shown(room) == "stopped"


@virtual
async def test_a_held_key_is_one_hold_and_one_halt(shop: Shop) -> None:
    room = shop.room()
    found = await asyncio.gather(*(room.cord.pull(LINE, "ann", "held down") for _ in range(20)))
    await asyncio.sleep(30)
    assert len({item.hold.id for item in found}) == 1
    assert len(room.line.open_holds) == 1
    assert len(shop.stand.requests) == 1


@virtual
async def test_anothers_pull_is_another_hold_of_the_same_stop(shop: Shop) -> None:
    ann, bo = shop.room("ann"), shop.room("bo")
    first, second = await asyncio.gather(pulled(ann), pulled(bo))
    holds = ann.line.open_holds
    assert {hold.owner for hold in holds} == {"ann", "bo"}
    assert len({hold.stop for hold in holds}) == 1
    assert len(shop.stand.requests) == 1
    assert {first.hold.id, second.hold.id} == {hold.id for hold in holds}


@virtual
async def test_a_refused_halt_is_tried_again_by_the_next_press(shop: Shop) -> None:
    room = shop.room()
    shop.stand.answers = [Refused("you may not pause workers")]
    found = await pulled(room)
    assert [act.state for act in room.acts("halt")] == ["refused"]
    assert shown(room) == "stopping"
    again = await pulled(room)
    assert again.hold.id == found.hold.id
    assert [act.state for act in room.acts("halt")] == ["refused", "verified"]
    assert shown(room) == "stopped"


@virtual
async def test_a_line_that_halts_nothing_is_stopped_by_the_gate_alone(shop: Shop) -> None:
    shop.has("docs")
    room = shop.room()
    await room.cord.pull("docs", "ann", "typo")
    assert shown(room, "docs") == "stopped"


@virtual
async def test_read_only_refuses_everything(shop: Shop) -> None:
    await pulled(shop.room("bo"))
    room = shop.room(read_only=True)
    hold = room.line.open_holds[0].id
    for work in (
        room.cord.pull(LINE, "ann", "x"),
        room.cord.resume(LINE, "ann", "x"),
        room.cord.take(LINE, hold, "ann"),
        room.shipper.rollback(LINE, "ann", "x"),
        room.shipper.push(LINE, "v9", "ann", "x"),
        room.shipper.mark(LINE, "d1", "good", "ann", "x"),
    ):
        with pytest.raises(NotDone, match="read-only"):
            await work
    assert len(shop.stand.requests) == 1


@virtual
async def test_a_line_that_a_newer_andon_wrote_to_is_not_touched(shop: Shop) -> None:
    room = shop.room()
    room.board = room.board.apply_unknown("hold-shared", LINE)
    with pytest.raises(NotDone, match="newer andon wrote hold-shared"):
        await room.cord.pull(LINE, "ann", "x")
    assert shop.stand.requests == []


# ---- what stood before


@virtual
async def test_what_somebody_else_paused_before_stays_paused(shop: Shop) -> None:
    shop.stands["ci/deploy"] = stand = FakeHalting(shop.clock, "worker-1", "worker-2")
    stand.parts["worker-2"] = "paused by cy: disk"
    room = shop.room()
    await pulled(room)
    assert stand.standing
    await resumed(room)
    assert stand.parts == {"worker-1": "", "worker-2": "paused by cy: disk"}
    assert [act.state for act in room.acts("release")] == ["verified"]


@virtual
async def test_a_second_stop_does_not_take_our_own_note_for_what_stood_before(shop: Shop) -> None:
    room = shop.room()
    for _ in range(3):
        await pulled(room)
        await resumed(room)
        assert shop.stand.parts == {"worker": ""}


@virtual
async def test_a_pull_during_the_release_of_the_last_stop_restores_what_stood_at_first(shop: Shop) -> None:
    room = shop.room()
    await pulled(room)
    shop.stand.answers = [NoAnswer("lost")]
    await room.cord.resume(LINE, "ann", "fixed")
    await asyncio.sleep(0.5)
    await pulled(room)
    await asyncio.sleep(5)
    assert [(act.state, act.words) for act in room.acts("release")] == [("superseded", "shop is stopped again")]
    assert shop.stand.standing
    await resumed(room)
    assert shop.stand.parts == {"worker": ""}


@virtual
async def test_an_unreadable_target_is_halted_all_the_same_and_its_release_asks_a_person(shop: Shop) -> None:
    room = shop.room()
    shop.stand.down = Unreachable("connection refused")
    pull = asyncio.create_task(pulled(room))
    await asyncio.sleep(5)
    assert shop.stand.standing
    shop.stand.down = None
    await pull
    await resumed(room)
    release = room.acts("release")[0]
    assert release.state == "refused"
    assert "was not readable" in release.words
    assert shop.stand.standing


@virtual
async def test_a_target_whose_read_hangs_is_halted_within_two_seconds(shop: Shop) -> None:
    room = shop.room()
    shop.stand.hangs = True
    began = shop.clock.now()
    await asyncio.wait_for(room.cord.pull(LINE, "ann", "x"), 5)
    await room.until(lambda: shop.stand.requests)
    assert shop.stand.at[0] - began <= 2.3


@virtual
async def test_what_was_read_within_a_minute_is_not_read_again(shop: Shop) -> None:
    room = shop.room()
    await reconciled(room)
    reads = shop.stand.reads
    await room.cord.pull(LINE, "ann", "x")
    assert shop.stand.reads == reads


# ---- lifting


@virtual
async def test_a_line_is_released_only_when_its_last_hold_is_lifted(shop: Shop) -> None:
    ann, bo = shop.room("ann"), shop.room("bo")
    first, second = await pulled(ann), await pulled(bo)
    await resumed(ann, hold=first.hold.id)
    assert shop.stand.standing
    assert shown(ann) == "stopped"
    await resumed(bo, hold=second.hold.id)
    assert shop.stand.parts == {"worker": ""}
    assert shown(bo) == "running"


@virtual
async def test_two_who_lift_the_last_two_holds_at_once_release_it(shop: Shop) -> None:
    ann, bo = shop.room("ann"), shop.room("bo")
    first, second = await pulled(ann), await pulled(bo)
    await asyncio.gather(resumed(ann, hold=first.hold.id), resumed(bo, hold=second.hold.id))
    await reconciled(ann)
    assert shop.stand.parts == {"worker": ""}


@virtual
async def test_which_hold_is_meant_must_be_said(shop: Shop) -> None:
    ann, bo = shop.room("ann"), shop.room("bo")
    first = await pulled(ann)
    await pulled(bo, why="looks odd")
    await asyncio.sleep(0.2)
    with pytest.raises(NotDone, match=r"2 holds, lift one with --hold or all with --all: \w+ by ann: .*; \w+ by bo: "):
        await ann.cord.resume(LINE, "ann", "fixed")
    with pytest.raises(NotDone, match="no open hold nonsense"):
        await ann.cord.resume(LINE, "ann", "fixed", hold="nonsense")
    with pytest.raises(NotDone, match="with a reason"):
        await ann.cord.resume(LINE, "ann", " ", hold=first.hold.id)
    await resumed(ann, all_=True)
    assert shop.stand.parts == {"worker": ""}
    with pytest.raises(NotDone, match="has no hold to lift"):
        await ann.cord.resume(LINE, "ann", "fixed")


@virtual
async def test_a_shared_target_waits_for_the_last_hold_of_every_line_that_names_it(shop: Shop) -> None:
    shop.has("mail", "ci/deploy")
    ann = shop.room("ann")
    await pulled(ann)
    await pulled(ann, "mail")
    await resumed(ann)
    assert shop.stand.standing
    assert ann.acts("release") == []
    await resumed(ann, "mail")
    await reconciled(ann)
    assert shop.stand.parts == {"worker": ""}


@virtual
async def test_what_stood_before_two_stops_of_a_shared_target_still_stands_after_both(shop: Shop) -> None:
    shop.has("mail", "ci/deploy")
    shop.stand.parts["worker"] = "paused by cy: disk"
    ann = shop.room("ann")
    await pulled(ann)
    await pulled(ann, "mail")
    await resumed(ann)
    await resumed(ann, "mail")
    await reconciled(ann)
    assert shop.stand.parts == {"worker": "paused by cy: disk"}


@virtual
async def test_a_halt_that_was_not_sent_yet_is_given_up_when_the_line_is_resumed(shop: Shop) -> None:
    room = shop.room()
    shop.stand.answers = [Unreachable("no route")] * 100
    await room.cord.pull(LINE, "ann", "x")
    await asyncio.sleep(100)
    await room.cord.resume(LINE, "ann", "never mind")
    shop.stand.answers = []
    await room.until(lambda: not room.line.unsettled())
    assert room.acts("halt")[0].state == "superseded"
    assert room.acts("halt")[0].words == "the stop it belonged to is over"
    await reconciled(room)
    assert shop.stand.parts == {"worker": ""}


@virtual
async def test_taking_a_hold_names_who_has_it(shop: Shop) -> None:
    room = shop.room()
    found = await pulled(room)
    await room.cord.take(LINE, found.hold.id, "bo")
    assert room.line.open_holds[0].has == "bo"
    with pytest.raises(NotDone, match="no open hold zzz"):
        await room.cord.take(LINE, "zzz", "bo")


# ---- reconciling


@virtual
async def test_a_target_that_moves_is_halted_again_once_and_then_only_told(shop: Shop) -> None:
    room = shop.room()
    await pulled(room)
    shop.stand.parts["worker"] = ""
    assert await reconciled(room) == ODD_AGAIN
    assert shop.stand.standing
    assert await reconciled(room) == ""
    shop.stand.parts["worker"] = ""
    for _ in range(3):
        assert await reconciled(room) == "moves under an open hold"
    assert [request[0] for request in shop.stand.requests] == ["halt", "halt"]
    assert shown(room) == "stopping"


@virtual
async def test_a_target_that_refused_is_not_asked_again_by_itself(shop: Shop) -> None:
    room = shop.room()
    shop.stand.answers = [Refused("no")]
    await pulled(room)
    assert await reconciled(room) == "refused to stand"
    assert len(shop.stand.requests) == 1


@virtual
async def test_a_halt_that_arrives_late_is_released_again(shop: Shop) -> None:
    room = shop.room()
    found = await pulled(room)
    note = shop.stand.parts["worker"]
    await resumed(room)
    shop.stand.parts["worker"] = note  # a repeated delivery of the halt
    assert found.hold.id in note
    assert await reconciled(room) == "a late halt stood there; released again"
    assert shop.stand.parts == {"worker": ""}
    assert await reconciled(room) == ""


@virtual
async def test_what_others_stopped_is_shown_and_left_alone(shop: Shop) -> None:
    room = shop.room()
    shop.stand.parts["worker"] = "paused by cy: disk [/] \x1b]0;x\x07"
    assert await reconciled(room) == "stopped outside andon"
    assert shop.stand.requests == []
    assert shown(room) == "stopped"


@virtual
async def test_a_stop_of_another_ledger_is_outside_andon_too(shop: Shop) -> None:
    room = shop.room()
    shop.stand.parts["worker"] = "andon hold zzzzzzzz by cy: theirs"
    assert await reconciled(room) == "stopped outside andon"
    assert shop.stand.requests == []


@virtual
async def test_only_what_changed_is_recorded(shop: Shop) -> None:
    room = shop.room()
    for _ in range(5):
        await reconciled(room)
    assert [row.kind for row in shop.ledger.read(0)] == ["halted-seen"]


@virtual
async def test_a_release_owed_after_a_crash_is_asked_by_the_next_read(shop: Shop) -> None:
    ann, bo = shop.room("ann"), shop.room("bo")
    shop.has("mail", "ci/deploy")
    await pulled(ann)
    await pulled(ann, "mail")
    await resumed(ann)  # its release waits for mail
    await ann.cord.resume("mail", "ann", "fixed")
    ann.die()
    bo.recovers()
    for line in (LINE, "mail"):
        await asyncio.sleep(5)
        await reconciled(bo, line=line)
    assert shop.stand.parts == {"worker": ""}
    assert [act.state for line in (LINE, "mail") for act in bo.acts("release", line=line)] == ["verified"] * 2


# ---- the four words


PART = Part("worker", halted=True, note="paused by cy")


def of(halted: Halted | None) -> Line:
    return Line(LINE, halted={"ci/deploy": halted} if halted else {})


@pytest.mark.parametrize(
    ("halted", "read_s", "word"),
    [
        (Halted((Part("worker", False),)), 1, "running"),
        (Halted((Part("worker", False),)), 25, "running"),
        (Halted((Part("worker", False),)), 25.1, "unknown"),
        (Halted((PART,)), 1, "stopped"),
        (Halted((Part("other", False), PART)), 1, "stopped"),
        (Halted((PART,)), 25.1, "unknown"),
        (None, None, "unknown"),
    ],
)
def test_without_a_hold_the_reads_say_the_state(halted: Halted | None, read_s: float | None, word: str) -> None:
    @virtual
    async def case(shop: Shop) -> None:
        now, key = shop.clock.now(), pulse_key("ci/deploy")
        pulses = {} if read_s is None else {key: Pulse(key, now - read_s, "ok")}
        assert state(of(halted), shop.lines[LINE], pulses, now) == word

    case()


@virtual
async def test_a_pulled_line_is_stopping_until_every_target_is_read_to_stand(shop: Shop) -> None:
    shop.has(LINE, "ci/deploy", "cron/nightly")
    shop.stands["cron/nightly"].ignores = True
    room = shop.room()
    await room.cord.pull(LINE, "ann", "x")
    await asyncio.sleep(5)
    assert shown(room) == "stopping"
    assert shown(room, pulses={}) == "stopping"
    shop.stands["cron/nightly"].ignores = False
    await room.until(lambda: shown(room) == "stopped")


@virtual
async def test_a_lifted_line_is_stopped_until_its_release_is_read(shop: Shop) -> None:
    room = shop.room()
    await pulled(room)
    shop.stand.ignores = True
    await room.cord.resume(LINE, "ann", "fixed")
    await asyncio.sleep(5)
    assert shown(room) == "stopped"
    shop.stand.ignores = False
    await room.until(lambda: shown(room) == "running")


# ---- a ledger that does not answer


@virtual
async def test_a_halt_goes_out_when_the_ledger_hangs_and_is_recorded_later(shop: Shop) -> None:
    room = shop.room()
    await reconciled(room)
    room.hangs_s = 60.0
    began = shop.clock.now()
    found = await room.cord.pull(LINE, "ann", "conversion falls")
    assert not found.recorded
    assert room.cord.unrecorded == 1
    assert shop.stand.at[0] - began == pytest.approx(0.5, abs=0.01)
    assert found.hold.id in shop.stand.parts["worker"]
    assert room.line.holds == ()
    room.hangs_s = 0.0
    await room.until(lambda: room.line.open_holds)
    assert room.line.open_holds[0].id == found.hold.id
    await room.until(lambda: [act.state for act in room.acts("halt")] == ["verified"])
    assert room.cord.unrecorded == 0
    await resumed(room)
    assert shop.stand.parts == {"worker": ""}


@virtual
async def test_a_halt_goes_out_when_the_disk_is_full_and_is_recorded_when_there_is_room(shop: Shop) -> None:
    room = shop.room()
    await reconciled(room)
    room.breaks = True
    found = await room.cord.pull(LINE, "ann", "conversion falls")
    assert not found.recorded
    assert shop.stand.standing
    await asyncio.sleep(600)
    assert room.cord.unrecorded == 1
    room.breaks = False
    await room.until(lambda: room.cord.unrecorded == 0)
    assert [hold.id for hold in room.line.open_holds] == [found.hold.id]


@virtual
async def test_a_rollback_fails_closed_when_the_ledger_does(shop: Shop) -> None:
    shop.ships("v1", "v2")
    room = shop.room()
    await reconciled(room)
    room.breaks = True
    with pytest.raises(LedgerUnusable):
        await room.shipper.rollback(LINE, "ann", "falls")
    await asyncio.sleep(60)
    assert shop.deploy is not None
    assert shop.deploy.requests == []
    assert shop.stand.standing


@virtual
async def test_a_lift_that_is_not_recorded_releases_nothing(shop: Shop) -> None:
    room = shop.room()
    await pulled(room)
    room.breaks = True
    with pytest.raises(LedgerUnusable):
        await room.cord.resume(LINE, "ann", "fixed")
    assert shop.stand.standing


# ---- telling


@virtual
async def test_the_authors_of_the_batch_and_every_channel_are_told_once(shop: Shop) -> None:
    shop.has(LINE, "ci/deploy", notify=("pager", "chat"))
    shop.ships("v1", "v2")
    room = shop.room()
    await pulled(room)
    await pulled(room)
    await resumed(room)
    for name in ("pager", "chat"):
        notes = shop.notifiers[name].told
        assert [(note.title, note.kind) for note in notes] == [("shop stopped", "stopped"), ("shop resumed", "resumed")]
        assert notes[0].text == "ann: conversion falls"
        assert notes[0].authors == ("author of v2",)


@virtual
async def test_a_channel_that_fails_keeps_nothing_from_being_stopped(shop: Shop) -> None:
    shop.has(LINE, "ci/deploy", notify=("pager",))
    shop.notifiers["pager"].answers = [RuntimeError("no paper")]
    room = shop.room()
    await pulled(room)
    assert shop.stand.standing
    tell = await room.settled(room.acts("tell")[0])
    assert (tell.state, tell.words) == ("failed", "pager failed: RuntimeError")


@virtual
async def test_a_pull_just_after_another_process_has_lifted_the_hold_places_another(shop: Shop) -> None:
    shop.has(LINE, "ci/deploy")
    room, other = shop.room(), shop.room()
    await pulled(room)
    other.tail()
    not_looked = room.board, room.seq
    await resumed(other)
    room.board, room.seq = not_looked
    found = await room.cord.pull(LINE, room.who, "again")
    assert not found.joined
    room.tail()
    assert [item.id for item in room.line.open_holds] == [found.hold.id]
    await room.until(lambda: all(act.settled for act in room.acts("halt")))
    assert shown(room) == "stopped"
