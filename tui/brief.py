"""`andon status --format`: one short line, for a shell's prompt or tmux's status line.

It holds names of lines (a-z, 0-9 and -), numbers and signs: nothing that a stranger wrote, and nothing that a prompt or
tmux would act on but the colours asked for.
"""

import sys
from collections.abc import Mapping

from andon.clock import Time, age
from andon.linestate import LineState

SIGNS = {"running": "●", "stopping": "■", "stopped": "■", "unknown": "?", "nobody": "✗"}
_PLAIN = {"●": "*", "■": "#", "?": "?", "✗": "x"}
_COLOURS = {"●": "green", "■": "red", "?": "magenta", "✗": "magenta"}


def line(form: str, states: Mapping[str, LineState], since: Mapping[str, Time], now: Time, *, watched: bool) -> str:
    """The line; `form` is `prompt` or `tmux`, `since` when the stop of a line began."""
    held = [name for name, state in states.items() if state in ("stopping", "stopped")]
    unknown = [name for name, state in states.items() if state == "unknown"]
    parts = []
    if held:
        first = min(held, key=lambda name: since.get(name, now))
        words = f"{first} {states[first]}" if len(held) == 1 else f"{first} +{len(held) - 1} stopped"
        if first in since:
            words += f" {age(now - since[first]).replace(' ', '')}"
        parts.append(_part(form, "■", words))
    if unknown and watched:
        parts.append(_part(form, "?", unknown[0] + (f" +{len(unknown) - 1}" if len(unknown) > 1 else "")))
    if not watched:
        parts.append(_part(form, "✗", "nobody watches"))
    if not parts:
        parts.append(_part(form, "●", next(iter(states)) if len(states) == 1 else str(len(states))))
    return " ".join(parts)


def _part(form: str, sign: str, words: str) -> str:
    encoding = (getattr(sys.stdout, "encoding", None) or "").lower()
    shown = sign if "utf" in encoding else _PLAIN[sign]
    if form == "tmux":
        colour = _COLOURS[sign]
        return f"#[fg={colour}]{'##' if shown == '#' else shown} {words}#[default]"
    return f"{shown} {words}"
