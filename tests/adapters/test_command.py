"""A person's own scripts as an adapter: how they are told, heard, understood and ended, with real processes."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest

from adapters import _process
from adapters.command import ADAPTER
from andon.clock import WallClock
from andon.contract import CIContract, HaltingContract, MetricsContract, NotifierContract
from andon.model import Change, Deployment, Halted, HoldRef, Metric, Note, Part, Run, Sample, Why
from andon.ports import (
    Accepted,
    Changes,
    Conflict,
    Denied,
    Deploy,
    Garbled,
    Halting,
    NoAnswer,
    Refused,
    Unreachable,
    Wait,
)
from andon.registry import Context, NoOptions, Place
from tests.helpers import HOSTILE, until

PYTHON = f"#!{sys.executable} -IS\n"
HOLD = HoldRef("h0ld1234", "shop", "ann", "checkout fails [/] \x1b]0;x\x07")
WHY = Why("ann", "no longer needed")


@pytest.fixture
def script(tmp_path):
    """Write a script into the config's folder: Python, or, with a #! of its own, whatever that names."""

    def write(text: str, name: str = "script", mode: int = 0o755) -> str:
        path = tmp_path / name
        path.write_text(text if text.startswith("#!") else PYTHON + text)
        path.chmod(mode)
        return f"./{name}"

    return write


@pytest.fixture
def at(tmp_path):
    """Open a station of the adapter over options as a config would have them."""

    def open_(station: str, halts: tuple[str, ...] = (), **options: object):
        context = Context(name="own", folder=tmp_path, clock=WallClock(), state=tmp_path)
        connection = ADAPTER.connect(msgspec.convert(options, ADAPTER.options, strict=True), context)
        return getattr(ADAPTER, station).open(connection, NoOptions(), Place("shop", "production", halts))

    return open_


def deploying(at, script, text: str, **options: object):
    return at("deploy", deploy=[script(text)], current=["true"], **options)


def ship(target, version: str = "3f2a", expected: str | None = "d1", key: str = "k1", through: str | None = None):
    return target.deploy(version, expected=expected, key=key, through=through)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


# What a script is told.


async def test_a_script_is_told_the_same_in_its_environment_and_on_stdin(at, script, tmp_path):
    told = "import json, os, sys; json.dump([dict(os.environ), json.load(sys.stdin)], open('told', 'w'))"
    assert await ship(deploying(at, script, told), through="h0ld1234") == Accepted("")
    environment, stdin = json.loads((tmp_path / "told").read_text())
    assert {name: value for name, value in environment.items() if name.startswith("ANDON_")} == {
        "ANDON_DO": "deploy",
        "ANDON_LINE": "shop",
        "ANDON_ENVIRONMENT": "production",
        "ANDON_VERSION": "3f2a",
        "ANDON_EXPECTED": "d1",
        "ANDON_KEY": "k1",
        "ANDON_THROUGH": "h0ld1234",
    }
    assert stdin == {
        "do": "deploy",
        "line": "shop",
        "environment": "production",
        "version": "3f2a",
        "expected": "d1",
        "key": "k1",
        "through": "h0ld1234",
    }


async def test_what_is_not_expected_is_not_told(at, script, tmp_path):
    told = "import json, os, sys; json.dump([dict(os.environ), json.load(sys.stdin)], open('told', 'w'))"
    await ship(deploying(at, script, told), expected=None)
    environment, stdin = json.loads((tmp_path / "told").read_text())
    assert "ANDON_EXPECTED" not in environment
    assert stdin["expected"] is None


