"""Text that strangers wrote, made harmless once, where it comes in.

A commit title, a branch, a log line or a server's words can hold escape sequences that press keys in a terminal,
set its clipboard or title, or turn text around. `clean` is called by every record that holds outside text
(`model.Record`); `gate` is the second layer, at the terminal's edge.
"""

import re
import unicodedata

FIELD_LIMIT = 512
"""Characters kept of a field."""

LINE_LIMIT = 4000
"""Characters kept of a log line."""

SUBSTITUTE = "\ufffd"

_HOSTILE = (
    *range(0x20),  # C0: escapes, BEL, NUL, SO
    *range(0x7F, 0xA0),  # DEL and C1: one-byte CSI and OSC
    0xAD,  # soft hyphen: no width, splits a word that is searched for
    0x061C,
    *(0x115F, 0x1160, 0x3164, 0xFFA0),  # Hangul fillers: letters that show nothing
    *(0x17B4, 0x17B5, 0x180E),
    *range(0x200B, 0x2010),  # zero width, joiners, directional marks
    *range(0x2028, 0x202F),  # separators, bidi embeddings and overrides
    *range(0x2060, 0x2070),  # word joiner, bidi isolates
    0xFEFF,
    *range(0xFFF0, 0xFFFC),
    *range(0xD800, 0xE000),  # lone surrogates cannot be encoded
    *range(0x13430, 0x13440),  # how hieroglyphs are joined
    *range(0x1BCA0, 0x1BCA4),  # shorthand
    *range(0x1D173, 0x1D17B),  # music
    *range(0xE0000, 0xE0100),  # tag characters: invisible text
)
_TABLE = dict.fromkeys(_HOSTILE, SUBSTITUTE)
_SPACES = {ord("\t"): " ", ord("\n"): " ", ord("\r"): " "}
_CLEAN_TABLE = {**_TABLE, **_SPACES}
_GATE_TABLE = {k: v for k, v in _TABLE.items() if k not in (0x0A, 0x200D)}
_JOINER = "\u200d"
_MARK = (
    r"[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u20d0-\u20ff\ufe20-\ufe2f"  # combining marks
    r"\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]"  # variation selectors: a row of them is hidden text
)
_STACKED = re.compile(f"({_MARK}{{2}}){_MARK}+")


def clean(text: str, limit: int = FIELD_LIMIT) -> str:
    """One line of at most `limit` characters that no terminal reacts to.

    Tabs and line ends become blanks; every other control, bidi, zero-width or tag character becomes U+FFFD, so that
    it is seen that something was there. A zero-width joiner stays only between two emoji; of marks on one letter,
    variation selectors among them, two stay. Cleaning twice is the same as cleaning once.
    """
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if _JOINER in text:
        text = _keep_emoji_joiners(text)
        text = _JOINER.join(part.translate(_CLEAN_TABLE) for part in text.split(_JOINER))
    else:
        text = text.translate(_CLEAN_TABLE)
    return _STACKED.sub(r"\1", text)


def gate(text: str) -> str:
    """`text` with everything replaced that a terminal could act on; line ends stay. For what is printed."""
    return text if text.isascii() and text.isprintable() else text.translate(_GATE_TABLE)


def _keep_emoji_joiners(text: str) -> str:
    """`text` without the joiners that do not stand between two symbols."""
    out = []
    for index, char in enumerate(text):
        if char == _JOINER:
            before = _symbol_before(text, index)
            after = text[index + 1 : index + 2]
            if not (before and after and unicodedata.category(after) in ("So", "Sk")):
                char = SUBSTITUTE
        out.append(char)
    return "".join(out)


def _symbol_before(text: str, index: int) -> bool:
    before = text[index - 1] if index else ""
    if before == "\ufe0f" and index > 1:
        before = text[index - 2]
    return bool(before) and unicodedata.category(before) in ("So", "Sk")
