"""One line of the floor, drawn: lamp, name, belt, production, measured; one row, or three where there is room."""

from typing import NamedTuple

from andon.board import Line
from andon.clock import age
from andon.model import Deployment
from tui.moment import Moment
from tui.panels import belt as belts
from tui.panels.belt import Belt, Piece
from tui.panels.facts import Reading, Status, beyond, going_back, production, readings, status
from tui.panels.sheet import Sheet, width_of
from tui.panels.trend import trend
from tui.panels.words import ago, clock, login, short, value


class Grid(NamedTuple):
    """The columns of the floor at one width; -1: not shown there."""

    lamp: int
    name: int
    name_w: int
    word: int
    belt: Belt | None
    version: int
    age: int
    """Last column of the age."""
    by: int
    sign: int
    metric: int
    metric_w: int
    value: int
    """Last column of the value."""
    trend: int
    trend_w: int
    effect: int


def grid(width: int) -> Grid:
    """The columns for a width. Between the widths of the table the extra columns go to *test*, then to *measured*."""
    if width < 80:
        return Grid(1, 3, 10, 14, None, 27, 36, -1, 41, 43, 4, min(57, width - 3), -1, 0, -1)
    if width < 100:
        extra = width - 80
        belt = Belt((14, 23, 31, 41 + extra), 50 + extra)
        at = 50 + extra
        return Grid(1, 3, 10, -1, belt, at + 1, at + 9, -1, at + 12, at + 14, 4, at + 24, at + 26, 4, -1)
    if width < 130:
        extra = width - 100
        belt = Belt((15, 25, 34, 46 + extra), 56 + extra)
        at = 56 + extra
        return Grid(1, 3, 10, -1, belt, at + 1, at + 9, at + 11, at + 17, at + 19, 5, at + 30, at + 32, 6, -1)
    if width < 160:
        extra = width - 130
        belt = Belt((18, 30, 42, 58 + extra), 72 + extra)
        at = 72 + extra
        return Grid(2, 4, 12, -1, belt, at + 1, at + 12, at + 14, at + 23, at + 25, 11, at + 46, at + 49, 6, -1)
    extra = width - 160
    more = extra // 2
    belt = Belt((18, 34, 50, 70 + extra - more), 88 + extra - more)
    at = 88 + extra - more
    return Grid(
        2,
        4,
        12,
        -1,
        belt,
        at + 1,
        at + 12,
        at + 15,
        at + 27,
        at + 29,
        14 + more,
        at + 48 + more,
        at + 51 + more,
        6,
        at + 59 + more,
    )


def header(sheet: Sheet, y: int, cols: Grid) -> None:
    """The names of the columns."""
    if cols.belt is not None:
        sheet.put(cols.name, y, "line", "dim")
        for name, start in zip(belts.STATIONS, cols.belt.starts, strict=True):
            sheet.put(start + 1, y, name, "dim")
    if cols.word < 0:
        sheet.put(cols.version, y, "production", "dim")
        sheet.put(cols.sign, y, "measured", "dim")


def draw(moment: Moment, sheet: Sheet, cols: Grid, name: str, *, selected: bool, rows: int) -> None:
    """A line in the first row of `sheet`, with its notes in the second if it has three."""
    lamp = status(moment, name)
    line = moment.known(name)
    for y in range(max(1, rows - 1)):
        _selection(sheet, y, moment, selected=selected)
    sheet.put(cols.lamp, 0, lamp.sign, lamp.role, bold=lamp.role not in ("ok", "mid", "dim"))
    loud = lamp.sign in "■◀▲?✗" or selected
    sheet.put(cols.name, 0, name, "fg", bold=loud, most=cols.name_w)
    if cols.belt is not None:
        found = belts.pieces(line)
        _belt(moment, sheet, cols.belt, line, lamp, found, tall=rows > 1)
        if rows > 1:
            _notes(moment, sheet, cols.belt, found, line)
    else:
        sheet.put(cols.word, 0, lamp.word, lamp.role if lamp.role != "ok" else "dim", most=10)
    _production(moment, sheet, cols, line, tall=rows > 1)
    for y, item in enumerate(readings(moment, name)[: 2 if rows > 1 else 1]):
        _measured(moment, sheet, cols, name, item, y)
    if not moment.config.lines[name].metrics:
        sheet.put(cols.sign, 0, "– not measured", "dim")


def _selection(sheet: Sheet, y: int, moment: Moment, *, selected: bool) -> None:
    if not selected:
        return
    if moment.looks.tints:
        sheet.ground(y, "sel")
        sheet.put(0, y, "▌", "move")
    elif y == 0:
        sheet.put(0, y, ">", "fg", bold=True)


def held_words(moment: Moment, lamp: Status, line: Line) -> str:
    """What stands behind the block of a held line."""
    if not line.open_holds:
        return "held"
    return f"held {age(moment.now - line.open_holds[0].since)}" if lamp.since or line.open_holds else "held"


def _belt(
    moment: Moment, sheet: Sheet, where: Belt, line: Line, lamp: Status, found: tuple[Piece, ...], *, tall: bool
) -> None:
    held = bool(line.open_holds) or lamp.sign == "■"
    words = held_words(moment, lamp, line) if held else ""
    if tall and words and line.open_holds:
        words = f"held {ago(moment.now - line.open_holds[0].since)}"
    belts.draw(sheet, 0, where, found, moment.now, brackets=not moment.looks.tints, held=words, ticks=tall)


