"""The same expectations of a real PostgreSQL and a real SQLite: what buckets hold, what is missing, and what is refused."""

import asyncio
import datetime as dt
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager, closing
from pathlib import Path

import msgspec
import pytest

from adapters.sql import ADAPTER
from andon.clock import WallClock
from andon.contract import MetricsContract
from andon.model import Metric
from andon.ports import Denied, Garbled, Metrics, Unreachable
from andon.registry import Context, NoOptions, Place
from tests.adapters.asking import NOW, harmless, until_now
from tests.adapters.meters import Heart
from tests.helpers import HOSTILE, until
from tests.servers.postgres import Postgres

READER = "reader-5ecret-canary"
GAP = range(-900, -720)
"""Seconds in which nobody ordered anything."""

DATABASES = {
    "postgresql": (
        "SELECT date_bin(make_interval(secs => :every), at, 'epoch'), {columns} FROM {table} "
        "WHERE at >= :since AND at < :until GROUP BY 1"
    ),
    "sqlite": (
        "SELECT CAST(unixepoch(at) / :every AS int) * :every, {columns} FROM {table} "
        "WHERE at >= :since AND at < :until GROUP BY 1"
    ),
}
PAID = "sum(CASE WHEN paid THEN 1 ELSE 0 END), count(*)"


def orders():
    """Half an hour of checkouts, one each 5 s, of which every third is paid."""
    for number, at in enumerate(range(-1800, 60, 5)):
        if at not in GAP:
            moment = dt.datetime.fromtimestamp(NOW + at, dt.UTC)
            yield moment.strftime("%Y-%m-%d %H:%M:%S"), number % 3 == 0


@pytest.fixture(scope="module")
def postgresql():
    server = Postgres()
    try:
        server.make()
        server.start()
        values = ", ".join(f"('{at}+00', {paid})" for at, paid in orders())
        server.sql(
            f"CREATE ROLE keyed LOGIN PASSWORD '{READER}'",
            "CREATE TABLE orders (at timestamptz, paid bool)",
            f"INSERT INTO orders VALUES {values}",
            "CREATE TABLE secrets (at timestamptz, paid bool)",
            "CREATE FUNCTION writes() RETURNS int LANGUAGE sql AS 'INSERT INTO orders VALUES (now(), true) RETURNING 1'",
            "GRANT SELECT ON orders TO keyed",
        )
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory):
    path = tmp_path_factory.mktemp("sqlite") / "shop.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE orders (at text, paid bool)")
        database.executemany("INSERT INTO orders VALUES (?, ?)", orders())
    return path


class Store:
    """One of the two, and how it is asked."""

    def __init__(self, kind, address, folder, **options):
        self.kind, self.address, self.folder, self.options = kind, address, folder, options
        self.source = self.opened()

    def opened(self, clock=None, **more):
        given = msgspec.convert({"url": self.address, **self.options, **more}, ADAPTER.options, strict=True)
        connection = ADAPTER.connect(given, Context("shop-db", self.folder, clock or WallClock(), self.folder))
        return ADAPTER.metrics.open(connection, NoOptions(), Place("shop", "production"))

    def query(self, columns="count(*)", table="orders"):
        return DATABASES[self.kind].format(columns=columns, table=table)

    async def ask(self, query, start, end, kind="count", source=None, n="", every=60.0):
        """Samples of a query, times counted from the end of the history."""
        metric = Metric("orders", "shop-db", kind, "falls", query, n=n, every=every)
        found = await (source or self.source).samples(metric, NOW + start, NOW + end, every)
        return found.state, [(row.at - NOW, row.value, row.n) for row in found.rows], found.words


@pytest.fixture(params=["postgresql", "sqlite"])
def store(request, tmp_path, monkeypatch):
    monkeypatch.setenv("READER", READER)
    server = request.getfixturevalue(request.param)
    if request.param == "sqlite":
        shutil.copy(server, tmp_path / "shop.db")
        return Store("sqlite", "sqlite:///shop.db", tmp_path)
    return Store("postgresql", server.address(user="keyed"), tmp_path, password="env:READER")


@pytest.fixture
def pg(postgresql, tmp_path, monkeypatch):
    monkeypatch.setenv("READER", READER)
    return Store("postgresql", postgresql.address(user="keyed"), tmp_path, password="env:READER")


class Hand:
    def __init__(self, at):
        self.at = at

    def now(self):
        return self.at

    def real(self, seconds):
        return seconds

    async def sleep(self, seconds):
        self.at += seconds


# what buckets hold


