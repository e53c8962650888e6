"""Every command of the room in one table: bindings, key row, keys page, palette and `andon keys` are made from it."""

from typing import NamedTuple

FLOOR, LINE, REASON, KEYS = "floor", "line", "reason", "keys"
EVERYWHERE = (FLOOR, LINE, REASON, KEYS)
LOOKING = (FLOOR, LINE)


class Command(NamedTuple):
    """One thing a person can ask for."""

    id: str
    key: str
    """Textual's name of the key; several, with commas between, do the same."""
    title: str
    tooltip: str
    acts: bool = False
    """Whether it changes anything outside; a read-only room does not have those."""
    where: tuple[str, ...] = EVERYWHERE
    group: str = "app"
    """Under which heading the keys page lists it."""
    row: str = ""
    """Its word in the key row; empty: it is not there."""

    @property
    def cap(self) -> str:
        """The key as it is written on a screen."""
        first = self.key.partition(",")[0]
        return _CAPS.get(first, first.upper() if first.startswith("f") and first[1:].isdigit() else first)


_CAPS = {"question_mark": "?", "escape": "esc", "slash": "/"}

COMMANDS: tuple[Command, ...] = (
    Command("stop", "f9", "stop the line", "pulls the cord: remove, notify, block, until fixed", True, group="danger"),
    Command("rollback", "f4", "roll back", "to the version shown; 3 s to withdraw with esc", True, group="danger"),
    Command("resume", "r", "resume", "lifts a hold; asks for a reason, F8 confirms", True, LOOKING, "danger", "resume"),
    Command(
        "open",
        "enter",
        "open",
        "the selected line: stations, deployments, holds, charts",
        False,
        (FLOOR,),
        "see",
        "open",
    ),
    Command(
        "back", "escape", "back", "one step back; withdraws a rollback in its grace", False, EVERYWHERE, "see", "back"
    ),
    Command("metric", "m", "metric", "the chart of the next metric", False, LOOKING, "see", "metric"),
    Command("hold", "h", "hold", "the proof of a stop, target by target", False, (LINE,), "see", "hold"),
    Command("density", "d", "dense rows", "one row a line, or three where there is room", False, (FLOOR,), "see"),
    Command("take", "t", "take", "says that you have it", True, LOOKING, "act", "take"),
    Command("good", "g", "mark good", "the selected deployment; asks for a reason", True, (LINE,), "act", "good"),
    Command("faulty", "x", "mark faulty", "never returned to; asks for a reason", True, (LINE,), "act", "faulty"),
    Command("happened", "y", "it happened", "you looked: an unknown act took place", True, LOOKING, "act"),
    Command("did_not", "N", "it did not", "you looked: an unknown act did not take place", True, LOOKING, "act"),
    Command("confirm", "f8", "confirm", "a reason: no paste can press it", True, (REASON,), "act", "confirm"),
    Command("up", "up,k", "up", "the row above", False, LOOKING, "move"),
    Command("down", "down,j", "down", "the row below", False, LOOKING, "move"),
    Command("first", "home", "first", "the first row", False, LOOKING, "move"),
    Command("last", "end", "last", "the last row", False, LOOKING, "move"),
    Command("worst", "n", "worst", "the line with the worst trouble", False, LOOKING, "move", "worst"),
    Command("find", "slash", "find", "a line by its name", False, (FLOOR,), "move", "find"),
    Command("sort", "s", "sort", "by trouble, or as in the config", False, (FLOOR,), "move", "sort"),
    Command("keys", "question_mark", "this page", "every key, every sign", False, LOOKING, "app", "keys"),
    Command("palette", "p,ctrl+p", "commands", "every command by its name", False, LOOKING, "app"),
    Command("redraw", "ctrl+l", "draw again", "the whole screen, and a panel that failed", False, EVERYWHERE, "app"),
    Command(
        "leave",
        "q,ctrl+q,ctrl+c",
        "leave",
        "asks once if something would be left undone",
        False,
        (*LOOKING, KEYS),
        "app",
        "leave",
    ),
)

BY_ID: dict[str, Command] = {command.id: command for command in COMMANDS}
HANDLED_BELOW = ("stop", "rollback")
"""Danger keys: the driver catches them before any binding does."""


def of(where: str) -> tuple[Command, ...]:
    """The commands that a screen has."""
    return tuple(command for command in COMMANDS if where in command.where)
