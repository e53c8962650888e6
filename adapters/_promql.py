"""Which raw series a PromQL query reads: enough of its grammar to ask whether there is anything behind a number."""

import re

_TOKEN = re.compile(
    r"""
    (?P<skip>    \s+ | \#[^\n]* )
  | (?P<text>    "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | `[^`]*` )
  | (?P<number>  (?:[0-9]|\.[0-9]) (?:[eE][+-]?[0-9]|[0-9A-Za-z_.])* )
  | (?P<range>   \[ [^\]]* \] )
  | (?P<labels>  \{ (?: "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | `[^`]*` | [^{}"'`] )* \} )
  | (?P<word>    [A-Za-z_:][A-Za-z0-9_:.]* )
  | (?P<sign>    . )
    """,
    re.VERBOSE | re.DOTALL,
)
_BEFORE_LABELS = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
_NO_METRICS = frozenset({"and", "or", "unless", "bool", "offset", "inf", "nan", "atan2"})


def selectors(query: str) -> list[str]:
    """The selectors of a query, each once, without ranges and offsets; none for a grammar that is not known here."""
    tokens = [(match.lastgroup or "", match.group()) for match in _TOKEN.finditer(query) if match.lastgroup != "skip"]
    tokens.append(("end", ""))
    if tokens[0][1].lower() == "with":  # MetricsQL's templates
        return []
    found: dict[str, None] = {}
    at = 0
    while at < len(tokens) - 1:
        kind, text = tokens[at]
        following, next_text = tokens[at + 1]
        at += 1
        if kind == "labels":
            found[text] = None
        elif kind == "word" and text.lower() in _BEFORE_LABELS:
            if next_text == "(":
                while at < len(tokens) - 1 and tokens[at][1] != ")":
                    at += 1
        elif kind == "word" and not (
            text.lower() in _NO_METRICS or next_text == "(" or next_text.lower() in ("by", "without")
        ):
            labels = next_text if following == "labels" else ""
            at += bool(labels)
            found[text + labels] = None
    return list(found)
