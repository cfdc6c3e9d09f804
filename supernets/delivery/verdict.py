"""Whether a delivered file does on the test split what was predicted of it; the last guard for whatever else
went wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from supernets.tasks.metric import Metric

RARE: Final = 20
"""Below so many test samples a class's recall says little: one sample more or less moves it by over 5
points."""
_DEVIATIONS: Final = 4.0
"""Of predictor and test split together, one-sided: a sound network is called suspect about once in 30,000."""
_LEAST_ERROR: Final = 0.01  # of the metric's range
COLLAPSE: Final = 0.1
"""Of the metric's range. Rounding costs some tenths of a point; what costs ten points is no rounding error
but a block whose values do not fit in 256 levels."""
GOOD, SUSPECT = "good", "suspect"


def by_class(tally: npt.NDArray[Any], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Name, samples and recall of each class, in the order of the outputs. tally: (2, classes), right
    answers and samples."""
    return [
        {"name": name, "samples": int(samples), "recall": float(right / samples) if samples else None}
        for name, right, samples in zip(classes, *tally, strict=True)
    ]


def balanced_accuracy(classes: Sequence[dict[str, Any]]) -> float | None:
    """Mean recall of the classes that have samples."""
    recalls = [one["recall"] for one in classes if one["recall"] is not None]
    return float(np.mean(recalls)) if recalls else None


def warnings_of(classes: Sequence[dict[str, Any]]) -> list[str]:
    """What should be known before the recalls are believed."""
    rare = [one for one in classes if one["samples"] < RARE]
    if not rare:
        return []
    shown = ", ".join(f"{one['name']} ({one['samples']})" for one in rare[:5]) + (
        ", ..." if len(rare) > 5 else ""
    )
    return [
        (
            f"{len(rare)} class(es) have fewer than {RARE} test samples: {shown}; their recall is little "
            "more "
            "than a guess"
        )
    ]


def collapsed(metric: Metric, before: float, after: float) -> str | None:
    """That int8 ruins a network, from its qualities on validation in float32 and as it is delivered; None
    where it does not, or where the metric's range is open and nobody knows what much is."""
    if metric.best is None or metric.worst is None:
        return None
    if before - after <= COLLAPSE * (metric.best - metric.worst):
        return None
    fallen = f"from {metric.text(before)} to {metric.text(after)}"
    return f"in int8 its {metric.name} on validation data falls {fallen}"


def suspicion(
    metric: Metric,
    predicted: float,
    validation: float,
    measured: float | None,
    samples: int | None,
    rmse: float | None,
) -> str | None:
    """Why a file is not delivered as good; None where it is as good as was said, within the errors.

    predicted, validation, measured: qualities. rmse: of the predictor on networks held out. The quality on
    validation is what its own weights did, so the less hopeful of the two counts: an optimistic predictor
    is no fault of the file. Where the metric's range is open the chance of a sample is unknown, and nothing
    is suspect.
    """
    promised = metric.quality(metric.value(min(predicted, validation)))
    by_chance = None if not samples else metric.variance(promised, samples)
    if measured is None or by_chance is None or metric.best is None or metric.worst is None:
        return None
    # That on validation is itself counted on a sample of about that size, and the best of many was taken.
    error = max(rmse or 0.0, _LEAST_ERROR * (metric.best - metric.worst))
    allowed = _DEVIATIONS * math.sqrt(2 * by_chance + error**2)
    if measured >= promised - allowed:
        return None
    explained = f"{allowed:.1%}" if metric.text(promised).endswith("%") else f"{allowed:.3g}"
    return (
        f"measured {metric.text(measured)} on {samples} test samples, {metric.text(promised)} was predicted "
        f"and both errors together explain {explained} at most; check that the data are those that the "
        "supernet was trained on, then train it again"
    )
