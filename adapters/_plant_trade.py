"""What the lines of the plant deal in: people, titles, durations, and the numbers a shop makes while it runs.

Everything here is a pure function of its arguments. A measured value depends on the seed, the line, the series, its
bucket and the harm done in it, and on nothing else, so that any process can ask for any day at any time.
"""

import functools
import hashlib
import math
import random
from bisect import bisect_right
from statistics import NormalDist
from typing import NamedTuple

import msgspec

from andon.clock import Time

DAY_S = 86400.0
_NORMAL = NormalDist()
SERIES = ("conversion", "revenue", "signups", "latency", "errors")
HARMS = {"conversion": {"conversion": 0.6, "revenue": 0.6, "signups": 0.6}, "slow": {"latency": 3.0}}
"""By what a defect of a kind multiplies a series on the hosts that run it."""

HOSTILE = (
    "Fix [/] and [bold red]markup[/bold red] in the page title",
    "Set the window title \x1b]0;owned\x07 from the \x1b[31mreceipt\x1b[0m",
    "Rename receipt_\u202egnp.exe\u202c to something honest",
)
"""Titles that would press keys, paint or turn text around, if anybody let them."""

_COMMON = (
    "Log the request id",
    "Drop an unused column",
    "Upgrade the base image",
    "Retry once on a closed connection",
    "Say which field is missing",
    "Paginate by cursor",
    "Cache the feature flags for 30 s",
    "Delete dead code after the last experiment",
    "Name the timeout in the error",
    "Round half to even",
)


class Harm(NamedTuple):
    """From `at` on, these shares of the hosts run a version with a defect of that kind."""

    at: Time
    shares: dict[str, float]


class Trade(msgspec.Struct, frozen=True):
    """What one line is like. Rates are per second at the busiest hour."""

    authors: tuple[str, ...]
    titles: tuple[str, ...]
    commit_s: float = 280.0
    """Mean time between commits."""
    roll_s: tuple[float, float] = (15.0, 30.0)
    """How long a deployment rolls, at least and at most."""
    soak_s: float = 900.0
    """How long the pipeline lets a deployment be before it ships the next."""
    visits: float = 100.0
    share: float = 0.05
    """Of the visits that convert."""
    basket: float = 20.0
    """Mean revenue of a conversion."""
    signups: float = 0.5
    requests: float = 300.0
    latency_ms: float = 150.0
    errors: float = 0.0003
    flaky: str = ""
    """A test that fails now and then, whatever changed; empty: none does."""
    outages: bool = False
    """Whether its meters do not answer from time to time."""
    scripted: bool = False
    """Whether it is calm at first, and then ships a defect."""
    defect_after_s: float = 1500.0
    """No defect of its own accord before that."""
    harms: tuple[str, ...] = ("conversion",)


_TRADES = {
    "checkout": Trade(
        authors=("ann", "bo", "dee", "eli"),
        titles=("Show saved cards first", "Show CVV hint", "Cache tax table", "Log basket id", "Merge guest baskets"),
        commit_s=240.0,
        visits=200.0,
        share=0.031,
        basket=38.0,
        latency_ms=182.0,
        scripted=True,
        defect_after_s=4500.0,
    ),
    "search": Trade(
        authors=("bo", "hal", "ivy"),
        titles=(
            "Synonyms for sizes",
            "Boost what is in stock",
            "Stem plurals in Dutch",
            "Fewer shards for suggestions",
        ),
        commit_s=420.0,
        roll_s=(150.0, 240.0),
        soak_s=1200.0,
        visits=150.0,
        share=0.12,
        basket=0.4,
        latency_ms=96.0,
        harms=("slow", "conversion"),
    ),
    "payments": Trade(
        authors=("cy", "ann", "jo"),
        titles=(
            "Retry 3-D Secure once",
            "Hold refunds over 500 for review",
            "Rotate acquirer keys",
            "Settle at midnight UTC",
        ),
        commit_s=320.0,
        roll_s=(25.0, 45.0),
        visits=6.6,
        share=0.94,
        basket=1.1,
        requests=40.0,
        latency_ms=240.0,
        outages=True,
    ),
    "accounts": Trade(
        authors=("fay", "gus", "cy", "kim"),
        titles=(
            "Passkeys for everyone",
            "Expire sessions after 30 d",
            "DKIM key rotation",
            "One form for both addresses",
        ),
        commit_s=220.0,
        soak_s=720.0,
        visits=4.0,
        share=0.13,
        basket=4.0,
        signups=0.52,
        latency_ms=74.0,
        errors=0.0001,
        flaky="test_session_expires_on_the_hour",
    ),
}


