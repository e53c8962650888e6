"""The sources that a config names, opened once for one event loop and found by where they stand."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from andon.clock import Clock
from andon.config import Config, Entry
from andon.hiding import hide
from andon.hushed import hushed
from andon.model import TargetId
from andon.ports import CI, Deploy, Halting, Metrics, Notifier, Source
from andon.registry import Context, NoOptions, Place
from andon.secret import SecretError
from andon.yamlfile import FileError

log = logging.getLogger("andon.stations")

CLOSE_LIMIT_S = 1.0


class Stations:
    """The opened sources of a config. Opening touches no network; nothing is shared between event loops."""

    def __init__(self, config: Config, clock: Clock, state: Path, *, read_only: bool = False) -> None:
        self.config = config
        self._clock, self._state, self._read_only = clock, state, read_only
        self._connections: dict[str, Any] = {}
        self._sources: dict[tuple[str, str, str], Any] = {}

    def _connection(self, name: str) -> Any:
        if name not in self._connections:
            found = self.config.connections[name]
            context = Context(name, self.config.folder, self._clock, self._state, self._read_only)
            with self._said(name):
                self._connections[name] = found.adapter.connect(found.options, context)
        return self._connections[name]

    def _source(self, kind: str, line: str, entry: Entry) -> Any:
        key = (kind, line, entry.target)
        if key not in self._sources:
            connection = self._connection(entry.source)
            with self._said(entry.source):
                self._sources[key] = hushed(entry.station.open(connection, entry.options, entry.place))
        return self._sources[key]

    @contextlib.contextmanager
    def _said(self, name: str) -> Iterator[None]:
        """What an adapter refuses of its options is said with the place where they stand."""
        try:
            yield
        except (ValueError, SecretError) as error:
            place = self.config.connections[name].place
            raise FileError(str(self.config.path), place, ("connections", name), hide(str(error))) from error

    def open_ci(self, line: str, entry: Entry) -> CI:
        """The CI of an entry."""
        source: CI = self._source("ci", line, entry)
        return source

    def ci(self, line: str, target: TargetId) -> CI | None:
        """The CI of that name."""
        for entry in self.config.lines[line].ci:
            if entry.target == target:
                return self.open_ci(line, entry)
        return None

    def deploy(self, line: str) -> Deploy | None:
        """Where the line deploys."""
        entry = self.config.lines[line].deploy
        if entry is None:
            return None
        source: Deploy = self._source("deploy", line, entry)
        return source

    def halting(self, line: str, target: TargetId) -> Halting | None:
        """The halting target of that name."""
        config = self.config.lines[line]
        for entry in config.halting:
            if entry.target == target:
                kind = "deploy" if entry is config.deploy else "ci"
                source = self._source(kind, line, entry)
                return source if isinstance(source, Halting) else None
        return None

    def metrics(self, line: str, connection: str) -> Metrics:
        """The metrics source of a connection."""
        key = ("metrics", line, connection)
        if key not in self._sources:
            station = self.config.connections[connection].adapter.metrics
            if station is None:
                raise KeyError(connection)
            place = Place(line, self.config.lines[line].environment)
            options = NoOptions() if station.options is NoOptions else station.options()
            self._sources[key] = hushed(station.open(self._connection(connection), options, place))
        source: Metrics = self._sources[key]
        return source

    def notifier(self, line: str, target: TargetId) -> Notifier | None:
        """The notifier of that name."""
        for entry in self.config.lines[line].notify:
            if entry.target == target:
                source: Notifier = self._source("notify", line, entry)
                return source
        return None

    def confirm_s(self, line: str, target: TargetId) -> float:
        """How long a deployment may take to be seen."""
        entry = self.config.lines[line].deploy
        return entry.confirm_s if entry is not None else 900.0

    def only_way_in(self, line: str) -> bool:
        """Whether nothing ships there but andon and what its cord halts."""
        entry = self.config.lines[line].deploy
        return entry is not None and entry.only_way_in

    def halts(self, line: str) -> tuple[TargetId, ...]:
        """The targets a stop of the line halts."""
        return self.config.lines[line].targets

    def every(self) -> list[tuple[str, str, Source]]:
        """All sources with their line and name: for `check`."""
        found: list[tuple[str, str, Source]] = []
        for line in self.config.lines.values():
            found += [(line.name, entry.target, self.open_ci(line.name, entry)) for entry in line.ci]
            deploy = self.deploy(line.name)
            if deploy is not None and line.deploy is not None:
                found.append((line.name, line.deploy.target, deploy))
            names = dict.fromkeys(metric.source for metric in line.metrics)
            found += [(line.name, name, self.metrics(line.name, name)) for name in names]
            for entry in line.notify:
                notifier = self.notifier(line.name, entry.target)
                if notifier is not None:
                    found.append((line.name, entry.target, notifier))
        return found

    async def close(self) -> None:
        """Give all connections back."""
        for source in self._sources.values():
            try:
                async with asyncio.timeout(CLOSE_LIMIT_S):
                    await source.close()
            except Exception as error:  # noqa: BLE001 - one adapter's fault must not keep the others open
                log.warning("a source did not close: %s", type(error).__name__)
        self._sources.clear()
        self._connections.clear()
