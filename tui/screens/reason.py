"""A reason: what resuming a line or marking a deployment asks for. F8 confirms, not Enter, so that no paste can do it."""

from collections.abc import Iterable
from typing import ClassVar

from textual.widget import Widget
from textual.widgets import Input

from andon.clock import age
from andon.model import Hold
from tui import commands
from tui.moment import Moment
from tui.panels.looks import Painter
from tui.panels.panel import Panel
from tui.panels.sheet import Sheet
from tui.panels.words import login, short
from tui.screens.frame import RoomScreen, bindings

ALL = "all"


class ReasonHead(Panel):
    """What is about to be done, and to what."""

    what = ""
    line = ""
    deployment = ""
    picked = ""
    """What was picked: the id of a hold, or `all`; empty: nothing yet."""
    refused = ""
    """Why it was not done yet."""

    def holds(self, moment: Moment) -> tuple[Hold, ...]:
        """The holds that can be lifted."""
        return moment.known(self.line).open_holds

    def values(self, moment: Moment) -> tuple[str, ...]:
        """What can be picked, in the order in which it is listed."""
        found = tuple(hold.id for hold in self.holds(moment))
        return (*found, ALL) if len(found) > 1 else found

    def chosen(self, moment: Moment) -> str:
        """What is picked, at first the first; empty: it is gone. Nothing else takes its place under a finger."""
        values = self.values(moment)
        if not self.picked and values:
            self.picked = values[0]
        return self.picked if self.picked in values or (self.picked == ALL and values) else ""

    def step(self, moment: Moment, step: int) -> None:
        """Pick another."""
        values, now = self.values(moment), self.chosen(moment)
        if values:
            place = values.index(now) + step if now in values else 0
            self.picked = values[max(0, min(len(values) - 1, place))]

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """A title, the holds or the deployment, and what is asked."""
        if self.what == "resume":
            self._resume(moment, sheet)
        else:
            self._mark(moment, sheet)
        y = sheet.height - 1
        cap = moment.keys.cap("confirm")
        words = self.refused or f"the reason, in a few words; {cap} confirms, Enter does not"
        sheet.put(1, y, words, "stop" if self.refused else "dim", bold=bool(self.refused), most=sheet.width - 2)

    def _resume(self, moment: Moment, sheet: Sheet) -> None:
        found = self.holds(moment)
        sheet.put(1, 0, f"resume {self.line}", "fg", bold=True, most=sheet.width - 2)
        if not found:
            sheet.put(1, 2, f"no hold is left to lift: {moment.keys.cap('back')} goes back", "mid")
            return
        what = "the last hold: what it halted is released" if len(found) == 1 else "which hold is lifted: ↑ ↓"
        sheet.put(1, 1, what, "dim", most=sheet.width - 2)
        picked = self.chosen(moment)
        for y, hold in enumerate(found[: sheet.height - 5], 3):
            mine = picked in (hold.id, ALL)
            if mine and moment.looks.tints:
                sheet.ground(y, "sel")
            sheet.put(0, y, ("▌" if moment.looks.tints else ">") if mine else " ", "move")
            by = login(hold.owner) if hold.kind == "person" else "immune"
            has = f"{login(hold.has)} has it" if hold.has else "nobody has it"
            head = f"{hold.id}  {by}  {age(moment.now - hold.since)}  {has}  "
            x = sheet.put(2, y, head, "fg" if mine else "dim")
            sheet.put(x, y, hold.why, "mid", most=sheet.width - x - 1)
        if len(found) > 1:
            y = 3 + min(len(found), sheet.height - 5)
            sheet.put(0, y, ("▌" if moment.looks.tints else ">") if picked == ALL else " ", "move")
            sheet.put(2, y, "all of them", "fg" if picked == ALL else "dim", bold=picked == ALL)

    def _mark(self, moment: Moment, sheet: Sheet) -> None:
        found = moment.known(self.line).deployment(self.deployment)
        version = short(found.version) if found else self.deployment
        sheet.put(1, 0, f"mark {self.line} {version} {self.what}", "fg", bold=True, most=sheet.width - 2)
        words = {
            "good": "a rollback may return to it",
            "faulty": "no rollback returns to this version any more",
        }.get(self.what, "")
        sheet.put(1, 1, words, "dim")


class ReasonScreen(RoomScreen):
    """Asks for a reason."""

    where = commands.REASON
    first_keys: ClassVar[tuple[str, ...]] = ("confirm", "back")
    BINDINGS: ClassVar = [
        *bindings(commands.REASON),
        ("up", "app.choose(-1)", "hold above"),
        ("down", "app.choose(1)", "hold below"),
    ]
    AUTO_FOCUS = "Input"

    def __init__(self, painter: Painter, what: str, line: str, deployment: str = "") -> None:
        super().__init__(painter)
        self.what = what
        """`resume`, `good` or `faulty`."""
        self.line = line
        self.head = ReasonHead(painter, id="reason-head", classes="frame")
        self.head.what, self.head.line, self.head.deployment = what, line, deployment
        self.input = Input(placeholder="why", id="reason-input", classes="frame", max_length=400, compact=True)

    def body(self) -> Iterable[Widget]:
        """What is asked, and the text."""
        yield self.head
        yield self.input

    @property
    def own(self) -> tuple[object, ...]:
        """The hold that is picked, and why nothing was done yet."""
        return (self.head.picked, self.head.refused)

    def choose(self, step: int) -> None:
        """Another hold."""
        if self.moment is not None:
            self.head.step(self.moment, step)

    @property
    def reason(self) -> str:
        """What was written."""
        return self.input.value.strip()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter confirms nothing."""
        event.stop()
        cap = self.moment.keys.cap("confirm") if self.moment is not None else ""
        self.head.refused = f"Enter does not confirm: {cap} does"

    def on_input_changed(self, event: Input.Changed) -> None:
        """Writing takes the objection back."""
        event.stop()
        self.head.refused = ""
