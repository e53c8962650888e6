"""Metrics from Prometheus and what speaks its language, such as VictoriaMetrics.

A bucket `[t, t+every)` is the query's value at `t+every`. A number is taken only if raw samples came in during the bucket:
both servers go on giving numbers for a while after a source has died, some repeat the newest ones, and `or vector(0)`
turns nothing into zero. So beside value and n the time is asked, joined with the count of raw samples (`_alive`).
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from adapters._http import Web
from adapters._promql import selectors
from andon.clock import Clock, Time, long_age
from andon.model import Identity, Metric, Sample, Samples
from andon.ports import Can, Garbled
from andon.registry import Adapter, Context, NoOptions, Place, Station
from andon.secret import Secret
from andon.text import clean

HISTORY_S = 15 * 86400.0
"""What Prometheus keeps unless it is told otherwise."""

POINTS = 10_000
"""Buckets asked for at once; Prometheus refuses more than 11,000."""

SERIES = 100
"""Series of an answer that are looked at: more than one is refused already."""

STALE_BUCKETS = 2
"""So many of the newest buckets missing, and the source has stopped."""

Found = Literal["numbers", "samples", "nothing"]
"""What there is behind buckets that make no rows."""


class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to reach the server."""

    url: str
    token: str = ""
    """A secret by reference; sent as a bearer token, or as the password of `user`."""
    user: str = ""
    plaintext: bool = False
    """Allows the token to travel over http."""
    ca_file: str = ""
    """The authority that vouches for the server, if the system does not know it."""


class Series(msgspec.Struct):
    """One series of an answer."""

    metric: dict[str, str]
    values: list[tuple[float, str]]


class Matrix(msgspec.Struct):
    """What a range query finds."""

    result: list[Series]


class Ranged(msgspec.Struct):
    """The answer to a range query."""

    status: str
    data: Matrix
    warnings: list[str] = []
    isPartial: bool = False  # noqa: N815  # VictoriaMetrics' word: some of its storage did not answer


