"""`cross_memory`: keys and values of the last encoder layers that a decoder layer reads; once a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from latency_tables.inputs import InputSpec
from latency_tables.operators.operator import Block, Operator
from latency_tables.operators.sentence import SentenceOperator


@dataclass(frozen=True)
class CrossMemory(SentenceOperator):
    """tokens: of all layers read, one after the other. width: of the encoder. qkv: of keys, and of values."""

    family: ClassVar[str] = "cross_memory"
    form: ClassVar[str] = "in={tokens}x{width}/qkv={qkv}/heads={heads}"
    axes: ClassVar[Mapping[str, tuple[str, ...]]] = {"tokens": (), "width": ()}

    tokens: int
    width: int
    qkv: int
    heads: int

    @classmethod
    def of_block(cls, block: Block) -> tuple[Operator, ...]:
        tokens, width = block.read_shape
        heads, qkv = int(block.values["cross_heads"]), int(block.settings["qkv"])
        return (cls(tokens * int(block.values["attended"]), width, qkv, heads),)

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        return (InputSpec("input", (self.tokens, self.width)),)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (2 * self.heads, self.tokens, self.qkv // self.heads)

    @property
    def macs(self) -> int:
        return self.tokens * 2 * self.qkv * self.width

    @property
    def parameters(self) -> int:
        return 2 * self.qkv * self.width + 2 * self.qkv
