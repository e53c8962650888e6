"""The shared HTTP client against servers that misbehave: raw sockets, because no proper server does what these do."""

import asyncio
import base64
import contextlib
import gzip
import ssl
import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path

import httpx_sse  # noqa: F401  # loaded before the first deadline begins
import msgspec
import pytest

from adapters._http import Limited, Reply, Web
from adapters._http_budget import wanted_wait_s
from andon.ports import Denied, Garbled, NoAnswer, Refused, Unreachable
from andon.secret import Secret

TOKEN = "tok-5ecret-canary-93"
ACTS = "acts-5ecret-canary-71"
ROOT = Path(__file__).parents[2]
HOSTILE = "[/] \x1b]0;x\x07 \u202e[red]" + "x" * 3000
OK = b"HTTP/1.1 200 OK\r\n"


class Hand:
    """A clock that a test sets."""

    def __init__(self, now=1_700_000_000.0):
        self.at = now

    def now(self):
        return self.at

    async def sleep(self, seconds):
        self.at += seconds

    def real(self, seconds):
        return seconds


class Server:
    """Answers each request with what `reply` gives: bytes, or a coroutine function that writes them itself."""

    def __init__(self):
        self.reply = answer(b"{}")
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                length = next((int(x[15:]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:")), 0)
                self.bodies.append(await reader.readexactly(length))
                reply = self.reply(head) if callable(self.reply) else self.reply
                if isinstance(reply, bytes):
                    writer.write(reply)
                    await writer.drain()
                else:
                    await reply(writer)
                    break
        with contextlib.suppress(OSError, asyncio.CancelledError):
            writer.close()


def answer(body=b"", status=200, kind="application/json", **headers):
    lines = [f"HTTP/1.1 {status} x", f"Content-Length: {len(body)}"]
    lines += [f"Content-Type: {kind}"] if kind else []
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def writes(*parts, pause=0.0):
    """A reply that writes each part, and hangs up."""

    async def reply(writer):
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)

    return lambda _: reply


def trickles(start):
    """A reply that never ends: one byte after another."""

    async def reply(writer):
        writer.write(start)
        while True:
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(0.05)

    return lambda _: reply


@pytest.fixture
def clock():
    return Hand()


@pytest.fixture
async def server():
    async with Server() as it:
        yield it


@pytest.fixture
async def web(server, clock, monkeypatch):
    monkeypatch.setenv("T_READ", TOKEN)
    monkeypatch.setenv("T_ACTS", ACTS)
    it = Web(
        server.url,
        name="shop-ci",
        clock=clock,
        token=Secret("env:T_READ"),
        token_acts=Secret("env:T_ACTS"),
        read_limit_s=0.8,
        act_limit_s=1.0,
    )
    yield it
    await it.close()


async def raised(kind, call):
    with pytest.raises(kind) as caught:
        await call
    text = str(caught.value)
    seen = caught.value
    while seen is not None:
        assert TOKEN not in str(seen)
        assert ACTS not in str(seen)
        seen = seen.__cause__
    assert "shop-ci" in text
    assert text.isprintable()
    assert len(text) < 700
    return text


# what is sent


async def test_reads_carry_the_token_and_acts_the_token_for_acts(web, server):
    assert await web.get_json("/a b", params={"q": "ü&x"}) == {}
    assert isinstance(await web.act("POST", "/do", json={"x": 1}), Reply)
    read, act = server.heads
    assert read.startswith(b"GET /a%20b?q=%C3%BC%26x HTTP/1.1\r\n")
    assert f"Authorization: Bearer {TOKEN}\r\n".encode() in read
    assert f"Authorization: Bearer {ACTS}\r\n".encode() in act
    assert TOKEN.encode() not in act
    assert server.bodies[1] == b'{"x":1}'
    assert b"Accept-Encoding: identity\r\n" in read
    assert b"User-Agent: andon/" in read
    assert b"\r\nCookie:" not in read
    assert server.connections == 1  # a warm one


async def test_without_a_token_for_acts_an_act_is_refused_and_nothing_is_sent(server, clock):
    web = Web(server.url, name="shop-ci", clock=clock, token=Secret("env:T_READ"))
    found = await web.act("POST", "/do")
    assert isinstance(found, Refused)
    assert "token_acts" in found.words
    assert not server.heads


async def test_a_server_that_needs_no_credential_is_read_and_acted_upon_without(server, clock):
    web = Web(server.url, name="shop-ci", clock=clock)
    await web.get_json("/")
    assert isinstance(await web.act("POST", "/do"), Reply)
    assert not any(b"uthorization" in head for head in server.heads)
    await web.close()


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"header": "PRIVATE-TOKEN", "scheme": ""}, f"PRIVATE-TOKEN: {TOKEN}\r\n"),
        ({"scheme": "Token"}, f"Authorization: Token {TOKEN}\r\n"),
        ({"user": "ann"}, f"Authorization: Basic {base64.b64encode(f'ann:{TOKEN}'.encode()).decode()}\r\n"),
    ],
)
async def test_the_credential_is_sent_in_the_form_the_vendor_wants(server, clock, monkeypatch, given, sent):
    monkeypatch.setenv("T_READ", TOKEN)
    web = Web(server.url, name="shop-ci", clock=clock, token=Secret("env:T_READ"), **given)
    await web.get_json("/")
    assert sent.encode() in server.heads[0]
    await web.close()


