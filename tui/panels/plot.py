"""A chart: plotext's braille line, and around it what andon draws: bounds as a tint, marks, three values, times."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from andon.board import Line
from andon.clock import Time
from andon.immune.threshold import number
from andon.model import Metric, Sample
from tui import chart
from tui.moment import Moment
from tui.panels.facts import reading
from tui.panels.sheet import Sheet
from tui.panels.words import clock, login, short

BLANK = " \u2800"
POINTS = 2
"""Points per column; more are averaged."""


class Mark(NamedTuple):
    """Something that happened, as a sign above the plot and a dotted line in it."""

    at: Time
    sign: str
    label: str
    role: str


class Frame(NamedTuple):
    """Where a chart lies, and what it spans."""

    x: int
    y: int
    width: int
    height: int
    """With the row of marks above and the row of times below."""
    labels: int
    """Cells at the left for the values."""
    start: Time
    end: Time

    @property
    def plot_x(self) -> int:
        """The plot's first column."""
        return self.x + self.labels

    @property
    def plot_w(self) -> int:
        """The plot's columns."""
        return self.width - self.labels

    @property
    def plot_y(self) -> int:
        """The plot's first row."""
        return self.y + 1

    @property
    def plot_h(self) -> int:
        """The plot's rows."""
        return self.height - 2

    def column(self, at: Time) -> int:
        """The column of a time."""
        return self.plot_x + int((at - self.start) / (self.end - self.start) * self.plot_w)


def framed(x: int, y: int, width: int, height: int, labels: int, now: Time, span_s: float) -> Frame:
    """A frame that ends now. It moves by half a cell at a time, so that a chart is not drawn anew each second."""
    step = span_s / max(1, 2 * (width - labels))
    end = math.ceil(now / step) * step
    return Frame(x, y, width, height, labels, end - span_s, end)


