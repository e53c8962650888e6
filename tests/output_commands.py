"""Every command over a den of hostile texts, one after the other in one process; for tests in a terminal.

    python -m tests.output_commands FOLDER ATTACKS

FOLDER is made ready first: a ledger, a config, and the scripts it names. Before each command a line `== its name`.
"""

import json
import sys
import time
from pathlib import Path

from tests.hostile import Den, Say
from tui import cli

SCRIPT = """#!/bin/sh
case "$ANDON_DO" in
ci_watch|current|history|whoami|halted) cat "$ANDON_DO" ;;
halt|release) cat words >&2; exit 1 ;;
deploy) cat words >&2; exit 70 ;;
*) cat words >&2; exit 69 ;;
esac
"""
CONFIG = """
connections:
  gh:
    adapter: command
    {scripts}
lines:
"""
LINE = """
  {name}:
    ci: [{{from: gh, halts: [deploy], every: 1s}}]
    deploy: {{from: gh, every: 1s}}
    metrics: [{{name: a, from: gh, kind: sum, bad: falls, value: x, every: 10s, lag: 1s}}]
"""
DO = ("ci_watch", "current", "history", "whoami", "halt", "halted", "release", "deploy", "samples", "ci_passed")


def prepare(folder: Path, say: Say) -> Path:
    """The config; beside it a ledger that knows its two lines, and what its scripts say."""
    den = Den(folder, ("p",), lambda _: say)
    den.keeper.close()
    config = folder / "andon.yaml"
    scripts = "\n    ".join(f"{do}: [./s]" for do in DO)
    config.write_text(CONFIG.format(scripts=scripts) + "".join(LINE.format(name=name) for name in den.config.lines))
    config.chmod(0o600)
    (folder / "s").write_text(SCRIPT)
    (folder / "s").chmod(0o700)
    live = {
        "id": say("I"),
        "version": say("v"),
        "state": "settled",
        "at": time.time(),
        "by": say("b"),
        "words": say("k"),
    }
    stage = {"name": say("g"), "station": "test", "state": "failed", "at": 1.0}
    run = {"id": say("i"), "change": "c1", "state": "failed", "at": 1.0, "stages": [stage], "words": say("r")}
    facts = {
        "ci_watch": [{"change": {"id": "c1", "title": say("t"), "author": say("a"), "at": 1.0}}, {"run": run}],
        "current": [live],
        "history": [live],
        "whoami": [{"account": say("A"), "server": say("B"), "missing": [say("C")]}],
        "halted": [{"parts": [{"name": say("p"), "halted": False, "note": say("q"), "moving": [say("r")]}]}],
    }
    for do, rows in facts.items():
        (folder / do).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "words").write_bytes(say("w").replace("\n", " ").encode())
    return config


def commands(folder: Path, config: Path, said: str) -> dict[str, list[str]]:
    """Every command that prints and ends, with what somebody may have brought it to say."""
    over = ["-c", str(config), "--ledger", str(folder / "state" / "ledger.db")]
    reason = ["--reason", f"Z{said}"]
    found = {}
    for words in (["status"], ["status", "p-held"], ["gate", "p-held"], ["check"], ["audit", "verify"], ["keys"]):
        found[" ".join(words)] = [*over, *words]
        found[" ".join(words) + " --json"] = [*over, *words, "--json"]
    found["schema"] = ["schema"]
    found["pull"] = [*over, "--as", said, "pull", "p-runs", *reason, "--wait", "5s"]
    found["pull --json"] = [*over, "--as", f"x{said}", "pull", "p-runs", *reason, "--wait", "5s", "--json"]
    for name, words in {
        "resume": ["resume", "p-runs", "--hold", said],
        "rollback": ["rollback", "p-runs", "--to", said],
        "push": ["push", "p-runs", said],
        "mark": ["mark", "p-runs", said, "good"],
        "unmarked": ["mark", "p-runs", "v", said],
        "line": ["pull", said],
    }.items():
        found[name] = [*over, *words, *reason]
    found["no config"] = ["-c", f"{folder}/{said}", "status"]
    found["no ledger"] = ["-c", str(config), "--ledger", f"{folder}/nowhere/{said}", "status"]
    found["no scheme"] = ["-c", str(config), "--ledger", f"{said}://x", "status"]
    found["too much"] = [*over, "status", "p-held", said]
    found["no command"] = [said]
    found["no time"] = [*over, "gate", "p-held", "--wait", said]
    found["no number"] = ["demo", "--seed", said]
    return found


def main() -> int:
    """Do them all; an exit is only noted."""
    folder, said = Path(sys.argv[1]), sys.argv[2]
    config = folder / "andon.yaml"
    for name, argv in commands(folder, config, said).items():
        print(f"== {name}", flush=True)
        try:
            code = cli.run(argv)
        except SystemExit as end:
            code = int(str(end.code))
        print(f"-- {code}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
