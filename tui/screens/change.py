"""What a hold's screen asks for: a reason, an end, a person, a fix to let through. F8 confirms, so no paste can."""

import time
from typing import NamedTuple

from textual.widgets import Input

from andon.board import Line
from andon.clock import Time
from andon.config import duration
from andon.model import ChangeId, Hold
from tui.moment import Moment
from tui.panels.hold import until_words, waiting
from tui.panels.looks import Painter
from tui.panels.sheet import Sheet
from tui.panels.top import others
from tui.panels.words import clock, login
from tui.screens.reason import ReasonHead, ReasonScreen

MOST_CHOICES = 6
LONGEST_S = 366 * 86400.0


class Choice(NamedTuple):
    """One of the things that can be picked."""

    value: str
    words: str


ENDS = (
    Choice("30m", "30 min more"),
    Choice("2h", "2 hours more"),
    Choice("8h", "8 hours more"),
    Choice("09:00", "until the next 09:00"),
    Choice("fixed", "no end: until fixed"),
)


def end_of(text: str, now: Time, rate: float = 1.0) -> Time:
    """The time that `90m`, `16:30` or `fixed` (0: no end) means; `rate`: clock seconds in a real one. Raises ValueError."""
    text = text.strip().lower()
    if not text.isascii():
        raise ValueError("write 90m, 8h or 16:30")
    if text in ("fixed", "until fixed", "no end"):
        return 0.0
    hours, colon, minutes = text.partition(":")
    if colon and hours.isdigit() and minutes.isdigit() and len(minutes) == 2:
        if int(hours) > 23 or int(minutes) > 59:
            raise ValueError(f"{text} is no time of a day")
        local = time.localtime(now)
        for day in (0, 1):
            parts = (local.tm_year, local.tm_mon, local.tm_mday + day, int(hours), int(minutes), 0, 0, 0, -1)
            if (at := time.mktime(parts)) > now:
                return at
    seconds = duration(text.replace(" ", "").replace("min", "m"))
    if not 0 < seconds <= LONGEST_S:
        raise ValueError("give a time from now, up to a year")
    return now + seconds * rate


def tests_of(line: Line, change: ChangeId) -> str:
    """How far the tests of a change have come, as far as is known; who lets it through, the CI is asked again."""
    runs = line.runs_of(change)
    if not runs:
        return "not run"
    run = max(runs, key=lambda item: item.at)
    tests = [stage.state for stage in run.stages if stage.station == "test"]
    if run.state != "failed" and tests and all(state == "passed" for state in tests):
        return "passed"
    return "failed" if run.state == "failed" or "failed" in tests else run.state


