"""The file a world of the plant lives in, shared by every process that looks at it.

It holds what makes the world and what came to it from outside, and nothing derived: a header of fixed size (seed, id,
start, and the highest time that any process has seen) and one JSON line for each input. Everything is read and
written under one lock (flock). A process reserves the present under that lock before it steps its own copy, and an act
takes its time under it, so that no act lands in a past that somebody has seen.
"""

import contextlib
import errno
import fcntl
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from adapters._plant import Act, Input, Sleep, World
from adapters._plant_shop import Shop
from andon.clock import Clock, Time
from andon.folders import make_private
from andon.model import new_id
from andon.ports import Answer, Garbled, Refused, Unreachable

T = TypeVar("T")

HEADER_BYTES = 512
IDLE_S = 120.0
"""Seconds of real time without a reader, after which the world has slept."""
LOCK_LIMIT_S = 5.0
_LOCK_AGAIN_S = 0.005


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What makes a world, and how far it has been seen."""

    plant: int
    """The format of this file."""
    id: str
    seed: int
    start: Time
    calm_s: float
    seen: Time


class WorldFile:
    """The copy that this process has of a world. Its methods block for as long as another process has the lock."""

    def __init__(self, path: Path, clock: Clock, *, seed: int, calm_s: float) -> None:
        self.path = path
        self._clock = clock
        self._wanted = (seed, calm_s)
        self._mutex = threading.Lock()
        self._fd = -1
        self._world: World | None = None
        self._read_to = 0

    def look(self, line: str, reader: Callable[[Shop], T]) -> T:
        """What `reader` finds on a line, as it is now. Raises Unreachable or Garbled."""
        with self._mutex:
            with self._locked() as header:
                world, now = self._catch_up(header)
            world.step(now)
            return reader(world.shop(line))

    def act(self, line: str, make: Callable[[Shop, Time], Act]) -> Answer:
        """Send an act: `make` gets the line as it is now and the act's time. Raises nothing."""
        try:
            with self._mutex, self._locked() as header:
                world, now = self._catch_up(header)
                world.step(now)
                known = len(world.inputs)
                answer = world.put(make(world.shop(line), now))
                if len(world.inputs) > known:
                    self._append(world.inputs[-1])
                return answer
        except Unreachable as error:
            return error
        except Garbled as error:
            return Refused(str(error))

    def identity(self) -> tuple[str, Time]:
        """The world's id, and the time in it. Raises as a read."""
        with self._mutex, self._locked() as header:
            world, now = self._catch_up(header)
            return world.name, now

    def close(self) -> None:
        """Give the file back."""
        with self._mutex:
            self._forget()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[Header]:
        """The header, while no other process reads or writes the file."""
        try:
            deadline = time.monotonic() + LOCK_LIMIT_S
            while True:
                if self._fd < 0:
                    self._open()
                self._lock(deadline)
                if self._is_same_file():
                    break
                self._forget()  # somebody took the file away, and with it the world
            try:
                yield self._header()
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)
        except OSError as error:
            self._forget()
            raise Unreachable(f"{self.path}: {error.strerror or error}") from error

    def _open(self) -> None:
        make_private(self.path.parent)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(self.path, flags, 0o600)
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
            self._forget()
            raise Garbled(
                f"{self.path}: the world must be a plain file of yours that nobody else can read; chmod 600 it"
            )

    def _lock(self, deadline: float) -> None:
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Unreachable(f"{self.path}: another process has had it for {LOCK_LIMIT_S:.0f} s") from None
                time.sleep(_LOCK_AGAIN_S)

    def _is_same_file(self) -> bool:
        try:
            there = self.path.lstat()
        except FileNotFoundError:
            return False
        ours = os.fstat(self._fd)
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def _forget(self) -> None:
        """Let go of the file and of this copy; the next look reads it anew."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._world, self._read_to = -1, None, 0

    def _header(self) -> Header:
        """The header; of a file that is empty, a new one."""
        raw = os.pread(self._fd, HEADER_BYTES, 0)
        if not raw:
            seed, calm_s = self._wanted
            start = self._clock.now()
            header = Header(1, new_id()[:4], seed, start, calm_s, start)
            self._write_header(header)
            return header
        try:
            header = msgspec.json.decode(raw, type=Header)
        except ValueError as error:
            raise Garbled(
                f"{self.path}: this is no world of a plant ({error}); name another file, or remove it"
            ) from error
        found = (header.seed, header.calm_s)
        if header.plant != 1 or found != self._wanted:
            words = "seed {} and calm_s {:g}"
            raise Garbled(
                f"{self.path}: this world was made with {words.format(*found)}, not {words.format(*self._wanted)}; "
                "remove the file, or name another world"
            )
        return header

    def _write_header(self, header: Header) -> None:
        os.pwrite(self._fd, msgspec.json.encode(header).ljust(HEADER_BYTES - 1) + b"\n", 0)

    def _catch_up(self, header: Header) -> tuple[World, Time]:
        """Take in what other processes put in, and reserve the present: no later act comes before it."""
        world = self._world
        if world is None or world.name != header.id:
            world = World(header.seed, name=header.id, start=header.start, calm_s=header.calm_s)
            self._world, self._read_to = world, HEADER_BYTES
        for one in self._unread():
            world.put(one)
        now = max(self._clock.now(), header.seen)
        if now - header.seen > self._clock.real(IDLE_S):
            slept = Sleep(header.seen, now)
            world.put(slept)
            self._append(slept)
        if now > header.seen:
            self._write_header(msgspec.structs.replace(header, seen=now))
        return world, now

    def _unread(self) -> list[Input]:
        """The inputs since the last look. A line without an end was never finished, and never happened."""
        raw = os.pread(self._fd, max(0, os.fstat(self._fd).st_size - self._read_to), self._read_to)
        whole, _, _ = raw.rpartition(b"\n")
        if not whole:
            return []
        self._read_to += len(whole) + 1
        try:
            return [_INPUT.decode(line) for line in whole.split(b"\n")]
        except ValueError as error:
            self._world = None
            raise Garbled(f"{self.path}: an input in it cannot be read ({error}); remove the file") from error

    def _append(self, one: Input) -> None:
        """Write an input down, over what a process that died may have left there unfinished.

        If that fails, `_locked` lets this copy go: it holds an input that the world does not.
        """
        line = msgspec.json.encode(one) + b"\n"
        if os.pwrite(self._fd, line, self._read_to) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._read_to += len(line)


_INPUT = msgspec.json.Decoder(Input)
