"""The first config: asked for in a terminal or taken whole, tried, written once, and never more than advice and a stop."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from andon import config as configs
from tests.pty_harness import Program
from tui.beginning import git_remote

ANDON = Path(sys.executable).with_name("andon")
SECRET = "ghp_0123456789abcdefghij"


@pytest.fixture
def place(empty_home) -> Path:
    return empty_home / ".config" / "andon" / "andon.yaml"


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A folder with a git remote, whose address holds a password."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    url = f"https://me:{SECRET}@github.com/acme/Check_Out.git"
    subprocess.run(["git", "-C", tmp_path, "remote", "add", "origin", url], check=True)
    return tmp_path


def init(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [ANDON, "init", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stdout + done.stderr
    return done


PLANT = ("--yes", "--set", "adapter=plant")


def test_a_config_is_written_that_its_reader_takes_and_that_rolls_nothing_back(place, checkout):
    done = init(checkout, *PLANT)
    assert done.returncode == 0
    assert "The git remote here is github.com/acme/Check_Out." in done.stderr
    assert "✓ check-out/plant" in done.stdout
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    text = place.read_text()
    assert SECRET not in text
    assert "rollback" not in text
    assert "on_regression: stop" in text
    found = configs.load(place)
    assert list(found.lines) == ["check-out"]
    assert found.lines["check-out"].halting
    assert not found.warnings


def test_it_ends_in_the_check_and_with_its_exit_code(place, checkout):
    done = init(checkout, *PLANT, "--set", "prometheus=http://127.0.0.1:9", "--set", "query=up", "--json")
    assert done.returncode == 1
    assert "prometheus: gone" in done.stderr  # tried before anything was written
    assert '"source":"prometheus","ok":false' in done.stdout
    assert all(metric.on_regression == "stop" for metric in configs.load(place).lines["check-out"].metrics)


def test_what_is_there_is_never_overwritten(place, checkout):
    for make in (lambda: place.write_text("mine"), lambda: place.symlink_to("/none")):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        make()
        done = init(checkout, *PLANT)
        assert (done.returncode, done.stdout) == (2, "")
        assert "is there already, and is never overwritten" in done.stderr
    assert place.is_symlink()


def test_a_link_or_a_file_that_appears_meanwhile_is_not_followed(tmp_path, monkeypatch):
    from andon.yamlfile import FileError
    from tui.beginning import _write

    target = tmp_path / "other"
    (tmp_path / "link").symlink_to(target)
    for path in (tmp_path / "link", tmp_path):
        with pytest.raises(FileError, match="cannot be written"):
            _write(path, b"x")
    assert not target.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "init asks questions, and there is no terminal: --yes takes its suggestions"),
        (("--yes", "--set", "adapter=zz"), "adapter: there are "),
        (("--yes", "--set", "line=No Name"), "line: a name has 1 to 40 of a-z, 0-9 and -"),
        ((*PLANT, "--set", "nosuch=1"), "--set nosuch: nothing of that name was asked"),
        (("--yes", "--set", "x"), "'x' is no KEY=VALUE"),
        (("--yes", "--set", "adapter=buildbot"), "buildbot.url: it is needed; give it with --set buildbot.url=…"),
        (
            (*PLANT, "--set", "prometheus=http://x", "--set", "query=up", "--set", "kind=mood"),
            "kind: one of proportion",
        ),
        ((*PLANT, "--set", "prometheus=http://x"), "query: it is needed"),
    ],
)
def test_what_does_not_fit_is_said_and_nothing_is_written(words, said, place, checkout):
    done = init(checkout, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert not place.exists()


def test_a_secret_given_by_its_value_is_refused_and_not_repeated(place, checkout):
    given = ("--set", "buildbot.url=http://127.0.0.1:9", "--set", f"buildbot.token={SECRET}")
    done = init(checkout, "--yes", "--set", "adapter=buildbot", *given, "--set", "buildbot.ci.builders={b: build}")
    assert done.returncode == 2
    assert not place.exists()


def test_questions_are_asked_in_a_terminal_and_asked_again_when_an_answer_does_not_fit(place, checkout):
    with Program([ANDON, "init"], cwd=checkout, columns=110, rows=40) as program:
        for asked, answer in (
            ("Name of the line [check-out]: ", "No Way\r"),
            ("a name has 1 to 40 of a-z, 0-9 and -", "shop\r"),
            ("Its environment [production]: ", "\r"),
            ("What builds and ships it (", "plantt\r"),
            ("  there are ", "plant\r"),
            ("halted by a stop (names, with commas) [deploy]: ", "\r"),
            ("Address of a Prometheus", "\r"),
        ):
            program.wait_for(asked.rstrip(), 30)
            program.type(answer)
        assert program.exit_code(30) == 0
        assert "✓ shop/plant" in program.text
    assert list(configs.load(place).lines) == ["shop"]


def test_who_leaves_in_the_middle_leaves_nothing(place, checkout):
    for keys, code in (("\x03", 130), ("\x04", 2)):
        with Program([ANDON, "init"], cwd=checkout, columns=110) as program:
            program.wait_for("Name of the line", 30)
            program.type(keys)
            assert program.exit_code(30) == code
        assert not place.exists()


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://github.com/acme/checkout.git", ("github.com", "acme/checkout")),
        ("https://me:pw@github.com/acme/checkout", ("github.com", "acme/checkout")),
        ("git@github.com:acme/checkout.git", ("github.com", "acme/checkout")),
        ("ssh://git@git.acme.org:2222/team/deep/shop.git", ("git.acme.org", "team/deep/shop")),
        ("/srv/git/shop.git", None),
        ("https://x/\x1b]0;x\x07", None),
        ("", None),
    ],
)
def test_the_remote_is_known_without_names_and_passwords(url, found, tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "config", "remote.origin.url", url], check=True)
    assert git_remote(tmp_path) == found


def test_a_folder_without_git_has_no_remote(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_remote(tmp_path) is None
    monkeypatch.setenv("PATH", "/none")
    assert git_remote(tmp_path) is None
