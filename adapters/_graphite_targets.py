"""Graphite's targets: whether one is whole, and which of its parts gather points into buckets."""

from itertools import pairwise

GATHERING = ("summarize", "smartSummarize", "hitcount")
"""The functions whose first argument is what they gather, and second how much of it."""


def closes(target: str) -> bool:
    """Whether every bracket and quotation mark is closed: Graphite answers with nothing at all to one that is not."""
    depth, quoted = 0, False
    for sign, quoted in _signs(target):
        depth += 0 if quoted else {"(": 1, ")": -1}.get(sign, 0)
        if depth < 0:
            return False
    return depth == 0 and not quoted


def gathered(target: str) -> dict[str, str]:
    """What is gathered into buckets anywhere in a target that closes, and how much of it goes into one, as it is written."""
    found: dict[str, str] = {}
    for name in GATHERING:
        at = target.find(f"{name}(")
        while at >= 0:
            if at == 0 or not (target[at - 1].isalnum() or target[at - 1] in "._-'\""):
                first, second = _two_arguments(target[at + len(name) + 1 :])
                found[first] = second.strip("'\"")
            at = target.find(f"{name}(", at + 1)
    return found


def _two_arguments(rest: str) -> tuple[str, str]:
    ends, depth = [-1], 0
    for end, (sign, quoted) in enumerate(_signs(rest)):
        if not quoted and depth == 0 and sign in ",)":
            ends.append(end)
            if sign == ")" or len(ends) > 2:
                break
        depth += 0 if quoted else {"(": 1, "{": 1, ")": -1, "}": -1}.get(sign, 0)
    arguments = [rest[begin + 1 : end].strip() for begin, end in pairwise(ends)]
    first, second, *_ = [*arguments, "", ""]
    return first, second


def _signs(text: str) -> list[tuple[str, bool]]:
    """Each sign, and whether a quotation mark is open after it, or closes with it: at the end, whether one is open."""
    found: list[tuple[str, bool]] = []
    quote = ""
    for sign in text:
        quote = ("" if sign == quote else quote) if quote else sign if sign in "'\"" else ""
        found.append((sign, bool(quote)))
    return found
