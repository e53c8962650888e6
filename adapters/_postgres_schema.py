"""The tables of a ledger on PostgreSQL: made, known to be ours, brought to this version, and who may do what with them.

All is in the schema `andon` of one database. Events can only be inserted: a trigger refuses anything else to everybody, the
owner included, and the roles of rooms have no such right in the first place. Source:
https://www.postgresql.org/docs/15/sql-createtrigger.html, https://www.postgresql.org/docs/15/indexes-partial.html,
https://www.postgresql.org/docs/15/ddl-priv.html.
"""

from adapters._postgres_link import Database
from andon.ports import LedgerUnusable

UNSETTLED = "('intent', 'sent', 'accepted', 'unknown')"
MAKING = 0x616E646F6E
"""The lock of whoever makes or changes the tables."""

# `head` holds the highest `seq` ever given; its one row is what writers wait for, so that events have no gaps and are seen
# in their order.
_FIRST = f"""
CREATE TABLE andon.meta (key text PRIMARY KEY, value text NOT NULL);
CREATE TABLE andon.events (
    seq bigint PRIMARY KEY, at float8 NOT NULL, seen float8 NOT NULL, kind text NOT NULL, v integer NOT NULL,
    line text NOT NULL, body bytea NOT NULL, hash bytea NOT NULL
);
CREATE INDEX events_of_line ON andon.events (line, seq);
CREATE FUNCTION andon.events_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'events are never changed and never deleted' USING ERRCODE = 'restrict_violation'; END $$;
CREATE TRIGGER events_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON andon.events EXECUTE FUNCTION andon.events_stay();
ALTER TABLE andon.events ENABLE ALWAYS TRIGGER events_stay;
CREATE TABLE andon.head (id integer PRIMARY KEY CHECK (id = 1), seq bigint NOT NULL, hash bytea NOT NULL);
INSERT INTO andon.head VALUES (1, 0, decode(repeat('00', 32), 'hex'));
CREATE TABLE andon.acts (id text PRIMARY KEY, claim text NOT NULL, state text NOT NULL, body bytea NOT NULL);
CREATE UNIQUE INDEX one_unsettled_act ON andon.acts (claim) WHERE state IN {UNSETTLED};
CREATE TABLE andon.holds (id text PRIMARY KEY, line text NOT NULL, owner text NOT NULL, open boolean NOT NULL);
CREATE UNIQUE INDEX one_open_hold ON andon.holds (line, owner) WHERE open;
CREATE TABLE andon.series (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE andon.samples (
    series integer NOT NULL, at float8 NOT NULL, value float8 NOT NULL, n float8, PRIMARY KEY (series, at)
);
CREATE TABLE andon.pulse (key text PRIMARY KEY, at float8 NOT NULL, state text NOT NULL, words text NOT NULL);
CREATE TABLE andon.lease (
    id integer PRIMARY KEY CHECK (id = 1), holder text NOT NULL, epoch bigint NOT NULL, expires float8 NOT NULL,
    beat float8 NOT NULL
);
CREATE TABLE andon.checkpoints (format text PRIMARY KEY, seq bigint NOT NULL, hash bytea NOT NULL, board bytea NOT NULL);
INSERT INTO andon.meta VALUES ('schema', '0');
"""  # noqa: S608 - constants only

STEPS = (_FIRST,)
"""What leads from each schema to the next; a new one is appended, none is changed."""

GRANTS = """
GRANT USAGE ON SCHEMA andon TO andon_room, andon_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA andon TO andon_room, andon_reader;
GRANT INSERT ON andon.events, andon.acts, andon.holds TO andon_room;
GRANT UPDATE (seq, hash) ON andon.head TO andon_room;
GRANT UPDATE (state, body) ON andon.acts TO andon_room;
GRANT UPDATE (open) ON andon.holds TO andon_room;
GRANT INSERT, UPDATE ON andon.series, andon.samples, andon.pulse, andon.lease, andon.checkpoints TO andon_room;
GRANT DELETE ON andon.samples TO andon_room;
"""
"""What `andon_room` and `andon_reader` may; docs/ledger.md has the same."""

_LOOK = """
SELECT current_setting('server_encoding'), to_regclass('andon.meta') IS NOT NULL, to_regclass('andon.events') IS NOT NULL,
    to_regnamespace('andon') IS NOT NULL,
    (SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('andon')) > 0,
    (SELECT count(*) FROM pg_roles WHERE rolname IN ('andon_room', 'andon_reader')) = 2
"""
_MAY_WRITE = "SELECT has_table_privilege('andon.events', 'INSERT'), current_user"


def prepare(db: Database, where: str, *, read_only: bool) -> str:
    """Make the tables, or bring them to this version, unless they are only to be read.

    Returns why they can only be read; empty: they can be written. Raises LedgerUnusable for a database that is none of
    ours, psycopg.Error.
    """
    found = schema(db, where)
    if not read_only and found < len(STEPS):
        words = _bring(db, where)
        if words:
            return words
        found = schema(db, where)
    if found == 0:
        raise LedgerUnusable(f"{where}: there is no ledger here yet; the first room, engine or act makes it")
    if found > len(STEPS):
        return newer(found)
    may, who = db.execute(_MAY_WRITE).fetchone() or (False, "")
    if not read_only and not may:
        return f"the role {who} may only read here; docs/ledger.md names the rights of a room"
    return ""


def newer(found: int) -> str:
    """Why this version must not write to a ledger of that schema."""
    return f"a newer andon made this ledger (schema {found}): it is only read here; update this one"


def schema(db: Database, where: str) -> int:
    """The version of the tables; 0: there are none. Raises LedgerUnusable for what is no ledger."""
    encoding, meta, events, _, anything, _ = db.execute(_LOOK).fetchone() or ("", *[False] * 5)
    if encoding != "UTF8":
        raise LedgerUnusable(f"{where}: the database's encoding is {encoding}; make one with ENCODING 'UTF8'")
    if not anything:
        return 0
    found = db.execute("SELECT value FROM andon.meta WHERE key = 'schema'").fetchone() if meta and events else None
    if found is None or not str(found[0]).isdigit():
        raise LedgerUnusable(f"{where}: its schema andon is not a ledger; use another database")
    return int(found[0])


def _bring(db: Database, where: str) -> str:
    """From the schema that is there to this version's; only its owner may. Returns why it was not done."""
    import psycopg

    db.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
    db.execute("SELECT pg_advisory_xact_lock(%s)", (MAKING,))
    found = schema(db, where)  # another one may have been faster
    try:
        _, _, _, there, _, roles = db.execute(_LOOK).fetchone() or [False] * 6
        if not there:
            db.execute("CREATE SCHEMA andon")
        for step in STEPS[found:]:
            db.execute(step.encode())
        if found < len(STEPS):
            db.execute("UPDATE andon.meta SET value = %s WHERE key = 'schema'", (str(len(STEPS)),))
            if roles:
                db.execute(GRANTS)
    except psycopg.errors.InsufficientPrivilege as error:
        db.execute("ROLLBACK")
        if found:
            return f"an older andon made this ledger (schema {found}); its owner must open it once with this andon"
        words = "there is no ledger here yet, and this role may not make one; docs/ledger.md says who does"
        raise LedgerUnusable(f"{where}: {words}") from error
    db.execute("COMMIT")
    return ""
