"""Telling by webhook: a note as JSON to an address of the config, signed so that who gets it knows who sent it.

The signature is that of Standard Webhooks (standardwebhooks.com): HMAC-SHA256 of `id.timestamp.body`, the id being the same
for a repetition. The body also has the field `text` that chats with incoming webhooks show, Slack and Mattermost among them.
"""

import base64
import hashlib
import hmac
from datetime import UTC, datetime

import msgspec

from adapters._http import Web
from adapters._http_address import Address
from adapters._http_answer import Reply
from adapters._http_client import apart
from andon.clock import Clock
from andon.model import Identity, Note
from andon.ports import Accepted, Answer, Can, Denied, NoAnswer, Refused, Unreachable
from andon.registry import Adapter, Context, NoOptions, Place, Station
from andon.secret import Secret, SecretError

WRITTEN = "whsec_"
"""What a key begins with that is written in base64."""


class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where notes go. A chat's incoming webhook is a secret itself: its path belongs into `secret_path`."""

    url: str
    secret_path: str = ""
    """The path behind `url`, by reference."""
    secret: str = ""
    """The key that notes are signed with, by reference: `whsec_` and base64, or any text."""
    token_acts: str = ""
    """A secret by reference, sent as a bearer token."""
    plaintext: bool = False
    """Allows secrets to travel over http."""
    ca_file: str = ""
    """The authority that vouches for the server, if the system does not know it."""


class Webhook:
    """One address that is told."""

    can = Can()

    def __init__(self, web: Web, path: Secret | None, key: Secret | None, clock: Clock, in_the_clear: bool) -> None:
        self._web = web
        self._in_the_clear = in_the_clear
        self._path = path
        self._key = key
        self._clock = clock

    async def whoami(self) -> Identity:
        """What notes are signed with. The address itself is not asked: it takes notes, and nothing else. Raises Denied."""
        await self._open(self._path)
        await self._open(self._key)
        signed = f"signs with {self._key.where}" if self._key else "nobody: nothing is signed"
        clear = ("secrets travel in the clear (plaintext: true)",) if self._in_the_clear else ()
        return Identity(signed, f"{self._web.address}, which is not asked: the first note shows", clear)

    async def close(self) -> None:
        """Give back the connections."""
        await self._web.close()

    async def tell(self, note: Note) -> Answer:
        """Send it; the same id for a repetition, so that it can be known for one."""
        body = msgspec.json.encode(_said(note))
        try:
            path, key = await self._open(self._path), await self._open(self._key)
        except Denied as error:
            return Unreachable(str(error))
        ident, now = f"msg_{hashlib.sha256(note.key.encode()).hexdigest()[:32]}", f"{self._clock.now():.0f}"
        headers = {"webhook-id": ident, "webhook-timestamp": now, "Content-Type": "application/json"}
        if key:
            try:
                headers["webhook-signature"] = signature(key, ident, now, body)
            except ValueError:
                return Refused(f"{self._web.name}: `secret:` is no base64 behind {WRITTEN}")
        # Chats answer a plain `ok`, some of them as a web page.
        answer = await self._web.act("POST", path, content=body, headers=headers, also=(200, 201, 202, 204))
        if isinstance(answer, Reply) and answer.page:
            return NoAnswer(f"{answer.what}: a web page instead of an answer; is `url:` right?")
        return Accepted() if isinstance(answer, Reply) else answer

    async def _open(self, secret: Secret | None) -> str:
        """The secret, opened now; empty if there is none. Raises Denied."""
        if secret is None:
            return ""
        try:
            return await apart(secret.open)
        except SecretError as error:
            raise Denied(f"{self._web.name}: {error}") from error


def signature(key: str, ident: str, timestamp: str, body: bytes) -> str:
    """What stands in `webhook-signature`. Raises ValueError for a key that is no base64 behind `whsec_`."""
    secret = base64.b64decode(key.removeprefix(WRITTEN), validate=True) if key.startswith(WRITTEN) else key.encode()
    signed = hmac.new(secret, f"{ident}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(signed).decode()}"


def _said(note: Note) -> dict[str, object]:
    """A note as it is sent. In `text`, what chats would take for a link or a call to everybody is written out."""
    text = f"{note.title}: {note.text}" if note.text else note.title
    for sign, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, name)
    return {
        "type": f"andon.{note.kind}",
        "timestamp": datetime.fromtimestamp(note.at, UTC).isoformat(),
        "text": text,
        "data": {
            "line": note.line,
            "kind": note.kind,
            "title": note.title,
            "text": note.text,
            "who": note.who,
            "authors": note.authors,
            "key": note.key,
        },
    }


def _connect(options: Connection, context: Context) -> Webhook:
    """Raises ValueError for an address that cannot be used, SecretError for a secret that is no reference."""
    path = Secret(options.secret_path) if options.secret_path else None
    token = Secret(options.token_acts) if options.token_acts else None
    address = Address(options.url, name=context.name, secret=bool(token or path), plaintext=options.plaintext)
    web = Web(
        options.url,
        name=context.name,
        clock=context.clock,
        token_acts=token,
        plaintext=options.plaintext,
        ca_file=str(context.folder / options.ca_file) if options.ca_file else "",
    )
    key = Secret(options.secret) if options.secret else None
    return Webhook(web, path, key, context.clock, address.in_the_clear)


def _notify(connection: Webhook, _: NoOptions, __: Place) -> Webhook:
    return connection


ADAPTER = Adapter(
    name="webhook",
    title="Webhooks, signed; chats with incoming webhooks",
    options=Connection,
    connect=_connect,
    notify=Station(NoOptions, _notify),
)
