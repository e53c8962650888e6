"""A config is read from where its owner put it; what is wrong in it is said once, with its place, and nothing starts."""

import json
import os
import re
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from andon import config, configfile, registry
from andon.config import duration, load, places, schema
from andon.yamlfile import LIMIT_BYTES, Document, FileError
from tui import cli

ROOT = Path(__file__).parents[1]
ANDON = [str(Path(sys.executable).with_name("andon"))]

SHOP = """\
connections:
  shop: {adapter: plant}
  mine: {adapter: command, tell: [./page.sh]}
"""


def lines(text: str) -> str:
    """A config over the plant with these keys of its one line."""
    body = textwrap.indent(textwrap.dedent(text).strip("\n"), "    ")
    return f"{SHOP}lines:\n  checkout:\n{body}\n"


def metric(text: str = "", more: str = "deploy: {from: shop}") -> str:
    """A config whose only metric has these keys, too; what is given twice stands first."""
    given = {item.partition(":")[0].strip() for item in text.split(",")} if text else set()
    usual = {"name": "conv", "from": "shop", "kind": "proportion", "bad": "falls", "value": "conversion"}
    rest = ", ".join(f"{key}: {value}" for key, value in usual.items() if key not in given)
    return lines(f"{more}\nmetrics:\n  - {{{', '.join(part for part in (text, rest) if part)}}}")


