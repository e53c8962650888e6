"""Every command. Starts fast, imports late: nothing heavy is loaded before it is known to be needed.

stdout is data, stderr is narration; every command that prints has `--json`. Exit 2 always means *no answer*: usage, the
config, a ledger that cannot be read.
"""

import argparse
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from tui import VERSION

NO_ANSWER = 2


def run(argv: Sequence[str]) -> int:
    """Parse and do; returns the exit code. Bad input is a sentence on stderr, never a traceback."""
    _open_streams()
    args = parser().parse_args(argv)
    if args.version:
        return _print_version()
    if args.room_line is not None and args.command not in (None, "demo"):
        return complain("--line is for the room; a command takes its line after its name")
    if args.command in (None, "demo"):
        args.line = args.room_line
    wrong = _whose_adapters()
    if wrong:
        return complain(wrong)
    if args.command in (None, "demo") and sys.stdout.isatty():
        # The first sign of life comes before the imports that take most of the start; the room draws over it.
        sys.stdout.write("andon: opening\r")
        sys.stdout.flush()
    from tui import commandline

    return commandline.run(args)


def _print_version() -> int:
    try:
        print(f"andon {VERSION}", flush=True)
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    return 0


def complain(words: str, code: int = NO_ANSWER, *, prefix: str = "andon: ") -> int:
    """Say what is wrong on stderr; returns the exit code."""
    from andon.text import gate

    print(f"{prefix}{gate(words)}", file=sys.stderr, flush=True)
    return code


def _open_streams() -> None:
    """See that 0, 1 and 2 are open: else the next file to be opened, a ledger, could be 1 and be printed into.

    What the terminal's encoding has no sign for is printed as `?`.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            found = os.open(os.devnull, os.O_RDWR)
            if found != number:
                os.dup2(found, number)
                os.close(found)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _whose_adapters() -> str:
    """Why the `adapters` that Python finds is not ours; empty: it is."""
    from importlib.machinery import ModuleSpec
    from pathlib import Path

    # What importlib.util.find_spec does; it takes longer to load than to do.
    specs = (finder.find_spec("adapters", None) for finder in sys.meta_path)
    found: ModuleSpec | None = next((spec for spec in specs if spec is not None), None)
    beside = Path(__file__).resolve().parent.parent / "adapters"
    places = [Path(place).resolve() for place in (found.submodule_search_locations or [])] if found else []
    if beside in places:
        return ""
    other = f"another package called adapters, at {places[0]}," if places else "no package called adapters"
    return f"{other} stands where andon's should; install andon in an environment of its own: uv tool install andon"


class _Parser(argparse.ArgumentParser):
    """One that takes no half options, in whose place another one could come, and whose words a terminal can take."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        sys.exit(complain(message))


def parser() -> argparse.ArgumentParser:
    """Every option of every command."""
    parser = _Parser(
        prog="andon",
        description="A control room for continuous deployment: F9 stops the line, F4 rolls back.",
        epilog="Without a command the room opens. `andon demo` needs no configuration.",
    )
    parser.add_argument(
        "-c", "--config", type=_text, metavar="FILE", help="the config (else $ANDON_CONFIG, else the user's)"
    )
    parser.add_argument("--as", dest="who", type=_text, metavar="WHO", help="who acts, for the record")
    parser.add_argument("--ledger", type=_text, metavar="ADDR", help="the ledger's file, instead of the config's")
    parser.add_argument("--line", dest="room_line", type=_text, metavar="NAME", help="the line selected at start")
    parser.add_argument("--read-only", action="store_true", help="look, never act, never take the lease")
    parser.add_argument("--wall", action="store_true", help="for a wall: read-only, no keys")
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _viewing(commands)
    _acting(commands)
    from tui import past, reviewing  # they need this module

    past.add(commands)
    reviewing.add(commands)
    return parser


