"""What the room sees: the board, the engine, the samples and events it asks the ledger for, put together as a `Moment`.

Only the ledger's thread reads the ledger; answers come back as frozen values in one attribute, which the next paint
finds. Nothing here waits.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import msgspec

from andon.board import Board
from andon.clock import Clock, Time
from andon.config import Config
from andon.events import Event, decode
from andon.keeper import Keeper
from andon.model import Sample
from andon.ports import Ledger
from tui.engine import View
from tui.keymap import DEFAULT, Keys
from tui.moment import Moment, Playing, series
from tui.panels.looks import Looks
from tui.panels.troubles import Trouble

SPAN_S = 3700.0
"""How far back samples are asked for."""
ASK_EVERY_S = 2.0
EVENTS = 120
WARM_S = 6.0
"""Real seconds after the start in which old readings are not told as lost."""
LEASE_GONE_S = 3.0
"""Real seconds without a lease before the room says that nobody watches."""
PRESSED_S = 10.0
"""For so long a press of F9 is shown before the ledger knows it."""


class _Heard(msgspec.Struct, frozen=True):
    """What the ledger answered last."""

    samples: dict[str, tuple[Sample, ...]] = {}
    events: tuple[Event, ...] = ()


class Sight:
    """Makes moments. Belongs to the screen's thread; `pressed_line` may be called from any."""

    def __init__(self, config: Config, keeper: Keeper, clock: Clock, looks: Looks, keys: Keys = DEFAULT) -> None:
        self.config = config
        self.keeper = keeper
        self.clock = clock
        self.looks = looks
        self.keys = keys
        self.order = tuple(config.lines)
        self.read_only = False
        self.pressed: dict[str, Time] = {}
        self._playing: Callable[[], Playing] | None = None
        self._opened = time.monotonic()
        self._heard = _Heard()
        self._asked_at = 0.0
        self._asked: Future[_Heard] | None = None
        self._wanted: tuple[tuple[str, ...], str] = ((), "")
        self._board: Board | None = None
        self._lease_real = self._opened
        self._lease_at: Time = 0.0

    def replayed(self, playing: Callable[[], Playing]) -> None:
        """It is another time, which `playing` tells: nothing is warming up, and somebody did watch."""
        self._playing = playing
        self._opened -= WARM_S

    def ask_again(self) -> None:
        """Ask the ledger at the next look, whatever was asked before."""
        self._board = None

    def arrange(self, find: str, troubles: Sequence[Trouble]) -> None:
        """Which lines are shown, in which order: as in the config, or those in trouble first."""
        names = [name for name in self.config.lines if find.lower() in name]
        worst = list(dict.fromkeys(item.line for item in troubles if item.line))
        names.sort(key=lambda name: worst.index(name) if name in worst else len(worst))
        self.order = tuple(names)

    def press(self, line: str) -> None:
        """F9 was caught for a line: shown at once, whatever the ledger says."""
        self.pressed = {**self.pressed, line: self.clock.now()}

    def unpress(self, line: str) -> None:
        """It was not done after all."""
        self.pressed = {name: at for name, at in self.pressed.items() if name != line}

    def look(self, view: View, who: str, *, line: str, visible: tuple[str, ...], scope: str, **rest: Any) -> Moment:
        """The moment now. `visible` are the lines whose samples are wanted, `scope` whose events: empty, of all."""
        board, now = self.keeper.board, self.clock.now()
        self._ask(visible, scope, board, now)
        self._forget_pressed(board, now)
        return Moment(
            config=self.config,
            board=board,
            view=view,
            now=now,
            looks=self.looks,
            keys=self.keys,
            line=line,
            order=self.order,
            who=who,
            read_only=self.read_only,
            fresh_s=self.clock.real(2.0),
            warming=time.monotonic() - self._opened < WARM_S,
            silent_since=self._silent(view, now),
            samples=self._heard.samples,
            events=self._heard.events,
            pressed=self.pressed,
            replay=self._playing() if self._playing is not None else None,
            **rest,
        )

    def _silent(self, view: View, now: Time) -> Time | None:
        """Since when nobody watches; None: somebody does, or it is too early to say."""
        if self._playing is not None:
            return None
        real = time.monotonic()
        if view.lease is not None and now - view.at < 10.0:
            self._lease_real, self._lease_at = real, now
            return None
        if real - self._opened < WARM_S or real - self._lease_real < LEASE_GONE_S:
            return None
        if self._lease_at:
            return self._lease_at
        signs = [pulse.at for key, pulse in view.pulses.items() if key.startswith(("source:", "target:"))]
        return max(signs, default=now - (real - self._opened))

    def _forget_pressed(self, board: Board, now: Time) -> None:
        if self.pressed:
            self.pressed = {
                name: at
                for name, at in self.pressed.items()
                if not board.line(name).open_holds and now - at < PRESSED_S
            }

    def _ask(self, visible: tuple[str, ...], scope: str, board: Board, now: Time) -> None:
        """Ask the ledger's thread, unless it has not answered yet."""
        if self._asked is not None:
            if not self._asked.done():
                return
            asked, self._asked = self._asked, None
            if asked.exception() is None:
                self._heard = self._kept(asked.result())
        due = time.monotonic() - self._asked_at >= ASK_EVERY_S
        if not due and (visible, scope) == self._wanted and board is self._board:
            return
        self._wanted, self._board, self._asked_at = (visible, scope), board, time.monotonic()
        names = [(name, metric.name) for name in visible for metric in self.config.lines[name].metrics]

        def job(ledger: Ledger) -> _Heard:
            found = {series(*pair): ledger.samples(series(*pair), now - SPAN_S, now + 60.0) for pair in names}
            rows = ledger.recent(scope, EVENTS)
            events = tuple(event for row in rows if (event := decode(row.kind, row.body)) is not None)
            return _Heard(found, events)

        self._asked = self.keeper.submit(job)

    def _kept(self, fresh: _Heard) -> _Heard:
        """The answer, with the objects of the last one where nothing changed, so that equal is quickly seen."""
        before = self._heard
        samples = {
            key: before.samples[key] if key in before.samples and before.samples[key] == rows else rows
            for key, rows in fresh.samples.items()
        }
        merged = {**before.samples, **samples}
        events = before.events if fresh.events == before.events else fresh.events
        return _Heard(merged, events)

    @property
    def waits(self) -> bool:
        """Whether an answer of the ledger is due."""
        return self._asked is not None and not self._asked.done()
