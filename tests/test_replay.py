"""What was recorded of a deployment gives the same verdict again, bucket by bucket, and what was tampered with does not."""

import argparse
import asyncio
import json
import math

import msgspec
import pytest

from andon.board import Watch
from andon.clock import WallClock
from andon.events import Armed, DeploymentSeen, Judged, WatchOpened
from andon.immune.statistical import Statistical
from andon.model import Deployment, Sample
from andon.stations import Stations
from andon.yamlfile import FileError
from tui import past, replaying
from tui.cli import _Parser
from tui.setup import Desk, open_ledger

NOW = 1_790_000_000.0
METRIC = """{name: conversion, from: plant, kind: proportion, bad: falls, every: 60s, lag: 5s, value: conversion}"""
CONFIG = f"""
connections: {{plant: {{adapter: plant}}}}
lines:
  checkout:
    deploy: {{from: plant}}
    watch: {{full: 15m}}
    metrics: [{METRIC}]
  search: {{deploy: {{from: plant}}}}
"""


class Standing(WallClock):
    """A clock that stands still: the plant's past is the same each time."""

    def now(self):
        return NOW


@pytest.fixture
def desk(tmp_path):
    return desk_of(tmp_path)


def desk_of(folder, config=CONFIG):
    path = folder / "andon.yaml"
    path.write_text(config)
    path.chmod(0o600)
    common = argparse.Namespace(
        config=str(path), ledger=str(folder / "ledger.db"), who="me", read_only=False, wall=False
    )
    return Desk(common, clock=Standing())


async def lived_through(desk, *, harmed, later=()):
    """Let the engine's judge watch one of the plant's past deployments; returns the deployment and the verdict."""
    config = desk.config.lines["checkout"]
    (metric,) = config.metrics
    keeper = open_ledger(desk.ledger, desk.clock, read_only=False)
    stations = Stations(desk.config, desk.clock, desk.state)
    try:
        history = await stations.deploy("checkout").history(1000)
        old = [item for item in reversed(history) if NOW - 12 * 86400 < item.at < NOW - 86400]
        one = next(item for item in old if (item.verified is False) is harmed)
        watch = Watch(one.id, one.version, one.at, one.at + config.watch_s)
        opened = WatchOpened("checkout", one.at, one.id, one.version, watch.until, watch.began)
        await keeper.commit(DeploymentSeen("checkout", one.at, "plant", one), opened)
        for index, after_s in enumerate(later):
            other = Deployment(f"later-{index}", "fff1234", "settled", one.at + after_s)
            await keeper.commit(DeploymentSeen("checkout", other.at, "plant", other))
        source = stations.metrics("checkout", "plant")
        found = await source.samples(metric, one.at - 600, watch.until + 60, metric.every)
        await keeper.call(lambda ledger: ledger.keep("checkout/conversion", found.rows))
        statistical = Statistical(desk.config, stations, keeper, desk.clock)
        verdict, final = await statistical.verdict(config, metric, watch, watch.until + 10, "")
        assert final
        await keeper.commit(Judged("checkout", verdict.at, one.id, verdict))
        return one, verdict
    finally:
        await stations.close()
        keeper.close()


def replay(desk, *words):
    parser = _Parser()
    past.add(parser.add_subparsers(dest="command"))
    return replaying.replay(desk, parser.parse_args(["judge", "--replay", *words]))


def test_a_regression_comes_out_again_with_its_onset_and_evidence(desk, capsys):
    one, verdict = asyncio.run(lived_through(desk, harmed=True))
    assert verdict.word == "regressed"
    assert replay(desk, one.id) == 0
    said = capsys.readouterr().out
    assert "conversion: regressed, as recorded" in said
    assert said.count(" %  ") >= len(verdict.numbers)
    assert max(map(len, said.splitlines())) <= 80
    assert replay(desk, one.version[:7], "--line", "checkout", "--json") == 0
    (metric,) = json.loads(capsys.readouterr().out)["metrics"]
    assert metric["same"]
    assert (metric["onset"], metric["sentence"]) == (verdict.onset, verdict.sentence)
    assert [look["at"] for look in metric["looks"]] == [row.at for row in verdict.numbers]
    evidence = [look["evidence"] for look in metric["looks"]]
    assert evidence[0] < metric["needed"] <= evidence[-1]
    assert metric["needed"] == pytest.approx(3.0)


