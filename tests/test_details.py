"""The screens below a line: one metric, one deployment, one run; what is read on them, and what their keys do."""

import os
import threading
from concurrent.futures import Future
from contextlib import suppress

import msgspec
import pytest

from adapters.sqlite import SqliteLedger
from andon.clock import WallClock
from andon.engine import Engine
from andon.events import DeploymentSeen, Marked
from andon.immune.pursuit import Pursuit
from andon.keeper import Keeper
from andon.model import Deployment, LogPart
from andon.ports import Garbled, Unreachable
from tests.detail_helpers import LIVE, LOG, details, looked, rows
from tests.helpers import HOSTILE, until
from tests.output_room import BELOW
from tests.pty_harness import Program, raw
from tests.room_helpers import NOW, act, done, screen_text, settle, sha, view
from tests.test_output_attacks import ATTACKS, shown, walk
from tests.test_room import GOLDEN, golden
from tui import commands
from tui.app import Room
from tui.opening import demo_config
from tui.panels.panel import Panel
from tui.screens.deployment import DeploymentScreen, WeighScreen
from tui.screens.line import LineScreen
from tui.screens.run import RunScreen
from tui.studied import Effect, Want
from tui.studying import Studying
from tui.tailing import MOST, Tail, Tailing, bad

METRIC, DEPLOYMENT, RUN = ("enter", "w"), ("enter", "down", "enter"), ("enter", "tab", "enter")
SCREENS = {"metric": ("payments", METRIC), "deployment": ("payments", DEPLOYMENT), "run": ("accounts", RUN)}
ELSEWHERE = ("back", "leave", "palette", "keys", "events", "about", "hold", "open", "run", "full")
PICTURES = [
    *((f"{name}-{w}x{h}", (w, h), *SCREENS[name], {}) for name in SCREENS for w, h in ((80, 24), (100, 30), (160, 48))),
    *((f"{name}-60x18", (60, 18), *SCREENS[name], {}) for name in SCREENS),
    ("metric-rows-80x24", (80, 24), "payments", (*METRIC, "w", "down"), {}),
    ("metric-80x24-ascii", (80, 24), "payments", METRIC, {"NO_COLOR": "1", "TERM": "linux"}),
    ("deployment-80x24-sixteen", (80, 24), "payments", DEPLOYMENT, {"TERM": "screen"}),
    ("run-80x24-no-color", (80, 24), "accounts", RUN, {"NO_COLOR": "1"}),
    ("return-80x24", (80, 24), "payments", (*DEPLOYMENT, "B"), {}),
]


@pytest.mark.parametrize(("name", "size", "line", "keys", "env"), PICTURES, ids=[item[0] for item in PICTURES])
async def test_the_screen_looks_as_agreed(tmp_path, monkeypatch, name, size, line, keys, env):
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    with details(tmp_path) as made:
        room = made.room(line=line)
        async with room.run_test(size=size) as pilot:
            await settle(room, pilot)
            golden(name, await looked(room, pilot, *keys))
            assert room._failed == set()
            assert [item.id for item in room.screen.query(Panel) if item.failed] == []


# On every one of them


@pytest.mark.parametrize("name", SCREENS)
async def test_f9_stops_and_f4_is_armed_on_every_screen_and_esc_goes_one_step_back(tmp_path, name):
    _, keys = SCREENS[name]
    with details(tmp_path, bad=False) as made:
        room = made.room(line="accounts")
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            text = await looked(room, pilot, *keys, seen="F4  roll back accounts 61f0 → 4f2a")
            assert "F9  stop accounts" in text
            await until(lambda: room.danger.armed is not None and room.danger.armed.line == "accounts")
            await pilot.press("f9")
            await until(lambda: made.engine.asked)
            assert made.engine.asked == [("pull", "accounts")]
            await pilot.press("escape")
            await until(lambda: isinstance(room.screen, LineScreen))


