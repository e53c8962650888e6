"""The top bar, the bands below it, the rule between blocks, and the page of a screen that is too small."""

from typing import ClassVar, NamedTuple

from andon.clock import age
from tui.moment import Moment
from tui.panels.danger import rollback_words, shorter, stop_words
from tui.panels.facts import status
from tui.panels.panel import Panel
from tui.panels.sheet import Sheet, width_of
from tui.panels.transport import replay_words
from tui.panels.troubles import Trouble, troubles
from tui.panels.words import ago, clock, login

WIDE = 130
PERSON_FRESH_S = 15.0
"""A person whose room gave no sign of life for so long has left."""


class Bit(NamedTuple):
    """A word of the top bar."""

    label: str
    words: str
    role: str = "mid"
    sign: str = ""


def others(moment: Moment) -> list[str]:
    """Who else is in a room, by login."""
    found = []
    for key, pulse in moment.view.pulses.items():
        who = key.removeprefix("person:")
        if who != key and moment.now - pulse.at < PERSON_FRESH_S and who.partition("@")[0] != moment.who:
            found.append(login(who))
    return list(dict.fromkeys(found))


def health(moment: Moment) -> tuple[list[Bit], int, int]:
    """The sources that are not well, how many are, and how many there are."""
    state: dict[str, tuple[str, float]] = {}
    for name in moment.config.lines:
        config = moment.config.lines[name]
        wanted = {entry.source for entry in config.ci} | {metric.source for metric in config.metrics}
        if config.deploy is not None:
            wanted.add(config.deploy.source)
        known = moment.known(name).sources
        for source in wanted:
            found = known.get(source)
            if found is None:
                state.setdefault(source, ("", 0.0))
            elif found.state != "ok" or state.get(source, ("", 0.0))[0] in ("", "ok"):
                state[source] = (found.state, found.since)
    ill = [
        Bit("", f"{source} {word} {age(moment.now - since)}", "blind")
        for source, (word, since) in state.items()
        if word not in ("", "ok") and not moment.warming
    ]
    return ill, sum(word == "ok" for word, _ in state.values()), len(state)


def engine_bit(moment: Moment) -> Bit:
    """Where the engine is."""
    lease = moment.view.lease
    if moment.silent_since is not None:
        return Bit("", f"nobody watches since {age(moment.now - moment.silent_since)}", "blind", "✗")
    if lease is None:
        return Bit("immune", "starts", "dim", "·")
    if moment.view.here:
        return Bit("immune", "here", "mid", "●")
    host = lease.holder.rsplit("-", 2)[0] or lease.holder
    return Bit("immune", f"on {host}", "mid", "●")


class TopBar(Panel):
    """Where we are, who watches, who else is here, and the time."""

    kept_when_silent: ClassVar[bool] = True

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """One row on raised ground."""
        sheet.ground(0, "raise" if moment.replay is None else "warnchip")
        x = sheet.put(1, 0, "andon", "fg", bold=True)
        names = [name for name in (moment.config.name, self._environment(moment)) if name]
        if names:
            x = sheet.put(x + 2, 0, names[0], "dim", most=24)
            for name in names[1:]:
                x = sheet.put(x + 1, 0, name, "mid", most=20)
        for step in moment.path:
            x = sheet.parts(x, 0, (" › ", "dim"), (step, "fg"), most=44)
        self._right(moment, sheet, x + 1)

    def _environment(self, moment: Moment) -> str:
        found = {line.environment for line in moment.config.lines.values()}
        return found.pop() if len(found) == 1 else ""

    def _right(self, moment: Moment, sheet: Sheet, left: int) -> None:
        """From the right: what is dropped last comes first."""
        if moment.replay is not None:
            sheet.right(sheet.width - 2, 0, replay_words(moment.replay, sheet.width - 2 - left), "warn", bold=True)
            return
        now = Bit("", clock(moment.now), "fg")
        ill, well, all_ = health(moment)
        bits = [engine_bit(moment), *ill]
        if moment.read_only:
            bits.append(Bit("", "read-only", "warn"))
        if moment.view.clock_words:
            bits.append(Bit("", moment.view.clock_words, "blind"))
        unrecorded = getattr(moment.view, "unrecorded", 0)
        if unrecorded:
            bits.append(Bit("", f"{unrecorded} not recorded", "blind"))
        if not ill and all_:
            bits.append(Bit("sources", f"{well} of {all_}"))
        together = others(moment)
        if together:
            bits.append(Bit("with", ", ".join(together[:4])))
        end = sheet.right(sheet.width - 2, 0, now.words, now.role, bold=True) - 3
        room = end - left
        kept: list[Bit] = []
        for bit in bits:
            need = _width(bit) + 2
            if need <= room:
                kept.append(bit)
                room -= need
        for bit in reversed(kept):
            end = self._bit(sheet, end, bit) - 3

    def _bit(self, sheet: Sheet, end: int, bit: Bit) -> int:
        """Draw a bit so that it ends at `end`; returns its first column."""
        x = end - _width(bit) + 1
        start = x
        if bit.label:
            x = sheet.put(x, 0, f"{bit.label} ", "dim")
        if bit.sign:
            role = {"●": "ok", "✗": "blind"}.get(bit.sign, "dim")
            x = sheet.put(x, 0, f"{bit.sign} ", role)
        sheet.put(x, 0, bit.words, bit.role)
        return start


