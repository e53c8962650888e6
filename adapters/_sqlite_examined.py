"""Whether the ledger's file is whole, found out while it is used: its pages, and the chain of its events.

In a thread with a connection of its own, some time after the start, so that nobody waits for it. What is found is told
and changes nothing: a damaged ledger is still read and written as far as that goes.
"""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

from andon.ports import Audit

AFTER_S = 20.0
"""How long after the ledger was opened: the start, and commands, are over by then."""

LEAVE_S = 5.0
"""How long leaving waits for it, at most."""


class Examination:
    """One look at the whole file, begun by the first `words` that is asked for after `AFTER_S`."""

    def __init__(self, path: Path, walk: Callable[[sqlite3.Connection], Audit]) -> None:
        """`walk` walks the chain over a connection."""
        self._path, self._walk = path, walk
        self._at = time.monotonic() + AFTER_S
        self._thread: threading.Thread | None = None
        self._db: sqlite3.Connection | None = None
        self._left = False
        self._words = ""
        self.done = False
        """Whether all was looked at."""

    def words(self) -> str:
        """What is damaged; empty: nothing, as far as was looked."""
        if self._thread is None and not self._left and time.monotonic() >= self._at:
            self._thread = threading.Thread(target=self._look, name="examination", daemon=True)
            self._thread.start()
        return self._words

    def leave(self) -> None:
        """Stop looking."""
        self._left = True
        deadline = time.monotonic() + LEAVE_S
        while self._thread is not None and self._thread.is_alive() and time.monotonic() < deadline:
            db = self._db
            with contextlib.suppress(sqlite3.Error):
                if db is not None:
                    db.interrupt()  # again and again: between two statements there is nothing to interrupt
            self._thread.join(0.02)

    def _look(self) -> None:
        try:
            db = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
        except sqlite3.Error as error:
            self._words = str(error)
            return
        try:
            self._db = db
            found = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
            self._words = "" if found == "ok" else f"it is damaged: {found}"
            audit = self._walk(db)
            if audit.broken_at is not None:
                self._words = f"it is damaged, or was changed: {audit.words}"
            self.done = True
        except (sqlite3.Error, UnicodeDecodeError) as error:
            if not self._left and "locked" not in str(error):
                self._words = f"it is damaged: {error}"
        finally:
            self._db = None
            db.close()
