"""Where releases run: git, symlinks, supervisord, HAProxy, and whether a process is well. All fail with `Failed`."""

import contextlib
import csv
import http.client
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.request
import xmlrpc.client
from collections.abc import Callable
from pathlib import Path
from typing import Any

from record import sync_folder
from settings import Failed, Refused, Row, folder, processes, seconds, setting, short, tell

VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
CALL_LIMIT_S = 30.0
DRAIN_LIMIT_S = 5.0
NOT_RUNNING = 70
"""supervisord's fault when a process that is to be stopped does not run."""


def git(*words: str) -> subprocess.CompletedProcess[bytes]:
    """Run git in RELEASES_REPO."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    argv = ["git", "-C", setting("REPO"), *words]
    return subprocess.run(argv, capture_output=True, env=inherited, check=False)


def resolve(version: str) -> str:
    """The name of the release: the full commit where there is a repository, else the folder's name."""
    if not VERSION.fullmatch(version):
        raise Refused(f"not a version: {version[:40]!r}")
    if setting("REPO"):
        found = git("rev-parse", "--verify", "--quiet", f"{version}^{{commit}}")
        if found.returncode:
            raise Refused(f"{setting('REPO')} has no commit {version}")
        return found.stdout.decode().strip()
    if not (folder() / "releases" / version).is_dir():
        raise Refused(f"there is no release {version} in {folder() / 'releases'}")
    return version


def older(version: str, than: str) -> bool | None:
    """Whether `version` is an ancestor of `than`, or the same; None: nobody can tell."""
    if version == than:
        return True
    if not setting("REPO"):
        return False
    return {0: True, 1: False}.get(git("merge-base", "--is-ancestor", version, than).returncode)


