"""Adapters that lie about success, halt half of what they should, change their mind, or answer what makes no sense: nothing
is shown as done that no read has shown, the cord works all the same, and what is wrong is said. In virtual time.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from andon import proof
from andon.acts import LOUD_S, NotDone
from andon.board import Line
from andon.config import Config
from andon.engine import View
from andon.model import Deployment, Halted, HoldRef, Part, Sample, Samples
from andon.ports import Accepted, Answer, Conflict, NoAnswer, Passed, Refused
from andon.stations import Stations
from tests.fakes import LINE, FakeDeploy, FakeHalting, FakeMeter, FakeNotifier, Guard, Room, Shop, play, virtual
from tests.test_acts import rolled_back, sent, shop_with
from tests.test_cord import pulled, resumed, shown
from tui.moment import Moment
from tui.panels.effects import effects

Lie = Callable[[Shop, FakeDeploy], None]


def ever(room: Room, act_id: str) -> list[str]:
    """Every state an act was ever in."""
    rows = [msgspec.json.decode(row.body) for row in room.shop.ledger.read(0, 100_000) if row.kind == "act-stepped"]
    return [row["now"] for row in rows if row["act"] == act_id]


# ---- a rollback that did not happen


def accepts(ref: str) -> Lie:
    """It says yes, names a deployment, and does nothing."""

    def lie(shop: Shop, deploy: FakeDeploy) -> None:
        deploy.answers = [Accepted(ref)]

    return lie


def accepts_and(ref: str, later: Callable[[FakeDeploy], Any], after_s: float = 20.0) -> Lie:
    """It says yes and does nothing; somebody else does something a little later."""

    def lie(shop: Shop, deploy: FakeDeploy) -> None:
        deploy.answers = [Accepted(ref)]
        asyncio.get_running_loop().call_later(after_s, lambda: later(deploy))

    return lie


def shows(id_: str, version: str, *, of_ten: int = 10) -> Lie:
    """Asked what runs, it names something that its own history does not know: always, or in so many of ten reads."""

    def lie(shop: Shop, deploy: FakeDeploy) -> None:
        deploy.answers = [Accepted("d3")]
        true, other = deploy.current, Deployment(id_, version, "settled", shop.clock.now(), by="dee")

        async def current() -> Deployment | None:
            there = await true()
            return other if deploy.requests and deploy.reads % 10 < of_ten else there

        deploy.current = current  # type: ignore[method-assign]

    return lie


def lists_it(shop: Shop, deploy: FakeDeploy) -> None:
    """It puts a settled deployment into its history that never becomes current."""
    deploy.answers = [Accepted("d3")]
    true = deploy.history

    async def history(n: int) -> list[Deployment]:
        made = [Deployment("d3", "v1", "settled", shop.clock.now(), by="andon")] if deploy.requests else []
        return [*made, *await true(n)][:n]

    deploy.history = history  # type: ignore[method-assign]


LIES: dict[str, Lie] = {
    "accepted, with a reference to nothing": accepts("d9"),
    "accepted, without a reference": accepts(""),
    "accepted, with the reference of the one to undo": accepts("d2"),
    "accepted, with the reference of the one to return to": accepts("d1"),
    "accepted with an old one's, and somebody ships": accepts_and("d1", lambda deploy: deploy.put("v3")),
    "accepted with somebody else's, who ships": accepts_and("d3", lambda deploy: deploy.put("v3")),
    "accepted with nobody's, and somebody ships the same": accepts_and("d9", lambda deploy: deploy.put("v1")),
    "another one is current, of another version": shows("d9", "v9"),
    "another one is current, of the version wanted": shows("d9", "v1"),
    "now this one is current, now that": shows("d9", "v1", of_ten=5),
    "it is listed, and never current": lists_it,
}


@pytest.mark.parametrize("name", LIES)
@virtual
async def test_a_rollback_that_did_not_happen_is_never_shown_as_done(shop: Shop, name: str) -> None:
    deploy, room = shop_with(shop), shop.room()
    LIES[name](shop, deploy)
    act = await rolled_back(room)
    done = await room.settled(act)
    assert done.state in ("failed", "superseded")
    assert done.words
    assert "verified" not in ever(room, act.id)
    assert "d2" not in room.line.marks, "what was not undone is not marked as undone"
    assert room.line.open_holds, "the line stays stopped"
    assert len(sent(deploy)) == 1, "and it is not sent again"


def test_mutant_who_believes_any_reference_calls_it_done(monkeypatch: pytest.MonkeyPatch) -> None:
    async def believing(act: Any, deploy: Any) -> Deployment | None:
        return next((item for item in await deploy.history(20) if item.id == act.ref), None)

    monkeypatch.setattr(proof, "_ours_in_history", believing)
    states: list[str] = []

    async def work(shop: Shop) -> None:
        deploy, room = shop_with(shop), shop.room()
        LIES["accepted with somebody else's, who ships"](shop, deploy)
        states.append((await room.settled(await rolled_back(room))).state)

    play(work)
    assert states == ["verified"]


# ---- halts that were not


class Halves(FakeHalting):
    """Says yes, and does it to the first of its parts only."""

    halves = True

    async def halt(self, hold: HoldRef) -> Answer:
        def arrive() -> Answer:
            names = list(self.parts)[: 1 if self.halves else None]
            self.parts |= {name: self.parts[name] or hold.note for name in names}
            return Accepted()

        return await self.answer(("halt", hold.id), arrive)

    async def release(self, hold: HoldRef, before: Halted) -> Answer:
        def arrive() -> Answer:
            self.parts |= dict.fromkeys(list(self.parts)[: 1 if self.halves else None], "")
            return Accepted()

        return await self.answer(("release", hold.id), arrive)


def halving(shop: Shop) -> Halves:
    shop.stand = shop.stands["ci/deploy"] = Halves(shop.clock, "blue", "green")
    return shop.stand


@virtual
async def test_a_target_that_halts_half_of_itself_is_not_stopped_and_it_is_said(shop: Shop) -> None:
    stand, room = halving(shop), shop.room()
    await room.cord.pull(LINE, "ann", "x")
    for _ in range(10):
        await asyncio.sleep(LOUD_S / 8)
        assert shown(room) == "stopping"
    act = room.acts("halt")[0]
    assert "verified" not in ever(room, act.id)
    assert act.words.startswith("not confirmed for ")
    assert len(stand.requests) > 4, "a halt says how things shall be, and is sent again"
    stand.halves = False
    await room.settled(act)
    assert shown(room) == "stopped"


@virtual
async def test_a_target_that_releases_half_of_itself_is_not_running_and_it_is_said(shop: Shop) -> None:
    stand, room = halving(shop), shop.room()
    stand.halves = False
    await pulled(room)
    stand.halves = True
    await room.cord.resume(LINE, "ann", "fixed")
    for _ in range(10):
        await asyncio.sleep(LOUD_S / 8)
        assert shown(room) == "stopped", "until the release is read"
    act = room.acts("release")[0]
    assert "verified" not in ever(room, act.id)
    assert act.words.startswith("not confirmed for ")
    stand.halves = False
    await room.settled(act)
    assert shown(room) == "running"


@virtual
async def test_a_line_of_which_one_target_lies_is_stopping_and_the_others_stand(shop: Shop) -> None:
    shop.has(LINE, "ci/deploy", "cron/deploy", "gate/deploy")
    shop.stands["cron/deploy"].ignores = True
    room = shop.room()
    await room.cord.pull(LINE, "ann", "x")
    await asyncio.sleep(2 * LOUD_S)
    acts = {act.target: act for act in room.acts("halt")}
    assert {name: act.state for name, act in acts.items() if name != "cron/deploy"} == {
        "ci/deploy": "verified",
        "gate/deploy": "verified",
    }
    assert acts["cron/deploy"].state == "accepted"
    assert acts["cron/deploy"].words.startswith("not confirmed for ")
    assert shown(room) == "stopping"


def watched(shop: Shop) -> Guard:
    """An engine over the shop, whose metrics are well."""
    shop.meters["meter"] = FakeMeter(shop.clock, lambda _: 0.031)
    return Guard(shop)


def block_of(shop: Shop, guard: Guard) -> list[str]:
    """What the hold's screen says of the first halt target."""
    config = Config(Path("andon.yaml"), lines=shop.lines)
    guard.room.tail()
    pulses = guard.room.pulses
    moment = Moment(config, guard.room.board, View(pulses=pulses), shop.clock.now(), None)  # type: ignore[arg-type]
    found = next(effect for effect in effects(moment, LINE) if effect.name == "block")
    return [words for item in found.proofs if (words := item.words)]


