"""`andon call` and what `andon status` says of it; and `andon pull --all` where one line may not be stopped."""

import argparse
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from andon.acts import NotDone
from andon.board import Board
from andon.config import load
from andon.cord import Pulled
from andon.model import Hold
from andon.yamlfile import FileError
from tests.test_commandline import CALM, Shop
from tui import acting


@pytest.fixture
def alone(tmp_path):
    return Shop(tmp_path)


def test_a_call_is_made_joined_shown_and_cleared(alone):
    with alone.watched():
        made = alone.do("--as", "ann", "call", "checkout", "--reason", "p95 looks odd")
        assert made.code == 0
        assert "checkout: called by ann; it stops in 120 s unless somebody clears the call" in made.out
        again = alone.do("--as", "bo", "call", "checkout", "--reason", "me too", "--json")
        assert again.code == 0
        assert (again.json["asked"]["who"], again.json["asked"]["why"]) == ("ann", "p95 looks odd")
        status = alone.do("status", "checkout")
        assert status.code == 0, "it runs until the call ends"
        assert "▲ called by ann, stops in 1" in status.out
        assert alone.do("status", "checkout", "--json").json["lines"][0]["call"]["who"] == "ann"
        cleared = alone.do("--as", "bo", "call", "checkout", "--clear")
        assert (cleared.code, cleared.out) == (0, "checkout: the call by ann is cleared\n")
        assert "called" not in alone.do("status", "checkout").out
        guest = alone.do("--read-only", "call", "checkout", "--reason", "x")
        assert (guest.code, guest.err) == (1, "andon: read-only: this room only looks\n")
        nobody = alone.do("call", "checkout", "--clear")
        assert (nobody.code, nobody.err) == (1, "andon: nobody has called for help on checkout\n")
        alone.do("pull", "checkout", "--reason", "odd")
        late = alone.do("call", "checkout", "--reason", "help")
        assert (late.code, late.err) == (1, "andon: checkout is stopped already; F9 adds your hold\n")


def test_where_nobody_watches_it_is_recorded_and_says_that_nobody_would_stop_it(alone):
    made = alone.do("call", "search", "--reason", "odd")
    assert made.code == 3
    assert "nobody watches now" in made.out


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("call", "checkout"), 2),
        (("call", "checkout", "--reason", "x", "--clear"), 2),
        (("call", "checkout", "--reason", " "), 2),
        (("call", "nowhere", "--reason", "x"), 2),
        (("--read-only", "call", "checkout", "--reason", "x"), 2),  # there is no ledger to look at
    ],
)
def test_what_makes_no_sense_or_may_not_be_is_said(words, code, alone):
    done = alone.do(*words)
    assert done.code == code
    assert done.err


def test_one_line_that_may_not_be_stopped_keeps_no_other_from_it():
    names = ("a", "b", "c")

    def pull(name, reason):
        future: Future[Pulled] = Future()
        if name == "b":
            future.set_exception(NotDone("read-only for b: a newer andon wrote it"))
        else:
            future.set_result(Pulled(Hold(f"hold-{name}", name, "ann", reason, 1.0, f"hold-{name}")))
        return future

    desk = SimpleNamespace(config=SimpleNamespace(lines=dict.fromkeys(names)))
    engine = SimpleNamespace(pull=pull, keeper=SimpleNamespace(board=Board()))
    asked = acting._asked_pull(desk, engine, argparse.Namespace(all=True, line=None, reason="odd"))
    assert asked.refused
    assert asked.words.split("\n") == [
        "a: hold hold-a by ann",
        "c: hold hold-c by ann",
        "b: not stopped: read-only for b: a newer andon wrote it",
    ]
    with pytest.raises(NotDone, match="read-only for b"):
        acting._asked_pull(desk, engine, argparse.Namespace(all=False, line="b", reason="odd"))


@pytest.mark.parametrize(("written", "seconds"), [("", 120.0), ("    call: 30s\n", 30.0), ("    call: 1h\n", 3600.0)])
def test_how_long_a_call_counts_down_is_in_the_config(tmp_path, written, seconds):
    assert (
        load(Shop(tmp_path, CALM.replace("  search:\n", f"  search:\n{written}")).path).lines["search"].call_s
        == seconds
    )


@pytest.mark.parametrize("written", ["5s", "soon", "-1m", "[1m]"])
def test_too_short_a_call_or_nonsense_is_refused_with_its_place(tmp_path, written):
    shop = Shop(tmp_path, CALM.replace("  search:\n", f"  search:\n    call: {written}\n"))
    with pytest.raises(FileError, match=r"lines\.search\.call"):
        load(shop.path)
