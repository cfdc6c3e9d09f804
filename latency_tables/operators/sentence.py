"""What operators of transformers have in common: which run is of a whole sentence, which of a step of it.

The latency of a network that generates is that of one sentence: the encoder runs once, a step of the decoder
runs for each token that is written. A row of the table is what an operator takes in all of one sentence, so
rows add up: `runs` of them, measured as a chain of `copies` with weights of their own. A step is a stream of
weights and caches; alone in a loop it would keep them in the nearest cache and be a fifth too fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from latency_tables.errors import InvalidOperator
from latency_tables.inputs import InputSpec
from latency_tables.operators.operator import FLOAT, MAX_SIZE, Operator

STEPS_CHAINED: Final = 6


@dataclass(frozen=True)
class SentenceOperator(Operator):
    """Fields are whole numbers from 1. Computed in float32 alone.

    Where it has the fields: `heads` cut the width `qkv` of queries, keys and values into equal parts, and it
    runs once in each of `steps`.
    """

    precisions: ClassVar[tuple[str, ...]] = (FLOAT,)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in self.values.items():
            if type(value) is not int or not 1 <= value <= MAX_SIZE:
                raise InvalidOperator(f"{self.family}: {name} is a whole number from 1 to {MAX_SIZE}")
        if self.values.get("qkv", 0) % self.values.get("heads", 1):
            raise InvalidOperator(f"{self.family}: heads divide the width of queries, keys and values")

    @property
    def runs(self) -> int:
        return int(self.values.get("steps", 1))


def cached(name: str, beam: int, heads: int, length: int, qkv: int) -> tuple[InputSpec, InputSpec]:
    """Keys and values of a step, (beams, heads, length, width of a head) each."""
    shape = (beam, heads, length, qkv // heads)
    return InputSpec(f"{name}_keys", shape), InputSpec(f"{name}_values", shape)


def attention_parameters(width: int, qkv: int) -> int:
    """Of queries, keys, values and the output over the same width, and of the layer-norm after them."""
    return 4 * qkv * width + 3 * qkv + width + 2 * width
