"""A secret is opened where it is used and seen nowhere else; what cannot be opened is said without it."""

import copy
import importlib
import json
import os
import pickle
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from andon import secret
from andon.secret import LIMIT_BYTES, SCHEMES, Secret, SecretError
from tests.helpers import wait_until

CANARY = "tok-5ecret-canary-93"


def why(reference: str) -> str:
    """Why a secret does not open; neither the words nor what led to them hold it."""
    try:
        Secret(reference).open()
    except SecretError as error:
        told = "".join(traceback.format_exception(error)) + repr(error) + str(error)
        assert CANARY not in told
        assert error.__cause__ is None
        return str(error)
    raise AssertionError(f"{reference} opened")


def held(folder: Path, content: str | bytes = CANARY, mode: int = 0o600) -> Path:
    path = folder / "token"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def script(folder: Path, body: str) -> Path:
    path = folder / "print-token"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o700)
    return path


# ---- what opens


def test_each_form_opens(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOP_TOKEN", CANARY)
    assert Secret("env:SHOP_TOKEN").open() == CANARY
    assert Secret(f"file:{held(tmp_path, f'  {CANARY}{chr(10)}')}").open() == CANARY
    assert Secret(f"command:{script(tmp_path, f'echo {CANARY}')}").open() == CANARY
    assert Secret(f"command:printf %s '{CANARY} x'").open() == f"{CANARY} x"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Secret("file:~/token").open() == CANARY
    assert Secret("command:~/print-token").open() == CANARY


def test_a_changed_secret_is_found(tmp_path):
    reference = Secret(f"file:{held(tmp_path, 'first')}")
    assert reference.open() == "first"
    held(tmp_path, "second")
    assert reference.open() == "second"


def test_a_secret_may_hold_any_visible_sign(tmp_path):
    odd = "pä$$ wörd 🗝 '\"`;&|"
    assert Secret(f"file:{held(tmp_path, odd)}").open() == odd


# ---- what is no reference


@pytest.mark.parametrize(
    "text", [CANARY, "", ":", "env", "env:", "file:", "file:  ", "ENV:X", "vault:x", f"x{CANARY}:y", " env:X"]
)
def test_a_value_is_no_reference(text):
    words = why(text)
    assert words.startswith(
        "a secret is given by reference: env:NAME, file:PATH, keyring:SERVICE/USER or command:PROGRAM"
    )
    assert words.endswith("not by its value")


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("file:token", "file:token: write the whole path, beginning with / or ~"),
        ("file:./token", "write the whole path"),
        ("command:./give", "command:./give: write the whole path"),
        ("command:bin/give", "write the whole path"),
        (f"command:give '{CANARY}", "command: a quotation mark is not closed"),
        ("command:'' x", "command: a program is expected"),
        ("env:A\0B", "env: a control character stands in the reference"),
        ("file:/tmp/a\nb", "file: a control character stands in the reference"),
        (f"command:give {CANARY}\x1b", "command: a control character stands in the reference"),
        ("keyring:shop", "keyring:shop: a service and a user are expected: keyring:SERVICE/USER"),
        ("keyring:shop/", "a service and a user are expected"),
        ("keyring:/ann", "a service and a user are expected"),
    ],
)
def test_a_reference_that_cannot_be_meant_is_refused_when_it_is_written(reference, words):
    with pytest.raises(SecretError, match=r".*") as refused:
        Secret(reference)
    assert words in str(refused.value)
    assert CANARY not in str(refused.value)


# ---- env


def test_a_variable_that_is_missing_empty_or_no_text(monkeypatch):
    assert why("env:SHOP_TOKEN") == (
        "env:SHOP_TOKEN: the environment has no such variable; export it before you start andon"
    )
    monkeypatch.setenv("SHOP_TOKEN", "")
    assert why("env:SHOP_TOKEN") == "env:SHOP_TOKEN: it is empty"
    monkeypatch.setenv("SHOP_TOKEN", CANARY * 4000)
    assert why("env:SHOP_TOKEN") == "env:SHOP_TOKEN: larger than 64 KiB: this is no secret"
    for value in (f"{CANARY}\n", f"{CANARY}\x1b[c", f"{CANARY}\x9b", os.fsdecode(CANARY.encode() + b"\xff")):
        monkeypatch.setenv("SHOP_TOKEN", value)
        assert why("env:SHOP_TOKEN") == "env:SHOP_TOKEN: it holds a control character, or is not text"


