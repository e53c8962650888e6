"""Hides the developer from every test: no colours, proxies, andon settings or home of the person who runs them."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

_NAMES = {
    *("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLORTERM", "TERM_PROGRAM", "COLUMNS", "LINES"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "FTP_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("SUDO_USER", "TMUX", "STY", "EDITOR", "VISUAL", "PAGER", "NETRC"),
}
_BEGINNINGS = ("TEXTUAL_", "ANDON_", "XDG_", "GIT_", "LC_")

_FOLDERS = {
    "XDG_CONFIG_HOME": ".config",
    "XDG_STATE_HOME": ".local/state",
    "XDG_DATA_HOME": ".local/share",
    "XDG_CACHE_HOME": ".cache",
}

# A property is searched for as long as it takes, not as fast as an idle machine could. In CI Hypothesis takes its own
# profile, which gives the same examples each time.
if not os.environ.get("CI"):
    hypothesis.settings.register_profile("shop", deadline=None)
    hypothesis.settings.load_profile("shop")


def _hide(patch: pytest.MonkeyPatch, home: Path) -> None:
    for name in list(os.environ):
        if name.upper() in _NAMES or name.startswith(_BEGINNINGS):
            patch.delenv(name)
    patch.setenv("HOME", str(home))
    for name, folder in _FOLDERS.items():
        patch.setenv(name, str(home / folder))
    patch.setenv("LC_ALL", "C.UTF-8")
    patch.setenv("TERM", "xterm-256color")
    patch.setenv("TZ", "UTC")
    patch.setenv("USER", "tester")
    patch.setenv("LOGNAME", "tester")
    patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    time.tzset()


@pytest.fixture(scope="session", autouse=True)
def nobody_in_particular(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For the servers that live as long as the run: they start with a home and an environment that are nobody's."""
    with pytest.MonkeyPatch.context() as patch:
        _hide(patch, tmp_path_factory.mktemp("session-home"))
        yield
    time.tzset()


@pytest.fixture(autouse=True)
def empty_home(
    nobody_in_particular: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """An empty home for each test, so that no test finds the ledger or the config of another."""
    folder = tmp_path_factory.mktemp("home")
    _hide(monkeypatch, folder)
    return folder
