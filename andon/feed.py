"""Following a source: what it says is passed on, what goes wrong is said once, and tried again with patience.

Says *gone* once and *back* once. Back-off doubles from 1 s to 30 s with jitter; what a server asks for (`retry_after_s`) is
kept; a refused credential is tried again each minute, with the secret read anew. One source's trouble is its own.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

from andon.clock import Clock
from andon.events import SourceWord
from andon.ports import Denied, Fact, Garbled, LedgerUnusable, Unreachable, Wait

FIRST_S, MOST_S = 1.0, 30.0
DENIED_S = 60.0
SILENT_S = 120.0
"""A stream that says nothing at all for so long is taken for dead."""

OnFact = Callable[[Fact], Awaitable[None]]
OnState = Callable[[SourceWord, str], Awaitable[None]]


async def follow(
    watch: Callable[[], AsyncIterator[Fact | Wait]],
    clock: Clock,
    every_s: float,
    on_fact: OnFact,
    on_state: OnState,
) -> None:
    """Follow a source for ever. `on_state` hears `ok` at each sign of life, else what is wrong and its words.

    Raises LedgerUnusable if `on_fact` or `on_state` does: that is no fault of the source.
    """
    patience = Patience()
    while True:
        since, stream = clock.now(), None
        try:
            stream = watch()
            while True:
                item = await _next(stream)
                if not isinstance(item, Wait):
                    await on_fact(item)  # before it is called well: what it says may make no sense
                await on_state("ok", "")
                if isinstance(item, Wait):
                    wait = max(item.seconds, every_s) if item.seconds else 0.0
                    await clock.sleep(max(wait, clock.real(0.1)) if wait else 0.0)
        except StopAsyncIteration:
            await clock.sleep(max(every_s, clock.real(0.1)))
        except LedgerUnusable:
            raise
        except Exception as error:  # noqa: BLE001 - one of two places: whatever an adapter does, the others go on
            word, words = told(error)
            await on_state(word, words)
            if clock.now() - since > clock.real(MOST_S):
                patience.reset()  # not at the first sign of life: a stream that always breaks soon must not be hammered
            await clock.sleep(clock.real(patience.next(error)))
        finally:
            await _close(stream)


async def _next(stream: AsyncIterator[Fact | Wait]) -> Fact | Wait:
    """What a stream says next. Raises Unreachable if it says nothing for too long."""
    try:
        async with asyncio.timeout(SILENT_S) as limit:
            return await anext(stream)
    except TimeoutError as error:
        if limit.expired():
            raise Unreachable(f"said nothing for {SILENT_S:.0f} s") from error
        raise


async def _close(stream: AsyncIterator[Fact | Wait] | None) -> None:
    """Let a generator give its connection back now, not when it is collected."""
    if isinstance(stream, AsyncGenerator):
        with contextlib.suppress(Exception):  # it is left behind whatever it does
            await stream.aclose()


class Patience:
    """How long to wait before the next try."""

    def __init__(self) -> None:
        self._wait = FIRST_S

    def reset(self) -> None:
        """It answered."""
        self._wait = FIRST_S

    def next(self, error: Exception) -> float:
        """Real seconds until the next try after `error`."""
        asked = float(getattr(error, "retry_after_s", 0.0))
        if isinstance(error, Denied):
            return max(DENIED_S, asked)
        wait = self._wait * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret
        self._wait = min(self._wait * 2, MOST_S)
        return max(wait, asked)


def told(error: Exception) -> tuple[SourceWord, str]:
    """What an error of a read means for a source, and its words."""
    if isinstance(error, Denied):
        return "denied", str(error)
    if isinstance(error, Unreachable):
        return "gone", str(error) or "does not answer"
    if isinstance(error, Garbled):
        return "error", str(error)
    return "error", f"its adapter failed: {type(error).__name__}"
