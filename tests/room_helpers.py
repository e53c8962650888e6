"""A shop for the room's tests: eight lines at 14:02 from literal events in a real ledger, and the screen as text."""

import calendar
import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapters.sqlite import SqliteLedger
from andon.acts import NotDone
from andon.config import Config, Connection, Entry, LineConfig
from andon.engine import View
from andon.events import (
    ActAsked,
    ActStepped,
    ChangesSeen,
    DeploymentSeen,
    Event,
    HaltedSeen,
    Helped,
    HoldPlaced,
    HoldTaken,
    Judged,
    Marked,
    RunSeen,
    SourceSeen,
    WatchOpened,
)
from andon.keeper import Keeper
from andon.model import (
    Act,
    Change,
    Deployment,
    Halted,
    Hold,
    LogPart,
    Metric,
    Part,
    Run,
    Sample,
    Stage,
    Threshold,
    Verdict,
)
from andon.ports import Lease, Pulse
from andon.registry import Adapter, NoOptions, Place, Station
from tests.helpers import HOSTILE, until
from tui.app import Room

NOW = float(calendar.timegm((2026, 11, 23, 14, 2, 11)))
MIN, HOUR, DAY = 60.0, 3600.0, 86400.0
LINES = ("checkout", "search", "payments", "catalog", "accounts", "mail", "storefront", "invoices")


