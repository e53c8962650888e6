"""Credentials stay with their origin: whatever a server answers and whatever its data name, nobody else is asked."""

import asyncio
import contextlib

import httpx
import pytest

from adapters._http import Web
from andon.ports import Denied, Garbled, NoAnswer, Refused, Unreachable
from andon.secret import Secret
from tests.adapters.test_http_client import Hand, Server, answer

TOKEN = "tok-5ecret-canary-93"

CODES = (200, 201, 300, 301, 302, 303, 307, 308)
FORMS = {
    "bearer": {},
    "basic": {"user": "ann"},
    "token": {"scheme": "Token"},
    "private-token": {"header": "PRIVATE-TOKEN", "scheme": ""},
    "api-key": {"header": "X-Api-Key", "scheme": ""},
    "cookie": {"header": "Cookie", "scheme": ""},
}
"""How a credential is sent."""

NEXT = ("location", "data")
"""Where the other address stands: in headers, or in the data, from where an adapter might take it."""


def pointing(status, url):
    """An answer that names another address in every way that there is."""
    link = f'<{url}>; rel="next", <{url}>; rel="canonical"'
    headers = {"Location": url, "Content_Location": url, "Link": link, "Refresh": f"0; url={url}"}
    headers |= {"Alt_Svc": f'h2="{url.partition("//")[2]}"', "Set_Cookie": "a=b; Domain=127.0.0.1; Path=/"}
    body = f'{{"next": "{url}", "links": {{"next": {{"href": "{url}"}}}}}}'.encode()
    return answer(body, status, WWW_Authenticate=f'Bearer realm="{url}"', **headers)


async def every_call(web, url):
    """Reads and acts, then what an adapter would do that trusted the address in the data."""
    for path in ("/", url):
        for read in (web.get_json, web.get_text, web.read):
            with contextlib.suppress(Garbled):
                await read(path)
        with contextlib.suppress(Garbled):
            async with web.stream_events(path):
                pass
        for method in ("POST", "PUT", "DELETE"):
            await web.act(method, path, json={"secret": TOKEN})


class Second(Server):
    """The other origin; it keeps every byte that anybody sends to it."""

    def __init__(self):
        super().__init__()
        self.bytes = b""

    async def _serve(self, reader, writer):
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.CancelledError):
            while part := await reader.read(4096):
                self.bytes += part
                writer.write(answer(b"{}"))
        writer.close()


@pytest.fixture
async def both():
    async with Server() as first, Second() as second:
        yield first, second


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("status", CODES)
@pytest.mark.parametrize("place", NEXT)
async def test_no_byte_of_a_credential_reaches_a_second_origin(both, monkeypatch, form, status, place):
    first, second = both
    monkeypatch.setenv("T", TOKEN)
    secret = Secret("env:T")
    web = Web(first.url, name="shop-ci", clock=Hand(), token=secret, token_acts=secret, **FORMS[form])
    url = second.url + ("/next?page=2" if place == "location" else "")
    first.reply = pointing(status, url)
    await every_call(web, url if place == "data" else "/next")
    assert len(first.heads) >= 7
    assert not any(TOKEN.encode() in head and b"Host: 127.0.0.1:%d" % first.port not in head for head in first.heads)
    assert second.connections == 0
    assert second.bytes == b""
    await web.close()


async def test_a_client_that_follows_would_be_seen_to_leak(both):
    first, second = both
    first.reply = pointing(307, second.url)
    async with httpx.AsyncClient(follow_redirects=True, headers={"X-Api-Key": TOKEN}, trust_env=False) as client:
        await client.post(first.url, json={"secret": TOKEN})
    assert second.bytes.count(TOKEN.encode()) == 2


async def test_what_a_redirect_means_for_an_act_is_told(both):
    first, second = both
    web = Web(first.url, name="shop-ci", clock=Hand())
    for status, kind in ((301, Refused), (302, NoAnswer), (303, NoAnswer), (307, Refused), (308, Refused)):
        first.reply = pointing(status, second.url)
        found = await web.act("POST", "/halt")
        assert isinstance(found, kind)
        assert "redirects to 127.0.0.1" in found.words
    await web.close()


