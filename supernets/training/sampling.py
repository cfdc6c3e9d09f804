"""Which sub-networks a training step trains: the same on every process, given the seed and the step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from latency_tables.dense import Genes
from supernets.spaces.architecture import Architecture
from supernets.spaces.space import Space, Stage
from supernets.training.recipe import Phase


def allowed_values(space: Space, phase: Phase) -> list[Genes]:
    """For every gene of the space the values that the phase may draw."""
    values = [np.arange(len(space.resolutions), dtype=np.int64)]
    for stage in space.stages:
        values.append(_last(len(stage.widths), phase.widths))
        values.append(_last(len(stage.depths), phase.depths))
        values.extend(_allowed_choices(stage, block, phase) for block in range(len(stage.choices)))
    return values


def _last(count: int, kept: int | None) -> Genes:
    return np.arange(max(0, count - kept) if kept is not None else 0, count, dtype=np.int64)


def _allowed_choices(stage: Stage, block: int, phase: Phase) -> Genes:
    """Choices of a block whose kernel and expand ratio are among the largest allowed; Zero counts as a
    depth."""
    options = stage.choices[block]
    kernels = sorted({c.kernel for c in options if not c.zero})
    expands = sorted({c.expand for c in options if not c.zero})
    kernels = kernels[-phase.kernels :] if phase.kernels is not None else kernels
    expands = expands[-phase.expands :] if phase.expands is not None else expands
    kept = [
        index
        for index, c in enumerate(options)
        if (phase.depths is None if c.zero else c.kernel in kernels and c.expand in expands)
    ]
    return np.array(kept, dtype=np.int64)


def step_networks(space: Space, phase: Phase, seed: int, step: int) -> list[Architecture]:
    """The sub-networks of a step, all at one resolution drawn for the step; the largest comes first in a
    sandwich."""
    generator = np.random.default_rng([seed, step])
    values = allowed_values(space, phase)
    resolution = int(generator.choice(values[0]))
    drawn = phase.networks - 2 if phase.sampling == "sandwich" else phase.networks
    rows = np.stack([generator.choice(options, size=drawn) for options in values], axis=1)
    rows[:, 0] = resolution
    networks = [space.architecture(row) for row in space.chain.canonical(rows)]
    if phase.sampling == "sandwich":
        size = space.resolutions[resolution]
        return [space.largest(size), *networks, smallest_of(space, phase, size)]
    return networks


def smallest_of(space: Space, phase: Phase, resolution: int) -> Architecture:
    """The smallest network that the phase allows, at that resolution."""
    stages = []
    for stage in space.stages:
        width = stage.widths[_last(len(stage.widths), phase.widths)[0]]
        depth = stage.depths[_last(len(stage.depths), phase.depths)[0]]
        choices = tuple(
            tuple(stage.choices[b][c] for c in _allowed_choices(stage, b, phase)) for b in range(depth)
        )
        stages.append(replace(stage, widths=(width,), depths=(depth,), choices=choices))
    return replace(space, stages=tuple(stages)).smallest(resolution)
