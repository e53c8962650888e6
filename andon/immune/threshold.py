"""Verdicts by a threshold: bounds that a person gave a metric.

`regressed` when every bucket of the last `for` is there, beyond the bounds and began after the deployment, and the metric
was within bounds in the last `for` before it; a metric that was out of bounds already, or was not measured, blames nobody.
"""

import math
from collections.abc import Sequence

from andon.clock import Time, long_age
from andon.model import Metric, Sample, Threshold, Verdict, VerdictWord

KEPT = 120
"""Buckets a verdict carries as its evidence."""


def buckets_of(metric: Metric, threshold: Threshold) -> int:
    """How many buckets make up the threshold's `for`: three at least."""
    return max(3, math.ceil(threshold.for_s / metric.every))


def window(metric: Metric, began: Time, until: Time) -> tuple[Time, Time]:
    """From where to where the buckets are that a verdict on this watch needs."""
    need = buckets_of(metric, metric.threshold) if metric.threshold else 3
    return began - (need + 1) * metric.every, until


def judge(
    metric: Metric, rows: Sequence[Sample], version: str, began: Time, until: Time, now: Time, gone: str = ""
) -> tuple[Verdict, bool]:
    """The verdict so far on one metric of a deployment, and whether it is final.

    `rows` are the closed buckets kept for `window`; `gone` says why the source does not answer, if it does not. While the
    watch is open a verdict other than *regressed* is what can be said so far.
    """
    threshold = metric.threshold
    if threshold is None:
        raise ValueError(f"{metric.name} has no threshold")
    facts = _Facts(metric, threshold, rows, version, began, until, now)
    ended = now >= until + metric.lag
    if facts.falls:
        if facts.before_words:
            return facts.verdict("undecided", facts.before_words, facts.onset), ended
        return facts.verdict("regressed", facts.regressed_words(), facts.onset), True
    if not facts.after:
        return _without_data(facts, gone), ended
    if not ended:
        return facts.verdict("undecided", facts.so_far_words(gone)), False
    return _at_the_end(facts), True


