"""The suite that every adapter passes: plain classes, for third parties too.

A test module subclasses one for each station the adapter serves and says how to open it:

    class TestMyDeploy(DeployContract):
        @asynccontextmanager
        async def opened(self):
            async with my_server() as server:
                yield MyDeploy(server.url)

Each test method is a coroutine; pytest-asyncio in auto mode runs them as they are. A claim in `can` is tested; what is not
claimed is not.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from andon.model import (
    DONE,
    Deployment,
    Halted,
    HoldRef,
    Identity,
    LogPart,
    Metric,
    Note,
    Record,
    Run,
    Why,
    new_id,
)
from andon.ports import (
    CI,
    Accepted,
    Changes,
    Conflict,
    Denied,
    Deploy,
    Fact,
    Garbled,
    Halting,
    Metrics,
    NoAnswer,
    Notifier,
    Refused,
    Source,
    Unreachable,
    Wait,
)
from andon.text import clean

LIMIT_S = 30.0
ANSWERS = (Accepted, Conflict, Refused, Unreachable, NoAnswer)


async def until(condition: Callable[[], Any], limit_s: float = LIMIT_S) -> Any:
    """The first true value of an awaitable condition; AssertionError after `limit_s`."""
    async with asyncio.timeout(limit_s):
        while True:
            found = await condition()
            if found:
                return found
            await asyncio.sleep(0.05)


async def facts(watch: AsyncIterator[Fact | Wait], limit_s: float = LIMIT_S) -> list[Fact]:
    """What a source says until it says that everything known was said."""
    found: list[Fact] = []
    async with asyncio.timeout(limit_s):
        async for item in watch:
            if isinstance(item, Wait):
                if found or item.seconds:
                    break
            else:
                found.append(item)
    return found


def texts(value: Any) -> list[str]:
    """Every text in a record."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Record):
        return [text for name in value.__struct_fields__ for text in texts(getattr(value, name))]
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in texts(item)]
    return []


def assert_clean(*values: Any) -> None:
    """Every text is as `clean` leaves it: nothing a terminal would react to."""
    for value in values:
        for text in texts(value):
            assert clean(text, max(len(text), 1)) == text, f"not clean: {text!r}"


class SourceContract:
    """What holds for every adapter."""

    def opened(self) -> AbstractAsyncContextManager[Any]:
        """An opened source over a system that answers. The subclass says how."""
        raise TypeError(f"{type(self).__name__}.opened() is for the subclass to say")

    async def test_it_says_who_we_are(self) -> None:
        """`whoami` names an account, and its text is clean."""
        async with self.opened() as source:
            found = await source.whoami()
            assert isinstance(source, Source)
            assert isinstance(found, Identity)
            assert found.account
            assert_clean(found)

    async def test_it_can_be_asked_twice(self) -> None:
        """No state but connections is kept between calls."""
        async with self.opened() as source:
            first, second = await source.whoami(), await source.whoami()
            assert first.account == second.account


