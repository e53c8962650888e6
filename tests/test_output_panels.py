"""Anything that anybody could write, in every panel: nothing breaks, nothing can be clicked, no label is pushed aside."""

import tempfile
import unicodedata
from pathlib import Path
from typing import Any

import pyte
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from textual.app import App, ComposeResult
from textual.widgets import Static

from andon.text import clean
from tests.helpers import HOSTILE, until, wait_until
from tests.hostile import Den, Say
from tests.room_helpers import screen_text
from tests.test_output_attacks import Tmux
from tests.test_text import FAMILIES, PAYLOADS, SCRIPTS
from tui.app import Room
from tui.panels.panel import Panel
from tui.panels.sheet import Sheet, width_of
from tui.panels.words import steady

HERE = Path(__file__).parent.parent
SIZES = [(150, 45), (80, 24), (60, 18), (100, 30), (20, 5)]

written = (
    st.text("[]/@=\"'()$\\{}: clickred.app\x1b\u202e\u200b日👩\u200d\ufe0f\u0301\n", max_size=40)
    | st.sampled_from([*HOSTILE, *PAYLOADS.values(), *SCRIPTS, *FAMILIES])
    | st.text(max_size=60)
)
"""What people write, with much of what markup is made of."""

UNIQUE = "CIcdefhil"
"""Surfaces that are ids: no vendor gives two things one."""


def saying(texts: list[str]) -> Say:
    """A text for each surface, of these."""

    def say(surface: str) -> str:
        text = texts[ord(surface) % len(texts)]
        return surface + text if surface in UNIQUE else text

    return say


def clickable(app: App[Any]) -> list[str]:
    """What is on the screen and would do something when it is clicked."""
    segments = [segment for strip in app.screen._compositor.render_strips() for segment in strip]
    return [found.text for found in segments if found.style and any(key.startswith("@") for key in found.style.meta)]


async def looked_at(texts: list[str], size: tuple[int, int]) -> None:
    """Every screen with these texts on it."""
    with tempfile.TemporaryDirectory() as folder:
        den = Den(Path(folder), ("a",), lambda _: saying(texts))
        room = Room(den.config, den.keeper, den.engine, den.clock)
        room.sight._opened -= 60
        try:
            async with room.run_test(size=size) as pilot:
                for keys in ((), ("enter",), ("r",), ("escape", "escape", "down"), ("enter",), ("x",)):
                    await pilot.press(*keys)
                    room.tell(texts[0], bad=True)
                    await pilot.pause()
                    room.redraw_soon()
                    await pilot.pause()
                    assert clickable(room) == []
                    assert [(item.id, item.failed) for item in room.screen.query(Panel) if item.failed] == []
                    assert "failed: " not in "".join(part for part in screen_text(room).split("\n") if "logged" in part)
                assert room._failed == set()
        finally:
            den.keeper.close()


SOME = settings(max_examples=13, deadline=None, suppress_health_check=list(HealthCheck))
ALL = settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
forty = st.lists(written, min_size=40, max_size=40)


@SOME
@given(forty, st.sampled_from(SIZES))
async def test_whatever_is_written_breaks_no_panel_and_cannot_be_clicked(texts, size):
    await looked_at(texts, size)


@pytest.mark.nightly
@ALL
@given(forty, st.sampled_from(SIZES))
async def test_ten_thousand_texts_break_no_panel_and_cannot_be_clicked(texts, size):
    await looked_at(texts, size)


async def test_mutant_what_is_read_as_markup_can_be_clicked():
    class Trusting(App[None]):
        def compose(self) -> ComposeResult:
            yield Static("[@click=app.quit]x[/]")

    app = Trusting()
    async with app.run_test():
        await until(lambda: clickable(app) == ["x"])


# What strangers wrote pushes no label aside

VERSIONS = [
    *SCRIPTS,
    *FAMILIES,
    *(
        "リリース-5",
        "版本二",
        "v１２",
        "ｖ1",
        "e\u0301\u0301x",
        "한국어",
        "क्षत्रिय",
        "नमस्ते",
        "עברית",
        "العربية",
        "v1\u0903",
        "☰☱",
        "㉈1",
        "🇺🇦🇺🇦",
    ),
    *(chr(code) * 8 for code in (0x0903, 0x09BE, 0x0E33, 0x11A8, 0x1F3FB, 0x1F1E6, 0x2630, 0x3248, 0x302E, 0x1D300)),
    *PAYLOADS.values(),
]


@pytest.mark.parametrize("version", VERSIONS, ids=ascii)
def test_a_version_takes_the_same_cells_in_every_terminal_where_a_key_acts_on_it(version):
    text = steady(clean(version))
    assert len(text) <= 8
    assert not any(unicodedata.bidirectional(char) in ("R", "AL", "AN") for char in text)
    assert not any(unicodedata.category(char)[0] in "MC" for char in text)
    screen = pyte.Screen(40, 1)
    pyte.Stream(screen).feed(f"{text}|")
    assert screen.cursor.x == width_of(text) + 1


async def test_no_version_moves_what_the_danger_keys_are_said_to_do(tmp_path):
    names = tuple(f"n{number:02}" for number in range(len(VERSIONS) - len(PAYLOADS)))
    den = Den(
        tmp_path, names, lambda name: lambda surface: VERSIONS[int(name[1:])] if surface in "vV" else surface + name
    )
    room = Room(den.config, den.keeper, den.engine, den.clock)
    room.sight._opened -= 60
    try:
        async with room.run_test(size=(80, 24)) as pilot:
            await until(lambda: room.moment is not None and room.front.danger_row._rows)
            for name, version in zip(names, VERSIONS, strict=False):
                room.select(f"{name}-runs")
                await pilot.pause()
                text = "".join(part for part, _ in room.front.danger_row._rows[0])
                expected = f"  F9  stop {name}-runs    F4  roll back {name}-runs {steady(clean(version))} → v1"
                assert text.startswith(expected), ascii(version)
                screen = pyte.Screen(80, 1)
                pyte.Stream(screen).feed(text[: text.index("F4") + 2])
                assert screen.cursor.x == expected.index("F4") + 2
    finally:
        den.keeper.close()


def test_a_row_is_as_wide_in_tmux_as_the_room_believes(tmp_path):
    texts = [
        *FAMILIES,
        *SCRIPTS[:4],
        SCRIPTS[6],
        "日本語のタイトル 👩🏽‍🚀 🇺🇦 e\u0301",
        *(steady(clean(version)) for version in VERSIONS),
    ]
    rows = []
    for text in texts:
        sheet = Sheet(60, 1)
        sheet.put(0, 0, text, most=50)
        sheet.put(58, 0, "|")
        rows.append("".join(part for part, _ in sheet.row(0)))
    file = tmp_path / "rows"
    file.write_text("".join(row + "\r\n" for row in rows) + "end")
    pane = Tmux("sh", "-c", f"cat {file}; exec sleep 600", size=(80, len(rows) + 2))
    try:
        wait_until(lambda: "end" in pane.lines, 60)
        for text, row in zip(texts, pane.lines, strict=False):
            assert row.endswith("|"), ascii(text)
            assert width_of(row) == 59, ascii(text)
    finally:
        pane.close()
