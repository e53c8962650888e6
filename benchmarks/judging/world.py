"""What a service lives through while nothing is wrong: days, weekends, growth, and noise that outlasts a bucket."""

import math
from dataclasses import dataclass

import numpy as np

DAY = 86400.0
HOUR = 3600.0
MINUTE = 60.0


@dataclass
class Habit:
    """How demand moves by itself. Amplitudes and standard deviations are natural logs of a level."""

    day: float = 0.0
    """Of the wave with one crest a day."""
    twice: float = 0.0
    """Of the wave with two."""
    peak_s: float = 0.0
    """Local time of the crest."""
    weekend: float = 0.0
    """Level of a day off against a working day."""
    later_s: float = 0.0
    """By how much the crest of a day off comes later."""
    growth: float = 0.0
    """Per day."""
    wobble: float = 0.0
    """How much whole days differ."""
    noise: float = 0.0
    memory_s: float = 600.0
    """How long the noise lasts: an autoregression of order one with this time constant."""
    wander: float = 0.0
    """A second noise, of half a day's memory: near a deployment it looks like a random walk."""
    spread: float = 1.0
    """Variance over mean of what is counted; 1 is Poisson."""


def draw_habit(rng: np.random.Generator) -> Habit:
    """An ordinary business: clear days, some noise."""
    return Habit(
        day=rng.uniform(0.1, 0.8),
        twice=rng.uniform(0, 0.25),
        peak_s=rng.uniform(0, DAY),
        weekend=math.log(rng.uniform(0.4, 1.15)),
        later_s=rng.uniform(0, 2 * HOUR),
        growth=rng.normal(0, 0.004),
        wobble=float(rng.choice([0.01, 0.03, 0.05])),
        noise=float(rng.choice([0, 0.01, 0.02, 0.04], p=[0.35, 0.3, 0.22, 0.13])),
        memory_s=float(rng.choice([120, 300, 900, 2700])),
        spread=float(rng.choice([1.0, 1.2, 1.8, 3.5], p=[0.35, 0.3, 0.22, 0.13])),
    )


def day_off(local: np.ndarray) -> np.ndarray:
    """How much each local second belongs to a weekend, 0 to 1; people change over within six hours around midnight."""
    edges = np.array([0, 0.125, 4.875, 5.125, 6.875, 7])
    return np.interp((local / DAY) % 7, edges, [0.5, 0, 0, 1, 1, 0.5])


def season(habit: Habit, local: np.ndarray, off: np.ndarray | None = None) -> np.ndarray:
    """Log demand by the clock on the wall; `off` is how much of a day off each moment is, if not by the calendar."""
    off = day_off(local) if off is None else off

    def wave(peak_s: float) -> np.ndarray:
        angle = 2 * math.pi * (local - peak_s) / DAY
        return habit.day * np.cos(angle) + habit.twice * np.cos(2 * angle + 1.3)

    return (1 - off) * wave(habit.peak_s) + off * (habit.weekend + wave(habit.peak_s + habit.later_s))


def lasting(rng: np.random.Generator, size: int, step: float, sd: float, memory_s: float) -> np.ndarray:
    """Stationary noise with this standard deviation that forgets within `memory_s`."""
    if sd <= 0:
        return np.zeros(size)
    keep = math.exp(-step / memory_s)
    shocks = sd * math.sqrt(1 - keep * keep) * rng.standard_normal(size)
    shocks[0] = sd * rng.standard_normal()
    reach = min(size, math.ceil(math.log(1e-7) / math.log(keep)) + 1) if keep > 1e-7 else 1
    return convolve(shocks, keep ** np.arange(reach))


def convolve(values: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """The first len(values) of the convolution, through the Fourier transform."""
    length = 1 << (len(values) + len(kernel) - 2).bit_length()
    product = np.fft.rfft(values, length) * np.fft.rfft(kernel, length)
    return np.fft.irfft(product, length)[: len(values)]


def whole_days(rng: np.random.Generator, t: np.ndarray, sd: float) -> np.ndarray:
    """What makes one day better than the next; half of it stays for the day after."""
    first, last = int(t[0] // DAY) - 1, int(t[-1] // DAY) + 2
    levels = [sd * rng.standard_normal()]
    for _ in range(first, last):
        levels.append(0.5 * levels[-1] + math.sqrt(0.75) * sd * rng.standard_normal())
    return np.interp(t / DAY - 0.5, np.arange(first, last + 1), levels)


def counted(rng: np.random.Generator, mean: np.ndarray, spread: float) -> np.ndarray:
    """Events with these means: Poisson, or with a gamma mixture if they come in clumps."""
    if spread > 1:
        mean = rng.gamma(np.maximum(mean, 1e-12) / (spread - 1), spread - 1)
    return rng.poisson(mean).astype(float)
