"""The door: what becomes of an act for each answer, who sends it, who joins it, and what a read settles."""

import asyncio
import itertools

import pytest

from andon.acts import LOUD_S, NOT_AFTER_S, NotDone
from andon.model import Act, new_id
from andon.ports import Accepted, Can, Conflict, Denied, Garbled, NoAnswer, Refused, Unreachable
from tests.fakes import LINE, FakeDeploy, Room, Shop, virtual

FIVE = {
    "accepted": (lambda: Accepted("d9"), "accepted"),
    "conflict": (lambda: Conflict("d9"), "unknown"),
    "refused": (lambda: Refused("you may not"), "refused"),
    "unreachable": (lambda: Unreachable("no route to host"), "intent"),
    "no answer": (lambda: NoAnswer("cut off"), "unknown"),
}


def shop_with(shop: Shop, can: Can | None = None) -> FakeDeploy:
    """v1 ran, v2 runs; what the test wants to say of v2 is said to v1."""
    shop.deploy = FakeDeploy(shop.clock, can)
    shop.ships("v1", "v2")
    return shop.deploy


async def rolled_back(room: Room, who: str = "", **values) -> Act:
    return await room.shipper.rollback(LINE, who or room.who, "conversion falls", **values)


def sent(deploy: FakeDeploy) -> list[tuple[str, str]]:
    """Version and expected deployment of each request that arrived."""
    return [(request[1], request[2]) for request in deploy.requests if request[0] == "deploy"]


def halt_of(shop: Shop) -> Act:
    """A halt as the cord asks for it; no hold wants it, so only the door's rules are seen."""
    now = shop.clock.now()
    return Act(new_id(), "halt", LINE, "ci/deploy", "stop", "ann", "x", now, now, now + 300, hold="stop")


# ---- five answers


@pytest.mark.parametrize("name", FIVE)
@virtual
async def test_each_answer_to_a_rollback_is_its_own_state(shop: Shop, name: str) -> None:
    deploy, room = shop_with(shop), shop.room()
    answer, state = FIVE[name]
    deploy.answers = [answer()]
    act = await rolled_back(room)
    assert act.state == "intent"
    await room.until(lambda: deploy.requests)
    deploy.down = Unreachable("now nothing can be read")
    await asyncio.sleep(0.3)
    assert room.act(act).state == state
    assert sent(deploy) == [("v1", "d2")]


@pytest.mark.parametrize("name", FIVE)
@virtual
async def test_each_answer_to_a_halt_is_its_own_state(shop: Shop, name: str) -> None:
    room = shop.room()
    answer, state = FIVE[name]
    shop.stand.answers = [answer()]
    await room.cord.pull(LINE, "ann", "x")
    shop.stand.down = Unreachable("now nothing can be read")
    await asyncio.sleep(0.3)
    assert room.acts("halt")[0].state == state


@virtual
async def test_an_accepted_rollback_is_done_when_a_read_shows_it(shop: Shop) -> None:
    deploy, room = shop_with(shop), shop.room()
    deploy.rolls_s = 20.0
    act = await rolled_back(room)
    await room.in_state(act, "accepted")
    await asyncio.sleep(10)
    assert room.act(act).state == "accepted"
    done = await room.settled(act)
    assert (done.state, done.words, done.ref) == ("verified", "confirmed by a read", "d3")
    assert room.line.marks["d2"].mark == "faulty"
    assert room.line.went_back(deploy.deployments[-1])
    assert room.line.open_holds[0].owner == "ann"


@virtual
async def test_a_rollback_that_the_target_fails_is_failed(shop: Shop) -> None:
    deploy, room = shop_with(shop), shop.room()
    deploy.rolls_s = 1000.0
    act = await rolled_back(room)
    await room.in_state(act, "accepted")
    deploy.change("d3", state="failed", words="disk full on host 2")
    done = await room.settled(act)
    assert (done.state, done.words) == ("failed", "disk full on host 2")
    assert "d2" not in room.line.marks


# ---- refused and unreachable


