"""Answers that are not what was asked for: no adapter fails by them, takes a part for the whole, or makes a fact of them."""

import contextlib
import itertools
import json
import traceback

import pytest

from adapters._http import Event, Reply, Web
from andon.model import Run
from andon.ports import Accepted, Denied, Garbled, NoAnswer, Refused, Unreachable
from tests.adapters import sources

NOWHERE = "http://127.0.0.1:1"
NUMBER = "a number of 400 digits"
WRONG = (None, 10**25, "9" * 5000, [], {}, NUMBER, True, 0, -1, 1e308, -1e308, "", "\ud800", [None], [[]], {"a": {}})
FEW = 4
"""So many of them in each run; the others at night."""


class Hand:
    def now(self):
        return sources.NOW

    def real(self, seconds):
        return seconds

    async def sleep(self, seconds):
        return


class Wrong:
    """The good server without a network, but for one request, which is answered wrongly."""

    def __init__(self, monkeypatch, folder):
        self.target = None
        self.body = b""
        self.date = ""
        self.asked = {}
        monkeypatch.setattr(Web, "_exchange", self._exchange)
        monkeypatch.setattr(Web, "stream_events", self._stream)
        self.web = Web(NOWHERE, name="w", clock=Hand())
        self.ci = sources.pipeline(NOWHERE, folder, Hand(), 20.0)
        self.prom = sources.metrics(NOWHERE, folder, Hand(), 20.0)
        self.reads = sources.reads(self.web, self.ci, self.prom)
        self.acts = sources.acts(self.web, self.ci)

    def instead(self, method, part, body):
        """Answer requests whose target holds this part with that body."""
        self.target, self.body = (method, part), body

    async def _exchange(self, call, method, target, headers, body):
        found = sources.route(method, target)
        self.asked[method, target] = found
        if self.target and self.target[0] == method and self.target[1] in target:
            found = self.body
        if found is None:
            return Reply(call.what, 404, {}, b"no"), ": no"
        return Reply(call.what, 200, {"content-type": "application/json", "date": self.date}, found), ""

    @contextlib.asynccontextmanager
    async def _stream(self, path, *, params=None, quiet_s=None):
        yield _Handshake()


class _Handshake:
    async def next(self, within_s=None):
        return Event("w", "event", sources.LISTENER)


@pytest.fixture
def wrong(monkeypatch, tmp_path):
    return Wrong(monkeypatch, tmp_path)


def paths(value, at=()):
    """Where in a JSON something stands."""
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*at, key))


def put(value, at, new):
    """The same JSON with something else there."""
    if not at:
        return new
    if isinstance(value, dict):
        return {**value, at[0]: put(value[at[0]], at[1:], new)}
    return [put(item, at[1:], new) if index == at[0] else item for index, item in enumerate(value)]


def written(value):
    return json.dumps(value).replace(json.dumps(NUMBER), "1" * 400).encode()


async def failures(wrong, values):
    """What escapes that is no error of a port, for each wrong value at each place of each answer."""
    escaped, tried = [], 0
    calls = {**wrong.reads, **wrong.acts}
    del calls["stream"]
    for name, call in calls.items():
        wrong.target, wrong.asked = None, {}
        await call()
        for (method, target), body in list(wrong.asked.items()):
            if not isinstance(body, bytes):
                continue
            whole = json.loads(body)
            for at, value in itertools.product(list(paths(whole)), values):
                wrong.instead(method, target, written(put(whole, at, value)))
                tried += 1
                try:
                    await call()
                except (Unreachable, Denied, Garbled):
                    continue
                except Exception as error:
                    where = traceback.extract_tb(error.__traceback__)[-1].name
                    escaped.append((name, target, at, repr(value)[:40], f"{type(error).__name__} in {where}"))
    return escaped, tried


async def test_a_wrong_value_anywhere_is_garbled_and_fails_nothing(wrong):
    escaped, tried = await failures(wrong, WRONG[:FEW])
    assert not escaped, escaped[:5]
    assert tried > 1500


