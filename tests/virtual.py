"""Time that passes at once: an event loop that jumps to whatever comes next, and its clock.

There is no selector and no socket: nothing outside the process can happen in it, so that a run repeats exactly. What is
due at the same time comes in the order of the heap, as in asyncio, which promises none. It does less for each step than
asyncio's own loops, because simulations take millions of them.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any


class Due:
    """Something to be called, as far as asyncio uses its handles."""

    __slots__ = ("args", "at", "callback", "context")

    def __init__(self, at: float, callback: Callable[..., Any], args: tuple[Any, ...], context: Context | None) -> None:
        self.at, self.callback, self.args, self.context = at, callback, args, context

    def __lt__(self, other: "Due") -> bool:
        return False  # asked only for those that are due at the same time

    def cancel(self) -> None:
        self.callback = None  # type: ignore[assignment]

    def cancelled(self) -> bool:
        return self.callback is None

    def when(self) -> float:
        return self.at


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop that sleeps in no time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._next: deque[Due] = deque()
        self._later: list[tuple[float, Due]] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> Any:
        due = Due(self.now, callback, args, context)
        self._next.append(due)
        return due

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        due = Due(when, callback, args, context)
        heapq.heappush(self._later, (when, due))
        return due

    def call_later(self, delay: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def _run_once(self) -> None:
        """Run what is ready; if nothing is, go to the time of what is next."""
        ready, later = self._next, self._later
        while later and later[0][1].callback is None:
            heapq.heappop(later)
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            if not later:
                raise RuntimeError("nothing will ever happen again")
            self.now = max(self.now, later[0][0])
        while later and later[0][0] <= self.now:
            ready.append(heapq.heappop(later)[1])
        for _ in range(len(ready)):
            due = ready.popleft()
            if due.callback is not None:
                self._call(due)

    def _call(self, due: Due) -> None:
        try:
            if due.context is None:
                due.callback(*due.args)
            else:
                due.context.run(due.callback, *due.args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            # As asyncio does: what a callback raises is told, and the loop goes on.
            self.call_exception_handler({"message": f"a callback raised: {due.callback!r}", "exception": error})

    def close(self) -> None:
        super().close()
        self._next.clear()
        self._later.clear()


class VirtualClock:
    """The clock of a virtual loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop

    def now(self) -> float:
        return 1_000_000.0 + self.loop.now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))

    def real(self, seconds: float) -> float:
        return seconds
