"""The supernet of a space: one set of weights for all of its sub-networks (Once-for-All, Cai et al., ICLR
2020).

The architecture is an argument of `forward`; the module keeps no active sub-network.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from latency_tables.operators import Operator
from supernets.errors import InvalidArchitecture
from supernets.layers.block import ElasticBlock, LayerSettings, initialise
from supernets.layers.catalog import build_block, layer_of, weightless
from supernets.spaces.architecture import Architecture
from supernets.spaces.lowering import block_choices, block_name, blocks_of
from supernets.spaces.space import Space

_PLANS_KEPT = 4096

Plan = tuple[tuple[str, Operator], ...]


class Supernet(nn.Module):
    """Every sub-network of `space` in one module. dropout: before the last linear layer. generator: of the
    random weights."""

    def __init__(
        self, space: Space, *, dropout: float = 0.0, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.space = space
        settings = LayerSettings(space.batch_norm_eps, dropout)
        blocks = {
            block_name(space, stage, block): build_block(
                list(operators), shared=space.stages[stage].shared, settings=settings
            )
            for (stage, block), operators in block_choices(space).items()
        }
        self.blocks = nn.ModuleDict({name: block for name, block in blocks.items() if block is not None})
        initialise(self, generator)
        self._plans: dict[Architecture, Plan] = {}

    def plan(self, architecture: Architecture) -> Plan:
        """(name of the block, operator it shall be) in order; what has no weights has the name "". Raises
        InvalidArchitecture."""
        plan = self._plans.get(architecture)
        if plan is None:
            self.space.genes(architecture)
            plan = tuple(
                step
                for stage, block, operators in blocks_of(self.space, architecture)
                for step in block_plan(block_name(self.space, stage, block), operators)
            )
            if len(self._plans) >= _PLANS_KEPT:
                self._plans.clear()
            self._plans[architecture] = plan
        return plan

    def block(self, name: str) -> ElasticBlock[Any]:
        return cast(ElasticBlock[Any], self.blocks[name])

    @torch.no_grad()
    def take_from(self, other: Supernet, architecture: Architecture) -> None:
        """Weights of one network of a larger supernet; this one's space holds that network alone."""
        for name, operator in other.plan(architecture):
            if name:
                self.block(name).take(operator, other.block(name).state(operator))

    def forward(self, x: Tensor, architecture: Architecture) -> Tensor:
        """Logits (B, classes) of one sub-network. x: a batch of the space's input at the architecture's
        resolution."""
        wanted = self.space.input_shape(architecture.resolution)
        if tuple(x.shape[1:]) != wanted:
            raise InvalidArchitecture(
                f"the architecture takes an input of shape {wanted} (resolution {architecture.resolution}), "
                f"this one has {tuple(x.shape[1:])}: resize it first"
            )
        return self.through(x, self.plan(architecture))

    def through(self, x: Tensor, plan: Plan, *, recompute: bool = False) -> Tensor:
        """What those blocks, in that order, make of x. recompute: the inside of each block in the backward
        pass, instead of keeping it (Chen et al., "Training deep nets with sublinear memory cost", 2016)."""
        for name, op in plan:
            if recompute and name:
                x = cast(Tensor, checkpoint(self.blocks[name], x, op, use_reentrant=False))
            else:
                x = self.blocks[name](x, op) if name else weightless(op)(x)
        return x


def block_plan(name: str, operators: Sequence[Operator]) -> Plan:
    """A block's own operator under its name, then what follows it without weights."""
    if not operators or layer_of(operators[0]).elastic is None:
        return tuple(("", op) for op in operators)
    return ((name, operators[0]), *(("", op) for op in operators[1:]))


def shared_blocks(plans: Sequence[Plan]) -> int:
    """How many leading blocks all of several plans have in common, 0 for a single plan."""
    if len(plans) < 2:
        return 0
    alike = (all(step == steps[0] for step in steps) for steps in zip(*plans, strict=False))
    return sum(takewhile(bool, alike))
