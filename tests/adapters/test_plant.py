"""The plant: the same seed and acts give the same shop, whatever processes look at it, and its business feels a defect."""

import asyncio
import math
import multiprocessing
import os
import stat
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters import _plant_file, plant
from adapters._plant import Abort, Cancel, Put, Sleep, Stand, World
from adapters._plant_trade import SERIES, factor, measured, meters_down, rhythm
from adapters._plant_views import deployment
from andon.model import Change, Halted, HoldRef, Metric, Note, Part, Run, Why
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
from andon.registry import Context, NoOptions, Place
from andon.text import clean

LINES = ("checkout", "search", "payments", "accounts")
START = 1_760_000_000.0
HOLD = HoldRef("hold0001", "checkout", "ann", "conversion falls")


class Hand:
    """A clock that is moved by hand."""

    def __init__(self, now: float = START) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


def connect(folder: Path, clock: Hand, *, read_only: bool = False, **options) -> plant.Plant:
    context = Context("shop", folder, clock, folder, read_only)
    return plant.ADAPTER.connect(plant.ConnectionOptions(**options), context)


def station(connection: plant.Plant, kind: str, line: str = "checkout", halts: tuple[str, ...] = ("deploy",)):
    return getattr(plant.ADAPTER, kind).open(connection, NoOptions(), Place(line, "production", halts))


def metric(series: str) -> Metric:
    kinds = {
        "conversion": "proportion",
        "revenue": "sum",
        "signups": "count",
        "latency": "latency",
        "errors": "proportion",
    }
    return Metric(series, "shop", kinds[series], "falls", series)


async def live(clock: Hand, seconds: float, *looks) -> None:
    """Let time pass while somebody looks, as a room does."""
    end = clock.time + seconds
    while clock.time < end:
        clock.time = min(end, clock.time + 20.0)
        for look in looks:
            await look()


async def until_shipped(clock: Hand, production, before) -> object:
    """Let time pass until a deployment has settled that is not the one before."""
    for _ in range(400):
        await live(clock, 5.0, production.current)
        now = await production.current()
        if now.id != before.id and now.state == "settled":
            return now
    raise AssertionError("nothing shipped in 2,000 s")


async def until_waits(watch) -> list:
    """What a watch says before it waits again."""
    found = []
    while not isinstance(fact := await anext(watch), Wait):
        found.append(fact)
    return found


async def everything(watch) -> list:
    """What a first look says."""
    found = await until_waits(watch)
    await watch.aclose()
    return found


# -- one seed, one shop ---------------------------------------------------------------------------------------------


def act_on(world: World, at: float, line: str, kind: str) -> object:
    """An act whose subject depends on the line as it is then, and on nothing else."""
    world.step(at)
    shop = world.shop(line)
    if kind == "put":
        version = shop.version(shop.rollouts[-2].number)
        return world.put(Put(at, line, version, f"{at}", shop.current.id))
    if kind == "abort":
        return world.put(Abort(at, line, shop.rollouts[-1].id, Why("ann", "")))
    if kind == "cancel":
        return world.put(Cancel(at, line, list(shop.pieces)[-1], Why("ann", "")))
    if kind == "sleep":
        return world.put(Sleep(at, at + 500.0))
    return world.put(Stand(at, line, {"deploy": "held" if kind == "halt" else ""}))


def lived(seed: int, acts: list, cuts: list) -> list:
    """Everything that happens in a life of 10,000 s with these acts, looked at at these times."""
    world = World(seed)
    for line in LINES:
        world.shop(line)
    happened, over = [], 0.0
    moments = [(at, 1, one) for at, *one in acts] + [(at, 0, None) for at in cuts]
    for at, _, one in sorted(moments, key=lambda item: item[:2]):
        if at < over:
            continue
        happened += world.step(at)
        if one:
            act_on(world, at, *one)
            over = world.time
            happened += world.step(over)
    return happened + world.step(max(over, 10_000.0))