@pytest.mark.parametrize("name", ["run"])
async def test_f4_is_not_armed_where_its_target_cannot_be_read(tmp_path, name):
    line, keys = SCREENS[name]
    with details(tmp_path, bad=False) as made:
        room = made.room(line=line)
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            await looked(room, pilot, *keys)
            await until(lambda: room.danger.armed is not None)
            await pilot.resize_terminal(20, 5)
            await until(lambda: room.danger.armed is None and "make the window wider" in room.danger.why_not)


@pytest.mark.parametrize("name", SCREENS)
async def test_no_key_of_a_room_that_only_looks_asks_for_anything(tmp_path, name):
    line, keys = SCREENS[name]
    with details(tmp_path, bad=False) as made:
        made.engine.read_only = True
        room = made.room(line=line)
        async with room.run_test(size=(100, 30)) as pilot:
            await settle(room, pilot)
            text = await looked(room, pilot, *keys, seen="read-only")
            assert "mark" not in text.split("\n")[-1]
            assert "back to here" not in text
            for command in commands.of(name):
                # F9 and F4 are refused by the engine; the others lead elsewhere.
                if command.id not in ("stop", "rollback", *ELSEWHERE):
                    await pilot.press(command.key.partition(",")[0])
                    await pilot.pause()
            assert made.engine.asked == []
            assert type(room.screen).where == name
            assert room._failed == set()


async def test_hostile_text_is_shown_harmlessly_on_each(tmp_path):
    with details(tmp_path) as made:
        made.engine.logs["unit/2"] = list(LogPart(HOSTILE, 0).lines) * 3
        made.write(_marked("d-4f2a-4400", "good", " ".join(HOSTILE)))
        room = made.room(line="payments")
        async with room.run_test(size=(160, 48)) as pilot:
            await settle(room, pilot)
            for line, keys in (*SCREENS.values(), ("payments", ("enter", "down", "down", "enter", "B"))):
                room.select(line)
                text = await looked(room, pilot, *keys)
                assert all(char.isprintable() or char == "\n" for char in text), keys
                assert all(len(row) <= 160 for row in text.split("\n"))
                assert room._failed == set()
                assert [item.failed for item in room.screen.query(Panel) if item.failed] == []
                while len(room.screen_stack) > 1:
                    room.pop_screen()
                await pilot.pause()


def test_nothing_on_them_brings_a_byte_of_it_to_the_terminal(tmp_path):
    walked(tmp_path, {"a": ATTACKS["a"], "g": ATTACKS["g"], "u": ATTACKS["u"]})


@pytest.mark.nightly
def test_nothing_on_them_brings_a_byte_of_any_attack_to_the_terminal(tmp_path):
    walked(tmp_path, ATTACKS)


def walked(folder, attacks):
    out = walk(folder, "below", attacks)
    assert raw(out) == []
    found = shown(out)
    for name, surfaces in BELOW.items():
        for surface in surfaces:
            missing = [attack for attack in attacks if surface + attack not in found[name]]
            assert not missing, f"{name}: {surface} did not show {missing}"


def _marked(deployment: str, mark: str, why: str) -> Marked:
    return Marked(line="payments", at=NOW, deployment=deployment, version=sha("4f2a"), mark=mark, who="bo", why=why)


@pytest.mark.parametrize(("name", "words"), [("metric", "no word from prom"), ("run", "no word from gh")])
async def test_what_nobody_has_read_for_long_is_said_to_be_so(tmp_path, name, words):
    line, keys = SCREENS[name]
    with details(tmp_path) as made:
        made.clock.at = NOW + 400
        made.engine.view = msgspec.structs.replace(view(at=NOW), at=NOW + 400)
        room = made.room(line=line)
        async with room.run_test(size=(100, 30)) as pilot:
            await settle(room, pilot)
            await looked(room, pilot, *keys, seen=f"{words} since 14:02")


