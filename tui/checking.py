"""`andon check`: ask every source who we are to it, and say what would not work before it is needed."""

import argparse
import asyncio
from typing import Any

from andon.config import LineConfig
from andon.feed import told
from andon.ports import READ_LIMIT_S, Denied, Garbled, Halting, Source, Unreachable
from andon.stations import Stations
from tui.powering import Shown, powers
from tui.printing import out
from tui.setup import Desk


def check(desk: Desk, args: argparse.Namespace) -> int:
    """0: every source answers, can do what the config asks of it, and every metric can show something; 1: not so.

    Raises FileError.
    """
    desk.check_theme()
    desk.keys()
    rows, power = asyncio.run(_ask_all(desk))
    warnings = list(desk.config.warnings)
    lines = [f"{_sign(row['ok'])} {row['line']}/{row['source']}: {row['words']}" for row in rows]
    lines += [f"{_sign(shown.ok)} {shown.line}: {shown.words}" for shown in power]
    lines += [f"! {words}" for words in warnings]
    out({"sources": rows, "power": power, "warnings": warnings}, args, "\n".join(lines))
    return 0 if all(row["ok"] for row in rows) and all(shown.ok for shown in power) else 1


def _sign(ok: bool) -> str:
    return "✓" if ok else "✗"


async def _ask_all(desk: Desk) -> tuple[list[dict[str, Any]], list[Shown]]:
    """What each source says of itself, what the config would not do, and what each metric can show: all at once."""
    stations = Stations(desk.config, desk.clock, desk.state, read_only=True)
    try:
        asked = asyncio.gather(*(_ask(desk, line, name, source) for line, name, source in stations.every()))
        lines = desk.config.lines.values()
        able = asyncio.gather(*(powers(stations, config, desk.clock) for config in lines))
        rows, power = await asked, await able
        for config in lines:
            words = _rules(config, stations)
            rows += [{"line": config.name, "source": "rules", "ok": False, "words": item} for item in words]
    finally:
        await stations.close()
    return rows, [shown for found in power for shown in found]


async def _ask(desk: Desk, line: str, name: str, source: Source) -> dict[str, Any]:
    try:
        async with asyncio.timeout(READ_LIMIT_S + 2):
            found = await source.whoami()
    except (Unreachable, Denied, Garbled, TimeoutError) as error:
        word, words = told(error)
        return {"line": line, "source": name, "ok": False, "words": f"{word}: {words}"}
    words = f"{found.account} at {found.server}" if found.server else found.account
    if found.clock is not None and abs(found.clock - desk.clock.now()) > 5:
        words += f"; its clock is {found.clock - desk.clock.now():+.0f} s off"
    if found.missing:
        words += "; missing: " + ", ".join(found.missing)
    return {"line": line, "source": name, "ok": not found.missing, "words": words}


def _rules(config: LineConfig, stations: Stations) -> list[str]:
    """What this config would not do, although it looks as if it would."""
    found = []
    for entry in config.halting:
        source = stations.halting(config.name, entry.target)
        if not isinstance(source, Halting):
            found.append(f"{entry.source} cannot halt {', '.join(entry.place.halts)}")
    deploy = stations.deploy(config.name)
    if deploy is not None and config.deploy is not None:
        if config.deploy.place.halts and not deploy.can.pass_one:
            found.append(
                "the deploy target is halted by a stop and cannot pass one deployment: the way back would be closed; "
                "give the rollback a workflow or script of its own"
            )
        wants = any(metric.on_regression == "rollback" for metric in config.metrics)
        if wants and not deploy.can.compare_and_set and not (config.deploy.only_way_in and config.targets):
            found.append(
                "on_regression: rollback would only be advice: the target does not compare deployment ids; "
                "say `only_way_in: true` and name what a stop halts, if that is so"
            )
    return found
