"""Elastic blocks: one set of weights for every choice of a block.

Each block is called with the operator it shall be (`forward(x, operator)`) and gives the weights of that
operator as a state for `subnet.build_operator` (`state(operator)`). Nothing is remembered between calls.
Source: Once-for-All (Cai et al., ICLR 2020); blocks with one set of weights per choice are ProxylessNAS's
(ICLR 2019).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latency_tables.operators import Operator, squeeze_excite_channels
from supernets.cut_out import ACTIVATION_LAYERS, Bottleneck, MBConv, build_operator
from supernets.layers.conv import ElasticConvUnit, State


@dataclass(frozen=True)
class Extent:
    """The largest sizes among the operators one block may be; they agree in everything else."""

    operator: Operator
    in_channels: int
    mid_channels: int
    out_channels: int
    kernels: tuple[int, ...]
    expansion: bool
    shortcut: bool

    @classmethod
    def of(cls, operators: Sequence[Operator]) -> Extent:
        return cls(
            operator=operators[0],
            in_channels=max(op.in_channels for op in operators),
            mid_channels=max(op.mid_channels for op in operators),
            out_channels=max(op.out_channels for op in operators),
            kernels=tuple(sorted({op.kernel for op in operators})),
            expansion=any(op.mid_channels != op.in_channels for op in operators),
            shortcut=any(op.stride != 1 or op.in_channels != op.out_channels for op in operators),
        )


class ElasticBlock(nn.Module, ABC):
    """Interface of a block: the operator is an argument of everything, never kept."""

    @abstractmethod
    def forward(self, x: Tensor, op: Operator) -> Tensor:
        """Shape (B, in channels, H, W) to (B, out channels of `op`, H, W by its stride)."""

    @abstractmethod
    def state(self, op: Operator) -> State:
        """State dict of `build_operator(op)` with this block's weights; views where nothing is computed."""

    def take(self, op: Operator, state: State) -> None:
        """Copy what `state` gives; this block must be one that can be `op` only."""
        self.load_state_dict(state)


class ElasticConvBlock(ElasticBlock):
    """`conv`: elastic in width and kernel; with a residual where the operator has one."""

    def __init__(self, extent: Extent, eps: float) -> None:
        super().__init__()
        op = extent.operator
        self.unit = ElasticConvUnit(
            extent.in_channels,
            extent.out_channels,
            extent.kernels,
            stride=op.stride,
            activation=op.activation,
            eps=eps,
        )

    def forward(self, x: Tensor, op: Operator) -> Tensor:
        y: Tensor = self.unit(x, op.out_channels, op.kernel)
        return y + x if op.residual else y

    def state(self, op: Operator) -> State:
        return self.unit.state("unit." if op.residual else "", op.in_channels, op.out_channels, op.kernel)

    def take(self, op: Operator, state: State) -> None:
        (self if op.residual else self.unit).load_state_dict(state)


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


class ElasticMBConv(ElasticBlock):
    """`mbconv`: elastic in input, mid and output channels and in kernel size."""

    def __init__(self, extent: Extent, eps: float) -> None:
        super().__init__()
        op, mid = extent.operator, extent.mid_channels
        act = op.activation
        self.residual = op.residual
        self.expand = (
            ElasticConvUnit(extent.in_channels, mid, activation=act, eps=eps) if extent.expansion else None
        )
        self.depthwise = ElasticConvUnit(
            mid, mid, extent.kernels, stride=op.stride, depthwise=True, activation=act, eps=eps
        )
        self.squeeze_excite = ElasticSqueezeExcite(mid) if op.squeeze_excite else None
        self.project = ElasticConvUnit(mid, extent.out_channels, eps=eps)

    def forward(self, x: Tensor, op: Operator) -> Tensor:
        mid = op.mid_channels
        y: Tensor = x if self.expand is None or mid == op.in_channels else self.expand(x, mid)
        y = self.depthwise(y, mid, op.kernel)
        if self.squeeze_excite is not None:
            y = self.squeeze_excite(y)
        y = self.project(y, op.out_channels)
        return x + y if op.residual else y

    def state(self, op: Operator) -> State:
        mid = op.mid_channels
        state: State = {}
        if self.expand is not None and mid != op.in_channels:
            state.update(self.expand.state("expand.", op.in_channels, mid))
        state.update(self.depthwise.state("depthwise.", mid, mid, op.kernel))
        if self.squeeze_excite is not None:
            state.update(self.squeeze_excite.state("squeeze_excite.", mid))
        state.update(self.project.state("project.", mid, op.out_channels))
        return state