def trade(line: str) -> Trade:
    """What the line of that name deals in; a name not known here gets a trade of its own, drawn from the name."""
    known = _TRADES.get(line)
    if known:
        return known
    dice = random.Random(f"trade/{line}")  # noqa: S311  a shop, not a secret
    return Trade(
        authors=tuple(dice.sample(["ann", "bo", "cy", "dee", "eli", "fay", "gus", "hal", "ivy", "jo"], 4)),
        titles=(f"Tidy {line}", f"Name the states of {line}", f"Metrics for {line}"),
        commit_s=dice.uniform(240.0, 480.0),
        visits=dice.uniform(60.0, 200.0),
        share=dice.uniform(0.03, 0.15),
        latency_ms=dice.uniform(80.0, 250.0),
    )


def title(of: Trade, dice: random.Random) -> str:
    """A commit's title; about one in fourteen is hostile."""
    if dice.random() < 0.07:
        return dice.choice(HOSTILE)
    return dice.choice(of.titles if dice.random() < 0.5 else _COMMON)


def measured(seed: int, line: str, series: str, bucket: int, every: float, harm: float) -> tuple[float, float | None]:
    """Value and trials of one bucket of a series; `harm` is the mean factor that defects put on it (1: none)."""
    of = trade(line)
    at = bucket * every
    one, two = _chances(f"{seed}|{line}|{series}|{bucket}|{every:g}")
    crowd = every * rhythm(at + every / 2) * (1.0 + 0.03 * _wander(seed, line, "crowd", at))
    drift = 1.0 + 0.015 * _wander(seed, line, series, at)
    if series == "conversion":
        trials = _count(of.visits * crowd, one)
        return _hits(trials, of.share * drift * harm, two), float(trials)
    if series == "revenue":
        orders = _count(of.visits * of.share * crowd * drift * harm, one)
        spread = 0.35 * _NORMAL.inv_cdf(two) / math.sqrt(max(1, orders))
        return round(orders * of.basket * max(0.2, 1.0 + spread), 2), None
    if series == "signups":
        return float(_count(of.signups * crowd * drift * harm, one)), None
    requests = _count(of.requests * crowd, one)
    if series == "errors":
        return _hits(requests, of.errors * harm, two), float(requests)
    noise = _NORMAL.inv_cdf(two) * min(0.2, 2.5 / math.sqrt(max(1, requests)))
    return round(of.latency_ms * (0.92 + 0.08 * rhythm(at)) * drift * harm * math.exp(noise), 1), float(requests)


def factor(harms: tuple[Harm, ...], series: str, start: Time, end: Time) -> float:
    """By what defects multiplied a series in `[start, end)`, on average over time and hosts; 1: not at all."""
    index = bisect_right(harms, start, key=lambda harm: harm.at) - 1
    total, at = 0.0, start
    while at < end:
        until = min(end, harms[index + 1].at) if index + 1 < len(harms) else end
        shares = harms[index].shares if index >= 0 else {}
        total += (until - at) * sum(share * (HARMS[kind].get(series, 1.0) - 1.0) for kind, share in shares.items())
        at, index = until, index + 1
    return max(0.0, 1.0 + total / (end - start))


