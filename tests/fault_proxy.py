"""A fault proxy: it stands between a client and a good server, and does to answers what networks and bad servers do.

Server and proxy run in a thread with a loop of their own, so that what they do does not count as the client's time. A
fault is a coroutine function that is given the `Wire` of one request; here are those of networks, `says` and `floods` are
for servers that answer nonsense.
"""

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from typing import Self

PIECE = 64 * 1024
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"

Route = Callable[[str, str], "bytes | list[bytes] | None"]
"""The answer to method and target: a body of JSON, the events of a stream that then stays open, or None: 404."""


class Wire:
    """One request on its way: what was asked, and where the answer goes."""

    def __init__(self, request: bytes, source: asyncio.StreamReader | None, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self.whole = False
        """The answer was passed on as it came: the connection may be used again."""
        self._source = source
        self._writer = writer

    async def say(self, data: bytes) -> None:
        for start in range(0, len(data), PIECE):  # in pieces: what is written at once is copied
            self._writer.write(data[start : start + PIECE])
            await self._writer.drain()

    async def answer(self) -> AsyncIterator[bytes]:
        """The good server's answer; a stream as it comes."""
        assert self._source is not None
        head = await self._source.readuntil(b"\r\n\r\n")
        length = _length(head)
        if length is not None:
            yield head + await self._source.readexactly(length)
            return
        yield head
        while part := await self._source.read(PIECE):
            yield part

    async def relay(self, most: int | None = None, size: int = PIECE, pause_s: float = 0.0) -> None:
        """Pass the answer on, `most` bytes of it, in pieces of `size` with a pause after each."""
        left = most
        async for part in self.answer():
            part = part if left is None else part[:left]
            for start in range(0, len(part), size):
                await self.say(part[start : start + size])
                if pause_s:
                    await asyncio.sleep(pause_s)
            if left is not None:
                left -= len(part)
                if left <= 0:
                    return
        self.whole = True

    async def hold(self) -> None:
        """Stay connected and silent."""
        await asyncio.Event().wait()

    def reset(self) -> None:
        """Break the connection off, so that the client's system is told of an error."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def close_half(self) -> None:
        """Say that nothing more will be said, and go on listening."""
        self._writer.write_eof()


Fault = Callable[[Wire], Awaitable[None]]


async def none(wire: Wire) -> None:
    """Nothing goes wrong."""
    await wire.relay()


def latency(seconds: float) -> Fault:
    async def fault(wire: Wire) -> None:
        await asyncio.sleep(seconds)
        await wire.relay()

    return fault


def trickle(pause_s: float, size: int = 1) -> Fault:
    return lambda wire: wire.relay(size=size, pause_s=pause_s)


def hang(after: int = 0) -> Fault:
    async def fault(wire: Wire) -> None:
        if after:
            await wire.relay(after)
        await wire.hold()

    return fault


def cut(after: int = 0) -> Fault:
    async def fault(wire: Wire) -> None:
        if after:
            await wire.relay(after)
        wire.whole = False

    return fault


def reset(after: int = 0) -> Fault:
    async def fault(wire: Wire) -> None:
        if after:
            await wire.relay(after)
            await asyncio.sleep(0.05)  # what was sent arrives before the break
        wire.reset()

    return fault


def half_close(after: int = 0) -> Fault:
    async def fault(wire: Wire) -> None:
        if after:
            await wire.relay(after)
        wire.close_half()
        await wire.hold()

    return fault


def says(*parts: bytes, pause_s: float = 0.0) -> Fault:
    """A server that answers these bytes, and hangs up."""

    async def fault(wire: Wire) -> None:
        for part in parts:
            await wire.say(part)
            await asyncio.sleep(pause_s)

    return fault


def floods(start: bytes, part: bytes, pause_s: float = 0.0) -> Fault:
    """A server whose answer has no end."""

    async def fault(wire: Wire) -> None:
        await wire.say(start)
        while True:
            await wire.say(part)
            await asyncio.sleep(pause_s)

    return fault


def json(body: bytes, status: bytes = b"200 OK", kind: bytes = b"application/json", more: bytes = b"") -> bytes:
    """An answer as bytes."""
    head = b"HTTP/1.1 %b\r\nContent-Type: %b\r\n%bConnection: close\r\nContent-Length: %d\r\n\r\n"
    return head % (status, kind, more, len(body)) + body


class FaultProxy:
    """A good server that gives what `route` says, and the proxy before it. To be used as a context."""

    def __init__(self, route: Route) -> None:
        self.fault: Fault = none
        self.when: Callable[[bytes], bool] = lambda request: True
        """To which requests the fault happens; the others are answered well."""
        self.asked: list[tuple[float, str]] = []
        """Each request that came: when (time.monotonic) and its first line."""
        self._route = route
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self._origin, self.port = self._run(self._start())
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()

    def lines(self, word: str = "") -> list[str]:
        """The first lines of the requests that hold a word."""
        return [line for _, line in self.asked if word in line]

    def forget(self) -> None:
        """What was asked so far."""
        self.asked.clear()

    def _run(self, work: Awaitable[object]) -> object:
        future: Future = asyncio.run_coroutine_threadsafe(work, self._loop)  # type: ignore[arg-type]
        return future.result(20)

    async def _start(self) -> tuple[int, int]:
        for serve in (self._serve_well, self._serve_badly):
            self._servers.append(await asyncio.start_server(self._kept(serve), "127.0.0.1", 0, limit=2**20))
        ports = [server.sockets[0].getsockname()[1] for server in self._servers]
        return ports[0], ports[1]

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)

    def _kept(self, serve: Callable) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = self._loop.create_task(self._served(serve, reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return connected

    async def _served(self, serve: Callable, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, RuntimeError):
            try:
                await serve(reader, writer)
            finally:
                writer.close()

    async def _serve_well(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            method, target, _ = (await _request(reader)).split(b" ", 2)
            found = self._route(method.decode(), target.decode())
            if isinstance(found, list):
                writer.write(STREAM + b"".join(found))
                await reader.read()
                return
            body = b'{"error": "no such thing"}' if found is None else found
            status = b"404 Not Found" if found is None else b"200 OK"
            writer.write(json(body, status).replace(b"Connection: close\r\n", b""))

    async def _serve_badly(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        source, onward = await asyncio.open_connection("127.0.0.1", self._origin, limit=2**24)
        try:
            while True:
                request = await _request(reader)
                self.asked.append((time.monotonic(), request.partition(b"\r\n")[0].decode()))
                onward.write(request)
                wire = Wire(request, source, writer)
                await self._until_gone(self.fault(wire) if self.when(request) else wire.relay(), reader, wire)
                if not wire.whole:
                    return
        finally:
            onward.close()

    async def _until_gone(self, work: Awaitable[None], reader: asyncio.StreamReader, wire: Wire) -> None:
        """Do it, but not for longer than the client is there: it sends nothing while it waits for an answer."""
        task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(reader))
        try:
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        finally:
            for one in (task, gone):
                one.cancel()
            await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(reader: asyncio.StreamReader) -> None:
    while not reader.at_eof() and reader.exception() is None:
        await asyncio.sleep(0.05)


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(_length(head) or 0)


def _length(head: bytes) -> int | None:
    lines = head.lower().split(b"\r\n")
    return next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), None)
