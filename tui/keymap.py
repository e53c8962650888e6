"""Which keys the commands have in this room: those of the table, or others that the config gives them.

`read` takes what the config says and refuses what would not work, with its place: an id that is none, a key that no
terminal sends, one that another command of the same screen has, and for a danger key whatever text, a terminal's answer
or the editing of a line could press. Screens show what `Keys` says, so that no page names a key that does nothing.
"""

import difflib
import string
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from andon.configured import Config, Remapped
from andon.yamlfile import FileError
from tui.commands import BY_ID, COMMANDS, DANGER, LEAVING, PALETTE, REPLAY, SIGN_OF, TYPING, Command

_NAMED = ("up", "down", "left", "right", "home", "end", "pageup", "pagedown")
_FUNCTION = tuple(f"f{n}" for n in range(1, 25))
_PUNCTUATION = MappingProxyType({sign: name for name, sign in SIGN_OF.items()} | {" ": "space"})
"""A sign, and what Textual calls its key."""
TEXT = frozenset((*string.ascii_letters, *string.digits, *_PUNCTUATION.values()))
"""Keys that write text."""
_SENT_AS = MappingProxyType({"ctrl+i": "tab", "ctrl+m": "enter", "ctrl+j": "enter", "ctrl+h": "backspace"})
POSSIBLE = frozenset(
    (
        *TEXT,
        *_FUNCTION,
        *(f"ctrl+f{n}" for n in range(1, 13)),
        *("enter", "escape", "tab", "shift+tab", "backspace", "delete", "insert"),
        *_NAMED,
        *(f"ctrl+{name}" for name in _NAMED),
        *(f"shift+{name}" for name in _NAMED),
        *(f"ctrl+{letter}" for letter in string.ascii_lowercase if f"ctrl+{letter}" not in _SENT_AS),
        "ctrl+underscore",
        *(f"alt+{char}" for char in (*string.ascii_letters, *string.digits)),
    )
)
"""Keys that a terminal sends in a way of their own."""
_BESIDE_TEXT = frozenset(
    (
        *_FUNCTION,
        *(f"ctrl+f{n}" for n in range(1, 13)),
        *("escape", "pageup", "pagedown", "ctrl+underscore"),
        *(f"ctrl+{letter}" for letter in "glnorst"),
    )
)
"""Keys that neither write text nor edit a line: what a screen with a text field can use."""
_ALIASES = MappingProxyType({"esc": "escape", "return": "enter", "del": "delete", "pgup": "pageup", "pgdn": "pagedown"})


class Keys:
    """Every command, with the keys it has in this room."""

    def __init__(self, changed: Mapping[str, str] = MappingProxyType({})) -> None:
        """`changed`: the id of a command, and its keys as Textual names them, with commas between."""
        self.changed = changed
        caps = {id_: cap_of(changed.get(id_, command.key)) for id_, command in BY_ID.items()}
        self.commands = tuple(
            command._replace(
                key=changed.get(command.id, command.key),
                tooltip=_worded(command.tooltip, caps) if changed else command.tooltip,
            )
            for command in COMMANDS
        )
        self._by_id = {command.id: command for command in self.commands}

    def __getitem__(self, id_: str) -> Command:
        """The command of that id."""
        return self._by_id[id_]

    def cap(self, id_: str) -> str:
        """A command's key as it is written on a screen."""
        return self._by_id[id_].cap

    def of(self, where: str) -> tuple[Command, ...]:
        """The commands that a screen has."""
        return tuple(command for command in self.commands if where in command.where)

    def for_replay(self) -> "Keys":
        """The same in a replay, whose own keys come first: what they take is no key of another command there."""
        taken = {key for command in self.of(REPLAY) for key in command.key.split(",")}
        found = Keys(self.changed)
        found.commands = tuple(
            command if REPLAY in command.where else command._replace(key=",".join(_left(command.key, taken)))
            for command in self.commands
        )
        found._by_id = {command.id: command for command in found.commands}
        return found

    def textual(self) -> dict[str, str]:
        """The changed keys by the ids of Textual's bindings."""
        return {f"{where}.{id_}": keys for id_, keys in self.changed.items() for where in BY_ID[id_].where}


def _left(keys: str, taken: set[str]) -> list[str]:
    return [key for key in keys.split(",") if key not in taken]


def _worded(tooltip: str, caps: Mapping[str, str]) -> str:
    """A tooltip that names the keys of this room where it names those of the table."""
    for id_ in DANGER:
        tooltip = tooltip.replace(BY_ID[id_].cap, caps[id_])
    return tooltip


