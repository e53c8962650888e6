"""The judge on real servers: nobody set a threshold, and what a deployment breaks is found, undone, and seen to recover.

Buildbot, the release script under supervisord and HAProxy, and Prometheus with a day of history. The lines were deployed
some minutes before the engine starts, so that it fills the gap by range queries; what happens from then on is live. The
tests run in order, over one world. `make nightly` ships the breaking commit under a running engine.
"""

import json
import math
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.sqlite import SqliteLedger
from andon.board import Board, Line
from andon.clock import WallClock
from andon.events import Armed, decode
from andon.events import Judged as JudgedEvent
from andon.keeper import fold
from andon.model import Act
from tests.servers import judged
from tests.servers.judged import EVERY_S, Judged, Lane, during
from tests.servers.need import need

pytestmark = pytest.mark.servers

ANDON = str(Path(sys.executable).with_name("andon"))
CONVERSION, ORDERS = "checkout conversion", "orders"
SHIPPED = (-810.0, "v1")
"""Thirteen and a half minutes ago: the watch of a quarter of an hour ends soon."""
SOUND = judged.HEALTHY_SHARE
CALM = (
    Lane("surge", (SHIPPED,), rate=during(-1500, -360, 40, 20)),
    Lane("blip", (SHIPPED,), rate=during(-810, -735, 6, 20), share=during(-810, -735, 0.3, SOUND)),
    Lane("outage", (SHIPPED,), share=during(-2400, math.inf, 0.5, SOUND)),
    Lane("fix", (SHIPPED,), share=during(-2400, -690, 0.5, SOUND)),
)
DARK = Lane("dark", ((-200.0, "v1"),), source="dark")
TWICE = Lane("twice", ((-720.0, "v1"), (-570.0, "v2")), share=during(-720, math.inf, 0.4, SOUND), watch_s=1800)
MENDED = Lane("mended", ((-720.0, "v1"), (-570.0, "v2")), share=during(-720, -510, 0.4, SOUND), watch_s=1800)


KEPT = Lane("kept", ((-60.0, "v1"),), share=during(-60, math.inf, 0.4, SOUND))


def until(look: Callable[[], Any], within_s: float, what: str) -> Any:
    """The first true value of `look`, which reads a whole ledger: not too often."""
    pause, end = threading.Event(), time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < end, f"not within {within_s:.0f} s: {what}"
        pause.wait(0.25)
    return found


class Desk:
    """A person with a config: andon's command, its engine, and what the ledger holds."""

    def __init__(self, config: Path) -> None:
        self.config, self.ledger = config, config.with_suffix("") / "ledger.db"
        self.engine: subprocess.Popen[bytes] | None = None

    def andon(self, *words: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a command; its exit code must be `code`."""
        done = subprocess.run(
            [ANDON, "-c", str(self.config), *words], capture_output=True, text=True, timeout=120, check=False
        )
        assert code is None or done.returncode == code, f"andon {' '.join(words)}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def start(self) -> None:
        """`andon watch`, as a service."""
        with self.config.with_suffix(".log").open("ab") as out:
            self.engine = subprocess.Popen([ANDON, "-c", str(self.config), "watch"], stdout=out, stderr=out)

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it with a signal."""
        if self.engine is not None:
            self.engine.send_signal(number)
            self.engine.wait(40)
            self.engine = None

    def line(self, name: str) -> Line:
        """A line, folded from the ledger's file."""
        ledger = SqliteLedger(self.ledger, WallClock(), read_only=True)
        try:
            board, seq = Board(), 0
            while rows := ledger.read(seq):
                _, board, seq = fold(board, rows)
            return board.line(name)
        finally:
            ledger.close()

    def events(self, kind: type, line: str) -> list[Any]:
        """All events of a kind, with the numbers that a board does not keep."""
        ledger = SqliteLedger(self.ledger, WallClock(), read_only=True)
        try:
            found, seq = [], 0
            while rows := ledger.read(seq):
                found += [decode(row.kind, row.body) for row in rows]
                seq = rows[-1].seq
            return [event for event in found if isinstance(event, kind) and event.line == line]
        finally:
            ledger.close()

    def word(self, line: str, deployment: str, metric: str = "") -> str:
        """The verdict on a deployment, or on one of its metrics; empty: none."""
        watch = self.line(line).watches.get(deployment)
        verdict = (watch.verdicts.get(metric) if metric else watch.verdict) if watch else None
        return verdict.word if verdict else ""

    def rollbacks(self, line: str) -> list[Act]:
        """Every rollback that was asked."""
        return [act for act in self.line(line).acts.values() if act.kind == "rollback"]

    def buckets(self, line: str) -> list[float]:
        """When the kept buckets of conversion began."""
        ledger = SqliteLedger(self.ledger, WallClock(), read_only=True)
        try:
            return [row.at for row in ledger.samples(f"{line}/{CONVERSION}", 0, 1e12)]
        finally:
            ledger.close()


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judged]:
    for name in ("prometheus", "promtool", "haproxy", "supervisord", "buildbot"):
        need(name)
    past = Judged(tmp_path_factory.mktemp("judged"), (*CALM, DARK, TWICE, MENDED, KEPT))
    past.start()
    yield past
    past.stop()


