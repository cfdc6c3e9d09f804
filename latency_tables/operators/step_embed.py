"""`step_embed`: the words that the beams wrote last become vectors, with their position; in every step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from latency_tables.inputs import InputSpec
from latency_tables.operators.operator import Block, Operator
from latency_tables.operators.sentence import SentenceOperator


@dataclass(frozen=True)
class StepEmbed(SentenceOperator):
    """beam: rows of a step. words: in the vocabulary that is written."""

    family: ClassVar[str] = "step_embed"
    form: ClassVar[str] = "beam={beam}/out={width}/words={words}/steps={steps}"
    axes: ClassVar[Mapping[str, tuple[str, ...]]] = {"beam": (), "width": (), "steps": ()}

    beam: int
    width: int
    words: int
    steps: int

    @classmethod
    def of_block(cls, block: Block) -> tuple[Operator, ...]:
        told = block.settings
        return (cls(int(told["beam"]), block.width, int(told["words"]), int(told["steps"])),)

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        return (InputSpec("input", (self.beam,), "int64", self.words),)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.beam, self.width)

    @property
    def macs(self) -> int:
        return self.steps * self.beam * self.width

    @property
    def parameters(self) -> int:
        return self.words * self.width
