"""What polls, judges and acts: one thread with one loop, so that a stalled terminal never stops the immune system.

Every room and every `andon watch` has an engine. It always drives the acts that were asked here. The one that holds the
lease also does the duty: it follows the sources, keeps samples, judges deployments, acts on verdicts, reconciles halts
and recovers acts whose asker died. A task of the duty that dies is seen, told, and started again.
"""

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from andon.acts import Door, NotDone
from andon.calling import Called, Calls
from andon.clock import Clock, Time
from andon.config import Config
from andon.cord import Cord, Pulled, pulse_key
from andon.duty import Duty
from andon.events import Marked, MarkWord, Started
from andon.identities import Known, ask_all
from andon.keeper import Keeper
from andon.model import Act, DeploymentId, Hold, HoldId, LogPart, RunId, new_id
from andon.ports import READ_LIMIT_S, Garbled, Lease, LedgerUnusable, Pulse, Unreachable, whole
from andon.ship import Shipper
from andon.stations import Stations

T = TypeVar("T")
LEASE_LIVE_S = 7.0
BEAT_S = 2.0
LOOK_S = 1.0
SCREEN_S = 2.0
PRESENT_S = 5.0
"""How often a room says who is in it."""


class View(msgspec.Struct, frozen=True):
    """How the engine is, for a screen: replaced as a whole each second."""

    at: Time = 0.0
    lease: Lease | None = None
    """Who polls, judges and acts on its own; None: nobody."""
    here: bool = False
    """Whether that is this process."""
    pulses: dict[str, Pulse] = {}
    clock_words: str = ""
    """What is wrong with a source's clock; empty: nothing."""
    trouble: str = ""
    """Why the ledger cannot be used now; empty: it can."""
    unrecorded: int = 0
    """Pulls that were sent before the ledger took them."""


def whoami() -> str:
    """Who acts: `$SUDO_USER`, else the login name. A claim for the record, not authentication."""
    import getpass

    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def process_name() -> str:
    """The name of this process, unlike that of any other: host, process id and a random part."""
    return f"{socket.gethostname().partition('.')[0]}-{os.getpid()}-{new_id()[:4]}"


