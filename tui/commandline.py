"""What the commands do, after the options are known."""

import argparse
import signal
import time
from collections.abc import Callable
from typing import Any

from andon import rollback
from andon.acts import NotDone
from andon.board import Line
from andon.clock import age
from andon.config import schema
from andon.cord import state
from andon.model import SETTLED
from andon.ports import LedgerUnusable
from andon.yamlfile import FileError
from tui import acting
from tui.cli import NO_ANSWER, complain
from tui.printing import NotPrinted, leave_stdout, out
from tui.setup import Desk

SIGNS = {"running": "●", "stopping": "■", "stopped": "■", "unknown": "?"}


def run(args: argparse.Namespace) -> int:
    """Do a command; returns the exit code."""
    try:
        return _COMMANDS[args.command](args)
    except FileError as error:
        return complain(str(error), prefix="" if error.file else "andon: ")
    except LedgerUnusable as error:
        return complain(str(error))
    except NotDone as error:
        return complain(str(error), acting.REFUSED)
    except NotPrinted as error:
        return complain(str(error))
    except BrokenPipeError:
        leave_stdout()
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


# ---- looking


def _status(args: argparse.Namespace) -> int:
    desk = Desk(args)
    desk.check_line(args.line)
    keeper = desk.keeper(read_only=True)
    try:
        pulses = keeper.submit(lambda ledger: ledger.pulses()).result()
        lease = keeper.submit(lambda ledger: ledger.lease()).result()
        now = desk.clock.now()
        names = [args.line] if args.line else list(desk.config.lines)
        states = {name: state(keeper.board.line(name), desk.config.lines[name], pulses, now) for name in names}
        rows = [_line_view(keeper.board.line(name), states[name], now) for name in names]
        watched = {"holder": lease.holder, "epoch": lease.epoch} if lease else None
        text = "\n".join(_status_text(row) for row in rows)
        if lease is None:
            text += "\n✗ nobody watches: start `andon watch` or a room"
        out({"lines": rows, "engine": watched}, args, text)
    finally:
        keeper.close()
    if any(found in ("stopping", "stopped") for found in states.values()):
        return 1
    return 0 if lease and all(found == "running" for found in states.values()) else NO_ANSWER


def _line_view(line: Line, found: str, now: float) -> dict[str, Any]:
    """What the line and hold screens show, for machines."""
    target = rollback.target(line, now)
    current = line.current
    watch = line.watches.get(current.id) if current else None
    return {
        "line": line.name,
        "state": found,
        "current": current,
        "verdict": watch.verdict if watch else None,
        "verdicts": list(watch.verdicts.values()) if watch else [],
        "watched_until": watch.until if watch and not watch.ended else None,
        "holds": line.open_holds,
        "rollback_target": None if isinstance(target, rollback.Nothing) else target.to,
        "rollback_words": target.why if isinstance(target, rollback.Nothing) else target.words,
        "halted": line.halted,
        "sources": line.sources,
        "acts": list(line.acts.values())[-20:],
        "helped": line.helped,
        "deployments": line.deployments[-20:],
    }


def _status_text(row: dict[str, Any]) -> str:
    now = time.time()
    current, verdict = row["current"], row["verdict"]
    words = f"{SIGNS[row['state']]} {row['line']:<14} {row['state']:<9}"
    if current is not None:
        words += f" {rollback.short(current.version):<8} {age(now - current.at):>5}"
        words += f"  {verdict.word}: {verdict.sentence}" if verdict else "  not judged yet"
    for hold in row["holds"]:
        words += f"\n    hold {hold.id} by {hold.owner}, {age(now - hold.since)}: {hold.why}"
    for name, source in row["sources"].items():
        if source.state != "ok":
            words += f"\n    {name} {source.state} for {age(now - source.since)}: {source.words}"
    for act in row["acts"]:
        if act.state not in SETTLED:
            words += f"\n    {act.kind} {act.target} {act.state}: {act.words}"
    return words


def _gate(args: argparse.Namespace) -> int:
    desk = Desk(args)
    desk.check_line(args.line)
    keeper = desk.keeper(read_only=True)
    deadline = desk.clock.now() + args.wait
    try:
        while True:
            pulses = keeper.submit(lambda ledger: ledger.pulses()).result()
            lease = keeper.submit(lambda ledger: ledger.lease()).result()
            now = desk.clock.now()
            found = state(keeper.board.line(args.line), desk.config.lines[args.line], pulses, now)
            if (found == "running" and lease) or now >= deadline:
                break
            time.sleep(0.25)
    finally:
        keeper.close()
    holds = keeper.board.line(args.line).open_holds
    out({"state": found, "watched": lease is not None, "holds": holds}, args, found)
    if found == "running":
        return 0 if lease else complain("nobody watches this line: no engine holds the lease")
    return 1 if found in ("stopping", "stopped") else NO_ANSWER


def _audit(args: argparse.Namespace) -> int:
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

    out(None, argparse.Namespace(), json.dumps(schema(), indent=2))
    return 0


def _keys(args: argparse.Namespace) -> int:
    from tui.commands import COMMANDS

    rows = [{"id": item.id, "key": item.key, "title": item.title, "help": item.tooltip} for item in COMMANDS]
    out(rows, args, "\n".join(f"{row['key']:<12} {row['title']:<28} {row['help']}" for row in rows))
    return 0


def _check(args: argparse.Namespace) -> int:
    from tui.checking import check

    return check(Desk(args), args)


# ---- the room and the engine


def _room(args: argparse.Namespace) -> int:
    from tui.opening import open_room

    desk = Desk(args)
    desk.check_theme()
    return open_room(desk, args)


def _demo(args: argparse.Namespace) -> int:
    from tui.opening import open_demo

    return open_demo(args)


def _watch(args: argparse.Namespace) -> int:
    from tui.watching import watch

    return watch(Desk(args))


_COMMANDS: dict[str | None, Callable[[argparse.Namespace], int]] = {
    None: _room,
    "demo": _demo,
    "watch": _watch,
    "status": _status,
    "gate": _gate,
    "check": _check,
    "audit": _audit,
    "schema": _schema,
    "keys": _keys,
    "pull": acting.pull,
    "resume": acting.resume,
    "rollback": acting.rollback,
    "push": acting.push,
    "mark": acting.mark,
}
