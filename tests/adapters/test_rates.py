"""How often a server is asked: never before the time it states, never in a storm, and an act is always possible."""

import asyncio
import contextlib
import threading
import time
from email.utils import formatdate

import pytest

from adapters import _http_budget
from adapters._http import Limited, Reply, Web
from andon import feed
from andon.ports import Accepted, Denied, Garbled, NoAnswer, Unreachable
from andon.secret import Secret
from tests.adapters import sources
from tests.adapters.test_http_client import Hand, Server, answer
from tests.fault_proxy import FaultProxy, hang, json, none, says
from tests.helpers import until

NOW = 1_700_000_000.0
LIMIT_S = 30.0


def http_date(seconds):
    return formatdate(NOW + seconds, usegmt=True)


def asc_date(seconds):
    return time.asctime(time.gmtime(NOW + seconds))


FORMS = [
    (429, {"Retry-After": "30"}, 30),
    (429, {"Retry-After": "0"}, 1),
    (429, {"Retry-After": "-5"}, 60),
    (429, {"Retry-After": "soon"}, 60),
    (429, {"Retry-After": "1.5"}, 60),
    (429, {"Retry-After": "30, 40"}, 60),
    (429, {"Retry-After": ""}, 60),
    (429, {}, 60),
    (429, {"Retry-After": "999999"}, 3600),
    (429, {"Retry-After": "9" * 400}, 3600),
    (429, {"Retry-After": http_date(90)}, 90),
    (429, {"Retry-After": http_date(-90)}, 1),
    (429, {"Retry-After": asc_date(90)}, 90),
    (429, {"Retry-After": time.strftime("%A, %d-%b-%y %H:%M:%S GMT", time.gmtime(NOW + 90))}, 90),
    (429, {"Retry-After": http_date(5090), "Date": http_date(5000)}, 90),
    (429, {"Retry-After": http_date(90), "Date": "now"}, 90),
    (429, {"Retry-After": http_date(10**6)}, 3600),
    (429, {"Retry-After": "Fri, 99 Zed 99999 99:99:99 GMT"}, 60),
    (429, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(NOW) + 120)}, 120),
    (429, {"RateLimit-Remaining": "0", "RateLimit-Reset": "45"}, 45),
    (429, {"Retry-After": "soon", "X-Rate-Limit-Remaining": "0", "X-Rate-Limit-Reset": "45"}, 45),
    (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Limit": "60", "X-RateLimit-Reset": str(int(NOW) + 120)}, 120),
    (403, {"Retry-After": "15"}, 15),
    (503, {"Retry-After": "20"}, 20),
    (200, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(NOW) + 50)}, 50),
    (200, {"X-RateLimit-Remaining": "500", "X-RateLimit-Limit": "5000", "X-RateLimit-Reset": str(int(NOW) + 50)}, 50),
    (200, {"RateLimit-Remaining": "-3", "RateLimit-Reset": "-9"}, 1),
    (200, {"RateLimit-Remaining": "0", "RateLimit-Reset": "\xffnever"}, 60),
    (200, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(NOW) + 5050), "Date": http_date(5000)}, 50),
    (200, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9" * 400}, 60),
]
"""How a server says that it wants to be left alone, and for how many seconds."""


def said(status, headers):
    return answer(b"{}", status, **{name.replace("-", "_"): value for name, value in headers.items()})


@pytest.fixture
async def server():
    async with Server() as it:
        yield it


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()  # what names no zone is not ours
    yield Hand(NOW)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


async def asked(web):
    with contextlib.suppress(Limited):
        await web.get_json("/")


@pytest.mark.parametrize(("status", "headers", "wait_s"), FORMS)
async def test_no_read_leaves_before_the_stated_time_and_an_act_always(server, clock, status, headers, wait_s):
    web = Web(server.url, name="shop-ci", clock=clock)
    server.reply = said(status, headers)
    await asked(web)
    server.reply = answer(b"{}")
    for elapsed in (0.0, wait_s / 2, wait_s - 0.1):
        clock.at = NOW + elapsed
        with pytest.raises(Limited) as caught:
            await web.get_json("/")
        assert caught.value.retry_after_s == pytest.approx(wait_s - elapsed, abs=0.01)
    assert len(server.heads) == 1
    assert isinstance(await web.act("POST", "/halt"), Reply)
    assert await web.get_json("/", for_act=True) == {}
    assert len(server.heads) == 3
    clock.at = NOW + wait_s + 0.1
    assert await web.get_json("/") == {}
    await web.close()


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, {"X-RateLimit-Remaining": "501", "X-RateLimit-Limit": "5000", "X-RateLimit-Reset": "50"}),
        (200, {"X-RateLimit-Remaining": "none", "X-RateLimit-Reset": "50"}),
        (200, {"X-RateLimit-Limit": "0"}),
        (200, {"Retry-After": "50"}),
        (500, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "50"}),
        (403, {"X-RateLimit-Remaining": "4999", "X-RateLimit-Limit": "5000"}),
    ],
)
async def test_what_asks_for_no_rest_is_given_none(server, clock, status, headers):
    web = Web(server.url, name="shop-ci", clock=clock)
    server.reply = said(status, headers)
    for _ in range(2):
        with contextlib.suppress(Denied, Garbled):
            await web.get_json("/")
    assert len(server.heads) == 2
    await web.close()


