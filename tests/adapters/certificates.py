"""Certificates as good and bad servers show them, made with the openssl command."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CONFIG = """
[ca]
default_ca = shop
[shop]
dir = {folder}
database = {folder}/index.txt
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = name
[name]
"""

LEAF = "basicConstraints=critical,CA:false\nkeyUsage=digitalSignature,keyEncipherment\n"
HERE = "subjectAltName=IP:127.0.0.1,DNS:localhost\n"
SERVER = LEAF + HERE + "extendedKeyUsage=serverAuth\n"
AUTHORITY = "basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n"


def need_openssl() -> None:
    """Skip by name where there is no openssl command; in CI there must be one."""
    if shutil.which("openssl") is None:
        if os.environ.get("CI"):
            pytest.fail("the openssl command is missing")
        pytest.skip("needs the openssl command")


class Authority:
    """One that signs certificates; in a folder of its own."""

    def __init__(self, folder: Path, name: str = "Shop CA", parent: "Authority | None" = None, **given: str) -> None:
        folder.mkdir()
        self.folder, self.parent = folder, parent
        (folder / "index.txt").touch()
        (folder / "ca.cnf").write_text(CONFIG.format(folder=folder))
        self.key = _key(folder / "ca.key")
        self.pem = folder / "ca.pem"
        extensions = given.pop("extensions", AUTHORITY)
        if parent is not None:
            parent.sign(self.key, self.pem, name, extensions, **given)
            return
        (folder / "own.cnf").write_text(f"[req]\ndistinguished_name=name\n[name]\n[own]\n{extensions}")
        _openssl(
            *("req", "-x509", "-new", "-config", folder / "own.cnf", "-extensions", "own", "-key", self.key),
            *("-subj", f"/CN={name}", "-days", "3650", "-out", self.pem),
        )

    @property
    def chain(self) -> str:
        """What stands between a server and the root."""
        return self.pem.read_text() + self.parent.chain if self.parent is not None else ""

    def sign(
        self,
        key: Path,
        out: Path,
        name: str = "localhost",
        extensions: str = SERVER,
        since: str = "20200101000000Z",
        until: str = "20991231235959Z",
        digest: str = "sha256",
    ) -> None:
        request, asked = out.with_suffix(".csr"), out.with_suffix(".ext")
        asked.write_text(extensions)
        _openssl("req", "-new", "-config", self.folder / "ca.cnf", "-key", key, "-subj", f"/CN={name}", "-out", request)
        _openssl(
            *("ca", "-batch", "-notext", "-config", self.folder / "ca.cnf", "-cert", self.pem, "-keyfile", self.key),
            *("-in", request, "-out", out, "-extfile", asked, "-startdate", since, "-enddate", until, "-md", digest),
        )

    def server(self, name: str, key: tuple[str, ...] = (), chain: str | None = None, **given: str) -> tuple[Path, Path]:
        """Certificate (with its chain) and key of a server."""
        private = _key(self.folder / f"{name}.key", *key)
        own, out = self.folder / f"{name}.own.pem", self.folder / f"{name}.pem"
        self.sign(private, own, **given)
        out.write_text(own.read_text() + (self.chain if chain is None else chain))
        return out, private


def altered(pair: tuple[Path, Path]) -> tuple[Path, Path]:
    """The same certificate with another signature than the authority's."""
    import base64

    lines = pair[0].read_text().split("-----BEGIN CERTIFICATE-----")[1].split("-----END")[0]
    raw = bytearray(base64.b64decode("".join(lines.split())))
    raw[-3] ^= 1
    out = pair[0].with_name("altered.pem")
    body = base64.encodebytes(bytes(raw)).decode()
    out.write_text(f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n")
    return out, pair[1]


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A server that vouches for itself."""
    authority = Authority(folder, "localhost", extensions=SERVER)
    return authority.pem, authority.key


def _key(path: Path, *kind: str) -> Path:
    _openssl("genpkey", *(kind or ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")), "-out", path)
    return path


def _openssl(*words: object) -> None:
    done = subprocess.run(["openssl", *map(str, words)], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (words, done.stderr)
