"""The main job on real servers: from a commit to its measured effect, and one key that stops the line.

Buildbot builds a real git repository and ships it with the release script under supervisord and HAProxy; customers buy;
Prometheus measures; andon runs against them from a config file. The tests run in order, over one world.
"""

import contextlib
import http.client
import itertools
import json
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from adapters.sqlite import SqliteLedger
from andon import rollback
from andon.board import Board, Line
from andon.clock import WallClock
from andon.events import ActAsked, HoldPlaced
from andon.keeper import fold
from andon.model import Act, Hold, new_id
from tests.pty_harness import Program
from tests.servers.need import need
from tests.servers.world import World

pytestmark = pytest.mark.servers

ANDON = [str(Path(sys.executable).with_name("andon"))]
EVERY_S = 10
WATCH_S = 45
FOR_S = 30
F9, F4, F8, ESC = "\x1b[20~", "\x1bOS", "\x1b[19~", "\x1b"


def until(condition: Callable[[], Any], within_s: float, what: str, seen: Callable[[], Any] = str) -> Any:
    """The first true value of a condition; fails with what was waited for, and what stands there instead."""
    deadline = time.monotonic() + within_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"not within {within_s:.0f} s: {what} {seen()}")
        time.sleep(0.1)


class Shop:
    """A person at a terminal: the world, andon's command, and what the ledger holds."""

    def __init__(self, world: World, config: Path, ledger: Path) -> None:
        self.world, self.config, self.ledger = world, config, ledger
        self.log = config.with_name("watch.jsonl")
        self.engine: subprocess.Popen[bytes] | None = None

    def andon(self, *words: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a command; its exit code must be `code`."""
        done = subprocess.run(
            [*ANDON, "-c", str(self.config), *words], capture_output=True, text=True, timeout=120, check=False
        )
        if code is not None:
            assert done.returncode == code, f"andon {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def start_engine(self) -> None:
        """`andon watch`, as a service."""
        with self.log.open("ab") as out:
            self.engine = subprocess.Popen([*ANDON, "-c", str(self.config), "watch"], stdout=out, stderr=out)
        until(lambda: self.andon("status", code=None).returncode != 2, 20, "the engine watches")

    def stop_engine(self, number: int = signal.SIGTERM) -> int:
        """End it with a signal; returns its exit code."""
        assert self.engine is not None
        self.engine.send_signal(number)
        code = self.engine.wait(30)
        self.engine = None
        return code

    def line(self) -> Line:
        """The line, folded from the ledger's file."""
        ledger = SqliteLedger(self.ledger, WallClock(), read_only=True)
        try:
            board, seq = Board(), 0
            while rows := ledger.read(seq):
                _, board, seq = fold(board, rows)
            return board.line("shop")
        finally:
            ledger.close()

    def act(self, kind: str, since: float) -> Act | None:
        """The newest act of a kind that was asked since."""
        acts = [act for act in self.line().acts.values() if act.kind == kind and act.at >= since]
        return acts[-1] if acts else None

    def verdict(self, version: str) -> str:
        """The verdict on the newest deployment of a version; empty: none yet."""
        line = self.line()
        found = [item for item in line.deployments if item.version == version]
        watch = line.watches.get(found[-1].id) if found else None
        return watch.verdict.word if watch and watch.verdict else ""

    def ship(self, title: str, defect: bool = False) -> str:
        """Commit and let the pipeline ship it."""
        sha = self.world.commit(title, defect=defect)
        self.world.wait_deployed(sha, 60)
        until(lambda: (now := self.line().current) and now.version == sha, 20, f"andon sees {sha[:7]}")
        return sha

    def way_back(self) -> str:
        """The version that F4 would return to: the newest that ended its watch healthy, before one never judged."""
        found = rollback.target(self.line(), time.time())
        assert isinstance(found, rollback.Target), found
        return found.to.version

    def resume(self) -> None:
        """Lift every hold."""
        self.andon("resume", "shop", "--all", "--reason", "looked into it")
        until(lambda: not self.world.worker_paused("deploys"), 20, "the deploy worker goes on")

    def settled(self, act_id: str, within_s: float = 30) -> Act:
        """An act once it is settled."""

        def found() -> Act | None:
            act = self.line().acts[act_id]
            return act if act.settled else None

        return until(found, within_s, f"act {act_id} is settled")  # type: ignore[no-any-return]

    @contextmanager
    def room(self, columns: int = 80, rows: int = 24) -> Iterator[Program]:
        """The room in a terminal."""
        with Program([*ANDON, "-c", str(self.config)], columns=columns, rows=rows) as program:
            program.wait_for("F9", 20)
            yield program

    @contextmanager
    def declined_customers(self, a_second: float = 40) -> Iterator[None]:
        """A wave of customers whose bank does not pay: conversion falls, and no deployment is to blame."""
        over = threading.Event()

        def come() -> None:
            where = urllib.parse.urlsplit(self.world.url)
            line = http.client.HTTPConnection(where.hostname or "", where.port, timeout=2)
            while not over.wait(1 / a_second):
                try:
                    line.request("POST", "/checkout", b'{"customer": 30}', {"Content-Type": "application/json"})
                    line.getresponse().read()
                except (OSError, http.client.HTTPException):
                    line.close()

        thread = threading.Thread(target=come)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    for name in ("prometheus", "haproxy", "supervisord", "buildbot"):
        need(name)
    folder = tmp_path_factory.mktemp("world")
    world = World(folder)
    ledger, config = folder / "andon" / "ledger.db", folder / "andon.yaml"
    shop = Shop(world, config, ledger)
    world.start()
    try:
        config.write_text(world.config_text(ledger, every_s=EVERY_S, watch_s=WATCH_S))
        config.chmod(0o600)
        shop.start_engine()
        # A deployment can be judged only against the time before it.
        until(lambda: len(_samples(shop)) >= FOR_S // EVERY_S + 1, 90, "conversion is measured")
        yield shop
    finally:
        if shop.engine is not None:
            shop.stop_engine()
        world.stop()


def _samples(shop: Shop) -> tuple[float, ...]:
    ledger = SqliteLedger(shop.ledger, WallClock(), read_only=True)
    try:
        return tuple(row.at for row in ledger.samples("shop/checkout conversion", 0, 1e12))
    finally:
        ledger.close()


def test_a_check_names_every_source(shop: Shop) -> None:
    out = shop.andon("check").stdout
    assert all(name in out for name in ("bb/deploy", "releases", "prom"))


def test_b_a_good_commit_goes_through_and_ends_healthy(shop: Shop) -> None:
    sha = shop.ship("Show saved cards first [/] \x1b]0;owned\x07 \u202etxt")
    until(lambda: shop.verdict(sha), WATCH_S + 40, "a verdict")
    assert shop.verdict(sha) == "healthy"
    assert shop.andon("gate", "shop").stdout.strip() == "running"
    assert "\x1b" not in shop.andon("status", "shop", "--json").stdout


def test_c_a_commit_that_breaks_checkout_is_rolled_back_by_itself(shop: Shop) -> None:
    good = shop.world.deployed_version()
    began = time.time()
    bad = shop.ship("Faster loyalty points", defect=True)
    until(lambda: shop.verdict(bad) == "regressed", FOR_S + 60, "regressed")
    act = until(lambda: shop.act("rollback", began), 10, "a rollback is asked")
    act = shop.settled(act.id)
    assert (act.state, act.auto, act.who) == ("verified", True, "immune")
    assert shop.world.deployed_version() == good
    assert shop.world.worker_paused("deploys")
    assert not shop.world.worker_paused("tests")
    held = shop.line().open_holds
    assert [hold.owner for hold in held] == ["immune"]
    assert shop.line().marks[act.expected].mark == "faulty"
    assert shop.andon("gate", "shop", code=1).stdout.strip() == "stopped"
    recovery = until(
        lambda: (found := shop.line().helped.get(act.expected)) and found.word != "too early" and found, 90, "recovery"
    )
    assert recovery.word == "recovered", recovery.sentence
    effects = [row for row in shop.world.deployments() if row["version"] == good and row["at"] > began]
    assert len(effects) == 1
    shop.resume()


def test_d_one_key_stops_shipping_and_not_testing_and_the_fix_goes_through(shop: Shop) -> None:
    before = shop.world.deployed_version()
    with shop.room() as room:
        room.wait_for("shop", 20)
        began = time.time()
        room.type(F9)
        until(lambda: shop.world.worker_paused("deploys"), 20, "Buildbot says that the deploy worker is paused")
        room.wait_for("stopped", 20)
        older = shop.world.commit("Waits behind the hold")
        fix = shop.world.commit("The fix")
        assert shop.world.wait_built(older, "unit", 60) == 0
        assert shop.world.wait_built(fix, "unit", 60) == 0
        assert shop.world.deployed_version() == before
        assert shop.andon("gate", "shop", code=1).stdout.strip() == "stopped"
        hold = next(hold for hold in shop.line().open_holds if hold.since >= began)
        refused = shop.andon("push", "shop", fix, "--reason", "fix", code=1)
        assert hold.id in refused.stderr
        until(lambda: (found := shop.line().change(fix)) is not None and found, 20, "andon has seen the fix")
        shop.andon("push", "shop", fix, "--through", hold.id, "--reason", "repairs checkout")
        assert shop.world.deployed_version() == fix
        assert shop.world.worker_paused("deploys")
        room.type("r")
        room.wait_for("reason", 10)
        room.type("the fix is live")
        room.wait_for("the fix is live", 10)
        room.type("\r")  # Enter lifts nothing
        time.sleep(0.3)  # longer than the guard against bursts: F8 must stand alone
        assert shop.line().open_holds
        room.type(F8)
        until(lambda: not shop.line().open_holds, 20, "the hold is lifted by F8")
        until(lambda: not shop.world.worker_paused("deploys"), 20, "the deploy worker goes on")
        _leave(room)
    shop.world.wait_built(older, "deploy", 60)
    shop.world.wait_built(fix, "deploy", 60)
    assert shop.world.deployed_version() == fix, "what waited undid the fix"


def _leave(room: Program) -> None:
    """q; where it asks because acts are on their way or nobody else watches, q again."""
    for _ in range(4):
        room.type("q")
        with contextlib.suppress(subprocess.TimeoutExpired):
            assert room.exit_code(5) == 0
            return
    pytest.fail("the room does not leave")


def test_e_f4_rolls_back_by_hand_and_again_after_the_next_deployment(shop: Shop) -> None:
    for turn in ("first", "second"):
        bad = shop.ship(f"Looks odd, the {turn} time")
        before = shop.way_back()
        began = time.time()
        with shop.room() as room:
            room.wait_for(f"roll back shop {bad[:4]}", 20)
            room.type(F4)
            room.wait_for("withdraw", 5)
            act = until(lambda since=began: shop.act("rollback", since), 10, "the rollback is recorded")
            assert shop.line().open_holds, "the cord comes first"
            act = shop.settled(act.id)
            assert act.state == "verified", act.words
            assert (act.expected, act.version) == (act.subject, before)
            assert shop.world.deployed_version() == before
            room.wait_for("nothing to undo", 20)
            _leave(room)
        shop.resume()


def test_f_esc_withdraws_a_rollback_and_the_hold_stays(shop: Shop) -> None:
    live = shop.ship("Fine after all")
    began = time.time()
    with shop.room() as room:
        room.wait_for(f"roll back shop {live[:4]}", 20)
        room.type(F4)
        room.wait_for("withdraw", 5)
        room.type(ESC)
        act = until(lambda: shop.act("rollback", began), 10, "the rollback is recorded")
        assert shop.settled(act.id).state == "withdrawn"
        assert shop.line().open_holds
        assert shop.world.deployed_version() == live
        _leave(room)
    shop.resume()


def test_g_what_was_beyond_its_bounds_before_is_not_rolled_back(shop: Shop) -> None:
    until(lambda: all(watch.ended for watch in shop.line().watches.values()), WATCH_S + 30, "no watch is open")
    with shop.declined_customers():
        until(lambda: (now := shop.world.conversion()) is not None and now < 0.55, 40, "conversion falls by itself")
        began = time.time()
        time_beyond = time.monotonic() + FOR_S + EVERY_S + 5
        until(lambda: time.monotonic() > time_beyond, FOR_S * 3, "it was beyond its bounds for long enough")
        sha = shop.ship("Ships during an incident")
        until(lambda: "undecided" in shop.verdict(sha), WATCH_S + 40, "a verdict")
    line = shop.line()
    watch = line.watches[[item for item in line.deployments if item.version == sha][-1].id]
    assert watch.verdict is not None
    assert "already" in watch.verdict.sentence
    assert not line.open_holds
    assert shop.act("rollback", began) is None


def test_h_without_prometheus_it_is_blind_and_does_nothing(shop: Shop) -> None:
    until(lambda: (now := shop.world.conversion()) is not None and now > 0.8, 60, "conversion is back")
    began = time.time()
    shop.world.kill_prometheus()
    try:
        sha = shop.ship("Ships in the dark")
        until(lambda: "prom" in shop.andon("status", code=None).stdout, 60, "status says that prom is gone")
        assert "gone" in shop.andon("status", code=None).stdout

        def blind() -> bool:
            line = shop.line()
            watch = line.watches.get(line.current.id) if line.current else None
            return watch is not None and any(verdict.word == "blind" for verdict in watch.verdicts.values())

        until(blind, FOR_S + 60, "blind")
    finally:
        shop.world.start_prometheus()
    # What closed before Prometheus died is filled at once; only a bucket begun since then shows that it measures again.
    returned = time.time()
    until(lambda: _samples(shop)[-1:] > (returned,), 60, "it is measured again")
    line = shop.line()
    assert line.current is not None
    assert line.current.version == sha
    assert not line.open_holds
    assert shop.act("rollback", began) is None
    assert line.sources["prom"].state == "ok"


def test_i_the_gap_of_an_engine_that_was_away_is_filled(shop: Shop) -> None:
    last = until(lambda: _samples(shop), 60, "samples")[-1]
    assert shop.stop_engine() == 128 + signal.SIGTERM
    assert shop.andon("status", code=None).returncode == 2, "nobody watches, and that is said"
    away = time.monotonic() + 3 * EVERY_S + 2
    until(lambda: time.monotonic() > away, 60, "three buckets pass")
    shop.start_engine()

    def filled() -> bool:
        later = [at for at in _samples(shop) if at >= last]
        return len(later) >= 4 and all(b - a == EVERY_S for a, b in itertools.pairwise(later))

    until(filled, 40, "every bucket of the gap is there", lambda: [at - last for at in _samples(shop)][-12:])


def test_j_killed_within_the_grace_the_peer_sends_it_once(shop: Shop) -> None:
    live = shop.ship("Rolled back by a room that dies")
    before = shop.way_back()
    began = time.time()
    with shop.room() as room:
        room.wait_for(f"roll back shop {live[:4]}", 20)
        room.type(F4)
        act = until(lambda: shop.act("rollback", began), 5, "the rollback is recorded")
        room.process.send_signal(signal.SIGKILL)
    assert act.state == "intent"
    act = shop.settled(act.id)
    assert act.state == "verified", act.words
    assert shop.world.deployed_version() == before
    assert len([row for row in shop.world.deployments() if row["at"] >= began]) == 1
    shop.resume()


def test_k_killed_after_sending_it_is_settled_by_a_read(shop: Shop) -> None:
    shop.ship("Rolled back by a command that dies")
    before = shop.way_back()
    shop.stop_engine()
    began = time.time()
    command = subprocess.Popen([*ANDON, "-c", str(shop.config), "rollback", "shop", "--reason", "odd"])
    act = until(lambda: (act := shop.act("rollback", began)) and act.sent_at and act, 20, "it was sent")
    command.send_signal(signal.SIGKILL)
    command.wait()
    until(lambda: [row for row in shop.world.deployments() if row["at"] >= began], 20, "the target took it on")
    shop.world.wait_deployed(before, 30)
    assert not shop.line().acts[act.id].settled or shop.line().acts[act.id].state == "verified"
    shop.start_engine()
    assert shop.settled(act.id, 40).state == "verified"
    assert len([row for row in shop.world.deployments() if row["at"] >= began]) == 1
    shop.resume()


def test_l_an_intent_that_nobody_sent_in_time_expires(shop: Shop) -> None:
    live = shop.ship("Nobody was there")
    shop.stop_engine()
    current = shop.line().current
    assert current is not None
    old = time.time() - 600
    hold = Hold(id=new_id(), line="shop", owner="ann", why="odd", since=old, stop="")
    act = Act(
        id=new_id(), kind="rollback", line="shop", target="releases", subject=current.id, who="ann", why="odd", at=old,
        not_before=old + 3, not_after=old + 303, asker="a room that died", expected=current.id, version="0" * 40,
    )  # fmt: skip
    ledger = SqliteLedger(shop.ledger, WallClock())
    ledger.commit(HoldPlaced(line="shop", at=old, hold=hold), ActAsked(line="shop", at=old, act=act))
    ledger.close()
    shop.start_engine()
    assert shop.settled(act.id).state == "expired"
    assert shop.world.deployed_version() == live
    until(lambda: shop.world.worker_paused("deploys"), 20, "the hold of the dead room is made true all the same")
    shop.resume()


def test_m_a_pull_in_one_room_is_seen_in_the_other(shop: Shop) -> None:
    with shop.room() as mine, shop.room(160, 48) as other:
        other.wait_for("shop", 20)
        mine.type(F9)
        other.wait_for("held", 20)
        other.wait_for("shop stopped", 20)
        _leave(mine)
        _leave(other)
    shop.resume()


def test_n_a_pull_without_an_engine_stops_the_line(shop: Shop) -> None:
    shop.stop_engine()
    done = shop.andon("pull", "shop", "--reason", "nobody watches", "--json")
    assert json.loads(done.stdout)["acts"][0]["state"] == "verified"
    assert shop.world.worker_paused("deploys")
    assert shop.andon("gate", "shop", code=1).stdout.strip() == "stopped"
    shop.andon("resume", "shop", "--reason", "looked")
    assert not shop.world.worker_paused("deploys")


def test_o_the_chain_over_all_of_it_is_whole(shop: Shop) -> None:
    assert "the chain is whole" in shop.andon("audit", "verify").stdout
    modes = {oct(path.stat().st_mode & 0o777) for path in shop.ledger.parent.iterdir() if path.is_file()}
    assert modes == {"0o600"}
    assert shop.ledger.parent.stat().st_mode & 0o077 == 0
