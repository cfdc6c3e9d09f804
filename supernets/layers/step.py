"""What layers of a decoding step share: attention over keys and values that are given, one row for each beam.

The super network of transformers is `EncoderDecoder`, whose layers read several things and share matrices; so
the operators of transformers have no elastic block of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from supernets.layers import drawing
from supernets.layers.block import DrawnOfSeveral, Graph
from supernets.layers.slicing import SlicedLayerNorm


def as_rows(graph: Graph, x: str, width: int) -> str:
    """A step's sample as one row a beam."""
    return graph.add("Reshape", [x, drawing.whole(-1, width)])


def as_sample(graph: Graph, x: str, shape: tuple[int, ...]) -> str:
    """Rows as one sample of that shape."""
    return graph.add("Reshape", [x, drawing.whole(-1, *shape)])


class Step(nn.Module, DrawnOfSeveral):
    """Attention of one token a row over keys and values that are given, residual sum and layer-norm. (B,
    beams, width), (B, beams, heads, length, d) twice."""

    def __init__(self, width: int, qkv: int, heads: int, beam: int) -> None:
        super().__init__()
        self.heads, self.sizes = heads, (beam, width, qkv)
        self.norm = SlicedLayerNorm(width)

    def _mixed(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        rows = x.flatten(0, 1)[:, None]
        found = self._mixed(rows, keys.flatten(0, 1), values.flatten(0, 1))
        return cast(Tensor, self.norm(rows + found)).reshape(x.shape)

    def draw_from(self, graph: Graph, inputs: Sequence[str]) -> str:
        beam, width, qkv = self.sizes
        x = as_rows(graph, inputs[0], width)
        shape = drawing.whole(-1, self.heads, self._length(), qkv // self.heads)
        keys, values = (graph.add("Reshape", [kept, shape]) for kept in inputs[1:])
        found = self._draw_mixed(graph, x, keys, values)
        return as_sample(graph, drawing.normalised(graph, self.norm, x, found), (beam, width))

    def _length(self) -> int:
        raise NotImplementedError

    def _draw_mixed(self, graph: Graph, x: str, keys: str, values: str) -> str:
        raise NotImplementedError