WRONG = {
    # what is not YAML, or not the YAML that is read
    "an empty file": ("", "1:1: a config is a mapping"),
    "only a comment": ("# nothing\n", "1:1: a config is a mapping"),
    "a list at the top": ("- a\n- b\n", "1:1: a config is a mapping"),
    "a text at the top": ("hello\n", "1:1: a config is a mapping"),
    "two documents": (f"{SHOP}---\na: b\n", "4:1: expected a single document"),
    "a tab": ("connections:\n\tshop: {}\n", "2:1: while scanning for the next token, found character"),
    "an open bracket": ("connections: [\n", "2:1: while parsing a flow node"),
    "not UTF-8": (b"name: shop\nname2: \xff\n", "2:8: not UTF-8: invalid start byte"),
    "UTF-16": ("name: shop\n".encode("utf-16"), "1:1: not UTF-8"),
    "a NUL": ("name: a\x00b\n", "1:8: a control character stands here"),
    "a one-byte CSI": ("name: a\n\n  \x9bb: c\n", "3:3: a control character stands here"),
    "an escape in quotes": ('name: "a\\e[c"\n', "1:7: a control character is written here"),
    "a duplicate key": (f"{SHOP}name: a\nname: b\n", "5:1: name: this key stands here twice"),
    "a line twice": (f"{SHOP}lines:\n  a: {{ci: []}}\n  a: {{}}\n", "6:3: lines.a: this key stands here twice"),
    "a merge key": ("a: &a {x: 1}\nb:\n  <<: *a\n", "3:3: b: merge keys (<<) are not read"),
    "a key that is a list": ("? [a]\n: b\n", "1:3: a key must be plain text"),
    "an alias that is nowhere": ("a: *b\n", "1:4: found undefined alias"),
    "an alias within itself": ("a: &a [*a, *a]\n", "1:4: nested deeper than 32 levels"),
    "an alias bomb": (
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
        "1:4: more than 20,000 values; aliases repeat too much",
    ),
    "brackets without end": ("[" * 500_000, "1:33: nested deeper than 32 levels"),
    "dashes without end": ("- " * 3000 + "x", "1:65: nested deeper than 32 levels"),
    "too many values": ("a: [" + "x," * 30_000 + "]", "1:39999: more than 20,000 values"),
    "2 MiB": ("# " + "x" * (2 << 20), "1:1048577: larger than 1 MiB"),
    "a tag that makes things": ('name: !!python/object/apply:os.system ["id"]\n', "1:7: tags are not read: tag:yaml"),
    "a tag of one's own": ("!config\nname: a\n", "1:1: tags are not read: !config"),
    # keys
    "a typo at the top": (f"{SHOP}linse: {{}}\n", '4:1: linse: unknown key; did you mean "lines"?'),
    "a typo in a metric": (
        metric("evry: 60s"),
        '8:10: lines.checkout.metrics[0].evry: unknown key; did you mean "every"?',
    ),
    "a typo in a threshold": (
        metric("threshold: {belwo: 0.02}"),
        '8:22: lines.checkout.metrics[0].threshold.belwo: unknown key; did you mean "below"?',
    ),
    "a typo in a line": (
        lines("enviroment: x"),
        '6:5: lines.checkout.enviroment: unknown key; did you mean "environment"?',
    ),
    "a typo in an entry": (
        lines("deploy: {from: shop, only_way: true}"),
        '6:26: lines.checkout.deploy.only_way: unknown key; did you mean "only_way_in"?',
    ),
    "a typo in a connection": (
        "connections: {shop: {adapter: plant, sed: 3}}\nlines: {a: {deploy: {from: shop}}}",
        '1:38: connections.shop.sed: unknown key; did you mean "seed"?',
    ),
    "a key like no other": (
        f"{SHOP}zzzzzzzz: 1\n",
        "4:1: zzzzzzzz: unknown key; there are animations, ascii, connections, keys, ledger, lines",
    ),
    "a key that does nothing there": (
        lines("ci: [{from: shop, only_way_in: true}]"),
        "6:23: lines.checkout.ci[0].only_way_in: unknown key; there are every, from, halts",
    ),
    "a canary's window longer than the watch": (
        lines("deploy: {from: shop}\nwatch: {canary: 20m, full: 15m}"),
        "7:13: lines.checkout.watch.canary: longer than `full`: the whole deployment is watched for that",
    ),
    "a canary's window of two buckets": (
        metric("n: visits, control: {value: b, n: c}", "deploy: {from: shop}\nwatch: {canary: 2m}"),
        "7:13: lines.checkout.watch.canary: three buckets of 'conv' at least: 180s or more",
    ),
    "a typo in a control": (
        metric("control: {valeu: b}"),
        '8:20: lines.checkout.metrics[0].control.valeu: unknown key; did you mean "value"?',
    ),
    "a control without a query": (
        metric("control: {n: b}"),
        "8:10: lines.checkout.metrics[0].control: the key 'value' is missing",
    ),
    "a control with an empty query": (
        metric("n: visits, control: {value: ' ', n: c}"),
        "8:31: lines.checkout.metrics[0].control.value: a query is expected here",
    ),
    "a control without its trials": (
        metric("n: visits, control: {value: b}"),
        "8:21: lines.checkout.metrics[0].control: beside a control a proportion needs `n`: its trials",
    ),
    "a control of a count without its traffic": (
        metric("kind: count, control: {value: b, n: c}"),
        "8:9: lines.checkout.metrics[0]: beside a control a count needs `n`: its traffic, as requests, visits or servers",
    ),
    "a control that is the metric itself": (
        metric("n: visits, control: {value: conversion, n: visits}"),
        "8:21: lines.checkout.metrics[0].control: the queries are those of the metric itself",
    ),
    "a control and a threshold": (
        metric("n: visits, threshold: {below: 0.02}, control: {value: b, n: c}"),
        "8:47: lines.checkout.metrics[0].control: give `threshold` or `control`: one of them judges this metric",
    ),
    "a metric that is called as the control of another": (
        lines(
            "metrics:\n"
            "  - {name: a, from: shop, kind: gauge, bad: falls, value: x, control: {value: y}}\n"
            "  - {name: a (control), from: shop, kind: gauge, bad: falls, value: z}"
        ),
        "8:10: lines.checkout.metrics[1].name: the control of another metric is kept as 'a (control)'",
    ),
    "promote: automatic": (
        lines("promote: automatic\ndeploy: {from: shop}"),
        "6:5: lines.checkout.promote: 'automatic' does not exist yet; `ci` does",
    ),
    "promote: human": (
        lines("promote: human\ndeploy: {from: shop}"),
        "6:5: lines.checkout.promote: 'human' does not exist yet; `ci` does",
    ),
    # types
    "a number for a name": (f"{SHOP}name: 5\n", "4:1: name: expected text, not a whole number"),
    "a version that is a number": (f"{SHOP}name: 1.10\n", "4:1: name: expected text, not a number"),
    "a text for a switch": (
        lines("deploy: {from: shop, only_way_in: no}"),
        "6:26: lines.checkout.deploy.only_way_in: expected true or false, not text",
    ),
    "a text for a number": (
        metric("threshold: {below: little}"),
        "8:22: lines.checkout.metrics[0].threshold.below: expected a number, not text",
    ),
    "a number beyond all": (metric("threshold: {below: 1e999}"), "threshold.below: expected a number, not text"),
    "not a number": (metric("threshold: {below: .nan}"), "threshold.below: expected a number, not text"),
    "keys for a list": (lines("metrics: {a: b}"), "6:5: lines.checkout.metrics: expected a list, not keys and values"),
    "a text for a metric": (
        lines("metrics: [a]"),
        "6:15: lines.checkout.metrics[0]: keys and values are expected here",
    ),
    "a text for an entry": (lines("ci: [shop]"), "6:10: lines.checkout.ci[0]: keys and values are expected here"),
    "a text for a line": (
        f"{SHOP}lines:\n  checkout: hello\n",
        "5:3: lines.checkout: keys and values are expected here",
    ),
    "a text for a connection": ("connections: {shop: plant}", "1:15: connections.shop: keys and values are expected"),
    "nothing after a key": (lines("deploy:"), "6:5: lines.checkout.deploy: nothing stands after this key"),
    "nothing after threshold": (
        metric("threshold: "),
        "8:10: lines.checkout.metrics[0].threshold: nothing stands after",
    ),
    "a number among halts": (
        lines("ci: [{from: shop, halts: [deploy, 5]}]"),
        "6:39: lines.checkout.ci[0].halts[1]: expected text, not a whole number",
    ),
    "halts that are no list": (lines("ci: [{from: shop, halts: deploy}]"), "ci[0].halts: expected a list, not text"),
    "a kind that is none": (
        metric("kind: proportoin"),
        (
            "8:10: lines.checkout.metrics[0].kind: 'proportoin' is none of proportion, count, sum, latency, gauge; "
            'did you mean "proportion"?'
        ),
    ),
    "a policy that is none": (metric("on_regression: page"), "on_regression: 'page' is none of rollback, stop, tell"),
    "a token by its value in a script's environment": (
        "connections: {m: {adapter: command, tell: [./page.sh], env: {PAGER_TOKEN: s3cret-canary}}}\nlines: {}",
        "1:15: connections.m: env: PAGER_TOKEN: a secret is given by reference: env:NAME, file:PATH",
    ),
    "a password by its value for acts": (
        "connections: {m: {adapter: command, tell: [./page.sh], env_acts: {Db_Password: s3cret-canary}}}\nlines: {}",
        "1:15: connections.m: env_acts: Db_Password: a secret is given by reference: env:NAME, file:PATH",
    ),
    "an empty argv": (
        "connections: {m: {adapter: command, tell: []}}\nlines: {a: {notify: [{from: m}]}}",
        "1:37: connections.m.tell: expected a list of length >= 1",
    ),
    # what belongs together
    "no line": (SHOP, "1:1: lines: there is no line"),
    "a line with nothing": (lines("environment: production"), "5:3: lines.checkout: a line needs at least one of"),
    "a deploy with nothing": (lines("deploy: {}"), "6:5: lines.checkout.deploy: the key 'from' is missing"),
    "a metric without a query": (
        lines("metrics: [{name: a, from: shop, kind: sum, bad: falls}]"),
        "6:15: lines.checkout.metrics[0]: the key 'value' is missing",
    ),
    "an unknown adapter": ("connections: {a: {adapter: jenkins}}", "1:19: connections.a.adapter: no adapter 'jenkins'"),
    "a plug-in that is not there": (
        "connections: {a: {adapter: 'acme-x:ci'}}",
        "no distribution 'acme-x' with an adapter",
    ),
    "no adapter": ("connections: {a: {url: x}}", "1:15: connections.a: the key 'adapter' is missing; there are"),
    "an unknown connection": (
        lines("deploy: {from: shpo}"),
        "6:14: lines.checkout.deploy.from: there is no connection 'shpo'",
    ),
    "an adapter without that station": (
        "connections: {p: {adapter: prometheus, url: 'http://127.0.0.1:9'}}\nlines: {a: {deploy: {from: p}}}",
        "2:22: lines.a.deploy.from: prometheus cannot be used for `deploy:`",
    ),
    "an adapter without metrics": (
        (
            "connections: {b: {adapter: buildbot, url: 'http://127.0.0.1:9'}}\n"
            "lines: {a: {metrics: [{name: x, from: b, kind: sum, bad: falls, value: y}]}}"
        ),
        "2:33: lines.a.metrics[0].from: buildbot has no metrics",
    ),
    "a threshold without bounds": (metric("threshold: {for: 3m}"), "threshold: give `above`, `below` or both"),
    "bounds that leave nothing": (metric("threshold: {above: 1, below: 2}"), "`below` must be less than `above`"),
    "for below three buckets": (
        metric("every: 60s, threshold: {below: 1, for: 2m}"),
        "8:44: lines.checkout.metrics[0].threshold.for: at least three buckets of 60 s are needed: 180s or more",
    ),
    "for beyond the watch": (
        metric("threshold: {below: 1, for: 20m}"),
        "8:32: lines.checkout.metrics[0].threshold.for: longer than the watch of a deployment",
    ),
    "every below 10 s": (metric("every: 5s"), "8:10: lines.checkout.metrics[0].every: at least 10 s"),
    "a duration without a unit": (metric("every: 1 minute"), "'1 minute' is not a duration; write 90s, 15m, 8h or 2d"),
    "a sexagesimal duration": (metric("every: '1:30'"), "'1:30' is not a duration"),
    "a negative duration": (lines("deploy: {from: shop, confirm: -5}"), "deploy.confirm: at least 1 s"),
    "a watch of a second": (
        lines("deploy: {from: shop}\nwatch: {full: 1s}"),
        "7:13: lines.checkout.watch.full: at least 30 s",
    ),
    "a watch of a lifetime": (lines("deploy: {from: shop}\nwatch: {full: 4000d}"), "watch.full: longer than a year"),
    "rollback without deploy": (
        metric("on_regression: rollback", "ci: [{from: shop}]"),
        "8:10: lines.checkout.metrics[0].on_regression: the line has no `deploy:` to roll back with",
    ),
    "two metrics of one name": (
        lines("""
            metrics:
              - {name: a, from: shop, kind: sum, bad: falls, value: revenue}
              - {name: a, from: shop, kind: sum, bad: falls, value: signups}"""),
        "8:10: lines.checkout.metrics[1].name: there are two metrics called 'a'",
    ),
    "a metric without a name": (metric("name: ''"), "metrics[0].name: a name of plain, visible text"),
    "a metric turned around": (metric("name: \u202epnoc"), "metrics[0].name: a name of plain, visible text"),
    "a short name that is long": (metric("short: conversion"), "metrics[0].short: at most 4 visible signs"),
    "an empty query": (metric("value: ' '"), "metrics[0].value: a query is expected here"),
    "a line with a bad name": (
        f"{SHOP}lines: {{Check Out: {{}}}}",
        "4:9: lines.Check Out: a name has 1 to 40 of a-z, 0-9 and -",
    ),
    "a line with no name": (f"{SHOP}lines: {{'': {{}}}}", "4:9: lines.: a name has 1 to 40 of"),
    "a line with a long name": (f"{SHOP}lines: {{{'a' * 41}: {{}}}}", "a name has 1 to 40 of"),
    "a connection with a bad name": (
        "connections: {a/b: {adapter: plant}}",
        "1:15: connections.a/b: a name has 1 to 40",
    ),
    "no environment": (
        lines("environment: ''\ndeploy: {from: shop}"),
        "6:5: lines.checkout.environment: it needs a name",
    ),
    "one target twice": (
        lines("ci: [{from: shop, halts: [x]}, {from: shop, halts: [x]}]"),
        "5:3: lines.checkout: shop/checkout/x is named twice as what a stop halts",
    ),
    "two entries of one name": (
        lines("ci: [{from: shop}, {from: shop}]"),
        "6:24: lines.checkout.ci[1]: two entries of `ci:` would be called shop; give one a connection of its own",
    ),
    "halts twice the same": (lines("ci: [{from: shop, halts: [a, a]}]"), "ci[0].halts[1]: 'a' stands here twice"),
    "halts nothing": (lines("ci: [{from: shop, halts: ['']}]"), "ci[0].halts[0]: a name is expected here"),
    # secrets
    "a token by its value": (
        "connections: {b: {adapter: buildbot, url: 'http://127.0.0.1:9', token: ghp_s3cret}}",
        "1:65: connections.b.token: a secret is given by reference: env:NAME, file:PATH, keyring:SERVICE/USER or command:",
    ),
    "a token for acts by its value": (
        "connections: {b: {adapter: buildbot, url: 'http://127.0.0.1:9', token_acts: 's3cret x'}}",
        "connections.b.token_acts: a secret is given by reference",
    ),
    "an empty token": (
        "connections: {b: {adapter: buildbot, url: 'http://127.0.0.1:9', token: ''}}",
        "connections.b.token: a secret is given by reference",
    ),
    "a token in the current folder": (
        "connections: {b: {adapter: buildbot, url: 'http://127.0.0.1:9', token: 'file:s3cret'}}",
        "connections.b.token: file:s3cret: write the whole path",
    ),
    "a program in the current folder": (
        "connections: {b: {adapter: buildbot, url: 'http://127.0.0.1:9', token: 'command:./s3cret now'}}",
        "connections.b.token: command:./s3cret: write the whole path",
    ),
    "a token that is a number": (
        "connections: {b: {adapter: buildbot, url: 'http://127.0.0.1:9', token: 12345}}",
        "connections.b.token: expected text, not a whole number",
    ),
    # what only the adapter knows to be wrong
    "an address with a password": (
        (
            "connections: {p: {adapter: prometheus, url: 'http://me:s3cret@127.0.0.1:9'}}\n"
            "lines: {a: {metrics: [{name: x, from: p, kind: sum, bad: falls, value: y}]}}"
        ),
        "1:15: connections.p: ",
    ),
    "an address that is none": (
        (
            "connections: {p: {adapter: prometheus, url: 'prometheus:9090'}}\n"
            "lines: {a: {metrics: [{name: x, from: p, kind: sum, bad: falls, value: y}]}}"
        ),
        "1:15: connections.p: ",
    ),
}


