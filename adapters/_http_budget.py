"""How often a server is asked: a budget of our own, and the time for which the server wants to be left alone."""

import contextlib
import email.utils
import re
from collections.abc import Mapping

from andon.clock import Clock, Time, long_age
from andon.ports import Unreachable

RETRY_AFTER_S = 60.0
"""How long a server that only says 429 is left alone."""

RETRY_AFTER_MOST_S = 3600.0
"""What a server may ask for at most."""


class Limited(Unreachable):
    """The server, or the budget we keep with it, wants no read before `retry_after_s` seconds have passed."""

    def __init__(self, words: str, retry_after_s: float) -> None:
        super().__init__(words)
        self.retry_after_s = retry_after_s


class Budget:
    """Requests a minute, as many as that at once; a tenth is kept back for acts, which never wait. 0: no budget."""

    def __init__(self, per_minute: float, clock: Clock) -> None:
        self._most = per_minute
        self._left = per_minute
        self._clock = clock
        self._seen = clock.now()
        self._quiet_until: Time = 0.0

    def read(self, what: str) -> None:
        """Take one for a read. Raises Limited, and takes none, while there is none or the server wants no reads."""
        now = self._clock.now()
        if now < self._quiet_until:
            wait_s = min(self._quiet_until - now, RETRY_AFTER_MOST_S)
            raise Limited(f"{what}: the server wants no reads for another {long_age(wait_s)}", wait_s)
        if not self._most:
            return
        self._left = min(self._most, self._left + max(0.0, now - self._seen) * self._most / 60)
        self._seen = now
        lacking = 1 + self._most / 10 - self._left
        if lacking > 1e-9:
            wait_s = lacking * 60 / self._most
            raise Limited(f"{what}: the budget of reads is used up; the next in {long_age(wait_s)}", wait_s)
        self._left -= 1

    def act(self) -> None:
        """Take one for an act."""
        self._left = max(0.0, self._left - 1)

    def heed(self, status: int, headers: Mapping[str, str]) -> float | None:
        """How many seconds an answer wants no reads, which is kept to; None: it says nothing of the kind."""
        if status != 429 and not (status in (403, 503) and "retry-after" in headers):
            return None
        now = self._clock.now()
        wait_s = retry_after_s(headers, now)
        self._quiet_until = max(self._quiet_until, now + wait_s)
        return wait_s


def retry_after_s(headers: Mapping[str, str], now: Time) -> float:
    """Seconds that a Retry-After (seconds or an HTTP date) asks for, between 1 and RETRY_AFTER_MOST_S."""
    text = headers.get("retry-after", "").strip()
    wait_s = RETRY_AFTER_S
    if re.fullmatch(r"[0-9]+", text):
        wait_s = float(text[:9])
    elif text:
        with contextlib.suppress(ValueError, OverflowError):
            until = email.utils.parsedate_to_datetime(text).timestamp()
            with contextlib.suppress(ValueError, OverflowError):  # by the server's own clock, if it tells it
                now = email.utils.parsedate_to_datetime(headers.get("date", "")).timestamp()
            wait_s = until - now
    return min(max(wait_s, 1.0), RETRY_AFTER_MOST_S)