@pytest.mark.nightly
async def test_every_wrong_value_anywhere_fails_nothing(wrong):
    escaped, tried = await failures(wrong, WRONG)
    assert not escaped, escaped[:5]
    assert tried > 8000


async def test_an_adapter_that_trusts_an_answer_would_be_seen_to_fail(wrong, monkeypatch):
    monkeypatch.setattr("adapters.prometheus._time", lambda name, found: float(found["data"]["result"][1]))
    wrong.acts = {}
    wrong.reads = {name: call for name, call in wrong.reads.items() if name in ("stream", "prometheus whoami")}
    escaped, _ = await failures(wrong, WRONG[:FEW])
    assert escaped


@pytest.mark.parametrize("date", ["Mon, 01 Jan 0001 00:00:00 -0000", "Fri, 31 Dec 9999 23:59:59 -2359", "soon", "\x00"])
async def test_a_date_that_is_none_is_no_clock(wrong, date):
    wrong.date = date
    identity = await wrong.ci.whoami()
    assert identity.server == "Buildbot 4.3.0"


async def test_times_beyond_all_measure_are_no_usual_length(wrong):
    builds = [{**sources.BUILDS[0], "started_at": -1.7e308, "complete_at": 1.7e308}, sources.BUILDS[1]]
    wrong.instead("GET", "builds?builderid", json.dumps({"builds": builds, "meta": {}}).encode())
    await wrong.reads["buildbot watch"]()


async def test_a_request_of_a_builder_that_was_not_asked_for_is_left_out(wrong):
    rows = [{**sources.REQUESTS[1], "builderid": 99}]
    wrong.instead("GET", "complete=false", json.dumps({"buildrequests": rows, "meta": {}}).encode())
    found = await wrong.reads["buildbot watch"]()
    assert [item.id for item in found if isinstance(item, Run)] == ["r1"]


@pytest.mark.parametrize("key", ["9" * 5000, "-1", "²", "x", ""])
async def test_an_event_about_no_number_is_about_nothing(key):
    from adapters._buildbot_facts import Message

    assert Event("w", "event", json.dumps({"key": ["builds", key]})).json(Message).about == 0


@pytest.mark.parametrize("said", [{}, {"ok": True}, {"id": 1}])
async def test_an_act_is_accepted_only_by_buildbots_own_answer(wrong, said):
    wrong.instead("POST", "workers/", json.dumps(said).encode())
    found = await wrong.acts["buildbot halt"]()
    assert isinstance(found, NoAnswer)
    assert "may have been done" in found.words
    wrong.instead("POST", "workers/", json.dumps({"error": {"message": "no"}}).encode())
    assert isinstance(await wrong.acts["buildbot halt"](), Refused)
    wrong.target = None
    assert isinstance(await wrong.acts["buildbot halt"](), Accepted)


@pytest.mark.parametrize("half", ["\ud800", "x\udfff"])
async def test_half_a_character_cannot_be_asked_for(wrong, half):
    with pytest.raises(Garbled):
        await wrong.web.get_json(f"/{half}")
    with pytest.raises(Garbled):
        await wrong.web.get_json("/", params={"query": half})
    assert isinstance(await wrong.web.act("POST", f"/{half}"), Unreachable)


# to the end, or said to be a part

HALTED = {"workers": sources.WORKERS, "builders": sources.BUILDERS, "builds": sources.BUILDS[1:]}


