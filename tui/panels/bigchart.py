"""The large chart of one metric: the study's buckets, drawn beside the screen's thread where it takes long."""

from textual.geometry import Size

from andon.model import Metric
from tui import chart
from tui.moment import Moment
from tui.panels import plot
from tui.panels.band import Band, armed_band, band_of
from tui.panels.facts import reading
from tui.panels.looks import Painter
from tui.panels.panel import Panel
from tui.panels.sheet import Sheet
from tui.studied import Found


def _same(one: object, other: object) -> bool:
    """Whether both are one object, or equal where that is cheap to tell."""
    return one is other or (isinstance(one, int | float | str | Size) and one == other)


class BigChart(Panel):
    """A chart without a title; what it shows is named by the panel above it."""

    def __init__(self, painter: Painter, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(painter, id=id, classes=classes)
        self.easel = chart.Easel()
        self.metric = ""
        """The name of the metric."""
        self._drawn: tuple[object, ...] = ()

    def show(self, moment: Moment) -> bool:
        """Draw again what differs; nothing, where what it is drawn from does not."""
        span = moment.study.want.span_s if moment.study is not None else 0.0
        step = span / max(1, 2 * self.size.width)
        drawn = (
            *(moment.study, moment.known(moment.line), moment.silent_since is None, moment.line, moment.warming),
            *(self.metric, self.size, self.easel.done, self.failed, int(moment.now / step) if step else 0),
            self._gone(moment),
        )
        if self._rows and len(self._drawn) == len(drawn) and all(map(_same, drawn, self._drawn)):
            return False
        self._drawn = drawn
        return super().show(moment)

    def _gone(self, moment: Moment) -> str:
        """Whether its data has ended: that changes with time alone."""
        metric = moment.config.lines[moment.line].metric(self.metric)
        return reading(moment, moment.line, metric).sign if metric is not None else ""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """Marks, plot, times."""
        metric = moment.config.lines[moment.line].metric(self.metric)
        study = moment.study
        if metric is None:
            sheet.put(1, 0, "no metric is configured: three lines under `metrics:` add one", "dim")
            return
        if study is None:
            sheet.put(sheet.width // 2 - 7, sheet.height // 2, "reading the buckets", "dim")
            return
        found = study.found.get(metric.name, Found())
        args = (0, 0, sheet.width - 1, sheet.height, 9)
        if study.want.span_s:
            frame = plot.framed(*args, moment.now, study.want.span_s)
        else:
            frame = plot.between(*args, study.start, study.end)
        picture = plot.picture_of(moment, moment.line, metric, found.rows, frame)
        picture = picture._replace(band=self._band(moment, metric, found))
        if not study.want.span_s or moment.now - study.at > 60:
            picture = picture._replace(empty="no bucket of that time is kept")
        plot.paint(moment, sheet, frame, picture, canvas=self.easel.canvas)

    def _band(self, moment: Moment, metric: Metric, found: Found) -> Band:
        """What the board knows, or what the ledger still holds of an older deployment."""
        known = band_of(moment.known(moment.line), metric)
        if found.armed is None or known.fixed or known.at(found.armed.first) is not None:
            return known
        return armed_band([found.armed])
