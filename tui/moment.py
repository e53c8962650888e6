"""One moment of the room: everything a panel may look at, frozen, made once per paint by the app.

Panels are functions of a moment. Nothing here asks anybody; times are the room's clock.
"""

from collections.abc import Mapping

import msgspec

from andon.board import Board, Line
from andon.clock import Time
from andon.config import Config, LineConfig
from andon.cord import LineState, state
from andon.events import Event
from andon.model import Act, Metric, Sample
from tui.engine import View
from tui.keymap import DEFAULT, Keys
from tui.panels.looks import Looks
from tui.studied import Study
from tui.tailing import Tail

GRACE_KINDS = ("rollback",)


def series(line: str, metric: str) -> str:
    """Under which name the ledger keeps a metric's samples."""
    return f"{line}/{metric}"


class Playing(msgspec.Struct, frozen=True):
    """Where a replay is."""

    at: Time
    since: Time
    until: Time
    speed: float
    paused: bool
    done: int
    """How many events have happened."""
    count: int
    last: str = ""
    """What happened last, in a few words."""


class Moment(msgspec.Struct, frozen=True):
    """What the room shows now."""

    config: Config
    board: Board
    view: View
    now: Time
    looks: Looks
    line: str = ""
    """The selected line: what the danger row names."""
    order: tuple[str, ...] = ()
    """The lines, in the order in which they are shown."""
    who: str = ""
    read_only: bool = False
    fresh_s: float = 0.0
    """A read younger than this is fresh, however short its interval: two real seconds."""
    warming: bool = False
    """The room was opened a moment ago: what is old may be read any second, and is not told as lost."""
    silent_since: Time | None = None
    """Since when nobody watches; None: somebody does."""
    samples: Mapping[str, tuple[Sample, ...]] = {}
    """By series, oldest first: the last hour."""
    events: tuple[Event, ...] = ()
    """The last events of the selected line (on the floor: of all), newest first."""
    pressed: Mapping[str, Time] = {}
    """Lines on which F9 was caught and no hold is on the board yet."""
    picked: int = 0
    """The selected row of the deployments."""
    metric: int = 0
    """Which of the line's metrics the chart shows."""
    asks: str = ""
    """What a dialog in front asks for; it disarms F4."""
    path: tuple[str, ...] = ()
    """Where we are: below the floor."""
    find: str = ""
    """What the rows are searched for."""
    hold: str = ""
    """The id of the hold that its screen shows; empty: the first open one of the line, or its last."""
    subject: str = ""
    """What a screen below the line is about: the id of a deployment or of a run."""
    study: Study | None = None
    """What was found of a deployment's metrics; None: it is being worked out, or not wanted."""
    tail: Tail | None = None
    """The log that is looked at; it belongs to the screen's thread."""
    keys: Keys = DEFAULT
    """Which keys the commands have here."""
    replay: Playing | None = None
    """Which moment of a replay this is; None: it is now."""

    def known(self, name: str) -> Line:
        """What the board knows of a line."""
        return self.board.line(name)

    def lines(self) -> tuple[LineConfig, ...]:
        """The lines shown, in their order."""
        return tuple(self.config.lines[name] for name in self.order if name in self.config.lines)

    def state(self, name: str) -> LineState:
        """In which of its four states a line is."""
        return state(self.known(name), self.config.lines[name], self.view.pulses, self.now, self.fresh_s)

    def rows_of(self, line: str, metric: Metric) -> tuple[Sample, ...]:
        """The samples of a metric, oldest first."""
        return self.samples.get(series(line, metric.name), ())

    def called(self) -> Act | None:
        """The call for help that counts down: of the selected line first, else the one that ends first."""
        calls = ((line.name, line.call) for line in self.board.lines.values() if line.calls)
        found = [call for name, call in calls if call is not None and name in self.config.lines]
        found.sort(key=lambda call: (call.line != self.line, call.not_before))
        return found[0] if found else None

    def grace(self) -> Act | None:
        """The rollback that can still be withdrawn: of the selected line first, else the one that goes first."""
        found = [
            act
            for line in self.board.lines.values()
            for act in line.unsettled(*GRACE_KINDS)
            if act.state == "intent" and act.not_before > self.now
        ]
        found.sort(key=lambda act: (act.line != self.line, act.not_before))
        return found[0] if found else None


def signature(moment: Moment) -> tuple[object, ...]:
    """What a moment is, as coarsely as the screens tell it: equal ones need no paint."""
    view = moment.view
    grace = moment.grace()
    young = any(
        moment.now - hold.since < 12 for line in moment.board.lines.values() for hold in line.holds if hold.open
    )
    step = 1.0 if grace is not None or young or moment.pressed or moment.called() is not None else 5.0
    pulses = tuple((key, pulse.state, pulse.words) for key, pulse in view.pulses.items() if not key.startswith("task:"))
    return (
        id(moment.board),
        view.lease.holder if view.lease else "",
        view.here,
        view.trouble,
        view.clock_words,
        pulses,
        int(moment.now / step),
        id(moment.samples),
        id(moment.events),
        moment.line,
        moment.order,
        moment.picked,
        moment.metric,
        moment.asks,
        moment.path,
        moment.find,
        moment.hold,
        moment.warming,
        moment.silent_since is None,
        tuple(moment.pressed),
        moment.replay,
    )
