"""What a real InfluxDB 1.x answers, and what is not asked of it because it would make something of nothing."""

import time
from contextlib import asynccontextmanager

import msgspec
import pytest

from adapters.influxdb import ADAPTER
from andon.contract import MetricsContract
from andon.ports import Denied, Garbled, Metrics
from tests.adapters.asking import NOW, a_metric, ask, harmless, opened, until_now
from tests.adapters.test_http_client import Hand, Server, answer
from tests.helpers import HOSTILE
from tests.servers.influxdb import DATABASE, OWNER, OWNER_PASSWORD, READER, READER_PASSWORD, InfluxDB

RANGE = "WHERE time >= $since AND time < $until GROUP BY time($every) fill(none)"
ORDERS = f"SELECT sum(paid), count(paid) FROM orders {RANGE}"


def history():
    """Half an hour of checkouts at two shops, each 10 s, of which every third is paid; with a gap and a death."""
    for number, at in enumerate(range(-1800, 60, 10)):
        paid, moment = int(number % 3 == 0), int(NOW + at)
        if not -900 <= at < -720:
            yield f"orders,shop=a paid={paid},ms={at + 1800} {moment}"
        yield f"visits paid={paid} {moment}"
        if at < -600:
            yield f"died paid={paid} {moment}"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    it = InfluxDB(tmp_path_factory.mktemp("influxdb"))
    try:
        it.start()
        it.write(history())
        yield it
    finally:
        it.stop()


def reader(server, folder, clock=None, **more):
    options = {"url": server.url, "database": DATABASE, "user": READER, "password": "env:READER", **more}
    return opened(ADAPTER, folder, clock, **options)


@pytest.fixture
async def influx(server, tmp_path, monkeypatch):
    monkeypatch.setenv("READER", READER_PASSWORD)
    monkeypatch.setenv("OWNER", OWNER_PASSWORD)
    it = reader(server, tmp_path)
    yield it
    await it.close()


async def test_each_closed_bucket_holds_value_and_n(influx):
    assert await ask(influx, ORDERS, -180, 0, kind="proportion") == (
        "ok",
        [(-180, 2, 6), (-120, 2, 6), (-60, 2, 6)],
        "",
    )


async def test_one_column_is_a_value_without_n(influx):
    query = f"SELECT max(ms) / 10 FROM orders {RANGE}"
    assert (await ask(influx, query, -120, 0))[:2] == ("ok", [(-120, 173, None), (-60, 179, None)])


async def test_a_crooked_range_and_an_open_bucket_give_whole_buckets_only(influx, server, tmp_path):
    assert [at for at, *_ in (await ask(influx, ORDERS, -190, -5))[1]] == [-180, -120]
    early = reader(server, tmp_path, Hand(NOW - 61))
    assert [at for at, *_ in (await ask(early, ORDERS, -240, 600))[1]] == [-240, -180]
    assert (await ask(early, ORDERS, -60, 600))[:2] == ("ok", [])
    await early.close()


async def test_a_gap_is_partial_and_never_zero(influx):
    state, rows, words = await ask(influx, ORDERS, -1020, -600, kind="proportion")
    assert (state, [at for at, *_ in rows]) == ("partial", [-1020, -960, -720, -660])
    assert words.startswith("3 of 7")


async def test_a_source_that_died_is_stale_and_then_empty(influx):
    query = ORDERS.replace("orders", "died")
    assert (await ask(influx, query, -720, -540))[0] == "partial"
    assert (await ask(influx, query, -720, -480))[0] == "stale"
    for silent in (query, ORDERS.replace("orders", "nothing")):
        state, rows, words = await ask(influx, silent, -480, 0, kind="proportion")
        assert (state, rows) == ("empty", [])
        assert "name what is there" in words


async def test_a_long_range_is_asked_in_parts(influx):
    state, rows, _ = await ask(influx, ORDERS, -24_000, 0, every=10.0)
    assert state == "partial"
    assert len(rows) == 162


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT sum(paid) FROM orders", "without $since and $until and $every"),
        (ORDERS.replace("$until", "now()"), "without $until"),
        (ORDERS.replace("$every", "1m"), "without $every"),
        (ORDERS.replace("$every", "1m -- $every"), "without $every"),
        (ORDERS.replace(" fill(none)", ""), "without fill(none)"),
        (ORDERS.replace("none", "0"), "without fill(none)"),
        (ORDERS.replace("none", "previous"), "without fill(none)"),
        (
            f"SELECT sum(c) FROM (SELECT count(paid) AS c FROM orders GROUP BY time($every)) {RANGE}",
            "without fill(none)",
        ),
        (f"SELECT sum(paid) / count(paid) FROM orders {RANGE}", "two columns"),
        (f"SELECT sum(paid) INTO more FROM orders {RANGE}", "only one SELECT"),
        (f"{ORDERS}; DROP MEASUREMENT orders", "only one SELECT"),
        (f"DROP MEASUREMENT orders -- {RANGE}", "only one SELECT"),
        (f"DELETE FROM orders {RANGE}", "only one SELECT"),
        (ORDERS.replace("time($every)", "time($every), shop"), "group by time alone, not shop"),
        (f"SELECT sum(paid) FROM orders, visits {RANGE}", "2 series instead of one"),
        (f"SELECT sum(ms), sum(ms), sum(ms) FROM orders {RANGE}", "3 columns"),
        (f"SELECT sum(paid FROM orders {RANGE}", "error parsing query"),
    ],
)
async def test_a_wrong_query_is_told_with_what_to_do(influx, server, tmp_path, query, words):
    owner = reader(server, tmp_path, user=OWNER, password="env:OWNER")
    with pytest.raises(Garbled, match=r"shop: ") as caught:
        await ask(owner, query, -120, 0)
    assert words in str(caught.value)
    assert (await ask(owner, ORDERS, -60, 0))[0] == "ok"
    await owner.close()


