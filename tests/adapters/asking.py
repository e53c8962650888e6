"""How tests open an adapter as the config does, and ask it for the buckets of a metric."""

import time

import msgspec

from andon.clock import WallClock
from andon.model import Metric
from andon.registry import Context, NoOptions, Place
from andon.text import clean

NOW = time.time() // 60 * 60
"""The end of the history that tests write, a whole minute."""


def opened(adapter, folder, clock=None, station="metrics", **options):
    """A station of an adapter, with the options of its connection."""
    given = msgspec.convert(options, adapter.options, strict=True)
    connection = adapter.connect(given, Context("shop", folder, clock or WallClock(), folder))
    return getattr(adapter, station).open(connection, NoOptions(), Place("shop", "production"))


def a_metric(value, n="", kind="count", every=60.0):
    return Metric("orders", "shop", kind, "falls", value, n=n, every=every)


async def ask(source, value, start, end, *, n="", kind="count", every=60.0, now=NOW):
    """State, rows and words of a query, times counted from `now`."""
    found = await source.samples(a_metric(value, n, kind, every), now + start, now + end, every)
    return found.state, [(row.at - now, row.value, row.n) for row in found.rows], found.words


def harmless(text):
    """Whether a text is as `clean` leaves it: nothing a terminal would react to."""
    return clean(text, max(len(text), 1)) == text


def until_now(metric):
    """A metric whose last bucket that counts as complete ends with the history, however long ago that was written."""
    return msgspec.structs.replace(metric, lag=time.time() - NOW + 1.0)
