"""The supernet of a space of encoder-decoder transformers: what trainings, scores and deliveries ask of it.

Inputs are (B, 2, T): sources, and what the decoder is fed with (`supernets.tasks.sentences`). The network to
be is an argument of everything; see `supernets.encoder_decoder`.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from latency_tables.generation import Step
from supernets.encoder_decoder import Dropout, EncoderDecoder, cut_out_transformer, stepper
from supernets.errors import InvalidArchitecture, InvalidTraining
from supernets.layers.slicing import leading
from supernets.network import Plan, Supernet
from supernets.network_form import USUAL, NetworkForm
from supernets.spaces.architecture import Architecture
from supernets.spaces.space import Space
from supernets.spaces.transformer import Transformer
from supernets.spaces.transformer_space import SentenceSpace
from supernets.tasks.sentences import teacher_forced


class SentenceSupernet(Supernet):
    """Every network of a space of transformers in one module. dropout: of embeddings and of what layers add.

    Raises InvalidArchitecture for a space of another kind, InvalidTraining for another form than the usual.
    """

    def __init__(
        self,
        space: Space,
        *,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
        form: NetworkForm = USUAL,
    ) -> None:
        nn.Module.__init__(self)
        if form != USUAL:
            raise InvalidTraining(
                f"networks of {space.name!r} have no blocks that lite residuals can stand beside, and no "
                "batch-norm: fine-tune with train all, bias or last"
            )
        self.form, self.beside = form, nn.ModuleDict()
        if not isinstance(space, SentenceSpace):
            raise InvalidArchitecture(f"space {space.name} is none of transformers")
        self.space = space
        self.described, self.blocks = space.described, nn.ModuleDict()
        self.module = EncoderDecoder(space.sizes(), dropout=Dropout(dropout), generator=generator)

    def network_of(self, architecture: Architecture) -> Transformer:
        """The architecture as the module is told it. Raises InvalidArchitecture."""
        self.space.genes(architecture)
        return self.described.of(architecture)

    def plan(self, architecture: Architecture) -> Plan:
        """One step: the whole network."""
        return cast(Plan, (("network", self.network_of(architecture)),))

    def forward(self, x: Tensor, architecture: Architecture) -> Tensor:
        """Logits (B, at most T, words) of one sub-network under teacher forcing."""
        return self.through(x, self.plan(architecture))

    def through(self, x: Tensor, plan: Plan, *, recompute: bool = False) -> Tensor:
        """As `Supernet.through`; recompute: all of the network's inside in the backward pass."""
        for _, step in plan:
            network = cast(Transformer, step)

            def outputs(given: Tensor, network: Transformer = network) -> Tensor:
                return teacher_forced(lambda s, t: cast(Tensor, self.module(s, t, network)), given)

            x = cast(Tensor, checkpoint(outputs, x, use_reentrant=False)) if recompute else outputs(x)
        return x

    def stepper(self, sources: Tensor, architecture: Architecture) -> Step:
        """Decoding of sources (B, T) step by step."""
        return stepper(self.module, sources, self.network_of(architecture))

    def cut(self, architecture: Architecture) -> tuple[EncoderDecoder, Transformer]:
        """(a module of that network alone with a copy of its weights, the network). Raises
        InvalidArchitecture."""
        network = self.network_of(architecture)
        return cut_out_transformer(self.module, network), network

    @torch.no_grad()
    def take_from(self, other: Supernet, architecture: Architecture) -> None:
        """Weights are the first rows and columns of those of the larger supernet."""
        given = other.state_dict()
        self.load_state_dict(
            {name: leading(given[name], *value.shape) for name, value in self.state_dict().items()}
        )
