"""Asks for studies of a deployment's metrics, in a thread of its own: the screen finds the last one in one attribute.

What they hold is in `studied`. The judging takes numpy and more than a moment, so the screen's thread never does it. What a
board no longer keeps of an older deployment is read from the ledger in small pieces.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from andon.board import Line, Watch
from andon.clock import Time
from andon.config import Config
from andon.events import NAMES, Armed, Judged, decode
from andon.keeper import Keeper
from andon.model import Metric, Sample
from andon.ports import Ledger, LedgerUnusable, Row
from tui.leaving import crash_text
from tui.studied import Effect, Followed, Found, Study, Want, beyond, can, mean

log = logging.getLogger("andon.room")

ASK_EVERY_S, ASK_SOON_S = 2.0, 0.5
"""How often a study is made anew, and how soon when something has happened on the line; of real time."""
BEFORE_S = 1800.0
"""So long before a deployment its metrics are shown."""
AFTER_S = 600.0
"""So long after its watch."""
PIECE, MOST_PIECES = 500, 60
"""Rows of the ledger that are read at once, and how often, when an old deployment is looked for."""
ANSWER_S = 10.0
KEPT = 12
"""Pursuits that are gone on with, instead of begun anew."""


class Studying:
    """Asks for studies and holds the last one. Belongs to the screen's thread."""

    def __init__(self, config: Config, keeper: Keeper) -> None:
        self.config, self.keeper = config, keeper
        self.done = 0
        """How many were made: whoever looks draws again when it grows."""
        self._study: Study | None = None
        self._wanted: Want | None = None
        self._board: object = None
        self._asked_at = 0.0
        self._busy = False
        self._followed: dict[tuple[str, str, str], Followed] = {}
        self._recorded: dict[tuple[str, str], _Recorded] = {}

    @property
    def waits(self) -> bool:
        """Whether one is being made."""
        return self._busy

    def look(self, want: Want, line: Line, now: Time) -> Study | None:
        """The study of what is wanted, as it was last made; None: it is being made. `line`: as it is seen at `now`."""
        old = time.monotonic() - self._asked_at
        due = old >= ASK_EVERY_S or (line is not self._board and old >= ASK_SOON_S)
        if not self._busy and (want != self._wanted or due):
            self._busy, self._wanted, self._board, self._asked_at = True, want, line, time.monotonic()
            # A thread of its own that nobody waits for at the end: leaving takes no longer for it.
            threading.Thread(target=self._work, args=(want, line, now), name="study", daemon=True).start()
        found = self._study
        return found if found is not None and found.want == want else None

    def _work(self, want: Want, line: Line, now: Time) -> None:
        try:
            fresh = self._made(want, line, now)
            before = self._study
            if before is None or before.want != want or before.found != fresh.found:
                self._study = fresh
                self.done += 1
        except (LedgerUnusable, TimeoutError):
            pass  # the top bar says what is wrong with the ledger; asked again in two seconds
        except Exception as error:  # noqa: BLE001 - a record that cannot be read must not end the room; it is told
            log.error("a study of %s failed\n%s", want.line, crash_text(error))
            words = f"this could not be worked out: {type(error).__name__}; logged"
            self._study = Study(want, now, now, now, {name: Found(words=words) for name in want.metrics})
            self.done += 1
        finally:
            self._busy = False

    # ---- in the study's thread

    def _made(self, want: Want, line: Line, now: Time) -> Study:
        deployment, watch = line.deployment(want.deployment), line.watches.get(want.deployment)
        began = watch.began if watch else deployment.at if deployment else now
        until = watch.until if watch else began + self.config.lines[want.line].watch_s
        if want.span_s:
            start, end = now - want.span_s, now
        else:
            start, end = began - BEFORE_S, min(now, until + AFTER_S)
        recorded = self._of_old(want, watch, now)
        found = {}
        for name in want.metrics:
            metric = self.config.lines[want.line].metric(name)
            if metric is None:
                continue
            rows, about = self._rows(want, metric, (start, end), (began, until))
            known = recorded.numbers.get(name, ())
            if not any(row.at >= began for row in about):
                about = (*(row for row in about if row.at < began), *known)
                rows = rows if want.span_s else (*rows, *known)
            armed = (watch.armed.get(name) if watch else None) or recorded.armed.get(name)
            found[name] = self._found(want, line, metric, watch, (began, until), rows, about, armed)
        return Study(want, now, start, end, found)

    def _rows(
        self, want: Want, metric: Metric, shown: tuple[Time, Time], watched: tuple[Time, Time]
    ) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
        """The buckets of the chart, and those that a verdict rests on: before and after."""
        name = f"{want.line}/{metric.name}"
        rows = self._asked(lambda ledger: ledger.samples(name, shown[0], shown[1] + 60.0))
        if shown[0] <= watched[0] - BEFORE_S and shown[1] >= watched[1]:
            return rows, rows
        return rows, self._asked(lambda ledger: ledger.samples(name, watched[0] - BEFORE_S, watched[1]))

    def _asked(self, job: Callable[[Ledger], Any]) -> Any:
        return self.keeper.submit(job).result(timeout=ANSWER_S)

    def _found(
        self,
        want: Want,
        line: Line,
        metric: Metric,
        watch: Watch | None,
        watched: tuple[Time, Time],
        rows: tuple[Sample, ...],
        about: Sequence[Sample],
        armed: Armed | None,
    ) -> Found:
        began, until = watched
        after = [row for row in about if began <= row.at and row.at + metric.every <= until + 1e-6]
        if armed is not None and armed.record and metric.threshold is None:
            found = self._judged(want, line, metric, armed, after)
            if found is not None:
                return msgspec.structs.replace(found, rows=rows, can=can(metric, armed, watched))
        before = [row for row in about if row.at + metric.every <= began]
        later = [item.at for item in line.deployments if item.at > began and item.state != "failed"]
        mine = [row for row in after if not later or row.at + metric.every <= min(later)]
        was, now = mean(metric, before), mean(metric, mine)
        effect = Effect(now / was - 1) if was and now is not None and want.deployment else None
        words = "" if watch is not None else "not watched: there is no verdict to explain"
        if watch is not None and metric.threshold is None:
            words = "the judge was not armed for it, or its record is gone"
        looks, needed = beyond(metric, after)
        return Found(
            rows=rows,
            armed=armed,
            looks=looks,
            needed=needed,
            before=was,
            after=now,
            count=len(mine),
            effect=effect,
            words=words,
        )

    def _judged(self, want: Want, line: Line, metric: Metric, armed: Armed, after: list[Sample]) -> Found | None:
        key = (want.line, want.deployment, metric.name)
        followed = self._followed.get(key)
        if followed is None or followed.record != armed.record:
            followed = Followed(armed.record)
            self._followed = dict([*self._followed.items(), (key, followed)][-KEPT:])
        watch = line.watches.get(want.deployment)
        began = watch.began if watch else 0.0
        later = tuple(
            sorted(
                item.at
                for item in line.deployments
                if item.id != want.deployment and item.state != "failed" and item.at > began
            )
        )
        return followed.found(metric, armed, [row for row in after if row.at >= followed.pursuit.began], later)

    def _of_old(self, want: Want, watch: Watch | None, now: Time) -> "_Recorded":
        """What the ledger still holds of a deployment whose watch has ended; of an open one the board knows all."""
        if watch is None or not watch.ended:
            return _NOTHING
        wanted = [self.config.lines[want.line].metric(name) for name in want.metrics]
        kept = all(metric is None or metric.threshold or metric.name in watch.armed for metric in wanted)
        if kept and now - watch.until < 86_400.0:
            return _NOTHING
        key = (want.line, want.deployment)
        if key not in self._recorded:
            found = _Recorded({}, {})
            for row in _around(self._asked, self.keeper.seq, want.line, watch):
                event = decode(row.kind, row.body)
                if isinstance(event, Armed | Judged) and event.deployment == want.deployment:
                    if isinstance(event, Armed):
                        found.armed[event.metric] = event
                    elif event.verdict.metric:
                        found.numbers[event.verdict.metric] = event.verdict.numbers
            self._recorded = dict([*self._recorded.items(), (key, found)][-KEPT:])
        return self._recorded[key]


class _Recorded(msgspec.Struct):
    """What the ledger holds of one deployment, by metric."""

    armed: dict[str, Armed]
    numbers: dict[str, tuple[Sample, ...]]
    """The buckets of its last verdict, as they were seen then."""


_NOTHING = _Recorded({}, {})
_KINDS = {NAMES[Armed], NAMES[Judged]}


def _around(asked: Callable[[Callable[[Ledger], Any]], Any], newest: int, line: str, watch: Watch) -> list[Row]:
    """The rows of a line's judge from the time of a watch: found by halving, then read in pieces."""

    def read(after: int, count: int) -> list[Row]:
        rows: list[Row] = asked(lambda ledger: ledger.read(after, count))
        return rows

    low, high = 0, newest
    while low < high:
        middle = (low + high) // 2
        row = read(middle, 1)
        if row and row[0].seen < watch.began:
            low = middle + 1
        else:
            high = middle
    found: list[Row] = []
    for _ in range(MOST_PIECES):
        rows = read(low, PIECE)
        found += [row for row in rows if row.line == line and row.kind in _KINDS]
        if not rows or rows[-1].seen > watch.until + 7200.0:
            break
        low = rows[-1].seq
    return found
