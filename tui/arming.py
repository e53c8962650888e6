"""What the danger keys would do, from the moment it is drawn to the moment it is seen.

A frame is drawn, handed to the terminal, and at last has left for it. Only then is what it showed published to the input
thread, which reads nothing else. What is taken away (no target, a dialog in front) is taken at once.
"""

import logging
import time

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
            armed, why = self._look(moment, front, before)
        except Exception as error:  # noqa: BLE001 - F9 must go on working when what F4 would do cannot be worked out
            log.error("what F4 would do could not be worked out\n%s", crash_text(error))
            armed, why = None, f"F4: its target could not be worked out: {type(error).__name__}; logged"
        self._drawn = (moment.line, armed, why)
        if armed is None:
            self.danger.armed, self.danger.why_not = None, why
        same_words = before is not None and armed is not None and before.words == armed.words
        if same_words and line == moment.line and self._handed[0] == line and self._handed[1] is not None:
            self._handed = self._drawn  # the row is on the screen already, word for word
            self.seen()

    def _look(self, moment: Moment, front: RoomScreen, before: Armed | None) -> tuple[Armed | None, str]:
        """What F4 does at that moment, and why it does nothing."""
        words = rollback_words(moment)
        if words.target is None:
            return None, f"F4: {words.text}"
        if not front.sees_target:
            return None, "F4: its target is not on the screen; make the window wider"
        return armed_for(moment, before), ""

    def handed(self) -> None:
        """A frame goes to the terminal, with what was drawn last."""
        self._handed = self._drawn

    def seen(self) -> None:
        """The frame handed over last has left for the terminal: its danger row is true now."""
        self.danger.stop_line, self.danger.armed, self.danger.why_not = self._handed


def armed_for(moment: Moment, before: Armed | None) -> Armed | None:
    """What F4 would do at that moment; the same as before keeps its time."""
    words = rollback_words(moment)
    found = words.target
    if found is None:
        return None
    painted_at = time.time()
    if before and (before.line, before.expected, before.target) == (moment.line, found.current.id, found.to.version):
        painted_at = before.painted_at
    return Armed(
        line=moment.line,
        environment=moment.config.lines[moment.line].environment,
        expected=found.current.id,
        target=found.to.version,
        version_shown=short(found.current.version),
        data_at=data_at(moment.config.lines[moment.line], moment.view, moment.now),
        painted_at=painted_at,
        words=words.text,
    )
