"""`ffn`: two linear layers with a ReLU between, residual sum, layer-norm: over a sentence once, or
over the beams in every step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from latency_tables.inputs import InputSpec
from latency_tables.operators.operator import Block, Operator
from latency_tables.operators.sentence import STEPS_CHAINED, SentenceOperator


@dataclass(frozen=True)
class FeedForwardPart(SentenceOperator):
    """rows: tokens of the sentence, or beams of a step. steps: 1 in an encoder, tokens written in a
    decoder."""

    family: ClassVar[str] = "ffn"
    form: ClassVar[str] = "in={rows}x{width}/inside={inside}/steps={steps}"
    axes: ClassVar[Mapping[str, tuple[str, ...]]] = {"rows": (), "width": (), "inside": (), "steps": ()}

    rows: int
    width: int
    inside: int
    steps: int

    @classmethod
    def of_block(cls, block: Block) -> tuple[Operator, ...]:
        return (cls(block.shape[0], block.width, int(block.values["inside"]), 1),)

    @property
    def copies(self) -> int:
        return 1 if self.steps == 1 else STEPS_CHAINED

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        return (InputSpec("input", self.output_shape),)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.rows, self.width)

    @property
    def macs(self) -> int:
        return self.steps * self.rows * 2 * self.width * self.inside

    @property
    def parameters(self) -> int:
        return 2 * self.width * self.inside + self.inside + 3 * self.width

    @property
    def kind(self) -> str:
        return "feed-forward of a sentence" if self.steps == 1 else "feed-forward of a step"