def written(folder: Path, content: str | bytes, mode: int = 0o600) -> Path:
    path = folder / "andon.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def refused(path: Path, ledger: Path, capsys) -> str:
    """What `andon pull` says of a config that it must not take; nothing may have begun."""
    before = set(threading.enumerate())
    code = cli.run(["-c", str(path), "--ledger", str(ledger), "pull", "checkout", "--reason", "x"])
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1, err
    assert set(threading.enumerate()) == before
    assert not ledger.parent.exists()
    return err.rstrip("\n")


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_once_with_its_place_and_nothing_starts(name, tmp_path, capsys):
    content, words = WRONG[name]
    path = written(tmp_path, content)
    said = refused(path, tmp_path / "state" / "ledger.db", capsys)
    assert words in said
    assert re.match(rf"{re.escape(str(path))}:\d+:\d+: ", said), said
    if words[0].isdigit():
        assert said.startswith(f"{path}:{words}"), said
    assert "\x1b" not in said
    if "file:" not in said and "command:." not in said:
        assert "s3cret" not in said


def test_there_are_enough_of_them():
    assert len(WRONG) >= 60


def test_the_file_itself_must_be_one_that_only_its_owner_can_change(tmp_path, capsys):
    ledger = tmp_path / "state" / "ledger.db"
    good = lines("deploy: {from: shop}")
    for mode, words in ((0o602, "others can write to it; chmod go-w"), (0o666, "others can write to it")):
        assert words in refused(written(tmp_path, good, mode), ledger, capsys)
    assert load(written(tmp_path, good, 0o644)).lines


