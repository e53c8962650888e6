"""Breaks a process in one place after another, each in a fork of its own, with six opened secrets in what it raises.

python -m tests.crash_sites FOLDER SITE …: writes FOLDER/SITE.out (what was printed), SITE.log and SITE.code.
"""

import asyncio
import concurrent.futures
import contextlib
import gc
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import warnings
import weakref
from pathlib import Path

import msgspec
from textual import work
from textual.app import App, ComposeResult
from textual.filter import LineFilter
from textual.message import Message
from textual.reactive import reactive
from textual.screen import Screen
from textual.signal import Signal
from textual.widget import Widget
from textual.widgets import Static

from andon.secret import Secret
from tests.canaries import TOKENS, echo
from tui.leaving import guard_crashes, harden_process
from tui.opening import _log_to
from tui.terminal import GatedApp

ALL = " ".join(echo(token) for token in reversed(TOKENS.values()))  # words are cut: those hardest to find come first


def boom(*_: object, **__: object) -> None:
    """Raise something with the secrets in its words, its cause, its notes and its frame."""
    held = [ALL]
    try:
        raise ValueError(f"a cause of {held}")
    except ValueError as cause:
        error = KeyError(ALL)
        error.add_note(ALL)
        raise error from cause


async def aboom(*_: object, **__: object) -> None:
    boom()


class Room(GatedApp[None]):
    """One that breaks where it is told."""

    class Told(Message):
        pass

    level = reactive(0)

    def __init__(self, **broken: object) -> None:
        super().__init__()
        for name, how in broken.items():
            setattr(self, name, how)

    def compose(self) -> ComposeResult:
        yield Static("ready")


def room(**broken: object) -> None:
    app = type("Broken", (Room,), broken)()
    app.run(headless=True, size=(80, 24))
    sys.exit(app.return_code or 0)


def at_mount(how) -> None:
    """A room in which `how(app)` is done at its start."""

    async def on_mount(self) -> None:
        found = how(self)
        if asyncio.iscoroutine(found):
            await found

    room(on_mount=on_mount)


def widget(**broken: object) -> None:
    kind = type("Part", (Widget,), {"DEFAULT_CSS": "Part { height: 3; }", **broken})

    def compose(self) -> ComposeResult:
        yield kind()

    room(compose=compose)


def screen(**broken: object) -> None:
    kind = type("Page", (Screen,), broken)
    at_mount(lambda app: app.push_screen(kind()))


class BadFilter(LineFilter):
    def apply(self, segments, background):
        boom()


def subscribe(app: App) -> None:
    signal: Signal[str] = Signal(app, "news")
    signal.subscribe(app, boom)
    signal.publish("x")


async def grouped() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(aboom())
        group.create_task(aboom())


async def in_a_thread() -> None:
    await asyncio.to_thread(boom)


def in_a_pool() -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(boom).result()


@contextlib.contextmanager
def closing_badly():
    try:
        yield
    finally:
        boom()


def within_a_context() -> None:
    with closing_badly():
        pass


def generated():
    yield 1
    boom()


def group_raised() -> None:
    raise ExceptionGroup(ALL, [ValueError(ALL), ExceptionGroup("inner", [KeyError(ALL)])])


def cut_text() -> None:
    (ALL.encode() + b"\xff").decode()


class Wanted(msgspec.Struct):
    n: int


def deep(n: int = 0) -> None:
    held = ALL
    deep(n + len(held))


def failed_assertion() -> None:
    assert ALL == "x", ALL


class Loud(Exception):
    def __str__(self) -> str:
        raise RuntimeError(ALL)


def loud() -> None:
    raise Loud


