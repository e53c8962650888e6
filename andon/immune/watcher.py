"""Watches of deployments: opened when one begins, judged at each new bucket, ended with a verdict that is acted on.

A watch is in the ledger: whoever holds the lease goes on from there, with the gap filled by what the metrics source kept.
Judging again is harmless: a hold is joined, and a rollback is asked once per deployment.
"""

import asyncio
from typing import Literal

import msgspec

from andon import rollback
from andon.acts import NotDone
from andon.board import Line, Watch
from andon.clock import Clock, Time, long_age
from andon.config import Config, LineConfig
from andon.cord import Cord
from andon.events import Helped, Judged, WatchOpened
from andon.immune import policy, recovery, statistical, threshold
from andon.immune.newest import NewestFirst
from andon.immune.policy import IMMUNE
from andon.keeper import Keeper
from andon.model import Act, Deployment, Metric, Sample, Verdict, VerdictWord
from andon.ship import Shipper
from andon.stations import Stations

LOOK_S = 1.0
SEVERITY = ("regressed", "blind", "undecided", "healthy")


class Watcher:
    """Judges the deployments of all lines of one engine."""

    def __init__(
        self,
        config: Config,
        stations: Stations,
        keeper: Keeper,
        clock: Clock,
        cord: Cord,
        shipper: Shipper,
        skew_s: dict[str, float],
    ) -> None:
        self.config = config
        self.stations = stations
        self.keeper = keeper
        self.clock = clock
        self.cord = cord
        self.shipper = shipper
        self.skew_s = skew_s
        self.statistical = statistical.Statistical(config, stations, keeper, clock)
        self.newest = NewestFirst(keeper, clock, cord, shipper, self.statistical, self._why_not)
        self.gone: dict[tuple[str, str], str] = {}
        """Why a metric's source gives nothing, by line and metric."""
        self._asked: dict[tuple[str, str], Time] = {}
        """When a metric was last asked for its buckets, whatever the answer."""
        self._news = {name: asyncio.Event() for name in config.lines}

    def look(self, line: str, metric: str = "") -> None:
        """A metric of a line was asked; no name: all of them were."""
        self._asked[(line, metric)] = self.clock.now()
        self._news[line].set()

    async def run(self, config: LineConfig) -> None:
        """Open, judge and end the watches of a line, for ever."""
        while True:
            await self.open_watches(config)
            for watch in tuple(self.keeper.board.line(config.name).watches.values()):
                if not watch.ended:
                    await self.judge(config, watch)
            await self.newest.look(config)
            await self.measure_recovery(config)
            news = self._news[config.name]
            try:
                async with asyncio.timeout(LOOK_S):
                    await news.wait()
            except TimeoutError:
                continue
            news.clear()

    # ---- opening

    async def open_watches(self, config: LineConfig) -> None:
        """A watch for each deployment that began after this ledger did, or within the window."""
        board = self.keeper.board
        line = board.line(config.name)
        now = self.clock.now()
        for deployment in line.deployments:
            known = deployment.id in line.watches or deployment.state == "failed"
            began = self._began(config, deployment)
            recent = began >= board.first_at or now - began < config.watch_s
            if known or not recent:
                continue
            await self.keeper.commit(
                WatchOpened(
                    line=config.name,
                    at=now,
                    deployment=deployment.id,
                    version=deployment.version,
                    until=began + config.watch_s,
                    began=began,
                )
            )

    def _began(self, config: LineConfig, deployment: Deployment) -> Time:
        """When a deployment began by our clock; its target says it by its own."""
        return deployment.at - (self.skew_s.get(config.deploy.target, 0.0) if config.deploy else 0.0)

    # ---- judging

    async def judge(self, config: LineConfig, watch: Watch) -> None:
        """Judge each metric of a watch with what is kept, act on what is found, and end the watch when its time is up."""
        line = self.keeper.board.line(config.name)
        deployment = line.deployment(watch.deployment)
        now = self.clock.now()
        if deployment is None or deployment.state == "failed":
            await self._end(config, watch, "undecided", "the deployment failed before it could be judged")
            return
        judged = config.metrics
        if not judged:
            if now >= watch.until:
                await self._end(config, watch, "undecided", "this line has no metric")
            return
        # Anew each time: a clock that was off may have been set right since it began.
        began = self._began(config, deployment)
        watch = msgspec.structs.replace(watch, began=began, until=began + watch.until - watch.began)
        newer = _newer(line, deployment)
        until = min(watch.until, self._began(config, newer)) if newer else watch.until
        found = [await self._judge_metric(config, metric, watch, deployment, until) for metric in judged]
        finals = [verdict for verdict, final in found if final]
        if len(finals) == len(judged):
            await self._conclude(config, watch, finals, newer, until)

    async def _judge_metric(
        self, config: LineConfig, metric: Metric, watch: Watch, deployment: Deployment, until: Time
    ) -> tuple[Verdict, bool]:
        """The verdict on one metric, recorded and acted on if it is news, and whether it is final."""
        known = watch.verdicts.get(metric.name)
        if known is not None and known.word == "regressed":
            return known, True
        until = min(until, statistical.window(config, metric, watch).until)
        verdict, final = await self._verdict(config, metric, watch, until, self.clock.now())
        # The last word is for who has looked: after a suspend, or in a new process, nobody has asked yet.
        asked = min(self._asked_at(config, one) for one in (metric, metric.beside) if one is not None)
        final = final and (verdict.word == "regressed" or asked >= until + metric.lag)
        if known is None or known.word != verdict.word:
            await self._found(config, metric, watch, deployment, verdict)
        elif known.onset != verdict.onset or (final and known.sentence != verdict.sentence):
            # The same word for another reason: that is recorded with its numbers, and nothing is done.
            await self.keeper.commit(
                Judged(line=config.name, at=verdict.at, deployment=watch.deployment, verdict=verdict)
            )
        return verdict, final

    async def _verdict(
        self, config: LineConfig, metric: Metric, watch: Watch, until: float, now: float
    ) -> tuple[Verdict, bool]:
        if words := self._of_another_time(metric):
            blind = Verdict(word="blind", sentence=f"{metric.name}: {words}", metric=metric.name, at=now)
            return blind, now >= until + metric.lag
        gone = self.gone.get((config.name, metric.name), "")
        if metric.beside is not None and not gone and (words := self.gone.get((config.name, metric.beside.name), "")):
            gone = f"its control: {words}"
        if metric.threshold is None:
            return await self.statistical.verdict(config, metric, watch, now, gone)
        start, end = threshold.window(metric, watch.began, until)
        series = f"{config.name}/{metric.name}"
        rows = await self._kept(series, start, end)
        return threshold.judge(metric, rows, watch.version, watch.began, until, now, gone)

    def _asked_at(self, config: LineConfig, metric: Metric) -> Time:
        """When a metric was last asked for its buckets."""
        return max(self._asked.get((config.name, name), 0.0) for name in ("", metric.name))

    def _of_another_time(self, metric: Metric) -> str:
        """Why a metric's buckets are not of the time they name: their source's clock is off by more than one of them."""
        off_s = self.skew_s.get(metric.source, 0.0)
        if abs(off_s) <= metric.every:
            return ""
        return f"the clock of {metric.source} is {abs(off_s):.0f} s {'ahead' if off_s > 0 else 'behind'}"

    async def _kept(self, series: str, start: Time, end: Time) -> tuple[Sample, ...]:
        return await self.keeper.call(lambda ledger: ledger.samples(series, start, end))

    async def _found(
        self,
        config: LineConfig,
        metric: Metric,
        watch: Watch,
        deployment: Deployment,
        verdict: Verdict,
    ) -> None:
        """Act on a verdict first, then record it with what was done: a crash between judges again, and joins."""
        did = await self._act(config, metric, deployment, verdict)
        events = [Judged(line=config.name, at=verdict.at, deployment=watch.deployment, verdict=verdict, did=did)]
        if verdict.word == "regressed":
            whole = Verdict(word="regressed", sentence=verdict.sentence, onset=verdict.onset, at=verdict.at)
            events.append(Judged(line=config.name, at=verdict.at, deployment=watch.deployment, verdict=whole, did=did))
        await self.keeper.commit(*events)

    async def _act(self, config: LineConfig, metric: Metric, deployment: Deployment, verdict: Verdict) -> str:
        """Do what the policy says; returns what was done, in words."""
        if verdict.word not in ("regressed", "blind"):
            return ""
        deploy = self.stations.deploy(config.name)
        can = deploy.can if deploy else None
        now = self.clock.now()
        together = await self._together(config, verdict, now)
        decision = policy.decide(
            self.keeper.board, config, metric, verdict, deployment, can, self.skew_s, now, together
        )
        why, words, done = verdict.sentence, decision.words, ""
        try:
            if decision.stop:
                await self.cord.pull(config.name, IMMUNE, why, kind="immune", deployment=deployment.id)
                done = "stopped, "
            if decision.rollback:
                await self.shipper.rollback(config.name, IMMUNE, why, expected=deployment.id, auto=True)
        except NotDone as error:
            words = (
                f"{done or 'not stopped, '}not rolled back: {error}" if decision.rollback else f"not stopped: {error}"
            )
        short = rollback.short(deployment.version)
        title = f"{config.name} {short} {verdict.word}"
        kind: Literal["blind", "verdict"] = "blind" if verdict.word == "blind" else "verdict"
        key = f"{deployment.id}/{metric.name}/{verdict.word}"
        await self.cord.tell(config.name, kind, title, f"{why}. {words}", IMMUNE, key)
        return words

    async def _why_not(self, config: LineConfig, deployment: Deployment, verdict: Verdict) -> str:
        """Which rule forbids an automatic rollback of what runs, for a verdict that was found before; empty: none."""
        deploy, now = self.stations.deploy(config.name), self.clock.now()
        can = deploy.can if deploy else None
        together = await self._together(config, verdict, now)
        return policy.why_not(self.keeper.board, config, deployment, can, self.skew_s, now, together, at=verdict.at)

    async def _together(self, config: LineConfig, verdict: Verdict, now: float) -> str:
        """Another line whose metric left its bounds at the same time, watched or not; empty: none."""
        if verdict.word != "regressed" or verdict.onset is None:
            return ""
        for other in self.config.lines.values():
            for metric in other.metrics if other.name != config.name else ():
                series, start = f"{other.name}/{metric.name}", verdict.onset - policy.MASS_S - 3 * metric.every
                rows = await self._kept(series, start, now)
                if threshold.together(metric, rows, verdict.onset, policy.MASS_S):
                    return other.name
        return ""

    async def _conclude(
        self, config: LineConfig, watch: Watch, finals: list[Verdict], newer: Deployment | None, until: Time
    ) -> None:
        """The verdict on the deployment, from those on its metrics."""
        worst = min(finals, key=lambda verdict: SEVERITY.index(verdict.word))
        words = [verdict.word for verdict in finals]
        if worst.word == "regressed":
            await self._end(config, watch, "regressed", worst.sentence)
        elif newer is not None and until < watch.until:
            ran = long_age(until - watch.began)
            whole = long_age(watch.until - watch.began)
            sentence = f"replaced by {rollback.short(newer.version)} after {ran} of {whole}"
            await self._end(config, watch, "undecided", sentence)
        elif all(word == "healthy" for word in words):
            await self._end(config, watch, "healthy", "; ".join(verdict.sentence for verdict in finals))
        elif all(word == "blind" for word in words):
            await self._end(config, watch, "blind", worst.sentence)
        else:
            undecided = next(verdict for verdict in finals if verdict.word != "healthy")
            await self._end(config, watch, "undecided", undecided.sentence)

    async def _end(self, config: LineConfig, watch: Watch, word: VerdictWord, sentence: str) -> None:
        now = self.clock.now()
        verdict = Verdict(word=word, sentence=sentence, at=now)
        event = Judged(
            line=config.name, at=now, deployment=watch.deployment, verdict=verdict, final=True, did=watch.did
        )
        await self.keeper.commit(event)
        self.statistical.forget(config.name, watch.deployment)

    # ---- did it help?

    async def measure_recovery(self, config: LineConfig) -> None:
        """After each confirmed rollback, measure again what had regressed, until it is known whether it helped."""
        line = self.keeper.board.line(config.name)
        for act in tuple(line.acts.values()):
            if act.kind != "rollback" or act.state != "verified" or act.settled_at is None:
                continue
            known = line.helped.get(act.expected)
            if known is not None and known.word != "too early":
                continue
            watch = _blamed(line, act)
            metric = self._suspect(config, watch)
            if metric is None:
                continue
            await self._measure_one(config, act, watch, metric, known.word if known else "")

    async def _measure_one(self, config: LineConfig, act: Act, watch: Watch | None, metric: Metric, known: str) -> None:
        if self._of_another_time(metric):
            return
        undone_at, now = act.settled_at or act.at, self.clock.now()
        series = f"{config.name}/{metric.name}"
        rows = await self._kept(series, undone_at, now)
        word, sentence = await self._recovered(config, watch, metric, rows, undone_at, now)
        if word == known:
            return
        stop = self.keeper.board.line(config.name).stop
        undone = dict.fromkeys((act.expected, watch.deployment if watch else act.expected))
        helped = Helped(line=config.name, at=now, deployment="", word=word, sentence=sentence, hold=stop)
        await self.keeper.commit(*(msgspec.structs.replace(helped, deployment=item) for item in undone))
        if word != "too early":
            key = f"{act.id}/{word}"
            await self.cord.tell(config.name, "rollback", f"{config.name} {word}", sentence, IMMUNE, key)

    async def _recovered(
        self,
        config: LineConfig,
        watch: Watch | None,
        metric: Metric,
        rows: tuple[Sample, ...],
        undone_at: Time,
        now: Time,
    ) -> tuple[recovery.Word, str]:
        if metric.threshold is not None:
            return recovery.measure(metric, rows, undone_at, now)
        known = self.statistical.expected if metric.control is None else self.statistical.beside
        pursuit = await known(config, metric, watch) if watch else None
        if watch is None or pursuit is None:
            return "too early", f"{metric.name}: what was expected of it is not known"
        effect = await self.statistical.effect(config, metric, watch, pursuit)
        return recovery.measure_expected(metric, rows, undone_at, now, pursuit.expected, effect)

    def _suspect(self, config: LineConfig, watch: Watch | None) -> Metric | None:
        """The metric to measure after a rollback: the one that regressed, else the first with a threshold."""
        if watch is not None:
            for name, verdict in watch.verdicts.items():
                metric = config.metric(name)
                if verdict.word == "regressed" and metric is not None:
                    return metric
        with_bounds = (metric for metric in config.metrics if metric.threshold is not None)
        return next(with_bounds, config.metrics[0] if config.metrics else None)


def _newer(line: Line, deployment: Deployment) -> Deployment | None:
    """The first deployment that replaced this one."""
    later = line.deployments[line.deployments.index(deployment) + 1 :]
    return next((item for item in later if item.state != "failed"), None)


def _blamed(line: Line, act: Act) -> Watch | None:
    """The watch that a rollback answers: of what it undid; where that was not blamed, of the newest before it that was.

    None of them was blamed: a person went back, and the watch of what was undone is taken.
    """
    undone, target = line.deployment(act.expected), line.watches.get(act.expected)
    if undone is None:
        return target
    for item in reversed(line.deployments[: line.deployments.index(undone) + 1]):
        watch = line.watches.get(item.id)
        if item.version == act.version or (item.id != undone.id and line.went_back(item)):
            break
        if watch is not None and any(verdict.word == "regressed" for verdict in watch.verdicts.values()):
            return watch
    return target
