"""A stretch of a ledger as a value: where its lines stood when it begins, what happened since, and what was measured.

Read from a ledger, or from the JSON lines that `andon export` prints. A file may come from anybody: every line is decoded
strictly, its texts are cleaned as any outside text, and what does not fit is named by its line. It holds names of lines,
sources and metrics, events and samples; no address, no query, no option of a connection, and so no secret.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from andon.board import FORMAT as BOARD_FORMAT
from andon.board import Board, read_board
from andon.clock import Time
from andon.config import Config, Connection, Entry, LineConfig
from andon.events import decode
from andon.keeper import fold
from andon.model import LINE_NAME, Metric, Record, Sample, to_json
from andon.ports import Ledger, Row
from andon.registry import Adapter, NoOptions, Place, Station
from andon.yamlfile import FileError

FORMAT = 1
LIMIT_BYTES = 512 << 20
BEFORE_S = 3700.0
"""Of so long before the beginning samples are taken along: what charts look back on."""
_BOARD = BOARD_FORMAT.partition(" ")[0]


class Recording(msgspec.Struct, frozen=True):
    """A stretch of the past."""

    config: Config
    since: Time
    until: Time
    board: Board
    """As it was at `since`."""
    rows: tuple[Row, ...] = ()
    samples: dict[str, tuple[Sample, ...]] = {}
    skipped: int = 0
    """Events of kinds that only a newer andon knows."""


class _Source(Record, frozen=True):
    """What asks or is asked, without how."""

    source: str
    target: str = ""
    halts: tuple[str, ...] = ()
    every_s: float = 5.0


class _Line(Record, frozen=True):
    """What the room needs to know of a line's config."""

    name: str
    environment: str = "production"
    watch_s: float = 900.0
    ci: tuple[_Source, ...] = ()
    deploy: _Source | None = None
    metrics: tuple[Metric, ...] = ()
    notify: tuple[_Source, ...] = ()


class _Head(Record, frozen=True):
    """The first line of a file."""

    andon: str
    format: int
    board_format: str
    since: Time
    until: Time
    name: str = ""
    lines: tuple[_Line, ...] = ()


_NONE = msgspec.Raw(b"")


class _Part(msgspec.Struct, omit_defaults=True):
    """Any further line: the board, an event, samples, or the end."""

    board: msgspec.Raw = _NONE
    seq: int = 0
    at: Time = 0.0
    seen: Time = 0.0
    kind: str = ""
    line: str = ""
    event: msgspec.Raw = _NONE
    series: str = ""
    samples: tuple[Sample, ...] = ()
    end: int | None = None
    """How many events there are, so that a file that was cut is known as one."""


# ---- out of a ledger


def record(ledger: Ledger, config: Config, since: Time, until: Time, line: str | None = None) -> Recording:
    """What a ledger holds of that time. Raises LedgerUnusable."""
    lines = {name: item for name, item in config.lines.items() if line in (None, name)}
    board, kept, after, begun = Board(), [], 0, False
    skipped = 0
    while rows := ledger.read(after):
        after = rows[-1].seq
        before = next((at for at, row in enumerate(rows) if begun or row.seen >= since), len(rows))
        if before:
            _, board, _ = fold(board, rows[:before], bare=True)
        begun = begun or before < len(rows)
        for row in rows[before:]:
            if row.seen > until or (row.line and row.line not in lines):
                continue
            known = _known(row)
            skipped += not known
            if known:
                kept.append(row)
    board = msgspec.structs.replace(board, lines={name: item for name, item in board.lines.items() if name in lines})
    samples = {
        f"{name}/{metric.name}": ledger.samples(f"{name}/{metric.name}", since - BEFORE_S, until)
        for name, item in lines.items()
        for metric in item.metrics
    }
    config = msgspec.structs.replace(config, lines=lines)
    return Recording(
        config, since, until, board, tuple(kept), {key: rows for key, rows in samples.items() if rows}, skipped
    )


def _known(row: Row) -> bool:
    try:
        return decode(row.kind, row.body) is not None
    except ValueError:
        return False


# ---- to lines, and back


def lines_of(recording: Recording) -> Iterator[bytes]:
    """The lines of a file, without their ends."""
    config = recording.config
    lines = tuple(_bare(item) for item in config.lines.values())
    yield to_json(_Head("recording", FORMAT, _BOARD, recording.since, recording.until, config.name, lines))
    yield to_json(_Part(board=msgspec.Raw(to_json(recording.board))))
    for row in recording.rows:
        yield to_json(
            _Part(seq=row.seq, at=row.at, seen=row.seen, kind=row.kind, line=row.line, event=msgspec.Raw(row.body))
        )
    for series, rows in recording.samples.items():
        yield to_json(_Part(series=series, samples=rows))
    yield to_json(_Part(end=len(recording.rows)))