async def test_each_closed_bucket_holds_what_happened_in_it(store):
    assert await store.ask(store.query(), -180, 0) == (
        "ok",
        [(-180, 12, None), (-120, 12, None), (-60, 12, None)],
        "",
    )


async def test_the_third_column_is_n(store):
    state, rows, _ = await store.ask(store.query(PAID), -120, 0, "proportion")
    assert (state, rows) == ("ok", [(-120, 4, 12), (-60, 4, 12)])


async def test_an_open_bucket_is_never_returned(store):
    source = store.opened(Hand(NOW - 61))
    assert (await store.ask(store.query(), -240, 600, source=source))[:2] == (
        "ok",
        [(-240, 12, None), (-180, 12, None)],
    )
    assert (await store.ask(store.query(), -120, 600, source=source))[:2] == ("ok", [])


async def test_a_crooked_range_gives_the_whole_buckets_within_it(store):
    assert (await store.ask(store.query(), -190, -5))[1] == [(-180, 12, None), (-120, 12, None)]


@pytest.mark.parametrize(
    "time",
    ["{0}", "{0} * 1000", "{0} * 1000000.0"],
)
async def test_times_may_be_numbers_of_any_usual_unit(store, time):
    query = f"SELECT {time.format(':since_epoch')} + 0.0, 7, 8 WHERE :until_epoch > 0"
    assert (await store.ask(query, -60, 0, "proportion"))[:2] == ("ok", [(-60, 7, 8)])


async def test_a_time_without_a_zone_is_utc(store):
    time = {"postgresql": "CAST(:since AT TIME ZONE 'UTC' AS timestamp)", "sqlite": ":since"}[store.kind]
    assert (await store.ask(f"SELECT {time}, 1 WHERE :until > :since", -60, 0))[1] == [(-60, 1, None)]


# what is missing


async def test_a_gap_is_partial_and_never_zero(store):
    state, rows, words = await store.ask(store.query(PAID), -1020, -600, "proportion")
    assert (state, words.startswith("3 of 7")) == ("partial", True)
    assert [at for at, _, _ in rows] == [-1020, -960, -720, -660]


async def test_one_missing_bucket_at_the_end_is_partial_and_two_are_stale(store):
    assert (await store.ask(store.query(), -1020, -840))[0] == "partial"
    state, _, words = await store.ask(store.query(), -1020, -780)
    assert (state, words) == ("stale", "nothing came in for the last 2 min")


async def test_no_rows_are_empty_and_say_what_to_look_at(store):
    state, rows, words = await store.ask(store.query(PAID), -900, -720, "proportion")
    assert (state, rows) == ("empty", [])
    assert "no rows" in words


async def test_a_sum_of_nothing_is_missing(store):
    query = "SELECT :since, sum(x) FROM (SELECT 1 AS x WHERE :until < :since) AS no_rows"
    assert (await store.ask(query, -60, 0))[:2] == ("empty", [])


def rows_of(*rows):
    """A query that gives these rows, times counted from the beginning of the range."""
    one_by_one = " UNION ALL ".join(f"SELECT :since_epoch + {row[0]}, {', '.join(row[1:])}" for row in rows)
    return f"SELECT * FROM ({one_by_one}) AS rows_of WHERE :until_epoch > 0"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (("60.0", "CAST({inf} AS {double})", "9.0"), "finite"),
        (("60.0", "7.0", "-9.0"), "below zero"),
        (("CAST(NULL AS {double})", "7.0", "9.0"), "not a number"),
    ],
)
async def test_one_bad_row_makes_the_answer_partial_and_the_others_stay(store, row, words):
    words_of = {"sqlite": {"inf": "9e999", "double": "real"}, "postgresql": {"inf": "'nan'", "double": "float8"}}
    bad = tuple(part.format(**words_of[store.kind]) for part in row)
    state, rows, said = await store.ask(rows_of(("0.0", "7.0", "9.0"), bad), -120, 0, "proportion")
    assert (state, rows) == ("partial", [(-120, 7, 9)])
    assert words in said


async def test_null_in_n_leaves_its_bucket_out(store):
    query = rows_of(("0.0", "7.0", "9.0"), ("60.0", "7.0", "CAST(NULL AS numeric)"))
    assert (await store.ask(query, -120, 0, "proportion"))[:2] == ("partial", [(-120, 7, 9)])


# what is refused