async def test_an_answer_to_an_act_is_heeded_too(server, clock):
    web = Web(server.url, name="shop-ci", clock=clock)
    server.reply = said(200, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "50"})
    assert isinstance(await web.act("POST", "/halt"), Reply)
    with pytest.raises(Limited):
        await web.get_json("/")
    assert isinstance(await web.act("POST", "/halt"), Reply)
    await web.close()


async def test_a_clock_that_is_set_back_ends_no_reading_for_a_day(server, clock):
    web = Web(server.url, name="shop-ci", clock=clock)
    server.reply = answer(b"", 429, Retry_After="30")
    await asked(web)
    server.reply = answer(b"{}")
    clock.at -= 86400
    with pytest.raises(Limited) as caught:
        await web.get_json("/")
    assert caught.value.retry_after_s <= 3600
    clock.at += 3601
    assert await web.get_json("/") == {}
    await web.close()


async def test_what_a_server_wants_is_counted_in_real_seconds(server, clock):
    clock.real = lambda seconds: seconds * 50  # a drill at 50 times the speed
    web = Web(server.url, name="shop-ci", clock=clock, per_minute=60)
    server.reply = answer(b"", 429, Retry_After="30")
    await asked(web)
    clock.at += 29 * 50
    with pytest.raises(Limited) as caught:
        await web.get_json("/")
    assert caught.value.retry_after_s == pytest.approx(1)
    clock.at += 2 * 50
    server.reply = answer(b"{}")
    for _ in range(54):
        await web.get_json("/")
    with pytest.raises(Limited) as caught:
        await web.get_json("/")
    assert caught.value.retry_after_s == pytest.approx(1)
    await web.close()


async def test_without_heed_a_read_would_be_seen_to_leave_too_early(server, clock, monkeypatch):
    monkeypatch.setattr(_http_budget, "wanted_wait_s", lambda *_: None)
    web = Web(server.url, name="shop-ci", clock=clock)
    server.reply = answer(b"", 429, Retry_After="30")
    for _ in range(2):
        with contextlib.suppress(Garbled):
            await web.get_json("/")
    assert len(server.heads) == 2
    await web.close()


# an act is always possible


@pytest.fixture
def proxy():
    with FaultProxy(sources.route) as it:
        yield it


@pytest.fixture
async def ci(proxy, tmp_path):
    it = sources.pipeline(proxy.url, tmp_path, Hand(NOW), LIMIT_S)
    yield it
    proxy.fault = none
    await it.close()


async def test_a_stop_leaves_although_the_server_wants_no_reads(proxy, ci):
    proxy.fault = says(json(b"{}", b"429 x", more=b"Retry-After: 3000\r\n"))
    with pytest.raises(Limited):
        await ci.halted()
    proxy.fault = none
    proxy.forget()
    with pytest.raises(Limited):
        await ci.halted()
    assert not proxy.asked
    assert isinstance(await ci.halt(sources.HOLD), Accepted)
    assert len(proxy.lines("POST")) == 2
    assert isinstance(await ci.release(sources.HOLD, sources.MOVING), Accepted)
    assert isinstance(await ci.cancel("r2", sources.WHY), Accepted)
    assert len(proxy.lines("POST")) == 4


async def test_a_stop_that_may_not_look_says_when_it_may(proxy, ci):
    proxy.fault = says(json(b"{}", b"429 x", more=b"Retry-After: 7\r\n"))
    found = await ci.halt(sources.HOLD)
    assert isinstance(found, Limited)  # nothing was sent: it may be sent again
    assert found.retry_after_s == 7
    assert not proxy.lines("POST")


async def test_a_stop_does_not_wait_behind_reads_that_hang(proxy, ci, monkeypatch):
    monkeypatch.setattr("adapters._buildbot_master.FINISH_S", 0.1)
    proxy.fault, proxy.when = hang(), lambda request: b"/builds" in request
    reads = [asyncio.create_task(ci.log("r1", "1/0", 0)) for _ in range(20)]
    await until(lambda: len(proxy.lines("/logs")) >= 6)
    assert isinstance(await ci.halt(sources.HOLD), Accepted)
    assert not any(read.done() for read in reads)
    for read in reads:
        read.cancel()
    await asyncio.gather(*reads, return_exceptions=True)
    await ci.close()