class ElasticBottleneck(ElasticBlock):
    """`bottleneck`: elastic in input, mid and output channels."""

    def __init__(self, extent: Extent, eps: float) -> None:
        super().__init__()
        op, mid, out = extent.operator, extent.mid_channels, extent.out_channels
        act = op.activation
        self.residual = op.residual
        self.reduce = ElasticConvUnit(extent.in_channels, mid, activation=act, eps=eps)
        self.spatial = ElasticConvUnit(mid, mid, extent.kernels, stride=op.stride, activation=act, eps=eps)
        self.project = ElasticConvUnit(mid, out, eps=eps)
        self.shortcut = ElasticConvUnit(extent.in_channels, out, eps=eps) if extent.shortcut else None
        self.activation = ACTIVATION_LAYERS[act]()

    def forward(self, x: Tensor, op: Operator) -> Tensor:
        y = self.spatial(self.reduce(x, op.mid_channels), op.mid_channels, op.kernel)
        y = self.project(y, op.out_channels)
        if op.residual:
            kept = F.avg_pool2d(x, op.stride, op.stride, ceil_mode=True) if op.stride > 1 else x
            if self.shortcut is not None and _changes_shape(op):
                kept = self.shortcut(kept, op.out_channels)
            y = y + kept
        return cast(Tensor, self.activation(y))

    def state(self, op: Operator) -> State:
        mid = op.mid_channels
        state = self.reduce.state("reduce.", op.in_channels, mid)
        state.update(self.spatial.state("spatial.", mid, mid, op.kernel))
        state.update(self.project.state("project.", mid, op.out_channels))
        if self.shortcut is not None and _changes_shape(op):
            state.update(self.shortcut.state("shortcut.", op.in_channels, op.out_channels))
        return state


def _changes_shape(op: Operator) -> bool:
    return op.stride != 1 or op.in_channels != op.out_channels


class ElasticHead(ElasticBlock):
    """`head`: elastic in input channels only."""

    def __init__(self, extent: Extent, dropout: float) -> None:
        super().__init__()
        mid = extent.mid_channels
        self.feature = nn.Linear(extent.in_channels, mid, bias=False) if mid else None
        self.activation = ACTIVATION_LAYERS[extent.operator.activation]()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(mid or extent.in_channels, extent.out_channels)

    def forward(self, x: Tensor, op: Operator) -> Tensor:
        y = x.mean((2, 3))
        if self.feature is None:
            return F.linear(self.dropout(y), self.linear.weight[:, : op.in_channels], self.linear.bias)
        y = self.activation(F.linear(y, self.feature.weight[:, : op.in_channels]))
        return cast(Tensor, self.linear(self.dropout(y)))

    def state(self, op: Operator) -> State:
        if self.feature is None:
            return {"linear.weight": self.linear.weight[:, : op.in_channels], "linear.bias": self.linear.bias}
        return {
            "feature.weight": self.feature.weight[:, : op.in_channels],
            "linear.weight": self.linear.weight,
            "linear.bias": self.linear.bias,
        }


class SeparatePaths(ElasticBlock):
    """A block whose choices have weights of their own (ProxylessNAS): one plain operator each, by
    `path_name`."""

    def __init__(self, operators: Sequence[Operator], eps: float) -> None:
        super().__init__()
        self.paths = nn.ModuleDict({path_name(op): build_operator(op, eps=eps) for op in operators})

    def forward(self, x: Tensor, op: Operator) -> Tensor:
        return cast(Tensor, self.paths[path_name(op)](x))

    def state(self, op: Operator) -> State:
        return cast(State, self.paths[path_name(op)].state_dict())


def path_name(op: Operator) -> str:
    """Which path of `SeparatePaths` an operator is: what distinguishes the choices of a block."""
    return f"in{op.in_channels}_out{op.out_channels}_mid{op.mid_channels}_k{op.kernel}"


def build_block(operators: Sequence[Operator], *, shared: bool, eps: float, dropout: float) -> ElasticBlock:
    """The block that can be each of these operators (at one resolution)."""
    extent = Extent.of(operators)
    family = extent.operator.family
    if family == "head":
        return ElasticHead(extent, dropout)
    if not shared and len(operators) > 1:
        return SeparatePaths(operators, eps)
    if family == "mbconv":
        return ElasticMBConv(extent, eps)
    return ElasticBottleneck(extent, eps) if family == "bottleneck" else ElasticConvBlock(extent, eps)


@torch.no_grad()
def initialise_elastic(block: nn.Module, generator: torch.Generator | None) -> None:
    """Random weights for the elastic layers and the squeeze-excite and linear layers of a block."""
    for part in block.modules():
        if isinstance(part, ElasticConvUnit):
            part.conv.initialise(generator)
        elif isinstance(part, nn.Conv2d | nn.Linear):
            fan_out = (
                math.prod(part.weight.shape[2:])
                * part.weight.shape[0]
                // (part.groups if isinstance(part, nn.Conv2d) else 1)
            )
            bound = 1 / math.sqrt(part.weight.shape[1])
            if isinstance(part, nn.Linear):
                part.weight.uniform_(-bound, bound, generator=generator)
            else:
                part.weight.normal_(0, math.sqrt(2 / fan_out), generator=generator)
            if part.bias is not None:
                part.bias.zero_()


@torch.no_grad()
def start_as_identity(network: nn.Module) -> None:
    """Zero the last batch-norm scale of every residual branch, so that a block begins as the identity.

    A deep network learns from the first steps instead of staying at chance for hundreds (Goyal et al., 2017,
    section 5.1). Not part of a network's random weights: a branch of zeros would be measured, and compared,
    as nothing.
    """
    for part in network.modules():
        if isinstance(part, ElasticMBConv | ElasticBottleneck | MBConv | Bottleneck) and part.residual:
            part.project.norm.get_parameter("weight").zero_()
