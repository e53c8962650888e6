"""Which version a rollback returns to: pure rules over boards folded from literal events."""

from typing import Any

import pytest

from andon import rollback
from andon.board import Board, Line
from andon.events import ActAsked, ActStepped, DeploymentSeen, Event, Judged, Marked, WatchOpened
from andon.model import Act, Deployment, Verdict
from andon.rollback import Nothing, Target

NOW = 1_764_000_000.0
HOUR, DAY = 3600.0, 86400.0
A, B, C, D = "4f2a" + "0" * 36, "5de1" + "0" * 36, "77c0" + "0" * 36, "a91f" + "0" * 36


def deployed(id_: str, version: str, ago_s: float, **values: Any) -> Event:
    fresh = Deployment(id=id_, version=version, state=values.pop("state", "settled"), at=NOW - ago_s, **values)
    return DeploymentSeen(line="shop", at=fresh.at, source="prod", deployment=fresh)


def judged(id_: str, word: str, *, ended: bool = True) -> list[Event]:
    opened = WatchOpened(line="shop", at=NOW, deployment=id_, version="v", until=NOW, began=NOW)
    verdict = Verdict(word=word, sentence="because")  # type: ignore[arg-type]
    return [opened, Judged(line="shop", at=NOW, deployment=id_, verdict=verdict, final=ended)]


def marked(id_: str, version: str, mark: str, at: float = NOW, who: str = "ann") -> Event:
    return Marked(line="shop", at=at, deployment=id_, version=version, mark=mark, who=who, why="looked")  # type: ignore[arg-type]


def line(*events: Event | list[Event]) -> Line:
    board = Board()
    for item in events:
        for event in item if isinstance(item, list) else [item]:
            board = board.apply(event)
    return board.line("shop")


def target(*events: Event | list[Event]) -> Target:
    found = rollback.target(line(*events), NOW)
    assert isinstance(found, Target), found
    return found


def why_nothing(*events: Event | list[Event]) -> str:
    found = rollback.target(line(*events), NOW)
    assert isinstance(found, Nothing), found
    return found.why


# ---- the four fallbacks

HISTORY = (
    deployed("d1", A, 3 * DAY),
    deployed("d2", B, 2 * DAY),
    deployed("d3", C, DAY),
    deployed("d4", D, HOUR),
)


def test_first_the_newest_that_ended_its_watch_healthy() -> None:
    found = target(*HISTORY, judged("d1", "healthy"), judged("d2", "healthy"), judged("d3", "undecided"))
    assert (found.current.id, found.to.id, found.basis, found.words) == ("d4", "d2", "healthy", "healthy 2 d")


def test_or_was_marked_good_whichever_is_newer() -> None:
    found = target(*HISTORY, judged("d1", "healthy"), marked("d3", C, "good", who="bo"))
    assert (found.to.id, found.basis, found.words) == ("d3", "good", "marked good by bo")
    found = target(*HISTORY, judged("d3", "healthy"), marked("d1", A, "good"))
    assert (found.to.id, found.basis) == ("d3", "healthy")


def test_then_the_vendors_marker() -> None:
    vendor = deployed("d2", B, 2 * DAY, verified=True)
    found = target(*HISTORY, vendor, judged("d3", "undecided"))
    assert (found.to.id, found.basis, found.words) == ("d2", "vendor", "vendor says ok")
    assert target(*HISTORY, deployed("d2", B, 2 * DAY, verified=False), judged("d3", "undecided")).to.id == "d3"


def test_then_the_newest_that_ended_its_watch_without_regressing() -> None:
    found = target(*HISTORY, judged("d1", "undecided"), judged("d2", "blind"))
    assert (found.to.id, found.basis, found.words) == ("d2", "unjudged", "blind 2 d")


def test_then_the_vendors_last_success() -> None:
    found = target(*HISTORY)
    assert (found.to.id, found.basis, found.words) == ("d3", "success", "ran 24 h, never judged")


def test_only_the_first_two_grounds_are_trusted_by_the_immune_system() -> None:
    assert {"healthy", "good", "vendor"} == rollback.TRUSTED


def test_a_watch_that_still_goes_on_is_no_ground_yet() -> None:
    found = target(*HISTORY, judged("d2", "undecided", ended=False))
    assert (found.to.id, found.basis) == ("d3", "success")


