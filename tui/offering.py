"""Which commands can be done now, and why the others cannot: for the palette, the keys page, and whoever asks."""

from collections.abc import Iterator
from typing import NamedTuple

from tui import commands
from tui.commands import Command
from tui.moment import Moment
from tui.panels.danger import rollback_words, stop_words
from tui.panels.hold import shown, waiting
from tui.panels.words import login

PLACES = {
    commands.FLOOR: "the floor",
    commands.LINE: "a line's screen",
    commands.HOLD: "the screen of a hold",
    commands.EVENTS: "the events",
    commands.ABOUT: "the page about andon",
    commands.DEPLOYMENT: "the screen of a deployment",
    commands.METRIC: "the screen of a metric",
    commands.RUN: "the screen of a run",
    commands.REASON: "a dialog",
    commands.KEYS: "the keys page",
    commands.REPLAY: "a replay",
}
"""What a screen is called where a command is not to be had."""
NOT_LISTED = ("palette", "back", "up", "down", "first", "last", "page_up", "page_down", "confirm", "page")
"""What makes no sense in the palette: it lies over the screen."""


ELSEWHERE = ("replay", "wall")
"""Groups of commands that a room has not; a replay and a wall have them."""


class Offer(NamedTuple):
    """A command in the palette."""

    command: Command
    why_not: str
    """Why it cannot be done now; empty: it can."""


def offers(moment: Moment, where: str) -> Iterator[Offer]:
    """Every command, also those that cannot be done now: muscle memory wants them in their place."""
    for command in moment.keys.commands:
        if command.id not in NOT_LISTED and (command.group not in ELSEWHERE or _here(moment, command, where)):
            yield Offer(command, why_not(moment, command.id, where))


def _here(moment: Moment, command: Command, where: str) -> bool:
    """Whether a screen has a command, or the replay in which it stands."""
    return where in command.where or (commands.REPLAY in command.where and moment.replay is not None)


def why_not(moment: Moment, id_: str, where: str) -> str:
    """Why a command cannot be done now on that screen; empty: it can."""
    command = moment.keys[id_]
    if command.acts and moment.read_only:
        return "this room only looks"
    if id_ == "stop":
        words = stop_words(moment)
        return "" if words.live or moment.known(moment.line).open_holds else words.text
    if id_ == "rollback":
        words = rollback_words(moment)
        return "" if words.live else words.text
    if not _here(moment, command, where):
        places = [PLACES[name] for name in command.where if name in PLACES]
        return f"on {' or '.join(places[:2])}" if places else "not here"
    return _of_the_line(moment, id_)


def _of_the_line(moment: Moment, id_: str) -> str:
    """Why not, by what is true of the selected line."""
    line = moment.known(moment.line)
    held = bool(line.open_holds)
    if id_ == "call":
        if held:
            return f"{moment.line} is stopped already"
        return f"{login(line.call.who)} called already" if line.call is not None else ""
    if id_ == "clear":
        return "" if moment.called() is not None else "nobody has called for help"
    if id_ in ("happened", "did_not"):
        return "" if any(act.state == "unknown" for act in line.unsettled()) else "no act is unknown"
    if id_ == "hold":
        return "" if line.holds else f"{moment.line} was never stopped"
    if id_ == "resume":
        return "" if held else f"{moment.line} has no hold to lift"
    if id_ == "take":
        return "" if held or line.call is not None else f"{moment.line} has neither hold nor call"
    if id_ in ("why", "extend", "through"):
        hold = shown(moment)
        if hold is None or not hold.open:
            return "the hold was lifted"
        return "" if id_ != "through" or waiting(line) else "no change waits behind this stop"
    return ""
