"""What a config was found to say, kept for `status` and `gate`: reading it in full takes longer than what they look up.

Only a config that was read in full and fits is remembered: under its path, with a digest of its content and of andon's
version. Whatever is not as it was left is not used, and the config is read in full again.
"""

import contextlib
import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from andon.folders import make_private
from tui import VERSION

if TYPE_CHECKING:
    from andon.config import Config

FORMAT = "1"
LIMIT_BYTES = 1 << 20


class Target(msgspec.Struct, frozen=True, array_like=True):
    """What a stop halts, and how often it is asked."""

    target: str
    every_s: float


class Line(msgspec.Struct, frozen=True, array_like=True):
    """A line, as far as its state depends on the config."""

    halting: tuple[Target, ...] = ()

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of what a stop halts."""
        return tuple(entry.target for entry in self.halting)


class Facts(msgspec.Struct, frozen=True):
    """What those who only look need of a config."""

    ledger: str
    """As the config gives it."""
    lines: dict[str, Line]


def facts(config: "Config") -> Facts:
    """What is kept of a config."""
    lines = {
        name: Line(tuple(Target(entry.target, entry.every_s) for entry in line.halting))
        for name, line in config.lines.items()
    }
    return Facts(config.ledger, lines)


class _Kept(msgspec.Struct, frozen=True):
    digest: str
    facts: Facts


def recall(path: Path, content: bytes) -> Facts | None:
    """What the config at `path` was found to say when it had this content; None: read it."""
    try:
        found = msgspec.json.decode(_read(_file(path)), type=_Kept)
    except (OSError, msgspec.DecodeError):
        return None
    return found.facts if found.digest == _digest(path, content) else None


def remember(path: Path, content: bytes, facts: Facts) -> None:
    """Keep it for the next time. Where that cannot be, the next time takes longer, and nothing else."""
    file = _file(path)
    if not file.is_absolute():  # XDG_CACHE_HOME=. would be the current folder
        return
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        make_private(file.parent)
        descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, msgspec.json.encode(_Kept(_digest(path, content), facts)))
        finally:
            os.close(descriptor)
        fresh.replace(file)


def _file(path: Path) -> Path:
    import platformdirs

    return (
        platformdirs.user_cache_path("andon") / f"{hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:16]}.json"
    )


def _digest(path: Path, content: bytes) -> str:
    digest = hashlib.sha256(f"{FORMAT} {VERSION} {path.absolute()} {len(content)} ".encode(errors="surrogateescape"))
    digest.update(content)
    return digest.hexdigest()


def _read(file: Path) -> bytes:
    """The file, if nobody else can have written it. Raises OSError."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
            raise PermissionError(f"{file} is not ours alone")
        return os.read(descriptor, LIMIT_BYTES)
    finally:
        os.close(descriptor)
