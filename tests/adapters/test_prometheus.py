"""The same expectations of a real Prometheus and a real VictoriaMetrics, and of answers that neither gives here."""

import asyncio
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from adapters._promql import selectors
from adapters.prometheus import ADAPTER
from andon import registry
from andon.clock import WallClock
from andon.contract import MetricsContract
from andon.model import Metric, Sample
from andon.ports import Denied, Garbled, Metrics, Unreachable
from andon.registry import Context, NoOptions, Place
from tests.adapters.test_http_client import Hand, Server, answer
from tests.helpers import until
from tests.servers.prometheus import Exporter, Prometheus, VictoriaMetrics

LAG_S = 2.0
"""How long VictoriaMetrics takes until it finds what it has scraped."""

NOW = time.time() // 60 * 60
"""The end of the history, a whole minute."""


def history():
    """Half an hour of a shop, a sample each 10 s, never at the edge of a bucket."""
    points = []

    def series(name, value, begin=-1800, end=70):
        points.extend((name, NOW + at + 5, float(value(at + 1800))) for at in range(begin, end, 10))

    series('orders_total{shop="a"}', lambda s: s * 0.3)
    series('orders_total{shop="b"}', lambda s: s * 0.1)
    series("checkouts_total", lambda s: s * 4)
    series("rising_total", lambda s: s * s / 100)
    series("died_total", lambda s: s * 0.3, end=-600)
    series("died_depth", lambda _: 7, end=-600)
    series("gap_total", lambda s: s * 0.3, end=-900)
    series("gap_total", lambda s: s * 0.3, begin=-720)
    series("late_total", lambda s: s * 0.1, begin=-600)
    series("depth", lambda s: s)
    series("zero", lambda _: 0)
    series("one", lambda _: 1)
    return sorted(points)


@pytest.fixture(scope="module", params=[Prometheus, VictoriaMetrics])
def store(request, tmp_path_factory):
    server = request.param(tmp_path_factory.mktemp("store"))
    server.start(history())
    yield server
    server.stop()


def opened(url, tmp_path, clock=None, **options):
    given = msgspec.convert({"url": url, **options}, ADAPTER.options, strict=True)
    connection = ADAPTER.connect(given, Context("prom", tmp_path, clock or WallClock(), tmp_path))
    return ADAPTER.metrics.open(connection, NoOptions(), Place("shop", "production"))


@pytest.fixture
async def prom(store, tmp_path):
    it = opened(store.url, tmp_path)
    yield it
    await it.close()


def a_metric(value, n="", kind="count", every=60.0):
    return Metric("orders", "prom", kind, "falls", value, n=n, every=every)


async def ask(prom, value, start, end, n="", every=60.0):
    """Samples of a query, times counted from the end of the history."""
    found = await prom.samples(a_metric(value, n, every=every), NOW + start, NOW + end, every)
    rows = [(row.at - NOW, round(row.value, 6), row.n if row.n is None else round(row.n, 6)) for row in found.rows]
    return found.state, rows, found.words


# what buckets hold


async def test_each_closed_bucket_holds_what_happened_in_it(prom):
    state, rows, words = await ask(prom, "sum(increase(orders_total[$every]))", -300, 0)
    assert rows == [(-300, 24, None), (-240, 24, None), (-180, 24, None), (-120, 24, None), (-60, 24, None)]
    assert (state, words) == ("ok", "")


async def test_a_gauge_is_what_it_was_at_the_end_of_its_bucket(prom):
    _, rows, _ = await ask(prom, "sum(depth)", -120, 0)
    assert rows == [(-120, 1730, None), (-60, 1790, None)]


async def test_numerator_and_denominator_come_apart(prom):
    query, n = "sum(increase(orders_total[$every]))", "sum(increase(checkouts_total[$every]))"
    assert (await ask(prom, query, -120, 0, n))[:2] == ("ok", [(-120, 24, 240), (-60, 24, 240)])


async def test_a_crooked_range_gives_the_whole_buckets_within_it(prom):
    _, rows, _ = await ask(prom, "sum(depth)", -190, -5)
    assert [at for at, _, _ in rows] == [-180, -120]


async def test_an_open_bucket_is_never_returned(store, tmp_path):
    prom = opened(store.url, tmp_path, Hand(NOW - 61))
    assert (await ask(prom, "sum(depth)", -240, 600))[:2] == ("ok", [(-240, 1610, None), (-180, 1670, None)])
    assert (await ask(prom, "sum(depth)", -120, 600))[:2] == ("ok", [])
    assert (await ask(prom, "sum(depth)", 0, -60))[:2] == ("ok", [])
    await prom.close()


