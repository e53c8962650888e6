"""Any JSON on a loopback server: which rows a path and an expression make of it, and what is refused."""

import json
import subprocess
import sys
import time
import urllib.parse
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path

import pytest

from adapters.http import ADAPTER
from andon.contract import MetricsContract
from andon.ports import Denied, Garbled, Metrics, Unreachable
from tests.adapters.asking import NOW, a_metric, ask, harmless, opened
from tests.adapters.meters import Heart
from tests.adapters.test_http_client import Hand, Server, answer
from tests.helpers import HOSTILE

PATH = "/sales?from=$since&to=$until&step=$every"
PAIRS = f"{PATH} buckets[].[start, paid]"
THREES = f"{PATH} buckets[].[start, paid, all]"


def sales(head):
    """A shop's own page: what was sold, by buckets of the length asked for; nothing from -900 to -720."""
    asked = dict(urllib.parse.parse_qsl(head.split()[1].decode().partition("?")[2]))
    date = formatdate(time.time(), usegmt=True)
    if not asked:
        return answer(b"{}", Date=date, Server="shop/2")
    start, end, step = (float(asked[name]) for name in ("from", "to", "step"))
    rows = []
    while start < end:
        if not -900 <= start - NOW < -720:
            rows.append({"start": start, "paid": step / 5, "all": step, "shop": "a"})
        start += step
    return answer(json.dumps({"buckets": rows}).encode(), Date=date)


@pytest.fixture
async def server(tmp_path):
    async with Server() as it:
        it.reply = sales
        it.source = opened(ADAPTER, tmp_path, url=it.url)
        yield it
        await it.source.close()


async def test_each_closed_bucket_holds_what_the_rows_say(server):
    assert await ask(server.source, PAIRS, -120, 0) == ("ok", [(-120, 12, None), (-60, 12, None)], "")
    assert (await ask(server.source, THREES, -60, 0, kind="proportion"))[:2] == ("ok", [(-60, 12, 60)])


async def test_n_may_have_an_expression_or_a_path_of_its_own_and_one_path_is_asked_once(server):
    n = f"{PATH} buckets[].[start, all]"
    assert (await ask(server.source, PAIRS, -60, 0, n=n, kind="proportion"))[:2] == ("ok", [(-60, 12, 60)])
    assert len(server.heads) == 1
    assert (await ask(server.source, PAIRS, -60, 0, n=f"/all{n}", kind="proportion"))[:2] == ("ok", [(-60, 12, 60)])
    assert [head.split(b"?")[0] for head in server.heads[1:]] == [b"GET /sales", b"GET /all/sales"]


async def test_a_crooked_range_and_an_open_bucket_give_whole_buckets_only(server, tmp_path):
    assert [at for at, *_ in (await ask(server.source, PAIRS, -190, -5))[1]] == [-180, -120]
    early = opened(ADAPTER, tmp_path, Hand(NOW - 61), url=server.url)
    assert [at for at, *_ in (await ask(early, PAIRS, -240, 600))[1]] == [-240, -180]
    assert (await ask(early, PAIRS, -60, 600))[:2] == ("ok", [])
    await early.close()


async def test_the_path_may_name_the_range_in_three_ways(server):
    server.reply = answer(b"[]")
    path = "/x?a=$since_ms&b=$until_iso&c=$every&d=$since_iso"
    await ask(server.source, f"{path} @", -60, 0, now=1_700_000_040)
    target = b"/x?a=1699999980000&b=2023-11-14T22%3A14%3A00Z&c=60&d=2023-11-14T22%3A13%3A00Z"
    assert server.heads[-1].split()[1] == target


async def test_times_may_be_seconds_milliseconds_or_words(server):
    for at in (
        NOW - 60,
        (NOW - 60) * 1000,
        f"{NOW - 60:.0f}",
        time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW - 60)),
    ):
        server.reply = answer(json.dumps([[at, 7]]).encode())
        assert (await ask(server.source, f"{PATH} @", -60, 0))[:2] == ("ok", [(-60, 7, None)])


async def test_a_gap_is_partial_and_the_newest_missing_are_stale(server):
    state, rows, words = await ask(server.source, THREES, -1020, -600, kind="proportion")
    assert (state, [at for at, *_ in rows]) == ("partial", [-1020, -960, -720, -660])
    assert words.startswith("3 of 7")
    assert (await ask(server.source, PAIRS, -1020, -780))[0] == "stale"
    assert (await ask(server.source, PAIRS, -900, -720))[:2] == ("empty", [])
    assert (await ask(server.source, THREES, -900, -720, kind="proportion"))[:2] == ("empty", [])


@pytest.mark.parametrize("row", ['["x", 1]', '[{at}, "many"]', "[{at}, true]", "[{at}, {{}}]", "[[], 1]"])
async def test_one_bad_row_is_partial(server, row):
    body = f"[[{NOW - 120}, 7], {row.format(at=NOW - 60)}]".encode()
    server.reply = answer(body)
    found = await ask(server.source, f"{PATH} @", -120, 0)
    assert found[:2] == ("partial", [(-120, 7, None)])
    assert harmless(found[2])


async def test_null_is_missing_and_no_fault(server):
    server.reply = answer(f"[[{NOW - 120}, 7], [{NOW - 60}, null]]".encode())
    assert await ask(server.source, f"{PATH} @", -120, 0) == (
        "partial",
        [(-120, 7, None)],
        "1 of 2 buckets are missing or have no number",
    )


