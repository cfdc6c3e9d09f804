"""A network that does not do what was predicted is suspect; one within the errors is not."""

import numpy as np
import pytest

from supernets.delivery.verdict import balanced_accuracy, by_class, suspicion, warnings_of
from supernets.tasks.metric import ACCURACY, Metric


@pytest.mark.parametrize(
    ("predicted", "validation", "measured", "samples"), [(1.0, 1.0, 0.0, 50), (0.95, 0.94, 0.7, 360)]
)
def test_far_below_the_prediction_is_suspect(predicted, validation, measured, samples):
    assert "train it again" in str(suspicion(ACCURACY, predicted, validation, measured, samples, 0.01))


@pytest.mark.parametrize(
    ("predicted", "validation", "measured", "samples"),
    [
        (0.982, 0.986, 0.975, 360),
        (0.9, 0.9, 0.95, 360),
        (1.0, 1.0, 0.9, 20),
        (0.99, 0.6, 0.58, 360),
        (0.9, 0.9, None, None),
    ],
)
def test_within_both_errors_is_good(predicted, validation, measured, samples):
    assert suspicion(ACCURACY, predicted, validation, measured, samples, 0.01) is None


def test_recall_by_class_shows_what_the_mean_hides_and_rare_classes_are_named():
    found = by_class(np.array([[98, 0], [98, 2]]), ("common", "rare"))
    assert [one["recall"] for one in found] == [1.0, 0.0] and balanced_accuracy(found) == 0.5
    (warning,) = warnings_of(found)
    assert "rare (2)" in warning and "common" not in warning


def test_a_metric_that_is_better_when_it_is_lower_is_judged_the_same_way():
    """Qualities are errors turned round: 10 % wrong was promised."""
    error = Metric("error", higher_is_better=False)
    assert suspicion(error, -0.1, -0.1, -0.12, 360, 0.01) is None
    said = suspicion(error, -0.1, -0.1, -0.5, 360, 0.01)
    assert said is not None and "measured 50.00%" in said and "10.00% was predicted" in said
    assert suspicion(Metric("hertz", False, 0.0, None), -3.0, -3.0, -900.0, 360, 1.0) is None
