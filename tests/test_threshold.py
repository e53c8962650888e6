"""Verdicts by a threshold, from literal buckets: what accuses a deployment, what does not, and the sentence each time."""

import random
from collections.abc import Sequence

import pytest

from andon.immune import threshold
from andon.model import Metric, Sample, Threshold, Verdict

T = 1_764_000_000.0
"""When the deployment began: on a whole minute."""
MIN = 60.0
UNTIL = T + 15 * MIN
RATE = Metric(
    "conversion",
    "meter",
    "proportion",
    "falls",
    "q",
    n="q",
    every=MIN,
    lag=5.0,
    threshold=Threshold(below=0.02, for_s=180.0),
)
P95 = Metric(
    "p95 latency", "meter", "latency", "rises", "q", unit="ms", every=MIN, lag=5.0, threshold=Threshold(above=600.0)
)
GOOD, BAD = 0.031, 0.011


def at(minute: float, rate: float | None) -> Sample:
    """The bucket that begins so many minutes after the deployment; None: no trials in it."""
    return Sample(T + minute * MIN, 0.0, 0.0) if rate is None else Sample(T + minute * MIN, 1000 * rate, 1000.0)


def usual(*minutes: float, rate: float = GOOD) -> list[Sample]:
    return [at(minute, rate) for minute in minutes]


BEFORE = usual(-3, -2, -1)


def found(rows: Sequence[Sample], minute: float, *, began: float = T, gone: str = "", until: float = UNTIL) -> Verdict:
    """The verdict when the newest closed bucket ended at that minute."""
    return threshold.judge(RATE, rows, "3f2a9bc0", began, until, T + minute * MIN + RATE.lag, gone)[0]


def final(rows: Sequence[Sample], minute: float, until: float = UNTIL) -> bool:
    return threshold.judge(RATE, rows, "3f2a9bc0", T, until, T + minute * MIN + RATE.lag)[1]


def test_three_buckets_beyond_after_three_within_are_a_regression() -> None:
    rows = [*BEFORE, *usual(0), *usual(1, 2, 3, rate=BAD)]
    verdict = found(rows, 4)
    assert verdict.word == "regressed"
    assert verdict.sentence == "conversion 3.1 % → 1.1 %, below 2.0 % for 3 min, from 1 min after 3f2a"
    assert verdict.onset == T + MIN
    assert verdict.numbers == tuple(rows)


def test_a_regression_is_final_at_once_and_everything_else_only_at_the_end() -> None:
    assert final([*BEFORE, *usual(0, 1, 2, rate=BAD)], 3)
    assert not final([*BEFORE, *usual(0, 1, 2)], 3)
    assert final([*BEFORE, *usual(*range(15))], 15)


def test_two_buckets_beyond_are_not_enough() -> None:
    verdict = found([*BEFORE, *usual(0, 1, 2), *usual(3, 4, rate=BAD)], 5)
    assert verdict.word == "undecided"
    assert verdict.sentence == "conversion 1.1 %, beyond, 2 so far, 5 min of 15 min"


def test_a_longer_for_needs_all_its_buckets() -> None:
    slow = Threshold(below=0.02, for_s=301.0)
    metric = Metric("conversion", "m", "proportion", "falls", "q", every=MIN, lag=5.0, threshold=slow)
    assert threshold.buckets_of(metric, slow) == 6
    rows = [*usual(*range(-6, 0)), *usual(0, 1, 2, 3, 4, rate=BAD)]
    assert threshold.judge(metric, rows, "v", T, UNTIL, T + 5 * MIN + 5)[0].word == "undecided"
    rows = [*rows, *usual(5, rate=BAD)]
    assert threshold.judge(metric, rows, "v", T, UNTIL, T + 6 * MIN + 5)[0].word == "regressed"


def test_the_bucket_that_straddles_the_deployment_is_nobodys() -> None:
    began = T + 20.0
    rows = [*BEFORE, *usual(0, rate=BAD), *usual(1, 2, rate=BAD)]
    assert found(rows, 3, began=began).word == "undecided"
    verdict = found([*rows, *usual(3, rate=BAD)], 4, began=began)
    assert verdict.word == "regressed"
    assert verdict.onset == T + MIN
    assert T not in [row.at for row in verdict.numbers]


def test_a_straddling_bucket_beyond_is_not_the_time_before_either() -> None:
    rows = [*BEFORE, *usual(0, rate=BAD), *usual(1, 2, 3)]
    assert found(rows, 4, began=T + 20.0).sentence == "conversion 3.1 %, within bounds, 3 min of 14 min"


@pytest.mark.parametrize("hole", [1, 2, 3])
def test_a_gap_in_the_run_is_no_regression(hole: int) -> None:
    rows = [*BEFORE, *[row for row in usual(1, 2, 3, rate=BAD) if row.at != T + hole * MIN]]
    assert found(rows, 4).word == "undecided"


def test_a_run_with_no_trials_in_between_is_no_regression() -> None:
    assert found([*BEFORE, at(0, BAD), at(1, None), at(2, BAD), at(3, BAD)], 4).word == "undecided"


