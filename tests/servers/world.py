"""A small company on one machine: a shop behind HAProxy, Buildbot that tests and ships it, Prometheus that measures it.

`python -m tests.servers.world start FOLDER` starts it for a person, writes `andon.yaml` there and prints the addresses;
`commit`, `break` and `stop` go on with it. Everything listens on 127.0.0.1, keeps its files in FOLDER, and is ended by
the pid that was written there.
"""

import json
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tests.servers.buildbot import REVISION, Buildbot
from tests.servers.need import ROOT, VENV, need
from tests.servers.process import Program, answers, free_port, until
from tests.servers.repository import Repository

RELEASE = ROOT / "examples" / "releases" / "release"
SHOP = Path(__file__).with_name("shop")
APPS = ("one", "two")
PORTS = ("supervisor", "haproxy", "runtime", "prometheus", *APPS)
CHECKOUTS_A_SECOND = 20
SOUND, BROKEN = '"gold": 5', '"silver": 5'
"""The line of the shop's code that the defect turns: odd customers have no points any more."""

HEALTHY_SHARE, BROKEN_SHARE, THRESHOLD = 0.9, 0.3, 0.6
"""Orders for each checkout: of a sound shop, of a broken one, and between them the bound that the config names."""


class World:
    """The whole company, in `folder`. Start it once, stop it once; another process may do the second."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.releases = self.folder / "releases"
        self.ports = self._ports()
        self.repository = Repository(self.folder / "shop")
        self.supervisord = Program("supervisord", self.folder)
        self.haproxy = Program("haproxy", self.folder)
        self.load = Program("load", self.folder)
        self.prometheus = Program("prometheus", self.folder)
        python = str(VENV / "python3")
        self.buildbot = Buildbot(
            self.folder / "buildbot",
            self.repository,
            unit=[python, "-m", "unittest", "unit"],
            deploy=[python, str(RELEASE), "deploy"],
            deploy_env={**self.release_env(), "ANDON_VERSION": REVISION, "ANDON_WHO": "buildbot"},
            checkout=("unit",),
        )

    @property
    def url(self) -> str:
        """Where customers find the shop."""
        return f"http://127.0.0.1:{self.ports['haproxy']}"

    @property
    def prometheus_url(self) -> str:
        """Where Prometheus answers."""
        return f"http://127.0.0.1:{self.ports['prometheus']}"

    def release_env(self) -> dict[str, str]:
        """What the release script must know; the same for the pipeline and for andon."""
        return {
            "RELEASES_DIR": str(self.releases),
            "RELEASES_REPO": str(self.repository.folder),
            "RELEASES_SUPERVISOR": f"http://shop:shop@127.0.0.1:{self.ports['supervisor']}/RPC2",
            "RELEASES_PROCESSES": " ".join(APPS),
            "RELEASES_HEALTH": " ".join(str(self.ports[name]) for name in APPS),
            "RELEASES_HAPROXY": f"127.0.0.1:{self.ports['runtime']}",
        }

    def start(self) -> None:
        """Start everything and ship a first sound version; it returns when customers are served and measured.

        If it cannot, what was started is ended.
        """
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        self._write_files()
        self.supervisord.start([need("supervisord"), "-n", "-c", str(self.folder / "supervisord.conf")])
        self.haproxy.start([need("haproxy"), "-db", "-f", str(self.folder / "haproxy.cfg")])
        self.buildbot.start()
        self.start_prometheus()
        if not self.repository.run("branch", "--list", "main"):
            self.wait_deployed(self.commit("the shop opens"))
        # Started anew, Buildbot first finishes what it had begun.
        until(self.serves, 60, "every process serves")
        self.haproxy.ready(lambda: answers(self.url))
        self.load.start([sys.executable, "-m", "tests.servers.load", self.url, str(CHECKOUTS_A_SECOND)], cwd=ROOT)

    def stop(self) -> None:
        """End everything that was started."""
        for program in (self.load, self.prometheus):
            program.stop()
        self.buildbot.stop()
        for program in (self.haproxy, self.supervisord):
            program.stop()

    def commit(self, title: str, defect: bool = False, author: str = "Ann Lee <ann@example.org>") -> str:
        """Commit to the shop, and tell Buildbot of it. With `defect` checkout fails for customers with odd numbers."""
        files = {path.name: path.read_text() for path in sorted(SHOP.glob("*.py"))}
        if defect:
            assert SOUND in files["checkout.py"]
            files["checkout.py"] = files["checkout.py"].replace(SOUND, BROKEN)
        sha = self.repository.commit(title, files, author)
        self.buildbot.post_change(sha, title, author)
        return sha

    def deployed_version(self) -> str:
        """The version whose release is current; empty: none."""
        link = self.releases / "current"
        return link.readlink().name if link.is_symlink() else ""

    def deployments(self) -> list[dict[str, Any]]:
        """What the release script's record says of each deployment, oldest first."""
        rows: dict[str, dict[str, Any]] = {}
        record = self.releases / "deployments.jsonl"
        for line in record.read_text().splitlines() if record.exists() else ():
            row = json.loads(line)
            rows[row["id"]] = {**rows.get(row["id"], {}), **row}
        return list(rows.values())

    def serves(self) -> set[str]:
        """The versions that the processes answer with."""
        found = set()
        for name in APPS:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[name]}/", timeout=2) as answer:
                found.add(answer.read().decode().strip())
        return found

    def wait_deployed(self, sha: str, within_s: float = 60) -> None:
        """Wait until that version is current, settled in the record, and served by every process."""

        def there() -> bool:
            rows = self.deployments()
            settled = bool(rows) and rows[-1]["version"] == sha and rows[-1]["state"] == "settled"
            return settled and self.deployed_version() == sha and self.serves() == {sha}

        until(there, within_s, f"{sha[:7]} deployed")

    def wait_built(self, sha: str, builder: str, within_s: float = 60) -> int:
        """Buildbot's result of that builder for that revision, once it has ended."""
        return self.buildbot.wait_built(sha, builder, within_s)

    def worker_paused(self, name: str) -> bool:
        """Whether Buildbot says that a worker is paused."""
        return self.buildbot.paused(name)

    def conversion(self, over: str = "10s") -> float | None:
        """Orders for each checkout of the last seconds, as Prometheus has it; None: no data."""
        query = f"sum(increase(orders_total[{over}])) / sum(increase(checkouts_started_total[{over}]))"
        url = f"{self.prometheus_url}/api/v1/query?query={urllib.parse.quote(query)}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            found = json.load(answer)["data"]["result"]
        value = float(found[0]["value"][1]) if found else float("nan")
        return value if value == value else None

    def start_prometheus(self) -> None:
        """Start Prometheus on what it has stored."""
        self.prometheus.start(
            [
                need("prometheus"),
                f"--config.file={self.folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={self.folder / 'prometheus'}",
                f"--web.listen-address=127.0.0.1:{self.ports['prometheus']}",
            ]
        )
        self.prometheus.ready(lambda: answers(f"{self.prometheus_url}/-/ready"))

    def kill_prometheus(self) -> None:
        """End Prometheus as a crash would; what it measured is on the disk."""
        self.prometheus.kill()

    def config_text(self, ledger_path: Path | str, every_s: int = 10, watch_s: int = 60) -> str:
        """A config for andon over this world."""
        return _CONFIG.format(
            ledger=json.dumps(str(ledger_path)),
            buildbot=self.buildbot.url,
            prometheus=self.prometheus_url,
            release=json.dumps(str(RELEASE)),
            python=json.dumps(str(VENV / "python3")),
            environment=json.dumps({**self.release_env(), "RELEASES_WAIT_S": "8"}),
            every=every_s,
            watch=watch_s,
            for_s=3 * every_s,
            below=THRESHOLD,
        )

    def _ports(self) -> dict[str, int]:
        kept = self.folder / "ports.json"
        if not kept.exists():
            kept.write_text(json.dumps({name: free_port() for name in PORTS}))
        ports: dict[str, int] = json.loads(kept.read_text())
        return ports

    def _write_files(self) -> None:
        self.releases.mkdir(exist_ok=True)
        where = {"folder": self.folder, "releases": self.releases, "python": VENV / "python3", **self.ports}
        where["autostart"] = str(bool(self.deployed_version())).lower()
        programs = "".join(_PROGRAM.format(name=name, port=self.ports[name], **where) for name in APPS)
        servers = "".join(f"  server {name} 127.0.0.1:{self.ports[name]} check inter 250 rise 1\n" for name in APPS)
        targets = ", ".join(f"'127.0.0.1:{self.ports[name]}'" for name in APPS)
        (self.folder / "supervisord.conf").write_text(_SUPERVISORD.format(programs=programs, **where))
        (self.folder / "haproxy.cfg").write_text(_HAPROXY.format(servers=servers, **where))
        (self.folder / "prometheus.yml").write_text(_PROMETHEUS.format(targets=targets))


