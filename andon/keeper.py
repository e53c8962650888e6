"""The ledger's thread: the only writer of this process, and the tail that everybody here reads from.

It commits what is handed to it, an act's commit before waiting observations; it looks at the file each 100 ms for what
other processes wrote; it folds each event once into the board and hands the same frozen events, in the order of the
ledger, to whoever listens. What a caller committed is on the board when its call returns.
"""

import asyncio
import itertools
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from andon.board import FORMAT, Board
from andon.clock import Clock
from andon.events import Event, decode, is_binding
from andon.model import to_json
from andon.ports import Ledger, LedgerUnusable, Pulse

log = logging.getLogger("andon.keeper")

T = TypeVar("T")
LOOK_S = 0.1
CHECKPOINT_EVERY = 5000
ACT, OBSERVATION = 0, 1

Listener = Callable[[Sequence[tuple[int, Event]], Board], None]


class Store(Protocol):
    """What acts and engine need of the ledger's thread; a simulation brings its own."""

    @property
    def board(self) -> Board:
        """What the ledger adds up to."""

    async def commit(self, *events: Event, urgent: bool = False) -> Board:
        """Append events, all or none, and the board with them. Raises as `ports.Ledger.commit`."""


class Job(NamedTuple):
    """What the ledger's thread is asked to do."""

    work: Callable[[], Any]
    future: "Future[Any]"
    writes: bool


class Keeper:
    """One process's way to its ledger. `open_ledger` is called in the thread that then owns it."""

    def __init__(self, open_ledger: Callable[[], Ledger], clock: Clock) -> None:
        self._open = open_ledger
        self._clock = clock
        self._jobs: queue.PriorityQueue[tuple[int, int, Job | None]] = queue.PriorityQueue()
        self._count = itertools.count()
        self._handing_in = threading.Lock()
        self._listeners: list[Listener] = []
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)
        self._ready: Future[None] = Future()
        self._last_checkpoint = 0
        self._ledger: Ledger
        self._closed = False
        self._behind = False
        self._unread = ""
        self._unwritten = ""
        self.board = Board()
        self.seq = 0

    @property
    def trouble(self) -> str:
        """Why the ledger cannot be read or written now; empty: it can. A write that failed counts until one succeeds."""
        return self._unwritten or self._unread

    def start(self) -> "Keeper":
        """Open the ledger and fold it. Raises LedgerUnusable."""
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
        future: Future[T] = Future()
        priority = ACT if urgent else OBSERVATION
        with self._handing_in:
            if self._closed:
                future.set_exception(LedgerUnusable("the ledger was closed"))
            else:
                self._jobs.put((priority, next(self._count), Job(lambda: job(self._ledger), future, writes)))
        return future

    async def call(self, job: Callable[[Ledger], T], *, urgent: bool = False, writes: bool = False) -> T:
        """Run `job` with the ledger, in its thread, and wait for it."""
        return await asyncio.wrap_future(self.submit(job, urgent=urgent, writes=writes))

    async def commit(self, *events: Event, urgent: bool = False) -> Board:
        """Append events, all or none, and the board with them. Raises as `ports.Ledger.commit`."""
        await self.call(lambda ledger: ledger.commit(*events), urgent=urgent, writes=True)
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
            self._ledger = self._open()
        except BaseException as error:  # noqa: BLE001 - handed to whoever called start()
            self._ready.set_exception(error)
            return
        try:
            self._load()
        except BaseException as error:  # noqa: BLE001 - handed to whoever called start()
            self._ledger.close()
            self._ready.set_exception(error)
            return
        self._ready.set_result(None)
        try:
            self._serve()
            self._checkpoint(least=200)
        finally:
            self._ledger.close()
            self._refuse_what_waits()

    def _serve(self) -> None:
        while True:
            try:
                _, _, job = self._jobs.get(timeout=LOOK_S)
            except queue.Empty:
                self._look()
                continue
            if job is None:
                return
            self._do(job)

    def _refuse_what_waits(self) -> None:
        """Whoever waits is told, also when this thread ends by a fault: nobody waits for ever."""
        with self._handing_in:
            self._closed = True
        while not self._jobs.empty():
            job = self._jobs.get()[2]
            if job is not None and job.future.set_running_or_notify_cancel():
                job.future.set_exception(LedgerUnusable("the ledger was closed"))

    def _do(self, job: "Job") -> None:
        future = job.future
        if not future.set_running_or_notify_cancel():
            return
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
        self._unread = ""
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
                self.board = msgspec.json.decode(found[1], type=Board)
                self.seq = self._last_checkpoint = found[0]
            except (msgspec.DecodeError, ValueError):
                self.board, self.seq = Board(), 0  # another format under the same number: fold from the start
        self._tail()

    def _tail(self) -> None:
        while True:
            rows = self._ledger.read(self.seq)
            if not rows:
                return
            events, self.board, self.seq = fold(self.board, rows)
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

    def _checkpoint(self, least: int = 1) -> None:
        if self._ledger.read_only or self.seq - self._last_checkpoint < least:
            return
        try:
            self._ledger.checkpoint(FORMAT, self.seq, to_json(self.board))
            self._last_checkpoint = self.seq
        except LedgerUnusable as error:
            self._unwritten = str(error)


def fold(board: Board, rows: Sequence[Any]) -> tuple[list[tuple[int, Event]], Board, int]:
    """The events of `rows`, the board after them, and the last `seq`. What is not known is skipped, and may bind us."""
    events: list[tuple[int, Event]] = []
    for row in rows:
        try:
            event = decode(row.kind, row.body)
        except ValueError:
            event = None  # a known kind with a word that only a newer version knows, or damage: `audit verify` tells
        if event is None:
            if is_binding(row.kind):
                board = board.apply_unknown(row.kind, row.line)
            continue
        board = board.apply(event)
        events.append((row.seq, event))
    return events, board, rows[-1].seq
