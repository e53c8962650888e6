"""The GitHub adapter before a GitHub that plays itself, where GitHub's own description judges each request and answer."""

import asyncio
import base64
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters._github_deploys import DeploymentRow, StatusRow
from adapters._github_facts import CheckRun, JobRow, WorkflowRun, run_of, state_of
from adapters._github_hub import AppOptions, ConnectionOptions, Hub
from adapters._github_target import DeployOptions, Target
from adapters._http import Limited
from adapters.github import ADAPTER, CIOptions, Pipeline, StandingPipeline
from andon import config
from andon.clock import WallClock
from andon.contract import CIContract, CordContract, DeployContract, HaltingContract, facts
from andon.contract_faults import BadServerContract
from andon.fileerror import FileError
from andon.model import Deployment, Halted, HoldRef, LogPart, Run, Why
from andon.ports import Accepted, Changes, Conflict, Denied, Garbled, NoAnswer, Passed, Refused, Unreachable, Wait
from andon.registry import Context, Place
from tests.adapters.github_document import deliveries
from tests.adapters.github_server import (
    ACTS,
    HOUR,
    READS,
    REPO,
    Contract,
    GitHub,
    after,
    hangs,
    resets,
    says,
    serving,
    truncates,
)
from tests.helpers import HOSTILE, until

WHY = Why("pat", "not this one")
LIMIT_S = 30.0
PAT = HoldRef("h4k2mmmm", "checkout", "pat", "checkout fails \x1b]0;x\x07")


@pytest.fixture(scope="module")
def contract() -> Contract:
    return Contract()


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GH_READS", READS)
    monkeypatch.setenv("GH_ACTS", ACTS)
    monkeypatch.setattr("adapters._github_hub.APART_S", 0.0)


@pytest.fixture
def github(contract: Contract) -> Iterator[GitHub]:
    """Three versions were shipped; the last one runs."""
    with serving(contract) as github:
        for number, title in enumerate(("first", "second [/]", "third \u202e")):
            github.ship(title, time.time() - (5 - number) * HOUR)
        github.by_itself = {"rollback.yml"}
        yield github
    assert not contract.violations
    contract.violations.clear()


def hub(github: GitHub, tmp_path: Path, **options: Any) -> Hub:
    read_only = bool(options.pop("read_only", False))
    given = {"url": github.url, "token": "env:GH_READS", "token_acts": "env:GH_ACTS", "log_hosts": ("127.0.0.1",)}
    return ADAPTER.connect(
        ConnectionOptions(**{**given, **options}), Context("gh", tmp_path, WallClock(), tmp_path, read_only=read_only)
    )


def ci(hub: Hub, line: str = "checkout", halts: tuple[str, ...] = ("deploy.yml",), **options: Any) -> StandingPipeline:
    assert ADAPTER.ci is not None
    given = {"repo": REPO, "workflow": "ci.yml", "stations": {"compile": "build"}, **options}
    return ADAPTER.ci.open(hub, CIOptions(**given), Place(line, "production", halts))


def deploy(hub: Hub, line: str = "checkout", **options: Any) -> Target:
    assert ADAPTER.deploy is not None
    given = {"repo": REPO, "workflow": "rollback.yml", **options}
    return ADAPTER.deploy.open(hub, DeployOptions(**given), Place(line, "production"))


class _Opened:
    @pytest.fixture(autouse=True)
    def around(self, github: GitHub, tmp_path: Path) -> None:
        self.github = github
        self.hub = lambda: hub(github, tmp_path)


class TestPipeline(_Opened, CIContract):
    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Pipeline]:
        source = ci(self.hub(), halts=())
        yield source
        await source.close()


class TestStop(_Opened, HaltingContract):
    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[StandingPipeline]:
        source = ci(self.hub())
        yield source
        await source.close()


class TestTarget(_Opened, DeployContract):
    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Target]:
        source = deploy(self.hub())
        yield source
        await source.close()


@pytest.fixture
async def line(github: GitHub, tmp_path: Path) -> AsyncIterator[tuple[StandingPipeline, Target]]:
    """A line's CI and its deploy target, over one connection."""
    shared = hub(github, tmp_path)
    both = ci(shared), deploy(shared)
    yield both
    for one in both:
        await one.close()


class TestCord(_Opened, CordContract):
    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple[StandingPipeline, Target]]:
        shared = self.hub()
        both = ci(shared), deploy(shared)
        yield both
        for one in both:
            await one.close()


class TestBadServer(_Opened, BadServerContract):
    reads = (
        lambda line: facts(line[0].watch()),
        lambda line: line[0].halted(),
        lambda line: line[1].current(),
        lambda line: line[1].history(5),
        lambda line: facts(line[1].watch()),
    )
    acts = (
        lambda line: line[0].halt(PAT),
        lambda line: line[0].release(PAT, Halted()),
        lambda line: line[0].cancel("1001", WHY),
        lambda line: line[1].deploy("a" * 40, expected="1", key="k", through=None),
        lambda line: line[1].abort("run-1001", WHY),
    )

    @contextlib.asynccontextmanager
    async def opened(self, fault: str) -> AsyncIterator[tuple[StandingPipeline, Target]]:
        how = {
            "html": says(200, b"<html>log in</html>", content_type="text/html"),
            "nan": says(200, b'{"id": NaN, "total_count": NaN}'),
            "half": says(200, b'{"total_count": 1, "workfl'),
            "cut": truncates,
            "reset": resets,
            "empty": says(200, b""),
            "hang": hangs,
            "429": says(429, retry_after="7"),
            "302": says(302, b"", location="https://elsewhere.example/"),
            "text": says(200, b"OK"),
            "big": says(200, b"[" + b"1," * 5_000_000 + b"1]"),
        }
        if fault != "good":
            self.github.faults = [("*", "", how.get(fault) or says(int(fault)), 10_000)]
        shared = self.hub()
        shared.web.read_limit_s = shared.web.act_limit_s = 0.5 if fault == "hang" else 10.0
        both = ci(shared), deploy(shared)
        yield both
        self.github.over.set()
        for one in both:
            await one.close()


