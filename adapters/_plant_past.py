"""What a line of the plant has behind it when the world begins: thirty days of changes and deployments."""

import random
from typing import TYPE_CHECKING

import msgspec

from adapters._plant_things import HOSTS, Piece, Rollout, Task
from adapters._plant_trade import DAY_S, HOSTILE, title
from andon.clock import Time

if TYPE_CHECKING:
    from adapters._plant_shop import Shop

PAST_S = 30 * DAY_S
LAST_RUNS = 6
"""The runs of that many changes before the start can still be seen."""


def live_through(shop: "Shop") -> None:
    """Give a new shop its past. It draws from a generator of its own, so that the future does not depend on it."""
    dice = random.Random(f"{shop.seed}/{shop.line}/past")  # noqa: S311  a shop, not a secret
    last = shop.start - dice.uniform(2400.0, 9000.0)
    at = shop.start - PAST_S - dice.uniform(3600.0, 90000.0)
    while at < last - 4 * 3600.0:
        # The oldest version is a sound one: a shop must have something to go back to.
        harm = dice.choice(shop.trade.harms) if shop.rollouts and dice.random() < 0.05 else ""
        _ship_batch(shop, dice, at, harm)
        at = max(at + dice.uniform(3.0, 13.0) * 3600.0, shop.time + 2 * 3600.0)
    _ship_batch(shop, dice, last, "")
    quoted = shop.commits[-2]
    quoted.change = msgspec.structs.replace(quoted.change, title=HOSTILE[len(shop.line) % len(HOSTILE)])
    _last_runs(shop, dice)
    shop.time = shop.start


def _ship_batch(shop: "Shop", dice: random.Random, at: Time, harm: str) -> None:
    """One to three changes and their deployment; with a defect also the way back, and the fix."""
    befores = sorted((dice.uniform(400.0, 5400.0) for _ in range(dice.choice((1, 1, 2, 2, 3)))), reverse=True)
    for order, before in enumerate(befores):
        brings = harm if order == len(befores) - 1 else ""
        name, author = title(shop.trade, dice), dice.choice(shop.trade.authors)
        shop.trunk.record(name, author, at - before, brings).built = True
    number = len(shop.commits) - 1
    author = shop.commits[number].change.author
    good = shop.rollouts[-1].number if shop.rollouts else number
    _put(shop, number, at, author, good, verified=not harm)
    if harm:
        _put(shop, good, at + dice.uniform(480.0, 1200.0), "andon", number, verified=True)
        broken = shop.commits[number]
        mend = shop.trunk.record(f'Revert "{broken.change.title}"', author, shop.time + dice.uniform(300.0, 900.0))
        mend.built, mend.mends, broken.mended_by = True, number, number + 1
        _put(shop, number + 1, mend.change.at + 900.0, author, good, verified=True)


def _put(shop: "Shop", number: int, at: Time, by: str, before: int, *, verified: bool) -> None:
    id_ = f"{shop.world}-{shop.line}-d{len(shop.rollouts) + 1}"
    words = f"{HOSTS} of {HOSTS} hosts"
    shop.rollouts.append(Rollout(id_, number, "settled", at, by, before, verified=verified, words=words))
    shop.time = at
    shop.hosts = [number] * HOSTS
    shop.measure()


def _last_runs(shop: "Shop", dice: random.Random) -> None:
    """The runs of the last changes before the start, all of them passed."""
    for number in range(len(shop.commits) - LAST_RUNS, len(shop.commits)):
        change = shop.commits[number].change
        begins = change.at
        tasks = []
        for name, lasts in (("image", 48.0), ("lint", 12.0), ("unit", 43.0), ("integration", 68.0)):
            station = "build" if name == "image" else "test"
            tasks.append(Task(station, name, lasts, "", "passed", begins, begins + lasts))  # type: ignore[arg-type]
            begins += lasts
        shipped = min(item.at for item in shop.rollouts if item.number >= number and item.at >= change.at)
        lasts = dice.uniform(*shop.trade.roll_s)
        tasks.append(Task("deploy", "roll", lasts, "", "passed", shipped, shipped + lasts))
        shop.runs += 1
        id_ = f"{shop.world}-{shop.line}-{shop.runs}"
        shop.pieces[id_] = Piece(
            id_, number, change.at, tasks, change.author, "passed", shipped + lasts, f"live on {HOSTS} of {HOSTS} hosts"
        )
