"""Acts and the cord when several things go wrong at once: each of these was a defect once."""

import asyncio
from typing import Any

import pytest

from andon import rollback
from andon.acts import NotDone
from andon.events import ActStepped, Marked
from andon.model import Deployment
from andon.ports import Accepted, Can, NoAnswer, Unreachable
from tests.fakes import LINE, Shop, virtual
from tests.test_acts import PLAIN, rolled_back, sent, shop_with
from tests.test_cord import pulled, reconciled, resumed, shown
from tests.test_rollback import HISTORY, NOW, C, judged, line, marked

# ---------------- cord


@virtual
async def test_a_hanging_ledger_delays_a_halt_by_half_a_second_at_most(shop: Shop) -> None:
    room = shop.room()
    room.hangs_s = 60.0
    began = shop.clock.now()
    await room.cord.pull(LINE, "ann", "x")
    await room.until(lambda: shop.stand.at)
    assert shop.stand.at[0] - began <= 0.6


@virtual
async def test_pressing_again_while_unrecorded_joins(shop: Shop) -> None:
    room = shop.room()
    await reconciled(room)
    room.breaks = True
    found = [await room.cord.pull(LINE, "ann", "x") for _ in range(5)]
    assert room.cord.unrecorded == 1
    assert len({item.hold.id for item in found}) == 1


@virtual
async def test_unrecorded_halt_at_a_hanging_target_does_not_hang_the_pull(shop: Shop) -> None:
    room = shop.room()
    await reconciled(room)

    async def hangs():
        await asyncio.sleep(1e5)

    shop.stand.answers = [hangs]
    room.breaks = True
    await asyncio.wait_for(room.cord.pull(LINE, "ann", "x"), 25)


@virtual
async def test_unrecorded_halt_that_is_unreachable_is_tried_again(shop: Shop) -> None:
    room = shop.room()
    await reconciled(room)
    shop.stand.answers = [Unreachable("no route")]
    room.breaks = True
    await room.cord.pull(LINE, "ann", "x")
    await asyncio.sleep(60)
    assert shop.stand.standing


@virtual
async def test_a_long_stop_with_many_notes_is_still_stopped_and_released(shop: Shop) -> None:
    shop.has(LINE, "ci/deploy", notify=("pager",))
    room = shop.room()
    await pulled(room)
    for i in range(70):
        await room.cord.tell(LINE, "verdict", "t", "x", "immune", f"k{i}")
        await asyncio.sleep(1)
    assert shown(room) == "stopped"
    await resumed(room)
    assert shop.stand.parts == {"worker": ""}


@virtual
async def test_the_budget_survives_many_notes(shop: Shop) -> None:
    shop.has(LINE, "ci/deploy", notify=("pager",))
    deploy, room = shop_with(shop), shop.room()
    act = await room.shipper.rollback(LINE, "immune", "falls", auto=True)
    await room.settled(act)
    for i in range(70):
        await room.cord.tell(LINE, "verdict", "t", "x", "immune", f"k{i}")
        await asyncio.sleep(1)
    assert any(item.auto for item in room.line.acts.values())
    assert room.line.went_back(deploy.deployments[-1])


def test_irreversible_survives_a_later_mark() -> None:
    found = rollback.target(
        line(
            *HISTORY,
            judged("d1", "healthy"),
            marked("d4", HISTORY[3].deployment.version, "irreversible"),
            marked("d4", HISTORY[3].deployment.version, "faulty"),
        ),
        NOW,
    )
    assert isinstance(found, rollback.Nothing)


def test_faulty_survives_irreversible() -> None:
    found = rollback.target(line(*HISTORY, marked("d3", C, "faulty"), marked("d3", C, "irreversible")), NOW)
    assert isinstance(found, rollback.Nothing)


@virtual
async def test_what_stood_is_not_known_from_an_old_read(shop: Shop) -> None:
    room = shop.room()
    await reconciled(room)
    await asyncio.sleep(3600)
    shop.stand.parts["worker"] = "paused by cy: disk"
    shop.stand.overwrites = True
    shop.stand.down = Unreachable("no route")
    pull = asyncio.create_task(pulled(room))
    await asyncio.sleep(5)
    shop.stand.down = None
    await pull
    await resumed(room)
    assert shop.stand.standing


