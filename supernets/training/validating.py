"""Validation quality of the two ends of a supernet while it trains: what its curve shows, and nothing that
changes its weights.
"""

from __future__ import annotations

import time
from typing import Final

from supernets.network import Supernet
from supernets.spaces.space import Space
from supernets.tasks.catalog import task_named, task_of
from supernets.tasks.data import Data

# Of the validation split, evenly spread: an error of three points or so, enough for a curve.
SAMPLES: Final = 256
CALIBRATION: Final = 128
LEAST_S: Final = 5.0  # from one validation to the next; the last epoch of a phase is always validated


class Validation:
    """Qualities of the largest and the smallest sub-network at the space's largest resolution, batch-norm
    recalibrated.
    """

    def __init__(self, space: Space, dataset: Data, least_s: float = LEAST_S) -> None:
        self._dataset, self._least_s = dataset, least_s
        self._networks = {"largest": space.largest(), "smallest": space.smallest(space.largest().resolution)}
        self._at = time.monotonic()

    def due(self) -> bool:
        """Whether it is long enough since the last one."""
        return time.monotonic() - self._at >= self._least_s

    def values(self, supernet: Supernet) -> dict[str, float]:
        """`largest` and `smallest`, by the task's metric (a classifier: share of right answers). The supernet
        is read only: its blocks are copied.
        """
        task, metric = task_of(self._dataset), task_named(self._dataset.task).metric
        evaluator = task.evaluator(
            supernet, self._dataset, "validation", limit=SAMPLES, calibration=CALIBRATION
        )
        found = evaluator.qualities(list(self._networks.values()))
        self._at = time.monotonic()
        # A curve is for people: errors are shown as errors.
        return dict(zip(self._networks, (metric.value(float(one)) for one in found), strict=True))