async def test_the_newest_numbers_are_never_repeated_ones(prom):
    found = await prom.samples(a_metric("sum(depth)", every=10.0), NOW - 300, NOW + 60, 10.0)
    assert found.state == "ok"
    assert len(found.rows) >= 20
    assert [row.value for row in found.rows] == [row.at - NOW + 1800 for row in found.rows]


async def test_a_range_of_more_than_11000_buckets_is_asked_in_parts(prom):
    state, rows, _ = await ask(prom, "sum(depth)", -115_000, 0, every=10.0)
    assert state in ("partial", "stale")  # VictoriaMetrics has not completed the newest half minute
    assert len(rows) > 170
    assert all(value == at + 1800 for at, value, _ in rows)


# what is missing


async def test_a_source_that_died_is_stale_and_then_empty_and_never_zero(prom):
    for query in ("sum(increase(died_total[$every]))", "sum(died_depth)", "sum(died_depth) or vector(0)"):
        state, rows, words = await ask(prom, query, -900, 0)
        assert state == "stale"
        assert "10 min" in words
        assert [at for at, _, _ in rows] == [-900, -840, -780, -720, -660]
        state, rows, words = await ask(prom, query, -480, 0)
        assert (state, rows) == ("empty", [])
        assert "no samples" in words


async def test_one_missing_bucket_at_the_end_is_partial_and_two_are_stale(prom):
    assert (await ask(prom, "sum(died_depth)", -900, -540))[0] == "partial"
    assert (await ask(prom, "sum(died_depth)", -900, -480))[0] == "stale"


async def test_a_gap_is_partial_with_the_whole_buckets_on_both_sides(prom):
    state, rows, words = await ask(prom, "sum(gap_total)", -1020, -600)
    assert state == "partial"
    assert words.startswith("3 of 7")
    assert [at for at, _, _ in rows] == [-1020, -960, -720, -660]


async def test_what_nobody_ever_measured_is_empty(prom):
    assert (await ask(prom, "sum(increase(nothing_total[$every])) or vector(0)", -300, 0))[:2] == ("empty", [])


async def test_a_missing_numerator_is_not_zero(prom):
    n = "sum(increase(checkouts_total[$every]))"
    state, rows, words = await ask(prom, "sum(increase(nothing_total[$every]))", -300, 0, n)
    assert (state, rows) == ("partial", [])
    assert "value or n" in words
    state, rows, _ = await ask(prom, "sum(late_total)", -720, -480, n)
    assert state == "partial"
    assert [at for at, _, _ in rows] == [-600, -540]


async def test_a_numerator_may_be_declared_zero_while_its_source_lives(prom):
    n = "sum(increase(checkouts_total[$every]))"
    state, rows, _ = await ask(prom, "sum(increase(nothing_total[$every])) or vector(0)", -120, 0, n)
    assert (state, rows) == ("ok", [(-120, 0, 240), (-60, 0, 240)])


@pytest.mark.parametrize("query", ["sum(zero) / sum(zero)", "sum(one) / sum(zero)", "-sum(one) / sum(zero)"])
async def test_numbers_that_are_none_are_missing(prom, query):
    state, rows, words = await ask(prom, query, -300, 0)
    assert (state, rows) == ("empty", [])
    assert "0/0" in words
    n = "sum(increase(checkouts_total[$every]))"
    assert (await ask(prom, query, -300, 0, n))[:2] == ("partial", [])


# what is wrong


async def test_several_series_are_refused_with_what_to_do(prom):
    with pytest.raises(Garbled, match=r"orders: the query yields 2 series.*sum\("):
        await ask(prom, "increase(orders_total[$every])", -300, 0)


@pytest.mark.parametrize("query", ["sum(", "\x1b]0;x\x07[/]\u202e", "sum(nosuch_function(depth))"])
async def test_a_wrong_query_is_told_in_the_servers_words(prom, query):
    with pytest.raises(Garbled) as caught:
        await ask(prom, query, -300, 0)
    text = str(caught.value)
    assert text.startswith("prom: ")
    assert "answered 4" in text
    assert text.isprintable()


async def test_it_says_what_it_is_and_what_time_it_is_there(prom, store):
    who = await prom.whoami()
    assert abs(who.clock - time.time()) < 3
    assert who.account == "nobody: no token"
    assert who.missing == ()
    assert ("Prometheus 2" in who.server) == isinstance(store, Prometheus)
    assert isinstance(prom, Metrics)


