"""Following sources in virtual time: what is said when one goes and comes back, and how patiently it is asked again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from andon import feed
from andon.config import Config
from andon.duty import Duty, next_bucket
from andon.feed import DENIED_S, MOST_S, SILENT_S
from andon.model import Deployment
from andon.ports import Denied, Fact, Garbled, LedgerUnusable, Unreachable, Wait
from tests.fakes import LINE, Room, Shop, virtual

ONE = Deployment(id="d1", version="v1", state="settled")
Step = Fact | Wait | Exception | float
"""What a source says, how it fails, or for how many seconds it says nothing."""


@dataclass
class Source:
    """Plays one script after the other, one for each time it is watched; the last one for ever."""

    shop: Shop
    scripts: list[list[Step]]
    watched_at: list[float] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    said: list[tuple[str, str]] = field(default_factory=list)
    closed: int = 0
    on_fact: Callable[[Fact], Any] | None = None

    async def watch(self) -> AsyncIterator[Fact | Wait]:
        self.watched_at.append(self.shop.clock.now())
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        try:
            for step in script:
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, float):
                    await asyncio.sleep(step)
                else:
                    yield step
        finally:
            self.closed += 1

    async def fact(self, fact: Fact) -> None:
        if self.on_fact is not None:
            self.on_fact(fact)
        self.facts.append(fact)

    async def state(self, word: str, words: str) -> None:
        self.said.append((word, words))

    async def follow(self, seconds: float, every_s: float = 5.0) -> None:
        """Follow it for so long."""
        try:
            async with asyncio.timeout(seconds):
                await feed.follow(self.watch, self.shop.clock, every_s, self.fact, self.state)
        except TimeoutError:
            return

    @property
    def turns(self) -> list[str]:
        """The words it said, without repetitions in a row."""
        words = [word for word, _ in self.said]
        return [word for index, word in enumerate(words) if index == 0 or words[index - 1] != word]

    @property
    def pauses(self) -> list[float]:
        """Seconds between one watching and the next."""
        return [later - earlier for earlier, later in zip(self.watched_at, self.watched_at[1:], strict=False)]


@virtual
async def test_facts_are_passed_on_and_the_rhythm_is_the_feeds(shop: Shop) -> None:
    source = Source(shop, [[ONE, Wait(1.0)] * 100])
    await source.follow(21.0)
    assert len(source.facts) == 5
    assert source.turns == ["ok"]


@virtual
async def test_a_source_that_asks_for_longer_is_asked_less_often(shop: Shop) -> None:
    source = Source(shop, [[ONE, Wait(10.0)] * 100])
    await source.follow(21.0)
    assert len(source.facts) == 3


@virtual
async def test_a_sign_of_life_does_not_pause_a_stream(shop: Shop) -> None:
    source = Source(shop, [[Wait(0), ONE, Wait(0), ONE, Wait(0), 1000.0]])
    await source.follow(1.0)
    assert len(source.facts) == 2


@pytest.mark.parametrize(
    ("error", "word", "words"),
    [
        (Unreachable("connection refused"), "gone", "connection refused"),
        (Unreachable(), "gone", "does not answer"),
        (Denied("token env:X was not accepted"), "denied", "token env:X was not accepted"),
        (Garbled("HTML, not JSON"), "error", "HTML, not JSON"),
        (KeyError("id"), "error", "its adapter failed: KeyError"),
        (TimeoutError(), "error", "its adapter failed: TimeoutError"),
        (RecursionError("deep"), "error", "its adapter failed: RecursionError"),
    ],
)
@virtual
async def test_what_goes_wrong_is_said_in_its_own_word(shop: Shop, error: Exception, word: str, words: str) -> None:
    source = Source(shop, [[ONE, Wait(1), error], [ONE, Wait(1), 1e6]])
    await source.follow(100)
    assert source.turns == ["ok", word, "ok"]
    assert (word, words) in source.said


@virtual
async def test_a_watch_that_raises_when_it_is_called_is_told_too(shop: Shop) -> None:
    source = Source(shop, [[]])

    def broken() -> AsyncIterator[Fact | Wait]:
        raise AttributeError("no such thing")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(10):
            await feed.follow(broken, shop.clock, 5.0, source.fact, source.state)
    assert source.turns == ["error"]


@virtual
async def test_the_pause_doubles_to_half_a_minute(shop: Shop) -> None:
    source = Source(shop, [[Unreachable("no route")]])
    await source.follow(300)
    for pause, usual in zip(source.pauses, [1, 2, 4, 8, 16, 30, 30, 30], strict=False):
        assert 0.8 * usual <= pause <= 1.2 * usual
    assert len(source.pauses) >= 8


@virtual
async def test_after_a_good_while_the_pause_begins_small_again(shop: Shop) -> None:
    lived: list[Step] = [ONE, *[Wait(5.0)] * 10, Unreachable("no route")]
    down: list[list[Step]] = [[Unreachable("no route")]] * 4
    source = Source(shop, [*down, lived, [1e6]])
    await source.follow(600)
    assert source.pauses[3] > 6
    assert source.pauses[4] < 55 + 2


@virtual
async def test_a_stream_that_always_breaks_after_its_first_words_is_not_hammered(shop: Shop) -> None:
    source = Source(shop, [[ONE, Wait(0), Unreachable("closed by the server")]])
    await source.follow(600)
    assert source.pauses[-1] >= 0.8 * MOST_S
    assert len(source.watched_at) < 30


@virtual
async def test_what_a_server_asks_for_is_kept(shop: Shop) -> None:
    busy = Unreachable("429")
    busy.retry_after_s = 45.0  # type: ignore[attr-defined]
    source = Source(shop, [[busy], [1e6]])
    await source.follow(100)
    assert source.pauses == pytest.approx([45.0], abs=0.1)


@virtual
async def test_a_refused_credential_is_tried_again_each_minute(shop: Shop) -> None:
    source = Source(shop, [[Denied("token env:X was not accepted")]])
    await source.follow(10 * DENIED_S + 1)
    assert source.pauses == pytest.approx([DENIED_S] * 10, abs=0.1)
    slow = Denied("too many tries")
    slow.retry_after_s = 600.0  # type: ignore[attr-defined]
    assert feed.Patience().next(slow) == 600.0


@virtual
async def test_a_stream_that_falls_silent_is_taken_for_dead(shop: Shop) -> None:
    source = Source(shop, [[ONE, 1e6], [ONE, Wait(0), 1e6]])
    await source.follow(SILENT_S + 10)
    assert ("gone", "said nothing for 120 s") in source.said
    assert source.turns == ["ok", "gone", "ok"]
    assert len(source.facts) == 2


@virtual
async def test_a_stream_that_ends_is_watched_again(shop: Shop) -> None:
    source = Source(shop, [[ONE]])
    await source.follow(21.0)
    assert source.pauses == pytest.approx([5.0] * 4)
    assert source.turns == ["ok"]


@virtual
async def test_a_stream_that_is_left_is_closed_at_once(shop: Shop) -> None:
    source = Source(shop, [[ONE, Wait(0), 1e6]])
    await source.follow(1.0)
    assert source.closed == 1

    def breaks(_: Fact) -> None:
        raise LedgerUnusable("the disk is full")

    source = Source(shop, [[ONE, ONE, ONE]], on_fact=breaks)
    with pytest.raises(LedgerUnusable):
        await source.follow(1.0)
    assert source.closed == 1


@virtual
async def test_a_ledger_that_cannot_be_written_is_not_laid_on_the_source(shop: Shop) -> None:
    def breaks(_: Fact) -> None:
        raise LedgerUnusable("the disk is full")

    source = Source(shop, [[ONE]], on_fact=breaks)
    with pytest.raises(LedgerUnusable):
        await source.follow(100)
    assert source.turns == []


@virtual
async def test_a_fact_that_cannot_be_kept_is_the_adapters_fault_and_is_told(shop: Shop) -> None:
    def breaks(_: Fact) -> None:
        raise ValueError("run-seen does not come back as it was written")

    source = Source(shop, [[ONE]], on_fact=breaks)
    await source.follow(100)
    assert source.turns == ["error"]


# ---- what the duty makes of it


def duty_of(shop: Shop, room: Room) -> Duty:
    from pathlib import Path

    from andon.stations import Stations

    config = Config(Path("andon.yaml"), lines=shop.lines)
    stations = Stations(config, shop.clock, Path())
    return Duty(config, stations, room, shop.clock, room.cord, room.shipper)  # type: ignore[arg-type]


def recorded(shop: Shop) -> list[str]:
    """What the ledger was told of sources."""
    import msgspec

    rows = [msgspec.json.decode(row.body) for row in shop.ledger.read(0) if row.kind == "source-seen"]
    return [f"{row['source']} {row['state']} {row.get('words', '')}".strip() for row in rows]


@virtual
async def test_gone_is_recorded_once_and_back_once(shop: Shop) -> None:
    duty = duty_of(shop, shop.room())
    for word in ("ok", "ok", "gone", "gone", "gone", "ok", "ok"):
        await duty.source_state(LINE, "prom", "metric conversion", word, "refused" if word == "gone" else "")  # type: ignore[arg-type]
        await asyncio.sleep(1)
    assert recorded(shop) == ["prom ok", "prom gone refused", "prom ok"]


@virtual
async def test_other_words_are_news(shop: Shop) -> None:
    duty = duty_of(shop, shop.room())
    await duty.source_state(LINE, "prom", "metric conversion", "gone", "refused")
    await duty.source_state(LINE, "prom", "metric conversion", "denied", "401")
    assert recorded(shop) == ["prom gone refused", "prom denied 401"]


@virtual
async def test_a_source_of_which_one_use_fails_does_not_flap(shop: Shop) -> None:
    """Its CI answers, its deployments do not: it is in trouble until both are well."""
    duty = duty_of(shop, shop.room())
    for _ in range(5):
        await duty.source_state(LINE, "bb", "ci bb", "ok", "")
        await duty.source_state(LINE, "bb", "deploy bb", "gone", "refused")
        await asyncio.sleep(5)
    assert recorded(shop) == ["bb ok", "bb gone refused"]
    pulse = duty.keeper.pulses[f"source:{LINE}/bb"]  # type: ignore[attr-defined]
    assert pulse.at == shop.clock.now() - 25
    await duty.source_state(LINE, "bb", "deploy bb", "ok", "")
    assert recorded(shop)[-1] == "bb ok"


@virtual
async def test_many_uses_at_once_say_it_once(shop: Shop) -> None:
    duty = duty_of(shop, shop.room())
    await asyncio.gather(*(duty.source_state(LINE, "bb", f"metric {i}", "gone", "refused") for i in range(20)))
    assert recorded(shop) == ["bb gone refused"]


@pytest.mark.parametrize(
    ("kept", "start"),
    [
        ([], 0.0),
        ([0.0, 60.0, 120.0], 180.0),
        ([0.0, 120.0], 60.0),
        ([60.0, 120.0], 180.0),
        ([0.0, 60.0, 120.0, 180.0, 240.0], 300.0),
    ],
)
def test_samples_are_asked_from_the_first_hole_on(kept: list[float], start: float) -> None:
    assert next_bucket(kept, 0.0, 300.0, 60.0, 300.0) == start


def test_an_old_hole_stays_a_gap() -> None:
    kept = [60.0 * i for i in range(100) if i != 3]
    assert next_bucket(kept, 0.0, 6000.0, 60.0, 6000.0) == 6000.0
