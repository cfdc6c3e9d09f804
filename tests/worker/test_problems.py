"""What a failed job says: whose fault it was survives the way out of the child."""

from __future__ import annotations

import pytest

from supernets.errors import InvalidDataset
from worker.errors import StepFailed
from worker.problems import problem_of


def test_an_error_of_ours_means_the_same_from_the_child_and_from_the_worker() -> None:
    told = "image a/1.png cannot be read; repair or remove it"
    assert problem_of(StepFailed("InvalidDataset", told)) == problem_of(InvalidDataset(told))
    assert problem_of(InvalidDataset(told))["status"] == 422


@pytest.mark.parametrize("kind", ["KeyError", "RuntimeError", "NoSuchThing"])
def test_any_other_error_of_a_child_is_the_fault_of_the_service(kind: str) -> None:
    assert problem_of(StepFailed(kind, "it broke"))["status"] == 500
