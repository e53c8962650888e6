"""An outside system in one file, shared by processes: a deploy target that compares and sets, and a place that stands.

It works like a vendor's server: what arrives is done at once, under a lock, and stays whoever dies. It writes down every
request with what it did, so that a test can count effects.
"""

import fcntl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from andon.clock import Clock
from andon.model import Deployment, Halted, HoldRef, Identity, LogPart, Part, Why
from andon.ports import Accepted, Answer, Can, Conflict, Fact, Passed, Refused, Wait


class Request(msgspec.Struct):
    """A request to deploy that arrived."""

    key: str
    expected: str
    replaced: str
    version: str
    made: str = ""
    """The deployment it made; empty: none."""


class State(msgspec.Struct):
    """Everything there is outside."""

    compares: bool = True
    deployments: list[Deployment] = []
    requests: list[Request] = []
    note: str = ""
    """Why it stands; empty: it moves."""
    halts: int = 0
    releases: int = 0

    @property
    def effects(self) -> list[Request]:
        return [request for request in self.requests if request.made]

    def put(self, version: str, by: str, at: float) -> Deployment:
        fresh = Deployment(id=f"d{len(self.deployments) + 1}", version=version, state="settled", at=at, by=by)
        self.deployments.append(fresh)
        return fresh


class FileTarget:
    """The system, as one process sees it."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self.clock = clock

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def look(self) -> State:
        """What is there now."""
        return msgspec.json.decode(self.path.read_bytes(), type=State)

    def make(self, state: State) -> None:
        """Put everything there at once: whoever is killed while writing has written nothing."""
        fresh = self.path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(state))
        fresh.replace(self.path)

    def change(self, work: Callable[[State], Answer]) -> Answer:
        """A request arrives."""
        with self._locked():
            state = self.look()
            answer = work(state)
            self.make(state)
            return answer

    def arrive(self, state: State, version: str, expected: str, key: str) -> Answer:
        current = state.deployments[-1]
        request = Request(key, expected, current.id, version)
        state.requests.append(request)
        if state.compares and current.id != expected:
            return Conflict(current.id)
        request.made = state.put(version, "andon", self.clock.now()).id
        return Accepted(request.made)


Meets = Callable[[str], None]
"""Called with the name of each point that is met."""


class _Source:
    def __init__(self, target: FileTarget, meets: Meets, can: Can) -> None:
        self.target, self.meets, self.can = target, meets, can

    async def whoami(self) -> Identity:
        return Identity(account="file", clock=self.target.clock.now())

    async def close(self) -> None:
        return None

    def call(self, name: str, work: Callable[[], Any]) -> Any:
        self.meets(f"before {name}")
        found = work()
        self.meets(f"after {name}")
        return found


class FileDeploy(_Source):
    """The deploy target."""

    async def current(self) -> Deployment | None:
        found: State = self.call("current()", self.target.look)
        return found.deployments[-1]

    async def history(self, n: int) -> list[Deployment]:
        found: State = self.call("history()", self.target.look)
        return found.deployments[::-1][:n]

    async def watch(self) -> AsyncIterator[Fact | Wait]:
        while True:
            for item in self.target.look().deployments:
                yield item
            yield Wait(2.0)

    async def deploy(self, version: str, *, expected: str | None, key: str, through: str | None) -> Answer:
        def arrives(state: State) -> Answer:
            return self.target.arrive(state, version, expected or "", key)

        answer: Answer = self.call("deploy()", lambda: self.target.change(arrives))
        return answer

    async def abort(self, deployment: str, why: Why) -> Answer:
        return Refused("it is settled")

    async def share(self, version: str, percent: int, *, expected: str | None, key: str) -> Answer:
        return Refused("no shares")


class FileHalting(_Source):
    """The place that stands, as a CI."""

    async def halt(self, hold: HoldRef) -> Answer:
        def arrives(state: State) -> Answer:
            state.halts += 1
            state.note = state.note or hold.note
            return Accepted()

        answer: Answer = self.call("halt()", lambda: self.target.change(arrives))
        return answer

    async def release(self, hold: HoldRef, before: Halted) -> Answer:
        def arrives(state: State) -> Answer:
            state.releases += 1
            state.note = state.note if before.halted else ""
            return Accepted()

        answer: Answer = self.call("release()", lambda: self.target.change(arrives))
        return answer

    async def halted(self) -> Halted:
        found: State = self.call("halted()", self.target.look)
        return Halted(
            parts=(Part(name="deploys", halted=bool(found.note), note=found.note),), at=self.target.clock.now()
        )

    async def watch(self) -> AsyncIterator[Fact | Wait]:
        while True:
            yield Wait(60.0)

    async def passed(self, change: str) -> Passed:
        return Passed("unknown")

    async def log(self, run: str, part: str, start: int) -> LogPart:
        return LogPart((), start)

    async def cancel(self, run: str, why: Why) -> Answer:
        return Refused("nothing runs")
