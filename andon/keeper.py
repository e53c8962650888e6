"""The ledger's thread: the only writer of this process, and the tail that everybody here reads from.

It commits what is handed to it, an act's commit before waiting observations; it looks at the file each 100 ms for what
other processes wrote; it folds each event once into the board and hands the same frozen events, in the order of the
ledger, to whoever listens. What a caller committed is on the board when its call returns.
"""

import asyncio
import itertools
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

import msgspec

from andon.board import FORMAT, Board
from andon.clock import Clock
from andon.events import Event, decode, is_binding
from andon.model import to_json
from andon.ports import Ledger, LedgerUnusable, Pulse

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


class Keeper:
    """One process's way to its ledger. `open_ledger` is called in the thread that then owns it."""

    def __init__(self, open_ledger: Callable[[], Ledger], clock: Clock) -> None:
        self._open = open_ledger
        self._clock = clock
        self._jobs: queue.PriorityQueue[tuple[int, int, Callable[[], Any] | None, Future[Any]]] = queue.PriorityQueue()
        self._count = itertools.count()
        self._listeners: list[Listener] = []
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)
        self._ready: Future[None] = Future()
        self._last_checkpoint = 0
        self._ledger: Ledger
        self._closed = False
        self.board = Board()
        self.seq = 0
        self.trouble = ""
        """Why the ledger cannot be read or written now; empty: it can."""

    def start(self) -> "Keeper":
        """Open the ledger and fold it. Raises LedgerUnusable."""
        self._thread.start()
        self._ready.result()
        return self

    def listen(self, listener: Listener) -> None:
        """Call `listener` with each batch of new events, in the ledger's thread: it must be quick, and must not raise."""
        self._listeners.append(listener)

    def submit(self, job: Callable[[Ledger], T], *, urgent: bool = False) -> "Future[T]":
        """Run `job` with the ledger, in its thread."""
        future: Future[T] = Future()
        if self._closed:
            future.set_exception(LedgerUnusable("the ledger was closed"))
            return future
        priority = ACT if urgent else OBSERVATION
        self._jobs.put((priority, next(self._count), lambda: job(self._ledger), future))
        return future

    async def call(self, job: Callable[[Ledger], T], *, urgent: bool = False) -> T:
        """Run `job` with the ledger, in its thread, and wait for it."""
        return await asyncio.wrap_future(self.submit(job, urgent=urgent))

    async def commit(self, *events: Event, urgent: bool = False) -> Board:
        """Append events, all or none, and the board with them. Raises as `ports.Ledger.commit`."""
        await self.call(lambda ledger: ledger.commit(*events), urgent=urgent)
        return self.board

    async def pulse(self, *pulses: Pulse) -> None:
        """Note signs of life."""
        await self.call(lambda ledger: ledger.pulse(pulses))

    def close(self) -> None:
        """Write a checkpoint and close; waits for what was handed in before."""
        if self._closed or not self._thread.is_alive():
            return
        self._closed = True
        self._jobs.put((OBSERVATION + 1, next(self._count), None, Future()))
        self._thread.join(timeout=10)

    def _work(self) -> None:
        try:
            self._ledger = self._open()
            self._load()
        except BaseException as error:  # noqa: BLE001 - handed to whoever called start()
            self._ready.set_exception(error)
            return
        self._ready.set_result(None)
        while True:
            try:
                _, _, job, future = self._jobs.get(timeout=LOOK_S)
            except queue.Empty:
                self._look()
                continue
            if job is None:
                break
            self._do(job, future)
        self._checkpoint(least=200)
        self._ledger.close()

    def _do(self, job: Callable[[], Any], future: "Future[Any]") -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = job()
        except BaseException as error:  # noqa: BLE001 - handed to whoever asked
            if isinstance(error, LedgerUnusable):
                self.trouble = str(error)
            self._tail_or_note()
            future.set_exception(error)
        else:
            self.trouble = ""
            self._tail_or_note()
            future.set_result(result)

    def _look(self) -> None:
        try:
            if self._ledger.changed():
                self._tail()
            self.trouble = ""
        except LedgerUnusable as error:
            self.trouble = str(error)

    def _tail_or_note(self) -> None:
        try:
            self._tail()
        except LedgerUnusable as error:
            self.trouble = str(error)

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
            for listener in self._listeners:
                listener(events, self.board)
            if self.seq - self._last_checkpoint >= CHECKPOINT_EVERY:
                self._checkpoint()

    def _checkpoint(self, least: int = 1) -> None:
        if self._ledger.read_only or self.seq - self._last_checkpoint < least:
            return
        try:
            self._ledger.checkpoint(FORMAT, self.seq, to_json(self.board))
            self._last_checkpoint = self.seq
        except LedgerUnusable as error:
            self.trouble = str(error)


def fold(board: Board, rows: Sequence[Any]) -> tuple[list[tuple[int, Event]], Board, int]:
    """The events of `rows`, the board after them, and the last `seq`. A kind not known is skipped, and may bind us."""
    events: list[tuple[int, Event]] = []
    for row in rows:
        event = decode(row.kind, row.body)
        if event is None:
            if is_binding(row.kind):
                board = board.apply_unknown(row.kind, row.line)
            continue
        board = board.apply(event)
        events.append((row.seq, event))
    return events, board, rows[-1].seq