# ---------------- door


@virtual
async def test_not_confirmed_stays_said(shop: Shop) -> None:
    room = shop.room()
    shop.stand.ignores = True
    await room.cord.pull(LINE, "ann", "x")
    await asyncio.sleep(300)
    assert "not confirmed" in room.acts("halt")[0].words


@virtual
async def test_unreachable_halt_says_not_confirmed(shop: Shop) -> None:
    room = shop.room()
    shop.stand.answers = [Unreachable("no route")] * 1000
    await room.cord.pull(LINE, "ann", "x")
    await asyncio.sleep(300)
    assert "not confirmed" in room.acts("halt")[0].words


@virtual
async def test_nothing_is_sent_after_not_after(shop: Shop) -> None:
    deploy, room = shop_with(shop), shop.room()
    deploy.answers = [Unreachable("no route")] * 1000
    act = await rolled_back(room)
    await room.settled(act)
    assert deploy.at[-1] <= act.not_after


@virtual
async def test_automatic_without_cas_reads_at_most_a_second_before_each_sending(shop: Shop) -> None:
    shop.has(LINE, "ci/deploy", only_way_in=True)
    deploy, room = shop_with(shop, PLAIN), shop.room()
    deploy.answers = [Unreachable("no route")] * 4
    act = await room.shipper.rollback(LINE, "immune", "falls", auto=True)
    await room.until(lambda: len(deploy.requests) == 4)
    await asyncio.sleep(3)  # between the read and the next sending
    deploy.put("v3", by="bo")
    await room.settled(act)
    assert deploy.deployments[-1].version == "v3"


@virtual
async def test_a_lifted_stop_is_not_halted_after_the_pause(shop: Shop) -> None:
    room = shop.room()
    shop.stand.answers = [Unreachable("no route")] * 5
    await room.cord.pull(LINE, "ann", "x")
    await room.until(lambda: len(shop.stand.requests) == 5)
    await asyncio.sleep(2)
    await room.cord.resume(LINE, "ann", "never mind")
    await asyncio.sleep(60)
    assert [r[0] for r in shop.stand.requests].count("halt") == 5


@virtual
async def test_a_rolling_current_is_aborted(shop: Shop) -> None:
    deploy = shop_with(shop, Can(deploy=True, compare_and_set=True, abort=True))
    deploy.put("v3", state="rolling")
    shop.seen()
    room = shop.room()
    act = await rolled_back(room)
    done = await room.settled(act)
    assert deploy.requests[0] == ("abort", "d3")
    assert deploy.now().version == "v2"
    assert done.state == "verified"


@virtual
async def test_a_rolling_current_is_waited_for(shop: Shop) -> None:
    deploy = shop_with(shop)
    deploy.put("v3", state="rolling")
    shop.seen()
    room = shop.room()
    act = await rolled_back(room)
    await asyncio.sleep(20)
    assert deploy.requests == []
    assert "rolling" in room.act(act).words
    deploy.change("d3", state="settled")
    assert (await room.settled(act)).state == "verified"


@virtual
async def test_an_adapter_that_raises_in_a_read_loses_nothing(shop: Shop) -> None:
    deploy, room = shop_with(shop), shop.room()
    deploy.answers = [NoAnswer("cut")]
    room.recovers()
    act = await rolled_back(room)
    await room.in_state(act, "unknown")
    deploy.down = KeyError("id")
    await asyncio.sleep(30)
    assert "cannot be read" in room.act(act).words
    deploy.down = None
    deploy.arrive("v1", "d2")
    await room.settled(act)


@virtual
async def test_an_adapter_that_raises_when_called_loses_nothing(shop: Shop) -> None:
    deploy, room = shop_with(shop), shop.room()

    def boom(*a, **k):
        raise TypeError("not async")

    deploy.deploy = boom
    room.recovers()
    act = await rolled_back(room)
    await room.in_state(act, "unknown")


