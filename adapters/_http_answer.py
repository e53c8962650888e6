"""What came back: a bounded body, strict JSON, a server's words made harmless, and httpx's errors in our own."""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from andon.ports import Garbled, Unreachable
from andon.text import clean

if TYPE_CHECKING:
    import httpx

BODY_LIMIT = 8 * 2**20
"""Bytes of an answer's body; a longer one is Garbled."""

CHUNKS_LIMIT = 50_000
"""Pieces of a body: in crumbs, even a small one keeps a processor busy for long."""

VALUES_LIMIT = 250_000
"""Values of a JSON answer, lists and objects counted twice. A million of the smallest take seconds and half a gigabyte,
and the largest answer that is asked for has a tenth of these."""

HEADERS_LIMIT = 64 * 1024
"""Bytes of an answer's headers, and of the body of an error."""

WORDS_LIMIT = 200
"""Characters kept of what a server says of an error."""

REDIRECTS = (301, 302, 303, 307, 308)


class Reply(msgspec.Struct, frozen=True):
    """An answer as it came: text in it is outside text. `what` says what was asked, for errors."""

    what: str
    status: int
    headers: Mapping[str, str] = {}
    """Names in lower case."""
    body: bytes = b""

    @property
    def html(self) -> bool:
        """Whether it is a web page, which no API answers with."""
        return "html" in self.headers.get("content-type", "").lower() or self.body.lstrip()[:1] == b"<"

    @property
    def page(self) -> bool:
        """Whether its body is one, whatever it calls itself: some call a plain word a web page."""
        return self.body.lstrip()[:1] == b"<"

    def json(self, type: Any = Any) -> Any:  # noqa: A002 - as msgspec calls it
        """The body, strictly: no NaN, no infinity, nothing cut, of the given type. Raises Garbled."""
        if self.html:
            raise Garbled(
                f"{self.what}: a web page instead of JSON; is `url:` right, or does a login page stand in front of it?"
            )
        return decoded(self.what, self.body, type)

    def text(self) -> str:
        """The body as text; bytes that are none are replaced."""
        return self.body.decode("utf-8", "replace")

    def words(self) -> str:
        """What the server says of its error, as it says it."""
        if self.page:
            return "a web page"
        try:
            said = msgspec.json.decode(self.body)
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            return self.text()
        for _ in range(3):
            if isinstance(said, dict):
                keys = ("message", "error", "detail", "error_description", "errors", "reason")
                said = next((said[key] for key in keys if said.get(key)), "")
            elif isinstance(said, list):
                said = said[0] if said else ""
        return said if isinstance(said, str) else ""


class Call:
    """One exchange on its way: what was asked, whether anything of it may have left, and the secret it carries."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.sent = False
        self.answered = False
        self.secret: tuple[str, ...] = ()

    async def trace(self, event: str, _: Any) -> None:
        """Told by httpx of each step."""
        if event.endswith("send_request_headers.started"):
            self.sent = True

    def quoted(self, words: str, limit: int = WORDS_LIMIT) -> str:
        """A server's words: harmless, short, and without our secret, should it repeat it."""
        for secret in self.secret:
            words = words.replace(secret, "***")
        return clean(" ".join(words.split()), limit)

    def elsewhere(self, reply: Reply) -> str:
        """Where a redirect leads, which is not followed; empty for another answer."""
        if reply.status not in REDIRECTS:
            return ""
        try:
            host = urlsplit(reply.headers.get("location", "")).hostname
        except ValueError:
            host = None
        where = f"to {self.quoted(host, 100)}" if host else "to another path of its own"
        return f"; it redirects {where}, which is not followed: correct `url:`, or log in there"


def decoded(what: str, body: bytes, kind: Any) -> Any:
    """JSON as `kind`. Raises Garbled.

    This stays on the caller's thread: msgspec keeps the interpreter's lock, so that another thread would win nothing.
    """
    if not body:
        raise Garbled(f"{what}: an empty answer instead of JSON")
    if body.count(b",") + 2 * (body.count(b"[") + body.count(b"{")) > VALUES_LIMIT:
        raise Garbled(f"{what}: the answer holds more values than can be meant")
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise Garbled(f"{what}: not what was asked for: {clean(str(error), WORDS_LIMIT)}") from error
    except (msgspec.DecodeError, UnicodeError) as error:
        raise Garbled(f"{what}: not JSON: {clean(str(error), WORDS_LIMIT)}") from error
    except RecursionError as error:
        raise Garbled(f"{what}: not JSON that can be read: it is nested too deep") from error