# ---- file


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o606, 0o644, 0o610, 0o601, 0o777])
def test_a_file_that_others_can_read_is_refused(mode, tmp_path):
    path = held(tmp_path, mode=mode)
    assert why(f"file:{path}") == f"file:{path}: others can read it; chmod 600 {path}"


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_of_ones_own_is_read(mode, tmp_path):
    assert Secret(f"file:{held(tmp_path, mode=mode)}").open() == CANARY


def test_a_symbolic_link_is_refused(tmp_path):
    held(tmp_path)
    link = tmp_path / "link"
    link.symlink_to("token")
    assert why(f"file:{link}") == f"file:{link}: a symbolic link; name the file itself"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away: run as root")
def test_a_file_of_somebody_else_is_refused(tmp_path):
    path = held(tmp_path)
    os.chown(path, 12345, -1)
    assert why(f"file:{path}") == f"file:{path}: it belongs to somebody else"


def test_a_file_that_is_none_a_folder_or_a_pipe_is_refused_at_once(tmp_path):
    assert why(f"file:{tmp_path}/none") == f"file:{tmp_path}/none: No such file or directory"
    assert why(f"file:{tmp_path}/none/at/all") == f"file:{tmp_path}/none/at/all: No such file or directory"
    assert why(f"file:{tmp_path}") == f"file:{tmp_path}: not a plain file"
    os.mkfifo(tmp_path / "pipe", 0o600)
    began = time.monotonic()
    assert why(f"file:{tmp_path}/pipe") == f"file:{tmp_path}/pipe: not a plain file"
    assert why("file:/dev/zero") == "file:/dev/zero: not a plain file"
    assert time.monotonic() - began < 2
    assert "no such home folder" in why("file:~nobody-of-that-name/token")


def test_a_file_that_is_empty_huge_or_binary_is_refused(tmp_path):
    assert why(f"file:{held(tmp_path, '')}").endswith("it is empty")
    assert why(f"file:{held(tmp_path, f'{chr(10)} {chr(10)}')}").endswith("it is empty")
    assert why(f"file:{held(tmp_path, CANARY + 'x' * LIMIT_BYTES)}").endswith("larger than 64 KiB: this is no secret")
    assert why(f"file:{held(tmp_path, CANARY.encode() + bytes([0xFF, 0xFE]))}").endswith("token: not text")
    assert why(f"file:{held(tmp_path, f'{CANARY}{chr(10)}second')}").endswith(
        "it holds a control character, or is not text"
    )
    assert why(f"file:{held(tmp_path, f'{CANARY}{chr(0)}x')}").endswith("it holds a control character, or is not text")
    assert Secret(f"file:{held(tmp_path, 'x' * LIMIT_BYTES)}").open() == "x" * LIMIT_BYTES


# ---- command


def test_a_program_that_fails_is_said_without_what_it_said(tmp_path, capfd):
    path = script(tmp_path, f"echo {CANARY}; echo {CANARY} >&2; exit 3")
    assert why(f"command:{path} --token {CANARY}") == f"command:{path}: ended with 3"
    path = script(tmp_path, f"echo {CANARY}; kill -9 $$")
    assert why(f"command:{path}") == f"command:{path}: ended with signal 9"
    assert why(f"command:no-such-program-anywhere {CANARY}") == "command:no-such-program-anywhere: no such program"
    assert why(f"command:{tmp_path} {CANARY}") == f"command:{tmp_path}: Permission denied"
    assert why(f"command:{script(tmp_path, 'true')} {CANARY}").endswith("print-token …: it is empty")
    assert capfd.readouterr() == ("", "")


def test_a_program_that_prints_too_much_or_no_text_is_ended(tmp_path):
    began = time.monotonic()
    assert why("command:yes").endswith("yes: larger than 64 KiB: this is no secret")
    assert time.monotonic() - began < 5
    assert why(f"command:printf '{CANARY}\\377'") == "command:printf: not text"
    assert why(f"command:printf '{CANARY}\\n2'").endswith("it holds a control character, or is not text")


@pytest.mark.parametrize(
    "body", ["sleep 600", "echo started; exec sleep 600", "sleep 600 & sleep 600", "sleep 600 & exit 0"]
)
def test_a_program_that_hangs_is_ended_with_all_it_started(body, tmp_path, monkeypatch):
    monkeypatch.setattr(secret, "LIMIT_S", 0.5)
    path = script(tmp_path, f"echo $$ > {tmp_path}/pid; {body}")
    began = time.monotonic()
    assert why(f"command:{path} {CANARY}") == f"command:{path}: no answer in 0.5 s"
    assert time.monotonic() - began < 5
    group = int((tmp_path / "pid").read_text())
    wait_until(lambda: not members(group), what="the program's session has ended")


