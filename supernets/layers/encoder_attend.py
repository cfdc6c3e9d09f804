"""How `encoder_attend` is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from latency_tables.operators.encoder_attend import EncoderAttend
from supernets.layers import drawing
from supernets.layers.attention import Attention
from supernets.layers.block import DrawnOfSeveral, Graph, Layer, LayerSettings
from supernets.layers.slicing import SlicedLayerNorm


class PlainEncoderAttend(nn.Module, DrawnOfSeveral):
    """(B, tokens, width) to the same shape."""

    def __init__(self, op: EncoderAttend) -> None:
        super().__init__()
        self.op, self.attention = op, Attention(op.width, op.width, op.qkv)
        self.norm = SlicedLayerNorm(op.width)

    def forward(self, x: Tensor) -> Tensor:
        read = self.attention.read(x, self.op.heads)
        return cast(Tensor, self.norm(x + self.attention(x, read, self.op.heads)))

    def draw_from(self, graph: Graph, inputs: Sequence[str]) -> str:
        x, heads = inputs[0], self.op.heads
        keys, values = drawing.keys_values(graph, self.attention, heads, x, step=False)
        asked = drawing.queries(graph, self.attention, heads, x, step=False)
        found = drawing.attended(graph, self.attention, asked, keys, values, None, step=False)
        return drawing.normalised(graph, self.norm, x, found)


def _built(op: EncoderAttend, settings: LayerSettings) -> nn.Module:
    return PlainEncoderAttend(op)


ENCODER_ATTEND = Layer(EncoderAttend.family, _built)
