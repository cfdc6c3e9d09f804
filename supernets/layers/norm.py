"""Batch-norm of which any leading channels can be used (Once-for-All's dynamic batch-norm).

Training mixes the statistics of many widths, so the running statistics are wrong for every sub-network until
they are recalibrated on the cut-out network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm


class ElasticBatchNorm(nn.Module):
    """Batch-norm over the first channels of its vectors, as many as the input has."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        c = x.shape[1]
        mean, var = self.running_mean[:c], self.running_var[:c]
        return F.batch_norm(
            x, mean, var, self.weight[:c], self.bias[:c], self.training, self.momentum, self.eps
        )

    def state(self, prefix: str, channels: int) -> dict[str, Tensor]:
        """State of the plain batch-norm over the first channels, keys with `prefix`."""
        vectors = {
            "weight": self.weight,
            "bias": self.bias,
            "running_mean": self.running_mean,
            "running_var": self.running_var,
        }
        sliced = {f"{prefix}{name}": vector[:channels] for name, vector in vectors.items()}
        return {**sliced, f"{prefix}num_batches_tracked": self.num_batches_tracked}


def stand(network: nn.Module) -> None:
    """Batch-norm by running statistics, whatever mode the network is in: its samples then know nothing of
    each other."""
    for part in network.modules():
        if isinstance(part, ElasticBatchNorm | _BatchNorm):
            part.eval()
