"""The ledger's thread: the only writer of this process, and the tail that everybody here reads from.

It commits what is handed to it, an act's commit before waiting observations; it looks at the file each 100 ms for what
other processes wrote; it folds each event once into the board and hands the same frozen events, in the order of the
ledger, to whoever listens. What a caller committed is on the board when its call returns.
"""

import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from andon.board import FORMAT, LEAN, BareJudged, Board, read_board
from andon.clock import Clock
from andon.events import NAMES, Event, Judged, decode, is_binding
from andon.model import to_json
from andon.ports import Ledger, LedgerUnusable, Pulse

log = logging.getLogger("andon.keeper")

T = TypeVar("T")
LOOK_S = 0.1
CHECKPOINT_EVERY = 5000
IDLE_CHECKPOINT, IDLE_S = 200, 60.0
"""After how many events a checkpoint is written when there is nothing else to do, and how long after the last, at least:
who starts then has little to fold."""
OPEN_AGAIN_S = 1.0
TOGETHER = 200
"""How many observations are committed in one transaction, at most: an act waits for no more."""
IDLE_SHARE = 100
"""A checkpoint at idle takes at most one part in so many of the thread's time."""
ACT, OBSERVATION = 0, 1

Listener = Callable[[Sequence[tuple[int, Event]], Board], None]


class Store(Protocol):
    """What acts and engine need of the ledger's thread; a simulation brings its own."""

    @property
    def board(self) -> Board:
        """What the ledger adds up to."""

    async def commit(self, *events: Event, urgent: bool = False) -> Board:
        """Append events, all or none, and the board with them. Raises as `ports.Ledger.commit`."""


class Kept(Ledger, Protocol):
    """A ledger that tells how it is."""

    def trouble(self) -> str:
        """Why it is not what it should be, though it may take what is handed to it; empty: nothing is known. Cheap."""


class Job(NamedTuple):
    """What the ledger's thread is asked to do."""

    work: Callable[[], Any]
    future: "Future[Any]"
    writes: bool
    observed: Sequence[Event] = ()
    """What `work` commits, if it claims nothing: then it may be committed together with what else waits."""