def undone(desk: Desk, line: str) -> Act:
    """The rollback that the immune system made there, once it is confirmed."""
    act = until(lambda: desk.rollbacks(line), 180, f"a rollback of {line} is asked")[0]
    act = until(lambda: (found := desk.line(line).acts[act.id]).settled and found, 40, "it is settled")
    assert (act.state, act.auto, act.who) == ("verified", True, "immune"), act.words
    return act  # type: ignore[no-any-return]


def desk_of(past: Judged, name: str, *lines: str) -> Desk:
    return Desk(past.config(past.world.folder / f"{name}.yaml", lines))


@pytest.fixture(scope="module")
def desk(past: Judged) -> Iterator[Desk]:
    """All lines but those in which two deployments are close together."""
    desk = desk_of(past, "andon", "shop", *(lane.name for lane in (*CALM, DARK)))
    desk.start()
    yield desk
    desk.end()


@pytest.fixture(scope="module")
def kept(past: Judged) -> Iterator[Desk]:
    """A line that breaks as well, with an engine of its own: lines that fall in the same minute roll nothing back."""
    desk = desk_of(past, "kept", "kept")
    desk.start()
    yield desk
    desk.end()


def test_a_the_engine_is_killed_in_mid_watch_and_started_again(desk: Desk, kept: Desk) -> None:
    until(lambda: len(kept.events(Armed, "kept")) == 2, 40, "both metrics are armed")
    kept.end(signal.SIGKILL)
    assert kept.word("kept", "d1", CONVERSION) != "regressed", "it was to be killed before the verdict"
    kept.start()


def test_b_what_a_deployment_breaks_is_found_without_a_threshold_and_undone_once(desk: Desk, past: Judged) -> None:
    act = undone(desk, "shop")
    assert (act.expected, act.version) == ("d2", past.good)
    assert past.world.deployed_version() == past.good
    line = desk.line("shop")
    assert [(hold.owner, hold.deployment) for hold in line.open_holds] == [("immune", "d2")]
    verdict = next(verdict for verdict in line.watches["d2"].verdicts.values() if verdict.word == "regressed")
    assert "anytime-valid, from " in verdict.sentence
    assert f" after {past.bad[:4]}" in verdict.sentence
    until(lambda: past.world.worker_paused("deploys"), 20, "Buildbot's deploy worker is paused")
    assert desk.andon("gate", "shop", code=1).stdout.strip() == "stopped"
    assert desk.andon("judge", "--replay", "d2", "--line", "shop").stdout


def test_c_the_check_says_what_each_watch_can_show(desk: Desk) -> None:
    done = desk.andon("check", "--json")
    power = {(item["line"], item["metric"]): item for item in json.loads(done.stdout)["power"]}
    assert set(power) == {
        (name, metric) for name in ("shop", "dark", "surge", "blip", "outage", "fix") for metric in (CONVERSION, ORDERS)
    }
    assert all(item["ok"] and item["effect"] < 1 and item["history_s"] > 80_000 for item in power.values()), power


def test_d_started_again_it_goes_on_with_the_same_evidence_and_comes_to_the_verdict(kept: Desk, past: Judged) -> None:
    act = undone(kept, "kept")
    assert (act.expected, act.version) == ("d1", "v0")
    armed = [(event.deployment, event.metric) for event in kept.events(Armed, "kept") if event.deployment == "d1"]
    assert sorted(armed) == [("d1", CONVERSION), ("d1", ORDERS)], "the second engine armed anew"
    found = next(event.verdict for event in kept.events(JudgedEvent, "kept") if event.verdict.word == "regressed")
    assert found.numbers[0].at - (past.ends + KEPT.shipped[0][0]) < EVERY_S, "from the deployment's first bucket on"
    assert len(past.rows("kept")) >= len(judged.EARLIER_H) + 2
    assert len(kept.rollbacks("kept")) == 1


