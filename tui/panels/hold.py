"""What a hold is: who, why, since, until, whose turn; what still moves; what comes next, with its keys. Pure."""

from typing import NamedTuple

from andon import rollback
from andon.board import Line
from andon.clock import Time
from andon.model import Change, Hold
from tui.moment import Moment
from tui.panels.danger import rollback_words
from tui.panels.effects import owner
from tui.panels.facts import production, still_moving
from tui.panels.panel import Panel
from tui.panels.sheet import Sheet, cells, width_of
from tui.panels.words import ago, clock, login, second_of, short

MOST_HOLDS = 3
"""So many holds of a stop are listed; the picked one among them."""


def shown(moment: Moment) -> Hold | None:
    """The hold that the screen is about: the picked one, else the first open one of the line, else its last."""
    line = moment.known(moment.line)
    picked = next((hold for hold in line.holds if hold.id == moment.hold), None)
    if picked is not None:
        return picked
    return line.open_holds[0] if line.open_holds else max(line.holds, key=lambda hold: hold.since, default=None)


def waiting(line: Line) -> tuple[Change, ...]:
    """The changes that wait behind the line: newer than what runs and never shipped, oldest first."""
    current = line.current
    live = line.change_of(current) if current is not None else None
    if live is None:
        return ()
    ids = [change.id for change in line.changes]
    newer = line.changes[ids.index(live.id) + 1 :] if live.id in ids else ()
    shipped = [item.change or item.version for item in line.deployments]
    return tuple(change for change in newer if not any(change.id.startswith(item) for item in shipped if item))


def until_words(moment: Moment, hold: Hold) -> str:
    """`until fixed`; `until 16:30, 25 min left`; `was meant until 13:30`."""
    if hold.until is None:
        return "until fixed"
    left = hold.until - moment.now
    when = clock(hold.until) if abs(left) < 86400 else clock(hold.until, hold.until + 2 * 86400)
    return f"until {when}, {ago(left)} left" if left > 0 else f"was meant until {when}"


def turn(moment: Moment, hold: Hold) -> tuple[str, str]:
    """Whose turn it is, and the role of the words."""
    if not hold.open:
        return "", "dim"
    if not hold.has:
        return "nobody has it: anybody's turn", "warn"
    mine = hold.has == moment.who
    late = hold.until is not None and hold.until <= moment.now
    words = "your turn" if mine else f"{login(hold.has)}'s turn"
    return (f"{words}: extend or resume", "warn") if late else (words, "fg")


class HoldHead(Panel):
    """Who, why, since, until, whose turn; and the other holds of the same stop."""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """Two rows, and one more for each further open hold."""
        hold = shown(moment)
        if hold is None:
            cap = moment.keys.cap("stop")
            sheet.put(1, 0, f"{moment.line} was never stopped, as far as the ledger tells: {cap} stops it", "mid")
            return
        end = sheet.width - 2
        words, role = turn(moment, hold)
        if words:
            end = sheet.right(end, 0, words, role, bold=True) - 3
        by = "the immune system" if hold.kind == "immune" else login(hold.owner)
        x = sheet.parts(1, 0, ("by ", "dim"), (by, "fg", True), most=end)
        since = f"since {clock(hold.since, moment.now)}, {ago(moment.now - hold.since)}"
        x = sheet.put(x + 2, 0, since, "mid", most=end - x - 1)
        if hold.open:
            late = hold.until is not None and hold.until <= moment.now
            sheet.put(x + 2, 0, until_words(moment, hold), "warn" if late else "mid", most=end - x - 1)
        else:
            sheet.put(x + 2, 0, f"lifted {clock(hold.lifted_at or 0.0, moment.now)}", "ok", most=end - x - 1)
        why = hold.why if hold.open else f"lifted by {login(hold.lifted_by)}: {hold.lifted_why}"
        sheet.put(1, 1, why, "fg", most=sheet.width - 2)
        self._others(moment, sheet, hold)

    def _others(self, moment: Moment, sheet: Sheet, hold: Hold) -> None:
        """All open holds of the stop, if there are several: the picked one is marked."""
        found = moment.known(moment.line).open_holds
        if len(found) < 2 or hold not in found:
            return
        first = max(0, min(found.index(hold) - 1, len(found) - MOST_HOLDS))
        for y, item in enumerate(found[first : first + MOST_HOLDS], 2):
            mine = item.id == hold.id
            sheet.put(0, y, ("▌" if moment.looks.tints else ">") if mine else " ", "move")
            if mine and moment.looks.tints:
                sheet.ground(y, "sel")
            has = f"{login(item.has)} has it" if item.has else "nobody has it"
            words = f"{item.id}  {owner(item.owner, item.kind):<8}  {ago(moment.now - item.since):>6}  {has:<15}"
            x = sheet.put(2, y, words, "fg" if mine else "dim")
            sheet.put(x + 1, y, item.why, "mid", most=sheet.width - x - 2)
        more = len(found) - MOST_HOLDS
        if more > 0:
            sheet.right(sheet.width - 2, 1, f"+{more} more holds, ↑ ↓", "dim")


