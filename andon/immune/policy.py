"""What is done about a verdict: the safety rules that are never bent, one after the other.

A rollback needs every one of them; a rule that does not hold turns it into a stop with advice, and says which. `blind`
never rolls back.
"""

from collections.abc import Mapping

import msgspec

from andon import rollback
from andon.board import Board, Line
from andon.clock import Time, long_age
from andon.config import LineConfig
from andon.model import Deployment, Metric, Verdict
from andon.ports import Can

BUDGET = 2
BUDGET_S = 3600.0
"""At most two automatic rollbacks per line and hour; then advice only."""
MASS_S = 60.0
"""Regressions on several lines within this time are a broken measurement until shown otherwise."""
SKEW_OFF_S = 30.0
"""A source's clock further off than this turns automatic action off."""
IMMUNE = "immune"
"""The owner of the immune system's holds, and the asker of its acts."""


class Decision(msgspec.Struct, frozen=True):
    """What to do about a verdict, and the words for the record."""

    stop: bool
    rollback: bool
    words: str


def decide(
    board: Board,
    config: LineConfig,
    metric: Metric,
    verdict: Verdict,
    deployment: Deployment,
    can: Can | None,
    skew_s: Mapping[str, float],
    now: Time,
    together: str = "",
) -> Decision:
    """What the policy does about one metric's verdict on one deployment.

    `together` names a line whose metric left its bounds at the same time, whether or not a deployment is watched there.
    """
    if verdict.word == "blind":
        return Decision(metric.on_blind == "stop", False, "stopped: blind" if metric.on_blind == "stop" else "told")
    if verdict.word != "regressed":
        return Decision(False, False, "")
    if metric.on_regression == "tell":
        return Decision(False, False, "told")
    if metric.on_regression == "stop":
        return Decision(True, False, "stopped; a person decides")
    if not rolls_back(board.line(config.name), config, metric):
        seen = watched(board.line(config.name))
        words = f"shadow, {seen} of {config.shadow} deployments watched: would have stopped and rolled back"
        return Decision(False, False, words)
    reason = _stale(metric, verdict, now) or why_not(board, config, deployment, can, skew_s, now, together)
    if reason:
        return Decision(True, False, f"stopped, not rolled back: {reason}")
    return Decision(True, True, "stopped and rolled back")


def rolls_back(line: Line, config: LineConfig, metric: Metric) -> bool:
    """Whether a regression of that metric may lead to a rollback at all: it is configured, and not in shadow."""
    if metric.on_regression != "rollback":
        return False
    return metric.threshold is not None or watched(line) >= config.shadow


def watched(line: Line) -> int:
    """How many deployments of a line were watched to the end; until there are enough the judge says what it would do."""
    return sum(watch.ended for watch in line.watches.values())


def why_not(
    board: Board,
    config: LineConfig,
    deployment: Deployment,
    can: Can | None,
    skew_s: Mapping[str, float],
    now: Time,
    together: str = "",
    at: Time | None = None,
) -> str:
    """Which rule forbids an automatic rollback of that deployment; empty: none. `at`: when it was found, if not now."""
    line = board.line(config.name)
    current = line.current
    if current is None or current.id != deployment.id:
        return f"{rollback.short(current.version)} runs now" if current else "nothing runs there"
    if line.went_back(current):
        return "it is itself a rollback"
    if any(act.auto and act.kind == "rollback" and act.expected == deployment.id for act in line.acts.values()):
        return "it was rolled back once already"
    recent = [act for act in line.acts.values() if act.auto and act.kind == "rollback" and now - act.at < BUDGET_S]
    if len(recent) >= BUDGET:
        return f"{BUDGET} automatic rollbacks within {long_age(BUDGET_S)}: advice only"
    skewed = [name for name, seconds in skew_s.items() if abs(seconds) > SKEW_OFF_S]
    if skewed:
        return f"auto off: the clock of {skewed[0]} is {abs(skew_s[skewed[0]]):.0f} s off"
    everywhere = together or _regressed_elsewhere(board, config.name, now if at is None else at)
    if everywhere:
        return f"{everywhere} regressed in the same minute: a broken measurement, until shown otherwise"
    found = rollback.target(line, now)
    if isinstance(found, rollback.Nothing):
        return found.why
    if found.basis not in rollback.TRUSTED:
        return f"{rollback.short(found.to.version)} {found.words}: only a person may return to it"
    return _unsafe(config, can)


def _stale(metric: Metric, verdict: Verdict, now: Time) -> str:
    """Why the numbers of a verdict are too old to act on, as after an outage; empty: they are not."""
    for_s = metric.threshold.for_s if metric.threshold else 2 * metric.every
    old_s = now - (verdict.numbers[-1].at + metric.every) if verdict.numbers else 0.0
    return f"the newest number is {long_age(old_s)} old" if old_s > metric.lag + for_s else ""


def _unsafe(config: LineConfig, can: Can | None) -> str:
    """Why a newer deployment could be undone by an automatic rollback; empty: it cannot."""
    if can is None:
        return "the line has no deploy target"
    if can.compare_and_set:
        return ""
    if config.deploy is None or not config.deploy.only_way_in:
        return "the target does not compare deployment ids, and the config does not say `only_way_in: true`"
    return "" if config.targets else "the target does not compare deployment ids, and nothing is halted by a stop"


def _regressed_elsewhere(board: Board, name: str, at: Time) -> str:
    """Another line that regressed in the same minute; empty: none."""
    for line in board.lines.values():
        if line.name != name and _regressed_then(line, at):
            return line.name
    return ""


def _regressed_then(line: Line, at: Time) -> bool:
    verdicts = (verdict for watch in line.watches.values() for verdict in watch.verdicts.values())
    return any(verdict.word == "regressed" and abs(at - verdict.at) < MASS_S for verdict in verdicts)