class CIContract(SourceContract):
    """A CI with at least one finished run."""

    async def test_it_lists_changes_and_runs(self) -> None:
        """The first round holds changes in order, without repetition, and runs of known states."""
        async with self.opened() as source:
            assert isinstance(source, CI)
            found = await facts(source.watch())
            changes = [change.id for item in found if isinstance(item, Changes) for change in item.items]
            runs = [item for item in found if isinstance(item, Run)]
            assert changes
            assert runs
            assert len(set(changes)) == len(changes)
            assert all(run.change for run in runs)
            assert all(run.ended_at is not None for run in runs if run.state in DONE)
            assert_clean(*found)

    async def test_listing_again_says_the_same_ids(self) -> None:
        """A reconnected stream lists what is open again, under the same ids."""
        async with self.opened() as source:
            first = {item.id for item in await facts(source.watch()) if isinstance(item, Run)}
            again = {item.id for item in await facts(source.watch()) if isinstance(item, Run)}
            assert first & again

    async def test_it_knows_whether_the_tests_passed(self) -> None:
        """For exactly one change; of a change nobody heard of it says `unknown`."""
        async with self.opened() as source:
            assert (await source.passed("0" * 40)).state == "unknown"

    async def test_a_log_is_read_by_lines(self) -> None:
        """From a line on; reading on from `next` repeats nothing; every line is clean."""
        async with self.opened() as source:
            runs = [item for item in await facts(source.watch()) if isinstance(item, Run)]
            parts = [(run.id, job.log) for run in runs for stage in run.stages for job in stage.jobs if job.log]
            if not parts:
                return
            run, part = parts[0]
            first = await source.log(run, part, 0)
            assert isinstance(first, LogPart)
            rest = await source.log(run, part, first.next)
            assert rest.next >= first.next
            assert_clean(first, rest)

    async def test_cancelling_what_is_not_there_is_an_answer(self) -> None:
        """An act raises nothing."""
        async with self.opened() as source:
            assert isinstance(await source.cancel("nothing-of-that-name", Why("ann", "try")), ANSWERS)

    async def test_two_watches_do_not_disturb_each_other(self) -> None:
        """Each lists everything that is open, under the same ids."""
        async with self.opened() as source:
            both = await asyncio.gather(facts(source.watch()), facts(source.watch()))
            first, second = ({item.id for item in found if isinstance(item, Run)} for found in both)
            assert first & second

    async def test_a_log_that_is_not_there_is_a_failed_read(self) -> None:
        """Or a log without news; nothing else is raised, whatever the name is."""
        async with self.opened() as source:
            for part in ("nothing", "", "../1", "0"):
                try:
                    found = await source.log("nothing-of-that-name", part, 0)
                except (Unreachable, Denied, Garbled):
                    continue
                assert isinstance(found, LogPart)
                assert_clean(found)


class DeployContract(SourceContract):
    """A deploy target where at least two versions ran, the last of which is settled."""

    async def _two(self, source: Deploy) -> tuple[Deployment, Deployment]:
        """What runs, and the newest of another version that can be returned to."""
        current = await source.current()
        assert current is not None
        history = await source.history(50)
        earlier = next(
            item for item in history if item.version != current.version and item.state == "settled" and item.available
        )
        return current, earlier

    async def test_the_current_deployment_is_in_the_history(self) -> None:
        """By its id; the history is newest first and its ids are unique."""
        async with self.opened() as source:
            assert isinstance(source, Deploy)
            current, history = await source.current(), await source.history(50)
            assert current is not None
            ids = [item.id for item in history]
            assert current.id in ids
            assert len(set(ids)) == len(ids)
            assert [item.at for item in history] == sorted((item.at for item in history), reverse=True)
            assert_clean(current, *history)

    async def test_watching_shows_the_current_deployment(self) -> None:
        """In its first round."""
        async with self.opened() as source:
            current = await source.current()
            assert current is not None
            assert current.id in {item.id for item in await facts(source.watch()) if isinstance(item, Deployment)}

    async def test_a_deployment_is_a_new_one_each_time(self) -> None:
        """Going back to an earlier version is a new deployment, of a new id, and becomes current."""
        async with self.opened() as source:
            current, earlier = await self._two(source)
            answer = await source.deploy(earlier.version, expected=current.id, key=new_id(), through=None)
            assert isinstance(answer, Accepted), answer

            async def there() -> Deployment | None:
                found = await source.current()
                return found if found and found.version == earlier.version and found.state == "settled" else None

            found: Deployment = await until(there)
            assert found.id not in (current.id, earlier.id)
            assert answer.ref in ("", found.id), "a reference is the new deployment's id"

    async def test_what_is_not_expected_is_a_conflict(self) -> None:
        """With compare-and-set: another deployment id than the current one changes nothing."""
        async with self.opened() as source:
            if not source.can.compare_and_set:
                return
            current, earlier = await self._two(source)
            answer = await source.deploy(earlier.version, expected=earlier.id, key=new_id(), through=None)
            assert answer == Conflict(current.id)
            after = await source.current()
            assert after is not None
            assert after.id == current.id

    async def test_of_two_at_once_one_is_refused(self) -> None:
        """With compare-and-set: two deployments that expect the same one are one success and one conflict."""
        async with self.opened() as source:
            if not source.can.compare_and_set:
                return
            current, earlier = await self._two(source)
            answers = await asyncio.gather(
                *(source.deploy(earlier.version, expected=current.id, key=new_id(), through=None) for _ in range(2))
            )
            kinds = sorted(type(answer).__name__ for answer in answers)
            assert kinds == ["Accepted", "Conflict"], answers

    async def test_the_same_key_deploys_once(self) -> None:
        """Where keys are known: a repetition is answered like the first, and does nothing."""
        async with self.opened() as source:
            if not source.can.idempotent_for_s:
                return
            current, earlier = await self._two(source)
            key = new_id()
            first = await source.deploy(earlier.version, expected=current.id, key=key, through=None)
            again = await source.deploy(earlier.version, expected=current.id, key=key, through=None)
            assert isinstance(first, Accepted)
            assert again == first

    async def test_an_unknown_version_is_refused(self) -> None:
        """Or not accepted at least; and what ran still runs."""
        async with self.opened() as source:
            current = await source.current()
            assert current is not None
            answer = await source.deploy("no-such-version", expected=current.id, key=new_id(), through=None)
            assert not isinstance(answer, Accepted)
            after = await source.current()
            assert after is not None
            assert after.id == current.id

    async def test_a_shorter_history_is_the_beginning_of_a_longer_one(self) -> None:
        """Newest first, and no more than was asked for."""
        async with self.opened() as source:
            longer, shorter = await source.history(50), await source.history(1)
            assert [item.id for item in shorter] == [item.id for item in longer[:1]]

    async def test_aborting_what_is_not_there_is_an_answer(self) -> None:
        """An act raises nothing, and what runs still runs."""
        async with self.opened() as source:
            current = await source.current()
            assert current is not None
            assert isinstance(await source.abort("nothing-of-that-name", Why("ann", "try")), ANSWERS)
            after = await source.current()
            assert after is not None
            assert after.id == current.id

    async def test_what_it_cannot_do_is_refused(self) -> None:
        """A share of the traffic, where it knows of none."""
        async with self.opened() as source:
            if source.can.share:
                return
            current = await source.current()
            assert current is not None
            answer = await source.share(current.version, 10, expected=current.id, key=new_id())
            assert isinstance(answer, Refused)


