"""What a failed job says: whose fault it was survives the way out of the child."""

from __future__ import annotations

import inspect
import json

import pytest

from latency_tables.errors import BespokeError
from latency_tables.failures import Failure, error_of, failure_of
from latency_tables.typed_json import PLAIN
from service.http.problems import ERRORS, PROBLEMS
from supernets.errors import InvalidDataset
from tests.service.http.test_problems import EXAMPLES, ours
from worker.errors import OutOfMemory, SharedFailure, StepFailed
from worker.problems import WORKER_ERRORS, problem_of


def travelled(error: Exception) -> BespokeError | None:
    """An error as the worker raises it that a child has raised."""
    line = json.dumps(PLAIN.write(failure_of(error)), allow_nan=False)
    return error_of(PLAIN.read(Failure, json.loads(line)))


@pytest.mark.parametrize("kind", list(ERRORS), ids=lambda kind: kind.__name__)
def test_an_error_of_ours_means_the_same_from_the_child_and_from_the_worker(kind: type[BespokeError]) -> None:
    error = EXAMPLES.get(kind) or kind("image a/1.png cannot be read; repair or remove it")
    found = travelled(error)
    assert type(found) is kind and str(found) == str(error) and vars(found) == vars(error)
    assert found is not None and problem_of(found) == problem_of(error)


def test_errors_have_names_of_their_own() -> None:
    """By which they are known in another process."""
    names = [kind.__name__ for kind in ours()]
    assert len(names) == len(set(names))


def test_what_an_error_says_beside_its_message_is_annotated() -> None:
    """Else it would be lost on the way; a parameter with a default is part of the message, or annotated too."""
    for kind in ERRORS:
        given = [
            p for p in inspect.signature(kind.__init__).parameters if p not in ("self", "args", "kwargs")
        ]
        fields = {name for parent in kind.__mro__ for name in vars(parent).get("__annotations__", {})}
        assert set(given) <= fields | {"message", "advice"}, kind


@pytest.mark.parametrize(
    "error", [KeyError("x"), RuntimeError("it broke"), OSError("no such device")], ids=repr
)
def test_any_other_error_of_a_child_is_the_fault_of_the_service(error: Exception) -> None:
    assert travelled(error) is None
    assert problem_of(StepFailed(str(error)))["status"] == 500


def test_a_shared_training_fails_each_job_with_its_own_problem() -> None:
    ended = problem_of(InvalidDataset("no classes"))
    assert problem_of(SharedFailure(ended)) == ended
    assert problem_of(SharedFailure({}))["code"] == "training_failed"
    assert problem_of(OutOfMemory("too much"))["code"] == "out_of_memory"


def test_every_error_that_only_a_worker_meets_has_a_code_of_its_own() -> None:
    """StepFailed is what is nobody's fault but ours; the others say what the user can do."""
    met = [kind for kind in ours() if kind.__module__ == "worker.errors"]
    assert set(met) == set(WORKER_ERRORS)
    codes = [entry.code for entry in WORKER_ERRORS.values()]
    assert len(codes) == len(set(codes)) and set(codes) <= set(PROBLEMS)
