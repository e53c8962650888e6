"""What each source is, and who we are to it: asked when somebody wants to know, for the page that says what andon is on."""

import asyncio
from collections.abc import Callable
from functools import partial

import msgspec

from andon.config import Config
from andon.feed import told
from andon.hiding import hide
from andon.model import Identity, Record
from andon.ports import READ_LIMIT_S, Can, Source, whole
from andon.stations import Stations


class Known(Record, frozen=True):
    """One connection of the config, as its sources are. `identity` is None where none answered; then `words` say why."""

    source: str
    """As the config calls it."""
    adapter: str
    title: str = ""
    verified: str = ""
    """Against what its adapter's tests run."""
    lines: tuple[str, ...] = ()
    """The lines that use it."""
    can: Can | None = None
    """What it can do at one of its stations, at least."""
    identity: Identity | None = None
    words: str = ""


class _Uses(msgspec.Struct):
    """What the lines make of a connection."""

    lines: list[str] = []
    sources: list[Source] = []
    words: str = ""


async def ask_all(config: Config, stations: Stations) -> tuple[Known, ...]:
    """Every connection that a line uses, in the config's order, each asked once. Raises nothing."""
    found: dict[str, _Uses] = {}
    for line in config.lines:
        for name, way in _ways(line, config, stations):
            uses = found.setdefault(name, _Uses())
            if line not in uses.lines:
                uses.lines.append(line)
            try:
                source = way()
            except Exception as error:  # noqa: BLE001 - what keeps one from being opened is said of it, and of no other
                uses.words = hide(str(error)) or type(error).__name__
                continue
            if source is not None:
                uses.sources.append(source)
    names = [name for name in config.connections if name in found]
    answers = await asyncio.gather(*(_ask(found[name]) for name in names))
    return tuple(_known(config, name, found[name], answer) for name, answer in zip(names, answers, strict=True))


def _ways(line: str, config: Config, stations: Stations) -> list[tuple[str, Callable[[], Source | None]]]:
    """How each source of a line is opened, by the name of its connection."""
    wanted = config.lines[line]
    ways: list[tuple[str, Callable[[], Source | None]]] = [
        (entry.source, partial(stations.open_ci, line, entry)) for entry in wanted.ci
    ]
    if wanted.deploy is not None:
        ways.append((wanted.deploy.source, partial(stations.deploy, line)))
    names = dict.fromkeys(metric.source for metric in wanted.metrics)
    ways += [(name, partial(stations.metrics, line, name)) for name in names]
    return ways + [(entry.source, partial(stations.notifier, line, entry.target)) for entry in wanted.notify]


async def _ask(uses: _Uses) -> Identity | str:
    """Who we are to it; or why that is not known."""
    if not uses.sources:
        return uses.words
    try:
        async with asyncio.timeout(READ_LIMIT_S):
            return whole(await uses.sources[0].whoami(), Identity)
    except TimeoutError:
        return f"gone: no answer in {READ_LIMIT_S:.0f} s"
    except Exception as error:  # noqa: BLE001 - whatever an adapter does is told of its source
        return ": ".join(part for part in told(error) if part)


def _known(config: Config, name: str, uses: _Uses, answer: Identity | str) -> Known:
    adapter = config.connections[name].adapter
    return Known(
        source=name,
        adapter=adapter.name,
        title=adapter.title,
        verified=adapter.verified,
        lines=tuple(uses.lines),
        can=_together([source.can for source in uses.sources]),
        identity=answer if isinstance(answer, Identity) else None,
        words=answer if isinstance(answer, str) else "",
    )


def _together(claims: list[Can]) -> Can | None:
    """What at least one of them can."""
    if not claims:
        return None
    return Can(**{name: max(getattr(item, name) for item in claims) for name in Can.__struct_fields__})
