"""Secrets of six kinds that must be found nowhere, and how they are looked for: raw, in base64, quoted for an address."""

import base64
from urllib.parse import quote

TOKENS = {
    "github": "ghp_cAnaryW3xT9vQ2kLmN8pR5sYbZ1dFgHjC4a7",
    "aws": "cAnary/K7MDENG+bPxRfiCYzEXAMPLEwJalrXUtn",
    "login": "https://deploy:cAnary-p4ss%2Fw0rd@ci.internal/x",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.cAnaryc2lnbmF0dXJlLW9mLXRoZS10b2tlbg",
    "hex": "cab0a7d1e5f2c3b4a59687786950413223140516273849506172839405162738",
    "passphrase": "correct canary horse battery staple",
}


def encodings(token: str) -> dict[str, bytes]:
    """How a token may be written, each long enough to be nothing else."""
    raw = token.encode()
    found = {"raw": raw, "quoted": quote(token, safe="").encode()}
    for before in range(3):
        whole = base64.b64encode(bytes(before) + raw + b"\0" * 3)
        found[f"base64+{before}"] = whole[4 : 4 * (len(raw) // 3) - 4]
    return found


def echo(token: str) -> str:
    """What repeats a token in every encoding, as a server that was told it could."""
    packed = [base64.b64encode(b"x" * before + token.encode()).decode() for before in range(3)]
    return " ".join((token, quote(token, safe=""), *packed))


def found_in(what: bytes, *but: str) -> list[str]:
    """The tokens that stand there, in any encoding; `but` those that may."""
    return [
        f"{kind} ({how})"
        for kind, token in TOKENS.items()
        for how, written in encodings(token).items()
        if kind not in but and written in what
    ]
