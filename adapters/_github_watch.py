"""What one watch of a line's workflows has told, so that it tells only what is new.

GitHub streams nothing: everything is asked for again, with conditions. Its answers come from several machines, so that one
may be older than the one before it: what is older than what was told is left out.
"""

import statistics
from collections.abc import Mapping, Sequence

import msgspec

from adapters._github_facts import Commit, JobRow, WorkflowRun, run_of
from adapters._github_repo import Repo
from andon.model import DONE, ChangeId, Run, RunId, Station
from andon.ports import Changes, Denied, Fact, Garbled

COMMITS = 50
JOBS_OF = 10
"""Of so many runs that are over the jobs are asked for, the newest ones of each workflow."""


class Said(msgspec.Struct, frozen=True):
    """What was told of a run, by which word of GitHub's."""

    seen: WorkflowRun
    run: Run

    def newer(self, than: "Said") -> bool:
        """Whether its word is not older than the other one's."""
        mine, other = self.seen, than.seen
        return (mine.run_attempt, mine.updated_at) >= (other.run_attempt, other.updated_at)


class Told:
    """What was told of the workflows of a line."""

    def __init__(
        self, repo: Repo, branch: str, workflows: Mapping[str, Station], stations: Mapping[str, Station]
    ) -> None:
        self._repo = repo
        self._branch = branch
        self._workflows = workflows
        self._stations = stations
        self._changes: set[ChangeId] = set()
        self._said: dict[int, Said] = {}

    async def everything(self) -> list[Fact]:
        """What is new, after asking for everything again. Raises as a read."""
        facts: list[Fact] = list(await self._fresh_changes())
        listed: set[int] = set()
        for file, station in self._workflows.items():
            runs = await self._repo.newest(file, branch=self._branch)
            listed |= {run.id for run in runs}
            facts += await self._runs(runs, station)
        facts += await self._left(listed)
        return facts

    async def _fresh_changes(self) -> list[Fact]:
        which: dict[str, str | int | float] = {"sha": self._branch, "per_page": COMMITS}
        commits: list[Commit] = await self._repo.hub.get(self._repo.path("commits"), list[Commit], which)
        fresh = tuple(one.change for one in reversed(commits) if one.sha not in self._changes)
        self._changes = {one.sha for one in commits}
        return [Changes(fresh)] if fresh else []

    async def _runs(self, runs: Sequence[WorkflowRun], station: Station) -> list[Fact]:
        usual_s = _usual_s(runs)
        over = [run.id for run in runs if run.state in DONE][:JOBS_OF]
        facts: list[Fact] = []
        for run in sorted(runs, key=lambda run: run.id):
            told = self._said.get(run.id)
            if told is not None and told.seen == run and run.state in DONE:
                continue
            jobs = await self._repo.jobs(run.id) if run.state not in DONE or run.id in over else []
            facts += await self._say(run, jobs, station, usual_s)
        return facts

    async def _say(
        self, run: WorkflowRun, jobs: Sequence[JobRow], station: Station, usual_s: float | None
    ) -> list[Fact]:
        pending = []
        if run.status == "waiting":
            try:
                pending = await self._repo.pending(run.id)
            except (Denied, Garbled):  # who may approve is good to know, and no more
                pending = []
        fresh = Said(run, run_of(run, jobs, self._stations, station, pending, usual_s))
        told = self._said.get(run.id)
        if told is not None and (fresh.run == told.run or not fresh.newer(told)):
            return []
        self._said[run.id] = fresh
        return [fresh.run]

    async def _left(self, listed: set[int]) -> list[Fact]:
        """What became of open runs that are too old to be listed; and what is over is forgotten."""
        facts: list[Fact] = []
        for number in [number for number, said in self._said.items() if number not in listed]:
            said = self._said[number]
            if said.run.state in DONE:
                del self._said[number]
                continue
            run = await self._repo.run(number)
            station = said.run.stages[0].station
            facts += await self._say(run, await self._repo.jobs(number), station, None)
        return facts


def _usual_s(runs: Sequence[WorkflowRun]) -> float | None:
    """How long its runs take that succeed, in seconds: the median of those given."""
    took = [run.updated_at.timestamp() - run.began for run in runs if run.state == "passed"]
    return float(round(statistics.median(took))) if took else None


def run_number(run: RunId) -> int | None:
    """The number of a run; None: it is none of GitHub's."""
    return int(run) if run.isascii() and run.isdigit() and len(run) <= 18 else None