def _bare(line: LineConfig) -> _Line:
    def source(entry: Entry) -> _Source:
        return _Source(entry.source, entry.target, entry.place.halts, entry.every_s)

    return _Line(
        name=line.name,
        environment=line.environment,
        watch_s=line.watch_s,
        ci=tuple(source(entry) for entry in line.ci),
        deploy=source(line.deploy) if line.deploy else None,
        metrics=tuple(msgspec.structs.replace(metric, value="", n="") for metric in line.metrics),
        notify=tuple(source(entry) for entry in line.notify),
    )


_NOTHING = Adapter("recording", "nothing outside", NoOptions, lambda _options, _context: None)
_NOWHERE = Station(NoOptions, lambda _connection, _options, _place: None)


def _config(path: Path, head: _Head) -> Config:
    """A config over which a room can be drawn, and nothing asked."""
    lines = {}
    for line in head.lines:
        if not re.fullmatch(LINE_NAME, line.name):
            raise ValueError(f"{line.name!r} is not the name of a line")

        def entry(source: _Source, line: _Line = line) -> Entry:
            place = Place(line.name, line.environment, source.halts)
            return Entry(source.source, place, NoOptions(), _NOWHERE, source.every_s, target=source.target)

        lines[line.name] = LineConfig(
            name=line.name,
            environment=line.environment,
            ci=tuple(entry(source) for source in line.ci),
            deploy=entry(line.deploy) if line.deploy else None,
            watch_s=line.watch_s,
            metrics=line.metrics,
            notify=tuple(entry(source) for source in line.notify),
        )
    used = [(*line.ci, *line.metrics, *((line.deploy,) if line.deploy else ())) for line in head.lines]
    names = {item.source for items in used for item in items}
    connections = {name: Connection(name, _NOTHING, NoOptions()) for name in sorted(names)}
    return Config(path.absolute(), connections, lines, name=head.name)


def read(path: Path) -> Recording:
    """The recording in a file. Raises FileError with the line that does not fit."""
    try:
        with path.open("rb") as file:
            content = file.read(LIMIT_BYTES + 1)
    except OSError as error:
        raise FileError(str(path), None, (), f"cannot be read: {error.strerror}") from error
    if len(content) > LIMIT_BYTES:
        raise FileError(str(path), None, (), f"larger than {LIMIT_BYTES >> 20} MiB")
    return _Reader(path).read(content.split(b"\n"))


class _Reader:
    """Goes through the lines of one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.at = 1
        self.board = Board()
        self.rows: list[Row] = []
        self.samples: dict[str, tuple[Sample, ...]] = {}
        self.skipped = 0
        self.ended: int | None = None

    def read(self, lines: Iterable[bytes]) -> Recording:
        """The whole file. Raises FileError."""
        found = iter(lines)
        try:
            head = self._head(next(found, b""))
            config = _config(self.path, head)
            for line in found:
                self.at += 1
                if line.strip():
                    self._take(msgspec.json.decode(line, type=_Part), config)
        except (ValueError, RecursionError) as error:
            raise self._error(f"is not what `andon export` prints: {error}") from error
        if self.ended is None or self.ended != len(self.rows) + self.skipped:
            raise self._error("the file is not whole; export it again")
        return Recording(config, head.since, head.until, self.board, tuple(self.rows), self.samples, self.skipped)

    def _error(self, words: str) -> FileError:
        return FileError(str(self.path), (self.at, 1), (), words)

    def _head(self, line: bytes) -> _Head:
        head = msgspec.json.decode(line, type=_Head)
        if head.andon != "recording":
            raise ValueError("it does not begin with a recording's head")
        if head.format != FORMAT or head.board_format != _BOARD:
            raise self._error("another version of andon wrote it; play it with that one, or export it again")
        if not head.lines or head.until <= head.since:
            raise ValueError("it holds no line, or no time")
        return head

    def _take(self, part: _Part, config: Config) -> None:
        if self.ended is not None:
            raise ValueError("something follows its end")
        if bytes(part.board):
            self.board = read_board(bytes(part.board))
        elif bytes(part.event):
            self._event(part, bytes(part.event), config)
        elif part.series:
            self.samples[part.series] = part.samples
        elif part.end is not None:
            self.ended = part.end

    def _event(self, part: _Part, body: bytes, config: Config) -> None:
        if part.line and part.line not in config.lines:
            raise ValueError(f"an event of a line that its head does not name: {part.line!r}")
        event = decode(part.kind, body)
        if event is None:
            self.skipped += 1
            return
        if event.line != part.line:
            raise ValueError("an event of another line than it says")
        self.rows.append(Row(part.seq, part.at, part.seen, part.kind, 1, part.line, body, ""))
