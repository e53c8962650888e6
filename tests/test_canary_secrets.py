"""Six secrets go through everything andon does, in a world that repeats them wherever it can, and are found nowhere."""

import contextlib
import http.server
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from andon import hiding, hushed, registry, secret, stations
from andon.clock import WallClock
from andon.config import load
from andon.feed import told
from andon.hiding import hide, remember
from andon.model import Change, Deployment, Halted, HoldRef, Identity, LogPart, Metric, Note, Part, Sample, Samples, Why
from andon.ports import Accepted, Changes, Conflict, Denied, Garbled, NoAnswer, Passed, Refused, Unreachable, Wait
from andon.proof import unreadable
from andon.registry import Adapter, Context, NoOptions, Place, Station
from andon.secret import Secret
from andon.stations import Stations
from tests.canaries import TOKENS, echo, encodings, found_in
from tests.helpers import wait_until
from tests.pty_harness import Program

ROOT = Path(__file__).parents[1]
ANDON = str(Path(sys.executable).with_name("andon"))
LIMIT_S = 30.0
ALL = " ".join(map(echo, TOKENS.values()))


@pytest.fixture
def remembered(monkeypatch):
    """The six are opened secrets of this process, and no others."""
    monkeypatch.setattr(hiding, "_known", {})
    monkeypatch.setattr(hiding, "_forms", ())
    for token in TOKENS.values():
        remember(token)


# ---- what is hidden


@pytest.mark.parametrize("kind", TOKENS)
def test_a_secret_is_hidden_in_every_encoding_wherever_it_stands(kind, remembered):
    token = TOKENS[kind]
    for text in (
        echo(token),
        f"x{echo(token)}y",
        json.dumps(echo(token)),
        echo(f"user:{token}\n"),
        echo(token + token),
    ):
        assert found_in(text.encode())
        assert found_in(hide(text).encode()) == []
    assert hide(f"the run of {token} failed") == "the run of *** failed"
    assert hide("nothing of it here…") == "nothing of it here…"


@pytest.mark.parametrize("kind", TOKENS)
def test_the_beginning_of_one_that_was_cut_is_hidden_too(kind, remembered):
    token = TOKENS[kind]
    for size in range(hiding.LEAST, len(token)):
        assert token[size - 4 : size] not in hide(f"it was {token[:size]}…")


def test_the_password_in_an_address_is_hidden_alone_and_a_short_word_never(remembered):
    assert hide("user deploy, password cAnary-p4ss%2Fw0rd") == "user deploy, password ***"
    remember("stage")
    assert hide("stage 2 of 3") == "stage 2 of 3"


def test_only_so_many_are_remembered(remembered):
    for number in range(hiding.KEPT):
        remember(f"another-secret-{number:03}")
    assert len(hiding._known) == hiding.KEPT
    assert hide("another-secret-000") == "***"
    assert hide(TOKENS["github"]) == TOKENS["github"]
    remember("another-secret-000")
    remember("one-more-secret")
    assert hide("another-secret-000") == "***"  # what is used stays


# ---- answers: a source that repeats what it was told


