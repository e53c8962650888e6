"""`status` and `gate` start light: what they need of a config is remembered, and never used for another one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.sqlite import SqliteLedger
from andon import config as configs
from andon.clock import WallClock
from tests.ledgers import lifted, placed
from tui import remembered

ANDON = Path(sys.executable).with_name("andon")
CONFIG = """
connections:
  shop: {{adapter: command, deploy: [deploy], current: [current]}}
lines:
  {name}: {{deploy: {{from: shop, halts: [everything]}}}}
ledger: ledger.db
"""


HEAVY = {"themes", "textual", "httpx", "adapters.command", "andon.engine", "tui.acting"}
HEAVY |= {"yaml", "asyncio", "importlib.metadata", "andon.config"}


class Shop:
    """A config, its ledger, and the commands that look."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "andon.yaml"
        self.write("shop")
        ledger = SqliteLedger(folder / "ledger.db", WallClock())
        ledger.commit(placed("h1", line="shop"), placed("h2", line="store"), lifted("h2", line="store"))
        ledger.close()

    def write(self, name: str) -> None:
        self.config.write_text(CONFIG.format(name=name))
        self.config.chmod(0o600)

    def do(self, *words: str) -> tuple[int, str, str]:
        command = [ANDON, "-c", self.config, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    def loads(self, *words: str) -> set[str]:
        """The modules that a command has loaded at its end."""
        code = "import sys; from tui.__main__ import main; main(); print('\\n' + ' '.join(sys.modules))"
        command = [sys.executable, "-c", code, "-c", self.config, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return set(done.stdout.splitlines()[-1].split())

    @property
    def kept(self) -> Path:
        """The file in which the config is remembered."""
        (found,) = (Path(os.environ["XDG_CACHE_HOME"]) / "andon").iterdir()
        return found


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@pytest.mark.parametrize("words", [("status",), ("status", "shop", "--json"), ("gate", "shop")])
def test_what_is_remembered_gives_the_same_answer(shop, words):
    first = shop.do(*words)
    assert first[0] == 1
    assert shop.kept.stat().st_mode & 0o777 == 0o600
    strip = [line.split(" h1")[0] for line in first[1].splitlines()]
    again = shop.do(*words)
    assert (again[0], [line.split(" h1")[0] for line in again[1].splitlines()]) == (first[0], strip)


def test_a_config_that_was_read_before_is_not_read_again(shop):
    assert "adapters.command" in shop.loads("status")
    assert not HEAVY & shop.loads("status")


def test_another_config_at_the_same_place_is_read(shop):
    shop.do("status")
    shop.write("store")
    code, words, _ = shop.do("status")
    assert "store" in words
    assert "shop" not in words
    assert code == 2
    shop.config.write_text("lines: [")
    code, _, error = shop.do("status")
    assert (code, "andon.yaml:" in error) == (2, True)


def test_a_line_that_is_not_there_is_said(shop):
    shop.do("status")
    code, _, error = shop.do("gate", "shp")
    assert code == 2
    assert 'did you mean "shop"?' in error


def test_a_config_that_others_can_write_is_refused_also_when_it_is_remembered(shop):
    assert shop.do("status")[0] == 1
    shop.config.chmod(0o666)
    code, _, error = shop.do("status")
    assert code == 2
    assert "others can write to it" in error


FACTS = remembered.Facts("ledger.db", {"shop": remembered.Line((remembered.Target("ci", 5.0),))})


def harm_mode(file: Path) -> None:
    file.chmod(0o666)


def harm_link(file: Path) -> None:
    file.rename(file.with_name("elsewhere"))
    file.symlink_to(file.with_name("elsewhere"))


def harm_cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def harm_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)


def harm_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def harm_owner(file: Path) -> None:
    if os.getuid():
        pytest.skip("only root can give a file away")
    os.chown(file, 12345, 12345)


@pytest.mark.parametrize("harm", [harm_mode, harm_link, harm_cut, harm_pipe, harm_folder, harm_owner])
def test_what_may_not_be_as_it_was_left_is_not_used_and_hinders_nothing(tmp_path, harm):
    path = tmp_path / "andon.yaml"
    remembered.remember(path, b"content", FACTS)
    assert remembered.recall(path, b"content") == FACTS
    (file,) = (Path(os.environ["XDG_CACHE_HOME"]) / "andon").iterdir()
    harm(file)
    assert remembered.recall(path, b"content") is None
    remembered.remember(path, b"content", FACTS)


@pytest.mark.parametrize(
    ("path", "content"), [("andon.yaml", b"content "), ("other.yaml", b"content")], ids=["content", "path"]
)
def test_another_content_or_place_is_another_config(tmp_path, path, content):
    remembered.remember(tmp_path / "andon.yaml", b"content", FACTS)
    assert remembered.recall(tmp_path / path, content) is None


def test_another_version_reads_the_config_anew(tmp_path, monkeypatch):
    remembered.remember(tmp_path / "andon.yaml", b"content", FACTS)
    monkeypatch.setattr(remembered, "VERSION", "0.2.0")
    assert remembered.recall(tmp_path / "andon.yaml", b"content") is None


def test_where_nothing_can_be_kept_nothing_is_lost(shop, monkeypatch):
    for folder in ("/proc/andon", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", folder)
        assert shop.do("status")[0] == 1
    assert not Path("relative").exists()


def test_what_is_kept_of_a_config_is_what_a_state_depends_on(shop):
    facts = remembered.facts(configs.load(shop.config))
    assert facts == remembered.Facts(
        "ledger.db", {"shop": remembered.Line((remembered.Target("shop/everything", 5.0),))}
    )
    assert facts.lines["shop"].targets == ("shop/everything",)
