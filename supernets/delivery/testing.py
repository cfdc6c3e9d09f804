"""What a delivered file does on samples that nobody has trained or searched on: the file itself, in its
runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from latency_tables.dense import Array
from supernets.delivery.format import Opened, outputs
from supernets.tasks.catalog import task_of
from supernets.tasks.data import Data

_AT_A_TIME: Final = 100  # samples held as inputs
MOST_CONFUSED: Final = 100  # classes whose confusions are kept pair by pair


@dataclass(frozen=True)
class Tested:
    """quality: of the task's metric. by_class: name, samples and recall of each class, empty where a
    task has none. confusion: samples by their class (rows) and what they were taken for, (classes, classes);
    empty where there are no classes, or more than `MOST_CONFUSED`."""

    quality: float
    samples: int
    by_class: list[dict[str, Any]]
    confusion: Array


def tested(
    opened: Opened,
    data: Data,
    condition: int,
    split: str = "test",
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Tested:
    """The quality of an opened file on a split. progress: called with
    (done, of)."""
    task, size = task_of(data), len(data.split(split))
    embedded = opened.inputs[0].dtype == "uint8"
    total: Array = np.zeros(())
    confusion: Array = np.zeros((0, 0))
    for start in range(0, size, _AT_A_TIME):
        rows = np.arange(start, min(start + _AT_A_TIME, size))
        inputs, targets = task.examples(data, split, condition, rows, embedded=embedded)
        found = torch.from_numpy(outputs(opened, inputs.numpy()).astype(np.float32))
        total = total + task.tally(found, targets)
        pairs = task.confusion(found, targets) if len(data.classes) <= MOST_CONFUSED else None
        if pairs is not None:
            confusion = pairs + (confusion if confusion.size else 0.0)
        progress(int(rows[-1]) + 1, size)
    return Tested(task.quality(total), size, task.by_class(total, data), confusion)