# ---- the cord


async def stands(ci: StandingPipeline) -> Halted:
    async def look() -> Halted | None:
        found = await ci.halted()
        return found if found.halted else None

    found = await until(look, LIMIT_S)
    assert found is not None
    return found


def queued(github: GitHub, title: str) -> dict[str, Any]:
    """A change whose tests passed: its deployment waits."""
    sha = github.push(title)
    for _ in range(2):
        github.go(github.of("ci.yml", sha))
    return github.of("deploy.yml", sha)


Line = tuple[StandingPipeline, Target]


async def test_a_halt_disables_the_workflow_cancels_what_is_queued_and_a_release_starts_the_newest_again(
    github: GitHub, line: Line
) -> None:
    ci, _ = line
    older, newer = queued(github, "older"), queued(github, "newer")
    before = await ci.halted()
    assert before.parts[0].moving == (
        f"#{older['id'] - 1000} {older['sha'][:7]}",
        f"#{newer['id'] - 1000} {newer['sha'][:7]}",
    )
    assert isinstance(await ci.halt(PAT), Accepted)
    (part,) = (await stands(ci)).parts
    assert part.note.startswith("andon hold h4k2mmmm by pat: checkout fails")
    assert part.moving == ()
    assert [run["conclusion"] for run in (older, newer)] == ["cancelled", "cancelled"]
    assert github.states == {"ci.yml": "active", "deploy.yml": "disabled_manually", "rollback.yml": "active"}
    assert isinstance(await ci.release(PAT, before), Accepted)
    assert github.states["deploy.yml"] == "active"
    assert (older["attempt"], newer["attempt"]) == (1, 2)
    assert newer["status"] == "queued"
    assert github.variables == {}
    assert isinstance(await ci.release(PAT, before), Accepted)
    assert newer["attempt"] == 2, "released twice, started once"


async def test_the_workflow_is_disabled_before_anything_else_is_asked(github: GitHub, line: Line) -> None:
    ci, _ = line
    await ci.halted()
    begun = len(github.asked)
    await ci.halt(PAT)
    assert github.asked[begun][:2] == ("PUT", f"/repos/{REPO}/actions/workflows/deploy.yml/disable")


async def test_a_run_that_begins_meanwhile_is_cancelled_by_the_next_try(github: GitHub, line: Line) -> None:
    ci, _ = line
    await ci.halt(PAT)
    late = github.run("deploy.yml", github.commits[-1]["sha"], "push")
    found = await ci.halted()
    assert not found.halted
    assert found.parts[1].moving == (f"#{late - 1000} {github.commits[-1]['sha'][:7]}",)
    await ci.halt(PAT)
    await stands(ci)
    assert github.runs[late]["conclusion"] == "cancelled"


async def test_what_ships_already_goes_on_and_is_told(github: GitHub, line: Line) -> None:
    ci, _ = line
    run = queued(github, "under way")
    github.go(run)
    await ci.halt(PAT)
    found = await stands(ci)
    assert found.moving == (f"#{run['id'] - 1000} {run['sha'][:7]}",)
    assert run["status"] == "in_progress"


@pytest.mark.parametrize("may", [True, False])
async def test_an_approval_is_held_and_waited_for_again_after_the_release(
    github: GitHub, line: Line, may: bool
) -> None:
    ci, _ = line
    github.approval, github.may_approve = True, may
    run = queued(github, "waits for ann")
    before = await ci.halted()
    await ci.halt(PAT)
    await stands(ci)
    reviews = github.received("POST", "pending_deployments")
    assert [review["state"] for review in reviews] == (["rejected"] if may else [])
    assert all(review["comment"].startswith("andon hold h4k2mmmm by pat") for review in reviews)
    assert run["conclusion"] == ("failure" if may else "cancelled")
    await ci.release(PAT, before)
    assert run["status"] == "waiting"


async def test_a_run_that_does_not_contain_what_runs_is_not_started_again(github: GitHub, line: Line) -> None:
    ci, target = line
    waits = queued(github, "it waited")
    before = await ci.halted()
    await ci.halt(PAT)
    fix = github.push("the fix")
    current = await target.current()
    assert current is not None
    await target.deploy(fix, expected=current.id, key="k", through=PAT.id)
    await until(lambda: _runs(target, fix), LIMIT_S)
    answer = await ci.release(PAT, before)
    assert isinstance(answer, Accepted)
    assert "not started again" in answer.ref
    assert waits["attempt"] == 1
    assert github.states["deploy.yml"] == "active"


async def test_a_rollback_does_not_keep_what_waited_from_being_started_again(github: GitHub, line: Line) -> None:
    ci, target = line
    waits = queued(github, "it waited")
    before = await ci.halted()
    await ci.halt(PAT)
    current, good = await target.current(), github.commits[1]["sha"]
    assert current is not None
    await target.deploy(good, expected=current.id, key="k", through=None)
    await until(lambda: _runs(target, good), LIMIT_S)
    await ci.release(PAT, before)
    assert waits["attempt"] == 2


async def _runs(target: Target, version: str) -> Deployment | None:
    found = await target.current()
    return found if found and found.version == version and found.state == "settled" else None


