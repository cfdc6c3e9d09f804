"""Plain networks: operators as ordinary torch modules, cut out of a supernet or built with random weights.

Every operator of a latency table is one module here, and a network is the sequence of its operators, so what
is timed block by block, trained, exported and delivered is one definition. Shapes follow Once-for-All (Cai et
al., ICLR 2020), ProxylessNAS (ICLR 2019) and ResNet50-D; the feature layer of the head is a linear layer
after the pooling instead of their 1x1 convolution (same numbers, cheaper).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from latency_tables.inputs import InputSpec
from latency_tables.operators import Operator
from supernets.layers.block import Foldable
from supernets.layers.catalog import build_operator
from supernets.network import Supernet
from supernets.spaces.architecture import Architecture

Network = TypeVar("Network", bound=nn.Module)


class PlainNetwork(nn.Module):
    """A network as the sequence of its operators: nothing elastic, ordinary BatchNorm2d modules until they
    are folded.

    `operators[i]` describes `layers[i]`. `refit`: what was cut out of it and how it was refitted (plain
    values); None: nothing. Recalibrate batch-norm on it as on any torch network, then
    `fold_batch_norm`.
    """

    def __init__(
        self,
        operators: Iterable[Operator],
        *,
        eps: float = 1e-5,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.operators = tuple(operators)
        self.refit: Mapping[str, Any] | None = None
        self.layers = nn.Sequential(
            *(build_operator(op, eps=eps, dropout=dropout, generator=generator) for op in self.operators)
        )

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.layers(x))

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """What it is fed with, one sample."""
        return self.operators[0].inputs

    def parameter_count(self) -> int:
        """Weights, biases and batch-norm vectors, as the published counts have it; running statistics are not
        parameters."""
        return sum(p.numel() for p in self.parameters())


def fold_batch_norm(network: Network) -> Network:
    """A copy in evaluation mode whose batch-norms are part of its convolutions."""
    folded = copy.deepcopy(network).eval()
    for part in folded.modules():
        if isinstance(part, Foldable):
            part.fold()
    return folded


@torch.no_grad()
def cut_out(supernet: Supernet, architecture: Architecture, *, dropout: float = 0.0) -> PlainNetwork:
    """One sub-network with a copy of its weights, in the mode (train or eval) and on the device of the
    supernet.

    Its logits are the supernet's; its batch-norm statistics are the supernet's too, so recalibrate them
    before use unless the supernet was built for this one network. Raises InvalidArchitecture.
    """
    plan = supernet.plan(architecture)
    network = PlainNetwork((op for _, op in plan), eps=supernet.space.batch_norm_eps, dropout=dropout)
    for number, (name, op) in enumerate(plan):
        if name:
            network.layers[number] = supernet.filled(name, op, network.layers[number])
    return network.to(next(supernet.parameters()).device).train(supernet.training)
