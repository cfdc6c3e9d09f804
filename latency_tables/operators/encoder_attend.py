"""`encoder_attend`: self attention over a sentence, residual sum, layer-norm; a block of it is an encoder
layer, whose feed-forward part follows.

Source: HAT (Wang et al., ACL 2020). Heads change no weight, only what is mixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from latency_tables.inputs import InputSpec
from latency_tables.named import Value
from latency_tables.operators.ffn import FeedForwardPart
from latency_tables.operators.operator import Block, Dimension, Operator
from latency_tables.operators.sentence import SentenceOperator, attention_parameters
from latency_tables.operators.source_embed import SourceEmbed


@dataclass(frozen=True)
class EncoderAttend(SentenceOperator):
    """setting qkv: width of queries, keys and values; words: of the source's vocabulary."""

    family: ClassVar[str] = "encoder_attend"
    form: ClassVar[str] = "in={tokens}x{width}/qkv={qkv}/heads={heads}"
    settings: ClassVar[Mapping[str, Value]] = {"qkv": 512, "words": 32_768}
    dimensions: ClassVar[tuple[Dimension, ...]] = (
        Dimension("heads", 4, opens="heads"),
        Dimension("inside", 1024, opens="expand"),
    )
    excludable: ClassVar[tuple[str, ...]] = ("heads", "inside")
    axes: ClassVar[Mapping[str, tuple[str, ...]]] = {"tokens": (), "width": (), "heads": ()}

    tokens: int
    width: int
    qkv: int
    heads: int

    @classmethod
    def of_block(cls, block: Block) -> tuple[Operator, ...]:
        tokens, width = block.shape[0], block.width
        layer: tuple[Operator, ...] = (
            cls(tokens, width, int(block.settings["qkv"]), int(block.values["heads"])),
            FeedForwardPart(tokens, width, int(block.values["inside"]), 1),
        )
        return (*SourceEmbed.of_block(block), *layer) if block.first else layer

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        return (InputSpec("input", self.output_shape),)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.tokens, self.width)

    @property
    def macs(self) -> int:
        return self.tokens * 4 * self.qkv * self.width + 2 * self.tokens**2 * self.qkv

    @property
    def parameters(self) -> int:
        return attention_parameters(self.width, self.qkv)

    @property
    def kind(self) -> str:
        return f"encoder attention, {self.heads} heads"