moments = st.floats(1.0, 9_000.0)
acts = st.lists(
    st.tuples(moments, st.sampled_from(LINES), st.sampled_from(["put", "abort", "cancel", "halt", "release", "sleep"])),
    max_size=6,
    unique_by=lambda act: act[0],
)


@settings(max_examples=25)
@given(seed=st.integers(0, 50), acts=acts, cuts=st.lists(moments, max_size=12))
def test_the_same_seed_and_acts_give_the_same_happenings_in_however_many_steps(seed, acts, cuts):
    awake = [act for act in acts if act[2] != "sleep"]
    assert lived(seed, awake, cuts) == lived(seed, awake, [])
    assert lived(seed, acts, cuts=[]) == lived(seed, acts, cuts=[])


def test_another_seed_gives_another_shop():
    assert lived(1, [], []) != lived(2, [], [])


def test_a_line_first_asked_for_late_is_what_it_would_have_been():
    early, late = World(3), World(3)
    for world in (early, late):
        if world is early:
            world.shop("search")
        act_on(world, 100.0, "checkout", "halt")
        act_on(world, 400.0, "checkout", "sleep")
        world.step(6_000.0)
    assert [deployment(early.shop("search"), one) for one in early.shop("search").rollouts] == [
        deployment(late.shop("search"), one) for one in late.shop("search").rollouts
    ]


def test_an_act_cannot_land_in_a_past_that_was_seen():
    world = World(3)
    world.step(100.0)
    with pytest.raises(ValueError, match="after the world was seen"):
        world.put(Stand(99.0, "checkout", {"deploy": "held"}))


def test_nothing_happens_while_nobody_looks_and_then_it_goes_on():
    awake, slept = World(3), World(3)
    awake.shop("accounts"), slept.shop("accounts")
    before, same = awake.step(1_000.0), slept.step(1_000.0)
    slept.put(Sleep(1_000.0, 90_000.0))
    assert before == same
    assert slept.step(90_000.0) == []
    moved = [one._replace(at=round(one.at - 89_000.0, 3)) for one in slept.step(90_000.0 + 2_000.0)]
    assert moved == [one._replace(at=round(one.at, 3)) for one in awake.step(3_000.0)]


# -- the story it tells ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(30))
def test_the_first_line_is_calm_for_five_minutes_and_then_ships_a_defect(seed):
    world = World(seed)
    shop = world.shop("checkout")
    happened = world.step(300.0)
    assert any(one.what == "run" for one in happened), "calm is not dead: pieces move"
    assert not [one for one in happened if one.what == "deployment"]
    world.step(600.0)
    shipped = shop.rollouts[-1]
    assert 300.0 < shipped.at < 540.0
    assert factor(shop.harms, "conversion", 590.0, 600.0) == pytest.approx(0.6)
    world.step(shipped.at + 600.0)
    assert shop.current is shipped, "there is time to judge it"


@pytest.mark.parametrize("line", [*LINES, "a-name-nobody-knows"])
def test_every_line_ships_and_no_other_line_breaks_at_once(line):
    world = World(7)
    shop = world.shop(line)
    at_start = len(shop.rollouts)
    world.step(6 * 3600.0)
    assert len(shop.rollouts) - at_start >= 8
    if line != "checkout":
        assert factor(shop.harms, "conversion", 0.0, 1_500.0) == factor(shop.harms, "latency", 0.0, 1_500.0) == 1.0


def test_slow_rollouts_a_flaky_test_and_hosts_one_by_one():
    world = World(7)
    shop = world.shop("search")
    words = [one.state for one in world.step(3 * 3600.0) if one.what == "deployment"]
    assert [f"rolling {n} of 5 hosts" in words for n in (1, 2, 3, 4)] == [True] * 4
    assert "settled 5 of 5 hosts" in words
    accounts = World(7).shop("accounts")
    accounts.step(4 * 3600.0)
    flaked = [piece for piece in accounts.pieces.values() if "test_session_expires" in piece.words]
    again = [piece.number for piece in accounts.pieces.values()]
    assert flaked
    assert any(again.count(piece.number) > 1 for piece in flaked), "it is run again by itself"
    assert shop.trade.roll_s[0] > 100