def test_a_run_seen_long_ago_is_not_the_last_for() -> None:
    """The source died after three bad buckets, and nobody looked until now: what is old accuses nobody."""
    rows = [*BEFORE, *usual(0, 1, 2, rate=BAD)]
    assert found(rows, 3).word == "regressed"
    assert found(rows, 4).word == "regressed"  # the next bucket may be on its way
    verdict = found(rows, 9, gone="connection refused")
    assert verdict.word == "undecided"
    assert verdict.sentence == "conversion 1.1 %, source gone: connection refused, 9 min of 15 min"


def test_a_late_bucket_completes_the_run() -> None:
    rows = [*BEFORE, at(0, BAD), at(2, BAD)]
    assert found(rows, 3).word == "undecided"
    assert found([*BEFORE, at(0, BAD), at(1, BAD), at(2, BAD)], 4).word == "regressed"


def test_a_late_bucket_corrects_the_time_before() -> None:
    after = usual(0, 1, 2, rate=BAD)
    assert found([at(-3, GOOD), at(-1, GOOD), *after], 3).word == "undecided"
    assert found([*BEFORE, *after], 3).word == "regressed"


@pytest.mark.parametrize("minute", [-3, -2, -1])
def test_what_was_already_beyond_blames_nobody(minute: int) -> None:
    before = [at(m, 0.0172 if m == minute else GOOD) for m in (-3, -2, -1)]
    verdict = found([*before, *usual(0, 1, 2, rate=BAD)], 3)
    assert verdict.word == "undecided"
    assert verdict.sentence == "conversion was already 1.7 % before 3f2a"


def test_what_was_beyond_earlier_than_the_last_for_does_not_count() -> None:
    rows = [*usual(-5, -4, rate=BAD), *BEFORE, *usual(0, 1, 2, rate=BAD)]
    assert found(rows, 3).word == "regressed"


@pytest.mark.parametrize("before", [[], usual(-3, -2), usual(-2, -1), [at(-3, GOOD), at(-2, None), at(-1, GOOD)]])
def test_what_was_not_measured_before_blames_nobody(before: list[Sample]) -> None:
    verdict = found([*before, *usual(0, 1, 2, rate=BAD)], 3)
    assert verdict.word == "undecided"
    assert verdict.sentence == "conversion was not measured in the 3 min before 3f2a"


def test_healthy_needs_every_bucket() -> None:
    verdict = found([*BEFORE, *usual(*range(15))], 15)
    assert (verdict.word, verdict.sentence) == ("healthy", "conversion 3.1 %, within bounds for 15 min")
    verdict = found([*BEFORE, *usual(*range(7), *range(8, 15))], 15)
    assert (verdict.word, verdict.sentence) == ("undecided", "conversion: 1 of 15 buckets are missing after 3f2a")


def test_healthy_needs_the_time_before() -> None:
    verdict = found(usual(*range(15)), 15)
    assert (verdict.word, verdict.sentence) == (
        "undecided",
        "conversion was not measured in the 3 min before 3f2a",
    )


def test_a_short_dip_is_healthy_and_a_long_one_came_back_by_itself() -> None:
    dip = [*BEFORE, *usual(0, 1, 4, *range(5, 15)), *usual(2, 3, rate=BAD)]
    assert found(sorted(dip, key=lambda row: row.at), 15).word == "healthy"
    fall = [*BEFORE, *usual(0, 1, *range(5, 15)), *usual(2, 3, 4, rate=BAD)]
    verdict = found(sorted(fall, key=lambda row: row.at), 15)
    assert (verdict.word, verdict.sentence) == (
        "undecided",
        "conversion was below 2.0 % and came back by itself",
    )


def test_a_watch_that_ends_off_the_minute_wants_only_whole_buckets() -> None:
    began, until = T + 20.0, T + 20.0 + 15 * MIN
    rows = [*BEFORE, *usual(*range(1, 15))]
    assert threshold.judge(RATE, rows, "v", began, until, until + RATE.lag)[0].word == "healthy"


@pytest.mark.parametrize("rows", [[], [at(m, None) for m in range(15)], BEFORE])
def test_no_usable_data_is_blind(rows: list[Sample]) -> None:
    verdict = found(rows, 4)
    assert verdict.word == "blind"
    assert verdict.sentence == "conversion: no usable data for 4 min"
    assert found(rows, 4, gone="connection refused").sentence == "conversion: connection refused for 4 min"
    assert found(rows, 15).word == "blind"


def test_a_watch_that_just_began_is_not_blind() -> None:
    verdict = found(BEFORE, 2)
    assert (verdict.word, verdict.sentence) == ("undecided", "conversion: no closed bucket yet since 3f2a")


@pytest.mark.parametrize("rows", [BEFORE, [*BEFORE, at(0, None)]])
def test_what_was_replaced_before_it_could_be_measured_is_not_blind(rows: list[Sample]) -> None:
    """Two deployments within a minute are no reason to be alarmed, or to stop the line."""
    verdict = found(rows, 3, until=T + 70.0)
    assert (verdict.word, verdict.sentence) == (
        "undecided",
        "conversion: 3f2a ran for 1 min, too short to be measured",
    )
    assert final(rows, 3, until=T + 70.0)


