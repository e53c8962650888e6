"""One line for a prompt or a status line, and what a shell completes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.sqlite import SqliteLedger
from andon.clock import WallClock
from tests.ledgers import placed
from tests.test_looking import HEAVY, Shop
from tui import brief
from tui.cli import parser
from tui.completion import SHELLS, tree

ANDON = Path(sys.executable).with_name("andon")


@pytest.mark.parametrize(
    ("states", "since", "watched", "words"),
    [
        ({"shop": "running"}, {}, True, "● shop"),
        ({"shop": "running", "mail": "running"}, {}, True, "● 2"),
        ({"shop": "stopped", "mail": "running"}, {"shop": 640.0}, True, "■ shop stopped 6m"),
        ({"shop": "stopping"}, {"shop": 960.0}, True, "■ shop stopping 40s"),
        ({"shop": "stopped"}, {}, True, "■ shop stopped"),
        (
            {"shop": "stopped", "mail": "stopped", "pay": "stopping"},
            {"shop": 900.0, "mail": 100.0},
            True,
            "■ mail +2 stopped 15m",
        ),
        ({"shop": "unknown", "mail": "running"}, {}, True, "? shop"),
        ({"shop": "unknown", "mail": "unknown"}, {}, True, "? shop +1"),
        ({"shop": "unknown"}, {}, False, "✗ nobody watches"),
        ({"shop": "stopped", "mail": "unknown"}, {"shop": 640.0}, False, "■ shop stopped 6m ✗ nobody watches"),
        ({"shop": "stopped", "mail": "unknown"}, {"shop": 640.0}, True, "■ shop stopped 6m ? mail"),
    ],
)
def test_the_line_says_the_worst_first(states, since, watched, words, monkeypatch):
    class Stdout:
        encoding = "utf-8"

    monkeypatch.setattr("sys.stdout", Stdout())
    assert brief.line("prompt", states, since, 1000.0, watched=watched) == words
    coloured = brief.line("tmux", states, since, 1000.0, watched=watched)
    assert coloured.count("#[fg=") == coloured.count("#[default]") == sum(words.count(sign) for sign in "●■?✗")
    Stdout.encoding = "ascii"
    assert brief.line("prompt", states, since, 1000.0, watched=watched).isascii()
    assert "## " in brief.line("tmux", {"shop": "stopped"}, {}, 1000.0, watched=True)  # tmux eats a single one


def test_the_command_prints_one_line_with_the_exit_codes_of_status_and_stays_light(tmp_path):
    shop = Shop(tmp_path)  # h1 holds the line, and nobody watches
    for form, words in (("prompt", "■ shop stopping "), ("tmux", "#[fg=red]■ shop stopping ")):
        code, out, err = shop.do("status", "--format", form)
        assert (code, err, out.count("\n")) == (1, "", 1)
        assert out.startswith(words)
        assert "nobody watches" in out
    assert shop.do("status", "--json", "--format", "tmux")[0] == 2
    assert shop.do("status", "--format", "zsh")[0] == 2
    assert not shop.loads("status", "--format", "prompt") & HEAVY


def test_a_config_that_is_none_is_2_and_nothing_on_stdout(tmp_path):
    done = subprocess.run([ANDON, "status", "--format", "prompt"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "`andon init` writes one, `andon demo` shows a room without one" in done.stderr


def test_a_reason_of_a_stranger_is_not_in_the_line(tmp_path):
    shop = Shop(tmp_path)
    ledger = SqliteLedger(tmp_path / "ledger.db", WallClock())
    ledger.commit(placed("h9", line="shop", owner="#(rm -rf ~)$(x)`y`"))
    ledger.close()
    assert not set("()$`") & set(shop.do("status", "--format", "tmux")[1])


# ---- completion


@pytest.fixture(scope="module")
def scripts() -> dict[str, str]:
    return {
        shell: subprocess.run([ANDON, "completion", shell], capture_output=True, text=True, check=True).stdout
        for shell in SHELLS
    }


def test_every_command_and_every_option_is_in_every_script(scripts):
    whole, commands = tree(parser())
    assert {"status", "pull", "replay", "init", "completion"} <= set(commands)
    for shell, text in scripts.items():
        for part in (whole, *commands.values()):
            for option in part.options:
                for name in option.names:
                    shown = name if shell != "fish" else f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"
                    assert shown in text, (shell, name)
        for name in commands:
            assert name in text


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["st"], {"status"}),
        (["-c", "status", "ga"], {"gate"}),
        (["status", "--f"], {"--format"}),
        (["status", "--format", ""], {"tmux", "prompt"}),
        (["completion", "z"], {"zsh"}),
        (["mark", "a", "b", "f"], {"faulty"}),
        (["--re"], {"--read-only"}),
        (["pull", "--re"], {"--reason"}),
        (["nosuch", ""], set()),
    ],
)
def test_bash_completes(words, offered, scripts, tmp_path):
    bash = shutil.which("bash")
    assert bash
    script = tmp_path / "andon.bash"
    script.write_text(scripts["bash"])
    quoted = " ".join(f"'{word}'" for word in ("andon", *words))
    code = (
        f"source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words)}; _andon; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run([bash, "--norc", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert (set(done.stdout.split()), done.stderr) == (offered, "")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_script_is_one_for_that_shell(shell, scripts, tmp_path):
    if shutil.which(shell):  # else its words are all that can be looked at
        (tmp_path / "script").write_text(scripts[shell])
        subprocess.run([shell, "-n", tmp_path / "script"], check=True, capture_output=True)
    assert scripts[shell].count("'") % 2 == 0
    assert "\t" not in scripts[shell]
