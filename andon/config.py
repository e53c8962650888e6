"""The config: which outside systems there are, and which lines run over them.

A config can run programs and send tokens, so it is read from `-c`, `$ANDON_CONFIG` or the user's config folder, never from
the current folder, and must belong to the user or root and not be writable by others. Every error names the file, the
line, the column and the key (`yamlfile.FileError`).
"""

import difflib
import grp
import os
import pwd
import re
from pathlib import Path
from typing import Any, Literal

import msgspec

from andon import registry
from andon.model import LINE_NAME, Metric, TargetId, Threshold
from andon.registry import Adapter, Place, Station
from andon.yamlfile import Document, FileError
from andon.yamlfile import Path as Where

DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)\Z")
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
Duration = str | int | float
"""`90`, `90s`, `15m`, `8h`, `2d`."""


class ThresholdFile(msgspec.Struct, forbid_unknown_fields=True):
    """Bounds: at least one of `above`, `below`; `for` is how long beyond them is a regression."""

    above: float | None = None
    below: float | None = None
    for_: Duration = msgspec.field(default="3m", name="for")


class MetricFile(msgspec.Struct, forbid_unknown_fields=True):
    """One metric of a line."""

    name: str
    from_: str = msgspec.field(name="from")
    kind: Literal["proportion", "count", "sum", "latency", "gauge"]
    bad: Literal["falls", "rises"]
    value: str
    n: str = ""
    every: Duration = "60s"
    lag: Duration | None = None
    short: str = ""
    unit: str = ""
    on_regression: Literal["rollback", "stop", "tell"] = "stop"
    on_blind: Literal["tell", "stop"] = "tell"
    threshold: ThresholdFile | None = None


class WatchFile(msgspec.Struct, forbid_unknown_fields=True):
    """How long a deployment is watched."""

    full: Duration = "15m"


class LineFile(msgspec.Struct, forbid_unknown_fields=True):
    """One production line. Entries of `ci`, `deploy` and `notify` take the keys of their adapter, too."""

    environment: str = "production"
    promote: str = "ci"
    ci: list[dict[str, Any]] = []
    deploy: dict[str, Any] | None = None
    watch: WatchFile = msgspec.field(default_factory=WatchFile)
    metrics: list[dict[str, Any]] = []
    notify: list[dict[str, Any]] = []


class EntryFile(msgspec.Struct, forbid_unknown_fields=True):
    """The keys that every entry of `ci`, `deploy` and `notify` may have."""

    from_: str = msgspec.field(name="from")
    halts: list[str] = []
    every: Duration = "5s"
    confirm: Duration = "15m"
    only_way_in: bool = False


class TopFile(msgspec.Struct, forbid_unknown_fields=True):
    """The whole file."""

    connections: dict[str, dict[str, Any]] = {}
    lines: dict[str, dict[str, Any]] = {}
    ledger: str = ""
    name: str = ""
    theme: str = "dark"


class Entry(msgspec.Struct, frozen=True):
    """A source of a line: which connection, and how it is used there."""

    source: str
    place: Place
    options: msgspec.Struct
    station: Station
    every_s: float = 5.0
    confirm_s: float = 900.0
    only_way_in: bool = False
    target: TargetId = ""
    """What it is called as a target of acts."""


class LineConfig(msgspec.Struct, frozen=True):
    """A production line as configured."""

    name: str
    environment: str = "production"
    ci: tuple[Entry, ...] = ()
    deploy: Entry | None = None
    watch_s: float = 900.0
    metrics: tuple[Metric, ...] = ()
    notify: tuple[Entry, ...] = ()

    @property
    def halting(self) -> tuple[Entry, ...]:
        """The entries that a stop halts."""
        entries = (*self.ci, *((self.deploy,) if self.deploy else ()))
        return tuple(entry for entry in entries if entry.place.halts)

    @property
    def targets(self) -> tuple[TargetId, ...]:
        """The names of what a stop halts."""
        return tuple(entry.target for entry in self.halting)

    def metric(self, name: str) -> Metric | None:
        """The metric of that name."""
        return next((metric for metric in self.metrics if metric.name == name), None)


class Connection(msgspec.Struct, frozen=True):
    """One outside system, as configured; nothing of it was opened yet."""

    name: str
    adapter: Adapter
    options: msgspec.Struct


