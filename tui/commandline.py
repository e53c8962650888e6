"""What the commands do, after the options are known. What only one of them needs is imported when it is asked for."""

import argparse
import signal
from collections.abc import Callable
from typing import Any

from andon.fileerror import FileError
from andon.ports import LedgerUnusable
from tui.cli import complain
from tui.printing import NotPrinted, leave_stdout, out


def run(args: argparse.Namespace) -> int:
    """Do a command; returns the exit code."""
    try:
        return _COMMANDS[args.command](args)
    except FileError as error:
        return complain(str(error), prefix="" if error.file else "andon: ")
    except LedgerUnusable as error:
        return complain(str(error))
    except NotPrinted as error:
        return complain(str(error))
    except BrokenPipeError:
        leave_stdout()
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


# ---- looking


def _look(args: argparse.Namespace) -> int:
    from tui import looking

    return looking.status(args) if args.command == "status" else looking.gate(args)


def _audit(args: argparse.Namespace) -> int:
    from tui.setup import Desk

    keeper = Desk(args).keeper(read_only=True)
    try:
        audit = keeper.submit(lambda ledger: ledger.verify()).result()
        refolded = keeper.submit(_refold).result()
    finally:
        keeper.close()
    same = refolded == keeper.board
    words = f"{audit.events} events, the chain is whole" if audit.broken_at is None else audit.words
    if audit.broken_at is None and not same:
        words += "; but the checkpoint differs from a fold of all events: it is rebuilt at the next start of a room"
    out({"events": audit.events, "broken_at": audit.broken_at, "words": words, "checkpoint_equal": same}, args, words)
    return 0 if audit.broken_at is None and same else 1


def _refold(ledger: Any) -> Any:
    """The board folded from the first event."""
    from andon.board import Board
    from andon.keeper import fold

    board, seq = Board(), 0
    while rows := ledger.read(seq):
        _, board, seq = fold(board, rows)
    return board


def _schema(_: argparse.Namespace) -> int:
    import json

    from andon.config import schema

    out(None, argparse.Namespace(), json.dumps(schema(), indent=2))
    return 0


def _completion(args: argparse.Namespace) -> int:
    from tui.completion import completion

    return completion(args)


def _init(args: argparse.Namespace) -> int:
    from tui.beginning import init

    return init(args)


def _keys(args: argparse.Namespace) -> int:
    from tui.keys import keys

    return keys(args)


def _check(args: argparse.Namespace) -> int:
    from tui.checking import check
    from tui.setup import Desk

    return check(Desk(args), args)


# ---- the room and the engine


def _room(args: argparse.Namespace) -> int:
    from tui.opening import open_room
    from tui.setup import Desk

    desk = Desk(args)
    desk.check_theme()
    return open_room(desk, args)


def _demo(args: argparse.Namespace) -> int:
    from tui.opening import open_demo

    return open_demo(args)


def _watch(args: argparse.Namespace) -> int:
    from tui.setup import Desk
    from tui.watching import watch

    return watch(Desk(args), args.listen)


# ---- acting


def _act(args: argparse.Namespace) -> int:
    from andon.acts import NotDone
    from tui import acting
    from tui.leaving import end_in_order

    end_in_order()  # what was begun is answered or recorded, and no script is left behind
    commands = {
        "pull": acting.pull,
        "resume": acting.resume,
        "rollback": acting.rollback,
        "push": acting.push,
        "mark": acting.mark,
        "call": acting.call,
    }
    try:
        return commands[args.command](args)
    except NotDone as error:
        return complain(str(error), acting.REFUSED)


def _past(args: argparse.Namespace) -> int:
    from tui import past

    return past.run(args)


def _review(args: argparse.Namespace) -> int:
    from tui import reviewing

    return reviewing.run(args)


_COMMANDS: dict[str | None, Callable[[argparse.Namespace], int]] = {
    None: _room,
    "demo": _demo,
    "watch": _watch,
    "status": _look,
    "gate": _look,
    "check": _check,
    "audit": _audit,
    "schema": _schema,
    "keys": _keys,
    "completion": _completion,
    "init": _init,
    **dict.fromkeys(("backtest", "judge", "report"), _past),
    **dict.fromkeys(("export", "replay"), _review),
    **dict.fromkeys(("pull", "resume", "rollback", "push", "mark", "call"), _act),
}
