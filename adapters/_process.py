"""One program of somebody else's: started without a shell, fed, heard, and ended with all that it started.

It runs in a session of its own. At its limit, or when the caller is cancelled, its whole process group gets SIGTERM and a
moment later SIGKILL. A program that ends by itself may leave others running (a deployment that goes on in the background);
they do not keep anybody waiting.
"""

import asyncio
import contextlib
import errno
import os
import signal
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from pathlib import Path

import msgspec

GRACE_S = 1.0
"""Between SIGTERM and SIGKILL."""

HELD_S = 0.25
"""How long output is awaited that a program's own children hold open when it has ended."""

TAIL = 16384
"""Bytes kept of stderr: its end."""


class CannotStart(Exception):
    """The program did not run: nothing happened. The words say why."""


class CannotTell(Exception):
    """A value cannot be handed to any program: a NUL, half a character, more than the system takes. Nothing happened."""


class Ended(msgspec.Struct, frozen=True):
    """How a program ended."""

    code: int | None
    """Its exit code; negative: the signal that killed it; None: it was ended at a limit."""
    out: bytes = b""
    last_words: str = ""
    """The last line of its stderr, as it came."""
    much: bool = False
    """Ended because it printed more than it may; else, without a code, because of its time."""


async def run(
    argv: Sequence[str], folder: Path, env: Mapping[str, str], stdin: bytes, *, limit_s: float, most: int
) -> Ended:
    """Run a program to its end, `limit_s` seconds and `most` bytes of output at most.

    Raises CannotStart and CannotTell.
    """
    program = _Program(most)
    async with _started(program, argv, folder, env, stdin):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await program.done.wait()
    return program.ended


async def stream(
    argv: Sequence[str], folder: Path, env: Mapping[str, str], stdin: bytes, *, most: int
) -> AsyncGenerator[tuple[bytes, ...] | Ended, None]:
    """Lines of a program as they come, as many at once as there are, and at last how it ended. Raises as `run`."""
    program = _Stream(most)
    async with _started(program, argv, folder, env, stdin):
        while not (program.done.is_set() and not program.lines):
            await program.news.wait()
            if lines := program.take():
                yield lines
    yield program.ended


@contextlib.asynccontextmanager
async def _started(
    program: "_Program", argv: Sequence[str], folder: Path, env: Mapping[str, str], stdin: bytes
) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    begun = loop.subprocess_exec(lambda: program, *argv, cwd=folder, env=env, start_new_session=True)
    starting = asyncio.ensure_future(begun)
    try:
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            # asyncio waits for ever for a program whose start was cut in its middle.
            await asyncio.wait([starting])
            if not starting.cancelled():
                starting.exception()
            raise
        except OSError as error:
            if error.errno == errno.E2BIG:
                raise CannotTell(f"{argv[0]}: a value is longer than a program can be told") from error
            raise CannotStart(f"{error.filename or argv[0]}: {error.strerror}") from error
        except ValueError as error:
            raise CannotTell(f"{argv[0]}: a value holds what no program can be told: {error}") from error
        program.feed(stdin)
        yield
    finally:
        await program.end()


class _Program(asyncio.SubprocessProtocol):
    """What is heard of one program."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.out = bytearray()
        self.err = bytearray()
        self.much = False
        self.cut = False
        """It did not end by itself."""
        self.gone = asyncio.Event()
        self.done = asyncio.Event()
        """It is gone, and all it said was heard; or it said too much."""
        self._open = {1, 2}
        self._transport: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It was started."""
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """It said something."""
        if fd == 2:
            self.err = (self.err + data)[-TAIL:]
        elif not self.much:
            self.heard(data)

    def heard(self, data: bytes) -> None:
        """It printed something."""
        self.out += data
        if len(self.out) > self.most:
            self.too_much()

    def too_much(self) -> None:
        """It printed more than it may."""
        self.much = True
        self.out.clear()
        self.finish()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """It, and all that it started, will say no more."""
        self._open.discard(fd)
        if self.gone.is_set() and not self._open:
            self.finish()

    def process_exited(self) -> None:
        """It ended."""
        self.gone.set()
        if self._open:
            asyncio.get_running_loop().call_later(HELD_S, self.held)
        else:
            self.finish()

    def held(self) -> None:
        """Its own children still hold its output open."""
        self.finish()

    def finish(self) -> None:
        """Nothing more is awaited of it."""
        self.done.set()

    def feed(self, stdin: bytes) -> None:
        """Give it all of its input; it need not read it."""
        assert self._transport is not None
        pipe = self._transport.get_pipe_transport(0)
        if isinstance(pipe, asyncio.WriteTransport):
            pipe.write(stdin)
            pipe.close()

    async def end(self) -> None:
        """If it still runs, end it and all that it started; in any case forget it."""
        transport = self._transport
        if transport is None:
            return
        self.cut = self.much or not self.gone.is_set()
        try:
            if self.cut:
                self._signal(transport.get_pid(), signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(GRACE_S):
                        await self.gone.wait()
        finally:
            if self.cut:
                self._signal(transport.get_pid(), signal.SIGKILL)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(HELD_S):  # else its end is told to a loop that may be closed by then
                        await self.gone.wait()
            transport.close()

    @property
    def ended(self) -> Ended:
        """How it ended."""
        lines = self.err.decode("utf-8", "replace").strip().splitlines()
        words = lines[-1] if lines else ""
        code = self._transport.get_returncode() if self._transport and not self.cut else None
        return Ended(code, bytes(self.out), words, self.much)

    @staticmethod
    def _signal(group: int, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)


class _Stream(_Program):
    """A program that goes on printing lines. It is not read while as much waits for its reader as one line may hold."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.lines: deque[bytes] = deque()
        self.news = asyncio.Event()
        self._waiting = 0

    def heard(self, data: bytes) -> None:
        """Keep whole lines; the last piece waits for its end."""
        self.out += data
        *lines, rest = bytes(self.out).split(b"\n")
        self.out = bytearray(rest)
        self.lines.extend(lines)
        self._waiting += len(data)
        if len(self.out) > self.most:
            self.too_much()
        elif self._waiting > self.most and (pipe := self._pipe()):
            pipe.pause_reading()
        if self.lines:
            self.news.set()

    def take(self) -> tuple[bytes, ...]:
        """The lines that wait."""
        lines = tuple(self.lines)
        self.lines.clear()
        self._waiting = 0
        if not self.done.is_set():
            self.news.clear()
            if pipe := self._pipe():
                pipe.resume_reading()
        return lines

    def held(self) -> None:
        """Its output may be open only because it was not read."""
        if self._waiting > self.most:
            asyncio.get_running_loop().call_later(HELD_S, self.held)
        else:
            self.finish()

    def finish(self) -> None:
        """A last line may lack its end."""
        if self.out:
            self.lines.append(bytes(self.out))
            self.out.clear()
        super().finish()
        self.news.set()

    def _pipe(self) -> asyncio.ReadTransport | None:
        pipe = self._transport.get_pipe_transport(1) if self._transport else None
        return pipe if isinstance(pipe, asyncio.ReadTransport) else None
