"""Channel sorting between two phases of a training: every block in its family's way, inside what the phase
has trained."""

from __future__ import annotations

import torch

from latency_tables.operators import Operator
from supernets.network import Supernet
from supernets.spaces.lowering import block_choices, block_name
from supernets.training.recipe import Phase
from supernets.training.sampling import allowed_values


@torch.no_grad()
def sort_channels(supernet: Supernet, before: Phase) -> None:
    """Sort the channels inside every block, in the bands of the operators that `before`, the phase that
    ended, trained."""
    for name, operators in supported_operators(supernet, before).items():
        if name in supernet.blocks:
            supernet.block(name).sort_channels(operators)


def supported_operators(supernet: Supernet, phase: Phase) -> dict[str, list[Operator]]:
    """For every block the operators that the phase could draw, as far as choices of the block tell them
    apart.

    Where states are elastic too, every operator stays supported.
    """
    space = supernet.space
    values = allowed_values(space, phase)
    found = {}
    for (index, block), operators in block_choices(space).items():
        stage = space.stages[index]
        before = space.stages[index - 1].states if block == 0 and index else stage.states[:1]
        kept = set(values[space.chain.offsets[index] + 2 + block].tolist())
        elastic = len(before) * len(stage.states) > 1
        chosen = [op for op, choices in operators.items() if elastic or choices & kept]
        found[block_name(space, index, block)] = chosen
    return found