_SUPERVISORD = """\
[supervisord]
logfile={folder}/supervisord-own.log
pidfile={folder}/supervisord-own.pid
childlogdir={folder}
[inet_http_server]
port=127.0.0.1:{supervisor}
username=shop
password=shop
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
{programs}"""

_PROGRAM = """\
[program:{name}]
directory={releases}
command={python} current/app.py {port}
autostart={autostart}
startsecs=1
stopwaitsecs=3
"""

_HAPROXY = """\
global
  stats socket ipv4@127.0.0.1:{runtime} level admin
defaults
  mode http
  timeout connect 1s
  timeout client 10s
  timeout server 10s
  retries 2
  option redispatch
frontend shop
  bind 127.0.0.1:{haproxy}
  default_backend web
backend web
  balance roundrobin
  option httpchk GET /healthz
{servers}"""

_PROMETHEUS = """\
global: {{scrape_interval: 1s}}
scrape_configs:
- {{job_name: shop, static_configs: [{{targets: [{targets}]}}]}}
"""

_CONFIG = """\
ledger: {ledger}
connections:
  bb: {{adapter: buildbot, url: "{buildbot}"}}
  prom: {{adapter: prometheus, url: "{prometheus}"}}
  releases:
    adapter: command
    deploy: [{python}, {release}, deploy, --background]
    abort: [{python}, {release}, abort]
    current: [{python}, {release}, current]
    history: [{python}, {release}, history]
    whoami: [{python}, {release}, whoami]
    compare_and_set: true
    env: {environment}
lines:
  shop:
    environment: production
    ci: [{{from: bb, builders: {{unit: test, deploy: deploy}}, halts: [deploy]}}]
    deploy: {{from: releases, only_way_in: true}}
    watch: {{full: {watch}s}}
    metrics:
      - name: checkout conversion
        from: prom
        short: conv
        kind: proportion
        bad: falls
        every: {every}s
        lag: 2s
        on_regression: rollback
        threshold: {{below: {below}, for: {for_s}s}}
        value: "sum(increase(orders_total[$every]))"
        n: "sum(increase(checkouts_started_total[$every]))"
"""


def main(words: list[str]) -> None:
    """`start FOLDER`, `stop FOLDER`, `commit FOLDER TITLE`, `break FOLDER TITLE`."""
    verb, folder, *title = words if len(words) >= 2 else ("", "")
    if verb not in ("start", "stop", "commit", "break"):
        raise SystemExit("usage: python -m tests.servers.world start|stop FOLDER  or  commit|break FOLDER TITLE")
    world = World(Path(folder))
    if verb == "stop":
        world.stop()
    elif verb == "start":
        world.start()
        config = world.folder / "andon.yaml"
        config.write_text(world.config_text(world.folder / "ledger.db"))
        config.chmod(0o600)
        print(f"shop       {world.url}\nbuildbot   {world.buildbot.url}\nprometheus {world.prometheus_url}")
        print(f"andon      andon -c {config}")
    else:
        print(world.commit(" ".join(title) or verb, defect=verb == "break"))


if __name__ == "__main__":
    main(sys.argv[1:])
