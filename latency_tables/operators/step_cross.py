"""`step_cross`: a decoder's attention over what it reads of the encoder, in every step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from latency_tables.inputs import InputSpec
from latency_tables.operators.operator import Block, Operator
from latency_tables.operators.sentence import STEPS_CHAINED, SentenceOperator, cached


@dataclass(frozen=True)
class StepCross(SentenceOperator):
    """tokens: of all encoder layers that are read, one after the other."""

    family: ClassVar[str] = "step_cross"
    form: ClassVar[str] = "beam={beam}/read={tokens}/in={width}/qkv={qkv}/heads={heads}/steps={steps}"
    axes: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "beam": (),
        "tokens": (),
        "width": (),
        "heads": (),
        "steps": (),
    }

    beam: int
    tokens: int
    width: int
    qkv: int
    heads: int
    steps: int

    @classmethod
    def of_block(cls, block: Block) -> tuple[Operator, ...]:
        told, values = block.settings, block.values
        tokens = block.read_shape[0] * int(values["attended"])
        beam, steps, qkv = int(told["beam"]), int(told["steps"]), int(told["qkv"])
        return (cls(beam, tokens, block.width, qkv, int(values["cross_heads"]), steps),)

    @property
    def copies(self) -> int:
        return STEPS_CHAINED

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        read = cached("read", self.beam, self.heads, self.tokens, self.qkv)
        return (InputSpec("input", self.output_shape), *read)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.beam, self.width)

    @property
    def macs(self) -> int:
        rows = self.steps * self.beam
        return rows * (2 * self.qkv * self.width + 2 * self.tokens * self.qkv)

    @property
    def parameters(self) -> int:
        return 2 * self.qkv * self.width + self.qkv + self.width + 2 * self.width

    @property
    def kind(self) -> str:
        return f"cross attention of a step, {self.heads} heads"
