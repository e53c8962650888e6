"""What runs in an environment, by GitHub's word: its deployments with their statuses, and the runs of the way back.

A deployment that a pushed commit's workflow made is of that commit. One that the rollback workflow made is not: GitHub
notes the branch it was started from. So each of its runs is a deployment of its own, called `run-` and its number, of the
version that the run's title names, from the moment it is asked for.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import msgspec

from adapters._github_facts import SHA, Actor, Moment, WorkflowRun
from adapters._github_repo import MOST, RUNS, Repo
from andon.clock import Time
from andon.model import DONE, Deployment, DeploymentState
from andon.ports import Garbled

FEW = 10
"""Of so many the statuses are asked for to know what runs; of more, if none of these does."""
LISTED = 30
"""Deployments that are looked at each time."""
DECIDED = 500
"""How many deployments that are over are remembered with how they ended."""
_RUN = re.compile(r"/actions/runs/([0-9]{1,18})(?:[/?#]|\Z)")


class DeploymentRow(msgspec.Struct, frozen=True):
    """A deployment."""

    id: int
    sha: str
    environment: str
    created_at: Moment
    updated_at: Moment
    description: str | None = None
    creator: Actor | None = None


class StatusRow(msgspec.Struct, frozen=True):
    """One word on a deployment."""

    id: int
    state: str
    created_at: Moment
    description: str = ""
    target_url: str = ""
    log_url: str = ""


class Course(msgspec.Struct, frozen=True):
    """A deployment with all that was said of it."""

    row: DeploymentRow
    statuses: tuple[StatusRow, ...]

    @property
    def last(self) -> str:
        """The last word."""
        return self.statuses[-1].state if self.statuses else "queued"

    @property
    def ran(self) -> bool:
        """Whether it ever succeeded; the next one makes it `inactive`."""
        return any(status.state == "success" for status in self.statuses)

    @property
    def state(self) -> DeploymentState:
        """How far it has come."""
        if self.last == "success" or (self.last == "inactive" and self.ran):
            return "settled"
        return "failed" if self.last in ("failure", "error", "inactive") else "rolling"

    @property
    def began(self) -> Time:
        """When it began to change something: it may have waited for an approval."""
        at = next((one.created_at for one in self.statuses if one.state == "in_progress"), self.row.created_at)
        return at.timestamp()

    @property
    def started(self) -> bool:
        """Whether it has begun to change something."""
        return any(one.state in ("in_progress", "success") for one in self.statuses)

    @property
    def run(self) -> int:
        """The run that it is a part of; 0: none is named."""
        urls = (url for one in reversed(self.statuses) for url in (one.log_url, one.target_url))
        return next((int(found[1]) for url in urls if (found := _RUN.search(url))), 0)

    @property
    def words(self) -> str:
        """What was said last of it, before the next one took its place."""
        said = next((one for one in reversed(self.statuses) if one.state != "inactive"), None)
        return (said and said.description) or self.row.description or (said.state if said else "queued")


class Seen(msgspec.Struct, frozen=True):
    """A deployment, and whether it has begun to change something."""

    deployment: Deployment
    started: bool
    number: int
    """GitHub's own, for an order where two began in the same second."""