async def test_a_script_sees_nothing_else_of_our_environment(at, script, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_TOKEN", "s3cret")
    monkeypatch.setenv("DEPLOY_TOKEN", "t0ken")
    target = deploying(
        at,
        script,
        "import json, os; json.dump(dict(os.environ), open('told', 'w'))",
        env={"TOKEN": "env:DEPLOY_TOKEN", "PLACE": "http://user@host/"},
    )
    await ship(target)
    told = json.loads((tmp_path / "told").read_text())
    ours = {"PATH", "HOME", "LANG", "TZ", "LC_CTYPE"}  # Python sets the last one itself
    assert {name for name in told if not name.startswith("ANDON_")} - ours == {"TOKEN", "PLACE"}
    assert (told["TOKEN"], told["PLACE"]) == ("t0ken", "http://user@host/")


async def test_a_secret_is_opened_each_time_and_never_repeated(at, script, monkeypatch):
    target = deploying(
        at, script, "import os, sys; sys.exit('no right for ' + os.environ['TOKEN'])", env={"TOKEN": "env:DEPLOY_TOKEN"}
    )
    for secret in ("first", "second"):
        monkeypatch.setenv("DEPLOY_TOKEN", secret)
        assert await ship(target) == Refused("no right for ***")


async def test_a_locked_secret_is_denied_to_a_read_and_lets_no_act_out(at, script, tmp_path):
    target = at(
        "deploy",
        deploy=[script("open('ran', 'w')")],
        current=["./script"],
        env={"TOKEN": "env:NOT_THERE"},
    )
    with pytest.raises(Denied, match="NOT_THERE"):
        await target.current()
    answer = await ship(target)
    assert isinstance(answer, Unreachable)
    assert "NOT_THERE" in str(answer)
    assert not (tmp_path / "ran").exists()


def shell_words() -> list[str]:
    marks = ["; $(touch x)", "`touch x`", "| touch x", "&& touch x", "\n touch x", "$(touch x)", "--help", "-rf", "> x"]
    return [*marks, "${IFS}touch${IFS}x", "'; touch x; '", '"; touch x; "', "\\'; touch x", "*", "~", "v" * 100_000]


async def test_hostile_values_are_only_values(at, script, tmp_path):
    target = at(
        "deploy",
        deploy=[script('#!/bin/sh\nprintf %s "$ANDON_VERSION" >told\ncat >stdin\n', "deploy")],
        current=["true"],
    )
    before = {"deploy", "told", "stdin"}
    for value in (*shell_words(), *HOSTILE):
        if "\0" in value or "\ud800" in value:
            answer = await ship(target, version=value)
            assert isinstance(answer, Refused), ascii(value)
            continue
        assert await ship(target, version=value) == Accepted(""), ascii(value)
        assert (tmp_path / "told").read_bytes() == value.encode()
        assert json.loads((tmp_path / "stdin").read_text())["version"] == value
        assert {path.name for path in tmp_path.iterdir()} == before, ascii(value)


async def test_a_value_longer_than_a_program_takes_is_refused_and_starts_nothing(at, script, tmp_path):
    answer = await ship(deploying(at, script, "open('ran', 'w')"), version="v" * 5_000_000)
    assert isinstance(answer, Refused)
    assert not (tmp_path / "ran").exists()


async def test_a_program_without_a_slash_is_not_taken_from_the_configs_folder(at, script, tmp_path):
    script("open('ran', 'w')", "true")
    target = at("deploy", deploy=["true"], current=["true"])
    assert await ship(target) == Accepted("")
    assert not (tmp_path / "ran").exists()


# How an ending is understood.


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("print('d7'); print('more')", Accepted("d7")),
        ("import sys; print('x'); sys.exit('first\\nnot \\x1b]0;x\\x07 today')", Refused("not \ufffd]0;x\ufffd today")),
        ("raise SystemExit(1)", Refused("deploy ended with 1 and did not say why")),
        ("import sys; print(' d9 '); sys.exit(9)", Conflict("d9")),
        ("raise SystemExit(9)", Conflict("")),
        ("raise SystemExit(2)", NoAnswer("deploy: ended with 2")),
        ("import sys; print('half way', file=sys.stderr); sys.exit(70)", NoAnswer("deploy: ended with 70: half way")),
        ("import os; os.kill(os.getpid(), 9)", NoAnswer("deploy: killed by signal 9")),
        ("#!/bin/sh\nkill -TERM $$", NoAnswer("deploy: killed by signal 15")),
    ],
)
async def test_how_an_act_ends_is_its_answer(at, script, text, answer):
    assert await ship(deploying(at, script, text)) == answer


