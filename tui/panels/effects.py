"""The four effects of a stop and their proof: asked, accepted, confirmed; target by target. Pure, over a moment."""

from typing import NamedTuple

from andon.board import Line
from andon.clock import Time
from andon.config import LineConfig
from andon.cord import stands
from andon.model import Act, Hold
from tui.moment import Moment
from tui.panels.words import ago, login, short


class Proof(NamedTuple):
    """One target of one effect."""

    target: str
    asked: Time | None
    accepted: Time | None
    confirmed: Time | None
    words: str = ""
    """Where it stands, if it is not confirmed."""
    role: str = "warn"


class Effect(NamedTuple):
    """One of the four, with its sign."""

    name: str
    sign: str
    role: str
    proofs: tuple[Proof, ...]
    note: str = ""
    """Said instead of proofs."""


def effects(moment: Moment, name: str) -> tuple[Effect, ...]:
    """What the stop of a line has done so far; empty: it is not stopped."""
    line = moment.known(name)
    config = moment.config.lines[name]
    if not line.open_holds:
        return ()
    return (
        _remove(line, moment.keys.cap("rollback")),
        _notify(line, config),
        _block(moment, line, config),
        _until(moment, line),
    )


def _remove(line: Line, cap: str) -> Effect:
    began = line.open_holds[0].since
    acts = [act for act in line.acts.values() if act.kind == "rollback" and act.at >= began - 1.0]
    if not acts:
        return Effect("remove", "·", "dim", (), f"not asked ({cap})")
    return _effect("remove", tuple(_ship(line, act) for act in acts[-3:]))


def _ship(line: Line, act: Act) -> Proof:
    from_ = line.deployment(act.expected)
    versions = f"{short(from_.version)} → {short(act.version)}" if from_ else f"→ {short(act.version)}"
    return proof(act, f"{act.target} {versions}")


def _notify(line: Line, config: LineConfig) -> Effect:
    if not config.notify:
        return Effect("notify", "·", "dim", (), "nobody: the config names no `notify:`")
    ids = {hold.id for hold in line.open_holds}
    acts = [act for act in line.acts.values() if act.kind == "tell" and act.subject.partition("/")[0] in ids]
    if not acts:
        return Effect("notify", "…", "mid", (), "not asked yet")
    return _effect("notify", tuple(proof(act, act.target) for act in acts[-4:]))


def _block(moment: Moment, line: Line, config: LineConfig) -> Effect:
    since = line.open_holds[0].since
    gate = Proof("andon gate", since, since, since)
    proofs = [_halt(moment, line, target) for target in config.targets]
    return _effect("block", (*proofs, gate))


def _halt(moment: Moment, line: Line, target: str) -> Proof:
    acts = [
        act for act in line.acts.values() if act.kind == "halt" and act.target == target and act.subject == line.stop
    ]
    if not acts:
        return Proof(target, None, None, None, "not asked yet", "warn")
    found = proof(acts[-1], target)
    if acts[-1].state == "verified" and not stands(line, target):
        halted = line.halted.get(target)  # recorded when it was first read so, not at each read
        since = f" since {ago(moment.now - halted.at)}" if halted else ""
        return found._replace(confirmed=None, words=f"moving again{since}", role="stop")
    if found.confirmed is None and found.role == "warn":
        halted = line.halted.get(target)
        moving = halted.moving if halted else ()
        if moving:
            return found._replace(words=f"still moving: {moving[0]}")
    return found


def lifted(line: Line, hold: Hold) -> tuple[Effect, ...]:
    """What a stop that is over halted, and what its end released."""
    acts = [act for act in line.acts.values() if act.subject == hold.stop]
    found = []
    for name, kind in (("block", "halt"), ("release", "release")):
        newest = {act.target: act for act in acts if act.kind == kind}
        proofs = tuple(proof(act, target) for target, act in newest.items())
        none = "nothing was halted" if kind == "halt" else "nothing was to be released"
        found.append(_effect(name, proofs) if proofs else Effect(name, "·", "dim", (), f"{none}, as far as is kept"))
    return tuple(found)


def _until(moment: Moment, line: Line) -> Effect:
    until = [hold.until for hold in line.open_holds if hold.until is not None]
    count = len(line.open_holds)
    what = "a hold" if count == 1 else f"{count} holds"
    if until and min(until) > moment.now:
        left = ago(min(until) - moment.now)
        return Effect("until fixed", "○", "mid", (), f"open, {what}: meant for {left} more; nothing lifts by itself")
    if until:
        return Effect("until fixed", "○", "warn", (), f"open, {what}: its time is over; extend it, or resume")
    return Effect("until fixed", "○", "mid", (), f"open, {what}: lifts when someone resumes with a reason")


def proof(act: Act, target: str) -> Proof:
    """How far an act has come, in clock times; what went wrong, in words."""
    accepted = act.answered_at if act.state in ("accepted", "verified") else None
    confirmed = act.settled_at if act.state == "verified" else None
    words, role = "", "warn"
    if act.state == "unknown":
        words, role = f"unknown: {act.words or 'no answer'}; reading", "blind"
    elif act.state in ("refused", "failed"):
        words, role = _said(act), "stop"
    elif act.state in ("withdrawn", "superseded", "expired"):
        words, role = _said(act), "mid"
    elif act.state == "intent":
        words = act.words or "to be sent"
    elif act.state == "sent":
        words = "sent"
    elif act.state == "accepted":
        words = "still moving"
    return Proof(target, act.at, accepted, confirmed, words, role)


def _said(act: Act) -> str:
    """The state with its reason, once."""
    if not act.words or act.words.startswith(act.state):
        return act.words or act.state
    return f"{act.state}: {act.words}"


def _effect(name: str, proofs: tuple[Proof, ...]) -> Effect:
    roles = {item.role for item in proofs if item.confirmed is None}
    if not roles or roles == {"mid"}:
        return Effect(name, "✓" if not roles else "·", "ok" if not roles else "dim", proofs)
    if "stop" in roles:
        return Effect(name, "✗", "stop", proofs)
    if "blind" in roles:
        return Effect(name, "?", "blind", proofs)
    return Effect(name, "…", "warn", proofs)


def summary(effect: Effect) -> tuple[str, str]:
    """An effect in a few words, and their role: `4 of 4`."""
    if not effect.proofs:
        return effect.note.partition(":")[0].partition(" (")[0], "dim"
    done = sum(item.confirmed is not None for item in effect.proofs)
    if effect.name == "remove":
        last = effect.proofs[-1]
        if last.confirmed is not None:
            return f"{last.target.rpartition('→ ')[2]} live", "mid"
        return last.words, last.role
    return f"{done} of {len(effect.proofs)}", "mid" if done == len(effect.proofs) else effect.role


def owner(who: str, kind: str) -> str:
    """Who placed a hold, in a word."""
    return login(who) if kind == "person" else "immune"
