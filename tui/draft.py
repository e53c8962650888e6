"""The text of a first config, from what `andon init` was told: commented, careful, and with secrets by reference only."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple


class Draft(NamedTuple):
    """What a first config says."""

    line: str
    environment: str
    adapter: str
    connection: Mapping[str, Any]
    """Options of the connection, as YAML values."""
    ci: Mapping[str, Any] | None
    deploy: Mapping[str, Any] | None
    """Options of the line's stations; None: the adapter has none."""
    halts: tuple[str, ...]
    metrics: Mapping[str, Any] | None = None
    """`adapter` with the options of its connection, and `query`, `name`, `kind`, `bad`; None: nothing is measured yet."""


def text(draft: Draft) -> str:
    """The file. Every value is written so that YAML reads back what was meant."""
    parts = [_HEAD, _connections(draft), _line(draft), _METRICS if draft.metrics is None else _metrics(draft), _TAIL]
    return "\n".join(parts)


def _flow(value: Any) -> str:
    """A value in YAML's flow style, which JSON is a part of."""
    return json.dumps(value, ensure_ascii=False)


def _connections(draft: Draft) -> str:
    lines = [
        "# Outside systems, by a name of yours. Secrets stand here by reference only: env:NAME, file:PATH,",
        "# keyring:SERVICE/USER or command:PROGRAM. `token` reads; `token_acts` is opened only inside an act.",
        "connections:",
        f"  {draft.adapter}:",
        f"    adapter: {draft.adapter}",
        *(f"    {key}: {_flow(value)}" for key, value in draft.connection.items()),
    ]
    if draft.metrics is not None:
        lines += [f"  {draft.metrics['adapter']}:", f"    adapter: {draft.metrics['adapter']}"]
        lines += [f"    {key}: {_flow(value)}" for key, value in draft.metrics["connection"].items()]
    return "\n".join([*lines, ""])


def _line(draft: Draft) -> str:
    halts = (
        [f"        halts: {_flow(list(draft.halts))}      # what ships: a stop halts it; tests go on"]
        if draft.halts
        else []
    )
    lines = ["lines:", f"  {draft.line}:", f"    environment: {_flow(draft.environment)}"]
    if draft.ci is not None:
        lines += ["    ci:", f"      - from: {draft.adapter}", *halts]
        lines += [f"        {key}: {_flow(value)}" for key, value in draft.ci.items()]
    if draft.deploy is not None:
        own = [] if draft.ci is not None else [row[2:] for row in halts]
        lines += ["    deploy:                       # the way back: F4 deploys an earlier version here"]
        lines += [f"      from: {draft.adapter}", *own]
        lines += [f"      {key}: {_flow(value)}" for key, value in draft.deploy.items()]
        lines += ["      # only_way_in: true         # nothing ships there but andon and what a stop halts"]
    lines += ["    watch: {full: 15m}            # how long a deployment is watched before its verdict"]
    return "\n".join(lines)


def _metrics(draft: Draft) -> str:
    found = draft.metrics or {}
    return "\n".join(
        (
            "    metrics:",
            f"      - name: {_flow(found['name'])}",
            f"        from: {found['adapter']}",
            f"        kind: {found['kind']}             # proportion, count, sum, latency or gauge",
            f"        bad: {found['bad']}               # which way is bad: falls or rises",
            f"        value: {_flow(found['query'])}    # $every stands for the bucket's length",
            "        on_regression: stop         # or tell",
            "",
        )
    )


_HEAD = """\
# The config of andon, begun by `andon init`. `andon check` asks every source whether it would work; `andon schema`
# prints a JSON schema for editors. Durations are 90s, 15m, 8h or 2d.

# ledger: ~/.local/state/andon/ledger.db    # where everything seen and done is recorded
# theme: dark                               # dark, light, high-contrast, deuteranopia, tritanopia, sixteen, or a file
# keys: {stop: f10}                         # other keys; `andon keys` lists them
"""

_METRICS = """\
    # Nothing is measured yet, so nothing can be judged: a deployment that hurts is not seen. What would be:
    # metrics:
    #   - name: checkout conversion
    #     from: prom                  # a connection: {adapter: prometheus, url: "http://prometheus.internal:9090"}
    #     kind: proportion            # proportion, count, sum, latency or gauge
    #     bad: falls                  # which way is bad: falls or rises
    #     value: "sum(increase(orders_total[$every]))"
    #     n: "sum(increase(checkouts_started_total[$every]))"
    #     on_regression: stop         # or tell
"""

_TAIL = """\
# Once the judge has earned your trust (`andon backtest`), docs/judge.md says what it takes to let it roll back by itself.
"""
