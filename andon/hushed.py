"""A source whose answers repeat no secret: what an adapter gives back, and what it raises, is looked through once, here.

A server may echo the header it was sent, a script its environment, an adapter of somebody else its own request. Behind this
edge stand the ledger, the screen, the log and what commands print.
"""

import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import msgspec

from andon.hiding import hide, may_hold
from andon.model import Halted, HoldRef, Identity, to_json
from andon.ports import Answer, Can, Denied, Garbled, Halting, Source, Unreachable


def hushed(source: Source) -> "Hushed":
    """`source`, behind the edge."""
    return HushedHalting(source) if isinstance(source, Halting) else Hushed(source)


class Hushed:
    """A source that answers as the one behind it does, without secrets."""

    def __init__(self, source: Any) -> None:
        self._source = source

    @property
    def can(self) -> Can:
        """What it can do."""
        found: Can = self._source.can
        return found

    async def whoami(self) -> Identity:
        """Who we are to it."""
        found: Identity = await _awaited(self._source.whoami())
        return found

    async def close(self) -> None:
        """Give back its connections."""
        await self._source.close()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._source, name)
        if not callable(found):
            return found

        def call(*args: Any, **more: Any) -> Any:
            result = found(*args, **more)
            if isinstance(result, AsyncIterator):
                return _streamed(result)
            return _awaited(result) if inspect.isawaitable(result) else result

        return call


class HushedHalting(Hushed):
    """One that can be told to let nothing in: its methods stand here, so that it is seen to be one."""

    async def halt(self, hold: HoldRef) -> Answer:
        """Let nothing more be shipped."""
        answer: Answer = await _awaited(self._source.halt(hold))
        return answer

    async def release(self, hold: HoldRef, before: Halted) -> Answer:
        """Restore what stood before."""
        answer: Answer = await _awaited(self._source.release(hold, before))
        return answer

    async def halted(self) -> Halted:
        """What stands."""
        found: Halted = await _awaited(self._source.halted())
        return found


async def _awaited(result: Awaitable[Any]) -> Any:
    try:
        return _quiet(await result)
    except (Unreachable, Denied, Garbled) as error:
        _said(error)
        raise


async def _streamed(result: AsyncIterator[Any]) -> AsyncIterator[Any]:
    try:
        async for item in result:
            yield _quiet(item)
    except (Unreachable, Denied, Garbled) as error:
        _said(error)
        raise
    finally:
        if inspect.isasyncgen(result):
            with contextlib.suppress(Exception):  # it is left behind whatever it does
                await result.aclose()


def _said(error: Exception) -> Exception:
    """The same error in words without secrets; what a subclass adds to it stays."""
    error.args = tuple(hide(part) if isinstance(part, str) else part for part in error.args)
    return error


def _quiet(value: Any) -> Any:
    """A record, or a list of them, without secrets; itself, if it holds none."""
    if isinstance(value, Exception):
        return _said(value)
    try:
        text = to_json(value).decode()
    except (TypeError, ValueError):
        return value  # no record: whoever gets it refuses it by its type
    return _searched(value) if may_hold(text) else value


def _searched(value: Any) -> Any:
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_searched(item) for item in value)
    if isinstance(value, msgspec.Struct):
        parts = {name: getattr(value, name) for name in value.__struct_fields__}
        return msgspec.structs.replace(value, **{name: _searched(part) for name, part in parts.items()})
    return value