@pytest.mark.parametrize("kind", HALTED)
async def test_a_listing_with_less_than_its_total_is_garbled(wrong, kind):
    target = f"/api/v2/{kind}"
    whole = json.dumps({kind: HALTED[kind], "meta": {"total": len(HALTED[kind])}}).encode()
    for meta in ({"total": len(HALTED[kind]) + 1}, {"total": 10**25}):
        wrong.instead("GET", target, json.dumps({kind: HALTED[kind], "meta": meta}).encode())
        with pytest.raises(Garbled, match="missing in the answer"):
            await wrong.ci.halted()
    wrong.instead("GET", target, json.dumps({kind: HALTED[kind]}).encode())
    with pytest.raises(Garbled, match="meta"):
        await wrong.ci.halted()
    for body in (
        whole,
        json.dumps({kind: HALTED[kind], "meta": {}}).encode(),
        whole.replace(b'total": ', b'total": -'),
    ):
        wrong.instead("GET", target, body)
        assert [part.name for part in (await wrong.ci.halted()).parts] == ["ships-a", "ships-b", "ships-c"]


async def test_a_total_that_changes_between_two_reads_is_followed(wrong):
    rows = [*sources.WORKERS, {**sources.WORKERS[2], "workerid": 5, "name": "ships-d"}]
    assert len((await wrong.ci.halted()).parts) == 3
    wrong.instead("GET", "/api/v2/workers", json.dumps({"workers": rows, "meta": {"total": 5}}).encode())
    assert len((await wrong.ci.halted()).parts) == 4


async def test_a_change_that_waits_behind_hundreds_of_others_is_seen_to_wait(wrong, monkeypatch):
    waiting = [{**sources.REQUESTS[1], "buildrequestid": n, "buildsetid": n} for n in range(1, 351)]
    asked = []

    def route(method, target, given=sources.route):
        if "/buildrequests?builderid=1&complete=false" in target:
            return json.dumps({"buildrequests": waiting, "meta": {"total": 350}}).encode()
        if "/buildsets?" in target:
            numbers = [int(part.partition("=")[2]) for part in target.partition("?")[2].split("&")]
            asked.extend(numbers)
            rows = [{"bsid": n, "sourcestamps": [{"revision": f"{n:07x}" + "0" * 33}]} for n in numbers]
            return json.dumps({"buildsets": rows, "meta": {"total": len(rows)}}).encode()
        return given(method, target)

    monkeypatch.setattr(sources, "route", route)
    assert (await wrong.ci.passed(f"{3:07x}" + "0" * 33)).state == "running"
    assert sorted(asked) == list(range(1, 351))


async def test_a_log_that_gives_less_than_it_has_is_read_on_and_never_in_a_loop(wrong):
    wrong.instead("GET", "/contents", json.dumps({"logchunks": [{"content": "oone\n"}], "meta": {}}).encode())
    part = await wrong.ci.log("r1", "1/0", 0)
    assert (part.lines, part.next, part.done) == (("one",), 1, False)
    wrong.instead("GET", "/contents", json.dumps({"logchunks": [], "meta": {}}).encode())
    part = await wrong.ci.log("r1", "1/0", 1)
    assert (part.lines, part.next, part.done) == ((), 1, False)
    assert (await wrong.ci.log("r1", "1/0", 7)).lines == ()


@pytest.mark.parametrize("more", [{"isPartial": True}, {"warnings": ["results truncated due to limit"]}])
async def test_samples_of_a_part_are_partial(wrong, more):
    whole = json.loads(sources.route("GET", "/api/v1/query_range?query=x&start=1699999500&end=1700000040&step=60s"))
    for series in whole["data"]["result"]:
        series["values"] = [[at, str(at)] for at, _ in series["values"]]
    wrong.instead("GET", "query_range", json.dumps({**whole, **more}).encode())
    found = await wrong.reads["prometheus samples"]()
    assert found.state == "partial"
    whole["data"]["result"][0]["values"].pop(3)
    wrong.instead("GET", "query_range", json.dumps(whole).encode())
    assert (await wrong.reads["prometheus samples"]()).state == "partial"
    whole["data"]["result"][0]["values"] *= 2  # the same twice is the same
    wrong.instead("GET", "query_range", json.dumps(whole).encode())
    assert len((await wrong.reads["prometheus samples"]()).rows) == 9
