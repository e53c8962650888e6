"""Servers that cannot show who they are, or that cannot be spoken to in private: none of them is told anything."""

import asyncio
import contextlib
import socket
import ssl
import warnings

import pytest

from adapters import _http_client
from adapters._http import Reply, Web
from andon.ports import Garbled, NoAnswer, Unreachable
from andon.secret import Secret
from tests.adapters.certificates import AUTHORITY, HERE, LEAF, SERVER, Authority, altered, need_openssl, self_signed
from tests.adapters.test_http_client import Hand, answer

TOKEN = "tok-5ecret-canary-93"
LONG_S = 20.0
RSA_1024 = ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    need_openssl()
    return Authority(tmp_path_factory.mktemp("tls") / "shop")


@pytest.fixture
def other(tmp_path):
    """A folder for one more authority."""
    return tmp_path / "other"


CERTIFICATES = {
    "self-signed": lambda ca, folder: self_signed(folder),
    "an authority nobody knows": lambda ca, folder: Authority(folder).server("it"),
    "expired": lambda ca, folder: ca.server("expired", until="20210101000000Z"),
    "not yet valid": lambda ca, folder: ca.server("early", since="20980101000000Z"),
    "another host": lambda ca, folder: ca.server("host", extensions=LEAF + "subjectAltName=DNS:ci.example\n"),
    "another address": lambda ca, folder: ca.server("address", extensions=LEAF + "subjectAltName=IP:127.0.0.2\n"),
    "an address as if it were a name": lambda ca, folder: ca.server(
        "name", extensions=LEAF + "subjectAltName=DNS:127.0.0.1\n"
    ),
    "no host at all": lambda ca, folder: ca.server("none", extensions=LEAF),
    "signed with SHA-1": lambda ca, folder: ca.server("sha1", digest="sha1"),
    "a key of 1024 bits": lambda ca, folder: ca.server("short", key=RSA_1024),
    "for clients only": lambda ca, folder: ca.server(
        "client", extensions=LEAF + HERE + "extendedKeyUsage=clientAuth\n"
    ),
    "a demand nobody understands": lambda ca, folder: ca.server(
        "demand", extensions=SERVER + "1.2.3.4=critical,ASN1:NULL\n"
    ),
    "a signature that was altered": lambda ca, folder: altered(ca.server("altered")),
    "vouched for by one that may not": lambda ca, folder: Authority(folder, "no CA", ca, extensions=SERVER).server(
        "it"
    ),
    "vouched for by one that may not sign": lambda ca, folder: Authority(
        folder, "no signer", ca, extensions="basicConstraints=critical,CA:true\nkeyUsage=critical,digitalSignature\n"
    ).server("it"),
    "vouched for by one that has expired": lambda ca, folder: Authority(
        folder, "old CA", ca, until="20210101000000Z"
    ).server("it"),
    "vouched for by one for other hosts": lambda ca, folder: Authority(
        folder, "example CA", ca, extensions=AUTHORITY + "nameConstraints=critical,permitted;DNS:example\n"
    ).server("it", extensions=LEAF + HERE),
    "vouched for by one too many": lambda ca, folder: Authority(
        folder / "below",
        "below CA",
        Authority(folder, "last CA", ca, extensions=AUTHORITY.replace("CA:true", "CA:true,pathlen:0")),
    ).server("it"),
    "a link of the chain missing": lambda ca, folder: Authority(folder, "middle CA", ca).server("it", chain=""),
}


@contextlib.asynccontextmanager
async def serving(pair=None, **limits):
    """A server on loopback, of TLS if there is a certificate; gives its port and what it was told."""
    told = []

    async def serve(reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ssl.SSLError):
            while True:
                told.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(answer(b"[1]"))
        writer.close()

    context = None if pair is None and not limits else weak(pair, **limits)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], told
    finally:
        server.close()


def weak(pair, newest=None, ciphers="ALL:@SECLEVEL=0"):
    """A server's context that serves what a good one would not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers(ciphers)
    if pair is not None:
        context.load_cert_chain(*pair)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        if newest is not None:
            context.maximum_version = newest
    return context


def careless(_=None):
    """A client's context that believes everything."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    return context


def opened(port, authority, monkeypatch, scheme="https"):
    monkeypatch.setenv("T", TOKEN)
    secret = Secret("env:T")
    ca_file = str(authority.pem)
    url = f"{scheme}://127.0.0.1:{port}"
    limits = {"read_limit_s": LONG_S, "act_limit_s": LONG_S}
    return Web(url, name="shop-ci", clock=Hand(), token=secret, token_acts=secret, ca_file=ca_file, **limits)


async def assert_refused(web, words="cannot connect|not trusted"):
    """A read, a stream and an act are unreachable: nothing left."""
    for call in (web.get_json("/"), _streamed(web)):
        with pytest.raises(Unreachable, match=words) as caught:
            await call
        assert TOKEN not in str(caught.value)
        assert str(caught.value).isprintable()
    assert isinstance(await web.act("POST", "/halt", json={"secret": TOKEN}), Unreachable)
    await web.close()


async def _streamed(web):
    async with web.stream_events("/"):
        pass


async def believed(port, authority, monkeypatch):
    """Whether a client that believes everything tells this server its secret."""
    with monkeypatch.context() as patch:
        patch.setattr(_http_client, "_tls", careless)
        web = opened(port, authority, patch)
        try:
            return await web.get_json("/") == [1]
        finally:
            await web.close()


