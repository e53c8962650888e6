"""Stopping what ships at Buildbot: the workers that serve its builders are paused, and only those.

Pausing loses nothing: what is built there goes on, what comes later waits. (Disabling a scheduler would lose what comes
meanwhile.) A worker that also serves other builders is not paused, because that would stop tests: the halt is refused.
"""

import asyncio
from collections.abc import Iterable

from adapters._buildbot_facts import Builder, Worker, ours
from adapters._buildbot_master import Master
from andon.model import Halted, HoldRef, Part
from andon.ports import Accepted, Answer, Garbled, NoAnswer, Refused, Unreachable

FRESH_S = 15.0
"""A look at the workers younger than this is enough to pause them: a slow master must not delay a stop by two reads."""

Look = tuple[set[int], list[Worker], dict[str, Builder]]
"""The builders that ship, all workers, and all builders by name."""


class Workers:
    """The workers of the builders that ship."""

    def __init__(self, master: Master, halts: tuple[str, ...]) -> None:
        self.master = master
        self.halts = halts
        self._last: tuple[float, Look] | None = None

    async def _look(self, *, for_act: bool) -> Look:
        """What stands there now. Raises as a read."""
        known, found = await asyncio.gather(
            self.master.builders(for_act=for_act), self.master.get("workers", for_act=for_act)
        )
        missing = [name for name in self.halts if name not in known]
        if missing:
            raise Garbled(f"{self.master.name}: Buildbot has no builder {missing[0]!r}, which `halts:` names")
        look = {known[name].builderid for name in self.halts}, found.workers, known
        self._last = (self.master.clock.now(), look)
        return look

    async def _recent(self) -> Look:
        """The last look, if it is fresh and says what to pause; a read shows afterwards whether it was true."""
        if self._last is not None and self.master.clock.now() - self._last[0] < FRESH_S:
            ships, workers, _ = self._last[1]
            if any(not worker.paused for worker in pure(workers, ships)):
                return self._last[1]
        return await self._look(for_act=True)

    async def halt(self, hold: HoldRef) -> Answer:
        """Pause the workers that ship, except those which are paused already, by whomever."""
        return await self.master.decided(self._recent(), lambda look: self._pause(look, hold.note))

    async def _pause(self, look: Look, note: str) -> Answer:
        ships, workers, known = look
        sharing = mixed(workers, ships)
        if sharing:
            return Refused(f"nothing was paused: {shares(sharing[0], ships, known)}")
        shipping = pure(workers, ships)
        if not shipping:
            return Refused(f"no worker serves {', '.join(self.halts)}; there is nothing to pause")
        todo = [worker for worker in shipping if not worker.paused]
        # All at once: one that hangs delays no other.
        calls = (self.master.call(f"workers/{item.workerid}", "pause", reason=note) for item in todo)
        answers = await asyncio.gather(*calls)
        return _together(answers, "paused " + ", ".join(worker.name for worker in shipping))

    async def release(self, before: Halted) -> Answer:
        """Let those work again which were not paused before and are paused by a hold now; the others are left as they are.

        A master that is started anew forgets the reasons of its paused workers. One without a reason that was seen to
        work before the halt is taken for ours.
        """
        return await self.master.decided(self._look(for_act=True), lambda look: self._unpause(look, before))

    async def _unpause(self, look: Look, before: Halted) -> Answer:
        ships, workers, _ = look
        stood = {part.name for part in before.parts if part.halted}
        worked = {part.name for part in before.parts if not part.halted}
        todo: list[Worker] = []
        left: list[Worker] = []
        for worker in (item for item in pure(workers, ships) if item.paused):
            mine = ours(worker.pause_reason) or (worker.pause_reason is None and worker.name in worked)
            (todo if mine and worker.name not in stood else left).append(worker)
        answers = await asyncio.gather(*(self.master.call(f"workers/{item.workerid}", "unpause") for item in todo))
        words = [f"{item.name} stays paused: {item.pause_reason or 'no reason is known'}" for item in left]
        return _together(answers, "; ".join([*(f"{item.name} works again" for item in todo), *words]))

    async def halted(self) -> Halted:
        """Each worker that ships: whether it is paused, why, and the runs that are still built there. Raises as a read."""
        async with self.master.web.in_time("what stands"):
            ships, workers, known = await self._look(for_act=False)
            which = "&".join(f"builderid={number}" for number in sorted(ships))
            builds = (await self.master.get(f"builds?complete=false&{which}")).builds
        names = {item.builderid: name for name, item in known.items()}
        parts = []
        for worker in workers:
            if not worker.serves(ships):
                continue
            moving = sorted(item.buildrequestid for item in builds if item.workerid == worker.workerid)
            note = (worker.pause_reason or "paused, no reason is known") if worker.paused else ""
            parts.append(Part(worker.name, worker.paused, note, tuple(f"r{number}" for number in moving)))
        if not parts:
            raise Garbled(
                f"{self.master.name}: no worker serves {', '.join(names[number] for number in sorted(ships))}"
            )
        return Halted(tuple(sorted(parts, key=lambda part: part.name)), self.master.clock.now())


def pure(workers: Iterable[Worker], ships: set[int]) -> list[Worker]:
    """The workers that do nothing but ship."""
    return [worker for worker in workers if worker.serves(ships) and worker.served <= ships]


def mixed(workers: Iterable[Worker], ships: set[int]) -> list[Worker]:
    """The workers that ship and do something else, too."""
    return [worker for worker in workers if worker.serves(ships) and not worker.served <= ships]


def shares(worker: Worker, ships: set[int], known: dict[str, Builder]) -> str:
    """The sentence about a worker that ships and does something else, too."""
    names = {item.builderid: name for name, item in known.items()}
    other = ", ".join(sorted(names.get(number, f"builder {number}") for number in worker.served - ships)[:5])
    return (
        f"a worker of its own for what ships: {worker.name} also serves {other}, which pausing it would stop; "
        "give the builders in `halts:` a worker that serves no other"
    )


def _together(answers: list[Answer], words: str) -> Answer:
    """One answer for several: the worst of them. Where some were accepted, `Unreachable` would say too little."""
    for kind in (NoAnswer, Refused, Unreachable):
        for answer in answers:
            if isinstance(answer, kind):
                part = len([item for item in answers if isinstance(item, Accepted)])
                return NoAnswer(f"{part} of {len(answers)} done; {answer}") if part and kind is Unreachable else answer
    return Accepted(words)
