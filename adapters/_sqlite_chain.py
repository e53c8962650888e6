"""The chain of the ledger's events, and the walk along it that finds what was changed, cut out or damaged."""

import hashlib
import sqlite3

import msgspec

from andon.board import stepped
from andon.events import ActAsked, ActStepped, HoldLifted, HoldPlaced, decode
from andon.model import Act, Hold
from andon.ports import Audit

ROW = "seq, at, seen, kind, v, line, body, hash"
NO_HASH = b"\0" * 32
"""What the first event is chained to."""
ACT: msgspec.json.Decoder[Act] = msgspec.json.Decoder(Act)


def walked(db: sqlite3.Connection) -> Audit:
    """The chain, walked from the first event."""
    last, count = NO_HASH, 0
    for row in db.execute(f"SELECT {ROW} FROM events ORDER BY seq"):  # noqa: S608 - a constant
        if row[0] != count + 1:
            return Audit(count, row[0], f"event {count + 1} is missing")
        last = chained(last, row[:7])
        if last != row[7]:
            return Audit(count, row[0], f"event {row[0]} was changed after it was written")
        count += 1
    if given(db) > count:
        return Audit(count, count + 1, f"event {count + 1} is missing")
    wrong = _claimed_otherwise(db)
    return Audit(count, count, f"{wrong} is not what the events say") if wrong else Audit(count)


def _claimed_otherwise(db: sqlite3.Connection) -> str:
    """An act or a hold whose claim is not what the events add up to; empty: there is none, or a newer andon knows."""
    acts: dict[str, Act] = {}
    holds: dict[str, Hold] = {}
    lifted: set[str] = set()
    for kind, body in db.execute("SELECT kind, body FROM events WHERE kind LIKE 'act-%' OR kind LIKE 'hold-%'"):
        try:
            event = decode(kind, body)
        except ValueError:
            event = None
        if isinstance(event, ActAsked):
            acts[event.act.id] = event.act
        elif isinstance(event, ActStepped) and event.act in acts:
            acts[event.act] = stepped(acts[event.act], event)
        elif isinstance(event, HoldPlaced):
            holds[event.hold.id] = event.hold
        elif isinstance(event, HoldLifted):
            lifted.add(event.hold)
        elif event is None:
            return ""
    claims = {id_: (act.claim, act.state, act) for id_, act in acts.items()}
    found = {id_: (*claim, _act(body)) for id_, *claim, body in db.execute("SELECT id, claim, state, body FROM acts")}
    if claims != found:
        return f"act {next(id_ for id_ in {**claims, **found} if claims.get(id_) != found.get(id_))}"
    placed = {id_: (hold.line, hold.owner, id_ not in lifted) for id_, hold in holds.items()}
    there = {id_: (*hold, bool(one)) for id_, *hold, one in db.execute("SELECT id, line, owner, open FROM holds")}
    if placed != there:
        return f"hold {next(id_ for id_ in {**placed, **there} if placed.get(id_) != there.get(id_))}"
    return ""


def given(db: sqlite3.Connection) -> int:
    """The highest `seq` ever given."""
    found = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    return int(found[0]) if found else 0


def _act(body: bytes) -> Act | None:
    try:
        act: Act = ACT.decode(body)
    except (msgspec.DecodeError, TypeError):
        return None
    return act


def chained(last: bytes, row: tuple[object, ...]) -> bytes:
    """The hash of a row: of everything in it, and of the hash before."""
    digest = hashlib.sha256(as_bytes(last))
    for value in row:
        part = as_bytes(value)
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)  # apart: it may be a board of megabytes
    return digest.digest()


def as_bytes(value: object) -> bytes:
    """As it is hashed."""
    # Not repr for text: what it escapes depends on the version of Python.
    return value if isinstance(value, bytes) else value.encode() if isinstance(value, str) else repr(value).encode()
