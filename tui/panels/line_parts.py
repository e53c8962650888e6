"""The parts of the line screen: stations with their piles, deployments with their verdicts, the proof of a stop, charts."""

from typing import ClassVar

from andon import rollback
from andon.board import Line
from andon.model import Deployment
from tui.moment import Moment
from tui.panels import belt as belts
from tui.panels import plot
from tui.panels.belt import Piece
from tui.panels.effects import Effect, Proof, effects
from tui.panels.facts import (
    SIGN,
    Reading,
    going_back,
    production,
    readings,
    status,
    stop_word,
    verdict_words,
)
from tui.panels.floor_row import how_far
from tui.panels.line_facts import metric_title
from tui.panels.panel import Panel
from tui.panels.sheet import Sheet, width_of
from tui.panels.words import ago, login, second_of, short

WIDE = 130


def columns(width: int) -> tuple[int, ...]:
    """Where the six stations begin."""
    base = (1, 14, 26, 41, 54, 68) if width < WIDE else (2, 36, 60, 88, 110, 136)
    last = 80 if width < WIDE else 160
    return tuple(round(x * width / last) if width != last and x > 2 else x for x in base)


class Stations(Panel):
    """The belt as a head-line, and the pieces stacked under each station, oldest on top."""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """Four rows."""
        name = moment.line
        line = moment.known(name)
        starts = columns(sheet.width)
        names = (*belts.STATIONS, "production", "measured")
        held = bool(line.open_holds) or status(moment, name).sign == "■"
        for index, (title, x) in enumerate(zip(names, starts, strict=True)):
            end = sheet.put(x, 0, title, "fg" if sheet.width >= WIDE else "mid", bold=True)
            if index == 5:
                break
            stop = starts[index + 1] - 2
            room = stop - end
            if room < 2:
                continue
            broken = held and index == 2
            sheet.put(end + 1, 0, ("╌" if broken else "─") * (room - 1), "rail")
            sheet.put(stop, 0, "■" if broken else "▸", "stop" if broken else "rail", bold=broken)
        found = belts.pieces(line)
        for station in range(4):
            self._pile(
                moment, sheet, starts[station], starts[station + 1] - 1, belts.at_station(found, station), station
            )
        self._production(moment, sheet, starts[4], starts[5] - 1, line)
        for y, item in enumerate(readings(moment, name)[: sheet.height - 1]):
            self._measured(sheet, starts[5], y + 1, item)

    def _pile(self, moment: Moment, sheet: Sheet, x: int, end: int, here: tuple[Piece, ...], station: int) -> None:
        rows = sheet.height - 1
        if not here:
            if station == 3:
                held = bool(moment.known(moment.line).open_holds)
                sheet.put(x, 1, stop_word(moment, moment.line).lower() if held else "free", "stop" if held else "dim")
            return
        head = next((piece for piece in here if piece.state in ("works", "failed")), None)
        if head is not None or station == 3:
            self._at_work(moment, sheet, x, end, head or here[0], len(here) - 1)
            return
        shown = here[:rows] if len(here) <= rows else here[: rows - 1]
        for y, piece in enumerate(shown):
            after = belts.chip(sheet, x, y + 1, piece, brackets=not moment.looks.tints)
            if piece.state == "passed":
                sheet.put(after + 1, y + 1, "✓", "ok")
                after += 2
            author = login(piece.change.author)
            if end - after - 1 >= min(4, len(author)):
                after = sheet.put(after + 1, y + 1, author, "mid", most=end - after - 1)
            if sheet.width >= WIDE:
                sheet.put(after + 2, y + 1, piece.change.title, "dim", most=end - after - 2)
        if len(shown) == 1 and here[0].state == "passed" and here[0].began:
            sheet.put(x, 2, f"waits {ago(moment.now - here[0].began)}", "dim", most=end - x)
        if len(shown) < len(here):
            sheet.put(x, rows, f"+{len(here) - len(shown)} more", "dim", most=end - x)

    def _at_work(self, moment: Moment, sheet: Sheet, x: int, end: int, head: Piece, more: int) -> None:
        """One piece at work or failed: its belt, its stage, how long."""
        after = belts.chip(sheet, x, 1, head, brackets=not moment.looks.tints)
        if head.state == "failed":
            after = sheet.put(after, 1, "✗", "stop", bold=True)
        share = head.share(moment.now)
        if share is not None:
            sheet.put(after, 1, "─" * max(0, end - after), "rail")
            belts.worked(sheet, after, 1, end - after, share)
        sheet.put(
            x,
            2,
            f"{head.what} failed" if head.state == "failed" else head.what,
            "stop" if head.state == "failed" else "mid",
            most=end - x,
        )
        if head.state == "works" and head.began:
            sheet.put(x, 3, how_far(moment, head) + (f", +{more}" if more else ""), "dim", most=end - x)
        elif more:
            sheet.put(x, 3, f"+{more} more", "dim", most=end - x)

    def _production(self, moment: Moment, sheet: Sheet, x: int, end: int, line: Line) -> None:
        live = production(line)
        if live is None:
            sheet.put(x, 1, "nothing yet", "dim", most=end - x)
            return
        after = sheet.put(x, 1, short(live.version), "fg", bold=True)
        after = sheet.put(after + 1, 1, ago(moment.now - live.at), "mid", most=end - after - 1)
        if sheet.width >= WIDE:
            sheet.put(after + 2, 1, login(live.by), "mid", most=end - after - 2)
        elif live.by:
            sheet.put(x, 3, f"by {login(live.by)}", "dim", most=end - x)
        back = going_back(line)
        if back is not None:
            sheet.put(x, 2, f"{short(back.version)} ◀━ {short(live.version)}", "warn", bold=True, most=end - x)
            return
        before = [item for item in line.deployments if item.at < live.at and item.state == "settled"]
        if before:
            sheet.put(x, 2, f"was {short(before[-1].version)}", "dim", most=end - x)

    def _measured(self, sheet: Sheet, x: int, y: int, item: Reading) -> None:
        sheet.put(x, y, item.sign, item.role, bold=item.role in ("stop", "blind"))
        name = item.metric.name if sheet.width >= WIDE else item.metric.label
        x = sheet.put(x + 2, y, name, "mid", most=sheet.width - x - 3)
        if item.sample is not None and not item.hidden:
            from tui.panels.words import value

            room = sheet.width - x - 2
            if sheet.width >= 100 and room > 4:
                sheet.put(x + 1, y, value(item.metric, item.sample, room), "dim" if item.stale else "fg", most=room)


