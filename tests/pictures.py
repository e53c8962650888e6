"""`make screenshots`: the pictures of the documents, drawn by the real room over a made-up shop at a fixed time.

    python -m tests.pictures FOLDER

The fonts are those of whoever looks: nothing is loaded from elsewhere.
"""

import asyncio
import os
import re
import sys
import tempfile
import time
from pathlib import Path

PICTURES = (
    ("floor", (120, 30), "dark", ("down", "down")),
    ("floor-light", (120, 30), "light", ("down", "down")),
    ("metric", (120, 36), "dark", ("down", "down", "enter", "w")),
    ("deployment", (120, 30), "dark", ("down", "down", "enter", "enter")),
    ("hold", (120, 30), "dark", ("down", "down", "enter", "h")),
)


async def draw(folder: Path) -> None:
    """Draw each picture into the folder."""
    from tests.room_helpers import incident, settle, shop
    from tests.test_room import pressed

    for name, size, theme, keys in PICTURES:
        with tempfile.TemporaryDirectory() as place, shop(Path(place), *incident(), dips=("revenue/min",)) as made:
            room = made.room(theme=theme)
            async with room.run_test(size=size) as pilot:
                await settle(room, pilot)
                await pressed(room, pilot, *keys)
                picture = room.export_screenshot(title="andon")
        picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)
        (folder / f"{name}.svg").write_text(picture)
        print(folder / f"{name}.svg")


if __name__ == "__main__":
    os.environ |= {"TZ": "UTC", "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    os.environ.pop("NO_COLOR", None)
    time.tzset()
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    asyncio.run(draw(target))
