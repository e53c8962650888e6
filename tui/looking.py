"""The commands that only look: `status` and `gate`.

Scripts and pipelines wait for them, so what they load is light: of a config that was read before, what they need is
remembered, and neither YAML nor an adapter is touched.
"""

import argparse
import gc
import hashlib
import time
from typing import Any

import msgspec

from andon import rollback
from andon.board import Line
from andon.clock import Clock, WallClock, age
from andon.configplace import content as content_of
from andon.keeper import Keeper
from andon.linestate import LineState, state
from andon.model import SETTLED
from andon.ports import Lease
from tui import brief, remembered, setup
from tui.cli import NO_ANSWER, complain
from tui.printing import out
from tui.remembered import Facts

SIGNS = {"running": "●", "stopping": "■", "stopped": "■", "unknown": "?"}


class Looker(msgspec.Struct, frozen=True):
    """What a command that looks works with: what the config says, and the opened ledger."""

    facts: Facts
    keeper: Keeper
    clock: Clock

    def states(self, names: list[str]) -> tuple[dict[str, LineState], Lease | None]:
        """In which state each line is, and who watches."""
        pulses = self.keeper.submit(lambda ledger: ledger.pulses()).result()
        lease = self.keeper.submit(lambda ledger: ledger.lease()).result()
        now, board = self.clock.now(), self.keeper.board
        return {name: state(board.line(name), self.facts.lines[name], pulses, now) for name in names}, lease


def _looker(args: argparse.Namespace) -> Looker:
    """Raises FileError, LedgerUnusable."""
    gc.disable()  # what is made here lasts until the end, which is near
    clock = WallClock()
    path = setup.config_path(args.config)
    content = content_of(path)
    facts = remembered.recall(path, content)
    if facts is None or (args.line is not None and args.line not in facts.lines):
        desk = setup.Desk(args)
        desk.check_line(args.line)
        facts = remembered.facts(desk.config)
        if desk.config.digest == hashlib.sha256(content).hexdigest()[:16]:
            remembered.remember(path, content, facts)
    address = setup.given_address(args) or setup.address(facts.ledger, path.absolute().parent)
    return Looker(facts, setup.open_ledger(address, clock, read_only=True, lean=True), clock)


def status(args: argparse.Namespace) -> int:
    """0: all lines run and are watched; 1: one is stopping or stopped; 2: cannot tell."""
    looker = _looker(args)
    try:
        names = [args.line] if args.line else list(looker.facts.lines)
        states, lease = looker.states(names)
        now = looker.clock.now()
        if args.format:
            held = {name: looker.keeper.board.line(name).open_holds for name in names}
            since = {name: min(hold.since for hold in holds) for name, holds in held.items() if holds}
            out(None, args, brief.line(args.format, states, since, now, watched=lease is not None))
            return _code(states, watched=lease is not None)
        rows = [_line_view(looker.keeper.board.line(name), states[name], now) for name in names]
        watched = {"holder": lease.holder, "epoch": lease.epoch} if lease else None
        text = "\n".join(_status_text(row) for row in rows)
        if lease is None:
            text += "\n✗ nobody watches: start `andon watch` or a room"
        out({"lines": rows, "engine": watched}, args, text)
    finally:
        looker.keeper.close()
    return _code(states, watched=lease is not None)


def _code(states: dict[str, LineState], *, watched: bool) -> int:
    if any(found in ("stopping", "stopped") for found in states.values()):
        return 1
    return 0 if watched and all(found == "running" for found in states.values()) else NO_ANSWER


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
        "call": line.call,
        "call_has": line.call_has if line.call is not None else "",
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
    if (call := row["call"]) is not None:
        left = max(0, round(call.not_before - now))
        why = f": {call.why}" if call.why else ""
        has = f", {row['call_has']} has it" if row["call_has"] else ""
        words += f"\n    ▲ called by {call.who}, stops in {left} s{has}{why}"
    for name, source in row["sources"].items():
        if source.state != "ok":
            words += f"\n    {name} {source.state} for {age(now - source.since)}: {source.words}"
    for act in row["acts"]:
        if act.state not in SETTLED:
            words += f"\n    {act.kind} {act.target} {act.state}: {act.words}"
    return words


def gate(args: argparse.Namespace) -> int:
    """0: the line runs and is watched; 1: it is stopping or stopped; 2: cannot tell."""
    looker = _looker(args)
    deadline = looker.clock.now() + args.wait
    try:
        while True:
            states, lease = looker.states([args.line])
            found = states[args.line]
            if (found == "running" and lease) or looker.clock.now() >= deadline:
                break
            time.sleep(0.25)
    finally:
        looker.keeper.close()
    holds = looker.keeper.board.line(args.line).open_holds
    out({"state": found, "watched": lease is not None, "holds": holds}, args, found)
    if found == "running":
        return 0 if lease else complain("nobody watches this line: no engine holds the lease")
    return 1 if found in ("stopping", "stopped") else NO_ANSWER
