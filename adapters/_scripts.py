"""The scripts of a connection: which there are, what they are told, and how their endings are understood.

A script is an argv list, started without a shell. It is told what to do in its environment (`ANDON_VERSION`, …) and, the
same, as one JSON object on stdin; it answers with its exit code and with JSON on stdout.
"""

import asyncio
import contextlib
import os
import re
import shutil
import stat
from collections.abc import AsyncGenerator, Mapping
from typing import Annotated, Any, TypeVar

import msgspec

from adapters import _process
from andon.ports import (
    ACT_LIMIT_S,
    READ_LIMIT_S,
    Accepted,
    Answer,
    Conflict,
    Denied,
    Garbled,
    NoAnswer,
    Refused,
    Unreachable,
)
from andon.registry import Context
from andon.secret import SCHEMES, Secret, SecretError
from andon.text import LINE_LIMIT, clean

T = TypeVar("T")
Argv = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
Values = Mapping[str, Any]

REFUSED, CONFLICT = 1, 9
"""Exit codes of an act."""

GONE, DENIED = 69, 77
"""Exit codes of a read, as sysexits.h has them: unavailable, no permission."""

SECRET_NAME = re.compile(r"(?i)(token|password|passwd|secret|api_?key|access_key)\Z")
"""The variables that hold a secret by their name: it is given by reference, never by its value."""

KEPT = ("PATH", "HOME", "LANG", "TZ")
"""All that a script sees of andon's own environment."""


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The scripts of a connection; what is not given cannot be done. A relative program starts in the config's folder."""

    ci_watch: Argv | None = None
    ci_passed: Argv | None = None
    ci_log: Argv | None = None
    ci_cancel: Argv | None = None
    halt: Argv | None = None
    release: Argv | None = None
    halted: Argv | None = None
    deploy: Argv | None = None
    current: Argv | None = None
    history: Argv | None = None
    abort: Argv | None = None
    share: Argv | None = None
    samples: Argv | None = None
    tell: Argv | None = None
    whoami: Argv | None = None
    env: dict[str, str] = {}
    """Added to the scripts' environment; a value may be a reference to a secret, opened whenever a script is started."""
    env_acts: dict[str, str] = {}
    """The same, for acts alone: no read is given it, and for no read it is opened."""
    limit_s: Annotated[float, msgspec.Meta(gt=0, le=ACT_LIMIT_S)] | None = None
    """Seconds a script may take; unset: 10 for a read, 15 for an act."""
    compare_and_set: bool = False
    """Whether `deploy` compares ANDON_EXPECTED with what is current, and deploys, under one lock."""
    max_output: Annotated[int, msgspec.Meta(ge=1024, le=64 * 1024 * 1024)] = 1024 * 1024
    """Bytes a script may print."""

    def __post_init__(self) -> None:
        """Refuse what cannot work, with ValueError."""
        if len({self.halt is None, self.release is None, self.halted is None}) > 1:
            raise ValueError("halt, release and halted go together: a stop is confirmed by a read and lifted again")
        if self.deploy is not None and self.current is None and self.history is None:
            raise ValueError("deploy needs current or history: a deployment is confirmed by a read")
        _check_variables("env", self.env)
        _check_variables("env_acts", self.env_acts)

    def argv(self, do: str) -> tuple[str, ...] | None:
        """The script for `do`; None: there is none."""
        found: tuple[str, ...] | None = getattr(self, do)
        return found

    @property
    def scripts(self) -> dict[str, tuple[str, ...]]:
        """All that are given."""
        return {name: argv for name in self.__struct_fields__ if isinstance(argv := getattr(self, name), tuple)}