def test_a_defect_is_mended_soon_after_the_way_back_and_waiting_changes_ship_with_the_mend():
    world = World(7)
    shop = world.shop("checkout")
    world.step(600.0)
    world.put(Stand(600.0, "checkout", {"deploy": "held"}))
    back = shop.version(shop.rollouts[-2].number)
    assert isinstance(world.put(Put(601.0, "checkout", back, "k", shop.current.id)), Accepted)
    world.step(1_500.0)
    assert any(commit.mends is not None and commit.built for commit in shop.commits[-6:])
    world.put(Stand(1_500.0, "checkout", {"deploy": ""}))
    world.step(1_600.0)
    assert factor(shop.harms, "conversion", 1_590.0, 1_600.0) == 1.0
    assert shop.current.piece, "the pipeline shipped it"


def test_hostile_titles_are_part_of_the_shop_and_harmless_as_records():
    world = World(7)
    for line in LINES:
        raw = [commit.change for commit in world.shop(line).commits]
        titles = [change.title for change in raw]
        assert all(title == clean(title) for title in titles)
        assert any("[/]" in title or "\ufffd" in title for title in titles[-3:])
    assert all(isinstance(change, Change) for change in raw)


# -- measurements ---------------------------------------------------------------------------------------------------


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
    with pytest.raises(Garbled, match="conversion, revenue, signups, latency, errors; not 'mood'"):
        await meters.samples(Metric("m", "shop", "gauge", "falls", "mood"), START - 60.0, START, 60.0)
    with pytest.raises(Garbled, match="no buckets"):
        await meters.samples(metric("errors"), START - 60.0, START, 0.0)


# -- the stop -------------------------------------------------------------------------------------------------------


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
    await live(clock, 200.0, production.current)
    await ci.release(HOLD, Halted((Part("deploy", False),)))
    await live(clock, 60.0, production.current)
    order = [
        change.id for facts in await everything(ci.watch()) if isinstance(facts, Changes) for change in facts.items
    ]
    now = await production.current()
    assert order.index(now.change) >= order.index(fix.change)
    after = {fact.id: fact for fact in await everything(ci.watch()) if isinstance(fact, Run)}
    assert all(after[run.id].ended_at for run in passed[:-1])


# -- deploying ------------------------------------------------------------------------------------------------------


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


# -- the file that processes share ----------------------------------------------------------------------------------


def seen_by_another_process(folder: str, now: float, pipe) -> None:
    """Halts the line there, and tells what it sees of it."""

    async def work():
        shop = connect(Path(folder), Hand(now))
        ci = station(shop, "ci")
        await ci.halt(HOLD)
        return await everything(ci.watch()), await station(shop, "deploy").history(30)

    pipe.send(asyncio.run(work()))


def race(folder: str, now: float, barrier, expected: str, version: str, key: str, pipe) -> None:
    """Deploys a version at the same moment as somebody else."""
    production = station(connect(Path(folder), Hand(now)), "deploy")
    asyncio.run(production.current())
    barrier.wait(20.0)
    pipe.send(asyncio.run(production.deploy(version, expected=expected, key=key, through=None)))


def started(spawn, target, *args):
    mine, theirs = spawn.Pipe()
    process = spawn.Process(target=target, args=(*args, theirs), daemon=True)
    process.start()
    return process, mine


def ended(process, mine):
    assert mine.poll(30.0), "the other process said nothing"
    said = mine.recv()
    process.join(10.0)
    assert process.exitcode == 0
    return said