async def test_a_changed_secret_is_used_at_once_and_a_missing_one_is_denied_by_name(web, server, monkeypatch):
    await web.get_json("/")
    monkeypatch.setenv("T_READ", "another-one")
    await web.get_json("/")
    assert b"Bearer another-one" in server.heads[1]
    monkeypatch.delenv("T_READ")
    assert "env:T_READ" in await raised(Denied, web.get_json("/"))
    monkeypatch.delenv("T_ACTS")
    found = await web.act("POST", "/do")
    assert isinstance(found, Unreachable)  # nothing left: it may be sent again
    assert "env:T_ACTS" in str(found)
    assert len(server.heads) == 2


@pytest.mark.parametrize("value", ["tok-5ecret-cänary", " tok-5ecret-canary-93", "tok-5ecret-canary-93 "])
async def test_a_secret_that_no_header_can_carry_is_denied_without_showing_it(web, server, monkeypatch, value):
    monkeypatch.setenv("T_READ", value)
    text = await raised(Denied, web.get_json("/"))
    assert "5ecret" not in text
    assert not server.heads


async def test_proxies_of_the_environment_are_not_used(web, server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert await web.get_json("/") == {}


async def test_cookies_are_not_kept(web, server):
    server.reply = answer(b"{}", Set_Cookie="session=abc; Path=/")
    await web.get_json("/")
    await web.get_json("/")
    assert b"session" not in server.heads[1]


# where it is sent


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
async def test_a_redirect_to_another_origin_carries_nothing_there(web, server, status):
    async with Server() as other:
        server.reply = answer(b"", status, Location=f"http://127.0.0.1:{other.port}/[31m")
        if status != 300:
            assert "redirects to 127.0.0.1" in await raised(Garbled, web.get_json("/"))
        found = await web.act("POST", "/do", json={})
        assert isinstance(found, Refused if status in (301, 307, 308) else NoAnswer)
        with pytest.raises(Garbled):
            async with web.stream_events("/events"):
                pass
        assert other.connections == 0


@pytest.mark.parametrize(
    "where",
    [
        "http://127.0.0.1:1/x",
        "https://127.0.0.1:{port}/x",
        "http://localhost:{port}/x",
        "http://127.0.0.1:{port}@evil.example/x",
        "http://ann@127.0.0.1:{port}/x",
        "http://127.0.0.1:{port}\\@evil.example/x",
        "//evil.example/x",
        "http://[::1/x",
        "http://127.0.0.1:99999/x",
        "/a/../../x",
        "/a/%2e%2e/x",
    ],
)
async def test_an_address_of_another_origin_is_not_asked(web, server, where):
    await raised(Garbled, web.get_json(where.format(port=server.port)))
    assert isinstance(await web.act("POST", where.format(port=server.port)), Unreachable)
    assert server.connections == 0


async def test_an_absolute_address_of_the_same_origin_is_asked_as_a_next_page(server, clock):
    web = Web(f"{server.url}/ci/", name="shop-ci", clock=clock)
    await web.get_json("jobs")
    await web.get_json(f"{server.url}/ci/jobs?page=2", params={"n": 1})
    await web.get_json("/\\evil.example/ x")
    asked = [head.split(b" ")[1] for head in server.heads]
    assert asked == [b"/ci/jobs", b"/ci/jobs?page=2&n=1", b"/ci/%5Cevil.example/%20x"]
    await web.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://ci.example", "plaintext"),
        ("http://127.0.0.1.evil.example", "plaintext"),
        ("http://2130706433", "plaintext"),
        ("http://[::2]", "plaintext"),
        ("ftp://ci.example", "https://"),
        ("ci.example:8080", "https://"),
        ("https://", "https://"),
        ("https://ann:pw@ci.example", "token"),
        ("https://ci.example?x=1", "follow"),
        ("https://ci.example:99999", "port"),
        ("https://ci.example\\@evil", "printable"),
        ("https://ci.exa mple", "printable"),
        ("https://cı.example", "printable"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_with_what_to_do(clock, url, words):
    with pytest.raises(ValueError, match="shop-ci: url") as caught:
        Web(url, name="shop-ci", clock=clock, token=Secret("env:X"))
    assert words in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1", "http://localhost:80", "http://[::1]:8080", "https://ci.example"])
def test_a_credential_may_go_to_this_machine_or_encrypted(clock, url):
    assert not Web(url, name="x", clock=clock, token=Secret("env:X")).address.in_the_clear


def test_a_credential_in_the_clear_is_allowed_by_name_and_known(clock):
    assert Web("http://ci.example", name="x", clock=clock, token=Secret("env:X"), plaintext=True).address.in_the_clear
    assert not Web("http://ci.example", name="x", clock=clock, plaintext=True).address.in_the_clear


# limits of time and size


@pytest.mark.parametrize(
    "start",
    [
        b"",
        OK + b"X-Slow: ",
        OK + b"Content-Length: 100000\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 403 no\r\n\r\n",
    ],
    ids=["nothing", "header", "body", "chunk", "error"],
)
async def test_a_trickling_server_does_not_outlast_the_deadline(web, server, start):
    server.reply = trickles(start)
    began = time.monotonic()
    _, found = await asyncio.gather(raised(Unreachable, web.get_json("/")), web.act("POST", "/do"))
    assert time.monotonic() - began < 1.5
    assert isinstance(found, NoAnswer)
    assert "may have been done" in found.words


async def test_a_silent_server_is_unreachable_for_a_read_and_no_answer_for_an_act(web, server):
    server.reply = trickles(b"")
    text, found = await asyncio.gather(raised(Unreachable, web.get_json("/")), web.act("POST", "/do"))
    assert "no answer in 0.8 s" in text
    assert isinstance(found, NoAnswer)


async def test_a_packed_answer_is_refused_unopened(web, server):
    bomb = gzip.compress(b"[" + b"0," * 20_000_000 + b"0]")
    server.reply = answer(bomb, Content_Encoding="gzip")
    assert "packed (gzip)" in await raised(Garbled, web.get_json("/"))
    assert isinstance(await web.act("POST", "/do"), NoAnswer)
    server.reply = answer(bomb, 500, Content_Encoding="gzip")
    await raised(Garbled, web.get_json("/"))


async def test_a_body_without_end_stops_at_the_limit(web, server):
    seen = 0

    async def reply(writer):
        nonlocal seen
        writer.write(OK + b"\r\n")
        for _ in range(64):
            writer.write(b"x" * 2**20)
            await writer.drain()
            seen += 1

    server.reply = lambda _: reply
    assert "8 MiB" in await raised(Garbled, web.get_text("/"))
    assert seen < 32


async def test_headers_without_end_are_garbled(web, server):
    server.reply = OK + b"X-A: %b\r\nContent-Length: 2\r\n\r\n{}" % (b"x" * 70_000)
    assert "headers" in await raised(Garbled, web.get_json("/"))
    server.reply = OK + b"X-A: %b" % (b"x" * 300_000)
    await raised(Garbled, web.get_json("/"))


# what comes back


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (b'{"a": NaN}', "application/json", "not JSON"),
        (b"[Infinity]", "application/json", "not JSON"),
        (b"[1e999]", "application/json", "range"),
        (b'{"a": [1, 2', "application/json", "not JSON"),
        (b"[" * 100_000, "application/json", "deep"),
        (b"\xff\xfe", "application/json", "not JSON"),
        (b"", "application/json", "empty"),
        (b"<html>Log in</html>", "text/html; charset=utf-8", "web page"),
        (b"  <!doctype html>", "application/json", "web page"),
    ],
)
async def test_what_is_not_json_is_garbled(web, server, body, kind, words):
    server.reply = answer(body, kind=kind)
    assert words in await raised(Garbled, web.get_json("/"))
    if words != "empty":
        assert isinstance(await web.act("POST", "/do", type=dict), NoAnswer)