def _width(bit: Bit) -> int:
    return width_of(bit.words) + (len(bit.label) + 1 if bit.label else 0) + (2 if bit.sign else 0)


GROUNDS = {"stop": ("stopbg", "onstop"), "warn": ("warnbg", "onwarn"), "blind": ("blindbg", "onblind")}


class Bands(Panel):
    """Is anything wrong, what, since when, who has it: the worst is filled, the next one tinted."""

    kept_when_silent: ClassVar[bool] = True

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """Two rows."""
        found = troubles(moment)
        if not found:
            self._calm(moment, sheet)
            return
        strip = moment.grace() is not None
        for y, trouble in enumerate(found[:2]):
            band(moment, sheet, y, trouble, filled=y == 0 and not strip and not trouble.calm)
        if len(found) > 2:
            words = f"+{len(found) - 2} more, s sorts them first"
            sheet.right(sheet.width - 2, 1, words, _on(found[1].role, filled=False), bold=True)
        elif len(found) == 1:
            self._under(moment, sheet, found[0])

    def _calm(self, moment: Moment, sheet: Sheet) -> None:
        count = len(moment.config.lines)
        if not moment.board.lines and (moment.warming or moment.view.lease is not None):
            sources = len(moment.config.connections)
            noun = "source" if sources == 1 else "sources"
            sheet.parts(1, 0, ("·", "dim"), (f" reading {sources} {noun}", "dim"))
            return
        sign = ("·", "dim") if moment.warming and not moment.view.pulses else ("●", "ok")
        runs = sum(moment.state(name) == "running" for name in moment.config.lines)
        noun = "line runs" if count == 1 else "lines run"
        if runs == count:
            x = sheet.parts(1, 0, sign, (f" {count} {noun}", "fg", True))
            sheet.put(x, 0, ", nothing needs you", "mid")
        else:
            x = sheet.parts(1, 0, sign, (f" {runs} of {count} {noun}", "fg", True))
            sheet.put(x, 0, f", {count - runs} not read yet", "mid")
        self._figures(moment, sheet)

    def _figures(self, moment: Moment, sheet: Sheet) -> None:
        """What the last day saw: in the second row, or at the right where it is wide."""
        since = moment.now - 86400
        shipped = [
            item
            for name in moment.config.lines
            for item in moment.known(name).deployments
            if item.at > since and not item.back
        ]
        if not shipped:
            return
        judged = [
            watch.verdict.word
            for name in moment.config.lines
            for watch in moment.known(name).watches.values()
            if watch.verdict is not None and watch.began > since
        ]
        noun = "deploy" if len(shipped) == 1 else "deploys"
        parts = [("24 h ", "dim"), (str(len(shipped)), "mid"), (f" {noun}", "dim")]
        if judged:
            bad = str(judged.count("regressed"))
            parts += [(" · ", "dim"), ("regressed ", "dim"), (bad, "mid"), (f" of {len(judged)} judged", "dim")]
        if sheet.width >= WIDE:
            width = sum(width_of(text) for text, _ in parts)
            sheet.parts(sheet.width - 1 - width, 0, *parts)
        else:
            sheet.parts(3, 1, *parts)

    def _under(self, moment: Moment, sheet: Sheet, trouble: Trouble) -> None:
        """One trouble: the second row says what is well."""
        runs = sum(moment.state(name) == "running" for name in moment.config.lines)
        if trouble.rank == 0:
            still = (
                ""
                if moment.read_only
                else f" {moment.keys.cap('stop')} and {moment.keys.cap('rollback')} still act, straight from here."
            )
            sheet.put(3, 1, f"Nobody judges or undoes now.{still}", "mid", most=sheet.width - 5)
            return
        if not runs:
            return
        noun = "line runs" if runs == 1 else "lines run"
        words = f"{runs} {noun}."
        if trouble.role == "blind":
            words += " Nothing is rolled back by itself while andon cannot see."
        sheet.put(3, 1, words, "mid", most=sheet.width - 5)


