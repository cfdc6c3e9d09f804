"""A compression pass at each of its strengths, counted on validation data; its control at the one that is
taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from torch import nn

from latency_tables.dense import Array
from supernets.delivery.compression.catalog import MOST_LOST, PASSES, AppliedPass
from supernets.delivery.passes import PLAIN, Source, passed
from supernets.tasks.catalog import task_named, task_of
from supernets.tasks.metric import Metric

VALIDATION, TEST = "validation", "test"
_AT_A_TIME: Final = 100


@dataclass(frozen=True)
class Tried:
    """Values of the task's metric. before: on validation, without the pass; validation: by strength, the
    weakest first. taken: the strongest that loses no more than `MOST_LOST` of the metric's range, None where
    even the weakest does. control_validation, control_test: of the control at that strength, the weakest
    where none is taken."""

    before: float
    validation: tuple[tuple[float, float], ...]
    taken: float | None
    control_validation: float
    control_test: float


def try_pass(
    source: Source, name: str, progress: Callable[[int, int], None] = lambda done, of: None
) -> Tried:
    """source: with the passes that were applied before. Raises InvalidCompression."""
    metric, described = task_named(source.data.task).metric, PASSES[name]
    steps = len(described.strengths) + 2

    def counted(applied: AppliedPass | None, *splits: str) -> list[float]:
        passes = source.compression if applied is None else (*source.compression, applied)
        network = passed(replace(source, compression=passes), PLAIN)
        return [metric.value(quality_of(network, source, split)) for split in splits]

    (before,) = counted(None, VALIDATION)
    progress(1, steps)
    found: list[tuple[float, float]] = []
    taken: float | None = None
    for strength in described.strengths:
        (value,) = counted(AppliedPass(name, strength), VALIDATION)
        found.append((strength, value))
        if not loses_much(metric, before, value):
            taken = strength
        progress(len(found) + 1, steps)
    control = AppliedPass(name, described.strengths[0] if taken is None else taken, control=True)
    validation, test = counted(control, VALIDATION, TEST)
    progress(steps, steps)
    return Tried(before, tuple(found), taken, validation, test)


def loses_much(metric: Metric, before: float, after: float) -> bool:
    """Whether a value is worse by more than a pass may cost; of a metric without bounds by so much of what
    it was."""
    best, worst = metric.best, metric.worst
    span = abs(before) if best is None or worst is None else best - worst
    return metric.quality(before) - metric.quality(after) > MOST_LOST * span


@torch.no_grad()
def quality_of(network: nn.Module, source: Source, split: str) -> float:
    """Of a network after passes, in torch."""
    data, task, size = source.data, task_of(source.data), len(source.data.split(split))
    total: Array = np.zeros(())
    network = network.cpu().eval()
    for start in range(0, size, _AT_A_TIME):
        rows = np.arange(start, min(start + _AT_A_TIME, size))
        inputs, targets = task.examples(data, split, source.architecture.resolution, rows)
        total = total + task.tally(network(inputs), targets)
    return task.quality(total)
