"""The steps of the pipelines: one list of their names, which old databases rest on."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from supernets.layers.block import ElasticBlock
from worker.pipelines.search.trainings import TargetTraining
from worker.steps import StepName, step_digest

WORKER = Path(__file__).parents[2] / "worker"


def named() -> Iterator[tuple[str, str]]:
    """(file, first argument) of every call of `run.step` and `run.steps`."""
    for place in sorted(WORKER.rglob("*.py")):
        for node in ast.walk(ast.parse(place.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr in ("step", "steps") and ast.unparse(node.func.value).split(".")[-1] == "run":
                yield place.name, ast.unparse(node.args[0])


def passed_on(file: str, method: str) -> Iterator[str]:
    """First arguments of the calls of a method that does a step."""
    for place in WORKER.rglob(file):
        for node in ast.walk(ast.parse(place.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == method:
                yield ast.unparse(node.args[0])


def test_every_step_of_a_pipeline_is_one_of_the_list() -> None:
    found = list(named())
    known = {f"StepName.{name.name}" for name in StepName}
    learnt = set(passed_on("reduced.py", "_learnt"))
    direct = {name for _, name in found if name != "step"} | learnt
    assert direct <= known, direct - known
    assert [place for place, name in found if name == "step"] == ["reduced.py", "trainings.py"], (
        "what is learnt of a supernet, and the steps of Gates, FineTuning and Control"
    )
    assert direct | {"StepName.TRAIN_GATES", "StepName.FINE_TUNE", "StepName.TRAIN_CONTROL"} == known, (
        "a name that no pipeline uses"
    )


def test_a_step_is_known_by_the_same_digest_as_at_0ecf99f() -> None:
    digest = "38c2f37eed7b7ec840d18ab3aa493ceb8fd97cb1fdee9bd206eebc2f02405198"
    assert step_digest(StepName.EXPORT_OPERATOR, {"operator": "x"}) == digest


@pytest.mark.parametrize("interface", [TargetTraining, ElasticBlock])
def test_an_interface_cannot_be_instantiated(interface: type) -> None:
    with pytest.raises(TypeError, match="abstract"):
        interface()
