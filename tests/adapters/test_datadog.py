"""Datadog as its reference and its own client have it: what buckets hold, what is refused, and how it is asked."""

import asyncio
import json
import time
import urllib.parse
from contextlib import asynccontextmanager
from email.utils import formatdate

import pytest

from adapters.datadog import ADAPTER
from andon.contract import MetricsContract
from andon.ports import Denied, Garbled, Metrics, Unreachable
from tests.adapters.asking import NOW, a_metric, ask, harmless, opened
from tests.adapters.test_http_client import Hand, Server, answer
from tests.helpers import HOSTILE
from tests.servers.datadog import API_KEY, APP_KEY, client_asks, replies

ORDERS = "sum:shop.orders{env:prod}.as_count().rollup(sum, $every)"


def orders(at):
    """A number for each bucket, and none from -900 to -720."""
    return None if -900 <= at - NOW < -720 or at >= NOW else 12.0


def served(reply):
    def reply_to(head):
        status, said = reply(head)
        return answer(json.dumps(said).encode(), status, Date=formatdate(time.time(), usegmt=True))

    return reply_to


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    monkeypatch.setenv("API", API_KEY)
    monkeypatch.setenv("APP", APP_KEY)


def source(url, folder, clock=None):
    return opened(ADAPTER, folder, clock, url=url, token_api="env:API", token_app="env:APP")


@pytest.fixture
async def server(tmp_path):
    async with Server() as it:
        it.reply = served(replies(orders, 60))
        it.datadog = source(it.url, tmp_path)
        yield it
        await it.datadog.close()


async def test_each_closed_bucket_holds_what_happened_in_it(server):
    assert await ask(server.datadog, ORDERS, -120, 0) == ("ok", [(-120, 12, None), (-60, 12, None)], "")
    found = await ask(server.datadog, ORDERS, -60, 0, n=ORDERS, kind="proportion")
    assert found[:2] == ("ok", [(-60, 12, 12)])


async def test_a_crooked_range_and_an_open_bucket_give_whole_buckets_only(server, tmp_path):
    assert [at for at, *_ in (await ask(server.datadog, ORDERS, -190, -5))[1]] == [-180, -120]
    early = source(server.url, tmp_path, Hand(NOW - 61))
    assert [at for at, *_ in (await ask(early, ORDERS, -240, 600))[1]] == [-240, -180]
    assert (await ask(early, ORDERS, -60, 600))[:2] == ("ok", [])
    await early.close()


async def test_a_gap_is_partial_and_the_newest_missing_are_stale(server):
    state, rows, words = await ask(server.datadog, ORDERS, -1020, -600)
    assert (state, [at for at, *_ in rows]) == ("partial", [-1020, -960, -720, -660])
    assert words.startswith("3 of 7")
    assert (await ask(server.datadog, ORDERS, -1020, -780))[0] == "stale"
    assert (await ask(server.datadog, ORDERS, -900, -720))[:2] == ("empty", [])


async def test_a_long_range_is_asked_in_parts_that_are_not_made_coarser(server):
    server.reply = served(replies(lambda _: 1.0, 10))
    state, rows, _ = await ask(server.datadog, ORDERS, -25_000, 0, every=10.0)
    assert (state, len(rows)) == ("ok", 2500)
    asked = [urllib.parse.parse_qs(head.split()[1].decode().partition("?")[2]) for head in server.heads]
    assert [int(one["to"][0]) - int(one["from"][0]) for one in asked] == [10_000, 10_000, 5_000]


async def test_datadogs_own_client_asks_the_same_and_takes_these_answers(server):
    await server.datadog.whoami()
    await ask(server.datadog, ORDERS, -120, 0)
    ours = [head for head in server.heads if b"agent.running" not in head]
    server.heads.clear()
    query = ORDERS.replace("$every", "60")
    found = await asyncio.to_thread(client_asks, server.url, int(NOW - 120), int(NOW), query)
    assert found["valid"] is True
    assert found["found"]["series"][0]["pointlist"] == [[(NOW - 120) * 1000, 12], [(NOW - 60) * 1000, 12]]
    for one, other in zip(ours, server.heads, strict=True):
        assert _question(one) == _question(other)


def _question(head):
    """The path, what is asked there, and the keys, as a request has them."""
    first, *lines = head.decode().split("\r\n")
    method, target, _ = first.split()
    path, _, query = target.partition("?")
    keys = sorted(line.lower() for line in lines if line.lower().startswith("dd-"))
    asked = sorted(urllib.parse.parse_qsl(query))
    return method, path, asked, keys if asked else keys[:1]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("sum:shop.orders{env:prod}", ".rollup(sum, $every)"),
        ("sum:shop.orders{env:prod}.rollup(sum, 60)", ".rollup(sum, $every)"),
        ("sum:shop.orders{env:prod}.rollup(sum)", ".rollup(sum, $every)"),
        (f"{ORDERS} / sum:shop.all{{*}}", ".rollup(sum, $every)"),
        (f"default_zero({ORDERS})", "default_zero()"),
        (f"{ORDERS}.fill(zero)", ".fill(null)"),
        (f"{ORDERS}.fill(last, 60)", ".fill(null)"),
    ],
)
async def test_a_query_that_could_make_something_of_nothing_is_refused(server, query, words):
    for value, n in ((query, ""), (ORDERS, query)):
        with pytest.raises(Garbled, match=r"shop: orders: ") as caught:
            await ask(server.datadog, value, -60, 0, n=n)
        assert words in str(caught.value)
    assert server.heads == []


