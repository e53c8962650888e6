"""The last two rows: what the danger keys would do now, and the keys of this screen; and the strip of a rollback's grace."""

from typing import ClassVar, NamedTuple

from andon import rollback
from andon.clock import Time
from andon.config import LineConfig
from andon.model import Act
from tui.commands import REPLAY, Command, of
from tui.engine import View
from tui.moment import Moment
from tui.panels.facts import regressed_now, still_moving, stop_word
from tui.panels.glyphs import glyph
from tui.panels.panel import Panel
from tui.panels.sheet import Sheet, width_of
from tui.panels.transport import transport
from tui.panels.words import steady

STALE_INTERVALS = 3
"""Data older than so many intervals is read again before a rollback."""


class Words(NamedTuple):
    """What a danger key does now."""

    text: str
    live: bool
    """Whether it has its cap."""
    role: str
    target: rollback.Target | None = None
    stale: bool = False


def stop_words(moment: Moment) -> Words:
    """What F9 does now."""
    name = moment.line
    if not name:
        return Words("no line is selected", False, "dim")
    if moment.read_only:
        return Words("read-only", False, "dim")
    if name in moment.board.read_only:
        return Words(f"read-only for {name}", False, "dim")
    held = moment.known(name).open_holds
    if not held and name not in moment.pressed:
        return Words(f"stop {name}", True, "mid")
    word = stop_word(moment, name).lower()
    text = f"{name} is {word}"
    if held and all(hold.owner != moment.who for hold in held):
        text += ": adds your hold"
    elif word == "stopping":
        moving = still_moving(moment.known(name), moment.config.lines[name])
        text += f": {moving} still move" if moving != 1 else ": 1 still moves"
    return Words(text, False, "dim")


def rollback_words(moment: Moment) -> Words:
    """What F4 does now."""
    name = moment.line
    if not name:
        return Words("no line is selected", False, "dim")
    if moment.read_only or name in moment.board.read_only:
        return Words("read-only", False, "dim")
    if moment.asks:
        return Words(f"not while {moment.asks} is open", False, "dim")
    config = moment.config.lines[name]
    if config.deploy is None:
        return Words("no deploy target in the config", False, "dim")
    line = moment.known(name)
    on_way = line.unsettled("rollback", "push")
    if on_way:
        act = on_way[0]
        going = "rolling back" if act.kind == "rollback" else "shipping"
        return Words(f"already {going} to {steady(act.version)}", False, "dim")
    found = rollback.target(line, moment.now)
    if isinstance(found, rollback.Nothing):
        return Words(found.why, False, "dim")
    versions = f"{steady(found.current.version)} → {steady(found.to.version)}"
    stale = data_age(config, moment.view, moment.now) > STALE_INTERVALS * config.deploy.every_s
    if stale:
        return Words(f"reads {name} first, then {versions}", True, "mid", found, True)
    return Words(f"roll back {name} {versions}, {found.words}", True, "mid", found)


def data_at(config: LineConfig, view: View, now: Time) -> Time:
    """When what runs there was read last; 0: never, as far as is known."""
    if config.deploy is None:
        return now
    pulse = view.pulses.get(f"source:{config.name}/{config.deploy.source}")
    return pulse.at if pulse else 0.0


def data_age(config: LineConfig, view: View, now: Time) -> float:
    """How old the read of what runs is, in seconds; a million if it never was."""
    at = data_at(config, view, now)
    return max(0.0, now - at) if at else 1e6


def grace_s(moment: Moment, name: str, usual_s: float) -> float:
    """How long a rollback can be withdrawn: not at all when what runs is known to be bad."""
    return 0.0 if regressed_now(moment.known(name)) is not None else usual_s


def shorter(moment: Moment, words: Words) -> tuple[str, ...]:
    """The same with fewer words: what runs and what comes are never left out."""
    if words.target is None:
        return ()
    found = words.target
    versions = f"{steady(found.current.version)} → {steady(found.to.version)}"
    if words.stale:
        return (f"reads first, then {versions}",)
    return (
        f"roll back {moment.line} {versions}",
        f"roll back {versions}, {found.words}",
        f"roll back {versions}",
    )


class DangerRow(Panel):
    """What F9 and F4 would do, for the selected line, from the record that the act will use."""

    kept_when_silent: ClassVar[bool] = True
    target_seen = False
    """Whether all that F4 would do can be read."""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """One row on raised ground."""
        if moment.replay is not None:
            transport(moment, moment.replay, sheet)
            return
        sheet.ground(0, "raise")
        stop = stop_words(moment)
        if sheet.width < 80:
            stop = stop._replace(text=stop.text.partition(":")[0])
        x = self._key(moment, sheet, 1, stop, "stop")
        back = rollback_words(moment)
        room = sheet.width - x - 7 - width_of(moment.keys.cap("rollback"))
        text = next((words for words in (back.text, *shorter(moment, back)) if width_of(words) <= room), back.text)
        self.target_seen = back.target is not None and width_of(text) <= room
        self._key(moment, sheet, x + 3, back._replace(text=text), "rollback")

    def _key(self, moment: Moment, sheet: Sheet, x: int, words: Words, command: str) -> int:
        start, key = x, moment.keys.cap(command)
        tinted = moment.looks.tints
        if words.live:
            cap = f" {key} " if tinted else f"[{key}]"
            x = sheet.put(x, 0, cap, "fg", bold=True, bg="chip" if tinted else "")
        else:
            x = sheet.put(x, 0, f" {key} ", "dim")
        room = sheet.width - x - 2
        x = sheet.put(x + 1, 0, words.text, "fg" if words.live else "dim", most=room)
        self.spot(start, 0, x, command)
        return x


