"""The same simulation, told step by step by Hypothesis: what goes wrong is shrunk to the few steps that it takes.

People press, requests are lost or come late, rooms die at a step that is named, newer deployments land, time passes. At
the end nothing may have fired twice, undone a newer deployment, or be lost or swallowed.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from andon.model import Act
from tests.memory import MemoryLedger
from tests.simulation import FATES, LINE, Process, World

WHO = st.sampled_from(["ann", "bo"])
QUICK = settings(max_examples=60, stateful_step_count=25, suppress_health_check=list(HealthCheck))
LONG = settings(max_examples=4000, stateful_step_count=40, suppress_health_check=list(HealthCheck))
MUTANT = settings(
    max_examples=4000,
    stateful_step_count=25,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
)


class Told(World):
    """A schedule that is told: what is not said goes well."""

    def __init__(self, compares: str, keys: bool, names: list[str]) -> None:
        super().__init__(0, compares=compares, ledger=MemoryLedger)
        self.keys, self.names, self.rolling = keys, names, False
        self.fates: dict[str, deque[tuple[str, float]]] = {"deploy": deque(), "stand": deque()}
        self.delay = 0.0
        self.reads_to_fail = 0
        self.doomed: dict[str, int] = {}
        self.pressed: list[asyncio.Task[Any]] = []

    def fate(self, what: str) -> str:
        name, self.delay = self.fates[what].popleft() if self.fates[what] else ("fine", 0.0)
        return name

    def between(self, least: float, most: float) -> float:
        return least + (most - least) * self.delay

    def unreadable(self) -> bool:
        self.reads_to_fail -= 1
        return self.reads_to_fail >= 0

    def dies(self, process: Process) -> bool:
        left = self.doomed.get(process.who)
        if left is None:
            return False
        if left:
            self.doomed[process.who] = left - 1
            return False
        del self.doomed[process.who]
        return True

    # ---- from outside the loop

    def start(self) -> None:
        async def rooms() -> None:
            self._begin()
            self.rooms = {who: Process(self, who) for who in ("ann", "bo")}

        self.loop.run_until_complete(rooms())

    def press(self, work: Coroutine[Any, Any, Any]) -> None:
        """Somebody presses; what becomes of it is seen while time passes."""
        self.pressed.append(self.loop.create_task(work))
        self.passes(0.0)

    def passes(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def finish(self) -> None:
        async def end() -> None:
            self.fates["deploy"].clear()
            self.fates["stand"].clear()
            self.doomed.clear()
            self.reads_to_fail = 0
            await asyncio.gather(*self.pressed)
            await self._end()

        self.loop.run_until_complete(end())

    def close(self) -> None:
        self.loop.close()


class Acts(RuleBasedStateMachine):
    """What may happen, in any order."""

    compares = ("id", "id", "nothing")

    @initialize(choice=st.integers(0, 2), keys=st.booleans(), stands=st.integers(1, 2))
    def begins(self, choice: int, keys: bool, stands: int) -> None:
        self.world = Told(self.compares[choice], keys, ["deploy", "cron"][:stands])
        self.world.start()

    @rule(who=WHO)
    def f9(self, who: str) -> None:
        self.world.press(self.world._f9(who))

    @rule(who=WHO, grace_s=st.sampled_from([0.0, 3.0]))
    def f4(self, who: str, grace_s: float) -> None:
        self.world.press(self.world._press(who, lambda room: self._rolls_back(room, who, grace_s)))

    @staticmethod
    def _rolls_back(room: Process, who: str, grace_s: float) -> Coroutine[Any, Any, Act]:
        return room.shipper.rollback(LINE, who, "falls", grace_s=grace_s)

    @precondition(lambda self: self.world.read_on().line(LINE).unsettled("rollback"))
    @rule(who=WHO)
    def esc(self, who: str) -> None:
        for act in self.world.read_on().line(LINE).unsettled("rollback"):
            self.world.press(self.world._press(who, lambda room, act=act: room.door.withdraw(act, who)))

    @rule(who=WHO)
    def resume(self, who: str) -> None:
        self.world.press(self.world._resume(who))

    @rule(version=st.sampled_from(["v1", "v2", "v3"]))
    def newer_lands(self, version: str) -> None:
        if version != self.world.target.current().version:
            self.world.target.put(version, "pipeline")

    @rule(what=st.sampled_from(["deploy", "stand"]), fate=st.sampled_from(list(FATES)), delay=st.floats(0, 1))
    def next_request(self, what: str, fate: str, delay: float) -> None:
        self.world.fates[what].append((fate, delay))

    @rule(times=st.integers(1, 4))
    def reads_fail(self, times: int) -> None:
        self.world.reads_to_fail = times

    @rule(who=WHO, steps=st.integers(0, 12))
    def dies(self, who: str, steps: int) -> None:
        self.world.doomed[who] = steps

    @precondition(lambda self: any(room.dead for room in self.world.rooms.values()))
    @rule()
    def comes_back(self) -> None:
        async def again() -> None:
            for who, room in self.world.rooms.items():
                if room.dead:
                    self.world.rooms[who] = Process(self.world, who)

        self.world.loop.run_until_complete(again())

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.5, 2.0, 5.0, 20.0, 60.0]))
    def passes(self, seconds: float) -> None:
        self.world.passes(seconds)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            try:
                self.world.finish()
                if faults := self.world.faults():
                    raise AssertionError("; ".join(faults))
            finally:
                self.world.close()


class OnIgnoring(Acts):
    """The guard is off: the target says that it compares, and does not."""

    compares = ("ignored", "ignored", "ignored")


def test_told_step_by_step_it_holds() -> None:
    run_state_machine_as_test(Acts, settings=QUICK)


@pytest.mark.nightly
def test_told_step_by_step_it_holds_for_long() -> None:
    run_state_machine_as_test(Acts, settings=LONG)


def test_without_compare_and_set_the_same_machine_fails() -> None:
    with pytest.raises(AssertionError, match="undone"):
        run_state_machine_as_test(OnIgnoring, settings=MUTANT)
