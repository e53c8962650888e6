"""`make demo` in a fresh clone: it builds its environment from the run-time pins alone, opens the room, and leaves."""

import fcntl
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

import pyte
import pytest

ROOT = Path(__file__).parents[1]
OUTSIDE = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "ANDON_"))}
"""As the person has it, read before any fixture hides it: pip needs the proxy and the certificates of this place."""
ROWS, COLUMNS = 24, 80
BUILD_LIMIT_S, ROOM_LIMIT_S = 300.0, 30.0


class Terminal:
    """A program in a pseudo-terminal of 80×24, and what a person would see of it."""

    def __init__(self, argv: list[str], folder: Path, env: dict[str, str]) -> None:
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self.screen)
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            argv, cwd=folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self.said = b""

    def look_until(self, seen, limit_s: float) -> bool:
        """Read what is written until `seen()` is true; False if it is not within `limit_s` seconds."""
        end = time.monotonic() + limit_s
        while not seen():
            if time.monotonic() > end:
                return False
            ready, _, _ = select.select([self._ours], [], [], 0.1)
            if ready and not self._read():
                self.process.wait(max(0.0, end - time.monotonic()))
                return bool(seen())
        return True

    def _read(self) -> bool:
        """Take in what was written; False once the other side is closed."""
        try:
            data = os.read(self._ours, 65536)
        except OSError:
            return False
        self.said += data
        self._stream.feed(data)
        return bool(data)

    def gone(self) -> bool:
        return self.process.poll() is not None

    @property
    def text(self) -> str:
        return "\n".join(self.screen.display)

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def end(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self._ours)


@pytest.fixture
def clone(tmp_path):
    """The files that a commit of the work tree would hold, and nothing else."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    folder = tmp_path / "andon"
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    return folder


@pytest.mark.skipif(not OUTSIDE.get("CI"), reason="downloads an environment; run it with: CI=1 make test")
def test_make_demo_opens_the_room_in_a_fresh_clone(clone):
    terminal = Terminal(["make", "demo"], clone, {**OUTSIDE, "TERM": "xterm-256color"})
    try:
        assert terminal.look_until(lambda: "F9" in terminal.text, BUILD_LIMIT_S), terminal.said[-3000:].decode(
            "utf-8", "replace"
        )
        for _ in range(2):  # it may ask once, because nobody else watches
            terminal.press("q")
            if terminal.look_until(terminal.gone, ROOM_LIMIT_S / 2):
                break
        assert terminal.process.poll() == 0, terminal.text
    finally:
        terminal.end()
    assert not list(clone.glob(".venv/lib/*/site-packages/pytest")), "the demo needs no test tool"