class ChangeHead(ReasonHead):
    """What is about to be changed, and what can be picked."""

    hold = ""
    typed = ""
    """What was typed: for an end and a person it counts more than what is picked."""

    def target(self, moment: Moment) -> Hold | None:
        """The hold, if it is still open."""
        return next((hold for hold in moment.known(self.line).open_holds if hold.id == self.hold), None)

    def choices(self, moment: Moment) -> tuple[Choice, ...]:
        """What can be picked."""
        if self.what == "extend":
            return ENDS
        if self.what == "hand over":
            return tuple(Choice(name, words) for name, words in self._people(moment).items())
        if self.what == "through":
            line = moment.known(self.line)
            found = reversed(waiting(line)[-MOST_CHOICES:])
            return tuple(
                Choice(item.id, f"{item.id[:7]}  {login(item.author):<8}  {tests_of(line, item.id):<9}  {item.title}")
                for item in found
            )
        return ()

    def _people(self, moment: Moment) -> dict[str, str]:
        """Whom it could be handed to: those who are here, those who wrote what is suspected, those who have a hold."""
        line = moment.known(self.line)
        hold = self.target(moment)
        found = dict.fromkeys(others(moment), "here now")
        for name in [item.has for item in line.holds if item.has]:
            found.setdefault(name, "had a hold of this line")
        suspect = line.deployment(hold.deployment) if hold is not None else None
        for change in line.batch(suspect) if suspect is not None else ():
            if change.author:
                found.setdefault(change.author, f"wrote {change.id[:4]}")
        found.pop(hold.has if hold is not None else "", None)
        return dict(list(found.items())[:MOST_CHOICES])

    def values(self, moment: Moment) -> tuple[str, ...]:
        """What can be picked, in the order in which it is listed."""
        return tuple(choice.value for choice in self.choices(moment))

    def chosen(self, moment: Moment) -> str:
        """What is picked: at first the first, of versions the newest whose tests passed."""
        if not self.picked and self.what == "through":
            line = moment.known(self.line)
            passed = (value for value in self.values(moment) if tests_of(line, value) == "passed")
            self.picked = next(passed, "")
        return super().chosen(moment)

    def answer(self, moment: Moment) -> str:
        """What counts: what was typed, or what is picked."""
        if self.what == "through":
            return self.chosen(moment)
        return self.typed or self.chosen(moment)

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """A title, what is so now, the choices, and what is asked."""
        hold = self.target(moment)
        titles = {
            "why": f"why {self.line} is held",
            "extend": f"until when {self.line} is meant to hold",
            "hand over": f"hand {self.line} over",
            "through": f"let one version through the stop of {self.line}",
        }
        sheet.put(1, 0, titles[self.what], "fg", bold=True, most=sheet.width - 2)
        y = sheet.height - 1
        if hold is None:
            sheet.put(
                1, 1, f"hold {self.hold} was lifted: {moment.keys.cap('back')} goes back", "mid", most=sheet.width - 2
            )
            return
        sheet.put(1, 1, self._now(moment, hold), "dim", most=sheet.width - 2)
        found, now = self.choices(moment), self.chosen(moment)
        best = next((place for place, item in enumerate(found) if item.value == now), -1)
        first = max(0, min(best - 1, len(found) - (y - 3)))
        for at, item in enumerate(found[first : first + y - 3], 2):
            mine = first + at - 2 == best and not (self.typed and self.what != "through")
            if mine and moment.looks.tints:
                sheet.ground(at, "sel")
            sheet.put(0, at, ("▌" if moment.looks.tints else ">") if mine else " ", "move")
            words = item.words if self.what != "hand over" else f"{item.value:<12} {item.words}"
            sheet.put(2, at, words, "fg" if mine else "mid", most=sheet.width - 3)
        if self.what == "through" and not found:
            words = f"no change waits; andon push {self.line} VERSION --through {self.hold} takes any that passed"
            sheet.put(2, 2, words, "mid", most=sheet.width - 3)
        words = self.refused or self._asked(moment)
        sheet.put(1, y, words, "stop" if self.refused else "dim", bold=bool(self.refused), most=sheet.width - 2)

    def _now(self, moment: Moment, hold: Hold) -> str:
        if self.what == "why":
            return f"hold {hold.id}, by {login(hold.owner)}: {hold.why}"
        if self.what == "extend":
            return f"now {until_words(moment, hold)}; no hold lifts by itself, it asks again then"
        if self.what == "hand over":
            return f"{login(hold.has)} has it" if hold.has else "nobody has it"
        return "its tests must have passed for exactly this change; nothing else passes"

    def _asked(self, moment: Moment) -> str:
        cap = moment.keys.cap("confirm")
        if self.what == "extend":
            try:
                end = end_of(self.answer(moment), moment.now, moment.fresh_s / 2 or 1.0)
            except ValueError:
                return f"write 90m, 8h or 16:30, or pick one with ↑ ↓; {cap} confirms"
            return f"{f'until {clock(end, end)}' if end else 'no end'}; {cap} confirms, Enter does not"
        if self.what == "hand over":
            return f"to {self.answer(moment) or 'whom?'}; {cap} confirms, Enter does not"
        what = "the reason of the fix" if self.what == "through" else "the reason, in a few words"
        return f"{what}; {cap} confirms, Enter does not"


class ChangeScreen(ReasonScreen):
    """Asks for one change of a hold."""

    def __init__(self, painter: Painter, what: str, line: str, hold: Hold) -> None:
        super().__init__(painter, what, line)
        self.head = ChangeHead(painter, id="reason-head", classes="frame")
        self.head.what, self.head.line, self.head.hold = what, line, hold.id
        hints = {"extend": "90m, 8h, 16:30", "hand over": "a login"}
        self.input = Input(
            value=hold.why if what == "why" else "",
            placeholder=hints.get(what, "why"),
            id="reason-input",
            classes="frame",
            max_length=400,
            compact=True,
            select_on_focus=False,  # what is there is edited, not replaced by the first key
        )

    head: ChangeHead

    @property
    def own(self) -> tuple[object, ...]:
        """What is picked, what was typed, and why nothing was done yet."""
        return (self.head.picked, self.head.refused, self.head.typed)

    def choose(self, step: int) -> None:
        """Another one of the choices."""
        super().choose(step)
        if self.head.what != "through":
            self.input.value = ""

    def on_input_changed(self, event: Input.Changed) -> None:
        """Writing takes the objection back."""
        super().on_input_changed(event)
        self.head.typed = event.value.strip()
