"""Stopping what ships at GitHub: a deploy workflow is disabled, and what waits there is cancelled, or its approval refused.

A disabled workflow begins nothing new, but what is queued would still run, and what waits for an approval could be let
through. GitHub keeps no reason with it: the hold is noted in a variable of the repository, one for each workflow and line,
with the runs that were cancelled for it, so that whoever releases it knows what to start again: the newest, unless
something runs by then that it does not contain.
"""

import asyncio
import re
from collections.abc import Sequence

import msgspec

from adapters._github_deploys import Environments
from adapters._github_facts import SHA, Variable, Workflow, WorkflowRun, is_hash
from adapters._github_hub import Hub
from adapters._github_repo import Repo
from adapters._http import Reply
from andon.clock import Time
from andon.model import DONE, Halted, HoldRef, Part
from andon.ports import Accepted, Answer, Denied, Garbled, NoAnswer, Refused, Unreachable

WAITS = ("queued", "pending", "waiting", "requested")
FRESH_S = 60.0
"""A workflow that was active so lately is disabled without another look: a slow answer must not delay a stop."""
CANCELLED_S = 120.0
"""A run that has not ended so long after it was cancelled does not end by that."""
ALL = 100
"""Runs that are cancelled at most for one stop, and so many are noted: a variable holds 48 kB."""


class Memory(msgspec.Struct, frozen=True):
    """What is noted of a stop at a workflow: its sentence, and the runs cancelled for it with the attempt each was in."""

    note: str
    cancelled: tuple[tuple[int, int], ...] = ()
    at: Time = 0.0
    """When it was noted; the runs were cancelled right after."""

    @property
    def text(self) -> str:
        """As the variable holds it."""
        runs = " ".join(f"{run}.{attempt}" for run, attempt in self.cancelled)
        return f"{self.note}\ncancelled: {runs}" if runs else self.note


def memory_of(variable: Variable) -> Memory:
    """What a variable holds. It may have been written by hand."""
    note, _, rest = variable.value.partition("\n")
    found = re.findall(r"\b([0-9]{1,18})\.([0-9]{1,6})\b", rest) if rest.startswith("cancelled:") else []
    runs = tuple((int(run), int(attempt)) for run, attempt in found[:ALL])
    return Memory(note, runs, variable.updated_at.timestamp())


class Stand(msgspec.Struct, frozen=True):
    """How one workflow stands."""

    file: str
    workflow: Workflow
    own: Memory | None
    """What is noted there for our line."""
    others: tuple[Memory, ...]
    waiting: tuple[WorkflowRun, ...]
    """Runs that have not begun."""
    going: tuple[WorkflowRun, ...]
    again: tuple[WorkflowRun | None, str] = (None, "")
    """For a release: the run to start again, and why there is none."""

    @property
    def active(self) -> bool:
        """Whether it may begin runs."""
        return self.workflow.state == "active"


