"""Digits three rows high, for a countdown, in half blocks."""

_DIGITS = {
    "0": ("█▀█", "█ █", "▀▀▀"),
    "1": (" █ ", " █ ", " ▀ "),
    "2": ("▀▀█", "█▀▀", "▀▀▀"),
    "3": ("▀▀█", "▀▀█", "▀▀▀"),
    "4": ("█ █", "▀▀█", "  ▀"),
    "5": ("█▀▀", "▀▀█", "▀▀▀"),
    "6": ("█▀▀", "█▀█", "▀▀▀"),
    "7": ("▀▀█", "  █", "  ▀"),
    "8": ("█▀█", "█▀█", "▀▀▀"),
    "9": ("█▀█", "▀▀█", "▀▀▀"),
}


COLON = ("▄", " ", "▀")
"""Between minutes and seconds."""


def glyph(digit: str) -> tuple[str, ...]:
    """The three rows of one digit."""
    return _DIGITS.get(digit, ("   ", "   ", "   "))
