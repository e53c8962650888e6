"""The plant as an outside system: its business feels a defect, its stations stand, deploy, measure and tell."""

import math
from functools import partial

import pytest

from adapters._plant_trade import SERIES, measured, meters_down, rhythm
from andon.model import Halted, Metric, Note, Part, Run, Why
from andon.ports import (
    CI,
    Accepted,
    Changes,
    Conflict,
    Deploy,
    Garbled,
    Halting,
    Metrics,
    Notifier,
    Refused,
    Unreachable,
    Wait,
)
from tests.adapters.plants import (
    HOLD,
    LINES,
    START,
    Hand,
    connect,
    everything,
    live,
    metric,
    station,
    until_shipped,
    until_waits,
)


async def test_a_defect_lowers_conversion_and_the_way_back_restores_it(tmp_path):
    clock = Hand()
    shop = connect(tmp_path, clock)
    production, meters = station(shop, "deploy"), station(shop, "metrics")
    good = await production.current()
    await live(clock, 300.0, production.current)
    bad = await until_shipped(clock, production, good)
    await live(clock, 300.0, production.current)
    await station(shop, "ci").halt(HOLD)
    answer = await production.deploy(good.version, expected=bad.id, key="back", through=None)
    went_back = clock.time
    await live(clock, 600.0, production.current)

    async def share(start: float, end: float) -> float:
        rows = (await meters.samples(metric("conversion"), start, end, 20.0)).rows
        return sum(row.value for row in rows) / sum(row.n for row in rows)

    before = await share(clock.time - 3 * 3600.0, bad.at)
    during = await share(bad.at + 40.0, went_back)
    after = await share(went_back + 40.0, clock.time)
    assert answer.ref == (await production.current()).id
    assert (await production.current()).back
    assert during / before == pytest.approx(0.6, abs=0.05)
    assert after / before == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("line", [*LINES, "elsewhere"])
async def test_there_are_thirty_days_of_finite_numbers_behind_the_start(tmp_path, line):
    meters = station(connect(tmp_path, Hand()), "metrics", line)
    for series in SERIES:
        found = await meters.samples(metric(series), START - 30 * 86400.0, START, 3600.0)
        assert found.state == "ok"
        assert len(found.rows) in (719, 720)
        assert all(math.isfinite(row.value) and row.value >= 0.0 for row in found.rows)
        assert all(row.n is None or row.n >= row.value or series == "latency" for row in found.rows)
    assert (await meters.samples(metric("errors"), START - 40 * 86400.0, START, 3600.0)).state == "partial"


async def test_only_closed_buckets_are_given_and_none_is_not_zero(tmp_path):
    clock = Hand(START + 30.0)
    meters = station(connect(tmp_path, clock), "metrics")
    rows = (await meters.samples(metric("signups"), clock.time - 600.0, clock.time + 600.0, 60.0)).rows
    assert all(row.at % 60.0 == 0.0 and row.at + 60.0 <= clock.time for row in rows)
    assert all(row.at >= clock.time - 600.0 for row in rows)
    assert len(rows) in (9, 10)
    nothing = await meters.samples(metric("signups"), clock.time - 10.0, clock.time, 60.0)
    assert (nothing.state, nothing.rows) == ("empty", ())


async def test_a_bucket_is_the_same_whoever_asks_and_however_often(tmp_path):
    clock = Hand()
    one, other = connect(tmp_path, clock), connect(tmp_path, clock)
    ask = partial(lambda meters: meters.samples(metric("revenue"), START - 9_000.0, START, 60.0))
    assert await ask(station(one, "metrics")) == await ask(station(other, "metrics"))


