"""The company of `world`, with a past: 26 hours in Prometheus, and lines that were deployed some minutes ago.

Beside the shop there are lanes: lines whose customers are counted by an exporter, and whose releases are those of the
release script. What happened to them before the world started is in Prometheus' blocks, written by promtool; it goes on
where that ends, at the same rates. Times of a lane are seconds from the end of the written history.
"""

import json
import math
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adapters.sqlite import SqliteLedger
from andon.clock import WallClock
from andon.events import Marked
from tests.servers.need import ROOT, VENV, need
from tests.servers.process import answers
from tests.servers.prometheus import Exporter, Point, Prometheus, backfill
from tests.servers.world import BROKEN_SHARE, CHECKOUTS_A_SECOND, HEALTHY_SHARE, RELEASE, World

SPAN_S = 26 * 3600
STEP_S = 5
"""Of the written history: two numbers in a bucket of ten seconds at least."""
EVERY_S, WATCH_S = 10, 900
EARLIER_H = (24, 20, 16, 12, 8, 3)
"""How many hours ago there were deployments that nothing bad is known of: from those the restart window is learned."""
BEGAN_S = -200.0
"""When the shop's breaking deployment began: longer ago than what is found at once."""
NOISE = 0.3
"""Customers come more evenly than by chance, as those of `load` do."""

Profile = Callable[[float], float]


def steady(value: float) -> Profile:
    """Always the same."""
    return lambda at: value


def during(begin: float, end: float, inside: float, outside: float) -> Profile:
    """One value within a span of time, another outside."""
    return lambda at: inside if begin <= at < end else outside


