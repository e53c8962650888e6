"""The danger keys: which they are, what they would do now, and the one way they take.

The screen says what a key would act on; the driver's input thread (or, in a headless test, the app) asks `Danger.press`,
which does it before anything else learns of the key.
"""

import logging
from collections.abc import Callable
from typing import Literal

import msgspec
from textual.message import Message

from andon.clock import Time
from tui.leaving import crash_text

_FUNCTION_KEYS = {f"f{n}" for n in range(1, 25)} - {"f3", "f15"}  # a cursor report can look like these two
_SAFE_KEYS = _FUNCTION_KEYS | {f"ctrl+f{n}" for n in range(1, 13) if n != 3} | {"ctrl+o", "ctrl+underscore"}

log = logging.getLogger("andon.room")

Act = Literal["stop", "rollback", "confirm"]


class Armed(msgspec.Struct, frozen=True):
    """What F4 would do now: published after the frame that shows it was painted."""

    line: str
    environment: str
    expected: str
    """The deployment id that is current on the screen."""
    target: str
    """The version to return to."""
    version_shown: str
    """The version that is current on the screen."""
    data_at: Time
    """When what the screen shows was read."""
    painted_at: Time
    """When the first frame with this target had left for the terminal."""
    words: str
    """The sentence of the danger row."""


def safe_key(key: str) -> str | None:
    """Why `key` cannot be a danger key, for a person; None: it can. Names are Textual's: `f9`, `ctrl+o`."""
    if key in _SAFE_KEYS:
        return None
    return f"{key}: text, a terminal's answer or line editing can press it; take f1 to f24 (not f3, f15) or ctrl+o"


class Danger:
    """The keys that act outside, and what they act on. Written by the screen's thread, read by the input thread."""

    class Pressed(Message):
        """A danger key was caught. For the screen to show; whatever had to be done was done already."""

        def __init__(self, act: Act, key: str, line: str, armed: Armed | None, why_not: str) -> None:
            super().__init__()
            self.act = act
            """`stop` (F9), `rollback` (F4) or `confirm` (F8, posted only when it was refused)."""
            self.key = key
            self.line = line
            """The line it acts on."""
            self.armed = armed
            """For `rollback`: what was asked for."""
            self.why_not = why_not
            """One sentence why nothing was asked for; empty: it was."""

        @property
        def taken(self) -> bool:
            """Whether the act was asked for."""
            return not self.why_not

    def __init__(
        self,
        on_stop: Callable[[str], None],
        on_rollback: Callable[[Armed], None],
        *,
        stop_key: str = "f9",
        rollback_key: str = "f4",
        confirm_key: str = "f8",
    ) -> None:
        """`on_stop(line)` and `on_rollback(armed)` are called in the input thread. Raises ValueError for an unsafe key."""
        self.on_stop = on_stop
        self.on_rollback = on_rollback
        self.keys: dict[str, Act] = {stop_key: "stop", rollback_key: "rollback", confirm_key: "confirm"}
        for key in self.keys:
            if why := safe_key(key):
                raise ValueError(why)
        if len(self.keys) < 3:
            raise ValueError("stop, rollback and confirm need three different keys")
        self.stop_line = ""
        """The line F9 stops."""
        self.armed: Armed | None = None
        """What F4 does; None: nothing."""
        self.why_not = "nothing is shown yet"
        """One sentence why F4 is not armed."""
        self.closed = ""
        """One sentence why no key acts any more; empty while they do."""

    def press(self, key: str, alone: bool = True) -> "Danger.Pressed | None":
        """Act on `key`; None: it is for the event loop (not a danger key, or a confirming one that came alone).

        `alone` says that nothing else came in with it, as with a key under a finger. Never raises.
        """
        act = self.keys.get(key)
        if act is None or (act == "confirm" and alone):
            return None
        armed = self.armed if act == "rollback" else None
        line = armed.line if armed else self.stop_line
        why_not = self.closed or self._do(act, armed, line, alone)
        return Danger.Pressed(act, key, line, armed, why_not)

    def _do(self, act: Act, armed: Armed | None, line: str, alone: bool) -> str:
        """Do it; why not, in words."""
        if act != "stop" and not alone:
            return "other input came with the key: press it again, alone"
        try:
            if act == "stop":
                if not line:
                    return "no line is selected"
                self.on_stop(line)
            else:
                if armed is None:
                    return self.why_not
                self.on_rollback(armed)
        except Exception as error:  # noqa: BLE001 — the input thread must live on; the next press is a new try
            log.error("%s of %s could not be asked for\n%s", act, line, crash_text(error))
            return f"{act} could not be asked for: {type(error).__name__}; press it again"
        return ""
