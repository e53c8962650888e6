"""How events are appended to a ledger on PostgreSQL: one transaction for an event and what it claims, and its outcome known.

Whoever appends waits for the one row of `head`, so that the order of commits is the order of `seq`, and no reader passes
over an event that comes later with a lower one. When the connection is lost while the server commits, the answer is looked
up before anything else is done: the old session is ended, and the row is there or it is not.
"""

from collections.abc import Sequence

import msgspec

from adapters._postgres_link import Database
from adapters._postgres_schema import UNSETTLED
from adapters._sqlite_chain import ACT, chained
from andon.board import stepped
from andon.clock import Time
from andon.events import NAMES, ActAsked, ActStepped, Event, HoldLifted, HoldPlaced, decode, encode
from andon.model import Act, to_json
from andon.ports import AlreadyHeld, Joined, LedgerUnusable, Moved

NOW = "extract(epoch FROM clock_timestamp())::float8"
BEGIN = f"""
BEGIN ISOLATION LEVEL READ COMMITTED;
SELECT greatest(head.seq, (SELECT max(seq) FROM events)), head.hash, meta.value::integer, {NOW}
FROM head, meta WHERE meta.key = 'schema' FOR UPDATE OF head
"""  # noqa: S608 - a constant
# One statement, so that it is one way to the server and back.
APPEND = """
WITH rows AS (
    INSERT INTO events SELECT * FROM unnest(
        %s::bigint[], %s::float8[], %s::float8[], %s::text[], %s::integer[], %s::text[], %s::bytea[], %s::bytea[])
), moved AS (UPDATE head SET seq = %s, hash = %s)
SELECT pg_notify('andon', %s)
"""

DAMAGED = "its tables are damaged: there is no row in head or in meta; restore the database from a backup"

Encoded = Sequence[tuple[Event, str, bytes]]


class Head(msgspec.Struct, frozen=True):
    """The end of the chain, as a writer that has its lock sees it."""

    seq: int
    hash: bytes
    schema: int
    now: Time
    """By the server's clock."""


def encoded(events: Sequence[object]) -> Encoded:
    """Events as they are written. Raises TypeError and ValueError as `ports.Ledger.commit`."""
    found = []
    for event in events:
        if not isinstance(event, Event) or type(event) not in NAMES:
            raise TypeError(f"{type(event).__name__} is not an event")
        if _of_another_line(event):
            raise ValueError(f"{NAMES[type(event)]} of {event.line}: what it holds is of another line")
        kind, body = encode(event)
        if decode(kind, body) != event:
            raise ValueError(f"{kind} does not come back as it was written")
        found.append((event, kind, body))
    return found


def begin(db: Database) -> Head:
    """Begin a transaction, and wait for the end of the chain. Raises LedgerUnusable."""
    cursor = db.execute(BEGIN)
    cursor.nextset()
    found = cursor.fetchone()
    if found is None:
        raise LedgerUnusable(DAMAGED)
    return Head(*found)


def is_there(db: Database, seq: int, hash_: bytes) -> bool:
    """Whether that row was committed."""
    return db.execute("SELECT 1 FROM events WHERE seq = %s AND hash = %s", (seq, hash_)).fetchone() is not None


def append(db: Database, head: Head, events: Encoded) -> tuple[int, bytes]:
    """Claim what the events claim, and write them; the new end of the chain. Raises Joined, AlreadyHeld, Moved."""
    seq, last, rows = head.seq, head.hash, []
    for event, kind, body in events:
        seq += 1
        claim(db, event)
        row = (seq, float(event.at) + 0.0, head.now, kind, 1, event.line, body)  # no negative zero
        last = chained(last, row)
        rows.append((*row, last))
    db.execute(APPEND, (*map(list, zip(*rows, strict=True)), seq, last, str(seq)))
    return seq, last


def claim(db: Database, event: Event) -> None:
    """What an event claims is there with the event, or the event is not."""
    if isinstance(event, ActAsked):
        asked = (event.act.id, event.act.claim, event.act.state, to_json(event.act))
        if db.execute("INSERT INTO acts VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING", asked).rowcount != 1:
            raise Joined(_unsettled(db, event.act.claim))
    elif isinstance(event, ActStepped):
        act = _act(db, event)
        if act is None or act.settled or act.state != event.was:
            raise Moved(f"{event.act} is {act.state if act else 'not there'}, not {event.was}")
        fresh = stepped(act, event)
        step = (fresh.state, to_json(fresh), act.id, event.was)
        if db.execute("UPDATE acts SET state = %s, body = %s WHERE id = %s AND state = %s", step).rowcount != 1:
            raise Moved(f"{event.act} is no longer {event.was}")
    elif isinstance(event, HoldPlaced):
        hold = event.hold
        placed = (hold.id, hold.line, hold.owner)
        if db.execute("INSERT INTO holds VALUES (%s, %s, %s, true) ON CONFLICT DO NOTHING", placed).rowcount != 1:
            found = db.execute("SELECT id FROM holds WHERE line = %s AND owner = %s AND open", placed[1:]).fetchone()
            raise AlreadyHeld(found[0] if found else hold.id)
    elif isinstance(event, HoldLifted):
        lifted = "UPDATE holds SET open = false WHERE id = %s AND line = %s AND open"
        if db.execute(lifted, (event.hold, event.line)).rowcount != 1:
            raise Moved(f"hold {event.hold} is lifted already")


def _act(db: Database, event: ActStepped) -> Act | None:
    found = db.execute("SELECT body FROM acts WHERE id = %s", (event.act,)).fetchone()
    act = _decoded(found[0]) if found else None
    return act if act is not None and act.line == event.line else None


def _unsettled(db: Database, claimed: str) -> Act:
    found = db.execute(
        f"SELECT body FROM acts WHERE claim = %s AND state IN {UNSETTLED}",  # noqa: S608 - a constant
        (claimed,),
    ).fetchone()
    if found is None:
        raise LedgerUnusable("an act of this id was asked before")
    return _decoded(found[0])


def _decoded(body: bytes) -> Act:
    try:
        act: Act = ACT.decode(body)
    except msgspec.DecodeError as error:
        words = f"an act in it cannot be read: {error}; a newer andon wrote it, or it is damaged"
        raise LedgerUnusable(f"{words} (`andon audit verify` tells)") from error
    return act


def _of_another_line(event: Event) -> bool:
    """Whether a hold or an act would be claimed on one line and shown on another."""
    if isinstance(event, HoldPlaced):
        return event.hold.line != event.line
    return isinstance(event, ActAsked) and event.act.line != event.line