@pytest.mark.parametrize("number", [2, 3])
async def test_a_worker_whose_pause_hangs_delays_no_other(proxy, ci, number):
    await ci.halted()
    proxy.fault, proxy.when = hang(), lambda request: b"POST /api/v2/workers/%d " % number in request
    halting = asyncio.create_task(ci.halt(sources.HOLD))
    await until(lambda: len(proxy.lines("POST")) == 2)
    assert not halting.done()
    ci.master.web.act_limit_s = 0.1
    assert isinstance(await ci.halt(sources.HOLD), (NoAnswer, Unreachable))
    halting.cancel()
    await asyncio.gather(halting, return_exceptions=True)


async def test_a_secret_that_does_not_open_delays_no_other_connection(server, monkeypatch):
    over = threading.Event()

    class Locked(Secret):
        def open(self):
            over.wait(60)
            return "late"

    monkeypatch.setenv("T_ACTS", "acts")
    locked = Web(server.url, name="locked", clock=Hand(), token=Locked("keyring:andon/ann"), read_limit_s=60)
    other = Web(server.url, name="other", clock=Hand(), token_acts=Secret("env:T_ACTS"))
    reads = [asyncio.create_task(locked.get_json("/")) for _ in range(40)]
    try:
        async with asyncio.timeout(30):
            assert isinstance(await other.act("POST", "/halt"), Reply)
        assert not any(read.done() for read in reads)
    finally:
        over.set()
    assert await asyncio.gather(*reads) == [{}] * 40
    await locked.close()
    await other.close()


# no storm


class Virtual(Hand):
    """A clock that jumps to where somebody waits for."""

    async def sleep(self, seconds):
        self.at += seconds
        await asyncio.sleep(0)
        if self.at > NOW + 600:
            raise asyncio.CancelledError


async def ten_minutes(proxy, folder):
    """The requests that following builders makes in ten minutes."""
    clock = Virtual(NOW)
    ci = sources.pipeline(proxy.url, folder, clock, LIMIT_S)
    words = []

    async def on_state(word, _):
        words.append(word)

    async def on_fact(_):
        return

    proxy.forget()
    with contextlib.suppress(asyncio.CancelledError):
        await feed.follow(ci.watch, clock, 5.0, on_fact, on_state)
    await ci.close()
    return len(proxy.asked), set(words)


async def a_round(proxy, folder, monkeypatch):
    """The requests of one look at everything, when all is known already."""
    monkeypatch.setattr("adapters._buildbot_watch.EVERYTHING_S", 0.05)
    ci = sources.pipeline(proxy.url, folder, Hand(NOW), LIMIT_S)
    waits, stream = 0, ci.watch()
    async for item in stream:
        waits += isinstance(item, feed.Wait)
        if waits == 1:
            proxy.forget()
        if waits == 2:
            break
    await stream.aclose()
    await ci.close()
    monkeypatch.undo()
    return len(proxy.asked)


OUTAGES = {
    "all of it": lambda request: True,
    "its stream": lambda request: b"/sse/" in request,
    "its builders": lambda request: b"/builders" in request,
}


@pytest.mark.parametrize("what", OUTAGES)
@pytest.mark.parametrize("status", [b"500 x", b"502 x", b"429 x"])
async def test_a_server_that_fails_for_long_is_asked_no_more_than_usual(proxy, tmp_path, monkeypatch, what, status):
    usual = 20 * await a_round(proxy, tmp_path, monkeypatch)
    proxy.fault, proxy.when = says(json(b"{}", status)), OUTAGES[what]
    requests, words = await ten_minutes(proxy, tmp_path)
    assert words == {"gone" if status == b"429 x" else "error"}
    assert 0 < requests <= 1.2 * usual


async def test_without_patience_it_would_be_seen_to_be_a_storm(proxy, tmp_path, monkeypatch):
    usual = 20 * await a_round(proxy, tmp_path, monkeypatch)
    monkeypatch.setattr(feed.Patience, "next", lambda self, error: 2.0)
    proxy.fault = says(json(b"{}", b"500 x"))
    requests, _ = await ten_minutes(proxy, tmp_path)
    assert requests > 1.2 * usual


@pytest.mark.nightly
async def test_five_that_follow_a_server_that_fails_are_no_storm(proxy, tmp_path, monkeypatch):
    usual = 20 * await a_round(proxy, tmp_path, monkeypatch)
    proxy.fault = says(json(b"{}", b"503 x"))
    found = await asyncio.gather(*(ten_minutes(proxy, tmp_path) for _ in range(5)))
    assert sum(requests for requests, _ in found) <= 5 * 1.2 * usual


async def test_a_server_that_refuses_every_read_is_unreachable_only_for_that_time(server, clock):
    web = Web(server.url, name="shop-ci", clock=clock)
    server.reply = answer(b"", 429, Retry_After="5")
    for _ in range(3):
        with pytest.raises(Unreachable):
            await web.get_json("/")
        clock.at += 6
    assert len(server.heads) == 3
    await web.close()
