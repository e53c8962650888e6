"""However a process breaks, it says so, ends with a code that says so, and shows no secret: on no screen and in no log."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.canaries import TOKENS, found_in
from tests.crash_sites import FATAL, QUIET

ROOT = Path(__file__).parents[1]


def broken(folder: Path, *sites: str, mutant: str = "") -> None:
    """Break a process at each of these sites."""
    code = f"import runpy, sys; sys.argv[0] = 'x'\n{mutant}\nrunpy.run_module('tests.crash_sites', run_name='__main__')"
    argv = [sys.executable, "-c", code, str(folder), *sites]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not found_in(done.stdout.encode() + done.stderr.encode())


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ends")
    broken(folder, *FATAL, *QUIET)
    return folder


def seen(folder: Path, site: str) -> bytes:
    return (folder / f"{site}.out").read_bytes() + (folder / f"{site}.log").read_bytes()


def test_there_are_enough_sites():
    assert len(FATAL) >= 40


@pytest.mark.parametrize("site", FATAL)
def test_what_breaks_shows_no_secret_and_does_not_end_with_0(site, ends):
    assert found_in(seen(ends, site)) == []
    assert int((ends / f"{site}.code").read_text()) == (-6 if site == "abort" else 1)
    if site != "abort":
        printed = (ends / f"{site}.out").read_text()
        assert printed.count("\n") == 1, printed
        assert printed.startswith("andon broke: ")
        assert " in " in (ends / f"{site}.log").read_text(), "the log says where"


@pytest.mark.parametrize("site", QUIET)
def test_what_goes_on_is_told_without_a_secret(site, ends):
    assert found_in(seen(ends, site)) == []
    assert int((ends / f"{site}.code").read_text()) == 0
    assert seen(ends, site)


def test_no_core_is_dumped(ends):
    pattern = Path("/proc/sys/kernel/core_pattern")
    assert not [path for path in ends.iterdir() if path.name.startswith("core")]
    if pattern.exists() and (named := Path(pattern.read_text().strip())).is_absolute():
        assert not list(named.parent.glob(f"*core*{os.getpid()}*"))


PLUGIN = """\
import asyncio
from andon import hiding
from andon.registry import Adapter, NoOptions, Station
from tests.canaries import TOKENS, echo
class Broken:
    can = None
    async def whoami(self):
        while len(hiding._known) < len(TOKENS):
            await asyncio.sleep(0.01)
        told = " ".join(map(echo, reversed(TOKENS.values())))
        raise RuntimeError(told)
    async def close(self):
        pass
ADAPTER = Adapter("broken", "Broken", NoOptions, lambda options, context: None,
                  ci=Station(NoOptions, lambda connection, options, place: Broken()))
"""


def test_a_command_that_breaks_says_so_in_one_piece_without_a_secret_and_ends_with_2(tmp_path, monkeypatch):
    """`andon check` over a plug-in that fails where no adapter may."""
    (tmp_path / "broken_x.py").write_text(PLUGIN)
    (tmp_path / "broken-1.0.dist-info").mkdir()
    (tmp_path / "broken-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (tmp_path / "broken-1.0.dist-info" / "entry_points.txt").write_text("[andon.adapters]\nx = broken_x:ADAPTER\n")
    env = "{" + ", ".join(f"{kind.upper()}: 'env:CANARY_{kind}'" for kind in TOKENS) + "}"
    config = tmp_path / "andon.yaml"
    config.write_text(
        f"connections: {{own: {{adapter: command, current: ['true'], whoami: ['true'], env: {env}}},\n"
        "  x: {adapter: 'broken:x'}}\n"
        "lines: {checkout: {deploy: {from: own}, ci: [{from: x}]}}\n"
    )
    config.chmod(0o600)
    for kind, token in TOKENS.items():
        monkeypatch.setenv(f"CANARY_{kind}", token)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    argv = [sys.executable, "-m", "tui", "-c", str(config), "--ledger", str(tmp_path / "state" / "l.db"), "check"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("andon broke: RuntimeError in broken_x.py:11 (whoami)")
    assert found_in(done.stderr.encode()) == []


MUTANTS = {
    "nothing is remembered": "import andon.secret; andon.secret.remember = lambda secret: None",
    "errors are printed as Python does": "import tui.leaving; tui.leaving.guard_crashes = lambda path: None",
    "the log hides nothing": "import tui.leaving; tui.leaving.hide = lambda text: text",
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_shows_them(mutant, tmp_path):
    broken(tmp_path, "main", mutant=MUTANTS[mutant])
    assert found_in(seen(tmp_path, "main"))