class Config(msgspec.Struct, frozen=True):
    """The whole configuration."""

    path: Path
    connections: dict[str, Connection] = {}
    lines: dict[str, LineConfig] = {}
    ledger: str = ""
    name: str = ""
    theme: str = "dark"
    digest: str = ""
    """A short digest of the file, so that the ledger tells which one an engine ran with."""
    warnings: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where relative paths start."""
        return self.path.parent


def places() -> tuple[Path, ...]:
    """Where a config is looked for when none is named."""
    import platformdirs

    named = os.environ.get("ANDON_CONFIG")
    return (Path(named),) if named else (platformdirs.user_config_path("andon") / "andon.yaml",)


def load(path: Path) -> Config:
    """The config at `path`. Raises FileError; opens no connection."""
    content = _content(path)
    document = Document(str(path), content)
    if not isinstance(document.data, dict):
        raise document.error((), "a config is a mapping with `connections:` and `lines:`")
    return _Reader(document, path, content).read()


def duration(text: Duration) -> float:
    """Seconds of `90`, `90s`, `15m`, `8h` or `2d`. Raises ValueError."""
    if isinstance(text, (int, float)):
        return float(text)
    match = DURATION.match(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a duration; write 90s, 15m, 8h or 2d")
    return float(match.group(1)) * UNITS[match.group(2)]


def _content(path: Path) -> bytes:
    """The file, if it is ours to trust: a config runs programs and sends tokens."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise FileError(str(path), None, (), f"cannot be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as handle:
        status = os.fstat(handle.fileno())
        if status.st_uid not in (os.getuid(), 0):
            raise FileError(
                str(path), None, (), "belongs to somebody else; a config runs programs, so it must be yours"
            )
        if status.st_mode & 0o002 or (status.st_mode & 0o020 and not _own_group(status.st_gid)):
            raise FileError(str(path), None, (), f"others can write to it; chmod go-w {path}")
        try:
            return handle.read()
        except OSError as error:
            raise FileError(str(path), None, (), f"cannot be read: {error.strerror}") from error


def _own_group(gid: int) -> bool:
    """Whether the group is the user's private one, as umask 002 assumes."""
    try:
        group = grp.getgrgid(gid)
        user = pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    return group.gr_name == user.pw_name and not set(group.gr_mem) - {user.pw_name}