@virtual
async def test_an_adapter_that_raises_before_sending_loses_nothing(shop: Shop) -> None:
    deploy, room = shop_with(shop), shop.room()
    deploy.down = KeyError("id")
    room.recovers()
    act = await rolled_back(room)
    await asyncio.sleep(3)
    deploy.down = None
    await room.settled(act)


@virtual
async def test_an_adapter_that_raises_before_a_pull_does_not_keep_it(shop: Shop) -> None:
    room = shop.room()
    shop.stand.down = KeyError("id")
    await room.cord.pull(LINE, "ann", "x")
    await room.until(lambda: shop.stand.standing, 30)


@virtual
async def test_a_press_drives_the_intent_of_a_dead_asker_without_any_lease(shop: Shop) -> None:
    deploy, ann, bo = shop_with(shop), shop.room("ann"), shop.room("bo")
    act = await rolled_back(ann)
    ann.die()
    await asyncio.sleep(10)
    again = await rolled_back(bo)
    assert again.id == act.id
    await asyncio.sleep(30)
    assert sent(deploy) == [("v1", "d2")]


@virtual
async def test_a_pull_drives_the_halt_of_a_dead_asker_without_any_lease(shop: Shop) -> None:
    ann, bo = shop.room("ann"), shop.room("bo")
    await ann.cord.pull(LINE, "ann", "x")
    ann.die()
    await asyncio.sleep(10)
    await bo.cord.pull(LINE, "bo", "x")
    await asyncio.sleep(30)
    assert shop.stand.standing


@virtual
async def test_a_rollback_a_person_says_happened_marks_it_faulty(shop: Shop) -> None:
    deploy, room = shop_with(shop), shop.room()
    deploy.answers = [NoAnswer("cut off")]
    act = await rolled_back(room)
    await room.in_state(act, "unknown")
    await room.door.resolve(room.act(act), happened=True, who="bo")
    assert room.line.marks["d2"].mark == "faulty"


@virtual
async def test_read_only_neither_withdraws_nor_resolves(shop: Shop) -> None:
    _deploy, room, looks = shop_with(shop), shop.room(), shop.room("cy", read_only=True)
    act = await rolled_back(room, grace_s=3.0)
    with pytest.raises(NotDone):
        await looks.door.withdraw(act, "cy")


@virtual
async def test_read_only_does_not_resolve(shop: Shop) -> None:
    deploy, room, looks = shop_with(shop), shop.room(), shop.room("cy", read_only=True)
    deploy.answers = [NoAnswer("cut off")]
    act = await rolled_back(room)
    await room.in_state(act, "unknown")
    with pytest.raises(NotDone):
        await looks.door.resolve(room.act(act), happened=True, who="cy")


@virtual
async def test_accepted_and_queued_behind_anothers_is_not_given_up(shop: Shop) -> None:
    deploy, room = shop_with(shop, PLAIN), shop.room()

    async def queued():
        return Accepted()

    deploy.answers = [queued]
    act = await rolled_back(room)
    await room.in_state(act, "accepted")
    deploy.put("v3", by="bo")
    await asyncio.sleep(30)
    deploy.put("v1", by="andon")
    assert (await room.settled(act)).state == "verified"


@virtual
async def test_an_earlier_deployment_of_the_target_version_is_not_taken_for_ours(shop: Shop) -> None:
    deploy, room = shop_with(shop), shop.room()
    deploy.change("d1", at=shop.clock.now() - 30)

    async def newer():
        deploy.put("v3", by="bo")
        return deploy.arrive("v1", "d2")

    deploy.answers = [newer]
    done = await room.settled(await rolled_back(room))
    assert done.state == "superseded"


def good(shop: Shop, deployment: str, version: str) -> None:
    """Somebody marked it good: an automatic rollback may return to it."""
    mark = Marked(line=LINE, at=1.0, deployment=deployment, version=version, mark="good", who="ann", why="looked")
    shop.ledger.commit(mark)


