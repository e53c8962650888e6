"""From a deployment to the judge's verdict, in virtual time over a real ledger: armed, followed, acted on, recovered."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from andon.board import Watch
from andon.config import Config
from andon.events import Armed, Judged, decode
from andon.immune.watcher import Watcher
from andon.model import Metric, Sample, Samples
from andon.ports import Can, Unreachable
from tests.fakes import CONVERSION, LINE, Followed, Shop, virtual

ORDERS = msgspec.structs.replace(CONVERSION, threshold=None)
EVERY = ORDERS.every
Share = Callable[[float], float]


class Till:
    """A metrics source with two weeks of history: orders out of checkouts, as chance has it. The same when asked again."""

    can = Can(history_s=15 * 86_400.0)

    def __init__(self, shop: Shop, share: Share, trials: float = 5000.0) -> None:
        self.shop, self.share, self.trials = shop, share, trials
        self.asked = 0
        self.breaks = False
        self.missing: Callable[[float], bool] = lambda _: False

    def row(self, at: float) -> Sample:
        rng = np.random.default_rng(int(at) + 10_000_000)
        trials = int(rng.poisson(self.trials))
        return Sample(at, float(rng.binomial(trials, self.share(at))), float(trials))

    async def samples(self, metric: Metric, start: float, end: float, every: float) -> Samples:
        await asyncio.sleep(0)
        self.asked += 1
        if self.breaks:
            raise Unreachable("till: connection refused")
        closed = min(end, self.shop.clock.now() // every * every)
        ats = [start + i * every for i in range(max(0, round((closed - start) / every)))]
        return Samples("ok", tuple(self.row(at) for at in ats if not self.missing(at)))


class Place:
    """A line with a till, its watcher, and the duty of keeping its samples."""

    def __init__(self, shop: Shop, share: Share, metric: Metric = ORDERS, shadow: int = 0, **options: Any) -> None:
        self.shop = shop
        line = msgspec.structs.replace(shop.lines[LINE], metrics=(metric,), shadow=shadow)
        shop.lines[LINE] = line
        self.metric = metric
        self.till = Till(shop, share, **options)
        shop.meters["meter"] = self.till  # type: ignore[assignment]
        self.start()

    def start(self, who: str = "immune-1") -> None:
        self.room = self.shop.room(who)
        config = Config(Path("andon.yaml"), lines=self.shop.lines)
        self.watcher = Watcher(
            config, Followed(self.shop), self.room, self.shop.clock, self.room.cord, self.room.shipper, {}
        )  # type: ignore[arg-type]
        self.watcher.statistical.in_thread = _at_once
        for line in self.shop.lines.values():
            self.room.tasks.add(asyncio.create_task(self.watcher.run(line)))
        self.room.tasks.add(asyncio.create_task(self._keep()))
        self.room.recovers()

    async def _keep(self) -> None:
        """Keep each closed bucket of the last hour, as the duty does."""
        now = self.shop.clock.now()
        at = (now - 3600) // EVERY * EVERY
        while True:
            while at + EVERY + self.metric.lag <= self.shop.clock.now():
                if not self.till.missing(at) and not self.till.breaks:
                    self.shop.ledger.keep(f"{LINE}/{self.metric.name}", [self.till.row(at)])
                at += EVERY
            await asyncio.sleep(1)
            self.watcher.look(LINE)

    def watch(self, id_: str = "d2") -> Watch:
        self.room.tail()
        return self.room.board.line(LINE).watches[id_]

    def events(self, kind: type) -> list[Any]:
        rows = self.shop.ledger.read(0, 100_000)
        return [event for row in rows if isinstance(event := decode(row.kind, row.body), kind)]

    def rollbacks(self) -> list[Any]:
        return self.room.acts("rollback")


async def _at_once(work: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Time stands still while a thread works: here the loop waits for it."""
    return work(*args, **options)


def deployed(shop: Shop) -> float:
    """v1 ran well for long; v2 has just been deployed: when."""
    shop.ships("v1", "v2")
    from tests.test_watcher import good

    room = shop.room("cy")
    shop.ledger.commit(*good(room))
    room.tail()
    return shop.clock.now()


async def minutes(count: float) -> None:
    await asyncio.sleep(60 * count)


@virtual
async def test_a_fall_without_a_threshold_is_found_rolled_back_and_seen_to_recover(shop: Shop) -> None:
    now = deployed(shop)
    state = {"back": 1e18}
    place = Place(shop, lambda at: 0.03 * (0.6 if now <= at < state["back"] else 1.0))
    await place.room.until(place.rollbacks, 900)
    state["back"] = shop.clock.now()
    assert shop.clock.now() - now < 7 * 60
    verdict = place.watch().verdicts["conversion"]
    assert verdict.word == "regressed"
    assert verdict.sentence.startswith("conversion 3.")
    for part in (" → 1.", " %, -4", "anytime-valid", "seen 5 min after v2"):
        assert part in verdict.sentence, verdict.sentence
    assert [hold.owner for hold in place.room.line.open_holds] == ["immune"]
    await place.room.until(
        lambda: place.room.line.helped.get("d2") and place.room.line.helped["d2"].word == "recovered", 900
    )
    assert "expected 3." in place.room.line.helped["d2"].sentence
    assert len(place.rollbacks()) == 1


