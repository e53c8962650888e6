"""The judge before the past: which trials are made, what comes of them, what is said of it, and the command."""

import argparse
import asyncio
import itertools
import json
import math
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from andon.clock import WallClock
from andon.immune import backtest, recommending
from andon.immune.backtest import Asked, Deployed, Outcome, Series, Trial
from andon.model import Metric, Sample, Samples, Threshold
from andon.ports import Can, Unreachable
from andon.yamlfile import FileError
from tests.helpers import wait_until
from tui import backtesting, past
from tui.cli import _Parser
from tui.setup import Desk

ROOT = Path(__file__).parents[1]
DAY_S = 86_400.0
START = 19_700 * DAY_S
METRIC = Metric("orders", "shop", "count", "falls", "orders", on_regression="rollback")
AT = START + 9.5 * DAY_S + 17.0
"""When a deployment began: not at the begin of a bucket."""


def rows_of(days=10.0, rate=40, every=60.0, harm=(), factor=0.5, seed=1):
    """A busy shop's orders; between each two times of `harm` there are fewer of them."""
    dice = random.Random(seed)
    rows = []
    for index in range(int(days * DAY_S / every)):
        at = START + index * every
        mean = rate * (factor if any(begin <= at < end for begin, end in harm) else 1.0)
        rows.append(Sample(at, max(0.0, round(dice.gauss(mean, math.sqrt(mean))))))
    return rows


def asked_of(rows, deployments=(), **more):
    values = {"metric": METRIC, "watch_s": 900.0, "since": START + DAY_S} | more
    return Asked(series=Series.of(rows), deployments=tuple(deployments), **values)


# ---- which trials


def crowded(trials, deployments, watch_s):
    """Whether a placebo stands in the watch of a deployment or of another placebo, or a deployment in its own."""
    placebos = sorted(trial.at for trial in trials if not trial.version)
    pairs = itertools.pairwise(placebos)
    near = any(abs(at - item.at) < watch_s for at in placebos for item in deployments)
    return near or any(later - earlier < watch_s for earlier, later in pairs)


@pytest.mark.parametrize("seed", range(20))
def test_placebos_keep_away_from_deployments_and_from_each_other(seed):
    dice = random.Random(seed)
    ats = sorted(START + dice.uniform(-1, 11) * DAY_S for _ in range(dice.choice([0, 3, 40, 400])))
    deployments = [Deployed(at, f"v{index}") for index, at in enumerate(ats)]
    asked = asked_of(rows_of(every=600.0), deployments, watch_s=dice.choice([300.0, 900.0, 5400.0]))
    trials = backtest.trials(asked, 100, seed)
    assert not crowded(trials, deployments, asked.watch_s)
    assert all(START + DAY_S <= trial.at <= START + 10 * DAY_S - asked.watch_s for trial in trials)
    assert trials == backtest.trials(asked, 100, seed)
    blind = backtest.trials(msgspec.structs.replace(asked, deployments=()), 100, seed)
    if len(ats) > 100:  # the guard switched off: placebos that do not know of the deployments
        assert crowded(blind, deployments, asked.watch_s)


def test_there_are_as_many_placebos_as_wanted_or_as_fit():
    asked = asked_of(rows_of(every=600.0))
    assert len(backtest.trials(asked, 37)) == 37
    assert len({trial.at for trial in backtest.trials(asked, 10_000)}) == 5 * 96 - 1
    dense = [Deployed(START + index * 1000.0, "v") for index in range(864)]
    assert not [trial for trial in backtest.trials(asked_of(rows_of(every=600.0), dense), 50) if not trial.version]
    assert backtest.trials(asked_of([])) == []


def test_a_placebo_has_half_of_the_history_before_it():
    assert min(trial.at for trial in backtest.trials(asked_of(rows_of(every=600.0)), 400)) >= START + 5 * DAY_S


def test_every_past_deployment_whose_watch_is_over_is_tried():
    ats = (START - DAY_S, START + DAY_S / 2, START + 2 * DAY_S, START + 10 * DAY_S - 60)
    deployments = [Deployed(at, f"v{index}") for index, at in enumerate(ats)]
    past_ones = [trial for trial in backtest.trials(asked_of(rows_of(every=600.0), deployments), 0) if trial.version]
    assert [trial.version for trial in past_ones] == ["v2"]


