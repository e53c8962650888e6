"""One deployment: what it is, what was shipped together with it, and what is known of it."""

from andon import rollback
from andon.board import Line
from andon.clock import age
from andon.model import Change, Deployment
from tui.moment import Moment
from tui.panels.ageing import source_age
from tui.panels.deployments import found_of
from tui.panels.panel import Panel
from tui.panels.sheet import Sheet
from tui.panels.words import ago, clock, login, short

WIDE = 100


def tag_of(moment: Moment, line: Line, item: Deployment) -> tuple[str, str]:
    """What it is now, in a word, and the word's role."""
    mark = line.marks.get(item.id)
    if item.id in line.barriers:
        return "irreversible", "warn"
    if mark is not None:
        return f"marked {mark.mark}", "stop" if mark.mark == "faulty" else "ok"
    current = line.current
    if current is not None and current.id == item.id:
        return ("current" if item.state == "settled" else "rolling"), "fg"
    return ("", "dim") if item.available else ("its artefact is gone", "warn")


def lived(moment: Moment, line: Line, item: Deployment) -> str:
    """From when to when it was live."""
    if item.state == "failed":
        return f"failed {clock(item.at, moment.now)}"
    if item.state == "rolling":
        return f"rolls out since {clock(item.at, moment.now)}"
    after = next((other for other in line.deployments if other.at > item.at and other.state == "settled"), None)
    if after is None:
        return f"live since {clock(item.at, moment.now)}, {ago(moment.now - item.at)}"
    return f"live {clock(item.at, moment.now)} – {clock(after.at, moment.now)}, {ago(after.at - item.at)}"


class Batch(Panel):
    """The head of a deployment's screen."""

    tight = False
    """Without the blank row below the head."""

    def wanted(self, moment: Moment, width: int) -> int:
        """How many rows it would fill."""
        line = moment.known(moment.line)
        item = line.deployment(moment.subject)
        if item is None:
            return 1
        changes, facts = max(1, len(line.batch(item)) + 1), len(known(moment, line, item))
        return (2 if self.tight else 3) + (max(changes - 1, facts) if width >= WIDE else changes - 1 + min(2, facts))

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """What it is in one row; below it the batch, and at its right, or in the rows that are left, what is known."""
        line = moment.known(moment.line)
        item = line.deployment(moment.subject)
        if item is None:
            sheet.put(
                1, 0, f"{moment.line} knows no deployment {moment.subject} any more", "blind", most=sheet.width - 2
            )
            return
        self._head(moment, sheet, line, item)
        wide = sheet.width >= WIDE
        middle = sheet.width * 11 // 20 if wide else sheet.width - 1
        y = 1 if self.tight else 2
        used = self._batch(moment, sheet, line, item, y, middle - 2, sheet.height - y - (0 if wide else 1))
        if wide:
            sheet.put(middle, y, "known", "fg", bold=True)
            facts = known(moment, line, item)
            for dy, (words, role) in enumerate(facts[: sheet.height - y - 1], 1):
                sheet.put(middle, y + dy, words, role, most=sheet.width - middle - 1)
            return
        for dy, (words, role) in enumerate(known(moment, line, item)[: max(1, sheet.height - y - used)]):
            sheet.put(1, min(y + used, sheet.height - 1) + dy, words, role, most=sheet.width - 2)

    def _head(self, moment: Moment, sheet: Sheet, line: Line, item: Deployment) -> None:
        sign, role, words = found_of(moment, line, item)
        tag, tag_role = tag_of(moment, line, item)
        end = sheet.width - 2
        if tag:
            end = sheet.right(end, 0, tag, tag_role, bold=True) - 2
        by = f" · by {login(item.by)}" if item.by else ""
        x = sheet.parts(1, 0, (f"{sign} ", role, role == "stop"), (short(item.version), "fg", True))
        word = words.partition(":")[0].partition(",")[0]
        loud = role if role in ("stop", "blind", "warn") else "mid"
        x = sheet.put(x + 1, 0, word, loud, bold=role == "stop", most=min(34, end - x))
        sheet.put(x + 2, 0, f"{lived(moment, line, item)}{by}", "mid", most=end - x - 2)

    def _batch(self, moment: Moment, sheet: Sheet, line: Line, item: Deployment, y: int, end: int, rows: int) -> int:
        """The changes, newest first; returns how many rows they took."""
        changes = tuple(reversed(line.batch(item)))
        x = sheet.put(1, y, "batch", "fg", bold=True)
        entry = moment.config.lines[moment.line].deploy
        if entry is not None and sheet.width < WIDE:
            source_age(moment, entry.source, entry.every_s).draw(sheet, y)
        if not changes:
            back = line.went_back(item)
            words = "a return: it shipped nothing new" if back else "which changes it ships is not known"
            sheet.put(x + 2, y, words, "dim", most=end - x - 2)
            return 1
        people = len({change.author for change in changes})
        noun, who = "change" if len(changes) == 1 else "changes", "person" if people == 1 else "people"
        words = f"{len(changes)} {noun}, {people} {who}"
        known_at = [change.at for change in changes if change.at]
        if known_at and item.at > min(known_at):
            words += f" · oldest written {ago(item.at - min(known_at))} before"
        sheet.put(x + 2, y, words, "dim", most=end - x - 2 - (14 if sheet.width < WIDE else 0))
        room = max(1, rows - 1)
        shown = changes if len(changes) <= room else changes[: max(1, room - 1)]
        for dy, change in enumerate(shown, 1):
            self._change(moment, sheet, y + dy, change, end)
        if len(shown) < min(room, len(changes)):
            sheet.put(1, y + len(shown) + 1, f"+{len(changes) - len(shown)} older", "dim")
        return min(room, len(changes)) + 1

    def _change(self, moment: Moment, sheet: Sheet, y: int, change: Change, end: int) -> None:
        sheet.put(1, y, change.id[:4], "fg", bold=True)
        sheet.put(7, y, login(change.author) or "–", "mid", most=8)
        when = age(moment.now - change.at) if change.at else ""
        stop = sheet.right(end - 1, y, when, "dim") - 2 if when else end
        sheet.put(16, y, change.title, "mid", most=stop - 16)


