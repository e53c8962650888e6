"""The report as one page: no script, no picture from elsewhere, light and dark as the reader's system says."""

from collections.abc import Sequence
from html import escape

from andon.learning.dora import Keys
from andon.learning.figures import Point
from andon.text import gate
from tui.reporting import Line, _day, _minute, interval, one, span, value, weeks

STYLE = """
:root { color-scheme: light dark; --bg: #fbfaf7; --fg: #1c1b19; --dim: #6b675f; --line: #dcd7cc; --ok: #2f7d4f; --bad: #b3261e; --mid: #4a6fa5 }
@media (prefers-color-scheme: dark) { :root { --bg: #16181b; --fg: #e6e3dc; --dim: #9a958b; --line: #33373c; --ok: #6cc08b; --bad: #f2786d; --mid: #8fb3e6 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 68rem; padding: 2rem 1rem 4rem; background: var(--bg); color: var(--fg); font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 1.6rem; margin: 0 0 .2rem } h2 { font-size: 1.1rem; margin: 2.4rem 0 .6rem } p { color: var(--dim); margin: 0 0 1rem }
.keys { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); padding: 1px 0 0 1px }
.keys a { border: 1px solid var(--line); margin: -1px 0 0 -1px; padding: 1rem; text-decoration: none; color: inherit; display: block } .keys a:hover { background: var(--line) }
.keys b { display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums; font-weight: 600 } .keys i { color: var(--dim); font-style: normal; font-size: .85rem; display: block }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem } .wide { overflow-x: auto }
td, th { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere } th { color: var(--dim); font-weight: 400 }
svg { width: 100%; height: auto; display: block } svg text { fill: var(--dim); font: 11px system-ui, sans-serif } .ok { fill: var(--ok) } .bad { fill: var(--bad) } .mid { fill: var(--mid) } .axis { stroke: var(--line) }
details { margin: .4rem 0 } summary { cursor: pointer; color: var(--dim) }
"""  # noqa: E501 - a stylesheet, one rule a line
WIDE, HIGH, EDGE = 960, 180, 28


def page(found: Keys, lines: Sequence[Line]) -> str:
    """The whole page. Outside text is escaped wherever it stands."""
    title = f"{found.line}, {_day(found.since)} to {_day(found.until)}"
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>andon: {_text(title)}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<style>{STYLE}</style></head><body>",
        f"<h1>{_text(title)}</h1>",
        "<p>From the ledger of andon. Each figure leads to its rows; a dash means that nothing is known, not zero.</p>",
        _cards(lines),
        *_charts(found),
        _stations(found),
        "<h2>Rows</h2>",
        *(_rows(index, line) for index, line in enumerate(lines)),
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part)


def _text(words: str) -> str:
    return escape(gate(words).replace("\n", " "))


def _cards(lines: Sequence[Line]) -> str:
    cards = []
    for index, line in enumerate(lines):
        sure = interval(line.figure)
        known = f"n = {line.figure.n}" + (f", 95 %: {sure}" if sure != "–" else "")
        words = f"; {line.figure.words}" if line.figure.words else ""
        cards.append(
            f'<a href="#f{index}"><i>{_text(line.title)}</i><b>{_text(value(line.figure).partition(",")[0])}</b>'
            f"<i>{_text(known)}</i><i>{_text(line.meaning + words)}</i></a>"
        )
    return f'<div class="keys">{"".join(cards)}</div>'


def _charts(found: Keys) -> list[str]:
    charts = []
    if found.frequency.rows:
        charts += ["<h2>Deployments by week</h2>", _by_week(found)]
    if len(found.lead_time.rows) > 1:
        charts += ["<h2>Lead time of each change</h2>", _scatter(found.lead_time.rows, found)]
    return charts


def _by_week(found: Keys) -> str:
    """A bar a week: those that failed below, in their colour, and said in words."""
    failed = {row.ref for row in found.fail_rate.rows if row.value}
    bars = weeks(found.frequency.rows, found.until)
    most = max(len(rows) for _, rows in bars) or 1
    step = (WIDE - EDGE) / len(bars)
    parts = []
    for index, (begin, rows) in enumerate(bars):
        bad = sum(row.ref in failed for row in rows)
        x, width = EDGE + index * step, max(2.0, step * 0.7)
        floor = HIGH - 20
        scale = (floor - 14) / most
        for begin_y, count, kind in ((0, bad, "bad"), (bad, len(rows) - bad, "ok")):
            y = floor - (begin_y + count) * scale
            parts.append(
                f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{count * scale:.1f}"/>'
            )
        label = f"{len(rows)}" + (f", {bad} failed" if bad else "")
        parts.append(f"<title>week of {_day(begin)}: {label}</title>")
        parts.append(
            f'<text x="{x:.1f}" y="{floor - len(rows) * scale - 4:.1f}">{label if step > 60 else len(rows)}</text>'
        )
        if index % max(1, round(len(bars) / 8)) == 0:
            parts.append(f'<text x="{x:.1f}" y="{HIGH - 4}">{_day(begin)}</text>')
    return _svg(parts, "deployments a week, the failed ones below")


def _scatter(rows: Sequence[Point], found: Keys) -> str:
    """A dot a change: when it went live, and how long it took; the scale is a square root, so that small ones show."""
    top = max(row.value for row in rows) or 1.0
    span_s = max(found.until - found.since, 1.0)
    floor = HIGH - 20
    parts = [f'<line class="axis" x1="{EDGE}" x2="{WIDE}" y1="{floor}" y2="{floor}"/>']
    for row in rows:
        x = EDGE + 8 + (row.at - found.since) / span_s * (WIDE - EDGE - 16)
        y = floor - 4 - (row.value / top) ** 0.5 * (floor - 22)
        words = f"{row.ref} {span(row.value)} {row.words}"
        parts.append(f'<circle class="mid" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{_text(words)}</title></circle>')
    parts.append(f'<text x="{EDGE}" y="12">{span(top)}</text>')
    parts.append(f'<text x="{EDGE}" y="{HIGH - 4}">{_day(found.since)}</text>')
    parts.append(f'<text x="{WIDE - 64}" y="{HIGH - 4}">{_day(found.until)}</text>')
    return _svg(parts, "lead time of each change by when it went live")


def _svg(parts: Sequence[str], words: str) -> str:
    return f'<svg viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="{words}">{"".join(parts)}</svg>'


def _stations(found: Keys) -> str:
    rows = "".join(
        f"<tr><td>{_text(item.name)}</td><td>{value(item.time).partition(',')[0]}</td>"
        f"<td>{span(item.time.p90)}</td><td>{item.time.n}</td></tr>"
        for item in found.stations
    )
    return (
        "<h2>Where the lead time went</h2><table><tr><th>part</th><th>median</th><th>nine of ten</th><th>n</th></tr>"
        f"{rows}</table>"
    )


def _rows(index: int, line: Line) -> str:
    newest = sorted(line.figure.rows, key=lambda row: -row.at)
    rows = "".join(
        f"<tr><td>{_text(row.ref)}</td><td>{_minute(row.at)}</td><td>{_text(one(line.figure, row))}</td>"
        f"<td>{_text(row.words)}</td></tr>"
        for row in newest
    )
    body = f'<div class="wide"><table>{rows}</table></div>' if rows else "<p>No rows.</p>"
    return f'<details id="f{index}"><summary>{_text(line.title)}: {len(newest)} rows</summary>{body}</details>'
