"""The waiting that every test relies on, and the environment that hides the developer."""

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest

from tests.helpers import TooLate, until, wait_until


async def test_until_gives_what_was_found_as_soon_as_it_is_there():
    box: list[str] = []
    asyncio.get_running_loop().call_later(0.02, box.append, "done")
    assert await until(lambda: box) == ["done"]


async def test_until_takes_a_coroutine_function():
    async def look() -> int:
        return 7

    assert await until(look) == 7


async def test_until_names_what_did_not_happen_and_what_was_seen():
    with pytest.raises(TooLate, match=r"not within 0\.02 s: the line stops; seen last: 0"):
        await until(lambda: 0, 0.02, "the line stops")


def test_wait_until_sees_what_another_thread_does():
    seen = threading.Event()
    threading.Timer(0.02, seen.set).start()
    assert wait_until(seen.is_set)


def test_wait_until_ends_in_time():
    started = time.monotonic()
    with pytest.raises(TooLate, match="seen last: False"):
        wait_until(lambda: False, 0.02)
    assert time.monotonic() - started < 5


def test_a_test_finds_nobody_s_home_and_settings(empty_home):
    assert Path.home() == empty_home
    assert not list(empty_home.iterdir())
    assert not [name for name in os.environ if name.startswith(("ANDON_", "TEXTUAL_")) or "PROXY" in name.upper()]
    assert "NO_COLOR" not in os.environ
    assert time.tzname[0] == "UTC"
