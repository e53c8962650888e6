"""Which changes are on their way on a line, where each lies, and how the belt is drawn with them on it."""

from typing import Literal, NamedTuple

from andon.board import Line
from andon.clock import Time
from andon.model import Change, Run, Stage
from tui.panels.sheet import Sheet
from tui.panels.words import hash4

STATIONS = ("commit", "build", "test", "deploy")
MOST = 60
"""Pieces that are looked at: the newest changes."""
State = Literal["waits", "works", "passed", "failed"]


class Piece(NamedTuple):
    """A change on its way."""

    change: Change
    station: int
    """0 commit, 1 build, 2 test, 3 deploy."""
    state: State
    began: Time = 0.0
    usual_s: float | None = None
    what: str = ""
    """The stage it is in."""

    def share(self, now: Time) -> float | None:
        """How much of the usual time has passed, at most 1; None: not known."""
        if self.state != "works" or not self.usual_s or not self.began:
            return None
        return max(0.0, min(1.0, (now - self.began) / self.usual_s))


def pieces(line: Line) -> tuple[Piece, ...]:
    """The changes newer than what was live, each at the furthest station of its runs, oldest first.

    A change that a newer one has overtaken is part of that one's batch, and is not drawn.
    """
    fresh = _newer(line)
    by_change: dict[str, list[Run]] = {}
    for run in line.runs.values():
        by_change.setdefault(run.change, []).append(run)
    rolling = _rolling(line)
    found: list[Piece] = []
    furthest = 0
    for change in reversed(fresh):
        piece = rolling if rolling and rolling.change.id == change.id else _piece(change, by_change.get(change.id, []))
        stuck = piece.state == "failed"
        if piece.station < furthest or (stuck and piece.station <= furthest and found):
            continue
        furthest = max(furthest, piece.station)
        found.append(piece)
    return tuple(reversed(found))


def _newer(line: Line) -> tuple[Change, ...]:
    """The changes after the newest that was ever live."""
    was_live = {
        change.id
        for deployment in line.deployments
        if deployment.state == "settled" and (change := line.change_of(deployment))
    }
    changes = line.changes[-MOST:]
    for index in range(len(changes) - 1, -1, -1):
        if changes[index].id in was_live:
            return changes[index + 1 :]
    return changes if line.deployments or line.runs else changes[-9:]


def _rolling(line: Line) -> Piece | None:
    """The change that is being put into production now, unless it goes back."""
    current = line.current
    if current is None or current.state != "rolling" or line.went_back(current):
        return None
    change = line.change_of(current)
    if change is None:
        return None
    usual = next((s.usual_s for run in line.runs_of(change.id) for s in run.stages if s.station == "deploy"), None)
    return Piece(change, 3, "works", current.at, usual, "deploying")


def _piece(change: Change, runs: list[Run]) -> Piece:
    stages: list[Stage] = []
    for run in runs:
        stages += run.stages
        if not run.stages and run.state in ("running", "failed"):
            stages.append(Stage(name=run.words or "run", station="build", state=run.state, at=run.at))
    for wanted in ("failed", "running"):
        there = [stage for stage in stages if stage.state == wanted]
        if there:
            stage = max(there, key=lambda item: STATIONS.index(item.station))
            state: State = "failed" if wanted == "failed" else "works"
            return Piece(change, STATIONS.index(stage.station), state, stage.at, stage.usual_s, stage.name)
    passed = [stage for stage in stages if stage.state == "passed"]
    if passed:
        stage = max(passed, key=lambda item: STATIONS.index(item.station))
        return Piece(change, STATIONS.index(stage.station), "passed", stage.ended_at or stage.at, None, stage.name)
    return Piece(change, 0, "waits", change.at)


def at_station(found: tuple[Piece, ...], station: int) -> tuple[Piece, ...]:
    """The pieces at one station, oldest first."""
    return tuple(piece for piece in found if piece.station == station)


class Belt(NamedTuple):
    """Where a belt runs: the first column of each station, and of production."""

    starts: tuple[int, int, int, int]
    end: int
    """The column of production; the arrow stands before it."""


def draw(
    sheet: Sheet,
    y: int,
    belt: Belt,
    found: tuple[Piece, ...],
    now: Time,
    *,
    brackets: bool,
    held: str = "",
    ticks: bool = False,
) -> None:
    """The belt of one line with its pieces; `held` is what stands behind the block, empty: it flows."""
    if held:
        # What has passed its tests waits before the block; only what still moves is drawn behind it.
        found = tuple(p._replace(station=2) if p.station == 3 and p.state != "works" else p for p in found)
    first, last = belt.starts[0], belt.end - 1
    block = belt.starts[3] - 2
    sheet.put(first, y, "─" * (last - first), "rail")
    if held:
        broken = belt.starts[2] + (6 if at_station(found, 2) else 0)
        sheet.put(broken, y, "╌" * max(0, block - broken), "rail")
        sheet.put(block, y, " " * (belt.end - block))
    else:
        sheet.put(last, y, "▸", "rail")
    for station in range(4):
        here = at_station(found, station)
        if here:
            limit = belt.starts[station + 1] if station < 3 else last
            _pile(sheet, y, belt.starts[station], limit, here, now, brackets=brackets, ticks=ticks)
    if held:
        busy = bool(at_station(found, 3))
        sheet.put(block, y, "■", "stop", bold=True)
        if not busy:
            sheet.put(block + 2, y, held, "stop", bold=True, most=belt.end - block - 2)


def _pile(
    sheet: Sheet,
    y: int,
    x: int,
    limit: int,
    here: tuple[Piece, ...],
    now: Time,
    *,
    brackets: bool,
    ticks: bool,
) -> None:
    """One station: its oldest piece, how many more wait, and the belt it has worked."""
    head = next((piece for piece in here if piece.state in ("works", "failed")), here[0])
    x = chip(sheet, x, y, head, brackets=brackets)
    if head.state == "failed":
        x = sheet.put(x, y, "✗", "stop", bold=True)
    elif ticks and head.state == "passed":
        x = sheet.put(x, y, "✓", "ok")
    more = len(here) - 1
    if more:
        x = sheet.put(x, y, f"+{more}" if more < 10 else "9+", "mid")
    share = head.share(now)
    if share is not None:
        worked(sheet, x, y, limit - x, share)


def chip(sheet: Sheet, x: int, y: int, piece: Piece, *, brackets: bool) -> int:
    """A piece: its hash on a ground, or in brackets. Returns the column after it."""
    ground = {"works": "movechip", "failed": "stopchip"}.get(piece.state, "chip")
    fg = "stop" if piece.state == "failed" else "fg"
    text = f"[{hash4(piece.change.id)}]" if brackets else f" {hash4(piece.change.id)} "
    return sheet.put(x, y, text, fg, bold=piece.state in ("works", "failed"), bg="" if brackets else ground)


def worked(sheet: Sheet, x: int, y: int, width: int, share: float) -> None:
    """The part of the belt that a piece has done, in half cells; never above full."""
    halves = round(max(0, width) * 2 * share)
    x = sheet.put(x, y, "━" * (halves // 2), "move", bold=True)
    if halves % 2 or not halves:
        sheet.put(x, y, "╾", "move", bold=True, most=1 if width else 0)
