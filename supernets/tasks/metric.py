"""How good a network is at a task: a metric as people read it, and the quality that everything inside works
with.

A *quality* is a metric's value turned so that higher is better: predictors, searches and choices never ask
for the direction. `Metric.value` turns it back where a person or a file is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeVar

import numpy as np

from latency_tables.dense import Array
from supernets.errors import InvalidPredictor, InvalidSearch

Number = TypeVar("Number", float, Array)


@dataclass(frozen=True)
class Metric:
    """A metric with its direction and range. lowest, highest: None where it has no bound on that side.

    Raises ValueError for a range that is empty.
    """

    name: str
    higher_is_better: bool = True
    lowest: float | None = 0.0
    highest: float | None = 1.0

    def __post_init__(self) -> None:
        if self.lowest is not None and self.highest is not None and not self.lowest < self.highest:
            raise ValueError(f"metric {self.name!r}: the lowest value lies below the highest")

    def quality(self, value: Number) -> Number:
        """The quality of a value of this metric; the same function leads back, see `value`."""
        return value if self.higher_is_better else -value

    def value(self, quality: Number) -> Number:
        """The metric's value of a quality, within the metric's range: a model may promise more than
        everything."""
        found = self.quality(quality)
        low = -np.inf if self.lowest is None else self.lowest
        high = np.inf if self.highest is None else self.highest
        return np.clip(found, low, high) if isinstance(found, np.ndarray) else min(max(found, low), high)

    @property
    def worst(self) -> float | None:
        """The quality below which there is none; None where there is no such bound."""
        found = self.lowest if self.higher_is_better else self.highest
        return None if found is None else self.quality(found)

    @property
    def best(self) -> float | None:
        """The quality above which there is none; None where there is no such bound."""
        found = self.highest if self.higher_is_better else self.lowest
        return None if found is None else self.quality(found)

    def share(self, quality: float) -> float:
        """Where a quality lies between the worst (0) and the best (1). Raises InvalidSearch for an open
        range."""
        if self.worst is None or self.best is None:
            raise InvalidSearch(
                f"metric {self.name!r} has no worst and best value to reward networks by; search with `two`"
            )
        return (quality - self.worst) / (self.best - self.worst)

    def variance(self, quality: float, samples: int) -> float | None:
        """The most that the quality of a mean over so many samples can vary by; None where the range is
        open.

        Values within [a, b] with mean m have a variance of (b - m)(m - a) at most (Bhatia and Davis, 2000),
        which is reached by values that are right or wrong: for accuracy it is p(1 - p). Never 0: 100 % of
        few samples promises little.
        """
        if self.worst is None or self.best is None:
            return None
        width = self.best - self.worst
        return max((self.best - quality) * (quality - self.worst), 0.25 * width**2 / samples) / samples

    @property
    def scale(self) -> int:
        """What a value is multiplied by for people: shares are shown in percent, differences in points."""
        return 100 if (self.lowest, self.highest) == (0.0, 1.0) else 1

    @property
    def label(self) -> str:
        """Name with unit, for tables and axes."""
        return f"{self.name.replace('_', ' ')}, %" if self.scale == 100 else self.name.replace("_", " ")

    def text(self, quality: float) -> str:
        """As a person reads it: a share in percent, anything else as a number."""
        value = self.value(quality)
        return f"{value:.2%}" if self.scale == 100 else f"{value:.4g}"

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reads them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> Metric:
        """None, as predictors of before there were other metrics have it, is accuracy. Raises
        InvalidPredictor."""
        try:
            return ACCURACY if data is None else cls(**data)
        except (TypeError, ValueError) as error:
            raise InvalidPredictor(f"not a metric ({error}); fit the predictor again") from error


ACCURACY: Final = Metric("accuracy")
"""The share of right answers: the metric of the task `images`."""
