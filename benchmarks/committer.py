"""A process that commits an event now and then, and prints when it began to: `python -m benchmarks.committer FILE N`."""

import random
import sys
import time
from pathlib import Path

from adapters.sqlite import SqliteLedger
from andon.clock import WallClock
from andon.events import SourceSeen


def main(path: str, count: int) -> None:
    """Commit `count` events, 0.15 to 0.35 s apart, so that they keep no step with whoever looks."""
    clock = WallClock()
    ledger = SqliteLedger(Path(path), clock)
    dice = random.Random(3)
    for number in range(count):
        time.sleep(dice.uniform(0.15, 0.35))
        event = SourceSeen("shop", clock.now(), str(number), "ok")
        at = time.monotonic()
        ledger.commit(event)
        print(number, at, flush=True)
    ledger.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
