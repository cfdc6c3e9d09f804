"""What a search job trains for one of its targets: a step of its own in the child, with checkpoints until its
result is there."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from service.failpoints import failpoint
from worker.compute.laboratory import Laboratory
from worker.context import JobRun
from worker.pipelines.search.targets import Target
from worker.steps import StepName, step_digest
from worker.upkeep import TRAININGS

if TYPE_CHECKING:
    from worker.pipelines.train_supernet import ReadySupernet


@dataclass(frozen=True)
class TargetTraining(ABC):
    """What the targets of one job share. loaded: the supernet as operations name it; targets: how many there
    are."""

    run: JobRun
    ready: ReadySupernet
    loaded: dict[str, Any]
    targets: int

    def train(
        self,
        step: StepName,
        laboratory: Laboratory,
        target: Target,
        inputs: dict[str, Any],
        asked: dict[str, Any],
    ) -> dict[str, Any]:
        """The result of the operation `step`: remembered if any job has it for these inputs, else trained
        now.

        asked: arguments of the operation besides what all trainings get. Raises StepFailed, ChildCrashed,
        JobQuarantined.
        """
        return self.run.step(
            step, inputs, lambda: self._train(step, laboratory, target, step_digest(step, inputs), asked)
        )

    @abstractmethod
    def told(self, said: dict[str, Any]) -> str:
        """What the progress says of one report of the child."""

    def _train(
        self, step: StepName, laboratory: Laboratory, target: Target, digest: str, asked: dict[str, Any]
    ) -> dict[str, Any]:
        folder = self.run.context.work_folder(f"{TRAININGS}{self.run.job_id}") / digest[:32]
        arguments = {
            "supernet": self.loaded,
            "recipe": self.ready.recipe,
            "seed": self.ready.seed,
            "device": self.run.context.settings.training_device,
            "folder": str(folder),
            **asked,
        }
        place = f"target {target.index + 1} of {self.targets}, {target.label}"
        self.run.progress(step, target.index / self.targets, f"{place}: starting", always=True)
        found = laboratory.call(step, arguments, follow=partial(self._report, step, target, place))
        shutil.rmtree(folder, ignore_errors=True)
        return found

    def _report(self, step: StepName, target: Target, place: str, said: dict[str, Any]) -> None:
        fraction = (target.index + said["done"] / said["total"]) / self.targets
        later_s = (self.targets - target.index - 1) * said["whole_s"]
        self.run.progress(step, fraction, f"{place}: {self.told(said)}", said["eta_s"] + later_s, always=True)
        failpoint("training.progress")
