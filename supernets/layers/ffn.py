"""How `ffn` is computed: over a sentence, or over the rows of a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from latency_tables.operators.ffn import FeedForwardPart
from supernets.layers import drawing
from supernets.layers.block import DrawnOfSeveral, Graph, Layer, LayerSettings
from supernets.layers.feed_forward import FeedForward
from supernets.layers.slicing import SlicedLayerNorm
from supernets.layers.step import as_rows, as_sample


class PlainFeedForward(nn.Module, DrawnOfSeveral):
    """(B, rows, width) to the same shape."""

    def __init__(self, op: FeedForwardPart) -> None:
        super().__init__()
        self.op, self.part, self.norm = op, FeedForward(op.width, op.inside), SlicedLayerNorm(op.width)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.norm(x + self.part(x, self.op.inside)))

    def draw_from(self, graph: Graph, inputs: Sequence[str]) -> str:
        if self.op.steps == 1:
            return drawing.fed_forward(graph, self.part, self.norm, inputs[0], step=False)
        x = as_rows(graph, inputs[0], self.op.width)
        y = drawing.fed_forward(graph, self.part, self.norm, x, step=True)
        return as_sample(graph, y, self.op.output_shape)


def _built(op: FeedForwardPart, settings: LayerSettings) -> nn.Module:
    return PlainFeedForward(op)


FFN = Layer(FeedForwardPart.family, _built)