def _check_variables(key: str, variables: Mapping[str, str]) -> None:
    """Raise ValueError for what cannot be a script's environment. The words never hold a value."""
    for name, value in variables.items():
        if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError(f"{key}: {name!r} is no name for a variable: letters, digits and _")
        if name.startswith("ANDON_"):
            raise ValueError(f"{key}: {name}: names that begin with ANDON_ are what andon tells the script")
        if _is_reference(value) or SECRET_NAME.search(name):
            try:
                Secret(value)
            except SecretError as error:
                raise ValueError(f"{key}: {name}: {error}") from None  # what it was raised from may hold the value


class Scripts:
    """The scripts of one connection, and how their endings are understood."""

    def __init__(self, options: Options, context: Context) -> None:
        self.options = options
        self.name = context.name
        self.clock = context.clock
        self.folder = context.folder.absolute()

    async def read(self, do: str, values: Values, kind: type[T]) -> T:
        """What the script for a read printed, as one JSON value. Raises Unreachable, Denied, Garbled."""
        return decode(do, await self._printed(do, values), kind)

    async def read_lines(self, do: str, values: Values, kind: type[T]) -> list[T]:
        """What the script for a read printed, one JSON value a line. Raises as `read`."""
        return [decode(do, line, kind) for line in (await self._printed(do, values)).split(b"\n") if line.strip()]

    async def act(self, do: str, values: Values) -> Answer:
        """How the script for an act answered."""
        argv = self.options.argv(do)
        if argv is None:
            return Refused(f"{self.name}: the config names no {do} script")
        limit_s = self.options.limit_s or ACT_LIMIT_S
        try:
            ended, first, words = await self._run(argv, do, values, limit_s, acting=True)
        except (_process.CannotStart, SecretError) as error:
            return Unreachable(f"{do}: {error}")
        except _process.CannotTell as error:
            return Refused(f"{do}: {error}")
        if ended.code == 0:
            return Accepted(first)
        if ended.code == REFUSED:
            return Refused(words or f"{do} ended with 1 and did not say why")
        if ended.code == CONFLICT:
            return Conflict(first)
        return NoAnswer(self._how(do, ended, words, limit_s))

    async def stream(self, do: str, values: Values) -> AsyncGenerator[tuple[bytes, ...], None]:
        """What a script goes on printing, as it comes, until it ends with 0. Raises as `read`."""
        argv = self.options.argv(do)
        if argv is None:
            raise Garbled(f"{self.name}: the config names no {do} script")
        try:
            env, secrets = await self._env(do, values)
            stdin, most = _stdin(do, values), self.options.max_output
            printed = _process.stream(self._program(argv), self.folder, env, stdin, most=most)
            async with contextlib.aclosing(printed):
                async for item in printed:
                    if isinstance(item, _process.Ended):
                        self._check(do, item, _words(secrets, item.last_words), 0)
                    else:
                        yield item
        except _process.CannotStart as error:
            raise Unreachable(f"{do}: {error}") from error
        except _process.CannotTell as error:
            raise Garbled(f"{do}: {error}") from error
        except SecretError as error:
            raise Denied(f"{do}: {error}") from error

    def missing(self) -> tuple[str, ...]:
        """The scripts that could not be started now, and why."""
        path = os.environ.get("PATH", os.defpath)
        found = []
        for do, argv in self.options.scripts.items():
            try:
                if shutil.which(self._program(argv)[0], path=path) is None:
                    found.append(f"{do}: {argv[0]} is no program that can be started")
            except _process.CannotStart as error:
                found.append(f"{do}: {error}")
        return tuple(found)

    async def _printed(self, do: str, values: Values) -> bytes:
        argv = self.options.argv(do)
        if argv is None:
            raise Garbled(f"{self.name}: the config names no {do} script")
        limit_s = self.options.limit_s or READ_LIMIT_S
        try:
            ended, _, words = await self._run(argv, do, values, limit_s)
        except _process.CannotStart as error:
            raise Unreachable(f"{do}: {error}") from error
        except _process.CannotTell as error:
            raise Garbled(f"{do}: {error}") from error
        except SecretError as error:
            raise Denied(f"{do}: {error}") from error
        self._check(do, ended, words, limit_s)
        return ended.out

    async def _run(
        self, argv: tuple[str, ...], do: str, values: Values, limit_s: float, *, acting: bool = False
    ) -> tuple[_process.Ended, str, str]:
        """How a script ended, the first line it printed, and the last of its stderr."""
        env, secrets = await self._env(do, values, acting=acting)
        stdin, most = _stdin(do, values), self.options.max_output
        ended = await _process.run(self._program(argv), self.folder, env, stdin, limit_s=limit_s, most=most)
        first = ended.out.partition(b"\n")[0].decode("utf-8", "replace")
        return ended, _words(secrets, first).strip(), _words(secrets, ended.last_words)

    def _check(self, do: str, ended: _process.Ended, words: str, limit_s: float) -> None:
        if ended.code == 0:
            return
        how = self._how(do, ended, words, limit_s)
        if ended.code == DENIED:
            raise Denied(how)
        if ended.code == GONE or (ended.code is None and not ended.much):
            raise Unreachable(how)
        raise Garbled(how)

    def _how(self, do: str, ended: _process.Ended, words: str, limit_s: float) -> str:
        if ended.much:
            how = f"printed more than {self.options.max_output} bytes"
        elif ended.code is None:
            how = f"no answer in {limit_s:g} s"
        elif ended.code < 0:
            how = f"killed by signal {-ended.code}"
        else:
            how = f"ended with {ended.code}"
        return f"{do}: {how}: {words}" if words else f"{do}: {how}"

    def _program(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        """A program with a slash in its name starts in the config's folder; one without is looked for on PATH."""
        program = os.path.expanduser(argv[0])  # noqa: PTH111 - a Path would lose the `./` that keeps it off PATH
        if "/" not in program:
            return argv
        path = self.folder / program
        try:
            mode = path.stat().st_mode
        except OSError:
            mode = 0
        if mode & stat.S_IWOTH:
            raise _process.CannotStart(f"{path}: everybody can write to it; chmod o-w {path}")
        return (str(path), *argv[1:])

    async def _env(self, do: str, values: Values, *, acting: bool = False) -> tuple[dict[str, str], tuple[str, ...]]:
        """A script's whole environment, and the secrets in it."""
        env = {name: os.environ[name] for name in KEPT if name in os.environ}
        secrets = []
        for name, value in {**self.options.env, **(self.options.env_acts if acting else {})}.items():
            env[name] = value
            if _is_reference(value):
                env[name] = await asyncio.to_thread(Secret(value).open)  # a keyring or a program may take its time
                secrets.append(env[name])
        env["ANDON_DO"] = do
        return env | {f"ANDON_{key.upper()}": _text(it) for key, it in values.items() if it is not None}, tuple(secrets)


def _text(value: Any) -> str:
    """A value as an environment has it: a list of texts one a line, a record as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, tuple):
        return "\n".join(value)
    return msgspec.json.encode(value).decode()


def _stdin(do: str, values: Values) -> bytes:
    try:
        return msgspec.json.encode({"do": do, **values}) + b"\n"
    except UnicodeEncodeError as error:
        raise _process.CannotTell(f"a value is no text: {error.reason}") from error


def _words(secrets: tuple[str, ...], words: str) -> str:
    """What a script said, cleaned, without the secrets it was given."""
    for secret in secrets:
        words = words.replace(secret, "***")
    return clean(words, LINE_LIMIT)


def _is_reference(value: str) -> bool:
    return value.partition(":")[0] in SCHEMES


def decode(do: str, printed: bytes, kind: type[T]) -> T:
    """JSON as a record, strictly. Raises Garbled."""
    try:
        return msgspec.json.decode(printed, type=kind)
    except ValueError as error:  # not JSON, not such a record, or a number that is not finite
        raise Garbled(f"{do}: {error}") from error