class Parrot:
    """A source of somebody else: everything it gives back repeats all six; or it raises them."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def __getattribute__(self, name: str):
        error = object.__getattribute__(self, "error")
        if error is not None and name in ANSWERS | {"halted": 0, "halt": 0, "release": 0, "whoami": 0, "watch": 0}:

            async def fail(*_: object, **__: object) -> None:
                raise error

            async def fail_soon(*_: object, **__: object):
                yield Wait()
                raise error

            return fail_soon if name == "watch" else fail
        return object.__getattribute__(self, name)

    can = None

    async def close(self) -> None:
        pass

    async def whoami(self):
        return Identity(ALL, ALL, found=(ALL, "x"), missing=(ALL,))

    async def watch(self):
        yield Wait()
        yield Changes((Change("c1", ALL, ALL),))
        yield Deployment("d1", "v1", "settled", by=ALL, words=ALL)

    async def halt(self, hold):
        return Refused(ALL)

    async def release(self, hold, before):
        return Unreachable(ALL)

    async def halted(self):
        return Halted(parts=(Part("p", True, ALL, moving=(ALL,)),))

    async def passed(self, change):
        return Passed("unknown", ALL)

    async def log(self, run, part, start):
        return LogPart((ALL, "line"), 2)

    async def cancel(self, run, why):
        return NoAnswer(ALL)

    async def current(self):
        return Deployment("d1", ALL, "settled")

    async def history(self, n):
        return [Deployment("d1", "v1", "failed", words=ALL)]

    async def deploy(self, version, **more):
        return Accepted(ALL)

    async def abort(self, deployment, why):
        return Conflict(ALL)

    async def share(self, version, percent, **more):
        return Refused(ALL)

    async def samples(self, metric, start, end, every):
        return Samples("partial", (Sample(60.0, 1.0),), ALL)

    async def tell(self, note):
        return Refused(ALL)


HOLD, WHY, METRIC = HoldRef("h1", "shop", "ann", "x"), Why("ann", "x"), Metric("m", "x", "sum", "falls", "q")
ANSWERS = {
    "passed": ("c1",),
    "log": ("r1", "p", 0),
    "cancel": ("r1", WHY),
    "current": (),
    "history": (5,),
    "deploy": ("v1",),
    "abort": ("d1", WHY),
    "share": ("v1", 5),
    "samples": (METRIC, 0.0, 60.0, 60.0),
    "tell": (Note("k", "shop", "t", "x"),),
    "halt": (HOLD,),
    "release": (HOLD, Halted()),
    "halted": (),
    "whoami": (),
}
ADAPTER = Adapter("parrot", "repeats", NoOptions, lambda options, context: None)


def opened(tmp_path: Path, source: Parrot):
    """The source as the engine gets it."""
    path = tmp_path / "andon.yaml"
    path.write_text("connections: {shop: {adapter: plant}}\nlines: {shop: {deploy: {from: shop}}}\n")
    path.chmod(0o600)
    config = load(path)
    line = config.lines["shop"]
    station = Station(NoOptions, lambda connection, options, place: source)
    entry = type(line.deploy)("shop", Place("shop", "production", ("x",)), NoOptions(), station, target="shop/x")
    both = type(line)("shop", deploy=entry)
    changed = type(config)(path, config.connections, {"shop": both})
    found = Stations(changed, WallClock(), tmp_path)
    assert found.halting("shop", "shop/x") is found.deploy("shop")
    return found.deploy("shop")


def shown(value: object) -> bytes:
    return f"{value!r} {value} {getattr(value, 'args', '')}".encode()


async def test_no_answer_of_a_source_repeats_a_secret(tmp_path, remembered, monkeypatch):
    source = opened(tmp_path, Parrot())
    for name, args in ANSWERS.items():
        assert found_in(shown(await getattr(source, name)(*args))) == [], name
    facts = [fact async for fact in source.watch()]
    assert len(facts) == 3
    assert found_in(shown(facts)) == []
    assert facts[2].by.startswith("*** *** ")
    monkeypatch.setattr(stations, "hushed", lambda source: source)  # the mutant: as it was answered
    source = opened(tmp_path, Parrot())
    for name, args in ANSWERS.items():
        assert found_in(shown(await getattr(source, name)(*args))), name


@pytest.mark.parametrize("kind", [Unreachable, Denied, Garbled, RuntimeError, KeyError, TimeoutError])
async def test_no_error_of_a_source_repeats_a_secret(kind, tmp_path, remembered):
    """Errors of a port are told in their words, all others only by their kind."""
    for name, args in ANSWERS.items():
        source = opened(tmp_path, Parrot(kind(ALL)))
        with pytest.raises(kind) as failed:
            await getattr(source, name)(*args)
        assert found_in(f"{told(failed.value)} {unreadable(failed.value)}".encode()) == [], name
        assert kind in (RuntimeError, KeyError, TimeoutError) or found_in(shown(failed.value)) == []
    source = opened(tmp_path, Parrot(kind(ALL)))
    with pytest.raises(kind) as failed:
        async for _ in source.watch():
            pass
    assert found_in(f"{told(failed.value)}".encode()) == []


async def test_a_stream_that_is_left_is_closed(tmp_path, remembered):
    closed = threading.Event()

    async def watch():
        try:
            while True:
                yield Wait()
        finally:
            closed.set()

    source = Parrot()
    source.watch = watch
    stream = hushed.hushed(source).watch()
    assert await anext(stream) == Wait()
    await stream.aclose()
    assert closed.is_set()


# ---- the whole program, in a world that repeats them


OWN = """\
#!{python} -IS
import base64, json, os, sys, urllib.parse
do = os.environ["ANDON_DO"]
for what in ("cmdline", "environ"):
    with open(f"/proc/self/{{what}}", "rb") as seen, open(f"{seen}/{{do}}-{{what}}-{{os.getpid()}}", "wb") as kept:
        kept.write(seen.read())
