"""A job's log: GitHub names a storage where it lies for a minute, from which the lines asked for are fetched in ranges.

The storage is another origin: our credential does not travel there, and only hosts that the config allows are asked. A log
exists when its job is over, and never changes after that.
"""

from collections import OrderedDict
from collections.abc import Sequence
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from adapters._github_facts import lines_of
from adapters._github_hub import Hub
from adapters._http import Reply, Web
from andon.model import LogPart
from andon.ports import Garbled, Unreachable

LINES = 1000
"""Lines that are given at once."""
RANGE = 512 * 1024
"""Bytes that are fetched at once."""
RANGES = 16
"""Ranges that are fetched at most to come to a line."""
PLACES = 64
"""In how many logs it is remembered at which byte a line begins."""


class Logs:
    """The logs of one GitHub's jobs."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._places: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._stores: dict[str, Web] = {}

    async def close(self) -> None:
        """Give the connections back."""
        for store in self._stores.values():
            await store.close()

    async def read(self, path: str, start: int) -> LogPart:
        """Lines of the log at `path` from line `start` on. Raises as a read."""
        reply = await self.hub.read(path, also=(302, 404))
        if reply.status == 404:
            return LogPart((), start, done=True)  # expired, or never written
        if reply.status != 302:
            return _part(lines_of(reply.text()), start, whole=True)
        store, target = self._store(reply.headers.get("location", ""))
        line, at = self._places.get(path, (0, 0))
        if start < line:
            line, at = 0, 0
        rest = b""
        for _ in range(RANGES):
            piece = await store.read(target, headers={"Range": f"bytes={at}-{at + RANGE - 1}"}, also=(206, 416))
            body, last = _body(piece, at)
            text = rest + body
            # A line may go on in the next range.
            end = len(text) if last else text.rfind(b"\n") + 1
            lines = text[:end].split(b"\n")
            count = len(lines) - 1 if not last or not lines[-1] else len(lines)
            if last or line + count > start:
                self._places[path] = (line, at - len(rest))
                while len(self._places) > PLACES:
                    self._places.popitem(last=False)
                shown = lines_of(text[:end].decode("utf-8", "replace"))[:count]
                return _part(shown, start, whole=last, first=line)
            line, at, rest = line + count, at + len(body), text[end:]
        raise Garbled(f"{self.hub.name}: the log is too long to be read as far as line {start}")

    def _store(self, url: str) -> tuple[Web, str]:
        """What fetches from a storage, without a credential. Raises Garbled for one that is not allowed."""
        try:
            parts = urlsplit(url)
            host, origin = parts.hostname or "", f"{parts.scheme}://{parts.netloc}"
        except ValueError:
            host, origin = "", ""
        secure = parts.scheme == "https" or self.hub.web.address.scheme == "http" if origin else False
        if not secure or not any(fnmatchcase(host, allowed) for allowed in self.hub.options.log_hosts):
            raise Garbled(f"{self.hub.name}: the log lies at {host or 'nowhere'}, which `log_hosts:` does not allow")
        if origin not in self._stores:
            ca_file = self.hub.options.ca_file
            self._stores[origin] = Web(origin, name=f"{self.hub.name}: log", clock=self.hub.clock, ca_file=ca_file)
        return self._stores[origin], url


def _body(piece: Reply, at: int) -> tuple[bytes, bool]:
    """The bytes of a range, and whether they are the last ones. Raises Garbled, Unreachable."""
    if piece.status == 416:
        return b"", True
    if piece.status == 200:  # it knows no ranges, and gave all
        return piece.body[at:], True
    found = piece.headers.get("content-range", "").rpartition("/")[2]
    if not found.isdigit():
        raise Garbled(f"{piece.what}: a range without its place")
    if not piece.body:
        raise Unreachable(f"{piece.what}: an empty range")
    return piece.body, at + len(piece.body) >= int(found)


def _part(lines: Sequence[str], start: int, *, whole: bool, first: int = 0) -> LogPart:
    shown = tuple(lines[max(0, start - first) :][:LINES])
    after = start + len(shown)
    return LogPart(shown, after, done=whole and after >= first + len(lines))
