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
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from adapters._http_address import Address, Params
from adapters._http_answer import Call, Reply, opened, translated, whole
from adapters._http_budget import Budget, Limited
from adapters._http_events import Event, Events
from andon.clock import Clock, long_age
from andon.ports import ACT_LIMIT_S, READ_LIMIT_S, Denied, Garbled, NoAnswer, Refused, Unreachable
from andon.secret import Secret, SecretError

if TYPE_CHECKING:
    import ssl

    import httpx

__all__ = ["Event", "Events", "Limited", "Params", "Reply", "Web"]

READS_AT_ONCE = 6
"""More wait their turn; acts and streams wait for nobody."""

KEPT_ANSWERS = 64
KEPT_BYTES = 256 * 1024
"""How many answers with an ETag are kept to be asked for again, and how long one may be."""

JSON = "application/json"
ANY = "application/json, */*;q=0.5"


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
        token: Secret | None = None,
        token_acts: Secret | None = None,
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
        self._read_limit_s = read_limit_s
        self._act_limit_s = act_limit_s
        self._budget = Budget(per_minute, clock)
        self._client: httpx.AsyncClient | None = None
        self._seats = asyncio.Semaphore(READS_AT_ONCE)
        self._kept: OrderedDict[str, Reply] = OrderedDict()

    async def read(self, path: str, *, params: Params | None = None, headers: Mapping[str, str] | None = None) -> Reply:
        """GET `path`, whatever it holds. Raises Unreachable (as Limited, if it is not to be asked now), Denied, Garbled."""
        return await self._read(self.address.target(path, params), {"Accept": ANY, **(headers or {})})

    async def get_json(self, path: str, *, params: Params | None = None, type: Any = Any) -> Any:  # noqa: A002
        """GET `path` as JSON of that type, with If-None-Match where the server gave an ETag before. Raises as `read`."""
        target = self.address.target(path, params)
        kept = self._kept.get(target)
        condition = {"If-None-Match": kept.headers["etag"]} if kept else {}
        reply = await self._read(target, {"Accept": JSON, **condition})
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
        headers: Mapping[str, str] | None = None,
        type: Any = None,  # noqa: A002
        also: tuple[int, ...] = (),
    ) -> Reply | Refused | NoAnswer | Unreachable:
        """Change something. A Reply means that the server took it: 2xx, or one of the statuses in `also`.

        Refused: it would not, for good. Unreachable: nothing left, or it was turned away for now (Limited). NoAnswer:
        everything else, and a 2xx that is a web page or, where `type` is given, no such JSON. Raises nothing.
        """
        call = Call(f"{self.name}: {method}")
        if self._token and not self._token_acts:
            return Refused(f"{self.name} is read-only: set `token_acts:` for this connection")
        body = b"" if json is None else msgspec.json.encode(json)
        sent = {"Accept": ANY, **({"Content-Type": JSON} if body else {}), **(headers or {})}
        try:
            target = self.address.target(path, params)
            call.what = f"{self.name}: {method} {_shown(target)}"
            async with asyncio.timeout(self._act_limit_s):
                self._budget.act()
                sent |= await self._credential(call, self._token_acts)
                reply, words = await self._exchange(call, method, target, sent, body)
            return self._answered(call, reply, words, type, also)
        except TimeoutError:
            why = f"{call.what}: no answer in {self._act_limit_s:g} s"
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
                async with asyncio.timeout(self._read_limit_s):
                    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
                    headers |= await self._credential(call, self._token)
                    with translated(call):
                        response = await self._send(call, "GET", target, headers, b"")
                    stack.push_async_callback(response.aclose)
                    self._check(call, *await opened(call, response))
            except TimeoutError as error:
                raise Unreachable(f"{call.what}: no answer in {self._read_limit_s:g} s") from error
            kind = response.headers.get("content-type", "")
            if not kind.startswith("text/event-stream"):
                raise Garbled(f"{call.what}: not a stream of events but {call.quoted(kind, 80) or 'something unnamed'}")
            events = Events(call, response, quiet_s)
            stack.push_async_callback(events.close)
            yield events

    async def close(self) -> None:
        """Give back the connections."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    async def _read(self, target: str, headers: dict[str, str]) -> Reply:
        call = Call(f"{self.name}: GET {_shown(target)}")
        try:
            async with asyncio.timeout(self._read_limit_s), self._seats:
                self._budget.read(call.what)
                headers |= await self._credential(call, self._token)
                reply, words = await self._exchange(call, "GET", target, headers, b"")
        except TimeoutError as error:
            raise Unreachable(f"{call.what}: no answer in {self._read_limit_s:g} s") from error
        if reply.status != 304 or "If-None-Match" not in headers:
            self._check(call, reply, words)
        return reply

    def _check(self, call: Call, reply: Reply, words: str) -> None:
        """Raises what an answer to a read means, if it is not the one asked for."""
        if 200 <= reply.status < 300:
            return
        said = f"{call.what}: {self.address} answered {reply.status}{words}"
        wait_s = self._budget.heed(reply.status, reply.headers)
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
        if status in also:
            return reply
        if 200 <= status < 300:
            if kind is not None or reply.html:
                reply.json(Any if kind is None else kind)
            return reply
        said = f"{call.what}: {self.address} answered {status}{words}{call.elsewhere(reply)}"
        wait_s = self._budget.heed(status, reply.headers)
        if status == 429 and wait_s is not None:
            return Limited(said, wait_s)
        if status in (401, 403):
            return Refused(f"{said}; {self._opens(self._token_acts, 'token_acts')}")
        # Other redirects and 408 may come after the deed.
        if status in (301, 307, 308) or (400 <= status < 500 and status != 408):
            return Refused(said)
        return NoAnswer(f"{said}; it may have been done")

    def _opens(self, secret: Secret | None, key: str) -> str:
        """What would open a door that is closed to this credential."""
        if secret is None:
            return f"set `{key}:` for the connection {self.name}"
        return f"`{key}:` of the connection {self.name} ({secret.where}) is no longer valid, or may not do this"

    async def _credential(self, call: Call, secret: Secret | None) -> dict[str, str]:
        """The header that carries the secret, opened now. Raises Denied if that fails."""
        if secret is None:
            return {}
        try:
            value = await asyncio.to_thread(secret.open)
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
        with translated(call):
            response = await self._send(call, method, target, headers, body)
            try:
                reply, words = await opened(call, response)
                if reply.status < 300:
                    reply = msgspec.structs.replace(reply, body=await whole(call, response))
                return reply, words
            finally:
                await response.aclose()

    async def _send(
        self, call: Call, method: str, target: str, headers: dict[str, str], body: bytes
    ) -> "httpx.Response":
        import httpx

        if self._client is None:
            self._client = _client(self._ca_file if self.address.scheme == "https" else None)
        url = httpx.URL(
            scheme=self.address.scheme, host=self.address.host, port=self.address.port, raw_path=target.encode()
        )
        request = self._client.build_request(method, url, headers=headers, content=body or None)
        request.extensions["trace"] = call.trace
        response = await self._client.send(request, stream=True)
        call.answered = True
        return response


def _client(ca_file: str | None) -> "httpx.AsyncClient":
    """A client that knows no redirects, proxies and cookies; None: one that speaks no TLS."""
    import logging
    from http.cookiejar import CookieJar, DefaultCookiePolicy
    from importlib.metadata import version

    import httpx

    for noisy in ("httpx", "httpcore"):  # their lines hold whole addresses
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return httpx.AsyncClient(
        verify=_tls(ca_file),
        trust_env=False,
        follow_redirects=False,
        timeout=None,  # noqa: S113  # each call has a total deadline, which httpx does not know
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        # Reads have their seats; a limit here would let them keep an act waiting.
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=8, keepalive_expiry=30),
        headers={"User-Agent": f"andon/{version('andon')}", "Accept-Encoding": "identity"},
    )


@lru_cache(maxsize=8)
def _tls(ca_file: str | None) -> "ssl.SSLContext":
    """Certificates are always verified: by the authorities of `ca_file` alone, else by the system's and httpx's own.

    Shared by all connections, because loading authorities takes time; None, for plain http, loads none.
    """
    import ssl

    import httpx

    if ca_file is None:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca_file:
        try:
            context = ssl.create_default_context(cafile=ca_file)
        except OSError as error:
            raise Denied(f"ca_file: {ca_file}: {error.strerror or error}") from error
    else:
        context = httpx.create_ssl_context(trust_env=False)
        context.load_default_certs()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _shown(target: str) -> str:
    """A target without its query, for sentences."""
    path = target.partition("?")[0]
    return path if len(path) <= 120 else f"{path[:119]}…"
