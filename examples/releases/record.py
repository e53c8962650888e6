"""The record of deployments, and the lock under which all changes happen.

`deployments.jsonl` is append-only: a later line about a deployment adds to the earlier ones, so that a reader needs no
lock. Whoever has the lock may write; it ends with the process that has it, however that ends.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable

from settings import Conflict, Row, folder


def record() -> tuple[dict[str, Row], dict[str, str]]:
    """Deployments by id, oldest first, and which deployment each key began. A line torn by a crash is passed over."""
    rows: dict[str, Row] = {}
    keys: dict[str, str] = {}
    try:
        lines = (folder() / "deployments.jsonl").read_bytes().split(b"\n")
    except FileNotFoundError:
        lines = []
    for line in lines:
        try:
            row = json.loads(line)
            rows[row["id"]] = {**rows.get(row["id"], {}), **row}
        except (ValueError, TypeError, KeyError):
            continue
        if row.get("key"):
            keys[row["key"]] = row["id"]
    return rows, keys


def write(row: Row) -> None:
    """Append to the record; it is on the disk when this returns."""
    path = folder() / "deployments.jsonl"
    with path.open("ab+") as handle:
        torn = False
        if handle.tell():
            handle.seek(-1, os.SEEK_END)
            torn = handle.read(1) != b"\n"
        handle.write((b"\n" if torn else b"") + json.dumps(row).encode() + b"\n")
        handle.flush()
        os.fsync(handle.fileno())
    sync_folder()


def sync_folder() -> None:
    """Have the names in the folder on the disk."""
    descriptor = os.open(folder(), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def newest(rows: dict[str, Row]) -> Row | None:
    """What is current: the newest deployment that did not fail."""
    return next((row for row in reversed(rows.values()) if row["state"] != "failed"), None)


def take(wait_s: float, meanwhile: Callable[[], None] = lambda: None) -> int | None:
    """The lock, as a descriptor to close; None if somebody had it all the time. `meanwhile` may raise Conflict."""
    folder().mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder() / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    deadline = time.monotonic() + wait_s
    try:
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            meanwhile()
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return None
            time.sleep(0.05)
    except Conflict:
        os.close(descriptor)
        raise


def background() -> bool:
    """Go on in a process of its own, which keeps the lock that this one has; True in that one."""
    if os.fork():
        return False
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(folder() / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    return True
