"""The room over the shop of `room_helpers` in a real terminal, for tests: what its engine is asked goes into a file."""

import sys
from pathlib import Path
from typing import Any

from tests.room_helpers import hold, shop


class Noted(list[Any]):
    """What the engine was asked: also on the disk, one word each."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def append(self, what: Any) -> None:
        super().append(what)
        with self.path.open("a") as file:
            file.write(f"{what[0]}\n")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with shop(folder, hold("checkout", "bo", 20, "odd")) as made:
        made.engine.asked = Noted(folder / "asked")
        room = made.room()
        room.run()
    sys.exit(room.return_code or 0)