@virtual
async def test_refused_then_pressed_again_is_a_new_attempt(shop: Shop) -> None:
    deploy, room = shop_with(shop), shop.room()
    deploy.answers = [Refused("a freeze is on")]
    first = await room.settled(await rolled_back(room))
    assert (first.state, first.words) == ("refused", "a freeze is on")
    again = await room.settled(await rolled_back(room))
    assert again.id != first.id
    assert again.state == "verified"
    assert [request[3] for request in deploy.requests] == [f"rollback-{first.id}", f"rollback-{again.id}"]


@virtual
async def test_unreachable_is_tried_again_with_the_same_key(shop: Shop) -> None:
    deploy, room = shop_with(shop), shop.room()
    deploy.answers = [Unreachable("no route")] * 3
    done = await room.settled(await rolled_back(room))
    assert done.state == "verified"
    assert done.tries == 4
    assert len({request[3] for request in deploy.requests}) == 1
    waits = [later - earlier for earlier, later in itertools.pairwise(deploy.at)]
    assert waits == pytest.approx([1.0, 2.0, 4.0], abs=0.2)


@virtual
async def test_unreachable_until_its_time_is_over_is_expired(shop: Shop) -> None:
    deploy, room = shop_with(shop), shop.room()
    deploy.answers = [Unreachable("no route")] * 1000
    act = await rolled_back(room)
    done = await room.settled(act)
    assert done.state == "expired"
    assert "press again" in done.words
    deploy.answers = []
    assert (await room.settled(await rolled_back(room))).state == "verified"


@virtual
async def test_a_halt_does_not_expire(shop: Shop) -> None:
    room = shop.room()
    shop.stand.answers = [Unreachable("no route")] * 20
    await room.cord.pull(LINE, "ann", "x")
    await asyncio.sleep(NOT_AFTER_S + 60)
    assert room.acts("halt")[0].state in ("intent", "sent")
    assert (await room.settled(room.acts("halt")[0])).state == "verified"


# ---- not known


@virtual
async def test_a_lost_answer_is_settled_by_reading_only(shop: Shop) -> None:
    deploy, room = shop_with(shop), shop.room()
    deploy.answers = [deploy.arrives_but_no_answer(lambda: deploy.arrive("v1", "d2"))]
    done = await room.settled(await rolled_back(room))
    assert (done.state, done.ref) == ("verified", "d3")
    assert len(sent(deploy)) == 1


@virtual
async def test_a_lost_request_is_never_sent_again_and_fails_after_the_targets_time(shop: Shop) -> None:
    deploy, room = shop_with(shop), shop.room()
    deploy.answers = [NoAnswer("cut off")]
    act = await rolled_back(room)
    await asyncio.sleep(100)
    assert room.act(act).state == "unknown"
    done = await room.settled(act)
    assert (done.state, done.words) == ("failed", "not seen within 2 min; what ran before still runs")
    assert len(sent(deploy)) == 1


@virtual
async def test_a_request_that_takes_long_is_still_found(shop: Shop) -> None:
    deploy, room = shop_with(shop), shop.room()
    deploy.answers = [NoAnswer("cut off")]
    act = await rolled_back(room)
    await asyncio.sleep(90)
    deploy.arrive("v1", "d2")
    assert (await room.settled(act)).state == "verified"


@pytest.mark.parametrize("error", [Unreachable("no route"), Denied("the token ended"), Garbled("half a JSON")])
@virtual
async def test_what_cannot_be_read_stays_unknown_and_says_so(shop: Shop, error: Exception) -> None:
    deploy, room = shop_with(shop), shop.room()
    deploy.answers = [NoAnswer("cut off")]
    act = await rolled_back(room)
    await room.in_state(act, "unknown")
    deploy.down = error
    await asyncio.sleep(600)
    seen = room.act(act)
    assert (seen.state, seen.words) == ("unknown", f"cannot be read: {error}")
    deploy.down = None
    assert (await room.settled(act)).state == "failed"


