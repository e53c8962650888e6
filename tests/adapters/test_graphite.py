"""What a real Graphite answers: whole buckets, those of which a point is missing, and marks."""

import json
import time
import urllib.request
from contextlib import asynccontextmanager

import pytest

from adapters._graphite_targets import closes, gathered
from adapters.graphite import ADAPTER
from andon.contract import MetricsContract, NotifierContract
from andon.model import Note
from andon.ports import Accepted, Denied, Garbled, Metrics, NoAnswer, Notifier, Refused, Unreachable
from tests.adapters.asking import NOW, a_metric, ask, harmless, opened, until_now
from tests.adapters.test_http_client import Hand, Server, answer
from tests.helpers import HOSTILE
from tests.servers.graphite import STEP_S, Graphite

SUM = "summarize({},'$every','sum',false)"


def history():
    """Half an hour, a point each 10 s."""
    times = [NOW + at for at in range(-1800, 60, STEP_S)]
    return {
        "shop.a.paid": [(at, 2.0) for at in times],
        "shop.b.paid": [(at, 1.0) for at in times],
        "shop.all": [(at, 10.0) for at in times],
        "shop.rising": [(at, at - NOW) for at in times],
        "shop.gap": [(at, 2.0) for at in times if not -930 <= at - NOW < -720],
        "shop.died": [(at, 2.0) for at in times if at - NOW < -600],
        "shop.silent": [],
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    it = Graphite(tmp_path_factory.mktemp("graphite"), history())
    try:
        it.start()
        yield it
    finally:
        it.stop()


@pytest.fixture
async def graphite(server, tmp_path):
    it = opened(ADAPTER, tmp_path, url=server.url)
    yield it
    await it.close()


async def test_each_closed_bucket_holds_what_happened_in_it(graphite):
    assert await ask(graphite, SUM.format("shop.a.paid"), -180, 0) == (
        "ok",
        [(-180, 12, None), (-120, 12, None), (-60, 12, None)],
        "",
    )
    state, rows, _ = await ask(graphite, "summarize(shop.rising,'$every','last',false)", -120, 0)
    assert (state, rows) == ("ok", [(-120, -70, None), (-60, -10, None)])


async def test_numerator_and_denominator_come_apart(graphite):
    found = await ask(graphite, SUM.format("shop.a.paid"), -120, 0, n=SUM.format("shop.all"), kind="proportion")
    assert found[:2] == ("ok", [(-120, 12, 60), (-60, 12, 60)])


async def test_several_series_are_one_when_they_are_summed_before_or_after(graphite):
    for target in (SUM.format("sumSeries(shop.*.paid)"), f"sumSeries({SUM.format('shop.*.paid')})"):
        assert (await ask(graphite, target, -120, 0))[:2] == ("ok", [(-120, 18, None), (-60, 18, None)])


async def test_a_crooked_range_and_an_open_bucket_give_whole_buckets_only(graphite, server, tmp_path):
    assert [at for at, *_ in (await ask(graphite, SUM.format("shop.all"), -190, -5))[1]] == [-180, -120]
    early = opened(ADAPTER, tmp_path, Hand(NOW - 61), url=server.url)
    assert [at for at, *_ in (await ask(early, SUM.format("shop.all"), -240, 600))[1]] == [-240, -180]
    assert (await ask(early, SUM.format("shop.all"), -60, 600))[:2] == ("ok", [])
    await early.close()


async def test_a_bucket_of_which_half_the_points_are_missing_is_no_half_number(graphite):
    state, rows, words = await ask(graphite, SUM.format("shop.gap"), -1020, -600)
    assert (state, rows) == ("partial", [(-1020, 12, None), (-720, 12, None), (-660, 12, None)])
    assert words.startswith("4 of 7")
    both = f"divideSeries({SUM.format('shop.gap')},{SUM.format('shop.all')})"
    assert [at for at, *_ in (await ask(graphite, both, -1020, -600))[1]] == [-1020, -720, -660]
    found = await ask(graphite, SUM.format("shop.all"), -1020, -600, n=SUM.format("shop.gap"), kind="proportion")
    assert [at for at, *_ in found[1]] == [-1020, -720, -660]


async def test_a_source_that_died_is_stale_and_then_empty_and_never_zero(graphite):
    assert (await ask(graphite, SUM.format("shop.died"), -720, -540))[0] == "partial"
    state, _, words = await ask(graphite, SUM.format("shop.died"), -720, -480)
    assert (state, words) == ("stale", "nothing came in for the last 2 min")
    for target in ("shop.died", "shop.silent", "shop.nothing", "transformNull(shop.nothing,0)"):
        state, rows, words = await ask(graphite, SUM.format(target), -480, 0)
        assert (state, rows) == ("empty", [])
        assert "name what is there" in words


async def test_what_nobody_measured_may_be_declared_zero_while_its_file_is_there(graphite):
    found = await ask(graphite, SUM.format("transformNull(shop.silent,0)"), -120, 0)
    assert found[:2] == ("ok", [(-120, 0, None), (-60, 0, None)])


async def test_infinity_is_no_number(graphite):
    target = f"scale(scale({SUM.format('shop.all')},1e308),1e308)"
    assert (await ask(graphite, target, -120, 0))[:2] == ("partial", [])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("shop.all", "summarize(shop.orders,'$every'"),
        ("summarize(shop.all,'30s','sum',false)", "and not 30s"),
        (f"divideSeries({SUM.format('shop.all')},hitcount(shop.all,'1h'))", "and not 1h"),
        ("summarize(shop.all,'$every'", "not closed"),
        ("summarize(shop.all,'$every)", "not closed"),
        (f"{SUM.format('shop.all')}),alias(shop.all", "not closed"),
        (SUM.format("shop.*.paid"), "2 series instead of one; sum them"),
        (SUM.format("nosuch(shop.all)"), "unknown function: nosuch"),
        (f"group({SUM.format('shop.all')},alias({SUM.format('shop.all')},'andon n'))", "series instead of one"),
    ],
)
async def test_a_wrong_target_is_told_with_what_to_do(graphite, value, words):
    with pytest.raises(Garbled, match=r"shop: ") as caught:
        await ask(graphite, value, -120, 0)
    assert words in str(caught.value)


