"""Server-sent events, bounded: what one event may weigh, and how long a stream may be silent."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

import msgspec

from adapters._http_answer import CHUNKS_LIMIT, Call, decoded, pieces, translated, unpacked
from andon.ports import Garbled, Unreachable

if TYPE_CHECKING:
    import httpx

EVENT_LIMIT = 2**20
"""Bytes of one event."""


class Event(msgspec.Struct, frozen=True):
    """One event of a stream; its text is outside text. `what` says what was asked, for errors."""

    what: str
    name: str
    data: str

    def json(self, type: Any = Any) -> Any:  # noqa: A002 - as msgspec calls it
        """The data, as strictly as an answer's body. Raises Garbled."""
        return decoded(self.what, self.data.encode(), type)


class Events:
    """What a stream says, event by event. Its end and its silence are Unreachable, as for a read."""

    def __init__(self, call: Call, response: "httpx.Response", quiet_s: float | None) -> None:
        self._source = _events(call, response, quiet_s)
        self._coming: asyncio.Task[Event] | None = None

    def __aiter__(self) -> "Events":
        return self

    async def __anext__(self) -> Event:
        event = await self.next()
        assert event is not None
        return event

    async def next(self, within_s: float | None = None) -> Event | None:
        """The next event. None: none came within that time; the stream goes on. Raises Unreachable, Garbled."""
        if self._coming is None:
            self._coming = asyncio.ensure_future(self._pull())
        done, _ = await asyncio.wait({self._coming}, timeout=within_s)
        if not done:
            return None
        coming, self._coming = self._coming, None
        return coming.result()

    async def close(self) -> None:
        """Stop listening."""
        if self._coming is not None:
            coming, self._coming = self._coming, None
            coming.cancel()
            await asyncio.wait({coming})
            if not coming.cancelled():
                coming.exception()  # seen: nobody waits for it any more
        await self._source.aclose()

    async def _pull(self) -> Event:
        return await anext(self._source)


async def _events(call: Call, response: "httpx.Response", quiet_s: float | None) -> AsyncGenerator[Event, None]:
    import httpx
    from httpx_sse import EventSource

    async with contextlib.aclosing(_chunks(call, response, quiet_s)) as chunks:
        # A response of our own around the bounded bytes, because httpx-sse itself bounds nothing.
        bounded = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=chunks)
        async with contextlib.aclosing(EventSource(bounded).aiter_sse()) as source:
            async for event in source:
                if event.data:
                    yield Event(call.what, event.event or "message", event.data)


async def _chunks(call: Call, response: "httpx.Response", quiet_s: float | None) -> AsyncGenerator[bytes, None]:
    """The bytes of a stream, as long as they come and no event grows too long."""
    unpacked(call, response)
    raw = pieces(call, response, most=0)
    tail, size, number = b"", 0, 0
    with translated(call):
        while True:
            try:
                async with asyncio.timeout(quiet_s):
                    chunk = await anext(raw, None)
            except TimeoutError as error:
                raise Unreachable(f"{call.what}: nothing was heard for {quiet_s:g} s") from error
            if chunk is None:
                raise Unreachable(f"{call.what}: the stream ended")
            seen = tail + chunk
            end = max(
                (seen.rfind(mark) + len(mark) for mark in (b"\n\n", b"\r\r", b"\n\r\n") if mark in seen), default=0
            )
            size, number = (len(seen) - end, 1) if end > len(tail) else (size + len(chunk), number + 1)
            if size > EVENT_LIMIT:
                raise Garbled(f"{call.what}: an event is longer than {EVENT_LIMIT // 2**20} MiB")
            if number > CHUNKS_LIMIT:
                raise Garbled(f"{call.what}: an event comes in crumbs")
            tail = seen[-3:]
            yield chunk