@virtual
async def test_a_conflict_of_a_repeated_delivery_that_was_ours_is_verified(shop: Shop) -> None:
    deploy, room = shop_with(shop), shop.room()

    async def twice():
        deploy.arrive("v1", "d2")
        return deploy.arrive("v1", "d2")

    deploy.answers = [twice]
    done = await room.settled(await rolled_back(room))
    assert (done.state, done.ref) == ("verified", "d3")


@virtual
async def test_a_conflict_with_somebody_elses_is_superseded_and_undoes_nothing(shop: Shop) -> None:
    deploy, room = shop_with(shop), shop.room()

    async def newer():
        deploy.put("v3", by="bo")
        return deploy.arrive("v1", "d2")

    deploy.answers = [newer]
    done = await room.settled(await rolled_back(room))
    assert (done.state, done.words) == ("superseded", "v3 by bo runs now; ours was not seen")
    assert deploy.deployments[-1].version == "v3"


@virtual
async def test_a_newer_deployment_before_sending_supersedes_it_unsent(shop: Shop) -> None:
    deploy, room = shop_with(shop), shop.room()
    act = await rolled_back(room, grace_s=3.0)
    deploy.put("v3", by="bo")
    done = await room.settled(act)
    assert (done.state, done.words) == ("superseded", "v3 by bo runs now")
    assert deploy.requests == []


@virtual
async def test_the_same_version_deployed_again_is_not_taken_for_the_one_expected(shop: Shop) -> None:
    """Compared by deployment id: v2 as another deployment is not the v2 that was to be undone."""
    deploy, room = shop_with(shop), shop.room()
    act = await rolled_back(room, grace_s=3.0)
    deploy.put("v1", by="bo")
    deploy.put("v2", by="bo")
    assert (await room.settled(act)).state == "superseded"
    assert deploy.requests == []


@virtual
async def test_a_press_while_it_is_unknown_reads_first(shop: Shop) -> None:
    deploy, room = shop_with(shop), shop.room()
    deploy.answers = [NoAnswer("cut off")]
    act = await rolled_back(room)
    await room.in_state(act, "unknown")
    reads = deploy.reads
    again = await rolled_back(room)
    assert deploy.reads > reads
    assert again.id == act.id
    deploy.arrive("v1", "d2")
    found = await rolled_back(room)
    assert (found.id, found.state) == (act.id, "verified")
    assert len(sent(deploy)) == 1


@virtual
async def test_a_press_that_finds_the_unknown_failed_is_a_new_attempt(shop: Shop) -> None:
    deploy, room = shop_with(shop), shop.room()
    deploy.answers = [NoAnswer("cut off")]
    act = await rolled_back(room)
    await room.in_state(act, "unknown")
    deploy.down = Unreachable("no route")
    await asyncio.sleep(200)  # longer than the target's time, with nothing read
    deploy.down = None
    again = await rolled_back(room)
    assert again.id != act.id
    assert room.act(act).state == "failed"
    assert (await room.settled(again)).state == "verified"


@pytest.mark.parametrize("happened", [True, False])
@virtual
async def test_a_person_who_looked_settles_what_is_unknown(shop: Shop, happened: bool) -> None:
    deploy, room = shop_with(shop), shop.room()
    deploy.answers = [NoAnswer("cut off")]
    act = await rolled_back(room)
    await room.in_state(act, "unknown")
    deploy.down = Unreachable("no route")
    assert await room.door.resolve(room.act(act), happened=happened, who="bo")
    done = room.act(act)
    words = "bo looked: it happened" if happened else "bo looked: it did not happen"
    assert (done.state, done.words) == ("verified" if happened else "failed", words)
    assert not await room.door.resolve(done, happened=not happened, who="cy")
    await asyncio.sleep(5)
    assert room.act(act).words == words


@virtual
async def test_only_what_is_unknown_can_be_settled_by_a_person(shop: Shop) -> None:
    shop_with(shop)
    room = shop.room()
    act = await rolled_back(room, grace_s=3.0)
    assert not await room.door.resolve(act, happened=True, who="bo")
    assert room.act(act).state == "intent"


# ---- joining


