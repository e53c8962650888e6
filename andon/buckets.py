"""Closed buckets of a metrics source: which a range holds, which rows of an answer fill them, and what the whole is worth.

A number is taken only as it is meant: finite, once for each bucket, at the bucket's beginning. What is missing is missing,
and never zero; one row that is no number makes the answer *partial*, and rows of other buckets are refused.
"""

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

from andon.clock import Time, long_age
from andon.model import Metric, Sample, Samples
from andon.ports import Garbled
from andon.text import clean

STALE_BUCKETS = 2
"""So many of the newest buckets missing, and the source has stopped."""

NEAR_S = 0.01
"""How far a time may be from the beginning of its bucket: rounding, and no more."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?")
_UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))
"""Numbers from the first on count nanoseconds, microseconds, milliseconds since 1970; below all, seconds."""


def closed(start: Time, end: Time, every: float, now: Time) -> list[Time]:
    """The buckets in `[start, end)` that have closed: their beginnings, which are multiples of `every`."""
    first, last = math.ceil(round(start / every, 6)), math.floor(round(min(end, now) / every, 6))
    return [index * every for index in range(first, last)]


def moment(value: object) -> Time:
    """A time as stores write it: a number since 1970 of any usual unit, a datetime, ISO 8601; without a zone it is UTC.

    Raises ValueError.
    """
    if isinstance(value, str) and not _NUMBER.fullmatch(value.strip()):
        value = datetime.fromisoformat(value.strip())
    if isinstance(value, datetime):
        try:
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        except OverflowError as error:
            raise ValueError(f"{value} is no time") from error
    count = number(value)
    return next((count / unit for least, unit in _UNITS if abs(count) >= least), count)


def number(value: object) -> float:
    """A finite number, also written as text. Raises ValueError."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError(f"{_shown(value)} is not a number")  # noqa: TRY004 - one kind of error for what is no number
    try:
        found = float(value)
    except (OverflowError, ValueError) as error:
        raise ValueError("a number that is too large") from error
    if not math.isfinite(found):
        raise ValueError(f"{found} is not a finite number")
    return found


class Points:
    """One number for each bucket, as the rows of an answer come in. `what` is for errors: which metric of which source."""

    def __init__(self, what: str, ats: Sequence[Time], every: float) -> None:
        self.what = what
        self.numbers: dict[Time, float] = {}
        self.bad = ""
        """Why the first row that was not taken was not; empty: all were, or were not asked for."""
        self._ats = ats
        self._every = every

    def put(self, at: object, value: object) -> None:
        """One row; None is no number, and no fault.

        Raises Garbled for a second number of the same bucket, and for one that is none's: who asked for other buckets gets
        other numbers in all of them.
        """
        try:
            time = moment(at)
            index = round((time - self._ats[0]) / self._every)
        except (ValueError, OverflowError) as error:
            self._refuse(str(error))
            return
        if not (0 <= index < len(self._ats)):
            return
        if abs(self._ats[index] - time) > NEAR_S:
            raise Garbled(
                f"{self.what}: {_clock(time)} is not the beginning of a bucket of {self._every:g} s; group by time in "
                "steps of `every`, counted from 1970"
            )
        try:
            found = None if value is None else number(value)
        except ValueError as error:
            self._refuse(str(error))
            return
        if self._ats[index] in self.numbers:
            raise Garbled(
                f"{self.what}: two numbers for the bucket of {_clock(time)}; the query must give one series: sum it"
            )
        if found is not None:
            self.numbers[self._ats[index]] = found

    def negative(self) -> None:
        """Give up numbers below zero, where they count something."""
        for at in [at for at, value in self.numbers.items() if value < 0]:
            self._refuse(f"n is {self.numbers.pop(at):g}, below zero")

    def _refuse(self, words: str) -> None:
        self.bad = self.bad or clean(words, 100)


def joined(
    metric: Metric, ats: Sequence[Time], value: Points, n: Points | None, *, warned: str = "", silent: str = ""
) -> Samples:
    """The rows that have all their numbers, with the state of the whole and the words that say why.

    `warned`: what the source itself says is lacking. `silent`: what to say if it had nothing. Raises Garbled.
    """
    if n is not None:
        n.negative()
    elif metric.kind == "proportion":
        raise Garbled(f"{value.what}: a proportion needs the number of trials, too")
    rows = tuple(
        Sample(at, value.numbers[at], None if n is None else n.numbers[at])
        for at in ats
        if at in value.numbers and (n is None or at in n.numbers)
    )
    bad = value.bad or (n.bad if n is not None else "")
    missing = len(ats) - len(rows)
    if not rows:
        if value.numbers or (n is not None and n.numbers):
            return Samples("partial", words=bad or f"either value or n is missing in {missing} of {missing} buckets")
        return Samples("partial" if bad else "empty", words=bad or warned or silent or "no numbers came in")
    behind = round((ats[-1] - rows[-1].at) / metric.every)
    if behind >= STALE_BUCKETS:
        return Samples("stale", rows, f"nothing came in for the last {long_age(behind * metric.every)}")
    if missing or bad or warned:
        words = bad or warned or f"{missing} of {len(ats)} buckets are missing or have no number"
        return Samples("partial", rows, words)
    return Samples("ok", rows)


NOTHING_CLOSED = Samples("ok", words="none of these buckets has closed yet")
"""The answer to a range in which no bucket has closed."""


def _clock(time: Time) -> str:
    try:
        return datetime.fromtimestamp(time, UTC).strftime("%H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{time:g}"


def _shown(value: object) -> str:
    return repr(clean(value, 40)) if isinstance(value, str) else type(value).__name__