@pytest.mark.parametrize("parts", [("deploy",), ("blue", "green")], ids=["all of it", "half of it"])
@virtual
async def test_a_target_that_moves_again_by_itself_is_halted_once_more_and_then_told(
    shop: Shop, parts: tuple[str, ...]
) -> None:
    shop.stand = shop.stands["ci/deploy"] = FakeHalting(shop.clock, *parts)
    guard, stand = watched(shop), shop.stand
    await pulled(guard.room)
    await asyncio.sleep(60)
    stand.parts[parts[-1]] = ""
    await guard.room.until(lambda: len(stand.requests) == 2, 30)
    await guard.room.until(lambda: shown(guard.room) == "stopped", 30)
    await asyncio.sleep(60)
    stand.parts[parts[-1]] = ""
    await asyncio.sleep(610)
    assert [request[0] for request in stand.requests] == ["halt", "halt"], "once more, and no more"
    assert shown(guard.room) == "stopping"
    assert guard.room.pulses["target:ci/deploy"].words == "moves under an open hold"
    assert block_of(shop, guard) == ["moving again since 10 min"]
    await resumed(guard.room)
    assert not any(stand.parts.values())


# ---- answers that make no sense


def part() -> Any:
    return Part(name=7, halted="yes")  # type: ignore[arg-type]