@virtual
async def test_a_second_press_and_a_second_operator_join(shop: Shop) -> None:
    deploy = shop_with(shop)
    ann, bo = shop.room("ann"), shop.room("bo")
    deploy.rolls_s = 30.0
    acts = await asyncio.gather(*(rolled_back(room) for room in (ann, ann, bo, bo)))
    assert len({act.id for act in acts}) == 1
    await ann.settled(acts[0])
    assert len(sent(deploy)) == 1


@virtual
async def test_another_version_for_the_same_deployment_is_refused_with_who_and_when(shop: Shop) -> None:
    deploy, ann, bo = shop_with(shop), shop.room("ann"), shop.room("bo")
    shop.ships("v3")
    await asyncio.sleep(0.2)
    await rolled_back(ann, to="v2", grace_s=8.0)
    await asyncio.sleep(2)
    with pytest.raises(NotDone, match=r"^already rolling back to v2 \(ann, 2 s ago\)$"):
        await bo.shipper.rollback(LINE, "bo", "falls", to="v1")
    assert deploy.requests == []


@virtual
async def test_a_push_and_a_rollback_of_the_same_deployment_share_a_claim(shop: Shop) -> None:
    deploy, ann = shop_with(shop), shop.room("ann")
    shop.stand.tested = {"v9": "yes"}
    act = await rolled_back(ann, grace_s=3.0)
    hold = ann.line.open_holds[0].id
    with pytest.raises(NotDone, match="already rolling back to v1"):
        await ann.shipper.push(LINE, "v9", "ann", "fix", through=hold)
    await ann.settled(act)
    assert sent(deploy) == [("v1", "d2")]


@virtual
async def test_pressing_again_after_it_was_done_says_there_is_nothing_to_undo(shop: Shop) -> None:
    deploy, room = shop_with(shop), shop.room()
    await room.settled(await rolled_back(room))
    with pytest.raises(NotDone, match="nothing to undo: on v1"):
        await rolled_back(room)
    assert len(sent(deploy)) == 1


@virtual
async def test_what_was_on_the_screen_must_still_run(shop: Shop) -> None:
    deploy, room = shop_with(shop), shop.room()
    with pytest.raises(NotDone, match="v2 runs now, not what was on the screen: look again"):
        await rolled_back(room, expected="d1")
    assert deploy.requests == []


# ---- withdrawing


@pytest.mark.parametrize("after_s", [0.0, 1.0, 2.9, 2.999, 3.0, 3.001, 3.1, 5.0])
@virtual
async def test_of_withdrawn_and_sent_exactly_one_wins(shop: Shop, after_s: float) -> None:
    deploy, ann, bo = shop_with(shop), shop.room("ann"), shop.room("bo")
    act = await rolled_back(ann, grace_s=3.0)
    await asyncio.sleep(after_s)
    won = await bo.door.withdraw(act, "bo")
    done = await ann.settled(act)
    assert done.state == ("withdrawn" if won else "verified")
    assert len(sent(deploy)) == (0 if won else 1)
    assert won == (after_s < 3.0)
    assert ann.line.open_holds, "the hold stays"


@virtual
async def test_a_withdrawn_rollback_can_be_asked_again(shop: Shop) -> None:
    deploy, room = shop_with(shop), shop.room()
    act = await rolled_back(room, grace_s=3.0)
    assert await room.door.withdraw(act, "ann")
    again = await rolled_back(room, grace_s=3.0)
    assert again.id != act.id
    assert (await room.settled(again)).state == "verified"
    assert len(sent(deploy)) == 1


@virtual
async def test_a_withdrawal_of_a_dead_askers_intent_wins_too(shop: Shop) -> None:
    deploy, ann, bo = shop_with(shop), shop.room("ann"), shop.room("bo")
    act = await rolled_back(ann, grace_s=3.0)
    ann.die()
    bo.recovers()
    assert await bo.door.withdraw(act, "bo")
    await asyncio.sleep(60)
    assert deploy.requests == []


# ---- who sends


