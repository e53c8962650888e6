"""What happened, read from the ledger in pages: the newest first, older ones when somebody looks for them.

Only the ledger's thread reads the ledger; its answers are found by the next paint. Nothing here waits.
"""

from collections.abc import Sequence
from concurrent.futures import Future

from andon.events import decode
from andon.keeper import Keeper
from andon.model import Act
from andon.ports import Ledger, Row
from tui.panels.record import Item, item_of, unknown_item

PAGE = 500
MOST = 10_000
"""So many events are kept in sight; older ones are in the ledger (`andon export`)."""


class Recall:
    """The events of a ledger, as far as they were looked for."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        self.items: tuple[Item, ...] = ()
        """Newest first."""
        self.revision = 0
        self.trouble = ""
        """Why the ledger does not answer; empty: it does."""
        self._acts: dict[str, Act] = {}
        self._first = self._last = 0
        self._asked: Future[list[Row]] | None = None
        self._older = False

    @property
    def all_read(self) -> bool:
        """Whether nothing older is there to be read, or may be kept."""
        return self._first == 1 or len(self.items) >= MOST or (self._last == 0 and self.keeper.seq == 0)

    def want_older(self) -> None:
        """Somebody looks for what is older."""
        self._older = True

    def look(self) -> int:
        """Take what the ledger answered, and ask for what is missing; the revision grows with each change."""
        if self._asked is not None:
            if not self._asked.done():
                return self.revision
            asked, self._asked = self._asked, None
            error = asked.exception()
            self.trouble = str(error) if error is not None else ""
            if error is None:
                self._take(asked.result())
        if self.keeper.seq > self._last:
            self._asked = self.keeper.submit(self._newer)
        elif self._older and self._first > 1 and len(self.items) < MOST:
            self._older = False
            self._asked = self.keeper.submit(self._before)
        return self.revision

    def _newer(self, ledger: Ledger) -> list[Row]:
        return ledger.read(self._last, PAGE) if self._last else list(reversed(ledger.recent("", PAGE)))

    def _before(self, ledger: Ledger) -> list[Row]:
        return [row for row in ledger.read(max(0, self._first - 1 - PAGE), PAGE) if row.seq < self._first]

    def _take(self, rows: Sequence[Row]) -> None:
        if not rows:
            self._first = self._first or 1
            return
        fresh: list[Item] = []
        board = self.keeper.board
        for row in rows:
            try:
                event = decode(row.kind, row.body)
            except ValueError:
                event = None
            fresh.append(
                unknown_item(row)
                if event is None
                else item_of(row.seq, row.kind, event, self._acts, board.line(row.line))
            )
        newest = rows[0].seq > self._last
        items = (*self.items, *fresh) if newest else (*fresh, *self.items)
        # By when it happened: a source that is listed for the first time tells of days at once.
        self.items = tuple(sorted(items, key=lambda item: (item.at, item.seq), reverse=True)[:MOST])
        self._first = min(self._first or rows[0].seq, rows[0].seq)
        self._last = max(self._last, rows[-1].seq)
        self.revision += 1
