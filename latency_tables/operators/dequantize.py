"""`dequantize`: a tensor of 8 bit becomes float32; see `quantize`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from latency_tables.operators.operator import FLOAT, STORED
from latency_tables.operators.quantize import Quantize


@dataclass(frozen=True)
class Dequantize(Quantize):
    family: ClassVar[str] = "dequantize"
    reads: ClassVar[str] = STORED["int8"]
    writes: ClassVar[str] = STORED[FLOAT]