class _Reader:
    """Turns a document into a Config, with the place of whatever does not fit."""

    def __init__(self, document: Document, path: Path, content: bytes) -> None:
        self.document = document
        self.path = path
        self.content = content
        self.connections: dict[str, Connection] = {}
        self.warnings: list[str] = []

    def read(self) -> Config:
        import hashlib

        top: TopFile = self.convert(self.document.data, TopFile, ())
        for name, data in top.connections.items():
            self.connections[name] = self.connection(name, data)
        lines = {name: self.line(name, data) for name, data in top.lines.items()}
        if not lines:
            raise self.document.error(("lines",), "there is no line; the README shows one")
        return Config(
            path=self.path.absolute(),
            connections=self.connections,
            lines=lines,
            ledger=top.ledger,
            name=top.name,
            theme=top.theme,
            digest=hashlib.sha256(self.content).hexdigest()[:16],
            warnings=tuple(self.warnings),
        )

    def convert(self, data: Any, kind: type[Any], where: Where) -> Any:
        """`data` as `kind`, strictly; an unknown key is named with the nearest known one."""
        if not isinstance(data, dict):
            raise self.document.error(where, "keys and values are expected here")
        known = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        for key in data:
            if key not in known:
                raise self.unknown(key, list(known), where)
        for name, field in known.items():
            if name not in data:
                if field.required:
                    raise self.document.error(where, f"the key {name!r} is missing")
                continue
            try:
                msgspec.convert(data[name], field.type, strict=True)
            except msgspec.ValidationError as error:
                words, _, at = str(error).partition(" - at `$")
                raise self.document.error((*where, name, *_steps(at.rstrip("`"))), _plain(words)) from error
        try:
            return msgspec.convert(data, kind, strict=True)
        except msgspec.ValidationError as error:
            raise self.document.error(where, _plain(str(error).partition(" - at ")[0])) from error

    def unknown(self, key: str, known: list[str], where: Where) -> FileError:
        near = difflib.get_close_matches(key, known, 1, 0.5)
        hint = f'; did you mean "{near[0]}"?' if near else f"; there are {', '.join(sorted(known))}"
        return self.document.error((*where, key), f"unknown key{hint}")

    def connection(self, name: str, data: dict[str, Any]) -> Connection:
        where: Where = ("connections", name)
        self.named(name, where)
        adapter_name = data.get("adapter")
        if not isinstance(adapter_name, str):
            raise self.document.error(where, "the key 'adapter' is missing")
        try:
            adapter = registry.find(adapter_name)
        except registry.UnknownAdapter as error:
            raise self.document.error((*where, "adapter"), str(error)) from error
        options = self.convert({k: v for k, v in data.items() if k != "adapter"}, adapter.options, where)
        return Connection(name, adapter, options)

    def named(self, name: str, where: Where) -> None:
        if not re.fullmatch(LINE_NAME, name):
            raise self.document.error(where, "a name has 1 to 40 of a-z, 0-9 and -")

    def line(self, name: str, data: Any) -> LineConfig:
        where: Where = ("lines", name)
        self.named(name, where)
        line: LineFile = self.convert(data, LineFile, where)
        if line.promote != "ci":
            raise self.document.error(
                (*where, "promote"),
                f"{line.promote!r} does not exist yet; `ci` does: the pipeline ships, andon watches",
            )
        if not (line.ci or line.deploy or line.metrics):
            raise self.document.error(where, "a line needs at least one of ci, deploy and metrics")
        metrics = tuple(self.metric(item, (*where, "metrics", i)) for i, item in enumerate(line.metrics))
        config = LineConfig(
            name=name,
            environment=line.environment,
            ci=tuple(self.entry("ci", item, (*where, "ci", i), name, line) for i, item in enumerate(line.ci)),
            deploy=self.entry("deploy", line.deploy, (*where, "deploy"), name, line) if line.deploy else None,
            watch_s=self.seconds(line.watch.full, (*where, "watch", "full"), least=30),
            metrics=metrics,
            notify=tuple(self.entry("notify", x, (*where, "notify", i), name, line) for i, x in enumerate(line.notify)),
        )
        self.fits(config, where)
        return config

    def fits(self, line: LineConfig, where: Where) -> None:
        """What no single key shows to be wrong."""
        names = [metric.name for metric in line.metrics]
        for index, metric in enumerate(line.metrics):
            at: Where = (*where, "metrics", index)
            if metric.name in names[:index]:
                raise self.document.error((*at, "name"), f"there are two metrics called {metric.name!r}")
            if metric.on_regression == "rollback" and not line.deploy:
                raise self.document.error((*at, "on_regression"), "the line has no `deploy:` to roll back with")
            if metric.threshold and metric.threshold.for_s > line.watch_s:
                raise self.document.error((*at, "threshold"), "`for` is longer than the watch of a deployment")
        targets = line.targets
        for target in targets:
            if targets.count(target) > 1:
                raise self.document.error(where, f"{target} is named twice as what a stop halts")

    def entry(
        self, station: Literal["ci", "deploy", "notify"], data: Any, where: Where, name: str, line: LineFile
    ) -> Entry:
        if not isinstance(data, dict):
            raise self.document.error(where, "keys and values are expected here")
        shared = {field.encode_name for field in msgspec.structs.fields(EntryFile)}
        core: EntryFile = self.convert({k: v for k, v in data.items() if k in shared}, EntryFile, where)
        connection = self.connected(core.from_, (*where, "from"))
        found: Station | None = getattr(connection.adapter, station)
        if found is None:
            raise self.document.error((*where, "from"), f"{connection.adapter.name} cannot be used for `{station}:`")
        own = {k: v for k, v in data.items() if k not in shared}
        known = {field.encode_name for field in msgspec.structs.fields(found.options)}
        for key in own:
            if key not in known:
                raise self.unknown(key, [*known, *shared], where)
        return Entry(
            source=core.from_,
            place=Place(name, line.environment, tuple(core.halts)),
            options=self.convert(own, found.options, where),
            station=found,
            every_s=self.seconds(core.every, (*where, "every"), least=1),
            confirm_s=self.seconds(core.confirm, (*where, "confirm"), least=1),
            only_way_in=core.only_way_in,
            target=f"{core.from_}/{'+'.join(sorted(core.halts))}" if core.halts else core.from_,
        )

    def connected(self, name: str, where: Where) -> Connection:
        connection = self.connections.get(name)
        if connection is None:
            raise self.document.error(
                where, f"there is no connection {name!r}; there are {', '.join(self.connections) or 'none'}"
            )
        return connection

    def metric(self, data: Any, where: Where) -> Metric:
        item: MetricFile = self.convert(data, MetricFile, where)
        connection = self.connected(item.from_, (*where, "from"))
        if connection.adapter.metrics is None:
            raise self.document.error((*where, "from"), f"{connection.adapter.name} has no metrics")
        every = self.seconds(item.every, (*where, "every"), least=10)
        lag = self.seconds(item.lag, (*where, "lag")) if item.lag is not None else every
        for key, query in (("value", item.value), ("n", item.n)):
            fixed = re.search(r"\[(\d+[smhd])\]", query)
            if fixed and duration(fixed.group(1)) != every:
                self.warnings.append(
                    str(self.document.error((*where, key), f"[{fixed.group(1)}] differs from every; write [$every]"))
                )
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
            threshold=self.threshold(item, every, (*where, "threshold")),
        )

    def threshold(self, item: MetricFile, every: float, where: Where) -> Threshold | None:
        found = item.threshold
        if found is None:
            return None
        if found.above is None and found.below is None:
            raise self.document.error(where, "give `above`, `below` or both")
        seconds = self.seconds(found.for_, (*where, "for"))
        if seconds < 3 * every:
            raise self.document.error(
                (*where, "for"), f"at least three buckets of {every:g} s are needed: {3 * every:g}s or more"
            )
        return Threshold(above=found.above, below=found.below, for_s=seconds)

    def seconds(self, text: Duration, where: Where, least: float = 0.0) -> float:
        try:
            found = duration(text)
        except ValueError as error:
            raise self.document.error(where, str(error)) from error
        if not least <= found <= 400 * UNITS["d"]:
            raise self.document.error(where, f"at least {least:g} s" if found < least else "longer than a year")
        return found


