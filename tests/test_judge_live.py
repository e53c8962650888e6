"""The judge in real time: the pipeline ships under a running engine, and no part of a watch is in the past.

Nine minutes: three for what is found, three to see whether it helped, and a source that dies and comes back between.
"""

import signal
import time
from collections.abc import Iterator

import pytest

from andon.events import Armed
from andon.events import Judged as JudgedEvent
from tests.servers.judged import EVERY_S, Judged
from tests.servers.need import need
from tests.test_judge_end_to_end import CONVERSION, Desk, desk_of, undone, until

pytestmark = [pytest.mark.servers, pytest.mark.nightly]


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judged]:
    for name in ("prometheus", "promtool", "haproxy", "supervisord", "buildbot"):
        need(name)
    past = Judged(tmp_path_factory.mktemp("live"), (), broken=False)
    past.start()
    yield past
    past.stop()


@pytest.fixture(scope="module")
def desk(past: Judged) -> Iterator[Desk]:
    desk = desk_of(past, "andon", "shop")
    desk.start()
    # The first half minute of a series that has just begun is no usual one.
    until(lambda: len([at for at in desk.buckets("shop") if at > past.ends]) >= 4, 90, "the shop is measured")
    yield desk
    desk.end()


def shipped(past: Judged, desk: Desk, title: str, *, defect: bool = False) -> str:
    """Commit, let the pipeline ship it, and wait until andon watches it; the deployment's id."""
    sha = past.world.commit(title, defect=defect)
    past.world.wait_deployed(sha)
    return until(
        lambda: next((id_ for id_, watch in desk.line("shop").watches.items() if watch.version == sha), ""),
        30,
        "it is watched",
    )  # type: ignore[no-any-return]


def test_a_what_breaks_checkout_is_found_by_two_engines_one_after_the_other(past: Judged, desk: Desk) -> None:
    began = time.time()
    bad = shipped(past, desk, "Faster loyalty points", defect=True)
    half = began + 90
    until(lambda: time.time() > half and len(desk.events(Armed, "shop")) >= 2, 120, "half of the way to the verdict")
    desk.end(signal.SIGKILL)
    assert desk.word("shop", bad, CONVERSION) != "regressed"
    desk.start()
    until(lambda: desk.rollbacks("shop"), 240, "a rollback")
    act = undone(desk, "shop")
    assert (act.expected, act.version) == (bad, past.good)
    assert past.world.deployed_version() == past.good
    assert time.time() - began < 300
    assert [event.metric for event in desk.events(Armed, "shop") if event.deployment == bad].count(CONVERSION) == 1
    found = next(event.verdict for event in desk.events(JudgedEvent, "shop") if event.verdict.word == "regressed")
    assert found.numbers[0].at - began < 60
    assert past.world.worker_paused("deploys")


def test_b_that_it_helped_is_measured(past: Judged, desk: Desk) -> None:
    act = desk.rollbacks("shop")[0]
    found = until(
        lambda: (helped := desk.line("shop").helped.get(act.expected)) and helped.word != "too early" and helped,
        280,
        "it is known whether it helped",
    )
    assert found.word == "recovered", found.sentence
    desk.andon("resume", "shop", "--all", "--reason", "looked into it")
    until(lambda: not past.world.worker_paused("deploys"), 30, "the pipeline goes on")


def test_c_prometheus_dies_in_mid_watch_and_comes_back(past: Judged, desk: Desk) -> None:
    fine = shipped(past, desk, "Fine")
    until(lambda: desk.word("shop", fine, CONVERSION) == "undecided", 60, "it is watched")
    seen = time.time()
    until(lambda: desk.buckets("shop")[-1] > seen, 60, "buckets came in")
    past.world.kill_prometheus()
    try:
        until(lambda: desk.word("shop", fine, CONVERSION) == "blind", 4 * EVERY_S + 60, "blind")
        assert desk.line("shop").open_holds == ()
    finally:
        past.world.start_prometheus()
    until(lambda: desk.word("shop", fine, CONVERSION) == "undecided", 90, "it is watched again")
    assert len(desk.rollbacks("shop")) == 1
    assert desk.line("shop").open_holds == ()
