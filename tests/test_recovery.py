"""Did the rollback help? From literal buckets after it."""

import pytest

from andon.immune import recovery
from andon.model import Metric, Sample, Threshold
from tests.test_threshold import BAD, GOOD, MIN, RATE, T, at, usual


def measured(rows, minute: float, undone: float = T):
    return recovery.measure(RATE, rows, undone, T + minute * MIN)


def test_back_within_bounds_for_long_enough_is_recovered() -> None:
    rows = [at(0, BAD), at(1, BAD), *usual(2, 3, 4)]
    assert measured(rows, 5) == ("recovered", "conversion 3.1 %, back within bounds 2 min after the rollback")


def test_two_good_buckets_are_too_early() -> None:
    rows = [at(0, BAD), *usual(1, 2)]
    assert measured(rows, 3) == ("too early", "conversion: 2 of 3 buckets within bounds since the rollback")


def test_nothing_yet_is_too_early() -> None:
    assert measured([], 1) == ("too early", "conversion: 0 of 3 buckets within bounds since the rollback")


def test_a_gap_begins_the_run_again() -> None:
    assert measured([*usual(0, 1), *usual(3, 4)], 5)[0] == "too early"
    assert measured([*usual(0, 1), at(2, None), *usual(3, 4)], 5)[0] == "too early"
    assert measured([*usual(0, 1), at(2, None), *usual(3, 4, 5)], 6)[0] == "recovered"


def test_the_bucket_during_which_it_was_undone_does_not_count() -> None:
    undone = T + 20.0
    assert measured(usual(0, 1, 2), 3, undone)[0] == "too early"
    assert measured(usual(0, 1, 2, 3), 4, undone)[0] == "recovered"


def test_still_beyond_after_a_quarter_of_an_hour_is_not_recovered() -> None:
    rows = usual(*range(15), rate=BAD)
    assert measured(rows[:14], 14)[0] == "too early"
    word, sentence = measured(rows, 15.1)
    assert word == "not recovered"
    assert sentence == "conversion 1.1 % after 15 min: suspect something else"


def test_coming_back_after_the_limit_is_not_recovery() -> None:
    """Judged late, as after an outage of andon: the same words as in time."""
    rows = [*usual(*range(20), rate=BAD), *usual(20, 21, 22, 23)]
    assert measured(rows, 25)[0] == "not recovered"


def test_recovery_in_time_is_seen_late_too() -> None:
    rows = [*usual(0, 1, rate=BAD), *usual(2, 3, 4), *usual(5, 6, rate=BAD)]
    assert measured(rows, 60)[0] == "recovered"


@pytest.mark.parametrize("rows", [[], [at(3, None), at(4, None)], [at(2, GOOD), at(5, GOOD)]])
def test_no_data_is_neither_recovered_nor_not(rows) -> None:
    assert measured(rows, 20) == (
        "too early",
        "conversion: too little was measured in the 15 min after the rollback",
    )


def test_a_metric_without_bounds_says_so() -> None:
    metric = Metric("orders", "m", "count", "falls", "q")
    assert recovery.measure(metric, [Sample(T, 1.0)], T, T + MIN) == ("too early", "orders has no bounds to return to")


def test_a_rising_metric_recovers_by_falling() -> None:
    metric = Metric("p95", "m", "latency", "rises", "q", unit="ms", every=MIN, threshold=Threshold(above=600.0))
    rows = [Sample(T + m * MIN, 900.0 if m < 2 else 180.0) for m in range(5)]
    assert recovery.measure(metric, rows, T, T + 5 * MIN) == (
        "recovered",
        "p95 180 ms, back within bounds 2 min after the rollback",
    )