class _Facts:
    """What the buckets show, each looked at once."""

    def __init__(
        self,
        metric: Metric,
        threshold: Threshold,
        rows: Sequence[Sample],
        version: str,
        began: Time,
        until: Time,
        now: Time,
    ) -> None:
        self.metric, self.threshold, self.version = metric, threshold, version
        self.began, self.until, self.now = began, until, now
        self.need = buckets_of(metric, threshold)
        shown = [(row, value) for row in rows if (value := row.shown(metric.kind)) is not None]
        every = metric.every
        self.before = [(row, value) for row, value in shown if row.at + every <= began]
        self.after = [(row, value) for row, value in shown if began <= row.at and row.at + every <= until]
        self.rows = [row for row, _ in (*self.before, *self.after)]
        runs = _runs_beyond(self.after, threshold, every)
        self.longest = max(runs, key=len, default=[])
        last = runs[-1] if runs and self.after and runs[-1][-1] == self.after[-1] else []
        self.falls = len(last) >= self.need and self._up_to_now()
        self.onset: Time | None = last[0][0].at if self.falls else None
        self.last = last
        self.before_words = self._before_words()

    def _up_to_now(self) -> bool:
        """Whether the newest closed bucket is there; one may still be on its way. What was seen long ago accuses nobody."""
        every = self.metric.every
        newest = min(self.now - self.metric.lag, self.until) // every * every - every
        return self.after[-1][0].at >= newest - every

    def _before_words(self) -> str:
        """Why the time before the deployment blames nobody; empty: the metric was within bounds then."""
        every = self.metric.every
        end = self.began - self.began % every
        wanted = [end - (i + 1) * every for i in range(self.need)]
        by_time = {row.at: value for row, value in self.before}
        missing = [at for at in wanted if at not in by_time]
        beyond = [by_time[at] for at in wanted if at in by_time and self.threshold.beyond(by_time[at])]
        name = self.metric.name
        if beyond:
            return f"{name} was already {self.number(beyond[0])} before {_short(self.version)}"
        if missing:
            return f"{name} was not measured in the {long_age(self.threshold.for_s)} before {_short(self.version)}"
        return ""

    def verdict(self, word: VerdictWord, sentence: str, onset: Time | None = None) -> Verdict:
        return Verdict(
            word=word,
            sentence=sentence,
            metric=self.metric.name,
            onset=onset,
            at=self.now,
            numbers=tuple(self.rows[-KEPT:]),
        )

    def number(self, value: float) -> str:
        return number(value, self.metric)

    def regressed_words(self) -> str:
        was = [value for _, value in self.before[-self.need :]]
        usual = f"{self.number(sum(was) / len(was))} → " if was else ""
        now = sum(value for _, value in self.last[-self.need :]) / self.need
        after = long_age(max(0.0, (self.onset or self.began) - self.began))
        bound = _bound(self.threshold, self.metric)
        return (
            f"{self.metric.name} {usual}{self.number(now)}, {bound} for "
            f"{long_age(self.threshold.for_s)}, from {after} after {_short(self.version)}"
        )

    def so_far_words(self, gone: str) -> str:
        watched = long_age(max(0.0, self.now - self.began))
        whole = long_age(self.until - self.began)
        state = (
            f"source gone: {gone}" if gone else "within bounds" if not self.last else f"beyond, {len(self.last)} so far"
        )
        return f"{self.metric.name} {self.number(self.after[-1][1])}, {state}, {watched} of {whole}"

    def expected(self) -> int:
        """How many buckets the watch has from its first whole one on."""
        every = self.metric.every
        first = math.ceil(self.began / every) * every
        return max(0, int((self.until - first) // every))


def together(metric: Metric, rows: Sequence[Sample], onset: Time, within_s: float) -> bool:
    """Whether the metric of another line left its bounds at the time of `onset`, and is still beyond them."""
    if metric.threshold is None:
        return False
    shown = [(row, value) for row in rows if (value := row.shown(metric.kind)) is not None]
    runs = _runs_beyond(shown, metric.threshold, metric.every)
    if not runs or runs[-1][-1] != shown[-1] or len(runs[-1]) < 2:
        return False
    return abs(runs[-1][0][0].at - onset) <= within_s + metric.every


def _without_data(facts: _Facts, gone: str) -> Verdict:
    """Not one usable bucket since the deployment."""
    waited, name, short = facts.now - facts.began, facts.metric.name, _short(facts.version)
    if facts.now < facts.until and waited < facts.threshold.for_s + facts.metric.lag:
        return facts.verdict("undecided", f"{name}: no closed bucket yet since {short}")
    if facts.expected() < facts.need:
        ran = long_age(facts.until - facts.began)
        return facts.verdict("undecided", f"{name}: {short} ran for {ran}, too short to be measured")
    return facts.verdict("blind", f"{name}: {gone or 'no usable data'} for {long_age(waited)}")


def _at_the_end(facts: _Facts) -> Verdict:
    """What a watch ends with that has data and no regression now."""
    name, short = facts.metric.name, _short(facts.version)
    if facts.before_words:
        return facts.verdict("undecided", facts.before_words)
    missing = facts.expected() - len(facts.after)
    if missing > 0:
        return facts.verdict("undecided", f"{name}: {missing} of {facts.expected()} buckets are missing after {short}")
    if len(facts.longest) >= facts.need:
        return facts.verdict("undecided", f"{name} was {_bound(facts.threshold, facts.metric)} and came back by itself")
    mean = sum(value for _, value in facts.after) / len(facts.after)
    return facts.verdict(
        "healthy", f"{name} {facts.number(mean)}, within bounds for {long_age(facts.until - facts.began)}"
    )


def _runs_beyond(
    rows: Sequence[tuple[Sample, float]], threshold: Threshold, every: float
) -> list[list[tuple[Sample, float]]]:
    """Runs of buckets beyond the bounds with none missing between."""
    runs: list[list[tuple[Sample, float]]] = []
    for row, value in rows:
        if not threshold.beyond(value):
            continue
        if runs and abs(runs[-1][-1][0].at + every - row.at) < 1e-6:
            runs[-1].append((row, value))
        else:
            runs.append([(row, value)])
    return runs


def number(value: float, metric: Metric) -> str:
    """A value with its unit, as in `3.1 %` or `412 €`: two or three significant figures."""
    if metric.kind == "proportion":
        return f"{figures(100 * value)} %"
    if abs(value) >= 10_000:
        return f"{figures(value / 1000)} k{' ' + metric.unit if metric.unit else ''}"
    return f"{figures(value)}{' ' + metric.unit if metric.unit else ''}"


def figures(value: float) -> str:
    """Two or three significant figures, never an exponent."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    places = 1 if abs(value) >= 1 else min(6, 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{places}f}"


def _bound(threshold: Threshold, metric: Metric) -> str:
    parts = []
    if threshold.below is not None:
        parts.append(f"below {number(threshold.below, metric)}")
    if threshold.above is not None:
        parts.append(f"above {number(threshold.above, metric)}")
    return " or ".join(parts)


def _short(version: str) -> str:
    from andon.rollback import short

    return short(version)