_PLAYING = ("pause", "step_back", "next_event", "previous_event", "faster", "slower")
"""What a replay has in the key row, on each screen."""


class KeyRow(Panel):
    """The keys of this screen, the most useful first; or the sentence that `q` asks with."""

    kept_when_silent: ClassVar[bool] = True
    question = ""
    """What `q` asks; empty: the keys."""

    def __init__(self, *args: object, where: str, first: tuple[str, ...], **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.where = where
        self.first = first
        """Ids of commands, the most useful first."""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """One row."""
        if self.question:
            sheet.put(1, 0, self.question, "warn", bold=True, most=sheet.width - 2)
            return
        x = 1
        for command in self._shown(moment, sheet.width):
            start = x
            x = sheet.put(x, 0, command.cap, "fg", bold=True)
            x = sheet.put(x + 1, 0, command.row, "dim")
            self.spot(start, 0, x, command.id)
            x += 2

    def _shown(self, moment: Moment, width: int) -> list[Command]:
        """As many as fit; the last ones fall off, `enter` and `?` never."""
        wanted = [command for command in self._useful(moment) if command.row]
        while len(wanted) > 8 or sum(width_of(c.cap) + len(c.row) + 3 for c in wanted) > width - 1:
            droppable = [c for c in wanted if c.id not in ("open", "keys", "confirm", "back", "happened", "did_not")]
            if not droppable:
                break
            wanted.remove(droppable[-1])
        return wanted

    def _useful(self, moment: Moment) -> list[Command]:
        replay = moment.replay is not None
        there = {command.id for command in (*of(self.where), *(of(REPLAY) if replay else ()))}
        held = bool(moment.line) and bool(moment.known(moment.line).open_holds)
        unknown = bool(moment.line) and any(act.state == "unknown" for act in moment.known(moment.line).unsettled())
        found: list[Command] = []
        for id_ in (*(_PLAYING if replay else ()), *self.first):
            command = moment.keys[id_]
            if not command.key:
                continue
            if id_ not in there or (command.acts and moment.read_only):
                continue
            called = moment.called() is not None
            if id_ == "clear" and not called:
                continue
            if id_ == "call" and (held or called):
                continue
            of_hold = id_ in ("resume", "take", "hold", "why", "extend", "through")
            if of_hold and not held and not (called and id_ == "take"):
                continue
            if id_ in ("happened", "did_not"):
                if unknown:
                    found.append(command._replace(row=command.title))
                continue
            found.append(command)
        return found


class Grace(Panel):
    """The seconds in which a rollback can be withdrawn; it stands in every room."""

    kept_when_silent: ClassVar[bool] = True

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """Four rows, filled."""
        act = moment.grace()
        if act is None:
            return
        for y in range(sheet.height):
            sheet.ground(y, "warnbg")
        left = act.not_before - moment.now
        for y, row in enumerate(glyph(str(min(9, int(left) + 1)))):
            sheet.put(3, y, row, "onwarn", bold=True)
        x = 10
        what = f"rolling back {act.line}, {act.environment or moment.config.lines[act.line].environment}"
        end = sheet.put(x, 0, what, "onwarn", bold=True, most=sheet.width - x - 2)
        sheet.put(end + 3, 0, self._versions(moment, act), "onwarn", most=sheet.width - end - 5)
        whole = max(0.1, act.not_before - act.at)
        room = sheet.width - x - 4
        full = max(0, min(room, round(room * min(1.0, (int(left) + 1) / max(1.0, whole)))))
        sheet.put(x, 1, "━" * full, "onwarn", bold=True)
        sheet.put(x + full, 1, "─" * (room - full), "onwarn")
        cap = moment.keys.cap("back")
        end = sheet.put(x, 2, f" {cap} ", "warnbg", bold=True, bg="onwarn")
        if not moment.looks.tints:
            end = sheet.put(x, 2, f"[{cap}]", "onwarn", bold=True)
        sheet.put(end + 1, 2, "withdraw the rollback; the line stays held", "onwarn", most=sheet.width - end - 3)
        self.spot(x, 2, end + 20, "back")
        words = f"nothing has been sent yet · {moment.keys.cap('rollback')} again changes nothing"
        if act.who != moment.who:
            words = f"asked by {act.who} · {words}"
        sheet.put(x, 3, words, "onwarn", most=sheet.width - x - 2)

    def _versions(self, moment: Moment, act: Act) -> str:
        current = moment.known(act.line).deployment(act.expected)
        return f"{steady(current.version)} → {steady(act.version)}" if current else f"→ {steady(act.version)}"
