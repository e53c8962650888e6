"""`andon watch`: the engine alone, as a service; one JSON line per event on stdout."""

import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING

from andon.board import Board
from andon.events import NAMES, Event
from andon.model import to_json
from andon.text import gate
from tui.cli import complain
from tui.setup import Desk

if TYPE_CHECKING:
    from andon.engine import View
    from tui.listening import Server

LOOK_UP_S = 0.5
"""How often this process looks up from doing nothing."""
LAST_LINES_S = 1.0
"""How long the reader of stdout is given for the last lines."""


def watch(desk: Desk, listen: tuple[str, int] | None = None) -> int:
    """Run until a signal; exit 128 + its number, after what was begun is answered or recorded. Raises FileError."""
    keeper = desk.keeper()
    lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    ended: queue.SimpleQueue[int] = queue.SimpleQueue()

    def on_signal(number: int, _: FrameType | None) -> None:
        ended.put(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, and a shell's background, have said what they want
            signal.signal(number, on_signal)

    def heard(events: Sequence[tuple[int, Event]], _: Board) -> None:
        for seq, event in events:
            lines.put(to_json({"seq": seq, "kind": NAMES[type(event)], "event": event}))

    keeper.listen(heard)
    engine = desk.engine(keeper, duty=True)
    names = ", ".join(desk.config.lines)
    print(f"andon: watching {names}; ledger {gate(desk.ledger_shown)}", file=sys.stderr, flush=True)
    server = _listening(desk, listen, lambda: engine.view, lambda: keeper.board) if listen else None
    printer = threading.Thread(target=_print, args=(lines, ended), name="stdout", daemon=True)
    printer.start()
    why = _first(ended)
    if server is not None:
        server.end()
    engine.stop()
    keeper.close()
    lines.put(None)
    printer.join(LAST_LINES_S)
    return 128 + why


def _listening(
    desk: Desk, where: tuple[str, int], view: "Callable[[], View]", board: Callable[[], Board]
) -> "Server | None":
    """Begin to listen. An address that cannot be taken is said, and keeps the engine from nothing."""
    from tui.listening import Server, Told

    try:
        server = Server(where, Told(desk.config, desk.clock, view, board))
    except OSError as error:
        complain(f"--listen {where[0]}:{where[1]}: {error.strerror}; watching all the same")
        return None
    host, port = server.server_address[:2]
    print(f"andon: listening on {host!s}:{port}", file=sys.stderr, flush=True)
    server.begin()
    return server


def _first(ended: "queue.SimpleQueue[int]") -> int:
    """The first reason to end. A signal that comes just before this thread falls asleep does not wake it: it looks up."""
    while True:
        try:
            return ended.get(timeout=LOOK_UP_S)
        except queue.Empty:
            continue


def _print(lines: "queue.SimpleQueue[bytes | None]", ended: "queue.SimpleQueue[int]") -> None:
    """Write lines in a thread of its own, without a buffer: a reader that stalls must keep neither watch nor exit waiting.

    A reader that left ends the watch; a full disk does not: the events are in the ledger.
    """
    failed = False
    while (line := lines.get()) is not None:
        rest = gate(line.decode()).encode() + b"\n"
        try:
            while rest:
                rest = rest[os.write(sys.stdout.fileno(), rest) :]
        except BrokenPipeError:
            ended.put(signal.SIGPIPE)
            return
        except OSError as error:
            if not failed:
                complain(f"stdout: {error.strerror}; lines are missing there, the ledger has them")
            failed = True
