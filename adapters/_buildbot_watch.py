"""What one watch of Buildbot has told, so that it tells only what is new; and what it hears meanwhile.

The stream of events has no replay, and an update of a build may come before its beginning: an event only says what to
read again, by its number, never what happened. Everything is read again from time to time, whether anything was heard or
not.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

from adapters._buildbot_facts import (
    Build,
    Builder,
    Buildset,
    Listing,
    Message,
    Meta,
    Request,
    Stamp,
    Step,
    changes_of,
    on_branch,
    run_of,
    usual_s,
)
from adapters._http import Events, Web
from andon.model import DONE, ChangeId, Run, Station
from andon.ports import Changes, Fact, Garbled, Unreachable

CHANGES, REQUESTS, OPEN = 100, 50, 300
"""How many are listed: changes, requests of the last, and requests that are not done."""

EVERYTHING_S = 30.0
"""How often everything is read again."""

GATHERED_S = 0.2
"""How long events are gathered before they are acted on: one build alone makes dozens."""

IDS_AT_ONCE = 100

READY_S = 10.0
"""How long the stream may take to say that it listens."""

Get = Callable[[str], Awaitable[Listing]]


class Told:
    """What was told of the builders of a line."""

    def __init__(self, get: Get, builders: Iterable[Builder], stations: Mapping[str, Station], branch: str) -> None:
        self._get = get
        self._builders = {item.builderid: item.name for item in builders}
        self._stations = stations
        self._branch = branch
        self._which = "&".join(f"builderid={number}" for number in sorted(self._builders))
        self._changes: set[ChangeId] = set()
        self._runs: dict[int, Run] = {}
        self._stamps: dict[int, Stamp] = {}
        self._steps: dict[int, list[Step]] = {}
        self._request_of: dict[int, int] = {}
        self._usual: dict[int, float] = {}

    async def everything(self) -> list[Fact]:
        """What is new, after reading everything again."""
        facts = await self.changes()
        recent = await self._get(f"buildrequests?{self._which}&order=-buildrequestid&limit={REQUESTS}")
        waiting = await self._get(f"buildrequests?{self._which}&complete=false&order=buildrequestid&limit={OPEN}")
        listed = {item.buildrequestid: item for item in [*recent.buildrequests, *waiting.buildrequests]}
        left = [number for number, run in self._runs.items() if run.state not in DONE and number not in listed]
        builds = (await self._get(f"builds?{self._which}&order=-buildid&limit={2 * REQUESTS}")).builds
        self._usual = usual_s(builds)
        facts += await self._runs_of(list(listed.values()), builds)
        facts += await self.requests(left)
        self._forget(listed)
        return facts

    async def changes(self) -> list[Fact]:
        """The changes that were not told yet."""
        rows = (await self._get(f"changes?order=-changeid&limit={CHANGES}")).changes
        listed = changes_of(rows, self._branch)
        fresh = tuple(change for change in listed if change.id not in self._changes)
        self._changes = {change.id for change in listed}
        return [Changes(fresh)] if fresh else []

    async def requests(self, numbers: Iterable[int]) -> list[Fact]:
        """The runs of those requests, as far as they are new; a request that is gone ends its run."""
        numbers = sorted(numbers)
        if not numbers:
            return []
        found = await by_id(self._get, "buildrequests", "buildrequestid", numbers)
        builds = [build for item in found.buildrequests for build in await self._builds_of(item)]
        facts = await self._runs_of(found.buildrequests, builds)
        for number in set(numbers) - {item.buildrequestid for item in found.buildrequests}:
            run = self._runs.pop(number, None)
            if run is not None and run.state not in DONE:
                facts.append(Run(run.id, run.change, "cancelled", at=run.at, words="Buildbot no longer knows it"))
        return facts

    def touched(self, message: Message) -> int:
        """The number of the request that an event is about; 0 if it is none of ours."""
        if message.message is None and message.kind == "buildrequests":
            return message.about
        if message.number("builderid") in self._builders:
            return message.number("buildrequestid")
        return self._request_of.get(message.number("buildid"), 0)

    async def _runs_of(self, requests: list[Request], builds: list[Build]) -> list[Fact]:
        requests = [item for item in requests if item.builderid in self._builders]
        await self._look_up({item.buildsetid for item in requests} - self._stamps.keys())
        requests = [item for item in requests if on_branch(self._stamps[item.buildsetid].branch, self._branch)]
        last = {item.buildrequestid: item for item in sorted(builds, key=lambda item: item.buildid)}
        for request in requests:
            # A request may be older than the builds that were listed.
            if request.buildrequestid not in last and (request.claimed or request.complete):
                for build in await self._builds_of(request):
                    last[request.buildrequestid] = build
        runs = await asyncio.gather(*(self._run(item, last.get(item.buildrequestid)) for item in requests))
        facts: list[Fact] = []
        for request, run in zip(requests, runs, strict=True):
            if self._runs.get(request.buildrequestid) != run:
                self._runs[request.buildrequestid] = run
                facts.append(run)
        return sorted(facts, key=lambda fact: isinstance(fact, Run) and int(fact.id[1:]))

    async def _run(self, request: Request, build: Build | None) -> Run:
        stamp, steps = self._stamps[request.buildsetid], []
        if build is not None:
            self._request_of[build.buildid] = request.buildrequestid
            if not stamp.revision:
                found = await self._get(f"builds/{build.buildid}?property=got_revision&property=owner")
                build = next(iter(found.builds), build)
            steps = await self._steps_of(build)
        name = self._builders[request.builderid]
        return run_of(request, stamp, name, self._stations[name], build, steps, self._usual.get(request.builderid))

    async def _steps_of(self, build: Build) -> list[Step]:
        """The steps of a build; those of one that has ended are read once."""
        if build.buildid in self._steps:
            return self._steps[build.buildid]
        steps = sorted((await self._get(f"builds/{build.buildid}/steps")).steps, key=lambda step: step.number)
        if build.complete:
            self._steps[build.buildid] = steps
        return steps

    async def _builds_of(self, request: Request) -> list[Build]:
        """The builds of one request, oldest first."""
        builds = (await self._get(f"buildrequests/{request.buildrequestid}/builds")).builds
        return sorted(builds, key=lambda item: item.buildid)

    async def _look_up(self, buildsets: set[int]) -> None:
        """What those sets of requests build."""
        found: list[Buildset] = (
            (await by_id(self._get, "buildsets", "bsid", sorted(buildsets))).buildsets if buildsets else []
        )
        self._stamps |= dict.fromkeys(buildsets, Stamp())
        self._stamps |= {item.bsid: item.stamp for item in found}

    def _forget(self, listed: Mapping[int, Request]) -> None:
        """Drop what is neither listed nor open: a watch goes on for months."""
        self._runs = {key: run for key, run in self._runs.items() if key in listed or run.state not in DONE}
        self._request_of = {build: number for build, number in self._request_of.items() if number in self._runs}
        self._steps = {build: steps for build, steps in self._steps.items() if build in self._request_of}
        sets = {item.buildsetid for item in listed.values()}
        self._stamps = {key: stamp for key, stamp in self._stamps.items() if key in sets}


async def by_id(get: Get, kind: str, field: str, numbers: list[int]) -> Listing:
    """Requests or sets of them that have one of the numbers. Raises as a read."""
    parts = [numbers[start : start + IDS_AT_ONCE] for start in range(0, len(numbers), IDS_AT_ONCE)]
    found = [await get(f"{kind}?" + "&".join(f"{field}={number}" for number in part)) for part in parts]
    return Listing(
        Meta(),
        buildrequests=[item for one in found for item in one.buildrequests],
        buildsets=[item for one in found for item in one.buildsets],
    )


class Ears:
    """What is heard between two readings of everything."""

    def __init__(self, events: Events, told: Told) -> None:
        self._events = events
        self._told = told
        self._due = time.monotonic() + EVERYTHING_S

    async def news(self) -> list[Fact] | None:
        """What is new by what was heard, waiting for it; None: it is time to read everything. Raises as a read."""
        requests: set[int] = set()
        changes, gathered_by = False, self._due
        while (now := time.monotonic()) < gathered_by:
            event = await self._next(gathered_by - now)
            if event is None:
                break
            requests |= {self._told.touched(event)} - {0}
            changes = changes or event.kind == "changes"
            if requests or changes:
                gathered_by = min(gathered_by, now + GATHERED_S)
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + EVERYTHING_S
            return None
        facts = await self._told.changes() if changes else []
        return facts + await self._told.requests(requests)

    async def _next(self, within_s: float) -> Message | None:
        try:
            event = await self._events.next(within_s)
        except Garbled as error:
            # A stream that breaks off in the middle is a server that went away.
            raise Unreachable(str(error)) from error
        return None if event is None else event.json(Message)


@contextlib.asynccontextmanager
async def heard(web: Web, told: Told) -> AsyncIterator[Ears]:
    """Listen to what happens to builds, requests, steps and changes, from now on. Raises as a read.

    Buildbot's stream is silent while nothing happens, for hours: that it is alive is seen by reading everything again.
    """
    async with web.stream_events("sse/listen/builds/*/*", quiet_s=None) as events:
        hello = await events.next(READY_S)
        if hello is None or not re.fullmatch(r"[0-9a-fA-F-]{36}", hello.data):
            raise Garbled(f"{web.name}: the stream of events does not begin with a handshake")
        for kind in ("buildrequests", "steps", "changes"):
            await web.get_text(f"sse/add/{hello.data}/{kind}/*/*")
        yield Ears(events, told)