@virtual
async def test_the_lease_holder_takes_over_two_seconds_after_the_time(shop: Shop) -> None:
    deploy, ann, bo = shop_with(shop), shop.room("ann"), shop.room("bo")
    act = await rolled_back(ann, grace_s=3.0)
    ann.die()
    bo.recovers()
    await asyncio.sleep(4.5)
    assert deploy.requests == []
    assert (await bo.settled(act)).state == "verified"
    assert 5.0 <= deploy.at[0] - act.at <= 6.5


@virtual
async def test_nobody_takes_over_from_an_asker_that_lives(shop: Shop) -> None:
    deploy, ann, bo = shop_with(shop), shop.room("ann"), shop.room("bo")
    bo.recovers()
    await ann.settled(await rolled_back(ann, grace_s=3.0))
    assert len(sent(deploy)) == 1


@virtual
async def test_two_lease_holders_and_a_living_asker_send_once(shop: Shop) -> None:
    """A lease may be thought held by two for a moment; the compare-and-set of `sent` decides."""
    deploy, rooms = shop_with(shop), [shop.room(who) for who in ("ann", "bo", "cy")]
    deploy.answers = [Unreachable("no route")] * 4
    for room in rooms[1:]:
        room.recovers()
    await rooms[0].settled(await rolled_back(rooms[0]))
    assert len(sent(deploy)) == 5
    assert len(deploy.deployments) == 3


@virtual
async def test_without_the_lease_nobody_takes_over(shop: Shop) -> None:
    deploy, ann, bo = shop_with(shop), shop.room("ann"), shop.room("bo")
    await rolled_back(ann)
    ann.die()
    bo.recovers(lease=False)
    await asyncio.sleep(60)
    assert deploy.requests == []


@virtual
async def test_what_nobody_sent_in_time_expires_when_somebody_comes(shop: Shop) -> None:
    deploy, ann, bo = shop_with(shop), shop.room("ann"), shop.room("bo")
    act = await rolled_back(ann)
    ann.die()
    await asyncio.sleep(NOT_AFTER_S + 1)
    bo.recovers()
    assert (await bo.settled(act)).state == "expired"
    assert deploy.requests == []


@virtual
async def test_what_was_sent_is_settled_by_reading_at_any_time(shop: Shop) -> None:
    deploy, ann, bo = shop_with(shop), shop.room("ann"), shop.room("bo")

    async def hangs():
        deploy.arrive("v1", "d2")
        await asyncio.sleep(1000)
        return Accepted()

    deploy.answers = [hangs]
    act = await rolled_back(ann)
    await ann.until(lambda: deploy.requests)
    ann.die()
    await asyncio.sleep(3600)
    bo.recovers()
    done = await bo.settled(act)
    assert (done.state, done.ref) == ("verified", "d3")
    assert len(sent(deploy)) == 1


@virtual
async def test_a_read_only_process_drives_nothing(shop: Shop) -> None:
    deploy, ann, bo = shop_with(shop), shop.room("ann"), shop.room("bo", read_only=True)
    await rolled_back(ann)
    ann.die()
    bo.recovers()
    await asyncio.sleep(60)
    assert deploy.requests == []


@virtual
async def test_a_line_that_is_read_only_is_left_to_a_newer_andon(shop: Shop) -> None:
    deploy, ann, bo = shop_with(shop), shop.room("ann"), shop.room("bo")
    await rolled_back(ann)
    ann.die()
    await asyncio.sleep(1)
    bo.board = bo.board.apply_unknown("act-shared", LINE)
    bo.door.recover(lease=True)
    await asyncio.sleep(60)
    assert deploy.requests == []


# ---- confirming a halt


@virtual
async def test_a_halt_is_sent_again_with_growing_pauses_until_a_read_confirms_it(shop: Shop) -> None:
    room = shop.room()
    shop.stand.ignores = True
    await room.cord.pull(LINE, "ann", "x")
    await asyncio.sleep(200)
    waits = [later - earlier for earlier, later in itertools.pairwise(shop.stand.at)]
    assert waits[:5] == pytest.approx([1, 2, 4, 8, 16], abs=1.1)
    assert max(waits) <= 31.1
    assert len({request[1] for request in shop.stand.requests}) == 1
    shop.stand.ignores = False
    assert (await room.settled(room.acts("halt")[0])).state == "verified"
    requests = len(shop.stand.requests)
    await asyncio.sleep(120)
    assert len(shop.stand.requests) == requests


