"""The benchmarks run. What they measure is for people to read: no test asserts a speed."""

import json

import pytest

from benchmarks import figures


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
