"""One repository on a GitHub: its listings, each read to the end, and the few questions that several stations ask."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import msgspec

from adapters._github_facts import (
    CheckRun,
    Commit,
    JobRow,
    Pending,
    Variable,
    Workflow,
    WorkflowRun,
)
from adapters._github_hub import Hub
from andon.ports import Garbled

RUNS = 30
"""Runs of a workflow that are looked at each time, the newest ones; those that are open are listed by themselves."""
MOST = 100
"""Rows of a page, as many as GitHub gives."""
VARIABLES = 30


class RunsPage(msgspec.Struct, frozen=True):
    """A page of runs."""

    total_count: int
    workflow_runs: list[WorkflowRun]


class JobsPage(msgspec.Struct, frozen=True):
    """A page of jobs."""

    total_count: int
    jobs: list[JobRow]


class ChecksPage(msgspec.Struct, frozen=True):
    """A page of checks."""

    total_count: int
    check_runs: list[CheckRun]


class VariablesPage(msgspec.Struct, frozen=True):
    """A page of variables."""

    total_count: int
    variables: list[Variable]


class About(msgspec.Struct, frozen=True):
    """The repository itself."""

    full_name: str
    default_branch: str


class Compared(msgspec.Struct, frozen=True):
    """How one commit stands to another: ahead, behind, identical, diverged."""

    status: str


class Repo:
    """One repository."""

    def __init__(self, hub: Hub, name: str) -> None:
        self.hub = hub
        self.name = name

    def path(self, rest: str = "") -> str:
        """Where something of the repository is."""
        return f"repos/{self.name}/{rest}".rstrip("/")

    async def about(self, *, for_act: bool = False) -> About:
        """The repository itself. Raises as a read."""
        found: About = await self.hub.get(self.path(), About, for_act=for_act)
        return found

    async def workflow(self, file: str, *, for_act: bool = False) -> Workflow:
        """A workflow by its file's name. Raises as a read."""
        path = self.path(f"actions/workflows/{quote(file, safe='')}")
        found: Workflow = await self.hub.get(path, Workflow, for_act=for_act)
        return found

    async def newest(self, file: str, *, for_act: bool = False, **which: str) -> list[WorkflowRun]:
        """The newest runs of a workflow, newest first. Raises as a read."""
        page: RunsPage = await self.hub.get(self._runs(file), RunsPage, _which(RUNS, which), for_act=for_act)
        return page.workflow_runs

    async def runs(self, file: str, *, for_act: bool = False, **which: str) -> list[WorkflowRun]:
        """All runs of a workflow that are such, newest first. Raises as a read."""
        pages = await self.hub.listed(self._runs(file), RunsPage, _which(MOST, which), for_act=for_act)
        return self._whole([page.workflow_runs for page in pages], pages[-1].total_count, "runs")

    async def run(self, number: int, *, for_act: bool = False) -> WorkflowRun:
        """One run. Raises as a read."""
        path = self.path(f"actions/runs/{number}")
        found: WorkflowRun = await self.hub.get(path, WorkflowRun, {"exclude_pull_requests": "true"}, for_act=for_act)
        return found

    async def jobs(self, run: int) -> list[JobRow]:
        """The jobs of a run's last attempt. Raises as a read."""
        pages = await self.hub.listed(self.path(f"actions/runs/{run}/jobs"), JobsPage, {"per_page": MOST})
        return self._whole([page.jobs for page in pages], pages[-1].total_count, "jobs")

    async def pending(self, run: int, *, for_act: bool = False) -> list[Pending]:
        """What a run waits for. Raises as a read."""
        path = self.path(f"actions/runs/{run}/pending_deployments")
        found: list[Pending] = await self.hub.get(path, list[Pending], for_act=for_act)
        return found

    async def variables(self, *, for_act: bool = False) -> list[Variable]:
        """The repository's variables. Raises as a read."""
        where, which = self.path("actions/variables"), {"per_page": VARIABLES}
        pages = await self.hub.listed(where, VariablesPage, which, for_act=for_act)
        return self._whole([page.variables for page in pages], pages[-1].total_count, "variables")

    async def checks(self, commit: str) -> list[CheckRun]:
        """The newest check of each name at a commit. Raises as a read."""
        path = self.path(f"commits/{commit}/check-runs")
        pages = await self.hub.listed(path, ChecksPage, {"filter": "latest", "per_page": MOST})
        return self._whole([page.check_runs for page in pages], pages[-1].total_count, "checks")

    async def commit(self, ref: str, *, for_act: bool = False) -> Commit | None:
        """The commit of a hash, which may be cut short; None: there is none. Raises as a read."""
        path = self.path(f"commits/{ref}")
        # Of a large commit the files would fill the answer.
        reply = await self.hub.read(path, {"per_page": 1}, for_act=for_act, also=(404, 422))
        if reply.status in (404, 422):
            return None
        found: Commit = reply.json(Commit)
        return found if found.sha.startswith(ref) else None  # else it is a branch that is called like a hash

    async def compared(self, base: str, head: str, *, for_act: bool = False) -> str:
        """How `head` stands to `base`: ahead, behind, identical, diverged. Raises as a read."""
        path = self.path(f"compare/{base}...{head}")
        found: Compared = await self.hub.get(path, Compared, {"per_page": 1}, for_act=for_act)
        return found.status

    def _runs(self, file: str) -> str:
        return self.path(f"actions/workflows/{quote(file, safe='')}/runs")

    def _whole(self, pages: Iterable[list[Any]], total: int, what: str) -> list[Any]:
        """The rows of all pages, each once: what is begun while they are read pushes rows on to the next page."""
        rows = {getattr(row, "id", None) or row.name: row for page in pages for row in page}
        if len(rows) < total:
            raise Garbled(f"{self.hub.name}: {self.name}: {total - len(rows)} {what} are missing in the answer")
        return list(rows.values())


def _which(most: int, which: dict[str, str]) -> dict[str, str | int | float]:
    return {**which, "exclude_pull_requests": "true", "per_page": most}
