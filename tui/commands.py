"""Every command of the room in one table: bindings, key row, keys page, palette and `andon keys` are made from it."""

from typing import NamedTuple

FLOOR, LINE, REASON, KEYS = "floor", "line", "reason", "keys"
HOLD, EVENTS, ABOUT = "hold", "events", "about"
DEPLOYMENT, METRIC, RUN = "deployment", "metric", "run"
DETAILS = (DEPLOYMENT, METRIC, RUN)
"""Screens about one thing of a line."""
WALL = "wall"
REPLAY = "replay"
"""Not a screen: what a replay has on each of its screens, where its keys come before others."""
TYPING = (REASON,)
"""Screens with a text field that has the focus."""
EVERYWHERE = (FLOOR, LINE, *DETAILS, HOLD, EVENTS, ABOUT, REASON, KEYS)
LOOKING = (FLOOR, LINE)
LOOKING_ON = (*LOOKING, *DETAILS, HOLD, EVENTS, ABOUT)
"""Screens on which nothing is asked for."""
LISTS = (*LOOKING, *DETAILS, HOLD, EVENTS, ABOUT)
"""Screens with rows."""


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


_NAMES = """
exclamation_mark quotation_mark number_sign dollar_sign percent_sign ampersand apostrophe left_parenthesis
right_parenthesis asterisk plus comma minus full_stop slash colon semicolon less_than_sign equals_sign greater_than_sign
question_mark at left_square_bracket backslash right_square_bracket circumflex_accent underscore grave_accent
left_curly_bracket vertical_line right_curly_bracket tilde
"""
SIGN_OF = dict(zip(_NAMES.split(), "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", strict=True))
"""Textual's name of a key that writes a sign, and the sign."""
_CAPS = SIGN_OF | {"escape": "esc", "left": "←", "right": "→", "up": "↑", "down": "↓", "ctrl+underscore": "ctrl+_"}

