"""Secrets by reference, opened at the moment of use and never shown.

A config holds `env:NAME`, `file:PATH`, `keyring:SERVICE/USER` or `command:PROGRAM ARG …`, never the secret itself.
"""

import os
import shlex
import stat
import subprocess
from pathlib import Path

SCHEMES = ("env", "file", "keyring", "command")
COMMAND_LIMIT_S = 10.0


class SecretError(Exception):
    """The secret cannot be opened; the words say which, why, and what to do. They never hold the secret."""


class Secret:
    """A reference to a secret. Printing it, comparing it or pickling it never opens it."""

    __slots__ = ("reference",)

    def __init__(self, reference: str) -> None:
        scheme, _, rest = reference.partition(":")
        if scheme not in SCHEMES or not rest:
            raise SecretError(
                "a secret is given by reference: env:NAME, file:PATH, keyring:SERVICE/USER or command:PROGRAM; "
                "not by its value"
            )
        self.reference = reference

    def __repr__(self) -> str:
        return f"Secret({self.reference.partition(':')[0]}:***)"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a secret is not pickled")

    def open(self) -> str:
        """The secret itself. Read anew each time, so that a changed one is found. Raises SecretError."""
        scheme, _, rest = self.reference.partition(":")
        opened = {"env": _env, "file": _file, "keyring": _keyring, "command": _command}[scheme](rest)
        if not opened:
            raise SecretError(f"{self.where}: it is empty")
        if any(ord(char) < 0x20 or ord(char) == 0x7F for char in opened):
            raise SecretError(f"{self.where}: it holds a control character")
        return opened

    @property
    def where(self) -> str:
        """The reference in words that may be shown; the arguments of a command may not."""
        scheme, _, rest = self.reference.partition(":")
        return f"command:{shlex.split(rest)[0]} …" if scheme == "command" else self.reference


def _env(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise SecretError(f"env:{name}: the environment has no such variable; export it before you start andon")
    return value


def _file(name: str) -> str:
    path = Path(name).expanduser()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise SecretError(f"file:{name}: {error.strerror}") from error
    with os.fdopen(descriptor, encoding="utf-8") as handle:
        status = os.fstat(handle.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise SecretError(f"file:{name}: not a plain file")
        if status.st_mode & 0o077:
            raise SecretError(f"file:{name}: others can read it; chmod 600 {name}")
        if status.st_uid not in (os.getuid(), 0):
            raise SecretError(f"file:{name}: it belongs to somebody else")
        try:
            return handle.read(65536).strip()
        except UnicodeDecodeError as error:
            raise SecretError(f"file:{name}: not a text file") from error


def _keyring(name: str) -> str:
    service, _, user = name.partition("/")
    try:
        import keyring
        import keyring.errors
    except ImportError as error:
        raise SecretError(f"keyring:{name}: install andon[keyring] for this") from error
    try:
        value = keyring.get_password(service, user)
    except keyring.errors.KeyringError as error:
        raise SecretError(f"keyring:{name}: the keyring does not open: {error}") from error
    if value is None:
        raise SecretError(f"keyring:{name}: the keyring holds no such entry")
    return str(value)


def _command(line: str) -> str:
    argv = shlex.split(line)
    try:
        done = subprocess.run(argv, capture_output=True, timeout=COMMAND_LIMIT_S, check=False, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise SecretError(f"command:{argv[0]}: no such program") from error
    except subprocess.TimeoutExpired as error:
        raise SecretError(f"command:{argv[0]}: no answer in {COMMAND_LIMIT_S:.0f} s") from error
    except OSError as error:
        raise SecretError(f"command:{argv[0]}: {error.strerror}") from error
    if done.returncode != 0:
        raise SecretError(f"command:{argv[0]}: ended with {done.returncode}")
    return done.stdout.decode("utf-8", "replace").strip()
