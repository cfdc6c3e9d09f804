"""How `step_cross` is computed."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from latency_tables.operators.step_cross import StepCross
from supernets.layers import drawing
from supernets.layers.block import Graph, Layer, LayerSettings
from supernets.layers.slicing import SlicedLinear
from supernets.layers.step import Step


class PlainStepCross(Step):
    """Over keys and values that the encoder left."""

    def __init__(self, op: StepCross) -> None:
        super().__init__(op.width, op.qkv, op.heads, op.beam)
        self.op = op
        self.query, self.output = SlicedLinear(op.width, op.qkv), SlicedLinear(op.qkv, op.width)

    def _length(self) -> int:
        return self.op.tokens

    def _mixed(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        asked = self.query(x).reshape(len(x), 1, self.heads, -1).transpose(1, 2)
        mixed = torch.nn.functional.scaled_dot_product_attention(asked, keys, values)
        return cast(Tensor, self.output(mixed.transpose(1, 2).flatten(2)))

    def _draw_mixed(self, graph: Graph, x: str, keys: str, values: str) -> str:
        asked = drawing.queries(graph, self, self.heads, x, step=True)
        return drawing.attended(graph, self, asked, keys, values, None, step=True)


def _built(op: StepCross, settings: LayerSettings) -> nn.Module:
    return PlainStepCross(op)


STEP_CROSS = Layer(StepCross.family, _built)
