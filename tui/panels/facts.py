"""What is true of a line now, in the words of the room: its lamp, its troubles, its verdict. Pure, over a moment."""

from typing import NamedTuple

from andon.board import Line, Watch
from andon.clock import Time
from andon.config import LineConfig
from andon.cord import stands
from andon.model import Act, Deployment, Hold, Metric, Sample, Verdict
from tui.moment import Moment
from tui.panels.words import ago, login, number, short

SHOUT_S = 5.0
"""For so long after the key a line says STOPPING."""
SIGN = {"healthy": ("✓", "ok"), "regressed": ("✗", "stop"), "undecided": ("…", "mid"), "blind": ("?", "blind")}
RANKS = {"regressed": 0, "blind": 1, "undecided": 2, "healthy": 3}


class Status(NamedTuple):
    """The lamp of a line."""

    sign: str
    role: str
    word: str
    since: Time | None = None
    """When that began."""


def status(moment: Moment, name: str) -> Status:
    """The lamp and the word of a line: the worst of what is known."""
    line = moment.known(name)
    if any(act.state == "unknown" for act in line.unsettled("rollback", "push")):
        return Status("?", "blind", "unknown", None)
    back = going_back(line)
    if back is not None:
        return Status("◀", "warn", "rolls back", back.at)
    held = line.open_holds
    if held or name in moment.pressed:
        since = held[0].since if held else moment.pressed[name]
        return Status("■", "stop", stop_word(moment, name), since)
    state = moment.state(name)
    if state == "stopped":
        return Status("■", "stop", "stopped", None)
    if moment.warming and state == "unknown":
        return Status("·", "dim", "reading", None)
    if state == "unknown":
        return Status("?", "blind", "unknown", None)
    gone = lost_metrics(moment, name)
    if gone is not None and not moment.warming:
        return Status("?", "blind", "blind", gone)
    return Status("●", "ok", "runs", None)


def stop_word(moment: Moment, name: str) -> str:
    """`STOPPING` right after the key, `stopping` until every target was read, then `stopped`."""
    line = moment.known(name)
    if not line.open_holds:
        return "STOPPING"
    if moment.state(name) == "stopped":
        return "stopped"
    newest = max(hold.since for hold in line.open_holds)
    return "STOPPING" if moment.now - newest < SHOUT_S else "stopping"


def still_moving(line: Line, config: LineConfig) -> int:
    """How many halting targets are not confirmed to stand for the stop."""
    return sum(not stands(line, target) for target in config.targets)


def going_back(line: Line) -> Act | None:
    """The rollback on its way."""
    return next((act for act in line.unsettled("rollback") if act.state != "unknown"), None)


def production(line: Line) -> Deployment | None:
    """What serves people: the newest deployment that has settled, or the one that rolls if there is no other."""
    settled = [item for item in line.deployments if item.state == "settled"]
    return settled[-1] if settled else line.current


def has_it(holds: tuple[Hold, ...], who: str) -> str:
    """Who took it on: `cy has it`, `you have it`, `nobody has it`."""
    names = list(dict.fromkeys(hold.has for hold in holds if hold.has))
    if not names:
        return "nobody has it"
    if who in names:
        return "you have it"
    return f"{login(names[0])} has it"


def lost_metrics(moment: Moment, name: str) -> Time | None:
    """Since when a metrics source of a line does not answer; None: all do."""
    line = moment.known(name)
    since = [
        found.since
        for source in {metric.source for metric in moment.config.lines[name].metrics}
        if (found := line.sources.get(source)) is not None and found.state != "ok"
    ]
    return min(since) if since else None


def watch_of(line: Line) -> Watch | None:
    """The watch of what runs."""
    current = line.current
    return line.watches.get(current.id) if current else None


class Reading(NamedTuple):
    """One metric as the list shows it."""

    metric: Metric
    sign: str
    role: str
    verdict: Verdict | None
    sample: Sample | None
    """The last bucket; None: nothing was ever seen."""
    stale: str = ""
    """`40 s` past due; empty: fresh."""
    hidden: bool = False
    """So old that the value says nothing any more."""


def readings(moment: Moment, name: str) -> tuple[Reading, ...]:
    """The metrics of a line, the worst first; equal ones in the config's order."""
    found = [reading(moment, name, metric) for metric in moment.config.lines[name].metrics]
    return tuple(sorted(found, key=lambda item: _rank(item)))


def _rank(item: Reading) -> int:
    if item.sign == "✗":
        return 0
    return 1 if item.sign == "?" else 2


