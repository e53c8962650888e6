"""DORA's five keys and ours, of one line, from its ledger.

Definitions as of DORA's guide of January 2026 (dora.dev/guides/dora-metrics). What counts: a *deployment* is one that went
live and is no return to an earlier version; it *failed* if it was rolled back, stopped because of it, or marked faulty by
a person, once however many changes it shipped; a mark `good` by a person afterwards makes it a false alarm.
"""

import statistics
from collections.abc import Sequence

import msgspec

from andon.clock import Time
from andon.learning.figures import Figure, Point, count, middle, rate, share
from andon.learning.story import Shipment, Story
from andon.model import Change, Record, Run

DAY_S = 86_400.0
IMMUNE = "andon"


STATIONS = ("waits for a run", "build and test", "waits to ship", "rolls out")


class Station(Record, frozen=True, omit_defaults=False):
    """Where the lead time went: the medians of its parts, which need not add up to the median of the whole."""

    name: str
    time: Figure


class Keys(Record, frozen=True, omit_defaults=False):
    """The figures of one line from `since` to `until`. A figure without rows has no value."""

    line: str
    since: Time
    until: Time
    days: float
    """Of the stretch in which this ledger looked."""
    lead_time: Figure
    stations: tuple[Station, ...]
    frequency: Figure
    fail_rate: Figure
    recovery: Figure
    rework: Figure
    batch: Figure
    """Changes a deployment, as a middle."""
    learning: Figure
    """From the commit to the end of the watch that judged it."""
    stopping: Figure
    """From the pull to the last target's confirmed halt."""
    prevented: Figure
    """Deployments which andon took back by itself and that nobody marked good afterwards."""
    false_alarms: Figure
    """Of the stops and rollbacks of the immune system, those whose deployment a person marked good afterwards."""
    pulls: Figure
    """How often people pulled the cord."""
    deploy_days: float | None = None
    """On how many days of a week it shipped, as a median over the whole weeks."""
    legacy: str = ""
    """The cluster of 2024's report that lead time and frequency fall in; DORA gave the clusters up in 2025."""


def keys(story: Story, since: Time, until: Time) -> Keys:
    """The keys of what went live from `since` on and before `until`.

    How much and how fast is told from the vendor's history, too; what failed and what it took only from the ledger's first
    event on, because nobody wrote down before what was stopped or marked.
    """
    gone_live = [item for item in story.shipments if item.live_at is not None and since <= item.live_at < until]
    shipped = [item for item in gone_live if not item.back]
    inside = [item for item in gone_live if (item.live_at or 0.0) >= story.first_at]
    forward = [item for item in inside if not item.back]
    oldest = min((item.live_at or until for item in story.shipments), default=until)
    since = min(max(since, min(oldest, story.first_at or until)), until)
    days = (until - since) / DAY_S
    never = sum(item.deployment.state == "failed" and since <= item.deployment.at < until for item in story.shipments)
    lead = [point for item in shipped for point in _lead(item)]
    failed = [item for item in forward if why_failed(item)]
    looked = "" if story.first_at <= since else "since andon looks"
    found = Keys(
        line=story.line,
        since=since,
        until=until,
        days=days,
        lead_time=middle(lead, "" if lead else "no change that went live is known"),
        stations=_stations(story, shipped),
        frequency=rate([_point(item, 1.0) for item in shipped], days, _never(never)),
        fail_rate=share([_point(item, float(bool(why_failed(item))), why_failed(item)) for item in forward], looked),
        recovery=_recovery(story, failed),
        rework=share(
            [_point(item, float(bool(words)), words) for item in forward for words in [_rework(story, item)]], looked
        ),
        batch=_sizes(shipped),
        learning=_learning(forward),
        stopping=_stopping(story, since, until),
        prevented=count([_point(item, 1.0) for item in inside if item.undone and item.undone.auto and not _good(item)]),
        false_alarms=_false_alarms(inside),
        pulls=count(_pulls(story, since, until)),
    )
    return msgspec.structs.replace(found, legacy=legacy(found), deploy_days=deploy_days(found))


def why_failed(item: Shipment) -> str:
    """Why a deployment counts as failed; empty: it does not."""
    if _good(item):
        return ""
    if item.undone is not None:
        return f"rolled back by {'andon' if item.undone.auto else item.undone.who}"
    if item.returned:
        return "rolled back outside andon"
    faulty = [mark for mark in item.marks if mark.mark == "faulty"]
    if faulty:
        return f"marked faulty by {faulty[-1].who}"
    if item.holds:
        return f"the line was stopped for it by {item.holds[0].owner}"
    return ""


def _good(item: Shipment) -> bool:
    """Whether a person had the last word, and it was `good`."""
    marks = [mark for mark in item.marks if mark.mark != "irreversible"]
    return bool(marks) and marks[-1].mark == "good" and marks[-1].who != IMMUNE


def _point(item: Shipment, value: float, words: str = "") -> Point:
    return Point(item.ref, item.live_at or item.deployment.at, value, words)


def _never(number: int) -> str:
    return f"{number} that never went live {'is' if number == 1 else 'are'} not counted" if number else ""


def _lead(item: Shipment) -> list[Point]:
    """A row for each change that it shipped first; zero counts, a commit from the future counts as zero."""
    live = item.live_at or 0.0
    return [Point(change.id[:12], live, max(0.0, live - change.at), change.title) for change in item.batch if change.at]


