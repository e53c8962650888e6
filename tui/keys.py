"""`andon keys`: the table of commands as text, as JSON, as the page `docs/keys.md`, and what a terminal really sends."""

import argparse
import sys
from collections.abc import Iterable

from tui.commands import COMMANDS, DANGER, HANDLED_BELOW, LEAVING, Command
from tui.keymap import DEFAULT, Keys, cap_of, read, told
from tui.printing import out

HEADINGS = {
    "danger": "Stop and undo",
    "see": "See",
    "act": "Act",
    "move": "Move",
    "app": "The room itself",
    "replay": "In a replay",
}
"""What a group of commands is called on the page; a group without a heading has its own name."""

_BEGIN = """\
# Keys

Made by `andon keys --markdown` from the one table of commands; a test fails when it is stale. In the room `?` shows the
same, for the screen you are on.

The danger keys act at once and from every screen, dialog and text field, also when the screen is stuck: the program reads
them in a thread of its own, before anything else.
"""

_END = """\
## Other keys

The config can give a command other keys, by its id:

```yaml
keys:
  stop: f10
  metric: [M, ctrl+t]
```

A key is written `f10`, `ctrl+o`, `home`, `?`, or as a letter, whose case counts. What would not work is refused with its
place in the file: an id that is none, a key that no terminal sends in a way of its own, a key that another command of the
same screen has. {leaving} always leave. {danger} take only F1 to F24 (not F3 and F15),
ctrl with one of F1 to F12, ctrl+o or ctrl+_: nothing that text, a paste, a terminal's answer or the editing of a line
could press.

`andon keys --test` shows what your terminal really sends for a key, byte by byte, and what the room would make of it. It
acts on nothing. Try it where you will sit at night: over ssh, inside tmux, on the console.
"""


def keys(args: argparse.Namespace) -> int:
    """Print the keys, or show what the terminal sends. Raises FileError for a config that does not fit."""
    if args.markdown:
        out(None, argparse.Namespace(), markdown().rstrip("\n"))
        return 0
    found = configured(args.config)
    if args.test:
        from tui.keytest import test

        return test(found)
    out(told(found.commands), args, as_text(found.commands))
    return 0


def configured(named: str | None) -> Keys:
    """The keys of the config that is named or found; those of the table where there is none."""
    from andon import config as configs

    if named is None and not any(place.exists() for place in configs.places()):
        return DEFAULT
    from tui.setup import config_path

    return read(configs.load(config_path(named)))


def as_text(commands: Iterable[Command]) -> str:
    """A row for each."""
    rows = [(_caps(item), item.id, item.title, item.tooltip) for item in commands]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join(part.ljust(width) for part, width in zip(row, (*widths, 0), strict=True)) for row in rows
    )


def _caps(command: Command) -> str:
    return ", ".join(cap_of(key) for key in command.key.split(","))


def markdown() -> str:
    """`docs/keys.md`."""
    groups = list(dict.fromkeys(command.group for command in COMMANDS))
    order = sorted(groups, key=lambda name: list(HEADINGS).index(name) if name in HEADINGS else len(HEADINGS))
    parts = [_BEGIN]
    for group in order:
        parts.append(f"## {HEADINGS.get(group, group)}\n\n| key | id | does | where |\n|---|---|---|---|")
        rows = [_row(command) for command in COMMANDS if command.group == group]
        parts[-1] += "\n" + "\n".join(rows) + "\n"
    parts.append(_END.format(leaving=" and ".join(LEAVING), danger=", ".join(f"`{id_}`" for id_ in DANGER)))
    return "\n".join(parts)


def screens(command: Command) -> str:
    """On which screens it is, in words."""
    return "everywhere" if command.id in HANDLED_BELOW else ", ".join(command.where)


def _row(command: Command) -> str:
    caps = ", ".join(f"`{cap_of(key)}`" for key in command.key.split(",")).replace("`|`", "`\\|`")
    words = f"{command.title}: {command.tooltip}".replace("|", "\\|")
    return f"| {caps} | {command.id} | {words} | {screens(command)} |"


if __name__ == "__main__":
    sys.stdout.write(markdown())
