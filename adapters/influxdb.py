"""Metrics from InfluxDB 1.x, asked in InfluxQL: one query for each metric, with value and n as its columns.

Three things there make a zero of nothing: every `fill` but none, a `count()` without one, and a division by zero. And a
statement that changes something is run even if it is only read by GET. So a query is looked at before it is asked.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from adapters._http import Web
from adapters._http_budget import date_of
from andon.buckets import NOTHING_CLOSED, Points, closed, joined
from andon.clock import Clock, Time
from andon.model import Identity, Metric, Samples
from andon.ports import Can, Garbled
from andon.registry import Adapter, Context, NoOptions, Place, Station
from andon.secret import Secret
from andon.text import clean

ASKED_AT_ONCE = 2000
"""Buckets of one request; the server may be told to give no more than some thousand points."""

PROBE = "SELECT * FROM andon WHERE time > now() LIMIT 1"
"""A query that finds nothing, where the database is there and may be read."""

SILENT = "no points came in; does the query name what is there?"
WANTED = (
    "write: SELECT sum(paid), count(paid) FROM orders "
    "WHERE time >= $since AND time < $until GROUP BY time($every) fill(none)"
)
"""What a query looks like."""

_QUOTED = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|--[^\n]*|/\*.*?\*/""", re.DOTALL)


