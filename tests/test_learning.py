"""DORA's keys and ours, from ledgers that can be worked out by hand; the traps of counting among them."""

import math
import random

import pytest

from adapters.sqlite import SqliteLedger
from andon.events import (
    ActAsked,
    ActStepped,
    ChangesSeen,
    DeploymentSeen,
    Helped,
    HoldLifted,
    HoldPlaced,
    Judged,
    Marked,
    RunSeen,
)
from andon.learning import dora, figures
from andon.learning.figures import Point
from andon.learning.story import read
from andon.model import Act, Change, Deployment, Hold, Run, Stage, Verdict
from tests.ledgers import HandClock

LINE = "shop"
H, D = 3600.0, 86_400.0


class Told:
    """A ledger to which a story is told; times in hours."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.ledger = SqliteLedger(":memory:", self.clock)
        self.count = 0

    def at(self, hours: float) -> "Told":
        self.clock.at = 1e9 + hours * H
        return self

    @property
    def now(self) -> float:
        return self.clock.at

    def tell(self, *events) -> None:
        self.ledger.commit(*events)

    def commits(self, *ids: str, author: str = "ann") -> None:
        changes = tuple(Change(id_, f"change {id_}", author, self.now) for id_ in ids)
        self.tell(ChangesSeen(line=LINE, at=self.now, source="ci", changes=changes))

    def deploys(self, version: str, took_h: float = 0.1, *, fails: bool = False, back: bool = False) -> str:
        self.count += 1
        made = Deployment(f"d{self.count}", version, "rolling", self.now, back=back)
        self.tell(DeploymentSeen(line=LINE, at=self.now, source="cd", deployment=made))
        self.clock.at += took_h * H
        done = Deployment(made.id, version, "failed" if fails else "settled", made.at, back=back)
        self.tell(DeploymentSeen(line=LINE, at=self.now, source="cd", deployment=done))
        return made.id

    def acts(self, kind: str, subject: str, ref: str = "", **more) -> None:
        self.count += 1
        values = {"target": "cd", "who": "ann", "why": "so", "at": self.now, "not_before": self.now}
        act = Act(f"a{self.count}", kind, LINE, subject=subject, not_after=self.now + 60, **(values | more))
        self.tell(ActAsked(line=LINE, at=self.now, act=act))
        for was, now in (("intent", "sent"), ("sent", "verified")):
            self.tell(ActStepped(line=LINE, at=self.now, act=act.id, was=was, now=now, ref=ref))

    def rolls_back(self, bad: str, version: str, **more) -> str:
        ref = self.deploys(version)
        self.acts("rollback", bad, ref, expected=bad, version=version, **more)
        return ref

    def holds(self, id_: str, deployment: str = "", **more) -> None:
        values = {"owner": "ann", "why": "looks wrong", "since": self.now, "stop": id_} | more
        self.tell(HoldPlaced(line=LINE, at=self.now, hold=Hold(id_, LINE, deployment=deployment, **values)))

    def keys(self, since_h: float = -1e5, until_h: float = 1e5) -> dora.Keys:
        story = read(self.ledger, [LINE])[LINE]
        return dora.keys(story, 1e9 + since_h * H, 1e9 + until_h * H)


@pytest.fixture
def told():
    made = Told().at(0)
    made.commits("aaaaaaa0")
    made.deploys("aaaaaaa0")
    return made


def hours(figure) -> float:
    return round(figure.value / H, 3)


def test_a_line_of_which_nothing_is_known_has_no_rate_and_no_zero():
    found = Told().keys()
    for name in ("lead_time", "frequency", "fail_rate", "recovery", "rework", "learning", "stopping", "false_alarms"):
        figure = getattr(found, name)
        assert (figure.value, figure.n, figure.low, figure.high) == (None, 0, None, None), name
    assert found.prevented.value == 0
    assert found.legacy == ""


def test_lead_time_is_per_change_from_commit_to_live(told):
    told.at(10).commits("bbbbbbb1")
    told.at(12).commits("ccccccc2")
    told.at(13).deploys("ccccccc2", took_h=1)
    found = told.keys(1)
    assert [(row.ref, row.value / H) for row in found.lead_time.rows] == [("bbbbbbb1", 4.0), ("ccccccc2", 2.0)]
    assert hours(found.lead_time) == 3.0


def test_a_lead_time_of_zero_counts(told):
    told.at(5).commits("bbbbbbb1")
    told.deploys("bbbbbbb1", took_h=0)
    found = told.keys(1).lead_time
    assert (found.value, found.n) == (0.0, 1)


def test_a_commit_from_the_future_counts_as_zero_not_less(told):
    told.at(9).commits("bbbbbbb1")
    told.at(5).deploys("bbbbbbb1")
    assert told.keys(1).lead_time.value == 0.0


def test_a_short_version_names_its_change(told):
    told.at(5).commits("bbbbbbb1cafe")
    told.at(6).deploys("bbbbbbb1", took_h=0)
    assert hours(told.keys(1).lead_time) == 1.0


def test_where_the_lead_time_went(told):
    told.at(10).commits("bbbbbbb1")
    stages = (Stage("unit", "test", "passed", 1e9 + 11 * H, 1e9 + 12 * H),)
    run = Run("r1", "bbbbbbb1", "passed", stages, 1e9 + 11 * H, 1e9 + 12 * H)
    told.tell(RunSeen(line=LINE, at=told.now, source="ci", run=run))
    told.at(15).deploys("bbbbbbb1", took_h=0.5)
    found = {item.name: hours(item.time) for item in told.keys(1).stations}
    assert found == {"waits for a run": 1.0, "build and test": 1.0, "waits to ship": 3.0, "rolls out": 0.5}


def test_one_bad_deployment_of_five_commits_counts_once(told):
    told.at(5).commits(*(f"bbbbbbb{i}" for i in range(5)))
    bad = told.deploys("bbbbbbb4")
    told.at(6).rolls_back(bad, "aaaaaaa0")
    told.at(8).commits("ccccccc1")
    told.deploys("ccccccc1")
    found = told.keys(1)
    assert (found.fail_rate.value, found.fail_rate.n) == (0.5, 2)
    assert found.frequency.n == 2, "a return to an earlier version is no deployment of the line's work"
    assert found.batch.rows[0].value == 5


def test_what_was_shipped_and_taken_back_is_not_in_the_next_batch_again(told):
    told.at(5).commits("bbbbbbb1")
    bad = told.deploys("bbbbbbb1")
    told.at(6).rolls_back(bad, "aaaaaaa0")
    told.at(8).commits("ccccccc1")
    told.deploys("ccccccc1")
    assert [row.ref for row in told.keys(1).lead_time.rows] == ["bbbbbbb1", "ccccccc1"]


def test_what_never_went_live_did_not_fail_in_production(told):
    told.at(5).commits("bbbbbbb1")
    told.deploys("bbbbbbb1", fails=True)
    found = told.keys(1)
    assert found.fail_rate.n == 0
    assert found.frequency.words == "1 that never went live is not counted"


def test_a_deployment_stopped_or_marked_faulty_failed_and_one_marked_good_afterwards_did_not(told):
    ids = []
    for hour in (5, 10, 15):
        told.at(hour).commits(f"bbbbbb{hour:02}")
        ids.append(told.deploys(f"bbbbbb{hour:02}"))
    told.holds("h1", ids[0], kind="immune", owner="andon")
    told.tell(Marked(line=LINE, at=told.now, deployment=ids[1], version="x", mark="faulty", who="bo", why="no"))
    told.holds("h2", ids[2], kind="immune", owner="andon2")
    told.tell(Marked(line=LINE, at=told.now, deployment=ids[2], version="x", mark="good", who="bo", why="a promotion"))
    found = told.keys(1)
    assert [row.words for row in found.fail_rate.rows] == [
        "the line was stopped for it by andon",
        "marked faulty by bo",
        "",
    ]
    assert (found.false_alarms.value, found.false_alarms.n) == (0.5, 2)


def test_a_mark_that_andon_made_is_no_persons_word(told):
    told.at(5).commits("bbbbbbb1")
    bad = told.deploys("bbbbbbb1")
    told.tell(Marked(line=LINE, at=told.now, deployment=bad, version="x", mark="good", who="andon", why="watched"))
    told.at(6).rolls_back(bad, "aaaaaaa0")
    assert told.keys(1).fail_rate.value == 1.0


def test_recovery_ends_when_the_metric_is_back_not_when_the_rollback_is_sent(told):
    told.at(5).commits("bbbbbbb1")
    bad = told.deploys("bbbbbbb1", took_h=0)
    told.at(6).rolls_back(bad, "aaaaaaa0")
    told.at(7).tell(Helped(line=LINE, at=told.now, deployment=bad, word="recovered", sentence="3.1 %"))
    assert hours(told.keys(1).recovery) == 2.0


def test_recovery_without_a_metric_ends_with_another_version_live(told):
    told.at(5).commits("bbbbbbb1")
    bad = told.deploys("bbbbbbb1", took_h=0)
    told.at(6).rolls_back(bad, "aaaaaaa0")
    found = told.keys(1).recovery
    assert (hours(found), found.rows[0].words) == (1.1, "another version live; not measured")


def test_where_going_back_did_not_help_the_healthy_fix_ends_it(told):
    told.at(5).commits("bbbbbbb1")
    bad = told.deploys("bbbbbbb1", took_h=0)
    told.at(6).rolls_back(bad, "aaaaaaa0")
    told.at(7).tell(Helped(line=LINE, at=told.now, deployment=bad, word="not recovered", sentence="still"))
    assert told.keys(1).recovery.words == "1 not recovered yet"
    told.at(8).commits("ccccccc1")
    fix = told.deploys("ccccccc1")
    told.at(9).tell(Judged(line=LINE, at=told.now, deployment=fix, verdict=Verdict("healthy", "well"), final=True))
    assert hours(told.keys(1).recovery) == 4.0


def test_a_fix_pushed_through_a_stop_is_rework_and_a_planned_one_is_not(told):
    told.at(5).commits("bbbbbbb1")
    bad = told.deploys("bbbbbbb1")
    told.holds("h1", bad)
    told.at(6).commits("ccccccc1")
    fix = told.deploys("ccccccc1")
    told.acts("push", bad, fix, expected=bad, version="ccccccc1", hold="h1")
    told.at(7).tell(HoldLifted(line=LINE, at=told.now, hold="h1", who="ann", why="mended"))
    told.at(8).commits("ddddddd1")
    told.deploys("ddddddd1")
    found = told.keys(1).rework
    assert [row.words for row in found.rows] == ["", "pushed through a stop", ""]


def test_time_to_stop_needs_every_target_confirmed(told):
    told.at(5).holds("h1")
    told.acts("halt", "h1")
    assert hours(told.keys(1).stopping) == 0.0
    told.at(6).acts("halt", "h1", target="other")
    assert hours(told.keys(1).stopping) == 1.0
    told.at(9).holds("h2", stop="h2", owner="bo")
    asked = Act("x", "halt", LINE, "cd", "h2", "bo", "", told.now, told.now, told.now + 9)
    told.tell(ActAsked(line=LINE, at=told.now, act=asked))
    assert told.keys(1).stopping.n == 1
    assert told.keys(1).pulls.value == 2


def test_what_andon_took_back_by_itself_was_prevented(told):
    told.at(5).commits("bbbbbbb1")
    bad = told.deploys("bbbbbbb1")
    told.at(6).rolls_back(bad, "aaaaaaa0", auto=True, who="andon")
    assert told.keys(1).prevented.value == 1
    told.tell(Marked(line=LINE, at=told.now, deployment=bad, version="x", mark="good", who="ann", why="a promotion"))
    assert told.keys(1).prevented.value == 0


def test_time_to_learning_is_from_the_first_commit_to_the_end_of_the_watch(told):
    told.at(5).commits("bbbbbbb1")
    made = told.at(6).deploys("bbbbbbb1")
    told.at(8).tell(Judged(line=LINE, at=told.now, deployment=made, verdict=Verdict("healthy", "well"), final=True))
    assert hours(told.keys(1).learning) == 3.0


def test_only_what_went_live_within_the_window_counts(told):
    for hour in (5, 50, 500):
        told.at(hour).commits(f"bbbb{hour:04}")
        told.deploys(f"bbbb{hour:04}")
    found = told.keys(40, 100)
    assert found.frequency.n == 1
    assert math.isclose(found.days, 60 / 24)
    assert math.isclose(found.frequency.value, 24 / 60)


def test_deploy_days_are_counted_by_week_and_the_legacy_cluster_is_the_worse_one(told):
    for day in range(1, 22):
        if day % 7 in (1, 3, 5):
            for hour in (9, 10):
                told.at(day * 24 + hour).commits(f"bb{day:03}{hour:03}")
                told.deploys(f"bb{day:03}{hour:03}")
    found = told.keys(0, 21 * 24)
    assert found.deploy_days == 3.0
    assert found.legacy == "high", "0.9 deployments a day"


def test_intervals_cover_what_they_promise():
    """Each interval, over many samples of a known truth, misses it in no more than some 5 % of them."""
    rng = random.Random(7)
    tries = 2000
    for n, p in ((8, 0.3), (40, 0.1), (200, 0.02)):
        missed = sum(
            not found.low <= p <= found.high
            for _ in range(tries)
            for found in [figures.share([Point("x", 0, float(rng.random() < p)) for _ in range(n)])]
        )
        assert missed / tries < 0.08, (n, p)
    missed = sum(
        not found.low <= math.log(2) <= found.high
        for _ in range(tries)
        for found in [figures.middle([Point("x", 0, rng.expovariate(1.0)) for _ in range(15)])]
    )
    assert missed / tries < 0.06
    missed = 0
    for _ in range(tries):
        count, t = 0, rng.expovariate(1.0)
        while t < 12:
            count, t = count + 1, t + rng.expovariate(1.0)
        found = figures.rate([Point("x", 0, 1.0)] * count, 12.0)
        missed += count > 0 and not found.low <= 1.0 <= found.high
    assert missed / tries < 0.065


def test_few_rows_have_a_middle_and_no_interval():
    found = figures.middle([Point("x", 0, float(i)) for i in range(5)])
    assert (found.value, found.low, found.high) == (2.0, None, None)
    found = figures.middle([Point("x", 0, float(i)) for i in range(6)])
    assert (found.low, found.high) == (0.0, 5.0)
