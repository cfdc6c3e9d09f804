"""Sub-networks told apart by the log-likelihood of the right answers, where counted answers are too few.

A few hundred validation samples count networks as equal that differ by a point or two, and as different by
chance; the probability that each gives to the right answer says more with the same samples. People still read
accuracies, so a log-likelihood is turned into the accuracy that networks with it have, by a line through the
scored ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from latency_tables.dense import Array
from supernets.tasks.metric import Metric

LIKELIHOOD: Final = Metric("log_likelihood", lowest=None, highest=0.0)
"""Mean log-probability of the right answer, in nats a sample."""


GROUPS: Final = 64
"""Of samples, each with its own mean log-likelihood."""


class Groups:
    """Mean log-likelihoods of groups of samples, summed batch by batch: sample i is of group i modulo their
    number, so groups of two networks are of the same samples."""

    def __init__(self, samples: int) -> None:
        self._sums, self._samples, self._seen = np.zeros(GROUPS), samples, 0

    def add(self, likelihoods: Array) -> None:
        """Of the next samples, (n,)."""
        own = (self._seen + np.arange(len(likelihoods))) % GROUPS
        self._sums += np.bincount(own, weights=likelihoods.astype(np.float64), minlength=GROUPS)
        self._seen += len(likelihoods)

    def means(self) -> Array | None:
        """(groups,) of those that have samples; None where none had one, as in tasks without them."""
        if not self._seen:
            return None
        counts = np.bincount(np.arange(self._samples) % GROUPS)
        return np.asarray(self._sums[: len(counts)] / counts)


@dataclass(frozen=True)
class Scale:
    """quality = offset + slope * log-likelihood, in nats a sample. slope: above 0."""

    offset: float
    slope: float

    @classmethod
    def fit(cls, qualities: Sequence[float] | Array, likelihoods: Sequence[float] | Array) -> Scale | None:
        """The line through scored networks; None where quality does not rise with the log-likelihood: then
        what is counted has to decide."""
        x, y = np.asarray(likelihoods, dtype=np.float64), np.asarray(qualities, dtype=np.float64)
        if len(x) < 2 or not np.isfinite(x).all() or np.ptp(x) == 0:
            return None
        slope = float(np.polyfit(x, y, 1)[0])
        return cls(float(y.mean() - slope * x.mean()), slope) if slope > 0 else None

    def quality(self, likelihood: float) -> float:
        """The quality that networks of that mean log-likelihood have."""
        return self.offset + self.slope * likelihood


def standard_error(one: Sequence[float], other: Sequence[float]) -> float:
    """Of the difference of two networks' mean log-likelihoods, from those of equal groups of the same
    samples.

    Both networks find the same samples hard, so their difference varies much less than either. Infinite for
    fewer than two groups.
    """
    differences = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    if len(differences) < 2:
        return math.inf
    return float(differences.std(ddof=1) / math.sqrt(len(differences)))


def equal_to_best(likelihoods: Sequence[Sequence[float]]) -> list[int]:
    """Indices of the networks whose mean log-likelihood is less than one standard error below the best's; the
    best is among them."""
    means = [float(np.mean(groups)) for groups in likelihoods]
    best = int(np.argmax(means))
    return [
        index
        for index, groups in enumerate(likelihoods)
        if index == best or means[best] - means[index] < standard_error(likelihoods[best], groups)
    ]
