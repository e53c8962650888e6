"""What a number of cases out of so many can be taken for."""

import math


def at_most(k: int, n: int, p: float) -> float:
    """Probability of k or fewer out of n, each with probability p."""
    if p <= 0 or k >= n:
        return 1.0
    if p >= 1:
        return 0.0
    logs = [
        math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) + (n - i) * math.log1p(-p)
        for i in range(k + 1)
    ]
    top = max(logs)
    return min(1.0, math.exp(top) * math.fsum(math.exp(one - top) for one in logs))


def at_least(k: int, n: int, p: float) -> float:
    """Probability of k or more out of n: small, if k is more than p explains."""
    return 1.0 if k <= 0 else 1 - at_most(k - 1, n, p)


def upper_bound(k: int, n: int, level: float = 0.95) -> float:
    """The largest probability that k out of n still leave possible at this one-sided level (Clopper and Pearson)."""
    if k >= n:
        return 1.0
    low, high = k / n, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if at_most(k, n, middle) > 1 - level else (low, middle)
    return high
