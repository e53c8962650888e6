"""One line: its stations, its deployments, the proof of a stop, its metrics, its last events."""

from collections.abc import Iterable
from typing import ClassVar

from textual.containers import Vertical
from textual.widget import Widget

from tui import commands
from tui.moment import Moment
from tui.panels.charts import MetricChart
from tui.panels.deployments import Deployments
from tui.panels.facts import production, status, verdict_words
from tui.panels.looks import Painter
from tui.panels.proof import HoldProof
from tui.panels.sheet import Sheet
from tui.panels.stations import Stations
from tui.panels.timeline import Timeline
from tui.panels.top import Bands, Rule
from tui.panels.troubles import troubles
from tui.panels.words import ago, login, short
from tui.screens.frame import RoomScreen, bindings


class LineBands(Bands):
    """The bands; on a calm day what the line is now."""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """Two rows."""
        if troubles(moment):
            super().draw(moment, sheet)
            return
        lamp = status(moment, moment.line)
        x = sheet.parts(1, 0, (lamp.sign, lamp.role), (f" {moment.line} {lamp.word}", "fg", True))
        live = production(moment.known(moment.line))
        end = sheet.width - 2
        watching = verdict_words(moment, moment.line)
        if watching.startswith("watching"):
            end = sheet.right(end, 0, watching.partition(",")[0], "dim") - 2
        words = "nothing shipped yet"
        if live is not None:
            by = f" by {login(live.by)}" if live.by else ""
            words = f"{short(live.version)} live {ago(moment.now - live.at)}{by}"
        sheet.put(x + 2, 0, words, "mid", most=end - x - 2)


class LineScreen(RoomScreen):
    """One line."""

    where = commands.LINE
    first_keys: ClassVar[tuple[str, ...]] = (
        *("happened", "did_not", "clear", "resume", "open", "take", "hold", "metric", "run", "full", "good", "faulty"),
        *("back", "keys", "leave"),
    )
    BINDINGS: ClassVar = bindings(commands.LINE)

    def __init__(self, painter: Painter) -> None:
        super().__init__(painter)
        self.chart_first = False
        """Whether the chart is shown where the proof of a stop has room, too."""
        self.list = "deployments"
        """Which list has the selection: `deployments`, `stations` or `charts`."""
        self.piece = ""
        """The change that is picked at the stations."""
        self.stations = Stations(painter, id="stations", classes="frame")
        self.deployments = Deployments(painter, id="deployments")
        self.charts = MetricChart(painter, id="charts")

    @property
    def own(self) -> tuple[object, ...]:
        """Which of proof and chart is shown, and what is picked."""
        return (self.chart_first, self.list, self.piece)

    def make_bands(self) -> Bands:
        """The bands of one line."""
        return LineBands(self.painter, classes="frame")

    def body(self) -> Iterable[Widget]:
        """Stations above; below them left and right, or one after the other."""
        yield self.stations
        with Vertical(id="line-body", classes="frame"):
            with Vertical(id="line-left"):
                yield self.deployments
                yield Rule(self.painter, id="line-rule")
                yield HoldProof(self.painter, id="proof")
                yield Timeline(self.painter, id="timeline")
            yield self.charts

    def show(self, moment: Moment) -> None:
        """Draw what differs."""
        held = bool(moment.known(moment.line).open_holds)
        self.deployments.selects = self.list == "deployments"
        self.stations.piece = self.piece if self.list == "stations" else ""
        self.charts.selects = self.list == "charts"
        self.set_class(held, "-held")
        self.set_class(held and not self.chart_first, "-proof")
        super().show(moment)
