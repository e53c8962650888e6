"""What is true of a line now, in the words of the room: its lamp, its troubles, its verdict. Pure, over a moment."""

from typing import NamedTuple

from andon.board import Line, Watch
from andon.clock import Time
from andon.config import LineConfig
from andon.cord import stands
from andon.model import Act, Deployment, Hold, Metric, Sample, Verdict
from tui.moment import Moment
from tui.panels import calls
from tui.panels.words import ago, login, number

SHOUT_S = 5.0
"""For so long after the key a line says STOPPING."""
SIGN = {"healthy": ("✓", "ok"), "regressed": ("✗", "stop"), "undecided": ("…", "mid"), "blind": ("?", "blind")}
RANKS = {"regressed": 0, "blind": 1, "undecided": 2, "healthy": 3}


class Status(NamedTuple):
    """The lamp of a line."""

    sign: str
    role: str
    word: str
    since: Time | None = None
    """When that began."""


def status(moment: Moment, name: str) -> Status:
    """The lamp and the word of a line: the worst of what is known."""
    line = moment.known(name)
    if any(act.state == "unknown" for act in line.unsettled("rollback", "push")):
        return Status("?", "blind", "unknown", None)
    back = going_back(line)
    if back is not None:
        return Status("◀", "warn", "rolls back", back.at)
    held = line.open_holds
    if held or name in moment.pressed:
        since = held[0].since if held else moment.pressed[name]
        return Status("■", "stop", stop_word(moment, name), since)
    if line.call is not None:
        return Status(calls.SIGN, calls.ROLE, calls.called_words(moment, line.call), None)
    state = moment.state(name)
    if state == "stopped":
        return Status("■", "stop", "stopped", None)
    if moment.warming and state == "unknown":
        return Status("·", "dim", "reading", None)
    if state == "unknown":
        return Status("?", "blind", "unknown", None)
    gone = lost_metrics(moment, name)
    if gone is not None and not moment.warming:
        return Status("?", "blind", "blind", gone)
    return Status("●", "ok", "runs", None)


def stop_word(moment: Moment, name: str) -> str:
    """`STOPPING` right after the key, `stopping` until every target was read, then `stopped`."""
    line = moment.known(name)
    if not line.open_holds:
        return "STOPPING"
    if moment.state(name) == "stopped":
        return "stopped"
    newest = max(hold.since for hold in line.open_holds)
    return "STOPPING" if moment.now - newest < SHOUT_S else "stopping"


def still_moving(line: Line, config: LineConfig) -> int:
    """How many halting targets are not confirmed to stand for the stop."""
    return sum(not stands(line, target) for target in config.targets)


def going_back(line: Line) -> Act | None:
    """The rollback on its way."""
    return next((act for act in line.unsettled("rollback") if act.state != "unknown"), None)


def production(line: Line) -> Deployment | None:
    """What serves people: the newest deployment that has settled, or the one that rolls if there is no other."""
    settled = [item for item in line.deployments if item.state == "settled"]
    return settled[-1] if settled else line.current


def has_it(holds: tuple[Hold, ...], who: str) -> str:
    """Who took it on: `cy has it`, `you have it`, `nobody has it`."""
    names = list(dict.fromkeys(hold.has for hold in holds if hold.has))
    if not names:
        return "nobody has it"
    if who in names:
        return "you have it"
    return f"{login(names[0])} has it"


def lost_metrics(moment: Moment, name: str) -> Time | None:
    """Since when a metrics source of a line does not answer; None: all do."""
    line = moment.known(name)
    since = [
        found.since
        for source in {metric.source for metric in moment.config.lines[name].metrics}
        if (found := line.sources.get(source)) is not None and found.state != "ok"
    ]
    return min(since) if since else None


def watch_of(line: Line) -> Watch | None:
    """The watch of what runs."""
    current = line.current
    return line.watches.get(current.id) if current else None


class Reading(NamedTuple):
    """One metric as the list shows it."""

    metric: Metric
    sign: str
    role: str
    verdict: Verdict | None
    sample: Sample | None
    """The last bucket; None: nothing was ever seen."""
    stale: str = ""
    """`40 s` past due; empty: fresh."""
    hidden: bool = False
    """So old that the value says nothing any more."""


def readings(moment: Moment, name: str) -> tuple[Reading, ...]:
    """The metrics of a line, the worst first; equal ones in the config's order."""
    found = [reading(moment, name, metric) for metric in moment.config.lines[name].metrics]
    return tuple(sorted(found, key=_rank))