def test_a_group_of_several_may_not_write(tmp_path, capsys):
    path = written(tmp_path, lines("deploy: {from: shop}"), 0o660)
    import grp

    others = [group.gr_gid for group in grp.getgrall() if group.gr_gid != os.getgid()]
    try:
        os.chown(path, -1, others[0])
    except (PermissionError, IndexError):
        pytest.skip("needs a second group of this user: run as root")
    assert "others can write to it" in refused(path, tmp_path / "state" / "ledger.db", capsys)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away: run as root")
def test_a_file_of_somebody_else_is_refused(tmp_path, capsys):
    path = written(tmp_path, lines("deploy: {from: shop}"))
    os.chown(path, 12345, -1)
    assert "belongs to somebody else" in refused(path, tmp_path / "state" / "ledger.db", capsys)


def test_what_is_no_plain_file_is_refused_at_once(tmp_path, capsys):
    ledger = tmp_path / "state" / "ledger.db"
    assert refused(tmp_path / "none.yaml", ledger, capsys).endswith(
        "none.yaml: cannot be read: No such file or directory"
    )
    assert "is a folder" in refused(tmp_path, ledger, capsys)
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe, 0o600)
    assert "not a plain file" in refused(pipe, ledger, capsys)  # and does not wait for somebody to write into it
    assert "not a plain file" in refused(Path("/dev/zero"), ledger, capsys)
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    assert "cannot be read: Too many levels of symbolic links" in refused(tmp_path / "loop.yaml", ledger, capsys)
    assert "cannot be read: File name too long" in refused(tmp_path / ("x" * 300), ledger, capsys)


