"""Weights to begin a training with: those of another supernet of the same space, whatever classes it told
apart.

Where the outputs are others, or others under the same number, the last linear layer is new: ridge
regression of the targets on the features of the largest network, everything else frozen (Kornblith et al.,
"Do better ImageNet models transfer better?", 2019, for how far frozen features reach). That takes a second or
two and starts far above chance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from latency_tables.dense import Array
from supernets.cut_out import cut_out
from supernets.data.splits import evenly_spread
from supernets.errors import InvalidCheckpoint
from supernets.network import Supernet
from supernets.tasks.catalog import task_named, task_of
from supernets.tasks.data import Data
from supernets.tasks.task import Task
from supernets.training.batchnorm import calibration_batches, recalibrate
from supernets.training.memory import samples_of_space

FEATURES_OF: Final = 4096  # training samples, evenly spread
_AT_A_TIME: Final = 128  # at most
_PENALTIES: Final = np.geomspace(1e-5, 10, 13)  # in units of the features' mean squared singular value
_SCALES: Final = np.geomspace(1, 64, 25)
_CLEARLY: Final = 2.0  # standard errors


def begin_with(
    supernet: Supernet,
    weights: Mapping[str, Tensor],
    data: Data | None,
    *,
    class_weights: Tensor | None = None,
) -> bool:
    """Give a supernet weights of another one of its space; whether its last layer is new.

    It is where there are more or fewer outputs, and where the given one is clearly worse than one fitted to
    these data: ten letters are no ten digits. data None: the weights were trained on the data set that
    follows, and are taken as they are. class_weights: (classes,), by which a new last layer is fitted.

    Raises InvalidCheckpoint for weights of another space.
    """
    own = supernet.state_dict()
    weights = {name: _channels_of(value, own.get(name)) for name, value in weights.items()}
    linear = [name for name, part in supernet.named_modules() if isinstance(part, nn.Linear)]
    last = linear[-1] if linear else None  # a transformer's words are no layer to be fitted anew
    if set(own) != set(weights):
        raise InvalidCheckpoint(f"the initial weights are not those of space {supernet.space.name!r}")
    others = [name for name, value in own.items() if value.shape != weights[name].shape]
    if any(data is None or last is None or not name.startswith(f"{last}.") for name in others):
        raise InvalidCheckpoint(
            f"the initial weights are not those of space {supernet.space.name!r}: {others[0]} has shape "
            f"{tuple(weights[others[0]].shape)} instead of {tuple(own[others[0]].shape)}"
        )
    supernet.load_state_dict({**weights, **{name: own[name] for name in own if name in others}})
    if data is None or last is None:
        return False
    return fit_last_layer(supernet, data, given=not others, class_weights=class_weights)


def _channels_of(value: Tensor, wanted: Tensor | None) -> Tensor:
    """Weights of the first convolution for pictures of other colours: those of red, green and blue summed for
    grey, those of grey shared out among three. Either way a grey picture gives what it gave before."""
    if wanted is None or value.ndim != 4 or value.shape[::2] != wanted.shape[::2]:
        return value
    if (value.shape[1], wanted.shape[1]) == (3, 1):
        return value.sum(dim=1, keepdim=True)
    if (value.shape[1], wanted.shape[1]) == (1, 3):
        return value.repeat(1, 3, 1, 1) / 3
    return value


@torch.no_grad()
def fit_last_layer(
    supernet: Supernet, data: Data, *, given: bool, class_weights: Tensor | None = None
) -> bool:
    """Set the last linear layer by ridge regression; whether that was done.

    Left as it is where the task has nothing to regress on. given: it was trained for as many
    outputs, and stays if they may be the same. class_weights: samples count by that of their class.

    The penalty is the one with the least error left out, in closed form; the outputs are then scaled to
    make the task's loss least on samples left out, for a regression on zeros and ones knows nothing of
    logits.
    """
    task, largest = task_of(data), supernet.space.largest()
    network = cut_out(supernet, largest)
    at_once = samples_of_space(supernet.space, largest.resolution)
    batches = calibration_batches(data, largest.resolution, at_once=at_once)
    recalibrate(network, (inputs.to(_device(network)) for inputs in batches))
    features, outputs, targets = _features(network, task, data, largest.resolution, min(at_once, _AT_A_TIME))
    wanted = task.regressed(targets, supernet.space.classes)
    if wanted is None:
        return not given
    own = None if class_weights is None else class_weights.cpu()[targets].numpy().astype(np.float64)
    weights, bias, left_out = ridge(
        features.numpy().astype(np.float64), wanted.numpy().astype(np.float64), own
    )
    predicted = torch.from_numpy(left_out).float()
    if given and not _clearly_better(task, data, predicted, outputs, targets):
        return False
    scale = _best_scale(task, predicted, targets, class_weights)
    linear = _last_linear(supernet.block(list(supernet.blocks)[-1]))
    linear.weight.copy_(torch.from_numpy(scale * weights.T))
    if linear.bias is not None:
        linear.bias.copy_(torch.from_numpy(scale * bias))
    return True


def ridge(features: Array, wanted: Array, sample_weights: Array | None = None) -> tuple[Array, Array, Array]:
    """(weights (features, outputs), bias (outputs,), predictions of each row by a fit without it (rows,
    outputs)).

    The penalty of `_PENALTIES` with the least squared error left out. sample_weights: (rows,), how much the
    error of each row counts, alike where None.
    """
    counts = np.ones(len(features)) if sample_weights is None else sample_weights
    share, root = counts / counts.sum(), np.sqrt(counts / counts.mean())[:, None]
    centre, mean = share @ features, share @ wanted
    left, sizes, right = np.linalg.svd(root * (features - centre), full_matrices=False)
    rotated = left.T @ (root * (wanted - mean))
    best: tuple[float, float, Array] | None = None
    for penalty in _PENALTIES * max(float(np.mean(sizes**2)), 1e-12):
        shrunk = sizes**2 / (sizes**2 + penalty)
        # What each row was left out by, without a fit for each: residual / (1 - leverage).
        leverage = (left**2) @ shrunk + share
        fitted = left @ (shrunk[:, None] * rotated) / root
        residual = (wanted - mean - fitted) / (1 - leverage)[:, None]
        error = float(((root * residual) ** 2).sum())
        if best is None or error < best[0]:
            best = (error, penalty, wanted - residual)
    assert best is not None  # noqa: S101 - there are penalties
    weights = right.T @ ((sizes / (sizes**2 + best[1]))[:, None] * rotated)
    return weights, mean - centre @ weights, best[2]


def _clearly_better(task: Task[Any], data: Data, fitted: Tensor, given: Tensor, targets: Tensor) -> bool:
    """Whether the fitted outputs have a quality above that of the given ones, beyond chance."""
    metric = task_named(data.task).metric
    new, old = (task.quality(task.tally(outputs, targets)) for outputs in (fitted, given))
    variances = [metric.variance(quality, len(targets)) or 0.0 for quality in (new, old)]
    return new - old > _CLEARLY * math.sqrt(sum(variances))


def _best_scale(
    task: Task[Any], left_out: Tensor, targets: Tensor, class_weights: Tensor | None = None
) -> float:
    def loss(outputs: Tensor) -> Tensor:
        if class_weights is None:
            return task.loss(outputs, targets)
        return task.weighted_loss(outputs, targets, class_weights.cpu())

    losses = [float(loss(float(scale) * left_out)) for scale in _SCALES]
    return float(_SCALES[int(np.argmin(losses))])


def _features(
    network: nn.Module, task: Task[Any], data: Data, condition: int, at_once: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(inputs of the last linear layer, outputs of the network, targets) of training samples, on the CPU."""
    rows = evenly_spread(len(data.split("train")), FEATURES_OF)
    kept: list[Tensor] = []
    # A hook, so that one pass gives the features and the outputs of whatever family the head is.
    hook = _last_linear(network).register_forward_pre_hook(lambda _, given: kept.append(given[0].cpu()))
    targets, outputs = [], []
    for start in range(0, len(rows), at_once):
        inputs, wanted = task.examples(data, "train", condition, rows[start : start + at_once])
        outputs.append(network(inputs.to(_device(network))).cpu())
        targets.append(wanted)
    hook.remove()
    return torch.cat(kept), torch.cat(outputs), torch.cat(targets)


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def _last_linear(network: nn.Module) -> nn.Linear:
    found = [part for part in network.modules() if isinstance(part, nn.Linear)]
    return found[-1]
