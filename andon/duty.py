"""The duty of the engine that holds the lease: follow the sources, keep samples, reconcile halts, judge, and act.

Each task is supervised on its own: one that dies is told under its name, and started again within five seconds.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from andon import feed
from andon.acts import NotDone
from andon.board import DEPLOYMENTS, RUNS
from andon.clock import Clock, Time
from andon.config import Config, Entry, LineConfig
from andon.cord import Cord, pulse_key
from andon.events import ChangesSeen, DeploymentSeen, Event, RunSeen, SourceSeen, SourceWord
from andon.immune.policy import SKEW_OFF_S
from andon.immune.watcher import Watcher
from andon.keeper import Keeper
from andon.model import Deployment, Identity, Metric, Run, Samples
from andon.ports import READ_LIMIT_S, Changes, Fact, Halting, LedgerUnusable, Metrics, Pulse, Source, Unreachable, whole
from andon.proof import read_halted
from andon.ship import Shipper
from andon.stations import Stations

log = logging.getLogger("andon.duty")

RESTART_S = 2.0
HISTORY_S = 3600.0
"""How far back samples are asked for when none are kept."""
KEEP_S = 48 * 3600.0
HOLES_S = 900.0
"""A missing bucket is asked for again for so long; then it stays a gap."""
SKEW_EVERY_S = 60.0
SKEW_WARN_S = 5.0
PULSE_EVERY_S = 1.0
TIMELESS = 10_000


def series_name(line: str, metric: str) -> str:
    """Under which name the samples of a metric are kept."""
    return f"{line}/{metric}"


class Duty:
    """All tasks of the lease holder."""

    def __init__(
        self, config: Config, stations: Stations, keeper: Keeper, clock: Clock, cord: Cord, shipper: Shipper
    ) -> None:
        self.config = config
        self.stations = stations
        self.keeper = keeper
        self.clock = clock
        self.cord = cord
        self.skew_s: dict[str, float] = {}
        self.watcher = Watcher(config, stations, keeper, clock, cord, shipper, self.skew_s)
        self._tasks: list[asyncio.Task[None]] = []
        self._pulsed: dict[str, Time] = {}
        self._parts: dict[tuple[str, str], dict[str, tuple[SourceWord, str]]] = {}
        self._timeless: set[tuple[str, Run | Deployment]] = set()
        """What was told without a time that orders it, and may have left the board since."""
        self._saying = asyncio.Lock()
        self._compared = asyncio.Event()

    def start(self) -> None:
        """Begin all tasks."""
        for line in self.config.lines.values():
            for entry in line.ci:
                self._supervise(f"{line.name}/{entry.target}", self._follow_ci(line, entry))
            if line.deploy is not None:
                self._supervise(f"{line.name}/{line.deploy.target}", self._follow_deploy(line, line.deploy))
            for entry in line.halting:
                self._supervise(f"{line.name}/{entry.target} halted", self._watch_halted(line, entry))
            for metric in line.measured:
                self._supervise(f"{line.name}/{metric.name}", self._measure(line, metric))
            self._supervise(f"{line.name}/judge", self._judge(line))
        self._supervise("clocks", self._compare_clocks)

    async def stop(self) -> None:
        """End all tasks; what they committed is in the ledger, and whoever takes the lease goes on from there."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    @property
    def clock_words(self) -> str:
        """What is wrong with the clocks; empty: nothing."""
        off = {name: seconds for name, seconds in self.skew_s.items() if abs(seconds) > SKEW_WARN_S}
        words = ", ".join(
            f"clock of {name} {abs(seconds):.0f} s {'ahead' if seconds > 0 else 'behind'}"
            for name, seconds in sorted(off.items(), key=lambda item: -abs(item[1]))
        )
        return f"auto off: {words}" if any(abs(seconds) > SKEW_OFF_S for seconds in off.values()) else words

    def _supervise(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._tasks.append(asyncio.create_task(self._keep_alive(name, work), name=name))

    async def _keep_alive(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            try:
                await work()
            except LedgerUnusable:
                pass  # the keeper says so; nothing is done that cannot be recorded
            except Exception as error:  # noqa: BLE001 - the supervisor: the death is told, and the task started again
                words = f"{type(error).__name__}"
                try:
                    await self.keeper.pulse(Pulse(f"task:{name}", self.clock.now(), "error", words))
                except LedgerUnusable:
                    pass
            await self.clock.sleep(self.clock.real(RESTART_S))

    # ---- sources

    def _follow_ci(self, line: LineConfig, entry: Entry) -> Callable[[], Coroutine[Any, Any, None]]:
        async def work() -> None:
            source = self.stations.open_ci(line.name, entry)
            await self._follow(line, entry, source.watch)

        return work

    def _follow_deploy(self, line: LineConfig, entry: Entry) -> Callable[[], Coroutine[Any, Any, None]]:
        async def work() -> None:
            source = self.stations.deploy(line.name)
            if source is not None:
                await self._follow(line, entry, source.watch)

        return work

    async def _follow(self, line: LineConfig, entry: Entry, watch: Callable[[], Any]) -> None:
        async def on_fact(fact: Fact) -> None:
            event = self._event(line.name, entry.source, fact)
            if event is not None:
                await self.keeper.commit(event)

        part = "deploy" if entry is line.deploy else "ci"

        async def on_state(word: SourceWord, words: str) -> None:
            await self.source_state(line.name, entry.source, f"{part} {entry.target}", word, words)

        await feed.follow(watch, self.clock, entry.every_s, on_fact, on_state)

    def _event(self, line: str, source: str, fact: Fact) -> Event | None:
        """The event for a fact, if the board does not hold it already."""
        board, now = self.keeper.board.line(line), self.clock.now()
        if isinstance(fact, Changes):
            return self._changes_event(line, source, fact)
        if isinstance(fact, Run):
            known = board.runs.get(fact.id)
            if known == fact or (known is None and self._let_go(line, fact, tuple(board.runs.values()), RUNS)):
                return None
            return RunSeen(line=line, at=fact.ended_at or fact.at or now, source=source, run=fact)
        shipped = board.deployment(fact.id)
        if shipped == fact or (shipped is None and self._let_go(line, fact, board.deployments, DEPLOYMENTS)):
            return None
        return DeploymentSeen(line=line, at=fact.at or now, source=source, deployment=fact)

    def _changes_event(self, line: str, source: str, fact: Changes) -> Event | None:
        known = {change.id for change in self.keeper.board.line(line).changes}
        fresh = [index for index, change in enumerate(fact.items) if change.id not in known]
        if not fresh:
            return None
        # With the known one after them, if there is one: it shows the fold where they belong.
        told = fact.items[fresh[0] : fresh[-1] + 2]
        at = fact.items[fresh[-1]].at or self.clock.now()
        event = ChangesSeen(line=line, at=at, source=source, changes=told)
        return None if self.keeper.board.apply(event) is self.keeper.board else event

    def _let_go(self, line: str, fact: Run | Deployment, kept: Sequence[Run | Deployment], most: int) -> bool:
        """Whether a board that is full would drop a fact, or has done so, so that telling it again would never end."""
        if len(kept) < most:
            return False
        oldest = min(item.at for item in kept)
        if fact.at != oldest:
            return fact.at < oldest
        if len(self._timeless) > TIMELESS:
            self._timeless.clear()
        known = (line, fact) in self._timeless
        self._timeless.add((line, fact))
        return known

    async def source_state(self, line: str, source: str, part: str, word: SourceWord, words: str) -> None:
        """Note a sign of life of one use of a source; say *gone* once and *back* once, when all its uses are back."""
        parts = self._parts.setdefault((line, source), {})
        parts[part] = (word, words)
        async with self._saying:
            word, words = next((said for said in parts.values() if said[0] != "ok"), ("ok", ""))
            now, known = self.clock.now(), self.keeper.board.line(line).sources.get(source)
            if (known.state if known else "") != word or (word != "ok" and known is not None and known.words != words):
                await self.keeper.commit(SourceSeen(line=line, at=now, source=source, state=word, words=words))
                log.info("%s/%s is %s %s", line, source, word, words)
        key = f"source:{line}/{source}"
        if word == "ok" and abs(now - self._pulsed.get(key, 0.0)) >= self.clock.real(PULSE_EVERY_S):
            self._pulsed[key] = now
            await self.keeper.pulse(Pulse(key, now, word, words))

    def _watch_halted(self, line: LineConfig, entry: Entry) -> Callable[[], Coroutine[Any, Any, None]]:
        async def work() -> None:
            halting = self.stations.halting(line.name, entry.target)
            if halting is None:
                raise TypeError(f"{entry.source} cannot halt {', '.join(entry.place.halts)}")
            patience = feed.Patience()
            while True:
                wait = await self._read_halted(line, entry, halting, patience)
                await self.clock.sleep(max(wait, self.clock.real(0.05)))

        return work

    async def _read_halted(self, line: LineConfig, entry: Entry, halting: Halting, patience: feed.Patience) -> float:
        """One read of a halting target; returns the seconds until the next."""
        part = f"halted {entry.target}"
        try:
            found = await read_halted(halting, self.clock)
        except Exception as error:  # noqa: BLE001 - whatever an adapter does is told of its source, and tried again
            word, words = feed.told(_late(error))
            await self.source_state(line.name, entry.source, part, word, words)
            return max(self.clock.real(patience.next(error)), entry.every_s)
        patience.reset()
        await self.source_state(line.name, entry.source, part, "ok", "")
        try:
            odd = await self.cord.reconcile(line.name, entry.target, found)
        except NotDone as error:
            odd = str(error)
        await self.keeper.pulse(Pulse(pulse_key(entry.target), self.clock.now(), "ok", odd))
        return entry.every_s

    # ---- metrics

    def _measure(self, line: LineConfig, metric: Metric) -> Callable[[], Coroutine[Any, Any, None]]:
        async def work() -> None:
            source = self.stations.metrics(line.name, metric.source)
            patience = feed.Patience()
            while True:
                wait = await self._ask_samples(line, metric, source, patience)
                self.watcher.look(line.name, metric.name)
                await self.clock.sleep(wait)

        return work

    async def _ask_samples(self, line: LineConfig, metric: Metric, source: Metrics, patience: feed.Patience) -> float:
        """Ask for the closed buckets that are not kept yet; returns the seconds until the next bucket closes."""
        now, every = self.clock.now(), metric.every
        end = (now - metric.lag) // every * every
        series = series_name(line.name, metric.name)
        began = [watch.began for watch in self.keeper.board.line(line.name).watches.values() if not watch.ended]
        # As far back as an open watch needs, also when nobody watched for long.
        since = max(now - KEEP_S, min([now - max(HISTORY_S, 2 * line.watch_s), *(at - HISTORY_S for at in began)]))
        first = since // every * every
        kept = await self.keeper.call(lambda ledger: ledger.samples(series, first, end))
        start = next_bucket([row.at for row in kept], first, end, every, now)
        wait = max(self.clock.real(0.5), (end + every + metric.lag) - now)
        if start >= end:
            return wait
        part = f"metric {metric.name}"
        try:
            async with asyncio.timeout(READ_LIMIT_S):
                found = whole(await source.samples(metric, start, end, every), Samples)
        except Exception as error:  # noqa: BLE001 - whatever an adapter does is told of its source, and tried again
            word, words = feed.told(_late(error))
            self.watcher.gone[(line.name, metric.name)] = words
            await self.source_state(line.name, metric.source, part, word, words)
            return min(self.clock.real(patience.next(error)), every)
        patience.reset()
        missing = found.words or f"no data: {found.state}" if found.state in ("empty", "stale") else ""
        self.watcher.gone[(line.name, metric.name)] = missing
        await self.source_state(line.name, metric.source, part, "ok", "")
        fresh = [row for row in found.rows if start <= row.at < end]
        if fresh:
            forget = now - KEEP_S
            await self.keeper.call(lambda ledger: ledger.keep(series, fresh, forget), writes=True)
        return min(wait, every)

    def _judge(self, line: LineConfig) -> Callable[[], Coroutine[Any, Any, None]]:
        async def work() -> None:
            await self._compared.wait()  # a clock that is off turns automatic action off, so it is looked at first
            await self.watcher.run(line)

        return work

    # ---- clocks

    async def _compare_clocks(self) -> None:
        await asyncio.gather(*(self._compare(name, source) for name, source in self._sources().items()))
        self._compared.set()
        await self.clock.sleep(self.clock.real(SKEW_EVERY_S))

    def _sources(self) -> dict[str, Source]:
        """Each source once, by name. What cannot be opened is told by who follows it, and keeps no other from anything."""
        found: dict[str, Source] = {}
        for line in self.config.lines.values():
            ways: list[tuple[str, Callable[[], Source | None]]] = [
                (entry.target, partial(self.stations.open_ci, line.name, entry)) for entry in line.ci
            ]
            if line.deploy is not None:
                ways.append((line.deploy.target, partial(self.stations.deploy, line.name)))
            ways += [
                (metric.source, partial(self.stations.metrics, line.name, metric.source)) for metric in line.metrics
            ]
            for name, way in ways:
                with contextlib.suppress(Exception):
                    source = found.get(name) or way()
                    if source is not None:
                        found[name] = source
        return found

    async def _compare(self, name: str, source: Source) -> None:
        try:
            async with asyncio.timeout(READ_LIMIT_S):
                before = self.clock.now()
                identity = whole(await source.whoami(), Identity)
                after = self.clock.now()
        except Exception:  # noqa: BLE001 - the feed of that source says what is wrong, with its age
            return
        if identity.clock is not None:
            # An answer that took long says little of the other clock: half its time is the doubt.
            skew = identity.clock - (before + after) / 2
            self.skew_s[name] = skew if abs(skew) > (after - before) / 2 + 1.0 else 0.0


def next_bucket(kept: list[Time], first: Time, end: Time, every: float, now: Time) -> Time:
    """Where to ask from: after the last bucket kept, or from a hole that may still be filled."""
    if not kept:
        return first
    have = set(kept)
    at = max(first, min(kept[-1] + every, (now - HOLES_S) // every * every))
    while at < end:
        if at not in have and at > kept[0]:
            return at
        at += every
    return end


def _late(error: Exception) -> Exception:
    """What to say of a read that took too long."""
    return Unreachable(f"no answer in {READ_LIMIT_S:.0f} s") if isinstance(error, TimeoutError) else error
