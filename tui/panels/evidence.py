"""How the evidence grew bucket by bucket, and why a verdict is what it is."""

import math
import textwrap

from andon.board import Watch
from andon.immune.threshold import number
from andon.model import Metric
from tui import chart
from tui.moment import Moment
from tui.panels.compared import change_words
from tui.panels.facts import bound, regressed_now
from tui.panels.looks import Painter
from tui.panels.panel import Panel
from tui.panels.sheet import Sheet
from tui.panels.words import ago, clock, short
from tui.studied import Found

BEYOND = 1.25
"""How far above what is needed the curve of the evidence goes, in parts of that."""


class OfMetric(Panel):
    """A panel about one metric of one deployment."""

    metric = ""

    def of(self, moment: Moment) -> tuple[Metric | None, Found | None, Watch | None]:
        """The metric, what was found of it, and its watch."""
        metric = moment.config.lines[moment.line].metric(self.metric)
        found = moment.study.found.get(self.metric) if moment.study is not None else None
        return metric, found, moment.known(moment.line).watches.get(moment.subject)


class EvidenceCurve(OfMetric):
    """From *none* to *act*: where it stands, bucket by bucket."""

    def __init__(self, painter: Painter, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(painter, id=id, classes=classes)
        self.easel = chart.Easel()

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """A title, the curve, its times."""
        metric, found, watch = self.of(moment)
        x = sheet.put(1, 0, "evidence", "fg", bold=True)
        if metric is None or watch is None:
            sheet.put(1, 1, "no deployment of it is watched", "dim", most=sheet.width - 2)
            return
        what = f"against {short(watch.version)}"
        if metric.threshold is not None:
            what = "time beyond bounds"
        sheet.put(x + 2, 0, what, "dim", most=sheet.width - x - 3)
        if found is None or not found.looks or not found.needed:
            words = found.words if found is not None and found.words else "no closed bucket yet"
            sheet.put(1, 1, words, "dim", most=sheet.width - 2)
            return
        if sheet.height < 5:
            self._sentence(sheet, found, metric)
            return
        self._curve(moment, sheet, found, metric, watch)

    def _sentence(self, sheet: Sheet, found: Found, metric: Metric) -> None:
        """Where there is no room for a curve."""
        sheet.put(1, 1, standing(metric, found), "mid", most=sheet.width - 2)

    def _curve(self, moment: Moment, sheet: Sheet, found: Found, metric: Metric, watch: Watch) -> None:
        left, width, height = 9, sheet.width - 11, sheet.height - 2
        high = found.needed * BEYOND
        # Beyond *act* it says nothing more: without this end a clear case would press the way there into one row.
        values = [min(max(0.0, look.evidence), high * 0.97) for look in found.looks]
        last = found.looks[-1].at + metric.every
        start, end = watch.began, last if watch.ended or found.onset is not None else max(watch.until, last)
        act_y = 1 + min(height - 1, int((high - found.needed) / high * height))
        sheet.right(left - 2, act_y, "act", "mid")
        sheet.right(left - 2, height, "none", "dim")
        for column in range(left, left + width, 2):
            sheet.put(column, act_y, "·", "rail")
        points = [(look.at + metric.every / 2, value) for look, value in zip(found.looks, values, strict=True)]
        points = _thinned(points, 2 * width)
        draw = chart.stars if moment.looks.ascii else self.easel.canvas
        over = next((at for at, value in points if value >= found.needed), math.inf)
        for dy, text in enumerate(draw([points], width, height, (start, end), (-0.02 * high, high)) or ()):
            for dx, char in enumerate(text):
                if char != " ":
                    at = start + (dx + 1) / width * (end - start)
                    sheet.put(left + dx, 1 + dy, char, "stop" if at >= over else "line")
        y = height + 1
        sheet.put(left, y, clock(start), "dim")
        sheet.right(left + width - 1, y, clock(end), "dim")


def _thinned(points: list[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """At most so many points: of neighbours the highest, so that what was reached is seen."""
    group = max(1, math.ceil(len(points) / max(1, most)))
    return [max(points[at : at + group], key=lambda point: point[1]) for at in range(0, len(points), group)]


def standing(metric: Metric, found: Found) -> str:
    """Where the evidence stands, in words."""
    now = max((look.evidence for look in found.looks), default=0.0)
    if metric.threshold is not None:
        return f"beyond its bounds for {ago(now) if now else '0 s'} of {ago(found.needed)} at most"
    if now >= found.needed:
        return f"evidence 10^{now:.1f}: 10^{found.needed:.1f} is needed"
    return f"evidence 10^{max(0.0, now):.1f} of the 10^{found.needed:.1f} that is needed"


class Why(OfMetric):
    """The reasons, one a row: what, when, how sure, what else it could be, what could not be seen."""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """As many as there is room for."""
        sheet.put(1, 0, "why", "fg", bold=True)
        metric, found, watch = self.of(moment)
        if metric is None:
            return
        y = 1
        for words, role in reasons(moment, metric, found, watch):
            for row in textwrap.wrap(words, max(10, sheet.width - 2), subsequent_indent="  "):
                if y >= sheet.height:
                    return
                sheet.put(1, y, row, role, most=sheet.width - 2)
                y += 1


def reasons(moment: Moment, metric: Metric, found: Found | None, watch: Watch | None) -> list[tuple[str, str]]:
    """Why the verdict on a metric is what it is."""
    rows: list[tuple[str, str]] = []
    if found is None:
        return [("reading the buckets", "dim")]
    verdict = watch.verdicts.get(metric.name) if watch is not None else None
    version = short(watch.version) if watch is not None else ""
    onset = found.onset if found.onset is not None else verdict.onset if verdict is not None else None
    if watch is not None and onset is not None:
        what = "rose" if metric.bad == "rises" else "fell"
        seen = found.seen or (verdict.at if verdict is not None else onset)
        after = f"{ago(max(0.0, onset - watch.began))} after {version}"
        rows.append((f"{what} at {clock(onset)}, {after}; seen at {clock(seen)}", "fg"))
    if found.before is not None and found.after is not None:
        text = f"{number(found.before, metric)} → {number(found.after, metric)}"
        if found.effect is not None:
            text += f", {change_words(found.effect)}"
        rows.append((f"{text}, {found.count} bucket{'s' if found.count != 1 else ''}", "mid"))
    if found.p is not None:
        rows.append((f"p < 1e{min(0, math.ceil(math.log10(max(found.p, 1e-99))))}, valid at every look", "mid"))
    if found.can:
        at = found.can.find("can show")
        rows.append((found.can[max(0, at) :], "mid"))
    elif metric.threshold is not None:
        rows.append((f"bounds of a person: {bound(metric)}, for {ago(found.needed)} at most", "mid"))
    elif watch is None:
        rows.append(("what it can show is known once a deployment is watched; `andon check` says it now", "dim"))
    helped = moment.known(moment.line).helped.get(watch.deployment) if watch is not None else None
    if helped is not None:
        role = {"recovered": "ok", "not recovered": "stop"}.get(helped.word, "mid")
        rows.append((f"{helped.word} after going back: {helped.sentence}", role))
    if found.odd:
        rows.append((f"it was {found.odd} before {version} already", "warn"))
    if watch is not None:
        rows.append(_elsewhere(moment))
    if found.looks and found.needed:
        rows.append((standing(metric, found), "mid"))
    if found.words:
        rows.append((found.words, "dim"))
    return rows


def _elsewhere(moment: Moment) -> tuple[str, str]:
    """Whether other lines regressed now too: then it may not be this version."""
    others = [
        name for name in moment.config.lines if name != moment.line and regressed_now(moment.known(name)) is not None
    ]
    if others:
        return f"also regressed now: {', '.join(others[:3])}", "warn"
    count = len(moment.config.lines) - 1
    if not count:
        return "no other line is there to compare with", "dim"
    return f"no other of {count} lines regressed" if count > 1 else "the other line did not regress", "mid"
