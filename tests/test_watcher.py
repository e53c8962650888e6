"""From a deployment to its verdict, to what is done about it, to whether it helped: in virtual time, over a real ledger."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from andon.board import Recovery, Watch
from andon.config import Config
from andon.immune.watcher import Watcher
from andon.model import Metric, Sample
from andon.ports import Can
from tests.fakes import CONVERSION, LINE, Room, Shop, Targets, virtual

GOOD, BAD = 0.031, 0.011
EVERY = CONVERSION.every
Rate = Callable[[float], float | None]
"""The rate at a time; None: nothing was measured."""


class Meter:
    """Writes the samples of a line as their buckets close, and says so to those who watch."""

    def __init__(self, shop: Shop, rate: Rate, line: str = LINE, metric: Metric = CONVERSION) -> None:
        self.shop, self.rate, self.series = shop, rate, f"{line}/{metric.name}"
        self.line = line
        self.watchers: list[Watcher] = []
        now = shop.clock.now()
        self.next = (now - 3600) // EVERY * EVERY
        self.write()
        self.task = asyncio.create_task(self._run())

    def write(self) -> None:
        """Every bucket that is closed and complete by now."""
        while self.next + EVERY + CONVERSION.lag <= self.shop.clock.now():
            rate = self.rate(self.next)
            if rate is not None:
                self.shop.ledger.keep(self.series, [Sample(self.next, 1000 * rate, 1000.0)])
            self.next += EVERY

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.write()
            for watcher in self.watchers:
                watcher.look(self.line)


def engine(shop: Shop, room: Room, *meters: Meter, skew_s: dict[str, float] | None = None) -> Watcher:
    """A room that watches all lines."""
    config = Config(Path("andon.yaml"), lines=shop.lines)
    stations = Targets(shop)
    skews = skew_s if skew_s is not None else {}
    watcher = Watcher(config, stations, room, shop.clock, room.cord, room.shipper, skews)  # type: ignore[arg-type]
    for meter in meters:
        meter.watchers.append(watcher)
    for line in shop.lines.values():
        room.tasks.add(asyncio.create_task(watcher.run(line)))
    room.recovers()
    return watcher


def watch_of(room: Room, id_: str = "d2", line: str = LINE) -> Watch:
    room.tail()
    return room.board.line(line).watches[id_]


async def minutes(count: float) -> None:
    await asyncio.sleep(60 * count)


def shipped(shop: Shop) -> None:
    """v1 ran well for long; v2 has just been deployed."""
    shop.ships("v1", "v2")
    room = shop.room("cy")
    shop.ledger.commit(*good(room))
    room.tail()


def good(room: Room):
    from andon.events import Marked

    now = room.shop.clock.now()
    return [Marked(line=LINE, at=now, deployment="d1", version="v1", mark="good", who="cy", why="ran for weeks")]


def falls_with(shop: Shop, *ids: str) -> Rate:
    """Conversion is bad while one of those deployments runs."""
    assert shop.deploy is not None
    deploy = shop.deploy

    def rate(at: float) -> float:
        running = [item for item in deploy.deployments if item.at <= at and item.state != "failed"]
        return BAD if running and running[-1].id in ids else GOOD

    return rate


@virtual
async def test_a_bad_deployment_is_stopped_rolled_back_held_and_seen_to_recover(shop: Shop) -> None:
    shop.has(LINE, "ci/deploy", notify=("pager",))
    shipped(shop)
    room = shop.room("immune-1")
    engine(shop, room, Meter(shop, falls_with(shop, "d2")))
    await room.until(lambda: room.acts("rollback"))
    act = await room.settled(room.acts("rollback")[0])
    assert (act.state, act.auto, act.version, act.who) == ("verified", True, "v1", "immune")
    assert [(hold.owner, hold.kind, hold.deployment) for hold in room.line.open_holds] == [("immune", "immune", "d2")]
    assert shop.stand.standing
    assert room.line.marks["d2"].mark == "faulty"
    watch = watch_of(room)
    assert watch.verdict is not None
    assert watch.verdict.word == "regressed"
    assert watch.did == "stopped and rolled back"
    assert watch.verdict.sentence.startswith("conversion 3.1 % → 1.1 %, below 2.0 % for 3 min, from ")
    shop.seen()
    await room.until(lambda: room.line.helped.get("d2", Recovery("too early", "", 0.0)).word == "recovered")
    told = [(note.kind, note.title) for note in shop.notifiers["pager"].told]
    assert told == [
        ("stopped", "shop stopped"),
        ("verdict", "shop v2 regressed"),
        ("rollback", "shop recovered"),
    ]


@virtual
async def test_a_good_deployment_ends_its_watch_healthy_and_nothing_is_done(shop: Shop) -> None:
    shipped(shop)
    room = shop.room()
    engine(shop, room, Meter(shop, lambda _: GOOD))
    await minutes(16)
    watch = watch_of(room)
    assert watch.ended
    assert watch.verdict is not None
    assert (watch.verdict.word, watch.verdict.sentence) == ("healthy", "conversion 3.1 %, within bounds for 15 min")
    assert room.line.holds == ()
    assert room.line.acts == {}


@virtual
async def test_what_was_beyond_before_is_not_rolled_back(shop: Shop) -> None:
    """A fix must not be rolled back for the incident it fixes."""
    shipped(shop)
    room = shop.room()
    engine(shop, room, Meter(shop, lambda _: BAD))
    await minutes(5)
    assert watch_of(room).verdicts["conversion"].sentence == "conversion was already 1.1 % before v2"
    await minutes(12)
    watch = watch_of(room)
    assert watch.verdict is not None
    assert (watch.verdict.word, watch.verdict.sentence) == (
        "undecided",
        "conversion was already 1.1 % before v2",
    )
    assert room.line.holds == ()


@pytest.mark.parametrize("on_blind", ["tell", "stop"])
@virtual
async def test_blind_never_rolls_back(shop: Shop, on_blind: str) -> None:
    shop.has(LINE, "ci/deploy", notify=("pager",))
    blind = msgspec.structs.replace(CONVERSION, on_blind=on_blind)
    shop.lines[LINE] = msgspec.structs.replace(shop.lines[LINE], metrics=(blind,))
    shipped(shop)
    room = shop.room()
    began = shop.clock.now()
    watcher = engine(shop, room, Meter(shop, lambda at: GOOD if at < began - EVERY else None))
    watcher.gone[(LINE, "conversion")] = "connection refused"
    await minutes(17)
    watch = watch_of(room)
    assert watch.verdict is not None
    assert watch.verdict.word == "blind"
    assert "connection refused" in watch.verdict.sentence
    assert room.acts("rollback") == []
    assert bool(room.line.open_holds) == (on_blind == "stop")
    assert [note.title for note in shop.notifiers["pager"].told if note.kind == "blind"] == ["shop v2 blind"]


@virtual
async def test_a_gap_that_is_filled_later_is_judged_with_what_it_held(shop: Shop) -> None:
    shipped(shop)
    room = shop.room()
    down = {"until": shop.clock.now() + 360}

    def rate(at: float) -> float | None:
        return None if at + EVERY > shop.clock.now() - 1000 and shop.clock.now() < down["until"] else GOOD

    meter = Meter(shop, rate)
    engine(shop, room, meter)
    await minutes(5)
    assert watch_of(room).verdicts["conversion"].word == "blind"
    await minutes(2)
    meter.next -= 3600
    await minutes(9)
    watch = watch_of(room)
    assert watch.verdict is not None
    assert watch.verdict.word == "healthy"
    assert room.line.holds == ()


@virtual
async def test_a_deployment_that_was_replaced_is_undecided(shop: Shop) -> None:
    shipped(shop)
    room = shop.room()
    engine(shop, room, Meter(shop, lambda _: GOOD))
    await minutes(5)
    assert shop.deploy is not None
    shop.deploy.put("v3")
    shop.seen()
    await minutes(2)
    watch = watch_of(room)
    assert watch.ended
    assert watch.verdict is not None
    assert (watch.verdict.word, watch.verdict.sentence) == ("undecided", "replaced by v3 after 5 min of 15 min")
    assert not watch_of(room, "d3").ended


@virtual
async def test_deployments_in_quick_succession_stop_nothing_and_alarm_nobody(shop: Shop) -> None:
    shop.has(LINE, "ci/deploy", notify=("pager",))
    blind = msgspec.structs.replace(CONVERSION, on_blind="stop")
    shop.lines[LINE] = msgspec.structs.replace(shop.lines[LINE], metrics=(blind,))
    shipped(shop)
    room = shop.room()
    engine(shop, room, Meter(shop, lambda _: GOOD))
    assert shop.deploy is not None
    for version in ("v3", "v4", "v5"):
        await asyncio.sleep(20)
        shop.deploy.put(version)
        shop.seen()
    await minutes(5)
    assert room.line.holds == ()
    assert shop.notifiers["pager"].told == []


@virtual
async def test_a_deployment_that_failed_is_not_judged(shop: Shop) -> None:
    shipped(shop)
    room = shop.room()
    engine(shop, room, Meter(shop, lambda _: GOOD))
    await minutes(1)
    assert shop.deploy is not None
    shop.deploy.change("d2", state="failed")
    shop.seen()
    await minutes(1)
    verdict = watch_of(room).verdict
    assert verdict is not None
    assert (verdict.word, verdict.sentence) == ("undecided", "the deployment failed before it could be judged")


@virtual
async def test_old_deployments_of_a_first_start_are_not_watched(shop: Shop) -> None:
    from andon.events import SourceSeen

    assert shop.deploy is not None
    shop.ledger.commit(SourceSeen(line=LINE, at=shop.clock.now(), source="prod", state="ok"))
    shop.ships("v1", "v2", "v3")
    room = shop.room()
    engine(shop, room, Meter(shop, lambda _: GOOD))
    await minutes(1)
    assert list(room.line.watches) == ["d3"]


@virtual
async def test_several_lines_that_fall_at_once_are_a_broken_measurement(shop: Shop) -> None:
    """Also for the line that is judged first, and where nothing was deployed on the other."""
    shop.has("mail")
    shipped(shop)
    room = shop.room()
    engine(shop, room, Meter(shop, falls_with(shop, "d2")), Meter(shop, falls_with(shop, "d2"), "mail"))
    await minutes(8)
    assert watch_of(room).did == (
        "stopped, not rolled back: mail regressed in the same minute: a broken measurement, until shown otherwise"
    )
    assert room.acts("rollback") == []
    assert [hold.owner for hold in room.line.open_holds] == ["immune"]


@virtual
async def test_another_line_that_has_been_bad_for_long_does_not_keep_it(shop: Shop) -> None:
    shop.has("mail")
    shipped(shop)
    room = shop.room()
    engine(shop, room, Meter(shop, falls_with(shop, "d2")), Meter(shop, lambda _: BAD, "mail"))
    await minutes(8)
    assert [act.state for act in room.acts("rollback")] == ["verified"]


@virtual
async def test_a_clock_that_is_off_keeps_it_from_rolling_back(shop: Shop) -> None:
    shipped(shop)
    room = shop.room()
    engine(shop, room, Meter(shop, falls_with(shop, "d2")), skew_s={"meter": -45.0})
    await minutes(8)
    assert watch_of(room).did == "stopped, not rolled back: auto off: the clock of meter is 45 s off"
    assert room.acts("rollback") == []
    assert shop.stand.standing


@virtual
async def test_the_third_in_an_hour_is_only_advice(shop: Shop) -> None:
    shipped(shop)
    assert shop.deploy is not None
    deploy, room = shop.deploy, shop.room()
    engine(shop, room, Meter(shop, falls_with(shop, "d2", "d4", "d6")))
    for number in (2, 4):
        done = await room.until(lambda n=number: [act for act in room.acts("rollback") if act.expected == f"d{n}"])
        await room.settled(done[0])
        shop.seen()
        await minutes(6)
        await room.cord.resume(LINE, "ann", "next try")
        deploy.put(f"v{number + 1}")
        shop.seen()
    await minutes(8)
    assert watch_of(room, "d6").did == ("stopped, not rolled back: 2 automatic rollbacks within 1 h: advice only")
    assert len(room.acts("rollback")) == 2
    assert [hold.owner for hold in room.line.open_holds] == ["immune"]


@virtual
async def test_two_who_watch_at_once_do_it_once(shop: Shop) -> None:
    """A lease may be thought held by two for a moment."""
    shipped(shop)
    meter = Meter(shop, falls_with(shop, "d2"))
    rooms = [shop.room("immune-1"), shop.room("immune-2")]
    for room in rooms:
        engine(shop, room, meter)
    await minutes(10)
    assert len(rooms[0].acts("rollback")) == 1
    assert len(rooms[0].line.open_holds) == 1
    assert shop.deploy is not None
    assert [item.version for item in shop.deploy.deployments] == ["v1", "v2", "v1"]


@virtual
async def test_whoever_takes_over_goes_on_with_the_same_watch(shop: Shop) -> None:
    shipped(shop)
    meter = Meter(shop, falls_with(shop, "d2"))
    first = shop.room("immune-1")
    engine(shop, first, meter)
    await minutes(2)
    first.die()
    second = shop.room("immune-2")
    engine(shop, second, meter)
    await minutes(8)
    assert [act.state for act in second.acts("rollback")] == ["verified"]


@virtual
async def test_what_fell_while_nobody_watched_is_stopped_but_not_rolled_back(shop: Shop) -> None:
    """Its numbers are old by now: a person decides."""
    shipped(shop)
    shop.seen()
    room = shop.room()
    meter = Meter(shop, falls_with(shop, "d2"))
    await minutes(14)
    meter.rate = lambda _: None
    await minutes(26)
    engine(shop, room, meter)
    await minutes(1)
    assert watch_of(room).did == "stopped, not rolled back: the newest number is 26 min old"
    assert room.acts("rollback") == []
    assert room.line.open_holds


@virtual
async def test_a_line_that_must_not_be_acted_on_is_judged_all_the_same(shop: Shop) -> None:
    shipped(shop)
    room = shop.room(read_only=True)
    engine(shop, room, Meter(shop, falls_with(shop, "d2")))
    await minutes(8)
    watch = watch_of(room)
    assert watch.verdict is not None
    assert watch.verdict.word == "regressed"
    assert watch.did == "not stopped, not rolled back: read-only: this room only looks"


@virtual
async def test_a_rollback_of_a_rollback_is_never_made(shop: Shop) -> None:
    """The old version is bad as well: it is not the deployment's fault, and nothing more is done."""
    shipped(shop)
    room = shop.room()
    began = shop.clock.now()
    engine(shop, room, Meter(shop, lambda at: GOOD if at < began else BAD))
    await minutes(5)
    shop.seen()
    await minutes(25)
    assert len(room.acts("rollback")) == 1
    assert room.line.helped["d2"].word == "not recovered"
    assert room.line.helped["d2"].sentence == "conversion 1.1 % after 15 min: suspect something else"
    verdict = watch_of(room, "d3").verdict
    assert verdict is not None
    assert (verdict.word, verdict.sentence) == ("undecided", "conversion was already 1.1 % before v1")