def reading(moment: Moment, name: str, metric: Metric) -> Reading:
    """One metric: its verdict, its last value, and how old that is."""
    line = moment.known(name)
    watch = watch_of(line)
    verdict = watch.verdicts.get(metric.name) if watch else None
    sign, role = _sign_of(line, watch, verdict)
    rows = moment.rows_of(name, metric)
    sample = rows[-1] if rows else None
    source = line.sources.get(metric.source)
    lost = source is not None and source.state != "ok" and not moment.warming
    late = moment.now - (sample.at + 2 * metric.every + metric.lag) if sample else 0.0
    hidden = late > 5 * metric.every and not moment.warming
    stale = ago(late) if late > 2 * metric.every or (lost and late > 0) else ""
    if lost or hidden:
        sign, role = "?", "blind"
    return Reading(metric, sign, role, verdict, sample, stale, hidden)


def _sign_of(line: Line, watch: Watch | None, verdict: Verdict | None) -> tuple[str, str]:
    helped = _helped(line)
    if helped == "recovered":
        return "✓", "ok"
    if verdict is not None:
        return SIGN[verdict.word]
    if watch is None:
        return "·", "dim"
    if watch.ended and watch.verdict is not None:
        return SIGN[watch.verdict.word]
    return "…", "mid"


def _helped(line: Line) -> str:
    """Whether the return that runs now was seen to help."""
    current = line.current
    if current is None or not line.went_back(current):
        return ""
    recent = [found for found in line.helped.values() if found.at >= current.at]
    return recent[-1].word if recent else ""


def regressed_now(line: Line) -> Verdict | None:
    """The verdict that says what runs now is bad."""
    watch = watch_of(line)
    if watch is None:
        return None
    if watch.verdict is not None and watch.verdict.word == "regressed":
        return watch.verdict
    return next((item for item in watch.verdicts.values() if item.word == "regressed"), None)


class Trouble(NamedTuple):
    """One band: the five questions answered in one row."""

    rank: int
    role: str
    """`stop`, `warn` or `blind`."""
    sign: str
    what: str
    """What, without the age: `payments stopped`."""
    since: Time | None
    words: str
    right: str = ""
    line: str = ""


def troubles(moment: Moment) -> tuple[Trouble, ...]:
    """Everything that is wrong, the worst first."""
    found: list[Trouble] = []
    if moment.silent_since is not None:
        at = moment.silent_since
        words = "nobody judges or undoes now; F9 and F4 still act, straight from here"
        if moment.read_only:
            words = "nobody judges or undoes now"
        found.append(Trouble(0, "blind", "?", "nobody watches", at, words))
    if moment.view.trouble:
        found.append(Trouble(1, "blind", "?", "the ledger does not answer", None, moment.view.trouble))
    for name in moment.order:
        found += _line_troubles(moment, name)
    if not moment.warming:
        found += _blind(moment)
    return tuple(sorted(found, key=lambda item: (item.rank, -(item.since or 0.0) if item.rank > 2 else 0.0)))


def _line_troubles(moment: Moment, name: str) -> list[Trouble]:
    line = moment.known(name)
    found: list[Trouble] = []
    for act in line.unsettled():
        if act.state == "unknown":
            words = f"{act.kind} to {act.target}: {act.words or 'no answer'}; reading"
            found.append(Trouble(3, "blind", "?", f"{name} unknown", act.sent_at or act.at, words, "", name))
    held = line.open_holds
    right = has_it(held, moment.who) if held else ""
    back = going_back(line)
    if back is not None:
        found.append(_going_back(moment, line, back, right))
    elif held or name in moment.pressed:
        since = held[0].since if held else moment.pressed[name]
        why = hold_words(line, held) if held else "asked"
        found.append(Trouble(2, "stop", "■", f"{name} {stop_word(moment, name)}", since, why, right, name))
    elif moment.state(name) == "stopped":
        found.append(Trouble(4, "stop", "■", f"{name} stopped outside andon", None, _outside(line), "", name))
    elif moment.state(name) == "unknown" and not moment.warming and moment.silent_since is None:
        found.append(Trouble(6, "blind", "?", f"{name} unknown", None, _unread(moment, name), "", name))
    bad = regressed_now(line)
    if bad is not None and not held and back is None:
        found.append(Trouble(5, "stop", "✗", f"{name} regressed", bad.at, bad.sentence, "nobody has it", name))
    if name in moment.board.read_only:
        found.append(Trouble(6, "blind", "?", f"{name} read-only", None, moment.board.read_only[name], "", name))
    return found


