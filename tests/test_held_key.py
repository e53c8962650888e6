"""A key that is held down is one act: F9 and F4, at every rate that keyboards and terminals repeat with.

Five rates from 2 to 60 Hz, three delays before the first repetition, five seconds of holding, in virtual time. Nobody
waits for one press before the next: each goes its own way through cord, shipper, door and ledger.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from andon.acts import NotDone
from tests.fakes import LINE, FakeDeploy, Room, Shop, virtual
from tests.test_acts_simulated import WithoutClaim

DELAYS = (0.25, 0.5, 0.66)
RATES = (2, 10, 25, 30, 60)
HELD_S = 5.0

Press = Callable[[], Coroutine[Any, Any, Any]]
every_rate = pytest.mark.parametrize(("delay_s", "rate"), [(delay, rate) for delay in DELAYS for rate in RATES])


async def held(press: Press, delay_s: float, rate: int) -> list[Any]:
    """What became of each press: its result, or why nothing was done."""
    times = [0.0, *(delay_s + number / rate for number in range(int(HELD_S * rate) + 1))]

    async def one(at: float) -> Any:
        await asyncio.sleep(at)
        try:
            return await press()
        except NotDone as reason:
            return reason

    return await asyncio.gather(*(one(at) for at in times))


def f9(room: Room) -> Press:
    return lambda: room.cord.pull(LINE, "ann", "held down")


def f4(room: Room, expected: str = "d2", grace_s: float = 0.0) -> Press:
    """As the screen asks: for what it showed, `d2`."""
    return lambda: room.shipper.rollback(LINE, "ann", "held down", expected=expected, grace_s=grace_s)


def deploy_of(shop: Shop) -> FakeDeploy:
    shop.ships("v1", "v2")
    assert shop.deploy is not None
    return shop.deploy


def one_stop(shop: Shop, room: Room) -> None:
    assert len(room.line.holds) == 1
    assert [act.state for act in room.acts("halt")] == ["verified"]
    assert len(shop.stand.requests) == 1


def one_rollback(deploy: FakeDeploy, room: Room, state: str = "verified") -> None:
    assert [act.state for act in room.acts("rollback")] == [state]
    assert len(deploy.requests) == 1


@every_rate
@virtual
async def test_f9_held_down_is_one_stop(shop: Shop, delay_s: float, rate: int) -> None:
    room = shop.room()
    found = await held(f9(room), delay_s, rate)
    await asyncio.sleep(60)
    assert len({item.hold.id for item in found}) == 1
    one_stop(shop, room)


@every_rate
@virtual
async def test_f4_held_down_is_one_rollback(shop: Shop, delay_s: float, rate: int) -> None:
    deploy, room = deploy_of(shop), shop.room()
    await held(f4(room, grace_s=3.0), delay_s, rate)
    await asyncio.sleep(60)
    one_rollback(deploy, room)
    one_stop(shop, room)


@pytest.mark.parametrize("hangs_s", [0.1, 0.4, 2.0])
@virtual
async def test_on_a_slow_ledger_a_held_key_is_one_act_too(shop: Shop, hangs_s: float) -> None:
    deploy, room = deploy_of(shop), shop.room()
    room.hangs_s = hangs_s
    await held(f4(room), 0.25, 60)
    await asyncio.sleep(120)
    one_rollback(deploy, room)
    assert len(room.line.holds) == 1
    assert len({act.subject for act in room.acts("halt")}) == 1


@virtual
async def test_while_the_target_still_rolls_a_held_key_is_one_act_too(shop: Shop) -> None:
    deploy, room = deploy_of(shop), shop.room()
    deploy.rolls_s = 20.0
    await held(f4(room), 0.25, 30)
    await asyncio.sleep(60)
    one_rollback(deploy, room)


@virtual
async def test_what_was_not_on_the_screen_is_not_undone_by_a_key_still_held(shop: Shop) -> None:
    """It was rolled back while the key was held: the next repetition does not roll back the rollback."""
    deploy, room = deploy_of(shop), shop.room()
    await held(f4(room, expected=""), 0.25, 30)
    await asyncio.sleep(60)
    one_rollback(deploy, room)


@pytest.mark.parametrize("hangs_s", [0.0, 1.0])
@virtual
async def test_both_operators_hold_both_keys_and_it_is_one_stop_and_one_rollback(shop: Shop, hangs_s: float) -> None:
    deploy, ann, bo = deploy_of(shop), shop.room("ann"), shop.room("bo")
    ann.hangs_s = bo.hangs_s = hangs_s
    presses = [f4(ann), f4(bo), f9(ann), lambda: bo.cord.pull(LINE, "bo", "held down")]
    await asyncio.gather(*(held(press, 0.25, 30) for press in presses))
    await asyncio.sleep(60)
    one_rollback(deploy, ann)
    assert sorted(hold.owner for hold in ann.line.holds) == ["ann", "bo"]
    assert len({act.subject for act in ann.acts("halt") if act.state == "verified"}) == 1
    assert hangs_s or len(shop.stand.requests) == 1, "a halt that was sent before it was recorded may be sent twice"


@virtual
async def test_without_the_claim_held_keys_are_many_acts(shop: Shop) -> None:
    """On a slow ledger many presses are on their way at once, and only the claim makes them one."""
    deploy = deploy_of(shop)
    shop.ledger.close()
    shop.ledger = WithoutClaim(":memory:", shop.clock)
    shop.seen()
    ann, bo = shop.room("ann"), shop.room("bo")
    ann.hangs_s = bo.hangs_s = 1.0
    await asyncio.gather(held(f4(ann), 0.25, 30), held(f4(bo), 0.25, 30))
    await asyncio.sleep(60)
    with pytest.raises(AssertionError, match="verified"):
        one_rollback(deploy, ann)
