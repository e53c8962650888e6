"""The example deploy step through the `command` adapter: one lock, one record, and nothing half done for long."""

import asyncio
import contextlib
import http.client
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from adapters.command import ADAPTER, CommandDeploy
from andon.clock import WallClock
from andon.config import load
from andon.contract import DeployContract
from andon.model import Why
from andon.ports import Accepted, Conflict, NoAnswer, Refused
from andon.registry import Context, NoOptions, Place
from tests.helpers import until, wait_until
from tests.servers.need import VENV, need
from tests.servers.process import Program, answers, free_port

RELEASE = Path(__file__).parents[2] / "examples" / "releases" / "release"
VERBS = ("current", "history", "abort", "share", "whoami")
WHY = Why("ann", "wrong one [/]")


class Site:
    """One folder of releases: its settings, the script as a person runs it, and the same through the adapter."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.settings = {"RELEASES_DIR": str(folder), "RELEASES_HEALTHY_S": "5"}
        self.settings |= {f"RELEASES_{name}": str(value) for name, value in settings.items()}
        for version in ("1", "2", "3"):
            (folder / "releases" / version).mkdir(parents=True)

    def environment(self, **asked: str) -> dict[str, str]:
        told = {f"ANDON_{name}": value for name, value in asked.items()}
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), **self.settings, **told}

    def start(self, *words: str, **asked: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, RELEASE, *words],
            env=self.environment(**asked),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, **asked: str) -> tuple[int, str, str]:
        """Exit code, first line of stdout, last line of stderr."""
        process = self.start(*words, **asked)
        out, err = process.communicate(timeout=60)
        return process.returncode, out.partition("\n")[0], err.strip().rpartition("\n")[2]

    def adapter(self, *words: str) -> CommandDeploy:
        argv = {verb: [sys.executable, str(RELEASE), verb] for verb in VERBS}
        argv["deploy"] = [sys.executable, str(RELEASE), "deploy", *words]
        options = msgspec.convert({**argv, "env": self.settings, "compare_and_set": True}, ADAPTER.options)
        context = Context(name="releases", folder=self.folder, clock=WallClock(), state=self.folder)
        return ADAPTER.deploy.open(ADAPTER.connect(options, context), NoOptions(), Place("shop", "production"))

    def current(self) -> dict[str, object] | None:
        return json.loads(self.run("current")[1])

    def states(self) -> dict[str, str]:
        rows: dict[str, str] = {}
        for line in (self.folder / "deployments.jsonl").read_text().splitlines():
            row = json.loads(line)
            rows[row["id"]] = row["state"]
        return rows

    def link(self) -> str:
        link = self.folder / "current"
        return link.readlink().name if link.is_symlink() else ""


@pytest.fixture
def site(tmp_path) -> Site:
    return Site(tmp_path / "site")


class Health:
    """A process that says whether it is well."""

    def __init__(self) -> None:
        self.code = 200
        self.asked = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked += 1
                self.send_response(outer.code)
                self.end_headers()

            def log_message(self, *words):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def health() -> Iterator[Health]:
    found = Health()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def measured(tmp_path, health) -> Site:
    """A site that waits for its one process to be well; version 1 runs."""
    site = Site(tmp_path / "site", PROCESSES="web", HEALTH=health.port)
    assert site.run("deploy", VERSION="1")[:2] == (0, "d1")
    return site


def rolling(site: Site, id_: str = "d2") -> None:
    """Wait until a deployment has switched, and waits for its process to be well."""
    wait_until(lambda: site.states().get(id_) == "rolling" and site.link() == "2")


# Compare-and-set and idempotence.


async def test_of_two_at_once_that_expect_the_same_exactly_one_goes_through(shop):
    site, commits = shop
    target = site.adapter()
    expected = (await target.deploy(commits[0], expected=None, key="k", through=None)).ref
    for round_ in range(4):
        pair = commits[1:3] if round_ % 2 else commits[3:5]
        for commit in pair:
            shutil.rmtree(site.folder / "releases" / commit, ignore_errors=True)
        both = await asyncio.gather(
            *(target.deploy(v, expected=expected, key=f"{round_}-{v}", through=None) for v in pair)
        )
        (won,) = [answer for answer in both if isinstance(answer, Accepted)]
        (lost,) = [answer for answer in both if isinstance(answer, Conflict)]
        assert lost.current == won.ref
        current = await target.current()
        assert current is not None
        assert (current.id, current.state) == (won.ref, "settled")
        expected = current.id
    assert len(await target.history(20)) == 5


async def test_what_is_not_expected_any_more_is_told_the_current_id(site):
    for version, id_ in (("1", "d1"), ("2", "d2")):
        assert site.run("deploy", VERSION=version)[:2] == (0, id_)
    assert site.run("deploy", VERSION="3", EXPECTED="d1") == (9, "d2", "d2 is current, not d1")
    assert site.link() == "2"


async def test_the_same_key_deploys_once(site):
    target = site.adapter()
    assert await target.deploy("1", expected=None, key="a", through=None) == Accepted("d1")
    assert (
        await asyncio.gather(*(target.deploy("2", expected="d1", key="b", through="h0ld") for _ in range(3)))
        == [Accepted("d2")] * 3
    )
    assert await target.deploy("1", expected="d2", key="c", through=None) == Accepted("d3")
    assert await target.deploy("2", expected="d1", key="b", through="h0ld") == Accepted("d2")
    first, second, third = reversed(await target.history(20))
    assert [row.version for row in (first, second, third)] == ["1", "2", "1"]
    assert [row.back for row in (first, second, third)] == [False, False, True]
    assert second.words == "through hold h0ld"
    assert (await target.current()).id == "d3"


@pytest.mark.parametrize(
    "version", ["; $(touch x)", "../1", "-rf", "--help", "1\n2", "", "v" * 100_000, "4", ".", "a b"]
)
def test_what_is_no_version_is_refused_and_changes_nothing(site, version):
    site.run("deploy", VERSION="1")
    before = sorted(site.folder.rglob("*"))
    code, out, words = site.run("deploy", VERSION=version)
    assert (code, out) == (1, "")
    assert words
    assert len(words) < 1000
    assert sorted(site.folder.rglob("*")) == before


class TestReleases(DeployContract):
    """The suite that every adapter passes, over the example."""

    @contextlib.asynccontextmanager
    async def opened(self):
        with tempfile.TemporaryDirectory() as folder:
            site = Site(Path(folder))
            for version in ("1", "2"):
                assert site.run("deploy", VERSION=version)[0] == 0
            yield site.adapter()


# What waited never undoes a fix.


@pytest.fixture
def shop(tmp_path) -> tuple[Site, list[str]]:
    """A site over a repository with four commits on main, and one aside."""
    repository = tmp_path / "repository"
    repository.mkdir()
    names = {f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

    def git(*words: str) -> str:
        environment = {**os.environ, **names, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        done = subprocess.run(["git", *words], cwd=repository, env=environment, capture_output=True, check=True)
        return done.stdout.decode().strip()

    git("init", "-q", "-b", "main")
    commits = []
    for number in range(4):
        (repository / "app.txt").write_text(f"{number} [/]")
        git("add", ".")
        git("commit", "-qm", f"change {number}")
        commits.append(git("rev-parse", "HEAD"))
    git("checkout", "-q", "--orphan", "aside")
    git("commit", "-qm", "aside")
    commits.append(git("rev-parse", "HEAD"))
    return Site(tmp_path / "site", REPO=repository), commits


def test_a_release_is_what_the_repository_has(shop):
    site, commits = shop
    assert site.run("deploy", VERSION=commits[1][:8])[:2] == (0, "d1")
    assert site.current()["version"] == commits[1]
    assert (site.folder / "current" / "app.txt").read_text() == "1 [/]"
    assert site.run("deploy", VERSION="0" * 40)[0] == 1


def test_what_is_older_than_what_runs_is_refused_to_a_pipeline_and_allowed_to_a_rollback(shop):
    site, commits = shop
    assert site.run("deploy", VERSION=commits[2])[:2] == (0, "d1")
    assert site.run("deploy", VERSION=commits[2])[:2] == (0, "d1"), "it runs already: nothing to do"
    for version in commits[:2]:
        code, _, words = site.run("deploy", VERSION=version)
        assert code == 1
        assert "older than what runs" in words
    assert site.link() == commits[2]
    assert site.run("deploy", VERSION=commits[0], EXPECTED="d1")[:2] == (0, "d2")
    assert site.current()["back"] is True
    assert site.run("deploy", VERSION=commits[3])[:2] == (0, "d3")
    assert site.current()["back"] is False
    assert site.run("deploy", VERSION=commits[4])[:2] == (0, "d4")  # not an ancestor: somebody means it


def test_when_git_cannot_tell_what_is_older_a_pipeline_is_refused(shop):
    site, commits = shop
    (site.folder / "releases" / "lost").mkdir()
    repository = site.settings.pop("RELEASES_REPO")
    assert site.run("deploy", VERSION="lost")[:2] == (0, "d1")
    site.settings["RELEASES_REPO"] = repository
    code, _, words = site.run("deploy", VERSION=commits[0])
    assert (code, "ANDON_EXPECTED=d1" in words) == (1, True)
    assert site.run("deploy", VERSION=commits[0], EXPECTED="d1")[:2] == (0, "d2")


# What does not become well, what is aborted, and what is killed half way.


def test_what_does_not_become_well_is_switched_back(measured, health):
    health.code = 503
    measured.settings["RELEASES_HEALTHY_S"] = "0.3"
    code, _, words = measured.run("deploy", VERSION="2", EXPECTED="d1", KEY="k")
    assert (code, words) == (1, "2: web did not become healthy in 0.3 s; back to 1")
    assert measured.link() == "1"
    assert measured.states() == {"d1": "settled", "d2": "failed"}
    assert measured.current()["id"] == "d1"
    assert measured.run("deploy", VERSION="2", EXPECTED="d1", KEY="k") == (1, "", words)
    assert len(measured.states()) == 2


def test_a_first_release_that_fails_is_taken_away(tmp_path, health):
    site = Site(tmp_path / "site", PROCESSES="web", HEALTH=health.port, HEALTHY_S=0.2)
    health.code = 503
    assert site.run("deploy", VERSION="1")[0] == 1
    assert site.link() == ""
    assert site.current() is None


def test_reads_do_not_wait_for_a_deployment_that_rolls(measured, health):
    health.code = 503
    process = measured.start("deploy", VERSION="2")
    rolling(measured)
    began = time.monotonic()
    assert measured.current()["state"] == "rolling"
    assert time.monotonic() - began < 1
    assert measured.run("history", "1")[1].startswith('{"id": "d2"')
    assert measured.run("deploy", VERSION="3", EXPECTED="d1") == (9, "d2", "d2 is current, not d1")
    health.code = 200
    assert process.wait(timeout=30) == 0
    process.communicate()
    assert measured.states()["d2"] == "settled"


async def test_a_rolling_deployment_is_aborted(measured, health):
    health.code = 503
    process = measured.start("deploy", VERSION="2")
    await asyncio.to_thread(rolling, measured)
    assert await measured.adapter().abort("d2", WHY) == Accepted("d2")
    _, err = await asyncio.to_thread(process.communicate)
    assert process.returncode == 1
    assert "aborted by ann: wrong one [/]; back to 1" in err
    assert measured.link() == "1"
    assert measured.states()["d2"] == "failed"
    assert await measured.adapter().abort("d2", WHY) == Refused("d2 does not roll any more: it is failed")
    assert isinstance(await measured.adapter().abort("d9", WHY), Refused)
    health.code = 200
    assert measured.run("deploy", VERSION="2")[:2] == (0, "d3")


def killed_half_way(site: Site, health: Health) -> None:
    health.code = 503
    process = site.start("deploy", VERSION="2", EXPECTED="d1", KEY="k")
    rolling(site)
    asked = health.asked
    wait_until(lambda: health.asked > asked)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert site.states()["d2"] == "rolling"


def test_what_was_killed_after_the_switch_is_finished_by_the_next_read(measured, health):
    killed_half_way(measured, health)
    health.code = 200
    assert measured.current()["state"] == "rolling"
    wait_until(lambda: measured.states()["d2"] == "settled")
    assert measured.link() == "2"
    assert measured.run("deploy", VERSION="2", EXPECTED="d1", KEY="k")[:2] == (0, "d2")


def test_what_was_killed_after_the_switch_and_is_not_well_is_switched_back_by_the_next_deployment(measured, health):
    killed_half_way(measured, health)
    measured.settings["RELEASES_HEALTHY_S"] = "0.3"
    assert measured.run("deploy", VERSION="3", EXPECTED="d2")[:2] == (9, "d1")
    assert measured.link() == "1"
    assert measured.states() == {"d1": "settled", "d2": "failed"}


def test_what_was_killed_and_is_then_aborted_is_switched_back(measured, health):
    killed_half_way(measured, health)
    assert measured.run("abort", DEPLOYMENT="d2", WHO="ann", WHY="x")[:2] == (0, "d2")
    assert measured.link() == "1"
    assert measured.states()["d2"] == "failed"


def test_what_was_killed_before_the_switch_did_not_happen(site):
    site.run("deploy", VERSION="1")
    row = {"id": "d2", "version": "2", "state": "rolling", "at": 1.0, "by": "x", "back": False, "share": 100}
    with (site.folder / "deployments.jsonl").open("a") as record:
        record.write(json.dumps({**row, "words": "", "key": "k", "was": "1"}) + '\n{"id": "d3", "vers')
    assert site.run("deploy", VERSION="3", EXPECTED="d1")[:2] == (0, "d3")
    assert [row["id"] for row in map(json.loads, history(site))] == ["d3", "d2", "d1"]
    assert site.current()["id"] == "d3"


def history(site: Site) -> list[str]:
    return site.start("history").communicate()[0].splitlines()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_what_was_begun_is_finished_when_its_caller_gives_up(measured, health, number):
    health.code = 503
    process = measured.start("deploy", VERSION="2")
    rolling(measured)
    os.killpg(process.pid, number)
    process.stdout.close()
    process.stderr.close()
    health.code = 200
    process.wait(timeout=30)
    assert measured.states()["d2"] == "settled"


async def test_in_the_background_a_deployment_outlives_the_call(measured, health):
    health.code = 503
    target = measured.adapter("--background")
    assert await target.deploy("2", expected="d1", key="k", through=None) == Accepted("d2")
    assert (await target.current()).state == "rolling"
    health.code = 200
    await until(lambda: measured.states()["d2"] == "settled")


async def test_a_deployment_that_outlasts_its_call_is_settled_by_a_read(measured, health):
    health.code = 503
    target = measured.adapter()
    target._scripts.options = msgspec.structs.replace(target._scripts.options, limit_s=1.0)
    answer = await target.deploy("2", expected="d1", key="k", through=None)
    assert isinstance(answer, NoAnswer)
    health.code = 200

    async def settled() -> bool:
        current = await target.current()
        return current is not None and (current.id, current.state) == ("d2", "settled")

    await until(settled)


async def test_whoami_names_what_is_missing(site):
    assert (await site.adapter().whoami()).missing == ()
    site.settings |= {"RELEASES_REPO": "/nowhere", "RELEASES_PROCESSES": "web"}
    site.settings |= {"RELEASES_SUPERVISOR": f"http://u:s3cret@127.0.0.1:{free_port()}/RPC2"}
    identity = await site.adapter().whoami()
    assert len(identity.missing) == 2
    assert "s3cret" not in "".join(identity.missing)


# The real thing.

APP = """
import http.server, pathlib, sys
version = (pathlib.Path(__file__).parent / "VERSION").read_text()
if version == "bad": sys.exit(3)
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(503 if version == "sick" and self.path == "/healthz" else 200)
        self.send_header("Content-Length", str(len(version)))
        self.end_headers()
        self.wfile.write(version.encode())
    def log_message(self, *words): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

