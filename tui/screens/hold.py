"""One hold: who, why, since, until, whose turn; the four effects and their proof; what moves, what is next, what was."""

from collections.abc import Iterable
from typing import ClassVar

from textual.containers import Vertical
from textual.widget import Widget

from tui import commands
from tui.moment import Moment
from tui.panels.charts import MetricChart
from tui.panels.hold import DidItHelp, HoldHead, NextSteps, Waiting, rows_of_head, shown
from tui.panels.looks import Painter
from tui.panels.proof import HoldProof, rows_of_proof
from tui.panels.timeline import HoldTimeline
from tui.panels.top import Rule
from tui.screens.frame import RoomScreen, bindings


class OneChart(MetricChart):
    """The chart of one metric."""

    most: ClassVar[int] = 1


class HoldScreen(RoomScreen):
    """A hold and its stop."""

    where = commands.HOLD
    first_keys: ClassVar[tuple[str, ...]] = (
        *("happened", "did_not", "resume", "take", "through", "why", "extend", "back", "keys"),
        *("events", "metric", "leave"),
    )
    BINDINGS: ClassVar = bindings(commands.HOLD)

    def __init__(self, painter: Painter) -> None:
        super().__init__(painter)
        self.head = HoldHead(painter, id="hold-head", classes="frame")
        self.proof = HoldProof(painter, id="hold-proof")
        self.proof.about_shown = True

    def steps(self, line: str) -> tuple[str, ...]:
        """Where we are."""
        hold = shown(self.moment) if self.moment is not None else None
        return (line, f"hold {hold.id}" if hold is not None else "hold")

    def body(self) -> Iterable[Widget]:
        """One below the other; where it is wide the timeline stands at the right."""
        yield self.head
        with Vertical(id="hold-body", classes="frame"):
            with Vertical(id="hold-left"):
                yield self.proof
                yield NextSteps(self.painter, id="hold-next")
                yield Rule(self.painter, id="hold-rule")
                yield DidItHelp(self.painter, id="hold-helped")
                yield OneChart(self.painter, id="hold-chart")
                yield Waiting(self.painter, id="hold-waiting")
            yield HoldTimeline(self.painter, id="hold-timeline")

    def show(self, moment: Moment) -> None:
        """Draw what differs."""
        rows = rows_of_head(moment)
        if self.head.styles.height is None or self.head.styles.height.value != rows:
            self.head.styles.height = rows
        self.set_class(bool(moment.config.lines[moment.line].metrics), "-measured")
        most = 16 if self.has_class("-high") else 9 if self.has_class("-usual") else 8
        wanted = min(most, rows_of_proof(moment, self.proof))
        if self.proof.styles.height is None or self.proof.styles.height.value != wanted:
            self.proof.styles.height = wanted
        super().show(moment)
