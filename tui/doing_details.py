"""What the commands of the screens below a line do: opening them, moving in them, and what is said of a deployment."""

from typing import TYPE_CHECKING

from andon.events import MarkWord
from andon.model import Run
from tui.moment import Moment
from tui.panels.belt import pieces
from tui.panels.danger import grace_s
from tui.panels.facts import readings
from tui.screens.deployment import IRREVERSIBLE, RETURN, DeploymentScreen, WeighScreen
from tui.screens.detail import Detail
from tui.screens.line import LineScreen
from tui.screens.metric import MetricScreen
from tui.screens.reason import ReasonScreen
from tui.screens.run import RunScreen

if TYPE_CHECKING:
    from tui.app import Room

GRACE_S = 3.0
"""How long a return that was confirmed can be withdrawn, as a rollback by key."""


class DetailDoing:
    """The part of `Doing` that is about one deployment, one run or one metric."""

    room: "Room"

    def cannot(self, moment: Moment, command: str) -> bool:
        """Whether the screen in front says that a command cannot be done now; it is told why."""
        screen = self.room.screen
        why = screen.why_not(moment, command) if isinstance(screen, Detail) else ""
        if why:
            self.room.tell(f"not now: {why}")
        return bool(why)

    # ---- opening

    def open_detail(self, moment: Moment) -> bool:
        """What is picked on the screen in front; False: nothing of this part."""
        screen = self.room.screen
        if isinstance(screen, LineScreen):
            if screen.list == "stations":
                self.do_run(moment)
            elif screen.list == "charts":
                self.do_full(moment)
            else:
                listed = tuple(reversed(moment.known(moment.line).deployments))
                if listed:
                    picked = listed[min(moment.picked, len(listed) - 1)]
                    self.room.push_screen(DeploymentScreen(self.room.painter, moment.line, picked.id))
                else:
                    self.room.tell(f"nothing was shipped on {moment.line} yet")
            return True
        if isinstance(screen, DeploymentScreen):
            self.do_full(moment)
            return True
        return False

    def do_full(self, moment: Moment) -> None:
        """The chosen metric, full size."""
        screen = self.room.screen
        if isinstance(screen, DeploymentScreen):
            name = screen.metric_name(moment)
            if name:
                self.room.push_screen(MetricScreen(self.room.painter, screen.line, name, screen.deployment))
            else:
                self.cannot(moment, "metric")
            return
        items = readings(moment, moment.line)
        if not items:
            self.room.tell("no metric is configured: three lines under `metrics:` add one")
        elif isinstance(screen, LineScreen):
            name = items[moment.metric % len(items)].metric.name
            self.room.push_screen(MetricScreen(self.room.painter, moment.line, name))

    def do_run(self, moment: Moment) -> None:
        """The run of what is picked."""
        run = self._run(moment)
        if run is None:
            self.room.tell("no run of it is known")
        else:
            self.room.push_screen(RunScreen(self.room.painter, moment.line, run.id))

    def _run(self, moment: Moment) -> Run | None:
        screen, line = self.room.screen, moment.known(moment.line)
        change = ""
        if isinstance(screen, LineScreen) and screen.list == "stations":
            change = screen.piece
        elif isinstance(screen, DeploymentScreen | LineScreen):
            listed = tuple(reversed(line.deployments))
            id_ = screen.deployment if isinstance(screen, DeploymentScreen) else ""
            item = line.deployment(id_) if id_ else listed[min(moment.picked, len(listed) - 1)] if listed else None
            found = line.change_of(item) if item is not None else None
            change = found.id if found is not None else ""
        runs = line.runs_of(change) if change else ()
        return max(runs, key=lambda run: run.at, default=None)

    def do_other(self, moment: Moment) -> None:
        """The next list of the line's screen: deployments, stations, charts; an empty one is passed over."""
        screen = self.room.screen
        if not isinstance(screen, LineScreen):
            return
        lists = ["deployments"]
        if with_runs(moment):
            lists.append("stations")
        if moment.config.lines[moment.line].metrics:
            lists.append("charts")
        place = lists.index(screen.list) if screen.list in lists else -1
        screen.list = lists[(place + 1) % len(lists)]
        if screen.list == "stations":
            self.move_in_list(moment, 0)
        elif screen.list == "charts" and screen.has_class("-proof"):
            screen.chart_first = True

    def move_in_list(self, moment: Moment, step: int) -> None:
        """Another piece at the stations, or another chart."""
        screen = self.room.screen
        if not isinstance(screen, LineScreen):
            return
        if screen.list == "charts":
            count = max(1, len(readings(moment, moment.line)))
            self.room.metric = max(0, min(count - 1, self.room.metric % count + step))
            return
        there = with_runs(moment)
        place = there.index(screen.piece) + step if screen.piece in there else 0
        screen.piece = there[max(0, min(len(there) - 1, place))] if there else ""

    # ---- a metric

    def do_rows(self, _: Moment) -> None:
        """The raw rows, or the evidence again."""
        screen = self.room.screen
        if isinstance(screen, MetricScreen):
            screen.rows_first = not screen.rows_first

    def do_wider(self, moment: Moment) -> None:
        """A longer time."""
        self._widen(moment, "wider", 1)

    def do_narrower(self, moment: Moment) -> None:
        """A shorter time."""
        self._widen(moment, "narrower", -1)

    def _widen(self, moment: Moment, command: str, step: int) -> None:
        screen = self.room.screen
        if isinstance(screen, MetricScreen) and not self.cannot(moment, command):
            screen.widen(step)

    # ---- a deployment

    def do_irreversible(self, moment: Moment) -> None:
        """Say that no rollback may cross it; asks for a reason."""
        self._about(moment, "irreversible", IRREVERSIBLE)

    def do_return_to(self, moment: Moment) -> None:
        """Roll back to it; asks for a reason."""
        self._about(moment, "return_to", RETURN)

    def _about(self, moment: Moment, command: str, what: str) -> None:
        screen = self.room.screen
        if not isinstance(screen, DeploymentScreen) or self.cannot(moment, command):
            return
        current = moment.known(moment.line).current
        expected = current.id if current is not None else ""
        self.room.push_screen(WeighScreen(self.room.painter, what, moment.line, screen.deployment, expected))

    def mark_picked(self, moment: Moment, mark: MarkWord) -> bool:
        """Ask for the reason of a mark on the deployment in front; False: none is."""
        screen = self.room.screen
        if not isinstance(screen, DeploymentScreen):
            return False
        if not self.cannot(moment, mark):
            self.room.push_screen(ReasonScreen(self.room.painter, mark, moment.line, screen.deployment))
        return True

    def confirm_return(self, screen: WeighScreen, moment: Moment) -> bool:
        """Ask for the rollback that was confirmed; False: it cannot be done any more, and the dialog says why."""
        line = moment.known(screen.line)
        item = line.deployment(screen.head.deployment)
        why = self.why_no_return(screen, moment)
        if why or item is None:
            screen.head.refused = f"not now: {why}"
            return False
        grace = grace_s(moment, screen.line, GRACE_S)
        age_s = self.room.data_age_s(screen.line)
        engine = self.room.engine
        done = engine.rollback(screen.line, screen.expected, grace, age_s, why=screen.reason, to=item.version)
        self.room.sight.press(screen.line)  # the cord is pulled first: shown at once
        self.room.follow(done, f"roll back {screen.line}", line=screen.line)
        return True

    def why_no_return(self, screen: WeighScreen, moment: Moment) -> str:
        """Why a return cannot be confirmed now; empty: it can."""
        from tui.panels.batch import cannot_return

        current = moment.known(screen.line).current
        if current is None or current.id != screen.expected:
            return "another version runs by now; go back and look again"
        return cannot_return(moment, screen.head.deployment)

    # ---- a run

    def do_failure(self, moment: Moment) -> None:
        """The first failure."""
        screen = self.room.screen
        if isinstance(screen, RunScreen) and not self.cannot(moment, "failure"):
            words = screen.to_failure(moment)
            if words:
                self.room.tell(words)

    def do_follow(self, moment: Moment) -> None:
        """Keep the end of the log in sight, or stay where it is."""
        screen = self.room.screen
        if isinstance(screen, RunScreen) and not self.cannot(moment, "follow") and moment.tail is not None:
            panel = screen.log_panel
            panel.top = panel.first(moment.tail, max(1, panel.size.height - 1))
            panel.follows = not panel.follows

    def do_address(self, moment: Moment) -> None:
        """Show where the CI shows it. Nothing is opened: a jump host has no browser."""
        screen = self.room.screen
        if isinstance(screen, RunScreen) and not self.cannot(moment, "address"):
            self.room.tell(screen.address(moment))

    def do_page_up(self, _: Moment) -> None:
        """A page up."""
        self._page(-1)

    def do_page_down(self, _: Moment) -> None:
        """A page down."""
        self._page(1)

    def _page(self, pages: int) -> None:
        screen = self.room.screen
        if isinstance(screen, RunScreen):
            screen.scroll_log(pages)
        elif isinstance(screen, MetricScreen):
            screen.move(pages * max(1, screen.rows.size.height - 3))


def with_runs(moment: Moment) -> tuple[str, ...]:
    """The changes on their way of which a run is known, oldest first."""
    line = moment.known(moment.line)
    return tuple(piece.change.id for piece in pieces(line) if line.runs_of(piece.change.id))
