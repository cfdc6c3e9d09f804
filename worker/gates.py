"""Strategy `gradient` in a search job: gates are trained for each target, then the most probable networks are chosen.

The training starts from the supernet's weights and is a step of its own, known by what it depends on: asked again for the
same device and budget it is not done again, and where a measured network broke the budget only the choice is made anew.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from service.failpoints import failpoint
from supernets.search.problem import Problem, SearchResult
from worker.context import JobRun
from worker.laboratory import Laboratory
from worker.packing import packed_problem, unpacked_result
from worker.steps import step_digest
from worker.targets import Target
from worker.upkeep import TRAININGS

if TYPE_CHECKING:
    from worker.pipelines.train_supernet import ReadySupernet

GRADIENT: Final = "gradient"
STEP: Final = "train_gates"


@dataclass(frozen=True)
class Gates:
    """What the targets of one job share. loaded: the supernet as operations name it; targets: how many there are."""

    run: JobRun
    ready: ReadySupernet
    loaded: dict[str, Any]
    targets: int
    _found: dict[int, dict[str, Any]] = field(default_factory=dict)

    def solve(self, laboratory: Laboratory, target: Target, problem: Problem) -> SearchResult:
        """Train (or remember) the target's gates and choose within its limits. Raises StepFailed, ChildCrashed."""
        asked = {"problem": packed_problem(problem), "gates": self.trained(laboratory, target, problem)}
        return unpacked_result(laboratory.call("choose", asked))

    def trained(self, laboratory: Laboratory, target: Target, problem: Problem) -> dict[str, Any]:
        """The step's result: log-probabilities, epochs, the curve."""
        if target.index not in self._found:
            inputs = self._inputs(target)
            work = partial(self._train, laboratory, target, problem, inputs)
            self._found[target.index] = self.run.step(STEP, inputs, work)
        return self._found[target.index]

    def summary(self, target: Target) -> dict[str, Any]:
        """What the card says of the target's gate training; empty where there was none."""
        found = self._found.get(target.index)
        if found is None:
            return {}
        last = found["history"][-1]
        counts = {key: found[key] for key in ("warmup_epochs", "epochs", "weight_steps")}
        return {"gates": {**counts, "expected_ms": last["expected_cost"], "entropy": last["entropy"]}}

    def _inputs(self, target: Target) -> dict[str, Any]:
        # The table and not its prices: those are corrected whenever a network is measured, and the choice uses them.
        return {
            **self.loaded,
            "recipe": self.ready.recipe,
            "seed": self.ready.seed,
            "epochs": self.run.request.get("gate_epochs"),
            "resolutions": list(target.pricing.space.resolutions),
            "table_id": target.table_id,
            "confidence": self.run.request.get("confidence"),
            "budget": {"latency_ms": target.budget_ms, **target.limits},
        }

    def _train(self, laboratory: Laboratory, target: Target, problem: Problem, inputs: dict[str, Any]) -> dict[str, Any]:
        digest = step_digest(STEP, inputs)
        folder = self.run.context.work_folder(f"{TRAININGS}{self.run.job_id}") / digest[:32]
        asked = {
            "supernet": self.loaded,
            "problem": packed_problem(problem),
            **{key: inputs[key] for key in ("recipe", "seed", "epochs", "resolutions")},
            "device": self.run.context.settings.training_device,
            "folder": str(folder),
            "inputs": digest,
        }
        place = f"target {target.index + 1} of {self.targets}, {target.device} within {target.budget_ms:g} ms"
        self.run.progress(STEP, target.index / self.targets, f"{place}: starting", always=True)
        found = laboratory.call("train_gates", asked, follow=partial(self._report, target, place))
        shutil.rmtree(folder, ignore_errors=True)
        return found

    def _report(self, target: Target, place: str, said: dict[str, Any]) -> None:
        fraction = (target.index + said["done"] / said["total"]) / self.targets
        later_s = (self.targets - target.index - 1) * said["whole_s"]
        message = (
            f"{place}: {said['phase']} epoch {said['epoch']} of {said['epochs']}, loss {said['loss']:.3f}, "
            f"expected {said['expected_cost']:.4g} ms, entropy {said['entropy']:.2f}"
        )
        self.run.progress(STEP, fraction, message, said["eta_s"] + later_s, always=True)
        failpoint("training.progress")
