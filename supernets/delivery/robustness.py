"""What a delivered file does on pictures that were changed to be taken for something else.

Goodfellow et al., "Explaining and Harnessing Adversarial Examples" (ICLR 2015): every pixel moves by the same
amount in the direction in which the loss grows (FGSM). The gradient is that of the network in float32; of a
file with blocks in int8 it is the gradient through the rounding as if there were none, which is what an
adversary who knows the weights would take.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from latency_tables.dense import Array
from supernets.data.splits import Dataset, evenly_spread
from supernets.delivery.attacks import MOST_SAMPLES, STRENGTHS
from supernets.delivery.format import Opened, outputs
from supernets.errors import InvalidSearch
from supernets.tasks.catalog import task_named, task_of
from supernets.tasks.data import Data

_AT_A_TIME: Final = 100


@dataclass(frozen=True)
class Robustness:
    """Values of the metric over the same test samples: of the file and of the network in float32, by the
    steps of 255 that each pixel moved; 0: as they are."""

    samples: int
    file: dict[int, float]
    float32: dict[int, float]


def robustness(
    opened: Opened,
    network: nn.Module,
    data: Data,
    condition: int,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Robustness:
    """opened: the file, float32 in. network: the same in float32, in evaluation mode, on the CPU. Raises
    InvalidSearch for data that are no pictures."""
    if not isinstance(data, Dataset):
        raise InvalidSearch(f"robustness is told of networks for pictures, and {data.name!r} are none")
    task, metric = task_of(data), task_named(data.task).metric
    rows = evenly_spread(len(data.split("test")), MOST_SAMPLES)
    mean, deviation = np.asarray(data.mean), np.asarray(data.deviation)
    step = _by_channel(data.highest / 255 / deviation)
    low, high = _by_channel(-mean / deviation), _by_channel((data.highest - mean) / deviation)
    asked = (0, *STRENGTHS)
    totals: dict[str, dict[int, Array]] = {
        name: dict.fromkeys(asked, np.zeros(())) for name in ("file", "float32")
    }
    for start in range(0, len(rows), _AT_A_TIME):
        inputs, targets = task.examples(data, "test", condition, rows[start : start + _AT_A_TIME])
        direction = _direction(network, inputs, targets, task.loss)
        for strength in asked:
            moved = torch.clamp(inputs + strength * step * direction, low, high) if strength else inputs
            found = torch.from_numpy(outputs(opened, moved.numpy()).astype(np.float32))
            with torch.no_grad():
                plain = network(moved)
            for name, answer in (("file", found), ("float32", plain)):
                totals[name][strength] = totals[name][strength] + task.tally(answer, targets)
        progress(min(start + _AT_A_TIME, len(rows)), len(rows))
    values = {
        name: {strength: metric.value(task.quality(total)) for strength, total in one.items()}
        for name, one in totals.items()
    }
    return Robustness(len(rows), values["file"], values["float32"])


def _by_channel(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None, None]


def _direction(
    network: nn.Module, inputs: Tensor, targets: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Sign of the gradient of the loss by each input."""
    given = inputs.detach().clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(network(given), targets), given)
    return gradient.sign()