async def test_a_deployment_that_the_board_has_forgotten_is_told(tmp_path):
    with details(tmp_path) as made:
        room = made.room(line="payments")
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            room.push_screen(DeploymentScreen(room.painter, "payments", "d-none"))
            await looked(room, pilot, seen="payments knows no deployment d-none any more")
            room.push_screen(RunScreen(room.painter, "payments", "r-none"))
            await looked(room, pilot, seen="payments knows no run r-none any more")


# A metric


async def test_the_metric_shows_what_the_judge_found_and_when(tmp_path):
    with details(tmp_path) as made:
        room = made.room(line="payments")
        async with room.run_test(size=(100, 30)) as pilot:
            await settle(room, pilot)
            text = await looked(room, pilot, *METRIC, seen="valid at every look")
            verdict = made.keeper.board.line("payments").watches[LIVE].verdicts["revenue/min"]
            assert f"{verdict.sentence.split(', ')[1].replace('-', '−')} [" not in text  # never without its interval
            interval = verdict.sentence[verdict.sentence.index("[") : verdict.sentence.index("]") + 1]
            assert interval.replace("-", "−") in text
            assert "✗ regressed, seen in" in text
            assert "can show a fall of" in text
            assert "no other of 2 lines regressed" in text
            assert "sum(increase(revenue_eur_total[60s]))" in text


async def test_the_evidence_is_that_of_the_judge(tmp_path):
    with details(tmp_path) as made:
        studying = Studying(made.config, made.keeper)
        line = made.keeper.board.line("payments")
        study = await until(lambda: studying.look(Want("payments", LIVE, ("revenue/min",), 3600.0), line, NOW))
        found = study.found["revenue/min"]
        pursuit = Pursuit(line.watches[LIVE].armed["revenue/min"].record)
        evidence = []
        for row in rows(1):
            if row.at >= pursuit.began:
                if pursuit.found is None:
                    pursuit._feed([row])
                evidence.append((row.at, round(max(-9.0, pursuit.judge.evidence.log_evidence / 2.302585092994046), 3)))
        assert [(look.at, look.evidence) for look in found.looks] == evidence
        assert (found.onset, found.seen) == (pursuit.found.onset, pursuit.found.seen)
        assert found.effect == Effect(pursuit.found.effect, pursuit.found.low, pursuit.found.high)
        assert found.needed == pytest.approx(3.0, abs=0.01)


async def test_while_a_study_is_made_the_room_answers_its_keys(tmp_path, monkeypatch):
    held = threading.Event()
    real = Studying._made
    threads = []

    def slow(self, *rest):
        threads.append(threading.current_thread())
        held.wait(30)
        return real(self, *rest)

    monkeypatch.setattr(Studying, "_made", slow)
    with details(tmp_path) as made:
        room = made.room(line="accounts")
        async with room.run_test(size=(80, 24)) as pilot:
            try:
                await settle(room, pilot)
                await pilot.press("enter", "w")
                await until(lambda: "reading the buckets" in screen_text(room))
                await pilot.press("f9")
                await until(lambda: made.engine.asked == [("pull", "accounts")])
                assert threading.main_thread() not in threads
            finally:
                held.set()
            await looked(room, pilot, seen="bounds of a person")


async def test_a_study_that_cannot_be_made_is_told_on_its_panels(tmp_path, monkeypatch):
    def raises(*_):
        raise KeyError("n")

    monkeypatch.setattr(Studying, "_made", raises)
    with details(tmp_path) as made:
        room = made.room(line="payments")
        async with room.run_test(size=(100, 30)) as pilot:
            await settle(room, pilot)
            await looked(room, pilot, *METRIC, seen="this could not be worked out: KeyError; logged")
            await pilot.press("f9")
            await until(lambda: made.engine.asked)


