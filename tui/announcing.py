"""What is said beyond the screen: one bell for each new hold, and the terminal's title; acts that failed, in a sentence."""

from collections.abc import Callable, Sequence

from andon.board import Board
from andon.events import ActStepped, Event
from tui.moment import Moment
from tui.panels.facts import stop_word

KEEP_TITLE = "\x1b[22;0t"
GIVE_TITLE_BACK = "\x1b[23;0t"


class Announcer:
    """Knows which holds were announced; those that stood when the room was opened ring no bell."""

    def __init__(self, bell: Callable[[], None], write: Callable[[str], None]) -> None:
        self._bell = bell
        self._write = write
        self._told: set[str] | None = None

    def look(self, moment: Moment) -> None:
        """Announce what is new."""
        holds = {hold.id for name in moment.order for hold in moment.known(name).open_holds}
        if self._told is not None and holds - self._told:
            self._bell()
        if holds != self._told:
            stopped = [name for name in moment.order if moment.known(name).open_holds]
            words = f"andon: {', '.join(stopped[:3])} {stop_word(moment, stopped[0]).lower()}" if stopped else "andon"
            self._write(f"\x1b]0;{words}\x07")  # names of lines hold nothing but a-z, 0-9 and -
        self._told = holds


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
