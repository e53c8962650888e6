"""A GitHub that plays itself: workflows, runs, approvals, deployments and variables of one repository, over loopback HTTP.

Every request and every answer is held to GitHub's own description of its API; what does not fit is kept in `violations`
and answered with 500. Its objects are the description's examples, with what the story says put in.
"""

import base64
import copy
import functools
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.adapters.github_document import document, example

REPO = "acme/checkout"
R = f"/repos/{REPO}/"
READS, ACTS = "read-token-of-the-shop", "act-token-of-the-shop"
HOUR = 3600.0
WORKFLOWS = {
    "ci.yml": ["compile", "unit (3.11)", "unit (3.12)"],
    "deploy.yml": ["deploy"],
    "rollback.yml": ["back"],
}
Fault = Callable[["Talk"], None]


def stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@functools.cache
def _api() -> Any:
    from openapi_core import Config, OpenAPI

    return OpenAPI.from_dict(document(), config=Config(spec_validator_cls=None))


class Contract:
    """GitHub's description, as a judge. What was judged once is not judged again."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.judged: set[str] = set()

    def request(self, method: str, target: str, body: bytes) -> bool:
        from openapi_core.exceptions import OpenAPIError

        try:
            self._once(f"{method} {target}", body, lambda asked: _api().validate_request(asked))
        except OpenAPIError as error:
            self.violations.append(f"{method} {target} {body[:200]!r}: {error} {error.__cause__ or ''}")
            return False
        return True

    def answer(self, method: str, target: str, asked: bytes, status: int, body: bytes, headers: dict[str, str]) -> bool:
        from openapi_core.exceptions import OpenAPIError
        from openapi_core.testing import MockResponse

        path = _operation(method, urlsplit(target).path)
        if str(status) not in path["responses"]:
            # Refusals that the description leaves out are of the one form that all of them have.
            return 400 <= status < 500 and "message" in json.loads(body)
        said = MockResponse(body, status, headers, headers.get("content-type", ""))
        try:
            key = f"{method} {target} {status} {hashlib.sha256(body).hexdigest()}"
            self._once(key, asked, lambda request: _api().validate_response(request, said), method, target)
        except OpenAPIError as error:
            self.violations.append(
                f"{method} {target} answered {status} {body[:200]!r}: {error} {error.__cause__ or ''}"
            )
            return False
        return True

    def _once(self, key: str, body: bytes, judge: Callable[[Any], object], method: str = "", target: str = "") -> None:
        from openapi_core.testing import MockRequest

        known = f"{key} {body!r}"
        if known in self.judged:
            return
        method, target = (method, target) if method else tuple(key.split(" ", 1))
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        judge(
            MockRequest(
                "https://api.github.com",
                method.lower(),
                unquote(parts.path),
                args=query,
                data=body or None,
                content_type="application/json",
            )
        )
        self.judged.add(known)


@functools.cache
def _operation(method: str, path: str) -> dict[str, Any]:
    for template, operations in document()["paths"].items():
        if method.lower() in operations and re.fullmatch(re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(template)), path):
            found: dict[str, Any] = operations[method.lower()]
            return found
    return {"responses": {}}


class Said(Exception):
    """An answer that is not 200."""

    def __init__(self, status: int, message: str = "", **headers: str) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers


class GitHub:
    """The state of one repository, and the server."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.lock = threading.RLock()
        self.asked: list[tuple[str, str, Any]] = []
        """Method, path with query, and body of each request."""
        self.changed_at: list[float] = []
        """When each request arrived that changes something."""
        self.tokens: set[str] = set()
        self.faults: list[tuple[str, str, Fault, int]] = []
        self.denied: list[str] = []
        """Patterns of `METHOD path` that the token may not."""
        self.left, self.most = 5000, 5000
        self.conditional = 0
        self.page = 100
        self.commits: list[dict[str, Any]] = []
        self.runs: dict[int, dict[str, Any]] = {}
        self.deployments: dict[int, dict[str, Any]] = {}
        self.variables: dict[str, str] = {}
        self.noted_at = 0.0
        self.states = dict.fromkeys(WORKFLOWS, "active")
        self.logs: dict[int, str] = {}
        self.checks: dict[str, list[tuple[str, str]]] = {}
        self.approval = False
        self.may_approve = False
        self.scopes = ""
        self.slow_cancel = False
        self.cancelling: list[dict[str, Any]] = []
        self.stubborn: set[int] = set()
        self.by_itself: set[str] = set()
        """Workflows whose runs go on by one step each time their runs are listed."""
        self.details = True
        self.shipped: list[str] = []
        """The versions that were put into production, one after the other."""
        self.minted = 0
        self.app_key: Any = None
        self._next = 1000
        self.skew_s = 0.0
        self.now: Callable[[], float] = time.time
        self.url = self.store_url = ""
        self.over = threading.Event()
        """Set when nobody needs to be kept waiting any more."""

    # ---- the story

    def id(self) -> int:
        self._next += 1
        return self._next

    def push(self, title: str, at: float | None = None, author: str = "ann") -> str:
        """A commit, and the run that tests it."""
        with self.lock:
            sha = hashlib.sha1(f"{title}{self.id()}".encode("utf-8", "replace")).hexdigest()
            at = self.now() if at is None else at
            self.commits.append({"sha": sha, "title": title, "author": author, "at": at})
            self.run("ci.yml", sha, "push", at=at, title=title)
            return sha

    def run(self, file: str, sha: str, event: str, *, at: float | None = None, title: str = "", **more: Any) -> int:
        with self.lock:
            at = self.now() if at is None else at
            number = self.id()
            status = "waiting" if file == "deploy.yml" and self.approval else "queued"
            self.runs[number] = {
                "id": number,
                "file": file,
                "sha": sha,
                "event": event,
                "status": status,
                "conclusion": None,
                "at": at,
                "began": at,
                "updated": at,
                "attempt": 1,
                "title": title or file,
                "branch": "main",
                "version": sha,
                "deployment": 0,
                **more,
            }
            return number

    def of(self, file: str, sha: str) -> dict[str, Any]:
        """The newest run of a workflow for a commit."""
        found = [run for run in self.runs.values() if run["file"] == file and run["version"] == sha]
        return max(found, key=lambda run: run["id"])

    def go(self, run: dict[str, Any], conclusion: str = "success", at: float | None = None) -> None:
        """One step: what waits in the queue begins, what runs ends."""
        with self.lock:
            at = self.now() if at is None else at
            if run["status"] == "queued":
                self._becomes(run, "in_progress", None, at)
                if run["file"] in ("deploy.yml", "rollback.yml"):
                    run["deployment"] = self.deploying(run["sha"], at, run["id"])
            elif run["status"] == "in_progress":
                self._becomes(run, "completed", conclusion, at)
                if run["deployment"]:
                    self.says(run["deployment"], conclusion, at)
                if run["deployment"] and conclusion == "success":
                    self.shipped.append(run["version"])
                tested = run["file"] == "ci.yml" and conclusion == "success" and run["event"] == "push"
                if tested and self.states["deploy.yml"] == "active":
                    self.run("deploy.yml", run["sha"], "workflow_run", at=at)

    def ship(self, title: str, at: float | None = None) -> str:
        """A commit, tested and deployed."""
        sha = self.push(title, at)
        for file in ("ci.yml", "deploy.yml"):
            for _ in range(2):
                self.go(self.of(file, sha), at=at)
        return sha

    def cancelled(self) -> None:
        """What was being cancelled has ended."""
        with self.lock:
            for run in self.cancelling:
                self._becomes(run, "completed", "cancelled")

    def approve(self, run: dict[str, Any]) -> None:
        with self.lock:
            assert run["status"] == "waiting"
            self._becomes(run, "queued", None)

    def deploying(self, sha: str, at: float, run: int = 0, environment: str = "production") -> int:
        with self.lock:
            number = self.id()
            self.deployments[number] = {
                "id": number,
                "sha": sha,
                "at": at,
                "updated": at,
                "run": run,
                "environment": environment,
                "said": [],
            }
            self.says(number, "in_progress", at)
            return number

    def says(self, deployment: int, state: str, at: float | None = None) -> None:
        with self.lock:
            at = self.now() if at is None else at
            row = self.deployments[deployment]
            state = {"cancelled": "failure"}.get(state, state)
            row["said"].append({"id": self.id(), "state": state, "at": at})
            row["updated"] = at
            if state == "success":
                for other in self.deployments.values():
                    if other is not row and other["said"][-1]["state"] == "success":
                        self.says(other["id"], "inactive", at)

    def _becomes(self, run: dict[str, Any], status: str, conclusion: str | None, at: float | None = None) -> None:
        run.update(status=status, conclusion=conclusion, updated=self.now() if at is None else at)

    # ---- faults

    def fault(self, method: str, pattern: str, how: Fault, times: int = 1) -> None:
        """What happens to the next requests of that kind instead of an answer."""
        with self.lock:
            self.faults.append((method, pattern, how, times))

    def faulty(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for index, (wanted, pattern, how, times) in enumerate(self.faults):
                if wanted in (method, "*") and re.search(pattern, path):
                    self.faults[index : index + 1] = [(wanted, pattern, how, times - 1)] if times > 1 else []
                    return how
        return None

    def received(self, method: str, pattern: str) -> list[Any]:
        """The bodies of the requests of that kind."""
        with self.lock:
            return [body for how, path, body in self.asked if how == method and re.search(pattern, path)]

    def limits(self) -> dict[str, str]:
        return {
            "x-ratelimit-limit": str(self.most),
            "x-ratelimit-remaining": str(max(0, self.left)),
            "x-ratelimit-reset": str(int(self.now() + HOUR)),
        }

    # ---- what it answers

    def answer(self, method: str, target: str, body: Any, token: str) -> tuple[int, Any, dict[str, str]]:
        """Status, body and headers. Raises Said."""
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
        which = {name: values[0] for name, values in query.items()}
        if found := re.fullmatch(r"/app/installations/([0-9]+)/access_tokens", path):
            return self._mint(token, found[1])
        if token not in (READS, ACTS, *self.tokens):
            raise Said(401, "Bad credentials")
        if method != "GET" and token == READS:
            raise Said(403, "Resource not accessible by personal access token")
        if any(re.search(pattern, f"{method} {path}") for pattern in self.denied):
            raise Said(403, "Resource not accessible by personal access token")
        if path == "/user":
            if token in self.tokens:
                raise Said(403, "Resource not accessible by integration")
            return (
                200,
                {**example(USER), "login": "shop-bot", "user_view_type": "public"},
                {"x-oauth-scopes": self.scopes},
            )
        if path == "/rate_limit":
            return 200, example("rate-limit-overview"), {}
        if path == R.rstrip("/"):
            whole = {**example("full-repository-default-response"), "full_name": REPO, "default_branch": "main"}
            for name in ("parent", "source"):
                whole[name] = {**whole[name], "language": None}
            return 200, {**whole, "language": None}, {}
        if not path.startswith(R):
            raise Said(404, "Not Found")
        rest = path.removeprefix(R)
        for how, pattern, handler in ROUTES:
            if how == method and (match := re.fullmatch(pattern, rest)):
                return handler(self, which, body, *match.groups())
        raise Said(404, "Not Found")

    def _mint(self, token: str, installation: str) -> tuple[int, Any, dict[str, str]]:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        words, _, signature = token.rpartition(".")
        unpacked = [json.loads(base64.urlsafe_b64decode(part + "==")) for part in words.split(".")]
        try:
            raw = base64.urlsafe_b64decode(signature + "==")
            self.app_key.public_key().verify(raw, words.encode(), padding.PKCS1v15(), hashes.SHA256())
        except (InvalidSignature, AttributeError):
            raise Said(401, "A JSON web token could not be decoded") from None
        now = self.now()
        assert unpacked[0]["alg"] == "RS256"
        if not (unpacked[1]["iat"] <= now < unpacked[1]["exp"] <= now + 600) or installation != "77":
            raise Said(401 if installation == "77" else 404, "'Expiration time' claim ('exp') is too far in the future")
        self.minted += 1
        fresh = f"installation-token-{self.minted}"
        self.tokens.add(fresh)
        return 201, {**example("installation-token"), "token": fresh, "expires_at": stamp(now + HOUR)}, {}

    def _paged(self, rows: list[Any], which: dict[str, str], key: str = "") -> tuple[int, Any, dict[str, str]]:
        size, page = min(int(which.get("per_page", 30)), self.page), int(which.get("page", 1))
        part = rows[(page - 1) * size : page * size]
        headers = {"x-more": str(page + 1)} if page * size < len(rows) else {}
        return 200, {"total_count": len(rows), key: part} if key else part, headers

    def workflow(self, which: dict[str, str], body: Any, file: str) -> Any:
        self._known(file)
        number = list(WORKFLOWS).index(file) + 7
        told = {"id": number, "name": file.removesuffix(".yml"), "path": f".github/workflows/{file}"}
        return 200, {**example("workflow"), **told, "state": self.states[file]}, {}

    def _known(self, file: str) -> None:
        if file not in self.states:
            raise Said(404, "Not Found")

    def switch(self, which: dict[str, str], body: Any, file: str, word: str) -> Any:
        self._known(file)
        self.states[file] = "active" if word == "enable" else "disabled_manually"
        return 204, None, {}

    def dispatch(self, which: dict[str, str], body: Any, file: str) -> Any:
        self._known(file)
        if self.states[file] != "active":
            raise Said(422, "Cannot trigger a 'workflow_dispatch' on a disabled workflow")
        version = body["inputs"]["version"]
        if set(body["inputs"]) - {"version", "reason"}:
            raise Said(422, "Unexpected inputs provided")
        head = self.commits[-1]["sha"]
        number = self.run(file, head, "workflow_dispatch", title=f"roll back to {version}", version=version)
        if not (self.details and body.get("return_run_details")):
            return 204, None, {}
        url = f"https://api.github.com{R}actions/runs/{number}"
        return 200, {"workflow_run_id": number, "run_url": url, "html_url": url}, {}

    def list_runs(self, which: dict[str, str], body: Any, file: str) -> Any:
        self._known(file)
        found = []
        for run in sorted(self.runs.values(), key=lambda run: -run["id"]):
            fits = run["file"] == file and which.get("head_sha", run["sha"]) == run["sha"]
            fits = fits and which.get("event", run["event"]) == run["event"]
            fits = fits and which.get("branch", run["branch"]) == run["branch"]
            if fits and which.get("status", run["status"]) in (run["status"], run["conclusion"]):
                found.append(self.shown(run))
        answer = self._paged(found, which, "workflow_runs")
        for run in [run for run in self.runs.values() if run["file"] == file]:
            if file in self.by_itself and run["status"] in ("queued", "in_progress"):
                self.go(run)
        return answer

    def shown(self, run: dict[str, Any]) -> dict[str, Any]:
        whole = copy.copy(example("workflow-run"))
        return whole | {
            "id": run["id"],
            "name": run["file"].removesuffix(".yml"),
            "head_branch": run["branch"],
            "head_sha": run["sha"],
            "path": f".github/workflows/{run['file']}",
            "display_title": run["title"],
            "run_number": run["id"] - 1000,
            "event": run["event"],
            "status": run["status"],
            "conclusion": run["conclusion"],
            "workflow_id": list(WORKFLOWS).index(run["file"]) + 7,
            "created_at": stamp(run["at"]),
            "updated_at": stamp(run["updated"]),
            "run_attempt": run["attempt"],
            "run_started_at": stamp(run["began"]),
            "pull_requests": [],
        }

    def one(self, number: str) -> dict[str, Any]:
        run = self.runs.get(int(number))
        if run is None:
            raise Said(404, "Not Found")
        return run

    def show_run(self, which: dict[str, str], body: Any, number: str) -> Any:
        return 200, self.shown(self.one(number)), {}

    def jobs(self, which: dict[str, str], body: Any, number: str) -> Any:
        run = self.one(number)
        names = run.get("jobs", WORKFLOWS[run["file"]])
        template, found = example("job-paginated")["jobs"][0], []
        status = "queued" if run["status"] == "waiting" else run["status"]
        for index, name in enumerate(names):
            over = status == "completed"
            step = {**template["steps"][0], "name": f"Run {name}", "status": status, "conclusion": run["conclusion"]}
            told = {
                "id": run["id"] * 100 + index,
                "run_id": run["id"],
                "name": name,
                "status": status,
                "conclusion": run["conclusion"] if over else None,
                "created_at": stamp(run["at"]),
                "started_at": stamp(run["began"]),
                "completed_at": stamp(run["updated"]) if over else None,
                "steps": [step],
            }
            found.append({**template, **told})
        return self._paged(found, which, "jobs")

    def cancel(self, which: dict[str, str], body: Any, number: str, word: str) -> Any:
        run = self.one(number)
        if run["status"] == "completed":
            raise Said(409, "Cannot cancel a workflow run that is completed.")
        if run["id"] in self.stubborn and word == "cancel":
            return 202, {}, {}
        if self.slow_cancel:
            self.cancelling.append(run)
        else:
            self._becomes(run, "completed", "cancelled")
        if run["deployment"]:
            self.says(run["deployment"], "failure")
        return 202, {}, {}

    def rerun(self, which: dict[str, str], body: Any, number: str) -> Any:
        run = self.one(number)
        if run["status"] != "completed" or self.states[run["file"]] != "active":
            raise Said(403, "Unable to re-run this workflow run")
        run.update(attempt=run["attempt"] + 1, began=self.now(), deployment=0)
        waits = run["file"] == "deploy.yml" and self.approval
        self._becomes(run, "waiting" if waits else "queued", None)
        return 201, {}, {}

    def pending(self, which: dict[str, str], body: Any, number: str) -> Any:
        if self.one(number)["status"] != "waiting":
            return 200, [], {}
        row = copy.deepcopy(example("pending-deployment-items")[0])
        row["environment"].update(id=31, name="production")
        row["current_user_can_approve"] = self.may_approve
        del row["reviewers"][1:]  # the team in the example lacks what the schema asks of one
        return 200, [row], {}

    def review(self, which: dict[str, str], body: Any, number: str) -> Any:
        run = self.one(number)
        if not self.may_approve or body["environment_ids"] != [31] or run["status"] != "waiting":
            raise Said(422, "There was a problem approving one of the gates")
        if body["state"] == "rejected":
            self._becomes(run, "completed", "failure")
        else:
            self._becomes(run, "queued", None)
        return 200, [], {}

    def log(self, which: dict[str, str], body: Any, number: str) -> Any:
        if int(number) not in self.logs:
            raise Said(404, "Not Found")
        return 302, None, {"location": f"{self.store_url}/store/{number}?sig=a%2Bb"}

    def list_variables(self, which: dict[str, str], body: Any) -> Any:
        found = [
            {
                **example("actions-variables-paginated")["variables"][0],
                "name": name,
                "value": value,
                "updated_at": stamp(self.noted_at),
            }
            for name, value in sorted(self.variables.items())
        ]
        return self._paged(found, which, "variables")

    def make_variable(self, which: dict[str, str], body: Any) -> Any:
        if body["name"] in self.variables:
            raise Said(409, "Already exists")
        self.variables[body["name"]] = body["value"]
        self.noted_at = self.now()
        return 201, {}, {}

    def change_variable(self, which: dict[str, str], body: Any, name: str) -> Any:
        if name not in self.variables:
            raise Said(404, "Not Found")
        if body is None:
            del self.variables[name]
        else:
            self.variables[name] = body["value"]
            self.noted_at = self.now()
        return 204, None, {}

    def list_deployments(self, which: dict[str, str], body: Any) -> Any:
        template, found = example("deployment-items")[0], []
        for row in sorted(self.deployments.values(), key=lambda row: -row["id"]):
            if row["environment"] == which.get("environment", row["environment"]):
                told = {"id": row["id"], "sha": row["sha"], "ref": "main", "environment": row["environment"]}
                times = {"created_at": stamp(row["at"]), "updated_at": stamp(row["updated"])}
                found.append({**template, **told, **times, "description": row.get("description")})
        return self._paged(found, which)

    def statuses(self, which: dict[str, str], body: Any, number: str) -> Any:
        row = self.deployments.get(int(number))
        if row is None:
            raise Said(404, "Not Found")
        template, found = example("deployment-status-items")[0], []
        url = f"https://github.com/{REPO}/actions/runs/{row['run']}/job/5" if row["run"] else ""
        for said in reversed(row["said"]):
            told = {"id": said["id"], "state": said["state"], "created_at": stamp(said["at"]), "description": ""}
            found.append({**template, **told, "log_url": url, "target_url": url})
        return self._paged(found, which)

    def list_commits(self, which: dict[str, str], body: Any) -> Any:
        if which.get("sha", "main") != "main":
            raise Said(404, "Not Found")
        return self._paged([self.commit(row, "commit-items") for row in reversed(self.commits)], which)

    def commit(self, row: dict[str, Any], kind: str = "commit") -> dict[str, Any]:
        whole = copy.deepcopy(example(kind)[0] if kind == "commit-items" else example(kind))
        whole.update(sha=row["sha"])
        whole.pop("files", None)  # the example's lack what the schema asks of them
        whole["author"]["login"] = row["author"]
        whole["commit"]["message"] = f"{row['title']}\n\nmore of it"
        whole["commit"]["committer"]["date"] = stamp(row["at"])
        return whole

    def one_commit(self, which: dict[str, str], body: Any, ref: str) -> Any:
        for row in self.commits:
            if row["sha"].startswith(ref):
                return 200, self.commit(row), {}
        raise Said(422, f"No commit found for SHA: {ref}")

    def check_runs(self, which: dict[str, str], body: Any, ref: str) -> Any:
        template, found = example("check-run-paginated")["check_runs"][0], []
        for index, (name, conclusion) in enumerate(self.checks.get(ref, [])):
            told = {"id": index + 1, "name": name, "head_sha": ref, "status": "completed", "conclusion": conclusion}
            found.append({**template, **told})
        return self._paged(found, which, "check_runs")

    def compare(self, which: dict[str, str], body: Any, base: str, head: str) -> Any:
        order = [row["sha"] for row in self.commits]
        if base not in order or head not in order:
            raise Said(404, "Not Found")
        apart = order.index(head) - order.index(base)
        status = "identical" if not apart else "ahead" if apart > 0 else "behind"
        return 200, {**example("commit-comparison"), "status": status}, {}


USER = "private-user-response-with-public-profile-information"
N = "([0-9]+)"
W = r"actions/workflows/([^/]+)"
ROUTES: list[tuple[str, str, Callable[..., Any]]] = [
    ("GET", W, GitHub.workflow),
    ("PUT", rf"{W}/(enable|disable)", GitHub.switch),
    ("POST", rf"{W}/dispatches", GitHub.dispatch),
    ("GET", rf"{W}/runs", GitHub.list_runs),
    ("GET", rf"actions/runs/{N}", GitHub.show_run),
    ("GET", rf"actions/runs/{N}/jobs", GitHub.jobs),
    ("POST", rf"actions/runs/{N}/(cancel|force-cancel)", GitHub.cancel),
    ("POST", rf"actions/runs/{N}/rerun", GitHub.rerun),
    ("GET", rf"actions/runs/{N}/pending_deployments", GitHub.pending),
    ("POST", rf"actions/runs/{N}/pending_deployments", GitHub.review),
    ("GET", rf"actions/jobs/{N}/logs", GitHub.log),
    ("GET", "actions/variables", GitHub.list_variables),
    ("POST", "actions/variables", GitHub.make_variable),
    ("PATCH", "actions/variables/([A-Z0-9_]+)", GitHub.change_variable),
    ("DELETE", "actions/variables/([A-Z0-9_]+)", GitHub.change_variable),
    ("GET", "deployments", GitHub.list_deployments),
    ("GET", rf"deployments/{N}/statuses", GitHub.statuses),
    ("GET", "commits", GitHub.list_commits),
    ("GET", "commits/([^/]+)", GitHub.one_commit),
    ("GET", "commits/([^/]+)/check-runs", GitHub.check_runs),
    ("GET", r"compare/([0-9a-f]+)\.\.\.([0-9a-f]+)", GitHub.compare),
]


class Talk(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: "Listening"

    def handle_one(self) -> None:
        github = self.server.github
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length)
        if self.path.startswith("/store/"):
            self._store()
            return
        with github.lock:
            body = json.loads(raw) if raw else None
            github.asked.append((self.command, self.path, body))
            if self.command != "GET":
                github.changed_at.append(time.monotonic())
            fault = github.faulty(self.command, self.path)
        if fault is not None:
            fault(self)
            return
        with github.lock:
            status, content, headers = self._answer(raw, body)
        self.reply(status, content, headers)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one

    def _answer(self, raw: bytes, body: Any) -> tuple[int, bytes, dict[str, str]]:
        github = self.server.github
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if not github.contract.request(self.command, self.path, raw):
            return 500, b'{"message": "the request breaks the contract"}', {}
        headers = {"content-type": "application/json; charset=utf-8"}
        try:
            status, value, more = github.answer(self.command, self.path, body, token)
        except Said as error:
            status, value, more = (
                error.status,
                {"message": error.args[0], "documentation_url": "https://x"},
                error.headers,
            )
        content = b"" if value is None else json.dumps(value).encode()
        if status == 204 or value is None:
            headers = {}
        if "x-more" in more:
            page = re.sub(r"[?&]page=[0-9]+", "", self.path)
            link = f"{github.url}{page}{'&' if '?' in page else '?'}page={more.pop('x-more')}"
            more["link"] = f'<{link}>; rel="next", <{link}>; rel="last"'
        headers |= more
        if not github.contract.answer(self.command, self.path, raw, status, content, headers):
            return 500, b'{"message": "the answer breaks the contract"}', {}
        if self.command == "GET" and status == 200:
            headers["etag"] = f'W/"{hashlib.sha256(content).hexdigest()[:20]}"'
            if self.headers.get("If-None-Match") == headers["etag"]:
                github.conditional += 1
                return 304, b"", headers | github.limits()
        github.left -= 1
        return status, content, headers | github.limits()

    def reply(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if status not in (204, 304):
            self.wfile.write(content)

    def _store(self) -> None:
        github = self.server.github
        github.asked.append((self.command, self.path, self.headers.get("Authorization")))
        text = github.logs[int(urlsplit(self.path).path.rpartition("/")[2])].encode()
        asked = re.fullmatch(r"bytes=([0-9]+)-([0-9]+)", self.headers.get("Range", ""))
        if asked is None:
            self.reply(200, text, {"content-type": "text/plain"})
            return
        first, last = int(asked[1]), min(int(asked[2]), len(text) - 1)
        if first >= len(text):
            self.reply(416, b"", {"content-range": f"bytes */{len(text)}"})
            return
        self.reply(206, text[first : last + 1], {"content-range": f"bytes {first}-{last}/{len(text)}"})

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(self.server.github.now() + self.server.github.skew_s)

    def log_message(self, *_: object) -> None:
        pass


class Listening(ThreadingHTTPServer):
    """The server; its threads end with it."""

    daemon_threads = True
    request_queue_size = 64
    github: GitHub

    def handle_error(self, *_: object) -> None:
        pass


@contextmanager
def serving(contract: Contract) -> Iterator[GitHub]:
    """A GitHub that answers, until the block is left; nothing that was said may have broken the contract."""
    github = GitHub(contract)
    server = Listening(("127.0.0.1", 0), Talk)
    server.github = github
    github.url = github.store_url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="github", daemon=True)
    thread.start()
    try:
        yield github
    finally:
        github.over.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


# ---- what networks and tired servers do instead of answering


def says(status: int, content: bytes = b'{"message": "no"}', **headers: str) -> Fault:
    """Another answer."""
    found = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda talk: talk.reply(status, content, {"content-type": "application/json", **found})


def resets(talk: Talk) -> None:
    """The connection is cut before an answer."""
    talk.close_connection = True


def hangs(talk: Talk) -> None:
    """Silence, until nobody needs to be kept waiting any more."""
    talk.server.github.over.wait(30)
    talk.close_connection = True


def truncates(talk: Talk) -> None:
    """Half an answer."""
    talk.send_response(200)
    talk.send_header("Content-Type", "application/json")
    talk.send_header("Content-Length", "5000")
    talk.end_headers()
    talk.wfile.write(b'{"total_count": 1')
    talk.close_connection = True


def after(fault: Fault) -> Fault:
    """The request arrives and does what it does; only its answer is lost."""

    def lost(talk: Talk) -> None:
        github, raw = talk.server.github, b""
        body = github.asked[-1][2]
        raw = b"" if body is None else json.dumps(body).encode()
        with github.lock:
            talk._answer(raw, body)
        fault(talk)

    return lost