# ---- one trial


def outcome_of(asked, at=AT, version="3f2a91"):
    return asyncio.run(backtest.judge(asked, Trial(at, version)))


def test_a_deployment_that_did_harm_is_found_with_when_and_why():
    found = outcome_of(asked_of(rows_of(harm=((AT, AT + 1800),)), [Deployed(AT, "3f2a91")]))
    assert AT < found.seen <= AT + 480
    assert abs(found.onset - AT) <= 60
    assert found.sentence.startswith("orders 39.9 → 20.4, -50 % [")
    assert "after 3f2a" in found.sentence
    assert 0.1 < found.effect < 0.4


def test_a_deployment_that_did_none_is_not():
    found = outcome_of(asked_of(rows_of(), [Deployed(AT, "3f2a91")]))
    assert found.seen is None
    assert not found.unjudged
    assert not found.sentence


def test_what_began_with_a_later_deployment_is_not_the_earlier_ones():
    both = [Deployed(AT, "first"), Deployed(AT + 300, "second")]
    asked = asked_of(rows_of(harm=((AT + 300, AT + 3000),)), both)
    assert outcome_of(asked, AT, "first").seen is None
    assert outcome_of(asked, AT + 300, "second").seen is not None


def test_it_comes_out_as_for_a_deployment_of_today():
    """The same buckets through what arms and follows the watches of the engine."""
    from andon.board import Watch
    from andon.immune.pursuit import Pursuit, arm_watch
    from andon.immune.statistical import SUSPECT_S

    rows = rows_of(harm=((AT, AT + 1800),))
    earlier = [Deployed(AT - hours * 3600.0, f"v{hours}") for hours in (0.5, 5, 30, 40, 50, 60)]
    found = outcome_of(asked_of(rows, sorted([*earlier, Deployed(AT, "now")], key=lambda item: item.at)))
    event = arm_watch(
        "shop",
        METRIC,
        Watch("d1", "now", AT, AT + 900),
        rows,
        metrics=1,
        suspects=[item.at for item in earlier if AT - item.at <= SUSPECT_S],
        past=[item.at for item in earlier if AT - item.at > SUSPECT_S],
        after_s=0.0,
    )
    pursuit = Pursuit(event.record)
    after = [row for row in rows if pursuit.began <= row.at <= AT + 840]
    asyncio.run(pursuit.follow(after, (), asyncio.to_thread))
    assert (found.seen, found.onset) == (pursuit.found.seen, pursuit.found.onset)


def test_a_trial_without_enough_history_or_buckets_is_not_judged():
    assert outcome_of(asked_of(rows_of()), START + 1800).unjudged == "only 30 min of history"
    gone = [row for row in rows_of() if not AT + 240 < row.at < AT + 900]
    assert "buckets are missing" in outcome_of(asked_of(gone)).unjudged


# ---- what they add up to


@pytest.mark.parametrize(
    ("cases", "of", "rate"),
    [
        (0, 200, 0.014867),
        (1, 200, 0.023496),
        (2, 200, 0.031151),
        (3, 100, 0.075713),
        (0, 1, 0.95),
        (5, 5, 1.0),
        (0, 0, 1.0),
    ],
)
def test_the_bound_is_that_of_clopper_and_pearson(cases, of, rate):
    assert recommending.upper_bound(cases, of) == pytest.approx(rate, abs=1e-5)


def outcomes(placebos, alarms, effect=0.2, deployed=0):
    found = [Outcome(float(i), effect=effect, usual=0.2, usual_s=300.0) for i in range(placebos - alarms)]
    found += [Outcome(1e6 + i, seen=1e6 + i + 240, effect=effect, sentence="orders fell") for i in range(alarms)]
    return [*found, *(Outcome(2e6 + i, "v", seen=2e6 + i + 240, effect=effect) for i in range(deployed))]