class Deployments(Panel):
    """What was shipped: version, how long ago, by whom, how many changes, and what was found of it."""

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
            sheet.put(0, y, "▌", "move")
        elif picked:
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
        tag, role = self._tag(line, item, to, is_current=is_current)
        end = sheet.width - 2
        if tag:
            end = sheet.right(end, y, tag, role, bold=role != "mid") - 2
        sign, sign_role, words = self._verdict(moment, line, item, is_current=is_current)
        sheet.put(33, y, sign, sign_role, bold=sign_role == "stop")
        sheet.put(35, y, words, "stop" if sign_role == "stop" else "mid", most=end - 35)

    def _tag(self, line: Line, item: Deployment, to: str, *, is_current: bool) -> tuple[str, str]:
        mark = line.marks.get(item.id)
        if mark is not None and mark.mark == "faulty":
            return "faulty", "stop"
        if is_current:
            return ("current" if item.state == "settled" else "rolling"), "fg"
        if item.id == to:
            return "F4 target", "mid"
        if mark is not None:
            return mark.mark, "mid"
        if not item.available:
            return "gone", "dim"
        return "", "dim"

    def _verdict(self, moment: Moment, line: Line, item: Deployment, *, is_current: bool) -> tuple[str, str, str]:
        if item.state == "failed":
            return "✗", "stop", f"failed{f': {item.words}' if item.words else ''}"
        if line.went_back(item):
            helped = [found for found in line.helped.values() if found.at >= item.at]
            if helped and is_current:
                sign, role = {"recovered": ("✓", "ok"), "not recovered": ("✗", "stop")}.get(
                    helped[-1].word, ("…", "mid")
                )
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


