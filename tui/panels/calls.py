"""A call for help, as the room shows it: who called, how long until the line stops, and the keys that answer it."""

import math
from typing import ClassVar

from andon.board import Line
from andon.model import Act
from tui.moment import Moment
from tui.panels.glyphs import COLON, glyph
from tui.panels.panel import Panel
from tui.panels.sheet import Sheet, fit, width_of
from tui.panels.words import ago, login

SIGN, ROLE = "▲", "warn"


def left_s(moment: Moment, call: Act) -> float:
    """Real seconds until the line stops: never more than a whole call, whatever became of the clock; 0: any moment."""
    rate = moment.fresh_s / 2.0 or 1.0  # `fresh_s` is two real seconds
    whole = call.not_before - call.at
    return min(max(0.0, call.not_before - moment.now), whole) / rate


def countdown(seconds: float) -> str:
    """`1 m 20 s`, `40 s`."""
    whole = math.ceil(seconds)
    return f"{whole // 60} m {whole % 60:02} s" if whole >= 60 else f"{whole} s"


def stops_words(moment: Moment, call: Act) -> str:
    """`stops in 1 m 20 s`; `stops now`."""
    left = left_s(moment, call)
    return f"stops in {countdown(left)}" if left > 0 else "stops now"


def called_words(moment: Moment, call: Act) -> str:
    """`called by ann · stops in 1 m 20 s`."""
    return f"called by {login(call.who)} · {stops_words(moment, call)}"


def looks_words(moment: Moment, line: Line) -> str:
    """Who looks into the open call of a line."""
    who = line.call_has
    if not who:
        return "nobody has it"
    return "you have it" if who == moment.who else f"{login(who)} has it"


def quoted(call: Act) -> str:
    """Why somebody called, in their words; empty: they gave none."""
    return f"“{call.why}”" if call.why else ""


class CallStrip(Panel):
    """The countdown of a call: tinted, not filled, for it is no alarm yet. The danger row stays below it."""

    kept_when_silent: ClassVar[bool] = True

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """Four rows."""
        call = moment.called()
        if call is None:
            return
        for y in range(sheet.height):
            sheet.ground(y, "warnchip")
        x = self._digits(moment, sheet, call)
        left = left_s(moment, call)
        words = f"{call.line} {stops_words(moment, call)}"
        end = sheet.put(x, 0, words, ROLE, bold=True, most=sheet.width - x - 2)
        sheet.put(end, 0, " unless somebody clears the call", "fg", most=sheet.width - end - 1)
        rate = moment.fresh_s / 2.0 or 1.0
        whole = max(1.0, (call.not_before - call.at) / rate)
        room = max(1, sheet.width - x - 3)
        full = max(0, min(room, round(room * math.ceil(left) / whole)))
        sheet.put(x, 1, "━" * full, ROLE, bold=True)
        sheet.put(x + full, 1, "─" * (room - full), ROLE)
        self._keys(moment, sheet, x, call)
        self._said(moment, sheet, x, call)

    def _digits(self, moment: Moment, sheet: Sheet, call: Act) -> int:
        """The time that is left, three rows high; returns the column after it."""
        seconds = math.ceil(left_s(moment, call))
        text = f"{seconds // 60}:{seconds % 60:02}" if seconds >= 60 else f"{seconds:2}"
        x = 3
        for char in text:
            rows = COLON if char == ":" else glyph(char)
            for y, row in enumerate(rows):
                sheet.put(x, y, row, ROLE, bold=True)
            x += len(rows[0]) + 1
        return max(x + 2, 12)

    def _keys(self, moment: Moment, sheet: Sheet, x: int, call: Act) -> None:
        if moment.read_only:
            sheet.put(x, 2, "this room only looks", "dim")
            return
        offers = [("clear", "clear, the line runs on"), ("take", "I have it")]
        if call.line == moment.line:
            offers.append(("stop", "stop now"))  # on another line that key does not mean this one
        for id_, words in offers:
            if call.line != moment.line and id_ == "take":
                continue
            cap = moment.keys.cap(id_)
            if x + width_of(cap) + width_of(words) + 4 > sheet.width:
                return
            start = x
            tinted = moment.looks.tints
            x = sheet.put(
                x,
                2,
                f" {cap} " if tinted else f"[{cap}]",
                "bg" if tinted else ROLE,
                bold=True,
                bg="warn" if tinted else "",
            )
            x = sheet.put(x + 1, 2, words, "fg")
            self.spot(start, 2, x, id_)
            x += 3

    def _said(self, moment: Moment, sheet: Sheet, x: int, call: Act) -> None:
        """Who called, when and why; who looks into it; whom it was told."""
        line = moment.known(call.line)
        acts = [act for act in line.acts.values() if act.kind == "tell" and act.subject.startswith(f"{call.id}/")]
        done = [act.target for act in acts if act.state == "verified"]
        told = f" · told {', '.join(done[:3])}" if done else ""
        tail = looks_words(moment, line) + told
        head = f"{login(call.who)} called {ago(moment.now - call.at)} ago"
        room = sheet.width - x - 2 - width_of(head) - width_of(tail) - 4
        why = f" {fit(quoted(call), room)}" if call.why and room > 8 else ""
        end = sheet.put(x, 3, head + why, "mid", most=sheet.width - x - 1)
        sheet.put(end, 3, f" · {tail}", "fg" if line.call_has else "mid", most=sheet.width - end - 1)
