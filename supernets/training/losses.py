"""The loss of one sub-network in a training step: its targets, and the outputs of a larger network as a
teacher."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from supernets.tasks.task import Task
from supernets.training.recipe import Recipe


def network_loss(
    task: Task[Any], outputs: Tensor, targets: Tensor, teacher: Tensor | None, recipe: Recipe
) -> Tensor:
    """The task's loss, plus `distillation` x imitation of the teacher where there is one.

    recipe.soft_only: where there is a teacher it alone counts, as the sandwich rule has it.
    """
    if teacher is None:
        return task.loss(outputs, targets, smoothing=recipe.label_smoothing)
    soft = task.imitation(outputs, teacher)
    if recipe.soft_only:
        return soft
    return task.loss(outputs, targets, smoothing=recipe.label_smoothing) + recipe.distillation * soft