def _rank(item: Reading) -> int:
    if item.sign == "✗":
        return 0
    return 1 if item.sign == "?" else 2


def reading(moment: Moment, name: str, metric: Metric) -> Reading:
    """One metric: its verdict, its last value, and how old that is."""
    line = moment.known(name)
    watch = watch_of(line)
    verdict = watch.verdicts.get(metric.name) if watch else None
    sign, role = _sign_of(line, watch, verdict)
    rows = moment.rows_of(name, metric)
    sample = rows[-1] if rows else None
    source = line.sources.get(metric.source)
    lost = source is not None and source.state != "ok" and not moment.warming
    late = moment.now - (sample.at + 2 * metric.every + metric.lag) if sample else 0.0
    hidden = late > 5 * metric.every and not moment.warming
    stale = ago(late) if late > 2 * metric.every or (lost and late > 0) else ""
    if lost or hidden:
        sign, role = "?", "blind"
    return Reading(metric, sign, role, verdict, sample, stale, hidden)


def _sign_of(line: Line, watch: Watch | None, verdict: Verdict | None) -> tuple[str, str]:
    helped = _helped(line)
    if helped == "recovered":
        return "✓", "ok"
    if verdict is not None:
        return SIGN[verdict.word]
    if watch is None:
        return "·", "dim"
    if watch.ended and watch.verdict is not None:
        return SIGN[watch.verdict.word]
    return "…", "mid"


def _helped(line: Line) -> str:
    """Whether the return that runs now was seen to help."""
    current = line.current
    if current is None or not line.went_back(current):
        return ""
    recent = [found for found in line.helped.values() if found.at >= current.at]
    return recent[-1].word if recent else ""


def regressed_now(line: Line) -> Verdict | None:
    """The verdict that says what runs now is bad."""
    watch = watch_of(line)
    if watch is None:
        return None
    if watch.verdict is not None and watch.verdict.word == "regressed":
        return watch.verdict
    return next((item for item in watch.verdicts.values() if item.word == "regressed"), None)


def verdict_words(moment: Moment, name: str) -> str:
    """The watch of what runs, in words: `watching 12 of 60 min, healthy so far`."""
    line = moment.known(name)
    watch = watch_of(line)
    if watch is None:
        return ""
    if not watch.ended:
        whole = round((watch.until - watch.began) / 60)
        gone = max(0, int((moment.now - watch.began) // 60))
        return f"watching {min(gone, whole)} of {whole} min, {_so_far(moment, name, watch)}"
    return f"{watch.verdict.word}: {watch.verdict.sentence}" if watch.verdict else "watched"


def _so_far(moment: Moment, name: str, watch: Watch) -> str:
    """What can be said before the watch has ended: only what was measured."""
    bad = [found for found in watch.verdicts.values() if found.word in ("regressed", "blind")]
    if bad:
        return bad[0].word
    items = [item for item in readings(moment, name) if item.metric.threshold is not None]
    if any(item.hidden for item in items):
        return "no data now"
    seen = [item for item in items if item.sample is not None and item.sample.at >= watch.began and not item.hidden]
    if not seen:
        return "no data yet"
    beyond_now = [item for item in seen if beyond(item)]
    return f"{beyond_now[0].metric.name} is beyond its bounds" if beyond_now else "within bounds so far"


def beyond(item: Reading) -> bool:
    """Whether the last value is out of bounds, judged or not."""
    threshold = item.metric.threshold
    value = item.sample.shown(item.metric.kind) if item.sample is not None else None
    return threshold is not None and value is not None and threshold.beyond(value)


def sentence(item: Reading, watch: Watch | None) -> str:
    """What a verdict says, if it says more than that it is being watched."""
    verdict = item.verdict
    if verdict is None or verdict.word == "healthy":
        return ""
    early = verdict.word == "undecided" and watch is not None and not watch.ended
    # While a watch is open its undecided verdict is as old as its first look; only what was before it stays true.
    return "" if early and " before " not in verdict.sentence else verdict.sentence


def bound(metric: Metric) -> str:
    """The bounds of a metric in its own unit: `not below 2.0 %`."""
    threshold = metric.threshold
    if threshold is None:
        return ""
    words = [f"not below {number(threshold.below, metric)}"] if threshold.below is not None else []
    words += [f"not above {number(threshold.above, metric)}"] if threshold.above is not None else []
    return ", ".join(words)