def _viewing(commands: "argparse._SubParsersAction[_Parser]") -> None:
    demo = commands.add_parser("demo", help="the room over a shop that plays itself; nothing to configure")
    demo.add_argument("--seed", type=int, default=7, help="another shop")
    demo.add_argument("--speed", type=_speed, default=1.0, help="how fast its time goes (0.1 to 60)")
    watch = commands.add_parser("watch", help="the engine alone; one JSON line per event on stdout")
    watch.add_argument(
        "--listen", type=_address, metavar="ADDR", help="also answer /gate/LINE, /healthz, /metrics there"
    )
    watch.set_defaults(json=True)
    status = commands.add_parser("status", help="0 all run, 1 one is stopping or stopped, 2 cannot tell")
    status.add_argument("line", nargs="?", type=_text, metavar="LINE")
    form = status.add_mutually_exclusive_group()
    _with_json(form)
    form.add_argument("--format", choices=["tmux", "prompt"], help="one short line, for a status line or a prompt")
    gate = commands.add_parser(
        "gate", help="for a pipeline: 0 runs and is watched, 1 stopping or stopped, 2 cannot tell"
    )
    gate.add_argument("line", type=_text, metavar="LINE")
    gate.add_argument("--wait", type=_seconds, default=0.0, metavar="10m", help="wait so long for it to run")
    _with_json(gate)
    check = commands.add_parser("check", help="ask every source; 1 a source fails, 2 the file is wrong")
    _with_json(check)
    audit = commands.add_parser("audit", help="walk the ledger's chain: andon audit verify")
    audit.add_argument("what", choices=["verify"])
    _with_json(audit)
    commands.add_parser("schema", help="print a JSON schema of the config")
    completion = commands.add_parser("completion", help="print what a shell completes")
    completion.add_argument("shell", choices=["bash", "zsh", "fish"])
    init = commands.add_parser("init", help="a few questions, then a first config and its check; never overwrites")
    init.add_argument("--yes", action="store_true", help="ask nothing: take the suggestions and what --set says")
    init.add_argument(
        "--set",
        type=_pair,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="the answer to a question, by its key",
    )
    _with_json(init)
    keys = commands.add_parser("keys", help="print the room's keys")
    form = keys.add_mutually_exclusive_group()
    _with_json(form)
    form.add_argument("--markdown", action="store_true", help="print the page docs/keys.md")
    form.add_argument("--test", action="store_true", help="show what this terminal sends; acts on nothing")


def _acting(commands: "argparse._SubParsersAction[_Parser]") -> None:
    pull = commands.add_parser("pull", help="stop a line: nothing more ships until it is resumed")
    pull.add_argument("line", nargs="?", type=_text, metavar="LINE")
    pull.add_argument("--all", action="store_true", help="every line")
    resume = commands.add_parser("resume", help="lift a hold")
    resume.add_argument("line", type=_text, metavar="LINE")
    resume.add_argument("--hold", type=_text, metavar="ID")
    resume.add_argument("--all", action="store_true", help="all holds of the line")
    rollback = commands.add_parser("rollback", help="stop a line and return to an earlier version")
    rollback.add_argument("line", type=_text, metavar="LINE")
    rollback.add_argument("--to", type=_text, metavar="VERSION")
    push = commands.add_parser(
        "push", help="ship one version whose tests passed, through a hold if the line is stopped"
    )
    push.add_argument("line", type=_text, metavar="LINE")
    push.add_argument("push_version", type=_text, metavar="VERSION")
    push.add_argument("--through", type=_text, metavar="HOLD")
    call = commands.add_parser("call", help="call for help: the line stops in a while unless somebody clears the call")
    call.add_argument("line", type=_text, metavar="LINE")
    wanted = call.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--reason", type=_text, metavar="TEXT")
    wanted.add_argument("--clear", action="store_true", help="clear the call that is open: the line runs on")
    _with_json(call)
    mark = commands.add_parser("mark", help="say what a deployment is")
    mark.add_argument("line", type=_text, metavar="LINE")
    mark.add_argument("deployment", type=_text, metavar="DEPLOYMENT")
    mark.add_argument("mark", choices=["good", "faulty", "irreversible"])
    for parser in (pull, resume, rollback, push, mark):
        parser.add_argument("--reason", required=True, type=_text, metavar="TEXT")
        _with_json(parser)
    for parser in (pull, resume, rollback, push):
        parser.add_argument("--wait", type=_seconds, default=30.0, metavar="30s", help="how long to wait for the proof")


def _with_json(parser: "argparse._ActionsContainer") -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _text(text: str) -> str:
    """What is not empty: an unset variable in a script must not mean *all* or *any*."""
    from andon.text import clean

    if not clean(text).strip():
        raise argparse.ArgumentTypeError("it is empty")
    return text


def _seconds(text: str) -> float:
    from andon.config import duration

    try:
        return duration(float(text) if text.replace(".", "", 1).isdigit() else text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _address(text: str) -> tuple[str, int]:
    from tui.listening import address  # loads the server only where it is asked for

    return address(text)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is no KEY=VALUE")
    return key, value


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from error
    if not 0.1 <= speed <= 60:
        raise argparse.ArgumentTypeError("between 0.1 and 60")
    return speed