async def test_json_of_another_shape_is_garbled_and_of_the_right_one_decoded(web, server):
    class Job(msgspec.Struct):
        id: int

    server.reply = answer(b'[{"id": 1, "more": true}]')
    assert await web.get_json("/", type=list[Job]) == [Job(1)]
    server.reply = answer(b'[{"id": "1"}]')
    assert "Expected `int`" in await raised(Garbled, web.get_json("/", type=list[Job]))


@pytest.mark.parametrize(
    "parts",
    [
        [OK + b"Content-Length: 50\r\n\r\n[1, 2"],
        [OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n[1, 2\r\n"],
        [b"SSH-2.0-OpenSSH_9.2\r\n\r\n"],
    ],
    ids=["length", "chunk", "not HTTP"],
)
async def test_a_cut_or_foreign_answer_is_garbled(web, server, parts):
    server.reply = writes(*parts)
    await raised(Garbled, web.get_json("/"))
    assert isinstance(await web.act("POST", "/do"), NoAnswer)


async def test_a_server_that_hangs_up_is_unreachable_for_a_read_and_no_answer_for_an_act(web, server):
    server.reply = writes()
    assert "hung up" in await raised(Unreachable, web.get_json("/"))
    found = await web.act("POST", "/do")
    assert isinstance(found, NoAnswer)
    assert server.heads[1].startswith(b"POST /do")


async def test_where_nobody_listens_nothing_left(clock):
    web = Web("http://127.0.0.1:1", name="shop-ci", clock=clock)
    assert "refused" in await raised(Unreachable, web.get_json("/"))
    found = await web.act("POST", "/do")
    assert isinstance(found, Unreachable)
    assert "refused" in str(found)


async def test_a_name_that_does_not_resolve_is_unreachable(clock):
    web = Web("http://no-such-host.invalid", name="shop-ci", clock=clock)
    await raised(Unreachable, web.get_json("/"))
    assert isinstance(await web.act("POST", "/do"), Unreachable)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_credential_that_may_not_is_denied_naming_what_opens(web, server, clock, status):
    server.reply = answer(b'{"message": "Bad credentials"}', status)
    text = await raised(Denied, web.get_json("/"))
    assert "Bad credentials" in text
    assert "env:T_READ" in text
    found = await web.act("POST", "/do")
    assert isinstance(found, Refused)
    assert "env:T_ACTS" in found.words
    bare = Web(server.url, name="shop-ci", clock=clock)
    assert "set `token:`" in await raised(Denied, bare.get_json("/"))
    await bare.close()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": {"message": "no such builder"}}', "no such builder"),
        (b'{"errors": ["no such builder"]}', "no such builder"),
        (b'{"status":"error","errorType":"bad_data","error":"parse error"}', "parse error"),
        (b"no such\r\n builder", "no such builder"),
        (b"<html>nginx</html>", "a web page"),
        (b'{"error": 7}', "answered 404"),
        (b"", "answered 404"),
        (b"[" * 100_000, "answered 404"),
    ],
)
async def test_the_servers_words_are_told(web, server, body, words):
    server.reply = answer(body, 404)
    text = await raised(Garbled, web.get_json("/"))
    assert words in text
    assert "404" in text
    found = await web.act("POST", "/do")
    assert isinstance(found, Refused)
    assert words in found.words


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
async def test_hostile_words_and_an_echoed_secret_are_harmless(web, server, status):
    server.reply = lambda head: answer(msgspec.json.encode({"error": f"{head.decode()[-120:]} {HOSTILE}"}), status)
    kind = {401: Denied, 429: Limited}.get(status, Garbled)
    text = await raised(kind, web.get_json("/"))
    assert "***" in text
    assert "\x1b" not in text
    found = await web.act("POST", "/do")
    words = getattr(found, "words", None) or str(found)
    assert ACTS not in words
    assert words.isprintable()


