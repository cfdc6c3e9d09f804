"""`mbconv`: the inverted bottleneck, elastic in channels and kernel size, and plain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from torch import Tensor, nn

from latency_tables.operators.mbconv import MBConv
from supernets.layers.block import (
    Drawn,
    ElasticBlock,
    ElasticPrunable,
    Graph,
    Layer,
    LayerSettings,
    Prunable,
    StartsAsIdentity,
    State,
)
from supernets.layers.lite import lite_residual
from supernets.layers.sorting import (
    banded_order,
    gated,
    importance,
    inputs_of,
    most_important,
    outputs_of,
    permute_inputs,
    permute_outputs,
    sort_squeeze_excite,
)
from supernets.layers.units import ConvUnit, ElasticConvUnit, ElasticSqueezeExcite, Extent, SqueezeExcite


class ElasticMBConv(ElasticBlock[MBConv], ElasticPrunable, StartsAsIdentity):
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

    def forward(self, x: Tensor, op: MBConv) -> Tensor:
        mid = op.mid_channels
        y: Tensor = x if self.expand is None or mid == op.in_channels else self.expand(x, mid)
        y = self.depthwise(y, mid, op.kernel)
        if self.squeeze_excite is not None:
            y = self.squeeze_excite(y)
        y = self.project(y, op.out_channels)
        return x + y if op.residual else y

    @property
    def closing(self) -> ElasticConvUnit | None:
        return None if self.expand is None else self.project

    def state(self, op: MBConv) -> State:
        mid = op.mid_channels
        state: State = {}
        if self.expand is not None and mid != op.in_channels:
            state.update(self.expand.state("expand.", op.in_channels, mid))
        state.update(self.depthwise.state("depthwise.", mid, mid, op.kernel))
        if self.squeeze_excite is not None:
            state.update(self.squeeze_excite.state("squeeze_excite.", mid))
        state.update(self.project.state("project.", mid, op.out_channels))
        return state

    def sort_channels(self, supported: Sequence[MBConv]) -> None:
        if self.expand is None:
            return
        mids = sorted({op.mid_channels for op in supported})
        order = banded_order(importance(self.project.conv.weight), mids)
        permute_inputs(self.project, order)
        permute_outputs(self.depthwise, order)
        permute_outputs(self.expand, order)
        if self.squeeze_excite is not None:
            sort_squeeze_excite(self.squeeze_excite, order, mids)

    def start_as_identity(self) -> None:
        if self.residual:
            self.project.norm.weight.zero_()


class PlainMBConv(Prunable, Drawn, StartsAsIdentity):
    """Inverted bottleneck: 1x1 expansion (absent where mid equals in), depthwise kxk, squeeze-excite, 1x1
    projection."""

    def __init__(self, op: MBConv, eps: float) -> None:
        super().__init__()
        mid, act = op.mid_channels, op.activation
        self.residual = op.residual
        self.expand = (
            ConvUnit(op.in_channels, mid, activation=act, eps=eps) if mid != op.in_channels else nn.Identity()
        )
        self.depthwise = ConvUnit(mid, mid, op.kernel, stride=op.stride, groups=mid, activation=act, eps=eps)
        self.squeeze_excite = SqueezeExcite(mid) if op.squeeze_excite else nn.Identity()
        self.project = ConvUnit(mid, op.out_channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.squeeze_excite(self.depthwise(self.expand(x))))
        return x + y if self.residual else y

    @property
    def closing(self) -> ConvUnit:
        return self.project

    def inside(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.squeeze_excite(self.depthwise(self.expand(x))))

    def beside(self, x: Tensor) -> Tensor | float:
        return x if self.residual else 0.0

    def after(self, y: Tensor) -> Tensor:
        return y

    def narrowed(self, channels: int) -> State:
        kept = most_important(importance(self.project.conv.weight), channels)
        state = {
            **outputs_of(self.expand, "expand.", kept),
            **outputs_of(self.depthwise, "depthwise.", kept),
            **inputs_of(self.project, "project.", kept),
        }
        if isinstance(self.squeeze_excite, SqueezeExcite):
            state |= gated(self.squeeze_excite, "squeeze_excite.", kept)
        return state

    def draw(self, graph: Graph, x: str) -> str:
        y = graph.module(self.depthwise, graph.module(self.expand, x))
        y = graph.module(self.project, graph.module(self.squeeze_excite, y))
        return graph.add("Add", [x, y]) if self.residual else y

    def start_as_identity(self) -> None:
        if self.residual:
            self.project.norm.get_parameter("weight").zero_()


def _plain(op: MBConv, settings: LayerSettings) -> nn.Module:
    return PlainMBConv(op, settings.eps)


def _elastic(operators: Sequence[MBConv], settings: LayerSettings) -> ElasticMBConv:
    return ElasticMBConv(Extent.of(operators), settings.eps)


MBCONV: Final = Layer("mbconv", _plain, _elastic, lite_residual)