@pytest.mark.parametrize("case", ["no such file", "not executable", "no such interpreter", "a folder", "open to all"])
async def test_an_act_that_could_not_be_started_may_be_sent_again(at, script, tmp_path, case):
    if case == "not executable":
        script("open('ran', 'w')", mode=0o644)
    elif case == "no such interpreter":
        script("#!/nowhere/sh\n")
    elif case == "a folder":
        (tmp_path / "script").mkdir()
    elif case == "open to all":
        script("open('ran', 'w')", mode=0o777)
    target = at("deploy", deploy=["./script"], current=["./script"])
    answer = await ship(target)
    assert isinstance(answer, Unreachable)
    assert "script" in str(answer)
    with pytest.raises(Unreachable):
        await target.current()
    assert not (tmp_path / "ran").exists()
    if case != "no such interpreter":  # only the kernel knows
        assert len((await target.whoami()).missing) == 2


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("raise SystemExit('the list is broken')", Garbled),
        ("raise SystemExit(3)", Garbled),
        ("import os; os.kill(os.getpid(), 9)", Garbled),
        ("raise SystemExit(77)", Denied),
        ("raise SystemExit(69)", Unreachable),
        ("import signal; signal.pause()", Unreachable),
        ("print('x' * 5000)", Garbled),
        ("pass", Garbled),
        ("print('<html>')", Garbled),
        ('print(\'{"id": "d1", "version"\')', Garbled),
        ("print('{}')", Garbled),
        ('print(\'{"id": 7, "version": "v", "state": "settled"}\')', Garbled),
        ('print(\'{"id": "d7", "version": "v", "state": "done"}\')', Garbled),
        ('print(\'{"id": "d7", "version": "v", "state": "settled", "at": NaN}\')', Garbled),
        ('print(\'{"id": "d7", "version": "v", "state": "settled", "at": 1e999}\')', Garbled),
        ("import sys; sys.stdout.buffer.write(bytes(range(256)))", Garbled),
    ],
)
async def test_how_a_read_fails_is_said(at, script, text, error):
    target = at("deploy", current=[script(text)], limit_s=1.0, max_output=4096)
    with pytest.raises(error) as caught:
        await target.current()
    assert "current" in str(caught.value)


async def test_the_words_of_a_failed_read_are_the_scripts_own(at, script):
    target = at("deploy", current=[script("raise SystemExit('noise\\nthe list is \\u202e broken')")])
    with pytest.raises(Garbled, match="current: ended with 1: the list is \ufffd broken"):
        await target.current()


async def test_what_has_no_script_is_refused_and_named(at):
    target = at("deploy", deploy=["false"], current=["false"])
    assert await target.abort("d1", WHY) == Refused("own: the config names no abort script")
    assert isinstance(await target.share("v", 5, expected=None, key="k"), Refused)
    ci = at("ci")
    assert isinstance(await ci.cancel("r1", WHY), Refused)
    with pytest.raises(Garbled, match="ci_passed"):
        await ci.passed("3f2a")
    with pytest.raises(Garbled, match="samples"):
        await at("metrics").samples(METRIC, 0, 600, 60)


# How a program is ended.

FAMILY = """
import os, signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", '''
import os, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = subprocess.Popen(["sleep", "600"])
open("family.part", "w").write(f"{os.getppid()} {os.getpid()} {grandchild.pid}")
os.rename("family.part", "family")
signal.pause()
'''])
signal.pause()
"""


async def family(folder: Path) -> list[int]:
    path = folder / "family"
    await until(path.exists)
    return [int(word) for word in path.read_text().split()]


async def gone(pids: list[int]) -> None:
    await until(lambda: not any(alive(pid) for pid in pids), what=f"{pids} ended")


async def test_at_its_limit_a_program_ends_with_all_that_it_started(at, script, tmp_path):
    answer = await ship(deploying(at, script, FAMILY, limit_s=2.0))
    assert answer == NoAnswer("deploy: no answer in 2 s")
    await gone(await family(tmp_path))


async def test_a_cancelled_call_leaves_nothing_running(at, script, tmp_path):
    call = asyncio.create_task(ship(deploying(at, script, FAMILY)))
    pids = await family(tmp_path)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await gone(pids)


async def test_a_watch_that_is_closed_leaves_nothing_running(at, script, tmp_path):
    watch = at("ci", ci_watch=[script("print('{}', flush=True)\n" + FAMILY)]).watch()
    assert await anext(watch) == Wait(0.0)
    pids = await family(tmp_path)
    await watch.aclose()
    await gone(pids)


async def test_a_program_that_prints_too_much_is_ended(at, script, tmp_path):
    text = "import os\nopen('pid', 'w').write(str(os.getpid()))\nwhile True: print('x' * 1000)"
    target = deploying(at, script, text, max_output=100_000)
    assert await ship(target) == NoAnswer("deploy: printed more than 100000 bytes")
    await gone([int((tmp_path / "pid").read_text())])


