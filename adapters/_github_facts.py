"""What GitHub's REST API says of runs, jobs and commits, and the facts that amounts to. Nothing here asks anything.

A workflow run is a run, by its number; its jobs stand at the stations that the config gives them. A run that is started
again keeps its number and has another attempt.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated

import msgspec

from andon.clock import Time
from andon.model import DONE, Change, Job, Run, RunState, Stage, Station

Moment = Annotated[datetime, msgspec.Meta(tz=True)]

_ENDED: dict[str, RunState] = {
    "success": "passed",
    "neutral": "passed",
    "failure": "failed",
    "timed_out": "failed",
    "startup_failure": "failed",
    "cancelled": "cancelled",
    "skipped": "cancelled",
    "stale": "cancelled",
    "action_required": "waiting",  # somebody must first allow it to run
}
_ORDER: tuple[Station, ...] = ("build", "test", "deploy")
_STAMP = re.compile(r"\ufeff?[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{1,9}Z ")
SHA = re.compile(r"(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])")
"""A commit's whole hash."""


class Actor(msgspec.Struct, frozen=True):
    """A person, an app, a robot."""

    login: str = ""


class WorkflowRun(msgspec.Struct, frozen=True):
    """One run of a workflow, as its last attempt stands."""

    id: int
    head_sha: str
    status: str | None
    conclusion: str | None
    event: str
    created_at: Moment
    updated_at: Moment
    run_number: int = 0
    run_attempt: int = 1
    run_started_at: Moment | None = None
    head_branch: str | None = None
    name: str | None = None
    display_title: str = ""
    triggering_actor: Actor | None = None
    actor: Actor | None = None

    @property
    def state(self) -> RunState:
        """How far it has come."""
        return state_of(self.status, self.conclusion)

    @property
    def who(self) -> str:
        """Who started it."""
        return next((one.login for one in (self.triggering_actor, self.actor) if one), "")

    @property
    def began(self) -> Time:
        """When its last attempt was asked for."""
        return (self.run_started_at or self.created_at).timestamp()

    @property
    def proposed(self) -> bool:
        """Whether it tests a merge that is only proposed, and not exactly its commit."""
        return self.event.startswith(("pull_request", "merge_group"))


class Step(msgspec.Struct, frozen=True):
    """One step of a job."""

    name: str
    conclusion: str | None = None


class JobRow(msgspec.Struct, frozen=True):
    """One job of a run."""

    id: int
    name: str
    status: str
    conclusion: str | None = None
    started_at: Moment | None = None
    completed_at: Moment | None = None
    steps: list[Step] | None = None

    @property
    def state(self) -> RunState:
        """How far it has come."""
        return state_of(self.status, self.conclusion)


class CheckRun(msgspec.Struct, frozen=True):
    """One check of a commit, by whatever app."""

    id: int
    name: str
    status: str
    conclusion: str | None = None

    @property
    def state(self) -> RunState:
        """How far it has come."""
        return state_of(self.status, self.conclusion)


class Signature(msgspec.Struct, frozen=True):
    """Who wrote a commit, and when."""

    name: str = ""
    date: Moment | None = None


class CommitWords(msgspec.Struct, frozen=True):
    """What git knows of a commit."""

    message: str = ""
    author: Signature | None = None
    committer: Signature | None = None


class Commit(msgspec.Struct, frozen=True):
    """A commit."""

    sha: str
    commit: CommitWords
    author: Actor | None = None

    @property
    def change(self) -> Change:
        """The change it is."""
        words = self.commit
        title = next((line for line in words.message.splitlines() if line.strip()), "")
        name = (self.author.login if self.author else "") or (words.author.name if words.author else "")
        signed = words.committer or words.author
        return Change(self.sha, title, name, signed.date.timestamp() if signed and signed.date else 0.0)


class Workflow(msgspec.Struct, frozen=True):
    """A workflow file, and whether it may run."""

    id: int
    name: str
    path: str
    state: str


class Reviewer(msgspec.Struct, frozen=True):
    """Who may let a waiting deployment through: a person or a team."""

    login: str = ""
    slug: str = ""


class Reviewing(msgspec.Struct, frozen=True):
    """One entry of those who may."""

    reviewer: Reviewer | None = None


class Environment(msgspec.Struct, frozen=True):
    """An environment that is waited for."""

    id: int = 0
    name: str = ""


