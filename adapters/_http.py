"""The one HTTP client of the adapters: what it sends goes to one origin, what it reads is bounded in time and size.

A `Web` belongs to one connection of the config. Credentials never travel to another origin, because no other can be
asked; redirects are not followed, cookies not kept, proxies of the environment not used, and nothing is retried. Reads
raise `Unreachable`, `Denied` or `Garbled`; acts return an answer of `andon.ports` and raise nothing.
"""

import asyncio
import base64
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from adapters._http_address import Address, Params
from adapters._http_answer import Call, Reply, opened, translated, whole
from adapters._http_budget import Budget, Limited, turned_away
from adapters._http_client import apart, client
from adapters._http_events import Event, Events
from andon.clock import Clock, long_age
from andon.ports import ACT_LIMIT_S, READ_LIMIT_S, Denied, Garbled, NoAnswer, Refused, Unreachable
from andon.secret import SecretError

if TYPE_CHECKING:
    import httpx

__all__ = ["Event", "Events", "Limited", "Params", "Reply", "Web"]

READS_AT_ONCE = 6
"""More wait their turn; acts and streams wait for nobody."""

KEPT_ANSWERS = 64
KEPT_BYTES = 256 * 1024
"""How many answers with an ETag are kept to be asked for again, and how long one may be."""

JSON = "application/json"
ANY = "application/json, */*;q=0.5"


class Openable(Protocol):
    """A secret that is opened at the moment of use: an `andon.secret.Secret`, or what an adapter makes of one."""

    reference: str
    """What it is named by; one that begins with `held:` is in memory, and opens at once."""

    @property
    def where(self) -> str:
        """The reference in words that may be shown."""

    def open(self) -> str:
        """The secret itself. Raises SecretError."""


