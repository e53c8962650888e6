"""Everything that is wrong, as bands: what, since when, the evidence, who has it; the worst first. Pure, over a moment."""

from typing import NamedTuple

from andon.board import Line
from andon.clock import Time
from andon.model import Act, Hold
from tui.moment import Moment
from tui.panels import calls
from tui.panels.facts import going_back, has_it, regressed_now, stop_word
from tui.panels.words import ago, login, second_of, short


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
    calm: bool = False
    """Tinted, never filled: not an alarm yet."""
    brief: str = ""
    """What, where there is hardly any room."""


def troubles(moment: Moment) -> tuple[Trouble, ...]:
    """Everything that is wrong, the worst first."""
    found: list[Trouble] = []
    if moment.silent_since is not None:
        at = moment.silent_since
        found.append(Trouble(0, "blind", "?", "nobody watches", at, f"the floor as it was at {second_of(at)}"))
    if moment.view.trouble:
        found.append(Trouble(1, "blind", "?", "the ledger does not answer", None, moment.view.trouble))
    for name in moment.config.lines:
        found += _line_troubles(moment, name)
    if not moment.warming:
        found += _blind(moment)
    away = {name for name in moment.config.lines if name not in moment.order}  # filtered out: seen all the same
    return tuple(
        sorted(found, key=lambda item: (item.rank, item.line in away, -(item.since or 0.0) if item.rank > 2 else 0.0))
    )


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
    if line.call is not None and not held:
        found.append(_called(moment, line, line.call))
    if back is not None or held or name in moment.pressed:
        pass  # said above
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


def _called(moment: Moment, line: Line, call: Act) -> Trouble:
    what = f"{line.name} {calls.called_words(moment, call)}"
    right = calls.looks_words(moment, line)
    brief = f"{line.name} {calls.stops_words(moment, call)}"
    return Trouble(3, calls.ROLE, calls.SIGN, what, None, calls.quoted(call), right, line.name, True, brief)


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
    for name in moment.config.lines:
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
