"""What a search job trains for one of its targets: a step of its own in the child, with checkpoints until its
result is there."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from service.db.documents import Fields
from service.failpoints import failpoint
from supernets.search.targets import Target
from worker.compute.requests import Progress, TrainingReport
from worker.compute.torch_child import Follow
from worker.context import JobRun
from worker.pipelines.ready_supernet import ReadySupernet
from worker.steps import StepName, step_digest
from worker.upkeep import TRAININGS

Trained = TypeVar("Trained")


@dataclass(frozen=True)
class TargetTraining(ABC):
    """What the targets of one job share. targets: how many there are."""

    run: JobRun
    ready: ReadySupernet
    targets: int

    @abstractmethod
    def told(self, said: TrainingReport) -> str:
        """What the progress says of one report of the child."""

    def train(
        self,
        step: StepName,
        inputs: Fields,
        answer: type[Trained],
        target: Target,
        begin: Callable[[str, Follow], Trained],
    ) -> Trained:
        """The result of a training: remembered if any job has it for these inputs, else trained now.

        begin: trains, with checkpoints in the folder it is given. Raises JobQuarantined, and what it raises.
        """

        def work() -> Trained:
            # The job's folder, so that the hourly sweep knows when nobody will come back for the checkpoints.
            job = self.run.context.work_folder(f"{TRAININGS}{self.run.job_id}")
            folder = job / step_digest(step, inputs)[:32]
            place = f"target {target.index + 1} of {self.targets}, {target.label}"
            self.run.progress(step, target.index / self.targets, f"{place}: starting", always=True)
            found = begin(str(folder), partial(self._report, step, target, place))
            # Only now: whatever ended `begin` before this wants the checkpoints again.
            shutil.rmtree(folder, ignore_errors=True)
            return found

        return self.run.step(step, inputs, answer, work)

    def _report(self, step: StepName, target: Target, place: str, said: Progress) -> None:
        if said.training is None:
            return
        fraction = (target.index + said.done / said.total) / self.targets
        # The targets after this one are taken to need as long as it does: nothing of them is known yet.
        later_s = (self.targets - target.index - 1) * said.training.whole_s
        message = f"{place}: {self.told(said.training)}"
        self.run.progress(step, fraction, message, said.training.eta_s + later_s, always=True)
        failpoint("training.progress")
