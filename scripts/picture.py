"""Draws the picture of the README: the real room over the plant, some minutes after a change that breaks checkout.

    .venv/bin/python scripts/picture.py docs/room.svg

The plant's time goes thirty times as fast, so it takes about half a minute.
"""

import argparse
import asyncio
import re
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from andon.clock import FastClock
from andon.engine import Engine
from andon.keeper import Keeper
from andon.registry import ledger
from tui.app import Room
from tui.opening import demo_config

SPEED = 30
WAIT_S = 60.0
PAST_THE_STORY = ("recovered", "not recovered")


async def draw(columns: int, rows: int, seed: int) -> str:
    """Run the demo until its story is told; the screen as an SVG."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clock = FastClock(SPEED)
        config = demo_config(folder, seed)
        keeper = Keeper(lambda: ledger("sqlite")(folder / "ledger.db", clock, read_only=False), clock).start()
        engine = Engine(config, keeper, clock, folder, who="ann", terminal="desk").start()
        room = Room(config, keeper, engine, clock)
        try:
            async with room.run_test(size=(columns, rows)) as pilot:
                for _ in range(int(WAIT_S / 0.25)):
                    await pilot.pause(0.25)
                    if any(item.word in PAST_THE_STORY for item in keeper.board.line("checkout").helped.values()):
                        break
                else:
                    sys.exit("the story was not told in time; the demo's checkout line should be rolled back by then")
                await pilot.pause(0.5)
                svg = room.export_screenshot(title="andon")
        finally:
            engine.stop()
            keeper.close()
    # The file must not fetch a font from anywhere: whatever monospaced font the reader has will do.
    svg = re.sub(r"@font-face\s*\{.*?\}", "", svg, flags=re.DOTALL)
    return svg.replace("<text ", '<text xml:space="preserve" ')  # else some viewers drop the blanks a text begins with


def main() -> None:
    """Read the arguments and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("to", type=Path)
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--rows", type=int, default=30)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    args.to.write_text(asyncio.run(draw(args.columns, args.rows, args.seed)), encoding="utf-8")


if __name__ == "__main__":
    main()