@virtual
async def test_without_comparison_it_rolls_back_a_quiet_line_only(shop: Shop) -> None:
    shop.has(LINE, "ci/deploy", only_way_in=True)
    shipped(shop)
    assert shop.deploy is not None
    shop.deploy.can = Can(deploy=True)
    shop.stand.moving = ("run-7",)
    room = shop.room()
    engine(shop, room, Meter(shop, falls_with(shop, "d2")))
    act = (await room.until(lambda: room.acts("rollback")))[0]
    await asyncio.sleep(60)
    assert room.act(act).words == "not quiet: ci/deploy is not confirmed to stand"
    shop.stand.moving = ()
    await room.cord.reconcile(LINE, "ci/deploy", shop.stand.shown())
    assert (await room.settled(act)).state == "verified"


@virtual
async def test_how_an_undecided_watch_ended_is_recorded_with_its_numbers(shop: Shop) -> None:
    shipped(shop)
    room = shop.room()
    hole = shop.clock.now() + 300
    engine(shop, room, Meter(shop, lambda at: None if hole <= at < hole + 90 else GOOD))
    await minutes(16)
    sentence = watch_of(room).verdicts["conversion"].sentence
    assert sentence.startswith("conversion: ")
    assert sentence.endswith("buckets are missing after v2")
    rows = [msgspec.json.decode(row.body) for row in shop.ledger.read(0) if row.kind == "judged"]
    judged = [row for row in rows if row["verdict"].get("metric") and row["deployment"] == "d2"]
    assert len(judged) == 2
    assert len(judged[-1]["verdict"]["numbers"]) > 10


@virtual
async def test_the_worst_metric_speaks_for_the_deployment(shop: Shop) -> None:
    other = msgspec.structs.replace(CONVERSION, name="sign-ups", on_regression="tell")
    shop.lines[LINE] = msgspec.structs.replace(shop.lines[LINE], metrics=(CONVERSION, other))
    shipped(shop)
    room = shop.room()
    engine(shop, room, Meter(shop, lambda _: GOOD), Meter(shop, falls_with(shop, "d2"), metric=other))
    await minutes(16)
    watch = watch_of(room)
    assert watch.verdict is not None
    assert watch.verdict.word == "regressed"
    assert watch.verdict.sentence.startswith("sign-ups ")
    assert watch.verdicts["conversion"].word == "healthy"
    assert watch.did == "told"
    assert room.line.holds == ()
