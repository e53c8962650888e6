"""The real room over a den of hostile texts, walking by itself through everything it shows; for tests in a terminal.

    python -m tests.output_room FOLDER LAYERS ATTACKS

LAYERS are those that stay: `both`, `gate` (texts are not cleaned where they come in), `none`; ATTACKS is a JSON object of
letter to text. Before each view the terminal is given a title that names it.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

import andon.model
import tui.screen_out
from tests.hostile import Den, Say
from tui.app import Room
from tui.screens.reason import ReasonScreen

MARK = "\x1b]0;andon view {}\x07"
SURFACES = {
    "floor": "BNRbgkotvwy",
    "held": "ABFHKNRTVbhovwxy",
    "runs": "CDKMNSWabgmtuv",
    "reason": "1BRhowy",
    "told": "234",
    "left": "5",
}
"""What strangers wrote, by view and by the letters of `tests/hostile.py`: 52 places."""


DROPPED = "13"
"""Shown by widgets that leave out what they cannot hold."""
MOST_FRAMES = 100


class Walk:
    """A room that shows all it has, one view after the other, and leaves."""

    def __init__(self, room: Room, names: tuple[str, ...], say: Callable[[str], Say]) -> None:
        self.room, self.names, self.say = room, names, say
        self.seen = asyncio.Event()
        shown = room.frame_shown

        def frame_shown() -> None:
            shown()
            self.seen.set()

        room.frame_shown = frame_shown
        self.view, self.written = "", ""
        self._write = room._driver.write
        room._driver.write = self.write

    def begin(self, view: str) -> None:
        """Name what comes next."""
        self.view = view
        self.room._write(MARK.format(view))
        self.written = ""

    def write(self, data: str) -> None:
        """What goes to the terminal."""
        self.written += data
        self._write(data)

    def missing(self, name: str) -> list[str]:
        """The surfaces of this view that were not written since it began."""
        marks = {surface: self.say(name)(surface)[:3] for surface in SURFACES[self.view]}
        seen = {
            surface: (mark, mark[:2] + "\ufffd", mark[:2] if surface in DROPPED else mark)
            for surface, mark in marks.items()
        }
        return [surface for surface, marks in seen.items() if not any(mark in self.written for mark in marks)]

    async def shown(self, name: str) -> None:
        """Paint until everything of this view was written, and the terminal has taken it."""
        room = self.room
        for _ in range(MOST_FRAMES):
            room.redraw_soon()
            self.seen.clear()
            room.screen.refresh(layout=True)
            await asyncio.wait_for(self.seen.wait(), 30)
            if not self.missing(name):
                return
        raise AssertionError(f"{self.view} of {name} does not show {self.missing(name)}")

    async def line(self, name: str) -> None:
        """Everything about the two lines of one text."""
        room = self.room
        room.find = name
        room.refind()
        room.select(f"{name}-held")
        self.begin("floor")
        await self.shown(name)
        for kind in ("held", "runs"):
            room.select(f"{name}-{kind}")
            self.begin(kind)
            room.action_do("open")
            await self.shown(name)
            if kind == "held":
                self.begin("reason")
                room.action_do("resume")
                assert isinstance(room.screen, ReasonScreen)
                room.screen.input.value = self.say(name)("1")
                await self.shown(name)
                room.action_do("back")
            room.action_do("back")

    async def told(self, name: str) -> None:
        """What the room tells beside its panels."""
        room, say = self.room, self.say(name)
        self.begin("told")
        room.find = say("2")
        room.refind()
        room.engine.refuses = say("3")
        room.follow(room.engine.pull("x"), "stop")
        room.question = say("4")
        await self.shown(name)
        room.question = ""
        room.clear_notifications()

    async def walk(self) -> None:
        """All of it."""
        for name in self.names:
            await self.line(name)
            await self.told(name)
        self.room.exit(message="\n".join(self.say(name)("5") for name in self.names), return_code=0)


def main() -> int:
    """Walk and leave."""
    folder, layers, attacks = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    if layers != "both":
        andon.model.clean = lambda text, limit=0: text
    if layers == "none":
        tui.screen_out.gate = lambda text: text
    names = tuple(f"p{letter}" for letter in attacks)

    def say(name: str) -> Say:
        return lambda surface: f"{surface}{name[1]}{attacks[name[1]]}"

    den = Den(folder, names, say)
    room = Room(den.config, den.keeper, den.engine, den.clock)
    room.sight._opened -= 60
    room.announcer.look = lambda _: None  # no bell for each hold that comes into sight
    room.set_interval = lambda *_, **__: None  # it is painted when the walk says so
    room.call_after_refresh(lambda: room.run_worker(Walk(room, names, say).walk(), exit_on_error=True))
    room.run()
    den.keeper.close()
    return room.return_code or 0


if __name__ == "__main__":
    sys.exit(main())
