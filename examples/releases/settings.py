"""What the deploy step is asked and where it works, both from the environment, and the ways in which it can end."""

import getpass
import os
import re
import sys
from pathlib import Path
from typing import Any

Row = dict[str, Any]
"""One deployment in the record."""


class Refused(Exception):
    """Nothing was changed, or it was changed back; the words say why."""


class Conflict(Exception):
    """What is current is not what was expected; holds the id of what is."""


class Failed(Exception):
    """A step did not work, or the deployment was aborted."""


def setting(name: str, default: str = "") -> str:
    """RELEASES_<name>."""
    return os.environ.get(f"RELEASES_{name}", "") or default


def asked(name: str) -> str:
    """ANDON_<name>, cut to a length that can stand in the record."""
    return os.environ.get(f"ANDON_{name}", "")[:500]


def seconds(name: str, default: float) -> float:
    """RELEASES_<name> as seconds."""
    try:
        return float(setting(name, str(default)))
    except ValueError:
        raise Refused(f"RELEASES_{name} must be a number of seconds, not {setting(name)!r}") from None


def folder() -> Path:
    """RELEASES_DIR."""
    if not setting("DIR"):
        raise Refused("RELEASES_DIR is not set: the folder that holds releases/ and current")
    return Path(setting("DIR")).absolute()


def processes() -> list[str]:
    """RELEASES_PROCESSES, in the order in which they are restarted."""
    return setting("PROCESSES").split()


def check() -> None:
    """Refuse settings that cannot be meant."""
    listed = len(setting("HEALTH").split())
    if listed and listed != len(processes()):
        raise Refused("RELEASES_HEALTH must have one entry for each of RELEASES_PROCESSES")
    seconds("WAIT_S", 60)
    seconds("HEALTHY_S", 10)


def user() -> str:
    """Who runs this."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def short(version: str) -> str:
    """A version as people say it."""
    return version[:12] if re.fullmatch("[0-9a-f]{40}", version) else version


def say(words: str) -> None:
    """A line on stdout. That nobody reads it any more is no reason to leave a deployment half done."""
    _line(words, sys.stdout)


def tell(words: str) -> None:
    """A line on stderr, likewise."""
    _line(words, sys.stderr)


def _line(words: str, stream: Any) -> None:
    try:
        print(words, file=stream, flush=True)
    except OSError:
        pass
