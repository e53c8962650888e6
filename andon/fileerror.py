"""What is wrong in a file that a person wrote, with its place."""

from andon.text import LINE_LIMIT, clean

Path = tuple[str | int, ...]


class FileError(Exception):
    """Something in a file is wrong: where, what, and what to do about it, in one line that can be shown.

    Without a file it is the command line or the place to look at that is wrong.
    """

    def __init__(self, file: str, place: tuple[int, int] | None, path: Path, words: str) -> None:
        self.file, self.place, self.path, self.words = file, place, path, words
        where = file + (f":{place[0]}:{place[1]}" if place else "")
        parts = (where, shown(path), words)
        super().__init__(clean(": ".join(part for part in parts if part), LINE_LIMIT))


def shown(path: Path) -> str:
    """A path as a person writes it: `lines.checkout.metrics[0].every`."""
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else str(part)
    return out
