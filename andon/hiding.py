"""Secrets that this process opened, hidden wherever they come back: in an answer, an error, a log line, a picture.

What was opened is remembered, in memory only, so that it is recognised: as it is, escaped for JSON, quoted for an address,
and in base64 wherever it begins. What is shorter than `LEAST` characters could be any word and is not looked for.
"""

import base64
import json
import re
import threading
from collections.abc import Callable

LEAST = 8
KEPT = 64
"""How many secrets are remembered; a token that is made anew each hour pushes the oldest out."""
HIDDEN = "***"
_PASSWORD = re.compile(r"://[^/\s:@]*:([^/\s@]+)@")

_lock = threading.Lock()
_known: dict[str, tuple[str, ...]] = {}
_forms: tuple[str, ...] = ()


def remember(secret: str) -> None:
    """Hide this secret from now on, and the password in it if it is an address with one."""
    global _forms
    with _lock:
        for value in (secret, *_PASSWORD.findall(secret)):
            if len(value) >= LEAST:
                _known[value] = _known.pop(value, ()) or forms(value)
        while len(_known) > KEPT:
            del _known[next(iter(_known))]
        # The longest first: what is left of it must not be searched for a shorter one. Replaced as a whole: no lock to read.
        _forms = tuple(sorted({form for known in _known.values() for form in known}, key=len, reverse=True))


def hide(text: str, stand_in: Callable[[str], str] = lambda _: HIDDEN) -> str:
    """`text` without any secret that was opened here; also without the beginning of one that was cut with `…`."""
    if text.endswith("…"):
        text = _without_beginning(text, stand_in)
    for form in _forms:
        if form in text:
            text = text.replace(form, stand_in(form))
    return text


def may_hold(text: str) -> bool:
    """Whether there is something for `hide` to look at more closely. Cheap."""
    return bool(_forms) and ("…" in text or any(form in text for form in _forms))


def forms(value: str) -> tuple[str, ...]:
    """How a secret may be written; of its base64, the part that is the same whatever stands before and after it."""
    from urllib.parse import quote, quote_plus

    quoted = {quote(value, safe=""), quote(value), quote_plus(value)}
    quoted |= {re.sub("%..", lambda found: found[0].lower(), item) for item in quoted}
    escaped = {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    raw = value.encode("utf-8", "surrogateescape")
    packed = set()
    for before in range(3):
        whole = base64.b64encode(bytes(before) + raw).decode()
        inner = whole[(0, 2, 3)[before] : 8 * (before + len(raw)) // 6]
        packed |= {inner, inner.replace("+", "-").replace("/", "_")}
    return tuple({value, *quoted, *escaped, *packed})


def _without_beginning(text: str, stand_in: Callable[[str], str]) -> str:
    body = text[:-1]
    for form in _forms:
        for size in range(min(len(form) - 1, len(body)), LEAST - 1, -1):
            if body.endswith(form[:size]):
                return body[:-size] + stand_in(form[:size]) + "…"
    return text