SUPERVISORD = """
[supervisord]
logfile={folder}/supervisord-own.log
pidfile={folder}/supervisord-own.pid
childlogdir={folder}
[unix_http_server]
file={folder}/s.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""

PROGRAM = """
[program:{name}]
directory={folder}
command={python} {link}/app.py {port}
autostart=false
startsecs=1
startretries=0
"""

HAPROXY = """
global
  stats socket {folder}/h.sock level admin
defaults
  mode http
  timeout connect 1s
  timeout client 5s
  timeout server 5s
frontend shop
  bind 127.0.0.1:{front}
  default_backend web
backend web
  balance roundrobin
  option httpchk GET /healthz
  server one 127.0.0.1:{one} check inter 100 rise 1
  server two 127.0.0.1:{two} check inter 100 rise 1
  server canary 127.0.0.1:{canary} check inter 100 rise 1 weight 0
"""


class Plant(Site):
    """Two processes and a canary under a real supervisord, behind a real HAProxy."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.ports = {name: free_port() for name in ("one", "two", "canary", "front")}
        for version in ("1", "2", "3", "bad", "sick"):
            release = folder / "releases" / version
            release.mkdir(exist_ok=True)
            (release / "VERSION").write_text(version)
            (release / "app.py").write_text(APP)
        config = SUPERVISORD.format(folder=folder)
        for name in ("one", "two", "canary"):
            link = "canary" if name == "canary" else "current"
            config += PROGRAM.format(
                name=name, folder=folder, python=VENV / "python3", link=link, port=self.ports[name]
            )
        (folder / "supervisord.conf").write_text(config)
        (folder / "haproxy.cfg").write_text(HAPROXY.format(folder=folder, **self.ports))
        self.programs = [Program("supervisord", folder), Program("haproxy", folder)]
        self.settings |= {
            "RELEASES_SUPERVISOR": f"unix://{folder}/s.sock",
            "RELEASES_PROCESSES": "one two",
            "RELEASES_HEALTH": f"{self.ports['one']} {self.ports['two']}",
            "RELEASES_CANARY": "canary",
            "RELEASES_CANARY_HEALTH": str(self.ports["canary"]),
            "RELEASES_HAPROXY": f"{folder}/h.sock",
        }

    def start_servers(self) -> None:
        self.programs[0].start([need("supervisord"), "-n", "-c", self.folder / "supervisord.conf"])
        self.start_haproxy()
        self.programs[0].ready((self.folder / "s.sock").exists)

    def start_haproxy(self) -> None:
        self.programs[1].start([need("haproxy"), "-db", "-f", self.folder / "haproxy.cfg"])
        self.programs[1].ready((self.folder / "h.sock").exists)

    def served(self, count: int = 40) -> Counter[str]:
        """The versions that customers are served."""
        found: Counter[str] = Counter()
        for _ in range(count):
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['front']}/", timeout=5) as answer:
                found[answer.read().decode()] += 1
        return found

    def at(self, name: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[name]}/", timeout=5) as answer:
            return str(answer.read().decode())


