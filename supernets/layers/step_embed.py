"""How `step_embed` is computed, in the middle of a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from latency_tables.operators.step_embed import StepEmbed
from supernets.layers import drawing
from supernets.layers.block import DrawnOfSeveral, Graph, Layer, LayerSettings
from supernets.layers.embedding import Embedding, Positions


class PlainStepEmbed(nn.Module, DrawnOfSeveral):
    """(B, beams) whole numbers to (B, beams, width)."""

    def __init__(self, op: StepEmbed) -> None:
        super().__init__()
        self.op, self.embedding = op, Embedding(op.words, op.width)
        self.positions = Positions(op.width + op.width % 2, op.steps + 2)
        self.positions.reach(op.steps)

    def forward(self, x: Tensor) -> Tensor:
        place = torch.full_like(x, 2 + self.op.steps // 2)
        return cast(Tensor, self.embedding(x, self.op.width) + self.positions(place, self.op.width))

    def draw_from(self, graph: Graph, inputs: Sequence[str]) -> str:
        scaled = drawing.array(self.embedding.weight) * np.float32(math.sqrt(self.op.width))
        table = np.ascontiguousarray(drawing.array(self.positions.table)[:, : self.op.width])
        place = drawing.whole(2 + self.op.steps // 2)
        words = graph.add("Gather", [scaled, inputs[0]])
        return graph.add("Add", [words, graph.add("Gather", [table, place])])


def _built(op: StepEmbed, settings: LayerSettings) -> nn.Module:
    return PlainStepEmbed(op)


STEP_EMBED = Layer(StepEmbed.family, _built)
