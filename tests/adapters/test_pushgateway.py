"""Marks in a real Pushgateway: one series for each line and kind, which a repetition does not multiply."""

import time
import urllib.request
from contextlib import asynccontextmanager

import pytest

from adapters.pushgateway import ADAPTER
from andon.contract import NotifierContract
from andon.model import Note
from andon.ports import Accepted, Garbled, NoAnswer, Notifier, Refused, Unreachable
from tests.adapters.asking import opened
from tests.adapters.test_http_client import Hand, Server, answer
from tests.helpers import HOSTILE
from tests.servers.pushgateway import Pushgateway


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    it = Pushgateway(tmp_path_factory.mktemp("pushgateway"))
    try:
        it.start()
        yield it
    finally:
        it.stop()


@pytest.fixture
async def gateway(server, tmp_path):
    it = opened(ADAPTER, tmp_path, station="notify", url=server.url)
    yield it
    await it.close()


def marks(server):
    """What Prometheus would scrape of our series."""
    with urllib.request.urlopen(f"{server.url}/metrics") as page:
        lines = page.read().decode().splitlines()
    return [line for line in lines if line.startswith("andon_mark_timestamp_seconds")]


async def test_the_newest_note_of_each_kind_is_one_series(gateway, server):
    for kind, at in (("stopped", 100.0), ("resumed", 150.0), ("stopped", 200.5)):
        assert await gateway.tell(Note("shop", "t", "x", key=f"k{at}", kind=kind, at=at)) == Accepted()
    assert sorted(marks(server)) == [
        'andon_mark_timestamp_seconds{instance="",job="andon",kind="resumed",line="shop"} 150',
        'andon_mark_timestamp_seconds{instance="",job="andon",kind="stopped",line="shop"} 200.5',
    ]


@pytest.mark.parametrize("text", HOSTILE)
async def test_no_text_of_a_note_goes_there(gateway, server, text):
    assert await gateway.tell(Note("shop", text, text, key=text, who=text, authors=(text,))) == Accepted()
    assert all(line.isascii() for line in marks(server))
    assert len(marks(server)) <= 2


async def test_it_says_what_it_is_and_what_time_it_is_there(gateway):
    who = await gateway.whoami()
    assert (who.account, who.server) == ("nobody: no token", "Pushgateway 1.5.1")
    assert abs(who.clock - time.time()) < 3
    assert isinstance(gateway, Notifier)


class TestContract(NotifierContract):
    """What every notifier promises."""

    @pytest.fixture(autouse=True)
    def place(self, server, tmp_path):
        self.url, self.folder = server.url, tmp_path

    @asynccontextmanager
    async def opened(self):
        source = opened(ADAPTER, self.folder, station="notify", url=self.url)
        yield source
        await source.close()


# answers that it does not give here


@pytest.fixture
async def fake(tmp_path):
    async with Server() as it:
        it.gateway = opened(ADAPTER, tmp_path, Hand(), station="notify", url=it.url)
        yield it
        await it.gateway.close()


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (answer(b"no", 403), Refused),
        (answer(b"pushed metrics are invalid", 400), Refused),
        (answer(b"no", 500), NoAnswer),
        (answer(b"<html>log in</html>", 200, "text/html"), NoAnswer),
        (answer(b"no", 429, Retry_After="9"), Unreachable),
    ],
)
async def test_a_mark_that_is_not_made_is_told(fake, reply, kind):
    fake.reply = reply
    assert isinstance(await fake.gateway.tell(Note("shop", "t", "x", key="k")), kind)


@pytest.mark.parametrize(
    "body", [b"<html>", b"", b"null", b"[]", b'{"data": {}}', b'{"data": {"build_information": 7}}']
)
async def test_what_is_no_pushgateway_is_garbled(fake, body):
    fake.reply = answer(body)
    with pytest.raises(Garbled, match=r"shop: "):
        await fake.gateway.whoami()


def test_a_user_needs_a_password(tmp_path):
    with pytest.raises(ValueError, match=r"shop: .*token_acts"):
        opened(ADAPTER, tmp_path, station="notify", url="http://127.0.0.1", user="ann")
