"""The panel below the floor: what is true of the selected line at the left, its worst metric at the right."""

from andon.model import Metric
from tui.moment import Moment
from tui.panels import effects as proofs
from tui.panels import plot
from tui.panels.facts import (
    Reading,
    Status,
    beyond,
    bound,
    has_it,
    production,
    readings,
    sentence,
    status,
    verdict_words,
    watch_of,
)
from tui.panels.floor_row import title
from tui.panels.panel import Panel
from tui.panels.sheet import Sheet, width_of
from tui.panels.timeline import draw_events
from tui.panels.words import ago, clock, login, number, short

WIDE = 130


class LineFacts(Panel):
    """One sentence per fact; the verdict first."""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """Seven rows, or more where it is wide."""
        if moment.line not in moment.config.lines:
            return
        if sheet.width >= WIDE and sheet.height >= 10:
            self._wide(moment, sheet)
            return
        metric = chosen(moment, moment.line)
        left = 43 + (sheet.width - 80) // 3
        if sheet.height >= 5 and metric is not None:
            span = 1800.0 if sheet.width < 100 else 3600.0
            frame = plot.framed(left, 0, sheet.width - left - 1, sheet.height, 7, moment.now, span)
            plot.draw(moment, sheet, frame, moment.line, metric)
        else:
            left = sheet.width - 1
        facts(moment, sheet, moment.line, left if sheet.height >= 5 and metric is not None else sheet.width - 2)

    def _wide(self, moment: Moment, sheet: Sheet) -> None:
        """The chart at the left, the last events at the right."""
        name = moment.line
        right = sheet.width * 2 // 3
        lamp = status(moment, name)
        metric = chosen(moment, name)
        x = sheet.put(2, 0, name, "fg", bold=True)
        x = _state(moment, sheet, x + 2, 0, lamp, right - 2)
        if metric is None:
            sheet.put(2, 2, "no metric is configured: three lines under `metrics:` add one", "dim")
        else:
            item = next(found for found in readings(moment, name) if found.metric.name == metric.name)
            metric_title(sheet, x + 2, 0, item, right - 2)
            frame = plot.framed(0, 1, right - 2, sheet.height - 1, 9, moment.now, 3600.0)
            plot.draw(moment, sheet, frame, name, metric)
        x = sheet.put(right + 2, 0, "events", "fg", bold=True)
        sheet.put(x + 2, 0, "all lines", "dim")
        draw_events(moment, sheet, right + 2, 2, sheet.width - right - 3, sheet.height - 2, lines=True)


def chosen(moment: Moment, name: str) -> Metric | None:
    """The metric whose chart is shown: the worst, or the one that `m` came to."""
    items = readings(moment, name)
    return items[moment.metric % len(items)].metric if items else None


def metric_title(sheet: Sheet, x: int, y: int, item: Reading, end: int) -> int:
    """`conversion 3.1 %   … 12 of 60 min`."""
    x = sheet.put(x, y, item.metric.name, "mid", most=end - x)
    if item.sample is not None and not item.hidden:
        shown = item.sample.shown(item.metric.kind)
        if shown is not None:
            role = "stop" if item.role == "stop" else "warn" if beyond(item) else "fg"
            x = sheet.put(x + 1, y, number(shown, item.metric), role, bold=True, most=end - x - 1)
    words = bound(item.metric)
    if words and x + 2 + len(words) < end:
        x = sheet.put(x + 2, y, words, "dim")
    return x


def _state(moment: Moment, sheet: Sheet, x: int, y: int, lamp: Status, end: int) -> int:
    """`stopped 6 min by immune · cy has it`, or `runs · 5de1 live 12 min, by ann`."""
    line = moment.known(moment.line)
    held = line.open_holds
    loud = lamp.role in ("stop", "warn", "blind")
    words = lamp.word if lamp.since is None else f"{lamp.word} {ago(moment.now - lamp.since)}"
    x = sheet.put(x, y, words, lamp.role if loud else "mid", bold=loud, most=end - x)
    if held:
        first = held[0]
        x = sheet.put(x, y, f" by {proofs.owner(first.owner, first.kind)}", "mid", most=end - x)
        x = sheet.put(x, y, " · ", "dim", most=end - x)
        return sheet.put(x, y, has_it(held, moment.who), "fg", bold=True, most=end - x)
    live = production(line)
    if live is not None:
        by = f", by {login(live.by)}" if live.by else ""
        text = f" · {short(live.version)} live {ago(moment.now - live.at)}{by}"
        x = sheet.put(x, y, text, "mid", most=end - x)
    return x


