"""No part of the engine dies in silence: each task is made to end by a fault, which is seen, and is at work again soon."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from andon import duty, feed
from andon.duty import Duty
from andon.engine import Engine
from andon.immune.watcher import Watcher
from tests.fakes import FakeMeter, Guard, Shop, play, virtual
from tests.helpers import wait_until
from tests.test_engine import Outside, QuickClock, opened, pulse, small

RESTART_S, SEEN_S = 5.0, 15.0
"""Promised: restarted within five seconds, seen within three intervals of five."""

TASKS: dict[str, tuple[Any, str]] = {
    "shop/ci/deploy": (feed, "follow"),
    "shop/prod": (feed, "follow"),
    "shop/ci/deploy halted": (Duty, "_read_halted"),
    "shop/conversion": (Duty, "_ask_samples"),
    "shop/judge": (Watcher, "open_watches"),
    "clocks": (Duty, "_compare"),
}


class Fault:
    """What is called as ever, but for one time, in which it ends by a fault some seconds later."""

    def __init__(self, true: Callable[..., Awaitable[Any]], clock: Any, task: str) -> None:
        self.true, self.clock, self.task = true, clock, task
        self.at = 0.0
        self.again = 0.0

    async def call(self, *given: Any) -> Any:
        running = asyncio.current_task()
        if self.task != "clocks" and (running is None or running.get_name() != self.task):
            return await self.true(*given)
        if not self.at:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.true(*given), 3)
            self.at = self.clock.now()
            raise ZeroDivisionError
        self.again = self.again or self.clock.now()
        return await self.true(*given)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_of_the_duty_that_dies_is_seen_and_begins_again(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(shop: Shop) -> None:
        shop.ships("v1", "v2")
        shop.meters["meter"] = FakeMeter(shop.clock, lambda _: 0.031)
        place, name = TASKS[task]
        fault = Fault(getattr(place, name), shop.clock, task)

        async def call(*given: Any) -> Any:
            return await fault.call(*given)

        monkeypatch.setattr(place, name, call)
        guard = Guard(shop)
        await guard.room.until(lambda: fault.at, 120)
        await guard.room.until(lambda: f"task:{task}" in guard.room.pulses, SEEN_S)
        assert guard.room.pulses[f"task:{task}"].words == "ZeroDivisionError"
        await guard.room.until(lambda: fault.again, 120)
        assert fault.again - fault.at <= RESTART_S

    play(work)


@virtual
async def test_mutant_that_nobody_supervises_stays_dead(shop: Shop) -> None:
    shop.meters["meter"] = FakeMeter(shop.clock, lambda _: 0.031)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duty, "RESTART_S", 1e6)
        patch.setattr(Duty, "_read_halted", None)
        guard = Guard(shop)
        await guard.room.until(lambda: "task:shop/ci/deploy halted" in guard.room.pulses, SEEN_S)
    await asyncio.sleep(60)
    assert "target:ci/deploy" not in guard.room.pulses


@pytest.mark.parametrize(("task", "name"), [("lease", "_keep_lease"), ("recovery", "_recover"), ("view", "_look")])
def test_a_task_of_the_engine_that_fails_is_seen_and_goes_on(
    tmp_path: Path, task: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = QuickClock(20.0)
    true, calls = getattr(Engine, name), []

    async def fails(self: Engine) -> None:
        calls.append(self)
        if len(calls) == 2:
            raise ZeroDivisionError
        await true(self)

    monkeypatch.setattr(Engine, name, fails)
    with opened(small(tmp_path / "andon.yaml", Outside(clock)), tmp_path / "ledger.db", clock) as engine:
        wait_until(lambda: pulse(engine, f"task:{task}"), 30)
        assert pulse(engine, f"task:{task}").words == "ZeroDivisionError"
        wait_until(lambda: len(calls) > 4 and engine.view.here, 30)