@virtual
async def test_a_push_that_was_not_sent_yet_does_not_go_out_through_a_stop(shop: Shop) -> None:
    deploy, room = shop_with(shop), shop.room()
    shop.stand.tested = {"v3": "yes"}
    deploy.answers = [Unreachable("no route")] * 4
    act = await room.shipper.push(LINE, "v3", "bo", "fix")
    await asyncio.sleep(1.5)
    await room.cord.pull(LINE, "ann", "stop")
    assert (await room.settled(act)).state == "superseded"
    assert deploy.now().version == "v2"


@virtual
async def test_a_line_is_not_quiet_by_what_was_read_before_the_stop(shop: Shop) -> None:
    shop.has(LINE, "ci/deploy", only_way_in=True)
    deploy, room = shop_with(shop, PLAIN), shop.room()
    good(shop, "d1", "v1")
    shop.stand.parts = {"worker": "paused by hand"}
    await room.cord.reconcile(LINE, "ci/deploy", shop.stand.shown())
    await asyncio.sleep(3600)
    shop.stand.parts = {"worker": ""}
    shop.stand.down = Unreachable("no route")
    shop.stand.answers = [Unreachable("no route")] * 400
    act = await room.shipper.rollback(LINE, "immune", "falls", auto=True)
    assert (await room.settled(act)).state == "expired"
    assert deploy.now().version == "v2"


@virtual
async def test_what_a_person_says_happened_is_known_as_a_way_back(shop: Shop) -> None:
    shop.has(LINE, "ci/deploy")
    shop.ships("v0", "v1", "v2")
    deploy, room = shop.deploy, shop.room()
    good(shop, "d1", "v0")

    async def lost() -> NoAnswer:
        deploy.arrive("v1", "d3")
        deploy.down = Unreachable("reads are gone")
        return NoAnswer("lost")

    deploy.answers = [lost]
    good(shop, "d2", "v1")
    act = await room.shipper.rollback(LINE, "ann", "odd")
    await room.in_state(act, "unknown")
    await room.door.resolve(room.act(act), happened=True, who="ann")
    deploy.down = None
    shop.seen()
    room.tail()
    assert isinstance(rollback.target(room.line, shop.clock.now()), rollback.Nothing)


@virtual
async def test_a_press_on_a_newer_deployment_is_not_answered_with_an_older_rollback(shop: Shop) -> None:
    deploy, room = shop_with(shop), shop.room()

    async def lost() -> NoAnswer:
        deploy.arrive("v1", "d2")
        return NoAnswer("lost")

    deploy.answers = [lost]
    act = await room.shipper.rollback(LINE, "ann", "odd")
    deploy.down = Unreachable("gone")
    await room.in_state(act, "unknown", "sent")
    room.die()
    await asyncio.sleep(30)
    deploy.down = None
    deploy.put("v5")
    shop.seen()
    other = shop.room("bo")
    other.tail()
    again = await other.shipper.rollback(LINE, "bo", "v5 is bad", expected=deploy.now().id)
    assert again.id != act.id
    await other.settled(again)
    assert deploy.now().version != "v5"


@virtual
async def test_presses_at_once_while_the_ledger_hangs_are_one_pull(shop: Shop) -> None:
    shop.has(LINE, "ci/deploy")
    room = shop.room()
    room.hangs_s = 5.0
    found = await asyncio.gather(*(room.cord.pull(LINE, "ann", "odd") for _ in range(3)))
    assert len({item.hold.id for item in found}) == 1
    await asyncio.sleep(30)
    room.hangs_s = 0.0
    assert [hold.id for hold in room.line.open_holds] == [found[0].hold.id]
    await room.cord.resume(LINE, "ann", "looked")
    await asyncio.sleep(60)
    assert shop.stand.parts == {"worker": ""}


@virtual
async def test_an_abort_that_found_nobody_is_tried_again_and_the_undone_one_is_faulty(shop: Shop) -> None:
    shop.has(LINE, "ci/deploy")
    shop.ships("v1")
    deploy, room = shop.deploy, shop.room()
    deploy.can = Can(deploy=True, compare_and_set=True, abort=True)
    deploy.put("v2", state="rolling")
    shop.seen()
    deploy.answers = [Unreachable("one lost packet"), RuntimeError("header b'Bearer s3cret'")]
    act = await room.shipper.rollback(LINE, "ann", "odd")
    done = await room.settled(act)
    assert done.state == "verified", done.words
    assert deploy.now().version == "v1"
    assert room.line.marks["d2"].mark == "faulty"