def test_the_day_has_its_rhythm_and_the_counts_their_noise():
    evening, night = 86400.0 * 20_000 + 19 * 3600.0, 86400.0 * 20_000 + 7 * 3600.0
    assert rhythm(evening) > 1.8 * rhythm(night)
    rows = [measured(7, "checkout", "conversion", int(evening // 60) + n, 60.0, 1.0) for n in range(400)]
    shares = [value / n for value, n in rows]
    mean = sum(shares) / len(shares)
    spread = math.sqrt(sum((share - mean) ** 2 for share in shares) / len(shares))
    binomial = math.sqrt(mean * (1 - mean) / (sum(n for _, n in rows) / len(rows)))
    assert 0.9 * binomial < spread < 1.6 * binomial


async def test_the_meters_of_payments_die_from_time_to_time_and_the_gap_fills(tmp_path):
    clock = Hand()
    shop = connect(tmp_path, clock)
    payments, checkout = station(shop, "metrics", "payments"), station(shop, "metrics", "checkout")
    ask = partial(payments.samples, metric("revenue"))
    died = []
    for _ in range(200):
        clock.time += 20.0
        try:
            await ask(clock.time - 600.0, clock.time, 60.0)
        except Unreachable:
            died.append(clock.time)
        assert (await checkout.samples(metric("revenue"), clock.time - 600.0, clock.time, 60.0)).state == "ok"
    assert 5 <= len(died) <= 40
    assert died[0] - START > 480.0
    filled = await ask(died[0] - 60.0, died[-1] + 60.0, 60.0)
    assert len(filled.rows) >= (died[-1] - died[0]) // 60
    assert not meters_down(7, "checkout", 1_000.0)


async def test_a_series_nobody_measures_is_named(tmp_path):
    meters = station(connect(tmp_path, Hand()), "metrics")
    found = await meters.samples(Metric("m", "shop", "gauge", "falls", "mood"), START - 600.0, START, 60.0)
    assert (found.state, found.rows) == ("empty", ())
    assert found.words == "the plant measures conversion, revenue, signups, latency, errors; not 'mood'"
    with pytest.raises(Garbled, match="no buckets"):
        await meters.samples(metric("errors"), START - 60.0, START, 0.0)


async def test_a_halted_line_ships_nothing_while_tests_go_on_and_releasing_ships_what_waited(tmp_path):
    clock = Hand()
    shop = connect(tmp_path, clock)
    ci, production = station(shop, "ci"), station(shop, "deploy")
    before = await ci.halted()
    assert not before.halted
    assert isinstance(await ci.halt(HOLD), Accepted)
    stands = await ci.halted()
    assert stands.halted
    assert HOLD.id in stands.parts[0].note
    first = await production.current()
    await live(clock, 1_800.0, production.current)
    assert await production.current() == first
    runs = [fact for fact in await everything(ci.watch()) if isinstance(fact, Run)]
    waiting = [run for run in runs if run.state == "running" and run.stages[1].state == "passed"]
    assert len(waiting) >= 2, "what passed waits as inventory"
    newest = waiting[-1]
    assert (await ci.passed(newest.change)).state == "yes"
    assert isinstance(await ci.release(HOLD, before), Accepted)
    assert not (await ci.halted()).halted
    shipped = await until_shipped(clock, production, first)
    assert shipped.change == newest.change
    after = {fact.id: fact for fact in await everything(ci.watch()) if isinstance(fact, Run)}
    assert all(after[run.id].state == "passed" for run in waiting), "the older ones went as one batch"


async def test_releasing_restores_what_stood_before_and_nothing_more(tmp_path):
    ci = station(connect(tmp_path, Hand()), "ci", halts=("deploy", "test"))
    await ci.release(HOLD, Halted((Part("deploy", False), Part("test", True, "since Monday"))))
    before = await ci.halted()
    await ci.halt(HOLD)
    assert (await ci.halted()).halted
    await ci.release(HOLD, before)
    assert [(part.name, part.halted, part.note) for part in (await ci.halted()).parts] == [
        ("deploy", False, ""),
        ("test", True, "since Monday"),
    ]


async def test_halting_twice_is_the_same_as_once(tmp_path):
    shop = connect(tmp_path, Hand())
    ci = station(shop, "ci")
    await ci.halt(HOLD)
    size = shop.file.path.stat().st_size
    assert isinstance(await ci.halt(HOLD), Accepted)
    assert shop.file.path.stat().st_size == size


async def test_a_station_that_cannot_stand_is_named(tmp_path):
    ci = station(connect(tmp_path, Hand()), "ci", halts=("paint",))
    assert "'paint'" in (await ci.whoami()).missing[0]
    assert "'paint'" in (await ci.halt(HOLD)).words


async def test_the_fix_goes_through_the_stop_and_what_waited_never_undoes_it(tmp_path):
    clock = Hand()
    shop = connect(tmp_path, clock)
    ci, production = station(shop, "ci"), station(shop, "deploy")
    await ci.halt(HOLD)
    await live(clock, 1_800.0, production.current)
    waiting = [fact for fact in await everything(ci.watch()) if isinstance(fact, Run) and fact.state == "running"]
    passed = [run for run in waiting if (await ci.passed(run.change)).state == "yes"]
    fix = passed[-1]
    answer = await production.deploy(fix.change, expected=None, key="fix", through=HOLD.id)
    assert isinstance(answer, Accepted)
    assert HOLD.id in (await production.current()).words
    await live(clock, 40.0, production.current)
    await ci.release(HOLD, Halted((Part("deploy", False),)))
    await live(clock, 60.0, production.current)
    order = [
        change.id for facts in await everything(ci.watch()) if isinstance(facts, Changes) for change in facts.items
    ]
    now = await production.current()
    assert now.id == answer.ref or order.index(now.change) > order.index(fix.change)
    after = {fact.id: fact for fact in await everything(ci.watch()) if isinstance(fact, Run)}
    assert all(after[run.id].ended_at for run in passed[:-1])


async def test_a_deployment_compares_refuses_and_repeats_itself_once(tmp_path):
    production = station(connect(tmp_path, Hand()), "deploy")
    now, before = await production.history(2)
    put = production.deploy
    assert "'nonesuch'" in (await put("nonesuch", expected=now.id, key="a", through=None)).words
    assert await put(before.version, expected=before.id, key="b", through=None) == Conflict(now.id)
    began = await put(before.version, expected=now.id, key="c", through=None)
    assert began == await put(before.version, expected=now.id, key="c", through=None)
    assert began.ref not in (now.id, before.id)
    assert [one.id for one in await production.history(2)] == [began.ref, now.id]
    rolling = await production.current()
    assert (rolling.state, rolling.back, rolling.version) == ("rolling", True, before.version)


async def test_a_version_without_an_artefact_is_refused(tmp_path):
    production = station(connect(tmp_path, Hand()), "deploy")
    oldest = (await production.history(1_000))[-1]
    assert not oldest.available
    assert "is gone" in (await production.deploy(oldest.version, expected=None, key="a", through=None)).words


async def test_an_aborted_deployment_leaves_what_ran_before(tmp_path):
    clock = Hand()
    production = station(connect(tmp_path, clock), "deploy")
    now, before = await production.history(2)
    began = await production.deploy(before.version, expected=now.id, key="a", through=None)
    await live(clock, 8.0, production.current)
    why = Why("ann", "wrong line")
    assert await production.abort(began.ref, why) == await production.abort(began.ref, why) == Accepted(began.ref)
    assert (await production.current()).id == now.id
    failed = (await production.history(1))[0]
    assert (failed.state, failed.words) == ("failed", "aborted by ann: wrong line")
    assert "is live" in (await production.abort(now.id, why)).words
    assert "no deployment" in (await production.abort("x", why)).words
    assert isinstance(await production.share(now.version, 10, expected=now.id, key="s"), Refused)


async def test_a_run_can_be_cancelled_and_what_has_ended_cannot(tmp_path):
    clock = Hand()
    ci = station(connect(tmp_path, clock), "ci", "accounts")
    await live(clock, 90.0, ci.halted)
    runs = [fact for fact in await everything(ci.watch()) if isinstance(fact, Run)]
    moving, ended = runs[-1], runs[0]
    why = Why("bo", "not now")
    assert await ci.cancel(moving.id, why) == await ci.cancel(moving.id, why) == Accepted(moving.id)
    after = next(fact for fact in await everything(ci.watch()) if isinstance(fact, Run) and fact.id == moving.id)
    assert (after.state, after.words) == ("cancelled", "cancelled by bo: not now")
    assert "has ended" in (await ci.cancel(ended.id, why)).words
    assert "no run" in (await ci.cancel("x", why)).words
    assert (await ci.passed("f" * 40)).state == "unknown"


async def test_a_log_grows_while_its_job_runs_and_says_when_it_is_done(tmp_path):
    clock = Hand()
    ci = station(connect(tmp_path, clock), "ci", "accounts")
    while True:
        await live(clock, 5.0, ci.halted)
        run = [fact for fact in await everything(ci.watch()) if isinstance(fact, Run)][-1]
        if run.stages[0].state == "running":
            break
    await live(clock, 15.0, ci.halted)
    some = await ci.log(run.id, "image", 0)
    await live(clock, 120.0, ci.halted)
    rest = await ci.log(run.id, "image", some.next)
    assert some.lines
    assert not some.done
    assert rest.done
    assert rest.lines[-1] == "all passed"
    assert (*some.lines, *rest.lines) == (await ci.log(run.id, "image", 0)).lines
    assert not any("\x1b" in line for line in some.lines)
    with pytest.raises(Garbled, match="no job"):
        await ci.log(run.id, "nonesuch", 0)


async def test_a_watch_says_everything_once_and_then_what_changes(tmp_path):
    clock = Hand()
    shop = connect(tmp_path, clock)
    watch, deployed = station(shop, "ci").watch(), station(shop, "deploy").watch()
    listed = [await anext(watch) for _ in range(8)]
    assert len(listed[0].items) == 120
    assert [type(fact) for fact in listed[1:]] == [Run] * 6 + [Wait]
    clock.time += 100.0
    assert await until_waits(watch) == []
    clock.time += 100.0
    assert {type(fact).__name__ for fact in await until_waits(watch)} == {"Changes", "Run"}
    first = [fact.at for fact in await until_waits(deployed)]
    assert len(first) == 60
    assert first == sorted(first)


def test_each_station_offers_what_its_port_asks_for(tmp_path):
    shop = connect(tmp_path, Hand())
    assert isinstance(station(shop, "ci"), CI)
    assert isinstance(station(shop, "ci"), Halting)
    assert not isinstance(station(shop, "ci", halts=()), Halting)
    assert isinstance(station(shop, "deploy"), Deploy)
    assert isinstance(station(shop, "metrics"), Metrics)
    assert isinstance(station(shop, "notify"), Notifier)


async def test_a_read_only_connection_acts_on_nothing(tmp_path):
    shop = connect(tmp_path, Hand(), read_only=True)
    ci, production = station(shop, "ci"), station(shop, "deploy")
    now = await production.current()
    assert "read-only" in (await ci.halt(HOLD)).words
    assert "read-only" in (await production.deploy(now.version, expected=None, key="k", through=None)).words
    assert "read-only" in (await station(shop, "notify").tell(Note("checkout", "t", "x", "k"))).words
