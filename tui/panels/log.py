"""The log of a job: the lines that fit, the newest at the bottom while it follows; what fails stands out."""

import time

from tui.moment import Moment
from tui.panels.panel import Panel
from tui.panels.sheet import Sheet, width_of
from tui.tailing import AGAIN_S, Tail, bad

STALE_S = 6.0
"""A log that still grows and was not read for so long is stale."""


class Log(Panel):
    """The lines of the job that is picked."""

    follows = True
    """Whether the end is kept in sight."""
    top = 0
    """The number of the first line shown, counted from 0, while it does not follow."""
    name = ""
    """Of the job."""
    nothing = ""
    """Why there is no log."""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """A head, then lines with their numbers."""
        tail = moment.tail
        x = sheet.put(1, 0, "log", "fg", bold=True)
        rows = max(1, sheet.height - 1)
        if tail is None:
            sheet.put(x + 2, 0, self.name, "mid", most=sheet.width - x - 3)
            sheet.put(1, 2, self.nothing or "nothing is picked", "dim", most=sheet.width - 2)
            return
        stale = is_stale(tail)
        words, role = self._state(tail, stale=stale)
        end = sheet.right(sheet.width - 2, 0, words, role, bold=role == "blind") - 2
        last = min(tail.count, self.first(tail, rows) + rows)
        place = f"line {last:,} of {tail.count:,} · "
        if end - width_of(place) - x > width_of(self.name) + 4:
            end = sheet.right(end + 1, 0, place, "dim") - 1
        sheet.put(x + 2, 0, self.name, "mid", most=end - x - 2)
        if not tail.lines:
            words = tail.words or (
                "it wrote nothing" if tail.done else "reading" if tail.read_at is None else "nothing yet"
            )
            sheet.put(1, 2, words, "blind" if tail.words else "dim", most=sheet.width - 2)
            return
        self._lines(sheet, tail, rows, dim=stale)

    def _state(self, tail: Tail, *, stale: bool) -> tuple[str, str]:
        if tail.words:
            return f"cannot be read: {tail.words}", "blind"
        if tail.done:
            return "ended", "dim"
        if stale and tail.read_at is not None:
            return f"stale {time.monotonic() - tail.read_at:.0f} s", "blind"
        if not tail.caught_up:
            return "reading", "mid"
        return ("follows" if self.follows else "live, not followed"), "fg"

    def first(self, tail: Tail, rows: int) -> int:
        """The number of the first line that is shown."""
        most = max(tail.dropped, tail.count - rows)
        return most if self.follows else max(tail.dropped, min(self.top, most))

    def _lines(self, sheet: Sheet, tail: Tail, rows: int, *, dim: bool) -> None:
        first = self.first(tail, rows)
        digits = max(4, len(str(tail.count)))
        if first == tail.dropped and tail.dropped:
            sheet.put(1, 1, f"{tail.dropped:,} lines before this are not kept", "dim", most=sheet.width - 2)
            first, start = first + 1, 2
        else:
            start = 1
        for y in range(start, rows + 1):
            number = first + y - start
            text = tail.at(number)
            if text is None:
                break
            how = bad(text) if not dim else ""
            sheet.right(digits, y, str(number + 1), "dim")
            x = digits + 3
            if how == "worst":
                sheet.tint(x - 1, y, sheet.width - x, "stopchip")
                sheet.put(x, y, text, "fg", bold=True, bg="stopchip", most=sheet.width - x - 1)
            else:
                role = "dim" if dim else "stop" if how == "part" else "mid"
                sheet.put(x, y, text, role, most=sheet.width - x - 1)


def is_stale(tail: Tail) -> bool:
    """Whether it may have grown since it was read."""
    if tail.done or tail.read_at is None:
        return False
    return time.monotonic() - tail.read_at > STALE_S + AGAIN_S
