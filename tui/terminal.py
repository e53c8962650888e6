"""The terminal as andon uses it: danger keys, input guard, output gate, leaving.

How an app uses it::

    class Room(GatedApp[None]):
        def __init__(self) -> None:
            super().__init__(Danger(on_stop=..., on_rollback=...), log_path=path)

        def drain(self, reason: str, deadline: float) -> None: ...       # another thread: finish or record acts, return
        def frame_shown(self) -> None: ...                               # the last frame has left for the terminal
        def on_danger_pressed(self, event: Danger.Pressed) -> None: ...  # F9, F4 or F8 was caught: show it

    harden_process(); guard_crashes(path)
    if why := usable(): exit 2 with it
    room.run(); sys.exit(room.return_code or 0)

The screen keeps `app.danger.stop_line`, `.armed` and `.why_not` up to date, and publishes `armed` only in `frame_shown`,
for the frame that showed it. `on_stop(line)` and `on_rollback(armed)` are called in the driver's input thread, before the
event loop, and must return at once (the engine's `ask`). A danger key never becomes a `Key` event: no binding can act on
it. In a headless test `pilot.press("f9")` takes the same way.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from textual import events
from textual.app import App, ReturnType
from textual.filter import LineFilter
from textual.screen import Screen

from andon.text import gate
from tui.danger import Armed, Danger, safe_key
from tui.driver import Terminal
from tui.leaving import crash_text, crash_words, guard_crashes, harden_process, usable
from tui.screen_out import Gate, say

__all__ = [
    "Armed",
    "Danger",
    "GatedApp",
    "Terminal",
    "guard_crashes",
    "harden_process",
    "safe_key",
    "usable",
]

log = logging.getLogger("andon.room")


class GatedApp(App[ReturnType]):
    """An app behind `Terminal`: it paints only what is harmless, only when the terminal reads, and leaves in order."""

    def __init__(self, danger: Danger | None = None, *, log_path: Path | None = None, **options: Any) -> None:
        options.setdefault("driver_class", Terminal)
        super().__init__(**options)
        self.danger = danger
        self.log_path = log_path
        """Where more is written about a crash; only its name is used here."""
        self._gate = Gate()
        self._holding = False
        self._missed = False

    def drain(self, reason: str, deadline: float) -> None:
        """Finish or record every open act; for the app to override.

        Called once, in a thread of its own, when the process must go: a signal, or the terminal is gone. The event loop
        may be blocked. `deadline` is `time.monotonic()`; the process ends when this returns, or then.
        """

    def frame_shown(self) -> None:
        """Called in the event loop when the frame painted last has left for the terminal; for the app to override."""

    def leave(self, reason: str, deadline: float) -> None:
        """Take no more keys, then `drain`."""
        if self.danger is not None:
            self.danger.closed = f"andon is leaving: {reason}"
        self.drain(reason, deadline)

    # Painting

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's filters, and the gate as the last."""
        return [*super().get_line_filters(), self._gate]

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        """Paint; then hold further frames until the terminal has taken this one."""
        if self._holding:
            self._missed = self._missed or renderable is not None
            return
        super()._display(screen, renderable)
        if renderable is None or self._batch_count:
            return
        driver = self._driver
        if not isinstance(driver, Terminal):
            self._tell_frame_shown()
            return
        self._holding = True
        self._begin_batch()
        driver.on_drained = self._go_on
        driver.tell_when_drained()

    def _go_on(self, lost: bool) -> None:
        """The terminal has taken everything: paint again, all of it if a frame was lost or left out."""
        if self._holding:
            self._holding = False
            self._batch_count -= 1
        if not self._running or not self._screen_stack:
            return
        with self._context():
            if lost or self._missed:
                self._missed = False
                self.screen.refresh()
            self.screen.check_idle()
            if not lost:
                self._tell_frame_shown()

    def _tell_frame_shown(self) -> None:
        try:
            self.frame_shown()
        except Exception as error:  # noqa: BLE001 — as any other error in the app's own code: it ends the room
            self._handle_exception(error)

    async def on_event(self, event: events.Event) -> None:
        """A danger key that comes as an event (a test, a macro) takes the same way, and no binding sees it."""
        if isinstance(event, events.Key) and self.danger is not None and not event.is_forwarded:
            pressed = self.danger.press(event.key)
            if pressed is not None:
                if not pressed.taken:
                    self.bell()
                self.post_message(pressed)
                return
        await super().on_event(event)

    # Ending

    def _fatal_error(self) -> None:
        """Leave after an error nobody caught: one line for the person, the rest to the log, no values anywhere."""
        error = self._exception or sys.exc_info()[1]
        if error is not None:
            log.critical("the room broke\n%s", crash_text(_root(error)))
            self._exit_renderables.append(crash_words(_root(error), self.log_path))
        self._close_messages_no_wait()

    def panic(self, *renderables: RenderableType) -> None:
        """Leave and print `renderables` as harmless plain text."""
        self._exit_renderables.extend(renderables)
        self._close_messages_no_wait()

    def _print_error_renderables(self) -> None:
        """Print what the app says at its end, gated, without waiting for a terminal that does not read."""
        lines = [_plain(renderable) for renderable in self._exit_renderables]
        self._exit_renderables.clear()
        if lines and sys.__stderr__ is not None:
            say(sys.__stderr__.fileno(), "\n".join(dict.fromkeys(lines)) + "\n")


def _root(error: BaseException) -> BaseException:
    """The error behind a worker's."""
    return getattr(error, "error", None) or error


def _plain(renderable: RenderableType) -> str:
    """`renderable` as gated text without styles."""
    if isinstance(renderable, str):
        return gate(renderable)
    console = Console(width=100, color_system=None, markup=False, highlight=False, emoji=False)
    segments = console.render(renderable, console.options)
    return gate("".join(text for text, _, control in segments if not control)).rstrip("\n")
