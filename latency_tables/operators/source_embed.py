"""`source_embed`: the words of a sentence become vectors, with positions; once a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from latency_tables.inputs import InputSpec
from latency_tables.operators.operator import Block, Operator
from latency_tables.operators.sentence import SentenceOperator


@dataclass(frozen=True)
class SourceEmbed(SentenceOperator):
    """tokens: of the sentence. width: of the encoder. words: in the vocabulary."""

    family: ClassVar[str] = "source_embed"
    form: ClassVar[str] = "in={tokens}/out={width}/words={words}"
    axes: ClassVar[Mapping[str, tuple[str, ...]]] = {"tokens": (), "width": ()}

    tokens: int
    width: int
    words: int

    @classmethod
    def of_block(cls, block: Block) -> tuple[Operator, ...]:
        return (cls(block.shape[0], block.width, int(block.settings["words"])),)

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        return (InputSpec("input", (self.tokens,), "int64", self.words),)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.tokens, self.width)

    @property
    def macs(self) -> int:
        return self.tokens * self.width

    @property
    def parameters(self) -> int:
        return self.words * self.width
