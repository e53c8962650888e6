"""The real room over a den of hostile texts, walking by itself through everything it shows; for tests in a terminal.

    python -m tests.output_room FOLDER LAYERS ATTACKS

LAYERS are those that stay: `both`, `gate` (texts are not cleaned where they come in), `none`; or `below`, for both and the
screens below a line. ATTACKS is a JSON object of
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
from tui.panels.facts import readings
from tui.screens.reason import ReasonScreen

MARK = "\x1b]0;andon view {}\x07"
SURFACES = {
    "floor": "Nbgkotvwy",
    "held": "ABFHKNRTVbhovwxy",
    "runs": "CDKMNSWabgmtuv",
    "reason": "1howy",
    "told": "234",
    "left": "5",
}
"""What strangers wrote, by view and by the letters of `tests/hostile.py`: 48 places."""


BELOW = {
    "deployment": "CMNabkmtv",
    "about": "v",
    "run": "67cgitu",
    "metric": "N",
}
"""The same for the screens below a line."""
DROPPED = "136"
"""Shown by widgets that leave out what they cannot hold; of a log the colours."""
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
        marks = {surface: self.say(name)(surface)[:3] for surface in {**SURFACES, **BELOW}[self.view]}
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

    async def below(self, name: str) -> None:
        """Everything below the line that runs: a deployment, what is asked about it, a run with its log, a metric."""
        room = self.room
        room.select(f"{name}-runs")
        room.action_do("open")
        room.picked = 1
        room.paint()
        self.begin("deployment")
        room.action_do("open")
        await self.shown(name)
        self.begin("about")
        room.action_do("irreversible")
        await self.shown(name)
        room.action_do("back")
        room.action_do("back")
        room.action_do("other")
        self.begin("run")
        room.action_do("open")
        await self.shown(name)
        room.action_do("back")
        room.metric = next(
            at for at, item in enumerate(readings(room.moment, room.line)) if item.metric.name != "conversion"
        )
        room.paint()
        self.begin("metric")
        room.action_do("full")
        await self.shown(name)
        room.action_do("back")
        room.action_do("back")

    async def walk_below(self) -> None:
        """The screens below a line, for each text."""
        for name in self.names:
            await self.below(name)
        self.room.exit(message="", return_code=0)

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
    if layers not in ("both", "below"):
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
    way = Walk.walk_below if layers == "below" else Walk.walk
    room.call_after_refresh(lambda: room.run_worker(way(Walk(room, names, say)), exit_on_error=True))
    room.run()
    den.keeper.close()
    return room.return_code or 0


if __name__ == "__main__":
    sys.exit(main())
