"""Small numeric tools of the judge, over numpy arrays."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Whole = NDArray[np.int64]


def as_floats(values: object) -> Floats:
    """`values` as an array of floats: numpy's own types often say less."""
    return np.asarray(values, dtype=np.float64)


def log_sum_exp(terms: Floats) -> float:
    """log(sum(exp(terms))) without overflow; `terms` is not empty."""
    top = float(terms.max())
    return top + math.log(float(np.exp(terms - top).sum()))


def ranked(ordered: Floats, share: float) -> float:
    """The value at that share (0–1) of an ordered array."""
    return float(ordered[int(share * (len(ordered) - 1))])


def medians(rows: Floats) -> Floats:
    """The median of each column, leaving NaN out; NaN where a column has nothing else."""
    ordered = np.sort(rows, axis=0)  # NaN comes last
    count = np.isfinite(rows).sum(axis=0)
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(rows) - 1)
    columns = np.arange(rows.shape[1])
    return np.where(count > 0, (ordered[low, columns] + ordered[high, columns]) / 2, np.nan)


def means(rows: Floats) -> Floats:
    """The mean of each column, leaving NaN out; NaN where a column has nothing else."""
    finite = np.isfinite(rows)
    count = finite.sum(axis=0)
    return np.where(count > 0, np.where(finite, rows, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)


def ratio(top: Floats, bottom: Floats) -> Floats:
    """`top / bottom`; NaN where `bottom` is not positive."""
    return np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1.0), np.nan)


def running(values: Floats) -> Floats:
    """Running sums that begin with 0: one longer than `values`."""
    sums = np.zeros(len(values) + 1)
    np.cumsum(values, out=sums[1:])
    return sums


def before(flags: Flags) -> Flags:
    """Whether the neighbour before each is set."""
    return np.concatenate(([False], flags[:-1]))


def after(flags: Flags) -> Flags:
    """Whether the neighbour after each is set."""
    return np.concatenate((flags[1:], [False]))


def rising(values: Sequence[float], weights: Sequence[float]) -> Floats:
    """The weighted least-squares fit that never falls (pool adjacent violators).

    A running maximum of noisy values is too high by the noise; this is not.
    """
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        block = (float(value), float(weight), 1)
        while blocks and blocks[-1][0] > block[0]:
            value_, weight_, size = blocks.pop()
            total = weight_ + block[1]
            block = ((value_ * weight_ + block[0] * block[1]) / total, total, size + block[2])
        blocks.append(block)
    return np.concatenate([np.full(size, value) for value, _, size in blocks])