@pytest.mark.parametrize("text", HOSTILE)
async def test_what_stands_in_a_target_is_never_shown_as_it_is(graphite, text):
    try:
        found = await ask(graphite, SUM.format(f"nosuch(shop.{text})"), -120, 0)
    except Garbled as error:
        found = ("", [], str(error))
    assert found[1] == []
    assert harmless(found[2])


@pytest.mark.parametrize("every", [10.0, 20.0, 300.0])
async def test_buckets_of_any_length_are_whole(graphite, every):
    found = await ask(graphite, SUM.format("shop.all"), -900, 0, every=every)
    assert found[0] == "ok"
    assert {value for _, value, _ in found[1]} == {every}


async def test_it_says_what_it_is_and_what_time_it_is_there(graphite):
    who = await graphite.whoami()
    assert who.server.startswith("Graphite 1.1.")
    assert abs(who.clock - time.time()) < 3
    assert isinstance(graphite, Metrics)
    assert isinstance(graphite, Notifier)


async def test_a_note_is_an_event_at_its_time(graphite, server):
    note = Note("shop", "shop stopped \x1b]0;x\x07", "by ann: orders fell", key="k1", kind="stopped", at=NOW - 30)
    assert isinstance(await graphite.tell(note), Accepted)
    with urllib.request.urlopen(f"{server.url}/events/get_data?tags=andon") as found:
        events = json.load(found)
    (event,) = [event for event in events if event["data"] == "by ann: orders fell"]
    assert (event["when"], event["tags"]) == (NOW - 30, ["andon", "shop", "stopped"])
    assert event["what"].startswith("shop stopped")
    assert harmless(event["what"])


class _Opened:
    @pytest.fixture(autouse=True)
    def place(self, server, tmp_path):
        self.url, self.folder = server.url, tmp_path

    @asynccontextmanager
    async def opened(self):
        source = opened(ADAPTER, self.folder, url=self.url)
        yield source
        await source.close()


class TestMetrics(_Opened, MetricsContract):
    """What every metrics source promises."""

    @pytest.fixture(autouse=True)
    def history(self):
        self.metric = until_now(a_metric(SUM.format("shop.all")))
        self.nothing = until_now(a_metric(SUM.format("shop.nothing")))


class TestNotes(_Opened, NotifierContract):
    """What every notifier promises."""


# answers that it does not give here


@pytest.fixture
async def fake(tmp_path, monkeypatch):
    monkeypatch.setenv("READ", "read-5ecret-canary")
    monkeypatch.setenv("ACTS", "acts-5ecret-canary")
    async with Server() as it:
        it.graphite = opened(
            ADAPTER, tmp_path, Hand(2000.0), url=it.url, user="ann", token="env:READ", token_acts="env:ACTS"
        )
        yield it
        await it.graphite.close()


