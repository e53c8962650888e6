"""A recording as it was at a moment: a clock that can be stopped and set, and the board of what was known by then."""

import bisect
import itertools
import threading
import time
from collections.abc import Callable

from andon.board import Board
from andon.clock import Time
from andon.events import ActAsked, decode
from andon.keeper import fold
from tui.moment import Playing
from tui.panels.timeline import acts_of, told
from tui.recording import Recording

STEP_S = 10.0
FIRST_SPEED, SLOWEST, FASTEST = 8.0, 0.25, 1024.0
KEPT_EVERY = 250
"""After how many events a board is kept: a step back folds no more than these."""


class Deck:
    """Where a replay is, and how fast it goes. Set by the screen's thread, and looked at by any."""

    def __init__(self, recording: Recording, real: Callable[[], float] = time.monotonic) -> None:
        self.recording = recording
        self.speed = FIRST_SPEED
        self.paused = False
        self._real = real
        self._began = real()
        self._at = recording.since
        # A clock that was set back must not make events happen before those ahead of them.
        self._seen = list(itertools.accumulate((row.seen for row in recording.rows), max))
        events = [decode(row.kind, row.body) for row in recording.rows]
        acts = {id_: act for line in recording.board.lines.values() for id_, act in acts_of(line).items()}
        acts |= {event.act.id: event.act for event in events if isinstance(event, ActAsked)}
        self._told = [told(event, acts)[2] if event is not None else "" for event in events]
        self._boards = {0: recording.board}
        self._last = (0, recording.board)
        self._folding = threading.Lock()

    # ---- the clock of the room

    def now(self) -> Time:
        """Which moment it is there."""
        gone = 0.0 if self.paused else (self._real() - self._began) * self.speed
        return min(self.recording.until, self._at + gone)

    def real(self, seconds: float) -> float:
        """How long that takes people: the room's freshness is real time."""
        return seconds * self.speed

    async def sleep(self, seconds: float) -> None:
        """Nobody waits for the past."""
        raise NotImplementedError(f"a replay does not wait, also not for {seconds} s")

    # ---- keys

    def set(self, at: Time) -> None:
        """Go to a moment."""
        self._at = max(self.recording.since, min(self.recording.until, at))
        self._began = self._real()

    def pause(self) -> None:
        """Stop here, or go on; at the end begin again."""
        at = self.now()
        self.paused = not self.paused and at < self.recording.until
        self.set(self.recording.since if at >= self.recording.until else at)

    def step(self, seconds: float) -> None:
        """Go on, or back, and stop there."""
        self.set(self.now() + seconds)
        self.paused = True

    def change_speed(self, factor: float) -> None:
        """Faster or slower."""
        self.set(self.now())
        self.speed = max(SLOWEST, min(FASTEST, self.speed * factor))

    def jump(self, way: int) -> bool:
        """To the next event that mattered, or the one before, and stop there; False: there is none."""
        done = self.done
        places = range(done, len(self._seen)) if way > 0 else range(done - 1, -1, -1)
        here = self.now()
        for place in places:
            if self._told[place] and (way > 0 or self._seen[place] < here - 0.001):
                self.set(self._seen[place])
                self.paused = True
                return True
        return False

    # ---- what was known then

    @property
    def done(self) -> int:
        """How many events have happened."""
        return bisect.bisect_right(self._seen, self.now())

    def board(self) -> Board:
        """The board of that moment. From any thread."""
        with self._folding:
            return self._folded(self.done)

    def _folded(self, done: int) -> Board:
        at, board = self._last
        if at > done or done - at > KEPT_EVERY:
            at = max(kept for kept in self._boards if kept <= done)
            board = self._boards[at]
        while at < done:
            to = min(done, (at // KEPT_EVERY + 1) * KEPT_EVERY)
            _, board, _ = fold(board, self.recording.rows[at:to])
            at = to
            if at % KEPT_EVERY == 0:
                self._boards[at] = board
        self._last = (at, board)
        return board

    def playing(self) -> Playing:
        """Where we are, for the screen."""
        done, now = self.done, self.now()
        over = now >= self.recording.until
        return Playing(
            now,
            self.recording.since,
            self.recording.until,
            self.speed,
            self.paused or over,
            done,
            len(self._seen),
            self._last_words(done),
        )

    def _last_words(self, done: int) -> str:
        """What happened last of what a timeline tells."""
        for at in range(done - 1, -1, -1):
            if self._told[at]:
                line = self.recording.rows[at].line
                return f"{line}: {self._told[at]}" if line else self._told[at]
        return ""
