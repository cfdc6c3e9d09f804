"""Accuracies of sub-networks on the validation split. Each is a step of its own, so no job evaluates what any
job has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from supernets.delivery.precision import USUAL
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import described
from worker.compute.requests import Accuracies, SupernetRef
from worker.compute.torch_child import Report, TorchChild
from worker.context import Run
from worker.steps import StepName

VALIDATION: Final = "validation"


@dataclass(frozen=True)
class Scored:
    """The share of right answers of one network; mean log-likelihoods of groups of samples, where they rank
    networks."""

    accuracy: float
    likelihoods: tuple[float, ...] = ()

    @property
    def likelihood(self) -> float:
        """Mean log-likelihood of a sample."""
        return sum(self.likelihoods) / len(self.likelihoods)


def rounded_results(
    run: Run,
    torch_child: TorchChild,
    supernet: SupernetRef,
    architectures: Sequence[Architecture],
    report: Report,
    *,
    likelihoods: bool = False,
) -> dict[str, Scored]:
    """As `validation_results`, of networks with blocks in int8, or pruned. Raises InvalidPrecision,
    InvalidPruning too."""
    distinct = list({a.digest: a for a in architectures}.values())

    def evaluate(missing: list[int]) -> list[Scored]:
        wanted = [distinct[i] for i in missing]
        return _scored(
            torch_child.score_rounded(supernet, wanted, VALIDATION, report, likelihoods=likelihoods)
        )

    further = {"rounding": USUAL.to_json(), **({"likelihoods": True} if likelihoods else {})}
    inputs = [
        {**supernet.inputs(), "architecture": described(a), "split": VALIDATION, **further} for a in distinct
    ]
    results = run.steps(StepName.SCORE_ROUNDED, inputs, Scored, evaluate)
    return {a.digest: r for a, r in zip(distinct, results, strict=True)}


def validation_results(
    run: Run,
    torch_child: TorchChild,
    supernet: SupernetRef,
    architectures: Sequence[Architecture],
    report: Report,
    *,
    likelihoods: bool = False,
) -> dict[str, Scored]:
    """What was counted of each network, by digest of the architecture. report: (done, of those that nobody
    has evaluated before). likelihoods: with the log-likelihoods, where the task has them.

    Raises JobQuarantined, and whatever ends the run.
    """
    # Targets of one job often share candidates, and an evaluation takes a second.
    distinct = list({a.digest: a for a in architectures}.values())

    def evaluate(missing: list[int]) -> list[Scored]:
        wanted = [distinct[i] for i in missing]
        if likelihoods:
            return _scored(torch_child.score_by_likelihood(supernet, wanted, VALIDATION, report))
        return [Scored(accuracy) for accuracy in torch_child.score(supernet, wanted, VALIDATION, report)]

    further = {"likelihoods": True} if likelihoods else {}  # steps of before stay known by their keys
    inputs = [
        {**supernet.inputs(), "architecture": described(a), "split": VALIDATION, **further} for a in distinct
    ]
    results = run.steps(StepName.SCORE_NETWORK, inputs, Scored, evaluate)
    return {a.digest: r for a, r in zip(distinct, results, strict=True)}


def _scored(found: Accuracies) -> list[Scored]:
    groups = found.likelihoods or ((),) * len(found.accuracies)
    return [Scored(*one) for one in zip(found.accuracies, groups, strict=True)]
