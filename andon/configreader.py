"""From a document to a Config: every name resolved, every rule kept, or one error with its place."""

import hashlib
import re
from pathlib import Path
from typing import Any, Literal

import msgspec

from andon import registry
from andon.configfile import (
    SECRET_KEY,
    STATIONS,
    UNITS,
    CIFile,
    ControlFile,
    DeployFile,
    Duration,
    LineFile,
    MetricFile,
    NotifyFile,
    ThresholdFile,
    TopFile,
    duration,
)
from andon.configtypes import Typed
from andon.configured import Config, Connection, Entry, LineConfig, Remapped
from andon.model import LINE_NAME, Control, Metric, Threshold
from andon.registry import Place, Station
from andon.secret import Secret, SecretError
from andon.text import clean
from andon.yamlfile import Document
from andon.yamlfile import Path as Where

LEAST_EVERY_S = 10.0
"""A shorter bucket holds too little to judge by."""
LEAST_BUCKETS = 3
"""Of how many buckets beyond a threshold a regression is made, at least."""
LEAST_WATCH_S = 30.0
LEAST_CALL_S = 10.0
"""In less nobody reads who called, and clears it."""
LONGEST_S = 400 * UNITS["d"]
MOST_SHADOW = 50
"""A board remembers no more deployments of a line than these, by and large."""
LABEL = 4
"""Signs of a metric's short name."""


