"""One deployment: its batch, each metric before and after, the chart of the picked one; marks, and the way back to it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from textual.widget import Widget

from andon import rollback
from tui import commands
from tui.moment import Moment
from tui.panels.batch import WIDE, Batch, cannot_return, lived
from tui.panels.bigchart import BigChart
from tui.panels.compared import Compared
from tui.panels.deployments import found_of
from tui.panels.evidence import OfMetric, reasons
from tui.panels.looks import Painter
from tui.panels.sheet import Sheet
from tui.panels.top import Rule
from tui.panels.words import short, steady
from tui.screens.detail import Detail
from tui.screens.frame import bindings
from tui.screens.reason import ReasonHead, ReasonScreen
from tui.studied import Want

if TYPE_CHECKING:
    from tui.app import Room

RETURN, IRREVERSIBLE = "return", "irreversible"
MOST_METRICS = {"-high": 14, "-usual": 6}
"""Rows of the table, by height; the others can be reached by scrolling."""


MOST_BATCH = {"-high": 12, "-usual": 7}
"""Rows of the batch and of what is known."""


class ChartTitle(OfMetric):
    """Which metric the chart shows, and the first reason."""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """One row."""
        metric, found, watch = self.of(moment)
        if metric is None:
            return
        x = sheet.put(1, 0, metric.name, "fg", bold=True, most=sheet.width - 2)
        told = reasons(moment, metric, found, watch)
        words = "; ".join(text for text, _ in told[: 2 if sheet.width >= WIDE else 1])
        sheet.put(x + 2, 0, words, "dim", most=sheet.width - x - 3)


class DeploymentScreen(Detail):
    """One deployment."""

    where = commands.DEPLOYMENT
    first_keys: ClassVar[tuple[str, ...]] = (
        *("open", "return_to", "run", "good", "faulty", "irreversible", "resume", "take", "back", "keys", "leave"),
    )
    BINDINGS: ClassVar = bindings(commands.DEPLOYMENT)

    def __init__(self, painter: Painter, line: str, deployment: str) -> None:
        super().__init__(painter, line)
        self.deployment = deployment
        self.picked = 0
        self.shipped = Batch(painter, id="batch", classes="frame")
        self.compared = Compared(painter, id="compared", classes="frame")
        self.title_row = ChartTitle(painter, id="chart-title", classes="frame")
        self.chart = BigChart(painter, id="deployment-chart", classes="frame")

    def body(self) -> Iterable[Widget]:
        """Batch, metrics, chart."""
        yield self.shipped
        yield Rule(self.painter, id="batch-rule", classes="frame")
        yield self.compared
        yield Rule(self.painter, id="compared-rule", classes="frame")
        yield self.title_row
        yield self.chart

    def crumb(self) -> str:
        """Its version."""
        found = self.moment.known(self.moment.line).deployment(self.deployment) if self.moment is not None else None
        return short(found.version) if found is not None else "deployment"

    def scene(self, room: "Room") -> dict[str, Any]:
        """The study of all its metrics."""
        names = tuple(metric.name for metric in room.config.lines[room.line].metrics)
        study = self.study(room, Want(room.line, self.deployment, names)) if names else None
        self.seen = (room.studying.done, self.chart.easel.done, self.picked)
        return {"subject": self.deployment, "study": study}

    def metric_name(self, moment: Moment) -> str:
        """The picked metric; empty: none is configured."""
        metrics = moment.config.lines[moment.line].metrics
        return metrics[min(self.picked, len(metrics) - 1)].name if metrics else ""

    def show(self, moment: Moment) -> None:
        """Draw what differs."""
        most = next((rows for name, rows in MOST_METRICS.items() if self.has_class(name)), 4)
        rows = 1 + max(1, min(most, len(moment.config.lines[moment.line].metrics)))
        if self.compared.styles.height is None or self.compared.styles.height.value != rows:
            self.compared.styles.height = rows
        self.shipped.tight = self.has_class("-short") or self.has_class("-flat")
        most = next((rows for name, rows in MOST_BATCH.items() if self.has_class(name)), 5)
        height = max(3, min(most, self.shipped.wanted(moment, self.size.width)))
        if self.shipped.styles.height is None or self.shipped.styles.height.value != height:
            self.shipped.styles.height = height
        self.compared.picked = self.picked
        self.title_row.metric = self.chart.metric = self.metric_name(moment)
        super().show(moment)

    def why_not(self, moment: Moment, command: str) -> str:
        """What cannot be done with this deployment now."""
        line = moment.known(moment.line)
        item = line.deployment(self.deployment)
        if command in ("good", "faulty", "irreversible") and item is None:
            return "it is not known any more"
        if command == "return_to":
            return cannot_return(moment, self.deployment)
        if command == "irreversible" and self.deployment in line.barriers:
            return "it is marked irreversible already, and nothing takes that back"
        if command == "run" and (item is None or not line.runs_of(_change(moment, self.deployment))):
            return "no run of it is known"
        if command in ("open", "metric") and not moment.config.lines[moment.line].metrics:
            return "no metric is configured"
        return ""

    def move(self, step: int) -> None:
        """Another metric."""
        if self.moment is not None:
            most = max(0, len(self.moment.config.lines[self.moment.line].metrics) - 1)
            self.picked = max(0, min(most, self.picked + step))


def _change(moment: Moment, deployment: str) -> str:
    """The change that a deployment ships; empty: not known."""
    line = moment.known(moment.line)
    item = line.deployment(deployment)
    change = line.change_of(item) if item is not None else None
    return change.id if change is not None else ""


class WeighHead(ReasonHead):
    """What is about to be said of a deployment, or done to the line for it."""

    expected = ""
    """What ran when it was asked."""

    def _mark(self, moment: Moment, sheet: Sheet) -> None:
        line = moment.known(self.line)
        found = line.deployment(self.deployment)
        version = short(found.version) if found is not None else self.deployment
        if self.what == IRREVERSIBLE:
            sheet.put(1, 0, f"mark {self.line} {version} irreversible", "fg", bold=True, most=sheet.width - 2)
            words = "no rollback crosses it any more, by key or by itself; this cannot be taken back"
            sheet.put(1, 1, words, "warn", most=sheet.width - 2)
            return
        current = line.current
        versions = f"{steady(current.version)} → {version}" if current is not None else version
        environment = moment.config.lines[self.line].environment
        sheet.put(1, 0, f"roll back {self.line} {versions}, {environment}", "fg", bold=True, most=sheet.width - 2)
        sheet.put(1, 1, "stops the line first, and it stays stopped; 3 s to withdraw", "warn", most=sheet.width - 2)
        target = rollback.to_version(line, found.version, moment.now) if found is not None else None
        if found is not None and isinstance(target, rollback.Target):
            sheet.put(1, 3, f"{version} was {lived(moment, line, found)}", "mid", most=sheet.width - 2)
            between = sum(item.at > found.at for item in line.deployments if item.state == "settled")
            newer = "1 newer deployment is" if between == 1 else f"{between} newer deployments are"
            sheet.put(1, 4, f"{newer} undone", "mid", most=sheet.width - 2)
            sign, role, words = found_of(moment, line, found)
            sheet.put(
                1, 5, f"{sign} {words}", role if role != "dim" else "mid", bold=role == "stop", most=sheet.width - 2
            )
        elif isinstance(target, rollback.Nothing):
            sheet.put(1, 3, f"not now: {target.why}", "stop", most=sheet.width - 2)


class WeighScreen(ReasonScreen):
    """Asks for the reason of a mark that binds, or of a return."""

    def __init__(self, painter: Painter, what: str, line: str, deployment: str, expected: str = "") -> None:
        super().__init__(painter, what, line, deployment)
        self.expected = expected
        """What ran when it was asked: if another one runs by then, nothing is sent."""
        self.head = WeighHead(painter, id="reason-head", classes="frame")
        self.head.what, self.head.line, self.head.deployment = what, line, deployment
