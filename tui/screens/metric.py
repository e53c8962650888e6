"""One metric: its chart, what was expected, how the evidence grew, why, and the raw rows with the query they answer."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from textual.containers import Horizontal
from textual.widget import Widget

from andon.board import Line
from tui import commands
from tui.moment import Moment
from tui.panels.bigchart import BigChart
from tui.panels.evidence import EvidenceCurve, Why
from tui.panels.looks import Painter
from tui.panels.metric_head import RANGES, MetricHead
from tui.panels.rows import Query, Rows
from tui.panels.top import Rule
from tui.screens.detail import Detail, known
from tui.screens.frame import bindings
from tui.studied import Want

if TYPE_CHECKING:
    from tui.app import Room


def telling_watch(line: Line, metric: str) -> str:
    """The deployment whose watch tells most of a metric: what runs, if it is watched; after a return what was undone."""
    current = line.current
    if current is not None and current.id in line.watches and not line.went_back(current):
        return current.id
    returns = {item.id for item in line.deployments if line.went_back(item)}
    watches = sorted(line.watches.values(), key=lambda watch: (watch.deployment not in returns, watch.began))
    judged = [watch for watch in watches if metric in watch.verdicts]
    return (judged or watches)[-1].deployment if watches else ""


class MetricScreen(Detail):
    """One metric of a line."""

    where = commands.METRIC
    first_keys: ClassVar[tuple[str, ...]] = ("wider", "rows", "metric", "back", "keys", "leave")
    BINDINGS: ClassVar = bindings(commands.METRIC)

    def __init__(self, painter: Painter, line: str, metric: str, deployment: str = "") -> None:
        """`deployment`: the one whose watch is shown; empty: the one that tells most."""
        super().__init__(painter, line)
        self.metric = metric
        self.deployment = deployment
        self.range = 1
        self.rows_first = False
        self.head = MetricHead(painter, id="metric-head", classes="frame")
        self.chart = BigChart(painter, id="metric-chart", classes="frame")
        self.curve = EvidenceCurve(painter, id="evidence")
        self.why = Why(painter, id="why")
        self.rows = Rows(painter, id="rows")
        self.query_row = Query(painter, id="query", classes="frame")

    def body(self) -> Iterable[Widget]:
        """The chart above; evidence, reasons and rows below, side by side or in turn; the query at the end."""
        yield self.head
        yield self.chart
        yield Rule(self.painter, id="metric-rule", classes="frame")
        with Horizontal(id="metric-below", classes="frame"):
            yield self.curve
            yield self.why
            yield self.rows
        yield self.query_row

    def crumb(self) -> str:
        """Its name."""
        return self.metric

    def scene(self, room: "Room") -> dict[str, Any]:
        """The study of this metric."""
        deployment = self.deployment or telling_watch(known(room), self.metric)
        want = Want(room.line, deployment, (self.metric,), RANGES[self.range][0])
        study = self.study(room, want)
        self.seen = (
            room.studying.done,
            self.chart.easel.done + self.curve.easel.done,
            self.rows.picked,
            self.rows_first,
            want,
        )
        return {"subject": deployment, "study": study}

    def show(self, moment: Moment) -> None:
        """Draw what differs."""
        self.set_class(self.rows_first, "-rows")
        for panel in (self.head, self.chart, self.curve, self.why, self.rows, self.query_row):
            panel.metric = self.metric
        self.head.span_s = RANGES[self.range][0]
        super().show(moment)

    def why_not(self, moment: Moment, command: str) -> str:
        """At the ends of the ranges, and with one metric."""
        if command == "wider" and self.range == len(RANGES) - 1:
            return "samples are kept for two days: this is the widest range"
        if command == "narrower" and not self.range:
            return "this is the narrowest range"
        if command == "metric" and len(moment.config.lines[moment.line].metrics) < 2:
            return "the line has one metric"
        return ""

    def move(self, step: int) -> None:
        """Another bucket."""
        found = self.moment.study.found.get(self.metric) if self.moment and self.moment.study else None
        most = len(found.rows) - 1 if found is not None else 0
        self.rows.picked = max(0, min(most, self.rows.picked + step))

    def widen(self, step: int) -> None:
        """Another range."""
        self.range = max(0, min(len(RANGES) - 1, self.range + step))

    def next_metric(self, moment: Moment) -> None:
        """The next one of the line, in the config's order."""
        names = [metric.name for metric in moment.config.lines[moment.line].metrics]
        place = names.index(self.metric) if self.metric in names else -1
        self.metric, self.rows.picked = names[(place + 1) % len(names)], 0
