"""The commands that ask the past: their options. What does the work is loaded when it is asked for."""

import argparse
from typing import Any

from tui.cli import _seconds, _text, _with_json

SINCE_S = 30 * 86_400.0
MOST_PLACEBOS = 5000


def add(commands: Any) -> None:
    """Add `backtest`, `judge` and `report` to the commands of a parser."""
    backtest = commands.add_parser("backtest", help="what the judge would have done in the past, and how often wrongly")
    backtest.add_argument("line", type=_text, metavar="LINE")
    backtest.add_argument("--since", type=_seconds, default=SINCE_S, metavar="30d", help="how far back")
    backtest.add_argument("--metric", type=_text, metavar="NAME", help="only this one")
    backtest.add_argument(
        "--placebos", type=_placebos, metavar="200", help="times without a deployment at which nothing should be found"
    )
    _with_json(backtest)
    judge = commands.add_parser(
        "judge", help="judge a deployment again from what was recorded; 1 it comes out otherwise"
    )
    judge.add_argument("--replay", required=True, type=_text, metavar="ID", help="the deployment's id, or its version")
    judge.add_argument("--line", type=_text, metavar="LINE", help="where several lines know it")
    _with_json(judge)
    report = commands.add_parser("report", help="what the line learned: DORA's keys, recovery, false alarms")
    report.add_argument("line", type=_text, metavar="LINE")
    report.add_argument("--since", type=_seconds, default=SINCE_S, metavar="30d", help="how far back")
    report.add_argument("--format", choices=("md", "json", "html"), default="md", help="html: a page by itself")
    _with_json(report)


def run(args: argparse.Namespace) -> int:
    """Do one of them; returns the exit code. Raises FileError, LedgerUnusable."""
    from tui.setup import Desk

    if args.command == "backtest":
        from tui.backtesting import backtest

        return backtest(Desk(args), args)
    if args.command == "report":
        from tui.reporting import report

        return report(args)
    from tui.replaying import replay

    return replay(Desk(args), args)


def _placebos(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST_PLACEBOS:
        raise argparse.ArgumentTypeError(f"a whole number from 1 to {MOST_PLACEBOS}")
    return int(text)