@virtual
async def test_a_healthy_deployment_is_healthy_and_says_what_it_could_have_shown(shop: Shop) -> None:
    deployed(shop)
    place = Place(shop, lambda _: 0.03)
    await minutes(17)
    verdict = place.watch().verdict
    assert verdict is not None
    assert verdict.word == "healthy", verdict.sentence
    assert "would have shown" in verdict.sentence
    assert place.rollbacks() == []


@virtual
async def test_too_little_traffic_is_undecided_and_says_so(shop: Shop) -> None:
    deployed(shop)
    place = Place(shop, lambda _: 0.03, trials=12.0)
    await minutes(17)
    verdict = place.watch().verdict
    assert verdict is not None
    assert verdict.word == "undecided"
    assert "not less" in verdict.sentence or "however large" in verdict.sentence


@virtual
async def test_what_was_off_before_is_not_blamed_on_the_deployment(shop: Shop) -> None:
    now = deployed(shop)
    place = Place(shop, lambda at: 0.03 * (0.6 if at >= now - 600 else 1.0))
    await minutes(17)
    verdict = place.watch().verdict
    assert verdict is not None
    assert verdict.word == "undecided", verdict.sentence
    assert place.rollbacks() == []


@virtual
async def test_the_fix_that_is_deployed_in_an_incident_is_not_rolled_back(shop: Shop) -> None:
    now = deployed(shop)
    place = Place(shop, lambda at: 0.03 * (0.5 if now - 900 <= at < now + 120 else 1.0))
    await minutes(17)
    assert place.rollbacks() == []
    assert place.room.line.open_holds == ()


@virtual
async def test_a_source_that_dies_in_the_watch_is_blind_and_nothing_is_done(shop: Shop) -> None:
    deployed(shop)
    place = Place(shop, lambda _: 0.03)
    place.till.breaks = True
    place.watcher.gone[(LINE, "conversion")] = "till: connection refused"
    await minutes(17)
    verdict = place.watch().verdict
    assert verdict is not None
    assert verdict.word == "blind"
    assert "refused" in verdict.sentence
    assert place.rollbacks() == []


@virtual
async def test_an_engine_that_takes_over_goes_on_with_the_same_evidence(shop: Shop) -> None:
    now = deployed(shop)
    place = Place(shop, lambda at: 0.03 * (0.6 if at >= now else 1.0))
    await minutes(3)
    asked = place.till.asked
    assert [event.deployment for event in place.events(Armed)].count("d2") == 1
    place.room.die()
    place.start("immune-2")
    await place.room.until(place.rollbacks, 900)
    assert [event.deployment for event in place.events(Armed)].count("d2") == 1, (
        "the record is in the ledger: nothing is armed twice"
    )
    assert place.till.asked == asked
    assert len(place.rollbacks()) == 1


@virtual
async def test_in_shadow_it_says_what_it_would_have_done_and_does_nothing(shop: Shop) -> None:
    now = deployed(shop)
    place = Place(shop, lambda at: 0.03 * (0.6 if at >= now else 1.0), shadow=20)
    await minutes(17)
    assert place.watch().verdicts["conversion"].word == "regressed"
    judged = [event for event in place.events(Judged) if event.verdict.word == "regressed"]
    assert judged[0].did == "shadow, 1 of 20 deployments watched: would have stopped and rolled back"
    assert place.rollbacks() == []
    assert place.room.line.open_holds == ()


@virtual
async def test_more_visitors_who_do_not_buy_are_told_and_nobody_is_blamed(shop: Shop) -> None:
    now = deployed(shop)
    place = Place(shop, lambda at: 0.03 * (0.6 if at >= now + 240 else 1.0))
    usual = place.till.row

    def crowd(at: float) -> Sample:
        row = usual(at)
        if at < now + 240:
            return row
        return Sample(at, row.value / 0.6, (row.n or 0) / 0.6)

    place.till.row = crowd  # type: ignore[method-assign]
    await minutes(17)
    verdict = place.watch().verdict
    assert verdict is not None
    assert verdict.word == "undecided"
    assert "bots, or a promotion?" in verdict.sentence
    assert place.rollbacks() == []


@virtual
async def test_the_first_of_two_deployments_is_not_blamed_for_the_second(shop: Shop) -> None:
    now = deployed(shop)
    place = Place(shop, lambda at: 0.03 * (0.6 if at >= now + 480 else 1.0))
    await minutes(8)
    assert shop.deploy is not None
    shop.deploy.put("v3")
    shop.deploy.change("d3", at=shop.clock.now())
    shop.seen()
    await place.room.until(place.rollbacks, 900)
    assert [act.expected for act in place.rollbacks()] == ["d3"]
    await minutes(10)
    assert place.watch("d2").verdicts["conversion"].word != "regressed"
    assert place.watch("d3").verdicts["conversion"].word == "regressed"