async def test_a_program_may_say_as_much_as_it_likes_on_stderr(at, script):
    text = "import sys\nfor n in range(20000): print('step', n, file=sys.stderr)\nprint('d7')"
    assert await ship(deploying(at, script, text, max_output=1024)) == Accepted("d7")


async def test_what_a_program_leaves_running_keeps_nobody_waiting(at, script, tmp_path):
    text = "import subprocess; print('d7'); open('pid', 'w').write(str(subprocess.Popen(['sleep', '600']).pid))"
    assert await ship(deploying(at, script, text, limit_s=10.0)) == Accepted("d7")
    pid = int((tmp_path / "pid").read_text())
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)


async def test_a_program_that_does_not_read_its_input_is_no_trouble(at, script):
    assert await ship(deploying(at, script, "print('d7')"), version="v" * 100_000) == Accepted("d7")


# What is read.


def printing(*lines: object) -> str:
    return f"print({json.dumps(chr(10).join(json.dumps(line) for line in lines))})"


SETTLED = {"id": "d1", "version": "4f2a", "state": "settled", "at": 100.0, "by": "ann [/]"}
ROLLING = {"id": "d2", "version": "3f2a", "state": "rolling", "at": 200.0}


async def test_current_and_history_are_read(at, script):
    target = at(
        "deploy",
        current=[script(printing(ROLLING), "current")],
        history=[
            script("import os; assert os.environ['ANDON_COUNT'] == '5'\n" + printing(ROLLING, SETTLED), "history")
        ],
    )
    assert await target.current() == Deployment("d2", "3f2a", "rolling", 200.0)
    assert [deployment.id for deployment in await target.history(5)] == ["d2", "d1"]


async def test_nothing_deployed_is_null(at, script):
    target = at("deploy", current=[script("print('null')")])
    assert await target.current() is None
    assert await target.history(5) == []


async def test_one_of_current_and_history_is_enough(at, script):
    failed = {**ROLLING, "state": "failed"}
    assert (await at("deploy", history=[script(printing(failed, SETTLED))]).current()).id == "d1"
    assert [one.id for one in await at("deploy", current=[script(printing(SETTLED))]).history(5)] == ["d1"]


async def test_watching_deployments_says_what_changed_each_round(at, script, tmp_path):
    said = tmp_path / "said"
    said.write_text("\n".join(json.dumps(row) for row in (ROLLING, SETTLED)))
    watch = at("deploy", history=[script("print(open('said').read())")]).watch()
    assert [(await anext(watch)).id for _ in range(2)] == ["d1", "d2"]
    assert isinstance(await anext(watch), Wait)
    assert isinstance(await anext(watch), Wait)
    said.write_text("\n".join(json.dumps(row) for row in ({**ROLLING, "state": "settled"}, SETTLED)))
    assert await anext(watch) == Deployment("d2", "3f2a", "settled", 200.0)
    await watch.aclose()


async def test_halting(at, script, tmp_path):
    text = """
import json, os, sys
told = json.load(sys.stdin)
if told["do"] == "halted":
    here = os.path.exists("note")
    print(json.dumps({"parts": [{"name": "gate", "halted": here, "note": open("note").read() if here else ""}]}))
elif told["do"] == "halt":
    open("note", "w").write(os.environ["ANDON_HOLD"] + " " + os.environ["ANDON_WHY"] + os.environ["ANDON_HALTS"])
else:
    assert told["before"] == json.loads(os.environ["ANDON_BEFORE"])
    told["before"]["parts"][0]["halted"] or os.remove("note")
"""
    name = script(text)
    target = at("deploy", ("gate", "other gate"), halt=[name], release=[name], halted=[name], current=["true"])
    assert isinstance(target, Halting)
    before = await target.halted()
    assert before.parts == (Part("gate", False),)
    assert before.at > 0
    assert await target.halt(HOLD) == Accepted("")
    held = await target.halted()
    assert held.halted
    assert held.parts[0].note == "h0ld1234 checkout fails [/] \ufffd]0;x\ufffdgate other gate"
    assert await target.release(HOLD, before) == Accepted("")
    assert not (await target.halted()).halted


async def test_without_halt_scripts_a_deploy_target_is_no_halting_target(at):
    target = at("deploy", current=["true"])
    assert isinstance(target, Deploy)
    assert not isinstance(target, Halting)
    ci = at("ci")
    assert isinstance(await ci.halt(HOLD), Refused)
    assert isinstance(await ci.release(HOLD, Halted()), Refused)
    assert (await ci.halted()).parts == ()


