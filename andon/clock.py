"""Time, passed in. Seconds since 1970-01-01 UTC as a float everywhere; local time exists only on a screen."""

import time
from typing import Protocol

Time = float
"""Seconds since 1970-01-01 00:00 UTC."""


class Clock(Protocol):
    """What the core asks for the time; tests and simulations pass their own."""

    def now(self) -> Time:
        """The time now."""

    async def sleep(self, seconds: float) -> None:
        """Wait that many seconds of this clock."""

    def real(self, seconds: float) -> float:
        """How many seconds of this clock pass in so many real ones: for what people and networks wait for."""


class WallClock:
    """The machine's clock."""

    def now(self) -> Time:
        """The time now."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait that many seconds."""
        import asyncio  # not with this module: who only looks at a ledger never waits, and starts in half the time

        await asyncio.sleep(max(0.0, seconds))

    def real(self, seconds: float) -> float:
        """The same."""
        return seconds


class FastClock:
    """A clock that goes `speed` times as fast as the machine's, from now on: for a demo or a drill."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._start = time.time()

    def now(self) -> Time:
        """The time now."""
        return self._start + (time.time() - self._start) * self.speed

    async def sleep(self, seconds: float) -> None:
        """Wait that many seconds of this clock."""
        import asyncio

        await asyncio.sleep(max(0.0, seconds) / self.speed)

    def real(self, seconds: float) -> float:
        """How many seconds of this clock pass in so many real ones."""
        return seconds * self.speed


def age(seconds: float) -> str:
    """An age in one coarse unit: `40 s`, `12 m`, `3 h`, `6 d`. Below a minute it moves in steps of 10 s."""
    seconds = max(0.0, seconds)
    if seconds < 60:
        return f"{int(seconds) if seconds < 10 else int(seconds // 10) * 10} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} m"
    if seconds < 48 * 3600:
        return f"{int(seconds // 3600)} h"
    return f"{int(seconds // 86400)} d"


def long_age(seconds: float) -> str:
    """An age for a sentence: `40 s`, `12 min`, `3 h`, `6 d`."""
    return age(seconds).replace(" m", " min")
