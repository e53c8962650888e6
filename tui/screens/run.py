"""One run: its stages and jobs as they go, and the log of the picked job, read on while it grows."""

from collections.abc import Iterable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, ClassVar

from textual.containers import Horizontal
from textual.widget import Widget

from andon.events import NAMES, RunSeen, decode
from andon.ports import Ledger
from tui import commands
from tui.moment import Moment
from tui.panels.log import Log, is_stale
from tui.panels.looks import Painter
from tui.panels.stages import RunHead, Stages, Step, steps, telling
from tui.screens.detail import Detail, known
from tui.screens.frame import bindings

if TYPE_CHECKING:
    from tui.app import Room

LOOKED_AT = 2000
"""The newest events of a line in which is looked which CI a run is of."""


class RunScreen(Detail):
    """One run of a line."""

    where = commands.RUN
    first_keys: ClassVar[tuple[str, ...]] = ("failure", "follow", "address", "back", "keys", "leave")
    BINDINGS: ClassVar = bindings(commands.RUN)

    def __init__(self, painter: Painter, line: str, run: str) -> None:
        super().__init__(painter, line)
        self.run_id = run
        self.picked = ""
        """The stage and job that a person picked, by name: rows come and go. Empty: what tells most."""
        self.head = RunHead(painter, id="run-head", classes="frame")
        self.stages = Stages(painter, id="stages")
        self.log_panel = Log(painter, id="log")
        self._source: Future[str] | None = None

    def body(self) -> Iterable[Widget]:
        """The head; stages at the left, the log at the right."""
        yield self.head
        with Horizontal(id="run-body", classes="frame"):
            yield self.stages
            yield self.log_panel

    def crumb(self) -> str:
        """Its id."""
        return f"run {self.run_id}"

    # ---- what is looked at

    def scene(self, room: "Room") -> dict[str, Any]:
        """The log of the picked job."""
        source = self._of(room)
        self.head.source = self.stages.source = source
        step = self._step(room)
        self.log_panel.name = step.name if step is not None else ""
        self.log_panel.nothing = self._nothing(step)
        part = step.log if step is not None else ""
        tail = room.tailing.look(room.line, source, self.run_id, part) if part and source else None
        panel = self.log_panel
        self.seen = (self.picked, panel.follows, panel.top, source, part)
        if tail is not None:
            self.seen = (*self.seen, tail.version, is_stale(tail))
        return {"subject": self.run_id, "tail": tail}

    def _of(self, room: "Room") -> str:
        """The connection of the CI that the run is of; empty while that is looked up."""
        entries = room.config.lines[room.line].ci
        names = {entry.source for entry in entries}
        if len(names) == 1:
            return entries[0].source
        if self._source is None:
            line, run = room.line, self.run_id
            self._source = room.sight.keeper.submit(lambda ledger: _source_of(ledger, line, run))
        if not self._source.done():
            return ""
        found = self._source.result() if self._source.exception() is None else ""
        return found if found in names else entries[0].source if entries else ""

    def _rows(self, room: "Room") -> tuple[Step, ...]:
        run = known(room).runs.get(self.run_id)
        return steps(run) if run is not None else ()

    def _step(self, room: "Room") -> Step | None:
        rows = self._rows(room)
        if not rows:
            return None
        run = known(room).runs[self.run_id]
        place = next((at for at, step in enumerate(rows) if self.picked and step.name == self.picked), telling(run))
        self.stages.picked = place
        return rows[place]

    def _nothing(self, step: Step | None) -> str:
        if step is None:
            return "the run has no stages yet"
        if step.item.state == "waiting":
            return f"{step.item.name} has not begun"
        return "its CI offers no log of this" if not step.log else ""

    # ---- moving about

    def move(self, step: int) -> None:
        """Another job; the first and the last line of the log, for whole ways."""
        if abs(step) > 1000:
            self.log_panel.follows = step > 0
            self.log_panel.top = 0
            return
        run = self.moment.known(self.moment.line).runs.get(self.run_id) if self.moment is not None else None
        if run is not None:
            rows = steps(run)
            if rows:
                self.picked = rows[max(0, min(len(rows) - 1, self.stages.picked + step))].name
            self.log_panel.follows = True

    def scroll_log(self, pages: int) -> None:
        """A page up or down; at the end it follows again."""
        tail = self.moment.tail if self.moment is not None else None
        if tail is None:
            return
        rows = max(1, self.log_panel.size.height - 1)
        first = self.log_panel.first(tail, rows) + pages * max(1, rows - 1)
        self.log_panel.follows = first >= tail.count - rows
        self.log_panel.top = max(0, first)

    def to_failure(self, moment: Moment) -> str:
        """To the first job that failed, and in its log to the first line that fails. Returns what is to be told."""
        run = moment.known(moment.line).runs.get(self.run_id)
        if run is None:
            return ""
        place = telling(run)
        rows = steps(run)
        if rows and rows[place].item.state == "failed" and self.stages.picked != place:
            self.picked = rows[place].name
            self.log_panel.follows = True
            return ""
        tail = moment.tail
        if tail is None or tail.first_bad is None:
            return "no line of its log looks like a failure"
        if tail.first_bad < tail.dropped:
            return f"line {tail.first_bad + 1:,} failed first; it is not kept any more"
        self.log_panel.follows = False
        self.log_panel.top = max(0, tail.first_bad - 2)
        return ""

    def address(self, moment: Moment) -> str:
        """Where its CI is, as the config has it, and what the CI calls the run; empty: the connection has no address."""
        connection = moment.config.connections.get(self.head.source)
        url = getattr(connection.options, "url", "") if connection is not None else ""
        return f"{url} · run {self.run_id}" if isinstance(url, str) and url.startswith(("http://", "https://")) else ""

    def why_not(self, moment: Moment, command: str) -> str:
        """What cannot be done with this run now."""
        if command == "failure":
            run = moment.known(moment.line).runs.get(self.run_id)
            failed = run is not None and any(step.item.state == "failed" for step in steps(run))
            if not failed and (moment.tail is None or moment.tail.first_bad is None):
                return "nothing of this run has failed"
        if command == "follow" and moment.tail is None:
            return "there is no log to follow"
        if command == "address" and not self.address(moment):
            return f"no page of {self.head.source or 'its CI'} is known"
        return ""


def _source_of(ledger: Ledger, line: str, run: str) -> str:
    """The connection that told of a run; empty: it is not among the newest events."""
    for row in ledger.recent(line, LOOKED_AT):
        if row.kind == NAMES[RunSeen] and run.encode() in row.body:
            event = decode(row.kind, row.body)
            if isinstance(event, RunSeen) and event.run.id == run:
                return event.source
    return ""