class Web:
    """One server, as one connection of the config reaches it. Nothing is opened before the first request.

    `token` is opened for reads and `token_acts` for acts, each time anew. The secret is sent as `header: scheme secret`,
    or as the password of `user` (Basic). Raises ValueError for an address that cannot be used, or that would send a
    credential in the clear beyond this machine without `plaintext`.
    """

    def __init__(
        self,
        base_url: str,
        *,
        name: str,
        clock: Clock,
        token: Openable | None = None,
        token_acts: Openable | None = None,
        user: str = "",
        header: str = "Authorization",
        scheme: str = "Bearer",
        plaintext: bool = False,
        ca_file: str = "",
        per_minute: float = 0.0,
        read_limit_s: float = READ_LIMIT_S,
        act_limit_s: float = ACT_LIMIT_S,
    ) -> None:
        self.name = name
        self.address = Address(base_url, name=name, secret=bool(token or token_acts), plaintext=plaintext)
        self._token = token
        self._token_acts = token_acts
        self._user = user
        self._header = header
        self._scheme = scheme
        self._ca_file = ca_file
        self.read_limit_s = read_limit_s
        self.act_limit_s = act_limit_s
        self._budget = Budget(per_minute, clock)
        self._client: httpx.AsyncClient | None = None
        self._opening = asyncio.Lock()
        self._seats = asyncio.Semaphore(READS_AT_ONCE)
        self._kept: OrderedDict[str, Reply] = OrderedDict()

    async def read(
        self,
        path: str,
        *,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
        for_act: bool = False,
        also: tuple[int, ...] = (),
    ) -> Reply:
        """GET `path`, whatever it holds. Raises Unreachable (as Limited, if it is not to be asked now), Denied, Garbled.

        `also`: statuses beside 2xx that are an answer, and are not raised; `for_act` as for `get_json`.
        """
        target = self.address.target(path, params)
        return await self._read(target, {"Accept": ANY, **(headers or {})}, for_act=for_act, also=also)

    async def get_json(
        self,
        path: str,
        *,
        params: Params | None = None,
        type: Any = Any,  # noqa: A002 - as msgspec calls it
        for_act: bool = False,
    ) -> Any:
        """GET `path` as JSON of that type, with If-None-Match where the server gave an ETag before. Raises as `read`.

        `for_act`: an act depends on it; like an act it waits for nobody, whatever the budget and the server say.
        """
        target = self.address.target(path, params)
        kept = self._kept.get(target)
        condition = {"If-None-Match": kept.headers["etag"]} if kept else {}
        reply = await self._read(target, {"Accept": JSON, **condition}, for_act=for_act)
        if reply.status == 304 and kept:
            self._kept.move_to_end(target)
            return kept.json(type)
        value = reply.json(type)
        self._kept.pop(target, None)
        if reply.headers.get("etag") and len(reply.body) <= KEPT_BYTES:
            self._kept[target] = reply
            while len(self._kept) > KEPT_ANSWERS:
                self._kept.popitem(last=False)
        return value

    async def get_text(self, path: str, *, params: Params | None = None) -> str:
        """GET `path` as text. Raises as `read`."""
        return (await self.read(path, params=params, headers={"Accept": "text/plain, */*;q=0.5"})).text()

    async def act(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        json: Any = None,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        type: Any = None,  # noqa: A002 - as msgspec calls it
        also: tuple[int, ...] = (),
    ) -> Reply | Refused | NoAnswer | Unreachable:
        """Change something. A Reply means that the server took it: 2xx, or one of the statuses in `also`.

        Refused: it would not, for good. Unreachable: nothing left, or it was turned away for now (Limited). NoAnswer:
        everything else, and a 2xx that is a web page or, where `type` is given, no such JSON. Raises nothing. `content`: a
        body as it is, whose Content-Type stands in `headers`.
        """
        call = Call(f"{self.name}: {method}")
        if self._token and not self._token_acts:
            return Refused(f"{self.name} is read-only: set `token_acts:` for this connection")
        body = content if json is None else msgspec.json.encode(json)
        sent = {"Accept": ANY, **({"Content-Type": JSON} if body else {}), **(headers or {})}
        try:
            target = self.address.target(path, params)
            call.what = f"{self.name}: {method} {_shown(target)}"
            async with asyncio.timeout(self.act_limit_s):
                self._budget.act()
                sent |= await self._credential(call, self._token_acts)
                reply, words = await self._exchange(call, method, target, sent, body)
            return self._answered(call, reply, words, type, also)
        except TimeoutError:
            why = f"{call.what}: no answer in {self.act_limit_s:g} s"
        except (Unreachable, Denied, Garbled) as error:
            why = str(error)
        return NoAnswer(f"{why}; it may have been done") if call.sent else Unreachable(why)

    @contextlib.asynccontextmanager
    async def stream_events(
        self, path: str, *, params: Params | None = None, quiet_s: float | None = 60.0
    ) -> AsyncIterator[Events]:
        """Server-sent events of `path`, until the block is left. Raises as `read`, also while listening.

        After `quiet_s` without a single byte (None: never) it is Unreachable.
        """
        target = self.address.target(path, params)
        call = Call(f"{self.name}: stream {_shown(target)}")
        self._budget.read(call.what)
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self.read_limit_s):
                    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
                    headers |= await self._credential(call, self._token)
                    sender = await self._ready()
                    with translated(call):
                        response = await self._send(sender, call, "GET", target, headers, b"")
                    stack.push_async_callback(response.aclose)
                    self._check(call, *await opened(call, response))
            except TimeoutError as error:
                raise Unreachable(f"{call.what}: no answer in {self.read_limit_s:g} s") from error
            kind = response.headers.get("content-type", "")
            if not kind.startswith("text/event-stream"):
                raise Garbled(f"{call.what}: not a stream of events but {call.quoted(kind, 80) or 'something unnamed'}")
            events = Events(call, response, quiet_s)
            stack.push_async_callback(events.close)
            yield events

    @contextlib.asynccontextmanager
    async def in_time(self, what: str, parts: int = 1) -> AsyncIterator[None]:
        """Reads that are one question: together they may take as long as one (or as `parts`). Raises Unreachable."""
        limit_s = self.read_limit_s * parts
        try:
            async with asyncio.timeout(limit_s):
                yield
        except TimeoutError as error:
            raise Unreachable(f"{self.name}: {what}: no answer in {limit_s:g} s") from error

    async def close(self) -> None:
        """Give back the connections."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    async def _read(
        self, target: str, headers: dict[str, str], *, for_act: bool = False, also: tuple[int, ...] = ()
    ) -> Reply:
        call = Call(f"{self.name}: GET {_shown(target)}")
        seat = contextlib.nullcontext() if for_act else self._seats
        try:
            async with asyncio.timeout(self.read_limit_s), seat:
                self._budget.act() if for_act else self._budget.read(call.what)
                headers |= await self._credential(call, self._token)
                reply, words = await self._exchange(call, "GET", target, headers, b"")
        except TimeoutError as error:
            raise Unreachable(f"{call.what}: no answer in {self.read_limit_s:g} s") from error
        if reply.status not in also:
            self._check(call, reply, words, conditional="If-None-Match" in headers)
        else:
            self._budget.heed(reply.status, reply.headers)
        return reply

    def _check(self, call: Call, reply: Reply, words: str, *, conditional: bool = False) -> None:
        """Raises what an answer to a read means, if it is not the one asked for."""
        wait_s = self._budget.heed(reply.status, reply.headers)
        if (200 <= reply.status < 300 and reply.status != 206) or (reply.status == 304 and conditional):
            return
        said = f"{call.what}: {self.address} answered {reply.status}{words}"
        if wait_s is not None:
            raise Limited(f"{said}; no more reads for {long_age(wait_s)}", wait_s)
        if reply.status in (401, 403):
            raise Denied(f"{said}; {self._opens(self._token, 'token')}")
        raise Garbled(said + call.elsewhere(reply))

    def _answered(
        self, call: Call, reply: Reply, words: str, kind: Any, also: tuple[int, ...]
    ) -> Reply | Refused | NoAnswer | Unreachable:
        """What an answer to an act means. Raises Garbled for a success that is not told as such."""
        status = reply.status
        wait_s = self._budget.heed(status, reply.headers)
        if status in also:
            return reply
        if 200 <= status < 300:
            if kind is not None or reply.html:
                reply.json(Any if kind is None else kind)
            return reply
        said = f"{call.what}: {self.address} answered {status}{words}{call.elsewhere(reply)}"
        if wait_s is not None and turned_away(status, reply.headers):
            return Limited(said, wait_s)
        if status in (401, 403):
            return Refused(f"{said}; {self._opens(self._token_acts, 'token_acts')}")
        # Other redirects and 408 may come after the deed.
        if status in (301, 307, 308) or (400 <= status < 500 and status != 408):
            return Refused(said)
        return NoAnswer(f"{said}; it may have been done")

    def _opens(self, secret: Openable | None, key: str) -> str:
        """What would open a door that is closed to this credential."""
        if secret is None:
            return f"set `{key}:` for the connection {self.name}"
        return f"`{key}:` of the connection {self.name} ({secret.where}) is no longer valid, or may not do this"

    async def _credential(self, call: Call, secret: Openable | None) -> dict[str, str]:
        """The header that carries the secret, opened now. Raises Denied if that fails."""
        if secret is None:
            return {}
        try:
            # These answer at once, and need not wait until a thread has been started.
            quick = secret.reference.startswith(("env:", "file:", "held:"))
            value = secret.open() if quick else await apart(secret.open)
        except SecretError as error:
            raise Denied(f"{self.name}: {error}") from error
        if not value.isascii() or value != value.strip():
            # The HTTP library would refuse it, too, and show it.
            raise Denied(f"{self.name}: {secret.where}: it holds a character that no header can carry")
        if self._user:
            packed = base64.b64encode(f"{self._user}:{value}".encode()).decode()
            call.secret = (packed, value)
            return {self._header: f"Basic {packed}"}
        call.secret = (value,)
        return {self._header: f"{self._scheme} {value}".strip()}

    async def _exchange(
        self, call: Call, method: str, target: str, headers: dict[str, str], body: bytes
    ) -> tuple[Reply, str]:
        """Send, and read the whole answer; with the server's words if it is an error. Raises Unreachable, Garbled."""
        sender = await self._ready()
        with translated(call):
            response = await self._send(sender, call, method, target, headers, body)
            try:
                reply, words = await opened(call, response)
                if reply.status < 300:
                    reply = msgspec.structs.replace(reply, body=await whole(call, response))
                return reply, words
            finally:
                await response.aclose()

    async def _ready(self) -> "httpx.AsyncClient":
        """The client, made in a thread at the first call: loading it would hold up everybody else in the loop."""
        async with self._opening:
            if self._client is None:
                ca_file = self._ca_file if self.address.scheme == "https" else None
                self._client = await apart(lambda: client(ca_file))
            return self._client

    async def _send(
        self, sender: "httpx.AsyncClient", call: Call, method: str, target: str, headers: dict[str, str], body: bytes
    ) -> "httpx.Response":
        import httpx

        url = httpx.URL(
            scheme=self.address.scheme, host=self.address.host, port=self.address.port, raw_path=target.encode()
        )
        request = sender.build_request(method, url, headers=headers, content=body or None)
        request.extensions["trace"] = call.trace
        response = await sender.send(request, stream=True)
        call.answered = True
        return response


def _shown(target: str) -> str:
    """A target without its query, for sentences."""
    path = target.partition("?")[0]
    return path if len(path) <= 120 else f"{path[:119]}…"