def known(moment: Moment, line: Line, item: Deployment) -> list[tuple[str, str]]:
    """What is known of a deployment beside its metrics, the most telling first; never empty."""
    found: list[tuple[str, str]] = []
    barrier, mark, watch = line.barriers.get(item.id), line.marks.get(item.id), line.watches.get(item.id)
    helped = line.helped.get(item.id)
    for said in (barrier, mark):
        if said is not None:
            role = {"faulty": "stop", "good": "ok"}.get(said.mark, "warn")
            found.append((f"{said.mark}: {said.why} · {login(said.who)}, {clock(said.at, moment.now)}", role))
    if helped is not None:
        role = {"recovered": "ok", "not recovered": "stop"}.get(helped.word, "mid")
        found.append((f"{helped.word} after going back: {helped.sentence}", role))
    if watch is not None:
        if watch.did:
            found.append((f"andon {watch.did}", "mid"))
        whole = round((watch.until - watch.began) / 60)
        left = max(0, round((watch.until - moment.now) / 60))
        found.append((f"watched {whole} min" if watch.ended else f"watched: {left} of {whole} min left", "dim"))
    found.append(return_words(moment, line, item))
    if item.verified is not None:
        found.append(("its vendor says ok" if item.verified else "its vendor does not call it good", "dim"))
    if item.words:
        found.append((f"its words: {item.words}", "dim"))
    entry = moment.config.lines[moment.line].deploy
    if entry is not None:
        age_ = source_age(moment, entry.source, entry.every_s)
        found.append((age_.words, age_.role))
    return found


def return_words(moment: Moment, line: Line, item: Deployment) -> tuple[str, str]:
    """Whether the line can be rolled back to it, and why not."""
    target = rollback.to_version(line, item.version, moment.now)
    if isinstance(target, rollback.Nothing):
        return f"no return to it: {target.why}", "dim"
    return f"{moment.keys.cap('return_to')} rolls back to it: it is still there", "mid"


def cannot_return(moment: Moment, deployment: str) -> str:
    """Why the line cannot be rolled back to a deployment now; empty: it can."""
    line = moment.known(moment.line)
    item = line.deployment(deployment)
    if item is None:
        return "it is not known any more"
    if moment.config.lines[moment.line].deploy is None:
        return "no deploy target in the config"
    on_way = line.unsettled("rollback", "push")
    if on_way:
        going = "rolling back" if on_way[0].kind == "rollback" else "shipping"
        return f"already {going} to {short(on_way[0].version)}"
    target = rollback.to_version(line, item.version, moment.now)
    return target.why if isinstance(target, rollback.Nothing) else ""
