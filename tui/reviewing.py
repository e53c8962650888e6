"""The commands that look back: `export` a stretch of the ledger, and `replay` one. Their options; the rest comes late."""

import argparse
import time
from typing import Any

from tui.cli import _seconds, _text, complain


def add(commands: Any) -> None:
    """Add `export` and `replay` to the commands of a parser."""
    export = commands.add_parser("export", help="print a stretch of the ledger, with all that a replay of it needs")
    export.add_argument("--since", required=True, type=_when, metavar="WHEN", help="2h, 13:50 or 2026-11-23T13:50")
    _more(export)
    replay = commands.add_parser("replay", help="play a stretch of the past in the room: what was known when")
    replay.add_argument("file", nargs="?", type=_text, metavar="FILE", help="what `andon export` printed")
    replay.add_argument("--since", type=_when, metavar="WHEN", help="of this ledger: 2h, 13:50 or 2026-11-23T13:50")
    _more(replay)


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--until", type=_when, metavar="WHEN", help="up to then; default: now")
    parser.add_argument("--line", type=_text, metavar="NAME", help="only this line")


def run(args: argparse.Namespace) -> int:
    """Do one of them; returns the exit code. Raises FileError, LedgerUnusable."""
    if args.until is not None and args.since is not None and args.until <= args.since:
        return complain("--until must be later than --since")
    if args.command == "export":
        from tui.exporting import export

        return export(args)
    if (args.file is None) == (args.since is None):
        return complain("name a file, or --since for this ledger")
    if args.file is not None and (args.until is not None or args.line is not None):
        return complain("--until and --line go with --since; a file is played whole")
    from tui.replayroom import replay

    return replay(args)


def _when(text: str) -> float:
    """A moment: so long ago, a time of day (the last such), or a date with a time; local unless it names a zone."""
    from datetime import datetime, timedelta
    from datetime import time as clock

    now = time.time()
    try:
        return now - _seconds(text)
    except argparse.ArgumentTypeError:
        pass
    try:
        if "-" not in text:
            today = datetime.fromtimestamp(now).astimezone()
            found = datetime.combine(today.date(), clock.fromisoformat(text)).astimezone()
            return (found if found <= today else found - timedelta(days=1)).timestamp()
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError, OSError) as error:
        words = f"{text!r} is no time; write 2h, 13:50 or 2026-11-23T13:50"
        raise argparse.ArgumentTypeError(words) from error