@virtual
async def test_an_automatic_rollback_is_not_sent_on_a_line_that_was_resumed(shop: Shop) -> None:
    deploy, room = shop_with(shop), shop.room()
    deploy.answers = [Unreachable("no route")] * 4
    act = await room.shipper.rollback(LINE, "immune", "falls", auto=True)
    await asyncio.sleep(2)
    await room.cord.resume(LINE, "ann", "false alarm: it was the campaign")
    assert (await room.settled(act)).state == "superseded"
    assert deploy.now().version == "v2"


@virtual
async def test_a_look_that_hangs_does_not_let_a_rollback_out_late(shop: Shop) -> None:
    deploy, room = shop_with(shop, PLAIN), shop.room()
    act = await room.shipper.rollback(LINE, "ann", "odd", grace_s=1.0)
    whole = deploy.current

    async def slow() -> Deployment | None:
        await asyncio.sleep(1500)
        return await whole()

    deploy.current = slow  # type: ignore[method-assign]
    assert (await room.settled(act, 5000)).state == "expired"


@virtual
async def test_a_press_keeps_at_what_it_joined_when_the_asker_dies_young(shop: Shop) -> None:
    deploy, ann, bo = shop_with(shop), shop.room("ann"), shop.room("bo")
    act = await ann.shipper.rollback(LINE, "ann", "odd", grace_s=3.0)
    await asyncio.sleep(1)
    ann.die()
    await asyncio.sleep(0.5)
    again = await bo.shipper.rollback(LINE, "bo", "odd")
    bo.recovers(lease=False)
    await asyncio.sleep(60)
    assert again.id == act.id
    assert bo.act(again).state == "verified"
    assert shop.stand.standing
    assert sent(deploy) == [("v1", "d2")]


@virtual
async def test_a_late_record_of_a_stop_that_ended_meanwhile_asks_for_its_own_halts(shop: Shop) -> None:
    shop.has(LINE, "ci/deploy")
    ann, bo = shop.room("ann"), shop.room("bo")
    await bo.cord.pull(LINE, "bo", "odd")
    await bo.until(lambda: shop.stand.standing and not bo.line.unsettled())
    ann.tail()
    ann.hangs_s = 3.0
    await ann.cord.pull(LINE, "ann", "still bad")
    await asyncio.sleep(0.2)
    await bo.cord.resume(LINE, "bo", "looked")
    await asyncio.sleep(600)
    ann.hangs_s = 0.0
    assert ann.line.open_holds
    assert shop.stand.standing


@virtual
async def test_a_read_that_grew_old_while_the_ledger_was_slow_is_repeated(shop: Shop) -> None:
    shop.has(LINE, "ci/deploy", only_way_in=True)
    deploy, room = shop_with(shop, PLAIN), shop.room()
    good(shop, "d1", "v1")
    whole = room.commit

    async def slow(*events: Any, urgent: bool = False) -> Any:
        going = [event for event in events if isinstance(event, ActStepped) and event.now == "sent"]
        if any(room.board.line(LINE).acts[event.act].kind == "rollback" for event in going):
            await asyncio.sleep(2)
            deploy.put("v3")
            await asyncio.sleep(2)
        return await whole(*events, urgent=urgent)

    room.commit = slow  # type: ignore[method-assign]
    act = await room.shipper.rollback(LINE, "immune", "falls", auto=True)
    assert (await room.settled(act)).state == "superseded"
    assert deploy.now().version == "v3"


@virtual
async def test_a_rollback_pulls_the_cord_before_it_looks_at_a_slow_target(shop: Shop) -> None:
    deploy, room = shop_with(shop), shop.room()
    await reconciled(room)
    deploy.hangs = True
    began = shop.clock.now()
    press = asyncio.create_task(room.shipper.rollback(LINE, "ann", "odd"))
    await room.until(lambda: shop.stand.at)
    assert shop.stand.at[0] - began <= 0.6
    await press
