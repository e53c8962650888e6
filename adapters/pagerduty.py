"""Paging by PagerDuty: a stopped line triggers an alert, and a resumed one resolves it.

Written after its published reference of the Events API v2. The alert is known by the line, so that everything told of one
stop is one incident. Notes that nobody has to get up for (a verdict, a rollback, blind metrics) are told only if `kinds:`
names them.
"""

from datetime import UTC, datetime

import msgspec

from adapters._http import Web
from adapters._http_address import Address
from adapters._http_answer import Reply
from adapters._http_client import apart
from andon.clock import Clock
from andon.model import Identity, Note
from andon.ports import Accepted, Answer, Can, Denied, Refused, Unreachable
from andon.registry import Adapter, Context, NoOptions, Place, Station
from andon.secret import Secret, SecretError
from andon.text import clean

SUMMARY = 1024
"""Characters of a summary; the API refuses more."""

SEVERITY = {"stopped": "critical", "called": "critical", "rollback": "error", "verdict": "error", "blind": "warning"}
"""How bad the kinds of notes are; `resumed` resolves."""


class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which service is paged."""

    token_acts: str
    """The integration key (routing key) of the service, by reference."""
    kinds: tuple[str, ...] = ("stopped", "resumed", "called")
    """The kinds of notes that are told."""
    url: str = "https://events.pagerduty.com"
    """The address of your region's events API."""
    plaintext: bool = False
    """Allows the key to travel over http."""
    ca_file: str = ""
    """The authority that vouches for a proxy in between, if the system does not know it."""


class Taken(msgspec.Struct):
    """The answer to an event."""

    status: str
    dedup_key: str = ""


class PagerDuty:
    """One service that is paged."""

    can = Can()

    def __init__(self, web: Web, key: Secret, clock: Clock, kinds: tuple[str, ...]) -> None:
        self._web = web
        self._key = key
        self._clock = clock
        self._kinds = kinds

    async def whoami(self) -> Identity:
        """Whether the key opens. The events API has nothing to ask: it takes events, and nothing else. Raises Denied."""
        await self._opened()
        words = "the events API cannot be asked who we are: the first page shows"
        return Identity("the integration key's", f"PagerDuty, {self._web.address.host}", (words,))

    async def close(self) -> None:
        """Give back the connections."""
        await self._web.close()

    async def tell(self, note: Note) -> Answer:
        """Trigger an alert, or resolve it; the same key for everything that is told of one line."""
        if note.kind not in self._kinds:
            return Accepted("not a kind that is paged for")
        try:
            key = await self._opened()
        except Denied as error:
            return Unreachable(str(error))
        event = {
            "routing_key": key,
            "event_action": "resolve" if note.kind == "resumed" else "trigger",
            "dedup_key": f"andon/{note.line}",
            "payload": {
                "summary": clean(f"{note.title}: {note.text}" if note.text else note.title, SUMMARY),
                "source": f"andon {note.line}",
                "severity": SEVERITY.get(note.kind, "info"),
                "timestamp": datetime.fromtimestamp(note.at or self._clock.now(), UTC).isoformat(),
                "component": note.line,
                "class": note.kind,
                "custom_details": {"who": note.who, "authors": ", ".join(note.authors), "text": note.text},
            },
        }
        answer = await self._web.act("POST", "/v2/enqueue", json=event, type=Taken)
        if not isinstance(answer, Reply):
            return answer
        taken: Taken = answer.json(Taken)
        if taken.status != "success":
            return Refused(f"{self._web.name}: answered with the status {clean(taken.status, 40)!r}")
        return Accepted(taken.dedup_key)

    async def _opened(self) -> str:
        """The key, opened now. Raises Denied."""
        try:
            return await apart(self._key.open)
        except SecretError as error:
            raise Denied(f"{self._web.name}: {error}") from error


def _connect(options: Connection, context: Context) -> PagerDuty:
    """Raises ValueError for an address that cannot be used, SecretError for a key that is no reference."""
    if unknown := sorted(set(options.kinds) - {*SEVERITY, "resumed"}):
        words = f"{clean(unknown[0], 40)!r} is no kind of note; there are {', '.join([*SEVERITY, 'resumed'])}"
        raise ValueError(f"{context.name}: kinds: {words}")
    Address(options.url, name=context.name, secret=True, plaintext=options.plaintext)  # the key travels in the body
    web = Web(
        options.url,
        name=context.name,
        clock=context.clock,
        ca_file=str(context.folder / options.ca_file) if options.ca_file else "",
    )
    return PagerDuty(web, Secret(options.token_acts), context.clock, options.kinds)


def _notify(connection: PagerDuty, _: NoOptions, __: Place) -> PagerDuty:
    return connection


ADAPTER = Adapter(
    name="pagerduty",
    title="PagerDuty",
    options=Connection,
    connect=_connect,
    notify=Station(NoOptions, _notify),
)
