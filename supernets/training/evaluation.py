"""Accuracy of many sub-networks of a supernet, each with recalibrated batch-norm.

Networks are walked like a tree of their blocks: two networks that begin with the same blocks share the work
up to the first difference. Calibration and evaluation samples go through each block together: first the
calibration batch, which sets the statistics, then the samples that are counted. The numbers are those of
cutting the network out, `recalibrate` and counting. Nothing is evaluated twice: results are kept by the
digest of the architecture.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from latency_tables.dense import Array, Genes
from latency_tables.operators import Operator
from supernets.accuracy.choice import score_in_rounds
from supernets.accuracy.predictor import AccuracyPredictor
from supernets.cut_out import PlainNetwork, build_operator
from supernets.data.splits import Dataset, evenly_spread
from supernets.network import Supernet
from supernets.spaces.architecture import Architecture
from supernets.training.batchnorm import CALIBRATION_SAMPLES, calibration_inputs, recalibrate

Cache = MutableMapping[str, float]  # digest of an architecture -> accuracy in [0, 1]
_Step = tuple[str, Operator]
Statistics = dict[
    tuple[int | _Step, ...], list[tuple[Tensor, Tensor]]
]  # resolution and steps -> (mean, variance) of the last
PART_BYTES = 256 * 2**20  # of inputs that go through the networks together


class Evaluator:
    """Accuracy on one split. Keeps the calibration batch of every resolution in memory; samples go through in
    parts.

    calibration: training samples for the batch-norm statistics. limit: samples of the split, all of them by
    default.
    cache: results by architecture digest, shared with whoever owns it; it must belong to this supernet and
    split.
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
        self._calibrations: dict[int, Tensor] = {}
        size = len(dataset.split(split))
        self.rows = evenly_spread(size, size if limit is None else limit)
        self._labels = torch.from_numpy(dataset.split(split).labels).to(self.device)

    def accuracies(
        self, architectures: Sequence[Architecture], progress: Callable[[int, int], None] | None = None
    ) -> Array:
        """Share of right answers of each network, shape (networks,). progress: called with (done, of)."""
        wanted = {a.digest: a for a in architectures if a.digest not in self.cache}
        ordered = sorted(
            wanted.values(), key=lambda a: (a.resolution, [str(step) for step in self.supernet.plan(a)])
        )
        done = 0
        for resolution, group in groupby(ordered, key=lambda a: a.resolution):
            networks = list(group)
            for architecture, share in zip(
                networks, self._shares(networks, resolution, done, len(ordered), progress), strict=True
            ):
                self.cache[architecture.digest] = share
            done += len(networks)
        return np.array([self.cache[a.digest] for a in architectures])

    def _shares(
        self,
        networks: Sequence[Architecture],
        resolution: int,
        done: int,
        of: int,
        progress: Callable[[int, int], None] | None,
    ) -> list[float]:
        """Share of right answers of each network, over the samples part by part: all of them may not fit into
        memory."""
        parts, right = self._parts(resolution), [0] * len(networks)
        statistics: Statistics | None = {} if len(parts) > 1 else None
        for number, rows in enumerate(parts):
            walk = _Walk(self, rows, statistics)
            for index, architecture in enumerate(networks):
                right[index] += walk.right(architecture)
                if progress is not None and number == len(parts) - 1:
                    progress(done + index + 1, of)
        return [count / len(self.rows) for count in right]

    def _parts(self, resolution: int) -> list[npt.NDArray[np.int64]]:
        size = max(1, PART_BYTES // (4 * self.dataset.channels * resolution**2))
        return [self.rows[start : start + size] for start in range(0, len(self.rows), size)]

    def calibration_batch(self, resolution: int) -> Tensor:
        """Training samples for the batch-norm statistics, (n, C, resolution, resolution), channels last."""
        if resolution not in self._calibrations:
            self._calibrations[resolution] = self._placed(
                calibration_inputs(self.dataset, resolution, self.calibration)
            )
        return self._calibrations[resolution]

    def samples(self, resolution: int, rows: npt.NDArray[np.int64]) -> Tensor:
        """Samples of the split that are counted, (n, C, resolution, resolution), channels last."""
        return self._placed(torch.from_numpy(self.dataset.inputs(self.split, resolution, rows)))

    def _placed(self, inputs: Tensor) -> Tensor:
        return inputs.to(self.device, memory_format=torch.channels_last)

    def correct(self, logits: Tensor, rows: npt.NDArray[np.int64]) -> int:
        """Right answers among those samples."""
        return int((logits.argmax(dim=1) == self._labels[torch.from_numpy(rows).to(self.device)]).sum())

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

    def __init__(
        self, evaluator: Evaluator, rows: npt.NDArray[np.int64], statistics: Statistics | None = None
    ) -> None:
        self.evaluator, self.rows, self.statistics = evaluator, rows, statistics
        self.resolution = 0
        self.path: list[tuple[_Step, Tensor, Tensor]] = []

    @torch.no_grad()
    def right(self, architecture: Architecture) -> int:
        """Right answers of one network among the rows of this walk."""
        if architecture.resolution != self.resolution:
            self.path, self.resolution = [], architecture.resolution
        plan = self.evaluator.supernet.plan(architecture)
        shared = 0
        while shared < min(len(plan), len(self.path)) and self.path[shared][0] == plan[shared]:
            shared += 1
        del self.path[shared:]
        if self.path:
            calibration, samples = self.path[-1][1:]
        else:
            calibration = self.evaluator.calibration_batch(architecture.resolution)
            samples = self.evaluator.samples(architecture.resolution, self.rows)
        for step in plan[shared:]:
            calibration, samples = self._through(step, calibration, samples)
            self.path.append((step, calibration, samples))
        return self.evaluator.correct(samples, self.rows)

    def _through(self, step: _Step, calibration: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Both batches through one block; only the samples where an earlier walk has left the statistics of
        this path."""
        layer = self.evaluator.layer(step)
        path: tuple[int | _Step, ...] = (self.resolution, *(one[0] for one in self.path), step)
        if self.statistics is not None and path in self.statistics:
            for norm, (mean, variance) in zip(_norms(layer), self.statistics[path], strict=True):
                norm.running_mean, norm.running_var = mean, variance
            return calibration, layer(samples)
        found = _through(layer, calibration, samples)
        if self.statistics is not None:
            self.statistics[path] = [
                (_copy(norm.running_mean), _copy(norm.running_var)) for norm in _norms(layer)
            ]
        return found


def _copy(values: Tensor | None) -> Tensor:
    assert values is not None  # noqa: S101 - only norms that track their statistics are built here
    return values.clone()


def _through(layer: nn.Module, calibration: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
    """Both batches through one block; its batch-norms take their statistics from the calibration batch
    alone."""
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
def plain_accuracy(
    network: PlainNetwork, dataset: Dataset, split: str, *, calibration: int = CALIBRATION_SAMPLES
) -> float:
    """Accuracy of a plain network; its batch-norm is recalibrated first (and stays so) unless it is
    folded."""
    resolution = network.input_shape[1]
    device = next(network.parameters()).device
    if _norms(network):
        recalibrate(network, calibration_inputs(dataset, resolution, calibration).to(device))
    network.eval()
    right = 0
    for inputs, labels in dataset.batches(split, resolution):
        answers = network(torch.from_numpy(inputs).to(device)).argmax(dim=1).cpu()
        right += int((answers == torch.from_numpy(labels)).sum())
    return right / len(dataset.split(split))


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
