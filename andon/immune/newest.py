"""When the deployment that is blamed does not run any more: the newest goes back first, unless it may be the fix.

The line is stopped at once, by the verdict. What was shipped in between, before anybody knew, may repair what is broken:
it has five minutes to show it, and is then judged by its own buckets alone against what was expected before the one that is
blamed. Only when they show the same damage, as surely as a regression is shown, does it go back, to the version before
both. What came through the stop, or after somebody went back, is never undone; nor is anything a while after the stop.
"""

import math
from collections.abc import Awaitable, Callable, Sequence

from andon import rollback
from andon.acts import NotDone
from andon.board import Line, Watch
from andon.clock import Clock, Time
from andon.config import LineConfig
from andon.cord import Cord
from andon.events import Judged
from andon.immune import policy, recovery
from andon.immune.policy import IMMUNE
from andon.immune.statistical import Statistical, series
from andon.immune.threshold import buckets_of
from andon.keeper import Keeper
from andon.model import Deployment, Hold, Metric, Sample, Verdict
from andon.ship import Shipper

SETTLES_S = 300.0
"""What repairs may take so long to show it: a restart, and queues and caches that must run dry."""
LIMIT_S = 900.0
"""So long after the stop the immune system leaves it to a person."""
SAME = 0.75
"""It shows this part of the damage at least: a repair of a part of it is one, too."""


def goes_first(line: Line, blamed: Watch, now: Time) -> Deployment | None:
    """The deployment that runs in place of the one that is blamed, if it may have to go back first; None: it may not."""
    found, current = line.deployment(blamed.deployment), line.current
    if found is None or current is None or current.id == found.id or current.state != "settled":
        return None
    later = line.deployments[line.deployments.index(found) + 1 :]
    shipped = [found, *(item for item in later if item.state != "failed")]
    hold = stop_for(line, blamed)
    if current not in shipped or hold is None or now - hold.since > LIMIT_S:
        return None
    undone = {act.expected for act in line.acts.values() if act.kind == "rollback"}
    known = all(began(line, item) < hold.since and item.id not in undone for item in shipped)
    calm = not any(line.went_back(item) or in_a_stop(line, item, hold) for item in shipped)
    return current if known and calm else None


def stop_for(line: Line, blamed: Watch) -> Hold | None:
    """The open hold that was placed for what is blamed, while nobody has taken a hold of the line on."""
    if any(hold.has for hold in line.open_holds):
        return None
    return next(
        (hold for hold in line.open_holds if (hold.owner, hold.deployment) == (IMMUNE, blamed.deployment)), None
    )


def in_a_stop(line: Line, item: Deployment, but: Hold) -> bool:
    """Whether a deployment began while the line was stopped for another reason: then somebody sent it through."""
    at = began(line, item)
    stops = [hold for hold in line.holds if hold.id != but.id]
    return any(hold.since <= at and (hold.lifted_at is None or at <= hold.lifted_at) for hold in stops) or any(
        act.kind == "push" and act.ref == item.id for act in line.acts.values()
    )


def began(line: Line, item: Deployment) -> Time:
    """When a deployment began, by our clock where that is known."""
    watch = line.watches.get(item.id)
    return watch.began if watch else item.at


def since(at: Time, metric: Metric) -> Time:
    """From when on the buckets of a deployment that began at `at` speak for it."""
    return math.ceil((at + SETTLES_S) / metric.every) * metric.every


def beyond_still(metric: Metric, rows: Sequence[Sample]) -> bool:
    """Whether the newest buckets of a metric with a threshold are beyond it for as long as makes a regression."""
    if metric.threshold is None:
        return False
    last = rows[-buckets_of(metric, metric.threshold) :]
    whole = len(last) == buckets_of(metric, metric.threshold) and last[-1].at - last[0].at < len(last) * metric.every
    shown = [row.shown(metric.kind) for row in last]
    return whole and all(value is not None and metric.threshold.beyond(value) for value in shown)


