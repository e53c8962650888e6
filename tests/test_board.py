"""The board: the same events always add up to the same board, in any pieces, and it never grows without end."""

from collections.abc import Iterable, Iterator

import hypothesis
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from andon import board as boards
from andon.board import ACTS, CHANGES, DEPLOYMENTS, HOLDS, RUNS, Board
from andon.events import (
    KINDS,
    NAMES,
    ActStepped,
    ChangesSeen,
    DeploymentSeen,
    Event,
    Helped,
    HoldLifted,
    HoldTaken,
    Judged,
    Marked,
    RunSeen,
    SourceSeen,
    Started,
    WatchOpened,
    decode,
    encode,
)
from andon.model import Change, Deployment, Run, Sample, Verdict, to_json
from tests.ledgers import SHOP, asked, lifted, placed, step
from tests.strategies import histories

LIMITS = ("CHANGES", "RUNS", "DEPLOYMENTS", "ACTS", "HOLDS")


@pytest.fixture
def small() -> Iterator[int]:
    """Boards that keep two of everything, so that a short history meets every limit."""
    with pytest.MonkeyPatch.context() as patch:
        for name in LIMITS:
            patch.setattr(boards, name, 2)
        yield 2


SMALL = settings(max_examples=120, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
"""The fixture sets limits that are the same for every example."""


def kept(event: Event) -> Event:
    """The event as it comes back from the ledger."""
    found = decode(*encode(event))
    assert found is not None
    return found


def fold(events: Iterable[Event], board: Board | None = None) -> Board:
    board = board or Board()
    for event in events:
        board = board.apply(kept(event))
    return board


def deployed(id_: str, at: float, state: str = "settled") -> DeploymentSeen:
    deployment = Deployment(id=id_, version=id_, state=state, at=at)  # type: ignore[arg-type]
    return DeploymentSeen(line=SHOP, at=at, source="d", deployment=deployment)


# ---- properties


@given(histories)
@SMALL
def test_the_same_events_give_the_same_board(small, events):
    assert to_json(fold(events)) == to_json(fold(events))


@given(histories, st.data())
@SMALL
def test_folding_on_from_any_checkpoint_gives_the_same_board(small, events, data):
    cut = data.draw(st.integers(0, len(events)))
    checkpoint = msgspec.json.decode(to_json(fold(events[:cut])), type=Board)
    # Bytes, not equality: two dicts in another order are equal, and a line's runs and acts have an order.
    assert to_json(fold(events[cut:], checkpoint)) == to_json(fold(events))
    assert fold(events[cut:], checkpoint) == fold(events)


@given(histories)
@SMALL
def test_an_event_changes_nothing_in_the_board_before_it(small, events):
    board = Board()
    for event in map(kept, events):
        before = to_json(board)
        after = board.apply(event)
        assert to_json(board) == before
        board = after


@given(histories)
@SMALL
def test_no_history_makes_a_line_grow_beyond_its_limits(small, events):
    for line in fold(events).lines.values():
        assert len(line.changes) <= small
        assert len(line.runs) <= small
        assert len(line.deployments) <= small
        assert len(line.watches) <= small
        assert len(line.marks) <= small
        assert len(line.helped) <= small
        assert sum(not item.open for item in line.holds) <= small
        assert len(line.barriers) <= small
        for kinds in (("halt", "release"), ("rollback", "push"), ("cancel", "tell")):
            over = [item for item in line.acts.values() if item.kind in kinds and item.settled]
            assert len([item for item in over if not (line.stop and item.subject == line.stop)]) <= small


@given(histories)
@SMALL
def test_an_open_hold_leaves_the_board_only_by_being_lifted(small, events):
    board = Board()
    for event in map(kept, events):
        after = board.apply(event)
        for name, line in board.lines.items():
            gone = {item.id for item in line.open_holds} - {item.id for item in after.line(name).open_holds}
            assert gone <= {event.hold if isinstance(event, HoldLifted) else ""}
        board = after


@given(histories)
@SMALL
def test_an_act_on_its_way_leaves_the_board_only_by_being_settled(small, events):
    board = Board()
    for event in map(kept, events):
        after = board.apply(event)
        for name, line in board.lines.items():
            gone = {item.id for item in line.unsettled()} - {item.id for item in after.line(name).unsettled()}
            assert gone <= {event.act if isinstance(event, ActStepped) else ""}
        board = after


@given(histories)
@SMALL
def test_a_fact_told_twice_is_the_same_as_once(small, events):
    board = Board()
    for event in map(kept, events):
        board = board.apply(event)
        if not isinstance(event, ActStepped):  # the same state again notes another try
            assert to_json(board.apply(event)) == to_json(board)


@given(histories)
@SMALL
def test_what_happens_on_one_line_changes_no_other(small, events):
    for name in ("shop", "payments"):
        alone = fold(event for event in events if event.line == name)
        assert fold(events).line(name) == alone.line(name)


# ---- limits, at their true size


def test_a_long_history_keeps_the_newest_and_all_that_is_open():
    events: list[Event] = [asked("open-act"), placed("open-hold", "cy")]
    for n in range(300):
        name, at = f"n{n:03}", float(n)
        events += [
            ChangesSeen(line=SHOP, at=at, source="ci", changes=(Change(id=name),)),
            RunSeen(line=SHOP, at=at, source="ci", run=Run(id=name, change=name, state="passed", at=at)),
            deployed(name, at),
            WatchOpened(line=SHOP, at=at, deployment=name, version=name, until=at, began=at),
            Helped(line=SHOP, at=at, deployment=name, word="recovered", sentence="x"),
            Marked(line=SHOP, at=at, deployment=name, version=name, mark="good", who="ann", why="x"),
            placed(name, at=at),
            lifted(name, at=at),
            asked(name),
            step(name, "intent", "withdrawn", at),
        ]
    line = fold(events).line(SHOP)
    newest = [f"n{n:03}" for n in range(300)]
    assert [item.id for item in line.changes] == newest[-CHANGES:]
    assert list(line.runs) == newest[-RUNS:]
    assert [item.id for item in line.deployments] == newest[-DEPLOYMENTS:]
    assert list(line.watches) == list(line.helped) == list(line.marks) == newest[-DEPLOYMENTS:]
    assert [item.id for item in line.holds] == ["open-hold", *newest[-HOLDS:]]
    assert list(line.acts) == ["open-act", *newest[-ACTS:]]


def test_an_act_that_waited_long_is_still_there_when_it_is_settled():
    events: list[Event] = [asked("slow")]
    for n in range(ACTS + 5):
        events += [asked(f"n{n}"), step(f"n{n}", "intent", "withdrawn", at=float(n))]
    line = fold([*events, step("slow", "intent", "expired", at=900.0)]).line(SHOP)
    assert line.acts["slow"].state == "expired"
    assert sum(item.settled for item in line.acts.values()) == ACTS


def test_a_hold_that_lasted_long_is_still_there_when_it_is_lifted():
    events: list[Event] = [placed("long", "cy")]
    for n in range(HOLDS + 5):
        events += [placed(f"n{n}", at=float(n)), lifted(f"n{n}", at=float(n))]
    line = fold([*events, lifted("long", at=900.0)]).line(SHOP)
    assert next(item for item in line.holds if item.id == "long").lifted_why == "mended"
    assert len(line.holds) == HOLDS


def test_a_change_named_twice_in_one_event_is_one_change():
    twice = (Change(id="abc1234", title="one"), Change(id="abc1234", title="two"))
    line = fold([ChangesSeen(line=SHOP, at=1.0, source="ci", changes=twice)]).line(SHOP)
    assert [change.title for change in line.changes] == ["one"]


# ---- holds and acts


def test_a_stop_lasts_from_the_first_open_hold_to_the_last_lifted():
    board = fold([placed("h1", "ann"), placed("h2", "bo")])
    assert [item.stop for item in board.line(SHOP).holds] == ["h1", "h1"]
    board = fold([lifted("h1"), placed("h3", "cy")], board)
    assert board.line(SHOP).stop == "h1"
    board = fold([lifted("h2"), lifted("h3")], board)
    assert board.line(SHOP).stop == ""
    assert fold([placed("h4")], board).line(SHOP).stop == "h4"


def test_a_hold_is_lifted_once_and_keeps_the_first_reason():
    board = fold([placed("h1"), lifted("h1", at=2.0)])
    again = HoldLifted(line=SHOP, at=3.0, hold="h1", who="cy", why="other")
    assert fold([again], board) == board


def test_a_person_takes_a_hold_on():
    board = fold([placed("h1"), HoldTaken(line=SHOP, at=2.0, hold="h1", who="bo")])
    assert board.line(SHOP).open_holds[0].has == "bo"


def test_a_settled_act_moves_no_more():
    board = fold([asked("a1"), step("a1", "intent", "withdrawn")])
    assert fold([step("a1", "intent", "sent", 3.0)], board) == board


def test_an_act_notes_when_it_was_sent_answered_and_settled_and_how_often():
    steps = [
        step("a1", "intent", "sent", 2.0),
        step("a1", "sent", "intent", 3.0, words="nobody there"),
        step("a1", "intent", "sent", 4.0),
        step("a1", "sent", "accepted", 5.0, ref="job 7"),
        step("a1", "accepted", "verified", 6.0),
    ]
    found = fold([asked("a1"), *steps]).line(SHOP).acts["a1"]
    assert (found.sent_at, found.answered_at, found.settled_at, found.tries, found.ref) == (4.0, 5.0, 6.0, 2, "job 7")


def test_a_board_keeps_the_sentence_of_a_verdict_and_not_its_numbers():
    verdict = Verdict(word="regressed", sentence="0.01, below 0.02", metric="conv", numbers=(Sample(1.0, 2.0),))
    watch = WatchOpened(line=SHOP, at=1.0, deployment="d1", version="v", until=9.0, began=1.0)
    line = fold([watch, Judged(line=SHOP, at=2.0, deployment="d1", verdict=verdict)]).line(SHOP)
    assert line.watches["d1"].verdicts["conv"] == msgspec.structs.replace(verdict, numbers=())


def test_deployments_stand_in_the_order_they_began_whatever_the_order_they_were_seen_in():
    line = fold([deployed("d3", 3.0), deployed("d1", 1.0), deployed("d2", 2.0, "failed")]).line(SHOP)
    assert [item.id for item in line.deployments] == ["d1", "d2", "d3"]
    assert line.current is not None
    assert line.current.id == "d3"


def test_a_source_keeps_the_time_since_when_it_is_as_it_is():
    gone = [SourceSeen(line=SHOP, at=at, source="gh", state="gone", words=str(at)) for at in (1.0, 2.0)]
    source = fold(gone).line(SHOP).sources["gh"]
    assert (source.since, source.words) == (1.0, "2.0")


def test_an_unknown_act_or_hold_binds_its_line_and_no_other():
    board = fold([placed("h1"), Started(line="", at=1.0, holder="me", epoch=1)])
    after = board.apply_unknown("hold-frozen", SHOP)
    assert list(after.read_only) == [SHOP]
    assert msgspec.structs.replace(after, read_only={}) == board


# ---- the vocabulary


def test_every_kind_of_event_has_a_fold_or_is_of_no_line():
    assert {*boards._FOLDS, Started} == set(KINDS.values())
    assert {name: cls for cls, name in NAMES.items()} == KINDS


def test_a_checkpoint_of_a_version_that_knew_other_kinds_has_another_format():
    assert all(name in boards.FORMAT for name in KINDS)
