"""Pruned sub-networks scored on a split: what each block loses alone by each share of its channels, and what
whole networks do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from torch import nn

from supernets.accuracy.pruning import all_cells, cell_name
from supernets.cut_out import PlainNetwork
from supernets.data.splits import evenly_spread
from supernets.delivery.passes import Source, cut, passed, recalibrated
from supernets.delivery.pruning import Samples, narrowed
from supernets.errors import InvalidPruning
from supernets.spaces.architecture import Architecture
from supernets.spaces.choices import KEPT, Choice
from supernets.spaces.lowering import block_name, blocks_of, lower
from supernets.spaces.space import Space, Stage
from supernets.tasks.catalog import task_of

_SAMPLES: Final = 256  # of a split: a mean of losses, which varies less than a share of right answers


def losses_alone(
    source: Source, space: Space, split: str, progress: Callable[[int, int], None] = lambda done, of: None
) -> dict[str, float]:
    """Cell (`supernets.accuracy.pruning.cell_name`) -> what the loss of a network on the split grows by
    where it is all that is pruned; of the deepest networks with one width each.

    source: of any network of the supernet. space: with pruning. Raises InvalidPruning.
    """
    wholes, found = of_one_width(space), dict[str, float]()
    for number, whole in enumerate(wholes):
        found |= _of_network(replace(source, architecture=whole, plan=None), space, split)
        progress(number + 1, len(wholes))
    missing = [cell for cell in all_cells(space) if cell not in found]
    if missing:
        raise InvalidPruning(f"no network has {missing[0]}")
    return found


def of_one_width(space: Space) -> list[Architecture]:
    """The deepest networks, the first with the least of all widths inside every block, the last with the
    greatest."""
    largest = space.unpruned(space.in_float(space.largest()))
    ranked = [
        [_by_width(stage, block) for block in range(len(chosen.blocks))]
        for stage, chosen in zip(space.stages, largest.stages, strict=True)
    ]
    most = max(len(widths) for stage in ranked for widths in stage)
    return [
        replace(
            largest,
            stages=tuple(
                replace(chosen, blocks=tuple(widths[min(n, len(widths) - 1)] for widths in blocks))
                for chosen, blocks in zip(largest.stages, ranked, strict=True)
            ),
        )
        for n in range(most)
    ]


def _by_width(stage: Stage, block: int) -> list[Choice]:
    """For each width inside a block what is most of it otherwise, least width first."""
    whole = [c for c in stage.choices[block] if not c.zero and KEPT not in c and c == c.at("float32")]
    ranked = sorted(whole, key=lambda choice: stage.rank(block, choice))
    return list({cell_name("", stage, choice): choice for choice in ranked}.values())


@torch.no_grad()
def _of_network(source: Source, space: Space, split: str) -> dict[str, float]:
    data, task, whole = source.data, task_of(source.data), source.architecture
    network = passed(source, (cut, recalibrated))
    if not isinstance(network, PlainNetwork):
        raise InvalidPruning(f"networks of {space.name!r} cannot be pruned")
    network = network.cpu()
    # One batch: blocks are compared here, and each is refitted by each of its widths.
    given = list(Samples.of(data, whole.resolution, network.operators).batches[:1])
    rows = evenly_spread(len(data.split(split)), min(_SAMPLES, len(data.split(split))))
    x, targets = task.examples(data, split, whole.resolution, rows)
    base, found = float(task.loss(network.layers(x), targets)), dict[str, float]()
    places = [(stage, block) for stage, block, operators in blocks_of(space, whole) for _ in operators]
    for number, (layer, op) in enumerate(zip(network.layers, network.operators, strict=True)):
        for name, one in _narrower(space, whole, *places[number]):
            new = lower(space, one)[number]
            if new == op:  # of a block's operators, another one is narrower
                continue
            own = narrowed(layer, op, new, given, given, eps=space.batch_norm_eps).layer
            rest = nn.Sequential(own, network.layers[number + 1 :])
            found[name] = float(task.loss(rest(x), targets)) - base
        given, x = [layer(batch) for batch in given], layer(x)
    return found


def _narrower(
    space: Space, whole: Architecture, index: int, block: int
) -> Iterator[tuple[str, Architecture]]:
    """(cell, the network with that block pruned so) for each share that the block may keep."""
    stage, chosen = space.stages[index], whole.stages[index]
    for choice in stage.choices[block]:
        if KEPT in choice and choice.whole == chosen.blocks[block]:
            blocks = (*chosen.blocks[:block], choice, *chosen.blocks[block + 1 :])
            stages = (*whole.stages[:index], replace(chosen, blocks=blocks), *whole.stages[index + 1 :])
            yield cell_name(block_name(space, index, block), stage, choice), replace(whole, stages=stages)


def random_pruned(space: Space, networks: int, generator: np.random.Generator) -> list[Architecture]:
    """Networks of a space with pruning; each has its own share of pruned blocks, so that sums differ."""
    plain, found = space.with_all_channels(), []
    for whole in plain.sample(generator, networks):
        share, stages = generator.uniform(), []
        for stage, chosen in zip(space.stages, whole.stages, strict=True):
            blocks = []
            for block, choice in enumerate(chosen.blocks):
                options = [c for c in stage.choices[block] if KEPT in c and c.whole == choice]
                taken = options and generator.random() < share
                blocks.append(options[int(generator.integers(len(options)))] if taken else choice)
            stages.append(replace(chosen, blocks=tuple(blocks)))
        found.append(replace(whole, stages=tuple(stages)))
    return found
