"""From the values that a tensor has on calibration samples to the scale and zero point of its 8-bit form.

Affine, unsigned, per tensor, as in Jacob et al., "Quantization and training of neural networks for efficient
integer-arithmetic-only inference" (CVPR 2018). `entropy` is the calibration of Migacz, "8-bit inference with
TensorRT" (2017), for ranges that need not lie around zero; `mse` takes the range of which the rounded values
lie nearest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from latency_tables.dense import Array

LEVELS: Final = 256
_BINS: Final = 2048
_PERCENT_KEPT: Final = 99.99
_SHRUNK: Final = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
"""Parts of the whole range that are tried; of each end by itself."""
_SMALLEST: Final = 1e-8  # a tensor that is constantly zero still needs a scale


@dataclass(frozen=True)
class Range:
    """From low to high: what 256 levels are spread over, 0 among them, so that zeros (padding) stay exact."""

    low: float
    high: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", min(0.0, self.low))
        object.__setattr__(self, "high", max(0.0, self.high, self.low + _SMALLEST))

    @property
    def scale(self) -> float:
        """Between two levels, as a float32 holds it."""
        return float(np.float32((self.high - self.low) / (LEVELS - 1)))

    @property
    def zero_point(self) -> int:
        """The level of 0."""
        return int(np.clip(np.rint(-self.low / self.scale), 0, LEVELS - 1))


Counts = tuple[Array, Array]
"""(values in each bin, the bins' middles)"""


def histogram(values: Array) -> Counts:
    """Counts (bins,) and middles (bins,) of values of any shape."""
    low, high = float(values.min()), float(values.max())
    counts, edges = np.histogram(values, _BINS, (low, max(high, low + _SMALLEST)))
    return counts.astype(np.float64), (edges[1:] + edges[:-1]) / 2


def ranges_of(values: Array, methods: tuple[str, ...]) -> dict[str, Range]:
    """The range of a tensor's values (any shape) by each method."""
    ends = float(values.min()), float(values.max())
    if not np.isfinite(ends).all():
        raise FloatingPointError("a value on the calibration samples is not finite")
    whole = Range(*ends)
    counts = histogram(values) if set(methods) - {"minmax"} else None
    return {
        method: whole if method == "minmax" or counts is None else _FOUND[method](counts, whole)
        for method in methods
    }


def _percentile(counts: Counts, whole: Range) -> Range:
    """What all but one value in 10,000 lie in, the same share cut off at both ends."""
    number, middles = counts
    share = np.cumsum(number) / number.sum()
    cut = (1 - _PERCENT_KEPT / 100) / 2
    low, high = int(np.searchsorted(share, cut)), int(np.searchsorted(share, 1 - cut))
    return Range(float(middles[low]), float(middles[min(high, len(middles) - 1)]))


def _squared_error(counts: Counts, tried: Range) -> float:
    number, middles = counts
    level = np.clip(np.rint(middles / tried.scale) + tried.zero_point, 0, LEVELS - 1)
    return float((number * (middles - (level - tried.zero_point) * tried.scale) ** 2).sum())


def _divergence(counts: Counts, tried: Range) -> float:
    """Kullback-Leibler divergence of the rounded values from the values cut off at the ends."""
    number, middles = counts
    inside = (middles >= tried.low) & (middles <= tried.high)
    if not inside.any():
        return float("inf")
    reference = np.where(inside, number, 0.0)
    places = np.flatnonzero(inside)
    first, last = places[0], places[-1]
    reference[first] += number[:first].sum()
    reference[last] += number[last + 1 :].sum()
    level = np.rint(middles / tried.scale).astype(np.int64)
    level -= level.min()
    # Every level's share is spread evenly over those of its bins that hold anything.
    held = inside & (number > 0)
    mass = np.bincount(level[inside], number[inside], level.max() + 1)
    spread = np.bincount(level[held], minlength=level.max() + 1)
    rounded = np.where(held, mass[level] / np.maximum(spread[level], 1), 0.0)
    p, q = reference / reference.sum(), rounded / max(rounded.sum(), 1.0)
    known = p > 0
    return float((p[known] * np.log(p[known] / np.maximum(q[known], 1e-12))).sum())


def _best(error: Callable[[Counts, Range], float]) -> Callable[[Counts, Range], Range]:
    def found(counts: Counts, whole: Range) -> Range:
        # One end after the other, the far one first: all pairs are 64, and their best is rarely another.
        best = whole
        for side in sorted(("low", "high"), key=lambda end: -abs(getattr(whole, end))):
            tried = [replace(best, **{side: getattr(whole, side) * part}) for part in _SHRUNK]
            best = min(tried, key=lambda one: error(counts, one))
        return best

    return found


_FOUND: Final[dict[str, Callable[[Counts, Range], Range]]] = {
    "percentile": _percentile,
    "entropy": _best(_divergence),
    "mse": _best(_squared_error),
}
