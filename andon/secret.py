"""Secrets by reference, opened at the moment of use and never shown.

A config holds `env:NAME`, `file:PATH`, `keyring:SERVICE/USER` or `command:PROGRAM ARG …`, never the secret itself. What
goes wrong is told without what was read and without what a program was called with: no error is chained to one that
holds them. Nothing here waits longer than `LIMIT_S`. What was opened is hidden wherever it comes back (`hiding`).
"""

import contextlib
import os
import re
import selectors
import shlex
import signal
import stat
import subprocess
import sys
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

from andon.hiding import remember

SCHEMES = ("env", "file", "keyring", "command")
LIMIT_S = 10.0
"""How long a keyring or a program may take."""
LIMIT_BYTES = 64 * 1024
"""What is larger is no secret, but the wrong file."""
TOO_LARGE = f"larger than {LIMIT_BYTES // 1024} KiB: this is no secret"
_HIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_variables: set[str] = set()
"""The variables that any reference names: the programs that are asked for a secret are not given those of others."""
_PLUMBING = re.compile(
    r"PATH|HOME|LANG|LC_.+|TZ|USER|LOGNAME|SHELL|TMPDIR|DISPLAY|.+_(SOCK|ADDRESS|ADDR|DIR|HOME|PATH)"
)
"""Those that a program may need, and that hold no secret by their name."""


class SecretError(Exception):
    """The secret cannot be opened; the words say which, why, and what to do. They never hold the secret."""


class Secret:
    """A reference to a secret. Printing it, comparing it or copying it never opens it."""

    __slots__ = ("reference",)

    def __init__(self, reference: str) -> None:
        """Raises SecretError for what is no reference, or one that depends on the current folder."""
        scheme, _, rest = reference.partition(":")
        if scheme not in SCHEMES or not rest.strip():
            raise SecretError(
                "a secret is given by reference: env:NAME, file:PATH, keyring:SERVICE/USER or command:PROGRAM; "
                "not by its value"
            )
        if _HIDDEN.search(rest):
            raise SecretError(f"{scheme}: a control character stands in the reference")
        if scheme == "keyring" and not all(rest.rpartition("/")):
            raise SecretError(f"{reference}: a service and a user are expected: keyring:SERVICE/USER")
        path = rest if scheme == "file" else _argv(rest)[0] if scheme == "command" else ""
        if path and path[0] not in "/~" and ("/" in path or scheme == "file"):
            raise SecretError(f"{scheme}:{path}: write the whole path, beginning with / or ~")
        self.reference = reference
        if scheme == "env" and not _PLUMBING.fullmatch(rest):
            _variables.add(rest)

    def __repr__(self) -> str:
        return f"Secret({self.reference.partition(':')[0]}:***)"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a secret is not copied and not pickled")

    def open(self) -> str:
        """The secret itself. Read anew each time, so that a changed one is found. Raises SecretError."""
        _keep_out_of_dumps()
        scheme, _, rest = self.reference.partition(":")
        opened = {"env": _env, "file": _file, "keyring": _keyring, "command": _command}[scheme](rest)
        if not opened:
            raise SecretError(f"{self.where}: it is empty")
        if len(opened) > LIMIT_BYTES:
            raise SecretError(f"{self.where}: {TOO_LARGE}")
        if _HIDDEN.search(opened):
            raise SecretError(f"{self.where}: it holds a control character, or is not text")
        remember(opened)
        return opened

    @property
    def where(self) -> str:
        """The reference in words that may be shown; the arguments of a command may not."""
        scheme, _, rest = self.reference.partition(":")
        return f"command:{_argv(rest)[0]} …" if scheme == "command" else self.reference


@cache
def _keep_out_of_dumps() -> None:
    """No core dump of a process that opens secrets and, on Linux, no other of the same user that reads its memory."""
    import ctypes
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # a limit does not keep a core from a program that collects them
        set_dumpable = 4
        ctypes.CDLL(None).prctl(set_dumpable, 0, 0, 0, 0)