def test_a_healthy_deployment_comes_out_healthy_again(desk, capsys):
    one, verdict = asyncio.run(lived_through(desk, harmed=False))
    assert verdict.word in ("healthy", "undecided")
    assert replay(desk, one.id, "--json") == 0
    (metric,) = json.loads(capsys.readouterr().out)["metrics"]
    assert (metric["word"], metric["sentence"]) == (verdict.word, verdict.sentence)
    assert "onset" not in metric or metric["onset"] is None


def test_a_later_deployment_that_was_known_then_is_known_again(desk, capsys):
    """It takes the blame; without it the same buckets would be a regression."""
    one, verdict = asyncio.run(lived_through(desk, harmed=True, later=[30.0]))
    assert verdict.word != "regressed"
    assert replay(desk, one.id) == 0
    assert "as recorded" in capsys.readouterr().out


def rewritten(desk, folder, change):
    """A ledger of its own with the same events, of which `change` makes others."""
    old = open_ledger(desk.ledger, desk.clock, read_only=True)
    events = old.submit(lambda ledger: list(replaying._events(ledger, None))).result()
    old.close()
    folder.mkdir()
    other = desk_of(folder)
    keeper = open_ledger(other.ledger, desk.clock, read_only=False)
    asyncio.run(keeper.commit(*(change(event) for event in events)))
    keeper.close()
    return other


def better(event):
    """The recorded numbers as they would be if nothing had happened."""
    if not isinstance(event, Judged):
        return event
    numbers = tuple(Sample(row.at, round(row.n * 0.031), row.n) for row in event.verdict.numbers)
    return msgspec.structs.replace(event, verdict=msgspec.structs.replace(event.verdict, numbers=numbers))


def surer(event):
    """What it was armed with asks for more evidence than there was."""
    if not isinstance(event, Armed):
        return event
    record = json.loads(event.record)
    return msgspec.structs.replace(event, record=json.dumps(record | {"threshold": math.log(1e30)}))


def unreadable(event):
    return msgspec.structs.replace(event, record="{}") if isinstance(event, Armed) else event


def reworded(event):
    if not isinstance(event, Judged):
        return event
    verdict = msgspec.structs.replace(event.verdict, sentence=event.verdict.sentence.replace("-4", "-9"))
    assert verdict != event.verdict
    return msgspec.structs.replace(event, verdict=verdict)


def late(event):
    """The first buckets are gone."""
    if not isinstance(event, Judged):
        return event
    return msgspec.structs.replace(
        event, verdict=msgspec.structs.replace(event.verdict, numbers=event.verdict.numbers[3:])
    )


def test_what_was_changed_afterwards_comes_out_otherwise(desk, tmp_path, capsys):
    one, _ = asyncio.run(lived_through(desk, harmed=True))
    assert replay(rewritten(desk, tmp_path / "same", lambda event: event), one.id) == 0
    for change in (better, surer, unreadable, reworded, late):
        capsys.readouterr()
        assert replay(rewritten(desk, tmp_path / change.__name__, change), one.id) == 1, change.__name__
        said = capsys.readouterr().out
        assert "recorded: regressed" in said
        assert ("the first buckets" in said) is (change is late)
        assert ("cannot be read" in said) is (change is unreadable)


def test_what_is_not_there_is_said(desk, capsys):
    open_ledger(desk.ledger, desk.clock, read_only=False).close()
    assert replay(desk, "d1") == 2
    assert "no watch of a deployment 'd1' is recorded" in capsys.readouterr().err
    with pytest.raises(FileError, match="there is no line 'nope'"):
        replay(desk, "d1", "--line", "nope")
    keeper = open_ledger(desk.ledger, desk.clock, read_only=False)
    both = [WatchOpened(line, NOW, "d1", "abc1234", NOW + 900, NOW) for line in ("checkout", "search")]
    asyncio.run(keeper.commit(*both))
    keeper.close()
    assert replay(desk, "d1") == 2
    assert "d1 on checkout, d1 on search: say which" in capsys.readouterr().err
    assert replay(desk, "d1", "--line", "search") == 2
    assert "the judge was not armed for it" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        replay(desk)


def test_a_line_that_left_the_config_can_still_be_replayed(desk, tmp_path, capsys):
    one, _ = asyncio.run(lived_through(desk, harmed=True))
    config = CONFIG.replace("  checkout:", "  shop:")
    other = desk_of(tmp_path, config)
    assert replay(other, one.id) == 0
    assert "conversion: regressed, as recorded" in capsys.readouterr().out
