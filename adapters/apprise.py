"""Telling by Apprise: mail, Slack, Teams and a hundred others, each by an address as Apprise writes it.

Apprise brings a network code of its own. It runs in a thread under a total deadline, with plain text, no attachments, no
plug-ins of its own and nothing in the log; it uses the proxies of the environment, which nothing else here does.
"""

import asyncio
import logging
from typing import Any

import msgspec

from adapters._http_client import apart
from andon.clock import Clock
from andon.hiding import remember
from andon.model import Identity, Note
from andon.ports import ACT_LIMIT_S, Accepted, Answer, Can, Denied, NoAnswer, Refused, Unreachable
from andon.registry import Adapter, Context, NoOptions, Place, Station
from andon.secret import Secret, SecretError
from andon.text import clean

LOOKS = {"stopped": "failure", "called": "failure", "rollback": "warning", "verdict": "warning", "blind": "warning"}
"""How Apprise paints the kinds of notes; the others are `info`."""


class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom Apprise tells."""

    secret: str
    """Apprise's addresses, by reference, with blanks between them: `mailto://…`, `slack://…`. They hold the credentials."""


class NotInstalled(Exception):
    """Apprise is not here."""


class Apprise:
    """Those that Apprise tells."""

    can = Can()
    act_limit_s = ACT_LIMIT_S

    def __init__(self, name: str, addresses: Secret, clock: Clock) -> None:
        self._name = name
        self._addresses = addresses
        self._clock = clock

    async def whoami(self) -> Identity:
        """How many addresses there are, and by which services; nobody is told anything. Raises Denied, Unreachable."""
        try:
            told, unknown = await apart(self._loaded)
        except NotInstalled as error:
            raise Unreachable(str(error)) from error
        except SecretError as error:
            raise Denied(f"{self._name}: {error}") from error
        services = sorted({clean(str(one.service_name), 40) for one in told})
        missing = (f"{unknown} of its addresses, which Apprise does not understand",) if unknown else ()
        if not told and not unknown:
            missing = ("an address",)
        return Identity(f"{len(told)} addresses", "Apprise", tuple(services), missing)

    async def close(self) -> None:
        """Nothing is kept open."""

    async def tell(self, note: Note) -> Answer:
        """Tell all of them at once; one that was not told makes it no answer, as the others may have been."""
        try:
            async with asyncio.timeout(self.act_limit_s):
                return await apart(lambda: self._told(note))
        except TimeoutError:
            return NoAnswer(f"{self._name}: no answer in {self.act_limit_s:g} s; some may have been told")
        except NotInstalled as error:
            return Unreachable(str(error))
        except SecretError as error:
            return Unreachable(f"{self._name}: {error}")

    def _told(self, note: Note) -> Answer:
        """In a thread: Apprise waits for the network."""
        told, unknown = self._loaded()
        if unknown or not told:
            return Refused(f"{self._name}: {unknown or 'no'} addresses in {self._addresses.where} cannot be used")
        if told.notify(body=note.text or note.title, title=note.title, notify_type=LOOKS.get(note.kind, "info")):
            return Accepted()
        return NoAnswer(f"{self._name}: Apprise did not tell all {len(told)} of them; some may have been told")

    def _loaded(self) -> tuple[Any, int]:
        """Apprise with the addresses, opened now, and how many of them it does not understand. In a thread.

        Raises SecretError, NotInstalled.
        """
        try:
            import apprise
        except ImportError:
            raise NotInstalled(f"{self._name}: install andon[apprise] for this") from None
        for noisy in ("apprise", "urllib3"):  # their lines hold addresses
            logging.getLogger(noisy).setLevel(logging.CRITICAL)
        found = apprise.Apprise(asset=apprise.AppriseAsset(plugin_paths=[], body_format=apprise.NotifyFormat.TEXT))
        addresses = self._addresses.open().split()
        for address in addresses:
            remember(address)
        return found, sum(not found.add(address) for address in addresses)


def _connect(options: Connection, context: Context) -> Apprise:
    """Raises SecretError for what is no reference."""
    return Apprise(context.name, Secret(options.secret), context.clock)


def _notify(connection: Apprise, _: NoOptions, __: Place) -> Apprise:
    return connection


ADAPTER = Adapter(
    name="apprise",
    title="Apprise: mail, chats, and a hundred others",
    options=Connection,
    connect=_connect,
    notify=Station(NoOptions, _notify),
)
