"""What strangers wrote can be shown: no terminal reacts to it, nothing in it is hidden, and ordinary text stays as it is."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from andon.model import Change
from andon.text import FIELD_LIMIT, LINE_LIMIT, SUBSTITUTE, clean, gate
from tests.helpers import HOSTILE

JOINER = "\u200d"

PAYLOADS = {
    # what a terminal acts on
    "OSC 52, ended by ST": "\x1b]52;c;cm0gLXJm\x1b\\",
    "OSC 52, ended by BEL": "\x1b]52;c;cm0gLXJm\x07",
    "OSC 8": "\x1b]8;;http://x\x1b\\click\x1b]8;;\x1b\\",
    "OSC 0, a title": "\x1b]0;owned\x1b\\",
    "OSC 2, a title": "\x1b]2;owned\x07",
    "OSC l, a title asked for": "\x1b[21t",
    "CSI, colours": "\x1b[31mred",
    "CSI, clear": "\x1b[2J\x1b[H",
    "device attributes": "\x1b[c",
    "secondary attributes": "\x1b[>c",
    "version": "\x1b[>q",
    "status": "\x1b[5n\x1b[6n",
    "size": "\x1b[18t",
    "DECRQSS": "\x1bP$qm\x1b\\",
    "DECRQM": "\x1b[?2026$p",
    "DCS, APC, PM, SOS": "\x1bPq\x1b\\\x1b_x\x1b\\\x1b^x\x1b\\\x1bXx\x1b\\",
    "RIS": "\x1bc",
    "one-byte CSI and OSC": "\x9b31m\x9d0;x\x9c\x90x\x9c",
    "SO, SI, DEL, NUL, ENQ": "a\x0e\x0f\x7f\x00\x05b",
    "BEL, BS, VT, FF, CR": "rm\x08\x08ls\x07\x0b\x0c\rok",
    # what turns text around or hides in it
    "bidi": "v1 \u202e2v\u202c \u2066x\u2069 \u200e\u200f\u061c",
    "zero width": "check\u200bout \u200c\u2060\ufeff\u00ad\u180e",
    "tags": "ok\U000e0041\U000e007f",
    "line and paragraph separators": "a\u2028b\u2029c\x85d",
}

SCRIPTS = (
    "The quick brown fox, “quoted” — 5 % of 3 €; naïve café Ångström ﬁ",
    "Zażółć gęślą jaźń · Příliš žluťoučký kůň · İstanbul ığdır",
    "Ελληνικά · Русский · Українська · Հայերեն · ქართული",
    "עברית עם נִקּוּד · العربية بتشكيلٍ كاملٍ · فارسی · اردو",
    "हिन्दी क्षत्रिय · বাংলা · ਪੰਜਾਬੀ · தமிழ் · తెలుగు · ಕನ್ನಡ · മലയാളം · සිංහල",
    "ไทยที่มีวรรณยุกต์ · ລາວ · ဗမာစာ · ភាសាខ្មែរ · བོད་ཡིག",
    "日本語のタイトル · 中文標題 · 한국어 제목 · ㅎㅏㄴ · 葛\U000e0100飾",
    "አማርኛ · Tiếng Việt ế ộ · ʻŌlelo Hawaiʻi · ᏣᎳᎩ · ᠮᠣᠩᠭᠣᠯ",
    "e\u0301 n\u0303 a\u0323\u0302 (decomposed) · ∑∫√≠ ± ½ ² · ▁▂▃▄▅▆▇█ ● ■ ▸ ✓ ✗ ⚠",
    "٣٤٥ · \u0600١ · 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 · 𓀀𓁐 · 🜁",
)

FAMILIES = ("👩‍👩‍👧‍👦", "👩🏽‍🚀", "🏴‍☠️", "❤️‍🔥", "👁️‍🗨️", "🧑🏿‍❤️‍💋‍🧑🏾", "🏳️‍🌈", "1️⃣", "🇺🇦", "👍🏿", "☺️", "🐦‍⬛")

VISIBLE = {0x0600, 0x0601, 0x0602, 0x0603, 0x0604, 0x0605, 0x06DD, 0x070F, 0x0890, 0x0891, 0x08E2, 0x110BD, 0x110CD}
"""Characters of format that are seen: signs before Arabic and Kaithi numbers."""


def hostile(char: str) -> bool:
    """Whether a terminal could act on it, or a reader cannot see it, whatever stands around it."""
    code = ord(char)
    if code in VISIBLE or char == JOINER:
        return False
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") or code in (0x115F, 0x1160, 0x3164, 0xFFA0)


ALL_HOSTILE = [chr(code) for code in range(0x110000) if hostile(chr(code))]

texts = st.text() | st.lists(
    st.sampled_from([*HOSTILE, *PAYLOADS.values(), *SCRIPTS, *FAMILIES, JOINER, "\ufe0f", "\u0301", "😀", "a"]),
    max_size=12,
).map("".join)


@given(texts, st.integers(min_value=1, max_value=600))
@example("x" * 511 + "\ufe0f" + "\u0301" * 9, 512)
@example("😀" + JOINER, 1)
@example("😀" + JOINER + "😀" * 9, 3)
@example("😀\u0301\u0301\u0301" + JOINER + "😀", 99)
def test_cleaning_gives_one_short_harmless_line_and_does_it_once(text, limit):
    found = clean(text, limit)
    assert clean(found, limit) == found
    assert len(found) <= limit
    assert len(found.splitlines()) <= 1
    assert not [char for char in found if hostile(char)]
    assert gate(found) == found
    found.encode()


@given(texts)
def test_a_joiner_stays_only_between_two_symbols(text):
    found = clean(text)
    for index, char in enumerate(found):
        if char == JOINER:
            before = found[:index].removesuffix("\ufe0f")[-1:]
            after = found[index + 1 : index + 2]
            assert unicodedata.category(before) in ("So", "Sk")
            assert unicodedata.category(after) in ("So", "Sk")


@given(texts)
def test_the_gate_takes_all_but_line_ends(text):
    found = gate(text)
    assert len(found) == len(text)
    assert gate(found) == found
    assert not [char for char in found if hostile(char) and char != "\n"]
    assert found.count("\n") == text.count("\n")
    found.encode()


@pytest.mark.parametrize("text", SCRIPTS)
def test_ordinary_text_of_all_scripts_stays(text):
    assert clean(text) == text
    assert gate(text) == text


@pytest.mark.parametrize("text", FAMILIES)
def test_emoji_stay_whole(text):
    assert clean(text) == text
    assert clean(f"fix: {text} works") == f"fix: {text} works"
    assert gate(text) == text


@pytest.mark.parametrize(
    "text",
    ["a\u200db", "\u200d", "😀\u200d", "\u200d😀", "😀\u200d\u200d😀", "a\u200d😀", "\ufe0f\u200d😀", "क\u200dष"],
)
def test_a_lone_joiner_is_shown_to_have_been_there(text):
    found = clean(text)
    assert JOINER not in found
    assert SUBSTITUTE in found


@pytest.mark.parametrize("name", PAYLOADS)
def test_each_payload_is_shown_harmlessly(name):
    found = clean(f"before {PAYLOADS[name]} after")
    assert not [char for char in found if hostile(char)]
    assert SUBSTITUTE in found
    assert found.startswith("before ")
    assert found.endswith(" after")
    assert Change(id="c", title=f"before {PAYLOADS[name]} after").title == found  # records do it by themselves
    shown = gate(PAYLOADS[name])
    assert not [char for char in shown if hostile(char)]


def test_there_are_24_payloads():
    assert len(PAYLOADS) == 24


def test_every_hostile_character_is_replaced_one_by_one():
    assert len(ALL_HOSTILE) > 2200
    for char in ALL_HOSTILE:
        assert clean(f"a{char}b") == ("a b" if char in "\t\n\r" else f"a{SUBSTITUTE}b")
        assert gate(f"a{char}b") == (f"a{char}b" if char == "\n" else f"a{SUBSTITUTE}b")


def test_tabs_and_line_ends_are_blanks():
    assert clean("a\tb\nc\r\nd") == "a b c  d"


def test_marks_do_not_pile_up_and_hide_nothing():
    assert clean("e" + "\u0301" * 500) == "e\u0301\u0301"
    assert clean("x" + "".join(chr(0xE0100 + byte) for byte in b"rm -rf")) == "x\U000e0172\U000e016d"
    assert clean("x" + "\ufe0f\u0301" * 50) == "x\ufe0f\u0301"
    assert len(clean("Z" + "\u0300\u0310\u0320\u0330" * 20 + "algo")) == 7


def test_what_is_long_is_cut_where_it_is_seen():
    assert clean("x" * 600) == "x" * 511 + "…"
    assert clean("x" * 512) == "x" * 512
    assert clean("x" * 5000, LINE_LIMIT) == "x" * 3999 + "…"
    assert len(clean("\x1b" * 100_000)) == FIELD_LIMIT
    assert len(clean("\ud800" * 100_000)) == FIELD_LIMIT


@pytest.mark.parametrize("text", HOSTILE)
def test_the_hostile_texts_of_all_tests_come_out_clean(text):
    found = clean(text)
    assert not [char for char in found if hostile(char)]
    assert clean(found) == found
