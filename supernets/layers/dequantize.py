"""`dequantize`: 8 bit to float32; see `quantize`."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from latency_tables.operators.dequantize import Dequantize
from supernets.layers.block import Drawn, Graph, Layer, LayerSettings
from supernets.layers.quantize import SCALE, ZERO_POINT, grid_of_values


class PlainDequantize(nn.Module, Drawn):
    """(B, ...) uint8 to (B, ...) float32."""

    def forward(self, x: Tensor) -> Tensor:
        return (x.to(torch.float32) - ZERO_POINT) * SCALE

    def draw(self, graph: Graph, x: str) -> str:
        return graph.add("DequantizeLinear", [x, *grid_of_values()], axis=1)


def _plain(op: Dequantize, settings: LayerSettings) -> nn.Module:
    return PlainDequantize()


DEQUANTIZE: Final = Layer("dequantize", _plain)
