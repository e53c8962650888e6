"""`andon watch`: the engine alone, as a service; one JSON line per event on stdout."""

import queue
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from andon.board import Board
from andon.events import NAMES, Event
from andon.model import to_json
from tui.setup import Desk


def watch(desk: Desk) -> int:
    """Run until a signal; exit 128 + its number, after what was begun is answered or recorded."""
    keeper = desk.keeper()
    lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    ended: list[int] = []

    def on_signal(number: int, _: FrameType | None) -> None:
        ended.append(number)
        lines.put(None)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)

    def heard(events: Sequence[tuple[int, Event]], _: Board) -> None:
        for seq, event in events:
            lines.put(to_json({"seq": seq, "kind": NAMES[type(event)], "event": event}))

    keeper.listen(heard)
    engine = desk.engine(keeper, duty=True)
    names = ", ".join(desk.config.lines)
    print(f"andon: watching {names}; ledger {desk.ledger}", file=sys.stderr, flush=True)
    try:
        while (line := lines.get()) is not None:
            sys.stdout.buffer.write(line + b"\n")
            sys.stdout.buffer.flush()
    except BrokenPipeError:
        ended.append(signal.SIGPIPE)
    engine.stop()
    keeper.close()
    return 128 + ended[0] if ended else 0
