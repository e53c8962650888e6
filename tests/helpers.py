"""What tests of every kind use: waiting for a condition, and the text that strangers could write."""

import inspect
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

LIMIT_S = 10.0
"""How long a test waits for what must happen. Generous, for a loaded machine; only a failure waits it out."""

LOOK_EVERY_S = 0.01

HOSTILE = (
    "[/]",
    "[@click=app.quit]x[/]",
    "[red",
    "\x1b]0;x\x07",
    "\x1b]52;c;cm0gLXJm\x07",
    "\x1b[c\x1b[>q",
    "\x9b2J",
    "\u202egnp.exe",
    "zero\u200bwidth\u2066isolate",
    "tag\U000e0041\U000e0042",
    "line\nfeed\r\ttab\x00nul\x7f",
    "e" + "\u0301" * 40,
    "日本語のタイトル 👩‍👩‍👧‍👦",
    "\ud800",
    "b/" + "x" * 300,
    "",
)
"""Titles, branches, log lines and server words as strangers could write them: ordinary data in every fixture."""


class TooLate(AssertionError):
    """What was waited for did not happen in time; the words say what, and what was seen last."""


async def until(look: Callable[[], T | Awaitable[T]], limit_s: float = LIMIT_S, what: str = "") -> T:
    """The first true value that `look` gives; it may be a coroutine function. Raises TooLate after `limit_s` seconds.

    What `look` raises is raised: a condition that cannot be read yet says so by returning something false.
    """
    import asyncio

    end = time.monotonic() + limit_s
    while True:
        found = look()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        if time.monotonic() > end:
            raise TooLate(_too_late(look, limit_s, what, found))
        await asyncio.sleep(LOOK_EVERY_S)


def wait_until(look: Callable[[], T], limit_s: float = LIMIT_S, what: str = "") -> T:
    """`until`, for a test that has no event loop, or that must not let the loop run."""
    pause, end = threading.Event(), time.monotonic() + limit_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise TooLate(_too_late(look, limit_s, what, found))
        pause.wait(LOOK_EVERY_S)


def _too_late(look: Callable[[], object], limit_s: float, what: str, found: object) -> str:
    if not what:
        try:
            what = inspect.getsource(look).strip()
        except (OSError, TypeError):
            what = repr(look)
    return f"not within {limit_s:g} s: {what}; seen last: {found!r}"
