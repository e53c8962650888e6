"""The commands, as a script or an on-call engineer runs them: exit codes, JSON, refusals in words, and no traceback ever."""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import wait_until
from tests.servers.process import free_port
from tui.printing import out

ANDON = str(Path(sys.executable).with_name("andon"))
LIMIT_S = 60.0

CALM = (
    """
name: acme
ledger: state/ledger.db
connections:
"""
    + "".join(
        f"  {name}: {{adapter: plant, seed: {seed}, world: ./{name}.world, calm_s: 1e9}}\n"
        for seed, name in enumerate(("one", "two", "three", "four"))
    )
    + """
lines:
  checkout:
    ci: [{from: one, halts: [deploy], every: 1s}]
    deploy: {from: one, only_way_in: true, every: 1s}
    metrics: [{name: conversion, from: one, kind: proportion, bad: falls, value: conversion, every: 10s, lag: 2s}]
    notify: [{from: one}]
  search:
    ci: [{from: two, halts: [deploy], every: 1s}]
    deploy: {from: two, only_way_in: true, every: 1s}
  payments:
    ci: [{from: three, halts: [deploy], every: 1s}]
    deploy: {from: three, only_way_in: true, every: 1s}
  accounts:
    ci: [{from: four, halts: [deploy], every: 1s}]
    deploy: {from: four, only_way_in: true, every: 1s}
"""
)
"""Four lines, each over a shop of its own, where nothing breaks and no act touches another line."""


class Done:
    """How a command ended, and what it said."""

    def __init__(self, done: "subprocess.CompletedProcess[str]") -> None:
        self.code, self.out, self.err = done.returncode, done.stdout or "", done.stderr or ""
        assert "Traceback" not in self.err, self.err
        assert "Exception ignored" not in self.err, self.err
        assert not [char for char in self.out + self.err if char != "\n" and (ord(char) < 32 or 126 < ord(char) < 160)]

    @property
    def json(self) -> Any:
        """Its stdout, which is one line of JSON."""
        assert self.out.count("\n") == 1
        return json.loads(self.out)


