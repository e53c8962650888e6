"""The head of a metric's screen: what it is now, what was found of it, over which time it is shown."""

from andon.immune.threshold import number
from tui.moment import Moment
from tui.panels.ageing import source_age
from tui.panels.compared import change_words, told
from tui.panels.evidence import OfMetric
from tui.panels.facts import SIGN, bound, reading
from tui.panels.sheet import Sheet, width_of
from tui.panels.words import clock, short

RANGES = ((900.0, "15 min"), (3600.0, "1 h"), (6 * 3600.0, "6 h"), (24 * 3600.0, "24 h"))
"""How far back the chart may reach; samples are kept for two days."""


class MetricHead(OfMetric):
    """Two rows: the value and the verdict; what it was compared with, and the age."""

    span_s = 3600.0

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """The ranges stand at the right of the first row."""
        metric, found, watch = self.of(moment)
        if metric is None:
            sheet.put(1, 0, f"{moment.line} has no metric {self.metric} any more", "blind", most=sheet.width - 2)
            return
        item = reading(moment, moment.line, metric)
        end = self._ranges(moment, sheet)
        x = sheet.put(1, 0, metric.name, "fg", bold=True, most=min(30, end - 12))
        shown = item.sample.shown(metric.kind) if item.sample is not None else None
        if item.hidden and item.sample is not None:
            x = sheet.put(x + 2, 0, f"no data since {clock(item.sample.at + metric.every, moment.now)}", "blind")
        elif shown is not None:
            x = sheet.put(x + 2, 0, number(shown, metric), "dim" if item.stale else "fg", bold=not item.stale)
        if item.stale and not item.hidden:
            x = sheet.put(x + 2, 0, f"stale {item.stale}", "blind", bold=True, most=end - x - 3)
        verdict = watch.verdicts.get(metric.name) if watch is not None else None
        if (
            found is not None
            and found.effect
            and watch is not None
            and found.before is not None
            and found.after is not None
        ):
            bad = verdict is not None and verdict.word == "regressed"
            words = change_words(found.effect)
            means = f"{number(found.before, metric).partition(' ')[0]} → {number(found.after, metric)}  "
            if x + 5 + width_of(means + words) < end:
                x = sheet.put(x + 4, 0, means, "mid") - 2
            if x + 3 + width_of(words) < end:
                sheet.put(x + 2, 0, words, "stop" if bad else "mid", bold=bad)
        if sheet.height < 2:
            return
        entry = source_age(moment, metric.source, metric.every)
        stop = entry.draw(sheet, 1) - 2
        sign, role = SIGN[verdict.word] if verdict is not None else ("…" if watch is not None else "·", "mid")
        words = told(metric, watch, verdict, found, moment.now)
        if watch is None:
            words = "no deployment of this line is watched yet"
        x = sheet.put(1, 1, f"{sign} ", role, bold=role == "stop")
        x = sheet.put(x, 1, words, role if role in ("stop", "blind") else "mid", bold=role == "stop", most=stop - x)
        about = f"after {short(watch.version)}" if watch is not None and short(watch.version) not in words else ""
        if about and x + 1 + width_of(about) < stop:
            x = sheet.put(x + 1, 1, about, "mid")
        helped = moment.known(moment.line).helped.get(watch.deployment) if watch is not None else None
        if helped is not None:
            role = {"recovered": "ok", "not recovered": "stop"}.get(helped.word, "mid")
            when = f" {clock(helped.at, moment.now)}" if helped.word != "too early" else " to see whether it helped"
            x = sheet.put(x + 3, 1, f"{helped.word}{when}", role, most=stop - x - 3)
        limit = bound(metric)
        if limit and x + 2 + width_of(limit) < stop:
            sheet.put(x + 2, 1, limit, "dim")

    def _ranges(self, moment: Moment, sheet: Sheet) -> int:
        """The ranges, the one that is shown on a ground of its own; returns the column before them."""
        end = sheet.width - 2
        shown = [item for item in RANGES if item[0] == self.span_s] if sheet.width < 76 else RANGES
        for span, words in shown:
            mine = span == self.span_s
            tinted = mine and moment.looks.tints
            text = f" {words} " if tinted or not mine else f"[{words}]"
            end = sheet.right(end, 0, text, "fg" if mine else "dim", bold=mine, bg="chip" if tinted else "") - 1
        return end