class TestContract(MetricsContract):
    """What every metrics source promises."""

    metric = a_metric("sum(increase(orders_total[$every]))")
    nothing = a_metric("sum(increase(nothing_total[$every]))")

    @pytest.fixture(autouse=True)
    def place(self, store, tmp_path):
        self.url, self.folder = store.url, tmp_path
        lag = time.time() - NOW + 1.0  # its history ends when this module was imported, and is not stale so
        self.metric = msgspec.structs.replace(type(self).metric, lag=lag)

    @asynccontextmanager
    async def opened(self):
        source = opened(self.url, self.folder)
        yield source
        await source.close()


# while it runs


async def test_a_living_source_that_dies_and_a_server_that_is_gone(tmp_path):
    # Side by side, because Prometheus alone takes 5 s until it scrapes.
    servers = [_lives_and_dies(kind, tmp_path / kind.__name__) for kind in (Prometheus, VictoriaMetrics)]
    await asyncio.gather(*servers)


async def _lives_and_dies(kind, tmp_path):
    exporter = Exporter({'orders_total{path="/a\\"}"}': 0.0, "depth": 3.0})
    server = kind(tmp_path, exporter.target, "100ms", **({} if kind is Prometheus else {"latency": "0s"}))
    server.start()
    prom = opened(server.url, tmp_path)
    query = 'sum(increase(orders_total{path=~"/a.*"}[$every]))'

    async def state(query, start, end=None):
        return await prom.samples(a_metric(query, every=1.0), start, time.time() - LAG_S if end is None else end, 1.0)

    async def whole():
        exporter.numbers['orders_total{path="/a\\"}"}'] += 1
        found = await state(query, time.time() - LAG_S - 3)
        return found.state == "ok" and len(found.rows) >= 2 and found

    try:
        rows = (await until(whole, 20)).rows
        assert rows[-1].value > 2
        exporter.stop()
        died = time.time()
        for dead in (query, "sum(depth)"):
            await until(lambda dead=dead: _is(state(dead, died - 2), "stale"), 20)
            await until(lambda dead=dead: _is(state(dead, died + 1, died + 3), "empty"), 20)
        server.stop()
        with pytest.raises(Unreachable):
            await state(query, died - 2)
        server.start()
        again = await state(query, died - 2)
        assert again.state == "stale"
        assert again.rows[0].value > 0
    finally:
        server.stop()
        exporter.stop()
        await prom.close()


async def _is(asked, state):
    return (await asked).state == state


# answers that neither gives here


def found(*series, **more):
    return answer(
        msgspec.json.encode({"status": "success", "data": {"resultType": "matrix", "result": series}, **more})
    )


@pytest.fixture
async def fake(tmp_path):
    """A server that answers what `value` says to the query `x`, and that everything is alive."""
    async with Server() as server:
        server.value = found()

        def reply(head):
            if b"query=time" not in head:
                return server.value
            return found({"metric": {}, "values": [[at, f"{at}"] for at in range(1060, 1300, 60)]})

        server.reply = reply
        server.prom = opened(server.url, tmp_path, Hand(2000.0))
        yield server
        await server.prom.close()


async def test_a_warning_makes_the_answer_partial(fake):
    series = {"metric": {}, "values": [[1080, "1"], [1140, "2"]]}
    fake.reply = lambda _: found({"metric": {}, "values": [[1080, "1080"], [1140, "1140"]]})
    assert (await fake.prom.samples(a_metric("x"), 1020, 1140, 60.0)).state == "ok"
    for more in ({"warnings": ["No StoreAPI matched \x1b[2J"]}, {"isPartial": True}):

        def reply(head, more=more):
            times = {"metric": {}, "values": [[1080, "1080"], [1140, "1140"]]}
            return found(times) if b"query=time" in head else found(series, **more)

        fake.reply = reply
        got = await fake.prom.samples(a_metric("x"), 1020, 1140, 60.0)
        assert (got.state, got.rows) == ("partial", (Sample(1020, 1.0), Sample(1080, 2.0)))
        assert "\x1b" not in got.words


