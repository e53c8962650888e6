"""Metrics from Graphite, and marks in it: a target for each metric, an event for each note.

A point there is named by the beginning of what it holds, and a bucket that is gathered from finer points is a number also
if half of them are missing. So beside the numbers it is asked whether every point was there (`WHOLE`).
"""

import re
from typing import Any

import msgspec

from adapters._graphite_targets import closes, gathered
from adapters._http import Web
from adapters._http_answer import Reply
from adapters._http_budget import date_of
from andon.buckets import NOTHING_CLOSED, Points, closed, joined
from andon.clock import Clock, Time
from andon.model import Identity, Metric, Note, Samples
from andon.ports import Accepted, Answer, Can, Garbled, NoAnswer
from andon.registry import Adapter, Context, NoOptions, Place, Station
from andon.secret import Secret
from andon.text import clean

ASKED_AT_ONCE = 2000
"""Buckets of one request; finer points are gathered there, and never travel."""

SERIES = 20
"""Series of an answer that are looked at: more than one of a kind is refused already."""

SILENT = "no points came in; does the target name what is there?"
VALUE, N, WHOLE = "andon value", "andon n", "andon whole"
"""What the parts of an answer are called."""


class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to reach the server."""

    url: str
    token: str = ""
    """A secret by reference, to read with; sent as a bearer token, or as the password of `user`."""
    token_acts: str = ""
    """The same, to leave marks with."""
    user: str = ""
    plaintext: bool = False
    """Allows the token to travel over http."""
    ca_file: str = ""
    """The authority that vouches for the server, if the system does not know it."""


class Series(msgspec.Struct):
    """One series of an answer. Numbers stay as they were written: Graphite writes infinity as 1e9999."""

    target: str
    datapoints: list[tuple[msgspec.Raw, float]]


class Graphite:
    """One server, asked for the buckets of metrics, and given marks."""

    can = Can()

    def __init__(self, web: Web, clock: Clock, account: str) -> None:
        self._web = web
        self._clock = clock
        self._account = account

    async def whoami(self) -> Identity:
        """What it is and what time it is there. Raises as a read."""
        async with self._web.in_time("whoami", 2):
            rendered = await self._web.read("/render", params={"format": "json", "target": "", "noCache": "1"})
            if rendered.json() != []:
                raise Garbled(f"{self._web.name}: it does not answer as Graphite does; is `url:` right?")
            try:
                version = (await self._web.get_text("/version/")).strip()
            except Garbled:  # others that speak its language have no such page
                version = ""
        version = version if re.fullmatch(r"[0-9A-Za-z.+-]{1,20}", version) else ""
        clear = ("the token travels in the clear (plaintext: true)",) if self._web.address.in_the_clear else ()
        return Identity(
            account=self._account,
            server=f"Graphite {version}" if version else "speaks the language of Graphite, tells no version",
            found=("answers queries", *clear),
            clock=date_of(rendered.headers),
        )

    async def close(self) -> None:
        """Give back the connections."""
        await self._web.close()

    async def samples(self, metric: Metric, start: Time, end: Time, every: float) -> Samples:
        """The closed buckets in `[start, end)`; one of which a finer point is missing is missing itself.

        Raises as a read; Garbled for a target that yields several series, or other buckets than were asked for.
        """
        what = f"{self._web.name}: {metric.name}"
        if every != int(every):
            raise Garbled(f"{what}: Graphite counts whole seconds; let `every:` be some")
        if wrong := _wrong(metric.value) or (metric.n and _wrong(metric.n)):
            raise Garbled(f"{what}: {wrong}")
        ats = closed(start, end, every, self._clock.now())
        if not ats:
            return NOTHING_CLOSED
        found = {name: Points(what, ats, every) for name in (VALUE, N, WHOLE)}
        target = _target(metric, f"{every:.0f}s")
        async with self._web.in_time(metric.name, 1 + len(ats) // ASKED_AT_ONCE):
            for first in range(0, len(ats), ASKED_AT_ONCE):
                part = ats[first : first + ASKED_AT_ONCE]
                await self._ask(what, target, part, every, found)
        whole = found[WHOLE].numbers
        for name in (VALUE, N):
            found[name].numbers = {at: it for at, it in found[name].numbers.items() if whole.get(at, 0.0) >= 1.0}
        return joined(metric, ats, found[VALUE], found[N] if metric.n else None, silent=SILENT)

    async def tell(self, note: Note) -> Answer:
        """Leave a mark: an event, tagged `andon`, with the line and the kind of the note."""
        said = {
            "what": note.title,
            "tags": ["andon", note.line, note.kind],
            "when": int(note.at or self._clock.now()),
            "data": note.text,
        }
        # Its answer is empty, and calls itself a web page.
        answer = await self._web.act("POST", "/events/", json=said, also=(200,))
        if isinstance(answer, Reply) and answer.page:
            return NoAnswer(f"{answer.what}: a web page instead of an answer; is `url:` right?")
        return Accepted() if isinstance(answer, Reply) else answer

    async def _ask(self, what: str, target: str, ats: list[Time], every: float, found: dict[str, Points]) -> None:
        params: dict[str, str | int] = {
            "target": target,
            # A point at `from` itself is left out there, and one at `until` is not.
            "from": int(ats[0]) - 1,
            "until": int(ats[-1] + every) - 1,
            "format": "json",
            "noCache": "1",  # late points would stay behind kept answers
        }
        series: list[Series] = await self._web.get_json("/render", params=params, type=list[Series])
        names = [one.target for one in series[:SERIES]]
        for name in names:
            if name not in found:
                raise Garbled(f"{what}: an answer that was not asked for: {clean(name, 80)}")
            if names.count(name) > 1:
                number = f"{names.count(name)} or more" if len(names) >= SERIES else str(names.count(name))
                raise Garbled(f"{what}: the target yields {number} series instead of one; sum them: sumSeries(…)")
        for one in series:
            for written, at in one.datapoints:
                text = bytes(written).decode()
                found[one.target].put(at, None if text == "null" else text)


def _target(metric: Metric, every: str) -> str:
    """All that is asked at once, each part under its name."""
    parts = [f"alias({metric.value},'{VALUE}')"]
    if metric.n:
        parts.append(f"alias({metric.n},'{N}')")
    each = [
        f"summarize(isNonNull(maxSeries({one})),'$every','min',false)" for one in gathered(f"{metric.value},{metric.n}")
    ]
    # Of several series that are gathered together, one that was there is enough.
    parts.append(f"alias(minSeries({','.join(each)}),'{WHOLE}')")
    return f"group({','.join(parts)})".replace("$every", every)


def _wrong(target: str) -> str:
    """What is wrong with a target, and what to write; empty: nothing."""
    if not closes(target):
        return f"a bracket or quotation mark is not closed in {clean(target, 120)}"
    intervals = set(gathered(target).values())
    if intervals != {"$every"}:
        return (
            "it is not known what a bucket holds; write: summarize(shop.orders,'$every','sum',false), with $every wherever "
            f"something is gathered{', and not ' + clean(', '.join(sorted(intervals)), 60) if intervals else ''}"
        )
    return ""


def _connect(options: Connection, context: Context) -> Graphite:
    """Raises ValueError for an address that cannot be used, SecretError for a token that is no reference."""
    if options.user and not (options.token or options.token_acts):
        raise ValueError(f"{context.name}: `user:` needs its password, by reference, as `token:`")
    web = Web(
        options.url,
        name=context.name,
        clock=context.clock,
        token=Secret(options.token) if options.token else None,
        token_acts=Secret(options.token_acts) if options.token_acts else None,
        user=options.user,
        plaintext=options.plaintext,
        ca_file=str(context.folder / options.ca_file) if options.ca_file else "",
    )
    return Graphite(web, context.clock, options.user or ("the token's" if options.token else "nobody: no token"))


def _open(connection: Graphite, _: Any, __: Place) -> Graphite:
    return connection


ADAPTER = Adapter(
    name="graphite",
    title="Graphite",
    options=Connection,
    connect=_connect,
    metrics=Station(NoOptions, _open),
    notify=Station(NoOptions, _open),
)