def rows_of_head(moment: Moment) -> int:
    """How many rows the head takes."""
    found = moment.known(moment.line).open_holds
    return 2 + (min(MOST_HOLDS, len(found)) if len(found) > 1 else 0)


def moving(moment: Moment) -> tuple[str, str]:
    """What still moves under the stop, in words, and their role."""
    line, config = moment.known(moment.line), moment.config.lines[moment.line]
    if not line.open_holds:
        return "", "dim"
    said = []
    for target in config.targets:
        halted = line.halted.get(target)
        if halted is not None and halted.moving:
            said.append(f"{target}: {', '.join(halted.moving[:3])}")
        elif not line.stands(target):
            said.append(f"{target} is not confirmed to stand")
    said += [
        f"{act.kind} to {short(act.version)}, {act.words or act.state}" for act in line.unsettled("rollback", "push")
    ]
    rolling = [item for item in line.deployments[-3:] if item.state == "rolling"]
    said += [f"{short(item.version)} rolls out" for item in rolling]
    if said:
        return "; ".join(said), "warn"
    if not config.targets:
        return "nothing that andon halts: the config names no `halts:`; the gate refuses", "mid"
    return "nothing: every target was read to stand", "mid"


class Step(NamedTuple):
    """What somebody can do next."""

    command: str
    words: str


def steps(moment: Moment) -> tuple[Step, ...]:
    """The next steps, the most useful first: at most three."""
    hold, line = shown(moment), moment.known(moment.line)
    if hold is None or not hold.open:
        return ()
    found: list[Step] = []
    if any(act.state == "unknown" for act in line.unsettled()):
        other = moment.keys.cap("did_not")
        found.append(Step("happened", f"an act is unknown: look there, then say it happened; {other} it did not"))
    if not hold.has:
        found.append(Step("take", "take it: says that you look into it"))
    if hold.until is not None and hold.until <= moment.now:
        found.append(Step("extend", "extend: the time it was meant for is over"))
    back = rollback_words(moment)
    suspect = line.deployment(hold.deployment)
    bad = suspect is not None and line.current is not None and suspect.id == line.current.id
    if back.target is not None and back.live and (bad or not line.went_back(back.target.current)):
        versions = f"{short(back.target.current.version)} → {short(back.target.to.version)}"
        found.append(Step("rollback", f"roll back {versions}, {back.target.words}"))
    count = still_moving(line, moment.config.lines[moment.line])
    resume = "resume: asks for a reason" if not count else f"resume: better after {count} more confirm"
    waits = waiting(line)
    if waits:
        noun = "change waits" if len(waits) == 1 else "changes wait"
        found.append(Step("through", f"let a fix through: {len(waits)} {noun}, newest {waits[-1].id[:4]}"))
    found.append(Step("resume", resume))
    if hold.has:
        mine = hold.has == moment.who
        found.append(Step("take", "hand it over to somebody else" if mine else f"take it over from {login(hold.has)}"))
    best = found[:3]
    return tuple(best) if any(step.command == "resume" for step in best) else (*best[:2], Step("resume", resume))