async def test_can_says_what_there_are_scripts_for(at):
    ci = at("ci", ci_cancel=["true"])
    assert ci.can.cancel
    assert not at("ci").can.cancel
    can = at("deploy", deploy=["true"], current=["true"], abort=["true"], compare_and_set=True).can
    assert (can.deploy, can.abort, can.share, can.compare_and_set) == (True, True, False, True)
    assert not at("deploy", current=["true"], compare_and_set=True).can.compare_and_set


CHANGE = {"id": "3f2a", "title": "feat: [/] \x1b]0;x\x07", "author": "ann", "at": 100.0}
RUN = {
    "id": "r1",
    "change": "3f2a",
    "state": "running",
    "stages": [{"name": "t", "station": "test", "state": "passed"}],
}


async def test_a_ci_that_prints_and_ends_is_asked_again(at, script):
    said = printing({"change": CHANGE}, {"change": {**CHANGE, "id": "77c0"}}, {"run": RUN})
    watch = at("ci", ci_watch=[script(said)]).watch()
    for _ in range(2):
        changes, run, wait = [await anext(watch) for _ in range(3)]
        assert isinstance(changes, Changes)
        assert [change.id for change in changes.items] == ["3f2a", "77c0"]
        assert changes.items[0].title == "feat: [/] \ufffd]0;x\ufffd"
        assert isinstance(run, Run)
        assert run.stages[0].station == "test"
        assert wait == Wait(5.0)
    await watch.aclose()


async def test_a_ci_that_goes_on_is_heard_live_and_missed_when_it_ends(at, script, tmp_path):
    text = f"""
import os, time
print({json.dumps(json.dumps({"change": CHANGE}))}, flush=True)
while not os.path.exists("go"): time.sleep(0.01)
print({json.dumps(json.dumps({"run": RUN}))}, end="", flush=True)
raise SystemExit("the stream broke")
"""
    watch = at("ci", ci_watch=[script(text)]).watch()
    assert await anext(watch) == Changes((Change(**CHANGE),))
    (tmp_path / "go").touch()
    assert (await anext(watch)).id == "r1"
    with pytest.raises(Garbled, match="the stream broke"):
        await anext(watch)


@pytest.mark.parametrize("line", ['{"job": {}}', "[]", '{"run": {"id": "r1"}}', "half a js", '{"run": ' + "x" * 5000])
async def test_a_line_that_is_not_understood_ends_the_stream(at, script, tmp_path, line):
    text = f"import os, signal\nopen('pid', 'w').write(str(os.getpid()))\nprint({line!r}, flush=True)\nsignal.pause()"
    watch = at("ci", ci_watch=[script(text)], max_output=4096).watch()
    with pytest.raises(Garbled):
        await anext(watch)
    await gone([int((tmp_path / "pid").read_text())])


async def test_a_flood_of_lines_arrives_whole_and_does_not_pile_up(script, tmp_path):
    name = script("for n in range(30000): print(f'{n:06} ' + 'x' * 100)")
    heard = 0
    async for item in _process.stream([str(tmp_path / name)], tmp_path, dict(os.environ), b"", most=100_000):
        if isinstance(item, _process.Ended):
            assert item.code == 0
            break
        assert sum(map(len, item)) < 400_000
        assert int(item[0][:6]) == heard
        heard += len(item)
        if heard < 10_000:
            await asyncio.sleep(0.05)  # a slow reader
    assert heard == 30000


async def test_passed_log_and_cancel(at, script, tmp_path):
    text = """
import json, os
answers = {
    "ci_passed": {"state": "no", "words": "unit: 3 failed"},
    "ci_log": {"lines": ["one", "two \\x1b[2J"], "next": 7, "done": True},
    "ci_cancel": "r1",
}
assert os.environ.get("ANDON_START", "5") == "5"
print(json.dumps(answers[os.environ["ANDON_DO"]]))
"""
    name = script(text)
    ci = at("ci", ci_passed=[name], ci_log=[name], ci_cancel=[name])
    assert (await ci.passed("3f2a")).state == "no"
    part = await ci.log("r1", "unit", 5)
    assert (part.lines, part.next, part.done) == (("one", "two \ufffd[2J"), 7, True)
    assert await ci.cancel("r1", WHY) == Accepted('"r1"')


METRIC = Metric("conversion", "own", "proportion", "falls", "orders [/]", "checkouts")