class HaltingContract(SourceContract):
    """Something that ships, and is not halted when it is opened."""

    async def test_it_halts_and_says_by_whom(self) -> None:
        """A read shows it, with the hold's id in the note; halting twice is the same as once."""
        async with self.opened() as source:
            assert isinstance(source, Halting)
            hold = HoldRef(new_id(), "shop", "ann", "conversion falls; [/] \x1b]0;x\x07")
            before = await source.halted()
            assert not before.halted
            for _ in range(2):
                answer = await source.halt(hold)
                assert isinstance(answer, Accepted), answer
            found: Halted = await until(lambda: self._halted(source))
            assert all(hold.id in part.note for part in found.parts)
            assert_clean(found)
            await source.release(hold, before)

    async def test_a_release_restores_what_stood(self) -> None:
        """And a part that stood before stays."""
        async with self.opened() as source:
            hold = HoldRef(new_id(), "shop", "ann", "try")
            before = await source.halted()
            await source.halt(hold)
            await until(lambda: self._halted(source))
            assert isinstance(await source.release(hold, before), Accepted)

            async def free() -> bool:
                found: Halted = await source.halted()
                return [part.halted for part in found.parts] == [part.halted for part in before.parts]

            await until(free)

    async def test_a_release_without_a_halt_changes_nothing(self) -> None:
        """It restores what stood before, and nothing more."""
        async with self.opened() as source:
            hold = HoldRef(new_id(), "shop", "ann", "try")
            before = await source.halted()
            assert isinstance(await source.release(hold, before), ANSWERS)
            after = await source.halted()
            assert {part.name: part.halted for part in after.parts} == {part.name: part.halted for part in before.parts}

    async def test_what_stood_before_still_stands_after_a_release(self) -> None:
        """A release restores; it does not open what another hold had closed."""
        async with self.opened() as source:
            first, second = (HoldRef(new_id(), "shop", who, "try") for who in ("ann", "bo"))
            before = await source.halted()
            await source.halt(first)
            stood = await until(lambda: self._halted(source))
            await source.halt(second)
            assert isinstance(await source.release(second, stood), ANSWERS)
            assert (await source.halted()).halted
            await source.release(first, before)

    @staticmethod
    async def _halted(source: Halting) -> Halted | None:
        found = await source.halted()
        return found if found.halted else None


