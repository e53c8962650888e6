"""Verdicts by the judge: for metrics to which nobody gave bounds.

When a deployment begins its metric is armed with its own history, from the metrics source; the armed record goes into the
ledger, so that another engine goes on with the same evidence and a replay gives the same verdict. A metric that names a
control is compared with that, bucket by bucket at the same times. Arithmetic that takes long is done in a thread of its own.
"""

import asyncio
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from andon import feed
from andon.board import Line, Watch
from andon.clock import Clock, Time, long_age
from andon.config import Config, LineConfig
from andon.events import Armed
from andon.immune import recovery
from andon.immune.threshold import number
from andon.keeper import Keeper
from andon.model import Deployment, Metric, Sample, Verdict, VerdictWord
from andon.rollback import short
from andon.stations import Stations

if TYPE_CHECKING:  # numpy is heavy: whoever judges nothing does not load it
    from andon.immune.control_pursuit import ControlPursuit
    from andon.immune.judging import Regression
    from andon.immune.pursuit import InThread, Pursuit

    Followed = Pursuit | ControlPursuit

HISTORY_S = 14 * 86_400.0
CONTROL_HISTORY_S = 86_400.0
"""How two sides stand beside each other is read from a day."""
MOST_BUCKETS = 20_160
"""No more history is asked for: fourteen days of minutes."""
PIECE = 5_000
"""Buckets that are asked for at once."""
AGAIN_S = 15.0
"""A history that could not be read is asked for again after this."""
LEAST_HISTORY_S = 3600.0
SUSPECT_S = 3600.0
MOST_NUMBERS = 1000
"""Buckets a verdict carries: all of a watch, within 64 kB."""
WORTH = 0.2
MISSING_PART = 0.5
RECOVERY_S = 1200.0
"""For so long after a watch what was expected stays known, to see whether a rollback helped."""


def window(config: LineConfig, metric: Metric, watch: Watch) -> Watch:
    """A watch as long as it lasts for that metric: beside a control it may be shorter."""
    if metric.control is None:
        return watch
    until = min(watch.until, watch.began + config.window_s(metric))
    return watch if until == watch.until else msgspec.structs.replace(watch, until=until)


def judged(config: LineConfig) -> list[Metric]:
    """The metrics of a line that the judge judges: those without a threshold."""
    return [metric for metric in config.metrics if metric.threshold is None]


def series(config: LineConfig, metric: Metric) -> str:
    """Under which name a metric's samples are kept."""
    return f"{config.name}/{metric.name}"