async def test_the_brackets_change_the_time_and_say_where_it_ends(tmp_path):
    with details(tmp_path) as made:
        room = made.room(line="payments")
        async with room.run_test(size=(100, 30), notifications=True) as pilot:
            await settle(room, pilot)
            await looked(room, pilot, *METRIC, seen="59 buckets")
            await looked(room, pilot, "right_square_bracket", seen="359 buckets")
            await looked(room, pilot, "right_square_bracket", seen="1439 buckets")
            text = await looked(room, pilot, "right_square_bracket", seen="not now: samples are kept for two days")
            assert "1439 buckets" in text
            for _ in range(3):
                await pilot.press("left_square_bracket")
            await looked(room, pilot, seen="14 buckets")


async def test_every_number_leads_to_the_question_it_answers(tmp_path):
    with details(tmp_path) as made:
        room = made.room(line="payments")
        async with room.run_test(size=(100, 30)) as pilot:
            await settle(room, pilot)
            text = await looked(room, pilot, *METRIC, "w", seen="1 of 59")
            assert "prom [23 Nov 14:01:00, 14:02:00)  sum(increase(revenue_eur_total[60s]))" in text
            text = await looked(room, pilot, "down", "down", "down", seen="4 of 59")
            row = next(row for row in text.split("\n") if "13:58:00" in row and "€" in row)
            assert f"{rows(1)[-4].value:.0f} €" in row
            await looked(room, pilot, "end", seen="59 of 59")
            await looked(room, pilot, "w", seen="why")


async def test_m_shows_the_next_metric_and_bounds_explain_themselves(tmp_path):
    with details(tmp_path) as made:
        room = made.room(line="payments")
        async with room.run_test(size=(100, 30)) as pilot:
            await settle(room, pilot)
            text = await looked(room, pilot, *METRIC, "m", seen="› auth rate")
            assert "bounds of a person: not below 90.0 %, for 3 min at most" in text
            assert "time beyond bounds" in text
            await looked(room, pilot, "m", seen="› revenue/min")


async def test_after_a_return_the_metric_is_about_what_was_undone(tmp_path):
    with details(tmp_path) as made:
        room = made.room(line="payments")
        async with room.run_test(size=(100, 30)) as pilot:
            await settle(room, pilot)
            text = await looked(room, pilot, *METRIC, seen="after 9c1d")
            assert "recovered 13:59" in text


async def test_the_numbers_of_an_old_deployment_come_from_the_ledger(tmp_path):
    """Its buckets are not kept any more: those that its verdict rests on are."""
    with details(tmp_path) as made:
        made.keeper.submit(lambda ledger: ledger._db.execute("DELETE FROM samples")).result()
        studying = Studying(made.config, made.keeper)
        line = made.keeper.board.line("payments")
        watch = line.watches[LIVE]
        bare = msgspec.structs.replace(watch, armed={})
        line = msgspec.structs.replace(line, watches={**line.watches, LIVE: bare})
        study = await until(lambda: studying.look(Want("payments", LIVE, ("revenue/min",)), line, NOW))
        found = study.found["revenue/min"]
        assert found.armed is not None
        assert found.effect is not None
        assert found.looks
        assert found.rows == tuple(row for row in rows(1) if row.at >= watch.began and row.at <= found.seen - 60)


# A deployment


async def test_before_and_after_stand_beside_the_verdict(tmp_path):
    with details(tmp_path) as made:
        room = made.room(line="payments")
        async with room.run_test(size=(100, 30)) as pilot:
            await settle(room, pilot)
            text = await looked(room, pilot, *DEPLOYMENT, seen="✗ regressed, seen in")
            assert "3 changes, 2 people" in text
            row = next(row for row in text.split("\n") if row.startswith("▌"))
            assert "412 €" in row
            assert "−37 % [−46, −28]" in row
            await looked(room, pilot, "down", seen=lambda text: "▌ auth rate" in text)
            await looked(room, pilot, "enter", seen="› auth rate")
            await pilot.press("escape")
            await until(lambda: isinstance(room.screen, DeploymentScreen))


