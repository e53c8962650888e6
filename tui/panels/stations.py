"""The stations of one line as a head-line, and the pieces stacked under them."""

from andon.board import Line
from tui.moment import Moment
from tui.panels import belt as belts
from tui.panels.belt import Piece
from tui.panels.facts import (
    Reading,
    going_back,
    production,
    readings,
    status,
    stop_word,
)
from tui.panels.floor_row import how_far
from tui.panels.panel import Panel
from tui.panels.sheet import Sheet
from tui.panels.words import ago, login, short

WIDE = 130


def columns(width: int) -> tuple[int, ...]:
    """Where the six stations begin."""
    base = (1, 14, 26, 41, 54, 68) if width < WIDE else (2, 36, 60, 88, 110, 136)
    last = 80 if width < WIDE else 160
    return tuple(round(x * width / last) if width != last and x > 2 else x for x in base)


class Stations(Panel):
    """The belt as a head-line, and the pieces stacked under each station, oldest on top."""

    piece = ""
    """The change that is picked; empty: the selection is elsewhere."""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """Four rows."""
        name = moment.line
        line = moment.known(name)
        starts = columns(sheet.width)
        names = (*belts.STATIONS, "production", "measured")
        held = bool(line.open_holds) or status(moment, name).sign == "■"
        for index, (title, x) in enumerate(zip(names, starts, strict=True)):
            end = sheet.put(x, 0, title, "fg" if sheet.width >= WIDE else "mid", bold=True)
            if index == 5:
                break
            stop = starts[index + 1] - 2
            room = stop - end
            if room < 2:
                continue
            broken = held and index == 2
            sheet.put(end + 1, 0, ("╌" if broken else "─") * (room - 1), "rail")
            sheet.put(stop, 0, "■" if broken else "▸", "stop" if broken else "rail", bold=broken)
        found = belts.pieces(line)
        for station in range(4):
            self._pile(
                moment, sheet, starts[station], starts[station + 1] - 1, belts.at_station(found, station), station
            )
        self._production(moment, sheet, starts[4], starts[5] - 1, line)
        for y, item in enumerate(readings(moment, name)[: sheet.height - 1]):
            self._measured(sheet, starts[5], y + 1, item)

    def _pile(self, moment: Moment, sheet: Sheet, x: int, end: int, here: tuple[Piece, ...], station: int) -> None:
        rows = sheet.height - 1
        if not here:
            if station == 3:
                held = bool(moment.known(moment.line).open_holds)
                sheet.put(x, 1, stop_word(moment, moment.line).lower() if held else "free", "stop" if held else "dim")
            return
        head = next((piece for piece in here if piece.state in ("works", "failed")), None)
        if head is not None or station == 3:
            self._at_work(moment, sheet, x, end, head or here[0], len(here) - 1)
            return
        shown = here[:rows] if len(here) <= rows else here[: rows - 1]
        for y, piece in enumerate(shown):
            self._pick(moment, sheet, x, y + 1, piece)
            after = belts.chip(sheet, x, y + 1, piece, brackets=not moment.looks.tints)
            if piece.state == "passed":
                sheet.put(after + 1, y + 1, "✓", "ok")
                after += 2
            author = login(piece.change.author)
            if end - after - 1 >= min(4, len(author)):
                after = sheet.put(after + 1, y + 1, author, "mid", most=end - after - 1)
            if sheet.width >= WIDE:
                sheet.put(after + 2, y + 1, piece.change.title, "dim", most=end - after - 2)
        if len(shown) == 1 and here[0].state == "passed" and here[0].began:
            sheet.put(x, 2, f"waits {ago(moment.now - here[0].began)}", "dim", most=end - x)
        if len(shown) < len(here):
            sheet.put(x, rows, f"+{len(here) - len(shown)} more", "dim", most=end - x)

    def _at_work(self, moment: Moment, sheet: Sheet, x: int, end: int, head: Piece, more: int) -> None:
        """One piece at work or failed: its belt, its stage, how long."""
        self._pick(moment, sheet, x, 1, head)
        after = belts.chip(sheet, x, 1, head, brackets=not moment.looks.tints)
        if head.state == "failed":
            after = sheet.put(after, 1, "✗", "stop", bold=True)
        share = head.share(moment.now)
        if share is not None:
            sheet.put(after, 1, "─" * max(0, end - after), "rail")
            belts.worked(sheet, after, 1, end - after, share)
        sheet.put(
            x,
            2,
            f"{head.what} failed" if head.state == "failed" else head.what,
            "stop" if head.state == "failed" else "mid",
            most=end - x,
        )
        if head.state == "works" and head.began:
            sheet.put(x, 3, how_far(moment, head) + (f", +{more}" if more else ""), "dim", most=end - x)
        elif more:
            sheet.put(x, 3, f"+{more} more", "dim", most=end - x)

    def _pick(self, moment: Moment, sheet: Sheet, x: int, y: int, piece: Piece) -> None:
        """The selection stands before the piece."""
        if self.piece and piece.change.id == self.piece:
            sheet.put(x - 1, y, "▌" if moment.looks.tints else ">", "move" if moment.looks.tints else "fg", bold=True)

    def _production(self, moment: Moment, sheet: Sheet, x: int, end: int, line: Line) -> None:
        live = production(line)
        if live is None:
            sheet.put(x, 1, "nothing yet", "dim", most=end - x)
            return
        after = sheet.put(x, 1, short(live.version), "fg", bold=True)
        after = sheet.put(after + 1, 1, ago(moment.now - live.at), "mid", most=end - after - 1)
        if sheet.width >= WIDE:
            sheet.put(after + 2, 1, login(live.by), "mid", most=end - after - 2)
        elif live.by:
            sheet.put(x, 3, f"by {login(live.by)}", "dim", most=end - x)
        back = going_back(line)
        if back is not None:
            sheet.put(x, 2, f"{short(back.version)} ◀━ {short(live.version)}", "warn", bold=True, most=end - x)
            return
        before = [item for item in line.deployments if item.at < live.at and item.state == "settled"]
        if before:
            sheet.put(x, 2, f"was {short(before[-1].version)}", "dim", most=end - x)

    def _measured(self, sheet: Sheet, x: int, y: int, item: Reading) -> None:
        sheet.put(x, y, item.sign, item.role, bold=item.role in ("stop", "blind"))
        name = item.metric.name if sheet.width >= WIDE else item.metric.label
        x = sheet.put(x + 2, y, name, "mid", most=sheet.width - x - 3)
        if item.sample is not None and not item.hidden:
            from tui.panels.words import value

            room = sheet.width - x - 2
            if sheet.width >= 100 and room > 4:
                sheet.put(x + 1, y, value(item.metric, item.sample, room), "dim" if item.stale else "fg", most=room)
