"""A small room behind the real driver, for tests: it writes down, one JSON line each, whatever reaches it."""

import json
import os
import sys
import threading
import time
from pathlib import Path

from rich.text import Text
from textual.app import ComposeResult
from textual.content import Content
from textual.events import Key, Paste, Resize
from textual.widgets import DataTable, Input, Static

from tui.terminal import Armed, Danger, GatedApp, guard_crashes, harden_process, usable

ARMED = Armed("shop", "production", "d2", "4f2a", "5de1", 1.0, 2.0, "roll back shop 5de1 → 4f2a")
CANARY = "sekrit-canary-4711"


class NotedRoom(GatedApp[None]):
    BINDINGS = [(key, f"bound('{key}')", key) for key in "abcdeghjklmnoprstuvxyzPR0123456789"] + [
        ("f9", "bound('f9')", "f9"),
        ("f4", "bound('f4')", "f4"),
        ("f8", "bound('f8')", "f8"),
        ("q", "quit", "quit"),
    ]
    CSS = "#hostile { height: 3; border: round; } DataTable { height: 6; }"

    def __init__(self, log: Path, hostile: str = "") -> None:
        super().__init__(
            Danger(lambda line: self.note("stop", line=line), lambda armed: self.note("rollback", target=armed.target)),
            log_path=log.with_suffix(".log"),
        )
        self._file = log.open("a", buffering=1)
        self._lock = threading.Lock()
        self.hostile = hostile
        self.drain_s = 0.0
        self.count = 0
        self.danger.stop_line = "shop"

    def note(self, what: str, **more: object) -> None:
        with self._lock:
            self._file.write(json.dumps({"what": what, "thread": threading.current_thread().name, **more}) + "\n")

    def compose(self) -> ComposeResult:
        yield Static("ready 0", id="status", markup=False)
        if os.environ.get("TEST_INPUT"):
            yield Input(id="input")
        if self.hostile:
            hostile = Static(Content(self.hostile), id="hostile")
            hostile.border_title = Content(self.hostile)
            yield hostile
            table: DataTable[Text] = DataTable()
            table.add_column(Text(self.hostile))
            table.add_row(Text(self.hostile))
            yield table

    def on_mount(self) -> None:
        if self.hostile:
            self.notify(self.hostile, title=self.hostile, markup=False)
        self.note("mounted")

    def frame_shown(self) -> None:
        self.danger.armed = ARMED
        self.note("frame")

    def drain(self, reason: str, deadline: float) -> None:
        self.note("drain", reason=reason, left_s=round(deadline - time.monotonic()))
        if self.drain_s:
            threading.Event().wait(self.drain_s)
            self.note("drained")

    def show(self, text: str) -> None:
        self.query_one("#status", Static).update(text)

    def on_danger_pressed(self, event: Danger.Pressed) -> None:
        self.note("pressed", key=event.key, act=event.act, taken=event.taken, why_not=event.why_not)
        self.show(event.why_not or f"{event.act} {event.line}")

    def on_key(self, event: Key) -> None:
        self.note("key", key=event.key)

    def on_paste(self, event: Paste) -> None:
        self.note("paste", text=event.text)

    def on_resize(self, event: Resize) -> None:
        self.note("resize", width=event.size.width)

    def action_bound(self, key: str) -> None:
        self.note("bound", key=key)
        handler = getattr(self, f"do_{key}", None)
        if handler:
            handler()

    def do_b(self) -> None:
        self.note("blocking")
        end = time.monotonic() + 3.0
        while time.monotonic() < end:
            pass
        self.note("unblocked")

    def do_c(self) -> None:
        token = CANARY
        raise RuntimeError(f"token {token} was refused")

    def do_d(self) -> None:
        self.danger.armed = None
        self.danger.why_not = "nothing to undo: on 88e1"
        self.frame_shown = lambda: None
        self.note("disarmed")

    def do_e(self) -> None:
        with self.suspend():
            self.note("suspended")
            sys.__stdout__.write("editor\n")
            sys.__stdout__.flush()
            sys.__stdin__.readline()
        self.note("resumed")

    def do_l(self) -> None:
        self.drain_s = 1.5

    def do_s(self) -> None:
        self.set_interval(0.02, self.flood)

    def do_x(self) -> None:
        self.exit(message=f"left {self.hostile}", return_code=3)

    def flood(self) -> None:
        self.count += 1
        self.show(f"ready {self.count} " + "".join(chr(0x4E00 + (self.count * 7 + n) % 900) for n in range(900)))
        self.note("tick", count=self.count, pending=self._driver.pending)


if __name__ == "__main__":
    log = Path(sys.argv[1])
    harden_process()
    guard_crashes(log)
    if why := usable():
        sys.exit(why)
    room = NotedRoom(log, os.environ.get("TEST_HOSTILE", ""))
    room.run()
    sys.exit(room.return_code or 0)
