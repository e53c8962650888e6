"""`andon init`: a few questions, each with an answer to take, and a first config that stops and never rolls back by itself.

It looks at the git remote of the current folder for its suggestions and at nothing else there. What it writes was read by
the config's own reader first; the credentials are tried before anything is written. No secret is asked for: only where it
is found.
"""

import argparse
import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from andon import config as configs
from andon import registry
from andon.clock import WallClock
from andon.config import Config
from andon.configfile import SECRET_KEY
from andon.configreader import Reader
from andon.feed import told
from andon.folders import make_private
from andon.model import LINE_NAME
from andon.ports import Denied, Garbled, Unreachable
from andon.registry import Adapter
from andon.secret import Secret, SecretError
from andon.stations import Stations
from andon.text import clean, gate
from andon.yamlfile import Document, FileError
from tui.cli import complain
from tui.draft import Draft, text

TRY_S = 5.0
"""How long one source may take to say who we are to it."""
GIT_S = 3.0
HOSTS = {"github.com": "github", "gitlab.com": "gitlab"}
"""Which adapter a git remote there suggests, if there is one."""
SCRIPTS = ("current", "deploy", "halt", "release", "halted")
"""What the adapter for a person's own scripts needs for a line that can be stopped and rolled back."""


class Remote(NamedTuple):
    """Where the current folder's git repository comes from."""

    host: str
    path: str

    @property
    def name(self) -> str:
        """Its last part, as the name of a line."""
        return re.sub(r"[^a-z0-9-]+", "-", self.path.rpartition("/")[2].lower()).strip("-")[:40]


class Asker:
    """Asks on the terminal, or takes what was given with the command and the defaults."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._asks = not args.yes
        self._given = dict(args.set)

    def ask(self, key: str, words: str, default: str, why_not: Callable[[str], str] = lambda _: "") -> str:
        """The answer, or `default` for none. Raises FileError for one that was given and does not fit, or at the end."""
        while True:
            given = self._given.pop(key, None)
            answer = given if given is not None else self._typed(words, default) if self._asks else default
            why = why_not(answer)
            if not why:
                return answer
            if not self._asks or given is not None:
                raise FileError("", None, (), f"{key}: {why}; give it with --set {key}=…")
            say(f"  {why}")

    def _typed(self, words: str, default: str) -> str:
        print(f"{gate(words)}{f' [{gate(default)}]' if default else ''}: ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            raise FileError("", None, (), "no answer; nothing was written")
        return clean(line).strip() or default

    def left(self) -> list[str]:
        """What was given and never asked for."""
        return list(self._given)


def say(words: str) -> None:
    """Tell the person."""
    print(gate(words), file=sys.stderr, flush=True)


def init(args: argparse.Namespace) -> int:
    """Ask, try, write, check; the exit code of the check. Raises FileError."""
    path = _place(args.config)
    if path.exists() or path.is_symlink():
        return complain(f"{path} is there already, and is never overwritten; `andon check` looks at it")
    if not args.yes and not sys.stdin.isatty():
        return complain(
            "init asks questions, and there is no terminal: --yes takes its suggestions, --set KEY=VALUE another answer"
        )
    remote = git_remote(Path.cwd())
    say(f"This writes {path}. Enter takes what stands in brackets.")
    if remote is not None:
        say(f"The git remote here is {remote.host}/{remote.path}.")
    asker = Asker(args)
    draft = ask(asker, remote)
    if unknown := asker.left():
        return complain(f"--set {unknown[0]}: nothing of that name was asked")
    content = text(draft).encode()
    config = Reader(Document(str(path), content), path, content).read()
    failed = asyncio.run(tried(config, path.parent))
    if failed and not args.yes and asker.ask("anyway", "Write it all the same?", "y").lower() not in ("y", "yes"):
        return complain("nothing was written")
    _write(path, content)
    say(f"Written. This is `andon -c {path} check`:")
    from tui.checking import check
    from tui.setup import Desk

    args.config = str(path)
    return check(Desk(args), args)


def _place(named: str | None) -> Path:
    if named is not None:
        return Path(named).expanduser().absolute()
    places = configs.places()
    if not places:
        raise FileError("", None, (), "the environment names no folder of yours; say where with -c FILE")
    return places[0].absolute()


def git_remote(folder: Path) -> Remote | None:
    """Where the folder's repository comes from, without any name or password in the address; None: not known."""
    command = ["git", "-C", str(folder), "config", "--get", "remote.origin.url"]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=GIT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    url = done.stdout.strip() if done.returncode == 0 else ""
    match = re.fullmatch(r"(?:[a-z+]+://)?(?:[^@/\s]*@)?([A-Za-z0-9.-]+)(?::\d+/|[:/])/*([\w./-]+?)(?:\.git)?/?", url)
    return Remote(match[1].lower(), match[2]) if match else None


# ---- questions


