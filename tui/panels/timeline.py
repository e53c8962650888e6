"""Events as lines of a timeline: when, a sign, what happened in words."""

from andon.board import Line
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
    SourceSeen,
    Started,
    WatchOpened,
)
from andon.model import Act
from tui.moment import Moment
from tui.panels import calls
from tui.panels.facts import SIGN
from tui.panels.hold import shown
from tui.panels.panel import Panel
from tui.panels.sheet import Sheet
from tui.panels.words import clock, login, moment_of, short

Told = tuple[str, str, str]
"""Sign, its role, and the words; empty words: not worth a line."""
NOTHING: Told = ("", "", "")
_STEPS = {
    "verified": ("✓", "ok"),
    "refused": ("✗", "stop"),
    "failed": ("✗", "stop"),
    "unknown": ("?", "blind"),
    "superseded": (" ", "dim"),
    "withdrawn": (" ", "dim"),
    "expired": ("✗", "warn"),
}


def told(event: Event, acts: dict[str, Act]) -> Told:
    """An event in words."""
    if isinstance(event, (ActAsked, ActStepped)):
        return _act(event, acts)
    if isinstance(event, (HoldPlaced, HoldTaken, HoldChanged, HoldLifted)):
        return _hold(event)
    if isinstance(event, CallTaken):
        return " ", "mid", f"{login(event.who)} looks into the call"
    if isinstance(event, DeploymentSeen):
        return _deployment(event)
    if isinstance(event, (ChangesSeen, RunSeen)):
        return _work(event)
    return _found(event)


def _act(event: ActAsked | ActStepped, acts: dict[str, Act]) -> Told:
    if isinstance(event, ActAsked):
        act = event.act
        if act.kind == "rollback":
            return "◀", "warn", f"rollback to {short(act.version)} asked by {login(act.who)}"
        if act.kind == "push":
            return " ", "mid", f"push of {short(act.version)} asked by {login(act.who)}"
        if act.kind == "call":
            return calls.SIGN, calls.ROLE, f"{login(act.who)} called for help{f': {act.why}' if act.why else ''}"
        return NOTHING
    known = acts.get(event.act)
    if known is not None and known.kind == "call":
        return _call(event)
    if known is None or event.now not in _STEPS:
        return NOTHING
    sign, role = _STEPS[event.now]
    what = f"{known.kind} to {short(known.version)}" if known.version else f"{known.kind} {known.target}"
    if event.now == "verified":
        words = {
            "halt": f"{known.target} stands",
            "release": f"{known.target} released",
            "tell": f"{known.target} told",
        }.get(known.kind)
        if known.kind in ("rollback", "push"):
            words = f"{short(known.version)} live, by a read"
        return sign, role, words or f"{what}, confirmed"
    tail = f": {event.words}" if event.words else ""
    return sign, role, f"{what} {event.now}{tail}"


def _call(event: ActStepped) -> Told:
    if event.now == "withdrawn":
        return "✓", "ok", f"call {event.words}"
    if event.now == "expired":
        return "✗", "warn", f"call expired: {event.words}"
    return NOTHING  # the hold that answered it is told


def _hold(event: HoldPlaced | HoldTaken | HoldChanged | HoldLifted) -> Told:
    if isinstance(event, HoldPlaced):
        owner = login(event.hold.owner) if event.hold.kind == "person" else "the immune system"
        return "■", "stop", f"stopped by {owner}: {event.hold.why}"
    if isinstance(event, HoldTaken):
        return (
            " ",
            "mid",
            f"{login(event.by)} handed it to {login(event.who)}" if event.by else f"{login(event.who)} took it",
        )
    if isinstance(event, HoldChanged):
        if event.why:
            return " ", "mid", f"{login(event.who)}: held because {event.why}"
        until = f"until {clock(event.until)}" if event.until else "until fixed"
        return " ", "mid", f"{login(event.who)}: meant to hold {until}"
    return "✓", "ok", f"resumed by {login(event.who)}: {event.why}"


def _deployment(event: DeploymentSeen) -> Told:
    item = event.deployment
    by = f", by {login(item.by)}" if item.by else ""
    if item.state == "settled":
        return (
            ("◂", "warn", f"back on {short(item.version)}{by}")
            if item.back
            else ("▾", "mid", f"{short(item.version)} live{by}")
        )
    if item.state == "failed":
        return "✗", "stop", f"deployment of {short(item.version)} failed{by}"
    return " ", "mid", f"{short(item.version)} rolls out{by}"


def _work(event: ChangesSeen | RunSeen) -> Told:
    if isinstance(event, ChangesSeen):
        newest = event.changes[-1]
        if len(event.changes) > 3:
            return " ", "dim", f"{len(event.changes)} changes"
        return " ", "dim", f"{newest.id[:4]} {login(newest.author)}: {newest.title}"
    run = event.run
    if run.state == "failed":
        bad = next((stage.name for stage in run.stages if stage.state == "failed"), "")
        return "✗", "stop", f"{run.change[:4]} failed{f' in {bad}' if bad else ''}"
    if run.state == "passed":
        return "✓", "ok", f"{run.change[:4]} passed"
    return NOTHING


