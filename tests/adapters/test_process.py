"""A program that is not wanted any more, whenever that is said: it ends, with all that it started."""

import asyncio
import os
import signal
from pathlib import Path

from adapters import _process
from tests.helpers import until

WAITS = ["sh", "-c", "sleep 600 & echo $$ $! >pids; wait"]


def runs(pid: int) -> bool:
    """Whether a process is there and is more than an entry nobody has asked for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_start_that_is_cut_in_its_middle_ends_at_once_and_leaves_nobody(tmp_path):
    """In 3.11 asyncio itself waits for ever for a program whose start was cancelled."""
    left: list[int] = []
    for steps in range(16):
        (folder := tmp_path / str(steps)).mkdir()
        env = {"PATH": os.environ["PATH"]}
        task = asyncio.create_task(_process.run(WAITS, folder, env, b"x", limit_s=60, most=1000))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=20)
        assert done, f"cancelled after {steps} steps, it did not end"
        told = folder / "pids"
        pids = [int(pid) for pid in told.read_text().split()] if told.exists() else []
        left += pids
    try:
        await until(lambda: not [pid for pid in left if runs(pid)], 20)
    finally:
        for pid in left:
            if runs(pid):
                os.kill(pid, signal.SIGKILL)