def test_e_when_its_source_dies_in_mid_watch_it_is_blind_and_does_nothing(desk: Desk, past: Judged) -> None:
    until(lambda: desk.word("dark", "d1", CONVERSION) == "undecided", 40, "it is watched")
    past.dark.program.kill()
    until(lambda: desk.word("dark", "d1", CONVERSION) == "blind", 90, "blind")
    verdict = desk.line("dark").watches["d1"].verdicts[CONVERSION]
    assert "dark: " in verdict.sentence
    assert len(desk.events(JudgedEvent, "dark")[-1].verdict.numbers) > 3, "it had seen something before"
    assert desk.line("dark").open_holds == ()
    assert desk.rollbacks("dark") == []


@pytest.mark.parametrize("lane", [lane.name for lane in CALM])
def test_f_what_no_deployment_did_is_blamed_on_none(desk: Desk, past: Judged, lane: str) -> None:
    until(lambda: desk.line(lane).watches["d1"].ended, 150, f"the watch of {lane} has ended")
    line = desk.line(lane)
    assert line.watches["d1"].verdict is not None
    words = {name: (verdict.word, verdict.sentence) for name, verdict in line.watches["d1"].verdicts.items()}
    assert {word for word, _ in words.values()} <= {"healthy", "undecided"}, words
    assert line.open_holds == ()
    assert desk.rollbacks(lane) == []
    assert len(past.rows(lane)) == len(judged.EARLIER_H) + 1, "nothing was deployed there"
    if lane in ("surge", "blip"):
        assert words[CONVERSION][0] == "healthy", words


def test_g_the_past_on_the_real_prometheus_is_tried(desk: Desk) -> None:
    found = json.loads(desk.andon("backtest", "surge", "--since", "20h", "--placebos", "40", "--json").stdout)
    assert [report["metric"] for report in found["metrics"]] == [CONVERSION, ORDERS]
    for report in found["metrics"]:
        assert report["placebos"] >= 30
        assert report["effect"] is not None
        assert report["why"]
    text = desk.andon("backtest", "surge", "--since", "20h", "--placebos", "8").stdout
    assert CONVERSION[:10] in text
    assert "false alarms" in text


def test_h_of_two_deployments_the_newest_goes_back_first(past: Judged) -> None:
    """The first one did it; the second, shipped before anybody knew, does not help."""
    desk = desk_of(past, "twice", "twice")
    desk.start()
    try:
        act = undone(desk, "twice")
        assert (act.expected, act.version) == ("d2", "v0")
        line = desk.line("twice")
        assert line.watches["d2"].verdict is None or line.watches["d2"].verdict.word != "regressed"
        assert [hold.deployment for hold in line.open_holds] == ["d1"]
        assert "v2, shipped since, does not bring" in act.why
    finally:
        desk.end()


def test_i_a_fix_that_was_shipped_before_anybody_knew_stays(past: Judged) -> None:
    desk = desk_of(past, "mended", "mended")
    desk.start()
    try:
        until(lambda: desk.line("mended").open_holds, 60, "the line is stopped for what the first one did")
        held = time.time()
        until(lambda: desk.buckets("mended")[-1:] > [held + EVERY_S], 60, "two more buckets are judged")
        assert desk.rollbacks("mended") == []
        assert len(past.rows("mended")) == len(judged.EARLIER_H) + 2
    finally:
        desk.end()


def test_j_that_it_helped_is_measured_and_shown(desk: Desk) -> None:
    found = until(
        lambda: (helped := desk.line("shop").helped.get("d2")) and helped.word != "too early" and helped,
        240,
        "it is known whether the rollback helped",
    )
    assert found.word == "recovered", found.sentence
    assert ", expected 90" in found.sentence or ", expected 8" in found.sentence, found.sentence
    shown = json.loads(desk.andon("status", "shop", "--json", code=1).stdout)["lines"][0]
    assert shown["helped"]["d2"]["word"] == "recovered"
    assert len(desk.rollbacks("shop")) == 1
