"""Where a metric is expected to be, bucket by bucket: what the judge was armed with, else the bounds a person gave."""

import bisect
import math
from collections.abc import Sequence
from typing import NamedTuple

from andon.board import Line
from andon.clock import Time
from andon.events import Armed
from andon.model import Metric


class Expected(NamedTuple):
    """What is expected of a metric for a time, as a person reads it."""

    begin: Time
    end: Time
    low: float
    high: float
    usual: float | None = None
    """The middle of it; None where only bounds are known."""

    def beyond(self, value: float, bad: str = "") -> bool:
        """Whether a value lies outside; with `bad` (`falls`, `rises`) only on that side."""
        return (bad != "rises" and value < self.low) or (bad != "falls" and value > self.high)


class Band(NamedTuple):
    """The expectation over time, oldest first, without overlaps."""

    steps: tuple[Expected, ...] = ()
    fixed: bool = False
    """Whether they are bounds that a person gave: the same at every time."""

    def at(self, when: Time) -> Expected | None:
        """What was expected then; None: nothing was."""
        if self.fixed:
            return self.steps[0]
        index = bisect.bisect_right(self.steps, when, key=lambda step: step.begin) - 1
        return self.steps[index] if index >= 0 and when < self.steps[index].end else None

    def edges(self, start: Time, end: Time) -> list[float]:
        """The finite edges within a time."""
        return [
            value
            for step in self.steps
            if step.end > start and step.begin < end
            for value in (step.low, step.high)
            if math.isfinite(value)
        ]

    def named(self, end: Time) -> list[float]:
        """The values that are written beside a chart: a person's bounds, or what is usual at the end of it."""
        if self.fixed:
            return self.edges(-math.inf, math.inf)
        known = [step.usual for step in self.steps if step.begin < end and step.usual is not None]
        return known[-1:]


def band_of(line: Line, metric: Metric) -> Band:
    """What was expected of a metric of a line, as far as the board still knows it."""
    if metric.threshold is not None:
        bounds = metric.threshold
        low = -math.inf if bounds.below is None else bounds.below
        high = math.inf if bounds.above is None else bounds.above
        return Band((Expected(-math.inf, math.inf, low, high),), fixed=True)
    # A return is armed in the middle of the incident: what was expected before it is what it has to come back to.
    back = {item.id for item in line.deployments if item.id in line.watches and line.went_back(item)}
    armed = [watch.armed.get(metric.name) for id_, watch in line.watches.items() if id_ not in back]
    return armed_band([one for one in armed if one is not None])


def armed_band(armed: Sequence[Armed]) -> Band:
    """The band of armed watches; where two overlap, that of the later deployment holds."""
    found: list[Expected] = []
    for one in sorted(armed, key=lambda item: item.first):
        while found and found[-1].begin >= one.first:
            found.pop()
        if found and found[-1].end > one.first:
            found[-1] = found[-1]._replace(end=one.first)
        found += [
            Expected(one.first + index * one.every, one.first + (index + 1) * one.every, low, high, usual)
            for index, (low, high, usual) in enumerate(zip(one.low, one.high, one.expected, strict=False))
        ]
    return Band(tuple(found))
