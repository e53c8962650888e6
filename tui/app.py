"""The room: what is put together with what. No panel code, no rules; the paint loop, the danger keys, and leaving."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, ClassVar

from rich.console import RenderableType
from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen

import themes
from andon.acts import NotDone
from andon.board import Board
from andon.clock import Clock
from andon.config import Config
from andon.events import Event
from andon.keeper import Keeper
from andon.ports import LedgerUnusable
from tui.announcing import GIVE_TITLE_BACK, KEEP_TITLE, Announcer, failures
from tui.arming import Arming
from tui.commands import BY_ID
from tui.doing import Doing
from tui.engine import Engine
from tui.keymap import DEFAULT, Keys
from tui.leaving import crash_text
from tui.leaving_words import left_undone
from tui.moment import Moment, signature
from tui.offering import offers
from tui.panels.danger import data_age, grace_s
from tui.panels.looks import Painter, few_colours, here, over_ssh
from tui.panels.panel import Panel
from tui.panels.troubles import troubles
from tui.screens.detail import Detail
from tui.screens.floor import FloorScreen
from tui.screens.frame import RoomScreen
from tui.screens.line import LineScreen
from tui.screens.reason import ReasonScreen
from tui.screenshot import Screenshots
from tui.sight import Sight
from tui.studying import Studying
from tui.tailing import Tailing
from tui.terminal import Armed, Danger, GatedApp, Terminal

log = logging.getLogger("andon.room")

PAINT_S = 0.1
GRACE_S = 3.0
"""How long a rollback by key can be withdrawn."""
SETTLED_MS = 0.3
"""A target that is on the screen for less than so many seconds is read again before the rollback."""
OLD_S = 1e6
"""An age that makes the engine read first."""


class Room(Screenshots[None], GatedApp[None]):
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
        keys: Keys = DEFAULT,
    ) -> None:
        """Prepare. Keeper and engine were started by the caller, who stops them. Raises FileError for a theme."""
        named = "sixteen" if theme == "dark" and few_colours(os.environ) else theme
        found = themes.load(named, config.folder / "themes")
        looks = here(sixteen=found.ansi, plain=config.ascii)
        if not looks.colour:
            found = themes.load("sixteen")  # the terminal's own ground: no colour is sent
        danger = Danger(
            self._stop,
            self._roll_back,
            stop_key=keys["stop"].key,
            rollback_key=keys["rollback"].key,
            confirm_key=keys["confirm"].key,
        )
        danger.keys.setdefault(
            keys["call"].key, "confirm"
        )  # as F8: for the event loop, refused in a burst no hand types
        super().__init__(danger, log_path=log_path, ansi_color=True if found.ansi else None)
        self.arming = Arming(danger)
        if not config.animations or over_ssh(os.environ):
            self.animation_level = "none"
        self.register_theme(themes.to_textual(found))
        self.theme = found.name
        danger.closed = "this is a wallboard: it only looks" if wall else ""
        self.keys = keys
        self.set_keymap(keys.textual())
        self.config = config
        self.engine = engine
        self.wall = wall
        self.painter = Painter(found.colours, looks)
        self.sight = Sight(config, keeper, clock, looks, keys)
        self.sight.read_only = engine.read_only
        self.doing = Doing(self)
        self.studying = Studying(config, keeper)
        self.tailing = Tailing(engine)
        self.moment: Moment | None = None
        self.line = line if line in config.lines else next(iter(config.lines), "")
        self.picked = 0
        self.metric = 0
        self.find = ""
        self.hold = ""
        """The id of the hold that its screen shows."""
        self.by_trouble = False
        self.question = ""
        self._question_at = 0.0
        self.announcer = Announcer(self.bell, self._write, desktop=config.notify_desktop)
        self._last_key: object = None
        self._failed: set[str] = set()
        keeper.listen(self._heard)

    # ---- beginning

    def get_default_screen(self) -> Screen[Any]:
        """The floor, or the wallboard."""
        if self.wall:
            from tui.screens.wall import WallScreen

            return WallScreen(self.painter)
        return FloorScreen(self.painter)

    def on_mount(self) -> None:
        """Begin to paint."""
        self._write(KEEP_TITLE)
        self.set_interval(PAINT_S, self.paint, name="paint")
        self.call_after_refresh(self.paint)

    def on_unmount(self) -> None:
        """Give the terminal's title back."""
        self._write(GIVE_TITLE_BACK)

    # ---- painting

    @property
    def front(self) -> RoomScreen | None:
        """The topmost screen of ours; the palette may lie over it."""
        return next((item for item in reversed(self.screen_stack) if isinstance(item, RoomScreen)), None)

    def paint(self) -> None:
        """Look, and draw what differs."""
        front = self.front
        if front is not None and self._running:
            self._guarded("the picture", lambda: self._paint(front))

    def _paint(self, front: RoomScreen) -> None:
        moment = self._look(front)
        there = len(front.query(Panel))  # a screen that was pushed just now has not all its panels yet
        key = (signature(moment), front, self.screen, front.size, there, self.question, self.by_trouble, front.own)
        if key == self._last_key:
            return
        self._last_key = key
        self.moment = moment
        front.key_row.question = self.question
        self._guarded("the screen", lambda: front.show(moment))
        self.arming.drawn(moment, front)
        if front.sees_target and self.arming.danger.armed is None:
            front.danger_row.refresh()  # F4 is armed by a frame that leaves: one must, also when nothing else differs
        self._guarded("the bell", lambda: self.announce(moment))

    def announce(self, moment: Moment) -> None:
        """Ring and title, for what is new."""
        self.announcer.look(moment)

    def _guarded(self, what: str, work: Callable[[], None]) -> None:
        """Do a part of a paint; what fails there is told once and takes neither the room nor F9 with it."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the danger keys and the other parts live on
            if what not in self._failed:
                self._failed.add(what)
                log.error("%s failed\n%s", what, crash_text(error))
                self.tell(f"{what} failed: {type(error).__name__} · logged · ctrl+l tries again", bad=True)

    def redraw(self) -> None:
        """Draw everything again."""
        self._last_key = None
        self._failed.clear()
        if self.front is not None:
            self.front.forget()
        self.refresh(layout=True)

    def _look(self, front: RoomScreen) -> Moment:
        if isinstance(front, Detail):
            self.line = front.line
        on_floor = isinstance(front, FloorScreen)
        visible = self._visible(front) if on_floor else (self.line,)
        path: tuple[str, ...] = () if on_floor else front.steps(self.line)
        if front.where in ("keys", "wall"):
            path = (front.where,)
        asks = ""
        if isinstance(front, ReasonScreen):
            asks, path = "the reason", tuple(part for part in (front.line, front.what) if part)
        elif self.screen is not front:
            asks = "the palette"
        below = front.scene(self) if isinstance(front, Detail) else {}
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
            hold=self.hold,
            **below,
        )

    def _visible(self, front: RoomScreen) -> tuple[str, ...]:
        """The lines whose samples are wanted: those that are seen, and the selected one."""
        order = self.sight.order
        if not isinstance(front, FloorScreen):
            return (self.line,)
        top = front.floor.scroll_offset.y // front.floor.tall
        seen = order[top : top + front.floor.size.height // front.floor.tall + 2]
        return tuple(dict.fromkeys((*seen, *((self.line,) if self.line else ()))))

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
        self.engine.screen_shown()
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
        future = self.engine.rollback(armed.line, armed.expected, grace, age_s)
        self.sight.press(armed.line)  # the cord is pulled first: shown at once
        self.follow(future, f"roll back {armed.line}", line=armed.line)

    def data_age_s(self, line: str) -> float:
        """How old what is on the screen of a line is, for an act that is asked there."""
        return self._age_s(line)

    def _age_s(self, line: str) -> float:
        """How old what is on the screen is; asked in the input thread, so of what the engine saw last."""
        return data_age(self.config.lines[line], self.engine.view, self.sight.clock.now())

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
                known = isinstance(error, NotDone | LedgerUnusable)
                self.post_message(self.Told(str(error) if known else f"{what} failed: {type(error).__name__}"))
            elif false and found.result() is False:
                self.post_message(self.Told(f"{what}: {false}"))

        future.add_done_callback(done)

    def _heard(self, events: Sequence[tuple[int, Event]], board: Board) -> None:
        """New events, in the ledger's thread: an act that failed is told."""
        if not self._running:
            return
        for words in failures(events, board):
            self.post_message(self.Told(words))

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
        self.sight.arrange(self.find, troubles(self.moment) if self.by_trouble and self.moment is not None else ())
        self._last_key = None

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The palette: the table of commands, and a picture."""
        front = self.front
        where = front.where if front is not None else ""
        moment = self.moment
        offered = offers(moment, where) if moment is not None else ((item, "") for item in self.keys.commands)
        for command, why in offered:
            why = why or (front.why_not(moment, command.id) if isinstance(front, Detail) and moment is not None else "")

            def act(id_: str = command.id, words: str = f"{command.title}: not now, {why}" if why else "") -> None:
                self.tell(words) if words else self.action_do(id_)

            title = f"{command.title} ({command.cap})" if command.key else command.title
            yield SystemCommand(title, f"not now: {why}" if why else command.tooltip, act)
        words = "a file of your own, without what looks secret"
        yield SystemCommand("save a picture", words, lambda: self.set_timer(0.1, self.deliver_screenshot))

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