def members(group: int) -> list[str]:
    """The processes of a process group that still run."""
    done = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True)
    rows = [line.split(None, 2) for line in done.stdout.splitlines()]
    return [row[2] for row in rows if int(row[0]) == group and not row[1].startswith("Z")]


def test_a_program_that_closes_its_output_and_goes_on_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(secret, "LIMIT_S", 0.5)
    path = script(tmp_path, f"echo {CANARY}; exec >&-; exec sleep 600")
    assert why(f"command:{path}") == f"command:{path}: no answer in 0.5 s"


def test_a_program_cannot_ask_the_terminal(tmp_path):
    assert Secret(f"command:{script(tmp_path, 'cat; echo end')}").open() == "end"


# ---- keyring

KEYRING = """
import sys, time
class Locked(Exception):
    pass
class Ring:
    def get_password(self, service, user):
        if service == "locked":
            raise Locked("the collection is locked: {canary}")
        if service == "slow":
            time.sleep(600)
        if service == "ends":
            sys.exit("{canary}")
        held = {{
            "shop": "{canary}", "https://ci/x": "{canary}", "empty": "", "huge": "{canary}" * 9999, "line": "{canary}\\n",
            "escape": "{canary}\\x1b[c", "binary": b"{canary}\\xff", "surrogate": "{canary}\\udcff",
        }}
        return held.get(service) if user == "ann" else None
class PlaintextKeyring(Ring):
    pass
class Chain:
    def __init__(self, *rings):
        self.backends = rings
    def get_password(self, service, user):
        raise AssertionError("the chain would ask the plain-text one, too")
Alt = type("BasicKeyring", (Ring,), {{"__module__": "keyrings.alt.pyfs"}})
class Empty(Ring):
    def get_password(self, service, user):
        return None
ring = Ring()
def get_keyring():
    return ring
"""


@pytest.fixture
def keyring(tmp_path, monkeypatch):
    """A keyring that has two entries, one service that is locked, and one that does not answer."""
    (tmp_path / "keyring.py").write_text(KEYRING.format(canary=CANARY))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "keyring", raising=False)
    yield
    sys.modules.pop("keyring", None)


def test_without_a_keyring_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert why("keyring:shop/ann") == "keyring:shop/ann: install andon[keyring] for this"


def test_a_keyring_opens_or_says_why_and_nothing_else_is_tried(keyring, monkeypatch):
    assert Secret("keyring:shop/ann").open() == CANARY
    assert Secret("keyring:https://ci/x/ann").open() == CANARY
    assert why("keyring:shop/bo") == "keyring:shop/bo: the keyring holds no such entry"
    assert why("keyring:empty/ann") == "keyring:empty/ann: it is empty"
    for service, error in (("locked", "Locked"), ("ends", "SystemExit")):
        assert why(f"keyring:{service}/ann") == (
            f"keyring:{service}/ann: the keyring does not open ({error}); unlock it, or use file: or env:"
        )
    monkeypatch.setattr(secret, "LIMIT_S", 0.3)
    assert why("keyring:slow/ann") == "keyring:slow/ann: no answer in 0.3 s; unlock it, or use file: or env:"


@pytest.mark.parametrize(
    ("service", "words"),
    [
        ("huge", "larger than 64 KiB: this is no secret"),
        ("line", "it holds a control character, or is not text"),
        ("escape", "it holds a control character, or is not text"),
        ("surrogate", "it holds a control character, or is not text"),
        ("binary", "what the keyring holds there is not text"),
    ],
)
def test_what_a_keyring_holds_must_be_a_line_of_text(keyring, service, words):
    assert why(f"keyring:{service}/ann") == f"keyring:{service}/ann: {words}"


