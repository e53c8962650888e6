"""What the watch of a deployment can show, said beforehand from each metric's own history.

`andon check` asks for all metrics at once; `power_of` is for a screen that shows one. History is read newest first and for a
short time only: what came by then is used, and how much it was is said.
"""

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path

import msgspec

from andon.clock import Clock, Time, WallClock, long_age
from andon.config import Config, LineConfig
from andon.feed import told
from andon.immune.statistical import HISTORY_S, LEAST_HISTORY_S, MOST_BUCKETS, PIECE, SUSPECT_S, judged
from andon.model import Deployment, Metric, Sample, Samples
from andon.ports import Metrics, whole
from andon.stations import Stations

DEADLINE_S = 10.0
"""How long the history of one metric may take."""
DEPLOYMENTS_S = 5.0
DEPLOYMENTS = 50
"""How many past deployments are asked for: how long a restart looks bad is learned from them."""
LEAST_BUCKETS = 3
"""In fewer buckets nothing is judged."""
MOST_EFFECT, MOST_RATIO = 1.0, 4.0
"""A metric that shows nothing smaller is of no use: parts of what is expected; for the rate of something bad, five times."""


class Shown(msgspec.Struct, frozen=True):
    """What one watch of one metric can show."""

    line: str
    metric: str
    ok: bool
    """False: it cannot work as it is configured, or it is not known whether it can."""
    words: str
    """One or two sentences for a person: what it can show, or why that is not known, and what to do."""
    watch_s: float
    every_s: float
    history_s: float = 0.0
    """How much history this rests on."""
    effect: float | None = None
    """The smallest effect, as a part of what is expected: 0.4; None: none, or not known."""
    usual: float | None = None
    """The effect that people ask for: 0.2, of a rate of something bad 1.0; None: not known."""
    usual_s: float | None = None
    """How many seconds the usual effect would take to show; None: it would never show, or it is not known."""


def power_of(
    config: Config, line: str, metric: Metric, *, clock: Clock | None = None, state: Path | None = None
) -> Shown:
    """What a watch can show of a metric of `config.lines[line]`, in words and numbers. It takes up to 15 s.

    For a thread of its own: it opens the sources anew, with an event loop of its own, reads, computes and closes them; it
    shares nothing with an engine. `clock` and `state` (the folder beside the ledger) are the desk's; by default the wall
    clock, and the config's folder. Of a metric with a threshold it tells what the judge could show without it. Raises
    FileError for options that an adapter refuses; whatever a source does is told in the words.
    """

    async def work() -> Shown:
        used = clock or WallClock()
        stations = Stations(config, used, state or config.folder, read_only=True)
        try:
            found = await powers(stations, config.lines[line], used, (metric,))
        finally:
            await stations.close()
        return found[0]

    return asyncio.run(work())


async def powers(
    stations: Stations, config: LineConfig, clock: Clock, metrics: Sequence[Metric] | None = None
) -> list[Shown]:
    """What a watch of the line's metrics can show, asked for all at once: of `metrics`, else of all without a threshold."""
    wanted = judged(config) if metrics is None else metrics
    if not wanted:
        return []
    past = await _past(stations, config, clock.now())
    return list(await asyncio.gather(*(_power(stations, config, clock, metric, past) for metric in wanted)))


async def _past(stations: Stations, config: LineConfig, now: Time) -> list[Time]:
    """When the line was deployed before the last hour, as far as its target tells. Without them the judge waits longer."""
    deploy = stations.deploy(config.name)
    if deploy is None:
        return []
    try:
        async with asyncio.timeout(DEPLOYMENTS_S):
            found = [whole(item, Deployment) for item in await deploy.history(DEPLOYMENTS)]
    except Exception:  # noqa: BLE001 - whatever an adapter does: what is wrong with the target is said of the target
        return []
    return [item.at for item in found if item.state != "failed" and item.at < now - SUSPECT_S]


async def _power(stations: Stations, config: LineConfig, clock: Clock, metric: Metric, past: Sequence[Time]) -> Shown:
    shown = Shown(config.name, metric.name, False, "", config.window_s(metric), metric.every)
    if words := too_coarse(shown.watch_s, metric):
        return _saying(shown, words)
    if metric.control is not None:
        words = "it is judged beside its control, of whose traffic its own past says nothing: see docs/judge.md"
        return msgspec.structs.replace(_saying(shown, words), ok=True)
    now = clock.now()
    end = (now - metric.lag) // metric.every * metric.every
    rows, words = await _history(stations.metrics(config.name, metric.source), metric, end)
    known_s = len(rows) * metric.every
    if not rows:
        return _saying(shown, f"what a watch can show is not known: {words}")
    if known_s < LEAST_HISTORY_S:
        why = f"only {long_age(known_s)} of history, and the judge needs {long_age(LEAST_HISTORY_S)}"
        todo = "until then every verdict is undecided; wait, or give it a `threshold:`"
        return msgspec.structs.replace(_saying(shown, f"{why}: {todo}"), ok=True, history_s=known_s)
    sharing = judged(config)
    count = len(sharing) + (metric not in sharing)
    try:
        return await asyncio.to_thread(_computed, shown, metric, rows, end, count, past)
    except ArithmeticError as error:  # what no history has shown yet must not hide what is known of the other metrics
        return _saying(shown, f"what a watch can show cannot be computed from its history: {error}")


