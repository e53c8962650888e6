"""The one door out: an intent becomes an act, is sent once, and is shown as done when a read has shown it.

    intent → sent → accepted | unknown → verified | refused | failed | superseded
       └→ withdrawn | expired

An intent is durable before anything is sent. Its claim is unique among unsettled acts, so a second press joins the first.
Every step is a compare-and-set on the act's state in the ledger: of two processes that want to send, one does. `halt` and
`release` say how things shall be, so they are repeated until a read confirms them; a deployment is never sent again
blindly. Which process drives an act matters only for waste: correctness comes from the claim, the compare-and-set, and
the deployment id that the target compares.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection

from andon.board import Board
from andon.clock import Clock, Time, age
from andon.events import ActAsked, ActStepped, Event
from andon.keeper import Store
from andon.model import Act, ActId, ActState, Deployment, Halted, HoldRef, Why
from andon.ports import (
    ACT_LIMIT_S,
    Accepted,
    Answer,
    Conflict,
    Deploy,
    Garbled,
    Joined,
    LedgerUnusable,
    Moved,
    NoAnswer,
    Refused,
    Unreachable,
    whole,
)
from andon.proof import Proof, Targets, read_current, unreadable

log = logging.getLogger("andon.acts")

NOT_AFTER_S = 300.0
"""A deployment, a cancellation or a note not sent by then expires."""
TAKE_OVER_S = 2.0
"""The lease holder sends what the asker has not sent so long after its time."""
LOUD_S = 120.0
"""A halt or release not confirmed by then is said loudly."""
READ_EVERY_S = 1.0
MOST_WAIT_S = 30.0
ABORTING = "aborting"
ABORT_AGAIN_S = 5.0
FRESH_S = 1.0
"""How old a read of the current deployment may be when an automatic rollback is sent without compare-and-set."""


class NotDone(Exception):
    """It was not even begun; the words say why, and what to do."""


Wanted = Callable[[Board, Act], str]
"""Why a halt or release is no longer wanted; empty: it is."""


class Door:
    """One process's way out. Acts asked here are driven here; `recover` drives those of others."""

    def __init__(
        self,
        store: Store,
        targets: Targets,
        clock: Clock,
        *,
        me: str,
        wanted: Wanted,
        read_only: bool = False,
        lines: Collection[str] | None = None,
    ) -> None:
        """`lines`: those that the config names; others of the same ledger are other rooms' business. None: all."""
        self.store = store
        self.targets = targets
        self.clock = clock
        self.me = me
        self.read_only = read_only
        self.lines = lines
        self._wanted = wanted
        self._driven: dict[ActId, asyncio.Task[None]] = {}
        self._joined: set[ActId] = set()
        self.proof = Proof(store, targets, clock, self.step)

    def check_may_act(self, line: str) -> None:
        """Raise NotDone if this process must not act on that line. Here, not in key bindings, is read-only enforced."""
        if self.read_only:
            raise NotDone("read-only: this room only looks")
        if self.lines is not None and line not in self.lines:
            raise NotDone(f"there is no line {line!r}; there are {', '.join(self.lines)}")
        reason = self.store.board.read_only.get(line)
        if reason:
            raise NotDone(f"read-only for {line}: {reason}")

    async def ask(self, act: Act, *events: Event) -> Act:
        """Make an intent durable, with `events` in the same transaction, and drive it; or join the one that is there.

        Raises NotDone if it must not be, or if another version is already on its way for the same deployment;
        LedgerUnusable if it could not be recorded: then nothing was sent.
        """
        self.check_may_act(act.line)
        for _ in range(3):
            try:
                await self.store.commit(*events, ActAsked(line=act.line, at=act.at, act=act), urgent=True)
            except Joined as joined:
                there = joined.act
                if there.state == "unknown":
                    await self.proof.read(self._now(there))  # a press first resolves what is not known
                    if self._now(there).settled:
                        if self._now(there).state == "verified":
                            return self._now(there)
                        continue
                if there.version != act.version:
                    going = "rolling back" if there.kind == "rollback" else "shipping"
                    ago = age(self.clock.now() - there.at)
                    raise NotDone(f"already {going} to {there.version[:12]} ({there.who}, {ago} ago)") from joined
                self.adopt(there)
                return there
            self.drive(act.id, act.line)
            return act
        raise NotDone("others keep asking for the same; look at the line, then press again")

    def drive(self, id_: ActId, line: str) -> "asyncio.Task[None]":
        """Bring an act to its end; one task per act and process. Cancelling it loses nothing: the act is in the ledger."""
        running = self._driven.get(id_)
        if running is not None and not running.done():
            return running
        task = asyncio.create_task(self._drive(id_, line), name=f"act-{id_}")
        self._driven[id_] = task
        task.add_done_callback(lambda _: self._done(id_, task))
        return task

    def _done(self, id_: ActId, task: "asyncio.Task[None]") -> None:
        if self._driven.get(id_) is task:
            del self._driven[id_]
            self._joined.discard(id_)

    @property
    def driven(self) -> tuple["asyncio.Task[None]", ...]:
        """The acts this process drives now."""
        return tuple(self._driven.values())

    def recover(self, *, lease: bool) -> None:
        """Drive what is unsettled: our own at once, that of others if we hold the lease and their asker is late."""
        if self.read_only:
            return
        for line in self.store.board.lines.values():
            if line.name in self.store.board.read_only or (self.lines is not None and line.name not in self.lines):
                continue
            for act in line.unsettled():
                if lease or act.asker == self.me or act.id in self._joined:
                    self.adopt(act)

    def adopt(self, act: Act) -> None:
        """Drive an act that is there already: our own at once, another's when its asker is late and perhaps dead."""
        self._joined.add(act.id)
        late = self.clock.now() >= act.not_before + self.clock.real(TAKE_OVER_S)
        if act.asker == self.me or late:
            self.drive(act.id, act.line)

    async def withdraw(self, act: Act, who: str) -> bool:
        """Take an intent back before it is sent; False if it was sent. The same compare-and-set that sending uses."""
        self.check_may_act(act.line)
        return await self.step(act, "intent", "withdrawn", f"withdrawn by {who}")

    async def resolve(self, act: Act, *, happened: bool, who: str) -> bool:
        """A person looked: it happened, or it did not. Only for an act whose outcome is not known."""
        self.check_may_act(act.line)
        now: ActState = "verified" if happened else "failed"
        looked = "it happened" if happened else "it did not happen"
        events = [self.proof.faulty(act)] if happened and act.kind == "rollback" else []
        return await self.step(act, "unknown", now, f"{who} looked: {looked}", "", *events)

    async def step(self, act: Act, was: ActState, now: ActState, words: str = "", ref: str = "", *more: Event) -> bool:
        """One compare-and-set of an act's state; False if it was in another state."""
        event = ActStepped(
            line=act.line, at=self.clock.now(), act=act.id, was=was, now=now, words=words, ref=ref, by=self.me
        )
        try:
            await self.store.commit(event, *more, urgent=True)
        except Moved:
            return False
        return True

    def _now(self, act: Act) -> Act:
        return self.store.board.line(act.line).acts.get(act.id, act)

    async def _drive(self, id_: ActId, line: str) -> None:
        tries = 0
        while True:
            act = self.store.board.line(line).acts.get(id_)
            if act is None or act.settled:
                return
            try:
                if act.state == "intent":
                    tries = await self._send(act, tries)
                elif act.kind in ("halt", "release"):
                    tries = await self._confirm(act, tries)
                else:
                    await self._verify(act)
            except LedgerUnusable:
                await self._pause()  # nothing is done that cannot be recorded; the keeper says so

    # ---- sending

    async def _send(self, act: Act, tries: int) -> int:
        """Take an intent to `sent`, send it and note the answer. Returns how often it found nobody."""
        now = self.clock.now()
        standing = act.kind in ("halt", "release")
        if not standing and now < act.not_before:  # a halt does not wait for a clock that was set back
            await self.clock.sleep(min(act.not_before - now, self.clock.real(0.25)))
            return tries
        if not standing and now > act.not_after:
            await self.step(act, "intent", "expired", "not sent within its time; press again if it is still wanted")
            return tries
        if standing and (reason := self._wanted(self.store.board, act)):
            await self.step(act, "intent", "superseded", reason)
            return tries
        if act.kind == "push" and (reason := self._closed_to(act)):
            await self.step(act, "intent", "superseded", reason)
            return tries
        if act.kind in ("rollback", "push") and not await self._may_ship(act):
            return tries
        looked_at = self.clock.now()
        if not standing and looked_at > act.not_after:
            return tries  # the look took too long; the next round says that it expired
        if not await self.step(act, "intent", "sent"):
            return tries
        sent = self._now(act)
        if self._looked_too_long_ago(sent, looked_at):
            await self.step(sent, "sent", "intent", "the read grew old before it was sent; looking again")
            return tries
        answer = await self._call(sent)
        if await self._answered(sent, answer) != "intent":
            return tries
        # The pause comes before the next look at what may be sent: nothing is sent on what was true before it.
        await self._pause(min(2.0**tries, MOST_WAIT_S))
        return tries + 1

    def _closed_to(self, act: Act) -> str:
        """Why a push may not be sent now: only what names an open hold goes through a stop."""
        held = {hold.id for hold in self.store.board.line(act.line).open_holds}
        return "the line was stopped or resumed meanwhile" if (held or act.hold) and act.hold not in held else ""

    def _looked_too_long_ago(self, act: Act, looked_at: Time) -> bool:
        """Whether a newer deployment could have landed between the look and now, where nothing is compared."""
        deploy = self.targets.deploy(act.line) if act.auto else None
        aged = self.clock.now() - looked_at > self.clock.real(FRESH_S)
        return deploy is not None and not deploy.can.compare_and_set and aged

    async def _may_ship(self, act: Act) -> bool:
        """Look before a deployment is sent; False: not yet, or never (then it was settled)."""
        deploy = self.targets.deploy(act.line)
        if deploy is None:
            await self.step(act, "intent", "refused", "the config names no deploy target for this line")
            return False
        try:
            read_at = self.clock.now()
            current = await read_current(deploy)
        except Exception as error:  # noqa: BLE001 - whatever an adapter does wrong in a read, it is unreadable
            if deploy.can.compare_and_set:
                return True  # the target itself refuses what is not expected
            await self._wait(act, f"cannot read what runs: {unreadable(error)}")
            return False
        if (current.id if current else "") != act.expected:
            await self._overtaken(act, current)
            return False
        if act.auto and not self.store.board.line(act.line).stop:
            await self.step(act, "intent", "superseded", "the line was resumed meanwhile")
            return False
        if current is not None and current.state == "rolling":
            await self._roll_on(act, deploy, current)
            return False
        if not act.auto or deploy.can.compare_and_set:
            return True
        reason = self._not_quiet(act)
        if reason:
            await self._wait(act, reason)
            return False
        return self.clock.now() - read_at <= self.clock.real(FRESH_S)

    async def _overtaken(self, act: Act, current: Deployment | None) -> None:
        """Something else runs than was expected when the act was asked."""
        if current is None:
            await self.step(act, "intent", "superseded", "nothing runs there")
        elif current.version == act.version and current.state == "settled":
            undone = [self.proof.faulty(act)] if act.words.startswith(ABORTING) else []
            await self.step(act, "intent", "verified", "it runs already, by a read", current.id, *undone)
        else:
            who = current.by or "somebody"
            await self.step(act, "intent", "superseded", f"{current.version[:12]} by {who} runs now")

    async def _roll_on(self, act: Act, deploy: Deploy, current: Deployment) -> None:
        """The deployment to undo is still on its way: stop it where the vendor can, else wait for it and say so."""
        if not deploy.can.abort:
            await self._wait(act, f"waits: {current.version[:12]} is still rolling")
            return
        if not act.words.startswith(ABORTING):
            await self.step(act, "intent", "intent", f"{ABORTING} {current.version[:12]}, which is still rolling")
        try:
            async with asyncio.timeout(ACT_LIMIT_S):
                await deploy.abort(current.id, Why(act.who, act.why))  # the next read shows whether it took effect
        except Exception as error:  # noqa: BLE001 - an adapter's fault must not lose the rollback; it is tried again
            log.warning("an abort failed: %s", type(error).__name__)
        await self._pause(ABORT_AGAIN_S)

    def _not_quiet(self, act: Act) -> str:
        """Why an automatic rollback could undo a newer deployment; empty: it cannot."""
        line = self.store.board.line(act.line)
        if not self.targets.only_way_in(act.line):
            return "the target neither compares nor is it the only way in"
        targets = self.targets.halts(act.line)
        if not targets:
            return "the line has nothing that a stop halts"
        moving = [target for target in targets if not line.stands(target) or line.halted[target].moving]
        if moving:
            return f"not quiet: {moving[0]} is not confirmed to stand"
        return ""

    async def _pause(self, real_s: float = READ_EVERY_S) -> None:
        await self.clock.sleep(self.clock.real(real_s))

    async def _wait(self, act: Act, words: str) -> None:
        if self._now(act).words != words:
            await self.step(act, "intent", "intent", words)
        await self._pause()

    async def _call(self, act: Act) -> Answer:
        """Hand an act to its adapter. Whatever the adapter does wrong is an unknown outcome, never a crash."""
        if act.kind == "release" and act.before is None:
            return Refused("what stood there before the stop was not readable; look, and release it by hand")
        try:
            call = self._call_of(act)
            if call is None:
                return Refused(f"the config names no {act.target} for this line any more")
            async with asyncio.timeout(ACT_LIMIT_S + 5):
                return _sound(await call, act.target)
        except TimeoutError:
            return NoAnswer(f"no answer in {ACT_LIMIT_S:.0f} s")
        except Unreachable as error:
            return error
        except Exception as error:  # noqa: BLE001 - an adapter's fault must not lose an act that may have arrived
            return NoAnswer(f"{act.target} failed: {type(error).__name__}")

    def _call_of(self, act: Act) -> Awaitable[Answer] | None:
        if act.kind in ("halt", "release"):
            halting = self.targets.halting(act.line, act.target)
            if halting is None:
                return None
            ref = HoldRef(act.hold, act.line, act.who, act.why)
            return halting.halt(ref) if act.kind == "halt" else halting.release(ref, act.before or Halted())
        if act.kind in ("rollback", "push"):
            deploy = self.targets.deploy(act.line)
            if deploy is None:
                return None
            key, through = f"{act.kind}-{act.id}", act.hold or None
            return deploy.deploy(act.version, expected=act.expected or None, key=key, through=through)
        if act.kind == "cancel":
            ci = self.targets.ci(act.line, act.target)
            return ci.cancel(act.subject, Why(act.who, act.why)) if ci else None
        notifier = self.targets.notifier(act.line, act.target)
        return notifier.tell(act.note) if notifier and act.note else None

    async def _answered(self, act: Act, answer: Answer) -> ActState:
        """Note what was answered, and say in which state the act is then."""
        now: ActState
        words, ref = "", ""
        if isinstance(answer, Accepted):
            now, ref = "verified" if act.kind in ("tell", "cancel") else "accepted", answer.ref
        elif isinstance(answer, Refused):
            now, words = "refused", answer.words
        elif isinstance(answer, Conflict):
            # A repeated delivery of our own request conflicts with its first: only a read tells whether it was ours.
            now, words = "unknown", f"{answer.current} stands there, not what was expected; reading"
        elif isinstance(answer, Unreachable):
            now, words = "intent", str(answer) or "nothing left this machine"
        else:
            now, words = "unknown", answer.words or "no answer; it may have arrived"
            if act.kind == "tell":
                now = "failed"  # a note cannot be read back, and is not worth telling twice
        if act.kind in ("halt", "release"):
            words = self._loud(act, words)
        await self.step(act, "sent", now, words, ref)
        return now

    def _loud(self, act: Act, words: str) -> str:
        """What a halt or release says of itself once it was not confirmed for two minutes."""
        waited = self.clock.now() - act.at
        if waited <= self.clock.real(LOUD_S):
            return words
        return f"not confirmed for {age(waited)}" + (f": {words}" if words else "")

    # ---- confirming what shall stand

    async def _confirm(self, act: Act, tries: int) -> int:
        """Read whether a halt or release took effect; repeat it until it did, or is no longer wanted."""
        if reason := self._wanted(self.store.board, act):
            await self.step(act, act.state, "superseded", reason)
            return tries
        if await self.proof.read(self._now(act)):
            return tries
        now = self.clock.now()
        last = act.answered_at or act.sent_at or act.at
        if act.state == "sent" and abs(now - (act.sent_at or act.at)) < self.clock.real(ACT_LIMIT_S + 5):
            await self._pause()  # another process may still be waiting for its answer
            return tries
        if abs(now - last) < self.clock.real(min(2.0**tries, MOST_WAIT_S)):  # also after a clock was set back
            await self._pause()
            return tries
        if await self.step(act, act.state, "sent", self._loud(act, "")):
            sent = self._now(act)
            await self._answered(sent, await self._call(sent))
        return tries + 1

    # ---- verifying a deployment

    async def _verify(self, act: Act) -> None:
        """Read until it is known what became of a deployment; give up loudly after the target's `confirm:`."""
        if act.kind not in ("rollback", "push"):
            # A note or a cancellation whose sender died: it cannot be read back.
            if self.clock.now() - (act.sent_at or act.at) > self.clock.real(ACT_LIMIT_S + 5):
                await self.step(act, act.state, "failed", "its sender ended before an answer came")
            else:
                await self._pause()
            return
        if await self.proof.read(self._now(act)):
            return
        now = self.clock.now()
        since = act.sent_at or act.at
        if act.state == "sent" and now - since > self.clock.real(ACT_LIMIT_S + 5):
            await self.step(act, "sent", "unknown", "its sender ended before an answer came; reading")
            return
        await self._pause(READ_EVERY_S if now - since < self.clock.real(60) else 5.0)


def _sound(answer: object, target: str) -> Answer:
    """An adapter's answer, if it is one of the five; what is not may have arrived all the same."""
    if isinstance(answer, Unreachable):
        return answer
    if isinstance(answer, (Accepted, Conflict, Refused, NoAnswer)):
        with contextlib.suppress(Garbled):
            return whole(answer, type(answer))
    return NoAnswer(f"{target} answered what is no answer; it may have arrived")
