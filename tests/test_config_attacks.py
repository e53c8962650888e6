"""A config under attack: typed wrongly, owned by others, swapped under a running engine, naming plug-ins that misbehave."""

import json
import logging
import os
import re
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml

from andon import configplace, registry
from andon.config import load
from andon.secret import Secret, SecretError
from andon.yamlfile import FileError
from tests.helpers import wait_until
from tests.pty_harness import Program
from tui import cli, opening

ROOT = Path(__file__).parents[1]
ANDON = str(Path(sys.executable).with_name("andon"))
LIMIT_S = 30.0
GOOD = "connections: {shop: {adapter: plant}}\nlines: {checkout: {deploy: {from: shop}}}\n"
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away: run as root")


def written(folder: Path, content: str, mode: int = 0o600) -> Path:
    path = folder / "andon.yaml"
    path.write_text(content)
    path.chmod(mode)
    return path


def why_not(path: Path) -> str:
    """Why a config is refused; empty: it is taken."""
    try:
        load(path)
    except FileError as error:
        return str(error)
    return ""


# ---- a key that is typed wrongly protects nothing, and is never passed over


WHOLE = """\
name: acme
theme: dark
connections:
  shop: {adapter: plant, seed: 7, calm_s: 300}
  own:
    adapter: command
    deploy: [./web, deploy]
    current: [./web, current]
    env: {HOST: web-7}
    env_acts: {DEPLOY_TOKEN: "env:X"}
    limit_s: 5
    compare_and_set: true
  bots: {adapter: buildbot, url: "http://127.0.0.1:9", token: "env:A", token_acts: "env:B", plaintext: true}
lines:
  checkout:
    environment: production
    promote: ci
    ci: [{from: shop, halts: [deploy], every: 5s}]
    deploy: {from: own, confirm: 5m, only_way_in: true, every: 5s}
    watch: {full: 15m}
    notify: [{from: shop}]
    metrics:
      - {name: conv, from: shop, kind: proportion, bad: falls, value: conversion, n: visits, every: 60s, lag: 60s,
         on_regression: rollback, on_blind: stop, threshold: {below: 0.02, above: 0.9, for: 5m}}
"""
NAMES = {"shop", "own", "bots", "checkout", "HOST", "DEPLOY_TOKEN"}


def keys(text: str) -> Iterator[tuple[str, int]]:
    """Each key of a document that is not a name of one's own, and where it begins."""

    def walk(node: yaml.Node) -> Iterator[tuple[str, int]]:
        for item in node.value if isinstance(node, yaml.CollectionNode) else ():
            if isinstance(item, tuple):
                yield item[0].value, item[0].start_mark.index
                yield from walk(item[1])
            else:
                yield from walk(item)

    return ((key, at) for key, at in walk(yaml.compose(text, Loader=yaml.SafeLoader)) if key not in NAMES)


def mistyped(key: str) -> set[str]:
    """The key as fingers, keyboards and other tools would write it."""
    found = {key.upper(), key.title(), f"{key}s", f"_{key}", f"{key}_", f"{key}{key[-1]}", f"x{key}"}
    if len(key) > 2:
        found |= {key[1:], key[:-1], key[1] + key[0] + key[2:], key.replace("_", "-") if "_" in key else f"{key}-"}
    return found - {key}


def test_no_mistyped_key_is_passed_over(tmp_path):
    assert why_not(written(tmp_path, WHOLE)) == ""
    tried = 0
    for key, at in keys(WHOLE):
        for wrong in mistyped(key):
            text = WHOLE[:at] + wrong + WHOLE[at + len(key) :]
            said = why_not(written(tmp_path, text))
            assert re.match(rf"{tmp_path}/andon\.yaml:\d+:\d+: ", said), (key, wrong, said)
            place = f":{text.count(chr(10), 0, at) + 1}:{at - text.rfind(chr(10), 0, at)}: "
            named = "unknown key" in said and place in said and (wrong in said)
            assert named or "is missing" in said or "needs at least one" in said or "needs current" in said, said
            tried += 1
    assert tried > 300


