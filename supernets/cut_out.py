"""Plain networks: operators as ordinary torch modules, cut out of a supernet or built with random weights.

Every operator of a latency table is one module here, and a network is the sequence of its operators, so what
is timed block by block, trained, exported and delivered is one definition. Shapes follow Once-for-All (Cai et
al., ICLR 2020), ProxylessNAS (ICLR 2019) and ResNet50-D; the feature layer of the head is a linear layer
after the pooling instead of their 1x1 convolution (same numbers, cheaper).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latency_tables.operators import Operator, squeeze_excite_channels
from supernets.spaces.architecture import Architecture

if TYPE_CHECKING:
    from supernets.network import Supernet

Network = TypeVar("Network", bound=nn.Module)

ACTIVATION_LAYERS: Final[dict[str, type[nn.Module]]] = {
    "none": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hswish": nn.Hardswish,
}


class ConvUnit(nn.Module):
    """Convolution, batch-norm (until it is folded), activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: str = "none",
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.norm: nn.Module = nn.BatchNorm2d(out_channels, eps=eps)
        self.activation = ACTIVATION_LAYERS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.activation(self.norm(self.conv(x))))

    def fold(self) -> None:
        """Move the running statistics into weight and bias of the convolution. Does nothing the second
        time."""
        norm = self.norm
        if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
            return
        scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        bias = norm.bias.double() - norm.running_mean.double() * scale
        weight = self.conv.weight
        self.conv.bias = nn.Parameter(bias.to(weight.dtype))
        weight.data = (weight.double() * scale[:, None, None, None]).to(weight.dtype)
        self.norm = nn.Identity()


class SqueezeExcite(nn.Module):
    """Channel gate from globally pooled features, hard sigmoid (MobileNetV3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = squeeze_excite_channels(channels)
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = F.relu(self.reduce(x.mean((2, 3), keepdim=True)))
        return x * F.hardsigmoid(self.expand(gate))


class ResidualConv(nn.Module):
    """`conv` that adds its input after the activation (the middle of ResNet-D's stem)."""

    def __init__(self, op: Operator, eps: float) -> None:
        super().__init__()
        self.unit = _conv_unit(op, eps)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.unit(x)) + x


class MBConv(nn.Module):
    """Inverted bottleneck: 1x1 expansion (absent where mid equals in), depthwise kxk, squeeze-excite, 1x1
    projection."""

    def __init__(self, op: Operator, eps: float) -> None:
        super().__init__()
        mid, act = op.mid_channels, op.activation
        self.residual = op.residual
        self.expand = (
            ConvUnit(op.in_channels, mid, activation=act, eps=eps) if mid != op.in_channels else nn.Identity()
        )
        self.depthwise = ConvUnit(mid, mid, op.kernel, stride=op.stride, groups=mid, activation=act, eps=eps)
        self.squeeze_excite = SqueezeExcite(mid) if op.squeeze_excite else nn.Identity()
        self.project = ConvUnit(mid, op.out_channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.squeeze_excite(self.depthwise(self.expand(x))))
        return x + y if self.residual else y


class Bottleneck(nn.Module):
    """ResNet-D bottleneck: 1x1, kxk with the stride, 1x1; average-pooled 1x1 shortcut where the shape
    changes."""

    def __init__(self, op: Operator, eps: float) -> None:
        super().__init__()
        mid, act = op.mid_channels, op.activation
        self.reduce = ConvUnit(op.in_channels, mid, activation=act, eps=eps)
        self.spatial = ConvUnit(
            mid, mid, op.kernel, stride=op.stride, groups=op.groups, activation=act, eps=eps
        )
        self.project = ConvUnit(mid, op.out_channels, eps=eps)
        # Said of padding that is not there: some versions of ONNX Runtime (1.20, say) divide by cells beyond
        # the edge.
        pool = {"ceil_mode": True, "count_include_pad": False}
        self.pool = nn.AvgPool2d(op.stride, op.stride, **pool) if op.stride > 1 else nn.Identity()
        same = op.stride == 1 and op.in_channels == op.out_channels
        self.shortcut = nn.Identity() if same else ConvUnit(op.in_channels, op.out_channels, eps=eps)
        self.residual = op.residual
        self.activation = ACTIVATION_LAYERS[act]()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.spatial(self.reduce(x)))
        return cast(Tensor, self.activation(y + self.shortcut(self.pool(x)) if self.residual else y))