class Shop:
    """A config in a folder of its own, and commands over it."""

    def __init__(self, folder: Path, config: str = CALM) -> None:
        self.folder = folder
        self.path = folder / "andon.yaml"
        self.path.write_text(config)
        self.path.chmod(0o600)

    def argv(self, *words: str) -> list[str]:
        """The command's argv."""
        return [ANDON, "-c", str(self.path), *words]

    def do(self, *words: str, **more: Any) -> Done:
        """Run a command to its end."""
        options = {
            "capture_output": True,
            "text": True,
            "stdin": subprocess.DEVNULL,
            "timeout": LIMIT_S,
        }
        return Done(subprocess.run(self.argv(*words), check=False, **(options | more)))

    @contextlib.contextmanager
    def watched(self) -> Iterator["subprocess.Popen[str]"]:
        """`andon watch` over it, from the moment that every line is known."""
        with (self.folder / "watch.out").open("w") as out, (self.folder / "watch.err").open("w") as err:
            watch = subprocess.Popen(self.argv("watch"), stdout=out, stderr=err, text=True, stdin=subprocess.DEVNULL)
            try:
                wait_until(lambda: self.do("status").code in (0, 1), 30, "the lines are known")
                yield watch
            finally:
                watch.terminate()
                watch.wait(30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shop")


@pytest.fixture(scope="module")
def shop(folder: Path) -> Iterator[Shop]:
    """A calm shop that is watched, for many tests; each uses a line of its own or leaves it as it was."""
    found = Shop(folder)
    with found.watched():
        yield found


@pytest.fixture
def alone(tmp_path: Path) -> Shop:
    """A calm shop that nobody watches."""
    return Shop(tmp_path)


def hold_of(done: Done) -> str:
    assert done.code == 0, done.err
    return done.json["asked"][0]["id"]


@contextlib.contextmanager
def stopped(shop: Shop, line: str) -> Iterator[str]:
    """A line with one hold."""
    hold = hold_of(shop.do("pull", line, "--reason", "a test", "--json"))
    try:
        yield hold
    finally:
        shop.do("resume", line, "--all", "--reason", "the test is over")
        wait_until(lambda: shop.do("gate", line).code == 0, 20, f"{line} runs again")


# ---- looking


def test_a_shop_that_runs_and_is_watched(shop):
    done = shop.do("status")
    assert (done.code, done.err) == (0, "")
    assert [line.split()[:3] for line in done.out.splitlines()] == [
        ["●", name, "running"] for name in ("checkout", "search", "payments", "accounts")
    ]
    done = shop.do("status", "--json")
    assert [row["line"] for row in done.json["lines"]] == ["checkout", "search", "payments", "accounts"]
    assert done.json["engine"]["holder"]


def test_the_status_of_one_line_holds_what_its_screens_show(shop):
    done = shop.do("status", "checkout", "--json")
    (row,) = done.json["lines"]
    assert set(row) >= {"line", "state", "current", "verdict", "verdicts", "watched_until", "holds"}
    assert set(row) >= {"rollback_target", "rollback_words", "halted", "sources", "acts", "helped", "deployments"}
    assert row["state"] == "running"
    assert row["current"]["id"] == row["deployments"][-1]["id"]
    assert row["holds"] == []


def test_the_gate_of_a_line_that_runs(shop):
    done = shop.do("gate", "checkout")
    assert (done.code, done.out, done.err) == (0, "running\n", "")
    assert shop.do("gate", "checkout", "--json").json == {"state": "running", "watched": True, "holds": []}


def test_without_a_ledger_nothing_is_known(alone):
    for words in (["status"], ["status", "--json"], ["gate", "checkout"], ["audit", "verify"]):
        done = alone.do(*words)
        assert (done.code, done.out) == (2, "")
        words = "there is no ledger here yet; the first room, engine or act makes it"
        assert done.err == f"andon: {alone.folder}/state/ledger.db: {words}\n"
    assert not (alone.folder / "state").exists()


def test_nobody_watches(alone):
    assert alone.do("pull", "checkout", "--reason", "x").code == 0
    done = alone.do("status")
    assert done.code == 1  # a hold is known, whoever watches
    assert "✗ nobody watches: start `andon watch` or a room" in done.out
    assert alone.do("resume", "checkout", "--reason", "x").code == 0
    done = alone.do("status", "search")
    assert done.code == 2
    assert "? search" in done.out
    done = alone.do("gate", "search")
    assert (done.code, done.out) == (2, "unknown\n")


def test_the_gate_waits_until_the_line_runs(shop):
    with stopped(shop, "accounts"):
        done = shop.do("gate", "accounts", "--wait", "300ms")
        assert done.code == 2  # milliseconds are no unit here
        done = shop.do("gate", "accounts", "--wait", "0.5s")
        assert (done.code, done.out) == (1, "stopped\n")
        waiting = subprocess.Popen(shop.argv("gate", "accounts", "--wait", "30s"), stdout=subprocess.PIPE, text=True)
        assert shop.do("resume", "accounts", "--reason", "go on").code == 0
        assert waiting.communicate(timeout=LIMIT_S)[0] == "running\n"
        assert waiting.returncode == 0


def test_the_audit_walks_the_chain(shop):
    done = shop.do("audit", "verify", "--json")
    assert done.code == 0
    assert done.json["broken_at"] is None
    assert done.json["checkpoint_equal"] is True
    assert done.json["events"] > 0
    assert "the chain is whole" in shop.do("audit", "verify").out


def test_a_changed_event_is_found(alone):
    import sqlite3

    assert alone.do("pull", "checkout", "--reason", "because").code == 0
    with contextlib.closing(sqlite3.connect(alone.folder / "state" / "ledger.db")) as db:
        db.execute("DROP TRIGGER events_stay")
        db.execute("UPDATE events SET body = replace(body, 'because', 'no doubt') WHERE instr(body, 'because')")
        db.commit()
    done = alone.do("audit", "verify", "--json")
    assert done.code == 1
    assert done.json["broken_at"]


def test_the_check_names_every_source(shop):
    done = shop.do("check")
    assert (done.code, done.err) == (0, "")
    assert done.out.count("✓") == len(done.out.splitlines()) == 11
    rows = shop.do("check", "--json").json
    assert rows["warnings"] == []
    assert all(row["ok"] and row["line"] and row["source"] and row["words"] for row in rows["sources"])


def test_the_sample_is_checked_as_it_is(tmp_path):
    sample = Path(__file__).parents[1] / "sample_config.yaml"
    argv = [ANDON, "-c", str(sample), "--ledger", str(tmp_path / "ledger.db"), "check"]
    done = Done(subprocess.run(argv, capture_output=True, text=True, check=False, timeout=LIMIT_S))
    assert (done.code, done.err) == (0, "")
    assert "✗" not in done.out
    assert "! " not in done.out


def test_the_check_fails_on_a_port_where_nobody_is(tmp_path):
    config = f"""
    connections:
      shop: {{adapter: plant}}
      prom: {{adapter: prometheus, url: "http://127.0.0.1:{free_port()}"}}
    lines:
      checkout:
        deploy: {{from: shop}}
        metrics: [{{name: a, from: prom, kind: sum, bad: falls, value: "x[5m]"}}]
    """
    done = Shop(tmp_path, textwrap.dedent(config)).do("check")
    assert done.code == 1
    assert "✗ checkout/prom: gone: " in done.out
    assert "cannot connect" in done.out
    assert "✓ checkout/shop: " in done.out
    assert "! " in done.out
    assert "[5m] differs from every" in done.out


def test_the_check_says_what_would_only_be_advice(tmp_path):
    config = """
    connections: {shop: {adapter: plant}}
    lines:
      checkout:
        deploy: {from: shop}
        metrics: [{name: a, from: shop, kind: sum, bad: falls, value: revenue, on_regression: rollback}]
      back:
        deploy: {from: shop, halts: [deploy]}
    """
    done = Shop(tmp_path, textwrap.dedent(config)).do("check", "--json")
    words = {row["line"]: row["words"] for row in done.json["sources"] if row["source"] == "rules"}
    assert done.code == (1 if words else 0)
    assert set(words) <= {"checkout", "back"}


@pytest.mark.parametrize("theme", ["drak", "/none/at/all.yaml"])
def test_a_theme_that_is_none_is_said_before_the_room_opens(theme, tmp_path):
    shop = Shop(
        tmp_path, f"theme: {theme}\nconnections: {{s: {{adapter: plant}}}}\nlines: {{a: {{deploy: {{from: s}}}}}}\n"
    )
    for words in ([], ["check"]):
        done = shop.do(*words)
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith(f"{shop.path}:1:1: theme: {theme}: ")
    assert shop.do("pull", "a", "--reason", "x").code == 0  # a colour keeps nobody from stopping a line


def test_the_keys_and_the_schema_need_no_config(tmp_path):
    for words in (["keys"], ["keys", "--json"], ["schema"]):
        done = Done(subprocess.run([ANDON, *words], capture_output=True, text=True, check=False, cwd=tmp_path))
        assert (done.code, done.err) == (0, "")
    rows = Done(subprocess.run([ANDON, "keys", "--json"], capture_output=True, text=True, check=False)).json
    assert {"id", "key", "title", "help", "group", "screens"} == set(rows[0])
    assert {row["id"] for row in rows} >= {"stop", "rollback", "resume", "leave"}


def test_the_version_is_that_of_the_distribution_and_loads_nothing():
    from importlib.metadata import version

    done = subprocess.run([ANDON, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"andon {version('andon')}\n"
    code = "import sys; sys.argv = ['andon', '--version']; from tui.__main__ import main; main(); print(*sys.modules)"
    held = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    unwanted = ("httpx", "yaml", "textual", "msgspec", "numpy", "asyncio", "adapters", "andon.config", "platformdirs")
    assert not set(unwanted) & set(held)


# ---- acting


def test_a_pull_is_confirmed_and_a_second_one_joins_it(shop):
    with stopped(shop, "search") as hold:
        done = shop.do("gate", "search")
        assert (done.code, done.out) == (1, "stopped\n")
        again = shop.do("pull", "search", "--reason", "again", "--json")
        assert hold_of(again) == hold
        assert [act["state"] for act in again.json["acts"]] == ["verified"]
        status = shop.do("status", "search")
        assert status.code == 1
        assert f"hold {hold} by " in status.out
        assert shop.do("status").code == 1


def test_who_acts_is_recorded(shop):
    with stopped(shop, "search"):
        done = shop.do("--as", "ann \x1b[c\u202e", "pull", "search", "--reason", "seen \x1b]0;x\x07", "--json")
        hold = done.json["asked"][0]
        assert hold["owner"] == "ann \ufffd[c\ufffd"
        assert hold["why"] == "seen \ufffd]0;x\ufffd"
        joined = shop.do("--as", "ann \x1b[c\u202e", "pull", "search", "--reason", "again", "--json")
        assert joined.json["asked"][0]["id"] == hold["id"]  # the same person under the same name, cleaned
        done = shop.do("status", "search", "--json")
        assert len(done.json["lines"][0]["holds"]) == 2


def test_several_holds_are_listed_unless_one_or_all_are_named(shop):
    with stopped(shop, "payments") as first:
        second = hold_of(shop.do("--as", "bo", "pull", "payments", "--reason", "mine, too", "--json"))
        done = shop.do("resume", "payments", "--reason", "done")
        assert (done.code, done.out) == (1, "")
        assert "payments has 2 holds, lift one with --hold or all with --all: " in done.err
        assert first in done.err
        assert f"{second} by bo: mine, too" in done.err
        done = shop.do("resume", "payments", "--reason", "done", "--hold", "nosuch00")
        assert (done.code, done.err) == (1, "andon: payments has no open hold nosuch00\n")
        done = shop.do("resume", "payments", "--reason", "mine is over", "--hold", second)
        assert done.code == 0
        assert f"lifted {second}; it stays stopped: {first} by " in done.out
        assert shop.do("gate", "payments").code == 1
        done = shop.do("resume", "payments", "--reason", "done", "--all", "--json")
        assert done.code == 0
        assert [hold["id"] for hold in done.json["asked"]] == [first]
        assert [(act["kind"], act["state"]) for act in done.json["acts"]] == [("release", "verified")]
        wait_until(lambda: shop.do("gate", "payments").code == 0, what="payments runs again")
        done = shop.do("resume", "payments", "--reason", "once more")
        assert (done.code, done.err) == (1, "andon: payments has no hold to lift\n")


def test_a_deployment_is_marked_by_its_id_or_its_version(shop):
    current = shop.do("status", "checkout", "--json").json["lines"][0]["current"]
    done = shop.do("mark", "checkout", current["version"], "good", "--reason", "looks fine")
    assert (done.code, done.err) == (0, "")
    assert f"({current['id']}) is marked good" in done.out
    done = shop.do("mark", "checkout", "nosuch", "faulty", "--reason", "x")
    assert (done.code, done.err) == (1, "andon: checkout has no deployment nosuch\n")
    assert shop.do("mark", "checkout", current["id"], "dubious", "--reason", "x").code == 2


def test_a_line_is_stopped_with_nobody_watching_and_all_lines_at_once(alone):
    done = alone.do("pull", "--all", "--reason", "the data centre burns", "--json")
    assert done.code == 0
    assert sorted(hold["line"] for hold in done.json["asked"]) == ["accounts", "checkout", "payments", "search"]
    assert {(act["kind"], act["state"]) for act in done.json["acts"]} == {("halt", "verified")}
    assert len(done.json["acts"]) == 4
    for line in ("checkout", "search", "payments", "accounts"):
        assert alone.do("gate", line).out == "stopped\n"


def test_not_waiting_is_recorded_and_not_confirmed(alone):
    done = alone.do("pull", "checkout", "--reason", "x", "--wait", "0", "--json")
    assert done.code in (0, 3)  # what is confirmed at once needs no waiting
    assert done.json["asked"][0]["line"] == "checkout"


SCRIPT = r"""#!/usr/bin/env python3
import json, os, pathlib, sys, time
here = pathlib.Path(__file__).parent
do = os.environ["ANDON_DO"]
bad = "[/] \x1b]0;owned\x07 \x9b2J \u202egnp.exe\u200b [@click=app.quit]x[/]"
def say(value):
    print(json.dumps(value))
if do == "whoami":
    say({"account": bad, "server": bad})
elif do == "ci_watch":
    say({"change": {"id": "3f2a91c", "title": bad, "author": bad, "at": 1767225600}})
    say({"run": {"id": "812", "change": "3f2a91c", "state": "failed", "at": 1767225610, "stages": [
        {"name": bad, "station": "test", "state": "failed", "at": 1767225615}]}})
elif do in ("current", "history", "deploy") and "BOOK" in os.environ:
    book = pathlib.Path(os.environ["BOOK"])
    rows = book.read_text().splitlines()
    if do == "deploy":
        made = {"id": f"d{len(rows) + 1}", "version": os.environ["ANDON_VERSION"], "state": "settled", "at": time.time()}
        book.write_text("\n".join([*rows, json.dumps(made)]))
        print(made["id"])
    else:
        print(*(reversed(rows) if do == "history" else rows[-1:]), sep="\n")
elif do in ("current", "history"):
    say({"id": "d1" + bad, "version": "3f2a91c", "state": "settled", "at": 1767225600, "by": bad, "words": bad})
elif do == "ci_passed" and "BOOK" in os.environ:
    say({"state": "yes" if os.environ["ANDON_CHANGE"] in ("v1", "v2", "v3") else "unknown"})
elif do == "ci_passed":
    say({"state": "no", "words": bad})
elif do == "samples":
    print(bad, file=sys.stderr)
    sys.exit(69)
elif do == "halted":
    file = here / "halted"
    note = file.read_text() if file.exists() else ""
    say({"parts": [{"name": "deploy", "halted": file.exists(), "note": note, "moving": []}]})
elif do == "halt":
    if (here / "refuse").exists():
        print("not now: " + bad, file=sys.stderr)
        sys.exit(1)
    (here / "halted").write_text("andon hold " + os.environ["ANDON_HOLD"] + " " + bad)
elif do == "release":
    (here / "halted").unlink(missing_ok=True)
"""

SCRIPTS = "".join(
    f"    {do}: [./shop.py]\n"
    for do in (
        "ci_watch",
        "ci_passed",
        "whoami",
        "halt",
        "halted",
        "release",
        "current",
        "history",
        "samples",
        "deploy",
    )
)

SCRIPTED = """
ledger: state/ledger.db
connections:
  s:
    adapter: command
{scripts}
  t:
    adapter: command
    env: {BOOK: "{book}"}
{scripts}
lines:
  back:
    ci: [{from: t}]
    deploy: {from: t, every: 1s}
  checkout:
    ci: [{from: s, halts: [deploy], every: 1s}]
    deploy: {from: s, every: 1s}
    metrics: [{name: a, from: s, kind: sum, bad: falls, value: x, every: 10s, lag: 1s}]
  search: {ci: [{from: s, halts: [deploy], every: 1s}]}
"""


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Two lines that ship through one gate, told of by scripts that say hostile things; watched."""
    folder = tmp_path_factory.mktemp("scripted")
    (folder / "shop.py").write_text(SCRIPT)
    (folder / "shop.py").chmod(0o700)
    book = folder / "book.jsonl"
    rows = [{"id": f"d{n}", "version": f"v{n}", "state": "settled", "at": 1767225600 + n * 3600} for n in (1, 2)]
    book.write_text("\n".join(map(json.dumps, rows)))
    found = Shop(folder, SCRIPTED.replace("{book}", str(book)).replace("{scripts}", SCRIPTS))
    with found.watched():
        wait_until(lambda: "gone" in found.do("status", "checkout").out, 30, "the metrics source is seen gone")
        yield found


def test_what_strangers_wrote_is_shown_harmlessly(scripted):
    """`Done` looks at each byte that a command printed."""
    for words in (["status"], ["status", "--json"], ["status", "checkout", "--json"], ["check"], ["check", "--json"]):
        done = scripted.do(*words)
        assert "[/] \ufffd]0;owned\ufffd \ufffd2J \ufffdgnp.exe\ufffd" in done.out, done.out
    done = scripted.do("push", "checkout", "3f2a91c", "--reason", "x")
    assert (done.code, done.out) == (1, "")
    lines = (scripted.folder / "watch.out").read_text()
    assert "owned" in lines
    assert not [
        char for char in lines if char != "\n" and (ord(char) < 32 or 126 < ord(char) < 160 or char in "\u202e\u200b")
    ]


def test_whatever_a_command_prints_is_gated(capsys):
    for asked in (argparse.Namespace(json=True), argparse.Namespace(json=False), argparse.Namespace()):
        out({"words": "\x9b2J\u202e\U000e0041 é"}, asked, "\x1b[2J\x9b\u202e\r é\nnext")
        found = capsys.readouterr().out
        assert "\ufffd" in found
        assert " é" in found
        assert not set("\x1b\x9b\u202e\r\U000e0041") & set(found)


def test_a_target_that_another_line_needs_halted_stays_so_and_that_is_said(scripted):
    assert scripted.do("pull", "--all", "--reason", "x").code == 0
    done = scripted.do("resume", "checkout", "--reason", "mine is fixed")
    assert done.code == 3
    assert "checkout: s/deploy stays halted, search is stopped, too" in done.out
    assert (scripted.folder / "halted").exists()
    done = scripted.do("resume", "search", "--reason", "this one, too")
    assert done.code == 0
    assert "release s/deploy: verified" in done.out
    assert not (scripted.folder / "halted").exists()


def test_a_halt_that_is_refused_is_1_and_the_line_stays_stopped(scripted):
    (scripted.folder / "refuse").touch()
    done = scripted.do("pull", "search", "--reason", "x")
    assert done.code == 1
    assert "halt s/deploy: refused, not now: [/] \ufffd]0;owned" in done.out
    assert scripted.do("gate", "search").out == "stopping\n"
    (scripted.folder / "refuse").unlink()
    assert scripted.do("pull", "search", "--reason", "again").code == 0
    assert scripted.do("gate", "search").out == "stopped\n"
    assert scripted.do("resume", "search", "--reason", "over").code == 0


def test_a_rollback_returns_to_an_earlier_version_and_the_fix_goes_through_the_hold(scripted):
    row = scripted.do("status", "back", "--json").json["lines"][0]
    assert (row["current"]["id"], row["rollback_target"]["id"]) == ("d2", "d1")
    done = scripted.do("rollback", "back", "--reason", "checkout fails", "--json")
    assert (done.code, done.err) == (0, "")
    assert (done.json["asked"]["version"], done.json["asked"]["expected"]) == ("v1", "d2")
    assert [(act["kind"], act["state"], act["ref"]) for act in done.json["acts"]] == [("rollback", "verified", "d3")]
    now = scripted.do("status", "back", "--json").json["lines"][0]
    assert (now["state"], now["current"]["version"]) == ("stopped", "v1")
    (hold,) = now["holds"]
    for words, said in (
        (["v3"], f"andon: back is stopped: name the hold the fix goes through, --through {hold['id']}\n"),
        (["v3", "--through", "nosuch00"], f"name the hold the fix goes through, --through {hold['id']}\n"),
        (["v9", "--through", hold["id"]], "andon: v9: no tests are known for exactly this change\n"),
        (["v1", "--through", hold["id"]], "andon: v1 already runs\n"),
    ):
        done = scripted.do("push", "back", *words, "--reason", "the fix")
        assert (done.code, done.out) == (1, "")
        assert done.err.endswith(said)
    done = scripted.do("push", "back", "v3", "--reason", "the fix", "--through", hold["id"], "--json")
    assert (done.code, done.err) == (0, "")
    assert [(act["kind"], act["state"], act["hold"]) for act in done.json["acts"]] == [("push", "verified", hold["id"])]
    done = scripted.do("rollback", "back", "--to", "v7", "--reason", "x")
    assert (done.code, done.out) == (1, "")
    done = scripted.do("resume", "back", "--all", "--reason", "fixed")
    assert done.code == 0
    assert done.out == f"back: lifted {hold['id']}\n"
    done = scripted.do("push", "back", "v2", "--reason", "x", "--through", hold["id"])
    assert (done.code, done.err) == (1, f"andon: back has no open hold {hold['id']}\n")


def test_read_only_acts_on_nothing(shop):
    current = shop.do("status", "checkout", "--json").json["lines"][0]["current"]
    before = shop.do("audit", "verify", "--json").json["events"]
    for words in (
        ["--read-only", "pull", "checkout"],
        ["--wall", "pull", "--all"],
        ["--read-only", "resume", "checkout", "--all"],
        ["--read-only", "rollback", "checkout"],
        ["--wall", "push", "checkout", current["version"]],
        ["--read-only", "mark", "checkout", current["id"], "good"],
    ):
        done = shop.do(*words, "--reason", "x")
        assert done.code == 1, words
        assert "read-only" in (done.out if "--all" in words and "pull" in words else done.err)
    acts = shop.do("status", "checkout", "--json").json["lines"][0]["acts"]
    assert not [act for act in acts if act["why"] == "x" and act["line"] == "checkout"]
    assert shop.do("audit", "verify", "--json").json["events"] >= before


def test_read_only_makes_no_ledger(alone):
    done = alone.do("--read-only", "pull", "checkout", "--reason", "x")
    assert done.code == 2
    assert "there is no ledger here yet" in done.err
    assert not (alone.folder / "state").exists()


# ---- what is refused before anything is asked


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nosuch"], "invalid choice: 'nosuch'"),
        (["\x1b]0;x\x07"], "invalid choice: "),
        (["status", "checkout", "\x1b[c"], "unrecognized arguments: \ufffd[c"),
        (["status", "\udcff"], "there is no line '\\udcff'; there are checkout"),
        (["status", "nosuch"], "there is no line 'nosuch'; there are checkout, search, payments, accounts"),
        (["gate", "chekout"], "there is no line 'chekout'; did you mean \"checkout\"?"),
        (["gate"], "the following arguments are required: LINE"),
        (["gate", ""], "argument LINE: it is empty"),
        (["status", " "], "argument LINE: it is empty"),
        (["gate", "checkout", "--wait", "soon"], "argument --wait: 'soon' is not a duration"),
        (["gate", "checkout", "--wait", "-5s"], "argument --wait: expected one argument"),
        (["pull", "--reason", "x"], "andon: name one line, or --all"),
        (["pull", "checkout", "--all", "--reason", "x"], "andon: name one line, or --all"),
        (["pull", "checkout"], "the following arguments are required: --reason"),
        (["pull", "checkout", "--reason", ""], "argument --reason: it is empty"),
        (["pull", "checkout", "--reason", " \t "], "argument --reason: it is empty"),
        (["pull", "--al", "--reason", "x"], "unrecognized arguments: --al"),
        (["pull", "nosuch", "--reason", "x"], "there is no line 'nosuch'"),
        (["resume", "checkout", "--hold", "", "--reason", "x"], "argument --hold: it is empty"),
        (["resume", "--reason", "x"], "the following arguments are required: LINE"),
        (["rollback", "checkout", "--to", "", "--reason", "x"], "argument --to: it is empty"),
        (["push", "checkout", "--reason", "x"], "the following arguments are required: VERSION"),
        (["push", "checkout", "3f2a", "--through", "", "--reason", "x"], "argument --through: it is empty"),
        (["mark", "checkout", "d1", "--reason", "x"], "the following arguments are required: mark"),
        (["mark", "checkout", "d1", "dubious", "--reason", "x"], "invalid choice: 'dubious'"),
        (["audit", "repair"], "invalid choice: 'repair'"),
        (["demo", "--speed", "1000"], "between 0.1 and 60"),
        (["demo", "--speed", "nan"], "between 0.1 and 60"),
        (["demo", "--seed", "x"], "invalid int value: 'x'"),
        (["--line", "checkout", "status"], "--line is for the room; a command takes its line after its name"),
    ],
)
def test_what_makes_no_sense_is_2_and_one_sentence(words, said, alone):
    done = alone.do(*words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert not (alone.folder / "state").exists()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("postgresql://me:s3cret@db/andon", "env:ANDON_LEDGER"),
        ("mysql://me:s3cret@db/andon", "no ledger for mysql://"),
        ("{folder}", "is a folder; name a file in it"),
        ("/proc/nosuch/ledger.db", "/proc/nosuch"),
        ("{folder}/andon.yaml/ledger.db", "andon: {folder}/andon.yaml/ledger.db: "),
    ],
)
def test_a_ledger_that_cannot_be_is_2(address, words, alone):
    before = (alone.folder.stat().st_mode, alone.path.stat().st_mode)
    where = address.format(folder=alone.folder)
    for command in (["status"], ["pull", "checkout", "--reason", "x", "--wait", "1s"], ["watch"]):
        done = alone.do("--ledger", where, *command)
        assert (done.code, done.out) == (2, "")
        assert words.format(folder=alone.folder) in done.err
        assert "s3cret" not in done.err
    assert before == (alone.folder.stat().st_mode, alone.path.stat().st_mode)


def test_a_relative_ledger_lies_beside_the_config_wherever_one_stands(alone, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert alone.do("pull", "checkout", "--reason", "x", cwd=elsewhere).code == 0
    assert (alone.folder / "state" / "ledger.db").exists()
    assert list(elsewhere.iterdir()) == []
    assert alone.do("gate", "checkout", cwd="/").code == 1


def test_a_ledger_by_reference(tmp_path):
    config = "ledger: env:SHOP_LEDGER\nconnections: {s: {adapter: plant}}\nlines: {a: {deploy: {from: s}}}\n"
    shop = Shop(tmp_path, config)
    done = shop.do("pull", "a", "--reason", "x")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "andon: ledger: env:SHOP_LEDGER: the environment has no such variable; export it before you start andon\n"
    )
    environment = {**os.environ, "SHOP_LEDGER": str(tmp_path / "there" / "s3cret.db")}
    assert shop.do("pull", "a", "--reason", "x", env=environment).code == 0
    assert (tmp_path / "there" / "s3cret.db").exists()


# ---- the engine alone


def test_the_engine_prints_one_json_line_per_event_and_ends_with_its_signal(alone):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        out = alone.folder / f"{number}.out"
        with out.open("w") as stdout:
            watch = subprocess.Popen(alone.argv("watch"), stdout=stdout, stderr=subprocess.PIPE, text=True)
            wait_until(lambda: alone.do("gate", "checkout").code == 0, 30, "the line runs and is watched")
            watch.send_signal(number)
            err = watch.communicate(timeout=LIMIT_S)[1]
        assert watch.returncode == 128 + number
        assert "Traceback" not in err
        assert err.startswith("andon: watching checkout, search, payments, accounts; ledger ")
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        assert all({"seq", "kind", "event"} == set(row) for row in rows)
        assert [row["seq"] for row in rows] == sorted({row["seq"] for row in rows})
        assert "started" in {row["kind"] for row in rows}
        done = alone.do("status", "--json")
        assert done.code == 2  # the lease was handed back at once
        assert done.json["engine"] is None
        done = alone.do("gate", "checkout")
        assert done.code == 2
        if done.out == "running\n":  # for as long as the last reads are fresh
            assert done.err == "andon: nobody watches this line: no engine holds the lease\n"


def test_a_reader_that_stalls_keeps_neither_the_watch_nor_its_end_waiting(alone):
    import fcntl

    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    watch = subprocess.Popen(alone.argv("watch"), stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    try:
        wait_until(lambda: alone.do("gate", "checkout").code == 0, 30, "the line is watched, unread or not")
        assert alone.do("audit", "verify", "--json").json["events"] > 100  # more than the pipe holds
        watch.send_signal(signal.SIGTERM)
        err = watch.communicate(timeout=LIMIT_S)[1]
    finally:
        watch.kill()
        os.close(read)
    assert watch.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in err
    assert "Fatal" not in err


def test_a_reader_that_leaves_ends_the_watch_and_the_lease_is_handed_over(alone):
    read, write = os.pipe()
    watch = subprocess.Popen(alone.argv("watch"), stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    os.read(read, 1)
    os.close(read)
    err = watch.communicate(timeout=LIMIT_S)[1]
    assert watch.returncode == 128 + signal.SIGPIPE
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    assert alone.do("status", "--json").json["engine"] is None


def test_a_full_disk_under_stdout_does_not_end_the_watch(alone):
    with Path("/dev/full").open("w") as full:
        watch = subprocess.Popen(alone.argv("watch"), stdout=full, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: alone.do("gate", "checkout").code == 0, 30, "the line is watched")
    finally:
        watch.terminate()
    err = watch.communicate(timeout=LIMIT_S)[1]
    assert watch.returncode == 128 + signal.SIGTERM
    assert err.count("stdout: No space left on device; lines are missing there, the ledger has them") == 1


def test_a_hang_up_that_was_ignored_stays_ignored(alone):
    argv = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *alone.argv("watch")]
    watch = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: alone.do("gate", "checkout").code == 0, 30, "the line is watched")
        watch.send_signal(signal.SIGHUP)
        hold = hold_of(alone.do("pull", "checkout", "--reason", "still there?", "--json"))
        assert hold
        assert watch.poll() is None
    finally:
        watch.terminate()
    assert watch.wait(LIMIT_S) == 128 + signal.SIGTERM


# ---- stdout that goes away


@pytest.mark.parametrize(
    "words",
    [["status", "--json"], ["check"], ["keys"], ["schema"], ["audit", "verify"], ["gate", "checkout"], ["--version"]],
)
def test_a_reader_that_left_is_no_traceback(words, shop):
    read, write = os.pipe()
    os.close(read)
    done = shop.do(*words, capture_output=False, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert done.code == 128 + signal.SIGPIPE
    assert done.err == ""


def test_a_full_disk_is_said(shop):
    with Path("/dev/full").open("w") as full:
        done = shop.do("status", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert (done.code, done.err) == (2, "andon: stdout: No space left on device\n")


def test_closed_streams_do_not_become_the_ledger(alone):
    argv = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *alone.argv("pull", "checkout", "--reason", "x", "--json")]
    assert subprocess.run(argv, timeout=LIMIT_S, check=False).returncode == 0
    assert alone.do("audit", "verify").code == 0
    assert alone.do("gate", "checkout").out == "stopped\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_our_signs_is_printed_to_all_the_same(encoding, shop):
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    for words in (["status"], ["check"], ["status", "--json"]):
        done = shop.do(*words, env=environment)
        assert done.code == 0
        assert "checkout" in done.out


def opened(pid: int) -> list[str]:
    """What a process has open."""
    found = []
    with contextlib.suppress(FileNotFoundError):  # closed while we looked
        found.extend(str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir())
    return found


def test_ctrl_c_ends_a_command_that_waits(shop):
    with stopped(shop, "search"):
        waiting = subprocess.Popen(
            shop.argv("gate", "search", "--wait", "60s"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        wait_until(lambda: any("ledger.db" in name for name in opened(waiting.pid)), what="it reads the ledger")
        waiting.send_signal(signal.SIGINT)
        out, err = waiting.communicate(timeout=LIMIT_S)
        assert (waiting.returncode, out, err) == (130, "", "")