@pytest.mark.parametrize("ended", [True, False])
def test_what_regressed_is_never_returned_to_whatever_the_vendor_says(ended: bool) -> None:
    found = target(*HISTORY, deployed("d3", C, DAY, verified=True), judged("d3", "regressed", ended=ended))
    assert found.to.id == "d2"
    only = (HISTORY[2], HISTORY[3], judged("d3", "regressed", ended=ended))
    assert why_nothing(*only) == "no earlier version to return to"


def test_a_person_may_mark_good_what_regressed() -> None:
    found = target(*HISTORY, judged("d3", "regressed"), marked("d3", C, "good"))
    assert (found.to.id, found.words) == ("d3", "marked good by ann")


# ---- what is skipped


def test_a_faulty_version_is_skipped_under_every_deployment_id() -> None:
    again = deployed("d3", A, DAY)
    found = target(HISTORY[0], HISTORY[1], again, HISTORY[3], judged("d3", "healthy"), marked("d1", A, "faulty"))
    assert found.to.id == "d2"


def test_marking_it_good_later_takes_it_back() -> None:
    events = (*HISTORY, judged("d3", "healthy"), marked("d3", C, "faulty", NOW - 100))
    assert target(*events).to.id == "d2"
    assert target(*events, marked("d3", C, "good", NOW - 50)).to.id == "d3"
    assert target(*events, marked("d9", C, "good", NOW - 50)).to.id == "d3"
    assert target(*events, marked("d3", C, "good", NOW - 50), marked("d9", C, "faulty", NOW - 10)).to.id == "d2"


def test_what_cannot_be_deployed_any_more_is_skipped() -> None:
    assert target(*HISTORY, deployed("d3", C, DAY, available=False)).to.id == "d2"


def test_failed_and_rolling_deployments_are_skipped() -> None:
    assert target(*HISTORY, deployed("d3", C, DAY, state="failed")).to.id == "d2"
    assert target(*HISTORY, deployed("d3", C, DAY, state="rolling")).to.id == "d2"


def test_a_failed_newest_one_is_not_what_runs() -> None:
    found = target(*HISTORY, deployed("d5", "v5", 60, state="failed"), judged("d2", "healthy"))
    assert (found.current.id, found.to.id) == ("d4", "d2")


def test_the_same_version_under_another_id_is_not_an_earlier_version() -> None:
    again = deployed("d4", C, HOUR)
    assert target(*HISTORY[:3], again, judged("d3", "healthy")).to.id == "d2"
    assert why_nothing(HISTORY[2], again) == "no earlier version to return to"


def test_a_rolling_current_one_can_be_gone_back_from() -> None:
    found = target(*HISTORY[:3], deployed("d4", D, 60, state="rolling"), judged("d3", "healthy"))
    assert (found.current.id, found.current.state, found.to.id) == ("d4", "rolling", "d3")


def test_a_deployment_listed_late_takes_its_place_by_its_time() -> None:
    events = (HISTORY[3], HISTORY[1], HISTORY[0], HISTORY[2], judged("d1", "healthy"))
    found = target(*events)
    assert (found.current.id, found.to.id) == ("d4", "d1")


# ---- the barrier


def test_an_irreversible_deployment_is_not_gone_back_behind() -> None:
    words = "77c0 is marked irreversible: roll forward"
    assert target(*HISTORY, judged("d1", "healthy"), marked("d3", C, "irreversible")).to.id == "d3"
    blocked = (*HISTORY, deployed("d3", C, DAY, available=False), marked("d3", C, "irreversible"))
    assert why_nothing(*blocked, judged("d1", "healthy")) == words


def test_an_irreversible_current_deployment_stays() -> None:
    assert why_nothing(*HISTORY, marked("d4", D, "irreversible")) == "a91f is marked irreversible: roll forward"


def test_an_irreversible_deployment_further_back_is_no_matter() -> None:
    assert target(*HISTORY, judged("d3", "healthy"), marked("d1", A, "irreversible")).to.id == "d3"


# ---- after a rollback


