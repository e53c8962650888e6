"""A chart: plotext's braille line, and around it what andon draws: what was expected as a tint, marks, values, times."""

import bisect
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from andon.board import Line
from andon.clock import Time
from andon.immune.threshold import number
from andon.model import Metric, Sample
from tui import chart
from tui.moment import Moment
from tui.panels.band import Band, band_of
from tui.panels.facts import reading
from tui.panels.sheet import Sheet
from tui.panels.words import DAY_S, clock, login, short

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


def between(x: int, y: int, width: int, height: int, labels: int, start: Time, end: Time) -> Frame:
    """A frame of a time that is over, or of one that goes on."""
    return Frame(x, y, width, height, labels, start, max(end, start + 1.0))


def framed(x: int, y: int, width: int, height: int, labels: int, now: Time, span_s: float) -> Frame:
    """A frame that ends now. It moves by half a cell at a time, so that a chart is not drawn anew each second."""
    step = span_s / max(1, 2 * (width - labels))
    end = math.ceil(now / step) * step
    return Frame(x, y, width, height, labels, end - span_s, end)


class Picture(NamedTuple):
    """What a chart shows of one metric."""

    metric: Metric
    rows: tuple[Sample, ...]
    """Buckets, oldest first."""
    band: Band
    marks: tuple[Mark, ...] = ()
    red: tuple[tuple[Time, Time], ...] = ()
    """From where to where it was judged to have regressed."""
    empty: str = "no data yet"
    """What is said where there is nothing."""


Canvas = Callable[
    [Sequence[Sequence[chart.Point]], int, int, tuple[float, float], tuple[float, float]], Sequence[str] | None
]
"""Draws a line as braille; None: it is not drawn yet."""


def draw(moment: Moment, sheet: Sheet, frame: Frame, name: str, metric: Metric, *, labels: bool = True) -> None:
    """The chart of one metric of a line. `labels` off: the marks' signs alone, for charts stacked on one time axis."""
    paint(moment, sheet, frame, picture_of(moment, name, metric, moment.rows_of(name, metric), frame), labels=labels)


def picture_of(moment: Moment, name: str, metric: Metric, rows: Sequence[Sample], frame: Frame) -> Picture:
    """What is known of a metric in the time of a frame."""
    line = moment.known(name)
    first = bisect.bisect_right(rows, frame.start - metric.every, key=_at)
    seen = tuple(rows[first : bisect.bisect_left(rows, frame.end, key=_at)])
    band = band_of(line, metric)
    item = reading(moment, name, metric)
    marks = marks_of(line, frame.start, frame.end)
    if item.sample is not None and item.sign == "?" and frame.end >= item.sample.at:
        marks = (*marks, Mark(item.sample.at + metric.every, "?", "", "blind"))
    empty = "no data" if item.sign == "?" else "no data yet"
    return Picture(metric, seen, band, marks, tuple(_red(line, metric, band, seen)), empty)


def _at(row: Sample) -> Time:
    return row.at