async def test_n_is_a_column_and_no_query(influx):
    with pytest.raises(Garbled, match=r"second column"):
        await ask(influx, ORDERS, -60, 0, n=ORDERS)


@pytest.mark.parametrize("text", HOSTILE)
async def test_what_stands_in_a_query_is_never_shown_as_it_is(influx, text):
    with pytest.raises(Garbled) as caught:
        await ask(influx, f"SELECT {text}( FROM nowhere {RANGE}", -120, 0)
    assert harmless(str(caught.value))


async def test_it_says_who_it_is_and_what_is_missing(influx, server, tmp_path):
    who = await influx.whoami()
    assert (who.account, who.server[:12], who.missing) == (READER, "InfluxDB 1.6", ())
    assert "may read shop" in who.found
    assert abs(who.clock - time.time()) < 3
    assert isinstance(influx, Metrics)
    owner = reader(server, tmp_path, user=OWNER, password="env:OWNER", database="nosuch")
    assert (await owner.whoami()).missing == ("the database nosuch",)
    with pytest.raises(Garbled, match=r"no database 'nosuch'"):
        await ask(owner, ORDERS, -60, 0)
    await owner.close()


async def test_what_may_not_read_is_denied(influx, server, tmp_path, monkeypatch):
    other = reader(server, tmp_path, database="other")
    monkeypatch.setenv("READER", "wr0ng-canary")
    for source, words in ((other, "other"), (influx, "env:READER")):
        with pytest.raises(Denied) as caught:
            await source.whoami()
        assert words in str(caught.value) or "env:READER" in str(caught.value)
        assert "canary" not in str(caught.value)
    await other.close()


class TestContract(MetricsContract):
    """What every metrics source promises."""

    metric = a_metric(ORDERS, kind="proportion")
    nothing = a_metric(ORDERS.replace("orders", "nothing"), kind="proportion")

    @pytest.fixture(autouse=True)
    def place(self, server, tmp_path, monkeypatch):
        monkeypatch.setenv("READER", READER_PASSWORD)
        self.server, self.folder = server, tmp_path
        self.metric, self.nothing = until_now(type(self).metric), until_now(type(self).nothing)

    @asynccontextmanager
    async def opened(self):
        source = reader(self.server, self.folder)
        yield source
        await source.close()


# answers that it does not give here


@pytest.fixture
async def fake(tmp_path):
    async with Server() as it:
        it.influx = opened(ADAPTER, tmp_path, Hand(2000.0), url=it.url, database=DATABASE)
        yield it
        await it.influx.close()


def found(*values, **more):
    series = {"columns": ["time", "sum", "count"], "values": values}
    return answer(msgspec.json.encode({"results": [{"series": [series], **more}]}))


async def test_what_the_server_cut_is_partial(fake):
    rows = [1_020_000, 1, 2], [1_080_000, 1, 2]
    fake.reply = found(*rows)
    assert (await ask(fake.influx, ORDERS, 1020, 1140, now=0))[0] == "ok"
    fake.reply = found(*rows, partial=True)
    assert (await ask(fake.influx, ORDERS, 1020, 1140, now=0))[0] == "partial"


async def test_one_bad_row_is_partial_and_a_row_of_another_bucket_is_refused(fake):
    fake.reply = found([1_020_000, "many", 2], [1_080_000, 1, 2])
    assert (await ask(fake.influx, ORDERS, 1020, 1140, now=0))[:2] == ("partial", [(1080, 1, 2)])
    fake.reply = found([1_020_000, 1, 2], [1_050_000, 1, 2])
    with pytest.raises(Garbled, match=r"not the beginning of a bucket"):
        await ask(fake.influx, ORDERS, 1020, 1140, now=0)


@pytest.mark.parametrize(
    "body",
    [
        b'{"results": []}',
        b'{"results": [{"error": "\x1b[2J timeout"}]}',
        b"{}",
        b"null",
        b"",
        b"<html>",
        b'{"results": [{"se',
    ],
)
async def test_an_answer_of_another_shape_is_garbled(fake, body):
    fake.reply = answer(body)
    for call in (ask(fake.influx, ORDERS, 1020, 1140, now=0), fake.influx.whoami()):
        with pytest.raises(Garbled, match=r"shop: ") as caught:
            await call
        assert harmless(str(caught.value))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "http://influx.example", "user": "ann", "password": "env:X"}, "plaintext"),
        ({"url": "http://127.0.0.1", "user": "ann"}, "belong together"),
        ({"url": "http://127.0.0.1", "password": "env:X"}, "belong together"),
    ],
)
def test_a_connection_that_cannot_be_is_refused_with_words(tmp_path, options, words):
    with pytest.raises(ValueError, match=r"shop: ") as caught:
        opened(ADAPTER, tmp_path, database=DATABASE, **options)
    assert words in str(caught.value)