def went_back(id_: str, version: str, ref: str) -> list[Event]:
    act = Act(
        id=f"act{id_}",
        kind="rollback",
        line="shop",
        target="prod",
        subject=id_,
        who="ann",
        why="falls",
        at=NOW,
        not_before=NOW,
        not_after=NOW,
        expected=id_,
        version=version,
    )
    step = {"line": "shop", "at": NOW, "act": act.id}
    return [
        ActAsked(line="shop", at=NOW, act=act),
        ActStepped(**step, was="intent", now="sent"),
        ActStepped(**step, was="sent", now="verified", ref=ref),
    ]


def test_after_a_rollback_there_is_nothing_to_undo() -> None:
    back = deployed("d5", A, 60)
    assert why_nothing(*HISTORY, back, went_back("d4", A, "d5")) == "nothing to undo: on 4f2a"
    assert why_nothing(*HISTORY, deployed("d5", A, 60, back=True)) == "nothing to undo: on 4f2a"


def test_a_deployment_of_the_same_version_by_the_pipeline_is_no_rollback() -> None:
    assert isinstance(
        rollback.target(line(*HISTORY, deployed("d5", A, 60), went_back("d4", A, "d9")), NOW), rollback.Target
    )


def test_after_a_rollback_a_newer_deployment_can_be_undone() -> None:
    events = (*HISTORY, deployed("d5", A, 600), went_back("d4", A, "d5"), marked("d4", D, "faulty"))
    found = target(*events, deployed("d6", "v6", 60), judged("d1", "healthy"))
    assert (found.to.id, found.to.version, found.basis) == ("d1", A, "healthy")


def to(version: str, *events: Event | list[Event]) -> Target | Nothing:
    return rollback.to_version(line(*events), version, NOW)


def test_a_named_version_goes_further_back_even_after_a_rollback() -> None:
    back = (*HISTORY, deployed("d5", C, 60), went_back("d4", C, "d5"))
    found = to(A[:7], *back)
    assert isinstance(found, Target)
    assert (found.current.id, found.to.id, found.words) == ("d5", "d1", "named; live 3 d ago")


def test_a_named_version_may_be_written_short_or_long() -> None:
    short = (deployed("d1", "4f2a111", DAY), deployed("d2", "5de1222", HOUR))
    for words in ("4f2a", "4f2a111", "4f2a1119999"):
        found = to(words, *short)
        assert isinstance(found, Target), words
        assert found.to.id == "d1"


def test_a_version_that_begins_like_another_is_not_it() -> None:
    """`v1.2` is not `v1.20`, which runs; nor `v1.21`, which is newer than it."""
    tags = (deployed("d1", "v1.2", DAY), deployed("d2", "v1.21", HOUR), deployed("d3", "v1.20", 60))
    found = to("v1.2", *tags)
    assert isinstance(found, Target)
    assert found.to.version == "v1.2"
    assert to("v1.20.1", *tags) == Nothing("v1.20.1 never ran here, as far as is known")


def test_an_ambiguous_name_is_not_guessed() -> None:
    tags = (deployed("d1", "v1.21", DAY), deployed("d2", "v1.22", HOUR), deployed("d3", "v1.30", 60))
    assert to("v1.2", *tags) == Nothing("v1.2 fits v1.22 and v1.21: write more of it")


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (D[:8], "a91f already runs"),
        (C[:8], "77c0 is marked faulty; mark it good first if it is"),
        ("beef", "beef never ran here, as far as is known"),
        ("4f2", "4f2 never ran here, as far as is known"),
    ],
)
def test_a_named_version_that_will_not_do(version: str, words: str) -> None:
    assert to(version, *HISTORY, marked("d3", C, "faulty")) == Nothing(words)


def test_a_named_version_behind_an_irreversible_one() -> None:
    found = to(A[:8], *HISTORY, marked("d2", B, "irreversible"))
    assert found == Nothing("5de1 is marked irreversible: roll forward")


def test_nothing_was_deployed_yet() -> None:
    assert why_nothing() == "nothing was deployed yet"
    assert to("4f2a") == Nothing("nothing was deployed yet")
    assert why_nothing(HISTORY[0]) == "no earlier version to return to"


@pytest.mark.parametrize(
    ("version", "words"), [(A, "4f2a"), ("v1.20.3", "v1.20.3"), ("release-2026-11-24", "release-"), ("abc", "abc")]
)
def test_a_version_for_a_list(version: str, words: str) -> None:
    assert rollback.short(version) == words
