"""How `source_embed` is computed: embedding and sinusoids of whole sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from latency_tables.operators.source_embed import SourceEmbed
from supernets.layers import drawing
from supernets.layers.block import DrawnOfSeveral, Graph, Layer, LayerSettings
from supernets.layers.embedding import Embedding, Positions


class PlainSourceEmbed(nn.Module, DrawnOfSeveral):
    """(B, tokens) whole numbers to (B, tokens, width)."""

    def __init__(self, op: SourceEmbed) -> None:
        super().__init__()
        self.op, self.embedding = op, Embedding(op.words, op.width)
        self.positions = Positions(op.width + op.width % 2, op.tokens + 2)
        self.positions.reach(op.tokens)

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(2, 2 + self.op.tokens).expand_as(x)
        return cast(Tensor, self.embedding(x, self.op.width) + self.positions(places, self.op.width))

    def draw_from(self, graph: Graph, inputs: Sequence[str]) -> str:
        scaled = drawing.array(self.embedding.weight) * np.float32(math.sqrt(self.op.width))
        places = drawing.whole(*range(2, 2 + self.op.tokens))
        table = drawing.array(self.positions.table)[:, : self.op.width]
        words = graph.add("Gather", [scaled, inputs[0]])
        return graph.add("Add", [words, graph.add("Gather", [np.ascontiguousarray(table), places])])


def _built(op: SourceEmbed, settings: LayerSettings) -> nn.Module:
    return PlainSourceEmbed(op)


SOURCE_EMBED = Layer(SourceEmbed.family, _built)
