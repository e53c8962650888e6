"""A person's own scripts as CI, deploy target, halting target, metrics source and notifier.

What a script is told and how it answers is in `_scripts`; here is which script serves which question.
`docs/command-adapter.md` is the whole of what a script's author needs.
"""

import contextlib
import getpass
import math
import os
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from adapters._scripts import Options, Scripts, Values, decode
from andon.clock import Time
from andon.model import (
    Change,
    ChangeId,
    Deployment,
    DeploymentId,
    Halted,
    HoldId,
    HoldRef,
    Identity,
    LogPart,
    Metric,
    Note,
    Run,
    RunId,
    Sample,
    Samples,
    Why,
)
from andon.ports import Answer, Can, Changes, Fact, Garbled, Passed, Wait
from andon.registry import Adapter, NoOptions, Place, Station

HISTORY = 20
"""Deployments that are looked at in each round of watching."""


class Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of `ci_watch`; an empty one is a sign of life."""

    change: Change | None = None
    run: Run | None = None


class Bucket(msgspec.Struct, frozen=True):
    """One line of `samples`."""

    at: float
    value: float
    n: float | None = None


class _Source:
    """What all stations of a connection share."""

    def __init__(self, scripts: Scripts, place: Place) -> None:
        self._scripts = scripts
        self._at: Values = {"line": place.line, "environment": place.environment}
        self._halts = place.halts

    @property
    def can(self) -> Can:
        """What the config has scripts for."""
        return Can()

    async def whoami(self) -> Identity:
        """What the `whoami` script says, and which scripts are no programs."""
        missing = self._scripts.missing()
        if self._scripts.options.whoami is None:
            found = tuple(self._scripts.options.scripts)
            now = self._scripts.clock.now()  # scripts run here
            return Identity(account=_user(), server="own scripts", found=found, missing=missing, clock=now)
        said = await self._scripts.read("whoami", self._at, Identity)
        return msgspec.structs.replace(said, missing=(*said.missing, *missing))

    async def close(self) -> None:
        """Nothing is kept open."""


class _Halting(_Source):
    """Something that ships and can be told not to."""

    async def halt(self, hold: HoldRef) -> Answer:
        """Run `halt`."""
        return await self._scripts.act("halt", self._of(hold))

    async def release(self, hold: HoldRef, before: Halted) -> Answer:
        """Run `release`."""
        return await self._scripts.act("release", {**self._of(hold), "before": before})

    async def halted(self) -> Halted:
        """What `halted` prints; no parts if there is no such script."""
        now = self._scripts.clock.now()
        if self._scripts.options.halted is None:
            return Halted(at=now)
        said = await self._scripts.read("halted", {**self._at, "halts": self._halts}, Halted)
        return said if said.at else msgspec.structs.replace(said, at=now)

    def _of(self, hold: HoldRef) -> Values:
        return {**self._at, "halts": self._halts, "hold": hold.id, "who": hold.who, "why": hold.why}


class CommandCI(_Halting):
    """A CI of a person's own, and a halting target."""

    @property
    def can(self) -> Can:
        """What the config has scripts for."""
        return Can(cancel=self._scripts.options.ci_cancel is not None)

    async def watch(self) -> AsyncIterator[Fact | Wait]:
        """What `ci_watch` prints, as it comes; when it ends with 0 it is asked again."""
        while True:
            async with contextlib.aclosing(self._scripts.stream("ci_watch", self._at)) as printed:
                async for lines in printed:
                    for fact in _facts([decode("ci_watch", line, Told) for line in lines if line.strip()]):
                        yield fact
            yield Wait()

    async def passed(self, change: ChangeId) -> Passed:
        """What `ci_passed` prints."""
        return await self._scripts.read("ci_passed", {**self._at, "change": change}, Passed)

    async def log(self, run: RunId, part: str, start: int) -> LogPart:
        """What `ci_log` prints."""
        return await self._scripts.read("ci_log", {**self._at, "run": run, "part": part, "start": start}, LogPart)

    async def cancel(self, run: RunId, why: Why) -> Answer:
        """Run `ci_cancel`."""
        return await self._scripts.act("ci_cancel", {**self._at, "run": run, "who": why.who, "why": why.text})


