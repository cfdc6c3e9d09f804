"""Elastic convolutions: the first channels of the largest weight, and small kernels made from large ones.

Source: Once-for-All (Cai et al., ICLR 2020). A 5x5 kernel is the centre of the 7x7 times a learned 25x25
matrix, the 3x3 the centre of that 5x5 times a 9x9 matrix; the matrices are shared over channels and start as
the identity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supernets.cut_out import ACTIVATION_LAYERS
from supernets.layers.depthwise import strip_convolution, wants_strips
from supernets.layers.norm import ElasticBatchNorm

State = dict[str, Tensor]


class ElasticConv(nn.Module):
    """Convolution without bias of which any leading channels and any of its kernel sizes can be used.

    weight: (out, in, K, K), or (channels, 1, K, K) where depthwise, K the largest of `kernels`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernels: Sequence[int] = (1,),
        *,
        stride: int = 1,
        depthwise: bool = False,
    ) -> None:
        super().__init__()
        self.kernels = tuple(sorted(set(kernels), reverse=True))
        self.stride = stride
        self.depthwise = depthwise
        largest = self.kernels[0]
        self.weight = nn.Parameter(
            torch.empty(out_channels, 1 if depthwise else in_channels, largest, largest)
        )
        self.transforms = nn.ParameterDict(
            {
                f"{big}to{small}": nn.Parameter(torch.eye(small * small))
                for big, small in pairwise(self.kernels)
            }
        )

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """He initialisation by fan-out of each group."""
        out, _, kernel, _ = self.weight.shape
        fan_out = kernel * kernel * (1 if self.depthwise else out)
        with torch.no_grad():
            self.weight.normal_(0, math.sqrt(2 / fan_out), generator=generator)

    def sliced(self, in_channels: int, out_channels: int, kernel: int) -> Tensor:
        """Weight of the convolution with these sizes."""
        weight = self.weight[:out_channels] if self.depthwise else self.weight[:out_channels, :in_channels]
        for big, small in pairwise(self.kernels):
            if big <= kernel:
                break
            edge = (big - small) // 2
            centre = weight[:, :, edge : edge + small, edge : edge + small].flatten(2)
            weight = F.linear(centre, self.transforms[f"{big}to{small}"]).reshape(
                *centre.shape[:2], small, small
            )
        return weight

    def forward(self, x: Tensor, out_channels: int, kernel: int) -> Tensor:
        weight = self.sliced(x.shape[1], out_channels, kernel)
        if self.depthwise and wants_strips(x, weight):
            return strip_convolution(x, weight, self.stride)
        return F.conv2d(x, weight, None, self.stride, kernel // 2, 1, out_channels if self.depthwise else 1)


class ElasticConvUnit(nn.Module):
    """Elastic convolution, sliced batch-norm, activation: the elastic form of `subnet.ConvUnit`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernels: Sequence[int] = (1,),
        *,
        stride: int = 1,
        depthwise: bool = False,
        activation: str = "none",
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.conv = ElasticConv(in_channels, out_channels, kernels, stride=stride, depthwise=depthwise)
        self.norm = ElasticBatchNorm(out_channels, eps=eps)
        # A batch-norm's backward pass needs its input only; hswish would copy what it overwrites.
        self.activation = ACTIVATION_LAYERS[activation](inplace=activation.startswith("relu"))

    def forward(self, x: Tensor, out_channels: int, kernel: int = 1) -> Tensor:
        y: Tensor = self.activation(self.norm(self.conv(x, out_channels, kernel)))
        return y

    def state(self, prefix: str, in_channels: int, out_channels: int, kernel: int = 1) -> State:
        """State of the plain unit with these sizes, keys with `prefix`."""
        norm = self.norm.state(f"{prefix}norm.", out_channels)
        return {f"{prefix}conv.weight": self.conv.sliced(in_channels, out_channels, kernel), **norm}