async def test_a_deployment_is_marked_irreversible_with_a_reason(tmp_path):
    with details(tmp_path, bad=False) as made:
        room = made.room(line="payments")
        async with room.run_test(size=(80, 24), notifications=True) as pilot:
            await settle(room, pilot)
            await looked(room, pilot, "enter", "enter", "i", seen="mark payments 9c1d irreversible")
            await looked(room, pilot, "f8", seen="a reason is needed")
            await looked(room, pilot, *"drops", seen="drops")
            await pilot.press("f8")
            await until(lambda: made.engine.asked)
            assert made.engine.asked == [("mark", "payments", LIVE, "irreversible", "drops")]
            made.write(_marked(LIVE, "irreversible", "drops"))
            await looked(room, pilot, seen="irreversible: drops")
            await looked(room, pilot, "i", seen="not now: it is marked irreversible already")
            assert isinstance(room.screen, DeploymentScreen)


async def test_good_and_faulty_are_marked_from_the_deployment_itself(tmp_path):
    with details(tmp_path, bad=False) as made:
        room = made.room(line="payments")
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            await looked(room, pilot, *DEPLOYMENT, "x", seen="mark payments 4f2a faulty")
            await looked(room, pilot, *"leaks", "f8")
            await until(lambda: made.engine.asked)
            assert made.engine.asked == [("mark", "payments", "d-4f2a-4400", "faulty", "leaks")]


async def test_a_line_is_rolled_back_to_here_once_with_a_reason_and_f8(tmp_path):
    with details(tmp_path, bad=False) as made:
        room = made.room(line="payments")
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            text = await looked(room, pilot, *DEPLOYMENT, "B", seen="roll back payments 9c1d → 4f2a, production")
            assert "F4  not while the reason is open" in text
            await looked(room, pilot, *"slow", "enter", seen="Enter does not confirm")
            assert made.engine.asked == []
            await pilot.press("f8")
            await until(lambda: made.engine.asked)
            await looked(room, pilot, "f8", seen="payments STOPPING")
            assert made.engine.asked == [("rollback", "payments", LIVE, 3.0, "slow", sha("4f2a"))]
            assert isinstance(room.screen, DeploymentScreen)


async def test_a_return_is_refused_when_another_version_runs_by_now(tmp_path):
    with details(tmp_path, bad=False) as made:
        room = made.room(line="payments")
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            await looked(room, pilot, *DEPLOYMENT, "B", *"slow", seen="slow")
            newer = Deployment("d-new", sha("aaaa"), "settled", NOW - 1, "dee")
            made.write(DeploymentSeen(line="payments", at=NOW - 1, source="nomad", deployment=newer))
            await until(lambda: room.moment.known("payments").current.id == "d-new" or room.paint())
            await looked(room, pilot, "f8", seen="another version runs by now")
            assert made.engine.asked == []
            assert isinstance(room.screen, WeighScreen)


async def test_a_return_that_the_door_refuses_is_told_and_the_line_is_not_shown_as_stopping(tmp_path):
    with details(tmp_path, bad=False) as made:
        made.engine.refuses = "4f2a: its artefact is gone"
        room = made.room(line="payments")
        async with room.run_test(size=(80, 24), notifications=True) as pilot:
            await settle(room, pilot)
            text = await looked(room, pilot, *DEPLOYMENT, "B", *"slow", "f8", seen="its artefact is gone")
            assert "STOPPING" not in text


async def test_b_says_why_there_is_no_return(tmp_path):
    rolling = act("rollback", "payments", "nomad", LIVE, 3, expected=LIVE, version=sha("4f2a"))
    with details(tmp_path, bad=False) as made:
        room = made.room(line="payments")
        async with room.run_test(size=(100, 30), notifications=True) as pilot:
            await settle(room, pilot)
            await looked(room, pilot, "enter", "enter", "B", seen="not now: 9c1d already runs")
            await looked(room, pilot, "escape", "down", "down", "enter", "B", seen="not now: 7be0 is marked faulty")
            made.write(*done(rolling, 0.1, 0.2))
            await looked(room, pilot, "escape", "up", "enter", seen="already rolling back to 4f2a")
            await looked(room, pilot, "B", seen="not now: already rolling back to 4f2a")
            assert isinstance(room.screen, DeploymentScreen)
            assert made.engine.asked == []