@pytest.fixture
def plant(tmp_path_factory) -> Iterator[Plant]:
    need("supervisord")
    need("haproxy")
    found = Plant(tmp_path_factory.mktemp("p"))  # sockets want short paths
    try:
        found.start_servers()
        yield found
    finally:
        for program in reversed(found.programs):
            program.stop()


@pytest.mark.servers
async def test_real_processes_are_rolled_shared_and_brought_back(plant):
    target = plant.adapter()
    identity = await target.whoami()
    assert (identity.missing, len(identity.found)) == ((), 7)
    assert await target.deploy("1", expected=None, key="a", through=None) == Accepted("d1")
    assert plant.served(6) == {"1": 6}

    failures: list[str] = []
    over = threading.Event()

    def customers() -> None:
        while not over.is_set():
            try:
                plant.served(1)
            except (OSError, http.client.HTTPException) as error:
                failures.append(str(error))

    customer = threading.Thread(target=customers)
    customer.start()
    try:
        assert await target.deploy("2", expected="d1", key="b", through=None) == Accepted("d2")
        for version in ("bad", "sick"):
            plant.settings["RELEASES_HEALTHY_S"] = "1"
            code, _, words = await asyncio.to_thread(plant.run, "deploy", VERSION=version, EXPECTED="d2")
            assert (code, f"{version}: " in words, "back to 2" in words) == (1, True, True), words
    finally:
        over.set()
        customer.join()
    assert failures == []  # a rolling deployment, and one that is switched back, cost no customer a request
    assert plant.served(6) == {"2": 6}
    assert (await target.current()).id == "d2"
    plant.settings["RELEASES_HEALTHY_S"] = "5"

    assert await target.share("3", 25, expected="d2", key="c") == Accepted("d5")
    assert plant.served(40)["3"] in range(9, 12)
    canary = await target.current()
    assert (canary.id, canary.share, canary.version) == ("d5", 25, "3")
    assert await target.share("3", 50, expected="d5", key="d") == Accepted("d5")
    assert (await target.current()).share == 50
    plant.programs[1].stop()
    plant.start_haproxy()
    assert (await target.current()).share == 0  # what HAProxy says, and not what was set once
    assert await target.share("3", 25, expected="d5", key="e") == Accepted("d5")
    assert await target.abort("d5", WHY) == Accepted("d5")
    assert (await target.current()).id == "d2"
    await until(lambda: plant.served(8) == {"2": 8})


