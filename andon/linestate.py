"""In which of its four states a line is, from its board, its config and when its halting targets were last read."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from andon.board import Line
from andon.clock import Time
from andon.model import TargetId
from andon.ports import Pulse

LineState = Literal["running", "stopping", "stopped", "unknown"]
FRESH_INTERVALS = 5
"""A halt target that was not read for so many of its intervals is not known."""


def pulse_key(target: TargetId) -> str:
    """Under which key the reads of a halt target are noted."""
    return f"target:{target}"


class Halting(Protocol):
    """What a stop halts, as far as it is asked for here."""

    @property
    def target(self) -> TargetId:
        """What it is called."""

    @property
    def every_s(self) -> float:
        """How often it is read."""


class Halts(Protocol):
    """A line's config, as far as its state depends on it."""

    @property
    def halting(self) -> Sequence[Halting]:
        """What a stop halts."""

    @property
    def targets(self) -> tuple[TargetId, ...]:
        """The names of what a stop halts."""


def state(line: Line, config: Halts, pulses: Mapping[str, Pulse], now: Time, least_s: float = 0.0) -> LineState:
    """In which of its four states a line is. A read younger than `least_s` is fresh, however short the intervals."""
    if line.open_holds:
        return "stopped" if all(stands(line, target) for target in config.targets) else "stopping"
    for entry in config.halting:
        pulse = pulses.get(pulse_key(entry.target))
        if pulse is None or abs(now - pulse.at) > max(FRESH_INTERVALS * entry.every_s, least_s):
            return "unknown"
    halted = (line.halted.get(target) for target in config.targets)
    return "stopped" if any(item is not None and any(p.halted for p in item.parts) for item in halted) else "running"


def stands(line: Line, target: TargetId) -> bool:
    """Whether a read has confirmed that a target stands for the stop that lasts now."""
    return line.stands(target)
