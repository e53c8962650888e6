"""What is said beyond the screen: one bell for each new hold, and the terminal's title; acts that failed, in a sentence."""

import os
from collections.abc import Callable, Mapping, Sequence

from andon.board import Board
from andon.events import ActStepped, Event
from tui.moment import Moment
from tui.panels.facts import stop_word

KEEP_TITLE = "\x1b[22;0t"
GIVE_TITLE_BACK = "\x1b[23;0t"


class Announcer:
    """Knows which holds were announced; those that stood when the room was opened ring no bell."""

    def __init__(self, bell: Callable[[], None], write: Callable[[str], None], *, desktop: bool = False) -> None:
        """`desktop`: a new hold is also told as a notification of the desktop, by the terminal."""
        self._bell = bell
        self._write = write
        self._desktop = desktop
        self._told: set[str] | None = None

    def look(self, moment: Moment) -> None:
        """Announce what is new: a hold, a call for help."""
        holds = {hold.id for name in moment.config.lines for hold in moment.known(name).open_holds}
        called = [name for name in moment.config.lines if moment.known(name).call is not None]
        holds |= {f"call {call.id}" for name in called if (call := moment.known(name).call) is not None}
        if self._told is not None and holds - self._told:
            self._bell()
            if self._desktop:
                self._notify(moment, holds - self._told)
        if holds != self._told:
            stopped = [name for name in moment.config.lines if moment.known(name).open_holds]
            words = f"andon: {', '.join(stopped[:3])} {stop_word(moment, stopped[0]).lower()}" if stopped else "andon"
            if called and not stopped:
                words = f"andon: {', '.join(called[:3])} called"
            self._write(f"\x1b]0;{words}\x07")  # names of lines hold nothing but a-z, 0-9 and -
        self._told = holds

    def _notify(self, moment: Moment, fresh: set[str]) -> None:
        """Which lines stopped, or else called for help; nothing of it is a stranger's word."""
        names = [name for name in moment.config.lines if fresh & {hold.id for hold in moment.known(name).open_holds}]
        what = "stopped" if names else "called for help"
        names = names or [name for name in moment.config.lines if moment.known(name).call is not None]
        words = f"{', '.join(names[:3])}{' ...' if len(names) > 3 else ''} {what}"
        self._write(notification(words, os.environ))


def notification(words: str, environ: Mapping[str, str]) -> str:
    """What makes a terminal show a notification: OSC 777 for those that know only that, OSC 9 for the others.

    Inside tmux it is handed through, which its `allow-passthrough` must allow.
    """
    old = environ.get("TERM", "").startswith(("rxvt", "foot"))
    found = f"\x1b]777;notify;andon;{words}\x07" if old else f"\x1b]9;andon: {words}\x07"
    return f"\x1bPtmux;\x1b{found}\x1b\\" if environ.get("TMUX") else found


def failures(events: Sequence[tuple[int, Event]], board: Board) -> list[str]:
    """Acts that came to a bad end, in a sentence each."""
    found = []
    for _, event in events:
        if isinstance(event, ActStepped) and event.now in ("refused", "failed", "expired"):
            act = board.line(event.line).acts.get(event.act)
            what = f"{act.kind} {act.target}" if act else "an act"
            tail = f": {event.words}" if event.words else ""
            found.append(f"{event.line}: {what} {event.now}{tail}")
    return found
