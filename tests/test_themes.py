"""Themes: the loader's errors, and that what is read can be read: contrast and colour blindness, from the files."""

import math
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest
from textual.app import App, ComposeResult
from textual.color import Color
from textual.widgets import Static

import themes
from andon.yamlfile import FileError
from tests.helpers import until
from themes import ANSI, ROLES, load, names, to_textual
from tui.announcing import Announcer
from tui.panels.sheet import Ink

BUILT_IN = ("dark", "deuteranopia", "high-contrast", "light", "sixteen", "tritanopia")
TRUE_COLOUR = ("dark", "light", "deuteranopia", "tritanopia", "high-contrast")

# WCAG 2 ratios: text needs 4.5, a sign or a belt 3.
CONTRAST = {
    ("fg", "bg"): (15.8, 16.5, 15.8, 15.8, 21.0),
    ("mid", "bg"): (10.2, 9.5, 10.2, 10.2, 21.0),
    ("dim", "bg"): (6.3, 5.7, 6.3, 6.3, 13.6),
    ("dim", "raise"): (5.8, 5.1, 5.8, 5.8, 11.3),
    ("dim", "sel"): (5.4, 5.1, 5.4, 5.4, 9.4),
    ("ok", "bg"): (9.0, 5.8, 7.5, 9.4, 16.2),
    ("stop", "bg"): (7.4, 6.4, 8.2, 6.7, 10.3),
    ("warn", "bg"): (10.1, 5.7, 14.6, 11.5, 14.7),
    ("move", "bg"): (8.8, 6.4, 12.1, 12.3, 12.6),
    ("blind", "bg"): (8.8, 6.9, 10.4, 7.5, 12.3),
    ("rail", "bg"): (3.3, 3.2, 3.3, 3.3, 8.0),
    ("fg", "chip"): (11.7, 12.7, 11.7, 11.7, 13.2),
    ("fg", "movechip"): (10.9, 13.0, 10.0, 10.0, 11.8),
    ("stop", "stopchip"): (5.6, 4.8, 5.6, 5.0, 7.7),
    ("warn", "warnchip"): (6.4, 4.7, 8.7, 7.3, 9.2),
    ("onstop", "stopbg"): (7.4, 6.7, 5.1, 7.4, 8.4),
    ("onwarn", "warnbg"): (8.8, 10.0, 12.5, 8.8, 14.7),
    ("onblind", "blindbg"): (8.2, 7.2, 8.2, 8.6, 8.9),
    ("line", "band"): (10.1, 11.9, 10.5, 10.1, 16.0),
    ("stop", "band"): (5.5, 5.5, 6.3, 4.9, 7.8),
}
STATES = ("ok", "stop", "warn", "move", "blind")

# Machado, Oliveira and Fernandes 2009: what a deuteranope and a tritanope see, in linear light.
TRITANOPE = ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900))
DEUTERANOPE = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881))


def linear(colour: str) -> tuple[float, ...]:
    channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return tuple(c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)