def _on(role: str, *, filled: bool) -> str:
    return GROUNDS[role][1] if filled else role


def band(moment: Moment, sheet: Sheet, y: int, trouble: Trouble, *, filled: bool) -> None:
    """One trouble on its ground."""
    ground, on = GROUNDS[trouble.role]
    if not filled:
        ground, on = {"stop": "stopchip", "warn": "warnchip", "blind": "sel"}[trouble.role], trouble.role
    sheet.ground(y, ground)
    end = sheet.width - 2
    if trouble.right and 3 + width_of(trouble.what) + 3 + width_of(trouble.right) <= end + 1:
        end = sheet.right(end, y, trouble.right, on, bold=True) - 3
    x = sheet.put(1, y, f"{trouble.sign} ", on, bold=True)
    x = sheet.put(x, y, trouble.what, on, bold=True, most=end - x + 1)
    if trouble.since is not None:
        words = ago(moment.now - trouble.since)
        if sheet.width >= WIDE:
            words = f"since {clock(trouble.since, moment.now)}, {words}"
        x = sheet.put(x + 2, y, words, on, most=end - x - 1)
    if trouble.words and end - x > 8:
        sheet.put(x + 2, y, trouble.words, on, most=end - x - 1)


class Rule(Panel):
    """A rule between two blocks; above the panel of the selected line it says what lies below."""

    below: tuple[str, ...] = ()

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """One row."""
        sheet.put(0, 0, "─" * sheet.width, "rule")
        if not self.below:
            return
        stopped = sum(status(moment, name).sign == "■" for name in self.below)
        words = f" ▾ {stopped} stopped below " if stopped else f" ▾ {len(self.below)} below "
        sheet.put(3, 0, words, "stop" if stopped else "mid", bold=bool(stopped))


class Tiny(Panel):
    """A terminal with room for nothing but the troubles and the danger keys."""

    kept_when_silent: ClassVar[bool] = True
    target_seen = False
    """Whether all that F4 would do can be read."""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """The troubles, then what F9 and F4 do."""
        found = troubles(moment)
        rows = max(1, sheet.height - 3)
        grace = moment.grace()
        for y, trouble in enumerate(found[:rows]):
            since = f" {age(moment.now - trouble.since)}" if trouble.since is not None else ""
            filled = y == 0 and grace is None and not trouble.calm
            role = GROUNDS[trouble.role][1] if filled else trouble.role
            if filled:
                sheet.ground(y, GROUNDS[trouble.role][0])
            what = trouble.what if width_of(trouble.what) <= sheet.width - 4 else trouble.brief or trouble.what
            sheet.put(1, y, f"{trouble.sign} {what}{since}", role, bold=True, most=sheet.width - 2)
        if not found:
            count = len(moment.config.lines)
            sheet.parts(1, 0, ("●", "ok"), (f" {count} lines run" if count != 1 else " 1 line runs", "fg"))
        y = sheet.height - 3
        if grace is not None:
            left = int(grace.not_before - moment.now) + 1
            sheet.put(1, y, f"{moment.keys.cap('back')} withdraws, {left} s", "warn", bold=True, most=sheet.width - 2)
        words = stop_words(moment)
        at = y + (1 if sheet.height > 2 else 0)
        sheet.parts(1, at, (f"{moment.keys.cap('stop')} ", "fg", True), (words.text, words.role), most=sheet.width - 2)
        back = rollback_words(moment)
        cap = f"{moment.keys.cap('rollback')} "
        room = sheet.width - 3 - len(cap)
        text = next((item for item in (back.text, *shorter(moment, back)) if width_of(item) <= room), "")
        self.target_seen = back.target is not None and bool(text)
        last = ((cap, "fg", True), (text, back.role)) if self.target_seen else (("? more room: 60×18", "dim"),)
        sheet.parts(1, sheet.height - 1, *last, most=sheet.width - 2)