@virtual
async def test_a_halt_that_is_not_confirmed_says_so_after_two_minutes(shop: Shop) -> None:
    room = shop.room()
    shop.stand.ignores = True
    await room.cord.pull(LINE, "ann", "x")
    halt = room.acts("halt")[0]
    await asyncio.sleep(LOUD_S - 10)
    assert not any("not confirmed" in words for words in room.words_of(halt))
    await asyncio.sleep(50)
    assert any(words.startswith("not confirmed for 2 m") for words in room.words_of(halt))


@virtual
async def test_a_halt_refused_after_it_was_accepted_is_not_repeated(shop: Shop) -> None:
    room = shop.room()
    shop.stand.answers = [Accepted(), Accepted(), Refused("you may not")]
    await room.cord.pull(LINE, "ann", "x")
    done = await room.settled(room.acts("halt")[0])
    assert (done.state, done.words) == ("refused", "you may not")
    await asyncio.sleep(60)
    assert len(shop.stand.requests) == 3


@virtual
async def test_a_halt_whose_stop_is_over_is_superseded_unsent(shop: Shop) -> None:
    room = shop.room()
    done = await room.settled(await room.door.ask(halt_of(shop)))
    assert (done.state, done.words) == ("superseded", "the stop it belonged to is over")
    assert shop.stand.requests == []


@virtual
async def test_what_moves_out_is_not_waited_for(shop: Shop) -> None:
    """A deployment in flight goes on: the target stands when it takes nothing new."""
    room = shop.room()
    shop.stand.moving = ("run-7",)
    await room.cord.pull(LINE, "ann", "x")
    assert (await room.settled(room.acts("halt")[0])).state == "verified"


# ---- an adapter's faults


@pytest.mark.parametrize("error", [RuntimeError("bug"), KeyError("id"), TimeoutError(), RecursionError(), OSError(5)])
@virtual
async def test_an_act_of_an_adapter_that_raises_is_unknown_and_read(shop: Shop, error: Exception) -> None:
    deploy, room = shop_with(shop), shop.room()

    async def arrives_and_breaks():
        deploy.arrive("v1", "d2")
        raise error

    deploy.answers = [arrives_and_breaks]
    done = await room.settled(await rolled_back(room))
    assert done.state == "verified"
    assert any(type(error).__name__ in words or "no answer" in words for words in room.words_of(done))


@virtual
async def test_an_act_that_hangs_is_unknown_after_its_limit(shop: Shop) -> None:
    deploy, room = shop_with(shop), shop.room()

    async def hangs():
        await asyncio.sleep(1e5)
        return Accepted()

    deploy.answers = [hangs]
    act = await rolled_back(room)
    await asyncio.sleep(19)
    assert room.act(act).state == "sent"
    await asyncio.sleep(3)
    assert room.act(act).state == "unknown"


@pytest.mark.parametrize("state", ["intent", "sent"])
@virtual
async def test_a_ledger_that_is_down_for_a_while_loses_nothing(shop: Shop, state: str) -> None:
    deploy, room = shop_with(shop), shop.room()

    async def slow():
        room.breaks = True
        return deploy.arrive("v1", "d2")

    if state == "sent":
        deploy.answers = [slow]
    act = await rolled_back(room, grace_s=1.0)
    if state == "intent":
        room.breaks = True
    await asyncio.sleep(30)
    room.breaks = False
    assert (await room.settled(act)).state == "verified"
    assert len(sent(deploy)) == 1


# ---- an automatic rollback where nothing is compared


PLAIN = Can(deploy=True)