def echo(token):
    packed = [base64.b64encode(b"x" * before + token.encode()).decode() for before in range(3)]
    return " ".join((token, urllib.parse.quote(token, safe=""), *packed))
told = " ".join(echo(os.environ[name]) for name in ("HEX_TOKEN", "DATABASE", "PHRASE") if name in os.environ)
deployment = {{"id": "d1", "version": "v1", "state": "settled", "at": 1767225600, "by": told, "words": told}}
older = {{"id": "d0", "version": "v0", "state": "settled", "at": 1767220000, "verified": True, "by": told}}
if do in ("samples", "ci_passed"):
    print(told, file=sys.stderr)
    sys.exit(77)
if do in ("halt", "release", "tell", "deploy"):
    print(told)
    print(told, file=sys.stderr)
    sys.exit({{"halt": 1, "release": 70, "tell": 9, "deploy": 0}}[do])
print(json.dumps({{
    "current": deployment,
    "halted": {{"parts": [{{"name": "deploy", "halted": False, "note": told, "moving": [told]}}]}},
    "whoami": {{"account": told, "server": told, "found": [told], "missing": [told]}},
    "ci_watch": {{"change": {{"id": "c1", "title": told, "author": told, "at": 1767225600}}}},
}}.get(do, deployment)))
if do == "history":
    print(json.dumps(older))
"""

CONFIG = """\
name: acme
connections:
  bots: {{adapter: buildbot, url: "http://127.0.0.1:{port}", token: "env:CANARY_GITHUB", token_acts: "file:{file}"}}
  prom: {{adapter: prometheus, url: "http://127.0.0.1:{port}", token: "command:{program}"}}
  own:
    adapter: command
    {scripts}
    env: {{HEX_TOKEN: "keyring:shop/ann", DATABASE: "env:CANARY_LOGIN"}}
    env_acts: {{PHRASE: "file:{phrase}"}}
lines:
  checkout:
    ci: [{{from: own, every: 1s}}, {{from: bots, builders: {{unit: test}}}}]
    deploy: {{from: own, halts: [deploy], every: 1s}}
    metrics:
      - {{name: conv, from: prom, kind: sum, bad: falls, value: q, every: 10s}}
      - {{name: rate, from: own, kind: sum, bad: falls, value: q, every: 10s}}
    notify: [{{from: own}}]
