"""Buildbot: builders with their builds, queue and logs, live; and the workers that ship, which a stop pauses.

Its builds and its queue are one: a build request is a run from the moment it waits. `_buildbot_facts` knows what the REST
API says, `_buildbot_watch` follows it, `_buildbot_halt` stops what ships.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from adapters._buildbot_facts import SUCCESS, WARNINGS, Build, Builder, Request, is_revision, lines_of
from adapters._buildbot_halt import Workers, mixed, pure, shares
from adapters._buildbot_master import ConnectionOptions, Master
from adapters._buildbot_watch import Told, by_id, heard
from andon import registry
from andon.clock import Time
from andon.model import ChangeId, Halted, HoldRef, Identity, LogPart, RunId, Station, Why
from andon.ports import Accepted, Answer, Can, Fact, Garbled, Passed, Refused, Wait
from andon.registry import Adapter, Place

LOG_LINES = 1000
"""Lines of a log that are read at once."""

LOOKED_THROUGH = 50
"""Builds that are looked through for a revision that came with no change."""


class EntryOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of an entry of `ci:`."""

    builders: dict[str, Station]
    """The station at which each builder stands: build, test or deploy."""
    must_pass: tuple[str, ...] | None = None
    """The builders that say whether a change passed its tests; without it, all that are not at `deploy`."""
    branch: str = ""
    """The branch of the line; empty: all."""

    @property
    def deciding(self) -> tuple[str, ...]:
        """The builders that say whether a change passed."""
        if self.must_pass is not None:
            return self.must_pass
        return tuple(name for name, station in self.builders.items() if station != "deploy")


class Pipeline:
    """The builders of a line."""

    can = Can(live=True, cancel=True)

    def __init__(self, master: Master, options: EntryOptions, place: Place) -> None:
        self.master = master
        self.options = options
        self.place = place

    async def whoami(self) -> Identity:
        """The account, Buildbot's version, and what the config names and Buildbot does not have."""
        async with self.master.web.in_time("whoami"):
            known, workers = await self.master.builders(), (await self.master.get("workers")).workers
            account, server, clock = await self._server()
        names = dict.fromkeys([*self.options.builders, *self.options.deciding, *self.place.halts])
        missing = [f"a builder {name!r}" for name in names if name not in known]
        ships = {known[name].builderid for name in self.place.halts if name in known}
        served = {number for worker in workers for number in worker.served}
        missing += [
            f"a worker for the builder {name!r}"
            for name in names
            if name in known and known[name].builderid not in served
        ]
        missing += [shares(worker, ships, known) for worker in mixed(workers, ships)]
        found = [f"builder {name}" for name in names if name in known]
        found += [f"worker {worker.name}, which a stop pauses" for worker in pure(workers, ships)]
        return Identity(account, server, tuple(found), tuple(missing), clock)

    async def _server(self) -> tuple[str, str, Time | None]:
        """Account, server with its version, and its clock. Raises as a read, but for a page that older masters lack."""
        account, server, clock = "unknown", "Buildbot", None
        with contextlib.suppress(Garbled):
            reply = await self.master.web.read("config")
            page: _Page = reply.json(_Page)
            account, server = page.account, page.server
            with contextlib.suppress(ValueError, OverflowError):
                clock = parsedate_to_datetime(reply.headers.get("date", "")).timestamp()
        return account, server, clock

    async def close(self) -> None:
        """Give the connections back."""
        await self.master.close()

    async def watch(self) -> AsyncIterator[Fact | Wait]:
        """Changes and runs as they stand, then live; everything is listed again from time to time. Raises as a read."""
        builders = await self.master.named(self.options.builders)
        told = Told(self.master.get, builders, self.options.builders, self.options.branch)
        async with heard(self.master.web, told) as ears:
            while True:
                for fact in await told.everything():
                    yield fact
                yield Wait(0)
                while (news := await ears.news()) is not None:
                    for fact in news:
                        yield fact

    async def passed(self, change: ChangeId) -> Passed:
        """Whether the last build of exactly this change passed, at every builder that decides. Raises as a read."""
        if not self.options.deciding:
            return Passed("unknown", "no builder is named that tests")
        async with self.master.web.in_time("whether it passed"):
            builders = await self.master.named(self.options.deciding)
            found = await asyncio.gather(*(self._passed(builder, change) for builder in builders))
        words = "; ".join(one.words for one in found)
        for state in ("no", "running", "unknown"):
            if any(one.state == state for one in found):
                return Passed(state, words)
        return Passed("yes", words)

    async def _passed(self, builder: Builder, change: ChangeId) -> Passed:
        if await self._undone(builder, change):
            return Passed("running", f"{builder.name} is not done with it")
        which = f"builderid={builder.builderid}&property=revision&property=got_revision"
        builds = (await self.master.get(f"builds?{which}&order=-buildid&limit={LOOKED_THROUGH}")).builds
        builds = [one for one in builds if is_revision(change, one.property("got_revision"), one.property("revision"))]
        builds = builds or await self._of_change(builder, change)
        if not builds:
            return Passed("unknown", f"{builder.name} has not built it")
        last = max(builds, key=lambda item: item.buildid)
        if not last.complete:
            return Passed("running", f"{builder.name} #{last.number} runs")
        passed = last.results in (SUCCESS, WARNINGS)
        return Passed("yes" if passed else "no", f"{builder.name} #{last.number}: {last.state_string}")

    async def _of_change(self, builder: Builder, change: ChangeId) -> list[Build]:
        """Builds of a change that are too old to be listed; found by the change."""
        if not re.fullmatch(r"[0-9A-Za-z._-]+", change):
            return []
        rows = (await self.master.get(f"changes?revision={change}")).changes
        found = [(await self.master.get(f"changes/{row.changeid}/builds")).builds for row in rows[-3:]]
        return [item for builds in found for item in builds if item.builderid == builder.builderid]

    async def _undone(self, builder: Builder, change: ChangeId) -> bool:
        """Whether it is waiting to be built, or is being built."""
        requests = (await self.master.get(f"buildrequests?builderid={builder.builderid}&complete=false")).buildrequests
        if not requests:
            return False
        found = await by_id(self.master.get, "buildsets", "bsid", sorted({item.buildsetid for item in requests}))
        return any(is_revision(change, item.stamp.revision) for item in found.buildsets)

    async def log(self, run: RunId, part: str, start: int) -> LogPart:
        """Lines of a step's log: of its command, else of the first log it has. Raises as a read."""
        if not re.fullmatch(r"[0-9]+/[0-9]+", part):
            raise Garbled(f"{self.master.name}: {run} has no log {part!r}")
        async with self.master.web.in_time("a log"):
            return await self._log(part, start)

    async def _log(self, part: str, start: int) -> LogPart:
        build, _, step = part.partition("/")
        logs = (await self.master.get(f"builds/{build}/steps/{step}/logs")).logs
        if not logs:
            steps = (await self.master.get(f"builds/{build}/steps/{step}")).steps
            return LogPart((), start, done=all(item.complete for item in steps))
        log = next((item for item in logs if item.name == "stdio"), logs[0])
        if start >= log.num_lines:
            return LogPart((), start, log.complete)
        most = min(LOG_LINES, log.num_lines - start)
        chunks = (await self.master.get(f"logs/{log.logid}/contents?offset={start}&limit={most}")).logchunks
        lines = lines_of(log, chunks)
        after = start + len(lines)
        return LogPart(lines, after, log.complete and after >= log.num_lines)

    async def cancel(self, run: RunId, why: Why) -> Answer:
        """Stop a run's build, or take its request out of the queue."""
        if not re.fullmatch(r"r[0-9]+", run):
            return Refused(f"{self.master.name}: Buildbot has no run {run}")
        look = self.master.get(f"buildrequests?buildrequestid={run[1:]}", for_act=True)
        return await self.master.decided(look, lambda found: self._cancel(run, found.buildrequests, why))

    async def _cancel(self, run: RunId, requests: list[Request], why: Why) -> Answer:
        if not requests:
            return Refused(f"{self.master.name}: Buildbot has no run {run}")
        if requests[0].complete:
            return Accepted(run)
        return await self.master.call(f"buildrequests/{run[1:]}", "cancel", reason=f"{why.who}: {why.text}")


