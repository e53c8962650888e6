"""The suite for adapters whose system is a server: what they make of one that answers wrongly, or not at all.

Like `contract`, for third parties too: a plain class, whose subclass says how a source is opened over such a server. That a
failure is read as a state is the worst that an adapter can do: nothing would look wrong.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from andon.contract import assert_clean
from andon.ports import Denied, Garbled, NoAnswer, Refused, Unreachable

Call = Callable[[Any], Awaitable[Any]]


class BadServerContract:
    """A source whose server answers everything wrongly: reads fail as they should, and in time; acts raise nothing.

    `opened(fault)` gives a source whose server does that to each request; faults are FAULTS. `reads` and `acts` are what
    the source is asked; to leave out what does not ask the server is the subclass's business.
    """

    reads: tuple[Call, ...] = ()
    acts: tuple[Call, ...] = ()
    FAULTS = (
        *("302", "401", "403", "404", "409", "429", "500", "503"),
        *("html", "nan", "half", "cut", "reset", "hang", "empty", "text", "big"),
    )
    """Statuses; with 200: a web page, NaN in JSON, half a JSON, a body cut short; a connection cut after the request,
    silence; with 200 again: nothing at all, text that is no JSON, ten million bytes."""
    limit_s = 15.0
    """What a read or act may take; longer than the source's own limit."""

    def opened(self, fault: str) -> AbstractAsyncContextManager[Any]:
        """An opened source over a server with that fault. The subclass says how."""
        raise TypeError(f"{type(self).__name__}.opened() is for the subclass to say")

    async def _reads_fail(self, fault: str, *kinds: type[Exception]) -> None:
        async with self.opened(fault) as source:
            for read in self.reads:
                words = str(await self._failed(source, read, fault, kinds))
                assert_clean(words)
                assert words, "a failed read says why"

    async def _failed(self, source: Any, read: Call, fault: str, kinds: tuple[type[Exception], ...]) -> Exception:
        try:
            async with asyncio.timeout(self.limit_s):
                found = await read(source)
        except kinds as error:
            return error
        raise AssertionError(f"{fault}: read {found!r} out of a wrong answer")

    async def _acts_answer(self, fault: str, *kinds: type[Any]) -> None:
        async with self.opened(fault) as source:
            for act in self.acts:
                async with asyncio.timeout(self.limit_s):
                    answer = await act(source)
                assert isinstance(answer, kinds), f"{fault}: {answer!r}"
                assert_clean(str(answer) if isinstance(answer, Unreachable) else answer)

    async def test_a_credential_that_is_not_known_is_denied(self) -> None:
        """401."""
        await self._reads_fail("401", Denied)
        await self._acts_answer("401", Refused)

    async def test_a_credential_that_may_not_is_denied(self) -> None:
        """403."""
        await self._reads_fail("403", Denied)
        await self._acts_answer("403", Refused)

    async def test_what_is_not_there_is_no_state(self) -> None:
        """404."""
        await self._reads_fail("404", Garbled)
        await self._acts_answer("404", Refused, Unreachable)

    async def test_a_conflict_is_no_success(self) -> None:
        """409. To cancel what is over is the same as to cancel it: what an act makes of it is its own."""
        await self._reads_fail("409", Garbled)

    async def test_too_much_asked_is_asked_later(self) -> None:
        """429: a read is Unreachable with the time it asks for, an act may be sent again."""
        async with self.opened("429") as source:
            for read in self.reads:
                error = await self._failed(source, read, "429", (Unreachable,))
                assert getattr(error, "retry_after_s", 0) > 0, "how long to wait is not told"
        await self._acts_answer("429", Unreachable)

    async def test_an_error_of_the_server_is_no_state(self) -> None:
        """500: an act may have been done."""
        await self._reads_fail("500", Garbled, Unreachable)
        await self._acts_answer("500", NoAnswer, Unreachable)

    async def test_a_server_that_is_not_there_is_no_state(self) -> None:
        """503."""
        await self._reads_fail("503", Garbled, Unreachable)
        await self._acts_answer("503", NoAnswer, Unreachable)

    async def test_a_web_page_is_no_answer(self) -> None:
        """A login page with status 200."""
        await self._reads_fail("html", Garbled)
        await self._acts_answer("html", NoAnswer, Unreachable)

    async def test_numbers_that_are_none_are_no_answer(self) -> None:
        """NaN where a number should be."""
        await self._reads_fail("nan", Garbled)

    async def test_half_an_answer_is_no_answer(self) -> None:
        """JSON that ends in the middle, and a body that does."""
        for fault in ("half", "cut"):
            await self._reads_fail(fault, Garbled, Unreachable)
        await self._acts_answer("cut", NoAnswer, Unreachable)

    async def test_nothing_is_no_answer(self) -> None:
        """200 with an empty body."""
        await self._reads_fail("empty", Garbled)

    async def test_text_is_no_answer(self) -> None:
        """200 with `OK`."""
        await self._reads_fail("text", Garbled)

    async def test_an_answer_too_long_to_be_meant_is_not_read(self) -> None:
        """200 with ten million bytes."""
        await self._reads_fail("big", Garbled)

    async def test_a_redirect_is_not_followed(self) -> None:
        """302 to another host: a credential does not travel there."""
        await self._reads_fail("302", Garbled)
        await self._acts_answer("302", Refused, NoAnswer, Unreachable)

    async def test_a_cut_connection_is_unreachable(self) -> None:
        """After the request was sent: an act may have arrived."""
        await self._reads_fail("reset", Unreachable)
        await self._acts_answer("reset", NoAnswer, Unreachable)

    async def test_silence_ends_in_time(self) -> None:
        """A server that takes the request and says nothing."""
        await self._reads_fail("hang", Unreachable)
        await self._acts_answer("hang", NoAnswer, Unreachable)

    async def test_a_wrong_answer_is_forgotten_with_the_next_good_one(self) -> None:
        """Nothing is kept of a failure; `good` is no fault."""
        async with self.opened("good") as source:
            for read in self.reads:
                await read(source)
