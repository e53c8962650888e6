"""The world's file: two processes see one world, and nothing that happened is lost or happens twice."""

import asyncio
import multiprocessing
import os
import stat
import sys
from pathlib import Path

import pytest

from adapters import _plant_file, plant
from andon.model import Halted, Note, Part
from andon.ports import (
    Accepted,
    Changes,
    Conflict,
    Garbled,
    Refused,
    Unreachable,
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
)


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


@pytest.fixture
def restless_threads():
    """Threads take turns as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


async def test_whatever_the_threads_do_the_file_tells_the_same_story(tmp_path, restless_threads):
    clock = Hand()
    shop = connect(tmp_path, clock)
    stations = [(station(shop, "ci", line), station(shop, "deploy", line)) for line in LINES]
    for round_ in range(12):
        clock.time += 60.0
        asks = [
            what for ci, production in stations for what in (ci.halted(), production.current(), production.history(3))
        ]
        acts = [ci.halt(HOLD) if round_ % 2 else ci.release(HOLD, Halted()) for ci, _ in stations]
        await asyncio.gather(*asks, *acts)
    fresh = connect(tmp_path, clock)
    for line, (ci, production) in zip(LINES, stations, strict=True):
        assert await everything(ci.watch()) == await everything(station(fresh, "ci", line).watch())
        assert await production.history(99) == await station(fresh, "deploy", line).history(99)


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
    with pytest.raises(Garbled, match=r"made with seed 7 .* not seed 8"):
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
        handle.write(b'{"type":"stand","at":17600' + b" " * 500)
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


async def test_nothing_runs_ahead_of_the_worlds_clock(tmp_path):
    clock = Hand()
    shop = connect(tmp_path, clock)
    production, ci = station(shop, "deploy"), station(shop, "ci")
    await production.current()
    await live(clock, 200.0, production.current)
    now = (await ci.whoami()).clock
    assert now == START + 200.0
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
    assert len(set(lines)) == len(shop.told) == plant.TOLD
    assert "k204" in lines[-1]


async def test_a_station_that_was_closed_leaves_the_others_open(tmp_path):
    shop = connect(tmp_path, Hand())
    ci, production = station(shop, "ci"), station(shop, "deploy")
    now = await production.current()
    await ci.close()
    assert await production.current() == now
    await production.close()
