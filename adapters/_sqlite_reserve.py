"""Disk space held back beside the ledger, given up when the disk is full: then acts can still be recorded.

The file is 1 MiB of noise, which no file system stores in less. Emptied, it says to every process that the disk is full:
acts are recorded, what is only seen is not. It is made again when there is room for it twice over.
"""

import contextlib
import os
import shutil
import stat
import time
from pathlib import Path

SIZE = 1 << 20
AGAIN_S = 2.0
"""How often it is tried to make it again."""


class Reserve:
    """The reserve of one ledger; `None` in place of a path: none is kept."""

    def __init__(self, ledger: Path | None) -> None:
        self._file = ledger.with_name(f"{ledger.name}.reserve") if ledger else None
        self._again_at = 0.0

    def spent(self) -> bool:
        """Whether it was given up, and there is no room yet to make it again."""
        if self._size() != 0:
            return False
        if time.monotonic() >= self._again_at:
            self._again_at = time.monotonic() + AGAIN_S
            self.make()
        return self._size() == 0

    def make(self) -> None:
        """Make it, unless it is there or there is no room."""
        if self._file is None or self._size():
            return
        fresh = self._file.with_name(f"{self._file.name}-{os.urandom(4).hex()}")
        with contextlib.suppress(OSError):
            if shutil.disk_usage(self._file.parent).free < 2 * SIZE:
                return
            try:
                _write_noise(fresh)
                fresh.replace(self._file)
            except OSError:
                fresh.unlink(missing_ok=True)

    def give_up(self) -> bool:
        """Give its space back; False: it has none."""
        if self._file is None or not self._size():
            return False
        try:
            descriptor = os.open(self._file, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            os.ftruncate(descriptor, 0)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        self._again_at = time.monotonic() + AGAIN_S
        return True

    def _size(self) -> int | None:
        """Of the reserve; None: there is none, or what has its name is no file."""
        try:
            status = self._file.lstat() if self._file else None
        except OSError:
            return None
        return status.st_size if status and stat.S_ISREG(status.st_mode) else None


def _write_noise(file: Path) -> None:
    descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        noise = os.urandom(SIZE)
        while noise:
            noise = noise[os.write(descriptor, noise) :]
    finally:
        os.close(descriptor)
