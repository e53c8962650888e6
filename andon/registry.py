"""Finding an adapter by name, when the config names it; nothing else is imported.

An adapter is an entry point of the group `andon.adapters` that leads to an `Adapter`. Built-in names belong to this
distribution; a plug-in of another one is written `distribution:name`. Its module may fail at import in any way, end the
process, or never end: that is said, within `LOAD_LIMIT_S`.
"""

import importlib
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from andon.clock import Clock
from andon.hiding import hide

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "andon.adapters"
OURS = "andon"
LEDGERS = {
    "sqlite": "adapters.sqlite:SqliteLedger",
    "postgres": "adapters.postgres:PostgresLedger",
    "postgresql": "adapters.postgres:PostgresLedger",
}
"""Ours, and named here: to read the distribution's entry points takes longer than to open a ledger."""
_PASSWORD = re.compile(r"://[^/?#]*:[^/?#]*@|[?&]password=", re.IGNORECASE)
LOAD_LIMIT_S = 10.0
"""How long a plug-in's module may take to be imported."""


class Context(msgspec.Struct, frozen=True):
    """What an adapter is given beside its own options."""

    name: str
    """The connection's name in the config."""
    folder: Path
    """The folder of the config file; relative paths start there."""
    clock: Clock
    state: Path
    """A private folder for what an adapter must keep beside the ledger."""
    read_only: bool = False


class Place(msgspec.Struct, frozen=True):
    """Where on which line a source stands."""

    line: str
    environment: str
    halts: tuple[str, ...] = ()
    """What ships and is to be halted there, in the vendor's names; empty: nothing."""


class Station(msgspec.Struct, frozen=True):
    """How an adapter serves one station of a line: the options it takes there, and how it is opened.

    `options` is a msgspec Struct type, with `forbid_unknown_fields=True`, for the keys that are the adapter's own (the
    core takes `from`, `halts`, `every`, `confirm`, `only_way_in` away first). `open(connection, options, place)` returns
    the source and touches no network.
    """

    options: type[msgspec.Struct]
    open: Callable[[Any, Any, Place], Any]
    per_line: bool = False
    """Whether what it halts belongs to one line alone. Else two lines whose `halts` name the same share that target."""


class NoOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For a station that takes no options of its own."""


class Adapter(msgspec.Struct, frozen=True):
    """One outside system. `connect(options, context)` returns what its stations share, and touches no network."""

    name: str
    title: str
    options: type[msgspec.Struct]
    connect: Callable[[Any, Context], Any]
    ci: Station | None = None
    deploy: Station | None = None
    metrics: Station | None = None
    notify: Station | None = None
    verified: str = ""
    """Against which server and version its tests run, in words: `Buildbot 4.3, a real master`; empty: not said."""


class UnknownAdapter(Exception):
    """No adapter of that name can be had; the words say what to do."""


def names() -> list[str]:
    """The names of the built-in adapters. Imports none of them."""
    return sorted(point.name for point in _points(OURS))


def find(name: str) -> Adapter:
    """The adapter of that name. Raises UnknownAdapter."""
    dist, _, short = name.rpartition(":")
    points = _points(dist or OURS)
    for point in points:
        if point.name == short:
            try:
                found = _imported(point) if dist else point.load()
            except Exception as error:  # a plug-in's module may fail in any way; which one is said
                words = hide(f"{type(error).__name__}: {error}")
                raise UnknownAdapter(f"adapter {name!r} does not load: {words}") from error
            if not isinstance(found, Adapter):
                raise UnknownAdapter(f"adapter {name!r} is not an andon.registry.Adapter")
            return found
    if dist:
        raise UnknownAdapter(f"no distribution {dist!r} with an adapter {short!r} is installed")
    raise UnknownAdapter(
        f"no adapter {name!r}; there are {', '.join(names())}; a plug-in's is written distribution:name"
    )


def _imported(point: "EntryPoint") -> Any:
    """What a plug-in's entry point leads to. Raises what its module does. In a thread, which can be left behind."""
    loaded: list[Any] = []
    failed: list[BaseException] = []

    def load() -> None:
        try:
            loaded.append(point.load())
        except BaseException as error:  # noqa: BLE001 - a module may fail in any way, also by ending the process
            failed.append(error)

    loading = threading.Thread(target=load, name="plug-in", daemon=True)
    loading.start()
    loading.join(LOAD_LIMIT_S)
    if failed:
        raise failed[0] if isinstance(failed[0], Exception) else ImportError(f"it raises {type(failed[0]).__name__}")
    if not loaded:
        raise ImportError(f"its import has not ended within {LOAD_LIMIT_S:g} s")
    return loaded[0]


def ledger(address: str) -> Callable[..., Any]:
    """What opens the ledger at `address`: the path of a file, or an address of a server.

    It is called with the path, a clock and `read_only`; of a server the address is used, which is more than a path. Raises
    UnknownAdapter, also for an address with a password that was not given by reference.
    """
    scheme = address.partition("://")[0] if "://" in address else "sqlite"
    if scheme not in LEDGERS:
        raise UnknownAdapter(f"no ledger for {scheme}://; give the path of a file, or postgresql://USER@HOST/DATABASE")
    if scheme != "sqlite" and _PASSWORD.search(address) and hide(address) == address:  # what was opened is hidden
        raise UnknownAdapter(
            "a password stands in the ledger's address, where others can read it: put the whole address into a variable or "
            "a private file and write `ledger: env:ANDON_LEDGER` in the config, or keep the password in ~/.pgpass"
        )
    module, _, name = LEDGERS[scheme].partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found if scheme == "sqlite" else lambda _, clock, **how: found(address, clock, **how)


def _points(dist: str) -> "list[EntryPoint]":
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        return [point for point in distribution(dist).entry_points if point.group == GROUP]
    except PackageNotFoundError:
        return []
