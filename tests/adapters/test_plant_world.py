"""The world of the plant: one seed, one shop; and the story that it tells."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters._plant import Abort, Cancel, Put, Sleep, Stand, World
from adapters._plant_trade import factor
from adapters._plant_views import deployment
from andon.model import Change, Why
from andon.ports import (
    Accepted,
)
from andon.text import clean
from tests.adapters.plants import LINES


def act_on(world: World, at: float, line: str, kind: str) -> object:
    """An act whose subject depends on the line as it is then, and on nothing else."""
    world.step(at)
    shop = world.shop(line)
    if kind == "put":
        version = shop.trunk.version(shop.rollouts[-2].number)
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
    back = shop.trunk.version(shop.rollouts[-2].number)
    assert isinstance(world.put(Put(601.0, "checkout", back, "k", shop.current.id)), Accepted)
    world.step(1_500.0)
    assert any(commit.mends is not None and commit.built for commit in shop.commits[-6:])
    world.put(Stand(1_500.0, "checkout", {"deploy": ""}))
    world.step(1_600.0)
    assert factor(shop.harms, "conversion", 1_590.0, 1_600.0) == 1.0
    assert shop.current.piece, "the pipeline shipped it"


def test_the_pipeline_lets_a_deployment_be_for_a_while_unless_a_stop_is_lifted():
    world = World(7)
    shop = world.shop("checkout")
    world.step(700.0)
    bad = shop.current
    tested = [piece for piece in shop.pieces.values() if all(task.state == "passed" for task in piece.of("test"))]
    assert any(piece.ended_at is None for piece in tested), "something has passed, and waits"
    world.put(Put(700.0, "checkout", shop.trunk.version(shop.rollouts[-2].number), "k", bad.id))
    world.step(790.0)
    assert shop.current.by == "andon", "nothing ships over the way back at once"
    world.put(Stand(790.0, "checkout", {"deploy": "held"}))
    world.put(Stand(791.0, "checkout", {"deploy": ""}))
    assert shop.current.piece, "but who lifts a stop does not wait"


def test_hostile_titles_are_part_of_the_shop_and_harmless_as_records():
    world = World(7)
    for line in LINES:
        raw = [commit.change for commit in world.shop(line).commits]
        titles = [change.title for change in raw]
        assert all(title == clean(title) for title in titles)
        assert any("[/]" in title or "\ufffd" in title for title in titles[-3:])
    assert all(isinstance(change, Change) for change in raw)
