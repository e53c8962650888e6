"""What happened: on all lines or one, searched by line, kind, person and words; each row opens what it is about."""

from collections.abc import Iterable
from typing import ClassVar

from textual.widget import Widget
from textual.widgets import Input

from andon.keeper import Keeper
from tui import commands
from tui.moment import Moment
from tui.panels.looks import Painter
from tui.panels.panel import Panel
from tui.panels.record import About, EventFacts, EventList, Item, matching
from tui.panels.sheet import Sheet
from tui.panels.top import Rule
from tui.panels.words import clock
from tui.recalling import Recall
from tui.screens.frame import RoomScreen, bindings


class EventsHead(Panel):
    """The names of the columns."""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """One row."""
        names = [(1, "when"), (12, "line"), (23, "what happened")]
        if sheet.width >= 130:
            names = [(1, "when"), (12, "line"), (24, "who"), (34, "kind"), (44, "what happened")]
            names.append((sheet.width - 21, "opens"))
        for x, name in names:
            sheet.put(x, 0, name, "dim")


class EventsScreen(RoomScreen):
    """The record."""

    where = commands.EVENTS
    first_keys: ClassVar[tuple[str, ...]] = ("clear", "open", "find", "back", "keys", "leave")
    BINDINGS: ClassVar = bindings(commands.EVENTS)
    AUTO_FOCUS = ""

    def __init__(self, painter: Painter, keeper: Keeper, find: str = "") -> None:
        super().__init__(painter)
        self.recall = Recall(keeper)
        self.list = EventList(painter, id="event-list", classes="frame")
        self.facts = EventFacts(painter, id="event-facts", classes="frame")
        self.began_with = find
        self.find = find
        self.sought = Input(
            value=find,
            placeholder="words; line:payments kind:hold who:ann; all: the small print, too",
            id="event-find",
            classes="frame",
            compact=True,
            max_length=80,
        )
        self._picked_seq = 0
        """The event that is picked; 0: the newest, whichever that is."""
        self._found: tuple[object, list[Item]] = (None, [])

    def steps(self, line: str) -> tuple[str, ...]:
        """Where we are."""
        return ("events",)

    def body(self) -> Iterable[Widget]:
        """What is looked for, the rows, the picked one in full."""
        yield self.sought
        yield EventsHead(self.painter, id="events-head", classes="frame")
        yield self.list
        yield Rule(self.painter, id="events-rule", classes="frame")
        yield self.facts

    def on_mount(self) -> None:
        """The field is there while something is looked for."""
        self.sought.display = bool(self.find)

    @property
    def own(self) -> tuple[object, ...]:
        """What the ledger has answered, what is looked for, what is picked."""
        return (self.recall.look(), self.recall.trouble, self.find, self._picked_seq)

    # ---- finding

    @property
    def finding(self) -> bool:
        """Whether something else is looked for than what the screen was opened with."""
        return self.sought.has_focus or self.find != self.began_with

    def begin_find(self) -> None:
        """Type words."""
        self.sought.display = True
        self.sought.focus()
        self.sought.cursor_position = len(self.sought.value)

    def end_find(self) -> None:
        """What it was opened with again."""
        self.sought.value = self.find = self.began_with
        self.sought.display = bool(self.began_with)
        self.set_focus(None)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Other words."""
        event.stop()
        self.find = event.value
        self._picked_seq = 0

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Found: the keys are the list's again."""
        event.stop()
        self.set_focus(None)
        if not event.value.strip():
            self.began_with = ""
            self.end_find()

    # ---- the rows

    @property
    def items(self) -> list[Item]:
        """The rows that fit what is looked for."""
        key = (self.recall.revision, self.find)
        if self._found[0] != key:
            self._found = (key, matching(self.recall.items, self.find))
        return self._found[1]

    @property
    def place(self) -> int:
        """Which row is picked."""
        items = self.items
        return next((place for place, item in enumerate(items) if item.seq == self._picked_seq), 0)

    @property
    def about(self) -> About | None:
        """What the picked row is about."""
        items = self.items
        return items[self.place].about if items else None

    def move(self, step: int) -> None:
        """Another row; at the end older ones are looked for."""
        items = self.items
        if not items:
            return
        place = max(0, min(len(items) - 1, self.place + step))
        self._picked_seq = items[place].seq if place else 0
        if place + 2 * self.list.size.height > len(items):
            self.recall.want_older()

    def show(self, moment: Moment) -> None:
        """Draw what differs."""
        items = self.items
        if len(items) < self.list.size.height:
            self.recall.want_older()  # so few fit that the list is not full: look further back
        self.list.items, self.list.picked = items, self.place
        self.list.empty = self._empty(moment)
        self.facts.item = items[self.place] if items else None
        self.facts.said = self._said(moment, len(items))
        super().show(moment)

    def _empty(self, moment: Moment) -> str:
        if self.recall.trouble:
            return f"the ledger does not answer: {self.recall.trouble}"
        if self.find.strip() and self.recall.all_read:
            return f"nothing that happened matches “{self.find.strip()}” · {moment.keys.cap('back')} clears"
        return "looking" if not self.recall.all_read else "nothing happened yet, as far as the ledger knows"

    def _said(self, moment: Moment, count: int) -> str:
        all_ = self.recall.items
        if not all_:
            return ""
        since = "all there is" if self.recall.all_read else f"back to {clock(all_[-1].at, moment.now)}"
        return f"{self.place + 1} of {count:,}, {since}" if count else since
