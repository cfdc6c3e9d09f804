"""Fine-tuning in a search job: the network that was chosen is trained on before it is delivered, where that was asked for.

A step of its own, known by what it depends on: a network is trained on once, however many targets of however many jobs choose it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from service.artifacts import register
from service.failpoints import failpoint
from supernets.spaces.architecture import Architecture
from worker.context import JobRun
from worker.laboratory import Laboratory
from worker.steps import step_digest
from worker.targets import Target
from worker.upkeep import TRAININGS

if TYPE_CHECKING:
    from worker.pipelines.train_supernet import ReadySupernet

STEP: Final = "fine_tune"


@dataclass(frozen=True)
class FineTuning:
    """What the targets of one job share. loaded: the supernet as operations name it; targets: how many there are."""

    run: JobRun
    ready: ReadySupernet
    loaded: dict[str, Any]
    targets: int

    @property
    def epochs(self) -> int:
        """How many epochs were asked for; 0 where the network is to be delivered as it is cut out."""
        return int(self.run.request.get("tune_epochs") or 0)

    def trained(self, laboratory: Laboratory, target: Target, architecture: Architecture) -> tuple[dict[str, Any], float]:
        """(the network trained on as operations name a supernet, seconds that took). Raises StepFailed, ChildCrashed."""
        described = self.ready.space.to_json(architecture)
        inputs = {
            **self.loaded,
            "architecture": described,
            "recipe": self.ready.recipe,
            "seed": self.ready.seed,
            "epochs": self.epochs,
        }
        found = self.run.step(STEP, inputs, partial(self._train, laboratory, target, inputs))
        return {**self.loaded, "weights_sha256": found["weights_sha256"], "alone": described}, float(found["seconds"])

    def _train(self, laboratory: Laboratory, target: Target, inputs: dict[str, Any]) -> dict[str, Any]:
        folder = self.run.context.work_folder(f"{TRAININGS}{self.run.job_id}") / step_digest(STEP, inputs)[:32]
        asked = {
            "supernet": self.loaded,
            **{key: inputs[key] for key in ("architecture", "recipe", "epochs", "seed")},
            "device": self.run.context.settings.training_device,
            "folder": str(folder),
        }
        place = f"target {target.index + 1} of {self.targets}, {target.device} within {target.budget_ms:g} ms"
        self.run.progress(STEP, target.index / self.targets, f"{place}: starting", always=True)
        found = laboratory.call("fine_tune", asked, follow=partial(self._report, target, place))
        self.run.write(lambda session: register(session, found["weights_sha256"], found["size_bytes"], "subnetwork"))
        shutil.rmtree(folder, ignore_errors=True)
        return found

    def _report(self, target: Target, place: str, said: dict[str, Any]) -> None:
        share = said["done"] / said["total"]
        later_s = (self.targets - target.index - 1) * said["eta_s"] / (1 - share) if share < 1 else 0.0
        message = f"{place}: epoch {said['epoch']} of {said['epochs']}, loss {said['loss']:.3f}"
        self.run.progress(STEP, (target.index + share) / self.targets, message, said["eta_s"] + later_s, always=True)
        failpoint("training.progress")
