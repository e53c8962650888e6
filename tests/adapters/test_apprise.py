"""Apprise to a loopback webhook and a loopback mail server: what arrives, and what is said when it does not."""

import asyncio
import contextlib
import json
import logging
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapters.apprise import ADAPTER
from andon.contract import NotifierContract
from andon.hiding import hide
from andon.model import Note
from andon.ports import Accepted, Denied, NoAnswer, Notifier, Refused, Unreachable
from tests.adapters.asking import opened
from tests.adapters.meters import Heart
from tests.adapters.test_http_client import Server, answer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
"""Apprise loads all its services at once, some of which use what is old."""

NOTE = Note("shop", "shop stopped [/] \x1b]0;x\x07", "by ann: *orders* <b>fell</b> & more", key="h1", who="ann")


class MailServer:
    """Takes mails and keeps them."""

    def __init__(self):
        self.mails = []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            writer.write(b"220 mail.example\r\n")
            while line := (await reader.readline()).strip().upper():
                if line == b"DATA":
                    writer.write(b"354 go on\r\n")
                    self.mails.append(await reader.readuntil(b"\r\n.\r\n"))
                writer.write(b"250 ok\r\n" if line != b"QUIT" else b"221 bye\r\n")
        writer.close()


@pytest.fixture
async def server():
    async with Server() as it:
        it.reply = answer(b"")
        yield it


def apprise(monkeypatch, folder, *addresses):
    monkeypatch.setenv("WHOM", " ".join(addresses))
    return opened(ADAPTER, folder, station="notify", secret="env:WHOM")


def hook(server, path="5ecret-canary-path"):
    return f"json://127.0.0.1:{server.port}/{path}"


async def test_a_note_arrives_as_plain_text(server, monkeypatch, tmp_path):
    it = apprise(monkeypatch, tmp_path, hook(server))
    assert await it.tell(NOTE) == Accepted()
    said = json.loads(server.bodies[-1])
    assert said["title"] == NOTE.title
    assert said["message"] == NOTE.text
    assert said["type"] == "failure"
    assert server.heads[-1].startswith(b"POST /5ecret-canary-path")


async def test_a_mail_arrives_beside_it(server, monkeypatch, tmp_path):
    async with MailServer() as mails:
        mail = f"mailto://127.0.0.1:{mails.port}?from=andon@test.invalid&to=ops@test.invalid&mode=insecure"
        it = apprise(monkeypatch, tmp_path, mail, hook(server))
        assert await it.tell(NOTE) == Accepted()
        assert len(mails.mails) == len(server.bodies) == 1
        assert b"Subject: " in mails.mails[0]
        assert b"ops@test.invalid" in mails.mails[0]


async def test_one_that_was_not_told_makes_it_no_answer(server, monkeypatch, tmp_path):
    it = apprise(monkeypatch, tmp_path, hook(server), "json://127.0.0.1:1/gone")
    answered = await it.tell(NOTE)
    assert isinstance(answered, NoAnswer)
    assert "2 of them" in answered.words


async def test_what_apprise_does_not_understand_is_refused_before_anybody_is_told(server, monkeypatch, tmp_path):
    for addresses in ((hook(server), "nosuch://5ecret-canary"), ("   \t ",)):
        it = apprise(monkeypatch, tmp_path, *addresses)
        if addresses[0].strip():
            answered = await it.tell(NOTE)
            assert isinstance(answered, Refused)
            assert "canary" not in answered.words
            assert (await it.whoami()).missing == ("1 of its addresses, which Apprise does not understand",)
        else:
            with pytest.raises(Denied, match=r"env:WHOM"):
                await it.whoami()
    assert server.heads == []


async def test_a_server_that_hangs_is_left_at_the_deadline_and_holds_up_nobody(server, monkeypatch, tmp_path):
    over = asyncio.Event()

    async def hang(_):
        await over.wait()

    server.reply = lambda _: hang
    it = apprise(monkeypatch, tmp_path, hook(server))
    it.act_limit_s = 0.5
    await it.whoami()  # Apprise is loaded
    try:
        async with Heart() as heart:
            answered = await it.tell(NOTE)
        assert isinstance(answered, NoAnswer)
        assert "no answer in 0.5 s" in answered.words
        assert heart.cpu_s < 0.4
    finally:
        over.set()


async def test_a_secret_that_does_not_open_sends_nothing(monkeypatch, tmp_path):
    it = apprise(monkeypatch, tmp_path, "json://127.0.0.1:1")
    monkeypatch.delenv("WHOM")
    answered = await it.tell(NOTE)
    assert isinstance(answered, Unreachable)
    assert "env:WHOM" in str(answered)
    with pytest.raises(Denied, match=r"env:WHOM"):
        await it.whoami()


async def test_it_names_the_services_and_neither_an_address_nor_a_log_line(server, monkeypatch, tmp_path, caplog):
    it = apprise(monkeypatch, tmp_path, hook(server))
    with caplog.at_level(logging.DEBUG):
        who = await it.whoami()
        await it.tell(NOTE)
    assert (who.account, who.server, who.found, who.missing) == ("1 addresses", "Apprise", ("JSON",), ())
    assert "canary" not in caplog.text
    assert hook(server) not in hide(f"told {hook(server)}")
    assert isinstance(it, Notifier)


class TestContract(NotifierContract):
    """What every notifier promises."""

    @pytest.fixture(autouse=True)
    def place(self, tmp_path, monkeypatch):
        self.folder, self.monkeypatch = tmp_path, monkeypatch

    @asynccontextmanager
    async def opened(self):
        async with Server() as server:
            server.reply = answer(b"")
            source = apprise(self.monkeypatch, self.folder, hook(server))
            yield source
            await source.close()


def test_importing_it_imports_no_library():
    code = "import sys, adapters.apprise; sys.exit(bool({'apprise', 'requests', 'httpx'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
