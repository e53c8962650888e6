"""What happened, as rows: when, on which line, who, what; and what each is about."""

from collections.abc import Sequence
from typing import NamedTuple

from andon.board import Line
from andon.clock import Time
from andon.events import (
    ActAsked,
    ActStepped,
    Armed,
    CallTaken,
    ChangesSeen,
    DeploymentSeen,
    Event,
    HaltedSeen,
    Helped,
    HoldChanged,
    HoldLifted,
    HoldPlaced,
    HoldTaken,
    Judged,
    Marked,
    RunSeen,
    Started,
    WatchOpened,
)
from andon.model import Act
from andon.ports import Row
from tui.moment import Moment
from tui.panels.hold import wrapped
from tui.panels.panel import Panel
from tui.panels.sheet import Sheet
from tui.panels.timeline import acts_of, told, told_in_full
from tui.panels.words import login, moment_of

KIND = {
    "changes-seen": "change",
    "run-seen": "run",
    "deployment-seen": "deploy",
    "halted-seen": "halt",
    "source-seen": "source",
    "watch-opened": "watch",
    "armed": "watch",
    "judged": "verdict",
    "helped": "verdict",
    "hold-placed": "hold",
    "hold-taken": "hold",
    "hold-changed": "hold",
    "hold-lifted": "hold",
    "call-taken": "call",
    "marked": "mark",
    "started": "engine",
}
"""What a kind of event is called where it is looked for; acts by what they do."""


ALL = "all"
"""The word that brings the small print: each step of an act, each state of a run, each read of what stands."""


class About(NamedTuple):
    """What an event is about."""

    what: str
    """`hold`, `deployment`, `run`, `line` or `engine`."""
    line: str
    id: str = ""

    @property
    def words(self) -> str:
        """`hold pay00001`, `deployment d-9c1d`, `payments`."""
        if self.what in ("line", "engine"):
            return self.line or "about"
        return f"{self.what} {self.id}"


class Item(NamedTuple):
    """One event, as a row of the list."""

    seq: int
    at: Time
    line: str
    kind: str
    who: str
    sign: str
    role: str
    words: str
    about: About
    small: bool = False
    """Whether no timeline tells it: seen only by who asks for `all`."""

    @property
    def text(self) -> str:
        """What is searched, in small letters."""
        return f"{self.line} {self.kind} {self.who} {self.words}".lower()


def item_of(seq: int, kind: str, event: Event, acts: dict[str, Act], line: Line) -> Item:
    """The row of an event. `acts` are those that were asked in the events looked at so far; it is added to."""
    if isinstance(event, ActAsked):
        acts[event.act.id] = event.act
    known = acts if isinstance(event, ActStepped) and event.act in acts else acts_of(line)
    sign, role, words = told_in_full(event, known)
    small = not told(event, known)[2]
    act = event.act if isinstance(event, ActAsked) else known.get(event.act) if isinstance(event, ActStepped) else None
    name = KIND.get(kind, act.kind if act is not None else "act")
    about = _about(event, act, line)
    return Item(seq, event.at, event.line, name, _who(event, act), sign, role, words, about, small)


def unknown_item(row: Row) -> Item:
    """The row of an event that this version cannot read."""
    words = "this andon cannot read it: a newer one wrote it, or it is damaged"
    return Item(row.seq, row.at, row.line, row.kind, "", "?", "blind", words, About("line", row.line))


def _who(event: Event, act: Act | None) -> str:
    """The person, or what acts like one; empty: nobody."""
    if act is not None:
        return act.who
    if isinstance(event, HoldPlaced):
        return event.hold.owner
    if isinstance(event, HoldTaken):
        return event.by or event.who
    if isinstance(event, HoldChanged | HoldLifted | CallTaken | Marked):
        return event.who
    if isinstance(event, DeploymentSeen):
        return event.deployment.by
    if isinstance(event, ChangesSeen):
        return event.changes[-1].author if event.changes else ""
    return event.run.who if isinstance(event, RunSeen) else ""


def _about(event: Event, act: Act | None, line: Line) -> About:
    name = event.line
    if isinstance(event, HoldPlaced):
        return About("hold", name, event.hold.id)
    if isinstance(event, HoldTaken | HoldChanged | HoldLifted):
        return About("hold", name, event.hold)
    if isinstance(event, DeploymentSeen):
        return About("deployment", name, event.deployment.id)
    if isinstance(event, Judged | Marked | WatchOpened | Armed | Helped):
        return About("deployment", name, event.deployment)
    if isinstance(event, RunSeen):
        return About("run", name, event.run.id)
    if isinstance(event, HaltedSeen) and line.open_holds:
        return About("hold", name, line.open_holds[0].id)
    if isinstance(event, Started):
        return About("engine", "")
    if act is not None and act.kind != "call":
        return _about_act(act, line)
    return About("line", name)