FATAL = {
    # the room: Textual's own hooks, timers, workers, widgets, screens
    "compose": lambda: room(compose=boom),
    "mount": lambda: room(on_mount=boom),
    "mount-async": lambda: room(on_mount=aboom),
    "load": lambda: room(on_load=boom),
    "ready": lambda: room(on_ready=boom),
    "resize": lambda: room(on_resize=boom),
    "idle": lambda: room(on_idle=boom),
    "frame-shown": lambda: room(frame_shown=boom),
    "timer": lambda: at_mount(lambda app: app.set_timer(0.01, boom)),
    "interval": lambda: at_mount(lambda app: app.set_interval(0.01, aboom)),
    "call-later": lambda: at_mount(lambda app: app.call_later(boom)),
    "call-next": lambda: at_mount(lambda app: app.call_next(aboom)),
    "after-refresh": lambda: at_mount(lambda app: app.call_after_refresh(boom)),
    "message": lambda: room(
        on_broken_told=boom, on_room_told=boom, on_mount=lambda self: self.post_message(Room.Told())
    ),
    "action": lambda: room(action_break=boom, on_mount=lambda self: self.call_later(self.run_action, "break")),
    "key": lambda: room(on_key=boom, on_mount=lambda self: self.call_later(self.simulate_key, "x")),
    "worker": lambda: at_mount(lambda app: app.run_worker(aboom())),
    "worker-thread": lambda: at_mount(lambda app: app.run_worker(boom, thread=True)),
    "worker-decorated": lambda: at_mount(work(exit_on_error=True)(aboom)),
    "worker-state": lambda: room(
        on_worker_state_changed=boom, on_mount=lambda self: self.run_worker(asyncio.sleep(0)) and None
    ),
    "watch": lambda: room(watch_level=boom, on_mount=lambda self: setattr(self, "level", 1)),
    "validate": lambda: room(validate_level=boom, on_mount=lambda self: setattr(self, "level", 1)),
    "compute": lambda: room(depth=reactive(0), compute_depth=boom),
    "signal": lambda: at_mount(subscribe),
    "screen-compose": lambda: screen(compose=boom),
    "screen-mount": lambda: screen(on_mount=boom),
    "screen-resume": lambda: screen(on_screen_resume=boom),
    "widget-compose": lambda: widget(compose=boom),
    "widget-mount": lambda: widget(on_mount=boom),
    "widget-render": lambda: widget(render=boom),
    "widget-render-line": lambda: widget(render_line=boom),
    "widget-size": lambda: widget(on_resize=boom),
    "line-filter": lambda: room(get_line_filters=lambda self: [BadFilter()]),
    "query": lambda: at_mount(lambda app: app.query_one(f"#x{TOKENS['hex']}")),
    # the main thread of any command
    "main": boom,
    "main-group": group_raised,
    "main-loop": lambda: asyncio.run(aboom()),
    "task-group": lambda: asyncio.run(grouped()),
    "to-thread": lambda: asyncio.run(in_a_thread()),
    "pool": in_a_pool,
    "context": within_a_context,
    "generator": lambda: list(generated()),
    "text": cut_text,
    "json": lambda: json.loads(f'{{"a": {ALL}}}'),
    "record": lambda: msgspec.convert({"n": ALL}, Wanted),
    "program": lambda: subprocess.run(["false", ALL], check=True),
    "no-program": lambda: subprocess.run([f"/nowhere/{ALL}"], check=True),
    "no-file": lambda: Path(f"/nowhere/{TOKENS['passphrase']}").read_text(),
    "recursion": deep,
    "assertion": failed_assertion,
    "words-that-fail": loud,
    "compiled": lambda: compile(f"x = {ALL!r} (", "x", "exec"),
    "abort": os.abort,
}


class Dying:
    def __del__(self) -> None:
        boom()


def in_another_thread() -> None:
    thread = threading.Thread(target=boom)
    thread.start()
    thread.join()


def weakly() -> None:
    thing = Dying.__new__(type("Thing", (), {}))
    kept = weakref.ref(thing, boom)
    del thing
    gc.collect()
    del kept


async def left_alone() -> None:
    lost = asyncio.create_task(aboom())
    await asyncio.wait([lost])
    del lost
    gc.collect()
    asyncio.get_running_loop().call_soon(boom)
    await asyncio.sleep(0.01)


def called_back() -> None:
    future: concurrent.futures.Future[int] = concurrent.futures.Future()
    future.add_done_callback(boom)
    future.set_result(1)


def logged() -> None:
    log = logging.getLogger("andon.x")
    for logger in (log, logging.getLogger("some.library")):
        logger.error("it was %s", ALL)
        logger.error("%d", ALL)  # logging itself fails over it
        try:
            boom()
        except KeyError:
            logger.exception("for %s", ALL)
            logger.exception("with its stack", stack_info=True)


QUIET = {
    "thread": in_another_thread,
    "finalizer": lambda: Dying() and None,
    "weak-reference": weakly,
    "task-nobody-awaits": lambda: asyncio.run(left_alone()),
    "future-callback": called_back,
    "logging": logged,
    "warning": lambda: warnings.warn(ALL, stacklevel=1),
}
"""Where the process goes on: it is told in the log, or on stderr where there is none, and no value with it."""


def begin(folder: Path, name: str) -> None:
    """What every room does at its start, with what it prints in a file."""
    out = os.open(folder / f"{name}.out", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    for number in (1, 2):
        os.dup2(out, number)
    os.chdir(folder)
    harden_process()
    logged_to = _log_to(folder / f"{name}.log")
    guard_crashes(logged_to)


def open_secrets() -> None:
    for kind, token in TOKENS.items():
        os.environ[f"CANARY_{kind}"] = token
        assert Secret(f"env:CANARY_{kind}").open() == token
        del os.environ[f"CANARY_{kind}"]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    open_secrets()
    for site in sys.argv[2:]:
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # one that hangs is seen as that
            begin(folder, site)
            (FATAL | QUIET)[site]()
            sys.exit(0)
        (folder / f"{site}.code").write_text(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