@pytest.mark.parametrize(
    "text",
    [
        "on_regresion: rollback",
        "on_blind: Stop",
        "on_regression: [rollback]",
        "threshold: {below: '0.02'}",
        "only_way_in: yes",
        "token_act: env:X",
    ],
)
def test_a_protection_that_is_written_wrongly_is_refused_not_left_out(text, tmp_path):
    key = text.partition(":")[0]
    at = next(at for name, at in keys(WHOLE) if name[:5] == key[:5] and name[:9] == key[:9])
    end = next(at + len(found[0]) for found in [re.match(r"[^,{}\[\]]*(\{[^}]*\}|\[[^\]]*\])?", WHOLE[at:])])
    said = why_not(written(tmp_path, WHOLE[:at] + text + WHOLE[end:]))
    assert re.match(rf"{tmp_path}/andon\.yaml:\d+:\d+: ", said), said


# ---- umask × owner × symbolic link


@pytest.mark.parametrize("link", ["itself", "link", "link of another"])
@pytest.mark.parametrize("owner", ["me", pytest.param("another", marks=as_root)])
@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_a_config_is_taken_only_if_nobody_else_can_change_it(mask, owner, link, tmp_path):
    folder = tmp_path / "real"
    folder.mkdir(mode=0o700)
    before = os.umask(mask)
    try:
        path = folder / "andon.yaml"
        path.write_text(GOOD)
    finally:
        os.umask(before)
    named = path
    if link != "itself":
        named = tmp_path / "link.yaml"
        named.symlink_to(path)
        if link == "link of another" and os.getuid() == 0:
            os.lchown(named, 12345, -1)  # who swaps it can only lead to another file of ours
    if owner == "another":
        os.chown(path, 12345, -1)
    said = why_not(named)
    if owner == "another":
        assert "belongs to somebody else" in said
    elif mask == 0:
        assert "others can write to it; chmod go-w" in said
    else:
        assert said == ""


@pytest.mark.parametrize("link", ["itself", "symbolic", "hard"])
@pytest.mark.parametrize("owner", ["me", pytest.param("another", marks=as_root)])
@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_a_secret_file_opens_only_if_nobody_else_can_read_it(mask, owner, link, tmp_path):
    path, named = tmp_path / "token", tmp_path / "link"
    before = os.umask(mask)
    try:
        path.write_text("tok-5ecret-canary-93")
    finally:
        os.umask(before)
    if owner == "another":
        os.chown(path, 12345, -1)
    if link == "symbolic":
        named.symlink_to(path)
    elif link == "hard":
        named.hardlink_to(path)
    secret = Secret(f"file:{path if link == 'itself' else named}")
    if link == "symbolic":
        words = "a symbolic link"
    elif owner == "another":
        words = "it belongs to somebody else"
    else:
        words = "others can read it" if mask != 0o077 else ""
    if words:
        with pytest.raises(SecretError, match=words):
            secret.open()
    else:
        assert secret.open() == "tok-5ecret-canary-93"


def test_the_looks_at_modes_are_what_refuses(tmp_path, monkeypatch):
    """The mutants: with a look that finds every mode harmless, both files of everybody are taken."""
    path, token = written(tmp_path, GOOD, 0o666), tmp_path / "token"
    token.write_text("tok-5ecret-canary-93")
    token.chmod(0o644)
    assert why_not(path)
    with pytest.raises(SecretError):
        Secret(f"file:{token}").open()
    real = os.fstat
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", lambda number: os.stat_result((real(number).st_mode & ~0o077, *real(number)[1:])))
        assert why_not(path) == ""
        assert Secret(f"file:{token}").open() == "tok-5ecret-canary-93"