def buckets(*rows: object) -> str:
    return printing(*(dict(zip(("at", "value", "n"), row, strict=False)) for row in rows))


@pytest.mark.parametrize(
    ("text", "state", "count"),
    [
        (buckets((1200, 9, 10), (1260, 8, 10), (1320, 0, 0)), "ok", 3),
        (buckets((1320, 7, 10), (1260, 8, 10), (1200, 9, 10)), "ok", 3),
        (buckets((1140, 1, 1), (1200, 9, 10), (1260, 8, 10), (1320, 7, 10), (1380, 1, 1)), "ok", 3),
        (buckets((1200, 9, 10), (1320, 7, 10)), "partial", 2),
        (buckets((1140, 1, 1), (1380, 1, 1)), "empty", 0),
        ("pass", "empty", 0),
    ],
)
async def test_what_a_metric_leaves_out_is_missing_and_not_zero(at, script, text, state, count):
    samples = await at("metrics", samples=[script(text)]).samples(METRIC, 1200, 1380, 60)
    assert (samples.state, len(samples.rows)) == (state, count)
    assert [row.at for row in samples.rows] == sorted(row.at for row in samples.rows)


async def test_a_metrics_script_is_told_what_is_asked(at, script):
    text = """
import json, os
asked = [os.environ[f"ANDON_{name}"] for name in ("METRIC", "VALUE", "N", "START", "END", "EVERY")]
assert asked == ["conversion", "orders [/]", "checkouts", "1200", "1380.5", "60"], asked
print(json.dumps({"at": 1200, "value": 9.5, "n": 10}))
"""
    samples = await at("metrics", samples=[script(text)]).samples(METRIC, 1200, 1380.5, 60)
    assert samples.rows == (Sample(1200.0, 9.5, 10.0),)


@pytest.mark.parametrize(
    "text",
    [
        buckets((1210, 9, 10)),
        buckets((1200, 9)),
        buckets((1200, 9, -1)),
        buckets((1200, "9", 10)),
        buckets((1200, None, 10)),
        'print(\'{"at": 1200, "value": NaN, "n": 1}\')',
        'print(\'{"at": 1200, "value": 1e999, "n": 1}\')',
        'print(\'{"at": 1e999, "value": 1, "n": 1}\')',
        'print(\'{"at": 1200, "value": 9, "n": 10}\\n{"at": 12\')',
    ],
)
async def test_a_number_that_cannot_be_meant_is_garbled(at, script, text):
    with pytest.raises(Garbled):
        await at("metrics", samples=[script(text)]).samples(METRIC, 1200, 1380, 60)


async def test_a_notifier_is_told_the_whole_note(at, script, tmp_path):
    note = Note("shop", "shop stopped [/]", "conversion fell", "n1", "stopped", "immune", ("ann", "bo"), 100.0)
    target = at("notify", tell=[script("import sys; open('told', 'w').write(sys.stdin.read()); print('m1')")])
    assert await target.tell(note) == Accepted("m1")
    told = json.loads((tmp_path / "told").read_text())
    assert (told["title"], told["authors"], told["key"]) == ("shop stopped [/]", ["ann", "bo"], "n1")


async def test_whoami_names_what_cannot_be_started(at, script):
    said = printing({"account": "deployer", "server": "web-7", "found": ["ssh"], "missing": ["sudo"], "clock": 7.5})
    identity = await at("deploy", whoami=[script(said)], current=["./nowhere"]).whoami()
    assert (identity.account, identity.clock) == ("deployer", 7.5)
    assert identity.missing == ("sudo", "current: ./nowhere is no program that can be started")
    assert (await at("deploy", current=["true"]).whoami()).missing == ()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"deploy": "release"}, "array"),
        ({"deploy": []}, "length"),
        ({"deploy": ["x"]}, "deploy needs current or history"),
        ({"halt": ["x"]}, "go together"),
        ({"limit_s": 60}, "15"),
        ({"env": {"A B": "x"}}, "no name for a variable"),
        ({"env": {"ANDON_KEY": "x"}}, "begin with ANDON_"),
        ({"env": {"TOKEN": "file:"}}, "by reference"),
        ({"depoy": ["x"]}, "depoy"),
    ],
)
def test_options_that_cannot_work_are_refused(options, words):
    with pytest.raises(msgspec.ValidationError, match=words):
        msgspec.convert(options, ADAPTER.options, strict=True)