@pytest.mark.parametrize("fixed", [True, False])
async def test_a_process_that_only_releases_knows_what_runs_too(
    github: GitHub, line: Line, tmp_path: Path, fixed: bool
) -> None:
    _, target = line
    alone = ci(hub(github, tmp_path))
    waits = queued(github, "it waited")
    before = await alone.halted()
    await alone.halt(PAT)
    version = github.push("the fix") if fixed else github.commits[1]["sha"]
    current = await target.current()
    assert current is not None
    await target.deploy(version, expected=current.id, key="k", through=PAT.id)
    await until(lambda: _runs(target, version), LIMIT_S)
    answer = await alone.release(PAT, before)
    assert isinstance(answer, Accepted)
    assert waits["attempt"] == (1 if fixed else 2), answer
    assert github.states["deploy.yml"] == "active"
    await alone.close()


@pytest.mark.parametrize("gone", ["run", "commit", "title"])
async def test_what_cannot_be_started_again_does_not_keep_the_line_stopped(
    github: GitHub, line: Line, gone: str
) -> None:
    ci, _ = line
    run = queued(github, "it waited")
    before = await ci.halted()
    await ci.halt(PAT)
    await stands(ci)
    if gone == "run":
        del github.runs[run["id"]]
    elif gone == "commit":
        github.commits = [row for row in github.commits if row["sha"] != run["sha"]]
    else:
        back = github.runs[github.run("rollback.yml", "a" * 40, "workflow_dispatch", title="no version")]
        github.go(back)
        github.go(back)
    answer = await ci.release(PAT, before)
    assert isinstance(answer, Accepted)
    assert "is not started again" in answer.ref
    assert github.states["deploy.yml"] == "active"


async def test_a_workflow_that_others_disabled_stays_disabled(github: GitHub, line: Line) -> None:
    ci, _ = line
    run = queued(github, "it waited")
    github.states["deploy.yml"] = "disabled_manually"
    before = await ci.halted()
    assert [(part.halted, part.note) for part in before.parts] == [
        (True, "disabled manually"),
        (False, "disabled manually"),
    ]
    await ci.halt(PAT)
    await stands(ci)
    answer = await ci.release(PAT, before)
    assert isinstance(answer, Accepted)
    assert "stays disabled, as it was before" in answer.ref
    assert github.states["deploy.yml"] == "disabled_manually"
    assert (run["attempt"], github.variables) == (1, {})


async def test_a_workflow_that_another_line_holds_stays_disabled_until_that_is_released(
    github: GitHub, tmp_path: Path
) -> None:
    first, second = ci(hub(github, tmp_path)), ci(hub(github, tmp_path), line="checkout-canary")
    other = HoldRef("b0b0b0b0", "checkout-canary", "bo", "slow")
    run = queued(github, "it waited")
    before = await first.halted()
    await first.halt(PAT)
    await second.halt(other)
    (part,) = (await stands(first)).parts
    assert "h4k2mmmm" in part.note
    assert "b0b0b0b0" in part.note
    refused = await first.release(PAT, before)
    assert isinstance(refused, Refused)
    assert "andon hold b0b0b0b0 by bo" in refused.words
    assert github.states["deploy.yml"] == "disabled_manually"
    assert isinstance(await second.release(other, before), Accepted)
    assert github.states["deploy.yml"] == "active"
    assert run["attempt"] == 1, "the second line did not cancel it"
    await first.close()
    await second.close()


async def test_without_the_right_to_note_a_hold_it_stops_all_the_same_and_says_so(github: GitHub, line: Line) -> None:
    ci, _ = line
    github.denied = ["variables"]
    before = await ci.halted()
    answer = await ci.halt(PAT)
    assert isinstance(answer, Accepted)
    assert "the hold is not noted there" in answer.ref
    await stands(ci)
    assert isinstance(await ci.release(PAT, before), Accepted)
    assert github.states["deploy.yml"] == "active"
    missing = (await ci.whoami()).missing
    assert any("permission Variables: read and write" in words for words in missing)


async def test_a_run_that_goes_on_in_spite_of_a_cancel_is_cancelled_by_force(github: GitHub, line: Line) -> None:
    ci, _ = line
    run = queued(github, "if: always()")
    github.stubborn.add(run["id"])
    await ci.halt(PAT)
    found = await ci.halted()
    assert not found.halted
    assert "not yet gone" in found.parts[1].note
    await ci.halt(PAT)
    await stands(ci)
    assert len(github.received("POST", "/force-cancel")) == 1


async def test_a_release_waits_until_what_it_starts_again_is_cancelled(github: GitHub, line: Line) -> None:
    ci, _ = line
    github.slow_cancel = True
    run = queued(github, "slow")
    before = await ci.halted()
    await ci.halt(PAT)
    early = await ci.release(PAT, before)
    assert isinstance(early, Unreachable)
    assert "still being cancelled" in str(early)
    assert github.states["deploy.yml"] == "disabled_manually"
    github.cancelled()
    assert isinstance(await ci.release(PAT, before), Accepted)
    assert run["attempt"] == 2


async def test_a_release_that_was_cut_off_in_the_middle_is_finished_by_the_next(github: GitHub, line: Line) -> None:
    ci, _ = line
    run = queued(github, "it waited")
    before = await ci.halted()
    await ci.halt(PAT)
    await stands(ci)
    github.fault("POST", "/rerun", after(resets))
    assert isinstance(await ci.release(PAT, before), NoAnswer)
    assert isinstance(await ci.release(PAT, before), Accepted)
    assert (run["attempt"], github.variables) == (2, {})


async def test_what_is_left_noted_of_a_stop_that_is_over_is_not_started_by_the_next(github: GitHub, line: Line) -> None:
    ci, _ = line
    old = queued(github, "long ago")
    before = await ci.halted()
    await ci.halt(PAT)
    await stands(ci)
    github.states["deploy.yml"] = "active"  # by hand: the note stays
    await ci.halt(HoldRef("n3wn3wn3", "checkout", "bo", "again"))
    await stands(ci)
    await ci.release(HoldRef("n3wn3wn3", "checkout", "bo", "again"), before)
    assert old["attempt"] == 1