@pytest.mark.parametrize(
    ("query", "kind", "n", "words"),
    [
        ("SELECT at, 1 FROM orders", "count", "", "at >= :since AND at < :until"),
        ("SELECT at, 1 FROM orders WHERE at > :since", "count", "", "at >= :since AND at < :until"),
        ("SELECT at, '::since:until' FROM orders", "count", "", "at >= :since AND at < :until"),
        ("SELECT :since, 1 WHERE :until > :since", "count", "SELECT 1", "third column"),
        ("SELECT :since, 1 WHERE :until > :since", "proportion", "", "number of trials"),
        ("SELECT :since_epoch WHERE :until_epoch > 0", "count", "", "1 columns"),
        (rows_of(("0.0", "7.0"), ("0.0", "8.0")), "count", "", "two numbers for the bucket"),
        (rows_of(("0.0", "7.0"), ("67.0", "8.0")), "count", "", "group by time in steps"),
        ("SELEC :since, :until", "count", "", "syntax error"),
        ("SELECT :since, :until, :whatever", "count", "", "whatever"),
        ("SELECT :since, 1 FROM nowhere WHERE :until > :since", "count", "", "nowhere"),
        ("", "count", "", "at >= :since"),
    ],
)
async def test_a_wrong_query_is_told_with_what_to_do(store, query, kind, n, words):
    with pytest.raises(Garbled) as caught:
        await store.ask(query, -120, 0, kind, n=n)
    assert str(caught.value).startswith("shop-db: orders: ")
    assert words in str(caught.value)


@pytest.mark.parametrize("text", HOSTILE)
async def test_what_stands_in_a_query_is_never_shown_as_it_is(store, text):
    with pytest.raises(Garbled) as caught:
        await store.ask(f"SELECT :since, :until, nosuch FROM {text}\x1b]0;x\x07", -120, 0)
    assert harmless(str(caught.value))


async def test_more_rows_than_buckets_are_not_read(store):
    many = {
        "postgresql": "SELECT :since_epoch, x FROM generate_series(1, 300000) AS x WHERE :until_epoch > 0",
        "sqlite": (
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 100000000) "
            "SELECT :since_epoch, x FROM n WHERE :until_epoch > 0"
        ),
    }
    with pytest.raises(Garbled, match="more than 104 rows"):
        await store.ask(many[store.kind], -120, 0)


WRITES = (
    "DELETE FROM orders WHERE at >= :since AND at < :until",
    "INSERT INTO orders SELECT :since, :until > :since RETURNING :since_epoch, 1",
    "UPDATE orders SET paid = false WHERE at >= :since AND at < :until RETURNING at, 1",
    "SELECT :since, :until; DELETE FROM orders",
    "CREATE TABLE more AS SELECT :since, :until",
    "DROP TABLE orders -- :since :until",
)


@pytest.mark.parametrize("query", WRITES)
async def test_nothing_can_be_written(store, query):
    count = store.query()
    before = await store.ask(count, -180, 0)
    with pytest.raises((Garbled, Denied)):
        await store.ask(query, -120, 0)
    assert await store.ask(count, -180, 0) == before


async def test_not_even_by_the_owner_who_may_in_postgresql(postgresql, pg):
    owner = Store("postgresql", postgresql.address(), pg.folder)
    hidden = "SELECT :since, writes() WHERE :until > :since"
    modifying = "WITH gone AS (DELETE FROM orders RETURNING 1) SELECT :since, count(*) FROM gone WHERE :until > :since"
    for query in (*WRITES, hidden, modifying):
        with pytest.raises(Garbled):
            await owner.ask(query, -120, 0)
    assert (await owner.ask(owner.query(), -60, 0))[1] == [(-60, 12, None)]