class Environments:
    """One environment of a repository, and the workflow that is the way back there."""

    def __init__(self, repo: Repo, environment: str, workflow: str = "", titled: str = "") -> None:
        self.repo = repo
        self.environment = environment
        self.workflow = workflow
        self.titled = titled
        self._decided: OrderedDict[tuple[int, float], Course] = OrderedDict()

    async def deployments(self, most: int = LISTED, *, for_act: bool = False) -> list[Deployment]:
        """The newest deployments, newest first. Raises as a read."""
        return [item.deployment for item in await self._seen(most, for_act)]

    async def current(self, *, for_act: bool = False) -> Deployment | None:
        """What runs there: the newest that is there, or has begun to be. Raises as a read."""
        for most in (FEW, MOST):
            seen = await self._seen(most, for_act)
            there = [item.deployment for item in seen if item.started and item.deployment.state != "failed"]
            if there:
                return there[0]
            if len(seen) < min(most, RUNS):
                return None
        raise Garbled(f"{self.repo.hub.name}: none of the last {len(seen)} deployments to {self.environment} succeeded")

    async def run_of(self, deployment: str) -> int:
        """The run that a deployment is a part of; 0: none is known. Raises as a read."""
        if found := re.fullmatch(r"run-([0-9]{1,18})(?:\.[0-9]+)?", deployment):
            return int(found[1])
        if not re.fullmatch(r"[0-9]{1,18}", deployment):
            return 0
        said: list[StatusRow] = await self.repo.hub.get(self._statuses(deployment), list[StatusRow], for_act=True)
        urls = (url for one in said for url in (one.log_url, one.target_url))
        return next((int(found[1]) for url in urls if (found := _RUN.search(url))), 0)

    async def _seen(self, most: int, for_act: bool) -> list[Seen]:
        rows, runs = await asyncio.gather(self._rows(most, for_act), self._runs(for_act))
        if len(runs) >= RUNS:  # a deployment of an older run of the way back would be taken for one of its branch
            oldest = min(run.created_at for run in runs)
            rows = [row for row in rows if row.created_at >= oldest]
        courses = await asyncio.gather(*(self._course(row, for_act) for row in rows))
        of_run: dict[int, list[Course]] = {}
        for course in courses:
            of_run.setdefault(course.run, []).append(course)
        runs = [run for run in runs if self.titled in run.display_title]
        back = {run.id for run in runs}
        found = [_plain(course) for course in courses if course.run not in back]
        found += [_of_run(run, of_run.get(run.id, ())) for run in runs]
        found.sort(key=lambda item: (item.deployment.at, item.number), reverse=True)
        return _finished(found)[:most]

    async def _rows(self, most: int, for_act: bool) -> list[DeploymentRow]:
        path = self.repo.path("deployments")
        which: dict[str, str | int | float] = {"environment": self.environment, "per_page": min(most, MOST)}
        if most <= MOST:
            found: list[DeploymentRow] = await self.repo.hub.get(path, list[DeploymentRow], which, for_act=for_act)
            return found
        pages = await self.repo.hub.listed(path, list[DeploymentRow], which, for_act=for_act)
        return [row for page in pages for row in page][:most]

    async def _runs(self, for_act: bool) -> list[WorkflowRun]:
        if not self.workflow:
            return []
        return await self.repo.newest(self.workflow, event="workflow_dispatch", for_act=for_act)

    async def _course(self, row: DeploymentRow, for_act: bool) -> Course:
        """A deployment with its statuses; those of one that is over are read once."""
        key = (row.id, row.updated_at.timestamp())
        if key in self._decided:
            return self._decided[key]
        pages = await self.repo.hub.listed(self._statuses(row.id), list[StatusRow], {"per_page": MOST}, for_act=for_act)
        said = {status.id: status for page in pages for status in page}
        course = Course(row, tuple(sorted(said.values(), key=lambda one: (one.created_at, one.id))))
        if course.last in ("inactive", "failure", "error"):
            self._decided[key] = course
            while len(self._decided) > DECIDED:
                self._decided.popitem(last=False)
        return course

    def _statuses(self, deployment: int | str) -> str:
        return self.repo.path(f"deployments/{deployment}/statuses")


def _plain(course: Course) -> Seen:
    """A deployment of the commit that GitHub names."""
    row = course.row
    by = row.creator.login if row.creator else ""
    return Seen(
        Deployment(str(row.id), row.sha, course.state, course.began, by, words=course.words), course.started, row.id
    )


def _of_run(run: WorkflowRun, courses: Sequence[Course]) -> Seen:
    """A run of the way back as the deployment that it is; GitHub's own of it only say how far it has come."""
    named = SHA.search(run.display_title)
    course = max(courses, key=lambda one: one.row.id, default=None)
    state: DeploymentState = "settled" if run.state == "passed" else "failed" if run.state in DONE else "rolling"
    if course is not None and course.state != "rolling":
        state = course.state
    started = run.state != "waiting" if course is None else course.started
    words = course.words if course else (run.conclusion or run.status or "").replace("_", " ")
    return Seen(
        Deployment(
            id=f"run-{run.id}" + (f".{run.run_attempt}" if run.run_attempt > 1 else ""),
            version=named[0] if named else f"run-{run.id}",
            state=state,
            at=course.began if course and course.started else run.began,
            by=run.who,
            available=named is not None,
            words=words if named else f"the run's title names no version: see `run-name:`; {words}",
        ),
        started,
        run.id,
    )


def _finished(seen: Iterable[Seen]) -> list[Seen]:
    """What never began before something newer was there is over; newest first."""
    found, settled = [], False
    for item in seen:
        one = item.deployment
        if settled and one.state == "rolling" and not item.started:
            over = msgspec.structs.replace(one, state="failed", words=f"never finished: {one.words}")
            item = msgspec.structs.replace(item, deployment=over)
        settled = settled or one.state == "settled"
        found.append(item)
    return found