class Reader:
    """Turns a document into a Config, with the place of whatever does not fit."""

    def __init__(self, document: Document, path: Path, content: bytes) -> None:
        self.document = document
        self.typed = Typed(document)
        self.path = path
        self.digest = hashlib.sha256(content).hexdigest()[:16]
        self._connections: dict[str, Connection] = {}
        self._warnings: list[str] = []

    def read(self) -> Config:
        """The Config. Raises FileError."""
        if not isinstance(self.document.data, dict):
            raise self.document.error((), "a config is a mapping with `connections:` and `lines:`")
        top: TopFile = self.typed.convert(self.document.data, TopFile, ())
        for name, data in top.connections.items():
            self._connections[name] = self._connection(name, data)
        lines = {name: self._line(name, data) for name, data in top.lines.items()}
        if not lines:
            raise self.document.error(("lines",), "there is no line; the README shows one")
        return Config(
            path=self.path.absolute(),
            connections=self._connections,
            lines=lines,
            ledger=top.ledger,
            name=top.name,
            theme=top.theme,
            theme_place=self.document.place(("theme",)) if "theme" in self.document.data else None,
            ascii=top.ascii,
            animations=top.animations,
            notify_desktop=top.notify_desktop,
            keys=tuple(
                Remapped(
                    id_,
                    tuple(map(str, keys if isinstance(keys, list) else [keys])),
                    self.document.place(("keys", id_)),
                )
                for id_, keys in top.keys.items()
            ),
            digest=self.digest,
            warnings=tuple(self._warnings),
        )

    def _seconds(self, text: Duration, where: Where, least: float = 0.0) -> float:
        try:
            found = duration(text)
        except ValueError as error:
            raise self.document.error(where, str(error)) from error
        if found < least:
            raise self.document.error(where, f"at least {least:g} s")
        if found > LONGEST_S:
            raise self.document.error(where, "longer than a year")
        return found

    def _named(self, name: str, where: Where) -> None:
        if not re.fullmatch(LINE_NAME, name):
            raise self.document.error(where, "a name has 1 to 40 of a-z, 0-9 and -")

    # ---- connections

    def _connection(self, name: str, data: Any) -> Connection:
        where: Where = ("connections", name)
        self._named(name, where)
        if not isinstance(data, dict):
            raise self.document.error(where, "keys and values are expected here, `adapter` among them")
        adapter_name = data.get("adapter")
        if not isinstance(adapter_name, str):
            raise self.document.error(where, f"the key 'adapter' is missing; there are {', '.join(registry.names())}")
        try:
            adapter = registry.find(adapter_name)
        except registry.UnknownAdapter as error:
            raise self.document.error((*where, "adapter"), str(error)) from error
        own = {key: value for key, value in data.items() if key != "adapter"}
        options = self.typed.convert(own, adapter.options, where)
        for key, value in own.items():
            if SECRET_KEY.match(key):
                self._secret(value, (*where, key))
        return Connection(name, adapter, options, self.document.place(where))

    def _secret(self, value: Any, where: Where) -> None:
        """Refuse a secret that is given by its value. The words never hold it."""
        try:
            Secret(str(value))
        except SecretError as error:
            raise self.document.error(where, str(error)) from None  # what it was raised from may hold the value

    def _connected(self, name: str, where: Where) -> Connection:
        connection = self._connections.get(name)
        if connection is None:
            known = ", ".join(self._connections) or "none"
            raise self.document.error(where, f"there is no connection {name!r}; there are {known}")
        return connection

    # ---- lines

    def _line(self, name: str, data: Any) -> LineConfig:
        where: Where = ("lines", name)
        self._named(name, where)
        line: LineFile = self.typed.convert(data, LineFile, where)
        if line.promote != "ci":
            words = f"{line.promote!r} does not exist yet; `ci` does: the pipeline ships, andon watches"
            raise self.document.error((*where, "promote"), words)
        if not line.environment.strip():
            raise self.document.error((*where, "environment"), "it needs a name, as `production`")
        if not line.ci and line.deploy is None and not line.metrics:
            raise self.document.error(where, "a line needs at least one of ci, deploy and metrics")
        place = Place(name, line.environment)
        deploy = line.deploy
        config = LineConfig(
            name=name,
            environment=line.environment,
            ci=tuple(self._entry("ci", item, (*where, "ci", i), place) for i, item in enumerate(line.ci)),
            deploy=self._entry("deploy", deploy, (*where, "deploy"), place) if deploy is not None else None,
            watch_s=self._seconds(line.watch.full, (*where, "watch", "full"), LEAST_WATCH_S),
            canary_s=self._canary(line, where),
            shadow=self._shadow(line.shadow, where),
            call_s=self._seconds(line.call, (*where, "call"), LEAST_CALL_S),
            metrics=tuple(self._metric(item, (*where, "metrics", i)) for i, item in enumerate(line.metrics)),
            notify=tuple(
                self._entry("notify", item, (*where, "notify", i), place) for i, item in enumerate(line.notify)
            ),
        )
        self._fits(config, where)
        return config

    def _canary(self, line: LineFile, where: Where) -> float:
        """Seconds of the window in which metrics are compared with their control; 0: none is given."""
        if line.watch.canary is None:
            return 0.0
        at: Where = (*where, "watch", "canary")
        seconds = self._seconds(line.watch.canary, at, LEAST_WATCH_S)
        if seconds > self._seconds(line.watch.full, (*where, "watch", "full")):
            raise self.document.error(at, "longer than `full`: the whole deployment is watched for that")
        return seconds

    def _shadow(self, count: int, where: Where) -> int:
        if not 0 <= count <= MOST_SHADOW:
            raise self.document.error((*where, "shadow"), f"a number of deployments from 0 to {MOST_SHADOW}")
        return count

    def _fits(self, line: LineConfig, where: Where) -> None:
        """What no single key shows to be wrong."""
        names = [metric.name for metric in line.metrics]
        asked = [metric.name for metric in line.measured]
        for index, metric in enumerate(line.metrics):
            at: Where = (*where, "metrics", index)
            if metric.name in names[:index]:
                raise self.document.error((*at, "name"), f"there are two metrics called {metric.name!r}")
            if asked.count(metric.name) > names.count(metric.name):
                raise self.document.error((*at, "name"), f"the control of another metric is kept as {metric.name!r}")
            if metric.control and line.window_s(metric) < LEAST_BUCKETS * metric.every:
                words = f"three buckets of {metric.name!r} at least: {LEAST_BUCKETS * metric.every:g}s or more"
                raise self.document.error((*where, "watch", "canary" if line.canary_s else "full"), words)
            if metric.on_regression == "rollback" and not line.deploy:
                raise self.document.error((*at, "on_regression"), "the line has no `deploy:` to roll back with")
            if metric.threshold and metric.threshold.for_s > line.watch_s:
                raise self.document.error((*at, "threshold", "for"), "longer than the watch of a deployment")
        if line.canary_s and not any(metric.control for metric in line.metrics):
            words = "no metric of this line has a `control:`, so this window is not used"
            self._warn((*where, "watch", "canary"), words)
        for target in line.targets:
            if line.targets.count(target) > 1:
                raise self.document.error(where, f"{target} is named twice as what a stop halts")
        for key, entries in (("ci", line.ci), ("notify", line.notify)):
            targets = [entry.target for entry in entries]
            for index, target in enumerate(targets):
                if target in targets[:index]:
                    words = f"two entries of `{key}:` would be called {target}; give one a connection of its own"
                    raise self.document.error((*where, key, index), words)

    def _entry(self, station: Literal["ci", "deploy", "notify"], data: Any, where: Where, place: Place) -> Entry:
        if not isinstance(data, dict):
            raise self.document.error(where, "keys and values are expected here, `from` among them")
        kind = STATIONS[station]
        shared = [field.encode_name for field in msgspec.structs.fields(kind)]
        core: NotifyFile = self.typed.convert({k: v for k, v in data.items() if k in shared}, kind, where)
        connection = self._connected(core.from_, (*where, "from"))
        found: Station | None = getattr(connection.adapter, station)
        if found is None:
            words = f"{connection.adapter.name} cannot be used for `{station}:`"
            raise self.document.error((*where, "from"), words)
        own = {key: value for key, value in data.items() if key not in shared}
        known = [field.encode_name for field in msgspec.structs.fields(found.options)]
        for key in own:
            if key not in known:
                raise self.typed.unknown(key, [*known, *shared], where)
        halts = self._halts(core, where)
        return Entry(
            source=core.from_,
            place=msgspec.structs.replace(place, halts=halts),
            options=self.typed.convert(own, found.options, where),
            station=found,
            every_s=self._seconds(core.every, (*where, "every"), 1) if isinstance(core, CIFile) else 5.0,
            confirm_s=self._seconds(core.confirm, (*where, "confirm"), 1) if isinstance(core, DeployFile) else 900.0,
            only_way_in=isinstance(core, DeployFile) and core.only_way_in,
            target="/".join([core.from_, *([place.line] if found.per_line else []), "+".join(sorted(halts))])
            if halts
            else core.from_,
        )

    def _halts(self, core: NotifyFile, where: Where) -> tuple[str, ...]:
        """What ships there, each named once."""
        found = tuple(core.halts) if isinstance(core, CIFile) else ()
        for index, name in enumerate(found):
            if not name.strip():
                raise self.document.error((*where, "halts", index), "a name is expected here")
            if name in found[:index]:
                raise self.document.error((*where, "halts", index), f"{name!r} stands here twice")
        return found

    # ---- metrics

    def _metric(self, data: Any, where: Where) -> Metric:
        item: MetricFile = self.typed.convert(data, MetricFile, where)
        connection = self._connected(item.from_, (*where, "from"))
        if connection.adapter.metrics is None:
            raise self.document.error((*where, "from"), f"{connection.adapter.name} has no metrics")
        if not item.name.strip() or clean(item.name) != item.name:
            raise self.document.error((*where, "name"), "a name of plain, visible text is expected here")
        if len(item.short) > LABEL or clean(item.short) != item.short:
            raise self.document.error((*where, "short"), f"at most {LABEL} visible signs, for lists")
        if not item.value.strip():
            raise self.document.error((*where, "value"), "a query is expected here, in the source's language")
        every = self._seconds(item.every, (*where, "every"), LEAST_EVERY_S)
        lag = self._seconds(item.lag, (*where, "lag")) if item.lag is not None else every
        self._warn_of_ranges(item, every, where)
        return Metric(
            name=item.name,
            source=item.from_,
            kind=item.kind,
            bad=item.bad,
            value=item.value,
            n=item.n,
            every=every,
            lag=lag,
            short=item.short,
            unit=item.unit,
            on_regression=item.on_regression,
            on_blind=item.on_blind,
            threshold=self._threshold(item, every, (*where, "threshold")),
            control=self._control(item, (*where, "control")),
        )

    def _control(self, item: MetricFile, where: Where) -> Control | None:
        """What the metric is compared with at the same time."""
        found: ControlFile | None = item.control
        if found is None:
            return None
        if item.threshold is not None:
            raise self.document.error(where, "give `threshold` or `control`: one of them judges this metric")
        if not found.value.strip():
            raise self.document.error((*where, "value"), "a query is expected here, in the source's language")
        if (found.value, found.n) == (item.value, item.n):
            raise self.document.error(
                where, "the queries are those of the metric itself; they must be of the other side"
            )
        if item.kind in ("proportion", "count", "sum"):
            what = "its trials" if item.kind == "proportion" else "its traffic, as requests, visits or servers"
            for n, at in ((item.n, where[:-1]), (found.n, where)):
                if not n.strip():
                    raise self.document.error(at, f"beside a control a {item.kind} needs `n`: {what}")
        return Control(value=found.value, n=found.n)

    def _warn_of_ranges(self, item: MetricFile, every: float, where: Where) -> None:
        """A query with a range of its own measures something else than the bucket it is asked for."""
        queries: list[tuple[Where, str]] = [((*where, "value"), item.value), ((*where, "n"), item.n)]
        if item.control is not None:
            at: Where = (*where, "control")
            queries += [((*at, "value"), item.control.value), ((*at, "n"), item.control.n)]
        for place, query in queries:
            for fixed in re.findall(r"\[(\d+[smhd])\]", query):
                if duration(fixed) != every:
                    self._warn(place, f"[{fixed}] differs from every; write [$every]")

    def _threshold(self, item: MetricFile, every: float, where: Where) -> Threshold | None:
        found: ThresholdFile | None = item.threshold
        if found is None:
            return None
        if found.above is None and found.below is None:
            raise self.document.error(where, "give `above`, `below` or both")
        if found.above is not None and found.below is not None and found.below >= found.above:
            raise self.document.error(where, "`below` must be less than `above`, or every value is beyond one of them")
        if (found.below if item.bad == "falls" else found.above) is None:
            missing = "below" if item.bad == "falls" else "above"
            self._warn(where, f"it is bad when this metric {item.bad}, and no `{missing}` would see that")
        seconds = self._seconds(found.for_, (*where, "for"))
        if seconds < LEAST_BUCKETS * every:
            words = f"at least three buckets of {every:g} s are needed: {LEAST_BUCKETS * every:g}s or more"
            raise self.document.error((*where, "for"), words)
        return Threshold(above=found.above, below=found.below, for_s=seconds)

    def _warn(self, where: Where, words: str) -> None:
        self._warnings.append(str(self.document.error(where, words)))
