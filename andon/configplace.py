"""Where the config is, and its content, if it is ours to trust."""

import grp
import os
import pwd
import stat
from pathlib import Path

from andon.fileerror import FileError

LIMIT_BYTES = 1 << 20


def places() -> tuple[Path, ...]:
    """Where a config is looked for when none is named; nowhere, if the environment's folders are not absolute."""
    import platformdirs

    named = os.environ.get("ANDON_CONFIG")
    if named:
        return (Path(named),)
    users = platformdirs.user_config_path("andon") / "andon.yaml"
    return (users,) if users.is_absolute() else ()  # XDG_CONFIG_HOME=. would be the current folder


def content(path: Path) -> bytes:
    """The file, if it is ours to trust: a config runs programs and sends tokens. Read from what was looked at."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not keep us waiting
    except (OSError, ValueError) as error:
        raise FileError(str(path), None, (), f"cannot be read: {getattr(error, 'strerror', error)}") from error
    try:
        _trust(path, os.fstat(descriptor))
        _trust_folder(path)
        content = b""
        while len(content) <= LIMIT_BYTES and (part := os.read(descriptor, LIMIT_BYTES)):
            content += part
        return content
    except OSError as error:
        raise FileError(str(path), None, (), f"cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _trust(path: Path, status: os.stat_result) -> None:
    """Raise FileError if the file is not a plain one that only its owner, the user or root, can change."""
    words = ""
    if stat.S_ISDIR(status.st_mode):
        words = "is a folder; name the file in it"
    elif not stat.S_ISREG(status.st_mode):
        words = "not a plain file"
    elif status.st_uid not in (os.getuid(), 0):
        words = "belongs to somebody else; a config runs programs, so it must be yours"
    elif _open_to_others(status):
        words = f"others can write to it; chmod go-w {path}"
    if words:
        raise FileError(str(path), None, (), words)


def _trust_folder(path: Path) -> None:
    """Raise FileError if others can put another file in the config's place, or a program beside it."""
    status = path.parent.stat()
    words = ""
    if status.st_uid not in (os.getuid(), 0):
        words = "its folder belongs to somebody else; a config runs programs, so it must be yours"
    elif _open_to_others(status) and not status.st_mode & stat.S_ISVTX:
        words = f"others can write to its folder; chmod go-w {path.parent}"
    if words:
        raise FileError(str(path), None, (), words)


def _open_to_others(status: os.stat_result) -> bool:
    return bool(status.st_mode & 0o002 or (status.st_mode & 0o020 and not _own_group(status.st_gid)))


def _own_group(gid: int) -> bool:
    """Whether the group is the user's private one, as umask 002 assumes."""
    try:
        group = grp.getgrgid(gid)
        user = pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    return group.gr_name == user.pw_name and not set(group.gr_mem) - {user.pw_name}
