"""A call for help, the first pull of the cord: somebody looks within `call:`, or the line stops.

A call is an act that changes nothing outside: `intent` while its time runs, `withdrawn` when somebody clears it, `verified`
when its time was over and the line was stopped in the same transaction. Its claim is the line, so that a second call joins
the first; clearing and ending are the same compare-and-set, so that exactly one of them wins. Whoever holds the lease ends
it; any other engine that is there does so a little later, should nobody have done it.
"""

import asyncio
from collections.abc import Mapping

import msgspec

from andon.acts import NOT_AFTER_S, TAKE_OVER_S, Door, NotDone
from andon.clock import Clock, long_age
from andon.config import LineConfig
from andon.cord import Cord
from andon.events import ActAsked, ActStepped, CallTaken
from andon.keeper import Store
from andon.model import Act, ActId, new_id
from andon.ports import Joined, LedgerUnusable, Moved

AGAIN_S = 1.0
"""After how long an end that the ledger did not take is tried again."""


class Called(msgspec.Struct, frozen=True):
    """What a call began."""

    act: Act
    joined: bool = False
    """Somebody had called already: nothing was changed."""


class Calls:
    """The calls of the lines of one config, as one process sees them."""

    def __init__(self, lines: Mapping[str, LineConfig], door: Door, cord: Cord, store: Store, clock: Clock) -> None:
        self.lines = lines
        self.door = door
        self.cord = cord
        self.store = store
        self.clock = clock
        self.lease = False
        """Whether this process ends calls at once."""
        self._waiting: dict[ActId, asyncio.Task[None]] = {}

    # ---- what a person does

    async def call(self, line: str, who: str, why: str = "") -> Called:
        """Call for help; joins the call that is open, whosever it is. Raises NotDone, LedgerUnusable."""
        self.door.check_may_act(line)
        for _ in range(3):
            board = self.store.board.line(line)
            if board.open_holds:
                raise NotDone(f"{line} is stopped already; F9 adds your hold")
            if board.call is not None:
                return Called(board.call, joined=True)
            act = self._act(line, who, why)
            try:
                await self.store.commit(ActAsked(line=line, at=act.at, act=act), urgent=True)
            except Joined as joined:
                await self._let_go(joined.act)
                continue
            if not self.open(act):
                await self._let_go(act)  # in this moment the line was stopped
                continue
            tail = f": {why}" if why else ""
            left = long_age(self.lines[line].call_s)
            title = f"{who} calls for help on {line}"
            await self.cord.tell(line, "called", title, f"it stops in {left}{tail}", who, f"{act.id}/called")
            return Called(act)
        raise NotDone(f"{line}: others keep changing it; look, then call again")

    async def clear(self, line: str, call: ActId, who: str) -> None:
        """Clear a call: the line runs on. Raises NotDone if it is not open any more, with what became of it."""
        self.door.check_may_act(line)
        act = self._known(line, call)
        if act.settled or not await self.door.step(act, "intent", "withdrawn", f"cleared by {who}"):
            act = self._known(line, call)
            became = "the line was stopped" if act.state == "verified" else act.words
            raise NotDone(f"the call on {line} is over: {became}")
        # As a resume: whoever was paged by the call need not come any more.
        await self.cord.tell(line, "resumed", f"call on {line} cleared", f"{who} cleared it", who, f"{call}/cleared")

    async def take(self, line: str, call: ActId, who: str) -> None:
        """Say that somebody looks into it; its time goes on. Raises NotDone."""
        self.door.check_may_act(line)
        if self._known(line, call).settled:
            raise NotDone(f"the call on {line} is over")
        await self.store.commit(CallTaken(line=line, at=self.clock.now(), call=call, who=who))

    def open(self, act: Act) -> bool:
        """Whether that call is open."""
        now = self.store.board.line(act.line).call
        return now is not None and now.id == act.id

    def _known(self, line: str, call: ActId) -> Act:
        found = next((act for act in self.store.board.line(line).calls if act.id == call), None)
        if found is None:
            raise NotDone(f"{line} has no open call")
        return found

    async def _let_go(self, act: Act) -> None:
        """Free the claim of a call that a stop has answered, unless it is open after all."""
        if not self.open(act):
            await self.door.step(act, act.state, "superseded", "the line was stopped")

    def _act(self, line: str, who: str, why: str) -> Act:
        now, seconds = self.clock.now(), self.clock.real(self.lines[line].call_s)
        return Act(
            id=new_id(),
            kind="call",
            line=line,
            target="",
            subject=line,
            who=who,
            why=why,
            at=now,
            not_before=now + seconds,
            not_after=now + seconds + self.clock.real(NOT_AFTER_S),
            environment=self.lines[line].environment,
            asker=self.door.me,
        )

    # ---- what an engine does

    def look(self, *, lease: bool) -> None:
        """Wait for the end of each open call. To be called each second by who may end them; raises what a wait raised."""
        self.lease = lease
        board = self.store.board
        calls = {
            call.id: call for name in self.lines if (call := board.line(name).call) and name not in board.read_only
        }
        for id_ in [id_ for id_ in self._waiting if id_ not in calls]:
            task = self._waiting.pop(id_)
            if not task.cancel():
                task.result()  # as below
        for id_, call in calls.items():
            if id_ in self._waiting and self._waiting[id_].done():
                self._waiting.pop(id_).result()  # what went wrong is raised here, and the next look begins anew
            if id_ not in self._waiting:
                self._waiting[id_] = asyncio.create_task(self._wait(call), name=f"call-{id_}")

    async def stop(self) -> None:
        """Wait for no call any more."""
        tasks = list(self._waiting.values())
        self._waiting.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait(self, act: Act) -> None:
        """End a call when its time is over.

        The time that is left is looked at once; then it passes by itself, whatever becomes of the clock.
        """
        now, whole = self.clock.now(), act.not_before - act.at
        if now > act.not_after:
            await self.door.step(act, "intent", "expired", "nobody was here when its time was over; call again")
            return
        await self.clock.sleep(min(max(0.0, act.not_before - now), whole))
        if not self.lease:
            await self.clock.sleep(self.clock.real(TAKE_OVER_S))
        while self.open(act):
            try:
                await self._end(act)
            except Moved:
                return  # somebody cleared or ended it in this moment
            except (NotDone, LedgerUnusable):
                pass  # tried again, as long as it is open
            await self.clock.sleep(self.clock.real(AGAIN_S))

    async def _end(self, act: Act) -> None:
        left = long_age(self.lines[act.line].call_s)
        why = f"called for help{f': {act.why}' if act.why else ''}; nobody cleared it in {left}"
        words = "nobody cleared it: the line was stopped"
        ended = ActStepped(
            line=act.line,
            at=self.clock.now(),
            act=act.id,
            was="intent",
            now="verified",
            words=words,
            by=self.door.me,
        )
        has = self.store.board.line(act.line).call_has
        pulled = await self.cord.pull(act.line, act.who, why, ends=ended)
        if has and pulled.recorded:
            await self.cord.take(act.line, pulled.hold.id, has)
