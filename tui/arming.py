"""What the danger keys would do, from the moment it is drawn to the moment it is seen.

A frame is drawn, handed to the terminal, and at last has left for it. Only then is what it showed published to the input
thread, which reads nothing else. What is taken away (no target, a dialog in front) is taken at once.
"""

import logging
import time

import msgspec

from tui.leaving import crash_text
from tui.moment import Moment
from tui.panels.danger import data_at, rollback_words
from tui.panels.words import short
from tui.screens.frame import RoomScreen
from tui.terminal import Armed, Danger

log = logging.getLogger("andon.room")

Keys = tuple[str, Armed | None, str]
"""The line F9 stops, what F4 does, and why it does nothing."""


class Arming:
    """Follows the danger row from drawn to seen. Belongs to the screen's thread."""

    def __init__(self, danger: Danger) -> None:
        self.danger = danger
        self._drawn: Keys = ("", None, "nothing is shown yet")
        self._handed: Keys = self._drawn

    def drawn(self, moment: Moment, front: RoomScreen) -> None:
        """The danger row of that moment was drawn."""
        line, before, _ = self._drawn
        try:
            armed, why = self._look(moment, front)
        except Exception as error:  # noqa: BLE001 - F9 must go on working when what F4 would do cannot be worked out
            log.error("what F4 would do could not be worked out\n%s", crash_text(error))
            armed, why = (
                None,
                f"{moment.keys.cap('rollback')}: its target could not be worked out: {type(error).__name__}; logged",
            )
        self._drawn = (moment.line, armed, why)
        if armed is None:
            self.danger.armed, self.danger.why_not = None, why
            self._handed = (self._handed[0], None, why)  # a frame still on its way must not give it back
        same_words = before is not None and armed is not None and before.words == armed.words
        if same_words and line == moment.line and self._handed[0] == line and self._handed[1] is not None:
            self._handed = self._drawn  # the row is on the screen already, word for word
            self.seen()

    def _look(self, moment: Moment, front: RoomScreen) -> tuple[Armed | None, str]:
        """What F4 does at that moment, and why it does nothing."""
        words = rollback_words(moment)
        if words.target is None:
            return None, f"{moment.keys.cap('rollback')}: {words.text}"
        if not front.sees_target:
            return None, f"{moment.keys.cap('rollback')}: its target is not on the screen; make the window wider"
        return armed_for(moment), ""

    def handed(self) -> None:
        """A frame goes to the terminal, with what was drawn last."""
        self._handed = self._drawn
        if not self.danger.stop_line:
            self.danger.stop_line = self._handed[0]  # nothing else was ever on the screen: whoever sees it may press

    def seen(self) -> None:
        """The frame handed over last has left for the terminal: its danger row is true now."""
        line, armed, why = self._handed
        if armed is not None:
            was = self.danger.armed
            since = was.painted_at if was is not None and _same_act(was, armed) else time.time()
            armed = msgspec.structs.replace(armed, painted_at=since)
        self.danger.stop_line, self.danger.armed, self.danger.why_not = line, armed, why


def _same_act(one: Armed, other: Armed) -> bool:
    return (one.line, one.expected, one.target) == (other.line, other.expected, other.target)


def armed_for(moment: Moment) -> Armed | None:
    """What F4 would do at that moment; when it is seen is not known yet."""
    found = rollback_words(moment).target
    if found is None:
        return None
    config = moment.config.lines[moment.line]
    return Armed(
        line=moment.line,
        environment=config.environment,
        expected=found.current.id,
        target=found.to.version,
        version_shown=short(found.current.version),
        data_at=data_at(config, moment.view, moment.now),
        painted_at=0.0,
        words=rollback_words(moment).text,
    )
