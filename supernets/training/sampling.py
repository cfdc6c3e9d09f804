"""Which sub-networks a training step trains: the same on every process, given the seed and the step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from latency_tables.dense import Genes
from latency_tables.named import Value
from supernets.spaces.architecture import Architecture
from supernets.spaces.space import Space, Stage
from supernets.training.recipe import Phase


def allowed_values(space: Space, phase: Phase) -> list[Genes]:
    """For every gene of the space the values that the phase may draw."""
    values = [np.arange(len(space.resolutions), dtype=np.int64)]
    for stage in space.stages:
        values.append(_last(len(stage.states), phase.limits.get("width")))
        values.append(_last(len(stage.depths), phase.limits.get("depth")))
        values.extend(_allowed_choices(stage, block, phase) for block in range(len(stage.choices)))
    return values


def _last(count: int, kept: int | None) -> Genes:
    return np.arange(max(0, count - kept) if kept is not None else 0, count, dtype=np.int64)


def _allowed_choices(stage: Stage, block: int, phase: Phase) -> Genes:
    """Choices of a block whose values are among the largest allowed of every dimension; Zero counts as a
    depth."""
    kept = {
        d.name: _largest(stage.ordered(block, d.name), phase.limits.get(d.opens))
        for d in stage.operators.dimensions
    }
    zero = phase.limits.get("depth") is None
    allowed = [
        index
        for index, choice in enumerate(stage.choices[block])
        if (zero if choice.zero else all(choice[name] in values for name, values in kept.items()))
    ]
    return np.array(allowed, dtype=np.int64)


def _largest(values: list[Value], kept: int | None) -> list[Value]:
    return values if kept is None else values[-kept:]


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
        state = stage.states[_last(len(stage.states), phase.limits.get("width"))[0]]
        depth = stage.depths[_last(len(stage.depths), phase.limits.get("depth"))[0]]
        choices = tuple(
            tuple(stage.choices[b][c] for c in _allowed_choices(stage, b, phase)) for b in range(depth)
        )
        stages.append(replace(stage.only(state), depths=(depth,), choices=choices))
    return replace(space, stages=tuple(stages)).smallest(resolution)
