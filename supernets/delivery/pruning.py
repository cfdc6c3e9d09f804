"""Channels cut out of a network, and what reads the rest refitted.

AMC (He et al., ECCV 2018) cuts out the input channels of least L1 norm and refits the layer that reads the
others by least squares ("Channel pruning for accelerating very deep neural networks", He et al., ICCV 2017,
equations 4 and 5: inputs of the pruned network, outputs of the original one, shortcuts included). So here,
block by block from the first to the last; batch-norms inside a block are recalibrated before what closes it
is fitted. AMC gathers the products of a layer's inputs once and takes the rows and columns of what stays;
here what stays is computed anew for every width, because squeeze-excite makes other values of it. AMC's
agent chooses how many channels stay: here the exact search does.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from latency_tables.operators import Operator
from supernets.accuracy.pruning import REFIT_SAMPLES
from supernets.cut_out import PlainNetwork
from supernets.data.splits import evenly_spread
from supernets.errors import InvalidPruning
from supernets.layers.block import Prunable
from supernets.layers.catalog import build_operator
from supernets.layers.units import ConvUnit
from supernets.tasks.catalog import task_of
from supernets.tasks.data import Data
from supernets.training.batchnorm import recalibrate

FEWEST_SAMPLES: Final = 32
_KEPT_BYTES: Final = 128 * 2**20
"""Of what blocks are given, for all samples: two networks go side by side."""
_AT_A_TIME: Final = 250
RIDGE: Final = 1e-3
"""Of the mean variance of a channel: what holds the refitted weights near those they were."""


@dataclass(frozen=True)
class RefitBlock:
    """One block. channels: that stay, of: so many. error: mean square of what its output is off that of the
    block before pruning, as a share of that output's variance; unfitted: the same with the weights it had."""

    channels: int
    of: int
    error: float
    unfitted: float


class Moments:
    """Sums over samples of what a linear layer reads and should give, for a least-squares fit.

    Inputs (n, channels), targets (n, outputs); sums are in double precision.
    """

    def __init__(self, channels: int, outputs: int) -> None:
        self.count = 0
        self.inputs, self.targets = _zeros(channels), _zeros(outputs)
        self.gram, self.cross = _zeros(channels, channels), _zeros(channels, outputs)
        self.squares = _zeros(outputs)

    def add(self, inputs: Tensor, targets: Tensor) -> None:
        """More samples."""
        x, y = inputs.double(), targets.double()
        self.count += len(x)
        self.inputs += x.sum(0)
        self.targets += y.sum(0)
        self.gram += x.T @ x
        self.cross += x.T @ y
        self.squares += y.square().sum(0)

    @property
    def mean(self) -> Tensor:
        """Of the inputs, shape (channels,)."""
        return self.inputs / self.count

    @property
    def covariance(self) -> Tensor:
        """Of the inputs, shape (channels, channels)."""
        return self.gram / self.count - torch.outer(self.mean, self.mean)

    def solve(self, start: Tensor, ridge: float = RIDGE) -> tuple[Tensor, Tensor]:
        """(weights (outputs, channels), biases (outputs,)) of the least squared error.

        start: weights to stay near where the inputs do not tell. ridge: how near, as a share of the inputs'
        mean variance; 0: not at all. Raises InvalidPruning where nothing finite comes out.
        """
        target, covariance = self.targets / self.count, self.covariance
        cross = self.cross / self.count - torch.outer(self.mean, target)
        held = ridge * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=torch.float64)
        first = start.double().T
        try:
            weights = first + torch.linalg.solve(covariance + held, cross - covariance @ first)
        except RuntimeError as error:
            raise InvalidPruning("a block cannot be refitted: its channels are constant") from error
        if not bool(torch.isfinite(weights).all()):
            raise InvalidPruning("a block cannot be refitted: it computes values that are not finite")
        return weights.T, target - self.mean @ weights

    def error(self, weights: Tensor, biases: Tensor) -> float:
        """Mean squared error of such a layer, as a share of the targets' variance."""
        target = self.targets / self.count
        variance = self.squares / self.count - target.square()
        cross = self.cross / self.count - torch.outer(self.mean, target)
        w = weights.double()
        off = w @ self.mean + biases.double() - target
        squares = variance - 2 * (w.T * cross).sum(0) + (w @ self.covariance * w).sum(1) + off.square()
        return float(squares.sum() / variance.sum().clamp_min(1e-12))


def _zeros(*sizes: int) -> Tensor:
    return torch.zeros(sizes, dtype=torch.float64)