@pytest.mark.parametrize("how", CERTIFICATES)
async def test_a_server_with_a_bad_certificate_is_told_nothing(authority, other, monkeypatch, how):
    async with serving(CERTIFICATES[how](authority, other)) as (port, told):
        await assert_refused(opened(port, authority, monkeypatch), "certificate is not trusted")
        assert not told
        assert await believed(port, authority, monkeypatch)  # it would have been told
        assert TOKEN.encode() in told[0]


@pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=lambda version: version.name.replace("_", ".")
)
async def test_a_server_that_speaks_only_an_old_tls_is_told_nothing(authority, monkeypatch, version):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        async with serving(authority.server("old"), newest=version) as (port, told):
            await assert_refused(opened(port, authority, monkeypatch))
            assert not told
            try:
                assert await believed(port, authority, monkeypatch)
            except Unreachable:
                pytest.skip(f"this OpenSSL cannot serve {version.name}")


async def test_a_server_without_any_certificate_is_told_nothing(authority, monkeypatch):
    async with serving(newest=ssl.TLSVersion.TLSv1_2, ciphers="aNULL:@SECLEVEL=0") as (port, told):
        await assert_refused(opened(port, authority, monkeypatch))
        assert not told
        assert await believed(port, authority, monkeypatch)


async def test_ciphers_that_hide_nothing_are_refused(authority, monkeypatch):
    async with serving(authority.server("null"), newest=ssl.TLSVersion.TLSv1_2, ciphers="eNULL:@SECLEVEL=0") as (
        port,
        told,
    ):
        await assert_refused(opened(port, authority, monkeypatch))
        assert not told


async def test_http_where_https_should_be_is_told_nothing(authority, monkeypatch):
    told = []

    async def serve(reader, writer):
        told.append(await reader.read(4096))
        writer.write(answer(b"this is http", 400))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    await assert_refused(opened(server.sockets[0].getsockname()[1], authority, monkeypatch))
    assert not any(TOKEN.encode() in part for part in told)
    server.close()


async def test_https_where_http_should_be_is_an_error_that_can_be_read(authority, monkeypatch):
    async with serving(authority.server("swapped")) as (port, told):
        web = opened(port, authority, monkeypatch, scheme="http")
        with pytest.raises((Garbled, Unreachable)):
            await web.get_json("/")
        assert isinstance(await web.act("POST", "/halt"), NoAnswer)
        assert not told
        await web.close()


async def test_a_handshake_that_never_ends_is_ended_by_the_deadline(authority, monkeypatch):
    async def silent(reader, writer):
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    web = opened(server.sockets[0].getsockname()[1], authority, monkeypatch)
    web.read_limit_s = web.act_limit_s = 0.5
    await assert_refused(web, "no answer in 0.5 s")
    server.close()


async def test_a_good_server_is_believed_also_with_a_chain(authority, other, monkeypatch):
    for pair in (authority.server("good"), Authority(other, "middle CA", authority).server("it")):
        async with serving(pair) as (port, told):
            web = opened(port, authority, monkeypatch)
            assert await web.get_json("/") == [1]
            assert isinstance(await web.act("POST", "/halt"), Reply)
            assert len(told) == 2
            await web.close()
            bare = opened(port, authority, monkeypatch)
            bare._ca_file = ""
            await assert_refused(bare, "ca_file")  # the system does not know it
            assert len(told) == 2


async def test_what_the_environment_says_of_certificates_changes_nothing(authority, other, monkeypatch):
    stranger = Authority(other)
    monkeypatch.setenv("SSL_CERT_FILE", str(stranger.pem))
    monkeypatch.setenv("SSL_CERT_DIR", str(stranger.folder))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(stranger.pem))
    async with serving(stranger.server("it")) as (port, told):
        await assert_refused(opened(port, authority, monkeypatch), "certificate is not trusted")
        assert not told


@pytest.mark.parametrize("how", ["altered", "cut", "reset"])
async def test_a_record_that_is_broken_on_the_way_is_told_as_a_read(authority, monkeypatch, how):
    """What somebody in between can do to an answer that cannot be read by them."""

    async def between(reader, writer):
        source, onward = await asyncio.open_connection("127.0.0.1", port)

        async def answers():
            while part := await source.read(65536):
                if how != "altered" and told:
                    if how == "reset":
                        writer.get_extra_info("socket").setsockopt(
                            socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
                        )
                    writer.write(part[: len(part) // 2])
                    writer.transport.abort() if how == "reset" else writer.close()
                    return
                writer.write(part[:-1] + bytes([part[-1] ^ 1]) if told else part)

        task = asyncio.create_task(answers())
        with contextlib.suppress(OSError):
            while part := await reader.read(65536):
                onward.write(part)
        await asyncio.gather(task, return_exceptions=True)
        onward.close()
        writer.close()

    async with serving(authority.server("broken")) as (port, told):
        proxy = await asyncio.start_server(between, "127.0.0.1", 0)
        web = opened(proxy.sockets[0].getsockname()[1], authority, monkeypatch)
        with pytest.raises((Garbled, Unreachable)):
            await web.get_json("/")
        told.clear()
        found = await web.act("POST", "/halt")
        assert isinstance(found, NoAnswer), found
        await web.close()
        proxy.close()


async def test_dead_connections_are_looked_for_by_the_system():
    async with serving() as (port, _):
        web = Web(f"http://127.0.0.1:{port}", name="shop-ci", clock=Hand())
        await web.get_json("/")
        stream = web._client._transport._pool.connections[0]._connection._network_stream
        found = stream.get_extra_info("socket")
        assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            idle = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            between = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
            times = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
            assert idle + between * times <= 30
        await web.close()