@pytest.mark.parametrize(
    ("value", "n", "words"),
    [
        ("buckets[].[start, paid]", "", "a path, a blank and a JMESPath"),
        (PATH, "", "a path, a blank and a JMESPath"),
        ("https://elsewhere.example/?$since @", "", "a path, a blank and a JMESPath"),
        ("//elsewhere.example/?$since @", "", "a path, a blank and a JMESPath"),
        ("/sales?step=$every @", "", "does not name the range"),
        ("/sales?from=$since&to=$end @", "", "names $end"),
        (f"{PATH} buckets[", "", "shop: orders: "),
        (f"{PATH} nosuch(buckets)", "", "nosuch"),
        (f"{PATH} abs(buckets)", "", "abs"),
        (f"{PATH} buckets", "", "rows of time and number"),
        (f"{PATH} buckets[].[start]", "", "rows of time and number"),
        (f"{PATH} length(buckets)", "", "no list"),
        (f"{PATH} buckets[].[start, paid] | [[0], [0]]", "", "two numbers for the bucket"),
        (THREES, PAIRS, "take `n:` away"),
        ("/sales?from=$since&to=$until&step=30 buckets[].[start, paid]", "", "not the beginning of a bucket"),
    ],
)
async def test_a_wrong_query_is_told_with_what_to_do(server, value, n, words):
    with pytest.raises(Garbled, match=r"shop: orders: ") as caught:
        await ask(server.source, value, -60, 0, n=n)
    assert words in str(caught.value)


async def test_a_proportion_without_n_is_refused(server):
    with pytest.raises(Garbled, match=r"number of trials"):
        await ask(server.source, PAIRS, -60, 0, kind="proportion")


@pytest.mark.parametrize("text", HOSTILE)
async def test_what_the_server_says_is_never_shown_as_it_is(server, text):
    text = text.encode("utf-8", "replace").decode()
    server.reply = answer(json.dumps([[NOW - 60, text], [text, 7]]).encode())
    found = await ask(server.source, f"{PATH} @", -60, 0)
    assert found[:2] == ("partial", [])
    assert harmless(found[2])


async def test_a_large_answer_does_not_hold_up_the_others(server):
    server.reply = answer(json.dumps({"rows": [[i, i] for i in range(60_000)]}).encode())
    async with Heart() as heart:
        with pytest.raises(Garbled, match=r"at most 20000 rows"):
            await ask(server.source, f"{PATH} sort_by(rows, &[0])", -60, 0)
    assert heart.cpu_s < 0.5


@pytest.mark.parametrize(
    "body", [b"<html>log in</html>", b"", b'{"a": NaN}', b"[[1, 1e9999]]", b'{"buckets": [{"start"']
)
async def test_an_answer_that_is_no_json_is_garbled(server, body):
    server.reply = answer(body)
    with pytest.raises(Garbled, match=r"shop: "):
        await ask(server.source, PAIRS, -60, 0)


async def test_it_says_whether_it_answers_and_what_time_it_is_there(server):
    who = await server.source.whoami()
    assert abs(who.clock - time.time()) < 3
    assert (who.account, who.server) == ("nobody: no token", "a server that calls itself shop/2")
    assert isinstance(server.source, Metrics)
    server.reply = answer(b"no", 403)
    with pytest.raises(Denied):
        await server.source.whoami()


async def test_the_token_is_sent_as_the_config_says(server, tmp_path, monkeypatch):
    monkeypatch.setenv("SHOP", "5ecret-canary")
    for options, sent in (
        ({}, b"\r\nAuthorization: Bearer 5ecret-canary\r"),
        ({"header": "X-Api-Key", "scheme": ""}, b"\r\nX-Api-Key: 5ecret-canary\r"),
        ({"user": "ann"}, b"\r\nAuthorization: Basic YW5uOjVlY3JldC1jYW5hcnk=\r"),
    ):
        source = opened(ADAPTER, tmp_path, url=server.url, token="env:SHOP", **options)
        await source.whoami()
        assert sent in server.heads[-1]
        await source.close()


async def test_a_server_is_asked_as_often_as_the_config_allows(server, tmp_path):
    source = opened(ADAPTER, tmp_path, Hand(NOW), url=server.url, per_minute=2)
    await source.whoami()
    with pytest.raises(Unreachable, match=r"budget"):
        for _ in range(3):
            await source.whoami()
    await source.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "http://shop.example", "token": "env:X"}, "plaintext"),
        ({"url": "http://127.0.0.1", "user": "ann"}, "token"),
        ({"url": "http://127.0.0.1", "header": "X: y\r\nZ"}, "header"),
        ({"url": "http://127.0.0.1", "scheme": "a\r\nb"}, "scheme"),
    ],
)
def test_a_connection_that_cannot_be_is_refused_with_words(tmp_path, options, words):
    with pytest.raises(ValueError, match=r"shop: ") as caught:
        opened(ADAPTER, tmp_path, **options)
    assert words in str(caught.value)


class TestContract(MetricsContract):
    """What every metrics source promises."""

    metric = a_metric(THREES, kind="proportion")
    nothing = a_metric(f"{PATH} nothing[].[start, paid]")

    @pytest.fixture(autouse=True)
    def place(self, tmp_path):
        self.folder = tmp_path

    @asynccontextmanager
    async def opened(self):
        async with Server() as server:
            server.reply = sales
            source = opened(ADAPTER, self.folder, url=server.url)
            yield source
            await source.close()


def test_importing_it_imports_no_library():
    code = "import sys, adapters.http, adapters.graphite; sys.exit(bool({'jmespath', 'httpx'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
