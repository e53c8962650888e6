"""One line over a CI at which nothing happens, for what is measured of a room in use; beside it, where that is asked for,
lines on which much happens.
"""

import contextlib
import http.client
import json
import os
import queue
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Self

from adapters.sqlite import SqliteLedger
from andon.clock import WallClock
from andon.events import HaltedSeen
from andon.model import Halted, Part
from benchmarks import noise
from benchmarks.measure import ANDON, ROOT, environment
from benchmarks.terminal import Session

_CONFIG = """\
connections:
  ci: {{adapter: buildbot, url: "http://127.0.0.1:{port}"}}
  noise: {{adapter: command, ci_watch: [sh, -c, 'exec cat "{pipes}/$ANDON_LINE"']}}
lines:
  shop:
    environment: production
    ci: [{{from: ci, builders: {{deploy: deploy}}, halts: [deploy]}}]
"""
_NOISY = """\
  {line}: {{environment: production, ci: [{{from: noise}}]}}
"""


class QuietShop:
    """The CI, a config over it, and an empty ledger."""

    def __init__(self, folder: Path, *, noisy: int = 0, a_second: float = 0.0) -> None:
        """`noisy`: on how many other lines things happen, `a_second` in all."""
        self.folder = folder
        self.noisy, self.a_second = noisy, a_second
        self._noise: subprocess.Popen[str] | None = None
        self.env = environment(folder)
        self._told: queue.SimpleQueue[tuple[float, str]] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        argv = [sys.executable, "-m", "benchmarks.ci_stub"]
        pipe = subprocess.PIPE
        self._ci = subprocess.Popen(argv, cwd=ROOT, env=self.env, stdin=pipe, stdout=pipe, text=True)
        assert self._ci.stdout is not None
        self.port = int(self._ci.stdout.readline())
        self._reader = threading.Thread(target=self._read, name="ci", daemon=True)
        self._reader.start()
        self._line = http.client.HTTPConnection("127.0.0.1", self.port)
        self.ledger = self.folder / "ledger.db"
        config = self.folder / "andon.yaml"
        pipes = self.folder / "pipes"
        content = _CONFIG.format(port=self.port, pipes=pipes)
        config.write_text(content + "".join(_NOISY.format(line=name) for name in noise.names(self.noisy)))
        config.chmod(0o600)
        if self.noisy:
            self._noise = self._begin_noise(pipes)
        self.argv = [ANDON, "-c", str(config), "--ledger", str(self.ledger), "--as", "ann"]
        return self

    def __exit__(self, *_: object) -> None:
        self._line.close()
        if self._noise is not None:
            with contextlib.suppress(BrokenPipeError):
                self._noise.communicate()
        assert self._ci.stdin is not None
        self._ci.stdin.close()
        self._ci.wait()
        self._reader.join()

    def _begin_noise(self, pipes: Path) -> "subprocess.Popen[str]":
        pipes.mkdir()
        for name in noise.names(self.noisy):
            os.mkfifo(pipes / name)
        argv = [sys.executable, "-m", "benchmarks.noise", str(pipes), str(self.noisy), str(self.a_second)]
        return subprocess.Popen(argv, cwd=ROOT, env=self.env, stdin=subprocess.PIPE, text=True)

    def recorded(self) -> int:
        """How many events the ledger holds."""
        with contextlib.closing(sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True)) as ledger:
            return int(ledger.execute("SELECT max(seq) FROM events").fetchone()[0])

    def room(self) -> Session:
        """The room, being opened."""
        return Session(self.argv, self.env)

    def reads_take(self, seconds: float) -> None:
        """How long the CI takes for each read from now on."""
        assert self._ci.stdin is not None
        self._ci.stdin.write(f"{seconds}\n")
        self._ci.stdin.flush()

    def told(self, method: str, within_s: float) -> float | None:
        """When the CI was next told `method`; None: not within that time."""
        deadline = time.monotonic() + within_s
        try:
            while True:
                at, found = self._told.get(timeout=max(0.0, deadline - time.monotonic()))
                if found == method:
                    return at
        except queue.Empty:
            return None

    def plain_post_ms(self) -> float:
        """How long a POST takes to reach the CI, from a program that has nothing else to do."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "nothing", "params": {}})
        began = time.monotonic()
        self._line.request("POST", "/api/v2/workers/1", body, {"Content-Type": "application/json"})
        self._line.getresponse().read()
        at = self.told("nothing", 5)
        if at is None:
            raise SystemExit("the CI does not say that it was told something")
        return (at - began) * 1000

    def resume(self) -> None:
        """Lift the hold by the command line, which waits until a read has confirmed it."""
        argv = [*self.argv, "resume", "shop", "--all", "--reason", "next", "--wait", "60"]
        done = subprocess.run(argv, env=self.env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"andon resume: exit {done.returncode}: {done.stdout}{done.stderr}")

    def age(self, seconds: float) -> None:
        """Have the target stand as it does since so many seconds, as the ledger of a calm day says."""
        clock = WallClock()
        at = clock.now() - seconds
        ledger = SqliteLedger(self.ledger, clock)
        ledger.commit(HaltedSeen("shop", at, "ci/deploy", Halted((Part("deploys", halted=False),), at)))
        ledger.close()

    def _read(self) -> None:
        assert self._ci.stdout is not None
        for line in self._ci.stdout:
            at, method = line.split()
            self._told.put((float(at), method))