def test_trials_without_success_are_data_and_no_trials_are_none() -> None:
    assert found([*BEFORE, *usual(0, 1, 2, rate=0.0)], 3).word == "regressed"
    assert found([*BEFORE, at(0, None), at(1, None), at(2, None)], 4).word == "blind"


def test_a_newer_deployment_ends_what_is_looked_at() -> None:
    """What happened after the newer one began is not laid on the older."""
    replaced = T + 4 * MIN
    rows = [*BEFORE, *usual(0, 1, 2, 3), *usual(4, 5, 6, rate=BAD)]
    verdict = found(rows, 7, until=replaced)
    assert (verdict.word, verdict.sentence) == ("healthy", "conversion 3.1 %, within bounds for 4 min")


def test_bounds_on_both_sides_and_their_words() -> None:
    both = Threshold(below=100.0, above=600.0)
    metric = Metric("orders", "m", "count", "falls", "q", unit="€", every=MIN, lag=5.0, threshold=both)
    before = [Sample(T - m * MIN, 300.0) for m in (3, 2, 1)]
    high = [Sample(T + m * MIN, 12_500.0) for m in (0, 1, 2)]
    verdict = threshold.judge(metric, [*before, *high], "v2.10.3", T, UNTIL, T + 3 * MIN + 5)[0]
    assert verdict.sentence == "orders 300 € → 12.5 k €, below 100 € or above 600 € for 3 min, from 0 s after v2.10.3"
    assert metric.threshold is not None
    assert not metric.threshold.beyond(600.0)
    assert not metric.threshold.beyond(100.0)


def test_a_latency_that_rises() -> None:
    rows = [Sample(T + m * MIN, 180.0 if m < 0 else 1234.5, 100.0) for m in (-3, -2, -1, 0, 1, 2)]
    verdict = threshold.judge(P95, rows, "3f2a9bc0", T, UNTIL, T + 3 * MIN + 5)[0]
    assert verdict.sentence == "p95 latency 180 ms → 1,234 ms, above 600 ms for 3 min, from 0 s after 3f2a"


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0, "0"), (0.00042, "0.00042"), (0.5, "0.50"), (3.14159, "3.1"), (99.4, "99.4"), (412.0, "412"), (-5.5, "-5.5")],
)
def test_figures_are_few_and_plain(value: float, words: str) -> None:
    assert threshold.figures(value) == words


def test_the_same_numbers_give_the_same_verdict_in_any_order_of_arrival() -> None:
    """The ledger gives them in order; a verdict replayed from its own numbers is the same."""
    cases = random.Random(7)
    for _ in range(300):
        rows = [at(m, cases.choice([GOOD, GOOD, BAD, None])) for m in range(-3, 15) if cases.random() < 0.95]
        minute = cases.randint(1, 16)
        rows = [row for row in rows if row.at + MIN <= T + minute * MIN]
        first = found(rows, minute)
        assert found(rows, minute) == first
        assert found(first.numbers, minute) == first
        assert first.word != "regressed" or first.onset is not None


def test_a_verdict_never_accuses_without_three_bad_in_a_row_at_the_end() -> None:
    cases = random.Random(11)
    accused = 0
    for _ in range(3000):
        rates = [GOOD] * cases.choice([0, 3]) + cases.choices([GOOD, BAD, None], [2, 6, 1], k=9)
        rows = [at(m, rate) for m, rate in zip(range(-3, 6), rates, strict=False) if cases.random() < 0.95]
        verdict = found(rows, 6)
        if verdict.word != "regressed":
            continue
        accused += 1
        seen = {int((row.at - T) / MIN): row.shown("proportion") for row in rows}
        assert [seen.get(m) for m in (-3, -2, -1)] == [GOOD] * 3
        newest = max(m for m in seen if seen[m] is not None)
        assert newest >= 4
        assert [seen.get(m) for m in (newest - 2, newest - 1, newest)] == [BAD] * 3
    assert accused > 20


def test_falling_together_is_seen_in_another_metric() -> None:
    onset = T + MIN
    rows = [*BEFORE, at(0, GOOD), at(1, BAD), at(2, BAD)]
    assert threshold.together(RATE, rows, onset, 60.0)
    assert not threshold.together(RATE, rows, onset + 10 * MIN, 60.0)
    assert not threshold.together(RATE, rows[:-1], onset, 60.0)
    assert not threshold.together(RATE, [*rows, at(3, GOOD)], onset, 60.0)
    assert not threshold.together(RATE, [], onset, 60.0)


def test_three_buckets_are_wanted_whatever_for_says() -> None:
    hasty = Threshold(below=0.02, for_s=60.0)
    metric = Metric("conversion", "m", "proportion", "falls", "q", every=MIN, lag=5.0, threshold=hasty)
    assert threshold.buckets_of(metric, hasty) == 3
    rows = [*BEFORE, *usual(0, 1, rate=BAD)]
    assert threshold.judge(metric, rows, "v", T, UNTIL, T + 2 * MIN + 5)[0].word == "undecided"
