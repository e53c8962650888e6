"""Where a server's program is, or the sentence that says how to get it: a failure in CI, a skip on a laptop."""

import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
VENV = ROOT / ".servers" / "bin"
"""Programs from PyPI: Buildbot and supervisord, hash-pinned, in an environment of their own."""

_FROM_PYPI = ("buildbot", "buildbot-worker", "supervisord", "supervisorctl", "twistd")
_PLACES = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where Debian puts servers, and a user's PATH often does not look."""


def find(name: str) -> str | None:
    """The program's path, None if it is not here."""
    if name in _FROM_PYPI:
        program = VENV / name
        return str(program) if os.access(program, os.X_OK) else None
    path = os.pathsep.join([os.environ.get("PATH", ""), *_PLACES])
    return shutil.which(name, path=path)


def how(name: str) -> str:
    """The sentence that names what is missing and the command that installs it."""
    command = "make servers" if name in _FROM_PYPI else "sudo sh tests/servers/install.sh"
    return f"{name} is not installed; install it with: {command}"


def need(name: str) -> str:
    """The program's path. Where it is missing a test fails in CI and is skipped elsewhere, and a person is told."""
    found = find(name)
    if found is not None:
        return found
    if "pytest" not in sys.modules:
        raise SystemExit(how(name))
    import pytest

    stop = pytest.fail if os.environ.get("CI") else pytest.skip
    raise stop.Exception(how(name))
