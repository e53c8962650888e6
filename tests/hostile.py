"""A shop in which every text that comes from outside is somebody's: for attacks on what is shown, wherever it is shown.

A `say(surface)` gives the text of a surface; each surface has a letter, so that what is shown can be told apart.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapters.sqlite import SqliteLedger
from andon.config import Config, Connection, LineConfig
from andon.events import (
    ActAsked,
    ActStepped,
    ChangesSeen,
    DeploymentSeen,
    Event,
    HaltedSeen,
    Helped,
    HoldLifted,
    HoldPlaced,
    HoldTaken,
    Judged,
    Marked,
    RunSeen,
    SourceSeen,
    WatchOpened,
)
from andon.keeper import Keeper
from andon.model import Act, Change, Deployment, Halted, Hold, Job, Metric, Part, Run, Stage, Threshold, Verdict
from andon.ports import Lease, Pulse
from tests.room_helpers import ADAPTER, HOUR, NOW, NoOptions, StillClock, StillEngine, entry, view

Say = Callable[[str], str]


def held(line: str, say: Say) -> list[Event]:
    """A line that somebody stopped, whose rollback nobody knows the end of."""
    why = dict.fromkeys(("who", "why"), say("x"))
    hold = Hold(say("h"), line, say("o"), say("y"), NOW - 90, say("h"), has=say("w"), deployment=say("d"))
    lifted = Hold(say("l"), line, say("m"), say("n"), NOW - 900, say("l"))
    halt, told, back = (
        Act(id=f"{kind}-{line}", kind=kind, line=line, target=target, subject=subject, at=NOW - 80, **more)
        for kind, target, subject, more in (
            ("halt", "gh/deploy.yml", hold.stop, {**why, "not_before": NOW, "not_after": NOW + 300}),
            ("tell", say("T"), f"{hold.id}/stopped", {**why, "not_before": NOW, "not_after": NOW + 300}),
            (
                "rollback",
                say("R"),
                say("d"),
                {**why, "not_before": NOW, "not_after": NOW + 300, "expected": say("d"), "version": say("V")},
            ),
        )
    )
    found: list[Event] = [
        *shipped(line, say),
        HoldPlaced(line=line, at=NOW - 900, hold=lifted),
        HoldLifted(line=line, at=NOW - 800, hold=lifted.id, who=say("m"), why=say("L")),
        HoldPlaced(line=line, at=NOW - 90, hold=hold),
        HoldTaken(line=line, at=NOW - 60, hold=hold.id, who=say("w")),
        Helped(line=line, at=NOW - 40, deployment=say("d"), word="not recovered", sentence=say("H")),
    ]
    for act, words in ((halt, say("A")), (told, say("F")), (back, say("B"))):
        found.append(ActAsked(line=line, at=act.at, act=act))
        found.append(ActStepped(line=line, at=act.at, act=act.id, was="intent", now="sent"))
        now: Any = {"halt": "refused", "tell": "failed", "rollback": "unknown"}[act.kind]
        found.append(ActStepped(line=line, at=act.at + 1, act=act.id, was="sent", now=now, words=words))
    part = Part(say("p"), True, say("q"), (say("r"),))
    return [*found, HaltedSeen(line=line, at=NOW - 3, target="gh/deploy.yml", halted=Halted((part,), NOW - 3))]


def running(line: str, say: Say) -> list[Event]:
    """A line that runs, with a bad verdict and a source that is gone."""
    found = [*shipped(line, say)]
    jobs = (Job(say("7"), "failed", NOW - 200, NOW - 100, say("8")),)
    stages = (Stage(say("g"), "test", "failed", NOW - 200, NOW - 100, 60, jobs),)
    waits = Change(say("c"), say("t"), say("u"), NOW - 500)
    found.append(ChangesSeen(line=line, at=NOW - 20, source=say("s"), changes=(waits,)))
    found.append(RunSeen(line=line, at=NOW - 10, source="gh", run=Run(say("i"), say("c"), "failed", stages, NOW - 300)))
    newest = Deployment(say("e"), say("v"), "settled", NOW - 400, say("b"), words=say("k"))
    found.append(DeploymentSeen(line=line, at=newest.at, source="nomad", deployment=newest))
    found.append(
        Marked(line=line, at=NOW - 9, deployment=say("d"), version="v1", mark="good", who=say("m"), why=say("M"))
    )
    opened = WatchOpened(line=line, at=NOW - 390, deployment=newest.id, version="v", until=NOW + HOUR, began=NOW - 390)
    bad = Verdict("regressed", say("S"), "conversion", NOW - 300, NOW - 100)
    found += [opened, Judged(line=line, at=NOW - 8, deployment=newest.id, verdict=bad, did=say("D"))]
    found.append(SourceSeen(line=line, at=NOW - 7, source="prom", state="gone", words=say("W")))
    read = Halted((Part("deploy.yml", False),), NOW - 3)
    return [*found, HaltedSeen(line=line, at=NOW - 3, target="gh/deploy.yml", halted=read)]


def shipped(line: str, say: Say) -> list[Event]:
    """Two versions that are live, one that failed, and a change that waits."""
    items = (
        Deployment(say("f"), "v0", "failed", NOW - 7000, say("b"), words=say("K")),
        Deployment("d1", "v1", "settled", NOW - 6000, "ann"),
        Deployment(say("d"), say("v"), "settled", NOW - 5000, say("b"), words=say("k"), change=say("C")),
    )
    changes = (Change(say("C"), say("t"), say("a"), NOW - 6000),)
    found: list[Event] = [ChangesSeen(line=line, at=NOW - 5500, source="gh", changes=changes)]
    return [*found, *(DeploymentSeen(line=line, at=item.at, source="nomad", deployment=item) for item in items)]


class Den:
    """Two lines for each name, `NAME-held` and `NAME-runs`, all of whose texts `say(name)(surface)` has made."""

    def __init__(self, folder: Path, names: tuple[str, ...], say: Callable[[str], Say]) -> None:
        self.clock = StillClock()
        one = say(names[0])
        metric = Metric("conversion", "prom", "sum", "falls", "q", short="conv", threshold=Threshold(below=400))
        lines = {
            f"{name}-{kind}": LineConfig(
                name=f"{name}-{kind}",
                environment=one("E"),
                ci=(entry("gh", name, "deploy.yml"),),
                deploy=entry("nomad", name),
                watch_s=HOUR,
                metrics=(
                    metric,
                    Metric(say(name)("N"), "prom", "sum", "falls", "q", short=say(name)("O"), unit=say(name)("U")),
                ),
                notify=(entry("pager", name),),
            )
            for name in names
            for kind in ("held", "runs")
        }
        connections = {name: Connection(name, ADAPTER, NoOptions()) for name in ("gh", "prom", "nomad", "pager")}
        self.config = Config(folder / "andon.yaml", connections, lines, name=one("G"))
        self.path = folder / "state" / "ledger.db"
        self.path.parent.mkdir(mode=0o700)
        self.keeper = Keeper(lambda: SqliteLedger(self.path, self.clock), self.clock).start()
        events = [event for name in names for event in held(f"{name}-held", say(name))]
        events += [event for name in names for event in running(f"{name}-runs", say(name))]
        self.keeper.submit(lambda ledger: [ledger.commit(event) for event in events]).result()
        self.engine = StillEngine(self.keeper, self._view(tuple(lines), one))
        self.engine.lines = tuple(say(name)("6") for name in names)

    def _view(self, lines: tuple[str, ...], say: Say) -> Any:
        found = view(lines, lease=Lease(f"{say('P')}-12-abcd", 3, NOW + 5, NOW - 1), here=False, clock_words=say("Q"))
        found.pulses[f"person:{say('X')}"] = Pulse(f"person:{say('X')}", NOW - 1, "here")
        return found