async def opened(call: Call, response: "httpx.Response") -> tuple[Reply, str]:
    """The answer but for a good body; of an error's, `: ` and the words. Raises Garbled for headers without end."""
    size = sum(len(name) + len(value) + 4 for name, value in response.headers.raw)
    if size > HEADERS_LIMIT:
        raise Garbled(f"{call.what}: the answer's headers have {size} bytes, more than {HEADERS_LIMIT}")
    reply = Reply(call.what, response.status_code, dict(response.headers.items()))
    if reply.status < 400:
        return reply, ""
    reply = msgspec.structs.replace(reply, body=await _beginning(call, response))
    words = call.quoted(reply.words())
    return reply, f": {words}" if words else ""


async def whole(call: Call, response: "httpx.Response") -> bytes:
    """The whole body. Raises Garbled if it is packed or too long."""
    unpacked(call, response)
    body = bytearray()
    async for chunk in pieces(call, response):
        body += chunk
        if len(body) > BODY_LIMIT:
            raise Garbled(f"{call.what}: the answer is longer than {BODY_LIMIT // 2**20} MiB")
    return bytes(body)


async def pieces(call: Call, response: "httpx.Response", most: int = CHUNKS_LIMIT) -> AsyncGenerator[bytes, None]:
    """A body as it comes; however small its pieces, others have their turn. Raises Garbled for too many (0: any number)."""
    number = 0
    async for chunk in response.aiter_raw():
        number += 1
        if most and number > most:
            raise Garbled(f"{call.what}: the answer comes in crumbs")
        if number % 50 == 0:
            await asyncio.sleep(0)
        yield chunk


def unpacked(call: Call, response: "httpx.Response") -> None:
    """Raises Garbled for a body that is packed: nobody asked for it, and a small one can unpack to a huge one."""
    packing = response.headers.get("content-encoding", "identity").strip().lower()
    if packing not in ("", "identity"):
        raise Garbled(f"{call.what}: the answer is packed ({call.quoted(packing, 20)}), which was not asked for")


async def _beginning(call: Call, response: "httpx.Response") -> bytes:
    """The beginning of an error's body; none if it cannot be had: the status says enough."""
    import ssl

    import httpx

    body = bytearray()
    if response.headers.get("content-encoding", "identity") == "identity":
        with contextlib.suppress(httpx.TransportError, ssl.SSLError, Garbled):
            async for chunk in pieces(call, response):
                body += chunk
                if len(body) > HEADERS_LIMIT:
                    break
    return bytes(body)


@contextlib.contextmanager
def translated(call: Call) -> Iterator[None]:
    """Turns the errors of httpx into Unreachable and Garbled; the one place that knows them."""
    import ssl

    import httpx

    try:
        yield
    except httpx.ConnectError as error:
        where = f"{error.request.url.host}:{error.request.url.port or error.request.url.scheme}"
        raise Unreachable(f"{call.what}: {_reason(error, where)}") from error
    except httpx.LocalProtocolError:
        # Its text and its cause may hold the header it complains about.
        raise Garbled(f"{call.what}: the request cannot be written as HTTP") from None
    except httpx.RemoteProtocolError as error:
        if call.answered:
            raise Garbled(f"{call.what}: the answer was cut short") from error
        if "too long" in str(error):
            raise Garbled(f"{call.what}: the answer's headers have more than {HEADERS_LIMIT} bytes") from error
        if "disconnected" in str(error):
            raise Unreachable(f"{call.what}: the server hung up without an answer") from error
        raise Garbled(f"{call.what}: the answer is not HTTP") from error
    except (httpx.TransportError, ssl.SSLError) as error:  # the latter for a broken record, which httpx lets through
        if call.answered:
            raise Garbled(f"{call.what}: the answer was cut short") from error
        raise Unreachable(f"{call.what}: the connection broke before an answer") from error
    except (httpx.InvalidURL, UnicodeError) as error:
        raise Garbled(f"{call.what}: this cannot be asked for") from error


def _reason(error: BaseException, where: str) -> str:
    """Why there is no connection: the innermost reason, and what to do about a certificate."""
    words = str(error)
    seen: BaseException | None = error
    while seen is not None:
        if refused := getattr(seen, "verify_message", ""):
            words = f"the server's certificate is not trusted: {refused}; name its authority with `ca_file:`"
            return clean(words, 300)
        if isinstance(seen, OSError):
            # asyncio puts addresses where others say why; numbers below zero are those of name resolution.
            number = seen.errno or 0
            words = os.strerror(number) if number > 0 else seen.strerror or words
        seen = seen.__cause__ or seen.__context__
    return clean(f"cannot connect to {where}: {words}", WORDS_LIMIT)