async def test_u_opens_the_run_of_a_deployment_or_says_that_none_is_known(tmp_path):
    with details(tmp_path) as made:
        room = made.room(line="payments")
        async with room.run_test(size=(100, 30), notifications=True) as pilot:
            await settle(room, pilot)
            await looked(room, pilot, *DEPLOYMENT, "u", seen="no run of it is known")


# A run


async def test_the_job_that_failed_is_picked_and_its_log_read(tmp_path):
    with details(tmp_path) as made:
        room = made.room(line="accounts")
        async with room.run_test(size=(100, 30)) as pilot:
            await settle(room, pilot)
            text = await looked(room, pilot, *RUN, seen="line 14 of 14 · ended")
            assert "▌  ✗ shard 2" in text
            assert all(line in text for line in LOG if line.strip())
            assert {(source, run, part) for source, run, part, _ in made.engine.read} == {("gh", "run-b2c9", "unit/2")}


async def test_a_log_is_read_on_from_where_it_was_and_followed_until_told_not_to(tmp_path, monkeypatch):
    monkeypatch.setattr("tui.tailing.AGAIN_S", 0.05)
    with details(tmp_path) as made:
        log = made.engine.logs["unit/3"]
        log += [f"line {number}" for number in range(2, 61)]
        room = made.room(line="accounts")
        async with room.run_test(size=(100, 30)) as pilot:
            await settle(room, pilot)
            await looked(room, pilot, *RUN, "down", seen="line 60 of 60 · follows")
            log.append("line 61")
            text = await looked(room, pilot, seen="line 61 of 61 · follows")
            assert "61  line 61" in text
            assert made.engine.read[-1][3] == 61 or made.engine.read[-1][3] == 60
            await looked(room, pilot, "l", seen="line 61 of 61 · live, not followed")
            log += ["line 62", "line 63"]
            text = await looked(room, pilot, seen="line 61 of 63 · live, not followed")
            assert "line 63" not in text
            await looked(room, pilot, "pageup", seen="of 63 · live, not followed")
            await looked(room, pilot, "end", seen="line 63 of 63 · follows")
            made.engine.ended.add("unit/3")
            await looked(room, pilot, seen="line 63 of 63 · ended")
            asked = len(made.engine.read)
            await pilot.pause(0.3)
            assert len(made.engine.read) == asked, "a log that has ended is not asked for again"


async def test_f_goes_to_the_job_that_failed_first_and_then_to_its_first_bad_line(tmp_path):
    with details(tmp_path) as made:
        made.engine.logs["unit/2"] = [f"fine {n}" for n in range(80)] + list(LOG) + [f"after {n}" for n in range(80)]
        room = made.room(line="accounts")
        async with room.run_test(size=(100, 30)) as pilot:
            await settle(room, pilot)
            await looked(room, pilot, *RUN, "up", "up", "up", seen="log  build")
            await looked(room, pilot, "f", seen="log  unit, shard 2")
            text = await looked(room, pilot, "f", seen="FAILED test_passkey.py::test_rename_keeps_users")
            assert "live, not followed" in text or "ended" in text
            assert "after 79" not in text


async def test_a_log_that_cannot_be_read_says_why_and_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr("tui.tailing.FIRST_S", 0.05)
    with details(tmp_path) as made:
        made.engine.trouble = Unreachable("gh does not answer")
        room = made.room(line="accounts")
        async with room.run_test(size=(100, 30)) as pilot:
            await settle(room, pilot)
            await looked(room, pilot, *RUN, seen="cannot be read: gh does not answer")
            made.engine.trouble = None
            await looked(room, pilot, seen="line 14 of 14 · ended")


