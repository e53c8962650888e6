"""A real Buildbot: a master, a worker `tests` for the builder `unit`, a worker `deploys` for the builder `deploy`.

A change that is posted to it is tested at its revision; once its tests have passed it is deployed. Both builders run a
command of the caller, in a checkout of the revision where that is wanted (it takes a second). Requests are never merged:
every change is tested, and shipped in its turn.
"""

import json
import signal
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.servers.need import need
from tests.servers.process import Program, answers, free_port, until
from tests.servers.repository import Repository

PASSED, FAILED, CANCELLED = 0, 2, 6
"""Buildbot's results."""

REVISION = "%(src::revision)s"
"""As the value of a command's environment: the revision that is built."""

_CONFIG = '''\
"""Written by tests/servers/buildbot.py."""
import json
from pathlib import Path

import types

import sqlalchemy
from buildbot.plugins import schedulers, steps, util, worker
from buildbot.www import rest
from twisted.internet import defer

# Buildbot 4.3 writes answers from a thread of its own, which Twisted does not allow: now and then, mostly when a client
# hangs up, the master is deaf from then on (twisted/twisted#11625). Written from the loop, answers are the same.
rest.threads = types.SimpleNamespace(deferToThread=defer.maybeDeferred)


@sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "connect")
def hurry(connection, _):
    """A test's database need not outlive the machine, only the master."""
    connection.execute("pragma synchronous = off")


S = json.loads(Path(__file__).with_name("settings.json").read_text())


def shell(name):
    given = S["builders"][name]
    env = {key: util.Interpolate(text) if text == S["revision"] else text for key, text in given["env"].items()}
    return steps.ShellCommand(name=name, command=given["command"], env=env, haltOnFailure=True)


def builder(name, workername):
    factory = util.BuildFactory()
    if S["builders"][name]["checkout"]:
        factory.addStep(steps.Git(name="checkout", repourl=S["repository"], mode="incremental", branch="main"))
    factory.addStep(shell(name))
    return util.BuilderConfig(name=name, workernames=[workername], factory=factory, collapseRequests=False)


main = schedulers.SingleBranchScheduler(
    name="main", change_filter=util.ChangeFilter(branch="main"), treeStableTimer=None, builderNames=["unit"])
BuildmasterConfig = {
    "workers": [worker.Worker("tests", "pass", max_builds=2), worker.Worker("deploys", "pass", max_builds=1)],
    "protocols": {"pb": {"port": f"tcp:{S['pb']}:interface=127.0.0.1"}},
    "db": {"db_url": "sqlite:///state.sqlite"},
    "builders": [builder("unit", "tests"), builder("deploy", S["deploys_on"])],
    "schedulers": [
        main,
        schedulers.Dependent(name="ship", upstream=main, builderNames=["deploy"]),
        schedulers.ForceScheduler(name="force", builderNames=["unit", "deploy"]),
    ],
    "change_source": [],
    "buildbotNetUsageData": None,
    "title": "shop", "titleURL": "http://127.0.0.1/", "buildbotURL": S["url"] + "/",
    "www": {"port": f"tcp:{S['port']}:interface=127.0.0.1", "plugins": {}, "change_hook_dialects": {"base": True}},
}
'''

_WORKER = '''\
"""Written by tests/servers/buildbot.py."""
from twisted.application import service

from buildbot_worker.bot import Worker

application = service.Application("buildbot-worker")
Worker("127.0.0.1", {pb}, "{name}", "pass", {base!r}, keepalive=30, maxdelay=1).setServiceParent(application)
'''


