"""`head`: global average pool, feature layer, dropout, linear layer; elastic in input channels, and plain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from latency_tables.operators.head import Head
from supernets.layers.block import Drawn, ElasticBlock, Graph, Layer, LayerSettings, State
from supernets.layers.units import ACTIVATION_LAYERS, Extent


class ElasticHead(ElasticBlock[Head]):
    """`head`: elastic in input channels only."""

    def __init__(self, extent: Extent, dropout: float) -> None:
        super().__init__()
        mid = extent.mid_channels
        self.feature = nn.Linear(extent.in_channels, mid, bias=False) if mid else None
        self.activation = ACTIVATION_LAYERS[extent.operator.activation]()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(mid or extent.in_channels, extent.out_channels)

    def forward(self, x: Tensor, op: Head) -> Tensor:
        y = x.mean((2, 3))
        if self.feature is None:
            return F.linear(self.dropout(y), self.linear.weight[:, : op.in_channels], self.linear.bias)
        y = self.activation(F.linear(y, self.feature.weight[:, : op.in_channels]))
        return cast(Tensor, self.linear(self.dropout(y)))

    def state(self, op: Head) -> State:
        if self.feature is None:
            return {"linear.weight": self.linear.weight[:, : op.in_channels], "linear.bias": self.linear.bias}
        return {
            "feature.weight": self.feature.weight[:, : op.in_channels],
            "linear.weight": self.linear.weight,
            "linear.bias": self.linear.bias,
        }


class PlainHead(nn.Module, Drawn):
    """Global average pool, feature layer with activation (where mid is not 0), dropout, linear layer."""

    def __init__(self, op: Head, dropout: float) -> None:
        super().__init__()
        mid = op.mid_channels
        self.feature = nn.Linear(op.in_channels, mid, bias=False) if mid else nn.Identity()
        self.activation = ACTIVATION_LAYERS[op.activation if mid else "none"]()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(mid or op.in_channels, op.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.linear(self.dropout(self.activation(self.feature(x.mean((2, 3)))))))

    def draw(self, graph: Graph, x: str) -> str:
        pooled = graph.add(
            "ReduceMean", [x, np.array([2, 3], dtype=np.int64)], keepdims=0, noop_with_empty_axes=0
        )
        return graph.module(self.linear, graph.module(self.activation, graph.module(self.feature, pooled)))


def _plain(op: Head, settings: LayerSettings) -> nn.Module:
    return PlainHead(op, settings.dropout)


def _elastic(operators: Sequence[Head], settings: LayerSettings) -> ElasticHead:
    return ElasticHead(Extent.of(operators), settings.dropout)


HEAD: Final = Layer("head", _plain, _elastic)