"""
DO = ("ci_watch", "ci_passed", "halt", "release", "halted", "deploy", "current", "history", "samples", "tell", "whoami")


class Echoing(http.server.BaseHTTPRequestHandler):
    """Answers every request with an error that repeats the credential it came with."""

    def do_GET(self) -> None:
        sent = self.headers.get("Authorization", "none").partition(" ")[2]
        body = json.dumps({"message": echo(sent)[:180], "error": f"{sent} {echo(sent)}"}).encode()
        self.send_response(403)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.server.credentials.add(sent)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


class World:
    """A config of everything, with each secret in another place, and what of it was ever seen."""

    def __init__(self, folder: Path, port: int, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.seen, self.state = folder, folder / "seen", folder / "state"
        self.seen.mkdir()
        (folder / "lib").mkdir()
        token = TOKENS["hex"]
        (folder / "lib" / "keyring.py").write_text(
            f"class Ring:\n    def get_password(self, s, u): return {token!r}\ndef get_keyring(): return Ring()\n"
        )
        files = {kind: self.private(kind, TOKENS[kind]) for kind in ("aws", "passphrase", "jwt")}
        self.private("own", OWN.format(python=sys.executable, seen=self.seen), 0o700)
        program = self.private(
            "program",
            f"#!/bin/sh\nfor what in cmdline environ; do cat /proc/$$/$what >{self.seen}/program-$what-$$; done\n"
            f"cat {shlex.quote(str(files['jwt']))}\n",
            0o700,
        )
        scripts = "\n    ".join(f"{do}: [./own]" for do in DO)
        text = CONFIG.format(port=port, file=files["aws"], phrase=files["passphrase"], program=program, scripts=scripts)
        self.config = self.private("andon.yaml", text)
        patch.setenv("CANARY_GITHUB", TOKENS["github"])
        patch.setenv("CANARY_LOGIN", TOKENS["login"])
        patch.setenv("PYTHONPATH", str(folder / "lib"))
        self.said = b""

    def private(self, name: str, content: str, mode: int = 0o600) -> Path:
        path = self.folder / name
        path.write_text(content)
        path.chmod(mode)
        return path

    def argv(self, *words: str) -> list[str]:
        return [ANDON, "-c", str(self.config), "--ledger", str(self.state / "ledger.db"), *words]

    def say(self, *words: str) -> int:
        """Run a command; what it prints is kept to be searched."""
        done = subprocess.run(self.argv(*words), capture_output=True, check=False, timeout=60)
        self.said += done.stdout + done.stderr
        return done.returncode

    def written(self) -> dict[str, bytes]:
        """Every byte that andon wrote: the ledger's pages and its sidecars, logs, pictures."""
        found = {}
        for root in (self.state, Path(os.environ["HOME"])):
            for path in root.rglob("*"):
                with contextlib.suppress(FileNotFoundError):
                    found.update({str(path): path.read_bytes()} if path.is_file() else {})
        return found

    def ledger(self) -> bytes:
        return b"".join(content for name, content in self.written().items() if "ledger.db" in name)


@pytest.fixture
def world(tmp_path, monkeypatch) -> Iterator[World]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echoing)
    server.credentials = set()
    threading.Thread(target=server.serve_forever, name="echoing", daemon=True).start()
    made = World(tmp_path, server.server_address[1], monkeypatch)
    made.credentials = server.credentials
    yield made
    server.shutdown()
    server.server_close()


