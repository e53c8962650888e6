"""Acts under ten thousand hostile schedules: none fires twice, undoes a newer deployment, is lost or swallowed.

Each guard has a mutant: with the guard off, the same run must fail. A seed is all that is needed to run one again:
`World(seed, compares=…).run().faults()`. Zero faults in 10,000 bound their rate by 3 in 10,000 (95 %), in the nightly
100,000 by 3 in 100,000.
"""

import sqlite3
from typing import Any

import pytest

from adapters.sqlite import SqliteLedger
from andon.events import ActAsked, Event
from andon.model import to_json
from tests.memory import MemoryLedger
from tests.simulation import LINE, World

CHUNK = 1000
SCHEDULES = 10_000
NIGHTLY = 100_000
ON_SQLITE = 8
"""One schedule in so many has the ledger that people have; the others have one in plain memory, which decides the same."""
MUTANT_SCHEDULES = 400


def tier(seed: int) -> str:
    """Three in four targets compare the deployment id; the others compare nothing. Half of each know keys."""
    return "nothing" if seed % 4 == 3 else "id"


def store(seed: int) -> type[Any]:
    return SqliteLedger if seed // 4 % ON_SQLITE == 0 else MemoryLedger


def _hold(first: int) -> None:
    seen: dict[str, int] = {}
    for seed in range(first, first + CHUNK):
        world = World(seed, compares=tier(seed), ledger=store(seed)).run()
        assert world.faults() == [], f"World({seed}, compares={tier(seed)!r}).run().faults()"
        for name, count in world.counted.items():
            seen[name] = seen.get(name, 0) + count
    assert all(count > 50 for count in seen.values()), f"a fault was hardly met: {seen}"


@pytest.mark.parametrize("first", range(0, SCHEDULES, CHUNK))
def test_ten_thousand_hostile_schedules_hold(first: int) -> None:
    _hold(first)


@pytest.mark.nightly
@pytest.mark.parametrize("first", range(SCHEDULES, NIGHTLY, CHUNK))
def test_a_hundred_thousand_hostile_schedules_hold(first: int) -> None:
    _hold(first)


def _outcome(world: World) -> tuple[Any, ...]:
    acts = world.board.line(LINE).acts.values()
    return (
        world.counted,
        world.swallowed,
        [(act.kind, act.target, act.state, act.words, act.sent_at, act.settled_at) for act in acts],
        [(effect.expected, effect.replaced, effect.version, effect.at) for effect in world.target.effects],
        [bool(stand.note) for stand in world.stands],
        world.loop.now,
    )


def test_a_schedule_is_the_same_on_either_ledger_and_each_time() -> None:
    for seed in range(60):
        ends = [
            _outcome(World(seed, compares=tier(seed), ledger=ledger).run())
            for ledger in (SqliteLedger, MemoryLedger, MemoryLedger)
        ]
        assert ends[0] == ends[1] == ends[2], f"seed {seed}"


class WithoutClaim(SqliteLedger):
    """Any number of unsettled acts about the same."""

    def _claim(self, db: sqlite3.Connection, event: Event) -> None:
        if isinstance(event, ActAsked):
            act = event.act
            db.execute("INSERT INTO acts VALUES (?, ?, ?, ?)", (act.id, act.id, act.state, to_json(act)))
        else:
            super()._claim(db, event)


class EndlessClaim(SqliteLedger):
    """A claim that a settled act keeps."""

    def _open(self) -> sqlite3.Connection:
        db = super()._open()
        db.execute("DROP INDEX one_unsettled_act")
        db.execute("CREATE UNIQUE INDEX one_unsettled_act ON acts (claim)")
        return db


@pytest.mark.parametrize(
    ("compares", "ledger", "fault"),
    [
        pytest.param("nothing", WithoutClaim, "double fire", id="without the claim"),
        pytest.param("ignored", SqliteLedger, "undone", id="without compare-and-set"),
        pytest.param("version", SqliteLedger, "undone", id="with version labels instead of deployment ids"),
        pytest.param("id", EndlessClaim, "swallowed", id="with a claim that never ends"),
    ],
)
def test_without_a_guard_the_same_run_fails(compares: str, ledger: type[SqliteLedger], fault: str) -> None:
    for seed in range(MUTANT_SCHEDULES):
        faults = World(seed, compares=compares, ledger=ledger).run().faults()
        if any(words.startswith(fault) for words in faults):
            return
    pytest.fail(f"{MUTANT_SCHEDULES} schedules without the guard, and no {fault}")