def cap_of(keys: str) -> str:
    """The first of these keys, as it is written on a screen."""
    return Command("", keys, "", "").cap


DEFAULT = Keys()


def read(config: Config) -> Keys:
    """The keys of a room over this config. Raises FileError with the place of what does not fit."""
    if not config.keys:
        return DEFAULT
    changed = {item.command: ",".join(_checked(config, item)) for item in config.keys}
    keys = Keys(changed)
    for item in config.keys:
        _alone(config, item, keys)
    return keys


def _error(config: Config, item: Remapped, words: str) -> FileError:
    return FileError(str(config.path), item.place, ("keys", item.command), words)


def _checked(config: Config, item: Remapped) -> list[str]:
    """Its keys, each of them possible there."""
    command = BY_ID.get(item.command)
    if command is None:
        near = difflib.get_close_matches(item.command, BY_ID, 1)
        hint = f'did you mean "{near[0]}"?' if near else "`andon keys` lists them"
        raise _error(config, item, f"there is no such command; {hint}")
    if not item.keys:
        raise _error(config, item, "no key; a command without one could not be reached")
    if command.id in DANGER and len(item.keys) > 1:
        raise _error(config, item, "a danger key is one key")
    found = []
    for written in item.keys:
        key, why = named(written)
        if not why and command.id in DANGER:
            from tui.danger import safe_key

            why = safe_key(key) or ""
        elif not why and key not in _BESIDE_TEXT and set(command.where) & set(TYPING):
            why = f"{written}: text is written on a screen of this command, and would take the key"
        if why:
            raise _error(config, item, why)
        found.append(key)
    return list(dict.fromkeys(found))


def named(written: str) -> tuple[str, str]:
    """What Textual calls a key that is written `F10`, `ctrl+o`, `?` or `N`; and why it cannot be, or nothing."""
    text = written if len(written) == 1 else written.strip()
    if text in _PUNCTUATION:
        return _PUNCTUATION[text], ""
    *held, last = text.split("+") if len(text) > 1 and not text.endswith("+") else [text]
    held = [name.strip().lower().replace("control", "ctrl") for name in held]
    last = last.strip()
    if len(last) > 1 or (held and "alt" not in held):
        last = last.lower()
    last = _ALIASES.get(last, last)
    if held == ["shift"] and len(last) == 1 and last.isalpha():
        held, last = [], last.upper()
    key = "+".join((*held, "underscore" if held and last == "_" else last))
    if key in POSSIBLE:
        return key, ""
    if key in _SENT_AS:
        return key, f"{written}: terminals send it as {_SENT_AS[key]}, so it is no key of its own"
    near = difflib.get_close_matches(key.lower(), sorted(POSSIBLE), 1, 0.7)
    hint = f'did you mean "{near[0]}"?' if near else "write f10, ctrl+o, home, ? or a letter"
    return key, f"{written}: not a key that every terminal sends; {hint}"


def _alone(config: Config, item: Remapped, keys: Keys) -> None:
    """Refuse a key that another command of one of its screens has: one of the two could not be reached."""
    mine = keys[item.command]
    for key in mine.key.split(","):
        for others, id_ in ((LEAVING, "leave"), (PALETTE, "palette")):
            if key in others and mine.id != id_:
                raise _error(config, item, f"{key}: always means {BY_ID[id_].title}, on every screen")
        for other in keys.commands:
            if other.id != mine.id and key in other.key.split(",") and _meet(mine, other):
                words = f"{cap_of(key)}: is the key of {other.id} ({other.title})"
                raise _error(config, item, f"{words}; give that another one too, or take a free one here")
        if taken := _OWN_KEYS.intersection([key]) and set(mine.where) & set(TYPING):
            raise _error(config, item, f"{key}: moves in the list on the screen {', '.join(sorted(taken))}")


_OWN_KEYS = frozenset(("up", "down", "enter"))


def _meet(one: Command, other: Command) -> bool:
    """Whether two commands are on one screen; danger keys are on all of them."""
    return one.id in DANGER or other.id in DANGER or bool(set(one.where) & set(other.where))


def told(keys: Iterable[Command]) -> list[dict[str, str]]:
    """Commands as `andon keys --json` prints them."""
    return [
        {
            "id": item.id,
            "key": item.key,
            "title": item.title,
            "help": item.tooltip,
            "group": item.group,
            "screens": " ".join(item.where),
        }
        for item in keys
    ]
