"""Batch-norm recalibration: the statistics of a supernet are wrong for every sub-network (Once-for-All,
section 3.3).

Once-for-All averages the statistics of batches of 200; here they are those of one batch of all calibration
samples, which is the same estimate with less noise, and lets evaluation share the work (see
`supernets.training.evaluation`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from supernets.data.splits import Dataset, evenly_spread

CALIBRATION_SAMPLES = 2000
CALIBRATION_BYTES = (
    256 * 2**20
)  # of inputs: 446 images of 224 pixels, each with thousands of places in every layer


def calibration_inputs(dataset: Dataset, resolution: int, samples: int = CALIBRATION_SAMPLES) -> Tensor:
    """Normalised training images, evenly spread over the split: (n, C, resolution, resolution).

    At most `samples`, and fewer where they would take more than CALIBRATION_BYTES.
    """
    most = min(samples, max(1, CALIBRATION_BYTES // (4 * dataset.channels * resolution**2)))
    return torch.from_numpy(dataset.inputs("train", resolution, evenly_spread(len(dataset.train), most)))


@torch.no_grad()
def recalibrate(network: nn.Module, inputs: Tensor) -> None:
    """Replace the running statistics of every BatchNorm2d by those of `inputs`; leaves the network in
    evaluation mode."""
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average, so one batch replaces what was there
        norm.train()
    network(inputs)
    network.eval()
