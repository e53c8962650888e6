"""Times, people and numbers as the room writes them."""

import time
import unicodedata

from andon.clock import Time, age
from andon.immune.threshold import number
from andon.model import Metric, Sample
from andon.rollback import short
from tui.panels.sheet import width_of

__all__ = ["ago", "clock", "hash4", "login", "moment_of", "number", "second_of", "short", "shown", "steady", "value"]

DAY_S = 86400.0


def clock(at: Time, now: Time | None = None) -> str:
    """Local time: `14:02`; with `now`, `13 Nov 14:02` once it is older than a day."""
    local = time.localtime(at)
    if now is not None and now - at > DAY_S:
        return f"{local.tm_mday} {time.strftime('%b %H:%M', local)}"
    return time.strftime("%H:%M", local)


def second_of(at: Time | None) -> str:
    """Local time with seconds, for timelines and proofs; empty for None."""
    return "" if at is None else time.strftime("%H:%M:%S", time.localtime(at))


def moment_of(at: Time, now: Time) -> str:
    """For a timeline: with seconds within a day, else with the date."""
    return second_of(at) if now - at <= DAY_S else time.strftime("%d %b", time.localtime(at))


def ago(seconds: float) -> str:
    """For a sentence: `40 s`, `12 min`, `3 h`, `6 d`."""
    words = age(seconds)
    return words[:-1] + "min" if words.endswith(" m") else words


def login(who: str) -> str:
    """A person's login, up to 8 signs."""
    name = who.partition("@")[0].strip()
    return name if len(name) <= 8 else name[:7] + "…"


def hash4(version: str) -> str:
    """The first signs of a change, for a piece: always 4."""
    return version[:4].ljust(4)


def steady(version: str) -> str:
    """A version, short, for where a key acts on it: every terminal puts each of its signs into the same cell.

    Signs that some draw wider than others, or from right to left, are `?`.
    """
    text = short(version)
    return text if text.isascii() else "".join(char if _is_steady(char) else "?" for char in text)


def _is_steady(char: str) -> bool:
    kind = unicodedata.category(char)
    if kind in ("So", "Sk") or unicodedata.bidirectional(char) in ("R", "AL", "AN"):
        return False
    return (kind[0] in "LPS" or kind == "Nd") and width_of(char) > 0


def shown(metric: Metric, sample: Sample) -> float | None:
    """The number a person reads."""
    return sample.shown(metric.kind)


def value(metric: Metric, sample: Sample, width: int) -> str:
    """The value with its unit in at most `width` cells; without its unit if it does not fit, else nothing."""
    found = sample.shown(metric.kind)
    if found is None:
        return "–"
    text = number(found, metric)
    if len(text) > width:
        parts = text.split(" ")
        plain = " ".join(parts[:2]) if len(parts) > 1 and parts[1] == "k" else parts[0]
        text = plain if len(plain) <= width else ""
    return text
