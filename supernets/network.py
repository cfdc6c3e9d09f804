"""The supernet of a space: one set of weights for all of its sub-networks (Once-for-All, Cai et al., ICLR
2020).

The architecture is an argument of `forward`; the module keeps no active sub-network.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latency_tables.operators import Operator
from supernets.errors import InvalidArchitecture
from supernets.layers.block import ElasticBlock, build_block, initialise_elastic
from supernets.spaces.architecture import Architecture
from supernets.spaces.lowering import block_choices, blocks_of
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
        self.blocks = nn.ModuleDict(
            {
                block_name(space, stage, block): build_block(
                    operators, shared=space.stages[stage].shared, eps=space.batch_norm_eps, dropout=dropout
                )
                for (stage, block), operators in block_choices(space).items()
            }
        )
        initialise_elastic(self, generator)
        self._plans: dict[Architecture, Plan] = {}

    def plan(self, architecture: Architecture) -> Plan:
        """(name of the block, operator it shall be) in order; a max-pool has the name "". Raises
        InvalidArchitecture."""
        plan = self._plans.get(architecture)
        if plan is None:
            self.space.genes(architecture)
            plan = tuple(
                ("" if op.family == "maxpool" else block_name(self.space, stage, block), op)
                for stage, block, operators in blocks_of(self.space, architecture)
                for op in operators
            )
            if len(self._plans) >= _PLANS_KEPT:
                self._plans.clear()
            self._plans[architecture] = plan
        return plan

    def block(self, name: str) -> ElasticBlock:
        return cast(ElasticBlock, self.blocks[name])

    def forward(self, x: Tensor, architecture: Architecture) -> Tensor:
        """Logits (B, classes) of one sub-network. x: (B, C, H, W) at the architecture's resolution."""
        if x.shape[-2:] != (architecture.resolution, architecture.resolution):
            raise InvalidArchitecture(
                f"the architecture is for {architecture.resolution} px, the input has "
                f"{tuple(x.shape[-2:])}: resize it first"
            )
        return self.through(x, self.plan(architecture))

    def through(self, x: Tensor, plan: Plan) -> Tensor:
        """What those blocks, in that order, make of x."""
        for name, op in plan:
            x = self.blocks[name](x, op) if name else F.max_pool2d(x, op.kernel, op.stride, op.kernel // 2)
        return x


def shared_blocks(plans: Sequence[Plan]) -> int:
    """How many leading blocks all of several plans have in common, 0 for a single plan."""
    if len(plans) < 2:
        return 0
    alike = (all(step == steps[0] for step in steps) for steps in zip(*plans, strict=False))
    return sum(takewhile(bool, alike))


def block_name(space: Space, stage: int, block: int) -> str:
    """Name of a block in `Supernet.blocks`."""
    return f"{space.stages[stage].name}_{block}"
