"""`andon export`: a stretch of the ledger as JSON lines on stdout, which `andon replay` plays anywhere."""

import argparse
import sys

from andon.text import gate
from tui.cli import complain
from tui.printing import out
from tui.recording import Recording, lines_of, record
from tui.setup import Desk, open_ledger


def export(args: argparse.Namespace) -> int:
    """0: printed; 2: nothing is recorded of that time. Raises FileError, LedgerUnusable, BrokenPipeError, NotPrinted."""
    desk = Desk(args)
    found = from_ledger(desk, args)
    if not found.rows and not found.samples:
        return complain("nothing is recorded of that time")
    if sys.stdout.isatty():
        print("andon: this is for a file: andon export --since 2h > incident.jsonl", file=sys.stderr, flush=True)
    for line in lines_of(found):
        out(None, argparse.Namespace(), line.decode())
    print(f"andon: {told(found)}", file=sys.stderr, flush=True)
    return 0


def from_ledger(desk: Desk, args: argparse.Namespace) -> Recording:
    """What this ledger holds of the time that was asked for. Raises FileError, LedgerUnusable."""
    desk.check_line(args.line)
    until = args.until if args.until is not None else desk.clock.now()
    keeper = open_ledger(desk.ledger, desk.clock, read_only=True, lean=True)
    try:
        return keeper.submit(lambda ledger: record(ledger, desk.config, args.since, until, args.line)).result()
    finally:
        keeper.close()


def told(recording: Recording) -> str:
    """What it holds, in a sentence."""
    samples = sum(map(len, recording.samples.values()))
    words = f"{len(recording.rows)} events and {samples} samples of {', '.join(recording.config.lines)}"
    if recording.skipped:
        words += f"; {recording.skipped} events that this version cannot read are left out"
    return gate(words)