async def test_a_stage_that_has_not_begun_has_no_log_and_says_so(tmp_path):
    with details(tmp_path) as made:
        room = made.room(line="accounts")
        async with room.run_test(size=(100, 30)) as pilot:
            await settle(room, pilot)
            await looked(room, pilot, *RUN, "down", "down", seen="integration has not begun")
            await looked(room, pilot, "up", seen="begun")


async def test_o_shows_the_address_and_opens_nothing(tmp_path, monkeypatch):
    def opens(*_, **__):
        raise AssertionError("a browser on a jump host")

    monkeypatch.setattr("webbrowser.open", opens)
    with details(tmp_path) as made:
        room = made.room(line="accounts")
        async with room.run_test(size=(100, 30), notifications=True) as pilot:
            await settle(room, pilot)
            await looked(room, pilot, *RUN, "o", seen="not now: no page of gh is known")
            options = type("Options", (), {"url": "https://ci.example/bb"})()
            gh = msgspec.structs.replace(made.config.connections["gh"], options=options)
            room.config.connections["gh"] = gh
            await looked(room, pilot, "o", seen="https://ci.example/bb · run run-b2c9")


class Reader:
    """Answers each read of a log with what comes next; then nothing more."""

    def __init__(self, *parts: LogPart | Exception) -> None:
        self.parts = list(parts)
        self.asked: list[int] = []

    def log(self, line: str, source: str, run: str, part: str, start: int) -> "Future[LogPart]":
        self.asked.append(start)
        future: Future[LogPart] = Future()
        found = self.parts.pop(0) if self.parts else LogPart((), start)
        if isinstance(found, Exception):
            future.set_exception(found)
        else:
            future.set_result(found)
        return future


def read(reader: Reader, looks: int = 200) -> Tail:
    tailing = Tailing(reader)
    for _ in range(looks):
        tail = tailing.look("a", "gh", "r", "p")
    return tail


def test_a_log_keeps_so_many_lines_and_no_more_and_counts_on():
    parts = [LogPart(tuple(f"{n}" for n in range(at, at + 9000)), at + 9000) for at in range(0, 27000, 9000)]
    tail = read(Reader(*parts))
    assert (tail.count, len(tail.lines), tail.dropped) == (27000, MOST, 7000)
    assert tail.at(26999) == "26999"
    assert tail.at(6999) is None
    assert tail.at(7000) == "7000"


def test_one_answer_that_is_larger_than_all_that_is_kept_is_taken_in_slices():
    reader = Reader(LogPart(tuple(str(n) for n in range(50_000)), 50_000, done=True))
    tailing = Tailing(reader)
    tailing.look("a", "gh", "r", "p")
    tail = tailing.look("a", "gh", "r", "p")
    assert len(tail.lines) <= 400
    for _ in range(100):
        tailing.look("a", "gh", "r", "p")
    assert (tail.count, len(tail.lines), tail.at(49_999)) == (50_000, MOST, "49999")


def test_a_next_that_does_not_move_on_gives_no_line_twice_for_ever():
    reader = Reader(*(LogPart(("same",), 0) for _ in range(3)))
    read(reader)
    assert reader.asked[:4] == [0, 1, 2, 3]


def test_a_line_of_a_log_is_cut_and_its_colours_go():
    tail = read(Reader(LogPart(("\x1b[31mred\x1b[0m \x1b]0;x\x07", "x" * 4000), 2, done=True)))
    assert tail.lines[0] == "red \ufffd]0;x\ufffd"
    assert len(tail.lines[1]) == 1000


