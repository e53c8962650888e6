"""Stop everything: one pull per line, after a typed word and F8; then what came of each, line by line."""

from concurrent.futures import Future
from typing import Any, ClassVar

from textual.widgets import Input

from tui.moment import Moment
from tui.panels.facts import status
from tui.panels.looks import Painter
from tui.panels.sheet import Sheet
from tui.panels.words import second_of
from tui.screens.reason import ReasonHead, ReasonScreen

WORD = "everything"
"""What is typed: no key that is held down, and no paste with it, says it."""


class EverythingHead(ReasonHead):
    """Every line: what it is, then what became of its pull."""

    asked: dict[str, "Future[Any]"]
    typed = ""
    first = 0
    """Which line is on top."""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """A title, the lines, and what is asked or has come of it."""
        names = tuple(moment.config.lines)
        noun = "line" if len(names) == 1 else "lines"
        sheet.put(1, 0, f"stop everything: {len(names)} {noun}", "stop", bold=True, most=sheet.width - 2)
        cap = moment.keys.cap("confirm")
        if not self.asked:
            words = "one pull for each line; each is resumed on its own, with a reason"
            sheet.put(1, 1, words, "mid", most=sheet.width - 2)
        else:
            sheet.put(1, 1, self._count(moment, names), "fg", most=sheet.width - 2)
        high = sheet.height - 4
        # What has not worked stays in sight, also among a thousand lines.
        order = sorted(names, key=lambda name: self._rank(moment, name)) if self.asked else list(names)
        first = max(0, min(self.first, len(order) - high))
        for y, name in enumerate(order[first : first + high], 2):
            self._line(moment, sheet, y, name)
        more = len(order) - first - high
        if more > 0:
            sheet.put(2, sheet.height - 2, f"▾ {more} below, ↑ ↓", "dim")
        y = sheet.height - 1
        if self.asked:
            back = moment.keys.cap("back")
            sheet.put(1, y, f"{back} goes back; the pulls go on", "dim", most=sheet.width - 2)
            return
        words = self.refused or f"type the word {WORD}, then {cap}"
        sheet.put(1, y, words, "stop" if self.refused else "dim", bold=bool(self.refused), most=sheet.width - 2)

    def _line(self, moment: Moment, sheet: Sheet, y: int, name: str) -> None:
        lamp = status(moment, name)
        sheet.put(2, y, lamp.sign, lamp.role, bold=lamp.role not in ("ok", "mid", "dim"))
        sheet.put(4, y, name, "fg", bold=True, most=18)
        words, role = self.result(moment, name) if self.asked else (lamp.word, "mid")
        sheet.put(24, y, words, role, most=sheet.width - 25)

    def result(self, moment: Moment, name: str) -> tuple[str, str]:
        """What came of the pull of a line, in words, and their role."""
        future = self.asked.get(name)
        if future is None:
            return "not asked", "dim"
        if not future.done():
            return "asked", "warn"
        if future.cancelled():
            return "not done: andon is leaving", "stop"
        error = future.exception()
        if error is not None:
            return f"not stopped: {error or type(error).__name__}", "stop"
        found = future.result()
        line = moment.known(name)
        mine = "; you held it already" if getattr(found, "joined", False) else ""
        if not getattr(found, "recorded", True):
            return f"sent, not recorded yet{mine}", "blind"
        if moment.state(name) != "stopped" or not line.open_holds:
            return f"stopping{mine}", "warn"
        times = [act.settled_at for act in line.acts.values() if act.kind == "halt" and act.subject == line.stop]
        at = max((time for time in times if time is not None), default=None)
        proof = f", by a read at {second_of(at)}" if at is not None else ": the gate refuses"
        return f"stopped{proof}{mine}", "ok"

    def _rank(self, moment: Moment, name: str) -> int:
        return {"stop": 0, "blind": 1, "warn": 2, "dim": 3}.get(self.result(moment, name)[1], 4)

    def _count(self, moment: Moment, names: tuple[str, ...]) -> str:
        roles = [self.result(moment, name)[1] for name in names]
        words = f"{roles.count('ok')} of {len(names)} stopped"
        on_way = roles.count("warn") + roles.count("blind")
        words += f", {on_way} on the way" if on_way else ""
        return words + (f", {roles.count('stop')} not: press again, or look there" if "stop" in roles else "")


class EverythingScreen(ReasonScreen):
    """Asks for the word; then shows what came of it."""

    head: EverythingHead
    first_keys: ClassVar[tuple[str, ...]] = ("confirm", "back")

    def __init__(self, painter: Painter) -> None:
        super().__init__(painter, "everything", "")
        self.head = EverythingHead(painter, id="reason-head", classes="frame tall")
        self.head.what = "everything"
        self.head.asked = {}
        self.input = Input(
            placeholder=WORD, id="reason-input", classes="frame", max_length=40, compact=True, restrict=r"[ -~]*"
        )

    def steps(self, line: str) -> tuple[str, ...]:
        """Where we are."""
        return ("stop everything",)

    @property
    def own(self) -> tuple[object, ...]:
        """What was typed, and how many pulls have come back."""
        done = sum(future.done() for future in self.head.asked.values())
        return (self.head.refused, self.head.first, len(self.head.asked), done)

    def choose(self, step: int) -> None:
        """Other lines, where not all have room."""
        count = len(self.moment.config.lines) if self.moment is not None else 0
        self.head.first = max(0, min(max(0, count - 1), self.head.first + step))

    @property
    def said(self) -> bool:
        """Whether the word was typed."""
        return self.reason.lower() == WORD

    def pulled(self, asked: dict[str, "Future[Any]"]) -> None:
        """The pulls were asked for."""
        self.head.asked = asked
        self.input.display = False
        self.set_focus(None)