class Workflows:
    """The workflows that ship, at which a stop of one line halts."""

    def __init__(self, repo: Repo, line: str, environment: str, files: tuple[str, ...]) -> None:
        self.repo = repo
        self._there = Environments(repo, environment)
        self.hub: Hub = repo.hub
        self.line = line
        self.files = files
        self._active_at: dict[str, float] = {}

    # ---- reading

    async def halted(self) -> Halted:
        """Each workflow, and what still waits there though it is disabled. Raises as a read."""
        async with self.hub.web.in_time("what stands"):
            stands = await asyncio.gather(*(self._stand(file) for file in self.files))
        parts: list[Part] = []
        for stand in stands:
            notes = [memory.note for memory in (stand.own, *stand.others) if memory]
            note = "" if stand.active else "; ".join(notes) or stand.workflow.state.replace("_", " ")
            moving = (*stand.going, *stand.waiting) if stand.active else stand.going
            parts.append(Part(stand.file, not stand.active, note, _names(moving)))
            if stand.waiting and not stand.active:
                words = f"{note}; cancelled, and not yet gone" if stand.own else note
                parts.append(Part(f"{stand.file}: what waits", False, words, _names(stand.waiting)))
        return Halted(tuple(parts), self.hub.clock.now())

    async def _stand(self, file: str, *, for_act: bool = False) -> Stand:
        workflow, variables = await asyncio.gather(
            self.repo.workflow(file, for_act=for_act), self._noted(for_act=for_act)
        )
        if workflow.state == "active" and not for_act:
            self._active_at[file] = self.hub.clock.now()
            runs = await self.repo.newest(file)
        else:
            self._active_at.pop(file, None)
            lists = await asyncio.gather(
                *(self.repo.runs(file, for_act=for_act, status=status) for status in (*WAITS, "in_progress"))
            )
            runs = list({run.id: run for found in lists for run in found}.values())
        open_ = sorted((run for run in runs if run.state not in DONE), key=lambda run: run.id)
        mine = _variable(workflow, self.line)
        prefix = _variable(workflow, "")
        return Stand(
            file,
            workflow,
            own=next((memory_of(item) for item in variables if item.name == mine), None),
            others=tuple(memory_of(item) for item in variables if item.name.startswith(prefix) and item.name != mine),
            waiting=tuple(run for run in open_ if run.state == "waiting"),
            going=tuple(run for run in open_ if run.state == "running"),
        )

    async def _noted(self, *, for_act: bool) -> list[Variable]:
        """The repository's variables; a credential that may not read them only lacks the notes. Raises as a read."""
        try:
            return await self.repo.variables(for_act=for_act)
        except Denied:
            return []

    # ---- halting

    async def halt(self, hold: HoldRef) -> Answer:
        """Disable the workflows, then note the hold, then cancel what waits."""
        return await self.hub.decided(self._known(), lambda active: self._halt(active, hold))

    async def _known(self) -> list[str]:
        """The workflows that are active, by a look that may be a minute old. Raises as a read."""
        now = self.hub.clock.now()
        if all(0 <= now - self._active_at.get(file, -FRESH_S) < FRESH_S for file in self.files):
            return list(self.files)
        found = await asyncio.gather(*(self.repo.workflow(file, for_act=True) for file in self.files))
        return [file for file, workflow in zip(self.files, found, strict=True) if workflow.state == "active"]

    async def _halt(self, active: Sequence[str], hold: HoldRef) -> Answer:
        words: list[str] = []
        for file in active:
            self._active_at.pop(file, None)
            answer = await self._switch(file, "disable")
            if isinstance(answer, Refused) and len(active) == len(self.files) and not words:
                return answer
            if not isinstance(answer, Reply):
                return _so_far(words or ["others are disabled"] if len(active) < len(self.files) else words, answer)
            words.append(f"{file} disabled")
        try:
            stands = await asyncio.gather(*(self._stand(file, for_act=True) for file in self.files))
        except (Unreachable, Denied, Garbled) as error:
            return NoAnswer(f"{'; '.join(words)}; what waits there cannot be read: {error}")
        for stand in stands:
            held = await self._hold(stand, hold, fresh=stand.file in active)
            if not isinstance(held, Accepted):
                return _so_far([*words, f"{stand.file} stands"], held)
            words.append(held.ref)
        return Accepted("; ".join(word for word in words if word) or "stood already")

    async def _hold(self, stand: Stand, hold: HoldRef, *, fresh: bool) -> Answer:
        """Note the hold at a workflow that is disabled by now, and let nothing through that waits there."""
        # What an active workflow has noted is left of a stop that is over.
        known = stand.own.cancelled if stand.own and (not fresh or hold.id in stand.own.note) else ()
        attempts = {run.id: run.run_attempt for run in stand.waiting}
        memory = Memory(hold.note[:1000], tuple({**dict(known), **attempts}.items())[-ALL:])
        words = ""
        if stand.own is None or stand.own.text != memory.text:
            noted = await self._note(_variable(stand.workflow, self.line), memory, there=stand.own is not None)
            if isinstance(noted, Refused):
                words = f"the hold is not noted there: {noted.words}"  # it stands all the same
            elif not isinstance(noted, Reply):
                return noted
        for run in stand.waiting:
            answer = await self._stop(run, again=(run.id, run.run_attempt) in known, why=hold.note)
            if isinstance(answer, Refused):
                return Refused(f"#{run.run_number} waits and cannot be cancelled: {answer.words}")
            if not isinstance(answer, Reply):
                return answer
        cancelled = f"cancelled {', '.join(_names(stand.waiting))}" if stand.waiting else ""
        return Accepted("; ".join(part for part in (cancelled, words) if part))

    async def _stop(self, run: WorkflowRun, *, again: bool, why: str) -> Reply | Refused | NoAnswer | Unreachable:
        """Refuse the approval that a run waits for, where that is ours to say; else cancel it, the second time by force."""
        if run.status == "waiting" and not again:
            try:
                pending = await self.repo.pending(run.id, for_act=True)
            except (Denied, Unreachable, Garbled):
                pending = []
            if ours := [one.environment.id for one in pending if one.current_user_can_approve]:
                body = {"environment_ids": ours, "state": "rejected", "comment": why}
                path = self.repo.path(f"actions/runs/{run.id}/pending_deployments")
                answer = await self.hub.act("POST", path, body)
                if isinstance(answer, Reply):
                    return answer
        word = "force-cancel" if again else "cancel"  # a step with `if: always()` goes on after the first
        return await self.hub.act("POST", self.repo.path(f"actions/runs/{run.id}/{word}"), also=(409,))

    async def _switch(self, file: str, word: str) -> Reply | Refused | NoAnswer | Unreachable:
        path = self.repo.path(f"actions/workflows/{file}/{word}")
        return await self.hub.act("PUT", path, at_once=True)

    async def _note(self, name: str, memory: Memory, *, there: bool) -> Reply | Refused | NoAnswer | Unreachable:
        where, body = self.repo.path("actions/variables"), {"name": name, "value": memory.text}
        if not there:
            answer = await self.hub.act("POST", where, body, also=(409,))
            if not isinstance(answer, Reply) or answer.status != 409:
                return answer
        return await self.hub.act("PATCH", f"{where}/{name}", body)

    # ---- releasing

    async def release(self, before: Halted) -> Answer:
        """Enable what was not disabled before, unless another line holds it, and start the newest again."""
        stood = {part.name for part in before.parts if part.halted}
        return await self.hub.decided(self._to_release(stood), lambda stands: self._release(stands, stood))

    async def _to_release(self, stood: set[str]) -> list[Stand]:
        """How they stand, and what is to be started again; read before anything is changed. Raises as a read."""
        found = []
        for stand in await asyncio.gather(*(self._stand(file, for_act=True) for file in self.files)):
            left = stand.file in stood or bool(stand.others)
            again = (None, "") if left or stand.own is None else await self._again(stand, stand.own)
            found.append(msgspec.structs.replace(stand, again=again))
        return found

    async def _again(self, stand: Stand, own: Memory) -> tuple[WorkflowRun | None, str]:
        """The newest run that was cancelled for the stop, unless it runs again or would undo what runs; and why not.

        Raises as a read.
        """
        if not own.cancelled:
            return None, ""
        number, attempt = max(own.cancelled)
        try:
            run = await self.repo.run(number, for_act=True)
        except Garbled as error:
            return None, f"run {number} is not started again: {error}"
        name = f"#{run.run_number}"
        if run.run_attempt != attempt or any(other.id > number for other in (*stand.going, *stand.waiting)):
            return None, f"{name} is not started again: it runs by now, or a newer one does"
        if run.state not in DONE and abs(self.hub.clock.now() - own.at) > CANCELLED_S:
            return None, f"{name} was never cancelled, and goes on"
        if run.state not in DONE:
            raise Unreachable(f"{self.hub.name}: {name} is still being cancelled; it can be started again after that")
        try:
            current = await self._version()
            how = await self.repo.compared(current, run.head_sha, for_act=True) if current else "ahead"
        except (Denied, Garbled) as error:
            return None, f"{name} is not started again: what runs is not known ({error})"
        if how == "ahead":
            return run, ""
        return None, f"{name} is not started again: {current[:7]} runs, which it does not contain"

    async def _version(self) -> str:
        """The version that runs in the line's environment; empty: nothing was ever deployed there. Raises as a read.

        The line's deploy target knows best, but a process that only releases may not have opened it.
        """
        asked = self.hub.runs_there.get(self.line)
        current = await (asked() if asked else self._there.current(for_act=True))
        if current is None:
            return ""
        number = 0 if asked else await self._there.run_of(current.id)
        run = await self.repo.run(number, for_act=True) if number else None
        version = current.version
        if run is not None and run.event == "workflow_dispatch":  # its deployment is of the branch it was started from
            named = SHA.search(run.display_title)
            version = named[0] if named else ""
        if not is_hash(version):
            raise Garbled(f"the title of {current.id} names no version")
        return version

    async def _release(self, stands: Sequence[Stand], stood: set[str]) -> Answer:
        words: list[str] = []
        kept = ""
        for stand in stands:
            if stand.others:
                kept = f"{stand.file} stays disabled: {stand.others[0].note}"
            elif stand.file in stood:
                words.append(f"{stand.file} stays disabled, as it was before")
            elif not stand.active:
                answer = await self._switch(stand.file, "enable")
                if not isinstance(answer, Reply):
                    return _so_far(words, answer)
                words.append(f"{stand.file} enabled")
            run, why_not = stand.again
            if run is not None:
                started = await self.hub.act("POST", self.repo.path(f"actions/runs/{run.id}/rerun"))
                if isinstance(started, (NoAnswer, Unreachable)):
                    return _so_far(words, started)
                why_not = f"#{run.run_number} started again"
                if isinstance(started, Refused):
                    why_not = f"#{run.run_number} could not be started again: {started.words}"
            words += [why_not] if why_not else []
            if stand.own is not None:
                name = _variable(stand.workflow, self.line)
                gone = await self.hub.act("DELETE", self.repo.path(f"actions/variables/{name}"), also=(404,))
                if not isinstance(gone, Reply):
                    return _so_far(words, gone)
        return Refused(kept) if kept else Accepted("; ".join(words) or "nothing was halted")


def _variable(workflow: Workflow, line: str) -> str:
    """The name of the variable that notes a line's hold at a workflow."""
    return f"ANDON_HOLD_{workflow.id}_{line.upper().replace('-', '_')}"


def _names(runs: Sequence[WorkflowRun]) -> tuple[str, ...]:
    return tuple(f"#{run.run_number} {run.head_sha[:7]}" for run in runs)


def _so_far(words: Sequence[str], answer: Reply | Refused | NoAnswer | Unreachable | Answer) -> Answer:
    """An answer, after some was done already: a stop that is half done is neither refused nor not sent."""
    assert not isinstance(answer, Reply)
    if isinstance(answer, (Refused, Unreachable)) and words:
        return NoAnswer(f"{'; '.join(words)}; then: {answer.words if isinstance(answer, Refused) else answer}")
    return answer
