"""Strategy `gradient` in a search job: gates are trained for each target, then the most probable networks are
chosen.

The training starts from the supernet's weights and is a step of its own, known by what it depends on: asked
again for the same device and budget it is not done again, and where a measured network broke the budget only
the choice is made anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from service.db.documents import Document
from supernets.search.problem import Problem, SearchResult
from supernets.search.targets import Target
from worker.compute.requests import TrainedGates, TrainGates, TrainingReport
from worker.compute.torch_child import Follow, TorchChild
from worker.pipelines.search.trainings import TargetTraining
from worker.steps import StepName, step_digest

GRADIENT: Final = "gradient"
STEP: Final = StepName.TRAIN_GATES


@dataclass(frozen=True)
class Gates(TargetTraining):
    """The gate trainings of one job. epochs: of the search, not the recipe's; confidence: of the bounds."""

    epochs: int | None = None
    confidence: float | None = None
    _found: dict[int, TrainedGates] = field(default_factory=dict)

    def solve(self, torch_child: TorchChild, target: Target, problem: Problem) -> SearchResult:
        """Train (or remember) the target's gates and choose within its limits. Raises InfeasibleBudget."""
        return torch_child.choose(problem, self.trained(torch_child, target, problem))

    def trained(self, torch_child: TorchChild, target: Target, problem: Problem) -> TrainedGates:
        """The step's result: log-probabilities, epochs, curve. Raises InfeasibleBudget, TrainingDiverged."""
        # Asked again after a measurement has tightened a limit: the choice changes, what was learnt does
        # not.
        if target.index not in self._found:
            inputs, device = self._inputs(target), self.run.context.settings.training_device

            def begin(folder: str, follow: Follow) -> TrainedGates:
                asked = TrainGates(
                    supernet=self.ready.ref,
                    problem=problem,
                    resolutions=target.space.resolutions,
                    recipe=self.ready.recipe,
                    epochs=self.epochs,
                    seed=self.ready.seed,
                    device=device,
                    folder=folder,
                    inputs=step_digest(STEP, inputs),
                )
                return torch_child.train_gates(asked, follow)

            self._found[target.index] = self.train(STEP, inputs, TrainedGates, target, begin)
        return self._found[target.index]

    def summary(self, target: Target) -> Document | None:
        """What the card says of the target's gate training; None where there was none."""
        found = self._found.get(target.index)
        if found is None:
            return None
        last = found.history[-1]
        return {
            "warmup_epochs": found.warmup_epochs,
            "epochs": found.epochs,
            "weight_steps": found.weight_steps,
            "expected_ms": last.expected_cost,
            "entropy": last.entropy,
        }

    def _inputs(self, target: Target) -> Document:
        # The table and not its prices: those are corrected whenever a network is measured, and the choice
        # uses them.
        return {
            **self.ready.ref.inputs(),
            "recipe": self.ready.recipe,
            "seed": self.ready.seed,
            "epochs": self.epochs,
            "resolutions": list(target.space.resolutions),
            "tables": [place.table_id for place in target.places],
            "left_out": target.left_out,
            "confidence": self.confidence,
            "budget": {
                "latency_ms": [place.budget_ms for place in target.places],
                **_further(target),
                **target.limits,
            },
        }

    def told(self, said: TrainingReport) -> str:
        """Phase, epoch, loss, and how undecided the choices are."""
        return (
            f"{said.phase} epoch {said.epoch} of {said.epochs}, loss {said.loss:.3f}, "
            f"expected {said.expected_cost:.4g} ms, entropy {said.entropy:.2f}"
        )


def _further(target: Target) -> Document:
    """Further limits of the devices, in their order; empty where there are none, as in the keys of earlier
    versions."""
    found: list[list[object]] = [[[f.name, f.limit] for f in place.further] for place in target.places]
    return {"further": found} if any(found) else {}
