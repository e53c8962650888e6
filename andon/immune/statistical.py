"""Verdicts by the judge: for metrics to which nobody gave bounds.

When a deployment begins its metric is armed with its own history, from the metrics source; the armed record goes into the
ledger, so that another engine goes on with the same evidence and a replay gives the same verdict. Arithmetic that takes
long is done in a thread of its own.
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
from andon.immune.threshold import number
from andon.keeper import Keeper
from andon.model import Deployment, Metric, Sample, Verdict, VerdictWord
from andon.rollback import short
from andon.stations import Stations

if TYPE_CHECKING:  # numpy is heavy: whoever judges nothing does not load it
    from andon.immune.judging import Regression
    from andon.immune.pursuit import InThread, Pursuit

HISTORY_S = 14 * 86_400.0
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
        self._pursuits: dict[tuple[str, str, str], Pursuit] = {}
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
        begin = pursuit.began
        rows = await self.keeper.call(lambda ledger: ledger.samples(series(config, metric), begin, watch.until))
        whole = [row for row in rows if row.at + metric.every <= watch.until + 1e-6]
        later = _later(self.keeper.board.line(config.name), watch)
        await pursuit.follow(whole, later, self.in_thread)
        if pursuit.found is not None:
            return said.regressed(pursuit, pursuit.found), True
        if not pursuit.count:
            return said.without_data(gone, ended), ended
        return (said.at_the_end(pursuit) if ended else said.so_far(pursuit, gone)), ended

    async def expected(self, config: LineConfig, metric: Metric, watch: Watch) -> "Pursuit | None":
        """What was expected of a metric that was armed for this watch, also after it."""
        pursuit, _ = await self._pursuit(config, metric, watch, self.clock.now(), arm=False)
        return pursuit

    async def effect(self, config: LineConfig, metric: Metric, watch: Watch, pursuit: "Pursuit") -> float:
        """By which signed part the metric was off in that watch, or what would have mattered, if nothing was found."""
        rows = await self.keeper.call(lambda ledger: ledger.samples(series(config, metric), pursuit.began, watch.until))
        await pursuit.follow(rows, _later(self.keeper.board.line(config.name), watch), self.in_thread)
        if pursuit.found is not None:
            return pursuit.found.effect
        return WORTH if metric.bad == "rises" else -WORTH

    # ---- arming

    async def _pursuit(
        self, config: LineConfig, metric: Metric, watch: Watch, now: Time, *, arm: bool = True
    ) -> "tuple[Pursuit | None, str]":
        key = (config.name, watch.deployment, metric.name)
        if key in self._pursuits:
            return self._pursuits[key], ""
        again, why = self._later.get(key, (0.0, ""))
        if now < again:
            return None, why
        from andon.immune.pursuit import Pursuit

        record = watch.armed.get(metric.name)
        if record is None and arm:
            record, why = await self._arm(config, metric, watch, now)
        if record is None or not record.record:
            self._later[key] = (now + self.clock.real(AGAIN_S), why)
            return None, why
        self._pursuits[key] = Pursuit(record.record)
        return self._pursuits[key], ""

    async def _arm(self, config: LineConfig, metric: Metric, watch: Watch, now: Time) -> tuple[Armed | None, str]:
        """Read the metric's history, arm, and record it; or why not."""
        end = watch.began // metric.every * metric.every
        if now < end + metric.lag:
            return None, f"no closed bucket yet since {short(watch.version)}"
        try:
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

    def regressed(self, pursuit: "Pursuit", found: "Regression") -> Verdict:
        """What was found, how large it is, how sure that is, and when."""
        was, now = pursuit.means(found.onset)
        low, high = round(100 * found.low), round(100 * found.high)
        began = long_age(max(0.0, found.onset - self.watch.began))
        seen = long_age(found.seen - self.watch.began)
        sentence = (
            f"{self.metric.name} {self.number(was)} → {self.number(now)}, {100 * found.effect:+.0f} % "
            f"[{low:+d}, {high:+d}], {power_of_ten(found.p)} anytime-valid, from {began}, seen {seen} after {self.short}"
        )
        return self.verdict("regressed", sentence, pursuit.fed, found.onset)

    def so_far(self, pursuit: "Pursuit", gone: str) -> Verdict:
        """Nothing was found yet."""
        watched, whole = long_age(self.now - self.watch.began), long_age(self.watch.until - self.watch.began)
        state = f", source gone: {gone}" if gone else ""
        return self.verdict("undecided", f"{self._compared(pursuit)}{state}, {watched} of {whole}", pursuit.fed)

    def _compared(self, pursuit: "Pursuit") -> str:
        was, now = pursuit.means(self.watch.began)
        return f"{self.metric.name} {self.number(now)}, expected {self.number(was)}"

    def at_the_end(self, pursuit: "Pursuit") -> Verdict:
        """What a watch ends with that found no regression: whether it could have."""
        name, rows = self.metric.name, pursuit.fed
        every = self.metric.every
        whole = max(1, int((self.watch.until - pursuit.began) // every))
        if pursuit.crowded:
            words = "fell only because more came, while as many as ever did it: bots, or a promotion?"
            return self.verdict("undecided", f"{name} {words}", rows)
        if pursuit.count < MISSING_PART * whole:
            words = f"{whole - pursuit.count} of {whole} buckets are missing after {self.short}"
            return self.verdict("undecided", f"{name}: {words}", rows)
        if pursuit.odd_before:
            return self.verdict("undecided", f"{name} was already {pursuit.odd_before} before {self.short}", rows)
        enough, words = pursuit.power()
        if not enough:
            return self.verdict("undecided", f"{name}: {words}", rows)
        return self.verdict("healthy", f"{self._compared(pursuit)}; {words}", rows)


def power_of_ten(p: float) -> str:
    """`p < 1e-4`: the next power of ten above p."""
    return f"p < 1e{min(0, math.ceil(math.log10(max(p, 1e-99))))}"