def _stations(story: Story, forward: Sequence[Shipment]) -> tuple[Station, ...]:
    runs: dict[str, list[Run]] = {}
    for run in story.runs.values():
        runs.setdefault(run.change, []).append(run)
    parts: dict[str, list[Point]] = {name: [] for name in STATIONS}
    for item in forward:
        for change in item.batch:
            for name, seconds in _parts(change, item, runs.get(change.id, ())):
                parts[name].append(Point(change.id[:12], item.live_at or 0.0, max(0.0, seconds)))
    return tuple(Station(name, middle(rows)) for name, rows in parts.items())


def _parts(change: Change, item: Shipment, runs: Sequence[Run]) -> list[tuple[str, float]]:
    began, live = item.deployment.at, item.live_at or item.deployment.at
    found = [("rolls out", live - began)] if item.seen_rolling else []
    passed = [run for run in runs if run.state == "passed" and run.ended_at is not None and run.at]
    if change.at and passed:
        first = min(run.at for run in runs if run.at)
        done = min(run.ended_at for run in passed if run.ended_at is not None)
        shipping = [stage for run in passed for stage in run.stages if stage.station == "deploy" and stage.at]
        if shipping:  # the pipeline ships: its tests end where its deployment begins
            done = min(done, *(stage.at for stage in shipping))
        found += [
            ("waits for a run", first - change.at),
            ("build and test", done - first),
            ("waits to ship", began - done),
        ]
    return found


def _recovery(story: Story, failed: Sequence[Shipment]) -> Figure:
    """From a bad deployment's going live until another version is live and its metric is back, where one is measured."""
    rows, open_ = [], 0
    for item in failed:
        end = _well_again(story, item)
        if end is None:
            open_ += 1
        else:
            rows.append(Point(item.ref, end[0], max(0.0, end[0] - (item.live_at or 0.0)), end[1]))
    return middle(rows, f"{open_} not recovered yet" if open_ else "")


def _well_again(story: Story, item: Shipment) -> tuple[Time, str] | None:
    later = [
        other
        for other in story.shipments
        if other.live_at is not None
        and other.deployment.at > item.deployment.at
        and other.deployment.version != item.deployment.version
    ]
    if not later:
        return None
    live = later[0].live_at or 0.0
    if item.helped is None or item.helped.word == "too early":
        return live, "another version live; not measured"
    if item.helped.word == "recovered":
        return max(live, item.helped.at), "measured"
    for other in later:
        if other.verdict is not None and other.verdict.word == "healthy" and other.judged_at is not None:
            return other.judged_at, "going back did not help; a later deployment was healthy"
    return None


def _rework(story: Story, item: Shipment) -> str:
    """Why a deployment is unplanned work for an incident; empty: it is planned."""
    if item.pushed is not None and item.pushed.hold:
        return "pushed through a stop"
    began = item.deployment.at
    for hold in story.holds.values():
        if hold.deployment and hold.since < began < (hold.lifted_at or began + 1):
            return "shipped while the line was stopped for a deployment"
    return ""


def _sizes(forward: Sequence[Shipment]) -> Figure:
    rows = [_point(item, float(len(item.batch))) for item in forward if item.batch]
    found = middle(rows)
    return msgspec.structs.replace(found, unit="count")


def _learning(forward: Sequence[Shipment]) -> Figure:
    rows = [
        Point(item.ref, item.judged_at, max(0.0, item.judged_at - min(ats)), item.verdict.word if item.verdict else "")
        for item in forward
        if item.judged_at is not None and (ats := [change.at for change in item.batch if change.at])
    ]
    return middle(rows)


def _stopping(story: Story, since: Time, until: Time) -> Figure:
    rows = []
    for stop in {hold.stop for hold in story.holds.values()}:
        first = min(hold.since for hold in story.holds.values() if hold.stop == stop)
        halts = [act for act in story.acts.values() if act.kind == "halt" and act.subject == stop]
        done = [act.settled_at for act in halts if act.state == "verified" and act.settled_at is not None]
        if since <= first < until and halts and len(done) == len(halts):
            rows.append(Point(stop, first, max(0.0, max(done) - first)))
    return middle(sorted(rows, key=lambda row: row.at))


def _false_alarms(inside: Sequence[Shipment]) -> Figure:
    rows = []
    for item in inside:
        immune = [hold for hold in item.holds if hold.kind == "immune"]
        if immune or (item.undone is not None and item.undone.auto):
            rows.append(_point(item, float(_good(item)), "marked good afterwards" if _good(item) else ""))
    return share(rows)


def _pulls(story: Story, since: Time, until: Time) -> list[Point]:
    return [
        Point(hold.id, hold.since, 1.0, hold.why)
        for hold in story.holds.values()
        if hold.kind == "person" and since <= hold.since < until
    ]


def legacy(found: Keys) -> str:
    """The 2024 cluster of lead time and frequency, the worse of the two; empty: too little is known."""
    lead, often = found.lead_time.value, found.frequency.value
    if lead is None or often is None:
        return ""
    by_lead = _band(lead / DAY_S, (1, 7, 30))
    by_often = _band(1 / often, (1, 7, 30))
    return ("elite", "high", "medium", "low")[max(by_lead, by_often)]


def _band(days: float, edges: Sequence[float]) -> int:
    return sum(days > edge for edge in edges)


def deploy_days(found: Keys) -> float | None:
    """The median of deploy-days a week over the whole weeks; None without one."""
    weeks = int(found.days // 7)
    if not weeks:
        return None
    days: list[set[int]] = [set() for _ in range(weeks)]
    for row in found.frequency.rows:
        index = int((found.until - row.at) // (7 * DAY_S))
        if index < weeks:
            days[index].add(int(row.at // DAY_S))
    return float(statistics.median(len(item) for item in days))
