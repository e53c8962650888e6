"""The rules that are never bent, each taken away on its own from a case in which the immune system may roll back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from andon.board import Board
from andon.config import LineConfig
from andon.events import ActAsked, ActStepped, Event, Judged, WatchOpened
from andon.immune import policy
from andon.immune.policy import Decision
from andon.model import Act, Deployment, Metric, Sample, Verdict
from andon.ports import Can
from tests.fakes import CONVERSION, entry
from tests.test_rollback import HISTORY, NOW, A, B, C, D, deployed, judged, marked, went_back

COMPARES = Can(deploy=True, compare_and_set=True)
BLIND_ONE = Can(deploy=True)


def regressed(newest_s: float = 70.0, word: str = "regressed") -> Verdict:
    """A verdict whose newest bucket began so long ago."""
    numbers = tuple(Sample(NOW - newest_s - 60 * i, 11.0, 1000.0) for i in (2, 1, 0))
    return Verdict(
        word=word, sentence="conversion 3.1 % → 1.1 %", metric="conversion", onset=NOW - 240, numbers=numbers
    )  # type: ignore[arg-type]


def automatic(id_: str, ago_s: float, *, state: str = "verified", line: str = "shop") -> list[Event]:
    at = NOW - ago_s
    act = Act(
        id=f"auto{id_}{line}",
        kind="rollback",
        line=line,
        target="prod",
        subject=id_,
        who="immune",
        why="falls",
        at=at,
        not_before=at,
        not_after=at + 300,
        expected=id_,
        auto=True,
    )
    asked = ActAsked(line=line, at=at, act=act)
    return [asked, ActStepped(line=line, at=at, act=act.id, was="intent", now=state)]  # type: ignore[arg-type]


@dataclass
class Case:
    """What the policy is asked about; as it stands, it rolls back."""

    events: list[Any] = field(default_factory=lambda: [*HISTORY, judged("d3", "healthy")])
    config: LineConfig = field(
        default_factory=lambda: LineConfig("shop", ci=(entry("ci/deploy", "deploy"),), deploy=entry("prod"))
    )
    metric: Metric = CONVERSION
    verdict: Verdict = field(default_factory=regressed)
    deployment: str = "d4"
    can: Can | None = COMPARES
    skew_s: dict[str, float] = field(default_factory=dict)
    together: str = ""

    def decide(self) -> Decision:
        board = Board()
        for item in self.events:
            for event in item if isinstance(item, list) else [item]:
                board = board.apply(event)
        found = board.line("shop").deployment(self.deployment)
        deployment = found or Deployment(id=self.deployment, version="gone", state="settled")
        return policy.decide(
            board, self.config, self.metric, self.verdict, deployment, self.can, self.skew_s, NOW, self.together
        )


def test_with_every_rule_kept_it_stops_and_rolls_back() -> None:
    assert Case().decide() == Decision(True, True, "stopped and rolled back")


def add(*events: Event | list[Event]) -> Callable[[Case], None]:
    return lambda case: case.events.extend(events)


def only(*events: Event | list[Event]) -> Callable[[Case], None]:
    return lambda case: setattr(case, "events", list(events))


def sets(**values: Any) -> Callable[[Case], None]:
    def change(case: Case) -> None:
        for name, value in values.items():
            setattr(case, name, value)

    return change


def halts_nothing(case: Case) -> None:
    case.can = BLIND_ONE
    case.config = LineConfig("shop", ci=(entry("ci"),), deploy=entry("prod", only_way_in=True))


def elsewhere(ago_s: float) -> list[Event]:
    opened = WatchOpened(line="mail", at=NOW, deployment="m1", version="v", until=NOW, began=NOW)
    verdict = Verdict(word="regressed", sentence="because", metric="delivered", at=NOW - ago_s)
    return [opened, Judged(line="mail", at=NOW, deployment="m1", verdict=verdict)]


RULES: dict[str, tuple[Callable[[Case], None], str]] = {
    "another one runs now": (add(deployed("d5", "v5", 60)), "v5 runs now"),
    "another one is on its way": (add(deployed("d5", "v5", 60, state="rolling")), "v5 runs now"),
    "nothing runs there": (sets(events=[], deployment="d4"), "nothing runs there"),
    "it is itself a rollback": (add(went_back("d3", D, "d4")), "it is itself a rollback"),
    "the vendor says it went back": (add(deployed("d4", D, 3600, back=True)), "it is itself a rollback"),
    "it was rolled back once": (add(automatic("d4", 7200)), "it was rolled back once already"),
    "a rollback of it was withdrawn": (
        add(automatic("d4", 7200, state="withdrawn")),
        "it was rolled back once already",
    ),
    "the budget of the hour is spent": (
        add(automatic("d2", 3500), automatic("d3", 60)),
        "2 automatic rollbacks within 1 h: advice only",
    ),
    "a clock is 31 s ahead": (sets(skew_s={"prom": 31.0, "ci": 0.0}), "auto off: the clock of prom is 31 s off"),
    "a clock is an hour behind": (sets(skew_s={"ci": -3600.0}), "auto off: the clock of ci is 3600 s off"),
    "another line regressed in the same minute": (
        add(elsewhere(59)),
        "mail regressed in the same minute: a broken measurement, until shown otherwise",
    ),
    "another line's metric fell with it": (
        sets(together="mail"),
        "mail regressed in the same minute: a broken measurement, until shown otherwise",
    ),
    "the target was never judged": (
        only(*HISTORY),
        "77c0 ran 24 h, never judged: only a person may return to it",
    ),
    "the target was undecided": (
        only(*HISTORY, judged("d3", "undecided")),
        "77c0 undecided 24 h: only a person may return to it",
    ),
    "nothing is left to return to": (only(HISTORY[3]), "no earlier version to return to"),
    "an irreversible one between": (
        only(
            *HISTORY, judged("d2", "healthy"), deployed("d3", C, 86400, state="failed"), marked("d3", C, "irreversible")
        ),
        "77c0 is marked irreversible: roll forward",
    ),
    "it is irreversible itself": (
        add(marked("d4", D, "irreversible")),
        "a91f is marked irreversible: roll forward",
    ),
    "every candidate is faulty": (
        only(HISTORY[0], HISTORY[3], judged("d1", "healthy"), marked("d1", A, "faulty")),
        "no earlier version to return to",
    ),
    "no deploy target": (sets(can=None), "the line has no deploy target"),
    "nothing is compared, and there are other ways in": (
        sets(can=BLIND_ONE),
        "the target does not compare deployment ids, and the config does not say `only_way_in: true`",
    ),
    "the only way in, and nothing that a stop halts": (
        halts_nothing,
        "the target does not compare deployment ids, and nothing is halted by a stop",
    ),
    "the numbers are old": (
        sets(verdict=regressed(newest_s=60 + 40 * 60)),
        "the newest number is 40 min old",
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_that_does_not_hold_makes_it_a_stop_with_advice(rule: str) -> None:
    change, words = RULES[rule]
    case = Case()
    change(case)
    assert case.decide() == Decision(True, False, f"stopped, not rolled back: {words}")


NO_MATTER: dict[str, Callable[[Case], None]] = {
    "a rollback by a person": add(went_back("d4", C, "d9")[0]),
    "one automatic rollback in the hour": add(automatic("d3", 60)),
    "two that are an hour old": add(automatic("d2", 3601), automatic("d3", 4000)),
    "two on another line": add(automatic("d2", 60, line="mail"), automatic("d3", 60, line="mail")),
    "a clock that is 30 s off": sets(skew_s={"prom": 30.0}),
    "another line that regressed a minute ago": add(elsewhere(60)),
    "a newer deployment that failed": add(deployed("d5", "v5", 60, state="failed")),
    "a good mark instead of a watch": only(*HISTORY, marked("d2", B, "good")),
    "the vendor's marker instead of a watch": only(*HISTORY, deployed("d2", B, 172800, verified=True)),
    "an irreversible one further back": add(marked("d1", A, "irreversible")),
    "numbers of three minutes ago": sets(verdict=regressed(newest_s=60 + 180)),
}


@pytest.mark.parametrize("case_of", NO_MATTER)
def test_what_breaks_no_rule_does_not_keep_it_from_rolling_back(case_of: str) -> None:
    case = Case()
    NO_MATTER[case_of](case)
    assert case.decide() == Decision(True, True, "stopped and rolled back")


def test_the_only_way_in_with_something_to_halt_needs_no_comparison() -> None:
    config = LineConfig("shop", ci=(entry("ci/deploy", "deploy"),), deploy=entry("prod", only_way_in=True))
    assert Case(can=BLIND_ONE, config=config).decide().rollback


@pytest.mark.parametrize(
    ("wanted", "decision"),
    [
        ("stop", Decision(True, False, "stopped; a person decides")),
        ("tell", Decision(False, False, "told")),
        ("rollback", Decision(True, True, "stopped and rolled back")),
    ],
)
def test_a_regression_does_what_the_metric_says(wanted: str, decision: Decision) -> None:
    metric = msgspec.structs.replace(CONVERSION, on_regression=wanted)
    assert Case(metric=metric).decide() == decision


@pytest.mark.parametrize("on_regression", ["rollback", "stop", "tell"])
@pytest.mark.parametrize(
    ("on_blind", "decision"),
    [("tell", Decision(False, False, "told")), ("stop", Decision(True, False, "stopped: blind"))],
)
def test_blind_never_rolls_back(on_regression: str, on_blind: str, decision: Decision) -> None:
    metric = msgspec.structs.replace(CONVERSION, on_regression=on_regression, on_blind=on_blind)
    assert Case(metric=metric, verdict=regressed(word="blind")).decide() == decision


@pytest.mark.parametrize("word", ["healthy", "undecided"])
def test_nothing_is_done_about_healthy_and_undecided(word: str) -> None:
    assert Case(verdict=regressed(word=word)).decide() == Decision(False, False, "")
