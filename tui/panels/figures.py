"""The day's figures, for a wall: what shipped, how long it took, what failed, and how soon that was seen and over."""

import statistics
from collections.abc import Iterable
from typing import NamedTuple

from andon.board import Line
from andon.clock import Time, age
from tui.moment import Moment

DAY_S = 86_400.0


class Figure(NamedTuple):
    """One figure: the number large, its unit less so, and what it is."""

    number: str
    unit: str
    title: str
    about: str


def figures(moment: Moment) -> tuple[Figure, ...]:
    """Six of them, of the last day. What nothing is known of is `-`, never 0."""
    since = moment.now - DAY_S
    lines = [moment.known(name) for name in moment.config.lines]
    shipped = [(line, item) for line in lines for item in line.deployments if item.at > since and not item.back]
    days_before = sum(since - DAY_S < item.at <= since and not item.back for line in lines for item in line.deployments)
    return (
        Figure(str(len(shipped)), "", _noun(len(shipped), "deploy"), f"last 24 h; the day before {days_before}"),
        _took("from commit to live", "median", [_commit_to_live(line, item.id) for line, item in shipped]),
        _failed(lines, since),
        _took("to recover", "from the fall to recovered", [at for line in lines for at in _recovered(line, since)]),
        _took("to know", "from live to its verdict", [at for line in lines for at in _judged(line, since)]),
        _pulls(lines, since),
    )


def _noun(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}s"


def _took(title: str, about: str, seconds: Iterable[float | None]) -> Figure:
    known = sorted(item for item in seconds if item is not None and item >= 0)
    if not known:
        return Figure("-", "", title, "nothing known in 24 h")
    number, unit = age(statistics.median(known)).split(" ")
    words = f"{about} of {len(known)}" if len(known) > 1 else f"{about}, once"
    if len(known) > 4:
        words += f"; slowest tenth {age(known[int(len(known) * 0.9)])}"
    return Figure(number, {"m": "min"}.get(unit, unit), title, words)


def _commit_to_live(line: Line, id_: str) -> float | None:
    item = line.deployment(id_)
    change = line.change_of(item) if item is not None else None
    return item.at - change.at if item is not None and change is not None and change.at else None


def _failed(lines: list[Line], since: Time) -> Figure:
    judged = [
        (line.name, watch)
        for line in lines
        for watch in line.watches.values()
        if watch.verdict is not None and watch.began > since
    ]
    bad = [name for name, watch in judged if watch.verdict is not None and watch.verdict.word == "regressed"]
    if not judged:
        return Figure("-", "", "failed", "nothing judged in 24 h")
    about = ", ".join(dict.fromkeys(bad)) if bad else "none of the judged regressed"
    return Figure(str(len(bad)), f"of {len(judged)}", "failed", about)


def _recovered(line: Line, since: Time) -> list[float]:
    found = []
    for id_, helped in line.helped.items():
        watch = line.watches.get(id_)
        onset = watch.verdict.onset if watch is not None and watch.verdict is not None else None
        if helped.word == "recovered" and helped.at > since and onset is not None:
            found.append(helped.at - onset)
    return found


def _judged(line: Line, since: Time) -> list[float]:
    return [
        watch.verdict.at - watch.began
        for watch in line.watches.values()
        if watch.verdict is not None and watch.began > since
    ]


def _pulls(lines: list[Line], since: Time) -> Figure:
    held = [hold for line in lines for hold in line.holds if hold.since > since]
    people = sum(hold.kind == "person" for hold in held)
    about = f"{people} by people. Thank you." if people else "none by people"
    return Figure(str(len(held)), "", f"{_noun(len(held), 'pull')} of the cord", f"last 24 h; {about}")
