"""What a block may be: values by name, and the usual grids of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Final

from latency_tables.named import Named, Value


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