async def test_an_error_of_the_server_is_garbled_for_a_read_and_no_answer_for_an_act(web, server):
    for status in (500, 502, 503):
        server.reply = answer(b"oops", status, kind="text/plain")
        assert "oops" in await raised(Garbled, web.get_json("/"))
        assert isinstance(await web.act("POST", "/do"), NoAnswer)


async def test_an_act_may_ask_for_a_status_to_be_given_back(web, server):
    server.reply = answer(b'{"current": "7"}', 409)
    found = await web.act("PUT", "/release", json={}, also=(409,))
    assert isinstance(found, Reply)
    assert found.json() == {"current": "7"}
    server.reply = answer(b"", 204, kind="")
    assert (await web.act("DELETE", "/x")).status == 204
    server.reply = answer(b'{"id": 3}', 201)
    assert (await web.act("POST", "/x", type=dict)).json() == {"id": 3}


# how often


async def test_after_429_no_read_is_sent_before_the_stated_time_but_an_act_is(web, server, clock):
    server.reply = answer(b"", 429, Retry_After="30")
    with pytest.raises(Limited) as caught:
        await web.get_json("/")
    assert caught.value.retry_after_s == 30
    clock.at += 29
    with pytest.raises(Limited) as caught:
        await web.get_json("/")
    assert caught.value.retry_after_s == pytest.approx(1)
    with pytest.raises(Limited):
        async with web.stream_events("/"):
            pass
    assert len(server.heads) == 1
    server.reply = answer(b"{}")
    assert isinstance(await web.act("POST", "/halt"), Reply)
    assert len(server.heads) == 2
    clock.at += 1.1
    assert await web.get_json("/") == {}