@pytest.mark.parametrize(
    ("placebos", "alarms", "effect", "setting", "why"),
    [
        (200, 0, 0.2, "rollback", "no false alarms in 200, so at most 1 in 67; a fall of 20 % can be shown"),
        (400, 2, 0.3, "rollback", "2 false alarms in 400, so at most 1 in 63; a fall of 30 % can be shown"),
        (200, 1, 0.2, "stop", "1 false alarm in 200, so at most 1 in 42; for a rollback it would have to be 1 in 50"),
        (100, 0, 0.2, "stop", "no false alarms in 100, so at most 1 in 33; for a rollback more history has to show 1 in 50"),
        (200, 0, 0.31, "stop", "no false alarms in 200, so at most 1 in 67; but only a fall of 31 % can be shown, not less"),
        (200, 20, 0.2, "tell", "20 false alarms in 200, so at most 1 in 7: too many to stop a line for"),
        (200, 0, None, "tell", "no fall can be shown in its watch, however large"),
        (0, 0, None, "tell", "no placebo deployment could be judged: there is too little history between deployments"),
    ],
)  # fmt: skip
def test_the_setting_that_is_recommended_and_why(placebos, alarms, effect, setting, why):
    report = recommending.report(METRIC, outcomes(placebos, alarms, effect))
    assert (report.setting, report.why) == (setting, why)


def test_a_rate_that_rises_may_have_to_double_to_be_seen():
    errors = msgspec.structs.replace(METRIC, kind="proportion", bad="rises")
    assert recommending.report(errors, outcomes(200, 0, 1.0)).setting == "rollback"
    assert recommending.report(errors, outcomes(200, 0, 1.1)).setting == "stop"


def test_nothing_is_rolled_back_where_nothing_can_be():
    report = recommending.report(METRIC, outcomes(200, 0), can_roll_back=False)
    assert report.setting == "stop"
    assert report.why.endswith("no `deploy:` to roll back with")


def test_trials_that_could_not_be_judged_count_for_nothing():
    silent = [Outcome(3e6 + i, unjudged="only 30 min of history") for i in range(50)]
    report = recommending.report(METRIC, [*outcomes(10, 0, deployed=3), *silent])
    assert (report.placebos, report.deployments, report.unjudged, len(report.regressed)) == (10, 3, 50, 3)


def test_the_median_effect_counts_watches_that_can_show_none():
    mixed = [Outcome(float(i), effect=None if i < 6 else 0.1) for i in range(10)]
    assert recommending.report(METRIC, mixed).effect is None
    assert recommending.report(METRIC, [*mixed, *outcomes(3, 0, 0.1)]).effect == 0.1


# ---- many trials, in other processes


def test_workers_find_what_one_process_finds():
    rows = rows_of(days=3, harm=((START + 2 * DAY_S, START + 2 * DAY_S + 1800),))
    deployments = [Deployed(START + 2 * DAY_S, "bad"), Deployed(START + 2.5 * DAY_S, "good")]
    asked = asked_of(rows, deployments, since=START)
    other = msgspec.structs.replace(asked, metric=msgspec.structs.replace(METRIC, name="other"))
    wanted = [backtest.trials(item, 12) for item in (asked, other)]
    heard = []
    found = backtest.run((asked, other), wanted, lambda *counts: heard.append(counts))
    for item, trials, outcomes_ in zip((asked, other), wanted, found, strict=True):
        alone = [asyncio.run(backtest.judge(item, trial)) for trial in trials]
        assert outcomes_ == sorted(alone, key=lambda outcome: outcome.at)
        assert [outcome.version for outcome in outcomes_ if outcome.seen] == ["bad"]
    assert heard[-1] == (28, 28)
    assert backtest.run((), ()) == []


ENDLESS = """
import multiprocessing, sys
from andon.immune import backtest, recommending
from tests.test_backtest import asked_of, rows_of, Trial, START, DAY_S

def tick(done, of):
    if done == backtest.CHUNK:
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)

if __name__ == "__main__":
    asked = asked_of(rows_of(days=3))
    try:
        backtest.run([asked], [[Trial(START + 2 * DAY_S + i) for i in range(20_000)]], tick)
    except KeyboardInterrupt:
        sys.exit(130)
"""


