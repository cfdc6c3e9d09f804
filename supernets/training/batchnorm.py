"""Batch-norm recalibration: the statistics of a supernet are wrong for every sub-network (Once-for-All,
section 3.3).

Once-for-All averages the statistics of batches of 200; here they are those of one batch of all calibration
samples, which is the same estimate with less noise, or of as few as memory allows (see
`supernets.training.memory`). Networks without batch-norm are left as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from supernets.data.splits import evenly_spread
from supernets.tasks.catalog import task_of
from supernets.tasks.data import Data, Rows

CALIBRATION_SAMPLES = 2000
CALIBRATION_BYTES = (
    256 * 2**20
)  # of inputs: 446 images of 224 pixels, with thousands of places in every layer


def norms_of(module: nn.Module) -> list[_BatchNorm]:
    """Every batch-norm of a plain module, of inputs of whatever rank."""
    return [part for part in module.modules() if isinstance(part, _BatchNorm)]


def calibration_batches(
    data: Data, condition: int, samples: int = CALIBRATION_SAMPLES, *, at_once: int
) -> Iterator[Tensor]:
    """Training samples as a network takes them, evenly spread over the split: (n, ...) each.

    At most `samples`, fewer where they would take more than CALIBRATION_BYTES. One batch where they are no
    more than `at_once`; else as few as need be, of one size, each spread over the split as well.
    """
    most = min(samples, max(1, CALIBRATION_BYTES // example_bytes(data, condition)))
    rows = evenly_spread(len(data.split("train")), most)
    batches = math.ceil(len(rows) / at_once)
    for first in range(batches):
        yield task_of(data).examples(data, "train", condition, rows[first::batches])[0]


def example_bytes(data: Data, condition: int) -> int:
    """How much memory one input takes."""
    first: Rows = evenly_spread(1, 1)
    return task_of(data).examples(data, "train", condition, first)[0].nbytes


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics of every batch-norm by the mean of those of the batches; leaves the
    network in evaluation mode."""
    norms = norms_of(network)
    network.eval()
    if not norms:
        return
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average, so the batches replace what was there
        norm.train()
    for inputs in batches:
        network(inputs)
    network.eval()