@pytest.mark.parametrize(
    ("mode", "owner", "words"),
    [
        (0o700, "me", ""),
        (0o755, "me", ""),
        (0o1777, "me", ""),  # as /tmp: others can add files there, and neither replace nor remove ours
        (0o777, "me", "others can write to its folder; chmod go-w"),
        (0o702, "me", "others can write to its folder; chmod go-w"),
        pytest.param(0o755, "another", "its folder belongs to somebody else", marks=as_root),
        pytest.param(0o1777, "another", "its folder belongs to somebody else", marks=as_root),
    ],
)
def test_nobody_else_can_put_another_config_or_program_in_its_place(mode, owner, words, tmp_path, monkeypatch):
    folder = tmp_path / "conf"
    folder.mkdir()
    path = written(folder, GOOD)
    if owner == "another":
        os.chown(folder, 12345, -1)
    folder.chmod(mode)
    said = why_not(path)
    assert (words in said) if words else said == ""
    monkeypatch.setattr(configplace, "_trust_folder", lambda path: None)  # the mutant: without the look, it is taken
    assert why_not(path) == ""


def too_open(*roots: Path) -> list[str]:
    """Whatever lies there that another person could read, change or look into."""
    found = []
    for root in roots:
        for path in (root, *root.rglob("*")):
            status = path.lstat()
            if not stat.S_ISLNK(status.st_mode) and stat.S_IMODE(status.st_mode) & 0o077:
                found.append(f"{stat.filemode(status.st_mode)} {path}")
    return found


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_whatever_andon_writes_is_its_owners_alone(mask, tmp_path, empty_home, monkeypatch):
    """Ledger, its sidecars, log, plant world, caches and pictures, in folders that it made itself."""
    (tmp_path / "conf").mkdir(mode=0o700)
    path = written(tmp_path / "conf", "name: acme\n" + GOOD)
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    for name, folder in {"HOME": "", "XDG_STATE_HOME": "state", "XDG_CACHE_HOME": "cache"}.items():
        monkeypatch.setenv(name, str(home / folder))
    launch = f"umask {mask:03o}; exec \"$0\" -c '{path}'"
    with Program(["sh", "-c", launch, ANDON]) as room:
        room.wait_for("stop checkout", LIMIT_S)
        state = home / "state" / "andon"
        room.wait_until((state / "ledger.db-wal").exists, LIMIT_S)
        room.type("\x10")
        room.wait_for("Search for commands", LIMIT_S)
        room.type("save a picture")
        room.wait_for("without what looks secret", LIMIT_S)
        room.type("\r")
        room.wait_until(lambda: list(state.glob("screenshots/*.svg")), LIMIT_S)
        present = {file.relative_to(home).as_posix() for file in home.rglob("*")}
        wide = too_open(home)
    expected = {"ledger.db", "ledger.db-wal", "ledger.db-shm", "andon.log", "screenshots"}
    assert {f"state/andon/{name}" for name in expected} <= present
    assert any("world" in name for name in [*present, *map(str, (tmp_path / "conf").iterdir())]), present
    assert wide == []
    assert too_open(tmp_path / "conf") == []