def is_gone(pid):
    """Whether a process has ended, also if nobody has collected it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupt_ends_it_and_no_worker_outlives_it(tmp_path, number):
    program = tmp_path / "endless.py"
    program.write_text(ENDLESS)
    pipe = subprocess.PIPE
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    running = subprocess.Popen(
        [sys.executable, str(program)], stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True
    )
    try:
        workers = [int(pid) for pid in running.stdout.readline().split()]
        assert workers
        if number == signal.SIGINT:
            os.killpg(running.pid, number)  # as a terminal does, to all of them
        else:
            os.kill(running.pid, number)
        said = running.communicate(timeout=60)[1]
        assert running.returncode == (130 if number == signal.SIGINT else -number)
        assert "Traceback" not in said
        wait_until(lambda: all(is_gone(pid) for pid in workers), 30, "the workers end")
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait(30)


# ---- reading the past


class Store:
    """A metrics source that keeps so much, answers in pieces, and may fail at first."""

    def __init__(self, history_s=0.0, fails=0):
        self.can, self.fails, self.asked = Can(history_s=history_s), fails, []

    async def samples(self, _, start, end, every):
        if self.fails:
            self.fails -= 1
            raise Unreachable("busy")
        self.asked.append((start, end))
        ats = [start + i * every for i in range(int((end - start) // every))]
        rows = tuple(Sample(at, 1.0) for at in ats if at % 7200)
        return Samples("partial", rows, "an hour is missing here and there")


def read(monkeypatch, source, since_s=30 * DAY_S, lag=60.0):
    async def at_once(_):
        return None

    monkeypatch.setattr(backtesting.asyncio, "sleep", at_once)
    metric = msgspec.structs.replace(METRIC, lag=lag)
    until = START + 90 * DAY_S + 31.0
    found = backtesting._Past(until - since_s, until)
    rows = asyncio.run(backtesting._history(source, metric, found, lambda _: None))
    return rows, found


def test_history_is_asked_in_whole_pieces_of_a_day_with_a_fortnight_before(monkeypatch):
    source = Store()
    rows, found = read(monkeypatch, source)
    assert all(0 < end - start <= DAY_S and start % 60 == end % 60 == 0 for start, end in source.asked)
    assert [end for _, end in source.asked[:-1]] == [start for start, _ in source.asked[1:]]
    assert source.asked[-1][1] == (found.until - 60) // 60 * 60
    assert 0 <= source.asked[0][0] - (found.until - 44 * DAY_S) < 60
    missing = sum(at % 7200 == 0 for at in range(int(rows[0].at), int(source.asked[-1][1]), 60))
    whole = missing + len(rows)
    assert found.notes == [f"orders: {missing} of {whole:,} buckets are missing: an hour is missing here and there"]
    assert missing > 500


def test_no_more_is_asked_than_the_source_has(monkeypatch):
    source = Store(history_s=15 * DAY_S)
    _, found = read(monkeypatch, source)
    assert source.asked[0][0] >= found.until - 15 * DAY_S
    assert found.notes[-1] == "orders: its source reaches back 14 d"


def test_a_source_that_is_busy_is_asked_again_and_one_that_is_gone_is_not_for_ever(monkeypatch):
    rows, _ = read(monkeypatch, Store(fails=2))
    assert rows
    with pytest.raises(Unreachable):
        read(monkeypatch, Store(fails=3))


# ---- the command


class Standing(WallClock):
    """A clock that stands still, so that the shop is the same each time."""

    def now(self):
        return 1_790_000_000.0


def arguments(*words):
    parser = _Parser()
    past.add(parser.add_subparsers(dest="command"))
    return parser.parse_args(words)


def desk_of(folder, config, args):
    path = folder / "andon.yaml"
    path.write_text(config)
    path.chmod(0o600)
    common = argparse.Namespace(
        config=str(path), ledger=str(folder / "ledger.db"), who="me", read_only=False, wall=False
    )
    return Desk(common, clock=Standing()), args


def do(folder, config, *words):
    return backtesting.backtest(*desk_of(folder, config, arguments("backtest", *words)))


SAMPLE = (ROOT / "sample_config.yaml").read_text()


def test_the_sample_is_tested_over_thirty_days_of_the_plant(tmp_path, capsys):
    words = ("checkout", "--since", "30d", "--metric", "checkout conversion", "--placebos", "40")
    assert do(tmp_path, SAMPLE, *words) == 0
    said = capsys.readouterr()
    assert not said.err  # stderr is no terminal: there is no bar
    lines = said.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("checkout, ")
    assert "each watched for 15 min" in lines[0]
    (head,) = [line for line in lines if line.startswith("metric")]
    (row,) = [line for line in lines if line.startswith("checkout conversion ")]
    assert head.split() == ["metric", "false", "alarms", "shows", "takes", "regressed", "setting"]
    assert "0 of 40, ≤ 7.2 %" in row
    assert row.endswith("stop")
    assert "-valid, from" in said.out.replace("\n   ", "")  # the plant's past has versions with a defect
    assert "! deployments come from the deploy target alone" in said.out


def test_as_json_it_says_the_same_and_names_the_bad_ones_only(tmp_path, capsys):
    words = ("checkout", "--since", "12d", "--metric", "conv", "--placebos", "8", "--json")
    assert do(tmp_path, SAMPLE, *words) == 0
    said = json.loads(capsys.readouterr().out)
    (metric,) = said["metrics"]
    assert (said["line"], said["watch_s"], metric["metric"]) == ("checkout", 900, "checkout conversion")
    assert metric["placebos"] == 8
    assert metric["false_alarms"] == []
    assert 0 < metric["deployments"] <= said["deployments"]
    bad = {item.version for item in asyncio.run(_vendor_says_bad(tmp_path))}
    assert {item["version"] for item in metric["regressed"]} <= bad


async def _vendor_says_bad(folder):
    from andon.stations import Stations

    desk, _ = desk_of(folder, SAMPLE, None)
    stations = Stations(desk.config, desk.clock, desk.state, read_only=True)
    try:
        return [item for item in await stations.deploy("checkout").history(1000) if item.verified is False]
    finally:
        await stations.close()


def test_what_cannot_be_answered_is_said(tmp_path):
    with pytest.raises(FileError, match='did you mean "checkout"'):
        do(tmp_path, SAMPLE, "chekout")
    with pytest.raises(FileError, match="there is no metric 'nope'; there are checkout conversion, p95 latency"):
        do(tmp_path, SAMPLE, "checkout", "--metric", "nope")
    for wrong in (["--placebos", "0"], ["--placebos", "many"], ["--since", "soon"], []):
        with pytest.raises(SystemExit):
            arguments("backtest", *([] if not wrong else ["checkout", *wrong]))


def test_a_metric_that_cannot_be_read_is_told_and_fails_the_command(tmp_path, capsys):
    config = SAMPLE.replace(
        "value: latency, every: 30s, lag: 3s}\n    notify", "value: nothing, every: 30s}\n    notify"
    )
    assert config != SAMPLE
    assert do(tmp_path, config, "checkout", "--metric", "p95 latency") == 1
    assert "✗ p95 latency: its source has no samples of that time" in capsys.readouterr().out


def test_the_deployments_that_the_ledger_knows_are_tried_too(tmp_path):
    from andon.events import DeploymentSeen
    from andon.model import Deployment
    from tui.setup import open_ledger

    keeper = open_ledger(str(tmp_path / "ledger.db"), Standing(), read_only=False)
    at = Standing().now() - DAY_S
    asyncio.run(keeper.commit(DeploymentSeen("checkout", at, "plant", Deployment("d1", "abc1234", "settled", at))))
    keeper.close()
    found = backtesting._Past(0.0, Standing().now())
    desk, _ = desk_of(tmp_path, SAMPLE, None)
    known = asyncio.run(backtesting._deployments(desk, desk.config.lines["checkout"], None, found))
    assert [(item.at, item.version, item.good) for item in known] == [(at, "abc1234", True)]
    assert found.notes == []


def test_a_threshold_is_named_where_one_decides():
    metric = msgspec.structs.replace(METRIC, threshold=Threshold(below=1.0))
    told = "\n".join(backtesting._told(recommending.report(metric, outcomes(200, 7, deployed=1)), metric))
    assert "It has a threshold, which decides" in told
    assert told.count("false alarm, or an incident") == backtesting.NAMED_ALARMS
    assert "and 2 more" in told
    assert max(map(len, told.splitlines())) <= 80


def test_the_bar_is_drawn_on_a_terminal_and_leaves_nothing(monkeypatch):
    written = []

    class Terminal:
        encoding = "utf-8"

        def isatty(self):
            return True

        def write(self, text):
            written.append(text)

        def flush(self):
            pass

    monkeypatch.setattr(backtesting.sys, "stderr", Terminal())
    bar = backtesting._Bar()
    bar.show(0.5, "reading \x1b[31mconversion")
    bar.clear()
    assert written[0].startswith("\r██████████░░░░░░░░░░  50 %  reading")
    assert "\x1b" not in written[0]
    assert len(written[0]) <= 80
    assert written[-1].strip() == ""