@pytest.mark.parametrize("step", ["/disable", "/variables", "/cancel"])
async def test_a_halt_whose_answer_is_lost_is_no_success_and_can_be_repeated(
    github: GitHub, line: Line, step: str
) -> None:
    ci, _ = line
    queued(github, "it waited")
    before = await ci.halted()
    method = {"/disable": "PUT"}.get(step, "POST")
    github.fault(method, step, after(resets))
    assert isinstance(await ci.halt(PAT), NoAnswer)
    assert isinstance(await ci.halt(PAT), Accepted)
    await stands(ci)
    await ci.release(PAT, before)
    assert github.states["deploy.yml"] == "active"


async def test_a_stop_that_is_half_done_is_not_refused_because_then_nobody_would_release_it(
    github: GitHub, line: Line
) -> None:
    ci, _ = line
    queued(github, "it waited")
    before = await ci.halted()
    github.denied = ["POST .*cancel"]
    for _ in range(2):
        answer = await ci.halt(PAT)
        assert isinstance(answer, NoAnswer)
        assert "Resource not accessible" in answer.words
    assert not (await ci.halted()).halted
    assert isinstance(await ci.release(PAT, before), Unreachable), "it might be being cancelled"
    github.noted_at -= 200
    answer = await ci.release(PAT, before)
    assert isinstance(answer, Accepted)
    assert "never cancelled, and goes on" in answer.ref
    assert github.states["deploy.yml"] == "active"


async def test_a_stop_that_may_do_nothing_is_refused(github: GitHub, line: Line) -> None:
    ci, _ = line
    github.denied = ["PUT "]
    assert isinstance(await ci.halt(PAT), Refused)
    assert github.variables == {}


async def test_of_several_workflows_all_are_halted_and_released(github: GitHub, tmp_path: Path) -> None:
    source = ci(hub(github, tmp_path), halts=("deploy.yml", "ci.yml"))
    before = await source.halted()
    await source.halt(PAT)
    found = await stands(source)
    assert [part.name for part in found.parts] == ["deploy.yml", "ci.yml"]
    await source.release(PAT, before)
    assert set(github.states.values()) == {"active"}
    await source.close()


# ---- deployments


async def test_a_rollback_is_of_the_version_it_was_given_though_github_notes_the_branch(
    github: GitHub, line: Line
) -> None:
    _, target = line
    current, good = await target.current(), github.commits[0]["sha"]
    assert current is not None
    answer = await target.deploy(good[:8], expected=current.id, key="k", through=None)
    assert isinstance(answer, Accepted)
    back = await until(lambda: _runs(target, good), LIMIT_S)
    assert back is not None
    assert (back.id, back.by, back.available) == (answer.ref, "octocat", True)
    assert github.shipped[-1] == good
    ids = [item.id for item in await target.history(50)]
    assert ids[0] == back.id
    assert len(ids) == 4, "GitHub's own deployment of that run is the same"


async def test_a_rollback_is_seen_from_the_moment_it_is_asked_for(github: GitHub, line: Line) -> None:
    _, target = line
    github.by_itself = set()
    current, good = await target.current(), github.commits[0]["sha"]
    assert current is not None
    answer = await target.deploy(good, expected=current.id, key="k", through=None)
    assert isinstance(answer, Accepted)
    waiting = (await target.history(1))[0]
    assert (waiting.id, waiting.state, waiting.version) == (answer.ref, "rolling", good)
    assert await target.current() == current, "it has not begun to change anything"
    run = github.runs[int(answer.ref.removeprefix("run-"))]
    github.go(run)
    rolling = await target.current()
    assert rolling is not None
    assert (rolling.id, rolling.state) == (answer.ref, "rolling")
    assert isinstance(await target.abort(answer.ref, WHY), Accepted)
    assert (await target.history(1))[0].state == "failed"
    assert await target.current() == current


async def test_a_deployment_that_somebody_made_meanwhile_is_a_conflict(github: GitHub, line: Line) -> None:
    _, target = line
    expected = await target.current()
    assert expected is not None
    github.ship("meanwhile")
    current = await target.current()
    assert current is not None
    answer = await target.deploy(github.commits[0]["sha"], expected=expected.id, key="k", through=None)
    assert answer == Conflict(current.id)
    assert github.received("POST", "/dispatches") == []


async def test_a_dispatch_whose_answer_is_lost_is_found_by_its_version(github: GitHub, line: Line) -> None:
    _, target = line
    current, good = await target.current(), github.commits[0]["sha"]
    assert current is not None
    github.fault("POST", "/dispatches", after(resets))
    assert isinstance(await target.deploy(good, expected=current.id, key="k", through=None), NoAnswer)
    assert (await target.history(5))[0].version == good
    assert len(github.received("POST", "/dispatches")) == 1


async def test_a_server_that_does_not_say_which_run_it_began_is_believed_all_the_same(
    github: GitHub, line: Line
) -> None:
    _, target = line
    github.details = False
    current = await target.current()
    assert current is not None
    answer = await target.deploy(github.commits[0]["sha"], expected=current.id, key="k", through=None)
    assert answer == Accepted("")


async def test_a_run_whose_title_names_no_version_is_of_none_and_check_says_so(github: GitHub, line: Line) -> None:
    _, target = line
    assert (await target.whoami()).missing == ()
    github.go(github.runs[github.run("rollback.yml", github.commits[-1]["sha"], "workflow_dispatch", title="Rollback")])
    found = (await target.history(1))[0]
    assert found.version.startswith("run-")
    assert not found.available
    assert "names no version" in found.words
    (missing,) = (await target.whoami()).missing
    assert "run-name: ${{ inputs.version }}" in missing