class Statistical:
    """The armed metrics of one engine's lines."""

    def __init__(self, config: Config, stations: Stations, keeper: Keeper, clock: Clock) -> None:
        self.in_thread: InThread = asyncio.to_thread
        """Does work that takes long beside the loop."""
        self.config = config
        self.stations = stations
        self.keeper = keeper
        self.clock = clock
        self._pursuits: dict[tuple[str, str, str], Followed] = {}
        self._later: dict[tuple[str, str, str], tuple[Time, str]] = {}

    def forget(self, line: str, deployment: str) -> None:
        """The watch has ended."""
        for kept in (self._pursuits, self._later):
            for key in [key for key in kept if key[:2] == (line, deployment)]:
                del kept[key]

    async def verdict(
        self, config: LineConfig, metric: Metric, watch: Watch, now: Time, gone: str
    ) -> tuple[Verdict, bool]:
        """The verdict so far on one metric of a deployment, and whether it is final. `gone`: why its source is silent."""
        watch = window(config, metric, watch)
        ended = now >= watch.until + metric.lag
        said = Sentences(metric, watch, now)
        if watch.until - watch.began < 3 * metric.every:
            ran = long_age(watch.until - watch.began)
            return said.verdict("undecided", f"{metric.name}: watched for {ran}, too short to be judged"), ended
        pursuit, why = await self._pursuit(config, metric, watch, now)
        if pursuit is None:
            if gone and now - watch.began >= 3 * metric.every + metric.lag:
                return said.verdict("blind", f"{metric.name}: {gone}"), ended
            return said.verdict("undecided", f"{metric.name}: {why}"), ended
        rows = await self._kept(config, metric, pursuit.began, watch.until)
        whole = [row for row in rows if row.at + metric.every <= watch.until + 1e-6]
        later = _later(self.keeper.board.line(config.name), watch)
        await pursuit.follow(whole, later, self.in_thread)
        if pursuit.found is not None:
            return said.regressed(pursuit, pursuit.found, _up_to_now(metric, whole, pursuit)), True
        if not pursuit.count:
            return said.without_data(gone or one_sided(metric, whole), ended), ended
        seen = [row for row in whole if row.control] if is_beside(pursuit) else whole
        silent_s = min(now, watch.until) - (seen[-1].at + metric.every) if seen else 0.0
        if gone and silent_s >= max(
            3 * metric.every + metric.lag, MISSING_PART * (watch.until - pursuit.began) if ended else 0
        ):
            return said.verdict("blind", f"{metric.name}: {gone} for {long_age(silent_s)}", pursuit.fed), ended
        return (said.at_the_end(pursuit) if ended else said.so_far(pursuit, gone)), ended

    async def expected(self, config: LineConfig, metric: Metric, watch: Watch) -> "Pursuit | None":
        """What was expected of a metric that was armed for this watch, also after it; None: its control tells."""
        pursuit, _ = await self._pursuit(config, metric, watch, self.clock.now(), arm=False)
        from andon.immune.pursuit import Pursuit

        return pursuit if isinstance(pursuit, Pursuit) else None

    async def beside(self, config: LineConfig, metric: Metric, watch: Watch) -> "ControlPursuit | None":
        """The same for a metric with a control, which tells what was expected up to now."""
        now = self.clock.now()
        pursuit, _ = await self._pursuit(config, metric, watch, now, arm=False)
        from andon.immune.control_pursuit import ControlPursuit

        if not isinstance(pursuit, ControlPursuit):
            return None
        pursuit.knows(await self._kept(config, metric, pursuit.began, now))
        return pursuit

    async def effect(self, config: LineConfig, metric: Metric, watch: Watch, pursuit: "Followed") -> float:
        """By which signed part the metric was off in that watch, or what would have mattered, if nothing was found."""
        watch = window(config, metric, watch)
        rows = await self._kept(config, metric, pursuit.began, watch.until)
        await pursuit.follow(rows, _later(self.keeper.board.line(config.name), watch), self.in_thread)
        if pursuit.found is not None:
            return pursuit.found.effect
        return WORTH if metric.bad == "rises" else -WORTH

    async def _kept(self, config: LineConfig, metric: Metric, start: Time, end: Time) -> Sequence[Sample]:
        """The closed buckets that are kept of a metric, each with that of its control if it has one."""
        rows = await self.keeper.call(lambda ledger: ledger.samples(series(config, metric), start, end))
        beside = metric.beside
        if beside is None:
            return rows
        from andon.immune.control_pursuit import joined

        return joined(rows, await self.keeper.call(lambda ledger: ledger.samples(series(config, beside), start, end)))

    # ---- arming

    async def _pursuit(
        self, config: LineConfig, metric: Metric, watch: Watch, now: Time, *, arm: bool = True
    ) -> "tuple[Followed | None, str]":
        key = (config.name, watch.deployment, metric.name)
        if key in self._pursuits:
            return self._pursuits[key], ""
        again, why = self._later.get(key, (0.0, ""))
        if now < again:
            return None, why
        from andon.immune.control_pursuit import pursuit_of

        record = watch.armed.get(metric.name)
        if record is None and arm:
            record, why = await self._arm(config, metric, watch, now)
        if record is None or not record.record:
            self._later[key] = (now + self.clock.real(AGAIN_S), why)
            return None, why
        self._pursuits[key] = pursuit_of(record.record)
        return self._pursuits[key], ""

    async def _arm(self, config: LineConfig, metric: Metric, watch: Watch, now: Time) -> tuple[Armed | None, str]:
        """Read the metric's history, arm, and record it; or why not."""
        end = watch.began // metric.every * metric.every
        if now < end + metric.lag:
            return None, f"no closed bucket yet since {short(watch.version)}"
        try:
            if metric.beside is not None:
                return await self._arm_beside(config, metric, metric.beside, window(config, metric, watch), end)
            rows = await self.history(config, metric, end)
        except Exception as error:  # noqa: BLE001 - whatever an adapter does is told of its source, and tried again
            return None, f"its history cannot be read: {feed.told(error)[1]}"
        if len(rows) * metric.every < LEAST_HISTORY_S:
            return None, f"only {long_age(len(rows) * metric.every)} of history to judge by"
        line = self.keeper.board.line(config.name)
        from andon.immune.pursuit import arm_watch

        event = await self.in_thread(
            arm_watch,
            config.name,
            metric,
            watch,
            rows,
            metrics=len(judged(config)),
            suspects=_suspects(line, watch),
            past=_past(line, watch),
            after_s=RECOVERY_S,
        )
        await self.keeper.commit(msgspec.structs.replace(event, at=now))
        return event, ""

    async def _arm_beside(
        self, config: LineConfig, metric: Metric, beside: Metric, watch: Watch, end: Time
    ) -> tuple[Armed | None, str]:
        """Read how both sides stood beside each other, arm, and record it; or why not. Raises as a read."""
        from andon.immune.control_arming import Unarmed
        from andon.immune.control_pursuit import arm_watch_beside

        ours = await self.history(config, metric, end, CONTROL_HISTORY_S)
        theirs = await self.history(config, beside, end, CONTROL_HISTORY_S)
        try:
            event = await self.in_thread(
                arm_watch_beside, config.name, metric, watch, ours, theirs, metrics=len(judged(config))
            )
        except Unarmed as error:
            return None, str(error)
        await self.keeper.commit(msgspec.structs.replace(event, at=self.clock.now()))
        return event, ""

    async def history(self, config: LineConfig, metric: Metric, end: Time, span_s: float = HISTORY_S) -> list[Sample]:
        """The closed buckets of a metric before `end`, as far back as the judge looks. Raises as a read."""
        source = self.stations.metrics(config.name, metric.source)
        reach = min(span_s, MOST_BUCKETS * metric.every, source.can.history_s or span_s)
        start = math.ceil((end - reach) / metric.every) * metric.every
        rows: list[Sample] = []
        while start < end:
            stop = min(end, start + PIECE * metric.every)
            found = await source.samples(metric, start, stop, metric.every)
            rows.extend(row for row in found.rows if start <= row.at < stop)
            start = stop
        return rows