def test_a_keyring_that_keeps_plain_text_is_not_asked(keyring, monkeypatch):
    rings = importlib.import_module("keyring")
    only = "keyring:shop/ann: the only keyring here keeps plain text; install another, or use file: or env:"
    for ring in (rings.PlaintextKeyring(), rings.Alt(), rings.Chain(rings.Alt(), rings.PlaintextKeyring())):
        monkeypatch.setattr(rings, "ring", ring)
        assert why("keyring:shop/ann") == only
    monkeypatch.setattr(rings, "ring", rings.Chain(rings.Empty(), rings.PlaintextKeyring()))
    assert why("keyring:shop/ann") == "keyring:shop/ann: the keyring holds no such entry"
    monkeypatch.setattr(rings, "ring", rings.Chain(rings.Alt(), rings.Empty(), rings.Ring()))
    assert Secret("keyring:shop/ann").open() == CANARY
    monkeypatch.setattr(secret, "_is_plain", lambda kind: False)  # the mutant: without the look, it is opened
    monkeypatch.setattr(rings, "ring", rings.PlaintextKeyring())
    assert Secret("keyring:shop/ann").open() == CANARY


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise RuntimeError('{canary}')", "the keyring does not open (RuntimeError); unlock it, or use file: or env:"),
        ("raise SystemExit(0)", "the keyring does not open (SystemExit); unlock it, or use file: or env:"),
        ("raise ImportError('{canary}')", "install andon[keyring] for this"),
        (
            "import os, time\nwhile not os.path.exists({end!r}): time.sleep(0.01)",
            "no answer in 0.3 s; unlock it, or use file: or env:",
        ),
    ],
)
def test_a_keyring_that_does_not_even_import_is_said(tmp_path, monkeypatch, body, words):
    end = tmp_path / "end"
    (tmp_path / "keyring.py").write_text(body.format(canary=CANARY, end=str(end)))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "keyring", raising=False)
    if "while" in body:
        monkeypatch.setattr(secret, "LIMIT_S", 0.3)
    before = set(threading.enumerate())
    assert why("keyring:shop/ann") == f"keyring:shop/ann: {words}"
    end.touch()
    wait_until(lambda: set(threading.enumerate()) <= before, what="the import that hung has ended")
    sys.modules.pop("keyring", None)


# ---- what is never shown


def test_nothing_shows_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOP_TOKEN", CANARY)
    for reference in ("env:SHOP_TOKEN", f"file:{held(tmp_path)}", f"command:echo {CANARY}"):
        found = Secret(reference)
        assert found.open() == CANARY
        scheme = reference.partition(":")[0]
        for shown in (
            repr(found),
            str(found),
            f"{found}",
            f"{found!s:>40}",
            f"{[found]}",
            f"{(found,)!r}",
        ):
            assert CANARY not in shown
            assert f"Secret({scheme}:***)" in shown
        assert CANARY not in found.where
        assert not hasattr(found, "__dict__")
    assert found.where == "command:echo …"


@pytest.mark.parametrize(
    "way", [copy.copy, copy.deepcopy, pickle.dumps, json.dumps, msgspec.json.encode, msgspec.to_builtins]
)
def test_it_is_not_copied_and_not_written_out(way):
    with pytest.raises(TypeError) as refused:
        way(Secret(f"command:echo {CANARY}"))
    assert CANARY not in str(refused.value)


def test_no_process_is_called_with_it(tmp_path):
    seen = tmp_path / "seen"
    path = script(tmp_path, f"tr '\\0' ' ' < /proc/$$/cmdline > {seen}; cat {held(tmp_path)}")
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("needs /proc: Linux")
    assert Secret(f"command:{path}").open() == CANARY
    assert CANARY not in seen.read_text()


@given(st.text(max_size=80))
def test_whatever_is_written_it_is_a_reference_or_one_sentence(text):
    try:
        found = Secret(text)
    except SecretError as error:
        assert "\n" not in str(error)
    else:
        assert text.partition(":")[0] in SCHEMES
        assert repr(found).endswith(":***)")
        assert found.where


def test_a_secret_that_does_not_open_is_said_by_name_and_the_rest_goes_on(tmp_path):
    """From the config to `andon check`: the source is named, the secret is not."""
    config = tmp_path / "andon.yaml"
    config.write_text(
        "connections:\n"
        "  shop: {adapter: plant}\n"
        f"  bb: {{adapter: buildbot, url: 'http://127.0.0.1:9', token: 'command:sh -c \"echo {CANARY}; exit 4\"'}}\n"
        "lines:\n"
        "  checkout: {ci: [{from: bb, builders: {unit: test}}], deploy: {from: shop}}\n"
    )
    config.chmod(0o600)
    program = Path(sys.executable).with_name("andon")
    argv = [str(program), "-c", str(config), "--ledger", str(tmp_path / "l" / "ledger.db"), "check"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "✗ checkout/bb: denied" in done.stdout
    assert "command:sh: ended with 4" in done.stdout
    assert "✓ checkout/shop: " in done.stdout
    assert CANARY not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