class Pending(msgspec.Struct, frozen=True):
    """What a waiting run waits for."""

    environment: Environment
    current_user_can_approve: bool = False
    reviewers: list[Reviewing] | None = None

    @property
    def words(self) -> str:
        """Whose word it waits for."""
        found = [one.reviewer.login or one.reviewer.slug for one in self.reviewers or [] if one.reviewer]
        return f"{self.environment.name} waits for {' or '.join(found) or 'its timer or rule'}"


class Variable(msgspec.Struct, frozen=True):
    """A variable of the repository."""

    name: str
    value: str
    updated_at: Moment


def state_of(status: str | None, conclusion: str | None) -> RunState:
    """The state that a status and a conclusion are; one that is not known yet counts as running."""
    if status == "completed":
        return _ENDED.get(conclusion or "", "failed")
    return "waiting" if status in ("queued", "requested", "pending", "waiting") else "running"


def run_of(
    run: WorkflowRun,
    jobs: Sequence[JobRow],
    stations: Mapping[str, Station],
    usual: Station,
    pending: Sequence[Pending] = (),
    usual_s: float | None = None,
) -> Run:
    """The run that a workflow run and its jobs are. `usual` is the station of jobs that `stations` does not name."""
    state = run.state
    shown = [job for job in jobs if job.conclusion != "skipped"]
    ends = [job.completed_at.timestamp() for job in shown if job.completed_at]
    ended_at = (max(ends) if ends else run.updated_at.timestamp()) if state in DONE else None
    words = [f"{job.name}: {step.name}" for job in shown for step in job.steps or [] if step.conclusion == "failure"]
    words = words or [one.words for one in pending]
    return Run(
        id=str(run.id),
        change=run.head_sha,
        state=state,
        stages=_stages(run, state, shown, stations, usual, usual_s, ended_at),
        at=run.began,
        ended_at=ended_at,
        branch=run.head_branch or "",
        who=run.who,
        words="; ".join(words[:3]) or (run.conclusion or run.status or "").replace("_", " "),
    )


def _stages(
    run: WorkflowRun,
    state: RunState,
    jobs: Sequence[JobRow],
    stations: Mapping[str, Station],
    usual: Station,
    usual_s: float | None,
    ended_at: Time | None,
) -> tuple[Stage, ...]:
    """One stage for each station at which it has jobs; without any, one at the usual station."""
    name = run.name or f"run {run.run_number}"
    usual_s = None if state in DONE else usual_s
    at: dict[Station, list[JobRow]] = {}
    for job in jobs:
        # A job of a matrix is called by its name and the values: unit (3.11).
        station = stations.get(job.name) or stations.get(job.name.partition(" (")[0]) or usual
        at.setdefault(station, []).append(job)
    if not at:
        return (Stage(name, usual, state, run.began, ended_at, usual_s),)
    found = []
    for station in (one for one in _ORDER if one in at):
        mine = at[station]
        together = _together([job.state for job in mine])
        begins = [job.started_at.timestamp() for job in mine if job.started_at]
        ends = [job.completed_at.timestamp() for job in mine if job.completed_at]
        found.append(
            Stage(
                name=name if len(at) == 1 else f"{name}: {station}",
                station=station,
                state=together,
                at=min(begins, default=run.began),
                ended_at=max(ends, default=ended_at) if together in DONE else None,
                usual_s=usual_s if len(at) == 1 else None,
                jobs=tuple(_job(job) for job in mine),
            )
        )
    return tuple(found)


def _together(states: Iterable[RunState]) -> RunState:
    """The state of a stage whose jobs are in those."""
    found = set(states)
    if not found - DONE:
        return next((state for state in ("failed", "cancelled", "passed") if state in found), "cancelled")
    return "waiting" if found == {"waiting"} else "running"


def _job(job: JobRow) -> Job:
    done = job.state in DONE
    return Job(
        name=job.name,
        state=job.state,
        at=job.started_at.timestamp() if job.started_at else 0.0,
        ended_at=job.completed_at.timestamp() if done and job.completed_at else None,
        log=str(job.id) if job.status == "completed" else "",  # there is none before
    )


def lines_of(text: str) -> list[str]:
    """The lines of a log, without the time that each begins with."""
    return [_STAMP.sub("", line, count=1) for line in text.split("\n")]


def is_hash(text: str) -> bool:
    """Whether it may be a commit's hash, or the beginning of one that can be told apart."""
    return re.fullmatch(r"[0-9a-f]{7,40}", text) is not None
