"""Prints what was found, as tables for a document or as JSON."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.judging import chance, figures
from benchmarks.judging.control import Trial
from benchmarks.judging.families import FAMILIES
from benchmarks.judging.figures import Figure
from benchmarks.judging.pairs import WHO, Blamed
from benchmarks.judging.run import Record


@dataclass
class Table:
    """Rows of figures, one column a judge."""

    title: str
    judges: list[str]
    rows: list[tuple[str, list[Figure]]]

    def text(self) -> str:
        """As Markdown."""
        head = f"| {self.title} | {' | '.join(self.judges)} |\n|{'---|' * (len(self.judges) + 1)}"
        lines = [f"| {name} | {' | '.join(one.text for one in found)} |" for name, found in self.rows]
        return "\n".join([head, *lines])

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        rows = {
            name: {
                judge: {"text": one.text, "value": _finite(one.value), "cases": one.cases}
                for judge, one in zip(self.judges, found, strict=True)
            }
            for name, found in self.rows
        }
        return {"title": self.title, "rows": rows}


@dataclass
class Found:
    """Everything that was shown to the judges, and what they said."""

    judges: dict[str, str]
    """Name in the tables → where it is."""
    records: list[Record]
    pairs: list[Blamed]
    trials: list[Trial]
    control: str | None
    """Where the judge beside a control is, if there is one."""

    def tables(self) -> list[Table]:
        """Those that have something in them."""
        all_ = [self.summary(), self.by_bound(), self.by_family(), self.blame(), self.beside_control()]
        return [one for one in all_ if one.rows]

    def _table(self, title: str, rows: list[tuple[str, list[Figure]]]) -> Table:
        return Table(title, list(self.judges), rows)

    def summary(self) -> Table:
        """The figures that count."""
        rows = []
        for name, reckon, which in figures.ROWS:
            these = [one for one in self.records if which(one)]
            if these:
                rows.append((name, [reckon(these, path) for path in self.judges.values()]))
        return self._table("summary", rows)

    def by_bound(self) -> Table:
        """Recall and delay by how hard the best judge would find it."""
        rows = []
        for low, high in figures.BANDS:
            here = [one for one in self.records if one.group == "bad" and low <= one.bound_min < high]
            these = [one for one in here if one.effect >= 0.2 and one.step <= figures.FINE_S]
            if these:
                rows.append((f"{low:g}-{high:g} min", [_found_and_when(these, path) for path in self.judges.values()]))
        return self._table("effect >= 20 %, by Lorden's bound: recall; median, p90", rows)

    def by_family(self) -> Table:
        """Each family, for the first judge: false alarms, or recall and delay of what can be found in 15 minutes."""
        rows, judge = [], next(iter(self.judges.values()))
        for family in FAMILIES:
            these = [one for one in self.records if one.family == family]
            if these and these[0].bad is not None:
                can = [one for one in these if one.bound_min <= 15 and (one.effect >= 0.2 or family == "slight")]
                if these[0].group == "known bad":
                    can = these
                rows.append((family, [_found_and_when(can, judge)]))
            elif these:
                rows.append((family, [figures.false_rate(these, judge)]))
        return Table("by family: false per 1,000, or recall; median, p90", [judge], rows)

    def blame(self) -> Table:
        """Two deployments close together."""
        rows = []
        for who in WHO:
            these = [one for one in self.pairs if one.who == who]
            if these:
                rows.append((f"{who} does harm", [_blamed(these, path) for path in self.judges.values()]))
        return self._table("two deployments, 4-35 min apart: right; first, second rolled back", rows)

    def beside_control(self) -> Table:
        """A canary beside a control."""
        if not self.trials or self.control is None:
            return Table("", [], [])
        healthy = [one for one in self.trials if not one.effect]
        rows = [("false, healthy", [_canaries(healthy, self.control)])]
        for effect in sorted({one.effect for one in self.trials if one.effect}):
            can = [one for one in self.trials if one.effect == effect and one.bound_min <= 15]
            rows.append((f"caught, effect {effect:.0%}, bound <= 15 min", [_canaries(can, self.control)]))
        rows += [
            (f"false, {trouble}", [_canaries([one for one in healthy if one.trouble == trouble], self.control)])
            for trouble in dict.fromkeys(one.trouble for one in healthy)
        ]
        return Table("beside a control: alarms; median", [self.control], rows)

    def cases(self) -> list[str]:
        """Each healthy deployment that the first judge would roll back, and each harm that it missed."""
        lines, judge = [], next(iter(self.judges.values()))
        for one in sorted(self.records, key=lambda one: (one.family, one.index)):
            what = f"{one.family} {one.index} ({one.metric}, {one.step:.0f} s, {one.days:.1f} days)"
            alarm_s = one.said[judge].alarm_s
            if one.bad is None and alarm_s is not None:
                lines.append(f"false: {what} at {alarm_s / 60:.1f} min")
            if one.bad is not None and one.bound_min <= 15 and figures.delay_min(one, judge) is None:
                said = "" if alarm_s is None else f", said at {alarm_s / 60:.1f} min"
                lines.append(f"missed: {what}, {one.effect:.0%}, bound {one.bound_min:.1f} min{said}")
        return lines

    def errors(self) -> list[str]:
        """What broke, each once, with how often."""
        words = [(path, one.error) for record in self.records for path, one in record.said.items() if one.error]
        words += [item for one in (*self.pairs, *self.trials) for item in one.errors.items()]
        return [f"{words.count(one)} x {one[0]}: {one[1]}" for one in dict.fromkeys(words)]


def _finite(value: float | None) -> float | None:
    """JSON has no infinity."""
    return value if value is not None and math.isfinite(value) else None


def _found_and_when(records: Sequence[Record], path: str) -> Figure:
    found, when = figures.recall(records, path), figures.delays(records, path)
    return Figure(f"{found.text}; {when.text.partition(' (')[0]}", found.value, found.cases)


def _blamed(pairs: Sequence[Blamed], path: str) -> Figure:
    right = sum(one.right(path) for one in pairs)
    first, second = (sum(one[path] is not None for one in side) for side in _sides(pairs))
    value = 100 * right / len(pairs)
    return Figure(f"{value:.1f} % ({right}/{len(pairs)}); {first}, {second}", value, len(pairs))


def _sides(pairs: Sequence[Blamed]) -> tuple[list[dict[str, float | None]], list[dict[str, float | None]]]:
    return [one.first for one in pairs], [one.second for one in pairs]


def _canaries(trials: Sequence[Trial], path: str) -> Figure:
    minutes = [when for one in trials if (when := one.alarm_min[path]) is not None]
    if not trials:
        return Figure("-", None, 0)
    bound = f", <= {1000 * chance.upper_bound(len(minutes), len(trials)):.1f} per 1,000" if not trials[0].effect else ""
    when = f"; {np.median(minutes):.1f} min" if minutes and trials[0].effect else ""
    return Figure(f"{len(minutes)}/{len(trials)}{bound}{when}", len(minutes) / len(trials), len(trials))