async def test_an_act_that_is_limited_may_be_sent_again(web, server):
    server.reply = answer(b"slow down", 429, Retry_After="5", kind="text/plain")
    found = await web.act("POST", "/do")
    assert isinstance(found, Limited)
    assert found.retry_after_s == 5
    server.reply = answer(b"", 503, Retry_After="5")
    assert isinstance(await web.act("POST", "/do"), NoAnswer)


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("0", 1),
        ("17", 17),
        (" 17 ", 17),
        ("999999", 3600),
        ("9" * 400, 3600),
        ("-5", 60),
        ("soon", 60),
        ("\x1b[31m", 60),
        ("", 60),
        ("1.5", 60),
        (formatdate(1_700_000_090, usegmt=True), 90),
        (formatdate(1_600_000_000, usegmt=True), 1),
        ("Fri, 99 Zed 99999 99:99:99 GMT", 60),
    ],
)
def test_every_form_of_retry_after_is_a_sane_wait(text, wait_s):
    assert wanted_wait_s(429, {"retry-after": text}, 1_700_000_000.0) == wait_s


def test_a_date_is_counted_by_the_clock_of_the_server_that_gave_it():
    headers = {"retry-after": formatdate(5090, usegmt=True), "date": formatdate(5000, usegmt=True)}
    assert wanted_wait_s(429, headers, 1_700_000_000.0) == 90


