"""Operators, the keys of latency tables. `catalog` holds every family; it is not imported here, so that a
module which defines a family may import this package while the catalog is being filled.
"""

from latency_tables.operators.image import ACTIVATIONS, ImageOperator, make_divisible, squeeze_excite_channels
from latency_tables.operators.operator import MAX_SIZE, Block, Dimension, Operator

__all__ = [
    "ACTIVATIONS",
    "Block",
    "Dimension",
    "ImageOperator",
    "MAX_SIZE",
    "Operator",
    "make_divisible",
    "squeeze_excite_channels",
]
