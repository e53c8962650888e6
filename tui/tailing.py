"""The log of a job, read on by ranges as it grows: the engine asks, the screen takes a slice each time it looks.

At most `MOST` lines are kept and each is cut, so that no log can fill the memory; what is dropped is counted, and line
numbers stay those of the log. It was cleaned where it came in (`model.LogPart`); here the remains of colour codes go.
"""

import re
import time
from collections import deque
from concurrent.futures import Future
from typing import Any

from andon.feed import FIRST_S, MOST_S, told
from andon.model import LogPart
from tui.engine import Engine

MOST = 20_000
"""Lines that are kept."""
LONGEST = 1_000
"""Signs of a line that are kept."""
SLICE = 400
"""Lines that are taken over each time the screen looks: some two milliseconds."""
AGAIN_S = 1.0
"""A log that has nothing new is asked again after so many real seconds."""
_COLOURS = re.compile("\ufffd\\[[0-9;]{0,16}[mK]")
_BAD = re.compile(
    r"(?:FAILED|FAILURE|FAIL:|ERROR|Error:|error:|error\[|fatal:|FATAL|panic:|PANIC|Traceback|not ok |✗|✘|--- FAIL)"
    r"|.{0,60}\b(?:[1-9][0-9]* failed|[1-9][0-9]* errors?)\b"
    r"|.{0,60}\b(?:exit(?:ed)?(?: with)?(?: code| status)?:? [1-9])"
)
_PART = re.compile(r"E  |>  |\s+\^|\s*at .+:[0-9]+|.{0,40}(?:Error|Exception)\b")


def bad(text: str) -> str:
    """How bad a line of a log looks: `worst` for what fails, `part` for what belongs to it, else nothing."""
    if _BAD.match(text.lstrip()[:200]):
        return "worst"
    return "part" if _PART.match(text[:200]) else ""


class Tail:
    """The lines of one log, as far as they are known. Belongs to the screen's thread."""

    def __init__(self, line: str, source: str, run: str, part: str) -> None:
        self.line, self.source, self.run, self.part = line, source, run, part
        self.lines: list[str] = []
        self.dropped = 0
        """Lines before the first that is kept."""
        self.first_bad: int | None = None
        """The number of the first line that fails, counted from 0."""
        self.done = False
        """No more will come."""
        self.words = ""
        """Why it cannot be read now; empty: it can."""
        self.read_at: float | None = None
        """When it was read last, of `time.monotonic`; None: never."""
        self.caught_up = False
        """Whether everything that was written so far is here."""
        self.version = 0
        """Grows with each change."""

    @property
    def count(self) -> int:
        """How many lines the log has, as far as is known."""
        return self.dropped + len(self.lines)

    def take(self, texts: list[str]) -> None:
        """More lines."""
        for text in texts:
            text = _COLOURS.sub("", text)
            self.lines.append(text if len(text) <= LONGEST else text[: LONGEST - 1] + "…")
            if self.first_bad is None and bad(text) == "worst":
                self.first_bad = self.count - 1
        over = len(self.lines) - MOST
        if over > 0:
            del self.lines[:over]
            self.dropped += over
        self.version += 1

    def at(self, number: int) -> str | None:
        """The line with that number, counted from 0; None: it is not here."""
        index = number - self.dropped
        return self.lines[index] if 0 <= index < len(self.lines) else None


class Tailing:
    """Reads the log that is looked at. Belongs to the screen's thread; the engine's thread only fills a future."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.tail: Tail | None = None
        self._asked: Future[Any] | None = None
        self._ask_at = 0.0
        self._wait = FIRST_S
        self._next = 0
        self._backlog: deque[str] = deque(maxlen=MOST)
        self._over = 0

    @property
    def waits(self) -> bool:
        """Whether lines are on their way."""
        return bool(self._backlog) or self._asked is not None

    def look(self, line: str, source: str, run: str, part: str) -> Tail:
        """The log of that job, and a little more of it than before. Called at each paint while it is looked at."""
        tail = self.tail
        if tail is None or (tail.line, tail.source, tail.run, tail.part) != (line, source, run, part):
            tail = self.tail = Tail(line, source, run, part)
            if self._asked is not None:
                self._asked.cancel()
            self._asked, self._ask_at, self._next, self._wait = None, 0.0, 0, FIRST_S
            self._backlog.clear()
        if self._asked is not None and self._asked.done():
            asked, self._asked = self._asked, None
            self._heard(tail, asked)
        if self._backlog:
            tail.take([self._backlog.popleft() for _ in range(min(SLICE, len(self._backlog)))])
        if self._asked is None and not self._backlog and not tail.done and time.monotonic() >= self._ask_at:
            self._asked = self.engine.log(line, source, run, part, self._next)
        return tail

    def _heard(self, tail: Tail, asked: "Future[Any]") -> None:
        """An answer, or why there is none."""
        now = time.monotonic()
        error = None if asked.cancelled() else asked.exception()
        if asked.cancelled() or error is not None:
            words = told(error)[1] if isinstance(error, Exception) else "andon is leaving"
            if words != tail.words:
                tail.words, tail.version = words, tail.version + 1
            self._ask_at, self._wait = now + self._wait, min(2 * self._wait, MOST_S)
            return
        part: LogPart = asked.result()
        self._wait = FIRST_S
        caught_up = not part.lines
        if (tail.words, tail.done, tail.caught_up) != ("", part.done, caught_up) or tail.read_at is None:
            tail.version += 1
        tail.words, tail.read_at, tail.done, tail.caught_up = "", now, part.done, caught_up
        over = max(0, len(part.lines) - MOST)
        if over:
            tail.dropped += over + len(tail.lines)
            tail.lines.clear()
        self._backlog.extend(part.lines[over:])
        # A `next` that does not move on would give the same lines for ever.
        self._next = part.next if part.next > self._next else self._next + len(part.lines)
        self._ask_at = now + AGAIN_S if caught_up else now
