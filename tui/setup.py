"""From the command line's options to an opened ledger and an engine: the one place where the parts are put together."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from andon import configplace, registry
from andon.clock import Clock, WallClock
from andon.fileerror import FileError
from andon.keeper import Keeper, Kept
from andon.ports import LedgerUnusable
from andon.text import clean

if TYPE_CHECKING:
    from andon.config import Config
    from andon.engine import Engine
    from tui.keymap import Keys


class Desk:
    """What a command works with: the config, the ledger's address, who acts."""

    def __init__(
        self, args: argparse.Namespace, config: "Config | None" = None, ledger: str = "", clock: Clock | None = None
    ) -> None:
        """Read the config. Raises FileError."""
        from andon import config as configs
        from andon.engine import whoami
        from andon.stations import Stations

        self.args = args
        self.clock: Clock = clock or WallClock()
        self.config: Config = config or configs.load(config_path(args.config))
        self.read_only = bool(args.read_only or args.wall)
        self.who = clean(args.who or whoami()).strip()
        self.ledger = ledger or given_address(args) or address(self.config.ledger, self.config.folder)
        """Where the ledger is: an address that may hold a password, if the config gives it by reference."""
        Stations(self.config, self.clock, self.state).every()  # what does not fit is said before anything starts

    @property
    def state(self) -> Path:
        """The private folder for what adapters keep: beside the ledger's file, else this account's own."""
        path = self.ledger.removeprefix("sqlite://")
        if "://" in path:  # an address, which may hold a password
            import platformdirs

            return platformdirs.user_state_path("andon").absolute()
        return Path(path).expanduser().parent

    @property
    def ledger_shown(self) -> str:
        """The ledger's address, or the reference to it, in words that may be shown."""
        from andon.secret import Secret

        given = self.args.ledger or self.config.ledger
        return Secret(given).where if _by_reference(given) else self.ledger

    def check_line(self, name: str | None) -> None:
        """Raise FileError for a line that the config does not name."""
        if name is not None and name not in self.config.lines:
            import difflib

            near = difflib.get_close_matches(name, self.config.lines, 1)
            hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(self.config.lines)}"
            raise FileError(str(self.config.path), None, (), f"there is no line {name!r}; {hint}")

    def check_theme(self) -> None:
        """Raise FileError for a theme that cannot be shown, before anything starts."""
        import themes

        try:
            themes.load(self.config.theme, self.config.folder / "themes")
        except FileError as error:
            place = self.config.theme_place
            raise FileError(str(self.config.path), place, ("theme",), str(error).removeprefix("theme: ")) from error

    def keys(self) -> "Keys":
        """Which keys the room has. Raises FileError for what cannot be, before anything starts."""
        from tui.keymap import read

        return read(self.config)

    def keeper(self, *, read_only: bool = False, patient: bool = False) -> Keeper:
        """The opened ledger; `patient`: see `Keeper`. Raises LedgerUnusable."""
        return open_ledger(self.ledger, self.clock, read_only=read_only or self.read_only, patient=patient)

    def engine(self, keeper: Keeper, *, duty: bool, room: bool = False) -> "Engine":
        """The started engine of this process."""
        if not room:  # the room has its own, with a log
            from tui.leaving import guard_crashes

            guard_crashes()
        from andon.engine import Engine

        return Engine(
            self.config,
            keeper,
            self.clock,
            self.state,
            who=self.who,
            terminal=_terminal() if room and not self.read_only else "",  # who only looks writes nothing, not even that
            read_only=self.read_only,
            duty=duty,
            after_screen=room,
        ).start()


def config_path(named: str | None) -> Path:
    """The config to read. Raises FileError with the places that were looked at."""
    if named is not None:
        return Path(named)
    places = configplace.places()
    for place in places:
        if place.exists():
            return place
    looked = " or ".join(str(place) for place in places) or "a folder of yours: the environment names no whole path"
    raise FileError(
        "", None, (), f"no config at {looked}; `andon init` writes one, `andon demo` shows a room without one"
    )


def address(given: str, folder: Path) -> str:
    """Where the ledger is that the config in `folder` gives so. A relative path starts there. Raises LedgerUnusable."""
    import platformdirs

    if _by_reference(given):
        from andon.secret import Secret, SecretError

        try:
            given = Secret(given).open()
        except SecretError as error:
            raise LedgerUnusable(f"ledger: {error}") from error
    if not given:
        return str(platformdirs.user_state_path("andon").absolute() / "ledger.db")
    return given if "://" in given else str(folder / Path(given).expanduser())


def given_address(args: argparse.Namespace) -> str:
    """Where the ledger is by `--ledger`; empty: it is not given. A relative path starts in the current folder."""
    given: str = args.ledger or ""
    return address(given, Path()) if _by_reference(given) else given


def open_ledger(address: str, clock: Clock, *, read_only: bool, lean: bool = False, patient: bool = False) -> Keeper:
    """The opened ledger; `lean`, `patient`: see `Keeper`. Raises LedgerUnusable."""
    return Keeper(_opener(address, clock, read_only=read_only), clock, lean=lean, patient=patient).start()


def _opener(address: str, clock: Clock, *, read_only: bool) -> Callable[[], Kept]:
    try:
        opener = registry.ledger(address)
    except registry.UnknownAdapter as error:
        raise LedgerUnusable(str(error)) from error
    path = Path(address.removeprefix("sqlite://")).expanduser()
    if path.is_dir():
        raise LedgerUnusable(f"{path}: is a folder; name a file in it")
    return lambda: opener(path, clock, read_only=read_only)


def _by_reference(address: str) -> bool:
    if ":" not in address:
        return False
    from andon.secret import SCHEMES

    return address.partition(":")[0] in SCHEMES


def _terminal() -> str:
    """Where this person sits: host and terminal."""
    import socket

    host = socket.gethostname().partition(".")[0]
    try:
        return f"{host}:{os.ttyname(sys.stdin.fileno()).removeprefix('/dev/')}"
    except (OSError, ValueError):
        return host
