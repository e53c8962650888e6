"""The judge where an engine or a source was away for a part of the watch: what is true by now decides."""

import asyncio

import msgspec
import pytest

from tests.fakes import LINE, Shop, virtual
from tests.test_statistical import ORDERS, Place, deployed, minutes


@virtual
async def test_what_fell_while_no_engine_ran_and_is_bad_still_is_rolled_back(shop: Shop) -> None:
    began = deployed(shop)
    await minutes(10)
    place = Place(shop, lambda at: 0.03 * (0.6 if at >= began else 1.0))
    act = (await place.room.until(place.rollbacks, 120))[0]
    assert (act.expected, act.version) == ("d2", "v1")
    verdict = place.watch().verdicts["conversion"]
    assert "seen 5 min after v2" in verdict.sentence


@virtual
async def test_what_fell_while_no_engine_ran_and_came_back_by_itself_is_only_stopped(shop: Shop) -> None:
    began = deployed(shop)
    await minutes(13)
    place = Place(shop, lambda at: 0.03 * (0.6 if began <= at < began + 480 else 1.0))
    await place.room.until(lambda: place.room.line.open_holds, 120)
    assert place.watch().did.startswith("stopped, not rolled back: the newest number is ")
    await minutes(5)
    assert place.rollbacks() == []


@pytest.mark.parametrize("on_blind", ["tell", "stop"])
@virtual
async def test_a_source_that_dies_after_some_buckets_makes_it_blind_and_never_rolls_back(
    shop: Shop, on_blind: str
) -> None:
    began = deployed(shop)
    place = Place(
        shop, lambda at: 0.03 * (0.6 if at >= began else 1.0), msgspec.structs.replace(ORDERS, on_blind=on_blind)
    )
    await minutes(4)
    assert place.watch().verdicts["conversion"].word == "undecided"
    died = shop.clock.now()
    place.till.missing = lambda at: at + 60 > died
    place.watcher.gone[(LINE, "conversion")] = "till: connection refused"
    await minutes(5)
    verdict = place.watch().verdicts["conversion"]
    assert verdict.word == "blind"
    assert verdict.sentence.startswith("conversion: till: connection refused for ")
    assert bool(place.room.line.open_holds) == (on_blind == "stop")
    assert place.rollbacks() == []
    place.watcher.gone.clear()
    place.till.missing = lambda _: False
    place.room.tasks.add(asyncio.create_task(place._keep()))
    await place.room.until(lambda: place.watch().verdicts["conversion"].word == "regressed", 300)


@virtual
async def test_a_source_that_dies_late_leaves_the_verdict_to_what_was_seen(shop: Shop) -> None:
    deployed(shop)
    place = Place(shop, lambda _: 0.03)
    await minutes(12)
    died = shop.clock.now()
    place.till.missing = lambda at: at + 60 > died
    place.watcher.gone[(LINE, "conversion")] = "till: connection refused"
    await minutes(5)
    verdict = place.watch().verdict
    assert verdict is not None
    assert verdict.word == "healthy", verdict.sentence


@virtual
async def test_a_source_that_was_away_for_most_of_the_watch_ends_it_blind(shop: Shop) -> None:
    deployed(shop)
    place = Place(shop, lambda _: 0.03)
    await minutes(4)
    died = shop.clock.now()
    place.till.missing = lambda at: at + 60 > died
    place.watcher.gone[(LINE, "conversion")] = "till: connection refused"
    await minutes(13)
    watch = place.watch()
    assert watch.ended
    assert watch.verdict is not None
    assert watch.verdict.word == "blind"