def found(*series, status="ok", **more):
    return answer(json.dumps({"status": status, "series": series, **more}).encode())


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (found({"pointlist": []}, {"pointlist": []}), "2 series instead of one"),
        (found({"pointlist": [[1_020_000, 1]], "interval": 300}), "other buckets (interval 300)"),
        (found({"pointlist": [[1_020_000, 1], [1_050_000, 1]]}), "not the beginning of a bucket"),
        (found(status="error", error="\x1b[2J Rule 'avg' is unknown"), "Rule 'avg' is unknown"),
        (answer(b'{"errors": ["Error parsing query"]}', 400), "Error parsing query"),
        (answer(b'{"status": "ok", "series": [{"pointlist": [["x", 1]]}]}'), "not what was asked for"),
        (answer(b'{"status": "ok", "series": [{"pointlist": [[1, NaN]]}]}'), "not JSON"),
        (answer(b"<html>log in</html>"), "web page"),
        (answer(b"null"), "not what was asked for"),
        (answer(b""), "empty answer"),
    ],
)
async def test_an_answer_that_is_no_series_of_buckets_is_garbled(server, tmp_path, reply, words):
    server.reply = reply
    datadog = source(server.url, tmp_path, Hand(2000.0))
    with pytest.raises(Garbled, match=r"shop: ") as caught:
        await ask(datadog, ORDERS, 1020, 1140, now=0)
    assert words in str(caught.value)
    assert harmless(str(caught.value))
    await datadog.close()


async def test_points_that_datadog_left_out_make_the_answer_partial(server, tmp_path):
    rows = [[1_020_000, 1], [1_080_000, None], [1_140_000, 1]]
    server.reply = found({"pointlist": rows[::2], "interval": 60_000, "length": 3})
    datadog = source(server.url, tmp_path, Hand(2000.0))
    assert (await ask(datadog, ORDERS, 1020, 1200, now=0))[0] == "partial"
    server.reply = found({"pointlist": rows, "interval": 60, "length": 3})
    assert (await ask(datadog, ORDERS, 1020, 1200, now=0))[:2] == ("partial", [(1020, 1, None), (1140, 1, None)])
    await datadog.close()


@pytest.mark.parametrize("text", HOSTILE)
async def test_what_it_says_is_never_shown_as_it_is(server, text):
    server.reply = found(status="error", error=text)
    with pytest.raises(Garbled) as caught:
        await ask(server.datadog, ORDERS, -60, 0)
    assert harmless(str(caught.value))


async def test_it_says_whether_both_keys_are_good(server, monkeypatch):
    who = await server.datadog.whoami()
    assert abs(who.clock - time.time()) < 3
    assert who.found == ("may ask for metrics",)
    assert isinstance(server.datadog, Metrics)
    for name in ("API", "APP"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "wr0ng-canary")
            with pytest.raises(Denied) as caught:
                await server.datadog.whoami()
            assert "canary" not in str(caught.value)
            patch.delenv(name)
            with pytest.raises(Denied, match=rf"env:{name}"):
                await server.datadog.whoami()
    server.reply = answer(b'{"valid": false}')
    with pytest.raises(Denied, match=r"env:API.* no valid API key"):
        await server.datadog.whoami()


async def test_its_limits_are_kept(server):
    limits = {"X_RateLimit_Limit": "100", "X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "30"}
    server.reply = answer(b'{"errors": ["Rate limit"]}', 429, **limits)
    for _ in range(3):
        with pytest.raises(Unreachable):
            await ask(server.datadog, ORDERS, -60, 0)
    assert len(server.heads) == 1


def test_a_key_does_not_travel_in_the_clear(tmp_path):
    with pytest.raises(ValueError, match=r"plaintext"):
        source("http://api.datadog.example", tmp_path)


class TestContract(MetricsContract):
    """What every metrics source promises."""

    metric = a_metric(ORDERS)
    nothing = a_metric(ORDERS.replace("orders", "nothing"))

    @pytest.fixture(autouse=True)
    def place(self, tmp_path):
        self.folder = tmp_path

    @asynccontextmanager
    async def opened(self):
        async with Server() as server:
            there, silent = served(replies(lambda _: 12.0, 60)), served(replies(lambda _: None, 60))
            server.reply = lambda head: silent(head) if b"nothing" in head else there(head)
            datadog = source(server.url, self.folder)
            yield datadog
            await datadog.close()
