"""Signing in as a GitHub App: its key signs a note that lives for minutes, which is changed for a token of an hour.

The token is only held in memory. The signature is the `cryptography` package's, an optional extra that is imported when an
App is used.
"""

import asyncio
import base64
import binascii
from datetime import datetime
from typing import Annotated

import msgspec

from adapters._http import Reply, Web
from andon.clock import Clock
from andon.hiding import remember
from andon.ports import Denied, Refused, Unreachable
from andon.secret import Secret, SecretError

NOTE_LIVES_S = 540.0
"""GitHub takes notes of at most ten minutes, and its clock may be ahead."""
SKEW_S = 60.0
EARLY_S = 300.0
"""A token is changed for a new one so long before it ends."""


class Token(msgspec.Struct, frozen=True):
    """An installation's token."""

    token: str
    expires_at: Annotated[datetime, msgspec.Meta(tz=True)]


class Held:
    """A secret in memory, which the HTTP client opens as any other."""

    def __init__(self, where: str) -> None:
        self.reference = "held:app"
        self.where = where
        self.value = ""
        self.until = 0.0

    def __repr__(self) -> str:
        return f"Held({self.where})"

    def open(self) -> str:
        """The token. Raises SecretError while there is none."""
        if not self.value:
            raise SecretError(f"{self.where}: there is no token yet")
        return self.value


class Note:
    """The App's own word, signed anew each time it is opened."""

    def __init__(self, app: int, key: Secret, clock: Clock) -> None:
        self.reference = key.reference
        self._app = app
        self._key = key
        self._clock = clock

    def __repr__(self) -> str:
        return f"Note({self._app})"

    @property
    def where(self) -> str:
        """Where its key is."""
        return self._key.where

    def open(self) -> str:
        """A JSON Web Token (RS256). Raises SecretError."""
        return signed(self._app, _key(self._key.open(), self.where), self._clock.now(), self.where)


class App:
    """What an App signs in with: a token that is changed before it ends."""

    def __init__(self, web: Web, app: int, installation: int, clock: Clock) -> None:
        self.token = Held(f"the token of app {app}")
        self._web = web
        self._path = f"app/installations/{installation}/access_tokens"
        self._clock = clock
        self._asking = asyncio.Lock()

    async def ready(self) -> None:
        """See to it that there is a token. Raises Denied, Unreachable, Garbled."""
        async with self._asking:  # one for all who wait
            await self._ready()

    async def _ready(self) -> None:
        if self._clock.now() < self.token.until - EARLY_S:
            return
        answer = await self._web.act("POST", self._path, type=Token)
        if isinstance(answer, Refused):
            raise Denied(f"{answer.words}; is `app:` its number, and is it installed there?")
        if not isinstance(answer, Reply):
            raise Unreachable(getattr(answer, "words", "") or str(answer))
        found: Token = answer.json(Token)
        remember(found.token)
        self.token.value, self.token.until = found.token, found.expires_at.timestamp()

    async def close(self) -> None:
        """Give the connections back."""
        await self._web.close()


def signed(app: int, raw: bytes, now: float, where: str) -> str:
    """A JSON Web Token by which the App says who it is. Raises SecretError."""
    try:
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import padding, rsa
    except ImportError as error:
        raise SecretError("an app's key needs the package cryptography: install andon[github-app]") from error
    load = serialization.load_pem_private_key if b"-----BEGIN" in raw else serialization.load_der_private_key
    try:
        key = load(raw, password=None)
    except (ValueError, TypeError):
        raise SecretError(f"{where}: this is no private key, or one with a password") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise SecretError(f"{where}: GitHub's apps have RSA keys, and this is another")
    claims = {"iat": int(now - SKEW_S), "exp": int(now + NOTE_LIVES_S), "iss": str(app)}
    words = b".".join(_packed(msgspec.json.encode(part)) for part in ({"alg": "RS256", "typ": "JWT"}, claims))
    return (words + b"." + _packed(key.sign(words, padding.PKCS1v15(), hashes.SHA256()))).decode()


def _packed(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def _key(text: str, where: str) -> bytes:
    """The key, which a secret of one line can only hold in base64. Raises SecretError."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SecretError(f"{where}: the key is expected in base64, on one line: base64 -w0 key.pem") from None
