"""Acts under 2,000 hostile schedules: none fires twice, undoes a newer deployment, is lost or swallowed.

Each guard has a mutant: with the guard off, the same run must fail. A seed is all that is needed to run one again:
`World(seed).run().faults()`.
"""

import sqlite3

import pytest

from adapters.sqlite import SqliteLedger
from andon.events import ActAsked, Event
from andon.model import to_json
from tests.simulation import World

SCHEDULES = 2000
MUTANT_SCHEDULES = 400


def tier(seed: int) -> str:
    """Three in four targets compare the deployment id; the others compare nothing."""
    return "nothing" if seed % 4 == 3 else "id"


def test_two_thousand_hostile_schedules_hold() -> None:
    seen: dict[str, int] = {}
    for seed in range(SCHEDULES):
        world = World(seed, compares=tier(seed)).run()
        assert world.faults() == [], f"World({seed}, compares={tier(seed)!r}).run().faults()"
        for name, count in world.counted.items():
            seen[name] = seen.get(name, 0) + count
    assert all(count > 100 for count in seen.values()), f"a fault was hardly met: {seen}"


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
