"""`quantize`: float32 to 8 bit with one scale and zero point. In a delivered file they come from calibration;
alone, where only its time matters, they cover values of about unit size."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from latency_tables.operators.quantize import Quantize
from supernets.layers.block import Drawn, Graph, Layer, LayerSettings

SCALE: Final = 1 / 32
ZERO_POINT: Final = 128


class PlainQuantize(nn.Module, Drawn):
    """(B, ...) float32 to (B, ...) uint8."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.clamp(torch.round(x / SCALE) + ZERO_POINT, 0, 255).to(torch.uint8)

    def draw(self, graph: Graph, x: str) -> str:
        return graph.add("QuantizeLinear", [x, *grid_of_values()], axis=1)


def grid_of_values() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(scale, zero point) as ONNX takes them."""
    return np.array(SCALE, dtype=np.float32), np.array(ZERO_POINT, dtype=np.uint8)


def _plain(op: Quantize, settings: LayerSettings) -> nn.Module:
    return PlainQuantize()


QUANTIZE: Final = Layer("quantize", _plain)