def paint(
    moment: Moment,
    sheet: Sheet,
    frame: Frame,
    picture: Picture,
    *,
    labels: bool = True,
    canvas: Canvas | None = None,
) -> None:
    """Draw a picture into a frame. `canvas`: who draws the line, where it is too large to be drawn at once."""
    if frame.plot_w < 8 or frame.plot_h < 2:
        return
    metric = picture.metric
    runs = _runs(metric, picture.rows, frame)
    low, high = _range(picture, runs, frame)
    if runs or picture.band.edges(frame.start, frame.end):
        _values(sheet, frame, picture, low, high)
    _times(sheet, frame, moment.now)
    if moment.looks.tints:
        _tint(sheet, frame, picture.band, low, high, fine=not moment.looks.ascii)
    _line(moment, sheet, frame, picture, runs, low, high, canvas)
    if not moment.looks.tints:
        _edges(sheet, frame, picture.band, low, high)
    _marks(sheet, frame, picture.marks, labels=labels)
    _onsets(sheet, frame, picture)
    if not picture.rows:
        x = frame.plot_x + frame.plot_w // 2 - max(6, (len(picture.empty) + 1) // 2)
        sheet.put(x, frame.plot_y + frame.plot_h // 2, picture.empty, "dim")


def marks_of(line: Line, since: Time, until: Time = math.inf) -> tuple[Mark, ...]:
    """Deployments, returns and pulls in that time, oldest first."""
    found: list[Mark] = []
    for deployment in line.deployments:
        if not since <= deployment.at <= until:
            continue
        if line.went_back(deployment):
            found.append(Mark(deployment.at, "◂", short(deployment.version), "warn"))
        else:
            found.append(Mark(deployment.at, "▾", f"{short(deployment.version)} {login(deployment.by)}".strip(), "mid"))
    found += [Mark(hold.since, "■", "cord", "stop") for hold in line.holds if since <= hold.since <= until]
    return tuple(sorted(found))


def _range(picture: Picture, runs: Sequence[Sequence[chart.Point]], frame: Frame) -> tuple[float, float]:
    """The values from bottom to top: all data and what was expected, with room around."""
    values = [value for run in runs for _, value in run] + picture.band.edges(frame.start, frame.end)
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    room = max((high - low) * 0.25, abs(high) * 0.05, 1e-9)
    floor = 0.0 if low >= 0 else low - room
    top = 1.0 if picture.metric.kind == "proportion" and high <= 1.0 else high + room
    return max(floor, low - room), min(top, high + room)


def _row_of(frame: Frame, value: float, low: float, high: float) -> int:
    """The plot row that holds a value."""
    share = (high - value) / (high - low)
    return frame.plot_y + max(0, min(frame.plot_h - 1, int(share * frame.plot_h)))


def _values(sheet: Sheet, frame: Frame, picture: Picture, low: float, high: float) -> None:
    """Top, bound or expectation, and bottom, at the left; the unit on the top one only."""
    metric = picture.metric
    end = frame.plot_x - 2
    room = frame.labels - 2
    top = number(high, metric)
    sheet.right(end, frame.plot_y, top if len(top) <= room else _plain(top), "dim")
    bottom_y = frame.plot_y + frame.plot_h - 1
    sheet.right(end, bottom_y, _plain(number(low, metric)), "dim")
    for value in picture.band.named(frame.end):
        y = _row_of(frame, value, low, high)
        if frame.plot_y < y < bottom_y:
            sheet.right(end, y, _plain(number(value, metric)), "mid")


def _plain(text: str) -> str:
    """A number without its unit, but with its `k`."""
    parts = text.split(" ")
    return " ".join(parts[:2]) if len(parts) > 1 and parts[1] == "k" else parts[0]


def _times(sheet: Sheet, frame: Frame, now: Time) -> None:
    """When it begins and ends, and what lies between; `now` at the right end of a frame that ends now."""
    y = frame.y + frame.height - 1
    steps = 3 if frame.plot_w >= 50 else 1
    end = min(now, frame.end)
    dated = now - frame.start > DAY_S
    for step in range(steps + 1):
        at = end - (frame.end - frame.start) * (1 - step / steps)
        text = clock(at, now) if dated and step in (0, steps) else clock(at)
        x = frame.plot_x + round((frame.plot_w - 1) * step / steps)
        if step == steps:
            sheet.right(frame.plot_x + frame.plot_w - 1, y, text, "dim")
        else:
            sheet.put(x if step == 0 else x - 2, y, text, "dim")


_EIGHTHS = " ▁▂▃▄▅▆▇█"
FINE_ROWS = 8
"""From so many rows on the edges of the band are drawn in eighths of a cell."""


def _tint(sheet: Sheet, frame: Frame, band: Band, low: float, high: float, *, fine: bool) -> None:
    """Where the metric may be, as a ground behind it."""
    step = (high - low) / frame.plot_h
    per = (frame.end - frame.start) / frame.plot_w
    fine = fine and frame.plot_h >= FINE_ROWS
    for dx in range(frame.plot_w):
        found = band.at(frame.start + (dx + 0.5) * per)
        if found is None:
            continue
        # The rows whose middle lies within it.
        first = math.ceil((high - min(high, found.high)) / step - 0.5)
        last = min(frame.plot_h - 1, math.floor((high - max(low, found.low)) / step - 0.5))
        for row in range(max(0, first), last + 1):
            sheet.tint(frame.plot_x + dx, frame.plot_y + row, 1, "band")
        if fine and not band.fixed:
            _edge(sheet, frame, frame.plot_x + dx, (high - found.high) / step, top=True)
            _edge(sheet, frame, frame.plot_x + dx, (high - found.low) / step, top=False)


def _edge(sheet: Sheet, frame: Frame, x: int, rows: float, *, top: bool) -> None:
    """An edge of the band, `rows` below the top of the plot, in eighths of the cell it falls into."""
    row = math.floor(rows)
    if not 0 <= row < frame.plot_h:
        return
    y, above = frame.plot_y + row, rows - row
    covered = 1 - above if top else above
    eighths = round(8 * (covered if top else 1 - covered))
    # The glyph fills the cell from below: with the band itself at its upper edge, with the ground at its lower one.
    if top:
        sheet.put(x, y, _EIGHTHS[eighths], "band")
    else:
        sheet.put(x, y, _EIGHTHS[eighths], "bg", bg="band")


def _edges(sheet: Sheet, frame: Frame, band: Band, low: float, high: float) -> None:
    """Without tints the edges are dotted."""
    per = (frame.end - frame.start) / frame.plot_w
    for dx in range(0, frame.plot_w, 2):
        found = band.at(frame.start + (dx + 0.5) * per)
        for value in (found.low, found.high) if found is not None else ():
            if not low <= value <= high:
                continue
            x, y = frame.plot_x + dx, _row_of(frame, value, low, high)
            if sheet.at(x, y) in BLANK:
                sheet.put(x, y, "·", "dim")


def _line(
    moment: Moment,
    sheet: Sheet,
    frame: Frame,
    picture: Picture,
    runs: Sequence[Sequence[chart.Point]],
    low: float,
    high: float,
    canvas: Canvas | None,
) -> None:
    """The measured line, red from the onset that a verdict found until it is back."""
    drawn = (chart.stars if moment.looks.ascii else canvas or chart.canvas)(
        runs, frame.plot_w, frame.plot_h, (frame.start, frame.end), (low, high)
    )
    per = (frame.end - frame.start) / frame.plot_w
    step = (high - low) / frame.plot_h
    for dy, text in enumerate(drawn or ()):
        if not text.strip():
            continue
        middle = high - step * (dy + 0.5)
        for dx, char in enumerate(text):
            if char not in BLANK:
                at = frame.start + (dx + 0.5) * per
                bad = any(a - per <= at <= b + per for a, b in picture.red)
                found = picture.band.at(at) if moment.looks.tints else None
                ground = "band" if found is not None and found.low <= middle <= found.high else ""
                sheet.put(frame.plot_x + dx, frame.plot_y + dy, char, "stop" if bad else "line", bg=ground)


def _runs(metric: Metric, rows: Sequence[Sample], frame: Frame) -> list[list[chart.Point]]:
    """Neighbouring buckets as one line; a missing bucket is a gap."""
    group = max(1, math.ceil(len(rows) / max(1, frame.plot_w * POINTS)))
    runs: list[list[chart.Point]] = []
    before: Time | None = None
    for index in range(0, len(rows), group):
        part = rows[index : index + group]
        # As `Sample.shown`, thousands of times.
        share = metric.kind == "proportion"
        values = [row.value / row.n for row in part if row.n] if share else [row.value for row in part]
        if not values:
            before = None
            continue
        at = part[0].at + metric.every / 2
        if before is None or part[0].at - before > metric.every * 1.5 * group:
            runs.append([])
        runs[-1].append((at, sum(values) / len(values)))
        before = part[-1].at
    return runs


def _red(line: Line, metric: Metric, band: Band, rows: Sequence[Sample]) -> list[tuple[Time, Time]]:
    """From where to where the metric was judged to have regressed: until it is back where it was expected."""
    found: list[tuple[Time, Time]] = []
    for watch in line.watches.values():
        verdict = watch.verdicts.get(metric.name)
        if verdict is None or verdict.word != "regressed" or verdict.onset is None:
            continue
        end = verdict.onset
        for row in rows[bisect.bisect_left(rows, verdict.onset, key=_at) :]:
            value, expected = row.shown(metric.kind), band.at(row.at + metric.every / 2)
            if value is not None and expected is not None and not expected.beyond(value, metric.bad):
                break
            end = row.at + metric.every
        found.append((verdict.onset, end))
    return found


def _onsets(sheet: Sheet, frame: Frame, picture: Picture) -> None:
    """Where a regression began, on the axis of time."""
    y = frame.y + frame.height - 1
    for onset, _ in picture.red:
        x = frame.column(onset)
        if frame.plot_x <= x < frame.plot_x + frame.plot_w and sheet.at(x, y) == " ":
            sheet.put(x, y, "▴", "stop", bold=True)


def _marks(sheet: Sheet, frame: Frame, marks: Sequence[Mark], *, labels: bool) -> None:
    """Signs and versions above, dotted lines below; never over the measured line."""
    last = frame.plot_x + frame.plot_w - 1
    columns = [min(last, max(frame.plot_x, frame.column(mark.at))) for mark in marks]
    taken: list[tuple[int, int]] = [(column, column) for column in columns]
    for mark, column in zip(marks, columns, strict=True):
        for y in range(frame.plot_y, frame.plot_y + frame.plot_h):
            if sheet.at(column, y) in BLANK + "·" + _EIGHTHS:
                ground = _under(sheet, column, y)
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


def _under(sheet: Sheet, x: int, y: int) -> str:
    """The ground below a mark: of an edge in eighths, that of the larger part of the cell."""
    char, ink = sheet.at(x, y), sheet.ink(x, y)
    if char in _EIGHTHS[1:] and ink.fg in ("band", "bg"):
        filled = _EIGHTHS.index(char) >= 4
        return "band" if filled == (ink.fg == "band") else ""
    return _ground(sheet, x, y)


def _ground(sheet: Sheet, x: int, y: int) -> str:
    """The ground that a cell has already."""
    return sheet.ink(x, y).bg
