"""What each command does, when a key, a click or the palette asks for it. One method per command, named after its id."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from andon.events import MarkWord
from andon.model import Act
from tui.answering import Answering
from tui.commands import BY_ID, FLOOR
from tui.doing_details import DetailDoing
from tui.moment import Moment
from tui.panels.facts import readings
from tui.panels.hold import shown
from tui.panels.troubles import troubles
from tui.screens.about import AboutScreen
from tui.screens.change import ChangeScreen
from tui.screens.deployment import IRREVERSIBLE, RETURN, WeighScreen
from tui.screens.detail import Detail
from tui.screens.events import EventsScreen
from tui.screens.everything import EverythingScreen
from tui.screens.floor import FloorScreen
from tui.screens.frame import RoomScreen
from tui.screens.hold import HoldScreen
from tui.screens.keys import KeysScreen
from tui.screens.line import LineScreen
from tui.screens.metric import MetricScreen
from tui.screens.reason import ALL, ReasonScreen

if TYPE_CHECKING:
    from tui.app import Room

ASK_AGAIN_S = 15.0
"""A second `q` within so many seconds leaves."""


class Doing(DetailDoing, Answering):
    """The commands of a room."""

    def __init__(self, room: "Room") -> None:
        self.room = room

    def do(self, command: str) -> None:
        """Do a command of the table, unless this room only looks and it acts."""
        moment = self.room.moment
        if moment is None:
            return
        if BY_ID[command].acts and moment.read_only:
            self.room.tell("read-only: this room only looks", bad=True)
            return
        act: Callable[[Moment], None] = getattr(self, f"do_{command}")
        act(moment)
        self.room.paint()

    # ---- danger: the same way as the keys

    def do_stop(self, _: Moment) -> None:
        """As F9."""
        self._press("stop")

    def do_rollback(self, _: Moment) -> None:
        """As F4."""
        self._press("rollback")

    def _press(self, command: str) -> None:
        danger = self.room.danger
        pressed = danger.press(self.room.keys[command].key) if danger is not None else None
        if pressed is not None:
            self.room.on_danger_pressed(pressed)

    # ---- acting

    def do_resume(self, moment: Moment) -> None:
        """Ask for the reason."""
        if not moment.known(moment.line).open_holds:
            self.room.tell(f"{moment.line} has no hold to lift")
            return
        screen = ReasonScreen(self.room.painter, "resume", moment.line)
        hold = shown(moment)
        if isinstance(self.room.screen, HoldScreen) and hold is not None and hold.open:
            screen.head.picked = hold.id
        self.room.push_screen(screen)

    def do_confirm(self, moment: Moment) -> None:
        """A reason was given."""
        screen = self.room.screen
        if not isinstance(screen, ReasonScreen):
            return
        if isinstance(screen, ChangeScreen):
            self.confirm_change(screen, moment)
            return
        if isinstance(screen, EverythingScreen):
            self.confirm_everything(screen)
            return
        if not screen.reason:
            screen.head.refused = "a reason is needed: say what was fixed, or what you saw"
            return
        if screen.what == "resume":
            hold = screen.head.chosen(moment)
            if not hold:
                left = screen.head.holds(moment)
                screen.head.refused = (
                    "it was lifted meanwhile: pick another, ↑ ↓" if left else "no hold is left to lift"
                )
                return
            all_ = hold == ALL
            done = self.room.engine.resume(screen.line, screen.reason, "" if all_ else hold, all_=all_)
            self.room.follow(done, f"resume {screen.line}")
        elif isinstance(screen, WeighScreen) and screen.what == RETURN:
            if not self.confirm_return(screen, moment):
                return
        else:
            mark: MarkWord = {"good": "good", IRREVERSIBLE: "irreversible"}.get(screen.what, "faulty")  # type: ignore[assignment]  # of a screen's words, these three are marks
            done = self.room.engine.mark(screen.line, screen.head.deployment, mark, screen.reason)
            self.room.follow(done, f"mark {screen.line}")
        self.room.pop_screen()

    def do_good(self, moment: Moment) -> None:
        """Mark the picked deployment good."""
        self._mark(moment, "good")

    def do_faulty(self, moment: Moment) -> None:
        """Mark the picked deployment faulty."""
        self._mark(moment, "faulty")

    def _mark(self, moment: Moment, mark: MarkWord) -> None:
        if self.mark_picked(moment, mark):
            return
        listed = tuple(reversed(moment.known(moment.line).deployments))
        if not listed:
            self.room.tell(f"{moment.line} has no deployment to mark")
            return
        picked = listed[min(moment.picked, len(listed) - 1)]
        self.room.push_screen(ReasonScreen(self.room.painter, mark, moment.line, picked.id))

    def do_happened(self, moment: Moment) -> None:
        """A person looked: it happened."""
        self._resolve(moment, happened=True)

    def do_did_not(self, moment: Moment) -> None:
        """A person looked: it did not."""
        self._resolve(moment, happened=False)

    def _resolve(self, moment: Moment, *, happened: bool) -> None:
        act = next((item for item in moment.known(moment.line).unsettled() if item.state == "unknown"), None)
        if act is None:
            self.room.tell(f"no act of {moment.line} is unknown")
            return
        self.room.follow(self.room.engine.resolve(act.line, act.id, happened), f"{act.kind} of {act.line}")

    # ---- looking

    def do_open(self, moment: Moment) -> None:
        """The line screen; below it what is picked there."""
        if self.open_detail(moment):
            return
        if isinstance(self.room.screen, EventsScreen):
            if (about := self.room.screen.about) is not None:
                self.open_about(about)
            return
        if isinstance(self.room.screen, FloorScreen):
            self.room.picked = 0
            self.room.metric = 0
            self.room.push_screen(LineScreen(self.room.painter))

    def do_back(self, moment: Moment) -> None:
        """Withdraw a rollback in its grace; else one step back; never leave."""
        act = moment.grace()
        if act is not None and not moment.read_only:
            self.withdraw(act)
            return
        if self.room.question:
            self.room.question = ""
        elif isinstance(self.room.screen, EventsScreen) and self.room.screen.finding:
            self.room.screen.end_find()
        elif isinstance(self.room.screen, FloorScreen) and self.room.screen.finding:
            self.room.screen.end_find()
            self.room.find = ""
            self.room.refind()
        elif len([item for item in self.room.screen_stack if isinstance(item, RoomScreen)]) > 1:
            self.room.pop_screen()

    def withdraw(self, act: Act) -> None:
        """Take a rollback back, if it was not sent yet."""
        future = self.room.engine.withdraw(act.line, act.id)
        self.room.follow(future, f"withdraw the rollback of {act.line}", false="it was sent already")

    def do_metric(self, moment: Moment) -> None:
        """The next metric; and the chart, where the proof had its place."""
        count = max(1, len(readings(moment, moment.line)))
        screen = self.room.screen
        if isinstance(screen, MetricScreen):
            if not self.cannot(moment, "metric"):
                screen.next_metric(moment)
            return
        if isinstance(screen, LineScreen) and screen.has_class("-proof"):
            screen.chart_first = True
            return
        self.room.metric = (self.room.metric + 1) % count

    def do_page(self, _: Moment) -> None:
        """The wallboard's next page."""
        from tui.screens.wall import WallScreen

        if isinstance(self.room.screen, WallScreen):
            self.room.screen.turn()

    def do_density(self, _: Moment) -> None:
        """One row a line, or three."""
        screen = self.room.screen
        if isinstance(screen, FloorScreen):
            screen.floor.dense = not screen.floor.dense

    def do_up(self, _: Moment) -> None:
        """The row above."""
        self._move(-1)

    def do_down(self, _: Moment) -> None:
        """The row below."""
        self._move(1)

    def do_first(self, _: Moment) -> None:
        """The first row."""
        self._move(-100_000)

    def do_last(self, _: Moment) -> None:
        """The last row."""
        self._move(100_000)

    def _move(self, step: int) -> None:
        moment = self.room.moment
        if moment is None:
            return
        if isinstance(self.room.screen, Detail | EventsScreen | AboutScreen):
            self.room.screen.move(step)
            return
        if isinstance(self.room.screen, HoldScreen):
            self.move_hold(moment, step)
            return
        if isinstance(self.room.screen, LineScreen):
            if self.room.screen.list != "deployments":
                self.move_in_list(moment, step)
                return
            most = len(moment.known(moment.line).deployments) - 1
            self.room.picked = max(0, min(most, self.room.picked + step))
            return
        order = moment.order
        if not order:
            return
        place = order.index(moment.line) if moment.line in order else 0
        self.room.select(order[max(0, min(len(order) - 1, place + step))])

    def do_worst(self, moment: Moment) -> None:
        """The line with the worst trouble."""
        found = next((item.line for item in troubles(moment) if item.line), "")
        if found:
            self.room.select(found)
        else:
            self.room.tell("no line is in trouble")

    def do_sort(self, _: Moment) -> None:
        """By trouble, or as in the config."""
        self.room.by_trouble = not self.room.by_trouble
        self.room.refind()

    def do_find(self, _: Moment) -> None:
        """Type a part of a name."""
        if isinstance(self.room.screen, FloorScreen | EventsScreen):
            self.room.screen.begin_find()

    def do_keys(self, _: Moment) -> None:
        """Help."""
        where = self.room.screen.where if isinstance(self.room.screen, RoomScreen) else FLOOR
        self.room.push_screen(KeysScreen(self.room.painter, where))

    def do_palette(self, _: Moment) -> None:
        """Every command by its name."""
        self.room.action_command_palette()

    def do_redraw(self, _: Moment) -> None:
        """Draw everything again."""
        self.room.redraw()

    def do_leave(self, moment: Moment) -> None:
        """Leave; ask once if something would be left undone."""
        words = self.room.left_undone(moment)
        if words and not self.room.asked_to_leave(ASK_AGAIN_S):
            self.room.question = words
            return
        self.room.exit(return_code=0)