def _up_to_now(metric: Metric, rows: Sequence[Sample], pursuit: "Followed") -> Sequence[Sample]:
    """The buckets that a verdict carries: all up to now, where the newest show it still; else those it was found from.

    An engine that was away finds what happened meanwhile: whether that is so now, newer buckets say.
    """
    from andon.immune.pursuit import Pursuit

    found = pursuit.found
    if found is None or not isinstance(pursuit, Pursuit):
        return pursuit.fed
    off = recovery.off_by(metric, rows[-recovery.least(metric) :], pursuit.expected)
    return rows if off is not None and off / found.effect >= recovery.NEARER else pursuit.fed


def _suspects(line: Line, watch: Watch) -> list[Time]:
    """Deployments in the hour before this one: they may be what did it."""
    return [item.at for item in _others(line, watch) if 0 < watch.began - item.at <= SUSPECT_S]


def _past(line: Line, watch: Watch) -> list[Time]:
    """The line's earlier deployments that nothing bad is known of: how long does a restart of it look bad?"""
    return [item.at for item in _others(line, watch) if item.at < watch.began - SUSPECT_S and not known_bad(line, item)]


def _later(line: Line, watch: Watch) -> list[Time]:
    """Deployments since: what began with them is theirs."""
    return [item.at for item in _others(line, watch) if item.at > watch.began]


def _others(line: Line, watch: Watch) -> list[Deployment]:
    return [item for item in line.deployments if item.id != watch.deployment and item.state != "failed"]


def known_bad(line: Line, deployment: Deployment) -> bool:
    """Whether a deployment regressed, or was called faulty."""
    mark, watch = line.marks.get(deployment.id), line.watches.get(deployment.id)
    regressed = watch is not None and watch.verdict is not None and watch.verdict.word == "regressed"
    return regressed or (mark is not None and mark.mark == "faulty")


