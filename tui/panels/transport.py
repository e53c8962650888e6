"""Where a replay is: in the top bar instead of the clock, and in the row where a live room has its danger keys."""

import time

from tui.moment import Moment, Playing
from tui.panels.sheet import Sheet, width_of


def speed_words(playing: Playing) -> str:
    """How fast it goes: `8 ×`, `paused`."""
    return "paused" if playing.paused else f"{playing.speed:g} ×"


def replay_words(playing: Playing, room: int) -> str:
    """`REPLAY 23 Nov 13:50:12, 8 ×`; in a narrow place less, but never without the word and the time."""
    local = time.localtime(playing.at)
    clock, day = time.strftime("%H:%M:%S", local), f"{local.tm_mday} {time.strftime('%b', local)}"
    whole = f"REPLAY {day} {clock}, {speed_words(playing)}"
    return whole if width_of(whole) <= room else f"REPLAY {clock}"


def transport(moment: Moment, playing: Playing, sheet: Sheet) -> None:
    """One row: how far it is, and what happened last."""
    sheet.ground(0, "warnchip")
    width = max(8, sheet.width // 5)
    share = (playing.at - playing.since) / max(0.001, playing.until - playing.since)
    full = max(0, min(width, round(width * share)))
    x = sheet.put(1, 0, "REPLAY", "warn", bold=True)
    x = sheet.put(x + 1, 0, "━" * full, "warn", bold=True)
    x = sheet.put(x, 0, "─" * (width - full), "mid")
    x = sheet.put(x + 1, 0, f"{playing.done} of {playing.count}", "mid")
    over = playing.at >= playing.until
    words = "the end; " if over else ""
    sheet.put(x + 2, 0, words + (playing.last or "nothing has happened yet"), "fg", most=sheet.width - x - 3)