def ask(asker: Asker, remote: Remote | None) -> Draft:
    """What a person wants. Raises FileError."""
    line = asker.ask("line", "Name of the line", (remote.name if remote else "") or "shop", _no_line_name)
    environment = asker.ask("environment", "Its environment", "production", lambda said: "" if said else "it is empty")
    known = [name for name in registry.names() if _ships(registry.find(name))]
    suggested = HOSTS.get(remote.host, "") if remote else ""
    default = suggested if suggested in known else "command"

    def unknown(said: str) -> str:
        return "" if said in known else f"there are {', '.join(known)}"

    name = asker.ask("adapter", f"What builds and ships it ({', '.join(known)})", default, unknown)
    adapter = registry.find(name)
    connection = _options(asker, name, adapter.options, remote)
    if name == "command":
        connection = {
            script: [asker.ask(script, f"Script: {script}", f"./{script}")] for script in SCRIPTS
        } | connection
    ci = _options(asker, f"{name}.ci", adapter.ci.options, remote) if adapter.ci else None
    deploy = _options(asker, f"{name}.deploy", adapter.deploy.options, remote) if adapter.deploy else None
    said = asker.ask("halts", "What ships there and is halted by a stop (names, with commas)", "deploy")
    halts = tuple(part.strip() for part in said.split(",") if part.strip())
    return Draft(line, environment, name, connection, ci, deploy, halts, _metrics(asker))


def _ships(adapter: Adapter) -> bool:
    return adapter.ci is not None or adapter.deploy is not None


def _no_line_name(said: str) -> str:
    return "" if re.fullmatch(LINE_NAME, said) else "a name has 1 to 40 of a-z, 0-9 and -"


def _options(asker: Asker, where: str, options: type[msgspec.Struct], remote: Remote | None) -> dict[str, Any]:
    """What an adapter must be told, and which secret opens it."""
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(options):
        key = f"{where}.{field.encode_name}"
        if SECRET_KEY.match(field.encode_name):
            name = f"env:{where.partition('.')[0].upper()}_{field.encode_name.upper()}"
            default = name if field.encode_name in ("token", "token_acts") else ""
            words = f"{key}: where the secret is found, never the secret (`-` for none)"
            said = asker.ask(key, words, default, _no_reference)
            if said not in ("", "-"):
                found[field.encode_name] = said
        elif field.required:
            suggested = remote.path if remote is not None and field.encode_name in ("repo", "project") else ""
            said = asker.ask(key, f"{key}, as in YAML", suggested, lambda said: "" if said else "it is needed")
            found[field.encode_name] = _yaml(said)
    return found


def _no_reference(said: str) -> str:
    """Why that is no reference. The words never hold what was typed: it may be the secret itself."""
    if said in ("", "-"):
        return ""
    try:
        Secret(said)
    except SecretError:
        return "that is no reference; write env:NAME, file:PATH, keyring:SERVICE/USER or command:PROGRAM"
    return ""


def _yaml(said: str) -> Any:
    """A value as the config's reader will read it; text that is no YAML stays the text it is."""
    try:
        found = Document("", said.encode()).data
    except FileError:
        return said
    return said if found is None else found


def _metrics(asker: Asker) -> dict[str, Any] | None:
    """One metric of Prometheus, if there is one."""
    url = asker.ask("prometheus", "Address of a Prometheus (`-`: nothing is measured yet)", "-")
    if url in ("", "-"):
        return None
    query = asker.ask("query", "Its query for what must not fall or rise ($every: the bucket's length)", "", _needed)
    return {
        "adapter": "prometheus",
        "connection": {"url": url},
        "query": query,
        "name": asker.ask("metric", "What it measures", "errors", _needed),
        "kind": asker.ask("kind", "Kind (proportion, count, sum, latency, gauge)", "count", _one_of(*_KINDS)),
        "bad": asker.ask("bad", "Which way is bad (falls, rises)", "rises", _one_of("falls", "rises")),
    }


_KINDS = ("proportion", "count", "sum", "latency", "gauge")


def _needed(said: str) -> str:
    return "" if said else "it is needed"


def _one_of(*known: str) -> Callable[[str], str]:
    return lambda said: "" if said in known else f"one of {', '.join(known)}"


# ---- trying, writing


async def tried(config: Config, state: Path) -> bool:
    """Ask each source who we are to it, and say so; whether one did not answer."""
    stations = Stations(config, WallClock(), state, read_only=True)
    failed = False
    try:
        asked = {name: source for _, name, source in stations.every()}
        for name, source in asked.items():
            try:
                async with asyncio.timeout(TRY_S):
                    found = await source.whoami()
            except TimeoutError:
                failed, words = True, f"no answer in {TRY_S:g} s"
            except (Unreachable, Denied, Garbled) as error:
                failed, words = True, ": ".join(told(error))
            else:
                failed = failed or bool(found.missing)
                words = found.account + (f" at {found.server}" if found.server else "")
                words += f"; missing: {', '.join(found.missing)}" if found.missing else ""
            say(f"  {name}: {words}")
    finally:
        await stations.close()
    return failed


def _write(path: Path, content: bytes) -> None:
    """A new file that nobody else can read. Raises FileError."""
    try:
        make_private(path.parent)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            os.fchmod(descriptor, 0o600)  # whatever the umask
            os.write(descriptor, content)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise FileError(str(path), None, (), f"cannot be written: {error.strerror}") from error
