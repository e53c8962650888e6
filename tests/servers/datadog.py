"""What Datadog's published reference says of two questions, as a server; and Datadog's own client, to hold it to that.

No Datadog can be had for a test. Its client is made from the same document as the reference: it is asked for the same as
andon, so that both requests can be compared, and it takes apart what this server answers.
"""

import json
import os
import subprocess
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.servers.need import VENV

API_KEY, APP_KEY = "api-5ecret-canary", "app-5ecret-canary"

_ASKS = """
import json, sys
from datadog_api_client import ApiClient, Configuration
from datadog_api_client.v1.api.authentication_api import AuthenticationApi
from datadog_api_client.v1.api.metrics_api import MetricsApi
url, api, app, start, end, query = sys.argv[1:]
configuration = Configuration(host=url)
configuration.api_key = {"apiKeyAuth": api, "appKeyAuth": app}
configuration.check_input_type = configuration.check_return_type = True
with ApiClient(configuration) as client:
    valid = AuthenticationApi(client).validate()
    found = MetricsApi(client).query_metrics(_from=int(start), to=int(end), query=query)
print(json.dumps({"valid": valid.valid, "found": found.to_dict()}, default=str))
"""


def client_asks(url: str, start: int, end: int, query: str) -> dict[str, Any]:
    """What Datadog's own client makes of the answers. Where it is missing a test fails in CI and is skipped elsewhere."""
    found = list(Path(VENV).parent.glob("lib/python3*/site-packages/datadog_api_client"))
    if not found:
        import pytest

        stop = pytest.fail if os.environ.get("CI") else pytest.skip
        raise stop.Exception("Datadog's client is not installed; install it with: make servers")
    done = subprocess.run(
        [str(VENV / "python3"), "-c", _ASKS, url, API_KEY, APP_KEY, str(start), str(end), query],
        capture_output=True,
        check=False,
        timeout=60,
        env={"PATH": os.environ.get("PATH", "")},
    )
    if done.returncode:
        raise AssertionError(done.stderr.decode("utf-8", "replace")[-2000:])
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def replies(number: Callable[[float], float | None], every: int) -> Callable[[bytes], tuple[int, dict[str, Any]]]:
    """A server's answers to requests by their head: `number` of each bucket's beginning."""

    def reply(head: bytes) -> tuple[int, dict[str, Any]]:
        lines = head.decode().lower().split("\r\n")
        target = urllib.parse.urlsplit(head.decode().split()[1])
        if f"dd-api-key: {API_KEY}" not in lines:
            return 403, {"errors": ["Forbidden"]}
        if target.path == "/api/v1/validate":
            return 200, {"valid": True}
        asked = dict(urllib.parse.parse_qsl(target.query))
        if target.path != "/api/v1/query" or set(asked) != {"from", "to", "query"}:
            return 400, {"errors": ["no such question"]}
        if f"dd-application-key: {APP_KEY}" not in lines:
            return 403, {"errors": ["Forbidden"]}
        start, end = int(asked["from"]), int(asked["to"])
        points = [[at * 1000.0, number(at)] for at in range(start // every * every, end, every)]
        points = [point for point in points if point[1] is not None]
        series = {
            "metric": "shop.orders",
            "display_name": "shop.orders",
            "unit": None,
            "pointlist": points,
            "start": start * 1000,
            "end": end * 1000 - 1,
            "interval": every,
            "length": len(points),
            "aggr": "sum",
            "scope": "env:prod",
            "tag_set": [],
            "expression": asked["query"],
            "query_index": 0,
        }
        more = {"res_type": "time_series", "from_date": start * 1000, "to_date": end * 1000, "group_by": []}
        return 200, {"status": "ok", "series": [series] * bool(points), "query": asked["query"], "message": "", **more}

    return reply
