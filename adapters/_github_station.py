"""What the stations of GitHub have in common: a repository, and what `andon check` says of our rights there."""

import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime

from adapters._github_facts import Actor
from adapters._github_hub import Hub
from adapters._github_repo import Repo
from andon.clock import age
from andon.model import Identity
from andon.ports import Denied, Garbled
from andon.registry import Place

Probe = Callable[[], Awaitable[str]]
"""Looks for something, and says what it found. Raises as a read."""

REPO = r"[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}"
FILE = r"[A-Za-z0-9._-]{1,100}\.ya?ml"


def checked(what: str, value: str, pattern: str, example: str) -> None:
    """Raises ValueError for a name that is not written so."""
    if not re.fullmatch(pattern, value):
        raise ValueError(f"{what}: written as {example}")


class Located:
    """What both stations have."""

    def __init__(self, hub: Hub, repo: str, branch: str, place: Place) -> None:
        self.hub = hub
        self.repo = Repo(hub, repo)
        self.place = place
        self._branch = branch

    async def close(self) -> None:
        """Give the connections back."""
        await self.hub.close()

    async def branch(self, *, for_act: bool = False) -> str:
        """The branch that is looked at. Raises as a read."""
        return self._branch or (await self.repo.about(for_act=for_act)).default_branch

    async def identity(self, probes: Mapping[str, Probe], acts: bool, *lacks: str) -> Identity:
        """Who we are; of each probe what it found, or what it would need; and what GitHub `lacks`.

        Raises as a read if GitHub does not answer.
        """
        async with self.hub.web.in_time("whoami", 2):
            account, server, clock, scopes = await self._server()
            found, missing = [], []
            if scopes and not {"repo", "public_repo"} & {scope.strip() for scope in scopes.split(",")}:
                missing.append(f"scope repo, or public_repo: the token has {scopes}")
            for needs, probe in probes.items():
                try:
                    found.append(await probe())
                except Denied as error:
                    missing.append(f"{needs} (the token may not: {error})")
                except Garbled as error:
                    missing.append(f"{needs}: {error}")
        if acts and not self.hub.may_act:
            missing.append("token_acts: without it nothing can be stopped, released or deployed")
        found += lacks
        if limits := self.hub.limits:
            again = age(max(0.0, limits.full_at - self.hub.clock.now()))
            found.append(f"{limits.left} of {limits.most} requests left, full again in {again}")
        return Identity(account, server, tuple(found), tuple(missing), clock)

    async def _server(self) -> tuple[str, str, float | None, str]:
        """Account, server, its clock, and the scopes of a classic token. Raises as a read."""
        options = self.hub.options
        if options.app:
            account, reply = f"app {options.app.id}", await self.hub.read("rate_limit")
        else:
            reply = await self.hub.read("user", also=(403,))
            account = reply.json(Actor).login if reply.status == 200 else "a token of no person"
        scopes = reply.headers.get("x-oauth-scopes", "")
        version = reply.headers.get("x-github-enterprise-version", "")
        clock = None
        with contextlib.suppress(ValueError, OverflowError):
            clock = parsedate_to_datetime(reply.headers.get("date", "")).timestamp()
        server = f"GitHub Enterprise Server {version}" if version else "GitHub"
        return f"{account} (scopes {scopes})" if scopes else account, server, clock, scopes