def test_an_unreadable_file_is_said_to_be_so(tmp_path):
    path = written(tmp_path, lines("deploy: {from: shop}"), 0o000)
    tmp_path.chmod(0o755)
    code = """if True:
        import os, sys
        from pathlib import Path
        from andon.config import load
        from andon.yamlfile import FileError
        os.chdir(sys.argv[1])  # which nobody may not be able to reach from the root
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        try:
            load(Path("andon.yaml"))
        except FileError as error:
            print(error)
    """
    argv = [sys.executable, "-c", code, str(path.parent)]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout == "andon.yaml: cannot be read: Permission denied\n", done.stderr


@pytest.mark.parametrize("name", ["a typo in a metric", "brackets without end", "a token by its value", "2 MiB"])
@pytest.mark.parametrize("command", [["watch"], ["status"], ["check"], ["--read-only", "gate", "checkout"], []])
def test_a_real_process_ends_with_2_and_leaves_nothing(name, command, tmp_path):
    content, words = WRONG[name]
    path = written(tmp_path, content)
    argv = [*ANDON, "-c", str(path), *command]
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (2, "")
    assert words.strip() in done.stderr
    assert "Traceback" not in done.stderr
    assert [item.name for item in tmp_path.iterdir()] == ["andon.yaml"]
    assert not any(Path(os.environ["HOME"]).rglob("*ledger*"))


