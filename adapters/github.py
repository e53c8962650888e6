"""GitHub: workflow runs with their jobs, logs and approvals; deployments of an environment; and a stop of what ships.

`_github_hub` is one GitHub with its limits, `_github_facts` what its REST API says, `_github_watch` follows the runs,
`_github_halt` stops the workflows that ship, `_github_deploys` knows what runs in an environment.
"""

from collections.abc import AsyncIterator
from functools import partial

import msgspec

from adapters._github_facts import CheckRun, Commit, is_hash
from adapters._github_halt import Workflows
from adapters._github_hub import ConnectionOptions, Hub, done
from adapters._github_log import Logs
from adapters._github_station import FILE, REPO, Located, Probe, checked
from adapters._github_target import DeployOptions, Target
from adapters._github_watch import Told, run_number
from andon import registry
from andon.model import ChangeId, Halted, HoldRef, Identity, LogPart, RunId, RunState, Station, Why
from andon.ports import Answer, Can, Fact, Garbled, Passed, Refused, Wait
from andon.registry import Adapter, Place


class CIOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of an entry of `ci:`."""

    repo: str
    """As `acme/checkout`."""
    workflow: str
    """The workflow that tests, by its file: `ci.yml`."""
    branch: str = ""
    """The branch of the line; empty: the repository's default branch."""
    stations: dict[str, Station] = {}
    """The station at which a job stands; what is not named here tests."""
    environment: str = ""
    """Where `halts` ship to, as GitHub calls it; empty: as the line does."""
    checks: tuple[str, ...] = ()
    """Checks of other apps that a change must have passed, too."""

    def __post_init__(self) -> None:
        """Raises ValueError for what is no repository or workflow."""
        checked("repo", self.repo, REPO, "acme/checkout")
        checked("workflow", self.workflow, FILE, "ci.yml, without its folder")


class Pipeline(Located):
    """The workflows of a line."""

    can = Can(cancel=True)

    def __init__(self, hub: Hub, options: CIOptions, place: Place) -> None:
        super().__init__(hub, options.repo, options.branch, place)
        self.options = options
        self.logs = Logs(hub)

    async def close(self) -> None:
        """Give the connections back."""
        await self.logs.close()
        await super().close()

    async def whoami(self) -> Identity:
        """The account, what the token may read, and what the config names and GitHub does not have."""
        probes: dict[str, Probe] = {"permission Metadata: read": self._seen_repo}
        for file in dict.fromkeys([self.options.workflow, *self.place.halts]):
            probes[f"permission Actions: read, for {file}"] = partial(self._seen_workflow, file)
        probes["permission Contents: read"] = self._seen_commits
        if self.options.checks:
            probes["permission Checks: read"] = self._seen_checks
        if self.place.halts:
            probes["permission Variables: read and write, to note a hold"] = self._seen_variables
        return await self.identity(
            probes, bool(self.place.halts), "GitHub streams nothing: it is asked again and again"
        )

    async def _seen_repo(self) -> str:
        return f"repository {(await self.repo.about()).full_name}"

    async def _seen_workflow(self, file: str) -> str:
        workflow = await self.repo.workflow(file)
        stopped = ", which a stop disables" if file in self.place.halts else ""
        return f"workflow {file}: {workflow.state.replace('_', ' ')}{stopped}"

    async def _seen_commits(self) -> str:
        branch = await self.branch()
        path = self.repo.path("commits")
        commits: list[Commit] = await self.hub.get(path, list[Commit], {"sha": branch, "per_page": 1})
        return f"branch {branch} at {commits[0].sha[:7] if commits else 'nothing'}"

    async def _seen_checks(self) -> str:
        await self.repo.checks(await self.branch())
        return "checks"

    async def _seen_variables(self) -> str:
        await self.repo.variables()
        return "variables, where a hold is noted"

    async def watch(self) -> AsyncIterator[Fact | Wait]:
        """Changes and runs as they stand, then what is new, at the pace that GitHub's budget allows. Raises as a read."""
        workflows: dict[str, Station] = {self.options.workflow: "test"}
        for file in self.place.halts:
            workflows.setdefault(file, "deploy")
        told = Told(self.repo, await self.branch(), workflows, self.options.stations)
        while True:
            for fact in await told.everything():
                yield fact
            yield Wait(self.hub.pace_s)

    async def passed(self, change: ChangeId) -> Passed:
        """Whether the newest run of exactly this change passed, and the checks that are asked for. Raises as a read."""
        if not is_hash(change):
            return Passed("unknown", "this is no commit's hash")
        async with self.hub.web.in_time("whether it passed"):
            commit = await self.repo.commit(change)
            if commit is None:
                return Passed("unknown", f"{self.repo.name} has no commit {change[:12]}")
            found = [await self._tested(commit.sha)]
            if self.options.checks:
                checks = {check.name: check for check in await self.repo.checks(commit.sha)}
                found += [_checked_by(name, checks.get(name)) for name in self.options.checks]
        words = "; ".join(one.words for one in found)
        states = [one.state for one in found]
        return Passed(next((state for state in ("no", "running", "unknown") if state in states), "yes"), words)

    async def _tested(self, sha: ChangeId) -> Passed:
        """What the newest run of exactly this commit says; a run of a proposed merge is one of another."""
        file = self.options.workflow
        runs = [run for run in await self.repo.newest(file, head_sha=sha) if run.head_sha == sha and not run.proposed]
        if not runs:
            return Passed("unknown", f"{file} has not run for it")
        last = max(runs, key=lambda run: run.id)
        return _verdict(f"{file} #{last.run_number}", last.state, last.conclusion)

    async def log(self, run: RunId, part: str, start: int) -> LogPart:
        """Lines of a job's log. Raises as a read."""
        if run_number(part) is None or run_number(run) is None:
            raise Garbled(f"{self.hub.name}: {run} has no log {part!r}")
        async with self.hub.web.in_time("a log"):
            return await self.logs.read(self.repo.path(f"actions/jobs/{part}/logs"), start)

    async def cancel(self, run: RunId, why: Why) -> Answer:
        """Cancel a run; the steps that it always does at its end are done."""
        number = run_number(run)
        if number is None:
            return Refused(f"{self.hub.name}: GitHub has no run {run}")
        answer = await self.hub.act("POST", self.repo.path(f"actions/runs/{number}/cancel"), also=(409,), at_once=True)
        return done(answer, run)


