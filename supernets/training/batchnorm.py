"""Batch-norm recalibration: the statistics of a supernet are wrong for every sub-network (Once-for-All, section 3.3).

Once-for-All averages the statistics of batches of 200; here they are those of one batch of all calibration samples,
which is the same estimate with less noise, and lets evaluation share the work (see `supernets.evaluation`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from supernets.data.splits import Dataset

CALIBRATION_SAMPLES = 2000


def calibration_inputs(dataset: Dataset, resolution: int, samples: int = CALIBRATION_SAMPLES) -> Tensor:
    """Normalised training images, evenly spread over the split: (n, C, resolution, resolution), at most `samples`."""
    return evenly(torch.from_numpy(dataset.inputs("train", resolution)), samples)


def evenly(rows: Tensor, samples: int) -> Tensor:
    """At most that many rows, evenly spread."""
    if len(rows) <= samples:
        return rows
    return rows[torch.linspace(0, len(rows) - 1, samples, dtype=torch.float64).round().long()]


@torch.no_grad()
def recalibrate(network: nn.Module, inputs: Tensor) -> None:
    """Replace the running statistics of every BatchNorm2d by those of `inputs`; leaves the network in evaluation mode."""
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average, so one batch replaces what was there
        norm.train()
    network(inputs)
    network.eval()