COMMANDS: tuple[Command, ...] = (
    Command("stop", "f9", "stop the line", "pulls the cord: remove, notify, block, until fixed", True, group="danger"),
    Command("rollback", "f4", "roll back", "to the version shown; 3 s to withdraw with esc", True, group="danger"),
    Command(
        "resume",
        "r",
        "resume",
        "lifts a hold; asks for a reason, F8 confirms",
        True,
        (*LOOKING, *DETAILS, HOLD),
        "danger",
        "resume",
    ),
    Command(
        "open",
        "enter",
        "open",
        "the selected line: stations, deployments, holds, charts; of an event what it is about",
        False,
        (FLOOR, LINE, DEPLOYMENT, EVENTS),
        "see",
        "open",
    ),
    Command(
        "back", "escape", "back", "one step back; withdraws a rollback in its grace", False, EVERYWHERE, "see", "back"
    ),
    Command("metric", "m", "metric", "the chart of the next metric", False, (*LOOKING, METRIC, HOLD), "see", "metric"),
    Command(
        "hold",
        "h",
        "hold",
        "the proof of a stop, target by target, and what comes next",
        False,
        (*LOOKING, *DETAILS),
        "see",
        "hold",
    ),
    Command(
        "events",
        "e",
        "events",
        "all that happened; / filters by line, kind, person",
        False,
        (*LOOKING, *DETAILS, HOLD),
        "see",
        "events",
    ),
    Command("about", "a", "about", "versions, adapters, servers, and what each cannot do", False, LOOKING, "see"),
    Command("other", "tab", "other list", "deployments, stations, charts in turn", False, (LINE,), "see"),
    Command("run", "u", "run", "stages, jobs and the log of what is selected", False, (LINE, DEPLOYMENT), "see", "run"),
    Command("full", "w", "full size", "a metric: band, evidence, why", False, (LINE, DEPLOYMENT), "see", "chart"),
    Command("rows", "w", "raw rows", "each bucket and the query; again: the evidence", False, (METRIC,), "see", "rows"),
    Command("narrower", "left_square_bracket", "shorter time", "of the chart", False, (METRIC,), "see"),
    Command("wider", "right_square_bracket", "longer time", "of the chart", False, (METRIC,), "see", "range"),
    Command(
        "failure", "f", "first failure", "the job, then the line of its log", False, (RUN,), "see", "first failure"
    ),
    Command("follow", "l", "follow", "keep the end of the log in sight, or stay", False, (RUN,), "see", "follow"),
    Command(
        "address", "o", "address", "where the CI shows the run; nothing is opened", False, (RUN,), "see", "address"
    ),
    Command("density", "d", "dense rows", "one row a line, or three where there is room", False, (FLOOR,), "see"),
    Command(
        "call",
        "f7",
        "call for help",
        "the line stops after a while unless somebody clears it",
        True,
        group="act",
        row="call",
    ),
    Command("clear", "c", "clear a call", "the line runs on", True, LOOKING_ON, "act", "clear"),
    Command(
        "take",
        "t",
        "take",
        "says that you have it; what you have, you hand over",
        True,
        (*LOOKING, *DETAILS, HOLD),
        "act",
        "take",
    ),
    Command("why", "i", "reason", "says in other words why the line is held", True, (HOLD,), "act", "reason"),
    Command("extend", "x", "extend", "until when it is meant to hold", True, (HOLD,), "act", "extend"),
    Command("through", "f", "fix through", "ships one version through the stop", True, (HOLD,), "act", "fix through"),
    Command(
        "good", "g", "mark good", "the selected deployment; asks for a reason", True, (LINE, DEPLOYMENT), "act", "good"
    ),
    Command(
        "faulty", "x", "mark faulty", "never returned to; asks for a reason", True, (LINE, DEPLOYMENT), "act", "faulty"
    ),
    Command(
        "irreversible",
        "i",
        "irreversible",
        "no rollback crosses it; asks for a reason",
        True,
        (DEPLOYMENT,),
        "act",
        "irreversible",
    ),
    Command(
        "return_to",
        "B",
        "back to here",
        "rolls back to it; asks for a reason",
        True,
        (DEPLOYMENT,),
        "act",
        "back to here",
    ),
    Command(
        "happened", "y", "it happened", "you looked: an unknown act took place", True, (*LOOKING, *DETAILS, HOLD), "act"
    ),
    Command(
        "did_not",
        "N",
        "it did not",
        "you looked: an unknown act did not take place",
        True,
        (*LOOKING, *DETAILS, HOLD),
        "act",
    ),
    Command("confirm", "f8", "confirm", "a reason: no paste can press it", True, (REASON,), "act", "confirm"),
    Command("up", "up,k", "up", "the row above", False, LISTS, "move"),
    Command("down", "down,j", "down", "the row below", False, LISTS, "move"),
    Command("first", "home", "first", "the first row", False, LISTS, "move"),
    Command("last", "end", "last", "the last row", False, LISTS, "move"),
    Command("page_up", "pageup", "page up", "of a log, of rows", False, (METRIC, RUN), "move"),
    Command("page_down", "pagedown", "page down", "of a log, of rows", False, (METRIC, RUN), "move"),
    Command("worst", "n", "worst", "the line with the worst trouble", False, LOOKING, "move", "worst"),
    Command(
        "find", "slash", "find", "a line by its name, an event by its words", False, (FLOOR, EVENTS), "move", "find"
    ),
    Command("sort", "s", "sort", "by trouble, or as in the config", False, (FLOOR,), "move", "sort"),
    Command("keys", "question_mark", "this page", "every key, every sign", False, LOOKING_ON, "app", "keys"),
    Command("palette", "p,ctrl+p", "commands", "every command by its name", False, LOOKING_ON, "app"),
    Command("everything", "E", "stop everything", "one pull per line; asks for a typed word", True, LOOKING_ON, "app"),
    Command("redraw", "ctrl+l", "draw again", "the whole screen, and a panel that failed", False, EVERYWHERE, "app"),
    Command(
        "leave",
        "q,ctrl+q,ctrl+c",
        "leave",
        "asks once if something would be left undone",
        False,
        (*LOOKING_ON, KEYS, WALL),
        "app",
        "leave",
    ),
    Command(
        "page", "space,right", "next page", "the wallboard turns its pages by itself", False, (WALL,), "wall", "page"
    ),
    Command("pause", "space", "pause", "stop the replay here, or go on", False, (REPLAY,), "replay", "pause"),
    Command("step_on", "right", "step on", "ten seconds on; stops there", False, (REPLAY,), "replay"),
    Command("step_back", "left", "step back", "ten seconds back; stops there", False, (REPLAY,), "replay", "step"),
    Command("next_event", "n", "next event", "to the next that mattered", False, (REPLAY,), "replay", "next"),
    Command("previous_event", "p", "event before", "to the one before", False, (REPLAY,), "replay", "before"),
    Command("faster", "plus,equals_sign", "faster", "doubles the speed", False, (REPLAY,), "replay", "faster"),
    Command("slower", "minus", "slower", "halves the speed", False, (REPLAY,), "replay", "slower"),
)

BY_ID: dict[str, Command] = {command.id: command for command in COMMANDS}
HANDLED_BELOW = ("stop", "rollback")
"""Danger keys: the driver catches them before any binding does."""
DANGER = (*HANDLED_BELOW, "confirm", "call")
"""Keys that no text, no terminal's answer and no editing of a line may press."""
LEAVING, PALETTE = ("ctrl+q", "ctrl+c"), ("ctrl+p",)
"""Keys that always leave, and that always open the palette, whatever the config says."""


def of(where: str) -> tuple[Command, ...]:
    """The commands that a screen has."""
    return tuple(command for command in COMMANDS if where in command.where)
