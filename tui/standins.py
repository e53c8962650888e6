"""What stands in a replay where a live room has its ledger and its engine.

They hold what was recorded and reach nothing: they have no file, no connection and no lease. What a room would act on is
refused here, below every screen.
"""

import itertools
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from andon.acts import NotDone
from andon.board import Board
from andon.clock import Time
from andon.engine import View
from andon.linestate import pulse_key
from andon.model import Sample
from andon.ports import Lease, LedgerUnusable, Pulse, Row, Unreachable
from tui.player import Deck

NOT_IN_THE_PAST = "this is a replay: nothing can be done to the past"


class PastKeeper:
    """Stands where the ledger's thread stands in a live room."""

    trouble = ""

    def __init__(self, deck: Deck) -> None:
        self._deck = deck

    @property
    def seq(self) -> int:
        """The number of the last event that had happened; 0: none had."""
        done = self._deck.done
        return self._deck.recording.rows[done - 1].seq if done else 0

    @property
    def board(self) -> Board:
        """What the ledger added up to at that moment."""
        return self._deck.board()

    def listen(self, listener: Any) -> None:
        """Nothing new happens in the past."""

    def submit(self, job: Callable[[Any], Any], *, urgent: bool = False, writes: bool = False) -> "Future[Any]":
        """Ask what was recorded; what would write is refused by the one who is asked."""
        future: Future[Any] = Future()
        try:
            future.set_result(job(PastLedger(self._deck)))
        except LedgerUnusable as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        """Nothing is open."""


class PastLedger:
    """What a screen may ask the ledger, of a recording and only up to its moment."""

    read_only = True

    def __init__(self, deck: Deck) -> None:
        self._deck = deck
        self._done = deck.done

    def read(self, after: int, limit: int = 1000) -> list[Row]:
        """Events with a higher `seq`, in order."""
        rows = self._deck.recording.rows[: self._done]
        return list(itertools.islice((row for row in rows if row.seq > after), limit))

    def recent(self, line: str, limit: int) -> list[Row]:
        """The newest events of a line, newest first; of all lines if `line` is empty."""
        rows = self._deck.recording.rows
        backwards = (rows[at] for at in range(self._done - 1, -1, -1))
        return list(itertools.islice((row for row in backwards if line in ("", row.line)), limit))

    def samples(self, series: str, start: Time, end: Time) -> tuple[Sample, ...]:
        """Samples with `start <= at < end` that were known by then."""
        known = self._deck.now() - self._late(series)
        rows = self._deck.recording.samples.get(series, ())
        return tuple(row for row in rows if start <= row.at < end and row.at <= known)

    def _late(self, series: str) -> float:
        """How long after its begin a bucket is complete."""
        name, _, metric_name = series.partition("/")
        line = self._deck.recording.config.lines.get(name)
        metric = line.metric(metric_name) if line else None
        return metric.every + metric.lag if metric else 0.0

    def pulses(self) -> dict[str, Pulse]:
        """Signs of life."""
        return past_view(self._deck).pulses

    def lease(self) -> Lease | None:
        """Who did the duty."""
        return past_view(self._deck).lease

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Whatever else is asked: it would write, or is not recorded."""

        def refuse(*_: object, **__: object) -> Any:
            raise LedgerUnusable(f"{NOT_IN_THE_PAST} ({name})")

        return refuse


def past_view(deck: Deck) -> View:
    """How the engine was: it watched, and read what nothing says was not read.

    Reads that said nothing new are not in a ledger, so that they are taken as made.
    """
    now, board, pulses = deck.now(), deck.board(), []
    for name, line in deck.recording.config.lines.items():
        known = board.line(name).sources
        used = {entry.source for entry in (*line.ci, *((line.deploy,) if line.deploy else ()))}
        for source in sorted(used | {metric.source for metric in line.metrics}):
            found = known.get(source)
            ill = found is not None and found.state != "ok"
            at = found.since if found is not None and ill else now
            pulses.append(Pulse(f"source:{name}/{source}", at, found.state if found else "ok"))
        pulses += [Pulse(pulse_key(target), now, "ok") for target in line.targets]
    return View(at=now, lease=Lease("recorded", 0, now + 7.0, now), pulses={pulse.key: pulse for pulse in pulses})


class PastEngine:
    """Stands where the engine stands in a live room: it has no sources, no thread, and refuses every act."""

    who = ""
    read_only = True
    busy = False

    def __init__(self, deck: Deck) -> None:
        self._deck = deck

    @property
    def view(self) -> View:
        """How it was."""
        return past_view(self._deck)

    def identify(self) -> "Future[tuple[()]]":
        """Who we are to the sources: nobody was asked."""
        future: Future[tuple[()]] = Future()
        future.set_result(())
        return future

    def screen_shown(self) -> None:
        """Nobody waits for that."""

    def stop(self, deadline_s: float = 20.0) -> None:
        """Nothing runs."""

    def __getattr__(self, name: str) -> Callable[..., "Future[Any]"]:
        """Whatever is asked of it: no."""

        def refuse(*_: object, **__: object) -> "Future[Any]":
            future: Future[Any] = Future()
            future.set_exception(Unreachable("a replay asks nobody") if name == "log" else NotDone(NOT_IN_THE_PAST))
            return future

        return refuse
