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


@dataclass(frozen=True)
class Tested:
    """quality: of the task's metric. by_class: name, samples and recall of each class, empty where a
    task has none."""

    quality: float
    samples: int
    by_class: list[dict[str, Any]]


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
    for start in range(0, size, _AT_A_TIME):
        rows = np.arange(start, min(start + _AT_A_TIME, size))
        inputs, targets = task.examples(data, split, condition, rows, embedded=embedded)
        found = torch.from_numpy(outputs(opened, inputs.numpy()).astype(np.float32))
        total = total + task.tally(found, targets)
        progress(int(rows[-1]) + 1, size)
    return Tested(task.quality(total), size, task.by_class(total, data))
