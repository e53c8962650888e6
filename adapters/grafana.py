"""Marks in Grafana: each note an annotation, tagged `andon`, with the line and the kind of the note.

Written after its published reference of `POST /api/annotations`. A mark belongs to the organisation of its token, and is
shown on every dashboard that asks for the tag.
"""

import html
import re

import msgspec

from adapters._http import Web
from adapters._http_answer import Reply
from adapters._http_budget import date_of
from andon.clock import Clock
from andon.model import Identity, Note
from andon.ports import Accepted, Answer, Can, Garbled
from andon.registry import Adapter, Context, NoOptions, Place, Station
from andon.secret import Secret


class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to reach the server."""

    url: str
    token_acts: str
    """A service account's token, by reference; it needs `annotations:create`."""
    token: str = ""
    """One that may read annotations (`annotations:read`), for `andon check`."""
    plaintext: bool = False
    """Allows the tokens to travel over http."""
    ca_file: str = ""
    """The authority that vouches for the server, if the system does not know it."""


class Health(msgspec.Struct):
    """What the server says of itself, to everybody."""

    database: str
    version: str = ""


class Made(msgspec.Struct):
    """The answer to a new annotation."""

    id: int


class Grafana:
    """One organisation of a server, that is given marks."""

    can = Can()

    def __init__(self, web: Web, clock: Clock, *, reads: bool) -> None:
        self._web = web
        self._clock = clock
        self._reads = reads

    async def whoami(self) -> Identity:
        """Whether it is there and well, and whether the reading token is good. Raises as a read."""
        async with self._web.in_time("whoami", 2):
            reply = await self._web.read("/api/health")
            health: Health = reply.json(Health)
            if self._reads:
                found = await self._web.get_json("/api/annotations", params={"limit": 1, "tags": "andon"})
                if not isinstance(found, list):
                    raise Garbled(f"{self._web.name}: it does not answer as Grafana does; is `url:` right?")
        version = health.version if re.fullmatch(r"[0-9A-Za-z.+-]{1,40}", health.version) else "tells no version"
        clear = ("the token travels in the clear (plaintext: true)",) if self._web.address.in_the_clear else ()
        return Identity(
            account="the token's",
            server=f"Grafana {version}",
            found=(
                "may read annotations" if self._reads else "`token_acts:` is not tried: the first mark shows",
                *clear,
            ),
            missing=() if health.database == "ok" else ("its database",),
            clock=date_of(reply.headers),
        )

    async def close(self) -> None:
        """Give back the connections."""
        await self._web.close()

    async def tell(self, note: Note) -> Answer:
        """Leave a mark at the note's time."""
        said = {
            "time": round(1000 * (note.at or self._clock.now())),
            "tags": ["andon", note.line, note.kind],
            # Grafana shows it as HTML.
            "text": html.escape(f"{note.title}: {note.text}" if note.text else note.title, quote=False),
        }
        answer = await self._web.act("POST", "/api/annotations", json=said, type=Made)
        return Accepted(str(answer.json(Made).id)) if isinstance(answer, Reply) else answer


def _connect(options: Connection, context: Context) -> Grafana:
    """Raises ValueError for an address that cannot be used, SecretError for a token that is no reference."""
    web = Web(
        options.url,
        name=context.name,
        clock=context.clock,
        token=Secret(options.token) if options.token else None,
        token_acts=Secret(options.token_acts),
        plaintext=options.plaintext,
        ca_file=str(context.folder / options.ca_file) if options.ca_file else "",
    )
    return Grafana(web, context.clock, reads=bool(options.token))


def _notify(connection: Grafana, _: NoOptions, __: Place) -> Grafana:
    return connection


ADAPTER = Adapter(
    name="grafana",
    title="Grafana annotations",
    options=Connection,
    connect=_connect,
    notify=Station(NoOptions, _notify),
)
