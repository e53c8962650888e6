"""The client beneath `_http`: no redirects, proxies and cookies, verified certificates, and dead connections noticed."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from adapters._http_answer import HEADERS_LIMIT
from andon.ports import Denied

if TYPE_CHECKING:
    import ssl

    import httpx

T = TypeVar("T")

READ_AT_ONCE = 16 * 1024
"""Bytes of an answer that are parsed in one go: however small its parts, nobody else in the loop waits long."""

ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 12_000}
"""A peer that went without a word (sleep, a firewall that forgot) is noticed within half a minute; not all systems can."""


async def apart(work: Callable[[], T]) -> T:
    """What `work` gives or raises, from a thread of its own: shared ones may all wait for a keyring that is silent."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(found: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(found)  # type: ignore[arg-type]  # T may be None itself
        else:
            done.set_exception(error)

    def run() -> None:
        found: T | None = None
        failed: BaseException | None = None
        try:
            found = work()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
            failed = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, found, failed)

    threading.Thread(target=run, name="apart", daemon=True).start()
    return await done


def client(ca_file: str | None) -> "httpx.AsyncClient":
    """A client that knows no redirects, proxies and cookies; None: one that speaks no TLS. Raises Denied.

    Takes a while the first time: it loads the HTTP library.
    """
    import logging
    from http.cookiejar import CookieJar, DefaultCookiePolicy
    from importlib.metadata import version

    import httpcore
    import httpx

    for noisy in ("httpx", "httpcore"):  # their lines hold whole addresses
        logging.getLogger(noisy).setLevel(logging.WARNING)
    httpcore.AsyncHTTP11Connection.READ_NUM_BYTES = READ_AT_ONCE
    httpcore.AsyncHTTP11Connection.MAX_INCOMPLETE_EVENT_SIZE = HEADERS_LIMIT
    transport = httpx.AsyncHTTPTransport(
        verify=_tls(ca_file),
        trust_env=False,
        # Reads have their seats; a limit here would let them keep an act waiting.
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=8, keepalive_expiry=30),
        socket_options=_options(),
    )
    return httpx.AsyncClient(
        transport=transport,
        trust_env=False,
        follow_redirects=False,
        timeout=None,  # noqa: S113  # each call has a total deadline, which httpx does not know
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        headers={"User-Agent": f"andon/{version('andon')}", "Accept-Encoding": "identity"},
    )


def _options() -> list[tuple[int, int, int]]:
    found = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    found += [(socket.IPPROTO_TCP, getattr(socket, name), it) for name, it in ALIVE.items() if hasattr(socket, name)]
    return found


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
