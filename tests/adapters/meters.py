"""What a call costs: how long the loop was held up, and how much memory it took at most."""

import asyncio
import ctypes
import gc
import time
from pathlib import Path
from typing import Self

_SELF = Path("/proc/self")
CAN_WEIGH = (_SELF / "clear_refs").exists()
"""Linux only: the peak of a process can be set back."""


class Heart:
    """A heartbeat in the loop that is measured. To be used as a context."""

    cpu_s = 0.0
    """The longest that the loop's thread was busy between two beats: what others take of the machine does not count."""
    wall_s = 0.0
    """The longest between two beats."""

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._beat())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0.005)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _beat(self) -> None:
        wall, cpu = time.perf_counter(), time.thread_time()
        while True:
            await asyncio.sleep(0.002)
            wall, before = time.perf_counter(), wall
            self.wall_s = max(self.wall_s, wall - before)
            cpu, before = time.thread_time(), cpu
            self.cpu_s = max(self.cpu_s, cpu - before)


class Scales:
    """The most memory that was taken meanwhile, in MiB. To be used as a context."""

    mib = 0.0

    def __enter__(self) -> Self:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what was freed before must not hide what is taken now
        (_SELF / "clear_refs").write_text("5")
        self._before = _status("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        self.mib = (_status("VmHWM") - self._before) / 1024


def _status(name: str) -> int:
    lines = (_SELF / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))
