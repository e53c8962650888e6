"""The stages and jobs of one run, as they go."""

from typing import NamedTuple

from andon.board import Line
from andon.clock import Time
from andon.model import DONE, Job, Run, Stage
from tui.moment import Moment
from tui.panels.ageing import source_age
from tui.panels.panel import Panel
from tui.panels.sheet import Sheet, fit, width_of
from tui.panels.words import ago, clock, login

SIGNS = {
    "waiting": ("·", "dim"),
    "running": ("…", "move"),
    "passed": ("✓", "ok"),
    "failed": ("✗", "stop"),
    "cancelled": ("–", "dim"),
}


class Step(NamedTuple):
    """One row of the list: a stage, or a job of it."""

    stage: Stage
    job: Job | None = None

    @property
    def item(self) -> Stage | Job:
        """What the row is about."""
        return self.job or self.stage

    @property
    def name(self) -> str:
        """For the head of the log: `unit, shard 2`."""
        return f"{self.stage.name}, {self.job.name}" if self.job is not None else self.stage.name

    @property
    def log(self) -> str:
        """The part that the CI's log names; empty: there is none."""
        if self.job is not None:
            return self.job.log
        wanted = [job.log for state in ("failed", "running", "passed") for job in self.stage.jobs if job.state == state]
        return next((part for part in wanted if part), "")


def steps(run: Run) -> tuple[Step, ...]:
    """Stages and their jobs, in order; a stage with one job of the same name is one row."""
    found: list[Step] = []
    for stage in run.stages:
        if len(stage.jobs) == 1 and stage.jobs[0].name == stage.name:
            found.append(Step(stage, stage.jobs[0]))
            continue
        found.append(Step(stage))
        found += [Step(stage, job) for job in stage.jobs]
    return tuple(found)


def telling(run: Run) -> int:
    """The row that tells most: the first failed job, else what runs, else the last that wrote something."""
    rows = steps(run)
    for state in ("failed", "running"):
        for index, step in enumerate(rows):
            if step.item.state == state and (step.job is not None or not step.stage.jobs):
                return index
    written = [index for index, step in enumerate(rows) if step.log and step.job is not None]
    return written[-1] if written else 0


def took(item: Stage | Job, now: Time) -> str:
    """How long it took, or takes: `1:40`; `–` before it began."""
    if not item.at:
        return "–"
    goes_on = item.state == "running" or any(job.state == "running" for job in getattr(item, "jobs", ()))
    end = item.ended_at if item.ended_at is not None else now if goes_on else None
    if end is None:
        return "–"
    seconds = max(0, int(end - item.at))
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


class RunHead(Panel):
    """What the run is, in one row."""

    source = ""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """Sign, hash, what; title, author, how long; and the age of what is said."""
        line = moment.known(moment.line)
        run = line.runs.get(moment.subject)
        if run is None:
            sheet.put(1, 0, f"{moment.line} knows no run {moment.subject} any more", "blind", most=sheet.width - 2)
            return
        sign, role = SIGNS[run.state]
        loud = role in ("stop", "ok", "move")
        x = sheet.parts(1, 0, (f"{sign} ", role, True), (f"{run.change[:4]} ", "fg", True))
        x = sheet.put(x, 0, state_words(run), role if loud else "mid", bold=role == "stop", most=30)
        entry = next((item for item in moment.config.lines[moment.line].ci if item.source == self.source), None)
        end = sheet.width - 2
        if entry is not None:
            end = source_age(moment, entry.source, entry.every_s).draw(sheet, 0) - 2
        change = line.change(run.change)
        by = login(run.who or (change.author if change is not None else ""))
        last = run.ended_at if run.ended_at is not None else moment.now
        tail = f" · {by}" if by else ""
        if run.at:
            tail += f" · {ago(max(0.0, last - run.at))}, began {clock(run.at, moment.now)}"
        title = change.title if change is not None and change.title else run.words or run.branch
        room = end - x - 2
        if width_of(tail) + 8 < room:
            sheet.put(x + 2, 0, fit(title, room - width_of(tail)) + tail, "mid", most=room)
        else:
            sheet.put(x + 2, 0, title, "mid", most=room)


def state_words(run: Run) -> str:
    """What became of it: `failed in unit`, `runs in test`, `passed`."""
    bad = next(
        (step.name for step in steps(run) if step.item.state == "failed" and (step.job or not step.stage.jobs)), ""
    )
    if run.state == "failed":
        return f"failed in {bad}" if bad else "failed"
    if run.state == "running":
        at = next((stage.name for stage in run.stages if stage.state == "running"), "")
        return f"{f'{bad} failed; ' if bad else ''}runs{f' in {at}' if at else ''}"
    return run.state