# ---- what is right


def test_values_that_yaml_turns_around_stay_as_they_were_written():
    found = Document(
        "f", b"a: no\nb: 010\nc: 1:30\nd: 2026-01-01\ne: yes\nf: 0x1F\ng: 1_000\nh: ~x\ni: '1.10'\nj: =\nk: on"
    ).data
    assert found == {
        "a": "no",
        "b": "010",
        "c": "1:30",
        "d": "2026-01-01",
        "e": "yes",
        "f": "0x1F",
        "g": "1_000",
        "h": "~x",
        "i": "1.10",
        "j": "=",
        "k": "on",
    }
    assert Document("f", b"a: 1e3\nb: -5\nc: 0.5\nd: true\ne: +1\nf: 12345678901234567890").data == {
        "a": 1000.0,
        "b": -5,
        "c": 0.5,
        "d": True,
        "e": 1,
        "f": "12345678901234567890",
    }
    assert Document("f", b"\xef\xbb\xbfa: b").data == {"a": "b"}


@given(st.binary(max_size=300))
def test_no_bytes_are_more_than_wrong(content):
    try:
        Document("f", content)
    except FileError as error:
        assert "\n" not in str(error)


@given(st.text(max_size=60), st.text(max_size=60))
def test_whatever_stands_in_an_error_it_is_one_line_that_can_be_shown(key, words):
    from andon.text import clean

    said = str(FileError("f", (1, 2), (key, 3), words))
    assert clean(said, 4000) == said


def test_durations():
    given_ = {
        "90": None,
        "90s": 90,
        "15m": 900,
        "8h": 28800,
        "2d": 172800,
        "1.5h": 5400,
        " 5 m ": 300,
        90: 90,
        2.5: 2.5,
    }
    for text, seconds in given_.items():
        if seconds is None:
            with pytest.raises(ValueError, match="not a duration"):
                duration(text)
        else:
            assert duration(text) == seconds
    for text in ("", "m", "-5s", "5 s m", "1e3s", "٥s", "5M", "5s\n5s"):
        with pytest.raises(ValueError):
            duration(text)


def test_a_warning_is_no_error(tmp_path):
    path = written(
        tmp_path,
        lines("""
            metrics:
              - {name: a, from: shop, kind: sum, bad: falls, every: 60s, value: "sum(x[5m])", n: "y[60s]"}
              - {name: b, from: shop, kind: sum, bad: falls, value: y, threshold: {above: 5, for: 3m}}"""),
    )
    first, second = load(path).warnings
    assert first.endswith("7:66: lines.checkout.metrics[0].value: [5m] differs from every; write [$every]")
    assert second.endswith("it is bad when this metric falls, and no `below` would see that")


