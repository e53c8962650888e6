"""Where requests may go: one origin, whatever address or path they are given."""

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import quote, unquote, urlencode, urlsplit

from andon.ports import Garbled
from andon.text import clean

Params = Mapping[str, str | int | float]

PORTS = {"http": 80, "https": 443}
_ABSOLUTE = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//")


class Address:
    """A server's origin, with the path that stands in front of every path of it."""

    scheme: str
    host: str
    port: int

    def __init__(self, base_url: str, *, name: str, secret: bool, plaintext: bool) -> None:
        """Raises ValueError for an address that cannot be used, or that would send a secret in the clear."""
        where = f"{name}: url"
        if not re.fullmatch(r"[!-~]+", base_url) or "\\" in base_url:
            raise ValueError(f"{where}: only printable ASCII without blanks and backslashes is allowed")
        parts = urlsplit(base_url)
        if parts.scheme not in PORTS or not parts.hostname:
            raise ValueError(f"{where}: write it as https://host or http://host:port")
        try:
            self.port = parts.port or PORTS[parts.scheme]
        except ValueError as error:
            raise ValueError(f"{where}: the port is not a number from 1 to 65535") from error
        if "@" in parts.netloc:
            raise ValueError(f"{where}: no user and password in it; give the secret by reference, as `token:`")
        if parts.query or parts.fragment:
            raise ValueError(f"{where}: nothing may follow the path")
        self.name, self.scheme, self.host = name, parts.scheme, parts.hostname
        self.prefix = parts.path.rstrip("/")
        self.in_the_clear = secret and self.scheme == "http" and not _loopback(self.host)
        """Whether a secret travels unencrypted beyond this machine."""
        if self.in_the_clear and not plaintext:
            raise ValueError(
                f"{where}: the credential would travel in the clear to {clean(self.host, 100)}; "
                "use https, or allow it with `plaintext: true`"
            )

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def target(self, path: str, params: Params | None = None) -> str:
        """What stands in the request line for a path below the configured one, or an absolute address of this origin.

        Raises Garbled for an address of another origin, and for a path that leads upwards.
        """
        path = self._own(path) if _ABSOLUTE.match(path) else f"{self.prefix}/{path.removeprefix('/')}"
        before, mark, query = path.partition("?")
        if any(unquote(part) in (".", "..") for part in before.split("/")):
            raise Garbled(f"{self.name}: {clean(path, 100)!r} is not asked for: it leads upwards")
        try:
            target = quote(before, safe="/%:@!$&'()*+,;=~") + mark + quote(query, safe="/%:@!$'()*+,;=~?&")
            return f"{target}{'&' if mark else '?'}{urlencode(params)}" if params else target
        except UnicodeEncodeError as error:
            raise Garbled(f"{self.name}: {clean(path, 100)!r} is not asked for: it holds half a character") from error

    def _own(self, url: str) -> str:
        """Path and query of an absolute address, as servers name the next page, if it is of this origin."""
        try:
            parts = urlsplit(url)
            port = parts.port or PORTS.get(parts.scheme, 0)
            same = (parts.scheme, parts.hostname, port) == (self.scheme, self.host, self.port)
        except ValueError:
            same = False
        if not same or "@" in parts.netloc or "\\" in url:
            raise Garbled(f"{self.name}: {clean(url, 100)!r} is not an address of {self}; nothing was sent there")
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
