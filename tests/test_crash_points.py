"""A room is killed (SIGKILL) at every labelled point of a stop, a rollback and a release; another process recovers.

Real processes, the real engine, a real ledger in a file, and a target in a file that compares and sets. Whatever the
point: every act that was recorded is settled or loudly unknown, nothing that was acknowledged is lost, nothing is done
twice, what the ledger says is what the target did, and the line can be stopped and resumed again.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from andon.acts import Door
from andon.board import Line
from andon.engine import Engine
from tests.crash_child import LIMIT_S, LINE, Job, opened, prepare, read_ledger
from tests.file_target import FileTarget, State
from tests.helpers import wait_until
from tests.nursery import Room, nursery

COMMITS = (
    "hold placed, halt asked",
    "halt sent",
    "halt accepted",
    "halt verified",
    "rollback asked",
    "rollback sent",
    "rollback accepted",
    "rollback verified",
    "hold lifted, release asked",
    "release sent",
    "release accepted",
    "release verified",
)
CALLS = ("halted()", "current()", "halt()", "deploy()", "release()")
POINTS = [f"{when} {name}" for name in COMMITS for when in ("before", "within", "after")]
POINTS += [f"{when} {name}" for name in CALLS for when in ("before", "after")]
SPEED = 50.0
"""How much faster the time of the recovering process goes: leases and limits run out in fractions of a second."""

Start = Callable[[Job], Room]


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    with nursery() as made:
        yield made


def job(folder: Path, who: str, **more: object) -> Job:
    return Job(**({"folder": str(folder), "who": who, "start": time.time(), "speed": 1.0, "script": "rollback"} | more))


def killed_at(start: Start, folder: Path, point: str, **more: object) -> FileTarget:
    """A room that died there."""
    child = job(folder, "ann", at=point, then="die", **more)
    target = prepare(folder, child.clock(), compares=child.compares)
    assert start(child).wait() == "exit -9", f"{point} was not met"
    return target


@contextmanager
def recovering(folder: Path, **more: object) -> Iterator[Engine]:
    with opened(job(folder, "bo", speed=SPEED, **more)) as (engine, _):
        yield engine


def faults(line: Line, state: State, told: list[str]) -> list[str]:
    """What must not be, once everything has come to its end."""
    found = [f"{act.kind} {act.id} is {act.state}: {act.words}" for act in line.unsettled() if act.state != "unknown"]
    found += [f"{act.kind} {act.id} is unknown and says nothing" for act in line.unsettled("unknown") if not act.words]
    known = {*line.acts, *(hold.id for hold in line.holds)}
    found += [f"lost: {id_} was acknowledged" for id_ in told if id_ not in known]
    for act in line.acts.values():
        requests = [request for request in state.requests if request.key == f"{act.kind}-{act.id}"]
        made = [request for request in requests if request.made]
        if len(requests) > 1:
            found.append(f"twice: {act.kind} {act.id} was sent {len(requests)} times")
        if act.kind == "rollback" and act.settled and (act.state == "verified") != bool(made):
            found.append(f"{act.kind} {act.id} is {act.state}, and the target did {len(made)}")
    if len(state.effects) > 1:
        found.append(f"twice: the target was changed {len(state.effects)} times")
    if bool(state.note) != bool(line.open_holds):
        found.append(f"it {'stands' if state.note else 'moves'} with {len(line.open_holds)} open holds")
    return found


def settles(engine: Engine, folder: Path, target: FileTarget, limit_s: float = LIMIT_S) -> None:
    """Wait until nothing is wrong any more; AssertionError with what still is."""
    told = (folder / "told").read_text().split() if (folder / "told").exists() else []

    def wrong() -> list[str]:
        return faults(engine.keeper.board.line(LINE), target.look(), told)

    try:
        wait_until(lambda: engine.view.here and not wrong(), limit_s)
    except AssertionError:
        raise AssertionError("; ".join(wrong()) or "nobody took the lease") from None


def holds_at(start: Start, folder: Path, point: str) -> None:
    """Kill a room there, recover, and go on with the line."""
    target = killed_at(start, folder, point)
    with recovering(folder) as engine:
        settles(engine, folder, target)
        engine.pull(LINE, "once more").result(LIMIT_S)
        settles(engine, folder, target)
        assert target.look().note, "it stands again"
        engine.resume(LINE, "mended", all_=True).result(LIMIT_S)
        settles(engine, folder, target)
        assert not target.look().note, "it moves again"
    _, audit = read_ledger(folder)
    assert audit.broken_at is None, audit.words


def test_an_undisturbed_room_meets_every_point_that_is_named_here(start: Start, tmp_path: Path) -> None:
    whole = job(tmp_path, "ann")
    target = prepare(tmp_path, whole.clock())
    assert start(whole).wait() == "exit 0"
    assert set(POINTS) - set((tmp_path / "ann.points").read_text().splitlines()) == set()
    line = read_ledger(tmp_path)[0].line(LINE)
    assert {act.kind for act in line.acts.values() if act.state == "verified"} == {"halt", "rollback", "release"}
    assert faults(line, target.look(), (tmp_path / "told").read_text().split()) == []


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_point_nothing_is_lost_and_nothing_done_twice(start: Start, tmp_path: Path, point: str) -> None:
    holds_at(start, tmp_path, point)


@pytest.mark.nightly
@pytest.mark.parametrize("time_", range(1, 5))
@pytest.mark.parametrize("point", POINTS)
def test_killed_again_while_recovering_nothing_is_lost_either(
    start: Start, tmp_path: Path, point: str, time_: int
) -> None:
    """The second room dies too, at another point each time, or recovers if it does not meet that.

    Every other first room held no lease, and every third target compares nothing.
    """
    again = POINTS[(POINTS.index(point) * 5 + time_ * 11) % len(POINTS)]
    compares = time_ != 3
    target = killed_at(start, tmp_path, point, duty=time_ % 2 == 0, compares=compares)
    second = job(tmp_path, "cy", speed=SPEED, script="recover", at=again, then="die", compares=compares)
    assert start(second).wait() in ("exit 0", "exit -9")
    with recovering(tmp_path, compares=compares) as engine:
        settles(engine, tmp_path, target)
        if engine.keeper.board.line(LINE).open_holds:
            engine.resume(LINE, "mended", all_=True).result(LIMIT_S)
        settles(engine, tmp_path, target)


# ---- mutants


def test_with_a_ledger_that_acknowledges_before_it_writes_an_act_is_lost(start: Start, tmp_path: Path) -> None:
    point = "before hold lifted, release asked"
    target = killed_at(start, tmp_path, point, forgets="rollback asked")
    with recovering(tmp_path) as engine, pytest.raises(AssertionError, match=r"lost: .* was acknowledged"):
        settles(engine, tmp_path, target, limit_s=2.0)


def test_with_nobody_who_recovers_an_act_stays_open(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = killed_at(start, tmp_path, "after rollback asked")
    monkeypatch.setattr(Door, "recover", lambda *_, **__: None)
    with recovering(tmp_path) as engine, pytest.raises(AssertionError, match=r"rollback .* is intent"):
        settles(engine, tmp_path, target, limit_s=2.0)
