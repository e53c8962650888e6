"""How old what a panel shows is: said always, dim and *stale* after two intervals, and after five not shown any more."""

from typing import NamedTuple

from andon.clock import Time, age
from tui.moment import Moment
from tui.panels.sheet import Sheet
from tui.panels.words import clock

STALE, GONE = 2, 5
"""Intervals after which something is stale, and after which its values say nothing any more."""


class Age(NamedTuple):
    """How old something is."""

    words: str
    """For the panel's head: `2 s`, `stale 40 s`, `no word since 13:59`."""
    role: str = "dim"
    stale: bool = False
    gone: bool = False

    def draw(self, sheet: Sheet, y: int) -> int:
        """Write it at the right of a row; returns its first column."""
        return sheet.right(sheet.width - 2, y, self.words, self.role, bold=self.stale)


def source_age(moment: Moment, source: str, every_s: float) -> Age:
    """How old what a source of the selected line says is."""
    pulse = moment.view.pulses.get(f"source:{moment.line}/{source}")
    known = moment.known(moment.line).sources.get(source)
    at = pulse.at if pulse is not None else known.since if known is not None and known.state == "ok" else None
    return aged(moment, source, at, max(every_s, moment.fresh_s))


def aged(moment: Moment, what: str, at: Time | None, every_s: float) -> Age:
    """The age of what was read at that time, in intervals of `every_s`."""
    if at is None:
        return Age(f"{what} not read yet")
    old = max(0.0, moment.now - at)
    if old <= STALE * every_s + moment.fresh_s or moment.warming:
        return Age(f"{what} {age(old)}")
    if old <= GONE * every_s + moment.fresh_s:
        return Age(f"{what} stale {age(old)}", "blind", stale=True)
    return Age(f"no word from {what} since {clock(at, moment.now)}", "blind", stale=True, gone=True)