class Buildbot:
    """One master and its two workers, kept in `folder`."""

    workers = ("tests", "deploys")

    def __init__(
        self,
        folder: Path,
        repository: Repository,
        unit: Sequence[str] = ("sh", "unit.sh"),
        deploy: Sequence[str] = ("sh", "deploy.sh"),
        deploy_env: Mapping[str, str] | None = None,
        checkout: tuple[str, ...] = ("unit", "deploy"),
        deploys_on: str = "deploys",
    ) -> None:
        self.folder = folder
        self.repository = repository
        self._settings = folder / "master" / "settings.json"
        settings: dict[str, Any] = json.loads(self._settings.read_text()) if self._settings.exists() else {}
        port = settings.get("port") or free_port()
        self.url = f"http://127.0.0.1:{port}"
        settings |= {"port": port, "pb": settings.get("pb") or free_port(), "url": self.url}
        settings |= {"repository": str(repository.folder), "deploys_on": deploys_on, "revision": REVISION}
        settings["builders"] = {
            "unit": {"command": list(unit), "env": {"REVISION": REVISION}, "checkout": "unit" in checkout},
            "deploy": {
                "command": list(deploy),
                "env": {"REVISION": REVISION, **(deploy_env or {})},
                "checkout": "deploy" in checkout,
            },
        }
        self.settings = settings
        self.master = Program("master", folder)

    def worker(self, name: str) -> Program:
        """The worker's program."""
        return Program(f"worker-{name}", self.folder)

    def start(self) -> None:
        """Start everything; it returns when both workers are connected. If it cannot, what was started is ended."""
        try:
            self._write()
            self.start_master()
            for name in self.workers:
                self.start_worker(name)
            self.wait_connected()
        except BaseException:
            self.stop()
            raise

    def start_master(self) -> None:
        """Start the master alone; it returns when it answers."""
        self.master.start([need("buildbot"), "start", "--nodaemon", "master"], cwd=self.folder)
        self.master.ready(lambda: answers(f"{self.url}/api/v2/builders?limit=1"), 60)

    def start_worker(self, name: str) -> None:
        """Start one worker."""
        base = self.folder / f"worker-{name}"
        command = [need("twistd"), "--nodaemon", "--pidfile=", "--python=buildbot.tac", "--logfile=-"]
        self.worker(name).start(command, cwd=base)

    def wait_connected(self) -> None:
        """Wait until both workers are connected."""
        until(lambda: all(item["connected_to"] for item in self.get("workers")["workers"]), 30, "workers connected")

    def reconfigure(self, deploys_on: str) -> None:
        """Let another worker serve the builder `deploy`; it returns when the running master has read it."""
        self.settings["deploys_on"] = deploys_on
        self._write()
        self.master.signal(signal.SIGHUP)
        wanted = {name: {"tests": 1, "deploys": 0}[name] + (name == deploys_on) for name in self.workers}

        def read() -> bool:
            return {item["name"]: len(item["configured_on"]) for item in self.get("workers")["workers"]} == wanted

        until(read, 30, f"the builder deploy on the worker {deploys_on}")

    def stop(self) -> None:
        """End the workers, then the master."""
        for name in self.workers:
            self.worker(name).stop()
        self.master.stop(20)

    def get(self, path: str, **query: object) -> Any:
        """What the REST API says at `path`."""
        url = f"{self.url}/api/v2/{path}" + (f"?{urllib.parse.urlencode(query, doseq=True)}" if query else "")
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)

    def rpc(self, path: str, method: str, **params: object) -> Any:
        """Do something through the REST API."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        request = urllib.request.Request(
            f"{self.url}/api/v2/{path}", body, {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)["result"]

    def post_change(self, revision: str, comments: str, author: str, branch: str = "main") -> None:
        """Tell it of a change, as a hook of the repository does."""
        form = {"revision": revision, "comments": comments, "author": author, "branch": branch}
        form["repository"] = str(self.repository.folder)
        body = urllib.parse.urlencode(form).encode()
        with urllib.request.urlopen(f"{self.url}/change_hook/base", body, timeout=10) as answer:
            answer.read()

    def worker_state(self, name: str) -> dict[str, Any]:
        """What the master says of a worker."""
        state: dict[str, Any] = self.get(f"workers/{name}")["workers"][0]
        return state

    def paused(self, name: str) -> bool:
        """Whether a worker is paused."""
        return bool(self.worker_state(name)["paused"])

    def builder_id(self, name: str) -> int:
        """A builder's id, by its name."""
        return next(item["builderid"] for item in self.get("builders")["builders"] if item["name"] == name)

    def builds(self, builder: str, revision: str) -> list[dict[str, Any]]:
        """The builds of a revision by a builder, oldest first."""
        path = f"builders/{self.builder_id(builder)}/builds"
        builds = self.get(path, property=["revision"], order="-number", limit=100)["builds"]
        return [item for item in reversed(builds) if (item["properties"] or {}).get("revision", [""])[0] == revision]

    def wait_built(self, revision: str, builder: str, within_s: float = 60) -> int:
        """Buildbot's result of the last build of that revision by that builder, once it has ended."""

        def ended() -> dict[str, Any] | None:
            builds = self.builds(builder, revision)
            return builds[-1] if builds and builds[-1]["complete"] else None

        done = until(ended, within_s, f"{builder} of {revision[:7]} ended")
        assert done is not None
        return int(done["results"])

    def _write(self) -> None:
        master = self.folder / "master"
        master.mkdir(parents=True, exist_ok=True)
        self._settings.write_text(json.dumps(self.settings, indent=1))
        (master / "master.cfg").write_text(_CONFIG)
        for name in self.workers:
            base = self.folder / f"worker-{name}"
            base.mkdir(exist_ok=True)
            (base / "buildbot.tac").write_text(_WORKER.format(pb=self.settings["pb"], name=name, base=str(base)))
        if not (master / "buildbot.tac").exists():
            create = Program("create-master", self.folder)
            create.start([need("buildbot"), "create-master", "-q", "master"], cwd=self.folder)
            until(lambda: create.pid is None, 60, "master created")
            until((master / "state.sqlite").exists, 1, create.tail())