class Keeper:
    """One process's way to its ledger. `open_ledger` is called in the thread that then owns it."""

    def __init__(
        self, open_ledger: Callable[[], Kept], clock: Clock, *, lean: bool = False, patient: bool = False
    ) -> None:
        """`lean`: for who only looks at states; the board is without what `board.LEAN` leaves out. `patient`: a ledger
        that cannot be opened is tried again, and meanwhile refuses what it is asked: for who must stop a line now.
        """
        self._lean = lean
        self._patient = patient
        self._open = open_ledger
        self._clock = clock
        self._jobs: queue.PriorityQueue[tuple[int, int, Job | None]] = queue.PriorityQueue()
        self._count = itertools.count()
        self._handing_in = threading.Lock()
        self._listeners: list[Listener] = []
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)
        self._ready: Future[None] = Future()
        self._last_checkpoint = 0
        self._idle_checkpoint_at = 0.0
        self._ledger: Kept
        self._closed = False
        self._behind = False
        self._unread = ""
        self._unwritten = ""
        self._told = ""
        self.board = Board()
        self.seq = 0

    @property
    def trouble(self) -> str:
        """Why the ledger cannot be read or written now, or not as it should; empty: it can. A write that failed counts
        until one succeeds.
        """
        return self._unwritten or self._unread or self._told

    def start(self) -> "Keeper":
        """Open the ledger and fold it. Raises LedgerUnusable, unless it is patient."""
        self._thread.start()
        self._ready.result()
        return self

    def listen(self, listener: Listener) -> None:
        """Call `listener` with each batch of new events, in the ledger's thread: it must be quick. If it raises, it is
        not called again.
        """
        self._listeners.append(listener)

    def submit(self, job: Callable[[Ledger], T], *, urgent: bool = False, writes: bool = False) -> "Future[T]":
        """Run `job` with the ledger, in its thread; `writes` says that its end tells whether the ledger takes writes."""
        return self._hand_in(Job(lambda: job(self._ledger), Future(), writes), urgent=urgent)

    def _hand_in(self, job: Job, *, urgent: bool) -> "Future[Any]":
        with self._handing_in:
            if self._closed:
                job.future.set_exception(LedgerUnusable("the ledger was closed"))
            else:
                self._jobs.put((ACT if urgent else OBSERVATION, next(self._count), job))
        return job.future

    async def call(self, job: Callable[[Ledger], T], *, urgent: bool = False, writes: bool = False) -> T:
        """Run `job` with the ledger, in its thread, and wait for it."""
        import asyncio

        return await asyncio.wrap_future(self.submit(job, urgent=urgent, writes=writes))

    async def commit(self, *events: Event, urgent: bool = False) -> Board:
        """Append events, all or none, and the board with them. Raises as `ports.Ledger.commit`."""
        import asyncio  # not with this module: who only looks does not need it, and starts in less time

        observed = () if urgent or any(is_binding(NAMES.get(type(event), "")) for event in events) else events
        job = Job(lambda: self._ledger.commit(*events), Future(), writes=True, observed=observed)
        await asyncio.wrap_future(self._hand_in(job, urgent=urgent))
        return self.board

    async def pulse(self, *pulses: Pulse) -> None:
        """Note signs of life."""
        await self.call(lambda ledger: ledger.pulse(pulses), writes=True)

    def close(self) -> None:
        """Write a checkpoint and close; waits for what was handed in before."""
        with self._handing_in:
            if self._closed or not self._thread.is_alive():
                return
            self._closed = True
            self._jobs.put((OBSERVATION + 1, next(self._count), None))
        self._thread.join(timeout=10)

    def _work(self) -> None:
        try:
            opened = self._opened()
        except BaseException as error:  # noqa: BLE001 - handed to whoever called start()
            self._ready.set_exception(error)
            return
        if not opened:
            self._refuse_what_waits()
            return
        if not self._ready.done():
            self._ready.set_result(None)
        try:
            self._serve()
            self._checkpoint(least=200)
        finally:
            self._ledger.close()
            self._refuse_what_waits()

    def _opened(self) -> bool:
        """Open the ledger and fold it; False: it was closed before that could be done."""
        while True:
            try:
                self._ledger = self._open()
                try:
                    self._load()
                except BaseException:
                    self._ledger.close()
                    raise
            except LedgerUnusable as error:
                if not self._patient:
                    raise
                self._unread = str(error)
            else:
                self._unread = ""
                return True
            if not self._ready.done():
                self._ready.set_result(None)
            if self._refuse_for(OPEN_AGAIN_S):
                return False

    def _refuse_for(self, seconds: float) -> bool:
        """Refuse what is asked, for so long; True: it was closed meanwhile."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                _, _, job = self._jobs.get(timeout=left)
            except queue.Empty:
                break
            if job is None:
                return True
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(LedgerUnusable(self._unread))
        return False

    def _serve(self) -> None:
        while True:
            try:
                _, _, job = self._jobs.get(timeout=LOOK_S)
            except queue.Empty:
                self._look()
                self._checkpoint_at_idle()
                continue
            if job is None:
                return
            if job.observed and len(jobs := [job, *self._more()]) > 1:
                self._commit_together(jobs)
            else:
                self._do(job)

    def _more(self) -> list[Job]:
        """Further observations that wait to be committed, in their order, up to the first job of another kind."""
        found: list[Job] = []
        while len(found) < TOGETHER:
            try:
                entry = self._jobs.get_nowait()
            except queue.Empty:
                break
            if entry[2] is None or not entry[2].observed:
                self._jobs.put(entry)  # its number keeps its place
                break
            found.append(entry[2])
        return found

    def _commit_together(self, jobs: Sequence[Job]) -> None:
        """One transaction for many: what takes the time is to have it on the disk."""
        jobs = [job for job in jobs if job.future.set_running_or_notify_cancel()]
        events = [event for job in jobs for event in job.observed]
        together = Job(lambda: self._ledger.commit(*events), Future(), writes=True)
        self._finish(together)
        error = together.future.exception()
        for job in jobs:
            if error is None:
                job.future.set_result(None)
            elif isinstance(error, LedgerUnusable):
                job.future.set_exception(error)
            else:
                self._finish(job)  # one of them is wrong: the others are not refused for it

    def _refuse_what_waits(self) -> None:
        """Whoever waits is told, also when this thread ends by a fault: nobody waits for ever."""
        with self._handing_in:
            self._closed = True
        while not self._jobs.empty():
            job = self._jobs.get()[2]
            if job is not None and job.future.set_running_or_notify_cancel():
                job.future.set_exception(LedgerUnusable("the ledger was closed"))

    def _do(self, job: "Job") -> None:
        if job.future.set_running_or_notify_cancel():
            self._finish(job)

    def _finish(self, job: "Job") -> None:
        future = job.future
        error: BaseException | None = None
        result: Any = None
        try:
            result = job.work()
        except BaseException as raised:  # noqa: BLE001 - handed to whoever asked
            error = raised
        if job.writes:
            self._unwritten = str(error) if isinstance(error, LedgerUnusable) else ""
        try:
            self._catch_up()
        finally:
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

    def _look(self) -> None:
        try:
            # Asked once per change, so it is noted until the change was read.
            self._behind = self._ledger.changed() or self._behind
        except LedgerUnusable as error:
            self._unread = str(error)
            return
        self._unread, self._told = "", self._ledger.trouble()
        if self._behind:
            self._catch_up()

    def _catch_up(self) -> None:
        self._behind = True
        try:
            self._tail()
        except LedgerUnusable as error:
            self._unread = str(error)
        else:
            self._behind, self._unread = False, ""

    def _load(self) -> None:
        found = self._ledger.last_checkpoint(FORMAT)
        if found is not None:
            try:
                self.board = read_board(found[1], lean=self._lean)
                self.seq = self._last_checkpoint = found[0]
            except (msgspec.DecodeError, ValueError):
                self.board, self.seq = Board(), 0  # another format under the same number: fold from the start
        self._tail(bare=True)

    def _tail(self, *, bare: bool = False) -> None:
        while True:
            rows = self._ledger.read(self.seq)
            if not rows:
                return
            events, self.board, self.seq = fold(self.board, rows, bare=bare, lean=self._lean)
            self._tell(events)
            if self.seq - self._last_checkpoint >= CHECKPOINT_EVERY:
                self._checkpoint()

    def _tell(self, events: Sequence[tuple[int, Event]]) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(events, self.board)
            except Exception:
                # One reader's fault must not end the thread that everybody waits for.
                log.exception("a listener raised, and is not called again")
                self._listeners.remove(listener)

    def _checkpoint_at_idle(self) -> None:
        began = time.monotonic()
        if began < self._idle_checkpoint_at or self.seq - self._last_checkpoint < IDLE_CHECKPOINT:
            return
        self._checkpoint()
        took = time.monotonic() - began
        self._idle_checkpoint_at = began + max(IDLE_S, IDLE_SHARE * took)

    def _checkpoint(self, least: int = 1) -> None:
        if self._ledger.read_only or self._lean or self.seq - self._last_checkpoint < least:
            return
        try:
            self._ledger.checkpoint(FORMAT, self.seq, to_json(self.board))
            self._last_checkpoint = self.seq
        except LedgerUnusable as error:
            self._unwritten = str(error)


_BARE_JUDGED: msgspec.json.Decoder[BareJudged] = msgspec.json.Decoder(BareJudged)


def fold(
    board: Board, rows: Sequence[Any], *, bare: bool = False, lean: bool = False
) -> tuple[list[tuple[int, Event]], Board, int]:
    """The events of `rows`, the board after them, and the last `seq`. What is not known is skipped, and may bind us.

    `bare`: verdicts come without their numbers, which a board does not keep; `lean`: without what `board.LEAN` leaves out.
    """
    events: list[tuple[int, Event]] = []
    for row in rows:
        if lean and row.kind in LEAN:
            continue
        try:
            event = _BARE_JUDGED.decode(row.body) if bare and row.kind == NAMES[Judged] else decode(row.kind, row.body)
        except ValueError:
            event = None  # a known kind with a word that only a newer version knows, or damage: `audit verify` tells
        if event is not None:
            events.append((row.seq, event))
        elif is_binding(row.kind):
            board = board.apply_unknown(row.kind, row.line)
    return events, board.apply(*(event for _, event in events)), rows[-1].seq