def draw(moment: Moment, sheet: Sheet, frame: Frame, name: str, metric: Metric, *, labels: bool = True) -> None:
    """The chart of one metric of a line. `labels` off: the marks' signs alone, for charts stacked on one time axis."""
    if frame.plot_w < 8 or frame.plot_h < 2:
        return
    rows = [row for row in moment.rows_of(name, metric) if row.at + metric.every > frame.start]
    line = moment.known(name)
    runs = _runs(metric, rows, frame)
    low, high = _range(metric, runs)
    _values(sheet, frame, metric, low, high)
    _times(sheet, frame, moment.now)
    if moment.looks.tints:
        _tint(sheet, frame, metric, low, high)
    if not rows:
        words = "no data yet" if reading(moment, name, metric).sign != "?" else "no data"
        sheet.put(frame.plot_x + frame.plot_w // 2 - 6, frame.plot_y + frame.plot_h // 2, words, "dim")
    _line(moment, sheet, frame, line, metric, rows, runs, low, high)
    if not moment.looks.tints:
        _edges(sheet, frame, metric, low, high)
    marks = marks_of(line, frame.start)
    item = reading(moment, name, metric)
    if item.sample is not None and item.sign == "?":
        marks = (*marks, Mark(item.sample.at + metric.every, "?", "", "blind"))
    _marks(sheet, frame, marks, labels=labels)


def marks_of(line: Line, since: Time) -> tuple[Mark, ...]:
    """Deployments, returns and pulls since then, oldest first."""
    found: list[Mark] = []
    for deployment in line.deployments:
        if deployment.at < since:
            continue
        if line.went_back(deployment):
            found.append(Mark(deployment.at, "◂", short(deployment.version), "warn"))
        else:
            found.append(Mark(deployment.at, "▾", f"{short(deployment.version)} {login(deployment.by)}".strip(), "mid"))
    found += [Mark(hold.since, "■", "", "stop") for hold in line.holds if hold.since >= since]
    return tuple(sorted(found))


def _range(metric: Metric, runs: Sequence[Sequence[chart.Point]]) -> tuple[float, float]:
    """The values from bottom to top: all data and the bounds, with room around."""
    values = [value for run in runs for _, value in run]
    threshold = metric.threshold
    if threshold is not None:
        values += [bound for bound in (threshold.above, threshold.below) if bound is not None]
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    room = max((high - low) * 0.25, abs(high) * 0.05, 1e-9)
    floor = 0.0 if low >= 0 else low - room
    top = 1.0 if metric.kind == "proportion" and high <= 1.0 else high + room
    return max(floor, low - room), min(top, high + room)


def _row_of(frame: Frame, value: float, low: float, high: float) -> int:
    """The plot row that holds a value."""
    share = (high - value) / (high - low)
    return frame.plot_y + max(0, min(frame.plot_h - 1, int(share * frame.plot_h)))


def _values(sheet: Sheet, frame: Frame, metric: Metric, low: float, high: float) -> None:
    """Top, bound and bottom, at the left; the unit on the top one only."""
    end = frame.plot_x - 2
    room = frame.labels - 2
    top = number(high, metric)
    sheet.right(end, frame.plot_y, top if len(top) <= room else _plain(top), "dim")
    bottom_y = frame.plot_y + frame.plot_h - 1
    sheet.right(end, bottom_y, _plain(number(low, metric)), "dim")
    for bound in _bounds(metric):
        y = _row_of(frame, bound, low, high)
        if frame.plot_y < y < bottom_y:
            sheet.right(end, y, _plain(number(bound, metric)), "mid")


def _plain(text: str) -> str:
    """A number without its unit, but with its `k`."""
    parts = text.split(" ")
    return " ".join(parts[:2]) if len(parts) > 1 and parts[1] == "k" else parts[0]


def _bounds(metric: Metric) -> list[float]:
    threshold = metric.threshold
    return [bound for bound in (threshold.above, threshold.below) if bound is not None] if threshold else []


def _times(sheet: Sheet, frame: Frame, now: Time) -> None:
    y = frame.y + frame.height - 1
    steps = 3 if frame.plot_w >= 50 else 1
    for step in range(steps + 1):
        text = clock(now - (frame.end - frame.start) * (1 - step / steps))
        x = frame.plot_x + round((frame.plot_w - 1) * step / steps)
        if step == steps:
            sheet.right(frame.plot_x + frame.plot_w - 1, y, text, "dim")
        else:
            sheet.put(x if step == 0 else x - 2, y, text, "dim")


def _tint(sheet: Sheet, frame: Frame, metric: Metric, low: float, high: float) -> None:
    """Where the metric may be, as a ground behind it."""
    threshold = metric.threshold
    if threshold is None:
        return
    step = (high - low) / frame.plot_h
    for row in range(frame.plot_h):
        middle = high - step * (row + 0.5)
        if not threshold.beyond(middle):
            sheet.tint(frame.plot_x, frame.plot_y + row, frame.plot_w, "band")


def _edges(sheet: Sheet, frame: Frame, metric: Metric, low: float, high: float) -> None:
    """Without tints the bounds are dotted."""
    for bound in _bounds(metric):
        y = _row_of(frame, bound, low, high)
        for x in range(frame.plot_x, frame.plot_x + frame.plot_w, 2):
            if sheet.at(x, y) in BLANK:
                sheet.put(x, y, "·", "dim")


def _line(
    moment: Moment,
    sheet: Sheet,
    frame: Frame,
    line: Line,
    metric: Metric,
    rows: Sequence[Sample],
    runs: Sequence[Sequence[chart.Point]],
    low: float,
    high: float,
) -> None:
    """The measured line, red from the onset that a verdict found until it is back."""
    drawn = (chart.stars if moment.looks.ascii else chart.canvas)(
        runs, frame.plot_w, frame.plot_h, (frame.start, frame.end), (low, high)
    )
    red = _red(line, metric, rows)
    per = (frame.end - frame.start) / frame.plot_w
    for dy, text in enumerate(drawn):
        for dx, char in enumerate(text):
            if char not in BLANK:
                at = frame.start + (dx + 0.5) * per
                bad = any(a - per <= at <= b + per for a, b in red)
                x, y = frame.plot_x + dx, frame.plot_y + dy
                ground = "band" if moment.looks.tints and _within(metric, low, high, frame, dy) else ""
                sheet.put(x, y, char, "stop" if bad else "line", bg=ground)


def _within(metric: Metric, low: float, high: float, frame: Frame, row: int) -> bool:
    threshold = metric.threshold
    return threshold is not None and not threshold.beyond(high - (high - low) / frame.plot_h * (row + 0.5))


def _runs(metric: Metric, rows: Sequence[Sample], frame: Frame) -> list[list[chart.Point]]:
    """Neighbouring buckets as one line; a missing bucket is a gap."""
    group = max(1, math.ceil(len(rows) / max(1, frame.plot_w * POINTS)))
    runs: list[list[chart.Point]] = []
    before: Time | None = None
    for index in range(0, len(rows), group):
        part = rows[index : index + group]
        values = [value for row in part if (value := row.shown(metric.kind)) is not None]
        if not values:
            before = None
            continue
        at = part[0].at + metric.every / 2
        if before is None or part[0].at - before > metric.every * 1.5 * group:
            runs.append([])
        runs[-1].append((at, sum(values) / len(values)))
        before = part[-1].at
    return runs


def _red(line: Line, metric: Metric, rows: Sequence[Sample]) -> list[tuple[Time, Time]]:
    """From where to where the metric was judged to have regressed."""
    found: list[tuple[Time, Time]] = []
    threshold = metric.threshold
    for watch in line.watches.values():
        verdict = watch.verdicts.get(metric.name)
        if verdict is None or verdict.word != "regressed" or verdict.onset is None:
            continue
        end = verdict.onset
        for row in rows:
            if row.at < verdict.onset:
                continue
            value = row.shown(metric.kind)
            if value is not None and threshold is not None and not threshold.beyond(value):
                break
            end = row.at + metric.every
        found.append((verdict.onset, end))
    return found


def _marks(sheet: Sheet, frame: Frame, marks: Sequence[Mark], *, labels: bool) -> None:
    """Signs and versions above, dotted lines below; never over the measured line."""
    last = frame.plot_x + frame.plot_w - 1
    columns = [min(last, max(frame.plot_x, frame.column(mark.at))) for mark in marks]
    taken: list[tuple[int, int]] = [(column, column) for column in columns]
    for mark, column in zip(marks, columns, strict=True):
        for y in range(frame.plot_y, frame.plot_y + frame.plot_h):
            if sheet.at(column, y) in BLANK + "·":
                ground = _ground(sheet, column, y)
                sheet.put(column, y, "┆", mark.role if mark.role != "mid" else "rail", bg=ground)
        sheet.put(column, frame.y, mark.sign, mark.role, bold=mark.role == "stop")
        if labels and mark.label:
            _label(sheet, frame, mark, column, taken)


def _label(sheet: Sheet, frame: Frame, mark: Mark, column: int, taken: list[tuple[int, int]]) -> None:
    """The version beside its sign: at the right, else at the left, else nothing."""
    last = frame.plot_x + frame.plot_w - 1
    for text in (mark.label, mark.label.split(" ", maxsplit=1)[0]):
        for start in (column + 1, column - len(text)):
            end = start + len(text) - 1
            free = all(end < a or start > b for a, b in taken if (a, b) != (column, column))
            if start >= frame.plot_x and end <= last and free:
                sheet.put(start, frame.y, text, mark.role)
                taken.append((start - 1, end + 1))
                return


def _ground(sheet: Sheet, x: int, y: int) -> str:
    """The ground that a cell has already."""
    return sheet.ink(x, y).bg