@pytest.mark.parametrize(
    "body",
    [
        b"<html>log in</html>",
        b"",
        b"null",
        b"{}",
        b'[{"target": 1}]',
        b'[{"target": "x", "datapoints": []}]',
        b"[[NaN",
        b'[{"target": "andon value", "datapoints": [[1, "x"]]}]',
        b'[{"target": "andon value", "datapoints": [1]}]',
    ],
)
async def test_an_answer_of_another_shape_is_garbled(fake, body):
    fake.reply = answer(body)
    with pytest.raises(Garbled, match=r"shop: "):
        await ask(fake.graphite, SUM.format("x"), 1020, 1140, now=0)


async def test_points_that_are_no_buckets_are_refused(fake):
    points = '"datapoints": [[1, 1020], [1, 1050], [1, 1080]]'
    fake.reply = answer(f'[{{"target": "andon value", {points}}}, {{"target": "andon whole", {points}}}]'.encode())
    with pytest.raises(Garbled, match=r"00:17:30 is not the beginning of a bucket of 60 s"):
        await ask(fake.graphite, SUM.format("x"), 1020, 1140, now=0)


async def test_one_bad_point_is_partial(fake):
    points = '"datapoints": [[{}, 1020], [1, 1080]]'
    value, whole = points.format('"many"'), points.format(1)
    fake.reply = answer(f'[{{"target": "andon value", {value}}}, {{"target": "andon whole", {whole}}}]'.encode())
    assert (await ask(fake.graphite, SUM.format("x"), 1020, 1140, now=0))[:2] == ("partial", [(1080, 1, None)])


async def test_reads_and_marks_have_credentials_of_their_own(fake):
    fake.reply = answer(b"[]")
    await ask(fake.graphite, SUM.format("x"), 1020, 1140, now=0)
    assert b": Basic YW5uOnJlYWQtNWVjcmV0LWNhbmFyeQ==\r" in fake.heads[-1]
    assert b"&from=1019&until=1139&format=json&noCache=1 " in fake.heads[-1]
    fake.reply = answer(b"", kind="text/html")
    assert isinstance(await fake.graphite.tell(Note("shop", "t", "x", key="k")), Accepted)
    assert b": Basic YW5uOmFjdHMtNWVjcmV0LWNhbmFyeQ==\r" in fake.heads[-1]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (answer(b"no", 403), Refused),
        (answer(b"no", 400), Refused),
        (answer(b"no", 500), NoAnswer),
        (answer(b"<html>log in</html>", 200, "text/html"), NoAnswer),
        (answer(b"no", 429, Retry_After="9"), Unreachable),
    ],
)
async def test_a_mark_that_is_not_made_is_told(fake, reply, kind):
    fake.reply = reply
    assert isinstance(await fake.graphite.tell(Note("shop", "t", "x", key="k")), kind)


async def test_what_may_not_read_is_denied(fake):
    fake.reply = answer(b"no", 401)
    with pytest.raises(Denied, match=r"env:READ"):
        await fake.graphite.whoami()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "http://graphite.example", "token": "env:X"}, "plaintext"),
        ({"url": "http://127.0.0.1", "user": "ann"}, "token"),
    ],
)
def test_a_connection_that_cannot_be_is_refused_with_words(tmp_path, options, words):
    with pytest.raises(ValueError, match=r"shop: ") as caught:
        opened(ADAPTER, tmp_path, **options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("summarize(a.b,'$every','sum')", {"a.b": "$every"}),
        (
            'sumSeries(summarize(a.{b,c}.d, "30s"), hitcount(scale(e,2), "$every"))',
            {"a.{b,c}.d": "30s", "scale(e,2)": "$every"},
        ),
        ("summarize(summarize(a,'10s'),'$every')", {"summarize(a,'10s')": "$every", "a": "10s"}),
        ("alias(a,'summarize(b)')", {}),
        ("a.summarize(b)", {}),
        ("", {}),
    ],
)
def test_what_is_gathered_is_found(target, found):
    assert gathered(target) == found


@pytest.mark.parametrize("target", ["a(", "a)", "a)(", "a('", "a('\")", "a(b(c)"])
def test_what_does_not_close_is_found(target):
    assert not closes(target)
    assert closes("a('(',b(\"')\"))")
