"""The parts that families of image networks are built from: convolution, batch-norm and activation as one
unit, squeeze-excite; elastic and plain.

Elastic convolutions use the first channels of the largest weight, and small kernels made from large ones.
Source: Once-for-All (Cai et al., ICLR 2020). A 5x5 kernel is the centre of the 7x7 times a learned 25x25
matrix, the 3x3 the centre of that 5x5 times a 9x9 matrix; the matrices are shared over channels and start as
the identity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latency_tables.operators import ImageOperator, squeeze_excite_channels
from supernets.layers.block import Drawn, Foldable, Graph, SelfInitialised, State
from supernets.layers.depthwise import strip_convolution, wants_strips
from supernets.layers.group_norm import ElasticGroupNorm, groups_of, standardised
from supernets.layers.keeping import frozen_unit, keeps_bits
from supernets.layers.norm import ElasticBatchNorm

ACTIVATION_LAYERS: Final[dict[str, type[nn.Module]]] = {
    "none": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hswish": nn.Hardswish,
}


@dataclass(frozen=True)
class Extent:
    """The largest sizes among the operators one block may be; they agree in everything else."""

    operator: ImageOperator
    in_channels: int
    mid_channels: int
    out_channels: int
    kernels: tuple[int, ...]
    expansion: bool
    shortcut: bool

    @classmethod
    def of(cls, operators: Sequence[ImageOperator]) -> Extent:
        return cls(
            operator=operators[0],
            in_channels=max(op.in_channels for op in operators),
            mid_channels=max(op.mid_channels for op in operators),
            out_channels=max(op.out_channels for op in operators),
            kernels=tuple(sorted({op.kernel for op in operators})),
            expansion=any(op.mid_channels != op.in_channels for op in operators),
            shortcut=any(op.stride != 1 or op.in_channels != op.out_channels for op in operators),
        )


class ConvUnit(nn.Module, Foldable, Drawn):
    """Convolution, batch-norm (until it is folded) or group-norm (`use_group_norm`), activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: str = "none",
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.norm: nn.Module = nn.BatchNorm2d(out_channels, eps=eps)
        self.activation = ACTIVATION_LAYERS[activation]()
        self.standardise = False

    def forward(self, x: Tensor) -> Tensor:
        if keeps_bits(self.conv.weight, self.norm):
            stride, groups = int(self.conv.stride[0]), self.conv.groups
            return frozen_unit(x, self.conv.weight, self.norm, self.activation, stride=stride, groups=groups)
        if self.standardise:
            conv, weight = self.conv, standardised(self.conv.weight)
            y = F.conv2d(x, weight, None, int(conv.stride[0]), weight.shape[-1] // 2, 1, conv.groups)
        else:
            y = self.conv(x)
        return cast(Tensor, self.activation(self.norm(y)))

    def fold(self) -> None:
        """Move running statistics into weight and bias of the convolution; a group-norm stays, its weights
        become the standardised ones. Does nothing the second time."""
        norm = self.norm
        if self.standardise:
            self.conv.weight.data = standardised(self.conv.weight.data)
            self.standardise = False
        if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
            return
        scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        bias = norm.bias.double() - norm.running_mean.double() * scale
        weight = self.conv.weight
        self.conv.bias = nn.Parameter(bias.to(weight.dtype))
        weight.data = (weight.double() * scale[:, None, None, None]).to(weight.dtype)
        self.norm = nn.Identity()

    def draw(self, graph: Graph, x: str) -> str:
        return graph.module(self.activation, graph.module(self.norm, graph.module(self.conv, x)))


class SqueezeExcite(nn.Module, Drawn):
    """Channel gate from globally pooled features, hard sigmoid (MobileNetV3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = squeeze_excite_channels(channels)
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = F.relu(self.reduce(x.mean((2, 3), keepdim=True)))
        return x * F.hardsigmoid(self.expand(gate))

    def draw(self, graph: Graph, x: str) -> str:
        mean = graph.add(
            "ReduceMean", [x, np.array([2, 3], dtype=np.int64)], keepdims=1, noop_with_empty_axes=0
        )
        gate = graph.module(self.expand, graph.add("Relu", [graph.module(self.reduce, mean)]))
        return graph.add("Mul", [x, graph.add("HardSigmoid", [gate], alpha=1 / 6, beta=0.5)])


class ElasticConv(nn.Module, SelfInitialised):
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
        self.standardise = False
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
        # A depthwise weight has one input channel a group, so there is nothing to cut on that axis.
        weight = self.weight[:out_channels] if self.depthwise else self.weight[:out_channels, :in_channels]
        for big, small in pairwise(self.kernels):
            if big <= kernel:
                break
            edge = (big - small) // 2
            # One kernel at a time: a 3x3 is made from the 5x5 that the 7x7 gives, as published weights need.
            centre = weight[:, :, edge : edge + small, edge : edge + small].flatten(2)
            weight = F.linear(centre, self.transforms[f"{big}to{small}"]).reshape(
                *centre.shape[:2], small, small
            )
        return weight

    def forward(self, x: Tensor, out_channels: int, kernel: int) -> Tensor:
        weight = self.sliced(x.shape[1], out_channels, kernel)
        if self.standardise:
            weight = standardised(weight)
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
        self.norm: ElasticBatchNorm | ElasticGroupNorm = ElasticBatchNorm(out_channels, eps=eps)
        # A batch-norm's backward pass needs its input only; hswish would copy what it overwrites.
        self.activation = ACTIVATION_LAYERS[activation](inplace=activation.startswith("relu"))

    def forward(self, x: Tensor, out_channels: int, kernel: int = 1) -> Tensor:
        if keeps_bits(self.conv.weight, self.norm):
            weight = self.conv.sliced(x.shape[1], out_channels, kernel)
            groups = out_channels if self.conv.depthwise else 1
            return frozen_unit(x, weight, self.norm, self.activation, stride=self.conv.stride, groups=groups)
        y: Tensor = self.activation(self.norm(self.conv(x, out_channels, kernel)))
        return y

    def state(self, prefix: str, in_channels: int, out_channels: int, kernel: int = 1) -> State:
        """State of the plain unit with these sizes, keys with `prefix`."""
        norm = self.norm.state(f"{prefix}norm.", out_channels)
        return {f"{prefix}conv.weight": self.conv.sliced(in_channels, out_channels, kernel), **norm}


class ElasticSqueezeExcite(nn.Module):
    """Squeeze-excite whose hidden units follow the channels it is given."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = squeeze_excite_channels(channels)
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        s = self.state("", x.shape[1])
        gate = F.relu(F.conv2d(x.mean((2, 3), keepdim=True), s["reduce.weight"], s["reduce.bias"]))
        return x * F.hardsigmoid(F.conv2d(gate, s["expand.weight"], s["expand.bias"]))

    def state(self, prefix: str, channels: int) -> State:
        hidden = squeeze_excite_channels(channels)
        reduce_bias, expand_bias = cast(Tensor, self.reduce.bias), cast(Tensor, self.expand.bias)
        return {
            f"{prefix}reduce.weight": self.reduce.weight[:hidden, :channels],
            f"{prefix}reduce.bias": reduce_bias[:hidden],
            f"{prefix}expand.weight": self.expand.weight[:channels, :hidden],
            f"{prefix}expand.bias": expand_bias[:channels],
        }


def folded_weight(unit: ElasticConvUnit) -> Tensor:
    """Weight of a unit as it is delivered, batch-norm folded; of group-norms as it stands."""
    weight, norm = unit.conv.weight, unit.norm
    if not isinstance(norm, ElasticBatchNorm):
        return weight
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return weight * scale[:, None, None, None]


def use_group_norm(module: nn.Module) -> None:
    """Group-norm and standardised weights in every unit of a module, elastic or plain; scales and shifts of
    the batch-norms stay, their statistics are gone."""
    for unit in module.modules():
        if isinstance(unit, ElasticConvUnit):
            channels, vectors = len(unit.norm.weight), unit.norm.state("", len(unit.norm.weight))
            unit.norm = ElasticGroupNorm(channels, eps=unit.norm.eps)
            unit.conv.standardise = True
        elif isinstance(unit, ConvUnit) and isinstance(unit.norm, nn.BatchNorm2d):
            channels, vectors = unit.norm.num_features, unit.norm.state_dict()
            unit.norm = nn.GroupNorm(groups_of(channels), channels, eps=unit.norm.eps)
            unit.standardise = True
        else:
            continue
        unit.norm.load_state_dict({name: vectors[name] for name in ("weight", "bias")})
