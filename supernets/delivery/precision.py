"""Which blocks of a network are computed in float32 and which in int8, and how int8 is rounded.

All-int8, mixed and float32 are one mechanism: a plan with one precision for each operator of a network. No
torch here: requests and cards hold plans too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from latency_tables.operators import Operator
from latency_tables.prediction.precisions import BOUNDARY, class_of
from supernets.errors import InvalidArchitecture, InvalidPrecision, InvalidPruning
from supernets.spaces.space import Space

FLOAT32, INT8 = "float32", "int8"
MIXED: Final = "mixed"
PRECISIONS_OF_BLOCKS: Final = (FLOAT32, INT8)
ASKED: Final = {FLOAT32: (FLOAT32,), INT8: (INT8,), MIXED: PRECISIONS_OF_BLOCKS}
"""What may be asked of a network, with the precisions that its blocks are then chosen from."""
METHODS: Final = ("minmax", "percentile", "entropy", "mse")
"""How the range of a value is found from calibration samples; see `supernets.delivery.ranges`."""
WEIGHT_BITS: Final = (7, 8)
FEWEST_SAMPLES: Final = 32
"""Of the training split: below, the ranges of values depend on which samples were drawn."""
OLDEST_OPSET_INT8: Final = 13
"""The first in which weights have a scale for each channel."""


@dataclass(frozen=True)
class PrecisionPlan:
    """precisions: of every operator of a network, in order."""

    precisions: tuple[str, ...]

    def __post_init__(self) -> None:
        unknown = sorted({p[:32] for p in self.precisions} - set(PRECISIONS_OF_BLOCKS))
        if unknown or not self.precisions:
            raise InvalidPrecision(
                f"a plan has the precision of every block, {' or '.join(PRECISIONS_OF_BLOCKS)}; it has "
                f"{', '.join(unknown) or 'none'}"
            )

    @classmethod
    def uniform(cls, precision: str, operators: int) -> Self:
        """The same for so many operators."""
        return cls((precision,) * operators)

    @classmethod
    def of_blocks(cls, names: Sequence[str], precisions: Mapping[str, str]) -> Self:
        """By names of blocks, what is not named in float32. names: of a network's operators, in order; what
        has no weights has the name "" and the precision of what is before it, so that no value is converted
        for it. Raises InvalidPrecision for a name that the network lacks."""
        missing = sorted(set(precisions) - set(names))
        if missing:
            raise InvalidPrecision(
                f"the network has no block {missing[0][:64]!r}; its blocks are "
                f"{', '.join(filter(None, names))}"
            )
        found: list[str] = []
        for name in names:
            before = found[-1] if found else FLOAT32
            found.append(precisions.get(name, FLOAT32) if name else before)
        return cls(tuple(found))

    def at(self, index: int, precision: str) -> PrecisionPlan:
        """The same with another precision of one operator."""
        return PrecisionPlan((*self.precisions[:index], precision, *self.precisions[index + 1 :]))

    @property
    def int8(self) -> tuple[int, ...]:
        """Numbers of the operators in int8."""
        return tuple(i for i, precision in enumerate(self.precisions) if precision == INT8)

    @property
    def name(self) -> str:
        """`float32`, `int8` or `mixed`."""
        kinds = set(self.precisions)
        return kinds.pop() if len(kinds) == 1 else "mixed"

    def to_json(self) -> list[str]:
        """Plain values; `from_json` reads them back."""
        return list(self.precisions)

    @classmethod
    def from_json(cls, data: Iterable[Any]) -> Self:
        """Raises InvalidPrecision."""
        return cls(tuple(str(one) for one in data))


def plan_of(operators: Sequence[Operator]) -> PrecisionPlan:
    """Of a network as it was lowered: what changes the precision follows from the other operators."""
    return PrecisionPlan(tuple(op.precision for op in operators if class_of(op) != BOUNDARY))


def space_in(space: Space, precisions: Sequence[str] | None, prune: bool = False) -> Space:
    """The space with the precisions of its blocks to choose from (None: float32), and with the widths inside
    them where networks may be pruned. Raises InvalidPrecision where no network of it can be computed so,
    InvalidPruning where none has channels to cut out."""
    if prune:
        try:
            space = space.with_pruning()
        except InvalidArchitecture as error:
            raise InvalidPruning(f"{error}; search without prune there") from error
    wanted = list(precisions or ASKED[FLOAT32])
    if wanted == [FLOAT32]:
        return space
    fitting = "ask for float32 there"
    try:
        found = space.with_precisions(wanted)
    except InvalidArchitecture as error:
        raise InvalidPrecision(f"{error}; {fitting}") from error
    if len(space.inputs) != 1 or found.precisions == (FLOAT32,):
        raise InvalidPrecision(f"networks of {space.name} have no int8 form: {fitting}")
    return found


@dataclass(frozen=True)
class Rounding:
    """How int8 is rounded.

    method: of finding ranges; None: each is tried and the best kept. samples: of the training split to
    calibrate with, at most. weight_bits: 7 leaves the highest bit of weights unused, because processors that
    have no dot product of bytes (AVX2 without VNNI) add two products of 8-bit values in 16 bits, which
    saturates.
    """

    method: str | None = None
    samples: int = 256
    weight_bits: int = 7

    def __post_init__(self) -> None:
        if self.method is not None and self.method not in METHODS:
            raise InvalidPrecision(f"unknown method of calibration; known are {', '.join(METHODS)}")
        if self.weight_bits not in WEIGHT_BITS:
            raise InvalidPrecision("int8 weights have 7 bits (every processor) or 8")
        if self.samples < FEWEST_SAMPLES:
            raise InvalidPrecision(
                f"{self.samples} calibration samples are too few for ranges that hold: take {FEWEST_SAMPLES} "
                "or more"
            )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


USUAL: Final = Rounding()