def test_of_another_job_nothing_of_the_first_is_shown():
    reader = Reader(LogPart(("one",), 1), LogPart(("two",), 1, done=True))
    tailing = Tailing(reader)
    tailing.look("a", "gh", "r", "p")
    tail = tailing.look("a", "gh", "r", "q")
    for _ in range(5):
        tail = tailing.look("a", "gh", "r", "q")
    assert tail.lines == ["two"]


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("FAILED test_a.py::test_b", "worst"),
        ("2 failed, 1,202 passed in 98.4 s", "worst"),
        ("0 failed, 12 passed", ""),
        ("error[E0308]: mismatched types", "worst"),
        ("Process exited with code 1", "worst"),
        ("exit 0", ""),
        ("E       AttributeError: NoneType has no name", "part"),
        ("tests/test_error_pages.py ....", ""),
        ("a" * 4000, ""),
    ],
)
def test_what_fails_in_a_log_stands_out(text, how):
    assert bad(text) == how


# The real engine


@pytest.fixture
def plant(tmp_path):
    """A config over a plant, its ledger, and an engine that only does what it is asked."""
    clock, own = WallClock(), tmp_path / "own"
    own.mkdir(mode=0o700)
    found = demo_config(tmp_path, 7)
    keeper = Keeper(lambda: SqliteLedger(own / "ledger.db", clock), clock).start()
    engine = Engine(found, keeper, clock, own, who="ann", terminal="here:pts/1").start()
    try:
        yield found, keeper, engine, clock
    finally:
        engine.stop()
        keeper.close()


async def test_the_engine_reads_a_log_by_ranges_and_a_room_returns_to_a_named_version(plant):
    found, keeper, engine, clock = plant
    room = Room(found, keeper, engine, clock)
    async with room.run_test(size=(100, 30)) as pilot:
        await until(lambda: "F4  roll back checkout" in screen_text(room), 30)
        run = next(item for item in keeper.board.line("checkout").runs.values() if item.state == "passed")
        part = run.stages[0].jobs[0].log
        whole = engine.log("checkout", "plant", run.id, part, 0).result(20)
        assert whole.done
        assert engine.log("checkout", "plant", run.id, part, 5).result(20).lines == whole.lines[5:]
        with pytest.raises(Garbled, match="no job"):
            engine.log("checkout", "plant", run.id, "none", 0).result(20)
        await pilot.press("enter", "down", "down", "enter")
        await until(lambda: isinstance(room.screen, DeploymentScreen))
        wanted = keeper.board.line("checkout").deployment(room.screen.deployment)
        await until(lambda: not room.screen.why_not(room.moment, "return_to"))
        await pilot.press("B", *"slow")
        await until(lambda: isinstance(room.screen, WeighScreen))
        await pilot.press("f8")
        acts = await until(lambda: keeper.board.line("checkout").unsettled("rollback"))
        assert (acts[0].version, acts[0].why, acts[0].who) == (wanted.version, "slow", "ann")
        await until(lambda: "withdraw the rollback; the line stays held" in screen_text(room))
        await pilot.press("escape")
        await until(lambda: not keeper.board.line("checkout").unsettled("rollback"))
        assert keeper.board.line("checkout").open_holds[0].why == "slow"


def test_in_a_real_terminal_the_keys_lead_down_and_back_again():
    with Program([os.sys.executable, "-m", "tui", "demo"], columns=80, rows=24, cwd=GOLDEN.parents[1]) as room:
        room.wait_for("F9  stop checkout    F4  roll back checkout", 30)
        room.type("\r")
        room.wait_for("m metric", 30)
        room.type("w")
        room.wait_for("› checkout conver", 30)
        room.type("]")
        room.wait_for("query conversion", 30)
        room.type("\x1b")
        room.wait_for("batch  verdict", 30)
        room.type("\r")
        room.wait_for("B back to here", 30)
        room.type("\x1b[20~")
        room.wait_for("checkout stopped", 30)
        room.type("\x1b")
        room.wait_for("confirmed by a read", 30)
        room.type("q")
        with suppress(AssertionError):
            room.wait_for("q again to leave", 10)
        room.type("q")
        assert room.exit_code(30) == 0
