"""The supernet of a space: one set of weights for all of its sub-networks (Once-for-All, Cai et al., ICLR
2020).

The architecture is an argument of `forward`; the module keeps no active sub-network.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from latency_tables.operators import Operator
from supernets.errors import InvalidArchitecture, InvalidTraining
from supernets.layers.block import ElasticBlock, LayerSettings, initialise
from supernets.layers.catalog import build_block, layer_of, weightless
from supernets.layers.lite import Beside, LiteResidual
from supernets.layers.units import use_group_norm
from supernets.network_form import GROUP, USUAL, NetworkForm
from supernets.spaces.architecture import Architecture
from supernets.spaces.lowering import block_choices, block_name, blocks_of
from supernets.spaces.space import Space

_PLANS_KEPT = 4096

Plan = tuple[tuple[str, Operator], ...]


class Supernet(nn.Module):
    """Every sub-network of `space` in one module. dropout: before the last linear layer. generator: of the
    random weights. form: lite residuals are of one network alone. Raises InvalidTraining for a form that the
    space has no blocks for."""

    def __init__(
        self,
        space: Space,
        *,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
        form: NetworkForm = USUAL,
    ) -> None:
        super().__init__()
        self.space, self.form = space, form
        settings = LayerSettings(space.batch_norm_eps, dropout)
        blocks = {
            block_name(space, stage, block): build_block(
                list(operators), shared=space.stages[stage].shared, settings=settings
            )
            for (stage, block), operators in block_choices(space).items()
        }
        self.blocks = nn.ModuleDict({name: block for name, block in blocks.items() if block is not None})
        self.beside = nn.ModuleDict(_beside(space, settings) if form.lite else {})
        initialise(self, generator)
        if form.norm == GROUP:
            use_group_norm(self)
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

    @property
    def macs_beside(self) -> int:
        """Multiply-adds of what stands beside the blocks, one sample: no operator of the plan has them."""
        return sum(part.macs for part in self.beside.values() if isinstance(part, LiteResidual))

    def filled(self, name: str, op: Operator, layer: nn.Module) -> nn.Module:
        """A plain layer of that operator with a copy of a block's weights, and what stands beside it."""
        if self.form.norm == GROUP:
            use_group_norm(layer)
        layer.load_state_dict(self.block(name).state(op))
        return Beside(layer, copy.deepcopy(self.beside[name])) if name in self.beside else layer

    def take(self, name: str, op: Operator, layer: nn.Module) -> None:
        """Copy the weights of a layer that `filled` gave; this must be the supernet of one network."""
        if isinstance(layer, Beside):
            self.beside[name].load_state_dict(layer.residual.state_dict())
            layer = layer.block
        self.block(name).take(op, dict(layer.state_dict()))

    def step(self, x: Tensor, name: str, op: Operator) -> Tensor:
        """What one block makes of x, with what stands beside it."""
        y = cast(Tensor, self.blocks[name](x, op))
        return y + self.beside[name](x) if name in self.beside else y

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
                x = cast(Tensor, checkpoint(self.step, x, name, op, use_reentrant=False))
            else:
                x = self.step(x, name, op) if name else weightless(op)(x)
        return x


def _beside(space: Space, settings: LayerSettings) -> dict[str, nn.Module]:
    """A lite residual module beside every block of a family that has one, by the block's name."""
    found = {}
    for (stage, block), operators in block_choices(space).items():
        made = layer_of(next(iter(operators))).lite
        if made is None:
            continue
        if len(operators) > 1:
            raise InvalidTraining("lite residuals stand beside the blocks of one network: fine-tune one")
        found[block_name(space, stage, block)] = made(next(iter(operators)), settings)
    if not found:
        raise InvalidTraining(
            f"networks of {space.name!r} have no blocks that lite residuals can stand beside: fine-tune with "
            "train all, bias or last"
        )
    return found


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
