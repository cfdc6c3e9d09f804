"""Accuracies of sub-networks on the validation split. Each is a step of its own, so no job evaluates what any
job has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import described
from worker.compute.requests import SupernetRef
from worker.compute.torch_child import Report, TorchChild
from worker.context import Run
from worker.steps import StepName

VALIDATION: Final = "validation"


@dataclass(frozen=True)
class Scored:
    """The share of right answers of one network."""

    accuracy: float


def validation_scores(
    run: Run,
    torch_child: TorchChild,
    supernet: SupernetRef,
    architectures: Sequence[Architecture],
    report: Report,
) -> dict[str, float]:
    """Share of right answers by digest of the architecture. report: (done, of those that nobody has evaluated
    before).

    Raises JobQuarantined, and whatever ends the run.
    """
    # Targets of one job often share candidates, and an evaluation takes a second.
    distinct = list({a.digest: a for a in architectures}.values())

    def evaluate(missing: list[int]) -> list[Scored]:
        wanted = [distinct[i] for i in missing]
        return [Scored(accuracy) for accuracy in torch_child.score(supernet, wanted, VALIDATION, report)]

    inputs = [{**supernet.inputs(), "architecture": described(a), "split": VALIDATION} for a in distinct]
    results = run.steps(StepName.SCORE_NETWORK, inputs, Scored, evaluate)
    return {a.digest: r.accuracy for a, r in zip(distinct, results, strict=True)}