class Engine:
    """The engine of one process. Its methods may be called from any thread; each returns a Future."""

    def __init__(
        self,
        config: Config,
        keeper: Keeper,
        clock: Clock,
        state: Path,
        *,
        who: str,
        terminal: str = "",
        read_only: bool = False,
        duty: bool = True,
        after_screen: bool = False,
    ) -> None:
        """`after_screen`: the duty waits until `screen_shown` is called, or for two seconds: a start is not slowed."""
        self.config = config
        self.keeper = keeper
        self.clock = clock
        self.who = who
        self.terminal = terminal
        self.read_only = read_only
        self.me = process_name()
        self.view = View(at=clock.now())
        self._wants_duty = duty and not read_only
        self._after_screen = after_screen
        self._screen: asyncio.Event
        self._state = state
        self._loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._ready: Future[None] = Future()
        self._stopping: asyncio.Event
        self._lease: Lease | None = None
        self._present_at: Time = 0.0
        self._duty: Duty | None = None
        self._asked: set[Future[Any]] = set()
        """What was asked and has not ended: a pull on its way to the ledger is no act yet, and is waited for too."""

    # ---- from any thread

    def start(self) -> "Engine":
        """Begin; returns when acts can be asked."""
        self._thread.start()
        self._ready.result()
        return self

    def stop(self, deadline_s: float = 20.0) -> None:
        """Hand the lease over, let what was begun be answered or recorded, and end. Waits at most `deadline_s`."""
        if not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(timeout=deadline_s + 1)

    def screen_shown(self) -> None:
        """The first frame is there: the duty may begin."""
        if not self._screen.is_set():
            self._loop.call_soon_threadsafe(self._screen.set)

    def ask(self, work: Callable[[], Coroutine[Any, Any, T]]) -> "Future[T]":
        """Run `work` in the engine's loop: the one way in."""
        future = asyncio.run_coroutine_threadsafe(work(), self._loop)
        self._asked.add(future)
        future.add_done_callback(self._asked.discard)
        return future

    def pull(self, line: str, why: str = "", age_s: float = 0.0) -> "Future[Pulled]":
        """Stop a line."""
        reason = why or "pulled the cord"
        return self.ask(lambda: self.cord.pull(line, self.who, reason, age_s=age_s))

    def rollback(
        self,
        line: str,
        expected: DeploymentId = "",
        grace_s: float = 0.0,
        age_s: float = 0.0,
        why: str = "",
        to: str = "",
    ) -> "Future[Act]":
        """Stop a line and return to an earlier version."""
        reason = why or "rolled back by key"
        return self.ask(
            lambda: self.shipper.rollback(
                line, self.who, reason, to=to, expected=expected, grace_s=grace_s, age_s=age_s
            )
        )

    def withdraw(self, line: str, act_id: str) -> "Future[bool]":
        """Take a rollback back within its grace; False: it was sent already."""

        async def work() -> bool:
            act = self._act(line, act_id)
            return await self.door.withdraw(act, self.who)

        return self.ask(work)

    def resume(self, line: str, why: str, hold: HoldId = "", *, all_: bool = False) -> "Future[tuple[Hold, ...]]":
        """Lift a hold, with a reason."""
        return self.ask(lambda: self.cord.resume(line, self.who, why, hold=hold, all_=all_))

    def take(self, line: str, hold: HoldId) -> "Future[None]":
        """Say that we have it."""
        return self.ask(lambda: self.cord.take(line, hold, self.who))

    def hand_over(self, line: str, hold: HoldId, to: str) -> "Future[None]":
        """Say that somebody else has it."""
        return self.ask(lambda: self.cord.take(line, hold, to, by=self.who))

    def change(self, line: str, hold: HoldId, why: str = "", until: Time | None = None) -> "Future[None]":
        """Give a hold another reason, or another end (0: none)."""
        return self.ask(lambda: self.cord.change(line, hold, self.who, why=why, until=until))

    def call(self, line: str, why: str = "") -> "Future[Called]":
        """Call for help: the line stops after its `call:` unless somebody clears it."""
        return self.ask(lambda: self.calls.call(line, self.who, why))

    def clear_call(self, line: str, call: str) -> "Future[None]":
        """Clear a call: the line runs on."""
        return self.ask(lambda: self.calls.clear(line, call, self.who))

    def take_call(self, line: str, call: str) -> "Future[None]":
        """Say that we look into a call; its time goes on."""
        return self.ask(lambda: self.calls.take(line, call, self.who))

    def identify(self) -> "Future[tuple[Known, ...]]":
        """Ask every source what it is and who we are to it."""
        return self.ask(lambda: ask_all(self.config, self.stations))

    def mark(self, line: str, deployment: DeploymentId, mark: MarkWord, why: str) -> "Future[Marked]":
        """Say what a deployment is."""
        return self.ask(lambda: self.shipper.mark(line, deployment, mark, self.who, why))

    def push(self, line: str, version: str, why: str, through: HoldId = "") -> "Future[Act]":
        """Ship one version, through a hold."""
        return self.ask(lambda: self.shipper.push(line, version, self.who, why, through=through))

    def resolve(self, line: str, act_id: str, happened: bool) -> "Future[bool]":
        """Say what a person saw of an act whose outcome is not known."""

        async def work() -> bool:
            self.door.check_may_act(line)
            return await self.door.resolve(self._act(line, act_id), happened=happened, who=self.who)

        return self.ask(work)

    def log(self, line: str, source: str, run: RunId, part: str, start: int) -> "Future[LogPart]":
        """Lines of a job's log from `start` on, of the line's CI of that connection. Raises as a read.

        It is not waited for at the end, as an act is.
        """

        async def work() -> LogPart:
            entries = self.config.lines[line].ci
            named = [entry for entry in entries if entry.source == source] or entries
            trouble: Exception = Unreachable(f"{line} has no CI that could be asked")
            for entry in named:
                try:
                    async with asyncio.timeout(READ_LIMIT_S):
                        found = await self.stations.open_ci(line, entry).log(run, part, max(0, start))
                        return await asyncio.to_thread(whole, found, LogPart)
                except TimeoutError:
                    trouble = Unreachable(f"{entry.source}: no log in {READ_LIMIT_S:.0f} s")
                except Garbled as error:  # another pipeline of the same connection may know the run
                    trouble = error
            raise trouble

        return asyncio.run_coroutine_threadsafe(work(), self._loop)

    @property
    def busy(self) -> bool:
        """Whether an act asked here is on its way and not yet answered."""
        lines = self.keeper.board.lines.values()
        return any(
            act.asker == self.me and act.state in ("intent", "sent") for line in lines for act in line.unsettled()
        )

    def _act(self, line: str, act_id: str) -> Act:
        act = self.keeper.board.line(line).acts.get(act_id)
        if act is None:
            raise NotDone(f"{line} has no act {act_id}")
        return act

    # ---- in the engine's thread

    def _work(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)
                return
            raise

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._screen = asyncio.Event()
        self.stations = Stations(self.config, self.clock, self._state, read_only=self.read_only)
        self.door = Door(
            self.keeper,
            self.stations,
            self.clock,
            me=self.me,
            wanted=self._wanted,
            read_only=self.read_only,
            lines=self.config.lines,
        )
        self.cord = Cord(self.config.lines, self.door, self.keeper, self.clock)
        self.shipper = Shipper(self.config.lines, self.door, self.cord, self.keeper, self.clock)
        self.calls = Calls(self.config.lines, self.door, self.cord, self.keeper, self.clock)
        self._ready.set_result(None)
        tasks = [
            asyncio.create_task(self._forever("lease", self._keep_lease, LOOK_S), name="lease"),
            asyncio.create_task(self._forever("recovery", self._recover, LOOK_S), name="recovery"),
            asyncio.create_task(self._forever("calls", self._look_at_calls, LOOK_S), name="calls"),
            asyncio.create_task(self._forever("view", self._look, LOOK_S), name="view"),
        ]
        await self._stopping.wait()
        await self._end(tasks)

    def _wanted(self, board: Any, act: Act) -> str:
        return self.cord.wanted(board, act)

    async def _forever(self, name: str, work: Callable[[], Awaitable[None]], every_s: float) -> None:
        """Do `work` again and again; what goes wrong is noted and does not end it."""
        while True:
            try:
                await work()
            except LedgerUnusable:
                pass  # the keeper says so in its trouble, and the view shows it
            except Exception as error:  # noqa: BLE001 - a supervisor must outlive what it supervises; it is told
                await self._note_death(name, error)
            await self.clock.sleep(self.clock.real(every_s))

    async def _note_death(self, name: str, error: Exception) -> None:
        words = f"{type(error).__name__}"
        try:
            await self.keeper.pulse(Pulse(f"task:{name}", self.clock.now(), "error", words))
        except LedgerUnusable:
            return

    async def _keep_lease(self) -> None:
        now = self.clock.now()
        if not self._wants_duty:
            return
        if self._after_screen:
            self._after_screen = False
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._screen.wait(), SCREEN_S)
            now = self.clock.now()
        if self._lease is None or abs(now - self._lease.beat_at) >= self.clock.real(BEAT_S):
            try:
                live_s = self.clock.real(LEASE_LIVE_S)
                # Urgent: behind a thousand observations it would come too late, and the duty would begin anew.
                lease = await self.keeper.call(
                    lambda ledger: ledger.take_lease(self.me, live_s), urgent=True, writes=True
                )
            except LedgerUnusable:
                if self._lease and now > self._lease.expires_at:
                    await self._leave_duty()  # another one may have it by now
                raise
            if lease is None:
                await self._leave_duty()
                return
            # One more than ours: it only ran out, and nobody else had it; then the duty goes on, and does not begin anew.
            fresh = self._lease is None or lease.epoch > self._lease.epoch + 1
            self._lease = lease
            if fresh or self._duty is None:
                await self._enter_duty(lease)

    async def _enter_duty(self, lease: Lease) -> None:
        await self._leave_duty(keep=True)
        digest = self.config.digest
        await self.keeper.commit(
            Started(line="", at=self.clock.now(), holder=self.me, epoch=lease.epoch, config=digest)
        )
        self._duty = Duty(self.config, self.stations, self.keeper, self.clock, self.cord, self.shipper)
        self._duty.start()

    async def _leave_duty(self, *, keep: bool = False) -> None:
        if not keep:
            self._lease = None
        if self._duty is not None:
            duty, self._duty = self._duty, None
            await duty.stop()

    async def _look_at_calls(self) -> None:
        if self._wants_duty:
            self.calls.look(lease=self._lease is not None)

    async def _recover(self) -> None:
        self.door.recover(lease=self._lease is not None)

    async def _look(self) -> None:
        now = self.clock.now()
        if self.terminal and abs(now - self._present_at) >= self.clock.real(PRESENT_S):
            self._present_at = now
            await self.keeper.pulse(Pulse(f"person:{self.who}@{self.terminal}", now, "here"))
        lease = await self.keeper.call(lambda ledger: ledger.lease())
        pulses = await self.keeper.call(lambda ledger: ledger.pulses())
        for target in {target for line in self.config.lines.values() for target in line.targets}:
            if (pulse := pulses.get(pulse_key(target))) is not None:
                self.cord.read_at[target] = max(pulse.at, self.cord.read_at.get(target, 0.0))
        self.view = View(
            at=now,
            lease=lease,
            here=lease is not None and lease.holder == self.me,
            pulses=pulses,
            clock_words=self._duty.clock_words if self._duty else "",
            trouble=self.keeper.trouble,
            unrecorded=self.cord.unrecorded,
        )

    async def _end(self, tasks: list["asyncio.Task[None]"]) -> None:
        """Leave in order: no new work, the lease handed over, what was sent answered or left for a peer to read."""
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.calls.stop()
        await self._leave_duty()
        deadline = self.clock.now() + self.clock.real(15)
        while (self._asked or self.busy or self.cord.unrecorded) and self.clock.now() < deadline:
            await self.clock.sleep(self.clock.real(0.05))
        for task in self.door.driven:
            task.cancel()
        await asyncio.gather(*self.door.driven, return_exceptions=True)
        try:
            if not self.read_only:
                await self.keeper.call(lambda ledger: ledger.drop_lease(self.me))
                if self.terminal:
                    await self.keeper.pulse(Pulse(f"person:{self.who}@{self.terminal}", 0.0, "left"))
        except LedgerUnusable:
            pass  # it runs out by itself
        await self.stations.close()