async def test_503_and_403_limit_only_with_retry_after(web, server):
    for status in (403, 503):
        server.reply = answer(b"", status, Retry_After="1")
        with pytest.raises(Limited):
            await web.get_json("/")
        web._budget._quiet_until = 0


async def test_the_budget_stops_reads_without_a_request_and_never_an_act(server, clock):
    web = Web(server.url, name="shop-ci", clock=clock, per_minute=20)
    for _ in range(18):
        await web.get_json("/")
    with pytest.raises(Limited) as caught:
        await web.get_json("/")
    assert 0 < caught.value.retry_after_s <= 3
    assert len(server.heads) == 18
    for _ in range(5):
        assert isinstance(await web.act("POST", "/halt"), Reply)
    clock.at += 30
    for _ in range(8):
        await web.get_json("/")
    with pytest.raises(Limited):
        await web.get_json("/")
    await web.close()


async def test_an_act_does_not_wait_behind_reads_that_hang(web, server):
    def reply(head):
        return answer(b"{}") if head.startswith(b"POST") else trickles(b"")(head)

    server.reply = reply
    reads = [asyncio.create_task(web.get_json(f"/{n}")) for n in range(20)]
    while len(server.heads) < 6:
        await asyncio.sleep(0)
    began = time.monotonic()
    assert isinstance(await web.act("POST", "/halt"), Reply)
    assert time.monotonic() - began < 0.3
    assert len(server.heads) == 7  # the other reads wait their turn
    assert all(isinstance(x, Unreachable) for x in await asyncio.gather(*reads, return_exceptions=True))


# asked again


async def test_an_answer_with_an_etag_is_asked_for_conditionally(web, server):
    server.reply = answer(b"[1]", ETag='"v1"')
    assert await web.get_json("/x") == [1]
    server.reply = b'HTTP/1.1 304 x\r\nETag: "v1"\r\n\r\n'
    assert await web.get_json("/x") == [1]
    assert b'If-None-Match: "v1"\r\n' in server.heads[1]
    assert await raised(Garbled, web.get_json("/x", params={"page": 2}))  # a 304 that nobody asked for
    assert b"If-None-Match" not in server.heads[2]
    server.reply = answer(b"[2]")
    assert await web.get_json("/x") == [2]
    await web.get_json("/x")
    assert b"If-None-Match" not in server.heads[4]


async def test_what_is_kept_for_that_is_bounded(web, server):
    server.reply = answer(b"[1]", ETag='"v1"')
    for n in range(70):
        await web.get_json(f"/{n}")
    assert len(web._kept) == 64
    server.reply = answer(b'"' + b"x" * 300_000 + b'"', ETag='"v1"')
    await web.get_json("/69")
    assert len(web._kept) == 63


# streams

STREAM = OK + b"Content-Type: text/event-stream\r\n\r\n"


async def test_events_come_as_they_are_sent_with_hostile_text_intact(web, server):
    data = msgspec.json.encode({"title": "[/] \u2028\x0b\u202e"})
    server.reply = writes(
        STREAM + b": hello\n\nevent: new\nda", b"ta: " + data + b"\r\n\r", b"\ndata: 2\n\n", pause=0.02
    )
    async with web.stream_events("/sse") as events:
        first = await events.next(1)
        assert first.name == "new"
        assert first.json() == {"title": "[/] \u2028\x0b\u202e"}
        assert (await anext(events)).data == "2"
        assert "ended" in await raised(Unreachable, anext(events))
    assert f"Bearer {TOKEN}".encode() in server.heads[0]
    assert b"Accept: text/event-stream" in server.heads[0]


