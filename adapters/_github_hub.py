"""One GitHub, as the stations of a connection share it: asked with conditions, to the last page, within its limits.

What did not change costs nothing of GitHub's hourly budget, as long as it is asked for with the ETag it had. What is left
of the budget sets the pace of the questions; a tenth of it is kept back for acts. Changes are made one after the other.
"""

import asyncio
import contextlib
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import msgspec

from adapters._github_app import App, Note
from adapters._http import Limited, Params, Reply, Web
from andon.clock import Clock
from andon.model import Deployment
from andon.ports import Accepted, Answer, Denied, Garbled, NoAnswer, Refused, Unreachable
from andon.registry import Context
from andon.secret import Secret

T = TypeVar("T")

VERSION = "2022-11-28"
HEADERS = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": VERSION}
PAGES = 20
"""More pages of one listing are not read."""
KEPT = 500
"""How many answers are remembered with their ETag, as what was read of them."""
PACE_S = 5.0
"""How often everything is asked for, as long as there is enough of the budget."""
SLOWEST_S = 120.0
"""The feed takes a source for dead that says nothing for so long."""
APART_S = 1.0
"""GitHub asks for a second between two changes."""
SECONDARY_S = 60.0
"""How long GitHub wants to be left alone that says so without a time."""


class AppOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A GitHub App, and where it is installed."""

    id: int
    installation: int


class ConnectionOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of a connection to GitHub."""

    url: str = "https://api.github.com"
    """Of its API; of an Enterprise Server https://HOST/api/v3."""
    token: str = ""
    """For reads, by reference."""
    token_acts: str = ""
    """For acts; without it nothing is changed."""
    app: AppOptions | None = None
    """Instead of `token`: an App, with `secret`, its key in base64."""
    app_acts: AppOptions | None = None
    secret: str = ""
    secret_acts: str = ""
    log_hosts: tuple[str, ...] = ("*.blob.core.windows.net", "*.actions.githubusercontent.com")
    """Where GitHub keeps logs; nothing is fetched from elsewhere."""
    plaintext: bool = False
    ca_file: str = ""


class Kept(msgspec.Struct, frozen=True):
    """What was read of an answer, with its ETag and the address of the page after it."""

    etag: str
    value: Any
    after: str


class Limits(msgspec.Struct, frozen=True):
    """What GitHub last said of its budget: requests left of so many, and when it is full again."""

    left: int
    most: int
    full_at: float


