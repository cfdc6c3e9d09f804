"""`bottleneck`: ResNet-D's block, elastic in input, mid and output channels, and plain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from torch import Tensor, nn
from torch.nn import functional as F

from latency_tables.operators.bottleneck import Bottleneck
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
    importance,
    inputs_of,
    most_important,
    outputs_of,
    permute_inputs,
    permute_outputs,
)
from supernets.layers.units import ACTIVATION_LAYERS, ConvUnit, ElasticConvUnit, Extent


class ElasticBottleneck(ElasticBlock[Bottleneck], ElasticPrunable, StartsAsIdentity):
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

    def forward(self, x: Tensor, op: Bottleneck) -> Tensor:
        y = self.spatial(self.reduce(x, op.mid_channels), op.mid_channels, op.kernel)
        y = self.project(y, op.out_channels)
        if op.residual:
            kept = F.avg_pool2d(x, op.stride, op.stride, ceil_mode=True) if op.stride > 1 else x
            if self.shortcut is not None and not op.keeps_shape:
                kept = self.shortcut(kept, op.out_channels)
            y = y + kept
        return cast(Tensor, self.activation(y))

    @property
    def closing(self) -> ElasticConvUnit:
        return self.project

    def state(self, op: Bottleneck) -> State:
        mid = op.mid_channels
        state = self.reduce.state("reduce.", op.in_channels, mid)
        state.update(self.spatial.state("spatial.", mid, mid, op.kernel))
        state.update(self.project.state("project.", mid, op.out_channels))
        if self.shortcut is not None and not op.keeps_shape:
            state.update(self.shortcut.state("shortcut.", op.in_channels, op.out_channels))
        return state

    def sort_channels(self, supported: Sequence[Bottleneck]) -> None:
        mids = sorted({op.mid_channels for op in supported})
        inner = banded_order(importance(self.project.conv.weight), mids)
        permute_inputs(self.project, inner)
        permute_outputs(self.spatial, inner)
        first = banded_order(importance(self.spatial.conv.weight), mids)
        permute_inputs(self.spatial, first)
        permute_outputs(self.reduce, first)

    def start_as_identity(self) -> None:
        if self.residual:
            self.project.norm.weight.zero_()


class PlainBottleneck(Prunable, Drawn, StartsAsIdentity):
    """ResNet-D bottleneck: 1x1, kxk with the stride, 1x1; average-pooled 1x1 shortcut where the shape
    changes."""

    def __init__(self, op: Bottleneck, eps: float) -> None:
        super().__init__()
        mid, act = op.mid_channels, op.activation
        self.reduce = ConvUnit(op.in_channels, mid, activation=act, eps=eps)
        self.spatial = ConvUnit(
            mid, mid, op.kernel, stride=op.stride, groups=op.groups, activation=act, eps=eps
        )
        self.project = ConvUnit(mid, op.out_channels, eps=eps)
        # Said of padding that is not there: some versions of ONNX Runtime (1.20, say) divide by cells beyond
        # the edge.
        pool = {"ceil_mode": True, "count_include_pad": False}
        self.pool = nn.AvgPool2d(op.stride, op.stride, **pool) if op.stride > 1 else nn.Identity()
        same = op.stride == 1 and op.in_channels == op.out_channels
        self.shortcut = nn.Identity() if same else ConvUnit(op.in_channels, op.out_channels, eps=eps)
        self.residual = op.residual
        self.activation = ACTIVATION_LAYERS[act]()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.spatial(self.reduce(x)))
        return cast(Tensor, self.activation(y + self.shortcut(self.pool(x)) if self.residual else y))

    @property
    def closing(self) -> ConvUnit:
        return self.project

    def inside(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.spatial(self.reduce(x)))

    def beside(self, x: Tensor) -> Tensor | float:
        return cast(Tensor, self.shortcut(self.pool(x))) if self.residual else 0.0

    def after(self, y: Tensor) -> Tensor:
        return cast(Tensor, self.activation(y))

    def narrowed(self, channels: int) -> State:
        kept = most_important(importance(self.project.conv.weight), channels)
        first = most_important(importance(self.spatial.conv.weight[kept]), channels)
        state = {
            **outputs_of(self.reduce, "reduce.", first),
            **outputs_of(self.spatial, "spatial.", kept),
            **inputs_of(self.project, "project.", kept),
        }
        state["spatial.conv.weight"] = state["spatial.conv.weight"][:, first]
        if isinstance(self.shortcut, ConvUnit):
            state |= {f"shortcut.{name}": value for name, value in self.shortcut.state_dict().items()}
        return state

    def draw(self, graph: Graph, x: str) -> str:
        y = graph.module(self.project, graph.module(self.spatial, graph.module(self.reduce, x)))
        if self.residual:
            y = graph.add("Add", [y, graph.module(self.shortcut, graph.module(self.pool, x))])
        return graph.module(self.activation, y)

    def start_as_identity(self) -> None:
        if self.residual:
            self.project.norm.get_parameter("weight").zero_()


def _plain(op: Bottleneck, settings: LayerSettings) -> nn.Module:
    return PlainBottleneck(op, settings.eps)


def _elastic(operators: Sequence[Bottleneck], settings: LayerSettings) -> ElasticBottleneck:
    return ElasticBottleneck(Extent.of(operators), settings.eps)


BOTTLENECK: Final = Layer("bottleneck", _plain, _elastic, lite_residual)