class NextSteps(Panel):
    """What still moves, and the next three steps with their keys."""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """One row for what moves, one for each step."""
        hold = shown(moment)
        if hold is None:
            return
        if not hold.open:
            self._after(moment, sheet, hold)
            return
        words, role = moving(moment)
        sheet.put(1, 0, "still moves", "dim")
        sheet.put(14, 0, words, role, bold=role == "warn", most=sheet.width - 15)
        sheet.put(1, 1, "next", "fg", bold=True)
        for y, step in enumerate(steps(moment), 1):
            command = moment.keys[step.command]
            off = command.acts and moment.read_only
            x = sheet.put(14, y, command.cap, "dim" if off else "fg", bold=not off)
            sheet.put(
                max(x + 1, 18), y, "read-only" if off else step.words, "mid", most=sheet.width - max(x + 1, 18) - 1
            )
            self.spot(14, y, sheet.width - 1, step.command)

    def _after(self, moment: Moment, sheet: Sheet, hold: Hold) -> None:
        """What is true of the line now that this hold was lifted."""
        left = moment.known(moment.line).open_holds
        if left:
            words = f"{moment.line} stays stopped: {', '.join(item.id for item in left[:3])}"
            sheet.put(1, 0, words, "warn", most=sheet.width - 2)
            return
        live = production(moment.known(moment.line))
        runs = f", on {short(live.version)}" if live is not None else ""
        sheet.put(1, 0, f"{moment.line} was resumed after {ago((hold.lifted_at or 0.0) - hold.since)}{runs}", "mid")


class Waiting(Panel):
    """The changes that wait behind the stop, and how one of them may pass."""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """Three rows."""
        line, hold = moment.known(moment.line), shown(moment)
        if hold is None or not hold.open:
            return
        found = waiting(line)
        sheet.put(1, 0, "waiting", "fg", bold=True)
        if not found:
            sheet.put(14, 0, "no change waits behind this stop", "mid")
        else:
            noun = "change" if len(found) == 1 else "changes"
            names = ", ".join(f"{change.id[:4]} {login(change.author)}".strip() for change in reversed(found[-8:]))
            sheet.put(14, 0, f"{len(found)} {noun}: {names}", "mid", most=sheet.width - 15)
        sheet.parts(
            14,
            1,
            ("a fix may pass: ", "dim"),
            (f"andon push {moment.line} VERSION --through {hold.id}", "mid"),
            (", named and recorded", "dim"),
            most=sheet.width - 15,
        )
        back = rollback.target(line, moment.now)
        sheet.put(1, 2, "way back", "fg", bold=True)
        words = back.why if isinstance(back, rollback.Nothing) else f"{short(back.to.version)}, {back.words}"
        sheet.put(14, 2, words, "mid", most=sheet.width - 15)


class DidItHelp(Panel):
    """Whether going back brought the metric back."""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """One row."""
        hold = shown(moment)
        sheet.put(1, 0, "did it help?", "fg", bold=True)
        helped = moment.known(moment.line).helped.get(hold.deployment) if hold is not None else None
        if helped is None:
            sheet.put(
                15, 0, "nothing was rolled back under this hold, or it is too early", "dim", most=sheet.width - 16
            )
            return
        sign, role = {"recovered": ("✓", "ok"), "not recovered": ("✗", "stop")}.get(helped.word, ("…", "mid"))
        x = sheet.parts(15, 0, (sign, role, True), (f" {helped.word} ", role), (f"at {clock(helped.at)}: ", "mid"))
        sheet.put(x, 0, helped.sentence, "mid", most=sheet.width - x - 1)


def wrapped(text: str, width: int, rows: int) -> list[str]:
    """`text` in at most `rows` rows of `width` cells, broken at blanks where there are some; the last may end in `…`."""
    found: list[str] = []
    row = ""
    for word in text.split(" "):
        while width_of(word) > width:
            head = "".join(cells(word)[:width]) if not row else ""
            if row:
                found.append(row)
                row = ""
                continue
            found.append(head)
            word = word[len(head) :]
        joined = f"{row} {word}" if row else word
        if width_of(joined) <= width:
            row = joined
        else:
            found.append(row)
            row = word
    found.append(row)
    if len(found) > rows:
        found = [*found[: rows - 1], " ".join(found[rows - 1 :])]
    return found


def time_of(moment: Moment, at: Time) -> str:
    """A time of today with its seconds, else with its day."""
    return second_of(at) if abs(moment.now - at) < 86400 else clock(at, moment.now)