def make(version: str) -> None:
    """Have releases/<version>/ whole, or not at all."""
    whole = folder() / "releases" / version
    if whole.is_dir():
        return
    part = whole.with_name(f".{version}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    packed = git("archive", "--format=tar", version)
    unpacked = subprocess.run(["tar", "-x", "-C", str(part)], input=packed.stdout, check=False)
    if packed.returncode or unpacked.returncode:
        shutil.rmtree(part, ignore_errors=True)
        raise Refused(f"git archive of {short(version)} failed: {packed.stderr.decode('utf-8', 'replace').strip()}")
    part.rename(whole)


def points_to(link: str) -> str:
    """The version a symlink stands for; empty: there is none."""
    try:
        return (folder() / link).readlink().name
    except OSError:
        return ""


def switch(link: str, version: str) -> None:
    """Point the symlink at a version, atomically; no version: take it away."""
    path = folder() / link
    if version:
        new = path.with_name(f"{link}.new")
        new.unlink(missing_ok=True)
        new.symlink_to(Path("releases") / version)
        new.rename(path)
    else:
        path.unlink(missing_ok=True)
    sync_folder()


class Transport(xmlrpc.client.Transport):
    """XML-RPC with a time limit, over TCP or a socket in the file system."""

    path = ""

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = super().make_connection(host)
        connection.timeout = CALL_LIMIT_S
        if self.path:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(CALL_LIMIT_S)
            connection.sock.connect(self.path)
        return connection


def supervisor(method: str, *words: Any) -> Any:
    """Ask supervisord. Stopping what does not run is done already."""
    url, transport = setting("SUPERVISOR"), Transport()
    if url.startswith("unix://"):
        transport.path, url = url.removeprefix("unix://"), "http://localhost/RPC2"
    try:
        with xmlrpc.client.ServerProxy(url, transport=transport) as server:
            return getattr(server.supervisor, method)(*words)
    except xmlrpc.client.Fault as fault:
        if method == "stopProcess" and fault.faultCode == NOT_RUNNING:
            return None
        raise Failed(f"supervisord: {method} {' '.join(map(str, words[:1]))}: {fault.faultString}") from fault
    except xmlrpc.client.ProtocolError as error:  # its own words hold the URL, which may hold a password
        raise Failed(f"supervisord answered {error.errcode} {error.errmsg}") from error
    except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
        raise Failed(f"supervisord does not answer: {error}") from error


def haproxy(command: str) -> str:
    """Ask HAProxy's runtime API. What it says to a change is an error."""
    where = setting("HAPROXY")
    try:
        host, _, port = where.rpartition(":")
        with socket.socket(socket.AF_UNIX if where.startswith("/") else socket.AF_INET) as line:
            line.settimeout(2)
            line.connect(where if where.startswith("/") else (host or "127.0.0.1", int(port)))
            line.sendall(f"{command}\n".encode())
            answer = b"".join(iter(lambda: line.recv(65536), b"")).decode("utf-8", "replace").strip()
    except (OSError, ValueError) as error:
        raise Failed(f"HAProxy at {where} does not answer: {error}") from error
    if command.startswith("set ") and answer:
        raise Failed(f"HAProxy: {command}: {answer}")
    return answer


def in_haproxy(process: str) -> str:
    """HAProxy's name of a process."""
    return f"{setting('BACKEND', 'web')}/{process.rpartition(':')[2]}"


def stat(process: str) -> dict[str, str]:
    """HAProxy's line about a process."""
    for row in csv.DictReader(haproxy("show stat").removeprefix("# ").splitlines()):
        if f"{row['pxname']}/{row['svname']}" == in_haproxy(process):
            return row
    raise Failed(f"HAProxy has no server {in_haproxy(process)}")


def weigh(percent: int) -> None:
    """Give the canary that share of the traffic. HAProxy's weights end at 256."""
    shares = {setting("CANARY"): percent * len(processes()), **dict.fromkeys(processes(), 100 - percent)}
    most = max(shares.values())
    for process, share in shares.items():
        haproxy(f"set server {in_haproxy(process)} weight {round(share * min(1.0, 256 / most))}")


def weighed() -> int:
    """The canary's share of the traffic, in per cent, as HAProxy has it: it forgets what was set when it restarts."""
    weights = {name: int(stat(name)["weight"]) for name in (setting("CANARY"), *processes())}
    return round(100 * weights[setting("CANARY")] / max(1, sum(weights.values())))


def health(process: str) -> str:
    """Where a process says that it is well; empty: nowhere."""
    if process == setting("CANARY"):
        where = setting("CANARY_HEALTH")
    else:
        where = dict(zip(processes(), setting("HEALTH").split(), strict=False)).get(process, "")
    return f"http://127.0.0.1:{where}/healthz" if where.isdigit() else where


def well(url: str) -> bool:
    """Whether it answers 200."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=1) as answer:
            return int(answer.status) == 200
    except (OSError, http.client.HTTPException, ValueError):
        return False


def stop_if_aborted(row: Row) -> None:
    """Raise Failed if somebody asked for this deployment to be aborted."""
    with contextlib.suppress(OSError):
        wanted, _, words = (folder() / "abort").read_text("utf-8").partition("\n")
        if wanted == row["id"]:
            raise Failed(f"aborted {words}")


def wait_until(is_so: Callable[[], bool], limit_s: float, row: Row, words: str) -> None:
    """Return when it is so; raise Failed when it is not in time, or when the deployment is aborted."""
    deadline = time.monotonic() + limit_s
    while not is_so():
        stop_if_aborted(row)
        if time.monotonic() >= deadline:
            raise Failed(f"{words} in {limit_s:g} s")
        time.sleep(0.1)


def is_stale(process: str) -> bool:
    """Whether a process does not run, or may have been started before the symlink was switched last."""
    if not setting("SUPERVISOR"):
        return False
    state = supervisor("getProcessInfo", process)
    switched = (folder() / "current").lstat().st_mtime if points_to("current") else 0.0
    return state["statename"] != "RUNNING" or int(state["start"]) <= switched


def restart(process: str, row: Row) -> None:
    """Take a process out of the traffic, start it anew, and put it back when it is well."""
    stop_if_aborted(row)
    behind = bool(setting("HAPROXY")) and len(processes()) > 1 and process in processes()
    if behind:
        haproxy(f"set server {in_haproxy(process)} state drain")
        with contextlib.suppress(Failed):  # what still talks after that is cut off
            wait_until(lambda: stat(process)["scur"] == "0", DRAIN_LIMIT_S, {"id": ""}, "still busy")
    try:
        if setting("SUPERVISOR"):
            supervisor("stopProcess", process, True)
            supervisor("startProcess", process, True)
        confirm(process, row)
    finally:
        if behind:
            haproxy(f"set server {in_haproxy(process)} state ready")
    if behind:
        up = ("UP", "no check")
        wait_until(lambda: stat(process)["status"] in up, seconds("HEALTHY_S", 10), row, f"HAProxy sees {process} down")
    tell(f"{row['id']}: {process} runs {short(row['version'])}")


def confirm(process: str, row: Row) -> None:
    """Wait until a process is well. Raises Failed."""
    if url := health(process):
        wait_until(lambda: well(url), seconds("HEALTHY_S", 10), row, f"{process} did not become healthy")