def _notes(moment: Moment, sheet: Sheet, where: Belt, found: tuple[Piece, ...], line: Line) -> None:
    """What is said under the belt: each station from its own column, up to the next one that says something."""
    said: list[tuple[int, str, str]] = []
    for station in range(4):
        here = belts.at_station(found, station)
        if here:
            said.append((where.starts[station] + 1, *_note(moment, here)))
    if line.open_holds and not belts.at_station(found, 3):
        first = line.open_holds[0]
        owner = "immune" if first.kind != "person" else login(first.owner)
        said.append((where.starts[3], f"by {owner}", "dim"))
    ends = [start - 2 for start, _, _ in said[1:]]
    for (start, text, role), end in zip(said, [*ends, where.end], strict=False):
        sheet.put(start, 1, text, role, most=end - start)


def _note(moment: Moment, here: tuple[Piece, ...]) -> tuple[str, str]:
    head = next((piece for piece in here if piece.state in ("works", "failed")), here[0])
    if head.state == "failed":
        return f"{head.what} failed", "stop"
    if head.state == "works":
        return f"{head.what} {how_far(moment, head)}".strip(), "dim"
    if head.state == "passed":
        return f"waits {ago(moment.now - head.began)}" if head.began else "waits", "dim"
    authors = list(dict.fromkeys(login(piece.change.author) for piece in here if piece.change.author))
    return ", ".join(authors), "dim"


def how_far(moment: Moment, head: Piece) -> str:
    """`4 of 6 min`; past one and a half times the usual `12 min, usual 6 min`; empty if it is not known."""
    if not head.began:
        return ""
    gone = ago(moment.now - head.began)
    if not head.usual_s:
        return gone
    usual = ago(head.usual_s)
    if moment.now - head.began > 1.5 * head.usual_s:
        return f"{gone}, usual {usual}"
    number, _, unit = gone.partition(" ")
    return f"{number if usual.endswith(f' {unit}') else gone} of {usual}"


def _production(moment: Moment, sheet: Sheet, cols: Grid, line: Line, *, tall: bool) -> None:
    live = production(line)
    if live is None:
        sheet.put(cols.version, 0, "–", "dim")
        if tall:
            sheet.put(cols.version, 1, "nothing shipped yet", "dim", most=cols.sign - cols.version - 1)
        return
    back = going_back(line)
    if back is not None:
        _going_back(sheet, cols, line, short(back.version), back.expected)
        return
    version = short(live.version)
    sheet.put(cols.version, 0, version, "fg", bold=True, most=8)
    words = ago(moment.now - live.at) if cols.by >= 0 and cols.word < 0 and tall else age(moment.now - live.at)
    if cols.version + width_of(version) < cols.age - width_of(words) + 1:
        sheet.right(cols.age, 0, words, "dim")
    if cols.by >= 0:
        sheet.put(cols.by, 0, login(live.by), "mid", most=cols.sign - cols.by - 1)
    if tall:
        sheet.put(cols.version, 1, title(line, live), "dim", most=cols.sign - cols.version - 2)


def title(line: Line, live: Deployment) -> str:
    """What a version is about, in a line."""
    if line.went_back(live):
        was = [item for item in line.deployments if item.at < live.at]
        return f"back from {short(was[-1].version)}" if was else "went back"
    change = line.change_of(live)
    return change.title if change else live.words


def _going_back(sheet: Sheet, cols: Grid, line: Line, to: str, expected: str) -> None:
    """`77aa◀━91ab`: against the flow."""
    from_ = line.deployment(expected)
    x = sheet.put(cols.version, 0, to, "fg", bold=True, most=8)
    wide = cols.by >= 0
    x = sheet.put(x + wide, 0, "◀━━" if wide else "◀━", "warn", bold=True)
    room = cols.sign - x - 1
    if from_ is not None and room >= 4:
        sheet.put(x + wide, 0, short(from_.version), "warn", bold=True, most=room - wide)


def _measured(moment: Moment, sheet: Sheet, cols: Grid, name: str, item: Reading, y: int) -> None:
    """Verdict sign, name, value, trend of one metric."""
    sheet.put(cols.sign, y, item.sign, item.role, bold=item.role in ("stop", "blind"))
    if item.hidden and item.sample is not None:
        sheet.put(cols.metric, y, f"no data {clock(item.sample.at + item.metric.every, moment.now)}", "blind")
        return
    label = item.metric.label if cols.metric_w < 8 else item.metric.name
    sheet.put(cols.metric, y, label, "dim" if cols.metric_w < 8 or y else "mid", most=cols.metric_w)
    if item.sample is None:
        sheet.right(cols.value, y, "–", "dim")
        return
    words = value(item.metric, item.sample, cols.value - cols.metric - width_of(label[: cols.metric_w]))
    stale = bool(item.stale) or moment.warming
    role = "stop" if item.role == "stop" else "warn" if beyond(item) else "fg" if y == 0 else "mid"
    role = "dim" if stale else role
    number, _, unit = words.rpartition(" ") if " " in words else (words, "", "")
    start = sheet.right(cols.value, y, words, role)
    if unit and role == "fg":
        sheet.put(start + width_of(number) + 1, y, unit, "mid")
    if cols.trend >= 0:
        rows = moment.rows_of(name, item.metric)
        text = trend(item.metric, rows, moment.now, cols.trend_w, ascii_=moment.looks.ascii)
        sheet.put(cols.trend, y, text, "dim" if stale else "stop" if item.role == "stop" else "mid", most=cols.trend_w)
    if cols.effect >= 0 and item.stale:
        sheet.put(cols.effect, y, f"stale {item.stale}", "blind", most=12)
    elif cols.effect >= 0 and item.verdict is not None and item.verdict.word != "healthy":
        sheet.put(cols.effect, y, item.verdict.word, item.role if item.role == "stop" else "dim", most=12)
