"""What Buildbot's REST API says, and the facts it amounts to. Nothing here asks anything.

A build request and the builds that serve it are one run, named `r` and the request's number: the request exists from the
first moment to the last, and a build that is lost with its worker is replaced by another one of the same request.
"""

import math
import re
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from andon.model import Change, Job, Run, RunState, Stage, Station

SUCCESS, WARNINGS, FAILURE, SKIPPED, EXCEPTION, RETRY, CANCELLED = range(7)
_STATES: dict[int, RunState] = {
    SUCCESS: "passed",
    WARNINGS: "passed",
    FAILURE: "failed",
    SKIPPED: "cancelled",
    EXCEPTION: "failed",
    CANCELLED: "cancelled",
}

SHORTEST = 7
"""Signs that the beginning of a revision must have to stand for it."""


class Builder(msgspec.Struct, frozen=True):
    """A builder."""

    builderid: int
    name: str


class Request(msgspec.Struct, frozen=True):
    """A build request: something to be built, waiting, being built, or done."""

    buildrequestid: int
    buildsetid: int
    builderid: int
    complete: bool
    submitted_at: float
    results: int | None = None
    complete_at: float | None = None
    claimed: bool = False


class Build(msgspec.Struct, frozen=True):
    """One attempt to serve a request."""

    buildid: int
    number: int
    builderid: int
    buildrequestid: int
    workerid: int
    started_at: float
    complete: bool
    complete_at: float | None = None
    results: int | None = None
    state_string: str = ""
    properties: dict[str, list[Any]] | None = None

    def property(self, name: str) -> str:
        """A property's value; empty if it has none that is text."""
        value, *_ = (self.properties or {}).get(name) or [""]
        return value if isinstance(value, str) else ""


class Step(msgspec.Struct, frozen=True):
    """One step of a build."""

    buildid: int
    number: int
    name: str
    complete: bool
    hidden: bool = False
    started_at: float | None = None
    complete_at: float | None = None
    results: int | None = None


class Stamp(msgspec.Struct, frozen=True):
    """What is built: a revision of a branch, as far as it is said."""

    revision: str | None = None
    branch: str | None = None


class Buildset(msgspec.Struct, frozen=True):
    """Requests that were made together, of the same source."""

    bsid: int
    sourcestamps: list[Stamp] = []

    @property
    def stamp(self) -> Stamp:
        """The source that names a revision, else the first one."""
        named = [stamp for stamp in self.sourcestamps if stamp.revision]
        return next(iter([*named, *self.sourcestamps]), Stamp())


class ChangeRow(msgspec.Struct, frozen=True):
    """A change that Buildbot was told of."""

    changeid: int
    revision: str | None = None
    author: str | None = None
    comments: str | None = None
    branch: str | None = None
    when_timestamp: float = 0.0


class Configured(msgspec.Struct, frozen=True):
    """A builder that a worker serves."""

    builderid: int


class Worker(msgspec.Struct, frozen=True):
    """A worker, which does the work of builders."""

    workerid: int
    name: str
    paused: bool = False
    pause_reason: str | None = None
    configured_on: list[Configured] = []
    connected_to: list[Any] = []

    def serves(self, builders: Iterable[int]) -> bool:
        """Whether it serves one of them."""
        return bool(self.served & set(builders))

    @property
    def served(self) -> set[int]:
        """The ids of the builders that it serves."""
        return {item.builderid for item in self.configured_on}


class Log(msgspec.Struct, frozen=True):
    """A log of a step."""

    logid: int
    name: str
    type: str
    num_lines: int
    complete: bool


class Chunk(msgspec.Struct, frozen=True):
    """Lines of a log."""

    content: str


class Meta(msgspec.Struct, frozen=True):
    """What a listing says of itself."""

    total: int | None = None
    """How many there are, of which a limit may have left some out."""


class Listing(msgspec.Struct, frozen=True):
    """Whatever a listing holds; each names its own key. What has no `meta` is not Buildbot's."""

    meta: Meta
    builders: list[Builder] = []
    buildrequests: list[Request] = []
    builds: list[Build] = []
    steps: list[Step] = []
    buildsets: list[Buildset] = []
    changes: list[ChangeRow] = []
    workers: list[Worker] = []
    logs: list[Log] = []
    logchunks: list[Chunk] = []

    @property
    def missing(self) -> int:
        """How many it should hold, too, where no limit was asked for."""
        held = sum(len(rows) for name in self.__struct_fields__ if isinstance(rows := getattr(self, name), list))
        return max(0, (self.meta.total or 0) - held)


class Message(msgspec.Struct, frozen=True):
    """An event of the stream: what it is about, and that as it stands now."""

    key: list[str]
    message: dict[str, Any] | None = None
    """Null where Buildbot cannot write it as JSON, as of a request that is cancelled."""

    @property
    def kind(self) -> str:
        """What it is about: builds, buildrequests, steps, changes."""
        return self.key[0] if self.key else ""

    @property
    def about(self) -> int:
        """The number of what it is about."""
        return int(self.key[1]) if self.key[1:] and re.fullmatch("[0-9]{1,18}", self.key[1]) else 0

    def number(self, name: str) -> int:
        """A number in the message; 0 if it holds none of that name."""
        value = (self.message or {}).get(name)
        return value if isinstance(value, int) else 0


