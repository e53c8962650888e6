"""Folders that nobody else can look into."""

from pathlib import Path


def make_private(folder: Path) -> None:
    """Make a folder, and those above it that are missing, 0700 each, whatever the umask. Raises OSError.

    pathlib's `parents=True` leaves the folders in between to the umask.
    """
    for one in reversed((folder, *folder.parents)):
        if not one.exists():
            one.mkdir(mode=0o700, exist_ok=True)