async def test_two_processes_see_the_same_world_and_each_others_acts(tmp_path):
    clock = Hand()
    shop = connect(tmp_path, clock)
    ci, production = station(shop, "ci"), station(shop, "deploy")
    await live(clock, 1_500.0, production.current)
    spawn = multiprocessing.get_context("spawn")
    facts, history = ended(*started(spawn, seen_by_another_process, str(tmp_path), clock.time))
    assert (await ci.halted()).parts[0].note == HOLD.note
    assert facts == await everything(ci.watch())
    assert history == await production.history(30)


async def test_of_two_processes_that_deploy_at_once_one_wins_and_the_other_is_told_who(tmp_path):
    clock = Hand()
    production = station(connect(tmp_path, clock), "deploy")
    now, before, earlier = await production.history(3)
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(2)
    runners = [
        started(spawn, race, str(tmp_path), clock.time, barrier, now.id, version, key)
        for version, key in ((before.version, "a"), (earlier.version, "b"))
    ]
    answers = [ended(*runner) for runner in runners]
    won = next(answer for answer in answers if isinstance(answer, Accepted))
    assert Conflict(won.ref) in answers
    assert (await production.current()).id == won.ref


async def test_the_world_is_one_private_file_that_holds_nothing_derived(tmp_path):
    clock = Hand()
    shop = connect(tmp_path, clock)
    await live(clock, 600.0, station(shop, "deploy").current)
    await station(shop, "ci").halt(HOLD)
    await station(shop, "notify").tell(Note("checkout", "t", "x", "k"))
    assert {path.name for path in tmp_path.iterdir()} == {"plant.world", "plant.world.told"}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in tmp_path.iterdir())
    lines = shop.file.path.read_text().splitlines()
    assert len(lines) == 2
    assert '"type":"stand"' in lines[1]


async def test_what_others_can_read_or_what_is_no_world_is_refused(tmp_path):
    shop = connect(tmp_path, Hand())
    production = station(shop, "deploy")
    shop.file.path.write_text("<html>")
    shop.file.path.chmod(0o644)
    with pytest.raises(Garbled, match="chmod 600"):
        await production.current()
    shop.file.path.chmod(0o600)
    with pytest.raises(Garbled, match="no world of a plant"):
        await production.current()
    assert isinstance(await production.deploy("x", expected=None, key="k", through=None), Refused)
    shop.file.path.unlink()
    shop.file.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Unreachable):
        await production.current()


async def test_a_world_made_with_another_seed_is_not_taken_for_this_one(tmp_path):
    await station(connect(tmp_path, Hand()), "deploy").current()
    with pytest.raises(Garbled, match=r"made with seed 7, speed 1 .* not seed 8"):
        await station(connect(tmp_path, Hand(), seed=8), "deploy").current()


async def test_a_world_taken_away_is_followed_by_a_new_one_with_other_ids(tmp_path):
    shop = connect(tmp_path, Hand())
    production = station(shop, "deploy")
    before = await production.current()
    shop.file.path.unlink()
    after = await production.current()
    assert before.id != after.id
    assert before.version != after.version


async def test_an_input_that_was_cut_short_never_happened(tmp_path):
    clock = Hand()
    shop = connect(tmp_path, clock)
    ci = station(shop, "ci")
    await ci.halt(HOLD)
    with shop.file.path.open("ab") as handle:
        handle.write(b'{"type":"stand","at":17600')
    other = station(connect(tmp_path, clock), "ci")
    assert (await other.halted()).halted
    clock.time += 1.0
    await other.release(HOLD, Halted((Part("deploy", False),)))
    assert not (await ci.halted()).halted
    assert not (await station(connect(tmp_path, clock), "ci").halted()).halted


