"""A deployment is blamed, and a newer one runs: the line stops, and the newest goes back first, unless it may be the fix."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from andon.events import HoldTaken, Judged, Marked
from andon.model import Metric
from andon.ports import Can
from tests.fakes import CONVERSION, LINE, Shop, virtual
from tests.test_statistical import ORDERS, Place, deployed, minutes

BAD = 0.6
SHIPPED_S = 240.0
"""The second one comes before anybody knows of the first."""


class Two(Place):
    """v2 does it at once; v3 is shipped four minutes later, and makes of the damage what `after` says."""

    def __init__(
        self,
        shop: Shop,
        after: Callable[[float], float],
        metric: Metric = ORDERS,
        shipped_s: float = SHIPPED_S,
        **options: Any,
    ) -> None:
        began = deployed(shop)
        self.began, self.back, self.shipped_s = began, 1e18, shipped_s

        def share(at: float) -> float:
            if at < began or at >= self.back:
                return 0.03
            return 0.03 * (BAD if at < began + shipped_s else after(at - began - shipped_s))

        super().__init__(shop, share, metric, **options)
        self.till.can = Can(history_s=86_400.0)

    async def ship(self, version: str = "v3", at_s: float = 0.0) -> None:
        await asyncio.sleep(self.began + (at_s or self.shipped_s) - self.shop.clock.now())
        assert self.shop.deploy is not None
        self.shop.deploy.put(version)
        self.shop.seen()

    async def stopped(self) -> None:
        """Wait until the line stands for what v2 did."""
        await self.room.until(lambda: [hold for hold in self.room.line.open_holds if hold.deployment == "d2"], 900)

    def did(self) -> str:
        return self.watch("d2").did


def no_better(_: float) -> float:
    return BAD


def repaired(since_s: float) -> float:
    return BAD if since_s < 60 else 1.0


@virtual
async def test_the_newest_goes_back_to_what_ran_before_both(shop: Shop) -> None:
    shop.has(LINE, "ci/deploy", notify=("pager",))
    place = Two(shop, no_better)
    await place.ship()
    await place.stopped()
    assert place.rollbacks() == [], "it has time to show what it does"
    assert place.did() == "stopped, not rolled back: v3 runs now"
    act = (await place.room.until(place.rollbacks, 900))[0]
    place.back = place.shop.clock.now() + 60
    assert (act.expected, act.version, act.auto, act.who) == ("d3", "v1", True, "immune")
    assert shop.clock.now() - place.began - SHIPPED_S >= 480
    assert act.why.endswith("; v3, shipped since, does not bring conversion back")
    assert place.did() == "stopped; v3, shipped since, does not bring conversion back: rolled back first"
    assert [hold.deployment for hold in place.room.line.open_holds] == ["d2"]
    shop.seen()
    await place.room.until(lambda: place.room.line.helped.get("d3"), 60)
    await place.room.until(lambda: place.room.line.helped["d3"].word == "recovered", 900)
    assert place.room.line.helped["d2"] == place.room.line.helped["d3"]
    assert len(place.rollbacks()) == 1
    titles = [note.title for note in shop.notifiers["pager"].told if note.kind == "verdict"]
    assert titles == ["shop v2 regressed", "shop v3 does not help"]


@virtual
async def test_a_bound_that_a_person_gave_does_the_same(shop: Shop) -> None:
    place = Two(shop, no_better, metric=msgspec.structs.replace(CONVERSION, threshold=_below(0.025)), shipped_s=202.0)
    await place.ship()
    await place.stopped()
    act = (await place.room.until(place.rollbacks, 900))[0]
    assert (act.expected, act.version) == ("d3", "v1")


def _below(bound: float) -> Any:
    from andon.model import Threshold

    return Threshold(below=bound, for_s=180.0)


WAYS_OF_THE_FIX: dict[str, Callable[[float], float]] = {
    "it repairs it": repaired,
    "it repairs it after its own restart": lambda since_s: BAD if since_s < 110 else 1.0,
    "it takes five minutes to have effect": lambda since_s: BAD if since_s < 300 else 1.0,
    "it repairs half of it": lambda since_s: BAD if since_s < 60 else 0.8,
    "it gets better and better": lambda since_s: min(1.0, BAD + 0.4 * since_s / 420),
}


@pytest.mark.parametrize("way", WAYS_OF_THE_FIX)
@virtual
async def test_a_fix_is_never_rolled_back(shop: Shop, way: str) -> None:
    place = Two(shop, WAYS_OF_THE_FIX[way])
    await place.ship()
    await place.stopped()
    await minutes(11)
    assert place.rollbacks() == []
    assert [hold.deployment for hold in place.room.line.open_holds] == ["d2"]
    assert place.watch("d3").verdicts["conversion"].word != "regressed"


@virtual
async def test_a_bound_does_not_take_a_fix_for_the_damage(shop: Shop) -> None:
    metric = msgspec.structs.replace(CONVERSION, threshold=_below(0.025))
    place = Two(shop, repaired, metric=metric, shipped_s=202.0)
    await place.ship()
    await place.stopped()
    await minutes(12)
    assert place.rollbacks() == []


@virtual
async def test_what_comes_through_the_stop_is_never_rolled_back(shop: Shop) -> None:
    """Also where it does not help: somebody sent it, knowing."""
    place = Two(shop, no_better)
    await place.ship()
    await place.stopped()
    await place.ship("v4", at_s=place.shop.clock.now() - place.began + 20)
    await minutes(12)
    assert place.rollbacks() == []


@virtual
async def test_what_was_shipped_while_a_person_had_stopped_the_line_is_never_rolled_back(shop: Shop) -> None:
    place = Two(shop, no_better)
    await asyncio.sleep(200)
    await place.room.cord.pull(LINE, "ann", "something is odd")
    await place.ship()
    await place.stopped()
    await minutes(12)
    assert place.rollbacks() == []


@virtual
async def test_once_somebody_has_it_nothing_more_is_done(shop: Shop) -> None:
    place = Two(shop, no_better)
    await place.ship()
    await place.stopped()
    hold = place.room.line.open_holds[0]
    shop.ledger.commit(HoldTaken(line=LINE, at=shop.clock.now(), hold=hold.id, who="bo"))
    await minutes(12)
    assert place.rollbacks() == []


@virtual
async def test_once_the_hold_is_lifted_nothing_more_is_done(shop: Shop) -> None:
    place = Two(shop, no_better)
    await place.ship()
    await place.stopped()
    await place.room.cord.resume(LINE, "bo", "known and harmless")
    await minutes(12)
    assert place.rollbacks() == []


@virtual
async def test_a_person_who_went_back_is_not_overruled(shop: Shop) -> None:
    place = Two(shop, no_better)
    await place.ship()
    await place.stopped()
    act = await place.room.shipper.rollback(LINE, "bo", "looks bad", expected="d3")
    await place.room.settled(act)
    shop.seen()
    await minutes(12)
    assert [item.auto for item in place.rollbacks()] == [False]


@pytest.mark.parametrize("wanted", ["stop", "tell"])
@virtual
async def test_a_metric_that_may_not_roll_back_does_not(shop: Shop, wanted: str) -> None:
    place = Two(shop, no_better, metric=msgspec.structs.replace(ORDERS, on_regression=wanted))
    await place.ship()
    await minutes(17)
    assert place.watch("d2").verdicts["conversion"].word == "regressed"
    assert place.rollbacks() == []


@virtual
async def test_a_line_in_shadow_does_not(shop: Shop) -> None:
    place = Two(shop, no_better, shadow=20)
    await place.ship()
    await minutes(17)
    assert place.rollbacks() == []
    assert place.room.line.open_holds == ()


@virtual
async def test_without_a_trusted_version_it_says_so_once(shop: Shop) -> None:
    place = Two(shop, no_better)
    shop.ledger.commit(
        Marked(line=LINE, at=shop.clock.now(), deployment="d1", version="v1", mark="faulty", who="cy", why="no")
    )
    await place.ship()
    await place.stopped()
    await minutes(11)
    assert place.rollbacks() == []
    words = "stopped; v3, shipped since, does not bring conversion back; not rolled back: "
    told = [event.did for event in place.events(Judged) if event.did.startswith(words)]
    assert told == [f"{words}no earlier version to return to"]


@virtual
async def test_a_version_that_came_after_the_one_that_is_blamed_is_no_way_back(shop: Shop) -> None:
    """v3 was called good by somebody: to return to it would leave what v2 did."""
    place = Two(shop, no_better)
    await place.ship(at_s=230)
    shop.ledger.commit(
        Marked(line=LINE, at=shop.clock.now(), deployment="d3", version="v3", mark="good", who="cy", why="fine")
    )
    await place.ship("v4", at_s=260)
    await place.stopped()
    await minutes(11)
    assert place.rollbacks() == []
    assert place.did().endswith("v4, shipped since, does not bring conversion back; not rolled back: "
                                "v3, to which it would return, came after v2")  # fmt: skip


@virtual
async def test_a_quarter_of_an_hour_after_the_stop_it_is_left_to_a_person(shop: Shop) -> None:
    place = Two(shop, no_better)
    await place.ship()
    await place.stopped()
    place.room.die()
    await minutes(20)
    place.start("immune-2")
    await minutes(20)
    assert place.rollbacks() == []


@virtual
async def test_an_engine_that_takes_over_between_the_stop_and_the_rollback_does_it_once(shop: Shop) -> None:
    place = Two(shop, no_better)
    await place.ship()
    await place.stopped()
    place.room.die()
    place.start("immune-2")
    await place.room.until(place.rollbacks, 900)
    await minutes(10)
    assert [act.expected for act in place.rollbacks()] == ["d3"]


@virtual
async def test_two_who_watch_at_once_do_it_once(shop: Shop) -> None:
    place = Two(shop, no_better)
    place.start("immune-2")
    await place.ship()
    await place.room.until(place.rollbacks, 1200)
    await minutes(10)
    assert [act.expected for act in place.rollbacks()] == ["d3"]
    assert shop.deploy is not None
    assert [item.version for item in shop.deploy.deployments] == ["v1", "v2", "v3", "v1"]


@virtual
async def test_a_newer_one_that_comes_meanwhile_is_not_undone_unseen(shop: Shop) -> None:
    """Something else runs by the time the rollback arrives: the target compares, and refuses."""
    place = Two(shop, no_better)
    await place.ship()
    await place.stopped()
    assert shop.deploy is not None
    shop.deploy.put("v4")  # nobody has told andon of it yet
    await place.room.until(place.rollbacks, 900)
    await minutes(3)
    assert shop.deploy.now().version == "v4"  # type: ignore[union-attr]
    assert place.rollbacks()[0].state in ("superseded", "refused", "failed")


@virtual
async def test_while_nothing_is_measured_nothing_is_done(shop: Shop) -> None:
    place = Two(shop, no_better)
    await place.ship()
    await place.stopped()
    blind = shop.clock.now()
    place.till.missing = lambda at: at > blind - 60
    await minutes(11)
    assert place.rollbacks() == []


@virtual
async def test_what_was_measured_a_while_ago_undoes_nothing(shop: Shop) -> None:
    """It showed the damage for long enough, while no engine ran; since then nothing was measured."""
    place = Two(shop, no_better)
    await place.ship()
    await place.stopped()
    place.room.die()
    silent = place.began + SHIPPED_S + 300 + 240
    place.till.missing = lambda at: at + 60 > silent
    await asyncio.sleep(silent + 300 - shop.clock.now())
    place.start("immune-2")
    await minutes(1)
    assert shop.clock.now() - place.room.line.open_holds[0].since < 900, "not for that reason"
    assert place.rollbacks() == []