def rhythm(at: Time) -> float:
    """How busy it is, from 0.45 in the small hours to 1 in the evening, a little more at the weekend."""
    hour = at % DAY_S / 3600.0
    day = 0.725 + 0.275 * math.sin((hour - 13.0) / 24.0 * math.tau)
    weekend = int(at // DAY_S + 3) % 7 >= 5
    return day * (1.0 if weekend else 0.95)


def meters_down(seed: int, line: str, since_start_s: float) -> bool:
    """Whether the line's meters do not answer: two to five minutes in every three quarters of an hour, if ever."""
    if not trade(line).outages or since_start_s < 0:
        return False
    slot, into = divmod(since_start_s, 2700.0)
    one, two = _chances(f"{seed}|{line}|outage|{int(slot)}")
    begins = 600.0 + one * 1500.0
    return begins <= into < begins + 120.0 + two * 180.0


def log(of: Trade, job: str, change: str, fails: str, done: float) -> tuple[str, ...]:
    """The lines a job has written when it is `done` (0 to 1); a failing one ends with what `fails`."""
    dice = random.Random(f"log/{job}/{change}")  # noqa: S311
    if job == "image":
        body = [f"#{n} \x1b[34m[{n}/12]\x1b[0m RUN step {n}, {dice.uniform(0.2, 6):.1f}s" for n in range(1, 13)]
    elif job == "roll":
        body = [f"host {n} of 5: drained, switched, healthy" for n in range(1, 6)]
    else:
        names = [word.lower() for name in (*of.titles, *_COMMON) for word in name.split() if word.isalpha()]
        body = [
            f"tests/{job}/test_{dice.choice(names)}_{n}.py \x1b[32mPASSED\x1b[0m {dice.uniform(0.01, 2.0):.2f}s"
            for n in range(40)
        ]
    lines = [f"checkout of {change[:12]}", *body]
    lines += [f"FAILED {fails}", "1 failed, the rest passed"] if fails else ["all passed"]
    return tuple(lines[: max(0, math.floor(len(lines) * min(1.0, done)))])


def _chances(key: str) -> tuple[float, float]:
    """Two numbers in (0, 1) that belong to `key` for ever, in every version of Python."""
    drawn = hashlib.blake2b(key.encode(), digest_size=16).digest()
    return (int.from_bytes(drawn[:7], "big") + 0.5) / 2**56, (int.from_bytes(drawn[8:15], "big") + 0.5) / 2**56


def _count(mean: float, chance: float) -> int:
    """A Poisson count, by inversion; by its normal limit where the mean is large."""
    if mean > 60.0:
        return max(0, round(mean + math.sqrt(mean) * _NORMAL.inv_cdf(chance)))
    found, term = 0, math.exp(-mean)
    total = term
    while chance > total and found < 400:
        found += 1
        term *= mean / found
        total += term
    return found


def _hits(trials: int, share: float, chance: float) -> float:
    """A binomial count; by its normal limit where that holds, as rare events elsewhere."""
    share = min(1.0, max(0.0, share))
    spread = trials * share * (1.0 - share)
    if spread > 30.0:
        return float(min(trials, max(0, round(trials * share + math.sqrt(spread) * _NORMAL.inv_cdf(chance)))))
    if share > 0.5:
        return float(trials - min(trials, _count(trials * (1.0 - share), chance)))
    return float(min(trials, _count(trials * share, chance)))


def _wander(seed: int, line: str, what: str, at: Time) -> float:
    """A slow drift between -1 and 1 that turns about every half hour."""
    knot, into = divmod(at, 1800.0)
    smooth = (1.0 - math.cos(into / 1800.0 * math.pi)) / 2.0
    left, right = _knot(seed, line, what, int(knot)), _knot(seed, line, what, int(knot) + 1)
    return left + (right - left) * smooth


@functools.lru_cache(maxsize=8192)
def _knot(seed: int, line: str, what: str, knot: int) -> float:
    return _chances(f"{seed}|{line}|{what}|knot|{knot}")[0] * 2.0 - 1.0
