"""What a block may be: values by name, and the usual grids of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Final

from latency_tables.named import Named, Value
from latency_tables.operators.operator import FLOAT


class Choice(Named):
    """One thing that a block may be: a value for each dimension of its family, such as
    `Choice(kernel=5, expand=4)`.

    `ZERO` leaves the block out (ProxylessNAS's Zero); only where its input may pass unchanged.
    """

    __slots__ = ()

    @property
    def zero(self) -> bool:
        """Whether the block is left out."""
        return "zero" in self

    @property
    def precision(self) -> str:
        """What the block is computed in; a choice that names none is in float32."""
        return str(self.get(PRECISION, FLOAT))

    @property
    def kept(self) -> float:
        """The share of its middle channels that are kept; 1 where none are cut out."""
        return float(self.get(KEPT, 1))

    @property
    def whole(self) -> Choice:
        """The same choice with all of its channels."""
        return Choice({name: v for name, v in self.items() if name != KEPT}) if KEPT in self else self

    def at(self, precision: str) -> Choice:
        """The same choice in that precision; one that is left out has none."""
        if self.zero:
            return self
        others = {name: value for name, value in self.items() if name != PRECISION}
        return Choice(others if precision == FLOAT else {**others, PRECISION: precision})


PRECISION: Final = "precision"
"""Name of a value that a choice of any family may have: the precision its operators are computed in. Choices
in float32 leave it out, so that digests and files of before there were others stay as they are."""
KEPT: Final = "kept"
"""Name of a value that a choice may have where channels can be cut out: the share of the middle channels of
the same choice without it that stay. What has all of them leaves it out, for the same reason."""
ZERO: Final = Choice(zero=True)


def grid(blocks: int, /, **values: Sequence[Value]) -> tuple[tuple[Choice, ...], ...]:
    """For each block of a stage every combination of these values; the last name changes fastest."""
    options = tuple(Choice(dict(zip(values, chosen, strict=True))) for chosen in product(*values.values()))
    return (options,) * blocks


def kernel_expand(
    kernels: Sequence[int], expands: Sequence[float], blocks: int
) -> tuple[tuple[Choice, ...], ...]:
    """The same kernel x expand choices for every block of a stage."""
    return grid(blocks, kernel=kernels, expand=expands)