async def test_an_act_comes_after_all_that_was_seen_even_if_the_clock_went_back(tmp_path):
    clock = Hand()
    shop = connect(tmp_path, clock)
    ci = station(shop, "ci")
    await live(clock, 100.0, ci.halted)
    slow = connect(tmp_path, Hand(START + 10.0))
    assert isinstance(await station(slow, "ci").halt(HOLD), Accepted)
    assert (await ci.halted()).halted
    assert (await station(slow, "ci").halted()).at == START + 100.0


async def test_the_world_sleeps_while_nobody_looks(tmp_path):
    clock = Hand()
    shop = connect(tmp_path, clock)
    production, meters = station(shop, "deploy", "accounts"), station(shop, "metrics", "accounts")
    await live(clock, 600.0, production.current)
    before = await production.history(5)
    clock.time += 3 * 86400.0
    assert await production.history(5) == before
    assert len((await meters.samples(metric("signups"), clock.time - 3600.0, clock.time, 60.0)).rows) in (59, 60)
    assert '"sleep"' in shop.file.path.read_text()
    await live(clock, 2_400.0, production.current)
    assert (await production.history(1))[0].at > clock.time - 2_400.0


@pytest.mark.parametrize("speed", [1.0, 60.0])
async def test_nothing_runs_ahead_of_the_worlds_clock(tmp_path, speed):
    clock = Hand()
    shop = connect(tmp_path, clock, speed=speed)
    production, ci = station(shop, "deploy"), station(shop, "ci")
    await production.current()
    await live(clock, 200.0, production.current)
    now = (await ci.whoami()).clock
    assert now == START + 200.0 * speed
    facts = [*await everything(ci.watch()), *await everything(production.watch())]
    times = [change.at for fact in facts if isinstance(fact, Changes) for change in fact.items]
    times += [fact.at for fact in facts if not isinstance(fact, Changes)]
    assert max(times) <= now
    rows = (await station(shop, "metrics").samples(metric("revenue"), now - 600.0, now + 600.0, 60.0)).rows
    assert now - 120.0 <= rows[-1].at <= now - 60.0


async def test_a_world_that_another_process_does_not_let_go_is_unreachable(tmp_path, monkeypatch):
    monkeypatch.setattr(_plant_file, "LOCK_LIMIT_S", 0.05)
    shop = connect(tmp_path, Hand())
    production, ci = station(shop, "deploy"), station(shop, "ci")
    await production.current()
    descriptor = os.open(shop.file.path, os.O_RDWR)
    _plant_file.fcntl.flock(descriptor, _plant_file.fcntl.LOCK_EX)
    try:
        with pytest.raises(Unreachable, match="another process has had it"):
            await production.current()
        assert isinstance(await ci.halt(HOLD), Unreachable)
    finally:
        os.close(descriptor)
    assert not (await ci.halted()).halted


async def test_an_act_that_cannot_be_written_down_did_not_happen(tmp_path, monkeypatch):
    shop = connect(tmp_path, Hand())
    ci = station(shop, "ci")
    await ci.halted()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(_plant_file.os, "pwrite", full)
        assert isinstance(await ci.halt(HOLD), Unreachable)
    assert not (await ci.halted()).halted


async def test_the_same_note_is_pinned_once_and_the_oldest_fall_off(tmp_path):
    shop = connect(tmp_path, Hand())
    board, other = station(shop, "notify"), station(connect(tmp_path, Hand()), "notify")
    for number in range(plant.TOLD + 5):
        note = Note("checkout", f"stop {number} [/] \x1b]0;x\x07", "text", f"k{number}")
        assert await board.tell(note) == await other.tell(note) == Accepted(f"k{number}")
    lines = shop.board.read_text().splitlines()
    assert len(lines) == len(shop.told) == plant.TOLD
    assert "k204" in lines[-1]


async def test_a_station_that_was_closed_leaves_the_others_open(tmp_path):
    shop = connect(tmp_path, Hand())
    ci, production = station(shop, "ci"), station(shop, "deploy")
    now = await production.current()
    await ci.close()
    assert await production.current() == now
    await production.close()
