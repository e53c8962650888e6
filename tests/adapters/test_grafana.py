"""Marks for Grafana, as its reference says: what is sent, and what is made of the answers."""

import json
import time
from contextlib import asynccontextmanager
from email.utils import formatdate

import pytest

from adapters.grafana import ADAPTER
from andon.contract import NotifierContract
from andon.model import Note
from andon.ports import Accepted, Denied, Garbled, NoAnswer, Notifier, Refused, Unreachable
from tests.adapters.asking import harmless, opened
from tests.adapters.test_http_client import Hand, Server, answer
from tests.helpers import HOSTILE

NOTE = Note("shop", "shop stopped", "by ann: orders fell", key="h1/grafana", at=1_700_000_000.5)


def grafana(head):
    """What the reference answers with."""
    method, target, _ = head.split(b"\r\n")[0].split()
    date = {"Date": formatdate(time.time(), usegmt=True)}
    token = next((line[22:] for line in head.split(b"\r\n") if line.lower().startswith(b"authorization: bearer ")), b"")
    if target == b"/api/health":
        return answer(b'{"commit": "unknown", "database": "ok", "version": "12.4.0"}', **date)
    if method == b"GET" and target == b"/api/annotations?limit=1&tags=andon":
        return answer(b"[]") if token == b"read-5ecret-canary" else answer(b'{"message": "Invalid API key"}', 401)
    if method == b"POST" and target == b"/api/annotations":
        if token != b"acts-5ecret-canary":
            return answer(b'{"message": "Permission denied"}', 403)
        return answer(b'{"message": "Annotation added", "id": 7}')
    return answer(b'{"message": "Not found"}', 404)


@pytest.fixture(autouse=True)
def tokens(monkeypatch):
    monkeypatch.setenv("READ", "read-5ecret-canary")
    monkeypatch.setenv("ACTS", "acts-5ecret-canary")


@pytest.fixture
async def server(tmp_path):
    async with Server() as it:
        it.reply = grafana
        it.source = opened(
            ADAPTER, tmp_path, Hand(), station="notify", url=it.url, token="env:READ", token_acts="env:ACTS"
        )
        yield it
        await it.source.close()


async def test_a_note_is_an_annotation_at_its_time(server):
    assert await server.source.tell(NOTE) == Accepted("7")
    assert json.loads(server.bodies[-1]) == {
        "time": 1_700_000_000_500,
        "tags": ["andon", "shop", "stopped"],
        "text": "shop stopped: by ann: orders fell",
    }


@pytest.mark.parametrize("text", [*HOSTILE, "<script>alert(1)</script>"])
async def test_what_strangers_wrote_is_no_html(server, text):
    assert await server.source.tell(Note("shop", text, f"{text}<b>", key=text)) == Accepted("7")
    said = json.loads(server.bodies[-1])["text"]
    assert "<" not in said
    assert harmless(said)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (answer(b'{"message": "no"}', 403), Refused),
        (answer(b'{"message": "bad"}', 400), Refused),
        (answer(b"no", 500), NoAnswer),
        (answer(b'{"message": "Annotation added"}'), NoAnswer),
        (answer(b"<html>log in</html>"), NoAnswer),
        (answer(b"no", 429, Retry_After="9"), Unreachable),
    ],
)
async def test_a_mark_that_is_not_made_is_told(server, reply, kind):
    server.reply = reply
    assert isinstance(await server.source.tell(NOTE), kind)


async def test_it_says_what_it_is_and_reads_with_the_reading_token_alone(server, tmp_path, monkeypatch):
    who = await server.source.whoami()
    assert (who.server, who.missing) == ("Grafana 12.4.0", ())
    assert abs(who.clock - time.time()) < 3
    assert b"acts-5ecret" not in b"".join(server.heads)
    assert isinstance(server.source, Notifier)
    monkeypatch.setenv("READ", "wr0ng-canary")
    with pytest.raises(Denied, match=r"env:READ"):
        await server.source.whoami()
    only = opened(ADAPTER, tmp_path, station="notify", url=server.url, token_acts="env:ACTS")
    assert "not tried" in (await only.whoami()).found[0]
    await only.close()


async def test_a_sick_database_is_missing_and_what_is_no_grafana_is_garbled(server):
    server.reply = answer(b'{"database": "failing", "version": "\x1b[2J"}'.replace(b"\x1b", b"\\u001b"))
    with pytest.raises(Garbled):
        await server.source.whoami()
    server.reply = lambda head: (
        answer(b'{"database": "failing", "version": "[/]"}') if b"health" in head else answer(b"[]")
    )
    who = await server.source.whoami()
    assert (who.server, who.missing) == ("Grafana tells no version", ("its database",))


class TestContract(NotifierContract):
    """What every notifier promises."""

    @pytest.fixture(autouse=True)
    def place(self, tmp_path):
        self.folder = tmp_path

    @asynccontextmanager
    async def opened(self):
        async with Server() as server:
            server.reply = grafana
            source = opened(ADAPTER, self.folder, station="notify", url=server.url, token_acts="env:ACTS")
            yield source
            await source.close()
