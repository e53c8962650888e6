"""The adapters that speak HTTP, before a good server that answers as the real ones do, and every call that they have."""

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from adapters import buildbot, prometheus
from adapters._buildbot_master import Master
from adapters._http import Web
from andon.model import Halted, HoldRef, Metric, Part, Why
from andon.ports import Wait
from andon.registry import Context, NoOptions, Place

NOW = 1_700_000_040.0
LISTENER = "12345678-1234-1234-1234-123456789abc"
HOLD = HoldRef("h4k2", "shop", "pat", "checkout fails")
WHY = Why("pat", "not this one")
METRIC = Metric("orders", "prom", "proportion", "falls", "sum(rate(orders[$every]))", n="sum(rate(all[$every]))")
MOVING = Halted(tuple(Part(name, False) for name in ("ships-a", "ships-b", "ships-c")), NOW)


def _listing(kind: str, *rows: dict[str, Any]) -> bytes:
    return json.dumps({kind: rows, "meta": {"total": len(rows)}}).encode()


BUILDERS = ({"builderid": 1, "name": "unit"}, {"builderid": 2, "name": "deploy"})
REQUESTS = tuple(
    {
        "buildrequestid": number,
        "buildsetid": number,
        "builderid": number,
        "complete": number == 1,
        "claimed": True,
        "submitted_at": 1_699_999_000,
        "results": 0 if number == 1 else -1,
    }
    for number in (1, 2)
)
BUILDS = tuple(
    {
        "buildid": number,
        "number": 7,
        "builderid": number,
        "buildrequestid": number,
        "workerid": number,
        "started_at": 1_699_999_100,
        "complete": number == 1,
        "complete_at": 1_699_999_200 if number == 1 else None,
        "results": 0 if number == 1 else None,
        "state_string": "all is well",
        "properties": {"got_revision": ["a91f" * 10, "Git"]},
    }
    for number in (1, 2)
)
WORKERS = (
    {"workerid": 1, "name": "tests", "paused": False, "configured_on": [{"builderid": 1}]},
    {"workerid": 2, "name": "ships-a", "paused": False, "configured_on": [{"builderid": 2}]},
    {"workerid": 3, "name": "ships-b", "paused": False, "configured_on": [{"builderid": 2}]},
    {
        "workerid": 4,
        "name": "ships-c",
        "paused": True,
        "pause_reason": "andon hold h4k2 by pat: checkout fails",
        "configured_on": [{"builderid": 2}],
    },
)
LOG = {"logid": 4, "name": "stdio", "type": "s", "num_lines": 2, "complete": True}
STEP = {"buildid": 1, "number": 0, "name": "unit", "complete": True, "started_at": 1_699_999_100, "results": 0}

_PAGES: list[tuple[str, bytes | list[bytes]]] = [
    (r"/config", json.dumps({"user": {"username": "ann"}, "versions": [["Buildbot", "4.3.0"]]}).encode()),
    (r"/sse/listen/.*", [b"event: handshake\ndata: " + LISTENER.encode() + b"\n\n"]),
    (r"/sse/add/.*", b'"ok"'),
    (r"/api/v2/builders", _listing("builders", *BUILDERS)),
    (r"/api/v2/workers", _listing("workers", *WORKERS)),
    (r"/api/v2/buildrequests\?.*complete=false.*", _listing("buildrequests", REQUESTS[1])),
    (r"/api/v2/buildrequests\?buildrequestid=2", _listing("buildrequests", REQUESTS[1])),
    (r"/api/v2/buildrequests\?.*", _listing("buildrequests", *REQUESTS)),
    (r"/api/v2/buildsets\?.*", _listing("buildsets", *({"bsid": n, "sourcestamps": [{}]} for n in (1, 2)))),
    (r"/api/v2/builds\?complete=false.*", _listing("builds", BUILDS[1])),
    (r"/api/v2/builds\?.*", _listing("builds", *BUILDS)),
    (r"/api/v2/builds/[0-9]+/steps/[0-9]+/logs", _listing("logs", LOG)),
    (r"/api/v2/builds/[0-9]+/steps", _listing("steps", STEP)),
    (r"/api/v2/builds/([0-9]+)\?.*", _listing("builds", BUILDS[0])),
    (r"/api/v2/logs/.*", _listing("logchunks", {"content": "ocollected\noall is well\n"})),
    (r"/api/v2/changes\?.*", _listing("changes", {"changeid": 1, "revision": "a91f" * 10, "comments": "one"})),
    (r"/api/v1/query\?.*", json.dumps({"status": "success", "data": {"result": [NOW, str(NOW)]}}).encode()),
    (r"/api/v1/status/buildinfo", json.dumps({"status": "success", "data": {"version": "3.1.0"}}).encode()),
]


