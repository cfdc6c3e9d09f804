"""Accuracies of sub-networks on the validation split. Each is a step of its own, so no job evaluates what any
job has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from supernets.spaces.architecture import Architecture
from supernets.spaces.space import Space
from worker.compute.laboratory import Laboratory, Report
from worker.context import Run
from worker.steps import StepName

VALIDATION: Final = "validation"


def validation_scores(
    run: Run,
    laboratory: Laboratory,
    space: Space,
    supernet: dict[str, Any],
    architectures: Sequence[Architecture],
    report: Report,
) -> dict[str, float]:
    """Share of right answers by digest of the architecture. report: (done, of those that nobody has evaluated
    before).

    supernet: as operations name it. Raises StepFailed, JobQuarantined, and whatever ends the run.
    """
    distinct = list({a.digest: a for a in architectures}.values())
    described = [space.to_json(a) for a in distinct]

    def evaluate(missing: list[int]) -> list[dict[str, Any]]:
        asked = {"supernet": supernet, "architectures": [described[i] for i in missing], "split": VALIDATION}
        return [{"accuracy": accuracy} for accuracy in laboratory.call("score", asked, report)["accuracies"]]

    inputs = [{**supernet, "architecture": d, "split": VALIDATION} for d in described]
    results = run.steps(StepName.SCORE_NETWORK, inputs, evaluate)
    return {a.digest: r["accuracy"] for a, r in zip(distinct, results, strict=True)}
