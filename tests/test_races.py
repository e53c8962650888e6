"""Two rooms in processes of their own race on one ledger; one of them stands still (SIGSTOP) longer than the lease.

The first room holds the lease and is stopped at a point of its rollback; the second takes the lease and presses too; then
the first goes on as if nothing had happened. On a target that compares and sets there is exactly one effect, whatever the
point; on another one each act is sent at most once.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.sqlite import SqliteLedger
from andon.board import Line
from tests.crash_child import LIMIT_S, LINE, Job, prepare, read_ledger
from tests.file_target import FileTarget, State
from tests.helpers import wait_until
from tests.nursery import Room, nursery

SPEED = 20.0
"""A lease of 7 s lives for a third of one."""
POINTS = [
    f"{when} {name}"
    for name in ("rollback asked", "rollback sent", "deploy()", "rollback accepted", "rollback verified")
    for when in ("before", "after")
]
LONG = ["before rollback asked", "after rollback asked", "after rollback sent", "before deploy()", "after deploy()"]
"""Where the first room is left standing until the second has given up on its act, and has done it itself."""

Start = Callable[[Job], Room]


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    with nursery() as made:
        yield made


class Race:
    """Two rooms over one ledger and one target."""

    def __init__(self, start: Start, folder: Path, *, claims: bool = True, compares: bool = True, **more: Any) -> None:
        """`claims`: the target says that it compares; `compares`: it does."""
        self.folder = folder
        first = Job(str(folder), "ann", time.time(), SPEED, "insist", waits_for="go ann", stays_until="end")
        self.clock = first.clock()
        self.target: FileTarget = prepare(folder, self.clock, compares=compares)
        self.jobs = {"ann": first, "bo": Job(**{**_fields(first), "who": "bo", "waits_for": "go bo", "leads": False})}
        for job in self.jobs.values():
            job.compares = claims
            for name, value in more.items():
                setattr(job, name, value)
        self._start = start
        self.rooms: dict[str, Room] = {}

    def ready(self) -> None:
        """Both rooms are there, and ann holds the lease."""
        for who, job in self.jobs.items():
            self.rooms[who] = self._start(job)
            self.until(f"{who}.ready")

    def until(self, name: str) -> None:
        wait_until((self.folder / name).exists, 2 * LIMIT_S, f"{name} is there")

    def go(self, *who: str) -> None:
        """They press, all at the same moment."""
        at = time.time() + 0.05
        for name in who:
            fresh = self.folder / f"new {name}"
            fresh.write_text(str(at))
            fresh.replace(self.folder / f"go {name}")

    def lease_is_taken_from(self, name: str) -> None:
        ledger = SqliteLedger(self.folder / "ledger.db", self.clock, read_only=True)
        there = f"-{self.rooms[name].pid}-"  # as in the name of a process
        try:
            wait_until(lambda: (now := ledger.lease()) and there not in now.holder, LIMIT_S, f"{name} lost its lease")
        finally:
            ledger.close()

    def ends(self) -> tuple[Line, State]:
        """Both have done what they wanted, and leave."""
        for who in self.rooms:
            self.until(f"{who}.points")
        wait_until(lambda: not read_ledger(self.folder)[0].line(LINE).unsettled(), LIMIT_S)
        (self.folder / "end").touch()
        for room in self.rooms.values():
            assert room.wait() == "exit 0"
        board, audit = read_ledger(self.folder)
        assert audit.broken_at is None, audit.words
        return board.line(LINE), self.target.look()


def _fields(job: Job) -> dict[str, Any]:
    return {name: getattr(job, name) for name in job.__struct_fields__}


def stopped(race: Race, point: str, *, long: bool) -> tuple[Line, State]:
    """Ann stands still there until bo has the lease, or, if it is long, has done it himself."""
    race.jobs["ann"].at, race.jobs["ann"].then = point, "stop"
    race.ready()
    race.go("ann")
    assert race.rooms["ann"].wait() == "stopped", f"{point} was not met"
    race.go("bo")
    race.lease_is_taken_from("ann")
    if long:
        race.until("bo.points")
    race.rooms["ann"].go_on()
    return race.ends()


def together(race: Race) -> tuple[Line, State]:
    """Both press at the same moment."""
    race.ready()
    race.go("ann", "bo")
    return race.ends()


def one_effect(line: Line, state: State) -> None:
    """It was done once, as the ledger says, and the line is held."""
    at_most_one_send_per_act(line, state)
    assert [effect.expected for effect in state.effects] == ["d2"]
    (effect,) = state.effects
    verified = {f"rollback-{act.id}": act.ref for act in line.acts.values() if act.state == "verified" and act.ref}
    assert effect.key in verified, "the act that did it is shown as done"
    assert set(verified.values()) == {effect.made}


def at_most_one_send_per_act(line: Line, state: State) -> None:
    keys = [request.key for request in state.requests]
    assert len(keys) == len(set(keys)), "an act was sent twice"
    assert [act.state for act in line.unsettled("rollback") if act.state != "unknown"] == []
    assert state.deployments[-1].version == "v1"
    assert state.note, "a rollback leaves the line held"


@pytest.mark.parametrize("point", POINTS)
def test_a_room_that_stood_still_longer_than_its_lease_adds_no_effect(start: Start, tmp_path: Path, point: str) -> None:
    one_effect(*stopped(Race(start, tmp_path, confirm_s=600.0), point, long=False))


@pytest.mark.parametrize("point", LONG)
def test_a_room_that_stood_still_until_another_had_done_it_adds_no_effect(
    start: Start, tmp_path: Path, point: str
) -> None:
    one_effect(*stopped(Race(start, tmp_path, confirm_s=20.0), point, long=True))


@pytest.mark.parametrize("_", range(5))
def test_two_rooms_that_press_at_the_same_moment_have_one_effect(start: Start, tmp_path: Path, _: int) -> None:
    one_effect(*together(Race(start, tmp_path, confirm_s=600.0)))


@pytest.mark.parametrize("point", LONG)
def test_where_nothing_is_compared_each_act_is_sent_at_most_once(start: Start, tmp_path: Path, point: str) -> None:
    race = Race(start, tmp_path, claims=False, compares=False, confirm_s=20.0)
    at_most_one_send_per_act(*stopped(race, point, long=True))


def test_a_room_that_stands_still_inside_a_transaction_keeps_nobody_from_stopping_the_line(
    start: Start, tmp_path: Path
) -> None:
    """It has the ledger's lock for as long as it sleeps: F9 goes out all the same, and is recorded afterwards."""
    race = Race(start, tmp_path, script="pull")
    race.jobs["ann"].at, race.jobs["ann"].then = "within hold placed, halt asked", "stop"
    race.ready()
    race.go("ann")
    assert race.rooms["ann"].wait() == "stopped"
    race.go("bo")
    race.until("recorded")
    assert (tmp_path / "recorded").read_text() == "False"
    wait_until(lambda: race.target.look().note, LIMIT_S, "it stands")
    race.rooms["ann"].go_on()
    line, state = race.ends()
    assert sorted(hold.owner for hold in line.open_holds) == ["ann", "bo"]
    assert len({hold.stop for hold in line.open_holds}) == 1
    assert line.unsettled() == ()
    assert line.stands("file/deploys"), "confirmed by a read, for the stop that lasts"
    assert state.note


@pytest.mark.nightly
@pytest.mark.parametrize("number", range(200))
def test_in_two_hundred_races_there_is_exactly_one_effect(start: Start, tmp_path: Path, number: int) -> None:
    point = [*POINTS, ""][number % (len(POINTS) + 1)]
    long = number % 3 == 0
    race = Race(start, tmp_path, confirm_s=20.0 if long else 600.0)
    one_effect(*(stopped(race, point, long=long) if point else together(race)))


def test_without_compare_and_set_there_is_a_second_effect(start: Start, tmp_path: Path) -> None:
    race = Race(start, tmp_path, compares=False, confirm_s=20.0)
    ended = stopped(race, "before deploy()", long=True)
    with pytest.raises(AssertionError, match="d2"):
        one_effect(*ended)