def _going_back(moment: Moment, line: Line, act: Act, right: str) -> Trouble:
    current = line.deployment(act.expected)
    versions = f"{short(current.version)} → {short(act.version)}" if current else f"→ {short(act.version)}"
    left = act.not_before - moment.now
    if act.state == "intent" and left > 0:
        what = f"{line.name} rolls back in {int(left) + 1} s"
        return Trouble(2, "warn", "◀", what, None, versions, right or "you have it", line.name)
    said = act.words or {"intent": "to be sent", "sent": "sent", "accepted": "accepted"}[act.state]
    return Trouble(3, "warn", "◀", f"{line.name} rolling back", act.at, f"{versions}, {said}", right, line.name)


def hold_words(line: Line, holds: tuple[Hold, ...]) -> str:
    """Why a line is held, and what became of it: for a band."""
    first = holds[0]
    by = login(first.owner) if first.kind == "person" else "immune"
    words = f"{by}: {first.why}"
    if len(holds) > 1:
        words += f" · {len(holds)} holds"
    undone = line.helped.get(first.deployment)
    if undone is not None:
        words += f" · {undone.word}"
    return words


def _outside(line: Line) -> str:
    notes = [part.note for halted in line.halted.values() for part in halted.parts if part.halted and part.note]
    return f"its words: {notes[0]}" if notes else "no hold of ours"


def _unread(moment: Moment, name: str) -> str:
    config = moment.config.lines[name]
    for entry in config.halting:
        pulse = moment.view.pulses.get(f"target:{entry.target}")
        if pulse is None:
            return f"{entry.target} was never read"
        if moment.now - pulse.at > 5 * entry.every_s:
            return f"{entry.target} not read for {ago(moment.now - pulse.at)}"
    return "a halt target cannot be read"


def _blind(moment: Moment) -> list[Trouble]:
    """One trouble per metrics source that does not answer."""
    lines: dict[str, list[str]] = {}
    since: dict[str, Time] = {}
    words: dict[str, str] = {}
    for name in moment.order:
        line = moment.known(name)
        for source in {metric.source for metric in moment.config.lines[name].metrics}:
            found = line.sources.get(source)
            if found is not None and found.state != "ok":
                lines.setdefault(source, []).append(name)
                since[source] = min(found.since, since.get(source, found.since))
                words[source] = f"{source} {'does not answer' if found.state == 'gone' else found.state}"
                if found.words:
                    words[source] += f": {found.words}"
    return [
        Trouble(7, "blind", "?", f"blind on {_lines(names)}", since[source], words[source], "", names[0])
        for source, names in lines.items()
    ]


def _lines(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} lines"


def verdict_words(moment: Moment, name: str) -> str:
    """The watch of what runs, in words: `watching 12 of 60 min, healthy so far`."""
    line = moment.known(name)
    watch = watch_of(line)
    if watch is None:
        return ""
    if not watch.ended:
        whole = round((watch.until - watch.began) / 60)
        gone = max(0, int((moment.now - watch.began) // 60))
        return f"watching {min(gone, whole)} of {whole} min, {_so_far(moment, name, watch)}"
    return f"{watch.verdict.word}: {watch.verdict.sentence}" if watch.verdict else "watched"


def _so_far(moment: Moment, name: str, watch: Watch) -> str:
    """What can be said before the watch has ended: only what was measured."""
    bad = [found for found in watch.verdicts.values() if found.word in ("regressed", "blind")]
    if bad:
        return bad[0].word
    items = [item for item in readings(moment, name) if item.metric.threshold is not None]
    seen = [item for item in items if item.sample is not None and item.sample.at >= watch.began and not item.hidden]
    if not seen:
        return "no data yet"
    beyond_now = [item for item in seen if beyond(item)]
    return f"{beyond_now[0].metric.name} is beyond its bounds" if beyond_now else "within bounds so far"


def beyond(item: Reading) -> bool:
    """Whether the last value is out of bounds, judged or not."""
    threshold = item.metric.threshold
    value = item.sample.shown(item.metric.kind) if item.sample is not None else None
    return threshold is not None and value is not None and threshold.beyond(value)


def sentence(item: Reading, watch: Watch | None) -> str:
    """What a verdict says, if it says more than that it is being watched."""
    verdict = item.verdict
    if verdict is None or verdict.word == "healthy":
        return ""
    early = verdict.word == "undecided" and watch is not None and not watch.ended
    # While a watch is open its undecided verdict is as old as its first look; only what was before it stays true.
    return "" if early and " before " not in verdict.sentence else verdict.sentence


def bound(metric: Metric) -> str:
    """The bounds of a metric in its own unit: `not below 2.0 %`."""
    threshold = metric.threshold
    if threshold is None:
        return ""
    words = [f"not below {number(threshold.below, metric)}"] if threshold.below is not None else []
    words += [f"not above {number(threshold.above, metric)}"] if threshold.above is not None else []
    return ", ".join(words)
