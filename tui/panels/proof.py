"""The proof of a stop: four effects, target by target."""

from tui.moment import Moment
from tui.panels.effects import Effect, Proof, effects, lifted
from tui.panels.hold import shown
from tui.panels.panel import Panel
from tui.panels.sheet import Sheet
from tui.panels.words import login, second_of

NARROW = 78
"""Below so many columns only the last of the three times is told."""


def rows_of_proof(moment: Moment, panel: "HoldProof") -> int:
    """How many rows the proof takes when nothing of it is left out."""
    found = panel.found(moment)
    return 1 + sum(max(1, len(effect.proofs)) for effect in found) if found else 1


class HoldProof(Panel):
    """The four effects of the stop, target by target: the proof is when, not a tick."""

    about_shown = False
    """Whether it is about the hold that its screen shows, also after it was lifted."""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """A header, the effects, and the holds that are open."""
        found = self.found(moment)
        if not found:
            sheet.put(1, 0, f"not stopped: {moment.keys.cap('stop')} stops it", "dim")
            return
        narrow = sheet.width < NARROW
        for x, text in ((1, "effect"), (15, "target"), *(() if narrow else ((37, "asked"), (48, "accepted")))):
            sheet.put(x, 0, text, "dim")
        sheet.put(37 if narrow else 59, 0, "confirmed by a read", "dim")
        y = 1
        spare = sheet.height - 2 - sum(max(1, len(effect.proofs)) for effect in found)
        for effect in found:
            if y >= sheet.height:
                return
            y = self._effect(sheet, y, effect, least=spare < 0)
        holds = moment.known(moment.line).open_holds
        if spare > len(holds) and not self.about_shown:
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

    def found(self, moment: Moment) -> tuple[Effect, ...]:
        """The effects that are drawn."""
        hold = shown(moment) if self.about_shown else None
        line = moment.known(moment.line)
        if hold is not None and hold.stop != line.stop:
            return lifted(line, hold)
        return effects(moment, moment.line)

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
        narrow = sheet.width < NARROW
        sheet.put(15, y, item.target, "mid" if done else "fg", most=21)
        if not narrow:
            sheet.put(37, y, second_of(item.asked) or "–", "dim")
        if not narrow and (item.accepted is not None or not item.words):
            sheet.put(48, y, second_of(item.accepted) or "–", "dim")
        if done:
            x = sheet.put(37 if narrow else 59, y, second_of(item.confirmed), "mid")
            sheet.put(x + 1, y, "✓", "ok")
            return
        sign = {"stop": "✗ ", "blind": "? ", "mid": "· "}.get(item.role, "… ")
        x = 37 if narrow else 59 if item.accepted is not None else 48
        sheet.put(x, y, f"{sign}{item.words}", item.role, bold=item.role != "mid", most=sheet.width - x - 1)
