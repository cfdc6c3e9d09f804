"""How `step_output` is computed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latency_tables.operators.step_output import StepOutput
from supernets.layers import drawing
from supernets.layers.block import DrawnOfSeveral, Graph, Layer, LayerSettings, SelfInitialised
from supernets.layers.step import as_rows, as_sample


class PlainStepOutput(nn.Module, DrawnOfSeveral, SelfInitialised):
    """(B, beams, width) to (B, beams, words), without a bias."""

    def __init__(self, op: StepOutput) -> None:
        super().__init__()
        self.op, self.weight = op, nn.Parameter(torch.empty(op.words, op.width))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Normal of width ** -0.5."""
        self.weight.normal_(0, self.op.width**-0.5, generator=generator)

    def draw_from(self, graph: Graph, inputs: Sequence[str]) -> str:
        x = as_rows(graph, inputs[0], self.op.width)
        return as_sample(graph, drawing.rows(graph, x, drawing.array(self.weight)), self.op.output_shape)


def _built(op: StepOutput, settings: LayerSettings) -> nn.Module:
    return PlainStepOutput(op)


STEP_OUTPUT = Layer(StepOutput.family, _built)