@virtual
async def test_an_automatic_rollback_waits_until_the_line_is_quiet(shop: Shop) -> None:
    shop.has(LINE, "ci/deploy", only_way_in=True)
    deploy, room = shop_with(shop, PLAIN), shop.room()
    shop.stand.ignores = True
    act = await room.shipper.rollback(LINE, "immune", "falls", auto=True)
    await asyncio.sleep(20)
    assert deploy.requests == []
    assert room.act(act).words == "not quiet: ci/deploy is not confirmed to stand"
    shop.stand.ignores = False
    assert (await room.settled(act)).state == "verified"
    assert len(sent(deploy)) == 1


@virtual
async def test_an_automatic_rollback_waits_for_what_still_moves(shop: Shop) -> None:
    shop.has(LINE, "ci/deploy", only_way_in=True)
    deploy, room = shop_with(shop, PLAIN), shop.room()
    shop.stand.moving = ("run-7",)
    act = await room.shipper.rollback(LINE, "immune", "falls", auto=True)
    await asyncio.sleep(20)
    assert deploy.requests == []
    shop.stand.moving = ()
    await room.cord.reconcile(LINE, "ci/deploy", shop.stand.shown())
    assert (await room.settled(act)).state == "verified"


@virtual
async def test_an_automatic_rollback_is_never_sent_where_there_are_other_ways_in(shop: Shop) -> None:
    deploy, room = shop_with(shop, PLAIN), shop.room()
    act = await room.shipper.rollback(LINE, "immune", "falls", auto=True)
    done = await room.settled(act)
    assert done.state == "expired"
    assert deploy.requests == []


@virtual
async def test_a_person_may_take_the_risk_after_a_fresh_look(shop: Shop) -> None:
    deploy, room = shop_with(shop, PLAIN), shop.room()
    act = await rolled_back(room)
    assert (await room.settled(act)).state == "verified"
    assert len(sent(deploy)) == 1


@virtual
async def test_without_comparison_nothing_is_sent_while_what_runs_cannot_be_read(shop: Shop) -> None:
    deploy, room = shop_with(shop, PLAIN), shop.room()
    deploy.down = Unreachable("no route")
    act = await rolled_back(room)
    await asyncio.sleep(30)
    assert deploy.requests == []
    assert room.act(act).words == "cannot read what runs: no route"
    deploy.down = None
    assert (await room.settled(act)).state == "verified"


@virtual
async def test_with_comparison_it_is_sent_unread(shop: Shop) -> None:
    deploy, room = shop_with(shop), shop.room()
    deploy.down = Unreachable("no route")
    await rolled_back(room)
    await room.until(lambda: deploy.requests)
    assert deploy.deployments[-1].version == "v1"


# ---- a fix through the stop


async def stopped(shop: Shop, **tested: str) -> Room:
    """A stopped line, and what its CI says of changes."""
    shop_with(shop)
    room = shop.room()
    await room.cord.pull(LINE, "ann", "conversion falls")
    await asyncio.sleep(1)
    shop.stand.tested = tested
    return room


@virtual
async def test_a_tested_fix_passes_through_the_named_hold(shop: Shop) -> None:
    room = await stopped(shop, v9="yes")
    hold = room.line.open_holds[0].id
    done = await room.settled(await room.shipper.push(LINE, "v9", "ann", "the fix", through=hold))
    assert (done.state, done.hold, done.why) == ("verified", hold, "the fix")
    assert shop.deploy is not None
    assert shop.deploy.requests == [("deploy", "v9", "d2", f"push-{done.id}", hold)]
    assert room.line.open_holds[0].id == hold
    assert "d2" not in room.line.marks


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("no", "v9: its tests failed"),
        ("running", "v9: its tests still run"),
        ("unknown", "v9: no tests are known for exactly this change"),
    ],
)
@virtual
async def test_what_was_not_tested_does_not_pass(shop: Shop, state: str, words: str) -> None:
    room = await stopped(shop, v9=state, v8="yes")
    with pytest.raises(NotDone, match=words):
        await room.shipper.push(LINE, "v9", "ann", "the fix", through=room.line.open_holds[0].id)
    assert shop.deploy is not None
    assert shop.deploy.requests == []