def deployment(**values: Any) -> Any:
    return Deployment(**({"id": 5, "version": None, "state": "gone"} | values))


GARBAGE: tuple[Any, ...] = (
    "",
    "d2",
    17,
    True,
    {},
    {"id": "d2", "version": "v2", "state": "settled"},
    [],
    [None],
    object(),
    Halted(parts=("x",)),  # type: ignore[arg-type]
    Halted(parts=(part(),)),
    Halted(parts=17),  # type: ignore[arg-type]
    Halted(at="now"),  # type: ignore[arg-type]
    deployment(),
    deployment(id="d2", version="v2", state="settled", at="now"),
    Samples("ok", ("x",)),  # type: ignore[arg-type]
    Samples("ok", (Sample("now", 1.0),)),  # type: ignore[arg-type]
    Passed(17),  # type: ignore[arg-type]
    Accepted(17),  # type: ignore[arg-type]
    Refused(None),  # type: ignore[arg-type]
    NoAnswer({}),  # type: ignore[arg-type]
    Conflict(None),  # type: ignore[arg-type]
    Exception("raised"),
    KeyError("raised"),
    asyncio.Event,  # hangs
)


def broken(values: list[Any]) -> Callable[..., Any]:
    """A call that gives those one after the other, and then begins again; exceptions are raised."""

    async def call(*_: Any, **__: Any) -> Any:
        value = values[0]
        values.append(values.pop(0))
        if isinstance(value, Exception):
            raise value
        if value is asyncio.Event:
            await asyncio.Event().wait()
        return value

    return call


def names(value: Any) -> str:
    return f"{type(value).__name__}-{value!r}"[:40] if value.__class__ is not object else "object"