class Head(nn.Module):
    """Global average pool, feature layer with activation (where mid is not 0), dropout, linear layer."""

    def __init__(self, op: Operator, dropout: float) -> None:
        super().__init__()
        mid = op.mid_channels
        self.feature = nn.Linear(op.in_channels, mid, bias=False) if mid else nn.Identity()
        self.activation = ACTIVATION_LAYERS[op.activation if mid else "none"]()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(mid or op.in_channels, op.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.linear(self.dropout(self.activation(self.feature(x.mean((2, 3)))))))


def _conv_unit(op: Operator, eps: float) -> ConvUnit:
    return ConvUnit(
        op.in_channels,
        op.out_channels,
        op.kernel,
        stride=op.stride,
        groups=op.groups,
        activation=op.activation,
        eps=eps,
    )


def build_operator(
    op: Operator, *, eps: float = 1e-5, dropout: float = 0.0, generator: torch.Generator | None = None
) -> nn.Module:
    """The operator as a module, (B, C, H, W) in, random weights.

    eps: of its batch-norms. dropout: of a head. generator: of the random weights; torch's global one without
    it.
    """
    module: nn.Module
    if op.family == "conv":
        module = ResidualConv(op, eps) if op.residual else _conv_unit(op, eps)
    elif op.family == "mbconv":
        module = MBConv(op, eps)
    elif op.family == "bottleneck":
        module = Bottleneck(op, eps)
    elif op.family == "maxpool":
        module = nn.MaxPool2d(op.kernel, op.stride, op.kernel // 2)
    else:
        module = Head(op, dropout)
    initialise(module, generator)
    return module


@torch.no_grad()
def initialise(module: nn.Module, generator: torch.Generator | None = None) -> None:
    """He initialisation by the fan-out of each group, so that signals keep their size through depthwise
    layers too."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            fan_out = part.kernel_size[0] * part.kernel_size[1] * part.out_channels // part.groups
            part.weight.normal_(0, math.sqrt(2 / fan_out), generator=generator)
        elif isinstance(part, nn.Linear):
            bound = 1 / math.sqrt(part.in_features)
            part.weight.uniform_(-bound, bound, generator=generator)
        else:
            continue
        if part.bias is not None:
            part.bias.zero_()


class PlainNetwork(nn.Module):
    """A network as the sequence of its operators: nothing elastic, ordinary BatchNorm2d modules until they
    are folded.

    `operators[i]` describes `layers[i]`. Recalibrate batch-norm on it as on any torch network, then
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
        self.layers = nn.Sequential(
            *(build_operator(op, eps=eps, dropout=dropout, generator=generator) for op in self.operators)
        )

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.layers(x))

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one sample."""
        first = self.operators[0]
        return first.in_channels, first.in_height, first.in_width

    def parameter_count(self) -> int:
        """Weights, biases and batch-norm vectors, as the published counts have it; running statistics are not
        parameters."""
        return sum(p.numel() for p in self.parameters())


def fold_batch_norm(network: Network) -> Network:
    """A copy in evaluation mode whose batch-norms are part of its convolutions."""
    folded = copy.deepcopy(network).eval()
    for part in folded.modules():
        if isinstance(part, ConvUnit):
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
    for layer, (name, op) in zip(network.layers, plan, strict=True):
        if name:
            layer.load_state_dict(supernet.block(name).state(op))
    return network.to(next(supernet.parameters()).device).train(supernet.training)