async def test_waiting_for_an_event_can_be_interrupted_and_gone_on_with(web, server):
    go = asyncio.Event()

    async def reply(writer):
        writer.write(STREAM)
        await go.wait()
        writer.write(b"data: x\n\n")
        await asyncio.sleep(5)

    server.reply = lambda _: reply
    async with web.stream_events("/sse") as events:
        assert await events.next(0.05) is None
        go.set()
        assert (await events.next(1)).data == "x"
        assert await events.next(0.05) is None


async def test_a_stream_outlives_the_deadline_of_a_read_but_not_silence(web, server):
    async def reply(writer):
        writer.write(STREAM)
        for _ in range(9):
            writer.write(b": alive\n\n")
            await writer.drain()
            await asyncio.sleep(0.1)
        await asyncio.sleep(5)

    server.reply = lambda _: reply
    began = time.monotonic()
    async with web.stream_events("/sse", quiet_s=0.3) as events:
        assert "nothing was heard for 0.3 s" in await raised(Unreachable, anext(events))
    assert 0.9 < time.monotonic() - began < 2


async def test_an_event_without_end_is_garbled(web, server):
    server.reply = writes(STREAM, *[b"data: " + b"x" * 100_000 + b"\n"] * 30)
    async with web.stream_events("/sse") as events:
        assert "1 MiB" in await raised(Garbled, anext(events))
    server.reply = writes(STREAM, *[b"data: " + b"x" * 100_000 + b"\n\n"] * 30)
    async with web.stream_events("/sse") as events:
        for _ in range(30):
            assert len((await anext(events)).data) == 100_000


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (answer(b"no", 401), Denied),
        (answer(b"no", 404), Garbled),
        (answer(b"<html>", kind="text/html"), Garbled),
        (trickles(OK), Unreachable),
        (writes(), Unreachable),
        (writes(STREAM + b"data: x"), Unreachable),
        (writes(OK + b"Content-Type: text/event-stream\r\nContent-Encoding: gzip\r\n\r\nx"), Garbled),
        (writes(OK + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nda"), Garbled),
    ],
)
async def test_a_stream_that_does_not_start_or_breaks_is_told_as_a_read(web, server, reply, kind):
    server.reply = reply

    async def listen():
        async with web.stream_events("/sse") as events:
            await anext(events)

    await raised(kind, listen())


# the rest


async def test_a_certificate_nobody_vouches_for_is_refused_and_says_what_to_do(clock, tmp_path, monkeypatch):
    monkeypatch.setenv("T_READ", TOKEN)
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2"]
    subprocess.run(
        [*command, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    seen = []

    async def serve(reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            seen.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer(b"[1]"))
            await reader.read()
        writer.close()

    tls = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    url = f"https://localhost:{tls.sockets[0].getsockname()[1]}"
    wrong = url.replace("localhost", "127.0.0.1")
    token = Secret("env:T_READ")
    assert "ca_file" in await raised(Unreachable, Web(url, name="shop-ci", clock=clock, token=token).get_json("/"))
    named = Web(wrong, name="shop-ci", clock=clock, token=token, ca_file=str(cert))
    assert "not trusted" in await raised(Unreachable, named.get_json("/"))
    assert not seen
    trusted = Web(url, name="shop-ci", clock=clock, token=token, ca_file=str(cert))
    assert await trusted.get_json("/") == [1]
    await trusted.close()
    missing = Web(url, name="shop-ci", clock=clock, ca_file=str(tmp_path / "none.pem"))
    with pytest.raises(Denied, match="No such file"):
        await missing.get_json("/")
    tls.close()


async def test_cancelling_a_call_passes(web, server):
    server.reply = trickles(b"")
    for call in (web.get_json("/"), web.act("POST", "/do")):
        task = asyncio.create_task(call)
        sent = len(server.heads)
        while len(server.heads) == sent:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def test_importing_it_imports_no_http_library():
    code = """if True:
        import sys
        from adapters._http import Web
        from andon.clock import WallClock
        Web("https://x", name="x", clock=WallClock())
        heavy = {"httpx", "httpcore", "httpx_sse", "anyio", "http.client"}
        sys.exit(" ".join(heavy & set(sys.modules)) or 0)
    """
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