@pytest.mark.parametrize(
    "body",
    [
        b'{"status": "error", "data": {"result": []}}',
        b'{"status": "success", "data": {"result": [{"metric": {}, "values": [[1080, "many"]]}]}}',
        b'{"status": "success", "data": {"result": [{"metric": {}, "values": [[1080, 7]]}]}}',
        b'{"status": "success", "data": {"result": [{"metric": {}, "values": [["x", "7"]]}]}}',
        b'{"status": "success"}',
        b'{"status": "success", "data": {"result": [{"metric": {}, "values": [[10',
        b"<html>Log in</html>",
        b"",
        b"null",
    ],
)
async def test_an_answer_of_another_shape_is_garbled(fake, body):
    fake.reply = answer(body)
    with pytest.raises(Garbled, match="prom: "):
        await fake.prom.samples(a_metric("x"), 1020, 1140, 60.0)
    with pytest.raises(Garbled, match="prom: "):
        await fake.prom.whoami()


async def test_points_that_were_not_asked_for_are_not_taken(fake):
    fake.reply = lambda head: found(
        {"metric": {}, "values": [[1020, "9"], [1080, "1080"], [1110, "9"], [1140, "1140"], [1200, "9"], [1e300, "9"]]}
    )
    got = await fake.prom.samples(a_metric("x"), 1020, 1140, 60.0)
    assert [row.value for row in got.rows] == [1080, 1140]


async def test_a_credential_that_may_not_is_denied(fake):
    fake.reply = answer(b"forbidden", 403)
    with pytest.raises(Denied):
        await fake.prom.samples(a_metric("x"), 1020, 1140, 60.0)


async def test_every_question_leaves_kept_answers_aside_and_says_a_literal_range(fake):
    await fake.prom.samples(a_metric("rate(x[$every])", "increase(y[$every])"), 1020, 1140, 60.0)
    asked = b"".join(fake.heads)
    assert len(fake.heads) == 3
    assert asked.count(b"nocache=1") == 3
    assert b"every" not in asked
    assert b"start=1080.000&end=1140.000&step=60s" in asked


# how it is configured


def test_it_is_found_by_name():
    assert registry.find("prometheus") is ADAPTER


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "http://prom.example", "token": "env:X"}, "plaintext"),
        ({"url": "http://127.0.0.1", "user": "ann"}, "token"),
        ({"url": "prom.example"}, "https://"),
    ],
)
def test_a_connection_that_cannot_be_is_refused_with_words(tmp_path, options, words):
    with pytest.raises(ValueError, match="prom: ") as caught:
        opened(options.pop("url"), tmp_path, **options)
    assert words in str(caught.value)


async def test_the_token_is_sent_as_a_bearer_or_as_the_password_of_a_user(tmp_path, monkeypatch):
    monkeypatch.setenv("PROM_TOKEN", "5ecret-canary")
    async with Server() as server:
        server.reply = answer(b'{"status":"success","data":{"resultType":"scalar","result":[5.5,"5.5"]}}')
        for options, sent in (
            ({}, b": Bearer 5ecret-canary\r"),
            ({"user": "ann"}, b": Basic YW5uOjVlY3JldC1jYW5hcnk=\r"),
        ):
            prom = opened(server.url, tmp_path, token="env:PROM_TOKEN", **options)
            assert (await prom.whoami()).clock == 5.5
            assert sent in server.heads[-1]
            await prom.close()


@pytest.mark.parametrize(
    ("query", "read"),
    [
        ("sum(increase(orders_total[60s]))", ["orders_total"]),
        ("up", ["up"]),
        ('{__name__=~"a|b"}', ['{__name__=~"a|b"}']),
        ('a{x="}"} / on(job) group_left(y) b{y=\'"{\'} offset 5m', ['a{x="}"}', "b{y='\"{'}"]),
        (
            "histogram_quantile(0.95, sum by (le) (rate(req_seconds_bucket{job='x'}[5m])))",
            ["req_seconds_bucket{job='x'}"],
        ),
        ("sum without (a, b) (c) + sum(d) by (e)", ["c", "d"]),
        ("1e3 * rate(job:x:rate5m[1h30m:1m]) > bool 0x1F or -Inf", ["job:x:rate5m"]),
        ('label_replace(a, "b", "c{d}", `e`, "f\\"g")  # h', ["a"]),
        ("a @ 1609746000 and b @ end() unless ignoring (c) d", ["a", "b", "d"]),
        ("time() - max(a) + max(a)", ["a"]),
        ("vector(1)", []),
        ("WITH (x = y) x", []),
        ("", []),
        ("sum(", []),
        ('a{b="', ["a", "b"]),
    ],
)
def test_the_raw_series_of_a_query_are_found(query, read):
    assert selectors(query) == read


def test_importing_it_imports_no_http_library():
    code = "import sys, adapters.prometheus; sys.exit(1 if 'httpx' in sys.modules else 0)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