def test_who_only_looks_makes_no_folder_that_others_can_write_to(tmp_path, monkeypatch):
    """`check` makes the plant's world, `status` a cache: with all the folders above them."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (tmp_path / "conf").mkdir(mode=0o700)
    path = written(tmp_path / "conf", GOOD)
    for name, folder in {"HOME": "", "XDG_STATE_HOME": ".local/state", "XDG_CACHE_HOME": ".cache"}.items():
        monkeypatch.setenv(name, str(home / folder))
    before = os.umask(0)
    try:
        for command in ("check", "status"):
            subprocess.run([ANDON, "-c", str(path), command], capture_output=True, check=False, timeout=LIMIT_S)
    finally:
        os.umask(before)
    assert (home / ".local" / "state" / "andon").exists()
    assert too_open(home) == []


def test_the_log_that_follows_a_full_one_is_its_owners_alone_too(tmp_path, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", logging.raiseExceptions)
    before = os.umask(0)
    try:
        path = opening._log_to(tmp_path / "state" / "andon.log")
        handler = next(one for one in logging.getLogger().handlers if getattr(one, "baseFilename", "") == str(path))
        handler.doRollover()
    finally:
        os.umask(before)
        logging.getLogger().removeHandler(handler)
        handler.close()
    assert {item.name for item in path.parent.iterdir()} == {"andon.log", "andon.log.1"}
    assert too_open(tmp_path / "state") == []


# ---- a config that is swapped


def test_what_was_looked_at_is_what_is_read(tmp_path, monkeypatch):
    """Read through the descriptor that was looked at: a file put in its place in between is not."""
    path = written(tmp_path, "name: trusted\n" + GOOD)
    other = tmp_path / "other.yaml"
    other.write_text("name: swapped\n" + GOOD)
    look = configplace._trust

    def look_and_swap(path: Path, status: os.stat_result) -> None:
        look(path, status)
        other.replace(path)

    monkeypatch.setattr(configplace, "_trust", look_and_swap)
    assert load(path).name == "trusted"
    assert "swapped" in path.read_text()


SCRIPT = """\
#!/bin/sh
case "$ANDON_DO" in
halted) echo round >>rounds; echo '{"parts": []}' ;;
*) echo null ;;
esac
"""
SWAPPED = [
    ("other scripts", ("[./web]", "[./evil]"), 0o600),
    ("a script more", ("watch:", "ci: [{from: own}]\n    watch:"), 0o600),
    ("nonsense", (":", "["), 0o600),
    ("one that others can write", ("x", "x"), 0o666),
]


def test_a_config_that_is_swapped_under_a_running_engine_is_not_read(tmp_path):
    """What an engine began with is what it goes on with, and what the ledger says it ran with."""
    text = textwrap.dedent("""\
        connections:
          own: {adapter: command, current: [./web], halted: [./web], halt: [./web], release: [./web], ci_watch: [./evil]}
        lines:
          checkout:
            deploy: {from: own, halts: [deploy], every: 1s}
            watch: {full: 15m}
        """)
    path = written(tmp_path, text)
    for name, body in (("web", SCRIPT), ("evil", "#!/bin/sh\ntouch evil-ran\n")):
        (tmp_path / name).write_text(body)
        (tmp_path / name).chmod(0o700)
    rounds = tmp_path / "rounds"
    argv = [ANDON, "-c", str(path), "--ledger", str(tmp_path / "state" / "ledger.db"), "watch"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as engine:
        try:
            for _, (old, new), mode in SWAPPED:
                before = rounds.read_text().count("\n") if rounds.exists() else 0
                wait_until(lambda b=before: rounds.exists() and rounds.read_text().count("\n") > b, LIMIT_S)
                fresh = tmp_path / "fresh.yaml"
                fresh.write_text(text.replace(old, new))
                fresh.chmod(mode)
                fresh.replace(path)
            before = rounds.read_text().count("\n")
            wait_until(lambda: rounds.read_text().count("\n") > before, LIMIT_S)
            assert engine.poll() is None
        finally:
            engine.terminate()
            out, err = engine.communicate(timeout=LIMIT_S)
    assert not (tmp_path / "evil-ran").exists()
    started = [event for event in map(json.loads, out.splitlines()) if event["kind"] == "started"]
    fresh.write_text(text)
    fresh.chmod(0o600)
    assert [event["event"]["config"] for event in started] == [load(fresh).digest]
    assert "Traceback" not in err


# ---- plug-ins


BODY = "open({mark!r}, 'a').close()\n"
ADAPTER = BODY + (
    "from andon.registry import Adapter, NoOptions\nADAPTER = Adapter('x', 'x', NoOptions, lambda options, context: None)\n"
)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a distribution whose adapters all lead to one module; says whether that was ever run."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def install(dist: str, module: str, body: str = ADAPTER, names: tuple[str, ...] = ("ci",), leads_to="ADAPTER"):
        mark = tmp_path / f"{module}-ran"
        (site / f"{module}.py").write_text(body.format(mark=str(mark), end=str(tmp_path / "end")))
        folder = site / f"{dist.replace('-', '_')}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.0\n")
        points = "".join(f"{name} = {module}:{leads_to}\n" for name in names)
        (folder / "entry_points.txt").write_text(
            f"[andon.adapters]\n{points}[andon.ledgers]\nsqlite = {module}:ADAPTER\n"
        )
        return mark.exists

    yield install
    (tmp_path / "end").touch()


def using(adapter: str) -> str:
    return f"connections: {{x: {{adapter: '{adapter}'}}, shop: {{adapter: plant}}}}\n" + GOOD.partition("\n")[2]


OURS = sorted(
    point.name
    for point in entry_points(group="andon.adapters")
    if point.dist is not None and point.dist.name == "andon"
)


@pytest.mark.parametrize("names", [("ci",), ("plant", "buildbot", "command", "prometheus", "sqlite", "github")])
def test_a_plug_in_that_no_connection_names_is_never_run(names, installed, tmp_path, capsys):
    """Also where it calls itself as one of ours."""
    ran = installed("acme-x", "acme_x", names=names)
    path = written(tmp_path, GOOD)
    assert load(path).connections["shop"].adapter.title != "x"
    assert cli.run(["-c", str(path), "--ledger", str(tmp_path / "state" / "l.db"), "check"]) == 0
    assert cli.run(["schema"]) == 0
    assert registry.names() == OURS
    assert registry.ledger("/tmp/l.db").__module__ == "adapters.sqlite"
    assert not ran()
    assert "acme" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("ci", "no adapter 'ci'; there are apprise"),
        ("acme:ci", "no distribution 'acme' with an adapter 'ci' is installed"),
        ("acme-y:ci", "no distribution 'acme-y' with an adapter 'ci' is installed"),
        ("acme-x:cd", "no distribution 'acme-x' with an adapter 'cd' is installed"),
        ("acme-x:", "no distribution 'acme-x' with an adapter '' is installed"),
        (":ci", "no adapter ':ci'; there are apprise"),
        ("../site/acme-x:ci", "with an adapter 'ci' is installed"),
        ("acme-x:acme_x:ci", "no distribution 'acme-x:acme_x' with an adapter 'ci' is installed"),
        ("andon:ci", "no distribution 'andon' with an adapter 'ci' is installed"),
        ("acme_x", "no adapter 'acme_x'; there are apprise"),
    ],
)
def test_a_plug_in_runs_only_under_its_whole_name(named, words, installed, tmp_path):
    ran = installed("acme-x", "acme_x")
    said = why_not(written(tmp_path, using(named)))
    assert f"{tmp_path}/andon.yaml:1:19: connections.x.adapter: " in said
    assert words in said
    assert not ran()


def test_a_plug_in_that_is_named_runs_and_no_other_of_its_kind(installed, tmp_path):
    ran = installed("acme-x", "acme_x")
    others = [installed("acme-xx", "acme_xx"), installed("acmex", "acmex"), installed("x-acme", "x_acme")]
    assert load(written(tmp_path, using("acme-x:ci"))).connections["x"].adapter.title == "x"
    assert ran()
    assert not any(other() for other in others)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (BODY + "import no_such_module_anywhere\n", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        (BODY + "raise RuntimeError('broken [/] \\x1b[c')\n", "RuntimeError: broken [/] \ufffd[c"),
        (BODY + "raise SystemExit(0)\n", "ImportError: it raises SystemExit"),
        (BODY + "raise KeyboardInterrupt\n", "ImportError: it raises KeyboardInterrupt"),
        (BODY + "x = (\n", "SyntaxError: '(' was never closed"),
        (BODY + "OTHER = 5\n", "AttributeError: module 'broken' has no attribute 'ADAPTER'"),
        (BODY + "ADAPTER = 5\n", "adapter 'broken:ci' is not an andon.registry.Adapter"),
        (BODY + "import os, time\nwhile not os.path.exists({end!r}): time.sleep(0.01)\n", "has not ended within 0.5 s"),
    ],
)
def test_a_plug_in_that_fails_at_import_is_one_sentence(body, words, installed, tmp_path, monkeypatch, capsys):
    if "while" in body:
        monkeypatch.setattr(registry, "LOAD_LIMIT_S", 0.5)
    installed("broken", "broken", body)
    monkeypatch.delitem(sys.modules, "broken", raising=False)
    path = written(tmp_path, using("broken:ci"))
    code = cli.run(["-c", str(path), "--ledger", str(tmp_path / "state" / "l.db"), "pull", "checkout", "--reason", "x"])
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"{path}:1:19: connections.x.adapter: " in err
    assert words in err
    assert not (tmp_path / "state").exists()