def route(method: str, target: str) -> bytes | list[bytes] | None:
    """What Buildbot and Prometheus answer; each path is only one's."""
    if method == "POST":
        return json.dumps({"jsonrpc": "2.0", "id": 1, "result": None}).encode()
    if target.startswith("/api/v1/query_range"):
        return _matrix(target)
    return next(
        (page for pattern, page in _PAGES if re.fullmatch(pattern, target)),
        b'{"all": "is well", "shop": "open"}' if target == "/" else None,
    )


def _matrix(target: str) -> bytes:
    start, end, step = (float(re.search(rf"{name}=([0-9.]+)", target)[1]) for name in ("start", "end", "step"))
    times = [start + step * index for index in range(round((end - start) / step) + 1)]
    values = [[at, str(at) if "time" in target else "0.5"] for at in times]
    return json.dumps({"status": "success", "data": {"result": [{"metric": {}, "values": values}]}}).encode()


def pipeline(url: str, folder: Any, clock: Any, limit_s: float, token: str = "") -> buildbot.StandingPipeline:
    """The builders of a line, with small limits of time."""
    options = buildbot.ConnectionOptions(url, token=token, token_acts=token)
    master = Master(options, Context("bb", folder, clock, folder))
    _limit(master.web, limit_s)
    entry = buildbot.EntryOptions({"unit": "test", "deploy": "deploy"})
    found = buildbot.ADAPTER.ci.open(master, entry, Place("shop", "production", ("deploy",)))
    assert isinstance(found, buildbot.StandingPipeline)
    return found


def metrics(url: str, folder: Any, clock: Any, limit_s: float) -> prometheus.Prometheus:
    """A metrics source with small limits of time."""
    connection = prometheus.ADAPTER.connect(prometheus.Connection(url), Context("prom", folder, clock, folder))
    _limit(connection._web, limit_s)
    return prometheus.ADAPTER.metrics.open(connection, NoOptions(), Place("shop", "production"))


def _limit(web: Web, limit_s: float) -> None:
    web.read_limit_s = web.act_limit_s = limit_s


async def _all_there_is(ci: buildbot.Pipeline) -> list[Any]:
    """What a watch says until it has said everything."""
    found, stream = [], ci.watch()
    try:
        async for item in stream:
            if isinstance(item, Wait):
                break
            found.append(item)
    finally:
        await stream.aclose()
    return found


async def _event(web: Web) -> Any:
    async with web.stream_events("/sse/listen/x", quiet_s=web.read_limit_s) as events:
        return await anext(events)


Call = Callable[[], Awaitable[Any]]


def reads(web: Web, ci: buildbot.Pipeline, prom: prometheus.Prometheus) -> dict[str, Call]:
    """Every read there is."""
    return {
        "get_json": lambda: web.get_json("/"),
        "get_text": lambda: web.get_text("/"),
        "stream": lambda: _event(web),
        "buildbot watch": lambda: _all_there_is(ci),
        "buildbot whoami": ci.whoami,
        "buildbot passed": lambda: ci.passed("a91f" * 10),
        "buildbot log": lambda: ci.log("r1", "1/0", 0),
        "buildbot halted": ci.halted,
        "prometheus whoami": prom.whoami,
        "prometheus samples": lambda: prom.samples(METRIC, NOW - 600, NOW, 60.0),
    }


def acts(web: Web, ci: buildbot.StandingPipeline) -> dict[str, Call]:
    """Every act there is."""
    return {
        "act": lambda: web.act("POST", "/"),
        "act with an answer": lambda: web.act("POST", "/", json={}, type=dict),
        "buildbot halt": lambda: ci.halt(HOLD),
        "buildbot release": lambda: ci.release(HOLD, MOVING),
        "buildbot cancel": lambda: ci.cancel("r2", WHY),
    }
