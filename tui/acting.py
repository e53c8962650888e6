"""The commands that act. Each waits for its proof: 0 a read confirmed it, 3 it is recorded and not confirmed yet, 1 it was
refused, 2 there was no answer.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from andon import rollback as rollbacks
from andon.acts import NotDone
from andon.engine import Engine
from andon.keeper import Keeper
from andon.model import Act
from andon.yamlfile import FileError
from tui.cli import NO_ANSWER, complain
from tui.printing import out
from tui.setup import Desk

CONFIRMED, REFUSED, NOT_YET = 0, 1, 3


class Asked(msgspec.Struct):
    """What a command asked for: what to show of it, and how to find what came of it."""

    shown: Any
    acts: Callable[[], list[Act]]
    """The acts that belong to it, as they are now."""
    words: str = ""
    """What to say before what became of the acts."""
    recorded: Callable[[], bool] = lambda: True
    """Whether the ledger has it."""
    withheld: bool = False
    """Whether something was asked for that is not done yet: another line's hold keeps it, or nobody is there to do it."""
    refused: bool = False
    """Whether a part of it was refused; the words say which."""


def _acting(ask: Callable[[Desk, Engine, argparse.Namespace], Asked]) -> Callable[..., int]:
    """A command that acts: asked here, sent by this process, waited for until a read has confirmed it."""

    def command(args: argparse.Namespace) -> int:
        desk = Desk(args)
        desk.check_line(getattr(args, "line", None))
        # A line must be stopped also when the ledger cannot be opened: the halts are sent, and recorded when it can be.
        keeper = desk.keeper(patient=args.command == "pull" and not desk.read_only)
        engine = desk.engine(keeper, duty=False)
        try:
            return _prove(desk, keeper, ask(desk, engine, args), args)
        finally:
            engine.stop()
            keeper.close()

    return command


def _asked_pull(desk: Desk, engine: Engine, args: argparse.Namespace) -> Asked:
    names = list(desk.config.lines) if args.all else [args.line]
    pulled, refused = [], {}
    for name, future in {name: engine.pull(name, args.reason) for name in names}.items():
        try:
            pulled.append(future.result())
        except NotDone as error:
            if len(names) == 1:
                raise
            refused[name] = str(error)  # one line that may not be stopped keeps no other from it
    holds = {item.hold.id: item.hold for item in pulled}
    keeper = engine.keeper

    def recorded() -> bool:
        return all(any(hold.id == item.id for item in keeper.board.line(hold.line).holds) for hold in holds.values())

    words = "\n".join(
        [
            *(f"{hold.line}: hold {hold.id} by {hold.owner}" for hold in holds.values()),
            *(f"{name}: not stopped: {why}" for name, why in refused.items()),
        ]
    )
    acts = _acts_of(engine, names, "halt", {hold.stop for hold in holds.values()})
    return Asked(list(holds.values()), acts, words, recorded, refused=bool(refused))


def _asked_call(desk: Desk, engine: Engine, args: argparse.Namespace) -> Asked:
    name, keeper = args.line, engine.keeper
    if args.clear:
        call = keeper.board.line(name).call
        if call is None:
            raise NotDone(f"nobody has called for help on {name}")
        engine.clear_call(name, call.id).result()
        return Asked(call, list, f"{name}: the call by {call.who} is cleared")
    called = engine.call(name, args.reason).result()
    act = called.act
    left = max(0, round(act.not_before - desk.clock.now()))
    already = " already" if called.joined else ""
    words = f"{name}: called{already} by {act.who}; it stops in {left} s unless somebody clears the call"
    watched = keeper.submit(lambda ledger: ledger.lease()).result() is not None
    if not watched:
        words += (
            "\nnobody watches now: unless a room or `andon watch` is there by then, nobody stops it; `andon pull` does"
        )
    return Asked(act, list, words, withheld=not watched)