class CordContract:
    """A line: what ships there, and its way back. Finds the adapters that say they stopped, and did not.

    `opened` gives both. At least two versions ran, the last one is settled, nothing is halted and nothing waits.
    """

    def opened(self) -> AbstractAsyncContextManager[tuple[Any, Any]]:
        """What halts, and what deploys. The subclass says how."""
        raise TypeError(f"{type(self).__name__}.opened() is for the subclass to say")

    async def test_halt_then_back_then_the_fix_then_release_restores_what_stood(self) -> None:
        """The way back stays open under a hold and opens nothing else; the fix passes; a release ends it, once."""
        async with self.opened() as (halting, deploy):
            hold = HoldRef(new_id(), "shop", "ann", "conversion falls")
            before: Halted = await halting.halted()
            assert not any(part.halted for part in before.parts)
            bad: Deployment = await deploy.current()
            good = next(item for item in await deploy.history(50) if item.version != bad.version and item.available)
            assert isinstance(await halting.halt(hold), Accepted)
            await until(lambda: _stands(halting))
            back = await self._put(deploy, good.version, bad, None)
            assert (await halting.halted()).halted, "the way back opened what was halted"
            fix = await self._put(deploy, bad.version, back, hold.id)
            assert (await halting.halted()).halted, "the fix opened what was halted"
            for _ in range(2):
                assert isinstance(await halting.release(hold, before), Accepted)
                await until(lambda: _as_before(halting, before))
            assert (await deploy.current()).id == fix.id, "the release shipped something"

    @staticmethod
    async def _put(deploy: Deploy, version: str, expected: Deployment, through: str | None) -> Deployment:
        """Deploy a version, and wait until a read shows it."""
        answer = await deploy.deploy(version, expected=expected.id, key=new_id(), through=through)
        assert isinstance(answer, Accepted), answer

        async def there() -> Deployment | None:
            found = await deploy.current()
            return found if found and found.version == version and found.state == "settled" else None

        found: Deployment = await until(there)
        assert found.id != expected.id
        assert answer.ref in ("", found.id)
        return found


async def _stands(halting: Halting) -> bool:
    return (await halting.halted()).halted


async def _as_before(halting: Halting, before: Halted) -> bool:
    found = await halting.halted()
    return {part.name: part.halted for part in found.parts} == {part.name: part.halted for part in before.parts}


class MetricsContract(SourceContract):
    """A metrics source that has the last ten buckets of `metric`."""

    metric: Metric
    """A metric it can answer for."""
    nothing: Metric
    """A metric it has no data of."""

    async def test_buckets_are_closed_and_in_order(self) -> None:
        """Aligned to `every`, within the range asked for, each once, oldest first, and finite."""
        async with self.opened() as source:
            assert isinstance(source, Metrics)
            end = await self._end(source)
            start = end - 10 * self.metric.every
            found = await source.samples(self.metric, start, end, self.metric.every)
            assert found.state in ("ok", "partial")
            times = [row.at for row in found.rows]
            assert times == sorted(set(times))
            assert all(start <= at < end for at in times)
            assert all(abs(at % self.metric.every) < 1e-6 for at in times)
            assert all(math.isfinite(row.value) for row in found.rows)

    async def test_no_data_is_not_zero(self) -> None:
        """A series without data is `empty`, and has no rows."""
        async with self.opened() as source:
            end = await self._end(source)
            found = await source.samples(self.nothing, end - 10 * self.nothing.every, end, self.nothing.every)
            assert found.state == "empty"
            assert found.rows == ()

    async def _end(self, source: Metrics) -> float:
        """The end of the last closed bucket, by the source's clock."""
        clock = (await source.whoami()).clock
        assert clock is not None
        every = self.metric.every
        return (clock - self.metric.lag) // every * every


class NotifierContract(SourceContract):
    """Something that tells people."""

    async def test_it_tells(self) -> None:
        """And a repetition under the same key does no harm."""
        async with self.opened() as source:
            assert isinstance(source, Notifier)
            note = Note(line="shop", title="shop stopped", text="[/] \x1b]0;x\x07 \u202e", key=new_id())
            for _ in range(2):
                assert isinstance(await source.tell(note), Accepted)