async def test_the_way_back_that_is_closed_is_said_by_check_and_by_the_act(github: GitHub, line: Line) -> None:
    _, target = line
    github.states["rollback.yml"] = "disabled_manually"
    (missing,) = (await target.whoami()).missing
    assert "nothing can be rolled back" in missing
    current = await target.current()
    assert current is not None
    answer = await target.deploy(github.commits[0]["sha"], expected=current.id, key="k", through=None)
    assert isinstance(answer, Refused)
    assert "disabled workflow" in answer.words


async def test_what_waits_for_an_approval_does_not_run_and_is_over_when_something_newer_does(
    github: GitHub, line: Line
) -> None:
    _, target = line
    current = await target.current()
    waiting = github.deploying("f" * 40, time.time())
    github.deployments[waiting]["said"] = []
    github.says(waiting, "queued")
    assert await target.current() == current
    assert [item.state for item in await target.history(2)] == ["rolling", "settled"]
    github.ship("newer", time.time() + 5)
    found = {item.id: item for item in await target.history(5)}[str(waiting)]
    assert found.state == "failed"
    assert found.words.startswith("never finished")


async def test_a_deployment_that_failed_is_not_what_runs(github: GitHub, line: Line) -> None:
    _, target = line
    current = await target.current()
    failed = github.deploying("f" * 40, time.time())
    github.says(failed, "failure")
    assert await target.current() == current
    assert (await target.history(1))[0].state == "failed"


