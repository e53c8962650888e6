"""What each family of scenarios is made of. Add one here; nothing else need know of it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.judging import crowds, dates, harm, reporting, trouble
from benchmarks.judging.play import Play

Event = Callable[[Play], None]


@dataclass(frozen=True)
class Family:
    """How the scenarios of one name are written."""

    group: str
    """`plain`, `confounded`, `beyond` (what one metric cannot tell), `bad`, `known` or `known bad`."""
    events: tuple[Event, ...] = ()
    metrics: tuple[str, ...] = ()
    """Which ones may be judged; all, if none is named."""
    steps: tuple[float, ...] = ()
    """Seconds a bucket, if not the usual mixture of 10, 30 and 60."""
    history_h: tuple[float, float] | None = None
    """Hours, if not one to fifteen days."""
    watch_s: float = 1800.0
    within_s: float = 1800.0
    """A harm has to be found in this time."""
    moment: Callable[[np.random.Generator, float], float] | None = None
    """When the deployment is, if not at any time of the week."""
    among_others: bool = False
    """One of several metrics, of which the others stay as they are."""
    times: float = 1.0
    """How many scenarios for each one of `--n`."""

    @property
    def flat(self) -> bool:
        """A known model: no season, and no noise but that of counting."""
        return self.group.startswith("known")


ADDS_UP = ("orders", "conversion", "errors", "revenue", "faults")
COUNTED = ("orders", "revenue", "faults")
CROWD = ("orders", "revenue", "latency", "sessions", "conversion", "errors")
KNOWN = {"metrics": ("orders", "orders", "conversion", "errors", "latency", "queue"), "steps": (60.0,)}
KNOWN |= {"history_h": (336.0, 336.0)}
COARSE = (120.0, 300.0, 600.0, 900.0, 1800.0)
DAYS = (72.0, 336.0)
"""Hours of history, where only other days tell what is usual."""

HEALTHY = {
    "plain": Family("plain", times=4),
    # what the calendar and the clock do
    "steep": Family("confounded", (dates.steep,)),
    "weekend": Family("confounded", moment=dates.near_a_weekend),
    "summer time": Family("confounded", (dates.summer_time,)),
    "holiday": Family("confounded", (dates.holiday,)),
    "hourly job": Family("confounded", (dates.hourly_job,)),
    "daily job": Family("confounded", (dates.daily_job,), history_h=DAYS),
    "growth": Family("confounded", (dates.growth,)),
    "drift": Family("confounded", (dates.drift,)),
    "new level": Family("confounded", (dates.new_level,)),
    # crowds
    "promotion starts": Family("confounded", (crowds.promotion_starts,), metrics=CROWD),
    "promotion ends": Family("confounded", (crowds.promotion_ends,), metrics=CROWD),
    "long promotion ends": Family("confounded", (crowds.long_promotion_ends,), metrics=CROWD, history_h=DAYS),
    "bots come and go": Family("confounded", (crowds.bots_come_and_go,), metrics=("conversion",)),
    "bots stay": Family("beyond", (crowds.bots_stay,), metrics=("conversion",)),
    "other visitors": Family("beyond", (crowds.other_visitors,), metrics=("conversion",)),
    "fewer buyers": Family("beyond", (crowds.fewer_buyers,), metrics=("conversion",)),
    # what a metric is like
    "small": Family("confounded", (crowds.small,), metrics=ADDS_UP),
    "noisy": Family("confounded", (crowds.noisy,)),
    "wandering": Family("confounded", (crowds.wandering,)),
    "clumped": Family("confounded", (crowds.clumped,), metrics=(*ADDS_UP, "latency")),
    "large orders": Family("confounded", (crowds.large_orders,), metrics=("revenue",)),
    "short history": Family("confounded", history_h=(2.0, 10.0)),
    "coarse": Family("confounded", steps=COARSE),
    # trouble that is not the deployment's
    "bursts": Family("confounded", (trouble.bursts,)),
    "restart": Family("confounded", (trouble.restart,), times=2),
    "known restart": Family("confounded", (trouble.known_restart,), times=2),
    "long restart": Family("beyond", (trouble.long_restart,)),
    "open incident": Family("confounded", (trouble.open_incident,)),
    "faint incident": Family("confounded", (trouble.faint_incident,), times=2),
    "growing incident": Family("confounded", (trouble.growing_incident,)),
    "passing incident": Family("confounded", (trouble.passing_incident,)),
    "ended incident": Family("confounded", (trouble.ended_incident,)),
    "fixed incident": Family("confounded", (trouble.fixed_incident,), times=2),
    "past incidents": Family("confounded", (trouble.past_incidents,)),
    # what reporting does
    "late zeros": Family("confounded", (reporting.late_zeros,), metrics=(*ADDS_UP, "latency"), times=2),
    "late nothing": Family("confounded", (reporting.late_nothing,)),
    "late part": Family("confounded", (reporting.late_part,), metrics=ADDS_UP),
    "late successes": Family("confounded", (reporting.late_successes,), metrics=("conversion",)),
    "late gap": Family("confounded", (reporting.late_gap,)),
    "missing": Family("confounded", (reporting.missing,)),
    "counter reset": Family("confounded", (reporting.counter_reset,)),
    "stuck": Family("confounded", (reporting.stuck,)),
    "told twice": Family("confounded", (reporting.told_twice,)),
    "nonsense": Family("confounded", (reporting.nonsense,)),
}

BAD = {
    "step": Family("bad", (harm.step,), times=2),
    "later": Family("bad", (harm.later,), watch_s=2700.0),
    "slowly": Family("bad", (harm.slowly,), watch_s=3600.0, within_s=3600.0),
    "outage": Family("bad", (harm.outage,)),
    "some users": Family("bad", (harm.some_users,)),
    "slight": Family("bad", (harm.slight,)),
    "restart + step": Family("bad", (trouble.restart, harm.step)),
    "known restart + step": Family("bad", (trouble.quick_restart, harm.step), times=2),
    "bursts + step": Family("bad", (trouble.bursts, harm.step)),
    "one of many": Family("bad", (harm.step,), among_others=True, history_h=DAYS, times=0.5),
    "steep + step": Family("bad", (dates.steep, harm.step)),
    "weekend + step": Family("bad", (harm.step,), moment=dates.near_a_weekend),
    "holiday + step": Family("bad", (dates.holiday, harm.step)),
    "hourly job + step": Family("bad", (dates.hourly_job, harm.step)),
    "promotion starts + step": Family("bad", (crowds.promotion_starts, harm.step), metrics=CROWD),
    "promotion ends + step": Family("bad", (crowds.promotion_ends, harm.step), metrics=CROWD),
    "ended incident + step": Family("bad", (trouble.older_incident, harm.step)),
    "past incidents + step": Family("bad", (trouble.past_incidents, harm.step)),
    "open incident + worse": Family("bad", (trouble.open_incident, harm.much_worse)),
    "clumped + step": Family("bad", (crowds.clumped, harm.step), metrics=(*ADDS_UP, "latency")),
    "noisy + step": Family("bad", (crowds.noisy, harm.step)),
    "wandering + step": Family("bad", (crowds.wandering, harm.step)),
    "large orders + step": Family("bad", (crowds.large_orders, harm.step), metrics=("revenue",)),
    "short history + step": Family("bad", (harm.step,), history_h=(2.0, 10.0)),
    "coarse + step": Family("bad", (harm.step,), steps=COARSE),
    "late zeros + step": Family("bad", (reporting.late_zeros, harm.step), metrics=(*ADDS_UP, "latency")),
    "missing + step": Family("bad", (reporting.missing, harm.step)),
    "counter reset + step": Family("bad", (reporting.counter_reset, harm.step)),
    "nonsense + step": Family("bad", (reporting.nonsense, harm.step)),
}

CLEAN = {
    "known": Family("known", (harm.known,), times=2, **KNOWN),
    "known step": Family("known bad", (harm.known, harm.known_step), **KNOWN),
    "known later": Family("known bad", (harm.known, harm.known_later), watch_s=2700.0, **KNOWN),
}

FAMILIES: dict[str, Family] = {**HEALTHY, **BAD, **CLEAN}