class Hub:
    """One GitHub."""

    def __init__(self, options: ConnectionOptions, context: Context) -> None:
        """Raises ValueError for what does not go together."""
        self.name = context.name
        self.clock: Clock = context.clock
        self.read_only = context.read_only
        self.options = options
        if options.token and options.app:
            raise ValueError(f"{self.name}: give `token:` or `app:`, not both")
        self.app = self._app(options.app, options.secret, "app")
        self.app_acts = self._app(options.app_acts, options.secret_acts, "app_acts")
        read = self.app.token if self.app else Secret(options.token) if options.token else None
        acts = self.app_acts.token if self.app_acts else Secret(options.token_acts) if options.token_acts else None
        self.web = Web(
            options.url,
            name=context.name,
            clock=context.clock,
            token=read,
            token_acts=acts,
            plaintext=options.plaintext,
            ca_file=options.ca_file,
        )
        self.may_act = acts is not None and not context.read_only
        self.limits: Limits | None = None
        self.runs_there: dict[str, Callable[[], Awaitable[Deployment | None]]] = {}
        """What says, of a line, what runs in its environment; a deploy target puts itself there."""
        self._kept: OrderedDict[tuple[str, Any], Kept] = OrderedDict()
        self._turn = asyncio.Lock()
        self._changed_at = -APART_S

    def _app(self, app: AppOptions | None, secret: str, key: str) -> App | None:
        if app is None:
            return None
        if not secret:
            raise ValueError(f"{self.name}: `{key}:` needs its key: set `{key.replace('app', 'secret')}:`")
        note = Note(app.id, Secret(secret), self.clock)
        plaintext, ca_file = self.options.plaintext, self.options.ca_file
        web = Web(
            self.options.url,
            name=self.name,
            clock=self.clock,
            token_acts=note,
            plaintext=plaintext,
            ca_file=ca_file,
        )
        return App(web, app.id, app.installation, self.clock)

    async def close(self) -> None:
        """Give the connections back."""
        for one in (self.web, self.app, self.app_acts):
            if one is not None:
                await one.close()

    # ---- reading

    async def read(
        self,
        path: str,
        params: Params | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        for_act: bool = False,
        also: tuple[int, ...] = (),
    ) -> Reply:
        """What is at `path`, as it comes. Raises as a read."""
        if self.app:
            await self.app.ready()
        sent = {**HEADERS, **(headers or {})}
        try:
            reply = await self.web.read(path, params=params, headers=sent, for_act=for_act, also=also)
        except Denied as error:
            if _secondary(str(error)):
                raise Limited(str(error), SECONDARY_S) from error
            raise
        self._heed(reply)
        return reply

    async def get(
        self,
        path: str,
        kind: Any,
        params: Params | None = None,
        *,
        for_act: bool = False,
    ) -> Any:
        """What is at `path`, as `kind`. Raises as a read."""
        return (await self._page(path, kind, params, for_act=for_act)).value

    async def listed(
        self, path: str, kind: Any, params: Mapping[str, str | int | float], *, for_act: bool = False
    ) -> list[Any]:
        """All pages of a listing, to the last one. `kind` is the type of a page. Raises as a read.

        Raises Garbled for one that does not end: what is not whole is not taken for it.
        """
        found: list[Any] = []
        page = await self._page(path, kind, params, for_act=for_act)
        for _ in range(PAGES):
            found.append(page.value)
            if not page.after:
                return found
            page = await self._page(page.after, kind, None, for_act=for_act)
        raise Garbled(f"{self.name}: {path} has more than {PAGES} pages; nothing is concluded from a part of them")

    async def _page(self, path: str, kind: Any, params: Params | None, *, for_act: bool) -> Kept:
        target = self.web.address.target(path, params)
        kept = self._kept.get((target, kind))
        condition = {"If-None-Match": kept.etag} if kept else {}
        reply = await self.read(path, params, headers=condition, for_act=for_act)
        if reply.status == 304 and kept:
            self._kept.move_to_end((target, kind))
            return kept
        page = Kept(reply.headers.get("etag", ""), reply.json(kind), _after(reply.headers.get("link", "")))
        self._kept.pop((target, kind), None)
        if page.etag:
            self._kept[target, kind] = page
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return page

    def _heed(self, reply: Reply) -> None:
        numbers = [reply.headers.get(f"x-ratelimit-{name}", "") for name in ("remaining", "limit", "reset")]
        if all(re.fullmatch(r"[0-9]{1,12}", number) for number in numbers):
            left, most, full_at = (int(number) for number in numbers)
            self.limits = Limits(left, most, float(full_at))

    @property
    def pace_s(self) -> float:
        """Seconds until everything is asked for again: longer, the faster the budget is used up."""
        limits = self.limits
        if limits is None or limits.full_at < self.clock.now() or limits.left > limits.most / 2:
            return PACE_S
        spare = limits.left / limits.most - 0.1  # what is kept back for acts
        return SLOWEST_S / 2 if spare <= 0 else min(SLOWEST_S / 2, PACE_S * 0.4 / spare)

    # ---- acting

    async def act(
        self,
        method: str,
        path: str,
        json: Any = None,
        *,
        type: Any = None,  # noqa: A002 - as msgspec calls it
        also: tuple[int, ...] = (),
        at_once: bool = False,
    ) -> Reply | Refused | NoAnswer | Unreachable:
        """Change something, in its turn. Raises nothing.

        `at_once`: without the pause that GitHub asks for, and without waiting for one that hangs: stops and ways back.
        """
        if self.read_only:
            return Refused("this connection is read-only")
        if not self.may_act:
            return Refused(f"{self.name} is read-only: set `token_acts:` for this connection")
        async with contextlib.AsyncExitStack() as turn:
            if not at_once:
                await turn.enter_async_context(self._turn)
                await asyncio.sleep(APART_S - (time.monotonic() - self._changed_at))
            try:
                if self.app_acts:
                    await self.app_acts.ready()
            except Denied as error:
                return Refused(str(error))
            except (Unreachable, Garbled) as error:
                return Unreachable(str(error))
            try:
                reply = await self.web.act(method, path, json=json, headers=HEADERS, type=type, also=also)
            finally:
                self._changed_at = time.monotonic()
        if isinstance(reply, Refused) and _secondary(reply.words):
            return Limited(reply.words, SECONDARY_S)
        if isinstance(reply, Reply):
            self._heed(reply)
        return reply

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


def done(answer: Reply | Refused | NoAnswer | Unreachable, ref: str) -> Answer:
    """An answer to an act whose body says nothing more."""
    return Accepted(ref) if isinstance(answer, Reply) else answer


def _secondary(words: str) -> bool:
    """Whether a refusal only means that too much was asked in a short time."""
    return "secondary rate limit" in words.lower() or "abuse detection" in words.lower()


def _after(link: str) -> str:
    """The address of the page after this one; empty: it is the last."""
    for part in link.split(","):
        address, *words = part.split(";")
        if any(word.strip().replace('"', "").lower() == "rel=next" for word in words):
            return address.strip().strip("<>")
    return ""
