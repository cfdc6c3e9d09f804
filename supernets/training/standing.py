"""Batch-norm statistics that stand while a network is trained, and a network that keeps its function when
they are taken again.

What is delivered is recalibrated, as any sub-network is. A network that was trained with standing statistics
would compute something else then; so its scales and shifts are set such that it computes the same with
statistics that are taken from its final weights.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from supernets.cut_out import PlainNetwork, cut_out
from supernets.layers.norm import ElasticBatchNorm
from supernets.network import Supernet
from supernets.tasks.data import Data
from supernets.training.batchnorm import calibration_batches, norms_of, recalibrate
from supernets.training.memory import samples_of_space


def with_statistics(own: Supernet, data: Data) -> None:
    """Give the supernet of one network the statistics of its weights on training data; nothing where it has
    no batch-norm."""
    if not _has_statistics(own):
        return
    network = _network(own)
    recalibrate(network, _batches(own, data))
    _put_back(own, network)


def settle(own: Supernet, data: Data) -> None:
    """Let the supernet of one network compute with recalibrated statistics what it computes with those it
    has."""
    if not _has_statistics(own):
        return
    network = _network(own)
    settle_network(network, _batches(own, data))
    _put_back(own, network)


@torch.no_grad()
def settle_network(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """The same for a plain network: new statistics, with scales and shifts that make up for them."""
    norms = norms_of(network)
    network.eval()
    sums: dict[_BatchNorm, list[Tensor]] = {}
    counted = 0

    def look(norm: nn.Module, given: tuple[Tensor, ...], _: Tensor) -> Tensor:
        """Note the statistics of a batch, and hand on what a recalibration will see of it."""
        assert isinstance(norm, _BatchNorm)  # noqa: S101 - hooked below
        x = given[0]
        axes = [axis for axis in range(x.ndim) if axis != 1]
        # As a recalibration has it: the mean over batches of each one's mean and unbiased variance.
        found = [x.mean(axes), x.var(axes, unbiased=True)]
        kept = sums.setdefault(norm, [value.clone() for value in found])
        for value, mean in zip(found, kept, strict=True):
            mean.add_((value - mean) / (counted + 1))
        return _as_recalibrated(norm, x, *found)

    hooks = [norm.register_forward_hook(look) for norm in norms]
    for inputs in batches:
        network(inputs.to(next(network.parameters()).device))
        counted += 1
    for hook in hooks:
        hook.remove()
    for norm, (mean, variance) in sums.items():
        _make_up(norm, mean, variance)


def _as_recalibrated(norm: _BatchNorm, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """What the norm makes of this batch while it is recalibrated with the scales and shifts of `_make_up`.

    A norm in training divides by the biased variance and remembers the unbiased one. On a few small pictures
    the two differ by a percent, which every later norm would find again in its own statistics.
    """
    shape = [1, -1] + [1] * (x.ndim - 2)
    before_mean, before_variance = norm.running_mean, norm.running_var
    assert before_mean is not None and before_variance is not None  # noqa: S101 - `_has_statistics`
    values = x.numel() // x.shape[1]
    biased = variance * (values - 1) / values
    old = norm.weight / torch.sqrt(before_variance + norm.eps)
    scale = old * torch.sqrt((variance + norm.eps) / (biased + norm.eps))
    shift = norm.bias + old * (mean - before_mean)
    return (x - mean.view(shape)) * scale.view(shape) + shift.view(shape)


def _make_up(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    before_mean, before_variance = norm.running_mean, norm.running_var
    if before_mean is None or before_variance is None:
        return
    old = norm.weight / torch.sqrt(before_variance + norm.eps)  # what the input is multiplied by
    norm.bias.add_(old * (mean - before_mean))
    norm.weight.copy_(old * torch.sqrt(variance + norm.eps))
    before_mean.copy_(mean)
    before_variance.copy_(variance)


def _has_statistics(own: Supernet) -> bool:
    return any(isinstance(part, ElasticBatchNorm | _BatchNorm) for part in own.modules())


def _network(own: Supernet) -> PlainNetwork:
    return cut_out(own, own.space.largest()).eval()


def _batches(own: Supernet, data: Data) -> Iterable[Tensor]:
    condition = own.space.largest().resolution
    device = next(own.parameters()).device
    found = calibration_batches(data, condition, at_once=samples_of_space(own.space, condition))
    return (inputs.to(device) for inputs in found)


@torch.no_grad()
def _put_back(own: Supernet, network: PlainNetwork) -> None:
    for layer, (name, operator) in zip(network.layers, own.plan(own.space.largest()), strict=True):
        if name:
            own.take(name, operator, layer)
