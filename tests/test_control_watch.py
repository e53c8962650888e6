"""A deployment watched beside a control, in virtual time over a real ledger: found, acted on, replayed, and not fooled."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from andon.board import Watch
from andon.events import Armed, Judged
from andon.immune.control_pursuit import ControlPursuit, pursuit_of
from andon.immune.statistical import Sentences
from andon.model import Control, Metric, Sample, Samples, Verdict
from andon.ports import Can
from tests.fakes import LINE, Shop, virtual
from tests.test_statistical import ORDERS, Place, deployed, minutes

BESIDE = msgspec.structs.replace(ORDERS, value="canary", n="visits", control=Control("stable", "stable visits"))
EVERY = BESIDE.every
SHARE = 0.03
Share = Callable[[float], float]


class Sides:
    """A metrics source that knows both sides; the same when asked again. `common` is what both have in common."""

    can = Can(history_s=15 * 86_400.0)

    def __init__(self, shop: Shop, canary: Share, common: Share, visits: float) -> None:
        self.shop, self.canary, self.common, self.visits = shop, canary, common, visits
        self.since = -1e18
        """The canary stands beside its control only from then on."""
        self.missing: Callable[[float], bool] = lambda _: False
        """Which buckets of the control are missing."""

    def row(self, metric: Metric, at: float) -> Sample | None:
        stable = metric.value == "stable"
        if self.missing(at) if stable else at < self.since:
            return None
        rng = np.random.default_rng(int(at) + (77 if stable else 10_000_000))
        trials = int(rng.poisson(self.visits))
        share = SHARE * self.common(at) * (1.0 if stable else self.canary(at))
        return Sample(at, float(rng.binomial(trials, share)), float(trials))

    async def samples(self, metric: Metric, start: float, end: float, every: float) -> Samples:
        await asyncio.sleep(0)
        closed = min(end, self.shop.clock.now() // every * every)
        ats = [start + i * every for i in range(max(0, round((closed - start) / every)))]
        return Samples("ok", tuple(row for at in ats if (row := self.row(metric, at)) is not None))


class Beside(Place):
    """A line whose metric has a control."""

    def __init__(
        self,
        shop: Shop,
        canary: Share,
        common: Share = lambda _: 1.0,
        *,
        visits: float = 5000.0,
        canary_s: float = 0.0,
        **sides: Any,
    ) -> None:
        shop.lines[LINE] = msgspec.structs.replace(shop.lines[LINE], canary_s=canary_s)
        self.sides = Sides(shop, canary, common, visits)
        for name, value in sides.items():
            setattr(self.sides, name, value)
        super().__init__(shop, lambda _: SHARE, BESIDE)

    def start(self, who: str = "immune-1") -> None:
        self.till = self.sides  # type: ignore[assignment]
        self.shop.meters["meter"] = self.sides  # type: ignore[assignment]
        super().start(who)

    async def _keep(self) -> None:
        """Keep each closed bucket of both sides, as the duty does."""
        at = (self.shop.clock.now() - 3600) // EVERY * EVERY
        while True:
            while at + EVERY + BESIDE.lag <= self.shop.clock.now():
                for one in self.shop.lines[LINE].measured:
                    row = self.sides.row(one, at)
                    if row is not None:
                        self.shop.ledger.keep(f"{LINE}/{one.name}", [row])
                at += EVERY
            await asyncio.sleep(1)
            self.watcher.look(LINE)

    def ended(self) -> Verdict:
        verdict = self.watch().verdict
        assert verdict is not None
        return verdict


@virtual
async def test_a_canary_that_is_worse_than_its_control_is_found_and_rolled_back_once(shop: Shop) -> None:
    now = deployed(shop)
    place = Beside(shop, lambda at: 0.6 if at >= now else 1.0)
    await place.room.until(place.rollbacks, 900)
    assert shop.clock.now() - now < 8 * 60
    verdict = place.watch().verdicts["conversion"]
    assert verdict.word == "regressed"
    for part in ("conversion 1.", " beside 2.", " of its control, -3", "anytime-valid, from ", "after v2"):
        assert part in verdict.sentence, verdict.sentence
    assert [hold.owner for hold in place.room.line.open_holds] == ["immune"]
    await minutes(5)
    assert len(place.rollbacks()) == 1


@virtual
async def test_what_hits_both_sides_alike_is_nobodys_fault(shop: Shop) -> None:
    now = deployed(shop)
    place = Beside(shop, lambda _: 1.0, lambda at: 0.2 if at >= now + 120 else 1.0)
    await minutes(17)
    assert place.ended().word == "healthy", place.ended().sentence
    assert ", its control 0." in place.ended().sentence
    assert place.rollbacks() == []


@virtual
async def test_without_its_control_it_is_blind_and_nothing_is_done_however_bad_it_is(shop: Shop) -> None:
    now = deployed(shop)
    place = Beside(shop, lambda at: 0.1 if at >= now else 1.0, missing=lambda at: at >= now - EVERY)
    await minutes(17)
    assert place.ended().word == "blind", place.ended().sentence
    assert "its control was not measured" in place.ended().sentence
    assert place.rollbacks() == []
    assert place.room.line.open_holds == ()


@virtual
async def test_buckets_that_lack_their_control_are_no_evidence(shop: Shop) -> None:
    """Two of three have none: of what is left nothing is made, however bad it is."""
    now = deployed(shop)
    place = Beside(
        shop, lambda at: 0.1 if at >= now else 1.0, missing=lambda at: at >= now and round(at / EVERY) % 3 > 0
    )
    await minutes(17)
    assert place.ended().word == "undecided", place.ended().sentence
    assert "buckets, of the canary or of its control, are missing" in place.ended().sentence
    assert place.rollbacks() == []


@virtual
async def test_a_control_that_dies_in_the_watch_is_told_and_nothing_is_done(shop: Shop) -> None:
    now = deployed(shop)
    place = Beside(shop, lambda at: 0.5 if at >= now + 180 else 1.0, missing=lambda at: at >= now + 120)
    place.watcher.gone[(LINE, "conversion (control)")] = "prometheus: connection refused"
    await minutes(17)
    assert place.ended().word == "blind", place.ended().sentence
    assert "its control: prometheus: connection refused for 1" in place.ended().sentence
    assert place.rollbacks() == []


@virtual
async def test_a_canary_that_was_worse_before_is_not_blamed_on_the_deployment(shop: Shop) -> None:
    now = deployed(shop)
    place = Beside(shop, lambda at: 0.6 if at >= now - 1500 else 1.0)
    await minutes(17)
    assert place.ended().word == "undecided", place.ended().sentence
    assert "was already -4" in place.ended().sentence
    assert place.rollbacks() == []


@virtual
async def test_a_canary_that_did_not_exist_before_is_compared_all_the_same(shop: Shop) -> None:
    now = deployed(shop)
    place = Beside(shop, lambda at: 0.6 if at >= now else 1.0, since=now)
    await place.room.until(place.rollbacks, 900)
    assert len(place.rollbacks()) == 1


@virtual
async def test_beside_a_control_a_deployment_is_watched_for_the_canary_window_alone(shop: Shop) -> None:
    now = deployed(shop)
    place = Beside(shop, lambda at: 0.6 if at >= now + 400 else 1.0, canary_s=360.0)
    await minutes(8.5)
    assert place.watch().ended
    assert place.ended().word == "healthy", place.ended().sentence
    assert place.rollbacks() == [], "what comes after its window is not looked at"


@virtual
async def test_little_traffic_beside_a_control_is_undecided_and_says_so(shop: Shop) -> None:
    deployed(shop)
    place = Beside(shop, lambda _: 1.0, visits=12.0)
    await minutes(17)
    assert place.ended().word == "undecided"
    assert "not less" in place.ended().sentence or "however large" in place.ended().sentence


@virtual
async def test_an_engine_that_takes_over_goes_on_with_the_same_control(shop: Shop) -> None:
    now = deployed(shop)
    place = Beside(shop, lambda at: 0.7 if at >= now else 1.0)
    await minutes(4)
    assert place.rollbacks() == []
    place.room.die()
    place.start("immune-2")
    await place.room.until(place.rollbacks, 900)
    assert [event.deployment for event in place.events(Armed)].count("d2") == 1
    assert len(place.rollbacks()) == 1


@virtual
@pytest.mark.parametrize("worse", [0.6, 1.0])
async def test_what_was_recorded_gives_the_same_verdict_again(shop: Shop, worse: float) -> None:
    now = deployed(shop)
    place = Beside(shop, lambda at: worse if at >= now else 1.0)
    await minutes(17)
    armed = next(event for event in place.events(Armed) if event.deployment == "d2")
    last = [event for event in place.events(Judged) if event.deployment == "d2" and event.verdict.metric][-1]
    recorded = last.verdict
    assert all(row.control for row in recorded.numbers)
    pursuit = pursuit_of(armed.record)
    assert isinstance(pursuit, ControlPursuit)
    for end in range(len(recorded.numbers)):
        await pursuit.follow(recorded.numbers[: end + 1], [], _here)
    said = Sentences(BESIDE, Watch("d2", "v2", now, now + 900), recorded.at)
    again = said.regressed(pursuit, pursuit.found) if pursuit.found else said.so_far(pursuit, "")
    assert again == recorded
    assert recorded.word == ("regressed" if worse < 1 else "healthy")
    # Without its control the same buckets say nothing.
    alone = pursuit_of(armed.record)
    await alone.follow([msgspec.structs.replace(row, control=()) for row in recorded.numbers], [], _here)
    assert (alone.found, alone.count) == (None, 0)


async def _here(work: Callable[..., Any], *args: Any) -> Any:
    return work(*args)