class StandingPipeline(Pipeline):
    """The workflows of a line, where the config names some that ship and are to be halted."""

    def __init__(self, hub: Hub, options: CIOptions, place: Place) -> None:
        super().__init__(hub, options, place)
        environment = options.environment or place.environment
        self._workflows = Workflows(self.repo, place.line, environment, place.halts)

    async def halt(self, hold: HoldRef) -> Answer:
        """Disable the workflows that ship, and cancel what waits there."""
        return await self._workflows.halt(hold)

    async def release(self, hold: HoldRef, before: Halted) -> Answer:
        """Enable those again which were not disabled before, and start the newest run again that was cancelled."""
        return await self._workflows.release(before)

    async def halted(self) -> Halted:
        """Each workflow that ships: whether it is disabled, why, and what still runs or waits there. Raises as a read."""
        return await self._workflows.halted()


def _verdict(what: str, state: RunState, conclusion: str | None) -> Passed:
    """Whether a run or check passed. What was skipped or cancelled tested nothing, and did not fail either."""
    words = f"{what}: {(conclusion or state).replace('_', ' ')}"
    if state == "passed":
        return Passed("yes" if conclusion == "success" else "unknown", words)
    if state == "failed":
        return Passed("no", words)
    return Passed("unknown" if state == "cancelled" else "running", words)


def _checked_by(name: str, check: CheckRun | None) -> Passed:
    if check is None:
        return Passed("unknown", f"{name} has not looked at it")
    return _verdict(name, check.state, check.conclusion)


def _open_ci(hub: Hub, options: CIOptions, place: Place) -> Pipeline:
    for file in place.halts:
        checked("halts", file, FILE, "deploy.yml, without its folder")
    return (StandingPipeline if place.halts else Pipeline)(hub, options, place)


ADAPTER = Adapter(
    name="github",
    title="GitHub",
    options=ConnectionOptions,
    connect=Hub,
    ci=registry.Station(CIOptions, _open_ci, per_line=True),
    deploy=registry.Station(DeployOptions, Target),
)
