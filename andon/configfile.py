"""What stands in a config file: the keys that the core knows, how durations are written, and a JSON schema of it all.

The structs only say what is a key and of which type; what the values mean together is the reader's (`configreader`).
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from andon import registry
from andon.registry import Station

DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)\Z", re.ASCII)
UNITS = MappingProxyType({"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0})
Duration = str | int | float
"""`90`, `90s`, `15m`, `8h`, `2d`."""

SECRET_KEY = re.compile(r"(?:token|password|secret)(?:_[a-z]+)?\Z")
"""The keys of a connection that hold a secret, always by reference. An adapter's author names them so."""


class ThresholdFile(msgspec.Struct, forbid_unknown_fields=True):
    """Bounds: at least one of `above`, `below`; `for` is how long beyond them is a regression."""

    above: float | None = None
    below: float | None = None
    for_: Duration = msgspec.field(default="3m", name="for")


class ControlFile(msgspec.Struct, forbid_unknown_fields=True):
    """The side that was not deployed to: the same two queries, for it."""

    value: str
    n: str = ""


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
    control: ControlFile | None = None


class WatchFile(msgspec.Struct, forbid_unknown_fields=True):
    """How long a deployment is watched: the whole, and beside a control."""

    full: Duration = "15m"
    canary: Duration | None = None


class NotifyFile(msgspec.Struct, forbid_unknown_fields=True):
    """The keys of every entry of `notify`; beside them stand those of its adapter, as in `ci` and `deploy`."""

    from_: str = msgspec.field(name="from")


class CIFile(NotifyFile, forbid_unknown_fields=True):
    """The keys of every entry of `ci`."""

    halts: list[str] = []
    every: Duration = "5s"


class DeployFile(CIFile, forbid_unknown_fields=True):
    """The keys of every `deploy`."""

    confirm: Duration = "15m"
    only_way_in: bool = False


STATIONS: Mapping[Literal["ci", "deploy", "notify"], type[msgspec.Struct]] = MappingProxyType(
    {"ci": CIFile, "deploy": DeployFile, "notify": NotifyFile}
)


class LineFile(msgspec.Struct, forbid_unknown_fields=True):
    """One production line."""

    environment: str = "production"
    promote: str = "ci"
    ci: list[Any] = []
    deploy: dict[str, Any] | None = None
    watch: WatchFile = msgspec.field(default_factory=WatchFile)
    shadow: int = 20
    call: Duration = "2m"
    metrics: list[Any] = []
    notify: list[Any] = []


class TopFile(msgspec.Struct, forbid_unknown_fields=True):
    """The whole file."""

    connections: dict[str, Any] = {}
    lines: dict[str, Any] = {}
    ledger: str = ""
    name: str = ""
    theme: str = "dark"
    ascii: bool = False
    animations: bool = True
    notify_desktop: bool = False
    keys: dict[str, str | int | list[str]] = {}


def duration(text: Duration) -> float:
    """Seconds of `90`, `90s`, `15m`, `8h` or `2d`. Raises ValueError."""
    if isinstance(text, (int, float)):
        return float(text)
    match = DURATION.match(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a duration; write 90s, 15m, 8h or 2d")
    return float(match.group(1)) * UNITS[match.group(2)]


def schema() -> dict[str, Any]:
    """A JSON schema of the file, for editors: the core's keys, and those of every built-in adapter."""
    entries: dict[str, list[dict[str, Any]]] = {station: [] for station in STATIONS}
    connections = []
    for name in registry.names():
        adapter = registry.find(name)
        connections.append(_with({"adapter": {"const": name}}, ["adapter"], adapter.options))
        for station, shared in STATIONS.items():
            offered: Station | None = getattr(adapter, station)
            if offered is not None:
                entries[station].append(_with(_inline(shared)["properties"], ["from"], offered.options))
    line = _inline(LineFile)
    line["properties"] |= {
        "promote": {"const": "ci"},
        "ci": {"type": "array", "items": {"anyOf": entries["ci"]}},
        "deploy": {"anyOf": entries["deploy"]},
        "notify": {"type": "array", "items": {"anyOf": entries["notify"]}},
        "metrics": {"type": "array", "items": _inline(MetricFile)},
    }
    top = _inline(TopFile)
    top["properties"]["connections"] = {"type": "object", "additionalProperties": {"anyOf": connections}}
    top["properties"]["lines"] = {"type": "object", "additionalProperties": line}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **top}


def _with(properties: dict[str, Any], required: list[str], options: type[msgspec.Struct]) -> dict[str, Any]:
    """The schema of an adapter's options with keys of the core beside them."""
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