# The suite that every adapter passes, over one script that keeps what it is told in files.

EVERYTHING = """
import json, os, sys, time
told = json.load(sys.stdin)
do = told["do"]

def line(**words):
    print(json.dumps(words))

if do == "whoami":
    line(account="deployer [/]", server="own 1.0", clock=time.time())
elif do == "ci_watch":
    for number, id_ in enumerate(("4f2a", "3f2a")):
        line(change={"id": id_, "title": "fix [/] \\x1b]0;x\\x07", "at": float(number)})
        jobs = [{"name": "unit", "state": "passed", "log": "unit"}]
        stages = [{"name": "test", "station": "test", "state": "passed", "jobs": jobs}]
        line(run={"id": f"r{number}", "change": id_, "state": "passed", "ended_at": 2.0, "stages": stages})
elif do == "ci_passed":
    line(state="yes" if told["change"] in ("4f2a", "3f2a") else "unknown")
elif do == "ci_log":
    lines = ["one", "two \\u202e", "three"][told["start"]:]
    line(lines=lines, next=told["start"] + len(lines), done=True)
elif do == "ci_cancel":
    sys.exit("there is no run " + told["run"])
elif do == "halt":
    for name in told["halts"]:
        open(f"{name}.note", "a").write(f"andon hold {told['hold']} by {told['who']}: {told['why']}")
elif do == "release":
    for part in told["before"]["parts"]:
        part["halted"] or os.remove(f"{part['name']}.note")
elif do == "halted":
    notes = {name: open(f"{name}.note").read() if os.path.exists(f"{name}.note") else "" for name in told["halts"]}
    line(parts=[{"name": name, "halted": bool(note), "note": note} for name, note in notes.items()])
elif do == "samples" and told["metric"] == "conversion":
    at = told["start"]
    while at + told["every"] <= told["end"]:
        line(at=at, value=9.0, n=10.0)
        at += told["every"]
elif do == "tell":
    open("told", "a").write(told["key"] + "\\n")
    print(told["key"])
"""
DONE_BY_IT = (*("ci_watch", "ci_passed", "ci_log", "ci_cancel"), *("halt", "release", "halted", "samples", "tell"))


class Own:
    """Opens a station over that script."""

    station = ""

    @contextlib.asynccontextmanager
    async def opened(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "everything"
            path.write_text(PYTHON + EVERYTHING)
            path.chmod(0o755)
            options = msgspec.convert({do: ["./everything"] for do in (*DONE_BY_IT, "whoami")}, ADAPTER.options)
            context = Context(name="own", folder=Path(folder), clock=WallClock(), state=Path(folder))
            place = Place("shop", "production", ("gate", "stage"))
            source = getattr(ADAPTER, self.station).open(ADAPTER.connect(options, context), NoOptions(), place)
            yield source
            await source.close()


class TestOwnCI(Own, CIContract):
    station = "ci"


class TestOwnHaltingCI(Own, HaltingContract):
    station = "ci"


class TestOwnHaltingDeploy(Own, HaltingContract):
    station = "deploy"


class TestOwnMetrics(Own, MetricsContract):
    station = "metrics"
    metric = METRIC
    nothing = Metric("nothing", "own", "gauge", "rises", "none")


class TestOwnNotifier(Own, NotifierContract):
    station = "notify"


async def test_the_documents_example_works_as_it_stands(at, script, tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / "docs" / "command-adapter.md").read_text()
    web = text.partition("```sh\n")[2].partition("```")[0]
    web = web.replace("/var/lib/web/deployments", str(tmp_path / "deployments")).replace("/builds/", f"{tmp_path}/")
    (tmp_path / "3f2a").mkdir()
    for name in ("rsync", "ssh"):
        script(f"#!/bin/sh\necho {name} $* >>'{tmp_path}/did'\n", name)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    scripts = {do: [script(web, "web"), do] for do in ("deploy", "current", "history")}
    target = at("deploy", **scripts, env={"HOST": "web-7"})
    assert await target.current() is None
    assert await target.history(5) == []
    assert await ship(target) == Accepted("d1")
    assert await ship(target, version="none") == Refused("there is no build none")
    assert await ship(target) == Accepted("d2")
    assert (await target.current()).id == "d2"
    assert [row.id for row in await target.history(5)] == ["d2", "d1"]
    assert "ssh web-7 systemctl restart web" in (tmp_path / "did").read_text()