def _found(event: Event) -> Told:
    if isinstance(event, Judged):
        sign, role = SIGN[event.verdict.word]
        # A regression is told of its metric, everything else of the deployment: each once.
        if bool(event.verdict.metric) != (event.verdict.word == "regressed") or (
            event.verdict.word == "undecided" and not event.final
        ):
            return NOTHING
        did = f" · {event.did}" if event.did else ""
        return sign, role, f"{event.verdict.word}: {event.verdict.sentence}{did}"
    if isinstance(event, Helped):
        sign, role = {"recovered": ("✓", "ok"), "not recovered": ("✗", "stop")}.get(event.word, ("…", "mid"))
        return sign, role, f"{event.word}: {event.sentence}"
    if isinstance(event, Marked):
        return " ", "mid", f"{short(event.version)} marked {event.mark} by {login(event.who)}: {event.why}"
    if isinstance(event, SourceSeen):
        tail = f": {event.words}" if event.words else ""
        return (
            ("✓", "ok", f"{event.source} answers")
            if event.state == "ok"
            else ("?", "blind", f"{event.source} {event.state}{tail}")
        )
    if isinstance(event, WatchOpened):
        return " ", "dim", f"watching {short(event.version)} for {round((event.until - event.began) / 60)} min"
    return NOTHING


def told_in_full(event: Event, acts: dict[str, Act]) -> Told:
    """An event in words, also those that no timeline tells."""
    sign, role, words = told(event, acts)
    if words:
        return sign, role, words
    words = _small(event, acts)
    return " ", "dim", words or type(event).__name__


def _small(event: Event, acts: dict[str, Act]) -> str:
    """What happened, of events that matter only to somebody who looks closely."""
    if isinstance(event, ActAsked):
        return f"{event.act.kind} {event.act.target} asked by {login(event.act.who)}: {event.act.why}"
    if isinstance(event, ActStepped):
        act = acts.get(event.act)
        what = f"{act.kind} {act.target}".strip() if act is not None else f"act {event.act}"
        return f"{what} {event.now}{f': {event.words}' if event.words else ''}"
    if isinstance(event, RunSeen):
        return f"{event.run.change[:4]} {event.run.state}: run {event.run.id}"
    if isinstance(event, HaltedSeen):
        parts = event.halted.parts
        standing = sum(part.halted for part in parts)
        some = f"{standing} of {len(parts)} parts stand" if standing else "does not stand"
        return f"{event.target} {'stands' if event.halted.halted else some}, by a read"
    if isinstance(event, Judged):
        metric = f"{event.verdict.metric}: " if event.verdict.metric else ""
        return f"{metric}{event.verdict.word}: {event.verdict.sentence}"
    if isinstance(event, Armed):
        return f"{event.metric}: armed with its history"
    if isinstance(event, Started):
        return f"engine {event.holder} began to watch, config {event.config}"
    return ""


def acts_of(line: Line) -> dict[str, Act]:
    """The acts that events of a line are about, calls among them."""
    return {**line.acts, **{call.id: call for call in line.calls}}


def draw_events(moment: Moment, sheet: Sheet, x: int, y: int, width: int, height: int, *, lines: bool = False) -> int:
    """The newest events first, as many as fit; returns how many rows were drawn."""
    drawn = 0
    # By when it happened: a source that is listed for the first time tells of days at once.
    for event in sorted(moment.events, key=lambda item: item.at, reverse=True):
        if not lines and event.line != moment.line:
            continue
        if drawn >= height:
            break
        sign, role, words = told(event, acts_of(moment.known(event.line)) if event.line else {})
        if not words:
            continue
        at = y + drawn
        when = moment_of(event.at, moment.now)
        sheet.put(x, at, when[:5] if lines and ":" in when else when, "dim")
        column = x + (7 if lines else 10)
        sheet.put(column, at, sign, role, bold=role == "stop")
        column += 2
        if lines:
            sheet.put(column, at, event.line, "mid", most=10)
            column += 11
        sheet.put(column, at, words, "fg" if role in ("stop", "blind") else "mid", most=x + width - column)
        drawn += 1
    return drawn


class Timeline(Panel):
    """The last events of the line."""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """A title, then the newest first."""
        sheet.put(1, 0, "events", "fg", bold=True)
        if not draw_events(moment, sheet, 1, 1, sheet.width - 2, sheet.height - 1):
            sheet.put(1, 1, "nothing happened yet, as far as the ledger knows", "dim")


BEFORE_S = 1800.0
"""What led to a stop: so long before it, its timeline begins."""


class HoldTimeline(Panel):
    """What led to a stop, and what happened under it, oldest first; the newest that fit."""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """A title, then one row for each."""
        hold = shown(moment)
        if hold is None:
            return
        sheet.put(1, 0, "timeline", "fg", bold=True)
        line = moment.known(moment.line)
        acts = acts_of(line)
        first = min([item.since for item in line.holds if item.stop == hold.stop], default=hold.since)
        until = (hold.lifted_at or moment.now) + 60.0
        events = [event for event in reversed(moment.events) if event.line == moment.line]
        rows = [
            (event.at, *said)
            for event in events
            if first - BEFORE_S <= event.at <= until and (said := told(event, acts))[2]
        ]
        rows.sort(key=lambda row: row[0])
        high = sheet.height - 1
        if len(rows) > high:
            earlier = len(rows) - high
            rows = rows[earlier:]
            sheet.put(12, 0, f"{earlier} earlier: {moment.keys.cap('events')}", "dim")
        for y, (at, sign, role, words) in enumerate(rows, 1):
            sheet.put(1, y, moment_of(at, moment.now), "dim")
            sheet.put(11, y, sign, role, bold=role == "stop")
            strong = role in ("stop", "blind")
            sheet.put(13, y, words, "fg" if strong else "mid", most=sheet.width - 14)
        if not rows:
            sheet.put(1, 1, "nothing of it is in the last events of this line", "dim")
