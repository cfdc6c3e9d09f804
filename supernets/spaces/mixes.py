"""Networks in several mixes of precisions: what calibrations are measured with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from latency_tables.operators.operator import FLOAT
from supernets.spaces.architecture import Architecture
from supernets.spaces.space import Space


def in_precisions(space: Space, architecture: Architecture, next_one: Callable[[], str]) -> Architecture:
    """The network with `next_one()` as the precision of each block, in order; float32 where a family has no
    other."""
    stages = tuple(
        replace(
            chosen,
            blocks=tuple(
                c if c.zero else c.at(p if (p := next_one()) in stage.precisions else FLOAT)
                for c in chosen.blocks
            ),
        )
        for stage, chosen in zip(space.stages, space.in_float(architecture).stages, strict=True)
    )
    return replace(architecture, stages=stages)


def mixed_in_turn(
    space: Space, architectures: Sequence[Architecture], generator: np.random.Generator
) -> list[Architecture]:
    """Networks of a space with several precisions: one in the first of them, one in the last, one that
    changes at a random block, and so on; of a space with one precision they stay as they are.

    What searches choose changes its precision once or twice. Blocks drawn each by itself would change at
    every second one, and a calibration to such networks would be one to conversions.
    """
    if len(space.precisions) < 2:
        return list(architectures)
    first, last = space.precisions[0], space.precisions[-1]
    found = []
    for number, one in enumerate(architectures):
        blocks = sum(len(stage.blocks) for stage in one.stages)
        changes = (blocks, 0, int(generator.integers(1, blocks)))[number % 3]
        precisions = iter([first] * changes + [last] * (blocks - changes))
        found.append(in_precisions(space, one, precisions.__next__))
    return found
