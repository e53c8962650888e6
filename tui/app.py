"""The room: what is put together with what. No panel code, no rules; the paint loop, the danger keys, and leaving."""

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, ClassVar

from rich.console import RenderableType
from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen

import themes
from andon.board import Board
from andon.clock import Clock
from andon.config import Config
from andon.events import ActStepped, Event
from andon.keeper import Keeper
from tui.arming import Arming
from tui.commands import BY_ID, COMMANDS
from tui.doing import Doing
from tui.engine import Engine
from tui.leaving_words import left_undone
from tui.moment import Moment, signature
from tui.panels.danger import data_age, grace_s
from tui.panels.facts import stop_word
from tui.panels.looks import Painter, few_colours, here
from tui.panels.panel import Panel
from tui.screens.floor import FloorScreen
from tui.screens.frame import RoomScreen
from tui.screens.line import LineScreen
from tui.screens.reason import ReasonScreen
from tui.sight import Sight
from tui.terminal import Armed, Danger, GatedApp, Terminal

PAINT_S = 0.1
GRACE_S = 3.0
"""How long a rollback by key can be withdrawn."""
SETTLED_MS = 0.3
"""A target that is on the screen for less than so many seconds is read again before the rollback."""
OLD_S = 1e6
"""An age that makes the engine read first."""


