"""GitHub's own description of its REST API, cut to what the adapter asks, and its example webhook deliveries.

Both come from GitHub's MIT-licensed packages: `@octokit/openapi` (generated/api.github.com.json) and
`@octokit/webhooks-examples` (api.github.com/index.json). To make the files beside this one anew:

    python -m tests.adapters.github_document OPENAPI.json VERSION EXAMPLES.json VERSION
"""

import functools
import gzip
import json
import re
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "data"
DOCUMENT = FOLDER / "github-openapi.json.gz"
EXAMPLES = FOLDER / "github-webhooks.json.gz"
LICENCE = "MIT; Copyright (c) GitHub, Inc. and the Octokit contributors"

R = "/repos/{owner}/{repo}"
OPERATIONS = (
    ("get", R),
    ("get", "/user"),
    ("get", "/rate_limit"),
    ("post", "/app/installations/{installation_id}/access_tokens"),
    ("get", f"{R}/actions/workflows/{{workflow_id}}"),
    ("put", f"{R}/actions/workflows/{{workflow_id}}/disable"),
    ("put", f"{R}/actions/workflows/{{workflow_id}}/enable"),
    ("post", f"{R}/actions/workflows/{{workflow_id}}/dispatches"),
    ("get", f"{R}/actions/workflows/{{workflow_id}}/runs"),
    ("get", f"{R}/actions/runs/{{run_id}}"),
    ("get", f"{R}/actions/runs/{{run_id}}/jobs"),
    ("post", f"{R}/actions/runs/{{run_id}}/cancel"),
    ("post", f"{R}/actions/runs/{{run_id}}/force-cancel"),
    ("post", f"{R}/actions/runs/{{run_id}}/rerun"),
    ("get", f"{R}/actions/runs/{{run_id}}/pending_deployments"),
    ("post", f"{R}/actions/runs/{{run_id}}/pending_deployments"),
    ("get", f"{R}/actions/jobs/{{job_id}}/logs"),
    ("get", f"{R}/actions/variables"),
    ("post", f"{R}/actions/variables"),
    ("patch", f"{R}/actions/variables/{{name}}"),
    ("delete", f"{R}/actions/variables/{{name}}"),
    ("get", f"{R}/deployments"),
    ("get", f"{R}/deployments/{{deployment_id}}/statuses"),
    ("get", f"{R}/commits"),
    ("get", f"{R}/commits/{{ref}}"),
    ("get", f"{R}/commits/{{ref}}/check-runs"),
    ("get", f"{R}/compare/{{basehead}}"),
)


@functools.cache
def document() -> dict[str, Any]:
    """The description, cut."""
    return json.loads(gzip.decompress(DOCUMENT.read_bytes()))


@functools.cache
def deliveries() -> list[tuple[str, dict[str, Any]]]:
    """The example deliveries: event and payload."""
    return [tuple(item) for item in json.loads(gzip.decompress(EXAMPLES.read_bytes()))["deliveries"]]


@functools.cache
def example(name: str) -> Any:
    """One of the document's examples."""
    return document()["components"]["examples"][name]["value"]


def cut(whole: dict[str, Any], version: str) -> dict[str, Any]:
    """The operations above, with everything that they refer to."""
    paths: dict[str, Any] = {}
    for method, path in OPERATIONS:
        found = whole["paths"][path]
        paths.setdefault(path, {"parameters": found["parameters"]} if "parameters" in found else {})
        paths[path][method] = found[method]
    info = {"title": whole["info"]["title"], "version": version, "license": {"name": LICENCE}}
    kept = {"openapi": whole["openapi"], "info": info, "servers": whole["servers"], "paths": paths}
    todo, done = _references(paths), set()
    while todo - done:
        reference = min(todo - done)
        done.add(reference)
        value: Any = whole
        *above, last = [part.replace("~1", "/").replace("~0", "~") for part in reference[2:].split("/")]
        for part in [*above, last]:
            value = value[part]
        place = kept
        for part in above:
            place = place.setdefault(part, {})
        place[last] = value
        todo |= _references(value)
    return _repaired(kept)


def _references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(_references(value) for value in node.values()))
    return set().union(*(_references(value) for value in node)) if isinstance(node, list) else set()


def _repaired(node: Any) -> Any:
    """What is meant is said: a number or a name in a path may be both, as "7" is; a choice that may be null lists null."""
    if isinstance(node, list):
        return [_repaired(item) for item in node]
    if not isinstance(node, dict):
        return node
    found = {key: _repaired(value) for key, value in node.items()}
    if found.get("in") == "path" and "oneOf" in found.get("schema", {}):
        found["schema"]["anyOf"] = found["schema"].pop("oneOf")
    if found.get("nullable") and isinstance(found.get("enum"), list) and None not in found["enum"]:
        found["enum"].append(None)
    return found


def _packed(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    raw = json.dumps(content, separators=(",", ":"), sort_keys=True).encode()
    path.write_bytes(gzip.compress(raw, 9, mtime=0))


def main(openapi: str, openapi_version: str, examples: str, examples_version: str) -> None:
    """Write both files."""
    _packed(DOCUMENT, cut(json.loads(Path(openapi).read_bytes()), openapi_version))
    chosen = [
        [event["name"], payload]
        for event in json.loads(Path(examples).read_bytes())
        if re.match(r"(?:workflow|check|deployment)_|deployment\Z", event["name"])
        for payload in event["examples"]
    ]
    _packed(EXAMPLES, {"version": examples_version, "licence": LICENCE, "deliveries": chosen})


if __name__ == "__main__":
    main(*sys.argv[1:])
