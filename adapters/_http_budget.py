"""How often a server is asked: a budget of our own, and the time for which the server wants to be left alone."""

import contextlib
import email.utils
import re
from collections.abc import Mapping
from datetime import UTC

from andon.clock import Clock, Time, long_age
from andon.ports import Unreachable

RETRY_AFTER_S = 60.0
"""How long a server that only says 429 is left alone."""

RETRY_AFTER_MOST_S = 3600.0
"""What a server may ask for at most."""

KEPT_BACK = 0.1
"""The part of a budget that is for acts."""

PREFIXES = ("x-ratelimit", "ratelimit", "x-rate-limit")
"""What the headers begin with that tell what is left."""

LONG_AGO = 1e9
"""A number above it is a time since 1970, and no number of seconds to wait."""


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
        now, second = self._clock.now(), self._clock.real(1.0)
        self._quiet_until = min(self._quiet_until, now + RETRY_AFTER_MOST_S * second)  # a clock that was set back
        if now < self._quiet_until:
            wait_s = (self._quiet_until - now) / second
            raise Limited(f"{what}: the server wants no reads for another {long_age(wait_s)}", wait_s)
        if not self._most:
            return
        self._left = min(self._most, self._left + max(0.0, now - self._seen) / second * self._most / 60)
        self._seen = now
        lacking = 1 + self._most * KEPT_BACK - self._left
        if lacking > 1e-9:
            wait_s = lacking * 60 / self._most
            raise Limited(f"{what}: the budget of reads is used up; the next in {long_age(wait_s)}", wait_s)
        self._left -= 1

    def act(self) -> None:
        """Take one for an act."""
        self._left = max(0.0, self._left - 1)

    def heed(self, status: int, headers: Mapping[str, str]) -> float | None:
        """How many seconds an answer wants no reads, which is kept to; None: it says nothing of the kind."""
        now = self._clock.now()
        wait_s = wanted_wait_s(status, headers, now)
        if wait_s is not None:
            self._quiet_until = max(self._quiet_until, now + self._clock.real(wait_s))
        return wait_s


def turned_away(status: int, headers: Mapping[str, str]) -> bool:
    """Whether an act was not done because too much was asked, and may be sent again; 403 alone means that it may not."""
    spent = any(_number(headers.get(f"{prefix}-remaining", "")) == 0 for prefix in PREFIXES)
    return status == 429 or (status == 403 and (spent or "retry-after" in headers))


def wanted_wait_s(status: int, headers: Mapping[str, str], now: Time) -> float | None:
    """Seconds without reads that an answer asks for, between 1 and RETRY_AFTER_MOST_S; None: it does not.

    By Retry-After, else by what is left of the server's own budget: the last tenth of that is for acts.
    """
    with contextlib.suppress(ValueError, OverflowError):  # by the server's own clock, if it tells it
        now = _date(headers.get("date", ""))
    spent, reset_s = _spent(headers, now)
    if status == 429 or (status in (403, 503) and "retry-after" in headers) or (status == 403 and spent):
        wait_s = _retry_after_s(headers, now) or reset_s or RETRY_AFTER_S
    elif spent and status < 400:
        wait_s = reset_s or RETRY_AFTER_S
    else:
        return None
    return min(max(wait_s, 1.0), RETRY_AFTER_MOST_S)


def _retry_after_s(headers: Mapping[str, str], now: Time) -> float | None:
    """What Retry-After (seconds or an HTTP date) asks for; None: nothing that can be read."""
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]+", text):
        return max(float(text[:9]), 1.0)
    with contextlib.suppress(ValueError, OverflowError):
        return max(_date(text) - now, 1.0)
    return None


def date_of(headers: Mapping[str, str]) -> Time | None:
    """What time it is where an answer came from, to the second; None: it does not say."""
    with contextlib.suppress(ValueError, OverflowError):
        return _date(headers.get("date", ""))
    return None


def _date(text: str) -> Time:
    """A date of HTTP, of which one form names no zone and means UTC. Raises ValueError, OverflowError."""
    date = email.utils.parsedate_to_datetime(text)
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def _spent(headers: Mapping[str, str], now: Time) -> tuple[bool, float | None]:
    """Whether no more than a tenth of the server's budget is left, and in how many seconds it is full again."""
    for prefix in PREFIXES:
        left, most, reset = (_number(headers.get(f"{prefix}-{name}", "")) for name in ("remaining", "limit", "reset"))
        if left is not None and left <= (most or 0.0) * KEPT_BACK:
            # Some tell the time of day, some how long it takes.
            return True, None if reset is None else max(reset - now if reset > LONG_AGO else reset, 1.0)
    return False, None


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"-?[0-9]{1,12}(\.[0-9]{1,6})?", text.strip()) else None