@virtual
async def test_f9_halts_whatever_the_look_before_it_brings(shop: Shop) -> None:
    """What stood there before is then not known, and a person is asked when the line is resumed."""
    room, stand = shop.room(), shop.stand
    true = stand.halted
    for number, value in enumerate([None, *GARBAGE]):
        stand.halted = broken([value])  # type: ignore[method-assign]
        began = shop.clock.now()
        pull = asyncio.create_task(room.cord.pull(LINE, "ann", "x"))
        await room.until(lambda number=number: len(stand.requests) == number + 1, 10)
        assert stand.at[-1] - began <= 3.0, names(value)
        await pull
        await asyncio.sleep(30)
        assert "verified" not in ever(room, room.acts("halt")[-1].id), names(value)
        stand.requests, stand.at = stand.requests[: number + 1], stand.at[: number + 1]
        stand.halted = true  # type: ignore[method-assign]
        await room.until(lambda: room.acts("halt")[-1].state == "verified", 60)
        stand.requests, stand.at = stand.requests[: number + 1], stand.at[: number + 1]
        await room.cord.resume(LINE, "ann", "next")
        await room.until(lambda: not room.line.unsettled())
        assert room.acts("release")[-1].state == "refused", names(value)
        stand.parts = {"worker": ""}
        await asyncio.sleep(120)


@pytest.mark.parametrize("where", ["halt", "release", "deploy", "tell"])
@virtual
async def test_an_answer_that_is_none_leaves_an_act_that_is_read(shop: Shop, where: str) -> None:
    """It may have arrived: a read tells, and a note is not told twice."""
    shop.has(LINE, "ci/deploy", notify=("pager",))
    pager: FakeNotifier = shop.notifiers["pager"]
    deploy, room = shop_with(shop), shop.room()
    for value in (None, *GARBAGE):
        source: Any = {"halt": shop.stand, "release": shop.stand, "deploy": deploy, "tell": pager}[where]
        setattr(source, where, broken([value]))
        if where == "deploy":
            act = await rolled_back(room)
            done = await room.settled(act)
            expected = ("refused",) if value == Refused("") else ("failed",)
            assert done.state in expected, names(value)
        else:
            await room.cord.pull(LINE, "ann", "x")
            await asyncio.sleep(20)
            if where == "release":
                await room.cord.resume(LINE, "ann", "next")
                await asyncio.sleep(25)
            kind = room.acts(where)[-1]
            assert kind.state in ("unknown", "sent") if where != "tell" else kind.state in ("failed", "sent")
            assert "verified" not in ever(room, kind.id), names(value)
        delattr(source, where)
        await room.until(lambda: not room.line.unsettled("halt", "release"), 90)
        if room.line.open_holds:
            await room.cord.resume(LINE, "ann", "next", all_=True)
        await room.until(lambda: not room.line.unsettled())
        assert not any(shop.stand.parts.values()), names(value)


@pytest.mark.parametrize("where", ["current", "history"])
@virtual
async def test_a_rollback_survives_what_a_read_of_its_target_brings(shop: Shop, where: str) -> None:
    """It is done, and shown as done when a read makes sense again."""
    deploy, room = shop_with(shop), shop.room()
    true = getattr(deploy, where)
    if where == "history":  # which is read where no answer named what it began
        deploy.answers = [deploy.arrives_but_no_answer(lambda: deploy.arrive("v1", "d2"))]
    nothing = [] if where == "history" else None  # a whole answer, and no garbage
    setattr(deploy, where, broken([value for value in (None, *GARBAGE) if value != nothing]))
    act = await rolled_back(room)
    await asyncio.sleep(300)
    assert "verified" not in ever(room, act.id)
    assert not room.act(act).settled
    assert "cannot be read" in room.act(act).words
    setattr(deploy, where, true)
    assert (await room.settled(act)).state == "verified"
    assert len(sent(deploy)) == 1


