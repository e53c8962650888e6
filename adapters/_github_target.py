"""An environment at GitHub as a deploy target: what runs there, and the workflow that puts a version there."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import msgspec

from adapters._github_deploys import Environments
from adapters._github_facts import SHA, Commit, is_hash
from adapters._github_hub import Hub, done
from adapters._github_station import FILE, REPO, Located, Probe, checked
from adapters._http import Reply
from andon.model import Deployment, DeploymentId, HoldId, Identity, Why
from andon.ports import Accepted, Answer, Can, Conflict, Fact, Garbled, NoAnswer, Refused, Wait
from andon.registry import Place


class DeployOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of `deploy:`."""

    repo: str
    workflow: str = ""
    """The workflow that puts the version it is given into the environment; empty: andon only watches."""
    environment: str = ""
    """As GitHub calls it; empty: as the line does."""
    branch: str = ""
    """The branch whose workflow file is used; empty: the repository's default branch."""
    input: str = "version"
    """The workflow's input that takes the version."""
    inputs: dict[str, str] = {}
    """Further inputs, always the same."""
    titled: str = ""
    """Only runs with this in their title are of this environment, where a workflow serves several."""

    def __post_init__(self) -> None:
        """Raises ValueError for what is no repository or workflow."""
        checked("repo", self.repo, REPO, "acme/checkout")
        checked("workflow", self.workflow, f"(?:{FILE})?", "rollback.yml, without its folder")


class Target(Located):
    """An environment of a repository."""

    def __init__(self, hub: Hub, options: DeployOptions, place: Place) -> None:
        if place.halts:
            raise ValueError("deploy: the way back is not halted; name what ships as `halts:` of an entry of `ci:`")
        super().__init__(hub, options.repo, options.branch, place)
        self.options = options
        self.environment = options.environment or place.environment
        self.can = Can(deploy=bool(options.workflow), abort=bool(options.workflow))
        self._there = Environments(self.repo, self.environment, options.workflow, options.titled)
        hub.runs_there[place.line] = partial(self._there.current, for_act=True)

    async def whoami(self) -> Identity:
        """The account, what the token may read, and whether the way back is open."""
        probes: dict[str, Probe] = {"permission Deployments: read": self._seen_deployments}
        if self.options.workflow:
            probes[f"the way back, {self.options.workflow}"] = self._seen_way_back
        lacks = (
            "GitHub compares no deployments: one of the same second is not seen",
            "GitHub knows no shares of the traffic",
        )
        return await self.identity(probes, bool(self.options.workflow), *lacks)

    async def _seen_deployments(self) -> str:
        found = await self._there.deployments()
        return f"environment {self.environment}: {len(found)} deployments listed"

    async def _seen_way_back(self) -> str:
        """Raises Garbled where it is closed, or would not say what it put there."""
        file = self.options.workflow
        workflow = await self.repo.workflow(file)
        if workflow.state != "active":
            raise Garbled(f"it is {workflow.state.replace('_', ' ')}: nothing can be rolled back")
        newest = next(iter(await self.repo.newest(file, event="workflow_dispatch")), None)
        if newest is not None and SHA.search(newest.display_title) is None:
            words = (
                f"its runs' titles do not name the version: write `run-name: ${{{{ inputs.{self.options.input} }}}}`"
            )
            raise Garbled(words)
        return f"workflow {file}: active, the way back"

    async def watch(self) -> AsyncIterator[Fact | Wait]:
        """Deployments as whole states, oldest first; then what is new. Raises as a read."""
        told: dict[DeploymentId, Deployment] = {}
        while True:
            found = await self._there.deployments()
            for item in reversed(found):
                if told.get(item.id) != item:
                    yield item
            told = {item.id: item for item in found}
            yield Wait(self.hub.pace_s)

    async def current(self) -> Deployment | None:
        """What runs there. Raises as a read."""
        async with self.hub.web.in_time("what runs"):
            return await self._there.current()

    async def history(self, n: int) -> list[Deployment]:
        """The last deployments, newest first. Raises as a read."""
        async with self.hub.web.in_time("what ran"):
            return await self._there.deployments(n)

    async def deploy(self, version: str, *, expected: DeploymentId | None, key: str, through: HoldId | None) -> Answer:
        """Start the workflow that puts a version there, if what is expected runs a moment before."""
        if not self.options.workflow:
            return Refused(f"{self.hub.name}: no `workflow:` is named that deploys to {self.environment}")
        if not is_hash(version):
            return Refused(f"{self.hub.name}: {version} is no commit's hash, and nothing else can be deployed")
        return await self.hub.decided(self._before(version), lambda found: self._dispatch(*found, expected))

    async def _before(self, version: str) -> tuple[str, Commit | None, Deployment | None]:
        return await asyncio.gather(
            self.branch(for_act=True), self.repo.commit(version, for_act=True), self._there.current(for_act=True)
        )

    async def _dispatch(
        self, branch: str, commit: Commit | None, current: Deployment | None, expected: DeploymentId | None
    ) -> Answer:
        if commit is None:
            return Refused(f"{self.repo.name} has no such commit")
        if current is not None and current.id != expected:
            return Conflict(current.id)
        inputs = {**self.options.inputs, self.options.input: commit.sha}
        path = self.repo.path(f"actions/workflows/{self.options.workflow}/dispatches")
        body = {"ref": branch, "inputs": inputs, "return_run_details": True}
        answer = await self.hub.act("POST", path, body, at_once=True)
        if not isinstance(answer, Reply):
            return answer
        if answer.status == 204:  # an older server, which does not say
            return Accepted()
        try:
            begun: Dispatched = answer.json(Dispatched)
        except Garbled as error:
            return NoAnswer(str(error))
        return Accepted(f"run-{begun.workflow_run_id}")

    async def abort(self, deployment: DeploymentId, why: Why) -> Answer:
        """Cancel the run that a deployment is a part of."""
        return await self.hub.decided(self._there.run_of(deployment), lambda run: self._cancel(run, deployment))

    async def _cancel(self, run: int, deployment: DeploymentId) -> Answer:
        if not run:
            return Refused(f"{self.hub.name}: no run is known that {deployment} is a part of")
        path = self.repo.path(f"actions/runs/{run}/cancel")
        return done(await self.hub.act("POST", path, also=(409,), at_once=True), deployment)

    async def share(self, version: str, percent: int, *, expected: DeploymentId | None, key: str) -> Answer:
        """GitHub knows no shares of the traffic."""
        return Refused(f"{self.hub.name}: GitHub knows no shares of the traffic")


class Dispatched(msgspec.Struct, frozen=True):
    """The run that a dispatch began."""

    workflow_run_id: int