async def test_what_runs_is_found_below_many_that_failed(
    github: GitHub, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, target = line
    monkeypatch.setattr("adapters._github_deploys.FEW", 2)
    monkeypatch.setattr("adapters._github_deploys.MOST", 8)
    current = await target.current()
    for _ in range(4):
        github.says(github.deploying("f" * 40, time.time()), "failure")
    assert await target.current() == current
    for _ in range(4):
        github.says(github.deploying("f" * 40, time.time()), "failure")
    with pytest.raises(Garbled, match="none of the last 8"):
        await target.current()


async def test_history_ends_where_runs_of_the_way_back_are_no_longer_listed(
    github: GitHub, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, target = line
    for module in ("deploys", "repo"):
        monkeypatch.setattr(f"adapters._github_{module}.RUNS", 2)
    head = github.commits[-1]["sha"]
    for n, row in enumerate(github.commits):
        at = time.time() - 1000 + n
        back = github.runs[
            github.run("rollback.yml", head, "workflow_dispatch", at=at, title=f"to {row['sha']}", version=row["sha"])
        ]
        github.go(back, at=at)
        github.go(back, at=at)
    found = [(item.id[:4], item.version) for item in await target.history(50)]
    assert found == [("run-", row["sha"]) for row in reversed(github.commits[1:])]


async def test_watching_says_each_deployment_once_until_it_changes(github: GitHub, line: Line) -> None:
    _, target = line
    said: list[Deployment] = []
    rounds = 0
    async with contextlib.aclosing(target.watch()) as watch:
        async for item in watch:
            if isinstance(item, Wait):
                rounds += 1
                if rounds == 2:
                    github.ship("the next")
                if rounds == 3:
                    break
            elif isinstance(item, Deployment):
                said.append(item)
    assert [item.version for item in said] == github.shipped
    assert [item.at for item in said] == sorted(item.at for item in said)


async def test_other_environments_are_others(github: GitHub, tmp_path: Path) -> None:
    elsewhere = deploy(hub(github, tmp_path), environment="staging", workflow="")
    assert await elsewhere.current() is None
    assert not elsewhere.can.deploy
    assert isinstance(await elsewhere.deploy("a" * 40, expected=None, key="k", through=None), Refused)
    number = github.deploying("e" * 40, time.time(), environment="staging")
    github.says(number, "success")
    found = await elsewhere.current()
    assert found is not None
    assert found.version == "e" * 40
    await elsewhere.close()


# ---- runs


async def test_a_change_is_seen_tested_and_then_shipped(github: GitHub, line: Line) -> None:
    ci, _ = line
    runs: list[Run] = []
    changes: list[str] = []
    steps = iter(
        [
            lambda: github.push("it is new"),
            *[lambda: github.go(newest("ci.yml"))] * 2,
            *[lambda: github.go(newest("deploy.yml"))] * 2,
        ]
    )

    def newest(file: str) -> dict[str, Any]:
        return github.of(file, github.commits[-1]["sha"])

    async with contextlib.aclosing(ci.watch()) as watch:
        async for item in watch:
            if isinstance(item, Changes):
                changes += [change.id for change in item.items]
            elif isinstance(item, Run):
                runs.append(item)
            elif isinstance(item, Wait):
                step = next(steps, None)
                if step is None:
                    break
                step()
    sha = github.commits[-1]["sha"]
    assert changes == [row["sha"] for row in github.commits]
    assert [run.state for run in runs if run.change == sha] == [
        "waiting",
        "running",
        "passed",
        "waiting",
        "running",
        "passed",
    ]
    tested = next(run for run in runs if run.change == sha and run.state == "passed")
    assert [(stage.station, [job.name for job in stage.jobs]) for stage in tested.stages] == [
        ("build", ["compile"]),
        ("test", ["unit (3.11)", "unit (3.12)"]),
    ]
    assert runs[-1].stages[0].station == "deploy"
    assert len(runs) == len({(run.id, run.state) for run in runs}), "nothing is said twice"


async def test_what_did_not_change_costs_nothing_of_the_budget(github: GitHub, line: Line) -> None:
    ci, target = line
    watches = [ci.watch(), target.watch()]
    for watch in watches:
        await facts(watch, LIMIT_S)
    await ci.halted()
    left, asked = github.left, len(github.asked)
    for watch in (ci.watch(), target.watch()):
        await facts(watch, LIMIT_S)
    await ci.halted()
    assert len(github.asked) > asked + 5
    assert github.left == left


async def test_an_older_answer_after_a_newer_one_is_left_out(github: GitHub, line: Line) -> None:
    ci, _ = line
    run = github.of("ci.yml", github.push("it is new"))
    github.go(run)
    old = dict(run)
    github.go(run, at=time.time() + 2)
    over = dict(run)
    states = []
    async with contextlib.aclosing(ci.watch()) as watch:
        rounds = iter([old, over])
        async for item in watch:
            if isinstance(item, Run) and item.id == str(run["id"]):
                states.append(item.state)
            if isinstance(item, Wait):
                step = next(rounds, None)
                if step is None:
                    break
                github.runs[run["id"]].update(step)
    assert states == ["passed"]


async def test_whether_tests_passed_is_said_for_exactly_one_change(github: GitHub, line: Line, tmp_path: Path) -> None:
    ci_, _ = line
    sha = github.push("it is new")
    run = github.of("ci.yml", sha)
    assert (await ci_.passed(sha)).state == "running"
    github.go(run)
    github.go(run, "failure")
    assert await ci_.passed(sha) == Passed("no", f"ci.yml #{run['id'] - 1000}: failure")
    github.run("ci.yml", sha, "pull_request", status="completed", conclusion="success")
    assert (await ci_.passed(sha)).state == "no", "a proposed merge is another thing"
    again = github.runs[github.run("ci.yml", sha, "workflow_dispatch")]
    github.go(again)
    github.go(again)
    assert (await ci_.passed(sha[:7])).state == "yes"
    assert (await ci_.passed(sha[:6])).state == "unknown"
    again["conclusion"] = "cancelled"
    assert (await ci_.passed(sha)).state == "unknown"
    again["conclusion"] = "success"
    strict = ci(hub(github, tmp_path), checks=("lint",))
    assert (await strict.passed(sha)).state == "unknown"
    for conclusion, state in (("failure", "no"), ("success", "yes"), ("skipped", "unknown")):
        github.checks[sha] = [("lint", conclusion)]
        assert (await strict.passed(sha)).state == state
    for text in HOSTILE:
        assert (await ci_.passed(text)).state == "unknown"
    await strict.close()


async def test_a_run_is_cancelled_and_one_that_is_over_stays(github: GitHub, line: Line) -> None:
    ci, _ = line
    run = github.of("ci.yml", github.push("not this one"))
    for _ in range(2):
        assert await ci.cancel(str(run["id"]), WHY) == Accepted(str(run["id"]))
    assert run["conclusion"] == "cancelled"
    assert isinstance(await ci.cancel("999999", WHY), Refused)
    for text in HOSTILE:
        assert isinstance(await ci.cancel(text, WHY), Refused)


async def test_whose_approval_a_run_waits_for_is_told(github: GitHub, line: Line) -> None:
    ci, _ = line
    github.approval = True
    run = queued(github, "waits")
    found = next(item for item in await facts(ci.watch()) if isinstance(item, Run) and item.id == str(run["id"]))
    assert (found.state, found.words) == ("waiting", "production waits for octocat")


async def test_a_log_is_fetched_in_ranges_from_a_store_that_never_sees_the_token(
    github: GitHub, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    ci, _ = line
    monkeypatch.setattr("adapters._github_log.RANGE", 20_011)
    text = "".join(f"2024-01-01T00:00:00.1234567Z line {n} \x1b]0;x\x07 ü\n" for n in range(2500))
    run = github.of("ci.yml", github.commits[-1]["sha"])
    job = run["id"] * 100
    github.logs[job] = text
    lines: list[str] = []
    part = LogPart((), 0)
    while not part.done:
        part = await ci.log(str(run["id"]), str(job), part.next)
        lines += part.lines
    assert [line.split()[1] for line in lines] == [str(n) for n in range(2500)]
    assert "\x1b" not in "".join(lines)
    assert lines[7].endswith("ü")
    assert set(github.received("GET", "^/store/")) == {None}, "no credential"
    assert (await ci.log(str(run["id"]), str(job), 10)).lines[0].startswith("line 10 ")
    assert await ci.log(str(run["id"]), "5", 0) == LogPart((), 0, done=True)


async def test_a_log_that_lies_elsewhere_is_not_fetched(github: GitHub, tmp_path: Path) -> None:
    source = ci(hub(github, tmp_path, log_hosts=("*.blob.core.windows.net",)))
    github.logs[7] = "secret of the host\n"
    with pytest.raises(Garbled, match="log_hosts"):
        await source.log("1", "7", 0)
    assert github.received("GET", "^/store/") == []
    await source.close()


# ---- pages, limits, rights


async def test_listings_are_read_to_their_last_page(github: GitHub, line: Line) -> None:
    ci, target = line
    github.page = 1
    waits = [queued(github, f"number {n}") for n in range(3)]
    github.variables |= {f"V{n}": "x" for n in range(3)}
    await ci.halt(PAT)
    await stands(ci)
    assert [run["conclusion"] for run in waits] == ["cancelled"] * 3
    found = next(item for item in await facts(ci.watch()) if isinstance(item, Run) and len(item.stages) == 2)
    assert sum(len(stage.jobs) for stage in found.stages) == 3
    current = await target.current()
    assert current is not None
    assert current.state == "settled"


@pytest.mark.parametrize(
    ("content", "link"),
    [
        (b'{"total_count": 3, "variables": []}', ""),
        (b'{"total_count": 0, "variables": []}', '<{url}/repos/acme/checkout/actions/variables?page=1>; rel="next"'),
        (b'{"total_count": 0, "variables": []}', '<https://elsewhere.example/steal>; rel="next"'),
    ],
)
async def test_a_part_of_a_listing_is_not_taken_for_the_whole(
    github: GitHub, line: Line, content: bytes, link: str
) -> None:
    ci, _ = line
    github.fault("GET", "/variables", says(200, content, link=link.format(url=github.url)), 100)
    with pytest.raises(Garbled):
        await ci.halted()


async def test_a_budget_that_runs_low_slows_the_questions_and_never_an_act(github: GitHub, line: Line) -> None:
    ci, _ = line
    await ci.whoami()
    assert ci.hub.pace_s == 5.0
    github.left = 1500
    found = (await ci.whoami()).found
    assert any("of 5000 requests left" in words for words in found)
    assert 5.0 < ci.hub.pace_s < 15.0
    github.left = 400
    with contextlib.suppress(Limited):
        await ci.halted()
    assert ci.hub.pace_s == 60.0
    asked = len(github.asked)
    with pytest.raises(Limited) as caught:
        await ci.passed("a" * 40)
    assert caught.value.retry_after_s > 60
    assert len(github.asked) == asked
    assert isinstance(await ci.halt(PAT), Accepted)
    assert github.states["deploy.yml"] == "disabled_manually"


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (403, {"retry-after": "9"}, b'{"message": "wait"}'),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-limit": "5000"}, b'{"message": "API rate limit exceeded"}'),
        (403, {}, b'{"message": "You have exceeded a secondary rate limit. Please wait a few minutes."}'),
        (429, {}, b'{"message": "slow down"}'),
    ],
)
async def test_an_act_that_was_turned_away_for_now_may_be_sent_again(
    github: GitHub, line: Line, status: int, headers: dict[str, str], body: bytes
) -> None:
    ci, _ = line
    for method, what in (("PUT", "/disable"), ("GET", "/workflows/ci.yml/runs")):
        github.fault(method, what, says(status, body, **headers))
    await ci.halted()
    found = await ci.halt(PAT)
    assert isinstance(found, Unreachable)
    assert isinstance(await ci.halt(PAT), Accepted)


async def test_a_read_that_meets_a_secondary_limit_waits(github: GitHub, line: Line) -> None:
    ci, _ = line
    github.fault("GET", "/runs", says(403, b'{"message": "You have exceeded a secondary rate limit."}'), 9)
    with pytest.raises(Limited) as caught:
        await ci.halted()
    assert caught.value.retry_after_s == 60.0


async def test_what_the_token_may_not_is_named_right_by_right(github: GitHub, line: Line) -> None:
    ci, target = line
    assert (await ci.whoami()).missing == ()
    github.denied = ["GET .*/deployments", "GET .*/commits"]
    assert [words.partition(" (")[0] for words in (await ci.whoami()).missing] == ["permission Contents: read"]
    assert [words.partition(" (")[0] for words in (await target.whoami()).missing] == ["permission Deployments: read"]


async def test_a_classic_token_without_its_scope_is_named(github: GitHub, line: Line) -> None:
    ci, _ = line
    github.scopes = "read:user, repo"
    found = await ci.whoami()
    assert (found.account, found.missing) == ("shop-bot (scopes read:user, repo)", ())
    github.scopes = "read:user"
    assert (await ci.whoami()).missing == ("scope repo, or public_repo: the token has read:user",)


async def test_check_says_who_we_are_what_time_it_is_and_what_a_name_is_wrong(github: GitHub, tmp_path: Path) -> None:
    github.skew_s = -90
    source = ci(hub(github, tmp_path), halts=("deploy.yml", "ship.yml"))
    found = await source.whoami()
    assert (found.account, found.server) == ("shop-bot", "GitHub")
    assert found.clock is not None
    assert found.clock - time.time() == pytest.approx(-90, abs=20)
    (missing,) = found.missing
    assert missing.startswith("permission Actions: read, for ship.yml")
    await source.close()


async def test_without_a_credential_for_acts_nothing_is_sent_and_check_says_so(github: GitHub, tmp_path: Path) -> None:
    for options in ({"token_acts": ""}, {"read_only": True}):
        shared = hub(github, tmp_path, **options)
        source, target = ci(shared), deploy(shared)
        assert any("token_acts" in words for words in (await source.whoami()).missing)
        current = await target.current()
        assert current is not None
        for answer in (
            await source.halt(PAT),
            await source.release(PAT, Halted()),
            await source.cancel("1001", WHY),
            await target.deploy(github.commits[0]["sha"], expected=current.id, key="k", through=None),
            await target.abort(current.id, WHY),
        ):
            assert isinstance(answer, (Refused, Accepted))
        assert [how for how, _, _ in github.asked if how != "GET"] == []
        await source.close()


async def test_the_credential_for_acts_is_opened_for_acts_alone(
    github: GitHub, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    ci, target = line
    monkeypatch.delenv("GH_ACTS")
    await ci.whoami()
    await facts(ci.watch())
    await target.history(5)
    answer = await ci.halt(PAT)
    assert not isinstance(answer, Accepted)
    assert "GH_ACTS" in str(answer)


async def test_changes_are_a_second_apart(github: GitHub, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    ci, _ = line
    monkeypatch.setattr("adapters._github_hub.APART_S", 0.5)
    for n in range(2):
        queued(github, f"number {n}")
    await ci.halt(PAT)
    times = github.changed_at
    assert len(times) == 4, "disabled, noted, and two cancelled"
    assert min(after - before for before, after in itertools.pairwise(times)) >= 0.5


async def test_a_stop_is_not_kept_waiting_by_another_change_that_hangs(github: GitHub, line: Line) -> None:
    ci, _ = line
    await ci.halted()
    github.fault("POST", "/variables", hangs)
    hanging = asyncio.create_task(ci.halt(PAT))
    await until(lambda: github.received("POST", "/variables"), LIMIT_S)
    github.states["deploy.yml"] = "active"
    other = asyncio.create_task(ci.halt(PAT))
    await until(lambda: github.states["deploy.yml"] != "active", 10)
    assert not hanging.done()
    github.over.set()
    await asyncio.gather(hanging, other)


# ---- an app


@pytest.fixture(scope="module")
def key() -> Any:
    from cryptography.hazmat.primitives.asymmetric import rsa

    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def packed(key: Any) -> str:
    from cryptography.hazmat.primitives import serialization

    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return base64.b64encode(pem).decode()


def of_app(github: GitHub, tmp_path: Path, installation: int = 77) -> Hub:
    return hub(
        github,
        tmp_path,
        token="",
        token_acts="",
        app=AppOptions(12, installation),
        secret="env:GH_KEY",
        app_acts=AppOptions(13, 77),
        secret_acts="env:GH_KEY",
    )


async def test_an_app_signs_in_and_changes_its_token_before_it_ends(
    github: GitHub, tmp_path: Path, key: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    github.app_key = key
    monkeypatch.setenv("GH_KEY", packed(key))
    shared = of_app(github, tmp_path)
    source = ci(shared)
    found = await source.whoami()
    assert (found.account, found.missing) == ("app 12", ())
    await source.halted()
    assert github.minted == 1
    await source.halt(PAT)
    await stands(source)
    assert github.minted == 2, "one for reads, one for acts"
    assert shared.app is not None
    shared.app.token.until = time.time() + 200
    await source.halted()
    assert github.minted == 3
    assert github.tokens.isdisjoint({repr(shared.app.token), repr(shared.app)})
    await source.close()


@pytest.mark.parametrize("wrong", ["another key", "no key", "not in base64", "nowhere"])
async def test_an_app_that_cannot_sign_in_says_why(
    github: GitHub, tmp_path: Path, key: Any, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa

    github.app_key = rsa.generate_private_key(public_exponent=65537, key_size=2048) if wrong == "another key" else key
    text = {"no key": base64.b64encode(b"hello").decode(), "not in base64": "-----BEGIN"}.get(wrong, packed(key))
    monkeypatch.setenv("GH_KEY", text)
    source = ci(of_app(github, tmp_path, installation=78 if wrong == "nowhere" else 77))
    with pytest.raises((Denied, Unreachable)) as caught:
        await source.halted()
    words = {"no key": "no private key", "not in base64": "base64 -w0"}.get(wrong, "is it installed there?")
    assert words in str(caught.value)
    await source.close()


def test_what_does_not_go_together_is_said(tmp_path: Path, github: GitHub) -> None:
    with pytest.raises(ValueError, match="not both"):
        hub(github, tmp_path, app=AppOptions(1, 2), secret="env:GH_KEY")
    with pytest.raises(ValueError, match="`secret:`"):
        hub(github, tmp_path, token="", app=AppOptions(1, 2))
    with pytest.raises(ValueError, match="acme/checkout"):
        CIOptions("checkout", "ci.yml")
    with pytest.raises(ValueError, match=r"ci\.yml"):
        CIOptions(REPO, "../ci.yml")
    with pytest.raises(ValueError, match=r"rollback\.yml"):
        DeployOptions(REPO, ".github/workflows/rollback.yml")
    assert ADAPTER.ci is not None
    assert ADAPTER.deploy is not None
    shared = hub(github, tmp_path)
    with pytest.raises(ValueError, match="halts"):
        ADAPTER.ci.open(shared, CIOptions(REPO, "ci.yml"), Place("checkout", "production", ("deploy",)))
    with pytest.raises(ValueError, match="way back"):
        ADAPTER.deploy.open(shared, DeployOptions(REPO), Place("checkout", "production", ("deploy.yml",)))


def test_the_example_in_the_documentation_is_a_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs/adapters.md").read_text().partition("## GitHub")[2]
    path = tmp_path / "andon.yaml"
    path.write_text(text.partition("```yaml\n")[2].partition("```")[0])
    path.chmod(0o600)
    monkeypatch.setattr("andon.registry.find", lambda name: ADAPTER)
    line = config.load(path).lines["checkout"]
    assert line.targets == ("gh/checkout/deploy.yml",)
    assert line.deploy is not None
    assert (line.deploy.target, line.deploy.only_way_in) == ("gh", True)
    path.write_text(path.read_text().replace("workflow: ci.yml", "workflow: .github/workflows/ci.yml"))
    with pytest.raises(FileError, match=r"andon.yaml:6.*workflow: written as ci\.yml, without its folder"):
        config.load(path)


# ---- what GitHub's own examples hold


@pytest.mark.parametrize(
    ("event", "payload"), deliveries(), ids=[f"{n}-{event}" for n, (event, _) in enumerate(deliveries())]
)
def test_every_example_delivery_is_read(event: str, payload: dict[str, Any]) -> None:
    for name, kind in (
        ("workflow_run", WorkflowRun),
        ("workflow_job", JobRow),
        ("check_run", CheckRun),
        ("deployment", DeploymentRow),
        ("deployment_status", StatusRow),
    ):
        if payload.get(name):
            found = msgspec.json.decode(json.dumps(payload[name]), type=kind)
            if isinstance(found, WorkflowRun):
                run = run_of(found, [], {}, "test")
                assert run.change == payload[name]["head_sha"]
                assert (run.state in ("passed", "failed", "cancelled")) == (
                    found.conclusion not in (None, "action_required")
                )
            elif isinstance(found, (JobRow, CheckRun)):
                assert found.state == state_of(found.status, found.conclusion)
            else:
                assert found.id == payload[name]["id"]


def test_the_examples_are_all_there() -> None:
    events = [event for event, _ in deliveries()]
    assert {event: events.count(event) for event in sorted(set(events))} == {
        "check_run": 9,
        "check_suite": 9,
        "deployment": 4,
        "deployment_review": 1,
        "deployment_status": 4,
        "workflow_dispatch": 2,
        "workflow_job": 8,
        "workflow_run": 5,
    }