class Sentences:
    """What is said of a metric: one sentence that an on-call engineer understands."""

    def __init__(self, metric: Metric, watch: Watch, now: Time) -> None:
        self.metric, self.watch, self.now = metric, watch, now
        self.short = short(watch.version)

    def verdict(
        self, word: VerdictWord, sentence: str, rows: Sequence[Sample] = (), onset: Time | None = None
    ) -> Verdict:
        """A verdict with the buckets it was found from."""
        return Verdict(
            word=word,
            sentence=sentence,
            metric=self.metric.name,
            onset=onset,
            at=self.now,
            numbers=tuple(rows[-MOST_NUMBERS:]),
        )

    def number(self, value: float) -> str:
        """A value with its unit."""
        return number(value, self.metric)

    def without_data(self, gone: str, ended: bool) -> Verdict:
        """Not one usable bucket since the deployment."""
        waited = self.now - self.watch.began
        if not ended and waited < 3 * self.metric.every + self.metric.lag:
            return self.verdict("undecided", f"{self.metric.name}: no closed bucket yet since {self.short}")
        return self.verdict("blind", f"{self.metric.name}: {gone or 'no usable data'} for {long_age(waited)}")

    def regressed(self, pursuit: "Followed", found: "Regression", rows: Sequence[Sample] = ()) -> Verdict:
        """What was found, how large it is, how sure that is, and when; with `rows`, or those it was found from."""
        was, now = pursuit.means(found.onset)
        low, high = round(100 * found.low), round(100 * found.high)
        began = long_age(max(0.0, found.onset - self.watch.began))
        seen = long_age(found.seen - self.watch.began)
        values = f"{self.number(was)} → {self.number(now)}"
        if is_beside(pursuit):
            values = f"{self.number(now)} beside {self.number(was)} of its control"
        sentence = (
            f"{self.metric.name} {values}, {100 * found.effect:+.0f} % "
            f"[{low:+d}, {high:+d}], {power_of_ten(found.p)} anytime-valid, from {began}, seen {seen} after {self.short}"
        )
        return self.verdict("regressed", sentence, rows or pursuit.fed, found.onset)

    def so_far(self, pursuit: "Followed", gone: str) -> Verdict:
        """Nothing was found yet."""
        until = self._until(pursuit)
        if is_beside(pursuit) and self.now >= until + self.metric.lag:
            return self.at_the_end(pursuit)  # its own window is over, though the deployment is watched on
        watched, whole = long_age(self.now - self.watch.began), long_age(until - self.watch.began)
        state = f", source gone: {gone}" if gone else ""
        return self.verdict("undecided", f"{self._compared(pursuit)}{state}, {watched} of {whole}", pursuit.fed)

    def _until(self, pursuit: "Followed") -> Time:
        """The end of the window in which the metric is judged."""
        return min(self.watch.until, getattr(pursuit.armed, "until", self.watch.until))

    def _compared(self, pursuit: "Followed") -> str:
        was, now = pursuit.means(self.watch.began)
        if is_beside(pursuit):
            return f"{self.metric.name} {self.number(now)}, its control {self.number(was)}"
        return f"{self.metric.name} {self.number(now)}, expected {self.number(was)}"

    def at_the_end(self, pursuit: "Followed") -> Verdict:
        """What a watch ends with that found no regression: whether it could have."""
        name, rows = self.metric.name, pursuit.fed
        every = self.metric.every
        whole = max(1, int((self._until(pursuit) - pursuit.began) // every))
        if pursuit.crowded:
            words = "fell only because more came, while as many as ever did it: bots, or a promotion?"
            return self.verdict("undecided", f"{name} {words}", rows)
        if pursuit.count < MISSING_PART * whole:
            side = ", of the canary or of its control," if is_beside(pursuit) else ""
            words = f"{whole - pursuit.count} of {whole} buckets{side} are missing after {self.short}"
            return self.verdict("undecided", f"{name}: {words}", rows)
        if pursuit.odd_before:
            return self.verdict("undecided", f"{name} was already {pursuit.odd_before} before {self.short}", rows)
        enough, words = pursuit.power()
        if not enough:
            return self.verdict("undecided", f"{name}: {words}", rows)
        return self.verdict("healthy", f"{self._compared(pursuit)}; {words}", rows)


def is_beside(pursuit: "Followed") -> bool:
    """Whether a metric is compared with a control, not with its own past."""
    return hasattr(pursuit.armed, "until")


def one_sided(metric: Metric, rows: Sequence[Sample]) -> str:
    """Why buckets cannot be compared with a control: it is not there; empty: there is none, or it is there."""
    if metric.control is None or not rows:
        return ""
    return "" if any(row.control for row in rows) else "its control was not measured"


def power_of_ten(p: float) -> str:
    """`p < 1e-4`: the next power of ten above p."""
    return f"p < 1e{min(0, math.ceil(math.log10(max(p, 1e-99))))}"
