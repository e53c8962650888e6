"""Which version a rollback returns to, over hundreds of histories drawn by chance: never one that is bad, gone, not to be
trusted or behind what cannot be undone; and no rollback is undone by itself.
"""

import random

import pytest

from andon import rollback
from andon.board import Board, Line
from andon.events import DeploymentSeen, Event, Judged, Marked, WatchOpened
from andon.model import Deployment, Verdict
from tests.fakes import LINE

NOW, DAY = 50_000_000.0, 86400.0
HISTORIES = 300


def history(seed: int) -> Line:
    """Up to 25 deployments of up to 6 versions, with all that can be said of them."""
    dice, events = random.Random(seed), list[Event]()
    count = dice.randint(2, 25)
    for number in range(count):
        id_, version, at = f"d{number}", f"v{dice.randint(1, 6)}", NOW - (count - number) * DAY
        state = dice.choices(["settled", "rolling", "failed"], [8, 1, 1])[0]
        available, verified = dice.random() < 0.85, dice.choice([None, None, True, False])
        item = Deployment(id_, version, state, at, verified=verified, available=available, back=dice.random() < 0.1)  # type: ignore[arg-type]
        events.append(DeploymentSeen(line=LINE, at=at, source="prod", deployment=item))
        if dice.random() < 0.7:
            verdict = Verdict(dice.choice(["healthy", "regressed", "undecided", "blind"]), "said")  # type: ignore[arg-type]
            events.append(WatchOpened(line=LINE, at=at, deployment=id_, version=version, until=at + 900, began=at))
            events.append(Judged(LINE, at + 900, id_, verdict, final=dice.random() < 0.9))
        if dice.random() < 0.25:
            mark = dice.choice(["good", "faulty", "irreversible"])
            events.append(Marked(LINE, at + dice.uniform(0, 5 * DAY), id_, version, mark, "ann", "x"))  # type: ignore[arg-type]
    board = Board()
    for event in events:
        board = board.apply(event)
    return board.line(LINE)


def bad(line: Line, found: rollback.Target) -> list[str]:
    """Every reason for which that must not be the version to return to; told from the line, not from the rules."""
    to, current, ids = found.to, found.current, [item.id for item in line.deployments]
    after = line.deployments[ids.index(to.id) + 1 : ids.index(current.id) + 1]
    of_it = [mark for mark in line.marks.values() if mark.version == to.version]
    watch, mark = line.watches.get(to.id), line.marks.get(to.id)
    word = watch.verdict.word if watch and watch.verdict else ""
    good = mark is not None and mark.mark == "good"
    reasons = {
        "the same version": to.version == current.version,
        "not older": ids.index(to.id) >= ids.index(current.id),
        "never ran": to.state != "settled",
        "its artefact is gone": not to.available,
        "marked faulty": bool(of_it) and max(of_it, key=lambda item: item.at).mark == "faulty",
        "it regressed": word == "regressed" and not good,
        "behind what cannot be undone": any(item.id in line.barriers for item in after),
        "undoes a rollback": current.back,
        "trusted without a reason": found.basis in rollback.TRUSTED
        and not (good or to.verified or (word == "healthy" and watch is not None and watch.ended)),
    }
    return [reason for reason, is_so in reasons.items() if is_so]


def test_no_history_leads_back_to_what_is_bad() -> None:
    bases = dict.fromkeys(("healthy", "good", "vendor", "unjudged", "success", "nothing"), 0)
    for seed in range(HISTORIES):
        line = history(seed)
        found = rollback.target(line, NOW)
        bases[found.basis if isinstance(found, rollback.Target) else "nothing"] += 1
        assert isinstance(found, rollback.Nothing) or bad(line, found) == [], f"history {seed}: {found}"
    assert min(bases.values()) > 0, f"each way of choosing was met: {bases}"


@pytest.mark.parametrize(
    ("guard", "reason"), [("_is_faulty", "marked faulty"), ("_irreversible", "behind what cannot be undone")]
)
def test_mutant_without_a_rule_is_seen(monkeypatch: pytest.MonkeyPatch, guard: str, reason: str) -> None:
    monkeypatch.setattr(rollback, guard, lambda *_: None)
    lines = [history(seed) for seed in range(HISTORIES)]
    found = [(line, target) for line in lines if isinstance(target := rollback.target(line, NOW), rollback.Target)]
    assert any(reason in bad(line, target) for line, target in found)
