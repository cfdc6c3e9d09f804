"""The control of a search job: the chosen network from random weights, with as many steps as its weights
were trained for here, fine-tuning included. Networks that write sentences are decoded with the beams of the
delivered file.

A network is trained so once, however many jobs choose it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from supernets.search.targets import Target
from supernets.spaces.catalog import described
from supernets.tasks.metric import Metric
from supernets.training.catalog import recipe_to_follow
from supernets.training.recipe import tuning_steps
from worker.compute.requests import ControlAccuracy, FileAccuracy, TrainControl, TrainingReport
from worker.compute.torch_child import Follow, TorchChild
from worker.pipelines.search.exported import Control, ExportedNetwork
from worker.pipelines.search.trainings import TargetTraining
from worker.steps import StepName

STEP: Final = StepName.TRAIN_CONTROL


@dataclass(frozen=True)
class ControlTraining(TargetTraining):
    """The controls of one job. tune_epochs: of its networks."""

    tune_epochs: int = 0

    @property
    def steps(self) -> int | None:
        """What the delivered network's weights were trained for since they began with those of the source;
        None where nobody knows."""
        ready = self.ready
        if ready.steps is None or not ready.epochs:
            return None
        per_epoch = round(ready.steps / ready.epochs)
        if self.tune_epochs == 0:
            return ready.steps
        recipe = recipe_to_follow(ready.recipe, ready.space)
        return ready.steps + tuning_steps(recipe, self.tune_epochs, per_epoch)

    def of(self, torch_child: TorchChild, target: Target, network: ExportedNetwork) -> Control | None:
        """The control of a delivered network that was tested; None where no equal steps can be taken. Raises
        TrainingDiverged."""
        steps, test = self.steps, network.test
        if steps is None or test is None:
            return None
        ready, device = self.ready, self.run.context.settings.training_device
        architecture = ready.space.in_float(network.architecture)
        inputs = {
            "space": ready.space.name,
            "classes": ready.space.classes,
            "dataset": ready.dataset,
            "fingerprint": ready.dataset_fingerprint,
            "architecture": described(architecture),
            "recipe": ready.recipe,
            "class_weights": ready.class_weights,
            "steps": steps,
            "seed": ready.seed,
        }

        def begin(folder: str, follow: Follow) -> ControlAccuracy:
            asked = TrainControl(
                ready.ref,
                architecture,
                ready.recipe,
                steps,
                ready.seed,
                device,
                folder,
                ready.class_weights,
            )
            return torch_child.train_control(asked, follow)

        found = self.train(STEP, inputs, ControlAccuracy, target, begin)
        return compared(network.metric, test, found)

    def told(self, said: TrainingReport) -> str:
        """Epoch and loss."""
        return f"the control, from scratch: epoch {said.epoch} of {said.epochs}, loss {said.loss:.3f}"


def compared(metric: Metric, test: FileAccuracy, found: ControlAccuracy) -> Control:
    """What the given weights brought, with its standard error: of two shares, each counted on the test
    split."""
    mine, theirs = metric.quality(test.accuracy), metric.quality(found.accuracy)
    gain = metric.scale * (mine - theirs)
    both = [metric.variance(mine, test.samples), metric.variance(theirs, found.samples)]
    known = [one for one in both if one is not None]
    error = metric.scale * math.sqrt(sum(known)) if len(known) == len(both) else None
    return Control(
        found.accuracy,
        found.steps,
        round(gain, 3),
        None if error is None else round(error, 3),
        _said(gain, error, "points" if metric.scale == 100 else f"of {metric.label}"),
    )


def _said(gain: float, error: float | None, unit: str) -> str:
    amount = f"{abs(gain):.1f} {unit}"
    if error is not None and abs(gain) < error:
        return f"the given weights made no difference that these test samples show ({gain:+.1f} {unit})"
    if gain < 0:
        return f"the given weights cost {amount} here: train this data set from scratch"
    return f"the given weights gained {amount}"