@pytest.mark.servers
def test_a_real_deployment_killed_between_two_processes_is_finished(plant):
    assert plant.run("deploy", VERSION="1")[:2] == (0, "d1")
    process = plant.start("deploy", VERSION="2")
    log = process.stderr
    assert log is not None
    assert log.readline() == "d2: one runs 2\n"
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    with contextlib.suppress(OSError):
        assert plant.at("two") == "1"
    assert plant.states()["d2"] == "rolling"
    plant.current()
    wait_until(lambda: plant.states()["d2"] == "settled", 30)
    assert (plant.at("one"), plant.at("two")) == ("2", "2")
    assert answers(f"http://127.0.0.1:{plant.ports['front']}/")


def test_the_examples_config_is_one():
    config = load(RELEASE.with_name("andon.yaml"))
    assert config.warnings == ()
    assert config.connections["releases"].options.compare_and_set


def test_the_readmes_first_steps_do_what_they_say(tmp_path):
    text = (RELEASE.parent / "README.md").read_text()
    steps = text.partition("```sh\n")[2].partition("```")[0].replace("./release", f"{sys.executable} {RELEASE}")
    done = subprocess.run(["sh"], input=steps, capture_output=True, text=True, check=True, env=environment(tmp_path))
    assert done.stdout.splitlines()[:3] == ["d1", "d2", "d2"]


def environment(folder: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder)}
