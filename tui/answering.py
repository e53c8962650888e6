"""Commands about calls, holds and all lines at once: what each does, when a key, a click or the palette asks for it."""

from typing import TYPE_CHECKING

from andon.model import Hold
from tui.moment import Moment
from tui.panels.hold import shown
from tui.panels.words import login
from tui.screens.about import AboutScreen
from tui.screens.change import ChangeScreen, end_of
from tui.screens.deployment import DeploymentScreen
from tui.screens.events import EventsScreen
from tui.screens.everything import EverythingScreen
from tui.screens.frame import RoomScreen
from tui.screens.hold import HoldScreen
from tui.screens.line import LineScreen
from tui.screens.run import RunScreen

if TYPE_CHECKING:
    from tui.app import Room
    from tui.panels.record import About


class Answering:
    """The commands of a room that answer a call, change a hold, or look at what happened."""

    room: "Room"

    # ---- calls

    def do_call(self, moment: Moment) -> None:
        """Call for help on the selected line."""
        if not moment.line:
            self.room.tell("no line is selected")
            return
        open_ = moment.known(moment.line).call
        if open_ is not None:
            self.room.tell(f"{login(open_.who)} called already: nothing is changed by calling again")
            return
        self.room.follow(self.room.engine.call(moment.line), f"call on {moment.line}")

    def do_clear(self, moment: Moment) -> None:
        """Clear the call that the screen names."""
        call = moment.called()
        if call is None:
            self.room.tell("nobody has called for help")
            return
        self.room.follow(self.room.engine.clear_call(call.line, call.id), f"clear the call on {call.line}")

    def do_take(self, moment: Moment) -> None:
        """Say that we have it: the hold that is shown, else every one that nobody has; what we have we hand over."""
        line = moment.known(moment.line)
        if isinstance(self.room.screen, HoldScreen):
            hold = shown(moment)
            held: tuple[Hold, ...] = (hold,) if hold is not None and hold.open else ()
        else:
            held = line.open_holds
        if not held and line.call is not None:
            self.room.follow(self.room.engine.take_call(moment.line, line.call.id), f"take the call on {moment.line}")
        elif not held:
            self.room.tell(f"{moment.line} has no hold to take")
        elif all(item.has == moment.who for item in held):
            self._ask("hand over", moment, held[0])
        else:
            for item in [item for item in held if not item.has] or list(held):
                self.room.follow(self.room.engine.take(moment.line, item.id), f"take {moment.line}")

    # ---- the hold

    def do_hold(self, moment: Moment) -> None:
        """The screen of the hold."""
        if not moment.known(moment.line).holds:
            self.room.tell(f"{moment.line} was never stopped, as far as the ledger tells")
            return
        self.open_hold("")

    def open_hold(self, hold: str) -> None:
        """Show a hold of the selected line; empty: the first open one, or the last."""
        self.room.hold = hold
        if not isinstance(self.room.screen, HoldScreen):
            self.room.push_screen(HoldScreen(self.room.painter))

    def move_hold(self, moment: Moment, step: int) -> None:
        """Another open hold of the same stop."""
        found, now = moment.known(moment.line).open_holds, shown(moment)
        if now in found:
            self.room.hold = found[max(0, min(len(found) - 1, found.index(now) + step))].id

    def do_why(self, moment: Moment) -> None:
        """Another reason."""
        self._ask_of_hold("why", moment)

    def do_extend(self, moment: Moment) -> None:
        """Another end."""
        self._ask_of_hold("extend", moment)

    def do_through(self, moment: Moment) -> None:
        """A fix that passes."""
        self._ask_of_hold("through", moment)

    def _ask_of_hold(self, what: str, moment: Moment) -> None:
        hold = shown(moment)
        if hold is None or not hold.open:
            self.room.tell(f"{moment.line} has no open hold")
            return
        self._ask(what, moment, hold)

    def _ask(self, what: str, moment: Moment, hold: Hold) -> None:
        self.room.push_screen(ChangeScreen(self.room.painter, what, moment.line, hold))

    def confirm_change(self, screen: ChangeScreen, moment: Moment) -> None:
        """What was asked for is confirmed: do it, or say what is missing."""
        head, engine = screen.head, self.room.engine
        hold = head.target(moment)
        if hold is None:
            head.refused = f"hold {head.hold} was lifted meanwhile"
            return
        answer = head.answer(moment)
        if head.what == "why":
            if not screen.reason:
                head.refused = "a reason is needed: why the line is held"
                return
            done = engine.change(screen.line, hold.id, why=screen.reason)
        elif head.what == "extend":
            try:
                until = end_of(answer, moment.now, moment.fresh_s / 2 or 1.0)
            except ValueError as error:
                head.refused = str(error)
                return
            done = engine.change(screen.line, hold.id, until=until)
        elif head.what == "hand over":
            if not answer:
                head.refused = "to whom? write a login"
                return
            done = engine.hand_over(screen.line, hold.id, answer)
        else:
            if not answer or not screen.reason:
                gone = (
                    "it was shipped meanwhile: pick another, ↑ ↓" if head.picked else "no change waits behind this stop"
                )
                head.refused = "a reason is needed: what the fix does" if answer else gone
                return
            done = engine.push(screen.line, answer, screen.reason, hold.id)
        self.room.follow(done, f"{head.what} {screen.line}")
        self.room.pop_screen()

    # ---- all lines

    def do_everything(self, _: Moment) -> None:
        """Ask for the word."""
        self.room.push_screen(EverythingScreen(self.room.painter))

    def confirm_everything(self, screen: EverythingScreen) -> None:
        """The word was typed: one pull for each line."""
        if screen.head.asked:
            return
        if not screen.said:
            screen.head.refused = "the word is not typed in full: nothing was done"
            return
        asked = {name: self.room.engine.pull(name, "stopped everything") for name in self.room.config.lines}
        for name in asked:
            self.room.sight.press(name)
        screen.pulled(asked)

    # ---- looking

    def do_events(self, moment: Moment) -> None:
        """What happened: on a line's screens of that line, else of all."""
        where = self.room.screen.where if isinstance(self.room.screen, RoomScreen) else ""
        find = "" if where == "floor" else f"line:{moment.line} "
        self.room.push_screen(EventsScreen(self.room.painter, self.room.sight.keeper, find))

    def do_about(self, _: Moment) -> None:
        """What andon stands on."""
        screen = AboutScreen(self.room.painter)
        screen.ask(self.room.engine.identify())
        self.room.push_screen(screen)

    def open_about(self, about: "About") -> None:
        """Open what an event is about: its hold, its deployment, its line."""
        if about.line not in self.room.config.lines:
            self._open_of_no_line(about)
            return
        self.room.select(about.line)
        moment = self.room.moment
        if moment is None:
            return
        line = moment.known(about.line)
        if about.what == "hold" and any(hold.id == about.id for hold in line.holds):
            self.open_hold(about.id)
            return
        if about.what == "deployment" and line.deployment(about.id) is not None:
            self.room.push_screen(DeploymentScreen(self.room.painter, self.room.line, about.id))
        elif about.what == "run" and about.id in line.runs:
            self.room.push_screen(RunScreen(self.room.painter, self.room.line, about.id))
        else:
            self.room.push_screen(LineScreen(self.room.painter))
            if about.what != "line":
                self.room.tell(f"{about.words} is not kept on the board any more; its line is shown")

    def _open_of_no_line(self, about: "About") -> None:
        """An event of no line of this config: of the engine, or of a line that is not here any more."""
        moment = self.room.moment
        if about.line:
            self.room.tell(f"{about.line} is no line of this config")
        elif moment is not None:
            self.do_about(moment)