def contrast(one: str, other: str) -> float:
    weights = (0.2126, 0.7152, 0.0722)
    low, high = sorted(sum(w * c for w, c in zip(weights, linear(colour), strict=True)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: tuple[float, ...]) -> tuple[float, float, float]:
    r, g, b = (min(1.0, max(0.0, c)) for c in rgb)
    x = (0.4124564 * r + 0.3575761 * g + 0.1804375 * b) / 0.95047
    y = 0.2126729 * r + 0.7151522 * g + 0.0721750 * b
    z = (0.0193339 * r + 0.1191920 * g + 0.9503041 * b) / 1.08883
    fx, fy, fz = (t ** (1 / 3) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116 for t in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def seen_apart(one: str, other: str, sight: tuple[tuple[float, ...], ...] = DEUTERANOPE) -> float:
    """How far apart two colours are for somebody with that sight (CIE 1976)."""
    seen = [
        tuple(sum(m * c for m, c in zip(row, linear(colour), strict=True)) for row in sight) for colour in (one, other)
    ]
    return math.dist(lab(seen[0]), lab(seen[1]))


def test_the_built_in_themes_are_there() -> None:
    assert names() == sorted(BUILT_IN)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_theme_has_each_role_once(name: str) -> None:
    theme = load(name)
    assert tuple(theme.colours) == ROLES
    assert len(ROLES) == len(set(ROLES)) == 25
    assert theme.name == name
    assert theme.ansi == (name == "sixteen")
    assert theme.dark == (name != "light")


@pytest.mark.parametrize("pair", CONTRAST, ids=" on ".join)
@pytest.mark.parametrize("name", TRUE_COLOUR)
def test_what_is_read_can_be_read(name: str, pair: tuple[str, str]) -> None:
    theme = load(name)
    ratio = contrast(theme[pair[0]], theme[pair[1]])
    assert ratio >= (3.0 if pair[0] == "rail" else 4.5)
    assert ratio == pytest.approx(CONTRAST[pair][TRUE_COLOUR.index(name)], abs=0.06)


@pytest.mark.parametrize(("name", "distance"), [("dark", 17), ("light", 25), ("deuteranopia", 116)])
def test_how_far_ok_and_stop_are_apart_for_a_deuteranope(name: str, distance: int) -> None:
    theme = load(name)
    assert seen_apart(theme["ok"], theme["stop"]) == pytest.approx(distance, abs=1.0)


@pytest.mark.parametrize("pair", tuple(combinations(STATES, 2)), ids=" ".join)
def test_in_the_colour_blind_themes_any_two_states_are_told_apart(pair: tuple[str, str]) -> None:
    for name, sight in (("deuteranopia", DEUTERANOPE), ("tritanopia", TRITANOPE)):
        theme = load(name)
        assert seen_apart(theme[pair[0]], theme[pair[1]], sight) >= 15


def test_high_contrast_is_seven_to_one_wherever_something_is_read() -> None:
    theme = load("high-contrast")
    assert min(contrast(theme[ink], theme[ground]) for ink, ground in CONTRAST) >= 7.0


def test_the_sixteen_colours_are_the_terminals_own() -> None:
    theme = load("sixteen")
    assert set(theme.colours.values()) <= ANSI
    assert {theme[role] for role in ("bg", "raise", "sel", "chip", "band")} == {"ansi_default"}
    assert len({theme[role] for role in STATES}) == 5


def test_every_ansi_name_is_one_of_textuals() -> None:
    for name in ANSI:
        assert Color.parse(name).ansi is not None


@pytest.mark.parametrize("name", BUILT_IN)
async def test_roles_are_css_variables(name: str) -> None:
    class Small(App[None]):
        CSS = "Screen { background: $bg; } #a { color: $onstop; background: $stopbg; border: round $rule; }"
        CSS += "#b { color: $line; background: $raise; } #c { color: $blind; background: $sel; }"

        def __init__(self) -> None:
            super().__init__()
            self.register_theme(to_textual(load(name)))
            self.theme = name

        def compose(self) -> ComposeResult:
            yield from (Static("x", id=key) for key in "abc")

    app = Small()
    async with app.run_test():
        theme = load(name)
        assert app.query_one("#a").styles.background == Color.parse(theme["stopbg"])
        assert app.query_one("#b").styles.color == Color.parse(theme["line"])
        assert app.screen.styles.background == Color.parse(theme["bg"])


def written(folder: Path, change: dict[str, str] | None = None, text: str = "") -> Path:
    """A theme file: dark with changed lines, or `text`."""
    lines = (themes.HERE / "dark.yaml").read_text().splitlines()
    for role, colour in (change or {}).items():
        lines = [line for line in lines if not line.startswith(f"  {role}:")]
        if colour:
            lines.append(f"  {role}: {colour}")
    path = folder / "mine.yaml"
    path.write_text(text or "\n".join(lines) + "\n")
    return path


def test_a_persons_own_theme_is_found_by_name_and_by_path(tmp_path: Path) -> None:
    path = written(tmp_path, {"ok": '"#00FF00"'})
    assert load("mine", tmp_path)["ok"] == "#00ff00"
    assert load(path) == load("mine", tmp_path)
    assert names(tmp_path) == [*sorted(BUILT_IN), "mine"]


def test_a_built_in_name_cannot_be_taken(tmp_path: Path) -> None:
    written(tmp_path, {"ok": '"#00ff00"'}).rename(tmp_path / "dark.yaml")
    assert load("dark", tmp_path) == load("dark")
    assert names(tmp_path) == sorted(BUILT_IN)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bgg": '"#000000"'}, 'colours.bgg: unknown role; did you mean "bg"?'),
        ({"zzz": '"#000000"'}, "colours.zzz: unknown role"),
        ({"ok": '"#12345"'}, "colours.ok: '#12345' is no colour"),
        ({"ok": "green"}, "colours.ok: 'green' is no colour"),
        ({"ok": "#00ff00"}, "colours.ok: None is no colour"),
        ({"ok": '["#000000"]'}, "colours.ok: ['#000000'] is no colour"),
        ({"ok": ""}, "colours: no colour for ok"),
    ],
)
def test_a_wrong_theme_says_where_and_what(tmp_path: Path, change: dict[str, str], words: str) -> None:
    path = written(tmp_path, change)
    with pytest.raises(FileError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}:")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a theme holds `colours:`"),
        ("[]", "a theme holds `colours:`"),
        ("colours: 1", "a theme holds `colours:`"),
        ("colours: {}\nfont: big", "font: unknown key"),
        ("dark: 1\ncolours: {}", "dark: must be true or false"),
        ("colours: {ok: '#000000', ok: '#000001'}", "twice"),
        ("ansi: true\ncolours: {ok: ansi_gren}", 'did you mean "ansi_green"?'),
        ("ansi: true\ncolours: {ok: [1]}", "none of the 16 colours"),
        ("x" * 70_000, "too large"),
    ],
    ids=range(9),
)
def test_what_is_no_theme_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(FileError) as caught:
        load(written(tmp_path, text=text or "# nothing\n"))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"), [("drak", 'did you mean "dark"?'), ("zzz", "there are dark"), ("a/b.yaml", "No such")]
)
def test_a_theme_that_is_not_there_is_named_with_what_is(name: str, words: str) -> None:
    with pytest.raises(FileError) as caught:
        load(name)
    assert words in str(caught.value)


