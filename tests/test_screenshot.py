"""A picture of the screen shows no secret, keeps its layout, and lies in a file that nobody else can read."""

import os
import stat
from pathlib import Path

import pytest
from textual.app import App

from andon import hiding
from andon.hiding import remember
from tests.canaries import TOKENS, found_in
from tests.helpers import HOSTILE, until
from tests.room_helpers import hold, incident, settle, shop
from tui import screenshot
from tui.screenshot import Screenshots, masked, save, stars


@pytest.fixture
def remembered(monkeypatch):
    monkeypatch.setattr(hiding, "_known", {})
    monkeypatch.setattr(hiding, "_forms", ())
    for token in TOKENS.values():
        remember(token)


def text_of(picture: str) -> str:
    """What a person reads in a picture."""
    return screenshot.unescape(" ".join(piece[5] for piece in screenshot._TEXT.finditer(picture))).replace("\xa0", " ")


@pytest.mark.parametrize("kind", TOKENS)
async def test_what_a_person_typed_is_masked_in_the_picture(kind, tmp_path, remembered, monkeypatch):
    with shop(tmp_path, hold("checkout", "ann", 40, f"it fails: {TOKENS[kind]} {HOSTILE[3]}")) as made:
        room = made.room()
        async with room.run_test(size=(160, 48)) as pilot:
            await settle(room, pilot)
            picture = room.export_screenshot()
            assert found_in(picture.encode()) == []
            assert TOKENS[kind][4:16] not in text_of(picture)
            assert "*" * (len(TOKENS[kind]) - 20) in text_of(picture)
            assert "it fails: " in text_of(picture)
            assert all(char.isprintable() or char.isspace() for char in picture)
            monkeypatch.setattr(screenshot, "stars", lambda text: text)  # the mutant: as it stands there
            assert TOKENS[kind] in text_of(room.export_screenshot())


@pytest.mark.parametrize("keys", [(), ("enter",), ("question_mark",), ("r",)])
async def test_what_the_room_says_is_not_masked(keys, tmp_path):
    with shop(tmp_path, *incident(), dips=("revenue/min",)) as made:
        room = made.room()
        async with room.run_test(size=(160, 48)) as pilot:
            await settle(room, pilot)
            await pilot.press(*keys)
            await settle(room, pilot)
            stock = App.export_screenshot(room)
            ours = room.export_screenshot()
            assert text_of(ours) == text_of(stock)
            assert ours.count("<text") == stock.count("<text")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abcdefgh", "Authorization: Bearer ********"),
        ("token=abcd1234 and more", "token=******** and more"),
        ('password: "hunter22"', 'password: "*********'),
        ("https://bo:pw@host/x", "https://*****@host/x"),
        ("ghp_abcdefghijkl", "****************"),
        ("AKIAIOSFODNN7EXAMPLE", "********************"),
        ("of 3f2a91c0d4e5b6a7988f, x", "of ********************, x"),
        ("payments 9c1d → 88e1 by immune", "payments 9c1d → 88e1 by immune"),
        ("checkout-eu-west-production", "checkout-eu-west-production"),
    ],
)
def test_what_looks_secret_is_as_many_stars(text, shown):
    assert stars(text) == shown


def piece(x: float, y: float, text: str) -> str:
    width = len(text) * 12.2
    return f'<text class="r1" x="{x}" y="{y}" textLength="{width:.1f}" clip-path="url(#l)">{text}</text>'


def test_a_secret_in_two_colours_is_masked_and_two_words_are_not_one(remembered):
    token = TOKENS["hex"]
    picture = f"<svg>{piece(0, 20, token[:30])}{piece(366, 20, token[30:])}{piece(0, 44, 'plain')}</svg>"
    assert masked(picture) == picture.replace(token[:30], "*" * 30).replace(token[30:], "*" * (len(token) - 30))
    apart = f"<svg>{piece(0, 20, 'abcdefghijkl')}{piece(200, 20, '1234567890')}</svg>"
    assert masked(apart) == apart