@dataclass(frozen=True)
class Samples:
    """What networks are refitted with: batches of training samples as they take them."""

    batches: tuple[Tensor, ...]

    @classmethod
    def of(cls, data: Data, condition: int, operators: Sequence[Operator]) -> Samples:
        """Fewer than REFIT_SAMPLES where what blocks are given would take too much memory. Raises
        InvalidPruning."""
        largest = 4 * max(math.prod(op.inputs[0].shape) for op in operators)
        most = min(REFIT_SAMPLES, len(data.split("train")), max(FEWEST_SAMPLES, _KEPT_BYTES // largest))
        if most < FEWEST_SAMPLES:
            raise InvalidPruning(
                f"{data.name} has {most} training samples: a pruned network is refitted with "
                f"{FEWEST_SAMPLES} or more"
            )
        rows = evenly_spread(len(data.split("train")), most)
        parts = math.ceil(most / _AT_A_TIME)
        task = task_of(data)
        return cls(tuple(task.examples(data, "train", condition, rows[i::parts])[0] for i in range(parts)))

    def __len__(self) -> int:
        return sum(len(batch) for batch in self.batches)


@torch.no_grad()
def pruned(
    whole: PlainNetwork, operators: Sequence[Operator], samples: Samples, *, refit: bool = True, eps: float
) -> PlainNetwork:
    """The network with fewer channels inside its blocks, in evaluation mode, batch-norms recalibrated.

    whole: recalibrated, not folded. operators: that the pruned one shall have, in the order of its own.
    refit: by least squares, else with the weights it has. Raises InvalidPruning for a block that cannot be
    narrowed so.
    """
    made = PlainNetwork((), eps=eps)
    layers, blocks = list[nn.Module](), dict[int, RefitBlock]()
    theirs = ours = list(samples.batches)
    for number, (layer, old, new) in enumerate(zip(whole.layers, whole.operators, operators, strict=True)):
        if old != new:
            found = narrowed(layer, old, new, theirs, ours, refit=refit, eps=eps)
            layers.append(found.layer)
            theirs, ours, blocks[number] = found.theirs, found.ours, found.told
            continue
        layers.append(copy.deepcopy(layer))
        if not blocks:  # up to here both networks are one
            theirs = ours = [layer(x) for x in theirs]
            continue
        recalibrate(layers[-1], ours)
        theirs, ours = [layer(x) for x in theirs], [layers[-1](x) for x in ours]
    made.operators, made.layers = tuple(operators), nn.Sequential(*layers)
    made.refit = {
        "method": "least squares" if refit else "none",
        "samples": len(samples),
        "blocks": {number: asdict(block) for number, block in blocks.items()},
    }
    return made.eval()


@dataclass(frozen=True)
class Narrowed:
    """A layer with fewer channels inside. theirs, ours: batches of what the whole layer and this one give."""

    layer: Prunable
    told: RefitBlock
    theirs: list[Tensor]
    ours: list[Tensor]


@torch.no_grad()
def narrowed(
    layer: nn.Module,
    old: Operator,
    new: Operator,
    theirs: Sequence[Tensor],
    ours: Sequence[Tensor],
    *,
    refit: bool = True,
    eps: float,
) -> Narrowed:
    """A layer with fewer channels inside.

    theirs, ours: batches of what the whole layer and the narrow one are given. Raises InvalidPruning.
    """
    if not isinstance(layer, Prunable) or not 0 < new.prunable_channels < old.prunable_channels:
        raise InvalidPruning(f"channels cannot be cut out of {old.text} to make {new.text}")
    own = cast(Prunable, build_operator(new, eps=eps)).eval()
    own.load_state_dict(layer.narrowed(new.prunable_channels))
    recalibrate(own, ours)
    unit = own.closing
    moments = Moments(new.prunable_channels, len(unit.conv.weight))
    sums, read = list[Tensor](), list[Tensor]()
    for x, y in zip(theirs, ours, strict=True):
        sums.append(layer.closing(layer.inside(x)) + layer.beside(x))
        read.append(own.inside(y))
        moments.add(_rows(read[-1]), _rows(sums[-1] - own.beside(y)))
    start, biases = _linear(unit)
    unfitted = error = moments.error(start, biases)
    if refit:
        weights, biases = moments.solve(start)
        error = moments.error(weights, biases)
        _set(unit, weights, biases, moments)
    return Narrowed(
        own,
        RefitBlock(new.prunable_channels, old.prunable_channels, error, unfitted),
        [layer.after(y) for y in sums],
        [own.after(unit(z) + own.beside(y)) for z, y in zip(read, ours, strict=True)],
    )


def _rows(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B x H x W, C)."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _linear(unit: ConvUnit) -> tuple[Tensor, Tensor]:
    """(weights (out, in), biases (out,)) of a 1x1 convolution with its batch-norm."""
    folded = copy.deepcopy(unit)
    folded.fold()
    return folded.conv.weight[:, :, 0, 0], cast(Tensor, folded.conv.bias)


def _set(unit: ConvUnit, weights: Tensor, biases: Tensor, moments: Moments) -> None:
    """Make a unit compute weights @ x + biases, with a batch-norm whose statistics are those of its inputs:
    so it can be trained on."""
    norm = cast(nn.BatchNorm2d, unit.norm)
    running_mean, running_var = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    mean = weights @ moments.mean
    variance = ((weights @ moments.covariance) * weights).sum(1).clamp_min(0.0)
    unit.conv.weight.copy_(weights[:, :, None, None])
    running_mean.copy_(mean)
    running_var.copy_(variance)
    norm.weight.copy_(torch.sqrt(variance + norm.eps))
    norm.bias.copy_(biases + mean)


def report_of(network: nn.Module, names: Callable[[], Sequence[str]]) -> dict[str, Any] | None:
    """What the card says of a pruned network: how it was refitted, its pruned blocks by name. None for one
    that nothing was cut out of. names: of its operators' blocks, in order."""
    plain = getattr(network, "plain", network)
    told = getattr(plain, "refit", None)
    if told is None:
        return None
    known = names()
    return {**told, "blocks": {known[number]: block for number, block in told["blocks"].items()}}
