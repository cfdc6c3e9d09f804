"""`conv`: a convolution unit, with a residual connection where the operator has one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from torch import Tensor, nn

from latency_tables.operators.conv import Conv
from supernets.layers.block import Drawn, ElasticBlock, Graph, Layer, LayerSettings, State
from supernets.layers.units import ConvUnit, ElasticConvUnit, Extent


class ElasticConvBlock(ElasticBlock[Conv]):
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

    def forward(self, x: Tensor, op: Conv) -> Tensor:
        y: Tensor = self.unit(x, op.out_channels, op.kernel)
        return y + x if op.residual else y

    def state(self, op: Conv) -> State:
        return self.unit.state("unit." if op.residual else "", op.in_channels, op.out_channels, op.kernel)

    def take(self, op: Conv, state: State) -> None:
        (self if op.residual else self.unit).load_state_dict(state)


class ResidualConv(nn.Module, Drawn):
    """`conv` that adds its input after the activation (the middle of ResNet-D's stem)."""

    def __init__(self, op: Conv, eps: float) -> None:
        super().__init__()
        self.unit = _unit(op, eps)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.unit(x)) + x

    def draw(self, graph: Graph, x: str) -> str:
        return graph.add("Add", [graph.module(self.unit, x), x])


def _unit(op: Conv, eps: float) -> ConvUnit:
    return ConvUnit(
        op.in_channels,
        op.out_channels,
        op.kernel,
        stride=op.stride,
        groups=op.groups,
        activation=op.activation,
        eps=eps,
    )


def _plain(op: Conv, settings: LayerSettings) -> nn.Module:
    return ResidualConv(op, settings.eps) if op.residual else _unit(op, settings.eps)


def _elastic(operators: Sequence[Conv], settings: LayerSettings) -> ElasticConvBlock:
    return ElasticConvBlock(Extent.of(operators), settings.eps)


CONV: Final = Layer("conv", _plain, _elastic)