class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to reach the server."""

    url: str
    database: str
    user: str = ""
    password: str = ""
    """A secret by reference."""
    plaintext: bool = False
    """Allows the password to travel over http."""
    ca_file: str = ""
    """The authority that vouches for the server, if the system does not know it."""


class Series(msgspec.Struct):
    """One series of an answer; `tags` if it is one of several."""

    columns: list[str]
    values: list[list[Any]] = []
    tags: dict[str, str] = {}
    partial: bool = False


class Result(msgspec.Struct):
    """What one statement found."""

    series: list[Series] = []
    error: str = ""
    partial: bool = False


class Found(msgspec.Struct):
    """The answer to a query."""

    results: list[Result]


class InfluxDB:
    """One database of a server, asked for the buckets of metrics."""

    can = Can()

    def __init__(self, web: Web, database: str, clock: Clock, account: str) -> None:
        self._web = web
        self._database = database
        self._clock = clock
        self._account = account

    async def whoami(self) -> Identity:
        """Who we are there, whether we may read the database, the version, its clock. Raises as a read."""
        async with self._web.in_time("whoami", 2):
            pong = await self._web.read("/ping")
            found = await self._ask("whoami", PROBE)
        clear = ("the password travels in the clear (plaintext: true)",) if self._web.address.in_the_clear else ()
        return Identity(
            account=self._account,
            server=f"InfluxDB {pong.headers.get('x-influxdb-version', 'tells no version')}",
            found=(f"may read {self._database}" if found else "answers", *clear),
            missing=() if found else (f"the database {self._database}",),
            clock=date_of(pong.headers),
        )

    async def close(self) -> None:
        """Give back the connections."""
        await self._web.close()

    async def samples(self, metric: Metric, start: Time, end: Time, every: float) -> Samples:
        """The closed buckets in `[start, end)`: the columns of the query after the time are value and, if given, n.

        Raises as a read; Garbled for a query that could make something of nothing, with what to write.
        """
        what = f"{self._web.name}: {metric.name}"
        if wrong := _wrong(metric):
            raise Garbled(f"{what}: {wrong}")
        ats = closed(start, end, every, self._clock.now())
        if not ats:
            return NOTHING_CLOSED
        value, n = Points(what, ats, every), Points(what, ats, every)
        columns, warned = 0, ""
        async with self._web.in_time(metric.name, 1 + len(ats) // ASKED_AT_ONCE):
            for first in range(0, len(ats), ASKED_AT_ONCE):
                part = ats[first : first + ASKED_AT_ONCE]
                words = {"since": _duration(part[0]), "until": _duration(part[-1] + every), "every": _duration(every)}
                found = await self._ask(metric.name, _filled(metric.value, words))
                if found is None:
                    raise Garbled(f"{what}: there is no database {self._database!r}")
                for row in _one_series(what, found).values:
                    columns = len(row)
                    if columns not in (2, 3):
                        raise Garbled(f"{what}: {columns - 1} columns beside the time instead of one or two: value, n")
                    at = row[0] / 1000 if isinstance(row[0], int | float) else None
                    value.put(at, row[1])
                    n.put(at, row[-1])
                if found.partial or any(series.partial for series in found.series):
                    warned = "the server gave only a part (max-row-limit)"
        return joined(metric, ats, value, n if columns != 2 else None, warned=warned, silent=SILENT)

    async def _ask(self, what: str, query: str) -> Result | None:
        """What a query finds; None: there is no such database. Raises as a read."""
        params = {"db": self._database, "epoch": "ms", "q": query}
        found: Found = await self._web.get_json("/query", params=params, type=Found)
        if len(found.results) != 1:
            raise Garbled(f"{self._web.name}: {what}: {len(found.results)} results for one query")
        error = found.results[0].error
        if error.startswith("database not found"):
            return None
        if error:
            raise Garbled(f"{self._web.name}: {what}: {clean(error, 200)}")
        return found.results[0]


def _wrong(metric: Metric) -> str:
    """What is wrong with a query, and what to write; empty: nothing."""
    if metric.n:
        return "`n:` is no query of its own here; let the second column of `value:` be n"
    bare = _QUOTED.sub("''", metric.value)
    if not re.match(r"\s*select\b", bare, re.IGNORECASE) or ";" in bare or re.search(r"\binto\b", bare, re.IGNORECASE):
        return "only one SELECT is asked, that writes nothing"
    missing = [f"${name}" for name in ("since", "until", "every") if not re.search(rf"\${name}\b", bare)]
    fills = re.findall(r"\bfill\s*\(\s*(\w*)", bare.lower())
    if missing or set(fills) != {"none"} or len(fills) < len(re.findall(r"\btime\s*\(", bare.lower())):
        return f"without {' and '.join(missing) or 'fill(none)'} it is not known what a bucket holds; {WANTED}"
    chosen = " ".join(re.findall(r"\bselect\b(.*?)\bfrom\b", bare, re.IGNORECASE | re.DOTALL))
    if re.search(r"/\s*(?![\s0-9.])", chosen):
        return "InfluxDB makes 0 of a division by zero; let numerator and denominator be two columns: value, n"
    return ""


def _one_series(what: str, found: Result) -> Series:
    if len(found.series) > 1 or any(series.tags for series in found.series):
        names = clean(", ".join(sorted({name for series in found.series for name in series.tags})), 60)
        raise Garbled(
            f"{what}: {len(found.series)} series instead of one; group by time alone{names and f', not {names}'}"
        )
    return found.series[0] if found.series else Series([])


def _filled(query: str, words: Mapping[str, str]) -> str:
    return re.sub(r"\$(since|until|every)\b", lambda found: words[found[1]], query)


def _duration(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


def _connect(options: Connection, context: Context) -> InfluxDB:
    """Raises ValueError for an address that cannot be used, SecretError for a password that is no reference."""
    if bool(options.user) != bool(options.password):
        raise ValueError(f"{context.name}: `user:` and `password:` belong together")
    web = Web(
        options.url,
        name=context.name,
        clock=context.clock,
        token=Secret(options.password) if options.password else None,
        user=options.user,
        plaintext=options.plaintext,
        ca_file=str(context.folder / options.ca_file) if options.ca_file else "",
    )
    return InfluxDB(web, options.database, context.clock, options.user or "nobody: no user")


def _metrics(connection: InfluxDB, _: NoOptions, __: Place) -> InfluxDB:
    return connection


ADAPTER = Adapter(
    name="influxdb",
    title="InfluxDB 1.x",
    options=Connection,
    connect=_connect,
    metrics=Station(NoOptions, _metrics),
)