@virtual
async def test_every_ci_of_the_line_must_say_yes(shop: Shop) -> None:
    shop.has(LINE, "ci/deploy", "other/deploy")
    room = await stopped(shop, v9="yes")
    with pytest.raises(NotDone, match="no tests are known"):
        await room.shipper.push(LINE, "v9", "ann", "fix", through=room.line.open_holds[0].id)
    shop.stands["other/deploy"].down = Unreachable("no route")
    with pytest.raises(NotDone, match="cannot read whether the tests passed: no route"):
        await room.shipper.push(LINE, "v9", "ann", "fix", through=room.line.open_holds[0].id)


@virtual
async def test_a_line_without_a_ci_lets_nothing_through(shop: Shop) -> None:
    shop.has(LINE)
    room = await stopped(shop)
    with pytest.raises(NotDone, match="has no CI that could say whether the tests of v9 passed"):
        await room.shipper.push(LINE, "v9", "ann", "fix", through=room.line.open_holds[0].id)


@virtual
async def test_only_an_open_hold_of_this_line_can_be_passed(shop: Shop) -> None:
    room = await stopped(shop, v9="yes")
    hold = room.line.open_holds[0].id
    for through in ("", "zzzzzzzz"):
        with pytest.raises(NotDone, match=f"shop is stopped: name the hold the fix goes through, --through {hold}"):
            await room.shipper.push(LINE, "v9", "ann", "fix", through=through)
    with pytest.raises(NotDone, match="with a reason"):
        await room.shipper.push(LINE, "v9", "ann", "  ", through=hold)
    await room.cord.resume(LINE, "ann", "fixed")
    with pytest.raises(NotDone, match=f"shop has no open hold {hold}"):
        await room.shipper.push(LINE, "v9", "ann", "fix", through=hold)


@virtual
async def test_a_running_line_needs_no_hold_and_the_same_version_is_no_push(shop: Shop) -> None:
    shop_with(shop)
    room = shop.room()
    shop.stand.tested = {"v9": "yes", "v2": "yes"}
    with pytest.raises(NotDone, match="v2 already runs"):
        await room.shipper.push(LINE, "v2", "ann", "again")
    assert (await room.settled(await room.shipper.push(LINE, "v9", "ann", "ship"))).state == "verified"


# ---- marks


@virtual
async def test_a_deployment_is_marked_by_its_id_or_by_its_version(shop: Shop) -> None:
    shop_with(shop)
    room = shop.room()
    assert (await room.shipper.mark(LINE, "d1", "good", "ann", "ran for weeks")).version == "v1"
    assert (await room.shipper.mark(LINE, "v2", "faulty", "ann", "leaks")).deployment == "d2"
    assert room.line.marks["d1"].who == "ann"
    for named, words in (
        ("v", "fits more than one version"),
        ("", "has no deployment"),
        ("zz", "has no deployment zz"),
    ):
        with pytest.raises(NotDone, match=words):
            await room.shipper.mark(LINE, named, "good", "ann", "x")
    with pytest.raises(NotDone, match="with a reason"):
        await room.shipper.mark(LINE, "d1", "good", "ann", " ")


# ---- cancellations and notes


def cancel_of(shop: Shop) -> Act:
    now = shop.clock.now()
    return Act(new_id(), "cancel", LINE, "ci/deploy", "run-7", "ann", "wrong", now, now, now + 300)


@pytest.mark.parametrize("name", FIVE)
@virtual
async def test_a_cancellation_ends_with_its_answer(shop: Shop, name: str) -> None:
    room = shop.room()
    shop.stand.answers = [FIVE[name][0]()] if name != "unreachable" else [Unreachable("no route")] * 1000
    done = await room.settled(await room.door.ask(cancel_of(shop)))
    ends = {"accepted": "verified", "refused": "refused", "unreachable": "expired"}
    assert done.state == ends.get(name, "failed")


@virtual
async def test_a_cancellation_is_asked_once_while_it_is_on_its_way(shop: Shop) -> None:
    room = shop.room()
    first, second = await asyncio.gather(room.door.ask(cancel_of(shop)), room.door.ask(cancel_of(shop)))
    assert first.id == second.id
    await room.settled(first)
    assert shop.stand.requests == [("cancel", "run-7")]