class Room(GatedApp[None]):
    """The full-screen program."""

    CSS_PATH = "room.tcss"
    TITLE = "andon"
    ENABLE_COMMAND_PALETTE = True
    COMMAND_PALETTE_BINDING = "ctrl+p"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q,ctrl+c", "do('leave')", "leave", show=False, priority=True, id="room.leave"),
    ]

    class Told(Message):
        """Something to tell the person, from any thread."""

        def __init__(self, words: str, *, bad: bool = True) -> None:
            super().__init__()
            self.words = words
            self.bad = bad

    def __init__(
        self,
        config: Config,
        keeper: Keeper,
        engine: Engine,
        clock: Clock,
        theme: str = "dark",
        line: str = "",
        *,
        wall: bool = False,
        log_path: Path | None = None,
    ) -> None:
        """Prepare. Keeper and engine were started by the caller, who stops them. Raises FileError for a theme."""
        found = themes.load("sixteen" if theme == "dark" and few_colours(_environ()) else theme)
        looks = here(sixteen=found.ansi)
        if not looks.colour:
            found = themes.load("sixteen")  # the terminal's own ground: no colour is sent
        danger = Danger(self._stop, self._roll_back)
        super().__init__(danger, log_path=log_path, ansi_color=True if found.ansi else None)
        self.arming = Arming(danger)
        self.register_theme(themes.to_textual(found))
        self.theme = found.name
        self.config = config
        self.engine = engine
        self.wall = wall
        self.painter = Painter(found.colours, looks)
        self.sight = Sight(config, keeper, clock, looks)
        self.sight.read_only = engine.read_only
        self.doing = Doing(self)
        self.moment: Moment | None = None
        self.line = line if line in config.lines else next(iter(config.lines), "")
        self.picked = 0
        self.metric = 0
        self.find = ""
        self.by_trouble = False
        self.question = ""
        self._question_at = 0.0
        self._told_holds: set[str] | None = None
        self._last_key: object = None
        keeper.listen(self._heard)

    # ---- beginning

    def get_default_screen(self) -> Screen[Any]:
        """The floor."""
        return FloorScreen(self.painter)

    def on_mount(self) -> None:
        """Begin to paint."""
        self._write("\x1b[22;0t")  # keep the terminal's title, to give it back
        self.set_interval(PAINT_S, self.paint, name="paint")
        self.call_after_refresh(self.paint)

    def on_unmount(self) -> None:
        """Give the terminal's title back."""
        self._write("\x1b[23;0t")

    # ---- painting

    @property
    def front(self) -> RoomScreen | None:
        """The topmost screen of ours; the palette may lie over it."""
        return next((item for item in reversed(self.screen_stack) if isinstance(item, RoomScreen)), None)

    def paint(self) -> None:
        """Look, and draw what differs."""
        front = self.front
        if front is None or not self._running:
            return
        moment = self._look(front)
        key = (signature(moment), front, self.screen, front.size, self.question, self.by_trouble, _own(front))
        if key == self._last_key:
            return
        self._last_key = key
        self.moment = moment
        self._announce(moment)
        front.key_row.question = self.question
        front.show(moment)
        self.arming.drawn(moment, front)

    def redraw(self) -> None:
        """Draw everything again."""
        self._last_key = None
        if self.front is not None:
            self.front.forget()
        self.refresh(layout=True)

    def _look(self, front: RoomScreen) -> Moment:
        on_floor = isinstance(front, FloorScreen)
        visible = self._visible(front) if on_floor else (self.line,)
        path: tuple[str, ...] = () if on_floor else (self.line,)
        if front.where == "keys":
            path = ("keys",)
        asks = ""
        if isinstance(front, ReasonScreen):
            asks, path = "the reason", (front.line, front.what)
        elif self.screen is not front:
            asks = "the palette"
        return self.sight.look(
            self.engine.view,
            self.engine.who,
            line=self.line,
            visible=visible,
            scope="" if on_floor else self.line,
            picked=self.picked,
            metric=self.metric,
            asks=asks,
            path=path,
            find=self.find,
        )

    def _visible(self, front: RoomScreen) -> tuple[str, ...]:
        """The lines whose samples are wanted: those that are seen, and the selected one."""
        order = self.sight.order
        if not isinstance(front, FloorScreen):
            return (self.line,)
        top = front.floor.scroll_offset.y // front.floor.tall
        seen = order[top : top + front.floor.size.height // front.floor.tall + 2]
        return tuple(dict.fromkeys((*seen, *((self.line,) if self.line else ()))))

    def _announce(self, moment: Moment) -> None:
        """One bell for each new hold, and the title says what is stopped."""
        holds = {hold.id for name in moment.order for hold in moment.known(name).open_holds}
        if self._told_holds is not None and holds - self._told_holds:
            self.bell()
        if holds != self._told_holds:
            stopped = [name for name in moment.order if moment.known(name).open_holds]
            words = f"andon: {', '.join(stopped[:3])} {stop_word(moment, stopped[0]).lower()}" if stopped else "andon"
            self._write(f"\x1b]0;{words}\x07")  # names of lines hold nothing but a-z, 0-9 and -
        self._told_holds = holds

    def _write(self, text: str) -> None:
        if isinstance(self._driver, Terminal):
            self._driver.write(text)

    # ---- danger keys: what the input thread may do, published for the frame that shows it

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        """Paint; what this frame shows is what the keys will do."""
        if not self._holding and renderable is not None:
            self.arming.handed()
        super()._display(screen, renderable)

    def frame_shown(self) -> None:
        """The frame has left for the terminal: its danger row is true now."""
        self.arming.seen()

    def _stop(self, line: str) -> None:
        """F9, in the input thread."""
        future = self.engine.pull(line, "", self._age_s(line))
        self.sight.press(line)
        self.follow(future, f"stop {line}", line=line)

    def _roll_back(self, armed: Armed) -> None:
        """F4, in the input thread."""
        moment = self.moment
        fresh_target = time.time() - armed.painted_at < SETTLED_MS
        age_s = OLD_S if fresh_target else self._age_s(armed.line)
        grace = grace_s(moment, armed.line, GRACE_S) if moment is not None else GRACE_S
        self.follow(self.engine.rollback(armed.line, armed.expected, grace, age_s), f"roll back {armed.line}")

    def _age_s(self, line: str) -> float:
        return data_age(self.moment, line) if self.moment is not None else 0.0

    def on_danger_pressed(self, event: Danger.Pressed) -> None:
        """A danger key was caught: show it now."""
        if event.why_not:
            self.tell(event.why_not, bad=True)
        self.question = ""
        self.paint()

    # ---- what came of it

    def follow(self, future: "Future[Any]", what: str, *, line: str = "", false: str = "") -> None:
        """Tell what goes wrong with something asked. From any thread."""

        def done(found: "Future[Any]") -> None:
            if found.cancelled():
                self.post_message(self.Told(f"{what}: not done, andon is leaving"))
                return
            error = found.exception()
            if error is not None:
                if line:
                    self.sight.unpress(line)
                self.post_message(self.Told(str(error) or f"{what}: {type(error).__name__}"))
            elif false and found.result() is False:
                self.post_message(self.Told(f"{what}: {false}"))

        future.add_done_callback(done)

    def _heard(self, events: Sequence[tuple[int, Event]], board: Board) -> None:
        """New events, in the ledger's thread: an act that failed is told."""
        if not self._running:
            return
        for _, event in events:
            if isinstance(event, ActStepped) and event.now in ("refused", "failed", "expired"):
                act = board.line(event.line).acts.get(event.act)
                what = f"{act.kind} {act.target}" if act else "an act"
                tail = f": {event.words}" if event.words else ""
                self.post_message(self.Told(f"{event.line}: {what} {event.now}{tail}"))

    def on_room_told(self, event: "Room.Told") -> None:
        """Say it."""
        self.tell(event.words, bad=event.bad)

    def tell(self, words: str, *, bad: bool = False) -> None:
        """A toast, above the danger row."""
        self.notify(words, severity="error" if bad else "information", timeout=8.0, markup=False)

    # ---- commands

    def action_do(self, command: str) -> None:
        """Do a command of the table."""
        if command in BY_ID:
            self.doing.do(command)

    def action_choose(self, step: int) -> None:
        """Another hold, where a reason is asked for."""
        if isinstance(self.screen, ReasonScreen):
            self.screen.choose(step)
            self.redraw_soon()

    def on_panel_clicked(self, event: Panel.Clicked) -> None:
        """Words that mean a command were clicked, or a row."""
        if event.command == "select" and 0 <= event.row < len(self.sight.order):
            self.select(self.sight.order[event.row])
        else:
            self.action_do(event.command)

    def on_floor_screen_sought(self, event: FloorScreen.Sought) -> None:
        """Only lines with that in their name are shown; the danger row keeps the line last selected."""
        self.find = event.text.strip()
        self.refind()
        if self.sight.order and self.line not in self.sight.order:
            self.line = self.sight.order[0]
        self.paint()

    def select(self, line: str) -> None:
        """Another line: the danger row follows, with the next frame."""
        if line != self.line:
            self.line, self.metric, self.picked = line, 0, 0
            if isinstance(self.front, LineScreen):
                self.front.chart_first = False
        self.paint()

    def redraw_soon(self) -> None:
        """Something beside the moment has changed."""
        self._last_key = None
        self.paint()

    def refind(self) -> None:
        """Which lines are shown, and in which order."""
        names = [name for name in self.config.lines if self.find.lower() in name]
        if self.by_trouble and self.moment is not None:
            from tui.panels.troubles import troubles

            worst = list(dict.fromkeys(item.line for item in troubles(self.moment) if item.line))
            names.sort(key=lambda name: worst.index(name) if name in worst else len(worst))
        self.sight.order = tuple(names)
        self._last_key = None

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The palette: the table of commands, nothing else."""
        where = self.front.where if self.front is not None else ""
        for command in COMMANDS:
            if where in command.where and command.id not in ("palette", "up", "down", "first", "last"):

                def act(id_: str = command.id) -> None:
                    self.action_do(id_)

                yield SystemCommand(f"{command.title} ({command.cap})", command.tooltip, act)

    # ---- leaving

    def left_undone(self, moment: Moment) -> str:
        """What leaving would leave undone, as a question; empty: nothing."""
        return left_undone(moment, busy=self.engine.busy, width=self.size.width - 2)

    def asked_to_leave(self, within_s: float) -> bool:
        """Whether `q` was asked within that time; notes that it is asked now."""
        now = time.monotonic()
        before, self._question_at = self._question_at, now
        return bool(self.question) and now - before <= within_s

    async def action_quit(self) -> None:
        """Textual's own way out is ours."""
        self.action_do("leave")

    def action_help_quit(self) -> None:
        """As `q`."""
        self.action_do("leave")

    def drain(self, reason: str, deadline: float) -> None:
        """Finish or record every open act; in a thread of its own."""
        self.engine.stop(max(0.0, deadline - time.monotonic() - 1.0))


def _environ() -> dict[str, str]:
    import os

    return dict(os.environ)


def _own(front: RoomScreen) -> tuple[object, ...]:
    """What a screen shows beside the moment."""
    if isinstance(front, FloorScreen):
        return (front.floor.dense, front.floor.scroll_offset)
    if isinstance(front, LineScreen):
        return (front.chart_first,)
    if isinstance(front, ReasonScreen):
        return (front.head.choice, front.head.refused)
    return ()