class StandingPipeline(Pipeline):
    """The builders of a line, where the config names some that ship and are to be halted."""

    def __init__(self, master: Master, options: EntryOptions, place: Place) -> None:
        super().__init__(master, options, place)
        self._workers = Workers(master, place.halts)

    async def halt(self, hold: HoldRef) -> Answer:
        """Pause the workers that ship, except those which are paused already, by whomever."""
        return await self._workers.halt(hold)

    async def release(self, hold: HoldRef, before: Halted) -> Answer:
        """Let those work again which this stop paused."""
        return await self._workers.release(before)

    async def halted(self) -> Halted:
        """Each worker that ships: whether it is paused, why, and the runs that are still built there. Raises as a read."""
        return await self._workers.halted()


class _Page(msgspec.Struct, frozen=True):
    """What Buildbot tells its own screens."""

    user: dict[str, Any] = {}
    versions: list[tuple[str, str]] = []

    @property
    def account(self) -> str:
        """Who we are to it."""
        names = (self.user.get(key) for key in ("email", "username", "full_name"))
        return next((str(name) for name in names if name), "anonymous")

    @property
    def server(self) -> str:
        """Its name and version."""
        return f"Buildbot {dict(self.versions).get('Buildbot', '')}".strip()


def _open(master: Master, options: EntryOptions, place: Place) -> Pipeline:
    return (StandingPipeline if place.halts else Pipeline)(master, options, place)


ADAPTER = Adapter(
    name="buildbot",
    title="Buildbot",
    options=ConnectionOptions,
    connect=Master,
    ci=registry.Station(EntryOptions, _open),
)
