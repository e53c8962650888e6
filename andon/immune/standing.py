"""How the metric stood before the deployment: what it is compared with, and what had begun already.

An incident or a surge that is plain is taken into the reference; a fainter one competes, onset by onset, with the
deployment for the evidence that comes later.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from andon.clock import Time
from andon.immune.arith import Floats
from andon.immune.inflation import Inflation
from andon.immune.levels import Levels

State = Literal["normal", "incident", "growing", "surge"]
LOOKS_MIN = (3, 5, 10, 15, 25, 40, 60, 90)
BAD_Z, GOOD_Z = 3.5, 3.0
"""Standard deviations beyond which the minutes before a deployment are openly an incident, or a surge."""
FAR, GOOD_FAR_Z = 2.0, 2.0
"""Where the level is better than usual by so many deviations of half hours, less shows a surge."""
GROWS_Z = 1.0
HOUR_MASS = 0.5
"""Prior mass of an onset in the hour before, relative to that of the deployment."""
MOST_NATS_A_MINUTE = 1.5
"""One heavy bucket just before the deployment is no incident."""
ODD_LEVEL, OVER_LEVEL = 3.0, 2.0
"""A level further from the usual one, in deviations of half hours, is odd."""
OWN_MASS = 0.4
"""Prior mass of an onset with the deployment itself; another deployment in the hour before has as much."""


def stood(levels: Levels, inflation: Inflation) -> tuple[State, float]:
    """The state before the deployment, and the level that the watch is compared with."""
    looks = _looks(levels, inflation)
    window, size, sign = min(inflation.window, levels.size), levels.size, levels.frame.sign
    reference = levels.level(size - window, size)
    if reference is None:
        reference = levels.level(0, size) or 0.0
    usual = _usual(levels)
    state: State = "normal"
    ended: tuple[float, int] | None = None
    recent = {length: now for length, _, now, _ in looks}
    for length, earlier, now, z in looks:
        good = GOOD_Z if usual is None or sign * (usual[0] - now) < FAR * usual[1] else GOOD_FAR_Z
        if -good <= z <= BAD_Z:
            continue
        if usual is not None and _returned(earlier, now, *usual):
            if ended is None or abs(z) > ended[0]:
                ended = (abs(z), length)  # something odd ended then: now is the ordinary state
        elif z > 0 and usual is not None and (over := _over(recent, length, now, *usual)):
            ended = max(ended or (0.0, 0), (z, over))
        elif z > 0:
            state = "incident"
        elif state == "normal":
            state = "surge"
    seen = [level for _, earlier, now, _ in looks for level in (now, earlier)]
    if state == "incident" and _grows(levels, inflation):
        state = "growing"
    if state != "normal":
        reference = max([reference, *seen]) if sign > 0 else min([reference, *seen])
    elif ended is not None:
        since = _since(levels, ended[1])
        reference = max(since) if sign > 0 else min(since)
    return state, reference if levels.frame.additive or reference > 0 else 1e-9


def _looks(levels: Levels, inflation: Inflation) -> list[tuple[int, float, float, float]]:
    """The last minutes against those before: (length, level before, level now, standard deviations on the bad side)."""
    frame, size, window = levels.frame, levels.size, min(inflation.window, levels.size)
    found = []
    for length in sorted({frame.buckets(minutes) for minutes in LOOKS_MIN}):
        if size - length - window < 0 or length < 2:
            continue
        earlier, now = levels.level(size - length - window, size - length), levels.level(size - length, size)
        e = float(levels.exposure[size] - levels.exposure[size - length])
        if earlier is None or now is None or e <= 0:
            continue
        f = inflation.at(0, length)
        if frame.additive:
            z = (now - earlier) * math.sqrt(e / (levels.variance * f))
        else:
            expected = earlier * e
            y = float(levels.sums[size] - levels.sums[size - length])
            z = (y - expected) / math.sqrt(max(expected * (1 - levels.share) * f, 1e-9))
        found.append((length, earlier, now, frame.sign * z))
    return found


def _grows(levels: Levels, inflation: Inflation) -> bool:
    """Whether the last five minutes are worse than the ten before them."""
    frame, size = levels.frame, levels.size
    short, long = frame.buckets(5), frame.buckets(10)
    earlier, now = levels.level(size - short - long, size - short), levels.level(size - short, size)
    e = float(levels.exposure[size] - levels.exposure[size - short])
    if earlier is None or now is None or e <= 0:
        return False
    spread = levels.variance if frame.additive else max(abs(earlier), 1e-9) * (1 - levels.share)
    error = math.sqrt(spread * inflation.at(0, short) * (1 / e) * 1.5)
    return frame.sign * (now - earlier) > GROWS_Z * error


def _since(levels: Levels, length: int) -> list[float]:
    """The levels since something odd ended; the worst of them counts, to be careful."""
    frame, size = levels.frame, levels.size
    lengths = {frame.buckets(minutes) for minutes in LOOKS_MIN[1:]} | {length}
    near = [levels.level(size - item, size) for item in lengths if item <= max(length, frame.buckets(5))]
    return [level for level in near if level is not None]


def _returned(earlier: float, now: float, usual: float, spread: float) -> bool:
    """Whether the metric came back from an odd level to its usual one."""
    return abs(now - usual) < 0.4 * abs(earlier - usual) and abs(earlier - usual) > ODD_LEVEL * spread


def _over(recent: dict[int, float], length: int, now: float, usual: float, spread: float) -> int:
    """For how many buckets what a look of `length` shows has been over, and the metric as usual again; 0: it is not."""
    if abs(now - usual) <= OVER_LEVEL * spread:
        return 0
    near = [shorter for shorter, level in recent.items() if shorter < length]
    near = [shorter for shorter in near if abs(recent[shorter] - usual) < 0.4 * abs(now - usual)]
    return max(near, default=0)


def _usual(levels: Levels) -> tuple[float, float] | None:
    """The median level of the half hours of the last day, up to 90 min ago, and their robust deviation; None: too few."""
    frame = levels.frame
    half, end = frame.buckets(30), levels.size - frame.buckets(90)
    count = min(end // half, 48)
    if count < 8:
        return None
    cuts = slice(end - count * half, end + 1, half)
    e, y = np.diff(levels.exposure[cuts]), np.diff(levels.sums[cuts])
    seen = e > 0
    if int(seen.sum()) < 8:
        return None
    each = y[seen] / e[seen]
    middle = float(np.median(each))
    return middle, 1.4826 * float(np.median(np.abs(each - middle)))


def earlier_onsets(
    levels: Levels, inflation: Inflation, effects: Floats, shifts: Floats, weights: Floats, suspects: Sequence[Time]
) -> Floats | None:
    """For each effect the log of the evidence, weighted by prior mass, that it began within the hour before.

    `suspects` are the times of other deployments in that hour. None: nothing earlier can be told apart.
    """
    frame, size, window = levels.frame, levels.size, inflation.window
    back = sorted({frame.buckets(minutes) for minutes in range(1, 61)})
    back = [length for length in back if size - length - window >= 0]
    if not back:
        return None
    mass = dict.fromkeys(back, HOUR_MASS / len(back))
    for at in suspects:
        length = round((frame.began - at) / frame.step)
        if length > 0 and size - length - window >= 0:
            mass[length] = mass.get(length, 0.0) + OWN_MASS
    lengths = np.array(sorted(mass))
    begin = size - lengths
    before_y = levels.sums[begin] - levels.sums[begin - window]
    before_e = levels.exposure[begin] - levels.exposure[begin - window]
    y, e = levels.sums[size] - levels.sums[begin], levels.exposure[size] - levels.exposure[begin]
    usable = (before_e > 0) & (e > 0)
    if not usable.any():
        return None
    lengths, y, e, level = lengths[usable], y[usable], e[usable], before_y[usable] / before_e[usable]
    if frame.additive:
        shift = shifts[None]
        scores = ((y - level * e)[:, None] * shift - e[:, None] * shift * shift / 2) / levels.variance
    else:
        scores = y[:, None] * np.log(effects)[None] - (level * e)[:, None] * (effects - 1)[None]
        scores = scores / (1 - levels.share)
    f = inflation.at_once(lengths)[:, None]
    most = (MOST_NATS_A_MINUTE * lengths * frame.minutes)[:, None]
    terms = np.minimum(scores / f, most) + np.log([mass[int(item)] for item in lengths])[:, None]
    top = terms.max(axis=0)
    found: Floats = weights + top + np.log(np.exp(terms - top).sum(axis=0))
    return found
