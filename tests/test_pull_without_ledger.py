"""`andon pull` stops a line also when there is no ledger to record it in, and says that it did not record it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.sqlite import SqliteLedger
from andon.clock import WallClock
from tests.ledgers import HandClock, programs, seen

ANDON = Path(sys.executable).with_name("andon")
CONFIG = """
connections:
  shop: {adapter: command, halt: [./halt], release: [./halt], halted: [./halted]}
lines:
  shop: {ci: [{from: shop, halts: [ship]}]}
"""
HALT = "#!/bin/sh\necho halted >>halts\n"
HALTED = '#!/bin/sh\nprintf \'{"parts":[{"name":"ship","halted":%s}]}\' "$([ -s halts ] && echo true || echo false)"\n'
LOCKER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA locking_mode = EXCLUSIVE")
db.execute("BEGIN EXCLUSIVE")
db.execute("UPDATE meta SET value = value")
print("locked")
sys.stdin.readline()
"""


def garbage(ledger: Path) -> None:
    ledger.write_bytes(b"not a ledger" * 1000)


def damage(ledger: Path) -> None:
    made = SqliteLedger(ledger, WallClock())
    made.commit(*(seen("x" * 400) for _ in range(100)))
    made.close()
    content = bytearray(ledger.read_bytes())
    content[4096 : 12 * 4096] = bytes(11 * 4096)
    ledger.write_bytes(content)


def newer(ledger: Path) -> None:
    made = SqliteLedger(ledger, HandClock())
    made._db.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    made.close()


@pytest.mark.parametrize("harm", [garbage, damage, newer, "lock"])
def test_a_line_is_stopped_when_the_ledger_cannot_be_used(tmp_path: Path, harm: Callable[[Path], None] | str) -> None:
    for name, content in (("andon.yaml", CONFIG), ("halt", HALT), ("halted", HALTED)):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o700)
    ledger = tmp_path / "ledger.db"
    command = [ANDON, "-c", tmp_path / "andon.yaml", "--ledger", ledger]
    command += ["pull", "shop", "--reason", "x", "--wait", "1s"]
    with programs() as start:
        if isinstance(harm, str):
            SqliteLedger(ledger, WallClock()).close()
            assert start(LOCKER, ledger).stdout.readline() == "locked\n"
        else:
            harm(ledger)
            ledger.chmod(0o600)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert "Traceback" not in done.stderr
    assert done.returncode == 2
    assert "not recorded" in done.stderr
    assert (tmp_path / "halts").read_text().startswith("halted")
