"""Metrics from anything that answers a range with JSON: a path for each metric, and a JMESPath for its rows.

A metric's `value:` is `PATH EXPRESSION`. The path names the range (`$since`, `$until`) and, where it can, how long a bucket
is (`$every`); the expression makes rows of what comes back: `[time, number]` or `[time, number, n]`.
"""

import re
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import quote

import msgspec

from adapters._http import Web
from adapters._http_budget import date_of
from adapters._http_client import apart
from andon.buckets import NOTHING_CLOSED, Points, closed, joined
from andon.clock import Clock, Time
from andon.model import Identity, Metric, Samples
from andon.ports import Can, Garbled, Unreachable
from andon.registry import Adapter, Context, NoOptions, Place, Station
from andon.secret import Secret
from andon.text import clean

ROWS = 20_000
"""Rows of an answer; more are not meant."""

NAMES = ("since", "until", "since_ms", "until_ms", "since_iso", "until_iso", "every")
"""What a path may name after a dollar sign: seconds since 1970, milliseconds, ISO 8601, and seconds of a bucket."""

SILENT = "the expression found no rows; does it fit what the server answers?"

_NAMED = re.compile(r"\$([A-Za-z_]+)")


class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to reach the server."""

    url: str
    check: str = "/"
    """A path that answers when all is well; asked by `andon check`, and for the server's clock."""
    token: str = ""
    """A secret by reference; sent as `header: scheme token`, or as the password of `user`."""
    user: str = ""
    header: str = "Authorization"
    scheme: str = "Bearer"
    plaintext: bool = False
    """Allows the token to travel over http."""
    ca_file: str = ""
    """The authority that vouches for the server, if the system does not know it."""
    per_minute: float = 0.0
    """Requests that the server may be asked each minute; 0: as many as there are."""


class Http:
    """One server, asked for the buckets of metrics."""

    can = Can()

    def __init__(self, web: Web, check: str, clock: Clock, account: str) -> None:
        self._web = web
        self._check = check
        self._clock = clock
        self._account = account

    async def whoami(self) -> Identity:
        """Whether it answers, and what time it is there. Raises as a read."""
        reply = await self._web.read(self._check)
        clear = ("the token travels in the clear (plaintext: true)",) if self._web.address.in_the_clear else ()
        server = f"a server that calls itself {clean(reply.headers.get('server', 'nothing'), 60)}"
        return Identity(self._account, server, (f"answers {self._check}", *clear), clock=date_of(reply.headers))

    async def close(self) -> None:
        """Give back the connections."""
        await self._web.close()

    async def samples(self, metric: Metric, start: Time, end: Time, every: float) -> Samples:
        """The closed buckets in `[start, end)`: what the expression finds in the answer to the path.

        Raises as a read; Garbled for a path that names no range, and for rows that are none.
        """
        what = f"{self._web.name}: {metric.name}"
        asked = [_asked(what, key, text) for key, text in (("value", metric.value), ("n", metric.n)) if text]
        ats = closed(start, end, every, self._clock.now())
        if not ats:
            return NOTHING_CLOSED
        names = _names(ats[0], ats[-1] + every, every)
        rows: list[list[list[Any]]] = []
        async with self._web.in_time(metric.name, len(asked)):
            answers: dict[str, Any] = {}
            for path, expression in asked:
                if path not in answers:
                    answers[path] = await self._web.get_json(_filled(path, names))
                rows.append(await apart(partial(_rows, what, answers[path], expression)))
        value, n = Points(what, ats, every), Points(what, ats, every)
        for row in rows[0]:
            value.put(row[0], row[1])
        threes = any(len(row) == 3 for row in rows[0])
        if threes and metric.n:
            raise Garbled(f"{what}: its rows hold n already; take `n:` away")
        for row in rows[-1] if threes or metric.n else ():
            n.put(row[0], row[-1])
        # Of no rows at all nobody knows whether they would have held n.
        return joined(metric, ats, value, n if threes or metric.n or not rows[0] else None, silent=SILENT)


def _asked(what: str, key: str, text: str) -> tuple[str, str]:
    """Path and expression of a query. Raises Garbled, with what to write."""
    path, expression = [*text.split(maxsplit=1), "", ""][:2]
    if not path.startswith("/") or path.startswith("//") or not expression:
        raise Garbled(
            f"{what}: write `{key}:` as a path, a blank and a JMESPath: "
            "/orders?from=$since&to=$until&step=$every buckets[].[start, paid, all]"
        )
    named = set(_NAMED.findall(path))
    if unknown := sorted(named - set(NAMES)):
        raise Garbled(f"{what}: `{key}:` names ${clean(unknown[0], 40)}; there are ${', $'.join(NAMES)}")
    if not any(name.startswith("since") for name in named):
        raise Garbled(f"{what}: `{key}:` does not name the range asked for; let its path hold $since")
    return path, expression


def _names(start: Time, end: Time, every: float) -> dict[str, str]:
    found = {"every": f"{every:g}"}
    for name, time in (("since", start), ("until", end)):
        found |= {name: f"{time:.0f}", f"{name}_ms": f"{time * 1000:.0f}"}
        found[f"{name}_iso"] = quote(datetime.fromtimestamp(time, UTC).isoformat().replace("+00:00", "Z"), safe="")
    return found


def _filled(path: str, names: dict[str, str]) -> str:
    return _NAMED.sub(lambda found: names[found[1]], path)


def _rows(what: str, answer: Any, expression: str) -> list[list[Any]]:
    """What an expression finds. Raises Garbled, Unreachable. In a thread: it may take a while."""
    try:
        import jmespath
        from jmespath.exceptions import JMESPathError
    except ImportError as error:
        raise Unreachable(f"{what}: install andon[http] for this") from error
    try:
        found = jmespath.search(expression, answer)
    except (JMESPathError, ValueError, TypeError, ArithmeticError, AttributeError, RecursionError) as error:
        raise Garbled(f"{what}: {clean(' '.join(str(error).split()), 200)}") from error
    if found is None:
        return []
    if not isinstance(found, list) or len(found) > ROWS:
        raise Garbled(f"{what}: the expression makes no list of at most {ROWS} rows of what came back")
    for row in found:
        if not isinstance(row, list) or len(row) not in (2, 3):
            raise Garbled(f"{what}: the expression must make rows of time and number, or of time, number and n")
    return found


def _connect(options: Connection, context: Context) -> Http:
    """Raises ValueError for an address that cannot be used, SecretError for a token that is no reference."""
    if options.user and not options.token:
        raise ValueError(f"{context.name}: `user:` needs its password, by reference, as `token:`")
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", options.header):
        raise ValueError(f"{context.name}: header: {clean(options.header, 40)!r} cannot be the name of one")
    if not re.fullmatch(r"[!-~]*", options.scheme):
        raise ValueError(f"{context.name}: scheme: a word of plain signs is expected here")
    web = Web(
        options.url,
        name=context.name,
        clock=context.clock,
        token=Secret(options.token) if options.token else None,
        user=options.user,
        header=options.header,
        scheme=options.scheme,
        plaintext=options.plaintext,
        ca_file=str(context.folder / options.ca_file) if options.ca_file else "",
        per_minute=options.per_minute,
    )
    account = options.user or ("the token's" if options.token else "nobody: no token")
    return Http(web, options.check, context.clock, account)


def _metrics(connection: Http, _: NoOptions, __: Place) -> Http:
    return connection


ADAPTER = Adapter(
    name="http",
    title="Anything that answers with JSON",
    options=Connection,
    connect=_connect,
    metrics=Station(NoOptions, _metrics),
)
