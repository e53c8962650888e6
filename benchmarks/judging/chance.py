"""What a number of cases out of so many can be taken for."""

from andon.immune.recommending import at_most, upper_bound

__all__ = ["at_least", "at_most", "upper_bound"]


def at_least(k: int, n: int, p: float) -> float:
    """Probability of k or more out of n: small, if k is more than p explains."""
    return 1.0 if k <= 0 else 1 - at_most(k - 1, n, p)