class NewestFirst:
    """Rolls the newest deployment of a line back where an older one is blamed, and it does not help."""

    def __init__(
        self,
        keeper: Keeper,
        clock: Clock,
        cord: Cord,
        shipper: Shipper,
        statistical: Statistical,
        why_not: Callable[[LineConfig, Deployment, Verdict], Awaitable[str]],
    ) -> None:
        """`why_not` says which rule forbids an automatic rollback of a deployment for a verdict; empty: none."""
        self.keeper, self.clock, self.cord, self.shipper = keeper, clock, cord, shipper
        self.statistical = statistical
        self.why_not = why_not
        self._decided: set[tuple[str, str, str]] = set()
        """Line, what is blamed, and what ran then: decided once by this process; what was done is in the ledger."""

    async def look(self, config: LineConfig) -> None:
        """See for each deployment that is blamed and does not run whether the one that does must go first."""
        line = self.keeper.board.line(config.name)
        for watch in tuple(line.watches.values()):
            newest = goes_first(line, watch, self.clock.now())
            if newest is None or (config.name, watch.deployment, newest.id) in self._decided:
                continue
            for name, verdict in watch.verdicts.items():
                metric = config.metric(name)
                if metric is None or verdict.word != "regressed" or not policy.rolls_back(line, config, metric):
                    continue
                if await self._same(config, metric, watch, newest):
                    self._decided.add((config.name, watch.deployment, newest.id))
                    await self._decide(config, metric, watch, newest, verdict)
                    break

    async def _same(self, config: LineConfig, metric: Metric, watch: Watch, newest: Deployment) -> bool:
        """Whether the newest deployment's own buckets, up to now, show the damage of the one that is blamed."""
        now, name = self.clock.now(), series(config, metric)
        first = since(began(self.keeper.board.line(config.name), newest), metric)
        rows = await self.keeper.call(lambda ledger: ledger.samples(name, first, now))
        if not rows or now - (rows[-1].at + metric.every) > metric.lag + 2 * metric.every:
            return False
        if metric.threshold is not None:
            return beyond_still(metric, rows)
        pursuit = await self.statistical.expected(config, metric, watch)
        if pursuit is None:
            return False
        from andon.immune.judging import Judge

        effect = await self.statistical.effect(config, metric, watch, pursuit)
        judge = Judge(pursuit.armed)
        for row in rows:
            found = judge.take(row.at, row.value, math.nan if row.n is None else row.n)
            if found is not None:
                lately = recovery.off_by(metric, rows[-recovery.least(metric) :], pursuit.expected)
                return lately is not None and min(found.effect / effect, lately / effect) >= SAME
        return False

    async def _decide(
        self, config: LineConfig, metric: Metric, watch: Watch, newest: Deployment, verdict: Verdict
    ) -> None:
        """Roll the newest back if every rule holds, or say which does not; once."""
        line = self.keeper.board.line(config.name)
        short = rollback.short(newest.version)
        helps = f"{short}, shipped since, does not bring {metric.name} back"
        reason = _not_before(line, watch, self.clock.now()) or await self.why_not(config, newest, verdict)
        did = f"stopped; {helps}: rolled back first"
        try:
            if not reason:
                why = f"{verdict.sentence}; {helps}"
                await self.shipper.rollback(config.name, IMMUNE, why, expected=newest.id, auto=True)
        except NotDone as error:
            reason = str(error)
        if reason:
            did = f"stopped; {helps}; not rolled back: {reason}"
        now = self.clock.now()
        whole = Verdict(word="regressed", sentence=verdict.sentence, onset=verdict.onset, at=now)
        await self.keeper.commit(Judged(line=config.name, at=now, deployment=watch.deployment, verdict=whole, did=did))
        title, key = f"{config.name} {short} does not help", f"{watch.deployment}/{newest.id}/newest"
        await self.cord.tell(config.name, "verdict", title, f"{verdict.sentence}. {did}", IMMUNE, key)


def _not_before(line: Line, blamed: Watch, now: Time) -> str:
    """Why a rollback would not undo what is blamed; empty: it would."""
    found, target = line.deployment(blamed.deployment), rollback.target(line, now)
    if (
        found is None
        or isinstance(target, rollback.Nothing)
        or line.deployments.index(target.to) < (line.deployments.index(found))
    ):
        return ""
    return f"{rollback.short(target.to.version)}, to which it would return, came after {rollback.short(found.version)}"
