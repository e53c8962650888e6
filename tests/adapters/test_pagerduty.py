"""Pages for PagerDuty, as its reference says: one alert for each line, resolved when it runs again."""

import json
from contextlib import asynccontextmanager

import pytest

from adapters.pagerduty import ADAPTER
from andon.contract import NotifierContract
from andon.model import Note
from andon.ports import Accepted, Denied, NoAnswer, Notifier, Refused, Unreachable
from tests.adapters.asking import harmless, opened
from tests.adapters.test_http_client import Hand, Server, answer
from tests.helpers import HOSTILE

KEY = "5ecret-canary-of-32-letters-long"
TAKEN = answer(b'{"status": "success", "message": "Event processed", "dedup_key": "andon/shop"}', 202)


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("PAGES", KEY)


@pytest.fixture
async def server(tmp_path):
    async with Server() as it:
        it.reply = TAKEN
        it.source = opened(ADAPTER, tmp_path, Hand(), station="notify", url=it.url, token_acts="env:PAGES")
        yield it
        await it.source.close()


def note(kind="stopped", **more):
    return Note("shop", f"shop {kind}", "by ann: orders fell", key=f"h1/{kind}", kind=kind, who="ann", at=1e9, **more)


async def test_a_stop_triggers_an_alert(server):
    assert await server.source.tell(note(authors=("bo", "cy"))) == Accepted("andon/shop")
    assert server.heads[-1].startswith(b"POST /v2/enqueue HTTP/1.1")
    assert json.loads(server.bodies[-1]) == {
        "routing_key": KEY,
        "event_action": "trigger",
        "dedup_key": "andon/shop",
        "payload": {
            "summary": "shop stopped: by ann: orders fell",
            "source": "andon shop",
            "severity": "critical",
            "timestamp": "2001-09-09T01:46:40+00:00",
            "component": "shop",
            "class": "stopped",
            "custom_details": {"who": "ann", "authors": "bo, cy", "text": "by ann: orders fell"},
        },
    }


async def test_a_resumed_line_resolves_the_same_alert(server):
    await server.source.tell(note())
    await server.source.tell(note("resumed"))
    one, other = map(json.loads, server.bodies)
    assert (one["event_action"], other["event_action"]) == ("trigger", "resolve")
    assert one["dedup_key"] == other["dedup_key"]


async def test_nobody_is_woken_for_what_the_config_does_not_name(server, tmp_path):
    for kind in ("verdict", "rollback", "blind"):
        assert isinstance(await server.source.tell(note(kind)), Accepted)
    assert server.heads == []
    more = opened(ADAPTER, tmp_path, station="notify", url=server.url, token_acts="env:PAGES", kinds=["blind"])
    await more.tell(note("blind"))
    assert json.loads(server.bodies[-1])["payload"]["severity"] == "warning"
    await more.close()


@pytest.mark.parametrize("text", HOSTILE)
async def test_what_strangers_wrote_is_clean_and_short_enough(server, text):
    assert isinstance(await server.source.tell(Note("shop", text, text * 9, key=text, who=text)), Accepted)
    summary = json.loads(server.bodies[-1])["payload"]["summary"]
    assert harmless(summary)
    assert len(summary) <= 1024


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (answer(b'{"status": "invalid event", "message": "Event object is invalid", "errors": ["x"]}', 400), Refused),
        (answer(b'{"status": "invalid key"}', 202), Refused),
        (answer(b"no", 500), NoAnswer),
        (answer(b"{}", 202), NoAnswer),
        (answer(b"<html>log in</html>"), NoAnswer),
        (answer(b'{"status": "throttle exceeded"}', 429), Unreachable),
    ],
)
async def test_a_page_that_is_not_sent_is_told_without_the_key(server, reply, kind):
    server.reply = reply
    answered = await server.source.tell(note())
    assert isinstance(answered, kind)
    assert KEY not in str(answered)


async def test_a_key_that_does_not_open_sends_nothing(server, monkeypatch):
    monkeypatch.delenv("PAGES")
    assert "env:PAGES" in str(await server.source.tell(note()))
    with pytest.raises(Denied, match=r"env:PAGES"):
        await server.source.whoami()
    assert server.heads == []


async def test_asking_who_we_are_pages_nobody(server):
    who = await server.source.whoami()
    assert who.account == "the integration key's"
    assert server.heads == []
    assert isinstance(server.source, Notifier)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"url": "http://events.example"}, "plaintext"), ({"kinds": ["stoped"]}, "'stoped' is no kind")],
)
def test_a_connection_that_cannot_be_is_refused_with_words(tmp_path, options, words):
    with pytest.raises(ValueError, match=r"shop: ") as caught:
        opened(ADAPTER, tmp_path, station="notify", token_acts="env:PAGES", **options)
    assert words in str(caught.value)


class TestContract(NotifierContract):
    """What every notifier promises."""

    @pytest.fixture(autouse=True)
    def place(self, tmp_path):
        self.folder = tmp_path

    @asynccontextmanager
    async def opened(self):
        async with Server() as server:
            server.reply = TAKEN
            source = opened(ADAPTER, self.folder, station="notify", url=server.url, token_acts="env:PAGES")
            yield source
            await source.close()