class Prometheus:
    """One server, asked for the buckets of metrics."""

    can = Can(history_s=HISTORY_S)

    def __init__(self, web: Web, clock: Clock, account: str) -> None:
        self._web = web
        self._clock = clock
        self._account = account

    async def whoami(self) -> Identity:
        """What it is and what time it is there. Raises as a read."""
        async with self._web.in_time("whoami"):
            found = await self._web.get_json("/api/v1/query", params={"query": "time()", "nocache": "1"})
            version = await self._version()
        clear = ("the token travels in the clear (plaintext: true)",) if self._web.address.in_the_clear else ()
        return Identity(
            account=self._account,
            server=version,
            found=("answers queries", *clear),
            clock=_time(self._web.name, found),
        )

    async def close(self) -> None:
        """Give back the connections."""
        await self._web.close()

    async def samples(self, metric: Metric, start: Time, end: Time, every: float) -> Samples:
        """The closed buckets in `[start, end)`; NaN, infinity and what has no raw samples behind it are missing.

        Raises as a read; Garbled for a query that yields more than one series, with the server's words for a wrong one.
        """
        ats = _closed(start, end, every, self._clock.now())
        if not ats:
            return Samples("ok", words="none of these buckets has closed yet")
        async with self._web.in_time(metric.name, 1 + len(ats) // POINTS):
            return await self._samples(metric, ats, every)

    async def _samples(self, metric: Metric, ats: list[Time], every: float) -> Samples:
        # First of all: what was complete then is so for the questions that follow.
        times, warned = await self._points(metric.name, _alive(metric, every), ats, every)
        while ats and not _is_time(times.get(ats[-1], ats[-1] + every), ats[-1] + every):
            ats.pop()  # a number that is only repeated, as VictoriaMetrics does with the newest: not there yet
        value, also = await self._points(metric.name, metric.value, ats, every)
        n: dict[Time, float] | None = None
        if metric.n:
            n, more = await self._points(metric.name, metric.n, ats, every)
            also = also or more
        alive = {at for at, time in times.items() if _is_time(time, at + every)}
        rows = tuple(
            Sample(at, value[at], n[at] if n is not None else None)
            for at in ats
            if at in alive and at in value and (n is None or at in n)
        )
        return _judged(ats, rows, every, _found(alive, {*value, *(n or ())}), warned or also)

    async def _points(self, name: str, query: str, ats: Sequence[Time], every: float) -> tuple[dict[Time, float], str]:
        """The query's finite values, by the beginning of their bucket; and what the server warned of."""
        query = query.replace("$every", _duration(every))
        points: dict[Time, float] = {}
        labels: set[str] = set()
        warned = ""
        for first in range(0, len(ats), POINTS):
            part = ats[first : first + POINTS]
            params = {
                "query": query,
                "start": f"{part[0] + every:.3f}",
                "end": f"{part[-1] + every:.3f}",
                "step": _duration(every),
                "nocache": "1",  # VictoriaMetrics: late points would stay behind kept answers
            }
            found: Ranged = await self._web.get_json("/api/v1/query_range", params=params, type=Ranged)
            if found.status != "success":
                raise Garbled(f"{self._web.name}: {name}: answered with the status {clean(found.status, 40)!r}")
            warned = warned or "; ".join(found.warnings) or ("some of its storage did not answer" * found.isPartial)
            for series in found.data.result[:SERIES]:
                labels.add(msgspec.json.encode(sorted(series.metric.items())).decode())
                points.update(self._finite(series, part, every))
        if len(labels) > 1:
            number = f"{len(labels)} or more" if len(labels) >= SERIES else str(len(labels))
            raise Garbled(
                f"{self._web.name}: {name}: the query yields {number} series instead of one; sum them: "
                f"sum({clean(query, 120)})"
            )
        return points, clean(warned, 200)

    def _finite(self, series: Series, ats: Sequence[Time], every: float) -> dict[Time, float]:
        found: dict[Time, float] = {}
        if len(series.values) > 2 * POINTS:
            raise Garbled(f"{self._web.name}: {len(series.values)} points, where {len(ats)} were asked for")
        for stamp, text in series.values:
            index = round((stamp - every - ats[0]) / every)
            if not (0 <= index < len(ats) and abs(ats[index] + every - stamp) < 0.01):
                continue
            try:
                value = float(text)
            except ValueError as error:
                raise Garbled(f"{self._web.name}: {clean(text, 40)!r} is not a number") from error
            if math.isfinite(value):
                found[ats[index]] = value
        return found

    async def _version(self) -> str:
        """What it calls itself; VictoriaMetrics says nothing, others have no such page."""
        try:
            found = await self._web.get_json("/api/v1/status/buildinfo")
            version = found["data"].get("version", "")
        except (Garbled, KeyError, TypeError, AttributeError):
            version = ""
        return f"Prometheus {version}" if version else "speaks the language of Prometheus, tells no version"


def _closed(start: Time, end: Time, every: float, now: Time) -> list[Time]:
    """The buckets in `[start, end)` that have closed: their beginnings, which are multiples of `every`."""
    first, last = math.ceil(round(start / every, 6)), math.floor(round(min(end, now) / every, 6))
    return [index * every for index in range(first, last)]


def _alive(metric: Metric, every: float) -> str:
    """A query for the end of each bucket in which raw samples came in for any series that the metric's queries read."""
    queries = f"{metric.value}\n{metric.n}".replace("$every", _duration(every))
    counts = [f"count(count_over_time({selector}[{_duration(every)}]))" for selector in selectors(queries)]
    return f"time() + 0 * ({' or '.join(counts)})" if counts else "time()"


def _is_time(value: float, time: Time) -> bool:
    return abs(value - time) < 0.01


def _found(alive: set[Time], numbers: set[Time]) -> Found:
    if alive & numbers:
        return "numbers"
    return "samples" if alive else "nothing"


def _judged(ats: Sequence[Time], rows: tuple[Sample, ...], every: float, found: Found, warned: str) -> Samples:
    """The rows with the state of the whole, and the words that say why."""
    if not ats:
        return Samples("ok", words="the server has not completed these buckets yet")
    missing = len(ats) - len(rows)
    if not rows:
        if found == "numbers":
            return Samples("partial", words=f"either value or n is missing in {missing} of {missing} buckets")
        if found == "samples":
            return Samples("empty", words="samples came in, but the query makes no number of them: nothing, or 0/0")
        return Samples("empty", words="no samples came in; does the query name what is there?")
    behind = round((ats[-1] - rows[-1].at) / every)
    if behind >= STALE_BUCKETS:
        return Samples("stale", rows, f"nothing came in for the last {long_age(behind * every)}")
    if missing:
        return Samples("partial", rows, f"{missing} of {len(ats)} buckets are missing or have no number")
    if warned:
        return Samples("partial", rows, f"the server warns: {warned}")
    return Samples("ok", rows)


def _duration(seconds: float) -> str:
    """Seconds as PromQL writes them."""
    return f"{seconds:.0f}s" if seconds == int(seconds) else f"{seconds * 1000:.0f}ms"


def _time(name: str, found: Any) -> Time:
    """The time in an answer to `time()`: a scalar, or one series. Raises Garbled."""
    try:
        result = found["data"]["result"]
        stamp = result[0]["value"][1] if isinstance(result[0], dict) else result[1]
        time = float(stamp)
        if not math.isfinite(time):
            raise ValueError(stamp)
        return time
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise Garbled(f"{name}: it does not tell the time as Prometheus does; is `url:` right?") from error


def _connect(options: Connection, context: Context) -> Prometheus:
    """Raises ValueError for an address that cannot be used, SecretError for a token that is no reference."""
    if options.user and not options.token:
        raise ValueError(f"{context.name}: `user:` needs its password, by reference, as `token:`")
    web = Web(
        options.url,
        name=context.name,
        clock=context.clock,
        token=Secret(options.token) if options.token else None,
        user=options.user,
        plaintext=options.plaintext,
        ca_file=str(context.folder / options.ca_file) if options.ca_file else "",
    )
    return Prometheus(web, context.clock, options.user or ("the token's" if options.token else "nobody: no token"))


def _metrics(connection: Prometheus, _: NoOptions, __: Place) -> Prometheus:
    return connection


ADAPTER = Adapter(
    name="prometheus",
    title="Prometheus, VictoriaMetrics",
    options=Connection,
    connect=_connect,
    metrics=Station(NoOptions, _metrics),
)
