"""Cutting terminal input into pieces, and what becomes of each."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from textual import events

from andon.text import SUBSTITUTE, clean
from tests.helpers import HOSTILE
from tui.keys_in import (
    PASTE_LIMIT,
    PASTE_LONGEST_S,
    PASTE_QUIET_S,
    SEQUENCE_QUIET_S,
    UNFRAMED_QUIET_S,
    Framer,
    Piece,
    Translator,
    clean_paste,
    from_hand,
)

ESC = b"\x1b"
ST = b"\x1b\\"

ANSWERS = {
    "DA1 xterm": b"\x1b[?64;1;2;6;9;15;16;17;18;21;22;28c",
    "DA1 tmux": b"\x1b[?1;2c",
    "DA1 kitty": b"\x1b[?62;c",
    "DA1 Windows Terminal": b"\x1b[?61;4;6;7;14;21;22;23;24;28;32;42c",
    "DA2 xterm": b"\x1b[>41;379;0c",
    "DA2 tmux": b"\x1b[>84;0;0c",
    "DA2 kitty": b"\x1b[>1;4000;29c",
    "DA3": b"\x1bP!|7E565445" + ST,
    "XTVERSION tmux": b"\x1bP>|tmux 3.3a" + ST,
    "XTVERSION WezTerm": b"\x1bP>|WezTerm 20240203-110809-5046fc22" + ST,
    "XTVERSION iTerm2": b"\x1bP>|iTerm2 3.5.0" + ST,
    "DSR ok": b"\x1b[0n",
    "DSR printer": b"\x1b[?13n",
    "DSR colours": b"\x1b[?997;1n",
    "DECXCPR": b"\x1b[?1;1;1R",
    "DECRQM of another mode": b"\x1b[?2027;3$y",
    "DECRQM ANSI": b"\x1b[4;2$y",
    "size in cells": b"\x1b[8;24;80t",
    "size in pixels": b"\x1b[4;600;800t",
    "window state": b"\x1b[1t",
    "window position": b"\x1b[3;10;20t",
    "title": b"\x1b]lrollback" + ST,
    "icon title": b"\x1b]Lq" + ST,
    "title ended by BEL": b"\x1b]lq\x07",
    "colour of the ground": b"\x1b]11;rgb:0f0f/1313/1717" + ST,
    "colour, BEL": b"\x1b]10;rgb:ffff/ffff/ffff\x07",
    "palette": b"\x1b]4;1;rgb:cdcd/0000/0000" + ST,
    "clipboard": b"\x1b]52;c;cm0gLXJmIC8=" + ST,
    "DECRQSS": b"\x1bP1$r0m" + ST,
    "DECRQSS, chosen": b"\x1bP1$rq" + ST,
    "XTGETTCAP": b"\x1bP1+r544e=787465726d" + ST,
    "kitty flags": b"\x1b[?25u",
    "kitty graphics": b"\x1b_Gi=1;OK" + ST,
    "iTerm2 report": b"\x1b]1337;ReportCellSize=14.0;7.0" + ST,
    "DECREQTPARM": b"\x1b[2;1;1;128;128;1;0x",
    "checksum": b"\x1bP1!~ABCD" + ST,
    "privacy message": b"\x1b^q" + ST,
    "start of string": b"\x1bXq" + ST,
    "sixel size": b"\x1b[?2;0;800;600S",
    "C1 CSI": b"\xc2\x9b?1;2c",
    "C1 CSI, one byte": b"\x9b?1;2c",
    "C1 OSC, one byte": b"\x9dlrollback\x9c",
    "unknown": b"\x1b[99~",
    "unknown final": b"\x1b[5y",
    "too long": b"\x1b[" + b"1;" * 100 + b"q",
    "key released": b"\x1b[20;1:3~",
    "no such character": b"\x1b[55555555u",
    "surrogate": b"\x1b[55296u",
    "zero": b"\x1b[0u",
    "oldest mouse": b"\x1b[M abq"[:6],
    "huge resize": b"\x1b[48;99999;99999;1;1t",
    "resize to nothing": b"\x1b[48;0;0;0;0t",
}

KEYS = {
    b"a": "a",
    b"\r": "enter",
    b"\x7f": "backspace",
    b"\x0f": "ctrl+o",
    b"\x1bOS": "f4",
    b"\x1b[S": "f4",
    b"\x1b[1S": "f4",
    b"\x1b[14~": "f4",
    b"\x1b[[D": "f4",
    b"\x1b[1;129S": "f4",
    b"\x1b[1;5S": "ctrl+f4",
    b"\x1b[20~": "f9",
    b"\x1b[20;129~": "f9",
    b"\x1b[20;1:1~": "f9",
    b"\x1b[20;1:2~": "f9",
    b"\x1b[20;5~": "ctrl+f9",
    b"\x1b[20;2~": "shift+f9",
    b"\x1b[19~": "f8",
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"\x1b[1;2A": "shift+up",
    b"\x1b[Z": "shift+tab",
    b"\x1b[97u": "a",
    b"\x1b[97;;97u": "a",
    b"\x1b[97:65;2;65u": "A",
    b"\x1b[27u": "escape",
    b"\x1b[13u": "enter",
    b"\x1b[25~": "f13",
    b"\x1ba": "alt+a",
    b"\x1bf": "ctrl+right",
    b"\x1bOp": "0",
    b"\xc3\xa9": "é",
}


def keys_of(data: bytes, now: float = 0.0) -> list[str]:
    framer, translator = Framer(), Translator()
    pieces = framer.feed(data, now) + framer.tick(now + 100.0)
    return [event.key for piece in pieces for event in translator.events(piece) if isinstance(event, events.Key)]


@pytest.mark.parametrize("data", KEYS, ids=repr)
def test_a_key_is_known_in_every_spelling(data: bytes) -> None:
    assert keys_of(data) == [KEYS[data]]


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_of_a_terminal_is_no_key(name: str) -> None:
    assert keys_of(ANSWERS[name]) == []


@pytest.mark.parametrize("name", ANSWERS)
def test_after_an_answer_keys_work(name: str) -> None:
    assert keys_of(ANSWERS[name] + b"\x1b[20~z") == ["f9", "z"]


@pytest.mark.parametrize("name", ANSWERS)
def test_after_half_an_answer_f9_works_at_once(name: str) -> None:
    answer = ANSWERS[name]
    for cut in range(2, len(answer)):
        framer, translator = Framer(), Translator()
        pieces = framer.feed(answer[:cut], 0.0) + framer.feed(b"\x1b[20~", 0.01)
        keys = [event.key for piece in pieces for event in translator.events(piece) if isinstance(event, events.Key)]
        assert keys[-1:] == ["f9"], answer[:cut]


@pytest.mark.parametrize("data", [*KEYS, *ANSWERS.values(), b"\x1b[200~q\x1b[20~\x1b[201~"], ids=repr)
def test_a_read_cut_anywhere_means_the_same(data: bytes) -> None:
    whole = Framer()
    expected = whole.feed(data, 0.0) + whole.tick(100.0)
    for cut in range(1, len(data)):
        framer = Framer()
        assert framer.feed(data[:cut], 0.0) + framer.feed(data[cut:], 0.01) + framer.tick(100.0) == expected


def test_an_escape_alone_is_the_escape_key_after_the_delay() -> None:
    framer = Framer(escape_delay_s=0.1)
    assert framer.feed(ESC, 0.0) == []
    assert framer.wait(0.0) == pytest.approx(0.1)
    assert framer.tick(0.05) == []
    assert framer.tick(0.11) == [Piece("escape", "\x1b")]
    assert framer.wait(0.2) is None


def test_two_escapes_are_two() -> None:
    assert keys_of(b"\x1b\x1b") == ["escape", "escape"]


def test_an_unfinished_sequence_is_dropped_and_keys_work_again() -> None:
    for start in (b"\x1b[1;", b"\x1bO", b"\x1b]0;abc", b"\x1bPabc", b"\x1b_a"):
        framer = Framer()
        assert framer.feed(start, 0.0) == []
        assert framer.feed(b"q", SEQUENCE_QUIET_S + 0.1) == [Piece("key", "q")]
        assert framer.dropped == 1


def test_what_is_typed_into_an_open_string_is_not_a_key() -> None:
    assert keys_of(b"\x1b]0;rollback q\r") == []


def test_a_paste_is_one_piece_whatever_it_holds() -> None:
    held = b"a\x1b[20~\x1bOS\x1b]0;x\x07\xff\x1b[200~\rq\x1b"
    framer = Framer()
    (piece,) = framer.feed(b"\x1b[200~" + held + b"\x1b[201~", 0.0)
    assert piece.kind == "paste"
    (event,) = Translator().events(piece)
    assert isinstance(event, events.Paste)
    assert event.text.splitlines()[-1].startswith("q")
    assert "\x1b" not in event.text
    assert "\x07" not in event.text


@given(st.binary(max_size=200))
def test_no_paste_presses_a_key(held: bytes) -> None:
    assume(b"\x1b[201~" not in held)
    framer, translator = Framer(), Translator()
    pieces = framer.feed(b"\x1b[200~" + held + b"\x1b[201~", 0.0) + framer.tick(100.0)
    found = [event for piece in pieces for event in translator.events(piece)]
    assert [type(event) for event in found] == [events.Paste]


@given(st.lists(st.binary(max_size=12), max_size=8))
def test_no_input_raises_or_stays_open(reads: list[bytes]) -> None:
    framer, translator = Framer(), Translator()
    now = 0.0
    for data in reads:
        for piece in framer.feed(data, now):
            translator.events(piece)
        now += 0.04
    for piece in framer.tick(now + PASTE_LONGEST_S + 1):
        translator.events(piece)
    framer.tick(now + PASTE_LONGEST_S + 2)
    assert framer.wait(now) is None


@given(
    st.sampled_from(["\x1b[{}{}", "\x1b[?{}{}", "\x1b[<{}{}", "\x1bO{}{}"]),
    st.text("0123456789;:", max_size=20),
    st.sampled_from([chr(code) for code in range(0x40, 0x7F)]),
)
def test_the_parser_never_meets_what_it_fails_on(form: str, middle: str, end: str) -> None:
    framer, translator = Framer(), Translator()
    for piece in framer.feed(form.format(middle, end).encode(), 0.0) + framer.tick(100.0):
        translator.events(piece)
    assert translator.errors == 0
    assert keys_after(translator, "\x1b[20~") == ["f9"]


def keys_after(translator: Translator, sequence: str) -> list[str]:
    return [event.key for event in translator.events(Piece("sequence", sequence)) if isinstance(event, events.Key)]


def test_a_parser_that_fails_is_replaced() -> None:
    translator = Translator()
    translator._parser.feed = lambda _data: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    assert translator.events(Piece("key", "a")) == []
    assert translator.errors == 1
    assert keys_after(translator, "\x1b[20~") == ["f9"]


def test_a_paste_without_an_end_ends_by_itself() -> None:
    framer = Framer()
    assert framer.feed(b"\x1b[200~abc", 0.0) == []
    assert framer.tick(PASTE_QUIET_S - 0.1) == []
    assert framer.tick(PASTE_QUIET_S + 0.1) == [Piece("paste", "abc")]
    assert framer.feed(b"q", 2.0) == [Piece("key", "q")]


def test_f9_held_down_does_not_keep_an_open_paste_open() -> None:
    framer = Framer()
    framer.feed(b"\x1b[200~abc", 0.0)
    pieces: list[Piece] = []
    for step in range(1, 50):
        pieces += framer.feed(b"\x1b[20~", step * 0.033)
    assert Piece("sequence", "\x1b[20~") in pieces


def test_a_paste_that_trickles_ends_in_any_case() -> None:
    framer = Framer()
    framer.feed(b"\x1b[200~", 0.0)
    now = 0.0
    while now < PASTE_LONGEST_S:
        now += 0.5
        assert framer.feed(b"x", now)[:1] != [Piece("key", "x")]
    assert framer.feed(b"q", now + 0.6)[-1] == Piece("key", "q")


def test_a_paste_is_cut_at_its_limit() -> None:
    (piece,) = Framer().feed(b"\x1b[200~" + b"x" * (3 * PASTE_LIMIT) + b"\x1b[201~", 0.0)
    assert len(piece.text) == PASTE_LIMIT


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_paste_is_cleaned_line_by_line(text: str) -> None:
    pasted = clean_paste(f"one\r\n{text}\rthree")
    assert pasted.startswith("one\n")
    assert pasted.endswith("\nthree")
    assert all(clean(line, 4000) == line for line in pasted.split("\n"))


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert [piece.text for piece in Framer().feed(b"a\xffb", 0.0)] == ["a", SUBSTITUTE, "b"]


def test_mouse_focus_and_resize_come_from_the_hand_and_answers_do_not() -> None:
    for text in ("\x1b[<35;10;5M", "\x1b[<0;1;1m", "\x1b[I", "\x1b[O", "\x1b[48;24;80;480;800t"):
        assert from_hand(Piece("sequence", text))
    for text in ("\x1b[?1;2c", "\x1b[1;1R", "\x1b[20~", "\x1bOS"):
        assert not from_hand(Piece("sequence", text))


@pytest.mark.parametrize(
    ("data", "name"), [(b"\x1b[?2026;2$y", "TerminalSupportsSynchronizedOutput"), (b"\x1b[<35;10;5M", "MouseMove")]
)
def test_what_the_room_asks_for_reaches_it(data: bytes, name: str) -> None:
    assert [type(event).__name__ for event in meant(data)] == [name]


@pytest.mark.parametrize(
    "data",
    [
        *(b"\x1b[?2048;2$y", b"\x1b[48;24;80;480;800t", b"\x1b[48;9999;9999;1;1t", b"\x1b[I", b"\x1b[O", b"\x1b[5;7R"),
        *(b"\x1b[1;2R", b"\x1b[c", b"\x1b[1;7t", b"\x1b[1;5x"),
    ],
)
def test_what_nobody_asks_for_means_nothing(data: bytes) -> None:
    assert meant(data) == []


def meant(data: bytes) -> list[object]:
    framer, translator = Framer(), Translator()
    return [event for piece in framer.feed(data, 0.0) for event in translator.events(piece)]


def test_text_that_no_hand_can_have_typed_is_one_paste_when_nothing_more_follows() -> None:
    text = b"quit now\ryes\x03 drop table"
    framer = Framer()
    assert framer.feed(text, 0.0) == []
    assert framer.feed(b"q", UNFRAMED_QUIET_S - 0.1) == []
    assert framer.wait(UNFRAMED_QUIET_S - 0.1) == pytest.approx(UNFRAMED_QUIET_S)
    assert framer.tick(2 * UNFRAMED_QUIET_S) == [Piece("paste", text.decode() + "q")]
    assert framer.wait(1.0) is None
    assert framer.feed(b"q", 3 * UNFRAMED_QUIET_S) == [Piece("key", "q")]


def test_a_danger_key_within_such_text_is_found_at_once() -> None:
    text = b"x1y2" * 5
    framer = Framer()
    assert framer.feed(text + b"\x1b[20~" + text, 0.0) == [Piece("sequence", "\x1b[20~")]
    assert framer.feed(b"\x1b[20~", 0.1) == [Piece("sequence", "\x1b[20~")]
    assert framer.tick(1.0) == [Piece("paste", 2 * text.decode())]


def test_such_text_is_cut_at_the_limit_of_a_paste() -> None:
    framer = Framer()
    for _ in range(10):
        framer.feed(b"x1y2" * 1000, 0.0)
    (piece,) = framer.tick(1.0)
    assert len(piece.text) == PASTE_LIMIT


@pytest.mark.parametrize("typed", [b"j" * 200, b"/checkout\r", b"abcdefghijklmnop"])
def test_what_a_hand_can_have_typed_is_keys(typed: bytes) -> None:
    assert {piece.kind for piece in Framer().feed(typed, 0.0)} == {"key"}
