"""How `cross_memory` is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from latency_tables.operators.cross_memory import CrossMemory
from supernets.layers import drawing
from supernets.layers.block import DrawnOfSeveral, Graph, Layer, LayerSettings
from supernets.layers.slicing import SlicedLinear


class PlainCrossMemory(nn.Module, DrawnOfSeveral):
    """(B, tokens, width) to keys and values, (B, 2 heads, tokens, width of a head)."""

    def __init__(self, op: CrossMemory) -> None:
        super().__init__()
        self.op, self.key_value = op, SlicedLinear(op.width, 2 * op.qkv)

    def forward(self, x: Tensor) -> Tensor:
        found = cast(Tensor, self.key_value(x))
        return found.reshape(*x.shape[:2], 2 * self.op.heads, -1).transpose(1, 2)

    def draw_from(self, graph: Graph, inputs: Sequence[str]) -> str:
        weight, bias = drawing.array(self.key_value.weight), drawing.array(self.key_value.bias)
        found = drawing.linear(graph, inputs[0], weight, bias)
        shape = drawing.whole(0, 0, 2 * self.op.heads, self.op.qkv // self.op.heads)
        return graph.add("Transpose", [graph.add("Reshape", [found, shape])], perm=[0, 2, 1, 3])


def _built(op: CrossMemory, settings: LayerSettings) -> nn.Module:
    return PlainCrossMemory(op)


CROSS_MEMORY = Layer(CrossMemory.family, _built)