@dataclass
class Lane:
    """A line that lives in the exporter and in a folder of releases."""

    name: str
    shipped: Sequence[tuple[float, str]]
    """When which versions were deployed, after those of `EARLIER_H`, which are all `v0`."""
    share: Profile = field(default_factory=lambda: steady(HEALTHY_SHARE))
    rate: Profile = field(default_factory=lambda: steady(float(CHECKOUTS_A_SECOND)))
    source: str = "prom"
    watch_s: int = WATCH_S
    checkouts: int = 0
    orders: int = 0

    def __post_init__(self) -> None:
        self.dice = random.Random(self.name)

    def come(self, at: float, seconds: float) -> None:
        """Customers of so many seconds from `at` on."""
        mean = self.rate(at) * seconds
        come = max(0, round(mean + NOISE * math.sqrt(mean) * self.dice.gauss(0, 1)))
        buy = come * self.share(at)
        self.checkouts += come
        self.orders += min(come, max(0, round(buy + NOISE * math.sqrt(buy) * self.dice.gauss(0, 1))))

    def past(self, ends: float, labels: str) -> Iterator[Point]:
        """Its history up to `ends`, series by series."""
        rows = []
        for index in range(SPAN_S // STEP_S + 1):
            rows.append((ends - SPAN_S + index * STEP_S, self.checkouts, self.orders))
            if index * STEP_S < SPAN_S:
                self.come(index * STEP_S - SPAN_S, STEP_S)
        yield from ((f"{self.prefix}checkouts_started_total{{{labels}}}", at, value) for at, value, _ in rows)
        yield from ((f"{self.prefix}orders_total{{{labels}}}", at, value) for at, _, value in rows)

    @property
    def prefix(self) -> str:
        """Of its counters' names."""
        return f"{self.name}_"


class Shoppers(Lane):
    """The shop's own counters before it was started here."""

    @property
    def prefix(self) -> str:
        return ""


class Judged:
    """The world, its lanes, and what andon needs to know of them."""

    def __init__(self, folder: Path, lanes: Sequence[Lane], *, broken: bool = True, began_s: float = BEGAN_S) -> None:
        """`broken`: whether the shop has shipped what breaks it before everything starts."""
        self.lanes = lanes
        self.broken = broken
        self.exporter = Exporter()
        self.world = Past(folder, self.exporter.target)
        self.dark = Prometheus(folder / "dark", self.exporter.target, "1s")
        self.began_s = began_s
        self.good = self.bad = ""
        self.ends = 0.0
        self._over = threading.Event()
        self._customers = threading.Thread(target=self._come, daemon=True)

    def start(self) -> None:
        """Start everything. The shop's second version, which breaks it, is current; customers meet it since `began_s`."""
        try:
            world = self.world
            self.good, self.bad = world.ship_first(self.broken)
            self.ends = time.time() // STEP_S * STEP_S
            ago = {"d1": 5 * 3600.0, "d2": -self.began_s}
            world.rewrite(lambda row: {**row, "at": self.ends - ago[row["id"]]}, self._earlier(self.good))
            now = BROKEN_SHARE if self.broken else HEALTHY_SHARE
            shop = Shoppers("shop", (), share=during(self.began_s, math.inf, now, HEALTHY_SHARE))
            at_exporter = f'instance="{self.exporter.target}",job="lanes"'
            past = list(shop.past(self.ends, 'instance="before",job="shop"'))
            dark: list[Point] = []
            for lane in self.lanes:
                points = list(lane.past(self.ends, at_exporter))
                if lane.source == "dark":
                    dark += _as_job(points)
                else:
                    past += points
                self._ship(lane)
            backfill(world.folder / "prometheus", past)
            self._tell()
            self._customers.start()
            world.start_prometheus()
            if dark:
                self.dark.start(dark)
            world.start_load()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End everything."""
        self._over.set()
        self.dark.stop()
        self.world.stop()
        self.exporter.stop()

    def releases(self, lane: str) -> Path:
        """Where a lane's releases are."""
        return self.world.folder / "lanes" / lane

    def rows(self, lane: str) -> list[dict[str, object]]:
        """A lane's record of deployments as it was written, oldest first."""
        return [json.loads(line) for line in (self.releases(lane) / "deployments.jsonl").read_text().splitlines()]

    def config(self, path: Path, lines: Sequence[str]) -> Path:
        """Write a config of those lines, with a ledger of its own in which the sound versions are marked good."""
        folder = path.with_suffix("")
        ledger = folder / "ledger.db"
        lanes = [lane for lane in self.lanes if lane.name in lines]
        path.write_text(
            _CONFIG.format(ledger=json.dumps(str(ledger)), prometheus=self.world.prometheus_url, dark=self.dark.url)
            + "".join(
                self._connection(f"at-{lane.name}", {"RELEASES_DIR": str(self.releases(lane.name))}) for lane in lanes
            )
            + (self._shop() if "shop" in lines else "lines:\n")
            + "".join(
                _LINE.format(
                    line=lane.name,
                    source=lane.source,
                    ci="",
                    at=f"at-{lane.name}",
                    prefix=lane.prefix,
                    every=EVERY_S,
                    watch=lane.watch_s,
                )
                for lane in lanes
            )
        )
        path.chmod(0o600)
        kept = SqliteLedger(ledger, WallClock())
        marks = {lane.name: ("e6", "v0") for lane in lanes} | ({"shop": ("d1", self.good)} if "shop" in lines else {})
        for line, (deployment, version) in marks.items():
            kept.commit(
                Marked(
                    line=line, at=time.time(), deployment=deployment, version=version, mark="good", who="ann", why="ran"
                )
            )
        kept.close()
        return path

    def _shop(self) -> str:
        world = self.world
        bb = f'  bb: {{adapter: buildbot, url: "{world.buildbot.url}"}}\n'
        ci = "    ci: [{from: bb, builders: {unit: test, deploy: deploy}, halts: [deploy]}]\n"
        line = _LINE.format(line="shop", source="prom", ci=ci, at="at-shop", prefix="", every=EVERY_S, watch=WATCH_S)
        return bb + self._connection("at-shop", {**world.release_env(), "RELEASES_WAIT_S": "8"}) + "lines:\n" + line

    def _connection(self, name: str, environment: dict[str, str]) -> str:
        words = {verb: json.dumps([str(VENV / "python3"), str(RELEASE), *verb.split()]) for verb in _VERBS}
        verbs = "".join(f"    {verb.partition(' ')[0]}: {argv}\n" for verb, argv in words.items())
        return (
            f"  {name}:\n    adapter: command\n    compare_and_set: true\n    env: {json.dumps(environment)}\n{verbs}"
        )

    def _earlier(self, version: str) -> list[dict[str, object]]:
        return [_row(f"e{i}", version, self.ends - hours * 3600) for i, hours in enumerate(EARLIER_H, 1)]

    def _ship(self, lane: Lane) -> None:
        folder = self.releases(lane.name)
        rows = self._earlier("v0")
        rows += [_row(f"d{i}", version, self.ends + at) for i, (at, version) in enumerate(lane.shipped, 1)]
        for row in rows:
            (folder / "releases" / str(row["version"])).mkdir(parents=True, exist_ok=True)
        (folder / "current").symlink_to(Path("releases") / str(rows[-1]["version"]))
        (folder / "deployments.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def _tell(self) -> None:
        for lane in self.lanes:
            self.exporter.numbers[f"{lane.prefix}checkouts_started_total"] = lane.checkouts
            self.exporter.numbers[f"{lane.prefix}orders_total"] = lane.orders

    def _come(self) -> None:
        """Customers go on coming from where the written history ends."""
        done = self.ends
        while not self._over.wait(0.25):
            now = time.time()
            for lane in self.lanes:
                lane.come(done - self.ends, now - done)
            done = now
            self._tell()


class Past(World):
    """A world whose shop has shipped before its measurement begins, and which measures an exporter as well."""

    def __init__(self, folder: Path, target: str) -> None:
        super().__init__(folder)
        self._target = target

    def ship_first(self, broken: bool) -> tuple[str, str]:
        """Start all but customers and measurement, and ship a sound version; if wanted one that breaks checkout, too."""
        self._write_files()
        self.supervisord.start([need("supervisord"), "-n", "-c", str(self.folder / "supervisord.conf")])
        self.haproxy.start([need("haproxy"), "-db", "-f", str(self.folder / "haproxy.cfg")])
        self.buildbot.start()
        good = self.commit("the shop opens")
        self.wait_deployed(good)
        bad = self.commit("Faster loyalty points", defect=True) if broken else ""
        if broken:
            self.wait_deployed(bad)
            self.wait_built(bad, "deploy")
        self.haproxy.ready(lambda: answers(self.url))
        return good, bad

    def start_load(self) -> None:
        """Let customers come."""
        self.load.start([sys.executable, "-m", "tests.servers.load", self.url, str(CHECKOUTS_A_SECOND)], cwd=ROOT)

    def rewrite(
        self, change: Callable[[dict[str, object]], dict[str, object]], before: Sequence[dict[str, object]]
    ) -> None:
        """Write the record of deployments anew: rows before what is there, which is changed."""
        rows = [*before, *(change(row) for row in self.deployments())]
        (self.releases / "deployments.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def _write_files(self) -> None:
        super()._write_files()
        with (self.folder / "prometheus.yml").open("a") as file:
            file.write(f"- {{job_name: lanes, static_configs: [{{targets: ['{self._target}']}}]}}\n")


def _as_job(points: Sequence[Point]) -> Iterator[Point]:
    """The same points, as the job `shop` of `Prometheus` names them."""
    return ((name.replace('job="lanes"', 'job="shop"'), at, value) for name, at, value in points)


def _row(name: str, version: str, at: float) -> dict[str, object]:
    return {
        "id": name, "version": version, "state": "settled", "at": at, "by": "pipeline", "back": False, "share": 100,
        "words": "", "key": "", "was": "",
    }  # fmt: skip


_VERBS = ("deploy --background", "abort", "current", "history", "whoami")

_CONFIG = """\
ledger: {ledger}
connections:
  prom: {{adapter: prometheus, url: "{prometheus}"}}
  dark: {{adapter: prometheus, url: "{dark}"}}
"""

_LINE = """\
  {line}:
{ci}    deploy: {{from: {at}}}
    watch: {{full: {watch}s}}
    shadow: 0
    metrics:
      - name: checkout conversion
        from: {source}
        short: conv
        kind: proportion
        bad: falls
        every: {every}s
        lag: 2s
        on_regression: rollback
        value: "sum(increase({prefix}orders_total[$every]))"
        n: "sum(increase({prefix}checkouts_started_total[$every]))"
      - name: orders
        from: {source}
        kind: count
        bad: falls
        every: {every}s
        lag: 2s
        on_regression: rollback
        value: "sum(increase({prefix}orders_total[$every]))"
"""