def _env(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise SecretError(f"env:{name}: the environment has no such variable; export it before you start andon")
    return value


def _file(name: str) -> str:
    path = _expanded(name, f"file:{name}")
    try:
        # A symbolic link could lead to what another one may read; a pipe would keep us waiting.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        words = "a symbolic link; name the file itself" if path.is_symlink() else error.strerror
        raise SecretError(f"file:{name}: {words}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SecretError(f"file:{name}: not a plain file")
        if status.st_uid not in (os.getuid(), 0):
            raise SecretError(f"file:{name}: it belongs to somebody else")
        if status.st_mode & 0o077:
            raise SecretError(f"file:{name}: others can read it; chmod 600 {name}")
        return _text(os.read(descriptor, LIMIT_BYTES + 1), f"file:{name}")
    except OSError as error:
        raise SecretError(f"file:{name}: {error.strerror}") from None
    finally:
        os.close(descriptor)


def _keyring(name: str) -> str:
    """What the keyring holds. In a thread of its own: it may ask a person, or a bus that does not answer."""
    service, _, user = name.rpartition("/")
    found: list[Any] = []
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            found.append(_entry(service, user))
        except BaseException as error:  # noqa: BLE001 - a backend raises what it likes, and its words may hold the secret
            failed.append(error)

    asking = threading.Thread(target=ask, name="keyring", daemon=True)
    asking.start()
    asking.join(LIMIT_S)
    if failed:
        raise SecretError(f"keyring:{name}: {_closed(failed[0])}")
    if not found:
        raise SecretError(f"keyring:{name}: no answer in {LIMIT_S:g} s; unlock it, or use file: or env:")
    if found[0] is None:
        raise SecretError(f"keyring:{name}: the keyring holds no such entry")
    if not isinstance(found[0], str):
        raise SecretError(f"keyring:{name}: what the keyring holds there is not text")
    return found[0]


class _PlainText(Exception):
    """The keyring is a file that is not encrypted, or as good as that."""


def _entry(service: str, user: str) -> Any:
    """What the first back end holds that has such an entry. Those that keep secrets as plain text are not asked."""
    import keyring

    ring = keyring.get_keyring()
    safe = [one for one in getattr(ring, "backends", None) or [ring] if not _is_plain(type(one))]  # several: a chain
    if not safe:
        raise _PlainText
    return next((held for one in safe if (held := one.get_password(service, user)) is not None), None)


def _is_plain(kind: type[object]) -> bool:
    return kind.__module__.startswith("keyrings.alt") or "plaintext" in kind.__name__.lower()


def _closed(error: BaseException) -> str:
    """Why the keyring gives nothing, in words of our own, and what to do."""
    if isinstance(error, ImportError):
        return "install andon[keyring] for this"
    if isinstance(error, _PlainText):
        return "the only keyring here keeps plain text; install another, or use file: or env:"
    return f"the keyring does not open ({type(error).__name__}); unlock it, or use file: or env:"


def _command(line: str) -> str:
    """What a program prints. Started without a shell, in a session of its own that is ended with it."""
    argv = _argv(line)
    where = f"command:{argv[0]}"
    argv[0] = str(_expanded(argv[0], where)) if "/" in argv[0] else argv[0]
    try:
        program = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what it complains of may hold the secret
            env={name: value for name, value in os.environ.items() if name not in _variables},
            start_new_session=True,
        )
    except FileNotFoundError:
        raise SecretError(f"{where}: no such program") from None
    except OSError as error:
        raise SecretError(f"{where}: {error.strerror}") from None
    with program:
        try:
            printed, ended = _printed(program)
        finally:
            if program.returncode is None:
                _kill(program)
    if not ended:
        raise SecretError(f"{where}: no answer in {LIMIT_S:g} s")
    if len(printed) <= LIMIT_BYTES and program.returncode != 0:
        how = f"signal {-program.returncode}" if program.returncode < 0 else str(program.returncode)
        raise SecretError(f"{where}: ended with {how}")
    return _text(printed, where)


def _printed(program: "subprocess.Popen[bytes]") -> tuple[bytes, bool]:
    """What it printed, a little more than the limit at most; whether it came to its end, or past the limit, in time."""
    assert program.stdout is not None
    end = time.monotonic() + LIMIT_S
    printed = b""
    with selectors.DefaultSelector() as selector:
        selector.register(program.stdout, selectors.EVENT_READ)
        while len(printed) <= LIMIT_BYTES:
            if not selector.select(max(0.0, end - time.monotonic())):
                return printed, False
            part = os.read(program.stdout.fileno(), LIMIT_BYTES)
            if not part:
                break
            printed += part
    try:
        if len(printed) <= LIMIT_BYTES:
            program.wait(max(0.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        return printed, False
    return printed, True


def _kill(program: "subprocess.Popen[bytes]") -> None:
    """End it, and all that it started in its session; it was not waited for yet, so its number is still its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)


def _argv(line: str) -> list[str]:
    """Program and arguments. Raises SecretError, without them: an argument may be a secret."""
    try:
        argv = shlex.split(line)
    except ValueError:
        raise SecretError("command: a quotation mark is not closed") from None
    if not argv or not argv[0]:
        raise SecretError("command: a program is expected")
    return argv


def _expanded(name: str, where: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise SecretError(f"{where}: there is no such home folder") from None


def _text(content: bytes, where: str) -> str:
    """The content without blanks around it. Raises SecretError for what is too large, or no text."""
    if len(content) > LIMIT_BYTES:
        raise SecretError(f"{where}: {TOO_LARGE}")
    try:
        return content.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise SecretError(f"{where}: not text") from None
