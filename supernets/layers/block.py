"""What every operator family gives torch: an elastic block for supernets, a plain layer for what is cut out
of them.

Each elastic block is called with the operator it shall be (`forward(x, operator)`) and gives the weights of
that operator as a state for the plain layer (`state(operator)`). Nothing is remembered between calls.
Source: Once-for-All (Cai et al., ICLR 2020); blocks with one set of weights per choice are ProxylessNAS's
(ICLR 2019).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from latency_tables.operators import Operator

if TYPE_CHECKING:
    from supernets.layers.units import ConvUnit, ElasticConvUnit

State = dict[str, Tensor]
Key = TypeVar("Key", bound=Operator)


@dataclass(frozen=True)
class LayerSettings:
    """What layers are built with besides their operator. eps: of batch-norms. dropout: before a last linear
    layer."""

    eps: float = 1e-5
    dropout: float = 0.0


class ElasticBlock(nn.Module, ABC, Generic[Key]):
    """Interface of a block: the operator is an argument of everything, never kept."""

    @abstractmethod
    def forward(self, x: Tensor, op: Key) -> Tensor:
        """A batch of the operator's input to a batch of its output."""

    @abstractmethod
    def state(self, op: Key) -> State:
        """State dict of the operator's plain layer with this block's weights; views where nothing is
        computed."""

    def take(self, op: Key, state: State) -> None:
        """Copy what `state` gives; this block must be one that can be `op` only."""
        self.load_state_dict(state)

    def sort_channels(self, supported: Sequence[Key]) -> None:
        """Order what is cut off by importance, inside the bands that keep these operators what they are.

        Called without gradients. A family with nothing to sort leaves it out.
        """


class StartsAsIdentity(ABC):
    """A module, elastic or plain, that can begin as the identity: a residual branch that adds nothing yet."""

    @abstractmethod
    def start_as_identity(self) -> None:
        """Make the branch zero so that it still learns (its last batch-norm scale). Called without
        gradients."""


class Prunable(nn.Module, ABC):
    """A plain layer with channels inside that can be cut out. What it gives is the activation of
    `closing(inside(x)) + beside(x)`."""

    @property
    @abstractmethod
    def closing(self) -> ConvUnit:
        """The 1x1 convolution that reads those channels, which has no activation of its own."""

    @abstractmethod
    def inside(self, x: Tensor) -> Tensor:
        """What `closing` reads of a batch of the layer's input."""

    @abstractmethod
    def beside(self, x: Tensor) -> Tensor | float:
        """What is added to that: a residual connection, or 0."""

    @abstractmethod
    def after(self, y: Tensor) -> Tensor:
        """What the layer gives of the sum."""

    @abstractmethod
    def narrowed(self, channels: int) -> State:
        """State of the same layer with so many of its channels, those that `closing` reads most of (by L1
        norm)."""


class ElasticPrunable(ABC):
    """An elastic block with channels inside that can be cut out of its networks."""

    @property
    @abstractmethod
    def closing(self) -> ElasticConvUnit | None:
        """The 1x1 convolution that reads those channels; None where they are the block's inputs, as with
        expansion 1: other blocks need those."""


class SelfInitialised(ABC):
    """A module with weights of its own that `initialise` does not know."""

    @abstractmethod
    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Random weights."""


class Foldable(ABC):
    """A module with a batch-norm that can become part of what is before it."""

    @abstractmethod
    def fold(self) -> None:
        """Move the running statistics into the weights. Does nothing the second time."""


class Graph(Protocol):
    """An ONNX graph that is being drawn node by node (`supernets.delivery.operator_graphs`)."""

    def add(self, kind: str, inputs: Sequence[str | np.ndarray[Any, Any]], **attributes: Any) -> str:
        """A node; arrays among its inputs become its weights. The name of its output."""

    def module(self, part: nn.Module, x: str) -> str:
        """The nodes of a part: one of torch's own layers, or one that draws itself."""


class Drawn(ABC):
    """A plain layer that can be drawn as `torch.onnx.export` would, byte for byte; others go through the
    exporter."""

    @abstractmethod
    def draw(self, graph: Graph, x: str) -> str:
        """The layer's nodes in the order of its forward pass, batch-norm folded; the name of what they
        give."""


class DrawnOfSeveral(ABC):
    """A plain layer that can be drawn whatever the number of its inputs; not compared with what the exporter
    would make."""

    @abstractmethod
    def draw_from(self, graph: Graph, inputs: Sequence[str]) -> str:
        """The layer's nodes; the name of what they give."""


@dataclass(frozen=True)
class Layer:
    """How an operator family is computed.

    plain: the operator as a module, batch of its input in. elastic: the block that can be each of these
    operators, which differ in what the stage leaves open; None where it has no weights, or where the super
    network is no chain of such blocks. lite: what may be trained beside a frozen block of it
    (`supernets.layers.lite`); None for nothing.
    """

    family: str
    plain: Callable[[Any, LayerSettings], nn.Module]
    elastic: Callable[[Sequence[Any], LayerSettings], ElasticBlock[Any]] | None = None
    lite: Callable[[Any, LayerSettings], nn.Module] | None = None


class SeparatePaths(ElasticBlock[Operator]):
    """A block whose choices have weights of their own (ProxylessNAS): one plain operator each, by
    `Operator.path`."""

    def __init__(self, paths: dict[str, nn.Module]) -> None:
        super().__init__()
        self.paths = nn.ModuleDict(paths)

    def forward(self, x: Tensor, op: Operator) -> Tensor:
        return cast(Tensor, self.paths[op.path](x))

    def state(self, op: Operator) -> State:
        return cast(State, self.paths[op.path].state_dict())


@torch.no_grad()
def initialise(module: nn.Module, generator: torch.Generator | None = None) -> None:
    """He initialisation by the fan-out of each group, so that signals keep their size through depthwise
    layers too."""
    for part in module.modules():
        if isinstance(part, SelfInitialised):
            part.initialise(generator)
            continue
        if isinstance(part, _ConvNd):
            fan_out = math.prod(part.weight.shape[2:]) * part.weight.shape[0] // part.groups
            part.weight.normal_(0, math.sqrt(2 / fan_out), generator=generator)
        elif isinstance(part, nn.Linear):
            bound = 1 / math.sqrt(part.weight.shape[1])
            part.weight.uniform_(-bound, bound, generator=generator)
        else:
            continue
        if part.bias is not None:
            part.bias.zero_()


@torch.no_grad()
def start_as_identity(network: nn.Module) -> None:
    """Zero the last batch-norm scale of every residual branch, so that a block begins as the identity.

    A deep network learns from the first steps instead of staying at chance for hundreds (Goyal et al., 2017,
    section 5.1). Not part of a network's random weights: a branch of zeros would be measured, and compared,
    as nothing.
    """
    for part in network.modules():
        if isinstance(part, StartsAsIdentity):
            part.start_as_identity()
