"""`step_attend`: a decoder's self attention over what was written so far, in every step; a block of it is a
decoder layer, whose cross attention and feed-forward part follow.

Source: HAT (Wang et al., ACL 2020). The cache is taken half full: the mean over a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from latency_tables.inputs import InputSpec
from latency_tables.named import Value
from latency_tables.operators.cross_memory import CrossMemory
from latency_tables.operators.ffn import FeedForwardPart
from latency_tables.operators.operator import Block, Dimension, Operator
from latency_tables.operators.sentence import (
    STEPS_CHAINED,
    SentenceOperator,
    attention_parameters,
    cached,
)
from latency_tables.operators.step_cross import StepCross
from latency_tables.operators.step_embed import StepEmbed


@dataclass(frozen=True)
class StepAttend(SentenceOperator):
    """cache: tokens written before. settings beam, steps: of the generation; words: of the vocabulary that is
    written; qkv: width of queries, keys and values. Its stage reads the encoder's (`Stage.reads`)."""

    family: ClassVar[str] = "step_attend"
    form: ClassVar[str] = "beam={beam}/cache={cache}/in={width}/qkv={qkv}/heads={heads}/steps={steps}"
    settings: ClassVar[Mapping[str, Value]] = {"qkv": 512, "words": 32_768, "beam": 5, "steps": 30}
    dimensions: ClassVar[tuple[Dimension, ...]] = (
        Dimension("heads", 4, opens="heads"),
        Dimension("cross_heads", 4, opens="heads"),
        Dimension("attended", 1, opens="attended"),
        Dimension("inside", 1024, opens="expand"),
    )
    excludable: ClassVar[tuple[str, ...]] = ("heads", "cross_heads", "attended", "inside")
    axes: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "beam": (),
        "cache": ("steps",),
        "width": (),
        "heads": (),
    }

    beam: int
    cache: int
    width: int
    qkv: int
    heads: int
    steps: int

    @classmethod
    def of_block(cls, block: Block) -> tuple[Operator, ...]:
        told, values, width = block.settings, block.values, block.width
        beam, steps, qkv = int(told["beam"]), int(told["steps"]), int(told["qkv"])
        layer: tuple[Operator, ...] = (
            cls(beam, max(1, steps // 2), width, qkv, int(values["heads"]), steps),
            *CrossMemory.of_block(block),
            *StepCross.of_block(block),
            FeedForwardPart(beam, width, int(values["inside"]), steps),
        )
        return (*StepEmbed.of_block(block), *layer) if block.first else layer

    @property
    def copies(self) -> int:
        return STEPS_CHAINED

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        past = cached("past", self.beam, self.heads, self.cache, self.qkv)
        return (InputSpec("input", self.output_shape), *past)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.beam, self.width)

    @property
    def macs(self) -> int:
        rows = self.steps * self.beam
        return rows * (4 * self.qkv * self.width + 2 * (self.cache + 1) * self.qkv)

    @property
    def parameters(self) -> int:
        return attention_parameters(self.width, self.qkv)

    @property
    def kind(self) -> str:
        return f"attention of a step, {self.heads} heads"
