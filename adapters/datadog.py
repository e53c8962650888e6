"""Metrics from Datadog: one query for each number, rolled up to the bucket's length.

Written after its published reference of `GET /api/v1/query` and `/api/v1/validate`. Datadog makes buckets of its own unless
the query says `.rollup(…, $every)`, and coarser ones for long ranges; so what it chose is looked at.
"""

import re

import msgspec

from adapters._http import Web
from adapters._http_budget import date_of
from adapters._http_client import apart
from andon.buckets import NOTHING_CLOSED, Points, closed, joined
from andon.clock import Clock, Time
from andon.model import Identity, Metric, Samples
from andon.ports import Can, Denied, Garbled
from andon.registry import Adapter, Context, NoOptions, Place, Station
from andon.secret import Secret, SecretError
from andon.text import clean

ASKED_AT_ONCE = 1000
"""Buckets of one query; of more than 1,500 points Datadog makes coarser ones."""

SILENT = "no points came in; does the query name what is there?"
SHORT = "Datadog left out points of a long answer"
ANYTHING = "avg:datadog.agent.running{*}"
"""A query that may be asked wherever queries may."""


class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to reach Datadog."""

    token_api: str
    """The API key, by reference."""
    token_app: str
    """The application key, by reference; of its rights only `timeseries_query` is needed."""
    url: str = "https://api.datadoghq.com"
    """The address of your site's API."""
    plaintext: bool = False
    """Allows the keys to travel over http."""
    ca_file: str = ""
    """The authority that vouches for a proxy in between, if the system does not know it."""


class Series(msgspec.Struct):
    """One series of an answer. A point is milliseconds since 1970, and a number or nothing."""

    pointlist: list[tuple[float, float | None]] = []
    interval: float = 0.0
    """Between points: seconds, as it comes; the reference calls it milliseconds."""
    length: int = 0
    scope: str = ""


class Found(msgspec.Struct):
    """The answer to a query."""

    status: str
    series: list[Series] = []
    error: str = ""


class Valid(msgspec.Struct):
    """The answer to the question whether the API key is one."""

    valid: bool = False


class Datadog:
    """One organisation, asked for the buckets of metrics."""

    can = Can()

    def __init__(self, web: Web, key: Secret, clock: Clock) -> None:
        self._web = web
        self._key = key
        self._clock = clock

    async def whoami(self) -> Identity:
        """Whether both keys are good for queries, and what time it is there. Raises as a read."""
        async with self._web.in_time("whoami", 2):
            headers = await self._headers()
            reply = await self._web.read("/api/v1/validate", headers=headers)
            valid: Valid = reply.json(Valid)
            if not valid.valid:
                raise Denied(f"{self._web.name}: `token_api:` ({self._key.where}) is no valid API key")
            now = int(self._clock.now())
            await self._query("whoami", ANYTHING, now - 60, now)
        clear = ("the keys travel in the clear (plaintext: true)",) if self._web.address.in_the_clear else ()
        return Identity(
            account="the application key's",
            server=f"Datadog, {self._web.address.host}",
            found=("may ask for metrics", *clear),
            clock=date_of(reply.headers),
        )

    async def close(self) -> None:
        """Give back the connections."""
        await self._web.close()

    async def samples(self, metric: Metric, start: Time, end: Time, every: float) -> Samples:
        """The closed buckets in `[start, end)`.

        Raises as a read; Garbled for a query that could make something of nothing.
        """
        what = f"{self._web.name}: {metric.name}"
        for query in filter(None, (metric.value, metric.n)):
            if wrong := _wrong(query):
                raise Garbled(f"{what}: {wrong}")
        ats = closed(start, end, every, self._clock.now())
        if not ats:
            return NOTHING_CLOSED
        value, n, warned = Points(what, ats, every), Points(what, ats, every), ""
        async with self._web.in_time(metric.name, 2 * (1 + len(ats) // ASKED_AT_ONCE)):
            for query, points in ((metric.value, value), (metric.n, n)):
                for first in range(0, len(ats) if query else 0, ASKED_AT_ONCE):
                    part = ats[first : first + ASKED_AT_ONCE]
                    warned = await self._fill(what, query, part, every, points) or warned
        return joined(metric, ats, value, n if metric.n else None, warned=warned, silent=SILENT)

    async def _fill(self, what: str, query: str, ats: list[Time], every: float, points: Points) -> str:
        """Put in what a query finds; says what is lacking of it."""
        query = query.replace("$every", f"{every:g}")
        found = await self._query(what.partition(": ")[2], query, int(ats[0]), int(ats[-1] + every))
        if not found:
            return ""
        if len(found) > 1:
            raise Garbled(f"{what}: the query yields {len(found)} series instead of one; write sum:…{{…}} without `by`")
        if found[0].interval not in (0.0, every, every * 1000):
            raise Garbled(
                f"{what}: Datadog answers in other buckets (interval {found[0].interval:g}) than those of {every:g} s"
            )
        for at, number in found[0].pointlist:
            points.put(at / 1000, number)
        return SHORT if found[0].length > len(found[0].pointlist) else ""

    async def _query(self, what: str, query: str, start: int, end: int) -> list[Series]:
        params: dict[str, str | int | float] = {"from": start, "to": end, "query": query}
        reply = await self._web.read("/api/v1/query", params=params, headers=await self._headers())
        found: Found = reply.json(Found)
        if found.status != "ok":
            words = found.error or f"answered with the status {found.status!r}"
            raise Garbled(f"{self._web.name}: {what}: {clean(words, 200)}")
        return found.series

    async def _headers(self) -> dict[str, str]:
        """The API key, opened now; the application key is the web's. Raises Denied."""
        try:
            key = await apart(self._key.open)
        except SecretError as error:
            raise Denied(f"{self._web.name}: {error}") from error
        if not re.fullmatch(r"[!-~]+", key):
            raise Denied(f"{self._web.name}: {self._key.where}: it holds a character that no header can carry")
        return {"DD-API-KEY": key, "Accept": "application/json"}


def _wrong(query: str) -> str:
    """What is wrong with a query, and what to write; empty: nothing."""
    rollups = re.findall(r"\.rollup\s*\(\s*\w+\s*(?:,\s*([^)\s]+)\s*)?\)", query)
    series = re.findall(r"\b(?:avg|sum|min|max|count|p\d{1,3})\s*(?:\([^)]*\))?\s*:", query)
    if not rollups or set(rollups) != {"$every"} or len(rollups) < len(series):
        return "without .rollup(sum, $every) behind each series it is not known what a bucket holds"
    if re.search(r"\bdefault_zero\s*\(|\.fill\s*\(\s*(?!null\b)", query):
        return "default_zero() and .fill() make numbers where there are none; write .fill(null), or nothing"
    return ""


def _connect(options: Connection, context: Context) -> Datadog:
    """Raises ValueError for an address that cannot be used, SecretError for a key that is no reference."""
    web = Web(
        options.url,
        name=context.name,
        clock=context.clock,
        token=Secret(options.token_app),
        header="DD-APPLICATION-KEY",
        scheme="",
        plaintext=options.plaintext,
        ca_file=str(context.folder / options.ca_file) if options.ca_file else "",
    )
    return Datadog(web, Secret(options.token_api), context.clock)


def _metrics(connection: Datadog, _: NoOptions, __: Place) -> Datadog:
    return connection


ADAPTER = Adapter(
    name="datadog",
    title="Datadog",
    options=Connection,
    connect=_connect,
    metrics=Station(NoOptions, _metrics),
)
