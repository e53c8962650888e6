"""What was shipped on a line, and what was found of it."""

from andon import rollback
from andon.board import Line
from andon.model import Deployment
from tui.moment import Moment
from tui.panels.facts import (
    SIGN,
    verdict_words,
)
from tui.panels.panel import Panel
from tui.panels.sheet import Sheet
from tui.panels.words import ago, login, short


class Deployments(Panel):
    """What was shipped: version, how long ago, by whom, how many changes, and what was found of it."""

    selects = True
    """Whether the selection is here."""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """A header, then the newest first; the picked one stays in sight."""
        line = moment.known(moment.line)
        for x, text in ((2, "version"), (11, "live"), (21, "by"), (33, "verdict")):
            sheet.put(x, 0, text, "dim")
        sheet.right(30, 0, "batch", "dim")
        listed = tuple(reversed(line.deployments))
        if not listed:
            sheet.put(2, 1, "nothing shipped yet; the first deployment will be watched", "dim", most=sheet.width - 3)
            whole = round(moment.config.lines[moment.line].watch_s / 60)
            sheet.put(2, 2, f"for {whole} min", "dim")
            return
        rows = sheet.height - 1
        top = max(0, min(moment.picked - rows + 1, len(listed) - rows)) if moment.picked >= rows else 0
        target = rollback.target(line, moment.now)
        to = target.to.id if isinstance(target, rollback.Target) else ""
        for y, item in enumerate(listed[top : top + rows]):
            self._row(moment, sheet, y + 1, line, item, to, picked=top + y == moment.picked)
        if len(listed) > top + rows:
            sheet.right(sheet.width - 2, 0, f"{len(listed) - top - rows} more ▾", "dim")

    def _row(
        self, moment: Moment, sheet: Sheet, y: int, line: Line, item: Deployment, to: str, *, picked: bool
    ) -> None:
        if picked and moment.looks.tints:
            sheet.ground(y, "sel")
            if self.selects:
                sheet.put(0, y, "▌", "move")
        elif picked and self.selects:
            sheet.put(0, y, ">", "fg", bold=True)
        current = line.current
        is_current = current is not None and current.id == item.id
        sheet.put(2, y, short(item.version), "fg", bold=is_current, most=8)
        words = ago(moment.now - item.at) if item.state != "rolling" else "rolling"
        sheet.put(11, y, words, "mid" if item.state == "settled" else "move", most=9)
        sheet.put(21, y, login(item.by), "mid", most=7)
        batch = line.batch(item)
        if batch and not line.went_back(item):
            sheet.right(30, y, str(len(batch)), "mid")
        cap = moment.keys.cap("rollback")
        tag, role = self._tag(line, item, to, cap, is_current=is_current)
        end = sheet.width - 2
        if tag:
            end = sheet.right(end, y, tag, role, bold=role != "mid") - 2
        sign, sign_role, words = found_of(moment, line, item)
        sheet.put(33, y, sign, sign_role, bold=sign_role == "stop")
        sheet.put(35, y, words, "stop" if sign_role == "stop" else "mid", most=end - 35)

    def _tag(self, line: Line, item: Deployment, to: str, cap: str, *, is_current: bool) -> tuple[str, str]:
        mark = line.marks.get(item.id)
        if mark is not None and mark.mark == "faulty":
            return "faulty", "stop"
        if is_current:
            return ("current" if item.state == "settled" else "rolling"), "fg"
        if item.id == to:
            return f"{cap} target", "mid"
        if mark is not None:
            return mark.mark, "mid"
        if not item.available:
            return "gone", "dim"
        return "", "dim"


def found_of(moment: Moment, line: Line, item: Deployment) -> tuple[str, str, str]:
    """What was found of a deployment: its sign, the sign's role, and the words."""
    current = line.current
    is_current = current is not None and current.id == item.id
    if item.state == "failed":
        return "✗", "stop", f"failed{f': {item.words}' if item.words else ''}"
    if line.went_back(item):
        helped = [found for found in line.helped.values() if found.at >= item.at]
        if helped and is_current:
            sign, role = {"recovered": ("✓", "ok"), "not recovered": ("✗", "stop")}.get(helped[-1].word, ("…", "mid"))
            return sign, role, f"went back: {helped[-1].word}"
        return "◂", "warn", "went back"
    watch = line.watches.get(item.id)
    if watch is None:
        if item.verified:
            return "✓", "ok", "vendor says ok"
        return "·", "dim", "not watched"
    if is_current and not watch.ended:
        bad = [found for found in watch.verdicts.values() if found.word in ("regressed", "blind")]
        sign, role = SIGN[bad[0].word] if bad else ("…", "mid")
        return sign, role, bad[0].sentence if bad else verdict_words(moment, moment.line)
    verdict = watch.verdict or next((v for v in watch.verdicts.values() if v.word == "regressed"), None)
    if verdict is None:
        return "…", "mid", "undecided: the watch was cut short"
    sign, role = SIGN[verdict.word]
    did = f", {watch.did}" if watch.did else ""
    return sign, role, f"{verdict.word}: {verdict.sentence}{did}"