def _about_act(act: Act, line: Line) -> About:
    """The hold an act belongs to; a rollback or push without one: the deployment it was asked against."""
    named = act.hold or act.subject.partition("/")[0]
    if any(named in (hold.id, hold.stop) for hold in line.holds):
        return About("hold", act.line, named)
    if act.kind in ("rollback", "push"):
        at = [hold.id for hold in line.holds if hold.since <= act.at <= (hold.lifted_at or act.at)]
        return About("hold", act.line, at[0]) if at else About("deployment", act.line, act.expected)
    return About("run", act.line, act.subject) if act.kind == "cancel" else About("line", act.line)


def matching(items: Sequence[Item], find: str) -> list[Item]:
    """Those in which every word is found; `line:`, `kind:` and `who:` look in one place only.

    What no timeline tells is left out, unless one of the words is `all`.
    """
    words = find.lower().split()
    all_ = ALL in words
    tests = [_test(word) for word in words if word != ALL]
    return [
        item for item in items if (all_ or not item.small) and all(_fits(item, place, word) for place, word in tests)
    ]


def _test(word: str) -> tuple[str, str]:
    place, colon, rest = word.partition(":")
    return (place, rest) if colon and place in ("line", "kind", "who") else ("", word)


def _fits(item: Item, place: str, word: str) -> bool:
    if not place:
        return word in item.text
    return {"line": item.line, "kind": item.kind, "who": item.who}[place].lower().startswith(word)


class EventList(Panel):
    """The rows; the picked one stays where it is while newer ones come in above it."""

    items: Sequence[Item] = ()
    picked = 0
    """Its place in `items`."""
    find = ""
    empty = ""
    """What is said when there are none."""
    _top = 0

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """As many as fit, around the picked one."""
        if not self.items:
            sheet.put(1, 0, self.empty, "mid", most=sheet.width - 2)
            return
        high = sheet.height
        self._top = max(0, min(self._top, len(self.items) - high))
        self._top = min(max(self._top, self.picked - high + 1), self.picked)
        wide = sheet.width >= 130
        for y, item in enumerate(self.items[self._top : self._top + high]):
            self._row(moment, sheet, y, item, mine=self._top + y == self.picked, wide=wide)

    def _row(self, moment: Moment, sheet: Sheet, y: int, item: Item, *, mine: bool, wide: bool) -> None:
        if mine:
            if moment.looks.tints:
                sheet.ground(y, "sel")
            sheet.put(0, y, "▌" if moment.looks.tints else ">", "move", bold=not moment.looks.tints)
        sheet.put(1, y, moment_of(item.at, moment.now), "dim")
        sheet.put(10, y, item.sign, item.role, bold=item.role == "stop")
        sheet.put(12, y, item.line, "mid", most=11 if wide else 10)
        x, end = 23, sheet.width - 1
        if wide:
            sheet.put(24, y, login(item.who), "mid", most=8)
            sheet.put(34, y, item.kind, "dim", most=9)
            x, end = 44, sheet.width - 22
            sheet.put(end + 1, y, item.about.words, "dim", most=20)
        role = "fg" if item.role in ("stop", "blind") or mine else "dim" if item.role == "dim" else "mid"
        sheet.put(x, y, item.words, role, most=end - x)

    def on_resize(self, event: object) -> None:
        """Another size: the picked row stays in sight."""
        super().on_resize(event)  # type: ignore[arg-type]  # as Textual hands it over


class EventFacts(Panel):
    """The picked event in full, and what `enter` opens."""

    item: Item | None = None
    said = ""
    """How many there are, and how far back was looked."""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """Two rows of words, one of what it is about."""
        item = self.item
        sheet.right(sheet.width - 2, sheet.height - 1, self.said, "dim")
        if item is None:
            return
        for y, row in enumerate(wrapped(item.words, sheet.width - 3, 2)):
            sheet.put(1, y, row, "fg", most=sheet.width - 2)
        y = sheet.height - 1
        who = f", {login(item.who)}" if item.who else ""
        x = sheet.put(1, y, f"{moment_of(item.at, moment.now)} {item.kind}{who}", "mid", most=36)
        cap = moment.keys.cap("open")
        x = sheet.put(x + 2, y, cap, "fg", bold=True)
        room = sheet.width - x - len(self.said) - 5
        sheet.put(x + 1, y, f"opens {item.about.words}", "dim", most=room)