TRICKS = [
    "http://127.0.0.1:{second}/",
    "//127.0.0.1:{second}/",
    "http://localhost:{first}/",
    "http://LOCALHOST:{first}/",
    "http://127.0.0.1:{first}@127.0.0.1:{second}/",
    "http://127.0.0.1:{second}#@127.0.0.1:{first}/",
    "http://127.0.0.1:{second}?@127.0.0.1:{first}/",
    "http://ann:pw@127.0.0.1:{first}/",
    "http://@127.0.0.1:{first}/",
    "http://127.0.0.1:{first}\\@127.0.0.1:{second}/",
    "http:\\\\127.0.0.1:{second}/",
    "http://127.0.0.1:{first}.evil.example/",
    "http://127.0.0.1.evil.example:{first}/",
    "http://2130706433:{second}/",
    "http://0x7f000001:{second}/",
    "http://0177.0.0.1:{second}/",
    "http://127.1:{second}/",
    "http://0:{second}/",
    "http://0.0.0.0:{second}/",
    "http://[::1]:{second}/",
    "http://[::ffff:127.0.0.1]:{first}/",
    "http://[::ffff:7f00:1]:{second}/",
    "http://[::1%25lo]:{second}/",
    "http://127.0.0.1。:{second}/",
    "http://①②⑦.0.0.1:{second}/",
    "http://127.0.0.1.:{first}/",
    "http://127.0.0.1:{second}\t/",
    "http://127.0.0.1:\n{second}/",
    " http://127.0.0.1:{second}/",
    "http://127.0.0.1 :{first}/",
    "http://127.0.0.1:{first}x/",
    "http://127.0.0.1:0{second}/",
    "http://127.0.0.1:+{first}/",
    "http://127.0.0.1:99999/",
    "http://127.0.0.1/",
    "https://127.0.0.1:{first}/",
    "ftp://127.0.0.1:{first}/",
    "file:///etc/passwd",
    "javascript://127.0.0.1:{first}/%0aalert(1)",
    "http:/127.0.0.1:{second}/",
    "http:127.0.0.1:{second}/",
    "///127.0.0.1:{second}/",
    "/\\127.0.0.1:{second}/",
    "/..//127.0.0.1:{second}/",
    "/x/%2e%2e/%2e%2e/",
    "http://169.254.169.254/latest/meta-data/",
]
"""Addresses as data of a server could name them, to lead a client that follows them somewhere else."""


@pytest.mark.parametrize("trick", TRICKS)
async def test_no_trick_in_an_address_leads_elsewhere(both, monkeypatch, trick):
    first, second = both
    monkeypatch.setenv("T", TOKEN)
    web = Web(first.url, name="shop-ci", clock=Hand(), token=Secret("env:T"), token_acts=Secret("env:T"))
    path = trick.format(first=first.port, second=second.port)
    with contextlib.suppress(Garbled):
        await web.get_json(path)
    await web.act("POST", path)
    assert second.connections == 0
    for head in first.heads:  # a path of our own, however it looks
        target = head.split(b" ")[1]
        assert target.startswith(b"/")
        assert head.count(b"\r\nHost: 127.0.0.1:%d\r\n" % first.port) == 1
    await web.close()


@pytest.mark.parametrize(
    "path",
    ["/x\r\nX-Evil: 1", "/x y HTTP/1.1\r\nHost: evil", "/x\0", "/\x7f", "/é\u2028", "/x?a=1\r\n\r\nGET / HTTP/1.1"],
)
async def test_no_path_writes_a_line_of_its_own(both, path):
    first, _ = both
    web = Web(first.url, name="shop-ci", clock=Hand())
    with contextlib.suppress(Garbled):
        await web.get_json(path)
    await web.act("POST", path, params={"a": "1\r\nX-Evil: 1"}, headers={})
    for head in first.heads:
        assert b"Evil" not in head.partition(b"\r\n")[2].replace(b"%", b"")
        assert head.count(b"HTTP/1.1\r\n") == 1
    assert len(first.heads) <= 2
    await web.close()


@pytest.mark.parametrize("name", ["X-Evil: 1\r\nX", "X Evil", ""])
async def test_no_header_writes_a_line_of_its_own(both, name):
    first, _ = both
    web = Web(first.url, name="shop-ci", clock=Hand())
    for headers in ({name: "1"}, {"X": "1\r\nX-Evil: 1"}):
        assert isinstance(await web.act("POST", "/", headers=headers), (NoAnswer, Unreachable))
        with pytest.raises(Garbled):
            await web.read("/", headers=headers)
    assert not first.heads
    await web.close()


async def test_the_credential_is_opened_for_none_but_the_configured_origin(both):
    first, second = both
    opened = []

    class Counted(Secret):
        def open(self):
            opened.append(1)
            return TOKEN

    web = Web(first.url, name="shop-ci", clock=Hand(), token=Counted("env:T"))
    with pytest.raises(Garbled):
        await web.get_json(second.url)
    assert not opened
    await web.close()


async def test_a_file_of_authorities_that_is_none_is_denied_before_anything_is_sent(both, tmp_path):
    (tmp_path / "none.pem").write_text("this is no certificate")
    web = Web("https://127.0.0.1:1", name="shop-ci", clock=Hand(), ca_file=str(tmp_path / "none.pem"))
    with pytest.raises(Denied, match=r"none\.pem"):
        await web.get_json("/")
    assert isinstance(await web.act("POST", "/"), Unreachable)