# ---- in the room


async def test_a_theme_from_the_configs_folder_is_shown(tmp_path: Path) -> None:
    from msgspec.structs import replace

    from tests.room_helpers import shop

    with shop(tmp_path) as made:
        (made.config.folder / "themes").mkdir()
        written(made.config.folder / "themes", {"ok": '"#00ff00"'})
        made.config = replace(made.config, ascii=True, animations=False)
        room = made.room(theme="mine")
        assert room.painter.style(Ink("ok")).color.name == "#00ff00"
        assert room.painter.looks.ascii
        assert room.animation_level == "none"


def test_nothing_moves_over_ssh_and_a_notification_is_one_sequence() -> None:
    from tui.announcing import notification
    from tui.panels.looks import over_ssh

    assert over_ssh({"SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"})
    assert not over_ssh({})
    assert notification("mail stopped", {"TERM": "xterm-kitty"}) == "\x1b]9;andon: mail stopped\x07"
    assert notification("mail stopped", {"TERM": "foot"}) == "\x1b]777;notify;andon;mail stopped\x07"
    inside = notification("mail stopped", {"TERM": "tmux-256color", "TMUX": "x"})
    assert inside == "\x1bPtmux;\x1b\x1b]9;andon: mail stopped\x07\x1b\\"


@pytest.mark.parametrize("desktop", [False, True])
async def test_a_stop_is_told_to_the_desktop_only_where_that_was_asked_for(tmp_path: Path, desktop: bool) -> None:
    from tests.room_helpers import hold, shop

    with shop(tmp_path) as made:
        room = made.room()
        wrote: list[str] = []
        room.announcer = Announcer(lambda: wrote.append("bell"), wrote.append, desktop=desktop)
        async with room.run_test():
            await until(lambda: room.moment is not None)
            made.write(hold("mail", "bo", 1, "#(rm)"))
            await until(lambda: "bell" in wrote)
    told = [text for text in wrote if text.startswith("\x1b]9")]
    assert told == (["\x1b]9;andon: mail stopped\x07"] if desktop else [])


@pytest.mark.parametrize("theme", ["mine", "themes/mine.yaml"])
def test_a_bad_theme_of_ones_own_is_reported_by_file_and_key(theme: str, tmp_path: Path) -> None:
    (tmp_path / "themes").mkdir()
    path = written(tmp_path / "themes", {"bgg": '"#000000"'})
    given = theme if "/" not in theme else str(path)
    config = tmp_path / "andon.yaml"
    config.write_text(
        f"connections: {{s: {{adapter: plant}}}}\nlines: {{a: {{deploy: {{from: s}}}}}}\ntheme: {given}\n"
    )
    config.chmod(0o600)
    andon = Path(sys.executable).with_name("andon")
    done = subprocess.run([andon, "-c", config, "check"], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{config}:3:1: theme: {path}:")
    assert 'colours.bgg: unknown role; did you mean "bg"?' in done.stderr
