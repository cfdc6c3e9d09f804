"""How `step_attend` is computed."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from latency_tables.operators.step_attend import StepAttend
from supernets.layers import drawing
from supernets.layers.attention import Attention, KeysValues
from supernets.layers.block import Graph, Layer, LayerSettings
from supernets.layers.step import Step


class PlainStepAttend(Step):
    """Over what was written, this token included."""

    def __init__(self, op: StepAttend) -> None:
        super().__init__(op.width, op.qkv, op.heads, op.beam)
        self.op, self.attention = op, Attention(op.width, op.width, op.qkv)

    def _length(self) -> int:
        return self.op.cache

    def _mixed(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        kept = KeysValues(keys, values).followed_by(self.attention.read(x, self.heads))
        return cast(Tensor, self.attention(x, kept, self.heads))

    def _draw_mixed(self, graph: Graph, x: str, keys: str, values: str) -> str:
        new = drawing.keys_values(graph, self.attention, self.heads, x, step=True)
        keys, values = (graph.add("Concat", [a, b], axis=2) for a, b in zip((keys, values), new, strict=True))
        asked = drawing.queries(graph, self.attention, self.heads, x, step=True)
        return drawing.attended(graph, self.attention, asked, keys, values, None, step=True)


def _built(op: StepAttend, settings: LayerSettings) -> nn.Module:
    return PlainStepAttend(op)


STEP_ATTEND = Layer(StepAttend.family, _built)
