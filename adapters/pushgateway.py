"""Marks in Prometheus, through its Pushgateway: when each kind of note was last told of a line.

The series is `andon_mark_timestamp_seconds{job="andon", line=…, kind=…}`: a chart that wants marks asks for
`changes(andon_mark_timestamp_seconds[$__interval]) > 0`. No text goes there: it would be a label, and make a new series.
"""

import re
from urllib.parse import quote

import msgspec

from adapters._http import Web
from adapters._http_answer import Reply
from adapters._http_budget import date_of
from andon.clock import Clock
from andon.model import Identity, Note
from andon.ports import Accepted, Answer, Can, Garbled
from andon.registry import Adapter, Context, NoOptions, Place, Station
from andon.secret import Secret

SERIES = "andon_mark_timestamp_seconds"
TEXT = f"# HELP {SERIES} When a note of this kind was last told.\n# TYPE {SERIES} gauge\n{SERIES} "


class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to reach the gateway."""

    url: str
    token_acts: str = ""
    """A secret by reference, for a proxy in front; sent as a bearer token, or as the password of `user`."""
    token: str = ""
    """The same, for `andon check`."""
    user: str = ""
    plaintext: bool = False
    """Allows the token to travel over http."""
    ca_file: str = ""
    """The authority that vouches for the server, if the system does not know it."""


class Pushgateway:
    """One gateway, that is given marks."""

    can = Can()

    def __init__(self, web: Web, clock: Clock, account: str) -> None:
        self._web = web
        self._clock = clock
        self._account = account

    async def whoami(self) -> Identity:
        """What it is and what time it is there. Raises as a read."""
        reply = await self._web.read("/api/v1/status")
        try:
            found = reply.json()["data"]["build_information"]["version"]
        except (KeyError, TypeError) as error:
            raise Garbled(f"{self._web.name}: it does not answer as a Pushgateway does; is `url:` right?") from error
        version = (
            found if isinstance(found, str) and re.fullmatch(r"[0-9A-Za-z.+-]{1,40}", found) else "tells no version"
        )
        clear = ("the token travels in the clear (plaintext: true)",) if self._web.address.in_the_clear else ()
        return Identity(self._account, f"Pushgateway {version}", clear, clock=date_of(reply.headers))

    async def close(self) -> None:
        """Give back the connections."""
        await self._web.close()

    async def tell(self, note: Note) -> Answer:
        """Set the time of the newest note of its line and kind."""
        path = f"/metrics/job/andon/line/{quote(note.line, safe='')}/kind/{quote(note.kind, safe='')}"
        body = f"{TEXT}{note.at or self._clock.now():.3f}\n".encode()
        # PUT replaces this group, which is one series, and nothing else.
        answer = await self._web.act("PUT", path, content=body, headers={"Content-Type": "text/plain; version=0.0.4"})
        return Accepted() if isinstance(answer, Reply) else answer


def _connect(options: Connection, context: Context) -> Pushgateway:
    """Raises ValueError for an address that cannot be used, SecretError for a token that is no reference."""
    if options.user and not options.token_acts:
        raise ValueError(f"{context.name}: `user:` needs its password, by reference, as `token_acts:`")
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
    return Pushgateway(
        web, context.clock, options.user or ("the token's" if options.token_acts else "nobody: no token")
    )


def _notify(connection: Pushgateway, _: NoOptions, __: Place) -> Pushgateway:
    return connection


ADAPTER = Adapter(
    name="pushgateway",
    title="Prometheus Pushgateway",
    options=Connection,
    connect=_connect,
    notify=Station(NoOptions, _notify),
)