def test_a_control_is_asked_beside_its_metric_and_has_a_window_of_its_own(tmp_path):
    text = lines("""
        watch: {canary: 5m, full: 15m}
        metrics:
          - {name: a, from: shop, kind: count, bad: falls, value: x, n: v, every: 30s,
             control: {value: "y[2m]", n: w}}
          - {name: b, from: shop, kind: gauge, bad: falls, value: z}""")
    found = load(written(tmp_path, text))
    line = found.lines["checkout"]
    a, b, beside = line.measured
    assert (a.name, b.name, beside.name) == ("a", "b", "a (control)")
    assert (beside.value, beside.n, beside.kind, beside.every) == ("y[2m]", "w", "count", 30.0)
    assert (beside.control, beside.beside, b.beside) == (None, None, None)
    assert (line.window_s(a), line.window_s(b)) == (300.0, 900.0)
    (warning,) = found.warnings
    assert "metrics[0].control.value: [2m] differs from every; write [$every]" in warning


def test_a_canary_window_that_no_metric_uses_is_warned_of(tmp_path):
    found = load(written(tmp_path, lines("deploy: {from: shop}\nwatch: {canary: 1m, full: 15m}")))
    (warning,) = found.warnings
    assert "7:13: lines.checkout.watch.canary: no metric of this line has a `control:`" in warning


def test_a_config_means_what_it_says(tmp_path):
    found = load(ROOT / "sample_config.yaml")
    line = found.lines["checkout"]
    assert [entry.target for entry in line.ci] == ["plant/checkout/deploy"]
    assert line.targets == ("plant/checkout/deploy",)
    assert (line.ci[0].every_s, line.deploy.only_way_in, line.deploy.confirm_s, line.watch_s) == (
        2.0,
        True,
        900.0,
        900.0,
    )
    assert line.metrics[0].threshold is None
    assert found.folder == ROOT
    assert len(found.digest) == 16
    assert found.warnings == ()


# ---- where it is read from


def test_it_is_never_read_from_the_current_folder(tmp_path, monkeypatch, capsys):
    written(tmp_path, lines("deploy: {from: shop}"))
    (tmp_path / "andon").mkdir()
    written(tmp_path / "andon", lines("deploy: {from: shop}"))
    monkeypatch.chdir(tmp_path)
    assert cli.run(["status"]) == 2
    assert "no config at " in capsys.readouterr().err
    for name in ("XDG_CONFIG_HOME", "HOME"):
        with monkeypatch.context() as patch:
            patch.setenv(name, ".")
            assert all(place.is_absolute() for place in places())
    monkeypatch.setattr("platformdirs.user_config_path", lambda name: Path("config") / name)
    assert places() == ()
    assert cli.run(["status"]) == 2
    assert "no config at a folder of yours" in capsys.readouterr().err


def test_the_option_beats_the_variable_and_that_beats_the_folder(tmp_path, monkeypatch, capsys):
    def at(name: str, line: str) -> Path:
        (tmp_path / name).mkdir()
        return written(tmp_path / name, f"{SHOP}lines: {{{line}: {{deploy: {{from: shop}}}}}}")

    def read(*options: str) -> str:
        assert cli.run([*options, "gate", "nosuch"]) == 2
        return capsys.readouterr().err

    users = Path(os.environ["XDG_CONFIG_HOME"]) / "andon"
    users.mkdir(parents=True)
    written(users, f"{SHOP}lines: {{users: {{deploy: {{from: shop}}}}}}")
    assert "there are users" in read()
    monkeypatch.setenv("ANDON_CONFIG", str(at("variable", "variables")))
    assert "there are variables" in read()
    option = at("option", "options")
    assert "there are options" in read("-c", str(option))
    monkeypatch.setenv("ANDON_CONFIG", str(tmp_path / "gone.yaml"))
    assert "no config at" in read()  # what is named and missing is not replaced by another


def test_an_empty_option_is_not_taken_for_none(capsys):
    for option in ("-c", "--ledger", "--as"):
        with pytest.raises(SystemExit) as ended:
            cli.run([option, "", "status"])
        assert ended.value.code == 2
        assert "it is empty" in capsys.readouterr().err


# ---- schema and reference


def keys_of(kind: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(kind)}


FILE_STRUCTS = [
    item
    for item in vars(configfile).values()
    if isinstance(item, type) and issubclass(item, msgspec.Struct) and item.__module__ == "andon.configfile"
]
STATION_NAMES = ("ci", "deploy", "metrics", "notify")


def adapters_keys(name: str) -> set[str]:
    adapter = registry.find(name)
    stations = [getattr(adapter, station) for station in STATION_NAMES]
    return keys_of(adapter.options).union(*(keys_of(station.options) for station in stations if station))