class HoldProof(Panel):
    """The four effects of the stop, target by target: the proof is when, not a tick."""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """A header, the effects, and the holds that are open."""
        found = effects(moment, moment.line)
        if not found:
            sheet.put(1, 0, "not stopped: F9 stops it", "dim")
            return
        for x, text in ((1, "effect"), (15, "target"), (37, "asked"), (48, "accepted")):
            sheet.put(x, 0, text, "dim")
        sheet.put(59, 0, "confirmed by a read", "dim")
        y = 1
        spare = sheet.height - 2 - sum(max(1, len(effect.proofs)) for effect in found)
        for effect in found:
            if y >= sheet.height:
                return
            y = self._effect(sheet, y, effect, least=spare < 0)
        holds = moment.known(moment.line).open_holds
        if spare > len(holds):
            y += 1
            for hold in holds:
                has = f" · {login(hold.has)} has it" if hold.has else " · nobody has it"
                sheet.parts(
                    1,
                    y,
                    (f"hold {hold.id} ", "dim"),
                    (f"by {login(hold.owner)}", "mid"),
                    (f": {hold.why}", "mid"),
                    (has, "dim"),
                    most=sheet.width - 2,
                )
                y += 1

    def _effect(self, sheet: Sheet, y: int, effect: Effect, *, least: bool) -> int:
        sheet.put(1, y, effect.sign, effect.role, bold=effect.role in ("stop", "blind"))
        sheet.put(3, y, effect.name, "fg", bold=True)
        if not effect.proofs:
            sheet.put(15, y, effect.note, "mid", most=sheet.width - 16)
            return y + 1
        proofs = effect.proofs
        done = [item for item in proofs if item.confirmed is not None]
        if least and len(done) > 2:
            # Too little room for all: what is not proven stays in sight, what is becomes a number.
            proofs = (*(item for item in proofs if item.confirmed is None), done[0])
            sheet.put(15, y + len(proofs), f"+{len(done) - 1} confirmed", "dim")
            y_after = y + len(proofs) + 1
        else:
            y_after = y + len(proofs)
        for dy, item in enumerate(proofs):
            self._proof(sheet, y + dy, item)
        return y_after

    def _proof(self, sheet: Sheet, y: int, item: Proof) -> None:
        done = item.confirmed is not None
        sheet.put(15, y, item.target, "mid" if done else "fg", most=21)
        sheet.put(37, y, second_of(item.asked) or "–", "dim")
        sheet.put(48, y, second_of(item.accepted) or "–", "dim")
        if done:
            x = sheet.put(59, y, second_of(item.confirmed), "mid")
            sheet.put(x + 1, y, "✓", "ok")
            return
        sign = {"stop": "✗ ", "blind": "? ", "mid": "· "}.get(item.role, "… ")
        sheet.put(59, y, f"{sign}{item.words}", item.role, bold=item.role != "mid", most=sheet.width - 60)


class MetricChart(Panel):
    """The chart of the chosen metric; of three where there is room."""

    most: ClassVar[int] = 3

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """Title, marks, plot, times."""
        items = readings(moment, moment.line)
        if not items:
            sheet.put(1, 0, "no metric is configured: three lines under `metrics:` add one", "dim")
            return
        count = min(self.most, len(items), max(1, sheet.height // 9))
        first = moment.metric % len(items)
        each = sheet.height // count
        for index in range(count):
            item = items[(first + index) % len(items)]
            self._one(
                moment,
                sheet,
                index * each,
                each - (index < count - 1),
                item,
                labels=index == 0,
                place=(first + index) % len(items),
            )

    def _one(
        self, moment: Moment, sheet: Sheet, y: int, height: int, item: Reading, *, labels: bool, place: int
    ) -> None:
        wide = sheet.width >= 60
        x = metric_title(sheet, 1, y, item, sheet.width - 12)
        if item.sign in "✗?" or item.stale:
            words = f"stale {item.stale}" if item.stale else (item.verdict.word if item.verdict else "no data")
            sheet.put(x + 2, y, f"{item.sign} {words}", item.role, bold=True, most=sheet.width - x - 14)
        count = len(readings(moment, moment.line))
        if wide and count > 1:
            right = f"60 min · {place + 1} of {count}"
            if x + width_of(right) + 4 < sheet.width:
                sheet.right(sheet.width - 2, y, right, "dim")
        frame = plot.Frame(0, y + 1, sheet.width - 1, height - 1, 8, moment.now - 3600.0, moment.now)
        plot.draw(moment, sheet, frame, moment.line, item.metric, labels=labels)
