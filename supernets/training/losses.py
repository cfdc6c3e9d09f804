"""Losses: labels with smoothing, soft targets of a teacher."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def soft_cross_entropy(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Cross-entropy against the teacher's probabilities, mean over the batch; both (B, classes)."""
    return -(F.softmax(teacher_logits, dim=1) * F.log_softmax(logits, dim=1)).sum(dim=1).mean()


def network_loss(
    logits: Tensor,
    labels: Tensor,
    teacher_logits: Tensor | None,
    *,
    smoothing: float,
    distillation: float,
    soft_only: bool,
) -> Tensor:
    """Loss of one sub-network: labels, plus `distillation` x soft targets where there is a teacher.

    soft_only: the soft targets alone, as the sandwich rule has it.
    """
    if teacher_logits is None:
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)
    soft = soft_cross_entropy(logits, teacher_logits)
    if soft_only:
        return soft
    return F.cross_entropy(logits, labels, label_smoothing=smoothing) + distillation * soft
