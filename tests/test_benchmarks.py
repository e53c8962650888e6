"""The benchmarks run. What they measure is for people to read: no test asserts a speed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import figures, ledger_speed, noise
from benchmarks.quiet_shop import QuietShop

ROOT = Path(__file__).parents[1]


def test_a_figure_is_measured_and_says_the_command_that_gives_it_again(capsys):
    assert figures.main(["version", "--rounds", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (figure,) = found["figures"]
    assert figure["command"] == "python -m benchmarks.figures version --rounds 1"
    plain, andon = figure["rows"]
    assert (andon["case"], andon["base"], andon["n"]) == ("andon --version", plain["case"], 1)
    assert andon["ratio"] == pytest.approx(andon["median"] / plain["median"])


def test_a_figure_that_does_not_exist_is_named(capsys):
    with pytest.raises(SystemExit) as ended:
        figures.main(["speed"])
    assert ended.value.code == 2
    assert "no figure 'speed'; there are start, version" in capsys.readouterr().err


def test_what_is_promised_of_the_ledger_stands_beside_what_was_measured(monkeypatch):
    measured = {**dict.fromkeys(ledger_speed.LIMITS, 3.0), "act_commit_median_ms": 2.0}
    monkeypatch.setattr(ledger_speed, "measure", lambda: measured)
    found = {row.case: (row.unit, row.median, row.note) for row in figures.ledger(2)}
    assert found["act commit p99"] == ("ms", 3.0, "promised: at most 20")
    assert found["observations"] == ("/s", 3.0, "promised: at least 5000")
    assert found["act commit median"] == ("ms", 2.0, "")


def test_the_quiet_shop_is_one_that_the_adapters_understand(tmp_path):
    """Else every figure of a room would be that of a room whose sources are gone."""
    with QuietShop(tmp_path) as shop:
        done = subprocess.run([*shop.argv[:3], "check"], env=shop.env, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_the_noise_is_whole_states_of_runs_evenly_over_its_lines(tmp_path):
    for name in noise.names(2):
        os.mkfifo(tmp_path / name)
    argv = [sys.executable, "-m", "benchmarks.noise", str(tmp_path), "2", "500"]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, text=True) as process:
        pipes = [(tmp_path / name).open(encoding="utf-8") for name in noise.names(2)]
        told = [[json.loads(pipe.readline())["run"] for _ in range(4)] for pipe in pipes]
        process.communicate()
        for pipe in pipes:
            pipe.close()
    assert process.returncode == 0
    for runs in told:
        assert [(run["id"], run["state"]) for run in runs] == [
            ("r0", "waiting"),
            ("r0", "running"),
            ("r0", "passed"),
            ("r1", "waiting"),
        ]
