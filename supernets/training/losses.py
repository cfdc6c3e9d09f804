"""The loss of one sub-network in a training step: its targets, and the outputs of a larger network as a
teacher."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from supernets.tasks.task import Task
from supernets.training.recipe import Recipe


def network_loss(
    task: Task[Any],
    outputs: Tensor,
    targets: Tensor,
    teacher: Tensor | None,
    recipe: Recipe,
    weights: Tensor | None = None,
) -> Tensor:
    """The task's loss, plus `distillation` x imitation of the teacher where there is one.

    weights: of classes. The teacher is imitated alike in all samples: it learnt under them itself.

    recipe.soft_only: where there is a teacher it alone counts, as the sandwich rule has it.
    """
    smoothing = recipe.label_smoothing
    if teacher is not None and recipe.soft_only:
        return task.imitation(outputs, teacher)
    if weights is None:
        own = task.loss(outputs, targets, smoothing=smoothing)
    else:
        own = task.weighted_loss(outputs, targets, weights, smoothing=smoothing)
    return own if teacher is None else own + recipe.distillation * task.imitation(outputs, teacher)
