"""`andon replay`: the room over a recording. It opens no source, takes no lease and writes no ledger."""

import argparse
from pathlib import Path
from typing import ClassVar, cast

from textual.binding import Binding, BindingType
from textual.widgets import Input

from andon.keeper import Keeper
from tui import commands
from tui.app import Room
from tui.cli import complain
from tui.commands import BY_ID, REPLAY
from tui.engine import Engine
from tui.keymap import Keys
from tui.leaving import guard_crashes, harden_process, usable
from tui.moment import Moment
from tui.player import STEP_S, Deck
from tui.recalling import Recall
from tui.recording import Recording, read
from tui.screens.events import EventsScreen
from tui.screens.frame import RoomScreen
from tui.standins import NOT_IN_THE_PAST, PastEngine, PastKeeper
from tui.studying import Studying

TITLE = "\x1b]0;andon: replay\x07"


class ReplayRoom(Room):
    """A room in which it is another time."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(item.key, f"do('{item.id}')", item.title, show=False, priority=True, id=f"{REPLAY}.{item.id}")
        for item in commands.of(REPLAY)
    ]

    def __init__(self, recording: Recording, *, keys: Keys, theme: str = "dark", deck: Deck | None = None) -> None:
        """Prepare. Raises FileError for a theme."""
        self.deck = deck or Deck(recording)
        # The stand-ins have what the room asks of the two, and refuse the rest by name: no type says that.
        keeper, engine = cast("Keeper", PastKeeper(self.deck)), cast("Engine", PastEngine(self.deck))
        super().__init__(recording.config, keeper, engine, self.deck, theme=theme, keys=keys.for_replay())
        self.set_keymap(keys.textual())
        self.sight.replayed(self.deck.playing)
        self._titled = False
        if self.danger is not None:
            self.danger.closed = NOT_IN_THE_PAST

    def announce(self, moment: Moment) -> None:
        """Say in the title what this is; a stop of the past rings no bell."""
        if not self._titled:
            self._titled = True
            self._write(TITLE)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The keys of a replay are not its own while a text is typed, or while something lies over the screen."""
        if action == "do" and parameters and BY_ID[str(parameters[0])].group == REPLAY:
            return isinstance(self.screen, RoomScreen) and not isinstance(self.focused, Input)
        return super().check_action(action, parameters)

    def action_do(self, command: str) -> None:
        """Do a command: those of a replay here, the others as in any room."""
        if command in BY_ID and BY_ID[command].group == REPLAY:
            before = self.deck.now()
            self.play(command)
            self.sight.ask_again()
            if self.deck.now() < before:
                self._forget_what_came_after()
            self.redraw_soon()
        else:
            super().action_do(command)

    def _forget_what_came_after(self) -> None:
        """It is earlier now: what screens have read of the time after is not known here."""
        self.studying = Studying(self.config, self.sight.keeper)
        for screen in self.screen_stack:
            if isinstance(screen, EventsScreen):
                screen.recall = Recall(self.sight.keeper)

    def play(self, command: str) -> None:
        """Do what a key of the replay means."""
        deck = self.deck
        if command == "pause":
            deck.pause()
        elif command in ("step_on", "step_back"):
            deck.step(STEP_S if command == "step_on" else -STEP_S)
        elif command in ("faster", "slower"):
            deck.change_speed(2.0 if command == "faster" else 0.5)
        elif not deck.jump(1 if command == "next_event" else -1):
            self.tell("nothing later is recorded" if command == "next_event" else "nothing earlier is recorded")


def replay(args: argparse.Namespace) -> int:
    """Open the room over a file, or over this ledger's past; its exit code. Raises FileError, LedgerUnusable."""
    if reason := usable():
        return complain(reason)
    from tui.keys import configured

    keys = configured(args.config)
    if args.file is not None:
        recording, theme = read(Path(args.file)), theme_of(args.config)
    else:
        from tui.exporting import from_ledger
        from tui.setup import Desk

        desk = Desk(args)
        desk.check_theme()
        recording, theme = from_ledger(desk, args), desk.config.theme
        if not recording.rows and not recording.samples:
            return complain("nothing is recorded of that time")
    harden_process()
    guard_crashes()
    room = ReplayRoom(recording, keys=keys, theme=theme)
    room.run()
    return room.return_code or 0


def theme_of(named: str | None) -> str:
    """The theme of the config, where there is one. Raises FileError."""
    from andon import config as configs

    if named is None and not any(place.exists() for place in configs.places()):
        return "dark"
    from tui.setup import config_path

    return configs.load(config_path(named)).theme