async def test_another_file_cannot_be_attached_to_sqlite(sqlite, tmp_path):
    shutil.copy(sqlite, tmp_path / "shop.db")
    store = Store("sqlite", "sqlite:///shop.db", tmp_path)
    for query in ("ATTACH 'more.db' AS ':since :until'", "PRAGMA query_only = off -- :since :until"):
        with pytest.raises(Garbled, match=r"only what reads|no rows"):
            await store.ask(query, -120, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["shop.db"]


async def test_columns_that_may_hold_anything_are_not_fetched_from_postgresql(pg):
    with pytest.raises(Garbled, match="column 'big' is neither a number nor a time"):
        await pg.ask(
            "SELECT :since, repeat('x', 900000000 + CAST(random() AS int)) AS big WHERE :until > :since", -60, 0
        )


# time, and who waits


FOREVER = {
    "postgresql": "SELECT :since, count(*) FROM (SELECT generate_series(1, 100000000000) WHERE :until > :since) AS no_end",
    "sqlite": (
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
        "SELECT :since, count(*) FROM n WHERE :until > :since"
    ),
}


async def test_a_query_that_takes_too_long_is_ended_by_the_server_and_the_loop_goes_on(store):
    store.source._database.limit_s = 1.0
    async with Heart() as heart:
        with pytest.raises(Unreachable, match=r"is there an index|no answer in 1 s"):
            await store.ask(FOREVER[store.kind], -60, 0)
    assert heart.cpu_s < 0.3
    await until(lambda: not workers(), 20)


async def test_a_query_that_nobody_waits_for_is_ended(store, postgresql):
    store.source._database.limit_s = 600.0
    asked = asyncio.ensure_future(store.ask(FOREVER[store.kind], -60, 0))
    try:
        await until(lambda: busy(store, postgresql), 20)
    finally:
        asked.cancel()
        await asyncio.wait({asked})
    await until(lambda: not workers(), 20)
    assert not busy(store, postgresql)


async def test_questions_wait_for_a_seat_and_one_that_hangs_keeps_only_its_own(store):
    store.source._database.limit_s = 600.0
    asked = [asyncio.ensure_future(store.ask(FOREVER[store.kind], -60, 0)) for _ in range(3)]
    try:
        await until(lambda: len(workers()) == 2, 20)
        third = asked.pop()
        third.cancel()
        asked[0].cancel()
        await until(lambda: len(workers()) == 1, 20)
        assert (await store.ask(store.query(), -60, 0))[0] == "ok"
    finally:
        for task in asked:
            task.cancel()
        await asyncio.wait(asked)
    await until(lambda: not workers(), 20)


def workers():
    return [thread for thread in threading.enumerate() if thread.name == "apart"]


def busy(store, server):
    """Whether somebody works on a query of ours."""
    if store.kind == "sqlite":
        return bool(workers())
    import psycopg

    with psycopg.connect(server.address()) as connection:
        sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'keyed' AND state = 'active'"
        return connection.execute(sql).fetchone()[0] > 0


# who we are, and what is in the way


async def test_it_says_who_it_is_there_and_what_the_role_could_do(store, postgresql):
    who = await store.source.whoami()
    assert abs(who.clock - time.time()) < 3
    assert isinstance(store.source, Metrics)
    assert who.missing == ()
    if store.kind == "sqlite":
        assert who.server.startswith("SQLite 3")
        return
    assert (who.account, who.server[:13]) == ("keyed", "PostgreSQL 15")
    assert who.found == ("reads inside read-only transactions",)
    owner = await Store("postgresql", postgresql.address(), store.folder).source.whoami()
    assert "may do everything" in owner.found[1]


async def test_a_role_that_could_write_is_told(postgresql, pg):
    postgresql.sql("CREATE ROLE clerk LOGIN", "GRANT SELECT, INSERT ON orders TO clerk")
    clerk = Store("postgresql", postgresql.address(user="clerk"), pg.folder)
    assert "could write to 1 tables" in (await clerk.source.whoami()).found[1]


async def test_what_is_not_allowed_is_denied_without_the_password(postgresql, pg, monkeypatch):
    with pytest.raises(Denied, match="permission denied"):
        await pg.ask(pg.query(table="secrets"), -60, 0)
    monkeypatch.setenv("READER", "wr0ng-canary")
    for source in (pg.source, pg.opened(url=postgresql.address(user="nobody"))):
        with pytest.raises(Denied, match="READER") as caught:
            await source.whoami()
        assert "wr0ng-canary" not in everything(caught.value)
    monkeypatch.delenv("READER")
    with pytest.raises(Denied, match="READER"):
        await pg.source.whoami()


def everything(error):
    """All that a traceback would show of an error and those before it."""
    seen = []
    while error is not None:
        seen += [repr(error), str(error)]
        frame = error.__traceback__
        while frame is not None:
            if frame.tb_frame.f_code.co_filename != __file__:
                seen += [repr(value) for value in frame.tb_frame.f_locals.values()]
            frame = frame.tb_next
        error = error.__cause__ or error.__context__
    return "\n".join(seen)


async def test_a_changed_password_is_used_at_once(pg, postgresql, monkeypatch):
    assert (await pg.source.whoami()).account == "keyed"
    try:
        postgresql.sql("ALTER ROLE keyed PASSWORD 'another'")
        with pytest.raises(Denied):
            await pg.source.whoami()
        monkeypatch.setenv("READER", "another")
        assert (await pg.source.whoami()).account == "keyed"
    finally:
        postgresql.sql(f"ALTER ROLE keyed PASSWORD '{READER}'")


async def test_a_server_that_is_gone_is_unreachable_and_found_again(postgresql, pg):
    assert (await pg.source.whoami()).account == "keyed"
    postgresql.kill()
    try:
        with pytest.raises(Unreachable, match=r"shop-db: whoami: "):
            await pg.source.whoami()
    finally:
        postgresql.start()
    assert (await pg.source.whoami()).account == "keyed"


async def test_a_file_that_is_not_there_is_not_made(tmp_path):
    store = Store("sqlite", "sqlite:///nothing.db", tmp_path)
    with pytest.raises(Unreachable, match="unable to open database file"):
        await store.source.whoami()
    (tmp_path / "nothing.db").write_text("no database " * 1000)
    with pytest.raises(Garbled, match="not a database"):
        await store.source.whoami()
    assert [path.name for path in tmp_path.iterdir()] == ["nothing.db"]


async def test_a_database_that_another_writes_to_is_read(sqlite, tmp_path):
    shutil.copy(sqlite, tmp_path / "shop.db")
    store = Store("sqlite", "sqlite:///shop.db", tmp_path)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as writer:
        writer.execute("PRAGMA journal_mode = wal")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM orders")
        assert (await store.ask(store.query(), -60, 0))[1] == [(-60, 12, None)]


class _Contract(MetricsContract):
    @pytest.fixture(autouse=True)
    def place(self, request, tmp_path, monkeypatch):
        monkeypatch.setenv("READER", READER)
        self.store = self.made(request, tmp_path)
        self.metric = until_now(Metric("orders", "shop-db", "proportion", "falls", self.store.query(PAID)))
        self.nothing = until_now(
            Metric("orders", "shop-db", "count", "falls", "SELECT :since, 1 WHERE :until < :since")
        )

    @asynccontextmanager
    async def opened(self):
        yield self.store.source
        await self.store.source.close()


class TestPostgreSQL(_Contract):
    """What every metrics source promises."""

    def made(self, request, folder):
        server = request.getfixturevalue("postgresql")
        return Store("postgresql", server.address(user="keyed"), folder, password="env:READER")


class TestSQLite(_Contract):
    """The same."""

    def made(self, request, folder):
        shutil.copy(request.getfixturevalue("sqlite"), folder / "shop.db")
        return Store("sqlite", "sqlite:///shop.db", folder)


# how it is configured


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "postgresql://ann:pw-canary@127.0.0.1/shop"}, "by reference"),
        ({"url": "postgresql://ann@127.0.0.1/shop?password=pw-canary"}, "by reference"),
        ({"url": "postgresql://127.0.0.1/shop?options=-c%20x"}, "may not follow"),
        ({"url": "postgresql://127.0.0.1/shop?host=db.example"}, "folder of a socket"),
        ({"url": "postgresql://db.example/shop?sslmode=require"}, "verify-full"),
        ({"url": "postgresql://127.0.0.1:many/shop"}, "write it as"),
        ({"url": "shop.db"}, "write it as"),
        ({"url": "sqlite://"}, "sqlite:///file"),
        ({"url": "sqlite:///shop.db?mode=rw"}, "nothing more"),
        ({"url": "mysql://ann@127.0.0.1/shop"}, "unguarded"),
    ],
)
def test_a_connection_that_cannot_be_is_refused_with_words(tmp_path, options, words):
    with pytest.raises(ValueError, match="shop-db: url: ") as caught:
        Store("any", options["url"], tmp_path)
    assert words in str(caught.value)
    assert "canary" not in str(caught.value)


def test_a_server_elsewhere_must_show_who_it_is(tmp_path):
    def connect(**options):
        return Store("postgresql", "postgresql://ann@db.example/shop", tmp_path, **options).source._database._connect

    assert connect()["sslmode"] == "verify-full"
    assert connect()["sslrootcert"] == "system"
    assert connect(ca_file="ca.pem")["sslrootcert"] == str(tmp_path / "ca.pem")
    assert connect(plaintext=True)["sslmode"] == "prefer"


async def test_another_database_is_asked_as_it_is_where_the_config_says_so(sqlite, tmp_path):
    store = Store("any", f"sqlite+pysqlite:///{sqlite}", tmp_path)
    assert store.source._database.kind == "sqlite"
    store = Store("any", "mysql+nosuchdriver://ann@127.0.0.1/shop", tmp_path, unguarded=True)
    with pytest.raises(Garbled, match="plugin"):
        await store.source.whoami()


def test_importing_it_imports_no_database_library():
    code = "import sys, adapters.sql; sys.exit(bool({'sqlalchemy', 'psycopg', 'httpx'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