def facts(moment: Moment, sheet: Sheet, name: str, left: int) -> None:
    """The facts of a line in the columns before `left`."""
    end = left - 1
    lamp = status(moment, name)
    x = sheet.put(1, 0, name, "fg", bold=True, most=20)
    _state(moment, sheet, x + 2, 0, lamp, min(left + 7, sheet.width - 1))
    line = moment.known(name)
    if line.open_holds:
        _held(moment, sheet, name, end)
        return
    live = production(line)
    if live is None:
        sheet.put(1, 1, "nothing shipped yet", "dim", most=end - 1)
    else:
        batch = line.batch(live)
        count = f" · {len(batch)} commits" if len(batch) > 1 else ""
        sheet.put(1, 1, fitted(title(line, live), count, end - 2), "dim", most=end - 1)
    _verdicts(moment, sheet, name, 3, end)


def fitted(text: str, tail: str, width: int) -> str:
    """`text` and `tail`, the text cut so that the tail is seen."""
    from tui.panels.sheet import fit

    return fit(text, max(4, width - width_of(tail))) + tail


def _verdicts(moment: Moment, sheet: Sheet, name: str, y: int, end: int) -> None:
    """Each metric: sign, name, value; and under the first what its watch says."""
    items = readings(moment, name)
    if not items:
        sheet.put(1, y, "no metric is configured", "dim", most=end - 1)
        return
    watch = watch_of(moment.known(name))
    for index, item in enumerate(items):
        if y >= sheet.height:
            return
        sheet.put(1, y, item.sign, item.role, bold=item.role in ("stop", "blind"))
        if item.hidden and item.sample is not None:
            since = clock(item.sample.at + item.metric.every, moment.now)
            sheet.put(3, y, f"{item.metric.name}: no data since {since}", "mid", most=end - 3)
        else:
            x = metric_title(sheet, 3, y, item, end)
            if item.stale:
                sheet.put(x + 2, y, f"stale {item.stale}", "blind", most=end - x - 2)
        y += 1
        if index == 0 and y < sheet.height:
            words = sentence(item, watch) or (verdict_words(moment, name) if watch else "")
            if words:
                sheet.put(3, y, words, "dim", most=end - 3)
                y += 1


def _held(moment: Moment, sheet: Sheet, name: str, end: int) -> None:
    """Why it is held, what was found, and the four effects."""
    line = moment.known(name)
    first = line.open_holds[0]
    sheet.put(1, 1, first.why, "mid", most=end - 1)
    y = 2
    suspect = line.deployment(first.deployment)
    if suspect is not None:
        seen = f" · held {clock(first.since, moment.now)}"
        sheet.put(1, y, f"{short(suspect.version)} live {clock(suspect.at, moment.now)}{seen}", "dim", most=end - 1)
        y += 1
        helped = line.helped.get(suspect.id)
        if helped is not None:
            sign, role = {"recovered": ("✓", "ok"), "not recovered": ("✗", "stop")}.get(helped.word, ("…", "mid"))
            x = sheet.parts(1, y, (sign, role), (f" {helped.word} ", "fg" if helped.word != "too early" else "mid"))
            sheet.put(x, y, helped.sentence, "dim", most=end - x)
    y = max(4, sheet.height - 2)
    found = {effect.name: effect for effect in proofs.effects(moment, name)}
    for (column, dy), key in (((1, 0), "remove"), ((24, 0), "notify"), ((1, 1), "block"), ((24, 1), "until fixed")):
        if y + dy >= sheet.height or column >= end:
            continue
        _effect(sheet, column, y + dy, found[key], min(end, column + 22 if column == 1 else end))


def _effect(sheet: Sheet, x: int, y: int, effect: proofs.Effect, end: int) -> None:
    if effect.name == "until fixed":
        sheet.parts(x, y, ("until fixed: ", "mid"), ("open", "fg", True), most=end - x)
        return
    words, role = proofs.summary(effect)
    sheet.parts(x, y, (effect.name.ljust(7), "mid"), (effect.sign, effect.role), (f" {words}", role), most=end - x)


class SmallFacts(Panel):
    """Two rows about the selected line, where there is no room for the panel below."""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """What it is, and what its watch says."""
        name = moment.line
        if name not in moment.config.lines:
            return
        line = moment.known(name)
        if line.open_holds:
            sheet.put(1, 0, line.open_holds[0].why, "mid", most=sheet.width - 2)
            words = "   ".join(
                f"{effect.name} {effect.sign} {proofs.summary(effect)[0]}"
                for effect in proofs.effects(moment, name)[:3]
            )
            sheet.put(1, 1, words, "mid", most=sheet.width - 2)
            return
        x = sheet.put(1, 0, name, "fg", bold=True)
        live = production(line)
        words = (
            f" {short(live.version)} live {ago(moment.now - live.at)}, by {login(live.by)}"
            if live
            else " nothing shipped yet"
        )
        sheet.put(x, 0, words, "mid", most=sheet.width - x - 1)
        items = readings(moment, name)
        if items:
            sheet.put(1, 1, items[0].sign, items[0].role)
            sheet.put(3, 1, verdict_words(moment, name) or items[0].metric.name, "mid", most=sheet.width - 4)
