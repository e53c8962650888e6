"""The raw rows of a metric: each bucket as it was seen, what was expected of it, the evidence after it; and the query."""

import time

from andon.immune.threshold import figures, number
from andon.model import Metric, Sample
from tui.moment import Moment
from tui.panels.band import Band, band_of
from tui.panels.evidence import OfMetric
from tui.panels.sheet import Sheet
from tui.panels.words import moment_of, second_of


def query_words(metric: Metric) -> tuple[str, str]:
    """The query, and where it is asked and how often."""
    every = f"{metric.every:g} s"
    text = metric.value.replace("$every", f"{metric.every:g}s")
    if metric.n:
        text += f"   of   {metric.n.replace('$every', f'{metric.every:g}s')}"
    return text, f"{metric.source}, every {every}"


def columns(width: int) -> tuple[int, ...]:
    """The right edges of the numbers; without what was expected where it is narrow."""
    if width >= 72:
        return (17, 26, 38, 56, 68)
    return (17, 24, 35, 50, 60) if width >= 62 else (17, 26, 38)


class Query(OfMetric):
    """Where the numbers come from."""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """One row; two where there are."""
        metric, found, _ = self.of(moment)
        if metric is None:
            return
        text, where = query_words(metric)
        count = f", {len(found.rows)} buckets" if found is not None else ""
        x = sheet.put(1, 0, "query ", "dim")
        if sheet.height > 1:
            sheet.put(x, 0, text, "mid", most=sheet.width - x - 1)
            sheet.put(x, 1, f"{where}{count}", "dim", most=sheet.width - x - 1)
            return
        right = f"{where}{count}"
        end = sheet.right(sheet.width - 2, 0, right, "dim") - 2 if sheet.width >= 76 else sheet.width - 1
        sheet.put(x, 0, text, "mid", most=end - x)


class Rows(OfMetric):
    """The buckets, newest first; the picked one says from where to where it was asked."""

    picked = 0

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """A header, the rows, and where the picked one comes from."""
        metric, found, _ = self.of(moment)
        if metric is None:
            return
        rows = tuple(reversed(found.rows)) if found is not None else ()
        at = columns(sheet.width)
        for x, title in zip(at, ("value", "of n", "shown", "expected", "evidence"), strict=False):
            sheet.right(x, 0, title, "dim")
        sheet.put(2, 0, "bucket", "dim")
        if found is None or not rows:
            sheet.put(
                2, 1, "reading the buckets" if found is None else "the ledger holds no bucket of that time", "dim"
            )
            return
        band = band_of(moment.known(moment.line), metric)
        evidence = {look.at: look.evidence for look in found.looks}
        room = max(1, sheet.height - 2)
        picked = max(0, min(self.picked, len(rows) - 1))
        top = max(0, min(picked - room // 2, len(rows) - room))
        for y, row in enumerate(rows[top : top + room], 1):
            self._row(moment, sheet, y, metric, row, band, evidence, at, picked=top + y - 1 == picked)
        if len(rows) > room and sheet.width >= 78:
            sheet.right(sheet.width - 2, 0, f"{picked + 1} of {len(rows):,}", "dim")
        self._source(sheet, sheet.height - 1, metric, rows[picked])

    def _row(
        self,
        moment: Moment,
        sheet: Sheet,
        y: int,
        metric: Metric,
        row: Sample,
        band: Band,
        evidence: dict[float, float],
        at: tuple[int, ...],
        *,
        picked: bool,
    ) -> None:
        if picked and moment.looks.tints:
            sheet.ground(y, "sel")
            sheet.put(0, y, "▌", "move")
        elif picked:
            sheet.put(0, y, ">", "fg", bold=True)
        sheet.put(2, y, moment_of(row.at, moment.now), "mid")
        sheet.right(at[0], y, figures(row.value), "mid")
        sheet.right(at[1], y, figures(row.n) if row.n is not None else "–", "mid")
        shown = row.shown(metric.kind)
        expected = band.at(row.at + metric.every / 2)
        out = shown is not None and expected is not None and expected.beyond(shown, metric.bad)
        sheet.right(at[2], y, number(shown, metric) if shown is not None else "–", "stop" if out else "fg", bold=out)
        if len(at) < 5:
            return
        if expected is not None:
            sheet.right(at[3], y, _range(metric, expected.low, expected.high), "dim")
        if row.at in evidence:
            value = evidence[row.at]
            text = f"{value:.0f} s" if metric.threshold is not None else f"10^{max(0.0, value):.1f}"
            sheet.right(at[4], y, text, "mid")

    def _source(self, sheet: Sheet, y: int, metric: Metric, row: Sample) -> None:
        """The question that the picked row answers."""
        text, _ = query_words(metric)
        day = time.strftime("%d %b ", time.localtime(row.at))
        when = f"[{day}{second_of(row.at)}, {second_of(row.at + metric.every)})"
        sheet.put(1, y, f"{metric.source} {when}  {text}", "dim", most=sheet.width - 2)


def _range(metric: Metric, low: float, high: float) -> str:
    """`380 – 440`, or one bound."""
    below, above = low > float("-inf"), high < float("inf")
    if below and above:
        return f"{_bare(metric, low)} – {_bare(metric, high)}"
    return f"at least {_bare(metric, low)}" if below else f"at most {_bare(metric, high)}"


def _bare(metric: Metric, value: float) -> str:
    return number(value, metric).partition(" ")[0] if abs(value) < 10_000 else figures(value)
