"""From the command line's options to an opened ledger and an engine: the one place where the parts are put together."""

import argparse
import difflib
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import themes
from andon import config as configs
from andon import registry
from andon.clock import Clock, WallClock
from andon.config import Config
from andon.engine import Engine, whoami
from andon.keeper import Keeper
from andon.ports import Ledger, LedgerUnusable
from andon.secret import SCHEMES, Secret, SecretError
from andon.stations import Stations
from andon.text import clean
from andon.yamlfile import FileError


class Desk:
    """What a command works with: the config, the ledger's address, who acts."""

    def __init__(
        self, args: argparse.Namespace, config: Config | None = None, ledger: str = "", clock: Clock | None = None
    ) -> None:
        """Read the config. Raises FileError."""
        self.args = args
        self.clock: Clock = clock or WallClock()
        self.config = config or configs.load(config_path(args.config))
        self.read_only = bool(args.read_only or args.wall)
        self.who = clean(args.who or whoami()).strip()
        self.ledger = ledger or args.ledger or _address(self.config)
        """Where the ledger is: an address that may hold a password, if the config gives it by reference."""
        Stations(self.config, self.clock, self.state).every()  # what does not fit is said before anything starts

    @property
    def state(self) -> Path:
        """The private folder beside the ledger, for what adapters keep."""
        return Path(self.ledger.removeprefix("sqlite://")).expanduser().parent

    @property
    def ledger_shown(self) -> str:
        """The ledger's address, or the reference to it, in words that may be shown."""
        given = self.config.ledger
        return Secret(given).where if _by_reference(given) and not self.args.ledger else self.ledger

    def check_line(self, name: str | None) -> None:
        """Raise FileError for a line that the config does not name."""
        if name is not None and name not in self.config.lines:
            near = difflib.get_close_matches(name, self.config.lines, 1)
            hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(self.config.lines)}"
            raise FileError(str(self.config.path), None, (), f"there is no line {name!r}; {hint}")

    def check_theme(self) -> None:
        """Raise FileError for a theme that cannot be shown, before anything starts."""
        try:
            themes.load(self.config.theme)
        except FileError as error:
            raise FileError(str(self.config.path), None, ("theme",), str(error).removeprefix("theme: ")) from error

    def keeper(self, *, read_only: bool = False) -> Keeper:
        """The opened ledger. Raises LedgerUnusable."""
        return Keeper(self._opener(read_only=read_only or self.read_only), self.clock).start()

    def _opener(self, *, read_only: bool) -> Callable[[], Ledger]:
        try:
            opener = registry.ledger(self.ledger)
        except registry.UnknownAdapter as error:
            raise LedgerUnusable(str(error)) from error
        path = Path(self.ledger.removeprefix("sqlite://")).expanduser()
        if path.is_dir():
            raise LedgerUnusable(f"{path}: is a folder; name a file in it")
        return lambda: opener(path, self.clock, read_only=read_only)

    def engine(self, keeper: Keeper, *, duty: bool, room: bool = False) -> Engine:
        """The started engine of this process."""
        return Engine(
            self.config,
            keeper,
            self.clock,
            self.state,
            who=self.who,
            terminal=_terminal() if room else "",
            read_only=self.read_only,
            duty=duty,
            after_screen=room,
        ).start()


def config_path(named: str | None) -> Path:
    """The config to read. Raises FileError with the places that were looked at."""
    if named is not None:
        return Path(named)
    places = configs.places()
    for place in places:
        if place.exists():
            return place
    looked = " or ".join(str(place) for place in places) or "a folder of yours: the environment names no whole path"
    raise FileError("", None, (), f"no config at {looked}; `andon demo` shows a room without one")


def _address(config: Config) -> str:
    """Where the ledger is. A relative path starts in the config's folder. Raises LedgerUnusable."""
    import platformdirs

    address = config.ledger
    if _by_reference(address):
        try:
            address = Secret(address).open()
        except SecretError as error:
            raise LedgerUnusable(f"ledger: {error}") from error
    if not address:
        return str(platformdirs.user_state_path("andon").absolute() / "ledger.db")
    return address if "://" in address else str(config.folder / Path(address).expanduser())


def _by_reference(address: str) -> bool:
    return address.partition(":")[0] in SCHEMES


def _terminal() -> str:
    """Where this person sits: host and terminal."""
    host = socket.gethostname().partition(".")[0]
    try:
        return f"{host}:{os.ttyname(sys.stdin.fileno()).removeprefix('/dev/')}"
    except (OSError, ValueError):
        return host