class Stages(Panel):
    """The list at the left; one row where it is narrow."""

    picked = 0
    source = ""

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """Sign, name, time; the picked one stays in sight. What was not read for long is dim, then a `?`."""
        line = moment.known(moment.line)
        run = line.runs.get(moment.subject)
        if run is None:
            return
        entry = next((item for item in moment.config.lines[moment.line].ci if item.source == self.source), None)
        age = source_age(moment, entry.source, entry.every_s) if entry is not None else None
        self.lost = age is not None and age.gone and run.state == "running"
        self._list(moment, sheet, line, run)
        if age is not None and age.stale:
            sheet.dim()

    lost = False
    """Whether what runs was not read for so long that nobody knows."""

    def _list(self, moment: Moment, sheet: Sheet, line: Line, run: Run) -> None:
        rows = steps(run)
        if sheet.height < 3:
            self._row_of_all(moment, sheet, run)
            return
        sheet.put(1, 0, "stages", "fg", bold=True)
        if not rows:
            sheet.put(1, 1, "none yet", "dim")
            return
        below = self._below(moment, line, run, rows[min(self.picked, len(rows) - 1)], sheet.width - 3)
        room = sheet.height - 1 - (len(below) + 1 if sheet.height - 1 - len(rows) > len(below) else 0)
        picked = min(self.picked, len(rows) - 1)
        top = max(0, min(picked - room // 2, len(rows) - room))
        for y, step in enumerate(rows[top : top + room], 1):
            self._step(moment, sheet, y, step, picked=top + y - 1 == picked)
        if len(rows) > room:
            sheet.right(sheet.width - 2, 0, f"{picked + 1} of {len(rows)}", "dim")
        elif room < sheet.height - 1:
            for dy, (words, role) in enumerate(below):
                sheet.put(1, sheet.height - len(below) + dy, words, role, most=sheet.width - 2)

    def _step(self, moment: Moment, sheet: Sheet, y: int, step: Step, *, picked: bool) -> None:
        if picked and moment.looks.tints:
            sheet.ground(y, "sel")
            sheet.put(0, y, "▌", "move")
        elif picked:
            sheet.put(0, y, ">", "fg", bold=True)
        item = step.item
        inner = step.job is not None and step.job.name != step.stage.name
        sign, role = SIGNS[item.state]
        time = took(item, moment.now)
        if self.lost and item.state == "running":
            sign, role, time = "?", "blind", "–"
        x = 3 if inner else 1
        sheet.put(x, y, sign, role, bold=role == "stop")
        end = sheet.right(sheet.width - 2, y, time, "dim" if inner else "mid") - 1
        fg = "dim" if item.state == "waiting" else "mid" if inner else "fg"
        sheet.put(x + 2, y, item.name, fg, bold=item.state == "failed", most=end - x - 2)

    def _row_of_all(self, moment: Moment, sheet: Sheet, run: Run) -> None:
        x = 1
        rows = steps(run)
        picked = rows[min(self.picked, len(rows) - 1)] if rows else None
        for stage in run.stages:
            sign, role = SIGNS[stage.state]
            mine = picked is not None and picked.stage is stage
            if x + width_of(stage.name) + 4 > sheet.width:
                break
            x = sheet.put(x, 0, f"{sign} ", role, bold=role == "stop")
            x = sheet.put(x, 0, stage.name, "fg" if mine else "mid", bold=mine) + 2
        if sheet.height > 1 and picked is not None:
            sheet.put(1, 1, f"{picked.name} {took(picked.item, moment.now)}", "mid", most=sheet.width - 2)

    def _below(self, moment: Moment, line: Line, run: Run, step: Step, width: int) -> list[tuple[str, str]]:
        """How long the picked stage usually takes, and the change."""
        found: list[tuple[str, str]] = []
        history = history_words(line, run, step)
        if history:
            found += [("usual", "fg"), *((fit(words, width), "dim") for words in history)]
        change = line.change(run.change)
        if change is not None:
            found += [("", "dim")] if found else []
            found += [("this change", "fg"), (fit(f"{login(change.author)}  {change.id[:4]}", width), "mid")]
            if change.at:
                found.append((f"written {ago(moment.now - change.at)} ago", "dim"))
        return found


def history_words(line: Line, run: Run, step: Step) -> list[str]:
    """How long this stage or job took in the line's other runs, and how often it failed: with how many runs that is."""
    times: list[float] = []
    failed = count = 0
    for other in line.runs.values():
        if other.id == run.id:
            continue
        for found in steps(other):
            if found.name == step.name and found.item.state in DONE:
                count += 1
                failed += found.item.state == "failed"
                if found.item.state == "passed" and found.item.ended_at is not None and found.item.at:
                    times.append(found.item.ended_at - found.item.at)
                break
    usual = step.stage.usual_s if step.job is None else None
    words: list[str] = []
    if len(times) >= 3:
        times.sort()
        middle, late = times[len(times) // 2], times[min(len(times) - 1, len(times) * 9 // 10)]
        words.append(f"{minutes(middle)}, p90 {minutes(late)}")
    elif usual:
        words.append(f"about {minutes(usual)}")
    if count:
        words.append(f"failed {failed} of {count}")
    return words


def minutes(seconds: float) -> str:
    """`1:36`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