def changes_of(rows: Sequence[ChangeRow], branch: str) -> tuple[Change, ...]:
    """The changes of a branch (of all, if it is empty), oldest first, each revision once."""
    found: dict[str, Change] = {}
    for row in sorted(rows, key=lambda row: row.changeid):
        if row.revision and on_branch(row.branch, branch) and row.revision not in found:
            title = next((line for line in (row.comments or "").splitlines() if line.strip()), "")
            found[row.revision] = Change(row.revision, title, row.author or "", float(row.when_timestamp))
    return tuple(found.values())


def on_branch(branch: str | None, wanted: str) -> bool:
    """Whether something belongs to the branch that is looked at. What names none may be of any."""
    return not wanted or not branch or branch == wanted


def run_of(
    request: Request,
    stamp: Stamp,
    builder: str,
    station: Station,
    build: Build | None,
    steps: Sequence[Step],
    usual_s: float | None,
) -> Run:
    """The run that a request and the last of its builds are."""
    state = state_of(request, build)
    ended_at = (request.complete_at or (build.complete_at if build else None)) if state in _ENDED else None
    stage = Stage(
        name=builder,
        station=station,
        state=state,
        at=float(build.started_at if build else request.submitted_at),
        ended_at=None if ended_at is None else float(ended_at),
        # Of what has ended it would be said anew each time that the usual changes.
        usual_s=None if state in _ENDED else usual_s,
        jobs=tuple(_job(step) for step in steps if _shown(step)),
    )
    return Run(
        id=f"r{request.buildrequestid}",
        change=stamp.revision or (build.property("got_revision") if build else ""),
        state=state,
        stages=(stage,),
        at=float(request.submitted_at),
        ended_at=stage.ended_at,
        branch=stamp.branch or "",
        who=build.property("owner") if build else "",
        words=_words(request, build, state),
    )


_ENDED = ("passed", "failed", "cancelled")


def state_of(request: Request, build: Build | None) -> RunState:
    """How far a request has come."""
    if request.complete:
        return _STATES.get(request.results if request.results is not None else EXCEPTION, "failed")
    if build is None or (build.complete and build.results == RETRY):
        return "waiting"
    if not build.complete:
        return "running"
    return _STATES.get(build.results if build.results is not None else EXCEPTION, "failed")


def _words(request: Request, build: Build | None, state: RunState) -> str:
    if build is not None and state != "waiting":
        return build.state_string
    if state == "waiting":
        return "waits for a worker"
    return "merged into a later request" if request.results == SKIPPED else ""


def _shown(step: Step) -> bool:
    """A step that was skipped did not happen; a hidden one is shown if it went wrong."""
    return step.results != SKIPPED and (not step.hidden or step.results in (FAILURE, EXCEPTION))


def _job(step: Step) -> Job:
    state: RunState = "waiting" if step.started_at is None else "running"
    if step.complete:
        state = _STATES.get(step.results if step.results is not None else EXCEPTION, "cancelled")
    return Job(
        name=step.name,
        state=state,
        at=float(step.started_at or 0.0),
        ended_at=None if step.complete_at is None else float(step.complete_at),
        log=f"{step.buildid}/{step.number}" if step.started_at is not None else "",
    )


def usual_s(builds: Iterable[Build]) -> dict[int, float]:
    """For each builder, how long its builds take that succeed, in seconds: the median of those given."""
    lengths: dict[int, list[float]] = {}
    for build in builds:
        if build.results in (SUCCESS, WARNINGS) and build.complete_at is not None:
            lengths.setdefault(build.builderid, []).append(build.complete_at - build.started_at)
    usual = {builder: statistics.median(found) for builder, found in lengths.items()}
    return {builder: float(round(length)) for builder, length in usual.items() if math.isfinite(length)}


def is_revision(change: str, *revisions: str | None) -> bool:
    """Whether a change is one of the revisions: equal, or one the beginning (of at least 7 signs) of the other."""
    for revision in revisions:
        if not revision or not change:
            continue
        if revision == change:
            return True
        if min(len(revision), len(change)) >= SHORTEST and (revision.startswith(change) or change.startswith(revision)):
            return True
    return False


def lines_of(log: Log, chunks: Sequence[Chunk]) -> tuple[str, ...]:
    """The lines of a log, without the sign of the stream that each begins with in a command's log."""
    text = "".join(chunk.content for chunk in chunks)
    lines = text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return tuple(line[1:] if log.type == "s" else line for line in lines)


_OURS = re.compile(r"andon hold \S+ by ")


def ours(reason: str | None) -> bool:
    """Whether a worker's reason for being paused is a hold of andon's."""
    return bool(reason and _OURS.match(reason))