# ---- the file


def folder() -> Path:
    return Path(os.environ["XDG_STATE_HOME"]) / "andon" / "screenshots"


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("there", ["nothing", "open", "private"])
def test_a_picture_is_its_owners_alone(mask, there, empty_home):
    if there != "nothing":
        folder().mkdir(parents=True)
        folder().chmod(0o777 if there == "open" else 0o700)
    before = os.umask(mask)
    try:
        paths = [save(f"<svg>{number}</svg>") for number in (1,)]
    finally:
        os.umask(before)
    assert [path.read_text() for path in paths] == ["<svg>1</svg>"]
    assert stat.S_IMODE(paths[0].stat().st_mode) == 0o600
    assert stat.S_IMODE(folder().stat().st_mode) == 0o700
    if there == "nothing":
        made = [one for one in folder().parents if one.is_relative_to(empty_home) and one != empty_home]
        assert {stat.S_IMODE(one.stat().st_mode) for one in made} == {0o700}


def test_a_picture_follows_no_link_and_writes_over_nothing(tmp_path, monkeypatch):
    folder().parent.mkdir(parents=True)
    folder().symlink_to(tmp_path)
    with pytest.raises(OSError):
        save("<svg/>")
    assert list(tmp_path.iterdir()) == []
    folder().unlink()
    monkeypatch.setattr(screenshot.time, "time_ns", lambda: 0)
    monkeypatch.setattr(screenshot.time, "strftime", lambda *_: "now")
    save("<svg>first</svg>")
    with pytest.raises(FileExistsError):
        save("<svg>second</svg>")
    assert [path.read_text() for path in folder().iterdir()] == ["<svg>first</svg>"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away: run as root")
def test_a_folder_of_somebody_else_takes_no_picture():
    folder().mkdir(parents=True)
    os.chown(folder(), 12345, -1)
    with pytest.raises(PermissionError, match="belongs to somebody else"):
        save("<svg/>")


async def test_every_way_to_a_picture_is_ours(tmp_path, monkeypatch):
    """Textual's own are named by whoever asks, and by variables: none of them is heeded."""
    monkeypatch.chdir(tmp_path)
    with shop(tmp_path) as made:
        room, told = made.room(), []
        assert isinstance(room, Screenshots)
        monkeypatch.setattr(room, "notify", lambda words, **more: told.append((words, more)))
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            assert Path(room.save_screenshot("mine.svg", str(tmp_path))).parent == folder()
            room.deliver_screenshot("mine.svg", str(tmp_path))
            room.action_screenshot("mine.svg", str(tmp_path))
            assert len(list(folder().iterdir())) == 3
            assert not list(tmp_path.rglob("mine.svg"))
            assert [words.startswith(f"saved {folder()}") for words, _ in told] == [True, True]
            monkeypatch.setattr("platformdirs.user_state_path", lambda name: Path("state") / name)
            room.deliver_screenshot()
            assert told[-1][0] == "no picture was saved: the environment names no whole path for your state folder"
            assert all(more["markup"] is False for _, more in told)
    assert not list(tmp_path.rglob("*.svg"))


async def test_the_palette_offers_ours_and_not_textuals(tmp_path):
    with shop(tmp_path) as made:
        room = made.room()
        async with room.run_test(size=(80, 24)) as pilot:
            await settle(room, pilot)
            offered = [command for command in room.get_system_commands(room.screen) if "pictur" in command.title]
            assert [command.title for command in offered] == ["save a picture"]
            assert not [one for one in room.get_system_commands(room.screen) if "screenshot" in one.title.lower()]
            offered[0].callback()
            assert await until(lambda: folder().exists() and list(folder().iterdir()))


def test_canary_textual_has_these_ways_to_a_picture_and_no_other():
    assert {name for name in vars(App) if "screenshot" in name} == {
        "action_screenshot",
        "export_screenshot",
        "save_screenshot",
        "deliver_screenshot",
    }