def test_the_structs_are_found():
    assert len(FILE_STRUCTS) == 9
    assert {"plant", "buildbot", "command", "prometheus"} <= set(registry.names())


def test_every_key_of_the_core_stands_in_the_sample():
    written_there = set()

    def walk(value: object) -> None:
        if isinstance(value, dict):
            written_there.update(value)
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    sample = (ROOT / "sample_config.yaml").read_text()
    walk(Document("sample", sample.encode()).data)
    mentioned = {"ledger", "n", "below", "control", "canary"}  # in a comment, or in one of its lines only
    for kind in FILE_STRUCTS:
        for key in keys_of(kind) - written_there:
            assert key in mentioned, f"{key} of {kind.__name__} is not in the sample"
            assert f"{key}:" in sample, f"{key} of {kind.__name__} is not even mentioned in the sample"


def reference() -> dict[str, str]:
    """The sections of the reference by their heading."""
    sections: dict[str, str] = {}
    name = ""
    for line in (ROOT / "docs" / "configuration.md").read_text().splitlines():
        if line.startswith("#"):
            name = line.lstrip("# ").strip("`")
            sections[name] = ""
        sections[name] = sections.get(name, "") + line + "\n"
    return sections


def rows(section: str) -> set[str]:
    return {line.split("`")[1] for line in section.splitlines() if line.startswith("| `")}


SECTIONS = {
    "TopFile": "the top of the file",
    "LineFile": "lines",
    "WatchFile": "watch",
    "NotifyFile": "notify",
    "CIFile": "ci",
    "DeployFile": "deploy",
    "MetricFile": "metrics",
    "ThresholdFile": "threshold",
    "ControlFile": "control",
}


@pytest.mark.parametrize("kind", FILE_STRUCTS, ids=lambda kind: kind.__name__)
def test_the_reference_has_each_key_of_the_core_and_no_other(kind):
    assert rows(reference()[SECTIONS[kind.__name__]]) == keys_of(kind)


@pytest.mark.parametrize("name", registry.names())
def test_the_reference_has_each_key_of_each_adapter_and_no_other(name):
    assert rows(reference()[name]) == adapters_keys(name)


def test_the_schema_is_json_with_every_key_and_nothing_left_to_look_up(capsys):
    assert cli.run(["schema"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads(json.dumps(schema()))
    text = json.dumps(found)
    assert "$ref" not in text
    for kind in FILE_STRUCTS:
        for key in keys_of(kind):
            assert f'"{key}"' in text, f"{key} of {kind.__name__}"
    for name in registry.names():
        for key in adapters_keys(name):
            assert f'"{key}"' in text, f"{key} of {name}"


def fits(value: object, scheme: dict) -> bool:
    """Whether a value fits a schema: the part of JSON Schema that ours uses."""
    if "anyOf" in scheme:
        return any(fits(value, one) for one in scheme["anyOf"])
    if "const" in scheme or "enum" in scheme:
        return value in scheme.get("enum", [scheme.get("const")])
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int}
    kind = scheme.get("type")
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is not None and not isinstance(value, kinds[kind]):
        return False
    if isinstance(value, list):
        return all(fits(item, scheme.get("items", {})) for item in value)
    if isinstance(value, dict):
        known, other = scheme.get("properties", {}), scheme.get("additionalProperties", {})
        if not set(scheme.get("required", ())) <= set(value):
            return False
        return all(
            fits(item, known[key]) if key in known else other is not False and fits(item, other)
            for key, item in value.items()
        )
    return True


@pytest.mark.parametrize("path", ["sample_config.yaml", "examples/releases/andon.yaml"])
def test_the_samples_fit_the_schema(path):
    assert fits(Document(path, (ROOT / path).read_bytes()).data, schema())


@pytest.mark.parametrize("name", ["a typo in a metric", "a typo in a line", "an unknown adapter", "promote: human"])
def test_what_is_wrong_does_not_fit_the_schema(name):
    assert not fits(Document("f", WRONG[name][0].encode()).data, schema())


def test_the_public_names_stay():
    assert set(config.__all__) == {
        *("Config", "Connection", "Entry", "LineConfig"),
        *("duration", "load", "places", "schema"),
    }
    assert stat.S_IMODE((ROOT / "sample_config.yaml").stat().st_mode) & 0o022 == 0 or os.getuid() != 0
    assert LIMIT_BYTES == 1 << 20