@pytest.mark.nightly
def test_the_world_repeats_them_where_nothing_is_hidden(world):
    """The mutant: without the edge, they are in the ledger and in what commands print."""
    world.private("lib/sitecustomize.py", "import andon.secret\nandon.secret.remember = lambda secret: None\n")
    with subprocess.Popen(world.argv("watch"), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as engine:
        try:
            for kind in ("hex", "login"):
                for how in ("raw", "quoted", "base64+0"):
                    form = encodings(TOKENS[kind])[how]
                    wait_until(lambda form=form: form in world.ledger(), LIMIT_S, f"the ledger has {kind} ({how})")
            assert world.say("check") == 1
            assert found_in(world.said)
        finally:
            engine.send_signal(signal.SIGTERM)
            engine.communicate(timeout=LIMIT_S)


def test_nothing_that_andon_writes_prints_or_starts_shows_a_secret(world):
    with subprocess.Popen(world.argv("watch"), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as engine:
        try:
            # Each source was followed, and what it repeated has come into the ledger.
            for name in (b'"deployment"', b'"changes"', b"bots", b"prom"):
                wait_until(lambda name=name: name in world.ledger(), LIMIT_S, f"the ledger has {name}")
            wait_until(lambda: list(world.seen.glob("samples-environ-*")), LIMIT_S, "a script was asked for samples")
            wait_until(lambda: world.credentials >= {TOKENS["github"], TOKENS["jwt"]}, LIMIT_S)
            assert world.say("check") == 1
            assert world.say("check", "--json") == 1
            assert world.say("pull", "checkout", "--reason", "it fails", "--wait", "5s") == 1
            world.say("rollback", "checkout", "--to", "v0", "--reason", "it fails", "--wait", "2s")
            world.say("push", "checkout", "v2", "--reason", "the fix", "--wait", "1s")
            world.say("resume", "checkout", "--all", "--reason", "fixed", "--wait", "1s")
            for words in (
                ["status"],
                ["status", "checkout", "--json"],
                ["gate", "checkout", "--json"],
                ["audit", "verify"],
            ):
                world.say(*words)
            with Program(world.argv(), columns=140, rows=40) as room:
                room.wait_for("stop checkout", LIMIT_S)
                room.type("\x10save a picture")
                room.wait_for("without what looks secret", LIMIT_S)
                room.type("\r")
                room.wait_until(lambda: [name for name in world.written() if name.endswith(".svg")], LIMIT_S)
                room.type("q")
                room.exit_code(LIMIT_S)
                world.said += room.out
            during = world.written()
        finally:
            engine.send_signal(signal.SIGTERM)
            out, err = engine.communicate(timeout=LIMIT_S)
    assert engine.returncode == 128 + signal.SIGTERM
    world.said += out + err
    assert {"ledger.db", "ledger.db-wal", "ledger.db-shm", "andon.log"} <= {Path(name).name for name in during}
    for name, content in {**during, **world.written(), "what was printed": world.said}.items():
        assert found_in(content) == [], name
    assert world.said.count(b"***") > 20, "they were repeated, and hidden"
    assert b"Traceback" not in world.said
    children(world)


def children(world: World) -> None:
    """What programs were started with: a script has its own secrets in its environment, those of acts only in an act."""
    acts, reads = {"halt", "release", "deploy", "tell"}, {"current", "halted", "whoami", "samples", "ci_watch"}
    done = set()
    for path in world.seen.iterdir():
        do, what, _ = path.name.split("-")
        done.add(do)
        content = path.read_bytes()
        own = {"hex", "login"} | ({"passphrase"} if do in acts else set()) if what == "environ" else set()
        assert found_in(content, *(own if do != "program" else ())) == [], path.name
        if what == "environ" and do != "program":
            assert (encodings(TOKENS["passphrase"])["raw"] in content) == (do in acts), path.name
    assert done >= {"program", "halt"} | reads


async def test_what_only_acts_are_given_is_not_opened_for_a_read(tmp_path):
    """A read goes on where the secret of acts is locked; an act goes nowhere, and says why."""
    script = tmp_path / "own"
    script.write_text('#!/bin/sh\n[ "$ANDON_DO" = current ] && echo null || echo "$WHICH $PHRASE"\n')
    script.chmod(0o700)
    phrase = tmp_path / "phrase"
    given = {
        "deploy": ["./own"],
        "current": ["./own"],
        "env": {"WHICH": "for all"},
        "env_acts": {"WHICH": "for acts", "PHRASE": f"file:{phrase}"},
    }
    adapter = registry.find("command")
    connection = adapter.connect(
        msgspec.convert(given, adapter.options, strict=True), Context("own", tmp_path, WallClock(), tmp_path)
    )
    target = adapter.deploy.open(connection, NoOptions(), Place("shop", "production"))
    assert await target.current() is None
    answer = await target.deploy("v1", expected=None, key="k", through=None)
    assert isinstance(answer, Unreachable)
    assert str(answer) == f"deploy: file:{phrase}: No such file or directory"
    phrase.write_text("open sesame")
    phrase.chmod(0o600)
    assert await target.deploy("v1", expected=None, key="k", through=None) == Accepted("for acts ***")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc: Linux")
def test_who_opens_a_secret_leaves_no_core_and_cannot_be_read(tmp_path):
    code = """
import ctypes, os, resource
from andon.secret import Secret
resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
os.environ["X"] = "tok-5ecret-canary-93"
Secret("env:X").open()
print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), flush=True)
os.abort()
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.stdout, done.returncode) == ("(0, 0) 0\n", -signal.SIGABRT)
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_gives_a_secret_is_not_given_those_of_others(tmp_path, monkeypatch):
    monkeypatch.setattr(secret, "_variables", set())
    monkeypatch.setenv("SHOP_TOKEN", TOKENS["github"])
    monkeypatch.setenv("HELPER_ADDRESS", "kept for it")
    path = tmp_path / "give"
    path.write_text('#!/bin/sh\necho "$SHOP_TOKEN,$HELPER_ADDRESS,${PATH:+path}"\n')
    path.chmod(0o700)
    assert Secret(f"command:{path}").open() == f"{TOKENS['github']},kept for it,path"  # it may be that program's own
    for reference in ("env:SHOP_TOKEN", "env:HELPER_ADDRESS", "env:PATH"):
        Secret(reference)
    assert Secret(f"command:{path}").open() == ",kept for it,path"