class StillClock:
    """A clock that stands until it is set."""

    def __init__(self, now: float = NOW) -> None:
        self.at = now

    def now(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing in the room sleeps by this clock")

    def real(self, seconds):
        return seconds


def sha(start: str) -> str:
    """A change id that begins so."""
    return (start + "0123456789abcdef" * 3)[:40]


ADAPTER = Adapter("still", "nothing outside", NoOptions, lambda options, context: None)
STATION = Station(NoOptions, lambda connection, options, place: None)


def entry(source: str, line: str, *halts: str) -> Entry:
    target = f"{source}/{'+'.join(halts)}" if halts else source
    return Entry(source, Place(line, "production", halts), NoOptions(), STATION, 5.0, target=target)


METRICS = {
    "checkout": [
        Metric("conversion", "prom", "proportion", "falls", "q", n="q", short="conv", threshold=Threshold(below=0.027)),
        Metric("p95 latency", "prom", "latency", "rises", "q", short="p95", unit="ms", threshold=Threshold(above=240)),
    ],
    "search": [
        Metric("click-through", "prom", "proportion", "falls", "q", n="q", short="ctr", threshold=Threshold(below=0.1))
    ],
    "payments": [
        Metric("revenue/min", "prom", "sum", "falls", "q", short="rev", unit="€", threshold=Threshold(below=340)),
        Metric("auth rate", "prom", "proportion", "falls", "q", n="q", short="auth", threshold=Threshold(below=0.9)),
    ],
    "catalog": [Metric("views/min", "prom", "count", "falls", "q", short="view", threshold=Threshold(below=5000))],
    "accounts": [Metric("sign-ups/min", "prom", "count", "falls", "q", short="sign", threshold=Threshold(below=10))],
    "mail": [
        Metric("delivered", "prom", "proportion", "falls", "q", n="q", short="sent", threshold=Threshold(below=0.9))
    ],
    "storefront": [
        Metric("add-to-cart", "prom", "proportion", "falls", "q", n="q", short="cart", threshold=Threshold(below=0.05))
    ],
    "invoices": [
        Metric("paid in full", "prom", "proportion", "falls", "q", n="q", short="paid", threshold=Threshold(below=0.9))
    ],
}
USUAL = {"conversion": 0.031, "p95 latency": 182, "click-through": 0.12, "revenue/min": 412, "auth rate": 0.94}
USUAL |= {"views/min": 8200, "sign-ups/min": 31, "delivered": 0.95, "add-to-cart": 0.074, "paid in full": 0.94}


def config(tmp: Path, names: tuple[str, ...] = LINES) -> Config:
    """The shop's lines, as a config would give them."""
    connections = {name: Connection(name, ADAPTER, NoOptions()) for name in ("gh", "prom", "nomad", "pager")}
    lines = {
        name: LineConfig(
            name=name,
            ci=(entry("gh", name, "deploy.yml"),),
            deploy=entry("nomad", name),
            watch_s=HOUR,
            metrics=tuple(METRICS.get(name, ())),
            notify=(entry("pager", name),),
        )
        for name in names
    }
    return Config(tmp / "andon.yaml", connections, lines, name="acme")


def change(start: str, author: str, minutes: float, title: str = "") -> Change:
    return Change(sha(start), title or f"Change {start}", author, NOW - minutes * MIN)


def run_of(start: str, station: str, state: str, minutes: float, usual_s: float = 360.0, name: str = "") -> Run:
    order = ("build", "test", "deploy")
    stages = []
    for each in order:
        if order.index(each) < order.index(station):
            stages.append(Stage(each, each, "passed", NOW - minutes * MIN - 60, NOW - minutes * MIN, 60))
        elif each == station:
            ended = NOW - minutes * MIN if state in ("passed", "failed") else None
            stages.append(Stage(name or each, each, state, NOW - minutes * MIN, ended, usual_s))
    whole = "failed" if state == "failed" else "running"
    return Run(f"run-{start}", sha(start), whole, tuple(stages), NOW - minutes * MIN)


def shipped(line: str, start: str, minutes: float, by: str, **more: Any) -> DeploymentSeen:
    item = Deployment(f"d-{start}-{minutes:g}", sha(start), "settled", NOW - minutes * MIN, by, **more)
    return DeploymentSeen(line=line, at=item.at, source="nomad", deployment=item)


def watched(line: str, start: str, minutes: float, word: str = "", sentence: str = "", metric: str = "") -> list[Event]:
    """A watch, and its verdict if there is a word."""
    id_, began = f"d-{start}-{minutes:g}", NOW - minutes * MIN
    opened = WatchOpened(line=line, at=began, deployment=id_, version=sha(start), until=began + HOUR, began=began)
    found: list[Event] = [opened]
    if word:
        ended = min(NOW, began + HOUR) if word != "regressed" else began + 4 * MIN
        onset = began + MIN if word == "regressed" else None
        for name in (metric, "") if metric else ("",):
            verdict = Verdict(word, sentence, name, onset, ended)
            found.append(Judged(line=line, at=ended, deployment=id_, verdict=verdict, final=not name))
    return found


def calm(line: str, *, since: float | None = None) -> list[Event]:
    """What the calm day of the pictures holds of a line; `since` how many minutes its version is live."""
    seen: dict[str, tuple[list[Change], list[Run], tuple[str, float, str, str]]] = {
        "checkout": (
            [
                change("77c0", "gus", 30),
                change("3f2a", "ann", 9),
                change("a91f", "dee", 7, "Show CVV hint " + HOSTILE[3]),
                change("b802", "ann", 5, HOSTILE[7]),
                change("c11d", "bo", 4, "[/] " + HOSTILE[14]),
            ],
            [run_of("77c0", "test", "running", 4, name="integration"), run_of("3f2a", "build", "passed", 0.7)],
            ("5de1", 12, "ann", "Show saved cards first"),
        ),
        "search": (
            [change("91ab", "bo", 20)],
            [run_of("91ab", "deploy", "running", 1, 90)],
            ("77aa", 180, "bo", "Synonyms"),
        ),
        "payments": (
            [change("c0de", "cy", 6), change("1f90", "dee", 5)],
            [],
            ("9c1d", 4, "cy", "Retry 3-D Secure once"),
        ),
        "catalog": ([], [], ("d04e", 190, "eli", "Paginate by cursor")),
        "accounts": (
            [change("b2c9", "fay", 50), change("e11d", "fay", 8)],
            [run_of("b2c9", "test", "failed", 20, name="unit")],
            ("61f0", 1500, "fay", "Passkeys for everyone"),
        ),
        "mail": (
            [change("40aa", "gus", 3)],
            [run_of("40aa", "build", "running", 0.2, 60, "image")],
            ("2b7f", 2900, "gus", "DKIM"),
        ),
        "storefront": (
            [
                change("8e50", "hal", 20),
                change("f7a2", "ivy", 15),
                *(change(s, "hal", 9) for s in ("0d3b", "0d3c", "0d3d", "0d3e", "0d3f")),
            ],
            [run_of("8e50", "test", "running", 3.5, 480, "browser"), run_of("f7a2", "build", "passed", 2)],
            ("3a9c", 47, "ivy", "Smaller hero image"),
        ),
        "invoices": (
            [change("aa17", "jo", 130)],
            [run_of("aa17", "deploy", "waiting", 120)],
            ("19be", 4000, "jo", "Round half to even"),
        ),
    }
    changes, runs, (version, minutes, by, title) = seen[line]
    minutes = since or minutes
    earlier = [change("7be0", "dee", 6000, "Old"), change("4f2a", "ann", 5000, "Older")]
    live = change(version, by, minutes + 30, title)
    events: list[Event] = [ChangesSeen(line=line, at=NOW - DAY, source="gh", changes=(*earlier, live, *changes))]
    events += [shipped(line, "7be0", 6000, "dee"), *watched(line, "7be0", 6000, "regressed", "conv −6 %", "x")]
    events += [
        Marked(
            line=line,
            at=NOW - 4 * DAY,
            deployment="d-7be0-6000",
            version=sha("7be0"),
            mark="faulty",
            who="ann",
            why="conv",
        )
    ]
    events += [
        shipped(line, "4f2a", 4400, "ann"),
        *watched(line, "4f2a", 4400, "healthy", "conversion 3.0 %, within bounds"),
    ]
    events += [shipped(line, version, minutes, by)]
    events += (
        watched(line, version, minutes) if minutes < 60 else watched(line, version, minutes, "healthy", "within bounds")
    )
    events += [RunSeen(line=line, at=item.at, source="gh", run=item) for item in runs]
    read = Halted((Part("deploy.yml", False),), NOW - 3)
    events.append(HaltedSeen(line=line, at=NOW - 3, target="gh/deploy.yml", halted=read))
    events += [SourceSeen(line=line, at=NOW - DAY, source=name, state="ok") for name in ("gh", "prom", "nomad")]
    return events


def hold(
    line: str, owner: str, seconds: float, why: str, *, kind: str = "person", suspect: str = "", id_: str = ""
) -> HoldPlaced:
    id_ = id_ or (line + "00000000")[:8]
    return HoldPlaced(
        line=line,
        at=NOW - seconds,
        hold=Hold(id_, line, owner, why, NOW - seconds, id_, kind=kind, deployment=suspect),
    )


def act(kind: str, line: str, target: str, subject: str, seconds: float, **more: Any) -> Act:
    at = NOW - seconds
    values: dict[str, Any] = {"who": "ann", "why": "pulled the cord", "not_before": at, "not_after": at + 300} | more
    return Act(id=f"{kind}-{line}-{target}", kind=kind, line=line, target=target, subject=subject, at=at, **values)


def done(item: Act, *seconds: float) -> list[Event]:
    """Asked, sent, accepted and verified, so many seconds after it was asked."""
    steps: list[Event] = [ActAsked(line=item.line, at=item.at, act=item)]
    before = "intent"
    for now, after in zip(("sent", "accepted", "verified"), seconds, strict=False):
        steps.append(ActStepped(line=item.line, at=item.at + after, act=item.id, was=before, now=now))
        before = now
    return steps


def halted_now(line: str, seconds: float, note: str = "") -> HaltedSeen:
    read = Halted((Part("deploy.yml", True, note),), NOW - seconds)
    return HaltedSeen(line=line, at=NOW - seconds, target="gh/deploy.yml", halted=read)


def incident() -> list[Event]:
    """payments was stopped by the immune system, rolled back and recovered; search is on its way back."""
    found: list[Event] = []
    why = "revenue/min 412 → 255 €, −38 % after 9c1d"
    found += [
        ChangesSeen(
            line="payments",
            at=NOW - 3000,
            source="gh",
            changes=tuple(change(s, "cy", 5) for s in ("8aa2", "77b1", "0e4d", "0e4e")),
        ),
    ]
    regressed = Verdict("regressed", why, "revenue/min", NOW - 9 * MIN, NOW - 6 * MIN)
    found += [
        Judged(line="payments", at=NOW - 6 * MIN, deployment="d-9c1d-10", verdict=regressed),
    ]
    overall = Verdict("regressed", why, "", NOW - 9 * MIN, NOW - 6 * MIN)
    found.append(
        Judged(
            line="payments",
            at=NOW - 6 * MIN,
            deployment="d-9c1d-10",
            verdict=overall,
            final=True,
            did="stopped and rolled back",
        )
    )
    found.append(hold("payments", "immune", 6 * MIN, why, kind="immune", suspect="d-9c1d-10", id_="pay00001"))
    found.append(HoldTaken(line="payments", at=NOW - 4 * MIN, hold="pay00001", who="cy"))
    found += done(act("halt", "payments", "gh/deploy.yml", "pay00001", 360, hold="pay00001"), 0.2, 1, 3)
    found.append(halted_now("payments", 357, "andon hold pay00001 by immune"))
    found += done(act("tell", "payments", "pager", "pay00001/stopped/pager", 360), 0.1, 1, 1)
    back = act(
        "rollback",
        "payments",
        "nomad",
        "d-9c1d-10",
        358,
        who="immune",
        expected="d-9c1d-10",
        version=sha("4f2a"),
        auto=True,
    )
    found += [
        *done(back, 0.2, 1),
        ActStepped(line="payments", at=NOW - 5 * MIN, act=back.id, was="accepted", now="verified", ref="d-4f2a-5"),
    ]
    found.append(shipped("payments", "4f2a", 5, "immune", back=True))
    helped = Helped(
        line="payments", at=NOW - 3 * MIN, deployment="d-9c1d-10", word="recovered", sentence="409 €/min, 2 min after"
    )
    found.append(helped)
    found.append(hold("search", "bo", 21, "rolled back by key", id_="sea00001"))
    found += done(act("halt", "search", "gh/deploy.yml", "sea00001", 21, hold="sea00001"), 0.2, 1)
    current = "d-77aa-180"
    going = act("rollback", "search", "nomad", current, 20, who="bo", expected=current, version=sha("4f2a"))
    found += done(going, 0.3, 2)
    return found


def samples(line: str, metric: Metric, *, dip: bool = False) -> list[Sample]:
    """An hour of buckets that wave a little; with a dip from nine to four minutes ago."""
    usual = USUAL[metric.name]
    found = []
    for back in range(61, 0, -1):
        at = (NOW // 60 - back) * 60 - 60
        wave = 1 + 0.02 * math.sin(back * 1.7) + 0.015 * math.sin(back * 0.6)
        if dip and 4 <= back <= 8:
            wave = 0.62
        value = usual * wave
        found.append(Sample(at, value * 1000, 1000) if metric.kind == "proportion" else Sample(at, value))
    return found


class StillEngine:
    """An engine that stands: it notes what it is asked, and answers at once."""

    def __init__(self, keeper: Keeper, view: View) -> None:
        self.keeper = keeper
        self.view = view
        self.who = "ann"
        self.read_only = False
        self.busy = False
        self.asked: list[tuple[Any, ...]] = []
        self.refuses = ""
        """What it answers with; empty: it does what it is asked."""
        self.false = False

    def _ask(self, *what: Any) -> "Future[Any]":
        self.asked.append(what)
        future: Future[Any] = Future()
        if self.refuses:
            future.set_exception(NotDone(self.refuses))
        else:
            future.set_result(not self.false)
        return future

    def screen_shown(self) -> None:
        pass

    def pull(self, line: str, why: str = "", age_s: float = 0.0) -> "Future[Any]":
        return self._ask("pull", line)

    def rollback(self, line: str, expected: str = "", grace_s: float = 0.0, age_s: float = 0.0) -> "Future[Any]":
        return self._ask("rollback", line, expected, grace_s, age_s)

    def withdraw(self, line: str, act_id: str) -> "Future[Any]":
        return self._ask("withdraw", line, act_id)

    def resume(self, line: str, why: str, hold: str = "", *, all_: bool = False) -> "Future[Any]":
        return self._ask("resume", line, why, hold, all_)

    def take(self, line: str, hold: str) -> "Future[Any]":
        return self._ask("take", line, hold)

    def hand_over(self, line: str, hold: str, to: str) -> "Future[Any]":
        return self._ask("hand over", line, hold, to)

    def change(self, line: str, hold: str, why: str = "", until: float | None = None) -> "Future[Any]":
        return self._ask("change", line, hold, why, until)

    def push(self, line: str, version: str, why: str, through: str = "") -> "Future[Any]":
        return self._ask("push", line, version, why, through)

    def call(self, line: str, why: str = "") -> "Future[Any]":
        return self._ask("call", line)

    def clear_call(self, line: str, call: str) -> "Future[Any]":
        return self._ask("clear call", line, call)

    def take_call(self, line: str, call: str) -> "Future[Any]":
        return self._ask("take call", line, call)

    known: tuple[Any, ...] = ()
    """What the sources answered."""

    def identify(self) -> "Future[Any]":
        future: Future[Any] = Future()
        future.set_result(self.known)
        return future

    lines: tuple[str, ...] = ()
    """What every log holds."""

    def log(self, line: str, source: str, run: str, part: str, start: int) -> "Future[LogPart]":
        future: Future[LogPart] = Future()
        future.set_result(LogPart(self.lines[start:], len(self.lines), True))
        return future

    def mark(self, line: str, deployment: str, mark: str, why: str) -> "Future[Any]":
        return self._ask("mark", line, deployment, mark, why)

    def resolve(self, line: str, act_id: str, happened: bool) -> "Future[Any]":
        return self._ask("resolve", line, act_id, happened)

    def stop(self, deadline_s: float = 20.0) -> None:
        self.asked.append(("stop",))


def view(names: tuple[str, ...] = LINES, *, at: float = NOW, without: str = "", **more: Any) -> View:
    """An engine that is here, read everything two seconds ago, and bo and cy in rooms of their own."""
    pulses = [Pulse(f"source:{name}/{source}", at - 2, "ok") for name in names for source in ("gh", "prom", "nomad")]
    pulses += [Pulse("target:gh/deploy.yml", at - 2, "ok")]
    pulses += [Pulse("person:bo@web-7:pts/1", at - 1, "here"), Pulse("person:cy@web-7:pts/2", at - 1, "here")]
    kept = {pulse.key: pulse for pulse in pulses if not without or without not in pulse.key}
    values: dict[str, Any] = {"lease": Lease("web-7-12-abcd", 3, at + 5, at - 1), "here": True} | more
    return View(at=at, pulses=kept, **values)


class Shop:
    """A room over a ledger with literal events."""

    def __init__(
        self, tmp: Path, events: list[Event], names: tuple[str, ...] = LINES, dips: tuple[str, ...] = ()
    ) -> None:
        self.clock = StillClock()
        self.config = config(tmp, names)
        path = tmp / "state" / "ledger.db"
        path.parent.mkdir(mode=0o700)
        self.keeper = Keeper(lambda: SqliteLedger(path, self.clock), self.clock).start()
        self.write(*events)
        for name in names:
            for metric in METRICS.get(name, ()):
                rows = samples(name, metric, dip=metric.name in dips)
                self.keeper.submit(lambda ledger, n=name, m=metric.name, r=rows: ledger.keep(f"{n}/{m}", r)).result()
        self.engine = StillEngine(self.keeper, view(names))

    def write(self, *events: Event) -> None:
        """Commit events, one by one, as they come."""
        for event in events:
            self.keeper.submit(lambda ledger, e=event: ledger.commit(e)).result()

    def room(self, **options: Any) -> Room:
        """The room; what it read before counts as known."""
        room = Room(self.config, self.keeper, self.engine, self.clock, **options)
        room.sight._opened -= 60
        return room


@contextmanager
def shop(tmp: Path, *events: Event, names: tuple[str, ...] = LINES, dips: tuple[str, ...] = ()) -> Iterator[Shop]:
    """The calm day of the pictures, and `events` after it."""
    since = {"payments": 10.0} if dips else {}
    made = Shop(
        tmp, [event for name in names for event in calm(name, since=since.get(name))] + list(events), names, dips
    )
    try:
        yield made
    finally:
        made.keeper.close()


def screen_text(app: Any) -> str:
    """What a person reads: each row of the screen, without blanks at its end."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)


async def settle(app: Any, pilot: Any, seen: Callable[[str], bool] | str = "") -> str:
    """The screen, once it shows what is waited for and nothing more is asked of the ledger."""

    def ready() -> bool:
        text = screen_text(app)
        there = seen(text) if callable(seen) else seen in text
        return there and not app.sight.waits

    await pilot.pause()
    await until(lambda: app.moment is not None and app.moment.samples and ready(), what=f"{seen!r} on the screen")
    app.paint()
    before = ""
    while (text := screen_text(app)) != before:  # until the layout has come to rest
        before = text
        await pilot.pause(0.05)
    return text
