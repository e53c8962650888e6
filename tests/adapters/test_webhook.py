"""Notes that go to a loopback server: what it gets, how it knows who sent it, and what is made of its answers."""

import base64
import hashlib
import hmac
import json
from contextlib import asynccontextmanager

import pytest

from adapters.webhook import ADAPTER, signature
from andon.contract import NotifierContract
from andon.model import Note
from andon.ports import Accepted, Denied, NoAnswer, Notifier, Refused, Unreachable
from tests.adapters.asking import harmless, opened
from tests.adapters.test_http_client import Hand, Server, answer, writes
from tests.helpers import HOSTILE

KEY = "5ecret-canary-of-the-hook"
NOTE = Note(
    "shop", "shop stopped", "by ann: orders fell", key="h1/hook", who="ann", authors=("bo",), at=1_700_000_000.0
)


@pytest.fixture(autouse=True)
def secrets(monkeypatch):
    monkeypatch.setenv("HOOK", KEY)
    monkeypatch.setenv("PATH_OF_HOOK", "services/T0/B0/5ecret-canary-path")
    monkeypatch.setenv("TOKEN", "5ecret-canary-token")


@pytest.fixture
async def server():
    async with Server() as it:
        it.reply = answer(b"ok", kind="text/html")
        yield it


@pytest.fixture
async def hook(server, tmp_path):
    it = opened(ADAPTER, tmp_path, Hand(1_700_000_009.0), station="notify", url=f"{server.url}/hook", secret="env:HOOK")
    yield it
    await it.close()


def headers(head):
    first, *lines = head.decode().split("\r\n")
    return first, {name.lower(): value for name, _, value in (line.partition(": ") for line in lines) if name}


async def test_a_note_arrives_whole(hook, server):
    assert await hook.tell(NOTE) == Accepted()
    first, found = headers(server.heads[-1])
    assert first == "POST /hook/ HTTP/1.1" or first == "POST /hook HTTP/1.1"
    assert found["content-type"] == "application/json"
    assert json.loads(server.bodies[-1]) == {
        "type": "andon.stopped",
        "timestamp": "2023-11-14T22:13:20+00:00",
        "text": "shop stopped: by ann: orders fell",
        "data": {
            "line": "shop",
            "kind": "stopped",
            "title": "shop stopped",
            "text": "by ann: orders fell",
            "who": "ann",
            "authors": ["bo"],
            "key": "h1/hook",
        },
    }


async def test_who_gets_it_can_tell_that_it_is_ours_and_unchanged(hook, server):
    await hook.tell(NOTE)
    _, found = headers(server.heads[-1])
    signed = f"{found['webhook-id']}.{found['webhook-timestamp']}.".encode() + server.bodies[-1]
    expected = base64.b64encode(hmac.new(KEY.encode(), signed, hashlib.sha256).digest()).decode()
    assert found["webhook-signature"] == f"v1,{expected}"
    assert found["webhook-timestamp"] == "1700000009"


def test_the_signature_is_the_one_of_standard_webhooks():
    # The example of the specification's own libraries.
    key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    found = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body)
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_a_repetition_has_the_same_id_and_another_note_has_not(hook, server):
    for note in (NOTE, NOTE, Note("shop", "t", "x", key="h2/hook")):
        await hook.tell(note)
    one, again, other = (headers(head)[1]["webhook-id"] for head in server.heads)
    assert one == again != other


@pytest.mark.parametrize("text", HOSTILE)
async def test_what_strangers_wrote_is_data_and_calls_nobody(hook, server, text):
    note = Note("shop", f"{text}<!channel>", f"{text}<https://x|y> & more", key=text, who=text)
    assert await hook.tell(note) == Accepted()
    said = json.loads(server.bodies[-1])
    assert "<" not in said["text"]
    assert "&lt;!channel&gt;" in said["text"] or len(text) > 200
    assert harmless(said["text"])


async def test_a_secret_path_and_a_token_are_sent_and_shown_nowhere(server, tmp_path):
    it = opened(
        ADAPTER, tmp_path, station="notify", url=server.url, secret_path="env:PATH_OF_HOOK", token_acts="env:TOKEN"
    )
    assert await it.tell(NOTE) == Accepted()
    first, found = headers(server.heads[-1])
    assert first == "POST /services/T0/B0/5ecret-canary-path HTTP/1.1"
    assert found["authorization"] == "Bearer 5ecret-canary-token"
    assert "webhook-signature" not in found
    assert "canary" not in str(await it.whoami())
    await it.close()


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (answer(b"", 204), Accepted),
        (answer(b"no_service", 404), Refused),
        (answer(b"no", 401), Refused),
        (answer(b"no", 302, Location="http://elsewhere.example/"), NoAnswer),
        (answer(b"no", 500), NoAnswer),
        (answer(b"<html>log in</html>", 200, "text/html"), NoAnswer),
        (answer(b"no", 429, Retry_After="9"), Unreachable),
        (writes(b""), NoAnswer),
    ],
)
async def test_what_is_made_of_an_answer(hook, server, reply, kind):
    server.reply = reply
    assert isinstance(await hook.tell(NOTE), kind)
    assert len(server.heads) == 1


async def test_a_server_that_is_gone_was_told_nothing(tmp_path):
    it = opened(ADAPTER, tmp_path, station="notify", url="http://127.0.0.1:1")
    assert isinstance(await it.tell(NOTE), Unreachable)
    await it.close()


async def test_a_secret_that_does_not_open_sends_nothing(hook, server, monkeypatch):
    monkeypatch.delenv("HOOK")
    answered = await hook.tell(NOTE)
    assert isinstance(answered, Unreachable)
    assert "env:HOOK" in str(answered)
    with pytest.raises(Denied, match=r"env:HOOK"):
        await hook.whoami()
    monkeypatch.setenv("HOOK", "whsec_no base64, a canary")
    answered = await hook.tell(NOTE)
    assert isinstance(answered, Refused)
    assert "canary" not in answered.words
    assert server.heads == []


async def test_it_says_what_it_signs_with_and_asks_nobody(hook, server):
    who = await hook.whoami()
    assert who.account == "signs with env:HOOK"
    assert server.heads == []
    assert isinstance(hook, Notifier)


@pytest.mark.parametrize(
    "options",
    [{"secret_path": "env:X"}, {"token_acts": "env:X"}],
)
def test_a_secret_does_not_travel_in_the_clear(tmp_path, options):
    with pytest.raises(ValueError, match=r"plaintext"):
        opened(ADAPTER, tmp_path, station="notify", url="http://hooks.example", **options)


class TestContract(NotifierContract):
    """What every notifier promises."""

    @pytest.fixture(autouse=True)
    def place(self, tmp_path):
        self.folder = tmp_path

    @asynccontextmanager
    async def opened(self):
        async with Server() as server:
            source = opened(ADAPTER, self.folder, station="notify", url=server.url, secret="env:HOOK")
            yield source
            await source.close()