@virtual
async def test_a_push_says_what_it_cannot_read(shop: Shop) -> None:
    """And never hangs."""
    deploy, room = shop_with(shop), shop.room()
    for where, source in (("passed", shop.stand), ("current", deploy)):
        shop.stand.tested["v1"] = "yes"
        for value in GARBAGE:
            setattr(source, where, broken([value]))
            with pytest.raises(NotDone, match="cannot read"):
                await asyncio.wait_for(room.shipper.push(LINE, "v1", "ann", "fix"), 30)
        delattr(source, where)
    assert sent(deploy) == []


def streams(values: list[Any]) -> Callable[[], Any]:
    """A watch that says one of those, and then begins again."""
    call = broken(values)

    def watch() -> Any:
        async def told() -> Any:
            yield await call()

        return told()

    return watch


WHERE: dict[str, Callable[[Shop], Any]] = {
    "halted": lambda shop: shop.stand,
    "watch": lambda shop: shop.deploy,
    "samples": lambda shop: shop.meters["meter"],
    "whoami": lambda shop: shop.stand,
}


@pytest.mark.parametrize("where", WHERE)
@virtual
async def test_a_source_that_makes_no_sense_is_told_and_the_others_go_on(shop: Shop, where: str) -> None:
    shop.ships("v1", "v2")
    shop.meters["meter"] = FakeMeter(shop.clock, lambda _: 0.031)
    source = WHERE[where](shop)
    true = getattr(source, where)
    values = [None, *GARBAGE]
    ways = [streams(values) if where == "watch" else broken(values)]

    def answers(*given: Any) -> Any:
        return ways[-1](*given)

    setattr(source, where, answers)
    guard = Guard(shop)
    await asyncio.sleep(600)
    name = {"halted": "ci", "watch": "prod", "samples": "meter", "whoami": "ci"}[where]
    line: Line = guard.line()
    told = "ok" if where == "whoami" else "error"
    assert line.sources[name].state in (told, "gone"), line.sources[name]
    assert {other.state for key, other in line.sources.items() if key != name} == {"ok"}
    assert not [key for key in guard.room.pulses if key.startswith("task:")], "no task dies of it"
    assert where == "halted" or shop.stand.reads > 50
    assert where == "samples" or shop.meters["meter"].reads > 5
    assert guard.rows("source-seen") < 20, "it does not flap"
    assert line.holds == ()
    ways.append(true)
    await guard.room.until(lambda: guard.line().sources[name].state == "ok", 200)


class Door:
    """A source that is left."""

    def __init__(self) -> None:
        self.closed = False

    async def close(self) -> None:
        self.closed = True


class Stuck(Door):
    """And will not be."""

    async def close(self) -> None:
        await asyncio.Event().wait()


@virtual
async def test_a_source_that_hangs_when_it_is_closed_keeps_nobody_from_leaving(shop: Shop) -> None:
    stations = Stations(Config(Path("andon.yaml")), shop.clock, Path())
    doors = [Stuck(), Door(), Stuck(), Door()]
    stations._sources = {("ci", LINE, f"{number}"): door for number, door in enumerate(doors)}
    await asyncio.wait_for(stations.close(), 5)
    assert [door.closed for door in doors] == [False, True, False, True]


@virtual
async def test_a_source_that_cannot_be_opened_keeps_no_other_line_from_being_judged(shop: Shop) -> None:
    shop.has("other", "ci/other")
    shop.ships("v1", "v2")
    shop.ledger.commit(*_good(shop))
    began = shop.clock.now()
    shop.meters["meter"] = FakeMeter(shop.clock, lambda at: 0.031 if at < began else 0.011)
    guard = Guard(shop)
    stations, true = guard.duty.stations, guard.duty.stations.open_ci

    def open_ci(line: str, entry: Any) -> Any:
        if line == "other":
            raise RuntimeError("its secret is locked")
        return true(line, entry)

    stations.open_ci = open_ci  # type: ignore[method-assign]
    await guard.room.until(lambda: guard.line().open_holds)


def _good(shop: Shop) -> list[Any]:
    from andon.events import Marked

    return [Marked(line=LINE, at=shop.clock.now(), deployment="d1", version="v1", mark="good", who="cy", why="weeks")]
