"""The Buildbot adapter on a real Buildbot: a master, a worker for tests, a worker for deployments, a git repository."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from adapters.buildbot import ADAPTER, ConnectionOptions, EntryOptions, Pipeline, StandingPipeline
from andon.clock import WallClock
from andon.contract import CIContract, HaltingContract
from andon.model import Change, Halted, HoldRef, LogPart, Run, Why
from andon.ports import Accepted, Changes, Garbled, Refused, Unreachable, Wait
from andon.registry import Context, Place
from tests.helpers import HOSTILE, until, wait_until
from tests.servers.buildbot import FAILED, Buildbot
from tests.servers.process import free_port
from tests.servers.repository import Repository

pytestmark = pytest.mark.servers

LIMIT_S = 30
STATIONS = {"unit": "test", "deploy": "deploy"}
PAT = HoldRef("h4k2", "shop", "pat", "checkout fails \x1b]0;x\x07")
WHY = Why("pat", "not this one")


class Shop:
    """A repository whose commits say what their tests and their deployment do."""

    def __init__(self, folder: Path) -> None:
        self.gates = folder / "gates"
        self.gates.mkdir()
        self.repository = Repository(folder / "repository")
        unit, deploy = (
            ["sh", "-c", f'git -C "{self.repository.folder}" show "$REVISION:{name}.sh" | sh -e']
            for name in ("unit", "deploy")
        )
        self.bot = Buildbot(folder / "buildbot", self.repository, unit, deploy, checkout=())

    def commit(self, title: str, unit: str = "echo tested", deploy: str = "echo shipped", author: str = "Ann") -> str:
        files = {"unit.sh": unit + "\n", "deploy.sh": deploy + "\n", "title": title.encode("utf-8", "replace").decode()}
        sha = self.repository.commit("a change", files)
        self.bot.post_change(sha, title, author)
        return sha

    def gate(self, name: str) -> str:
        """A command that waits until the gate of that name is opened."""
        return f"echo waits; until [ -e {self.gates / name} ]; do sleep 0.05; done; echo goes on"

    def open(self, name: str) -> None:
        (self.gates / name).touch()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    shop = Shop(tmp_path_factory.mktemp("buildbot"))
    try:
        shop.bot.start()
        yield shop
    finally:
        shop.bot.stop()


@pytest.fixture(autouse=True)
def workers_work(shop: Shop) -> Iterator[None]:
    yield
    for name in shop.bot.workers:
        if shop.bot.paused(name):
            shop.bot.rpc(f"workers/{name}", "unpause")
            wait_until(lambda name=name: not shop.bot.paused(name), LIMIT_S)


def connect(url: str, tmp_path: Path, halts: tuple[str, ...] = ("deploy",), **options: object) -> Pipeline:
    context = Context("bb", tmp_path, WallClock(), tmp_path, read_only=bool(options.pop("read_only", False)))
    master = ADAPTER.connect(ConnectionOptions(url=url), context)
    assert ADAPTER.ci is not None
    entry = EntryOptions(**{"builders": STATIONS, **options})
    return ADAPTER.ci.open(master, entry, Place("shop", "production", halts))


@pytest.fixture
async def ci(shop: Shop, tmp_path: Path) -> AsyncIterator[StandingPipeline]:
    ci = connect(shop.bot.url, tmp_path)
    assert isinstance(ci, StandingPipeline)
    yield ci
    await ci.close()


class _Opened:
    @pytest.fixture(autouse=True)
    def built(self, shop: Shop, tmp_path: Path) -> None:
        self.open = lambda: connect(shop.bot.url, tmp_path)
        if not shop.bot.get("builds", limit=1)["builds"]:
            shop.bot.wait_built(shop.commit("the first"), "deploy")

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Pipeline]:
        ci = self.open()
        yield ci
        await ci.close()


class TestBuilders(_Opened, CIContract):
    pass


class TestWorkers(_Opened, HaltingContract):
    pass


class Follower:
    """What a watch has said so far."""

    def __init__(self, ci: Pipeline) -> None:
        self._ci = ci
        self.changes: list[Change] = []
        self.said: list[Run] = []
        self.rounds = 0
        self.ended: Exception | None = None

    async def follow(self) -> None:
        try:
            async for item in self._ci.watch():
                if isinstance(item, Wait):
                    self.rounds += 1
                elif isinstance(item, Changes):
                    self.changes += item.items
                elif isinstance(item, Run):
                    self.said.append(item)
        except Exception as error:
            self.ended = error

    def run(self, sha: str, builder: str) -> Run | None:
        """The last that was said of it."""
        return next((run for run in reversed(self.said) if run.change == sha and run.stages[0].name == builder), None)

    def states(self, sha: str, builder: str) -> list[str]:
        """The states that it was in, each once."""
        said = [run.state for run in self.said if run.change == sha and run.stages[0].name == builder]
        return [state for index, state in enumerate(said) if index == 0 or said[index - 1] != state]

    async def until(self, sha: str, builder: str, state: str) -> Run:
        def there() -> Run | None:
            assert self.ended is None, self.ended
            run = self.run(sha, builder)
            return run if run and run.state == state else None

        found = await until(there, LIMIT_S, f"{builder} of {sha[:7]} {state}")
        assert found is not None
        return found


@contextlib.asynccontextmanager
async def following(ci: Pipeline) -> AsyncIterator[Follower]:
    """A watch that has said all there was at its beginning."""
    follower = Follower(ci)
    task = asyncio.create_task(follower.follow())
    try:
        await until(lambda: follower.rounds or follower.ended, LIMIT_S)
        yield follower
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def settled(shop: Shop, sha: str, builder: str) -> int:
    return await asyncio.to_thread(shop.bot.wait_built, sha, builder, LIMIT_S)


async def test_a_change_is_seen_tested_and_then_shipped(shop: Shop, ci: StandingPipeline) -> None:
    async with following(ci) as seen:
        sha = shop.commit("it is tested", unit=shop.gate("tested"))
        running = await seen.until(sha, "unit", "running")
        assert running.stages[0].station == "test"
        shop.open("tested")
        passed = await seen.until(sha, "unit", "passed")
        shipped = await seen.until(sha, "deploy", "passed")
    assert [change.title for change in seen.changes if change.id == sha] == ["it is tested"]
    assert seen.states(sha, "unit")[-2:] == ["running", "passed"]
    assert passed.id == running.id
    assert [job.name for job in passed.stages[0].jobs] == ["worker_preparation", "unit"]
    assert {job.state for job in passed.stages[0].jobs} == {"passed"}
    assert passed.ended_at is not None
    assert shipped.stages[0].station == "deploy"
    assert shipped.at >= passed.at


async def test_a_watch_begins_with_what_is_there_and_says_nothing_twice(shop: Shop, ci: StandingPipeline) -> None:
    first = shop.commit("one")
    second = shop.commit("two")
    await settled(shop, second, "deploy")
    async with following(ci) as seen:
        assert seen.run(first, "deploy") is not None
        order = [change.id for change in seen.changes]
        assert order.index(first) < order.index(second)
        before = len(seen.said)
        third = shop.commit("three")
        await seen.until(third, "deploy", "passed")
        assert {run.change for run in seen.said[before:]} == {third}
        assert len(order) == len(set(order))
        assert [change.id for change in seen.changes[len(order) :]] == [third]


async def test_how_long_a_stage_usually_takes_is_said_while_it_runs(shop: Shop, ci: StandingPipeline) -> None:
    await settled(shop, shop.commit("a first one"), "unit")
    async with following(ci) as seen:
        sha = shop.commit("a second one", unit=shop.gate("usual"))
        running = await seen.until(sha, "unit", "running")
        assert running.stages[0].usual_s is not None
        shop.open("usual")
        await seen.until(sha, "unit", "passed")


async def test_a_change_that_fails_its_test_is_not_shipped(shop: Shop, ci: StandingPipeline) -> None:
    async with following(ci) as seen:
        sha = shop.commit("it fails", unit="echo 'E   assert 1 == 2'; exit 3")
        failed = await seen.until(sha, "unit", "failed")
        after = shop.commit("the next one")
        await seen.until(after, "deploy", "passed")
    assert [job.state for job in failed.stages[0].jobs][-1] == "failed"
    assert "failed" in failed.words
    assert seen.run(sha, "deploy") is None
    found = await ci.passed(sha)
    assert found.state == "no"
    assert "unit #" in found.words


async def test_whether_tests_passed_is_said_for_exactly_one_change(shop: Shop, ci: StandingPipeline) -> None:
    sha = shop.commit("asked for", unit=shop.gate("asked"))
    await until(lambda: shop.bot.builds("unit", sha), LIMIT_S)
    assert (await ci.passed(sha)).state == "running"
    shop.open("asked")
    await settled(shop, sha, "unit")
    assert await until(lambda: _state(ci, sha, "yes"))
    assert (await ci.passed(sha[:7])).state == "yes"
    assert (await ci.passed(sha[:6])).state == "unknown"
    assert (await ci.passed("f" * 40)).state == "unknown"
    assert (await ci.passed("")).state == "unknown"
    for text in HOSTILE:
        assert (await ci.passed(text)).state == "unknown"


async def _state(ci: Pipeline, sha: str, state: str) -> bool:
    return (await ci.passed(sha)).state == state


async def test_a_change_too_old_to_be_listed_is_found_by_its_change(
    shop: Shop, ci: StandingPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha = shop.commit("an old one")
    await settled(shop, sha, "unit")
    await settled(shop, shop.commit("a younger one"), "unit")
    monkeypatch.setattr("adapters.buildbot.LOOKED_THROUGH", 1)
    assert await until(lambda: _state(ci, sha, "yes"))


async def test_only_the_builders_that_are_named_decide(shop: Shop, tmp_path: Path) -> None:
    sha = shop.commit("its deployment fails", deploy="exit 1")
    assert await settled(shop, sha, "deploy") == FAILED
    both = connect(shop.bot.url, tmp_path, must_pass=("unit", "deploy"))
    nobody = connect(shop.bot.url, tmp_path, must_pass=())
    try:
        assert await until(lambda: _state(both, sha, "no"))
        assert (await nobody.passed(sha)).state == "unknown"
    finally:
        await both.close()
        await nobody.close()


async def test_the_log_of_a_step_is_read_on_from_where_one_was(shop: Shop, ci: StandingPipeline) -> None:
    # A worker sends what is written when it is 64 kB, or after five seconds.
    unit = f"seq 20000; {shop.gate('writes')}; printf '\\033]0;x\\007[/]\\n'; echo err >&2"
    async with following(ci) as seen:
        sha = shop.commit("it writes", unit=unit)
        running = await seen.until(sha, "unit", "running")
        job = await until(lambda: next((job for job in _run(seen, sha).stages[0].jobs if job.name == "unit"), None))
        assert job is not None
        first = await until(lambda: _log_with(ci, running.id, job.log, "1"), LIMIT_S)
        assert not first.done
        assert len(first.lines) == first.next == 1000
        shop.open("writes")
        await seen.until(sha, "unit", "passed")
    lines, part = list(first.lines), first
    while not part.done:
        part = await ci.log(running.id, job.log, part.next)
        lines += part.lines
    assert [line for line in lines if line.isdigit()] == [str(number) for number in range(1, 20001)]
    assert {"goes on", "err", "\ufffd]0;x\ufffd[/]"} <= set(lines)
    assert await ci.log(running.id, job.log, part.next) == LogPart((), part.next, done=True)
    for part in ("", "1", "../1", "1/2/3", *HOSTILE):
        with pytest.raises(Garbled):
            await ci.log(running.id, part, 0)


def _run(seen: Follower, sha: str) -> Run:
    run = seen.run(sha, "unit")
    assert run is not None
    return run


async def _log_with(ci: Pipeline, run: str, part: str, word: str) -> LogPart | None:
    found = await ci.log(run, part, 0)
    return found if word in found.lines else None


async def test_a_halt_stops_shipping_and_not_testing(shop: Shop, ci: StandingPipeline) -> None:
    before = await at_rest(ci)
    assert [(part.name, part.halted, part.moving) for part in before.parts] == [("deploys", False, ())]
    async with following(ci) as seen:
        assert isinstance(await ci.halt(PAT), Accepted)
        await until(lambda: _halted(ci), LIMIT_S)
        (part,) = (await ci.halted()).parts
        assert part.note.startswith("andon hold h4k2 by pat: checkout fails")
        assert "\x1b" not in part.note
        sha = shop.commit("tested and not shipped")
        await seen.until(sha, "unit", "passed")
        waiting = await seen.until(sha, "deploy", "waiting")
        assert shop.bot.builds("deploy", sha) == []
        assert not shop.bot.paused("tests")

        assert isinstance(await ci.halt(PAT), Accepted)
        assert isinstance(await ci.release(PAT, before), Accepted)
        shipped = await seen.until(sha, "deploy", "passed")
        assert shipped.id == waiting.id
    after = await ci.halted()
    assert [(part.halted, part.note) for part in after.parts] == [(False, "")]


async def at_rest(ci: StandingPipeline) -> Halted:
    """What stands once nothing ships any more."""

    async def rests() -> Halted | None:
        found = await ci.halted()
        return None if found.moving else found

    found = await until(rests, LIMIT_S)
    assert found is not None
    return found


async def _halted(ci: StandingPipeline) -> bool:
    return (await ci.halted()).halted


async def test_what_still_ships_is_said_of_a_halted_worker(shop: Shop, ci: StandingPipeline) -> None:
    async with following(ci) as seen:
        sha = shop.commit("on its way", deploy=shop.gate("on-its-way"))
        run = await seen.until(sha, "deploy", "running")
        await ci.halt(PAT)
        await until(lambda: _halted(ci), LIMIT_S)
        assert (await ci.halted()).moving == (run.id,)
        shop.open("on-its-way")
        await seen.until(sha, "deploy", "passed")
    assert (await ci.halted()).moving == ()


@pytest.mark.parametrize("reason", ["new disk, bo", "andon hold q1q1 by eve: of another andon"])
async def test_a_worker_that_somebody_else_paused_is_left_as_it_was(
    shop: Shop, ci: StandingPipeline, reason: str
) -> None:
    shop.bot.rpc("workers/deploys", "pause", reason=reason)
    await until(lambda: _halted(ci), LIMIT_S)
    before = await ci.halted()
    assert isinstance(await ci.halt(PAT), Accepted)
    assert (await ci.halted()).parts == before.parts
    answer = await ci.release(PAT, before)
    assert isinstance(answer, Accepted)
    assert f"stays paused: {reason}" in answer.ref
    assert shop.bot.worker_state("deploys")["pause_reason"] == reason


async def test_a_worker_that_somebody_pauses_during_the_stop_is_theirs(shop: Shop, ci: StandingPipeline) -> None:
    before = await at_rest(ci)
    await ci.halt(PAT)
    await until(lambda: _halted(ci), LIMIT_S)
    shop.bot.rpc("workers/deploys", "pause", reason="new disk, bo")
    await until(lambda: shop.bot.worker_state("deploys")["pause_reason"] == "new disk, bo", LIMIT_S)
    await ci.release(PAT, before)
    assert await _halted(ci)


async def test_a_worker_that_also_tests_is_not_paused(shop: Shop, ci: StandingPipeline) -> None:
    await asyncio.to_thread(shop.bot.reconfigure, deploys_on="tests")
    try:
        answer = await ci.halt(PAT)
        assert isinstance(answer, Refused)
        assert "tests also serves unit" in answer.words
        assert not shop.bot.paused("tests")
        (missing,) = (await ci.whoami()).missing
        assert "tests also serves unit" in missing
    finally:
        await asyncio.to_thread(shop.bot.reconfigure, deploys_on="deploys")


async def test_a_run_is_cancelled_while_it_is_built_and_while_it_waits(shop: Shop, ci: StandingPipeline) -> None:
    async with following(ci) as seen:
        sha = shop.commit("not wanted", unit=shop.gate("never"))
        running = await seen.until(sha, "unit", "running")
        assert isinstance(await ci.cancel(running.id, WHY), Accepted)
        assert isinstance(await ci.cancel(running.id, WHY), Accepted)
        cancelled = await seen.until(sha, "unit", "cancelled")
        assert "pat: not this one" in cancelled.words
        assert isinstance(await ci.cancel(running.id, WHY), Accepted)

        await ci.halt(PAT)
        await until(lambda: _halted(ci), LIMIT_S)
        other = shop.commit("waits in vain")
        waiting = await seen.until(other, "deploy", "waiting")
        assert isinstance(await ci.cancel(waiting.id, WHY), Accepted)
        await seen.until(other, "deploy", "cancelled")
    for run in ("r999999", "b1", "", *HOSTILE):
        assert isinstance(await ci.cancel(run, WHY), Refused)


async def test_hostile_text_is_harmless_and_nothing_is_lost_by_it(shop: Shop, ci: StandingPipeline) -> None:
    texts = {f"{number:040x}": text for number, text in enumerate(HOSTILE, 1) if text != "\ud800"}
    async with following(ci) as seen:
        for revision, text in texts.items():
            # A branch that no scheduler builds.
            shop.bot.post_change(revision, text, text or "Ann", branch="strange")
        await until(lambda: len([change for change in seen.changes if change.id in texts]) == len(texts), LIMIT_S)
        sha = shop.commit("\x1b]0;x\x07 the last", unit="printf '\\033]0;x\\007[/]'; exit 1")
        await seen.until(sha, "unit", "failed")
    titles = {change.id: change.title for change in seen.changes}
    assert {"[/]", "[red"} <= set(titles.values())
    for text in (part for change in seen.changes for part in (change.title, change.author)):
        assert not any(ord(char) < 32 or char in "\x7f\x9b\u202e\u2066\u200b" for char in text)


async def test_a_master_that_ends_is_unreachable_and_afterwards_all_is_listed_again(
    shop: Shop, ci: StandingPipeline
) -> None:
    before = await at_rest(ci)
    await ci.halt(PAT)
    await until(lambda: _halted(ci), LIMIT_S)
    async with following(ci) as seen:
        sha = shop.commit("waits over the restart")
        waiting = await seen.until(sha, "deploy", "waiting")
        await asyncio.to_thread(shop.bot.master.kill)
        await until(lambda: seen.ended, LIMIT_S)
        assert isinstance(seen.ended, Unreachable)
    with pytest.raises(Unreachable):
        await ci.halted()
    assert isinstance(await ci.halt(PAT), Unreachable)
    await asyncio.to_thread(shop.bot.start_master)
    await asyncio.to_thread(shop.bot.wait_connected)
    async with following(ci) as seen:
        again = seen.run(sha, "deploy")
        assert again is not None
        assert (again.id, again.state) == (waiting.id, "waiting")
        # The master forgets why the worker is paused; that it worked before the stop is known.
        await until(lambda: shop.bot.worker_state("deploys")["pause_reason"] is None, LIMIT_S)
        assert await _halted(ci)
        assert isinstance(await ci.release(PAT, before), Accepted)
        await seen.until(sha, "deploy", "passed")


async def test_who_we_are_and_what_is_missing(shop: Shop, ci: StandingPipeline, tmp_path: Path) -> None:
    identity = await ci.whoami()
    assert identity.account == "anonymous"
    assert identity.server.startswith("Buildbot 4.")
    assert identity.missing == ()
    assert "worker deploys, which a stop pauses" in identity.found
    assert identity.clock is not None
    assert abs(identity.clock - WallClock().now()) < 5
    wrong = connect(shop.bot.url, tmp_path, ("ship",), builders={"unti": "test"})
    assert isinstance(wrong, StandingPipeline)
    try:
        assert (await wrong.whoami()).missing == ("a builder 'unti'", "a builder 'ship'")
        with pytest.raises(Garbled, match="no builder 'unti'; there are deploy, unit"):
            await anext(wrong.watch())
        with pytest.raises(Garbled, match="no builder 'unti'"):
            await wrong.passed("f" * 40)
        with pytest.raises(Garbled, match="no builder 'ship'"):
            await wrong.halted()
        answer = await wrong.halt(PAT)
        assert isinstance(answer, Unreachable | Refused)
    finally:
        await wrong.close()


async def test_only_the_branch_of_the_line_is_looked_at(shop: Shop, tmp_path: Path) -> None:
    other = connect(shop.bot.url, tmp_path, branch="release")
    await settled(shop, shop.commit("on main"), "unit")
    try:
        async with following(other) as seen:
            assert seen.changes == []
            assert seen.said == []
    finally:
        await other.close()


async def test_a_connection_that_only_reads_changes_nothing(shop: Shop, tmp_path: Path) -> None:
    ci = connect(shop.bot.url, tmp_path, read_only=True)
    assert isinstance(ci, StandingPipeline)
    try:
        assert isinstance(await ci.halt(PAT), Refused)
        assert not shop.bot.paused("deploys")
    finally:
        await ci.close()


async def test_nobody_listening_is_unreachable(tmp_path: Path) -> None:
    ci = connect(f"http://127.0.0.1:{free_port()}", tmp_path)
    assert isinstance(ci, StandingPipeline)
    try:
        with pytest.raises(Unreachable):
            await anext(ci.watch())
        with pytest.raises(Unreachable):
            await ci.whoami()
        assert isinstance(await ci.halt(PAT), Unreachable)
        assert isinstance(await ci.release(PAT, Halted()), Unreachable)
        assert isinstance(await ci.cancel("r1", WHY), Unreachable)
    finally:
        await ci.close()


async def test_an_answer_is_heard_to_its_end_by_nobody(tmp_path: Path) -> None:
    """A client that hangs up in the middle can make a Buildbot master deaf."""
    asked, answer = asyncio.Event(), asyncio.Event()
    hung_up: list[bool] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await answer.wait()
        hung_up.append(reader.at_eof())
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"builders":[]}')
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    ci = connect(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", tmp_path)
    reading = asyncio.create_task(ci.whoami())
    await asked.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    closing = asyncio.create_task(ci.close())
    await asyncio.sleep(0)
    answer.set()
    await closing
    assert hung_up == [False]
    server.close()
    await server.wait_closed()