def too_coarse(watch_s: float, metric: Metric) -> str:
    """Why a watch holds too few buckets for any verdict, and what to do; empty: it does not."""
    if watch_s >= LEAST_BUCKETS * metric.every:
        return ""
    watch, every = long_age(watch_s), long_age(metric.every)
    held = int(watch_s // metric.every)
    holds = "no whole bucket" if not held else "1 bucket" if held == 1 else f"{held} buckets"
    least = math.ceil(LEAST_BUCKETS * metric.every / 60)
    return (
        f"it cannot work: a watch of {watch} holds {holds} of {every}, and a verdict needs {LEAST_BUCKETS}; "
        f"a shorter `every:`, or `watch: {{{'canary' if metric.control else 'full'}: {least}m}}` at least"
    )


def _saying(shown: Shown, words: str) -> Shown:
    return msgspec.structs.replace(shown, words=f"{shown.metric}: {words}")


async def _history(source: Metrics, metric: Metric, end: Time) -> tuple[list[Sample], str]:
    """The buckets before `end`, as far back as the judge looks and the time allows; none: why, and what to do."""
    every = metric.every
    reach = min(HISTORY_S, MOST_BUCKETS * every, source.can.history_s or HISTORY_S)
    first = math.ceil((end - reach) / every) * every
    rows: list[Sample] = []
    words, stop = "", end
    try:
        async with asyncio.timeout(DEADLINE_S):
            while stop > first:
                start = max(first, stop - PIECE * every)
                found = whole(await source.samples(metric, start, stop, every), Samples)
                rows[:0] = [row for row in found.rows if start <= row.at < stop]
                words, stop = words or found.words, start
    except Exception as error:  # noqa: BLE001 - whatever an adapter does is said of its metric; the others are asked
        slow = isinstance(error, TimeoutError)
        words = f"{metric.source} gave no history in {DEADLINE_S:.0f} s" if slow else told(error)[1]
        return rows, f"{words}; see that {metric.source} answers, then check again"
    back = long_age(end - first)
    return rows, f"{metric.source} has no samples of the last {back} ({words or 'nothing found'}); look at its `value:`"


def _computed(
    shown: Shown, metric: Metric, rows: Sequence[Sample], end: Time, count: int, past: Sequence[Time]
) -> Shown:
    """Arm the metric as if a deployment began at `end`, and see what its watch could show."""
    import numpy as np

    from andon.immune.armed import arm
    from andon.immune.history import Frame
    from andon.immune.lasting import INCIDENT
    from andon.immune.power import power

    table = np.array([(row.at, row.value, math.nan if row.n is None else row.n) for row in rows]).reshape(-1, 3)
    frame = Frame(metric.kind, metric.bad == "rises", metric.every, end)
    armed = arm(frame, table[:, 0], table[:, 1], table[:, 2], metrics=count, watch_s=shown.watch_s, past=past)
    # An incident of this minute says nothing of the config: told is what is so when it is over.
    off = armed.state in INCIDENT
    found = power(metric, msgspec.structs.replace(armed, state="normal") if off else armed, shown.watch_s)
    ratio = armed.rises and not armed.frame.additive
    works = found.effect is not None and found.effect <= (MOST_RATIO if ratio else MOST_EFFECT)
    words = f"{found.words} (from {long_age(armed.history_s)} of history)"
    words += "; just now it is off, and until it is back less would show" if off else ""
    if not works:
        longer = found.usual_s is not None and found.usual_s > shown.watch_s
        todo = "watch it for longer, or" if longer else "a longer watch does not help:"
        words = f"it cannot work: {words}; {todo} choose a metric with more traffic, or give it a `threshold:`"
    return Shown(
        shown.line,
        shown.metric,
        works,
        words,
        shown.watch_s,
        shown.every_s,
        history_s=armed.history_s,
        effect=found.effect,
        usual=found.usual,
        usual_s=found.usual_s,
    )