def _steps(at: str) -> Where:
    """`[0].key` of a validation error as steps of a path."""
    return tuple(int(i) if i else key for i, key in re.findall(r"\[(\d+)\]|\.(\w+)", at))


def _plain(words: str) -> str:
    """A validation error in words of a config's author."""
    for their, our in (("Expected `", "expected "), ("`, got `", ", not "), ("`", ""), ("object", "keys and values")):
        words = words.replace(their, our)
    return words[:1].lower() + words[1:]


def schema() -> dict[str, Any]:
    """A JSON schema of the file, for editors: the core's keys, and those of every built-in adapter."""
    entries: dict[str, list[dict[str, Any]]] = {"ci": [], "deploy": [], "notify": []}
    connections = []
    for name in registry.names():
        adapter = registry.find(name)
        connections.append(_with({"adapter": {"const": name}}, ["adapter"], adapter.options))
        for station, found in entries.items():
            offered: Station | None = getattr(adapter, station)
            if offered is not None:
                found.append(_with(_inline(EntryFile)["properties"], ["from"], offered.options))
    line = _inline(LineFile)
    line["properties"] |= {
        "ci": {"type": "array", "items": {"anyOf": entries["ci"]}},
        "deploy": {"anyOf": entries["deploy"]},
        "notify": {"type": "array", "items": {"anyOf": entries["notify"]}},
        "watch": _inline(WatchFile),
        "metrics": {"type": "array", "items": _inline(MetricFile)},
    }
    top = _inline(TopFile)
    top["properties"]["connections"] = {"type": "object", "additionalProperties": {"anyOf": connections}}
    top["properties"]["lines"] = {"type": "object", "additionalProperties": line}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **top}


def _with(properties: dict[str, Any], required: list[str], options: type[msgspec.Struct]) -> dict[str, Any]:
    own = _inline(options)
    own["properties"] = {**properties, **own.get("properties", {})}
    own["required"] = [*required, *own.get("required", [])]
    return own


def _inline(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The schema of a struct with what it refers to put in its place."""
    (found,), parts = msgspec.json.schema_components([kind], ref_template="{name}")
    whole: dict[str, Any] = _resolved(found, parts)
    return dict(whole)


def _resolved(part: Any, parts: dict[str, Any]) -> Any:
    if isinstance(part, dict):
        if "$ref" in part:
            return _resolved(parts[part["$ref"]], parts)
        return {key: _resolved(value, parts) for key, value in part.items()}
    if isinstance(part, list):
        return [_resolved(value, parts) for value in part]
    return part
