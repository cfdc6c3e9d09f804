"""Accuracy of many sub-networks of a supernet, each with recalibrated batch-norm.

Networks are walked like a tree of their blocks: two networks that begin with the same blocks share the work up to the
first difference. Calibration and evaluation samples go through each block together: first the calibration batch,
which sets the statistics, then the samples that are counted. The numbers are those of cutting the network out,
`recalibrate` and counting. Nothing is evaluated twice: results are kept by the digest of the architecture.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from latency_tables.dense import Array, Genes
from latency_tables.operators import Operator
from supernets.accuracy import AccuracyPredictor
from supernets.accuracy_choice import score_in_rounds
from supernets.data.splits import Dataset
from supernets.elastic.network import Supernet
from supernets.spaces.architecture import Architecture
from supernets.subnet import PlainNetwork, build_operator
from supernets.training.batchnorm import CALIBRATION_SAMPLES, evenly, recalibrate

Cache = MutableMapping[str, float]  # digest of an architecture -> accuracy in [0, 1]
_Step = tuple[str, Operator]


class Evaluator:
    """Accuracy on one split. Keeps the calibration batch and the samples of every resolution in memory.

    calibration: training samples for the batch-norm statistics. limit: samples of the split, all of them by default.
    cache: results by architecture digest, shared with whoever owns it; it must belong to this supernet and split.
    """

    def __init__(
        self,
        supernet: Supernet,
        dataset: Dataset,
        split: str = "validation",
        *,
        calibration: int = CALIBRATION_SAMPLES,
        limit: int | None = None,
        cache: Cache | None = None,
    ) -> None:
        self.supernet, self.dataset, self.split = supernet, dataset, split
        self.calibration, self.limit = calibration, limit
        self.cache: Cache = {} if cache is None else cache
        self.device = next(supernet.parameters()).device
        self._layers: dict[_Step, nn.Module] = {}
        self._inputs: dict[int, tuple[Tensor, Tensor]] = {}
        self._labels = self._limited(torch.from_numpy(dataset.split(split).labels)).to(self.device)

    def accuracies(self, architectures: Sequence[Architecture], progress: Callable[[int, int], None] | None = None) -> Array:
        """Share of right answers of each network, shape (networks,). progress: called with (done, of)."""
        wanted = {a.digest: a for a in architectures if a.digest not in self.cache}
        ordered = sorted(wanted.values(), key=lambda a: (a.resolution, [str(step) for step in self.supernet.plan(a)]))
        walk = _Walk(self)
        for done, architecture in enumerate(ordered, 1):
            self.cache[architecture.digest] = walk.accuracy(architecture)
            if progress is not None:
                progress(done, len(ordered))
        return np.array([self.cache[a.digest] for a in architectures])

    def inputs(self, resolution: int) -> tuple[Tensor, Tensor]:
        """(calibration batch, samples), both (n, C, resolution, resolution), channels last."""
        if resolution not in self._inputs:
            train, split = (torch.from_numpy(self.dataset.inputs(name, resolution)) for name in ("train", self.split))
            pair = (evenly(train, self.calibration), self._limited(split))
            self._inputs[resolution] = tuple(x.to(self.device, memory_format=torch.channels_last) for x in pair)  # type: ignore[assignment]
        return self._inputs[resolution]

    def _limited(self, rows: Tensor) -> Tensor:
        return rows if self.limit is None else evenly(rows, self.limit)

    def correct(self, logits: Tensor) -> float:
        """Share of right answers."""
        return float((logits.argmax(dim=1) == self._labels).double().mean())

    def layer(self, step: _Step) -> nn.Module:
        """The plain module of a block with the supernet's weights; made once."""
        if step not in self._layers:
            name, operator = step
            module = build_operator(operator, eps=self.supernet.space.batch_norm_eps)
            if name:
                module.load_state_dict(self.supernet.block(name).state(operator))
            for norm in _norms(module):
                norm.momentum = None
            self._layers[step] = module.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        return self._layers[step]


def _norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]


class _Walk:
    """Depth-first walk over networks in sorted order: activations of the path to the current network."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self.resolution = 0
        self.path: list[tuple[_Step, Tensor, Tensor]] = []

    @torch.no_grad()
    def accuracy(self, architecture: Architecture) -> float:
        """Share of right answers of one network."""
        if architecture.resolution != self.resolution:
            self.path, self.resolution = [], architecture.resolution
        plan = self.evaluator.supernet.plan(architecture)
        shared = 0
        while shared < min(len(plan), len(self.path)) and self.path[shared][0] == plan[shared]:
            shared += 1
        del self.path[shared:]
        calibration, samples = self.path[-1][1:] if self.path else self.evaluator.inputs(architecture.resolution)
        for step in plan[shared:]:
            calibration, samples = _through(self.evaluator.layer(step), calibration, samples)
            self.path.append((step, calibration, samples))
        return self.evaluator.correct(samples)


def _through(layer: nn.Module, calibration: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
    """Both batches through one block; its batch-norms take their statistics from the calibration batch alone."""
    norms = _norms(layer)
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    after = layer(calibration)
    for norm in norms:
        norm.eval()
    return after, layer(samples)


def evaluate(
    supernet: Supernet,
    architectures: Sequence[Architecture],
    dataset: Dataset,
    split: str = "validation",
    *,
    cache: Cache | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Array:
    """Accuracy in [0, 1] of each sub-network on a split, batch-norm recalibrated; shape (networks,)."""
    return Evaluator(supernet, dataset, split, cache=cache).accuracies(architectures, progress)


@torch.no_grad()
def plain_accuracy(network: PlainNetwork, dataset: Dataset, split: str, *, calibration: int = CALIBRATION_SAMPLES) -> float:
    """Accuracy of a plain network; its batch-norm is recalibrated first (and stays so) unless it is folded."""
    resolution = network.input_shape[1]
    device = next(network.parameters()).device
    if _norms(network):
        recalibrate(network, evenly(torch.from_numpy(dataset.inputs("train", resolution)), calibration).to(device))
    logits = network.eval()(torch.from_numpy(dataset.inputs(split, resolution)).to(device))
    return float((logits.argmax(dim=1).cpu() == torch.from_numpy(dataset.split(split).labels)).double().mean())


def score(
    evaluator: Evaluator,
    networks: int,
    generator: np.random.Generator,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> AccuracyPredictor:
    """An accuracy predictor from about that many scored sub-networks: see `score_in_rounds`."""
    space, done = evaluator.supernet.space, 0

    def values(genes: Genes) -> Array:
        nonlocal done
        before, total = done, max(networks, done + len(genes))
        done += len(genes)
        said = None if progress is None else lambda ready, of: progress(before + ready, total)
        return evaluator.accuracies([space.architecture(row) for row in genes], said)

    return score_in_rounds(space, networks, generator, values)