class CommandDeploy(_Source):
    """A place of a person's own that runs versions."""

    @property
    def can(self) -> Can:
        """What the config has scripts for."""
        given = self._scripts.options
        return Can(
            deploy=given.deploy is not None,
            abort=given.abort is not None,
            share=given.share is not None,
            compare_and_set=given.compare_and_set and given.deploy is not None,
        )

    async def watch(self) -> AsyncIterator[Fact | Wait]:
        """The newest deployments, oldest first; then, in each round, those that are not as they were."""
        seen: dict[DeploymentId, Deployment] = {}
        while True:
            now = {deployment.id: deployment for deployment in reversed(await self.history(HISTORY))}
            if self._scripts.options.history is not None and self._scripts.options.current is not None:
                current = await self.current()
                now |= {current.id: current} if current else {}
            for deployment in now.values():
                if seen.get(deployment.id) != deployment:
                    yield deployment
            seen = now
            yield Wait()

    async def current(self) -> Deployment | None:
        """What `current` prints; without such a script, the newest of `history` that did not fail."""
        if self._scripts.options.current is None:
            found = await self.history(HISTORY)
            return next((deployment for deployment in found if deployment.state != "failed"), None)
        kind: Any = Deployment | None
        current: Deployment | None = await self._scripts.read("current", self._at, kind)
        return current

    async def history(self, n: int) -> list[Deployment]:
        """What `history` prints; without such a script, what `current` prints."""
        if self._scripts.options.history is None:
            current = await self.current() if self._scripts.options.current is not None else None
            return [current] if current else []
        return (await self._scripts.read_lines("history", {**self._at, "count": n}, Deployment))[:n]

    async def deploy(self, version: str, *, expected: DeploymentId | None, key: str, through: HoldId | None) -> Answer:
        """Run `deploy`."""
        values = {**self._at, "version": version, "expected": expected, "key": key, "through": through}
        return await self._scripts.act("deploy", values)

    async def abort(self, deployment: DeploymentId, why: Why) -> Answer:
        """Run `abort`."""
        return await self._scripts.act("abort", {**self._at, "deployment": deployment, "who": why.who, "why": why.text})

    async def share(self, version: str, percent: int, *, expected: DeploymentId | None, key: str) -> Answer:
        """Run `share`."""
        values = {**self._at, "version": version, "percent": percent, "expected": expected, "key": key}
        return await self._scripts.act("share", values)


class CommandHaltingDeploy(_Halting, CommandDeploy):
    """One that can be told to let nothing in."""


class CommandMetrics(_Source):
    """A metrics source of a person's own."""

    async def samples(self, metric: Metric, start: Time, end: Time, every: float) -> Samples:
        """The closed buckets that `samples` prints. What it leaves out is missing, and not zero."""
        values = {**self._at, "metric": metric.name, "value": metric.value, "n": metric.n}
        asked = {"start": float(start), "end": float(end), "every": float(every)}
        found: dict[float, Sample] = {}
        for bucket in await self._scripts.read_lines("samples", {**values, **asked}, Bucket):
            number = round(bucket.at / every)
            if abs(bucket.at - number * every) > 1e-3:
                raise Garbled(f"samples: {bucket.at:.3f} is not the start of a bucket of {every:g} s")
            at = number * every
            if start <= at and at + every <= end:
                found[at] = _sample(metric, at, bucket)
        wanted = max(0, math.floor(end / every) - math.ceil(start / every))
        rows = tuple(found[at] for at in sorted(found))
        if not rows:
            return Samples("empty", words="the script printed no bucket")
        if len(rows) < wanted:
            return Samples("partial", rows, f"{len(rows)} of {wanted} buckets")
        return Samples("ok", rows)


class CommandNotifier(_Source):
    """A person's own way to tell people."""

    async def tell(self, note: Note) -> Answer:
        """Run `tell`."""
        said = {"title": note.title, "text": note.text, "kind": note.kind, "who": note.who, "authors": note.authors}
        values = {**self._at, "line": note.line, "key": note.key, "at": float(note.at), **said}
        return await self._scripts.act("tell", values)


def _facts(told: list[Told]) -> list[Fact | Wait]:
    """Changes that came one after the other are one fact; a line that tells nothing is a sign of life."""
    facts: list[Fact | Wait] = []
    for line in told:
        if line.change is not None:
            last = facts.pop() if facts and isinstance(facts[-1], Changes) else None
            facts.append(Changes((*(last.items if isinstance(last, Changes) else ()), line.change)))
        if line.run is not None:
            facts.append(line.run)
        if line == Told():
            facts.append(Wait(0.0))
    return facts


def _sample(metric: Metric, at: float, bucket: Bucket) -> Sample:
    if metric.kind == "proportion" and bucket.n is None:
        raise Garbled(f"samples: {metric.name} is a proportion: each bucket needs n, the number of trials")
    if bucket.n is not None and bucket.n < 0:
        raise Garbled(f"samples: {metric.name}: n is the number of trials, and not {bucket.n:g}")
    try:
        return Sample(at, bucket.value, bucket.n)
    except ValueError as error:
        raise Garbled(f"samples: {metric.name}: {error}") from error


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _deploy(scripts: Scripts, options: NoOptions, place: Place) -> CommandDeploy:
    """A target that its own scripts can halt, or one that goes on."""
    if scripts.options.halt is not None:
        return CommandHaltingDeploy(scripts, place)
    return CommandDeploy(scripts, place)


ADAPTER = Adapter(
    name="command",
    title="Your own scripts",
    options=Options,
    connect=Scripts,
    ci=Station(NoOptions, lambda scripts, _, place: CommandCI(scripts, place)),
    deploy=Station(NoOptions, _deploy),
    metrics=Station(NoOptions, lambda scripts, _, place: CommandMetrics(scripts, place)),
    notify=Station(NoOptions, lambda scripts, _, place: CommandNotifier(scripts, place)),
)