def _asked_resume(desk: Desk, engine: Engine, args: argparse.Namespace) -> Asked:
    name = args.line
    lifted = engine.resume(name, args.reason, args.hold or "", all_=args.all).result()
    board = engine.keeper.board
    words = f"{name}: lifted {', '.join(hold.id for hold in lifted)}"
    if left := board.line(name).open_holds:
        words += f"; it stays stopped: {', '.join(f'{hold.id} by {hold.owner}' for hold in left)}"
        return Asked(lifted, list, words)
    wanted = {target: engine.cord.still_wanted(board, target, but=name) for target in desk.config.lines[name].targets}
    kept = {target: holder for target, holder in wanted.items() if holder}
    words += "".join(f"\n{name}: {target} stays halted, {holder} is stopped, too" for target, holder in kept.items())
    acts = _acts_of(engine, [name], "release", {hold.stop for hold in lifted})
    return Asked(lifted, acts, words, withheld=bool(kept))


def _acts_of(engine: Engine, names: Sequence[str], kind: str, stops: set[str]) -> Callable[[], list[Act]]:
    """What the newest acts of that kind that belong to these stops are now, one for each target of a line."""

    def acts() -> list[Act]:
        found = [act for name in names for act in engine.keeper.board.line(name).acts.values()]
        ours = [act for act in found if act.kind == kind and act.subject in stops]
        return list({(act.line, act.target): act for act in ours}.values())

    return acts


def _asked_rollback(desk: Desk, engine: Engine, args: argparse.Namespace) -> Asked:
    return _one(engine, engine.rollback(args.line, why=args.reason, to=args.to or "").result())


def _asked_push(desk: Desk, engine: Engine, args: argparse.Namespace) -> Asked:
    return _one(engine, engine.push(args.line, args.push_version, args.reason, args.through or "").result())


def _one(engine: Engine, act: Act) -> Asked:
    return Asked(act, lambda: [engine.keeper.board.line(act.line).acts.get(act.id, act)])


def _asked_mark(desk: Desk, engine: Engine, args: argparse.Namespace) -> Asked:
    marked = engine.mark(args.line, args.deployment, args.mark, args.reason).result()
    words = f"{marked.line}: {rollbacks.short(marked.version)} ({marked.deployment}) is marked {marked.mark}"
    return Asked(marked, list, words)


def _prove(desk: Desk, keeper: Keeper, asked: Asked, args: argparse.Namespace) -> int:
    """Wait until each act is settled by a read; say what became of it; the worst decides the exit code."""
    deadline = desk.clock.now() + getattr(args, "wait", 0.0)
    while True:
        acts, recorded = asked.acts(), asked.recorded()
        if (recorded and all(act.settled for act in acts)) or desk.clock.now() >= deadline:
            break
        time.sleep(0.05)
    if not recorded:
        why = keeper.trouble or "the ledger does not answer"
        return complain(f"{why}\nsent, but not recorded, and not known whether it took effect")
    text = "\n".join([*filter(None, [asked.words]), *(_act_text(act) for act in acts)])
    out({"asked": asked.shown, "acts": acts}, args, text)
    if asked.refused or any(act.state in ("refused", "failed", "superseded", "expired", "withdrawn") for act in acts):
        return REFUSED
    if any(act.state == "unknown" for act in acts):
        return NO_ANSWER
    return CONFIRMED if all(act.settled for act in acts) and not asked.withheld else NOT_YET


def _act_text(act: Act) -> str:
    what = f"{act.kind} {act.target}" + (f" → {rollbacks.short(act.version)}" if act.version else "")
    return f"{act.line}: {what}: {act.state}" + (f", {act.words}" if act.words else "")


def pull(args: argparse.Namespace) -> int:
    """Stop one line, or all."""
    if bool(args.line) == bool(args.all):
        raise FileError("", None, (), "name one line, or --all")
    return _acting(_asked_pull)(args)


resume = _acting(_asked_resume)
rollback = _acting(_asked_rollback)
push = _acting(_asked_push)
mark = _acting(_asked_mark)
call = _acting(_asked_call)
