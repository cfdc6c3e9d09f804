"""`step_output`: the scores of all words for every beam, in every step; a network that writes ends in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from latency_tables.inputs import InputSpec
from latency_tables.named import Value
from latency_tables.operators.operator import Block, Operator
from latency_tables.operators.sentence import SentenceOperator


@dataclass(frozen=True)
class StepOutput(SentenceOperator):
    """words: in the vocabulary that is written."""

    family: ClassVar[str] = "step_output"
    form: ClassVar[str] = "beam={beam}/in={width}/words={words}/steps={steps}"
    settings: ClassVar[Mapping[str, Value]] = {"steps": 30}
    axes: ClassVar[Mapping[str, tuple[str, ...]]] = {"beam": (), "width": (), "words": (), "steps": ()}
    closes: ClassVar[bool] = True

    beam: int
    width: int
    words: int
    steps: int

    @classmethod
    def of_block(cls, block: Block) -> tuple[Operator, ...]:
        beam, width = block.shape
        return (cls(beam, width, block.width, int(block.settings["steps"])),)

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        return (InputSpec("input", (self.beam, self.width)),)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.beam, self.words)

    @property
    def macs(self) -> int:
        return self.steps * self.beam * self.width * self.words

    @property
    def parameters(self) -> int:
        return self.width * self.words
