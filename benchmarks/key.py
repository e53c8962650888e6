"""How long F9 takes: from the key's bytes in the terminal to the halt's first line at the CI, through the whole room."""

import random
import tempfile
import time
from pathlib import Path

from benchmarks.measure import Row, forth_and_back, row
from benchmarks.quiet_shop import QuietShop
from benchmarks.terminal import Session

F9, REDRAW = b"\x1b[20~", b"\x0c"
PRESSES, STALLED, SLOW = 50, 3, 10
LIMIT_S = 20.0
"""A press that has not arrived by then is missing."""

CALM_S = 120.0
"""How long nothing has changed at the target before a press on a calm day."""

SLOW_READ_S = 0.25

NOISY, A_SECOND = 20, 1000.0
"""On how many other lines things happen meanwhile, and how many in a second."""

Times = list[float | None]


def f9(rounds: int = 1) -> list[Row]:
    """The key on a calm day and soon after another stop, with a CI that answers slowly, and in a frozen terminal."""
    plain: Times = []
    took: dict[str, Times] = {"calm": [], "soon": [], "slow": [], "stalled": []}
    held = 0
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name, QuietShop(Path(name)) as shop, shop.room() as room:
            room.wait_for(lambda text: b"F9" in text and b"1 line runs" in text, "the room, with a line that runs")
            hand = Hand(shop, room)
            for case in forth_and_back(["calm", "soon"], PRESSES):
                plain.append(shop.plain_post_ms())
                took[case].append(hand.press_ms(calm=case == "calm"))
            shop.reads_take(SLOW_READ_S)
            took["slow"] += [hand.press_ms(calm=True) for _ in range(SLOW)]
            shop.reads_take(0.0)
            held = room.stall(REDRAW)
            took["stalled"] += [hand.press_ms(calm=True) for _ in range(STALLED)]
    base, calm = ("a plain POST", plain), ("calm", took["calm"])
    notes = {
        "calm": f"nothing changed at the target for {CALM_S:g} s",
        "soon": "the target was halted and released within the last minute",
        "slow": f"calm, and the CI takes {SLOW_READ_S * 1000:g} ms for each read",
        "stalled": f"calm, and nobody reads the terminal: {held:,} bytes lie in it",
    }
    return [
        row("f9", "a plain POST", "ms", plain, tail=True),
        row("f9", "calm", "ms", took["calm"], tail=True, base=base, note=notes["calm"]),
        row("f9", "soon", "ms", took["soon"], tail=True, base=base, note=notes["soon"]),
        row("f9", "slow CI", "ms", took["slow"], base=calm, note=notes["slow"]),
        row("f9", "stalled", "ms", took["stalled"], base=calm, note=notes["stalled"]),
    ]


def busy(rounds: int = 1) -> list[Row]:
    """The key while a thousand things a second happen on other lines, each of them recorded."""
    plain: Times = []
    took: Times = []
    arrived: Times = []
    for _ in range(rounds):
        with (
            tempfile.TemporaryDirectory() as name,
            QuietShop(Path(name), noisy=NOISY, a_second=A_SECOND) as shop,
            shop.room() as room,
        ):
            room.wait_for_all([b"stop shop", f"{NOISY + 1} lines run".encode()], room.began)
            hand = Hand(shop, room)
            before, began = shop.recorded(), time.monotonic()
            for _ in range(PRESSES):
                plain.append(shop.plain_post_ms())
                took.append(hand.press_ms(calm=False))
                room.forget()
            arrived.append((shop.recorded() - before) / (time.monotonic() - began))
    promised = "promised: median at most 10, p99 at most 50"
    return [
        row("busy", "a plain POST", "ms", plain, tail=True),
        row("busy", "F9", "ms", took, tail=True, base=("a plain POST", plain), note=promised),
        row("busy", "recorded meanwhile", "events/s", arrived, note=f"of {A_SECOND:g} a second that happened"),
    ]


class Hand:
    """Who presses, and puts everything back."""

    def __init__(self, shop: QuietShop, room: Session) -> None:
        self.shop = shop
        self.room = room
        self.dice = random.Random(5)

    def press_ms(self, *, calm: bool) -> float | None:
        """Press F9; returns milliseconds until the CI was told to halt, None if it was not. Then the line is resumed."""
        if calm:
            self.shop.age(CALM_S)
        time.sleep(self.dice.uniform(0.3, 0.5))  # the room has seen what was written; no step is kept with its clocks
        pressed = self.room.type(F9)
        at = self.shop.told("pause", LIMIT_S)
        self.shop.resume()
        return None if at is None else (at - pressed) * 1000
