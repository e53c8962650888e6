"""One Buildbot master, as the stations of a connection share it: what it lists, and what it is told to do."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import msgspec

from adapters._buildbot_facts import Builder, Listing
from adapters._http import Reply, Web
from andon.ports import Accepted, Answer, Denied, Garbled, NoAnswer, Refused, Unreachable
from andon.registry import Context
from andon.secret import Secret

T = TypeVar("T")

FINISH_S = 2.0
"""How long answers that nobody waits for any more are listened to before the connections are closed."""


class ConnectionOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of a connection to a Buildbot master."""

    url: str
    """Where its web pages are, as `http://ci.internal:8010`."""
    token: str = ""
    """Sent as `Authorization: Bearer`, for a proxy in front of it; by reference."""
    token_acts: str = ""
    plaintext: bool = False
    ca_file: str = ""


class Master:
    """One Buildbot master, as its stations share it."""

    def __init__(self, options: ConnectionOptions, context: Context) -> None:
        self.name = context.name
        self.clock = context.clock
        self.read_only = context.read_only
        self.web = Web(
            options.url,
            name=context.name,
            clock=context.clock,
            token=Secret(options.token) if options.token else None,
            token_acts=Secret(options.token_acts) if options.token_acts else None,
            plaintext=options.plaintext,
            ca_file=options.ca_file,
        )
        self._asked: set[asyncio.Future[Listing]] = set()

    async def get(self, path: str, *, for_act: bool = False) -> Listing:
        """What the REST API lists at `path`: all of it, unless `path` holds a limit. Raises as a read.

        A question is heard to its end, even if whoever asked is gone: Buildbot 4 writes its answers from a thread, and
        may not listen to anybody any more after a client hung up in the middle (twisted/twisted#11625).
        """
        asked: asyncio.Future[Listing] = asyncio.ensure_future(
            self.web.get_json(f"api/v2/{path}", type=Listing, for_act=for_act)
        )
        self._asked.add(asked)
        asked.add_done_callback(self._answered)
        found = await asyncio.shield(asked)
        if found.missing and "limit=" not in path:
            raise Garbled(f"{self.name}: api/v2/{path.partition('?')[0]}: {found.missing} are missing in the answer")
        return found

    def _answered(self, asked: "asyncio.Future[Listing]") -> None:
        self._asked.discard(asked)
        if not asked.cancelled():
            asked.exception()  # seen, also where nobody waits for it any more

    async def close(self) -> None:
        """Give the connections back."""
        if self._asked:
            await asyncio.wait(set(self._asked), timeout=FINISH_S)
        await self.web.close()

    async def builders(self, *, for_act: bool = False) -> dict[str, Builder]:
        """All builders by name; their numbers are not in the order of the master's config. Raises as a read."""
        return {item.name: item for item in (await self.get("builders", for_act=for_act)).builders}

    async def named(self, names: Iterable[str]) -> list[Builder]:
        """The builders of those names. Raises Garbled if there is none of one."""
        known = await self.builders()
        missing = [name for name in names if name not in known]
        if missing:
            there = ", ".join(sorted(known)[:10]) or "none"
            raise Garbled(f"{self.name}: Buildbot has no builder {missing[0]!r}; there are {there}")
        return [known[name] for name in names]

    async def call(self, path: str, method: str, **params: Any) -> Answer:
        """Do something; never raises. Buildbot's errors have two shapes, and neither is one of success."""
        if self.read_only:
            return Refused("this connection is read-only")
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        reply = await self.web.act("POST", f"api/v2/{path}", json=body, type=dict[str, Any])
        if not isinstance(reply, Reply):
            return reply
        said = reply.json(dict[str, Any])
        if "error" in said:
            error = said["error"]
            words = error.get("message", "") if isinstance(error, dict) else error
            return Refused(f"{self.name}: Buildbot refused to {method} {path}: {words}")
        if "result" not in said:
            return NoAnswer(f"{self.name}: {method} {path}: this is no answer of Buildbot's; it may have been done")
        return Accepted(path)

    async def decided(self, look: Awaitable[T], act: Callable[[T], Awaitable[Answer]]) -> Answer:
        """The answer to an act before which something is read, both in the time of one act; never raises."""
        limit_s, sent = self.web.act_limit_s, False
        try:
            async with asyncio.timeout(limit_s):
                found = await look
                sent = True
                return await act(found)
        except TimeoutError:
            words = f"{self.name}: no answer in {limit_s:g} s"
            return NoAnswer(words) if sent else Unreachable(words)
        except Denied as error:
            return Refused(str(error))
        except Unreachable as error:
            return error
        except Garbled as error:
            return Unreachable(str(error))
