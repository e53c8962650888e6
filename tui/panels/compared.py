"""The metrics of one deployment: before, after, by how much, how sure, and the verdict."""

from typing import NamedTuple

from andon.board import Watch
from andon.immune.threshold import number
from andon.model import Metric, Verdict
from tui.moment import Moment
from tui.panels.facts import SIGN
from tui.panels.panel import Panel
from tui.panels.sheet import Sheet
from tui.panels.words import ago, clock
from tui.studied import Effect, Found


class Columns(NamedTuple):
    """Where the columns stand: right edges of the numbers, left edges of the rest; 0: it is not there."""

    before: int
    after: int
    change: int
    verdict: int


def columns(width: int) -> Columns:
    """The columns of that width."""
    if width >= 130:
        return Columns(38, 52, 56, 84)
    if width >= 96:
        return Columns(28, 40, 43, 64)
    return Columns(25, 34, 36, 53) if width >= 76 else Columns(22, 31, 0, 33)


def change_words(effect: Effect, *, interval: bool = True) -> str:
    """`−38 % [−46, −30]`: never without how sure it is, where that is known."""
    text = f"{signed(effect.size)} %"
    if not interval or effect.low is None or effect.high is None:
        return text
    return f"{text} [{signed(effect.low)}, {signed(effect.high)}]"


def signed(part: float) -> str:
    """A part as per cent, with its sign and a real minus; one place below ten."""
    value = 100 * part
    text = f"{abs(value):,.0f}" if abs(value) >= 9.95 else f"{abs(value):.1f}"
    if float(text.replace(",", "")) == 0:
        return "0"
    return f"{'−' if value < 0 else '+'}{text}"


def told(metric: Metric, watch: Watch | None, verdict: Verdict | None, found: Found | None, now: float) -> str:
    """The verdict on one metric, in a few words."""
    if watch is None:
        return "not watched"
    if verdict is None or (verdict.word == "undecided" and not watch.ended):
        whole = round((watch.until - watch.began) / 60)
        gone = min(whole, max(0, int((now - watch.began) // 60)))
        if watch.ended:
            return "not judged"
        return f"no verdict yet, {gone} of {whole} min"
    if verdict.word == "regressed":
        seen = found.seen if found is not None and found.seen is not None else verdict.at
        return f"regressed, seen in {ago(max(0.0, seen - watch.began))}"
    if verdict.word == "healthy":
        return "healthy"
    rest = verdict.sentence.removeprefix(metric.name).lstrip(": ")
    return f"{verdict.word}: {rest}"


class Compared(Panel):
    """One row a metric; the picked one's chart is below."""

    picked = 0

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """A header, then the metrics in the config's order."""
        metrics = moment.config.lines[moment.line].metrics
        at = columns(sheet.width)
        if not metrics:
            sheet.put(1, 0, "no metric is configured: three lines under `metrics:` add one", "dim")
            return
        sheet.put(2, 0, "metric", "dim")
        sheet.right(at.before, 0, "before", "dim")
        sheet.right(at.after, 0, "after", "dim")
        if at.change:
            sheet.put(at.change, 0, "change", "dim")
        sheet.put(at.verdict, 0, "verdict", "dim")
        study = moment.study
        self._age(moment, sheet)
        rows = sheet.height - 1
        top = max(0, min(self.picked - rows + 1, len(metrics) - rows)) if self.picked >= rows else 0
        for y, metric in enumerate(metrics[top : top + rows], 1):
            found = study.found.get(metric.name) if study is not None else None
            self._row(moment, sheet, y, at, metric, found, picked=top + y - 1 == self.picked)
        if len(metrics) > top + rows:
            sheet.put(at.verdict + 9, 0, f"{len(metrics) - top - rows} more ▾", "dim")

    def _age(self, moment: Moment, sheet: Sheet) -> None:
        study = moment.study
        words = "reading the buckets" if study is None else f"as of {clock(study.at)}"
        sheet.right(sheet.width - 2, 0, words, "dim")

    def _row(
        self,
        moment: Moment,
        sheet: Sheet,
        y: int,
        at: Columns,
        metric: Metric,
        found: Found | None,
        *,
        picked: bool,
    ) -> None:
        if picked and moment.looks.tints:
            sheet.ground(y, "sel")
            sheet.put(0, y, "▌", "move")
        elif picked:
            sheet.put(0, y, ">", "fg", bold=True)
        watch = moment.known(moment.line).watches.get(moment.subject)
        verdict = watch.verdicts.get(metric.name) if watch is not None else None
        sign, role = SIGN[verdict.word] if verdict is not None else ("…" if watch is not None else "·", "mid")
        bad = role == "stop"
        sheet.put(2, y, metric.name, "fg", bold=picked, most=at.before - 11)
        before = number(found.before, metric) if found is not None and found.before is not None else "–"
        after = number(found.after, metric) if found is not None and found.after is not None else "–"
        sheet.right(at.before, y, before, "mid")
        sheet.right(at.after, y, after, "stop" if bad else "fg", bold=bad)
        if at.change and found is not None and found.effect is not None:
            text = change_words(found.effect)
            room = at.verdict - at.change - 1
            if len(text) > room:
                text = change_words(found.effect, interval=False)
            sheet.put(at.change, y, text, "stop" if bad else "mid", most=room)
        sheet.put(at.verdict, y, sign, role, bold=role in ("stop", "blind"))
        words = told(metric, watch, verdict, found, moment.now)
        sheet.put(
            at.verdict + 2, y, words, role if role in ("stop", "blind") else "mid", most=sheet.width - at.verdict - 3
        )
